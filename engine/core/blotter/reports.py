"""What the venue tells of orders, executions, funding and positions, by whatever channel and in whatever order."""

from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from engine.core.announce import position_event, trade_event
from engine.core.blotter.sheet import Seen, Sheet
from engine.core.ids import is_ours
from engine.core.messages import (
    ZERO,
    Accepted,
    Cancel,
    Canceled,
    Compared,
    Corrected,
    Covered,
    Expired,
    Filled,
    FillReport,
    ForeignSeen,
    FundingPaid,
    FundingReport,
    Leg,
    Mismatched,
    Order,
    OrderReport,
    Position,
    Rejected,
    Reported,
    Side,
    State,
    TradeClosed,
    TradeOpened,
    TransferReport,
    Withdrawn,
)
from engine.core.position import (
    apply_fill,
    apply_funding,
    apply_withdrawal,
    closable,
    close_trade,
    fee_worth,
    fold_trade,
    fund_trade,
)
from engine.core.reconcile import compare
from engine.core.times import SECOND

FIRST_LOOK_NS = 30 * SECOND  # from the start of the engine to its first look at a symbol, as a rule
LEFT_OVER_MAX = 16
SEEN_MAX = 1000  # executions in memory, before it is looked which of them may go
WALLET_LAG_NS = 60 * SECOND  # at most, until a wallet shows what was transferred
SEEN_KEPT_NS = 600 * SECOND  # executions older than the last comparison by this much need no telling apart any more


def fold_report(sheet: Sheet, report: OrderReport, now_ns: int) -> None:
    """What the venue says of an order as a whole. Executions are booked by their own reports only: a quantity that is
    filled here and not booked is remembered, and asked for.
    """
    order = sheet.orders.get(report.cid)
    if order is None:
        return _report_on_other(sheet, report, now_ns)
    of = sheet.of(order)
    if order.state in (State.PENDING, State.UNCLEAR) and report.status in ("open", "filled"):
        sheet.tell(
            Accepted(
                at_ns=now_ns,
                cid=order.cid,
                venue_order_id=report.venue_order_id,
                venue_ns=report.venue_ns,
                **of,
            )
        )
        sheet.event("order.placed", order.cid, now_ns)
    if report.filled_qty > sheet.orders[order.cid].venue_qty:
        sheet.tell(Reported(at_ns=now_ns, cid=order.cid, venue_qty=report.filled_qty, **of))
    if sheet.orders[order.cid].state is State.CLOSED:
        return
    match report.status:
        case "canceled":
            sheet.tell(Canceled(at_ns=now_ns, cid=order.cid, reason=report.reason, **of))
        case "expired":
            sheet.tell(Expired(at_ns=now_ns, cid=order.cid, reason=report.reason, **of))
        case "rejected":
            sheet.tell(Rejected(at_ns=now_ns, cid=order.cid, code="report", kind="invalid", text=report.reason, **of))


def _report_on_other(sheet: Sheet, report: OrderReport, now_ns: int) -> None:
    ended = sheet.ended.get(report.cid)
    if ended is not None:
        if report.filled_qty > ended.venue_qty:
            # It was at its end, and the venue counts more than we booked: hold it again until that is explained.
            sheet.orders[report.cid] = sheet.ended.pop(report.cid)
            of = sheet.of(ended)
            sheet.tell(Reported(at_ns=now_ns, cid=ended.cid, venue_qty=report.filled_qty, **of))
            text = f"the venue reports {report.filled_qty} filled after the end"
            sheet.facts.append(Corrected(at_ns=now_ns, cid=ended.cid, what=text, **of))
        return
    if report.status != "open":
        return
    stray_closer = is_ours(report.cid) and report.reduce_only and _may_be_left_over(sheet, report, now_ns)
    if stray_closer and not sheet.uncovered() and not sheet.looking:
        # Sent while the journal could not take its intent. It can open nothing, and may be all the cover there is: it
        # goes once our own stop surely stands. Asked for as often as the venue shows it, since a cancel can be lost.
        sheet.commands.append(Cancel(cid=report.cid, symbol=report.symbol, venue_order_id=report.venue_order_id))
    told = report.venue_order_id in sheet.foreign
    sheet.foreign[report.venue_order_id] = now_ns
    if told:
        return
    here: dict[str, Any] = {"account": sheet.position.account, "symbol": sheet.position.symbol}
    sheet.facts.append(
        ForeignSeen(at_ns=now_ns, venue_order_id=report.venue_order_id, cid=report.cid, report=report, **here)
    )
    if stray_closer:
        sheet.alert("warning", "stray_closer", f"order {report.cid} is ours and not in the journal", now_ns)
    elif is_ours(report.cid):
        # Not canceled: the other engine would place it anew, and so on. A closer can only reduce; entries stop here.
        sheet.quarantine(f"order {report.cid} bears our mark but is not in the journal: a second engine?", now_ns)
    else:
        sheet.alert("warning", "foreign_order", f"order {report.venue_order_id} is not ours", now_ns)


