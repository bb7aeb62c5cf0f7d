"""A whole engine on the virtual clock: real actors, journal and paper venue, a source and a sink of ours.

The venue keeps the truth and outlives every engine; so does the disk. `books` compares the two.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Any

import msgspec
import trio
from msgspec.structs import replace

from actors.wiring import AccountParts, Engine, EssParts, Parts, run_engine
from engine.core.bounds import Bounds
from engine.core.ids import is_ours
from engine.core.messages import (
    Answer,
    BalanceReport,
    Cancel,
    Confirmed,
    Event,
    Failed,
    Filled,
    FillReport,
    Instrument,
    InstrumentKind,
    Leg,
    Limits,
    Malformed,
    NotFound,
    Order,
    OrderReport,
    OrderType,
    OutboxRow,
    PositionReport,
    Quote,
    Side,
    Submitted,
    TransferReport,
    VenueReport,
)
from engine.core.tally import Tally
from engine.core.times import SECOND
from engine.edges.base import Arrival, Receipt, SinkDown
from engine.edges.dialects import DialectTerms
from engine.market.events import BookSnapshot, TradePrint
from engine.market.orders import OrderRequest
from engine.runtime.clock import Clock, virtual_clock
from engine.runtime.journal.memory import MemoryDisk, MemoryJournal
from engine.venues.base import StreamDown, Swift
from engine.venues.paper import Faults, PaperTerms, PaperVenue
from engine.venues.subscription import Subscription
from engine.venues.throttle import Limit, Throttle

D = Decimal
ACCOUNT = "main"
START_NS = 1_700_000_000 * SECOND
TICK_SECONDS = 0.5  # between two tellings of the book, well inside the age that the gate allows
HEALTHY = Faults()


def instrument(symbol: str, tick: str = "0.1", lot: str = "0.001") -> Instrument:
    return Instrument(
        symbol=symbol,
        venue="paper",
        kind=InstrumentKind.LINEAR,
        base=symbol.removesuffix("USDT"),
        quote="USDT",
        tick=D(tick),
        lot=D(lot),
        qty_min=D(lot),
        qty_max=D(100),
        notional_min=D(5),
        leverage_max=D(10),
    )


BTC, ETH = instrument("BTCUSDT"), instrument("ETHUSDT", "0.01", "0.01")
PRICES = {"BTCUSDT": D(50_000), "ETHUSDT": D(2_500)}
TERMS = PaperTerms(balances={"USDT": D(100_000)}, leverage=D(10), latency_ms=(10.0, 10.0), stream_latency_ms=(5.0, 5.0))
LIMITS = Limits(leverage_max=D(10), duplicate_window_seconds=D(0), losses_in_row_max=100)


class Hand:
    """A source that sends what a test gives it, one body at a time or many at once."""

    name = "hand"

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.ready = trio.Event()

    async def run(self, arrivals: trio.MemorySendChannel[Arrival]) -> None:
        self._arrivals = arrivals
        self.ready.set()
        try:
            await trio.sleep_forever()
        finally:
            self.ready = trio.Event()

    async def post(self, body: Mapping[str, object] | bytes, answer: Callable[[Receipt], None], **about: str) -> None:
        """Waits for room, not for the answer. `about`: what a transport knows of the body, such as `fallback_id`."""
        await self.ready.wait()
        raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
        clock = self._clock
        arrival = Arrival(raw, self.name, None, clock.now_ns(), clock.ticks_ns(), answer)
        await self._arrivals.send(replace(arrival, **about))

    async def send(self, body: Mapping[str, object] | bytes, **about: str) -> Receipt:
        answered, receipts = trio.Event(), list[Receipt]()

        def answer(receipt: Receipt) -> None:
            receipts.append(receipt)
            answered.set()

        await self.post(body, answer, **about)
        await answered.wait()
        return receipts[0]


class Shelf:
    """A sink that keeps what it is given, unless it is `down`."""

    name = "shelf"

    def __init__(self) -> None:
        self.rows: list[OutboxRow] = []
        self.down = False
        self.refused = 0

    async def send(self, rows: tuple[OutboxRow, ...]) -> None:
        await trio.lowlevel.checkpoint()
        if self.down:
            self.refused += 1
            raise SinkDown("the shelf has fallen off the wall")
        self.rows.extend(rows)

    def events(self, name: str) -> list[Event]:
        """As a consumer sees them that drops repeats."""
        return [row.event for row in {row.event_id: row for row in self.rows}.values() if row.event.name == name]


class Wayward(PaperVenue):
    """The paper venue with an adapter in front of it that can be told to fail in ways that no venue should."""

    closed_until = 0.0  # trio time before which the stream cannot be joined
    joins: list[float]  # when it was tried
    raises: dict[str, list[BaseException]]  # by method: what it raises the next times
    says: Answer | None = None  # to every order, none of which arrives
    when_sent: Callable[[Order], None] | None = None
    unreadable: tuple[str, ...] = ()  # questions that come back as nothing that can be read
    unread = 0  # how often the balances came back so
    moved: tuple[TransferReport, ...] = ()  # by the owner, as the venue has written it down

    async def transfers(self, since_ns: int) -> tuple[TransferReport, ...] | Failed:
        if "transfers" in self.unreadable:
            return Failed("a row cannot be read")
        return tuple(t for t in self.moved if t.venue_ns >= since_ns)

    def move(self, asset: str, amount: str) -> None:
        """The owner puts it in, or (negative) takes it out."""
        at_ns = self._clock.now_ns()
        self.matching.account.transfer(asset, D(amount))
        report = TransferReport(f"t{len(self.moved)}", asset, D(amount), "TRANSFER", at_ns)
        self.moved = (*self.moved, report)

    async def balances(self) -> tuple[BalanceReport, ...] | Failed:
        if "balances" not in self.unreadable:
            return await super().balances()
        self.unread += 1
        return Failed("a row cannot be read")

    async def positions(self) -> tuple[PositionReport, ...] | Failed:
        return Failed("a row cannot be read") if "positions" in self.unreadable else await super().positions()

    async def open_orders(self) -> tuple[OrderReport, ...] | Failed:
        return Failed("a row cannot be read") if "open_orders" in self.unreadable else await super().open_orders()

    def say(self, report: VenueReport) -> None:
        """Something on the private stream that the venue's books know nothing of."""
        for reader in self._readers:
            reader.add([report], self._clock.now_ns())

    async def submit(self, order: Order, on_wire: Callable[[], None]) -> Answer:
        if self.raises.get("submit"):
            raise self.raises["submit"].pop(0)
        if self.when_sent is not None:
            self.when_sent(order)
        if self.says is not None:
            on_wire()
            await trio.sleep(0.01)
            return self.says
        return await super().submit(order, on_wire)

    async def cancel(self, cancel: Cancel) -> Answer:
        if self.raises.get("cancel"):
            raise self.raises["cancel"].pop(0)
        return await super().cancel(cancel)

    async def order(self, symbol: str, cid: str) -> OrderReport | NotFound | Failed:
        if self.raises.get("order"):
            raise self.raises["order"].pop(0)
        return await super().order(symbol, cid)

    def stream(self) -> Subscription:
        return Subscription(self._admit, self.terms.stream_buffer)

    async def _admit(self) -> Any:
        self.joins.append(trio.current_time())
        if trio.current_time() < self.closed_until:
            await trio.lowlevel.checkpoint()
            raise StreamDown("closed for the moment")
        return await self._join()


