"""The API of a real process with tokens and TLS: what it answers, what it writes, when it does not start."""

import json
import os
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from tests.patience import PATIENCE_SECONDS
from tests.web.test_door import certificate

ROOT = Path(__file__).resolve().parents[2]
READER, OPERATOR = "canary-reader-0123456789", "canary-operator-0123456789"
KEYS = {"READER_TOKEN": READER, "OPERATOR_TOKEN": OPERATOR}
# A loaded machine lets a process wait for seconds, which halts entries.
PATIENT = """
[breakers]
loop_stall_ms = 60000
commit_stall_ms = 60000
[accounts.main]
venue = "paper"
[accounts.main.limits]
quote_age_max_seconds = 60
"""
TOKENS = """
[[api.tokens]]
name = "reader"
roles = ["read"]
env = "READER_TOKEN"

[[api.tokens]]
name = "operator"
roles = ["read", "trade", "limits", "stop"]
env = "OPERATOR_TOKEN"
"""


def written(folder: Path, api: str, tokens: str = TOKENS) -> Path:
    config = folder / "surefire.toml"
    config.write_text(
        f'[engine]\ndata_dir = "{folder}/var"\n[log]\nlevel = "debug"\n{PATIENT}[api]\nport = 0\n{api}\n{tokens}'
    )
    return config


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "run.py"), *arguments]


def environment(**more: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.endswith("_TOKEN")} | more


@pytest.mark.parametrize(
    ("keys", "word"),
    [({}, "READER_TOKEN"), ({"READER_TOKEN": READER}, "OPERATOR_TOKEN"), (KEYS, "tls_cert")],
)
def test_an_api_that_cannot_be_guarded_as_asked_does_not_start(tmp_path: Path, keys: dict[str, str], word: str) -> None:
    (tmp_path / "bad.pem").write_text("no certificate")
    config = written(tmp_path, f'host = "0.0.0.0"\ntls_cert = "{tmp_path}/bad.pem"\ntls_key = "{tmp_path}/bad.pem"')
    if word != "tls_cert":  # the certificate is looked at first
        cert, key = certificate(tmp_path)
        config = written(tmp_path, f'host = "0.0.0.0"\ntls_cert = "{cert}"\ntls_key = "{key}"')
    done = subprocess.run(
        command("run", "--config", str(config)),
        env=environment(**keys),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SECONDS,
    )
    assert done.returncode == 4, done.stderr
    assert word in done.stderr and "refused to start" in done.stderr
    assert "canary" not in done.stdout + done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "var" / "journal.sqlite").exists()


def posted(client: httpx.Client, token: str | None, body: dict[str, str]) -> int:
    """The status of the answer, when the engine has begun to take signals."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        status = client.post("/api/execution/order", json=body, headers=headers).status_code
        if status != 503 or time.monotonic() > until:
            return status
        time.sleep(0.1)


def test_a_guarded_engine_trades_for_those_who_may_and_writes_no_token(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    config = written(tmp_path, f'host = "0.0.0.0"\ntls_cert = "{cert}"\ntls_key = "{key}"')
    output = tmp_path / "output"
    with output.open("wb") as errors:
        engine = subprocess.Popen(
            command("run", "--config", str(config), "--json"),
            env=environment(**KEYS),
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        try:
            assert engine.stdout is not None
            port = json.loads(engine.stdout.readline())["api"].rpartition(":")[2]
            verify = ssl.create_default_context(cafile=cert)
            with httpx.Client(base_url=f"https://127.0.0.1:{port}", verify=verify, timeout=PATIENCE_SECONDS) as client:
                body = {"signal_id": "g-1", "symbol": "BTCUSDT", "side": "buy", "quote_amount": "100"}
                for token, status in ((None, 401), (READER, 403), (OPERATOR, 202)):
                    assert posted(client, token, body) == status
                assert client.get("/health", headers={"Authorization": f"Bearer {READER}"}).status_code == 200
            for token, code in ((READER, 1), (OPERATOR, 0)):
                done = subprocess.run(
                    command("stop", "--config", str(config), "--port", port),
                    env=environment(SUREFIRE_TOKEN=token),
                    capture_output=True,
                    text=True,
                    timeout=120,
                )
                assert done.returncode == code, done.stderr
                assert ("the role stop" in done.stderr) == (token == READER)
                assert "canary" not in done.stdout + done.stderr
        finally:
            engine.terminate()
            rest, _ = engine.communicate(timeout=60)
    assert engine.returncode == 0
    assert b"canary" not in rest
    assert "request turned away" in output.read_text()
    for path in tmp_path.rglob("*"):
        if path.is_file():
            assert b"canary" not in path.read_bytes(), path
    journal = (tmp_path / "var" / "journal.sqlite").read_bytes()
    assert b"[token operator]" in journal or any(
        b"[token operator]" in path.read_bytes() for path in (tmp_path / "var").glob("journal.sqlite-wal")
    )
