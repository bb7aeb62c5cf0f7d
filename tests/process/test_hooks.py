"""Webhooks at a real process: curl's own bytes, a kill between two replays, and no secret in anything that is left."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.edges.webhook import Admitted, HookTerms, Request, admit, signed
from engine.runtime.log import Secret
from tests.patience import PATIENCE_SECONDS
from tests.process.test_vault import leaks

ROOT = Path(__file__).resolve().parents[2]
DESK, OLD, CHART = "canary-desk-0123456789abcdef", "canary-old-0123456789abcdef", "canary-chart/+0123456789=="
OUT = "canary-out-0123456789abcdef"
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
        self.environment = {**os.environ, **SECRETS}
        self.config = folder / "surefire.toml"
        patient = "[breakers]\nloop_stall_ms = 60000\ncommit_stall_ms = 60000\n"
        head = f'[engine]\ndata_dir = "{folder}/var"\n[log]\nlevel = "debug"\n[api]\nport = 0\n{patient}'
        self.config.write_text(f"{head}[accounts.main.limits]\n{HOOKS}{more}", encoding="utf-8")

    def __enter__(self) -> "Running":
        self.lives += 1
        with (self.folder / f"run-{self.lives}.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "run.py"), "run", "--config", str(self.config), "--json"],
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=log,
            )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, (self.folder / f"run-{self.lives}.log").read_text()
        self.client = httpx.Client(base_url=json.loads(line)["api"], timeout=PATIENCE_SECONDS, trust_env=False)
        self.until(lambda health: health["entry_ready"])
        return self

    def until(self, holds: Callable[[Any], bool]) -> None:
        until = time.monotonic() + PATIENCE_SECONDS
        while not holds(health := self.client.get("/health").json()):
            assert time.monotonic() < until, health
            time.sleep(0.02)

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


class Receiver:
    """Ten lines of the standard library, as a user may write them; it may be told to refuse."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.names: list[str] = []
        self.status = 200
        terms = HookTerms(keys=(Secret(OUT),))
        receiver = self

        class Posted(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"]))
                headers = {name.lower(): value for name, value in self.headers.items()}
                found = admit(Request(headers=headers, raw=raw, address=""), terms, time.time_ns())
                assert isinstance(found, Admitted), found
                if receiver.status == 200:
                    receiver.events.append(json.loads(raw))
                    receiver.names.append(found.name)
                self.send_response(receiver.status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *said: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Posted)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def test_events_reach_a_receiver_through_its_outage_and_a_kill_of_the_engine(tmp_path: Path) -> None:
    there = Receiver()
    sink = '[[sinks]]\nkind = "webhook"\nurl_env = "OUT_URL"\nsecret_env = ["OUT_HOOK"]\n[[sinks]]\nkind = "ndjson"\n'
    engine = Running(tmp_path, sink)
    engine.environment |= {"OUT_HOOK": OUT, "OUT_URL": f"http://127.0.0.1:{there.port}/in?key=canary-url-key"}
    try:
        there.status = 503
        with engine:
            assert engine.desk(buy(), "d-1").status_code == 202
            engine.until(lambda health: "answered 503" in component(health, "sink/webhook")["detail"])
            engine.kill()
        assert there.events == []
        there.status = 200
        with engine:
            assert engine.desk(buy(quote_amount="200"), "d-2").status_code == 202
            until = time.monotonic() + PATIENCE_SECONDS
            while not {"desk:d-1", "desk:d-2"} <= {
                e["key"] for e in there.events if e["name"] == "trade_confirmations"
            }:
                assert time.monotonic() < until, [event["name"] for event in there.events]
                time.sleep(0.05)
            engine.until(lambda health: component(health, "sink/webhook")["ok"])
        assert engine.process.returncode == 0
    finally:
        there.close()
    ids = [event["event_id"] for event in there.events]
    main = [event["event_id"] for event in there.events if event["account"] == "main"]
    assert sorted(set(ids)) == list(range(1, max(ids) + 1)), "none is missing"
    first_seen = list(dict.fromkeys(main))
    assert first_seen == sorted(first_seen), "in order per account"
    assert there.names == [f"surefire-{event_id}" for event_id in ids]
    texts = {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert leaks([OUT, DESK, "canary-url-key"], texts) == []


def component(health: Any, name: str) -> Any:
    return next(part for part in health["components"] if part["name"] == name)


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


def test_a_hooks_secret_may_rest_in_the_vault_and_is_that_hooks_alone(tmp_path: Path) -> None:
    engine = Running(tmp_path)
    text = engine.config.read_text(encoding="utf-8")
    sealed = text.replace('secret_env = ["DESK_HOOK", "OLD_HOOK"]', 'secret_env = ["OLD_HOOK"]\nkey_vault = ["desk-1"]')
    engine.config.write_text(sealed, encoding="utf-8")
    engine.environment = {k: v for k, v in engine.environment.items() if k != "DESK_HOOK"}
    engine.environment["SUREFIRE_VAULT_PASSPHRASE"] = "canary phrase nobody would guess"

    def run(*arguments: str, told: str = "") -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, str(ROOT / "run.py"), *arguments, "--config", str(engine.config)]
        return subprocess.run(
            command, env=engine.environment, input=told, capture_output=True, text=True, timeout=PATIENCE_SECONDS
        )

    def add(name: str, hook: str, **typed: str) -> "subprocess.CompletedProcess[str]":
        return run("keys", "add", name, "--hook", hook, told=json.dumps(typed))

    assert "must be a webhook of the config: desk, chart" in add("desk-1", "dusk", secret=DESK).stderr
    assert "one secret and nothing else" in add("desk-1", "desk", key="k", secret=DESK).stderr
    assert "must hold 20 ASCII characters or more" in add("desk-1", "desk", secret="canary-short").stderr
    assert add("desk-1", "chart", secret=DESK).returncode == 0
    assert "the key 'desk-1' is of 'hook/chart', not of 'hook/desk'" in run("run").stderr
    assert run("keys", "remove", "desk-1").returncode == 0
    assert "put it in with: keys add desk-1 --hook desk" in run("run").stderr
    assert add("desk-1", "desk", secret=DESK).returncode == 0
    with engine:
        assert engine.desk(buy(), "d-1").status_code == 202
        assert engine.desk(buy(quote_amount="200"), "d-2", secret=OLD).status_code == 202
        assert engine.desk(buy(), "d-3", secret=CHART).status_code == 401
    assert engine.process.returncode == 0
    assert "desk-1: webhook desk, revision 1, set" in (listed := run("keys", "list").stdout) and "for 'run'" in listed
    assert "run decrypted the key desk-1 [hook/desk]" in run("audit", "log").stdout
    texts = {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert leaks([DESK, "canary phrase"], texts) == []
