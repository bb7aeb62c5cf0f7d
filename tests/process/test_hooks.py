"""Webhooks at a real process: curl's own bytes, a kill between two replays, and no secret in anything that is left."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.edges.webhook import signed
from engine.runtime.log import Secret
from tests.patience import PATIENCE_SECONDS
from tests.process.test_vault import leaks

ROOT = Path(__file__).resolve().parents[2]
DESK, OLD, CHART = "canary-desk-0123456789abcdef", "canary-old-0123456789abcdef", "canary-chart/+0123456789=="
SECRETS = {"DESK_HOOK": DESK, "OLD_HOOK": OLD, "CHART_HOOK": CHART}
HOOKS = """
[[sources]]
kind = "webhook"
name = "desk"
secret_env = ["DESK_HOOK", "OLD_HOOK"]
controls = true

[[sources]]
kind = "webhook"
name = "chart"
secret_env = ["CHART_HOOK"]
unsigned = true
addresses = ["127.0.0.0/8"]
symbols = ["BTCUSDT"]
"""


class Running:
    """`run.py run` with hooks, once or several times on one journal."""

    def __init__(self, folder: Path, more: str = "") -> None:
        self.folder, self.lives = folder, 0
        self.config = folder / "surefire.toml"
        patient = "[breakers]\nloop_stall_ms = 60000\ncommit_stall_ms = 60000\n"
        head = f'[engine]\ndata_dir = "{folder}/var"\n[log]\nlevel = "debug"\n[api]\nport = 0\n{patient}'
        self.config.write_text(f"{head}[accounts.main.limits]\n{HOOKS}{more}", encoding="utf-8")

    def __enter__(self) -> "Running":
        self.lives += 1
        with (self.folder / f"run-{self.lives}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "run.py"), "run", "--config", str(self.config), "--json"],
                env={**os.environ, **SECRETS},
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (self.folder / f"run-{self.lives}.log").read_text()
        self.client = httpx.Client(base_url=json.loads(line)["api"], timeout=PATIENCE_SECONDS, trust_env=False)
        until = time.monotonic() + PATIENCE_SECONDS
        while not (health := self.client.get("/health").json())["entry_ready"]:
            assert time.monotonic() < until, health
            time.sleep(0.02)
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.terminate()
        self.process.communicate(timeout=PATIENCE_SECONDS)
        self.client.close()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def desk(self, body: dict[str, Any] | bytes, name: str, late: int = 0, secret: str = DESK) -> httpx.Response:
        """Signed as a sender does it; sources are opened a moment after the API, so until it is taken."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = signed((Secret(secret),), name, int(time.time()) - late, raw)
        return self.taken("/hooks/desk", raw, headers)

    def chart(self, body: dict[str, Any]) -> httpx.Response:
        return self.taken("/hooks/chart", json.dumps(body).encode(), {})

    def taken(self, path: str, raw: bytes, headers: dict[str, str]) -> httpx.Response:
        until = time.monotonic() + PATIENCE_SECONDS
        while True:
            answer = self.client.post(path, content=raw, headers={"content-type": "application/json"} | headers)
            if answer.status_code != 503 or time.monotonic() > until:
                return answer
            time.sleep(0.1)


def buy(**more: Any) -> dict[str, Any]:
    return {"symbol": "BTCUSDT", "side": "buy", "quote_amount": "100", **more}


def test_hooks_take_what_is_signed_once_through_a_kill_and_leave_no_secret(tmp_path: Path) -> None:
    engine, told = Running(tmp_path), dict[str, bytes]()

    def said(name: str, answer: httpx.Response, status: int) -> Any:
        told[f"answer {name}"] = answer.content + str(answer.headers).encode()
        assert answer.status_code == status, (name, answer.text)
        return answer.json()

    with engine:
        said("signed", engine.desk(buy(), "d-1"), 202)
        said(
            "signed with the old secret",
            engine.desk(buy(signal_id="own", quote_amount="200"), "d-2", secret=OLD),
            202,
        )
        said("replayed", engine.desk(buy(), "d-1"), 200)
        said("late", engine.desk(buy(), "d-3", late=3600), 401)
        said("forged", engine.desk(buy(), "d-4", secret=CHART), 401)
        said("spilled", engine.desk(buy(note=DESK), "d-5"), 422)
        said("malformed", engine.desk(b'{"symbol": ', "d-6"), 422)
        said("tripped", engine.desk({"type": "ess.tripped"}, "d-7"), 200)
        said("cleared", engine.desk({"type": "ess.cleared"}, "d-8"), 200)
        said("tripped again", engine.desk({"type": "ess.tripped"}, "d-9"), 200)
        assert said("replayed end", engine.desk({"type": "ess.cleared"}, "d-8"), 200)["status"] == "repeated"
        assert said("health", engine.client.get("/health"), 200)["halts"][0]["kind"] == "ess"
        said("cleared again", engine.desk({"type": "ess.cleared"}, "d-10"), 200)
        said("chart", engine.chart(buy(secret=CHART, id="c-1", quote_amount="300")), 202)
        said("chart, twice in it", engine.chart(buy(secret=CHART, id="c-2", note=f"x{CHART}")), 422)
        said("chart, flawed", engine.chart(buy(secret=CHART, id="c-3", sid="buy")), 422)
        said("chart, other symbol", engine.chart(buy(secret=CHART, id="c-4", symbol="ETHUSDT")), 422)
        said("chart, wrong", engine.chart(buy(secret="canary-wrong", id="c-5")), 401)
        health = said("health again", engine.client.get("/health"), 200)
        assert any("hook chart: INSECURE" in note for note in health["notes"])
        engine.kill()
    with engine:
        again = said("replayed after the kill", engine.desk(buy(), "d-1"), 200)
        assert (again["status"], again["signal_id"]) == ("repeated", "desk:d-1")
        said("another body after the kill", engine.desk(buy(signal_id="new"), "d-2"), 409)
        explained = engine.client.get("/api/execution/signals/c-1?format=text")
        assert explained.status_code == 200
        for path in (
            "/metrics",
            "/api/execution/signals",
            "/api/execution/orders",
            "/api/execution/dump",
            "/openapi.json",
        ):
            told[path] = engine.client.get(path).content
        signals = engine.client.get("/api/execution/signals").json()["signals"]
        assert {signal["signal_id"] for signal in signals} == {"desk:d-1", "own", "c-1"}
    assert engine.process.returncode == 0
    texts = told | {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert any(name.endswith("dead-letters.ndjson") for name in texts) and b"INSECURE" in texts[f"{tmp_path}/run-1.log"]
    assert leaks([DESK, OLD, CHART], texts) == []


@pytest.mark.parametrize(("more", "word"), [({}, "DESK_HOOK"), (SECRETS | {"OLD_HOOK": "canary-short"}, "OLD_HOOK")])
def test_a_hook_without_a_sound_secret_does_not_start(tmp_path: Path, more: dict[str, str], word: str) -> None:
    config = Running(tmp_path).config
    for command in ("check", "run"):
        done = subprocess.run(
            [sys.executable, str(ROOT / "run.py"), command, "--config", str(config)],
            env={name: value for name, value in os.environ.items() if name not in SECRETS} | more,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )
        assert done.returncode != 0 and word in done.stdout + done.stderr
        assert "canary" not in done.stdout + done.stderr and "Traceback" not in done.stderr
