"""The journal on SQLite: what happens when the disk, the file or another process misbehaves."""

# ruff: noqa: ASYNC240 (a temporary file is not worth a thread)

import os
import signal as signals
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Literal

import apsw
import pytest
import trio

from engine.core.audit import GENESIS, chain, verify
from engine.core.cursors import EVERYBODY, begin
from engine.core.messages import Cursor, Halt, Halted, Reconciled, Resumed
from engine.runtime.journal import schema
from engine.runtime.journal.base import JournalFailed, OpenState
from engine.runtime.journal.sqlite import QUIET_SECONDS, SqliteJournal, open_reader
from engine.runtime.journal.tables import JOURNAL, encode, journal_values
from engine.runtime.journal.writing import migrate
from engine.runtime.switch import Switch
from tests.patience import PATIENCE_SECONDS
from tests.runtime.journal_world import CLOCK, event, order, submitted, taken, whole

Durability = Literal["power", "process"]
DURABILITIES: tuple[Durability, ...] = ("power", "process")
both = pytest.mark.parametrize("durability", DURABILITIES)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


@asynccontextmanager
async def opened(path: Path, durability: Durability = "process", **options: Any) -> Any:
    journal = SqliteJournal(path, durability, CLOCK, **options)
    state = await journal.open()
    try:
        yield journal, state
    finally:
        await journal.close()


async def fill(path: Path, signals_count: int) -> None:
    """A sound journal, closed."""
    async with opened(path) as (journal, _):
        seq = 0
        for n in range(signals_count):
            seq = journal.append(*taken(n))
        await journal.durable(seq)


async def refusal(path: Path) -> str:
    """Why a journal does not open."""
    with pytest.raises(JournalFailed) as caught:
        async with opened(path):
            pass
    return str(caught.value)


def child(code: str, *arguments: str) -> "subprocess.Popen[str]":
    """A process of its own on the same code."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).resolve().parents[2],
    )


# ----------------------------------------------------------------------------------------------------------- one engine


async def test_a_second_engine_is_refused_and_told_who_holds_the_journal(path: Path) -> None:
    async with opened(path):
        told = await refusal(path)
        assert f"process {os.getpid()}" in told and str(path) in told
    async with opened(path) as (_, state):
        assert state.epoch == 2  # the refused one has not touched it


async def test_an_engine_that_was_refused_leaves_no_lock_behind(path: Path) -> None:
    path.write_bytes(b"this is no database, however long one looks at it. " * 100)
    await refusal(path)
    path.unlink()
    async with opened(path) as (_, state):
        assert state.epoch == 1


@both
async def test_a_write_lock_of_another_process_is_a_failure_after_a_second(path: Path, durability: Durability) -> None:
    async with opened(path, durability) as (journal, _):
        other = apsw.Connection(str(path))
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(JournalFailed, match="another process has locked"):
            await journal.durable(journal.append(*taken(1)))
        other.close()


@both
async def test_a_short_write_lock_of_another_process_is_waited_for(
    path: Path, durability: Durability, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.runtime.journal.sqlite.BUSY_SECONDS", PATIENCE_SECONDS)
    async with opened(path, durability) as (journal, _):
        other = apsw.Connection(str(path))
        other.execute("BEGIN IMMEDIATE")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(journal.durable, journal.append(*taken(1)))
            await trio.sleep(0.1)
            assert journal.stats().commits == 0
            other.close()
        assert journal.stats().commits == 1


# ------------------------------------------------------------------------------------------------------ a failing disk


@both
async def test_after_a_failure_every_waiter_is_told_and_nothing_more_is_taken(
    path: Path, durability: Durability
) -> None:
    async with opened(path, durability, linger_seconds=10) as (journal, _):
        safe = journal.append(*taken(1))
        await journal.durable(safe)
        path.unlink()
        told: list[str] = []

        async def wait(seq: int) -> None:
            with pytest.raises(JournalFailed) as caught:
                await journal.durable(seq)
            told.append(str(caught.value))

        async with trio.open_nursery() as nursery:
            for n in range(2, 5):
                nursery.start_soon(wait, journal.append(*taken(n)))
        assert len(told) == 3 and all("moved or deleted" in t and str(path) in t for t in told)
        assert journal.failed == told[0] == journal.stats().failed
        await wait(journal.append(*taken(5)))  # at once
        await wait(journal.append((), (event("a"),)))
        with pytest.raises(JournalFailed):
            await journal.outbox(0)
        with pytest.raises(JournalFailed):
            await journal.published()
        await journal.durable(safe)  # what was safe before still is


@both
async def test_a_number_that_no_column_holds_fails_the_journal_and_nothing_else(
    path: Path, durability: Durability
) -> None:
    async with opened(path, durability) as (journal, _):
        await journal.durable(journal.append(*taken(1)))
        with pytest.raises(JournalFailed, match="a row cannot be written"):
            await journal.durable(journal.append((), (Reconciled(account="main", venue_ns=2**63),)))
    async with opened(path, durability) as (_, state):
        assert state.seq == 2


async def test_a_failure_reaches_those_who_already_wait_for_events(path: Path) -> None:
    async with opened(path) as (journal, _):
        with pytest.raises(BaseExceptionGroup) as caught:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(journal.outbox, 0)
                await trio.sleep(0.01)
                path.unlink()
                journal.append((), (event("a"),))
        assert caught.group_contains(JournalFailed)


FULL_DISK = """
    import resource, signal, sys
    from pathlib import Path
    import trio
    from engine.runtime.journal.base import JournalFailed
    from engine.runtime.journal.sqlite import SqliteJournal
    from tests.runtime.journal_world import CLOCK, taken

    async def main():
        journal = SqliteJournal(Path(sys.argv[1]), sys.argv[2], CLOCK)
        await journal.open()
        for n in range(100_000):
            try:
                await journal.durable(journal.append(*taken(n)))
            except JournalFailed as error:
                print(n, error)
                break
        await journal.close()

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000))
    trio.run(main)
