"""Lines of JSON in and out: files, stdin and followed files as sources; append-only files as sinks.

A source that is held up reads no further, so a full engine fills the pipe and the writer waits. A line that is longer
than a body may be is cut and handed on as such, to be refused by its size; reading goes on at the next line.
"""

import os
import stat
from collections.abc import Awaitable, Callable
from contextlib import suppress
from hashlib import blake2b
from io import FileIO
from pathlib import Path
from typing import Protocol

import msgspec
import trio
from msgspec import Struct

from engine.core.messages import Malformed, OutboxRow
from engine.edges.base import Arrival, Receipt, SinkDown
from engine.edges.receipts import receipt_line
from engine.edges.strict import SIZE_MAX
from engine.runtime.clock import Clock

CHUNK = 1 << 16
POLL_SECONDS = 0.1  # how often a followed file is looked at
AGAIN_SECONDS = 0.2  # until a body that the engine could not take is offered again


# ------------------------------------------------------------------------------------------------------------- sources


class Line(Struct, frozen=True):
    """`offset` is where it starts in its file."""

    offset: int
    raw: bytes


class Lines:
    """Chunks to lines. Holds back at most `line_max` + 1 bytes of an unfinished line, however long it grows."""

    def __init__(self, line_max: int = SIZE_MAX) -> None:
        self._keep = line_max + 1
        self._held = bytearray()
        self._start = 0  # of the unfinished line
        self._length = 0  # of it so far, with what is not held

    def feed(self, chunk: bytes) -> list[Line]:
        """The lines that end in this chunk, but for blank ones."""
        *ended, rest = chunk.split(b"\n")
        lines = [line for piece in ended if (line := self._end(piece))]
        self._hold(rest)
        return lines

    def rest(self) -> list[Line]:
        """The last line, when the file ends without a newline."""
        line = self._end(b"")
        return [line] if line else []

    def _end(self, piece: bytes) -> Line | None:
        self._hold(piece)
        line = Line(self._start, bytes(self._held))
        self._start += self._length + 1
        self._length = 0
        self._held.clear()
        return line if line.raw.strip() else None

    def _hold(self, piece: bytes) -> None:
        self._length += len(piece)
        room = self._keep - len(self._held)
        if room > 0:
            self._held += piece[:room]


