"""Money that its owner moves is booked as that: no loss, no gain, once, and no riddle that stays."""

import pytest
import trio

from engine.core.messages import Alerted, Transferred
from tests.actors.world import D, House, buy, house


def halts(home: House) -> list[str]:
    return [halt.by for halt in home.engine.world.switch.halts()]


def booked(home: House) -> list[tuple[str, str]]:
    return [(fact.transfer_id, str(fact.amount)) for fact in home.facts(Transferred)]


@pytest.mark.parametrize("listed_late", [False, True])
async def test_a_large_withdrawal_halts_nothing_and_is_booked_once_over_a_restart(
    autojump_clock: object, listed_late: bool
) -> None:
    async with house() as home:
        assert (await home.hand.send(buy("s1"))).status == "accepted"
        await home.at_rest()
        home.venue.unreadable = ("transfers",) if listed_late else ()
        home.venue.move("USDT", "-60000")
        await trio.sleep(60)
        home.venue.unreadable = ()
        await trio.sleep(60)
        assert booked(home) == [("t0", "-60000")] and halts(home) == []
        await home.stop()
        await home.start()
        await trio.sleep(200)
        assert booked(home) == [("t0", "-60000")] and halts(home) == []
        assert (await home.hand.send(buy("s2"))).status == "accepted"
        await home.at_rest()
        assert home.books() == [] and [f for f in home.facts(Alerted) if f.kind == "balance"] == []


async def test_a_withdrawal_while_the_engine_was_away_is_no_loss_when_it_comes_back(autojump_clock: object) -> None:
    async with house() as home:
        await trio.sleep(15)
        await home.stop()
        await trio.sleep(100)
        home.venue.move("USDT", "-60000")
        await trio.sleep(100)
        await home.start()
        await trio.sleep(300)
        assert booked(home) == [("t0", "-60000")] and halts(home) == []
        assert (await home.hand.send(buy("s1"))).status == "accepted"


@pytest.mark.parametrize("amount", ["30000", "-30000"])
async def test_what_is_moved_in_the_very_moment_of_a_restart_is_no_loss_either(
    amount: str, autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the venue's list was asked for, and before the wallet was: the wallet had it, and the list came later."""
    async with house() as home:
        await trio.sleep(15)
        await home.stop()
        ask = home.venue.balances

        async def moved_before() -> object:
            monkeypatch.setattr(home.venue, "balances", ask)
            home.venue.move("USDT", amount)
            return await ask()

        monkeypatch.setattr(home.venue, "balances", moved_before)
        await home.start()
        await trio.sleep(300)
        assert booked(home) == [("t0", amount)] and halts(home) == []
        assert (await home.hand.send(buy("s1"))).status == "accepted"


async def test_what_is_gone_and_written_down_nowhere_is_a_loss_and_told(autojump_clock: object) -> None:
    async with house() as home:
        await trio.sleep(15)
        home.venue.matching.account.transfer("USDT", D(-60000))
        await trio.sleep(40)
        assert halts(home) == []
        refused = await home.hand.send(buy("s1"))
        assert refused.status == "refused" and "RSK5.drawdown" in str(refused.row), "doubt opens nothing"
        await trio.sleep(200)
        assert halts(home) == ["risk/RSK5.drawdown"]
        (alert,) = [f for f in home.facts(Alerted) if f.kind == "balance"]
        assert "-60000 USDT" in alert.text
