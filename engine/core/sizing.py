"""From what a signal asks for to a quantity (SPEC RSK2): each way of sizing is one pure function.

Every function gives base currency, exact and not yet rounded, or the `Check` that says why there is none. `to_lot` then
rounds down, never up: what is traded is never more than what was asked for.
"""

from decimal import Decimal

from msgspec import Struct

from engine.core.messages import (
    ZERO,
    BalanceShare,
    Check,
    HedgeShare,
    Instrument,
    Limits,
    PositionShare,
    Quantity,
    QuoteAmount,
    RiskShare,
    TargetPosition,
)
from engine.core.money import cents, plain, step_down

ONE = Decimal(1)


class Basis(Struct, frozen=True, gc=False):
    """What sizing may lean on. None: not known."""

    limits: Limits
    price: Decimal | None  # quote per base at which the order is expected to fill
    equity: Decimal | None  # quote
    stop: Decimal | None  # price of the stop-loss
    position: Decimal  # signed base


def quantity(size: Quantity, basis: Basis) -> Decimal | Check:
    """So much base."""
    return size.qty if size.qty > 0 else _refused("RSK2.quantity", size.qty, "the quantity must be more than zero")


def quote_amount(size: QuoteAmount, basis: Basis) -> Decimal | Check:
    """So much of the quote currency, at the expected price."""
    if size.amount <= 0:
        return _refused("RSK2.quote_amount", size.amount, "the amount must be more than zero")
    if basis.price is None:
        return _lacking("RSK2.quote_amount", "a price")
    return size.amount / basis.price


def balance_share(size: BalanceShare, basis: Basis) -> Decimal | Check:
    """A fraction of equity; the account's default when none is given."""
    fraction = basis.limits.balance_share if size.fraction is None else size.fraction
    if not ZERO < fraction <= basis.limits.balance_share_max:
        return _outside("RSK2.balance_share", fraction, basis.limits.balance_share_max, "the share of the balance")
    if basis.equity is None or basis.price is None:
        return _lacking("RSK2.balance_share", "a price" if basis.price is None else "the account's equity")
    return max(basis.equity, ZERO) * fraction / basis.price


def risk_share(size: RiskShare, basis: Basis) -> Decimal | Check:
    """So much that the way from the price to the stop costs this fraction of equity (fixed fractional sizing)."""
    if not ZERO < size.fraction <= basis.limits.risk_share_max:
        return _outside("RSK2.risk_share", size.fraction, basis.limits.risk_share_max, "the share of equity at risk")
    if basis.equity is None or basis.price is None:
        return _lacking("RSK2.risk_share", "a price" if basis.price is None else "the account's equity")
    if basis.stop is None or basis.stop == basis.price:
        return _lacking("RSK2.risk_share", "a stop-loss away from the entry")
    return max(basis.equity, ZERO) * size.fraction / abs(basis.price - basis.stop)


def hedge_share(size: HedgeShare, basis: Basis) -> Decimal | Check:
    """A ratio of an exposure in base. More than the whole is taken for a mistake of units (30 for 30 %)."""
    if not ZERO < size.ratio <= ONE:
        return _outside("RSK2.hedge_ratio", size.ratio, ONE, "the hedge ratio")
    if not size.exposure:
        return _refused("RSK2.hedge_exposure", size.exposure, "there is no exposure to hedge")
    return abs(size.exposure) * size.ratio


def position_share(size: PositionShare, basis: Basis) -> Decimal | Check:
    """A fraction of the open position."""
    if not ZERO < size.fraction <= ONE:
        return _outside("RSK2.position_share", size.fraction, ONE, "the share of the position")
    return abs(basis.position) * size.fraction


def target_delta(size: TargetPosition, position: Decimal, in_flight: Decimal) -> Decimal:
    """Signed base to trade so that position and all that is in flight come to the target."""
    return size.qty - (position + in_flight)


Unsigned = Quantity | QuoteAmount | BalanceShare | RiskShare | HedgeShare | PositionShare


def sized(size: Unsigned, basis: Basis) -> Decimal | Check:
    """Base to trade, before rounding, by whichever way the signal chose."""
    match size:
        case Quantity():
            return quantity(size, basis)
        case QuoteAmount():
            return quote_amount(size, basis)
        case BalanceShare():
            return balance_share(size, basis)
        case RiskShare():
            return risk_share(size, basis)
        case HedgeShare():
            return hedge_share(size, basis)
        case PositionShare():
            return position_share(size, basis)


def to_lot(qty: Decimal, instrument: Instrument) -> Decimal:
    """Down to the lot."""
    return step_down(qty, instrument.lot)


def _outside(rule: str, value: Decimal, limit: Decimal, what: str) -> Check:
    reason = f"{what} is {plain(cents(value))}; it must be more than 0 and at most {plain(limit)}"
    return Check(rule, False, value, limit, "fraction", reason)


def _refused(rule: str, value: Decimal, reason: str) -> Check:
    return Check(rule, False, value, ZERO, "", reason)


def _lacking(rule: str, what: str) -> Check:
    return Check(rule, False, reason=f"{what} is needed for this size and is not known")
