"""Indexes that are a little behind: whatever they have and have not yet, nothing that is open is missed (P2, P4)."""

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from random import Random
from typing import Any

import apsw
import pytest
import trio

from engine.core.audit import GENESIS, chain, verify
from engine.core.messages import Outcome
from engine.runtime.clock import live_clock
from engine.runtime.journal import tail
from engine.runtime.journal.archive import Asked, archive
from engine.runtime.journal.base import Journal, OpenState
from engine.runtime.journal.memory import MemoryDisk, MemoryJournal
from engine.runtime.journal.postgres import PostgresJournal, PostgresTerms
from engine.runtime.journal.postgres_reading import open_reader as open_server_reader
from engine.runtime.journal.postgres_schema import bring_forward
from engine.runtime.journal.reading import SqlReader
from engine.runtime.journal.schema import MIGRATIONS
from engine.runtime.journal.server import Address, session
from engine.runtime.journal.sqlite import SqliteJournal, open_reader
from engine.runtime.journal.sqlite_hold import hold_file
from engine.runtime.journal.tables import encode, journal_values
from engine.runtime.journal.writing import migrate
from tests.patience import PATIENCE_SECONDS
from tests.postgres import Server
from tests.runtime.journal_world import ACCOUNT, CLOCK, NOW, filled, order, signal, submitted, taken, whole

Make = Callable[[], Any]
BEFORE = 6  # the version whose commits wrote every index


