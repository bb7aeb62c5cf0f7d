"""A shipped adapter as one incarnation's venue, with the boundaries of its effects told to the world.

Nothing of the adapter is replaced: it is built by the registry, looked over as at a start, and connects to the office
of the world. What stands here only watches it, and ends it with its incarnation.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from random import Random
from typing import TypeVar

import trio

from actors.wiring import AccountParts
from engine.core.messages import (
    Acked,
    Answer,
    BalanceReport,
    Cancel,
    Failed,
    FillReport,
    FundingReport,
    Instrument,
    InstrumentKind,
    Limits,
    NotFound,
    Order,
    OrderReport,
    PositionReport,
    Rejection,
    Silence,
    VenueReport,
)
from engine.runtime.clock import Clock
from engine.runtime.config import AccountSection
from engine.runtime.log import Secret
from engine.venues.admission import Remark
from engine.venues.base import KeepsOrders
from engine.venues.binance.spot_cover import HELD
from engine.venues.keys import Credentials
from engine.venues.registry import REAL, THROTTLES, RealVenue, Setup
from engine.venues.throttle import Throttle
from tests.sim.faces.bybit import MANNERS as BYBIT
from tests.sim.faces.bybit import BybitFace
from tests.sim.faces.serve import Face, Office
from tests.sim.faces.spot import MANNERS as SPOT
from tests.sim.faces.spot import SpotFace
from tests.sim.faces.usdm import MANNERS as USDM
from tests.sim.faces.usdm import UsdmFace
from tests.sim.faces.words import KEY, SECRET
from tests.sim.faults import Nature
from tests.sim.truth import BanHeard, Held, Replied, Unreached, Wired
from tests.sim.venue import Life, Manners, SimVenue

T = TypeVar("T")
FACES: dict[str, tuple[str, Manners, Callable[[SimVenue, str], Face]]] = {
    "bybit": ("bybit", BYBIT, BybitFace),
    "binance-spot": ("binance", SPOT, SpotFace),
    "binance-usdm": ("binance", USDM, UsdmFace),
}


def manners(face: str) -> Manners:
    return FACES[face][1] if face in FACES else Manners()


def office(face: str, venue: SimVenue, seed: str) -> Office | None:
    if face not in FACES:
        return None
    return Office(venue, FACES[face][2](venue, seed), seed)


def section(face: str, nature: Nature, limits: Limits) -> AccountSection:
    """As the account would be configured."""
    return AccountSection(limits=limits, venue=FACES[face][0], category="spot" if nature.spot else "linear")  # type: ignore[arg-type]


def account(
    name: str, venue_name: str, face: str, office: Office, venue: SimVenue, life: Life, clock: Clock, rng: Random
) -> AccountParts:
    """The adapter and its throttle, as the registry makes them."""
    kind = InstrumentKind.SPOT if venue.nature.spot else InstrumentKind.LINEAR
    word = FACES[face][0]
    throttle = Watched(THROTTLES[word](10, kind, clock), venue, life).throttle
    adapter = REAL[word](
        Setup(
            clock=clock,
            rng=rng,
            host=office.net.host(life),
            kind=kind,
            credentials=Credentials(Secret(KEY), Secret(SECRET)),
            throttle=throttle,
            symbols=tuple(venue.markets),
            quote=venue.quote,
        )
    )
    return AccountParts(name, venue_name, FaceWire(adapter, venue, life, office.turns), throttle, None)


class Watched:
    """The throttle as it is, with an ear at its door: whatever pause the venue asks for, this life has heard of it."""

    def __init__(self, throttle: Throttle, venue: SimVenue, life: Life) -> None:
        self.throttle = throttle
        close_until = throttle.close_until

        def heard(at_ns: int, why: str = "", entries_only: bool = False) -> None:
            close_until(at_ns, why, entries_only)
            if not entries_only:
                venue.truth.tell(BanHeard(venue.wall_ns(), life=life.number, until_ns=at_ns))

        throttle.close_until = heard  # type: ignore[method-assign]


class FaceWire:
    """The engine's access to the venue, for one incarnation. Dead, it neither sends nor hears."""

    def __init__(self, adapter: RealVenue, venue: SimVenue, life: Life, turns: dict[tuple[int, str], int]) -> None:
        self.adapter, self._venue, self._life, self._turns = adapter, venue, life, turns
        self.traits = adapter.traits
        self.socket = getattr(adapter, "socket", None)

    def take_back(self, orders: Iterable[Order]) -> None:
        """What an adapter keeps itself it goes on keeping."""
        kept = tuple(orders)
        if isinstance(self.adapter, KeepsOrders):
            self.adapter.take_back(kept)
            for order in kept:
                if order.venue_order_id.startswith(HELD):
                    held = Held(self._venue.wall_ns(), cid=order.cid, life=self._life.number)
                    self._venue.truth.tell(held)

    async def run(self) -> None:
        await self.adapter.run()

    def close(self) -> None:
        self.adapter.close()

    async def look_over(self, allow_withdrawal: bool) -> tuple[Remark, ...] | Failed:
        return await self._living(await self.adapter.look_over(allow_withdrawal))

    async def look_at_streams(self) -> tuple[Remark, ...]:
        return await self.adapter.look_at_streams()

    async def instruments(self) -> tuple[Instrument, ...] | Failed:
        await self._boundary("query")
        return await self._living(await self.adapter.instruments())

    async def server_time_ns(self) -> int | Failed:
        await self._boundary("query")
        return await self._living(await self.adapter.server_time_ns())

    async def balances(self) -> tuple[BalanceReport, ...] | Failed:
        await self._boundary("query")
        return await self._living(await self.adapter.balances())

    async def positions(self) -> tuple[PositionReport, ...] | Failed:
        await self._boundary("query")
        return await self._living(await self.adapter.positions())

    async def open_orders(self) -> tuple[OrderReport, ...] | Failed:
        await self._boundary("query")
        return await self._living(await self.adapter.open_orders())

    async def order(self, symbol: str, cid: str) -> OrderReport | NotFound | Failed:
        await self._boundary("query")
        return await self._living(await self.adapter.order(symbol, cid))

    async def fills(self, since_ns: int, cid: str | None = None) -> tuple[FillReport | FundingReport, ...] | Failed:
        await self._boundary("query")
        return await self._living(await self.adapter.fills(since_ns, cid))

    async def submit(self, order: Order, on_wire: Callable[[], None]) -> Answer:
        venue, life = self._venue, self._life
        turn_ns = venue.wall_ns()
        wired = False

        def first_byte() -> None:
            nonlocal wired
            on_wire()
            wired = True
            venue.truth.tell(Wired(venue.wall_ns(), order=order, life=life.number, signed_ns=turn_ns))
            life.boundary("submit.signed")

        await self._boundary("submit.before")
        answer = await self._living(await self.adapter.submit(order, first_byte))
        if not wired and isinstance(answer, Rejection):
            venue.truth.tell(Unreached(venue.wall_ns(), order=order))
        if isinstance(answer, Silence):
            venue.truth.reach("timed out" if "in time" in answer.why else "in doubt")
        if wired:
            venue.truth.tell(Replied(venue.wall_ns(), cid=order.cid, kind=type(answer).__name__))
        if isinstance(answer, Acked) and answer.venue_order_id.startswith(HELD):
            venue.truth.tell(Held(venue.wall_ns(), cid=order.cid, life=life.number))
        await self._boundary("submit.answered")
        return answer

    async def cancel(self, cancel: Cancel) -> Answer:
        self._turns[self._life.number, cancel.cid] = self._venue.wall_ns()
        await self._boundary("cancel.before")
        answer = await self._living(await self.adapter.cancel(cancel))
        await self._boundary("cancel.answered")
        return answer

    def stream(self) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[VenueReport]]:
        return self.adapter.stream()

    async def _boundary(self, where: str) -> None:
        await self._living(None)
        self._life.boundary(where)
        await self._living(None)

    async def _living(self, answer: T) -> T:
        if not self._life.alive:
            await trio.sleep_forever()
        return answer
