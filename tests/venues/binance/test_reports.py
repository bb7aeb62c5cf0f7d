"""What the private streams and queries tell, in the venue's own letters, as reports."""

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from engine.core.messages import FillReport, FundingReport, OrderReport, OrderType, PositionReport, Side, TransferReport
from engine.venues.binance.decoding import Odd
from engine.venues.binance.orders import cancel_id
from engine.venues.binance.spot_reports import (
    SpotAccount,
    SpotOrder,
    SpotTrade,
    hear_spot,
    spot_balances,
    spot_fill,
    spot_order_report,
)
from engine.venues.binance.usdm_reports import (
    UsdmAccount,
    UsdmAlgo,
    UsdmIncome,
    UsdmOrder,
    UsdmPosition,
    UsdmTrade,
    child_of,
    hear_usdm,
    usdm_algo_report,
    usdm_balances,
    usdm_fill,
    usdm_funding,
    usdm_order_report,
    usdm_positions,
)

CID = "sf1" + "a" * 24 + "aa"
AT = 1_700_000_000_500
NS = AT * 1_000_000

EXECUTION: dict[str, Any] = {
    "e": "executionReport",
    "E": AT + 1,
    "s": "BTCUSDT",
    "c": CID,
    "S": "BUY",
    "o": "LIMIT",
    "f": "GTC",
    "q": "0.02000000",
    "p": "64000.10000000",
    "P": "0.00000000",
    "F": "0.00000000",
    "g": -1,
    "C": "",
    "x": "TRADE",
    "X": "PARTIALLY_FILLED",
    "r": "NONE",
    "i": 90001,
    "l": "0.00500000",
    "z": "0.01500000",
    "L": "64000.00000000",
    "n": "0.00000500",
    "N": "BTC",
    "T": AT,
    "t": 777,
    "I": 12,
    "w": False,
    "m": False,
    "M": True,
    "O": AT - 5,
    "Z": "960.0",
    "Y": "320.0",
    "Q": "0.0",
    "V": "NONE",
}
FILL = FillReport(
    symbol="BTCUSDT",
    exec_id="777-90001",
    cid=CID,
    venue_order_id="90001",
    side=Side.BUY,
    qty=Decimal("0.005"),
    price=Decimal("64000"),
    fee=Decimal("0.000005"),
    fee_asset="BTC",
    maker=False,
    venue_ns=NS,
)
STANDS = OrderReport(
    symbol="BTCUSDT",
    cid=CID,
    venue_order_id="90001",
    status="open",
    side=Side.BUY,
    order_type=OrderType.LIMIT,
    qty=Decimal("0.02"),
    filled_qty=Decimal("0.015"),
    price=Decimal("64000.1"),
    venue_ns=NS,
)


def spot_event(**changes: Any) -> bytes:
    return json.dumps({"subscriptionId": 0, "event": {**EXECUTION, **changes}}).encode()


def only(raw: bytes) -> OrderReport:
    heard = hear_spot(raw)
    (report,) = heard.reports
    assert isinstance(report, OrderReport)
    return report


# ------------------------------------------------------------------------------------------------------------- spot


def test_a_spot_execution_is_a_fill_and_then_the_orders_state() -> None:
    assert hear_spot(spot_event()).reports == (FILL, STANDS)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("NEW", "open"),
        ("PENDING_NEW", "open"),
        ("FILLED", "filled"),
        ("CANCELED", "canceled"),
        ("REJECTED", "rejected"),
        ("EXPIRED", "expired"),
        ("EXPIRED_IN_MATCH", "expired"),
    ],
)
def test_each_status_of_spot(word: str, status: str) -> None:
    assert only(spot_event(x="NEW", X=word, t=-1, l="0")).status == status


def test_a_cancelled_spot_order_keeps_its_own_id() -> None:
    report = only(spot_event(x="CANCELED", X="CANCELED", c=cancel_id(CID), C=CID, t=-1, l="0.0"))
    assert (report.cid, report.status) == (CID, "canceled")
    report = only(spot_event(x="CANCELED", X="CANCELED", c="web_77", C=CID, t=-1, l="0.0"))
    assert report.cid == CID, "also when somebody else cancelled it"


