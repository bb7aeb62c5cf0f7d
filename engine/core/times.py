"""Lengths of time in whole nanoseconds, the unit of every `*_ns`. PURE."""

MILLISECOND = 1_000_000
SECOND = 1_000 * MILLISECOND
DAY = 86_400 * SECOND
