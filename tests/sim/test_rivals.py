"""A second engine that is started by mistake, and an engine that was stopped and wakes up: P1 in named worlds."""

import pytest
import trio

from engine.core.messages import Confirmed, Halted, OrderType, Outcome, Unsent
from engine.runtime.schedule import JumpClock, seeded_schedule
from tests.sim.disk import WorldDisk
from tests.sim.faults import Faults, Nature
from tests.sim.freezer import Freezer, below
from tests.sim.scenarios import entry, play
from tests.sim.truth import CancelWired, Crashed, DiskBroke, Executed, Frozen, Ready, Taken, Thawed, TurnedAway, Wired
from tests.sim.world import BEGAN_NS, Report, World

QUIET = Nature(volatility=0.0)
NAMED = Faults(event_delay_max=0.001)  # not a quiet world: a stopped engine protects nothing


def wired(report: Report, signal_id: str) -> list[Wired]:
    return [x for x in report.truth if isinstance(x, Wired) and x.order.signal_id == signal_id]


def outcomes(report: Report) -> dict[str, Outcome]:
    return {f.signal_id: f.outcome for _, f in report.evidence.facts(Confirmed) if isinstance(f, Confirmed)}


def test_frozen_tasks_do_nothing_while_time_passes_and_then_all_at_once() -> None:
    ticks: list[tuple[str, float]] = []

    async def tick(name: str) -> None:
        while True:
            await trio.sleep(1)
            ticks.append((name, trio.current_time()))

    async def part(task_status: trio.TaskStatus[trio.lowlevel.Task]) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tick, "part")
            task_status.started(trio.lowlevel.current_task())

    async def main() -> None:
        freezer = Freezer()
        async with trio.open_nursery() as nursery:
            root = await nursery.start(part)
            nursery.start_soon(tick, "rest")
            await trio.sleep(1.5)
            freezer.freeze(lambda task: below(task, root))
            await trio.sleep(3)
            freezer.thaw()
            await trio.sleep(1.2)
            nursery.cancel_scope.cancel()

    with seeded_schedule(1):
        trio.run(main, clock=JumpClock())
    assert [at for name, at in ticks if name == "part"] == [1.0, 4.5, 5.5]
    assert [at for name, at in ticks if name == "rest"] == [1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize("stopped", [False, True])
def test_a_second_engine_on_the_journal_is_turned_away_and_disturbs_nobody(stopped: bool) -> None:
    async def script(world: World) -> None:
        await trio.sleep(1)
        world.feed.offer("enter", entry(world, "enter"))
        await trio.sleep(2)
        assert world.life is not None
        if stopped:
            world.freeze(world.life)
        await world.rival()
        await trio.sleep(5)
        world.thaw()
        await trio.sleep(120 * stopped)  # an engine that stood still takes no entries for a while (RSK11)
        world.feed.offer("other", entry(world, "other", "ETHUSDT", qty="0.100"))
        await trio.sleep(5)

    report = play(script, QUIET, NAMED)
    assert not report.violations
    (away,) = [x for x in report.truth if isinstance(x, TurnedAway)]
    assert "another engine is running on this journal" in away.why
    assert [x.life for x in report.truth if isinstance(x, Ready)] == [1]
    assert outcomes(report)["other"] is Outcome.EXECUTED


def test_a_second_engine_that_comes_up_all_the_same_is_caught() -> None:
    async def script(world: World) -> None:
        world.disk._locks = False
        await trio.sleep(2)
        await world.rival()

    assert "J4" in {v.invariant for v in play(script, QUIET, NAMED).violations}


@pytest.mark.parametrize("where", ["journal.sync.before", "journal.sync.after", "submit.before", "submit.wired"])
@pytest.mark.parametrize("seconds", [9.0, 90.0])
def test_an_engine_that_is_stopped_on_the_way_to_the_wire_sends_nothing_late(where: str, seconds: float) -> None:
    """The entry has three seconds to live, its signature five: what had left is executed once, and nothing else is."""

    async def script(world: World) -> None:
        await trio.sleep(1)
        assert world.life is not None
        boundary = world.life.boundary
        armed = False

        def stop(at: str) -> None:
            nonlocal armed
            boundary(at)
            if armed and at == where and world.life is not None:
                armed = False
                world.freeze(world.life)

        world.life.boundary = stop  # type: ignore[method-assign]
        world.feed.offer("enter", entry(world, "enter", ttl_seconds="3"))
        armed = True
        await trio.sleep(seconds)
        world.thaw()
        await trio.sleep(100)

    report = play(script, QUIET, NAMED)
    assert not report.violations
    frozen, thawed = (next(x for x in report.truth if isinstance(x, kind)) for kind in (Frozen, Thawed))
    assert thawed.at_ns - frozen.at_ns > (seconds - 0.2) * 1_000_000_000
    executed = sum(
        isinstance(x, Executed) and x.cid == w.order.cid for x in report.truth for w in wired(report, "enter")
    )
    if where == "submit.wired":
        assert executed == 1 and outcomes(report)["enter"] is Outcome.EXECUTED
    else:
        assert executed == 0 and outcomes(report)["enter"] in (Outcome.FAILED, Outcome.REJECTED)


def test_an_engine_that_wakes_up_mends_what_happened_meanwhile_before_anything_else() -> None:
    async def script(world: World) -> None:
        await trio.sleep(1)
        world.feed.offer("enter", entry(world, "enter"))
        await trio.sleep(2)
        assert world.life is not None
        world.freeze(world.life)
        stop = next(o for o in world.venue.orders.values() if o.order_type is OrderType.STOP_MARKET)
        world.venue.cancel(stop.cid, "canceled by hand")
        await trio.sleep(60)
        world.thaw()
        await trio.sleep(5)

    report = play(script, QUIET, NAMED)
    assert not report.violations
    assert 60 <= report.bare_max < 61
    assert not [f for _, f in report.evidence.facts(Unsent)]


def with_a_second_engine(for_ever: bool) -> Report:
    """Another engine on the same account and the same source, with a journal of its own: no lock can see it."""

    async def script(world: World) -> None:
        await trio.sleep(100)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.rival, WorldDisk(lambda: 0.0005, world.truth.reach), 160.0)
            await trio.sleep(50)
            world.feed.offer("enter", entry(world, "enter"))
            await trio.sleep(30)
            world.feed.offer("more", entry(world, "more", qty="0.0070"))
            await trio.sleep(60)

    return play(script, Nature(volatility=0.0, id_unique_for_ever=for_ever), NAMED)


