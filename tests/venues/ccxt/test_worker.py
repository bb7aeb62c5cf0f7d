"""The worker against an exchange that says what nobody promised, and the engine against a worker that does."""

import json
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import trio
from msgspec.structs import replace

from engine.core.messages import Acked, Cancel, Failed, Rejection, Silence
from engine.venues.ccxt import process
from engine.venues.ccxt.lines import Hello, Ready, Told, encode
from engine.venues.ccxt.process import Gone, Lines, Lost, Worker, environment
from engine.venues.ccxt.rows import OrderRow
from engine.venues.ccxt.worker import at, code_in, holds_rows, loads
from tests.exchange.site import Site
from tests.patience import PATIENCE_SECONDS
from tests.venues.ccxt.local import BYBIT, D, account, eventually, nothing, order

INSTRUMENT = {
    "symbol": "BTCUSDT",
    "contractType": "LinearPerpetual",
    "status": "Trading",
    "baseCoin": "BTC",
    "quoteCoin": "USDT",
    "settleCoin": "USDT",
    "launchTime": "1585526400000",
    "leverageFilter": {"minLeverage": "1", "maxLeverage": "100", "leverageStep": "0.01"},
    "priceFilter": {"minPrice": "0.1", "maxPrice": "1999999.8", "tickSize": "0.1"},
    "lotSizeFilter": {"maxOrderQty": "1190", "minOrderQty": "0.001", "qtyStep": "0.001", "minNotionalValue": "5"},
}


