"""Binance's habits on Spot and USD-M, one by one, as the sheet has them."""

import json
from decimal import Decimal
from typing import Any

import pytest

from engine.core.times import SECOND
from engine.exchange.binance.codes import Refused
from engine.exchange.binance.gate import Gate
from engine.exchange.binance.spot_routes import LIMITS
from engine.exchange.http import Request
from engine.exchange.terms import ExchangeTerms, KeyTerms
from tests.exchange.world import ED_PUBLIC, World, ed25519

SPOT_DOCS = KeyTerms(
    key="vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A",
    secret="NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j",
)
FUTURES_DOCS = KeyTerms(
    key="dbefbc809e3e83c283a984c3a1459732ea7db1360ca80c5c2c8867408d28cc83",
    secret="2b5eb11e18796d12d88f13dc27dbbd02c2cc51ff7059765ed9821957d82bb4d9",
)
ED_DOCS = KeyTerms(key="TESTKEY" * 9 + "1", public_key=ED_PUBLIC)
FULL_WIDTH = "%EF%BC%91%EF%BC%92%EF%BC%93%EF%BC%94%EF%BC%95%EF%BC%96"

BTC = {"symbol": "BTCUSDT"}


# ---------------------------------------------------------------------------------------------------------- the gate


@pytest.mark.parametrize(
    ("key", "query", "body", "at_ms", "signature"),
    [
        (
            SPOT_DOCS,
            "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559",
            "",
            1499827319559,
            "c8db56825ae71d6d79447849e617115f4a920fa2acdcab2b053c4b2838bd6b71",
        ),
        (
            SPOT_DOCS,
            f"symbol={FULL_WIDTH}&side=BUY&type=LIMIT&timeInForce=GTC&quantity=1&price=0.1&recvWindow=5000"
            "&timestamp=1499827319559",
            "",
            1499827319559,
            "e1353ec6b14d888f1164ae9af8228a3dbd508bc82eb867db8ab6046442f33ef3",
        ),
        (
            SPOT_DOCS,
            "symbol=LTCBTC&side=BUY&type=LIMIT&timeInForce=GTC",
            "quantity=1&price=0.1&recvWindow=5000&timestamp=1499827319559",
            1499827319559,
            "0fd168b8ddb4876a0358a8d14d0c9f3da0e9b20c5d52b2a00fcf7d1c602f9a77",
        ),
        (
            FUTURES_DOCS,
            "",
            "symbol=BTCUSDT&side=BUY&type=LIMIT&quantity=1&price=9000&timeInForce=GTC&recvWindow=5000"
            "&timestamp=1591702613943",
            1591702613943,
            "3c661234138461fcc7a7d8746c6558c9842d4e10870d2ecbedf7777cad694af9",
        ),
        (
            ED_DOCS,
            "symbol=BTCUSDT&side=SELL&type=LIMIT&timeInForce=GTC&quantity=1&price=0.2&timestamp=1668481559918"
            "&recvWindow=5000",
            "",
            1668481559918,
            "m5loLRxgkb9HyW0wkZ4KNrpck881bx5D0OrKNnPklvk4tlGjEJkhiP9DoyC0sc1lXA%2FTWugjVPrMb%2FbfNdmdBw%3D%3D",
        ),
    ],
)
def test_the_docs_requests_are_let_in_and_a_changed_one_is_not(
    key: KeyTerms, query: str, body: str, at_ms: int, signature: str
) -> None:
    gate = Gate(ExchangeTerms(keys=(key,)), LIMITS)

    def ask(sent_query: str) -> KeyTerms | None:
        signed = sent_query if body else f"{sent_query}&signature={signature}"
        sent_body = f"{body}&signature={signature}" if body else ""
        request = Request("POST", "/api/v3/order", signed, {"x-mbx-apikey": key.key}, sent_body.encode())
        return gate.rest_key(request, "signed", at_ms * 1_000_000)

    assert ask(query) is key
    with pytest.raises(Refused) as refused:
        ask(query + "&x=1")
    assert refused.value.code == -1022


