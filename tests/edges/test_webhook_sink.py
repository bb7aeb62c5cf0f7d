"""Events posted to a receiver that is well, slow, wrong, gone, or refuses: signed, in order, at least once."""

import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio
from msgspec import Struct

from engine.core.messages import Event, OutboxRow
from engine.edges.base import SinkDown
from engine.edges.webhook import Admitted, HookTerms, Request, admit
from engine.edges.webhook_sink import HookSink, PostTerms
from engine.runtime.clock import live_clock
from engine.runtime.log import Secret
from tests.patience import PATIENCE_SECONDS
from tests.web.test_door import certificate

SECRETS = (Secret("canary-out-one-0123456789"), Secret("canary-out-two-0123456789"))
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Posted(Struct, frozen=True):
    """What a receiver saw of one request."""

    target: str
    headers: dict[str, str]
    body: bytes

    @property
    def event_id(self) -> int:
        return int(self.headers["webhook-id"].rpartition("-")[2])


class Receiver:
    """Answers what `answer` says to each request; None: nothing at all."""

    def __init__(self) -> None:
        self.posted: list[Posted] = []
        self.connections = 0
        self.answer: Callable[[Posted], bytes | None] = lambda _: OK
        self.port = 0

    def sink(self, **terms: Any) -> HookSink:
        url = f"http://127.0.0.1:{self.port}/events?key=canary-in-the-url"
        given = {"url": Secret(url), "place": f"127.0.0.1:{self.port}", "keys": SECRETS, "sender": "desk-1"} | terms
        return HookSink("out", PostTerms(**given), live_clock())

    @property
    def ids(self) -> list[int]:
        return [posted.event_id for posted in self.posted]

    async def serve(self, stream: trio.SocketStream) -> None:
        self.connections += 1
        came = b""
        try:
            while True:
                while b"\r\n\r\n" not in came:
                    some = await stream.receive_some(65536)
                    if not some:
                        return
                    came += some
                head, _, came = came.partition(b"\r\n\r\n")
                first, *lines = head.decode().split("\r\n")
                headers = {line.partition(":")[0].lower(): line.partition(":")[2].strip() for line in lines}
                while len(came) < int(headers["content-length"]):
                    came += await stream.receive_some(65536)
                body, came = came[: int(headers["content-length"])], came[int(headers["content-length"]) :]
                self.posted.append(posted := Posted(first.split(" ")[1], headers, body))
                answer = self.answer(posted)
                if answer is None:
                    await trio.sleep_forever()
                else:
                    await stream.send_all(answer)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return


@asynccontextmanager
async def receiver() -> AsyncIterator[Receiver]:
    here = Receiver()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, here.serve, 0)
        here.port = listeners[0].socket.getsockname()[1]
        with trio.fail_after(PATIENCE_SECONDS):
            yield here
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def living(sink: HookSink) -> AsyncIterator[HookSink]:
    async with trio.open_nursery() as nursery:
        await nursery.start(sink.live)
        yield sink
        nursery.cancel_scope.cancel()


def rows(*ids: int, account: str = "main", name: str = "order.filled") -> tuple[OutboxRow, ...]:
    return tuple(
        OutboxRow(n, Event(name, account, f"k-{n}", 1_700_000_000, "t-1", "s-1", {"qty": "0.10", "live": True}))
        for n in ids
    )


def answered(status: str, body: bytes = b"", *headers: str) -> bytes:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers])
    return head.encode() + b"\r\n\r\n" + body


async def test_an_event_is_posted_whole_and_signed_with_every_secret() -> None:
    async with receiver() as there, living(there.sink()) as sink:
        await sink.send(rows(7))
        (posted,) = there.posted
        assert posted.target == "/events?key=canary-in-the-url"
        assert json.loads(posted.body) == {
            **{"event_id": 7, "name": "order.filled", "account": "main", "key": "k-7", "at_ns": 1_700_000_000},
            **{"trace_id": "t-1", "cause": "s-1", "qty": "0.10", "live": True},
        }
        assert posted.headers["webhook-id"] == "desk-1-7" and posted.headers["content-type"] == "application/json"
        assert posted.headers["x-trace-id"] == "t-1"
        for secret in SECRETS:  # as our own door would look at it
            request = Request(headers=posted.headers, raw=posted.body, address="")
            found = admit(request, HookTerms(keys=(secret,)), live_clock().now_ns())
            assert found == Admitted(posted.body, "desk-1-7")
        assert sink.down == "" and "canary" not in repr(sink._terms)


