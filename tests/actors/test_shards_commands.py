"""A stop for every shard, of which only some are held here."""

from collections.abc import Awaitable, Callable
from functools import partial

import pytest
import trio
import trio.testing
from msgspec.structs import replace
from trio.testing import MockClock

from actors.shards import Holding, Inlet, Router, Shards
from actors.shards_commands import ANSWER_SECONDS, PUT_SECONDS, STALE_SECONDS, Command, Errands, Unreached
from actors.shards_web import everywhere
from engine.core.allotment import Member, Shard
from engine.core.messages import Halt
from engine.edges.dialects import DialectTerms
from engine.runtime.clock import Clock
from engine.runtime.journal.common import Sight, answers_to, commands_of
from engine.web.ports import StopReport
from tests.actors.test_shards import Table

STOP = Command("stop", "ann", "a drill")
HALT = Halt(scope="engine", reason="stopped: a drill", since_ns=5, by="ann", kind="stop")
CLOCK = Clock(now_ns=lambda: round(trio.current_time() * 1_000_000_000), ticks_ns=lambda: 1)


class Holder:
    """Who carries commands out, and what it was told to."""

    def __init__(self, seconds: float = 1.0) -> None:
        self.done: list[Command] = []
        self._seconds = seconds

    async def do(self, command: Command) -> StopReport:
        self.done.append(command)
        await trio.sleep(self._seconds)
        return StopReport(by=command.by, reason=command.reason, complete=True, halted=True, halts=(HALT,))


def errands(table: Table, name: str) -> Errands:
    return Errands(table, CLOCK, name)  # type: ignore[arg-type]


def serving(
    table: Table, do: Callable[[Command], Awaitable[StopReport]], name: str = "two"
) -> Callable[[], Awaitable[None]]:
    return partial(errands(table, name).carry_out, "b", lambda: table.waiting(commands_of("b")), do)


async def test_a_command_is_carried_out_by_the_holder_and_answered_with_its_report(autojump_clock: MockClock) -> None:
    table, holder = Table(), Holder()
    one = errands(table, "one")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serving(table, holder.do))
        report = await one.answer(await one.leave("b", STOP))
        nursery.cancel_scope.cancel()
    assert holder.done == [STOP]
    assert report is not None and (report.complete, report.halts) == (True, (HALT,))
    assert table.rows == [], "neither the command nor its answer stays"


async def test_a_command_waits_for_whoever_takes_the_shard(autojump_clock: MockClock) -> None:
    table, holder = Table(), Holder()
    one = errands(table, "one")
    number = await one.leave("b", STOP)
    assert [row.shard for row in table.rows] == [commands_of("b")]
    assert await one.answer(number) is None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serving(table, holder.do))
        await trio.sleep(5)
        nursery.cancel_scope.cancel()
    assert holder.done == [STOP]
    assert [row.shard for row in table.rows] == [answers_to(number)], "nobody waits any more: it is swept away later"


async def test_a_holder_that_ends_in_the_middle_leaves_the_command_to_the_next_one(autojump_clock: MockClock) -> None:
    table, first, second = Table(), Holder(seconds=10), Holder()
    one = errands(table, "one")
    number = await one.leave("b", STOP)
    with trio.move_on_after(5):
        await serving(table, first.do)()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serving(table, second.do, "three"))
        assert await one.answer(number) is not None
        nursery.cancel_scope.cancel()
    assert first.done == second.done == [STOP]


async def test_a_command_whose_end_the_server_did_not_confirm_is_carried_out_once(autojump_clock: MockClock) -> None:
    """It may have taken it or not; a person may have resumed meanwhile."""
    for taken in (True, False):
        table, holder = Table(), Holder()
        await errands(table, "one").leave("b", STOP)

        async def do(
            command: Command, holder: Holder = holder, table: Table = table, taken: bool = taken
        ) -> StopReport:
            table.lost_answers, table.away = int(taken), not taken
            return await holder.do(command)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(serving(table, do))
            await trio.sleep(10)
            table.away = False
            await trio.sleep(10)
            nursery.cancel_scope.cancel()
        assert holder.done == [STOP]
        assert table.waiting(commands_of("b")) == 0


