"""An engine process under observation: `run.main` as it is, with a witness, and perhaps a place where it dies.

The witness writes what left the process, and what was durable, at the moment it happened: one line each, by one write,
so that a kill loses nothing that was written. It shares no code with the engine's own records.
"""

import os
import resource
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw
import msgspec
from msgspec import Struct

import actors.assembly
import engine.web.serve  # (imported here, so that a process forked from this one need not)
import run
from engine.core.messages import Order, Rejection
from engine.runtime.journal.group import Group
from tests.crash.bomb import around
from tests.crash.points import Disk, install
from tests.crash.wires import VENUES, hasten
from tests.engine_toml import LOCAL_KEYS
from tests.patience import PATIENCE_SECONDS
from tests.sim.truth import AnyEntry, CancelWired, Declined, Synced, Wired

PRELOADED = (actors.assembly, engine.web.serve)
_encode = msgspec.json.Encoder().encode


class Launch(Struct, frozen=True):
    """One life of the engine. `point` and `nth` say where it kills itself; "" nowhere."""

    life: int
    arguments: tuple[str, ...]
    folder: str
    point: str = ""
    nth: int = 1
    by: int = signal.SIGKILL  # or SIGSTOP
    file_bytes_max: int = 0  # RLIMIT_FSIZE; 0: none
    mutant: str = ""  # a seeded bug of tests.sim.mutants
    sync_seconds: float = 0.0  # what each sync of the journal's log takes longer, where the place to die is no disk's
    broken_disk: str = ""  # a file: while it exists, what is named in it ("sync", "write") fails on the journal
    venue: str = "paper"  # or a face of the local exchange
    environment: tuple[tuple[str, str], ...] = ()
    on_a_server: bool = False  # the journal is


def launch(task: Launch) -> None:
    """Does not return: the process ends with the engine's exit code."""
    os.chdir(task.folder)
    os.environ.update(task.environment)
    for number, name in ((1, "out"), (2, "log")):
        os.dup2(os.open(f"life-{task.life}.{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640), number)
    os.environ |= LOCAL_KEYS
    hasten(task.venue)
    if task.on_a_server:
        wait_for_it()
    watch(task.life, Path(task.folder) / "witness.ndjson", VENUES[task.venue])
    if task.mutant:
        _mutate(task.mutant)
    if task.sync_seconds:
        Disk(trouble=lambda what, name: _dawdle(task.sync_seconds, what, name))
    if task.point:
        install(task.point, task.nth, task.by, task.venue)
    if task.broken_disk:
        Disk(trouble=lambda what, name: _fail(Path(task.broken_disk), what, name))
    if task.file_bytes_max:
        resource.setrlimit(resource.RLIMIT_FSIZE, (task.file_bytes_max, resource.RLIM_INFINITY))
    code = run.main(task.arguments)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def watch(life: int, path: Path, venue_kind: Any) -> None:
    """From now on `path` gets every first byte of an order or a cancel, every venue's no, and every durable number."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)

    def tell(entry: AnyEntry) -> None:
        os.write(file, _encode(entry) + b"\n")

    def submitting(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def submit(venue: Any, order: Order, on_wire: Callable[[], None]) -> Any:
            def wired() -> None:
                tell(Wired(time.time_ns(), order=order, life=life))
                on_wire()

            answer = await original(venue, order, wired)
            if isinstance(answer, Rejection):
                tell(Declined(time.time_ns(), cid=order.cid, code=answer.code))
            return answer

        return submit

    def canceling(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def cancel(venue: Any, command: Any) -> Any:
            tell(CancelWired(time.time_ns(), cid=command.cid, life=life))
            return await original(venue, command)

        return cancel

    def settling(original: Callable[..., None]) -> Callable[..., None]:
        def settle(group: Group, error: Any) -> None:
            """Told before those who wait are: whatever they do then must come after it."""
            if error is None and group.failed is None and group._flying is not None and group._flying.first >= 0:
                tell(Synced(time.time_ns(), seq=group._flying.last))
            original(group, error)

        return settle

    around(venue_kind, "submit", submitting)
    around(venue_kind, "cancel", canceling)
    around(Group, "_settle", settling)


def wait_for_it() -> None:
    """A commit takes long on a loaded machine; here no server is out of reach, and what protects need not go first."""
    from engine.runtime.journal import postgres  # takes long, and few lives have it

    postgres.PROTECTION_SECONDS = PATIENCE_SECONDS


def _mutate(name: str) -> None:
    from tests.sim.mutants import MUTANTS

    patch = next(mutant for mutant in MUTANTS if mutant.name == name).patch()
    patch.__enter__()
    _KEPT.append(patch)  # one that nobody holds takes itself back


_KEPT: list[object] = []


def _dawdle(seconds: float, what: str, name: str) -> None:
    if what == "sync" and name.endswith("-wal"):
        time.sleep(seconds)


def _fail(switch: Path, what: str, name: str) -> None:
    if ("journal.sqlite" in name) and switch.exists() and what in switch.read_text():
        raise apsw.IOError("the test's disk does not answer")


if __name__ == "__main__":
    launch(msgspec.json.decode(sys.argv[1], type=Launch))
