"""Requests and answers over one socket, many under way at once, with no task of its own and no decision."""

import select
import socket

import msgspec
import trio

from engine.venues.link_wire import GARBAGE, RECEIVE_BYTES, Lines, RawReply, decode_reply


class Pipeline:
    """One of those who wait for an answer reads for all, so that in the plain case nobody has to be woken twice.

    It is a bare socket, because a trio stream passes through the scheduler once more for each send.
    """

    @classmethod
    async def open(cls, host: str, port: int) -> "Pipeline":
        """Raises OSError."""
        stream = await trio.open_tcp_stream(host, port)
        return cls(socket.socket(fileno=stream.socket.detach()))

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self.broken = ""
        self._socket = sock
        self._lines = Lines()
        self._waiting: dict[int, _Waiting] = {}
        self._reading = False
        self._readable = select.poll()
        self._readable.register(sock, select.POLLIN)

    def ready(self) -> bool:
        """Whether a request may be sent: an end of the connection that came while it was idle is noticed here."""
        while not self.broken and not self._waiting and self._readable.poll(0):
            self._read()
        return not self.broken

    async def call(self, number: int, line: bytes) -> msgspec.Raw | None:
        """The answer, or None when the connection broke first."""
        self.send(number, line)
        return await self.answer(number)

    def send(self, number: int, line: bytes) -> None:
        """The first half of `call`; `answer` must follow."""
        self._waiting[number] = _Waiting()
        self._send(line)

    async def answer(self, number: int) -> msgspec.Raw | None:
        waiting = self._waiting[number]
        try:
            while waiting.reply is None and not self.broken:
                if self._reading:
                    waiting.news = trio.Event()
                    await waiting.news.wait()
                else:
                    await self._wait_and_read()
            return waiting.reply
        finally:
            del self._waiting[number]
            if not self._reading and self._waiting:
                next(iter(self._waiting.values())).wake()  # the next one reads

    def close(self) -> None:
        self._end("closed")

    def _send(self, line: bytes) -> None:
        try:
            sent = self._socket.send(line)
        except OSError as error:  # a full buffer too: a venue that reads nothing is as good as gone
            return self._end(f"could not send: {error}")
        if sent < len(line):
            self._end("the venue does not read")
        return None

    async def _wait_and_read(self) -> None:
        self._reading = True
        try:
            await trio.lowlevel.wait_readable(self._socket)
        except trio.ClosedResourceError:
            return self._end("closed")
        finally:
            self._reading = False
        return self._read()

    def _read(self) -> None:
        try:
            piece = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return None
        except OSError as error:
            return self._end(f"the connection broke: {error}")
        if not piece:
            return self._end("the connection was closed")
        try:
            for line in self._lines.feed(piece):
                self._hear(decode_reply(line))
        except GARBAGE as error:
            self._end(f"garbage: {error}")
        return None

    def _hear(self, reply: RawReply) -> None:
        waiting = self._waiting.get(reply.id)
        if waiting is not None:  # else it came after its time-out
            waiting.reply = reply.body
            waiting.wake()

    def _end(self, why: str) -> None:
        if not self.broken:
            self.broken = why
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
            for waiting in self._waiting.values():
                waiting.wake()


class _Waiting:
    """A request whose answer has not come."""

    __slots__ = ("news", "reply")

    def __init__(self) -> None:
        self.reply: msgspec.Raw | None = None
        self.news: trio.Event | None = None

    def wake(self) -> None:
        if self.news is not None:
            self.news.set()
