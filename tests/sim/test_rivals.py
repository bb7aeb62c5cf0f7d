"""A second engine that is started by mistake, and an engine that was stopped and wakes up: P1 in named worlds."""

import pytest
import trio

from engine.core.messages import Confirmed, OrderType, Outcome, Unsent
from engine.runtime.schedule import JumpClock, seeded_schedule
from tests.sim.faults import Faults, Nature
from tests.sim.freezer import Freezer, below
from tests.sim.scenarios import entry, play
from tests.sim.truth import Executed, Frozen, Ready, Thawed, TurnedAway, Wired
from tests.sim.world import Report, World

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
