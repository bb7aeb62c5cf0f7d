"""What does an idle (account, symbol) cost, and how fast do many of them start: KiB each, and seconds for all?

A real engine with its journal on disk and the paper venue in its process; an order actor is opened for each instrument
that the venue lists, and all have come to rest. Memory is what the process has grown by. With `--traced` it is what
Python counted instead, which leaves out the allocator's own waste and makes the start slow.
Targets: under 20 KiB each, and 10,000 of them in under 5 s.
"""

import argparse
import gc
import io
import tempfile
import time
import tracemalloc
from pathlib import Path
from random import Random

import trio
from msgspec import Struct

from actors.wiring import AccountParts, Engine, Parts, run_engine
from bench.market import ACCOUNT, ENV, instruments, limits
from bench.terms import dialect_terms
from bench.venue_process import terms
from engine.core.messages import Sweep
from engine.core.tally import Tally
from engine.core.times import SECOND
from engine.runtime.clock import live_clock
from engine.runtime.journal.sqlite import SqliteJournal
from engine.runtime.log import configure
from engine.venues.paper import PaperVenue
from engine.venues.throttle import Limit, Throttle

PAGE_BYTES = 4096


class Report(Struct, frozen=True):
    symbols: int
    kib_each: float
    start_seconds: float
    traced: bool


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--symbols", type=int, default=10_000)
    parser.add_argument("--traced", action="store_true", help="count Python's allocations instead of pages")
    parser.add_argument("--folder", default="var")


def measure(arguments: argparse.Namespace) -> Report:
    Path(arguments.folder).mkdir(parents=True, exist_ok=True)
    configure(live_clock(), io.BytesIO())  # the engine's own words would stand between the figures
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="bench-") as name:
        return trio.run(_measure, Path(name), arguments.symbols, arguments.traced)


async def _measure(folder: Path, symbols: int, traced: bool) -> Report:
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        engine: Engine = await nursery.start(run_engine, _parts(folder, symbols + 1), stop)
        engine.desk.post(ACCOUNT, "S00000USDT", _nothing())  # one is there already: its code and tables are not counted
        while engine.closed(ACCOUNT):  # noqa: ASYNC110 (there is no event for it)
            await trio.sleep(0.01)
        await _settle(engine)
        if traced:
            tracemalloc.start()
        before, began = _bytes(traced), time.monotonic_ns()
        for instrument in instruments(symbols + 1)[1:]:
            engine.desk.open(ACCOUNT, instrument.symbol)
        await _settle(engine)
        took = time.monotonic_ns() - began
        grown = _bytes(traced) - before
        tracemalloc.stop()
        assert len(engine.desk.symbols(ACCOUNT)) == symbols + 1
        stop.set()
    return Report(symbols, round(grown / symbols / 1024, 2), round(took / SECOND, 3), traced)


def _parts(folder: Path, symbols: int) -> Parts:
    clock = live_clock()
    venue = PaperVenue(instruments(symbols), terms(), clock, Random(1))
    return Parts(
        env=ENV,
        clock=clock,
        journal=SqliteJournal(folder / "journal.sqlite", "process", clock),
        rng=Random(1),
        accounts=(AccountParts(ACCOUNT, "paper", venue, Throttle((Limit(1_000_000, SECOND),), clock), limits()),),
        quote=venue.quote,
        sources=(),
        sinks=(),
        dialects=dialect_terms(),
        dead_letter=lambda malformed: None,
        tally=Tally(),
    )


def _nothing() -> Sweep:
    return Sweep(at_ns=0)


async def _settle(engine: Engine) -> None:
    """Every task has run as far as it gets."""
    for _ in range(5):
        await trio.lowlevel.checkpoint()
    while not engine.quiet():
        await trio.lowlevel.checkpoint()


def _bytes(traced: bool) -> int:
    gc.collect()
    if traced:
        return tracemalloc.get_traced_memory()[0]
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_BYTES


def lines(report: Report) -> list[str]:
    how = "traced by Python" if report.traced else "growth of the process"
    return [
        f"{report.symbols} idle symbols: {report.kib_each:g} KiB each ({how}), {report.start_seconds:g} s to start all"
    ]