@pytest.mark.parametrize(
    ("params", "signature"),
    [
        (
            {
                **{
                    "price": "52000.00",
                    "quantity": "0.01000000",
                    "recvWindow": 100,
                    "side": "SELL",
                    "symbol": "BTCUSDT",
                },
                **{"timeInForce": "GTC", "timestamp": 1645423376532, "type": "LIMIT"},
            },
            "aa1b5712c094bc4e57c05a1a5c1fd8d88dcd628338ea863fec7b88e59fe2db24",
        ),
        (
            {
                **{"price": "0.10000000", "quantity": "1.00000000", "recvWindow": 5000, "side": "BUY"},
                **{"symbol": "\uff11\uff12\uff13\uff14\uff15\uff16", "timeInForce": "GTC"},
                **{"timestamp": 1645423376532, "type": "LIMIT"},
            },
            "b33892ae8e687c939f4468c6268ddd4c40ac1af18ad19a064864c47bae0752cd",
        ),
        ({"timestamp": 1747385641636}, "681110a6057ad58657af22f5640fab9dd17418834cdfccdc81be8b0f7b2cde3e"),
        (
            {"recvWindow": 5000, "timestamp": 1747385641636},
            "49601ffc5b0122c3c7ee3ea85ef7d6cd76256f5191a57c976418faa32e917653",
        ),
    ],
)
def test_the_docs_messages_are_let_in(params: dict[str, Any], signature: str) -> None:
    gate = Gate(ExchangeTerms(keys=(SPOT_DOCS,)), LIMITS)
    asked = {"apiKey": SPOT_DOCS.key, "signature": signature, **params}
    assert gate.message_key(asked, "signed", None, params["timestamp"] * 1_000_000) is SPOT_DOCS


