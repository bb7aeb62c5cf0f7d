"""Garbage is found by the clock, young and old, though few objects are ever made."""

import gc
import weakref
from collections.abc import Iterator

import pytest
import trio

from engine.runtime.interpreter import LOOK_SECONDS, OLDER_EVERY, OLDEST_EVERY, look_for_garbage


class Ring:
    def __init__(self) -> None:
        self.me = self


@pytest.fixture
def only_ours() -> Iterator[None]:
    gc.collect()
    gc.freeze()  # else each look of this test goes through all of the tests
    gc.disable()
    yield
    gc.enable()
    gc.unfreeze()


@pytest.mark.parametrize(
    ("old", "looks"), [(0, 1), (1, OLDER_EVERY), (2, OLDEST_EVERY)], ids=["young", "older", "oldest"]
)
async def test_what_goes_round_in_a_circle_is_found_at_every_age(
    old: int, looks: int, only_ours: None, autojump_clock: trio.testing.MockClock
) -> None:
    ring = Ring()
    gone = weakref.ref(ring)
    for age in range(old):
        gc.collect(age)  # it is alive, and counts as older from now on
    del ring
    async with trio.open_nursery() as nursery:
        nursery.start_soon(look_for_garbage)
        await trio.sleep(LOOK_SECONDS * (looks - 0.5))
        assert gone() is not None, "nobody has looked"
        await trio.sleep(LOOK_SECONDS)
        assert gone() is None
        nursery.cancel_scope.cancel()
