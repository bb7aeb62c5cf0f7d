"""What an exchange can do by ccxt, read off its `has` and `features`; and, in words, what that leaves unpromised. Pure.

The sets of names are what the sources of the pinned version do, where `has` and `features` are silent about it.
"""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from engine.core.messages import InstrumentKind
from engine.venues.admission import Remark
from engine.venues.ccxt.lines import Ready


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# Whose orders take a client's own id by ccxt's `clientOrderId`, and show it. Not those whose ids are of another form
# than our 29 letters and digits (blockchaincom, dydx, gate, hyperliquid, kraken, lighter): they trade without.
MARKS = _names(
    """
    alpaca apex aster backpack bigone binance binancecoinm binanceus binanceusdm bingx bitfinex bitget bithumb
    bitrue bitstamp bittrade btcmarkets btcturk btse bybit bybiteu bybitid bydfi cex coinbase coinbaseexchange
    coinbaseinternational cryptocom cryptomus deepcoin delta derive extended foxbit gemini grvt hashkey htx
    krakenfutures kucoin kucoinfutures latoken lbank mexc modetrade myokx ndax okx okxus onetrading pacifica
    paradex phemex poloniex polymarket revolutx tokocrypto upbit weex whitebit woo woofipro zebpay
    """
)
# Whose `fetch_order` finds an order by `clientOrderId`; Bybit's lists do.
LOOKS = _names(
    """
    apex aster binance binancecoinm binanceus binanceusdm bitget bithumb bitrue bitstamp coinbaseexchange delta
    extended grvt hashkey htx kucoin kucoinfutures mexc modetrade myokx okx okxus paradex phemex weex woo
    woofipro
    """
)
CANCELS = _names(
    """
    apex aster backpack binance binancecoinm binanceus binanceusdm bingx bitfinex bitget bithumb bitrue btse
    coinbaseexchange derive extended grvt hashkey htx lbank mexc modetrade myokx ndax okx okxus onetrading
    pacifica paradex phemex poloniex weex woo woofipro zebpay
    """
)
BYBIT = _names("bybit bybiteu bybitid")
# Whose rules we know well enough to say that an order which is not found, long after its request, never was there.
PROVES = BYBIT | _names("binance binanceus binanceusdm")
EDITS = BYBIT | _names("binanceusdm okx")  # in place: elsewhere it is a cancel and a new order
SWAPS_IDS = _names("binance binanceus")  # spot: a cancelled order is known by the id of its cancel
CHARGES = BYBIT | _names("phemex")  # whose funding is told as a fee: what was paid is positive
FREE_STOPS = BYBIT  # spot: an untriggered stop locks no coins


class Abilities(Struct, frozen=True, kw_only=True):
    exchange: str
    kind: InstrumentKind
    version: str
    clock: bool  # tells its time
    window: bool  # refuses a request that is old
    marks: bool  # carries our client id, and shows it
    looks: bool  # finds an order by it
    cancels: bool  # cancels by it
    edits: bool
    one_order: bool  # tells one order by its own id
    closed_orders: str  # ccxt's method for orders that are not open any more; "" when there is none
    stops: str  # "stopLossPrice", "triggerPrice", or "": none
    trigger_lists: bool  # untriggered orders are listed apart
    trigger_asks: bool  # ... and asked for apart
    tifs: tuple[str, ...]
    buys_by_quote: bool  # a market buy says how much to spend, not how much to get
    trades_limit: int  # of one answer
    trades_days: int  # that one question may span; 0: no end can be given
    orders_limit: int
    funding: bool
    charges: bool  # it is told as a fee
    leverage: bool
    position_mode: bool
    missing: tuple[str, ...]  # without which there is no trading


