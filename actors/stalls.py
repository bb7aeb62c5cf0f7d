"""Watches the engine's own loop and journal; a stall of either closes entries for a while (SPEC RSK11)."""

from collections.abc import Callable

import trio

from actors.ports import World
from engine.core.breakers import Breakers
from engine.core.messages import Halt

EVERY_SECONDS = 0.05


async def stalls(breakers: Breakers, world: World, trip: Callable[[Halt], None]) -> None:
    """For ever. On a virtual clock the loop is never late; a slow journal is seen there, too."""
    clock, journal = world.clock, world.journal
    durable, since = -1, trio.current_time()
    while True:
        due = trio.current_time() + EVERY_SECONDS
        await trio.sleep_until(due)
        now = trio.current_time()
        if halt := breakers.loop(_ns(now - due), clock.now_ns()):
            trip(halt)
        stats = journal.stats()
        if stats.failed or stats.durable_seq >= stats.seq or stats.durable_seq != durable:
            durable, since = stats.durable_seq, now  # it moves, has nothing to do, or has a halt of its own
        elif halt := breakers.journal(durable, _ns(now - since), clock.now_ns()):
            trip(halt)


def _ns(seconds: float) -> int:
    return round(seconds * 1_000_000_000)
