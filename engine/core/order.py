"""One order: its states, the one table of transitions, and the words the world uses for them.

An order is PENDING from the moment its intent is written: whether it was sent, arrived, or was taken, only the venue
knows. It becomes UNCLEAR when the answer is missing or makes no sense, OPEN when the venue is known to have it, and
CLOSED when it can do nothing more. How much of it is filled is a number (`filled_qty`), how much the venue says is
filled is another (`venue_qty`), and a wish to cancel is a flag. A CLOSED order is *settled* once every fill that the
venue counted is booked; until then it still holds its reservation and asks for its missing fills.

Events arrive in any order, twice, or late. Those that say something about the order's end only ever move it towards
CLOSED; fills add up under their execution ids, which the blotter keeps apart.
"""

from decimal import Decimal
from typing import TypeAlias

from msgspec.structs import replace

from engine.core.messages import (
    ZERO,
    Accepted,
    CancelAsked,
    Canceled,
    CancelFailed,
    Ending,
    Expired,
    Filled,
    Leg,
    LookedUp,
    Missing,
    Order,
    OrderType,
    Outcome,
    Rejected,
    Reported,
    State,
    Submitted,
    TimeInForce,
    Unclear,
    Unsent,
)

OrderFact: TypeAlias = (
    Accepted
    | Rejected
    | Unclear
    | Filled
    | Canceled
    | Expired
    | Missing
    | Unsent
    | CancelAsked
    | CancelFailed
    | LookedUp
    | Reported
)

PENDING, UNCLEAR, OPEN, CLOSED = State.PENDING, State.UNCLEAR, State.OPEN, State.CLOSED

# A pair that is not here cannot happen; `advance` raises for it.
TRANSITIONS: dict[tuple[State, type], State] = {
    (PENDING, Accepted): OPEN,
    (PENDING, Rejected): CLOSED,
    (PENDING, Unsent): CLOSED,
    (PENDING, Unclear): UNCLEAR,
    (PENDING, Filled): OPEN,  # the fill overtook the answer
    (PENDING, Canceled): CLOSED,
    (PENDING, Expired): CLOSED,
    (UNCLEAR, Accepted): OPEN,
    (UNCLEAR, Rejected): CLOSED,
    (UNCLEAR, Unclear): UNCLEAR,
    (UNCLEAR, Filled): OPEN,
    (UNCLEAR, Canceled): CLOSED,
    (UNCLEAR, Expired): CLOSED,
    (UNCLEAR, Missing): CLOSED,
    (OPEN, Accepted): OPEN,  # the answer after the stream
    (OPEN, Rejected): CLOSED,  # taken for processing, then refused: both venues do this
    (OPEN, Unclear): OPEN,  # the answer was lost, but the stream had already told us
    (OPEN, Filled): OPEN,
    (OPEN, Canceled): CLOSED,
    (OPEN, Expired): CLOSED,
    (CLOSED, Accepted): CLOSED,
    (CLOSED, Rejected): CLOSED,
    (CLOSED, Unclear): CLOSED,
    (CLOSED, Filled): CLOSED,  # a late fill still moves the position
    (CLOSED, Canceled): CLOSED,
    (CLOSED, Expired): CLOSED,
}

ENDINGS: dict[type, Ending] = {
    Rejected: Ending.REJECTED,
    Unsent: Ending.UNSENT,
    Canceled: Ending.CANCELED,
    Expired: Ending.EXPIRED,
    Missing: Ending.MISSING,
}


class IllegalTransition(AssertionError):
    """A fact that cannot follow from the order's state: a broken invariant."""


def advance(order: Order, fact: OrderFact) -> Order:
    """The order after the fact. Raises IllegalTransition for a pair that is not in the table."""
    match fact:
        case CancelAsked():
            return replace(order, cancel_asked=True)
        case CancelFailed():
            return order
        case LookedUp():
            return replace(order, rounds=fact.round, round_ns=fact.at_ns)
        case Reported():
            return replace(order, venue_qty=max(order.venue_qty, fact.venue_qty))
    state = TRANSITIONS.get((order.state, type(fact)))
    if state is None:
        raise IllegalTransition(f"{order.cid} is {order.state.value}, and then came {type(fact).__name__}")
    match fact:
        case Filled():
            return _filled(order, fact, state)
        case Accepted():
            return replace(
                order,
                state=state,
                venue_order_id=fact.venue_order_id or order.venue_order_id,
                accepted_ns=order.accepted_ns or fact.at_ns,
                rounds=0,  # it is there: what was looked for in vain before proves nothing any more
                round_ns=0,
            )
        case Unclear():
            since = order.unclear_ns or fact.at_ns
            return replace(order, state=state, unclear_ns=since if state is UNCLEAR else order.unclear_ns)
    if order.state is CLOSED:  # the first ending stands; only fills can still change it
        return order
    reason = f"{fact.code}: {fact.text}" if isinstance(fact, Rejected) else getattr(fact, "reason", "")
    return replace(order, state=CLOSED, ending=ENDINGS[type(fact)], reason=reason, closed_ns=fact.at_ns)


