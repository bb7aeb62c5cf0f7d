"""A PostgreSQL connection that looks like SQLite's to `SqlReader`. Blocks: in an engine, only threads use it."""

from collections.abc import Iterator
from typing import Any

import psycopg

from engine.runtime.journal.base import JournalFailed, NoJournal
from engine.runtime.journal.libpq import as_text, translate
from engine.runtime.journal.reading import SqlReader
from engine.runtime.journal.schema import MIGRATIONS
from engine.runtime.journal.server import Address

CONNECT_SECONDS = 3
STATEMENT = "30s"  # an audit reads long, but in pieces
FETCH = 2000


class Away(JournalFailed):
    """The server is not to be reached, or too slow: later it may be another matter."""


def open_reader(at: Address) -> SqlReader:
    """A reader of the journal, whether an engine runs on it or not. Connects when it is first asked something."""
    return SqlReader(Rows(at), at.where)


class Rows:
    """See `reading.Connection`. Made anew after its server was away; inside a snapshot that is a failure."""

    def __init__(self, at: Address) -> None:
        self._at = at
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None
        self._cursors = 0

    def execute(self, sql: str, values: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
        """Lazy inside a snapshot, where whole tables are read. Raises JournalFailed."""
        if sql == "BEGIN":
            return iter(self._rows("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", ()))
        if sql != "COMMIT" and self._in_snapshot():
            return self._streamed(translate(sql), _given(values))
        return iter(self._rows(translate(sql), _given(values)))

    def _in_snapshot(self) -> bool:
        in_transaction = psycopg.pq.TransactionStatus.INTRANS
        return self._connection is not None and self._connection.info.transaction_status == in_transaction

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    def _rows(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        fresh = self._connection is None or self._connection.closed
        try:
            return self._ask(sql, values)
        except psycopg.OperationalError as error:
            if fresh or sql == "COMMIT" or not (self._connection and self._connection.closed):
                raise self._failure(error) from error
        except psycopg.Error as error:
            raise self._failure(error) from error
        return self._rows(sql, values)  # the server was away since the last question: a connection is made anew, once

    def _ask(self, sql: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        cursor = psycopg.RawCursor(self._connected(), row_factory=psycopg.rows.tuple_row)
        with cursor:
            cursor.execute(sql, values, binary=True)
            return cursor.fetchall() if cursor.description else []

    def _streamed(self, sql: str, values: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        self._cursors += 1
        name = f"reading_{self._cursors}"
        try:
            with psycopg.RawServerCursor(self._connected(), name, row_factory=psycopg.rows.tuple_row) as cursor:
                cursor.itersize = FETCH
                cursor.execute(sql, values, binary=True)
                yield from cursor
        except psycopg.Error as error:
            raise self._failure(error) from error

    def _connected(self) -> "psycopg.Connection[tuple[Any, ...]]":
        if self._connection is None or self._connection.closed:
            connection = psycopg.connect(
                self._at.conninfo,
                autocommit=True,
                connect_timeout=CONNECT_SECONDS,
                application_name="surefire reader",
                options=f"-c search_path={self._at.schema} -c statement_timeout={STATEMENT}",
            )
            try:
                self._check_kind(connection)
            except BaseException:  # raised again: nobody else has the connection to close it
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _check_kind(self, connection: "psycopg.Connection[tuple[Any, ...]]") -> None:
        where = self._at.where
        found = connection.execute("SELECT to_regclass('schema_version')").fetchone()
        if found is None or found[0] is None:
            raise NoJournal(f"{where}: there is no journal here")
        row = connection.execute("SELECT max(version) FROM schema_version").fetchone()
        version = row[0] if row is not None else None
        if version != len(MIGRATIONS):
            raise JournalFailed(
                f"{where}: the journal has schema version {version}, this program reads {len(MIGRATIONS)}"
                + ("; start the engine on it once to bring it forward" if (version or 0) < len(MIGRATIONS) else "")
            )

    def _failure(self, error: psycopg.Error) -> JournalFailed:
        kind = Away if isinstance(error, psycopg.OperationalError) else JournalFailed
        return kind(f"{self._at.where}: {' '.join(str(error).split())}")


def _given(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(as_text(value) if isinstance(value, str) else value for value in values)
