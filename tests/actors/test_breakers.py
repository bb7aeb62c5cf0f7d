"""The engine's own breakers in a whole engine: a storm of rejections, a journal that stalls, a loop that stands."""

import time

import trio

from actors.ports import World
from actors.stalls import stalls
from actors.web import health
from engine.core.breakers import Breakers, OwnTerms, StallTerms
from engine.core.messages import Alerted, Halt, Leg, Outcome, Rejection, Submitted
from engine.core.times import SECOND
from engine.runtime.clock import live_clock
from engine.runtime.config import default_config
from engine.runtime.journal.base import Stats
from tests.actors.world import ACCOUNT, House, buy, close, house

NO_MONEY = Rejection("110007", "insufficient", "not enough")


def in_force(home: House) -> list[tuple[str, str]]:
    return [(halt.scope, halt.by) for halt in home.engine.world.switch.halts()]


async def storm(home: House, first: int = 0) -> None:
    home.venue.says = NO_MONEY
    for n in range(first, first + 5):
        assert (await home.hand.send(buy(f"r{n}"))).status == "accepted"
        await home.at_rest()
    home.venue.says = None


async def test_a_storm_of_rejections_halts_its_symbol_alone_and_the_way_back_is_a_minute(autojump_clock: object):
    async with house() as home:
        await storm(home)
        assert in_force(home) == [(f"symbol/{ACCOUNT}/BTCUSDT", "breaker/rejects/insufficient")]
        closed = trio.current_time()
        refused = await home.hand.send(buy("s1"))
        assert refused.status == "refused" and refused.row is not None
        failed = [check for check in refused.row.checks if not check.passed]
        assert [check.rule for check in failed] == ["RSK11.halt"] and "5 entries rejected" in failed[0].reason
        other = buy("s2", symbol="ETHUSDT", stop_loss="2480", take_profit="2550", qty="1")
        assert (await home.hand.send(other)).status == "accepted"
        await home.until(lambda: not in_force(home))
        assert 58 <= trio.current_time() - closed <= 61
        assert (await home.hand.send(buy("s3"))).status == "accepted"
        await home.at_rest()
        assert home.covered() and home.held() and home.books() == []
        assert [a.text for a in home.facts(Alerted) if a.kind == "reject_storm"] != []


async def test_under_a_storms_halt_a_position_is_still_closed(autojump_clock: object):
    async with house() as home:
        assert (await home.hand.send(buy("s1"))).status == "accepted"
        await home.at_rest()
        await storm(home)
        assert (await home.hand.send(close("s2"))).status == "accepted"
        await home.at_rest()
        assert not home.held() and home.books() == []


async def test_while_the_journal_stalls_no_entry_goes_out_and_afterwards_they_do(autojump_clock: object):
    async with house() as home:
        home.disk.latency = lambda: 6.0
        before = len(home.at_venue())
        await home.hand.post(buy("late"), lambda receipt: None)
        await home.until(lambda: ("engine", "breaker/journal") in in_force(home), seconds=2.5)
        found = health(home.engine, default_config(None, None))
        assert not found.entry_ready and found.live
        (part,) = (c for c in found.components if c.name == "stalls")
        assert not part.ok and part.detail.startswith("1; the last: the journal has made nothing durable for 2,0")
        home.disk.latency = lambda: 0.001
        await home.until(lambda: home.confirmed("late"))
        assert [c.outcome for c in home.confirmed("late")] == [Outcome.FAILED]
        assert "made nothing durable for 2,0" in home.confirmed("late")[0].reason
        assert len(home.at_venue()) == before
        await home.until(lambda: not in_force(home))
        assert (await home.hand.send(buy("s1"))).status == "accepted"
        await home.at_rest()
        assert home.covered() and home.held() and home.books() == []
        assert len([a for a in home.facts(Alerted) if a.kind == "engine_stall"]) == 1
        assert home.engine.parts.tally.snapshot().alerts["critical/engine_stall"] == 1
        found = health(home.engine, default_config(None, None))
        assert found.entry_ready and all(c.ok for c in found.components)


async def test_the_stop_of_a_position_passes_the_halt_of_a_stall(autojump_clock: object):
    """Filled just before the disk gets slow: the stop waits for its intent, not for the halt's end."""
    async with house() as home:

        def slow(order: object) -> None:
            home.venue.when_sent = None
            home.disk.latency = lambda: 5.0

        home.venue.when_sent = slow
        await home.hand.send(buy("s1"))
        await home.until(lambda: ("engine", "breaker/journal") in in_force(home), seconds=15)
        home.disk.latency = lambda: 0.001
        await home.until(lambda: home.held() and home.covered(), seconds=15)
        assert ("engine", "breaker/journal") in in_force(home)
        await home.at_rest()
        assert home.at_venue(Leg.STOP, "open") and home.books() == []
        assert all(s.order.leg is not Leg.ENTRY or s.order.signal_id == "s1" for s in home.facts(Submitted))


class _Sound:
    """A journal that is never behind."""

    def stats(self) -> Stats:
        return Stats(seq=1, durable_seq=1)


async def test_a_loop_that_is_blocked_is_noticed_by_how_late_it_is() -> None:
    """On the real clock: whatever the machine does meanwhile can only make it later."""
    terms = OwnTerms(stalls=StallTerms(loop_ns=SECOND // 4))
    world = _world()
    halts: list[Halt] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stalls, Breakers(terms), world, halts.append)
        await trio.sleep(0.01)
        time.sleep(0.4)  # noqa: ASYNC251 (that is the point)
        with trio.fail_after(30):
            while not halts:  # noqa: ASYNC110
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert halts[0].scope == "engine" and halts[0].by == "breaker/loop"


def _world() -> World:
    unused: object = None
    return World("test", live_clock(), _Sound(), unused, unused, unused, unused, unused)  # type: ignore[arg-type]
