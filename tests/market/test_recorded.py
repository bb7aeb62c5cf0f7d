import gzip
import json
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from engine.core.messages import InstrumentKind, Side
from engine.market.book import Book
from engine.market.events import BookDelta, BookSnapshot, FundingRate, TopOfBook, TradePrint
from engine.market.recorded import LINE_MAX, BadTape, Recording, split_symbol, survey

DATA = Path(__file__).parents[3] / "shared" / "data" / "market"
SPOT = DATA / "binance_spot_ethusdt_20240808.gz"
USDM = DATA / "binance_usdm_ethusdt_20240808.gz"
recorded = pytest.mark.skipif(not (SPOT.exists() and USDM.exists()), reason=f"no recordings in {DATA}")

T = 1_723_161_254_000_000_000
TICKER = '{"stream":"ethusdt@bookTicker","data":{"u":9,"s":"ETHUSDT","b":"10.50","B":"3","a":"10.51","A":"4.5"}}'
TRADE = '{"stream":"ethusdt@trade","data":{"e":"trade","s":"ETHUSDT","t":1,"p":"10.5","q":"0.2","m":true}}'
DEPTH = (
    '{"stream":"ethusdt@depth@100ms","data":{"e":"depthUpdate","E":1,"s":"ETHUSDT","U":5,"u":8,'
    '"b":[["10.50","1"]],"a":[["10.52","0"]]}}'
)
SNAPSHOT = '{"lastUpdateId":4,"bids":[["10.40","1.000"]],"asks":[["10.60","2.500"]]}'


def tape(tmp_path, *messages, packed=False, stamps=None):
    stamps = stamps or range(T, T + len(messages))
    text = "".join(f"{at} {message}\n" for at, message in zip(stamps, messages, strict=True)).encode()
    path = tmp_path / "tape"
    path.write_bytes(gzip.compress(text) if packed else text)
    return path


def events(path):
    return list(Recording(path).events())


@recorded
@pytest.mark.parametrize(
    ("path", "tickers", "trades", "deltas"),
    [(SPOT, 24_077, 6_106, 3_434), (USDM, 53_992, 14_076, 6_586)],
    ids=["spot", "usdm"],
)
def test_a_real_recording_folds_into_a_book_without_a_gap_that_agrees_with_its_ticker(path, tickers, trades, deltas):
    book, counts, last_ns = Book("ETHUSDT"), Counter(), 0
    ahead: dict[int, TopOfBook] = {}  # tickers that the depth has not reached yet
    same_id = caught_up = agreed = 0
    for number, event in enumerate(Recording(path).events()):
        counts[type(event)] += 1
        assert event.symbol == "ETHUSDT" and event.at_ns >= last_ns
        last_ns = event.at_ns
        if isinstance(event, TradePrint):
            continue
        assert book.apply(event) is None
        assert number < 100 or not book.broken
        if isinstance(event, TopOfBook) and event.update_id > book.last_id:
            ahead[event.update_id] = event
            assert book.broken or best(book) == (event.bid, event.bid_qty, event.ask, event.ask_qty)
        if isinstance(event, BookDelta) and not book.broken:
            reached = [ahead.pop(update_id) for update_id in list(ahead) if update_id <= event.last_id]
            if reached and not ahead:  # nothing lies over the depth: what the deltas say by themselves
                top = reached[-1]
                caught_up += 1
                agreed += (book.best_bid()[0], book.best_ask()[0]) == (top.bid, top.ask)
                if top.update_id == event.last_id:
                    same_id += 1
                    assert best(book) == (top.bid, top.bid_qty, top.ask, top.ask_qty)
        if number % 50 == 0:
            bids, asks = list(book.levels(Side.BUY, 20)), list(book.levels(Side.SELL, 20))
            assert bids == sorted(bids, reverse=True) and asks == sorted(asks)
            assert all(qty > 0 for _, qty in bids + asks)
            assert book.broken or bids[0][0] < asks[0][0]
    assert counts == {TopOfBook: tickers, TradePrint: trades, BookDelta: deltas, BookSnapshot: 1}
    # Where both end at one update they agree to the last digit; else the delta may know a little more than the ticker.
    assert same_id > 200 and agreed >= caught_up * 0.99


def best(book):
    return *book.best_bid(), *book.best_ask()


@recorded
def test_a_survey_of_real_recordings_finds_their_instruments():
    (spot,), (usdm,) = survey(SPOT).instruments, survey(USDM).instruments
    assert (spot.symbol, spot.base, spot.quote, spot.kind) == ("ETHUSDT", "ETH", "USDT", InstrumentKind.SPOT)
    assert (spot.tick, spot.lot, spot.leverage_max) == (Decimal("0.01"), Decimal("0.0001"), 1)
    assert (usdm.kind, usdm.tick, usdm.lot) == (InstrumentKind.LINEAR, Decimal("0.01"), Decimal("0.001"))
    assert survey(USDM).start_ns == 1723161255088156767


