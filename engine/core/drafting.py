"""What a signal would have done, worked out before any rule judges it: side, quantity, price, stop and target. Pure.

What cannot be worked out is left open, and a check says why; the rules speak of the rest.
"""

from decimal import Decimal

from msgspec import Struct

from engine.core.checks import at_least, at_most, missing
from engine.core.exposure import View, sensible
from engine.core.instrument import round_stop
from engine.core.messages import (
    ZERO,
    Action,
    BalanceShare,
    Check,
    Instrument,
    Limits,
    OrderType,
    Plan,
    Quantity,
    Quote,
    Side,
    Signal,
    TargetPosition,
)
from engine.core.money import plain
from engine.core.sizing import Basis, sized, target_delta, to_lot
from engine.core.times import SECOND


class Draft(Struct, frozen=True, gc=False):
    """A signal worked out as far as it goes: which side, how much, at what price. 0 and None: could not be worked out.

    `price` is what one unit is expected to cost: the limit, or the touch for a market order.
    """

    limits: Limits
    instrument: Instrument
    opening: bool
    side: Side | None = None
    price: Decimal | None = None
    touch: Decimal | None = None
    qty: Decimal = ZERO
    worth: Decimal = ZERO
    stop: Decimal | None = None
    target: Decimal | None = None
    waived: bool = False
    nothing_to_do: bool = False
    checks: tuple[Check, ...] = ()  # what working it out had to say


def opens(view: View) -> bool:
    """Whether carrying the signal out could make the position larger or turn it. Buys and sells are never netted."""
    signal = view.signal
    if signal.action is Action.OPEN:
        return not signal.reduce_only
    if signal.action is not Action.TARGET or signal.reduce_only or not isinstance(signal.size, TargetPosition):
        return signal.action is Action.TARGET and not signal.reduce_only
    held = view.position.qty
    delta = _delta(view, signal.size)
    return held == 0 or (held > 0) == (delta > 0) or abs(delta) > abs(held)


def draft_entry(view: View, limits: Limits, instrument: Instrument) -> Draft:
    """An opening order: side, price, stop and target first, since a size may depend on them."""
    signal = view.signal
    side, delta = signal.side, ZERO
    if signal.action is Action.TARGET:
        if not isinstance(signal.size, TargetPosition):
            return Draft(limits, instrument, True, checks=(missing("RSK2.target", "a target position"),))
        delta = _delta(view, signal.size)
        side = Side.BUY if delta > 0 else Side.SELL
        if to_lot(abs(delta), instrument) == 0:
            reached = Check("RSK2.target", True, view.position.qty, signal.size.qty, instrument.base, "already there")
            return Draft(limits, instrument, True, nothing_to_do=True, checks=(reached,))
    if side is None:
        return Draft(limits, instrument, True, checks=(missing("RSK1.side", "a side"),))
    touch, price = _prices(signal, side, view.quote)
    checks: list[Check] = []
    stop, waived = _stop(view, limits, instrument, side, price, checks)
    target = _target(view, limits, instrument, side, price, checks)
    if signal.action is Action.TARGET:
        asked: Decimal | Check = abs(delta)
    elif isinstance(signal.size, TargetPosition):
        asked = missing("RSK2.target", "the action to be a target, as its size is one")
    else:
        asked = sized(signal.size or _SHARE, Basis(limits, price, view.equity, stop, view.position.qty))
    qty = _whole(asked, signal, instrument, checks)
    return Draft(
        limits=limits,
        instrument=instrument,
        opening=True,
        side=side,
        price=price,
        touch=touch,
        qty=qty,
        worth=qty * price if price is not None else ZERO,
        stop=stop,
        target=target,
        waived=waived,
        checks=tuple(checks),
    )


def draft_exit(view: View, limits: Limits, instrument: Instrument) -> Draft:
    """A reducing or protective action. What it may do is bounded by the position, so it needs no market."""
    signal, held = view.signal, view.position.qty
    match signal.action:
        case Action.CANCEL:
            return Draft(limits, instrument, False)
        case Action.MOVE_STOP | Action.MOVE_TARGET:
            return _draft_move(view, limits, instrument)
        case Action.CLOSE:
            return _draft_close(view, limits, instrument)
    if not held:
        return Draft(limits, instrument, False, checks=(missing("RSK2.position", "an open position"),))
    side = Side.SELL if held > 0 else Side.BUY
    checks: list[Check] = []
    if signal.action is Action.OPEN and signal.side is not side:
        text = f"a reduce-only {side.opposite.value} would not reduce the position of {plain(held)}"
        checks.append(Check("RSK1.reduce_only", False, held, ZERO, instrument.base, text))
    touch, price = _prices(signal, side, view.quote)
    if isinstance(signal.size, TargetPosition):
        delta = _delta(view, signal.size)
        wrong_way = (delta > 0) == (held > 0)
        asked: Decimal | Check = ZERO if wrong_way else abs(delta)
        if wrong_way or to_lot(abs(delta), instrument) == 0:
            reached = Check("RSK2.target", True, held, signal.size.qty, instrument.base, "already there")
            return Draft(limits, instrument, False, nothing_to_do=True, checks=(*checks, reached))
    elif signal.size is None:
        asked = missing("RSK2.size", "a size")
    else:
        asked = sized(signal.size, Basis(limits, price, view.equity, None, held))
    if isinstance(asked, Decimal):
        asked = min(asked, abs(held))
    qty = _whole(asked, signal, instrument, checks)
    return Draft(limits, instrument, False, side, price, touch, qty, checks=tuple(checks))


