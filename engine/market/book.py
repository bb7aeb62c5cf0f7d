"""The order book of one symbol, folded from a snapshot and its deltas; a missing delta is noticed, never guessed over.

Two things are kept apart: the depth as the deltas tell it, and the venue's ticker of the best bid and ask, which runs
ahead of the deltas. What is read is the depth with the ticker laid over it: levels better than the ticker's best are
gone, its best level has its quantity. The deltas that catch up find the depth untouched, so nothing is applied twice.
"""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from itertools import islice

from msgspec import Struct

from engine.core.messages import Quote, Side
from engine.market.events import BookDelta, BookSnapshot, Level, TopOfBook

NO_SNAPSHOT = "no snapshot yet"

# Deltas kept while no snapshot is known: at the venue's fastest pace (20 per second) about fifty seconds' worth.
_PENDING_MAX = 1000


class Gap(Struct, frozen=True):
    """The book can no longer be trusted, and why. It stays so until a snapshot."""

    symbol: str
    reason: str
    at_ns: int


class Book:
    """`broken` is True, with `reason`, from a gap (and before the first snapshot) until a snapshot repairs it.

    Prices are quote per base, quantities base. `last_id` is the venue's number of the last depth update, `at_ns` the
    moment of the last event that told something new.
    """

    def __init__(self, symbol: str) -> None:
        self.symbol = symbol
        self.broken = True
        self.reason = NO_SNAPSHOT
        self.last_id = 0
        self.at_ns = 0
        self._straddle = False  # the next delta follows a snapshot, which may lie in its middle
        self._bids: dict[Decimal, Decimal] = {}
        self._asks: dict[Decimal, Decimal] = {}
        self._bid_prices: list[Decimal] = []  # ascending: the best is the last
        self._ask_prices: list[Decimal] = []  # ascending: the best is the first
        self._top: TopOfBook | None = None  # only while it is ahead of the depth
        self._pending: deque[BookDelta] = deque(maxlen=_PENDING_MAX)

    def apply(self, event: BookSnapshot | BookDelta | TopOfBook) -> Gap | None:
        """Fold one event. Returns the Gap when this event broke the book (once; then `broken` says it)."""
        if isinstance(event, BookDelta):
            return self._apply_delta(event)
        if isinstance(event, TopOfBook):
            return self._apply_top(event)
        return self._apply_snapshot(event)

    def best_bid(self) -> Level | None:
        """The highest price that somebody pays, or None when nobody does (or the book is broken)."""
        return next(self.levels(Side.BUY), None)

    def best_ask(self) -> Level | None:
        """The lowest price that somebody asks, or None when nobody does (or the book is broken)."""
        return next(self.levels(Side.SELL), None)

    def levels(self, side: Side, n: int | None = None) -> Iterator[Level]:
        """The first `n` levels (all: None) of bids (BUY) or asks (SELL), best first; none when broken.

        Lazy: the book must not be changed while this is being read.
        """
        if self.broken:
            return iter(())
        found = self._bid_levels() if side is Side.BUY else self._ask_levels()
        return found if n is None else islice(found, n)

    def quote(self) -> Quote | None:
        """Best bid and ask as last heard, at the time they were heard; None when broken or when a side is empty."""
        bid, ask = self.best_bid(), self.best_ask()
        if bid is None or ask is None:
            return None
        return Quote(self.symbol, bid[0], ask[0], bid[1], ask[1], self.at_ns)

    def _bid_levels(self) -> Iterator[Level]:
        top, levels = self._top, self._bids
        if top is None:
            for price in reversed(self._bid_prices):
                yield price, levels[price]
        elif top.bid_qty:
            yield top.bid, top.bid_qty
            for at in range(bisect_left(self._bid_prices, top.bid) - 1, -1, -1):
                price = self._bid_prices[at]
                yield price, levels[price]

    def _ask_levels(self) -> Iterator[Level]:
        top, levels = self._top, self._asks
        if top is None:
            for price in self._ask_prices:
                yield price, levels[price]
        elif top.ask_qty:
            yield top.ask, top.ask_qty
            for at in range(bisect_left(self._ask_prices, top.ask), len(self._ask_prices)):
                price = self._ask_prices[at]
                if price != top.ask:
                    yield price, levels[price]

    def _apply_snapshot(self, snapshot: BookSnapshot) -> Gap | None:
        if not self.broken and snapshot.last_id <= self.last_id:
            return None  # fetched by another way and overtaken by the deltas: nothing new in it
        self._bids = {price: qty for price, qty in snapshot.bids if qty}
        self._asks = {price: qty for price, qty in snapshot.asks if qty}
        self._bid_prices = sorted(self._bids)
        self._ask_prices = sorted(self._asks)
        self.last_id, self.at_ns = snapshot.last_id, max(self.at_ns, snapshot.at_ns)
        self.broken, self.reason, self._straddle = False, "", True
        self._catch_up_top()
        gap = self._crossed(snapshot.at_ns)
        # The recorder (or the network) may bring the snapshot after the very deltas that continue it.
        pending, self._pending = self._pending, deque(maxlen=_PENDING_MAX)
        for delta in pending:
            gap = self._apply_delta(delta) or gap
        return gap

    def _apply_delta(self, delta: BookDelta) -> Gap | None:
        if self.broken:
            self._pending.append(delta)
            return None
        if delta.last_id <= self.last_id:
            return None  # older than the snapshot
        if not self._follows(delta):
            self._pending.append(delta)
            return self._break(
                f"update {delta.first_id} to {delta.last_id} does not follow {self.last_id}", delta.at_ns
            )
        _fold(self._bids, self._bid_prices, delta.bids)
        _fold(self._asks, self._ask_prices, delta.asks)
        self.last_id, self.at_ns = delta.last_id, max(self.at_ns, delta.at_ns)
        self._straddle = False
        self._catch_up_top()
        return self._crossed(delta.at_ns)

    def _follows(self, delta: BookDelta) -> bool:
        """Binance, "How to manage a local order book correctly": spot U <= last + 1 <= u, futures pu == last u.

        A futures delta covers everything after its `pu`, so one that begins before the snapshot and ends after it
        continues the snapshot. Bybit numbers without holes, which is the spot rule.
        """
        if delta.prev_id is None:
            return delta.first_id <= self.last_id + 1
        if self._straddle:
            return min(delta.prev_id, delta.first_id) <= self.last_id
        return delta.prev_id == self.last_id

    def _apply_top(self, top: TopOfBook) -> Gap | None:
        if top.update_id <= self.last_id and not self.broken:
            return None  # the depth already knows more
        if self._top is not None and top.update_id < self._top.update_id:
            return None
        self._top = top
        self.at_ns = max(self.at_ns, top.at_ns)
        if not self.broken and top.bid_qty and top.ask_qty and top.bid >= top.ask:
            return self._break(f"ticker is crossed, {top.bid} is not below {top.ask}", top.at_ns)
        return None

    def _catch_up_top(self) -> None:
        if self._top is not None and self._top.update_id <= self.last_id:
            self._top = None

    def _crossed(self, at_ns: int) -> Gap | None:
        bids, asks = self._bid_prices, self._ask_prices
        if bids and asks and bids[-1] >= asks[0]:
            return self._break(f"book is crossed, {bids[-1]} is not below {asks[0]}", at_ns)
        return None

    def _break(self, reason: str, at_ns: int) -> Gap:
        self.broken, self.reason = True, reason
        return Gap(self.symbol, reason, at_ns)


def _fold(levels: dict[Decimal, Decimal], prices: list[Decimal], changes: tuple[Level, ...]) -> None:
    for price, qty in changes:
        if qty:
            if price not in levels:
                insort(prices, price)
            levels[price] = qty
        elif levels.pop(price, None) is not None:
            del prices[bisect_left(prices, price)]
