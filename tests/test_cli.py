"""The command line as a person and a script meet it: words, exit codes, JSON."""

import json
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import trio

import run
from engine.core.messages import Halt, Halted, Limits, LimitsRow, LimitsSet, PositionReport
from engine.runtime.clock import live_clock
from engine.runtime.commandline import EXIT_CODES, FAILED, INTERRUPTED, OK, REFUSED, UNREACHABLE, USAGE
from engine.runtime.config import parse
from engine.runtime.journal.sqlite import SqliteJournal
from engine.web import app, asking
from engine.web.ports import Left, ResumeReport, StopReport
from engine.web.views import Problem, Reason
from engine.web.wire import encode
from tests.postgres import PASSWORD, Server
from tests.runtime.test_archive import OnFile, OnServer, fill

COMMANDS = (
    "run",
    "demo",
    "venue",
    "exchange",
    "check",
    "explain",
    "audit",
    "journal",
    "keys",
    "stop",
    "resume",
    "flatten",
    "limits",
    "clear",
)


@contextmanager
def engine_answering(status: int, body: bytes) -> Iterator[tuple[str, list[tuple[str, str, bytes]]]]:
    """A port on which something answers every request the same way; and what it was asked."""
    asked: list[tuple[str, str, bytes]] = []

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            length = int(self.headers.get("content-length", 0))
            asked.append((self.command, self.path, self.rfile.read(length)))
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_PATCH = do_POST

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield str(server.server_address[1]), asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def nobody() -> str:
    """A port on which nothing answers."""
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        return str(server.server_address[1])


def config(folder: Path, text: str) -> str:
    path = folder / "surefire.toml"
    path.write_text(text)
    return str(path)


