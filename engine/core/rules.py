"""The risk rules (SPEC RSK1-RSK7, RSK10, ING5): pure functions over a `View`, in a fixed order, and `judge` over all.

Each rule answers with the numbers it compared. Every rule that fails is told, not only the first; a rule whose input is
missing because another rule has already complained about it says nothing; a rule that lacks data of its own refuses.
What reduces or protects passes where only opening is stopped. Nothing here remembers anything or reads a clock.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import TypeAlias

from msgspec import Struct

from engine.core.checks import at_least, at_most, count_within, missing, under
from engine.core.drafting import Draft, draft_entry, draft_exit, opens, plan_of
from engine.core.exposure import View, leverage_of, sensible
from engine.core.instrument import price_fits
from engine.core.messages import (
    ZERO,
    Action,
    Check,
    InstrumentKind,
    Limits,
    OrderType,
    Outcome,
    Plan,
    Side,
    TimeInForce,
)
from engine.core.money import plain, step_down
from engine.core.times import SECOND

FUTURE_SECONDS = 5  # a sender's clock may be this far ahead
_FUTURE_NS = FUTURE_SECONDS * SECOND
_ONE = Decimal(1)


class Verdict(Struct, frozen=True, gc=False):
    """What became of a signal at the gate. A plan only when ACCEPTED."""

    outcome: Outcome
    checks: tuple[Check, ...]
    plan: Plan | None = None


Found: TypeAlias = Check | tuple[Check, ...] | None
FirstRule: TypeAlias = Callable[[View], Found]
DraftRule: TypeAlias = Callable[[View, Draft], Found]


def judge(view: View) -> Verdict:
    """The gate's whole answer to one signal."""
    signal = view.signal
    if signal.action is Action.RECORD:
        return Verdict(Outcome.RECORDED, ())
    checks: list[Check] = []
    for first in FIRST:
        _add(checks, first(view))
    opening = opens(view)
    if opening:
        for first in FIRST_OPENING:
            _add(checks, first(view))
    if view.instrument is None or (opening and view.limits is None):
        return Verdict(Outcome.REFUSED, tuple(checks))
    limits = view.limits if view.limits is not None else _DEFAULTS
    draft = draft_entry(view, limits, view.instrument) if opening else draft_exit(view, limits, view.instrument)
    checks += draft.checks
    for rule in OPENING if opening else REDUCING:
        _add(checks, rule(view, draft))
    for check in checks:
        if not check.passed:
            return Verdict(Outcome.REFUSED, tuple(checks))
    if draft.nothing_to_do:
        return Verdict(Outcome.RECORDED, tuple(checks))
    return Verdict(Outcome.ACCEPTED, tuple(checks), plan_of(view, draft))


# ----------------------------------------------------------------------------------------------- rules for every action


def symbol_known(view: View) -> Found:
    if view.instrument is not None:
        return _OK_SYMBOL
    return Check("RSK1.symbol", False, reason=f"{view.signal.symbol} is not an instrument of {view.venue or 'a venue'}")


def venue_matches(view: View) -> Found:
    named = view.signal.venue
    if named is None or named == view.venue:
        return None
    return Check("RSK1.venue", False, reason=f"the signal names {named}, the account trades at {view.venue}")


def in_time(view: View) -> Found:
    """ING5: neither too old nor from the future. Both figures are seconds."""
    signal, now_ns = view.signal, view.now_ns
    late = now_ns - signal.valid_until_ns
    if late > 0:
        text = f"its time was over {plain(_seconds(late))} s ago"
        return Check("ING5.age", False, _seconds(late), ZERO, "s past its time", text)
    ahead = 0 if signal.created_ns is None else signal.created_ns - now_ns
    if ahead > _FUTURE_NS:
        text = f"it was created {plain(_seconds(ahead))} s in the future; the clocks disagree"
        return Check("ING5.future", False, _seconds(ahead), Decimal(FUTURE_SECONDS), "s", text)
    return Check("ING5.age", True, _seconds(late), ZERO, "s past its time")


