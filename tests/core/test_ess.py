"""What a risk service's last word means for an opening order (SPEC RSK8): a table."""

from decimal import Decimal

import pytest

from engine.core.ess import BY, EssTerms, OnTimeout, Said, Unanswered, Watch, halt_of
from engine.core.halts import kind_of, release
from engine.core.times import SECOND

CLEAR, CRITICAL = Said(False, "NORMAL"), Said(True, "CRITICAL", "venue insolvent")
LATE = Unanswered("no answer in 0.5 s")


def watch(on_timeout: OnTimeout, *answers: tuple[int, Said | Unanswered]) -> Watch:
    """`answers` with the second at which each came; it began at second 0, and an answer is good for 5 s."""
    found = Watch(EssTerms(5 * SECOND, on_timeout), 0)
    for second, answer in answers:
        found.take(answer, second * SECOND)
    return found


@pytest.mark.parametrize(
    ("answers", "second", "allow", "block"),
    [
        ((), 0, True, False),  # before the first answer nobody knows
        (((1, LATE),), 1, True, False),
        (((1, CLEAR),), 1, True, True),
        (((1, CLEAR),), 6, True, True),  # exactly as old as it may be
        (((1, CLEAR),), 7, True, False),
        (((1, CLEAR), (2, LATE), (3, LATE)), 4, True, True),  # one late answer is no silence
        (((1, CLEAR), (2, LATE)), 20, True, False),
        (((1, LATE), (9, CLEAR)), 9, True, True),
        (((1, CRITICAL),), 1, False, False),
        (((1, CLEAR), (2, CRITICAL)), 2, False, False),
        (((1, CRITICAL), (2, LATE)), 3, False, False),
        (((1, CRITICAL), (2, LATE)), 86_400, False, False),  # who falls silent has taken nothing back
        (((1, CRITICAL), (2, LATE), (9, CLEAR)), 9, True, True),
    ],
)
def test_what_passes_by_the_last_answer_and_the_policy(
    answers: tuple[tuple[int, Said | Unanswered], ...], second: int, allow: bool, block: bool
) -> None:
    for policy, passes in (("allow", allow), ("block", block)):
        found = watch(policy, *answers)  # type: ignore[arg-type]
        check = found.check(second * SECOND)
        assert check.passed == passes == (found.shut(second * SECOND) == "")
        assert check.rule == "RSK8.ess" and check.limit == Decimal(5)


def test_the_verdict_carries_the_age_and_what_was_said() -> None:
    passed = watch("block", (1, CLEAR)).check(3 * SECOND + 250_000_000)
    assert (passed.value, passed.limit, passed.unit) == (Decimal("2.25"), 5, "s since the risk service answered")
    assert passed.passed and passed.reason == ""
    refused = watch("block", (1, CLEAR), (2, LATE)).check(20 * SECOND)
    assert refused.reason == (
        "the risk service has not answered for 19 s (the last word was NORMAL, no answer in 0.5 s); on_timeout = block"
    )
    waived = watch("allow", (2, LATE)).check(20 * SECOND)
    assert waived.passed
    assert waived.reason == "the risk service has not answered for 20 s (no answer in 0.5 s); on_timeout = allow"
    tripped = watch("allow", (1, CRITICAL)).check(2 * SECOND)
    assert tripped.reason == "the risk service says CRITICAL: venue insolvent" and tripped.value == 1


def test_only_silence_is_told_beside_the_switch_for_a_trip_has_its_halt() -> None:
    assert watch("block", (1, CRITICAL)).held(SECOND) == ""
    assert "has not answered" in watch("block").held(SECOND)
    halt = halt_of(CRITICAL, 7)
    assert (halt.scope, halt.by, kind_of(halt), halt.latched) == ("engine", BY, "ess", True)
    assert release((halt,), None).ended == (), "a resume has to name the kind"
    assert release((halt,), "ess").ended == (halt,)
