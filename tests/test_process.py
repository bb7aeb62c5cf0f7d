"""The engine as a process: how it starts, obeys the operating system's signals, refuses to start, and ends."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

import run
from engine.runtime.commandline import FAILED, INTERRUPTED, OK, REFUSED
from tests.patience import PATIENCE_SECONDS

READY_SECONDS = PATIENCE_SECONDS


class Process:
    """`run.py run` in a folder of its own, with its log in a file."""

    def __init__(self, folder: Path, root: Path, config: str = "") -> None:
        self.folder = folder
        self.file = folder / "surefire.toml"
        self.log = folder / "engine.log"
        self.write(config)
        words = f"run.py run --json --port 0 --config {self.file} --data-dir {folder / 'var'}".split()
        self._process = subprocess.Popen(
            [sys.executable, *words],
            cwd=root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def write(self, config: str) -> None:
        patient = "[breakers]\nloop_stall_ms = 60000\ncommit_stall_ms = 60000\n"
        self.file.write_text(f'[log]\nfile = "{self.log}"\n{patient}[accounts.main.limits]\n{config}')

    def ready(self) -> str:
        """Where the API is, once the process says that it runs."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self._process.communicate()[1]
        return str(json.loads(line)["api"])

    def trading(self) -> str:
        """Where the API is, once it takes signals: after the first comparison with the venue."""
        api, until = self.ready(), time.monotonic() + READY_SECONDS
        while not (health := httpx.get(f"{api}/health", trust_env=False, timeout=READY_SECONDS).json())["entry_ready"]:
            assert time.monotonic() < until, health
            time.sleep(0.02)
        return api

    def send(self, number: signal.Signals) -> None:
        os.kill(self._process.pid, number)

    def ended(self) -> tuple[int, str]:
        """Its exit code and what it said on standard error."""
        _, errors = self._process.communicate(timeout=READY_SECONDS)
        return self._process.returncode, errors

    def logged(self, event: str) -> dict[str, Any]:
        """The first log line of this event, waited for."""
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            for line in self.log.read_text().splitlines() if self.log.exists() else ():
                fields: dict[str, Any] = json.loads(line)
                if fields["event"] == event:
                    return fields
            time.sleep(0.05)
        raise AssertionError(f"'{event}' was not logged:\n{self.log.read_text()}")

    def close(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()


@contextmanager
def engine(folder: Path, root: Path, config: str = "") -> Iterator[Process]:
    process = Process(folder, root, config)
    try:
        yield process
    finally:
        process.close()


def test_the_engine_says_where_its_api_is_and_a_term_drains_it(tmp_path: Path, repo_root: Path):
    with engine(tmp_path, repo_root) as process:
        api = process.ready()
        assert httpx.get(f"{api}/health", trust_env=False, timeout=READY_SECONDS).json()["live"] is True
        process.send(signal.SIGTERM)
        assert process.ended()[0] == OK
    assert process.logged("stopped")["left"] == "nothing"


def test_a_signal_is_explained_by_the_engine_and_later_by_its_journal_which_is_sound(
    tmp_path: Path, repo_root: Path, capsys: pytest.CaptureFixture[str]
):
    body = {"signal_id": "s/1", "symbol": "BTCUSDT", "action": "open", "side": "buy", "quote_amount": "500"}
    with engine(tmp_path, repo_root) as process:
        api = process.trading()
        answer = httpx.post(f"{api}/api/execution/order", json=body, trust_env=False, timeout=READY_SECONDS)
        assert answer.status_code == 202, answer.text
        where = tmp_path / "running.toml"
        where.write_text(f"[api]\nport = {api.rsplit(':', 1)[1]}\n")
        assert run.main(["explain", "s/1", "--config", str(where)]) == OK
        assert capsys.readouterr().out.startswith("signal s/1: ")
        assert run.main(["explain", "nobody", "--config", str(where)]) == FAILED
        process.send(signal.SIGTERM)
        assert process.ended()[0] == OK
    data = ["--data-dir", str(tmp_path / "var")]
    capsys.readouterr()
    assert run.main(["explain", "s/1", "--json", "--config", str(where), *data]) == OK
    assert json.loads(capsys.readouterr().out)["signal_id"] == "s/1"
    assert run.main(["explain", "nobody", "--config", str(where), *data]) == FAILED
    assert run.main(["check", *data]) == OK
    capsys.readouterr()
    assert run.main(["audit", "verify", *data]) == OK
    assert capsys.readouterr().out.startswith("sound: ")


def test_a_hangup_puts_the_files_new_limits_in_force(tmp_path: Path, repo_root: Path):
    with engine(tmp_path, repo_root, "positions_max = 3") as process:
        api = process.ready()
        process.write("positions_max = 7")
        process.send(signal.SIGHUP)
        assert process.logged("limits reloaded")["account"] == "main"
        (row,) = httpx.get(f"{api}/api/execution/limits", trust_env=False, timeout=READY_SECONDS).json()["limits"]
        assert row["limits"]["positions_max"] == 7


def test_a_hangup_with_a_broken_file_changes_nothing_and_says_why(tmp_path: Path, repo_root: Path):
    with engine(tmp_path, repo_root, "positions_max = 3") as process:
        api = process.ready()
        process.write("positions_mx = 7")
        process.send(signal.SIGHUP)
        assert "did you mean 'positions_max'?" in process.logged("limits not reloaded")["reason"]
        (row,) = httpx.get(f"{api}/api/execution/limits", trust_env=False, timeout=READY_SECONDS).json()["limits"]
        assert row["limits"]["positions_max"] == 3


def test_usr1_writes_the_inner_state_to_the_log(tmp_path: Path, repo_root: Path):
    with engine(tmp_path, repo_root) as process:
        process.ready()
        process.send(signal.SIGUSR1)
        assert "epoch" in process.logged("state")["state"]


@pytest.mark.parametrize("held", ["journal", "port"])
def test_a_second_engine_is_refused_with_a_sentence_and_code_4(held: str, tmp_path: Path, repo_root: Path):
    with engine(tmp_path, repo_root) as first:
        api = first.ready()
        port = api.rsplit(":", 1)[1] if held == "port" else "0"
        folder = str(tmp_path / ("var" if held == "journal" else "other"))
        second = subprocess.run(
            [sys.executable, str(repo_root / "run.py"), "run", "--port", port, "--data-dir", folder],
            capture_output=True,
            text=True,
            timeout=READY_SECONDS,
            check=False,
        )
        assert second.returncode == REFUSED, second.stderr
        last = second.stderr.splitlines()[-1]
        assert last.startswith("surefire: refused to start: ")
        assert "Traceback" not in second.stderr
        assert httpx.get(f"{api}/health", trust_env=False, timeout=READY_SECONDS).json()["live"] is True


def test_a_second_interrupt_ends_a_drain_at_once(tmp_path: Path, repo_root: Path):
    with engine(tmp_path, repo_root) as process:
        process.ready()
        process.send(signal.SIGINT)
        process.send(signal.SIGINT)
        assert process.ended()[0] in (OK, INTERRUPTED)  # the drain may have been quicker


@pytest.mark.parametrize("arguments", [["--seed", "3"]])
def test_the_demo_balances_its_books_and_gives_one_result_for_one_seed(arguments: list[str], repo_root: Path):
    results = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, str(repo_root / "run.py"), "demo", "--json", *arguments],
            capture_output=True,
            text=True,
            timeout=5 * PATIENCE_SECONDS,
            check=False,
        )
        assert done.returncode == OK, done.stdout + done.stderr
        summary = json.loads(done.stdout)
        assert summary["fills"] > 0
        results.append({name: value for name, value in summary.items() if name not in ("took_ns", "latency")})
    assert results[0] == results[1]


def test_a_venue_of_its_own_says_where_it_listens(repo_root: Path):
    process = subprocess.Popen(
        [sys.executable, str(repo_root / "run.py"), "venue", "--json"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        port = json.loads(process.stdout.readline())["port"]
        checked = subprocess.run(
            [sys.executable, "-c", f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)"], check=False
        )
        assert checked.returncode == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(READY_SECONDS) == OK
    finally:
        process.kill()
        process.communicate()
