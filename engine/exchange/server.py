"""The local exchange on its sockets: connections, beats of the streams, and the faults that befall requests.

All that is decided is decided by the faces, at once; here it is only waited, sent, and lost on purpose.
"""

from collections.abc import Callable
from functools import partial
from typing import Protocol

import trio
from msgspec import Struct

from engine.exchange.connection import Broken, Upgraded, WebSocket, speak_http
from engine.exchange.faults import Fault, FaultPlan, Woe
from engine.exchange.house import House
from engine.exchange.http import Request, Response
from engine.market.events import MarketEvent
from engine.runtime.clock import Clock
from engine.runtime.listening import told_by_place

BEAT_SECONDS = 0.02


class Session(Protocol):
    """One WebSocket as a face sees it. `scope` is "public", "private" or "trade"."""

    scope: str
    idle_ns: int

    def operation(self, text: bytes) -> str: ...

    def hear(self, text: bytes, now_ns: int) -> list[bytes]: ...

    def beat(self, now_ns: int) -> None: ...

    def subscribed(self) -> list[str]: ...

    def close(self) -> None: ...


class Face(Protocol):
    """One venue's protocol. Synchronous: a request is answered, a message heard, before anything else happens."""

    name: str
    house: House
    banned: dict[str, int]  # address ("" for all) -> until, ns
    ping_seconds: float  # between protocol pings of the server; 0: it sends none

    def operation(self, request: Request) -> str: ...

    def answer(self, request: Request, now_ns: int) -> Response: ...

    def refusal(self, fault: Fault, now_ns: int) -> Response: ...

    def tick(self, now_ns: int) -> None:
        """What falls due by the clock alone."""
        ...

    def connect(self, path: str, query: str, push: Callable[[bytes], None], number: int) -> Session | None: ...

    def refuse_message(self, session: Session, text: bytes, fault: Fault, now_ns: int) -> bytes: ...


HALF = b'{"half": '
PAGE = b"<!DOCTYPE html><html><head><title>Attention</title></head><body>One moment, please.</body></html>"


class Mangling(Struct):
    """What befalls the next messages of a stream: "lose", "repeat" or "swap"."""

    how: str
    times: int
    skip: int
    held: bytes = b""  # of a swap: the one that waits for its successor

    def apply(self, text: bytes) -> list[bytes]:
        """What comes out in place of it."""
        if self.skip:
            self.skip -= 1
            return [text]
        if self.held:
            out, self.held = [text, self.held], b""
            self.times -= 1
            return out
        if not self.times:
            return [text]
        if self.how == "swap":
            self.held = text
            return []
        self.times -= 1
        return [] if self.how == "lose" else [text, text]


class Line(Struct, eq=False):
    """A WebSocket that is connected."""

    face: str
    session: Session
    socket: WebSocket
    heard_ns: int
    mangling: Mangling | None = None