"""


@both
async def test_a_full_disk_is_told_and_what_was_durable_is_found_again(path: Path, durability: Durability) -> None:
    with child(FULL_DISK, str(path), durability) as process:
        told, _ = process.communicate(timeout=PATIENCE_SECONDS)
    number, _, sentence = told.partition(" ")
    assert int(number) > 10
    assert ("the disk is full" in sentence or "the disk failed" in sentence) and str(path) in sentence
    async with opened(path) as (_, state):
        assert state.seq == 2 * int(number)


async def test_a_journal_in_a_place_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    told = await refusal(tmp_path / "file" / "journal.sqlite")
    assert str(tmp_path / "file") in told


async def test_a_folder_in_place_of_the_journal_is_refused(path: Path) -> None:
    path.mkdir()
    assert str(path) in await refusal(path)


# ------------------------------------------------------------------------------------------------------- a bad file


async def test_a_file_that_is_no_database_is_refused(path: Path) -> None:
    path.write_bytes(b"seq,fact\n" * 1000)
    told = await refusal(path)
    assert "not a journal" in told and str(path) in told


@both
async def test_a_journal_that_was_closed_is_one_file_though_somebody_has_it_open(
    path: Path, durability: Durability
) -> None:
    async with opened(path, durability) as (journal, _):
        await journal.durable(journal.append(*taken(1)))
        reader = journal.reader()
        assert reader.signal("s-000001") is not None
    wal = path.with_name(path.name + "-wal")
    assert not wal.exists() or wal.stat().st_size == 0
    assert reader.signal("s-000001") is not None
    reader.close()


async def test_another_programs_database_is_refused_and_left_alone(path: Path) -> None:
    other = apsw.Connection(str(path))
    other.execute("CREATE TABLE recipes (cake TEXT)")
    other.close()
    assert "not a journal of this program" in await refusal(path)
    other = apsw.Connection(str(path))
    assert [n for (n,) in other.execute("SELECT name FROM sqlite_schema")] == ["recipes"]
    other.close()


async def test_a_newer_journal_is_refused(path: Path) -> None:
    await fill(path, 1)
    connection = apsw.Connection(str(path))
    connection.execute("INSERT INTO schema_version VALUES (99, 0)")
    connection.close()
    assert "schema version 99" in await refusal(path)
    with pytest.raises(JournalFailed, match="schema version 99"):
        open_reader(path)


async def test_an_older_journal_is_brought_forward_in_one_transaction(path: Path) -> None:
    await fill(path, 2)
    connection = apsw.Connection(str(path))
    later = (*schema.MIGRATIONS, ("ALTER TABLE orders ADD COLUMN venue TEXT", "UPDATE meta SET value = value + 100"))
    broken = (*later, ("CREATE TABLE half (a)", "this is no SQL"))
    with pytest.raises(apsw.SQLError):
        migrate(connection, "here", 0, broken)
    assert connection.execute("SELECT max(version) FROM schema_version").get == len(schema.MIGRATIONS)
    migrate(connection, "here", 0, later)
    migrate(connection, "here", 0, later)  # nothing to do
    assert connection.execute("SELECT max(version) FROM schema_version").get == len(later)
    assert connection.execute("SELECT value FROM meta WHERE key = 'epoch'").get == 101
    connection.close()


async def test_halts_from_before_they_had_kinds_are_in_force_and_the_audit_agrees(path: Path) -> None:
    """Of one scope the last halt counted, and a resume ended whatever closed it."""
    loss = Halt("account/main", "lost", 2, "risk/RSK5.daily_loss")
    bob, quarantine = Halt("engine", "news", 3, "bob"), Halt("symbol/main/BTCUSDT", "differs", 4, "engine")
    told = [Halted(at_ns=h.since_ns, halt=h) for h in (Halt("engine", "drill", 1, "ann"), loss, bob, quarantine)]
    old = apsw.Connection(str(path))
    old.execute("PRAGMA journal_mode = WAL")
    migrate(old, "here", 0, schema.MIGRATIONS[:1])
    digest = GENESIS
    for seq, fact in enumerate((*told, Resumed(at_ns=5, scope=quarantine.scope, by="ann")), 1):
        body = encode(fact)
        assert b"kind" not in body
        digest = chain(digest, seq, body)
        old.execute(JOURNAL, journal_values(seq, fact, body, digest))
    for halt, ended_ns in ((bob, None), (loss, None), (quarantine, 5)):
        values = (halt.scope, halt.since_ns, encode(halt), ended_ns, "ann")
        old.execute("INSERT INTO halts (scope, since_ns, row, ended_ns, ended_by) VALUES (?, ?, ?, ?, ?)", values)
    old.close()
    async with opened(path) as (journal, state):
        switch = Switch(journal, CLOCK, state.halts)
        assert [(h.scope, h.kind, h.by) for h in switch.halts()] == [
            ("engine", "stop", "bob"),
            ("account/main", "loss", "risk/RSK5.daily_loss"),
        ]
        switch.halt(Halt("account/main", "news", 6, "ann"))
        assert [h.reason for h in switch.resume("account/main", "ann").ended] == ["news"]
        await journal.durable(switch.resume("engine", "cyd").seq)
    with closing(open_reader(path)) as reader:
        assert [h.reason for h in reader.halts()] == ["lost"]
        assert verify(reader.lines(), reader.tables()).findings == ()


@pytest.mark.parametrize(("told", "mark"), [(0, 0), (2, 2), (3, 3)])
async def test_the_mark_that_all_sinks_had_in_common_is_where_each_of_them_begins(
    path: Path, told: int, mark: int
) -> None:
    old = apsw.Connection(str(path))
    old.execute("PRAGMA journal_mode = WAL")
    migrate(old, "here", 0, schema.MIGRATIONS[:5])
    for number in (1, 2, 3):
        values = (number, "main", "order.filled", encode(event(str(number))), int(number <= told))
        old.execute("INSERT INTO outbox VALUES (?, ?, ?, ?, ?)", values)
    old.close()
    async with opened(path) as (journal, state):
        assert state.cursors == (Cursor(EVERYBODY, mark),) and state.events == 3
        await journal.durable(journal.append((), begin(("a", "b"), state.cursors, state.events)))
        assert journal.stats().sinks_waiting == {"a": 3 - mark, "b": 3 - mark}
        assert [row.event.key for row in await journal.outbox(0)] == ["1", "2", "3"]
    async with opened(path) as (_, state):
        assert {c.sink for c in state.cursors if c.wanted} == {"a", "b"}


async def test_a_fact_changed_afterwards_is_refused_with_its_number(path: Path) -> None:
    await fill(path, 20)
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE journal SET fact = CAST(replace(fact, '60000.1', '60000.2') AS BLOB) WHERE seq = 17")
    connection.close()
    assert "breaks at fact 17" in await refusal(path)


async def test_a_fact_taken_out_is_refused_with_its_number(path: Path) -> None:
    await fill(path, 20)
    connection = apsw.Connection(str(path))
    connection.execute("DELETE FROM journal WHERE seq = 9")
    connection.close()
    assert "fact 9 is missing" in await refusal(path)


async def test_a_row_that_cannot_be_read_is_refused(path: Path) -> None:
    async with opened(path) as (journal, _):
        await journal.durable(journal.append(*submitted(1)))
    connection = apsw.Connection(str(path))
    connection.execute('UPDATE orders SET row = CAST(\'{"type":"Order"}\' AS BLOB)')
    connection.close()
    assert "a row cannot be read" in await refusal(path)


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("DELETE FROM meta", "'epoch' is missing"),
        ("DELETE FROM schema_version", "schema versions is empty"),
        ("UPDATE fills SET delta = 'much'", "a fill cannot be read"),
        (
            'UPDATE orders SET live = 1, row = CAST(\'{"type":"Order","cid":"\' || x\'ff\' || \'"}\' AS BLOB)',
            "a row cannot",
        ),
    ],
)
async def test_tables_that_hold_what_no_engine_wrote_are_told(path: Path, sql: str, words: str) -> None:
    async with opened(path) as (journal, _):
        for step in whole(1)[0]:
            await journal.durable(journal.append(*step))
    connection = apsw.Connection(str(path))
    connection.execute(sql)
    connection.close()
    told = await refusal(path)
    assert words in told and str(path) in told


async def test_an_outcome_that_is_none_stops_the_audit_with_a_sentence(path: Path) -> None:
    await fill(path, 1)
    connection = apsw.Connection(str(path))
    connection.execute("UPDATE signals SET outcome = 'acceptee'")
    connection.close()
    reader = open_reader(path)
    with pytest.raises(JournalFailed, match="'acceptee', which is none"):
        verify(reader.lines(), reader.tables())
    reader.close()


def pages_of(path: Path, table: str) -> Iterator[int]:
    connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    root: int = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).get
    connection.close()
    yield root


async def test_a_damaged_page_is_refused(path: Path) -> None:
    await fill(path, 200)
    (root,) = pages_of(path, "journal")
    with path.open("r+b") as file:
        file.seek((root - 1) * 2048)
        file.write(b"\xa5" * 64)
    told = await refusal(path)
    assert "damaged" in told and str(path) in told


async def test_flipped_bytes_in_the_middle_are_refused_with_the_place(path: Path) -> None:
    await fill(path, 300)
    body = path.read_bytes()
    at = body.index(b'"signal_id":"s-000150"')
    with path.open("r+b") as file:
        file.seek(at + 16)
        file.write(b"X")
    told = await refusal(path)
    assert "fact 30" in told  # signal 150 is facts 301 and 302


async def leave_a_log(path: Path, count: int) -> None:
    """A journal as a killed engine leaves it: everything still in the write-ahead log."""
    with child(LEAVE_A_LOG, str(path), str(count)) as process:
        process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == -signals.SIGKILL


LEAVE_A_LOG = """
    import os, signal, sys
    from pathlib import Path
    import trio
    from engine.runtime.journal.sqlite import SqliteJournal
    from tests.runtime.journal_world import CLOCK, taken

    async def main():
        journal = SqliteJournal(Path(sys.argv[1]), "power", CLOCK)
        await journal.open()
        for n in range(int(sys.argv[2])):
            await journal.durable(journal.append(*taken(n)))
        os.kill(os.getpid(), signal.SIGKILL)

    trio.run(main)
