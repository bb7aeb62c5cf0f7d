"""Kafka against a real broker: no offset is committed too early and nothing is lost, whoever dies or comes back."""

import json
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, suppress
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import trio
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic
from hypothesis import given
from hypothesis import strategies as st

from actors.assembly import open_sinks, open_source
from engine.core.messages import Event, Malformed, OutboxRow, Refusal, Signal
from engine.edges.base import Arrival, Choosing, LivingSink, Receipt, SinkDown
from engine.edges.dialects import DialectTerms, decode
from engine.edges.kafka import Cluster, KafkaSink, KafkaSource, Topics, Track, message_body, message_id, trace_of
from engine.edges.stream import Broadcast
from engine.runtime.clock import live_clock
from engine.runtime.config import parse
from tests.edges.house import TAKEN, House, house_of
from tests.kafka import PASSWORD, USER, Broker, topic
from tests.patience import PATIENCE_SECONDS


@pytest.fixture
def broker(kafka: Broker) -> Broker:
    return kafka


def place(arrival: Arrival) -> str:
    """Topic, partition and offset, without the moment at which it was made."""
    return (arrival.fallback_id or "").rpartition(":")[0]


def source(cluster: Cluster, topics: Topics) -> KafkaSource:
    return KafkaSource("bus", cluster, topics, live_clock())


def reading(cluster: Cluster, topics: Topics, room: int = 1_000) -> AbstractAsyncContextManager[House[KafkaSource]]:
    return house_of(source(cluster, topics), room)


async def until(true: Callable[[], object]) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while not await trio.to_thread.run_sync(true):  # noqa: ASYNC110
            await trio.sleep(0.05)


def produce(cluster: Cluster, name: str, *values: bytes | None, headers: dict[str, str] | None = None) -> None:
    """Round the partitions, so that each place is known."""
    producer = Producer(cluster.settings() | {"message.max.bytes": 9_000_000})
    for number, value in enumerate(values):
        producer.produce(name, value, partition=number % 3, headers=dict(headers or {}))
    assert producer.flush(PATIENCE_SECONDS) == 0


def committed(cluster: Cluster, name: str, group: str = "surefire") -> int:
    """How many messages of the topic's three partitions the group has behind it."""
    consumer = Consumer(cluster.settings() | {"group.id": group})
    try:
        found = consumer.committed([TopicPartition(name, place) for place in range(3)], timeout=PATIENCE_SECONDS)
        return sum(max(place.offset, 0) for place in found)
    finally:
        consumer.close()


def order(number: int) -> bytes:
    return json.dumps({"signal_id": f"s{number}", "symbol": "BTCUSDT", "action": "buy", "qty": "0.1"}).encode()


def read_all(cluster: Cluster, name: str, count: int) -> list[tuple[bytes | None, dict[str, bytes], bytes]]:
    """(key, headers, value) of a topic's first messages."""
    settings = {
        "group.id": f"reader-{random.random()}",
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
    }
    consumer = Consumer(cluster.settings() | settings)
    consumer.subscribe([name])
    found = []
    try:
        while len(found) < count:
            message = consumer.poll(PATIENCE_SECONDS)
            assert message is not None, found
            assert message.error() is None, message.error()
            found.append((message.key(), dict(message.headers() or ()), message.value() or b""))
        extra = consumer.poll(1)
        assert extra is None or extra.error() is not None
    finally:
        consumer.close()
    return found


# ------------------------------------------------------------------------------------------------------- a message


@given(st.lists(st.booleans(), max_size=30), st.randoms())
def test_an_offset_is_due_only_when_all_before_it_are_answered(answered: list[bool], chance: random.Random) -> None:
    track = Track()
    offsets = [10 + 3 * n for n in range(len(answered))]  # compacted topics have gaps
    for offset in offsets:
        track.begin(offset)
    ended = [offset for offset, yes in zip(offsets, answered, strict=True) if yes]
    chance.shuffle(ended)
    for offset in ended:
        track.end(offset)
        track.end(offset)  # an answer that comes twice counts once
    whole = answered.index(False) if False in answered else len(answered)
    assert track.due == (offsets[whole - 1] + 1 if whole else None)
    assert track.in_hand() == (False in answered)


