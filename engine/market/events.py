"""What a tape is made of. Prices and quantities are exact; `at_ns` is the moment at which it could be known here."""

from decimal import Decimal
from typing import TypeAlias

from engine.core.messages import Message, Side

Level: TypeAlias = tuple[Decimal, Decimal]  # price, quantity (0 removes the level)


class BookSnapshot(Message, frozen=True, gc=False):
    symbol: str
    at_ns: int
    last_id: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class BookDelta(Message, frozen=True, gc=False):
    """Levels changed from update `first_id` to `last_id`; `prev_id`: the delta before, where the venue tells it."""

    symbol: str
    at_ns: int
    first_id: int
    last_id: int
    prev_id: int | None
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class TopOfBook(Message, frozen=True, gc=False):
    symbol: str
    at_ns: int
    update_id: int
    bid: Decimal
    bid_qty: Decimal
    ask: Decimal
    ask_qty: Decimal


class TradePrint(Message, frozen=True, gc=False):
    """A public trade; `aggressor` is the taker's side."""

    symbol: str
    at_ns: int
    price: Decimal
    qty: Decimal
    aggressor: Side


class FundingRate(Message, frozen=True, gc=False):
    """A futures funding moment: positions pay `rate` of notional (longs pay when positive)."""

    symbol: str
    at_ns: int
    rate: Decimal
    mark: Decimal


MarketEvent: TypeAlias = BookSnapshot | BookDelta | TopOfBook | TradePrint | FundingRate
