"""A venue's public market data as it happens: connect, decode, notice what is missing, and come back after a loss.

Reconnecting and backing off are here and nowhere else: whatever goes wrong with a connection (closed, silent, garbled,
a snapshot refused) ends its session, and the next one begins after a pause that doubles, with jitter. The events of a
lost session are not made up for: the book notices the gap, and the new session brings a snapshot.
"""

import json
from collections.abc import Callable, Iterator
from random import Random

import httpx
import trio
from msgspec import Struct
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection

from engine.core.messages import InstrumentKind
from engine.market import binance, bybit
from engine.market.binance import BadMessage
from engine.market.book import Book
from engine.market.events import BookDelta, BookSnapshot, MarketEvent, TopOfBook
from engine.runtime.websocket import open_websocket

BINANCE_SPOT = ("wss://stream.binance.com:9443", "https://api.binance.com")
BINANCE_USDM = ("wss://fstream.binance.com", "https://fapi.binance.com")
BYBIT = "wss://stream.bybit.com"

_SNAPSHOT_TRIES = 5


class Feed(Struct, frozen=True):
    """One connection: where it is, what is said, and how what comes is read."""

    name: str
    url: str
    decode: Callable[[bytes, int], Iterator[MarketEvent]]  # raises BadMessage
    hello: tuple[str, ...] = ()  # said once connected
    ping: str = ""  # said every `ping_seconds`, where the venue wants it in words
    ping_seconds: float = 20
    snapshot_url: str = ""  # by REST, the symbol goes at its end; "": the stream itself brings snapshots
    stale_seconds: float = 30  # without market data for so long, the connection counts as dead


class FeedState(Struct, frozen=True):
    """A connection came up (first market data) or was lost, and why."""

    name: str
    up: bool
    at_ns: int
    why: str = ""


def binance_feeds(
    kind: InstrumentKind, symbols: tuple[str, ...], stream_host: str = "", rest_host: str = ""
) -> tuple[Feed, ...]:
    """Ticker, depth and trades of Binance Spot or USD-M. Hosts with scheme and port; "" is the venue's own.

    USD-M serves the ticker and depth under /public, trades (aggregated only) and mark prices under /market.
    """
    if kind is InstrumentKind.SPOT:
        stream, rest = stream_host or BINANCE_SPOT[0], rest_host or BINANCE_SPOT[1]
        return (
            Feed(
                name="binance-spot",
                url=_combined(stream, symbols, ("bookTicker", "depth@100ms", "trade")),
                decode=binance.Parser().events,
                snapshot_url=f"{rest}/api/v3/depth?limit=1000&symbol=",
            ),
        )
    stream, rest = stream_host or BINANCE_USDM[0], rest_host or BINANCE_USDM[1]
    return (
        Feed(
            name="binance-usdm-public",
            url=_combined(f"{stream}/public", symbols, ("bookTicker", "depth@100ms")),
            decode=binance.Parser().events,
            snapshot_url=f"{rest}/fapi/v1/depth?limit=1000&symbol=",
        ),
        Feed(
            name="binance-usdm-market",
            url=_combined(f"{stream}/market", symbols, ("aggTrade", "markPrice")),
            decode=binance.Parser().events,
        ),
    )


def _combined(base: str, symbols: tuple[str, ...], kinds: tuple[str, ...]) -> str:
    names = "/".join(f"{symbol.lower()}@{kind}" for symbol in symbols for kind in kinds)
    return f"{base}/stream?streams={names}"


def bybit_feeds(kind: InstrumentKind, symbols: tuple[str, ...], stream_host: str = "") -> tuple[Feed, ...]:
    """Fifty levels and trades of Bybit V5 spot or linear."""
    category = "spot" if kind is InstrumentKind.SPOT else "linear"
    topics = [topic for symbol in symbols for topic in (f"orderbook.50.{symbol}", f"publicTrade.{symbol}")]
    groups = [topics[at : at + 10] for at in range(0, len(topics), 10)]  # spot takes ten in one request
    return (
        Feed(
            name=f"bybit-{category}",
            url=f"{stream_host or BYBIT}/v5/public/{category}",
            decode=bybit.Parser().events,
            hello=tuple(json.dumps({"op": "subscribe", "args": group}) for group in groups),
            ping='{"op":"ping"}',
        ),
    )


class Backoff(Struct, frozen=True):
    """Pause before the n-th try: `first_seconds` doubled each time up to `max_seconds`, jittered by a half either way.

    A session that lived for `healthy_seconds` begins the count anew.
    """

    first_seconds: float = 0.5
    max_seconds: float = 30
    healthy_seconds: float = 60

    def seconds(self, failures: int, rng: Random) -> float:
        return min(self.max_seconds, self.first_seconds * 2.0 ** min(failures - 1, 20)) * rng.uniform(0.5, 1.5)


async def listen(
    feeds: tuple[Feed, ...],
    events: trio.MemorySendChannel[MarketEvent],
    *,
    now_ns: Callable[[], int],
    rng: Random,
    tell: Callable[[FeedState], None] = lambda _: None,
    backoff: Backoff = Backoff(),
) -> None:
    """Send what the feeds tell into `events`, for ever (cancelled to stop). Waits when the channel is full.

    `at_ns` is `now_ns()` when the message is taken in, never decreasing. Nothing that the network or the venue does is
    raised; `tell` hears of it. trio.BrokenResourceError when nobody receives any more.
    """
    async with httpx.AsyncClient(trust_env=False, timeout=10) as http, trio.open_nursery() as nursery:
        for feed in feeds:
            nursery.start_soon(_keep_up, feed, events, http, now_ns, rng, tell, backoff)


