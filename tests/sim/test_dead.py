"""One channel dies for ever: what still holds, by channel; and what the worlds found out about it."""

from decimal import Decimal

import pytest
import trio

from engine.core.blotter import follow
from engine.core.messages import Halted, Leg, OrderType
from tests.sim.dead import CHANNELS, died_ns
from tests.sim.faults import CHANNELS as DRAWN
from tests.sim.faults import DIES, Faults, Nature, draw
from tests.sim.scenarios import entry, one_entry, play
from tests.sim.truth import DiskBroke, Executed, Receipted, StopReported, Taken, Wired
from tests.sim.world import Report, World

LIVELY = Nature(volatility=0.0003)
QUIET = Nature(volatility=0.0)


def taken(report: Report) -> list[Taken]:
    return [x for x in report.truth if isinstance(x, Taken) and x.at_ns > died_ns(report.evidence)]


@pytest.mark.parametrize("channel", CHANNELS)
def test_without_a_channel_the_promises_that_can_hold_still_do(channel: str) -> None:
    for seed in (1, 2, 3):
        report = play(one_entry, LIVELY, seed=seed, dead=channel)
        assert not report.violations, (seed, report.violations)
        opened = [x for x in taken(report) if not x.reduce_only]
        assert bool(opened) == CHANNELS[channel].executes
        told = [x for x in report.truth if isinstance(x, StopReported)]
        assert len(told) == 1 and told[0].durable == (channel != "the disk")


def test_every_channel_is_drawn_and_most_worlds_lose_none() -> None:
    assert tuple(CHANNELS) == DRAWN
    drawn = [draw(seed).dead for seed in range(400)]
    assert set(drawn) == {"", *CHANNELS}
    assert 400 * (DIES - 0.1) < sum(map(bool, drawn)) < 400 * (DIES + 0.1)


def test_a_stop_that_is_never_answered_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    async def deaf(self: World, engine: object, flatten: bool, scope: str) -> None:
        pass

    monkeypatch.setattr(World, "_stop", deaf)
    report = play(one_entry, QUIET, dead="the source")
    assert [v.invariant for v in report.violations] == ["P7", "P7"]


def test_cover_that_is_not_kept_up_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    real = follow._protect

    def lazy(sheet: follow.Sheet, now_ns: int, tidy: bool) -> None:
        if not any(o.signal_id == "probe2" for o in (*sheet.orders.values(), *sheet.ended.values())):
            real(sheet, now_ns, tidy)

    monkeypatch.setattr(follow, "_protect", lazy)
    report = play(one_entry, QUIET, dead="the sink")
    assert any("with a channel dead" in v.text for v in report.violations)


def test_a_close_that_comes_again_and_again_while_the_journal_is_gone_harms_nobody() -> None:
    """Without the disk, seed 2: it was enacted twice under one id, the order actor fell, and could not be made anew
    from a journal that had failed: nobody looked after the position any more."""
    told: list[bool] = []

    async def script(world: World) -> None:
        await trio.sleep(1)
        world.feed.offer("enter", entry(world, "enter"))
        await trio.sleep(2)
        world.disk.full = True
        world.truth.tell(DiskBroke(world.wall_ns(), how="full"))
        world.feed.offer("leave", {"signal_id": "leave", "account": "main", "symbol": "BTCUSDT", "action": "close"})
        await trio.sleep(5)
        stop = next(o for o in world.venue.orders.values() if o.status == "open" and "STOP" in o.order_type.name)
        world.venue.cancel(stop.cid, "canceled by hand")
        await trio.sleep(5)
        assert world.engine is not None and world.life is not None
        assert [o for o in world.venue.orders.values() if o.status == "open" and o.order_type is OrderType.STOP_MARKET]
        told.append((await world.engine.operator.stop("op", "drill")).flat)

    report = play(script, QUIET, Faults(event_delay_max=0.001))
    assert not report.violations
    assert told == [True]
    busy = [x for x in report.truth if isinstance(x, Receipted) and x.signal_id == "leave" and x.status == "busy"]
    assert len(busy) > 5
    assert not [f for _, f in report.evidence.facts(Halted) if isinstance(f, Halted) and "invariant" in f.halt.reason]


@pytest.mark.parametrize("crashes", [0, 1])
def test_an_actor_that_falls_while_the_journal_is_gone_comes_back_and_protects(crashes: int) -> None:
    async def script(world: World) -> None:
        await trio.sleep(1)
        world.feed.offer("enter", entry(world, "enter"))
        await trio.sleep(2)
        world.disk.full = True
        world.truth.tell(DiskBroke(world.wall_ns(), how="full"))
        assert world.engine is not None
        if crashes:
            world.engine.desk.post("main", "BTCUSDT", object())  # nothing that an order actor understands
        await trio.sleep(5)
        for resting in [o for o in world.venue.orders.values() if o.status == "open"]:
            world.venue.cancel(resting.cid, "canceled by hand")
        await trio.sleep(20)

    report = play(script, QUIET, Faults(event_delay_max=0.001))
    assert {v.invariant for v in report.violations} <= ({"FELL"} if crashes else set())
    assert report.bare_max < 3
    closers = [x for x in report.truth if isinstance(x, Wired) and x.order.leg in (Leg.STOP, Leg.EXIT)]
    assert len(closers) > 1
    held = [x.position for x in report.truth if isinstance(x, Executed) and x.symbol == "BTCUSDT"]
    assert held[-1] == Decimal("0.0020")  # of the fresh signal in the calm; what was flattened before is flat