def _draft_close(view: View, limits: Limits, instrument: Instrument) -> Draft:
    """All that is held, and as much again as may still be filled: the order actor takes what is there by then."""
    held = view.position.qty
    coming = view.buying if held > 0 else view.selling if held < 0 else max(view.buying, view.selling)
    qty = to_lot(abs(held) + coming, instrument)
    if not qty:
        if held:
            text = f"the position of {plain(held)} is less than a lot of {plain(instrument.lot)}: no order can close it"
        else:
            text = "nothing is open and nothing is on its way"
        check = Check("RSK2.position", False, held, ZERO, instrument.base, text)
        return Draft(limits, instrument, False, checks=(check,))
    long = held > 0 or (held == 0 and view.buying >= view.selling)
    side = Side.SELL if long else Side.BUY
    touch, price = _prices(view.signal, side, view.quote)
    return Draft(limits, instrument, False, side, price, touch, qty)


def _draft_move(view: View, limits: Limits, instrument: Instrument) -> Draft:
    signal, held = view.signal, view.position.qty
    is_stop = signal.action is Action.MOVE_STOP
    rule = "RSK1.stop_side" if is_stop else "RSK1.target_side"
    level = signal.stop_loss if is_stop else signal.take_profit
    coming = view.buying - view.selling
    if not held and not coming:
        return Draft(limits, instrument, False, checks=(missing("RSK2.position", "an open position"),))
    if level is None:
        needed = missing("RSK1.stop_loss" if is_stop else "RSK1.take_profit", "a price to move to")
        return Draft(limits, instrument, False, checks=(needed,))
    sign = 1 if (held or coming) > 0 else -1
    rounded = round_stop(instrument, sign if is_stop else -sign, level)
    if rounded <= 0:
        check = Check(rule, False, rounded, ZERO, instrument.quote, "the price must be more than zero")
    elif view.quote is None:
        # Moving a stop protects: it is not held up because the market cannot be seen.
        check = Check(rule, True, rounded, None, instrument.quote, "no market price at hand to compare with")
    else:
        market = view.quote.bid if sign > 0 else view.quote.ask
        below = rounded < market
        right = below if is_stop == (sign > 0) else rounded > market
        word = "below" if is_stop == (sign > 0) else "above"
        text = "" if right else f"{plain(rounded)} must be {word} the market at {plain(market)}"
        check = Check(rule, right, rounded, market, instrument.quote, text)
    if is_stop:
        return Draft(limits, instrument, False, stop=rounded, checks=(check,))
    return Draft(limits, instrument, False, target=rounded, checks=(check,))


def _prices(signal: Signal, side: Side, quote: Quote | None) -> tuple[Decimal | None, Decimal | None]:
    """(touch, expected price). A seller's limit below the bid is filled at the bid, so the higher one counts."""
    sound = quote is not None and sensible(quote)
    touch = None if quote is None or not sound else quote.ask if side is Side.BUY else quote.bid
    if signal.order_type is not OrderType.LIMIT:
        return touch, touch
    limit = signal.limit_price
    if limit is None or limit <= 0:
        return touch, None
    return touch, limit if side is Side.BUY or touch is None else max(limit, touch)


def _delta(view: View, size: TargetPosition) -> Decimal:
    return target_delta(size, view.position.qty, view.buying - view.selling)


def _whole(asked: Decimal | Check, signal: Signal, instrument: Instrument, checks: list[Check]) -> Decimal:
    """Rounded down to the lot, and said so where the signal named the quantity itself."""
    if isinstance(asked, Check):
        checks.append(asked)
        return ZERO
    qty = to_lot(asked, instrument)
    text = ""
    if qty != asked and isinstance(signal.size, Quantity):
        text = f"{plain(asked)} is rounded down to the lot of {plain(instrument.lot)}"
    checks.append(Check("RSK1.qty_step", True, qty, instrument.lot, instrument.base, text))
    return qty


