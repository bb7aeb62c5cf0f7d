"""A journal on PostgreSQL for work on the whole of it, while no engine runs on it (archive.py).

The journal's lease is taken, as by an engine, and held inside every transaction: when somebody took it over meanwhile,
nothing of ours is written any more. Blocks, and is not to be called inside of a trio run.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import trio

from engine.runtime.clock import Clock
from engine.runtime.journal import leases
from engine.runtime.journal.archive import Boundary, Steps
from engine.runtime.journal.base import JournalFailed
from engine.runtime.journal.identity import owner_of
from engine.runtime.journal.leases import Lease, Tenure
from engine.runtime.journal.libpq import ConnectionLost, Refused, as_text, translate
from engine.runtime.journal.lock import Lock
from engine.runtime.journal.postgres import CONNECT_SECONDS, another
from engine.runtime.journal.postgres_reading import open_reader
from engine.runtime.journal.reading import SqlReader
from engine.runtime.journal.server import LOCK_SECONDS, Address, Durability, sentence, session, tag

LEASE_NS = 60_000_000_000  # so long another engine waits when we are killed; one with the same lock file does not
SHRINKING = ("journal", "story", "signals", "orders", "fills", "outbox", "deliveries")
_BYTES = (
    "SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c"
    " JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = ? AND c.relkind = 'r'"
)


def bytes_of(reader: SqlReader, at: Address) -> int:
    """Of its tables, on the server."""
    return int(next(reader.query(_BYTES, at.schema))[0])


@contextmanager
def hold_server(at: Address, lock: Path, folder: Path, durability: Durability, clock: Clock) -> Iterator["ServerHold"]:
    """`lock` is the file of the engine for whom this is done. Raises JournalFailed."""
    held = Lock(lock)
    held.take()
    try:
        tenure = trio.run(_taken, at, owner_of(lock), durability, clock.now_ns())
        with _connected(at, tenure.owner) as connection, closing(open_reader(at)) as reader:
            reader.verify_tail()
            yield ServerHold(at, tenure, connection, reader, folder, clock)
        trio.run(_given_back, at, tenure, durability)
    except psycopg.Error as error:
        raise JournalFailed(f"{at.where}: {' '.join(str(error).split())}") from error
    finally:
        held.release()


async def _taken(at: Address, owner: str, durability: Durability, now_ns: int) -> Tenure:
    try:
        wire = await session(at, owner, durability, CONNECT_SECONDS)
        try:
            found = await leases.take(wire, at, owner, (), LEASE_NS, now_ns)
        finally:
            wire.close()
    except (ConnectionLost, Refused) as error:
        raise JournalFailed(f"{at.where}: {sentence(error)}") from error
    if isinstance(found, Lease):
        raise JournalFailed(another(at, found))
    return found


async def _given_back(at: Address, tenure: Tenure, durability: Durability) -> None:
    try:
        wire = await session(at, tenure.owner, durability, CONNECT_SECONDS)
        try:
            await leases.release(wire, tenure)
        finally:
            wire.close()
    except (ConnectionLost, Refused):
        pass  # it runs out by itself


def _connected(at: Address, owner: str) -> "psycopg.Connection[tuple[Any, ...]]":
    settings = {
        "search_path": at.schema,
        "lock_timeout": f"{LOCK_SECONDS}s",
        "statement_timeout": "0",
        "idle_in_transaction_session_timeout": "10s",
        "synchronous_commit": "on",
    }
    return psycopg.connect(
        at.conninfo,
        autocommit=True,
        connect_timeout=round(CONNECT_SECONDS),
        application_name=tag(at.schema, owner),
        options=" ".join(f"-c {name}={value}" for name, value in settings.items()),
    )


class ServerHold:
    """See `Hold`."""

    def __init__(
        self,
        at: Address,
        tenure: Tenure,
        connection: "psycopg.Connection[tuple[Any, ...]]",
        reader: SqlReader,
        folder: Path,
        clock: Clock,
    ) -> None:
        self.folder, self.reader = folder, reader
        self._at, self._tenure, self._connection, self._clock = at, tenure, connection, clock
        self._commits = 0
        self._kept_ns = clock.ticks_ns()
        self._moved = False

    def keep(self) -> None:
        if self._clock.ticks_ns() - self._kept_ns > LEASE_NS // 6:
            self._renew()

    def write(self, steps: Steps, before_end: Callable[[], None] = lambda: None) -> None:
        """A COMMIT whose answer is lost has happened or not; to repeat the whole of it is right in both cases."""
        try:
            with self._connection.transaction():
                self._run(self._tenure.holding((), self._commits))
                self._run(steps)
                before_end()
        except psycopg.errors.DivisionByZero as error:
            raise JournalFailed(f"{leases.taken_over(self._at)}; nothing of it was moved") from error
        self._commits += 1
        self._kept_ns = self._clock.ticks_ns()
        self._moved = True

    def shorten(self, at: Boundary) -> str:
        """Only after something has left: it writes the tables anew, and needs room for that."""
        if not self._moved:
            return ""
        at("shorten")
        try:
            for table in SHRINKING:
                self._renew()
                self._connection.execute(f"VACUUM (FULL, ANALYZE) {table}".encode())
        except psycopg.errors.DiskFull as error:
            return f"there is no room for the copy that shortening a table needs ({error}); free some and repeat"
        except psycopg.errors.LockNotAvailable as error:
            return f"somebody is reading the journal ({error}); repeat when that is over"
        at("shortened")
        return ""

    def size(self) -> int:
        return bytes_of(self.reader, self._at)

    def _renew(self) -> None:
        for sql, many in self._tenure.renewing():
            cursor = psycopg.RawCursor(self._connection)
            found = cursor.execute(translate(sql), many[0]).fetchone()
            if found is None or not self._tenure.renewed(str(found[0]).encode()):
                raise JournalFailed(f"{leases.taken_over(self._at)}; nothing of it was moved")
        self._kept_ns = self._clock.ticks_ns()

    def _run(self, steps: Iterable[tuple[str, Any]]) -> None:
        with psycopg.RawCursor(self._connection) as cursor:
            for sql, many in steps:
                cursor.executemany(translate(sql), [tuple(map(_given, values)) for values in many])


def _given(value: object) -> object:
    return as_text(value) if isinstance(value, str) else value
