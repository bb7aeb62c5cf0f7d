"""A made-up market that behaves like one: seeded, endless, and exact. The default when there is nothing to listen to.

Each symbol is a ladder of whole ticks and whole lots round a fair price that wanders. Calm and busy times alternate;
in busy ones more happens and the price moves further. An order that takes liquidity eats through the ladder and is
printed level by level; liquidity returns and draws the spread back to its usual width. Like Binance, the ticker is
told at once and the depth in steps of 100 ms. Draws are floats, and become whole numbers before they touch a price.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from heapq import merge
from math import exp, log
from operator import attrgetter
from random import Random

from msgspec import Struct

from engine.core.messages import Instrument, InstrumentKind, Side
from engine.core.times import SECOND
from engine.market.events import BookDelta, BookSnapshot, FundingRate, Level, MarketEvent, TopOfBook, TradePrint

DEPTH = 20  # levels a side

_DEPTH_STEP_NS = SECOND // 10
_FUNDING_NS = 8 * 3600 * SECOND  # at 0, 8 and 16 o'clock UTC, as the big venues do
_FUNDING_UNIT = Decimal("0.000001")


class Pace(Struct, frozen=True):
    """How lively a market is. Rates are per second, `drift_bp` one standard deviation per root second."""

    calm_rate: float = 8.0
    busy_rate: float = 60.0
    calm_seconds: float = 20.0  # mean length
    busy_seconds: float = 3.0
    drift_bp: float = 0.5
    busy_drift: float = 3.0  # so many times as far in busy times
    spread_ticks: float = 2.0  # what the spread returns to
    trade_share: float = 0.35  # of what happens
    level_quote: float = 20_000.0  # median worth of a level near the best


def instruments(kind: InstrumentKind = InstrumentKind.LINEAR, venue: str = "paper") -> tuple[Instrument, ...]:
    """BTCUSDT, ETHUSDT and SOLUSDT with steps and fees like Binance's."""
    linear = kind is InstrumentKind.LINEAR
    return tuple(
        Instrument(
            symbol=f"{base}USDT",
            venue=venue,
            kind=kind,
            base=base,
            quote="USDT",
            tick=Decimal(tick),
            lot=Decimal(lot),
            qty_min=Decimal(lot),
            qty_max=Decimal(qty_max),
            notional_min=Decimal(5),
            maker_fee=Decimal("0.0002") if linear else Decimal("0.001"),
            taker_fee=Decimal("0.0005") if linear else Decimal("0.001"),
            leverage_max=Decimal(20) if linear else Decimal(1),
        )
        for base, tick, lot, qty_max in (
            ("BTC", "0.1" if linear else "0.01", "0.001" if linear else "0.00001", "1000"),
            ("ETH", "0.01", "0.001" if linear else "0.0001", "10000"),
            ("SOL", "0.01", "0.01" if linear else "0.001", "100000"),
        )
    )


_START_PRICES = {"BTC": Decimal(60_000), "ETH": Decimal(2_700), "SOL": Decimal(150)}


def events(
    rng: Random,
    traded: Sequence[Instrument],
    start_ns: int,
    *,
    seconds: int | None = None,
    prices: dict[str, Decimal] | None = None,
    pace: Pace = Pace(),
) -> Iterator[MarketEvent]:
    """A tape of these instruments from `start_ns`, endless or `seconds` long; the same for the same `rng` state.

    Each symbol opens with a BookSnapshot; `at_ns` rises strictly within a symbol and never falls on the tape. `prices`
    are where symbols begin (else a usual price of the base currency, or 100). Futures pay funding every eight hours.
    """
    end_ns = None if seconds is None else start_ns + seconds * SECOND
    tapes = []
    for instrument in traded:
        price = (prices or {}).get(instrument.symbol) or _START_PRICES.get(instrument.base, Decimal(100))
        ladder = _Ladder(Random(rng.getrandbits(64)), instrument, price, pace, start_ns)
        tapes.append(ladder.events(end_ns))
    return merge(*tapes, key=attrgetter("at_ns"))