class House:
    """Where an engine lives. `start` and `kill` as often as the story needs; the venue and the disk stay."""

    def __init__(self, nursery: trio.Nursery, terms: PaperTerms, limits: Limits | None, store: Path | None) -> None:
        self.nursery = nursery
        self.clock = virtual_clock(START_NS)
        self.disk = MemoryDisk(latency=lambda: 0.001)
        self.venue = Wayward((BTC, ETH), terms, self.clock, Random(1), store)
        self.venue.joins, self.venue.raises = [], {}
        self.limits = limits
        self.swift: Swift | None = None
        self.relist_seconds = 3600.0  # as Parts has it
        self.prices = dict(PRICES)
        self.shelf, self.hand = Shelf(), Hand(self.clock)
        self.dead: list[Malformed] = []
        self.ess: EssParts | None = None
        self.bounds: Bounds | None = None
        self.quoting = True
        self.quote: Callable[[str], Quote | None] = self.venue.quote
        self.engine: Engine
        self._stop = trio.Event()
        self._scope = trio.CancelScope()
        self._over = trio.Event()

    # ------------------------------------------------------------------------------------------------------ the market

    async def tick(self) -> None:
        while True:
            if self.quoting:
                for symbol in self.prices:
                    self.show(symbol)
            await trio.sleep(TICK_SECONDS)

    def show(self, symbol: str = "BTCUSDT", qty: str = "5") -> None:
        """The book as it stands now: one tick wide, so deep on both sides."""
        at_ns, price, step = self.clock.now_ns(), self.prices[symbol], (BTC if symbol == "BTCUSDT" else ETH).tick
        self.venue.publish(BookSnapshot(symbol, at_ns, at_ns, ((price, D(qty)),), ((price + step, D(qty)),)))

    def move(self, price: str, symbol: str = "BTCUSDT") -> None:
        """The market trades at a new price."""
        self.prices[symbol] = D(price)
        self.show(symbol)
        self.venue.publish(TradePrint(symbol, self.clock.now_ns(), D(price), D(1), Side.SELL))

    # ------------------------------------------------------------------------------------------------------ the engine

    def parts(self) -> Parts:
        throttle = Throttle((Limit(100, SECOND),), self.clock)
        return Parts(
            env="test",
            clock=self.clock,
            journal=MemoryJournal(self.disk, self.clock),
            rng=Random(2),
            accounts=(AccountParts(ACCOUNT, "paper", self.venue, throttle, self.limits, self.swift, self.bounds),),
            quote=lambda symbol: self.quote(symbol),
            sources=(self.hand,),
            sinks=(self.shelf,),
            dialects=DialectTerms(account=ACCOUNT),
            dead_letter=self.dead.append,
            ess=self.ess,
            tally=Tally(),
            relist_seconds=self.relist_seconds,
        )

    async def start(self, ready: bool = True) -> Engine:
        """A new engine on the disk and the venue that are there; by default, once entries are possible."""
        self._stop, self._scope, self._over = trio.Event(), trio.CancelScope(), trio.Event()
        self.engine = await self.nursery.start(self._live)
        if ready:
            await self.until(lambda: not self.engine.closed(ACCOUNT))
        return self.engine

    async def _live(self, task_status: trio.TaskStatus[Engine]) -> None:
        with self._scope:
            await run_engine(self.parts(), self._stop, task_status=task_status)
        self._over.set()

    async def stop(self) -> None:
        """As TERM does it; returns when the engine is drained."""
        self._stop.set()
        await self._over.wait()

    async def kill(self, rng: Random | None = None) -> None:
        """As kill -9 and a power cut do it: what was not synced is gone, nothing is said."""
        self.disk.crash(rng)
        self._scope.cancel()
        await self._over.wait()

    async def until(self, holds: Callable[[], object], seconds: float = 60.0) -> None:
        """Virtual time passes until something holds; fails when it does not within so long."""
        with trio.fail_after(seconds):
            while not holds():  # noqa: ASYNC110 (anything at all may be waited for)
                await trio.sleep(0.01)

    async def at_rest(self) -> None:
        """Nothing on its way any more, neither here nor there, and everything durable and published."""
        journal = self.engine.parts.journal
        await trio.sleep(0.1)
        while True:
            await self.until(self.engine.quiet)
            await trio.sleep(0.1)
            await journal.durable(journal.append(()))
            if self.engine.quiet():  # else a fill has come meanwhile, and what it moves is on its way
                return

    # ------------------------------------------------------------------------------------------------------- the books

    def facts(self, kind: type[Any]) -> list[Any]:
        """Durable facts of one kind, oldest first."""
        return [record.fact for record in self.disk.reader().records(0, 1_000_000) if type(record.fact) is kind]

    def confirmed(self, signal_id: str) -> list[Confirmed]:
        return [fact for fact in self.facts(Confirmed) if fact.signal_id == signal_id]

    def at_venue(self, leg: Leg | None = None, status: str | None = None) -> list[OrderReport]:
        """Our orders as the venue has them, of one leg by what the journal says they are for."""
        legs = {fact.order.cid: fact.order.leg for fact in self.facts(Submitted)}
        return [
            report
            for report in self.venue.truth().orders
            if is_ours(report.cid) and (leg is None or legs.get(report.cid) is leg) and status in (None, report.status)
        ]

    def held(self, symbol: str = "BTCUSDT") -> Decimal:
        """The venue's position."""
        return sum((p.qty for p in self.venue.truth().positions if p.symbol == symbol), D(0))

    def books(self) -> list[str]:
        """Everything in which the journal and the venue differ, and every promise that is broken."""
        truth, reader = self.venue.truth(), self.disk.reader()
        found = []
        executed = [e.exec_id for e in truth.executions if isinstance(e, FillReport)]
        booked = [fact.exec_id for fact in self.facts(Filled)]
        if sorted(booked) != sorted(executed):
            found.append(f"executions: {sorted(booked)} booked, {sorted(executed)} at the venue")
        ours = {p.symbol: p.qty for p in reader.positions() if p.qty}
        theirs = {p.symbol: p.qty for p in truth.positions if p.qty}
        if ours != theirs:
            found.append(f"positions: {ours} ours, {theirs} the venue's")
        live = {o.cid for o in reader.orders(None, None, True, 10_000)}
        there = {o.cid for o in truth.orders if o.status == "open" and is_ours(o.cid)}
        if live != there:
            found.append(f"live orders: {live} ours, {there} the venue's")
        intents = [fact.order for fact in self.facts(Submitted)]
        entries = [o.signal_id for o in intents if o.leg is Leg.ENTRY]
        if len(entries) != len(set(entries)):
            found.append(f"a signal with two entries: {entries}")
        known = {o.cid for o in intents}
        if orphans := [o.cid for o in truth.orders if is_ours(o.cid) and o.cid not in known]:
            found.append(f"orders without a durable intent: {orphans}")
        cids = [o.cid for o in truth.orders if is_ours(o.cid)]
        if len(cids) != len(set(cids)):
            found.append(f"an order stands twice at the venue: {cids}")
        return found

    def covered(self, symbol: str = "BTCUSDT") -> bool:
        """Whether live stops at the venue close at least what is held there."""
        truth = self.venue.truth()
        stops = [
            o
            for o in truth.orders
            if o.symbol == symbol and o.status == "open" and o.reduce_only and o.order_type is OrderType.STOP_MARKET
        ]
        return sum((o.qty - o.filled_qty for o in stops), D(0)) >= abs(self.held(symbol))


