"""Playing a tape in time, and the market as last heard: books and quotes folded from its events."""

from collections.abc import Callable, Iterable

import trio
from msgspec.structs import replace

from engine.core.messages import Quote
from engine.market.book import Book, Gap
from engine.market.events import BookDelta, BookSnapshot, MarketEvent, TopOfBook
from engine.runtime.clock import Clock

# Events that fall into one grain are published together, at its end: late by less than a grain, never early.
_GRAIN_NS = 1_000_000
_PUBLISHED_WITHOUT_PAUSE = 64


async def play(
    events: Iterable[MarketEvent],
    clock: Clock,
    publish: Callable[[MarketEvent], object],
    *,
    offset_ns: int | None = 0,
    grain_ns: int = _GRAIN_NS,
) -> None:
    """Publish each event when its time has come, `offset_ns` later than its stamp (None: the first one is now).

    What is published carries the shifted time. Returns after the last event. When the time of many has passed, they
    go out without sleeping, with a pause for other tasks now and then. Whatever `events` raises comes through.
    """
    in_row = 0
    for event in events:
        if offset_ns is None:
            offset_ns = clock.now_ns() - event.at_ns
        due_ns = event.at_ns + offset_ns
        if due_ns > clock.now_ns():
            await _sleep_until(due_ns - due_ns % -grain_ns, clock)
            in_row = 0
        elif (in_row := in_row + 1) % _PUBLISHED_WITHOUT_PAUSE == 0:
            await trio.lowlevel.checkpoint()
        publish(replace(event, at_ns=due_ns) if offset_ns else event)


async def _sleep_until(due_ns: int, clock: Clock) -> None:
    while (left_ns := due_ns - clock.now_ns()) > 0:  # noqa: ASYNC110 (wall time is not trio's: it may be set back)
        await trio.sleep(left_ns / 1_000_000_000)


class Quotes:
    """The quote of each symbol as last heard; its `at_ns` says how old it is. Callable as a QuoteSource."""

    def __init__(self) -> None:
        self._quotes: dict[str, Quote] = {}

    def hear(self, quote: Quote) -> None:
        self._quotes[quote.symbol] = quote

    def forget(self, symbol: str) -> None:
        self._quotes.pop(symbol, None)

    def __call__(self, symbol: str) -> Quote | None:
        return self._quotes.get(symbol)


class Market:
    """All symbols of a tape: a Book for each that has depth, a plain quote for those with only a ticker."""

    def __init__(self) -> None:
        self.books: dict[str, Book] = {}
        self._tickers = Quotes()
        self._deep: set[str] = set()  # symbols that have depth: a ticker alone is not trusted when their book is broken

    def apply(self, event: MarketEvent) -> Gap | None:
        """Fold one event. Returns the Gap when it broke its symbol's book."""
        if isinstance(event, TopOfBook):
            self._hear(event)
        elif isinstance(event, BookSnapshot | BookDelta):
            self._deep.add(event.symbol)
        else:
            return None
        book = self.books.get(event.symbol)
        if book is None:
            book = self.books[event.symbol] = Book(event.symbol)
        return book.apply(event)

    def book(self, symbol: str) -> Book | None:
        return self.books.get(symbol)

    def quote(self, symbol: str) -> Quote | None:
        """As last heard; None when nothing was heard, and while the book has a gap. Callable as a QuoteSource."""
        return self.books[symbol].quote() if symbol in self._deep else self._tickers(symbol)

    def _hear(self, top: TopOfBook) -> None:
        if top.bid_qty and top.ask_qty and top.bid < top.ask:
            self._tickers.hear(Quote(top.symbol, top.bid, top.ask, top.bid_qty, top.ask_qty, top.at_ns))
        else:
            self._tickers.forget(top.symbol)
