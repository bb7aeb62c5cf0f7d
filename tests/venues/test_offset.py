"""The offset of a venue's clock: a bound that holds, and jumps that are seen."""

from hypothesis import given
from hypothesis import strategies as st

from engine.venues.offset import Known, Moment, Offset, check, error_ns, learn, measure

MS = 1_000_000
SECOND = 1_000 * MS
START = 1_700_000_000 * SECOND


def moment(at_ms: int, wall_ms: int | None = None) -> Moment:
    return Moment(START + (at_ms if wall_ms is None else wall_ms) * MS, at_ms * MS)


WAY = st.integers(0, 5_000_000_000)


@given(st.integers(-3_600_000, 3_600_000), WAY, WAY, st.integers(0, 999))
def test_the_truth_lies_within_the_error(offset_ms: int, there_ns: int, back_ns: int, odd_us: int):
    offset_ns = offset_ms * MS + odd_us * 1_000
    asked = Moment(START, 0)
    told = (START + there_ns + offset_ns) // MS * MS  # venues tell whole milliseconds
    heard = Moment(START + there_ns + back_ns, there_ns + back_ns)
    found = measure(asked, told, heard)
    assert found is not None
    assert abs(found.offset_ns - offset_ns) <= found.error_ns


def test_the_better_measurement_is_kept_until_it_has_aged():
    good = Offset(5 * MS, 2 * MS, moment(0))
    worse = Offset(9 * MS, 10 * MS, moment(1_000))
    known = learn(learn(Known(), good), worse)
    assert known.best == good
    late = Offset(9 * MS, 10 * MS, moment(100_000))  # by then the good one may be 22 ms off
    assert error_ns(good, late.at) == 22 * MS
    assert learn(known, late).best == late


def test_a_measurement_that_contradicts_what_was_known_replaces_it():
    known = learn(learn(Known(), Offset(0, 2 * MS, moment(0))), Offset(900 * MS, 40 * MS, moment(1_000)))
    assert known.best is not None
    assert (known.best.offset_ns, known.jumps) == (900 * MS, 1)


def test_a_jump_of_our_wall_clock_forgets_the_offset():
    known = learn(Known(), Offset(0, 2 * MS, moment(0)))
    assert check(known, moment(1_000)).best is not None
    assert check(known, moment(1_000, wall_ms=1_200)).best is not None  # slewed, or held up between two readings
    assert check(known, moment(1_000, wall_ms=31_000)) == Known(None, 1)
    assert check(known, moment(1_000, wall_ms=-5_000)) == Known(None, 1)


def test_a_jump_within_a_round_trip_makes_no_measurement():
    assert measure(moment(0), START, moment(20, wall_ms=5_020)) is None
