"""A disk that tears commits and lies about syncs: what a start finds is the state before the commit, or after it."""

from itertools import pairwise
from pathlib import Path
from random import Random

import apsw
import pytest
import trio

from engine.core.messages import EngineStarted
from engine.runtime.clock import Clock
from engine.runtime.journal.base import JournalFailed
from engine.runtime.journal.memory import MemoryJournal
from engine.runtime.journal.walcheck import commits_behind
from engine.runtime.schedule import JumpClock
from tests.sim.disk import SECTOR, WorldDisk, _connect
from tests.sim.faults import Faults, Nature
from tests.sim.scenarios import a_day, play
from tests.sim.truth import Crashed

STARTED = EngineStarted(at_ns=0, epoch=1, build="", config_hash="")
CLOCK = Clock(now_ns=lambda: 1_700_000_000_000_000_000, ticks_ns=lambda: 0)


def lives(seed: int, fail_sync: bool = False) -> tuple[list[int], dict[str, int]]:
    """Ten lives on one disk, each killed while its tenth commit is not synced; how many facts each start found."""
    found: list[int] = []
    reached: dict[str, int] = {}

    def reach(goal: str) -> None:
        reached[goal] = reached.get(goal, 0) + 1

    async def main() -> None:
        rng = Random(seed)
        disk = WorldDisk(lambda: 1.0, reach)
        disk.torn = 1.0
        for _ in range(10):
            journal = MemoryJournal(disk, CLOCK)
            state = await journal.open()
            found.append(state.seq)
            for _ in range(9):
                await journal.durable(journal.append((STARTED,)))
            journal.append((STARTED, STARTED))
            disk.fail_sync = fail_sync
            await trio.sleep(1.5 if fail_sync else 0.5)
            disk.fail_sync = False
            disk.crash(rng)
            disk.reader().verify_tail()

    trio.run(main, clock=JumpClock())
    return found, reached


@pytest.mark.parametrize("seed", range(8))
def test_a_torn_commit_is_there_as_a_whole_or_not_at_all_and_stops_no_start(seed: int) -> None:
    found, reached = lives(seed)
    steps = [after - before for before, after in pairwise(found)]
    assert set(steps) <= {9, 11}
    assert 9 in steps and reached["a torn commit was cut"] >= steps.count(9)
    assert sum(reached.values()) == 10


def test_a_commit_whose_sync_failed_may_be_there_after_the_restart() -> None:
    found, reached = lives(1, fail_sync=True)
    steps = [after - before for before, after in pairwise(found)]
    assert set(steps) == {9, 11}
    assert reached["a commit whose sync had failed was there after the restart"] >= steps.count(11)


def test_a_second_journal_on_the_disk_is_refused_until_the_first_is_gone() -> None:
    async def main() -> None:
        disk = WorldDisk(lambda: 0.0, lambda goal: None)
        first, second = MemoryJournal(disk, CLOCK), MemoryJournal(disk, CLOCK)
        await first.open()
        with pytest.raises(JournalFailed, match="another engine is running"):
            await second.open()
        await first.close()
        await second.open()

    trio.run(main, clock=JumpClock())


@pytest.mark.parametrize("where", ["journal.sync.before", "journal.sync.after", "journal.append.after"])
def test_a_day_with_torn_commits_loses_and_doubles_nothing(where: str) -> None:
    crashed = 0
    for count in (1, 3, 5, 7):
        report = play(a_day, Nature(volatility=0.0), Faults(torn=1.0, disk_slow=1.0, disk_slow_max=0.3), (where, count))
        assert not report.violations, (count, report.violations)
        crashed += sum(isinstance(x, Crashed) for x in report.truth)
    assert crashed == 4


@pytest.mark.parametrize("commits", [1, 2, 3])
def test_a_log_whose_first_sector_was_never_written_is_read_by_its_frames(tmp_path: Path, commits: int) -> None:
    """One commit may be torn by a power cut; whole ones behind the damage were safe, and must not be cut silently."""
    path = tmp_path / "journal.db"
    connection = _connect(path)
    connection.execute("CREATE TABLE t (x)")
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    for _ in range(commits):
        with connection:
            connection.executemany("INSERT INTO t VALUES (?)", [("x" * 3000,)] * 5)
    log = bytearray(path.with_name("journal.db-wal").read_bytes())
    log[:SECTOR] = bytes(SECTOR)
    for copied, content in (("journal.db", path.read_bytes()), ("journal.db-wal", bytes(log))):
        (tmp_path / f"torn-{copied}").write_bytes(content)
    assert commits_behind(tmp_path / "torn-journal.db-wal", 0) == commits
    connection.close()
