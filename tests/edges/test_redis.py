"""Redis Streams against a real server: nothing is lost or acknowledged too early, whatever dies and comes back."""

import gc
import json
import signal
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

import msgspec
import pytest
import trio
from coredis import PureToken, Redis

from engine.core.messages import Control, Event, Malformed, OutboxRow, Refusal, Signal
from engine.edges.base import Arrival, Receipt, SinkDown
from engine.edges.dialects import DialectTerms, decode
from engine.edges.entries import entry_body
from engine.edges.redis import RedisSink, RedisSource, Server, Streams, entry_name
from engine.edges.strict import SIZE_MAX
from engine.runtime.clock import live_clock
from tests.edges.house import TAKEN, House, house_of
from tests.patience import PATIENCE_SECONDS
from tests.redis import PASSWORD, RedisServer, running

TERMS = DialectTerms(account="main")
pytestmark = pytest.mark.filterwarnings("ignore:Unclosed <MemoryObject")  # coredis, of a connection that broke


@pytest.fixture(scope="module", autouse=True)
def swept() -> Iterator[None]:
    """What coredis leaves of broken connections is collected here, and not while another test runs."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    yield from running()


@pytest.fixture
async def redis(server: RedisServer) -> AsyncIterator["Redis[bytes]"]:
    async with server.address.client() as client:
        await client.flushall()
        yield client


def source(server: RedisServer, streams: Streams) -> RedisSource:
    return RedisSource("bus", server.address, streams, live_clock())


def reading(
    server: RedisServer, streams: Streams, room: int = 1_000
) -> AbstractAsyncContextManager[House[RedisSource]]:
    return house_of(source(server, streams), room)


async def until(true: Callable[[], object]) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while not true():  # noqa: ASYNC110
            await trio.sleep(0.01)


async def pending(redis: "Redis[bytes]", stream: str) -> int:
    return (await redis.xpending(stream, "surefire")).pending


async def none_pending(redis: "Redis[bytes]", stream: str) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while await pending(redis, stream):  # noqa: ASYNC110
            await trio.sleep(0.01)


def order(number: int) -> dict[str, str]:
    return {"data": json.dumps({"signal_id": f"s{number}", "symbol": "BTCUSDT", "action": "buy", "qty": "0.1"})}


def decoded(raw: bytes) -> Signal | Control | Malformed:
    return decode(raw, None, TERMS, "bus", 1)


# -------------------------------------------------------------------------------------------------------- an entry


@pytest.mark.parametrize(
    ("stream", "entry", "raw"),
    [
        ("any", {b"data": b'{"a":1}'}, b'{"a":1}'),
        ("any", {b"payload": b"{broken"}, b"{broken"),
        ("any", {b"a": b"1", b"b": b"x"}, b'{"a":"1","b":"x"}'),
        ("signal.execute", {b"data": b'{"a":1}'}, b'{"type":"signal.execute","data":{"a":1}}'),
        ("signal.execute", {b"a": b"1"}, b'{"type":"signal.execute","a":"1"}'),
        ("signal.execute", {b"data": b'{"type":"ess.tripped"}'}, b'{"type":"ess.tripped"}'),
        ("any", {b"type": b"ess.tripped", b"data": b"{}", b"id": b"e1"}, b'{"type":"ess.tripped","id":"e1","data":{}}'),
        ("any", {b"type": b"ess.tripped", b"data": b"[1]"}, b"[1]"),
    ],
)
def test_an_entry_becomes_one_body(stream: str, entry: dict[bytes, bytes], raw: bytes) -> None:
    assert entry_body(stream, entry) == raw


def test_the_events_of_the_neighbours_are_understood_under_their_names() -> None:
    """SPEC ING3 and ING2 (b): by the stream's name alone, or by a field."""
    decision = {"symbol": "BTCUSDT", "side": "buy", "confidence": 0.9, "quantity": "0.1", "stop_loss": "40000"}
    for stream, entry in (
        ("ai.decision.made", {b"data": json.dumps({**decision, "id": "d1"}).encode()}),
        ("signal.execute", {b"id": b"d1", b"data": json.dumps(decision).encode()}),
        ("bus", {b"event": b"signal.execute", b"id": b"d1", b"payload": json.dumps(decision).encode()}),
    ):
        signal = decoded(entry_body(stream, entry))
        assert isinstance(signal, Signal), signal
        assert (signal.signal_id, signal.symbol) == ("d1", "BTCUSDT")
    for name in ("ess.tripped", "ess.cleared", "model.promoted"):
        control = decoded(entry_body(name, {b"reason": b"a person said so"}))
        assert isinstance(control, Control) and control.name == name
    policy = decoded(entry_body("policy.updated", {b"data": b'{"limits": {"positions_max": 2}}'}))
    assert isinstance(policy, Control) and policy.changes == (("positions_max", 2),)


