"""A local exchange as a process of its own, the way a user starts it, and clients as processes beside it."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from engine.exchange.asking import ask
from tests.patience import PATIENCE_SECONDS

ROOT = Path(__file__).resolve().parents[2]
CLIENT_SECONDS = 3 * PATIENCE_SECONDS  # until a client that has not ended is given up; it tells before where it waits

KEY, SECRET = "local-key", "local-secret"


class Site:
    """One running exchange."""

    def __init__(self, ports: dict[str, int]) -> None:
        self.ports = ports

    def admin(self, method: str, path: str, body: dict[str, object] | None = None) -> Any:
        return json.loads(ask("127.0.0.1", self.ports["bybit"], method, path, body))

    def do(self, deed: str, **more: object) -> Any:
        return self.admin("POST", "/do", {"do": deed, **more})

    def fault(self, woe: str, **more: object) -> Any:
        return self.admin("POST", "/fault", {"do": woe, **more})

    def truth(self, face: str, account: str = "main") -> dict[str, Any]:
        found: dict[str, Any] = self.admin("GET", f"/truth?face={face}&account={account}")[face][account]
        return found

    def client(self, name: str, *arguments: str) -> dict[str, Any]:
        """What a client of tests/exchange/clients says it saw. An exchange's port for each face is in its arguments."""
        ports = json.dumps(self.ports)
        command = [sys.executable, "-W", "ignore", "-m", f"tests.exchange.clients.{name}", ports, *arguments]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=CLIENT_SECONDS, check=False)
        assert run.returncode == 0, f"{name} failed:\n{run.stdout[-3000:]}\n{run.stderr[-6000:]}"
        seen: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
        return seen


@contextmanager
def exchange(*arguments: str) -> Iterator[Site]:
    """`still` by default: the market moves by the admin's hand only."""
    words = arguments or ("--tape", "still")
    command = [sys.executable, "run.py", "exchange", "--port", "0", "--json", *words]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            first = process.stdout.readline()
            assert first, process.stderr.read()
            yield Site(json.loads(first)["ports"])
        finally:
            process.terminate()
            process.communicate(timeout=PATIENCE_SECONDS)
