"""A journal on SQLite for work on the whole of its file, while no engine runs on it (archive.py)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import apsw

from engine.runtime.journal.archive import Boundary, Steps
from engine.runtime.journal.base import JournalFailed
from engine.runtime.journal.lock import Lock
from engine.runtime.journal.reading import SqlReader
from engine.runtime.journal.sqlite import connect, damage_of, refuse_a_damaged_log, sentence_of, size_of, wal_of
from engine.runtime.journal.tail import NUMBERED_ANEW
from engine.runtime.journal.writing import migrate


def archives_of(path: Path) -> Path:
    return path.with_name(path.name + ".archive")


def bytes_of(path: Path) -> int:
    """With the write-ahead log."""
    return size_of(path) + size_of(wal_of(path))


@contextmanager
def hold_file(path: Path, at_ns: int) -> Iterator["FileHold"]:
    """Its lock is held, as by an engine. Raises JournalFailed."""
    if not path.is_file():
        raise JournalFailed(f"{path}: there is no journal here")
    lock = Lock(path.with_name(path.name + ".lock"))
    lock.take()
    try:
        connection = connect(path, "power")
        try:
            refuse_a_damaged_log(connection, path)
            migrate(connection, str(path), at_ns)
            hold = FileHold(connection, path)
            hold.reader.verify_tail()
            yield hold
        finally:
            connection.close()
    except apsw.Error as error:
        raise JournalFailed(f"{path}: {sentence_of(error)}{damage_of(path, error)}") from error
    finally:
        lock.release()


class FileHold:
    """See `Hold`."""

    def __init__(self, connection: apsw.Connection, path: Path) -> None:
        self._connection, self._path = connection, path
        self.folder = archives_of(path)
        self.reader = SqlReader(connection, str(path), owned=False)

    def keep(self) -> None:
        pass  # the lock is held until the process ends

    def write(self, steps: Steps, before_end: Callable[[], None] = lambda: None) -> None:
        with self._connection:
            for sql, many in steps:
                self._connection.executemany(sql, many)
            before_end()

    def shorten(self, at: Boundary) -> str:
        """Also what a run that was interrupted has left free."""
        if not self._connection.execute("PRAGMA freelist_count").get:
            return ""
        at("shorten")
        try:
            self._connection.execute(NUMBERED_ANEW)  # VACUUM may do that with rows
            self._connection.execute("VACUUM")
            self._connection.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except apsw.FullError as error:
            return f"there is no room for the copy that shortening the file needs ({error}); free some and repeat"
        except apsw.BusyError as error:
            return f"somebody is reading the journal ({error}); repeat when that is over"
        at("shortened")
        return ""

    def size(self) -> int:
        return bytes_of(self._path)
