"""From `exchangeInfo` to instruments. Pure. Pages "Filters" (spot) and "Common Definition" (USD-M).

An instrument has one step and one pair of bounds for each quantity; Binance has others for market orders. The narrower
of both is taken, so that whatever fits the instrument also fits as a market order, which is how a position is closed in
need. A symbol whose rules an instrument cannot tell, or that cannot be protected by a stop, is left out.
"""

from decimal import Decimal

from msgspec import Struct

from engine.core.messages import ZERO, Instrument, InstrumentKind, Order, Quote, Side
from engine.core.money import on_step, step_up
from engine.core.order import opens
from engine.venues.binance.errors import Market
from engine.venues.resting import Places

NAME = {Market.SPOT: "binance-spot", Market.USDM: "binance-usdm"}
# The fees of an account without discounts; what is really paid comes with each execution.
SPOT_FEES = (Decimal("0.001"), Decimal("0.001"))
USDM_FEES = (Decimal("0.0002"), Decimal("0.0005"))
USDM_LEVERAGE_MAX = Decimal(125)  # each symbol's own is behind a signed query, and the venue holds to it


class Filter(Struct, frozen=True):
    """Any one of them; the fields of the others are at their defaults."""

    filterType: str
    minPrice: Decimal = ZERO
    tickSize: Decimal = ZERO
    minQty: Decimal = ZERO
    maxQty: Decimal = ZERO
    stepSize: Decimal = ZERO
    minNotional: Decimal = ZERO  # spot
    notional: Decimal = ZERO  # USD-M calls it so
    multiplierUp: Decimal = ZERO
    multiplierDown: Decimal = ZERO
    bidMultiplierUp: Decimal = ZERO
    askMultiplierDown: Decimal = ZERO
    maxNumAlgoOrders: int = 0
    maxNumOrders: int = 0
    maxPosition: Decimal = ZERO
    limit: int = 0


class Symbol(Struct, frozen=True):
    symbol: str
    status: str
    baseAsset: str
    quoteAsset: str
    filters: tuple[Filter, ...]
    orderTypes: tuple[str, ...] = ()
    contractType: str = ""
    marginAsset: str = ""
    isSpotTradingAllowed: bool = True
    cancelReplaceAllowed: bool = True
    amendAllowed: bool = False


class RateLimit(Struct, frozen=True):
    rateLimitType: str
    interval: str
    intervalNum: int
    limit: int
    count: int = 0


class ExchangeInfo(Struct, frozen=True):
    symbols: tuple[Symbol, ...]
    rateLimits: tuple[RateLimit, ...] = ()


class Rules(Struct, frozen=True):
    """An instrument, and what else the venue holds an order in it to. Zero: no such rule."""

    instrument: Instrument
    stops_max: int  # open conditional orders at once
    orders_max: int
    price_up: Decimal  # a buy's price is at most this many times the reference price
    price_down: Decimal  # a sale's is at least this
    position_max: Decimal
    cancel_replace: bool
    amend: bool

    @property
    def places(self) -> Places:
        """USD-M counts conditional orders over all symbols."""
        if self.instrument.kind is InstrumentKind.SPOT:
            return Places(orders=self.orders_max, stops=self.stops_max)
        return Places(orders=self.orders_max, stops_of_all=self.stops_max)


class Unusable(Struct, frozen=True):
    """A listed symbol that is not offered, and why."""

    symbol: str
    why: str


