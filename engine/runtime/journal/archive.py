"""Retention: old facts, and the rows of what had ended by then, go to files; the journal keeps what they come to.

The facts are folded up to a cut. What had ended there (signals, orders, fills, told events) leaves with them; what had
not stays, and stands in the `Base` that the journal keeps beside the file's digest, so that the chain and the books can
be verified from there on without the file, and through it with it. **The id of every archived signal stays in the
journal for ever, with how it ended: sent again it gets that answer and is never executed (P1, ING4).**

Names of signed deliveries go too, with no file: a delivery of that age is refused by its timestamp, which is signed, so
nothing is told from its name any more. Names of events that steer stay; they have no other identity, and are few.

The steps, each of which may be the last one before a crash: the file is written under another name and synced, read
again, given its name; then one transaction names it in the journal and takes the rows out; then the journal's file is
made shorter. A file that no row names is of a run that did not get so far: it is deleted, for the journal has it all.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from engine.core.audit import Base, Books, Finding, Line, Tables, chain
from engine.core.messages import AnyFact, Archived, Discarded, Order
from engine.core.times import DAY
from engine.runtime.journal.archive_file import BadArchive, Writer, facts, inspect, rows
from engine.runtime.journal.base import ArchiveRow, JournalFailed
from engine.runtime.journal.reading import BOOKED_MARGIN_NS, SINCE, SqlReader
from engine.runtime.journal.tables import FROM_FACTS, JOURNAL, Values, encode, journal_values

# No name goes while its delivery could come again: a timestamp is at most 300 s from our clock, on either side
# (`tolerance_seconds`), and the rest is for clocks that were set.
REPLAY_NS = DAY
FACTS_MAX = 200_000  # in one file: what is folded at once has to fit into memory
_OF_DELIVERIES = "FROM deliveries WHERE at_ns < ? AND place NOT LIKE 'control/%' AND place NOT LIKE 'stop/%'"
_UNFINISHED = ".unfinished"
_TOLD = 1000  # facts between two words on the progress

Fill = tuple[str, str, str, int]  # account, symbol, execution id, number of its fact
Past = tuple[str, str, int, bytes]  # signal id, outcome, its archive, the row
Steps = list[tuple[str, Sequence[Values]]]  # statements, each with what it is run for
Boundary = Callable[[str], None]
Progress = Callable[[int, str], None]


class Asked(Struct, frozen=True):
    """Everything older than `keep_ns` is to go. `by` is for the audit log."""

    keep_ns: int
    now_ns: int
    by: str
    facts_max: int = FACTS_MAX


class Part(Struct, frozen=True):
    """What went to one file."""

    name: str
    first_seq: int
    last_seq: int
    signals: int = 0
    orders: int = 0
    fills: int = 0
    events: int = 0
    findings: int = 0  # of the audit over it; they went with it
    bytes: int = 0  # of the file


class Report(Struct, frozen=True):
    """What was done, or, `dry_run`, would be done. `left`: why the journal's file was not made shorter."""

    dry_run: bool
    folder: str
    parts: tuple[Part, ...]
    bytes_before: int
    bytes_after: int
    left: str = ""
    deliveries: int = 0  # names of signed ones that can come no more


class Whole(Struct, frozen=True):
    """All that is there of a journal and its archives, for the audit."""

    lines: Iterable[Line]
    tables: Tables
    base: Base
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


class Hold(Protocol):
    """A journal for work on the whole of it: no engine runs on it, and none can be started.

    Of this program's version, and its end is sound. What is done with it raises JournalFailed.
    """

    folder: Path  # where its archives are made; no other journal's are in it
    reader: SqlReader

    def keep(self) -> None:
        """To be called now and then while the work goes on."""
        ...

    def write(self, steps: Steps, before_end: Callable[[], None] = lambda: None) -> None:
        """In one transaction, and safe on the disk."""
        ...

    def shorten(self, at: Boundary) -> str:
        """Give free room back to the disk. Why not, when it cannot be; it may be repeated."""
        ...

    def size(self) -> int:
        """In bytes."""
        ...


Held = AbstractContextManager[Hold]


# ------------------------------------------------------------------------------------------------------------ archiving


def archive(held: Held, asked: Asked, progress: Progress = lambda _, __: None, at: Boundary = lambda _: None) -> Report:
    """Move what is old. Raises JournalFailed, having moved nothing of what it was at; to be repeated at any time."""
    with held as hold:
        before, folder = hold.size(), hold.folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sweep(hold)
            parts = tuple(_move_all(hold, asked, progress, at))
            deliveries = _old_deliveries(hold.reader, asked)
            if deliveries:
                hold.write([(f"DELETE {_OF_DELIVERIES}", [(_replayed_since(asked),)])])
        except OSError as error:
            raise JournalFailed(f"{error.filename or folder}: {error.strerror}; nothing of it was moved") from error
        except BadArchive as error:
            raise JournalFailed(f"{error}; nothing of it was moved") from error
        left = hold.shorten(at)
        return Report(False, str(folder), parts, before, hold.size(), left, deliveries)


