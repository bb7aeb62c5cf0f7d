"""What stops and targets a position should have, against what it has.

A position is covered when live stops at the venue close at least all of it. Stops and targets are separate reduce-only
orders, so too much cover can never open anything: a new order for the full quantity is placed first, and the old one
goes when the new one stands. Too much is left alone until a quiet moment; too little is mended at once.

That a stop stands is not all: one that does nothing when the market has passed it covers nothing. Bybit's spot tells a
trigger's direction from the market at the moment of receipt, so a stop that the market overtook on its way stands there
as a target; anywhere else what triggers may be out of order. `passed` says since when a stop should have been at work.
"""

from collections.abc import Iterable
from decimal import Decimal

from msgspec import Struct

from engine.core.exposure import sensible
from engine.core.instrument import round_qty, round_stop
from engine.core.messages import ZERO, Instrument, Leg, Order, OrderType, Position, Quote, Side, State
from engine.core.order import remaining
from engine.core.position import closable
from engine.core.times import SECOND

FRESH_NS = 3 * SECOND  # an older quote tells nothing, and neither does what was between two looks further apart
# From a trade beyond a trigger to the order's execution: venues take milliseconds, in a rush seconds.
TRIGGER_NS = 5 * SECOND


class Wanted(Struct, frozen=True):
    """One protective order that should stand."""

    leg: Leg
    side: Side
    order_type: OrderType
    qty: Decimal
    trigger_price: Decimal


class Need(Struct, frozen=True):
    """What to do for one leg: place this, cancel those. Either may be empty."""

    place: Wanted | None
    cancel: tuple[Order, ...]


def wanted(position: Position, instrument: Instrument) -> tuple[Wanted, ...]:
    """The protective orders for what is open now. Dust that no order can close wants nothing."""
    if not closable(position, instrument):
        return ()
    qty = round_qty(instrument, abs(position.qty))
    sign = 1 if position.qty > 0 else -1
    side = Side.SELL if sign > 0 else Side.BUY
    orders = []
    if position.stop_loss is not None:
        trigger = round_stop(instrument, sign, position.stop_loss)
        orders.append(Wanted(Leg.STOP, side, OrderType.STOP_MARKET, qty, trigger))
    if position.take_profit is not None:
        trigger = round_stop(instrument, -sign, position.take_profit)
        orders.append(Wanted(Leg.TARGET, side, OrderType.TAKE_PROFIT_MARKET, qty, trigger))
    return tuple(orders)


def need(want: Wanted | None, have: Iterable[Order], tidy: bool) -> Need:
    """Compare one leg. `have` are that leg's live orders; `tidy` also mends too much cover.

    While an order of the leg is on its way (PENDING), nothing new is placed: its answer comes within the time-out of a
    request and brings us back here; one for the other side protects a position that has turned since. An UNCLEAR one
    does not count as cover and does not hold up the next.
    """
    live = [o for o in have if o.state is not State.CLOSED and not o.cancel_asked]
    if want is None:
        return Need(None, tuple(live))
    right = [o for o in live if o.side is want.side and o.trigger_price == want.trigger_price]
    if any(o.state is State.PENDING and o.side is want.side for o in live):
        return Need(None, ())
    standing = [o for o in right if o.state is State.OPEN and remaining(o) >= want.qty]
    if not standing:
        return Need(want, ())
    if tidy and (exact := [o for o in standing if remaining(o) == want.qty]):
        keep = exact[-1]
    elif tidy:
        return Need(want, ())
    else:
        keep = standing[-1]
    return Need(None, tuple(o for o in live if o is not keep))


class Passed(Struct, frozen=True):
    """Since when the market has been beyond a stop (0: it is not), and when that was last looked at."""

    since_ns: int = 0
    seen_ns: int = 0


def passed(before: Passed, position: Position, quote: Quote | None, now_ns: int) -> Passed:
    """What one more look at the market makes of it."""
    if not _beyond(position, quote, now_ns):
        return Passed(0, now_ns)
    unbroken = before.since_ns and now_ns - before.seen_ns <= FRESH_NS
    return Passed(before.since_ns if unbroken else now_ns, now_ns)


def _beyond(position: Position, quote: Quote | None, now_ns: int) -> bool:
    """Whether a stop must trigger now, whatever is traded: stops trigger by the last trade, and the best price for
    whoever wants out of the market's way (a long's stop: the ask) is as far as that. By the near side it would be no
    more than a wide spread in which nobody trades."""
    stop = position.stop_loss
    if stop is None or quote is None or not sensible(quote) or now_ns - quote.at_ns > FRESH_NS:
        return False
    return quote.ask <= stop if position.qty > 0 else bool(position.qty) and quote.bid >= stop


def uncovered(position: Position, instrument: Instrument, stops: Iterable[Order]) -> Decimal:
    """Base quantity without a live stop at the venue; zero where a stop is waived or only dust is left.

    A stop that is being canceled covers nothing: it may be gone by now.
    """
    qty = round_qty(instrument, abs(position.qty))
    if position.stop_waived or not closable(position, instrument):
        return ZERO
    side = Side.SELL if position.qty > 0 else Side.BUY
    cover = sum((remaining(o) for o in stops if o.state is State.OPEN and o.side is side and not o.cancel_asked), ZERO)
    return max(qty - cover, ZERO)
