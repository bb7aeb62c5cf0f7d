"""Counters and HDR histograms folded from facts and from `Timed` messages: how often, and how long each stage took.

Recording appends one int to an array; the histograms are fed in small batches and read only when somebody asks. All
durations are ns of the monotonic clock. Nothing here decides anything, reads a clock or writes a file.
"""

from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable
from decimal import Decimal
from itertools import accumulate
from operator import add
from typing import TypeAlias

from hdrh.histogram import HdrHistogram
from msgspec import Struct

from engine.core.messages import (
    Alerted,
    AnyFact,
    Canceled,
    Covered,
    Ending,
    Expired,
    Filled,
    Judged,
    Missing,
    Order,
    Rejected,
    State,
    Submitted,
    Timed,
    Unsent,
)

# The way of an order, each stage between two moments of `Timed`. `arrival_wire` is the engine's own share (P6).
STAGES: dict[str, tuple[str, str]] = {
    "arrival_judged": ("received", "judged"),
    "judged_durable": ("judged", "durable"),
    "durable_wire": ("durable", "wire"),
    "wire_answered": ("wire", "answered"),
    "arrival_wire": ("received", "wire"),
    "arrival_answered": ("received", "answered"),
}
JUDGING = "judging"  # the rules alone, from `Judged.took_ns`
UNCOVERED = "uncovered"  # a position without full stop cover (P5), from `Covered.exposed_ns`
LOOP_LAG = "loop_lag"  # how late the event loop woke a sleeper

LOWEST_NS = 100
HIGHEST_NS = 600_000_000_000
DIGITS = 3
_BATCH = 256  # about 0.2 ms of folding at once, so that no order waits long behind it

_ENDINGS: dict[type, Ending] = {
    Canceled: Ending.CANCELED,
    Expired: Ending.EXPIRED,
    Rejected: Ending.REJECTED,
    Missing: Ending.MISSING,
    Unsent: Ending.UNSENT,
}


class StageFigures(Struct, frozen=True):
    """What one histogram says, in ns. `clamped` values lay outside 0 to ten minutes and count at the border."""

    count: int = 0
    sum_ns: int = 0
    p50_ns: int = 0
    p90_ns: int = 0
    p99_ns: int = 0
    p999_ns: int = 0
    max_ns: int = 0
    clamped: int = 0


class FillCount(Struct, frozen=True):
    """Executions of one (account, symbol) since the start; `quote` is the sum of price times quantity."""

    account: str
    symbol: str
    count: int
    quote: Decimal


class TallySnapshot(Struct, frozen=True):
    """Everything counted since the engine started."""

    stages: dict[str, StageFigures]
    facts: dict[str, int]  # by type of fact
    verdicts: dict[str, int]  # by outcome
    refusals: dict[str, int]  # by the rule that failed; one refusal may fail several
    endings: dict[str, int]  # of orders
    alerts: dict[str, int]  # by "severity/kind"
    fills: tuple[FillCount, ...]
    stalls: int  # times the event loop was later than the threshold
    dropped: int  # messages that the tally's mailbox had no room for; figures are then too low


