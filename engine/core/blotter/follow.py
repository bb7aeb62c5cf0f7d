"""What follows from how things stand, whatever happened: time limits, protection, exits, ends, cancels, look-ups."""

from typing import Any

from msgspec.structs import replace

from engine.core.announce import order_event
from engine.core.blotter.sheet import NEVER_NS, STOP_ATTEMPTS, Sheet
from engine.core.instrument import round_qty
from engine.core.messages import (
    Cancel,
    Covered,
    InstrumentKind,
    Leg,
    Order,
    Outcome,
    Side,
    State,
    Uncovered,
)
from engine.core.order import (
    opens,
    outcome,
    owed,
    rests,
    settled,
    untouched,
)
from engine.core.position import closable
from engine.core.protection import TRIGGER_NS, Wanted, need, wanted
from engine.core.times import SECOND

SILENT_NS = 3 * SECOND  # after the acceptance of an order that does not rest, before its end is asked for
UNCLEAR_MAX_NS = 180 * SECOND  # of doubt, before a person is called
CANCEL_AGAIN_NS = 5 * SECOND
EXIT_AGAIN_NS = 2 * SECOND
PATIENCE_NS = 3 * SECOND // 2  # with a stop or an exit that has no answer: cover within 2 s, though one is lost (I31)
ENDED_KEPT = 64  # settled orders kept for late events


def follow(sheet: Sheet, now_ns: int, tidy: bool) -> None:
    _limit_time(sheet, now_ns)
    _protect(sheet, now_ns, tidy)
    _leave(sheet, now_ns)
    for order in tuple(sheet.orders.values()):
        standing = rests(order)
        if not order.venue_qty and (order.state is State.PENDING or (order.state is State.OPEN and standing)):
            continue  # as most are: it rests, or is on its way
        if settled(order):
            _settle(sheet, order, now_ns)
        elif order.state is State.UNCLEAR or owed(order):
            sheet.look(order, now_ns)
            _page(sheet, order, now_ns)
        elif not standing:
            _expect_an_end(sheet, order, now_ns)
    _send_cancels(sheet, now_ns)
    _measure_cover(sheet, now_ns, tidy)


def _expect_an_end(sheet: Sheet, order: Order, now_ns: int) -> None:
    """What is executed at once or not at all, and is accepted, is over: the stream owes us the news (SPEC REC2)."""
    if order.state is State.OPEN:
        due = order.accepted_ns + SILENT_NS
        if now_ns >= due:
            sheet.look(order, now_ns, soon=True)
        else:
            sheet.wake(due)


def _limit_time(sheet: Sheet, now_ns: int) -> None:
    """There may be hundreds of orders, and each step comes by here: they are looked through when one is due."""
    if now_ns < sheet.limit_ns:
        if sheet.limit_ns < NEVER_NS:
            sheet.wake(sheet.limit_ns)
        return
    sheet.limit_ns = NEVER_NS
    for order in tuple(sheet.orders.values()):
        if order.cancel_after_ns is None or order.cancel_asked or order.state is State.CLOSED:
            continue
        due = order.submitted_ns + order.cancel_after_ns
        if now_ns >= due:
            sheet.cancel(order, "time limit reached", now_ns)
        else:
            sheet.limit_ns = min(sheet.limit_ns, due)
            sheet.wake(due)


def _protect(sheet: Sheet, now_ns: int, tidy: bool) -> None:
    position = sheet.position
    others = [order for order in sheet.orders.values() if order.leg is not Leg.ENTRY]
    if not position.qty and sheet.closed_trade is None and not others:
        sheet.stop_failures = 0  # nothing to protect and nothing that protects, as with most entries
        return
    held = closable(position, sheet.instrument)
    if held and position.stop_loss is None and not position.stop_waived:
        _default_stop(sheet, now_ns)
    if held and sheet.stop_failures >= STOP_ATTEMPTS and not sheet.position.closing:
        sheet.flatten("engine", f"a stop could not be placed in {sheet.stop_failures} attempts", "", now_ns)
        sheet.alert("critical", "unprotected", "no stop could be placed; closing the position", now_ns)
    wants = {w.leg: w for w in wanted(sheet.position, sheet.instrument)}
    for leg in (Leg.STOP, Leg.TARGET):
        have = [o for o in sheet.orders.values() if o.leg is leg and not (leg in wants and _overdue(sheet, o, now_ns))]
        todo = need(wants.get(leg), have, tidy)
        for order in todo.cancel:
            sheet.cancel(order, "replaced" if leg in wants else "nothing left to protect", now_ns)
        if leg is Leg.STOP and sheet.distrusts():
            continue  # another would do no better; what becomes of this one says whether there is anything to close
        if todo.place is not None and _may_try(sheet, leg, now_ns):
            _protective(sheet, todo.place, now_ns)
    if not held:
        sheet.stop_failures = 0
        if sheet.closed_trade is not None:
            for order in tuple(sheet.orders.values()):
                if opens(order) and order.filled_qty:
                    sheet.cancel(order, "its position was closed", now_ns)


