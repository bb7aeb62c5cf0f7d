"""How long after its start does an engine with a long past let entries through?

A journal of that many past signals is written by the real journal code (see `past`), then the engine is started on it
as a process, with its venue over the link. Told are the seconds from the start of the engine itself, and those from the
start of the process, which has Python and the libraries to load as well. Target: 100,000 signals, under 2 s.
"""

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import trio
from msgspec import Struct

from bench import past
from bench.stage import stage

JOURNAL = "journal.sqlite"


class Report(Struct, frozen=True):
    signals: int
    facts: int
    journal_mib: float
    writing_seconds: float
    ready_seconds: tuple[float, ...]  # of each start: from the engine's start
    process_seconds: tuple[float, ...]  # from the process's start
    complete: bool


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--signals", type=int, default=100_000)
    parser.add_argument("--symbols", type=int, default=20)
    parser.add_argument("--starts", type=int, default=3)
    parser.add_argument("--durability", choices=("power", "process"), default="power")
    parser.add_argument("--folder", default="var")


def measure(arguments: argparse.Namespace) -> Report:
    Path(arguments.folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="bench-") as name:
        folder = Path(name).absolute()
        began = time.monotonic()
        written = trio.run(past.write, folder / JOURNAL, arguments.signals, arguments.symbols)
        writing = time.monotonic() - began
        size = (folder / JOURNAL).stat().st_size
        ready, whole, rested = [], [], True
        for _ in range(arguments.starts):
            with stage(folder, arguments.durability, arguments.symbols) as running:
                whole.append(running.process_seconds)
                engine, _ = running.end()
                ready.append(engine.ready_ns / 1e9)
                rested = rested and engine.rested and not engine.alerts
        return Report(
            signals=written.signals,
            facts=written.facts,
            journal_mib=round(size / 2**20, 1),
            writing_seconds=round(writing, 1),
            ready_seconds=tuple(round(seconds, 3) for seconds in ready),
            process_seconds=tuple(round(seconds, 3) for seconds in whole),
            complete=rested,
        )


def lines(report: Report) -> list[str]:
    return [
        f"{report.signals} past signals, {report.facts} facts, {report.journal_mib:g} MiB"
        f" (written in {report.writing_seconds:g} s)",
        f"entry-ready {statistics.median(report.ready_seconds):g} s after the engine's start"
        f" ({', '.join(f'{s:g}' for s in report.ready_seconds)}),"
        f" {statistics.median(report.process_seconds):g} s after the process's",
        *([] if report.complete else ["INCOMPLETE: a start ended in unrest or with an alert"]),
    ]
