"""How much of a coin a spot account may hold, what is on order included (the filter MAX_POSITION). Pure.

The venue refuses what goes beyond, surely and without harm; so only what must be refused is kept back here, and where
what is held is not known just now the venue decides.
"""

from decimal import Decimal

from engine.core.messages import ZERO, FillReport, Order, OrderReport, Side, VenueReport
from engine.core.order import opens


class MostHeld:
    """One account, by symbol."""

    def __init__(self) -> None:
        self._held: dict[str, Decimal] = {}  # of the base currency, as last read; nothing was sold since
        self._buying: dict[str, dict[str, Decimal]] = {}  # open buys by client id: what is left of them

    def reads(self, symbol: str, total: Decimal) -> None:
        self._held[symbol] = total

    def lists(self, symbol: str) -> None:
        """The open orders of the symbol are told now, all of them."""
        self._buying.pop(symbol, None)

    def hears(self, report: VenueReport) -> None:
        if isinstance(report, FillReport) and report.side is Side.SELL:
            self._held.pop(report.symbol, None)
        elif isinstance(report, OrderReport) and report.side is Side.BUY:
            buying = self._buying.setdefault(report.symbol, {})
            if report.status == "open":
                buying[report.cid] = report.qty - report.filled_qty
            else:
                buying.pop(report.cid, None)

    def too_much(self, order: Order, most: Decimal) -> str:
        """Why the venue would not take an opener; "". `most` 0: no such rule."""
        held = self._held.get(order.symbol)
        if not most or held is None or order.side is not Side.BUY or not opens(order):
            return ""
        buying = sum(self._buying.get(order.symbol, {}).values(), ZERO)
        if held + buying + order.qty <= most:
            return ""
        return f"MAX_POSITION: {held} held, {buying} on order and {order.qty} more are over {most}"
