"""The engine trading on the local exchange through ccxt, as processes: the books are the exchange's truth."""

import os
import signal
import time
from pathlib import Path
from random import Random

import pytest
from msgspec.structs import replace

from engine.core.messages import FillReport
from engine.venues.paper import Truth
from tests.engine_toml import engine_toml
from tests.patience import PATIENCE_SECONDS
from tests.process.real_site import LIMITS, SYMBOLS, RealSite
from tests.process.test_bybit import bodies, names, send

pytest.importorskip("ccxt")

FACES = {  # by ccxt's name: the face, the category, and which public stream the face has
    "bybit": ("bybit", "linear", "bybit"),
    "binanceusdm": ("binance-usdm", "linear", "binance"),
    "binance": ("binance-spot", "spot", "binance"),
}
PLACE = {"bybit": "order.create", "binance-usdm": "order.place", "binance-spot": "order.place"}


class CcxtSite(RealSite):
    def __init__(self, folder: Path, exchange: str) -> None:
        face, category, self.stream = FACES[exchange]
        super().__init__(folder, face, category)
        self.exchange = exchange

    def __enter__(self) -> "CcxtSite":
        super().__enter__()
        account = {
            "venue": "ccxt",
            "exchange": self.exchange,
            "host": f"http://127.0.0.1:{self.ports[self.face]}",
            "category": self.category,
            "key_env": "LOCAL_KEY",
            "secret_env": "LOCAL_SECRET",
            "poll_seconds": 0.5,
        }
        market = {"kind": self.stream, "symbols": list(SYMBOLS)}
        text = engine_toml(self.folder / "var", market, account, LIMITS, env="testnet")
        self.config.write_text(text, encoding="utf-8")
        return self

    def truth(self) -> Truth:
        return as_ccxt_tells(self.face, super().truth())

    def workers(self) -> list[int]:
        """The processes in which ccxt runs, of the engine that runs now."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal() and _parent(folder) == self.engine.pid:
                found.append(int(folder.name))
        return found


def as_ccxt_tells(face: str, told: Truth) -> Truth:
    """An execution is known by its trade's id and its order's."""

    def named(fill: FillReport) -> str:
        if face != "bybit":
            return fill.exec_id.replace("-", "/")
        serial = int(fill.venue_order_id[-10:])
        return f"{fill.exec_id}/a{serial % 0xFFFFFFF:07x}-5f1e-4a00-8000-{serial:012x}"

    executions = (replace(row, exec_id=named(row)) if isinstance(row, FillReport) else row for row in told.executions)
    return replace(told, executions=tuple(executions))


def _parent(folder: Path) -> int:
    try:
        return int((folder / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1])
    except OSError:  # it has ended meanwhile
        return 0


@pytest.mark.parametrize("exchange", list(FACES))
def test_the_same_signals_come_to_the_exchanges_own_truth(tmp_path: Path, exchange: str) -> None:
    wanted = bodies(Random(5), spot=exchange == "binance")[:8]
    with CcxtSite(tmp_path, exchange) as site:
        site.start()
        assert set(send(site, wanted)) <= {200, 202}
        assert set(send(site, wanted)) == {200}, "the same again is known, and not executed"
        truth = site.rested()
        assert len([o for o in truth.orders if o.order_type.value == "market"]) >= 1
        for symbol in SYMBOLS:
            site.post({"signal_id": f"close-{symbol}", "symbol": symbol, "action": "close"})
        truth = site.rested()
        assert site.end() == 0
        assert site.differences(truth) == []
        assert site.run("audit", "verify").returncode == 0


@pytest.mark.parametrize("exchange", list(FACES))
def test_through_lost_answers_killed_workers_and_a_killed_engine_the_books_stay_the_exchanges(
    tmp_path: Path, exchange: str
) -> None:
    wanted = bodies(Random(7), spot=exchange == "binance")[:6]
    with CcxtSite(tmp_path, exchange) as site:
        site.start()
        site.fault("lose_reply", on=PLACE[site.face], skip=1)
        first = dict(zip(names(wanted[:3]), send(site, wanted[:3]), strict=True))
        for worker in site.workers():
            os.kill(worker, signal.SIGKILL)
        site.ready()  # the stream may be down until there are others
        first |= zip(names(wanted[3:5]), send(site, wanted[3:5]), strict=True)
        assert [status for status in first.values() if status not in (202, 422)] == []  # 422: its symbol is in doubt
        assert 202 in first.values()
        orphans = _both(site)
        site.kill()
        _until_gone(orphans)
        site.start()
        again = dict(zip(names(wanted), send(site, wanted), strict=True))
        assert all(again[name] == 200 for name, status in first.items() if status == 202), (first, again)
        truth = site.rested()
        assert site.end() == 0
        assert site.differences(truth) == []
        assert site.run("audit", "verify").returncode == 0


def _both(site: CcxtSite) -> list[int]:
    """The two workers, once those that were killed have been made anew."""
    until = time.monotonic() + PATIENCE_SECONDS
    while len(found := site.workers()) != 2:
        assert time.monotonic() < until, found
        time.sleep(0.05)
    return found


def _until_gone(processes: list[int]) -> None:
    """A worker ends with the engine that it worked for."""
    until = time.monotonic() + PATIENCE_SECONDS
    while any(Path(f"/proc/{one}").exists() for one in processes):
        assert time.monotonic() < until, processes
        time.sleep(0.02)


def test_check_and_health_say_what_cannot_be_promised_and_no_secret_is_shown(tmp_path: Path) -> None:
    with CcxtSite(tmp_path, "binanceusdm") as site:
        checked = site.run("check")
        assert checked.returncode == 0, checked.stdout
        for words in ("binanceusdm by ccxt", "asked for every 0.5 s", "accepts the key", "one-way mode", "clock is"):
            assert words in checked.stdout
        site.start()
        notes = " / ".join(site.health()["notes"])
        assert "binanceusdm by ccxt" in notes and "asked for every 0.5 s" in notes
        assert site.end() == 0
        assert "local-secret" not in checked.stdout + checked.stderr + notes + site.logs()

        config = site.config.read_text(encoding="utf-8")
        site.config.write_text(config.replace('"binanceusdm"', '"nowhere"'), encoding="utf-8")
        refused = site.run("run")
        assert refused.returncode == 4 and "knows no exchange 'nowhere'" in refused.stderr
        site.config.write_text(config.replace("http://127.0.0.1", "https://api.example.com/"), encoding="utf-8")
        refused = site.run("run")
        assert refused.returncode == 4 and "is none of ccxt's" in refused.stderr
