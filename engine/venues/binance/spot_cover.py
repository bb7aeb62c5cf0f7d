"""What stands in for reduce-only on spot, where every resting sale locks the coins that it is to sell. Pure.

The engine protects a position by a stop and a target side by side, each for all of it, and exits past both. On spot the
stop has locked the coins, and neither the target nor an exit would find any. So

- the stop is the one order at the venue, always there, also when we are not;
- another stop, or an exit that executes at once, takes its place in one request of the venue's own (cancel-replace):
  the new one is sent only if the old one was still there, so that nothing is ever sold twice;
- a target waits with us, and takes the stop's place when the market reaches it. Lost with the process, it is placed
  anew by the engine's own look over its orders; the stop does not depend on it;
- an exit that would rest is refused: it and a stop cannot both hold the same coins.

And since nothing but the wallet's bottom keeps a sale from selling more than was bought here, a sale that executes at
once is held back while an earlier one is in doubt and no stop stands (one that stands proves that nothing was sold in
its place), and when it was decided before the last sale was heard of. What would go short outright is refused.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from engine.core.messages import (
    ZERO,
    Leg,
    Order,
    OrderReport,
    OrderType,
    Quote,
    Rejection,
    Side,
    TimeInForce,
)

QUOTE_AGE_NS = 3_000_000_000  # an older quote sets nothing off
HELD = "held-"  # before the id of an order that waits with us: its venue order id


class Send(Struct, frozen=True):
    """As it is."""


class Replace(Struct, frozen=True):
    """In the place of this standing order."""

    cid: str


class Hold(Struct, frozen=True):
    """Wait with us for its trigger."""


class Sales:
    """Of one symbol: which are in doubt, and when the last execution of one was heard of (ns, our clock)."""

    def __init__(self) -> None:
        self._doubts: dict[str, int] = {}  # client id -> since when
        self._heard_ns = 0

    def doubt(self, cid: str, now_ns: int) -> None:
        self._doubts[cid] = now_ns

    def hears(self, cid: str, now_ns: int, executed: bool) -> None:
        """The venue has told of an order of this id."""
        self._doubts.pop(cid, None)
        if executed:
            self._heard_ns = now_ns

    def absent(self, cid: str, now_ns: int, dead_ns: int) -> None:
        """The venue does not know it: no doubt any more once `dead_ns` have gone by, in which it could have come."""
        if now_ns - self._doubts.get(cid, now_ns) > dead_ns:
            del self._doubts[cid]

    def holds_back(self, order: Order, standing: bool) -> str:
        """Why a sale must wait; "" when it may go."""
        if order.order_type.conditional:
            return ""
        if order.submitted_ns < self._heard_ns:
            return "decided before the last sale was heard of"
        others = [cid for cid in self._doubts if cid != order.cid]
        return f"the sale {others[0]} is in doubt" if others and not standing else ""


Way: TypeAlias = Send | Replace | Hold | Rejection


def way(order: Order, standing: Mapping[str, Decimal]) -> Way:
    """How an order goes. `standing`: our stops that hold coins of its symbol, or may, oldest first."""
    if order.side is Side.BUY:
        return Send()
    if not order.reduce_only:
        return Rejection("spot", "invalid", "spot cannot be short: only what was bought here can be sold")
    if order.leg is Leg.TARGET and order.order_type.conditional:
        return Hold()
    if order.order_type is OrderType.LIMIT and order.tif in (TimeInForce.GTC, TimeInForce.POST_ONLY) and standing:
        return Rejection("spot", "invalid", "an exit that rests and a stop cannot hold the same coins; use ioc")
    return Replace(list(standing)[-1]) if standing else Send()


def reached(order: Order, quote: Quote | None, now_ns: int) -> bool:
    """Whether the market has come to a held target's trigger, by a quote that is not too old."""
    if quote is None or order.trigger_price is None or now_ns - quote.at_ns > QUOTE_AGE_NS:
        return False
    return quote.bid >= order.trigger_price


def fired(order: Order) -> Order:
    """A held target, when its time has come. It is as old as its decision: after a sale the engine makes a new one."""
    if order.price is not None:
        return replace(order, order_type=OrderType.LIMIT, trigger_price=None, tif=TimeInForce.IOC)
    return replace(order, order_type=OrderType.MARKET, trigger_price=None)


def held_report(order: Order, status: str = "open", reason: str = "") -> OrderReport:
    """As the venue would tell of it, were it there."""
    return OrderReport(
        symbol=order.symbol,
        cid=order.cid,
        venue_order_id=f"{HELD}{order.cid}",
        status=status,
        side=order.side,
        order_type=order.order_type,
        qty=order.qty,
        filled_qty=ZERO,
        price=order.price,
        trigger_price=order.trigger_price,
        reduce_only=True,
        reason=reason,
    )


def holds_coins(report: OrderReport) -> bool:
    """A stop of ours that stands at the venue."""
    return report.reduce_only and report.order_type.conditional and report.side is Side.SELL