class _Down(Exception):
    """This session is over. `wait_seconds`: the venue asked for at least this pause."""

    def __init__(self, why: str, wait_seconds: float = 0) -> None:
        super().__init__(why)
        self.wait_seconds = wait_seconds


async def _keep_up(
    feed: Feed,
    events: trio.MemorySendChannel[MarketEvent],
    http: httpx.AsyncClient,
    now_ns: Callable[[], int],
    rng: Random,
    tell: Callable[[FeedState], None],
    backoff: Backoff,
) -> None:
    failures = 0
    while True:
        began = trio.current_time()
        session = _Session(feed, events, http, now_ns, tell)
        why, wait_seconds = await _until_down(session)
        tell(FeedState(feed.name, False, now_ns(), why))
        failures = 1 if trio.current_time() - began > backoff.healthy_seconds else failures + 1
        await trio.sleep(max(wait_seconds, backoff.seconds(failures, rng)))


_LOST = (ConnectionClosed, HandshakeError, BadMessage, httpx.HTTPError, OSError, trio.TooSlowError)


async def _until_down(session: "_Session") -> tuple[str, float]:
    """Why the session ended, and the pause that the venue asked for."""
    why, wait_seconds = "", 0.0
    try:
        await session.run()
    except* _Down as group:
        downs = _leaves(group)
        why, wait_seconds = str(downs[0]), max(d.wait_seconds for d in downs if isinstance(d, _Down))
    except* _LOST as group:
        first = _leaves(group)[0]
        why = why or f"{type(first).__name__}: {first}"[:300]
    return why, wait_seconds


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    return [leaf for e in group.exceptions for leaf in (_leaves(e) if isinstance(e, BaseExceptionGroup) else [e])]


class _Session:
    """One connection's life. Its books only watch for gaps; whoever receives the events folds his own."""

    def __init__(
        self,
        feed: Feed,
        events: trio.MemorySendChannel[MarketEvent],
        http: httpx.AsyncClient,
        now_ns: Callable[[], int],
        tell: Callable[[FeedState], None],
    ) -> None:
        self._feed = feed
        self._events = events
        self._http = http
        self._now_ns = now_ns
        self._tell = tell
        self._books: dict[str, Book] = {}
        self._asked: set[str] = set()  # symbols for which a snapshot is on its way
        self._at_ns = 0
        self._heard_at = 0.0  # trio's time of the last market data
        self._up = False

    async def run(self) -> None:
        """Until something is wrong; raises it, alone or in a group."""
        async with open_websocket(self._feed.url) as socket, trio.open_nursery() as nursery:
            self._heard_at = trio.current_time()
            for text in self._feed.hello:
                await socket.send_message(text)
            if self._feed.ping:
                nursery.start_soon(self._ping, socket)
            nursery.start_soon(self._watch)
            while True:
                message = await socket.get_message()
                raw = message.encode() if isinstance(message, str) else message
                for event in self._feed.decode(raw, self._stamp()):
                    await self._take(event, nursery)

    def _stamp(self) -> int:
        self._at_ns = max(self._at_ns, self._now_ns())
        return self._at_ns

    async def _take(self, event: MarketEvent, nursery: trio.Nursery) -> None:
        self._heard_at = trio.current_time()
        if not self._up:
            self._up = True
            self._tell(FeedState(self._feed.name, True, self._at_ns))
        await self._events.send(event)
        if isinstance(event, BookDelta | BookSnapshot | TopOfBook):
            self._look_for_gap(event, nursery)

    def _look_for_gap(self, event: BookDelta | BookSnapshot | TopOfBook, nursery: trio.Nursery) -> None:
        book = self._books.get(event.symbol)
        if book is None:
            book = self._books[event.symbol] = Book(event.symbol)
        gap = book.apply(event)
        if not self._feed.snapshot_url:
            # The stream brought a snapshot, or brings one when it is opened anew.
            if gap is not None or (book.broken and isinstance(event, BookDelta)):
                raise _Down(f"{event.symbol}: {book.reason}")
        elif not book.broken:
            self._asked.discard(event.symbol)
        elif event.symbol not in self._asked and isinstance(event, BookDelta):
            self._asked.add(event.symbol)
            nursery.start_soon(self._resync, event.symbol, nursery)

    async def _resync(self, symbol: str, nursery: trio.Nursery) -> None:
        """Snapshots until one reaches the deltas that wait for it (the venue may serve one that is a little old)."""
        for tries in range(_SNAPSHOT_TRIES):
            await trio.sleep(tries)
            text = await self._fetch(symbol)
            await self._take(binance.rest_snapshot(text, symbol, self._stamp()), nursery)
            if not self._books[symbol].broken:
                return
        raise _Down(f"{symbol}: {_SNAPSHOT_TRIES} snapshots did not reach the stream")

    async def _fetch(self, symbol: str) -> bytes:
        response = await self._http.get(self._feed.snapshot_url + symbol)
        if response.status_code != 200:
            asked = response.headers.get("retry-after", "")
            seconds = min(3600, int(asked)) if asked.isdecimal() and len(asked) < 9 else 0
            raise _Down(f"{symbol}: the snapshot was refused with HTTP {response.status_code}", seconds)
        return response.content

    async def _ping(self, socket: WebSocketConnection) -> None:
        while True:
            await trio.sleep(self._feed.ping_seconds)
            await socket.send_message(self._feed.ping)

    async def _watch(self) -> None:
        while (left := self._heard_at + self._feed.stale_seconds - trio.current_time()) > 0:  # noqa: ASYNC110
            await trio.sleep(left)
        raise _Down(f"no market data for {self._feed.stale_seconds:g} seconds")
