"""Bybit's signatures against known vectors (made-up credentials; also produced by other clients)."""

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from engine.core.messages import InstrumentKind, Leg, Order, OrderType, Side, TimeInForce
from engine.core.money import Decimal
from engine.venues.bybit import orders, sign
from engine.venues.keys import Credentials, Secret

KEY, SECRET = "TESTKEY0123456789A", "TESTSECRETabcdefghijklmnopqrstuvwxyz0"
CREDENTIALS = Credentials(Secret(KEY), Secret(SECRET))
LINE_B = (
    '{"category":"linear","symbol":"BTCUSDT","side":"Sell","orderType":"Limit","qty":"0.015","price":"43210.5",'
    '"timeInForce":"PostOnly","positionIdx":0,"reduceOnly":false,"orderLinkId":"loan-hedge-000001"}'
)


def signature(request) -> str:
    return dict(request.headers)["X-BAPI-SIGN"]


@pytest.mark.parametrize(
    ("at_ms", "window", "params", "digest"),
    [
        (
            1700000000000,
            5000,
            {"category": "linear", "symbol": "BTCUSDT", "orderLinkId": "loan-hedge-000001"},
            "79b12e7a23cae2bcde343b912f0953780e833c5868b90facc43494a25e9b2899",
        ),
        (
            1700000000456,
            10000,
            {"category": "linear", "limit": 50, "cursor": "132766%3A2%2C132766%3A2"},
            "545ef1e3de01c85dc06776f24a57dc88fe2fcea5f289749d1c7981c337db3728",
        ),
        (
            1700000000456,
            10000,
            {"category": "linear", "limit": 50, "cursor": "132766%253A2%252C132766%253A2"},
            "fb7148451a7c6fbaec24b5e5c5a1807385bf29c13ee08e3833c365b647d8f728",
        ),
        (1700000000789, 5000, {}, "df5dedde1206b0a28abc734dd14b6188c303a1d5b84e1dd88f9aea3bea915213"),
        (1700000000789, 5000, {"symbol": None}, "df5dedde1206b0a28abc734dd14b6188c303a1d5b84e1dd88f9aea3bea915213"),
    ],
)
def test_a_get_is_signed_over_its_query_as_it_is(at_ms, window, params, digest):
    assert signature(sign.get("/v5/x", params, CREDENTIALS, at_ms, window)) == digest


def test_a_cursor_goes_out_as_it_came():
    request = sign.get("/v5/x", {"cursor": "132766%3A2%2C132766%3A2"}, CREDENTIALS, 1, 5000)
    assert request.target == "/v5/x?cursor=132766%3A2%2C132766%3A2"


def test_an_order_is_signed_over_its_body_byte_for_byte():
    order = Order(
        "loan-hedge-000001",
        "main",
        "BTCUSDT",
        "s",
        Leg.ENTRY,
        0,
        Side.SELL,
        OrderType.LIMIT,
        Decimal("0.0150"),
        TimeInForce.POST_ONLY,
        Decimal("43210.50"),
    )
    body = orders.create(order, InstrumentKind.LINEAR)
    request = sign.post("/v5/order/create", body, CREDENTIALS, 1700000000123, 5000)
    assert request.body == LINE_B.encode()
    assert signature(request) == "447c30df5bdc2cf718a82646618f92125f6359fd09457557497f71872945f3d2"


def test_other_spacing_of_the_same_object_is_another_signature():
    import json

    text = json.dumps(json.loads(LINE_B))
    payload = f"1700000000123{KEY}5000{text}".encode()
    assert CREDENTIALS.sign(payload) == "188e55989fcdfc1bf935995f2fa9baac7730cf0b2599d0ebc20d074209c8d1bf"


def test_an_empty_body_is_signed_as_two_bytes():
    request = sign.post("/v5/x", {}, CREDENTIALS, 1700000000789, 5000)
    assert (request.body, signature(request)) == (
        b"{}",
        "6b4f0ccd38e9834f0611b496ae1f232f7d3e432dd7df9d60b154136e7012ed5b",
    )


def test_the_login_of_a_socket():
    frame = orjson.loads(sign.login(CREDENTIALS, 1700000010000, "a1"))
    digest = "9df7a1dd96a4c7e76d698b5f5d7e03c816a59ea0d17de78f3f16d9615f5e9330"
    assert frame == {"req_id": "a1", "op": "auth", "args": [KEY, 1700000010000, digest]}


def test_an_rsa_key_signs_requests_in_base64():
    pem = generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    request = sign.get("/v5/x", {}, Credentials(Secret(KEY), Secret(pem)), 1, 5000)
    assert len(signature(request)) == 344 and signature(request).endswith("==")


def test_booleans_and_numbers_are_text_in_a_query():
    assert sign.query({"a": True, "b": False, "c": 0, "d": None, "e": "x,y"}) == "a=true&b=false&c=0&e=x,y"
