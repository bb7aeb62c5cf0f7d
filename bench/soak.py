"""Does anything grow while the engine runs on and on, with a venue that misbehaves all the time?

Real processes as a user starts them: `run.py venue` with faults switched on and its streams dropped now and then,
`run.py run`, and signals over HTTP at a steady rate. Sampled every few seconds from outside: resident memory, tasks,
threads, file descriptors, queues, the journal. Flat: after the warm-up (a third of the time) memory grows by less than
1 % a minute; tasks, threads, descriptors and queues end where they began; and a signal costs the journal as many facts
and bytes as before. What is not flat is named, and the exit code is 1.

What fills up first: SQLite's page cache (16 MB, at 25 signals a second after 80 s), the last minute's orders of the
rate limits, and the executions of the last ten minutes, by which a repeated one is told (300 bytes each: at 25 signals
a second 0.4 MB a minute, for ten minutes). So a high rate is flat in a long soak only.
"""

import argparse
import http.client
import json
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any, TypeVar

import trio
from msgspec import Struct

from engine.core.messages import Failed
from engine.runtime.clock import live_clock
from engine.venues.link import LinkVenue
from engine.venues.paper import Faults

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent
BASE = "/api/execution"
CONNECTIONS = 4
READY_SECONDS = 60.0
REST_SECONDS = 180.0  # the longest doubt
ASK_SECONDS = 60.0
DROP_EVERY_SECONDS = 20.0
MEMORY_PERCENT_MAX = 1.0  # a minute
# Tasks and the like that may be more at the end than at the beginning: retries, streams and clients come and go.
SPARE = {"tasks": 16, "threads": 4, "descriptors": 8, "queued": 16, "outbox": 500}
COST_SPARE = 1.25  # a signal's cost to the journal depends on how many the venue's faults had refused
FAULTS = Faults(
    lost_request=0.002,
    lost_reply=0.002,
    unavailable=0.01,
    rate_limited=0.005,
    slow=0.01,
    slow_ms=300.0,
    query_fails=0.02,
    repeated_reports=0.05,
    dropped_reports=0.01,
)
VENUE = """
[market]
kind = "synthetic"
seed = 3
[accounts.main.limits]
[accounts.main.paper]
balances = { USDT = 10000000 }
leverage = 10
"""
ENGINE = """
[engine]
data_dir = "%(folder)s/var"
[journal]
durability = "%(durability)s"
[api]
port = 0
[log]
level = "error"
[breakers]
loop_stall_ms = 60000
commit_stall_ms = 60000
rejects_symbol_max = 1000000
rejects_account_max = 1000000
[market]
kind = "link"
port = %(port)d
[accounts.main]
venue = "link"
port = %(port)d
orders_per_second = 500
[accounts.main.limits]
order_btc_max = 100
position_notional_max = 5000
exposure_max = 100000000
daily_volume_btc_max = 100000000
orders_per_second = 100000
orders_per_minute = 1000000
orders_per_day = 100000000
duplicate_window_seconds = 0
daily_loss_max = 5000000
drawdown_max = 0.9
losses_in_row_max = 100000000
leverage_max = 10
[[sources]]
kind = "http"
"""


class Sample(Struct, frozen=True):
    """The engine's process as seen from outside, `at` seconds after the first signal."""

    at: float
    rss_kib: int
    tasks: int
    threads: int
    descriptors: int
    queued: int  # messages in all mailboxes
    outbox: int  # events not yet published
    facts: int
    journal_bytes: int  # committed, in the file or its log
    signals: int  # answered so far


class Report(Struct, frozen=True):
    minutes: float
    signals: int
    answers: dict[str, int]
    endings: dict[str, int]  # outcomes of the confirmations that were published
    samples: tuple[Sample, ...]
    memory_percent_a_minute: float
    rss_mib: tuple[float, float]  # at the end of the warm-up, at the end
    most: dict[str, tuple[int, int]]  # of tasks and the like: in the first and in the last quarter after the warm-up
    a_signal: dict[str, tuple[float, float]]  # facts and bytes of the journal: in the first and in the second half
    wal_mib_max: float
    rested: bool  # afterwards everything came to rest, and it ended by TERM with 0
    sound: bool  # and `audit verify` found nothing
    grown: tuple[str, ...]  # what is not flat

    @property
    def complete(self) -> bool:
        return self.rested and self.sound and not self.grown


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--rate", type=float, default=25.0, help="signals a second")
    parser.add_argument("--every", type=float, default=5.0, help="seconds between samples")
    parser.add_argument("--durability", choices=("power", "process"), default="power")
    parser.add_argument("--folder", default="var")


def measure(arguments: argparse.Namespace) -> Report:
    Path(arguments.folder).mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=arguments.folder, prefix="soak-") as name,
        _processes(Path(name).absolute(), arguments.durability) as soak,
    ):
        return soak.run(arguments.minutes, arguments.rate, arguments.every)


