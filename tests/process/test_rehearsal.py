"""One line, or one option, puts the demo and the long-lived engine from paper to a face of the local exchange."""

import json
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from engine.runtime.journal.reading import SqlReader
from engine.runtime.journal.sqlite import open_reader
from tests.patience import PATIENCE_SECONDS
from tests.process.real_site import RealSite
from tests.process.site import ROOT
from tests.process.test_bybit import bodies, names, send

FACES = ("bybit", "binance-spot", "binance-usdm")
ENGINE = """
[engine]
data_dir = "%(folder)s/var"
[api]
port = 0
[breakers]
loop_stall_ms = 60000
commit_stall_ms = 60000
[accounts.main.paper]
balances = { USDT = 100000 }
leverage = 10
[accounts.main.limits]
duplicate_window_seconds = 0
losses_in_row_max = 1000
leverage_max = 10
[rehearsal]
venue = "%(face)s"
"""


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "run.py"), "demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=5 * PATIENCE_SECONDS, check=False)


@pytest.mark.parametrize("face", FACES)
def test_the_demo_comes_to_the_exchanges_truth_though_the_exchange_misbehaves(face: str) -> None:
    done = demo("--venue", face, "--faults", "--seconds", "12", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout)
    assert summary["books_balance"] and summary["fills"] > 0 and summary["signals"] > 5
    assert summary["suffered"]["to requests"] > 0
    assert sum(summary["verdicts"].values()) == summary["signals"]


def test_one_line_of_the_config_puts_the_demo_to_the_exchange_and_ones_own_signals_are_traded(tmp_path: Path) -> None:
    config, signals = tmp_path / "one.toml", tmp_path / "signals.ndjson"
    config.write_text('[rehearsal]\nvenue = "binance-usdm"\n', encoding="utf-8")
    lines = [json.dumps(body) for body in bodies(Random(5), spot=False)[:5]]
    signals.write_text("\n".join(lines), encoding="utf-8")
    done = demo("--config", str(config), "--signals", str(signals), "--seconds", "4", "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout)
    assert summary["tape"] == "synthetic at binance-usdm, a local exchange"
    assert summary["signals"] == 5 and summary["fills"] > 0 and summary["suffered"] == {}


def test_faults_without_an_exchange_are_refused_in_words() -> None:
    done = demo("--faults")
    assert done.returncode == 2
    assert done.stderr.strip() == "surefire: faults are the local exchange's: name one of its faces with --venue"


class RehearsalSite(RealSite):
    """The engine brings its exchange with it."""

    def __init__(self, folder: Path, face: str) -> None:
        super().__init__(folder, face, "spot" if face == "binance-spot" else "linear")

    def __enter__(self) -> "RehearsalSite":
        self.config.write_text(ENGINE % {"folder": self.folder, "face": self.face}, encoding="utf-8")
        return self

    def start(self) -> None:
        self.engine = self.spawn("run", "--config", str(self.config), "--json")
        said = self.first_line(self.engine)
        self.api, self.data = said["api"], Path(said["data_dir"])
        self.ports = {self.face: int(said["exchange"].rsplit(":", 1)[1])}
        self.ready()

    def reader(self) -> SqlReader:
        return open_reader(self.data / "journal.sqlite")

    def exec_id(self, inner: str, order_id: str) -> str:
        binance = f"{int(inner[-10:])}-{int(order_id[-10:])}" if self.face != "bybit" else ""
        return binance or super().exec_id(inner, order_id)

    def exchange_is_gone(self) -> bool:
        try:
            httpx.get(f"http://127.0.0.1:{self.ports[self.face]}/admin/state", trust_env=False)
        except httpx.TransportError:
            return True
        return False


@pytest.mark.parametrize("face", FACES)
def test_one_line_of_the_config_puts_the_engine_to_the_exchange(tmp_path: Path, face: str) -> None:
    wanted: list[dict[str, Any]] = bodies(Random(5), spot=face == "binance-spot")
    with RehearsalSite(tmp_path, face) as site:
        site.start()
        first = dict(zip(names(wanted), send(site, wanted), strict=True))
        assert set(first.values()) <= {202, 422} and 202 in first.values(), first
        truth = site.rested()
        assert len(truth.executions) > 0
        assert site.end() == 0
        assert site.differences(truth) == []
        assert site.exchange_is_gone()


def test_the_exchange_ends_with_an_engine_that_is_killed(tmp_path: Path) -> None:
    with RehearsalSite(tmp_path, "bybit") as site:
        site.start()
        assert not site.exchange_is_gone()
        site.kill()
        until = time.monotonic() + PATIENCE_SECONDS
        while not site.exchange_is_gone():
            assert time.monotonic() < until
            time.sleep(0.05)