def test_an_execution_is_booked_whatever_its_order_is_called() -> None:
    heard = hear_spot(spot_event(X="SOMETHING_NEW"))
    assert heard.reports == (FILL,) and "SOMETHING_NEW" in heard.odd


def test_an_unknown_status_without_an_execution_is_only_told() -> None:
    heard = hear_spot(spot_event(x="SOMETHING_NEW", X="SOMETHING_NEW", t=-1))
    assert heard.reports == () and heard.odd


def test_missing_optional_fields_and_new_ones_do_no_harm() -> None:
    needed = {k: EXECUTION[k] for k in ("e", "s", "c", "S", "o", "q", "p", "x", "X", "i", "l", "z", "L", "T", "t")}
    raw = json.dumps({"event": {**needed, "n": None, "N": None, "zz": [1]}, "new": 1}).encode()
    fill = hear_spot(raw).reports[0]
    assert isinstance(fill, FillReport) and (fill.fee, fill.fee_asset) == (0, "")


def test_the_reason_of_an_end_is_told() -> None:
    report = only(spot_event(x="EXPIRED", X="EXPIRED", t=-1, l="0", eR="EXECUTION_RULE_PRICE_RANGE_EXCEEDED"))
    assert report.reason == "EXECUTION_RULE_PRICE_RANGE_EXCEEDED"
    report = only(spot_event(x="REJECTED", X="REJECTED", t=-1, l="0", r="INSUFFICIENT_BALANCES"))
    assert report.reason == "INSUFFICIENT_BALANCES"


def test_a_spot_stop_of_ours_counts_as_one_that_only_closes() -> None:
    report = only(spot_event(x="NEW", X="NEW", t=-1, l="0", o="STOP_LOSS", S="SELL", p="0.0", P="63000.0"))
    assert report.order_type is OrderType.STOP_MARKET and report.reduce_only
    assert (report.price, report.trigger_price) == (None, 63000)
    report = only(spot_event(x="NEW", X="NEW", t=-1, l="0", o="TAKE_PROFIT", S="SELL", p="0.0", P="65000", c="mine"))
    assert report.order_type is OrderType.TAKE_PROFIT_MARKET and not report.reduce_only


@pytest.mark.parametrize("event", ["eventStreamTerminated", "serverShutdown"])
def test_the_end_of_a_spot_stream_is_noticed(event: str) -> None:
    assert event in hear_spot(json.dumps({"event": {"e": event, "E": AT}}).encode()).ends


def test_a_refused_subscription_ends_the_stream() -> None:
    heard = hear_spot(b'{"id":null,"status":401,"error":{"code":-2015,"msg":"Invalid API-key"}}')
    assert "401" in heard.ends and "-2015" in heard.ends
    assert hear_spot(b'{"id":"u1","status":200,"result":{"subscriptionId":0}}').ends == ""


@pytest.mark.parametrize("e", ["outboundAccountPosition", "listStatus", "externalLockUpdate", "new"])
def test_other_events_of_spot_are_passed_over(e: str) -> None:
    heard = hear_spot(json.dumps({"subscriptionId": 0, "event": {"e": e, "B": []}}).encode())
    assert heard.reports == () and not heard.ends and not heard.odd


BROKEN = [
    b"",
    b"<html>",
    b'{"event":{"e":"executionReport"}}',
    b'{"event":{"e":"executionReport","s":"BTC',
    spot_event(q="NaN"),
    spot_event(q="1e999"),
    spot_event(l="Infinity"),
    spot_event(q=None),
    spot_event(i="x"),
    spot_event(S="HOLD"),
    spot_event(t=-1),
    spot_event(l="0"),
    b"[" * 100_000,
    b"\xff\xfe",
]


