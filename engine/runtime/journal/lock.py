"""One engine per file: an advisory lock, which the kernel takes back when its holder dies, however that dies."""

import fcntl
import os
from pathlib import Path

from engine.runtime.journal.base import JournalFailed


class Lock:
    """One engine per journal: an advisory lock on a file beside it, held for life, with the holder's pid in it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = -1

    def take(self) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise JournalFailed(f"{self._path}: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(self._file, 20, 0).decode(errors="replace").strip() or "unknown"
            self.release()
            raise JournalFailed(
                f"{self._path}: another engine is running on this journal (process {holder}); stop that one first"
            ) from None
        try:
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, b"%d\n" % os.getpid(), 0)
        except OSError as error:
            self.release()
            raise JournalFailed(f"{self._path}: {error.strerror}") from error

    def release(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