# --------------------------------------------------------------------------- rules for opening that need no numbers yet


def has_limits(view: View) -> Found:
    """RSK10: an account without limits does not trade."""
    return None if view.limits is not None else _NO_LIMITS


def not_halted(view: View) -> Found:
    if not view.halts:
        return None
    return tuple(Check("RSK11.halt", False, reason=f"{halt.scope} is halted: {halt.reason}") for halt in view.halts)


def emergency(view: View) -> Found:
    """RSK8: what the risk service said last, and how long ago."""
    return view.ess


def no_doubt(view: View) -> Found:
    """P4: an order of this symbol whose outcome is not known blocks new exposure on it."""
    if not view.unclear:
        return None
    text = f"{view.unclear} order(s) of {view.signal.symbol} or its position have an unknown outcome"
    return Check("P4.unclear", False, Decimal(view.unclear), ZERO, "orders", text)


def symbol_allowed(view: View) -> Found:
    limits = view.limits
    if limits is None or not limits.symbols or view.signal.symbol in limits.symbols:
        return None
    return Check("RSK1.symbol_allowed", False, reason=f"{view.signal.symbol} is not on the account's list of symbols")


def quote_currency(view: View) -> Found:
    """Limits are counted in the account's quote currency; what is quoted in another cannot be compared with them."""
    if view.instrument is None or view.instrument.quote == view.account_quote:
        return None
    text = (
        f"{view.signal.symbol} is quoted in {view.instrument.quote}, the account's limits are in {view.account_quote}"
    )
    return Check("RSK1.quote_currency", False, reason=text)


def good_enough(view: View) -> Found:
    """RSK1: strength, confluence and confidence over their thresholds, each only if the signal has it."""
    signal, limits = view.signal, view.limits
    if limits is None or (signal.strength is None and signal.confluence is None and signal.confidence is None):
        return None
    found = []
    if signal.strength is not None:
        found.append(at_least("RSK1.strength", signal.strength, limits.strength_min, "", "the strength"))
    if signal.confluence is not None:
        found.append(at_least("RSK1.confluence", signal.confluence, limits.confluence_min, "", "the confluence score"))
    if signal.confidence is not None:
        found.append(at_least("RSK1.confidence", signal.confidence, limits.confidence_min, "", "the confidence"))
    return tuple(found)


# -------------------------------------------------------------------------------------- rules for every order: its form


def order_form(view: View, draft: Draft) -> Found:
    """RSK1: a type that can be sent, a limit price where and only where one belongs, on the tick."""
    signal, instrument = view.signal, draft.instrument
    price = signal.limit_price
    if signal.action not in _ORDERING:
        return None
    if signal.order_type.conditional:
        text = f"{signal.order_type.value} is not supported for a signal; its stop and target are separate fields"
        return Check("RSK1.order_type", False, reason=text)
    if signal.order_type is OrderType.MARKET:
        if price is not None:
            text = "limit_price does not go with a market order"
            return Check("RSK1.limit_price", False, price, None, instrument.quote, text)
        if signal.tif is TimeInForce.POST_ONLY:
            return Check("RSK1.tif", False, reason="a market order cannot be post-only")
        return None
    if price is None:
        return missing("RSK1.limit_price", "limit_price for a limit order")
    if price_fits(instrument, price):
        return Check("RSK1.price_step", True, price, instrument.tick, instrument.quote)
    if price <= 0:
        return Check("RSK1.price_step", False, price, ZERO, instrument.quote, "limit_price must be more than zero")
    low = step_down(price, instrument.tick)
    text = (
        f"limit_price {plain(price)} is off the tick of {plain(instrument.tick)};"
        f" the nearest are {plain(low)} and {plain(low + instrument.tick)}"
    )
    return Check("RSK1.price_step", False, price, instrument.tick, instrument.quote, text)


