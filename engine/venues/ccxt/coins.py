"""Spot: nothing but the wallet's bottom keeps a sale from selling more than was bought here."""

from collections.abc import Callable

from engine.core.ids import is_ours
from engine.core.messages import (
    Answer,
    Cancel,
    FillReport,
    InstrumentKind,
    Order,
    OrderReport,
    Rejection,
    Side,
    Silence,
)
from engine.core.times import SECOND
from engine.venues.binance.spot_cover import Sales
from engine.venues.ccxt import orders, rows
from engine.venues.ccxt.entry import Entry, OrderOf
from engine.venues.ccxt.promises import FREE_STOPS
from engine.venues.ccxt.site import Site

DEAD_NS = 70 * SECOND  # window, queue and visibility: after that, what is not found never came


class Coins:
    """What of ours is selling, and which of our stops have locked coins. Futures have none of it."""

    def __init__(self, site: Site, order_of: OrderOf) -> None:
        self._site, self._order = site, order_of
        self._stops: dict[str, dict[str, None]] = {}  # by symbol: our stops that have locked coins, oldest first
        self._sales: dict[str, Sales] = {}  # by symbol

    def sold_by(self, order: Order) -> bool:
        return self._site.terms.kind is InstrumentKind.SPOT and order.side is Side.SELL

    async def sell(
        self, entry: Entry, order: Order, held: rows.Listing, arguments: orders.Arguments, on_wire: Callable[[], None]
    ) -> Answer:
        """On spot nothing but the wallet's bottom keeps a sale from selling more than was bought here: one at a time,
        and where a resting stop has locked the coins it goes first. Nothing is sold before it has surely gone."""
        if not order.reduce_only:
            return Rejection("spot", "invalid", "spot cannot be short: only what was bought here can be sold")
        sales = self._sales.setdefault(order.symbol, Sales())
        standing = [] if self._site.able.exchange in FREE_STOPS else list(self._stops.get(order.symbol, ()))
        if why := sales.holds_back(order, bool(standing)):
            return Rejection("spot", "not_sent", why)
        for cid in standing:
            if refused := await self._take_away(entry, cid, order.symbol, held):
                return refused
        answer = await entry.place(order, arguments, on_wire)
        if isinstance(answer, Silence):
            sales.doubt(order.cid, self._site.clock.now_ns())
        if order.order_type.conditional and not isinstance(answer, Rejection):
            self._stops.setdefault(order.symbol, {})[order.cid] = None
        return answer

    def hears(self, report: OrderReport) -> None:
        """What every report of an order teaches about stops that lock coins, and about sales in doubt."""
        if self._site.terms.kind is not InstrumentKind.SPOT or report.side is not Side.SELL or not is_ours(report.cid):
            return
        stops = self._stops.setdefault(report.symbol, {})
        if report.status == "open" and report.order_type.conditional:
            stops[report.cid] = None
        else:
            stops.pop(report.cid, None)
        sales = self._sales.setdefault(report.symbol, Sales())
        sales.hears(report.cid, self._site.clock.now_ns(), report.status != "open" and report.filled_qty > 0)

    def hears_fill(self, fill: FillReport) -> None:
        if fill.side is Side.SELL and fill.symbol in self._sales:
            self._sales[fill.symbol].hears(fill.cid, self._site.clock.now_ns(), True)

    def absent(self, symbol: str, cid: str) -> None:
        """The exchange does not know it, and that means something there."""
        if symbol in self._sales:
            self._sales[symbol].absent(cid, self._site.clock.now_ns(), DEAD_NS)

    async def _take_away(self, entry: Entry, cid: str, symbol: str, held: rows.Listing) -> Rejection | None:
        """A stop that stands in the way is cancelled; None when it surely has gone, and has sold nothing."""
        await entry.cancel_one(Cancel(cid, symbol), held, False)
        match await self._order(symbol, cid):
            case OrderReport(status="canceled" | "expired" | "rejected", filled_qty=filled) if not filled:
                return None
            case OrderReport(status="open"):
                why = "the stop that holds the coins still stands"
            case OrderReport():
                why = "the stop that held the coins has sold some"
            case other:
                why = f"the stop that holds the coins is in doubt: {other}"
        return Rejection("spot", "not_sent", why)