@recorded
def test_a_lost_delta_of_a_real_recording_is_noticed():
    for path in (SPOT, USDM):
        book, deltas = Book("ETHUSDT"), 0
        for event in Recording(path).events():
            if isinstance(event, TradePrint):
                continue
            deltas += isinstance(event, BookDelta)
            if deltas == 500 and isinstance(event, BookDelta):
                continue
            if gap := book.apply(event):
                assert deltas == 501 and "does not follow" in gap.reason
                break
        assert book.broken


@pytest.mark.parametrize("packed", [False, True])
def test_each_kind_of_message_becomes_its_event_at_the_local_stamp(tmp_path, packed):
    path = tape(tmp_path, SNAPSHOT, DEPTH, TICKER, TRADE, packed=packed)
    level = (Decimal("10.40"), Decimal(1)), (Decimal("10.60"), Decimal("2.5"))
    assert events(path) == [
        BookSnapshot("ETHUSDT", T + 1, 4, (level[0],), (level[1],)),
        BookDelta("ETHUSDT", T + 1, 5, 8, None, ((Decimal("10.5"), Decimal(1)),), ((Decimal("10.52"), Decimal(0)),)),
        TopOfBook("ETHUSDT", T + 2, 9, Decimal("10.5"), Decimal(3), Decimal("10.51"), Decimal("4.5")),
        TradePrint("ETHUSDT", T + 3, Decimal("10.5"), Decimal("0.2"), Side.SELL),
    ]


def test_a_trade_whose_buyer_was_the_taker_is_a_buy(tmp_path):
    (bought,) = events(tape(tmp_path, TRADE.replace('"m":true', '"m":false')))
    assert bought.aggressor is Side.BUY


def test_exact_text_stays_exact(tmp_path):
    (top,) = events(tape(tmp_path, TICKER.replace("10.51", "10.123456789012345678")))
    assert top.ask == Decimal("10.123456789012345678")


def test_messages_that_are_not_market_data_are_passed_over(tmp_path):
    path = tape(tmp_path, '{"result":null,"id":1}', '{"stream":"ethusdt@kline_1m","data":{"k":[]}}', "{}", TICKER)
    path.write_bytes(b"\n" + path.read_bytes() + b"\n\n")
    assert [type(e) for e in events(path)] == [TopOfBook]


def test_trades_that_did_not_go_through_the_book_are_left_out(tmp_path):
    insurance = TRADE.replace('"m":true', '"X":"INSURANCE_FUND","m":true')
    filler = TRADE.replace('"p":"10.5","q":"0.2"', '"p":"0","q":"0","X":"NA"')
    assert len(events(tape(tmp_path, insurance, filler, TRADE))) == 1


def test_aggregated_trades_count_only_where_single_ones_are_not_told(tmp_path):
    aggregated = TRADE.replace("@trade", "@aggTrade").replace('"e":"trade"', '"e":"aggTrade"')
    assert len(events(tape(tmp_path, aggregated, aggregated))) == 2
    assert len(events(tape(tmp_path, TRADE, aggregated))) == 1


def test_funding_is_paid_when_the_mark_stream_moves_on_to_the_next_moment(tmp_path):
    def mark(rate, price, due):
        return (
            '{"stream":"ethusdt@markPrice@1s","data":{"e":"markPriceUpdate","s":"ETHUSDT",'
            f'"p":"{price}","r":"{rate}","T":{due}}}}}'
        )

    path = tape(tmp_path, mark("0.0001", "10", 8), mark("0.0002", "11", 8), mark("0.0005", "12", 16))
    assert events(path) == [FundingRate("ETHUSDT", T + 2, Decimal("0.0002"), Decimal(11))]


def test_raw_streams_without_a_stream_name_are_read_too(tmp_path):
    raw = [json.dumps(json.loads(text)["data"]) for text in (TICKER, DEPTH, TRADE)]
    assert [type(e) for e in events(tape(tmp_path, *raw))] == [TopOfBook, BookDelta, TradePrint]


def test_several_symbols_on_one_tape_keep_apart(tmp_path):
    other = TICKER.replace("ethusdt", "btcusdc").replace("ETHUSDT", "BTCUSDC")
    path = tape(tmp_path, TICKER, other, TRADE)
    assert [e.symbol for e in events(path)] == ["ETHUSDT", "BTCUSDC", "ETHUSDT"]
    assert [(i.base, i.quote) for i in survey(path).instruments] == [("ETH", "USDT"), ("BTC", "USDC")]


def test_time_stands_still_when_the_recorders_clock_was_set_back_a_little(tmp_path):
    path = tape(tmp_path, TICKER, TRADE, TICKER, stamps=[T + 9, T + 5, T + 12])
    assert [e.at_ns - T for e in events(path)] == [9, 9, 12]


