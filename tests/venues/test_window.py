"""How old a request may be when it arrives at the venue."""

import pytest

from engine.venues.base import window_ms
from tests.venues.world import START_NS, buy

MS = 1_000_000


@pytest.mark.parametrize(
    ("left_ms", "window"),
    [
        ((), 5_000),
        ((0,), 5_000),  # without an end
        ((60_000,), 5_000),
        ((700,), 700),
        ((700, 300, 9_000), 300),  # a batch is as good as the first of it that is over
        ((-50,), 1),  # over already: the last door keeps it in, and were it to slip, the venue would not take it
    ],
)
def test_a_request_is_good_for_no_longer_than_its_signal(left_ms: tuple[int, ...], window: int):
    orders = [buy(valid_until_ns=START_NS + left * MS if left else 0) for left in left_ms]
    assert window_ms(orders, START_NS, 5_000) == window