def abilities(ready: Ready, kind: InstrumentKind) -> Abilities:
    """What can be relied on, read off what ccxt says of the exchange; what it does not say is not there."""
    has, name = ready.has, ready.exchange
    linear = kind is InstrumentKind.LINEAR
    create, trades, opened = (_part(ready, what) for what in ("createOrder", "fetchMyTrades", "fetchOpenOrders"))
    one = _part(ready, "fetchOrder")
    needed = ["createOrder", "cancelOrder", "fetchOpenOrders", "fetchMyTrades", "fetchBalance"]
    needed += ["fetchPositions"] if linear else []
    can = {word: bool(has.get(word)) for word in (*needed, "fetchOrder", "fetchTime")}
    tifs = create.get("timeInForce") or {}
    return Abilities(
        exchange=name,
        kind=kind,
        version=ready.version,
        clock=can["fetchTime"],
        window=ready.window,
        marks=name in MARKS,
        looks=name in LOOKS or name in BYBIT,
        cancels=name in CANCELS or name in BYBIT,
        edits=linear and name in EDITS and bool(has.get("editOrder")),
        one_order=can["fetchOrder"],
        closed_orders=_closed(has, name),
        stops=next((word for word in ("stopLossPrice", "triggerPrice") if create.get(word)), ""),
        trigger_lists=bool(opened.get("trigger")),
        trigger_asks=bool(one.get("trigger")),
        tifs=tuple(word for word in ("IOC", "FOK", "PO") if tifs.get(word)),
        buys_by_quote=not linear and bool(create.get("marketBuyRequiresPrice")) and name not in BYBIT,
        trades_limit=_number(trades.get("limit")) or 50,
        trades_days=_number(trades.get("untilDays")),
        orders_limit=_number(opened.get("limit")),
        funding=linear and bool(has.get("fetchFundingHistory")),
        charges=name in CHARGES,
        leverage=bool(has.get("setLeverage")),
        position_mode=has.get("fetchPositionMode") is True,
        missing=tuple(word for word in needed if not can[word]),
    )


def promises(able: Abilities, poll_seconds: float) -> tuple[Remark, ...]:
    """What is to be said before anybody trades here; what is not `ok` prevents it."""
    name = able.exchange
    found = [
        Remark("ccxt", True, f"{name} by ccxt {able.version}, in processes of its own; slower than a native venue")
    ]
    if able.missing:
        found.append(Remark("ccxt", False, f"ccxt cannot do this with {name}: {', '.join(able.missing)}"))
    notes = [
        f"private events are asked for every {poll_seconds:g} s: a fill, and the stop behind it, come so much later",
        "the end of a ban, the rights of the key and the account's own fees are not told, nor is every exchange's fee "
        "of an execution: one that is not is booked without",
    ]
    found += [Remark("unpromised", True, text) for text in (*notes, *_unpromised(able))]
    return tuple(found)


def settles_absence(able: Abilities) -> bool:
    """Whether "not found" by client id may ever end an order in doubt."""
    return able.looks and able.window and able.exchange in PROVES


def _unpromised(able: Abilities) -> list[str]:
    found = []
    if not able.marks:
        found.append(
            "orders carry no client id of ours: after a restart one of them looks like a stranger's, and one in doubt "
            "can only be settled by a person"
        )
    if not able.looks:
        found.append(
            "no look-up by client id: an order without an answer stays in doubt until the lists of orders and trades "
            "show it, or a person decides; it is never sent again"
        )
    elif not settles_absence(able):
        found.append(
            "an order that is not found may still come: one in doubt stays so until it is seen, or a person decides"
        )
    if not able.stops:
        found.append(
            "no stop orders: a position that needs a stop is closed as soon as it is opened; only hedges whose stop is "
            "waived, or an account without stop_required, can be held"
        )
    if able.kind is InstrumentKind.SPOT and able.stops and able.exchange not in FREE_STOPS:
        found.append("a stop locks the coins it sells: an exit or a new stop first cancels it, and targets are refused")
    if not able.clock:
        found.append("the exchange tells no time: our own clock is used")
    if able.buys_by_quote:
        found.append("market buys are by amount of quote here: they are refused, use limit orders")
    if not able.trades_days:
        found.append(
            f"more than {able.trades_limit} executions since the last look cannot be read, and close the entries"
        )
    lacks = [word for word in ("IOC", "FOK", "PO") if word not in able.tifs]
    if lacks:
        found.append(f"no {', '.join(lacks)} orders: they are refused")
    found.append(
        "deposits, withdrawals and transfers are not told: they show as a change of balance that nothing explains"
    )
    if able.kind is InstrumentKind.LINEAR:
        found.append("liquidations and deleveraging may show only as a position that differs, which stops its symbol")
        if able.exchange not in PROVES:
            found.append("a balance may have unrealised profit in it, which then counts twice in the account's equity")
        if not able.funding:
            found.append("funding is not told: it shows in the balance only")
    return found


def _part(ready: Ready, method: str) -> Mapping[str, Any]:
    found = ready.features.get(method)
    return found if isinstance(found, dict) else {}


def _closed(has: Mapping[str, Any], name: str) -> str:
    if name in BYBIT:
        return "fetch_canceled_and_closed_orders"
    if has.get("fetchOrders") is True:
        return "fetch_orders"
    return "fetch_closed_orders" if has.get("fetchClosedOrders") is True else ""


def _number(value: object) -> int:
    return value if isinstance(value, int) and value > 0 else 0
