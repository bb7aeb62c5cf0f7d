"""As `site`, with the local exchange in the venue's place: an engine that trades by a real venue's protocol."""

import os
from decimal import Decimal
from pathlib import Path

from engine.exchange.asking import ask
from engine.venues.paper import Truth
from tests.engine_toml import LOCAL_KEYS, Words, engine_toml, local
from tests.exchange_truth import truth_of
from tests.process.site import Site

SYMBOLS = ("BTCUSDT", "ETHUSDT")
LIMITS: Words = {
    "leverage_max": 10,
    "duplicate_window_seconds": 0,
    "losses_in_row_max": 1000,
    "positions_max": 10,
    "orders_per_second": 1000,
    "signal_ttl_seconds": 60,
    "quote_age_max_seconds": 60,  # a loaded machine hears of the market late
}


class RealSite(Site):
    """`face` is the exchange's, and the config's name of the venue unless `venue` says another."""

    tape: tuple[str, ...] = ()  # what the exchange plays, if not its synthetic market

    def __init__(self, folder: Path, face: str, category: str, venue: str = "") -> None:
        super().__init__(folder)
        self.face, self.category, self.venue = face, category, venue or face
        if category == "spot":  # fees in base leave less than a lot
            self.dust = Decimal("0.0001")

    def __enter__(self) -> "RealSite":
        os.environ |= LOCAL_KEYS
        process = self.spawn("exchange", "--port", "0", "--json", *self.tape)
        self.ports: dict[str, int] = self.first_line(process)["ports"]
        market, account = local(self.venue, self.category, self.ports[self.face], SYMBOLS)
        text = engine_toml(self.folder / "var", market, account, LIMITS, env="testnet")
        self.config.write_text(text, encoding="utf-8")
        return self

    def admin(self, method: str, path: str, body: dict[str, object] | None = None) -> bytes:
        return ask("127.0.0.1", self.ports[self.face], method, path, body)

    def do(self, deed: str, **more: object) -> None:
        self.admin("POST", "/do", {"do": deed, **more})

    def fault(self, woe: str, **more: object) -> None:
        self.admin("POST", "/fault", {"do": woe, **more})

    def truth(self) -> Truth:
        """The exchange's, of our category, in the names and ids that its clients see."""
        return truth_of(self.face, self.category, self.ports[self.face])
