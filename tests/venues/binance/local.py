"""A Binance account on the local exchange, in this process: the client against honest answers, and against faults."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from random import Random
from typing import Any

import trio

from engine.core.messages import InstrumentKind, Quote, Side
from engine.exchange.faults import Fault, Woe
from engine.exchange.opening import both_kinds, open_exchange
from engine.exchange.server import Exchange
from engine.exchange.terms import ExchangeTerms
from engine.market import synthetic
from engine.market.events import BookSnapshot, TradePrint
from engine.runtime.clock import live_clock
from engine.venues.binance.spot import SpotVenue
from engine.venues.binance.usdm import UsdmVenue
from engine.venues.keys import Credentials, Secret
from engine.venues.registry import REAL, THROTTLES, Setup
from engine.venues.throttle import Throttle
from tests.patience import PATIENCE_SECONDS

D = Decimal
KINDS = (InstrumentKind.LINEAR, InstrumentKind.SPOT)
FACES = {InstrumentKind.SPOT: "binance-spot", InstrumentKind.LINEAR: "binance-usdm"}


class Local:
    """The exchange, the account on it, and a hand on its market."""

    def __init__(self, exchange: Exchange, venue: Any, throttle: Throttle, kind: InstrumentKind) -> None:
        self.exchange = exchange
        self.venue: SpotVenue | UsdmVenue = venue
        self.throttle = throttle
        self.face = FACES[kind]
        self.bid = self.ask = D(0)

    @property
    def member(self) -> Any:
        return self.exchange.faces[self.face].house.members["main"]

    def quote(self, symbol: str) -> Quote:
        return Quote(symbol, self.bid, self.ask, at_ns=self.exchange.now_ns())

    def fault(self, woe: Woe, **more: Any) -> None:
        self.exchange.plan.faults.append(Fault(do=woe, face=self.face, **more))

    def show(self, bid: str, ask: str, qty: str = "50") -> None:
        self.bid, self.ask = D(bid), D(ask)
        at_ns = self.exchange.now_ns()
        self.exchange.publish(BookSnapshot("BTCUSDT", at_ns, at_ns, ((D(bid), D(qty)),), ((D(ask), D(qty)),)))

    def trade(self, price: str) -> None:
        self.exchange.publish(TradePrint("BTCUSDT", self.exchange.now_ns(), D(price), D("0.001"), Side.BUY))


@asynccontextmanager
async def local(
    kind: InstrumentKind, socket: bool = False, terms: ExchangeTerms = ExchangeTerms(), **more: Any
) -> AsyncIterator[Local]:
    """`socket`: orders go by the WebSocket API, which is up when this is entered."""
    clock = live_clock()
    listed = both_kinds(synthetic.instruments(InstrumentKind.LINEAR, "binance"))
    exchange = open_exchange(terms, listed, clock)
    async with trio.open_nursery() as nursery:
        port = await nursery.start(partial(exchange.listen, FACES[kind], "127.0.0.1", 0))
        nursery.start_soon(exchange.beat)
        throttle = THROTTLES["binance"](1000, kind, clock)
        worlds: list[Local] = []
        setup = Setup(
            clock=clock,
            rng=Random(1),
            host=f"http://127.0.0.1:{port}",
            kind=kind,
            credentials=Credentials(Secret("local-key"), Secret("local-secret")),
            throttle=throttle,
            symbols=("BTCUSDT",),
            order_socket=socket,
            quote=lambda symbol: worlds[0].quote(symbol),
            **more,
        )
        world = Local(exchange, REAL["binance"](setup), throttle, kind)
        worlds.append(world)
        world.show("60000", "60000.1")
        nursery.start_soon(world.venue.run)
        found = await world.venue.instruments()
        assert isinstance(found, tuple) and len(found) == 1, found
        await world.venue.server_time_ns()
        if socket:
            await until(lambda: world.venue.socket is not None and world.venue.socket.ready)
        yield world
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], object]) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.002)