"""


async def test_a_torn_end_of_the_log_is_cut_at_the_last_whole_commit(path: Path) -> None:
    await leave_a_log(path, 10)
    wal = path.with_name(path.name + "-wal")
    with wal.open("r+b") as file:
        file.truncate(wal.stat().st_size - 1000)
    async with opened(path) as (journal, state):
        assert state.seq == 18  # the tenth commit was torn
        reader = journal.reader()
        assert verify(reader.lines(), reader.tables()).findings == ()
        reader.close()


async def test_a_damaged_log_in_front_of_whole_commits_is_refused(path: Path) -> None:
    await leave_a_log(path, 10)
    wal = path.with_name(path.name + "-wal")
    with wal.open("r+b") as file:
        file.seek(wal.stat().st_size // 2)
        file.write(b"\xa5" * 32)
    told = await refusal(path)
    assert "write-ahead log" in told and str(wal) in told


# ----------------------------------------------------------------------------------------------------------- kill -9

KEEP_WRITING = """
    import sys
    from pathlib import Path
    import trio
    from engine.runtime.journal.sqlite import SqliteJournal
    from tests.runtime.journal_world import CLOCK, whole

    async def main():
        journal = SqliteJournal(Path(sys.argv[1]), sys.argv[2], CLOCK)
        state = await journal.open()
        position = state.positions[0] if state.positions else None
        for n in range(int(sys.argv[3]), 10**6):
            steps, position = whole(n, position)
            for facts, rows in steps:
                seq = journal.append(facts, rows)
            await journal.durable(seq)
            print(seq, flush=True)

    trio.run(main)
