"""What the command line shows of a run and of a check."""

import io
import json
from decimal import Decimal

import pytest
from msgspec.structs import replace

from engine.core.audit import Finding as AuditFinding
from engine.core.audit import Report
from engine.core.tally import StageFigures
from engine.runtime.terminal import (
    DemoSummary,
    Finding,
    PositionLeft,
    progress,
    show_audit,
    show_findings,
    show_summary,
)

SUMMARY = DemoSummary(
    tape="a[b]c.gz",
    seed=7,
    market_ns=360_000_000_000,
    took_ns=12_000_000_000,
    signals=120,
    verdicts={"executed": 90, "refused": 30},
    refusals={"RSK3.reward_risk_min": 30},
    orders={"filled": 180, "canceled": 90},
    fills=200,
    quote="USDT",
    realised=Decimal("-12.345678"),
    fees=Decimal("1234.5"),
    funding=Decimal("0.1"),
    positions=(PositionLeft(account="main", symbol="ETHUSDT", qty=Decimal("-0.50"), avg_price=Decimal("2400.10")),),
    gaps=2,
    gap_max_ns=1_500_000,
    gap_total_ns=2_000_000,
    latency={"judge": StageFigures(count=120, p50_ns=40_000, p90_ns=60_000, p99_ns=90_000, max_ns=1_000_000)},
    books_balance=True,
)


def shown(summary: DemoSummary, as_json: bool = False) -> str:
    out = io.StringIO()
    show_summary(summary, out, as_json)
    return out.getvalue()


@pytest.mark.parametrize(
    "words",
    [
        "a[b]c.gz, seed 7",
        "360.0 s of market in 12.0 s (30x)",
        "90 executed, 30 refused",
        "30 RSK3.reward_risk_min",
        "180 filled, 90 canceled",
        "-12.35 USDT",
        "-1,234.50 USDT",
        "-1,246.75 USDT",
        "2, longest 1.500 ms, together 2.000 ms",
        "-0.5",
        "2400.1",
        "0.040 ms",
        "The books balance with the venue.",
    ],
)
def test_the_summary_says(words: str):
    assert words in shown(SUMMARY)


def test_what_an_exchange_did_on_purpose_is_told_only_where_it_did():
    assert "faults" not in shown(SUMMARY)
    assert "6 to requests" in shown(replace(SUMMARY, suffered={"to requests": 6}))


def test_a_pipe_gets_no_colours():
    assert "\x1b" not in shown(SUMMARY)


def test_books_that_differ_are_said_last_and_with_the_difference():
    text = shown(replace(SUMMARY, books_balance=False, differences=("ETHUSDT: ours [1], theirs 2",)))
    assert "books differ: ETHUSDT: ours [1], theirs 2" in text
    assert text.endswith("The books do NOT balance.\n")


def test_a_run_in_which_nothing_happened_can_be_shown():
    empty = replace(SUMMARY, verdicts={}, refusals={}, orders={}, positions=(), latency={}, took_ns=0)
    assert "none" in shown(empty)


def test_json_has_every_field_with_money_as_text():
    body = json.loads(shown(SUMMARY, as_json=True))
    assert body["verdicts"] == {"executed": 90, "refused": 30}
    assert body["net"] == "-1246.745678"
    assert body["positions"][0]["qty"] == "-0.50"
    assert body["latency"]["judge"]["p99_ns"] == 90_000
    assert body["books_balance"] is True


def test_findings_are_one_line_each_with_the_problems_marked():
    out = io.StringIO()
    show_findings((Finding("disk", True, "[ok] 2 ms"), Finding("clock", False, "off by 3 s")), out)
    assert out.getvalue() == "ok       disk   [ok] 2 ms\nPROBLEM  clock  off by 3 s\n"


def test_findings_as_json_say_whether_all_is_well():
    out = io.StringIO()
    show_findings((Finding("disk", True, "2 ms"), Finding("clock", False, "off")), out, as_json=True)
    body = json.loads(out.getvalue())
    assert body["ok"] is False
    assert body["findings"][1] == {"name": "clock", "ok": False, "detail": "off"}


REPORT = Report(facts=9, signals=2, orders=3, executions=1, open_signals=1, last_hash="ab" * 32, findings=())


def test_a_sound_audit_says_what_it_looked_at_in_one_line():
    out = io.StringIO()
    show_audit(REPORT, out)
    assert out.getvalue() == (f"sound: 9 facts, 2 signals (1 open), 3 orders, 1 executions; last hash {'ab' * 32}\n")


def test_an_audit_tells_each_finding_with_its_place():
    out = io.StringIO()
    found = (AuditFinding("chain", 7, "does not [follow]"), AuditFinding("orders", 0, "x " * 100))
    show_audit(replace(REPORT, findings=found), out)
    lines = out.getvalue().splitlines()
    assert lines[0] == "PROBLEM  chain, fact 7: does not [follow]"
    assert lines[1].startswith("PROBLEM  orders, tables: x x")
    assert lines[2].startswith("2 finding(s): 9 facts")


def test_an_audit_as_json_says_whether_the_journal_is_sound():
    out = io.StringIO()
    show_audit(REPORT, out, as_json=True)
    assert json.loads(out.getvalue())["sound"] is True


def test_no_progress_is_drawn_into_a_pipe():
    out = io.StringIO()
    with progress("replay", 10, out) as show:
        show(5, "half")
    assert out.getvalue() == ""


def test_progress_on_a_terminal_shows_how_far_it_is():
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    with progress("replay", 10, out) as show:
        show(5, "3 signals")
    assert "50%" in out.getvalue()
    assert "3 signals" in out.getvalue()
