"""The paper venue behind a loopback socket, so that engine and venue can be separate processes that die apart.

Lines of JSON. A request line carries a number and its answer the same; answers come in any order. A connection that
has asked to be a stream gets reports, quotes (of each symbol the latest, at most every 50 ms) and, when there is
nothing else to say, a beat per second. The client decides nothing: any break after the first byte of a request is
Silence, and a request that never had a connection was not sent.

    python -m engine.venues.link --port 0 --tape synthetic --seed 7 --store venue.ndjson
"""

import argparse
import signal
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from random import Random
from typing import TypeVar

import msgspec
import trio

from engine.core.messages import (
    Acked,
    Answer,
    BalanceReport,
    Cancel,
    Failed,
    FillReport,
    FundingReport,
    Instrument,
    InstrumentKind,
    NotFound,
    Order,
    OrderReport,
    PositionReport,
    Quote,
    Rejection,
    Silence,
    VenueReport,
)
from engine.core.money import use_exact_context
from engine.market import recorded, synthetic
from engine.market.orders import OrderRequest
from engine.market.tape import play
from engine.runtime.clock import Clock, live_clock
from engine.venues.base import StreamDown, Traits
from engine.venues.link_server import serve
from engine.venues.link_wire import (
    GARBAGE,
    RECEIVE_BYTES,
    AnyCall,
    Beat,
    CancelCall,
    DropCall,
    FaultsCall,
    Lines,
    QueryCall,
    StreamCall,
    SubmitCall,
    decode_line,
    line_of,
)
from engine.venues.paper import Faults, PaperTerms, PaperVenue, Truth, traits
from engine.venues.pipeline import Pipeline
from engine.venues.subscription import Pump, Subscription

T = TypeVar("T")
SILENT_AFTER_SECONDS = 5.0


