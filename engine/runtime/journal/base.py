"""What a journal offers. One writer, group commit: `append` queues, `durable` waits until it is safe on the disk.

`append` never waits and never fails while the journal is sound; once a commit has failed, `durable` raises
`JournalFailed` for everything that did not make it, and the journal takes no more (a failed sync is final).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Protocol

from msgspec import Struct

from engine.core.audit import Base, Line, Tables
from engine.core.messages import (
    AccountRow,
    AnyFact,
    Cursor,
    DeadLettered,
    Delivery,
    Halt,
    LimitsRow,
    Order,
    OutboxRow,
    Position,
    Reconciled,
    Row,
    SignalRow,
    Trade,
)


class JournalFailed(Exception):
    """The disk is full, locked, gone or wrong. Says what and where, in a sentence for a person."""


class NoJournal(JournalFailed):
    """There is none there yet; a first start makes it."""


class Newer(JournalFailed):
    """A newer program has brought it to a form that this one does not know."""


class Fenced(JournalFailed):
    """Another engine owns this journal now. Nothing may be sent any more: what protects, too, is the other's affair."""


class Execution(Struct, frozen=True):
    """A booked fill (or funding, as `funding/ID`), as far as telling a repeat apart needs it."""

    account: str
    symbol: str
    exec_id: str
    venue_ns: int
    delta: Decimal  # what it did to the signed position, base
    cid: str = ""  # of its order


class OpenState(Struct, frozen=True):
    """What a start needs: everything that has not ended, however long the history is."""

    seq: int
    epoch: int
    orders: tuple[Order, ...]  # not settled: live ones, and closed ones with executions still to be booked
    positions: tuple[Position, ...]  # ever held, flat ones too
    trades: tuple[Trade, ...]  # open ones
    signals: tuple[SignalRow, ...]  # ACCEPTED, not ended
    accounts: tuple[AccountRow, ...]
    limits: tuple[LimitsRow, ...]  # newest per account
    halts: tuple[Halt, ...]  # in force
    events: int = 0  # number of the last one in the outbox
    cursors: tuple[Cursor, ...] = ()  # of the sinks, also of those that are not configured any more
    reconciled: tuple[Reconciled, ...] = ()  # per account
    executions: tuple[Execution, ...] = ()  # booked, not older than `reconciled` by more than ten minutes


class Stats(Struct, frozen=True, kw_only=True):
    """How far a journal is, in numbers of facts; durations in ns."""

    seq: int = 0  # last appended
    durable_seq: int = 0  # last safe on the disk
    facts_queued: int = 0
    commits: int = 0  # since open
    commit_last_ns: int = 0  # how long the last commit took
    commit_max_ns: int = 0
    size_bytes: int = 0  # with the write-ahead log
    wal_bytes: int = 0
    events: int = 0  # number of the last one in the outbox
    outbox_waiting: int = 0  # events that the sink which is furthest behind has still to get
    sinks_waiting: dict[str, int] = {}  # the same of each sink
    failed: str = ""  # why it takes no more; empty while sound


class AuditEntry(Struct, frozen=True):
    """A line of the audit log: what people and the engine itself did that is not an order."""

    seq: int
    at_ns: int
    who: str
    what: str
    account: str
    detail: str


class Record(Struct, frozen=True):
    """One line of the chain as stored."""

    seq: int
    at_ns: int
    fact: AnyFact
    hash: bytes


class ArchiveRow(Struct, frozen=True):
    """Facts that are no longer in the journal: in which file they are, and what they come to."""

    first_seq: int
    last_seq: int
    name: str  # of the file
    digest: bytes  # of its lines
    newest_ns: int  # wall time of its newest fact
    base: Base  # after `last_seq`
    discarded_ns: int | None  # when the file was deleted on purpose


