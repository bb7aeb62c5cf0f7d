"""Named worlds of protection: how soon lost or missing cover is seen and mended."""

from decimal import Decimal

import pytest
import trio
from msgspec.structs import replace

from actors.reconciler import Reconciler
from engine.core.blotter import follow
from engine.core.messages import Alerted, FlattenAsked, Halted, Leg, Missing, OrderType, Side
from engine.core.times import SECOND
from tests.sim.checks import Evidence
from tests.sim.cover import awake_stretches
from tests.sim.faults import Faults, Nature
from tests.sim.mutants import passed_stop_not_looked_at
from tests.sim.reach import reached
from tests.sim.scenarios import entry, one_entry, play
from tests.sim.truth import BanHeard, DiskBroke, DiskMended, Ended, Executed, Frozen, Phase, Ready, Thawed, Wired
from tests.sim.venue import Resting
from tests.sim.world import Report, World

QUIET = Nature(volatility=0.0)


def stops(report: Report) -> list[Wired]:
    return [x for x in report.truth if isinstance(x, Wired) and x.order.leg is Leg.STOP]


def test_a_stop_without_an_answer_does_not_hold_up_the_next_until_the_request_times_out() -> None:
    """Seed 60: each lost request cost its whole time-out of ten seconds without cover."""

    async def script(world: World) -> None:
        await trio.sleep(1)
        world.feed.offer("enter", entry(world, "enter"))
        while not any(isinstance(x, Executed) for x in world.truth):  # noqa: ASYNC110
            await trio.sleep(0.001)
        world.venue.faults = Faults(request_lost=1.0)
        await trio.sleep(1)
        world.venue.faults = Faults()
        await trio.sleep(15)

    report = play(script, QUIET, Faults(event_dropped=0.001))
    assert not report.violations
    first, second = stops(report)[:2]
    assert 1.5 <= (second.at_ns - first.at_ns) / 1e9 < 1.6
    assert report.bare_max < 2.5


def stand(world: World, order_type: OrderType) -> Resting:
    """The one order of this type that stands at the venue."""
    (found,) = [o for o in world.venue.orders.values() if o.status == "open" and o.order_type is order_type]
    return found


def test_a_venue_that_fails_every_third_query_does_not_keep_a_lost_stop_from_being_seen() -> None:
    """Seed 177: a round of five queries hardly ever passed, and was tried every ten seconds only."""

    async def script(world: World) -> None:
        await trio.sleep(1)
        world.feed.offer("enter", entry(world, "enter"))
        for _ in range(8):
            await trio.sleep(40)
            world.venue._stream_stall()
            world.venue.cancel(stand(world, OrderType.STOP_MARKET).cid, "canceled by hand")

    report = play(script, QUIET, Faults(query_failed=0.35, event_delay_max=0.001))
    assert not report.violations
    assert report.bare_max < 17


@pytest.mark.parametrize("known", [True, False])
def test_a_stop_that_the_journal_does_not_know_covers_until_our_own_stands(known: bool) -> None:
    """Seed 161: placed while the disk was broken, and canceled by the next life before that had a stop of its own."""
    stray = "sf1" + "s" * 26

    async def script(world: World) -> None:
        await trio.sleep(1)
        world.feed.offer("enter", entry(world, "enter"))
        await trio.sleep(2)
        assert world.life is not None
        world.kill(world.life, "here")
        own = stand(world, OrderType.STOP_MARKET)
        (wired,) = [x.order for x in world.truth if isinstance(x, Wired) and x.order.cid == own.cid]
        if known:  # our books have a stop, which is gone
            world.venue.book(replace(wired, cid=stray))
            world.venue.cancel(own.cid)
        else:  # and a position that is larger than they know
            world.venue.book(replace(wired, cid=stray, qty=2 * wired.qty))
            world.venue.cancel(own.cid)
            world.venue.human_trades("BTCUSDT", Side.BUY, wired.qty)
        world.venue.faults = Faults(connect_refused=1.0)  # of new orders; cancels pass
        await trio.sleep(1)
        world.venue.faults = Faults()
        await trio.sleep(20)

    report = play(script, QUIET, Faults(event_dropped=0.001))
    assert {v.invariant for v in report.violations} <= {"I5"}  # our mark, and not in the journal: it is made up
    assert report.bare_max < 0.1
    assert [x.status for x in report.truth if isinstance(x, Ended) and x.cid == stray] == ["canceled"]


