"""What the API may ask of the engine: plain functions, filled by wiring. The web decides and remembers nothing itself.

Each function that changes something names who asked (`by`). What a port cannot do it says with `Refused`, `Unknown` or
`Unready`; every other exception is a fault of ours.
"""

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import trio
from msgspec import Struct

from engine.core.messages import (
    Check,
    Halt,
    HaltKind,
    Limits,
    OrderReport,
    OutboxRow,
    PositionReport,
    Quote,
    Refusal,
    SignalRow,
    StreamState,
)
from engine.core.tally import TallySnapshot
from engine.runtime.journal.base import Shelf


class Refused(Exception):
    """The request was understood and will not be done, for these reasons."""

    def __init__(self, *reasons: Refusal) -> None:
        super().__init__("; ".join(r.reason for r in reasons))
        self.reasons = reasons


class BadBody(Refused):
    """The body is not JSON, or not of the form that is asked for."""


class Unknown(Exception):
    """There is no such account, symbol or thing; the text says which."""


class Unready(Exception):
    """It cannot be done now (starting, draining, journal gone); the text says why."""


class NotLetIn(Exception):
    """A webhook from one who has not shown that he may send it. `kind` is for the metrics."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind


class Component(Struct, frozen=True, kw_only=True):
    """One part of the engine and whether it does its work."""

    name: str
    ok: bool
    detail: str = ""
    lag: int | None = None  # messages that wait to be read from a source, where it can tell, or events for a sink


class JournalStats(Struct, frozen=True, kw_only=True):
    """How far the journal is, in numbers of facts; durations in ns."""

    seq: int = 0  # last appended
    durable_seq: int = 0  # last safe on the disk
    commits: int = 0
    commit_last_ns: int = 0  # how long the last commit took
    commit_max_ns: int = 0
    size_bytes: int = 0
    outbox_waiting: int = 0  # events not yet published
    failed: str = ""  # why it takes no more; empty while sound


class Channel(Struct, frozen=True, kw_only=True):
    """A mailbox with what is in it and what fits."""

    name: str
    used: int
    size: int


class ShardHealth(Struct, frozen=True, kw_only=True):
    """One shard of accounts, where engines share them."""

    name: str
    accounts: tuple[str, ...]
    state: str  # held | waiting | ending | elsewhere | failed: here
    holder: str = ""  # the engine that holds it, or has asked for it; "": none that is alive
    detail: str = ""
    epoch: int = 0  # of its lease, while it is held here
    lease_seconds: float = 0.0  # until that ends, unless it is renewed
    letters: int = 0  # signals that wait for its holder on the server


class Health(Struct, frozen=True, kw_only=True):
    """Live: the process does its work. Protective-ready: stops and cancels can reach the venue. Entry-ready: so can
    opening orders."""

    live: bool
    protective_ready: bool
    entry_ready: bool
    components: tuple[Component, ...] = ()
    halts: tuple[Halt, ...] = ()
    streams: tuple[StreamState, ...] = ()
    journal: JournalStats = JournalStats()
    channels: tuple[Channel, ...] = ()
    started_ns: int = 0
    uptime_ns: int = 0
    build: str = ""
    durability: str = ""  # power | process
    notes: tuple[str, ...] = ()  # standing choices worth knowing, such as what an unreachable risk service means
    shards: tuple[ShardHealth, ...] = ()  # of all engines together; () where one owns everything


class Left(Struct, frozen=True, kw_only=True):
    """What one account still has at the venue, as the venue itself says. `unknown` says why it could not be asked."""

    account: str
    entries: tuple[OrderReport, ...] = ()
    positions: tuple[PositionReport, ...] = ()
    unknown: str = ""


class ShardStop(Struct, frozen=True, kw_only=True):
    """Where a command for everything was carried out, of one shard."""

    name: str
    # here | there: by its holder, whose report is in this one | left: durable, the holder or the next one carries it
    # out, and has not said so yet | unreached: the server has not said that it has the command
    state: str
    holder: str = ""  # "": none that is alive
    detail: str = ""


class StopReport(Struct, frozen=True, kw_only=True):
    """What came of a stop, a flatten or a close."""

    by: str
    reason: str
    complete: bool  # the venue itself shows nothing of what was to go, and the halt (if any) is durable
    halted: bool = False  # entries are stopped until a resume
    durable: bool = True  # the halt survives a restart
    left: tuple[Left, ...] = ()
    problems: tuple[str, ...] = ()  # what did not work on the way, in words
    halts: tuple[Halt, ...] = ()  # in force now
    took_ns: int = 0
    shards: tuple[ShardStop, ...] = ()  # where engines share the accounts


class ResumeReport(Struct, frozen=True, kw_only=True):
    """What a resume ended, what still closes its scope and how that ends, and all halts in force now."""

    halts: tuple[Halt, ...]
    ended: tuple[Halt, ...] = ()
    remains: tuple[str, ...] = ()


class Receipt(Protocol):
    """What became of a body: the part of an edge's receipt that the API itself looks at."""

    @property
    def row(self) -> SignalRow | None: ...


