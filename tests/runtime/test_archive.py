"""Retention: what leaves the journal, what stays, what the audit says of both, and a crash at every step of it."""

# ruff: noqa: ASYNC240 (a temporary file is not worth a thread, nor is a process that ends by itself)

import gzip
import os
import signal as signals
import sys
import textwrap
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
import trio

from engine.core.audit import Report as Audit
from engine.core.audit import verify
from engine.core.cursors import EVERYBODY, begin
from engine.core.messages import Cursor, Delivery, Outcome, Position, Reconciled
from engine.core.times import DAY
from engine.runtime.journal.archive import Asked, Boundary, Held, Report, archive, foresee, retain, whole
from engine.runtime.journal.base import Journal, JournalFailed
from engine.runtime.journal.postgres import PostgresJournal, PostgresTerms
from engine.runtime.journal.postgres_hold import bytes_of as size_at
from engine.runtime.journal.postgres_hold import hold_server
from engine.runtime.journal.postgres_reading import open_reader as reader_at
from engine.runtime.journal.reading import SqlReader
from engine.runtime.journal.sqlite import SqliteJournal, open_reader
from engine.runtime.journal.sqlite_hold import archives_of, bytes_of, hold_file
from tests.patience import PATIENCE_SECONDS
from tests.postgres import PASSWORD, STORES, Server
from tests.runtime.journal_world import ACCOUNT, CHECKS, CLOCK, NOW, SYMBOL, filled, order, submitted, taken
from tests.runtime.journal_world import whole as story

STEPS = ("written", "named", "moved", "committed", "shorten", "shortened")
CUTS = [*(("sqlite", step) for step in STEPS), ("postgres", "named"), ("postgres", "moved"), ("postgres", "shorten")]
LATER = NOW + 40 * DAY
ASKED = Asked(keep_ns=30 * DAY, now_ns=LATER, by="test")


class Crash(Exception):
    pass


class Place:
    """Where a journal is: a file, or a schema on a server."""

    folder: Path  # of its archives

    def journal(self) -> Journal:
        raise NotImplementedError

    def hold(self) -> Held:
        raise NotImplementedError

    def reader(self) -> SqlReader:
        raise NotImplementedError

    def size(self) -> int:
        raise NotImplementedError

    def sql(self, sql: str) -> list[Any]:
        """With {} before the name of a table."""
        raise NotImplementedError

    def alter(self, table: str, column: str, old: str, new: str, where: str = "true") -> None:
        """As somebody does who should not."""
        raise NotImplementedError

    def another(self) -> "Place":
        raise NotImplementedError


class OnFile(Place):
    def __init__(self, path: Path) -> None:
        self.path, self.folder = path, archives_of(path)
        self.words = ("sqlite", str(path))

    def journal(self) -> SqliteJournal:
        return SqliteJournal(self.path, "process", CLOCK)

    def hold(self) -> Held:
        return hold_file(self.path, LATER)

    def reader(self) -> SqlReader:
        return open_reader(self.path)

    def size(self) -> int:
        return bytes_of(self.path)

    def sql(self, sql: str) -> list[Any]:
        with closing(apsw.Connection(str(self.path))) as connection:
            return list(connection.execute(sql.format("")))

    def alter(self, table: str, column: str, old: str, new: str, where: str = "true") -> None:
        changed = f"CAST(replace(CAST({column} AS TEXT), '{old}', '{new}') AS BLOB)"
        self.sql(f"UPDATE {table} SET {column} = {changed} WHERE {where}")

    def another(self) -> Place:
        return OnFile(self.path.with_name(f"other-{self.path.name}"))


