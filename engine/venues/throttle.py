"""The door to one venue: its rate limits kept on our side, its bans obeyed, its failures counted by a breaker.

Openers (and routine queries) wait while cancels and reducing orders are let through a share that is reserved for them.
A token comes back exactly one window after it was taken, so that no sliding window ever holds more than the limit
(a bucket that refills evenly would allow twice as many across its edge). The core is pure; `Throttle.wait` only sleeps.
"""

from bisect import insort
from collections import deque
from collections.abc import Iterable, Mapping
from enum import Enum
from typing import TypeAlias

import structlog
import trio
from msgspec import Struct
from msgspec.structs import replace

from engine.core.times import SECOND
from engine.runtime.clock import Clock
from engine.venues import breaker
from engine.venues.breaker import Breaker, BreakerTerms

LOG = structlog.get_logger("throttle")
RESERVED_PERCENT = 30
EDGE_NS = SECOND  # about the edge of a venue's window nobody knows of which one its count is
PATIENCE_NS = 2 * SECOND  # a venue that is closed for longer takes no entries; for less, they wait


class Lane(Enum):
    OPEN = "open"  # may open or enlarge a position; also queries that can wait
    REDUCE = "reduce"  # cancels, stops, exits: may use the reserved share as well


class Limit(Struct, frozen=True):
    """At most `count` requests (or weight) within any `window_ns`. `name`: as costs and corrections call it.

    `aligned`: the venue itself counts from one whole window of UTC to the next, and begins again with nothing there.
    """

    count: int
    window_ns: int
    name: str = ""
    aligned: bool = False


Costs: TypeAlias = Mapping[str, tuple[tuple[str, int], ...]]
"""What a kind of request takes from which limits, as (name, weight)."""


class Ban(Struct, frozen=True):
    """The venue has told us off: nothing goes before `until_ns`, or only no entries where a stop has another way."""

    until_ns: int
    why: str
    entries_only: bool = False