def lines(report: Report) -> list[str]:
    first, last = report.rss_mib

    return [
        f"{report.signals} signals in {report.minutes:.1f} min; answers {report.answers}; endings {report.endings}",
        f"{'memory':24}{first:>10.1f} -> {last:<10.1f} MiB, {report.memory_percent_a_minute:+.2f} % a minute",
        *(
            f"{name:24}{before:>10} -> {after:<10} the most in the first and in the last quarter"
            for name, (before, after) in report.most.items()
        ),
        *(
            f"{f'{name} a signal':24}{before:>10.1f} -> {after:<10.1f} in the first and in the second half"
            for name, (before, after) in report.a_signal.items()
        ),
        f"the write-ahead log was at most {report.wal_mib_max:.1f} MiB",
        f"came to rest: {report.rested}; audit sound: {report.sound}; "
        + (f"NOT flat: {', '.join(report.grown)}" if report.grown else "flat: True"),
    ]


@contextmanager
def _processes(folder: Path, durability: str) -> Iterator["Soak"]:
    started: list[subprocess.Popen[str]] = []

    def start(*arguments: str) -> tuple["subprocess.Popen[str]", dict[str, Any]]:
        with (folder / f"{arguments[0]}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "run.py"), *arguments, "--json"],
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        started.append(process)
        assert process.stdout is not None
        return process, json.loads(process.stdout.readline())

    try:
        (folder / "venue.toml").write_text(VENUE)
        _, said = start("venue", "--config", "venue.toml", "--port", "0")
        words = {"folder": folder, "port": said["port"], "durability": durability}
        (folder / "engine.toml").write_text(ENGINE % words)
        engine, api = start("run", "--config", "engine.toml")
        host, port = api["api"].removeprefix("http://").rsplit(":", 1)
        yield Soak(folder, engine, (host, int(port)), int(said["port"]))
    finally:
        for process in started:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


class Soak:
    """A running engine and its venue, fed and looked at."""

    def __init__(
        self, folder: Path, engine: "subprocess.Popen[str]", api: tuple[str, int], venue_port: int, seed: int = 1
    ) -> None:
        self._folder, self._engine, self._api, self._venue_port = folder, engine, api, venue_port
        self._rng = Random(seed)
        self._answers: Counter[str] = Counter()

    def run(self, minutes: float, rate: float, every: float) -> Report:
        self._wait(lambda: self._health()["entry_ready"], READY_SECONDS)
        self._tell_venue(lambda venue: venue.set_faults(FAULTS))
        count, began = max(1, round(minutes * 60 * rate)), time.monotonic()
        bodies = [self._body(number) for number in range(count)]
        threads = [
            Thread(target=self._feed, args=(bodies[n::CONNECTIONS], began + n / rate, rate / CONNECTIONS))
            for n in range(CONNECTIONS)
        ]
        for thread in threads:
            thread.start()
        samples, wal, dropped = [self._sample(began)], 0, began
        while any(thread.is_alive() for thread in threads):
            time.sleep(every)
            samples.append(self._sample(began))
            wal = max(wal, _size(self._folder / "var" / "journal.sqlite-wal"))
            if time.monotonic() - dropped > DROP_EVERY_SECONDS:
                dropped = time.monotonic()
                self._tell_venue(lambda venue: venue.drop_streams())
        for thread in threads:
            thread.join()
        self._tell_venue(lambda venue: venue.set_faults(Faults()))
        rested = self._wait(self._at_rest, REST_SECONDS)
        self._engine.send_signal(signal.SIGTERM)
        rested = self._engine.wait(REST_SECONDS) == 0 and rested
        return self._report(tuple(samples), wal, rested)

    def _report(self, samples: tuple[Sample, ...], wal: int, rested: bool) -> Report:
        warm = samples[max(1, len(samples) // 3) :] or samples
        quarter = max(1, len(warm) // 4)
        most = {
            name: (
                max(getattr(s, name) for s in warm[:quarter]),
                max(getattr(s, name) for s in warm[-quarter:]),
            )
            for name in SPARE
        }
        memory = slope([(s.at / 60, s.rss_kib) for s in warm]) / warm[0].rss_kib * 100
        middle = warm[len(warm) // 2]
        a_signal = {
            name: (_each(field, warm[0], middle), _each(field, middle, warm[-1]))
            for name, field in (("facts", "facts"), ("bytes", "journal_bytes"))
        }
        audit = subprocess.run(
            [sys.executable, str(ROOT / "run.py"), "audit", "verify", "--config", "engine.toml"],
            cwd=self._folder,
            stdout=subprocess.DEVNULL,
            check=False,
        )
        return Report(
            minutes=round(samples[-1].at / 60, 2),
            signals=sum(self._answers.values()),
            answers=dict(sorted(self._answers.items())),
            endings=dict(sorted(self._endings().items())),
            samples=samples,
            memory_percent_a_minute=round(memory, 3),
            rss_mib=(warm[0].rss_kib / 1024, warm[-1].rss_kib / 1024),
            most=most,
            a_signal=a_signal,
            wal_mib_max=wal / 2**20,
            rested=rested,
            sound=audit.returncode == 0,
            grown=grown(memory, most, a_signal),
        )

    # ------------------------------------------------------------------------------------------------------- the feed

    def _body(self, number: int) -> bytes:
        rng = self._rng
        body: dict[str, Any] = {"signal_id": f"soak-{number}", "symbol": rng.choice(("BTCUSDT", "ETHUSDT", "SOLUSDT"))}
        kind = rng.random()
        if kind < 0.1:
            body |= {"action": "close"}
        elif kind < 0.15:
            body |= {"action": "reduce", "position_share": "0.5"}
        elif kind < 0.2:
            body |= {"action": "cancel"}
        else:
            # Sides go in turns, so that positions are opened, turned and closed rather than filled up.
            side = "buy" if number % 2 else "sell"
            body |= {"action": "open", "side": side, "quote_amount": str(rng.randint(100, 400))}
        return json.dumps(body).encode()

    def _feed(self, bodies: Sequence[bytes], first: float, rate: float) -> None:
        """Each at its time, whatever became of the one before; one that is not taken is given again."""
        connection = http.client.HTTPConnection(*self._api, timeout=ASK_SECONDS)
        for number, body in enumerate(bodies):
            time.sleep(max(0.0, first + number / rate - time.monotonic()))
            status = "busy"
            while status == "busy":
                connection.request("POST", f"{BASE}/order", body, {"content-type": "application/json"})
                status = json.loads(connection.getresponse().read())["status"]
            self._answers[status] += 1
        connection.close()

    # -------------------------------------------------------------------------------------------------------- looking

    def _sample(self, began: float) -> Sample:
        process = Path(f"/proc/{self._engine.pid}")
        status = dict(line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line)
        health, dump = self._health(), self._get(f"{BASE}/dump")
        return Sample(
            at=round(time.monotonic() - began, 1),
            rss_kib=int(status["VmRSS"].split()[0]),
            tasks=dump["tasks"],
            threads=int(status["Threads"]),
            descriptors=len(os.listdir(process / "fd")),
            queued=sum(dump["channels"].values()) + dump["backlog"],
            outbox=health["journal"]["outbox_waiting"],
            facts=health["journal"]["seq"],
            journal_bytes=_committed(self._folder / "var" / "journal.sqlite"),
            signals=sum(self._answers.values()),
        )

    def _at_rest(self) -> bool:
        dump = self._get(f"{BASE}/dump")
        moving = any(standing["moving"] for standing in dump["standings"].values())
        return not moving and not dump["backlog"] and not self._health()["journal"]["outbox_waiting"]

    def _endings(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for line in (self._folder / "var" / "events.ndjson").read_bytes().splitlines():
            event = json.loads(line)
            if event["name"] == "trade_confirmations":
                found[event["outcome"]] += 1
        return found

    def _health(self) -> Any:
        return self._get("/health")

    def _get(self, path: str) -> Any:
        connection = http.client.HTTPConnection(*self._api, timeout=ASK_SECONDS)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        finally:
            connection.close()

    def _wait(self, done: Callable[[], Any], seconds: float) -> bool:
        end = time.monotonic() + seconds
        while not done():
            if time.monotonic() > end:
                return False
            time.sleep(0.05)
        return True

    def _tell_venue(self, tell: Callable[[LinkVenue], Any]) -> None:
        async def go() -> Failed | None:
            venue = LinkVenue("127.0.0.1", self._venue_port, live_clock())
            try:
                failed: Failed | None = await tell(venue)
                return failed
            finally:
                venue.close()

        failed = trio.run(go)
        assert failed is None, failed


def slope(points: Sequence[tuple[float, float]]) -> float:
    """Of the straight line through the points by least squares; 0 for fewer than two."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / spread if spread else 0.0


def grown(
    memory_percent_a_minute: float, most: dict[str, tuple[int, int]], a_signal: dict[str, tuple[float, float]]
) -> tuple[str, ...]:
    """The names of what is not flat."""
    found = ["memory"] if memory_percent_a_minute >= MEMORY_PERCENT_MAX else []
    found += [name for name, (first, last) in most.items() if last > first + SPARE[name]]
    found += [f"{name} a signal" for name, (first, last) in a_signal.items() if last > first * COST_SPARE]
    return tuple(found)


def _each(field: str, first: Sample, last: Sample) -> float:
    return round((getattr(last, field) - getattr(first, field)) / max(1, last.signals - first.signals), 2)


def _committed(path: Path) -> int:
    """How large the file will be when its log has been copied into it."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        ((pages, size),) = connection.execute("SELECT * FROM pragma_page_count, pragma_page_size")
        return int(pages) * int(size)
    finally:
        connection.close()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
