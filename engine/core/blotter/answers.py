"""The venue's answers to our own requests, and what is learnt by asking again: how doubt begins and ends."""

from typing import assert_never

from engine.core.blotter.reports import fold_fill, fold_report
from engine.core.blotter.sheet import Sheet
from engine.core.messages import (
    Accepted,
    Acked,
    Answered,
    Canceled,
    CancelFailed,
    Failed,
    Leg,
    Looked,
    LookedUp,
    Missing,
    NotFound,
    Order,
    OrderReport,
    Rejected,
    Rejection,
    Silence,
    State,
    Unclear,
    Unsent,
)
from engine.core.times import SECOND

CLOCK_ERROR_NS = SECOND // 2  # E of RELIABILITY 4.1


def answered(sheet: Sheet, message: Answered, now_ns: int) -> None:
    order = sheet.orders.get(message.cid)
    if order is None:
        return  # ended while the answer was on its way
    if message.request == "cancel":
        return _cancel_answered(sheet, order, message, now_ns)
    of = sheet.of(order)
    match message.answer:
        case Acked(venue_order_id=venue_order_id, venue_ns=venue_ns):
            fresh = order.state in (State.PENDING, State.UNCLEAR)
            sheet.tell(Accepted(at_ns=now_ns, cid=order.cid, venue_order_id=venue_order_id, venue_ns=venue_ns, **of))
            if fresh:
                sheet.event("order.placed", order.cid, now_ns)
        case Rejection(kind="duplicate"):
            # An order with this id exists: ours, from a request whose answer we never had. Ask which.
            sheet.tell(Unclear(at_ns=now_ns, cid=order.cid, why="the venue knows this id already", **of))
        case Rejection(kind="unsent", text=text):
            sheet.tell(Unsent(at_ns=now_ns, cid=order.cid, reason=text, **of))
        case Rejection(code=code, kind=kind, text=text):
            sheet.tell(Rejected(at_ns=now_ns, cid=order.cid, code=code, kind=kind, text=text, **of))
        case Silence(why=why):
            sheet.tell(Unclear(at_ns=now_ns, cid=order.cid, why=why, **of))
        case _:
            assert_never(message.answer)


def _cancel_answered(sheet: Sheet, order: Order, message: Answered, now_ns: int) -> None:
    # Neither a yes nor a no ends the order: a "not found" may be a fill, and a yes is only an acknowledgement.
    if not isinstance(message.answer, Acked):
        answer = message.answer
        why = answer.why if isinstance(answer, Silence) else f"{answer.code}: {answer.text}"
        sheet.tell(CancelFailed(at_ns=now_ns, cid=order.cid, why=why, **sheet.of(order)))
        sheet.look(order, now_ns, soon=True)


def looked(sheet: Sheet, message: Looked, now_ns: int) -> None:
    sheet.looking.pop(message.cid, None)
    for fill in message.fills:
        fold_fill(sheet, fill, now_ns)
    order = sheet.orders.get(message.cid)
    if order is None:
        return
    match message.found:
        case OrderReport(status=status, filled_qty=filled):
            fold_report(sheet, message.found, now_ns)
            if order.leg is Leg.STOP and status == "open" and not filled:
                sheet.untouched[order.cid] = message.asked_ns
        case NotFound():
            _not_found(sheet, order, message, now_ns)
        case Failed():
            sheet.look(order, now_ns)  # nothing learnt: whatever the reason to ask was, it stands
        case _:
            assert_never(message.found)


def _not_found(sheet: Sheet, order: Order, message: Looked, now_ns: int) -> None:
    """Absence counts after the dead time, in two rounds a visibility bound apart, inside the venue's memory."""
    terms = sheet.terms
    if order.state is State.UNCLEAR:
        since = order.unclear_ns + terms.window_ns + terms.queue_ns + CLOCK_ERROR_NS
    else:
        since = order.accepted_ns + terms.visible_ns
    apart = not order.rounds or message.asked_ns - order.round_ns >= terms.visible_ns
    if message.asked_ns <= since or not message.horizon_ok or not apart:
        return
    of = sheet.of(order)
    sheet.tell(LookedUp(at_ns=message.asked_ns, cid=order.cid, round=order.rounds + 1, **of))
    if order.rounds < 1:
        return
    if order.state is State.UNCLEAR:
        sheet.tell(Missing(at_ns=now_ns, cid=order.cid, **of))
    elif order.state is State.OPEN:
        sheet.tell(Canceled(at_ns=now_ns, cid=order.cid, reason="the venue no longer knows it", **of))
