"""A venue's servers in a world: HTTP and WebSockets on the network in memory, in front of the simulated venue.

A face reads requests and writes answers in its venue's own words; what becomes of a request on its way is the simulated
venue's business, as it is for the plain one, so every fault of a world befalls real requests and real frames, too.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from random import Random
from typing import Protocol

import trio
from msgspec import Struct

from engine.core.messages import Answer, OrderReport, Silence, VenueReport
from engine.exchange.connection import Broken, Upgraded, WebSocket, speak_http
from engine.exchange.http import Request, Response
from tests.sim.faces.net import Net, ServerEnd
from tests.sim.truth import CancelWired, Fell
from tests.sim.venue import Connection, Life, Reply, SimVenue

HTML = b"<html><head><title>Please wait</title></head><body>Checking your browser</body></html>"


class Act(Struct):
    """A request that changes something: what it does, and how its answer is written. `what`: submit or cancel."""

    what: str
    work: Callable[[], Awaitable[Answer]]
    write: Callable[[Answer], Response]  # of a WebSocket: its body is the frame
    cid: str = ""  # of the order that it cancels


class Ask(Struct):
    """A question, and its answer by the venue's memory when it arrives."""

    answer: Callable[[], Response]


class Session(Protocol):
    """One WebSocket. What it is sent it answers with frames, or by doing something."""

    private: bool  # tells of orders; to be refused when streams are

    def hear(self, text: bytes) -> list[bytes] | Act: ...

    def opened(self) -> None: ...

    def close(self) -> None: ...


class Wires(Struct):
    """A WebSocket as a session sees it."""

    life: Life
    post: Callable[[bytes], None]
    cut: Callable[[], None]


class Face(Protocol):
    """One venue's protocol."""

    def hear(self, life: Life, request: Request) -> Act | Ask | Response: ...

    def open(self, path: str, query: str, wires: Wires) -> Session | None: ...

    def banned(self) -> Response: ...


