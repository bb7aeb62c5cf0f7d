"""A PostgreSQL server for measurements and tests: made in a temporary folder, on loopback, thrown away at the end.

Needs the server's binaries (Debian: `apt-get install postgresql`). A server does not run as root: another user's rights
are taken then.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from bench.ports import free_port
from engine.runtime.journal.server import Address, address

PASSWORD = "canary-of-the-journal"
ENVIRONMENT = {"SUREFIRE_TEST_PASSWORD": PASSWORD}
START_SECONDS = 60.0
USERS = ("postgres", "nobody")  # one of these, when the tests are run by root


def binaries() -> Path | None:
    """The folder of the newest server that is installed."""
    named = os.environ.get("SUREFIRE_POSTGRES_BIN")
    if named:
        return Path(named)
    if found := shutil.which("postgres"):
        return Path(found).resolve().parent
    folders = (path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/postgres"))
    return max(folders, key=lambda folder: int(folder.parent.name), default=None)


class Server:
    def __init__(self, folder: Path, binaries: Path) -> None:
        self.folder = folder
        self._data = folder / "data"
        self._binaries = binaries
        self._user: dict[str, object] = _somebody(folder) if os.geteuid() == 0 else {}
        self._process: subprocess.Popen[bytes] | None = None
        self._schemas = 0
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"postgresql://surefire@127.0.0.1:{self.port}/postgres"

    def create(self) -> None:
        password = self.folder / "password"
        password.write_text(PASSWORD)
        password.chmod(0o644)
        self._run("initdb", "-D", self._data, "-U", "surefire", "-A", "scram-sha-256", "--pwfile", password, "-N")

    def start(self, *settings: str) -> None:
        """With `name=value` settings; returns when it answers."""
        given = ("shared_buffers=16MB", "max_connections=60", f"unix_socket_directories={self.folder}", *settings)
        options = [part for setting in given for part in ("-c", setting)]
        with (self.folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [self._binaries / "postgres", "-D", self._data, "-p", str(self.port), *options],
                stdout=log,
                stderr=log,
                cwd=self.folder,
                **self._user,  # type: ignore[call-overload]
            )
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                self.sql("SELECT 1")
                return
            except psycopg.OperationalError:
                assert self._process.poll() is None, (self.folder / "server.log").read_text()
                assert time.monotonic() < until
                time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """SIGINT: at once, in good order. SIGKILL: as a machine dies; its children end by themselves."""
        if self._process is not None:
            children = self._children()
            self._process.send_signal(how)
            self._process.wait()
            until = time.monotonic() + START_SECONDS
            while any(_alive(pid) for pid in children):
                assert time.monotonic() < until
                time.sleep(0.01)
            self._process = None

    def sql(self, sql: str, *values: object) -> list[tuple[object, ...]]:
        with psycopg.connect(self.url, password=PASSWORD, autocommit=True, connect_timeout=5) as connection:
            cursor = connection.execute(sql, values or None)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def journal(self, schema: str = "") -> Address:
        """A journal of its own, empty."""
        self._schemas += 1
        return address(self.url, schema or f"journal_{self._schemas}", ENVIRONMENT, "SUREFIRE_TEST_PASSWORD")

    def _children(self) -> list[str]:
        assert self._process is not None
        return Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text().split()

    def _run(self, name: str, *arguments: object) -> None:
        command = [str(self._binaries / name), *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, cwd=self.folder, **self._user)  # type: ignore[call-overload]
        assert done.returncode == 0, (done.stdout + done.stderr).decode()


@contextmanager
def throwaway(found: Path, parent: Path | None = None) -> Iterator[Server]:
    """A server that is running, in a folder that goes with it."""
    folder = Path(tempfile.mkdtemp(prefix="surefire-pg-", dir=parent))
    try:
        server = Server(folder, found)
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGQUIT)  # without a last checkpoint: nobody will read it again
    finally:
        shutil.rmtree(folder)


def _alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _somebody(folder: Path) -> dict[str, object]:
    """Whose rights the server gets, and the folder with them."""
    for name in USERS:
        try:
            user = pwd.getpwnam(name)
        except KeyError:
            continue
        os.chown(folder, user.pw_uid, user.pw_gid)
        return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    raise LookupError(f"this is run by root, and there is none of {', '.join(USERS)} to run a server")
