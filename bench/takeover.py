"""How long after an engine was killed can another one that shares its accounts take entries for them?

Two engines on a PostgreSQL server of our own, with a local exchange that speaks Bybit's protocol; each account has a
position with its stop. The one that holds a shard is killed (kill -9), and the other is asked until an entry for that
shard is accepted. Then the dead one is started again, and the next round kills the other. Target: the lease and 5 s.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from msgspec import Struct

from bench.fleet import Engine, Fleet, until
from bench.postgres import binaries, throwaway

SHARDS = {"a": ("alice",), "b": ("bob",)}
TARGET_SECONDS = 5.0  # beyond the lease


class Report(Struct, frozen=True):
    lease_seconds: float
    kill_seconds: tuple[float, ...]  # from kill -9 to the first entry accepted elsewhere, each round
    hand_over_seconds: float  # the same from a TERM
    complete: bool


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3, help="kills (%(default)s)")
    parser.add_argument("--lease-seconds", type=float, default=5.0, help="of the leases (%(default)s)")


def measure(arguments: argparse.Namespace) -> Report:
    return run(arguments.rounds, arguments.lease_seconds)


def run(rounds: int, lease_seconds: float) -> Report:
    found = binaries()
    if found is None:
        raise SystemExit("no PostgreSQL server is installed here (Debian: apt-get install postgresql)")
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as name,
        throwaway(found) as server,
        Fleet(Path(name), server, SHARDS, lease_seconds) as fleet,
    ):
        engines = [fleet.start("one"), fleet.start("two")]
        fleet.settled(*engines)
        kills = []
        for number in range(rounds):
            dying, heir = engines
            kills.append(_taken_over(fleet, dying, heir, f"kill{number}", dying.kill))
            engines = [heir, fleet.start(dying.name)]
            fleet.settled(*engines)
        dying, heir = engines
        handed = _taken_over(fleet, dying, heir, "term", lambda: dying.send_signal(15))
        dying.process.wait()
        complete = heir.end() == 0
        return Report(lease_seconds, tuple(kills), handed, complete)


def _taken_over(fleet: Fleet, dying: Engine, heir: Engine, name: str, end: object) -> float:
    """Seconds from its end to an entry for one of its accounts at the other."""
    shard = next(iter(sorted(dying.held())))
    account = SHARDS[shard][0]
    assert dying.order(account, f"{name}-before").status_code == 202, fleet.logs()
    until(lambda: not _moving(heir, account), why=fleet.logs)
    began = time.monotonic()
    end()  # type: ignore[operator]
    until(lambda: heir.order(account, f"{name}-after", symbol="ETHUSDT").status_code == 202, why=fleet.logs)
    return round(time.monotonic() - began, 2)


def _moving(engine: Engine, account: str) -> bool:
    """Whether an order of the account is on its way: its doubt would be settled after the take-over."""
    orders = [o for o in engine.get("/orders?live=true")["orders"] if o["account"] == account]
    return not orders or any(order["leg"] == "entry" or order["state"] != "open" for order in orders)


def lines(report: Report) -> list[str]:
    kills = ", ".join(f"{seconds:g}" for seconds in report.kill_seconds)
    worst, target = max(report.kill_seconds), report.lease_seconds + TARGET_SECONDS
    return [
        f"lease {report.lease_seconds:g} s: an entry is accepted elsewhere {statistics.median(report.kill_seconds):g} s"
        f" after kill -9 ({kills})",
        f"after TERM: {report.hand_over_seconds:g} s",
        f"target: within {target:g} s of a kill: {'kept' if worst <= target else 'MISSED'}",
        *([] if report.complete else ["INCOMPLETE: an engine did not end in good order"]),
    ]
