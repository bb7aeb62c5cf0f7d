"""Our books against the venue's report, for one (account, symbol). Finds differences; what follows is the blotter's."""

from collections.abc import Iterable

from msgspec import Struct

from engine.core.ids import is_ours
from engine.core.messages import Compared, Order, OrderReport, State


class Differences(Struct, frozen=True):
    """`vanished`: ours, and no longer among the open ones: to be looked up, a list proves nothing by itself."""

    known: tuple[OrderReport, ...]
    foreign: tuple[OrderReport, ...]
    strayed: tuple[OrderReport, ...]  # bears our mark, but we hold no such live order
    vanished: tuple[Order, ...]


def compare(live: Iterable[Order], report: Compared) -> Differences:
    """Sort the venue's open orders by whose they are, and ours by whether the venue still has them.

    An order that was accepted after the question was asked cannot be missed by it.
    """
    mine = {order.cid: order for order in live}
    seen = {r.cid for r in report.orders}
    return Differences(
        known=tuple(r for r in report.orders if r.cid in mine),
        foreign=tuple(r for r in report.orders if not is_ours(r.cid)),
        strayed=tuple(r for r in report.orders if is_ours(r.cid) and r.cid not in mine),
        vanished=tuple(
            order
            for cid, order in mine.items()
            if cid not in seen and order.state is State.OPEN and order.accepted_ns < report.asked_ns
        ),
    )