def test_an_entry_of_bytes_that_are_no_text_is_refused_and_not_fallen_over() -> None:
    for entry in ({b"data": b"\xff\xfe"}, {b"\xff": b"\xff"}, {b"data": b"[" * 100_000}, {b"data": b""}):
        assert isinstance(decoded(entry_body("signal.execute", entry)), Malformed)
    assert isinstance(decoded(entry_body("x", {b"data": b'{"a":"' + b"x" * SIZE_MAX + b'"}'})), Malformed)


def test_a_server_shows_no_password() -> None:
    server = Server(password=PASSWORD)
    assert PASSWORD not in repr(server) + str(server) + server.place


# ---------------------------------------------------------------------------------------------------------- source


def test_an_entry_without_an_id_is_known_by_its_place_and_what_it_says() -> None:
    body = b'{"symbol":"BTCUSDT","action":"open","side":"buy","qty":"1"}'
    for stream in ("signals", "a" * 300, "Signale für später"):
        known = entry_name(stream, "1763756400000-0", body)
        told = decode(body, "surefire", DialectTerms(account="main"), "bus", 1, fallback_id=known)
        assert isinstance(told, Signal) and told.signal_id == known
        assert known == entry_name(stream, "1763756400000-0", body)
        assert known != entry_name(stream, "1763756400000-1", body)
        assert known != entry_name(stream, "1763756400000-0", body.replace(b"buy", b"sell"))  # another server's


async def test_an_entry_is_acknowledged_when_it_is_answered_and_not_before(
    server: RedisServer, redis: "Redis[bytes]"
) -> None:
    await redis.xadd("signals", order(1))  # before anybody listens: it is meant for us all the same
    async with reading(server, Streams(("signals",))) as home:
        (first,) = await home.take(1, answer=None)
        await redis.xadd("signals", order(2))
        await home.take(1)
        await until(lambda: len(home.source._flying) == 1)
        assert await pending(redis, "signals") == 1
        first.answer(TAKEN)
        await none_pending(redis, "signals")
    assert first.raw == order(1)["data"].encode()
    assert first.fallback_id is not None and first.fallback_id.startswith("signals:") and first.source == "bus"


async def test_what_was_not_answered_before_a_crash_comes_again(server: RedisServer, redis: "Redis[bytes]") -> None:
    for number in range(250):
        await redis.xadd("signals", order(number))
    async with reading(server, Streams(("signals",))) as home:
        before = await home.take(250, answer=None)
        for arrival in before[:100]:
            arrival.answer(TAKEN)
        await until(lambda: len(home.source._flying) == 150)
    async with reading(server, Streams(("signals",))) as home:
        after = await home.take(150)
        await none_pending(redis, "signals")
        assert [a.raw for a in after] == [a.raw for a in before[100:]]
        assert [a.fallback_id for a in after] == [a.fallback_id for a in before[100:]]
        assert home.nothing()


async def test_a_source_that_is_run_again_brings_what_was_in_hand_and_goes_on(
    server: RedisServer, redis: "Redis[bytes]"
) -> None:
    home = House(source(server, Streams(("signals",))))
    await redis.xadd("signals", order(1))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(home.source.run, home.send)
        await home.take(1, None)
        await redis.xadd("signals", order(2))
        nursery.cancel_scope.cancel()
    wanted, found = {order(n)["data"].encode() for n in (1, 2)}, set[bytes]()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(home.source.run, home.send)
        with trio.fail_after(PATIENCE_SECONDS):
            while found != wanted or await pending(redis, "signals"):
                with trio.move_on_after(0.1):  # the second may have come before the source ended, too
                    found |= {arrival.raw for arrival in await home.take(1)}
        nursery.cancel_scope.cancel()