@pytest.fixture(params=["sqlite", "memory", "postgres"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Journals on one disk, one life after the other."""
    if request.param == "memory":
        disk = MemoryDisk()
        return lambda: MemoryJournal(disk, CLOCK)
    if request.param == "postgres":
        at = request.getfixturevalue("postgres").journal()
        terms = PostgresTerms(durability="process", accounts=(ACCOUNT,))
        return lambda: PostgresJournal(at, terms, CLOCK, tmp_path / "engine.lock")
    return lambda: SqliteJournal(tmp_path / "journal.sqlite", "process", CLOCK)


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tail of ten rows, taken up in small pieces."""
    for name, count in (("KEPT", 10), ("STEP", 4), ("PIECE", 40), ("LONG", 200)):
        monkeypatch.setattr(tail, name, count)
    monkeypatch.setattr("engine.runtime.journal.memory.KEPT", 10)


@asynccontextmanager
async def opened(make: Make) -> AsyncIterator[tuple[Any, OpenState]]:
    journal = make()
    state = await journal.open()
    try:
        yield journal, state
    finally:
        await journal.close()


async def unhurried(journal: Journal, *steps: Any) -> None:
    """Each in a commit that nobody waits for."""
    for facts, rows in steps:
        seq = journal.append(facts, rows)
        with trio.fail_after(PATIENCE_SECONDS):
            while journal.stats().durable_seq < seq:  # noqa: ASYNC110 (who waits would hurry it)
                await trio.sleep(0.001)


def lives(first: int, last: int) -> Iterator[Any]:
    for number in range(first, last):
        facts, rows = zip(*whole(number)[0], strict=True)
        yield [fact for step in facts for fact in step], [row for step in rows for row in step]


def flag(reader: SqlReader, table: str, key: str, value: str) -> int:
    column = {"orders": "live", "signals": "open"}[table]
    return int(next(reader.query(f"SELECT {column} FROM {table} WHERE {key} = ?", value))[0])


def missed(reader: SqlReader) -> list[str]:
    """What no index has, and the tail has not either: it must be empty, always."""
    found = []
    for table, column, key in tail.FLAGGED:
        behind = f"SELECT {column} FROM {table} WHERE {column} = 1 AND rowid <= {reader.meta(key):d}"
        found += [table for _ in reader.query(behind)]
    return found


async def test_what_lives_long_is_found_by_its_index_and_what_is_new_in_the_tail(make: Make) -> None:
    async with opened(make) as (journal, _):
        await unhurried(journal, taken(1), submitted(1), *lives(2, 40), taken(50), submitted(50))
        with closing(journal.reader()) as reader:
            assert (flag(reader, "orders", "cid", order(1).cid), flag(reader, "orders", "cid", order(50).cid)) == (2, 1)
            assert (flag(reader, "signals", "signal_id", "s-000001"), flag(reader, "orders", "cid", order(9).cid)) == (
                2,
                0,
            )
            assert 20 < reader.meta(tail.ORDERS) <= reader.meta(tail.SIGNALS) < reader.meta(tail.FACTS)
            assert reader.orders(None, None, True, 10) == (order(50), order(1))
            assert reader.orders(ACCOUNT, "BTCUSDT", True, 1) == (order(50),)
            assert reader.orders("other", None, True, 10) == ()
            assert not missed(reader)
        state = await journal.reload()
        assert state.orders == (order(1), order(50))
        assert [row.signal.signal_id for row in state.signals] == ["s-000001", "s-000050"]
    async with opened(make) as (journal, state):
        assert state.orders == (order(1), order(50))
        assert [row.signal.signal_id for row in state.signals] == ["s-000001", "s-000050"]
        await unhurried(journal, filled(1), filled(50))
        assert (await journal.reload()).orders == () == (await journal.reload()).signals


async def test_signals_are_paged_newest_first_over_the_mark(make: Make) -> None:
    """By the moment at which they were received, whether they have ended, are in the index or in neither."""
    numbers = [*range(1, 30), 90, 91, *range(30, 60), 10_000]
    async with opened(make) as (journal, _):
        for number in numbers:
            outcome = Outcome.REFUSED if number % 3 else Outcome.ACCEPTED
            await unhurried(journal, taken(number, outcome))
        with closing(journal.reader()) as reader:
            assert 0 < reader.meta(tail.SIGNALS) < len(numbers)
            found, before = [], 0
            while page := reader.signals(7, before):
                assert len(page) <= 7
                found += [row.signal.signal_id for row in page]
                before = page[-1].signal.received_ns
            assert found == [f"s-{number:06d}" for number in sorted(numbers, reverse=True)]
            assert not missed(reader)


async def test_a_story_goes_over_the_mark(make: Make) -> None:
    async with opened(make) as (journal, _):
        await unhurried(journal, taken(1), submitted(1), *lives(2, 20), filled(1))
        with closing(journal.reader()) as reader:
            assert 3 < reader.meta(tail.FACTS) < journal.stats().seq - 3
            for number in (1, 2, 19):
                story = [type(record.fact).__name__ for record in reader.story(signal(number).trace_id)]
                assert story == ["SignalReceived", "Judged", "Submitted", "Accepted", "Filled", "Confirmed"]


async def test_commits_that_orders_wait_for_take_up_nothing_until_too_much_waits(make: Make) -> None:
    async with opened(make) as (journal, _):
        for facts, rows in lives(1, 30):
            await journal.durable(journal.append(facts, rows))
        with closing(journal.reader()) as reader:
            assert reader.meta(tail.FACTS) == 0
            for facts, rows in lives(30, 60):
                await journal.durable(journal.append(facts, rows))
            waiting = journal.stats().seq - reader.meta(tail.FACTS)
            assert reader.meta(tail.FACTS) and waiting <= tail.LONG + tail.KEPT + 6
            assert not missed(reader)


async def test_a_row_behind_the_mark_that_comes_to_life_again_is_in_its_index(make: Make) -> None:
    async with opened(make) as (journal, _):
        await unhurried(journal, *lives(1, 30))
        await unhurried(journal, (submitted(1)[0], (order(1), taken(1)[1][0])))
        state = await journal.reload()
        assert state.orders == (order(1),)
        assert [row.signal.signal_id for row in state.signals] == ["s-000001"]


async def test_whatever_comes_what_is_open_is_what_every_row_says(make: Make) -> None:
    """Against a reading of all rows; restarts included."""
    rng = Random(7)
    going: list[tuple[int, int]] = []
    number = 0
    for _ in range(3):
        async with opened(make) as (journal, _):
            for _ in range(40):
                if going and rng.random() < 0.45:
                    at, done = going.pop(rng.randrange(len(going)))
                else:
                    number += 1
                    at, done = number, 0
                step = (taken, submitted, filled)[done](at)
                if done < 2:
                    going.append((at, done + 1))
                if rng.random() < 0.5:
                    await unhurried(journal, step)
                else:
                    await journal.durable(journal.append(*step))
            state = await journal.reload()
            assert {o.cid for o in state.orders} == {order(at).cid for at, done in going if done == 2}
            assert {s.signal.signal_id for s in state.signals} == {signal(at).signal_id for at, _ in going}
            with closing(journal.reader()) as reader:
                assert not missed(reader)


async def test_rows_that_were_numbered_anew_are_found_by_the_next_start(tmp_path: Path) -> None:
    """As a table comes back from a dump, or may from a VACUUM."""
    path = tmp_path / "journal.sqlite"
    async with opened(lambda: SqliteJournal(path, "process", CLOCK)) as (journal, _):
        await unhurried(journal, *lives(1, 30), taken(50), submitted(50))
    with closing(apsw.Connection(str(path))) as connection:
        for table in ("orders", "signals"):
            connection.execute(f"DELETE FROM {table} WHERE rowid < 29")
            connection.execute(f"UPDATE {table} SET rowid = rowid - 28")
    with closing(open_reader(path)) as reader:
        assert len(missed(reader)) == 2, "the marks are of the old numbers"
    async with opened(lambda: SqliteJournal(path, "process", CLOCK)) as (journal, state):
        assert state.orders == (order(50),) and len(state.signals) == 1
        await unhurried(journal, taken(51), submitted(51))
        assert (await journal.reload()).orders == (order(50), order(51))
        with closing(journal.reader()) as reader:
            assert not missed(reader)


async def test_rows_that_begin_anew_are_not_behind_a_mark_of_before(tmp_path: Path) -> None:
    """All were deleted, and whoever did it was killed before it could say so: numbers begin at one again."""
    path = tmp_path / "journal.sqlite"
    async with opened(lambda: SqliteJournal(path, "process", CLOCK)) as (journal, _):
        await unhurried(journal, *lives(1, 60))
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("DELETE FROM orders; DELETE FROM signals")
    async with opened(lambda: SqliteJournal(path, "process", CLOCK)) as (journal, _):
        await unhurried(journal, taken(70), submitted(70))
        assert (await journal.reload()).orders == (order(70),)
        with closing(journal.reader()) as reader:
            assert not missed(reader)


async def test_what_is_written_after_an_archive_is_not_behind_the_mark(tmp_path: Path) -> None:
    """The last rows of all may have gone, and their numbers come again."""
    path = tmp_path / "journal.sqlite"
    asked = Asked(keep_ns=1, now_ns=NOW + 10**12, by="test")
    async with opened(lambda: SqliteJournal(path, "process", CLOCK)) as (journal, _):
        await unhurried(journal, taken(1), submitted(1), *lives(2, 60))
    report = await trio.to_thread.run_sync(archive, hold_file(path, NOW), asked)
    assert report.parts[0].orders == 58
    with closing(open_reader(path)) as reader:
        assert reader.orders(None, None, True, 10) == (order(1),)
        assert not missed(reader) and reader.story(signal(5).trace_id) == ()
    async with opened(lambda: SqliteJournal(path, "process", CLOCK)) as (journal, state):
        assert state.orders == (order(1),)
        await journal.durable(journal.append(*taken(70)))
        await journal.durable(journal.append(*submitted(70)))
        assert (await journal.reload()).orders == (order(1), order(70))
        with closing(journal.reader()) as reader:
            assert not missed(reader)


# ------------------------------------------------------------------------------------------------- a journal of before


def rows_of_before() -> list[tuple[str, tuple[Any, ...]]]:
    """What the version before wrote: twenty lives, then an order that is open, and a signal that has none yet."""
    written: list[tuple[str, tuple[Any, ...]]] = []
    digest, seq = GENESIS, 0
    steps: list[Any] = [*lives(1, 21), taken(30), submitted(30), taken(31)]
    for facts, _ in steps:
        for fact in facts:
            seq, body = seq + 1, encode(fact)
            digest = chain(digest, seq, body)
            values = journal_values(seq, fact, body, digest)
            written.append(("INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values))
    for number in (*range(1, 21), 30, 31):
        written += _rows_of(number, ended=number < 30)
    return written


def _rows_of(number: int, ended: bool) -> Iterator[tuple[str, tuple[Any, ...]]]:
    row, sent = taken(number)[1][0], order(number)
    done, end = filled(number)[1][:2]
    word, confirmed = ("executed", encode(end.confirmed)) if ended else ("accepted", None)  # type: ignore[union-attr]
    about = (row.signal.signal_id, ACCOUNT, sent.symbol, row.signal.body_hash, word, row.signal.received_ns)  # type: ignore[union-attr]
    yield (
        "INSERT INTO signals (signal_id, account, symbol, body_hash, outcome, received_ns, row, confirmed)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (*about, encode(row), confirmed),
    )
    if number == 31:
        return
    state = done if ended else sent
    yield (
        "INSERT INTO orders (cid, account, symbol, signal_id, state, live, submitted_ns, row)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(sent.cid, ACCOUNT, sent.symbol, sent.signal_id, state.state.value, int(not ended)),  # type: ignore[union-attr]
            *(sent.submitted_ns, encode(state)),
        ),
    )


async def check_brought_forward(journal: Any, state: OpenState, reader: SqlReader) -> None:
    assert state.orders == (order(30),)
    assert [row.signal.signal_id for row in state.signals] == ["s-000030", "s-000031"]
    assert not missed(reader)
    assert [row.signal.signal_id for row in reader.signals(3)] == ["s-000031", "s-000030", "s-000020"]
    assert len(reader.signals(100)) == 22
    assert len(reader.story(signal(7).trace_id)) == 6
    await unhurried(journal, *lives(40, 60), submitted(31))
    assert (await journal.reload()).orders == (order(30), order(31))
    assert not missed(reader)
    await unhurried(journal, filled(30), filled(31))
    assert (await journal.reload()).orders == () == (await journal.reload()).signals
    assert len(reader.story(signal(30).trace_id)) == 6
    assert [f for f in verify(reader.lines(), reader.tables()).findings if f.rule == "chain"] == []


async def test_a_journal_of_before_is_brought_forward_with_all_that_is_open(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    with closing(apsw.Connection(str(path))) as old:
        old.execute("PRAGMA journal_mode = WAL")
        migrate(old, "here", 0, MIGRATIONS[:BEFORE])
        for sql, values in rows_of_before():
            old.execute(sql, values)
        hashes = list(old.execute("SELECT seq, hash FROM journal ORDER BY seq"))
    async with opened(lambda: SqliteJournal(path, "process", CLOCK)) as (journal, state):
        with closing(journal.reader()) as reader:
            assert list(reader.query("SELECT seq, hash FROM journal ORDER BY seq")) == hashes
            await check_brought_forward(journal, state, reader)


async def test_a_journal_of_before_on_postgresql_is_brought_forward_with_all_that_is_open(
    postgres: Server, tmp_path: Path
) -> None:
    at: Address = postgres.journal()
    wire = await session(at, "nobody", "process", PATIENCE_SECONDS)
    await wire.run("BEGIN")
    await bring_forward(wire, at, 0, NOW, MIGRATIONS[:BEFORE])
    for sql, values in rows_of_before():
        await wire.run(sql, *values)
    await wire.run("COMMIT")
    wire.close()
    terms = PostgresTerms(durability="process", accounts=(ACCOUNT,))
    async with opened(lambda: PostgresJournal(at, terms, live_clock(), tmp_path / "engine.lock")) as (journal, state):
        with closing(open_server_reader(at)) as reader:
            await check_brought_forward(journal, state, reader)