@asynccontextmanager
async def house(
    terms: PaperTerms = TERMS, limits: Limits | None = LIMITS, start: bool = True, store: Path | None = None
) -> AsyncIterator[House]:
    """A house with an engine that is ready for entries, on the autojump clock."""
    async with trio.open_nursery() as nursery:
        home = House(nursery, terms, limits, store)
        nursery.start_soon(home.tick)
        if start:
            await home.start()
        yield home
        nursery.cancel_scope.cancel()


def buy(signal_id: str = "s1", **changes: object) -> dict[str, object]:
    """Buy 0.1 BTC at the market with a stop 1 % below and a target 2 % above."""
    body: dict[str, object] = {
        "signal_id": signal_id,
        "symbol": "BTCUSDT",
        "action": "open",
        "side": "buy",
        "qty": "0.1",
        "stop_loss": "49500",
        "take_profit": "51000",
    }
    return {name: value for name, value in {**body, **changes}.items() if value is not None}


def rest(signal_id: str = "s1", price: str = "49800", **changes: object) -> dict[str, object]:
    """The same, but at a price where nobody trades."""
    return buy(signal_id, order_type="limit", limit_price=price, **changes)


def close(signal_id: str) -> dict[str, object]:
    return {"signal_id": signal_id, "symbol": "BTCUSDT", "action": "close"}


async def close_for(home: House, seconds: int) -> None:
    """The venue tells us off once what is being sent has left."""
    await trio.sleep(0.001)
    throttle = home.engine.parts.accounts[0].throttle
    throttle.close_until(home.clock.now_ns() + seconds * SECOND, "HTTP 429")


def somebody(home: House, cid: str, **changes: object) -> None:
    """An order in our account that another program has sent."""
    request = OrderRequest.of(
        replace(
            Order(cid, ACCOUNT, "BTCUSDT", "", Leg.ENTRY, 0, Side.BUY, OrderType.MARKET, D("0.02")),
            **changes,
        )
    )
    home.venue.matching.submit(request, home.clock.now_ns())
    home.venue._settle()
