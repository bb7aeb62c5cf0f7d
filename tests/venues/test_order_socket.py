"""The order socket against a server that misbehaves: answers by number, and never a second way for a written frame."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from random import Random

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, WebSocketRequest, serve_websocket

from engine.core.messages import Rejection, Silence
from engine.venues.order_socket import Heard, Manners, OrderSocket
from tests.patience import PATIENCE_SECONDS

Behave = Callable[[WebSocketConnection, dict], Awaitable[None]]


def hear(raw: bytes) -> Heard:
    try:
        frame = json.loads(raw)
    except ValueError:
        return Heard()
    return Heard(
        number=frame.get("id", ""),
        op=frame.get("op", ""),
        complaint=frame.get("error", ""),
        login=frame.get("op") == "login",
    )


async def echo(socket: WebSocketConnection, frame: dict) -> None:
    await socket.send_message(json.dumps({"id": frame["id"], "echo": frame["op"]}))


@asynccontextmanager
async def connected(behave: Behave, login: str = "", **manners: object) -> AsyncIterator[tuple[OrderSocket, list]]:
    """A socket that is kept up against a server whose every frame after the login is given to `behave`."""
    frames: list[dict] = []

    async def serve(request: WebSocketRequest) -> None:
        socket = await request.accept()
        try:
            while True:
                frame = json.loads(await socket.get_message())
                frames.append(frame)
                if frame["op"] == "login":
                    await socket.send_message(json.dumps({"op": "login", "error": login}))
                else:
                    await behave(socket, frame)
        except ConnectionClosed:
            pass

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(serve_websocket, serve, "127.0.0.1", 0, None))
        terms = Manners("test", f"ws://127.0.0.1:{server.port}/", hear, login=lambda: '{"op":"login"}', **manners)
        orders = OrderSocket(terms, Random(1))
        nursery.start_soon(orders.keep)
        await until(lambda: orders.ready or "login" in orders.why)
        yield orders, frames
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.001)


async def ask(orders: OrderSocket, number: str, op: str = "create", seconds: float = 5.0) -> object:
    return await orders.call(number, op, json.dumps({"id": number, "op": op}).encode(), lambda: None, seconds)


async def test_many_requests_are_answered_each_by_its_number_in_any_order():
    held: list[dict] = []

    async def backwards(socket: WebSocketConnection, frame: dict) -> None:
        held.append(frame)
        if len(held) == 3:
            for one in reversed(held):
                await echo(socket, one)

    found: dict[str, object] = {}

    async def one(orders: OrderSocket, number: str) -> None:
        found[number] = await ask(orders, number)

    async with connected(backwards) as (orders, _), trio.open_nursery() as nursery:
        for number in ("1", "2", "3"):
            nursery.start_soon(one, orders, number)
    assert {number: json.loads(raw)["id"] for number, raw in found.items()} == {"1": "1", "2": "2", "3": "3"}


async def test_without_a_connection_nothing_is_sent_and_the_wire_is_not_told():
    orders, told = OrderSocket(Manners("test", "ws://127.0.0.1:9/", hear), Random(1)), []
    answer = await orders.call("1", "create", b"{}", lambda: told.append(1), 1.0)
    assert isinstance(answer, Rejection)
    assert (answer.kind, told) == ("not_sent", [])


async def test_a_refused_login_lets_no_request_out():
    async with connected(echo, login="no such key") as (orders, frames):
        assert isinstance(await ask(orders, "1"), Rejection)
        assert "no such key" in orders.why
        assert [frame["op"] for frame in frames] == ["login"]


async def test_no_answer_in_time_is_in_doubt_and_its_late_answer_harms_nobody():
    release = trio.Event()

    async def late(socket: WebSocketConnection, frame: dict) -> None:
        if frame["id"] == "1":
            await release.wait()
        await echo(socket, frame)

    async with connected(late) as (orders, _):
        assert await ask(orders, "1", seconds=0.05) == Silence("no answer in time")
        release.set()
        answer = await ask(orders, "2")
        assert isinstance(answer, bytes) and json.loads(answer)["id"] == "2"


async def test_a_lost_connection_leaves_everything_under_way_in_doubt_and_comes_back():
    first = [True]

    async def cut(socket: WebSocketConnection, frame: dict) -> None:
        if first:
            first.clear()
            await socket.aclose()
        else:
            await echo(socket, frame)

    async with connected(cut) as (orders, frames):
        assert isinstance(await ask(orders, "1"), Silence)
        assert not orders.ready
        await until(lambda: orders.ready)
        assert isinstance(await ask(orders, "2"), bytes)
    assert [frame["op"] for frame in frames] == ["login", "create", "login", "create"]


async def test_a_complaint_without_a_number_puts_the_oldest_request_of_its_kind_in_doubt():
    async def complain(socket: WebSocketConnection, frame: dict) -> None:
        if frame["id"] == "3":
            await socket.send_message('{"op":"create","error":"Params Error"}')
            for number in ("1", "3"):
                await echo(socket, {"id": number, "op": ""})

    found: dict[str, object] = {}

    async def one(orders: OrderSocket, number: str, op: str) -> None:
        found[number] = await ask(orders, number, op)

    async with connected(complain) as (orders, frames), trio.open_nursery() as nursery:
        for number, op in (("1", "cancel"), ("2", "create"), ("3", "create")):
            nursery.start_soon(one, orders, number, op)
            await until(lambda wanted=int(number) + 1: len(frames) == wanted)
        await until(lambda: len(found) == 3)
    assert found["2"] == Silence("the venue complained without a number: Params Error")
    assert isinstance(found["1"], bytes) and isinstance(found["3"], bytes)


async def test_a_connection_that_answers_no_ping_in_words_is_given_up():
    async def deaf(socket: WebSocketConnection, frame: dict) -> None:
        assert frame["op"] == "ping"

    async with connected(deaf, ping=lambda: '{"op":"ping"}', ping_seconds=0.05, silent_seconds=0.1) as (orders, _):
        await until(lambda: "ping" in orders.why)
        assert not orders.ready


async def test_a_venue_that_wants_no_words_is_pinged_by_the_protocol():
    async with connected(echo, ping_seconds=0.01, silent_seconds=5.0) as (orders, _):
        await trio.sleep(0.1)
        assert isinstance(await ask(orders, "1"), bytes)


async def test_frames_that_make_no_sense_are_passed_over():
    async def noisy(socket: WebSocketConnection, frame: dict) -> None:
        for noise in ("", "<html>", '{"id":"99"}'):
            await socket.send_message(noise)
        await echo(socket, frame)

    async with connected(noisy) as (orders, _):
        assert isinstance(await ask(orders, "1"), bytes)


async def test_a_frame_too_large_ends_the_connection_and_not_the_engine():
    async def huge(socket: WebSocketConnection, frame: dict) -> None:
        await socket.send_message("x" * (5 * 1024 * 1024))

    async with connected(huge) as (orders, _):
        assert isinstance(await ask(orders, "1"), Silence)


async def test_no_frame_follows_the_good_bye_of_a_connection_that_is_given_up(monkeypatch):
    answers: list[object] = []

    async def throw_out(socket: WebSocketConnection, frame: dict) -> None:
        await socket.send_message(json.dumps({"op": "login", "error": "revoked"}))

    async with connected(throw_out) as (orders, frames):
        ours, close = orders._socket, WebSocketConnection.aclose

        async def slow_close(self: WebSocketConnection, *arguments: object) -> None:
            if self is ours:
                answers.append(await ask(orders, "2", seconds=0.1))
            await close(self, *arguments)

        monkeypatch.setattr(WebSocketConnection, "aclose", slow_close)
        await ask(orders, "1")
        await until(lambda: bool(answers))
        assert isinstance(answers[0], Rejection) and answers[0].kind == "not_sent"
        assert [frame["id"] for frame in frames if frame["op"] == "create"] == ["1"]


async def test_a_door_that_closes_at_the_wire_keeps_the_frame_and_the_connection():
    class Closed(Exception):
        pass

    def shut() -> None:
        raise Closed

    async with connected(echo) as (orders, frames):
        with pytest.raises(Closed):
            await orders.call("1", "create", json.dumps({"id": "1", "op": "create"}).encode(), shut, 1.0)
        assert json.loads(await ask(orders, "2"))["id"] == "2"
        assert [frame["id"] for frame in frames if frame["op"] == "create"] == ["2"]
