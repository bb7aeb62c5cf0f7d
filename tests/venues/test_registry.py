"""Venues by name."""

from contextlib import closing
from random import Random

import pytest
from trio.testing import MockClock

from engine.core.messages import Failed
from engine.runtime.clock import virtual_clock
from engine.venues.registry import VENUES, Setup
from tests.venues.world import BTC, START_NS, TERMS


async def test_a_venue_is_built_from_its_name(autojump_clock: MockClock) -> None:
    setup = Setup(clock=virtual_clock(START_NS), rng=Random(1), instruments=(BTC,), terms=TERMS, port=1)
    with closing(VENUES["paper"](setup)) as venue:
        assert await venue.instruments() == (BTC,)
    with closing(VENUES["link"](setup)) as venue:
        assert isinstance(await venue.instruments(), Failed)  # nobody listens there


@pytest.mark.parametrize("name", ["paper", "link"])
async def test_a_venue_that_lacks_what_it_needs_says_so(name: str, autojump_clock: MockClock) -> None:
    with pytest.raises(AssertionError, match="needs"):
        VENUES[name](Setup(clock=virtual_clock(START_NS), rng=Random(1)))
