"""How a rule says what it compared: a number, its limit, and a sentence where it does not hold. Pure."""

from decimal import Decimal

from engine.core.messages import Check
from engine.core.money import cents, plain


def at_most(rule: str, value: Decimal, limit: Decimal, unit: str, what: str, note: str = "") -> Check:
    if value <= limit:
        return Check(rule, True, _short(value), limit, unit, note)
    return Check(rule, False, _short(value), limit, unit, _sentence(what, value, unit, "more than the", limit))


def at_least(rule: str, value: Decimal, limit: Decimal, unit: str, what: str, note: str = "") -> Check:
    if value >= limit:
        return Check(rule, True, _short(value), limit, unit, note)
    return Check(rule, False, _short(value), limit, unit, _sentence(what, value, unit, "less than the", limit))


def under(rule: str, value: Decimal, limit: Decimal, unit: str, what: str) -> Check:
    """Reaching the limit is a breach already."""
    if value < limit:
        return Check(rule, True, _short(value), limit, unit)
    return Check(rule, False, _short(value), limit, unit, _sentence(what, value, unit, "at the limit of", limit))


def count_within(rule: str, value: int, limit: int, what: str) -> Check:
    if value <= limit:
        return Check(rule, True, Decimal(value), Decimal(limit), "orders")
    return Check(rule, False, Decimal(value), Decimal(limit), "orders", f"{what}: this is number {value} of {limit}")


def _short(value: Decimal) -> Decimal:
    """Recorded with at most twelve places; it was compared with all."""
    short = cents(value, 12)
    return value if value == short else short


def _sentence(what: str, value: Decimal, unit: str, how: str, limit: Decimal) -> str:
    amount = f"{plain(cents(value))} {unit}".rstrip()
    return f"{what} is {amount}, {how} {plain(limit)}"


def missing(rule: str, what: str) -> Check:
    return Check(rule, False, reason=f"this action needs {what}")
