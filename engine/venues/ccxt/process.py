"""A ccxt worker as the engine sees it: a process that answers one call at a time, and is killed when it does not.

    absent --start--> starting --Ready, markets loaded--> ready --call--> busy --answer--> ready
      ^                  |                                  |              |
      +--- its end, a line that cannot be read, a deadline, a caller that went away: SIGKILL, and made anew ---+

A call whose worker dies on the way is `Gone`; it says whether its request may have left. A call is never repeated here.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import trio
from msgspec import Struct

from engine.venues.ccxt.lines import LINE_MAX, Call, Go, Hello, Ready, Told, decode_ready, decode_told, line_of

START_SECONDS = 60.0  # import, and the list of markets, on a busy machine and a slow line
PAUSE_SECONDS = (0.2, 1.0, 2.0, 5.0, 10.0, 30.0)  # between tries to start
PIECE = 1 << 16
BURY_SECONDS = 5.0
# What the process may see of our environment: nothing that could hold a key.
ENVIRONMENT = ("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR")


class Gone(Struct, frozen=True):
    """No answer. `sent`: whether the request may have left."""

    why: str
    sent: bool


class Problem(Exception):
    """The worker says that there is no working as it is configured; the text is for a person."""


class Worker:
    """`keep` it in a task; `call` it from many, who wait for each other."""

    def __init__(
        self,
        name: str,
        hello: Callable[[], Hello],
        first: Callable[[], tuple[str, tuple[Any, ...]]],
        hear: Callable[[Told], None],
        tell: Callable[[str], None],
    ) -> None:
        """`hello` reveals the keys, when a process is started; `first` is the call that makes it ready, `hear` takes
        its answer. `tell` hears "" when it is ready, and why when it is not any more.
        """
        self.name = name
        self.why = "not started yet"
        self.problem = ""  # why starting again will not help
        self.starts = 0
        self.ready = Ready()
        self.pid = 0  # of the process that is ready
        self._hello, self._first, self._hear, self._tell = hello, first, hear, tell
        self._process: trio.Process | None = None
        self._killed: list[trio.Process] = []
        self._lines: Lines
        self._turn = trio.Lock()
        self._is_ready = False
        self._down, self._change = trio.Event(), trio.Event()
        self._number = 0

    @property
    def is_ready(self) -> bool:
        return self._is_ready

    async def keep(self) -> None:
        """For ever: start, and start again when it is gone."""
        failures = 0
        try:
            while not self.problem:
                if await self._start():
                    failures = 0
                    self._tell("")
                    await self._until_down()
                self._tell(self.problem or self.why)
                await self._bury()
                await trio.sleep(PAUSE_SECONDS[min(failures, len(PAUSE_SECONDS) - 1)])
                failures += 1
            await trio.sleep_forever()  # its problem is told to everybody who asks
        finally:
            self.kill("the engine ends")
            with trio.CancelScope(shield=True, deadline=trio.current_time() + BURY_SECONDS):
                await self._bury()

    async def call(
        self,
        method: str,
        args: tuple[Any, ...],
        timeout_seconds: float,
        on_door: Callable[[], None] | None = None,
    ) -> Told | Gone:
        """The answer in time, the wait for others and for the process included. Raises what `on_door` raises."""
        state = _State()
        with trio.move_on_after(timeout_seconds) as patience:
            await self._settled()
            async with self._turn:
                if not self.is_ready:
                    return Gone(f"the worker is gone: {self.why}", False)
                self._number += 1
                call = Call(self._number, method, args, on_door is not None)
                try:
                    return await self._exchange(call, on_door, state)
                except Lost as lost:
                    self.kill(str(lost))
                    return Gone(str(lost), state.sent)
                except BaseException:  # raised again: the deadline, or a caller that goes away
                    # The latter leaves a worker in good health: what it still says is passed over.
                    if trio.current_time() >= patience.deadline or not state.written:
                        self.kill(f"no answer to {method} in time")
                    raise
        if not state.sent and not self.is_ready:
            return Gone(f"the worker is not there: {self.problem or self.why}", False)
        return Gone("no answer in time", state.sent)

    def kill(self, why: str) -> None:
        """Whatever it was doing; `keep` makes another."""
        process, self._process = self._process, None
        if process is None:
            return
        self.why, self.pid = why, 0
        self._is_ready = False
        self._down.set()
        process.kill()
        self._killed.append(process)

    async def until_ready(self, seconds: float) -> bool:
        with trio.move_on_after(seconds):
            await self._settled()
        return self.is_ready

    async def _settled(self) -> None:
        """Returns when there is a process that is ready, or never will be."""
        while not (self.is_ready or self.problem):
            await self._change.wait()

    def _changed(self) -> None:
        self._change.set()
        self._change = trio.Event()

    # -------------------------------------------------------------------------------------------------------- inside

    async def _start(self) -> bool:
        self._down = trio.Event()
        with trio.move_on_after(START_SECONDS):
            try:
                await self._launch()
                return True
            except Problem as problem:
                self.problem = str(problem)
                self.kill(self.problem)
                self._changed()
            except Lost as lost:
                self.kill(str(lost))
                self.why = str(lost)
            return False
        self.kill(f"not ready within {START_SECONDS:g} s")
        return False

    async def _until_down(self) -> None:
        """Until it is killed, or has ended by itself while nobody asked it anything."""
        process = self._process
        if process is None:
            return
        with trio.CancelScope() as watching:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._stop_watching, watching)
                await process.wait()
                self.kill(f"its process ended with {process.returncode}")

    async def _stop_watching(self, watching: trio.CancelScope) -> None:
        await self._down.wait()
        watching.cancel()

    async def _launch(self) -> None:
        """Raises Problem, Lost."""
        command = [sys.executable, "-P", "-m", "engine.venues.ccxt.worker"]
        try:
            process = await trio.lowlevel.open_process(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment(os.environ),
                start_new_session=True,  # a terminal's Ctrl-C is for the engine, which lets it finish
            )
        except OSError as error:
            raise Lost(f"cannot be started: {error}") from error
        self._process = process
        assert process.stdin is not None and process.stdout is not None
        self._lines = Lines(process.stdin, process.stdout)
        await self._lines.send(line_of(self._hello()))
        self.ready = await self._lines.receive(decode_ready)
        if self.ready.problem:
            raise Problem(self.ready.problem)
        method, args = self._first()
        told = await self._exchange(Call(0, method, args), None, _State())
        if told.error:
            raise Lost(f"{told.error}: {told.text}")
        self._hear(told)
        self.starts += 1
        self.pid = process.pid
        self._is_ready = True
        self._changed()

    async def _exchange(self, call: Call, on_door: Callable[[], None] | None, state: "_State") -> Told:
        """Raises Lost, and what `on_door` raises, once the worker has been told not to send."""
        lines = self._lines
        await lines.send(line_of(call))
        state.sent, state.written = on_door is None, True
        while True:
            told: Told = await lines.receive(decode_told)
            if told.id < call.id:  # of one whose caller has gone, or that was told not to send
                if told.door:
                    await lines.send(line_of(Go(told.id, False)))
                continue
            if told.id > call.id or (told.door and on_door is None):
                raise Lost("an answer to another question")
            if not told.door:
                return told
            assert on_door is not None
            try:
                on_door()
            except BaseException:  # raised again: the worker waits at the door, and must hear that it is shut
                await lines.send(line_of(Go(call.id, False)))
                raise
            state.sent = True
            await lines.send(line_of(Go(call.id, True)))

    async def _bury(self) -> None:
        """Nothing of a killed process is left: not its pipes, not its number."""
        while self._killed:
            process = self._killed[0]
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    await pipe.aclose()
            await process.wait()
            del self._killed[0]


class _State(Struct):
    """How far a call has come."""

    written: bool = False  # the worker has it
    sent: bool = False  # its request may have left


class Lost(Exception):
    """This process is of no more use."""


class Lines:
    """Whole lines over a process's pipes."""

    def __init__(self, send: trio.abc.SendStream, receive: trio.abc.ReceiveStream) -> None:
        self._send, self._receive = send, receive
        self._rest = bytearray()

    async def send(self, line: bytes) -> None:
        """Raises Lost."""
        try:
            await self._send.send_all(line)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Lost("the worker has ended") from error

    async def receive(self, decode: Callable[[bytes], Any]) -> Any:
        """Raises Lost."""
        while (end := self._rest.find(b"\n")) < 0:
            try:
                piece = await self._receive.receive_some(PIECE)
            except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
                raise Lost("the worker has ended") from error
            if not piece:
                raise Lost("the worker has ended")
            self._rest += piece
            if len(self._rest) > LINE_MAX:
                raise Lost(f"a line of more than {LINE_MAX:,} bytes")
        line = bytes(self._rest[:end])
        del self._rest[: end + 1]
        try:
            return decode(line)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise Lost(f"the worker says what cannot be read: {error}") from error


def environment(ours: Mapping[str, str]) -> dict[str, str]:
    """For the process: where Python and our own source are, and no secrets."""
    root = str(Path(__file__).resolve().parents[3])
    path = os.pathsep.join(part for part in (root, ours.get("PYTHONPATH", "")) if part)
    return {name: ours[name] for name in ENVIRONMENT if name in ours} | {"PYTHONPATH": path}
