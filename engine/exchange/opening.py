"""The whole exchange put together: houses, faces, admin. Who calls it brings the market, the clock and the ports."""

from collections.abc import Iterable, Iterator
from decimal import Decimal
from random import Random

from msgspec.structs import replace

from engine.core.messages import Instrument, InstrumentKind
from engine.exchange.admin import Admin
from engine.exchange.binance.spot_routes import spot_face
from engine.exchange.binance.usdm_routes import usdm_face
from engine.exchange.bybit.sockets import Bybit
from engine.exchange.house import listings_of, open_house
from engine.exchange.server import Exchange
from engine.exchange.terms import ExchangeTerms
from engine.market import synthetic
from engine.market.events import MarketEvent
from engine.runtime.clock import Clock


def open_exchange(terms: ExchangeTerms, instruments: Iterable[Instrument], clock: Clock) -> Exchange:
    """`instruments` are spot and linear ones by the names that clients use."""
    listed = listings_of(instruments)
    spot = [listing for listing in listed if listing.category == "spot"]
    linear = [listing for listing in listed if listing.category == "linear"]
    faces = (
        Bybit(open_house("bybit", listed, terms, "Y", "ever"), terms),
        spot_face(open_house("binance-spot", spot, terms, "S", "open"), terms),
        usdm_face(open_house("binance-usdm", linear, terms, "F", "open"), terms),
    )
    exchange = Exchange(faces, clock)
    exchange.admin = Admin(exchange)
    return exchange


def both_kinds(instruments: Iterable[Instrument]) -> tuple[Instrument, ...]:
    """Each also as the other kind, so that one tape serves spot and futures."""
    return tuple(_pairs(tuple(instruments)))


def still(instruments: Iterable[Instrument], at_ns: int) -> Iterator[MarketEvent]:
    """A market that stands where the synthetic one begins, until the admin moves it."""
    return synthetic.events(Random(1), tuple(instruments), at_ns, seconds=0)


def _pairs(instruments: tuple[Instrument, ...]) -> Iterator[Instrument]:
    for instrument in instruments:
        yield instrument
        spot = instrument.kind is InstrumentKind.SPOT
        kind = InstrumentKind.LINEAR if spot else InstrumentKind.SPOT
        usual = next((i for i in synthetic.instruments(kind) if i.symbol == instrument.symbol), None)
        yield usual or replace(instrument, kind=kind, leverage_max=Decimal(20 if spot else 1))