def qty_range(view: View, draft: Draft) -> Found:
    """RSK1: at least the instrument's minimum, at most its maximum."""
    instrument, qty = draft.instrument, draft.qty
    if draft.side is None or draft.nothing_to_do or any(not c.passed and c.rule[:5] == "RSK2." for c in draft.checks):
        return None
    if qty < instrument.qty_min or not qty:
        least = max(instrument.qty_min, instrument.lot)
        text = f"the quantity comes to {plain(qty)} {instrument.base}, less than the minimum of {plain(least)}"
        return Check("RSK1.qty_min", False, qty, least, instrument.base, text)
    if qty > instrument.qty_max and draft.opening:
        return at_most("RSK1.qty_max", qty, instrument.qty_max, instrument.base, "the quantity")
    return Check("RSK1.qty_min", True, qty, instrument.qty_min, instrument.base)


def aggressive_exit(view: View, draft: Draft) -> Found:
    """RSK6: a reducing limit order does not sell far below or buy far above the market (price collar)."""
    limit, touch, side = view.signal.limit_price, draft.touch, draft.side
    if limit is None or touch is None or side is None:
        return None
    beyond = (limit - touch) * side.sign / touch
    return at_most("RSK6.collar", beyond, draft.limits.price_deviation_max, "fraction", "the price beyond the touch")


# ---------------------------------------------------------------------------------------- rules for opening: the market


def fresh_quote(view: View, draft: Draft) -> Found:
    """RSK6: no market data, no order; stale data counts as none."""
    quote = view.quote
    if quote is None:
        return Check("RSK6.quote", False, reason=f"there is no market price of {view.signal.symbol}")
    if not sensible(quote):
        text = f"the market price makes no sense: bid {plain(quote.bid)}, ask {plain(quote.ask)}"
        return Check("RSK6.quote", False, quote.bid, quote.ask, draft.instrument.quote, text)
    age = _seconds(view.now_ns - quote.at_ns)
    return at_most("RSK6.quote_age", age, draft.limits.quote_age_max_seconds, "s", "the age of the market price")


def near_market(view: View, draft: Draft) -> Found:
    """RSK6: the price at which the order may fill is near the middle of the market, on either side."""
    quote, price = view.quote, draft.price
    if quote is None or price is None or draft.touch is None:
        return None
    if view.signal.order_type is OrderType.LIMIT and view.signal.limit_price is not None:
        price = view.signal.limit_price
    mid = quote.mid
    away = abs(price - mid) / mid
    return at_most("RSK6.deviation", away, draft.limits.price_deviation_max, "fraction", "the distance from the market")


def reference_near(view: View, draft: Draft) -> Found:
    """ING5: the market has not moved too far from what the decider saw."""
    reference, quote = view.signal.reference_price, view.quote
    if reference is None or quote is None or draft.touch is None:
        return None
    if reference <= 0:
        return Check(
            "ING5.drift", False, reference, ZERO, draft.instrument.quote, "reference_price must be more than zero"
        )
    drift = abs(quote.mid - reference) / reference
    text = "the market's move from the reference price"
    return at_most("ING5.drift", drift, draft.limits.reference_drift_max, "fraction", text)


def slippage(view: View, draft: Draft) -> Found:
    """RSK6: what a market order is expected to pay beyond the middle (or the decider's price, where that is worse).

    Beyond the displayed quantity each further helping of the same size is taken to cost one more spread.
    """
    quote, touch = view.quote, draft.touch
    if view.signal.order_type is not OrderType.MARKET or quote is None or touch is None or not draft.qty:
        return None
    shown = quote.ask_qty if draft.side is Side.BUY else quote.bid_qty
    reference = view.signal.reference_price or quote.mid
    expected = touch
    sign = 1 if draft.side is Side.BUY else -1
    if shown and draft.qty > shown:
        expected = touch + sign * (quote.ask - quote.bid) * (draft.qty - shown) / shown / 2
    if reference <= 0:
        return None
    cost = max((expected - reference) * sign / reference, ZERO)
    return at_most("RSK6.slippage", cost, draft.limits.slippage_max, "fraction", "the expected slippage")


