"""Exact decimals: reading them from outside, and rounding them with a direction.

Numbers from outside are finite and of a sane size before they reach any arithmetic: at most 18 digits before and 18
after the point. The context's 40 digits then hold every product the engine makes without rounding on the way.
"""

from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_EVEN, ROUND_UP, Context, Decimal, setcontext

DIGITS_MAX = 18
CONTEXT = Context(prec=40)


class BadNumber(ValueError):
    """The text is no finite decimal of at most 18 + 18 digits."""


def use_exact_context() -> None:
    """Install the engine's decimal context in this thread (contexts are per thread; call where a thread starts)."""
    setcontext(CONTEXT)


def sane(number: Decimal) -> Decimal:
    """`number` itself if it is finite and of a sane size. Raises BadNumber, saying what is wrong."""
    if not number.is_finite():
        raise BadNumber("is not a finite number")
    if number and number.adjusted() >= DIGITS_MAX:
        raise BadNumber(f"has more than {DIGITS_MAX} digits before the point")
    text = str(number)
    if len(text) <= DIGITS_MAX and "E" not in text:
        return number  # as nearly all are; to take a number apart costs more than to write it down
    exponent = number.as_tuple().exponent
    assert isinstance(exponent, int)
    if exponent < -DIGITS_MAX and number != round(number, DIGITS_MAX):
        raise BadNumber(f"has more than {DIGITS_MAX} digits after the point")
    return number


def step_down(number: Decimal, step: Decimal) -> Decimal:
    """The nearest multiple of `step` towards zero."""
    return (number / step).to_integral_value(ROUND_DOWN) * step


def step_up(number: Decimal, step: Decimal) -> Decimal:
    """The nearest multiple of `step` away from zero."""
    return (number / step).to_integral_value(ROUND_UP) * step


def step_floor(number: Decimal, step: Decimal) -> Decimal:
    """The nearest multiple of `step` at or below `number`."""
    return (number / step).to_integral_value(ROUND_FLOOR) * step


def step_ceiling(number: Decimal, step: Decimal) -> Decimal:
    """The nearest multiple of `step` at or above `number`."""
    return (number / step).to_integral_value(ROUND_CEILING) * step


def on_step(number: Decimal, step: Decimal) -> bool:
    """Whether `number` is an exact multiple of `step`."""
    return number % step == 0


def plain(number: Decimal) -> str:
    """Without exponent and trailing zeros: what a person reads and a venue accepts."""
    text = format(number.normalize(), "f") if number else "0"
    return text


def cents(number: Decimal, places: int = 8) -> Decimal:
    """Rounded half-even to `places` decimals; for money that a person reads, never for the ledger."""
    return number.quantize(_PLACES[places], ROUND_HALF_EVEN)


_PLACES = tuple(Decimal(1).scaleb(-places) for places in range(DIGITS_MAX + 1))
