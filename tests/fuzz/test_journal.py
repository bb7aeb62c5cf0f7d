"""A journal with bytes flipped, cut or overwritten anywhere: JournalFailed that names the file, or the same story.

What opens holds a true beginning of the chain: nothing in it is other than it was written. (How much is lost behind
a damaged frame of the write-ahead log is SQLite's rule; that nothing is left standing after a gap is ours.)
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from engine.core.audit import Line, Report, verify
from engine.runtime.journal.base import JournalFailed
from engine.runtime.journal.sqlite import SqliteJournal, open_reader
from tests.fuzz import fuzzed
from tests.runtime.journal_world import CLOCK, whole

Files = dict[str, bytes]
NAME = "journal.sqlite"


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> tuple[Files, Files, list[Line]]:
    """A journal as a kill leaves it (most of it in the log), as a close leaves it, and the lines of its chain."""
    folder = tmp_path_factory.mktemp("past")

    def files() -> Files:
        return {f.name: f.read_bytes() for f in folder.iterdir() if f.name in (NAME, NAME + "-wal")}

    async def live() -> tuple[Files, Files, list[Line]]:
        journal, position = SqliteJournal(folder / NAME, "process", CLOCK), None
        await journal.open()
        for number in range(8):
            steps, position = whole(number, position)
            for facts, rows in steps:
                await journal.durable(journal.append(facts, rows))
        killed, reader = files(), journal.reader()
        lines = list(reader.lines())
        reader.close()
        await journal.close()
        return killed, files(), lines

    return trio.run(live)


@st.composite
def harm(draw: st.DrawFn, sound: bytes) -> bytes:
    """Where it hurts: the headers, and anywhere."""
    data = bytearray(sound)
    at = draw(st.integers(0, len(data) - 1) | st.integers(0, min(200, len(data) - 1)))
    match draw(st.sampled_from(("flip", "flip", "zero", "junk", "tear", "page", "grow"))):
        case "flip":
            data[at] ^= 1 << draw(st.integers(0, 7))
        case "zero":
            data[at : at + 512] = bytes(len(data[at : at + 512]))
        case "junk":
            junk = draw(st.binary(min_size=1, max_size=16))
            data[at : at + len(junk)] = junk[: len(data) - at]
        case "tear":
            del data[at:]
        case "page":  # one page in the place of another
            page = at // 4096 * 4096
            data[page : page + 4096] = data[: len(data[page : page + 4096])]
        case "grow":
            data += draw(st.binary(min_size=1, max_size=100))
    return bytes(data)


@contextmanager
def only_journal_failed(path: Path) -> Iterator[None]:
    try:
        yield
    except JournalFailed as error:
        assert str(path) in str(error) and "\n" not in str(error)


async def start(path: Path) -> Report | None:
    """As an engine would: open, then read everything there is."""
    journal = SqliteJournal(path, "process", CLOCK)
    with only_journal_failed(path):
        state = await journal.open()
        try:
            reader = journal.reader()
            try:
                report = verify(reader.lines(), reader.tables())
                assert report.facts == state.seq or not report.sound
                reader.signals(500), reader.orders(None, None, False, 500), reader.positions(), reader.trades(None, 50)
                reader.halts(), reader.limits(), reader.accounts(), reader.audit_log(50), reader.records(0, 10_000)
                reader.story("t-007919")
                return report
            finally:
                reader.close()
        finally:
            await journal.close()
    return None


@given(st.booleans(), st.data())
@fuzzed(120)
def test_a_damaged_journal_says_so_or_tells_nothing_but_what_was_written(
    past: tuple[Files, Files, list[Line]], tmp_path_factory: pytest.TempPathFactory, killed: bool, data: st.DataObject
) -> None:
    folder = tmp_path_factory.getbasetemp() / "damaged"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    *states, lines = past
    files = dict(states[0] if killed else states[1])
    name = data.draw(st.sampled_from([name for name in files if files[name]]))
    files[name] = data.draw(harm(files[name]))
    for file, content in files.items():
        (folder / file).write_bytes(content)
    path = folder / NAME
    with only_journal_failed(path):  # as the command line reads, before any engine has opened it
        reader = open_reader(path)
        try:
            verify(reader.lines(), reader.tables())
        finally:
            reader.close()
    report = trio.run(start, path)
    if report is not None and not any(finding.rule == "chain" for finding in report.findings):
        written = [line.hash.hex() for line in lines][: report.facts]
        assert not report.facts or report.last_hash == written[-1], "another story than the one that was written"
