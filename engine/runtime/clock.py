"""Wall time and monotonic ticks, handed to whoever needs them; the only place that reads a clock.

Live, wall time is the machine's. On trio's virtual clock it is a start plus `trio.current_time()`, so that a run of
hours takes seconds and always reads the same.
"""

import time
from collections.abc import Callable

import trio
from msgspec import Struct


class Clock(Struct, frozen=True):
    """`now_ns` is wall time since the epoch; `ticks_ns` only measures durations, and the two never meet."""

    now_ns: Callable[[], int]
    ticks_ns: Callable[[], int]


def live_clock() -> Clock:
    return Clock(now_ns=time.time_ns, ticks_ns=time.perf_counter_ns)


def virtual_clock(start_ns: int) -> Clock:
    """For use inside a trio run with a MockClock: virtual wall time, real ticks (they measure our own work)."""
    began = trio.current_time()
    return Clock(
        now_ns=lambda: start_ns + round((trio.current_time() - began) * 1_000_000_000),
        ticks_ns=time.perf_counter_ns,
    )
