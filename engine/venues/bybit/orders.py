"""Orders as Bybit wants them: bodies of create, amend, cancel and their batches. Docs: "Place Order" and siblings."""

from decimal import Decimal

from engine.core.messages import Cancel, InstrumentKind, Order, OrderType, Quote, Side, TimeInForce
from engine.core.money import plain

CATEGORY = {InstrumentKind.SPOT: "spot", InstrumentKind.LINEAR: "linear"}
BATCH_MAX = 10  # the pages contradict each other for linear (10 or 20)

_SIDES = {Side.BUY: "Buy", Side.SELL: "Sell"}
_TIFS = {
    TimeInForce.GTC: "GTC",
    TimeInForce.IOC: "IOC",
    TimeInForce.FOK: "FOK",
    TimeInForce.POST_ONLY: "PostOnly",
}
_MARKET = (OrderType.MARKET, OrderType.STOP_MARKET, OrderType.TAKE_PROFIT_MARKET)
_STOPS = (OrderType.STOP_MARKET, OrderType.STOP_LIMIT)
QUOTE_AGE_NS = 3_000_000_000  # an older quote refuses nothing


def passed(order: Order, kind: InstrumentKind, quote: Quote | None, now_ns: int) -> str:
    """Why a conditional order of spot must not be sent now; "" when it may.

    Spot tells the direction of a trigger from the market of the moment: a stop whose trigger the market has passed
    already is taken for a target, and would wait for the price to come back.
    """
    trigger = order.trigger_price
    if kind is not InstrumentKind.SPOT or trigger is None or quote is None or now_ns - quote.at_ns > QUOTE_AGE_NS:
        return ""
    rises = (order.order_type in _STOPS) == (order.side is Side.BUY)
    market = quote.ask if rises else quote.bid
    if (market < trigger) if rises else (market > trigger):
        return ""
    return f"the market, at {plain(market)}, has passed the trigger {plain(trigger)}: spot would take it the other way"


def create(order: Order, kind: InstrumentKind) -> dict[str, object]:
    """The body of `/v5/order/create`; also the argument of the trade socket's `order.create`."""
    market = order.order_type in _MARKET
    body: dict[str, object] = {
        "category": CATEGORY[kind],
        "symbol": order.symbol,
        "side": _SIDES[order.side],
        "orderType": "Market" if market else "Limit",
        "qty": plain(order.qty),
    }
    if not market:
        assert order.price is not None, f"{order.cid}: a limit order without a price"
        body["price"] = plain(order.price)
    body["timeInForce"] = "IOC" if market else _TIFS[order.tif]
    if kind is InstrumentKind.LINEAR:
        body["positionIdx"] = 0  # one-way mode
        body["reduceOnly"] = order.reduce_only
    elif market:
        body["marketUnit"] = "baseCoin"  # else a buy's quantity is read as quote, and leaves dust
    if order.order_type.conditional:
        body |= _trigger(order, kind)
    return body | {"orderLinkId": order.cid}


def amend(
    symbol: str,
    cid: str,
    kind: InstrumentKind,
    qty: Decimal | None = None,
    price: Decimal | None = None,
    trigger_price: Decimal | None = None,
) -> dict[str, object]:
    """The body of `/v5/order/amend`. `qty` is the new total, what is filled included. What is None stays."""
    assert (qty, price, trigger_price) != (None, None, None), "an amendment that changes nothing"
    values = (("qty", qty), ("price", price), ("triggerPrice", trigger_price))
    changed = {name: plain(value) for name, value in values if value is not None}
    return {"category": CATEGORY[kind], "symbol": symbol, "orderLinkId": cid, **changed}


def cancel(command: Cancel, kind: InstrumentKind, conditional: bool = False) -> dict[str, object]:
    """The body of `/v5/order/cancel`. By the venue's id where we know it, which wins over ours there."""
    which = {"orderId": command.venue_order_id} if command.venue_order_id else {"orderLinkId": command.cid}
    body: dict[str, object] = {"category": CATEGORY[kind], "symbol": command.symbol, **which}
    if kind is InstrumentKind.SPOT and conditional:
        body["orderFilter"] = "StopOrder"
    return body


def cancel_all(kind: InstrumentKind, symbol: str | None, settle_coin: str = "USDT") -> dict[str, object]:
    """The body of `/v5/order/cancel-all`: one symbol, or all (linear: all that settle in one coin)."""
    body: dict[str, object] = {"category": CATEGORY[kind]}
    if symbol is not None:
        return body | {"symbol": symbol}
    return body | ({"settleCoin": settle_coin} if kind is InstrumentKind.LINEAR else {})


def batch(kind: InstrumentKind, items: tuple[dict[str, object], ...]) -> dict[str, object]:
    """The body of `create-batch`, `amend-batch`, `cancel-batch` from bodies of the single calls."""
    assert 0 < len(items) <= BATCH_MAX, f"a batch of {len(items)}"
    category = CATEGORY[kind]
    return {"category": category, "request": [{k: v for k, v in item.items() if k != "category"} for item in items]}


def _trigger(order: Order, kind: InstrumentKind) -> dict[str, object]:
    assert order.trigger_price is not None, f"{order.cid}: a conditional order without a trigger"
    trigger: dict[str, object] = {"triggerPrice": plain(order.trigger_price)}
    if kind is InstrumentKind.SPOT:  # spot tells the direction from the market; funds are locked when it triggers
        return trigger | {"orderFilter": "StopOrder"}
    rises = (order.order_type in _STOPS) == (order.side is Side.BUY)
    return trigger | {"triggerDirection": 1 if rises else 2, "triggerBy": "LastPrice"}
