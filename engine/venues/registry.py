"""Every venue by its name. A new one is one module, and one line in VENUES.

A real venue has a line in REAL, in WORLDS (which of the venue's worlds a host is) and in THROTTLES (its rate limits).
"""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Literal, Protocol

from msgspec import Struct

from engine.core.messages import Failed, Instrument, InstrumentKind
from engine.runtime.clock import Clock
from engine.venues.admission import Inadmissible, Remark
from engine.venues.base import QuoteSource, Venue
from engine.venues.binance.api import COSTS as BINANCE_COSTS
from engine.venues.binance.api import Api
from engine.venues.binance.api import limits as binance_limits
from engine.venues.binance.errors import Market
from engine.venues.binance.hosts import hosts as binance_hosts
from engine.venues.binance.spot import SpotVenue
from engine.venues.binance.spot import Terms as SpotTerms
from engine.venues.binance.usdm import Terms as UsdmTerms
from engine.venues.binance.usdm import UsdmVenue
from engine.venues.bybit import caller as bybit_caller
from engine.venues.bybit.client import BybitVenue
from engine.venues.bybit.hosts import hosts as bybit_hosts
from engine.venues.bybit.terms import BybitTerms
from engine.venues.ccxt.client import CcxtVenue
from engine.venues.ccxt.hosts import environment as ccxt_environment
from engine.venues.ccxt.terms import COSTS as CCXT_COSTS
from engine.venues.ccxt.terms import CcxtTerms
from engine.venues.ccxt.terms import limits as ccxt_limits
from engine.venues.keys import Credentials, Secret
from engine.venues.link import LinkVenue
from engine.venues.paper import PaperTerms, PaperVenue
from engine.venues.rest import Rest
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
    leverage: int = 0  # to be set at the start; 0: left as it is
    margin: Literal["", "isolated", "crossed"] = ""
    exchange: str = ""  # ccxt: its name there
    foreign: dict[str, Secret] = {}  # ccxt: what it signs with, by our words for it; ours are in `credentials`
    poll_seconds: float = 2.0  # ccxt
    quote: QuoteSource = lambda symbol: None  # the market, where a venue lacks an order type that it stands in for


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
    public_rest: str = ""  # where the stream's snapshots come from, if not from the stream itself


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
        leverage=setup.leverage,
    )
    return BybitVenue(terms, setup.credentials, setup.throttle, setup.clock, setup.rng, setup.quote)


def _bybit_world(host: str, kind: InstrumentKind) -> World:
    found = bybit_hosts(host)
    return World(found.environment, found.public)


def _bybit_throttle(orders_per_second: int, kind: InstrumentKind, clock: Clock) -> Throttle:
    return Throttle(bybit_caller.limits(orders_per_second), clock, costs=bybit_caller.COSTS)


def _binance(setup: Setup) -> SpotVenue | UsdmVenue:
    assert setup.credentials is not None and setup.throttle is not None, "binance needs credentials and a throttle"
    market = BINANCE_MARKETS[setup.kind]
    found = binance_hosts(market, setup.host)
    api = Api(market, Rest(found.rest, setup.clock), setup.credentials, setup.throttle, setup.clock)
    if market is Market.SPOT:
        if setup.disconnect_cancel_seconds:
            raise Inadmissible("Binance Spot cancels nothing when we are gone: disconnect_cancel_seconds must be 0")
        spot_terms = SpotTerms(hosts=found, symbols=setup.symbols, order_socket=setup.order_socket)
        return SpotVenue(spot_terms, api, setup.rng, setup.quote)
    usdm_terms = UsdmTerms(
        hosts=found,
        symbols=setup.symbols,
        order_socket=setup.order_socket,
        leverage=setup.leverage,
        margin=MARGINS[setup.margin],
        countdown_seconds=setup.disconnect_cancel_seconds,
    )
    return UsdmVenue(usdm_terms, api, setup.rng, setup.quote)


def _binance_world(host: str, kind: InstrumentKind) -> World:
    found = binance_hosts(BINANCE_MARKETS[kind], host)
    return World(found.environment, found.stream, found.rest)


def _binance_throttle(orders_per_second: int, kind: InstrumentKind, clock: Clock) -> Throttle:
    return Throttle(binance_limits(BINANCE_MARKETS[kind], orders_per_second), clock, costs=BINANCE_COSTS)


def _ccxt(setup: Setup) -> CcxtVenue:
    assert setup.throttle is not None, "ccxt needs a throttle"
    terms = CcxtTerms(
        exchange=setup.exchange,
        kind=setup.kind,
        host=setup.host,
        credentials=setup.foreign,
        symbols=setup.symbols,
        poll_seconds=setup.poll_seconds,
        leverage=setup.leverage,
    )
    return CcxtVenue(terms, setup.throttle, setup.clock)


def _ccxt_world(host: str, kind: InstrumentKind) -> World:
    return World(ccxt_environment(host), "")


def _ccxt_throttle(orders_per_second: int, kind: InstrumentKind, clock: Clock) -> Throttle:
    return Throttle(ccxt_limits(orders_per_second), clock, costs=CCXT_COSTS)


BINANCE_MARKETS = {InstrumentKind.SPOT: Market.SPOT, InstrumentKind.LINEAR: Market.USDM}
MARGINS: dict[str, Literal["", "ISOLATED", "CROSSED"]] = {"": "", "isolated": "ISOLATED", "crossed": "CROSSED"}
VENUES: dict[str, Callable[[Setup], OpenVenue]] = {
    "paper": _paper,
    "link": _link,
    "bybit": _bybit,
    "binance": _binance,
    "ccxt": _ccxt,
}
REAL: dict[str, Callable[[Setup], RealVenue]] = {"bybit": _bybit, "binance": _binance, "ccxt": _ccxt}
WORLDS: dict[str, Callable[[str, InstrumentKind], World]] = {  # raise Inadmissible
    "bybit": _bybit_world,
    "binance": _binance_world,
    "ccxt": _ccxt_world,
}
THROTTLES: dict[str, Callable[[int, InstrumentKind, Clock], Throttle]] = {
    "bybit": _bybit_throttle,
    "binance": _binance_throttle,
    "ccxt": _ccxt_throttle,
}
