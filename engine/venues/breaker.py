"""The breaker of one account at one venue (SPEC RSK11): after failures in a row entries stop, then one is let through.

Failures are the venue's and the network's: silence, "unavailable", no connection. A refusal with a reason is an answer.
Protective orders and cancels never ask here, but what they hear counts. Where the breaker has opened, the failure of a
request that had gone before is old news: ten silences of one bad moment would double the pause ten times.

| phase     | answered           | failed                                                      | the pause is over |
|-----------|--------------------|-------------------------------------------------------------|-------------------|
| CLOSED    | CLOSED, count at 0 | CLOSED; OPEN with the `failures_max`-th                     | -                 |
| OPEN      | HALF_OPEN          | OPEN                                                        | HALF_OPEN         |
| HALF_OPEN | CLOSED             | OPEN, the pause doubled if an entry was trying; or old news | -                 |
"""

from enum import Enum

from msgspec import Struct
from msgspec.structs import replace

from engine.core.times import SECOND


class Phase(Enum):
    CLOSED = "closed"  # as a switch is: entries flow
    OPEN = "open"
    HALF_OPEN = "half_open"  # one entry may try


class BreakerTerms(Struct, frozen=True):
    failures_max: int = 5
    pause_ns: int = 10 * SECOND  # doubled with each failed try
    pause_max_ns: int = 300 * SECOND


class Breaker(Struct, frozen=True):
    phase: Phase = Phase.CLOSED
    failures: int = 0  # in a row
    trips: int = 0  # since it was last closed
    opened_ns: int = 0  # the last time
    until_ns: int = 0  # OPEN: when a try is allowed
    trying: int = 0  # HALF_OPEN: the ticket of the one entry that is out; 0: none is
    why: str = ""  # the last failure


def answered(breaker: Breaker) -> Breaker:
    match breaker.phase:
        case Phase.CLOSED:
            return replace(breaker, failures=0, why="") if breaker.failures else breaker
        case Phase.OPEN:
            return replace(breaker, phase=Phase.HALF_OPEN, trying=0)
        case Phase.HALF_OPEN:
            return Breaker()


def failed(breaker: Breaker, why: str, sent_ns: int, now_ns: int, terms: BreakerTerms) -> Breaker:
    """`sent_ns`: when the request went that now has failed."""
    failures = breaker.failures + 1
    match breaker.phase:
        case Phase.CLOSED if failures < terms.failures_max:
            return replace(breaker, failures=failures, why=why)
        case Phase.OPEN:
            return replace(breaker, failures=failures, why=why)
        case Phase.HALF_OPEN if sent_ns < breaker.opened_ns:
            return breaker
    trips = breaker.trips if breaker.phase is Phase.HALF_OPEN and not breaker.trying else breaker.trips + 1
    pause_ns = min(terms.pause_ns << min(trips - 1, 20), terms.pause_max_ns)
    return Breaker(Phase.OPEN, failures, trips, now_ns, now_ns + pause_ns, 0, why)


def tick(breaker: Breaker, now_ns: int) -> Breaker:
    """After a pause, the way back."""
    if breaker.phase is Phase.OPEN and now_ns >= breaker.until_ns:
        return replace(breaker, phase=Phase.HALF_OPEN, trying=0)
    return breaker


def refuses(breaker: Breaker) -> bool:
    """Whether an entry must not go now."""
    return breaker.phase is Phase.OPEN or (breaker.phase is Phase.HALF_OPEN and breaker.trying > 0)


def tries(breaker: Breaker, ticket: int) -> Breaker:
    """An entry is on its way: while half open it is the only one. `ticket` is its own, and above 0."""
    return replace(breaker, trying=ticket) if breaker.phase is Phase.HALF_OPEN and not breaker.trying else breaker


def tried(breaker: Breaker, ticket: int) -> Breaker:
    """The entry is back. One that said nothing of the venue (a limiter's no) leaves the next one free to try.

    One that left before the pause, and comes back late, is not the one that tries: it leaves that one its place.
    """
    if breaker.phase is Phase.HALF_OPEN and ticket and breaker.trying == ticket:
        return replace(breaker, trying=0)
    return breaker
