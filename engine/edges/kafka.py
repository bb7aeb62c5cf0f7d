"""Kafka in and out (SPEC ING1, PUB1): offsets are committed when what became of their messages is durable.

One thread owns a consumer, as the client library wants it; it reads, pauses, commits, and hands over, and it alone
knows which partitions are ours now. What is in hand is counted on trio's side. Events are produced idempotently, keyed
by account, so that they are in order per account; after a crash some come twice, and their ids tell.

confluent-kafka is imported with this module, and this module only by an engine that has such a source or sink.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from functools import partial
from hashlib import blake2b
from itertools import chain, repeat
from threading import Event as ThreadEvent
from typing import Any

import msgspec
import structlog
import trio
from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    Consumer,
    KafkaError,
    KafkaException,
    Message,
    Producer,
    TopicPartition,
)
from msgspec import Struct

from engine.core.messages import Event, OutboxRow
from engine.edges.base import Arrival, LetGo, Receipt, SinkDown
from engine.edges.entries import entry_body
from engine.edges.ndjson import dead_letter_line, row_line
from engine.edges.strict import SIZE_MAX
from engine.runtime.clock import Clock

READ_MAX = 200  # messages handed over at once
POLL_SECONDS = 0.05  # how long the thread waits for a message before it looks after commits
WAITING_MAX = 1_000  # messages read and not handed in; above it the partitions pause, below half of it they go on
FLIGHT_MAX = 1_000  # messages handed in and not answered
BUSY_SECONDS = 0.2  # until a message that the engine could not take is offered again
DRAIN_SECONDS = 10.0  # for what is in hand of a partition that is taken from us
LEAVE_SECONDS = 2.0  # the same, when the engine stops
SEND_SECONDS = 10.0  # without an answer for so long the broker counts as down
TOGETHER_BYTES = 16_384  # an event that is larger flies alone
LOOK_SECONDS = (0.001, 0.001, 0.002, 0.005, 0.01, 0.02)  # until it is looked again whether the brokers have it all
LAST_SECONDS = 0.2  # for what is told of the events that are given up at the end
SETTLE_NS = 100_000_000  # between two commits: what a crash between them brings again is known by its id
TOPIC_CHARS_MAX = 80  # a longer name stands in an id by its digest
TRACES = ("trace_id", "x-trace-id", "correlation_id", "x-correlation-id")
TYPES = ("type", "event", "event_type", "ce_type")
LOG = structlog.get_logger("kafka")
Place = tuple[str, int]  # topic and partition
Headers = dict[str, str | bytes | None]


class Cluster(Struct, frozen=True):
    """Where Kafka is. `password` comes from the environment."""

    servers: str  # host:port, several with commas
    tls: bool = False
    ca_file: str = ""
    sasl: str = ""  # PLAIN, SCRAM-SHA-256, SCRAM-SHA-512; "": none
    username: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"Cluster({self.servers})"

    def settings(self) -> dict[str, object]:
        protocol = ("SASL_" if self.sasl else "") + ("SSL" if self.tls else "PLAINTEXT")
        found: dict[str, object] = {
            "bootstrap.servers": self.servers,
            "security.protocol": protocol,
            "socket.nagle.disable": True,
            "socket.connection.setup.timeout.ms": 5_000,
            "reconnect.backoff.max.ms": 2_000,
            "log_level": 0,  # what there is to say comes by error_cb
        }
        if self.ca_file:
            found["ssl.ca.location"] = self.ca_file
        if self.sasl:
            found |= {"sasl.mechanisms": self.sasl, "sasl.username": self.username, "sasl.password": self.password}
        return found

    def flaw(self) -> str:
        """What the client library has against it; "" for nothing. Nobody is connected to."""
        try:
            Producer(self.settings())
        except KafkaException as error:
            return _words(error.args[0])
        return ""


# -------------------------------------------------------------------------------------------------------- a message


def message_body(topic: str, value: bytes, headers: Mapping[str, bytes], dialect: str | None) -> bytes:
    """The value; wrapped where its type is said by a header, or, for a source without a dialect, by the topic. PURE."""
    typed = next((headers[name] for name in TYPES if name in headers), None)
    if typed is not None:
        return entry_body("", {b"type": typed, b"data": value})
    return value if dialect else entry_body(topic, {b"data": value})


def trace_of(headers: Mapping[str, bytes]) -> str | None:
    """A trace id of ours, or the one in a W3C `traceparent` (00-TRACE-SPAN-FLAGS)."""
    for name in TRACES:
        if headers.get(name):
            return headers[name].decode("utf-8", "backslashreplace")
    parts = headers.get("traceparent", b"").split(b"-")
    return parts[1].decode("ascii", "backslashreplace") if len(parts) == 4 and len(parts[1]) == 32 else None


def message_id(topic: str, partition: int, offset: int, made_ms: int) -> str:
    """How a message without an id of its own is known, however often and to whomever it is delivered. PURE.

    The moment at which it was made (0: not told) is in it, because a topic that is deleted and made anew counts its
    offsets from 0 again. No name of ours is: the engine that gets a partition next may call its source otherwise.
    """
    name = topic if len(topic) <= TOPIC_CHARS_MAX else blake2b(topic.encode(), digest_size=16).hexdigest()
    return f"{name}:{partition}:{offset}:{made_ms}" if made_ms else f"{name}:{partition}:{offset}"


def _headers(message: Message) -> dict[str, bytes]:
    """By name in small letters; of several with one name the last."""
    pairs: Any = message.headers() or ()
    return {name.lower(): value for name, value in pairs if isinstance(value, bytes)}


class Track:
    """One partition: which messages are in hand, and from where a reader would have to begin anew. PURE."""

    def __init__(self) -> None:
        self._open: dict[int, bool] = {}  # offset -> answered; in the order of the partition
        self.due: int | None = None  # the offset to commit

    def begin(self, offset: int) -> None:
        self._open[offset] = False

    def end(self, offset: int) -> None:
        """Answered. What is answered after one that is not yet waits for that."""
        if offset in self._open:
            self._open[offset] = True
        while self._open and self._open[first := next(iter(self._open))]:
            del self._open[first]
            self.due = first + 1

    def in_hand(self) -> bool:
        return bool(self._open)


Unburied = tuple[bytes, Place, int, Track]  # a dead letter that its topic has not got, and whose it is


class Fresh(Struct, frozen=True):
    """A message as the client library handed it over, and when; its partition was ours then, by this track."""

    message: Message
    place: Place
    offset: int
    track: Track
    received_ns: int
    received_tick: int


# ----------------------------------------------------------------------------------------------------------- source


class Topics(Struct, frozen=True):
    """What a source reads, and how. `dead_letters`: the topic for what could not be read; "": none."""

    topics: tuple[str, ...]
    group: str = "surefire"
    dialect: str | None = None
    dead_letters: str = ""
    # Unheard of for so long, a member of the group loses its partitions, and only then anybody else reads them. The
    # client's own thread says that we live, whatever the loop does: only a process or a network that stands is unheard.
    session_seconds: float = 10.0


def reading_settings(cluster: Cluster, group: str) -> dict[str, object]:
    """A consumer's, without its callbacks."""
    return cluster.settings() | {
        "group.id": group,
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "partition.assignment.strategy": "cooperative-sticky",
        "fetch.wait.max.ms": 100,
        "fetch.message.max.bytes": 8 * SIZE_MAX,
        "queued.max.messages.kbytes": 64 * 1024,
    }