@pytest.mark.parametrize(("ahead_ms", "code"), [(999, 0), (1000, -1021), (-5000, 0), (-5001, -1021)])
@pytest.mark.parametrize("face", ["spot", "usdm"])
def test_the_window_is_open_behind_and_a_second_ahead(face: str, ahead_ms: int, code: int) -> None:
    world = World()
    status, body = world.binance(face, "GET", "openOrders", timestamp=world.now_ns // 1_000_000 + ahead_ms)
    assert (status, body if not code else body["code"]) == ((200, []) if not code else (400, code))


def test_spot_takes_microseconds_and_no_window_over_a_minute() -> None:
    world = World()
    assert world.binance("spot", "GET", "openOrders", timestamp=world.now_ns // 1000)[0] == 200
    assert world.binance("spot", "GET", "openOrders", recvWindow=60001)[1]["code"] == -1131


def test_keys_are_known_and_may_do_what_they_may() -> None:
    world = World()
    assert world.binance("usdm", "GET", "openOrders", key="nobody")[1]["code"] == -2015
    assert json.loads(world.request("binance-usdm", "GET", "/fapi/v1/openOrders").body)["code"] == -2014
    assert world.binance("usdm", "POST", "order", key="reader", **BTC)[1]["code"] == -2015
    assert world.binance("spot", "GET", "account", key="reader")[1]["canTrade"] is False
    assert world.binance("spot", "GET", "account", key="edward", sign=ed25519)[0] == 200


def test_removed_and_unknown_paths_answer_in_html() -> None:
    world = World()
    gone = world.request("binance-spot", "POST", "/api/v3/userDataStream")
    assert (gone.status, gone.content_type) == (410, "text/html")
    assert world.request("binance-spot", "GET", "/api/v3/nonsense").status == 404


def test_weight_is_told_then_refused_then_punished() -> None:
    world = World(rate_limits="real")
    info = world.request("binance-spot", "GET", "/api/v3/exchangeInfo")
    assert dict(info.headers)["X-MBX-USED-WEIGHT-1M"] == "20"
    for _ in range(299):
        world.request("binance-spot", "GET", "/api/v3/exchangeInfo")
    too_much = world.request("binance-spot", "GET", "/api/v3/exchangeInfo")
    assert (too_much.status, json.loads(too_much.body)["code"]) == (429, -1003)
    assert int(dict(too_much.headers)["Retry-After"]) == 60 - world.now_ns // SECOND % 60
    for _ in range(25):
        banned = world.request("binance-spot", "GET", "/api/v3/ping")
    assert banned.status == 418 and "IP banned until" in json.loads(banned.body)["msg"]
    assert world.request("binance-usdm", "GET", "/fapi/v1/ping").status == 200
    world.pass_(121)
    assert world.request("binance-spot", "GET", "/api/v3/ping").status == 200


def test_orders_are_counted_by_account() -> None:
    world = World(rate_limits="real")
    world.now_ns -= world.now_ns % (60 * SECOND)
    answer = world.binance_response("usdm", "POST", "order", side="BUY", type="MARKET", quantity="0.001", **BTC)
    headers = dict(answer.headers)
    assert (headers["X-MBX-ORDER-COUNT-10S"], headers["X-MBX-ORDER-COUNT-1M"]) == ("1", "1")
    statuses = [world.usdm_order(quantity="0.001")[0] for _ in range(300)]
    assert statuses == [200] * 299 + [429]
    assert world.usdm_order()[1]["code"] == -1015
    assert world.usdm_order(key="other")[0] == 200
    world.pass_(10)
    assert world.usdm_order()[0] == 200


# -------------------------------------------------------------------------------------------------------------- spot


def test_a_spot_order_answers_with_its_fills_and_pays_in_what_it_receives() -> None:
    world = World()
    status, order = world.spot_order(newClientOrderId="m")
    assert (status, order["status"], order["executedQty"]) == (200, "FILLED", "0.01000000")
    assert order["fills"][0]["commissionAsset"] == "BTC"
    assert order["cummulativeQuoteQty"] == "600.00100000"
    acknowledged = world.spot_order(newOrderRespType="ACK")[1]
    assert set(acknowledged) == {"symbol", "orderId", "orderListId", "clientOrderId", "transactTime"}


@pytest.mark.parametrize("face", ["spot", "usdm"])
def test_an_id_is_unique_among_open_orders_only(face: str) -> None:
    """The trap: the same id again after a fill buys again."""
    world = World()
    order = world.spot_order if face == "spot" else world.usdm_order
    limit = {"type": "LIMIT", "timeInForce": "GTC", "price": "50000", "newClientOrderId": "again"}
    assert order(**limit)[0] == 200
    assert order(**limit)[1]["code"] == (-2010 if face == "spot" else -4116)
    assert world.binance(face, "DELETE", "order", origClientOrderId="again", **BTC)[0] == 200
    assert order(newClientOrderId="again")[0] == 200
    assert order(newClientOrderId="again")[0] == 200
    found = world.binance(face, "GET", "order", origClientOrderId="again", **BTC)[1]
    assert (found["orderId"], found["status"]) == (3, "FILLED")


def test_a_cancel_on_spot_puts_its_own_id_in_the_orders_place() -> None:
    world = World()
    user = world.connect("binance-spot", "/ws-api/v3")
    assert user.ask("userDataStream.subscribe.signature")["result"] == {"subscriptionId": 0}
    assert user.ask("userDataStream.subscribe.signature")["error"]["code"] == -2035
    world.spot_order(type="LIMIT", timeInForce="GTC", price="50000", newClientOrderId="mine")
    canceled = world.binance("spot", "DELETE", "order", origClientOrderId="mine", newClientOrderId="the-cancel", **BTC)[
        1
    ]
    assert (canceled["origClientOrderId"], canceled["clientOrderId"]) == ("mine", "the-cancel")
    event = next(m["event"] for m in user.told if m["event"].get("X") == "CANCELED")
    assert (event["c"], event["C"]) == ("the-cancel", "mine")
    assert world.binance("spot", "GET", "order", orderId=1, **BTC)[1]["clientOrderId"] == "the-cancel"


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"quantity": "0.000001"}, -1013),
        ({"type": "LIMIT", "timeInForce": "GTC", "price": "50000.001"}, -1013),
        ({"type": "LIMIT", "price": "50000"}, -1102),
        ({"price": "50000"}, -1106),
        ({"symbol": "NOSUCH"}, -1121),
        ({"side": "LONG"}, -1117),
        ({"type": "STOP"}, -1116),
        ({"quantity": "0.00001"}, -1013),
        ({"quantity": "100"}, -2010),
        ({"quantity": "1e"}, -1102),
        ({"newClientOrderId": "a.b"}, -1100),
        ({"type": "LIMIT_MAKER", "price": "60001"}, -2010),
        ({"type": "STOP_LOSS", "stopPrice": "59000"}, -2010),
        ({"icebergQty": "0.001"}, -1106),
        ({"colour": "green"}, -1104),
    ],
)
def test_a_bad_spot_order_is_refused_with_its_code(more: dict[str, Any], code: int) -> None:
    status, body = World().spot_order(**more)
    assert (status, body["code"]) == (400, code)