class OnServer(Place):
    def __init__(self, server: Server, tmp_path: Path) -> None:
        self.server, self.at, self.tmp_path = server, server.journal(), tmp_path
        self.folder, self.lock = tmp_path / f"{self.at.schema}.archive", tmp_path / f"{self.at.schema}.lock"
        self.words = ("postgres", server.url, self.at.schema, str(self.lock), str(self.folder))

    def journal(self) -> PostgresJournal:
        terms = PostgresTerms(durability="process", accounts=(ACCOUNT,), away_seconds=PATIENCE_SECONDS)
        return PostgresJournal(self.at, terms, CLOCK, self.lock)

    def hold(self) -> Held:
        return hold_server(self.at, self.lock, self.folder, "process", CLOCK)

    def reader(self) -> SqlReader:
        return reader_at(self.at)

    def size(self) -> int:
        with closing(self.reader()) as reader:
            return size_at(reader, self.at)

    def sql(self, sql: str) -> list[Any]:
        return self.server.sql(sql.format(f"{self.at.schema}."))

    def alter(self, table: str, column: str, old: str, new: str, where: str = "true") -> None:
        changed = f"convert_to(replace(convert_from({column}, 'UTF8'), '{old}', '{new}'), 'UTF8')"
        self.sql(f"UPDATE {{}}{table} SET {column} = {changed} WHERE {where}")

    def another(self) -> Place:
        return OnServer(self.server, self.tmp_path)


@pytest.fixture(params=STORES)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    if request.param == "sqlite":
        return OnFile(tmp_path / "journal.sqlite")
    return OnServer(request.getfixturevalue("postgres"), tmp_path)


def nothing(step: str) -> None:
    pass


async def archived(place: Place, asked: Asked, at: Boundary = nothing) -> Report:
    """In a thread, as that on a server has a trio run of its own."""
    return await trio.to_thread.run_sync(lambda: archive(place.hold(), asked, at=at))


async def retained(place: Place, asked: Asked, at: Boundary = nothing) -> Report:
    return await trio.to_thread.run_sync(lambda: retain(place.hold(), asked, at=at))


async def fill(place: Place, first: int, count: int, open_too: bool = False) -> None:
    """Signals from receipt to confirmation, all told; with `open_too` one more whose order is at the venue."""
    journal = place.journal()
    state = await journal.open()
    try:
        position = next(iter(state.positions), Position(account=ACCOUNT, symbol=SYMBOL))
        for n in range(first, first + count):
            steps, position = story(n, position)
            for facts, rows in steps:
                journal.append(facts, rows)
        if open_too:
            journal.append(*taken(first + count))
            journal.append(*submitted(first + count))
        await journal.durable(journal.append((), (Reconciled(account=ACCOUNT, venue_ns=LATER),)))
        await journal.durable(journal.append((), (Cursor(sink=EVERYBODY, event_id=journal.stats().events),)))
    finally:
        await journal.close()


def audit(place: Place, folder: Path | None = None) -> Audit:
    with closing(place.reader()) as reader:
        found = whole(reader, folder or place.folder)
        return verify(found.lines, found.tables, found.base, found.findings, found.notes)


def count(place: Place, table: str) -> int:
    return int(place.sql(f"SELECT count(*) FROM {{}}{table}")[0][0])


async def test_what_ended_leaves_and_what_is_open_stays(place: Place) -> None:
    await fill(place, 0, 20, open_too=True)
    before = audit(place)
    report = await archived(place, ASKED)
    assert [(p.signals, p.orders, p.fills, p.events) for p in report.parts] == [(20, 20, 20, 19)]
    assert [count(place, t) for t in ("signals", "orders", "fills", "positions", "journal")] == [1, 1, 0, 1, 1]
    journal = place.journal()
    state = await journal.open()
    await journal.close()
    assert [row.signal.signal_id for row in state.signals] == ["s-000020"]
    assert state.signals[0].checks == CHECKS
    assert [o.cid for o in state.orders] == [order(20).cid]
    assert state.positions[0].qty == order(0).qty * 20
    after = audit(place)
    assert after.sound, after.findings
    assert (after.facts, after.signals, after.orders, after.executions) == (
        before.facts + 1,
        before.signals,
        before.orders,
        before.executions,
    )