class _Ladder:
    """One symbol. Prices are whole ticks, quantities whole lots."""

    def __init__(self, rng: Random, instrument: Instrument, price: Decimal, pace: Pace, start_ns: int) -> None:
        self._rng = rng
        self._instrument = instrument
        self._pace = pace
        self._at_ns = start_ns
        self._anchor = max(10 * DEPTH, int(price / instrument.tick))
        self._fair = self._anchor
        self._drift = max(1.0, self._anchor * pace.drift_bp / 10_000)  # ticks per root second
        level_lots = pace.level_quote / float(price) / float(instrument.lot)
        self._size = log(max(10.0, level_lots))
        self._bids: dict[int, int] = {}
        self._asks: dict[int, int] = {}
        self._changed_bids: dict[int, None] = {}  # in the order of change
        self._changed_asks: dict[int, None] = {}
        self._update_id = 1
        self._depth_id = 1  # up to here the depth was told
        self._depth_due_ns = start_ns + _DEPTH_STEP_NS
        self._busy = False
        self._regime_until_ns = start_ns
        self._told: tuple[int, int, int, int] | None = None
        self._draw_spread()
        self._fill_up()

    def events(self, end_ns: int | None) -> Iterator[MarketEvent]:
        yield self._snapshot()
        while True:
            before_ns = self._at_ns
            wait_ns = self._wait_ns()
            if end_ns is not None and before_ns + wait_ns >= end_ns:
                return
            self._at_ns += wait_ns
            if self._instrument.kind is InstrumentKind.LINEAR:
                yield from self._funding(before_ns)
            yield from self._happen(wait_ns)
            yield from self._ticker()
            if self._at_ns >= self._depth_due_ns:
                yield from self._depth()

    # ------------------------------------------------------------------------------------------- what happens

    def _wait_ns(self) -> int:
        while self._at_ns >= self._regime_until_ns:
            self._busy = not self._busy if self._told else False
            mean = self._pace.busy_seconds if self._busy else self._pace.calm_seconds
            self._regime_until_ns += 1 + int(self._rng.expovariate(1 / mean) * SECOND)
        rate = self._pace.busy_rate if self._busy else self._pace.calm_rate
        return 1000 + int(self._rng.expovariate(rate) * SECOND)

    def _happen(self, wait_ns: int) -> Iterator[MarketEvent]:
        self._wander(wait_ns)
        if self._rng.random() < self._pace.trade_share:
            yield from self._take()
        else:
            self._change_a_level()
        if self._rng.random() < 0.7:
            yield from self._requote()

    def _wander(self, wait_ns: int) -> None:
        """A random walk with a slight pull home, so that hours of it stay within sane prices."""
        reach = self._drift * (self._pace.busy_drift if self._busy else 1.0) * (wait_ns / SECOND) ** 0.5
        pull = (self._anchor - self._fair) * (wait_ns / SECOND) / 3600
        self._fair = max(5 * DEPTH, self._fair + round(self._rng.gauss(pull, reach)))

    def _take(self) -> Iterator[MarketEvent]:
        """Somebody takes, rather towards the fair price; mostly a part of the best level, sometimes through some."""
        bid, ask = max(self._bids), min(self._asks)
        lean = 0.75 if self._fair > ask else 0.25 if self._fair < bid else 0.5
        side = Side.BUY if self._rng.random() < lean else Side.SELL
        lots = 1 + int(exp(self._rng.gauss(self._size - 1.5, 1.2)))
        yield from self._eat(side, lots, None)

    def _eat(self, aggressor: Side, lots: int, limit: int | None) -> Iterator[MarketEvent]:
        """Consume up to `lots` at prices up to `limit`, always leaving some of the deepest level."""
        buying = aggressor is Side.BUY
        levels, changed = (self._asks, self._changed_asks) if buying else (self._bids, self._changed_bids)
        for price in sorted(levels, reverse=not buying)[: DEPTH // 2]:
            if lots <= 0 or (limit is not None and (price > limit if buying else price < limit)):
                return
            eaten = min(lots, levels[price])
            lots -= eaten
            self._set(levels, changed, price, levels[price] - eaten)
            yield TradePrint(self._instrument.symbol, self._at_ns, self._price(price), self._qty(eaten), aggressor)
            self._at_ns += 1000

    def _change_a_level(self) -> None:
        """An order is added to or withdrawn from one level, the nearer ones more often."""
        levels, changed = (
            (self._bids, self._changed_bids) if self._rng.random() < 0.5 else (self._asks, self._changed_asks)
        )
        prices = sorted(levels, reverse=levels is self._bids)
        depth = min(len(prices) - 1, int(self._rng.expovariate(0.4)))
        self._set(levels, changed, prices[depth], self._draw_lots(depth))

    def _requote(self) -> Iterator[MarketEvent]:
        """Makers follow the fair price: what is on its wrong side is taken or withdrawn, what lacks returns."""
        self._draw_spread()
        bid, ask = self._fair - self._spread // 2, self._fair - self._spread // 2 + self._spread
        yield from self._clear(Side.BUY, ask)
        yield from self._clear(Side.SELL, bid)
        for levels, changed, best in (
            (self._bids, self._changed_bids, bid),
            (self._asks, self._changed_asks, ask),
        ):
            if best not in levels:
                self._set(levels, changed, best, self._draw_lots(0))
        self._fill_up()

    def _clear(self, aggressor: Side, best: int) -> Iterator[MarketEvent]:
        """Asks below (bids above) the new best go: the first ones bought, as a rule, the rest withdrawn."""
        buying = aggressor is Side.BUY
        levels, changed = (self._asks, self._changed_asks) if buying else (self._bids, self._changed_bids)
        wrong = sorted((p for p in levels if (p < best if buying else p > best)), reverse=not buying)
        if wrong and self._rng.random() < 0.6:
            yield from self._eat(aggressor, sum(levels[p] for p in wrong[:3]), wrong[min(2, len(wrong) - 1)])
        for price in wrong:
            self._set(levels, changed, price, 0)

    def _draw_spread(self) -> None:
        """At least one tick; wider in busy times, and always on its way back."""
        usual = self._pace.spread_ticks * (2 if self._busy else 1)
        self._spread = 1 + int(self._rng.expovariate(1 / max(0.1, usual - 0.5)))

    def _fill_up(self) -> None:
        """Each side has DEPTH levels again, and none far beyond them."""
        start_bid = self._fair - self._spread // 2
        start_ask = start_bid + self._spread
        for levels, changed, way, start in (
            (self._bids, self._changed_bids, -1, start_bid),
            (self._asks, self._changed_asks, 1, start_ask),
        ):
            prices = sorted(levels, key=lambda price: price * way)
            for price in prices[DEPTH + 10 :]:
                self._set(levels, changed, price, 0)
            at = prices[-1] if prices else start - way
            while len(levels) < DEPTH:
                at += way * (1 + int(self._rng.expovariate(0.7)))
                self._set(levels, changed, at, self._draw_lots(len(levels)))

    def _draw_lots(self, depth: int) -> int:
        return 1 + int(exp(self._rng.gauss(self._size + 0.08 * min(depth, DEPTH), 0.8)))

    def _set(self, levels: dict[int, int], changed: dict[int, None], price: int, lots: int) -> None:
        if lots > 0:
            levels[price] = lots
        else:
            levels.pop(price, None)
        changed[price] = None
        self._update_id += 1

    # ---------------------------------------------------------------------------------------- how it is told

    def _snapshot(self) -> BookSnapshot:
        self._changed_bids.clear()
        self._changed_asks.clear()
        self._depth_id = self._update_id
        return BookSnapshot(
            self._instrument.symbol,
            self._at_ns,
            self._depth_id,
            tuple((self._price(p), self._qty(self._bids[p])) for p in sorted(self._bids, reverse=True)),
            tuple((self._price(p), self._qty(self._asks[p])) for p in sorted(self._asks)),
        )

    def _ticker(self) -> Iterator[MarketEvent]:
        bid, ask = max(self._bids), min(self._asks)
        now = (bid, self._bids[bid], ask, self._asks[ask])
        if now == self._told:
            return
        self._told = now
        self._at_ns += 1000
        yield TopOfBook(
            self._instrument.symbol,
            self._at_ns,
            self._update_id,
            self._price(bid),
            self._qty(now[1]),
            self._price(ask),
            self._qty(now[3]),
        )

    def _depth(self) -> Iterator[MarketEvent]:
        self._depth_due_ns = self._at_ns + _DEPTH_STEP_NS
        if self._update_id == self._depth_id:
            return
        first_id, prev_id = self._depth_id + 1, self._depth_id
        self._depth_id = self._update_id
        self._at_ns += 1000
        yield BookDelta(
            self._instrument.symbol,
            self._at_ns,
            first_id,
            self._depth_id,
            prev_id if self._instrument.kind is InstrumentKind.LINEAR else None,
            self._changes(self._bids, self._changed_bids),
            self._changes(self._asks, self._changed_asks),
        )

    def _changes(self, levels: dict[int, int], changed: dict[int, None]) -> tuple[Level, ...]:
        changes = tuple((self._price(price), self._qty(levels.get(price, 0))) for price in changed)
        changed.clear()
        return changes

    def _funding(self, before_ns: int) -> Iterator[MarketEvent]:
        if before_ns // _FUNDING_NS == self._at_ns // _FUNDING_NS:
            return
        rate = round(self._rng.gauss(100, 80)) * _FUNDING_UNIT
        yield FundingRate(self._instrument.symbol, self._at_ns, rate, self._price(self._fair))
        self._at_ns += 1000

    def _price(self, ticks: int) -> Decimal:
        return ticks * self._instrument.tick

    def _qty(self, lots: int) -> Decimal:
        return lots * self._instrument.lot
