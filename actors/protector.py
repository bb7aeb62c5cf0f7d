"""Looks after cover: sweeps every symbol that holds something, and calls out when a stop is missing too long.

Placing stops is the blotter's; this is the second pair of eyes that makes it look again, measures, and alerts. It also
has an eye on the market, and calls out when that has passed a stop and the position is still there.
"""

from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal

import trio
from msgspec import Struct

from actors.ports import World
from engine.core.messages import Alerted, Quote, Standing, Sweep
from engine.core.protection import TRIGGER_NS, Passed, passed

SWEEP_SECONDS = 10.0
LOOK_SECONDS = 1.0
READ_SECONDS = 0.02
BARE_MAX_NS = 2_000_000_000  # RELIABILITY I31


class Watched(Struct):
    """What the protector remembers of one symbol."""

    standing: Standing
    alerted_ns: int = 0
    passed: Passed = Passed()


async def protector(
    mailbox: trio.MemoryReceiveChannel[Standing],
    known: Iterable[Standing],
    sweep: Callable[[str, str, Sweep], None],
    quote: Callable[[str, str], Quote | None],
    world: World,
) -> None:
    """Until cancelled or the mailbox is closed. `known` is what stands when it is made (anew).

    `quote` is an account's own market in a symbol: None where another one is heard, which its stops do not go by.
    """
    watched: dict[tuple[str, str], Watched] = {}
    for standing in tuple(known):
        watch(standing, watched)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_sweeps, watched, sweep, quote, world)
        async for standing in mailbox:
            watch(standing, watched)
            await trio.sleep(READ_SECONDS)  # the next look is far off, and an order on its way should not wait for us
            for later in _waiting(mailbox):
                watch(later, watched)
        nursery.cancel_scope.cancel()


def _waiting(mailbox: trio.MemoryReceiveChannel[Standing]) -> Iterator[Standing]:
    try:
        while True:
            yield mailbox.receive_nowait()
    except (trio.WouldBlock, trio.EndOfChannel):
        return


def watch(standing: Standing, watched: dict[tuple[str, str], Watched]) -> None:
    """Keep only symbols with something to lose."""
    key = (standing.position.account, standing.position.symbol)
    if not standing.position.qty and not standing.live_orders:
        watched.pop(key, None)
    elif key in watched:
        if _stop(watched[key].standing) != _stop(standing):
            watched[key].passed = Passed()  # that was another one
        watched[key].standing = standing
    else:
        watched[key] = Watched(standing)


def _stop(standing: Standing) -> tuple[int, Decimal | None]:
    return standing.position.serial, standing.position.stop_loss


async def _sweeps(
    watched: dict[tuple[str, str], Watched],
    sweep: Callable[[str, str, Sweep], None],
    quote: Callable[[str, str], Quote | None],
    world: World,
) -> None:
    rounds = 0
    while True:
        await trio.sleep(LOOK_SECONDS)
        rounds += 1
        now = world.clock.now_ns()
        everything = rounds % int(SWEEP_SECONDS / LOOK_SECONDS) == 0
        for (account, symbol), seen in tuple(watched.items()):
            bare = bare_ns(seen.standing, now)
            if bare > BARE_MAX_NS and now - seen.alerted_ns > 60_000_000_000:
                seen.alerted_ns = now
                fact = Alerted(
                    at_ns=now,
                    account=account,
                    symbol=symbol,
                    severity="critical",
                    kind="unprotected",
                    text=f"{seen.standing.uncovered} without a stop for {bare / 1e9:.1f} s",
                )
                world.journal.append((fact,))
                world.observe((fact,))
            seen.passed = passed(seen.passed, seen.standing.position, quote(account, symbol), now)
            since = seen.passed.since_ns
            overdue = bool(since) and now - since >= TRIGGER_NS
            if everything or bare > BARE_MAX_NS or overdue:
                sweep(account, symbol, Sweep(at_ns=now, passed_ns=since if overdue else 0))


def bare_ns(standing: Standing, now_ns: int) -> int:
    """For how long the position has lacked full cover, in ns."""
    since = standing.position.uncovered_ns
    return now_ns - since if since and standing.uncovered else 0
