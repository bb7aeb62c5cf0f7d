"""Binance's public messages, as recorded or live, made into market events. Pure: no file, socket or clock.

What is not known is passed over (another stream, the answer to a subscription); what is known and broken is BadMessage.
Facts from Binance's pages "WebSocket Streams" (spot) and "WebSocket Market Streams" (USD-M futures).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal, InvalidOperation

import msgspec
from msgspec import Raw, Struct, field

from engine.core.messages import Side
from engine.market.events import (
    BookDelta,
    BookSnapshot,
    FundingRate,
    Level,
    MarketEvent,
    TopOfBook,
    TradePrint,
)


class BadMessage(ValueError):
    """A message of a known kind that does not hold what it should; says what."""


@contextmanager
def only_bad_messages() -> Iterator[None]:
    """Whatever a decoder raises over bytes from outside comes out as BadMessage."""
    try:
        yield
    except msgspec.MsgspecError as error:
        raise BadMessage(str(error)) from None
    except UnicodeDecodeError:
        raise BadMessage("is not UTF-8") from None
    except RecursionError:
        raise BadMessage("is nested too deep") from None
    except InvalidOperation:
        raise BadMessage("holds a number that is none") from None


class _Frame(Struct):
    """Combined (`stream`, `data`), raw (`e`), or a REST depth snapshot (`lastUpdateId`)."""

    stream: str = ""
    data: Raw = field(default_factory=Raw)
    e: str = ""
    s: str = ""
    u: int | None = None
    lastUpdateId: int | None = None


class _Snapshot(Struct):
    lastUpdateId: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


class _Ticker(Struct):
    u: int
    s: str
    b: Decimal
    B: Decimal
    a: Decimal
    A: Decimal


class _Depth(Struct):
    s: str
    U: int
    u: int
    b: tuple[Level, ...]
    a: tuple[Level, ...]
    pu: int | None = None


class _Trade(Struct):
    s: str
    p: Decimal
    q: Decimal
    m: bool
    X: str = "MARKET"


class _MarkPrice(Struct):
    s: str
    p: Decimal
    r: str  # "" for a delivery contract
    T: int


_frame = msgspec.json.Decoder(_Frame)
_snapshot = msgspec.json.Decoder(_Snapshot)
_ticker = msgspec.json.Decoder(_Ticker)
_depth = msgspec.json.Decoder(_Depth)
_trade = msgspec.json.Decoder(_Trade)
_mark = msgspec.json.Decoder(_MarkPrice)

# Exact numbers stay exact only while they are of a sane size (engine.core.money); the pattern is looked for in the
# bytes because that is far cheaper than to take apart each Decimal.
_TOO_LONG = re.compile(rb"[0-9]{19}[0-9]*\.|\.[0-9]{19}|[0-9]{41}|[0-9_.]{60}")
_HUGE, _TINY = Decimal(10) ** 18, Decimal(10) ** -18


class Parser:
    """One stream's memory: which symbol a snapshot without a name belongs to, and what must not be counted twice."""

    def __init__(self, symbol: str = "") -> None:
        self.symbol = symbol  # of the tape: the first one that is named
        self.unclaimed: list[tuple[bytes, int]] = []  # snapshots that came before any name
        self._single_trades: set[str] = set()
        self._funding: dict[str, _MarkPrice] = {}

    def events(self, text: bytes, at_ns: int) -> Iterator[MarketEvent]:
        """What one message tells: nothing, one event, or a few. Raises BadMessage."""
        with only_bad_messages():
            yield from self._events(text, at_ns)

    def _events(self, text: bytes, at_ns: int) -> Iterator[MarketEvent]:
        check_digits(text)
        frame = _frame.decode(text)
        if frame.stream:
            named, _, kind = frame.stream.partition("@")
            yield from self._of_kind(kind, bytes(frame.data), named.upper(), at_ns)
        elif frame.lastUpdateId is not None and not frame.e:
            yield from self._snapshot(text, self.symbol, at_ns)
        elif frame.e or frame.u is not None:
            yield from self._of_kind(_KINDS.get(frame.e, ""), text, frame.s, at_ns)

    def _of_kind(self, kind: str, text: bytes, named: str, at_ns: int) -> Iterator[MarketEvent]:
        event: MarketEvent | None
        if kind == "bookTicker":
            event = top_of_book(text, at_ns)
        elif kind == "depth" or kind.startswith("depth@"):
            event = book_delta(text, at_ns)
        elif kind == "trade":
            event = trade_print(text, at_ns)
            self._single_trades.add(named)
        elif kind == "aggTrade":
            event = None if named in self._single_trades else trade_print(text, at_ns)
        elif kind.startswith("markPrice"):
            event = self._funding_moment(text, at_ns)
        elif kind.startswith("depth") and b'"lastUpdateId"' in text:
            event = book_snapshot(text, named, at_ns)  # partial book, the best levels only
        else:
            return
        if not self.symbol and named:
            self.symbol = named
            for earlier, _ in self.unclaimed:
                yield book_snapshot(earlier, named, at_ns)
            self.unclaimed.clear()
        if event is not None:
            yield event

    def _snapshot(self, text: bytes, symbol: str, at_ns: int) -> Iterator[MarketEvent]:
        if symbol:
            yield book_snapshot(text, symbol, at_ns)
            return
        if len(self.unclaimed) >= 8:
            raise BadMessage("is one more snapshot before any message that names a symbol")
        self.unclaimed.append((text, at_ns))

    def _funding_moment(self, text: bytes, at_ns: int) -> FundingRate | None:
        """The mark stream tells the next funding time; when it moves on, funding was paid at the rate told last."""
        mark = _mark.decode(text)
        before = self._funding.get(mark.s)
        self._funding[mark.s] = mark
        if before is None or mark.T <= before.T or not before.r:
            return None
        rate = Decimal(before.r)
        _check_prices(((before.p, _TINY),))
        if not abs(rate) < 1:
            raise BadMessage(f"funding rate {rate} is not a fraction")
        return FundingRate(mark.s, at_ns, rate, before.p)


