"""Wall time and monotonic ticks, handed to whoever needs them; the only place that reads a clock.

Live, wall time is the machine's. On trio's virtual clock it is a start plus `trio.current_time()`, so that a run of
hours takes seconds and always reads the same.
"""

import time
from collections.abc import Callable

import trio
from msgspec import Struct


class Clock(Struct, frozen=True):
    """`now_ns` is wall time since the epoch; `ticks_ns` only measures durations, and the two never meet.

    `stay_awake` asks the loop not to sleep for so many seconds, at most, while something is on its way that is due
    sooner than a sleeping processor wakes up; 0 takes it back. Of no effect where the loop has another clock. `awake`
    is whether it was asked to.
    """

    now_ns: Callable[[], int]
    ticks_ns: Callable[[], int]
    stay_awake: Callable[[float], None] = lambda seconds: None
    awake: Callable[[], bool] = lambda: False


class LoopClock(trio.abc.Clock):
    """The clock of a live loop: trio's own, but that it can be kept from sleeping."""

    def __init__(self) -> None:
        self._awake_until = 0.0

    def start_clock(self) -> None:
        self._awake_until = 0.0

    def current_time(self) -> float:
        return time.perf_counter()

    def deadline_to_sleep_time(self, deadline: float) -> float:
        return 0.0 if self.awake() else deadline - time.perf_counter()

    def awake(self) -> bool:
        return time.perf_counter() < self._awake_until

    def stay_awake(self, seconds: float) -> None:
        self._awake_until = time.perf_counter() + seconds if seconds else 0.0


LOOP_CLOCK = LoopClock()  # to be given to `trio.run`


def live_clock() -> Clock:
    return Clock(
        now_ns=time.time_ns, ticks_ns=time.perf_counter_ns, stay_awake=LOOP_CLOCK.stay_awake, awake=LOOP_CLOCK.awake
    )


def virtual_clock(start_ns: int) -> Clock:
    """For use inside a trio run with a MockClock: virtual wall time, real ticks (they measure our own work)."""
    began = trio.current_time()
    return Clock(
        now_ns=lambda: start_ns + round((trio.current_time() - began) * 1_000_000_000),
        ticks_ns=time.perf_counter_ns,
    )