BROKEN = [
    (TICKER.replace('"10.50"', '"NaN"'), "number"),
    (TICKER.replace('"10.50"', '"sNaN"'), "number"),
    (TICKER.replace('"10.50"', '"Infinity"'), "too large"),
    (TICKER.replace('"10.50"', '"1e400"'), "too large"),
    (TICKER.replace('"10.50"', '"-1"'), "negative"),
    (TICKER.replace('"10.50"', "true"), "$.b"),
    (TICKER.replace('"10.50"', '"' + "1" * 30 + '"'), "too large"),
    (TICKER.replace('"10.50"', '"1.' + "1" * 30 + '"'), "18 digits"),
    (TICKER.replace('"u":9,', ""), "missing required field `u`"),
    (TRADE.replace('"p":"10.5"', '"p":"1e-400"'), "no price"),
    (TRADE.replace('"q":"0.2"', '"q":"0"'), "quantity 0"),
    (DEPTH.replace('["10.50","1"]', '["10.50"]'), "length"),
    (DEPTH.replace('["10.50","1"]', '["10.50","-1"]'), "no price and quantity"),
    (DEPTH.replace('"U":5', '"U":50'), "backwards"),
    (DEPTH[:-5], "malformed"),
    ("[" * 100_000, "object"),
    ('{"stream":' + "[" * 100_000, "$.stream"),
    ('{"x":' + "[" * 100_000, "deep"),
    ("nonsense", "malformed"),
    ("", "truncated"),
    ('{"stream":"ethusdt@bookTicker","data":[]}', "object"),
    ('{"stream":"ethusdt@trade"}', "truncated"),
    (SNAPSHOT, "belongs to no symbol"),
]


@pytest.mark.parametrize(("message", "words"), BROKEN, ids=[str(n) for n in range(len(BROKEN))])
def test_a_broken_line_is_named_with_what_is_wrong(tmp_path, message, words):
    path = tape(tmp_path, '{"result":null}', message)
    with pytest.raises(BadTape) as bad:
        events(path)
    assert bad.value.line == 2 and words in bad.value.what
    assert str(bad.value).startswith("tape, line 2: ")


@pytest.mark.parametrize("stamp", ["", "x", "-5", "1723161254", "1723161254000", "99999999999999999999", "1e18", "١٢"])
def test_a_line_must_begin_with_nanoseconds(tmp_path, stamp):
    with pytest.raises(BadTape, match="nanoseconds"):
        events(tape(tmp_path, TICKER, stamps=[stamp]))


def test_time_that_goes_far_back_is_another_recording(tmp_path):
    with pytest.raises(BadTape, match="goes back by 61 seconds"):
        events(tape(tmp_path, TICKER, TRADE, stamps=[T, T - 61_000_000_000]))


def test_a_line_of_ten_megabytes_is_refused_without_being_read_whole(tmp_path):
    path = tape(tmp_path, TICKER, '{"x":"' + "a" * 10_000_000 + '"}', packed=True)
    with pytest.raises(BadTape, match=rf"line 2: is longer than {LINE_MAX:,} bytes"):
        events(path)


def test_a_damaged_or_cut_off_archive_says_so(tmp_path):
    path = tape(tmp_path, *[TICKER] * 2000, packed=True)
    whole = path.read_bytes()
    for damaged in (whole[:-20], whole[:15], whole[:100] + b"\xff" * 50 + whole[150:]):
        path.write_bytes(damaged)
        with pytest.raises(BadTape, match="damaged"):
            events(path)


def test_a_file_that_is_not_there_or_holds_nothing_says_so(tmp_path):
    with pytest.raises(BadTape, match="No such file"):
        events(tmp_path / "absent")
    with pytest.raises(BadTape, match="cannot be read"):
        events(tmp_path)
    with pytest.raises(BadTape, match="no market event"):
        survey(tape(tmp_path))


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=300),
        st.builds(
            lambda text, at, cut, put: text.encode()[:at] + put + text.encode()[at + cut :],
            st.sampled_from([TICKER, TRADE, DEPTH, SNAPSHOT]),
            st.integers(0, 150),
            st.integers(0, 20),
            st.binary(max_size=8),
        ).map(lambda body: b"1723161254000000000 " + body),
    ),
    st.booleans(),
)
def test_whatever_stands_in_a_file_makes_events_or_bad_tape(tmp_path, raw, packed):
    path = tmp_path / "tape"
    path.write_bytes(gzip.compress(raw) if packed else raw)
    try:
        events(path)
    except BadTape as bad:
        assert bad.what


def test_symbols_split_at_a_known_quote_currency():
    pairs = {
        "BTCUSDT": ("BTC", "USDT"),
        "ETHBTC": ("ETH", "BTC"),
        "BTCFDUSD": ("BTC", "FDUSD"),
        "USDCUSDT": ("USDC", "USDT"),
    }
    assert {symbol: split_symbol(symbol) for symbol in pairs} == pairs
    assert split_symbol("USDT") == ("USDT", "")
    assert split_symbol("XYZ") == ("XYZ", "")


@pytest.mark.parametrize("field", ["b", "B", "a", "A"])
def test_a_ticker_smaller_than_any_money_is_a_bad_line_and_not_a_tick_size(tmp_path, field):
    ticker = {"u": 9, "s": "ETHUSDT", "b": "1", "B": "3", "a": "2", "A": "4", field: "1e-99999"}
    with pytest.raises(BadTape, match="too small"):
        survey(tape(tmp_path, json.dumps(ticker)))
