"""A real engine beside a real risk service: it trips, says nonsense, dies, and the verdict says what was compared."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.patience import PATIENCE_SECONDS
from tests.process.test_hooks import Running, buy, component
from tests.process.test_vault import leaks

TOKEN = "canary-risk-0123456789abcdef"


class RiskService:
    """As somebody's own, in the standard library's words."""

    def __init__(self) -> None:
        self.says: tuple[int, bytes] = (200, b'{"level": "NORMAL"}')
        self.asked: list[str] = []
        service = self

        class Asked(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.asked.append(f"{self.path} {self.headers['authorization']}")
                status, body = service.says
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *said: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Asked)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def failed(answer: httpx.Response) -> dict[str, Any]:
    return {reason["rule"]: reason for reason in answer.json()["reasons"]}


def accepted(engine: Running, amount: int) -> bool:
    """Whether an entry is taken; again, where a loaded machine has let the last answer grow old."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        name = f"{amount}-{time.monotonic_ns()}"
        answer = engine.desk(buy(signal_id=name, quote_amount=str(amount)), name)
        if answer.status_code == 202 or time.monotonic() > until:
            return answer.status_code == 202
        time.sleep(0.1)


@pytest.mark.parametrize("policy", ["allow", "block"])
def test_a_risk_service_stops_entries_and_its_silence_means_what_the_config_says(tmp_path: Path, policy: str) -> None:
    there = RiskService()
    ess = f"""
[ess]
url = "http://127.0.0.1:{there.port}/api/risk/ess/status"
on_timeout = "{policy}"
every_seconds = 0.1
timeout_seconds = 5
stale_seconds = 6
token_env = "RISK_TOKEN"
"""
    engine = Running(tmp_path, ess)
    engine.environment |= {"RISK_TOKEN": TOKEN}
    try:
        with engine:
            engine.until(lambda health: component(health, "ess")["ok"])
            assert accepted(engine, 100)
            there.says = (200, b'{"level": "CRITICAL", "reason": "venue insolvent"}')
            engine.until(lambda health: any(halt["by"] == "ess/poll" for halt in health["halts"]))
            refused = engine.desk(buy(signal_id="b", quote_amount="200"), "d-2")
            assert refused.status_code == 422 and set(failed(refused)) == {"RSK8.ess", "RSK11.halt"}
            assert failed(refused)["RSK8.ess"]["reason"] == "the risk service says CRITICAL: venue insolvent"
            assert failed(refused)["RSK8.ess"]["limit"] == "6"
            assert engine.desk({"signal_id": "c", "symbol": "BTCUSDT", "action": "close"}, "d-3").status_code == 202
            for nonsense in ((200, b"<html>hello</html>"), (500, b""), (200, b'{"level": "NOR')):
                there.says = nonsense
                before = len(there.asked)
                engine.until(lambda health, before=before: len(there.asked) > before + 1)
                assert engine.desk(buy(signal_id=f"n{before}"), f"n-{before}").status_code == 422, "it still stands"
            there.says = (200, b'{"level": "NORMAL"}')
            engine.until(lambda health: not health["halts"])
            assert accepted(engine, 300)
            there.close()
            engine.until(lambda health: "has not answered" in component(health, "ess")["detail"])
            late = engine.desk(buy(signal_id="f", quote_amount="400"), "d-6")
            assert late.status_code == (202 if policy == "allow" else 422), late.text
            health = engine.client.get("/health").json()
            assert health["entry_ready"] == (policy == "allow")
            assert any(f"on_timeout = {policy}" in note for note in health["notes"])
            explained = engine.client.get("/api/execution/signals/f?format=text").text
            assert f"on_timeout = {policy}" in explained and "RSK8.ess" in explained
            told = {"health": json.dumps(health).encode(), "explained": explained.encode()}
    finally:
        if there.thread.is_alive():
            there.close()
    assert there.asked[0] == f"/api/risk/ess/status Bearer {TOKEN}"
    texts = told | {str(path): path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert leaks([TOKEN], texts) == []
