"""Where a PostgreSQL journal is, how a session on its server is set up, and what its answers mean for a person."""

from collections.abc import Mapping
from hashlib import sha256
from typing import Literal

import psycopg
from msgspec import Struct
from psycopg import sql
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from engine.runtime.journal.base import JournalFailed
from engine.runtime.journal.libpq import ConnectionLost, Refused, Wire

Durability = Literal["power", "process"]
LOCK_SECONDS = 2  # for a row that somebody else holds: nobody but an engine writes here

# Surely undone, and worth another try: a deadlock, a person who has cancelled the statement, a lock held too long, a
# server that has just become a stand-by or has no connection to spare.
PASSING = ("40001", "40P01", "57014", "55P03", "25006", "53300")


# A server whose machine has died says nothing: the kernel finds out within ten seconds or so. The url may say other.
_LIVELINESS = {"keepalives_idle": "5", "keepalives_interval": "2", "keepalives_count": "3", "tcp_user_timeout": "10000"}


class Address(Struct, frozen=True):
    """`where` is for people: it has no password in it, and is all that is ever printed."""

    conninfo: str
    schema: str
    where: str

    def __repr__(self) -> str:
        return f"Address({self.where})"


def address(url: str, schema: str, environment: Mapping[str, str], password_env: str = "") -> Address:
    """The password comes from the environment: from the variable that is named, else as libpq finds it (PGPASSWORD).

    Raises JournalFailed for what is no address.
    """
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error as error:
        raise JournalFailed(f"the journal's url: {' '.join(str(error).split())}") from None
    if password_env:
        if password_env not in environment:
            raise JournalFailed(f"the journal's password: the environment has no {password_env}")
        parts["password"] = environment[password_env]
    host, port = parts.get("host") or environment.get("PGHOST", "localhost"), parts.get("port", "")
    name = parts.get("dbname") or environment.get("PGDATABASE", "")
    where = f"postgresql://{host}{':' if port else ''}{port}/{name}, schema {schema}"
    return Address(make_conninfo("", **_LIVELINESS | parts), schema, where)


def drop(at: Address) -> None:
    """The journal is gone, with all that is in it: for one that was made to be thrown away. Raises JournalFailed."""
    try:
        with psycopg.connect(at.conninfo, autocommit=True) as connection:
            connection.execute(sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(sql.Identifier(at.schema)))
    except psycopg.Error as error:
        raise JournalFailed(f"{at.where}: {' '.join(str(error).split())}") from error


def tag(schema: str, owner: str) -> str:
    """An owner's sessions as the server shows them, so that those of the dead can be ended."""
    return f"surefire/{schema}/{sha256(owner.encode()).hexdigest()[:12]}"


async def session(at: Address, owner: str, durability: Durability, seconds: float) -> Wire:
    """A connection that may write. Raises ConnectionLost, Refused; JournalFailed for what will not pass by itself."""
    wire = await Wire.connect(at.conninfo, seconds)
    try:
        found = await wire.run(_SETTINGS[durability], tag(at.schema, owner), at.schema, f"{LOCK_SECONDS}s")
        standby, read_only, fsync = (str(value, "utf-8") for value in found[0][-3:] if value is not None)
        if standby == "t":
            raise Refused("25006", "the server is a stand-by", "")
        if read_only == "on":
            raise Refused("25006", "the server is read-only", "")
        if durability == "power" and fsync == "off":
            raise JournalFailed(
                f"{at.where}: the server runs with fsync = off: a commit does not survive a power cut;"
                ' switch it on, or choose durability = "process"'
            )
    except BaseException:  # raised again: nobody else has the connection to close it
        wire.close()
        raise
    return wire


def sentence(error: Refused | ConnectionLost) -> str:
    """The server's words, with ours before them where theirs do not say what to do."""
    if isinstance(error, ConnectionLost):
        return f"the server is out of reach ({error})"
    match error.sqlstate:
        case "53100":
            meaning = "the server's disk is full"
        case "25006":
            meaning = "the journal may not be written"
        case "42501":
            meaning = "the user lacks a right; it must own the schema, or be allowed to create it"
        case "23505":
            meaning = "somebody else has written into the journal"
        case "42P01" | "42703" | "3F000":
            meaning = "a table is missing or of another form: this is not a journal of this program, or it was altered"
        case "55P03":
            meaning = f"another session has locked the journal for more than {LOCK_SECONDS} s"
        case state if state.startswith("58") or state.startswith("XX"):
            meaning = "the server's disk failed, or its files are damaged"
        case state if state.startswith("22"):
            meaning = "a row cannot be written"
        case _:
            meaning = "the server refused"
    return f"{meaning} ({error.sqlstate}: {error})"


_COMMON = (
    "SELECT set_config('application_name', ?, false), set_config('search_path', ?, false),"
    " set_config('lock_timeout', ?, false), set_config('statement_timeout', '0', false),"
    # A half of a transaction must not keep the lease's row locked when its sender is gone.
    " set_config('idle_in_transaction_session_timeout', '10s', false),"
    " set_config('default_transaction_isolation', 'read committed', false),"
    " set_config('synchronous_commit', {}, false),"
    " pg_is_in_recovery(), current_setting('default_transaction_read_only'), current_setting('fsync')"
)
# The server's default may be stronger than `on`: then it is left.
_SETTINGS: dict[Durability, str] = {
    "power": _COMMON.format(
        "CASE WHEN current_setting('synchronous_commit') = 'remote_apply' THEN 'remote_apply' ELSE 'on' END"
    ),
    "process": _COMMON.format("'off'"),
}
