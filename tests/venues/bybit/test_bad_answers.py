"""The Bybit client against a server that says anything: nothing is raised, nothing unread is taken for empty."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from random import Random
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec
import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from engine.core.messages import Acked, Cancel, Failed, Silence
from engine.core.times import SECOND
from engine.runtime.clock import live_clock
from engine.venues.base import StreamDown
from engine.venues.bybit import caller
from engine.venues.bybit.client import BybitVenue
from engine.venues.bybit.hosts import Hosts
from engine.venues.bybit.terms import HEDGE_MODE, BybitTerms
from engine.venues.keys import Credentials, Secret
from engine.venues.throttle import Throttle
from tests.patience import PATIENCE_SECONDS
from tests.venues.bybit.local import KINDS, order
from tests.venues.bybit.test_reports import EXECUTION, LINEAR, ORDER, instrument_row

Say = Callable[[str, dict[str, str]], Any]  # path and query -> body: bytes as they are, else the result in an envelope
OK_ORDER = {"orderId": "7d0c", "orderLinkId": "x"}


class Fake:
    """Answers each request with what `say` says of its path; keeps what was asked."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.asked: list[tuple[str, dict[str, str]]] = []

    async def serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            try:
                while await self._one(stream):
                    pass
            except trio.BrokenResourceError:
                pass  # the client has had enough

    async def _one(self, stream: trio.SocketStream) -> bool:
        request = b""
        while b"\r\n\r\n" not in request:
            piece = await stream.receive_some()
            if not piece:
                return False
            request += piece
        head, _, body = request.partition(b"\r\n\r\n")
        length = int(dict(line.split(b": ") for line in head.lower().split(b"\r\n")[1:]).get(b"content-length", 0))
        while len(body) < length:
            body += await stream.receive_some()
        parts = urlsplit(head.split()[1].decode())
        query = {name: values[0] for name, values in parse_qs(parts.query.replace("%", "%25")).items()}
        if parts.path != caller.TIME_PATH:
            self.asked.append((parts.path, query))
        said = {"timeNano": "1"} if parts.path == caller.TIME_PATH else self.say(parts.path, query)
        raw = said if isinstance(said, bytes) else envelope(said)
        await stream.send_all(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(raw), raw))
        return True


def envelope(result: Any, code: int = 0, **more: Any) -> bytes:
    now_ms = live_clock().now_ns() // 1_000_000
    return msgspec.json.encode({"retCode": code, "retMsg": "", "result": result, "time": now_ms, **more})


def always(said: Any) -> Say:
    return lambda path, query: said


@asynccontextmanager
async def against(say: Say, private: str = "ws://127.0.0.1:9/", **terms: Any) -> AsyncIterator[tuple[BybitVenue, Fake]]:
    fake = Fake(say)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, fake.serve, 0, host="127.0.0.1"))
        url = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        throttle = Throttle(caller.limits(100), live_clock(), costs=caller.COSTS)
        wanted = BybitTerms(**{"kind": LINEAR, "hosts": Hosts("local", url, "", private, ""), **terms})
        venue = BybitVenue(wanted, Credentials(Secret("key"), Secret("secret")), throttle, live_clock(), Random(1))
        try:
            yield venue, fake
        finally:
            await venue.caller.rest.close()
        nursery.cancel_scope.cancel()


NONSENSE = [
    b"",
    b"<html><body>We are busy</body></html>",
    b'{"retCode":0,"result":{"orderId":"7d',
    b'{"retCode":"0","result":{"orderId":"7d0c"}}',
    b'{"result":{"orderId":"7d0c"}}',
    b"null",
    b"[]",
    b'{"retCode":0}',
    b'{"retCode":0,"result":null}',
    b'{"retCode":0,"result":{"orderId":7}}',
    b'{"retCode":0,"result":{"list":"none"}}',
    b"\xff\xfe\x00",
]


@pytest.mark.parametrize("said", NONSENSE)
async def test_nonsense_with_status_200_is_doubt_for_an_order(said: bytes):
    async with against(always(said)) as (venue, fake):
        assert isinstance(await venue.submit(order(), lambda: None), Silence)
        assert [path for path, _ in fake.asked] == ["/v5/order/create"], "sent once"
        assert all(isinstance(a, Silence) for a in await venue.submit_batch((order(), order("b")), lambda: None))


