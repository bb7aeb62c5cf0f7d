"""Two engines share the accounts by leases: one is killed, or stopped and wakes up after the other has taken over."""

import pytest
import trio

from engine.core.messages import Confirmed, OrderType, Outcome
from engine.core.times import SECOND
from engine.runtime.clock import Clock
from engine.runtime.journal.memory import MemoryDisk, MemoryJournal
from tests.sim.faults import Faults, Nature
from tests.sim.scenarios import entry, play
from tests.sim.test_rivals import QUIET, outcomes, wired
from tests.sim.truth import CancelWired, Crashed, Executed, Frozen, Leased, Ousted, Ready, Thawed, Wired
from tests.sim.world import Report, World

LEASE_SECONDS = 5.0
SHARED = Faults(event_delay_max=0.001, lease_seconds=LEASE_SECONDS)  # not a quiet world: a dead engine protects nothing


def at(report: Report, kind: type) -> list[float]:
    return [x.at_ns / SECOND for x in report.truth if isinstance(x, kind)]


def lives(report: Report, kind: type) -> list[int]:
    return [x.life for x in report.truth if isinstance(x, kind)]


def executions(report: Report, signal_id: str) -> int:
    sent = {w.order.cid for w in wired(report, signal_id)}
    return sum(isinstance(x, Executed) and x.cid in sent for x in report.truth)


def test_of_two_engines_one_trades_and_the_other_stands_by() -> None:
    async def script(world: World) -> None:
        await trio.sleep(1)
        world.feed.offer("enter", entry(world, "enter"))
        await trio.sleep(30)

    report = play(script, QUIET, SHARED)
    assert not report.violations
    assert len(lives(report, Ready)) == len(lives(report, Leased)) == 1
    assert executions(report, "enter") == 1


def test_the_accounts_of_a_killed_engine_are_taken_over_when_its_lease_ends() -> None:
    """Its host starts it no more; and the journal knows what it had done."""

    async def script(world: World) -> None:
        await trio.sleep(1)
        world.feed.offer("enter", entry(world, "enter"))
        await trio.sleep(2)
        assert world.life is not None
        world.grounded.add(world.life.host)
        world.kill(world.life, "here")
        await trio.sleep(0.1)
        world.feed.offer("enter", entry(world, "enter"))
        world.feed.offer("other", entry(world, "other", "ETHUSDT", qty="0.100", ttl_seconds="30"))
        await trio.sleep(40)

    report = play(script, QUIET, SHARED)
    assert not report.violations
    first, second = lives(report, Leased)[:2]
    assert first != second
    took = at(report, Ready)[1] - at(report, Crashed)[0]
    assert LEASE_SECONDS * 2 / 3 - 0.5 <= took <= LEASE_SECONDS + 5
    assert executions(report, "enter") == executions(report, "other") == 1
    assert outcomes(report)["other"] is Outcome.EXECUTED
    assert len([f for _, f in report.evidence.facts(Confirmed)]) >= 2


@pytest.mark.parametrize("where", ["journal.sync.before", "journal.sync.after", "submit.before", "submit.wired"])
def test_an_engine_that_is_stopped_on_the_way_to_the_wire_and_taken_over_sends_nothing_late(where: str) -> None:
    """Also an intent whose commit was on its way: it has happened, and the one who takes over settles it, or it has
    not, and never will."""

    async def script(world: World) -> None:
        await trio.sleep(1)
        assert world.life is not None
        first, boundary = world.life, world.life.boundary
        armed = False

        def stop(at: str) -> None:
            nonlocal armed
            boundary(at)
            if armed and at == where:
                armed = False
                world.freeze(first)

        first.boundary = stop  # type: ignore[method-assign]
        world.feed.offer("enter", entry(world, "enter", ttl_seconds="60"))
        armed = True
        await trio.sleep(20)
        assert world.life is not first
        world.thaw()
        await trio.sleep(120)

    report = play(script, QUIET, SHARED)
    assert not report.violations
    assert lives(report, Frozen) == lives(report, Thawed) == lives(report, Ousted) == lives(report, Ready)[:1]
    assert executions(report, "enter") <= 1
    if where == "submit.wired":
        assert executions(report, "enter") == 1 and outcomes(report)["enter"] is Outcome.EXECUTED


def test_an_engine_that_wakes_up_after_a_take_over_protects_nothing_either() -> None:
    """Its stop was canceled meanwhile, and placed anew by the one that took over: it would place a second one."""

    async def script(world: World) -> None:
        await trio.sleep(1)
        world.feed.offer("enter", entry(world, "enter"))
        await trio.sleep(2)
        assert world.life is not None
        first = world.life
        world.freeze(first)
        await trio.sleep(15)
        assert world.life is not first
        stop = next(o for o in world.venue.orders.values() if o.order_type is OrderType.STOP_MARKET)
        world.venue.cancel(stop.cid, "canceled by hand")
        await trio.sleep(5)
        world.thaw()
        await trio.sleep(30)

    report = play(script, QUIET, SHARED)
    assert not report.violations
    (old,) = lives(report, Ousted)
    (woken,) = at(report, Thawed)
    sent = [x for x in report.truth if isinstance(x, Wired | CancelWired)]
    assert [x for x in sent if x.life == old and x.at_ns / SECOND >= woken] == []
    assert OrderType.STOP_MARKET in [x.order.order_type for x in sent if isinstance(x, Wired) and x.life != old]


def test_a_short_stop_costs_nobody_the_lease() -> None:
    async def script(world: World) -> None:
        await trio.sleep(1)
        assert world.life is not None
        world.freeze(world.life)
        await trio.sleep(LEASE_SECONDS / 3)
        world.thaw()
        await trio.sleep(30)
        world.feed.offer("enter", entry(world, "enter"))
        await trio.sleep(5)

    report = play(script, Nature(volatility=0.0), SHARED)
    assert not report.violations
    assert len(lives(report, Leased)) == 1 and lives(report, Ousted) == []
    assert executions(report, "enter") == 1


def test_a_journal_that_waits_to_be_opened_owns_no_task_yet() -> None:
    """An engine was stopped in the moment before its journal was open, and the world ended in an error of its own."""
    journal = MemoryJournal(MemoryDisk(), Clock(now_ns=lambda: 0, ticks_ns=lambda: 0))
    assert not journal.runs(None) and not journal.runs(object()) and journal.runs(journal)