def entries_taken(report: Report, signal_id: str) -> int:
    sent = {x.order.cid for x in wired(report, signal_id)}
    return sum(isinstance(x, Taken) and x.cid in sent for x in report.truth)


def test_a_second_engine_with_its_own_journal_doubles_nothing_where_ids_are_unique_for_ever() -> None:
    report = with_a_second_engine(for_ever=True)
    assert len(wired(report, "enter")) == 2
    assert entries_taken(report, "enter") == entries_taken(report, "more") == 1
    assert report.bare_max < 0.5


def test_a_second_engine_with_its_own_journal_is_noticed_where_ids_may_come_again() -> None:
    """The venue lets the first entry through twice; that is seen at once, and no second one follows. The two do not
    fight over each other's stops, which would leave the position bare between them."""
    report = with_a_second_engine(for_ever=False)
    assert entries_taken(report, "enter") == 2
    assert entries_taken(report, "more") == 0
    halts = [f.halt.scope for _, f in report.evidence.facts(Halted) if isinstance(f, Halted)]
    assert "symbol/main/BTCUSDT" in halts
    assert report.bare_max < 0.5
    canceled = [x for x in report.truth if isinstance(x, CancelWired) and x.at_ns < BEGAN_NS + 230 * 1_000_000_000]
    assert len(canceled) < 40  # for a while after its start one takes the other's for what its own past has left over


def test_a_second_engine_that_found_the_journal_free_is_started_again_too_when_its_disk_is_mended() -> None:
    """Seed 1286: it went on without a journal, as it must, and the checker took its stops for a breach of P3."""

    async def script(world: World) -> None:
        await trio.sleep(2)
        assert world.life is not None
        world.kill(world.life, "for the test")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(world.rival)
            while not any(map(world._found_it_free, world.rivals)):  # noqa: ASYNC110
                await trio.sleep(0.001)
            world.disk.full = True
            world.truth.tell(DiskBroke(world.wall_ns(), how="full"))
            world._mend_disk()

    report = play(script, QUIET, NAMED)
    assert not report.violations
    where = [x.where for x in report.truth if isinstance(x, Crashed)]
    assert where == ["for the test", "restart after the disk failed"]
