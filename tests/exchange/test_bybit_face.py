"""Bybit's habits, one by one, as the sheet has them."""

import json

import pytest

from engine.core.times import DAY, SECOND
from engine.exchange.http import Request
from engine.exchange.keys import signed_by
from engine.exchange.terms import KeyTerms, Memory
from tests.exchange.world import World, ed25519, hmac_hex

SHEET = KeyTerms(key="TESTKEY0123456789A", secret="TESTSECRETabcdefghijklmnopqrstuvwxyz0")
LINE_B = (
    '{"category":"linear","symbol":"BTCUSDT","side":"Sell","orderType":"Limit","qty":"0.015","price":"43210.5",'
    '"timeInForce":"PostOnly","positionIdx":0,"reduceOnly":false,"orderLinkId":"loan-hedge-000001"}'
)
LINEAR = {"category": "linear", "symbol": "BTCUSDT"}
SPOT = {"category": "spot", "symbol": "BTCUSDT"}


# ----------------------------------------------------------------------------------------------------------- the gate


@pytest.mark.parametrize(
    ("text", "signature"),
    [
        (
            "1700000000000TESTKEY0123456789A5000category=linear&symbol=BTCUSDT&orderLinkId=loan-hedge-000001",
            "79b12e7a23cae2bcde343b912f0953780e833c5868b90facc43494a25e9b2899",
        ),
        (
            "1700000000123TESTKEY0123456789A5000" + LINE_B,
            "447c30df5bdc2cf718a82646618f92125f6359fd09457557497f71872945f3d2",
        ),
        (
            "1700000000456TESTKEY0123456789A10000category=linear&limit=50&cursor=132766%3A2%2C132766%3A2",
            "545ef1e3de01c85dc06776f24a57dc88fe2fcea5f289749d1c7981c337db3728",
        ),
        (
            "1700000000789TESTKEY0123456789A5000{}",
            "6b4f0ccd38e9834f0611b496ae1f232f7d3e432dd7df9d60b154136e7012ed5b",
        ),
        ("GET/realtime1700000010000", "9df7a1dd96a4c7e76d698b5f5d7e03c816a59ea0d17de78f3f16d9615f5e9330"),
    ],
)
def test_the_sheets_signatures_are_good_and_a_changed_text_is_not(text: str, signature: str) -> None:
    assert signed_by(SHEET, text.encode(), signature)
    assert not signed_by(SHEET, text.encode() + b" ", signature)


