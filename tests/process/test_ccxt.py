"""The engine trading on the local exchange through ccxt, as processes: the books are the exchange's truth."""

from pathlib import Path
from random import Random

import pytest

from tests.engine_toml import engine_toml
from tests.process.real_site import LIMITS, SYMBOLS, RealSite
from tests.process.test_bybit import bodies, send

pytest.importorskip("ccxt")

FACES = {  # by ccxt's name: the face, the category, and which public stream the face has
    "bybit": ("bybit", "linear", "bybit"),
    "binanceusdm": ("binance-usdm", "linear", "binance"),
    "binance": ("binance-spot", "spot", "binance"),
}
PLACE = {"bybit": "order.create", "binance-usdm": "order.place"}


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

    def exec_id(self, inner: str, order_id: str) -> str:
        """The trade's id and the order's, as ccxt tells them."""
        if self.face == "bybit":
            serial = int(order_id[-10:])
            return f"{super().exec_id(inner, order_id)}/a{serial % 0xFFFFFFF:07x}-5f1e-4a00-8000-{serial:012x}"
        return f"{int(inner[-10:])}/{int(order_id[-10:])}"

    def workers(self) -> list[int]:
        """The processes in which ccxt runs, of the engine that runs now."""
        found = []
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal() and _parent(folder) == self.engine.pid:
                found.append(int(folder.name))
        return found


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
