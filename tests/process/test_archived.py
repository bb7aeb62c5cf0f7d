"""Between two lives of an engine everything that can go is archived: it goes on as if nothing had gone (P1, STO3)."""

import json
from pathlib import Path

from engine.runtime.clock import live_clock
from engine.runtime.journal.archive import Asked, archive
from engine.runtime.journal.sqlite_hold import hold_file
from tests.process.site import Site
from tests.process.test_running import order

IDS = ("s1", "s2", "s3")


def closing(signal_id: str, symbol: str) -> dict[str, object]:
    return {"signal_id": signal_id, "symbol": symbol, "action": "close"}


def test_archived_signals_that_come_again_are_answered_as_they_ended_and_never_executed(tmp_path: Path) -> None:
    with Site(tmp_path) as site:
        site.start()
        bodies = [order("s1"), order("s2", symbol="ETHUSDT", side="sell"), closing("s3", "BTCUSDT")]
        for body in bodies:
            assert site.post(body).status_code == 202
            site.rested()
        refused = site.post(order("refused", quote_amount="999999999"))
        assert refused.status_code == 422
        first = {body["signal_id"]: site.post(body).json() for body in bodies}
        assert all(first[signal_id]["outcome"] == "executed" for signal_id in IDS)
        before = site.rested()
        held_up = site.run("journal", "archive")
        assert held_up.returncode == 4 and "another engine is running on this journal" in held_up.stderr
        assert site.end() == 0

        path = tmp_path / "var" / "journal.sqlite"
        report = archive(
            hold_file(path, live_clock().now_ns()), Asked(keep_ns=0, now_ns=live_clock().now_ns(), by="test")
        )
        assert sum(part.signals for part in report.parts) == 4

        site.start()
        again = {body["signal_id"]: site.post(body) for body in bodies}
        assert {answer.status_code for answer in again.values()} == {200}
        assert {signal_id: answer.json() for signal_id, answer in again.items()} == first
        assert site.post(order("s1", quote_amount="600")).status_code == 409
        answer = site.post(order("refused", quote_amount="999999999"))
        assert answer.status_code == 200 and answer.json()["reasons"] == refused.json()["reasons"]
        assert "executed" in site.run("explain", "s1").stdout
        after = site.rested()
        assert [o.cid for o in after.orders] == [o.cid for o in before.orders]
        assert after.executions == before.executions

        assert site.post(closing("s4", "ETHUSDT")).status_code == 202
        truth = site.rested()
        assert not [p for p in truth.positions if p.qty]
        assert site.end() == 0
        audited = site.run("audit", "verify", "--json")
        assert audited.returncode == 0, audited.stdout + audited.stderr
        told = json.loads(audited.stdout)
        assert told["sound"] is True and told["signals"] == 5 and told["notes"] == []