def test_cancel_replace_says_what_was_done_when_only_half_of_it_was() -> None:
    world = World()
    world.spot_order(type="LIMIT", timeInForce="GTC", price="50000", newClientOrderId="old")
    asked = {
        **BTC,
        "side": "BUY",
        "type": "LIMIT",
        "timeInForce": "GTC",
        "price": "50000",
        "cancelOrigClientOrderId": "old",
    }
    too_large = {**asked, "quantity": "900", "cancelReplaceMode": "STOP_ON_FAILURE"}
    status, body = world.binance("spot", "POST", "order/cancelReplace", **too_large)
    assert (status, body["code"], body["data"]["cancelResult"]) == (409, -2021, "SUCCESS")
    assert body["data"]["newOrderResult"] == "FAILURE"
    gone = {**asked, "quantity": "0.01", "cancelReplaceMode": "STOP_ON_FAILURE"}
    status, body = world.binance("spot", "POST", "order/cancelReplace", **gone)
    assert (status, body["code"], body["data"]["newOrderResult"]) == (400, -2022, "NOT_ATTEMPTED")


def test_a_spot_stop_limit_is_new_again_when_it_comes_to_work() -> None:
    world = World()
    user = world.connect("binance-spot", "/ws-api/v3")
    user.ask("userDataStream.subscribe.signature")
    stop = {"side": "SELL", "type": "STOP_LOSS_LIMIT", "timeInForce": "GTC", "price": "59500", "stopPrice": "59000"}
    world.spot_order(**stop, newClientOrderId="stop")
    world.book("58990", "58990.1")
    reports = [m["event"] for m in user.told if m["event"]["e"] == "executionReport"]
    assert [(r["x"], r["X"]) for r in reports] == [("NEW", "NEW"), ("NEW", "NEW")]
    world.book("59600", "59600.1")
    assert user.told[-2]["event"]["X"] == "FILLED" and user.told[-2]["event"]["m"] is True
    balances = {b["a"]: (b["f"], b["l"]) for b in user.told[-1]["event"]["B"]}
    assert balances["BTC"] == ("1.99000000", "0.00000000")


