"""A venue's rate limits, kept on our side: openers wait while others are let through a share that is reserved for them.

A token comes back exactly one window after it was taken, so that no sliding window ever holds more than the limit
(a bucket that refills evenly would allow twice as many across its edge). The core is pure; `Throttle.wait` only sleeps.
"""

from collections import deque
from collections.abc import Iterable
from enum import Enum

import trio
from msgspec import Struct

from engine.runtime.clock import Clock
from engine.venues.base import SECOND

RESERVED_PERCENT = 30


class Lane(Enum):
    OPEN = "open"  # may open or enlarge a position
    REDUCE = "reduce"  # cancels, stops, exits: may use the reserved share as well


class Limit(Struct, frozen=True):
    """At most `count` requests (or weight) within any `window_ns`."""

    count: int
    window_ns: int


class Bucket:
    """One limit's tokens. Times are wall nanoseconds and must not decrease."""

    def __init__(self, limit: Limit, reserved_percent: int = RESERVED_PERCENT) -> None:
        self.limit = limit
        # At least one token for each lane, however small the limit.
        self._for_openers = max(1, limit.count * (100 - reserved_percent) // 100)
        self._taken: deque[tuple[int, int]] = deque()  # when, how many
        self._used = 0

    def wait_ns(self, lane: Lane, now_ns: int, weight: int = 1) -> int:
        """How long until `weight` tokens are there for this lane; 0: now."""
        self._give_back(now_ns)
        usable = self._for_openers if lane is Lane.OPEN else self.limit.count
        assert weight <= usable, f"{weight} will never fit into {usable}"
        left = self._used + weight - usable
        for at_ns, count in self._taken:
            if left <= 0:
                break
            left -= count
            if left <= 0:
                return at_ns + self.limit.window_ns - now_ns
        return 0

    def take(self, now_ns: int, weight: int = 1) -> None:
        self._taken.append((now_ns, weight))
        self._used += weight

    def correct(self, used: int, now_ns: int) -> None:
        """The venue's own count of this window: where it is higher than ours, somebody else uses the account."""
        self._give_back(now_ns)
        if used > self._used:
            self.take(now_ns, used - self._used)

    def _give_back(self, now_ns: int) -> None:
        while self._taken and self._taken[0][0] + self.limit.window_ns <= now_ns:
            self._used -= self._taken.popleft()[1]


class Throttle:
    """All limits that one account's requests fall under; each lane is first come, first served."""

    def __init__(self, limits: Iterable[Limit], clock: Clock, reserved_percent: int = RESERVED_PERCENT) -> None:
        self.buckets = tuple(Bucket(limit, reserved_percent) for limit in limits)
        self._clock = clock
        self._closed_until_ns = 0
        self._queues = {Lane.OPEN: trio.Lock(), Lane.REDUCE: trio.Lock()}

    async def wait(self, lane: Lane) -> None:
        """Returns when a request may be sent, having taken its tokens; without a pause where nothing holds it up."""
        queue = self._queues[lane]
        if not queue.locked() and self._take(lane) == 0:
            return
        async with queue:
            while wait_ns := self._take(lane):  # noqa: ASYNC110 (it is time that is waited for)
                await trio.sleep(wait_ns / SECOND)

    def close_until(self, at_ns: int) -> None:
        """The venue has told us off (429, a ban): nothing goes before that time."""
        self._closed_until_ns = max(self._closed_until_ns, at_ns)

    def _take(self, lane: Lane) -> int:
        now_ns = self._clock.now_ns()
        waits = [bucket.wait_ns(lane, now_ns) for bucket in self.buckets]
        wait_ns = max([self._closed_until_ns - now_ns, *waits, 0])
        if not wait_ns:
            for bucket in self.buckets:
                bucket.take(now_ns)
        return wait_ns
