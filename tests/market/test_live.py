"""Against local servers on the loopback: real sockets, real time, short waits."""

import json
import time
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from itertools import pairwise
from random import Random

import pytest
import trio
from trio_websocket import ConnectionClosed, serve_websocket

from engine.core.messages import InstrumentKind, Side
from engine.market import bybit
from engine.market.binance import BadMessage
from engine.market.events import BookDelta, BookSnapshot, FundingRate, TopOfBook, TradePrint
from engine.market.live import Backoff, Feed, binance_feeds, bybit_feeds, listen
from engine.market.tape import Market
from tests.patience import PATIENCE_SECONDS

SPOT, LINEAR = InstrumentKind.SPOT, InstrumentKind.LINEAR
QUICK = Backoff(first_seconds=0.01, max_seconds=0.05, healthy_seconds=60)


def combined(name, **data):
    return json.dumps({"stream": name, "data": data})


def depth(first, last, bids=(), asks=(), symbol="BTCUSDT"):
    return combined(f"{symbol.lower()}@depth@100ms", e="depthUpdate", s=symbol, U=first, u=last, b=bids, a=asks)


def ticker(update, bid, ask, symbol="BTCUSDT"):
    return combined(f"{symbol.lower()}@bookTicker", u=update, s=symbol, b=bid, B="1", a=ask, A="1")


def trade(price, symbol="BTCUSDT"):
    return combined(f"{symbol.lower()}@trade", e="trade", s=symbol, p=price, q="1", m=False)


def rest(last_id, bid="100", ask="101"):
    return 200, json.dumps({"lastUpdateId": last_id, "bids": [[bid, "5"]], "asks": [[ask, "5"]]}), ""


class Place:
    """A venue on the loopback. Each connection gets the next of `scripts` (the last one again and again)."""

    def __init__(self, scripts, snapshots=()):
        self.scripts = list(scripts)
        self.snapshots = list(snapshots)  # (status, body, header line)
        self.paths = []  # of WebSocket connections
        self.asked = []  # REST paths
        self.heard = []  # what clients said
        self.connected_at = []
        self.stream = self.rest = ""

    async def run(self, task_status):
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, self._answer, 0)
            self.rest = f"http://127.0.0.1:{listeners[0].socket.getsockname()[1]}"
            server = await nursery.start(partial(serve_websocket, self._connected, "127.0.0.1", 0, None))
            self.stream = f"ws://127.0.0.1:{server.port}"
            task_status.started(self)

    async def _connected(self, request):
        self.paths.append(request.path)
        self.connected_at.append(trio.current_time())
        script = self.scripts.pop(0) if len(self.scripts) > 1 else self.scripts[0]
        try:
            await script(await request.accept())
        except ConnectionClosed:
            pass

    async def _answer(self, stream):
        raw = b""
        while b"\r\n\r\n" not in raw:
            raw += await stream.receive_some(4096) or b"\r\n\r\n"
        self.asked.append(raw.split(b" ")[1].decode())
        status, body, header = self.snapshots.pop(0) if len(self.snapshots) > 1 else self.snapshots[0]
        head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(body)}\r\nConnection: close\r\n{header}\r\n"
        await stream.send_all(head.encode() + body.encode())
        await stream.aclose()


def saying(*texts, then=None):
    """A connection that says these (a number is a pause, a condition is waited for), then hangs on, or does `then`."""

    async def script(socket):
        for text in texts:
            if isinstance(text, int | float):
                await trio.sleep(text)
            elif callable(text):
                await true(text)
            else:
                await socket.send_message(text)
        if then is not None:
            await then(socket)
        else:
            await trio.sleep_forever()

    return script


async def hang_up(socket):
    await socket.aclose()


async def tear(socket):
    await socket._stream.aclose()


@asynccontextmanager
async def listening(place, feeds, **options):
    """Yields (what comes, the states told). `feeds` makes them from the running place."""
    states = []
    sender, receiver = trio.open_memory_channel(10_000)
    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(place.run)
            options = {"backoff": QUICK} | options
            work = partial(listen, now_ns=time.time_ns, rng=Random(1), tell=states.append, **options)
            nursery.start_soon(work, feeds(place), sender)
            yield receiver, states
            nursery.cancel_scope.cancel()


def spot(place, **changes):
    (feed,) = binance_feeds(SPOT, ("BTCUSDT",), place.stream, place.rest)
    return (replaced(feed, **changes),)


def replaced(feed, **changes):
    return Feed(**({name: getattr(feed, name) for name in feed.__struct_fields__} | changes))


