"""Redis Streams in and out (SPEC ING1, PUB1): consumer groups, an entry acknowledged when what became of it is durable.

coredis is imported with this module, and this module only by an engine that has such a source or sink: it takes a
fifth of a second. What a cancelled or timed-out write did is not known, so events may come twice; their id tells.
"""

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from hashlib import blake2b
from typing import Any, TypeVar
from urllib.parse import urlsplit

import structlog
import trio
from coredis import PureToken, Redis
from coredis.exceptions import (
    RedisError,
    StreamConsumerGroupError,
    StreamDuplicateConsumerGroupError,
)
from coredis.retry import NoRetryPolicy
from msgspec import Struct

from engine.core.messages import OutboxRow
from engine.edges.base import Arrival, Receipt, SinkDown
from engine.edges.entries import Fields, entry_body
from engine.edges.ndjson import dead_letter_line, row_line
from engine.runtime.clock import Clock

READ_MAX = 100  # entries a read
BLOCK_MS = 1_000  # how long a read waits for new ones
FLIGHT_MAX = 1_000  # entries handed in and not answered; with so many the stream waits
AGAIN_SECONDS = (0.1, 0.5, 2.0, 5.0)  # until a server that is down is asked again
BUSY_SECONDS = 0.2  # until an entry that the engine could not take is offered again
CALL_SECONDS = 10.0  # without an answer for so long the server counts as down
STREAM_CHARS_MAX = 60  # a longer name stands in an id by its digest
LOG = structlog.get_logger("redis")
T = TypeVar("T")


class Server(Struct, frozen=True):
    """Where Redis is. `password` comes from the environment; `unix_socket` wins over host and port."""

    host: str = "127.0.0.1"
    port: int = 6379
    db: int = 0
    tls: bool = False
    ca_file: str = ""  # tls: default the system's
    username: str = ""
    password: str = ""
    unix_socket: str = ""

    @classmethod
    def at(cls, url: str, password: str = "", ca_file: str = "") -> "Server":
        """From an address as in the config; raises ValueError for what is none."""
        at = urlsplit(url)
        if at.scheme == "unix":
            return cls(unix_socket=at.path, password=password)
        host, port, db = at.hostname or "", at.port or 6379, int(at.path.strip("/") or 0)
        return cls(host, port, db, at.scheme == "rediss", ca_file, at.username or "", password)

    def __repr__(self) -> str:
        return f"Server({self.place})"

    @property
    def place(self) -> str:
        return self.unix_socket or f"{self.host}:{self.port}/{self.db}"

    def client(self) -> "Redis[bytes]":
        return Redis(
            None if self.unix_socket else self.host,
            None if self.unix_socket else self.port,
            self.db,
            username=self.username or None,
            password=self.password or None,
            unix_socket_path=self.unix_socket or None,
            ssl=self.tls,
            ssl_ca_certs=self.ca_file or None,
            ssl_cert_reqs="required" if self.tls else None,
            connect_timeout=CALL_SECONDS,
            retry_policy=NoRetryPolicy(),
        )


# ---------------------------------------------------------------------------------------------------------- asking