async def test_a_server_that_is_away_or_does_not_answer_is_told(autojump_clock: MockClock) -> None:
    table = Table()
    table.away = True
    with pytest.raises(Unreached, match="no server"):
        await errands(table, "one").leave("b", STOP)
    table.away, table.slow = False, 1000
    async with trio.open_nursery() as nursery:
        nursery.start_soon(table.read, "b", (), 1)  # a question before ours
        await trio.testing.wait_all_tasks_blocked()
        began = trio.current_time()
        with pytest.raises(Unreached, match="no answer"):
            await errands(table, "one").leave("b", STOP)
        assert trio.current_time() - began == PUT_SECONDS
        nursery.cancel_scope.cancel()


async def test_a_flatten_of_long_ago_is_not_carried_out_and_a_stop_is(autojump_clock: MockClock) -> None:
    """Nobody held the shard: what it holds by now is another matter. A halt stands until somebody resumes."""
    table, holder = Table(), Holder()
    one = errands(table, "one")
    flatten = Command("flatten", "ann", "a drill")
    for command in (flatten, STOP):
        await one.leave("b", command)
    await trio.sleep(STALE_SECONDS + 1)
    number = await one.leave("b", replace(flatten, reason="now"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serving(table, holder.do))
        assert await one.answer(number) is not None
        nursery.cancel_scope.cancel()
    assert [(c.what, c.reason) for c in holder.done] == [("stop", "a drill"), ("flatten", "now")]


async def test_a_command_that_cannot_be_read_is_answered_and_holds_up_none_behind_it(autojump_clock: MockClock) -> None:
    """Of a newer version, perhaps."""
    table, holder = Table(), Holder()
    one = errands(table, "one")
    unknown = await one.leave("b", STOP)
    table.rows = [replace(row, raw=b'{"what":"dance"}') for row in table.rows]
    number = await one.leave("b", STOP)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serving(table, holder.do))
        told = await one.answer(unknown)
        assert told is not None and not told.complete and "could not be read" in told.problems[0]
        assert await one.answer(number) is not None
        nursery.cancel_scope.cancel()
    assert trio.current_time() < ANSWER_SECONDS


def engine_without_shards(table: Table, *others: Member) -> Shards:
    """It holds nothing; `others` are alive."""
    inlets = {name: Inlet(name, table, CLOCK) for name in ("a", "b")}  # type: ignore[arg-type]
    router = Router(inlets, {}, DialectTerms(control_sources=None), table, (), lambda shard: "")  # type: ignore[arg-type]
    holdings = [Holding(Shard(name, (f"of-{name}",), ()), inlet) for name, inlet in inlets.items()]
    shards = Shards(Member("1", "one"), holdings, None, router, None, None, 2.0)  # type: ignore[arg-type]
    shards.sight = Sight(others, {"two": "http://two"}, {})
    return shards


async def test_the_answer_says_of_each_shard_what_became_of_it(autojump_clock: MockClock) -> None:
    table, holder = Table(), Holder()
    shards = engine_without_shards(table, Member("2", "two", holding=("b",)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(serving(table, holder.do))
        report = await everywhere(shards, errands(table, "one"), STOP)
        nursery.cancel_scope.cancel()
    assert [(s.name, s.state, s.holder) for s in report.shards] == [("a", "left", ""), ("b", "there", "two")]
    assert (report.complete, report.halted, report.halts) == (False, True, (HALT,))
    assert report.problems == (
        "shard 'a': left on the server; no answer yet for the shard, which no engine holds just now",
    )
    assert table.waiting(commands_of("a")) == 1


async def test_a_stop_that_the_server_did_not_take_is_no_complete_stop(autojump_clock: MockClock) -> None:
    table = Table()
    table.away = True
    shards = engine_without_shards(table, Member("2", "two", holding=("b",)))
    report = await everywhere(shards, errands(table, "one"), STOP)
    assert [s.state for s in report.shards] == ["unreached", "unreached"]
    assert not report.complete
    assert "which engine 'two' holds (http://two): no server" in report.problems[1]
