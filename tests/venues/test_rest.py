"""Requests by HTTP against a server that says what it is told to: what surely was not sent, and what is in doubt."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import partial

import msgspec
import pytest
import trio
import trio.testing

from engine.core.messages import Failed, Rejection, Silence
from engine.runtime.clock import live_clock
from engine.venues.binance.sign import signed_query
from engine.venues.bybit import sign
from engine.venues.keys import Credentials, Secret
from engine.venues.rest import Garbled, Reply, Request, Rest, failed, read_json

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
GET = Request("GET", "/v5/x?cursor=1%3A2%2C3&coin=A,B", (("X-Key", "k"),))
POST = Request("POST", "/v5/order", (("content-type", "application/json"),), b'{"a":"1"}')


class Server:
    """Reads one request per answer; an answer is bytes, and what is left of it is silence until `hang` ends."""

    def __init__(self, answers: list[bytes], close: bool) -> None:
        self.answers = answers
        self.close = close
        self.heard: list[bytes] = []

    async def serve(self, stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):  # the client has had enough
            await self._serve(stream)

    async def _serve(self, stream: trio.SocketStream) -> None:
        async with stream:
            while self.answers:
                request = b""
                while not _whole(request):
                    piece = await stream.receive_some()
                    if not piece:
                        return
                    request += piece
                self.heard.append(request)
                await stream.send_all(self.answers.pop(0))
            if not self.close:
                await trio.sleep_forever()


def _whole(request: bytes) -> bool:
    head, end, body = request.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    return bool(end) and len(body) >= int(length[1] if length else 0)


@asynccontextmanager
async def serving(*answers: bytes, close: bool = True) -> AsyncIterator[tuple[str, Server]]:
    server = Server(list(answers), close)
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, server.serve, 0, host="127.0.0.1"))
        yield f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}", server
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def rest(url: str, **terms: float) -> AsyncIterator[Rest]:
    client = Rest(url, live_clock(), **terms)  # type: ignore[arg-type]
    try:
        yield client
    finally:
        await client.close()


async def test_what_is_sent_is_what_was_signed():
    async with serving(OK, OK) as (url, server), rest(url) as client:
        assert isinstance(await client.send(GET), Reply)
        assert isinstance(await client.send(POST), Reply)
    get, post = server.heard
    assert get.startswith(b"GET /v5/x?cursor=1%3A2%2C3&coin=A,B HTTP/1.1\r\n")
    assert b"content-length" not in get.lower(), "a GET with a body is refused by some venues"
    assert post.endswith(b'\r\n\r\n{"a":"1"}')
    assert b"X-Key: k" in get and b"accept-encoding: identity" in get.lower()


async def test_the_reply_brings_both_moments_and_the_wire_is_told_once_before_it():
    calls: list[int] = []
    async with serving(OK) as (url, _), rest(url) as client:
        reply = await client.send(POST, on_wire=lambda: calls.append(live_clock().now_ns()))
    assert isinstance(reply, Reply)
    assert len(calls) == 1
    assert calls[0] <= reply.asked.wall_ns
    assert reply.asked.ticks_ns < reply.heard.ticks_ns
    assert (reply.status, reply.body, reply.headers["Content-Type"]) == (200, b"{}", "application/json")


async def test_a_door_that_closes_at_the_wire_lets_no_byte_out_and_the_next_request_goes():
    class Closed(Exception):
        pass

    def shut() -> None:
        raise Closed

    async with serving(OK) as (url, server), rest(url) as client:
        with pytest.raises(Closed):
            await client.send(POST, on_wire=shut)
        assert server.heard == []
        assert isinstance(await client.send(GET), Reply)
    assert [request.split(b" ")[0] for request in server.heard] == [b"GET"]


async def test_no_connection_is_surely_not_sent():
    calls: list[int] = []
    with trio.socket.socket() as taken:
        await taken.bind(("127.0.0.1", 0))  # bound, not listening: refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with rest(url) as client:
            answer = await client.send(POST, on_wire=lambda: calls.append(1))
    assert isinstance(answer, Rejection)
    assert (answer.kind, calls) == ("not_sent", [])


async def test_a_server_that_does_not_speak_tls_is_surely_not_sent():
    async with serving(OK) as (url, _), rest(url.replace("http:", "https:"), timeout_seconds=2.0) as client:
        answer = await client.send(POST)
    assert isinstance(answer, Rejection) and answer.kind == "not_sent"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"no http at all\r\n\r\n",
    ],
)
async def test_whatever_breaks_after_the_first_byte_is_in_doubt(answer: bytes):
    async with serving(answer) as (url, server), rest(url) as client:
        assert isinstance(await client.send(POST), Silence)
    assert len(server.heard) == 1, "it was sent once"


async def test_no_answer_in_time_is_in_doubt_and_a_slow_drip_is_no_answer():
    async with serving(b"", close=False) as (url, _), rest(url, timeout_seconds=0.2) as client:
        assert await client.send(POST) == Silence("no answer in time")
    head = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"
    async with serving(head, close=False) as (url, _), rest(url, timeout_seconds=0.2) as client:
        assert await client.send(POST) == Silence("no answer in time")


async def test_an_answer_without_bounds_is_cut_off():
    big = b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + b" " * 100_000
    async with serving(big, big) as (url, _):
        async with rest(url, body_max=50_000) as client:
            assert isinstance(await client.send(POST), Silence)
        async with rest(url, body_max=100_000) as client:
            assert isinstance(await client.send(POST), Reply)


async def test_a_redirect_is_an_answer_and_is_not_followed():
    away = b"HTTP/1.1 302 Found\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n"
    async with serving(away, OK) as (url, server), rest(url) as client:
        reply = await client.send(POST)
    assert isinstance(reply, Reply) and reply.status == 302
    assert len(server.heard) == 1


async def test_a_connection_that_was_closed_while_idle_costs_nothing():
    async with serving(OK, close=True) as (url, server), rest(url) as client:
        assert isinstance(await client.send(POST), Reply)
        server.answers.append(OK)
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert isinstance(await client.send(POST), Reply)


async def test_many_at_once_have_a_connection_each_and_the_next_have_the_same():
    peers: set[object] = set()

    async def serve(stream: trio.SocketStream) -> None:
        peers.add(stream.socket.getpeername())
        async with stream:
            while await stream.receive_some():
                await trio.sleep(0.05)
                await stream.send_all(OK)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        async with rest(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}") as client:
            for _ in range(2):
                answers: list[object] = []

                async def one(answers: list[object] = answers) -> None:
                    answers.append(await client.send(POST))

                async with trio.open_nursery() as many:
                    for _ in range(40):
                        many.start_soon(one)
                assert len(answers) == 40 and all(isinstance(answer, Reply) for answer in answers)
        nursery.cancel_scope.cancel()
    assert len(peers) == 16, "so many at once, and the others wait"


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n", b"{}"),
        (b"HTTP/1.1 100 Continue\r\nx: y\r\n\r\n" + OK, b"{}"),
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n<html>", b"<html>"),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}", b"{}"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    ],
    ids=["chunked", "an interim answer first", "until the end", "1.0", "no body"],
)
async def test_an_answer_may_have_any_form_that_http_knows(answer: bytes, body: bytes):
    async with serving(answer) as (url, _), rest(url) as client:
        reply = await client.send(POST)
    assert isinstance(reply, Reply) and reply.body == body
    assert "x" not in reply.headers, "an interim answer's are not the answer's"


async def test_what_is_not_asked_for_ends_the_connection_and_is_never_the_next_ones_answer():
    twice = OK + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
    async with serving(twice, close=False) as (url, server), rest(url) as client:
        assert isinstance(first := await client.send(POST), Reply) and first.body == b"{}"
        server.answers.append(OK)
        assert isinstance(second := await client.send(POST), Reply) and second.body == b"{}"


async def test_what_comes_late_on_an_idle_connection_is_never_the_next_ones_answer():
    heard, said = trio.Event(), trio.Event()

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(OK)
            await heard.wait()
            await stream.send_all(OK.replace(b"{}", b"[]"))
            said.set()
            await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        async with rest(f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}") as client:
            for _ in range(2):
                reply = await client.send(POST)
                assert isinstance(reply, Reply) and reply.body == b"{}"
                heard.set()
                await said.wait()
        nursery.cancel_scope.cancel()


async def test_a_change_that_is_given_up_leaves_no_connection_that_another_could_use():
    async with serving(b"", OK, close=False) as (url, server), rest(url) as client:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(client.send, POST)
            while not server.heard:  # noqa: ASYNC110 (the server tells nobody)
                await trio.sleep(0.01)
            nursery.cancel_scope.cancel()
        assert isinstance(await client.send(GET), Reply)
    assert len(server.heard) == 2


class Shape(msgspec.Struct):
    code: int


@pytest.mark.parametrize(
    "body", [b"", b"<html>busy</html>", b'{"code":', b'{"code":"1"}', b"[]", b"\xff\xfe", b"[" * 9999]
)
def test_a_body_that_is_not_what_was_promised_is_garbled_and_never_raises(body: bytes):
    found = read_json(body, msgspec.json.Decoder(Shape))
    assert isinstance(found, Garbled)
    assert len(found.why) <= 300


def test_a_query_without_an_answer_failed_however_it_did():
    assert failed(Rejection("not_sent", "not_sent", "refused")) == Failed("refused")
    assert failed(Silence("no answer in time")) == Failed("no answer in time")


def test_a_printed_request_shows_neither_key_nor_signature():
    keys = Credentials(Secret("the-key"), Secret("the-secret"))
    params = {"symbol": "BTCUSDT", "timestamp": 1, "apiKey": "the-key"}
    signed = signed_query(params, keys.sign)
    signature = signed.rpartition("=")[2]
    bybit = sign.get("/v5/order/realtime", {"symbol": "BTCUSDT"}, keys, 1, 5000)
    binance = Request("DELETE", f"/api/v3/order?{signed}", (("X-MBX-APIKEY", "the-key"),))
    in_body = Request("POST", "/api/v3/order", (("X-MBX-APIKEY", "the-key"),), signed.encode())
    shown = f"{bybit!r} {binance} {[in_body]} {list(in_body.__rich_repr__())}"
    assert "the-key" not in shown and signature not in shown and dict(bybit.headers)["X-BAPI-SIGN"] not in shown
    assert repr(binance) == "Request(DELETE /api/v3/order?***)" and repr(in_body) == "Request(POST /api/v3/order)"
