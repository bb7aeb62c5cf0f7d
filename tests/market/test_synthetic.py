from decimal import Decimal
from itertools import islice
from random import Random

import pytest

from engine.core.instrument import price_fits
from engine.core.messages import InstrumentKind, Side
from engine.core.money import on_step
from engine.market import synthetic
from engine.market.events import BookDelta, BookSnapshot, FundingRate, TopOfBook, TradePrint
from engine.market.tape import Market

START = 1_700_000_000_000_000_000


def tape(seed, seconds=60, traded=None, start_ns=START, **options):
    traded = traded or synthetic.instruments()
    return list(synthetic.events(Random(seed), traded, start_ns, seconds=seconds, **options))


def test_one_seed_makes_one_tape_and_another_seed_another():
    assert tape(1, 20) == tape(1, 20)
    assert tape(1, 20) != tape(2, 20)


def test_the_tape_goes_on_for_ever_unless_told_otherwise():
    endless = synthetic.events(Random(1), synthetic.instruments(), START)
    assert list(islice(endless, 3000)) == tape(1, 600)[:3000]


def test_time_never_falls_and_rises_within_each_symbol():
    last, last_of = START, {}
    for event in tape(3):
        assert event.at_ns >= last
        assert event.at_ns > last_of.get(event.symbol, 0)
        last = last_of[event.symbol] = event.at_ns
    assert last - START > 55 * 10**9


@pytest.mark.parametrize("kind", InstrumentKind)
def test_the_book_never_breaks_or_crosses_and_stays_on_its_steps(kind):
    traded = {i.symbol: i for i in synthetic.instruments(kind)}
    market, spreads, opened = Market(), [], set()
    for event in tape(5, 90, tuple(traded.values())):
        instrument = traded[event.symbol]
        assert isinstance(event, BookSnapshot) == (event.symbol not in opened)
        opened.add(event.symbol)
        assert market.apply(event) is None
        quote = market.quote(event.symbol)
        assert 0 < quote.bid < quote.ask and quote.bid_qty > 0 and quote.ask_qty > 0
        spreads.append((quote.ask - quote.bid) / instrument.tick)
        if isinstance(event, BookSnapshot | BookDelta):
            assert all(price_fits(instrument, p) and q >= 0 and on_step(q, instrument.lot) for p, q in event.bids)
            assert all(price_fits(instrument, p) and q >= 0 and on_step(q, instrument.lot) for p, q in event.asks)
            assert all(len(list(market.book(event.symbol).levels(side))) >= 5 for side in Side)
        elif isinstance(event, TopOfBook):
            assert (quote.bid, quote.ask) == (event.bid, event.ask), "the ticker is the freshest word"
    spreads.sort()
    assert 1 <= spreads[len(spreads) // 2] <= 4 and spreads[len(spreads) * 9 // 10] < 30


def test_trades_hit_both_sides_and_consume_what_they_take():
    market, sides = Market(), {Side.BUY: 0, Side.SELL: 0}
    consumed = 0
    previous = None
    for event in tape(8, 120, synthetic.instruments()[:1]):
        if isinstance(previous, TradePrint) and isinstance(event, TopOfBook):
            book = market.book(event.symbol)
            consumed += (event.bid_qty, event.ask_qty) != (book.best_bid()[1], book.best_ask()[1])
        if isinstance(event, TradePrint):
            sides[event.aggressor] += 1
            assert event.qty > 0
        market.apply(event)
        previous = event
    assert min(sides.values()) > 100 and consumed > 100


def test_busy_times_and_calm_times_alternate():
    counts = [0] * 120
    for event in tape(4, 120, synthetic.instruments()[:1]):
        counts[(event.at_ns - START) // 10**9] += 1
    counts.sort()
    assert counts[-5] > 4 * max(1, counts[60])


def test_the_price_wanders_but_stays_sane():
    prints = [e.price for e in tape(6, 600, synthetic.instruments()[:1]) if isinstance(e, TradePrint)]
    assert Decimal(57_000) < min(prints) < max(prints) < Decimal(63_000)
    assert max(prints) - min(prints) > 20


def test_a_symbol_begins_where_it_is_told():
    (first, *_) = tape(1, 5, synthetic.instruments()[1:2], prices={"ETHUSDT": Decimal(1234)})
    assert abs(first.bids[0][0] - 1234) < 1


def test_futures_pay_funding_at_the_eighth_hour_and_spot_never_does():
    eighth = 1_700_006_400_000_000_000  # 2023-11-15 00:00:00 UTC
    paid = [e for e in tape(1, 20, start_ns=eighth - 10 * 10**9) if isinstance(e, FundingRate)]
    assert sorted(e.symbol for e in paid) == ["BTCUSDT", "ETHUSDT", "SOLUSDT"]
    assert all(0 <= e.at_ns - eighth < 10**10 and abs(e.rate) < Decimal("0.001") for e in paid)
    spot = tape(1, 20, synthetic.instruments(InstrumentKind.SPOT), eighth - 10 * 10**9)
    assert not [e for e in spot if isinstance(e, FundingRate)]