def test_a_type_is_said_by_the_body_or_a_header_or_the_topic() -> None:
    assert message_body("hedge_trades", b'{"a":1}', {}, None) == b'{"type":"hedge_trades","data":{"a":1}}'
    assert message_body("hedge_trades", b'{"a":1}', {}, "hedge_trades") == b'{"a":1}'
    assert message_body("any", b'{"a":1}', {}, None) == b'{"a":1}'
    assert message_body("any", b'{"a":1}', {"type": b"ess.tripped"}, None) == b'{"type":"ess.tripped","data":{"a":1}}'
    assert message_body("hedge_trades", b'{"type":"x"}', {}, None) == b'{"type":"x"}'
    hedge = {"trade_id": "h1", "symbol": "BTCUSDT", "side": "sell", "size": "0.3"}
    told = decode(
        message_body("hedge_trades", json.dumps(hedge).encode(), {}, None), None, DialectTerms(account="main"), "bus", 1
    )
    assert isinstance(told, Signal) and told.signal_id == "h1"


def test_a_trace_is_ours_or_the_w3cs() -> None:
    parent = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert trace_of({"trace_id": b"t1", "traceparent": parent}) == "t1"
    assert trace_of({"traceparent": parent}) == "4bf92f3577b34da6a3ce929d0e0e4736"
    assert trace_of({"traceparent": b"00-zz"}) is None and trace_of({}) is None


def test_how_long_a_killed_engines_partitions_wait_for_it_is_the_configs_word() -> None:
    cluster = Cluster("127.0.0.1:1")
    text = '[[sources]]\nkind = "kafka"\nserver = "127.0.0.1:1"\ntopics = ["t"]\nsession_seconds = 2\n'
    source = open_source(parse(text, "c").sources[0], live_clock(), "e", {}, None)
    assert isinstance(source, KafkaSource)
    words = source._settings(cluster)
    assert words["session.timeout.ms"] == 2_000 and words["heartbeat.interval.ms"] == 667
    source = open_source(parse(text.replace("session_seconds = 2\n", ""), "c").sources[0], live_clock(), "e", {}, None)
    assert isinstance(source, KafkaSource)
    for words in (
        source._settings(cluster),
        KafkaSource("bus", cluster, Topics(("t",)), live_clock())._settings(cluster),
    ):
        # Brokers allow 6 s and more (group.min.session.timeout.ms); three words of life may be lost.
        assert words["session.timeout.ms"] == 10_000 and words["heartbeat.interval.ms"] == 3_000


def test_a_cluster_shows_no_password() -> None:
    cluster = Cluster("h:1", sasl="PLAIN", username="u", password=PASSWORD)
    assert PASSWORD not in repr(cluster) + str(cluster)


# ---------------------------------------------------------------------------------------------------------- source


async def test_an_offset_is_committed_when_its_message_is_answered_and_not_before(broker: Broker) -> None:
    name = topic(broker.cluster)
    produce(broker.cluster, name, *map(order, range(6)), headers={"Trace_ID": "t7"})
    async with reading(broker.cluster, Topics((name,))) as home:
        arrivals = await home.take(6, answer=None)
        assert {a.raw for a in arrivals} == {order(n) for n in range(6)}
        assert {place(a) for a in arrivals} == {f"{name}:{part}:{offset}" for part in range(3) for offset in (0, 1)}
        assert {a.trace_id for a in arrivals} == {"t7"} and not home.source.down
        by_place = {place(a): a for a in arrivals}
        ids = {a.fallback_id for a in arrivals}
        by_place[f"{name}:0:1"].answer(TAKEN)  # the second of its partition waits for the first
        by_place[f"{name}:1:0"].answer(TAKEN)
        await until(lambda: committed(broker.cluster, name) == 1)
        assert await home.quiet(0.5) and committed(broker.cluster, name) == 1
        by_place[f"{name}:0:0"].answer(TAKEN)
        await until(lambda: committed(broker.cluster, name) == 3)
    async with reading(broker.cluster, Topics((name,))) as home:
        again = await home.take(3)
        assert {place(a) for a in again} == {f"{name}:1:1", f"{name}:2:0", f"{name}:2:1"}
        assert {a.fallback_id for a in again} < ids, "whoever gets it knows it by the same name"
        await until(lambda: committed(broker.cluster, name) == 6)
        assert await home.quiet()


