"""The vectors of Binance's documentation, and our own for what it leaves out."""

import hmac
import json
from collections.abc import Callable
from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from engine.venues.binance.sign import encoded, frame, signed_params, signed_query
from engine.venues.keys import Credentials, Secret

KEY = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A"
SPOT = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j"
USDM = "2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9"
ED25519 = """-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f
-----END PRIVATE KEY-----"""


def sign_with(secret: str) -> Callable[[bytes], str]:
    return Credentials(Secret("k"), Secret(secret)).sign


LIMIT = {"symbol": "LTCBTC", "side": "BUY", "type": "LIMIT", "timeInForce": "GTC"}
REST = [
    (
        SPOT,
        {**LIMIT, "quantity": "1", "price": "0.1", "recvWindow": 5000, "timestamp": 1499827319559},
        "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71",
    ),
    (
        SPOT,
        {
            **LIMIT,
            "symbol": "\uff11\uff12\uff13\uff14\uff15\uff16",
            "quantity": "1",
            "price": "0.1",
            "recvWindow": 5000,
            "timestamp": 1499827319559,
        },
        "e1353ec6b14d888f1164ae9af8228a3dbd508bc82eb867db8ab6046442f33ef3",
    ),
    (
        SPOT,
        {"symbol": "BTCUSDT", "origClientOrderId": "tb-000001", "recvWindow": 5000, "timestamp": 1700000000000},
        "7dd5b74480861ac18da5b34884b187cd17a3aea01a70e25c78e333fa8f3d18ce",
    ),
    (
        USDM,
        {
            "symbol": "BTCUSDT",
            "side": "BUY",
            "type": "LIMIT",
            "quantity": "1",
            "price": "9000",
            "timeInForce": "GTC",
            "recvWindow": 5000,
            "timestamp": 1591702613943,
        },
        "3c661234138461fcc7a7d8746c6558c9842d4e10870d2ecbedf7777cad694af9",
    ),
    (
        USDM,
        {
            "batchOrders": '[{"symbol":"BTCUSDT","side":"BUY","type":"LIMIT","timeInForce":"GTC","quantity":"0.001",'
            '"price":"30000","newClientOrderId":"b-1"}]',
            "recvWindow": 5000,
            "timestamp": 1591702613943,
        },
        "57a755e1b82c83b8eb6e4b31666137c943529ce90a024da7713c600c3eaeca2f",
    ),
    (
        USDM,
        {"symbol": "BTCUSDT", "origClientOrderId": "a/b:c.d_e-1", "recvWindow": 5000, "timestamp": 1591702613943},
        "40109aa6e6bc10a5cefbdb352ab98564520762b5935abbf71392078710a68740",
    ),
]


@pytest.mark.parametrize(("secret", "params", "digest"), REST)
def test_a_rest_request_is_encoded_and_then_signed(secret: str, params: dict[str, str | int], digest: str) -> None:
    text = signed_query(params, sign_with(secret))
    assert text == f"{encoded(params)}&signature={digest}"


def test_reserved_characters_and_utf_8_are_percent_encoded() -> None:
    assert encoded({"a": "x/y:z+=&", "b": "\uff11", "c": "A-z_0.9~"}) == "a=x%2Fy%3Az%2B%3D%26&b=%EF%BC%91&c=A-z_0.9~"


@pytest.mark.parametrize(
    ("secret", "text", "digest"),
    [
        (
            SPOT,
            "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC"
            "quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559",
            "0fd168b8ddb4876a0358a8d14d0c9f3da0e9b20c5d52b2a00fcf7d1c602f9a77",
        ),
        (
            USDM,
            "symbol=BTCUSDT&side=BUY&type=LIMIT&timeInForce=GTC"
            "quantity=1&price=9000&recvWindow=5000&timestamp=1591702613943",
            "30baaf0fab549bbeda7f5ef201898b34122da25fd23c646cac2c529aebe670a4",
        ),
    ],
)
def test_query_and_body_are_signed_without_anything_between_them(secret: str, text: str, digest: str) -> None:
    assert sign_with(secret)(text.encode()) == digest


