"""`surefire exchange`: serving, giving a running one orders, and what it says when something is wrong."""

import json
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

import run
from engine.runtime.commandline import FAILED, OK, REFUSED, UNREACHABLE, USAGE
from tests.exchange.site import ROOT, exchange


def tell(port: int, *words: str) -> int:
    return run.main(["exchange", *words, "--port", str(port)])


def test_a_running_exchange_takes_orders_from_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    with exchange() as site:
        port = site.ports["binance-usdm"]  # any face's will do
        assert tell(port, "fault", "refuse", "on=order.", "code=-1007", "text=no answer", "times=2") == OK
        planned = json.loads(capsys.readouterr().out)["faults"][0]
        assert (planned["do"], planned["code"], planned["text"], planned["times"]) == ("refuse", -1007, "no answer", 2)
        book = ['bids=[["50000","1"]]', 'asks=[["50001","1"]]']
        assert tell(port, "do", "book", "symbol=BTCUSDT", *book) == OK
        assert tell(port, "do", "liquidate", "face=bybit", "symbol=BTCUSDT") == OK
        assert "there is no position in BTCUSDT to liquidate" in capsys.readouterr().out
        assert tell(port, "clear") == OK
        capsys.readouterr()
        assert tell(port, "state") == OK
        assert json.loads(capsys.readouterr().out)["faults"] == []
        assert tell(port, "truth") == OK
        assert set(json.loads(capsys.readouterr().out)) == {"bybit", "binance-spot", "binance-usdm"}
        assert tell(port, "do", "nonsense") == FAILED
        assert tell(port, "fault", "refuse", "on") == USAGE
        assert "is not key=value" in capsys.readouterr().err


def test_an_exchange_that_is_not_there_is_code_3(capsys: pytest.CaptureFixture[str]) -> None:
    with exchange() as site:
        gone = site.ports["bybit"]
    assert tell(gone, "truth") == UNREACHABLE
    assert f"no exchange answers on 127.0.0.1:{gone}" in capsys.readouterr().err


def test_a_port_that_is_taken_is_code_4() -> None:
    with exchange() as site:
        command = [sys.executable, "run.py", "exchange", "--port", str(site.ports["bybit"])]
        second = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert second.returncode == REFUSED
        assert f"refused to start: bybit cannot listen on 127.0.0.1, port {site.ports['bybit']}: " in second.stderr


def test_terms_of_ones_own_are_obeyed_and_a_mistake_in_them_is_code_2(tmp_path: Path) -> None:
    terms = tmp_path / "terms.json"
    keys = [{"key": "k1", "secret": "s1", "account": "one"}, {"key": "k2", "secret": "s2", "account": "two"}]
    terms.write_text(json.dumps({"keys": keys, "balances": {"USDT": "7"}}))
    with exchange("--tape", "still", "--terms", str(terms)) as site:
        for account in ("one", "two"):
            purse = site.truth("bybit", account)["balances"]
            assert [(balance["asset"], balance["total"]) for balance in purse] == [("USDT", "7")]
    terms.write_text(json.dumps({"keys": keys, "purse": {}}))
    assert run.main(["exchange", "--port", "0", "--terms", str(terms)]) == USAGE
    assert run.main(["exchange", "--port", "0", "--tape", str(tmp_path / "none.gz")]) == REFUSED


def test_the_market_may_be_a_recording(tmp_path: Path) -> None:
    lines = []
    for second, bid, ask in ((0, "2000.00", "2000.50"), (1, "2001.00", "2001.50")):
        data = {"u": second + 1, "s": "ETHUSDT", "b": bid, "B": "5", "a": ask, "A": "5"}
        message = json.dumps({"stream": "ethusdt@bookTicker", "data": data})
        lines.append(f"{1_700_000_000_000_000_000 + second * 1_000_000_000} {message}")
    tape = tmp_path / "tape.txt"
    tape.write_text("\n".join(lines) + "\n")
    with exchange("--tape", str(tape)) as site:
        asked = f"http://127.0.0.1:{site.ports['binance-spot']}/api/v3/ticker/bookTicker?symbol=ETHUSDT"
        deadline = time.monotonic() + 60
        while httpx.get(asked, trust_env=False).json()["askPrice"] != "2001.5":
            assert time.monotonic() < deadline
            time.sleep(0.05)