class LinkVenue:
    """A paper venue in another process; implements `Venue`, and `quote` is a QuoteSource.

    One connection for requests, made when one is needed and remade when it broke, and one per stream. Quotes come with
    the stream, or on request.
    """

    def __init__(
        self, host: str, port: int, clock: Clock, venue_traits: Traits | None = None, timeout_seconds: float = 3.0
    ) -> None:
        """`venue_traits` are those of default paper terms until `learn_traits` has asked."""
        self.traits = venue_traits or traits(PaperTerms(balances={}))
        self.quotes: dict[str, Quote] = {}
        self._address = (host, port)
        self._clock = clock
        self._timeout = timeout_seconds
        self._connection: Pipeline | None = None
        self._connecting = trio.Lock()
        self._number = 0

    # ------------------------------------------------------------------------------------------------------ requests

    async def submit(self, order: Order, on_wire: Callable[[], None]) -> Answer:
        call = SubmitCall(self._next(), OrderRequest.of(order), self._clock.now_ns())
        return await self._request(call, on_wire)

    def ready(self) -> bool:
        return self._connection is not None and self._connection.ready()

    def submit_now(self, order: Order, on_wire: Callable[[], None]) -> Callable[[], Awaitable[Answer]]:
        connection = self._connection
        assert connection is not None, "it is not ready"
        call = SubmitCall(self._next(), OrderRequest.of(order), self._clock.now_ns())
        line = line_of(call)
        on_wire()
        connection.send(call.id, line)
        return partial(self._answer, connection, call.id)

    async def cancel(self, cancel: Cancel) -> Answer:
        return await self._request(CancelCall(self._next(), cancel, self._clock.now_ns()), lambda: None)

    async def _request(self, call: SubmitCall | CancelCall, on_wire: Callable[[], None]) -> Answer:
        line = line_of(call)
        connection = await self._connected()
        if isinstance(connection, Failed):
            return Rejection("not_sent", "not_sent", connection.why)
        on_wire()
        connection.send(call.id, line)
        return await self._answer(connection, call.id)

    async def _answer(self, connection: Pipeline, number: int) -> Answer:
        with trio.move_on_after(self._timeout):
            raw = await connection.answer(number)
            if raw is None:
                return Silence(connection.broken)
            try:
                return _ANSWER.decode(raw)
            except GARBAGE as error:
                return Silence(f"garbage: {error}")
        return Silence("no answer in time")

    # ------------------------------------------------------------------------------------------------------- queries

    async def instruments(self) -> tuple[Instrument, ...] | Failed:
        if isinstance(learnt := await self.learn_traits(), Failed):  # how long doubt lasts is the server's to say
            return learnt
        return await self._query(_INSTRUMENTS, "instruments")

    async def server_time_ns(self) -> int | Failed:
        return await self._query(_TIME, "server_time_ns")

    async def balances(self) -> tuple[BalanceReport, ...] | Failed:
        return await self._query(_BALANCES, "balances")

    async def positions(self) -> tuple[PositionReport, ...] | Failed:
        return await self._query(_POSITIONS, "positions")

    async def open_orders(self) -> tuple[OrderReport, ...] | Failed:
        return await self._query(_ORDERS, "open_orders")

    async def order(self, symbol: str, cid: str) -> OrderReport | NotFound | Failed:
        return await self._query(_ORDER, "order", symbol, cid)

    async def fills(self, since_ns: int, cid: str | None = None) -> tuple[FillReport | FundingReport, ...] | Failed:
        return await self._query(_EXECUTIONS, "fills", "", cid, since_ns)

    def quote(self, symbol: str) -> Quote | None:
        """As last heard; as a QuoteSource."""
        return self.quotes.get(symbol)

    async def fetch_quote(self, symbol: str) -> Quote | Failed | None:
        """The venue's quote now; remembered for `quote`."""
        found = await self._query(_QUOTE, "quote", symbol)
        if isinstance(found, Quote):
            self.quotes[symbol] = found
        return found

    async def learn_traits(self) -> Traits | Failed:
        found = await self._query(_TRAITS, "traits")
        if isinstance(found, Traits):
            self.traits = found
        return found

    async def truth(self) -> Truth | Failed:
        """Everything the venue knows; for checkers, not for the engine."""
        return await self._query(_TRUTH, "truth")

    async def set_faults(self, faults: Faults) -> Failed | None:
        return await self._control(FaultsCall(self._next(), faults))

    async def drop_streams(self) -> Failed | None:
        return await self._control(DropCall(self._next()))

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    async def _query(
        self,
        decoder: "msgspec.json.Decoder[T]",
        what: str,
        symbol: str = "",
        cid: str | None = None,
        since_ns: int = 0,
    ) -> T | Failed:
        return await self._ask(QueryCall(self._next(), what, symbol, cid, since_ns), decoder)

    async def _control(self, call: FaultsCall | DropCall) -> Failed | None:
        return await self._ask(call, _NONE)

    async def _ask(self, call: AnyCall, decoder: "msgspec.json.Decoder[T]") -> T | Failed:
        connection = await self._connected()
        if isinstance(connection, Failed):
            return connection
        with trio.move_on_after(self._timeout):
            raw = await connection.call(call.id, line_of(call))
            if raw is None:
                return Failed(connection.broken)
            try:
                return decoder.decode(raw)
            except GARBAGE as error:
                return Failed(f"garbage: {error}")
        return Failed("no answer in time")

    async def _connected(self) -> Pipeline | Failed:
        if self._connection is not None and self._connection.ready():
            return self._connection
        async with self._connecting:
            if self._connection is not None and not self._connection.broken:
                return self._connection  # made by another request while this one waited
            with trio.move_on_after(self._timeout):
                try:
                    self._connection = await Pipeline.open(*self._address)
                    return self._connection
                except OSError as error:
                    return Failed(f"could not connect: {error}")
            return Failed("could not connect in time")

    def _next(self) -> int:
        self._number += 1
        return self._number

    # -------------------------------------------------------------------------------------------------------- stream

    def stream(self) -> Subscription:
        return Subscription(self._subscribe, buffer=10_000)

    async def _subscribe(self) -> Pump:
        lines, number = Lines(), self._next()
        with trio.move_on_after(self._timeout):
            try:
                stream = await trio.open_tcp_stream(*self._address)
                await stream.send_all(line_of(StreamCall(number)))
                heard: list[bytes] = []
                while not heard:
                    heard = lines.feed(await _piece(stream))
            except (OSError, trio.BrokenResourceError) as error:
                raise StreamDown(f"could not subscribe: {error}") from error

            async def pump(send: trio.MemorySendChannel[VenueReport]) -> None:
                async with stream:
                    self._hear(heard[1:], send)
                    while True:
                        self._hear(lines.feed(await _piece(stream)), send)

            return pump
        raise StreamDown("could not subscribe in time")

    def _hear(self, lines: list[bytes], send: trio.MemorySendChannel[VenueReport]) -> None:
        for line in lines:
            try:
                message = decode_line(line)
                if isinstance(message, Quote):
                    self.quotes[message.symbol] = message
                elif not isinstance(message, Beat):
                    send.send_nowait(message)
            except GARBAGE as error:
                raise StreamDown(f"garbage: {error}") from error
            except trio.WouldBlock:
                raise StreamDown(f"the reader is {send.statistics().max_buffer_size} reports behind") from None


