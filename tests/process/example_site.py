"""One of the shipped examples, as it stands but for its ports and a loaded machine's patience, as real processes."""

import json
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx

from engine.core.messages import OrderType
from engine.venues.paper import Truth
from tests.patience import PATIENCE_SECONDS
from tests.process.real_site import RealSite
from tests.process.site import ROOT

EXAMPLES = ROOT / "engine" / "examples"
USUAL = {"bybit": 9200, "binance-spot": 9201, "binance-usdm": 9202}  # where the examples look for the local exchange
KEYS = ("BYBIT", "BINANCE", "EXCHANGE")
# A loaded machine lets a process wait for seconds: that is no stall of the engine's, and no old price.
PATIENT = "[breakers]\nloop_stall_ms = 60_000\ncommit_stall_ms = 60_000\n"
SLOW = "[accounts.main.limits]\nsignal_ttl_seconds = 120\nquote_age_max_seconds = 60\n"
ENVIRONMENT = {f"{name}_{what}": f"local-{what.lower()}" for name in KEYS for what in ("KEY", "SECRET")}


class ExampleSite(RealSite):
    """`there`: words of the example, such as a server's address, each with what stands for it in this test.

    `face`: of the local exchange; "": there is none, the account is on paper.
    """

    def __init__(self, folder: Path, name: str, face: str, there: dict[str, str]) -> None:
        super().__init__(folder, face, "spot" if face == "binance-spot" else "linear")
        self._text = (EXAMPLES / f"{name}.toml").read_text(encoding="utf-8")
        self._there = there
        self.tell: Callable[[str, Truth], Truth] = lambda face, told: told  # as another client has it

    def __enter__(self) -> "ExampleSite":
        here = {'data_dir = "var"': f'data_dir = "{self.folder / "var"}"', **self._there}
        if self.face:
            self.ports = self.first_line(self.spawn("exchange", "--port", "0", "--json"))["ports"]
            here[f"127.0.0.1:{USUAL[self.face]}"] = f"127.0.0.1:{self.ports[self.face]}"
        text = self._text.replace("[accounts.main.limits]\n", SLOW)
        for usual, actual in here.items():
            assert usual in text, f"the example has no {usual}"
            text = text.replace(usual, actual)
        self.config.write_text(f"{text}\n[api]\nport = 0\n{PATIENT}", encoding="utf-8")
        return self

    def truth(self) -> Truth:
        return self.tell(self.face, super().truth())

    def price(self, symbol: str = "BTCUSDT") -> Decimal:
        """The exchange's, now, to whole units."""
        path = {"bybit": "/v5/market/tickers?category=linear&", "binance-spot": "/api/v3/ticker/price?"}
        where = path.get(self.face, "/fapi/v1/ticker/price?")
        told = httpx.get(f"http://127.0.0.1:{self.ports[self.face]}{where}symbol={symbol}", timeout=PATIENCE_SECONDS)
        found = told.json()
        row = found["result"]["list"][0]["lastPrice"] if self.face == "bybit" else found["price"]
        return Decimal(row).quantize(Decimal(1))

    def explained(self, signal_id: str) -> Any:
        return json.loads(self.run("explain", signal_id, "--json").stdout)

    def held(self, symbol: str = "BTCUSDT") -> Decimal:
        """By the engine's books."""
        return sum(
            (Decimal(p["qty"]) for p in self.get("/positions")["positions"] if p["symbol"] == symbol), Decimal(0)
        )

    def confirmed(self, signal_id: str) -> dict[str, Any]:
        """What the NDJSON sink was told of it, once it was."""
        events = self.folder / "var" / "events.ndjson"
        until = time.monotonic() + 3 * PATIENCE_SECONDS
        while True:
            text = events.read_text(encoding="utf-8") if events.exists() else ""
            told = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
            mine = [e for e in told if e["name"] == "trade_confirmations" and e["signal_id"] == signal_id]
            if mine:
                assert len({event["event_id"] for event in mine}) == 1, "two confirmations of one signal"
                return dict(mine[0])
            assert time.monotonic() < until, text[-1000:]
            time.sleep(0.05)

    def entries_at_exchange(self) -> int:
        """Market orders that opened or closed something."""
        return sum(o.order_type is OrderType.MARKET for o in self.truth().orders)