def distrust(sheet: Sheet, passed_ns: int, now_ns: int) -> None:
    """The market has been beyond the stop since `passed_ns`, and the position is still there: is the stop at work?

    It is looked at once it should have been executed, for its report may only be late. One that is untouched covers
    nothing: it is canceled. The cancel is the proof, since a venue's queries may lag and its book does not: what was
    executed cannot be canceled, and what was canceled sells nothing beside the close that follows (`Sheet.tell`).
    """
    if sheet.position.closing:
        return
    for order in tuple(sheet.orders.values()):
        standing = order.state is State.OPEN and not order.cancel_asked and untouched(order)
        if not standing or not sheet.is_the_stop(order):
            continue
        at_work_ns = max(passed_ns, order.accepted_ns) + TRIGGER_NS
        if sheet.untouched.get(order.cid, 0) > at_work_ns:
            sheet.distrusted[order.cid] = passed_ns
            sheet.cancel(order, "the market has passed it, and it is untouched", now_ns)
        elif now_ns > at_work_ns:
            sheet.look(order, now_ns, soon=True)


def _overdue(sheet: Sheet, order: Order, now_ns: int) -> bool:
    """Whether a stop or an exit has been without an answer for so long that the next attempt does not wait for it.

    Both can only reduce, so a second one does no harm; on spot, where nothing but the balance sees to that, it might.
    """
    if order.state is not State.PENDING or order.leg is Leg.TARGET or sheet.instrument.kind is InstrumentKind.SPOT:
        return False
    # Twice as long for each that waits already: a venue or a rate limit that is slow must not be flooded.
    before = sum(
        o.leg is order.leg and o.state is State.PENDING and o.submitted_ns < order.submitted_ns
        for o in sheet.orders.values()
    )
    due = order.submitted_ns + (PATIENCE_NS << min(before, 5))
    if now_ns < due:
        sheet.wake(due)
    return now_ns >= due


def _default_stop(sheet: Sheet, now_ns: int) -> None:
    distance = sheet.terms.stop_distance_default
    if distance is None:
        return
    sign = 1 if sheet.position.qty > 0 else -1
    stop = sheet.position.avg_price * (1 - sign * distance)
    sheet.alert("warning", "no_plan", "a position came without a stop; the default is set", now_ns)
    trace_id = sheet.trade.trace_id if sheet.trade else ""
    sheet.plan(stop, sheet.position.take_profit, False, "default", trace_id, now_ns)


def _may_try(sheet: Sheet, leg: Leg, now_ns: int) -> bool:
    due = sheet.not_before[leg]
    if now_ns < due:
        sheet.wake(due)
        return False
    return True


def _protective(sheet: Sheet, want: Wanted, now_ns: int) -> None:
    sheet.submit(
        sheet.closer(
            want.leg, want.side, want.qty, now_ns, order_type=want.order_type, trigger_price=want.trigger_price
        ),
        sheet.lifecycle_id(),
    )


