"""The kit itself: what each venue does not offer is written down here, a bad adapter fails, the command line works."""

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from engine.core.messages import Failed, Order, Rejection, Silence
from engine.venues.bybit.client import BybitVenue
from tests.conformance.bench import Bench
from tests.conformance.cases import CASES
from tests.conformance.running import run
from tests.conformance.sites import SITES
from tests.exchange.site import exchange

ROOT = Path(__file__).resolve().parents[2]
BY_NAME = {case.run.__name__: case for case in CASES}

NOT_OFFERED: dict[str, set[str]] = {
    "bybit-linear": set(),
    "bybit-spot": {"funding", "liquidation"},
    "binance-spot": {"batch", "batch_answer_lost", "duplicate_after_end", "funding", "liquidation"},
    "binance-usdm": {"duplicate_after_end"},
    "paper": {
        "amend",
        "amend_answer_lost",
        "batch",
        "batch_answer_lost",
        "burst",
        "cancel_all",
        "class_halt",
        "clock_jump",
        "clock_offset",
        "dies_with_its_signal",
        "paging_executions",
        "transfer",
        "wrong_key",
    },
}
_BY_CCXT = {
    "batch",
    "batch_answer_lost",
    "cancel_all",
    "clock_jump",
    "clock_offset",
    "dies_with_its_signal",
    "duplicate_after_end",
    "off_step",
    "paging_executions",
    "paging_orders",
    "stream_doubled",
    "stream_dropped",
    "stream_silent",
    "transfer",
    "wrong_key",
}
NOT_OFFERED |= {
    "ccxt-bybit": _BY_CCXT | {"liquidation"},
    "ccxt-binance": _BY_CCXT | {"amend", "amend_answer_lost", "funding", "liquidation"},
    "ccxt-binanceusdm": _BY_CCXT,
}
SKIPPED = {
    "paper": {
        "ambiguous_code",
        "answer_cut_off",
        "answer_is_a_page",
        "late_in_queries",
        "liquidation",
        "reject_after_ack",
        "unknown_code",
    }
}


def test_every_venue_of_the_kit_says_what_it_does_not_offer():
    assert set(NOT_OFFERED) == set(SITES)
    assert [case.number for case in CASES] == list(range(1, len(CASES) + 1))


def test_the_numbers_of_the_cases_stay():
    """Users and issues name them."""
    assert (BY_NAME["market_order"].number, BY_NAME["answer_lost_order_lives"].number) == (1, 16)
    assert (BY_NAME["restart"].number, BY_NAME["dies_with_its_signal"].number) == (35, 51)


# ------------------------------------------------------------------------------------------------------ bad adapters


class _Spoiled:
    """An adapter with one thing wrong."""

    def __init__(self, good: BybitVenue, **wrong: Any) -> None:
        self._good = good
        self._wrong = wrong

    def __getattr__(self, name: str) -> Any:
        return partial(self._wrong[name], self._good) if name in self._wrong else getattr(self._good, name)


async def sends_again(good: BybitVenue, order: Order, on_wire: Callable[[], None]) -> object:
    answer = await good.submit(order, on_wire)
    return await good.submit(order, on_wire) if isinstance(answer, Silence) else answer


async def takes_silence_for_a_no(good: BybitVenue, order: Order, on_wire: Callable[[], None]) -> object:
    answer = await good.submit(order, on_wire)
    return Rejection("0", "unavailable", answer.why) if isinstance(answer, Silence) else answer


async def shrugs_at_failures(good: BybitVenue) -> object:
    found = await good.open_orders()
    return () if isinstance(found, Failed) else found


async def reads_one_page(good: BybitVenue, since_ns: int, cid: str | None = None) -> object:
    found = await good.fills(since_ns, cid)
    return found[:100] if isinstance(found, tuple) else found


@pytest.mark.parametrize(
    ("case", "wrong"),
    [
        ("answer_lost_order_lives", {"submit": sends_again}),
        ("answer_is_a_page", {"submit": takes_silence_for_a_no}),
        ("ambiguous_code", {"submit": takes_silence_for_a_no}),
        ("failed_is_not_empty", {"open_orders": shrugs_at_failures}),
        ("paging_executions", {"fills": reads_one_page}),
    ],
)
async def test_an_adapter_with_this_mistake_fails_this_case(case: str, wrong: dict[str, Any]):
    @asynccontextmanager
    async def place() -> AsyncIterator[Bench]:
        async with SITES["bybit-linear"](False) as bench:
            bench.venue = _Spoiled(bench.venue, **wrong)
            yield bench

    result = await run(BY_NAME[case], place)
    assert result.how == "failed", result


async def test_a_place_that_cannot_be_opened_fails_its_case():
    @asynccontextmanager
    async def nowhere() -> AsyncIterator[Bench]:
        raise OSError("no room")
        yield  # type: ignore[unreachable]

    place: Callable[[], AbstractAsyncContextManager[Bench]] = nowhere
    assert (await run(CASES[0], place)).why == "OSError: no room"


# ----------------------------------------------------------------------------------------------------- command line


def kit(*words: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.conformance", *words]
    environ = os.environ | {"LOCAL_KEY": "local-key", "LOCAL_SECRET": "local-secret"}
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, input=answer, env=environ, check=False)


def config(folder: Path, port: int, host: str = "", env: str = "testnet") -> Path:
    """A user's, for the account at this port of this machine."""
    path = folder / "kit.toml"
    path.write_text(
        f"""
[engine]
env = "{env}"
[market]
kind = "bybit"
symbols = ["BTCUSDT"]
[accounts.main]
venue = "bybit"
host = "{host or f"http://127.0.0.1:{port}"}"
category = "linear"
key_env = "LOCAL_KEY"
secret_env = "LOCAL_SECRET"
[accounts.main.limits]
leverage_max = 10
"""
    )
    return path


def test_at_a_users_venue_small_orders_are_sent_faults_are_skipped_and_nothing_is_left(tmp_path: Path):
    with exchange() as site:
        words = ("bybit-linear", "--config", str(config(tmp_path, site.ports["bybit"])), "--only", "1", "2", "16", "35")
        done = kit(*words, "--yes", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        told = json.loads(done.stdout)
        truth = site.truth("bybit")
    assert [case["how"] for case in told["cases"]] == ["passed", "passed", "skipped", "passed"]
    assert "local exchange" in told["cases"][2]["why"]
    assert truth["positions"] == [] and all(o["status"] != "open" for o in truth["orders"]) and truth["orders"]


def test_nothing_is_sent_without_a_yes(tmp_path: Path):
    with exchange() as site:
        path = str(config(tmp_path, site.ports["bybit"]))
        done = kit("bybit-linear", "--config", path, answer="n\n")
        assert done.returncode == 4 and "Send them?" in done.stdout and "BTCUSDT" in done.stdout
        assert site.truth("bybit")["orders"] == []
        assert kit("binance-spot", "--config", path).returncode == 2


def test_real_money_wants_a_word_of_its_own(tmp_path: Path):
    path = config(tmp_path, 0, host="mainnet", env="live")
    done = kit("bybit-linear", "--config", str(path), "--yes")
    assert done.returncode == 4 and "--mainnet" in done.stderr


def test_the_table_numbers_each_case_and_says_why_one_is_not_offered():
    done = kit("paper", "--only", "2", "8")
    assert done.returncode == 0
    assert "  2  passed       limit GTC" in done.stdout and "  8  not offered  amend: amend" in done.stdout
