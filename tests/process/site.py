"""Real processes on loopback: a venue that keeps the truth, and an engine that may be killed and started again."""

import json
import os
import select
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import trio

from engine.core.ids import is_ours
from engine.core.messages import Failed, Filled, FillReport, Leg, OrderType, Submitted
from engine.runtime.clock import live_clock
from engine.runtime.config import load
from engine.runtime.journal.choice import reader_of
from engine.runtime.journal.reading import SqlReader
from engine.venues.link import LinkVenue
from engine.venues.paper import Truth
from tests.engine_toml import Words, engine_toml, link
from tests.patience import PATIENCE_SECONDS
from tests.postgres import ENVIRONMENT

ROOT = Path(__file__).resolve().parent.parent.parent
BASE = "/api/execution"
VENUE = """
[market]
kind = "synthetic"
seed = 5
[accounts.main.limits]
[accounts.main.paper]
balances = { USDT = 100000 }
leverage = 10
latency_ms = [0.5, 2.0]
"""
LIMITS: Words = {
    "leverage_max": 10,
    "duplicate_window_seconds": 0,
    "orders_per_second": 1000,
    "orders_per_minute": 10_000,
    "losses_in_row_max": 1000,
    "order_notional_min": 5,
    "quote_age_max_seconds": 60,  # a loaded machine hears of the market late
}


def held_back(confirmation: dict[str, Any]) -> bool:
    """Whether an opener ended as doubt may end it: proven never to have come to the venue, or not sent beside such.

    A kill leaves in doubt whatever was on its way, however much that was; what is proven absent gets no new attempt.
    """
    outcome, reason = confirmation["outcome"], confirmation["reason"]
    beside = reason.startswith("P4.unclear") or "came to be in doubt" in reason
    return outcome == "absent" or (outcome in ("refused", "failed") and beside)


class Site:
    """A folder, a venue process, and engine processes after each other. As a context it leaves no process behind."""

    dust = Decimal(0)  # base quantity that no order can close, and so no stop can cover

    def __init__(self, folder: Path, more: str = "", durability: str = "power", journal: Words | None = None) -> None:
        """`journal`: what its section says beside the durability."""
        self.folder = folder
        self._more, self._durability, self._journal = more, durability, journal
        self.config = folder / "engine.toml"
        self.processes: list[subprocess.Popen[str]] = []
        self.engine: subprocess.Popen[str]
        self.api = ""

    def __enter__(self) -> "Site":
        venue = self.folder / "venue.toml"
        venue.write_text(VENUE, encoding="utf-8")
        process = self.spawn("venue", "--config", str(venue), "--port", "0", "--json")
        self.port = int(self.first_line(process)["port"])
        data = self.folder / "var"
        text = engine_toml(data, *link(self.port), LIMITS, self._durability, more=self._more, journal=self._journal)
        self.config.write_text(text, encoding="utf-8")
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()

    def spawn(self, *arguments: str) -> "subprocess.Popen[str]":
        log = (self.folder / f"{arguments[0]}-{len(self.processes)}.log").open("w", encoding="utf-8")
        with log:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "run.py"), *arguments],
                cwd=self.folder,
                env={**os.environ, **ENVIRONMENT},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self.processes.append(process)
        return process

    def first_line(self, process: "subprocess.Popen[str]") -> dict[str, Any]:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE_SECONDS)
        line = process.stdout.readline() if ready else ""
        assert line, f"nothing was said; the logs: {self.logs()}"
        return dict(json.loads(line))

    def logs(self) -> str:
        return "\n".join(f"{p.name}: {p.read_text(encoding='utf-8')[-2000:]}" for p in self.folder.glob("*.log"))

    def start(self) -> None:
        """Returns when entries are possible."""
        self.engine = self.spawn("run", "--config", str(self.config), "--json")
        self.api = self.first_line(self.engine)["api"]
        self.ready()

    def ready(self) -> None:
        """Returns when entries are possible."""
        until = time.monotonic() + PATIENCE_SECONDS
        while not (health := httpx.get(f"{self.api}/health", timeout=PATIENCE_SECONDS).json())["entry_ready"]:
            assert time.monotonic() < until, health
            time.sleep(0.02)

    def kill(self) -> None:
        self.engine.send_signal(signal.SIGKILL)
        self.engine.wait()

    def end(self) -> int:
        """TERM; the exit code."""
        self.engine.send_signal(signal.SIGTERM)
        return self.engine.wait(PATIENCE_SECONDS)

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """A sub-command on the engine's config, to its end."""
        command, rest = arguments[0], list(arguments[1:])
        asks = command in ("stop", "resume", "flatten", "explain")
        port = ["--port", self.api.rsplit(":", 1)[1]] if asks else []
        return subprocess.run(
            [sys.executable, str(ROOT / "run.py"), command, *rest, "--config", str(self.config), *port],
            cwd=self.folder,
            env={**os.environ, **ENVIRONMENT},
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )

    def health(self) -> Any:
        return httpx.get(f"{self.api}/health", timeout=PATIENCE_SECONDS).json()

    def get(self, path: str) -> Any:
        answer = httpx.get(f"{self.api}{BASE}{path}", timeout=PATIENCE_SECONDS)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post(self, body: dict[str, object]) -> httpx.Response:
        return httpx.post(f"{self.api}{BASE}/order", json=body, timeout=PATIENCE_SECONDS)

    # ------------------------------------------------------------------------------------------------------ afterwards

    def truth(self) -> Truth:
        async def ask() -> Truth | Failed:
            venue = LinkVenue("127.0.0.1", self.port, live_clock(), timeout_seconds=PATIENCE_SECONDS)
            try:
                return await venue.truth()
            finally:
                venue.close()

        found = trio.run(ask)
        assert isinstance(found, Truth), found
        return found

    def rested(self) -> Truth:
        """The venue's truth once nothing is on its way any more, and nothing has come after that."""
        until = time.monotonic() + 3 * PATIENCE_SECONDS  # doubt takes its time
        before = None
        while True:
            began = time.monotonic()
            now = self.truth() if self.at_rest() else None
            # Between an exit's fill and the cancel of its stop the engine looks at rest, and is not.
            if now is not None and before is not None and (now.orders, now.executions) == before:
                return now
            before = None if now is None else (now.orders, now.executions)
            assert time.monotonic() < until, self.get("/orders?live=true")
            time.sleep(max(0.3, 3 * (time.monotonic() - began)))  # where looking takes long, so does all else

    def at_rest(self) -> bool:
        """Every accepted signal has its end, and what lives is a stop or a target that stands."""
        orders = self.get("/orders?live=true")["orders"]
        moving = [o for o in orders if o["state"] != "open" or o["leg"] not in ("stop", "target")]
        return not moving and not any(s["outcome"] == "accepted" for s in self.get("/signals?limit=500")["signals"])

    def events(self) -> list[dict[str, Any]]:
        """As a consumer sees them that drops repeats."""
        lines = (self.folder / "var" / "events.ndjson").read_text(encoding="utf-8").splitlines()
        return list({event["event_id"]: event for event in map(json.loads, lines)}.values())

    def reader(self) -> SqlReader:
        """Of the engine's journal, wherever its config has it."""
        return reader_of(load(self.config), {**os.environ, **ENVIRONMENT})

    def differences(self, truth: Truth) -> list[str]:
        """Where the journal and the venue's truth differ, and promises that are broken."""
        reader = self.reader()
        try:
            return differences(reader, truth, self.dust)
        finally:
            reader.close()


