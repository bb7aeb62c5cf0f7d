from decimal import Decimal
from pathlib import Path

import pytest
import trio

from engine.core.messages import Quote, Side
from engine.market.events import BookDelta, BookSnapshot, TopOfBook, TradePrint
from engine.market.recorded import Recording, survey
from engine.market.tape import Market, Quotes, play
from engine.runtime.clock import virtual_clock

MS = 1_000_000
T = 1_723_161_254_000_000_000
USDM = Path(__file__).parents[3] / "shared" / "data" / "market" / "binance_usdm_ethusdt_20240808.gz"
ONE, TWO = Decimal(1), Decimal(2)


def trade(at_ns, symbol="X"):
    return TradePrint(symbol, at_ns, ONE, ONE, Side.BUY)


def top(at_ns, update_id, bid, ask, symbol="X"):
    return TopOfBook(symbol, at_ns, update_id, Decimal(bid), ONE, Decimal(ask), TWO)


async def test_each_event_is_published_when_its_time_has_come_never_before(autojump_clock):
    clock, heard = virtual_clock(T), []
    tape = [trade(T + at * MS // 10) for at in (0, 1, 2, 9, 10, 11, 5000, 5000, 36_000_000)]
    await play(tape, clock, lambda event: heard.append((event, clock.now_ns())))
    assert [event for event, _ in heard] == tape
    assert all(0 <= now - event.at_ns < MS for event, now in heard)
    assert trio.current_time() == pytest.approx(3600, abs=0.01)


async def test_events_within_a_grain_take_one_sleep(autojump_clock):
    clock, moments = virtual_clock(T), set()
    await play([trade(T + 1 + n) for n in range(5000)], clock, lambda _: moments.add(clock.now_ns()))
    assert moments == {T + MS}


async def test_a_late_tape_lets_other_tasks_run(autojump_clock):
    clock, turns = virtual_clock(T + 10**12), 0
    done = trio.Event()

    async def other():
        nonlocal turns
        while not done.is_set():
            turns += 1
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        await play([trade(T + n) for n in range(1000)], clock, lambda _: None)
        done.set()
    assert turns >= 10


async def test_an_old_recording_can_be_played_as_if_it_began_now(autojump_clock):
    clock, heard = virtual_clock(T * 2), []
    await play([trade(T), trade(T + 7 * MS)], clock, heard.append, offset_ns=None)
    assert [event.at_ns for event in heard] == [T * 2, T * 2 + 7 * MS]


async def test_what_the_tape_raises_comes_through(autojump_clock):
    def broken():
        yield trade(T)
        raise ValueError("torn")

    with pytest.raises(ValueError, match="torn"):
        await play(broken(), virtual_clock(T), lambda _: None)


@pytest.mark.skipif(not USDM.exists(), reason=f"no recording at {USDM}")
async def test_a_real_recording_is_replayed_much_faster_than_it_happened(autojump_clock):
    market, clock, late = Market(), virtual_clock(survey(USDM).start_ns), 0

    def publish(event):
        nonlocal late
        late = max(late, clock.now_ns() - event.at_ns)
        assert clock.now_ns() >= event.at_ns and market.apply(event) is None

    recording = Recording(USDM)
    await play((e for e in recording.events() if e.at_ns < 1723161255088156767 + 60 * 10**9), clock, publish)
    assert late < MS and market.quote("ETHUSDT") is not None and recording.fraction == 1.0


def test_a_market_keeps_a_book_of_every_symbol_it_hears_of():
    market = Market()
    for symbol in ("X", "Y"):
        market.apply(BookSnapshot(symbol, T, 5, ((ONE, ONE),), ((TWO, ONE),)))
    market.apply(BookDelta("Y", T + 1, 6, 6, None, ((ONE, Decimal(9)),), ()))
    market.apply(trade(T + 2, "Z"))
    assert market.quote("X") == Quote("X", ONE, TWO, ONE, ONE, T)
    assert market.quote("Y") == Quote("Y", ONE, TWO, Decimal(9), ONE, T + 1)
    assert market.quote("Z") is None and market.book("Z") is None


def test_a_gap_takes_the_quote_of_its_symbol_only():
    market = Market()
    for symbol in ("X", "Y"):
        market.apply(BookSnapshot(symbol, T, 5, ((ONE, ONE),), ((TWO, ONE),)))
    assert market.apply(BookDelta("X", T, 8, 9, None, (), ())).symbol == "X"
    market.apply(top(T + 5, 99, 1, 2))
    assert market.quote("X") is None and market.quote("Y") is not None


def test_a_symbol_with_a_ticker_only_is_quoted_from_it():
    market = Market()
    market.apply(top(T, 1, 1, 2))
    assert market.quote("X") == Quote("X", ONE, TWO, ONE, TWO, T)
    market.apply(top(T + 1, 2, 2, 2))
    assert market.quote("X") is None, "a crossed ticker is no quote"


def test_quotes_are_as_last_heard():
    quotes = Quotes()
    quotes.hear(Quote("X", ONE, TWO, at_ns=1))
    quotes.hear(Quote("X", ONE, TWO, at_ns=2))
    assert quotes("X").at_ns == 2 and quotes("Y") is None
    quotes.forget("X")
    assert quotes("X") is None
