"""Named worlds: each crash point by itself, and the ways in which an order's fate can be hidden."""

from decimal import Decimal

import pytest
import trio

from actors.operator import StopReport
from engine.core.messages import Confirmed, Halted, Leg, Missing, Outcome, Side, SignalConflicted, Submitted
from tests.sim.faults import Faults, Nature
from tests.sim.scenarios import BOUNDARIES, a_day, a_dead_actor, a_loss_under_a_drill, entry, one_entry, play
from tests.sim.truth import Crashed, Executed, StopReported, Taken, Wired
from tests.sim.world import Report, World

QUIET = Nature(volatility=0.0)


def outcomes(report: Report) -> dict[str, Outcome]:
    return {f.signal_id: f.outcome for _, f in report.evidence.facts(Confirmed) if isinstance(f, Confirmed)}


def entries_wired(report: Report) -> list[Wired]:
    return [x for x in report.truth if isinstance(x, Wired) and x.order.signal_id == "enter"]


def test_a_quiet_day_does_what_was_asked() -> None:
    report = play(a_day, QUIET)
    assert not report.violations
    assert outcomes(report) == {
        "enter": Outcome.EXECUTED,
        "rest": Outcome.UNFILLED,
        "leave": Outcome.EXECUTED,
        "probe": Outcome.EXECUTED,
    }
    assert report.crashes == 0 and report.bare_max < 0.5


def test_a_loss_is_not_lifted_with_a_persons_halt() -> None:
    report = play(a_loss_under_a_drill, QUIET)
    assert not report.violations
    halted = [f.halt.kind for _, f in report.evidence.facts(Halted) if isinstance(f, Halted)]
    assert halted == ["stop", "loss"]
    assert outcomes(report) == {"enter": Outcome.EXECUTED, "late": Outcome.REFUSED, "probe": Outcome.EXECUTED}


@pytest.mark.parametrize("spot", [False, True])
def test_a_stop_closes_past_an_actor_that_cannot_be_made_anew(spot: bool) -> None:
    report = play(a_dead_actor, Nature(volatility=0.0, spot=spot, fee_asset="base" if spot else "quote"))
    assert {v.invariant for v in report.violations} == {"FELL"}  # that it is down is told, and nothing else is broken
    (stopped,) = [x for x in report.truth if isinstance(x, StopReported)]
    assert stopped.flat and stopped.durable
    ids = [f.order.signal_id for _, f in report.evidence.facts(Submitted) if isinstance(f, Submitted)]
    assert len([i for i in ids if i.startswith("~direct/BTCUSDT")]) == 1
    assert not [i for i in ids if i.startswith("~direct/ETHUSDT")]
    assert outcomes(report)["other"] is Outcome.EXECUTED and outcomes(report)["probe"] is Outcome.EXECUTED


@pytest.mark.parametrize("spot", [False, True])
@pytest.mark.parametrize("where", BOUNDARIES)
def test_a_crash_at_a_boundary_loses_and_doubles_nothing(where: str, spot: bool) -> None:
    crashed = 0
    for count in (1, 2, 4):
        nature = Nature(volatility=0.0, spot=spot, fee_asset="base" if spot else "quote", id_unique_for_ever=not spot)
        report = play(a_day, nature, crash_at=(where, count))
        assert not report.violations, (count, report.violations)
        crashed += sum(isinstance(x, Crashed) for x in report.truth)
    assert crashed


@pytest.mark.parametrize("for_ever", [True, False])
def test_an_order_whose_reply_is_lost_is_found_and_never_sent_again(for_ever: bool) -> None:
    nature = Nature(volatility=0.0, id_unique_for_ever=for_ever)
    report = play(one_entry, nature, Faults(reply_lost=1.0, event_dropped=1.0))
    assert not report.violations
    assert len(entries_wired(report)) == 1
    assert outcomes(report)["enter"] is Outcome.EXECUTED
    assert report.truth.reached["timed out"] > 0


def test_an_order_that_never_arrived_is_missing_only_after_its_dead_time_and_not_sent_again() -> None:
    report = play(one_entry, QUIET, Faults(request_lost=1.0))
    assert not report.violations
    (missing,) = [r for r, f in report.evidence.facts(Missing) if isinstance(f, Missing)]
    (wired,) = entries_wired(report)
    assert missing.at_ns - wired.at_ns > 65 * 1_000_000_000
    assert outcomes(report)["enter"] is Outcome.ABSENT


