"""What exchangeInfo says, as an instrument."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from engine.core.messages import InstrumentKind, Leg, Order, OrderType, Quote, Side
from engine.venues.binance.errors import Market
from engine.venues.binance.filters import (
    ExchangeInfo,
    RateLimit,
    Rules,
    Symbol,
    Unusable,
    header_limits,
    limit_name,
    out_of_band,
    rules_of,
)

D = Decimal
SPOT: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "status": "TRADING",
    "baseAsset": "BTC",
    "baseAssetPrecision": 8,
    "quoteAsset": "USDT",
    "orderTypes": ["LIMIT", "LIMIT_MAKER", "MARKET", "STOP_LOSS", "STOP_LOSS_LIMIT", "TAKE_PROFIT"],
    "isSpotTradingAllowed": True,
    "cancelReplaceAllowed": True,
    "amendAllowed": True,
    "filters": [
        {"filterType": "PRICE_FILTER", "minPrice": "0.01000000", "maxPrice": "1000000.00", "tickSize": "0.01000000"},
        {"filterType": "LOT_SIZE", "minQty": "0.00001000", "maxQty": "9000.00000000", "stepSize": "0.00001000"},
        {"filterType": "MARKET_LOT_SIZE", "minQty": "0.00000000", "maxQty": "80.00000000", "stepSize": "0.00000000"},
        {"filterType": "NOTIONAL", "minNotional": "5.00000000", "applyMinToMarket": True, "maxNotional": "9000000.0"},
        {
            "filterType": "PERCENT_PRICE_BY_SIDE",
            "bidMultiplierUp": "5",
            "bidMultiplierDown": "0.2",
            "askMultiplierUp": "5",
            "askMultiplierDown": "0.2",
            "avgPriceMins": 5,
        },
        {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
        {"filterType": "MAX_NUM_ALGO_ORDERS", "maxNumAlgoOrders": 5},
        {"filterType": "MAX_POSITION", "maxPosition": "10.00000000"},
        {"filterType": "SOMETHING_NEW", "value": [1, 2]},
    ],
}
USDM: dict[str, Any] = {
    "symbol": "BTCUSDT",
    "pair": "BTCUSDT",
    "contractType": "PERPETUAL",
    "status": "TRADING",
    "baseAsset": "BTC",
    "quoteAsset": "USDT",
    "marginAsset": "USDT",
    "pricePrecision": 2,
    "quantityPrecision": 3,
    "orderTypes": ["LIMIT", "MARKET"],
    "filters": [
        {"filterType": "PRICE_FILTER", "minPrice": "556.80", "maxPrice": "4529764", "tickSize": "0.10"},
        {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "1000", "stepSize": "0.001"},
        {"filterType": "MARKET_LOT_SIZE", "minQty": "0.001", "maxQty": "120", "stepSize": "0.001"},
        {"filterType": "MAX_NUM_ORDERS", "limit": 200},
        {"filterType": "MIN_NOTIONAL", "notional": "100"},
        {"filterType": "PERCENT_PRICE", "multiplierUp": "1.05", "multiplierDown": "0.95", "multiplierDecimal": "4"},
    ],
}


def listed(row: dict[str, Any], **changes: Any) -> Symbol:
    return msgspec.convert({**row, **changes}, Symbol)


def with_filter(row: dict[str, Any], name: str, **changes: Any) -> Symbol:
    filters = [{**f, **changes} if f["filterType"] == name else f for f in row["filters"]]
    return listed(row, filters=filters)


def rules(market: Market, symbol: Symbol) -> Rules:
    found = rules_of(market, symbol)
    assert isinstance(found, Rules), found
    return found


def test_a_spot_symbol_becomes_an_instrument() -> None:
    found = rules(Market.SPOT, listed(SPOT))
    i = found.instrument
    assert (i.symbol, i.venue, i.kind, i.base, i.quote) == (
        "BTCUSDT",
        "binance-spot",
        InstrumentKind.SPOT,
        "BTC",
        "USDT",
    )
    assert (i.tick, i.lot, i.qty_min) == (Decimal("0.01"), Decimal("0.00001"), Decimal("0.00001"))
    assert i.notional_min == 5 and i.leverage_max == 1
    assert (found.stops_max, found.orders_max, found.position_max) == (5, 200, 10)
    assert (found.price_up, found.price_down) == (5, Decimal("0.2"))
    assert found.cancel_replace and found.amend


def test_a_usdm_symbol_goes_by_its_filters_not_by_its_precisions() -> None:
    found = rules(Market.USDM, listed(USDM))
    i = found.instrument
    assert (i.tick, i.lot, i.qty_min, i.notional_min) == (Decimal("0.10"), Decimal("0.001"), Decimal("0.001"), 100)
    assert (i.kind, i.venue) == (InstrumentKind.LINEAR, "binance-usdm")
    assert (found.price_up, found.price_down, found.orders_max) == (Decimal("1.05"), Decimal("0.95"), 200)


@pytest.mark.parametrize(("market", "row", "most"), [(Market.SPOT, SPOT, 80), (Market.USDM, USDM, 120)])
def test_what_fits_an_instrument_also_fits_a_market_order(market: Market, row: dict[str, Any], most: int) -> None:
    assert rules(market, listed(row)).instrument.qty_max == most


def test_the_wider_step_counts() -> None:
    found = rules(Market.USDM, with_filter(USDM, "MARKET_LOT_SIZE", stepSize="0.01", minQty="0.02"))
    assert found.instrument.lot == Decimal("0.01") and found.instrument.qty_min == Decimal("0.02")


def test_an_older_spot_symbol_has_its_minimum_under_the_older_name() -> None:
    row = {**SPOT, "filters": [*SPOT["filters"][:3], {"filterType": "MIN_NOTIONAL", "minNotional": "10.0"}]}
    found = rules(Market.SPOT, listed(row))
    assert found.instrument.notional_min == 10 and found.stops_max == 0


UNUSABLE = [
    (Market.SPOT, listed(SPOT, status="BREAK"), "BREAK"),
    (Market.SPOT, listed(SPOT, isSpotTradingAllowed=False), "not traded on spot"),
    (Market.SPOT, listed(SPOT, orderTypes=["LIMIT", "MARKET"]), "no stop orders"),
    (Market.SPOT, with_filter(SPOT, "PRICE_FILTER", tickSize="0"), "no price step"),
    (Market.SPOT, with_filter(SPOT, "LOT_SIZE", minQty="0.000015"), "odd number"),
    (Market.USDM, listed(USDM, status="SETTLING"), "SETTLING"),
    (Market.USDM, listed(USDM, contractType="CURRENT_QUARTER_DELIVERING"), "contract"),
    (Market.USDM, listed(USDM, marginAsset="BTC"), "margined in BTC"),
    (Market.USDM, with_filter(USDM, "PRICE_FILTER", minPrice="556.85"), "odd number"),
    (Market.USDM, with_filter(USDM, "LOT_SIZE", stepSize="0"), "no quantity step"),
]


@pytest.mark.parametrize(("market", "symbol", "why"), UNUSABLE)
def test_a_symbol_that_cannot_be_told_or_protected_is_left_out(market: Market, symbol: Symbol, why: str) -> None:
    found = rules_of(market, symbol)
    assert isinstance(found, Unusable) and why in found.why


def test_numbers_stay_as_exact_as_they_were_written() -> None:
    raw = msgspec.json.encode({"symbols": [SPOT], "rateLimits": []})
    info = msgspec.json.decode(raw, type=ExchangeInfo)
    assert str(rules(Market.SPOT, info.symbols[0]).instrument.tick) == "0.01000000"


def test_limits_have_the_same_name_wherever_they_are_told() -> None:
    assert limit_name(RateLimit("ORDERS", "SECOND", 10, 100)) == "orders-10S"
    assert limit_name(RateLimit("REQUEST_WEIGHT", "MINUTE", 1, 6000)) == "weight-1M"
    assert limit_name(RateLimit("RAW_REQUESTS", "MINUTE", 5, 61000)) == ""
    headers = (
        ("X-MBX-USED-WEIGHT-1M", "120"),
        ("x-mbx-order-count-10s", "3"),
        ("X-MBX-ORDER-COUNT-1D", "-1"),
        ("X-MBX-USED-WEIGHT", "120"),
        ("Retry-After", "5"),
    )
    assert header_limits(headers) == (("weight-1M", 120), ("orders-10S", 3))


@pytest.mark.parametrize(
    ("side", "price", "inside"),
    [
        (Side.BUY, "115.5", True),
        (Side.BUY, "115.6", False),
        (Side.BUY, "1", True),
        (Side.SELL, "95", True),
        (Side.SELL, "94.9", False),
        (Side.SELL, "500", True),
    ],
)
def test_an_entry_whose_price_the_venue_would_not_take_is_kept_back(side: Side, price: str, inside: bool) -> None:
    banded = replace(rules(Market.USDM, listed(USDM)), price_up=D("1.05"), price_down=D("0.95"))
    quote = Quote("BTCUSDT", bid=D(100), ask=D(110), at_ns=10**18)
    entry = Order(
        cid="x",
        account="main",
        symbol="BTCUSDT",
        signal_id="s",
        leg=Leg.ENTRY,
        attempt=0,
        side=side,
        order_type=OrderType.LIMIT,
        qty=D(1),
        price=D(price),
    )
    assert (out_of_band(banded, entry, quote, 10**18) == "") is inside
    assert out_of_band(banded, replace(entry, reduce_only=True), quote, 10**18) == "", "what closes always goes"
    assert out_of_band(banded, entry, quote, 10**18 + 4 * 10**9) == "", "an old quote refuses nothing"
    assert out_of_band(replace(banded, price_up=D(0), price_down=D(0)), entry, quote, 10**18) == ""
