"""Connections of our own to one host, kept warm, for requests that change something: HTTP/1.1, one at a time on each.

An HTTP library costs several times as much as everything else on an order's way, and its pool collapses when many come
at once. Nothing is decided here, and nothing is sent twice: whatever fails before `on_wire` has left no byte.
"""

import select
from collections.abc import Callable
from urllib.parse import urlsplit

import httptools
import httpx
import trio
from msgspec import Struct

RECEIVE_BYTES = 64 * 1024


class BadAnswer(Exception):
    """The other side ended in the middle of its answer, or what it says is no HTTP."""


class TooLarge(Exception):
    """The venue sends more than anything it could have to say."""


class Answer(Struct, frozen=True):
    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes


class Connection(Struct, eq=False):
    stream: trio.abc.Stream
    socket: trio.socket.SocketType  # the one below any TLS
    idle_since: float = 0.0

    def quiet(self) -> bool:
        """Nothing has come while it was idle: neither its end, nor what would be taken for the next answer."""
        if isinstance(self.stream, trio.SSLStream) and self.stream._incoming.pending:
            return False  # read from the socket together with the last answer, and not looked at
        readable = select.poll()
        readable.register(self.socket.fileno(), select.POLLIN)
        return not readable.poll(0)


class Warm:
    """Up to `connections_max` at once; whoever comes then waits for one."""

    def __init__(
        self, base_url: str, connect_seconds: float, keep_seconds: float, body_max: int, connections_max: int = 16
    ) -> None:
        parts = urlsplit(base_url)
        self._host, self._netloc = parts.hostname or "", parts.netloc
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        # The same roots as everything else of ours, and nothing from the environment.
        self._tls = httpx.create_ssl_context(trust_env=False) if parts.scheme == "https" else None
        self._connect_seconds, self._keep_seconds, self._body_max = connect_seconds, keep_seconds, body_max
        self._places = trio.Semaphore(connections_max)
        self._idle: list[Connection] = []  # the last one used is the next: it is the warmest

    async def exchange(
        self,
        method: str,
        target: str,
        headers: tuple[tuple[str, str], ...],
        body: bytes,
        on_wire: Callable[[], None],
    ) -> Answer:
        """Raises OSError, trio.TooSlowError, trio.BrokenResourceError, BadAnswer, TooLarge; and what `on_wire` does."""
        said = self._said(method, target, headers, body)
        try:
            self._places.acquire_nowait()
        except trio.WouldBlock:
            await self._places.acquire()
        try:
            return await self._exchange(said, on_wire)
        finally:
            self._places.release()

    async def aclose(self) -> None:
        while self._idle:
            await trio.aclose_forcefully(self._idle.pop().stream)

    async def _exchange(self, said: bytes, on_wire: Callable[[], None]) -> Answer:
        connection = self._warm() or await self._open()
        usable = True
        try:
            on_wire()
            usable = False
            await connection.stream.send_all(said)
            answer, usable = await self._read(connection.stream)
            return answer
        finally:
            if usable:
                connection.idle_since = trio.current_time()
                self._idle.append(connection)
            else:
                await trio.aclose_forcefully(connection.stream)

    def _warm(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if trio.current_time() - connection.idle_since < self._keep_seconds and connection.quiet():
                return connection
            connection.socket.close()
        return None

    async def _open(self) -> Connection:
        with trio.fail_after(self._connect_seconds):
            plain = await trio.open_tcp_stream(self._host, self._port)
            if self._tls is None:
                return Connection(plain, plain.socket)
            secure = trio.SSLStream(plain, self._tls, server_hostname=self._host, https_compatible=True)
            try:
                await secure.do_handshake()
            except BaseException:  # raised again, a cancel too: nobody else knows of the connection
                await trio.aclose_forcefully(plain)
                raise
            return Connection(secure, plain.socket)

    async def _read(self, stream: trio.abc.Stream) -> tuple[Answer, bool]:
        """The whole answer, and whether another may follow on this connection."""
        reading = _Reading()
        while not reading.whole:
            piece = bytes(await stream.receive_some(RECEIVE_BYTES))
            if not piece:
                if reading.ends_with_connection():
                    break
                raise BadAnswer("the connection ended before the answer did")
            try:
                reading.http.feed_data(piece)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
                raise BadAnswer(f"the answer is no HTTP: {error}") from None
            if reading.size > self._body_max:
                raise TooLarge(f"an answer of more than {self._body_max} bytes")
        answer = Answer(reading.status, reading.headers, b"".join(reading.body))
        return answer, reading.whole and reading.keep and not reading.more

    def _said(self, method: str, target: str, headers: tuple[tuple[str, str], ...], body: bytes) -> bytes:
        told = "".join(f"{name}: {value}\r\n" for name, value in headers)
        length = f"content-length: {len(body)}\r\n" if body or method in ("POST", "PUT", "PATCH") else ""
        head = (
            f"{method} {target} HTTP/1.1\r\nhost: {self._netloc}\r\naccept: */*\r\naccept-encoding: identity\r\n"
            f"user-agent: surefire\r\n{told}{length}\r\n"
        )
        return head.encode("ascii") + body


class _Reading:
    """What httptools tells of one answer; interim ones (100, 103) are passed over."""

    def __init__(self) -> None:
        self.http = httptools.HttpResponseParser(self)
        self.whole = self.keep = self.more = False
        self.size = self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.body: list[bytes] = []
        self._headed = False

    def on_message_begin(self) -> None:
        self.more = self.whole

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.whole:
            self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if not self.whole:
            self.status, self._headed = self.http.get_status_code(), True

    def on_body(self, body: bytes) -> None:
        if not self.whole:
            self.body.append(body)
            self.size += len(body)

    def on_message_complete(self) -> None:
        if self.whole:
            return
        if 100 <= self.status < 200:
            self.headers, self._headed = [], False
            return
        self.whole, self.keep = True, self.http.should_keep_alive()

    def ends_with_connection(self) -> bool:
        """Its end is the end of the body: said by the absence of a length."""
        lengths = (b"content-length", b"transfer-encoding")
        return self._headed and not any(name.lower() in lengths for name, _ in self.headers)