def test_a_session_needs_an_ed25519_key_and_then_no_signature() -> None:
    world = World()
    api = world.connect("binance-spot", "/ws-api/v3")
    assert api.ask("session.logon")["error"]["code"] == -4056
    on = api.ask("session.logon", sign=ed25519, apiKey="edward")
    assert on["result"]["apiKey"] == "edward"
    params = {**BTC, "side": "BUY", "type": "MARKET", "quantity": "0.01", "timestamp": world.now_ns // 1_000_000}
    placed = api.say({"id": 1, "method": "order.place", "params": params})
    assert (placed["status"], placed["result"]["status"]) == (200, "FILLED")
    assert {row["rateLimitType"] for row in placed["rateLimits"]} == {"REQUEST_WEIGHT", "ORDERS"}
    assert api.say({"id": 2, "method": "userDataStream.subscribe"})["result"] == {"subscriptionId": 0}
    stale = api.say({"id": 3, "method": "order.place", "params": {**params, "timestamp": 1}})
    assert (stale["status"], stale["error"]["code"]) == (400, -1021)


# --------------------------------------------------------------------------------------------------------------- usdm


def test_an_acknowledged_market_order_shows_no_fill_and_no_answer_has_an_average() -> None:
    world = World()
    acknowledged = world.usdm_order(newClientOrderId="a")[1]
    assert (acknowledged["status"], acknowledged["executedQty"]) == ("NEW", "0")
    result = world.usdm_order(newOrderRespType="RESULT")[1]
    assert (result["status"], result["executedQty"]) == ("FILLED", "0.01")
    assert "avgPrice" not in result
    assert world.binance("usdm", "GET", "order", origClientOrderId="a", **BTC)[1]["avgPrice"] == "60000.1"
    assert world.usdm_order(newOrderRespType="FULL")[1]["code"] == -1136


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"type": "STOP_MARKET", "stopPrice": "59000"}, -4120),
        ({"type": "TRAILING_STOP_MARKET"}, -4120),
        ({"positionSide": "LONG"}, -4061),
        ({"quantity": "0.0005"}, -4004),
        ({"quantity": "0.0015"}, -1111),
        ({"quantity": "9999"}, -4005),
        ({"quantity": "900"}, -2019),
        ({"side": "SELL", "reduceOnly": "true"}, -2022),
        ({"type": "LIMIT", "timeInForce": "GTC", "price": "50000.05"}, -4014),
        ({"type": "LIMIT", "timeInForce": "GTC", "price": "1000", "quantity": "0.001"}, -4164),
        ({"type": "LIMIT", "timeInForce": "GTX", "price": "60001"}, -5022),
        ({"type": "LIMIT", "timeInForce": "FOK", "price": "60000.1", "quantity": "51"}, -5021),
        ({"newClientOrderId": "x" * 37}, -4015),
        ({"type": "LIMIT", "timeInForce": "GTC", "price": "70000"}, -4016),
        ({"type": "LIMIT", "timeInForce": "GTC", "price": "50000", "side": "SELL"}, -4024),
        ({"colour": "green"}, -1104),
    ],
)
def test_a_bad_futures_order_is_refused_with_its_code_and_leaves_nothing(more: dict[str, Any], code: int) -> None:
    world = World()
    status, body = world.usdm_order(**more)
    assert (status, body["code"]) == (400, code)
    assert world.binance("usdm", "GET", "allOrders", **BTC)[1] == []


def test_an_algo_order_is_no_order_until_it_is_triggered_and_then_has_its_id() -> None:
    world = World()
    world.usdm_order(quantity="0.02")
    user = listening(world)
    algo = {"algoType": "CONDITIONAL", "side": "SELL", "type": "STOP_MARKET", "triggerPrice": "59000", **BTC}
    placed = world.binance("usdm", "POST", "algoOrder", closePosition="true", clientAlgoId="sl", **algo)[1]
    assert (placed["algoStatus"], placed["quantity"]) == ("NEW", "0")
    assert world.binance("usdm", "GET", "openOrders", **BTC)[1] == []
    assert world.binance("usdm", "GET", "order", origClientOrderId="sl", **BTC)[1]["code"] == -2013
    assert [a["clientAlgoId"] for a in world.binance("usdm", "GET", "openAlgoOrders")[1]] == ["sl"]
    assert world.binance("usdm", "DELETE", "allOpenOrders", **BTC)[0] == 200
    world.book("58990", "58990.1")
    found = world.binance("usdm", "GET", "algoOrder", clientAlgoId="sl")[1]
    child = world.binance("usdm", "GET", "order", origClientOrderId="sl", **BTC)[1]
    assert found["algoStatus"] == "FINISHED" and found["actualOrderId"] == str(child["orderId"])
    assert (child["type"], child["origType"], child["executedQty"]) == ("MARKET", "STOP_MARKET", "0.02")
    assert [m["o"]["X"] for m in user.of(e="ALGO_UPDATE")] == ["NEW", "TRIGGERED", "FINISHED"]
    assert user.of(e="ACCOUNT_UPDATE")[-1]["a"]["P"][0]["pa"] == "0"
    filled = user.of(e="ORDER_TRADE_UPDATE")[-2]["o"]
    assert (filled["c"], filled["x"], filled["rp"]) == (
        "sl",
        "TRADE",
        str(Decimal("0.02") * Decimal("-1010.1")).rstrip("0"),
    )