@pytest.mark.parametrize("raw", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_frame_of_spot_is_odd_and_nothing_else(raw: bytes) -> None:
    with pytest.raises(Odd):
        hear_spot(raw)


ORDER_ROW = {
    "symbol": "BTCUSDT",
    "orderId": 90001,
    "orderListId": -1,
    "clientOrderId": CID,
    "price": "64000.10",
    "origQty": "0.02",
    "executedQty": "0.015",
    "cummulativeQuoteQty": "-1",
    "status": "PARTIALLY_FILLED",
    "timeInForce": "GTC",
    "type": "LIMIT",
    "side": "BUY",
    "stopPrice": "0.0",
    "time": AT - 5,
    "updateTime": AT,
    "isWorking": True,
}


def test_a_row_says_the_same_as_the_event() -> None:
    assert spot_order_report(msgspec.convert(ORDER_ROW, SpotOrder)) == STANDS


def test_a_row_of_a_cancelled_order_leads_back_to_its_id() -> None:
    row = {**ORDER_ROW, "clientOrderId": cancel_id(CID), "status": "CANCELED"}
    assert spot_order_report(msgspec.convert(row, SpotOrder)).cid == CID


def test_a_row_with_an_unknown_status_is_odd() -> None:
    with pytest.raises(Odd, match="status"):
        spot_order_report(msgspec.convert({**ORDER_ROW, "status": "NEWER"}, SpotOrder))


def test_a_trade_of_the_list_has_the_same_id_as_on_the_stream() -> None:
    row = {
        "symbol": "BTCUSDT",
        "id": 777,
        "orderId": 90001,
        "price": "64000.0",
        "qty": "0.005",
        "quoteQty": "320",
        "commission": "0.000005",
        "commissionAsset": "BTC",
        "time": AT,
        "isBuyer": True,
        "isMaker": False,
        "isBestMatch": True,
    }
    assert spot_fill(msgspec.convert(row, SpotTrade), CID) == FILL


def test_one_trade_on_two_orders_of_ours_is_two_executions() -> None:
    row = SpotTrade("BTCUSDT", 777, 1, Decimal(1), Decimal(1), Decimal(0), "BNB", AT, True)
    other = msgspec.structs.replace(row, orderId=2, isBuyer=False)
    assert spot_fill(row, "a").exec_id != spot_fill(other, "b").exec_id


def test_spot_balances_are_free_and_locked_together() -> None:
    rows = [
        {"asset": "BTC", "free": "1.0", "locked": "0.5"},
        {"asset": "USDT", "free": "0", "locked": "7"},
        {"asset": "DUST", "free": "0.00", "locked": "0.00"},
    ]
    found = spot_balances(msgspec.convert({"balances": rows}, SpotAccount).balances)
    assert [(b.asset, b.total, b.locked) for b in found] == [("BTC", Decimal("1.5"), Decimal("0.5")), ("USDT", 7, 7)]


# ------------------------------------------------------------------------------------------------------------- USD-M

UPDATE: dict[str, Any] = {
    "s": "BTCUSDT",
    "c": CID,
    "S": "BUY",
    "o": "LIMIT",
    "f": "GTC",
    "q": "0.02",
    "p": "64000.1",
    "ap": "64000",
    "sp": "0",
    "x": "TRADE",
    "X": "PARTIALLY_FILLED",
    "i": 90001,
    "l": "0.005",
    "z": "0.015",
    "L": "64000",
    "N": "BTC",
    "n": "0.000005",
    "T": AT,
    "t": 777,
    "b": "0",
    "a": "0",
    "m": False,
    "R": False,
    "wt": "CONTRACT_PRICE",
    "ot": "LIMIT",
    "ps": "BOTH",
    "cp": False,
    "rp": "0",
    "pP": False,
    "si": 0,
    "ss": 0,
    "V": "EXPIRE_MAKER",
    "pm": "NONE",
    "gtd": 0,
    "er": "0",
}


def usdm_event(**changes: Any) -> bytes:
    return json.dumps({"e": "ORDER_TRADE_UPDATE", "E": AT + 1, "T": AT, "o": {**UPDATE, **changes}}).encode()


def test_a_usdm_execution_is_a_fill_and_then_the_orders_state() -> None:
    assert hear_usdm(usdm_event()).reports == (FILL, STANDS)


def test_a_liquidation_is_an_execution_of_an_order_that_is_not_ours() -> None:
    heard = hear_usdm(usdm_event(x="CALCULATED", X="NEW", c="autoclose-1700000000000"))
    fill = heard.reports[0]
    assert isinstance(fill, FillReport) and fill.cid == "autoclose-1700000000000" and fill.qty == Decimal("0.005")


def test_an_execution_without_a_number_is_left_to_the_list_of_trades() -> None:
    heard = hear_usdm(usdm_event(x="CALCULATED", t=0))
    assert heard.reports == () and heard.odd


def test_the_child_of_a_conditional_order_is_told_as_what_it_was() -> None:
    heard = hear_usdm(usdm_event(x="NEW", X="NEW", o="MARKET", ot="STOP_MARKET", p="0", sp="60000", R=True, t=0, l="0"))
    (report,) = heard.reports
    assert isinstance(report, OrderReport)
    assert (report.order_type, report.reduce_only) == (OrderType.STOP_MARKET, True)
    assert (report.price, report.trigger_price) == (None, 60000)


def test_why_an_order_expired() -> None:
    (report,) = hear_usdm(usdm_event(x="EXPIRED", X="EXPIRED", er="4", t=0, l="0")).reports
    assert isinstance(report, OrderReport) and "reduce-only" in report.reason


def test_an_unknown_status_of_usdm_is_told_and_its_fill_booked() -> None:
    heard = hear_usdm(usdm_event(X="NEWER"))
    assert heard.reports == (FILL,) and "NEWER" in heard.odd


ALGO: dict[str, Any] = {
    "caid": CID,
    "aid": 5001,
    "at": "CONDITIONAL",
    "o": "STOP_MARKET",
    "s": "BTCUSDT",
    "S": "SELL",
    "ps": "BOTH",
    "f": "GTC",
    "q": "0.010",
    "X": "NEW",
    "ai": "",
    "ap": "0",
    "aq": "0",
    "tp": "60000.0",
    "p": "0.0",
    "R": True,
    "rm": "",
    "wt": "CONTRACT_PRICE",
}


def algo_event(**changes: Any) -> bytes:
    return json.dumps({"e": "ALGO_UPDATE", "E": AT + 1, "T": AT, "o": {**ALGO, **changes}}).encode()


ALGO_STANDS = OrderReport(
    symbol="BTCUSDT",
    cid=CID,
    venue_order_id="a5001",
    status="open",
    side=Side.SELL,
    order_type=OrderType.STOP_MARKET,
    qty=Decimal("0.010"),
    filled_qty=Decimal(0),
    trigger_price=Decimal("60000"),
    reduce_only=True,
    venue_ns=NS,
)


def test_a_conditional_order_has_a_number_of_its_own_kind() -> None:
    assert hear_usdm(algo_event()).reports == (ALGO_STANDS,)


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("TRIGGERING", "open"),
        ("TRIGGERED", "open"),
        ("CANCELED", "canceled"),
        ("REJECTED", "rejected"),
        ("EXPIRED", "expired"),
    ],
)
def test_each_status_of_a_conditional_order(word: str, status: str) -> None:
    (report,) = hear_usdm(algo_event(X=word, rm="Margin is insufficient.")).reports
    assert isinstance(report, OrderReport)
    assert (report.status, report.reason) == (status, "Margin is insufficient.")


