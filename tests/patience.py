"""How long a test waits for what must come, and how it times what must be quick, on whatever machine."""

import time
from collections.abc import Callable

PATIENCE_SECONDS = 120.0  # costs nothing where it comes, and no machine is that slow


def quickest(work: Callable[[], object], times: int = 5) -> float:
    """Seconds of this thread on a processor, the least of a few: in one, a large heap may have been collected."""

    def once() -> float:
        began = time.thread_time()
        work()
        return time.thread_time() - began

    return min(once() for _ in range(times))
