"""One connection to a PostgreSQL server under trio: libpq's own non-blocking interface, without a thread in the way.

psycopg's async classes need asyncio, and a thread costs two wake-ups per commit. What libpq offers below them is made
for a loop: bytes are queued and flushed, and whoever waits for the socket reads the answers. A whole transaction goes
out as one pipeline, so that it costs one round trip.
"""

import re
from collections.abc import Sequence
from functools import cache

import psycopg
import trio
from msgspec import Struct
from psycopg import pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from engine.runtime.journal.tables import Values

LOST = ("08", "57P")  # SQLSTATE classes: the connection or the server is going away
_DIAGNOSTIC = pq.DiagnosticField
_BYTEA = 17  # the type's number, the same in every server


class ConnectionLost(Exception):
    """The server cannot be reached, has hung up, or does not answer. What was under way may have happened or not."""


class Refused(Exception):
    """The server has said no, and has undone the transaction."""

    def __init__(self, sqlstate: str, text: str, sql: str) -> None:
        super().__init__(text)
        self.sqlstate = sqlstate
        self.sql = sql


class Answer(Struct, frozen=True):
    """Of one statement: the command's tag ("UPDATE 1"), and its rows as text (bytea: as bytes)."""

    tag: str
    rows: tuple[tuple[bytes | None, ...], ...] = ()


class Wire:
    """One connection, always in pipeline mode, with at most one pipeline under way.

    `send` never waits; `pump` is called when the socket is readable. `run` does both, for whoever has time.
    """

    def __init__(self, connection: pq.abc.PGconn) -> None:
        self._pg = connection
        self._prepared: dict[str, bytes] = {}
        self._sent: list[str] = []  # statements under way; "" is a preparation, whose answer nobody wants
        self._answers: list[Answer] = []
        self._refused: Refused | None = None
        self.busy = False
        self.broken = False  # of no use any more: something went wrong in the middle of a pipeline

    @classmethod
    async def connect(cls, conninfo: str, seconds: float) -> "Wire":
        """Raises ConnectionLost. libpq's own way to connect would hold the interpreter, and with it the loop."""
        connection: pq.abc.PGconn | None = None
        with trio.move_on_after(seconds):
            try:
                connection = pq.PGconn.connect_start((await _resolved(conninfo)).encode())
                await _handshake(connection)
            except BaseException:  # raised again: libpq's memory and socket are nobody else's to free
                if connection is not None:
                    _finish(connection)
                raise
            connection.nonblocking = 1
            connection.enter_pipeline_mode()
            return cls(connection)
        raise ConnectionLost(f"no connection within {seconds:g} s")

    @property
    def fd(self) -> int:
        return self._pg.socket

    def close(self) -> None:
        _finish(self._pg)

    def send(self, statements: Sequence[tuple[str, Sequence[Values]]]) -> bool:
        """Queue statements, each once for each of its values, and begin to write. False: `flush` has more to do.

        Without a BEGIN among them they are one transaction all the same. Raises ConnectionLost, ValueError.
        """
        assert not self.busy, "one pipeline at a time"
        self.busy, self._sent, self._answers, self._refused = True, [], [], None
        try:
            for sql, many in statements:
                name = self._prepared.get(sql) or self._prepare(sql)
                for values in many:
                    given, formats = _parameters(values)
                    self._pg.send_query_prepared(name, given, formats)
                    self._sent.append(sql)
            self._pg.pipeline_sync()
            return self._pg.flush() == 0
        except psycopg.OperationalError as error:
            raise ConnectionLost(_sentence(str(error))) from error

    async def flush(self) -> None:
        """The rest of a long pipeline, while somebody else reads the answers. Raises ConnectionLost."""
        try:
            while self._pg.flush():
                await trio.lowlevel.wait_writable(self._pg.socket)
        except (psycopg.OperationalError, trio.ClosedResourceError) as error:
            raise ConnectionLost(_sentence(str(error))) from error

    def pump(self) -> tuple[Answer, ...] | None:
        """The answers to all statements, once all are there. Raises Refused (then too), ConnectionLost."""
        try:
            self._pg.consume_input()
            while self.busy and not self._pg.is_busy():
                result = self._pg.get_result()
                if result is None:
                    continue  # the end of one statement's results
                if result.status == pq.ExecStatus.PIPELINE_SYNC:
                    self.busy = False
                else:
                    self._take(result)
        except psycopg.OperationalError as error:
            raise ConnectionLost(_sentence(str(error))) from error
        if self._pg.status != pq.ConnStatus.OK:
            raise ConnectionLost(_sentence(self._pg.get_error_message()))
        if self.busy or not self._sent:
            return None
        answers = tuple(answer for answer, sql in zip(self._answers, self._sent, strict=False) if sql)
        self._sent, self._answers = [], []
        if self._refused is not None:
            raise self._refused
        return answers

    async def run(self, sql: str, *values: object, seconds: float = 10.0) -> tuple[tuple[bytes | None, ...], ...]:
        """One statement, and its rows. Raises Refused, ConnectionLost; cancelled, the connection is broken."""
        return (await self.run_all([(sql, [values])], seconds))[-1].rows

    async def run_all(
        self, statements: Sequence[tuple[str, Sequence[Values]]], seconds: float = 10.0
    ) -> tuple[Answer, ...]:
        self.broken = True  # unless it ends well
        with trio.move_on_after(seconds):
            if not self.send(statements):
                await self.flush()
            while True:
                await trio.lowlevel.wait_readable(self._pg.socket)
                answers = self.pump()
                if answers is not None:
                    self.broken = False
                    return answers
        raise ConnectionLost(f"no answer in {seconds:g} s")

    # -------------------------------------------------------------------------------------------------------- details

    def _prepare(self, sql: str) -> bytes:
        name = self._prepared[sql] = b"s%d" % len(self._prepared)
        self._pg.send_prepare(name, translate(sql).encode())
        self._sent.append("")
        return name

    def _take(self, result: pq.abc.PGresult) -> None:
        # One more than there are statements: all are answered, and then the connection broke.
        sql = self._sent[len(self._answers)] if len(self._answers) < len(self._sent) else ""
        match result.status:
            case pq.ExecStatus.COMMAND_OK:
                self._answers.append(Answer((result.command_status or b"").decode()))
            case pq.ExecStatus.TUPLES_OK:
                columns = [result.ftype(column) == _BYTEA for column in range(result.nfields)]
                rows = tuple(
                    tuple(_value(result.get_value(row, at), is_bytes) for at, is_bytes in enumerate(columns))
                    for row in range(result.ntuples)
                )
                self._answers.append(Answer((result.command_status or b"").decode(), rows))
            case pq.ExecStatus.PIPELINE_ABORTED:
                self._answers.append(Answer("skipped"))  # a statement before it was refused
            case _:
                state = (result.error_field(_DIAGNOSTIC.SQLSTATE) or b"").decode()
                text = _sentence((result.error_field(_DIAGNOSTIC.MESSAGE_PRIMARY) or b"").decode())
                if not state or state.startswith(LOST):
                    raise ConnectionLost(text or _sentence(self._pg.get_error_message()))
                self._refused = self._refused or Refused(state, text, sql)
                self._answers.append(Answer("refused"))


