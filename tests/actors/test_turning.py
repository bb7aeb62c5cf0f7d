"""Signals that turn a position round faster than the venue answers: cover follows, and nothing is closed for it."""

import trio
from msgspec.structs import replace

from engine.core.messages import Alerted, Covered, FlattenAsked, Rejected, Uncovered
from tests.actors.world import LIMITS, TERMS, D, buy, house

SLOW = replace(TERMS, latency_ms=(2.0, 150.0), stream_latency_ms=(2.0, 80.0))
QUICK = replace(LIMITS, orders_per_second=1000, orders_per_minute=100_000)


def turn(n: int) -> dict[str, object]:
    buys = n % 2 == 0
    return buy(
        f"t{n}",
        side="buy" if buys else "sell",
        qty="0.1" if n == 0 else "0.2",
        stop_loss="49500" if buys else "50500",
        take_profit="51000" if buys else "49000",
    )


async def test_a_position_that_turns_faster_than_its_stops_are_answered_is_covered_soon(autojump_clock: object):
    """`bench sustained` at twice the wanted rate: stops came to a position that had turned at the venue, and each such
    refusal held up the next stop; after three the position was closed. Bare for seconds."""
    async with house(SLOW, QUICK) as home:
        for n in range(200):
            await home.hand.post(turn(n), lambda receipt: None)
            await trio.sleep(0.06)
        await home.at_rest()
        refused = [r for r in home.facts(Rejected) if r.kind != "triggered"]
        assert len(refused) > 20, "the story is about refused stops"
        assert not home.facts(FlattenAsked)
        assert not [a for a in home.facts(Alerted) if a.severity == "critical"]
        exposed = sorted(c.exposed_ns / 1e9 for c in home.facts(Covered))
        assert exposed[-1] < 0.5, exposed[-5:]
        assert len(exposed) == len(home.facts(Uncovered)), "what was bare until it turned counts, too"
        assert home.covered() and home.held() and home.books() == []
        assert abs(home.held()) == D("0.1")