"""


@both
async def test_what_was_told_durable_survives_kill_9_and_the_books_are_whole(
    path: Path, durability: Durability
) -> None:
    last = 0
    for life in range(3):
        with child(KEEP_WRITING, str(path), durability, str(life * 10_000)) as process:
            assert process.stdout is not None
            for line in process.stdout:
                last = int(line)
                if last % 600 > 500:
                    break
            process.kill()
            for line in process.stdout:  # what was still in the pipe
                if line.endswith("\n"):
                    last = int(line)
        async with opened(path, durability) as (_, state):
            assert state.seq >= last
            assert state.signals == () and state.orders == ()  # each commit was a signal's whole way
        with closing(open_reader(path)) as reader:
            assert verify(reader.lines(), reader.tables()).findings == ()


# ------------------------------------------------------------------------------------------------------------ reading


async def test_a_reader_needs_no_engine_and_takes_no_lock(path: Path) -> None:
    await fill(path, 3)
    with closing(open_reader(path)) as reader:
        assert len(reader.records()) == 6
        async with opened(path) as (journal, _):  # an engine may start meanwhile
            await journal.durable(journal.append(*taken(3)))
            assert len(reader.records()) == 8


async def test_a_reader_of_nothing_says_so(path: Path) -> None:
    with pytest.raises(JournalFailed, match="there is no journal here"):
        open_reader(path)
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(JournalFailed, match="not a journal"):
        open_reader(path)


async def test_the_journal_is_for_its_owners_eyes(path: Path) -> None:
    async with opened(path):
        assert path.stat().st_mode & 0o077 == 0
        assert path.with_name("journal.sqlite-wal").stat().st_mode & 0o077 == 0


# -------------------------------------------------------------------------------------------------------- the log


async def test_the_log_is_copied_into_the_file_at_a_quiet_moment(path: Path) -> None:
    async with opened(path, "power") as (journal, _):
        for n in range(50):
            await journal.durable(journal.append(*taken(n)))
        assert journal.stats().wal_bytes > 200_000
        before, number = path.stat().st_size, 50
        with trio.fail_after(PATIENCE_SECONDS):
            while journal.stats().wal_bytes > 100_000:  # until it begins again at its start
                await trio.sleep(2 * QUIET_SECONDS)
                await journal.durable(journal.append(*taken(number)))
                number += 1
        assert path.stat().st_size > before


async def test_a_log_that_never_gets_quiet_is_kept_in_bounds(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.runtime.journal.sqlite.WAL_PAGES_MAX", 200)
    monkeypatch.setattr("engine.runtime.journal.sqlite.QUIET_SECONDS", 0.02)
    async with opened(path, "process") as (journal, _):
        sizes = []
        for n in range(1500):
            await journal.durable(journal.append(*taken(n)))
            sizes.append(journal.stats().wal_bytes)
        assert min(sizes[500:]) < 200 * 2048
        assert max(sizes) < 10_000 * 2048  # 1,500 commits without a copy would be a third more
    async with opened(path) as (_, state):
        assert state.seq == 3000


async def test_somebody_who_reads_for_long_costs_no_pause_after_every_commit(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An audit of a journal that is written on: the log cannot begin anew until it is through, whatever is tried."""
    monkeypatch.setattr("engine.runtime.journal.sqlite.WAL_PAGES_MAX", 200)
    async with opened(path, "process") as (journal, _):
        await journal.durable(journal.append(*taken(0)))
        pause, pauses = journal._copy_in_a_pause, []

        async def counted() -> bool:
            pauses.append(trio.current_time())
            return await pause()

        monkeypatch.setattr(journal, "_copy_in_a_pause", counted)
        number = 1
        with closing(open_reader(path)) as reader, reader.snapshot():
            assert reader.place().seq == 2
            began = trio.current_time()
            with trio.fail_after(PATIENCE_SECONDS):
                while not pauses or trio.current_time() < pauses[0] + 3 * QUIET_SECONDS:
                    await journal.durable(journal.append(*taken(number)))
                    number += 1
                    await trio.sleep(0.001)
            assert len(pauses) <= 1 + (trio.current_time() - began) / QUIET_SECONDS
        with trio.fail_after(PATIENCE_SECONDS):
            while journal.stats().wal_bytes > 200 * 2048:  # until it has begun anew
                await trio.sleep(QUIET_SECONDS / 10)
                await journal.durable(journal.append(*taken(number)))
                number += 1


