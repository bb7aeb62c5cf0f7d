"""Frames of our own on a connection of trio-websocket: what the other side reads, and what becomes of a broken one."""

import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket
from wsproto.frame_protocol import FrameProtocol

from engine.runtime.websocket import open_websocket, send_text, text_frame


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 127, 65_535, 65_536, 200_001])
@pytest.mark.parametrize("mask", [0, 0x01020304, 0xFFFFFFFF])
def test_a_frame_is_read_as_it_was_written(size: int, mask: int) -> None:
    text = bytes(32 + place % 90 for place in range(size))
    reader = FrameProtocol(client=False, extensions=[])
    reader.receive_bytes(text_frame(text, mask))
    frames = list(reader.received_frames())
    assert frames[-1].message_finished and frames[0].opcode.name == "TEXT"
    assert "".join(str(frame.payload) for frame in frames).encode() == text


def test_what_is_masked_is_not_sent_in_clear() -> None:
    assert b"secret" not in text_frame(b"the secret", 0xA5A5A5A5)
    assert text_frame(b"abcd", 0x01020304) == bytes((0x81, 0x84, 1, 2, 3, 4)) + bytes(
        a ^ b for a, b in zip(b"abcd", (1, 2, 3, 4), strict=True)
    )


async def test_many_who_send_at_once_and_the_librarys_own_frames_keep_apart() -> None:
    heard: list[str] = []

    async def serve(request: WebSocketRequest) -> None:
        socket = await request.accept()
        try:
            while True:
                heard.append(await socket.get_message())
                await socket.send_message("yes")
        except ConnectionClosed:
            pass

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, serve, "127.0.0.1", 0, None)
        async with open_websocket(f"ws://127.0.0.1:{server.port}/") as socket, trio.open_nursery() as senders:
            for number in range(40):
                text = (f"{number} " + "x" * 100_000).encode()  # more than a socket takes at once
                senders.start_soon(send_text, socket, text, number)
                senders.start_soon(socket.send_message, f"{number} by the library")
            senders.start_soon(socket.ping)
            for _ in range(80):
                assert await socket.get_message() == "yes"
        nursery.cancel_scope.cancel()
    assert sorted(text[:20].rstrip("x") for text in heard) == sorted(
        text for number in range(40) for text in (f"{number} ", f"{number} by the library"[:20])
    )


async def test_a_connection_that_is_closed_takes_no_frame() -> None:
    async def serve(request: WebSocketRequest) -> None:
        socket = await request.accept()
        await socket.aclose()

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, serve, "127.0.0.1", 0, None)
        async with open_websocket(f"ws://127.0.0.1:{server.port}/") as socket:
            with pytest.raises(ConnectionClosed):
                await socket.get_message()
            with pytest.raises(ConnectionClosed):
                await send_text(socket, b"late", 1)
        nursery.cancel_scope.cancel()


async def test_a_connection_that_is_cut_takes_no_frame() -> None:
    async def serve(request: WebSocketRequest) -> None:
        socket = await request.accept()
        await trio.aclose_forcefully(socket._stream)

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, serve, "127.0.0.1", 0, None)
        with pytest.raises((ConnectionClosed, BaseExceptionGroup)):
            async with open_websocket(f"ws://127.0.0.1:{server.port}/") as socket:
                while True:
                    await send_text(socket, b"x" * 10_000, 1)
        nursery.cancel_scope.cancel()


async def test_an_order_leaves_before_anything_else_has_its_turn() -> None:
    """No turn of the loop lies between the call and the first byte, while nobody else writes."""

    async def serve(request: WebSocketRequest) -> None:
        socket = await request.accept()
        await socket.get_message()
        await trio.sleep_forever()

    turns: list[str] = []

    class Watched:
        def __init__(self, stream: trio.SocketStream) -> None:
            self._stream = stream

        async def send_all(self, data: bytes) -> None:
            turns.append("byte")
            await self._stream.send_all(data)

        def __getattr__(self, name: str) -> object:
            return getattr(self._stream, name)

    async def other() -> None:
        turns.append("other")

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, serve, "127.0.0.1", 0, None)
        async with open_websocket(f"ws://127.0.0.1:{server.port}/") as socket:
            socket._stream = Watched(socket._stream)
            async with trio.open_nursery() as both:
                both.start_soon(other)
                await send_text(socket, b"order", 1)
            assert turns == ["byte", "other"]
            nursery.cancel_scope.cancel()