def test_a_signed_body_is_accepted_with_spaces_and_refused_when_a_byte_changes() -> None:
    world = World()
    assert world.order(orderLinkId="a")["retCode"] == 0
    stamp = str(world.now_ns // 1_000_000)
    body = b'{"category":"linear"}'
    headers = {"x-bapi-api-key": "local-key", "x-bapi-timestamp": stamp, "x-bapi-recv-window": "5000"}
    headers["x-bapi-sign"] = hmac_hex(f"{stamp}local-key5000".encode() + body)
    refused = world.request("bybit", "POST", "/v5/order/create", body=body + b" ", headers=headers)
    assert json.loads(refused.body)["retCode"] == 10004


def test_a_request_without_a_window_is_signed_without_one() -> None:
    world = World()
    stamp = str(world.now_ns // 1_000_000)
    headers = {"x-bapi-api-key": "local-key", "x-bapi-timestamp": stamp}
    headers["x-bapi-sign"] = hmac_hex(f"{stamp}local-keyaccountType=UNIFIED".encode())
    answer = world.request("bybit", "GET", "/v5/account/wallet-balance", "accountType=UNIFIED", headers=headers)
    assert json.loads(answer.body)["retCode"] == 0


def test_an_ed25519_key_signs_in_base64() -> None:
    world = World()
    assert world.bybit("GET", "account/info", key="edward", sign=ed25519)["retCode"] == 0
    assert world.bybit("GET", "account/info", key="edward", sign=hmac_hex)["retCode"] == 10004


@pytest.mark.parametrize(("ahead_ms", "code"), [(999, 0), (1000, 10002), (-5000, 0), (-5001, 10002)])
def test_the_window_is_open_behind_and_a_second_ahead(ahead_ms: int, code: int) -> None:
    world = World()
    stamp = str(world.now_ns // 1_000_000 + ahead_ms)
    headers = {"x-bapi-api-key": "local-key", "x-bapi-timestamp": stamp, "x-bapi-recv-window": "5000"}
    headers["x-bapi-sign"] = hmac_hex(f"{stamp}local-key5000".encode())
    answer = world.request("bybit", "GET", "/v5/account/info", headers=headers)
    assert json.loads(answer.body)["retCode"] == code


def test_keys_are_known_and_may_do_what_they_may() -> None:
    world = World()
    assert world.bybit("GET", "account/info", key="nobody")["retCode"] == 10003
    assert world.bybit("POST", "order/create", {**LINEAR, "side": "Buy"}, key="reader")["retCode"] == 10005
    permissions = world.bybit("GET", "user/query-api", key="reader")["result"]
    assert permissions["readOnly"] == 1 and permissions["permissions"]["ContractTrade"] == []


def test_a_get_with_a_body_and_a_banned_address_get_403_in_html() -> None:
    world = World()
    body = world.request("bybit", "GET", "/v5/market/time", body=b"{}")
    assert (body.status, body.content_type) == (403, "text/html")
    world.exchange.faces["bybit"].banned[""] = world.now_ns + SECOND
    assert world.request("bybit", "GET", "/v5/market/time").status == 403
    world.pass_(1)
    assert world.request("bybit", "GET", "/v5/market/time").status == 200


def test_the_eleventh_order_of_a_second_is_too_many_and_the_headers_say_when() -> None:
    world = World(rate_limits="real")
    codes = [world.order()["retCode"] for _ in range(11)]
    assert codes == [0] * 10 + [10006]
    headers = dict(world.bybit_response("POST", "order/create", {**LINEAR}).headers)
    assert (headers["X-Bapi-Limit"], headers["X-Bapi-Limit-Status"]) == ("10", "0")
    assert headers["X-Bapi-Limit-Reset-Timestamp"] == str(world.now_ns // 1_000_000 + 1000)
    assert world.order(category="spot", qty="100")["retCode"] == 0  # a bucket of its own
    world.pass_(1)
    assert world.order()["retCode"] == 0


def test_of_a_batch_only_what_fits_the_rate_goes_through() -> None:
    world = World(rate_limits="real")
    item = {"symbol": "BTCUSDT", "side": "Buy", "orderType": "Market", "qty": "0.01"}
    answer = world.bybit("POST", "order/create-batch", {"category": "linear", "request": [item] * 12})
    assert [one["code"] for one in answer["retExtInfo"]["list"]] == [0] * 10 + [10006] * 2
    assert len(world.exchange.faces["bybit"].house.members["main"].records) == 10


def test_an_address_that_asks_too_much_is_locked_out_for_ten_minutes() -> None:
    world = World(rate_limits="real")
    statuses = [world.request("bybit", "GET", "/v5/market/time").status for _ in range(601)]
    assert statuses == [200] * 600 + [403]
    world.pass_(599)
    assert world.request("bybit", "GET", "/v5/market/time").status == 403
    world.pass_(2)
    assert world.request("bybit", "GET", "/v5/market/time").status == 200


# ------------------------------------------------------------------------------------------------------------- orders


@pytest.mark.parametrize(("category", "code"), [("linear", 110072), ("spot", 170141)])
def test_a_link_id_is_never_used_twice(category: str, code: int) -> None:
    world = World()
    more = {"marketUnit": "baseCoin"} if category == "spot" else {}
    assert world.order(category, orderLinkId="once", **more)["retCode"] == 0
    world.pass_(DAY / SECOND * 6)
    assert world.order(category, orderLinkId="once", **more)["retCode"] == code


def test_a_post_only_order_that_would_take_is_acknowledged_and_cancelled() -> None:
    world = World()
    answer = world.order(orderType="Limit", price="60001", timeInForce="PostOnly", orderLinkId="p")
    assert answer["retCode"] == 0
    row = world.bybit("GET", "order/realtime", {**LINEAR, "orderLinkId": "p"})["result"]["list"][0]
    assert (row["orderStatus"], row["rejectReason"]) == ("Cancelled", "EC_PostOnlyWillTakeLiquidity")


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"qty": "0.0001"}, 10001),
        ({"orderType": "Limit", "price": "60000.05"}, 10001),
        ({"orderType": "Limit"}, 10001),
        ({"symbol": "NOSUCH"}, 10001),
        ({"side": "Long"}, 10001),
        ({"orderLinkId": "x" * 37}, 10001),
        ({"orderLinkId": "with space"}, 10001),
        ({"positionIdx": 1}, 10001),
        ({"takeProfit": "70000"}, 10001),
        ({"side": "Sell", "reduceOnly": True}, 110017),
        ({"qty": "900"}, 110007),
        ({"triggerPrice": "60100", "triggerDirection": 2}, 110093),
        ({"triggerPrice": "59000"}, 10001),
        ({"category": "inverse"}, 10001),
        ({"qty": {"not": "a number"}}, 10001),
    ],
)
def test_a_bad_order_is_refused_with_its_code(more: dict[str, object], code: int) -> None:
    assert World().order(**more)["retCode"] == code  # type: ignore[arg-type]