class Bucket:
    """One limit's tokens. Times are wall nanoseconds and must not decrease."""

    def __init__(self, limit: Limit, reserved_percent: int = RESERVED_PERCENT) -> None:
        self._reserved_percent = reserved_percent
        self._taken: deque[tuple[int, int]] = deque()  # when, how many
        self._used = 0
        self.resize(limit)

    def resize(self, limit: Limit) -> None:
        """The venue says what its limit is for us."""
        self.limit = limit
        # At least one token for each lane, however small the limit.
        self._for_openers = max(1, limit.count * (100 - self._reserved_percent) // 100)

    def wait_ns(self, lane: Lane, now_ns: int, weight: int = 1) -> int:
        """How long until `weight` tokens are there for this lane; 0: now. More than all of them waits for all."""
        self._give_back(now_ns)
        usable = self._for_openers if lane is Lane.OPEN else self.limit.count
        left = self._used + min(weight, usable) - usable
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

    def correct(self, used: int, now_ns: int, asked_ns: int, ahead_ns: int = 0) -> None:
        """The venue's own count of this window: where it is higher than ours, somebody else uses the account.

        The answer was asked for at `asked_ns`; the venue's clock is `ahead_ns` of ours. Of an aligned window the
        difference is gone when the window is over, and what was asked for before it says nothing of it.
        """
        self._give_back(now_ns)
        more = used - self._used
        if more <= 0:
            return
        if not self.limit.aligned:
            return self.take(now_ns, more)
        began_ns = now_ns - (now_ns + ahead_ns) % self.limit.window_ns + EDGE_NS
        if began_ns <= asked_ns:
            insort(self._taken, (began_ns, more))
            self._used += more

    def _give_back(self, now_ns: int) -> None:
        while self._taken and self._taken[0][0] + self.limit.window_ns <= now_ns:
            self._used -= self._taken.popleft()[1]


class Throttle:
    """All limits that one account's requests fall under; each lane is first come, first served."""

    def __init__(
        self,
        limits: Iterable[Limit],
        clock: Clock,
        reserved_percent: int = RESERVED_PERCENT,
        costs: Costs | None = None,
        breaker_terms: BreakerTerms = BreakerTerms(),
    ) -> None:
        """A kind of request that `costs` does not name takes one token of every limit."""
        self.buckets = tuple(Bucket(limit, reserved_percent) for limit in limits)
        self.ban = Ban(0, "")
        self.breaker = Breaker()
        self._costs = {kind: tuple(_resolve(self.buckets, cost)) for kind, cost in (costs or {}).items()}
        self._all = tuple((bucket, 1) for bucket in self.buckets)
        self._breaker_terms = breaker_terms
        self._clock = clock
        self._tickets = 0
        self._held: dict[tuple[Lane, str], Ban] = {}  # kinds of requests that wait for long, until when and for what
        self.account = ""  # whose this is, for the log
        self._queues: dict[tuple[Lane, str], trio.Lock] = {}

    async def wait(self, lane: Lane, kind: str = "order") -> None:
        """Returns when a request may be sent, having taken its tokens; without a pause where nothing holds it up."""
        if self.take(lane, kind):
            return
        async with self._queue(lane, kind):
            try:
                while wait_ns := self._take(lane, kind):
                    self._tell(lane, kind, wait_ns)
                    await trio.sleep(wait_ns / SECOND)
            finally:
                self._held.pop((lane, kind), None)

    def waits(self) -> str:
        """What requests wait for, if for long, and for how long yet; "" when none do."""
        held = max(self._held.values(), key=lambda one: one.until_ns, default=None)
        if held is None:
            return ""
        left = max(held.until_ns - self._clock.now_ns(), 0) // SECOND
        return f"requests wait for {held.why}, {left} s more"

    def take(self, lane: Lane, kind: str = "order") -> bool:
        """The same without waiting: whether a request may be sent now, having taken its tokens then."""
        return not self._queue(lane, kind).locked() and self._take(lane, kind) == 0

    def correct(
        self, name: str, used: int, count: int | None = None, asked_ns: int | None = None, ahead_ns: int = 0
    ) -> None:
        """The venue's own count of a limit's window; and `count`, where it says so, is its limit for us.

        Where its count is higher than ours somebody else uses the account. A larger limit than configured is not used.
        `asked_ns`, `ahead_ns`: see Bucket; None is now.
        """
        now_ns = self._clock.now_ns()
        for bucket in self.buckets:
            if bucket.limit.name == name:
                if count is not None and 0 < count < bucket.limit.count:
                    bucket.resize(replace(bucket.limit, count=count))
                bucket.correct(used, now_ns, now_ns if asked_ns is None else asked_ns, ahead_ns)

    def share(self, name: str, part: float) -> None:
        """Others use this limit as well: no more than this part of it is ours."""
        for bucket in self.buckets:
            if bucket.limit.name == name:
                limit = bucket.limit
                bucket.resize(replace(limit, count=max(1, int(limit.count * part))))

    def close_until(self, at_ns: int, why: str = "the venue asked for a pause", entries_only: bool = False) -> None:
        """The venue has told us off (429, a ban): nothing goes before that time.

        `entries_only`: what reduces and what is asked is let through, to an adapter that knows another way or says no.
        """
        if at_ns > self.ban.until_ns:
            self.ban = Ban(at_ns, why, entries_only)

    def shut(self) -> str:
        """Why no entry should be tried now; "" when there is no reason."""
        now_ns = self._clock.now_ns()
        if self.ban.until_ns - now_ns > PATIENCE_NS:
            return f"{self.ban.why}: closed for {(self.ban.until_ns - now_ns) // SECOND} s more"
        self.breaker = breaker.tick(self.breaker, now_ns)
        if breaker.refuses(self.breaker):
            left = max(self.breaker.until_ns - now_ns, 0) // SECOND
            return f"the breaker is {self.breaker.phase.value} ({self.breaker.why}), {left} s more"
        return ""

    @property
    def sound(self) -> bool:
        """The breaker is closed: an entry is nothing special, and its end is not waited for by others."""
        return self.breaker.phase is breaker.Phase.CLOSED

    def tries(self) -> int:
        """An entry goes to the venue now. Its ticket is to be given back with `tried`."""
        self._tickets += 1
        self.breaker = breaker.tries(self.breaker, self._tickets)
        return self._tickets

    def tried(self, ticket: int) -> None:
        """It has come back, or has been given up, and `heard` has been told what there was to hear. 0: none went."""
        self.breaker = breaker.tried(self.breaker, ticket)

    def heard(self, failure: str, sent_ns: int) -> bool:
        """The venue answered ("") what was sent then, or failed to. True: the breaker has opened by it."""
        before = self.breaker.phase
        now_ns = self._clock.now_ns()
        if failure:
            self.breaker = breaker.failed(self.breaker, failure, sent_ns, now_ns, self._breaker_terms)
        else:
            self.breaker = breaker.answered(self.breaker)
        return self.breaker.phase is breaker.Phase.OPEN and before is not breaker.Phase.OPEN

    def _tell(self, lane: Lane, kind: str, wait_ns: int) -> None:
        """A wait that a person would take for a standstill is told, once, with its end."""
        if wait_ns <= PATIENCE_NS:
            return
        now_ns = self._clock.now_ns()
        why = self.ban.why
        if self.ban.until_ns - now_ns < wait_ns:
            cost = self._costs.get(kind, self._all)
            bucket, _ = max(cost, key=lambda one: one[0].wait_ns(lane, now_ns, one[1]))
            why = f"the rate limit {bucket.limit.name}"
        held = Ban(now_ns + wait_ns, why)
        if (lane, kind) not in self._held:
            seconds = -(-wait_ns // SECOND)
            LOG.warning("requests wait", account=self.account, what=kind, reason=held.why, seconds=seconds)
        self._held[lane, kind] = held

    def _queue(self, lane: Lane, kind: str) -> trio.Lock:
        return self._queues.get((lane, kind)) or self._queues.setdefault((lane, kind), trio.Lock())

    def _take(self, lane: Lane, kind: str) -> int:
        now_ns = self._clock.now_ns()
        cost = self._costs.get(kind, self._all)
        waits = [bucket.wait_ns(lane, now_ns, weight) for bucket, weight in cost]
        held_ns = (
            0 if self.ban.entries_only and (lane is Lane.REDUCE or kind != "order") else self.ban.until_ns - now_ns
        )
        wait_ns = max([held_ns, *waits, 0])
        if not wait_ns:
            for bucket, weight in cost:
                bucket.take(now_ns, weight)
        return wait_ns


def _resolve(buckets: tuple[Bucket, ...], cost: tuple[tuple[str, int], ...]) -> Iterable[tuple[Bucket, int]]:
    named = {bucket.limit.name: bucket for bucket in buckets}
    for name, weight in cost:
        assert name in named, f"a request costs of '{name}', which is no limit"
        yield named[name], weight
