"""Whoever decides: a source that offers signals until they are answered, and says everything twice, late, or otherwise.

`Feed` lives as long as the world and remembers what was answered; `FeedSource` is what one incarnation of the engine
reads from. A real source behaves the same: it gives again whatever it was not told is safe.
"""

from collections.abc import Callable
from decimal import Decimal
from random import Random
from typing import Any

import msgspec
import trio
from msgspec import Struct

from engine.core.messages import Quote
from engine.edges.base import Arrival, Receipt
from tests.sim.faults import Faults, Load
from tests.sim.truth import Receipted, Sent, Truth, digest
from tests.sim.venue import Life

ACCOUNT = "main"
AGAIN_MAX = 20  # offers of one signal, on average
TICKS = {"BTCUSDT": Decimal("0.1"), "ETHUSDT": Decimal("0.01")}
LOTS = {"BTCUSDT": Decimal("0.0001"), "ETHUSDT": Decimal("0.001")}
GARBAGE: tuple[bytes, ...] = (
    b"",
    b"{",
    b"\xff\xfe\x00",
    b'{"signal_id": 1e400}',
    b'{"signal_id": "g", "signal_id": "g"}',
    b'{"type": "signal.execute", "symbol": "BTCUSDT", "side": "sideways"}',
    b"[" * 5000,
    b'{"signal_id": "g1", "account": "main", "symbol": "BTCUSDT", "surprise": true}',
)


class Offer(Struct):
    """One body, offered until it is answered."""

    signal_id: str
    raw: bytes
    digest: str
    good: bool = True
    answered: bool = False


class Feed:
    """All offers there are, in order."""

    def __init__(
        self, load: Load, seed: str, truth: Truth, wall_ns: Callable[[], int], quote: Callable[[str], Quote | None]
    ) -> None:
        self.load, self.faults, self.truth, self.wall_ns = load, Faults(), truth, wall_ns
        self.offers: list[Offer] = []
        self._quote = quote
        self._draws = Random(f"{seed}/feed")
        self._quirks = Random(f"{seed}/quirks")
        self._more = trio.Event()
        self._busy: list[Offer] = []
        self._count = 0
        self.dead = False

    async def run(self) -> None:
        """Offer the load's signals, then nothing more."""
        while self._count < self.load.signals:
            await trio.sleep(self._draws.expovariate(1 / self.load.gap_mean))
            for _ in range(min(self.load.burst, self.load.signals - self._count)):
                self.offer_signal()

    def offer_signal(self) -> None:
        self._count += 1
        signal_id = f"s{self._count}"
        body = draw_body(signal_id, self._draws, self.load, self._quote)
        if self._count in self.load.skipped:
            return
        self.offer(signal_id, body)
        quirks = self._quirks
        if quirks.random() < self.faults.source_contradicts:
            self.offer(signal_id, body | {"note": "no, otherwise"})
        if quirks.random() < self.faults.source_garbage:
            self._put(Offer(f"garbage{self._count}", raw := quirks.choice(GARBAGE), digest(raw), good=False))

    def offer(self, signal_id: str, body: dict[str, Any]) -> None:
        raw = msgspec.json.encode(body)
        self._put(Offer(signal_id, raw, digest(raw)))

    def again(self, offer: Offer) -> None:
        """Offered once more, as if it had not been answered."""
        self._put(Offer(offer.signal_id, offer.raw, offer.digest, offer.good))

    def answer(self, offer: Offer, receipt: Receipt) -> None:
        self.truth.tell(
            Receipted(
                self.wall_ns(),
                source="feed",
                signal_id=offer.signal_id,
                digest=offer.digest,
                status=receipt.status,
            )
        )
        if receipt.status == "conflict":
            self.truth.reach("same id with another body")
        if receipt.status == "repeated":
            self.truth.reach("same signal again")
        if receipt.status == "busy":
            self._busy.append(offer)
            self._wake()
            return
        offer.answered = True
        # Each life that begins at the start again gets answers for all of it: without a bound that would grow for ever.
        if self._quirks.random() < self.faults.source_again and len(self.offers) < AGAIN_MAX * self.load.signals:
            self.again(offer)

    def source(self, life: Life) -> "FeedSource":
        rewound = self._quirks.random() < self.faults.source_rewind
        return FeedSource(self, life, rewound)

    async def wait(self) -> None:
        """Until there is more to offer; what the engine was too busy for comes again a second later."""
        await self._more.wait()
        if self._busy:
            await trio.sleep(1)
            busy, self._busy = self._busy, []
            for offer in busy:
                self.again(offer)

    def _put(self, offer: Offer) -> None:
        self.offers.append(offer)
        self._wake()

    def _wake(self) -> None:
        more, self._more = self._more, trio.Event()
        more.set()