def test_a_price_outside_its_band_is_moved_on_futures_and_refused_on_spot() -> None:
    world = World()
    world.book(qty="0.001")
    limit = {"orderType": "Limit", "price": "90000", "qty": "1"}
    assert world.order(**limit, orderLinkId="far")["retCode"] == 0
    bound = world.bybit("GET", "market/price-limit", LINEAR)["result"]["buyLmt"]
    row = world.bybit("GET", "order/realtime", {**LINEAR, "orderLinkId": "far"})["result"]["list"][0]
    assert row["price"] == bound == "66000"
    assert world.order("spot", **limit)["retCode"] == 170132
    assert world.order("spot", **limit | {"side": "Sell", "price": "50000"})["retCode"] == 170133


def test_conditional_orders_are_counted_by_symbol() -> None:
    world = World()
    stop = {"triggerPrice": "70000", "triggerDirection": 1, "orderType": "Market"}
    assert [world.order(**stop)["retCode"] for _ in range(11)] == [0] * 10 + [110009]
    assert world.order()["retCode"] == 0


def test_a_stop_waits_shows_as_untriggered_and_closes_the_position_when_reached() -> None:
    world = World()
    private = world.connect("bybit", "/v5/private")
    private.log_on()
    private.say({"op": "subscribe", "args": ["order.linear", "execution", "position"]})
    world.order(qty="0.02", orderLinkId="open")
    stop = {"side": "Sell", "qty": "0.02", "triggerPrice": "59000", "triggerDirection": 2, "reduceOnly": True}
    world.order(**stop, orderLinkId="stop")
    world.book("58990", "58990.1")
    statuses = [m["data"][0]["orderStatus"] for m in private.of(topic="order.linear")]
    assert statuses == ["New", "Filled", "Untriggered", "New", "Filled"]
    assert [m["data"][0]["orderLinkId"] for m in private.of(topic="execution")] == ["open", "stop"]
    assert private.of(topic="position")[-1]["data"][0]["size"] == "0"


def test_a_buyer_on_spot_receives_less_than_he_bought_by_the_fee() -> None:
    world = World(balances={"USDT": 10_000})
    assert world.order("spot", marketUnit="baseCoin", qty="0.1")["retCode"] == 0
    execution = world.bybit("GET", "execution/list", {"category": "spot"})["result"]["list"][0]
    assert (execution["feeCurrency"], execution["execFee"]) == ("BTC", "0.0001")
    assert world.order("spot", side="Sell", qty="0.1")["retCode"] == 170131
    assert world.order("spot", side="Sell", qty="0.0999")["retCode"] == 0


def test_a_market_buy_on_spot_is_an_amount_of_quote_unless_said_otherwise() -> None:
    world = World()
    world.order("spot", qty="1000", orderLinkId="amount")
    row = world.bybit("GET", "order/realtime", {**SPOT, "orderLinkId": "amount"})["result"]["list"][0]
    assert (row["qty"], row["orderStatus"]) == ("1000", "PartiallyFilledCanceled")
    assert 999 < float(row["cumExecValue"]) <= 1000


def test_leverage_is_set_once_and_frees_margin() -> None:
    world = World()
    asked = {**LINEAR, "buyLeverage": "20", "sellLeverage": "20"}
    world.order(qty="1")
    before = world.bybit("GET", "position/list", LINEAR)["result"]["list"][0]["positionIM"]
    assert world.bybit("POST", "position/set-leverage", asked)["retCode"] == 0
    assert world.bybit("POST", "position/set-leverage", asked)["retCode"] == 110043
    after = world.bybit("GET", "position/list", LINEAR)["result"]["list"][0]["positionIM"]
    assert float(after) == float(before) / 2