class KafkaSource:
    """Some topics by one consumer group. A message without an id of its own is known by its place: see `message_id`.

    A partition that another member gets is drained first: what is in hand is answered and committed, the rest dropped
    unread, and nothing is committed for it any more. What was in hand at a crash comes again.
    """

    def __init__(self, name: str, cluster: Cluster, terms: Topics, clock: Clock) -> None:
        self.name = name
        self.down = "not connected yet"
        self.lag = 0  # messages that were not read yet
        self._terms, self._clock = terms, clock
        self._cluster = cluster
        self._burying = Producer(_producing(cluster)) if terms.dead_letters else None
        self._begin_anew()
        self._room = trio.Semaphore(FLIGHT_MAX)
        self._stopping = False

    def _settings(self, cluster: Cluster) -> dict[str, object]:
        return reading_settings(cluster, self._terms.group) | {
            "client.id": f"surefire-{self.name}",
            "session.timeout.ms": round(1_000 * self._terms.session_seconds),
            "heartbeat.interval.ms": round(1_000 * min(3.0, self._terms.session_seconds / 3)),
            "statistics.interval.ms": 1_000,
            "error_cb": self._trouble,
            "stats_cb": self._count,
            "on_commit": self._committed,
        }

    def _begin_anew(self) -> None:
        # The thread's own: which partitions are ours, what is to be committed, and what is on its way to the broker.
        self._mine: dict[Place, Track] = {}
        self._unsettled: dict[Place, int] = {}
        self._settling: dict[Place, tuple[Track, int]] = {}
        self._settle_from = 0  # monotonic ns
        self._unsettled_why = ""
        self._gained_some = False
        self._handed_over = 0  # counted by the thread, which must not run ahead of a loop that is busy
        # From the loop to the thread.
        self._due: deque[tuple[Place, Track, int]] = deque()
        # The loop's own.
        self._tracks: dict[Place, Track] = {}
        self._waiting: deque[Fresh] = deque()
        self._taken = 0  # of those handed over
        self._some_waiting = trio.Event()
        self._leaving: list[tuple[frozenset[Place], ThreadEvent]] = []

    async def run(self, arrivals: trio.MemorySendChannel[Arrival]) -> None:
        """For ever. Messages whose result is not committed when it is cancelled come again at the next start.

        It may be called again after it has failed: whatever was in hand then comes again, too.
        """
        self._arrivals = arrivals
        self._begin_anew()
        self._stopping = False
        self._token = trio.lowlevel.current_trio_token()
        self._again, to_send_again = trio.open_memory_channel[Arrival](float("inf"))  # no more than are flying
        self._unburied, unburied = trio.open_memory_channel[Unburied](float("inf"))  # likewise
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._hand_in_all)
            nursery.start_soon(self._send_again, to_send_again)
            nursery.start_soon(self._bury_again, unburied)
            nursery.start_soon(partial(trio.to_thread.run_sync, self._consume, limiter=trio.CapacityLimiter(1)))
            try:
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True), trio.move_on_after(LEAVE_SECONDS):
                    while any(track.in_hand() for track in self._tracks.values()):  # noqa: ASYNC110
                        await trio.sleep(0.02)
                self._stopping = True

    # ----------------------------------------------------------------------------------------- in the consumer's thread

    def _consume(self) -> None:
        consumer = self._consumer = Consumer(self._settings(self._cluster))
        consumer.subscribe(list(self._terms.topics), on_assign=self._gained, on_revoke=self._losing, on_lost=self._lost)
        paused = False
        try:
            while not self._stopping:
                first = consumer.poll(POLL_SECONDS)
                if first is not None:
                    self._hand_over((first,))  # at once, before the look whether there are more
                    self._hand_over(consumer.consume(READ_MAX - 1, 0))  # partitions may be taken from us in here
                self._settle()
                if self._burying is not None:
                    self._burying.poll(0)
                if self._gained_some:  # they are not paused
                    self._gained_some = paused = False
                full = self._handed_over - self._taken > (WAITING_MAX // 2 if paused else WAITING_MAX)
                if full != paused:
                    (consumer.pause if full else consumer.resume)(consumer.assignment())
                    paused = full
        finally:
            self._settle_now()
            consumer.close()

    def _hand_over(self, messages: Iterable[Message]) -> None:
        """What is of a partition that has just been taken from us is its next owner's to read."""
        received_ns, received_tick = self._clock.now_ns(), self._clock.ticks_ns()
        fresh = []
        for message in messages:
            if (error := message.error()) is not None:
                if error.code() != KafkaError._PARTITION_EOF:
                    self._trouble(error)
            elif (track := self._mine.get(place := _place(message))) is not None:
                fresh.append(Fresh(message, place, message.offset() or 0, track, received_ns, received_tick))
        if fresh:
            self._handed_over += len(fresh)
            self._token.run_sync_soon(self._read, fresh)

    def _settle(self) -> None:
        """Begins to commit what is due, unless some is on its way: then the next time, all in one."""
        self._gather()
        if not self._unsettled or self._settling or self._clock.ticks_ns() < self._settle_from:
            return
        self._settle_from = self._clock.ticks_ns() + SETTLE_NS
        self._settling = {place: (self._mine[place], offset) for place, offset in self._unsettled.items()}
        self._unsettled = {}
        offsets = _offsets(self._settling)
        try:
            self._consumer.commit(offsets=offsets, asynchronous=True)
        except KafkaException as error:
            self._committed(error.args[0], offsets)

    def _committed(self, error: KafkaError | None, places: list[TopicPartition]) -> None:
        """The answer to what was on its way. What was not taken is due again, as long as its partition is ours."""
        for told in places:
            place = told.topic, told.partition
            track, offset = self._settling.get(place, (None, None))
            if offset != told.offset:  # not the last that we sent
                continue
            del self._settling[place]
            if (flaw := error or told.error) is None:
                self._unsettled_why = ""
            elif self._mine.get(place) is track:
                self._unsettled.setdefault(place, told.offset)  # a later one may have become due meanwhile
                self._not_settled(flaw)

    def _settle_now(self) -> None:
        """Waits for the broker's answer, to what is on its way, too."""
        self._gather()
        due = {**self._settling, **{place: (self._mine[place], offset) for place, offset in self._unsettled.items()}}
        self._unsettled, self._settling = {}, due
        if not due:
            return
        offsets = _offsets(due)
        try:
            done: Any = self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            self._committed(error.args[0], offsets)
        else:
            self._committed(None, done)

    def _gather(self) -> None:
        """What the loop has found due, but for partitions that are no longer ours, or ours again since."""
        while self._due:
            place, track, offset = self._due.popleft()
            if self._mine.get(place) is track:
                self._unsettled[place] = offset

    def _not_settled(self, error: KafkaError) -> None:
        if (why := _words(error)) != self._unsettled_why:
            LOG.warning("kafka commit", source=self.name, reason=why)
            self._unsettled_why = why

    def _gained(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        self._gained_some = True
        self._well()
        LOG.info("kafka partitions gained", source=self.name, partitions=_shown(places))
        tracks = {(place.topic, place.partition): Track() for place in places}
        self._mine |= tracks
        self._token.run_sync_soon(self._tracks.update, tracks)

    def _losing(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        drained = ThreadEvent()
        self._token.run_sync_soon(self._leave, _places(places), drained)
        whole = drained.wait(DRAIN_SECONDS if not self._stopping else 0)
        self._settle_now()
        self._give_up(places)
        LOG.info("kafka partitions given up", source=self.name, partitions=_shown(places), drained=whole)

    def _lost(self, consumer: Consumer, places: list[TopicPartition]) -> None:
        """Another member has them already: nothing can be committed any more, and all in hand comes again there."""
        LOG.warning("kafka partitions lost", source=self.name, partitions=_shown(places))
        self._give_up(places)

    def _give_up(self, places: list[TopicPartition]) -> None:
        """An offset committed from now on would take the next owner's place in the partition back, or on."""
        gone = _places(places)
        self._mine = {place: track for place, track in self._mine.items() if place not in gone}
        self._settling = {place: due for place, due in self._settling.items() if place not in gone}
        self._unsettled = {place: offset for place, offset in self._unsettled.items() if place not in gone}
        self._token.run_sync_soon(self._forget, gone)

    def _trouble(self, error: KafkaError) -> None:
        words = _words(error)
        if words != self.down:
            LOG.warning("kafka", source=self.name, reason=words)
        self.down = words

    def _count(self, text: str) -> None:
        """Each second: how many messages wait, and whether a broker answers."""
        told = msgspec.json.decode(text)
        parts = [p for topic in told.get("topics", {}).values() for p in topic["partitions"].values()]
        self.lag = sum(max(part["consumer_lag"], 0) for part in parts if part.get("consumer_lag") is not None)
        up = any(b["state"] == "UP" and b["nodeid"] >= 0 for b in told.get("brokers", {}).values())
        if up:
            self._well()

    def _well(self) -> None:
        if self.down:
            LOG.info("kafka up", source=self.name)
            self.down = ""

    # ------------------------------------------------------------------------------------------------------- in trio

    def _read(self, fresh: list[Fresh]) -> None:
        """In the loop's own task, which nothing may fail: what a message is made into, a task of ours makes."""
        self._waiting.extend(fresh)
        self._some_waiting.set()

    def _leave(self, places: frozenset[Place], drained: ThreadEvent) -> None:
        """What was not handed in yet is dropped: the next owner reads it."""
        self._drop(places)
        self._leaving.append((places, drained))
        self._look_who_waits()

    def _look_who_waits(self) -> None:
        for entry in tuple(self._leaving):
            places, drained = entry
            if not any(track.in_hand() for place in places if (track := self._tracks.get(place))):
                drained.set()
                self._leaving.remove(entry)

    def _drop(self, places: frozenset[Place]) -> None:
        kept = deque(fresh for fresh in self._waiting if fresh.place not in places)
        self._taken += len(self._waiting) - len(kept)
        self._waiting = kept

    def _forget(self, places: frozenset[Place]) -> None:
        self._drop(places)
        for place in places:
            self._tracks.pop(place, None)

    async def _hand_in_all(self) -> None:
        """For ever; waits while the engine has no room."""
        while True:
            if not self._waiting:
                self._some_waiting = trio.Event()
                await self._some_waiting.wait()
                self._hand_in_one()  # with no turn of the loop in between
            elif not self._hand_in_one():
                await self._hand_in_next()
            else:
                await trio.lowlevel.checkpoint()

    def _hand_in_one(self) -> bool:
        """Whether there was room for it."""
        if not self._waiting:  # dropped meanwhile
            return True
        try:
            self._room.acquire_nowait()
        except trio.WouldBlock:
            return False
        fresh = self._waiting[0]
        try:
            self._arrivals.send_nowait(self._arrival(fresh))
        except trio.WouldBlock:
            self._room.release()
            return False
        self._waiting.popleft()
        self._taken += 1
        fresh.track.begin(fresh.offset)
        return True

    async def _hand_in_next(self) -> None:
        await self._room.acquire()
        if not self._waiting:  # dropped meanwhile
            return self._room.release()
        self._taken += 1
        fresh = self._waiting.popleft()
        fresh.track.begin(fresh.offset)
        await self._arrivals.send(self._arrival(fresh))

    def _arrival(self, fresh: Fresh) -> Arrival:
        message, place, track, offset = fresh.message, fresh.place, fresh.track, fresh.offset

        def answer(receipt: Receipt) -> None:
            if receipt.status == "busy":
                return self._again.send_nowait(arrival)
            if receipt.malformed is not None and self._burying is not None:
                return self._bury(dead_letter_line(receipt.malformed), place, offset, track)
            self._landed(place, offset, track)

        headers, value = _headers(message), message.value()
        arrival = Arrival(
            raw=b"" if value is None else message_body(place[0], value, headers, self._terms.dialect),
            source=self.name,
            dialect=self._terms.dialect,
            received_ns=fresh.received_ns,
            received_tick=fresh.received_tick,
            answer=answer,
            trace_id=trace_of(headers),
            fallback_id=message_id(*place, offset, _made_ms(message)),
            flaw="is a tombstone: a message without a value" if value is None else "",
        )
        return arrival

    async def _send_again(self, to_send_again: trio.MemoryReceiveChannel[Arrival]) -> None:
        """For ever: what the engine could not take is offered again, after a pause, for it is in trouble."""
        async for arrival in to_send_again:
            await trio.sleep(BUSY_SECONDS)
            await self._arrivals.send(arrival)

    def _landed(self, place: Place, offset: int, track: Track) -> None:
        self._room.release()
        track.end(offset)
        if track.due is not None:
            self._due.append((place, track, track.due))
        self._look_who_waits()

    def _bury(self, letter: bytes, place: Place, offset: int, track: Track) -> None:
        """The offset is due when the dead letter is in its topic."""

        def delivered(error: KafkaError | None, _: Message) -> None:
            if error is None:
                self._token.run_sync_soon(self._landed, place, offset, track)
            else:
                self._trouble(error)
                self._token.run_sync_soon(self._unburied.send_nowait, (letter, place, offset, track))

        assert self._burying is not None
        headers: Headers = {"topic": place[0], "partition": str(place[1]), "offset": str(offset)}
        try:
            self._burying.produce(self._terms.dead_letters, letter, headers=headers, on_delivery=delivered)
        except (KafkaException, BufferError) as error:  # whoever answers must not fall over the client's full queue
            LOG.warning("kafka dead letter", source=self.name, reason=_words(error.args[0]))
            self._unburied.send_nowait((letter, place, offset, track))

    async def _bury_again(self, unburied: "trio.MemoryReceiveChannel[Unburied]") -> None:
        """For ever; after a pause, for a broker that refuses does so at once."""
        async for letter, place, offset, track in unburied:
            await trio.sleep(BUSY_SECONDS)
            self._bury(letter, place, offset, track)


def _place(message: Message) -> Place:
    return message.topic() or "", message.partition() or 0


def _made_ms(message: Message) -> int:
    """Since the epoch, by the producer or the broker; 0: not told."""
    kind, made_ms = message.timestamp()
    return max(made_ms, 0) if kind != TIMESTAMP_NOT_AVAILABLE else 0


def _offsets(due: Mapping[Place, tuple[Track, int]]) -> list[TopicPartition]:
    return [TopicPartition(topic, partition, offset) for (topic, partition), (_, offset) in due.items()]


def _places(places: Iterable[TopicPartition]) -> frozenset[Place]:
    return frozenset((place.topic, place.partition) for place in places)


def _shown(places: Iterable[TopicPartition]) -> str:
    return ", ".join(f"{place.topic}:{place.partition}" for place in places)


def _words(error: Any) -> str:
    return f"{error.name()}: {error.str()}" if isinstance(error, KafkaError) else str(error)


# ------------------------------------------------------------------------------------------------------------- sink


def _producing(cluster: Cluster) -> dict[str, object]:
    return cluster.settings() | {
        "enable.idempotence": True,  # with it come acks from all replicas, and an order that retries do not break
        "linger.ms": 0,
        "batch.size": TOGETHER_BYTES,  # of several messages; what a topic takes of one is rarely less
        "message.timeout.ms": 300_000,
        "message.max.bytes": 8 * SIZE_MAX,
    }


# What a broker says of one message, and will say of it again. (RECORD_LIST_TOO_LARGE and, of a topic with a small
# `max.message.bytes`, the first one are said of messages that only flew together, too.)
REFUSALS = (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.INVALID_RECORD)


class KafkaSink:
    """Published events: to the topic named after the event, or to one for all, keyed by account.

    They fly together, but for large ones, which a broker may refuse: nothing is to arrive before what is held up. What
    has arrived is not produced again. If some that flew together are refused they go one by one, so that it shows whose
    fault it is; then what flew behind the one may have arrived before it.
    """

    def __init__(
        self, name: str, cluster: Cluster, topic: str = "", events: tuple[str, ...] = (), drop: bool = False
    ) -> None:
        """`events`: only these; () all. `drop`: without an event that is refused it goes on, else it is held up."""
        self.name = name
        self.down = ""
        self.let_go: deque[LetGo] = deque()
        self._cluster, self._topic, self._events, self._drop = cluster, topic, frozenset(events), drop
        self._producer = Producer(_producing(cluster) | {"error_cb": self._trouble})
        self._flying: list[OutboxRow] = []  # produced, and nothing heard of them yet
        self._failed: dict[int, KafkaError] = {}  # of those, by event id
        self._settled: set[int] = set()  # of the batch that is being sent: arrived, or let go
        self._one_by_one = False

    async def live(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until cancelled; then nothing leaves any more, for another engine may go on from what was marked."""
        try:
            task_status.started()
            await trio.sleep_forever()
        finally:
            self.close()

    async def send(self, rows: tuple[OutboxRow, ...]) -> None:
        """Returns when the brokers have them. Raises SinkDown; what has arrived by then is not produced again."""
        wanted = [row for row in rows if not self._events or row.event.name in self._events]
        if not wanted:
            self._producer.poll(0)  # hears what there is to hear of the brokers
        if self._flying:  # since a call that gave up
            await self._land()
        while left := [row for row in wanted if row.event_id not in self._settled]:
            self._send_off(left)
            await self._land()
        self._settled.clear()
        self._one_by_one = False
        self.down = ""

    def _send_off(self, rows: list[OutboxRow]) -> None:
        """As many as may fly together, and one at least."""
        try:
            for row in rows:
                value = row_line(row)[:-1]
                alone = self._one_by_one or len(value) > TOGETHER_BYTES
                if alone and self._flying:
                    return
                self._produce(row.event, row.event_id, value)
                self._flying.append(row)
                if alone:
                    return
        except (KafkaException, BufferError) as error:
            raise SinkDown(f"{self._cluster.servers}: {_words(error.args[0])}") from error

    async def _land(self) -> None:
        """Until all that flies has arrived or failed. Raises SinkDown."""
        await self._flush()
        flying, self._flying = self._flying, []
        failed, self._failed = self._failed, {}
        self._settled.update(row.event_id for row in flying if row.event_id not in failed)
        passing = [error for error in failed.values() if error.code() not in REFUSALS]
        if passing:
            raise SinkDown(f"{self._cluster.servers}: {_words(passing[0])}")
        if failed and len(flying) == 1:
            self._turned_away(flying[0], _words(failed[flying[0].event_id]))
        elif failed:
            self._one_by_one = True

    def _turned_away(self, row: OutboxRow, why: str) -> None:
        if not self._drop:
            place = f"{self._cluster.servers}: event {row.event_id} ({row.event.name})"
            raise SinkDown(f'{place}: {why}; refused = "drop" would go on without')
        self.let_go.append((row, why))
        self._settled.add(row.event_id)

    async def _flush(self) -> None:
        """Looked after from the loop: a thread that waits for the brokers would cost each batch two wake-ups."""
        self._producer.poll(0)
        with trio.move_on_after(SEND_SECONDS):
            for pause in chain(LOOK_SECONDS, repeat(LOOK_SECONDS[-1])):
                if not len(self._producer):
                    return
                await trio.sleep(pause)
                self._producer.poll(0)
        if len(self._producer):
            raise SinkDown(f"{self._cluster.servers}: {self.down or 'no answer'}")

    def close(self) -> None:
        """What is not delivered by now stays in the outbox."""
        self._producer.purge()
        self._producer.flush(LAST_SECONDS)

    def _produce(self, event: Event, event_id: int, value: bytes) -> None:
        headers: Headers = {
            "event_id": str(event_id),
            "type": event.name,
            "trace_id": event.trace_id,
            "causation_id": event.cause,
            "content-type": "application/json",
        }
        self._producer.produce(
            self._topic or event.name,
            value,
            event.account,
            headers=headers,
            on_delivery=partial(self._delivered, event_id),
        )

    def _delivered(self, event_id: int, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failed[event_id] = error

    def _trouble(self, error: KafkaError) -> None:
        self.down = _words(error)
