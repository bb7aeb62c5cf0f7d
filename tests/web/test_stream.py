"""The live stream of events: order, resumption, pings, and an end that waits for nobody."""

import h11
import httpx
import msgspec
import pytest
import trio

from engine.web import serve as serving
from engine.web import stream as streaming
from tests.patience import PATIENCE_SECONDS
from tests.web.world import Engine, an_event, api

STREAM = "/api/execution/stream"
GET = b"GET /api/execution/stream?last_event_id=0 HTTP/1.1\r\nHost: localhost\r\n\r\n"


def ids(text: str) -> list[int]:
    return [int(line.removeprefix("id: ")) for line in text.splitlines() if line.startswith("id: ")]


async def listen(client: httpx.AsyncClient, end: str, headers: dict[str, str], query: str = "") -> str:
    """What the stream says up to `end`; then the reader leaves. By hand, as httpx minds being left in the middle."""
    connection = h11.Connection(h11.CLIENT)
    request = h11.Request(method="GET", target=STREAM + query, headers=[("Host", "localhost"), *headers.items()])
    text = ""
    async with await trio.open_tcp_stream("127.0.0.1", client.base_url.port or 0) as stream:
        await stream.send_all(connection.send(request) or b"")
        while end not in text:
            match connection.next_event():
                case h11.NEED_DATA:
                    connection.receive_data(await stream.receive_some(65536))
                case h11.Response() as response:
                    assert response.status_code == 200
                    assert (b"content-type", b"text/event-stream; charset=utf-8") in list(response.headers)
                case h11.Data(data=data):
                    text += data.decode()
                case other:
                    raise AssertionError(f"{other} before {end!r}, after {text!r}")
    return text


async def test_a_reader_that_comes_back_continues_after_its_last_event() -> None:
    async with api(Engine()) as client:
        text = await listen(client, "id: 3\nevent: order.filled\ndata: ", {"Last-Event-ID": "1"})
        assert ids(text) == [2, 3]
        assert text.startswith("retry: 1000\n\n")
        data = text.split("data: ")[1].split("\n")[0]
        assert msgspec.json.decode(data)["event"]["body"] == {"qty": "0.5"}
        by_query = await listen(client, "id: 3\n", {}, "?last_event_id=2")
        assert ids(by_query) == [3]


async def test_a_new_reader_hears_what_comes_from_now_on() -> None:
    engine = Engine()
    async with api(engine) as client, trio.open_nursery() as nursery:

        async def publish() -> None:
            await engine.reader_came.wait()
            for number in (4, 5):
                engine.readers[0].send_nowait(an_event(number))

        nursery.start_soon(publish)
        assert ids(await listen(client, "id: 5\n", {})) == [4, 5]


@pytest.mark.parametrize("bad", ["-1", "abc", "1.5"])
async def test_a_last_event_id_that_is_no_number_is_an_error(bad: str) -> None:
    async with api(Engine()) as client:
        answer = await client.get(STREAM, headers={"Last-Event-ID": bad})
        assert answer.status_code == 400
        assert answer.json()["reasons"][0]["field"] == "last_event_id"


async def test_silence_is_filled_with_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "PING_SECONDS", 0.02)
    async with api(Engine()) as client:
        assert ": ping\n\n: ping\n\n" in await listen(client, ": ping\n\n: ping\n\n", {})


async def test_a_reader_that_leaves_is_forgotten() -> None:
    engine = Engine()
    async with api(engine) as client:
        await listen(client, "retry", {})
        await engine.reader_left.wait()
        assert engine.readers == []


async def test_a_shutdown_ends_the_stream_with_a_last_event_and_a_whole_body() -> None:
    engine = Engine()
    async with trio.open_nursery() as outer:
        port = await outer.start(serving.serve, engine.ports(), "127.0.0.1", 0)
        heard: list[str] = []

        async def reader(task_status: trio.TaskStatus[None]) -> None:
            async with (
                httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client,
                client.stream("GET", STREAM) as response,
            ):
                task_status.started()
                heard.append("".join([piece async for piece in response.aiter_text()]))  # raises on a cut body

        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                await nursery.start(reader)
                outer.cancel_scope.cancel()
    assert heard[0].endswith("event: end\ndata: {}\n\n")


async def test_a_reader_that_stops_reading_does_not_hold_up_the_shutdown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "SEND_SECONDS", 0.3)
    monkeypatch.setattr(serving, "CLOSE_SECONDS", 2 * PATIENCE_SECONDS)  # must not be what ends it
    engine = Engine()
    engine.events = [an_event(n) for n in range(1, 60_001)]  # far more than the buffers of both sockets hold
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serving.serve, engine.ports(), "127.0.0.1", 0)
        stuck = await trio.open_tcp_stream("127.0.0.1", port)
        await stuck.send_all(GET)
        while not engine.readers:  # noqa: ASYNC110
            await trio.sleep(0.02)
        await trio.sleep(0.2)
        began = trio.current_time()
        nursery.cancel_scope.cancel()
    assert trio.current_time() - began < PATIENCE_SECONDS
    await stuck.aclose()


async def test_the_socket_is_free_again_after_the_end_and_taken_while_it_lives() -> None:
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serving.serve, Engine().ports(), "127.0.0.1", 0)
        with pytest.raises(OSError, match="in use"):
            await nursery.start(serving.serve, Engine().ports(), "127.0.0.1", port)
        nursery.cancel_scope.cancel()
    async with trio.open_nursery() as nursery:
        assert await nursery.start(serving.serve, Engine().ports(), "127.0.0.1", port) == port
        nursery.cancel_scope.cancel()