WEBSOCKET = [
    (
        {
            "symbol": "BTCUSDT",
            "side": "SELL",
            "type": "LIMIT",
            "timeInForce": "GTC",
            "quantity": "0.01000000",
            "price": "52000.00",
            "recvWindow": 100,
            "timestamp": 1645423376532,
        },
        "aa1b5712c094bc4e57c05a1a5c1fd8d88dcd628338ea863fec7b88e59fe2db24",
    ),
    (
        {
            "symbol": "\uff11\uff12\uff13\uff14\uff15\uff16",
            "side": "BUY",
            "type": "LIMIT",
            "timeInForce": "GTC",
            "quantity": "1.00000000",
            "price": "0.10000000",
            "recvWindow": 5000,
            "timestamp": 1645423376532,
        },
        "b33892ae8e687c939f4468c6268ddd4c40ac1af18ad19a064864c47bae0752cd",
    ),
    ({"timestamp": 1747385641636}, "681110a6057ad58657af22f5640fab9dd17418834cdfccdc81be8b0f7b2cde3e"),
    (
        {"timestamp": 1747385641636, "recvWindow": 5000},
        "49601ffc5b0122c3c7ee3ea85ef7d6cd76256f5191a57c976418faa32e917653",
    ),
]


@pytest.mark.parametrize(("params", "digest"), WEBSOCKET)
def test_a_websocket_request_is_sorted_and_signed_raw(params: dict[str, str | int], digest: str) -> None:
    signed = signed_params({**params, "apiKey": KEY}, sign_with(SPOT))
    assert signed == {**params, "apiKey": KEY, "signature": digest}


def test_an_ed25519_signature_is_base64_and_encoded_in_a_url() -> None:
    params = {
        "symbol": "BTCUSDT",
        "side": "SELL",
        "type": "LIMIT",
        "timeInForce": "GTC",
        "quantity": "1",
        "price": "0.2",
        "timestamp": 1668481559918,
        "recvWindow": 5000,
    }
    expected = "m5loLRxgkb9HyW0wkZ4KNrpck881bx5D0OrKNnPklvk4tlGjEJkhiP9DoyC0sc1lXA/TWugjVPrMb/bfNdmdBw=="
    sign = sign_with(ED25519)
    assert sign(encoded(params).encode()) == expected
    assert signed_query(params, sign).endswith("lXA%2FTWugjVPrMb%2FbfNdmdBw%3D%3D")


def test_a_session_logon_is_signed_with_ed25519() -> None:
    key = "TESTKEYTESTKEYTESTKEYTESTKEYTESTKEYTESTKEYTESTKEYTESTKEYTESTKEY1"
    signed = signed_params({"apiKey": key, "timestamp": 1649729878532}, sign_with(ED25519))
    assert signed["signature"] == (
        "ntbBkYw8scYb9ociZ6c/QNTESEY05uOtMiLp24hrzzv30xHa2V8qJX72nGpqJTQUxvYTNTUwbAxVzvmH0g5iBw=="
    )


def test_the_public_half_of_the_vectors_key_agrees() -> None:
    public = load_pem_private_key(ED25519.encode(), None).public_key()  # type: ignore[attr-defined]
    assert public.public_bytes_raw().hex().startswith("03a107bff3ce10be1d70dd18e74bc099")


def test_a_frame_says_numbers_as_numbers_and_money_as_text() -> None:
    said = frame("r1", "order.place", {"symbol": "\uff11", "quantity": "0.00100", "timestamp": 1700000000000})
    assert json.loads(said) == {
        "id": "r1",
        "method": "order.place",
        "params": {"symbol": "\uff11", "quantity": "0.00100", "timestamp": 1700000000000},
    }
    assert "\uff11".encode() in said, "signed raw, so it must be sent raw"


def test_hmac_is_what_the_standard_library_says() -> None:
    assert sign_with(SPOT)(b"x") == hmac.new(SPOT.encode(), b"x", sha256).hexdigest()
