"""A real Redis server for tests, on loopback, in a temporary folder, thrown away at the end.

Needs its binary (Debian: `apt-get install redis-server`). Without it the tests are skipped, or fail where
SUREFIRE_NEED_SERVERS is set, as .ci/run does.
"""

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.ports import free_port
from engine.edges.redis import Server
from tests.patience import PATIENCE_SECONDS

PASSWORD = "canary-of-redis"


class RedisServer:
    def __init__(self, folder: Path, binary: str) -> None:
        self._folder, self._binary = folder, binary
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.address = Server(port=self.port, password=PASSWORD)

    def start(self) -> None:
        """With what it had on its disk; returns when it answers."""
        options = ("--port", self.port, "--bind", "127.0.0.1", "--dir", self._folder, "--requirepass", PASSWORD)
        lasting = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
        with (self._folder / "server.log").open("ab") as log:
            command = [self._binary, *map(str, (*options, *lasting))]
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder)
        until = time.monotonic() + PATIENCE_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self._folder / "server.log").read_text()
            assert time.monotonic() < until
            time.sleep(0.02)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """SIGKILL: as a machine dies."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def freeze(self, how: signal.Signals) -> None:
        """SIGSTOP: it takes connections and says nothing. SIGCONT ends that."""
        assert self._process is not None
        self._process.send_signal(how)

    def forget(self) -> None:
        """Everything that it keeps on its disk."""
        shutil.rmtree(self._folder / "appendonlydir")

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1) as asked:
                asked.sendall(f"AUTH {PASSWORD}\r\nPING\r\n".encode())
                said = b""
                while said.count(b"\r\n") < 2:
                    said += asked.recv(100) or b"\r\n\r\n"
                return b"PONG" in said
        except OSError:
            return False


def running() -> Iterator[RedisServer]:
    """For a fixture. Skips, or fails where servers must be there."""
    binary = shutil.which("redis-server")
    if binary is None:
        word = "no Redis server is installed here (Debian: apt-get install redis-server)"
        if os.environ.get("SUREFIRE_NEED_SERVERS"):
            pytest.fail(word)
        pytest.skip(word)
    folder = Path(tempfile.mkdtemp(prefix="surefire-redis-"))
    try:
        server = RedisServer(folder, binary)
        server.start()
        try:
            yield server
        finally:
            server.stop(signal.SIGKILL)
    finally:
        shutil.rmtree(folder)
