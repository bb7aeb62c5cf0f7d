"""`clear`: what stands at an account's venue is cancelled straight there, when no engine is left to be asked (P7).

An engine's own stop and flatten cancel one by one and never so: they leave the stops of what is still held, and what
others have placed in the account. This knows neither journal nor position; it takes the stops, too, and says so.
"""

from typing import Protocol, runtime_checkable

import trio
from msgspec import Struct

from actors.real import real_venue
from actors.wiring import AccountParts
from engine.core.messages import Acked, Answer, Cancel, Failed, OrderReport, PositionReport

REAL_SECONDS = 30.0  # for all that the venue is asked
AGAIN_SECONDS = 1.0  # an accepted cancel shows a little later


@runtime_checkable
class CancelsAll(Protocol):
    """An adapter whose venue takes one request for all orders of a symbol, whosever they are."""

    async def cancel_all(self, symbol: str) -> Answer: ...


class Cleared(Struct, frozen=True):
    """What came of it. `why` is empty when the venue has answered everything and nothing stands."""

    cancelled: tuple[str, ...]  # symbols
    left: tuple[OrderReport, ...]
    bare: tuple[PositionReport, ...]  # what is held, and has no stop any more
    why: str = ""


async def clear(account: AccountParts, symbol: str) -> Cleared:
    """All symbols when none is named. Asks until nothing stands, or the time is over; closes every connection."""
    found = Cleared((), (), (), f"no answer in {REAL_SECONDS:g} s")
    with trio.move_on_after(REAL_SECONDS):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(real_venue(account).run)
            found = await clear_by(account, symbol)
            nursery.cancel_scope.cancel()
    return found


async def clear_by(account: AccountParts, symbol: str) -> Cleared:
    venue, touched = account.venue, dict[str, None]()
    await venue.instruments()  # some know their orders better by it; where it fails, the rest is wanted all the more
    while True:
        standing = await venue.open_orders()
        if isinstance(standing, Failed):
            return Cleared(tuple(touched), (), (), standing.why)
        left = [order for order in standing if symbol in ("", order.symbol)]
        if not left:
            break
        for name in dict.fromkeys(order.symbol for order in left):
            answer = await _cancel(account, name, [order for order in left if order.symbol == name])
            if not isinstance(answer, Acked):
                return Cleared(tuple(touched), tuple(left), (), f"{name}: {answer}")
            touched[name] = None
        await trio.sleep(AGAIN_SECONDS)
    held = await venue.positions()
    if isinstance(held, Failed):
        return Cleared(tuple(touched), (), (), f"nothing stands, but the positions: {held.why}")
    return Cleared(tuple(touched), (), tuple(p for p in held if symbol in ("", p.symbol)))


async def _cancel(account: AccountParts, symbol: str, orders: list[OrderReport]) -> Answer:
    """The first that is not a yes. One that has ended meanwhile is none of those that stand at the next look."""
    venue = account.venue
    if isinstance(venue, CancelsAll):
        return await venue.cancel_all(symbol)
    for order in orders:
        await venue.cancel(Cancel(order.cid, order.symbol, order.venue_order_id))
    return Acked("")