def _filled(order: Order, fact: Filled, state: State) -> Order:
    qty = order.filled_qty + fact.qty
    order = replace(
        order,
        state=state,
        venue_order_id=fact.venue_order_id or order.venue_order_id,
        filled_qty=qty,
        filled_quote=order.filled_quote + fact.qty * fact.price,
        fees=order.fees + (fact.fee_quote or ZERO),
        venue_qty=max(order.venue_qty, qty),
        accepted_ns=order.accepted_ns or fact.at_ns,
        rounds=0,
        round_ns=0,
    )
    if qty < order.qty:
        return order
    # All of it is done: that beats an earlier "canceled", which only spoke of a rest.
    return replace(order, state=CLOSED, ending=Ending.FILLED, closed_ns=order.closed_ns or fact.at_ns)


def remaining(order: Order) -> Decimal:
    """Base quantity that may still be executed or booked: what limits must count."""
    if order.state is CLOSED:
        return owed(order)
    return max(order.qty - order.filled_qty, ZERO) if order.filled_qty else order.qty


def unfilled(order: Order) -> bool:
    """Whether it has ended, or would, with less than was asked for; by what the venue counts, booked or not."""
    return max(order.filled_qty, order.venue_qty) < order.qty


def untouched(order: Order) -> bool:
    """Whether nothing of it was executed, by what the venue counts."""
    return not order.filled_qty and not order.venue_qty


def owed(order: Order) -> Decimal:
    """Base quantity that the venue has executed and we have not booked yet."""
    return max(order.venue_qty - order.filled_qty, ZERO) if order.venue_qty else ZERO


def settled(order: Order) -> bool:
    """Nothing more can come of it, and everything that came is booked."""
    return order.state is CLOSED and order.filled_qty >= order.venue_qty


def opens(order: Order) -> bool:
    """Whether the order may enlarge exposure."""
    return order.leg is Leg.ENTRY and not order.reduce_only


def rests(order: Order) -> bool:
    """Whether it may stand at the venue; the others are executed at once or not at all."""
    return order.order_type is not OrderType.MARKET and order.tif not in _AT_ONCE


_AT_ONCE = (TimeInForce.IOC, TimeInForce.FOK)


def protective(order: Order) -> bool:
    """Sent of our own accord, to protect or to flatten; not because a signal asked for it."""
    return order.signal_id.startswith("~")


def average_price(order: Order) -> Decimal | None:
    return order.filled_quote / order.filled_qty if order.filled_qty else None


def slippage(order: Order) -> Decimal | None:
    """Average price against the reference, as a fraction; positive is worse than the decider saw."""
    average = average_price(order)
    if average is None or not order.reference_price:
        return None
    return (average - order.reference_price) / order.reference_price * order.side.sign


def status(order: Order) -> str:
    """The usual word (SPEC ORD2). CREATED is never seen: an order exists only once its intent is being written."""
    if order.state is PENDING:
        return "SUBMITTING"
    if order.state is UNCLEAR:
        return "UNKNOWN"
    if order.state is OPEN:
        if order.cancel_asked:
            return "CANCELING"
        return "PARTIALLY_FILLED" if order.filled_qty else "ACTIVE"
    match order.ending:
        case Ending.FILLED:
            return "FILLED"
        case Ending.CANCELED:
            return "CANCELED"
        case Ending.EXPIRED:
            return "EXPIRED"
        case Ending.REJECTED:
            return "REJECTED"
        case _:
            return "FAILED"


def outcome(order: Order) -> Outcome:
    """What a settled order means for the signal behind it."""
    if order.filled_qty >= order.qty:
        return Outcome.EXECUTED
    if order.filled_qty:
        return Outcome.PARTIAL
    match order.ending:
        case Ending.REJECTED:
            return Outcome.REJECTED
        case Ending.MISSING:
            return Outcome.ABSENT
        case Ending.UNSENT:
            return Outcome.FAILED
        case _:
            return Outcome.UNFILLED


def fold(submitted: Submitted, facts: tuple[OrderFact, ...]) -> Order:
    """An order from its facts alone; what the audit compares the table with."""
    order = submitted.order
    for fact in facts:
        order = advance(order, fact)
    return order
