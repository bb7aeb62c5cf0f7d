"""Bybit's rows and frames as reports: real life's odd ones too."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.messages import FillReport, FundingReport, InstrumentKind, OrderType, Rejection, Side, Silence
from engine.venues.bybit import frames, reports
from engine.venues.bybit.reports import BadRow, ExecutionRow, InstrumentRow, OrderRow, PositionRow
from engine.venues.order_socket import Heard

D = Decimal
LINEAR, SPOT = InstrumentKind.LINEAR, InstrumentKind.SPOT
# As in the venue's documentation, with the fields that are read and some that are not.
ORDER = {
    "orderId": "7d0c", "orderLinkId": "loan-hedge-000001", "parentOrderLinkId": "", "symbol": "BTCUSDT",
    "price": "43210.50", "qty": "0.015", "side": "Sell", "positionIdx": 0, "orderStatus": "PartiallyFilled",
    "cancelType": "UNKNOWN", "rejectReason": "EC_NoError", "avgPrice": "43210.5", "leavesQty": "0.010",
    "cumExecQty": "0.005", "timeInForce": "PostOnly", "orderType": "Limit", "stopOrderType": "", "triggerPrice": "",
    "triggerDirection": 0, "reduceOnly": False, "updatedTime": "1700000000950", "something": {"new": [1]},
}  # fmt: skip
EXECUTION = {
    "symbol": "BTCUSDT", "orderId": "7d0c", "orderLinkId": "loan-hedge-000001", "side": "Sell", "execId": "0a9b",
    "execPrice": "43210.5", "execQty": "0.005", "execFee": "0.0432", "feeCurrency": "USDT", "execType": "Trade",
    "execTime": "1700000000940", "isMaker": True, "leavesQty": "0.010", "seq": 4688002199, "extraFees": "",
}  # fmt: skip


def order_of(**changes: Any) -> Any:
    return reports.order_report(msgspec.convert(ORDER | changes, OrderRow))


def execution_of(instrument: Any = None, **changes: Any) -> Any:
    return reports.execution(msgspec.convert(EXECUTION | changes, ExecutionRow), instrument)


def test_an_order_in_full():
    report = order_of()
    assert (report.cid, report.venue_order_id, report.symbol) == ("loan-hedge-000001", "7d0c", "BTCUSDT")
    assert (report.side, report.order_type, report.status) == (Side.SELL, OrderType.LIMIT, "open")
    assert (report.qty, report.filled_qty, report.price, report.trigger_price) == (
        D("0.015"), D("0.005"), D("43210.50"), None
    )  # fmt: skip
    assert (report.reason, report.venue_ns) == ("", 1_700_000_000_950_000_000)


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"orderStatus": "New"}, "open"),
        ({"orderStatus": "Created"}, "open"),
        ({"orderStatus": "Untriggered"}, "open"),
        ({"orderStatus": "Triggered"}, "open"),
        ({"orderStatus": "Filled", "cumExecQty": "0.015"}, "filled"),
        ({"orderStatus": "Cancelled"}, "canceled"),
        ({"orderStatus": "Cancelled", "rejectReason": "EC_PostOnlyWillTakeLiquidity"}, "canceled"),
        ({"orderStatus": "PartiallyFilledCanceled"}, "canceled"),
        ({"orderStatus": "Deactivated"}, "canceled"),
        ({"orderStatus": "Cancelled", "rejectReason": "EC_NoImmediateQtyToFill"}, "expired"),
        ({"orderStatus": "Cancelled", "rejectReason": "EC_CancelForNoFullFill"}, "expired"),
        ({"orderStatus": "Rejected", "rejectReason": "EC_ReachRiskPriceLimit"}, "rejected"),
        ({"orderStatus": "SomethingNew"}, "open"),
        ({"orderStatus": "SomethingNew", "cumExecQty": "0.015"}, "filled"),
    ],
)
def test_every_status_and_one_that_nobody_knows(changes, status):
    assert order_of(**changes).status == status


@pytest.mark.parametrize("unset", ["", "0", "0.00", "UNKNOWN"])
def test_every_way_of_saying_that_nothing_is_set(unset: str):
    report = order_of(price=unset, triggerPrice=unset)
    assert (report.price, report.trigger_price) == (None, None)


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"orderType": "Market", "side": "Sell", "triggerDirection": 2}, OrderType.STOP_MARKET),
        ({"orderType": "Market", "side": "Buy", "triggerDirection": 1}, OrderType.STOP_MARKET),
        ({"orderType": "Limit", "side": "Sell", "triggerDirection": 1}, OrderType.TAKE_PROFIT_LIMIT),
        ({"orderType": "Market", "side": "Buy", "triggerDirection": 2}, OrderType.TAKE_PROFIT_MARKET),
        ({"orderType": "Market", "triggerDirection": "", "stopOrderType": "PartialTakeProfit"},
         OrderType.TAKE_PROFIT_MARKET),
        ({"orderType": "Limit", "triggerDirection": 0, "stopOrderType": "Stop"}, OrderType.STOP_LIMIT),
    ],
)  # fmt: skip
def test_what_kind_of_conditional_order_it_is(changes, kind):
    assert order_of(triggerPrice="43000", **changes).order_type is kind


def test_the_reason_is_what_the_venue_says_without_its_words_for_nothing():
    report = order_of(orderStatus="Cancelled", cancelType="CancelByReduceOnly")
    assert report.reason == "CancelByReduceOnly"


@pytest.mark.parametrize(
    "changes",
    [{"side": "None"}, {"qty": "abc"}, {"qty": "-1"}, {"cumExecQty": "1e400"}, {"updatedTime": "soon"},
     {"qty": "NaN"}, {"price": "Infinity"}],
)  # fmt: skip
def test_a_row_without_what_it_must_have_is_bad(changes):
    with pytest.raises(BadRow):
        order_of(**changes)


def test_an_execution_in_full():
    fill = execution_of()
    assert isinstance(fill, FillReport)
    assert (fill.exec_id, fill.cid, fill.venue_order_id, fill.side) == ("0a9b", "loan-hedge-000001", "7d0c", Side.SELL)
    assert (fill.qty, fill.price, fill.fee, fill.fee_asset) == (D("0.005"), D("43210.5"), D("0.0432"), "USDT")
    assert (fill.maker, fill.venue_ns) == (True, 1_700_000_000_940_000_000)


def test_a_rebate_is_negative_and_a_tax_is_added():
    assert execution_of(execFee="-0.01").fee == D("-0.01")
    taxed = execution_of(extraFees=[{"feeCoin": "USDT", "fee": "0.0007"}, {"feeCoin": "EUR", "fee": "9"}])
    assert taxed.fee == D("0.0439")


@pytest.mark.parametrize(
    ("kind", "side", "coin"),
    [(LINEAR, "Buy", "USDT"), (LINEAR, "Sell", "USDT"), (SPOT, "Buy", "BTC"), (SPOT, "Sell", "USDT")],
)
def test_a_fee_without_its_coin_is_in_what_was_received(kind, side, coin):
    instrument = reports.instrument(instrument_row(kind), kind, reports.FEES[kind])
    assert execution_of(instrument, side=side, feeCurrency="").fee_asset == coin
    assert execution_of(instrument, side=side, feeCurrency="", feeCoin="MNT").fee_asset == "MNT"


def test_funding_is_no_fill_and_turns_its_sign():
    paid = execution_of(execType="Funding", execFee="0.06", orderId="", orderLinkId="")
    assert paid == FundingReport("BTCUSDT", "0a9b", D("-0.06"), "USDT", 1_700_000_000_940_000_000)


@pytest.mark.parametrize("kind", ["AdlTrade", "BustTrade", "Delivery", "Settle", "BlockTrade", "SomethingNew"])
def test_what_the_venue_trades_for_us_is_a_foreign_fill(kind: str):
    fill = execution_of(execType=kind, orderLinkId="sf1ours")
    assert isinstance(fill, FillReport) and fill.cid == "", "whatever it says, no order of ours is behind it"


def test_an_execution_of_nothing_is_none():
    assert execution_of(execQty="0") is None


def test_positions_have_a_sign_and_flat_ones_are_left_out():
    def position(**changes: Any) -> Any:
        row = {"symbol": "BTCUSDT", "side": "Sell", "size": "0.5", "avgPrice": "100", "leverage": "", "seq": -1}
        return reports.position_report(msgspec.convert(row | changes, PositionRow), 7)

    assert (position().qty, position().avg_price, position().venue_ns) == (D("-0.5"), D(100), 7)
    assert position(side="", size="0", avgPrice="") is None


def test_a_balance_without_figures_is_not_a_crash():
    row = msgspec.convert({"coin": "USDT", "walletBalance": "-3.5", "locked": "", "totalOrderIM": "1"}, reports.CoinRow)
    assert reports.balance_report(row) == reports.BalanceReport("USDT", D("-3.5"), D(1))


def instrument_row(kind: InstrumentKind, **changes: Any) -> InstrumentRow:
    lots = (
        {"basePrecision": "0.000001", "minOrderQty": "0.00005", "minOrderAmt": "5", "maxLimitOrderQty": "80",
         "maxMarketOrderQty": "40", "postOnlyMaxLimitOrderSize": "60"}
        if kind is SPOT
        else {"qtyStep": "0.001", "minOrderQty": "0.002", "minNotionalValue": "5", "maxOrderQty": "100",
              "maxMktOrderQty": "30"}
    )  # fmt: skip
    row = {
        "symbol": "BTCUSDT", "baseCoin": "BTC", "quoteCoin": "USDT", "settleCoin": "USDT", "status": "Trading",
        "lotSizeFilter": lots, "priceFilter": {"tickSize": "0.10"}, "leverageFilter": {"maxLeverage": "100.00"},
    }  # fmt: skip
    return msgspec.convert(row | changes, InstrumentRow)


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (LINEAR, (D("0.001"), D("0.002"), D(30), D(5), D(100))),
        (SPOT, (D("0.000001"), D("0.000001"), D(40), D(5), D(1))),
    ],
)
def test_an_instruments_rules_take_the_smallest_of_the_largest_quantities(kind, said):
    found = reports.instrument(instrument_row(kind), kind, reports.FEES[kind])
    assert found is not None
    assert (found.lot, found.qty_min, found.qty_max, found.notional_min, found.leverage_max) == said


@pytest.mark.parametrize(
    "changes",
    [{"status": "PreLaunch"}, {"status": "Closed"}, {"priceFilter": {}}, {"lotSizeFilter": {"qtyStep": ""}}],
)
def test_what_cannot_be_traded_is_not_listed(changes):
    assert reports.instrument(instrument_row(LINEAR, **changes), LINEAR, reports.FEES[LINEAR]) is None


def test_an_instrument_without_a_smallest_value_is_listed_all_the_same():
    row = instrument_row(LINEAR, lotSizeFilter={"qtyStep": "0.1", "minOrderQty": "0.1", "minNotionalValue": ""})
    found = reports.instrument(row, LINEAR, reports.FEES[LINEAR])
    assert found is not None and found.notional_min == 0


# -------------------------------------------------------------------------------------------------------------- frames


def stream(text: Any) -> Any:
    raw = text if isinstance(text, bytes) else msgspec.json.encode(text)
    return frames.stream_frame(raw, "linear", {})


def test_a_stream_frame_tells_of_our_category_only_and_of_many_at_once():
    rows = [
        ORDER | {"category": "linear"},
        ORDER | {"category": "spot"},
        ORDER | {"category": "linear", "orderId": "8"},
    ]
    told = stream({"id": "1", "topic": "order.linear", "creationTime": 1, "data": rows})
    assert [report.venue_order_id for report in told] == ["7d0c", "8"]
    told = stream({"topic": "execution", "data": [EXECUTION | {"category": "linear"}, EXECUTION]})
    assert [type(report) for report in told] == [FillReport, FillReport]
    assert stream({"topic": "wallet", "data": [{"coin": []}]}) == ()


@pytest.mark.parametrize(
    ("frame", "said"),
    [
        ({"success": True, "ret_msg": "", "op": "auth", "conn_id": "c1", "req_id": "a1"}, ("auth", "")),
        ({"success": False, "ret_msg": "Params Error", "op": "auth"}, ("auth", "Params Error")),
        ({"reqId": "a1", "retCode": 0, "retMsg": "OK", "op": "auth", "connId": "c2"}, ("auth", "")),
        ({"reqId": "a1", "retCode": 20001, "retMsg": "repeated", "op": "auth"}, ("auth", "")),
        ({"retCode": 10004, "retMsg": "sign", "op": "auth"}, ("auth", "10004: sign")),
        ({"success": False, "ret_msg": "", "op": "subscribe"}, ("subscribe", "refused")),
        ({"req_id": "", "op": "pong", "args": ["1700000000999"], "conn_id": "c"}, ("pong", "")),
    ],
)
def test_answers_are_read_in_both_styles(frame, said):
    ack = stream(frame)
    assert (ack.op, ack.wrong) == said


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"topic":"order","data":{}}',
        b'{"topic":"order","data":[{"symbol":1}]}',
        b'{"topic":"execution","data":[{"symbol":"A"}]}',
        msgspec.json.encode({"topic": "order", "data": [ORDER | {"qty": "NaN"}]}),
    ],
)
def test_a_frame_that_cannot_be_read_ends_the_stream_since_what_it_told_is_lost(raw: bytes):
    with pytest.raises(frames.Unreadable):
        stream(raw)


@given(st.binary(max_size=200))
def test_no_bytes_make_a_frame_raise_anything_else(raw: bytes):
    frames.hear(raw)
    frames.trade_answer(raw, False)
    try:
        stream(raw)
    except frames.Unreadable:
        pass


def trade(frame: dict[str, Any], change: bool = False) -> Any:
    return frames.trade_answer(msgspec.json.encode(frame), change)[0]


def test_whose_answer_a_trade_frame_is():
    def heard(frame: dict[str, Any]) -> Heard:
        return frames.hear(msgspec.json.encode(frame))

    assert heard({"reqId": "r", "retCode": 0, "op": "order.create"}).number == "r"
    nameless = heard({"success": False, "ret_msg": "Params Error", "op": "order.create", "conn_id": "c2"})
    assert nameless == Heard(op="order.create", complaint="Params Error")
    assert heard({"retCode": 0, "retMsg": "OK", "op": "pong", "data": ["1"]}) == Heard()
    assert heard({"retCode": 10003, "retMsg": "key", "op": "auth"}) == Heard(login=True, complaint="10003: key")


def test_what_the_answer_to_an_order_over_the_trade_socket_says():
    header = {"Timenow": "1700000000002", "X-Bapi-Limit": "10"}
    yes = {"reqId": "r", "retCode": 0, "op": "order.create", "data": {"orderId": "7d0c"}, "header": header}
    assert trade(yes).venue_order_id == "7d0c" and trade(yes).venue_ns == 1_700_000_000_002_000_000
    no = {"reqId": "r", "retCode": 110007, "retMsg": "ab not enough", "op": "order.create", "data": {}}
    assert trade(no) == Rejection("110007", "insufficient", "ab not enough")
    assert isinstance(trade({"reqId": "r", "op": "order.create"}), Silence), "an answer without a code"
    assert isinstance(trade({"reqId": "r", "retCode": 0, "data": "?"}), Silence)
    assert isinstance(trade({"reqId": "r", "retCode": "0"}), Silence), "a code of another type"
