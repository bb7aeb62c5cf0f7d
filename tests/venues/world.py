"""A small world for venue tests: one future, a book, a paper venue on the clock that is there."""

from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

from msgspec.structs import replace

from engine.core.messages import Instrument, InstrumentKind, Leg, Order, OrderType, Side
from engine.market.events import BookSnapshot
from engine.runtime.clock import Clock, virtual_clock
from engine.venues.paper import PaperTerms, PaperVenue

D = Decimal
START_NS = 1_700_000_000_000_000_000
BTC = Instrument(
    symbol="BTCUSDT",
    venue="paper",
    kind=InstrumentKind.LINEAR,
    base="BTC",
    quote="USDT",
    tick=D("0.1"),
    lot=D("0.001"),
    qty_min=D("0.001"),
    qty_max=D(100),
    notional_min=D(5),
    leverage_max=D(10),
)
TERMS = PaperTerms(balances={"USDT": D(10_000)}, leverage=D(5), latency_ms=(10.0, 10.0), stream_latency_ms=(5.0, 5.0))


def paper(
    terms: PaperTerms = TERMS, store: Path | None = None, seed: int = 1, clock: Clock | None = None
) -> PaperVenue:
    return PaperVenue((BTC,), terms, clock or virtual_clock(START_NS), Random(1), store)


def show(venue: PaperVenue, bid: str = "100", ask: str = "101", qty: str = "5") -> None:
    at_ns = venue._clock.now_ns()
    venue.publish(BookSnapshot("BTCUSDT", at_ns, at_ns, ((D(bid), D(qty)),), ((D(ask), D(qty)),)))


def buy(cid: str = "a", qty: str = "1", **more: Any) -> Order:
    order = Order(
        cid=cid,
        account="main",
        symbol="BTCUSDT",
        signal_id="s",
        leg=Leg.ENTRY,
        attempt=0,
        side=Side.BUY,
        order_type=OrderType.MARKET,
        qty=D(qty),
    )
    return replace(order, **more)


def nothing() -> None:
    pass
