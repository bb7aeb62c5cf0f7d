"""What `check` finds out about the machine."""

from itertools import cycle
from pathlib import Path

import trio

from engine.runtime.clock import Clock, live_clock
from engine.runtime.preflight import look_at_clock, look_at_disk

NOW = 1_800_000_000_000_000_000


def clock(wall_rate: float = 1.0, start_ns: int = NOW) -> Clock:
    """A clock on trio's time whose wall runs at another rate than its ticks."""
    return Clock(
        now_ns=lambda: start_ns + round(trio.current_time() * 1e9 * wall_rate),
        ticks_ns=lambda: round(trio.current_time() * 1e9),
    )


async def test_a_clock_that_runs_evenly_is_well(autojump_clock: trio.abc.Clock):
    found = await look_at_clock(clock())
    assert found.ok
    assert "agree" in found.detail


async def test_a_clock_that_is_being_set_is_a_problem(autojump_clock: trio.abc.Clock):
    found = await look_at_clock(clock(wall_rate=2.0))
    assert not found.ok
    assert "jumped by 200.0 ms" in found.detail


async def test_a_process_that_is_put_aside_between_two_readings_is_no_jump(autojump_clock: trio.abc.Clock):
    pauses, away = cycle((0, 90_000_000, 90_000_000, 0, 0, 0)), [0]

    def time_ns() -> int:
        away[0] += next(pauses)
        return round(trio.current_time() * 1e9) + away[0]

    found = await look_at_clock(Clock(now_ns=lambda: NOW + time_ns(), ticks_ns=time_ns))
    assert found.ok, found.detail


async def test_a_clock_that_was_never_set_is_a_problem(autojump_clock: trio.abc.Clock):
    assert "before 2025" in (await look_at_clock(clock(start_ns=0))).detail


def test_a_writable_folder_is_made_measured_and_left_empty(tmp_path: Path):
    found = look_at_disk(tmp_path / "deep" / "var", live_clock())
    assert found.ok
    assert "fsync" in found.detail
    assert list((tmp_path / "deep" / "var").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_problem(tmp_path: Path):
    (tmp_path / "file").write_text("")
    found = look_at_disk(tmp_path / "file" / "var", live_clock())
    assert not found.ok
    assert "cannot be written" in found.detail


def test_a_disk_that_is_slow_to_sync_is_a_problem(tmp_path: Path):
    ticks = iter(range(0, 10**12, 60_000_000))
    found = look_at_disk(tmp_path, Clock(now_ns=lambda: NOW, ticks_ns=lambda: next(ticks)))
    assert not found.ok
    assert "fsync 60.00 ms" in found.detail
