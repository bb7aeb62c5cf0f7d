"""The real parts put together from a config, in real time: a long-lived engine, the check-up, and a short demo."""

from pathlib import Path
from random import Random

import httpx
import pytest
import trio
import trio.testing

from actors.assembly import own_terms, run_live
from actors.checkup import look_over
from actors.demo import Demo, run_demo
from actors.real import own_market
from engine.core.breakers import OwnTerms
from engine.core.times import SECOND
from engine.market import synthetic
from engine.runtime.clock import live_clock
from engine.runtime.config import parse
from engine.runtime.journal.memory import MemoryDisk, MemoryJournal
from engine.runtime.terminal import DemoSummary
from tests.patience import PATIENCE_SECONDS

START_NS = 1_767_225_600 * SECOND


def text(folder: Path, more: str = "") -> str:
    signals = folder / "signals.ndjson"
    signals.write_text(
        '{"signal_id": "f1", "symbol": "ETHUSDT", "action": "open", "side": "buy", "quote_amount": "500"}\n'
        '{"signal_id": "f2", "symbol": \n',
        encoding="utf-8",
    )
    return f"""
[engine]
data_dir = "{folder}/var"
[api]
port = 0
[breakers]
loop_stall_ms = 60000
commit_stall_ms = 60000
[accounts.main.limits]
[[sources]]
kind = "http"
[[sources]]
kind = "ndjson"
path = "{signals}"
{more}"""


async def test_an_engine_from_a_config_trades_answers_and_drains(tmp_path: Path) -> None:
    config = parse(text(tmp_path), "test.toml")
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        engine, port = await nursery.start(run_live, config, "test", stop)
        with trio.fail_after(PATIENCE_SECONDS):
            while engine.closed("main"):  # noqa: ASYNC110 (as a person would look)
                await trio.sleep(0.01)
        base = f"http://127.0.0.1:{port}"
        async with httpx.AsyncClient(base_url=base, timeout=PATIENCE_SECONDS) as client:
            body = {"signal_id": "h1", "symbol": "BTCUSDT", "action": "open", "side": "buy", "quote_amount": "500"}
            taken = await client.post("/api/execution/order", json=body)
            assert taken.status_code == 202, taken.text
            with trio.fail_after(PATIENCE_SECONDS):
                while not {"BTCUSDT", "ETHUSDT"} <= {s for (_, s), x in engine.standings.items() if x.position.qty}:  # noqa: ASYNC110
                    await trio.sleep(0.02)
            health = (await client.get("/health")).json()
            assert health["live"] and health["entry_ready"]
            limits = await client.patch("/api/execution/limits/main", json={"positions_max": 2})
            assert limits.status_code == 200 and limits.json()["limits"]["positions_max"] == 2
            refused = await client.patch("/api/execution/limits/main", json={"daily_loss_max": -1})
            assert refused.status_code == 422
            nothing = await client.post("/api/execution/resume", json={"by": "ann", "scope": "engine"})
            assert nothing.status_code == 404
            closed = await client.post("/api/execution/positions/main/ETHUSDT/close", json={"by": "ann"})
            assert closed.status_code == 200 and closed.json()["complete"]
            with trio.fail_after(PATIENCE_SECONDS):
                while engine.standings["main", "ETHUSDT"].position.qty:  # noqa: ASYNC110 (the venue was flat first)
                    await trio.sleep(0.01)
            gone = await client.post("/api/execution/positions/main/ETHUSDT/close", json={"by": "ann"})
            assert gone.status_code == 404
            flat = await client.post("/api/execution/flatten", json={"by": "ann", "reason": "enough"})
            assert flat.status_code == 200 and flat.json()["complete"]
            nobody = await client.post("/api/execution/flatten", json={"by": "ann", "reason": "x", "account": "nobody"})
            assert nobody.status_code == 404
            stopped = await client.post("/api/execution/stop", json={"by": "ann", "reason": "the end"})
            assert stopped.status_code == 200 and stopped.json()["complete"]
            policy = {"type": "policy.updated", "id": "p", "data": {"limits": {"positions_max": 9}}}
            refused = await client.post("/api/execution/order", json=policy)
            assert refused.status_code == 422 and "controls" in refused.text
            tripped = await client.post("/api/execution/order", json={"type": "ess.tripped", "id": "e"})
            assert tripped.status_code == 200
            resumed = await client.post("/api/execution/resume", json={"by": "ann", "kind": "ess"})
            assert resumed.status_code == 200 and "stopped: the end" in resumed.json()["remains"][0]
            resumed = await client.post("/api/execution/resume", json={"by": "ann", "scope": "engine"})
            assert resumed.status_code == 200 and resumed.json()["halts"] == []
        stop.set()
    dead = (tmp_path / "var" / "dead-letters.ndjson").read_text(encoding="utf-8").splitlines()
    assert len(dead) == 2 and "f2" in dead[0] and "policy.updated" in dead[1]
    assert "trade_confirmations" in (tmp_path / "var" / "events.ndjson").read_text(encoding="utf-8")