class Journal(Protocol):
    """What an engine writes to: one writer, facts and rows in one transaction, nothing told before it is durable."""

    async def open(self) -> OpenState:
        """Lock, migrate, verify the tail, load. Raises JournalFailed."""
        ...

    def append(self, facts: Sequence[AnyFact], rows: Sequence[Row] = ()) -> int:
        """Queue for the next commit; returns the number of the last fact (or of the last one before, for rows only)."""
        ...

    async def outbox(self, after: int) -> tuple[OutboxRow, ...]:
        """The next durable events behind this number, in order, some hundreds at most; waits while there are none."""
        ...

    def cursor(self, sink: str) -> int:
        """The last event that a sink has, of those that this journal has a Cursor for."""
        ...

    async def durable(self, seq: int, eager: bool = False, protective: bool = False) -> None:
        """Returns once everything up to `seq`, and all appended with it, is as safe as the configuration says.

        `eager`: nothing more is about to be appended that should share the commit; it need not wait for others.
        `protective`: whoever waits would rather go on without it: JournalFailed also when the store is out of reach
        for the moment only.
        """
        ...

    def hurry(self, seq: int, then: Callable[[], None] | None = None) -> None:
        """Somebody will wait for `seq` and for nothing after it: its commit may begin in this turn.

        `then` is called in the very turn in which it is durable, perhaps in this one; never, when its commit could not
        begin just now, or failed. It must not raise.
        """
        ...

    async def published(self) -> None:
        """Returns once every sink that is wanted has every event appended so far, and that is durable."""
        ...

    async def failure(self) -> None:
        """Waits as long as the journal is sound. Raises JournalFailed at once when it no longer is; Fenced, if so."""
        ...

    def barred(self, opening: bool) -> str:
        """Why nothing of this kind may be sent just now, because another engine may own the accounts; empty: it may."""
        ...

    async def reload(self, account: str | None = None, symbol: str | None = None) -> OpenState:
        """The committed open state, of one symbol or of all, for an actor that is made anew."""
        ...

    async def signal(self, signal_id: str) -> SignalRow | None:
        """A past signal as committed."""
        ...

    async def delivery(self, place: str) -> Delivery | None:
        """What a name was bound to, as committed."""
        ...

    def stats(self) -> Stats: ...

    async def close(self) -> None:
        """Commit what is queued, then let go of the disk. A failed journal closes without a word."""
        ...

    def reader(self) -> "Reader":
        """For the API and the command line: what is committed, read without disturbing the writer."""
        ...


class Shelf(Protocol):
    """Committed state, as the API shows it. Pages are newest first; `before` is the last key of the page before, 0 for
    the first.

    The key of a signal is its `received_ns`, of a trade its `opened_ns`. Rows of one nanosecond are never parted, so a
    page may be a little longer than `limit`.
    """

    def signal(self, signal_id: str) -> SignalRow | None: ...

    def delivery(self, place: str) -> Delivery | None: ...

    def signals(self, limit: int, before: int = 0) -> tuple[SignalRow, ...]: ...

    def order(self, cid: str) -> Order | None: ...

    def orders(self, account: str | None, symbol: str | None, live_only: bool, limit: int) -> tuple[Order, ...]: ...

    def positions(self, account: str | None = None) -> tuple[Position, ...]: ...

    def trades(self, account: str | None, limit: int, before_ns: int = 0) -> tuple[Trade, ...]: ...

    def trade(self, trade_id: str) -> Trade | None: ...

    def limits(self) -> tuple[LimitsRow, ...]: ...

    def accounts(self) -> tuple[AccountRow, ...]: ...

    def story(self, trace_id: str) -> tuple[Record, ...]:
        """Every fact with this trace id, oldest first."""
        ...

    def dead_letters(self, signal_id: str) -> tuple[DeadLettered, ...]:
        """Bodies with this id that could not become a signal, oldest first."""
        ...


class Reader(Shelf, Protocol):
    """One journal's: also its chain."""

    def halts(self) -> tuple[Halt, ...]: ...

    def records(self, after: int = 0, limit: int = 1000) -> tuple[Record, ...]:
        """The chain itself, oldest first."""
        ...

    def snapshot(self) -> AbstractContextManager[None]:
        """Everything read inside is of one moment, while a running engine writes on."""
        ...

    def lines(self) -> Iterator[Line]:
        """The whole chain as bytes, oldest first, for the audit."""
        ...

    def tables(self) -> Tables:
        """What the audit compares with the chain; read while it is iterated."""
        ...

    def waiting(self) -> dict[str, int]:
        """Events that each sink has still to get."""
        ...

    def audit_log(self, limit: int, before: int = 0) -> tuple[AuditEntry, ...]:
        """Who did what; the key of a page is `seq`."""
        ...

    def close(self) -> None: ...
