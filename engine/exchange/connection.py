"""One TCP connection of the local exchange: HTTP/1.1 requests in turn, or a WebSocket once it is asked for.

Parsing is httptools' and wsproto's. What a connection may hold is bounded: heads, bodies, messages, and how far a
reader of a stream may be behind before it is cut off.
"""

from collections.abc import Awaitable, Callable

import httptools
import trio
import wsproto
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Message,
    Ping,
    Pong,
    RejectConnection,
    TextMessage,
)
from wsproto.events import Request as Upgrade
from wsproto.utilities import LocalProtocolError, RemoteProtocolError

from engine.exchange.http import Request

HEAD_MAX, BODY_MAX, MESSAGE_MAX = 64 * 1024, 1024 * 1024, 1024 * 1024
BEHIND_MAX = 8 * 1024 * 1024  # bytes that a reader of a stream may be behind
_RECEIVE = 64 * 1024

Answer = Callable[[Request], Awaitable[bytes | None]]
"""The bytes to send, or None to close without a word."""

Broken = (trio.BrokenResourceError, trio.ClosedResourceError)


class Upgraded(Exception):
    """The client asks for a WebSocket; `rest` are bytes that came behind the request."""

    def __init__(self, request: Request, raw_headers: list[tuple[bytes, bytes]], rest: bytes) -> None:
        self.request, self.raw_headers, self.rest = request, raw_headers, rest


class _Parser:
    """Collects what httptools reads."""

    def __init__(self, peer: str) -> None:
        self.done: list[Request] = []
        self.keep_alive = True
        self._peer = peer
        self.http = httptools.HttpRequestParser(self)
        self._clear()

    def feed(self, data: bytes) -> None:
        """Raises Upgraded, httptools.HttpParserError, ValueError when a request is larger than allowed."""
        try:
            self.http.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            raise Upgraded(self._made(), list(self._headers), data[upgrade.args[0] :]) from None

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name, value))
        self._head_size += len(name) + len(value)
        if self._head_size > HEAD_MAX:
            raise ValueError("head too large")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)
        self._body_size += len(body)
        if self._body_size > BODY_MAX:
            raise ValueError("body too large")

    def on_message_complete(self) -> None:
        if not self.http.should_upgrade():
            self.keep_alive = self.http.should_keep_alive()
            self.done.append(self._made())
            self._clear()

    def _made(self) -> Request:
        target, _, query = self._url.decode("latin-1").partition("?")
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in self._headers}
        body = b"".join(self._body)
        return Request(self.http.get_method().decode("latin-1"), target, query, headers, body, self._peer)

    def _clear(self) -> None:
        self._url = b""
        self._headers: list[tuple[bytes, bytes]] = []
        self._body: list[bytes] = []
        self._head_size = self._body_size = 0


async def speak_http(stream: trio.abc.Stream, peer: str, answer: Answer) -> None:
    """Until either side closes. Raises Upgraded when the client asks for a WebSocket."""
    parser = _Parser(peer)
    while True:
        data = bytes(await stream.receive_some(_RECEIVE))
        if not data:
            return
        try:
            parser.feed(data)
        except (httptools.HttpParserError, ValueError):
            return await stream.send_all(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        done, parser.done = parser.done, []
        for request in done:
            reply = await answer(request)
            if reply is None:
                return
            await stream.send_all(reply)
        if done and not parser.keep_alive:
            return


class WebSocket:
    """A WebSocket on a stream. `post` never waits; what is posted is sent by `write`, which runs beside `read`."""

    def __init__(self, stream: trio.abc.Stream, upgraded: Upgraded) -> None:
        self._stream = stream
        self._protocol = wsproto.WSConnection(wsproto.ConnectionType.SERVER)
        self._protocol.initiate_upgrade_connection(upgraded.raw_headers, upgraded.request.path)
        self._waiting = bytearray()
        self._news = trio.Event()
        self._closing = False
        self._first = upgraded.rest
        self._parts: list[str] = []

    async def refuse(self, status: int) -> None:
        for event in self._protocol.events():
            if isinstance(event, Upgrade):
                await self._stream.send_all(self._protocol.send(RejectConnection(status_code=status)))

    def accept(self) -> None:
        for event in self._protocol.events():
            if isinstance(event, Upgrade):
                self._queue(self._protocol.send(AcceptConnection()))

    def post(self, text: bytes) -> None:
        """One text message; a reader that is too far behind is cut off."""
        if self._closing:
            return
        if len(self._waiting) > BEHIND_MAX:
            return self.close(1008, "too slow")
        self._send(Message(data=text.decode()))

    def ping(self) -> None:
        if not self._closing:
            self._send(Ping(payload=b"surefire"))

    def close(self, code: int = 1000, why: str = "") -> None:
        if not self._closing:
            self._send(CloseConnection(code=code, reason=why))
        self._closing = True
        self._news.set()

    async def write(self) -> None:
        """Send what is posted until the close has been sent."""
        while True:
            if self._waiting:
                piece, self._waiting = bytes(self._waiting), bytearray()
                await self._stream.send_all(piece)
            elif self._closing:
                return
            else:
                self._news = trio.Event()
                await self._news.wait()

    async def read(self, hear: Callable[[bytes], Awaitable[None]]) -> None:
        """Give each message to `hear` until the connection ends."""
        data, self._first = self._first, b""
        while not self._closing:
            if not data:
                data = bytes(await self._stream.receive_some(_RECEIVE))
                if not data:
                    return
            try:
                self._protocol.receive_data(data)
            except RemoteProtocolError:
                return self.close(1002)
            data = b""
            for event in self._protocol.events():
                await self._hear(event, hear)

    async def _hear(self, event: Event, hear: Callable[[bytes], Awaitable[None]]) -> None:
        if isinstance(event, TextMessage):
            self._parts.append(event.data)
            if sum(map(len, self._parts)) > MESSAGE_MAX:
                return self.close(1009)
            if event.message_finished:
                text, self._parts = "".join(self._parts), []
                await hear(text.encode())
        elif isinstance(event, BytesMessage):
            self.close(1003)
        elif isinstance(event, Ping):
            self._send(event.response())
        elif isinstance(event, CloseConnection):
            if not self._closing:
                self._send(event.response())
            self._closing = True
            self._news.set()
        elif isinstance(event, Pong):
            pass  # it lives; the reader's silence is measured by what it says
        return None

    def _send(self, event: Event) -> None:
        try:
            self._queue(self._protocol.send(event))
        except LocalProtocolError:
            self._closing = True  # the other side has closed already

    def _queue(self, data: bytes) -> None:
        self._waiting += data
        self._news.set()
