"""The protocol every venue adapter speaks, one object per account.

A request (`submit`, `cancel`) is answered with one of three things: yes (`Acked`), no (`Rejection`), unclear
(`Silence`). A query is answered with what was asked for, or with `Failed`, which is never an empty answer. Neither
raises for anything that the network or the venue may do.

Some adapters can do more, each in its venue's own way: amend an order, submit and cancel several at once, cancel all of
a symbol. The conformance kit proves that, and `clear` uses the last. The engine's own orders go without, so that what
becomes of each can be proven by itself: a stop of another size is placed beside the old one, which goes when the new
one stands (an amendment without an answer leaves a position under a stop of unknown size), and one lost answer to a
batch puts all of it in doubt; and what others have placed in the account is not the engine's to cancel.
"""

from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, runtime_checkable

import trio
from msgspec import Struct

from engine.core.messages import (
    Answer,
    BalanceReport,
    Cancel,
    Failed,
    FillReport,
    FundingReport,
    Instrument,
    NotFound,
    Order,
    OrderReport,
    PositionReport,
    Quote,
    TransferReport,
    VenueReport,
)
from engine.core.times import SECOND


class Traits(Struct, frozen=True):
    """What may be relied on at this venue; see RELIABILITY 4.1. Durations are nanoseconds."""

    name: str
    id_unique_for_ever: bool  # False: only among open orders
    window_ns: int = 5 * SECOND  # W: a request older than this is refused by the venue
    queue_ns: int = 30 * SECOND  # Q: from the venue's gate to its book, at worst
    visible_ns: int = 30 * SECOND  # V: an accepted order shows in queries within this
    horizon_ns: int = 24 * 3600 * SECOND  # how far back absence in the venue's history proves anything


def window_ms(orders: Iterable[Order], now_ns: int, most_ms: int) -> int:
    """How old a request may be when it arrives: no older than the first of its orders is good for.

    What is signed shortly before a signal is over must not be executed long after it. Never less than a millisecond.
    """
    left = [(order.valid_until_ns - now_ns) // 1_000_000 for order in orders if order.valid_until_ns]
    return max(1, min([most_ms, *left]))


class StreamDown(Exception):
    """The private stream ended or went silent; whoever reads it must reconnect and backfill."""


class Venue(Protocol):
    """One account at one venue."""

    traits: Traits

    async def instruments(self) -> tuple[Instrument, ...] | Failed: ...

    async def server_time_ns(self) -> int | Failed: ...

    async def balances(self) -> tuple[BalanceReport, ...] | Failed: ...

    async def positions(self) -> tuple[PositionReport, ...] | Failed:
        """All that are not flat."""
        ...

    async def open_orders(self) -> tuple[OrderReport, ...] | Failed:
        """Every resting order of the account, all pages."""
        ...

    async def order(self, symbol: str, cid: str) -> OrderReport | NotFound | Failed:
        """By client id, through every place the venue keeps orders (open, then history)."""
        ...

    async def fills(self, since_ns: int, cid: str | None = None) -> tuple[FillReport | FundingReport, ...] | Failed:
        """Executions (of one order) and funding since a venue time, oldest first, all pages."""
        ...

    async def submit(self, order: Order, on_wire: Callable[[], None]) -> Answer:
        """Send once, never again. `on_wire` is called right before the first byte leaves; if it raises, none may."""
        ...

    async def cancel(self, cancel: Cancel) -> Answer: ...

    def stream(self) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[VenueReport]]:
        """Private events from the moment the context is entered; StreamDown when it ends."""
        ...


@runtime_checkable
class KeepsOrders(Protocol):
    """An adapter that keeps some orders itself, because the venue cannot: they are lost with the process."""

    def take_back(self, orders: Iterable[Order]) -> None:
        """At a start, before anything is asked: the account's open orders by the journal, to keep those on."""
        ...


@runtime_checkable
class TellsTransfers(Protocol):
    """An adapter whose venue writes down what was deposited, withdrawn, and moved between an owner's wallets."""

    async def transfers(self, since_ns: int) -> tuple[TransferReport, ...] | Failed:
        """Since a venue time; what was told before may come again, and what is new may come a minute late."""
        ...


class Swift(Protocol):
    """What an adapter may offer beside: the bytes of an order are on their way when `submit_now` returns."""

    def ready(self) -> bool:
        """Whether there is a connection that takes an order without waiting."""
        ...

    def submit_now(self, order: Order, on_wire: Callable[[], None]) -> Callable[[], Awaitable[Answer]]:
        """`Venue.submit` in two parts: the sending is done, and what is returned waits for the answer. If `ready`."""
        ...


QuoteSource = Callable[[str], Quote | None]
