"""What makes a set of limits senseless: figures out of range or at odds with each other.

The same check serves the config file and every live change, so that no door is wider than another.
"""

from decimal import Decimal

from msgspec.structs import asdict

from engine.core.messages import Limits, Refusal

# Fractions of one. A drawdown or a share above 1 would be a limit that limits nothing.
_FRACTIONS = (
    "strength_min",
    "confidence_min",
    "balance_share",
    "balance_share_max",
    "risk_share_max",
    "stop_distance_default",
    "stop_distance_min",
    "stop_distance_max",
    "drawdown_max",
    "price_deviation_max",
    "reference_drift_max",
    "slippage_max",
)
# Zero here would refuse everything, or divide by it; whoever wants no trading uses a halt, which says so.
_POSITIVE = (
    "btc_price",
    "stop_distance_default",
    "stop_distance_max",
    "quote_age_max_seconds",
    "leverage_max",
    "signal_ttl_seconds",
)
_ORDERED = (
    ("balance_share", "balance_share_max"),
    ("stop_distance_min", "stop_distance_default"),
    ("stop_distance_default", "stop_distance_max"),
)


def faults(limits: Limits) -> tuple[Refusal, ...]:
    """Every reason why these limits cannot be used; empty when they can."""
    figures = asdict(limits)
    found = [
        *(Refusal(name, "must not be negative") for name, figure in figures.items() if _negative(figure)),
        *(Refusal(name, "is a fraction and must be at most 1") for name in _FRACTIONS if figures[name] > 1),
        *(Refusal(name, "must be more than 0") for name in _POSITIVE if figures[name] == 0),
        *(
            Refusal(low, f"must be at most {high} ({figures[high]}), but is {figures[low]}")
            for low, high in _ORDERED
            if figures[low] > figures[high]
        ),
    ]
    if limits.loss_latch not in ("acknowledge", "day"):
        found.append(Refusal("loss_latch", f"must be 'acknowledge' or 'day', but is {limits.loss_latch!r}"))
    return tuple(found)


def _negative(figure: object) -> bool:
    return isinstance(figure, Decimal | int) and figure < 0
