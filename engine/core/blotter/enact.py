"""Accepted signals: what each becomes here, an order, a moved plan, or a request to cancel."""

from typing import assert_never

from engine.core.blotter.sheet import Sheet
from engine.core.ids import client_order_id
from engine.core.instrument import round_qty
from engine.core.messages import (
    Action,
    Enact,
    Leg,
    Order,
    Outcome,
    Side,
)
from engine.core.position import closable


def enact(sheet: Sheet, enact: Enact, now_ns: int) -> None:
    signal, plan = enact.signal, enact.plan
    sheet.enacted.append(signal.signal_id)
    if signal.signal_id in sheet.signals:
        return  # told twice; the first is on its way
    if plan.valid_until_ns and now_ns > plan.valid_until_ns:
        return sheet.end(enact, Outcome.FAILED, now_ns, reason="too late to be sent")
    match plan.action:
        case Action.OPEN | Action.TARGET | Action.CLOSE | Action.REDUCE:
            _enact_order(sheet, enact, now_ns)
        case Action.MOVE_STOP | Action.MOVE_TARGET:
            _enact_move(sheet, enact, now_ns)
        case Action.CANCEL:
            _enact_cancel(sheet, enact, now_ns)
        case Action.RECORD:
            raise AssertionError("a recorded signal is never enacted")
        case _:
            assert_never(plan.action)


def _enact_order(sheet: Sheet, enact: Enact, now_ns: int) -> None:
    signal, plan = enact.signal, enact.plan
    closing = plan.reduce_only or plan.action in (Action.CLOSE, Action.REDUCE)
    side, qty = plan.side, plan.qty
    if closing:
        if plan.action is Action.CLOSE:
            sheet.cancel_entries(f"closed by {signal.signal_id}", now_ns)
        side = Side.SELL if sheet.position.qty > 0 else Side.BUY
        qty = min(qty, round_qty(sheet.instrument, abs(sheet.position.qty)))
        if qty <= 0 or not closable(sheet.position, sheet.instrument):
            if plan.action is Action.CLOSE:
                sheet.flatten(signal.signal_id, "closed while an entry was on its way", signal.trace_id, now_ns)
            return sheet.end(enact, Outcome.UNFILLED, now_ns, reason="nothing to close")
    elif sheet.in_doubt:  # the gate may not have heard of it yet
        return sheet.end(enact, Outcome.FAILED, now_ns, reason="an order of this symbol came to be in doubt")
    assert side is not None and qty > 0, f"{signal.signal_id} was accepted without a side or a quantity"
    leg = Leg.EXIT if closing else Leg.ENTRY
    cid = client_order_id(sheet.terms.env, signal.account, signal.signal_id, leg, 0)
    if cid in sheet.orders or cid in sheet.ended:
        return  # a journal that has failed cannot tell the gate that this signal was here before
    sheet.signals[signal.signal_id] = enact
    sheet.submit(
        Order(
            cid=cid,
            account=signal.account,
            symbol=signal.symbol,
            signal_id=signal.signal_id,
            leg=leg,
            attempt=0,
            side=side,
            order_type=plan.order_type,
            qty=qty,
            tif=plan.tif,
            price=plan.price,
            reduce_only=closing,
            reserve_price=plan.reserve_price,
            reference_price=plan.reference_price,
            valid_until_ns=plan.valid_until_ns,
            cancel_after_ns=plan.cancel_after_ns,
            trace_id=signal.trace_id,
            submitted_ns=now_ns,
        ),
        signal.signal_id,
    )


def _enact_move(sheet: Sheet, enact: Enact, now_ns: int) -> None:
    plan, position = enact.plan, sheet.position
    if not closable(position, sheet.instrument):
        return sheet.end(enact, Outcome.FAILED, now_ns, reason="no open position")
    stop = plan.stop_loss if plan.action is Action.MOVE_STOP else position.stop_loss
    target = plan.take_profit if plan.action is Action.MOVE_TARGET else position.take_profit
    sheet.plan(stop, target, position.stop_waived, enact.signal.signal_id, enact.signal.trace_id, now_ns)
    sheet.end(enact, Outcome.EXECUTED, now_ns)


def _enact_cancel(sheet: Sheet, enact: Enact, now_ns: int) -> None:
    refers_to = enact.plan.refers_to
    asked = [o for o in sheet.orders.values() if o.leg is Leg.ENTRY and (refers_to is None or o.signal_id == refers_to)]
    for order in asked:
        sheet.cancel(order, f"asked by {enact.signal.signal_id}", now_ns)
    text = f"cancel asked for {len(asked)} order(s)" if asked else "nothing to cancel"
    sheet.end(enact, Outcome.EXECUTED, now_ns, reason=text, orders=tuple(o.cid for o in asked))
