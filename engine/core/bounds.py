"""How far a change while the engine runs may loosen an account's limits: the config's hard bounds (SPEC RSK10).

What tightens always passes. A bound is named like its limit and holds the loosest value that a live change may set,
whoever makes it and over whatever door; only the config itself can move it.
"""

from collections.abc import Callable
from decimal import Decimal

from msgspec import Struct
from msgspec.structs import asdict, replace

from engine.core.messages import Limits, Refusal


class Bounds(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The loosest values; None: not bounded. Units as in `Limits`."""

    strength_min: Decimal | None = None
    confluence_min: Decimal | None = None
    confidence_min: Decimal | None = None
    symbols: tuple[str, ...] | None = None
    balance_share: Decimal | None = None
    balance_share_max: Decimal | None = None
    risk_share_max: Decimal | None = None
    stop_distance_default: Decimal | None = None
    stop_distance_min: Decimal | None = None
    stop_distance_max: Decimal | None = None
    adjust_stops: bool | None = None
    stop_required: bool | None = None
    stop_waived_for_hedges: bool | None = None
    reward_risk_min: Decimal | None = None
    order_btc_max: Decimal | None = None
    btc_price: Decimal | None = None
    order_notional_min: Decimal | None = None
    position_notional_max: Decimal | None = None
    positions_max: int | None = None
    exposure_max: Decimal | None = None
    daily_volume_btc_max: Decimal | None = None
    orders_per_second: int | None = None
    orders_per_minute: int | None = None
    orders_per_day: int | None = None
    symbol_pause_seconds: Decimal | None = None
    duplicate_window_seconds: Decimal | None = None
    daily_loss_max: Decimal | None = None
    drawdown_max: Decimal | None = None
    losses_in_row_max: int | None = None
    loss_latch: str | None = None
    price_deviation_max: Decimal | None = None
    reference_drift_max: Decimal | None = None
    quote_age_max_seconds: Decimal | None = None
    slippage_max: Decimal | None = None
    leverage_max: Decimal | None = None
    signal_ttl_seconds: Decimal | None = None


def beyond(limits: Limits, bounds: Bounds | None) -> tuple[Refusal, ...]:
    """Every limit that is looser than its bound."""
    if bounds is None:
        return ()
    figures = asdict(limits)
    return tuple(
        Refusal(name, f"may be {word} {_shown(bound)} (the config's bound), but would be {_shown(figures[name])}")
        for name, bound, word in _bounded(bounds)
        if _LOOSER[name](figures[name], bound)
    )


def within(limits: Limits, bounds: Bounds | None) -> Limits:
    """The same limits, those that are too loose at their bounds."""
    if bounds is None:
        return limits
    figures = asdict(limits)
    tightened = {name: bound for name, bound, _ in _bounded(bounds) if _LOOSER[name](figures[name], bound)}
    return replace(limits, **tightened)


def _bounded(bounds: Bounds) -> list[tuple[str, object, str]]:
    """Name, bound, and the word that goes before it."""
    given = ((name, bound) for name, bound in asdict(bounds).items() if bound is not None)
    return [(name, bound, _WORDS.get(_LOOSER[name], "only")) for name, bound in given]


def _shown(value: object) -> str:
    return ", ".join(value) or "all symbols" if isinstance(value, tuple) else str(value)


Looser = Callable[[object, object], bool]


def _higher(value: object, bound: object) -> bool:
    assert isinstance(value, Decimal | int) and isinstance(bound, Decimal | int)
    return value > bound


def _lower(value: object, bound: object) -> bool:
    assert isinstance(value, Decimal | int) and isinstance(bound, Decimal | int)
    return value < bound


def _wider(value: object, bound: object) -> bool:
    """Lists of symbols; an empty one allows all."""
    assert isinstance(value, tuple) and isinstance(bound, tuple)
    return bool(bound) and (not value or any(symbol not in bound for symbol in value))


def _on(value: object, bound: object) -> bool:
    return bool(value) and not bound


def _off(value: object, bound: object) -> bool:
    return bool(bound) and not value


def _shorter_latch(value: object, bound: object) -> bool:
    """A loss that a person has to acknowledge closes longer than one that ends at midnight."""
    return bound == "acknowledge" and value != bound


_WORDS: dict[Looser, str] = {_higher: "at most", _lower: "at least", _wider: "some of"}
_LOOSER: dict[str, Looser] = {
    **dict.fromkeys(
        (
            "balance_share",
            "balance_share_max",
            "risk_share_max",
            "stop_distance_default",
            "stop_distance_max",
            "order_btc_max",
            "btc_price",
            "position_notional_max",
            "positions_max",
            "exposure_max",
            "daily_volume_btc_max",
            "orders_per_second",
            "orders_per_minute",
            "orders_per_day",
            "daily_loss_max",
            "drawdown_max",
            "losses_in_row_max",
            "price_deviation_max",
            "reference_drift_max",
            "quote_age_max_seconds",
            "slippage_max",
            "leverage_max",
            "signal_ttl_seconds",
        ),
        _higher,
    ),
    **dict.fromkeys(
        (
            "strength_min",
            "confluence_min",
            "confidence_min",
            "stop_distance_min",
            "reward_risk_min",
            "order_notional_min",
            "symbol_pause_seconds",
            "duplicate_window_seconds",
        ),
        _lower,
    ),
    "symbols": _wider,
    "adjust_stops": _on,
    "stop_required": _off,
    "stop_waived_for_hedges": _on,
    "loss_latch": _shorter_latch,
}

assert {*_LOOSER} == {*Limits.__struct_fields__} == {*Bounds.__struct_fields__}, "a limit that cannot be bounded"