def test_doubt_blocks_new_exposure_on_its_symbol_alone() -> None:
    async def script(world: World) -> None:
        await trio.sleep(1)
        world.feed.offer("enter", entry(world, "enter"))
        await trio.sleep(12)
        world.feed.offer("same", entry(world, "same", qty="0.0080"))
        world.venue.faults = Faults()
        world.feed.offer("other", entry(world, "other", "ETHUSDT", qty="0.100"))
        await trio.sleep(12)

    report = play(script, QUIET, Faults(request_lost=1.0))
    assert not report.violations
    assert outcomes(report)["same"] is Outcome.REFUSED
    assert outcomes(report)["other"] is Outcome.EXECUTED


def test_a_signal_that_comes_again_after_a_crash_is_answered_and_not_executed_again() -> None:
    async def script(world: World) -> None:
        await trio.sleep(1)
        world.feed.offer("enter", entry(world, "enter"))
        await trio.sleep(1)
        assert world.life is not None
        world.kill(world.life, "here")
        await trio.sleep(12)
        world.feed.again(world.feed.offers[0])
        await trio.sleep(12)

    report = play(script, QUIET)
    assert [v for v in report.violations if v.invariant != "I31"] == []
    assert len(entries_wired(report)) == 1
    assert report.truth.reached["same signal again"] == 1


def test_another_body_under_a_known_id_is_never_executed() -> None:
    async def script(world: World) -> None:
        await trio.sleep(1)
        body = entry(world, "enter")
        world.feed.offer("enter", body)
        world.feed.offer("enter", body | {"qty": "0.0200"})
        await trio.sleep(12)

    report = play(script, QUIET)
    assert not report.violations
    assert [f for _, f in report.evidence.facts(SignalConflicted)]
    (taken,) = [x for x in report.truth if isinstance(x, Taken) and x.cid == entries_wired(report)[0].order.cid]
    assert str(taken.qty) == "0.0100"


def test_a_stop_covers_each_piece_of_an_entry_that_fills_in_pieces() -> None:
    report = play(one_entry, Nature(volatility=0.0, partial=1.0), seed=4)
    assert not report.violations
    pieces = [x for x in report.truth if isinstance(x, Executed) and x.cid == entries_wired(report)[0].order.cid]
    stops = [
        f.order for _, f in report.evidence.facts(Submitted) if isinstance(f, Submitted) and f.order.leg is Leg.STOP
    ]
    assert len(pieces) > 1
    assert max(s.qty for s in stops) == sum(p.qty for p in pieces)


def test_a_human_who_trades_in_the_account_is_booked_and_covered() -> None:
    async def script(world: World) -> None:
        await trio.sleep(1)
        world.venue.human_trades("BTCUSDT", Side.BUY, Decimal("0.0100"))
        await trio.sleep(12)

    report = play(script, QUIET)
    assert not report.violations
    assert [t for t in report.truth if isinstance(t, Taken) and t.cid.startswith("sf1") and t.reduce_only]


def test_executions_that_show_late_are_doubt_and_no_quarantine() -> None:
    """Seed 172: half a second of a position that was newer than its executions latched a halt."""
    report = play(one_entry, QUIET, Faults(visible_max=15.0, event_dropped=1.0), seed=3)
    assert not report.violations
    assert outcomes(report)["enter"] is Outcome.EXECUTED


def test_a_stop_is_not_called_done_while_an_entry_may_still_be_filled() -> None:
    """Seeds 26, 66 and 113: the venue's lists were empty, and the order was on its way or in the venue's queue."""
    told: list[StopReport] = []

    async def script(world: World) -> None:
        await trio.sleep(1)
        world.feed.offer("enter", entry(world, "enter"))
        await trio.sleep(1)
        assert world.engine is not None
        told.append(await world.engine.operator.stop("op", "drill"))
        await trio.sleep(80)
        told.append(await world.engine.operator.stop("op", "drill"))

    report = play(script, QUIET, Faults(request_lost=1.0))
    assert not report.violations
    assert [t.flat for t in told] == [False, True]
    assert "1 opening order(s) of BTCUSDT" in told[0].problems[0]