def test_a_finished_conditional_order_is_told_of_by_its_child() -> None:
    assert hear_usdm(algo_event(X="FINISHED", ai="9")).reports == ()


def test_an_account_update_tells_balances_and_positions_and_no_orders() -> None:
    raw = {
        "e": "ACCOUNT_UPDATE",
        "E": AT,
        "T": AT,
        "a": {
            "m": "ORDER",
            "B": [{"a": "USDT", "wb": "100.5", "cw": "100.5", "bc": "0"}],
            "P": [{"s": "BTCUSDT", "pa": "-0.010", "ep": "64000", "up": "0", "mt": "cross", "iw": "0", "ps": "BOTH"}],
        },
    }
    heard = hear_usdm(json.dumps(raw).encode())
    assert heard.reports == () and not heard.odd
    assert heard.positions == (PositionReport("BTCUSDT", Decimal("-0.010"), Decimal(64000), NS),)
    assert [(b.asset, b.total) for b in heard.balances] == [("USDT", Decimal("100.5"))]


def test_a_balance_update_of_spot_is_a_transfer_known_by_its_moment_and_amount() -> None:
    event = {"e": "balanceUpdate", "E": AT + 3, "a": "BTC", "d": "-0.50000000", "T": AT}
    heard = hear_spot(json.dumps({"subscriptionId": 0, "event": event}).encode())
    assert heard.transfers == (TransferReport(f"BTC/{AT}/-0.5", "BTC", Decimal("-0.5"), "balanceUpdate", NS),)
    for wrong in ({"d": "lots"}, {"d": "NaN"}, {"T": "soon"}):
        with pytest.raises(Odd):
            hear_spot(json.dumps({"subscriptionId": 0, "event": event | wrong}).encode())


