"""One client in a process of its own: client order ids on standard input, an order submitted for each at once.

It notes when it called its client and when that had the answer, on the clock that all processes share.
"""

import asyncio
import gc
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import trio

from bench.submitters import WAYS, Submit
from engine.core.money import use_exact_context

REST_SECONDS = 10.0  # for answers that are still to come when the input has ended


class PeerTask(msgspec.Struct, frozen=True):
    face: str
    way: str
    port: int
    result: str  # file for `PeerResult`


class PeerResult(msgspec.Struct, frozen=True):
    """Monotonic ns by client order id. `refused`: the exchange, or the library, did not say yes."""

    called: dict[str, int]
    answered: dict[str, int]
    refused: tuple[str, ...]
    cpu_ns: int  # of the whole process, from ready on


class Notes:
    def __init__(self) -> None:
        self.called: dict[str, int] = {}
        self.answered: dict[str, int] = {}
        self.refused: list[str] = []
        self._cpu_ns = 0

    def ready(self) -> None:
        """What start-up made is not looked through again, for every client alike."""
        gc.collect()
        gc.freeze()
        self._cpu_ns = time.process_time_ns()
        print("ready", flush=True)

    def call(self, cid: str) -> None:
        self.called[cid] = time.monotonic_ns()

    def answer(self, cid: str, yes: bool) -> None:
        self.answered[cid] = time.monotonic_ns()
        if not yes:
            self.refused.append(cid)

    def complete(self) -> bool:
        return len(self.answered) == len(self.called)

    def result(self) -> PeerResult:
        spent = time.process_time_ns() - self._cpu_ns
        return PeerResult(self.called, self.answered, tuple(self.refused), spent)


class Lines:
    """Bytes to client order ids."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[str]:
        *lines, self._rest = (self._rest + piece).split(b"\n")
        return [line.decode() for line in lines]


async def by_trio(task: PeerTask, notes: Notes) -> None:
    opened = WAYS[task.face][task.way].trio
    assert opened is not None
    lines = Lines()

    async def one(submit: Submit, cid: str) -> None:
        notes.call(cid)
        notes.answer(cid, await submit(cid))

    async with opened(task.face, task.port) as submit, trio.open_nursery() as nursery:
        notes.ready()
        async for piece in trio.lowlevel.FdStream(os.dup(0)):
            for cid in lines.feed(bytes(piece)):
                nursery.start_soon(one, submit, cid)
        nursery.cancel_scope.deadline = trio.current_time() + REST_SECONDS


async def by_asyncio(task: PeerTask, notes: Notes) -> None:
    opened = WAYS[task.face][task.way].asyncio
    assert opened is not None
    lines, tasks, ended = Lines(), set[asyncio.Task[None]](), asyncio.Event()

    async def one(submit: Submit, cid: str) -> None:
        notes.call(cid)
        notes.answer(cid, await submit(cid))

    async with opened(task.face, task.port) as submit:

        class Feed(asyncio.Protocol):
            def data_received(self, data: bytes) -> None:
                for cid in lines.feed(data):
                    tasks.add(asyncio.get_running_loop().create_task(one(submit, cid)))

            def connection_lost(self, exc: Exception | None) -> None:
                ended.set()

        notes.ready()
        await asyncio.get_running_loop().connect_read_pipe(Feed, sys.stdin)
        await ended.wait()
        await asyncio.wait(tasks, timeout=REST_SECONDS)
        for done in tasks:
            if done.done() and (error := done.exception()) is not None:
                print(f"{task.way}: {type(error).__name__}: {error}", file=sys.stderr)
                break


def blocking(task: PeerTask, notes: Notes) -> None:
    opened = WAYS[task.face][task.way].blocking
    assert opened is not None
    lines = Lines()
    with opened(task.face, task.port, notes.answer) as submit:
        notes.ready()
        while piece := os.read(0, 65_536):
            for cid in lines.feed(piece):
                notes.call(cid)
                submit(cid)
        until = time.monotonic() + REST_SECONDS
        while not notes.complete() and time.monotonic() < until:
            time.sleep(0.01)


def main(task: PeerTask) -> None:
    use_exact_context()
    notes, way = Notes(), WAYS[task.face][task.way]
    run: Callable[[], object] = lambda: blocking(task, notes)  # noqa: E731
    if way.trio is not None:
        run = lambda: trio.run(by_trio, task, notes)  # noqa: E731
    elif way.asyncio is not None:
        run = lambda: asyncio.run(by_asyncio(task, notes))  # noqa: E731
    run()
    Path(task.result).write_bytes(msgspec.json.encode(notes.result()))
    sys.stdout.flush()
    os._exit(0)  # some libraries' threads never end by themselves


if __name__ == "__main__":
    main(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=PeerTask))