def differences(reader: SqlReader, truth: Truth, dust: Decimal = Decimal(0), account: str | None = None) -> list[str]:
    """Of one account, or of a journal that has only one."""
    facts = [record.fact for record in reader.records(0, 1_000_000)]
    facts = [fact for fact in facts if account in (None, fact.account)]
    positions = {p.symbol: p.qty for p in reader.positions(account) if p.qty}
    live = {o.cid for o in reader.orders(account, None, True, 10_000)}
    found = []
    booked = sorted(f.exec_id for f in facts if isinstance(f, Filled))
    executed = sorted(e.exec_id for e in truth.executions if isinstance(e, FillReport))
    if booked != executed:
        found.append(f"executions: {len(booked)} booked, {len(executed)} at the venue")
    theirs = {p.symbol: p.qty for p in truth.positions if p.qty}
    if positions != theirs:
        found.append(f"positions: {positions} ours, {theirs} the venue's")
    there = {o.cid for o in truth.orders if o.status == "open" and is_ours(o.cid)}
    if live != there:
        found.append(f"live orders: {live - there} only ours, {there - live} only the venue's")
    intents = {f.order.cid: f.order for f in facts if isinstance(f, Submitted)}
    sent = [o.cid for o in truth.orders]
    if orphans := [cid for cid in sent if cid not in intents]:
        found.append(f"orders without a durable intent: {orphans}")
    if len(sent) != len(set(sent)):
        found.append("a client order id stands twice at the venue")
    entries = [intents[cid].signal_id for cid in sent if cid in intents and intents[cid].leg is Leg.ENTRY]
    if len(entries) != len(set(entries)):
        found.append("a signal has two entries at the venue")
    for symbol, qty in theirs.items():
        cover = sum(
            (
                o.qty - o.filled_qty
                for o in truth.orders
                if (o.symbol, o.status, o.order_type) == (symbol, "open", OrderType.STOP_MARKET)
            ),
            Decimal(0),
        )
        if abs(qty) - cover > dust:
            found.append(f"{symbol}: {qty} held, stops for {cover}")
    return found
