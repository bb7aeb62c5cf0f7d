"""The private stream of one account: connect, pass every event on at once, and settle the books beside it.

The one place that reconnects and backs off. Folding is by execution id and in any order, so what the stream and the
snapshot both tell counts once, and a fill need not wait for a snapshot. The stream counts as up, and entries may open,
only when a round of reconciliation has passed since it was connected.
"""

from collections.abc import Awaitable, Callable

import trio

from actors.ports import Account, World
from engine.core.messages import StreamState, VenueReport
from engine.venues.base import StreamDown

BACKOFF_SECONDS = (0.1, 0.5, 1.0, 2.0, 5.0)


async def listener(
    account: Account,
    deliver: Callable[[str, str, VenueReport], None],
    settle: Callable[[], Awaitable[bool]],
    state: Callable[[StreamState], None],
    world: World,
) -> None:
    """For ever. `settle` is one round of reconciliation; the stream counts as up once one has passed."""
    failures = 0
    while True:
        why, settled = "the stream ended", trio.Event()
        try:
            async with account.venue.stream() as events, trio.open_nursery() as nursery:
                nursery.start_soon(_settle, account, settle, state, settled, world)
                async for report in events:
                    deliver(account.name, report.symbol, report)
                nursery.cancel_scope.cancel()
        except* StreamDown as down:
            why = str(down.exceptions[0])
        finally:
            state(StreamState(account.name, False, world.clock.now_ns(), why))
        failures = 0 if settled.is_set() else failures
        wait = BACKOFF_SECONDS[min(failures, len(BACKOFF_SECONDS) - 1)]
        failures += 1
        await trio.sleep(wait * world.rng.uniform(0.75, 1.25))


async def _settle(
    account: Account,
    settle: Callable[[], Awaitable[bool]],
    state: Callable[[StreamState], None],
    settled: trio.Event,
    world: World,
) -> None:
    """Until a round has passed; a query that fails is no reason to leave a stream that works."""
    rounds = 0
    while not await settle():
        await trio.sleep(BACKOFF_SECONDS[min(rounds, len(BACKOFF_SECONDS) - 1)] * world.rng.uniform(0.75, 1.25))
        rounds += 1
    settled.set()
    state(StreamState(account.name, True, world.clock.now_ns()))
