"""What does a durable intent cost on PostgreSQL, against one bare commit on the same server in the same run?

A signal, its verdict and its order's intent, as the engine makes them, are appended and waited for: one commit, with
every table and the lease. The floor is one row of as many bytes, inserted and committed by a blocking client with the
same durability. The two take turns at the same pace. Target: p99 at most 2x the floor's. Without --url a server is
started for the measurement and thrown away; its data are on the disk of --folder.
"""

import argparse
import gc
import os
import sys
import tempfile
import time
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Literal

import psycopg
import trio
from msgspec import Struct
from psycopg import sql

from bench.feed import pace
from bench.figures import HEADING, Figures, Ratio, figures, line, ratio, ratio_line
from bench.market import ACCOUNT, CASH, ENV, PRICE, TICK, instruments, limits
from bench.past import plain_signal
from bench.postgres import ENVIRONMENT, binaries, throwaway
from engine.core.admission import AccountTerms, Admission
from engine.core.blotter import Blotter, Terms
from engine.core.messages import AnyFact, BalanceReport, BalancesSeen, Position, Quote, Row
from engine.core.times import SECOND
from engine.runtime.clock import live_clock
from engine.runtime.journal.postgres import PostgresJournal, PostgresTerms
from engine.runtime.journal.server import Address, address
from engine.runtime.journal.tables import encode

TARGET = 2.0
WARM_UP = 50


class Options(Struct, frozen=True):
    rate: float = 200.0
    seconds: float = 10.0
    durability: Literal["power", "process"] = "power"
    rounds: int = 4
    folder: str = "var"
    url: str = ""
    password_env: str = ""


class Report(Struct, frozen=True):
    """Durations in microseconds."""

    terms: Options
    server: str
    commit_bytes: int
    statements: int
    intent: Figures
    bare: Figures
    over_bare: Ratio | None
    cpu_us: float  # of this process, per intent


def add_options(parser: argparse.ArgumentParser) -> None:
    plain = Options()
    parser.add_argument("--rate", type=float, default=plain.rate, help="commits per second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=plain.seconds, help="of each of the two (%(default)s)")
    parser.add_argument("--durability", choices=("power", "process"), default=plain.durability)
    parser.add_argument("--rounds", type=int, default=plain.rounds, help="turns of the two")
    parser.add_argument("--folder", default=plain.folder, help="where a server of our own keeps its data (%(default)s)")
    parser.add_argument("--url", default="", help="a server that is there: postgresql://user@host:port/database")
    parser.add_argument("--password-env", default="", help="the environment variable that holds its password")


def measure(arguments: argparse.Namespace) -> Report:
    return run(Options(**{field: getattr(arguments, field) for field in Options.__struct_fields__}))


def run(options: Options) -> Report:
    with ExitStack() as stack:
        folder = Path(options.folder)
        folder.mkdir(parents=True, exist_ok=True)
        schema = f"bench_{os.getpid()}"
        if options.url:
            at = address(options.url, schema, os.environ, options.password_env)
        else:
            found = binaries()
            if found is None:
                raise SystemExit("no PostgreSQL server is installed here; name one by --url")
            server = stack.enter_context(throwaway(found, _open_folder(stack, folder)))
            at = address(server.url, schema, ENVIRONMENT, "SUREFIRE_TEST_PASSWORD")
        lock = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "engine.lock"
        return trio.run(_measure, options, at, lock)


def _open_folder(stack: ExitStack, folder: Path) -> Path:
    """A folder on the disk that is meant, into which the server's user may go."""
    name = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=folder.absolute(), prefix="bench-")))
    name.chmod(0o755)
    return name


async def _measure(options: Options, at: Address, lock: Path) -> Report:
    journal = PostgresJournal(at, PostgresTerms(options.durability, (ACCOUNT,)), live_clock(), lock)
    await journal.open()
    floor = _Floor(at, options.durability)
    try:
        return await _turns(options, at, journal, floor)
    finally:
        await journal.close()
        floor.close()


async def _turns(options: Options, at: Address, journal: PostgresJournal, floor: "_Floor") -> Report:
    orders = _Orders()
    durations: list[int] = []
    rounds = max(1, options.rounds)
    count = max(1, round(options.rate * options.seconds / rounds))
    sys.setswitchinterval(0.00005)
    size = await _intents(options.rate, WARM_UP, journal, orders, [])
    pace(options.rate, WARM_UP, lambda number: floor.commit(size))
    floor.durations.clear()
    gc.collect()
    gc.freeze()
    cpu_ns = 0
    for _ in range(rounds):
        pace(options.rate, count, lambda number: floor.commit(size))
        began = time.process_time_ns()
        await _intents(options.rate, count, journal, orders, durations)
        cpu_ns += time.process_time_ns() - began
    intent, bare = figures(durations), figures(floor.durations)
    cpu_us = round(cpu_ns / len(durations) / 1000, 1)
    return Report(options, at.where, size, orders.statements, intent, bare, ratio(intent, bare), cpu_us)


