"""A journal that is locked, damaged or newer than the program: a sentence that says what and where, and no trading."""

import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.process.site import Site


@pytest.fixture(scope="module")
def traded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An engine that has traded and ended; its venue goes on."""
    with Site(tmp_path_factory.mktemp("traded")) as site:
        site.start()
        # Whoever still reads what was there before keeps the log from being begun anew at a quiet moment.
        reader = sqlite3.connect(f"file:{site.folder / 'var' / 'journal.sqlite'}?mode=ro", uri=True)
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM journal").fetchone()
        for number in range(12):
            body = {"symbol": "BTCUSDT", "action": "open", "side": "buy", "quote_amount": "100"}
            assert site.post({"signal_id": f"s{number}", **body}).status_code == 202
        site.rested()
        assert site.end() == 0
        reader.close()
        (site.folder / "var").rename(site.folder / "as-it-was")
        yield site


@pytest.fixture
def site(traded: Site) -> Site:
    shutil.rmtree(traded.folder / "var", ignore_errors=True)
    shutil.copytree(traded.folder / "as-it-was", traded.folder / "var")
    return traded


@pytest.fixture
def journal(site: Site) -> Path:
    return site.folder / "var" / "journal.sqlite"


def refused(site: Site, *words: str) -> None:
    orders = site.truth().orders
    result = site.run("run")
    assert result.returncode == 4, result.stdout + result.stderr
    sentence = result.stderr.strip().splitlines()[-1]
    for word in ("surefire: refused to start", str(site.folder / "var" / "journal.sqlite"), *words):
        assert word in sentence, sentence
    assert "Traceback" not in result.stderr
    assert site.truth().orders == orders


def test_a_locked_journal(site: Site, journal: Path) -> None:
    other = sqlite3.connect(journal, isolation_level=None)
    try:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        refused(site, "locked")
    finally:
        other.close()


def fold(journal: Path) -> None:
    """Bring what stands in the write-ahead log into the file itself."""
    other = sqlite3.connect(journal)
    other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    other.close()


def damage(path: Path, at: int) -> None:
    """A kilobyte, as from a bad sector."""
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xa5" * 1024)


def root_of(journal: Path, table: str) -> int:
    """Where in the file the page is through which every look into a table goes."""
    with closing(sqlite3.connect(journal)) as other:
        (size,) = other.execute("PRAGMA page_size").fetchone()
        (page,) = other.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,)).fetchone()
    return int((page - 1) * size)


@pytest.mark.parametrize("table", ["journal", "orders", "outbox", "meta"])
def test_a_journal_with_a_damaged_page(site: Site, journal: Path, table: str) -> None:
    """One that a start reads. Pages of what is long over are not read then: `audit verify` finds those."""
    fold(journal)
    damage(journal, root_of(journal, table))
    refused(site)


def test_a_write_ahead_log_damaged_in_its_middle(site: Site, journal: Path) -> None:
    log = journal.with_name("journal.sqlite-wal")
    damage(log, log.stat().st_size // 2 // 1024 * 1024)
    refused(site, "write-ahead log is damaged at frame")


def test_a_journal_whose_chain_was_rewritten(site: Site, journal: Path) -> None:
    with sqlite3.connect(journal) as other:
        ((seq, fact),) = other.execute("SELECT seq, fact FROM journal ORDER BY seq DESC LIMIT 1")
        other.execute("UPDATE journal SET fact = ? WHERE seq = ?", (fact.replace(b"1", b"2"), seq))
    other.close()
    refused(site, "chain of hashes breaks")


def test_a_journal_of_a_newer_program(site: Site, journal: Path) -> None:
    with sqlite3.connect(journal) as other:
        other.execute("INSERT INTO schema_version VALUES (999, ?)", (time.time_ns(),))
    other.close()
    refused(site, "999")