# Names of events (`e`) of raw streams, where no stream name tells the kind. Spot's ticker has none.
_KINDS = {
    "": "bookTicker",
    "bookTicker": "bookTicker",
    "depthUpdate": "depth",
    "trade": "trade",
    "aggTrade": "aggTrade",
    "markPriceUpdate": "markPrice",
}


def rest_snapshot(text: bytes, symbol: str, at_ns: int) -> BookSnapshot:
    """A REST depth answer. Raises BadMessage."""
    with only_bad_messages():
        check_digits(text)
        return book_snapshot(text, symbol, at_ns)


def book_snapshot(text: bytes, symbol: str, at_ns: int) -> BookSnapshot:
    """As `rest_snapshot`, inside `only_bad_messages`; so are the next three."""
    snapshot = _snapshot.decode(text)
    check_levels(snapshot.bids, snapshot.asks)
    return BookSnapshot(symbol, at_ns, snapshot.lastUpdateId, snapshot.bids, snapshot.asks)


def book_delta(text: bytes, at_ns: int) -> BookDelta:
    depth = _depth.decode(text)
    check_levels(depth.b, depth.a)
    if not 0 <= depth.U <= depth.u:
        raise BadMessage(f"update ids {depth.U} to {depth.u} run backwards")
    return BookDelta(depth.s, at_ns, depth.U, depth.u, depth.pu, depth.b, depth.a)


def top_of_book(text: bytes, at_ns: int) -> TopOfBook:
    """A side that is empty has quantity 0."""
    top = _ticker.decode(text)
    if not all(number == 0 or _TINY <= number < _HUGE for number in (top.b, top.B, top.a, top.A)):
        raise BadMessage("a price or quantity of the ticker is negative, too small or too large")
    return TopOfBook(top.s, at_ns, top.u, top.b, top.B, top.a, top.A)


def trade_print(text: bytes, at_ns: int) -> TradePrint | None:
    """None for what did not go through the book (insurance fund, deleveraging, fillers with price 0)."""
    trade = _trade.decode(text)
    if trade.X != "MARKET":
        return None
    _check_prices(((trade.p, trade.q),))
    if not trade.q:
        raise BadMessage("a trade of quantity 0")
    return TradePrint(trade.s, at_ns, trade.p, trade.q, Side.SELL if trade.m else Side.BUY)


def check_digits(text: bytes) -> None:
    """Raises BadMessage when a number in it could not be calculated with exactly."""
    if _TOO_LONG.search(text):
        raise BadMessage("holds a number with more than 18 digits before or after the point")


def check_levels(bids: tuple[Level, ...], asks: tuple[Level, ...]) -> None:
    """Raises BadMessage unless each price is positive, no quantity negative, and none out of all proportion."""
    _check_prices(bids)
    _check_prices(asks)


def _check_prices(levels: tuple[Level, ...]) -> None:
    for price, qty in levels:
        if not (_TINY <= price < _HUGE and (qty == 0 or _TINY <= qty < _HUGE)):
            raise BadMessage(f"level {str(price)[:40]} x {str(qty)[:40]} is no price and quantity")