def test_funding_is_an_execution_that_is_no_fill() -> None:
    world = World()
    world.order(qty="1")
    world.fund("0.0001")
    rows = world.bybit("GET", "execution/list", {"category": "linear"})["result"]["list"]
    assert [(row["execType"], row["orderType"]) for row in rows] == [("Funding", "UNKNOWN"), ("Trade", "Market")]
    assert rows[0]["execFee"] == "6"  # the long pays


def test_a_liquidation_is_an_order_that_nobody_sent() -> None:
    world = World()
    private = world.connect("bybit", "/v5/private")
    private.log_on()
    private.say({"op": "subscribe", "args": ["order", "execution", "position", "wallet"]})
    world.order(qty="0.5", orderLinkId="mine")
    world.exchange.faces["bybit"].house.members["main"].liquidate("linear:BTCUSDT", world.now_ns)
    last = private.of(topic="execution")[-1]["data"][0]
    assert (last["execType"], last["orderLinkId"], last["execQty"]) == ("BustTrade", "", "0.5")
    assert private.of(topic="position")[-1]["data"][0]["size"] == "0"


def test_accounts_do_not_see_each_other() -> None:
    world = World()
    world.order(orderLinkId="mine")
    other = world.bybit("GET", "execution/list", {"category": "linear"}, key="other")["result"]["list"]
    assert other == []
    assert world.bybit("GET", "position/list", LINEAR, key="other")["result"]["list"][0]["size"] == "0"


# ------------------------------------------------------------------------------------------------------------ queries


def test_closed_orders_are_forgotten_unfilled_ones_after_a_day() -> None:
    world = World()
    world.order(orderType="Limit", price="50000", orderLinkId="unfilled")
    world.bybit("POST", "order/cancel", {**LINEAR, "orderLinkId": "unfilled"})
    world.order(orderLinkId="filled")

    def found() -> list[str]:
        rows = world.bybit("GET", "order/history", {"category": "linear"})["result"]["list"]
        return [row["orderLinkId"] for row in rows]

    assert found() == ["filled", "unfilled"]
    world.pass_(86_401)
    assert found() == ["filled"]
    world.pass_(6 * 86_400)
    assert found() == []


def test_a_restart_empties_the_list_of_recent_orders_but_not_the_history() -> None:
    world = World()
    world.order(orderLinkId="filled")
    asked = {**LINEAR, "orderLinkId": "filled"}
    assert len(world.bybit("GET", "order/realtime", asked)["result"]["list"]) == 1
    world.exchange.faces["bybit"].house.members["main"].forgotten_ns = world.now_ns
    assert world.bybit("GET", "order/realtime", asked)["result"]["list"] == []
    assert len(world.bybit("GET", "order/history", asked)["result"]["list"]) == 1


def test_a_new_order_may_show_late_in_queries() -> None:
    world = World(memory=Memory(visible_ns=2 * SECOND))
    world.order(orderType="Limit", price="50000", orderLinkId="late")
    asked = {**LINEAR, "orderLinkId": "late"}
    assert world.bybit("GET", "order/realtime", asked)["result"]["list"] == []
    world.pass_(2)
    assert world.bybit("GET", "order/realtime", asked)["result"]["list"][0]["orderLinkId"] == "late"


def test_no_more_is_remembered_than_the_terms_say() -> None:
    world = World(memory=Memory(history=3))
    for number in range(6):
        world.order(orderLinkId=f"o{number}")
    member = world.exchange.faces["bybit"].house.members["main"]
    assert [record.given for record in member.records.values()] == ["o3", "o4", "o5"]
    assert len(member._named) == len(member.closed) == len(member.matching.closed) == 3