@pytest.mark.parametrize("said", [*NONSENSE, b'{"retCode":0,"result":{"list":[{"symbol":1}]}}'])
@pytest.mark.parametrize("kind", KINDS)
async def test_nonsense_is_never_an_empty_answer_to_a_question(said: bytes, kind: Any):
    async with against(always(said), kind=kind) as (venue, _):
        assert isinstance(await venue.balances(), Failed)
        assert isinstance(await venue.positions(), Failed)
        assert isinstance(await venue.open_orders(), Failed)
        assert isinstance(await venue.order("BTCUSDT", "c"), Failed)
        assert isinstance(await venue.fills(0), Failed)
        assert isinstance(await venue.instruments(), Failed)


async def test_a_cancel_that_is_answered_with_nonsense_is_no_yes():
    for said in NONSENSE[:6]:
        async with against(always(said)) as (venue, _):
            assert not isinstance(await venue.cancel(Cancel("c", "BTCUSDT")), Acked)


async def test_a_list_of_thousands_of_instruments_is_read_whole():
    row = msgspec.to_builtins(instrument_row(LINEAR))
    page = [row | {"symbol": f"C{n}USDT", "launchTime": "1700000000000" * 40} for n in range(3000)]
    big = envelope({"list": page, "nextPageCursor": ""})
    assert len(big) > 2_000_000
    async with against(lambda path, query: big if "instruments" in path else {"list": []}) as (venue, _):
        listed = await venue.instruments()
    assert isinstance(listed, tuple) and len(listed) == 3000


async def test_one_odd_instrument_costs_only_itself():
    row = msgspec.to_builtins(instrument_row(LINEAR))
    page = {"list": [row | {"symbol": "ODDUSDT", "priceFilter": {"tickSize": "a tenth"}}, row], "nextPageCursor": ""}
    async with against(lambda path, query: page if "instruments" in path else {"list": []}) as (venue, _):
        listed = await venue.instruments()
    assert [i.symbol for i in listed] == ["BTCUSDT"]  # type: ignore[union-attr]


# -------------------------------------------------------------------------------------------------------------- pages


def execution(number: int) -> dict[str, Any]:
    return EXECUTION | {"execId": f"e{number:04d}"}


async def test_every_page_is_read_and_the_cursor_goes_back_as_it_came():
    pages = {
        "": ([execution(n) for n in range(100)], "132766%3A2%2C132766%3A2"),
        "132766%3A2%2C132766%3A2": ([execution(100)], "last%3D"),
        "last%3D": ([], "more"),
    }

    def say(path: str, query: dict[str, str]) -> Any:
        rows, cursor = pages[query.get("cursor", "")]
        return {"list": rows, "nextPageCursor": cursor}

    async with against(say) as (venue, fake):
        found = await venue.fills(1, "loan-hedge-000001")
    assert isinstance(found, tuple) and len(found) == 101
    assert [query.get("cursor") for _, query in fake.asked] == [None, "132766%3A2%2C132766%3A2", "last%3D"]


async def test_a_cursor_that_repeats_behind_a_full_page_is_a_failure_and_behind_a_part_of_one_the_end():
    for count, whole in ((100, False), (99, True)):
        page = {"list": [execution(n) for n in range(count)], "nextPageCursor": "same"}
        async with against(always(page)) as (venue, fake):
            found = await venue.fills(1, "loan-hedge-000001")
            assert len(fake.asked) == 2
        assert isinstance(found, tuple) is whole


async def test_a_list_without_end_is_given_up():
    async def asked() -> Any:
        number = iter(range(10_000))

        def say(path: str, query: dict[str, str]) -> Any:
            return {"list": [execution(1)], "nextPageCursor": f"c{next(number)}"}

        async with against(say) as (venue, fake):
            throttled = venue.caller._throttle
            throttled._costs = {}
            throttled._all = ()
            return await venue.fills(1, "x"), len(fake.asked)

    found, count = await asked()
    assert isinstance(found, Failed) and "pages" in found.why
    assert count == 200


async def test_a_long_absence_is_asked_for_week_by_week_without_a_gap():
    async with against(always({"list": []})) as (venue, fake):
        now_ns = live_clock().now_ns()
        since_ns = now_ns - 20 * 24 * 3600 * SECOND
        assert await venue.fills(since_ns) == ()
    spans = [(int(query["startTime"]), int(query["endTime"])) for _, query in fake.asked]
    assert len(spans) == 3
    assert spans[0][0] == since_ns // 1_000_000
    assert [a[1] for a in spans[:-1]] == [b[0] for b in spans[1:]]
    assert all(0 < end - start <= 7 * 24 * 3600 * 1000 for start, end in spans)
    assert spans[-1][1] >= now_ns // 1_000_000


