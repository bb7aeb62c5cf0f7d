"""One connection of Bybit's private stream: log in, subscribe, wait for each yes, then reports until it breaks.

Nothing is replayed by the venue, so that whoever connects anew must backfill.
Docs: "Connect", "Order", "Execution", "Dcp".
"""

from collections.abc import Callable

import orjson
import trio
from msgspec import Struct
from trio_websocket import WebSocketConnection

from engine.core.messages import Instrument, VenueReport
from engine.runtime.websocket import open_websocket
from engine.venues.base import StreamDown
from engine.venues.bybit.frames import Ack, ping, stream_frame
from engine.venues.private_stream import Deliver, receive_bytes

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
    """One connection of the private stream: logs in, subscribes, and hands on what it hears."""

    def __init__(self, terms: PrivateTerms) -> None:
        self._terms = terms
        self._heard_at = 0.0

    async def run(self, deliver: Deliver, ready: Callable[[], None]) -> None:
        """Until something is wrong, and raises it: StreamDown, or what a connection dies of."""
        async with open_websocket(self._terms.url) as socket, trio.open_nursery() as nursery:
            await self._enter(socket, deliver)
            self._heard_at = trio.current_time()
            ready()
            nursery.start_soon(self._ping, socket)
            while True:
                _pass_on(await self._read(socket), deliver)

    async def _enter(self, socket: WebSocketConnection, deliver: Deliver) -> None:
        """The login is answered before the first topic is asked for, else the venue refuses the topic."""
        with trio.fail_after(ANSWER_SECONDS):
            await self._request(socket, "auth", self._terms.login(), deliver)
            for number, topic in enumerate(self._terms.topics):
                frame = orjson.dumps({"req_id": f"s{number}", "op": "subscribe", "args": [topic]}).decode()
                await self._request(socket, "subscribe", frame, deliver)

    async def _request(self, socket: WebSocketConnection, op: str, frame: str, deliver: Deliver) -> None:
        await socket.send_message(frame)
        while True:
            heard = await self._read(socket)
            if isinstance(heard, Ack) and heard.op == op:
                if heard.wrong and "already subscribed" not in heard.wrong:
                    raise StreamDown(f"{op} was refused: {heard.wrong}")
                return
            _pass_on(heard, deliver)  # the first topics deliver while the last are asked for

    async def _read(self, socket: WebSocketConnection) -> tuple[VenueReport, ...] | Ack:
        raw = await receive_bytes(socket)
        self._heard_at = trio.current_time()
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


def _pass_on(heard: tuple[VenueReport, ...] | Ack, deliver: Deliver) -> None:
    if not isinstance(heard, Ack):
        for report in heard:
            deliver(report)
    elif heard.wrong:
        raise StreamDown(f"the venue says: {heard.wrong}")
