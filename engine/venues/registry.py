"""Every venue by its name. A new one is one module, and one line in VENUES.

A real venue has a line in REAL, in WORLDS (which of the venue's worlds a host is) and in THROTTLES (its rate limits).
"""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Protocol

from msgspec import Struct

from engine.core.messages import Failed, Instrument, InstrumentKind
from engine.runtime.clock import Clock
from engine.venues.admission import Remark
from engine.venues.base import Venue
from engine.venues.bybit import caller as bybit_caller
from engine.venues.bybit.client import BybitVenue
from engine.venues.bybit.hosts import hosts as bybit_hosts
from engine.venues.bybit.terms import BybitTerms
from engine.venues.keys import Credentials
from engine.venues.link import LinkVenue
from engine.venues.paper import PaperTerms, PaperVenue
from engine.venues.throttle import Throttle


class Setup(Struct, frozen=True, kw_only=True):
    """Whatever a venue may need to be built; each takes what it knows and asserts what it cannot do without."""

    clock: Clock
    rng: Random
    instruments: tuple[Instrument, ...] = ()
    terms: PaperTerms | None = None
    store: Path | None = None
    host: str = "127.0.0.1"
    port: int = 0
    # What a real venue needs beside clock, rng and host:
    kind: InstrumentKind = InstrumentKind.LINEAR
    credentials: Credentials | None = None
    throttle: Throttle | None = None
    symbols: tuple[str, ...] = ()
    order_socket: bool = True
    disconnect_cancel_seconds: int = 0


class OpenVenue(Venue, Protocol):
    """A venue that its opener must close."""

    def close(self) -> None: ...


class RealVenue(OpenVenue, Protocol):
    """A venue across a network: `run` it in a task, and look it over before it is traded with."""

    async def run(self) -> None:
        """Until cancelled; closes every connection then."""
        ...

    async def look_over(self, allow_withdrawal: bool) -> tuple[Remark, ...] | Failed: ...

    async def look_at_streams(self) -> tuple[Remark, ...]: ...


class World(Struct, frozen=True):
    """Which of a venue's worlds a host is: live, testnet, demo, or local; and where its public stream is."""

    environment: str
    public_stream: str


def _paper(setup: Setup) -> PaperVenue:
    assert setup.terms is not None, "a paper venue needs its terms"
    return PaperVenue(setup.instruments, setup.terms, setup.clock, setup.rng, setup.store)


def _link(setup: Setup) -> LinkVenue:
    assert setup.port, "a link needs the port where the venue listens"
    return LinkVenue(setup.host, setup.port, setup.clock)


def _bybit(setup: Setup) -> BybitVenue:
    assert setup.credentials is not None and setup.throttle is not None, "bybit needs credentials and a throttle"
    terms = BybitTerms(
        kind=setup.kind,
        hosts=bybit_hosts(setup.host),
        symbols=setup.symbols,
        order_socket=setup.order_socket,
        disconnect_cancel_seconds=setup.disconnect_cancel_seconds,
    )
    return BybitVenue(terms, setup.credentials, setup.throttle, setup.clock, setup.rng)


def _bybit_world(host: str, kind: InstrumentKind) -> World:
    found = bybit_hosts(host)
    return World(found.environment, found.public)


def _bybit_throttle(orders_per_second: int, kind: InstrumentKind, clock: Clock) -> Throttle:
    return Throttle(bybit_caller.limits(orders_per_second), clock, costs=bybit_caller.COSTS)


VENUES: dict[str, Callable[[Setup], OpenVenue]] = {
    "paper": _paper,
    "link": _link,
    "bybit": _bybit,
}
REAL: dict[str, Callable[[Setup], RealVenue]] = {"bybit": _bybit}
WORLDS: dict[str, Callable[[str, InstrumentKind], World]] = {"bybit": _bybit_world}  # raise Inadmissible
THROTTLES: dict[str, Callable[[int, InstrumentKind, Clock], Throttle]] = {"bybit": _bybit_throttle}