async def test_events_of_an_account_arrive_in_order_over_connections_that_are_kept() -> None:
    async with receiver() as there, living(there.sink()) as sink:
        mixed = tuple(row for n in range(0, 40, 2) for row in (*rows(n, account="a"), *rows(n + 1, account="b")))
        await sink.send(mixed)
        await sink.send(rows(*range(40, 50), account="a"))
        assert [i for i in there.ids if i % 2 == 0 or i >= 40] == [*range(0, 40, 2), *range(40, 50)]
        assert [i for i in there.ids if i % 2 and i < 40] == list(range(1, 40, 2))
        assert there.connections <= 2


async def test_only_the_events_that_are_asked_for_are_sent() -> None:
    async with receiver() as there, living(there.sink(events=("trade.closed",))) as sink:
        await sink.send((*rows(1), *rows(2, name="trade.closed"), *rows(3)))
        assert there.ids == [2]


@pytest.mark.parametrize("status", ["500 Oops", "503 Later", "429 Slow", "408 Late", "302 Found", "404 No", "410 Gone"])
async def test_without_a_2xx_an_event_is_offered_again_and_nothing_behind_it_overtakes(status: str) -> None:
    async with receiver() as there, living(there.sink()) as sink:
        where = f"Location: http://127.0.0.1:{there.port}/elsewhere"
        there.answer = lambda posted: answered(status, b"no", where) if posted.event_id == 2 else OK
        for _ in range(2):
            with pytest.raises(SinkDown, match=f"127.0.0.1:{there.port}: answered {status[:3]}") as caught:
                await sink.send(rows(1, 2, 3))
            assert sink.down.startswith(f"answered {status[:3]}") and "canary" not in str(caught.value)
        assert there.ids == [1, 2, 2], "what had arrived is not sent again, and 3 waits for 2"
        there.answer = lambda _: OK
        await sink.send(rows(1, 2, 3))
        assert there.ids == [1, 2, 2, 2, 3] and sink.down == ""
        assert all(posted.target.startswith("/events") for posted in there.posted), "no redirect is followed"
        await sink.send(rows(1))
        assert there.ids[-1] == 1, "another batch is another batch"


async def test_a_receiver_that_refuses_for_good_may_be_passed_over_if_the_config_says_so() -> None:
    async with receiver() as there, living(there.sink(drop=True)) as sink:
        statuses = {1: "400 No", 2: "413 Large", 3: "200 OK"}
        there.answer = lambda posted: answered(statuses[posted.event_id])
        await sink.send(rows(1, 2, 3))
        assert there.ids == [1, 2, 3] and sink.down == ""
        assert [(row.event_id, why) for row, why in sink.let_go] == [(1, "answered 400"), (2, "answered 413")]
        for status in ("429 Slow", "500 Oops", "301 Moved"):
            statuses[4] = status
            with pytest.raises(SinkDown):
                await sink.send(rows(4))
        assert len(sink.let_go) == 2


@pytest.mark.parametrize(
    "answer",
    [
        None,
        b"",
        b"HTTP/1.1 2",
        b"HTTP/1.1 200 OK\r\nContent-Le",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"\x00" * 200,
    ],
)
async def test_an_answer_that_does_not_come_or_is_none_leaves_the_event_where_it_was(answer: bytes | None) -> None:
    async with receiver() as there, living(there.sink(timeout_seconds=0.3)) as sink:
        there.answer = lambda _: answer
        with pytest.raises(SinkDown) as caught:
            await sink.send(rows(1))
        assert "canary" not in str(caught.value) and sink.down
        there.answer = lambda _: OK
        await sink.send(rows(1))
        assert there.ids == [1, 1]


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n" + b"x" * 1000,
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>",
    ],
)
async def test_of_an_answer_nothing_counts_but_its_status(answer: bytes) -> None:
    async with receiver() as there, living(there.sink(timeout_seconds=PATIENCE_SECONDS)) as sink:
        there.answer = lambda _: answer
        await sink.send(rows(1, 2))
        assert there.ids == [1, 2]


async def test_over_tls_the_receiver_must_be_who_it_says(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    there = Receiver()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(partial(trio.serve_ssl_over_tcp, there.serve, 0, context, host="127.0.0.1"))
        there.port = listeners[0].transport_listener.socket.getsockname()[1]
        url = Secret(f"https://127.0.0.1:{there.port}/events")
        with trio.fail_after(PATIENCE_SECONDS):
            async with living(there.sink(url=url)) as stranger:
                with pytest.raises(SinkDown, match="CERTIFICATE_VERIFY_FAILED"):
                    await stranger.send(rows(1))
            assert there.posted == []
            async with living(there.sink(url=url, ca_file=cert)) as known:
                await known.send(rows(1))
            assert there.ids == [1]
        nursery.cancel_scope.cancel()


async def test_nobody_there_is_a_sink_that_is_down() -> None:
    async with receiver() as there:
        port = there.port
    there.port = port
    async with living(there.sink()) as sink:
        with pytest.raises(SinkDown) as caught:
            await sink.send(rows(1))
        assert "canary" not in str(caught.value)
