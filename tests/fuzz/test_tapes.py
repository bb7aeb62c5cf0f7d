"""Recordings and live messages: market events, or BadTape and BadMessage."""

import gzip
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.market import binance, bybit
from engine.market.book import Book
from engine.market.events import BookDelta, BookSnapshot, FundingRate, TopOfBook, TradePrint
from engine.market.recorded import BadTape, Recording, survey
from tests.fuzz import fuzzed
from tests.fuzz.wrongs import changed, damaged

T = 1_723_161_254_000_000_000
TICKER = {"u": 9, "s": "ETHUSDT", "b": "10.50", "B": "3", "a": "10.51", "A": "4.5"}
TRADE = {"e": "trade", "s": "ETHUSDT", "t": 1, "p": "10.5", "q": "0.2", "m": True, "X": "MARKET"}
DEPTH = {"e": "depthUpdate", "s": "ETHUSDT", "U": 5, "u": 8, "pu": 4, "b": [["10.50", "1"]], "a": [["10.52", "0"]]}
MARK = {"e": "markPriceUpdate", "s": "ETHUSDT", "p": "10.5", "r": "0.0001", "T": 1_723_161_600_000}
SNAPSHOT = {"lastUpdateId": 4, "bids": [["10.40", "1.000"]], "asks": [["10.60", "2.500"]]}
BINANCE: tuple[dict[str, Any], ...] = (
    *(TICKER, TRADE, DEPTH, MARK, SNAPSHOT, {"result": None, "id": 1}),
    {"stream": "ethusdt@bookTicker", "data": TICKER},
    {"stream": "ethusdt@depth@100ms", "data": DEPTH},
    {"stream": "ethusdt@markPrice@1s", "data": {**MARK, "T": 1_723_190_400_000}},
)
BYBIT: tuple[dict[str, Any], ...] = (
    {"topic": "orderbook.50.X", "type": "snapshot", "data": {"s": "X", "b": [["1", "2"]], "a": [["3", "1"]], "u": 7}},
    {"topic": "orderbook.50.X", "type": "delta", "data": {"s": "X", "b": [["1", "0"]], "a": [], "u": 8}},
    {"topic": "publicTrade.X", "type": "snapshot", "data": [{"s": "X", "S": "Buy", "v": "1", "p": "2"}]},
    {"success": False, "ret_msg": "no", "op": "subscribe"},
)
KEYS = (
    "stream",
    "data",
    "e",
    "s",
    "u",
    "U",
    "pu",
    "b",
    "a",
    "p",
    "q",
    "lastUpdateId",
    "topic",
    "type",
    "T",
    "r",
    "ret_msg",
)
EVENTS = BookSnapshot | BookDelta | TopOfBook | TradePrint | FundingRate


def sane(event: EVENTS) -> None:
    """What matching and books rely on: no number that cannot be calculated with."""
    assert isinstance(event, EVENTS)
    levels: tuple[tuple[Decimal, Decimal], ...] = ()
    if isinstance(event, BookSnapshot | BookDelta):
        levels = (*event.bids, *event.asks)
        Book(event.symbol).apply(event)
    elif isinstance(event, TopOfBook):
        levels = ((event.bid, event.bid_qty), (event.ask, event.ask_qty))
    elif isinstance(event, TradePrint):
        levels = ((event.price, event.qty),)
    for price, qty in levels:
        assert 0 <= price < 10**18 and 0 <= qty < 10**18
        assert all(not number or number >= Decimal("1e-18") for number in (price, qty))


@pytest.mark.parametrize("parser", [binance.Parser, bybit.Parser])
@given(st.lists(st.binary(max_size=200) | changed(BINANCE, KEYS) | changed(BYBIT, KEYS), min_size=1, max_size=5))
@fuzzed(200)
def test_messages_are_events_or_bad(parser: Callable[[], Any], messages: list[bytes]) -> None:
    one = parser()
    for raw in messages:
        try:
            for event in one.events(raw, T):
                sane(event)
        except binance.BadMessage as bad:
            assert str(bad)


def look(path: Path) -> None:
    def events() -> None:
        for event in Recording(path).events():
            sane(event)

    for read in (events, lambda: survey(path)):
        try:
            read()
        except BadTape as bad:
            assert str(bad).startswith("tape, line ") or str(bad) == "tape: holds no market event"


@given(st.lists(changed(BINANCE, KEYS), max_size=6), st.lists(st.integers(0, 10), min_size=6, max_size=6))
@fuzzed(150)
def test_a_tape_of_odd_messages(
    tmp_path_factory: pytest.TempPathFactory, messages: list[bytes], gaps: list[int]
) -> None:
    path = tmp_path_factory.getbasetemp() / "tape"
    path.write_bytes(b"".join(b"%d %b\n" % (T + gap, raw) for raw, gap in zip(messages, gaps, strict=False)))
    look(path)


@given(st.booleans(), st.booleans(), st.data())
@fuzzed(200)
def test_a_tape_that_was_damaged_packed_or_before_it_was_packed(
    tmp_path_factory: pytest.TempPathFactory, packed: bool, before: bool, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / "tape"
    lines = [b"%d %b\n" % (T + n, data.draw(changed((m,)))) for n, m in enumerate(BINANCE)]
    text = b"".join(lines)
    if packed and not before:
        path.write_bytes(data.draw(damaged(gzip.compress(text))))
    else:
        text = data.draw(damaged(text))
        path.write_bytes(gzip.compress(text) if packed else text)
    look(path)