async def _intents(rate: float, count: int, journal: PostgresJournal, orders: "_Orders", durations: list[int]) -> int:
    """Paced; bytes of the last one."""
    began, size = trio.current_time() + 0.005, 0
    for number in range(count):
        intent = orders.make()
        await trio.sleep_until(began + number / rate)
        at = time.perf_counter_ns()
        seq = 0
        for facts, rows in intent:
            seq = journal.append(facts, rows)
        await journal.durable(seq, eager=True)
        durations.append(time.perf_counter_ns() - at)
        size = sum(len(encode(fact)) + 32 for facts, _ in intent for fact in facts)
        size += sum(len(encode(row)) for row in intent[-1][1])
    return size


class _Orders:
    """Signals that the gate lets through, each with its order's intent."""

    def __init__(self) -> None:
        (listed,) = instruments(1)
        self._symbol = listed.symbol
        self._instrument = listed
        self._number = 0
        self.statements = 0
        self._admission = Admission(ENV, {ACCOUNT: AccountTerms(ACCOUNT, "paper")}, lambda account, symbol: listed)
        now = time.time_ns()
        self._admission.set_limits(ACCOUNT, limits(), "config", now)
        seen = BalancesSeen(ACCOUNT, (BalanceReport("USDT", CASH),), now)
        self._admission.handle_balances(seen, lambda symbol: None, now)

    def make(self) -> list[tuple[tuple[AnyFact, ...], tuple[Row, ...]]]:
        now = time.time_ns()
        self._number += 1
        quote = Quote(self._symbol, PRICE - TICK, PRICE + TICK, PRICE, PRICE, now)
        signal = plain_signal(self._number, self._symbol, now)
        admitted = self._admission.handle_signal(signal, None, quote, None, (), now)
        assert admitted.enact is not None, admitted.row.checks
        terms = Terms(ENV, 5 * SECOND, 30 * SECOND, 30 * SECOND, Decimal("0.01"))
        blotter = Blotter(terms, self._instrument, Position(account=ACCOUNT, symbol=self._symbol))
        step = blotter.handle((admitted.enact,), now)
        self.statements = len(admitted.facts) + len(admitted.rows) + len(step.facts) + len(step.rows)
        return [(admitted.facts, admitted.rows), (step.facts, step.rows)]


class _Floor:
    """One row in one transaction, by psycopg's own blocking connection and prepared statement."""

    def __init__(self, at: Address, durability: str) -> None:
        self._connection = psycopg.connect(at.conninfo, autocommit=True)
        self._connection.execute(
            sql.SQL("SET synchronous_commit = {}").format("on" if durability == "power" else "off")
        )
        schema = sql.Identifier(at.schema)
        self._connection.execute(sql.SQL("CREATE TABLE {}.floor (bytes BYTEA NOT NULL)").format(schema))
        self._insert = sql.SQL("INSERT INTO {}.floor VALUES (%b)").format(schema)
        self.durations: list[int] = []

    def commit(self, size: int) -> None:
        blob = os.urandom(size // 2).hex().encode()  # as compressible as text is not: the server does not squeeze it
        began = time.perf_counter_ns()
        self._connection.execute(self._insert, (blob,), prepare=True)
        self.durations.append(time.perf_counter_ns() - began)

    def close(self) -> None:
        self._connection.close()


def lines(report: Report) -> list[str]:
    terms = report.terms
    told = [
        f"{terms.rate:g} commits/s, durability {terms.durability}, {report.commit_bytes} bytes,"
        f" {report.statements} facts and rows each; {report.server}",
        HEADING,
        line("appended -> durable", report.intent),
        line("floor: bare commit", report.bare),
        ratio_line("durable intent / bare commit", report.over_bare),
        f"{report.cpu_us:g} us of CPU per intent, its making included",
    ]
    if report.over_bare is not None:
        kept = "kept" if report.over_bare.p99 <= TARGET else "MISSED"
        told.append(f"target: p99 within {TARGET:g}x: {kept}")
    return told