def foresee(
    reader: SqlReader, folder: Path, size: int, asked: Asked, progress: Progress = lambda _, __: None
) -> Report:
    """What `archive` would move now, of a journal of so many bytes. Reads only, beside an engine too."""
    parts: list[Part] = []
    base, events = reader.base(), tuple(_movable_events(reader, asked))
    while cut := _cut(reader, base, asked):
        before = base.seq
        books = _fold(reader, base, cut, lambda line: None, progress)
        base = books.carry(_live(reader))
        fills = tuple(fill for fill in _movable_fills(reader, cut) if fill[3] > before or not parts)
        parts.append(_part(books, _Ended(books, base, fills, () if parts else events), before + 1, cut))
    return Report(True, str(folder), tuple(parts), size, size, deliveries=_old_deliveries(reader, asked))


def _move_all(hold: Hold, asked: Asked, progress: Progress, at: Boundary) -> Iterator[Part]:
    while cut := _cut(hold.reader, hold.reader.base(), asked):
        yield _move(hold, cut, asked, progress, at)


def _cut(reader: SqlReader, base: Base, asked: Asked) -> int:
    """The last fact that is to go, 0 for none: nothing behind it is older than asked."""
    old_ns = asked.now_ns - asked.keep_ns
    young = next(reader.query("SELECT seq FROM journal WHERE at_ns >= ? ORDER BY seq LIMIT 1", old_ns), None)
    cut = min(young[0] - 1 if young else reader.place().seq, base.seq + asked.facts_max)
    return cut if cut > base.seq else 0


