"""How far a venue's clock is from ours, from the round trips of requests that tell its time. Pure.

    asked ----------> told ----------> heard        offset = told - (asked + heard) / 2, wrong by half the round trip

The answer could have been made at any moment of the round trip, so that half of it is a bound, not a guess. The best
measurement is kept while it ages: both clocks drift, and so its error grows. Wall clocks also jump (a correction, a
machine that slept); ours has jumped when it and the monotonic clock disagree about how much time went by, the venue's
or ours when a new measurement contradicts what was known. Either way what was known is forgotten.
"""

from msgspec import Struct
from msgspec.structs import replace

DRIFT_PER_MILLION = 200  # two quartz clocks, each wrong by 100 parts at worst
JUMP_NS = 250_000_000  # less than this is the machine's own slewing and our being held up


class Moment(Struct, frozen=True):
    """Both of our clocks, read together: wall nanoseconds, and monotonic nanoseconds that only measure durations."""

    wall_ns: int
    ticks_ns: int


class Offset(Struct, frozen=True):
    """Venue minus ours, surely within `error_ns` of the truth at the moment `at`."""

    offset_ns: int
    error_ns: int
    at: Moment


class Known(Struct, frozen=True):
    """What is known of a venue's clock. `jumps` counts how often it had to be forgotten."""

    best: Offset | None = None
    jumps: int = 0


def measure(asked: Moment, told_ns: int, heard: Moment, unit_ns: int = 1_000_000) -> Offset | None:
    """One round trip; the venue tells its time cut to `unit_ns`. None: our clock jumped meanwhile."""
    if jumped(asked, heard):
        return None
    trip_ns = max(heard.ticks_ns - asked.ticks_ns, 0)
    middle_ns = asked.wall_ns + trip_ns // 2
    return Offset(told_ns + unit_ns // 2 - middle_ns, (trip_ns + unit_ns + 1) // 2, heard)


def learn(known: Known, measured: Offset) -> Known:
    """Keeps the better of two measurements that agree; of two that contradict each other, the new one."""
    if known.best is None:
        return replace(known, best=measured)
    if jumped(known.best.at, measured.at):
        return Known(measured, known.jumps + 1)
    apart = abs(measured.offset_ns - known.best.offset_ns)
    aged = error_ns(known.best, measured.at)
    if apart > aged + measured.error_ns:
        return Known(measured, known.jumps + 1)
    return known if aged < measured.error_ns else replace(known, best=measured)


def check(known: Known, now: Moment) -> Known:
    """Forgets the offset when our wall clock has jumped since it was measured."""
    if known.best is not None and jumped(known.best.at, now):
        return Known(None, known.jumps + 1)
    return known


def error_ns(offset: Offset, now: Moment) -> int:
    """How wrong it may be by now."""
    return offset.error_ns + max(now.ticks_ns - offset.at.ticks_ns, 0) * DRIFT_PER_MILLION // 1_000_000


def jumped(before: Moment, after: Moment) -> bool:
    by_wall, by_ticks = after.wall_ns - before.wall_ns, after.ticks_ns - before.ticks_ns
    return abs(by_wall - by_ticks) > JUMP_NS + by_ticks * DRIFT_PER_MILLION // 1_000_000