def reward_for_risk(view: View, draft: Draft) -> Found:
    """RSK3: reward over risk, where the signal gives both."""
    signal, price, stop, target = view.signal, draft.price, draft.stop, draft.target
    if signal.stop_loss is None or signal.take_profit is None or price is None or stop is None or target is None:
        return None
    risk, reward = abs(price - stop), abs(target - price)
    if not risk:
        return None
    return at_least("RSK3.reward_risk", reward / risk, draft.limits.reward_risk_min, "", "reward over risk")


# ----------------------------------------------------------------------------------- rules for opening: size and number


def order_size(view: View, draft: Draft) -> Found:
    """RSK4: at most 1 BTC or its worth (default); RSK1: no dust."""
    if not draft.worth:
        return None
    limits, instrument = draft.limits, draft.instrument
    least = max(limits.order_notional_min, instrument.notional_min)
    in_btc = draft.qty if instrument.base == "BTC" else draft.worth / _btc_price(view, limits)
    return (
        at_most("RSK4.order_max", in_btc, limits.order_btc_max, "BTC", "the order"),
        at_least("RSK4.order_min", draft.worth, least, instrument.quote, "the order's worth"),
    )


def position_size(view: View, draft: Draft) -> Found:
    """RSK4, I11: the position if everything in flight on this side fills."""
    if not draft.worth or draft.price is None:
        return None
    held = view.position.qty
    projected = held + view.buying if draft.side is Side.BUY else view.selling - held
    worth = max(projected + draft.qty, ZERO) * draft.price
    limit = draft.limits.position_notional_max
    return at_most("RSK4.position_max", worth, limit, draft.instrument.quote, "the position, with all in flight,")


def position_count(view: View, draft: Draft) -> Found:
    count = Decimal(view.positions_open if view.symbol_counts else view.positions_open + 1)
    limit = Decimal(draft.limits.positions_max)
    return at_most("RSK4.positions_max", count, limit, "positions", "the number of positions, with those in flight,")


def total_exposure(view: View, draft: Draft) -> Found:
    if not draft.worth:
        return None
    total = view.exposure + draft.worth
    limit = draft.limits.exposure_max
    return at_most("RSK4.exposure_max", total, limit, draft.instrument.quote, "the exposure, with all in flight,")


def daily_volume(view: View, draft: Draft) -> Found:
    if not draft.worth:
        return None
    volume = (view.day_volume + view.reserved + draft.worth) / _btc_price(view, draft.limits)
    limit = draft.limits.daily_volume_btc_max
    return at_most("RSK4.daily_volume", volume, limit, "BTC", "today's volume, with all in flight,")


def order_rate(view: View, draft: Draft) -> Found:
    """RSK4, I13: in any second, minute and day. This order is counted in."""
    limits = draft.limits
    return (
        count_within(
            "RSK4.orders_per_second", view.orders_second + 1, limits.orders_per_second, "orders within a second"
        ),
        count_within(
            "RSK4.orders_per_minute", view.orders_minute + 1, limits.orders_per_minute, "orders within a minute"
        ),
        count_within("RSK4.orders_per_day", view.orders_day + 1, limits.orders_per_day, "orders today"),
    )


def symbol_pause(view: View, draft: Draft) -> Found:
    pause = draft.limits.symbol_pause_seconds
    if not pause or not view.last_order_ns:
        return None
    passed = _seconds(view.now_ns - view.last_order_ns)
    return at_least("RSK4.symbol_pause", passed, pause, "s", "the time since the last order on the symbol")


def no_duplicate(view: View, draft: Draft) -> Found:
    """RSK4: the same symbol, side and quantity within the window is taken for a repeat."""
    window = draft.limits.duplicate_window_seconds
    if draft.side is None or not draft.qty or not window:
        return None
    last_ns = view.recent.get((view.signal.symbol, draft.side, draft.qty))
    if last_ns is None:
        return None
    passed = _seconds(view.now_ns - last_ns)
    return at_least("RSK4.duplicate", passed, window, "s", "the time since an order of the same side and quantity")


