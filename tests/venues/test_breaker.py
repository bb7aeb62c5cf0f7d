"""The breaker: its table, row by row, and what the throttle makes of it."""

import pytest
from msgspec.structs import replace
from trio.testing import MockClock

from engine.core.times import SECOND
from engine.runtime.clock import virtual_clock
from engine.venues.breaker import Breaker, BreakerTerms, Phase, answered, failed, refuses, tick, tried, tries
from engine.venues.throttle import PATIENCE_NS, Lane, Limit, Throttle

TERMS = BreakerTerms(failures_max=3, pause_ns=10 * SECOND, pause_max_ns=25 * SECOND)
OPEN = Breaker(Phase.OPEN, 3, 1, 0, 10 * SECOND, why="silence")
HALF = Breaker(Phase.HALF_OPEN, 3, 1, 0, 10 * SECOND, why="silence")


def fail(breaker: Breaker, now_ns: int = 0) -> Breaker:
    return failed(breaker, "silence", now_ns, now_ns, TERMS)


@pytest.mark.parametrize(
    ("before", "event", "after"),
    [
        (Breaker(), answered, Phase.CLOSED),
        (Breaker(), fail, Phase.CLOSED),
        (Breaker(failures=2), fail, Phase.OPEN),
        (Breaker(failures=2), answered, Phase.CLOSED),
        (OPEN, answered, Phase.HALF_OPEN),
        (OPEN, fail, Phase.OPEN),
        (HALF, answered, Phase.CLOSED),
        (HALF, fail, Phase.OPEN),
    ],
)
def test_each_row_of_the_table(before, event, after):
    assert event(before).phase is after


def test_failures_count_only_in_a_row():
    breaker = fail(answered(fail(fail(Breaker()))))
    assert (breaker.phase, breaker.failures) == (Phase.CLOSED, 1)


def test_each_failed_try_doubles_the_pause_up_to_its_bound():
    half = [tries(replace(HALF, trips=trips), 1) for trips in (1, 2, 30)]
    assert [fail(breaker).until_ns // SECOND for breaker in half] == [20, 25, 25]


def test_only_an_entrys_try_doubles_the_pause():
    """A stop that failed, too, opens it again for as long as before."""
    again = fail(replace(HALF, trips=1), 60 * SECOND)
    assert (again.phase, again.until_ns // SECOND, again.trips) == (Phase.OPEN, 70, 1)


def test_what_had_gone_before_the_breaker_opened_is_old_news():
    """Seeds 240 and 2609: the silences of one bad moment, heard one by one, closed a well venue for five minutes."""
    half = replace(HALF, opened_ns=30 * SECOND)
    for breaker in (half, tries(half, 1)):
        assert failed(breaker, "silence", 30 * SECOND - 1, 31 * SECOND, TERMS) == breaker
        assert failed(breaker, "silence", 30 * SECOND, 31 * SECOND, TERMS).phase is Phase.OPEN


def test_one_entry_may_try_when_the_pause_is_over():
    assert refuses(OPEN)
    assert tick(OPEN, 10 * SECOND - 1) == OPEN
    half = tick(OPEN, 10 * SECOND)
    assert not refuses(half)
    assert refuses(tries(half, 1))
    assert not refuses(tries(Breaker(), 1))


def test_an_entry_that_came_back_without_a_word_of_the_venue_leaves_the_next_one_free_to_try():
    assert not refuses(tried(tries(HALF, 7), 7))
    assert tried(OPEN, 7) == OPEN and tried(Breaker(), 7) == Breaker()


def test_an_older_entry_that_comes_back_late_does_not_let_a_second_one_try():
    trying = tries(HALF, 8)
    assert refuses(tried(trying, 7)) and refuses(tried(trying, 0)) and refuses(tries(trying, 9))
    assert not refuses(tried(trying, 8))


async def test_the_throttle_says_why_no_entry_goes_and_when_it_may(autojump_clock: MockClock):
    clock = virtual_clock(1_700_000_000 * SECOND)
    throttle = Throttle((Limit(10, SECOND),), clock, breaker_terms=TERMS)
    assert [throttle.heard("no answer in time", clock.now_ns()) for _ in range(4)] == [False, False, True, False]
    assert "open (no answer in time), 10 s" in throttle.shut()
    await throttle.wait(Lane.REDUCE)  # protection does not ask the breaker
    autojump_clock.jump(10)
    assert throttle.shut() == ""
    throttle.tries()
    assert "half_open" in throttle.shut()
    throttle.heard("", clock.now_ns())
    assert throttle.shut() == ""
    throttle.close_until(clock.now_ns() + PATIENCE_NS, "a moment")
    assert throttle.shut() == ""
    throttle.close_until(clock.now_ns() + 600 * SECOND, "HTTP 403")
    throttle.close_until(clock.now_ns() + 5 * SECOND, "less")
    assert "HTTP 403: closed for 600 s" in throttle.shut()


async def test_a_ban_of_entries_holds_no_stop_and_no_question(autojump_clock: MockClock):
    clock = virtual_clock(1_700_000_000 * SECOND)
    throttle = Throttle((Limit(10, SECOND),), clock)
    before = clock.now_ns()
    throttle.close_until(before + 600 * SECOND, "HTTP 403", entries_only=True)
    await throttle.wait(Lane.REDUCE)
    await throttle.wait(Lane.OPEN, "query")
    assert clock.now_ns() == before
    await throttle.wait(Lane.OPEN)
    assert clock.now_ns() == before + 600 * SECOND


async def test_kinds_of_requests_take_from_their_own_limits_only(autojump_clock: MockClock):
    clock = virtual_clock(1_700_000_000 * SECOND)
    limits = (Limit(10, SECOND, "create"), Limit(10, SECOND, "cancel"), Limit(100, SECOND, "weight"))
    costs = {"order": (("create", 1), ("weight", 1)), "cancel": (("cancel", 1),), "list": (("weight", 40),)}
    throttle = Throttle(limits, clock, costs=costs)
    before = clock.now_ns()
    for _ in range(7):
        await throttle.wait(Lane.OPEN, "order")
    await throttle.wait(Lane.OPEN, "cancel")
    await throttle.wait(Lane.OPEN, "list")
    assert clock.now_ns() == before
    await throttle.wait(Lane.OPEN, "list")  # 7 + 40 + 40 are more than the 70 that openers may take
    assert clock.now_ns() - before == SECOND


async def test_the_venues_headers_correct_count_and_limit_downwards_only(autojump_clock: MockClock):
    clock = virtual_clock(1_700_000_000 * SECOND)
    throttle = Throttle((Limit(10, SECOND, "create"),), clock)
    throttle.correct("create", used=9, count=50)
    before = clock.now_ns()
    await throttle.wait(Lane.REDUCE)
    assert clock.now_ns() == before
    await throttle.wait(Lane.REDUCE)
    assert clock.now_ns() - before == SECOND
    throttle.correct("create", used=0, count=4)
    assert throttle.buckets[0].limit.count == 4
    throttle.correct("unknown", used=99)
