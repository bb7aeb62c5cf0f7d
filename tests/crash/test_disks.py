"""Disks that fail while a real engine trades: entries stop with a sentence, protection goes on, a restart recovers."""

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from engine.core.messages import OrderType
from tests.crash.evidence import broken
from tests.crash.feed import Feed
from tests.crash.keepers import ROOT, SYMBOLS
from tests.crash.matrix import CALM_SECONDS, at_rest, probe, until_answered
from tests.crash.site import BASE, Site
from tests.patience import PATIENCE_SECONDS
from tests.sim.truth import DiskBroke, DiskMended

SMALL = 700_000  # bytes: a few hundred signals


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with room for little; needs the right to mount."""
    folder = tmp_path / "disk"
    folder.mkdir()
    done = _mount(folder, f"size={SMALL}")
    if done.returncode:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def _mount(folder: Path, options: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess([], 1, "", "there is no mount")


def trade(site: Site, feed: Feed, until: str) -> None:
    """Signals, until the journal has failed with these words."""
    site.told.append(DiskBroke(time.time_ns(), how=until))
    end = time.monotonic() + PATIENCE_SECONDS
    while until not in _journal(site)["detail"]:
        assert time.monotonic() < end, site.health()
        threads = feed.send(site.api, [offer for offer in feed.burst(12) if not offer.answered])
        for thread in threads:
            thread.join(PATIENCE_SECONDS)


def _journal(site: Site) -> dict[str, Any]:
    return next(dict(part) for part in site.health()["components"] if part["name"] == "journal")


def entries_stop_and_protection_goes_on(site: Site, words: str) -> None:
    health = site.health()
    assert health["live"] is False and health["entry_ready"] is False
    assert words in str(_journal(site)["detail"])
    assert any(words in halt["reason"] for halt in health["halts"] if halt["scope"] == "engine"), health
    assert any(words in line["reason"] for line in site.logged("the journal failed"))
    before = site.keeper.truth()
    held = [p.symbol for p in before.positions if p.qty]
    assert held, "nothing was held when the disk failed"
    status, told = site.ask("POST", f"{BASE}/order", body("after-the-end"))
    assert status in (422, 503), told
    assert {o.cid for o in site.keeper.truth().orders if not o.reduce_only} == {
        o.cid for o in before.orders if not o.reduce_only
    }
    # Closing and canceling need no journal: they can open nothing.
    status, report = site.ask("POST", f"{BASE}/flatten", {"by": "test", "reason": "the disk failed"})
    assert status == 200 and report["left"] and not any(left["positions"] for left in report["left"]), report
    after = site.keeper.truth()
    assert not [p for p in after.positions if p.qty]
    site.until(lambda: not [o for o in site.keeper.truth().orders if o.status == "open" and o.reduce_only])


def body(signal_id: str) -> dict[str, object]:
    symbol = SYMBOLS[0]
    return {"signal_id": signal_id, "symbol": symbol, "action": "open", "side": "buy", "quote_amount": "300"}


def recovers(site: Site, feed: Feed) -> None:
    """A new life on the mended disk: all that was not answered is, the books are the venue's, and it trades."""
    site.told.append(DiskMended(time.time_ns()))
    site.kill()
    site.start()
    until_answered(site, feed)
    site.until(lambda: at_rest(site), CALM_SECONDS)
    probe(site)
    site.until(lambda: at_rest(site), CALM_SECONDS)
    held = {p.symbol for p in site.keeper.truth().positions if p.qty}
    stops = {
        o.symbol for o in site.keeper.truth().orders if o.status == "open" and o.order_type is OrderType.STOP_MARKET
    }
    assert held and held <= stops
    site.keeper.still()
    time.sleep(0.1)
    site.until(lambda: at_rest(site), CALM_SECONDS)
    assert site.end() == 0
    assert broken(site, site.keeper.truth()) == []
    audited = subprocess.run(
        [sys.executable, str(ROOT / "run.py"), "audit", "verify", "--config", str(site.config)],
        cwd=site.folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert audited.returncode == 0, audited.stdout + audited.stderr


def test_a_full_disk(tmp_path: Path, small_disk: Path) -> None:
    with Site(tmp_path / "site", data=small_disk) as site:
        site.families = ("kills", "failing disk")
        feed = Feed(Random(4), site.told)
        site.start()
        trade(site, feed, "the disk is full")
        entries_stop_and_protection_goes_on(site, "the disk is full")
        assert _mount(small_disk, "remount,size=64m").returncode == 0
        assert "the disk is full" in str(_journal(site)["detail"]), "a failed sync is final"
        recovers(site, feed)


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    with Site(tmp_path / "site") as site:
        site.families = ("kills", "failing disk")
        feed = Feed(Random(5), site.told)
        site.start(file_bytes_max=SMALL // 2)
        trade(site, feed, "the disk failed")
        entries_stop_and_protection_goes_on(site, "the disk failed")
        recovers(site, feed)


@pytest.mark.parametrize("what", ["sync", "write"])
def test_a_disk_that_answers_with_errors(tmp_path: Path, what: str) -> None:
    with Site(tmp_path / "site") as site:
        site.families = ("kills", "failing disk")
        feed = Feed(Random(6), site.told)
        switch = tmp_path / "broken"
        site.start(broken_disk=str(switch))
        threads = feed.send(site.api, feed.burst(30))
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
        switch.write_text(what)
        trade(site, feed, "the disk failed")
        switch.unlink()
        entries_stop_and_protection_goes_on(site, "the disk failed")
        recovers(site, feed)