async def at_once(ask: Callable[[], Any]) -> Any:
    """How a journal in a file is asked."""
    return ask()


class Ports(Struct, frozen=True, kw_only=True):
    """Everything the API is made of. Functions that may wait are awaited; the others return at once."""

    # A body for the sources' common way in, with the trace id of its header. Returns once the result is durable.
    submit: Callable[[bytes, str | None], Awaitable[Receipt]]
    # The beginning of a body that is not taken, why, and the trace id: it becomes a dead letter.
    turn_away: Callable[[bytes, str, str | None], Awaitable[Receipt]]
    # A webhook: its hook's name, headers by small names, body, the address it is from, trace id. As `submit`; raises
    # Unknown (no such hook), NotLetIn, Refused (it may, but so nothing of it is kept).
    deliver: Callable[[str, Mapping[str, str], bytes, str, str | None], Awaitable[Receipt]]
    # The edge's mapping of the receipt that `submit` gave to a status code and a JSON body.
    answer: Callable[[Any], tuple[int, bytes]]
    reader: Shelf
    read: Callable[[Callable[[], Any]], Awaitable[Any]] = at_once  # puts a question to `reader`; may wait for a network
    quote: Callable[[str], Quote | None]
    health: Callable[[], Health]
    # (by, reason, flatten): halts the engine, cancels entries, flattens if asked. Must work when other parts do not.
    stop: Callable[[str, str, bool], Awaitable[StopReport]]
    # (scope, by, note, kind or None): ends one kind of halts of a scope. Unknown when nothing closes it, Refused when
    # nothing of it is a person's to end so.
    resume: Callable[[str, str, str, HaltKind | None], Awaitable[ResumeReport]]
    # (account or None for all, symbol or None for all, by, reason): cancels entries and closes positions.
    flatten: Callable[[str | None, str | None, str, str], Awaitable[StopReport]]
    # (account, symbol, by): Unknown when nothing is held there.
    close_position: Callable[[str, str, str], Awaitable[StopReport]]
    # (account, fields of Limits to change, already of their types, by): the limits now in force, durable.
    set_limits: Callable[[str, dict[str, object], str], Awaitable[Limits]]
    # Published events after this id (None: from now on); the channel ends when the engine drains.
    subscribe: Callable[[int | None], AbstractAsyncContextManager[trio.MemoryReceiveChannel[OutboxRow]]]
    tally: Callable[[], TallySnapshot]
    # By account, each limit with how much of it is used now; of the accounts that are held here.
    usage: Callable[[], dict[str, tuple[Check, ...]]]
    # The engine's inner state for a person who looks for a fault: anything that is JSON.
    dump: Callable[[], dict[str, object]]
    now_ns: Callable[[], int]