def _may_be_left_over(sheet: Sheet, report: OrderReport, now_ns: int) -> bool:
    """Whether a closer can be from an earlier life, sent while its journal had failed: such a one may still arrive and
    become visible for a while after the start. One that is born later, or when there were many, is another engine's."""
    terms = sheet.terms
    bound = terms.window_ns + terms.queue_ns + terms.visible_ns
    since = terms.started_ns + FIRST_LOOK_NS
    if sheet.recovered:
        since = max(since, sheet.compared_ns or now_ns)
    if now_ns < since + bound and len(sheet.left_over) < LEFT_OVER_MAX:
        sheet.left_over[report.venue_order_id] = now_ns
    return report.venue_order_id in sheet.left_over


def fold_fill(sheet: Sheet, report: FillReport, now_ns: int) -> None:
    """One execution moves the position, once, whosever order it was of, and whatever that one's state."""
    if report.exec_id in sheet.seen:
        return
    order = sheet.orders.get(report.cid) or sheet.ended.get(report.cid)
    late = order is not None and order.cid in sheet.ended
    before = sheet.position
    after, fact = _booked(sheet, report, order, now_ns)
    if after.serial != before.serial:
        # Stops of the position before were refused because it had gone at the venue; that says nothing of this one.
        sheet.stop_failures = 0
        sheet.not_before[Leg.STOP] = sheet.not_before[Leg.TARGET] = 0
    sheet.facts.append(fact)
    sheet.seen[report.exec_id] = Seen(report.venue_ns, fact.delta, report.cid)
    sheet.position = after
    if order is not None:
        order = sheet.apply(fact)
        sheet.event("order.filled", order.cid, now_ns, fact)
        if late or order.filled_qty > order.qty:
            what = "a fill after the end" if late else f"filled {order.filled_qty} of {order.qty}"
            sheet.facts.append(_corrected(fact, what))
            sheet.alert("critical", "correction", f"{order.cid}: {what}", now_ns)
            if order.filled_qty > order.qty:
                sheet.quarantine(f"{order.cid} was overfilled", now_ns)
    elif fact.foreign:
        sheet.alert("warning", "foreign_fill", f"execution {report.exec_id} is not ours", now_ns)
    else:
        sheet.facts.append(_corrected(fact, "a fill of an order no longer held"))
    _lifecycle(sheet, before, fact, order, now_ns)


def _booked(sheet: Sheet, report: FillReport, order: Order | None, now_ns: int) -> tuple[Position, Filled]:
    """The position after an execution, and the fact of it; the sheet stays as it is."""
    before, price_of_fee = sheet.position, sheet.worth(report.fee_asset) if report.fee else None
    in_quote = None if price_of_fee is None else report.fee * price_of_fee
    fee_quote = fee_worth(sheet.instrument, report.fee, report.fee_asset, report.price, in_quote)
    after, realised = apply_fill(
        before,
        sheet.instrument,
        report.side,
        report.qty,
        report.price,
        report.fee,
        report.fee_asset,
        fee_quote,
        now_ns,
    )
    fresh = after.serial != before.serial
    after = replace(
        after,
        uncovered_ns=0 if fresh else before.uncovered_ns,
        attempts=0 if fresh else before.attempts,
        closing=before.closing,
    )
    trace_id = order.trace_id if order else (sheet.trade.trace_id if sheet.trade else report.exec_id)
    fact = Filled(
        at_ns=now_ns,
        account=before.account,
        symbol=before.symbol,
        trace_id=trace_id,
        cause=report.exec_id,
        cid=report.cid,
        exec_id=report.exec_id,
        venue_order_id=report.venue_order_id,
        side=report.side,
        qty=report.qty,
        price=report.price,
        fee=report.fee,
        fee_asset=report.fee_asset,
        fee_quote=fee_quote,
        maker=report.maker,
        foreign=not is_ours(report.cid),
        venue_ns=report.venue_ns,
        realised=realised,
        delta=after.qty - before.qty,
        leg=order.leg if order else None,
    )
    return after, fact