async def test_poison_tombstones_and_giants_are_dead_letters_and_hold_up_nothing(broker: Broker) -> None:
    name, dead = topic(broker.cluster), topic(broker.cluster)
    giant = b'{"signal_id":"g","x":"' + b"x" * 5_000_000 + b'"}'
    produce(broker.cluster, name, b"{broken", None, giant, order(1))
    async with reading(broker.cluster, Topics((name,), dead_letters=dead)) as home:
        letters = {}
        for arrival in await home.take(4, answer=None):
            told = decode(arrival.raw, None, DialectTerms(account="main"), "bus", 1)
            if isinstance(told, Malformed) or arrival.flaw:
                reason = Refusal("", arrival.flaw or "cannot be read")
                told = told if isinstance(told, Malformed) else Malformed("bus", (reason,), "", 1, None)
                arrival.answer(Receipt("malformed", malformed=told))
                letters[place(arrival)] = arrival
            else:
                arrival.answer(TAKEN)
        assert len(letters) == 3 and [a for a in letters.values() if a.flaw.startswith("is a tombstone")]
        await until(lambda: committed(broker.cluster, name) == 4)
    kept = await trio.to_thread.run_sync(read_all, broker.cluster, dead, 3)
    assert {f"{h['topic'].decode()}:{h['partition'].decode()}:{h['offset'].decode()}" for _, h, _ in kept} == set(
        letters
    )
    assert all(json.loads(value)["reasons"] and len(value) < 10_000 for _, _, value in kept)


async def test_a_full_engine_pauses_the_partitions_and_nothing_is_lost(broker: Broker) -> None:
    name = topic(broker.cluster)
    produce(broker.cluster, name, *map(order, range(6_000)))
    async with reading(broker.cluster, Topics((name,)), room=10) as home:
        (first,) = await home.take(1)
        await until(lambda: len(home.source._waiting) >= 1_000)
        await trio.sleep(1)
        assert len(home.source._waiting) < 3_000  # the rest is still the broker's
        rest = await home.take(5_999)
        assert {a.raw for a in (first, *rest)} == {order(n) for n in range(6_000)}
        await until(lambda: committed(broker.cluster, name) == 6_000)
        await until(lambda: home.source.lag == 0)


async def test_what_the_engine_could_not_take_is_offered_again(broker: Broker) -> None:
    name = topic(broker.cluster)
    produce(broker.cluster, name, order(1))
    async with reading(broker.cluster, Topics((name,))) as home:
        await home.take(1, Receipt("busy"))
        (second,) = await home.take(1)
        assert second.raw == order(1)
        await until(lambda: committed(broker.cluster, name) == 1)


async def test_a_partition_that_another_member_gets_is_drained_first(broker: Broker) -> None:
    name = topic(broker.cluster)
    produce(broker.cluster, name, *map(order, range(30)))
    async with reading(broker.cluster, Topics((name,))) as one:
        held = await one.take(30, answer=None)
        async with reading(broker.cluster, Topics((name,))) as other:
            await until(lambda: one.source._leaving)  # it waits for what is in hand
            for arrival in held:
                arrival.answer(TAKEN)
            await until(lambda: other.source._tracks)
            produce(broker.cluster, name, *map(order, range(30, 60)))
            taken = list(held)
            with trio.fail_after(PATIENCE_SECONDS):
                while len(taken) < 60:
                    for home in (one, other):
                        with trio.move_on_after(0.05):
                            taken += await home.take(1)
            assert {a.raw for a in taken} == {order(n) for n in range(60)}
            assert len({a.fallback_id for a in taken}) == 60  # none twice
            assert await one.quiet() and await other.quiet()
            await until(lambda: committed(broker.cluster, name) == 60)
            assert one.source._tracks and other.source._tracks


