"""HDR histograms of durations as a handful of figures, and tables of them for people."""

from collections.abc import Iterable

from hdrh.histogram import HdrHistogram
from msgspec import Struct

LOWEST_NS, HIGHEST_NS, DIGITS = 100, 600_000_000_000, 3


class Figures(Struct, frozen=True):
    """Durations in microseconds."""

    count: int
    p50: float
    p90: float
    p99: float
    p999: float
    max: float


def figures(durations_ns: Iterable[int]) -> Figures:
    histogram = HdrHistogram(LOWEST_NS, HIGHEST_NS, DIGITS)
    for duration in durations_ns:
        histogram.record_value(min(max(duration, LOWEST_NS), HIGHEST_NS))
    if not histogram.total_count:
        return Figures(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    p50, p90, p99, p999 = (histogram.get_value_at_percentile(p) / 1000 for p in (50.0, 90.0, 99.0, 99.9))
    return Figures(histogram.total_count, p50, p90, p99, p999, histogram.get_max_value() / 1000)


class Ratio(Struct, frozen=True):
    """One figure over the same one of its floor."""

    p50: float
    p90: float
    p99: float
    p999: float
    max: float


def ratio(of: Figures, floor: Figures) -> Ratio | None:
    """None where one of them has no values."""
    if not of.count or not floor.count:
        return None
    return Ratio(
        *(round(getattr(of, name) / max(getattr(floor, name), 0.1), 2) for name in ("p50", "p90", "p99", "p999", "max"))
    )


HEADING = f"{'microseconds':34}{'count':>8}{'p50':>10}{'p90':>10}{'p99':>10}{'p99.9':>10}{'max':>11}"


def line(name: str, of: Figures) -> str:
    return f"{name:34}{of.count:8d}{of.p50:10.0f}{of.p90:10.0f}{of.p99:10.0f}{of.p999:10.0f}{of.max:11.0f}"


def ratio_line(name: str, of: Ratio | None) -> str:
    if of is None:
        return f"{name:34}{'no values':>18}"
    cells = "".join(f"{value:9.2f}x" for value in (of.p50, of.p90, of.p99, of.p999))
    return f"{name:34}{'':8}{cells}{of.max:10.2f}x"
