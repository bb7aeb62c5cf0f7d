"""Rate limits on our side: pure buckets in tables, waiting on the virtual clock."""

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from engine.core.times import SECOND
from engine.runtime.clock import virtual_clock
from engine.venues.throttle import Bucket, Lane, Limit, Throttle

START_NS = 1_700_000_000_000_000_000
TEN_PER_SECOND = Limit(10, SECOND)


def test_openers_leave_the_reserved_share_to_those_who_reduce() -> None:
    bucket = Bucket(TEN_PER_SECOND)
    for _ in range(7):
        assert bucket.wait_ns(Lane.OPEN, 0) == 0
        bucket.take(0)
    assert bucket.wait_ns(Lane.OPEN, 0) == SECOND
    for _ in range(3):
        assert bucket.wait_ns(Lane.REDUCE, 0) == 0
        bucket.take(0)
    assert bucket.wait_ns(Lane.REDUCE, 0) == SECOND


def test_a_token_comes_back_one_window_after_it_was_taken() -> None:
    bucket = Bucket(Limit(2, SECOND), reserved_percent=0)
    bucket.take(0)
    bucket.take(SECOND // 2)
    assert bucket.wait_ns(Lane.OPEN, SECOND // 2) == SECOND // 2
    assert bucket.wait_ns(Lane.OPEN, SECOND) == 0
    bucket.take(SECOND)
    assert bucket.wait_ns(Lane.OPEN, SECOND) == SECOND // 2


def test_weight_waits_for_as_many_tokens() -> None:
    bucket = Bucket(Limit(10, SECOND), reserved_percent=0)
    bucket.take(0, weight=4)
    bucket.take(100, weight=4)
    assert bucket.wait_ns(Lane.OPEN, 200, weight=2) == 0
    assert bucket.wait_ns(Lane.OPEN, 200, weight=6) == SECOND - 200
    assert bucket.wait_ns(Lane.OPEN, 200, weight=7) == SECOND - 100


def test_the_venues_own_count_corrects_ours_upwards_only() -> None:
    bucket = Bucket(TEN_PER_SECOND)
    bucket.take(0)
    bucket.correct(used=9, now_ns=5, asked_ns=5)
    assert bucket.wait_ns(Lane.REDUCE, 5, weight=1) == 0
    assert bucket.wait_ns(Lane.REDUCE, 5, weight=2) > 0
    bucket.correct(used=0, now_ns=5, asked_ns=5)
    assert bucket.wait_ns(Lane.REDUCE, 5, weight=2) > 0


def test_what_others_used_of_a_minute_is_gone_with_that_minute() -> None:
    """Seed 2937: restarts late in a minute had used it up, and nothing was asked for a minute more, fills too."""
    minute = 60 * SECOND
    bucket = Bucket(Limit(10, minute, aligned=True), reserved_percent=0)
    bucket.take(50 * SECOND)
    bucket.correct(used=10, now_ns=59 * SECOND, asked_ns=58 * SECOND)
    assert bucket.wait_ns(Lane.OPEN, 59 * SECOND) == 2 * SECOND  # one second into the next: clocks differ a little
    assert bucket.wait_ns(Lane.OPEN, 61 * SECOND, weight=9) == 0
    assert bucket.wait_ns(Lane.OPEN, 61 * SECOND, weight=10) == 49 * SECOND  # its own take slides


def test_a_count_of_a_minute_that_is_over_says_nothing_of_this_one() -> None:
    minute, ahead = 60 * SECOND, 5 * SECOND
    bucket = Bucket(Limit(10, minute, aligned=True), reserved_percent=0)
    bucket.correct(used=10, now_ns=61 * SECOND, asked_ns=59 * SECOND)
    assert bucket.wait_ns(Lane.OPEN, 61 * SECOND, weight=10) == 0
    bucket.correct(used=10, now_ns=56 * SECOND + minute, asked_ns=54 * SECOND + minute, ahead_ns=ahead)
    assert bucket.wait_ns(Lane.OPEN, 56 * SECOND + minute, weight=10) == 0  # by the venue's clock it was before
    bucket.correct(used=10, now_ns=57 * SECOND + minute, asked_ns=56 * SECOND + minute, ahead_ns=ahead)
    assert bucket.wait_ns(Lane.OPEN, 57 * SECOND + minute, weight=10) == 59 * SECOND


async def test_a_long_wait_is_told_with_its_end_and_a_short_one_is_not(autojump_clock: object) -> None:
    limits = (Limit(10, SECOND, "orders"), Limit(10, 60 * SECOND, "weight-1M"))
    throttle = Throttle(limits, virtual_clock(START_NS), costs={"ask": (("weight-1M", 10),), "light": (("orders", 8),)})
    throttle.correct("weight-1M", 9)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(throttle.wait, Lane.REDUCE, "ask")
        await trio.sleep(10)
        assert throttle.waits() == "requests wait for the rate limit weight-1M, 50 s more"
        await trio.sleep(51)
        assert throttle.waits() == ""
        await throttle.wait(Lane.REDUCE, "light")
        nursery.start_soon(throttle.wait, Lane.REDUCE, "light")
        await trio.sleep(0.5)
        assert throttle.waits() == ""


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(Lane), st.integers(0, 400)), min_size=1, max_size=60), st.integers(1, 8))
def test_no_sliding_window_ever_holds_more_than_the_limit(asked: list[tuple[Lane, int]], count: int) -> None:
    bucket, now, sent = Bucket(Limit(count, 1000)), 0, []
    for lane, pause in asked:
        now += pause
        now += bucket.wait_ns(lane, now)
        assert bucket.wait_ns(lane, now) == 0
        bucket.take(now)
        sent.append(now)
    assert all(sum(begin <= at < begin + 1000 for at in sent) <= count for begin in sent)


async def test_waiting_openers_go_in_order_and_a_cancel_passes_them(autojump_clock: MockClock) -> None:
    throttle = Throttle((TEN_PER_SECOND,), virtual_clock(START_NS))
    gone: list[tuple[str, float]] = []

    async def send(name: str, lane: Lane) -> None:
        await throttle.wait(lane)
        gone.append((name, round(trio.current_time() - began, 6)))

    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(9):
            nursery.start_soon(send, f"open {number}", Lane.OPEN)
            await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(send, "cancel", Lane.REDUCE)
        await trio.testing.wait_all_tasks_blocked()
    at_once = [(f"open {number}", 0.0) for number in range(7)]
    assert gone == [*at_once, ("cancel", 0.0), ("open 7", 1.0), ("open 8", 1.0)]


async def test_a_ban_holds_every_lane_until_it_ends(autojump_clock: MockClock) -> None:
    clock = virtual_clock(START_NS)
    throttle = Throttle((TEN_PER_SECOND,), clock)
    throttle.close_until(START_NS + 30 * SECOND)
    await throttle.wait(Lane.REDUCE)
    assert clock.now_ns() >= START_NS + 30 * SECOND


async def test_of_a_limit_that_others_use_too_only_our_part_is_used(autojump_clock: MockClock) -> None:
    throttle = Throttle((Limit(10, SECOND, "create"), Limit(600, 5 * SECOND, "address")), virtual_clock(START_NS))
    throttle.share("address", 0.01)
    assert [throttle.take(Lane.REDUCE) for _ in range(7)] == [True] * 6 + [False]
    assert [bucket.limit.count for bucket in throttle.buckets] == [10, 6]
