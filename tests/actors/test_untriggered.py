"""A stop that stands at the venue and does nothing when the market passes it: noticed, proven, and closed for."""

import pytest
import trio
from msgspec.structs import replace

from actors.wiring import Parts
from engine.core.messages import Alerted, FlattenAsked, Leg, TradeClosed
from engine.core.protection import TRIGGER_NS
from engine.core.times import SECOND
from engine.venues.paper import Faults
from tests.actors.world import House, buy, house

BEYOND = "49400"  # of a stop at 49500
AT_WORK_SECONDS = TRIGGER_NS / SECOND
FOUND_OUT_SECONDS = AT_WORK_SECONDS + 3.5  # two looks at the market, one at the stop, and the cancel


async def entered(home: House, **changes: object) -> None:
    await home.hand.send(buy(**changes))
    await home.until(home.covered)
    await home.at_rest()


def dead_triggers(home: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is traded, no conditional order of this venue is set off."""
    monkeypatch.setattr(home.venue.matching, "_trigger", lambda pit, symbol: None)


def alarms(home: House) -> list[str]:
    return [fact.text for fact in home.facts(Alerted) if fact.severity == "critical"]


@pytest.mark.parametrize("side", ["buy", "sell"])
async def test_a_venue_whose_triggers_are_dead_is_found_out_and_the_position_is_closed_once(
    side: str, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with house() as home:
        await entered(home, **({} if side == "buy" else {"side": side, "stop_loss": "50500", "take_profit": "49000"}))
        dead_triggers(home, monkeypatch)
        home.move(BEYOND if side == "buy" else "50600")
        await trio.sleep(AT_WORK_SECONDS)
        assert home.covered() and not home.facts(FlattenAsked), "its report may be late as long as that"
        await home.until(lambda: not home.held(), FOUND_OUT_SECONDS - AT_WORK_SECONDS)
        await home.at_rest()
        (asked,) = home.facts(FlattenAsked)
        assert asked.cause == "engine" and "did nothing" in asked.reason
        assert len(home.at_venue(Leg.EXIT)) == 1 and len(home.facts(TradeClosed)) == 1
        assert [text for text in alarms(home) if "covered nothing" in text] == alarms(home) != []
        assert not home.at_venue(status="open") and len(home.at_venue(Leg.STOP)) == 1
        assert home.books() == []


async def test_a_market_that_comes_back_in_time_closes_nothing(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a dead trigger there is no proof then; the next time counts from anew."""
    async with house() as home:
        await entered(home)
        dead_triggers(home, monkeypatch)
        for _ in range(4):
            home.move(BEYOND)
            await trio.sleep(AT_WORK_SECONDS)
            home.move("49600")
            await trio.sleep(2)
        assert home.held() and not home.facts(FlattenAsked) and not alarms(home)


async def test_stale_quotes_close_nothing(autojump_clock: object, monkeypatch: pytest.MonkeyPatch) -> None:
    async with house() as home:
        await entered(home)
        dead_triggers(home, monkeypatch)
        home.quoting = False
        home.move(BEYOND)  # the last that is heard
        await trio.sleep(120)
        assert home.held() and not home.facts(FlattenAsked) and not alarms(home)
        home.quoting = True
        await home.until(lambda: not home.held(), FOUND_OUT_SECONDS)


async def test_a_stop_that_was_executed_and_of_which_nobody_tells_is_found_by_the_look_and_nothing_is_closed_for_it(
    autojump_clock: object,
) -> None:
    """Neither the stream nor a round of comparisons tells of it."""
    async with house() as home:
        await entered(home)
        home.venue.faults = Faults(dropped_reports=1.0)
        home.venue.unreadable = ("open_orders", "positions")
        home.move(BEYOND)
        assert not home.held()
        await home.until(lambda: home.facts(TradeClosed), AT_WORK_SECONDS + 2)
        assert not home.facts(FlattenAsked) and not alarms(home)
        assert len(home.at_venue(Leg.EXIT)) == 0
        home.venue.unreadable = ()
        await home.until(lambda: not home.books())


async def test_the_market_of_another_venue_says_nothing_of_a_stop(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prices differ from venue to venue: what is heard elsewhere closes nothing here."""
    async with house(start=False) as home:
        parts = home.parts
        monkeypatch.setattr(home, "parts", lambda: _heard_elsewhere(parts()))
        await home.start()
        await entered(home)
        dead_triggers(home, monkeypatch)
        home.move(BEYOND)
        await trio.sleep(120)
        assert home.held() and not home.facts(FlattenAsked) and not alarms(home)


def _heard_elsewhere(parts: Parts) -> Parts:
    return replace(parts, accounts=tuple(replace(account, own_market=False) for account in parts.accounts))
