"""One connection of Bybit's private stream: log in, subscribe, wait for each yes, then reports until it breaks.

Whatever is wrong is StreamDown. Nothing is replayed by the venue, so that whoever connects anew must backfill.
Docs: "Connect", "Order", "Execution", "Dcp".
"""

from collections.abc import Callable

import orjson
import trio
from msgspec import Struct
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection

from engine.core.messages import Instrument, VenueReport
from engine.runtime.websocket import open_websocket
from engine.venues.base import StreamDown
from engine.venues.bybit.frames import Ack, Unreadable, ping, stream_frame

ANSWER_SECONDS = 5.0
PING_SECONDS = 20.0
SILENT_SECONDS = 10.0  # without any frame after a ping


class PrivateTerms(Struct, frozen=True):
    url: str
    category: str
    topics: tuple[str, ...]
    login: Callable[[], str]
    instruments: dict[str, Instrument]  # as known now; filled by the client
    ping_seconds: float = PING_SECONDS
    silent_seconds: float = SILENT_SECONDS


class Private:
    def __init__(self, terms: PrivateTerms, started: trio.Event) -> None:
        self._terms = terms
        self._started = started
        self._heard_at = 0.0

    async def deliver(self, send: trio.MemorySendChannel[VenueReport]) -> None:
        """Until something is wrong. Raises StreamDown."""
        why = "the private stream ended"
        try:
            async with open_websocket(self._terms.url) as socket, trio.open_nursery() as nursery:
                await self._enter(socket, send)
                self._heard_at = trio.current_time()
                self._started.set()
                nursery.start_soon(self._ping, socket)
                while True:
                    self._pass_on(await self._read(socket), send)
        except* StreamDown as group:
            why = str(_first(group))
        except* Unreadable as group:
            why = str(_first(group))
        except* (ConnectionClosed, HandshakeError, OSError, trio.TooSlowError, trio.BrokenResourceError) as group:
            error = _first(group)
            why = f"{type(error).__name__}: {error}"[:300]
        raise StreamDown(why)

    async def _enter(self, socket: WebSocketConnection, send: trio.MemorySendChannel[VenueReport]) -> None:
        """The login is answered before the first topic is asked for, else the venue refuses the topic."""
        with trio.fail_after(ANSWER_SECONDS):
            await self._request(socket, "auth", self._terms.login(), send)
            for number, topic in enumerate(self._terms.topics):
                frame = orjson.dumps({"req_id": f"s{number}", "op": "subscribe", "args": [topic]}).decode()
                await self._request(socket, "subscribe", frame, send)

    async def _request(
        self, socket: WebSocketConnection, op: str, frame: str, send: trio.MemorySendChannel[VenueReport]
    ) -> None:
        await socket.send_message(frame)
        while True:
            heard = await self._read(socket)
            if isinstance(heard, Ack) and heard.op == op:
                if heard.wrong and "already subscribed" not in heard.wrong:
                    raise StreamDown(f"{op} was refused: {heard.wrong}")
                return
            self._pass_on(heard, send)  # the first topics deliver while the last are asked for

    def _pass_on(self, heard: tuple[VenueReport, ...] | Ack, send: trio.MemorySendChannel[VenueReport]) -> None:
        if isinstance(heard, Ack):
            if heard.wrong:
                raise StreamDown(f"the venue says: {heard.wrong}")
            return
        try:
            for report in heard:
                send.send_nowait(report)
        except trio.WouldBlock:
            raise StreamDown(f"the reader is {send.statistics().max_buffer_size} reports behind") from None

    async def _read(self, socket: WebSocketConnection) -> tuple[VenueReport, ...] | Ack:
        message: str | bytes = await socket.get_message()
        self._heard_at = trio.current_time()
        raw = message.encode() if isinstance(message, str) else message
        return stream_frame(raw, self._terms.category, self._terms.instruments)

    async def _ping(self, socket: WebSocketConnection) -> None:
        while True:
            await trio.sleep(self._terms.ping_seconds)
            asked_at = trio.current_time()
            with trio.move_on_after(self._terms.silent_seconds):
                await socket.send_message(ping())
                await trio.sleep_forever()
            if self._heard_at < asked_at:
                raise StreamDown(f"no answer to a ping in {self._terms.silent_seconds:g} seconds")


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found