async def test_executions_come_oldest_first_and_each_once():
    rows = [execution(3) | {"execTime": "1700000000003"}, execution(1), execution(1), execution(0)]
    async with against(always({"list": rows})) as (venue, _):
        found = await venue.fills(1, "x")
    assert [fill.exec_id for fill in found] == ["e0003", "e0000", "e0001"]  # type: ignore[union-attr]


# ------------------------------------------------------------------------------------------------ odd, yet well-formed


async def test_hedge_mode_is_refused_in_plain_words_also_while_running():
    sides = [
        {"symbol": "BTCUSDT", "side": "", "size": "0", "positionIdx": 1},
        {"symbol": "BTCUSDT", "side": "Sell", "size": "1", "avgPrice": "5", "positionIdx": 2},
    ]
    async with against(always({"list": sides})) as (venue, _):
        assert await venue.positions() == Failed(HEDGE_MODE)


async def test_another_order_than_the_one_asked_for_is_not_taken_for_it():
    async with against(always({"list": [ORDER]})) as (venue, _):
        assert not hasattr(await venue.order("BTCUSDT", "another"), "status")
        assert (await venue.order("BTCUSDT", "loan-hedge-000001")).cid == "loan-hedge-000001"  # type: ignore[union-attr]


async def test_a_batch_that_answers_for_fewer_leaves_the_others_in_doubt():
    said = envelope({"list": [OK_ORDER]}, retExtInfo={"list": [{"code": 0, "msg": "OK"}]})
    async with against(always(said)) as (venue, _):
        first, second = await venue.submit_batch((order(), order("b")), lambda: None)
    assert isinstance(first, Acked) and isinstance(second, Silence)


async def test_a_batch_that_is_partly_rate_limited_leaves_that_part_in_doubt():
    codes = [{"code": 0, "msg": "OK"}, {"code": 10006, "msg": "Too many visits!"}]
    said = envelope({"list": [OK_ORDER, {"orderId": ""}]}, retExtInfo={"list": codes})
    async with against(always(said)) as (venue, _):
        first, second = await venue.submit_batch((order(), order("b")), lambda: None)
    assert isinstance(first, Acked)
    assert isinstance(second, Silence)


# --------------------------------------------------------------------------------------------------- the private stream


@asynccontextmanager
async def streaming(*frames: str) -> AsyncIterator[str]:
    """A socket that lets everybody in, and then says these frames."""

    async def serve(request: WebSocketRequest) -> None:
        socket = await request.accept()
        try:
            for _ in range(3):
                op = msgspec.json.decode(await socket.get_message())["op"]
                await socket.send_message(f'{{"success":true,"op":"{op}"}}')
            for frame in frames:
                await socket.send_message(frame)
            await socket.get_message()
        except ConnectionClosed:
            pass

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve_websocket, serve, "127.0.0.1", 0, None))
        yield f"ws://127.0.0.1:{server.port}/"
        nursery.cancel_scope.cancel()


async def heard(*frames: str) -> tuple[list[Any], str]:
    """What the stream told before it was down, and why it was."""
    found: list[Any] = []
    async with streaming(*frames) as url, against(always({"list": []}), private=url) as (venue, _):
        with trio.fail_after(PATIENCE_SECONDS):
            try:
                async with venue.stream() as events:
                    async for report in events:
                        found.append(report)
            except StreamDown as down:
                return found, str(down)
    raise AssertionError("the stream ended without a word")


GOOD = msgspec.json.encode({"topic": "order.linear", "data": [ORDER]}).decode()


@pytest.mark.parametrize(
    "bad",
    [
        "<html>",
        '{"topic":"order.linear","data":[{"symbol":"BTCUSDT"}]}',
        '{"success":false,"ret_msg":"kicked","op":"auth"}',
        "x" * 5_000_000,
    ],
)
async def test_what_came_before_a_bad_frame_is_told_and_then_the_stream_is_down(bad: str):
    told, why = await heard(GOOD, bad)
    assert [report.venue_order_id for report in told] == ["7d0c"]
    assert why


async def test_disconnect_cancel_that_cannot_be_had_is_no_stream():
    async with streaming() as url:
        said = envelope({}, code=10005)
        async with against(always(said), private=url, disconnect_cancel_seconds=10) as (venue, _):
            with pytest.raises(StreamDown, match="disconnect-cancel was refused: 10005"):
                async with venue.stream():
                    raise AssertionError("entered")


async def test_nobody_there_is_a_stream_that_is_down():
    async with against(always({})) as (venue, _):
        with pytest.raises(StreamDown):
            async with venue.stream():
                raise AssertionError("entered")
