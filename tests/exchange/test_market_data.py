"""The public streams, read by our own parsers of the real venues: what they rebuild is the exchange's own book."""

import json
from random import Random
from typing import Any

import pytest

from engine.core.messages import InstrumentKind, Side
from engine.exchange.http import Request
from engine.exchange.opening import both_kinds, open_exchange
from engine.exchange.terms import ExchangeTerms
from engine.market import synthetic
from engine.market.binance import Parser, rest_snapshot
from engine.market.book import Book
from engine.market.bybit import Parser as BybitParser
from engine.market.events import BookDelta, BookSnapshot, TopOfBook, TradePrint
from engine.runtime.clock import Clock
from tests.exchange.world import START_NS, World

BEAT_NS = 20_000_000


class Living:
    """An exchange on a synthetic tape, played as fast as it goes; every reader hears each beat."""

    def __init__(self) -> None:
        self.now_ns = START_NS
        clock = Clock(now_ns=lambda: self.now_ns, ticks_ns=lambda: self.now_ns)
        instruments = synthetic.instruments(InstrumentKind.LINEAR)[:1]
        self.exchange = open_exchange(ExchangeTerms(rate_limits="off"), both_kinds(instruments), clock)
        self.tape = synthetic.events(Random(5), instruments, START_NS, seconds=30)
        self.sessions: list[Any] = []

    def connect(self, face: str, path: str, query: str, told: list[bytes]) -> Any:
        session = self.exchange.faces[face].connect(path, query, told.append, 1)
        assert session is not None
        self.sessions.append(session)
        return session

    def play(self, seconds: float) -> None:
        until_ns, next_beat = self.now_ns + round(seconds * 1e9), self.now_ns + BEAT_NS
        for event in self.tape:
            self.now_ns = max(self.now_ns, event.at_ns)
            while self.now_ns >= next_beat:
                next_beat += BEAT_NS
                self.beat()
            self.exchange.publish(event)
            if self.now_ns >= until_ns:
                return

    def beat(self) -> None:
        for session in self.sessions:
            session.beat(self.now_ns)

    def levels(self, face: str, category: str) -> tuple[list[Any], list[Any]]:
        book = self.exchange.faces[face].house.first.matching.market.book(f"{category}:BTCUSDT")
        assert book is not None
        return list(book.levels(Side.BUY)), list(book.levels(Side.SELL))


def levels(book: Book) -> tuple[list[Any], list[Any]]:
    assert not book.broken, book.reason
    return list(book.levels(Side.BUY)), list(book.levels(Side.SELL))


@pytest.mark.parametrize(
    ("face", "category", "path"),
    [("binance-spot", "spot", "/stream"), ("binance-usdm", "linear", "/public/stream")],
)
def test_a_book_kept_by_binances_rules_is_the_exchanges(face: str, category: str, path: str) -> None:
    living, told = Living(), list[bytes]()
    session = living.connect(face, path, "streams=btcusdt@depth/btcusdt@trade", told)
    living.play(3)
    root = "/api/v3" if face == "binance-spot" else "/fapi/v1"
    # The snapshot comes in the middle of the stream, as the rules want it.
    asked = Request("GET", f"{root}/depth", "symbol=BTCUSDT&limit=1000", {}, b"", "x")
    snapshot = living.exchange.faces[face].answer(asked, living.now_ns).body
    living.play(10)
    session.beat(living.now_ns)
    book, parser, trades = Book("BTCUSDT"), Parser("BTCUSDT"), 0
    book.apply(rest_snapshot(snapshot, "BTCUSDT", living.now_ns))
    for text in told:
        for event in parser.events(text, living.now_ns):
            if isinstance(event, BookDelta | BookSnapshot | TopOfBook):
                assert book.apply(event) is None
            elif isinstance(event, TradePrint):
                trades += 1
    assert levels(book) == living.levels(face, category)
    assert trades > 10


def test_a_book_kept_by_bybits_rules_is_the_exchanges() -> None:
    living, told = Living(), list[bytes]()
    session = living.connect("bybit", "/v5/public/linear", "", told)
    subscribe = {"op": "subscribe", "args": ["orderbook.200.BTCUSDT", "publicTrade.BTCUSDT"]}
    assert json.loads(session.hear(json.dumps(subscribe).encode(), living.now_ns)[0])["success"] is True
    living.play(10)
    session.beat(living.now_ns)
    book, parser, trades = Book("BTCUSDT"), BybitParser(), 0
    for text in told:
        for event in parser.events(text, living.now_ns):
            if isinstance(event, BookDelta | BookSnapshot):
                assert book.apply(event) is None
            elif isinstance(event, TradePrint):
                trades += 1
    assert levels(book) == living.levels("bybit", "linear")
    assert trades > 10


def test_one_tape_is_the_market_of_every_face() -> None:
    living = Living()
    living.play(5)
    books = [living.levels("bybit", c) for c in ("spot", "linear")]
    books += [living.levels("binance-spot", "spot"), living.levels("binance-usdm", "linear")]
    assert all(book == books[0] for book in books) and books[0][0]


def test_candles_and_day_figures_follow_the_trades() -> None:
    world = World()
    for price, qty in (("60000", "1"), ("60010", "2"), ("59990", "1")):
        world.trade(price, qty)
    world.pass_(60)
    world.trade("60005", "1")
    rows = json.loads(world.request("binance-usdm", "GET", "/fapi/v1/klines", "symbol=BTCUSDT&interval=1m").body)
    assert [row[1:6] for row in rows] == [
        ["60000", "60010", "59990", "59990", "4"],
        ["60005", "60005", "60005", "60005", "1"],
    ]
    wide = json.loads(world.request("bybit", "GET", "/v5/market/kline", "category=spot&symbol=BTCUSDT&interval=5").body)
    assert wide["result"]["list"][0][1:6] == ["60000", "60010", "59990", "60005", "5"]
    day = json.loads(world.request("binance-spot", "GET", "/api/v3/ticker/24hr", "symbol=BTCUSDT").body)
    assert (day["openPrice"], day["lastPrice"], day["volume"], day["count"]) == ("60000", "60005", "5", 4)


def test_bybits_best_level_comes_in_snapshots_and_tickers_only_when_they_change() -> None:
    world = World()
    public = world.connect("bybit", "/v5/public/linear")
    assert public.say({"op": "subscribe", "args": ["orderbook.1.BTCUSDT", "tickers.BTCUSDT"]})["success"]
    assert public.say({"op": "subscribe", "args": ["orderbook.7.BTCUSDT"]})["ret_msg"].startswith("error:handler")
    public.beat()
    public.beat()
    world.book("60001", "60001.1")
    public.beat()
    books = public.of(topic="orderbook.1.BTCUSDT")
    assert [(m["type"], m["data"]["b"][0][0]) for m in books] == [("snapshot", "60000"), ("snapshot", "60001")]
    assert [m["type"] for m in public.of(topic="tickers.BTCUSDT")] == ["snapshot", "delta"]