async def _piece(stream: trio.SocketStream) -> bytes:
    """Raises StreamDown at the end of the connection, and when it has been silent for too long."""
    with trio.move_on_after(SILENT_AFTER_SECONDS):
        try:
            piece = await stream.receive_some(RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise StreamDown(f"the connection broke: {error}") from error
        if piece:
            return bytes(piece)
        raise StreamDown("the connection was closed")
    raise StreamDown(f"nothing heard for {SILENT_AFTER_SECONDS} seconds")


_ANSWER: msgspec.json.Decoder[Answer] = msgspec.json.Decoder(Acked | Rejection | Silence)
_INSTRUMENTS = msgspec.json.Decoder(tuple[Instrument, ...] | Failed)
_TIME = msgspec.json.Decoder(int | Failed)
_BALANCES = msgspec.json.Decoder(tuple[BalanceReport, ...] | Failed)
_POSITIONS = msgspec.json.Decoder(tuple[PositionReport, ...] | Failed)
_ORDERS = msgspec.json.Decoder(tuple[OrderReport, ...] | Failed)
_ORDER = msgspec.json.Decoder(OrderReport | NotFound | Failed)
_EXECUTIONS = msgspec.json.Decoder(tuple[FillReport | FundingReport, ...] | Failed)
_QUOTE = msgspec.json.Decoder(Quote | None)
_TRAITS = msgspec.json.Decoder(Traits)
_TRUTH = msgspec.json.Decoder(Truth)
_NONE: msgspec.json.Decoder[Failed | None] = msgspec.json.Decoder(Failed | None)


# ------------------------------------------------------------------------------------------ a venue of its own


async def _main(arguments: argparse.Namespace) -> None:
    clock = live_clock()
    if arguments.tape == "synthetic":
        traded = synthetic.instruments(InstrumentKind(arguments.kind))
        tape = synthetic.events(Random(arguments.seed), traded, clock.now_ns())
    else:
        traded = recorded.survey(arguments.tape).instruments
        tape = recorded.Recording(arguments.tape).events()
    terms = msgspec.json.decode(arguments.terms, type=PaperTerms)
    with closing(PaperVenue(traded, terms, clock, Random(arguments.seed), arguments.store)) as venue:
        async with trio.open_nursery() as nursery:
            port = await nursery.start(serve, venue, arguments.host, arguments.port)
            nursery.start_soon(partial(play, tape, clock, venue.publish, offset_ns=None))
            print(f"listening on {arguments.host}:{port}", flush=True)
            with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                await anext(signals)
            nursery.cancel_scope.cancel()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m engine.venues.link", description="A paper venue behind a socket.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0: a free one, which is printed")
    parser.add_argument("--tape", default="synthetic", help="'synthetic', or the file of a recording")
    parser.add_argument("--kind", choices=("linear", "spot"), default="linear", help="what the synthetic tape trades")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--store", type=Path, help="file of the venue's own memory; without it, it forgets")
    parser.add_argument("--terms", default='{"balances":{"USDT":"10000"}}', help="PaperTerms as JSON")
    return parser.parse_args()


if __name__ == "__main__":
    use_exact_context()
    trio.run(_main, _arguments())
