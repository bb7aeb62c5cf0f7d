"""The shipped adapters in a world: what they do by a real venue's protocol, and what the worlds have found in them."""

from decimal import Decimal

import pytest
import trio
from msgspec.structs import replace

from engine.core.messages import Confirmed, Filled, Leg, Outcome, Side, Submitted, Unclear
from engine.core.times import SECOND
from engine.exchange.http import Response
from tests.sim.faces.bybit import BybitFace, Stamp
from tests.sim.faces.usdm import UsdmFace
from tests.sim.faults import FACES, Faults, Nature, draw, suited
from tests.sim.reach import reached
from tests.sim.scenarios import a_day, entry, one_entry, play
from tests.sim.truth import BanHeard, Declined, Fell, Held, Taken, Wired
from tests.sim.world import Report, World, run_seed

QUIET = Nature(volatility=0.0)
STARTED_SECONDS = 1.7  # the start is on the disk, and the first comparison is not through


def outcomes(report: Report) -> dict[str, Outcome]:
    return {f.signal_id: f.outcome for _, f in report.evidence.facts(Confirmed) if isinstance(f, Confirmed)}


@pytest.mark.parametrize("face", FACES)
def test_a_quiet_day_is_the_same_by_every_protocol(face: str) -> None:
    report = play(a_day, QUIET, face=face)
    assert not report.violations
    assert outcomes(report) == {
        "enter": Outcome.EXECUTED,
        "rest": Outcome.UNFILLED,
        "leave": Outcome.EXECUTED,
        "probe": Outcome.EXECUTED,
    }
    assert report.crashes == 0 and report.bare_max < 2


def test_a_world_by_a_protocol_is_the_same_again() -> None:
    seeds = [next(s for s in range(1, 100) if draw(s).face == face) for face in FACES]
    for seed in seeds:
        first, second = run_seed(seed), run_seed(seed)
        assert first.trace_hash == second.trace_hash
        assert first.truth.entries == second.truth.entries


def test_a_venue_is_by_its_own_rules_whatever_a_seed_draws() -> None:
    drawn = Nature(id_unique_for_ever=False, spot=True, fee_asset="third", reduce_only_ends_when_flat=True)
    assert suited(drawn, "bybit").id_unique_for_ever and suited(drawn, "bybit").fee_asset == "base"
    assert not suited(drawn, "binance-usdm").spot
    assert suited(Nature(), "binance-spot").spot and not suited(Nature(), "binance-spot").id_unique_for_ever
    assert suited(drawn, "memory") == drawn


@pytest.mark.parametrize("face", FACES)
def test_an_order_whose_answer_is_lost_is_found_by_its_id(face: str) -> None:
    """And stands once at the venue, whatever its rule on ids."""
    report = play(one_entry, QUIET, Faults(reply_lost=1.0, event_dropped=1.0), face=face)
    assert not report.violations
    taken = [t for t in report.truth if isinstance(t, Taken) and t.cid in entries(report)]
    assert len(taken) == 1 and outcomes(report)["enter"] is Outcome.EXECUTED
    assert any(isinstance(f, Unclear) for _, f in report.evidence.facts(Unclear))
    assert reached(report.evidence, report.truth)[f"{face}: doubt ended: the order was found"]


@pytest.mark.parametrize("face", FACES)
@pytest.mark.parametrize("done", [True, False])
def test_a_server_error_is_no_answer_whether_or_not_it_was_done(face: str, done: bool) -> None:
    faults = Faults(error_with_effect=1.0) if done else Faults(error_without_effect=1.0)
    report = play(one_entry, QUIET, faults, face=face)
    assert not report.violations
    taken = [t for t in report.truth if isinstance(t, Taken) and t.cid in entries(report)]
    assert len(taken) == (1 if done else 0)