async def test_what_a_dead_consumer_left_is_taken_over(server: RedisServer, redis: "Redis[bytes]") -> None:
    for number in range(3):
        await redis.xadd("signals", order(number))
    async with reading(server, Streams(("signals",), consumer="gone")) as home:
        await home.take(3, answer=None)
    async with reading(server, Streams(("signals",), consumer="here", reclaim_seconds=0.3)) as home:
        taken = await home.take(3)
        await none_pending(redis, "signals")
        assert [a.raw for a in taken] == [order(n)["data"].encode() for n in range(3)]


async def test_an_entry_that_waits_long_for_its_answer_is_handed_in_once(
    server: RedisServer, redis: "Redis[bytes]"
) -> None:
    """It looks idle to the server, and is claimed by ourselves again and again."""
    await redis.xadd("signals", order(1))
    async with reading(server, Streams(("signals",), reclaim_seconds=0.1)) as home:
        (arrival,) = await home.take(1, answer=None)
        await trio.sleep(0.6)
        assert home.nothing()
        arrival.answer(TAKEN)
        await none_pending(redis, "signals")


async def test_what_the_engine_could_not_take_is_offered_again(server: RedisServer, redis: "Redis[bytes]") -> None:
    await redis.xadd("signals", order(1))
    async with reading(server, Streams(("signals",))) as home:
        (first,) = await home.take(1, Receipt("busy"))
        assert await pending(redis, "signals") == 1
        (second,) = await home.take(1)
        await none_pending(redis, "signals")
        assert first.fallback_id == second.fallback_id


async def test_a_full_engine_leaves_the_rest_in_the_stream(server: RedisServer, redis: "Redis[bytes]") -> None:
    async with redis.pipeline() as pipe:
        for number in range(3_000):
            pipe.xadd("signals", order(number))
    async with reading(server, Streams(("signals",)), room=10) as home:
        await trio.sleep(0.5)
        assert await pending(redis, "signals") <= 200  # two reads; the other entries were not even asked for
        assert len(await home.take(3_000)) == 3_000
        await none_pending(redis, "signals")


async def test_dead_letters_are_in_their_stream_before_the_entry_is_acknowledged(
    server: RedisServer, redis: "Redis[bytes]"
) -> None:
    entry = await redis.xadd("signals", {"data": "{broken"})
    async with reading(server, Streams(("signals",), dead_letters="signals.dead")) as home:
        reason = Refusal("", "is no JSON")
        await home.take(1, Receipt("malformed", malformed=Malformed("bus", (reason,), "{broken", 1, None)))
        await none_pending(redis, "signals")
        (letter,) = await redis.xrange("signals.dead")
    assert letter.field_values[b"entry"] == entry and letter.field_values[b"stream"] == b"signals"
    assert json.loads(letter.field_values[b"data"])["reasons"] == [{"field": "", "reason": "is no JSON"}]


async def test_entries_that_were_trimmed_while_pending_hold_up_nothing(
    server: RedisServer, redis: "Redis[bytes]"
) -> None:
    for number in range(3):
        await redis.xadd("signals", order(number))
    async with reading(server, Streams(("signals",))) as home:
        await home.take(3, answer=None)
    await redis.xtrim("signals", PureToken.MAXLEN, 1, trim_operator=PureToken.EQUAL)
    async with reading(server, Streams(("signals",))) as home:
        (left,) = await home.take(1)
        await none_pending(redis, "signals")
        assert left.raw == order(2)["data"].encode() and home.nothing()


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
async def test_a_server_that_is_started_again_brings_everything_once_or_again(
    server: RedisServer, redis: "Redis[bytes]", how: signal.Signals
) -> None:
    for number in range(20):
        await redis.xadd("signals", order(number))
    async with reading(server, Streams(("signals",))) as home:
        early = await home.take(20, answer=None)
        await trio.to_thread.run_sync(server.stop, how)
        for arrival in early:
            arrival.answer(TAKEN)
        await until(lambda: home.source.down)
        await trio.to_thread.run_sync(server.start)
        async with server.address.client() as again:
            for number in range(20, 25):
                await again.xadd("signals", order(number))
            late = await home.take(5)
            await none_pending(again, "signals")
        assert not home.source.down and home.nothing()
        assert [a.raw for a in late] == [order(n)["data"].encode() for n in range(20, 25)]


async def test_a_server_that_comes_back_empty_is_listened_to_again(server: RedisServer, redis: "Redis[bytes]") -> None:
    async with reading(server, Streams(("signals",))) as home:
        await redis.xadd("signals", order(1))
        await home.take(1)
        await none_pending(redis, "signals")
        await redis.flushall()
        await redis.xadd("signals", order(2))
        (arrival,) = await home.take(1)
        await none_pending(redis, "signals")
        assert arrival.raw == order(2)["data"].encode()