class Office:
    """Everything that the shipped adapters connect to."""

    def __init__(self, venue: SimVenue, face: Face, seed: str) -> None:
        self._venue, self.face = venue, face
        self._chance = Random(f"{seed}/office")
        self.turns: dict[tuple[int, str], int] = {}  # when a cancel, by life and order, had its turn
        self.net = Net(venue.spawn, self._serve, self._dial)
        venue.cuts.append(self._cut)

    async def _dial(self) -> None:
        venue = self._venue
        await trio.sleep(venue.latency())
        if venue.fault(venue.faults.connect_refused):
            raise ConnectionRefusedError(111, "connection refused")

    def _cut(self) -> None:
        """What cuts streams cuts order sockets and kept connections, too."""
        self.net.hang_up()

    async def _serve(self, life: Life, end: ServerEnd) -> None:
        try:
            await speak_http(end, "10.0.0.1", partial(self._answer, life, end))
        except Upgraded as upgraded:
            try:
                await self._converse(life, end, upgraded)
            except* Broken:
                pass  # the client is gone
        except Broken:
            pass

    # ------------------------------------------------------------------------------------------------------- requests

    async def _answer(self, life: Life, end: ServerEnd, request: Request) -> bytes | None:
        asked = self.face.hear(life, request)
        match asked:
            case Act():
                response = await self._act(life, end, asked)
            case Ask():
                response = await self._ask(end, asked)
            case _:
                await trio.sleep(2 * self._venue.latency())
                response = asked
        return None if response is None else response.wire(keep_alive=True)

    async def _act(self, life: Life, end: ServerEnd, act: Act) -> Response | None:
        reply = self._set_off(life, act)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until, end.line.closed, nursery.cancel_scope)
            await reply.event.wait()
            nursery.cancel_scope.cancel()
        if reply.answer is None:
            return None  # the client has given up
        if isinstance(reply.answer, Silence) and reply.answer.why == "garbage":
            return self._garbage(act.write(reply.answer))
        return act.write(reply.answer)

    def _set_off(self, life: Life, act: Act) -> Reply:
        """It has arrived in this moment, whole; from here on it goes its way whatever becomes of the client."""
        reply = Reply(event=trio.Event())
        if act.what == "cancel":
            turn_ns = self.turns.get((life.number, act.cid), 0)
            self._venue.truth.tell(CancelWired(self._venue.wall_ns(), cid=act.cid, life=life.number, signed_ns=turn_ns))
        self._venue.spawn(self._venue.carry, life, act.work, reply)
        life.boundary(f"{act.what}.wired")
        return reply

    async def _ask(self, end: ServerEnd, ask: Ask) -> Response | None:
        venue = self._venue
        failed = await venue.ask()
        if failed is None:
            response = self.face.banned() if venue.banned else ask.answer()
            return self._garbage(response) if venue.fault(venue.faults.garbled) else response
        match failed.why:
            case "timed out":
                if self._chance.random() < 0.8:
                    return None  # cut off
                await end.line.closed.wait()  # nothing comes, ever
                return None
            case "garbage":
                return self._garbage(ask.answer())
        return Response(503, b"<html><body>503 Service Unavailable</body></html>", (), "text/html")

    def _garbage(self, response: Response) -> Response:
        """Somebody else's page, or a part of the answer."""
        if self._chance.random() < 0.5:
            return Response(200, HTML, (), "text/html")
        return Response(200, response.body[: len(response.body) * 2 // 3])

    # ----------------------------------------------------------------------------------------------------- WebSockets

    async def _converse(self, life: Life, end: ServerEnd, upgraded: Upgraded) -> None:
        socket, venue = WebSocket(end, upgraded), self._venue
        request = upgraded.request
        session = self.face.open(request.path, request.query, Wires(life, socket.post, end.line.close))
        if session is None:
            return await socket.refuse(404)
        away = venue.away or (session.private and venue.dead == "the private stream")
        if away or (session.private and venue.fault(venue.faults.stream_refused)):
            return await socket.refuse(503)
        socket.accept()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(socket.write)
                session.opened()
                await socket.read(partial(self._hear, life, end, session, socket))
                nursery.cancel_scope.cancel()
        finally:
            session.close()
        return None

    async def _hear(self, life: Life, end: ServerEnd, session: Session, socket: WebSocket, text: bytes) -> None:
        heard = session.hear(text)
        if isinstance(heard, Act):
            self._venue.spawn(self._answer_frame, end, heard, socket, self._set_off(life, heard))
            return
        await trio.sleep(2 * self._venue.latency())
        for frame in heard:
            socket.post(frame)

    async def _answer_frame(self, end: ServerEnd, act: Act, socket: WebSocket, reply: Reply) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until, end.line.closed, nursery.cancel_scope)
            await reply.event.wait()
            nursery.cancel_scope.cancel()
        if reply.answer is not None:
            frame = act.write(reply.answer).body
            garbled = isinstance(reply.answer, Silence) and reply.answer.why == "garbage"
            socket.post(frame[: len(frame) * 2 // 3] if garbled else frame)


async def _until(closed: trio.Event, scope: trio.CancelScope) -> None:
    await closed.wait()
    scope.cancel()


class Told:
    """A private stream's connection to the venue, from when it may be told until it ends."""

    def __init__(self, venue: SimVenue, hear: Callable[[VenueReport, OrderReport | None], None], wires: Wires) -> None:
        self._venue, self._hear, self._wires = venue, hear, wires
        self._connection: Connection | None = None

    def begin(self) -> None:
        if self._connection is None:
            self._connection = self._venue.connect(self._hear, self._wires.cut)

    def end(self) -> None:
        if self._connection is not None:
            self._venue.disconnect(self._connection)


def protest(venue: SimVenue, life: Life, why: str) -> None:
    """The adapter did what no real venue would take, whatever the faults: that is a broken promise by itself."""
    venue.truth.tell(Fell(venue.wall_ns(), life=life.number, why=f"the venue protests: {why}"))
