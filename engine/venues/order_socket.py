"""Order entry over a venue's WebSocket: many requests under way on one connection, each answered by its number.

A request is "not sent" only while there is no connection that was let in; the caller may then take another way (REST).
From the moment when a frame is handed to a living connection it may have had its effect, whatever is heard or not heard
after that, and the caller must not send it by any other way.
"""

from collections.abc import Callable
from random import Random

import structlog
import trio
from msgspec import Struct
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection

from engine.core.messages import Rejection, Silence
from engine.runtime.websocket import open_websocket, send_text

LOG = structlog.get_logger("order_socket")
PAUSE_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)  # between tries to connect, +-25 %
LOGIN_SECONDS = 5.0


class Heard(Struct, frozen=True):
    """What a frame is: the answer to request `number`, or, without a number, a complaint about some request of `op`."""

    number: str = ""
    op: str = ""
    complaint: str = ""
    login: bool = False  # the answer to the login; `complaint` says why it was refused


class Manners(Struct, frozen=True):
    """How one venue's order socket is talked to."""

    name: str
    url: str
    hear: Callable[[bytes], Heard]  # must not raise
    login: Callable[[], str] | None = None  # the first frame, made when connected
    ping: Callable[[], str] | None = None  # where the venue wants it in words
    ping_seconds: float = 20.0
    silent_seconds: float = 10.0  # without any frame after a ping, the connection counts as dead


class Waiting:
    """A request under way."""

    __slots__ = ("answer", "news", "op")

    def __init__(self, op: str) -> None:
        self.op = op
        self.answer: bytes | Silence | None = None
        self.news = trio.Event()

    def settle(self, answer: bytes | Silence) -> None:
        if self.answer is None:
            self.answer = answer
            self.news.set()


class OrderSocket:
    """`keep` it in a task; `call` it from many."""

    def __init__(self, manners: Manners, rng: Random) -> None:
        self.why = "not connected yet"
        self._manners = manners
        self._rng = rng
        self._socket: WebSocketConnection | None = None  # only while it takes requests
        self._waiting: dict[str, Waiting] = {}
        self._session_scope = trio.CancelScope()
        self._up = trio.Event()
        self._heard_at = 0.0

    @property
    def ready(self) -> bool:
        return self._socket is not None and self._socket.closed is None

    async def until_ready(self, seconds: float) -> bool:
        """Waits for the connection, but no longer."""
        with trio.move_on_after(seconds):
            while not self.ready:
                await self._up.wait()
                await trio.lowlevel.checkpoint()
        return self.ready

    async def call(
        self, number: str, op: str, frame: bytes, on_wire: Callable[[], None], timeout_seconds: float
    ) -> bytes | Rejection | Silence:
        """The answer's frame; a Rejection of kind "not_sent" when no byte left; else Silence. Never sent twice."""
        socket = self._socket
        if socket is None or socket.closed is not None:
            return Rejection("not_sent", "not_sent", f"the order socket is down: {self.why}")
        assert number not in self._waiting, f"request number {number} is used twice"
        on_wire()  # may raise: nothing has been written then
        waiting = self._waiting[number] = Waiting(op)
        written = False
        try:
            with trio.move_on_after(timeout_seconds):
                await send_text(socket, frame, self._rng.getrandbits(32))
                written = True
                await waiting.news.wait()
            return waiting.answer or Silence("no answer in time")
        except ConnectionClosed:
            return Silence("the order socket broke while the request was being written")
        finally:
            del self._waiting[number]
            if not written:  # half a frame may be out: nothing that follows it would be understood
                self._give_up("a request was cut off while it was being written")

    async def keep(self) -> None:
        """For ever: connect, log in, read; and again after a pause."""
        failures = 0
        while True:
            try:
                let_in = await self._session()
            finally:
                self._give_up(self.why)
            failures = 0 if let_in else failures
            LOG.warning("order socket down; orders go by REST", venue=self._manners.name, reason=self.why)
            pause = PAUSE_SECONDS[min(failures, len(PAUSE_SECONDS) - 1)]
            failures += 1
            await trio.sleep(pause * self._rng.uniform(0.75, 1.25))

    async def _session(self) -> bool:
        """One connection's life; whether the venue let us in. Leaves in `why` what ended it."""
        let_in = False
        try:
            with trio.CancelScope() as self._session_scope:
                async with open_websocket(self._manners.url) as socket, trio.open_nursery() as nursery:
                    await self._log_in(socket)
                    let_in = True
                    self._socket, self._heard_at = socket, trio.current_time()
                    self._up.set()
                    self.why = ""
                    LOG.info("order socket up", venue=self._manners.name)
                    nursery.start_soon(self._ping, socket)
                    try:
                        while True:
                            self._take(await _receive(socket))
                    finally:
                        self._socket = None  # before the good-bye, which may take seconds: no frame may follow it
        except* _Down as group:
            self.why = str(_leaf(group))
        except* (ConnectionClosed, HandshakeError, OSError, trio.TooSlowError, trio.BrokenResourceError) as group:
            error = _leaf(group)
            self.why = f"{type(error).__name__}: {error}"[:300]
        finally:
            self._socket, self._up = None, trio.Event()
        return let_in

    async def _log_in(self, socket: WebSocketConnection) -> None:
        if self._manners.login is None:
            return
        with trio.fail_after(LOGIN_SECONDS):
            await socket.send_message(self._manners.login())
            while True:
                heard = self._manners.hear(await _receive(socket))
                if heard.login and heard.complaint:
                    raise _Down(f"the login was refused: {heard.complaint}")
                if heard.login:
                    return

    def _take(self, raw: bytes) -> None:
        self._heard_at = trio.current_time()
        heard = self._manners.hear(raw)
        if heard.number:
            waiting = self._waiting.get(heard.number)
            if waiting is not None:  # else it came after its time-out
                waiting.settle(raw)
        elif heard.login and heard.complaint:
            raise _Down(f"the venue threw us out: {heard.complaint}")
        elif heard.complaint:
            self._complained(heard)

    def _complained(self, heard: Heard) -> None:
        """Some request failed and the venue does not say which. The oldest of its kind is asked about, not given up."""
        for waiting in self._waiting.values():
            if waiting.answer is None and heard.op in ("", waiting.op):
                return waiting.settle(Silence(f"the venue complained without a number: {heard.complaint}"))
        return None

    async def _ping(self, socket: WebSocketConnection) -> None:
        manners = self._manners
        while True:
            await trio.sleep(manners.ping_seconds)
            asked_at = trio.current_time()
            with trio.move_on_after(manners.silent_seconds) as patience:
                if manners.ping is None:
                    await socket.ping()  # returns with the pong
                    continue
                await socket.send_message(manners.ping())
                await trio.sleep_forever()
            if patience.cancelled_caught and (manners.ping is None or self._heard_at < asked_at):
                raise _Down(f"no answer to a ping in {manners.silent_seconds:g} seconds")

    def _give_up(self, why: str) -> None:
        """No more requests on this connection; what is under way is in doubt."""
        socket, self._socket = self._socket, None
        for waiting in self._waiting.values():
            waiting.settle(Silence(f"the order socket broke: {why}"))
        if socket is not None:
            self.why = why
            self._session_scope.cancel()


class _Down(Exception):
    """This connection is of no more use."""


async def _receive(socket: WebSocketConnection) -> bytes:
    message: str | bytes = await socket.get_message()
    return message.encode() if isinstance(message, str) else message


def _leaf(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return _leaf(first) if isinstance(first, BaseExceptionGroup) else first