# ------------------------------------------------------------------------------------------------------------- words


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_teaches_with_an_example_and_its_exit_codes(command: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as left:
        run.main([command, "--help"])
    text = capsys.readouterr().out
    assert left.value.code == 0
    assert f"surefire {command}" in text.split("examples:")[1]
    assert EXIT_CODES.strip() in text
    assert "--json" in text


def test_the_help_names_every_command(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        run.main(["--help"])
    text = capsys.readouterr().out
    assert [name for name in (*COMMANDS, "simulate") if f"\n    {name} " not in text] == []


def test_every_command_of_the_help_can_be_run():
    assert tuple(run.COMMANDS) == COMMANDS


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (["run", "--port", "x"], "'x' is not a port: a whole number from 0 to 65535"),
        (["run", "--port", "70000"], "'70000' is not a port"),
        (["journal", "archive", "--keep-days", "0"], "'0' is not days: a whole number from 1 to"),
    ],
)
def test_an_argument_that_cannot_be_is_told_in_words(wrong: list[str], told: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        run.main(wrong)
    assert told in capsys.readouterr().err


def test_a_start_that_fails_names_the_file_or_the_port_and_no_number_of_the_system(tmp_path: Path, repo_root: Path):
    def refused(*words: str) -> str:
        command = [sys.executable, "run.py", "run", *words]
        done = subprocess.run(command, cwd=repo_root, capture_output=True, text=True, check=False)
        assert done.returncode == REFUSED
        return done.stderr.splitlines()[-1]

    (tmp_path / "file").write_bytes(b"")
    folder = str(tmp_path / "file" / "var")
    assert refused("--port", "0", "--data-dir", folder) == f"surefire: refused to start: {folder}: Not a directory"
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        told = refused("--port", port, "--data-dir", str(tmp_path / "var"))
    cannot = f"the API cannot listen on 127.0.0.1, port {port}: Address already in use"
    assert told == f"surefire: refused to start: {cannot}"


def test_help_answers_at_once_because_it_loads_nothing(repo_root: Path):
    slow = ("trio", "msgspec", "httpx", "rich", "litestar", "structlog")
    code = f"import run, sys; run.parser(); print([name for name in {slow} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=repo_root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_exit_codes_that_are_documented_are_those_that_are_used():
    documented = [int(code) for code in re.findall(r"^  (\d+)", EXIT_CODES, re.MULTILINE)]
    assert documented == [OK, FAILED, USAGE, UNREACHABLE, REFUSED, INTERRUPTED]


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        ["fly"],
        ["run", "--port", "70000"],
        ["run", "--port", "x"],
        ["explain"],
        ["audit", "all"],
        ["journal", "burn"],
    ],
)
def test_wrong_arguments_are_code_2(wrong: list[str], capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as left:
        run.main(wrong)
    assert left.value.code == USAGE
    assert "usage:" in capsys.readouterr().err


def test_a_wrong_config_is_code_2_with_every_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = config(tmp_path, '[journal]\ndurabilty = "power"\n[api]\nprot = 1\n')
    assert run.main(["check", "--config", path]) == USAGE
    told = capsys.readouterr().err
    assert "line 2: unknown key 'durabilty' in [journal]; did you mean 'durability'?" in told
    assert "line 4: unknown key 'prot' in [api]; did you mean 'port'?" in told


def test_the_configs_in_the_readme_are_valid(repo_root: Path):
    examples = re.findall(r"```toml\n(.*?)```", (repo_root / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert examples
    for example in examples:
        parse(example, "README.md")
    shipped = sorted((repo_root / "engine" / "examples").glob("*.toml"))
    assert shipped
    for path in shipped:
        parse(path.read_text(encoding="utf-8"), path.name)


# -------------------------------------------------------------------------------------------- asking a running engine


@pytest.mark.parametrize("command", ["stop", "resume", "flatten", "limits"])
def test_no_engine_is_code_3_and_says_where_it_was_looked_for(
    command: str, nobody: str, capsys: pytest.CaptureFixture[str]
):
    assert run.main([command, "--port", nobody]) == UNREACHABLE
    assert f"no engine answers on 127.0.0.1:{nobody}" in capsys.readouterr().err


def test_a_stop_that_is_complete_is_code_0_and_tells_the_engine_who_asked(capsys: pytest.CaptureFixture[str]):
    halt = Halt(scope="engine", reason="stopped: news", since_ns=1, by="me")
    report = encode(StopReport(by="me", reason="news", complete=True, halted=True, halts=(halt,)))
    with engine_answering(200, report) as (port, asked):
        assert run.main(["stop", "--reason", "news", "--port", port]) == OK
    method, path, body = asked[0]
    assert (method, path) == ("POST", "/api/execution/stop")
    assert json.loads(body) | {"by": ""} == {"by": "", "reason": "news", "flatten": True}
    assert "command line" in json.loads(body)["by"]
    told = capsys.readouterr().out
    assert "halted: engine, stopped: news (by me)" in told
    assert told.endswith("complete: the venue shows nothing left\n")


def test_a_stop_that_leaves_something_is_code_1_and_says_what(capsys: pytest.CaptureFixture[str]):
    held = PositionReport(symbol="BTCUSDT", qty=Decimal("0.50"))
    left = (Left(account="main", positions=(held,)), Left(account="far", unknown="timed out"))
    report = StopReport(by="me", reason="", complete=False, durable=False, left=left, problems=("gate is stuck",))
    with engine_answering(202, encode(report)) as (port, asked):
        assert run.main(["flatten", "--account", "main", "--port", port]) == FAILED
    assert json.loads(asked[0][2])["account"] == "main"
    told = capsys.readouterr().out
    assert "main/BTCUSDT: still holds 0.5" in told
    assert "far: NOT known, the venue could not be asked: timed out" in told
    assert "problem: gate is stuck" in told
    assert "would not survive a restart" in told
    assert "NOT complete" in told


def test_stop_can_leave_positions_as_they_are():
    with engine_answering(200, encode(StopReport(by="", reason="", complete=True))) as (port, asked):
        assert run.main(["stop", "--keep-positions", "--port", port]) == OK
    assert json.loads(asked[0][2])["flatten"] is False


def test_json_is_the_engines_own_answer(capsys: pytest.CaptureFixture[str]):
    body = encode(StopReport(by="me", reason="", complete=True))
    with engine_answering(200, body) as (port, _):
        run.main(["stop", "--json", "--port", port])
    assert json.loads(capsys.readouterr().out) == json.loads(body)


def test_resume_says_what_is_still_halted(capsys: pytest.CaptureFixture[str]):
    ended = Halt(scope="engine", reason="news", since_ns=1, by="ann", kind="stop")
    other = Halt(scope="account/main", reason="daily loss", since_ns=1, by="gate", kind="loss")
    told = ResumeReport(halts=(other,), ended=(ended,), remains=("ess.tripped (by event/http): ess.cleared ends it",))
    with engine_answering(200, encode(told)) as (port, asked):
        assert run.main(["resume", "--kind", "stop", "--note", "looked", "--port", port]) == OK
    body = json.loads(asked[0][2])
    assert (body["scope"], body["kind"], body["note"]) == ("engine", "stop", "looked")
    assert capsys.readouterr().out.splitlines() == [
        "resumed: engine, stop by ann: news",
        "still closed: engine, ess.tripped (by event/http): ess.cleared ends it",
        "still halted: account/main, daily loss (by gate)",
    ]


def test_limits_are_shown_and_changed_with_the_types_that_the_engine_wants(capsys: pytest.CaptureFixture[str]):
    row = LimitsRow("main", 4, Limits(positions_max=2, symbols=("BTCUSDT",)), "ann", 1)
    with engine_answering(200, encode({"limits": [row, LimitsRow("far", 1, Limits(), "config", 1)]})) as (port, asked):
        assert run.main(["limits", "main", "--port", port]) == OK
        told = capsys.readouterr().out.splitlines()
        assert run.main(["limits", "nobody", "--port", port]) == FAILED
    assert asked[0][:2] == ("GET", "/api/execution/limits")
    assert told[0] == "main:" and "  positions_max = 2" in told and "  symbols = BTCUSDT" in told
    assert (
        "  stop_required = true" in told
        and "  balance_share = 0.02" in told
        and not any("far" in line for line in told)
    )
    capsys.readouterr()
    changes = ["positions_max=2", "daily_loss_max=250.5", "symbols=BTCUSDT,ETHUSDT", "stop_required=true", "orders_x=y"]
    with engine_answering(200, encode({"account": "main", "limits": row.limits})) as (port, asked):
        assert run.main(["limits", "main", *changes[:4], "--port", port]) == OK
        assert run.main(["limits", "main", "positions_max 2", "--port", port]) == USAGE
        run.main(["limits", "main", changes[4], "--json", "--port", port])
    assert asked[0][:2] == ("PATCH", "/api/execution/limits/main")
    assert json.loads(asked[0][2]) == {
        **{"positions_max": 2, "daily_loss_max": "250.5", "symbols": ["BTCUSDT", "ETHUSDT"], "stop_required": True}
    }
    assert json.loads(asked[1][2]) == {"orders_x": "y"}, "what is no limit, the engine says"
    assert len(asked) == 2
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == ["main:", "  positions_max = 2", "  daily_loss_max = 500"]


def test_a_refusal_is_code_1_in_the_engines_words(capsys: pytest.CaptureFixture[str]):
    body = encode(Problem(error="not found", reasons=(Reason(field="scope", reason="there is no such halt"),)))
    with engine_answering(404, body) as (port, _):
        assert run.main(["resume", "--scope", "account/x", "--port", port]) == FAILED
    assert "not found: scope: there is no such halt" in capsys.readouterr().err


def test_an_answer_that_is_not_the_engines_is_told_by_its_status(capsys: pytest.CaptureFixture[str]):
    with engine_answering(502, b"<html>") as (port, _):
        assert run.main(["resume", "--port", port]) == FAILED
    assert "status 502" in capsys.readouterr().err


def test_the_command_line_asks_where_the_api_answers():
    assert asking.BASE == app.BASE


def test_explain_asks_the_running_engine_with_any_id(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with engine_answering(200, b"signal a/b c: executed\n") as (port, asked):
        path = config(tmp_path, f"[api]\nport = {port}\n")
        assert run.main(["explain", "a/b c", "--config", path]) == OK
    assert asked[0][:2] == ("GET", "/api/execution/signals/a%2Fb%20c?format=text")
    assert capsys.readouterr().out == "signal a/b c: executed\n"


def test_explain_without_engine_and_journal_is_code_3(tmp_path: Path, nobody: str, capsys: pytest.CaptureFixture[str]):
    path = config(tmp_path, f"[api]\nport = {nobody}\n")
    assert run.main(["explain", "s1", "--config", path, "--data-dir", str(tmp_path)]) == UNREACHABLE
    assert "the journal cannot be read" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------- check


def test_check_looks_at_everything_and_leaves_nothing_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    code = run.main(["check", "--json", "--data-dir", str(tmp_path)])
    told = json.loads(capsys.readouterr().out)
    # Whether this machine's clock is being set just now, or its disk is busy, is not for a test of ours to say.
    assert {f["name"] for f in told["findings"] if not f["ok"]} <= {"clock", "disk"}
    assert told["ok"] is all(f["ok"] for f in told["findings"])
    assert code == (OK if told["ok"] else FAILED)
    names = ["config", "clock", "disk", "api", "journal", "market", "venue of main"]
    assert [f["name"] for f in told["findings"]] == names
    assert list(tmp_path.iterdir()) == []


def test_check_says_which_token_of_the_api_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.delenv("DESK_TOKEN", raising=False)
    path = config(tmp_path, '[[api.tokens]]\nname = "desk"\nroles = ["read"]\nenv = "DESK_TOKEN"\n')
    assert run.main(["check", "--config", path, "--data-dir", str(tmp_path)]) == FAILED
    told = " ".join(capsys.readouterr().out.split())
    assert "PROBLEM api the environment variable DESK_TOKEN, for the token desk of the API, is not set" in told


def test_check_says_which_tape_cannot_be_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = config(tmp_path, '[market]\nkind = "recorded"\ntape = "none.gz"\n')
    assert run.main(["check", "--config", path, "--data-dir", str(tmp_path)]) == FAILED
    assert re.search(r"^PROBLEM +market +none\.gz", capsys.readouterr().out, re.MULTILINE)


def test_check_says_which_venue_does_not_answer(tmp_path: Path, nobody: str, capsys: pytest.CaptureFixture[str]):
    path = config(tmp_path, f'[accounts.far]\nvenue = "link"\nport = {nobody}\n[accounts.far.limits]\n')
    assert run.main(["check", "--config", path, "--data-dir", str(tmp_path)]) == FAILED
    assert re.search(rf"^PROBLEM +venue of far +127\.0\.0\.1:{nobody}", capsys.readouterr().out, re.MULTILINE)


def test_check_prints_nothing_but_its_findings_whatever_an_adapter_logs(
    tmp_path: Path, nobody: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("SOME_KEY", "key")
    monkeypatch.setenv("SOME_SECRET", "secret")
    account = f'[accounts.main]\nvenue = "bybit"\nhost = "http://127.0.0.1:{nobody}"\ncategory = "linear"\n'
    keys = 'key_env = "SOME_KEY"\nsecret_env = "SOME_SECRET"\n[accounts.main.limits]\n'
    path = config(tmp_path, '[engine]\nenv = "testnet"\n' + account + keys)
    assert run.main(["check", "--json", "--config", path, "--data-dir", str(tmp_path)]) == FAILED
    told = capfd.readouterr()
    assert json.loads(told.out)["ok"] is False
    assert "order socket down" in told.err


def test_check_says_what_is_wrong_with_a_journal(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "journal.sqlite").write_bytes(b"this is no journal, but long enough to be looked at" * 100)
    assert run.main(["check", "--data-dir", str(tmp_path)]) == FAILED
    assert re.search(r"^PROBLEM +journal .*journal\.sqlite", capsys.readouterr().out, re.MULTILINE)


# --------------------------------------------------------------------------------------------------- keeping a journal


def test_archive_without_a_journal_and_retain_without_an_age_say_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data = ["--data-dir", str(tmp_path)]
    assert run.main(["journal", "archive", *data]) == REFUSED
    assert run.main(["journal", "archive", "--dry-run", *data]) == REFUSED
    assert capsys.readouterr().err.count("there is no journal here") == 2
    assert run.main(["journal", "retain", *data]) == USAGE
    assert "say --keep-days" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        run.main(["journal", "retain", "--keep-days", "0", *data])
    assert list(tmp_path.iterdir()) == []


def test_the_audit_log_tells_who_did_what_the_latest_last(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    data = ["--data-dir", str(tmp_path)]
    assert run.main(["audit", "log", *data]) == REFUSED
    assert "there is no journal here" in capsys.readouterr().err
    trio.run(_acted, tmp_path / "journal.sqlite")
    assert run.main(["audit", "log", *data]) == OK
    assert capsys.readouterr().out.splitlines() == [
        "2024-08-08 12:00:00  ann halted account/main: lunch",
        "2024-08-08 12:00:01  ann set limits, version 1 [main]: daily_loss_max: 500 -> 300",
    ]
    assert run.main(["audit", "log", "--last", "1", "--json", *data]) == OK
    (entry,) = json.loads(capsys.readouterr().out)["entries"]
    assert (entry["who"], entry["what"], entry["account"]) == ("ann", "set limits, version 1", "main")


async def _acted(path: Path) -> None:
    noon, changed = 1_723_118_400 * 1_000_000_000, (("daily_loss_max", "500", "300"),)
    halted = Halted(at_ns=noon, halt=Halt("account/main", "lunch", noon, "ann"))
    limits = LimitsSet(at_ns=noon + 10**9, account="main", version=1, limits=Limits(), by="ann", changed=changed)
    journal = SqliteJournal(path, "process", live_clock())
    await journal.open()
    await journal.durable(journal.append((halted, limits)))
    await journal.close()


def test_old_facts_are_archived_found_by_the_audit_and_deleted(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The journal of this test is of November 2025."""
    path = tmp_path / "journal.sqlite"
    trio.run(fill, OnFile(path), 0, 20)
    data = ["--data-dir", str(tmp_path)]

    assert run.main(["journal", "archive", "--dry-run", *data]) == OK
    assert "would move facts-000000000001-000000000120.ndjson.gz: 120 facts, 20 signals" in capsys.readouterr().out
    assert run.main(["journal", "archive", "--keep-days", "30", "--json", *data]) == OK
    told = json.loads(capsys.readouterr().out)
    assert [(p["first_seq"], p["last_seq"], p["signals"]) for p in told["parts"]] == [(1, 120, 20)]
    assert told["dry_run"] is False and told["left"] == ""
    assert run.main(["journal", "archive", *data]) == OK
    assert "nothing is old enough" in capsys.readouterr().out

    assert run.main(["audit", "verify", *data]) == OK
    assert "sound: 121 facts, 20 signals" in capsys.readouterr().out
    elsewhere = tmp_path / "cold"
    (tmp_path / "journal.sqlite.archive").rename(elsewhere)
    assert run.main(["audit", "verify", *data]) == FAILED
    assert "is not there" in capsys.readouterr().out
    assert run.main(["audit", "verify", "--archives", str(elsewhere), *data]) == OK
    elsewhere.rename(tmp_path / "journal.sqlite.archive")

    capsys.readouterr()
    assert run.main(["journal", "retain", "--keep-days", "90", *data]) == OK
    assert "deleted facts-000000000001-000000000120.ndjson.gz: 120 facts" in capsys.readouterr().out
    assert run.main(["audit", "verify", *data]) == OK
    assert "note: facts 1 to 120 were not looked at" in capsys.readouterr().out


def test_a_journal_on_a_server_is_archived_and_audited_and_its_archives_are_deleted(
    postgres: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    place = OnServer(postgres, tmp_path)
    trio.run(fill, place, 0, 5)
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    section = f'[journal]\nurl = "{postgres.url}"\nschema = "{place.at.schema}"\n'
    data = ["--config", config(tmp_path, section), "--data-dir", str(tmp_path)]
    assert run.main(["journal", "archive", "--dry-run", *data]) == OK
    assert "would move facts-000000000001-000000000030.ndjson.gz: 30 facts, 5 signals" in capsys.readouterr().out
    assert run.main(["journal", "archive", *data]) == OK
    assert [file.name for file in place.folder.iterdir()] == ["facts-000000000001-000000000030.ndjson.gz"]
    assert run.main(["audit", "verify", *data]) == OK
    assert "sound: 31 facts, 5 signals" in capsys.readouterr().out
    assert run.main(["journal", "retain", "--keep-days", "90", *data]) == OK
    assert "deleted facts-000000000001-000000000030.ndjson.gz" in capsys.readouterr().out
    assert run.main(["audit", "verify", *data]) == OK
    assert list(place.folder.iterdir()) == []
