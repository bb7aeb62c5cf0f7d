"""The disk of a world: what the memory disk does, and what a real one does below the level of commits.

A crash may leave a part of the last commit's bytes, some of its sectors old. Then the real thing is asked: the synced
state is written to a file, the commit goes into a real write-ahead log, that log is torn, and SQLite and our own check
of it decide what is left, as at the start of a real journal. And a sync that failed says nothing: what it was to make
safe may be there after a restart, or not.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import apsw

from engine.runtime.journal.base import JournalFailed
from engine.runtime.journal.group import Statements
from engine.runtime.journal.memory import MemoryDisk
from engine.runtime.journal.reading import SqlReader
from engine.runtime.journal.walcheck import commits_behind
from engine.runtime.journal.writing import commit

SECTOR = 512
Reach = Callable[[str], None]


class WorldDisk(MemoryDisk):
    """`torn` is the chance that a crash tears a commit that was not synced; `reach` hears of what came of it."""

    def __init__(self, latency: Callable[[], float], reach: Reach) -> None:
        super().__init__(latency, locks=True)
        self.torn = 0.0
        self._reach = reach
        self._limbo: list[Statements] = []

    def sync(self) -> None:
        if self.fail_sync:
            self._limbo += self._unsynced
        super().sync()

    def crash(self, rng: Random | None = None) -> int:
        assert rng is not None
        if self._limbo:
            if self._formatted() and rng.random() < 0.5:
                self._reach("a commit whose sync had failed was there after the restart")
                for statements in self._limbo:
                    commit(self._synced, statements)
            self._limbo.clear()
        elif self._unsynced and self.torn and rng.random() < self.torn:
            first, *_ = self._unsynced
            self._unsynced.clear()
            self._tear(first, rng)
        return super().crash(rng)

    def _tear(self, statements: Statements, rng: Random) -> None:
        with TemporaryDirectory() as folder:
            whole, torn = Path(folder, "whole.db"), Path(folder, "torn.db")
            whole.write_bytes(self._synced.serialize("main"))
            connection = _connect(whole)
            connection.execute("UPDATE meta SET value = value WHERE key = 'epoch'")  # a synced commit before it
            synced_bytes = _wal(whole).stat().st_size
            commit(connection, statements)
            shutil.copyfile(whole, torn)
            _wal(torn).write_bytes(_torn(_wal(whole).read_bytes(), synced_bytes, rng))
            connection.close()
            before = SqlReader(self._synced, "the memory disk", owned=False).place().seq
            self._synced = _recovered(torn)
            survived = SqlReader(self._synced, "the memory disk", owned=False).place().seq > before
            self._reach("a torn commit was whole all the same" if survived else "a torn commit was cut")


def _torn(log: bytes, synced_bytes: int, rng: Random) -> bytes:
    """The log as a power cut may leave it: shorter, or with sectors that were never written, behind what was synced."""
    if rng.random() < 0.5:
        return log[: rng.randint(synced_bytes, len(log))]
    left = bytearray(log)
    for start in range(synced_bytes, len(log), SECTOR):
        if rng.random() < 0.3:
            end = min(start + SECTOR, len(log))
            left[start:end] = bytes(end - start)
    return bytes(left)


def _recovered(path: Path) -> apsw.Connection:
    """What a start finds, by the same steps as the real journal's. Raises JournalFailed where that would refuse."""
    connection = _connect(path)
    frames, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
    if (lost := commits_behind(_wal(path), max(frames, 0))) > 1:
        raise JournalFailed(f"{lost} whole commits behind the damage of a log of which only the last could be torn")
    SqlReader(connection, str(path), owned=False).verify_tail()
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    connection.execute("PRAGMA journal_mode = DELETE")  # a file in WAL mode cannot be held in memory
    connection.close()
    memory = apsw.Connection(":memory:")
    memory.deserialize("main", path.read_bytes())
    return memory


def _connect(path: Path) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = OFF")  # the tearing is ours
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    return connection


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")
