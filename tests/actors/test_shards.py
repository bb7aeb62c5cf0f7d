"""How a signal finds the engine that holds its account, and what becomes of it while that changes."""

from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager

import msgspec
import pytest
import trio
import trio.testing
from msgspec.structs import replace
from trio.testing import MockClock

from actors.shards import (
    BARRED_SECONDS,
    HAND_SECONDS,
    LOOK_SECONDS,
    READ_MAX,
    Holding,
    Inlet,
    Router,
    Shards,
    Unusable,
)
from actors.sharing import sinks_of
from actors.wiring import Parts
from engine.core.allotment import Member, Shard
from engine.edges.base import Arrival, Receipt, Status
from engine.edges.dialects import DialectTerms
from engine.edges.stream import Broadcast
from engine.edges.webhook_sink import HookSink
from engine.runtime.clock import Clock
from engine.runtime.config import of_shard, parse
from engine.runtime.journal.base import Newer
from engine.runtime.journal.common import Away, Letter, Sight

HOMES = {"alice": "a", "bob": "b"}
CLOCK = Clock(now_ns=lambda: 1, ticks_ns=lambda: 1)


class Table:
    """The inbox as the server keeps it; `away` while it does not answer."""

    def __init__(self) -> None:
        self.rows: list[Letter] = []
        self.away = False
        self.slow = 0.0  # seconds until it answers
        self.lost_answers = 0  # puts that are done, and not answered
        self._count = 0
        self._turn = trio.Lock()  # one connection: one question at a time

    async def put(self, letters: Sequence[Letter]) -> None:
        async with self._turn:
            await self._reach()
            for letter in letters:
                self._count += 1
                self.rows.append(replace(letter, id=self._count))
            if self.lost_answers:
                self.lost_answers -= 1
                raise Away("the connection is gone")

    async def read(self, shard: str, struck: Sequence[int], limit: int) -> tuple[Letter, ...]:
        async with self._turn:
            await self._reach()
            self.rows = [row for row in self.rows if row.id not in struck]
            found = tuple([row for row in self.rows if row.shard == shard][:limit])
            await trio.sleep(self.slow)
            return found

    async def answer(self, struck: int, letter: Letter) -> None:
        await self.read("", (struck,), 0)
        await self.put([letter])

    def waiting(self, shard: str) -> int:
        return sum(row.shard == shard for row in self.rows)

    async def _reach(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise Away("no server")


class Home:
    """An engine of a shard, of which only the beginning is here: it has what reached it, and answers when told to."""

    def __init__(self, inlet: Inlet, room: float = 256) -> None:
        self.inlet = inlet
        self.send, self.arrivals = trio.open_memory_channel[Arrival](room)
        self.scope = trio.CancelScope()
        self.got: list[Arrival] = []

    async def run(self) -> None:
        with self.scope:
            await self.inlet.run(self.send)

    async def next(self, status: Status | None = "accepted") -> str:
        """The id of the next one, answered so; None: not at all."""
        arrival = await self.arrivals.receive()
        self.got.append(arrival)
        if status is not None:
            arrival.answer(Receipt(status))
        return str(msgspec.json.decode(arrival.raw)["signal_id"])

    async def next_raw(self) -> None:
        self.got.append(await self.arrivals.receive())

    def nothing(self) -> bool:
        return not self.arrivals.statistics().current_buffer_used


class World:
    def __init__(self, nursery: trio.Nursery) -> None:
        self.nursery = nursery
        self.table = Table()
        self.inlets = {shard: Inlet(shard, self.table, CLOCK) for shard in ("a", "b")}  # type: ignore[arg-type]
        terms = DialectTerms(control_sources=None)
        self.router = Router(self.inlets, HOMES, terms, self.table, ("http",), lambda shard: "engine 'two' holds")  # type: ignore[arg-type]
        self.answers: dict[str, list[Receipt]] = {}

    async def open(self, shard: str, room: float = 256) -> Home:
        """An engine that takes signals, with nothing that waits."""
        home = Home(self.inlets[shard], room)
        self.nursery.start_soon(home.run)
        await trio.testing.wait_all_tasks_blocked()
        return home

    async def route(self, signal_id: str, account: str = "alice", source: str = "bus", **body: object) -> None:
        content = {"signal_id": signal_id, "account": account, "symbol": "BTCUSDT", "action": "close"} | body
        answers = self.answers.setdefault(signal_id, [])
        await self.router.route(Arrival(msgspec.json.encode(content), source, None, 1, 1, answers.append))

    def told(self, signal_id: str) -> list[Status]:
        return [receipt.status for receipt in self.answers[signal_id]]


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    async with trio.open_nursery() as nursery:
        made = World(nursery)
        nursery.start_soon(made.router._write)
        yield made
        nursery.cancel_scope.cancel()


async def test_a_signal_for_an_account_that_is_held_here_goes_straight_to_its_engine(autojump_clock: MockClock) -> None:
    async with world() as w:
        a, b = await w.open("a"), await w.open("b")
        await w.route("s1", "alice")
        await w.route("s2", "bob")
        assert (await a.next(), await b.next()) == ("s1", "s2")
        assert w.told("s1") == w.told("s2") == ["accepted"]
        assert w.table.rows == []


async def test_a_signal_for_an_account_that_is_held_elsewhere_is_left_on_the_server_and_then_acknowledged(
    autojump_clock: MockClock,
) -> None:
    async with world() as w:
        await w.open("b")
        w.table.away = True
        await w.route("s1")
        await trio.sleep(5)
        assert w.told("s1") == []
        w.table.away = False
        await trio.sleep(5)
        assert w.told("s1") == ["recorded"]
        assert [row.shard for row in w.table.rows] == ["a"]


async def test_a_letter_whose_write_was_not_answered_is_written_again_and_acknowledged_once(
    autojump_clock: MockClock,
) -> None:
    async with world() as w:
        w.table.lost_answers = 1
        await w.route("s1")
        await trio.sleep(5)
        assert w.told("s1") == ["recorded"]
        assert len(w.table.rows) == 2  # the journal knows the id


async def test_a_holder_reads_its_letters_in_order_and_strikes_each_when_it_is_durable(
    autojump_clock: MockClock,
) -> None:
    async with world() as w:
        for number in range(2 * READ_MAX + 5):
            await w.route(f"s{number}")
        await trio.sleep(1)
        a = await w.open("a", room=10_000)
        assert await a.next(None) == "s0"
        await trio.sleep(1)
        assert len(w.table.rows) == 2 * READ_MAX + 5, "nothing is struck before it is answered"
        a.got[0].answer(Receipt("accepted"))
        for number in range(1, 2 * READ_MAX + 5):
            assert await a.next() == f"s{number}"
        await trio.sleep(1)
        assert w.table.rows == []


async def test_a_letter_brings_all_that_its_source_said_of_it(autojump_clock: MockClock) -> None:
    async with world() as w:
        said = Arrival(
            raw=b'{"account": "alice"}',
            source="hook",
            dialect="signal",
            received_ns=7,
            received_tick=1,
            answer=lambda receipt: None,
            trace_id="t",
            fallback_id="topic:0:5",
            delivery="hook/1",
            flaw="too large",
        )
        await w.router.route(said)
        await trio.sleep(1)
        a, b = await w.open("a"), await w.open("b")
        home = b if a.nothing() else a
        await home.next_raw()
        (got,) = home.got
        assert replace(got, answer=said.answer) == said


async def test_what_comes_while_earlier_ones_wait_queues_behind_them(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.route("s1")
        await trio.sleep(1)
        a = await w.open("a")
        await w.route("s2")
        assert [await a.next(), await a.next()] == ["s1", "s2"]
        await trio.sleep(1)
        await w.route("s3")
        assert w.table.rows == []
        assert await a.next() == "s3"


async def test_nothing_goes_past_a_letter_that_is_written_and_not_read_yet(autojump_clock: MockClock) -> None:
    """The engine has looked into an empty inbox while the letter was on its way there."""
    async with world() as w:
        a = await w.open("a")
        w.table.away = True
        await trio.sleep(LOOK_SECONDS * 2)  # now it is not known whether anything waits
        w.table.away = False
        w.table.slow = 1.0
        await trio.sleep(LOOK_SECONDS)  # a look is under way
        await w.route("s1")
        while w.told("s1") != ["recorded"]:  # noqa: ASYNC110
            await trio.sleep(0.01)
        await w.route("s2")
        assert [await a.next(), await a.next()] == ["s1", "s2"]


async def test_a_letter_that_the_engine_could_not_take_is_offered_again(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.route("s1")
        a = await w.open("a")
        assert [await a.next("busy"), await a.next("accepted")] == ["s1", "s1"]
        await trio.sleep(1)
        assert w.table.rows == []
        assert a.nothing()


async def test_what_an_engine_had_in_hand_when_it_ended_is_routed_again_and_answered_once(
    autojump_clock: MockClock,
) -> None:
    async with world() as w:
        a = await w.open("a")
        await w.route("s1")
        await w.route("s2")
        assert await a.next(None) == "s1"
        a.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        w.router.again("a")
        a.got[0].answer(Receipt("accepted"))  # a last word of the dead one: it is in its journal
        later = await w.open("a")
        assert [await later.next("repeated"), await later.next()] == ["s1", "s2"]
        await trio.sleep(1)
        assert (w.told("s1"), w.told("s2")) == (["accepted"], ["recorded"])


async def test_what_comes_after_an_engine_has_ended_stays_behind_what_that_had_in_hand(
    autojump_clock: MockClock,
) -> None:
    """A close that overtakes its open closes nothing, and the position stands."""
    async with world() as w:
        a = await w.open("a")
        await w.route("open")
        await w.route("reduce")
        a.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        await w.route("close")  # while the dead engine's venues are being closed
        w.router.again("a")
        later = await w.open("a")
        assert [await later.next() for _ in range(3)] == ["open", "reduce", "close"]
        await trio.sleep(1)
        assert [w.told(name) for name in ("open", "reduce", "close")] == [["recorded"]] * 3
        assert later.nothing() and w.table.rows == []


async def test_what_an_engine_had_in_hand_is_in_the_inbox_before_what_it_had_no_room_for(
    autojump_clock: MockClock,
) -> None:
    async with world() as w:
        a = await w.open("a", room=1)
        await w.route("open")
        await w.route("close")  # no room
        a.scope.cancel()  # it never took any of them
        await trio.testing.wait_all_tasks_blocked()
        w.router.again("a")
        later = await w.open("a")
        assert [await later.next() for _ in range(2)] == ["open", "close"]
        await trio.sleep(1)
        assert later.nothing()


async def test_what_an_engine_could_not_take_keeps_its_place_before_newer_ones(autojump_clock: MockClock) -> None:
    """Its journal has failed: a source that was told so would bring it again behind what is on its way already."""
    async with world() as w:
        a = await w.open("a", room=1)
        await w.route("open")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.route, "close")  # it is being handed in
            await trio.testing.wait_all_tasks_blocked()
            (await a.arrivals.receive()).answer(Receipt("busy", text="not accepted: the journal failed"))
        a.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        w.router.again("a")
        later = await w.open("a")
        assert await later.next() == "open"
        while await later.next() != "close":  # it may come twice
            pass
        await trio.sleep(1)
        assert w.told("open") == w.told("close") == ["recorded"]


async def test_a_sender_that_waits_is_sent_away_when_the_engine_that_had_its_signal_has_ended(
    autojump_clock: MockClock,
) -> None:
    async with world() as w:
        a = await w.open("a")
        await w.route("s1", source="http")
        a.scope.cancel()
        await trio.testing.wait_all_tasks_blocked()
        w.router.again("a")
        assert w.told("s1") == ["busy"]
        await trio.sleep(1)
        assert w.table.rows == []


async def test_a_letter_in_hand_when_the_engine_ended_comes_again(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.route("s1")
        a = await w.open("a")
        assert await a.next("accepted") == "s1"
        a.scope.cancel()  # before the row is struck
        await trio.testing.wait_all_tasks_blocked()
        assert len(w.table.rows) == 1
        later = await w.open("a")
        assert await later.next("repeated") == "s1"
        await trio.sleep(1)
        assert w.table.rows == []


async def test_an_engine_that_ends_while_it_has_no_room_holds_up_nobody(autojump_clock: MockClock) -> None:
    async with world() as w:
        a = await w.open("a", room=0)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(w.route, "s1")
            await trio.testing.wait_all_tasks_blocked()
            a.scope.cancel()
        await trio.sleep(1)
        assert w.told("s1") == ["recorded"]


async def test_an_engine_that_makes_no_room_keeps_nothing_from_the_others_and_gets_its_own_in_order(
    autojump_clock: MockClock,
) -> None:
    """One router feeds all shards: a gate that was stuck kept the others' signals, and a stop, from them."""
    async with world() as w:
        a, b = await w.open("a", room=0), await w.open("b")
        began = trio.current_time()
        for number in range(5):
            await w.route(f"a{number}")
        await w.route("b0", account="bob")
        stop: list[Receipt] = []
        content = {"event": "ess.tripped", "event_id": "e1", "reason": "a person said so"}
        await w.router.route(Arrival(msgspec.json.encode(content), "bus", None, 1, 1, stop.append))
        assert trio.current_time() - began <= HAND_SECONDS + 0.1  # once, not for each
        assert await b.next() == "b0"
        assert b"ess.tripped" in (await b.arrivals.receive()).raw
        await w.route("h1", source="http")
        assert w.told("h1") == ["busy"] and "no room" in w.answers["h1"][0].text
        assert [await a.next() for _ in range(5)] == [f"a{number}" for number in range(5)]


async def test_a_sender_that_waits_for_the_verdict_is_sent_to_the_holder(autojump_clock: MockClock) -> None:
    async with world() as w:
        await w.route("s1", source="http")
        assert w.told("s1") == ["busy"]
        assert "shard 'a', which engine 'two' holds" in w.answers["s1"][0].text
        assert w.table.rows == []


async def test_what_concerns_everybody_reaches_every_shard_and_is_answered_when_all_have_it(
    autojump_clock: MockClock,
) -> None:
    async with world() as w:
        a = await w.open("a")
        content = {"event": "ess.tripped", "event_id": "e1", "reason": "a person said so"}
        answers: list[Receipt] = []
        w.table.away = True
        await w.router.route(Arrival(msgspec.json.encode(content), "bus", None, 1, 1, answers.append))
        (await a.arrivals.receive()).answer(Receipt("recorded"))
        await trio.sleep(3)
        assert answers == []
        w.table.away = False
        await trio.sleep(3)
        assert [receipt.status for receipt in answers] == ["recorded"]
        assert [row.shard for row in w.table.rows] == ["b"]


async def test_a_stop_that_names_an_account_reaches_every_shard_all_the_same(autojump_clock: MockClock) -> None:
    """It closes an engine whole, whatever stands in it."""
    async with world() as w:
        a, b = await w.open("a"), await w.open("b")
        content = {"event": "ess.tripped", "event_id": "e1", "account": "alice", "data": {"account": "alice"}}
        await w.router.route(Arrival(msgspec.json.encode(content), "bus", None, 1, 1, lambda receipt: None))
        assert not a.nothing() and not b.nothing()


async def test_what_nobody_can_read_is_judged_by_an_engine_that_is_open_here(autojump_clock: MockClock) -> None:
    async with world() as w:
        b = await w.open("b")
        answers: list[Receipt] = []
        await w.router.route(Arrival(b"{broken", "bus", None, 1, 1, answers.append))
        (await b.arrivals.receive()).answer(Receipt("malformed"))
        assert [receipt.status for receipt in answers] == ["malformed"]


class Alive:
    """The roster; `others` are alive beside us."""

    def __init__(self, *others: Member) -> None:
        self.others = others
        self.cannot: tuple[str, ...] = ()

    async def beat(self, me: Member, api: str, alive_ns: int) -> Sight:
        await trio.lowlevel.checkpoint()
        self.cannot = me.cannot
        return Sight((me, *self.others), {}, {})

    async def leave(self, me: Member) -> None:
        await trio.lowlevel.checkpoint()


async def barred(alive: Alive, errors: list[Exception | None], seconds: float) -> tuple[Holding, list[float]]:
    """A shard whose parts fail with these errors, one after the other; and when they were asked for."""
    asked: list[float] = []

    async def make(holding: Holding, services: trio.Nursery, held: ExitStack) -> Parts:
        await trio.lowlevel.checkpoint()
        asked.append(trio.current_time() - began)
        error = errors.pop(0)
        if error is not None:
            raise error
        return None  # type: ignore[return-value]  # of a look nothing is used

    table = Table()
    inlet = Inlet("a", table, CLOCK)  # type: ignore[arg-type]
    router = Router({"a": inlet}, HOMES, DialectTerms(control_sources=None), table, (), str)  # type: ignore[arg-type]
    holding = Holding(Shard("a", ("alice",), ("one",)), inlet)
    shards = Shards(Member("1", "one"), [holding], alive, router, make, None, 2.0)  # type: ignore[arg-type]
    stop, began = trio.Event(), trio.current_time()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(shards.run, stop)
        await trio.sleep(seconds)
        stop.set()
    return holding, asked


async def test_a_shard_that_could_not_run_here_is_looked_at_again_and_asked_for_when_it_could(
    autojump_clock: MockClock,
) -> None:
    """A venue that refused at the start, in its maintenance, barred the engine for ever."""
    refused = Unusable("the venue is in maintenance")
    holding, asked = await barred(Alive(), [refused, refused, None, refused, refused], 500)
    whole = [BARRED_SECONDS * n for n in (0, 1, 3)]
    assert asked[:3] == pytest.approx(whole, abs=1)
    assert asked[3] == pytest.approx(asked[2], abs=1), "asked for in earnest as soon as it could run"
    assert asked[4:] == pytest.approx([asked[3] + 4 * BARRED_SECONDS], abs=1), "slower each time until it is held"
    assert holding.state == "failed"


async def test_while_it_is_looked_at_again_nobody_gives_the_shard_up_for_it(autojump_clock: MockClock) -> None:
    """We are preferred: whoever holds it would hand it over."""
    alive = Alive(Member("2", "two", holding=("a",)))
    without_a_key = Unusable("no key")
    await barred(alive, [without_a_key] * 5, 1000)
    assert alive.cannot == ("a",)


async def test_a_journal_of_a_newer_program_is_left_to_that_one_for_good(autojump_clock: MockClock) -> None:
    alive = Alive()
    holding, asked = await barred(alive, [Newer("it was written by a newer one")], 4000)
    assert len(asked) == 1
    assert (holding.state, alive.cannot) == ("failed", ("a",))


def test_a_webhook_has_the_same_id_whichever_engine_sends_it() -> None:
    """Else a receiver does not know what it gets once more after a take-over."""
    text = """
[journal]
url = "postgresql://surefire@127.0.0.1:5432/trading"
[accounts.alice]
venue = "link"
port = 9
[accounts.alice.limits]
[[shards]]
name = "a"
accounts = ["alice"]
[[sinks]]
kind = "webhook"
url = "https://127.0.0.1/x"
secret_env = ["OUT_HOOK"]
"""
    senders = set()
    for name in ("one", "two"):
        config = parse(f'[engine]\nname = "{name}"\n{text}', "engine.toml")
        of = of_shard(config, config.shards[0])
        hook, _ = sinks_of(of, Broadcast("stream"), CLOCK, {"OUT_HOOK": "0123456789abcdef0123456789abcdef"}, None)
        assert isinstance(hook, HookSink)
        senders.add(hook._terms.sender)
    assert senders == {"surefire_a"}