async def test_a_check_up_sees_config_disk_journal_market_and_venues_and_what_cannot_be_reached(tmp_path: Path) -> None:
    config = parse(text(tmp_path), "test.toml")
    found = {f.name: f for f in await look_over(config, "test.toml", live_clock())}
    assert all(f.ok for name, f in found.items() if name != "clock"), found
    assert "none yet" in found["journal"].detail
    link = text(tmp_path, '[market]\nkind = "link"\nport = 1\n').replace(
        "[accounts.main.limits]", '[accounts.main]\nvenue = "link"\nport = 1\n[accounts.main.limits]'
    )
    found = {f.name: f for f in await look_over(parse(link, "test.toml"), "test.toml", live_clock())}
    assert not found["market"].ok and "cannot be reached" in found["market"].detail
    assert not found["venue of main"].ok
    tape = text(tmp_path, f'[market]\nkind = "recorded"\ntape = "{tmp_path}/none.gz"\n')
    found = {f.name: f for f in await look_over(parse(tape, "test.toml"), "test.toml", live_clock())}
    assert not found["market"].ok and "none.gz" in found["market"].detail


def played(seed: int) -> DemoSummary:
    demo = Demo(
        tape="synthetic",
        seed=seed,
        instruments=synthetic.instruments(),
        events=synthetic.events(Random(seed), synthetic.instruments(), START_NS, seconds=60),
        start_ns=START_NS,
        market_ns=60 * SECOND,
        lines=None,
        journal=lambda clock: MemoryJournal(MemoryDisk(), clock),
        sinks=(),
        dead_letter=lambda malformed: None,
        progress=lambda done_ns, words: None,
    )

    async def run() -> DemoSummary:
        summary, close = await run_demo(demo)
        close()
        return summary

    return trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))


def test_a_demo_ends_with_books_that_balance() -> None:
    summary = played(3)
    assert summary.books_balance, summary.differences
    assert summary.signals > 5 and summary.fills > 0 and summary.orders
    assert sum(summary.verdicts.values()) == summary.signals


def test_the_engines_own_breakers_are_as_the_config_says() -> None:
    limits = "[accounts.main.limits]\n"
    words = (
        "[breakers]\nrejects_symbol_max = 3\nrejects_pause_seconds = 7\nloop_stall_ms = 250\ncommit_stall_ms = 500\n"
    )
    terms = own_terms(parse(words + limits, "test.toml").breakers)
    assert (terms.storms.symbol_max, terms.storms.account_max, terms.storms.pause_ns) == (3, 15, 7 * SECOND)
    assert (terms.stalls.loop_ns, terms.stalls.commit_ns, terms.stalls.pause_ns) == (
        SECOND // 4,
        SECOND // 2,
        10 * SECOND,
    )
    assert own_terms(parse(limits, "test.toml").breakers) == OwnTerms()


@pytest.mark.parametrize(
    ("market", "first", "own"),
    [
        ("bybit", 'venue = "bybit"\nhost = "mainnet"', True),
        ("bybit", 'venue = "bybit"\nhost = "demo"', True),  # which trades in the mainnet's market
        ("bybit", 'venue = "bybit"\nhost = "testnet"', True),  # the market is heard where the first account trades
        ("binance", 'venue = "bybit"\nhost = "mainnet"', False),
        ("binance", 'venue = "binance"\nhost = "testnet"', True),
        ("bybit", 'venue = "ccxt"\nexchange = "bybit"\nhost = "mainnet"', True),
        ("bybit", 'venue = "ccxt"\nexchange = "bybit"\nhost = "testnet"', False),
        ("bybit", 'venue = "ccxt"\nexchange = "kraken"\nhost = "mainnet"', False),
        ("bybit", 'venue = "ccxt"\nexchange = "bybit"\nhost = "http://127.0.0.1:1"', True),
    ],
)
def test_a_stop_is_held_against_the_market_in_which_it_triggers_and_against_no_other(
    market: str, first: str, own: bool
) -> None:
    config = parse(real(market, first), "test.toml")
    assert own_market(config.accounts["main"], config) is own


def test_of_two_real_accounts_one_may_trade_in_a_market_that_is_not_heard() -> None:
    spot = '[accounts.other]\nvenue = "bybit"\nhost = "mainnet"\ncategory = "spot"\nkey_env = "A"\nsecret_env = "B"\n'
    config = parse(real("bybit", 'venue = "bybit"\nhost = "mainnet"') + spot + "[accounts.other.limits]\n", "test.toml")
    assert [own_market(section, config) for section in config.accounts.values()] == [True, False]


def real(market: str, account: str) -> str:
    return f"""
[engine]
env = "{"testnet" if "testnet" in account or "demo" in account else "live"}"
[market]
kind = "{market}"
symbols = ["BTCUSDT"]
[accounts.main]
{account}
key_env = "A"
secret_env = "B"
[accounts.main.limits]
"""
