"""Tells a write-ahead log that is torn at its end from one that is damaged in front of whole commits. Reads only.

SQLite reads its log up to the first frame whose checksum is wrong and takes the rest for torn. With an fsync per commit
only the last commit can be torn: when two or more whole ones stand behind that frame, they were durable, and were told
so to somebody. That must not be cut silently (see "The WAL File Format" in SQLite's file format document).
"""

from pathlib import Path
from struct import Struct

_HEADER = Struct(">8I")  # magic, version, page size, checkpoint number, salt 1, salt 2, checksum 1, checksum 2
_FRAME = Struct(">6I")  # page number, pages of the file after a commit (else 0), salt 1, salt 2, checksums


_MAGIC = (0x377F0682, 0x377F0683)


def commits_behind(wal: Path, valid_frames: int) -> int:
    """Whole commits in the log behind its first `valid_frames` frames, which are as many as SQLite can read."""
    try:
        size = wal.stat().st_size
        with wal.open("rb") as file:
            header = file.read(_HEADER.size)
            if len(header) < _HEADER.size:
                return 0
            salts, page_size = _salts(header), _HEADER.unpack(header)[2]
            if salts is None:  # the log's first sector is damaged, or was never written
                page_size = _page_size(wal)
            if page_size < 512:
                return 0  # neither file has a page: nothing was ever made safe
            step = _FRAME.size + page_size
            found = 0
            for number in range(valid_frames, (size - _HEADER.size) // step):
                file.seek(_HEADER.size + number * step)
                frame = _FRAME.unpack(file.read(_FRAME.size))
                if salts is None and any(frame[2:4]):
                    salts = frame[2:4]
                found += bool(frame[1]) and frame[2:4] == salts
            return found
    except FileNotFoundError:
        return 0


def _salts(header: bytes) -> tuple[int, int] | None:
    """What the frames of this log carry; None when the header itself is damaged."""
    words = _HEADER.unpack(header)
    if words[0] not in _MAGIC:
        return None
    big_endian = words[0] & 1
    body = Struct(">6I" if big_endian else "<6I").unpack(header[:24])
    one = two = 0
    for left, right in zip(body[::2], body[1::2], strict=True):
        one = (one + left + two) & 0xFFFFFFFF
        two = (two + right + one) & 0xFFFFFFFF
    return words[4:6] if (one, two) == words[6:8] else None


def _page_size(wal: Path) -> int:
    """As the database's own header says it (bytes 16 and 17; 1 stands for 65536)."""
    with wal.with_name(wal.name.removesuffix("-wal")).open("rb") as file:
        size = int.from_bytes(file.read(18)[16:], "big")
    return 65536 if size == 1 else size