class NdjsonSource:
    """A file from its beginning to its end; or, followed, for ever; or stdin until it is closed.

    A line of a file that brings no signal_id gets its place as id: `name:offset`, and in a followed file, which may be
    replaced by another, `name:offset:hash` of the line. Lines of stdin have no place and must bring their own.
    A followed file is read from its beginning at every start; what was executed before is known by its ids.
    """

    def __init__(
        self,
        name: str,
        path: Path | None,
        clock: Clock,
        *,
        follow: bool = False,
        dialect: str | None = None,
        echo: Callable[[bytes], None] | None = None,
        poll_seconds: float = POLL_SECONDS,
        fd: int = 0,
    ) -> None:
        self.name = name
        self._path, self._fd = path, fd
        self._clock, self._follow_on, self._dialect, self._echo = clock, follow, dialect, echo
        self._poll_seconds = poll_seconds
        self._place = name.encode("ascii", "backslashreplace").decode()[:80]

    @classmethod
    def stdin(
        cls,
        name: str,
        clock: Clock,
        *,
        dialect: str | None = None,
        echo: Callable[[bytes], None] | None = None,
        fd: int = 0,
    ) -> "NdjsonSource":
        return cls(name, None, clock, dialect=dialect, echo=echo, fd=fd)

    async def run(self, arrivals: trio.MemorySendChannel[Arrival]) -> None:
        """Returns at the end of the input, when all lines are answered. Raises OSError when it cannot be read."""
        flight = _Flight(arrivals, self._echo)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(flight.send_again)
            if self._path is None:
                await self._read_fd(flight)
            elif self._follow_on:
                await self._follow(self._path, flight)
            else:
                async with await trio.open_file(self._path, "rb", buffering=0) as file:
                    await self._read_file(file.read, flight)
            await flight.landed()
            nursery.cancel_scope.cancel()

    async def _read_fd(self, flight: "_Flight") -> None:
        own = os.dup(self._fd)
        if stat.S_ISREG(os.fstat(own).st_mode):  # `< file`: cannot be waited for, and never has to be
            async with trio.wrap_file(FileIO(own, "rb")) as file:
                return await self._read_file(file.read, flight)
        async with trio.lowlevel.FdStream(own) as stream:
            lines = Lines()
            while chunk := await stream.receive_some(CHUNK):
                # Stamped as soon as it is read, so that waiting for room counts as our own delay.
                received = self._clock.now_ns(), self._clock.ticks_ns()
                for line in lines.feed(chunk):
                    await flight.send(self._arrival(line, None, *received))
            for line in lines.rest():
                await flight.send(self._arrival(line, None, self._clock.now_ns(), self._clock.ticks_ns()))

    async def _read_file(self, read: Callable[[int], Awaitable[bytes]], flight: "_Flight") -> None:
        lines = Lines()
        while chunk := await read(CHUNK):
            await self._send_lines(lines.feed(chunk), flight)
        await self._send_lines(lines.rest(), flight)

    async def _send_lines(self, lines: list[Line], flight: "_Flight") -> None:
        """Lines that lay in a file arrive when their turn comes, not when the chunk with them was read."""
        for line in lines:
            await flight.send(
                self._arrival(line, self._line_id(line), self._clock.now_ns(), self._clock.ticks_ns()),
            )

    def _line_id(self, line: Line) -> str | None:
        if self._path is None:
            return None
        place = f"{self._place}:{line.offset}"
        return f"{place}:{blake2b(line.raw, digest_size=4).hexdigest()}" if self._follow_on else place

    def _arrival(self, line: Line, line_id: str | None, received_ns: int, received_tick: int) -> Arrival:
        return Arrival(
            raw=line.raw,
            source=self.name,
            dialect=self._dialect,
            received_ns=received_ns,
            received_tick=received_tick,
            answer=_unanswered,
            fallback_id=line_id,
        )

    async def _follow(self, path: Path, flight: "_Flight") -> None:
        """For ever, through truncation and replacement."""
        while True:
            try:
                file = await trio.open_file(path, "rb", buffering=0)
            except FileNotFoundError:
                await trio.sleep(self._poll_seconds)
                continue
            async with file:
                await self._follow_one(file, path, flight)

    async def _follow_one(self, file: "_Readable", path: Path, flight: "_Flight") -> None:
        """Until another file stands at the path. Its unfinished last line is then as finished as it will be."""
        lines, place, leaving = Lines(), 0, False
        mine = os.fstat(file.fileno())
        while True:
            while chunk := await file.read(CHUNK):
                place += len(chunk)
                await self._send_lines(lines.feed(chunk), flight)
            if os.fstat(file.fileno()).st_size < place:  # truncated
                await self._send_lines(lines.rest(), flight)
                lines, place = Lines(), 0
                await file.seek(0)
                continue
            if leaving:
                return await self._send_lines(lines.rest(), flight)
            await trio.sleep(self._poll_seconds)
            # The writer may hold the old file a little longer than its name: one more look after the change.
            leaving = await _replaced(path, mine)


class _Readable(Protocol):
    """A file as trio wraps it: so much of it as is needed here."""

    async def read(self, count: int, /) -> bytes: ...

    async def seek(self, place: int, /) -> int: ...

    def fileno(self) -> int: ...


async def _replaced(path: Path, mine: os.stat_result) -> bool:
    try:
        return not os.path.samestat(await trio.Path(path).stat(), mine)
    except FileNotFoundError:
        return False  # moved away; the writer may not have a new one yet and still write to the old


class _Flight:
    """The lines on their way: handed in, not answered yet."""

    def __init__(self, arrivals: trio.MemorySendChannel[Arrival], echo: Callable[[bytes], None] | None) -> None:
        self._arrivals, self._echo = arrivals, echo
        self._count = 0
        self._landed = trio.Event()
        self._refused, self._again = trio.open_memory_channel[Arrival](float("inf"))  # no more than are on their way

    async def send(self, arrival: Arrival) -> None:
        """Waits while the engine has no room."""
        self._count += 1
        await self._offer(arrival)

    async def landed(self) -> None:
        """Until all are answered."""
        while self._count:
            self._landed = trio.Event()
            await self._landed.wait()

    async def send_again(self) -> None:
        """For ever: what the engine could not take is offered again, after a pause, for it is in trouble."""
        async for arrival in self._again:
            await trio.sleep(AGAIN_SECONDS)
            await self._offer(arrival)

    async def _offer(self, arrival: Arrival) -> None:
        def answer(receipt: Receipt) -> None:
            self._answered(arrival, receipt)

        await self._arrivals.send(msgspec.structs.replace(arrival, answer=answer))

    def _answered(self, arrival: Arrival, receipt: Receipt) -> None:
        if receipt.status == "busy":
            return self._refused.send_nowait(arrival)
        self._count -= 1
        self._landed.set()
        if self._echo:
            self._echo(receipt_line(receipt, arrival.fallback_id))