async def test_a_signal_that_was_archived_is_answered_as_it_ended_and_stays_known_without_the_file(
    place: Place,
) -> None:
    await fill(place, 0, 5)
    with closing(place.reader()) as reader:
        first = reader.signal("s-000003")
    await archived(place, ASKED)
    await retained(place, Asked(keep_ns=DAY, now_ns=LATER + 365 * DAY, by="test"))
    assert list(place.folder.iterdir()) == []
    journal = place.journal()
    await journal.open()
    try:
        again = await journal.signal("s-000003")
        assert await journal.signal("s-000099") is None
    finally:
        await journal.close()
    assert first is not None and again is not None
    assert (again.signal, again.outcome, again.confirmed) == (first.signal, Outcome.EXECUTED, first.confirmed)


async def test_the_engine_goes_on_after_an_archive_and_the_next_archive_after_the_last(place: Place) -> None:
    await fill(place, 0, 10, open_too=True)
    await archived(place, ASKED)
    journal = place.journal()
    state = await journal.open()
    journal.append(*filled(10, state.positions[0]))  # the order that stayed open ends after all
    await journal.close()
    assert audit(place).sound
    await fill(place, 11, 10)
    second = await archived(place, Asked(keep_ns=30 * DAY, now_ns=LATER + 50 * DAY, by="test"))
    assert [(p.signals, p.orders) for p in second.parts] == [(11, 11)]
    assert audit(place).sound


async def test_many_facts_go_to_several_files_that_are_one_chain(place: Place) -> None:
    await fill(place, 0, 30)
    report = await archived(place, Asked(30 * DAY, LATER, "test", facts_max=50))
    assert len(report.parts) == 4
    edges = [(p.first_seq, p.last_seq) for p in report.parts]
    assert [first for first, _ in edges] == [1, *(last + 1 for _, last in edges[:-1])]
    found = audit(place)
    assert found.sound, found.findings
    assert (found.signals, found.orders, found.executions) == (30, 30, 30)


async def test_what_is_young_stays(place: Place) -> None:
    await fill(place, 0, 3)
    report = await archived(place, Asked(keep_ns=60 * DAY, now_ns=LATER, by="test"))
    assert report.parts == ()
    assert count(place, "signals") == 3


async def test_executions_that_a_start_asks_for_stay_though_their_facts_go(place: Place) -> None:
    await fill(place, 0, 4)
    journal = place.journal()
    await journal.open()
    await journal.durable(journal.append((), (Reconciled(account=ACCOUNT, venue_ns=NOW),)))
    await journal.close()
    await archived(place, ASKED)
    assert (count(place, "fills"), count(place, "journal")) == (4, 1)
    assert audit(place).sound


async def test_events_stay_for_a_sink_until_it_has_them_or_the_config_names_it_no_more(place: Place) -> None:
    await fill(place, 0, 5)
    cursors = begin(("quick", "slow"), (Cursor(EVERYBODY, 2),), 5)
    journal = place.journal()
    await journal.open()
    await journal.durable(journal.append((), (*cursors, Cursor("quick", 5))))
    await journal.close()
    (part,) = (await archived(place, ASKED)).parts
    assert (part.events, count(place, "outbox")) == (2, 3)
    await fill(place, 5, 1)  # which has no cursor of its own
    journal = place.journal()
    state = await journal.open()
    assert [row.event_id for row in await journal.outbox(journal.cursor("slow"))] == [3, 4, 5, 6]
    gone = begin(("quick",), (*state.cursors, Cursor("quick", 6)), 6)
    await journal.durable(journal.append((), (*gone, Cursor("quick", 6))))
    await journal.close()
    await archived(place, Asked(keep_ns=30 * DAY, now_ns=LATER + 50 * DAY, by="test"))
    assert count(place, "outbox") == 1  # the last one, from whose number the next one's follows


