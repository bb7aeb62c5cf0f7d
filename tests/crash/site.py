"""One keeper of the truth, one data folder, the engine's lives on it one after the other; what the world outside saw.

Engines are forked from a server that has imported everything already (half of a start is imports): real processes with
their own files and sockets, which die by SIGKILL like any other.
"""

import http.client
import json
import multiprocessing
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from threading import Lock
from typing import Any

from engine.runtime.config import load
from engine.runtime.journal.choice import reader_of
from engine.runtime.journal.reading import SqlReader
from tests.crash.keepers import keeper_of
from tests.crash.launch import Launch, launch
from tests.engine_toml import Words, with_journal
from tests.patience import PATIENCE_SECONDS
from tests.postgres import ENVIRONMENT
from tests.sim.truth import AnyEntry, Phase, ResumeCalled, StopReported

BASE = "/api/execution"
START_SECONDS = PATIENCE_SECONDS
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.crash.launch"])
_ONE_AT_A_TIME = Lock()  # the fork server takes requests from one thread


class Died(Exception):
    """The engine is gone. `code` is as of `subprocess`: -9 by SIGKILL."""

    def __init__(self, code: int | None) -> None:
        super().__init__(f"the engine ended with {code}")
        self.code = code


class Stuck(Exception):
    """Something that must come did not."""