def _unanswered(receipt: Receipt) -> None:
    raise AssertionError("answered before it was sent")


# --------------------------------------------------------------------------------------------------------------- sinks


class NdjsonFile:
    """Appends whole lines. Follows its path: a file that was rotated away or removed is opened anew.

    `durable` opens it so that each write is on the disk before it returns.
    """

    def __init__(self, path: Path, durable: bool = False) -> None:
        self.path = path
        self._flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | (os.O_DSYNC if durable else 0)
        self._fd = -1

    def append(self, lines: bytes) -> None:
        """All of them or none. Raises OSError."""
        fd, size, rest = *self._opened(), memoryview(lines)
        try:
            while rest:
                rest = rest[os.write(fd, rest) :]
        except OSError:
            self._undo(size, size + len(lines) - len(rest))
            raise

    async def append_in_thread(self, lines: bytes) -> None:
        """The same, for a durable file, without holding up the loop."""
        fd, size, rest = *self._opened(), memoryview(lines)
        file = trio.wrap_file(FileIO(fd, "r+b", closefd=False))
        try:
            while rest:
                rest = rest[await file.write(rest) :]
        except OSError:
            self._undo(size, size + len(lines) - len(rest))
            raise

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    __del__ = close

    def _opened(self) -> tuple[int, int]:
        """(descriptor, size)."""
        if self._fd >= 0 and not self._at_its_path():
            self.close()
        if self._fd < 0:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self.path, self._flags, 0o640)
            _end_torn_line(self._fd)
        return self._fd, os.fstat(self._fd).st_size

    def _undo(self, size: int, grown: int) -> None:
        """Half a line would spoil the next one: taken back, unless somebody has written behind it or it cannot be."""
        with suppress(OSError):  # a device; or the disk is worse than full. Opening it anew ends a torn line as well
            if os.fstat(self._fd).st_size == grown:
                os.ftruncate(self._fd, size)
        self.close()

    def _at_its_path(self) -> bool:
        try:
            return os.path.samestat(os.stat(self.path), os.fstat(self._fd))
        except FileNotFoundError:
            return False


def _end_torn_line(fd: int) -> None:
    """A crash in the middle of a write leaves a line without its end; it gets one, so that it spoils only itself."""
    size = os.fstat(fd).st_size
    if size and os.pread(fd, 1, size - 1) != b"\n":
        os.write(fd, b"\n")


class NdjsonSink:
    """Published events, one line each. `durable` outlives a loss of power, at the price of a sync for each batch."""

    def __init__(self, name: str, path: Path, durable: bool = False) -> None:
        self.name = name
        self._file = NdjsonFile(path, durable)
        self._durable = durable

    async def send(self, rows: tuple[OutboxRow, ...]) -> None:
        """Returns when the file has them. Raises SinkDown."""
        lines = b"".join(map(row_line, rows))
        try:
            if self._durable:
                await self._file.append_in_thread(lines)
            else:
                await trio.lowlevel.checkpoint()
                self._file.append(lines)
        except OSError as error:
            raise SinkDown(f"{self._file.path}: {error.strerror or error}") from error

    def close(self) -> None:
        self._file.close()


def row_line(row: OutboxRow) -> bytes:
    """One event as a line: who, what and when, then its own figures (which cannot replace those)."""
    event = row.event
    who = {
        "event_id": row.event_id,
        "name": event.name,
        "account": event.account,
        "key": event.key,
        "at_ns": event.at_ns,
        "trace_id": event.trace_id,
        "cause": event.cause,
    }
    return msgspec.json.encode({**who, **event.body, **who}) + b"\n"


def dead_letter_line(malformed: Malformed) -> bytes:
    """A body that could not be read, with its reasons, as a line."""
    letter = {
        "received_ns": malformed.received_ns,
        "source": malformed.source,
        "signal_id": malformed.signal_id,
        "place": malformed.place,
        "reasons": [{"field": reason.field, "reason": reason.reason} for reason in malformed.reasons],
        "raw": malformed.raw,
    }
    return msgspec.json.encode(letter) + b"\n"
