"""What a source and a sink offer to the actors.

A source turns whatever it reads into `Arrival`s and sends them into a bounded channel, waiting when it is full: that
is the back-pressure. It is told by `answer`, once the result is durable, what became of each.
"""

from collections import deque
from collections.abc import Callable
from typing import Literal, Protocol, TypeAlias, runtime_checkable

import trio
from msgspec import Struct

from engine.core.messages import Malformed, OutboxRow, SignalRow

Status = Literal["accepted", "refused", "recorded", "repeated", "conflict", "malformed", "busy"]


class Receipt(Struct, frozen=True):
    """What became of one arrival; given back only when it is durable (but for `busy`: not taken, try again)."""

    status: Status
    row: SignalRow | None = None
    malformed: Malformed | None = None
    text: str = ""


class Arrival(Struct, frozen=True):
    """One body from outside."""

    raw: bytes
    source: str
    dialect: str | None  # None: told by its fields
    received_ns: int  # wall
    received_tick: int  # monotonic
    answer: Callable[[Receipt], None]
    trace_id: str | None = None  # from the transport's headers
    fallback_id: str | None = None  # where the transport itself names messages (file and offset)
    delivery: str | None = None  # the sender's signed name of it, "SOURCE/ID", which must never bring another body
    flaw: str = ""  # why the transport did not take all of it; then it is a dead letter


class Source(Protocol):
    name: str

    async def run(self, arrivals: trio.MemorySendChannel[Arrival]) -> None:
        """Until the source ends (a file) or for ever. Cancelled to stop."""
        ...


class SinkDown(Exception):
    """The sink could not take the rows; nothing of them counts as published."""


class Sink(Protocol):
    name: str

    async def send(self, rows: tuple[OutboxRow, ...]) -> None:
        """Returns when the receiver has them. Raises SinkDown."""
        ...


@runtime_checkable
class LivingSink(Protocol):
    """A sink that holds connections."""

    async def live(self, task_status: trio.TaskStatus[None]) -> None:
        """As long as anything is sent. Reports itself started at once, whether its receiver is there or not."""
        ...


LetGo: TypeAlias = tuple[OutboxRow, str]  # an event, and why its receiver refuses it


@runtime_checkable
class Choosing(Protocol):
    """A sink that may go on without an event which its receiver refuses for ever, where the config says so."""

    name: str
    let_go: deque[LetGo]  # since somebody last looked, and put it on record


@runtime_checkable
class Connected(Protocol):
    """A source or sink with a far end. A source that can tell has `lag: int`, too: messages that wait to be read."""

    name: str

    @property
    def down(self) -> str:
        """Why it does not come through now; "" when it does."""
        ...


def words(error: BaseException) -> str:
    """What went wrong on the way to a far end: HTTP libraries put an empty error around the one that says it."""
    text, inner = str(error), error.__cause__ or error.__context__
    while not text and inner is not None:
        text, inner = str(inner), inner.__cause__ or inner.__context__
    return f"{type(error).__name__}: {text}".rstrip(": ")[:200]
