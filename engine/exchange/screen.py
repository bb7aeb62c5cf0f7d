"""What the public sees of one listing beside its book: the last trades, figures since the opening, and candles."""

from collections import deque
from decimal import Decimal

from msgspec import Struct

from engine.core.messages import ZERO, Quote
from engine.exchange.house import House, Listing
from engine.market.book import Book
from engine.market.events import FundingRate, Level, MarketEvent, TradePrint

_MINUTE_NS = 60 * 1_000_000_000
_TRADES_KEPT = 1000
_CANDLES_KEPT = 1500  # minutes


class Trade(Struct, frozen=True):
    number: int
    event: TradePrint


class Candle(Struct):
    start_ns: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal = ZERO  # base
    turnover: Decimal = ZERO  # quote
    trades: int = 0

    def take(self, price: Decimal, qty: Decimal) -> None:
        self.high, self.low, self.close = max(self.high, price), min(self.low, price), price
        self.volume += qty
        self.turnover += qty * price
        self.trades += 1


class Screen:
    """One listing. `day` is of the whole time since the opening: the exchange has no yesterday."""

    def __init__(self, listing: Listing) -> None:
        self.listing = listing
        self.trades: deque[Trade] = deque(maxlen=_TRADES_KEPT)
        self.minutes: deque[Candle] = deque(maxlen=_CANDLES_KEPT)
        self.day: Candle | None = None
        self.funding = ZERO
        self.changes = 0  # of book or ticker
        self._numbered = 0

    def hear(self, event: MarketEvent) -> Trade | None:
        if isinstance(event, FundingRate):
            self.funding = event.rate
            return None
        self.changes += 1
        if not isinstance(event, TradePrint):
            return None
        start_ns = event.at_ns - event.at_ns % _MINUTE_NS
        if not self.minutes or self.minutes[-1].start_ns != start_ns:
            self.minutes.append(_candle(start_ns, event.price))
        self.day = self.day or _candle(start_ns, event.price)
        for candle in (self.minutes[-1], self.day):
            candle.take(event.price, event.qty)
        self._numbered += 1
        trade = Trade(self._numbered, event)
        self.trades.append(trade)
        return trade

    def candles(self, minutes: int) -> list[Candle]:
        """Of so many minutes each, oldest first."""
        made: list[Candle] = []
        width_ns = minutes * _MINUTE_NS
        for minute in self.minutes:
            start_ns = minute.start_ns - minute.start_ns % width_ns
            if not made or made[-1].start_ns != start_ns:
                made.append(_candle(start_ns, minute.open))
            last = made[-1]
            last.high, last.low, last.close = max(last.high, minute.high), min(last.low, minute.low), minute.close
            last.volume += minute.volume
            last.turnover += minute.turnover
            last.trades += minute.trades
        return made


class Screens:
    """All listings of a house, with their books and quotes."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.by_inner = {listing.instrument.symbol: Screen(listing) for listing in house.listings.values()}
        house.watchers.append(self._hear)

    def _hear(self, listing: Listing, event: MarketEvent) -> None:
        self.by_inner[listing.instrument.symbol].hear(event)

    def of(self, category: str, symbol: str) -> Screen | None:
        listing = self.house.listings.get((category, symbol))
        return self.by_inner[listing.instrument.symbol] if listing else None

    def in_category(self, category: str) -> list[Screen]:
        return [screen for screen in self.by_inner.values() if screen.listing.category == category]

    def quote(self, listing: Listing) -> Quote | None:
        return self.house.first.matching.market.quote(listing.instrument.symbol)

    def mark(self, listing: Listing) -> Decimal:
        """The middle of the market, else the last trade, else zero."""
        quote = self.quote(listing)
        if quote is not None:
            return quote.mid
        day = self.by_inner[listing.instrument.symbol].day
        return day.close if day else ZERO

    def last(self, listing: Listing) -> Decimal:
        day = self.by_inner[listing.instrument.symbol].day
        return day.close if day else self.mark(listing)

    def book(self, listing: Listing) -> Book | None:
        return self.house.first.matching.market.book(listing.instrument.symbol)


class Levels:
    """What one reader of a book was told last, so that it can be told the difference."""

    def __init__(self) -> None:
        self._sides: list[dict[Decimal, Decimal]] = [{}, {}]

    def difference(self, sides: tuple[list[Level], list[Level]]) -> tuple[list[Level], list[Level]]:
        """Levels that changed since the last call, quantity 0 for those that are gone."""
        changes = []
        for before, now in zip(self._sides, (dict(sides[0]), dict(sides[1])), strict=True):
            gone = [(price, ZERO) for price in before if price not in now]
            changes.append([*gone, *((price, qty) for price, qty in now.items() if before.get(price) != qty)])
        self._sides = [dict(sides[0]), dict(sides[1])]
        return changes[0], changes[1]


def _candle(start_ns: int, price: Decimal) -> Candle:
    return Candle(start_ns, price, price, price, price)