class FeedSource:
    """One incarnation's reading of the feed: from the beginning, past what is answered (unless it was rewound)."""

    name = "feed"

    def __init__(self, feed: Feed, life: Life, rewound: bool) -> None:
        self._feed, self._life, self._rewound = feed, life, rewound

    async def run(self, arrivals: trio.MemorySendChannel[Arrival]) -> None:
        feed, place, rewound_until = self._feed, 0, len(self._feed.offers) if self._rewound else 0
        while True:
            while place < len(feed.offers):
                if feed.dead:
                    await trio.sleep_forever()
                offer = feed.offers[place]
                if self._life.alive and (not offer.answered or place < rewound_until):
                    await self._send(offer, arrivals)
                place += 1
            await feed.wait()

    async def _send(self, offer: Offer, arrivals: trio.MemorySendChannel[Arrival]) -> None:
        now = self._feed.wall_ns()
        self._feed.truth.tell(Sent(now, source="feed", signal_id=offer.signal_id, digest=offer.digest, good=offer.good))
        await arrivals.send(
            Arrival(
                raw=offer.raw,
                source="feed",
                dialect=None,
                received_ns=now,
                received_tick=now,
                answer=lambda receipt: self._answer(offer, receipt),
            )
        )

    def _answer(self, offer: Offer, receipt: Receipt) -> None:
        if not self._life.alive:
            return
        self._life.boundary("source.answer")
        if self._life.alive:
            self._feed.answer(offer, receipt)
            self._life.boundary("source.answered")


def draw_body(signal_id: str, draws: Random, load: Load, quote: Callable[[str], Quote | None]) -> dict[str, Any]:
    """A signal that our own rules would mostly take. Money is made of whole steps, so no float touches it."""
    symbol = draws.choice(("BTCUSDT", "ETHUSDT"))
    seen = quote(symbol)
    assert seen is not None
    body = {"signal_id": signal_id, "account": ACCOUNT, "symbol": symbol}
    kind = draws.random()
    if kind < load.close_share:
        return body | {"action": "close"}
    if kind < load.close_share + load.manage_share:
        return body | _management(draws, seen)
    return body | _entry(draws, load, seen)


def _entry(draws: Random, load: Load, seen: Quote) -> dict[str, Any]:
    buy = draws.random() >= load.sell_share
    sign = 1 if buy else -1
    tick, lot = TICKS[seen.symbol], LOTS[seen.symbol]
    stop_ticks = int(seen.mid / tick) * draws.randint(20, 150) // 10_000
    price = (seen.ask if buy else seen.bid) // tick * tick
    body = {
        "action": "open",
        "side": "buy" if buy else "sell",
        "qty": str(draws.randint(20, 500) * lot),
        "stop_loss": str(price - sign * stop_ticks * tick),
        "take_profit": str(price + sign * stop_ticks * draws.randint(2, 4) * tick),
        "ttl_seconds": str(draws.choice((1, 3, 10))),
    }
    if draws.random() < load.limit_share:
        offset = draws.randint(-3, 30) * int(seen.mid / tick) // 10_000
        body |= {
            "order_type": "limit",
            "limit_price": str(price - sign * offset * tick),
            "cancel_after_seconds": str(draws.choice((3, 20, 45))),
            "tif": draws.choice(("gtc", "gtc", "ioc", "post_only")),
        }
    return body


def _management(draws: Random, seen: Quote) -> dict[str, Any]:
    """Moves and cuts; what makes no sense at the moment is refused, which is also an answer."""
    tick, lot = TICKS[seen.symbol], LOTS[seen.symbol]
    away = seen.mid * draws.choice((-1, 1)) * draws.randint(20, 150) / 10_000
    level = str((seen.mid + away) // tick * tick)
    match draws.randint(1, 5):
        case 1:
            return {"action": "move_stop", "stop_loss": level}
        case 2:
            return {"action": "move_target", "take_profit": level}
        case 3:
            return {"action": "reduce", "position_share": draws.choice(("0.3", "0.5", "1"))}
        case 4:
            return {"action": "cancel"}
        case _:
            return {"action": "target", "target": str(draws.randint(-300, 300) * lot)}


def probe_body(signal_id: str, quote: Quote) -> dict[str, Any]:
    """A small plain purchase: in a calm it must be executed."""
    tick = TICKS[quote.symbol]
    distance = quote.mid * Decimal("0.01") // tick * tick
    return {
        "signal_id": signal_id,
        "account": ACCOUNT,
        "symbol": quote.symbol,
        "action": "open",
        "side": "buy",
        "qty": "0.0020",
        "stop_loss": str(quote.bid - distance),
        "take_profit": str(quote.bid + 3 * distance),
    }
