"""ccxt's rows as our reports: exact, or not at all."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from engine.core.messages import InstrumentKind, OrderType, Side
from engine.venues.ccxt.rows import (
    BadRow,
    BalanceRow,
    FundingRow,
    Listing,
    MarketRow,
    OrderRow,
    PositionRow,
    TradeRow,
    balance_report,
    fill_report,
    funding_report,
    listing,
    order_report,
    position_report,
)

D = Decimal
LINEAR, SPOT = InstrumentKind.LINEAR, InstrumentKind.SPOT
MARKET: dict[str, Any] = {
    "symbol": "BTC/USDT:USDT",
    "base": "BTC",
    "quote": "USDT",
    "settle": "USDT",
    "linear": True,
    "active": True,
    "contract_size": "0.01",
    "amount_step": "1",
    "price_step": "0.1",
    "amount_min": "2",
    "amount_max": "1000",
    "cost_min": "5",
    "maker": "0.0002",
    "taker": "0.0005",
    "leverage_max": 50,
}
ORDER: dict[str, Any] = {
    "id": "77",
    "clientOrderId": "mine",
    "symbol": "BTC/USDT:USDT",
    "type": "limit",
    "side": "buy",
    "status": "open",
    "amount": "3",
    "filled": "1",
    "price": "60000.1",
    "timestamp": 1_700_000_000_123,
}
TRADE: dict[str, Any] = {
    "id": "5",
    "order": "77",
    "side": "sell",
    "amount": "3",
    "price": "60000.12345678",
    "takerOrMaker": "maker",
    "timestamp": 1_700_000_000_123,
    "fees": [{"cost": "-0.00000001", "currency": "BNB"}],
}


def market(**changed: Any) -> MarketRow:
    return msgspec.convert({**MARKET, **changed}, MarketRow)


def order(**changed: Any) -> OrderRow:
    return msgspec.convert({**ORDER, **changed}, OrderRow)


def trade(**changed: Any) -> TradeRow:
    return msgspec.convert({**TRADE, **changed}, TradeRow)


def held(**changed: Any) -> Listing:
    found = listing(market(**changed), "okx", LINEAR, 4)
    assert found is not None
    return found


def test_contracts_become_base_quantities_exactly() -> None:
    one = held()
    assert (one.contract, one.instrument.lot, one.instrument.qty_min) == (D("0.01"), D("0.01"), D("0.02"))
    assert (one.instrument.symbol, one.instrument.tick, one.instrument.leverage_max) == ("BTCUSDT", D("0.1"), 50)
    report = order_report(order(), one, "mine")
    assert (report.qty, report.filled_qty, report.price) == (D("0.03"), D("0.01"), D("60000.1"))
    fill = fill_report(trade(), one, "mine")
    assert (fill.qty, fill.price, fill.fee, fill.fee_asset) == (D("0.03"), D("60000.12345678"), D("-0.00000001"), "BNB")
    assert (fill.exec_id, fill.maker, fill.side, fill.venue_ns) == ("5/77", True, Side.SELL, 1_700_000_000_123_000_000)
    position = position_report(PositionRow("BTC/USDT:USDT", "7", side="short", entryPrice="60000"), one, 9)
    assert position is not None and (position.qty, position.avg_price) == (D("-0.07"), 60000)
    assert position_report(PositionRow("BTC/USDT:USDT", "0"), one, 9) is None


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        (MarketRow, {**MARKET, "amount_step": 0.1}),
        (OrderRow, {**ORDER, "amount": 0.1}),
        (OrderRow, {**ORDER, "filled": 1.0}),
        (TradeRow, {**TRADE, "price": 60000.1}),
        (PositionRow, {"symbol": "x", "contracts": 0.5}),
        (BalanceRow, {"asset": "BTC", "total": 0.1}),
        (FundingRow, {"amount": 0.1}),
        (OrderRow, {**ORDER, "status": 7}),
        (TradeRow, {**TRADE, "fees": "none"}),
    ],
)
def test_a_float_or_another_type_makes_a_row_unreadable(row: Any, kind: dict[str, Any]) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(msgspec.json.encode(kind), type=row)


@pytest.mark.parametrize(
    "changed",
    [
        {"id": None},
        {"amount": None},
        {"amount": "many"},
        {"amount": "NaN"},
        {"amount": "1e400"},
        {"side": None},
        {"side": "up"},
        {"status": None},
        {"status": "gone fishing"},
        {"status": "closed", "filled": None},
        {"price": "Infinity"},
    ],
)
def test_an_order_that_does_not_say_what_it_must_is_no_report(changed: dict[str, Any]) -> None:
    with pytest.raises(BadRow):
        order_report(order(**changed), held(), "mine")


@pytest.mark.parametrize(
    "changed",
    [
        {"id": None},
        {"order": None},
        {"amount": None},
        {"amount": "0"},
        {"price": "-1"},
        {"price": None},
        {"side": "both"},
        {"timestamp": None},
        {"fees": [{"cost": "1", "currency": "BNB"}, {"cost": "2", "currency": "BTC"}]},
        {"fees": [{"cost": "1", "currency": None}]},
    ],
)
def test_an_execution_that_does_not_say_what_it_must_is_no_report(changed: dict[str, Any]) -> None:
    with pytest.raises(BadRow):
        fill_report(trade(**changed), held(), "mine")


@pytest.mark.parametrize(
    "changed",
    [
        {"amount_step": None},
        {"amount_step": "0"},
        {"price_step": "cheap"},
        {"contract_size": None},
        {"contract_size": "-1"},
        {"cost_min": "NaN"},
    ],
)
def test_a_market_without_its_steps_is_not_traded(changed: dict[str, Any]) -> None:
    with pytest.raises(BadRow):
        listing(market(**changed), "okx", LINEAR, 4)


def test_only_markets_of_our_kind_that_are_open_are_listed() -> None:
    assert listing(market(linear=False), "okx", LINEAR, 4) is None
    assert listing(market(settle="BTC"), "okx", LINEAR, 4) is None
    assert listing(market(active=False), "okx", LINEAR, 4) is None
    spot = listing(market(linear=None, settle=None, contract_size=None), "okx", SPOT, 4)
    assert spot is not None and spot.contract == 1
    places = listing(market(amount_step=3, price_step=1), "old", LINEAR, 2)
    assert places is not None and places.instrument.tick == D("0.1") and places.instrument.lot == D("0.00001")
    with pytest.raises(BadRow):
        listing(market(amount_step=3, price_step=5), "bitfinex", LINEAR, 3)  # significant digits are no steps


def test_states_and_kinds_of_orders() -> None:
    def status(**changed: Any) -> str:
        return order_report(order(**changed), held(), "").status

    assert status(status="closed", filled="3") == "filled"
    assert status(status="closed", filled="2") == "canceled", "ended with a rest"
    assert (status(status="canceling"), status(status="expired"), status(status="rejected")) == (
        "open",
        "expired",
        "rejected",
    )
    stop = order_report(order(type="market", stopLossPrice="59000", reduceOnly=True), held(), "")
    assert (stop.order_type, stop.trigger_price, stop.reduce_only) == (OrderType.STOP_MARKET, 59000, True)
    target = order_report(order(type="limit", takeProfitPrice="62000"), held(), "")
    assert target.order_type is OrderType.TAKE_PROFIT_LIMIT
    filled_at = order_report(order(type="market", price="63000"), held(), "")
    assert filled_at.price is None, "a market order has no price; ccxt tells what it was filled at"


def test_balances_and_funding() -> None:
    assert balance_report(BalanceRow("BTC", "1.00000001", None)).total == D("1.00000001")
    with pytest.raises(BadRow):
        balance_report(BalanceRow("BTC", None))
    paid = funding_report(FundingRow("f1", amount="-0.5", code="USDT", timestamp=5), held())
    assert (paid.amount, paid.funding_id, paid.venue_ns) == (D("-0.5"), "f1", 5_000_000)
    charged = funding_report(FundingRow("f1", amount="0.5", code="USDT", timestamp=5), held(), charges=True)
    assert charged == paid, "by Bybit's execFee, which ccxt passes on as it is, what is positive was paid"
    with pytest.raises(BadRow):
        funding_report(FundingRow("f1", amount=None, timestamp=5), held())
    with pytest.raises(BadRow):
        position_report(PositionRow("x", "1", side=None), held(), 0)