async def test_a_source_that_is_run_again_brings_what_was_in_hand_and_goes_on(broker: Broker) -> None:
    name = topic(broker.cluster)
    home = House(source(broker.cluster, Topics((name,), group=name)))
    await trio.to_thread.run_sync(produce, broker.cluster, name, order(1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(home.source.run, home.send)
        await home.take(1, None)
        await trio.to_thread.run_sync(produce, broker.cluster, name, order(2))
        nursery.cancel_scope.cancel()
    found: list[Arrival] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(home.source.run, home.send)
        with trio.fail_after(PATIENCE_SECONDS):
            while await trio.to_thread.run_sync(committed, broker.cluster, name, name) < 2:
                with trio.move_on_after(0.1):  # the second may have come before the source ended, too
                    found += await home.take(1)
        nursery.cancel_scope.cancel()
    assert {arrival.raw for arrival in found} == {order(1), order(2)}


class Scripted:
    """A consumer that does as the test says. `reads`: for each poll its message, and for the look after it the rest."""

    def __init__(self, settings: dict[str, object]) -> None:
        self._told: Callable = settings["on_commit"]
        self._answers: list[list[TopicPartition]] = []
        self.log: list[tuple[str, list[tuple[int, int]]]] = []
        self.refusals: list[KafkaError] = []
        self._reads = self.script()
        Scripted.last = self

    last: "Scripted"

    def script(self) -> Iterator[Message | list[Message] | None]:
        raise NotImplementedError

    def subscribe(self, _: object, on_assign: Callable, on_revoke: Callable, on_lost: Callable) -> None:
        self.assign, self.revoke, self.lose = (partial(told, self) for told in (on_assign, on_revoke, on_lost))

    def poll(self, seconds: float) -> Message | None:
        while self._answers:
            self._told(None, self._answers.pop())
        found = next(self._reads, None)
        if found is None:
            time.sleep(seconds / 10)
        assert not isinstance(found, list)
        return found

    def consume(self, *_: object) -> list[Message]:
        found = next(self._reads)
        assert isinstance(found, list)
        return found

    def assignment(self) -> list[TopicPartition]:
        return []

    def commit(self, offsets: list[TopicPartition], asynchronous: bool) -> list[TopicPartition]:
        self.log.append(("begun" if asynchronous else "waited", [(place.partition, place.offset) for place in offsets]))
        if self.refusals:
            raise KafkaException(self.refusals.pop(0))
        if asynchronous:
            self._answers.append(offsets)
        return offsets

    def close(self) -> None:
        self.log.append(("closed", []))

    def offsets(self) -> list[tuple[int, int]]:
        return [pair for _, pairs in self.log for pair in pairs]


def message(partition: int, offset: int) -> Message:
    return Message(topic="t", partition=partition, offset=offset, value=order(offset), timestamp=(1, 1_700))


class Moving(Scripted):
    """A partition is taken away between the first message of a read and the rest of it."""

    def script(self) -> Iterator[Message | list[Message] | None]:
        self.assign([TopicPartition("t", 0), TopicPartition("t", 1)])
        yield message(0, 50)
        self.revoke([TopicPartition("t", 0)])
        yield [message(0, 51), message(1, 7)]


async def test_of_a_partition_that_goes_in_the_middle_of_a_read_only_what_is_in_hand_is_committed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Later messages' offsets, committed by us, would pass over what we dropped for the next owner to read."""
    monkeypatch.setattr("engine.edges.kafka.Consumer", Moving)
    got: list[str] = []
    async with reading(Cluster("127.0.0.1:1"), Topics(("t",))) as home:
        while "t:1:7:1700" not in got:
            got += [arrival.fallback_id or "" for arrival in await home.take(1)]
        await until(lambda: (1, 8) in Scripted.last.offsets())
        assert await home.quiet(0.3)
    # The first was in hand when its partition went, or still waited; the one behind it has never been ours.
    drained = "t:0:50:1700" in got
    assert [pair for pair in Scripted.last.offsets() if pair[0] == 0] == ([(0, 51)] if drained else [])
    assert len(got) == 1 + drained


async def test_what_waits_for_room_when_its_partition_goes_is_left_to_the_next_owner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.edges.kafka.Consumer", Moving)
    async with reading(Cluster("127.0.0.1:1"), Topics(("t",)), room=0) as home:
        home.source._room = trio.Semaphore(0)
        await until(lambda: any(fresh.place[1] == 1 for fresh in home.source._waiting))
        for _ in range(9):
            home.source._room.release()
        assert [place(got) for got in await home.take(1)] == ["t:1:7"]
        await until(lambda: (1, 8) in Scripted.last.offsets())
    assert {partition for partition, _ in Scripted.last.offsets()} == {1}


class Refused(Scripted):
    """The broker takes no offsets at first; then a partition goes, and comes back later."""

    def script(self) -> Iterator[Message | list[Message] | None]:
        self.refusals = [KafkaError(KafkaError.REQUEST_TIMED_OUT)] * 2
        self.assign([TopicPartition("t", 0), TopicPartition("t", 1)])
        yield message(0, 50)
        yield [message(1, 7)]
        while len(self.log) < 1:
            yield None
        self.revoke([TopicPartition("t", 0)])
        while (1, 8) not in self.offsets()[2:]:
            yield None
        self.assign([TopicPartition("t", 0)])
        yield message(0, 90)
        yield []


async def test_offsets_that_are_refused_are_tried_again_but_not_for_a_partition_that_was_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.edges.kafka.Consumer", Refused)
    async with reading(Cluster("127.0.0.1:1"), Topics(("t",))) as home:
        await home.take(3)
        await until(lambda: (0, 91) in Scripted.last.offsets())
    (_, first), (how, waited), *later = Scripted.last.log
    assert (0, 51) in first and how == "waited" and (0, 51) in waited  # once before it goes, and then no more
    assert (0, 51) not in [pair for _, pairs in later for pair in pairs]
    assert (1, 8) in [pair for _, pairs in later for pair in pairs]


def test_one_offset_that_is_refused_in_an_answer_is_due_again_and_the_others_are_not() -> None:
    source = KafkaSource("bus", Cluster("127.0.0.1:1"), Topics(("t",)), live_clock())
    tracks = {("t", part): Track() for part in range(3)}
    source._mine = {key: track for key, track in tracks.items() if key[1] != 2}  # the third has gone meanwhile
    source._settling = {key: (track, 10) for key, track in tracks.items()}
    error = KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS)
    told = [SimpleNamespace(topic="t", partition=n, offset=10, error=error if n else None) for n in range(3)]
    source._committed(None, told)
    assert source._unsettled == {("t", 1): 10} and not source._settling
    source._settling = {("t", 1): (tracks["t", 1], 11)}
    source._committed(None, told[1:2])  # a late answer to an earlier one says nothing of this
    assert source._settling == {("t", 1): (tracks["t", 1], 11)}


@given(st.text("abc.-_", min_size=1, max_size=249), st.integers(0, 99), st.integers(0, 2**62), st.integers(0, 2**41))
def test_a_message_without_an_id_is_known_by_its_place_and_moment(
    name: str, partition: int, offset: int, made_ms: int
) -> None:
    known = message_id(name, partition, offset, made_ms)
    body = b'{"symbol":"BTCUSDT","action":"open","side":"buy","qty":"1"}'
    told = decode(body, "surefire", DialectTerms(account="main"), "bus", 1, fallback_id=known)
    assert isinstance(told, Signal) and told.signal_id == known  # it fits, however long the topic's name
    assert known == message_id(name, partition, offset, made_ms)
    assert known != message_id(name, partition, offset, made_ms + 1)  # the topic was made anew
    assert known != message_id(name + "x", partition, offset, made_ms)


async def test_a_broker_that_goes_away_is_waited_for(broker: Broker) -> None:
    name = topic(broker.cluster)
    produce(broker.cluster, name, *map(order, range(3)))
    async with reading(broker.cluster, Topics((name,), session_seconds=6.0)) as home:
        early = await home.take(3, answer=None)
        await trio.to_thread.run_sync(broker.stop, signal.SIGKILL)
        try:
            await until(lambda: home.source.down)
            for arrival in early:  # cannot be committed now
                arrival.answer(TAKEN)
            await trio.sleep(2)
        finally:
            await trio.to_thread.run_sync(broker.start)
        produce(broker.cluster, name, *map(order, range(3, 6)))
        wanted, late = {order(n) for n in range(3, 6)}, set[bytes]()
        while not late >= wanted:  # those from before may come again
            late |= {arrival.raw for arrival in await home.take(1)}
        await until(lambda: committed(broker.cluster, name) == 6)
        await until(lambda: not home.source.down)


async def test_tls_and_a_password(broker: Broker, tmp_path: Path) -> None:
    authority = tmp_path / "ca.pem"
    authority.write_text(broker.authority)
    servers = f"127.0.0.1:{broker.secure_port}"
    secure = Cluster(servers, True, str(authority), "PLAIN", USER, PASSWORD)
    name = topic(broker.cluster)
    sink = KafkaSink("out", secure, topic=name)
    await sink.send((row(1),))
    async with reading(secure, Topics((name,))) as home:
        (arrival,) = await home.take(1)
        assert json.loads(arrival.raw)["data"]["event_id"] == 1
    wrong = Cluster(servers, True, str(authority), "PLAIN", USER, "not-the-password")
    async with reading(wrong, Topics((name,))) as home:
        await until(lambda: "AUTHENTICATION" in home.source.down.upper())
        assert "not-the-password" not in home.source.down


# ------------------------------------------------------------------------------------------------------------ sink


def row(number: int, name: str = "order.filled", account: str = "main") -> OutboxRow:
    return OutboxRow(number, Event(name, account, f"k{number}", 7, f"t{number}", "s1", {"n": number}))


class Single(Scripted):
    def script(self) -> Iterator[Message | list[Message] | None]:
        self.assign([TopicPartition("t", 1)])
        yield message(1, 7)
        yield []


class Refusing:
    """A producer whose queue is full at first; then the broker refuses the message; then it takes it."""

    def __init__(self, _: object) -> None:
        self.tries = 0
        self.said: list[Callable[[], None]] = []

    def produce(self, _: str, letter: bytes, headers: object, on_delivery: Callable) -> None:
        self.tries += 1
        if self.tries == 1:
            raise BufferError("Local: Queue full")
        error = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED) if self.tries == 2 else None
        self.said.append(lambda: on_delivery(error, Message()))

    def poll(self, _: float) -> None:
        while self.said:
            self.said.pop()()


