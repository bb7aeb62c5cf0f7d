"""An account's executions, and whose they are: a row tells only the number of its order, whose owner is then asked for.

Where one is asked about alone and its order's number is known, by that; else all of a symbol since a moment.
"""

from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from engine.core.messages import Failed, FillReport, NotFound, OrderReport
from engine.core.times import MILLISECOND, SECOND
from engine.venues.binance.decoding import Odd
from engine.venues.binance.errors import Verdict
from engine.venues.binance.names import Names
from engine.venues.binance.paging import PAGE, Fetch, trades_since

SHOWN_NS = 30 * SECOND  # an order is shown to queries within this, as Traits.visible_ns has it


class Executed(Protocol):
    @property
    def symbol(self) -> str: ...

    @property
    def id(self) -> int: ...

    @property
    def orderId(self) -> int: ...

    @property
    def time(self) -> int: ...


R = TypeVar("R", bound=Executed)
OrderOf = Callable[[str, int], Awaitable[OrderReport | NotFound | Failed]]
"""The order of this symbol with this number, as the venue has it now."""


class Executions(Generic[R]):
    """Of one market. `fill` reads a row, given its owner's client id; it may raise Odd."""

    def __init__(
        self, names: Names, fetch: "Fetch[R]", fill: Callable[[R, str], FillReport], order_of: OrderOf, window_ns: int
    ) -> None:
        """`window_ns`: how wide one question may be."""
        self._names = names
        self._fetch = fetch
        self._fill = fill
        self._order_of = order_of
        self._window_ms = window_ns // MILLISECOND

    async def found(
        self, symbols: tuple[str, ...], since_ns: int, now_ns: int, cid: str | None
    ) -> tuple[FillReport, ...] | Failed:
        """Oldest first, of these symbols, or of one order; all pages."""
        if cid is not None and (symbol := self._names.symbol(cid)):
            symbols = (symbol,)
        found: list[FillReport] = []
        for symbol in symbols:
            fills = await self._of_symbol(symbol, since_ns, now_ns, cid)
            if isinstance(fills, Failed):
                return fills
            found += fills
        return tuple(sorted(found, key=lambda fill: fill.venue_ns))

    async def _of_symbol(self, symbol: str, since_ns: int, now_ns: int, cid: str | None) -> list[FillReport] | Failed:
        number = self._names.number(cid) if cid is not None else ""
        rows: tuple[R, ...] | Verdict = ()
        if number:
            rows = await self._fetch({"symbol": symbol, "orderId": int(number), "limit": PAGE})
        if not number or (not isinstance(rows, Verdict) and len(rows) >= PAGE):  # of one order there is one page only
            since_ms, now_ms = since_ns // MILLISECOND, now_ns // MILLISECOND
            rows = await trades_since(self._fetch, symbol, since_ms, now_ms, self._window_ms)
        if isinstance(rows, Verdict):
            return Failed(rows.why)
        fills = []
        for row in rows:
            if row.symbol != symbol:
                return Failed(f"executions in {symbol} were asked for, and one in {row.symbol[:40]!r} was told")
            owner = await self._owner(symbol, row, now_ns)
            if isinstance(owner, Failed):
                return owner
            if cid is not None and owner != cid:
                continue
            try:
                fills.append(self._fill(row, owner))
            except Odd as error:
                return Failed(f"executions: {error}")
        return fills

    async def _owner(self, symbol: str, row: R, now_ns: int) -> str | Failed:
        """The client id of an execution's order, which may be shown later than the execution itself."""
        known = self._names.cid(symbol, str(row.orderId))
        if known is not None:
            return known
        match await self._order_of(symbol, row.orderId):
            case OrderReport(cid=cid):
                return cid
            case NotFound() if now_ns - row.time * MILLISECOND < SHOWN_NS:
                why = f"order {row.orderId} has an execution, and is not shown yet: it may be ours"
                return Failed(why, soon=False)  # asked again at once it used up USD-M's minute in a third (seed 588)
            case NotFound():
                return ""  # too old to be told of: it is nobody's
            case Failed() as failed:
                return failed