def _corrected(fill: Filled, what: str) -> Corrected:
    of = {"account": fill.account, "symbol": fill.symbol, "trace_id": fill.trace_id, "cause": fill.exec_id}
    return Corrected(at_ns=fill.at_ns, cid=fill.cid, what=what, **of)


def _lifecycle(sheet: Sheet, before: Position, fill: Filled, order: Order | None, now_ns: int) -> None:
    after = sheet.position
    enact = sheet.signals.get(order.signal_id) if order else None
    signal_id, source = (enact.signal.signal_id, enact.signal.source) if enact else ("", "")
    closed, trade = fold_trade(
        sheet.trade,
        before,
        after,
        sheet.instrument,
        fill.price,
        fill.realised,
        fill.fee_quote,
        now_ns,
        signal_id,
        source,
        fill.trace_id,
    )
    here: dict[str, Any] = {
        "at_ns": now_ns,
        "account": after.account,
        "symbol": after.symbol,
        "cause": fill.exec_id,
    }
    if closed is not None:
        if before.uncovered_ns:
            exposed_ns = now_ns - before.uncovered_ns
            closed = replace(closed, exposed_ns=closed.exposed_ns + exposed_ns)
            sheet.facts.append(Covered(**here, trace_id=closed.trace_id, exposed_ns=exposed_ns))
        sheet.closed_trade = closed
        sheet.trades[closed.trade_id] = closed
        sheet.facts.append(TradeClosed(**here, trace_id=closed.trace_id, trade=closed))
        sheet.events.append(trade_event("trade.closed", closed, now_ns))
        sheet.position = replace(sheet.position, uncovered_ns=0)
        sheet.plan(None, None, False, fill.exec_id, fill.trace_id, now_ns)
    if trade is not None:
        if sheet.trade is None or sheet.trade.trade_id != trade.trade_id:
            sheet.facts.append(TradeOpened(**here, trace_id=trade.trace_id, trade=trade))
            sheet.events.append(trade_event("trade.opened", trade, now_ns))
        sheet.trades[trade.trade_id] = trade
    sheet.trade = trade
    entered = order is not None and order.leg is Leg.ENTRY and trade is not None
    if enact is not None and entered and (after.qty > 0) == (fill.side is Side.BUY):
        plan = enact.plan
        sheet.plan(plan.stop_loss, plan.take_profit, plan.stop_loss is None, signal_id, fill.trace_id, now_ns)
    sheet.events.append(position_event(sheet.position, now_ns, fill.trace_id))


def fold_funding(sheet: Sheet, report: FundingReport, now_ns: int) -> None:
    key = f"funding/{report.funding_id}"
    if key in sheet.seen:
        return
    sheet.seen[key] = Seen(report.venue_ns, ZERO)
    sheet.facts.append(
        FundingPaid(
            at_ns=now_ns,
            account=sheet.position.account,
            symbol=sheet.position.symbol,
            cause=report.funding_id,
            funding_id=report.funding_id,
            amount=report.amount,
            asset=report.asset,
            venue_ns=report.venue_ns,
        )
    )
    sheet.position = apply_funding(sheet.position, sheet.instrument, report.amount, report.asset, now_ns)
    if sheet.trade is not None and report.asset == sheet.instrument.quote:
        sheet.trade = fund_trade(sheet.trade, report.amount)
        sheet.trades[sheet.trade.trade_id] = sheet.trade