@pytest.mark.parametrize("decoded", [False, True], ids=["as it came", "decoded"])
def test_pages_follow_one_another_without_a_gap_or_an_end_of_their_own(decoded: bool) -> None:
    world = World()
    for number in range(7):
        world.order(orderLinkId=f"o{number}")
    seen: list[str] = []
    cursor = ""
    for _ in range(9):
        query = {"category": "linear", "limit": "3"}
        tail = f"&cursor={cursor}" if cursor else ""
        text = "&".join(f"{name}={value}" for name, value in query.items()) + tail
        stamp = str(world.now_ns // 1_000_000)
        headers = {"x-bapi-api-key": "local-key", "x-bapi-timestamp": stamp, "x-bapi-recv-window": "5000"}
        headers["x-bapi-sign"] = hmac_hex(f"{stamp}local-key5000{text}".encode())
        request = Request("GET", "/v5/order/history", text, headers, b"", "127.0.0.1")
        result = json.loads(world.exchange.faces["bybit"].answer(request, world.now_ns).body)["result"]
        seen += [row["orderLinkId"] for row in result["list"]]
        cursor = result["nextPageCursor"]
        if not cursor:
            break
        assert "%3A" in cursor  # percent-encoded, as the venue sends it
        cursor = cursor.replace("%3A", ":").replace("%2C", ",") if decoded else cursor
    assert seen == [f"o{number}" for number in reversed(range(7))]


# ------------------------------------------------------------------------------------------------------------ sockets


@pytest.mark.parametrize("as_text", [False, True])
def test_the_private_stream_wants_an_expiry_in_the_future_as_number_or_text(as_text: bool) -> None:
    world = World()
    soon = world.now_ns // 1_000_000 + 1000
    private = world.connect("bybit", "/v5/private")
    assert private.say({"op": "subscribe", "args": ["order"]})["ret_msg"] == "Request not authorized"
    assert private.log_on(soon - 1000)["success"] is False
    assert private.log_on(str(soon) if as_text else soon)["success"] is True
    assert private.say({"op": "subscribe", "args": ["order", "nonsense"]})["success"] is False
    assert private.say({"op": "subscribe", "args": ["order"]})["success"] is True
    assert private.say({"op": "subscribe", "args": ["order"]})["ret_msg"].startswith("error:already subscribed")
    assert private.say({"op": "ping", "req_id": "7"})["op"] == "pong"


def test_order_entry_by_websocket_answers_like_rest() -> None:
    world = World(rate_limits="real")
    trade = world.connect("bybit", "/v5/trade")
    asked = {**LINEAR, "side": "Buy", "orderType": "Limit", "qty": "0.01", "price": "50000"}
    assert trade.trade("order.create", "r0", asked)["retCode"] == 10004
    assert trade.log_on()["retCode"] == 0 and trade.log_on()["retCode"] == 20001
    done = trade.trade("order.create", "r1", {**asked, "orderLinkId": "ws"})
    assert (done["retCode"], done["data"]["orderLinkId"], done["header"]["X-Bapi-Limit-Status"]) == (0, "ws", "9")
    assert trade.trade("order.create", "r1", asked)["retCode"] == 20006
    assert trade.trade("order.create", "r2", {**asked, "orderLinkId": "ws"})["retCode"] == 110072
    assert trade.trade("order.nonsense", "r3", asked)["retCode"] == 10404
    assert trade.trade("order.amend", "r4", {**LINEAR, "orderLinkId": "ws", "qty": "0.02"})["retCode"] == 0
    batch = {"category": "linear", "request": [{"symbol": "BTCUSDT", "orderLinkId": name} for name in ("ws", "no")]}
    cancelled = trade.trade("order.cancel-batch", "r5", batch)
    assert [one["code"] for one in cancelled["retExtInfo"]["list"]] == [0, 110001]
    late = {"X-BAPI-TIMESTAMP": str(world.now_ns // 1_000_000 - 6000)}
    assert trade.say({"reqId": "r6", "header": late, "op": "order.create", "args": [asked]})["retCode"] == 10002


def test_what_is_no_json_is_answered_and_ends_nothing() -> None:
    world = World()
    for path in ("/v5/private", "/v5/trade", "/v5/public/linear"):
        wire = world.connect("bybit", path)
        answers = wire.session.hear(b"{nonsense", world.now_ns)
        assert len(answers) == 1
        assert wire.say({"op": "ping"})


def test_the_topics_of_another_category_tell_nothing() -> None:
    world = World()
    private = world.connect("bybit", "/v5/private")
    private.log_on()
    private.say({"op": "subscribe", "args": ["order.spot", "execution.spot"]})
    world.order(orderLinkId="linear")
    assert private.told == []
    world.order("spot", qty="1000")
    assert {message["topic"] for message in private.told} == {"order.spot", "execution.spot"}
    private.session.close()
    world.order("spot", qty="1000")
    assert len(private.of(topic="execution.spot")) == 1