class FakeBybit:
    """Answers what a test tells it to, by the end of a path; lists, time and account as an exchange in good health."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.bodies: dict[str, Any] = {}  # the last one sent to a path
        self.answers: dict[str, tuple[int, bytes, dict[str, str]]] = {}
        self.say("market/instruments-info", {"category": "linear", "list": [INSTRUMENT], "nextPageCursor": ""})
        self.say("market/time", {"timeSecond": "1700000000", "timeNano": "1700000000000000000"})
        self.say("user/query-api", {"unified": 1, "uta": 1})

    def say(self, path: str, result: Any, code: int = 0) -> None:
        body = {"retCode": code, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": 1_700_000_000_000}
        self.raw(path, json.dumps(body).encode())

    def raw(self, path: str, body: bytes, status: int = 200, **headers: str) -> None:
        self.answers[path] = (status, body, headers)

    def answer(self, path: str) -> tuple[int, bytes, dict[str, str]]:
        self.asked.append(path)
        empty = json.dumps({"retCode": 0, "retMsg": "OK", "result": {"list": []}, "time": 1}).encode()
        return next((said for end, said in self.answers.items() if path.endswith(end)), (200, empty, {}))


@contextmanager
def fake() -> Iterator[tuple[FakeBybit, Site]]:
    bybit = FakeBybit()

    class Answering(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            sent = self.rfile.read(int(self.headers.get("content-length") or 0))
            path = self.path.partition("?")[0]
            bybit.bodies[path] = json.loads(sent) if sent else None
            status, body, headers = bybit.answer(path)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield bybit, Site({"bybit": server.server_port})
    finally:
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE_SECONDS)


ODD = {
    "HTML with status 200": b"<html><body>Welcome to the jungle</body></html>",
    "half a JSON text": b'{"retCode": 0, "result": {"list": [{"orderId": "1"',
    "nothing": b"",
    "null": b"null",
    "a list where an object belongs": b"[1, 2, 3]",
    "no result": b'{"retCode": 0, "retMsg": "OK"}',
    "a result of another type": b'{"retCode": 0, "result": "none", "time": 1}',
    "nested too deep": b'{"retCode": 0, "result": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "another encoding": b'{"retCode": 0, "result": {"list": [{"orderId": "\xff\xfe"}]}}',
    "a code that nobody knows": b'{"retCode": 987654, "retMsg": "?", "result": {}}',
}


async def test_odd_answers_are_doubt_about_orders_and_failures_of_questions_and_one_worker_bears_them_all() -> None:
    pytest.importorskip("ccxt")
    with fake() as (bybit, site):
        async with account(site, BYBIT) as venue:
            for name, body in ODD.items():
                for path in ("order/create", "order/realtime", "execution/list", "position/list", "wallet-balance"):
                    bybit.raw(path, body)
                bybit.asked.clear()
                assert isinstance(await venue.submit(order(name), nothing), Silence), name
                assert bybit.asked.count("/v5/order/create") == 1, f"{name}: nothing is sent twice"
                for question in (venue.open_orders, venue.positions, venue.balances):
                    answer = await question()
                    assert isinstance(answer, Failed), (name, question, answer)
                answer = await venue.fills(venue._site.venue_ns())
                assert isinstance(answer, Failed), (name, answer)
            assert (venue.orders.starts, venue.questions.starts) == (1, 1)


async def test_rows_that_lack_something_or_are_not_exact_are_never_half_believed() -> None:
    pytest.importorskip("ccxt")
    row = {"symbol": "BTCUSDT", "orderId": "1", "orderLinkId": "x", "side": "Buy", "orderStatus": "New"}
    row |= {"orderType": "Limit", "qty": "1", "cumExecQty": "0", "price": "1", "createdTime": "1700000000000"}
    trade = {"symbol": "BTCUSDT", "orderId": "1", "orderLinkId": "x", "side": "Buy", "execId": "e", "execQty": "1"}
    trade |= {"execPrice": "1", "execFee": "0.1", "execTime": "1700000000000", "execType": "Trade"}
    with fake() as (bybit, site):
        async with account(site, BYBIT) as venue:
            bybit.say("order/realtime", {"list": [row]})
            assert [o.cid for o in await venue.open_orders()] == ["x"]  # type: ignore[union-attr]
            for lack in ({"orderId": None}, {"side": None}, {"orderStatus": "Dreaming"}, {"qty": None}, {"qty": "NaN"}):
                bybit.say("order/realtime", {"list": [row | lack]})
                assert isinstance(await venue.open_orders(), Failed), lack
            trade["execTime"] = str(venue._site.venue_ns() // 1_000_000)
            venue._executions._funded_ms = venue._site.venue_ns() // 1_000_000  # funding is not what this is about
            bybit.say("execution/list", {"list": [trade]})
            assert len(await venue.fills(venue._site.venue_ns() - 10**9)) == 1  # type: ignore[arg-type]
            for lack in ({"execId": None}, {"orderId": ""}, {"execQty": None}, {"execPrice": "-1"}, {"execTime": None}):
                bybit.say("execution/list", {"list": [trade | lack]})
                assert isinstance(await venue.fills(venue._site.venue_ns() - 10**10), Failed), lack
            # A number that JSON writes without quotes is read as it is written, not as the nearest float.
            exact = json.dumps({"list": [trade | {"execQty": 7}]}).replace("7", "0.12345678901234567", 1)
            bybit.raw("execution/list", b'{"retCode": 0, "result": ' + exact.encode() + b', "time": 1}')
            fills = await venue.fills(venue._site.venue_ns() - 10**10)
            assert [str(fill.qty) for fill in fills] == ["0.12345678901234567"]  # type: ignore[union-attr]


async def test_a_full_answer_is_cut_into_parts_and_that_ends() -> None:
    """Bybit tells the newest first: what lies behind a full page would be missed if one asked on from its end."""
    pytest.importorskip("ccxt")
    trade = {"symbol": "BTCUSDT", "orderId": "1", "orderLinkId": "x", "side": "Buy", "execQty": "1", "execPrice": "1"}
    with fake() as (bybit, site):
        async with account(site, BYBIT) as venue:
            trade |= {"execTime": str(venue._site.venue_ns() // 1_000_000), "execType": "Trade"}
            bybit.say("execution/list", {"list": [trade | {"execId": f"e{n}"} for n in range(100)]})
            bybit.asked.clear()
            answer = await venue.fills(venue._site.venue_ns() - 10**9)
            assert isinstance(answer, Failed) and "more executions than one answer shows" in answer.why
            assert bybit.asked.count("/v5/execution/list") < 30


async def test_redirects_other_hosts_and_limits() -> None:
    pytest.importorskip("ccxt")
    with fake() as (bybit, site), fake() as (elsewhere, other):
        async with account(site, BYBIT) as venue:
            elsewhere.asked.clear()
            bybit.raw("order/create", b"", 307, Location=f"http://127.0.0.1:{other.ports['bybit']}/v5/order/create")
            assert isinstance(await venue.submit(order("moved"), nothing), Silence)
            assert elsewhere.asked == [], "an order is not carried on to another address"
            bybit.raw(
                "order/create", b'{"retCode": 10006, "retMsg": "Too many visits!", "result": {}}', Retry_After="7"
            )
            limited = await venue.submit(order("limited"), nothing)
            assert isinstance(limited, Silence), "it was looked for, and not found so soon: that proves nothing"
            assert venue._site._throttle.ban.until_ns - venue._site.clock.now_ns() > 5 * 10**9


async def test_nobody_listens_means_that_nothing_was_sent() -> None:
    pytest.importorskip("ccxt")
    with fake() as (_, site):
        async with account(site, BYBIT) as venue:
            alive = order("e")
    venue._site.terms = replace(venue.terms, request_seconds=0.5)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(venue.run)  # the exchange has gone: the workers never get ready
        answer = await venue.submit(alive, nothing)
        assert isinstance(answer, Rejection) and answer.kind == "not_sent"
        canceled = await venue.cancel(Cancel(alive.cid, "BTCUSDT"))
        assert isinstance(canceled, Rejection) and canceled.kind == "not_sent"
        nursery.cancel_scope.cancel()


# ------------------------------------------------------------------------------------------- a worker that is not ours


def worker(script: str, monkeypatch: pytest.MonkeyPatch) -> Worker:
    """A process that runs `script` in the place of ccxt's."""
    real = trio.lowlevel.open_process
    monkeypatch.setattr(trio.lowlevel, "open_process", lambda _, **more: real([sys.executable, "-c", script], **more))
    hello = Hello("x", "spot", "mainnet", {"secret": "sesame"}, 1, 1, 1)
    return Worker("odd", lambda: hello, lambda: ("load", ()), lambda told: None, lambda why: None)