class Stage:
    """One histogram: a waiting array in front, the interval since the last `roll`, and all before it.

    A histogram is 200 kB, so each is made when there is something to put into it.
    """

    def __init__(self) -> None:
        self._waiting = array("q")
        self._recent: HdrHistogram | None = None
        self._rolled: HdrHistogram | None = None  # what the last `roll` has handed out
        self._past: HdrHistogram | None = None
        self._figures = StageFigures()
        self._sum = 0
        self._max = 0
        self._clamped = 0

    def record(self, value_ns: int) -> None:
        self._waiting.append(value_ns)
        if len(self._waiting) >= _BATCH:
            self._fold()

    def figures(self) -> StageFigures:
        """Computed when something was recorded since the last time; about half a millisecond then."""
        self._fold()
        count = sum(histogram.total_count for histogram in self._held())
        if count != self._figures.count:
            p50, p90, p99, p999 = self._percentiles(count)
            self._figures = StageFigures(count, self._sum, p50, p90, p99, p999, self._max, self._clamped)
        return self._figures

    def roll(self) -> HdrHistogram | None:
        """The histogram of what came since the last roll, if anything did. It is the caller's until the next one.

        Two take turns: a new one each time is 200 kB in a cycle of references, for the collector to find some day.
        """
        self._fold()
        if self._recent is None or not self._recent.total_count:
            return None  # adding an empty one would spoil the smallest value
        interval, self._recent, self._rolled = self._recent, self._rolled, self._recent
        if self._recent is not None:
            _clear(self._recent)
        if self._past is None:
            self._past = _histogram()
        self._past.add(interval)
        return interval

    def _held(self) -> list[HdrHistogram]:
        return [histogram for histogram in (self._recent, self._past) if histogram is not None]

    def _fold(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, array("q")
        if self._recent is None:
            self._recent = _histogram()
        for value in waiting:
            # The library drops what is out of range without a word, so it never gets such a value.
            inside = min(max(value, 0), HIGHEST_NS)
            self._clamped += inside != value
            self._sum += inside
            self._max = max(self._max, inside)
            taken = self._recent.record_value(inside)
            assert taken, f"{inside} ns did not fit the histogram"

    def _percentiles(self, count: int) -> list[int]:
        # The library walks all 25,000 buckets in Python for each question (2 ms); one sum at C speed answers all four.
        first, *others = (_counts(histogram, self._max) for histogram in self._held())
        sums = list(accumulate(map(add, first, *others) if others else first))
        ranks = (max(1, -(-count * per_mille // 1000)) for per_mille in (500, 900, 990, 999))
        return [min(self._max, self._highest(bisect_left(sums, rank))) for rank in ranks]

    def _highest(self, index: int) -> int:
        any_ = self._held()[0]
        return int(any_.get_highest_equivalent_value(any_.get_value_from_index(index)))


Interval: TypeAlias = dict[str, HdrHistogram]


class Tally:
    """Everything that is counted. Unknown order ids (from before the start) are learnt by `adopt`."""

    def __init__(self) -> None:
        self._stages = {name: Stage() for name in (*STAGES, JUDGING, UNCOVERED, LOOP_LAG)}
        self._facts: Counter[str] = Counter()
        self._verdicts: Counter[str] = Counter()
        self._refusals: Counter[str] = Counter()
        self._endings: Counter[str] = Counter()
        self._alerts: Counter[str] = Counter()
        self._fills: dict[tuple[str, str], tuple[int, Decimal]] = {}
        self._unfilled: dict[str, Decimal] = {}  # by cid, what a live order may still fill
        self._stalls = 0
        self.dropped = 0  # counted by whoever found the mailbox full

    def adopt(self, orders: Iterable[Order]) -> None:
        """Orders that were live when the engine started, so that their ends are counted too."""
        for order in orders:
            if order.state is not State.CLOSED:
                self._unfilled[order.cid] = order.qty - order.filled_qty

    def timed(self, timed: Timed) -> None:
        """Stages that were not passed (0) are left out: a protective order has no arrival."""
        for name, (begin, end) in STAGES.items():
            began, ended = getattr(timed, begin), getattr(timed, end)
            if began and ended:
                self._stages[name].record(ended - began)

    def fact(self, fact: AnyFact) -> None:
        self._facts[type(fact).__name__] += 1
        match fact:
            case Judged():
                self._judged(fact)
            case Submitted(order=order):
                self._unfilled[order.cid] = order.qty
            case Filled():
                self._filled(fact)
            case Canceled() | Expired() | Rejected() | Missing() | Unsent():
                self._ended(fact.cid, _ENDINGS[type(fact)])
            case Covered(exposed_ns=exposed_ns):
                self._stages[UNCOVERED].record(exposed_ns)
            case Alerted(severity=severity, kind=kind):
                self._alerts[f"{severity}/{kind}"] += 1
            case _:
                pass  # counted by its type, and nothing more

    def lag(self, late_ns: int, stall_ns: int) -> bool:
        """One wake-up that came `late_ns` late; whether that is a stall (at least `stall_ns`)."""
        self._stages[LOOP_LAG].record(late_ns)
        stalled = late_ns >= stall_ns
        self._stalls += stalled
        return stalled

    def snapshot(self) -> TallySnapshot:
        return TallySnapshot(
            stages={name: stage.figures() for name, stage in self._stages.items()},
            facts=dict(sorted(self._facts.items())),
            verdicts=dict(sorted(self._verdicts.items())),
            refusals=dict(sorted(self._refusals.items())),
            endings=dict(sorted(self._endings.items())),
            alerts=dict(sorted(self._alerts.items())),
            fills=tuple(
                FillCount(account, symbol, count, quote)
                for (account, symbol), (count, quote) in sorted(self._fills.items())
            ),
            stalls=self._stalls,
            dropped=self.dropped,
        )

    def roll(self) -> Interval:
        """The histograms since the last roll, those with values only; for the interval log."""
        rolled = {name: stage.roll() for name, stage in self._stages.items()}
        return {name: histogram for name, histogram in rolled.items() if histogram is not None}

    def _judged(self, judged: Judged) -> None:
        self._verdicts[judged.outcome.value] += 1
        for check in judged.checks:
            if not check.passed:
                self._refusals[check.rule] += 1
        if judged.took_ns:
            self._stages[JUDGING].record(judged.took_ns)

    def _filled(self, fill: Filled) -> None:
        key = (fill.account, fill.symbol)
        count, quote = self._fills.get(key, (0, Decimal(0)))
        self._fills[key] = (count + 1, quote + fill.qty * fill.price)
        left = self._unfilled.get(fill.cid)
        if left is None:
            return
        self._unfilled[fill.cid] = left - fill.qty
        if left <= fill.qty:
            self._ended(fill.cid, Ending.FILLED)

    def _ended(self, cid: str, ending: Ending) -> None:
        # An order ends once: a second ending is a correction, and stands among the facts.
        if self._unfilled.pop(cid, None) is not None:
            self._endings[ending.value] += 1


def _histogram() -> HdrHistogram:
    return HdrHistogram(LOWEST_NS, HIGHEST_NS, DIGITS)


_NOTHING_YET = (1 << 63) - 1  # the library's smallest value of an empty histogram


def _clear(histogram: HdrHistogram) -> None:
    """The library's own `reset` walks the buckets in Python (2 ms)."""
    counters = memoryview(histogram.counts).cast("B")
    counters[:] = bytes(len(counters))
    histogram.total_count = histogram.max_value = 0
    histogram.min_value = _NOTHING_YET


def _counts(histogram: HdrHistogram, top_ns: int) -> memoryview:
    """The counters up to the one of `top_ns`: a first bucket of 2,048 equal steps, then 1,024 for each doubling."""
    doublings = (top_ns >> histogram.unit_magnitude).bit_length() - (histogram.sub_bucket_count.bit_length() - 1)
    used = (max(0, doublings) + 2) * histogram.sub_bucket_half_count
    return memoryview(histogram.counts).cast("B").cast("Q")[:used]
