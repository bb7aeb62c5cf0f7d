"""The paper venue's memory, damaged: what it says is true (or a true beginning of it), or StoreDamaged."""

from contextlib import closing

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from engine.core.messages import OrderType, Side
from engine.core.money import use_exact_context
from engine.venues.store import StoreDamaged
from tests.fuzz import fuzzed
from tests.fuzz.wrongs import damaged
from tests.venues.world import START_NS, D, buy, nothing, paper, show


@pytest.fixture(scope="module")
def memory(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, bytes]:
    """The file of a venue that has traded: as its changes left it, and as one image."""
    path = tmp_path_factory.mktemp("store") / "venue.ndjson"

    async def trade() -> None:
        use_exact_context()
        with closing(paper(store=path)) as venue:
            show(venue)
            await venue.submit(buy("filled", "2"), nothing)
            await venue.submit(buy("rests", order_type=OrderType.LIMIT, price=D(90)), nothing)
            stop = {"order_type": OrderType.STOP_MARKET, "trigger_price": D(95), "reduce_only": True}
            await venue.submit(buy("stop", "2", side=Side.SELL, **stop), nothing)

    async def open_again() -> None:
        paper(store=path).close()

    trio.run(trade, clock=trio.testing.MockClock(autojump_threshold=0))
    changes = path.read_bytes()
    trio.run(open_again)
    return changes, path.read_bytes()


@given(st.booleans(), st.data())
@fuzzed(300)
def test_a_damaged_memory_is_refused_or_holds_together(
    memory: tuple[bytes, bytes], tmp_path_factory: pytest.TempPathFactory, image: bool, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "venue.ndjson"
    path.write_bytes(data.draw(damaged(memory[image])))

    async def open_it() -> None:
        use_exact_context()
        try:
            venue = paper(store=path)
        except StoreDamaged as error:
            assert str(path) in str(error) and "line " in str(error)
            return
        with closing(venue):
            venue.matching.check()
            if venue.matching.now_ns <= START_NS:
                show(venue)
                venue.matching.check()

    trio.run(open_it, clock=trio.testing.MockClock(autojump_threshold=0))
