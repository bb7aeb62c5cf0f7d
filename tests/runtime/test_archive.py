"""Retention: what leaves the journal, what stays, what the audit says of both, and a crash at every step of it."""

# ruff: noqa: ASYNC221, ASYNC240 (a temporary file is not worth a thread, nor is a process that ends by itself)

import gzip
import signal as signals
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from engine.core.audit import Report as Audit
from engine.core.audit import verify
from engine.core.cursors import EVERYBODY, begin
from engine.core.messages import Cursor, Outcome, Position, Reconciled
from engine.runtime.journal.archive import DAY_NS, Asked, archive, folder_of, foresee, retain, whole
from engine.runtime.journal.base import JournalFailed
from engine.runtime.journal.sqlite import SqliteJournal, alone, open_reader
from tests.runtime.journal_world import ACCOUNT, CHECKS, CLOCK, NOW, SYMBOL, filled, order, submitted, taken
from tests.runtime.journal_world import whole as story

STEPS = ("written", "named", "moved", "committed", "shorten", "shortened")
LATER = NOW + 40 * DAY_NS
ASKED = Asked(keep_ns=30 * DAY_NS, now_ns=LATER, by="test")


class Crash(Exception):
    pass


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.sqlite"


async def fill(path: Path, first: int, count: int, open_too: bool = False) -> None:
    """Signals from receipt to confirmation, all told; with `open_too` one more whose order is at the venue."""
    journal = SqliteJournal(path, "process", CLOCK)
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


def audit(path: Path, folder: Path | None = None) -> Audit:
    with closing(open_reader(path)) as reader:
        found = whole(reader, folder or folder_of(path))
        return verify(found.lines, found.tables, found.base, found.findings, found.notes)


def count(path: Path, table: str) -> int:
    number: int = apsw.Connection(str(path)).execute(f"SELECT count(*) FROM {table}").get
    return number


async def test_what_ended_leaves_and_what_is_open_stays(path: Path) -> None:
    await fill(path, 0, 20, open_too=True)
    before = audit(path)
    report = archive(path, ASKED)
    assert [(p.signals, p.orders, p.fills, p.events) for p in report.parts] == [(20, 20, 20, 19)]
    assert [count(path, t) for t in ("signals", "orders", "fills", "positions", "journal")] == [1, 1, 0, 1, 1]
    journal = SqliteJournal(path, "process", CLOCK)
    state = await journal.open()
    await journal.close()
    assert [row.signal.signal_id for row in state.signals] == ["s-000020"]
    assert state.signals[0].checks == CHECKS
    assert [o.cid for o in state.orders] == [order(20).cid]
    assert state.positions[0].qty == order(0).qty * 20
    after = audit(path)
    assert after.sound, after.findings
    assert (after.facts, after.signals, after.orders, after.executions) == (
        before.facts + 1,
        before.signals,
        before.orders,
        before.executions,
    )


async def test_a_signal_that_was_archived_is_answered_as_it_ended_and_stays_known_without_the_file(path: Path) -> None:
    await fill(path, 0, 5)
    with closing(open_reader(path)) as reader:
        first = reader.signal("s-000003")
    archive(path, ASKED)
    retain(path, Asked(keep_ns=DAY_NS, now_ns=LATER + 365 * DAY_NS, by="test"))
    assert list(folder_of(path).iterdir()) == []
    journal = SqliteJournal(path, "process", CLOCK)
    await journal.open()
    try:
        again = await journal.signal("s-000003")
        assert await journal.signal("s-000099") is None
    finally:
        await journal.close()
    assert first is not None and again is not None
    assert (again.signal, again.outcome, again.confirmed) == (first.signal, Outcome.EXECUTED, first.confirmed)


async def test_the_engine_goes_on_after_an_archive_and_the_next_archive_after_the_last(path: Path) -> None:
    await fill(path, 0, 10, open_too=True)
    archive(path, ASKED)
    journal = SqliteJournal(path, "process", CLOCK)
    state = await journal.open()
    journal.append(*filled(10, state.positions[0]))  # the order that stayed open ends after all
    await journal.close()
    assert audit(path).sound
    await fill(path, 11, 10)
    second = archive(path, Asked(keep_ns=30 * DAY_NS, now_ns=LATER + 50 * DAY_NS, by="test"))
    assert [(p.signals, p.orders) for p in second.parts] == [(11, 11)]
    assert audit(path).sound


async def test_many_facts_go_to_several_files_that_are_one_chain(path: Path) -> None:
    await fill(path, 0, 30)
    report = archive(path, Asked(30 * DAY_NS, LATER, "test", facts_max=50))
    assert len(report.parts) == 4
    edges = [(p.first_seq, p.last_seq) for p in report.parts]
    assert [first for first, _ in edges] == [1, *(last + 1 for _, last in edges[:-1])]
    found = audit(path)
    assert found.sound, found.findings
    assert (found.signals, found.orders, found.executions) == (30, 30, 30)


