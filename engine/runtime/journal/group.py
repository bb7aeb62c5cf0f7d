"""Group commit: what is appended waits in one open batch until somebody needs it, then the whole batch is one commit.

A commit starts when a task waits in `durable`, a few scheduler passes later, so that actors one hop apart who are about
to append in the same breath share it: signal, verdict and intent are one commit. Whoever waits with nothing more to
come (an order before its first byte) is `eager`: then it starts at once; `hurry` starts it ahead of the waiting. When
nobody waits it starts a little later (`linger`), so that events and fills reach the disk too. One commit is under way
at a time; what is appended meanwhile waits for the next. Numbers, hashes and bytes are made in `append`, so nothing can
change afterwards. How a batch gets to the disk is the store's business.
"""

from collections.abc import Awaitable, Callable, Sequence
from math import inf

import trio
from msgspec import Struct

from engine.core.audit import chain
from engine.core.cursors import told, waiting
from engine.core.messages import (
    AnyFact,
    Cursor,
    Event,
    Judged,
    OutboxRow,
    Row,
    SignalEnded,
    SignalReceived,
    SignalRow,
)
from engine.runtime.journal import tail
from engine.runtime.journal.base import JournalFailed, Stats
from engine.runtime.journal.outgoing import Fetch, Outgoing
from engine.runtime.journal.tables import (
    FROM_FACTS,
    JOURNAL,
    OUTBOX,
    TABLES,
    Told,
    Values,
    encode,
    journal_values,
    outbox_values,
)

LINGER_SECONDS = 0.005
QUICK_SECONDS = 0.001  # the same for facts, while orders leave time between them
MARKED_SECONDS = 0.05  # the same where a sink's cursor is all there is: it may be lost, for its events are told again
APART_SECONDS = 0.003  # so much, and two commits more: one is not to be under way when the next order comes
PASSES = 3  # scheduler passes between a waiter and the commit: two hops, and one that begins late

Statements = list[tuple[str, list[Values]]]


class Batch:
    """What one commit writes. Numbers `first` to `last` say which callers of `durable` it concerns."""

    __slots__ = (
        *("done", "due", "events", "facts", "first", "from_facts", "in_order"),
        *("last", "outbox", "rows", "settled", "taken_up", "then"),
    )

    def __init__(self) -> None:
        self.facts: list[Values] = []
        self.from_facts: dict[str, list[Values]] = {}
        self.rows: dict[type, dict[object, Row | Told]] = {}
        self.in_order: list[tuple[str, Values]] = []
        self.outbox: list[Values] = []
        self.taken_up: Statements = []  # what the indexes are behind with (tail.py)
        self.events: list[OutboxRow] = []
        self.first = -1  # -1: nothing in it
        self.last = -1
        self.due = inf  # trio time at which it is committed though nobody waits
        self.settled = False
        self.then: Callable[[], None] | None = None  # called once it is on the disk, before whoever waits is woken
        self.done = trio.Event()

    def settle(self) -> None:
        self.settled = True
        self.done.set()

    def statements(self) -> Statements:
        """In the order in which they must run."""
        found: Statements = []
        if self.facts:
            found.append((JOURNAL, self.facts))
        found.extend(self.from_facts.items())
        for kind, table in TABLES.items():
            if kind in self.rows:
                found.append((table.sql, [table.values(row) for row in self.rows[kind].values()]))
        found.extend((sql, [values]) for sql, values in self.in_order)
        if self.outbox:
            found.append((OUTBOX, self.outbox))
        return found + self.taken_up


class Place(Struct, frozen=True):
    """Where the chain and the outbox stand."""

    seq: int
    hash: bytes
    event_id: int  # last one used
    cursors: tuple[Cursor, ...] = ()  # of the sinks
    mark: int = 0  # up to which fact the indexes are written