def test_an_algo_order_is_cancelled_by_its_own_endpoint_with_a_code_in_text() -> None:
    world = World()
    algo = {"algoType": "CONDITIONAL", "side": "SELL", "type": "TAKE_PROFIT", "triggerPrice": "70000", **BTC}
    placed = world.binance("usdm", "POST", "algoOrder", price="69990", quantity="0.01", **algo)[1]
    assert world.binance("usdm", "DELETE", "order", orderId=1, **BTC)[1]["code"] == -2011
    canceled = world.binance("usdm", "DELETE", "algoOrder", algoId=placed["algoId"])[1]
    assert canceled["code"] == "200"
    assert world.binance("usdm", "GET", "algoOrder", algoId=placed["algoId"])[1]["algoStatus"] == "CANCELED"
    passed = world.binance(
        "usdm", "POST", "algoOrder", price="69990", quantity="0.01", **(algo | {"triggerPrice": "50000"})
    )
    assert passed[1]["code"] == -2021


def test_modify_takes_price_and_quantity_and_refuses_no_change() -> None:
    world = World()
    world.usdm_order(type="LIMIT", timeInForce="GTC", price="50000", newClientOrderId="l")
    asked = {**BTC, "side": "BUY", "origClientOrderId": "l"}
    assert world.binance("usdm", "PUT", "order", quantity="0.01", **asked)[1]["code"] == -1102
    assert world.binance("usdm", "PUT", "order", quantity="0.01", price="50000", **asked)[1]["code"] == -5027
    changed = world.binance("usdm", "PUT", "order", quantity="0.02", price="51000", **asked)[1]
    assert (changed["origQty"], changed["price"], changed["status"]) == ("0.02", "51000", "NEW")


def test_a_batch_has_an_answer_for_each_and_at_most_five() -> None:
    world = World()
    good = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}
    rows = world.binance("usdm", "POST", "batchOrders", batchOrders=json.dumps([good, {**good, "quantity": "0"}]))[1]
    assert "orderId" in rows[0] and rows[1]["code"] == -4003
    assert world.binance("usdm", "POST", "batchOrders", batchOrders=json.dumps([good] * 6))[1]["code"] == -4082


def listening(world: World, path: str = "/private/ws", key: str = "") -> Any:
    key = (
        key
        or json.loads(
            world.request("binance-usdm", "POST", "/fapi/v1/listenKey", headers={"x-mbx-apikey": "local-key"}).body
        )["listenKey"]
    )
    return world.connect("binance-usdm", path, f"listenKey={key}")


def test_a_listen_key_lives_an_hour_and_its_end_is_told() -> None:
    world = World()
    user = listening(world)
    world.usdm_order()
    assert [m["e"] for m in user.told] == [
        "ORDER_TRADE_UPDATE",
        "TRADE_LITE",
        "ORDER_TRADE_UPDATE",
        "ACCOUNT_UPDATE",
    ]
    world.pass_(3599)
    headers = {"x-mbx-apikey": "local-key"}
    assert world.request("binance-usdm", "PUT", "/fapi/v1/listenKey", headers=headers).status == 200
    world.pass_(3600)
    user.beat()
    assert user.told[-1]["e"] == "listenKeyExpired"
    world.usdm_order()
    assert user.told[-1]["e"] == "listenKeyExpired"  # open, and silent
    assert json.loads(world.request("binance-usdm", "PUT", "/fapi/v1/listenKey", headers=headers).body)["code"] == -1125