async def _resolved(conninfo: str) -> str:
    """With addresses for the names of hosts: libpq would wait for them. Raises ConnectionLost."""
    parts = conninfo_to_dict(conninfo)
    hosts = str(parts.get("host") or "").split(",")
    if parts.get("hostaddr") or any(not host or host.startswith(("/", "@")) for host in hosts):
        return conninfo
    found = []
    for host in hosts:
        try:
            answers = await trio.socket.getaddrinfo(host, None, type=trio.socket.SOCK_STREAM)
        except OSError as error:
            raise ConnectionLost(f"{host}: {error.strerror}") from error
        found.append(str(answers[0][4][0]))
    return make_conninfo(conninfo, hostaddr=",".join(found))


async def _handshake(connection: pq.abc.PGconn) -> None:
    """Raises ConnectionLost."""
    state = pq.PollingStatus.WRITING if connection.status != pq.ConnStatus.BAD else pq.PollingStatus.FAILED
    while state != pq.PollingStatus.OK:
        match state:
            case pq.PollingStatus.READING:
                await trio.lowlevel.wait_readable(connection.socket)
            case pq.PollingStatus.WRITING:
                await trio.lowlevel.wait_writable(connection.socket)
            case _:
                raise ConnectionLost(_sentence(connection.get_error_message()))
        state = pq.PollingStatus(connection.connect_poll())


def _finish(connection: pq.abc.PGconn) -> None:
    """Whoever waits for the socket is told before its number may be another's."""
    try:
        trio.lowlevel.notify_closing(connection.socket)
    except psycopg.OperationalError:
        pass  # it has none any more
    connection.finish()


@cache
def translate(sql: str) -> str:
    """Our SQL, written for SQLite, in PostgreSQL's words. Only what we write is known; it is not a parser."""
    for pattern, word in _WORDS:
        sql = re.sub(pattern, word, sql)
    numbers = iter(range(1, 100))
    return re.sub(r"\?(\d?)", lambda found: f"${found[1] or next(numbers)}", sql)


_WORDS = (
    (r" INDEXED BY \w+", ""),
    (r"\bINTEGER PRIMARY KEY\b", "BIGINT GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"),
    (r"\bINTEGER\b", "BIGINT"),
    (r"\bBLOB\b", "BYTEA"),
    # Not by the server's JSON, which refuses a whole document for one character 0 in it. Our encoder puts no spaces.
    (
        r"json_extract\(CAST\(([\w.]+) AS TEXT\), '\$\.(\w+)'\)",
        r"""substring(convert_from(\1, 'UTF8') FROM '"\2":"([^"]*)"')""",
    ),
    (r"\bTEXT\b", 'TEXT COLLATE "C"'),  # as in SQLite: the order of rows must not depend on the server's language
    (r"\) STRICT(, WITHOUT ROWID)?", ")"),
    (r"instr\((\w+), \?\)", r"position(? in \1)"),
    (r"\bCROSS JOIN\b", "JOIN"),
    (r"\bmin\(coalesce\(", "least(coalesce("),  # SQLite's min of two values
)


def _value(value: bytes | None, is_bytes: bool) -> bytes | None:
    return bytes.fromhex(value[2:].decode()) if is_bytes and value is not None else value


def _parameters(values: Values) -> tuple[list[bytes | None], list[pq.Format]]:
    """What a statement is given, as text, bytes as they are. Raises ValueError for what cannot be text."""
    given: list[bytes | None] = []
    formats: list[pq.Format] = []
    for value in values:
        if isinstance(value, bytes):
            given.append(value)
            formats.append(pq.Format.BINARY)
        else:
            given.append(None if value is None else as_text(str(value)).encode())
            formats.append(pq.Format.TEXT)
    return given, formats


def as_text(text: str) -> str:
    """The server's texts cannot hold the character 0; it is written as the sign for it. The facts' bytes keep it."""
    return text.replace("\x00", "\N{SYMBOL FOR NULL}") if "\x00" in text else text


def _sentence(text: str) -> str:
    """libpq's words in one line."""
    return " ".join(text.split()) or "the connection is gone"
