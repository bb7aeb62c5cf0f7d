"""Engine and venue as processes of their own, started for one measurement and ended with it."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import apsw
import msgspec

from bench.engine_process import EngineResult, EngineTask
from bench.least_process import LeastResult, LeastTask, Sample
from bench.venue_process import VenueResult, VenueTask

ROOT = Path(__file__).resolve().parent.parent
END_SECONDS = 60.0


class StageFailed(Exception):
    """A process ended before its time."""


class Stage:
    """`send` writes one signal into the engine's standard input and blocks while the engine reads nothing.

    `send_least` the same for the least process, once that has begun.
    """

    def __init__(
        self,
        folder: Path,
        durability: Literal["power", "process"],
        symbols: int,
        profile: str = "",
    ) -> None:
        self.folder = folder
        self._durability = durability
        self._least: subprocess.Popen[bytes] | None = None
        self._least_result = folder / "least.json"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._venue_result, self._engine_result = folder / "venue.json", folder / "engine.json"
        try:
            self._begin(durability, symbols, profile)
        except BaseException:  # raised again: an interrupt, too, must leave no process behind
            self.kill()
            raise

    def _begin(self, durability: Literal["power", "process"], symbols: int, profile: str) -> None:
        self._venue = self._start("bench.venue_process", VenueTask(symbols, str(self._venue_result)))
        port, self.echo_port = (int(word) for word in _first_line(self._venue).split())
        task = EngineTask(str(self.folder), durability, port, str(self._engine_result), profile)
        began = time.monotonic()
        self._engine = self._start("bench.engine_process", task)
        if _first_line(self._engine) != "ready":
            raise StageFailed("the engine did not start")
        self.process_seconds = time.monotonic() - began  # from the start of the engine's process to entry-ready
        assert self._engine.stdin is not None
        self.send = self._engine.stdin.write

    def begin_least(self, sample: Sample) -> None:
        task = LeastTask(str(self.folder), self._durability, self.echo_port, sample, str(self._least_result))
        self._least = self._start("bench.least_process", task)
        if _first_line(self._least) != "ready":
            raise StageFailed("the least process did not start")
        assert self._least.stdin is not None
        self.send_least = self._least.stdin.write

    def end_least(self) -> LeastResult:
        assert self._least is not None, "it has not begun"
        self._end(self._least)
        return msgspec.json.decode(self._least_result.read_bytes(), type=LeastResult)

    def end(self) -> tuple[EngineResult, VenueResult]:
        """No more signals; wait until all has come to rest."""
        for process in (self._engine, self._venue):
            self._end(process)
        return (
            msgspec.json.decode(self._engine_result.read_bytes(), type=EngineResult),
            msgspec.json.decode(self._venue_result.read_bytes(), type=VenueResult),
        )

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        process.communicate(timeout=END_SECONDS)
        if process.returncode:
            raise StageFailed(f"a process ended with {process.returncode}: {process.args!r}")

    def _start(self, module: str, task: msgspec.Struct) -> subprocess.Popen[bytes]:
        path = self.folder / f"{module}.task"
        path.write_bytes(msgspec.json.encode(task))
        command = [sys.executable, "-m", module, str(path)]
        process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
        self._processes.append(process)
        return process

    def kill(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
                process.wait()


@contextmanager
def stage(folder: Path, durability: Literal["power", "process"], symbols: int, profile: str = "") -> Iterator[Stage]:
    running = Stage(folder, durability, symbols, profile)
    try:
        yield running
    finally:
        running.kill()


def durable_bytes(journal: Path, signal_id: str) -> int:
    """What the commit before the wire holds of one signal: facts up to the intent, their hashes, the order's row.

    0 when the signal has not got so far.
    """
    database = apsw.Connection(str(journal), flags=apsw.SQLITE_OPEN_READONLY)
    facts = database.execute(
        "SELECT sum(length(fact) + length(hash)) FROM journal"
        " WHERE kind IN ('SignalReceived', 'Judged', 'Submitted') AND trace_id ="
        " (SELECT trace_id FROM journal WHERE kind = 'SignalReceived' AND instr(CAST(fact AS TEXT), ?))",
        (f'"{signal_id}"',),
    ).get
    row = database.execute("SELECT sum(length(row)) FROM orders WHERE signal_id = ?", (signal_id,)).get
    database.close()
    return int(facts + row) if facts and row else 0


def _first_line(process: subprocess.Popen[bytes]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline().decode().strip()
    if not line:
        raise StageFailed(f"a process ended at its start with {process.wait()}")
    return line