async def until(receiver, wanted, market=None):
    """Receive (and fold) until `wanted(event)`; all that came."""
    came = []
    async for event in receiver:
        came.append(event)
        if market is not None:
            market.apply(event)
        if wanted(event):
            return came


async def true(condition):
    while not condition():  # noqa: ASYNC110 (what it waits for are sockets)
        await trio.sleep(0.01)


async def test_binance_spot_begins_with_a_snapshot_that_reaches_its_deltas():
    place = Place(
        [saying(depth(10, 12, [["99", "1"]]), depth(13, 14, [["98", "1"]]), ticker(15, "99.5", "100.5"), trade("100"))],
        [rest(12)],
    )
    market = Market()
    async with listening(place, spot) as (receiver, states):
        came = await until(receiver, lambda _: market.quote("BTCUSDT") is not None, market)
        while market.book("BTCUSDT").last_id != 14 or market.quote("BTCUSDT").bid != Decimal("99.5"):
            came += await until(receiver, lambda _: True, market)
    assert {type(e) for e in came} >= {BookDelta, BookSnapshot, TopOfBook}
    assert [e.at_ns for e in came] == sorted(e.at_ns for e in came)
    assert 0 <= time.time_ns() - came[0].at_ns < PATIENCE_SECONDS * 10**9
    assert place.paths == ["/stream?streams=btcusdt@bookTicker/btcusdt@depth@100ms/btcusdt@trade"]
    assert place.asked == ["/api/v3/depth?limit=1000&symbol=BTCUSDT"]
    assert [(s.name, s.up) for s in states] == [("binance-spot", True)]


async def test_a_gap_brings_a_new_snapshot_over_the_same_connection():
    market = Market()
    known = lambda: market.quote("BTCUSDT") is not None  # noqa: E731
    place = Place(
        [saying(depth(10, 12), known, depth(20, 22), depth(23, 25, [["99", "7"]]))], [rest(11), rest(21, bid="98")]
    )
    async with listening(place, spot) as (receiver, _):
        await until(receiver, lambda _: market.quote("BTCUSDT") is not None, market)
        await until(receiver, lambda e: isinstance(e, BookDelta) and e.first_id == 20, market)
        assert market.quote("BTCUSDT") is None
        await until(receiver, lambda e: market.quote("BTCUSDT") is not None and e.at_ns, market)
        while market.book("BTCUSDT").last_id < 25:
            await until(receiver, lambda _: True, market)
    assert market.book("BTCUSDT").best_bid() == (Decimal(99), Decimal(7))
    assert len(place.paths) == 1 and len(place.asked) == 2


async def test_a_snapshot_that_is_too_old_is_asked_for_again():
    place = Place([saying(depth(20, 22), depth(23, 25))], [rest(5), rest(24)])
    market = Market()
    async with listening(place, spot) as (receiver, _):
        await until(receiver, lambda _: market.quote("BTCUSDT") is not None, market)
    assert len(place.asked) == 2 and market.book("BTCUSDT").last_id == 25


@pytest.mark.parametrize("end", [hang_up, tear], ids=["closed", "torn"])
async def test_after_a_lost_connection_another_one_takes_over(end):
    place = Place([saying(depth(10, 12), 0.1, then=end), saying(depth(50, 52, [["99", "2"]]))], [rest(11), rest(51)])
    market = Market()
    async with listening(place, spot) as (receiver, states):
        await until(receiver, lambda e: isinstance(e, BookSnapshot) and e.last_id == 51, market)
    assert market.book("BTCUSDT").last_id == 52 and not market.book("BTCUSDT").broken
    assert [s.up for s in states][:3] == [True, False, True] and "ConnectionClosed" in states[1].why


MALFORMED = {
    "not json": "{{{",
    "wrong type": depth(10, "x"),
    "nan": ticker(1, "NaN", "2"),
    "nested": "[" * 100_000,
    "bytes that are no text": b"\xff\xfe",
}


