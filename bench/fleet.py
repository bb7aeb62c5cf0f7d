"""Several engines that share accounts, as processes: one local exchange, one PostgreSQL server, one config.

For measurements and tests. Each engine has a name, a folder and an API of its own, and may be killed or stopped.
"""

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec

from bench.postgres import ENVIRONMENT, Server
from engine.exchange.asking import ask
from engine.exchange.terms import ExchangeTerms, KeyTerms
from engine.runtime.config import Config, load, of_shard
from engine.runtime.journal.choice import reader_of
from engine.runtime.journal.reading import SqlReader

ROOT = Path(__file__).resolve().parent.parent
BASE = "/api/execution"
PATIENCE_SECONDS = 60.0
SECRET = "local-secret"
LIMITS = """\
leverage_max = 10
duplicate_window_seconds = 0
losses_in_row_max = 1000
positions_max = 10
orders_per_second = 1000
orders_per_minute = 10000
signal_ttl_seconds = 60
"""
T = TypeVar("T")


class Engine:
    """One process."""

    def __init__(self, name: str, process: "subprocess.Popen[str]") -> None:
        self.name, self.process = name, process
        self.api = ""

    def health(self) -> dict[str, Any]:
        return dict(httpx.get(f"{self.api}/health", timeout=PATIENCE_SECONDS).json())

    def held(self) -> set[str]:
        """Shards whose engine runs here."""
        return {shard["name"] for shard in self.health()["shards"] if shard["state"] == "held"}

    def get(self, path: str) -> Any:
        answer = httpx.get(f"{self.api}{BASE}{path}", timeout=PATIENCE_SECONDS)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, path: str, body: Mapping[str, object], seconds: float = PATIENCE_SECONDS) -> httpx.Response:
        return httpx.post(f"{self.api}{BASE}{path}", json=dict(body), timeout=seconds)

    def order(self, account: str, signal_id: str, **more: object) -> httpx.Response:
        body = {"signal_id": signal_id, "account": account, "symbol": "BTCUSDT", "action": "open", "side": "buy"}
        return self.post("/order", body | {"quote_amount": "200"} | more)

    def close(self, account: str, signal_id: str) -> httpx.Response:
        return self.post("/order", {"signal_id": signal_id, "account": account, "symbol": "BTCUSDT", "action": "close"})

    def send_signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> int:
        """TERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)


class Fleet:
    """As a context it leaves no process behind."""

    def __init__(
        self,
        folder: Path,
        server: Server,
        shards: Mapping[str, tuple[str, ...]],
        lease_seconds: float = 5.0,
        prefer: Mapping[str, tuple[str, ...]] | None = None,
        more: str = "",
    ) -> None:
        """`shards`: the accounts of each; `prefer`: engines' names; `more`: further lines of the config."""
        self.folder, self.server = folder, server
        self.shards = {name: tuple(accounts) for name, accounts in shards.items()}
        self.accounts = tuple(account for accounts in self.shards.values() for account in accounts)
        self.lease_seconds, self._prefer, self._more = lease_seconds, prefer or {}, more
        self.file = folder / "engine.toml"
        self.schema = server.journal().schema
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> "Fleet":
        keys = tuple(KeyTerms(key=f"key-{name}", account=name, secret=SECRET) for name in self.accounts)
        terms = self.folder / "terms.json"
        terms.write_bytes(msgspec.json.encode(ExchangeTerms(keys=keys)))
        process = self._spawn("exchange", "--port", "0", "--json", "--terms", str(terms))
        self.exchange: int = first_line(process)["ports"]["bybit"]
        self.file.write_text(self._toml(), encoding="utf-8")
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()

    def start(self, name: str) -> Engine:
        """It runs; what it holds is seen a little later."""
        folder = self.folder / name
        command = ("run", "--config", str(self.file), "--json", "--name", name)
        engine = Engine(name, self._spawn(*command, "--data-dir", str(folder), "--port", "0"))
        try:
            engine.api = first_line(engine.process)["api"]
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.logs()}") from error
        return engine

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """A command on the config, to its end."""
        command = [sys.executable, str(ROOT / "run.py"), *arguments, "--config", str(self.file)]
        return subprocess.run(
            command, cwd=self.folder, env=self._environ(), capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )

    def settled(self, *engines: Engine, seconds: float = PATIENCE_SECONDS) -> dict[str, set[str]]:
        """What each holds, once every shard is held by one of them and entries are possible."""

        def found() -> dict[str, set[str]] | None:
            healths = {engine.name: engine.health() for engine in engines}
            held = {
                name: {s["name"] for s in health["shards"] if s["state"] == "held"} for name, health in healths.items()
            }
            whole = sum(map(len, held.values())) == len(self.shards) and set().union(*held.values()) == set(self.shards)
            return held if whole and all(health["entry_ready"] for health in healths.values()) else None

        return until(found, seconds, self.logs)

    def holder(self, shard: str, *engines: Engine) -> Engine:
        return next(engine for engine in engines if shard in engine.held())

    def config(self) -> Config:
        return load(self.file)

    def reader(self, shard: str) -> SqlReader:
        config = self.config()
        section = next(section for section in config.shards if section.name == shard)
        return reader_of(of_shard(config, section), {**os.environ, **ENVIRONMENT})

    def logs(self) -> str:
        return "\n".join(f"{path.name}: {path.read_text()[-3000:]}" for path in sorted(self.folder.glob("*.log")))

    def admin(self, method: str, path: str, body: dict[str, object] | None = None) -> bytes:
        return ask("127.0.0.1", self.exchange, method, path, body)

    def _spawn(self, *arguments: str) -> "subprocess.Popen[str]":
        with (self.folder / f"{arguments[0]}-{len(self._processes)}.log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "run.py"), *arguments],
                cwd=self.folder,
                env=self._environ(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._processes.append(process)
        return process

    def _environ(self) -> dict[str, str]:
        keys = {f"KEY_{name.upper()}": f"key-{name}" for name in self.accounts}
        return {**os.environ, **ENVIRONMENT, **keys, "LOCAL_SECRET": SECRET}

    def _toml(self) -> str:
        password = next(iter(ENVIRONMENT))
        parts = [
            '[engine]\nenv = "testnet"',
            f'[journal]\nurl = "{self.server.url}"\nschema = "{self.schema}"\npassword_env = "{password}"\n'
            f"lease_seconds = {self.lease_seconds}",
            "[breakers]\nloop_stall_ms = 60000\ncommit_stall_ms = 60000",  # a loaded machine is no fault of ours
            '[market]\nkind = "bybit"\nsymbols = ["BTCUSDT", "ETHUSDT"]',
        ]
        for name in self.accounts:
            parts.append(
                f'[accounts.{name}]\nvenue = "bybit"\nhost = "http://127.0.0.1:{self.exchange}"\n'
                f'key_env = "KEY_{name.upper()}"\nsecret_env = "LOCAL_SECRET"\n[accounts.{name}.limits]\n{LIMITS}'
            )
        for name, accounts in self.shards.items():
            parts.append(
                f'[[shards]]\nname = "{name}"\naccounts = {json.dumps(accounts)}\n'
                f"prefer = {json.dumps(self._prefer.get(name, ()))}"
            )
        return "\n".join([*parts, '[[sources]]\nkind = "http"', self._more]) + "\n"


def first_line(process: "subprocess.Popen[str]") -> dict[str, Any]:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], PATIENCE_SECONDS)
    line = process.stdout.readline() if ready else ""
    assert line, "nothing was said"
    return dict(json.loads(line))


def until(found: Callable[[], T | None], seconds: float = PATIENCE_SECONDS, why: Callable[[], str] = str) -> T:
    """What is found, once it is; AssertionError after so many seconds."""
    end = time.monotonic() + seconds
    while True:
        if result := found():
            return result
        assert time.monotonic() < end, why()
        time.sleep(0.02)
