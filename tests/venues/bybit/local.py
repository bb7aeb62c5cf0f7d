"""A Bybit account on the local exchange, in this process: the client's own wire behaviour, against honest answers."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from random import Random
from typing import Any

import trio
from msgspec.structs import replace

from engine.core.messages import InstrumentKind, Leg, Order, OrderType, Side
from engine.exchange.faults import Fault, Woe
from engine.exchange.opening import both_kinds, open_exchange
from engine.exchange.server import Exchange
from engine.exchange.terms import ExchangeTerms
from engine.market import synthetic
from engine.market.events import BookSnapshot, TradePrint
from engine.runtime.clock import Clock, live_clock
from engine.venues.bybit import caller
from engine.venues.bybit.client import BybitVenue
from engine.venues.bybit.hosts import hosts
from engine.venues.bybit.terms import BybitTerms
from engine.venues.keys import Credentials, Secret
from engine.venues.throttle import Throttle

D = Decimal
KINDS = (InstrumentKind.LINEAR, InstrumentKind.SPOT)


class Local:
    """The exchange, the account on it, and a hand on its market."""

    def __init__(self, exchange: Exchange, venue: BybitVenue, throttle: Throttle) -> None:
        self.exchange = exchange
        self.venue = venue
        self.throttle = throttle

    @property
    def member(self) -> Any:
        return self.exchange.faces["bybit"].house.members["main"]

    def fault(self, woe: Woe, **more: Any) -> None:
        self.exchange.plan.faults.append(Fault(do=woe, face="bybit", **more))

    def show(self, bid: str, ask: str, qty: str = "50") -> None:
        at_ns = self.exchange.now_ns()
        book = BookSnapshot("BTCUSDT", at_ns, at_ns, ((D(bid), D(qty)),), ((D(ask), D(qty)),))
        self.exchange.publish(book)

    def trade(self, price: str) -> None:
        self.exchange.publish(TradePrint("BTCUSDT", self.exchange.now_ns(), D(price), D("0.001"), Side.BUY))


@asynccontextmanager
async def local(
    kind: InstrumentKind = InstrumentKind.LINEAR,
    socket: bool = False,
    terms: ExchangeTerms = ExchangeTerms(),
    clock: Clock | None = None,
    key: str = "local-key",
    secret: str = "local-secret",
    **more: Any,
) -> AsyncIterator[Local]:
    """`socket`: orders go by the trade socket, which is up when this is entered."""
    clock = clock or live_clock()
    listed = both_kinds(synthetic.instruments(InstrumentKind.LINEAR, "bybit"))
    exchange = open_exchange(terms, listed, clock)
    async with trio.open_nursery() as nursery:
        port = await nursery.start(partial(exchange.listen, "bybit", "127.0.0.1", 0))
        nursery.start_soon(exchange.beat)
        throttle = Throttle(caller.limits(100), clock, costs=caller.COSTS)
        wanted = BybitTerms(
            kind=kind,
            hosts=hosts(f"http://127.0.0.1:{port}"),
            symbols=("BTCUSDT",),
            order_socket=socket,
            **{"timeout_seconds": 2.0, **more},
        )
        credentials = Credentials(Secret(key), Secret(secret))
        world = Local(exchange, BybitVenue(wanted, credentials, throttle, clock, Random(1)), throttle)
        world.show("60000", "60000.1")
        nursery.start_soon(world.venue.run)
        await world.venue.server_time_ns()
        if socket:
            assert world.venue.socket is not None and await world.venue.socket.until_ready(10)
        yield world
        nursery.cancel_scope.cancel()


async def until(condition: Callable[[], bool], seconds: float = 10) -> None:
    with trio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.002)


def order(cid: str = "sf1aaaaaaaaaaaaaaaaaaaaaaaaaaa", **more: Any) -> Order:
    plain = Order(
        cid=cid,
        account="main",
        symbol="BTCUSDT",
        signal_id="s",
        leg=Leg.ENTRY,
        attempt=0,
        side=Side.BUY,
        order_type=OrderType.MARKET,
        qty=D("0.01"),
    )
    return replace(plain, **more)


def nothing() -> None:
    pass