SPEAK = """
import sys, json
def say(**words): print(json.dumps(words), flush=True)
sys.stdin.readline(); say(version="1"); sys.stdin.readline(); say(id=0)
for line in sys.stdin:
    call = json.loads(line)
    %s
"""


@pytest.mark.parametrize(
    ("deed", "sent"),
    [
        ("print('garbage', flush=True)", True),
        ("print('{\"id\": 1', flush=True); sys.exit(1)", True),
        ("say(id=99)", True),
        ("say(id=call['id'], door=True)", True),
        ("sys.exit(3)", True),
        ("sys.stdout.buffer.write(bytes([255, 254, 10])); sys.stdout.flush()", True),
    ],
)
async def test_a_worker_that_speaks_nonsense_or_dies_is_gone_and_its_call_in_doubt(
    deed: str, sent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = worker(SPEAK % deed, monkeypatch)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(odd.keep)
        assert await odd.until_ready(PATIENCE_SECONDS)
        answer = await odd.call("cancel_order", (), PATIENCE_SECONDS)
        assert isinstance(answer, Gone) and answer.sent is sent
        with trio.fail_after(PATIENCE_SECONDS):
            while odd.starts < 2:  # noqa: ASYNC110 (it is another process that is waited for)
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()


async def test_a_problem_that_starting_again_cannot_mend_is_told_and_not_tried_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    script = 'import sys\nsys.stdin.readline(); print(\'{"problem": "ccxt is not installed"}\', flush=True)'
    odd = worker(script, monkeypatch)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(odd.keep)
        with trio.fail_after(PATIENCE_SECONDS):
            while not odd.problem:  # noqa: ASYNC110 (it is another process that is waited for)
                await trio.sleep(0.02)
        answer = await odd.call("create_order", (), 0.1, nothing)
        assert isinstance(answer, Gone) and not answer.sent and "ccxt is not installed" in answer.why
        nursery.cancel_scope.cancel()


async def test_a_caller_that_goes_away_leaves_the_next_its_own_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    script = (
        SPEAK
        % "import time; time.sleep(0.3 if call['method'] == 'slow' else 0); say(id=call['id'], value=call['method'])"
    )
    odd = worker(script, monkeypatch)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(odd.keep)
        assert await odd.until_ready(PATIENCE_SECONDS)
        with trio.move_on_after(0.1):
            await odd.call("slow", (), PATIENCE_SECONDS)
        answer = await odd.call("quick", (), PATIENCE_SECONDS)
        assert isinstance(answer, Told) and bytes(answer.value) == b'"quick"' and odd.starts == 1
        nursery.cancel_scope.cancel()


# -------------------------------------------------------------------------------------------------------- small things


def test_a_worker_sees_nothing_of_our_environment_that_could_hold_a_key() -> None:
    seen = environment({"PATH": "/bin", "BYBIT_SECRET": "sesame", "HOME": "/", "SUREFIRE_KEY": "sesame"})
    assert set(seen) == {"PATH", "HOME", "PYTHONPATH"} and "sesame" not in str(seen)


def test_numbers_stay_as_they_are_written() -> None:
    assert loads('{"a": 0.10, "b": 1e-8, "c": 7, "d": NaN, "e": 123456789012345678901234567890}') == {
        "a": "0.10",
        "b": "1e-8",
        "c": 7,
        "d": "NaN",
        "e": 123456789012345678901234567890,
    }


def test_a_list_that_is_missing_is_no_empty_list() -> None:
    for raw in ({"result": {"list": []}}, [], {}, {"result": {"open": {}}}, [{"id": 1}], {"data": [[1, 2]]}):
        assert holds_rows(raw), raw
    for raw in (None, "page", {"retCode": 0}, {"result": "none", "retExtInfo": {}}, [1, 2], {"data": None}, 7):
        assert not holds_rows(raw), raw


def test_codes_and_addresses() -> None:
    assert [code_in(body) for body in ({"retCode": 10001}, {"code": "-2010"}, {"x": 1}, [1], None)] == [
        "10001",
        "-2010",
        "",
        "",
        "",
    ]
    urls = {"spot": "https://api.example.com", "deep": {"v1": "https://x.example.com/fapi/v1"}}
    assert at(urls, "http://127.0.0.1:9/") == {
        "spot": "http://127.0.0.1:9",
        "deep": {"v1": "http://127.0.0.1:9/fapi/v1"},
    }


def test_a_hello_never_shows_its_keys() -> None:
    hello = Hello("x", "spot", "mainnet", {"secret": "sesame"}, 1, 1, 1)
    assert "sesame" not in f"{hello} {hello!r}"
    assert b"sesame" in encode(hello), "they do go over the pipe"
    assert Ready().problem == "" and OrderRow().id is None


async def test_a_line_without_an_end_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "LINE_MAX", 1000)
    theirs, ours = trio.testing.memory_stream_pair()
    await theirs.send_all(b"x" * 2000)
    with pytest.raises(Lost):
        await Lines(ours, ours).receive(loads)


