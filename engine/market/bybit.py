"""Bybit V5's public messages made into market events. Pure, but for the memory of how each book is numbered.

Facts from Bybit's pages "Orderbook" and "Trade" (V5 WebSocket public). Update ids run without holes within a topic, and
begin again at 1 when the service restarts. Here they only grow: a book that starts again is numbered on from the last.
"""

from collections.abc import Iterator
from decimal import Decimal

import msgspec
from msgspec import Raw, Struct, field

from engine.core.messages import Side
from engine.market.binance import BadMessage, check_digits, check_levels, only_bad_messages
from engine.market.events import BookDelta, BookSnapshot, Level, MarketEvent, TradePrint


class _Envelope(Struct):
    topic: str = ""
    type: str = ""
    data: Raw = field(default_factory=Raw)
    success: bool = True
    ret_msg: str = ""


class _Orderbook(Struct):
    s: str
    b: tuple[Level, ...]
    a: tuple[Level, ...]
    u: int


class _Trade(Struct):
    s: str
    S: str  # the taker's side
    v: Decimal
    p: Decimal


_envelope = msgspec.json.Decoder(_Envelope)
_orderbook = msgspec.json.Decoder(_Orderbook)
_trades = msgspec.json.Decoder(list[_Trade])
_SIDES = {"Buy": Side.BUY, "Sell": Side.SELL}


class Parser:
    """Keep one over reconnects, so that a book's numbers go on growing."""

    def __init__(self) -> None:
        self._last: dict[str, int] = {}
        self._shift: dict[str, int] = {}

    def events(self, text: bytes, at_ns: int) -> Iterator[MarketEvent]:
        """What one message tells. Raises BadMessage, also when the venue refuses a subscription."""
        with only_bad_messages():
            check_digits(text)
            envelope = _envelope.decode(text)
            if not envelope.success and "already subscribed" not in envelope.ret_msg:
                raise BadMessage(f"the venue says: {envelope.ret_msg[:200]}")
            if envelope.topic.startswith("orderbook."):
                yield self._book(_orderbook.decode(envelope.data), envelope.type, at_ns)
            elif envelope.topic.startswith("publicTrade."):
                yield from (_print(trade, at_ns) for trade in _trades.decode(envelope.data))

    def _book(self, book: _Orderbook, kind: str, at_ns: int) -> BookSnapshot | BookDelta:
        check_levels(book.b, book.a)
        if book.u < 1:
            raise BadMessage(f"update id {book.u} is not positive")
        snapshot = kind == "snapshot" or book.u == 1
        if snapshot:
            self._shift[book.s] = max(0, self._last.get(book.s, 0) + 1 - book.u)
        update_id = self._last[book.s] = book.u + self._shift.get(book.s, 0)
        if snapshot:
            return BookSnapshot(book.s, at_ns, update_id, book.b, book.a)
        return BookDelta(book.s, at_ns, update_id, update_id, None, book.b, book.a)


def _print(trade: _Trade, at_ns: int) -> TradePrint:
    check_levels(((trade.p, trade.v),), ())
    if trade.S not in _SIDES or not trade.v:
        raise BadMessage(f"a trade of side {trade.S[:20]} and quantity {trade.v}")
    return TradePrint(trade.s, at_ns, trade.p, trade.v, _SIDES[trade.S])