class Line:
    """One client, and the one place where a call is made again: for ever, for a server that is away comes back.

    `down` says why it does not answer now; "" while it does.
    """

    def __init__(self, server: Server, name: str) -> None:
        self.client: Any = server.client()  # its overloads do not survive a lambda
        self.down = "not connected yet"
        self._place, self._name = server.place, name

    async def insist(self, call: Callable[[], Awaitable[T]], seconds: float = CALL_SECONDS) -> T:
        """Raises StreamConsumerGroupError only."""
        attempt = 0
        while True:
            try:
                return await self.once(call, seconds)
            except SinkDown as error:
                if attempt == 0:
                    LOG.warning("redis down", edge=self._name, reason=str(error))
            await trio.sleep(AGAIN_SECONDS[min(attempt, len(AGAIN_SECONDS) - 1)])
            attempt += 1

    async def once(self, call: Callable[[], Awaitable[T]], seconds: float = CALL_SECONDS) -> T:
        """Raises SinkDown for whatever the server or the way to it says, and StreamConsumerGroupError."""
        try:
            with trio.fail_after(seconds):
                answer = await call()
        except StreamConsumerGroupError:
            raise
        except (RedisError, OSError, trio.TooSlowError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            self.down = f"{type(error).__name__}: {error}".rstrip(": ")
        else:
            if self.down:
                LOG.info("redis up", edge=self._name, server=self._place)
            self.down = ""
            return answer
        raise SinkDown(f"{self._place}: {self.down}")


# ---------------------------------------------------------------------------------------------------------- source


class Streams(Struct, frozen=True):
    """What a source reads, and how. `dead_letters`: the stream that gets what could not be read; "": none does."""

    streams: tuple[str, ...]
    group: str = "surefire"
    consumer: str = "surefire"
    dialect: str | None = None
    reclaim_seconds: float = 60.0  # entries that another consumer has left for so long are taken over
    dead_letters: str = ""
    dead_letters_max: int = 10_000


class Held(Struct):
    """An entry that was handed in: what it said, and what is to be buried with it."""

    stream: str
    entry_id: bytes
    letter: bytes = b""


class RedisSource:
    """Some streams by one consumer group. An entry without an id of its own is known as `entry_name` has it.

    It is acknowledged when its result is durable; what was handed in before a crash is pending, and comes again.
    """

    def __init__(self, name: str, server: Server, terms: Streams, clock: Clock) -> None:
        self.name = name
        self._terms, self._clock = terms, clock
        self._line = Line(server, name)
        self._flying: dict[tuple[str, bytes], Held] = {}
        self._done: deque[Held] = deque()
        self._some_done = trio.Event()
        self._room = trio.Semaphore(FLIGHT_MAX)

    @property
    def down(self) -> str:
        """Why nothing comes from here now; "" when it does."""
        return self._line.down

    async def run(self, arrivals: trio.MemorySendChannel[Arrival]) -> None:
        """For ever. Entries whose result is not acknowledged when it is cancelled come again at the next start.

        It may be called again after it has failed: whatever was in hand then comes again, too.
        """
        self._arrivals = arrivals
        self._flying.clear()
        self._again, to_send_again = trio.open_memory_channel[Arrival](float("inf"))  # no more than are flying
        async with self._line.client, trio.open_nursery() as nursery:
            for stream in self._terms.streams:
                await self._line.insist(partial(self._join, stream))
            nursery.start_soon(self._acknowledge)
            nursery.start_soon(self._send_again, to_send_again)
            nursery.start_soon(self._reclaim)
            await self._read()

    async def _join(self, stream: str) -> None:
        """A group that is made anew begins at the stream's beginning: what was added before us is meant for us."""
        try:
            await self._line.client.xgroup_create(stream, self._terms.group, identifier="0", mkstream=True)
        except StreamDuplicateConsumerGroupError:
            pass  # it is there

    async def _read(self) -> None:
        terms, client = self._terms, self._line.client
        seconds = BLOCK_MS / 1_000 + CALL_SECONDS
        mine = True  # first, and whenever an answer may have been lost: what the server says we have already
        while True:
            if mine:
                for stream in terms.streams:
                    await self._pending(stream)
                mine = False
            wanted = dict.fromkeys(terms.streams, ">")
            try:
                found = await self._line.once(
                    partial(client.xreadgroup, terms.group, terms.consumer, wanted, count=READ_MAX, block=BLOCK_MS),
                    seconds,
                )
            except (SinkDown, StreamConsumerGroupError) as error:
                LOG.warning("redis stream", source=self.name, reason=str(error))
                await trio.sleep(AGAIN_SECONDS[1])
                for stream in terms.streams:  # a server that came back empty has no groups
                    await self._line.insist(partial(self._join, stream))
                mine = True
                continue
            for stream, entries in (found or {}).items():
                for entry in entries:
                    await self._hand_in(_text(stream), entry.identifier, entry.field_values)

    async def _pending(self, stream: str) -> None:
        """What this consumer was given and has not acknowledged, but for what is flying.

        Claimed by their ids: a read of one's own pending entries fails in coredis when one of them was trimmed away.
        """
        terms, client, place = self._terms, self._line.client, "-"
        while True:
            try:
                left = await self._line.insist(
                    partial(
                        client.xpending,
                        stream,
                        terms.group,
                        start=place,
                        end="+",
                        count=READ_MAX,
                        consumer=terms.consumer,
                    )
                )
                ids = [each.identifier for each in left if (stream, each.identifier) not in self._flying]
                entries = ids and await self._line.insist(
                    partial(client.xclaim, stream, terms.group, terms.consumer, 0, ids)
                )
            except StreamConsumerGroupError:
                return
            if len(entries) < len(ids):  # the server has struck them from the list
                LOG.error("redis entries are gone", source=self.name, stream=stream, count=len(ids) - len(entries))
            for entry in entries:
                await self._hand_in(stream, entry.identifier, entry.field_values)
            if len(left) < READ_MAX:
                return
            place = f"({_text(left[-1].identifier)}"

    async def _reclaim(self) -> None:
        """For ever: takes over what consumers that are gone have left."""
        terms, client = self._terms, self._line.client
        idle_ms = int(terms.reclaim_seconds * 1_000)
        while True:
            await trio.sleep(terms.reclaim_seconds / 2)
            for stream in terms.streams:
                place: bytes | str = "0-0"
                while True:
                    try:
                        place, entries, _ = await self._line.insist(
                            partial(
                                client.xautoclaim, stream, terms.group, terms.consumer, idle_ms, place, count=READ_MAX
                            )
                        )
                    except StreamConsumerGroupError:
                        break
                    for entry in entries:
                        await self._hand_in(stream, entry.identifier, entry.field_values)
                    if place == b"0-0":
                        break

    async def _hand_in(
        self,
        stream: str,
        entry_id: bytes,
        entry: Fields,
    ) -> None:
        """Waits while the engine has no room."""
        if (stream, entry_id) in self._flying:
            return
        await self._room.acquire()
        held = self._flying[stream, entry_id] = Held(stream, entry_id)

        def answer(receipt: Receipt) -> None:
            if receipt.status == "busy":
                return self._again.send_nowait(arrival)
            if receipt.malformed is not None:
                held.letter = dead_letter_line(receipt.malformed)
            self._room.release()
            self._landed(held)

        raw = entry_body(stream, entry)
        arrival = Arrival(
            raw=raw,
            source=self.name,
            dialect=self._terms.dialect,
            received_ns=self._clock.now_ns(),
            received_tick=self._clock.ticks_ns(),
            answer=answer,
            fallback_id=entry_name(stream, _text(entry_id), raw),
        )
        await self._arrivals.send(arrival)

    async def _send_again(self, to_send_again: trio.MemoryReceiveChannel[Arrival]) -> None:
        """For ever: what the engine could not take is offered again, after a pause, for it is in trouble."""
        async for arrival in to_send_again:
            await trio.sleep(BUSY_SECONDS)
            await self._arrivals.send(arrival)

    def _landed(self, held: Held) -> None:
        self._done.append(held)
        self._some_done.set()

    async def _acknowledge(self) -> None:
        """For ever: in the order in which the results came, many at once, each dead letter before its entry."""
        while True:
            await self._some_done.wait()
            self._some_done = trio.Event()
            while self._done:
                batch = [self._done.popleft() for _ in range(min(len(self._done), READ_MAX))]
                await self._line.insist(partial(self._settle, batch))
                for held in batch:
                    self._flying.pop((held.stream, held.entry_id), None)

    async def _settle(self, batch: list[Held]) -> None:
        terms = self._terms
        async with self._line.client.pipeline(transaction=True) as pipe:
            for held in batch:
                if held.letter and terms.dead_letters:
                    said = {"stream": held.stream, "entry": held.entry_id, "data": held.letter}
                    add(pipe, terms.dead_letters, said, terms.dead_letters_max)
            for stream in {held.stream: None for held in batch}:
                pipe.xack(stream, terms.group, [held.entry_id for held in batch if held.stream == stream])


def entry_name(stream: str, entry_id: str, raw: bytes) -> str:
    """How an entry without an id of its own is known, however often and to whomever it is delivered. PURE.

    What it says is in it: a stream of the same name on another server, or one made anew by a clock that was set back,
    has the same entry ids. No name of ours is: the engine that takes it over may call its source otherwise.
    """
    plain = len(stream) <= STREAM_CHARS_MAX and stream.isascii() and stream.isprintable()
    name = stream if plain else blake2b(stream.encode(), digest_size=16).hexdigest()
    return f"{name}:{entry_id}:{blake2b(raw, digest_size=6).hexdigest()}"


def _text(value: bytes | str) -> str:
    return value if isinstance(value, str) else value.decode("utf-8", "backslashreplace")


def add(pipe: Any, stream: str, said: Mapping[str, object], keep: int) -> None:
    """Queues an entry in a stream that keeps about the last `keep`."""
    pipe.xadd(
        stream,
        said,
        trim_strategy=PureToken.MAXLEN,
        trim_operator=PureToken.APPROXIMATELY,
        threshold=keep,
    )


# ------------------------------------------------------------------------------------------------------------ sink


class RedisSink:
    """Published events, in order, a batch in one transaction: to the stream named after the event, or to one for all.

    `mirror`, if not empty, begins the keys of hashes that show what is open, `MIRROR:ACCOUNT:SYMBOL`: the last
    `position.updated` of each, while its quantity is not 0.
    """

    def __init__(
        self,
        name: str,
        server: Server,
        stream: str = "",
        keep: int = 100_000,
        mirror: str = "",
        events: tuple[str, ...] = (),
    ) -> None:
        """`events`: only these go to streams; () all."""
        self.name = name
        self._events = frozenset(events)
        self._line = Line(server, name)
        self._stream, self._keep, self._mirror = stream, keep, mirror

    async def live(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Holds its connections, as long as anything is sent. Cancelled to stop."""
        async with self._line.client:
            task_status.started()
            await trio.sleep_forever()

    @property
    def down(self) -> str:
        return self._line.down

    async def send(self, rows: tuple[OutboxRow, ...]) -> None:
        """Returns when the server has them. Raises SinkDown; then they may be there or not. `live` must be running."""
        await self._line.once(partial(self._send, rows))

    async def _send(self, rows: tuple[OutboxRow, ...]) -> None:
        async with self._line.client.pipeline(transaction=True) as pipe:
            for row in rows:
                event = row.event
                said = {
                    "event_id": str(row.event_id),
                    "type": event.name,
                    "key": event.key,
                    "trace_id": event.trace_id,
                    "cause": event.cause,
                    "data": row_line(row)[:-1],
                }
                if not self._events or event.name in self._events:
                    add(pipe, self._stream or event.name, said, self._keep)
                if self._mirror and event.name == "position.updated":
                    self._reflect(pipe, row)

    def _reflect(self, pipe: Any, row: OutboxRow) -> None:
        body = row.event.body
        key = f"{self._mirror}:{body['account']}:{body['symbol']}"
        pipe.delete([key])
        if body["qty"] != "0":
            shown = {"event_id": str(row.event_id), "at_ns": str(row.event.at_ns)}
            pipe.hset(key, shown | {name: str(value) for name, value in body.items() if value is not None})
