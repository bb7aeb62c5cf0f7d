"""The outbox as the sinks read it: durable events, in order, each sink at its own pace.

The newest stay in memory, where a sink that keeps up finds them. One that is behind reads the store, so that a sink
that is away for a day costs disk and not memory, and holds up nobody.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from itertools import takewhile

import trio

from engine.core.messages import OutboxRow

RECENT = 2_000  # events in memory
FETCHED = 200  # at most, at once: on SQLite they are read in the loop, in a fraction of a millisecond

Fetch = Callable[[int, int], Awaitable[tuple[OutboxRow, ...]]]


class Outgoing:
    """`fetch` reads so many events behind a number from the store; `last` is the last one on it."""

    def __init__(self, last: int, fetch: Fetch | None) -> None:
        self._last = last
        self._fetch = fetch
        self._recent: deque[OutboxRow] = deque()
        self._before = last  # the event before the first one of `_recent`

    def land(self, events: Sequence[OutboxRow]) -> None:
        """They are durable now."""
        self._recent.extend(events)
        while len(self._recent) > RECENT:
            self._before = self._recent.popleft().event_id
        self._last = events[-1].event_id

    async def after(self, event_id: int) -> tuple[OutboxRow, ...]:
        """The next ones, if there are any by now. Raises JournalFailed."""
        if event_id >= self._last:
            return ()
        if event_id >= self._before:
            newer = tuple(takewhile(lambda row: row.event_id > event_id, reversed(self._recent)))
            return newer[::-1][:FETCHED]
        if self._fetch is None:
            return ()
        await trio.lowlevel.checkpoint()
        return await self._fetch(event_id, FETCHED)
