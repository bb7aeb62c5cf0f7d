"""What can be known before trading about the machine: is the clock sane, will the disk take the journal.

Each look is one Finding with a sentence for a person; it changes nothing that stays.
"""

import os
import shutil
from pathlib import Path
from tempfile import TemporaryFile

import trio

from engine.core.times import MILLISECOND
from engine.runtime.clock import Clock
from engine.runtime.terminal import Finding

_YEAR_2025_NS = 1_735_689_600 * 1_000_000_000  # a clock that was never set shows an earlier year
_WATCH_SECONDS = 0.2
_JUMP_MAX_NS = 20 * MILLISECOND
_FREE_MIN = 200 * 1024 * 1024
_SYNCS = 15
_SYNC_MAX_NS = 50 * MILLISECOND  # a third of the 150 ms that a signal may take


async def look_at_clock(clock: Clock) -> Finding:
    """Whether wall time is of this age and runs with the monotonic clock."""
    wall, ticks = _both(clock)
    await trio.sleep(_WATCH_SECONDS)
    later, ticked = _both(clock)
    passed, ticked = later - wall, ticked - ticks
    if wall < _YEAR_2025_NS:
        return Finding("clock", False, "the wall clock shows a time before 2025: it was never set")
    if abs(passed - ticked) > _JUMP_MAX_NS:
        apart = (passed - ticked) / MILLISECOND
        return Finding("clock", False, f"wall time jumped by {apart:.1f} ms in {_WATCH_SECONDS} s: is it being set?")
    return Finding("clock", True, f"wall and monotonic time agree within {abs(passed - ticked) / MILLISECOND:.2f} ms")


def _both(clock: Clock) -> tuple[int, int]:
    """Wall and monotonic time of one moment: the closest of a few readings, for a process may be put aside between."""
    readings = ((clock.ticks_ns(), clock.now_ns(), clock.ticks_ns()) for _ in range(5))
    before, wall, after = min(readings, key=lambda reading: reading[2] - reading[0])
    return wall, (before + after) // 2


def look_at_disk(folder: Path, clock: Clock) -> Finding:
    """Whether `folder` (made if it is not there) can be written, has room, and how long making bytes safe takes."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
        syncs = _sync_times(folder, clock)
    except OSError as error:
        return Finding("disk", False, f"{folder} cannot be written: {error.strerror}")
    middle, worst = syncs[len(syncs) // 2], syncs[-1]
    sync = f"fsync {middle / MILLISECOND:.2f} ms (worst of {_SYNCS}: {worst / MILLISECOND:.2f} ms)"
    text = f"{folder}: {free / 2**30:.1f} GiB free, {sync}"
    if free < _FREE_MIN:
        return Finding("disk", False, f"{text}; less than {_FREE_MIN // 2**20} MiB is too little for a journal")
    if middle > _SYNC_MAX_NS:
        return Finding("disk", False, f"{text}; orders wait for a sync, and this one is too slow for 150 ms")
    return Finding("disk", True, text)


def _sync_times(folder: Path, clock: Clock) -> list[int]:
    """In ns, sorted."""
    times = []
    with TemporaryFile(dir=folder) as file:
        for _ in range(_SYNCS):
            file.write(b"\0" * 4096)
            began = clock.ticks_ns()
            file.flush()
            os.fsync(file.fileno())
            times.append(clock.ticks_ns() - began)
    return sorted(times)