class Group:
    """The queue in front of a store. `write` brings a batch to the disk and calls back once it is there.

    `write(batch, settle)` calls `settle(error)` exactly once, in the trio thread, before it returns.
    """

    def __init__(
        self,
        place: Place,
        write: Callable[[Batch, Callable[[JournalFailed | None], None]], Awaitable[None]],
        linger_seconds: float = LINGER_SECONDS,
        start: Callable[[Batch, Callable[[JournalFailed | None], None]], bool] | None = None,
        fetch: Fetch | None = None,
        quick_seconds: float | None = None,
        kept: int | None = None,
    ) -> None:
        """`start` is `write` without waiting: it calls `settle` at once or later. False: it cannot just now.

        `fetch` reads so many events after a number from the store.
        `quick_seconds` takes the place of `linger_seconds` while orders come one by one, so that an order's commit has
        nothing else to write; where they come fast, to share is cheaper.
        So many facts and rows are `kept` out of the indexes.
        """
        self.failed: str | None = None
        self._start = start
        self._eager = False
        self.durable_seq = place.seq
        self.commits = 0
        self._write = write
        self._linger_seconds = linger_seconds
        self._quick_seconds = linger_seconds if quick_seconds is None else quick_seconds
        self._order_at = 0.0  # the last one's
        self._apart = 0.0  # two orders, of late
        self._began_at = 0.0  # the commit under way
        self._took = 0.0  # a commit, of late
        self._lost_from = 0  # once failed: the first number that is not on the disk
        self._seq = place.seq
        self._hash = place.hash
        self._event_id = place.event_id
        self._mark, self._kept = place.mark, tail.KEPT if kept is None else kept
        self._cursors = {cursor.sink: cursor for cursor in place.cursors}
        self._open = Batch()
        self._flying: Batch | None = None
        self._wanted = trio.Event()
        self._linger = trio.CancelScope()
        self._outgoing = Outgoing(place.event_id, fetch)
        self._broken = trio.Event()
        self._news = trio.Event()  # something for the sinks, or the end
        self._moved = trio.Event()  # a cursor, or the end
        self._scope = trio.CancelScope()

    @property
    def seq(self) -> int:
        return self._seq

    @property
    def event_id(self) -> int:
        return self._event_id

    @property
    def flying(self) -> bool:
        """A commit is under way: the store's writer is not free."""
        return self._flying is not None

    # ------------------------------------------------------------------------------------------------------ its users

    def append(self, facts: Sequence[AnyFact], rows: Sequence[Row] = ()) -> int:
        if self.failed is not None:  # takes no more; `durable` says so
            self._seq += len(facts)
            return self._seq
        batch = self._open
        for fact in facts:
            self._seq = seq = self._seq + 1
            body = encode(fact)
            self._hash = digest = chain(self._hash, seq, body)
            batch.facts.append(journal_values(seq, fact, body, digest))
            kind = type(fact)
            if kind in FROM_FACTS:
                sql, values = FROM_FACTS[kind]
                batch.from_facts.setdefault(sql, []).append(values(seq, fact))
        for row in rows:
            self._add(batch, _told(row, facts, self._seq) if isinstance(row, SignalRow) else row)
        if facts or rows:
            if batch.first < 0:
                batch.first = self._seq - max(len(facts) - 1, 0)
            batch.last = self._seq
            due = trio.current_time() + self._linger_for(facts, rows)
            if due < batch.due:
                batch.due = self._linger.deadline = due
        return self._seq

    def hurry(self, seq: int, then: Callable[[], None] | None = None) -> None:
        if self._holding(seq) is self._open:
            self._commit_now(then)

    async def durable(self, seq: int, eager: bool = False) -> None:
        assert seq <= self._seq, f"{seq} has not been appended"
        if eager:
            self._note_order()
        batch = self._holding(seq)
        if batch is None:
            if not eager:
                await trio.lowlevel.checkpoint()
        else:
            if batch is self._open and not (eager and self._commit_now()):
                self._eager = self._eager or eager
                self._wanted.set()
            if not batch.settled:
                await batch.done.wait()
        if self.failed is not None and seq >= self._lost_from:
            raise JournalFailed(self.failed)

    async def outbox(self, after: int) -> tuple[OutboxRow, ...]:
        while True:
            news = self._news
            if rows := await self._outgoing.after(after):
                return rows
            await self._wait_for(news)

    def cursor(self, sink: str) -> int:
        return self._cursors[sink].event_id

    async def published(self) -> None:
        until = self._event_id
        while told(self._cursors.values(), until) < until:
            await self._wait_for(self._moved)
        await self.durable(self._seq)

    async def failure(self) -> None:
        """Waits as long as all is well. Raises JournalFailed."""
        await self._broken.wait()
        raise JournalFailed(self.failed)

    async def flush(self) -> None:
        """Everything appended so far is durable, or the failure is known."""
        await self.durable(self._seq)

    def stats(self) -> Stats:
        behind = waiting(self._cursors.values(), self._event_id)
        queued = len(self._open.facts) + (len(self._flying.facts) if self._flying else 0)
        return Stats(
            seq=self._seq,
            durable_seq=self.durable_seq,
            commits=self.commits,
            facts_queued=queued,
            events=self._event_id,
            outbox_waiting=max(behind.values(), default=0),
            sinks_waiting=behind,
            failed=self.failed or "",
        )

    def fail(self, error: JournalFailed) -> None:
        """Final: what is not on the disk now never will be, and everybody who waits is told."""
        if self.failed is not None:
            return
        self.failed = str(error)
        self._lost_from = next((b.first for b in (self._flying, self._open) if b and b.first >= 0), self._seq + 1)
        for batch in (self._flying, self._open):
            if batch is not None:
                batch.settle()
        self._open = Batch()
        self._broken.set()
        self._news.set()
        self._moved.set()

    # -------------------------------------------------------------------------------------------------- the committer

    async def run(self) -> None:
        """For ever: one commit after the other. Ends when `stop` is called or the store has failed."""
        with self._scope:
            while self.failed is None:
                await self._until_due()
                if self._open.first < 0 and not self._wanted.is_set():
                    continue  # it was hurried
                for _ in range(PASSES):
                    if self._eager:
                        break
                    await trio.lowlevel.checkpoint()
                await self._commit()

    def stop(self) -> None:
        self._scope.cancel()

    async def _until_due(self) -> None:
        if self._wanted.is_set():
            return
        self._linger = trio.CancelScope(deadline=self._open.due)
        with self._linger:
            await self._wanted.wait()

    def _linger_for(self, facts: Sequence[AnyFact], rows: Sequence[Row]) -> float:
        """Rows without a fact are missed by nobody."""
        if not facts and type(rows[0]) is Cursor:
            return max(self._linger_seconds, MARKED_SECONDS)
        quick = facts and self._apart > APART_SECONDS + 2 * self._took
        return self._quick_seconds if quick else self._linger_seconds

    def _note_order(self) -> None:
        now = trio.current_time()
        self._apart += (min(now - self._order_at, 4 * APART_SECONDS) - self._apart) / 4
        self._order_at = now

    async def _commit(self) -> None:
        while self._flying is not None and self.failed is None:
            await self._flying.done.wait()
        idle, self._wanted, self._eager = not self._wanted.is_set(), trio.Event(), False
        if self._open.first < 0:
            return
        self._take_up(self._open, idle)
        self._flying, self._open = self._open, Batch()
        self._began_at = trio.current_time()
        await self._write(self._flying, self._settle)

    def _commit_now(self, then: Callable[[], None] | None = None) -> bool:
        """Without the committer, in the turn of whoever cannot go on without it; whether that could be begun."""
        if self._start is None or self._flying is not None or self.failed is not None:
            return False
        batch = self._flying = self._open
        self._began_at = trio.current_time()
        self._open, batch.then = Batch(), then
        try:
            began = self._start(batch, self._settle)
        except BaseException as error:
            # Raised again. Whoever waits must not wait for ever: nothing would be durable again, and no stop sent.
            self.fail(JournalFailed(f"a commit failed in a way that must not happen: {type(error).__name__}: {error}"))
            raise
        if began:
            return True
        self._flying, self._open, batch.then = None, batch, None
        return False

    def _settle(self, error: JournalFailed | None) -> None:
        batch = self._flying
        assert batch is not None, "settled twice"
        if error is not None:
            self.fail(error)
        if self.failed is not None:
            return
        self._flying = None
        self._took += (trio.current_time() - self._began_at - self._took) / 4
        self.commits += 1
        self.durable_seq = batch.last
        if batch.events:
            self._outgoing.land(batch.events)
        if batch.then is not None:
            batch.then()
        batch.settle()
        if batch.events:
            self._news.set()
            self._news = trio.Event()

    # -------------------------------------------------------------------------------------------------------- details

    def _take_up(self, batch: Batch, idle: bool) -> None:
        if until := tail.due(self._seq, self._mark, len(batch.facts), idle, self._kept):
            batch.taken_up, self._mark = tail.taking_up(until, self._kept), until

    def _add(self, batch: Batch, row: Row | Told) -> None:
        kind = type(row)
        if isinstance(row, Event):
            self._event_id += 1
            batch.outbox.append(outbox_values(self._event_id, row))
            batch.events.append(OutboxRow(event_id=self._event_id, event=row))
            return
        if isinstance(row, Cursor):
            self._cursors[row.sink] = row
            self._moved.set()
            self._moved = trio.Event()
        table = TABLES[kind]
        if table.key is None:
            batch.in_order.append((table.sql, table.values(row)))
            return
        key = table.key(row)
        if kind in _ONE_SIGNAL:  # the last word on a signal is the only one
            for other in _ONE_SIGNAL[kind]:
                if other in batch.rows:
                    batch.rows[other].pop(key, None)
        batch.rows.setdefault(kind, {})[key] = row

    def _holding(self, seq: int) -> Batch | None:
        """The last batch that has something of `seq` or before it and is not on the disk."""
        if 0 <= self._open.first <= seq:
            return self._open
        if self._flying is not None and self._flying.first <= seq:
            return self._flying
        return None

    async def _wait_for(self, event: trio.Event) -> None:
        if self.failed is not None:
            raise JournalFailed(self.failed)
        await event.wait()


# What a row of each kind takes the place of, of the same signal and in the same commit.
_ONE_SIGNAL: dict[type, tuple[type, ...]] = {Told: (SignalRow, SignalEnded), SignalRow: (Told, SignalEnded)}


def _told(row: SignalRow, facts: Sequence[AnyFact], last: int) -> SignalRow | Told:
    """The row by the numbers of the facts that were appended with it, if it says no more than they do."""
    received = judged = 0
    for seq, fact in enumerate(facts, last - len(facts) + 1):
        if isinstance(fact, SignalReceived) and fact.signal is row.signal:
            received = seq
        elif isinstance(fact, Judged) and fact.signal_id == row.signal.signal_id:
            same = fact.checks is row.checks and fact.plan is row.plan and fact.outcome is row.outcome
            judged = seq if same else 0
    return Told(row, received, judged) if received and judged else row
