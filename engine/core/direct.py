"""A close past an order actor that is down: what a person's stop sends itself. PURE.

It is reduce-only, so that it can open nothing whatever it meets, and its intent and its answer go into the journal like
any other's: the actor, made anew, finds it there and asks the venue what became of it.
"""

from engine.core.ids import client_order_id
from engine.core.instrument import round_qty
from engine.core.messages import (
    Accepted,
    Acked,
    Answer,
    AnyFact,
    Instrument,
    Leg,
    Order,
    OrderType,
    PositionReport,
    Rejected,
    Rejection,
    Side,
    Submitted,
)
from engine.core.order import advance


def closer(
    env: str, account: str, held: PositionReport, instrument: Instrument, epoch: int, number: int, now_ns: int
) -> Order:
    """A market order for all that the venue says is held. `number` counts those of this run (`epoch`)."""
    owner = f"~direct/{held.symbol}/{epoch}.{number >> 10}"
    return Order(
        cid=client_order_id(env, account, owner, Leg.EXIT, number & 1023),
        account=account,
        symbol=held.symbol,
        signal_id=owner,
        leg=Leg.EXIT,
        attempt=number & 1023,
        side=Side.SELL if held.qty > 0 else Side.BUY,
        order_type=OrderType.MARKET,
        qty=round_qty(instrument, abs(held.qty)),
        reduce_only=True,
        trace_id=owner,
        submitted_ns=now_ns,
    )


def intent(order: Order, by: str) -> Submitted:
    return Submitted(
        at_ns=order.submitted_ns,
        account=order.account,
        symbol=order.symbol,
        trace_id=order.trace_id,
        cause=by,
        order=order,
    )


def answered(order: Order, answer: Answer, now_ns: int) -> tuple[tuple[AnyFact, ...], Order]:
    """What the answer tells for sure; silence, and an id that the venue knows already, tell nothing."""
    here = {"account": order.account, "symbol": order.symbol, "trace_id": order.trace_id, "cause": order.signal_id}
    fact: Accepted | Rejected
    match answer:
        case Acked(venue_order_id=venue_order_id, venue_ns=venue_ns):
            fact = Accepted(at_ns=now_ns, cid=order.cid, venue_order_id=venue_order_id, venue_ns=venue_ns, **here)
        case Rejection(code=code, kind=kind, text=text) if kind != "duplicate":
            fact = Rejected(at_ns=now_ns, cid=order.cid, code=code, kind=kind, text=text, **here)
        case _:
            return (), order
    return (fact,), advance(order, fact)
