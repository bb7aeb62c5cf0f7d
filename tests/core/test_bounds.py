"""How far a change may loosen each limit: every one has a direction, and what tightens always passes."""

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import asdict, replace

from engine.core.bounds import Bounds, beyond, within
from engine.core.messages import Limits

DEFAULTS = asdict(Limits())
# What is looser and what is tighter than the default, where that is no number.
WORDS: dict[str, tuple[Any, Any, Any]] = {  # bound, looser, tighter
    "symbols": (("BTCUSDT", "ETHUSDT"), ("SOLUSDT",), ("ETHUSDT",)),
    "adjust_stops": (False, True, False),
    "stop_required": (True, False, True),
    "stop_waived_for_hedges": (False, True, False),
    "loss_latch": ("acknowledge", "day", "acknowledge"),
}
LOWEST = ("_min", "pause_seconds", "window_seconds")  # limits that bind from below


@pytest.mark.parametrize("name", DEFAULTS)
def test_each_limit_is_bounded_on_its_loose_side_only(name: str) -> None:
    default = DEFAULTS[name]
    if name in WORDS:
        bound, looser, tighter = WORDS[name]
    else:
        step = 1 if isinstance(default, int) else Decimal("0.001")
        bound, higher, lower = default + step, default + 2 * step, default
        looser, tighter = (lower, higher) if name.endswith(LOWEST) else (higher, lower)
    bounds = Bounds(**{name: bound})
    assert [refusal.field for refusal in beyond(replace(Limits(), **{name: looser}), bounds)] == [name]
    for fine in (tighter, bound):
        limits = replace(Limits(), **{name: fine})
        assert beyond(limits, bounds) == () and within(limits, bounds) == limits
    assert asdict(within(replace(Limits(), **{name: looser}), bounds)) == DEFAULTS | {name: bound}


def test_no_list_of_symbols_is_the_widest() -> None:
    bounds = Bounds(symbols=("BTCUSDT",))
    assert "all symbols" in beyond(Limits(), bounds)[0].reason
    assert beyond(replace(Limits(), symbols=("BTCUSDT",)), bounds) == ()
    assert beyond(Limits(), Bounds(symbols=())) == (), "and bounds nothing"


def test_without_bounds_everything_passes() -> None:
    assert beyond(Limits(positions_max=10**9), None) == () == beyond(Limits(positions_max=10**9), Bounds())
