"""A WebSocket client connection by trio-websocket, with what that library leaves open or breaks put right here."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import trio
import trio_websocket._impl as trio_websocket_impl
from trio_websocket import ConnectionClosed, WebSocketConnection, wrap_client_stream
from wsproto.connection import ConnectionState
from wsproto.events import Ping
from wsproto.utilities import LocalProtocolError

_HANDSHAKE_SECONDS = 5
# A full queue inside trio-websocket stops its pongs, and the venue hangs up: room for some seconds of the busiest hour.
_QUEUE = 10_000
_MESSAGE_MAX = 4 * 1024 * 1024  # bytes


@asynccontextmanager
async def open_websocket(url: str) -> AsyncIterator[WebSocketConnection]:
    """A connection to a ws:// or wss:// URL, closed on leaving whatever happened.

    Raises, in a group when its reader is the first to know: OSError and trio.BrokenResourceError (no connection),
    trio_websocket.HandshakeError, trio.TooSlowError (no handshake within five seconds); from the connection itself
    trio_websocket.ConnectionClosed.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("ws", "wss") or parts.hostname is None:
        raise ValueError(f"{url} is no WebSocket URL")
    secure = parts.scheme == "wss"
    with trio.fail_after(_HANDSHAKE_SECONDS):
        stream = await _connect(parts.hostname, parts.port or (443 if secure else 80), secure)
    try:
        async with trio.open_nursery() as nursery:
            with trio.fail_after(_HANDSHAKE_SECONDS):
                socket = await wrap_client_stream(
                    nursery,
                    stream,
                    parts.netloc,
                    (parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
                    message_queue_size=_QUEUE,
                    max_message_size=_MESSAGE_MAX,
                )
            try:
                yield socket
            finally:
                with trio.move_on_after(_HANDSHAKE_SECONDS):
                    await socket.aclose()
                nursery.cancel_scope.cancel()
    finally:
        # The library itself forgets the stream when the other side was the first to hang up.
        await trio.aclose_forcefully(stream)


async def send_text(socket: WebSocketConnection, text: bytes, mask: int) -> None:
    """As the connection's own `send_message`, but the first byte leaves in this turn of the loop where nobody writes.

    The library makes a frame in three layers and then waits for its lock, which is a turn of the scheduler even when it
    is free: for an order that is a third of the way. `mask`: 32 bits. Raises trio_websocket.ConnectionClosed.
    """
    if socket._close_reason or socket._wsproto.state is not ConnectionState.OPEN:
        raise ConnectionClosed(socket._close_reason)
    frame, lock = text_frame(text, mask), socket._stream_lock
    try:
        lock.acquire_nowait()
    except trio.WouldBlock:
        await lock.acquire()
    try:
        await socket._stream.send_all(frame)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        await socket._abort_web_socket()
        raise ConnectionClosed(socket._close_reason) from None
    finally:
        lock.release()


def text_frame(text: bytes, mask: int) -> bytes:
    """One whole message from a client. RFC 6455, section 5.2."""
    size, key = len(text), mask.to_bytes(4, "big")
    if size < 126:
        head = bytes((0x81, 0x80 | size))
    elif size < 1 << 16:
        head = b"\x81\xfe" + size.to_bytes(2, "big")
    else:
        head = b"\x81\xff" + size.to_bytes(8, "big")
    # As one large number: Python has no faster way to mask without a library.
    masked = int.from_bytes(text, "little") ^ int.from_bytes((key * (size // 4 + 1))[:size], "little")
    return head + key + masked.to_bytes(size, "little")


async def _connect(host: str, port: int, secure: bool) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
    if not secure:
        return await trio.open_tcp_stream(host, port)
    context = ssl.create_default_context()
    return await trio.open_ssl_over_tcp_stream(host, port, ssl_context=context, https_compatible=True)


# trio-websocket 0.12.2 (issue 184): a ping that arrives while we are closing raises in its reader, and what then comes
# out of the context manager is a bare Cancelled. No pong is owed by then.
_handle_ping = trio_websocket_impl.WebSocketConnection._handle_ping_event


async def _handle_ping_event(self: WebSocketConnection, event: Ping) -> None:
    try:
        await _handle_ping(self, event)
    except LocalProtocolError:
        pass


trio_websocket_impl.WebSocketConnection._handle_ping_event = _handle_ping_event  # type: ignore[method-assign]