async def test_what_is_young_stays(path: Path) -> None:
    await fill(path, 0, 3)
    report = archive(path, Asked(keep_ns=60 * DAY_NS, now_ns=LATER, by="test"))
    assert report.parts == ()
    assert count(path, "signals") == 3


async def test_executions_that_a_start_asks_for_stay_though_their_facts_go(path: Path) -> None:
    await fill(path, 0, 4)
    journal = SqliteJournal(path, "process", CLOCK)
    await journal.open()
    await journal.durable(journal.append((), (Reconciled(account=ACCOUNT, venue_ns=NOW),)))
    await journal.close()
    archive(path, ASKED)
    assert (count(path, "fills"), count(path, "journal")) == (4, 1)
    assert audit(path).sound


async def test_events_stay_that_a_sink_has_not_got_until_the_config_names_it_no_more(path: Path) -> None:
    await fill(path, 0, 5)
    cursors = begin(("quick", "slow"), (Cursor(EVERYBODY, 2),), 5)
    journal = SqliteJournal(path, "process", CLOCK)
    await journal.open()
    await journal.durable(journal.append((), (*cursors, Cursor("quick", 5))))
    await journal.close()
    (part,) = archive(path, ASKED).parts
    assert (part.events, count(path, "outbox")) == (2, 3)
    await fill(path, 5, 1)  # which has no cursor of its own
    journal = SqliteJournal(path, "process", CLOCK)
    state = await journal.open()
    assert [row.event_id for row in await journal.outbox(journal.cursor("slow"))] == [3, 4, 5, 6]
    gone = begin(("quick",), (*state.cursors, Cursor("quick", 6)), 6)
    await journal.durable(journal.append((), (*gone, Cursor("quick", 6))))
    await journal.close()
    archive(path, Asked(keep_ns=30 * DAY_NS, now_ns=LATER + 50 * DAY_NS, by="test"))
    assert count(path, "outbox") == 1  # the last one, from whose number the next one's follows


async def test_executions_of_an_order_that_lives_stay_too(path: Path) -> None:
    await fill(path, 0, 4)
    journal = SqliteJournal(path, "process", CLOCK)
    await journal.open()
    await journal.durable(journal.append((), (order(2),)))  # it lives again, as after a correction
    await journal.close()
    archive(path, ASKED)
    assert count(path, "fills") == 1


async def test_a_dry_run_says_the_same_and_does_nothing(path: Path) -> None:
    await fill(path, 0, 30)
    asked = Asked(30 * DAY_NS, LATER, "test", facts_max=50)
    with closing(open_reader(path)) as reader:
        seen = foresee(reader, path, asked)
    assert count(path, "signals") == 30
    assert not folder_of(path).exists()
    done = archive(path, asked)
    assert [(p.name, p.signals, p.orders) for p in seen.parts] == [(p.name, p.signals, p.orders) for p in done.parts]
    for total in ("fills", "events"):
        assert sum(getattr(p, total) for p in seen.parts) == sum(getattr(p, total) for p in done.parts)


async def test_the_file_gets_shorter(path: Path) -> None:
    await fill(path, 0, 300)
    report = archive(path, ASKED)
    assert report.left == ""
    assert report.bytes_after < report.bytes_before / 3
    assert report.parts[0].bytes < report.bytes_before / 4


async def test_numbers_of_events_and_facts_go_on(path: Path) -> None:
    await fill(path, 0, 5)
    with closing(open_reader(path)) as reader:
        before = reader.place()
    archive(path, ASKED)
    with closing(open_reader(path)) as reader:
        after = reader.place()
    assert (after.seq, after.event_id, after.cursors) == (before.seq + 1, before.event_id, before.cursors)


async def test_while_an_engine_holds_the_journal_nothing_is_touched(path: Path) -> None:
    await fill(path, 0, 3)
    journal = SqliteJournal(path, "process", CLOCK)
    await journal.open()
    try:
        with pytest.raises(JournalFailed, match="another engine is running on this journal"):
            archive(path, ASKED)
        with pytest.raises(JournalFailed, match="another engine is running"):
            retain(path, ASKED)
    finally:
        await journal.close()
    assert not folder_of(path).exists()


async def test_a_broken_chain_is_not_put_away(path: Path) -> None:
    await fill(path, 0, 3)
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute(
            "UPDATE journal SET fact = CAST(replace(CAST(fact AS TEXT), '0.01', '0.02') AS BLOB) WHERE seq = 3"
        )
    with pytest.raises(JournalFailed, match="fact 3"):
        archive(path, ASKED)
    assert count(path, "signals") == 3


# ------------------------------------------------------------------------------------------------------------ the audit


async def test_a_missing_or_changed_archive_is_told_and_the_rest_is_looked_at(path: Path) -> None:
    await fill(path, 0, 30)
    parts = archive(path, Asked(30 * DAY_NS, LATER, "test", facts_max=50)).parts
    second = folder_of(path) / parts[1].name
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
        found = audit(path)
        assert [(f.rule, words in f.text) for f in found.findings] == [("archive", True)], found.findings
        assert found.facts == parts[-1].last_seq - parts[1].last_seq + len(parts)
    second.write_bytes(gzip.compress(lines, 9))  # compressed anew, it is the same
    assert audit(path).sound


