"""The engine trading on the local exchange by Bybit's protocol, as processes: the books are the exchange's truth."""

import time
from pathlib import Path
from random import Random

import pytest

from tests.patience import PATIENCE_SECONDS
from tests.process.real_site import RealSite
from tests.process.site import Site

SIGNALS = 14


def bodies(rng: Random, spot: bool) -> list[dict[str, object]]:
    sides = ("buy",) if spot else ("buy", "sell")
    return [
        {
            "signal_id": f"b{number:03d}",
            "symbol": rng.choice(("BTCUSDT", "ETHUSDT")),
            "action": "open",
            "side": rng.choice(sides),
            "quote_amount": str(rng.randint(100, 400)),
        }
        for number in range(SIGNALS)
    ]


def send(site: Site, bodies: list[dict[str, object]]) -> list[int]:
    return [site.post(body).status_code for body in bodies]


def names(bodies: list[dict[str, object]]) -> list[str]:
    return [str(body["signal_id"]) for body in bodies]


@pytest.mark.parametrize("category", ["linear", "spot"])
def test_the_same_signals_come_to_the_exchanges_own_truth(tmp_path: Path, category: str) -> None:
    wanted = bodies(Random(5), spot=category == "spot")
    with RealSite(tmp_path, "bybit", category) as site:
        site.start()
        assert set(send(site, wanted)) <= {200, 202}
        assert set(send(site, wanted)) == {200}, "the same again is known, and not executed"
        truth = site.rested()
        assert len([o for o in truth.orders if o.order_type.value == "market"]) >= 1
        for symbol in ("BTCUSDT", "ETHUSDT"):
            site.post({"signal_id": f"close-{symbol}", "symbol": symbol, "action": "close"})
        truth = site.rested()
        assert site.end() == 0
        assert site.differences(truth) == []
        assert site.run("audit", "verify").returncode == 0


def test_through_lost_answers_dropped_streams_and_kills_the_books_stay_the_exchanges(tmp_path: Path) -> None:
    wanted = bodies(Random(7), spot=False)
    with RealSite(tmp_path, "bybit", "linear") as site:
        site.start()
        site.fault("lose_reply", on="order.create", skip=2)
        site.fault("refuse_done", on="order.create", code=10016, skip=4)
        first = dict(zip(names(wanted[:7]), send(site, wanted[:5]), strict=False))
        site.do("drop", scope="trade", face="bybit")
        first |= zip(names(wanted[5:7]), send(site, wanted[5:7]), strict=True)
        assert [status for status in first.values() if status not in (202, 422)] == []  # 422: its symbol is in doubt
        assert 202 in first.values()
        site.kill()
        site.start()
        site.do("drop", scope="private", face="bybit")
        again = dict(zip(names(wanted), send(site, wanted), strict=True))
        assert all(again[name] == 200 for name, status in first.items() if status == 202), (first, again)
        site.do("restart", face="bybit")
        site.ready()
        truth = site.rested()
        assert site.end() == 0
        assert site.differences(truth) == []
        assert site.run("audit", "verify").returncode == 0


def test_health_says_when_orders_take_the_slow_way(tmp_path: Path) -> None:
    with RealSite(tmp_path, "bybit", "linear") as site:
        site.start()
        site.fault("refuse", on="auth", face="bybit", times=0, code=10003, text="API key is invalid.")
        site.do("drop", scope="trade", face="bybit")
        until = time.monotonic() + PATIENCE_SECONDS
        while not any("orders go by REST" in note and "login" in note for note in site.health()["notes"]):
            assert time.monotonic() < until, site.health()
            time.sleep(0.05)
        assert site.post(bodies(Random(1), spot=False)[0]).status_code == 202
        site.admin("DELETE", "/faults")
        truth = site.rested()
        assert site.end() == 0 and site.differences(truth) == []


def test_check_speaks_of_the_account_in_words_and_a_wrong_world_does_not_start(tmp_path: Path) -> None:
    with RealSite(tmp_path, "bybit", "linear") as site:
        checked = site.run("check")
        assert checked.returncode == 0, checked.stdout
        for words in (
            "the key may trade",
            "one-way mode",
            "clock is",
            "it delivers",
            "by the WebSocket API",
            "create 10",
        ):
            assert words in checked.stdout
        assert "local-secret" not in checked.stdout + checked.stderr + site.logs()

        config = site.config.read_text(encoding="utf-8")
        site.config.write_text(config.replace('env = "testnet"', 'env = "live"'), encoding="utf-8")
        refused = site.run("run")
        assert refused.returncode == 4
        assert "engine.env is 'live'" in refused.stderr and "is local; it must be live" in refused.stderr

        site.config.write_text(config.replace("LOCAL_SECRET", "NOT_SET_ANYWHERE"), encoding="utf-8")
        refused = site.run("run")
        assert refused.returncode == 4
        assert "the environment variable NOT_SET_ANYWHERE is not set" in refused.stderr
        assert "PROBLEM" in site.run("check").stdout