def rules_of(market: Market, listed: Symbol) -> Rules | Unusable:
    """Numbers are as exact as the venue wrote them."""
    if (why := _closed(market, listed)) is not None:
        return Unusable(listed.symbol, why)
    by_type = {f.filterType: f for f in listed.filters}
    nothing = Filter("")
    price, lot = by_type.get("PRICE_FILTER", nothing), by_type.get("LOT_SIZE", nothing)
    at_market = by_type.get("MARKET_LOT_SIZE", nothing)
    step = max(lot.stepSize, at_market.stepSize)
    if price.tickSize <= 0 or step <= 0 or lot.stepSize <= 0:
        return Unusable(listed.symbol, "has no price step or no quantity step")
    # Quantities are counted from the minimum and prices from theirs; an instrument counts both from zero.
    even = on_step(lot.minQty, lot.stepSize) and on_step(at_market.minQty, at_market.stepSize or step)
    if not (even and on_step(step, lot.stepSize) and on_step(price.minPrice, price.tickSize)):
        return Unusable(listed.symbol, "has steps that begin at an odd number")
    spot = market is Market.SPOT
    worth, sides = by_type.get("NOTIONAL", nothing), by_type.get("PERCENT_PRICE_BY_SIDE", nothing)
    percent = by_type.get("PERCENT_PRICE", nothing)
    maker, taker = SPOT_FEES if spot else USDM_FEES
    instrument = Instrument(
        symbol=listed.symbol,
        venue=NAME[market],
        kind=InstrumentKind.SPOT if spot else InstrumentKind.LINEAR,
        base=listed.baseAsset,
        quote=listed.quoteAsset,
        tick=price.tickSize,
        lot=step,
        qty_min=step_up(max(lot.minQty, at_market.minQty, step), step),
        qty_max=min(m for m in (lot.maxQty, at_market.maxQty, _MOST) if m > 0),
        notional_min=_notional_min(by_type.get("MIN_NOTIONAL", nothing), worth),
        maker_fee=maker,
        taker_fee=taker,
        leverage_max=Decimal(1) if spot else USDM_LEVERAGE_MAX,
    )
    return Rules(
        instrument=instrument,
        stops_max=by_type.get("MAX_NUM_ALGO_ORDERS", nothing).maxNumAlgoOrders if spot else 200,
        orders_max=by_type.get("MAX_NUM_ORDERS", nothing).maxNumOrders or by_type.get("MAX_NUM_ORDERS", nothing).limit,
        price_up=sides.bidMultiplierUp or percent.multiplierUp,
        price_down=sides.askMultiplierDown or percent.multiplierDown,
        position_max=by_type.get("MAX_POSITION", nothing).maxPosition,
        cancel_replace=listed.cancelReplaceAllowed,
        amend=listed.amendAllowed if spot else True,
    )


QUOTE_AGE_NS = 3_000_000_000  # an older quote refuses nothing


def out_of_band(rules: Rules, order: Order, quote: Quote | None, now_ns: int) -> str:
    """Why the venue would not take an opener's price; "". The venue measures against a price of its own (the mark, or
    an average), so only what lies outside by the better side of the book is kept back."""
    if order.price is None or not opens(order) or quote is None or now_ns - quote.at_ns > QUOTE_AGE_NS:
        return ""
    highest, lowest = quote.ask * rules.price_up, quote.bid * rules.price_down
    if order.side is Side.BUY and highest and order.price > highest:
        return f"PERCENT_PRICE: {order.price} is more than {rules.price_up} times the ask, {quote.ask}"
    if order.side is Side.SELL and lowest and order.price < lowest:
        return f"PERCENT_PRICE: {order.price} is less than {rules.price_down} times the bid, {quote.bid}"
    return ""


_MOST = Decimal(10) ** 15


def _notional_min(older: Filter, newer: Filter) -> Decimal:
    """Spot has one of two filters for it, USD-M writes it under another name."""
    return max(older.minNotional, older.notional, newer.minNotional)


def _closed(market: Market, listed: Symbol) -> str | None:
    if listed.status != "TRADING":
        return f"is {listed.status}"
    if market is Market.SPOT:
        if not listed.isSpotTradingAllowed:
            return "is not traded on spot"
        return None if "STOP_LOSS" in listed.orderTypes else "takes no stop orders: a position could not be protected"
    if listed.contractType not in ("PERPETUAL", "CURRENT_QUARTER", "NEXT_QUARTER", "TRADIFI_PERPETUAL"):
        return f"is a contract of type {listed.contractType!r}"
    if listed.marginAsset != listed.quoteAsset:
        return f"is margined in {listed.marginAsset}"
    return None


# The rate limits a header or an answer can speak of, as the throttle names them.
_LETTERS = {"SECOND": "S", "MINUTE": "M", "HOUR": "H", "DAY": "D"}


def limit_name(limit: RateLimit) -> str:
    """'weight-1M', 'orders-10S'; '' for one that we do not count."""
    kind = {"REQUEST_WEIGHT": "weight", "ORDERS": "orders"}.get(limit.rateLimitType)
    letter = _LETTERS.get(limit.interval)
    return f"{kind}-{limit.intervalNum}{letter}" if kind and letter else ""


def header_limits(headers: tuple[tuple[str, str], ...]) -> tuple[tuple[str, int], ...]:
    """The venue's own counts in an HTTP answer: (limit, used). -1 and other nonsense tell nothing."""
    told = []
    for name, value in headers:
        lower = name.lower()
        for prefix, kind in (("x-mbx-used-weight-", "weight"), ("x-mbx-order-count-", "orders")):
            if lower.startswith(prefix) and value.isdecimal() and len(value) < 10:
                told.append((f"{kind}-{lower.removeprefix(prefix).upper()}", int(value)))
    return tuple(told)
