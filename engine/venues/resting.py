"""How many orders stand at a venue, which allows only so many. Pure.

The venue's refusal of one too many is certain and harmless for an entry. For the stop of a position it is not: so an
entry is kept back here while there is no place left for the stop that it will need.
"""

from collections.abc import Iterable

from msgspec import Struct

from engine.core.messages import Order, OrderReport, TimeInForce, VenueReport
from engine.core.order import opens


class Places(Struct, frozen=True):
    """What the venue allows at once; 0: no such rule."""

    orders: int = 0  # of one symbol, conditional ones included
    stops: int = 0  # conditional ones, of one symbol
    stops_of_all: int = 0  # conditional ones of the whole account


class Resting:
    """One account's open orders as last read, and what was heard since."""

    def __init__(self) -> None:
        self._open: dict[str, dict[str, bool]] = {}  # symbol -> id -> whether it is conditional

    def read(self, reports: Iterable[OrderReport]) -> None:
        """All open orders of the account, whosever they are."""
        self._open = {}
        for report in reports:
            self.hears(report)

    def hears(self, report: VenueReport) -> None:
        if not isinstance(report, OrderReport):
            return
        held = self._open.setdefault(report.symbol, {})
        name = report.cid or report.venue_order_id
        if report.status == "open":
            held[name] = report.order_type.conditional
        else:
            held.pop(name, None)

    def takes(self, order: Order) -> None:
        """The venue has accepted it."""
        if _rests(order):
            self._open.setdefault(order.symbol, {})[order.cid] = order.order_type.conditional

    def no_room(self, order: Order, places: Places) -> str:
        """Why an opener must not go; "". What closes or protects goes always: the venue may know better."""
        if not opens(order):
            return ""
        held = self._open.get(order.symbol, {})
        stops = sum(held.values())
        everywhere = sum(sum(of.values()) for of in self._open.values())
        rests, conditional = _rests(order), order.order_type.conditional
        for what, standing, more, most in (
            ("orders in this symbol", len(held), rests, places.orders),
            ("conditional orders in this symbol", stops, conditional, places.stops),
            ("conditional orders", everywhere, conditional, places.stops_of_all),
        ):
            if most and standing + more + 1 > most:  # one for its stop
                return f"{standing} of {most} {what} stand already: there would be no place for its stop"
        return ""


def _rests(order: Order) -> bool:
    """One that executes at once, as far as it can, never stands: its end may be told before its acceptance is."""
    at_once = order.price is None or order.tif in (TimeInForce.IOC, TimeInForce.FOK)
    return order.order_type.conditional or not at_once