def _leave(sheet: Sheet, now_ns: int) -> None:
    """A flatten was asked for: keep one reduce-only market order on its way until nothing is left."""
    if not sheet.position.closing:
        return
    if not closable(sheet.position, sheet.instrument):
        if not sheet.may_open():
            sheet.position = replace(sheet.position, closing=False)
        return
    exits = [o for o in sheet.orders.values() if o.leg is Leg.EXIT and o.state is not State.CLOSED]
    waiting = [o for o in exits if not _overdue(sheet, o, now_ns) and not _doubted(o, now_ns)]
    if waiting:
        sheet.wake(now_ns + EXIT_AGAIN_NS)
        return
    if _may_try(sheet, Leg.EXIT, now_ns):
        qty = round_qty(sheet.instrument, abs(sheet.position.qty))
        side = Side.SELL if sheet.position.qty > 0 else Side.BUY
        sheet.submit(sheet.closer(Leg.EXIT, side, qty, now_ns), sheet.lifecycle_id())
        sheet.not_before[Leg.EXIT] = now_ns + SECOND


def _doubted(exit_order: Order, now_ns: int) -> bool:
    return exit_order.state is State.UNCLEAR and now_ns >= exit_order.unclear_ns + EXIT_AGAIN_NS


def _settle(sheet: Sheet, order: Order, now_ns: int) -> None:
    """The order is at its end and fully booked: say so, and let it go."""
    del sheet.orders[order.cid]
    sheet.ended[order.cid] = order
    if len(sheet.ended) > ENDED_KEPT:
        del sheet.ended[next(iter(sheet.ended))]
    for memory in (sheet.looks, sheet.looking, sheet.canceling, sheet.paged, sheet.untouched, sheet.distrusted):
        memory.pop(order.cid, None)
    if order.filled_qty < order.qty:
        name = "order.failed" if outcome(order) in _FAILURES else "order.cancelled"
        sheet.events.append(order_event(name, order, now_ns))
    enact = sheet.signals.pop(order.signal_id, None)
    if enact is None:
        return
    sheet.end(
        enact,
        outcome(order),
        now_ns,
        reason=order.reason,
        orders=(order.cid,),
        order=order,
    )


def _page(sheet: Sheet, order: Order, now_ns: int) -> None:
    """Doubt that outlasts its bound is a person's business; the order stays unclear."""
    since = order.unclear_ns or order.submitted_ns
    if now_ns - since > UNCLEAR_MAX_NS and order.cid not in sheet.paged:
        sheet.paged[order.cid] = now_ns
        sheet.quarantine(f"order {order.cid} is in doubt for {(now_ns - since) // SECOND} s", now_ns)


def _send_cancels(sheet: Sheet, now_ns: int) -> None:
    """Cancels go out when the venue may know the order, and again while nothing has come of them.

    One in doubt is canceled once: what comes of that is what its look-ups find.
    """
    for order in sheet.orders.values():
        if not order.cancel_asked or order.state not in (State.OPEN, State.UNCLEAR):
            continue
        sent = sheet.canceling.get(order.cid)
        if sent is not None and order.state is State.UNCLEAR:
            continue
        if sent is None or now_ns - sent >= CANCEL_AGAIN_NS:
            sheet.canceling[order.cid] = now_ns
            sheet.commands.append(Cancel(cid=order.cid, symbol=order.symbol, venue_order_id=order.venue_order_id))
        sheet.wake(sheet.canceling[order.cid] + CANCEL_AGAIN_NS)


def _measure_cover(sheet: Sheet, now_ns: int, tidy: bool) -> None:
    missing, since = sheet.uncovered(), sheet.position.uncovered_ns
    if tidy and not missing:
        sheet.stop_failures = 0  # cover stands when all is looked over: what failed before is past
    if bool(missing) == bool(since):
        return
    here: dict[str, Any] = {
        "at_ns": now_ns,
        "account": sheet.position.account,
        "symbol": sheet.position.symbol,
        "trace_id": sheet.trade.trace_id if sheet.trade else "",
        "cause": sheet.lifecycle_id(),
    }
    if missing and not since:
        sheet.facts.append(Uncovered(**here, missing_qty=missing))
        sheet.position = replace(sheet.position, uncovered_ns=now_ns)
    elif since and not missing:
        sheet.facts.append(Covered(**here, exposed_ns=now_ns - since))
        sheet.position = replace(sheet.position, uncovered_ns=0)
        if sheet.trade is not None:
            sheet.trade = replace(sheet.trade, exposed_ns=sheet.trade.exposed_ns + now_ns - since)
            sheet.trades[sheet.trade.trade_id] = sheet.trade


_FAILURES = (Outcome.REJECTED, Outcome.ABSENT, Outcome.FAILED)
