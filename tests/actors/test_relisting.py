"""A venue that changes an instrument's rules while the engine runs: what is sent afterwards has the new steps."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import trio
from msgspec.structs import replace

from engine.core.messages import Alerted, Failed, Instrument, Leg, Outcome
from engine.core.money import on_step
from tests.actors.world import ACCOUNT, BTC, D, House, buy, house

PAUSE_SECONDS = 180.0  # instead of an hour, of which every half second is lived through


def changed(home: Any) -> list[str]:
    return [fact.text for fact in home.facts(Alerted) if fact.kind == "instrument_changed"]


@asynccontextmanager
async def listed() -> AsyncIterator[House]:
    async with house(start=False) as home:
        home.relist_seconds = PAUSE_SECONDS
        await home.start()
        yield home


def relist(home: Any, **more: Any) -> Instrument:
    now = replace(BTC, **more)
    home.venue.matching.instruments["BTCUSDT"] = now
    return now


async def test_after_a_change_of_steps_entries_and_stops_have_the_new_ones(autojump_clock: object) -> None:
    async with listed() as home:
        assert (await home.hand.send(buy("s1"))).status == "accepted"
        await home.at_rest()
        now = relist(home, tick=D("5"), lot=D("0.02"), qty_min=D("0.02"))
        await trio.sleep(PAUSE_SECONDS + 1)
        assert home.engine.instrument(ACCOUNT, "BTCUSDT") == now
        (told,) = changed(home)
        assert "tick 0.1 -> 5" in told and "lot 0.001 -> 0.02" in told
        before = {o.cid for o in home.at_venue()}
        assert (await home.hand.send(buy("s2"))).status == "accepted"
        await home.at_rest()
        assert [c.outcome for c in home.confirmed("s2")] == [Outcome.EXECUTED]
        sent = [o for o in home.at_venue() if o.cid not in before]
        assert {o.status for o in sent} <= {"open", "filled"}, "refused for its steps"
        assert all(on_step(o.qty, now.lot) for o in home.at_venue(Leg.ENTRY) if o.cid not in before)
        assert all(on_step(o.trigger_price, now.tick) for o in sent if o.trigger_price is not None)
        assert home.covered() and home.books() == []


async def test_a_list_that_cannot_be_read_changes_nothing_and_is_asked_for_again(autojump_clock: object) -> None:
    async with listed() as home:
        good, home.venue.instruments = home.venue.instruments, _fails
        now = relist(home, tick=D("0.5"))
        await trio.sleep(PAUSE_SECONDS + 1)
        assert home.engine.instrument(ACCOUNT, "BTCUSDT") == BTC
        home.venue.instruments = good
        await trio.sleep(61)
        assert home.engine.instrument(ACCOUNT, "BTCUSDT") == now


async def _fails() -> Failed:
    await trio.lowlevel.checkpoint()
    return Failed("the venue is busy")


async def test_a_symbol_that_is_no_longer_listed_is_still_protected_and_closed(autojump_clock: object) -> None:
    async with listed() as home:
        await home.hand.send(buy("s1"))
        await home.at_rest()
        whole = home.venue.instruments

        async def without() -> Any:
            return tuple(i for i in await whole() if i.symbol != "BTCUSDT")

        home.venue.instruments = without
        await trio.sleep(PAUSE_SECONDS + 1)
        assert ["no longer lists it" in text for text in changed(home)] == [True]
        assert home.covered()
        await home.engine.operator.flatten("ann", "enough", ACCOUNT, None)
        await home.until(lambda: not home.held())


async def test_another_instrument_under_an_old_name_is_not_taken_for_it(autojump_clock: object) -> None:
    async with listed() as home:
        await home.hand.send(buy("s1"))
        await home.at_rest()
        relist(home, quote="USDC")
        await trio.sleep(PAUSE_SECONDS + 1)
        assert home.engine.instrument(ACCOUNT, "BTCUSDT") == BTC
        assert ["another instrument" in text for text in changed(home)] == [True]
