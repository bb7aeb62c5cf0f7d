"""What an engine's config says in tests that start processes: one place, in which each test names what is its own."""

import json
from collections.abc import Sequence
from pathlib import Path

Words = dict[str, object]  # values as JSON writes them, which TOML reads, too

# A local exchange's only key, unless it is told otherwise; for the engine's environment.
LOCAL_KEYS = {"LOCAL_KEY": "local-key", "LOCAL_SECRET": "local-secret"}
# Limits that no test's load can reach; what a test is about, it sets itself.
WIDE: Words = {
    "order_btc_max": 100,
    "positions_max": 100,
    "position_notional_max": 1_000_000,
    "exposure_max": 100_000_000,
    "daily_volume_btc_max": 1_000_000,
    "orders_per_second": 100_000,
    "orders_per_minute": 1_000_000,
    "orders_per_day": 10_000_000,
    "duplicate_window_seconds": 0,
    "daily_loss_max": 5_000_000,
    "drawdown_max": 0.9,
    "losses_in_row_max": 100_000,
    "leverage_max": 20,
}

# A loaded machine lets a process wait for seconds: that is no stall of the engine's.
PATIENT: Words = {
    "loop_stall_ms": 60_000,
    "commit_stall_ms": 60_000,
    "rejects_symbol_max": 100_000,
    "rejects_account_max": 100_000,
}


def engine_toml(
    data: Path,
    market: Words,
    account: Words,
    limits: Words,
    durability: str = "power",
    env: str = "",
    more: str = "",
    journal: Words | None = None,
) -> str:
    """An engine that listens on a free port, with one account, `main`, and signals by HTTP. `more` comes last."""
    engine: dict[str, object] = {"data_dir": str(data)}
    sections = {
        "engine": engine | ({"env": env} if env else {}),
        "journal": {"durability": durability} | (journal or {}),
        "api": {"port": 0},
        "breakers": PATIENT,
        "market": market,
        "accounts.main": account,
        "accounts.main.limits": limits,
    }
    written = [f"[{name}]\n{_lines(words)}" for name, words in sections.items()]
    return "\n".join([*written, '[[sources]]\nkind = "http"\n', more])


def with_journal(text: str, words: Words) -> str:
    """A config whose journal is elsewhere."""
    return text.replace("[journal]\n", f"[journal]\n{_lines(words)}", 1)


def link(port: int) -> tuple[Words, Words]:
    """Market and account of an engine whose paper venue is another process on `port`."""
    where = {"host": "127.0.0.1", "port": port}
    return {"kind": "link", **where}, {"venue": "link", **where, "orders_per_second": 500}


def local(venue: str, category: str, port: int, symbols: Sequence[str]) -> tuple[Words, Words]:
    """Market and account of an engine that trades on a face of the local exchange, with the keys of LOCAL_KEYS."""
    market = {"kind": venue, "symbols": list(symbols)}
    account = {
        "venue": venue,
        "host": f"http://127.0.0.1:{port}",
        "category": category,
        "key_env": "LOCAL_KEY",
        "secret_env": "LOCAL_SECRET",
    }
    return market, account


def _lines(words: Words) -> str:
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in words.items())
