"""A situation counts when it really came up: told by hand, each is seen, and in a quiet world none is."""

import pytest

from tests.sim.faults import Faults, Nature
from tests.sim.reach import COMMON, ELSEWHERE, GOALS, POINTS, reached
from tests.sim.scenarios import a_day, one_entry, play
from tests.sim.world import Report

QUIET = Nature(volatility=0.0)
EVERYDAY = {  # what needs no fault
    "a position without cover was covered",  # for the moment between fill and stop
    "a trade was closed",
    "an entry ran out of its time",
    "entry, stop and target of one position",
    "nothing was left to reduce",
    "a fill came before the answer",
    "a position was flattened",  # the run's own end of the day
    "the same signal came again",
    "a stop was reported as flat",
}


def goals(report: Report) -> set[str]:
    return set(reached(report.evidence, report.truth))


def test_a_quiet_day_has_nothing_rare_in_it() -> None:
    assert goals(play(a_day, QUIET)) <= EVERYDAY


@pytest.mark.parametrize(
    ("where", "count", "number"),
    [
        ("source.answer", 1, "2"),
        ("source.answered", 1, "3"),
        ("submit.before", 1, "6"),
        ("submit.wired", 1, "7, 8"),
        ("venue.taken", 1, "9"),
        ("submit.answered", 2, "10"),
        ("submit.before", 2, "15"),
        ("sink.before", 2, "16"),
        ("sink.after", 1, "17"),
        ("cancel.before", 1, "19"),
        ("cancel.wired", 1, "20"),
        ("venue.canceled", 1, "12"),
        ("query", 1, "21"),
    ],
)
def test_a_kill_at_a_boundary_is_the_crash_point_that_it_is(where: str, count: int, number: str) -> None:
    report = play(a_day, QUIET, crash_at=(where, count))
    assert report.crashes == 1
    assert f"crash point {number}: {POINTS[number]}" in goals(report)


@pytest.mark.parametrize(
    ("faults", "seen", "unseen"),
    [
        (Faults(reply_lost=1.0, event_dropped=1.0), "a time-out whose order lived", "the engine was killed"),
        (Faults(request_lost=1.0), "a time-out whose order did not", "a time-out whose order lived"),
        (Faults(request_lost=1.0), "doubt ended: its absence was proven", "doubt ended: the order was found"),
        (Faults(reply_lost=1.0, event_dropped=1.0), "doubt ended: the order was found", "a cancel lost to a fill"),
        (Faults(event_dropped=1.0), "a fill was learned by asking", "funding was booked"),
        (Faults(rejected_later=1.0), "refused after the acknowledgement", "a fill was learned by asking"),
        (Faults(reply_lost=1.0, event_delay_max=3.0), "a fill came before the answer", "the engine was killed"),
        (Faults(request_doubled=1.0), "the venue knew the id already", "a cancel lost to a fill"),
        (Faults(disk_breaks_mean=5.0), "the disk was full", "a sink was down and had taken a part"),
    ],
)
def test_what_a_fault_brings_about_is_seen_and_nothing_else(faults: Faults, seen: str, unseen: str) -> None:
    found = goals(play(one_entry, QUIET, faults))
    assert seen in found and unseen not in found


def test_every_numbered_crash_point_is_a_goal_or_has_a_reason_why_not() -> None:
    numbers = {int(n) for names in (*POINTS, *ELSEWHERE) for n in names.split(",")}
    assert numbers == set(range(1, 27))
    assert len(set(GOALS)) == len(GOALS) and set(COMMON) <= set(GOALS)