def _fold(reader: SqlReader, base: Base, cut: int, keep: Callable[[Line], None], progress: Progress) -> Books:
    """Raises JournalFailed when the chain is broken: what proves a damage is not put away."""
    books = Books(base)
    for line in reader.lines(base.seq, cut):
        books.take_line(line)
        keep(line)
        if line.seq % _TOLD == 0:
            progress((line.seq - base.seq) * 1000 // (cut - base.seq), f"{line.seq - base.seq} facts")
    broken = [f for f in books.findings if f.rule == "chain"]
    if broken or books.seq != cut:
        words = broken[0].text if broken else "facts are missing at the end"
        raise JournalFailed(f"the chain is broken at fact {broken[0].seq if broken else books.seq}: {words}")
    return books


class _Ended:
    """What had ended at a cut, and leaves with the facts."""

    def __init__(self, books: Books, base: Base, fills: tuple[Fill, ...], events: tuple[int, ...]) -> None:
        staying = {order.cid for order in base.orders}
        self.signals = tuple(books.confirmed)
        self.orders = tuple(cid for cid in books.orders if cid not in staying)
        self.fills = fills
        self.events = events


def _live(reader: SqlReader) -> frozenset[str]:
    return frozenset(cid for (cid,) in reader.query(reader.live_orders("cid")))


def _movable_fills(reader: SqlReader, cut: int) -> Iterator[Fill]:
    """Executions that no start loads any more, as nobody asks the venue for them again."""
    sql = (
        f"SELECT f.account, f.symbol, f.exec_id, f.seq FROM fills AS f JOIN ({SINCE}) AS a ON a.account = f.account"
        " WHERE f.seq <= ? AND f.moment_ns < a.since - ?"
        f" AND f.cid NOT IN ({reader.live_orders('cid')}) ORDER BY f.seq"
    )
    return reader.query(sql, cut, BOOKED_MARGIN_NS)


def _movable_events(reader: SqlReader, asked: Asked) -> Iterator[int]:
    """Events that were told long ago. The last one of all stays: the next one's number follows from it."""
    old_ns = asked.now_ns - asked.keep_ns
    return (row.event_id for row in reader.told_events() if row.event.at_ns < old_ns)


def _old_deliveries(reader: SqlReader, asked: Asked) -> int:
    return int(next(reader.query(f"SELECT count(*) {_OF_DELIVERIES}", _replayed_since(asked)))[0])


def _replayed_since(asked: Asked) -> int:
    """What came before cannot come again."""
    return asked.now_ns - max(asked.keep_ns, REPLAY_NS)


def _part(books: Books, ended: _Ended, first_seq: int, cut: int) -> Part:
    counts = (len(ended.signals), len(ended.orders), len(ended.fills), len(ended.events))
    return Part(_name(first_seq, cut), first_seq, cut, *counts, findings=len(books.findings))


def _name(first_seq: int, last_seq: int) -> str:
    return f"facts-{first_seq:012d}-{last_seq:012d}.ndjson.gz"


def _move(hold: Hold, cut: int, asked: Asked, progress: Progress, at: Boundary) -> Part:
    """One file."""
    reader, base = hold.reader, hold.reader.base()
    final = hold.folder / _name(base.seq + 1, cut)
    unfinished = final.with_name(final.name + _UNFINISHED)
    writer = Writer(unfinished, base.seq + 1, base.hash)

    def told(done: int, words: str) -> None:
        hold.keep()
        progress(done, words)

    with reader.snapshot():
        books = _fold(reader, base, cut, writer.fact, told)
        after = books.carry(_live(reader))
        ended = _Ended(books, after, tuple(_movable_fills(reader, cut)), tuple(_movable_events(reader, asked)))
    past = tuple(_write_rows(writer, hold, ended, cut))
    digest = writer.close()
    at("written")
    inspect(unfinished, digest)
    unfinished.rename(final)
    _sync_folder(hold.folder)
    at("named")
    fact = Archived(
        at_ns=asked.now_ns,
        first_seq=base.seq + 1,
        last_seq=cut,
        last_hash=after.hash.hex(),
        name=final.name,
        digest=digest.hex(),
        by=asked.by,
    )
    steps = [
        *_named(reader, fact, after, digest),
        ("INSERT INTO past_signals VALUES (?, ?, ?, ?)", past),
        _open_signals_kept(reader, frozenset(ended.signals), cut),
        *_taken_out(ended, cut),
    ]
    hold.write(steps, lambda: at("moved"))
    at("committed")
    return replace(_part(books, ended, base.seq + 1, cut), bytes=_size_of(final))


def _write_rows(writer: Writer, hold: Hold, ended: _Ended, cut: int) -> Iterator[Past]:
    """Gives what the journal keeps of each signal: what a repeat is answered with, all but the checks it passed."""
    reader = hold.reader
    for row in filter(None, map(reader.signal, ended.signals)):
        hold.keep()
        writer.row("signals", encode(row))
        kept = replace(row, checks=tuple(check for check in row.checks if not check.passed))
        yield row.signal.signal_id, row.outcome.value, cut, encode(kept)
    for order in filter(None, map(reader.order, ended.orders)):
        hold.keep()
        writer.row("orders", encode(order))
    for fill in ended.fills:
        writer.row("fills", encode(fill))
    going = frozenset(ended.events)
    with reader.snapshot():
        for event in reader.told_events() if going else ():
            if event.event_id in going:
                writer.row("outbox", encode(event))


def _named(reader: SqlReader, fact: Archived, base: Base, digest: bytes) -> Steps:
    newest = next(reader.query("SELECT max(at_ns) FROM journal WHERE seq <= ?", fact.last_seq))[0]
    row = (fact.last_seq, fact.first_seq, fact.name, digest, newest, encode(base))
    return [("INSERT INTO archives VALUES (?, ?, ?, ?, ?, ?, NULL)", (row,)), *_appended(reader, fact)]


def _appended(reader: SqlReader, fact: AnyFact) -> Steps:
    """One more fact of the chain, and what follows from it in the audit log."""
    place = reader.place()
    seq, body = place.seq + 1, encode(fact)
    sql, values = FROM_FACTS[type(fact)]
    return [
        (JOURNAL, (journal_values(seq, fact, body, chain(place.hash, seq, body)),)),
        (sql, (values(seq, fact),)),
    ]


def _open_signals_kept(reader: SqlReader, ended: frozenset[str], cut: int) -> tuple[str, Sequence[Values]]:
    """A signal that stays is no longer told by facts that go."""
    found = "SELECT signal_id FROM signals WHERE received_seq <= ?1 OR judged_seq <= ?1"
    told = [signal_id for (signal_id,) in reader.query(found, cut) if signal_id not in ended]
    rows = ((signal_id, reader.signal(signal_id)) for signal_id in told)
    return (
        "UPDATE signals SET received_seq = NULL, judged_seq = NULL, row = ? WHERE signal_id = ?",
        [(encode(replace(row, confirmed=None)), signal_id) for signal_id, row in rows if row is not None],
    )


def _taken_out(ended: _Ended, cut: int) -> Steps:
    return [
        ("DELETE FROM signals WHERE signal_id = ?", [(signal_id,) for signal_id in ended.signals]),
        ("DELETE FROM orders WHERE cid = ?", [(cid,) for cid in ended.orders]),
        ("DELETE FROM fills WHERE account = ? AND symbol = ? AND exec_id = ?", [fill[:3] for fill in ended.fills]),
        ("DELETE FROM outbox WHERE event_id = ?", [(event_id,) for event_id in ended.events]),
        ("DELETE FROM journal WHERE seq <= ?", [(cut,)]),
        ("DELETE FROM story WHERE seq <= ?", [(cut,)]),
    ]


def _sweep(hold: Hold) -> None:
    """Files of a run that was interrupted, and those that were to be deleted."""
    archives, folder = hold.reader.archives(), hold.folder
    named = {row.name for row in archives}
    end = archives[-1].last_seq if archives else 0
    for file in sorted(folder.glob("facts-*.ndjson.gz*")):
        if file.name.endswith(_UNFINISHED) or (file.name not in named and _first(file) > end):
            file.unlink()
    for row in archives:
        if row.discarded_ns is not None:
            (folder / row.name).unlink(missing_ok=True)


def _first(file: Path) -> int:
    """The first fact in a file, by its name; 0: it is none of ours."""
    number = file.name.split("-")[1] if file.name.count("-") == 2 else ""
    return int(number) if number.isdecimal() else 0


# ------------------------------------------------------------------------------------------------------------ deleting


def retain(held: Held, asked: Asked, dry_run: bool = False, at: Boundary = lambda _: None) -> Report:
    """Delete archives all of whose facts are older than `keep_ns`. The ids of their signals stay. JournalFailed."""
    with held as hold:
        folder, old_ns = hold.folder, asked.now_ns - asked.keep_ns
        old = [row for row in hold.reader.archives() if row.discarded_ns is None and row.newest_ns < old_ns]
        parts = tuple(Part(r.name, r.first_seq, r.last_seq, bytes=_size_of(folder / r.name)) for r in old)
        if not dry_run:
            for row in old:
                _discard(hold, row, asked)
            at("committed")
            try:
                _sweep(hold)
            except OSError as error:
                raise JournalFailed(f"{error.filename}: {error.strerror}; repeat to delete it") from error
        return Report(dry_run, str(folder), parts, sum(p.bytes for p in parts), 0)


def _discard(hold: Hold, row: ArchiveRow, asked: Asked) -> None:
    """First it is written down, then the file goes."""
    fact = Discarded(at_ns=asked.now_ns, first_seq=row.first_seq, last_seq=row.last_seq, name=row.name, by=asked.by)
    hold.write(
        [
            ("UPDATE archives SET discarded_ns = ? WHERE last_seq = ?", [(asked.now_ns, row.last_seq)]),
            *_appended(hold.reader, fact),
        ]
    )


# ------------------------------------------------------------------------------------------------------------ verifying


def whole(reader: SqlReader, folder: Path) -> Whole:
    """Archives and journal as one chain, from behind the last archive that is not there."""
    base = Base()
    usable: list[Path] = []
    findings: list[Finding] = []
    notes: list[str] = []
    for row in reader.archives():
        span = f"facts {row.first_seq} to {row.last_seq}"
        if row.discarded_ns is not None:
            notes.append(f"{span} were not looked at: their archive {row.name} was deleted on purpose")
        else:
            try:
                inspect(folder / row.name, row.digest)
                usable.append(folder / row.name)
                continue
            except BadArchive as error:
                findings.append(Finding("archive", row.last_seq, f"{span} were not looked at: {error}"))
        base, usable = row.base, []
    return Whole(_lines(reader, usable), _tables(reader, usable, base.seq), base, tuple(findings), tuple(notes))


def _lines(reader: SqlReader, files: list[Path]) -> Iterator[Line]:
    for file in files:
        yield from facts(file)
    yield from reader.lines()


def _tables(reader: SqlReader, files: list[Path], after: int) -> Tables:
    own = reader.tables(after)
    return replace(
        own,
        orders=(order for part in (*(map(_order, rows(f, "orders")) for f in files), own.orders) for order in part),
        executions=(key for part in (*(_fills(f, after) for f in files), own.executions) for key in part),
    )


def _fills(file: Path, after: int) -> Iterator[tuple[str, str, str]]:
    """A fill may have stayed in the journal longer than its fact, and left it with a later archive."""
    return ((account, symbol, i) for account, symbol, i, seq in map(_fill, rows(file, "fills")) if seq > after)


_order: Callable[[bytes], Order] = msgspec.json.Decoder(Order).decode
_fill: Callable[[bytes], Fill] = msgspec.json.Decoder(Fill).decode


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
