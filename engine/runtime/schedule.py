"""A trio run in which nothing is left to chance: the order of tasks comes from a seed, and time passes only when
nothing is left to do, so that a replay or a simulated world is the same every time."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

import trio

NOTHING_SECONDS = 3600.0  # a world without a deadline waits for a signal of the operating system


@contextmanager
def seeded_schedule(seed: int) -> Iterator[None]:
    """Runs started inside are scheduled by `seed`; threads in them would be chance again.

    trio's own means for its tests; they are private, which is why the version is pinned.
    """
    core: Any = trio._core._run
    before = core._ALLOW_DETERMINISTIC_SCHEDULING, core._r.getstate()
    core._ALLOW_DETERMINISTIC_SCHEDULING = True
    core._r.seed(seed)
    try:
        yield
    finally:
        core._ALLOW_DETERMINISTIC_SCHEDULING = before[0]
        core._r.setstate(before[1])


class JumpClock(trio.abc.Clock):
    """Begins at 0 and jumps to the next deadline as soon as every task waits for one.

    For runs that wait for nothing real. The same time as `trio.testing.MockClock(autojump_threshold=0)` shows, without
    its idle turn of the loop before each jump, which was a fifth of a simulated world's cost.
    """

    def __init__(self) -> None:
        self._now = 0.0

    def start_clock(self) -> None:
        pass

    def current_time(self) -> float:
        return self._now

    def deadline_to_sleep_time(self, deadline: float) -> float:
        """Asked by trio when no task can run."""
        if deadline == inf:
            return NOTHING_SECONDS
        self._now = max(self._now, deadline)
        return 0.0