def test_an_engine_that_sits_still_while_cover_is_missing_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "_protect", lambda sheet, now_ns, tidy: None)
    report = play(one_entry, QUIET)
    assert any("nothing was tried" in v.text for v in report.violations)


def test_an_engine_that_never_asks_for_what_the_stream_lost_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    async def settle(self: Reconciler) -> bool:
        return True

    monkeypatch.setattr(Reconciler, "settle", settle)
    report = play(a_stranger_buys, QUIET, Faults(event_dropped=1.0))
    assert any("was not known after" in v.text for v in report.violations)


async def a_stranger_buys(world: World) -> None:
    await trio.sleep(1)
    world.venue.human_trades("BTCUSDT", Side.BUY, Decimal("0.0100"))
    await trio.sleep(60)


def test_who_wakes_up_in_a_ban_that_it_knows_of_is_not_asked_to_send() -> None:
    """Seed 562: the checker had forgotten the ban over a short stop of the process."""
    second = 1_000_000_000
    entries = (
        Ready(0, life=1),
        BanHeard(2 * second, life=1, until_ns=30 * second),
        Frozen(5 * second, life=1),
        Thawed(6 * second, life=1),
        Phase(40 * second, name="end"),
    )
    awake = awake_stretches(Evidence(entries, (), (), {}))
    assert [(a.since_ns // second, a.until_ns // second) for a in awake] == [(0, 2), (30, 40)]


def test_what_the_stream_lost_is_found_by_asking() -> None:
    report = play(a_stranger_buys, QUIET, Faults(event_dropped=1.0))
    assert not report.violations


def test_an_overfill_is_booked_covered_told_and_closes_its_symbol() -> None:
    report = play(one_entry, QUIET, Faults(overfilled=1.0))
    assert not report.violations
    (cid,) = report.evidence.overfilled
    assert cid in report.evidence.corrected
    halts = [f.halt.scope for _, f in report.evidence.facts(Halted) if isinstance(f, Halted)]
    assert halts == ["symbol/main/BTCUSDT"]
    assert report.bare_max < 0.5


def test_a_liquidation_is_booked_and_the_stop_of_what_is_gone_is_canceled() -> None:
    async def script(world: World) -> None:
        await trio.sleep(1)
        world.feed.offer("enter", entry(world, "enter"))
        await trio.sleep(2)
        while world.venue.position("BTCUSDT"):
            world.venue._liquidation()
        await trio.sleep(5)
        assert not [o for o in world.venue.orders.values() if o.status == "open"]

    assert not play(script, QUIET, Faults(event_delay_max=0.001)).violations


def test_an_entry_waits_for_the_end_of_a_ban_or_for_its_own_and_cover_comes_at_once_after_it() -> None:
    async def script(world: World) -> None:
        await trio.sleep(1)
        world.feed.offer("enter", entry(world, "enter"))
        await trio.sleep(2)
        world.venue.banned_until_ns = world.wall_ns() + 20_000_000_000
        world.venue.cancel(stand(world, OrderType.STOP_MARKET).cid, "canceled by hand")
        await trio.sleep(1)
        world.feed.offer("late", entry(world, "late", qty="0.0050", ttl_seconds="3"))
        await trio.sleep(30)

    report = play(script, QUIET, Faults(event_delay_max=0.001))
    assert not report.violations
    assert 19 < report.bare_max < 21
    assert not [x for x in report.truth if isinstance(x, Wired) and x.order.signal_id == "late"]


def test_absence_beyond_the_venues_horizon_proves_nothing() -> None:
    """R14: the doubt stays, its symbol is closed, and a person is called."""

    async def script(world: World) -> None:
        await trio.sleep(1)
        world.feed.offer("enter", entry(world, "enter"))
        await trio.sleep(1)
        world.venue.faults = Faults(query_failed=1.0)
        await trio.sleep(100)
        world.venue.faults = Faults()
        await trio.sleep(200)

    report = play(script, Nature(volatility=0.0, horizon=120.0), Faults(request_lost=1.0))
    assert not [f for _, f in report.evidence.facts(Missing)]
    halts = [f.halt for _, f in report.evidence.facts(Halted) if isinstance(f, Halted)]
    assert {h.scope for h in halts} == {"symbol/main/BTCUSDT"} and "in doubt" in halts[0].reason
    assert {v.invariant for v in report.violations} == {"I5", "I25", "I26", "I30"}  # nothing has come to rest


def test_an_entry_whose_execution_nobody_told_is_asked_for_after_three_seconds() -> None:
    """Seed 4029: a stream that was connected and silent left a new position bare for 25 s, until the next round."""
    report = play(one_entry, QUIET, Faults(event_dropped=1.0))
    assert not report.violations
    assert 3 < report.bare_max < 3.5


def test_an_engine_without_a_disk_is_not_awake_though_it_wakes_up_or_comes_up() -> None:
    """Seeds 100065 and 100405: its tries cannot stand in the journal."""
    story = (
        Ready(1, life=1),
        DiskBroke(5, how="sync"),
        Frozen(6, life=1),
        Thawed(7, life=1),
        Ready(8, life=2),
        DiskMended(10),
        Ready(12, life=3),
        Phase(20, name="end"),
    )
    stretches = awake_stretches(Evidence(story, (), (), {}))
    assert [(stretch.since_ns, stretch.until_ns) for stretch in stretches] == [(1, 5), (12, 20)]


async def an_overtaken_stop(world: World) -> None:
    """The market leaps while the stop is between us, who had a look at it, and the venue."""
    await trio.sleep(1)
    world.feed.offer("enter", entry(world, "enter"))
    while not any(isinstance(x, Wired) and x.order.leg is Leg.STOP for x in world.truth):  # noqa: ASYNC110
        await trio.sleep(0.001)
    market = world.venue.markets["BTCUSDT"]
    market.ticks = market.ticks * 98 // 100
    await trio.sleep(40)


AFAR = replace(QUIET, spot=True, latency_min=0.04, latency_max=0.05)


def test_a_stop_that_spot_takes_for_a_target_is_found_out_in_seconds_and_the_position_is_closed_once() -> None:
    report = play(an_overtaken_stop, AFAR, face="bybit")
    assert not report.violations
    assert reached(report.evidence, report.truth)["a stop was taken for a target"] == 1
    (asked,) = (f for _, f in report.evidence.facts(FlattenAsked) if isinstance(f, FlattenAsked))
    assert asked.cause == "engine" and "did nothing" in asked.reason
    (told,) = (f for _, f in report.evidence.facts(Alerted) if isinstance(f, Alerted) and f.severity == "critical")
    assert (told.kind, told.symbol) == ("unprotected", "BTCUSDT") and "covered nothing" in told.text
    exits = [x for x in report.truth if isinstance(x, Wired) and x.order.leg is Leg.EXIT]
    assert len(exits) == 1 and 5 < report.bare_max < 8


def test_a_stop_that_stands_as_a_target_and_is_trusted_all_the_same_is_caught() -> None:
    """The bound for the venue's mistake is short, and holds for nothing else."""
    with passed_stop_not_looked_at():
        report = play(an_overtaken_stop, AFAR, face="bybit")
    assert [v.invariant for v in report.violations] == ["I31"] and report.bare_max > 100


def test_where_the_direction_of_a_trigger_is_said_an_overtaken_stop_is_refused_and_its_position_closed() -> None:
    report = play(an_overtaken_stop, replace(AFAR, spot=False), face="bybit")
    assert not report.violations and report.bare_max < 1
    assert not reached(report.evidence, report.truth)["a stop was taken for a target"]
    assert any(isinstance(f, FlattenAsked) for _, f in report.evidence.facts(FlattenAsked))


def test_quotes_that_stand_still_find_nothing_out() -> None:
    """A stale price is no proof of anything: nothing is closed by it, and by a fresh one it is."""

    async def script(world: World) -> None:
        world.venue._quotes_stall_until = world.wall_ns() + 25 * SECOND
        world.venue._quote()
        await an_overtaken_stop(world)

    report = play(script, AFAR, Faults(event_delay_max=0.001), face="bybit")
    began_ns = report.truth.entries[0].at_ns
    asked = [r for r, f in report.evidence.facts(FlattenAsked) if f.cause == "engine"]  # type: ignore[union-attr]
    assert len(asked) == 1 and asked[0].at_ns - began_ns > 30 * SECOND
