"""What is committed, read through one connection to SQLite or PostgreSQL: the Reader, and what a start loads.

Synchronous: each call is a few index look-ups. Nothing here writes.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from itertools import chain as chain_of
from typing import Any, Protocol, TypeVar

import apsw
import msgspec
from msgspec.structs import replace

from engine.core.audit import GENESIS, Base, Line, Tables, chain
from engine.core.cursors import told, waiting
from engine.core.messages import (
    AccountRow,
    Confirmed,
    Cursor,
    DeadLettered,
    Delivery,
    Event,
    Halt,
    Judged,
    LimitsRow,
    Order,
    OutboxRow,
    Outcome,
    Position,
    Reconciled,
    SignalReceived,
    SignalRow,
    Trade,
)
from engine.runtime.journal import tail
from engine.runtime.journal.base import ArchiveRow, AuditEntry, Execution, JournalFailed, OpenState, Record
from engine.runtime.journal.group import Place
from engine.runtime.journal.tables import decode_fact, encode

T = TypeVar("T")
TAIL = 10_000  # facts whose hashes are verified at every open; the audit verifies all
MAX = 2**63 - 1
BOOKED_MARGIN_NS = 600 * 1_000_000_000

# From which moment on a start needs the executions of an account: older ones no comparison asks for.
SINCE = (
    "SELECT p.account AS account, coalesce(max(r.venue_ns), 0) AS since"
    " FROM positions AS p LEFT JOIN reconciled AS r ON r.account = p.account GROUP BY p.account"
)
_EXECUTION = "SELECT f.account, f.symbol, f.exec_id, f.venue_ns, f.delta, f.cid, f.seq FROM"
# A look-up asks for all executions of an order that has not ended: those belong to a start, however old.
_OF_ORDERS = (
    "AS o CROSS JOIN fills AS f ON f.account = o.account"
    " AND f.moment_ns >= o.submitted_ns - ?1 AND f.symbol = o.symbol AND f.cid = o.cid"
    " WHERE CAST(json_extract(CAST(o.row AS TEXT), '$.filled_qty') AS REAL) > 0"
)

_SIGNALS = (
    "SELECT row, confirmed, (SELECT fact FROM journal WHERE seq = received_seq),"
    " (SELECT fact FROM journal WHERE seq = judged_seq) FROM"
)
_OF_SIGNAL = "rowid AS place, received_ns, row, confirmed, received_seq, judged_seq"
SIGNAL = f"{_SIGNALS} signals WHERE signal_id = ?"
DELIVERY = "SELECT place, body_hash, at_ns, answer FROM deliveries WHERE place = ?"
PAST_SIGNAL = "SELECT row FROM past_signals WHERE signal_id = ?"
_signal = msgspec.json.Decoder(SignalRow).decode
_confirmed = msgspec.json.Decoder(Confirmed).decode
_order = msgspec.json.Decoder(Order).decode
_position = msgspec.json.Decoder(Position).decode
_trade = msgspec.json.Decoder(Trade).decode
_account = msgspec.json.Decoder(AccountRow).decode
_limits = msgspec.json.Decoder(LimitsRow).decode
_base = msgspec.json.Decoder(Base).decode
_halt = msgspec.json.Decoder(Halt).decode
_event = msgspec.json.Decoder(Event).decode


class Connection(Protocol):
    """SQLite's, or what looks like it (postgres_reading.py). Raises apsw.Error or JournalFailed."""

    def execute(self, sql: str, values: tuple[Any, ...] = ()) -> Iterable[Any]: ...

    def close(self) -> None: ...