def _fold_withdrawal(sheet: Sheet, transfer: TransferReport, missing: Decimal, now_ns: int) -> None:
    """Of coins that went out, what the wallet now lacks to be the position. Once; what more went was not the
    position's."""
    key = f"transfer/{transfer.transfer_id}"
    qty = min(-transfer.amount, missing, sheet.position.qty)
    if key in sheet.seen or qty <= 0:
        return
    sheet.seen[key] = Seen(transfer.venue_ns, -qty)
    here: dict[str, Any] = {
        "at_ns": now_ns,
        "account": sheet.position.account,
        "symbol": sheet.position.symbol,
        "trace_id": sheet.trade.trace_id if sheet.trade else transfer.transfer_id,
        "cause": transfer.transfer_id,
    }
    sheet.facts.append(Withdrawn(**here, transfer_id=transfer.transfer_id, qty=qty, venue_ns=transfer.venue_ns))
    sheet.position = apply_withdrawal(sheet.position, qty, now_ns)
    sheet.alert("warning", "withdrawn", f"{qty} of the position were transferred away; it is smaller now", now_ns)
    trade = sheet.trade
    if trade is not None and not closable(sheet.position, sheet.instrument):
        trade = close_trade(trade, now_ns)
        sheet.facts.append(TradeClosed(**here, trade=trade))
        sheet.events.append(trade_event("trade.closed", trade, now_ns))
        sheet.trades[trade.trade_id] = trade
        sheet.trade = None  # it has no result, so nobody is told of one (`closed_trade`)
    sheet.events.append(position_event(sheet.position, now_ns, here["trace_id"]))


def fold_comparison(sheet: Sheet, message: Compared, now_ns: int) -> None:
    if sheet.recovered:
        sheet.compared_ns = sheet.compared_ns or now_ns
    for fill in message.fills:
        fold_fill(sheet, fill, now_ns)
    differences = compare(sheet.orders.values(), message)
    for order in differences.vanished:
        sheet.look(order, now_ns, soon=True)
    for report in (*differences.known, *differences.foreign, *differences.strayed):
        fold_report(sheet, report, now_ns)
    _compare_position(sheet, message, now_ns)
    # Gone from the venue's list for as long as that may lag: nobody will tell of it again.
    gone = message.asked_ns - sheet.terms.visible_ns
    sheet.foreign = {venue_id: seen_ns for venue_id, seen_ns in sheet.foreign.items() if seen_ns >= gone}
    if len(sheet.seen) > SEEN_MAX:
        _forget_executions(sheet, message.asked_ns - SEEN_KEPT_NS)


def _forget_executions(sheet: Sheet, old_ns: int) -> None:
    """All that no question brings any more: a comparison asks for what is new, a look-up for its own order's, however
    old. So what is kept is bounded by the executions of a while and of the orders that are held."""
    held = (sheet.orders, sheet.ended, sheet.looking)
    sheet.seen = {
        exec_id: seen
        for exec_id, seen in sheet.seen.items()
        if seen.venue_ns >= old_ns or any(seen.cid in orders for orders in held)
    }


def _compare_position(sheet: Sheet, message: Compared, now_ns: int) -> None:
    """Equal at the moment of the venue's snapshot, or the same difference for as long as the venue may lag: then it is
    one. A venue's position is often newer than its list of executions; until then the symbol only counts as in doubt.
    What was transferred before the wallet last held the position explains nothing that it lacks since.
    """
    at = message.position.venue_ns or message.asked_ns
    later = sum((seen.delta for seen in sheet.seen.values() if seen.venue_ns > at), ZERO)
    for transfer in message.transfers:
        if sheet.agreed_ns - WALLET_LAG_NS <= transfer.venue_ns <= at:
            _fold_withdrawal(sheet, transfer, sheet.position.qty - later - message.position.qty, now_ns)
    difference = message.position.qty - (sheet.position.qty - later)
    if not difference or (message.position.wallet and difference > 0):
        sheet.agreed_ns = now_ns
        sheet.suspect = None
        sheet.mismatched = False
        return
    if sheet.suspect != difference:
        sheet.suspect, sheet.suspect_ns = difference, now_ns
    elif not sheet.mismatched and now_ns - sheet.suspect_ns >= sheet.terms.visible_ns:
        sheet.mismatched = True
        sheet.facts.append(
            Mismatched(
                at_ns=now_ns,
                account=sheet.position.account,
                symbol=sheet.position.symbol,
                what="position",
                ours=str(sheet.position.qty - later),
                theirs=str(message.position.qty),
            )
        )
        sheet.quarantine(f"the venue's position differs from ours by {difference}", now_ns)
