"""Every venue by its name. A new one is one module, and one line in VENUES."""

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Protocol

from msgspec import Struct

from engine.core.messages import Instrument
from engine.runtime.clock import Clock
from engine.venues.base import Venue
from engine.venues.link import LinkVenue
from engine.venues.paper import PaperTerms, PaperVenue


class Setup(Struct, frozen=True, kw_only=True):
    """Whatever a venue may need to be built; each takes what it knows and asserts what it cannot do without."""

    clock: Clock
    rng: Random
    instruments: tuple[Instrument, ...] = ()
    terms: PaperTerms | None = None
    store: Path | None = None
    host: str = "127.0.0.1"
    port: int = 0


class OpenVenue(Venue, Protocol):
    """A venue that its opener must close."""

    def close(self) -> None: ...


def _paper(setup: Setup) -> PaperVenue:
    assert setup.terms is not None, "a paper venue needs its terms"
    return PaperVenue(setup.instruments, setup.terms, setup.clock, setup.rng, setup.store)


def _link(setup: Setup) -> LinkVenue:
    assert setup.port, "a link needs the port where the venue listens"
    return LinkVenue(setup.host, setup.port, setup.clock)


VENUES: dict[str, Callable[[Setup], OpenVenue]] = {
    "paper": _paper,
    "link": _link,
}