@pytest.mark.parametrize(
    ("reason", "moved"),
    [("DEPOSIT", True), ("WITHDRAW", True), ("ASSET_TRANSFER", True), ("MARGIN_TRANSFER", True),
     ("ORDER", False), ("FUNDING_FEE", False), ("ADJUSTMENT", False)],
)  # fmt: skip
def test_an_account_update_says_that_something_was_transferred_but_not_what(reason: str, moved: bool) -> None:
    raw = {"e": "ACCOUNT_UPDATE", "T": AT, "a": {"m": reason, "B": [{"a": "USDT", "wb": "1"}], "P": []}}
    heard = hear_usdm(json.dumps(raw).encode())
    assert heard.transferred is moved and heard.transfers == ()


def test_crossed_funding_has_balances_only_and_is_left_to_the_list_of_incomes() -> None:
    raw = {"e": "ACCOUNT_UPDATE", "T": AT, "a": {"m": "FUNDING_FEE", "B": [{"a": "USDT", "wb": "1", "bc": "-0.1"}]}}
    heard = hear_usdm(json.dumps(raw).encode())
    assert heard.reports == () and heard.positions == ()


def test_a_position_of_hedge_mode_is_noticed() -> None:
    raw = {"e": "ACCOUNT_UPDATE", "T": AT, "a": {"P": [{"s": "BTCUSDT", "pa": "1", "ep": "1", "ps": "LONG"}]}}
    assert "hedge mode" in hear_usdm(json.dumps(raw).encode()).odd


def test_an_expired_listen_key_ends_the_stream() -> None:
    assert "listen key" in hear_usdm(b'{"e":"listenKeyExpired","E":1,"listenKey":"k"}').ends


@pytest.mark.parametrize("e", ["TRADE_LITE", "ACCOUNT_CONFIG_UPDATE", "new"])
def test_other_events_of_usdm_are_passed_over(e: str) -> None:
    heard = hear_usdm(json.dumps({"e": e, "s": "BTCUSDT", "l": "1"}).encode())
    assert heard.reports == () and not heard.ends and not heard.odd


def test_a_margin_call_is_told() -> None:
    assert "MARGIN_CALL" in hear_usdm(b'{"e":"MARGIN_CALL","p":[]}').odd


BROKEN_USDM = [
    b"",
    b'{"e":1}',
    b'{"e":"ORDER_TRADE_UPDATE"}',
    usdm_event(q="nan"),
    usdm_event(S="LONG"),
    usdm_event(l=[1]),
    algo_event(aid="x"),
    algo_event(tp="1e50"),
    b'{"e":"ACCOUNT_UPDATE","a":{"P":[{"s":"B"}]}}',
    b'{"e":"ORDER_TRADE_UPDATE","o":' + b"[" * 50_000,
]


@pytest.mark.parametrize("raw", BROKEN_USDM, ids=range(len(BROKEN_USDM)))
def test_a_broken_frame_of_usdm_is_odd_and_nothing_else(raw: bytes) -> None:
    with pytest.raises(Odd):
        hear_usdm(raw)


