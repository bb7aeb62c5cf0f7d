"""The engine trading on the local exchange by Binance's protocols, as processes: the books are the exchange's truth."""

import time
from collections.abc import Callable
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import pytest

from engine.core.messages import OrderType, Side
from tests.patience import PATIENCE_SECONDS
from tests.process.real_site import RealSite
from tests.process.test_bybit import bodies, names, send

FACES = {"linear": "binance-usdm", "spot": "binance-spot"}


class BinanceSite(RealSite):
    def __init__(self, folder: Path, category: str) -> None:
        super().__init__(folder, FACES[category], category, venue="binance")


class StillSite(BinanceSite):
    """Its market stands where it is put."""

    tape = ("--tape", "still")

    def show(self, bid: str, ask: str) -> None:
        self.do("book", symbol="BTCUSDT", bids=[[bid, "50"]], asks=[[ask, "50"]])

    def live(self) -> list[dict[str, Any]]:
        return list(self.get("/orders?live=true")["orders"])

    def until(self, bid: str, ask: str, true: Callable[[], bool]) -> None:
        """With a fresh book before each look."""
        last = time.monotonic() + PATIENCE_SECONDS
        self.show(bid, ask)
        while not true():
            assert time.monotonic() < last, self.logs()
            time.sleep(0.1)
            self.show(bid, ask)


@pytest.mark.parametrize("category", ["linear", "spot"])
def test_the_same_signals_come_to_the_exchanges_own_truth(tmp_path: Path, category: str) -> None:
    wanted = bodies(Random(5), spot=category == "spot")
    with BinanceSite(tmp_path, category) as site:
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


@pytest.mark.parametrize("category", ["linear", "spot"])
def test_through_lost_answers_dropped_streams_and_kills_the_books_stay_the_exchanges(
    tmp_path: Path, category: str
) -> None:
    wanted = bodies(Random(7), spot=category == "spot")
    with BinanceSite(tmp_path, category) as site:
        site.start()
        site.fault("lose_reply", on="order.place", skip=2)
        site.fault("refuse_done", on="order.place", code=-1007, status=504, text="Timeout", skip=4)
        first = dict(zip(names(wanted[:5]), send(site, wanted[:5]), strict=True))
        site.do("drop", scope="trade", face=site.face)
        first |= zip(names(wanted[5:7]), send(site, wanted[5:7]), strict=True)
        assert [status for status in first.values() if status not in (202, 422)] == []  # 422: its symbol is in doubt
        assert 202 in first.values()
        site.kill()
        site.start()
        site.do("drop", scope="private", face=site.face)
        again = dict(zip(names(wanted), send(site, wanted), strict=True))
        assert all(again[name] == 200 for name, status in first.items() if status == 202), (first, again)
        site.do("restart", face=site.face)
        site.ready()
        truth = site.rested()
        assert site.end() == 0
        assert site.differences(truth) == []
        assert site.run("audit", "verify").returncode == 0


@pytest.mark.parametrize("category", ["linear", "spot"])
def test_messages_that_are_lost_repeated_or_swapped_and_lists_that_lag_change_no_books(
    tmp_path: Path, category: str
) -> None:
    wanted = bodies(Random(9), spot=category == "spot")[:9]
    with BinanceSite(tmp_path, category) as site:
        site.start()
        site.do("lag", ms=300, face=site.face)
        for number, body in enumerate(wanted):
            site.do("mangle", how=("lose", "repeat", "swap")[number % 3], times=2, skip=number % 2)
            site.ready()  # a stream that was found out is down for a moment
            assert site.post(body).status_code in (202, 422)
        truth = site.rested()
        assert len(truth.executions) >= 3
        assert site.end() == 0
        assert site.differences(truth) == []


def test_a_spot_target_that_waits_with_us_is_carried_out_when_the_market_reaches_it(tmp_path: Path) -> None:
    with StillSite(tmp_path, "spot") as site:
        site.show("60000", "60000.1")
        site.start()
        body = {"symbol": "BTCUSDT", "action": "open", "side": "buy", "quote_amount": "400"}
        body |= {"stop_loss": "59400", "take_profit": "61200"}
        tries = count(1)  # the gate refuses while the price that it knows is too old
        site.until("60000", "60000.1", lambda: site.post({**body, "signal_id": f"t{next(tries)}"}).status_code == 202)
        site.rested()
        assert {order["leg"] for order in site.live()} == {"stop", "target"}
        site.until("61200", "61200.1", lambda: not site.live())
        truth = site.rested()
        assert site.end() == 0
        assert site.differences(truth) == []
        sold = [(o.status, o.order_type) for o in truth.orders if o.side is Side.SELL]
        assert sold.count(("filled", OrderType.MARKET)) == 1
        # The stop made room for it; another may have been on its way before the sale was heard of.
        assert {kind for kind in sold if kind != ("filled", OrderType.MARKET)} == {("canceled", OrderType.STOP_MARKET)}


def test_a_spot_target_outlives_the_process_that_it_waited_with(tmp_path: Path) -> None:
    with StillSite(tmp_path, "spot") as site:
        site.show("60000", "60000.1")
        site.start()
        body = {"symbol": "BTCUSDT", "action": "open", "side": "buy", "quote_amount": "400"}
        body |= {"stop_loss": "59400", "take_profit": "61200"}
        tries = count(1)
        site.until("60000", "60000.1", lambda: site.post({**body, "signal_id": f"t{next(tries)}"}).status_code == 202)
        site.rested()
        before = {order["leg"]: order["cid"] for order in site.live()}
        site.kill()
        site.start()
        assert {order["leg"]: order["cid"] for order in site.live()} == before
        site.until("61200", "61200.1", lambda: not site.live())
        truth = site.rested()
        assert site.end() == 0
        assert site.differences(truth) == []
        sold = [o.cid for o in truth.orders if o.side is Side.SELL and o.status == "filled"]
        assert sold == [before["target"]], "the target of before, and not one made anew when it was proven lost"


def test_an_account_of_real_money_is_refused_in_another_environment(tmp_path: Path) -> None:
    with BinanceSite(tmp_path, "linear") as site:
        text = site.config.read_text(encoding="utf-8")
        local = f"http://127.0.0.1:{site.ports[site.face]}"
        site.config.write_text(text.replace(local, "mainnet"), encoding="utf-8")
        refused = site.run("run")
        assert refused.returncode != 0 and "live" in refused.stderr and "Traceback" not in refused.stderr


def test_check_says_what_it_saw_of_the_account(tmp_path: Path) -> None:
    with BinanceSite(tmp_path, "linear") as site:
        done = site.run("check")
        assert done.returncode == 0, done.stdout + done.stderr
        for word in ("clock", "one-way mode", "private stream", "order entry", "weight-1M 2400 in 60 s"):
            assert word in done.stdout
