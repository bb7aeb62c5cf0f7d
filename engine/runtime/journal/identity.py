"""Whose leases are whose: an owner that no other lock file has, on this machine or on another of the same name.

Whoever has the lock file knows that its earlier lives are dead, and takes their leases at once. So the owner's name is
of that very file, under the kernel that keeps its lock: a copy of it, a file of the same path on another host, or the
same disk under another kernel are somebody else's, and wait for the leases to end.
"""

import os
import socket
from hashlib import sha256
from pathlib import Path

from engine.runtime.journal.base import JournalFailed

_BOOT = Path("/proc/sys/kernel/random/boot_id")


def owner_of(lock: Path, boot: Path = _BOOT) -> str:
    """For the holder of `lock`. Without the kernel's boot id each start is somebody new. Raises JournalFailed."""
    try:
        place = lock.stat()
        told = (_kept(lock.with_suffix(".id")), _said(boot), str(place.st_dev), str(place.st_ino))
    except OSError as error:
        raise JournalFailed(f"{lock}: {error.strerror}") from error
    return f"{socket.gethostname()}:{sha256('|'.join(told).encode()).hexdigest()[:20]}"


def _kept(path: Path) -> str:
    """Drawn once, and kept beside the lock."""
    if not path.exists():
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.write_text(os.urandom(16).hex(), encoding="ascii")
        draft.rename(path)
    return path.read_text(encoding="ascii", errors="replace").strip() or os.urandom(16).hex()


def _said(boot: Path) -> str:
    try:
        return boot.read_text(encoding="ascii").strip()
    except OSError:
        return os.urandom(16).hex()