async def test_executions_of_an_order_that_lives_stay_too(place: Place) -> None:
    await fill(place, 0, 4)
    journal = place.journal()
    await journal.open()
    await journal.durable(journal.append((), (order(2),)))  # it lives again, as after a correction
    await journal.close()
    await archived(place, ASKED)
    assert count(place, "fills") == 1


async def test_a_dry_run_says_the_same_and_does_nothing(place: Place) -> None:
    await fill(place, 0, 30)
    asked = Asked(30 * DAY, LATER, "test", facts_max=50)
    with closing(place.reader()) as reader:
        seen = foresee(reader, place.folder, place.size(), asked)
    assert count(place, "signals") == 30
    assert not place.folder.exists()
    done = await archived(place, asked)
    assert [(p.name, p.signals, p.orders) for p in seen.parts] == [(p.name, p.signals, p.orders) for p in done.parts]
    for total in ("fills", "events"):
        assert sum(getattr(p, total) for p in seen.parts) == sum(getattr(p, total) for p in done.parts)


async def test_names_of_signed_deliveries_go_when_they_can_come_no_more_and_those_of_controls_stay(
    place: Place,
) -> None:
    """However little is to be kept, none goes while its timestamp would still let it in."""
    day_ago, hour_ago = LATER - DAY - 1, LATER - 3600 * 1_000_000_000
    rows = (
        Delivery("hook/old", "digest", day_ago),
        Delivery("hook/control/old", "digest", day_ago),
        Delivery("control/cleared", "digest", NOW),
        Delivery("stop/file:1/tripped", "digest", NOW),
        Delivery("hook/young", "digest", hour_ago),
    )
    journal = place.journal()
    await journal.open()
    await journal.durable(journal.append((), rows))
    await journal.close()
    asked = Asked(keep_ns=0, now_ns=LATER, by="test")
    with closing(place.reader()) as reader:
        assert foresee(reader, place.folder, place.size(), asked).deliveries == 2
    assert count(place, "deliveries") == 5
    keeps_all = await archived(place, ASKED)
    assert keeps_all.deliveries == 0
    assert (await archived(place, asked)).deliveries == 2
    left = [row[0] for row in place.sql("SELECT place FROM {}deliveries ORDER BY place")]
    assert left == ["control/cleared", "hook/young", "stop/file:1/tripped"]
    journal = place.journal()
    await journal.open()
    assert await journal.delivery("hook/young") == rows[-1] and await journal.delivery("hook/old") is None
    await journal.close()


async def test_the_file_gets_shorter(place: Place) -> None:
    await fill(place, 0, 300)
    report = await archived(place, ASKED)
    assert report.left == ""
    shorter = 3 if isinstance(place, OnFile) else 1  # a table of a server has more room of its own
    assert report.bytes_after < report.bytes_before / shorter
    assert report.parts[0].bytes < report.bytes_before / 4


async def test_numbers_of_events_and_facts_go_on(place: Place) -> None:
    await fill(place, 0, 5)
    with closing(place.reader()) as reader:
        before = reader.place()
    await archived(place, ASKED)
    with closing(place.reader()) as reader:
        after = reader.place()
    assert (after.seq, after.event_id, after.cursors) == (before.seq + 1, before.event_id, before.cursors)


async def test_while_an_engine_holds_the_journal_nothing_is_touched(place: Place) -> None:
    await fill(place, 0, 3)
    journal = place.journal()
    await journal.open()
    try:
        with pytest.raises(JournalFailed, match="another engine is running on this journal"):
            await archived(place, ASKED)
        with pytest.raises(JournalFailed, match="another engine is running"):
            await retained(place, ASKED)
    finally:
        await journal.close()
    assert not place.folder.exists()


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
async def test_who_was_taken_over_while_at_it_moves_nothing(place: Place) -> None:
    """As an engine on another machine does once the lease has run out."""
    await fill(place, 0, 3)

    def taken_over(step: str) -> None:
        if step == "named":
            place.sql("UPDATE {}leases SET owner = 'another', epoch = epoch + 1 WHERE account = ''")

    with pytest.raises(JournalFailed, match=r"taken over.*nothing of it was moved"):
        await archived(place, ASKED, at=taken_over)
    assert (count(place, "signals"), count(place, "archives")) == (3, 0)