@pytest.mark.parametrize("frame", MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_frame_ends_the_connection_not_the_engine(frame):
    place = Place([saying(trade("1"), frame), saying(trade("2"))], [rest(1)])
    async with listening(place, spot) as (receiver, states):
        came = await until(receiver, lambda e: e.price == 2)
    assert [e.price for e in came] == [1, 2]
    assert [s.up for s in states] == [True, False, True] and "BadMessage" in states[1].why


async def test_a_frame_too_large_ends_the_connection():
    place = Place([saying(trade("1"), '{"x":"' + "a" * 5_000_000 + '"}'), saying(trade("2"))], [rest(1)])
    async with listening(place, spot) as (receiver, states):
        await until(receiver, lambda e: e.price == 2)
    assert not states[1].up


@pytest.mark.parametrize(
    "answer", [(500, "", ""), (200, "{}", ""), (200, '{"lastUpdateId":1,"bids":[["NaN","1"]],"asks":[]}', "")]
)
async def test_a_refused_or_broken_snapshot_ends_the_connection_and_the_next_one_asks_again(answer):
    place = Place([saying(depth(10, 12))], [answer, rest(11)])
    market = Market()
    async with listening(place, spot) as (receiver, states):
        await until(receiver, lambda _: market.quote("BTCUSDT") is not None, market)
    assert len(place.paths) == 2 and not states[1].up


async def test_the_pause_that_the_venue_asks_for_is_kept():
    place = Place([saying(depth(10, 12))], [(429, "", "Retry-After: 1\r\n"), rest(11)])
    async with listening(place, spot) as (receiver, states):
        await until(receiver, lambda e: isinstance(e, BookSnapshot))
    assert place.connected_at[1] - place.connected_at[0] >= 1
    assert "429" in states[1].why


async def test_a_silent_connection_counts_as_dead():
    place = Place([saying(trade("1")), saying(trade("2"))], [rest(1)])
    async with listening(place, partial(spot, stale_seconds=0.1)) as (receiver, states):
        await until(receiver, lambda e: e.price == 2)
    assert states[1].why == "no market data for 0.1 seconds"


async def test_a_server_that_is_not_there_is_tried_again_with_growing_pauses():
    place = Place([saying(trade("1"))], [rest(1)])
    feed = Feed("nobody", "ws://127.0.0.1:9/", bybit.Parser().events)
    slow = Backoff(first_seconds=0.02, max_seconds=0.3)
    async with listening(place, lambda _: (feed,), backoff=slow) as (_, states):
        await true(lambda: len(states) >= 5)
    pauses = [(after.at_ns - before.at_ns) / 1e9 for before, after in pairwise(states)]
    assert not any(s.up for s in states)
    assert all(pause >= 0.01 * 2**n for n, pause in enumerate(pauses[:4]))


def test_pauses_double_up_to_a_most_and_are_jittered():
    pauses = [Backoff().seconds(n, Random(n)) for n in range(1, 12)]
    assert 0.25 <= pauses[0] <= 0.75 and 15 <= pauses[-1] <= 45
    assert Backoff().seconds(10**9, Random(1)) <= 45


async def test_a_ping_while_closing_does_not_bring_the_listener_down():
    async def ping_and_close(socket):
        with trio.move_on_after(0.05):
            while True:
                await socket.ping()
        await socket.aclose()

    place = Place([saying(trade("1"), then=ping_and_close)] * 8 + [saying(trade("2"))], [rest(1)])
    feeds = partial(spot, stale_seconds=0.03)  # so that our side closes amid the pings
    async with listening(place, feeds) as (receiver, _):
        await until(receiver, lambda e: e.price == 2)


async def test_usdm_futures_listen_on_both_of_their_routes():
    async def script(socket):
        await saying(
            combined("btcusdt@aggTrade", e="aggTrade", s="BTCUSDT", p="100", q="2", m=True),
            combined("btcusdt@markPrice", e="markPriceUpdate", s="BTCUSDT", p="100", r="0.0001", T=8),
            combined("btcusdt@markPrice", e="markPriceUpdate", s="BTCUSDT", p="101", r="0.0002", T=16),
        )(socket)

    place = Place([script], [rest(1)])
    async with listening(place, lambda p: binance_feeds(LINEAR, ("BTCUSDT",), p.stream, p.rest)) as (receiver, _):
        came = await until(receiver, lambda e: isinstance(e, FundingRate))
    assert sorted(place.paths) == [
        "/market/stream?streams=btcusdt@aggTrade/btcusdt@markPrice",
        "/public/stream?streams=btcusdt@bookTicker/btcusdt@depth@100ms",
    ]
    assert next(e for e in came if isinstance(e, TradePrint)).aggressor is Side.SELL
    assert (came[-1].rate, came[-1].mark) == (Decimal("0.0001"), 100)


def book(kind, update, bids=(), asks=(), symbol="BTCUSDT"):
    data = {"s": symbol, "b": bids, "a": asks, "u": update, "seq": 1}
    return json.dumps({"topic": f"orderbook.50.{symbol}", "type": kind, "ts": 1, "data": data, "cts": 1})


FULL = partial(book, "snapshot", bids=[["100", "1"]], asks=[["101", "1"]])
BYBIT_TRADE = json.dumps(
    {"topic": "publicTrade.BTCUSDT", "type": "snapshot", "ts": 1}
    | {"data": [{"T": 1, "s": "BTCUSDT", "S": "Sell", "v": "0.5", "p": "100", "i": "a", "BT": False}]}
)


def linear(place, **changes):
    (feed,) = bybit_feeds(LINEAR, ("BTCUSDT",), place.stream)
    return (replaced(feed, **changes),)


async def test_bybit_subscribes_pings_in_words_and_follows_its_book():
    async def script(socket):
        place.heard.append(await socket.get_message())
        await saying(
            '{"success":true,"ret_msg":"","op":"subscribe","conn_id":"c"}',
            FULL(7),
            book("delta", 8, [["100", "0"], ["99", "3"]]),
            BYBIT_TRADE,
            then=pong,
        )(socket)

    async def pong(socket):
        while True:
            place.heard.append(await socket.get_message())
            await socket.send_message('{"success":true,"ret_msg":"pong","conn_id":"c","op":"ping"}')

    place, market = Place([script]), Market()
    async with listening(place, partial(linear, ping_seconds=0.05)) as (receiver, states):
        came = await until(receiver, lambda e: isinstance(e, TradePrint), market)
        await true(lambda: len(place.heard) >= 3)
    assert place.paths == ["/v5/public/linear"]
    assert place.heard[0] == '{"op": "subscribe", "args": ["orderbook.50.BTCUSDT", "publicTrade.BTCUSDT"]}'
    assert place.heard[1:3] == ['{"op":"ping"}'] * 2
    assert came[-1].aggressor is Side.SELL and came[-1].qty == Decimal("0.5")
    assert market.book("BTCUSDT").best_bid() == (Decimal(99), Decimal(3))
    assert [s.up for s in states] == [True], "the answer to a ping is no market data, and no error"


async def test_a_gap_in_a_bybit_book_opens_the_stream_anew():
    place, market = (
        Place([saying(FULL(7), book("delta", 9)), saying(FULL(3), book("delta", 4, [["99", "2"]]))]),
        Market(),
    )
    async with listening(place, linear) as (receiver, states):
        await until(receiver, lambda e: isinstance(e, BookDelta) and e.bids, market)
    assert "does not follow" in states[1].why
    assert list(market.book("BTCUSDT").levels(Side.BUY)) == [(Decimal(100), Decimal(1)), (Decimal(99), Decimal(2))]


async def test_pongs_do_not_hide_that_a_bybit_stream_has_gone_quiet():
    place = Place([saying(FULL(7), *['{"success":true,"ret_msg":"pong","op":"ping"}', 0.02] * 30), saying(BYBIT_TRADE)])
    async with listening(place, partial(linear, stale_seconds=0.1)) as (receiver, states):
        await until(receiver, lambda e: isinstance(e, TradePrint))
    assert "no market data" in states[1].why


def test_a_bybit_book_that_starts_again_at_one_replaces_the_old_one():
    parser, market = bybit.Parser(), Market()
    for text in (FULL(500), book("delta", 501), book("delta", 1, [["90", "1"]], [["91", "1"]]), book("delta", 2)):
        for event in parser.events(text.encode(), 1):
            assert market.apply(event) is None
    assert market.book("BTCUSDT").best_bid() == (Decimal(90), Decimal(1))
    assert market.book("BTCUSDT").last_id == 503


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"success":false,"ret_msg":"error:handler not found,topic:x","op":"subscribe"}', "handler not found"),
        (book("delta", 0), "not positive"),
        (book("delta", 5, [["-1", "1"]]), "no price"),
        (book("delta", 5, [["NaN", "1"]]), "number"),
        (BYBIT_TRADE.replace("Sell", "Both"), "side Both"),
        (BYBIT_TRADE.replace('"v": "0.5"', '"v": "0"'), "quantity 0"),
        ('{"topic":"publicTrade.X"}', "truncated"),
    ],
)
def test_what_is_broken_in_a_bybit_message_is_said(text, words):
    with pytest.raises(BadMessage, match=words):
        list(bybit.Parser().events(text.encode(), 1))


def test_a_topic_that_is_already_subscribed_is_no_error():
    text = b'{"success":false,"ret_msg":"error:already subscribed,topic:x","op":"subscribe"}'
    assert list(bybit.Parser().events(text, 1)) == []


def test_bybit_spot_asks_for_at_most_ten_topics_at_once():
    (feed,) = bybit_feeds(SPOT, tuple(f"X{n}USDT" for n in range(12)))
    assert [len(json.loads(text)["args"]) for text in feed.hello] == [10, 10, 4]