def _stop(
    view: View, limits: Limits, instrument: Instrument, side: Side, price: Decimal | None, checks: list[Check]
) -> tuple[Decimal | None, bool]:
    """(stop-loss, waived). The signal's own, else the position's, else the account's default distance (SPEC RSK3)."""
    signal, sign = view.signal, side.sign
    if price is None:
        return signal.stop_loss, False  # the rule on prices has complained
    if signal.stop_loss is not None:
        return _placed_stop(signal.stop_loss, limits, instrument, sign, price, checks), False
    kept = view.position.stop_loss
    if (
        kept is not None
        and view.position.qty * sign > 0
        and ZERO < (price - kept) * sign <= limits.stop_distance_max * price
    ):
        checks.append(Check("RSK3.stop", True, kept, None, instrument.quote, "the position's own stop is kept"))
        return kept, False
    if (signal.hedge and limits.stop_waived_for_hedges) or not limits.stop_required:
        reason = "waived for a hedge" if signal.hedge else "the account does not require a stop"
        checks.append(Check("RSK3.stop", True, reason=reason))
        return None, True
    stop = round_stop(instrument, sign, price * (1 - sign * limits.stop_distance_default))
    checks.append(Check("RSK3.stop", True, stop, limits.stop_distance_default, instrument.quote, "default distance"))
    return stop, False


def _placed_stop(
    asked: Decimal, limits: Limits, instrument: Instrument, sign: int, price: Decimal, checks: list[Check]
) -> Decimal:
    """The signal's stop on the tick, at a distance that is allowed; moved where the account wishes it so."""
    stop = round_stop(instrument, sign, asked)
    distance = (price - stop) * sign / price
    if distance <= 0:
        where = "below" if sign > 0 else "above"
        text = f"the stop at {plain(stop)} must be {where} the entry at {plain(price)}"
        checks.append(Check("RSK1.stop_side", False, stop, price, instrument.quote, text))
        return stop
    checks.append(Check("RSK1.stop_side", True, stop, price, instrument.quote))
    note = ""
    if limits.adjust_stops and distance < limits.stop_distance_min:
        stop = round_stop(instrument, -sign, price * (1 - sign * limits.stop_distance_min))
        note = f"moved away from {plain(asked)}"
    elif limits.adjust_stops and distance > limits.stop_distance_max:
        stop = round_stop(instrument, sign, price * (1 - sign * limits.stop_distance_max))
        note = f"moved nearer from {plain(asked)}"
    distance = (price - stop) * sign / price
    checks.append(
        at_least("RSK1.stop_distance_min", distance, limits.stop_distance_min, "fraction", "the stop's distance", note)
    )
    checks.append(
        at_most("RSK3.stop_distance_max", distance, limits.stop_distance_max, "fraction", "the stop's distance", note)
    )
    return stop


def _target(
    view: View, limits: Limits, instrument: Instrument, side: Side, price: Decimal | None, checks: list[Check]
) -> Decimal | None:
    """The signal's take-profit, else the position's where it still lies ahead."""
    signal, sign = view.signal, side.sign
    if price is None:
        return signal.take_profit
    if signal.take_profit is None:
        kept = view.position.take_profit
        ahead = kept is not None and view.position.qty * sign > 0 and (kept - price) * sign > 0
        return kept if ahead else None
    target = round_stop(instrument, -sign, signal.take_profit)
    distance = (target - price) * sign / price
    if distance <= 0 or target <= 0:
        where = "above" if sign > 0 else "below"
        text = f"the target at {plain(target)} must be {where} the entry at {plain(price)}"
        checks.append(Check("RSK1.target_side", False, target, price, instrument.quote, text))
        return target
    checks.append(Check("RSK1.target_side", True, target, price, instrument.quote))
    note = ""
    if limits.adjust_stops and distance < limits.stop_distance_min:
        target = round_stop(instrument, sign, price * (1 + sign * limits.stop_distance_min))
        distance = (target - price) * sign / price
        note = f"moved away from {plain(signal.take_profit)}"
    checks.append(
        at_least(
            "RSK1.target_distance_min", distance, limits.stop_distance_min, "fraction", "the target's distance", note
        )
    )
    return target


def plan_of(view: View, draft: Draft) -> Plan:
    signal = view.signal
    after = signal.cancel_after_seconds
    return Plan(
        action=signal.action,
        side=draft.side,
        qty=draft.qty,
        order_type=signal.order_type,
        tif=signal.tif,
        price=signal.limit_price,
        reduce_only=draft.side is not None and not draft.opening,
        stop_loss=draft.stop,
        take_profit=draft.target,
        reference_price=signal.reference_price or draft.touch or draft.price or ZERO,
        reserve_price=draft.price or ZERO,
        valid_until_ns=signal.valid_until_ns,
        cancel_after_ns=None if after is None else int(after * SECOND),
        refers_to=signal.refers_to,
    )


_SHARE = BalanceShare()
