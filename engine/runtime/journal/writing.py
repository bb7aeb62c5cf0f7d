"""One commit, the schema's migrations and the epoch: everything that writes to a journal's SQLite connection."""

from collections.abc import Sequence

import apsw

from engine.runtime.journal.base import JournalFailed
from engine.runtime.journal.group import Statements
from engine.runtime.journal.schema import APPLICATION_ID, MIGRATIONS, VERSIONS
from engine.runtime.journal.tail import FLAGGED


def commit(connection: apsw.Connection, statements: Statements) -> None:
    """All of it in one transaction, or nothing. Raises apsw.Error."""
    prepare(connection, statements)
    land(connection)


def prepare(connection: apsw.Connection, statements: Statements) -> None:
    """Begin, and write into the page cache; nothing waits for the disk yet. Raises apsw.Error, leaving nothing then."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        for sql, many in statements:
            if len(many) == 1:
                connection.execute(sql, many[0])
            else:
                connection.executemany(sql, many)
    except BaseException:  # raised again: whatever it was, half a transaction must not stay open under the next one
        _undo(connection)
        raise


def land(connection: apsw.Connection) -> None:
    """The end of what was prepared: on the disk, as safe as the connection's settings say, or undone (apsw.Error)."""
    try:
        connection.execute("COMMIT")
    finally:
        _undo(connection)


def _undo(connection: apsw.Connection) -> None:
    if connection.in_transaction:  # not after a commit, nor after errors on which SQLite has rolled back by itself
        connection.execute("ROLLBACK")


def migrate(
    connection: apsw.Connection, where: str, at_ns: int, migrations: Sequence[Sequence[str]] = MIGRATIONS
) -> None:
    """Bring a journal to the version of this code, in one transaction. Refuses a newer one and foreign files."""
    version = _version(connection, where)
    if version > len(migrations):
        raise JournalFailed(
            f"{where}: the journal has schema version {version}, this program knows {len(migrations)}:"
            " it was written by a newer one"
        )
    if version == len(migrations):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute(VERSIONS)
        for number, statements in enumerate(migrations[version:], version + 1):
            for sql in statements:
                connection.execute(sql)
            connection.execute("INSERT INTO schema_version VALUES (?, ?)", (number, at_ns))
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("COMMIT")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def check_kind(connection: apsw.Connection, where: str) -> None:
    """Raises JournalFailed unless the file is a journal of exactly this version."""
    version = _version(connection, where)
    if version != len(MIGRATIONS):
        raise JournalFailed(
            f"{where}: the journal has schema version {version}, this program reads {len(MIGRATIONS)}"
            + ("; start the engine on it once to bring it forward" if version < len(MIGRATIONS) else "")
        )


def raise_epoch(connection: apsw.Connection, synced: bool = True) -> None:
    """One more life of the engine on this journal. `synced`: it will commit with an fsync each."""
    with connection:
        connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'epoch'")
        connection.execute(
            "INSERT INTO meta VALUES ('synced', ?) ON CONFLICT DO UPDATE SET value = excluded.value", (int(synced),)
        )
        _set_marks(connection)


def _set_marks(connection: apsw.Connection) -> None:
    """A mark of 0, or one beyond the end, is none: rows were numbered anew, by a VACUUM or by whoever copied them."""
    for table, flag, key in FLAGGED:
        mark = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).get
        end = connection.execute(f"SELECT coalesce(max(rowid), 0) FROM {table}").get
        if not mark or mark > end:
            connection.execute(f"UPDATE {table} SET {flag} = 2 WHERE {flag} = 1")
            connection.execute("UPDATE meta SET value = ? WHERE key = ?", (end, key))


def was_synced(connection: apsw.Connection) -> bool:
    """Whether the life before committed with an fsync each; also when that cannot be read."""
    try:
        return bool(connection.execute("SELECT coalesce(max(value), 1) FROM meta WHERE key = 'synced'").get)
    except apsw.SQLError:  # the table itself was in the lost part
        return True


def _version(connection: apsw.Connection, where: str) -> int:
    mark = connection.execute("PRAGMA application_id").get
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
    if not names:
        return 0
    if mark != APPLICATION_ID or "schema_version" not in names:
        raise JournalFailed(f"{where}: this SQLite file is not a journal of this program")
    found: int | None = connection.execute("SELECT max(version) FROM schema_version").get
    if found is None:
        raise JournalFailed(f"{where}: the table of schema versions is empty: the file was damaged")
    return found