def test_the_old_address_of_the_private_stream_connects_and_stays_silent() -> None:
    world = World()
    private = listening(world)
    key = next(iter(world.exchange.faces["binance-usdm"].listen))  # type: ignore[attr-defined]
    old = world.connect("binance-usdm", f"/ws/{key}")
    filtered = world.connect("binance-usdm", "/private/ws", f"listenKey={key}&events=ACCOUNT_UPDATE")
    by_path = world.connect("binance-usdm", f"/private/ws/{key}")
    world.usdm_order()
    assert old.told == [] and len(private.told) == len(by_path.told) == 4
    assert [m["e"] for m in filtered.told] == ["ACCOUNT_UPDATE"]


def test_funding_moves_the_balance_and_is_income() -> None:
    world = World()
    world.usdm_order(quantity="1")
    user = listening(world)
    world.fund("0.0001")
    update = user.of(e="ACCOUNT_UPDATE")[0]["a"]
    assert (update["m"], update["P"]) == ("FUNDING_FEE", [])
    assert next(b["bc"] for b in update["B"] if b["a"] == "USDT") == "-6"
    rows = world.binance("usdm", "GET", "income")[1]
    assert [row["incomeType"] for row in rows] == ["COMMISSION", "FUNDING_FEE"]


def test_a_liquidation_is_an_order_with_a_name_of_the_venues() -> None:
    world = World()
    world.usdm_order(quantity="1")
    user = listening(world)
    world.exchange.faces["binance-usdm"].house.members["main"].liquidate("linear:BTCUSDT", world.now_ns)
    orders = [m["o"] for m in user.of(e="ORDER_TRADE_UPDATE")]
    assert [(o["x"], o["c"].startswith("autoclose-")) for o in orders] == [("NEW", True), ("CALCULATED", True)]
    assert user.of(e="ACCOUNT_UPDATE")[-1]["a"]["P"][0]["pa"] == "0"


def test_benign_changes_are_answered_with_their_codes() -> None:
    world = World()
    post = lambda path, **params: world.binance("usdm", "POST", path, **params)[1]["code"]  # noqa: E731
    assert post("marginType", marginType="CROSSED", **BTC) == -4046
    assert post("positionSide/dual", dualSidePosition="false") == -4059
    assert post("multiAssetsMargin", multiAssetsMargin="false") == -4171
    assert post("leverage", leverage="21", **BTC) == -4028
    assert world.binance("usdm", "POST", "leverage", leverage="20", **BTC)[1]["leverage"] == 20


def test_a_countdown_that_is_not_put_off_cancels_the_orders_of_its_symbol() -> None:
    world = World()
    world.usdm_order()
    world.usdm_order(type="LIMIT", timeInForce="GTC", price="58000", newClientOrderId="rests")
    algo = {"algoType": "CONDITIONAL", "side": "SELL", "type": "STOP_MARKET", "triggerPrice": "59000", **BTC}
    world.binance("usdm", "POST", "algoOrder", closePosition="true", **algo)
    face = world.exchange.faces["binance-usdm"]
    for _ in range(2):
        answer = world.binance("usdm", "POST", "countdownCancelAll", countdownTime=30_000, **BTC)[1]
        assert answer == {"symbol": "BTCUSDT", "countdownTime": "30000"}
        world.pass_(29)
        face.tick(world.now_ns)
        assert len(world.binance("usdm", "GET", "openOrders")[1]) == 1
    world.pass_(1)
    face.tick(world.now_ns)
    assert world.binance("usdm", "GET", "openOrders")[1] == []
    assert len(world.binance("usdm", "GET", "openAlgoOrders")[1]) == 1  # a stop is no order


@pytest.mark.parametrize("path", ["/api/v3/exchangeInfo", "/api/v3/ticker/price"])
def test_a_list_of_symbols_is_json_or_refused(path: str) -> None:
    world = World()
    several = world.request("binance-spot", "GET", path, "symbols=%5B%22BTCUSDT%22%2C%22ETHUSDT%22%5D")
    assert several.status == 200
    refused = world.request("binance-spot", "GET", path, "symbols=nonsense")
    assert (refused.status, json.loads(refused.body)["code"]) == (400, -1102)