async def test_an_order_that_left_the_lists_and_is_not_to_be_found_does_not_bring_the_stream_down() -> None:
    """Its own look-ups go on; and one question that fails is no reason to close the entries either."""
    pytest.importorskip("ccxt")
    resting = order("r")
    row = {"symbol": "BTCUSDT", "orderId": "1", "orderLinkId": resting.cid, "side": "Buy", "orderStatus": "New"}
    row |= {"orderType": "Limit", "qty": "1", "cumExecQty": "0", "price": "1", "createdTime": "1700000000000"}
    with fake() as (bybit, site):
        async with account(site, BYBIT) as venue, venue.stream() as reports:
            bybit.say("order/realtime", {"list": [row]})
            with trio.fail_after(PATIENCE_SECONDS):
                assert (await reports.receive()).cid == resting.cid  # type: ignore[union-attr]
            bybit.say("order/history", {}, code=10016)
            bybit.say("order/realtime", {"list": []})
            await eventually(lambda: _count(bybit, "order/history"), lambda asked: asked >= 1)
            before = len(bybit.asked)
            await eventually(lambda: _count(bybit, ""), lambda asked: asked > before + 10)
            bybit.say("order/realtime", {"list": [row | {"orderId": "2"}]})
            with trio.fail_after(PATIENCE_SECONDS):
                assert (await reports.receive()).venue_order_id == "2"  # type: ignore[union-attr]