def test_a_documented_failure_is_a_refusal_of_the_venue_in_its_own_story(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seed 204: twice USD-M's 503 that says that nothing was done, then no time was left; the order was called unsent,
    and the checker, whom nobody had told of the refusals, blamed the engine for the bytes that had left."""
    monkeypatch.setattr("tests.sim.faces.binance.DOUBTFUL", ())
    report = play(one_entry, QUIET, Faults(error_without_effect=1.0), face="binance-usdm")
    assert not report.violations
    assert outcomes(report)["enter"] is Outcome.REJECTED
    (refused,) = {t.cid for t in report.truth if isinstance(t, Declined)}
    wired = [t for t in report.truth if isinstance(t, Wired) and t.order.cid == refused]
    assert len(wired) == len([t for t in report.truth if isinstance(t, Declined)]) == 3


@pytest.mark.parametrize("face", FACES)
def test_pages_of_html_and_halves_of_answers_break_nothing(face: str) -> None:
    report = play(one_entry, QUIET, Faults(garbled=0.3), face=face)
    assert not report.violations
    assert len([t for t in report.truth if isinstance(t, Taken) and t.cid in entries(report)]) == 1


@pytest.mark.parametrize("face", FACES)
def test_a_status_that_nobody_knows_ends_no_order(face: str) -> None:
    report = play(one_entry, QUIET, Faults(odd_words=0.8), face=face)
    assert not report.violations
    assert report.truth.reached["a status that nobody knows"]
    assert outcomes(report)["enter"] is Outcome.EXECUTED


def test_an_execution_shown_before_its_order_is_our_own_all_the_same() -> None:
    """Found by seed 12 of Spot: asked for its order, Binance said -2013, and the fill was booked as a stranger's."""
    nature = replace(QUIET, latency_max=0.005)
    report = play(one_entry, nature, Faults(visible_max=15.0, event_dropped=1.0, reply_lost=1.0), face="binance-spot")
    assert not report.violations
    fills = [f for _, f in report.evidence.facts(Filled) if isinstance(f, Filled)]
    assert fills and not [f for f in fills if f.foreign]


def test_what_a_stranger_did_before_a_crash_in_the_first_comparison_is_booked_by_the_next_life() -> None:
    """Found by seed 3 of USD-M: a life that had no memory began where it was itself begun."""

    async def script(world: World) -> None:
        await trio.sleep(STARTED_SECONDS)
        assert world.venue.visited and world.life is not None
        world.venue.human_trades("BTCUSDT", Side.BUY, Decimal("0.01"))
        assert not world.disk.reader().positions("main")
        world.kill(world.life, "in the first comparison")
        await trio.sleep(60)

    report = play(script, replace(QUIET, latency_min=0.2, latency_max=0.3), Faults(disk_slow_max=0.1), face="bybit")
    assert report.crashes == 1 and not report.violations
    fills = [f for _, f in report.evidence.facts(Filled) if isinstance(f, Filled)]
    assert [f.exec_id for f in fills if f.foreign] == ["1"]


def test_a_target_on_spot_waits_with_us_and_one_sale_holds_the_coins() -> None:
    report = play(one_entry, QUIET, face="binance-spot")
    assert not report.violations
    held = [x for x in report.truth if isinstance(x, Held)]
    resting = [t for t in report.truth if isinstance(t, Taken) and t.side is Side.SELL and t.order_type.conditional]
    assert held and resting and not {h.cid for h in held} & {t.cid for t in resting}


def test_a_request_that_no_real_venue_would_take_fails_the_world(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gate checks signatures over the very bytes: an adapter that signs others would trade nowhere."""
    monkeypatch.setattr("tests.sim.faces.bybit.signature", lambda payload: "another")
    report = play(one_entry, QUIET, face="bybit")
    told = [x.why for x in report.truth if isinstance(x, Fell)]
    assert any("not signed" in why for why in told) and "FELL" in {v.invariant for v in report.violations}


def test_the_venue_tells_a_stamp_that_is_too_old_and_one_from_the_future() -> None:
    async def script(world: World) -> None:
        assert world.office is not None and isinstance(world.office.face, BybitFace)
        face = world.office.face
        assert face._late(Stamp(face.now_ms, 5000)) is None
        for stamp in (Stamp(face.now_ms - 5001, 5000), Stamp(face.now_ms - 2, 1), Stamp(face.now_ms + 1000, 5000)):
            late = face._late(stamp)
            assert late is not None and late[0] == 10002
        await trio.sleep(1)

    assert not play(script, QUIET, face="bybit").violations


def test_an_address_that_bybit_bans_opens_nothing_for_ten_minutes_and_still_closes() -> None:
    """HTTP 403 is for the address; an exit goes by the trade socket, which is not meant by it."""

    async def script(world: World) -> None:
        assert world.office is not None
        await trio.sleep(1)
        world.feed.offer("enter", entry(world, "enter"))
        await trio.sleep(3)
        face = world.office.face
        with pytest.MonkeyPatch.context() as barred:
            barred.setattr(face, "hear", lambda life, request: Response(403, b"<html>403</html>", (), "text/html"))
            await trio.sleep(20)
        world.feed.offer("barred", entry(world, "barred", "ETHUSDT", qty="0.100"))
        await trio.sleep(5)
        world.feed.offer("leave", {"signal_id": "leave", "account": "main", "symbol": "BTCUSDT", "action": "close"})
        await trio.sleep(640)

    report = play(script, QUIET, face="bybit")
    assert not report.violations
    assert outcomes(report) == {
        "enter": Outcome.EXECUTED,
        "barred": Outcome.REFUSED,
        "leave": Outcome.EXECUTED,
        "probe": Outcome.EXECUTED,
    }


@pytest.mark.parametrize("face", FACES)
def test_a_ban_with_its_deadline_is_obeyed_and_then_over(face: str) -> None:
    """418 and 429 by status, 10006 by code: each with until when, and until then nothing is sent."""

    async def script(world: World) -> None:
        await trio.sleep(2)
        world.venue.banned_until_ns = world.wall_ns() + 8 * SECOND
        await trio.sleep(1)
        world.feed.offer("enter", entry(world, "enter", ttl_seconds="30"))
        await trio.sleep(40)

    report = play(script, QUIET, Faults(disk_slow_max=0.1), face=face)
    assert not report.violations
    heard = [x for x in report.truth if isinstance(x, BanHeard)]
    assert heard and all(x.at_ns < x.until_ns <= x.at_ns + 12 * SECOND for x in heard)
    assert outcomes(report)["probe"] is Outcome.EXECUTED


@pytest.mark.parametrize("told", [True, False])
def test_a_lost_listen_key_costs_no_execution(told: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(world: World) -> None:
        assert world.office is not None and isinstance(world.office.face, UsdmFace)
        await trio.sleep(2)
        monkeypatch.setattr(world.office.face.chance, "random", lambda: 0.0 if told else 1.0)
        world.office.face._lose_key()
        await trio.sleep(1)
        world.venue.human_trades("BTCUSDT", Side.BUY, Decimal("0.01"))
        await trio.sleep(60)

    report = play(script, QUIET, Faults(disk_slow_max=0.1), face="binance-usdm")
    assert not report.violations
    assert report.truth.reached["a listen key was lost"] == 1
    fills = [f for _, f in report.evidence.facts(Filled) if isinstance(f, Filled) and f.foreign]
    assert len(fills) == 1


def entries(report: Report) -> set[str]:
    orders = (f.order for _, f in report.evidence.facts(Submitted) if isinstance(f, Submitted))
    return {order.cid for order in orders if order.leg is Leg.ENTRY and order.signal_id == "enter"}
