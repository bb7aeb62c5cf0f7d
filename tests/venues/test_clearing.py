"""Everything that stands is cancelled at the venue itself, without an engine: at each face, whosever it is."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

import run
from actors.clearing import CancelsAll, clear_by
from actors.wiring import AccountParts
from engine.runtime.commandline import FAILED, OK, USAGE
from tests.conformance.bench import Bench
from tests.conformance.sites import SITES
from tests.exchange.site import exchange

D = Decimal
NAMES = ("bybit-linear", "bybit-spot", "binance-spot", "binance-usdm", "ccxt-bybit", "paper")
CONFIG = """
[market]
symbols = ["BTCUSDT"]

[accounts.main]
venue = "bybit"
host = "http://127.0.0.1:{port}"
key_env = "BYBIT_KEY"
secret_env = "BYBIT_SECRET"

[accounts.main.limits]
"""


def account(b: Bench) -> AccountParts:
    throttle: Any = b.throttle
    return AccountParts("main", "venue", b.venue, throttle, None)


@pytest.mark.parametrize("name", NAMES)
async def test_all_that_stands_is_cancelled_also_what_others_placed(name: str) -> None:
    async with SITES[name](False) as b:
        assert isinstance(b.venue, CancelsAll) is (not name.startswith(("ccxt", "paper")))
        for word in ("one", "two"):
            await b.accepted(b.limit(word))
        await b.hand.act_as_another(b.limit("foreign"))
        await b.accepted(b.market("held"))
        cleared = await clear_by(account(b), "")
        assert (cleared.cancelled, cleared.left, cleared.why) == ((b.instrument.symbol,), (), "")
        assert [position.symbol for position in cleared.bare] == [b.instrument.symbol]
        assert await b.open_cids() == []
        assert (await clear_by(account(b), "ETHUSDT")).cancelled == ()


def test_the_command_needs_no_engine_and_asks_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BYBIT_KEY", "local-key")
    monkeypatch.setenv("BYBIT_SECRET", "local-secret")
    path = tmp_path / "surefire.toml"
    with exchange("--tape", "still") as site:
        path.write_text(CONFIG.format(port=site.ports["bybit"]))
        words = ["clear", "--config", str(path), "--data-dir", str(tmp_path)]
        assert run.main(words) == USAGE and "say --yes" in capsys.readouterr().err
        assert run.main([*words, "--account", "other", "--yes"]) == USAGE
        capsys.readouterr()
        assert run.main([*words, "--yes", "--json"]) == OK
        assert json.loads(capsys.readouterr().out) == {"cancelled": [], "left": [], "bare": [], "why": ""}
    assert run.main([*words, "--yes"]) == FAILED, "nobody is there any more"
    assert "NOT DONE" in capsys.readouterr().out