async def test_a_dead_letter_that_is_refused_holds_up_its_offset_and_nobody_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.edges.kafka.Consumer", Single)
    monkeypatch.setattr("engine.edges.kafka.Producer", Refusing)
    async with reading(Cluster("127.0.0.1:1"), Topics(("t",), dead_letters="dead")) as home:
        (arrival,) = await home.take(1, answer=None)
        arrival.answer(Receipt("malformed", malformed=Malformed("bus", (Refusal("", "odd"),), "x", 1)))
        await until(lambda: Scripted.last.offsets())
        assert home.source._burying.tries == 3
    assert set(Scripted.last.offsets()) == {(1, 8)}


class Full:
    """A producer whose queue takes so many messages as there is `room`, and whose broker has each at once."""

    def __init__(self, _: object) -> None:
        self.took: list[bytes] = []
        self.room = 1

    def produce(self, _: str, value: bytes, *rest: object, **more: object) -> None:
        if not self.room:
            raise BufferError("Local: Queue full")
        self.room -= 1
        self.took.append(value)

    def poll(self, _: float) -> None:
        pass

    def __len__(self) -> int:
        return 0


async def test_events_that_the_client_could_not_queue_are_not_taken_for_published(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("engine.edges.kafka.Producer", Full)
    sink = KafkaSink("out", Cluster("127.0.0.1:1"), topic="t")
    rows = (row(1), row(2), row(3))
    for _ in range(2):
        with pytest.raises(SinkDown, match="Queue full"):
            await sink.send(rows)
        sink._producer.room = 1
    await sink.send(rows)
    assert [json.loads(value)["event_id"] for value in sink._producer.took] == [1, 2, 3], "each once"


def long_row(number: int, chars: int) -> OutboxRow:
    return OutboxRow(number, Event("order.filled", "main", f"k{number}", 7, "t", "s1", {"text": "x" * chars}))


def narrow(broker: Broker, bytes_max: int = 20_000) -> str:
    """A topic that takes no larger messages, and no larger batches of them."""
    admin = AdminClient(broker.cluster.settings())
    name = f"t{random.randrange(10**9)}"
    (made,) = admin.create_topics([NewTopic(name, 1, 1, config={"max.message.bytes": str(bytes_max)})]).values()
    made.result(PATIENCE_SECONDS)
    return name


async def ids_in(broker: Broker, name: str, count: int) -> list[int]:
    found = await trio.to_thread.run_sync(read_all, broker.cluster, name, count)
    return [int(headers["event_id"]) for _, headers, _ in found]


async def test_an_event_that_is_refused_for_ever_holds_the_sink_up_and_nothing_is_told_twice(broker: Broker) -> None:
    name = narrow(broker)
    sink = KafkaSink("out", broker.cluster, topic=name)
    rows = (*map(row, range(1, 4)), long_row(4, 30_000))
    for _ in range(3):
        with pytest.raises(SinkDown, match=r'event 4 \(order.filled\): MSG_SIZE_TOO_LARGE.*refused = "drop"'):
            await sink.send(rows)
    assert await ids_in(broker, name, 3) == [1, 2, 3]
    await trio.to_thread.run_sync(widen, broker, name)  # as a person would
    with trio.fail_after(PATIENCE_SECONDS):
        while True:
            with suppress(SinkDown):
                await sink.send(rows)
                break
    await sink.send((row(5),))
    assert await ids_in(broker, name, 5) == [1, 2, 3, 4, 5]
    assert not sink.let_go


def widen(broker: Broker, name: str) -> None:
    admin = AdminClient(broker.cluster.settings())
    wide = ConfigEntry("max.message.bytes", "100000", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=[wide])
    for done in admin.incremental_alter_configs([resource]).values():
        done.result(PATIENCE_SECONDS)


async def test_an_event_that_is_refused_for_ever_is_let_go_where_the_config_says_so(broker: Broker) -> None:
    text = f'[[sinks]]\nkind = "kafka"\nserver = "{broker.cluster.servers}"\ntopic = "t"\nrefused = "drop"\n'
    name = narrow(broker)
    config = parse(text.replace('"t"', f'"{name}"'), "c")
    (sink, _) = open_sinks(config, Broadcast("page"), live_clock(), {}, None)
    assert isinstance(sink, KafkaSink) and isinstance(sink, Choosing)
    await sink.send((row(1), long_row(2, 30_000), row(3), long_row(4, 30_000), row(5)))
    assert [refused.event_id for refused, why in sink.let_go if why.startswith("MSG_SIZE_TOO_LARGE")] == [2, 4]
    await sink.send((row(6),))
    assert await ids_in(broker, name, 4) == [1, 3, 5, 6]


async def test_a_large_event_is_not_overtaken_and_small_ones_never_grow_too_large_together(broker: Broker) -> None:
    name = narrow(broker)
    sink = KafkaSink("out", broker.cluster, topic=name)
    rows = [long_row(number, 1_000) for number in range(1, 61)]
    rows[30] = long_row(31, 18_000)
    await sink.send(tuple(rows))
    assert await ids_in(broker, name, 60) == list(range(1, 61))
    rows[30] = long_row(31, 30_000)
    with pytest.raises(SinkDown, match="event 31 "):
        await KafkaSink("out", broker.cluster, topic=(other := narrow(broker))).send(tuple(rows))
    assert await ids_in(broker, other, 30) == list(range(1, 31)), "what is behind it waits"


async def test_what_a_topic_refuses_of_several_together_arrives_one_by_one(broker: Broker) -> None:
    name = narrow(broker, bytes_max=2_000)
    sink = KafkaSink("out", broker.cluster, topic=name, drop=True)
    await sink.send(tuple(long_row(number, 3_000 if number == 7 else 1_000) for number in range(1, 31)))
    assert sorted(await ids_in(broker, name, 29)) == [number for number in range(1, 31) if number != 7]
    assert [refused.event_id for refused, _ in sink.let_go] == [7]


async def test_events_are_in_order_per_account_with_trace_and_cause(broker: Broker) -> None:
    name = topic(broker.cluster)
    sink = KafkaSink("out", broker.cluster, topic=name)
    rows = tuple(row(number, account=f"a{number % 4}") for number in range(200))
    for start in range(0, 200, 50):
        await sink.send(rows[start : start + 50])
    found = await trio.to_thread.run_sync(read_all, broker.cluster, name, 200)
    for account in range(4):
        ids = [int(headers["event_id"]) for key, headers, _ in found if key == f"a{account}".encode()]
        assert ids == list(range(account, 200, 4))
    _, headers, value = found[0]
    assert headers["causation_id"] == b"s1" and headers["type"] == b"order.filled" and headers["trace_id"][:1] == b"t"
    assert json.loads(value)["name"] == "order.filled"


async def test_only_the_events_that_are_wanted_go_to_their_topics(broker: Broker) -> None:
    wanted = f"c{random.randrange(10**9)}"
    sink = KafkaSink("out", broker.cluster, events=(wanted,))
    await sink.send((row(1), row(2, wanted), row(3)))
    assert [h["event_id"] for _, h, _ in await trio.to_thread.run_sync(read_all, broker.cluster, wanted, 1)] == [b"2"]


async def test_a_broker_that_is_away_gets_every_event_once_when_it_is_back(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = topic(broker.cluster)
    sink = KafkaSink("out", broker.cluster, topic=name)
    await sink.send((row(1),))
    await trio.to_thread.run_sync(broker.stop, signal.SIGKILL)
    monkeypatch.setattr("engine.edges.kafka.SEND_SECONDS", 1.0)
    try:
        for _ in range(3):
            with pytest.raises(SinkDown, match=r"127\.0\.0\.1"):
                await sink.send((row(2), row(3)))
    finally:
        await trio.to_thread.run_sync(broker.start)
    with trio.fail_after(PATIENCE_SECONDS):
        while True:
            try:
                await sink.send((row(2), row(3)))
                break
            except SinkDown:
                continue
    await sink.send((row(4),))
    found = await trio.to_thread.run_sync(read_all, broker.cluster, name, 4)
    assert [int(headers["event_id"]) for _, headers, _ in found] == [1, 2, 3, 4]
    sink.close()


async def test_a_sink_that_is_ended_sends_nothing_later() -> None:
    """Its shard may be another engine's by then, whose newer events it would follow with old ones."""
    sink = KafkaSink("out", Cluster("127.0.0.1:1"))
    async with trio.open_nursery() as nursery:
        assert isinstance(sink, LivingSink), "so that whoever opens it ends it"
        await nursery.start(sink.live)
        sink._send_off([row(1)])
        assert len(sink._producer)  # the message, and what the client has to say of the broker
        nursery.cancel_scope.cancel()
    assert len(sink._producer) == 0