class Exchange:
    """The faces on their ports, with one market behind them."""

    def __init__(self, faces: tuple[Face, ...], clock: Clock) -> None:
        self.faces = {face.name: face for face in faces}
        self.clock = clock
        self.plan = FaultPlan()
        self.lines: list[Line] = []
        self.skew_ns = 0  # how far the exchange's clock is ahead of the machine's
        self.stalled: dict[str, int] = {}  # scope ("" for all) -> until when its messages are lost
        self.served = 0
        self.held = False  # the market stands: what the tape tells is not heard any more
        self.admin: Callable[[Request], Response] | None = None
        self._numbered = 0

    def now_ns(self) -> int:
        return self.clock.now_ns() + self.skew_ns

    def publish(self, event: MarketEvent) -> None:
        """One event of the tape, to every house."""
        if not self.held:
            self.tell(event)

    def tell(self, event: MarketEvent) -> None:
        for face in self.faces.values():
            face.house.hear(event)

    async def listen(
        self, name: str, host: str, port: int, *, task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """Serve one face until cancelled; reports the port. Raises OSError when it cannot listen."""
        with told_by_place(name, host, port):
            listeners = await trio.open_tcp_listeners(port, host=host)
        task_status.started(listeners[0].socket.getsockname()[1])
        await trio.serve_listeners(partial(self._serve, self.faces[name]), listeners)

    async def beat(self) -> None:
        """The public streams' pace, and the ends of those that are idle; for ever."""
        while True:
            now_ns = self.now_ns()
            for face in self.faces.values():
                face.tick(now_ns)
            for line in list(self.lines):
                line.session.beat(now_ns)
                if now_ns - line.heard_ns > line.session.idle_ns:
                    line.socket.close(1000, "idle")
            await trio.sleep(BEAT_SECONDS)

    def drop(self, face: str, scope: str) -> int:
        """Close the streams of that kind ("" for all); returns how many."""
        chosen = [line for line in self.lines if scope in ("", line.session.scope) and face in ("", line.face)]
        for line in chosen:
            line.socket.close(1012, "service restart")
        return len(chosen)

    # -------------------------------------------------------------------------------------------------- connections

    async def _serve(self, face: Face, stream: trio.SocketStream) -> None:
        peer = str(stream.socket.getpeername()[0])
        async with stream:
            try:
                await speak_http(stream, peer, partial(self._answer, face))
            except Upgraded as upgraded:
                try:
                    await self._speak_websocket(face, stream, upgraded)
                except* Broken:
                    pass  # the peer is gone
            except Broken:
                pass  # likewise

    async def _answer(self, face: Face, request: Request) -> bytes | None:
        self.served += 1
        if request.path.startswith("/admin/") and self.admin is not None:
            return self.admin(request).wire(keep_alive=True)
        fault = self.plan.draw(face.name, face.operation(request)) if self.plan.faults else None
        if fault is None:
            return face.answer(request, self.now_ns()).wire(keep_alive=True)
        return await self._suffer(face, request, fault)

    async def _suffer(self, face: Face, request: Request, fault: Fault) -> bytes | None:
        match fault.do:
            case Woe.LOSE_REQUEST:
                return None
            case Woe.REFUSE:
                return face.refusal(fault, self.now_ns()).wire(keep_alive=True)
            case Woe.DELAY:
                await trio.sleep(fault.ms / 1000)
            case Woe.REJECT_LATER:
                self._reject_later(face)
        reply = face.answer(request, self.now_ns()).wire(keep_alive=True)
        self._reject_no_more(face)
        match fault.do:
            case Woe.LOSE_REPLY:
                return None
            case Woe.HANG:
                await trio.sleep(fault.ms / 1000)
                return None
            case Woe.DELAY_REPLY:
                await trio.sleep(fault.ms / 1000)
            case Woe.REFUSE_DONE:
                return face.refusal(fault, self.now_ns()).wire(keep_alive=True)
            case Woe.GARBAGE:
                return Response(200, HALF).wire(keep_alive=True)
            case Woe.PAGE:
                return Response(200, PAGE, (), "text/html").wire(keep_alive=True)
        return reply

    # --------------------------------------------------------------------------------------------------- WebSockets

    async def _speak_websocket(self, face: Face, stream: trio.SocketStream, upgraded: Upgraded) -> None:
        socket, request = WebSocket(stream, upgraded), upgraded.request
        self._numbered += 1
        lines: list[Line] = []

        def push(text: bytes) -> None:
            if lines and not self._stalls(lines[0]):
                mangling = lines[0].mangling
                for out in mangling.apply(text) if mangling else (text,):
                    socket.post(out)

        session = face.connect(request.path, request.query, push, self._numbered)
        if session is None:
            return await socket.refuse(404)
        line = Line(face.name, session, socket, self.now_ns())
        lines.append(line)
        self.lines.append(line)
        socket.accept()
        try:
            async with trio.open_nursery() as nursery:
                ended = trio.Event()
                nursery.start_soon(_write, socket, ended, nursery.cancel_scope)
                if face.ping_seconds:
                    nursery.start_soon(self._ping, socket, face.ping_seconds)
                await socket.read(partial(self._hear, face, line, nursery))
                socket.close()
                ended.set()
        finally:
            self.lines.remove(line)
            session.close()
        return None

    async def _ping(self, socket: WebSocket, seconds: float) -> None:
        while True:
            await trio.sleep(seconds)
            socket.ping()

    async def _hear(self, face: Face, line: Line, nursery: trio.Nursery, text: bytes) -> None:
        self.served += 1
        line.heard_ns = self.now_ns()
        fault = self.plan.draw(face.name, line.session.operation(text)) if self.plan.faults else None
        if fault is not None:
            nursery.start_soon(self._suffer_message, face, line, text, fault)
            return
        for reply in line.session.hear(text, self.now_ns()):
            line.socket.post(reply)

    async def _suffer_message(self, face: Face, line: Line, text: bytes, fault: Fault) -> None:
        if fault.do is Woe.LOSE_REQUEST:
            return None
        if fault.do is Woe.REFUSE:
            return line.socket.post(face.refuse_message(line.session, text, fault, self.now_ns()))
        if fault.do is Woe.DELAY:
            await trio.sleep(fault.ms / 1000)
        if fault.do is Woe.REJECT_LATER:
            self._reject_later(face)
        replies = line.session.hear(text, self.now_ns())
        self._reject_no_more(face)
        if fault.do in (Woe.LOSE_REPLY, Woe.HANG):
            return None
        if fault.do is Woe.DELAY_REPLY:
            await trio.sleep(fault.ms / 1000)
        if fault.do is Woe.REFUSE_DONE:
            replies = [face.refuse_message(line.session, text, fault, self.now_ns())]
        if fault.do is Woe.GARBAGE:
            replies = [HALF]
        if fault.do is Woe.PAGE:
            replies = [PAGE]
        for reply in replies:
            line.socket.post(reply)
        return None

    def _stalls(self, line: Line) -> bool:
        until_ns = max(self.stalled.get(line.session.scope, 0), self.stalled.get("", 0))
        return self.now_ns() < until_ns

    def _reject_later(self, face: Face) -> None:
        for member in face.house.members.values():
            member.rejecting.append("EC_Others")

    def _reject_no_more(self, face: Face) -> None:
        for member in face.house.members.values():
            member.rejecting.clear()


async def _write(socket: WebSocket, ended: trio.Event, connection: trio.CancelScope) -> None:
    """Send until the close is sent; a peer that does not answer it within a second is left all the same."""
    await socket.write()
    with trio.move_on_after(1):
        await ended.wait()
    connection.cancel()