def test_usdm_rows_say_the_same_as_events() -> None:
    row = {**ORDER_ROW, "origType": "LIMIT", "reduceOnly": False, "avgPrice": "64000", "workingType": "CONTRACT_PRICE"}
    assert usdm_order_report(msgspec.convert(row, UsdmOrder)) == STANDS
    trade = {
        "symbol": "BTCUSDT",
        "id": 777,
        "orderId": 90001,
        "side": "BUY",
        "price": "64000",
        "qty": "0.005",
        "realizedPnl": "0",
        "commission": "0.000005",
        "commissionAsset": "BTC",
        "time": AT,
        "buyer": True,
        "maker": False,
        "positionSide": "BOTH",
    }
    assert usdm_fill(msgspec.convert(trade, UsdmTrade), CID) == FILL


ALGO_ROW: dict[str, Any] = {
    "algoId": 5001,
    "clientAlgoId": CID,
    "algoType": "CONDITIONAL",
    "orderType": "STOP_MARKET",
    "symbol": "BTCUSDT",
    "side": "SELL",
    "positionSide": "BOTH",
    "timeInForce": "GTC",
    "quantity": "0.010",
    "algoStatus": "NEW",
    "triggerPrice": "60000.0",
    "price": "0.0",
    "icebergQuantity": None,
    "reduceOnly": True,
    "closePosition": False,
    "activatePrice": "",
    "createTime": AT - 5,
    "updateTime": AT,
}


@pytest.mark.parametrize(
    ("actual", "child"), [("", ""), (None, ""), ("0", ""), ("90002", "90002"), (90002, "90002"), ("?", "")]
)
def test_the_row_of_a_conditional_order_and_its_child(actual: Any, child: str) -> None:
    row = msgspec.convert({**ALGO_ROW, "actualOrderId": actual}, UsdmAlgo)
    assert usdm_algo_report(row) == ALGO_STANDS and child_of(row) == child


def test_a_conditional_order_that_closes_the_whole_position_has_no_quantity() -> None:
    row = {**ALGO_ROW, "quantity": "", "price": None, "closePosition": True, "reduceOnly": False}
    report = usdm_algo_report(msgspec.convert(row, UsdmAlgo))
    assert (report.qty, report.price, report.reduce_only) == (0, None, True)
    (told,) = hear_usdm(algo_event(q="", p="")).reports
    assert isinstance(told, OrderReport) and told.qty == 0


@pytest.mark.parametrize("amount", ["NaN", "1e50", "x", "-Infinity", "0x1"])
def test_an_amount_that_is_none_is_odd(amount: str) -> None:
    with pytest.raises(Odd):
        usdm_algo_report(msgspec.convert({**ALGO_ROW, "quantity": amount}, UsdmAlgo))


def test_funding_is_named_by_the_venues_transaction() -> None:
    row = {
        "symbol": "BTCUSDT",
        "incomeType": "FUNDING_FEE",
        "income": "-0.37500000",
        "asset": "USDT",
        "info": "FUNDING_FEE",
        "time": AT,
        "tranId": 9689322392,
        "tradeId": "",
    }
    found = usdm_funding(msgspec.convert(row, UsdmIncome))
    assert found == FundingReport("BTCUSDT", "9689322392", Decimal("-0.375"), "USDT", NS)


def test_usdm_positions_are_those_that_are_not_flat() -> None:
    rows = (UsdmPosition("BTCUSDT", Decimal("-0.5"), Decimal(64000)), UsdmPosition("ETHUSDT", Decimal("0.000")))
    assert usdm_positions(rows, 7) == (PositionReport("BTCUSDT", Decimal("-0.5"), Decimal(64000), 7),)
    with pytest.raises(Odd, match="hedge mode"):
        usdm_positions((UsdmPosition("BTCUSDT", Decimal(1), Decimal(1), "SHORT"),), 7)


@pytest.mark.parametrize("total", ["walletBalance", "balance"])
def test_usdm_balances_by_either_name(total: str) -> None:
    rows = [
        {"asset": "USDT", total: "100", "availableBalance": "60"},
        {"asset": "BNB", total: "0", "availableBalance": "0"},
        {"asset": "USDC", total: "5", "availableBalance": "9"},
    ]
    found = usdm_balances(msgspec.convert({"assets": rows}, UsdmAccount))
    assert [(b.asset, b.total, b.locked) for b in found] == [("USDT", 100, 40), ("USDC", 5, 0)]
