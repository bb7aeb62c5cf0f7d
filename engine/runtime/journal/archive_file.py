"""One file of archived facts: gzip over lines of JSON. Its first line says what it is, its last one that it is whole.

    {"archive": 1, "first_seq": 1, "before": HASH}           the hash of the fact before the first
    {"seq": 1, "at_ns": ..., "hash": HASH, "fact": {...}}    the chain, byte by byte as it stood in the journal
    {"table": "orders", "row": {...}}                        rows that left with it: signals, orders, fills, outbox
    {"end": 1}

The digest is blake2b-256 over the lines, so that a file may be compressed anew. The journal keeps it.
"""

import gzip
import os
import zlib
from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from engine.core.audit import Line

FORMAT = 1


class BadArchive(Exception):
    """The file is missing, torn or not what the journal knows it to be. Says why."""


class Head(Struct, frozen=True, forbid_unknown_fields=True):
    archive: int
    first_seq: int
    before: str


class Kept(Struct, frozen=True, forbid_unknown_fields=True):
    """A fact."""

    seq: int
    hash: str
    fact: msgspec.Raw


class Moved(Struct, frozen=True, forbid_unknown_fields=True):
    """A row of a table, as JSON."""

    table: str
    row: msgspec.Raw


class End(Struct, frozen=True, forbid_unknown_fields=True):
    end: int


_encode = msgspec.json.Encoder().encode
_kept = msgspec.json.Decoder(Kept).decode
_moved = msgspec.json.Decoder(Moved).decode


class Writer:
    """Writes a file under a name that nobody looks for; `close` makes it safe. Raises OSError."""

    def __init__(self, path: Path, first_seq: int, before: bytes) -> None:
        self._raw = path.open("wb")
        os.chmod(path, 0o600)
        self._file = gzip.GzipFile(filename="", mode="wb", fileobj=self._raw, compresslevel=6, mtime=0)
        self._digest = blake2b(digest_size=32)
        self._put(Head(FORMAT, first_seq, before.hex()))

    def fact(self, line: Line) -> None:
        self._put(Kept(line.seq, line.hash.hex(), msgspec.Raw(line.fact)))

    def row(self, table: str, row: bytes) -> None:
        self._put(Moved(table, msgspec.Raw(row)))

    def close(self) -> bytes:
        """Whole and on the disk. Returns its digest."""
        self._put(End(1))
        self._file.close()
        self._raw.flush()
        os.fsync(self._raw.fileno())
        self._raw.close()
        return self._digest.digest()

    def _put(self, line: Struct) -> None:
        written = _encode(line) + b"\n"
        self._digest.update(written)
        self._file.write(written)


def inspect(path: Path, digest: bytes) -> None:
    """Raises BadArchive unless the file is whole and has this digest."""
    found = blake2b(digest_size=32)
    last = b""
    for line in _lines(path):
        found.update(line)
        last = line
    if last != _encode(End(1)) + b"\n":
        raise BadArchive(f"{path} is torn: its end is missing")
    if found.digest() != digest:
        raise BadArchive(f"{path} is not the file that the journal knows: its digest is another one")


def facts(path: Path) -> Iterator[Line]:
    """The chain in it, oldest first. Raises BadArchive."""
    for line in _of(path, _kept, b'{"seq":'):
        yield Line(line.seq, bytes(line.fact), bytes.fromhex(line.hash))


def rows(path: Path, table: str) -> Iterator[bytes]:
    """The rows of one table in it, as JSON. Raises BadArchive."""
    return (bytes(line.row) for line in _of(path, _moved, b'{"table":"%b"' % table.encode()))


def _of(path: Path, decode: Callable[[bytes], Any], beginning: bytes) -> Iterator[Any]:
    for line in _lines(path):
        if line.startswith(beginning):
            try:
                yield decode(line)
            except (msgspec.MsgspecError, ValueError) as error:
                raise BadArchive(f"{path}: a line cannot be read: {error}") from error


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with gzip.open(path, "rb") as file:
            lines: Iterable[bytes] = file
            yield from lines
    except FileNotFoundError as error:
        raise BadArchive(f"{path} is not there") from error
    except (OSError, EOFError, zlib.error) as error:
        raise BadArchive(f"{path} cannot be read: {error}") from error