class SqlReader:
    """See `Reader`. Owns its connection and closes it. Raises JournalFailed for a damaged or missing file."""

    def __init__(self, connection: Connection, where: str, owned: bool = True) -> None:
        self._connection = connection
        self._where = where
        self._owned = owned
        self._has_past: bool | None = None

    def signal(self, signal_id: str) -> SignalRow | None:
        return _one(self._signals("signals WHERE signal_id = ?", signal_id)) or self._past(signal_id)

    def delivery(self, place: str) -> Delivery | None:
        return next((Delivery(*found) for found in self._query(DELIVERY, place)), None)

    def signals(self, limit: int, before: int = 0) -> tuple[SignalRow, ...]:
        """By the index and, of those that are not in it yet, by the tail."""
        below, count, mark = f"received_ns < {before or MAX:d}", max(limit, 1), self.meta(tail.SIGNALS)
        stands, ends = (
            "signals INDEXED BY signals_received WHERE open <> 1",
            f"signals WHERE open = 1 AND rowid > {mark:d}",
        )
        newest = f"SELECT received_ns FROM {stands} AND {below} ORDER BY received_ns DESC LIMIT {count:d}"
        both = f"SELECT received_ns FROM ({newest}) AS n UNION ALL SELECT received_ns FROM {ends} AND {below}"
        sql = f"SELECT received_ns FROM ({both}) AS b ORDER BY received_ns DESC LIMIT 1 OFFSET {count - 1:d}"
        last = next(self._query(sql), None)
        page = below if last is None else f"{below} AND received_ns >= {last[0]:d}"
        rows = f"SELECT {_OF_SIGNAL} FROM {stands} AND {page} UNION ALL SELECT {_OF_SIGNAL} FROM {ends} AND {page}"
        return self._signals(f"({rows}) AS s ORDER BY received_ns DESC, place DESC")

    def order(self, cid: str) -> Order | None:
        return _one(self._rows(_order, "SELECT row FROM orders WHERE cid = ?", cid))

    def orders(self, account: str | None, symbol: str | None, live_only: bool, limit: int) -> tuple[Order, ...]:
        wheres, values = _wheres(account=account, symbol=symbol)
        if live_only:
            return self._live_orders(wheres, values, f" DESC LIMIT {limit:d}")
        sql = f"SELECT row FROM orders WHERE true{wheres} ORDER BY rowid DESC LIMIT ?"
        return self._rows(_order, sql, *values, limit)

    def positions(self, account: str | None = None) -> tuple[Position, ...]:
        wheres, values = _wheres(account=account)
        return self._rows(_position, f"SELECT row FROM positions WHERE true{wheres} ORDER BY account, symbol", *values)

    def trades(self, account: str | None, limit: int, before_ns: int = 0) -> tuple[Trade, ...]:
        wheres, values = _wheres(account=account)
        edge = self._edge("trades", "opened_ns", f"true{wheres}", values, limit, before_ns)
        sql = f"SELECT row FROM trades WHERE {edge}{wheres} ORDER BY opened_ns DESC, rowid DESC"
        return self._rows(_trade, sql, *values)

    def trade(self, trade_id: str) -> Trade | None:
        return _one(self._rows(_trade, "SELECT row FROM trades WHERE trade_id = ?", trade_id))

    def halts(self) -> tuple[Halt, ...]:
        return self._rows(_halt, "SELECT row FROM halts WHERE ended_ns IS NULL ORDER BY id")

    def limits(self) -> tuple[LimitsRow, ...]:
        return self._rows(
            _limits,
            "SELECT row FROM risk_limits AS l WHERE version ="
            " (SELECT max(version) FROM risk_limits WHERE account = l.account) ORDER BY account",
        )

    def accounts(self) -> tuple[AccountRow, ...]:
        return self._rows(_account, "SELECT row FROM accounts ORDER BY account")

    def story(self, trace_id: str) -> tuple[Record, ...]:
        if not trace_id:
            return ()
        told = "story AS s CROSS JOIN journal AS j ON j.seq = s.seq WHERE s.trace_id = ?1"
        tail_ = f"journal WHERE seq > {self.meta(tail.FACTS):d} AND trace_id = ?1"
        # A commit between the mark and this may have taken up a part of the tail: no fact is told twice.
        sql = f"SELECT j.seq, j.at_ns, j.fact, j.hash FROM {told} UNION SELECT seq, at_ns, fact, hash FROM {tail_}"
        return self._recorded(f"{sql} ORDER BY 1", trace_id)

    def dead_letters(self, signal_id: str) -> tuple[DeadLettered, ...]:
        found = self._records("WHERE kind = 'DeadLettered' AND instr(fact, ?) > 0 ORDER BY seq", encode(signal_id))
        letters = (record.fact for record in found if isinstance(record.fact, DeadLettered))
        return tuple(letter for letter in letters if letter.signal_id == signal_id)

    def records(self, after: int = 0, limit: int = 1000) -> tuple[Record, ...]:
        return self._records("WHERE seq > ? ORDER BY seq LIMIT ?", after, limit)

    def audit_log(self, limit: int, before: int = 0) -> tuple[AuditEntry, ...]:
        edge = f"seq < {before:d}" if before else "true"
        sql = f"SELECT seq, at_ns, who, what, account, detail FROM audit_log WHERE {edge} ORDER BY seq DESC LIMIT ?"
        return tuple(AuditEntry(*line) for line in self._query(sql, limit))

    def lines(self, after: int = 0, until: int = MAX) -> Iterator[Line]:
        sql = "SELECT seq, fact, hash FROM journal WHERE seq > ? AND seq <= ? ORDER BY seq"
        for seq, fact, digest in self._query(sql, after, until):
            yield Line(seq, self._blob(seq, fact), self._blob(seq, digest))

    def tables(self, after: int = 0) -> Tables:
        """`after`: the rows of what followed from the facts behind this number; it is the end of an archive."""
        past = ((i, o) for i, o, _ in self.past_signals(after))
        standing = ((i, self._outcome(o)) for i, o in self._query("SELECT signal_id, outcome FROM signals"))
        return Tables(
            orders=self._each(_order, "SELECT row FROM orders"),
            positions=self._each(_position, "SELECT row FROM positions"),
            signals=chain_of(past, standing),
            executions=self._query("SELECT account, symbol, exec_id FROM fills WHERE seq > ?", after),
            halts=((s, k, w) for s, k, w in self._query("SELECT scope, kind, whose FROM halts WHERE ended_ns IS NULL")),
            past=(i for (i,) in self._query("SELECT signal_id FROM past_signals WHERE archive <= ?", after)),
        )

    def archives(self) -> tuple[ArchiveRow, ...]:
        """What has gone to files, oldest first."""
        sql = "SELECT first_seq, last_seq, name, digest, newest_ns, base, discarded_ns FROM archives ORDER BY last_seq"
        return tuple(
            ArchiveRow(first, last, name, digest, newest_ns, self._read(_base, base), discarded_ns)
            for first, last, name, digest, newest_ns, base, discarded_ns in self._query(sql)
        )

    def base(self) -> Base:
        """What the archived facts come to; the chain goes on after it."""
        found = next(self._query("SELECT base FROM archives ORDER BY last_seq DESC LIMIT 1"), None)
        return self._read(_base, found[0]) if found else Base()

    def past_signals(self, after: int = 0) -> Iterator[tuple[str, Outcome, int]]:
        """Signals that were archived, with the last number of their archive."""
        sql = "SELECT signal_id, outcome, archive FROM past_signals WHERE archive > ?"
        return ((i, self._outcome(o), archive) for i, o, archive in self._query(sql, after))

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Everything read inside is of one moment, while a running engine writes on."""
        self._connection.execute("BEGIN")
        try:
            yield
        finally:
            self._connection.execute("COMMIT")

    def close(self) -> None:
        if self._owned:
            self._connection.close()

    # ------------------------------------------------------------------------------------------------------- a start

    def state(self, account: str | None = None, symbol: str | None = None) -> OpenState:
        """Everything that has not ended; of one symbol, if named."""
        wheres, values = _wheres(account=account, symbol=symbol)
        of, value = _wheres(account=account)
        return OpenState(
            seq=self._end()[0],
            epoch=self.meta("epoch"),
            orders=self._live_orders(wheres, values),
            positions=self._rows(
                _position, f"SELECT row FROM positions WHERE true{wheres} ORDER BY account, symbol", *values
            ),
            trades=self._rows(
                _trade, f"SELECT row FROM trades INDEXED BY trades_open WHERE open = 1{wheres} ORDER BY rowid", *values
            ),
            signals=self._open_signals(wheres, values),
            accounts=self._rows(_account, f"SELECT row FROM accounts WHERE true{of} ORDER BY account", *value),
            limits=tuple(row for row in self.limits() if account in (None, row.account)),
            halts=self.halts(),
            events=self.last_event(),
            cursors=self.cursors(),
            reconciled=tuple(
                Reconciled(account=name, venue_ns=at)
                for name, at in self._query(f"SELECT account, venue_ns FROM reconciled WHERE true{of}", *value)
            ),
            executions=self._executions(account, symbol),
        )

    def outbox(self, after: int, limit: int) -> tuple[OutboxRow, ...]:
        """The first events after a number."""
        found = self._query(
            "SELECT event_id, row FROM outbox WHERE event_id > ? ORDER BY event_id LIMIT ?", after, limit
        )
        return tuple(OutboxRow(event_id=i, event=self._read(_event, row)) for i, row in found)

    def told_events(self) -> Iterator[OutboxRow]:
        """Those that every sink has, but the last of all, from whose number the next one's follows."""
        last = self.last_event()
        until = min(told(self.cursors(), last), last - 1)
        found = self._query("SELECT event_id, row FROM outbox WHERE event_id <= ? ORDER BY event_id", until)
        return (OutboxRow(event_id=i, event=self._read(_event, row)) for i, row in found)

    def last_event(self) -> int:
        return int(next(self._query("SELECT max(event_id) FROM outbox"))[0] or 0)

    def cursors(self) -> tuple[Cursor, ...]:
        found = self._query("SELECT sink, event_id, wanted FROM cursors ORDER BY sink")
        return tuple(Cursor(sink, event_id, bool(wanted)) for sink, event_id, wanted in found)

    def waiting(self) -> dict[str, int]:
        """Events that each sink has still to get."""
        return waiting(self.cursors(), self.last_event())

    def place(self) -> Place:
        """The chain's end, the outbox's and that of the indexes."""
        seq, digest = self._end()
        mark = self.meta(tail.FACTS)
        return Place(seq=seq, hash=digest, event_id=self.last_event(), cursors=self.cursors(), mark=mark)

    def _end(self) -> tuple[int, bytes]:
        """The last fact's number and hash."""
        newest = "SELECT seq, hash FROM journal ORDER BY seq DESC LIMIT 1"
        seq, digest = next(self._query(newest), (0, GENESIS))
        return seq, self._blob(seq, digest)

    def live_orders(self, columns: str, wheres: str = "") -> str:
        """A query of the orders that have not ended: by the index, and by the tail."""
        indexed = f"SELECT {columns} FROM orders INDEXED BY orders_live WHERE live = 2{wheres}"
        mark = self.meta(tail.ORDERS)  # read before: an older one finds no less
        return f"{indexed} UNION ALL SELECT {columns} FROM orders WHERE live = 1 AND rowid > {mark:d}{wheres}"

    def meta(self, key: str) -> int:
        found = next(self._query("SELECT value FROM meta WHERE key = ?", key), None)
        if found is None or not isinstance(found[0], int):
            raise JournalFailed(f"{self._where}: '{key}' is missing from the table meta")
        return found[0]

    def verify_tail(self, count: int = TAIL) -> None:
        """Raises JournalFailed with the number at which the chain of the last `count` facts breaks."""
        base = self.base()
        start = max(self._end()[0] - count, base.seq)
        digest, expected = base.hash, base.seq + 1
        for seq, fact, found in self._query("SELECT seq, fact, hash FROM journal WHERE seq >= ? ORDER BY seq", start):
            if seq == start > base.seq:  # its own predecessor is not read: taken as it is
                digest, expected = self._blob(seq, found), seq + 1
                continue
            if seq != expected:
                raise JournalFailed(f"{self._where}: fact {expected} is missing from the chain")
            digest = chain(digest, seq, self._blob(seq, fact))
            if digest != found:
                raise JournalFailed(f"{self._where}: the chain of hashes breaks at fact {seq}: the file was damaged")
            expected += 1

    # -------------------------------------------------------------------------------------------------------- details

    def query(self, sql: str, *values: Any) -> Iterator[Any]:
        """What else a journal's own work needs. Raises JournalFailed."""
        return self._query(sql, *values)

    def _query(self, sql: str, *values: Any) -> Iterator[Any]:
        try:
            yield from self._connection.execute(sql, values)
        except apsw.Error as error:
            raise JournalFailed(f"{self._where}: {error} (reading: {sql[:60]})") from error
        except UnicodeDecodeError as error:
            raise JournalFailed(f"{self._where}: a text is damaged: {error} (reading: {sql[:60]})") from error

    def _blob(self, seq: int, value: object) -> bytes:
        """A damaged page can hold what the schema forbids."""
        if not isinstance(value, bytes):
            raise JournalFailed(f"{self._where}: fact {seq} has lost its bytes: the file was damaged")
        return value

    def _read(self, decode: Any, row: object) -> Any:
        if not isinstance(row, bytes):
            raise JournalFailed(f"{self._where}: a row has lost its bytes: the file was damaged")
        try:
            return decode(row)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise JournalFailed(f"{self._where}: a row cannot be read: {error}: {row[:80]!r}") from error

    def _outcome(self, word: str) -> Outcome:
        try:
            return Outcome(word)
        except ValueError:
            raise JournalFailed(f"{self._where}: a signal's outcome is {word!r}, which is none") from None

    def _each(self, decode: Any, sql: str, *values: Any) -> Iterator[Any]:
        return (self._read(decode, row) for (row,) in self._query(sql, *values))

    def _rows(self, decode: Any, sql: str, *values: Any) -> tuple[Any, ...]:
        return tuple(self._each(decode, sql, *values))

    def _signals(self, source: str, *values: Any) -> tuple[SignalRow, ...]:
        return self.signal_rows(self._query(f"{_SIGNALS} {source}", *values))

    def _open_signals(self, wheres: str, values: tuple[str, ...]) -> tuple[SignalRow, ...]:
        """As `live_orders`."""
        indexed = f"SELECT {_OF_SIGNAL} FROM signals INDEXED BY signals_open WHERE open = 2{wheres}"
        rest = f"SELECT {_OF_SIGNAL} FROM signals WHERE open = 1 AND rowid > {self.meta(tail.SIGNALS):d}{wheres}"
        return self._signals(f"({indexed} UNION ALL {rest}) AS s ORDER BY place", *values, *values)

    def _live_orders(self, wheres: str, values: tuple[str, ...], cut: str = "") -> tuple[Order, ...]:
        sql = f"SELECT row FROM ({self.live_orders('rowid AS place, row', wheres)}) AS o ORDER BY place{cut}"
        return self._rows(_order, sql, *values, *values)

    def signal_rows(self, found: Iterable[Any]) -> tuple[SignalRow, ...]:
        """What the query `SIGNAL` has found, whoever has asked it."""
        rows = []
        for body, confirmed, received, judged in found:
            row = self._read(_signal, body) if body is not None else self._told(received, judged)
            if confirmed is not None:
                end: Confirmed = self._read(_confirmed, confirmed)
                row = replace(row, outcome=end.outcome, confirmed=end)
            rows.append(row)
        return tuple(rows)

    def _past(self, signal_id: str) -> SignalRow | None:
        if self._has_past is None:  # archives are made while no engine runs
            self._has_past = next(self._query("SELECT 1 FROM past_signals LIMIT 1"), None) is not None
        if not self._has_past:
            return None
        return _one(self._rows(_signal, PAST_SIGNAL, signal_id))

    def past_signal_rows(self, found: Iterable[Any]) -> tuple[SignalRow, ...]:
        """What the query `PAST_SIGNAL` has found."""
        return tuple(self._read(_signal, row) for (row,) in found)

    def _told(self, received: bytes | None, judged: bytes | None) -> SignalRow:
        """A row that was written as the numbers of its two facts."""
        one, other = (self._read(decode_fact, fact or b"") for fact in (received, judged))
        if not isinstance(one, SignalReceived) or not isinstance(other, Judged):
            raise JournalFailed(f"{self._where}: a signal's row points at facts of another kind")
        return SignalRow(signal=one.signal, outcome=other.outcome, checks=other.checks, plan=other.plan)

    def _records(self, which: str, *values: Any) -> tuple[Record, ...]:
        return self._recorded(f"SELECT seq, at_ns, fact, hash FROM journal {which}", *values)

    def _recorded(self, sql: str, *values: Any) -> tuple[Record, ...]:
        found = self._query(sql, *values)
        return tuple(Record(seq, at_ns, self._read(decode_fact, fact), digest) for seq, at_ns, fact, digest in found)

    def _executions(self, account: str | None, symbol: str | None) -> tuple[Execution, ...]:
        wheres, values = _wheres(account=account, symbol=symbol)
        only = wheres.replace(" account = ?", " f.account = ?2").replace(" symbol = ?", " f.symbol = ?3")
        recent = f"{_EXECUTION} ({SINCE}) AS a CROSS JOIN fills AS f ON f.account = a.account"
        live = self.live_orders("account, symbol, cid, submitted_ns, row")
        of_live = f"{_EXECUTION} ({live}) {_OF_ORDERS}"
        sql = f"{recent} AND f.moment_ns >= a.since - ?1 WHERE true{only} UNION {of_live}{only} ORDER BY 7"
        try:
            return tuple(
                Execution(account=a, symbol=s, exec_id=e, venue_ns=ns, delta=Decimal(delta), cid=cid)
                for a, s, e, ns, delta, cid, _ in self._query(sql, BOOKED_MARGIN_NS, *values)
            )
        except (ArithmeticError, TypeError) as error:
            raise JournalFailed(f"{self._where}: a fill cannot be read: {error!r}") from error

    def _edge(self, table: str, key: str, wheres: str, values: tuple[str, ...], limit: int, before: int) -> str:
        """The condition that cuts out one page without parting rows of one key."""
        below = f"{key} < {before:d}" if before else "true"
        sql = f"SELECT {key} FROM {table} WHERE {below} AND {wheres} ORDER BY {key} DESC LIMIT 1 OFFSET ?"
        last = next(self._query(sql, *values, max(limit, 1) - 1), None)
        return below if last is None else f"{below} AND {key} >= {last[0]:d}"


def _one(rows: tuple[T, ...]) -> T | None:
    return rows[0] if rows else None


def _wheres(**columns: str | None) -> tuple[str, tuple[str, ...]]:
    """Conditions for the columns that are given, and their values."""
    given = {name: value for name, value in columns.items() if value is not None}
    return "".join(f" AND {name} = ?" for name in given), tuple(given.values())