async def test_a_wrong_password_is_said_and_asked_for_again_and_stops_nothing(server: RedisServer) -> None:
    wrong = RedisSource("bus", Server(port=server.port, password="wrong"), Streams(("signals",)), live_clock())
    send, _ = trio.open_memory_channel[Arrival](1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(wrong.run, send)
        await until(lambda: "Authentication" in wrong.down)
        assert "wrong" not in wrong.down.replace("WRONGPASS", "")
        nursery.cancel_scope.cancel()


# ------------------------------------------------------------------------------------------------------------ sink


def row(number: int, name: str = "order.filled", **body: str) -> OutboxRow:
    return OutboxRow(number, Event(name, "main", f"k{number}", 7, f"t{number}", "s1", {"n": number, **body}))


@asynccontextmanager
async def sinking(sink: RedisSink) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        await nursery.start(sink.live)
        yield
        nursery.cancel_scope.cancel()


async def test_events_stand_under_their_names_in_order_with_who_they_are(
    server: RedisServer, redis: "Redis[bytes]"
) -> None:
    sink = RedisSink("bus", server.address)
    async with sinking(sink):
        await sink.send((row(1), row(2, "order.placed"), row(3)))
    filled = await redis.xrange("order.filled")
    assert [entry.field_values[b"event_id"] for entry in filled] == [b"1", b"3"]
    assert len(await redis.xrange("order.placed")) == 1
    said = filled[0].field_values
    assert (said[b"type"], said[b"trace_id"], said[b"cause"]) == (b"order.filled", b"t1", b"s1")
    assert msgspec.json.decode(said[b"data"])["event_id"] == 1 and msgspec.json.decode(said[b"data"])["n"] == 1


async def test_one_stream_for_all_is_kept_short(server: RedisServer, redis: "Redis[bytes]") -> None:
    sink = RedisSink("bus", server.address, stream="surefire.events", keep=200)
    async with sinking(sink):
        for start in range(0, 2_000, 500):
            await sink.send(tuple(row(start + n) for n in range(500)))
    entries = await redis.xrange("surefire.events")
    assert 200 <= len(entries) <= 400 and entries[-1].field_values[b"event_id"] == b"1999"


async def test_the_mirror_shows_what_is_open(server: RedisServer, redis: "Redis[bytes]") -> None:
    sink = RedisSink("bus", server.address, mirror="surefire:open")
    updated = partial(row, name="position.updated", account="main")
    async with sinking(sink):
        await sink.send((updated(1, symbol="BTCUSDT", qty="0.1", stop_loss="1"), updated(2, symbol="ETHUSDT", qty="2")))
        await sink.send((updated(3, symbol="ETHUSDT", qty="0"), updated(4, symbol="BTCUSDT", qty="0.2")))
    assert {key async for key in redis.scan_iter("surefire:open:*")} == {b"surefire:open:main:BTCUSDT"}
    shown = await redis.hgetall("surefire:open:main:BTCUSDT")
    assert (shown[b"qty"], shown[b"event_id"]) == (b"0.2", b"4") and b"stop_loss" not in shown


async def test_a_server_that_is_away_or_silent_is_down_and_takes_everything_when_it_is_back(
    server: RedisServer, redis: "Redis[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    sink = RedisSink("bus", server.address, stream="events")
    async with sinking(sink):
        await sink.send((row(1),))
        await trio.to_thread.run_sync(server.stop, signal.SIGKILL)
        with pytest.raises(SinkDown, match=r"127\.0\.0\.1"):
            await sink.send((row(2),))
        assert sink.down
        await trio.to_thread.run_sync(server.start)
        await sink.send((row(2),))
        assert not sink.down
        monkeypatch.setattr("engine.edges.redis.CALL_SECONDS", 0.3)
        server.freeze(signal.SIGSTOP)
        try:
            with pytest.raises(SinkDown, match="TooSlow"):
                await sink._line.once(partial(sink._send, (row(3),)), 0.3)
        finally:
            server.freeze(signal.SIGCONT)
        await sink.send((row(3),))
    async with server.address.client() as again:
        ids = [entry.field_values[b"event_id"] for entry in await again.xrange("events")]
    assert list(dict.fromkeys(ids)) == [b"1", b"2", b"3"]  # the one that was cut off may be there twice