@pytest.mark.parametrize("place", ["postgres"], indirect=True)
async def test_an_engine_elsewhere_that_holds_the_lease_is_in_the_way(place: Place) -> None:
    """Its lock file is on another machine."""
    await fill(place, 0, 3)
    place.sql("UPDATE {}leases SET owner = 'elsewhere:1', until_ns = 9000000000000000000")
    with pytest.raises(JournalFailed, match="another engine is running on this journal"):
        await archived(place, ASKED)
    assert count(place, "signals") == 3


async def test_a_broken_chain_is_not_put_away(place: Place) -> None:
    await fill(place, 0, 3)
    place.alter("journal", "fact", "0.01", "0.02", "seq = 3")
    with pytest.raises(JournalFailed, match="fact 3"):
        await archived(place, ASKED)
    assert count(place, "signals") == 3


# ------------------------------------------------------------------------------------------------------------ the audit


async def test_a_missing_or_changed_archive_is_told_and_the_rest_is_looked_at(place: Place) -> None:
    await fill(place, 0, 30)
    parts = (await archived(place, Asked(30 * DAY, LATER, "test", facts_max=50))).parts
    second = place.folder / parts[1].name
    whole_file = second.read_bytes()
    lines = gzip.decompress(whole_file)
    for damage, words in (
        (None, "is not there"),
        (whole_file[: len(whole_file) // 2], "cannot be read"),
        (gzip.compress(lines.replace(b'"qty":"0.01"', b'"qty":"0.02"')), "another one"),
        (gzip.compress(lines[: lines.rstrip().rindex(b"\n") + 1]), "torn"),
    ):
        second.unlink(missing_ok=True)
        if damage is not None:
            second.write_bytes(damage)
        found = audit(place)
        assert [(f.rule, words in f.text) for f in found.findings] == [("archive", True)], found.findings
        assert found.facts == parts[-1].last_seq - parts[1].last_seq + len(parts)
    second.write_bytes(gzip.compress(lines, 9))  # compressed anew, it is the same
    assert audit(place).sound


async def test_archives_may_be_moved_elsewhere(place: Place, tmp_path: Path) -> None:
    await fill(place, 0, 5)
    await archived(place, ASKED)
    cold = tmp_path / "cold"
    place.folder.rename(cold)
    assert not audit(place).sound
    assert audit(place, cold).sound


async def test_what_retention_deleted_is_a_note_and_later_facts_are_still_proven(place: Place) -> None:
    await fill(place, 0, 5, open_too=True)
    await archived(place, ASKED)
    await retained(place, Asked(DAY, LATER, "test"))
    found = audit(place)
    assert found.sound and len(found.notes) == 1 and "deleted on purpose" in found.notes[0]
    place.alter("positions", "row", "0.05", "0.06")
    assert [f.rule for f in audit(place).findings] == ["table positions"]


async def test_a_signal_judged_again_after_it_was_archived_is_found(place: Place) -> None:
    """What must never happen: the engine took an archived id once more."""
    for discard in (False, True):
        where = place.another() if discard else place
        await fill(where, 0, 3)
        await archived(where, ASKED)
        if discard:
            await retained(where, Asked(DAY, LATER, "test"))
        journal = where.journal()
        await journal.open()
        journal.append(taken(1, Outcome.REFUSED)[0])
        await journal.close()
        assert "one verdict" in [f.rule for f in audit(where).findings]


# -------------------------------------------------------------------------------------------------------- crash points


@pytest.mark.parametrize(("place", "step"), CUTS, indirect=["place"])
async def test_a_run_that_is_cut_off_at_any_step_loses_nothing_and_can_be_repeated(place: Place, step: str) -> None:
    """RELIABILITY 4.3, point 22: the highest complete generation wins, else the old one."""
    await fill(place, 0, 20, open_too=True)

    def crash(where: str) -> None:
        if where == step:
            raise Crash

    with pytest.raises(Crash):
        await archived(place, ASKED, at=crash)
    between = audit(place)
    assert between.sound, between.findings
    assert (between.signals, between.orders) == (21, 21)
    known(place, 20)
    await archived(place, ASKED)
    assert audit(place).sound
    assert len(list(place.folder.iterdir())) == 1
    if isinstance(place, OnFile):
        assert place.sql("PRAGMA freelist_count") == [(0,)]


DIES = """
    import os, sys
    from pathlib import Path
    from engine.core.money import use_exact_context
    from engine.runtime.clock import live_clock
    from engine.runtime.journal.archive import Asked, archive
    from engine.runtime.journal.postgres_hold import hold_server
    from engine.runtime.journal.server import address
    from engine.runtime.journal.sqlite_hold import hold_file
    use_exact_context()
    step, keep_ns, now_ns, store, where, *others = sys.argv[1:]
    if store == "sqlite":
        hold = hold_file(Path(where), int(now_ns))
    else:
        schema, lock, folder = others
        hold = hold_server(address(where, schema, os.environ, ""), Path(lock), Path(folder), "process", live_clock())
    die = lambda at: os.kill(os.getpid(), 9) if at == step else None
    archive(hold, Asked(int(keep_ns), int(now_ns), "test"), at=die)
"""


@pytest.mark.parametrize(("place", "step"), CUTS, indirect=["place"])
async def test_kill_9_at_any_step_loses_nothing(place: Place, step: str) -> None:
    await fill(place, 0, 20)
    arguments = [step, str(ASKED.keep_ns), str(ASKED.now_ns), *place.words]
    done = await trio.run_process(
        [sys.executable, "-c", textwrap.dedent(DIES), *arguments],
        cwd=Path(__file__).resolve().parents[2],
        env=os.environ | {"PGPASSWORD": PASSWORD},
        check=False,
    )
    assert done.returncode == -signals.SIGKILL
    assert audit(place).sound
    known(place, 20)
    await archived(place, ASKED)
    assert audit(place).sound
    known(place, 20)


async def test_a_deletion_that_is_cut_off_is_finished_by_the_next_run(place: Place) -> None:
    await fill(place, 0, 5)
    await archived(place, ASKED)
    asked = Asked(DAY, LATER, "test")
    with pytest.raises(Crash):
        await retained(place, asked, at=_crash)
    assert len(list(place.folder.iterdir())) == 1
    assert audit(place).sound
    await retained(place, asked)
    assert list(place.folder.iterdir()) == []


async def test_a_file_of_a_run_that_was_cut_off_is_not_mistaken_for_an_archive(place: Place) -> None:
    """Between the two runs the engine went on, so that the second file ends elsewhere."""
    await fill(place, 0, 5)
    with pytest.raises(Crash):
        await archived(place, ASKED, at=lambda step: _crash(step) if step == "named" else None)
    await fill(place, 5, 5)
    await archived(place, ASKED)
    assert len(list(place.folder.iterdir())) == 1
    assert audit(place).sound


def _crash(step: str) -> None:
    raise Crash


def known(place: Place, signals_count: int) -> None:
    with closing(place.reader()) as reader:
        rows = [reader.signal(f"s-{n:06d}") for n in range(signals_count)]
    assert all(row is not None and row.outcome is Outcome.EXECUTED for row in rows)


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    from engine.core.money import use_exact_context

    use_exact_context()
    yield