class Site:
    """As a context it leaves no process behind."""

    def __init__(
        self,
        folder: Path,
        seed: int = 1,
        durability: str = "power",
        data: Path | None = None,
        venue: str = "paper",
        journal: Words | None = None,
        engines: int = 1,
    ) -> None:
        """`journal`: what its section says beside the durability. `engines`: 2, and lives are of two hosts in turn."""
        self._journal: Words = journal or {}
        self._hosts = engines
        self._heir: tuple[dict[str, Any], int, BaseProcess] | None = None  # how it was begun, which life, it
        self.folder, self.durability, self.venue = folder, durability, venue
        self.keeper = keeper_of(venue, folder, seed)
        self.data = data or folder / "var"
        self.mutant = ""
        self.sync_seconds = 0.0
        self.families: tuple[str, ...] = ("kills",)
        self.told: list[AnyEntry] = []  # what the world outside did and heard
        self.life = 0
        self._begun = 0  # lives
        self.api = ("127.0.0.1", 0)
        self.engine: BaseProcess
        self._others: list[BaseProcess] = []

    def __enter__(self) -> "Site":
        self.folder.mkdir(parents=True, exist_ok=True)
        self.keeper.begin()
        text = with_journal(self.keeper.config(self.data, self.durability), self._journal)
        if self._hosts > 1:  # consumers see the events of both in the order in which they came
            self.data.mkdir(exist_ok=True)
            text += f'[[sinks]]\nkind = "ndjson"\npath = "{self.data / "events.ndjson"}"\n'
        self.config.write_text(text)
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._others:
            if process.is_alive():
                process.kill()
            process.join()
            process.close()
        self.keeper.end()

    @property
    def config(self) -> Path:
        return self.folder / "engine.toml"

    def reader(self) -> SqlReader:
        """What is committed. Raises JournalFailed."""
        return reader_of(load(self.config), ENVIRONMENT)

    # ----------------------------------------------------------------------------------------------- the engine's lives

    def spawn(
        self,
        point: str = "",
        nth: int = 1,
        by: int = signal.SIGKILL,
        file_bytes_max: int = 0,
        broken_disk: str = "",
    ) -> None:
        """Begin a life, or go on with the one that stands by and was begun in this way; it is not ready yet."""
        how = {"point": point, "nth": nth} if point else {}
        if self._heir is not None and self._heir[0] == how:
            (_, self.life, self.engine), self._heir = self._heir, None
            return
        self.give_up_heir()
        self.life, self.engine = self._begin(point, nth, by, file_bytes_max, broken_disk)

    def stand_by(self, **how: Any) -> None:
        """Begin the next life while this one lives, where there are two hosts: it waits for the lease."""
        if self._hosts > 1:
            self.give_up_heir()
            self._heir = (how, *self._begin(**how))

    def give_up_heir(self) -> None:
        if self._heir is not None:
            self._heir[2].kill()
            self._heir[2].join()
            self._heir = None

    def _begin(
        self,
        point: str = "",
        nth: int = 1,
        by: int = signal.SIGKILL,
        file_bytes_max: int = 0,
        broken_disk: str = "",
    ) -> tuple[int, BaseProcess]:
        self._begun += 1
        life = self._begun
        data = ("--data-dir", str(self.folder / f"var-{life % 2}")) if self._hosts > 1 else ()
        arguments = ("run", "--config", str(self.config), "--json", *data)
        task = Launch(
            life,
            arguments,
            str(self.folder),
            point,
            nth,
            by,
            file_bytes_max,
            self.mutant,
            self.sync_seconds,
            broken_disk,
            self.venue,
            tuple(ENVIRONMENT.items()),
            bool(self._journal),
        )
        process = _FORKS.Process(target=launch, args=(task,), name=f"life-{life}")
        with _ONE_AT_A_TIME:
            process.start()
        self._others.append(process)
        return life, process

    def start(self, **how: Any) -> None:
        """Returns when entries are possible. Raises Died, Stuck."""
        self.spawn(**how)
        self.wait_ready()

    def wait_ready(self) -> None:
        """A stop that an earlier life has kept is released first, as its operator would. Raises Died, Stuck."""
        out = self.folder / f"life-{self.life}.out"
        said = self.until(lambda: out.exists() and out.read_text().endswith("\n") and out.read_text())
        host, port = json.loads(str(said))["api"].removeprefix("http://").rsplit(":", 1)
        self.api = (host, int(port))

        def ready() -> bool:
            health = self.health()
            if any(halt["scope"] == "engine" for halt in health["halts"]):
                self.resume()
            return bool(health["entry_ready"])

        self.until(ready)

    def until(self, done: Callable[[], Any], seconds: float = START_SECONDS) -> Any:
        """Raises Died, Stuck."""
        end = time.monotonic() + seconds
        while True:
            try:
                if result := done():
                    return result
            except (OSError, http.client.HTTPException):
                pass  # it is dying, or has not begun to listen
            if (code := self.engine.exitcode) is not None:
                raise Died(code)
            if time.monotonic() > end:
                raise Stuck(f"not within {seconds} s; life {self.life}: {self.log()}")
            time.sleep(0.01)

    def kill(self) -> None:
        self.engine.kill()
        self.engine.join()

    def end(self, seconds: float = PATIENCE_SECONDS) -> int | None:
        """TERM; the exit code."""
        self.engine.terminate()
        self.engine.join(seconds)
        return self.engine.exitcode

    def log(self, life: int = 0) -> str:
        path = self.folder / f"life-{life or self.life}.log"
        return path.read_text()[-3000:] if path.exists() else ""

    def logged(self, event: str) -> list[dict[str, Any]]:
        """This life's log lines of one event."""
        lines = (self.folder / f"life-{self.life}.log").read_text().splitlines()
        found = [dict(json.loads(line)) for line in lines if line.startswith("{")]
        return [line for line in found if line["event"] == event]

    # -------------------------------------------------------------------------------------------------- asking, telling

    def ask(self, method: str, path: str, body: object = None, seconds: float = PATIENCE_SECONDS) -> tuple[int, Any]:
        """Raises OSError, HTTPException when there is nobody."""
        connection = http.client.HTTPConnection(*self.api, timeout=seconds)
        try:
            headers = {"content-type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def health(self) -> Any:
        return self.ask("GET", "/health")[1]

    def get(self, path: str) -> Any:
        return self.ask("GET", BASE + path)[1]

    def stop(self, flatten: bool) -> bool:
        """Whether it was reported as complete."""
        _, told = self.ask("POST", f"{BASE}/stop", {"by": "crash", "reason": "a rehearsal", "flatten": flatten})
        flat = not any(left["entries"] or left["positions"] or left["unknown"] for left in told["left"])
        self.told.append(StopReported(time.time_ns(), "engine", flat, told["durable"], flatten))
        return bool(told["complete"])

    def resume(self) -> None:
        self.told.append(ResumeCalled(time.time_ns(), scope="engine"))
        self.ask("POST", f"{BASE}/resume", {"by": "crash", "scope": "engine", "note": ""})

    def phase(self, name: str) -> None:
        self.told.append(Phase(time.time_ns(), name=name))
