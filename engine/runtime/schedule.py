"""A trio run whose order of tasks comes from a seed, so that a replay or a simulated world is the same every time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import trio


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