async def test_rules_that_the_exchange_changes_are_read_again_by_both_workers() -> None:
    pytest.importorskip("ccxt")
    with fake() as (bybit, site):
        async with account(site, BYBIT) as venue:
            assert [i.lot for i in await venue.instruments()] == [D("0.001")]  # type: ignore[union-attr]
            finer = INSTRUMENT | {"lotSizeFilter": {**INSTRUMENT["lotSizeFilter"], "qtyStep": "0.0001"}}  # type: ignore[dict-item]
            bybit.say("market/instruments-info", {"category": "linear", "list": [finer], "nextPageCursor": ""})
            assert [i.lot for i in await venue.instruments()] == [D("0.0001")]  # type: ignore[union-attr]
            bybit.say("order/create", {"orderId": "7", "orderLinkId": "x"})
            assert isinstance(await venue.submit(order("e", qty=D("0.0123")), nothing), Acked)
            assert bybit.bodies["/v5/order/create"]["qty"] == "0.0123", "and not cut to the old step"
            bybit.raw("market/instruments-info", b"<html>")
            assert isinstance(await venue.instruments(), Failed)


async def test_what_is_not_listed_any_more_is_still_held_watched_and_closed() -> None:
    pytest.importorskip("ccxt")
    other = INSTRUMENT | {"symbol": "ETHUSDT", "baseCoin": "ETH"}
    row = {"symbol": "BTCUSDT", "side": "Buy", "size": "0.1", "avgPrice": "50000", "positionIdx": 0}
    with fake() as (bybit, site):
        async with account(site, BYBIT) as venue:
            await venue.instruments()
            bybit.say("position/list", {"category": "linear", "list": [row | {"positionValue": "5000"}]})
            before = await venue.positions()
            assert [report.qty for report in before] == [D("0.1")]  # type: ignore[union-attr]
            halted = {"category": "linear", "list": [INSTRUMENT | {"status": "Closed"}, other], "nextPageCursor": ""}
            bybit.say("market/instruments-info", halted)
            assert [i.symbol for i in await venue.instruments()] == ["ETHUSDT"]  # type: ignore[union-attr]
            after = await venue.positions()
            assert [report.qty for report in after] == [D("0.1")]  # type: ignore[union-attr]
            bybit.asked.clear()
            assert await venue.open_orders() == () and "/v5/order/realtime" in bybit.asked
            bybit.say("order/create", {"orderId": "7", "orderLinkId": "x"})
            assert isinstance(await venue.submit(order("e"), nothing), Acked)


async def _count(bybit: FakeBybit, end: str) -> int:
    return sum(path.endswith(end) for path in bybit.asked)
