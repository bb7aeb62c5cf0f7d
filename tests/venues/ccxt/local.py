"""A ccxt account at a face of a local exchange, which is a process of its own."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from decimal import Decimal
from typing import Any, TypeVar

import trio
from msgspec import Struct

from engine.core.ids import client_order_id
from engine.core.messages import InstrumentKind, Leg, Order, OrderReport, OrderType, Side
from engine.core.money import use_exact_context
from engine.runtime.clock import live_clock
from engine.runtime.log import Secret
from engine.venues.ccxt.client import CcxtVenue
from engine.venues.ccxt.terms import COSTS, CcxtTerms, limits
from engine.venues.throttle import Throttle
from tests.exchange.site import KEY, SECRET, Site
from tests.patience import PATIENCE_SECONDS

T = TypeVar("T")
D = Decimal


class Face(Struct, frozen=True):
    """One of the exchange's faces as ccxt sees it."""

    exchange: str
    name: str
    kind: InstrumentKind
    place: str  # the operation by which an order is placed, as faults name it
    cancel: str


BYBIT = Face("bybit", "bybit", InstrumentKind.LINEAR, "order.create", "order.cancel")
USDM = Face("binanceusdm", "binance-usdm", InstrumentKind.LINEAR, "order.place", "order.cancel")
SPOT = Face("binance", "binance-spot", InstrumentKind.SPOT, "order.place", "order.cancel")
FACES = (BYBIT, USDM, SPOT)


@asynccontextmanager
async def account(site: Site, face: Face, **more: Any) -> AsyncIterator[CcxtVenue]:
    """Its workers are ready when it is entered, and gone when it is left."""
    use_exact_context()
    given: dict[str, Any] = {
        "exchange": face.exchange,
        "kind": face.kind,
        "host": f"http://127.0.0.1:{site.ports[face.name]}",
        "credentials": {"key": Secret(KEY), "secret": Secret(SECRET)},
        "symbols": ("BTCUSDT",),
        "poll_seconds": 0.1,
        "request_seconds": PATIENCE_SECONDS,
    }
    clock = live_clock()
    venue = CcxtVenue(CcxtTerms(**{**given, **more}), Throttle(limits(100), clock, costs=COSTS), clock)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(venue.run)
        assert await venue.questions.until_ready(PATIENCE_SECONDS), venue.questions.why
        assert await venue.orders.until_ready(PATIENCE_SECONDS), venue.orders.why
        yield venue
        nursery.cancel_scope.cancel()


def order(name: str, leg: Leg = Leg.ENTRY, order_type: OrderType = OrderType.MARKET, **fields: Any) -> Order:
    closes = leg is not Leg.ENTRY
    given: dict[str, Any] = {
        "cid": client_order_id("test", "main", name, leg, 0),
        "account": "main",
        "symbol": "BTCUSDT",
        "signal_id": name,
        "leg": leg,
        "attempt": 0,
        "side": Side.SELL if closes else Side.BUY,
        "order_type": order_type,
        "qty": D("0.01"),
        "reduce_only": closes,
        "submitted_ns": live_clock().now_ns(),
    }
    return Order(**{**given, **fields})


def nothing() -> None:
    pass


async def eventually(ask: Callable[[], Awaitable[T]], met: Callable[[T], object]) -> T:
    """Asked again until it is so."""
    with trio.fail_after(PATIENCE_SECONDS):
        while not met(answer := await ask()):  # noqa: ASYNC110 (it is another process that is waited for)
            await trio.sleep(0.05)
    return answer


async def seen(venue: CcxtVenue, wanted: Order) -> OrderReport:
    report = await eventually(lambda: venue.order("BTCUSDT", wanted.cid), lambda found: isinstance(found, OrderReport))
    assert isinstance(report, OrderReport)
    return report
