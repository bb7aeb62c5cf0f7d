"""The venue's end of the link: requests run side by side, as they do at a venue, and a stream never waits for them."""

import trio

from engine.core.messages import Failed
from engine.runtime.listening import told_by_place
from engine.venues.base import StreamDown
from engine.venues.link_wire import (
    GARBAGE,
    REQUEST_MAX,
    AnyCall,
    Beat,
    CancelCall,
    DropCall,
    FaultsCall,
    Lines,
    QueryCall,
    Reply,
    SubmitCall,
    decode_call,
    line_of,
)
from engine.venues.paper import PaperVenue

QUOTES_EVERY_SECONDS = 0.05
BEAT_EVERY_SECONDS = 1.0
SLOW_MS_MAX = 600_000


async def serve(
    venue: PaperVenue,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Until cancelled. Reports the port it listens on. Raises OSError when it cannot listen."""
    with told_by_place("the paper venue", host, port):
        listeners = await trio.open_tcp_listeners(port, host=host)
    task_status.started(listeners[0].socket.getsockname()[1])

    async def session(stream: trio.SocketStream) -> None:
        await _Session(venue, stream).run()

    await trio.serve_listeners(session, listeners)


class _Session:
    """One connection at the venue. Requests run side by side, as they do at a venue."""

    def __init__(self, venue: PaperVenue, stream: trio.SocketStream) -> None:
        self._venue = venue
        self._stream = stream
        self._sending = trio.Lock()

    async def run(self) -> None:
        lines = Lines(REQUEST_MAX)
        async with self._stream, trio.open_nursery() as nursery:
            try:
                async for piece in self._stream:
                    for line in lines.feed(bytes(piece)):
                        nursery.start_soon(self._answer, decode_call(line))
            except (trio.BrokenResourceError, trio.ClosedResourceError, *GARBAGE):
                pass  # the peer is gone or does not speak our language: either way this connection is over
            nursery.cancel_scope.cancel()

    async def _answer(self, call: AnyCall) -> None:
        venue = self._venue
        if isinstance(call, SubmitCall | CancelCall):
            await self._send(line_of(Reply(call.id, await venue.request(call.request, call.sent_ns))))
        elif isinstance(call, QueryCall):
            await self._send(line_of(Reply(call.id, await self._ask(call))))
        elif isinstance(call, FaultsCall):
            if not 0 <= call.faults.slow_ms <= SLOW_MS_MAX:
                return await self._send(line_of(Reply(call.id, Failed(f"slow_ms must be from 0 to {SLOW_MS_MAX}"))))
            venue.faults = call.faults
            await self._send(line_of(Reply(call.id, None)))
        elif isinstance(call, DropCall):
            venue.drop_streams()
            await self._send(line_of(Reply(call.id, None)))
        else:
            await self._report(call.id)

    async def _ask(self, call: QueryCall) -> object:
        venue = self._venue
        match call.what:
            case "order":
                return await venue.order(call.symbol, call.cid or "")
            case "fills":
                return await venue.fills(call.since_ns, call.cid)
            case "quote":
                return venue.quote(call.symbol)
            case "traits":
                return venue.traits
            case "truth":
                return venue.truth()
            case "instruments":
                return await venue.instruments()
            case "server_time_ns":
                return await venue.server_time_ns()
            case "balances":
                return await venue.balances()
            case "positions":
                return await venue.positions()
            case "open_orders":
                return await venue.open_orders()
        return Failed(f"there is no query {call.what!r}")

    async def _report(self, number: int) -> None:
        try:
            async with self._venue.stream() as reports, trio.open_nursery() as nursery:
                await self._send(line_of(Reply(number, None)))
                nursery.start_soon(self._quote)
                async for report in reports:
                    await self._send(line_of(report))
                nursery.cancel_scope.cancel()
        except StreamDown:
            await self._stream.aclose()

    async def _quote(self) -> None:
        moved: dict[str, None] = dict.fromkeys(self._venue.matching.market.books)
        self._venue.watchers.append(moved)
        try:
            quiet = 0.0
            while True:
                quotes = [self._venue.quote(symbol) for symbol in moved]
                moved.clear()
                batch = b"".join(line_of(quote) for quote in quotes if quote is not None)
                quiet = 0.0 if batch else quiet + QUOTES_EVERY_SECONDS
                if quiet >= BEAT_EVERY_SECONDS:
                    batch, quiet = line_of(Beat()), 0.0
                await self._send(batch)
                await trio.sleep(QUOTES_EVERY_SECONDS)
        finally:
            self._venue.watchers.remove(moved)

    async def _send(self, line: bytes) -> None:
        async with self._sending:
            try:
                await self._stream.send_all(line)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass  # nobody is there to hear it; what was asked for has happened all the same