async def test_archives_may_be_moved_elsewhere(path: Path, tmp_path: Path) -> None:
    await fill(path, 0, 5)
    archive(path, ASKED)
    cold = tmp_path / "cold"
    folder_of(path).rename(cold)
    assert not audit(path).sound
    assert audit(path, cold).sound


async def test_what_retention_deleted_is_a_note_and_later_facts_are_still_proven(path: Path) -> None:
    await fill(path, 0, 5, open_too=True)
    archive(path, ASKED)
    retain(path, Asked(DAY_NS, LATER, "test"))
    found = audit(path)
    assert found.sound and len(found.notes) == 1 and "deleted on purpose" in found.notes[0]
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("UPDATE positions SET row = CAST(replace(CAST(row AS TEXT), '0.05', '0.06') AS BLOB)")
    assert [f.rule for f in audit(path).findings] == ["table positions"]


async def test_a_signal_judged_again_after_it_was_archived_is_found(path: Path) -> None:
    """What must never happen: the engine took an archived id once more."""
    for discard in (False, True):
        where = path.with_name(f"{discard}.sqlite")
        await fill(where, 0, 3)
        archive(where, ASKED)
        if discard:
            retain(where, Asked(DAY_NS, LATER, "test"))
        journal = SqliteJournal(where, "process", CLOCK)
        await journal.open()
        journal.append(taken(1, Outcome.REFUSED)[0])
        await journal.close()
        assert "one verdict" in [f.rule for f in audit(where).findings]


# -------------------------------------------------------------------------------------------------------- crash points


@pytest.mark.parametrize("step", STEPS)
async def test_a_run_that_is_cut_off_at_any_step_loses_nothing_and_can_be_repeated(path: Path, step: str) -> None:
    """RELIABILITY 4.3, point 22: the highest complete generation wins, else the old one."""
    await fill(path, 0, 20, open_too=True)

    def crash(where: str) -> None:
        if where == step:
            raise Crash

    with pytest.raises(Crash):
        archive(path, ASKED, at=crash)
    between = audit(path)
    assert between.sound, between.findings
    assert (between.signals, between.orders) == (21, 21)
    known(path, 20)
    archive(path, ASKED)
    assert audit(path).sound
    assert len(list(folder_of(path).iterdir())) == 1
    with alone(path, LATER) as connection:
        assert connection.execute("PRAGMA freelist_count").get == 0


@pytest.mark.parametrize("step", STEPS)
async def test_kill_9_at_any_step_loses_nothing(path: Path, step: str) -> None:
    await fill(path, 0, 20)
    code = (
        "import os, sys; from pathlib import Path\n"
        "from engine.runtime.journal.archive import Asked, archive\n"
        "from engine.core.money import use_exact_context; use_exact_context()\n"
        "die = lambda step: os.kill(os.getpid(), 9) if step == sys.argv[2] else None\n"
        f"archive(Path(sys.argv[1]), Asked({ASKED.keep_ns}, {ASKED.now_ns}, 'test'), at=die)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code, str(path), step], cwd=root, check=False)
    assert done.returncode == -signals.SIGKILL
    assert audit(path).sound
    known(path, 20)
    archive(path, ASKED)
    assert audit(path).sound
    known(path, 20)


async def test_a_deletion_that_is_cut_off_is_finished_by_the_next_run(path: Path) -> None:
    await fill(path, 0, 5)
    archive(path, ASKED)
    asked = Asked(DAY_NS, LATER, "test")
    with pytest.raises(Crash):
        retain(path, asked, at=_crash)
    assert len(list(folder_of(path).iterdir())) == 1
    assert audit(path).sound
    retain(path, asked)
    assert list(folder_of(path).iterdir()) == []


async def test_a_file_of_a_run_that_was_cut_off_is_not_mistaken_for_an_archive(path: Path) -> None:
    """Between the two runs the engine went on, so that the second file ends elsewhere."""
    await fill(path, 0, 5)
    with pytest.raises(Crash):
        archive(path, ASKED, at=lambda step: _crash(step) if step == "named" else None)
    await fill(path, 5, 5)
    archive(path, ASKED)
    assert len(list(folder_of(path).iterdir())) == 1
    assert audit(path).sound


def _crash(step: str) -> None:
    raise Crash


def known(path: Path, signals_count: int) -> None:
    with closing(open_reader(path)) as reader:
        rows = [reader.signal(f"s-{n:06d}") for n in range(signals_count)]
    assert all(row is not None and row.outcome is Outcome.EXECUTED for row in rows)


@pytest.fixture(autouse=True)
def _exact() -> Iterator[None]:
    from engine.core.money import use_exact_context

    use_exact_context()
    yield
