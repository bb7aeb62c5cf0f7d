"""The engine as a person runs it: fed over HTTP and stdin, asked, stopped, resumed, flattened, ended by TERM."""

import json
import time
from pathlib import Path

from tests.engine_toml import Words
from tests.patience import PATIENCE_SECONDS
from tests.process.site import Site


def order(signal_id: str, **changes: object) -> dict[str, object]:
    body = {"signal_id": signal_id, "symbol": "BTCUSDT", "action": "open", "side": "buy", "quote_amount": "500"}
    return {**body, **changes}


def held(site: Site) -> dict[str, str]:
    return {p["symbol"]: p["qty"] for p in site.get("/positions")["positions"] if float(p["qty"])}


def test_an_engine_is_fed_asked_stopped_resumed_flattened_and_ended(tmp_path: Path, journal: Words) -> None:
    with Site(tmp_path, more='[[sources]]\nkind = "stdin"', journal=journal) as site:
        site.start()
        taken = site.post(order("s1"))
        assert taken.status_code == 202, taken.text
        assert site.post(order("s1")).status_code == 200
        assert site.post(order("s1", quote_amount="600")).status_code == 409
        wrong = site.post(order("s2", stop_lost="1", side="up"))
        assert wrong.status_code == 422 and "stop_lost" in wrong.text and "side" in wrong.text

        assert site.engine.stdin is not None
        site.engine.stdin.write("not json\n" + json.dumps(order("from-stdin", symbol="ETHUSDT")) + "\n")
        site.engine.stdin.flush()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while set(held(site)) != {"BTCUSDT", "ETHUSDT"}:
            assert time.monotonic() < deadline, site.logs()
            time.sleep(0.05)
        truth = site.rested()
        assert site.differences(truth) == []

        told = site.get("/signals/s1")
        assert told["signal"]["signal_id"] == "s1" and told["outcome"] == "executed"
        explained = site.run("explain", "s1")
        assert explained.returncode == 0 and "s1" in explained.stdout and "RSK" in explained.stdout

        second = site.run("run")
        assert second.returncode == 4
        assert "another engine is running on this journal" in second.stderr

        stopped = site.run("stop", "--reason", "a rehearsal", "--json")
        assert stopped.returncode == 0, stopped.stdout + stopped.stderr
        assert json.loads(stopped.stdout)["complete"] is True
        assert held(site) == {}
        assert site.post(order("s3")).status_code == 422
        assert site.run("resume").returncode == 0
        assert site.post(order("s4")).status_code == 202
        site.rested()
        assert set(held(site)) == {"BTCUSDT"}
        assert site.run("flatten").returncode == 0
        assert held(site) == {}
        assert site.post(order("s5")).status_code == 202
        site.rested()

        assert site.end() == 0
        truth = site.truth()
        assert site.differences(truth) == []
        confirmed = [e["key"] for e in site.events() if e["name"] == "trade_confirmations"]
        assert sorted(confirmed) == ["from-stdin", "s1", "s3", "s4", "s5"]
        audited = site.run("audit", "verify")
        assert audited.returncode == 0, audited.stdout + audited.stderr
        after = site.run("explain", "s3")
        assert after.returncode == 0 and "a rehearsal" in after.stdout
