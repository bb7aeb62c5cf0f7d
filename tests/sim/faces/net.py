"""The network between the engine and a venue of a world: trio's sockets, but in memory, on the virtual clock.

trio lets a run bring its own sockets, so the shipped HTTP and WebSocket clients run on them unchanged, byte for byte.
Each incarnation of the engine is told an address of its own, by which its sockets are known: dead, they carry nothing
more, and the venue sees them closed; stopped, they stay open, as a stopped process's do.
"""

import socket as stdlib
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from tests.sim.venue import Life

ADDRESS = "127.0.0.1"
FIRST_PORT = 10_000  # of the incarnation with the number 0

Accept = Callable[[Life, "ServerEnd"], Awaitable[None]]
Dial = Callable[[], Awaitable[None]]  # the way of a connection's first packet; raises OSError when it is refused


class Pipe:
    """Bytes one way."""

    def __init__(self) -> None:
        self.waiting = bytearray()
        self.ended = False
        self._news = trio.Event()

    def put(self, data: bytes) -> None:
        if not self.ended:
            self.waiting += data
            self._news.set()

    def end(self) -> None:
        self.ended = True
        self._news.set()

    async def take(self, most: int) -> bytes:
        """Empty at the end."""
        await trio.lowlevel.checkpoint()
        while not self.waiting and not self.ended:
            self._news = trio.Event()
            await self._news.wait()
        piece = bytes(self.waiting[:most])
        del self.waiting[:most]
        return piece


class Line:
    """One connection. `up` is what the client sends."""

    def __init__(self, life: Life) -> None:
        self.life = life
        self.up, self.down = Pipe(), Pipe()
        self.closed = trio.Event()  # by either side

    def close(self) -> None:
        self.up.end()
        self.down.end()
        self.closed.set()


class ServerEnd(trio.abc.Stream):
    """The venue's end of a connection."""

    def __init__(self, line: Line) -> None:
        self.line = line

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        if self.line.closed.is_set():
            raise trio.BrokenResourceError("the client has hung up")
        self.line.down.put(bytes(data))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return await self.line.up.take(max_bytes or 65536)

    async def aclose(self) -> None:
        self.line.close()
        await trio.lowlevel.checkpoint()


class Net(trio.abc.SocketFactory):
    """All connections of a world."""

    def __init__(self, spawn: Callable[..., None], accept: Accept, dial: Dial) -> None:
        self._spawn, self._accept, self._dial = spawn, accept, dial
        self._lives: dict[int, Life] = {}
        self.lines: list[Line] = []

    def host(self, life: Life) -> str:
        """Where this incarnation finds the venue."""
        self._lives[FIRST_PORT + life.number] = life
        return f"http://{ADDRESS}:{FIRST_PORT + life.number}"

    def socket(self, family: Any = stdlib.AF_INET, type: Any = stdlib.SOCK_STREAM, proto: int = 0) -> "ClientSocket":
        assert type == stdlib.SOCK_STREAM
        return ClientSocket(self)

    async def connect(self, port: int) -> Line:
        life = self._lives[port]
        await self._dial()
        if not life.alive:
            await trio.sleep_forever()
        line = Line(life)
        self.lines.append(line)
        self._spawn(self._serve, line)
        return line

    async def _serve(self, line: Line) -> None:
        try:
            await self._accept(line.life, ServerEnd(line))
        finally:
            line.close()
            self.lines.remove(line)

    def hang_up(self, life: Life | None = None) -> None:
        """All connections of a process that has died; or everybody's."""
        for line in self.lines:
            if life is None or line.life is life:
                line.close()


class ClientSocket(trio.socket.SocketType):
    """What trio's streams, and by them httpx and trio-websocket, take for a socket."""

    family = stdlib.AF_INET  # type: ignore[assignment]
    type = stdlib.SOCK_STREAM  # type: ignore[assignment]
    proto = 0  # type: ignore[assignment]
    did_shutdown_SHUT_WR = False  # type: ignore[assignment]

    def __init__(self, net: Net) -> None:
        super().__init__()
        self._net = net
        self._line: Line | None = None
        self._closed = False

    def is_readable(self) -> bool:
        """Whether a read would return at once; of an idle connection that means: it was closed."""
        line = self._line
        return self._closed or line is None or line.down.ended or bool(line.down.waiting)

    def fileno(self) -> int:
        return -1 if self._closed else 0

    def setsockopt(self, *args: Any) -> None:  # type: ignore[override]
        pass

    def getsockopt(self, *args: Any) -> Any:  # type: ignore[override]
        return 0

    def getpeername(self) -> Any:
        return (ADDRESS, 0)

    def getsockname(self) -> Any:
        return (ADDRESS, 0)

    async def connect(self, address: Any) -> None:
        self._line = await self._net.connect(address[1])

    async def send(self, data: Any, flags: int = 0) -> int:  # type: ignore[override]
        line = await self._living()
        if line.closed.is_set():
            raise BrokenPipeError("the venue has hung up")
        line.up.put(bytes(data))
        return len(data)

    async def recv(self, buflen: int, flags: int = 0) -> bytes:  # type: ignore[override]
        line = await self._living()
        piece = await line.down.take(buflen)
        await self._living()
        return piece

    async def _living(self) -> Line:
        """A dead process neither sends nor hears."""
        await trio.lowlevel.checkpoint()
        if self._closed or self._line is None:
            raise OSError(9, "the socket is closed")
        if not self._line.life.alive:
            await trio.sleep_forever()
        return self._line

    def shutdown(self, flag: int) -> None:
        if self._line is not None:
            self._line.up.end()
            self.did_shutdown_SHUT_WR = True

    def close(self) -> None:
        self._closed = True
        if self._line is not None:
            self._line.close()