# ---------------------------------------------------------------------------------------------------------- history


def plans_of(reader: Any, read: Any) -> dict[str, list[str]]:
    """How SQLite goes about each statement that `read` executes."""
    connection, seen = reader._connection, {}

    def trace(cursor: apsw.Cursor, sql: str, bindings: Any) -> bool:
        if not sql.startswith("EXPLAIN"):
            seen[sql] = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", bindings)]
        return True

    connection.exec_trace = trace
    read()
    connection.exec_trace = None
    return seen


async def test_a_start_does_not_read_history(path: Path) -> None:
    position = None
    async with opened(path) as (journal, _):
        for n in range(300):
            steps, position = whole(n, position)
            seq = 0
            for facts, rows in steps:
                seq = journal.append(facts, rows)
            await journal.durable(seq)
        await journal.durable(journal.append(*submitted(999)))
    with closing(open_reader(path)) as reader:
        plans = plans_of(reader, reader.state)
        assert len(plans) > 10
        for sql, plan in plans.items():
            small = ("positions", "accounts", "reconciled", "risk_limits", "halts", "meta", "cursors")
            of_found = ("SCAN o", "SCAN s")  # what has been found already, under another name
            scans = [line for line in plan if line.startswith("SCAN") and "INDEX" not in line and line not in of_found]
            assert not scans or any(f"FROM {table}" in sql for table in small) or "LIMIT 1" in sql, (sql, plan)
        state: OpenState = reader.state()
        assert state.orders == (order(999),)