# --------------------------------------------------------------------------------------- rules for opening: the account


def daily_loss(view: View, draft: Draft) -> Found:
    """RSK5: what today lost, fees, funding and losses on open positions included."""
    loss = max(-(view.day_net + min(view.gain, ZERO)), ZERO)
    limit = draft.limits.daily_loss_max
    return under("RSK5.daily_loss", loss, limit, view.account_quote, "today's loss")


def drawdown(view: View, draft: Draft) -> Found:
    """RSK5: by what is there, also where it may turn out to be a transfer: only the halt waits for that to be known."""
    if view.equity is None or view.settled_equity is None:
        return Check("RSK5.drawdown", False, reason="the account's equity is not known yet")
    if view.peak_equity <= 0:
        return None
    gone = (view.peak_equity - min(view.equity, view.settled_equity)) / view.peak_equity
    return under("RSK5.drawdown", gone, draft.limits.drawdown_max, "fraction", "the loss from the peak")


def losses_in_row(view: View, draft: Draft) -> Found:
    losses, limit = Decimal(view.losses_in_row), Decimal(draft.limits.losses_in_row_max)
    return under("RSK5.losses_in_row", losses, limit, "trades", "the number of losses in a row")


def funds(view: View, draft: Draft) -> Found:
    """RSK7: the wallet carries the order beside all that is in flight, fee included."""
    if not draft.worth:
        return None
    instrument = draft.instrument
    if view.free_quote is None or view.free_base is None:
        return Check("RSK7.balance", False, reason="the account's balance is not known yet")
    fee = draft.worth * instrument.taker_fee
    if instrument.kind is InstrumentKind.LINEAR:
        margin = draft.worth / leverage_of(instrument, draft.limits) + fee
        return at_most("RSK7.margin", margin, view.free_quote, instrument.quote, "the margin and fee needed")
    if draft.side is Side.SELL:
        return at_most("RSK7.balance", draft.qty, view.free_base, instrument.base, "the quantity to sell")
    return at_most("RSK7.balance", draft.worth + fee, view.free_quote, instrument.quote, "the cost with its fee")


FIRST: tuple[FirstRule, ...] = (symbol_known, venue_matches, in_time)
FIRST_OPENING: tuple[FirstRule, ...] = (
    has_limits,
    not_halted,
    emergency,
    no_doubt,
    symbol_allowed,
    quote_currency,
    good_enough,
)
REDUCING: tuple[DraftRule, ...] = (order_form, qty_range, aggressive_exit)
OPENING: tuple[DraftRule, ...] = (
    order_form,
    qty_range,
    fresh_quote,
    near_market,
    reference_near,
    slippage,
    reward_for_risk,
    order_size,
    position_size,
    position_count,
    total_exposure,
    daily_volume,
    order_rate,
    symbol_pause,
    no_duplicate,
    daily_loss,
    drawdown,
    losses_in_row,
    funds,
)
RULES: tuple[FirstRule | DraftRule, ...] = FIRST + FIRST_OPENING + OPENING

_ORDERING = (Action.OPEN, Action.TARGET, Action.CLOSE, Action.REDUCE)
_DEFAULTS = Limits()
_OK_SYMBOL = Check("RSK1.symbol", True)
_NO_LIMITS = Check("RSK10.limits", False, reason="the account has no limits, and without limits it does not trade")


def _add(checks: list[Check], found: Found) -> None:
    if found is None:
        return
    if isinstance(found, tuple):
        checks.extend(found)
    else:
        checks.append(found)


def _btc_price(view: View, limits: Limits) -> Decimal:
    return view.btc_price or limits.btc_price


def _seconds(ns: int) -> Decimal:
    return Decimal(ns // 1_000_000).scaleb(-3)
