"""A venue in memory, with everything that a real one does to its clients.

Written from the protocol alone and sharing no code with the paper venue or the matching engine of the product, so that
the checker's truth cannot have their bugs. One account, few symbols, a price path from the seed. `SimVenue` lives as
long as the world; `Wire` is one incarnation of the engine's connection to it and dies with that incarnation, while
requests that are under way go on.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from random import Random
from typing import Protocol

import trio
from msgspec import Struct
from msgspec.structs import replace

from engine.core.messages import (
    ZERO,
    Acked,
    Answer,
    BalanceReport,
    Cancel,
    Failed,
    FillReport,
    FundingReport,
    Instrument,
    InstrumentKind,
    NotFound,
    Order,
    OrderReport,
    OrderType,
    PositionReport,
    Quote,
    Rejection,
    Side,
    Silence,
    TimeInForce,
    VenueReport,
)
from engine.core.times import SECOND
from engine.venues.base import StreamDown, Traits
from engine.venues.throttle import Throttle
from tests.sim.faults import Faults, Nature
from tests.sim.truth import (
    Arrived,
    BanHeard,
    Banned,
    CancelWired,
    Declined,
    Ended,
    Executed,
    Funded,
    QuotesStalled,
    Replied,
    Taken,
    Triggered,
    Truth,
    Unreached,
    VenueRestarted,
    Wired,
)

STEP_SECONDS = 0.25  # of the price path
FEE_PLACES = Decimal("0.00000001")
THIRD_ASSET = "BNB"
START_QUOTE = Decimal(100_000)
START_BASE = Decimal(0)
VENUE = "sim"
DIRECTED = {  # (market, stop) ->
    (True, True): OrderType.STOP_MARKET,
    (True, False): OrderType.TAKE_PROFIT_MARKET,
    (False, True): OrderType.STOP_LIMIT,
    (False, False): OrderType.TAKE_PROFIT_LIMIT,
}
CLIENT = "canceled by the client"
TRIGGERED = "triggered"  # the reason in a report of an order that has just been
BANNED = Rejection(code="418", kind="rate_limited", text="banned for too many requests")


class Life(Protocol):
    """One incarnation of the engine: `boundary` may end it on the spot."""

    number: int
    alive: bool

    def boundary(self, where: str) -> None: ...


class Resting(Struct):
    """One order as the venue keeps it."""

    venue_order_id: str
    cid: str
    symbol: str
    side: Side
    order_type: OrderType
    tif: TimeInForce
    qty: Decimal
    price: Decimal | None
    trigger_price: Decimal | None
    reduce_only: bool
    taken_ns: int
    visible_ns: int
    foreign: bool = False
    triggered: bool = False
    filled: Decimal = ZERO
    status: str = "open"
    reason: str = ""
    working: bool = False  # a task is executing it piece by piece
    ended_ns: int = 0
    forgotten: bool = False


class Market(Struct):
    """One symbol: its rules, its price in ticks, our position in it."""

    instrument: Instrument
    ticks: int
    executions: int = 0
    position: Decimal = ZERO
    cost: Decimal = ZERO  # signed
    realised: Decimal = ZERO
    quoted: Quote | None = None

    @property
    def bid(self) -> Decimal:
        return self.ticks * self.instrument.tick

    @property
    def ask(self) -> Decimal:
        return (self.ticks + 1) * self.instrument.tick


class Manners(Struct, frozen=True):
    """What a venue's own protocol makes of orders, beside how it writes them down."""

    number_prefix: str = "v"  # of order numbers
    names_by_order: bool = False  # an execution is named by its number and its order's
    liquidates_as: tuple[str, ...] = ("", "autoclose-")  # client ids of orders that the venue itself sends
    post_only_is_taken: bool = False  # and canceled at once where it would take
    looks_twice: bool = False  # at a request's age: at the gate, and again before the book
    forgets_filled: bool = True  # after a restart, with all else that has ended
    tells_triggers: bool = False
    sales_lock: bool = False  # what an open sale would sell can be sold by no other
    directs_by_market: bool = False  # on spot: what a trigger waits for is told by the price at which it is booked


class Kept(Struct):
    """One execution or funding in the venue's history, and since when queries show it."""

    report: FillReport | FundingReport
    visible_ns: int


class Connection(Struct):
    """One private stream of one client. `hear` raises what a channel raises; `about`: how a fill left its order."""

    hear: Callable[[VenueReport, OrderReport | None], None]
    shut: Callable[[], None]
    stalled: bool = False
    why: str = ""  # why it ended


class Reply(Struct):
    event: trio.Event
    answer: Answer | None = None


def instruments(nature: Nature) -> tuple[Instrument, ...]:
    """Two symbols, one with small and one with large steps."""
    kind = InstrumentKind.SPOT if nature.spot else InstrumentKind.LINEAR
    return (
        Instrument(
            symbol="BTCUSDT",
            venue=VENUE,
            kind=kind,
            base="BTC",
            quote="USDT",
            tick=Decimal("0.1"),
            lot=Decimal("0.0001"),
            qty_min=Decimal("0.0001"),
            qty_max=Decimal(100),
            notional_min=Decimal(5),
            maker_fee=Decimal("0.0002"),
            taker_fee=Decimal("0.00055"),
            leverage_max=Decimal(1 if nature.spot else 10),
        ),
        Instrument(
            symbol="ETHUSDT",
            venue=VENUE,
            kind=kind,
            base="ETH",
            quote="USDT",
            tick=Decimal("0.01"),
            lot=Decimal("0.001"),
            qty_min=Decimal("0.001"),
            qty_max=Decimal(1000),
            notional_min=Decimal(5),
            maker_fee=Decimal("0.001"),
            taker_fee=Decimal("0.001"),
            leverage_max=Decimal(1 if nature.spot else 10),
        ),
    )


START_TICKS = {"BTCUSDT": 600_000, "ETHUSDT": 300_000}


class SimVenue:
    """The venue. `run` must be running; `faults` may be exchanged at any moment (calm is `Faults()`)."""

    def __init__(
        self,
        nature: Nature,
        faults: Faults,
        seed: str,
        now_ns: Callable[[], int],
        truth: Truth,
        manners: Manners = Manners(),
    ) -> None:
        self.nature, self.faults, self.truth, self.manners = nature, faults, truth, manners
        self.traits = Traits(
            name=VENUE,
            id_unique_for_ever=nature.id_unique_for_ever,
            horizon_ns=round(nature.horizon * SECOND),
        )
        self.markets = {i.symbol: Market(instrument=i, ticks=START_TICKS[i.symbol]) for i in instruments(nature)}
        self.orders: dict[str, Resting] = {}  # by venue id, for ever
        self.history: list[Kept] = []
        self.balances = {"USDT": START_QUOTE}
        self.wall_ns = now_ns
        self._chance, self._path = Random(f"{seed}/venue"), Random(f"{seed}/path")
        self._next_id = 1000
        self._connections: list[Connection] = []
        self.cuts: list[Callable[[], None]] = []  # what else breaks when streams do
        self.keys: list[Callable[[], None]] = []  # what happens when the keys of streams are lost
        self._quotes_stall_until = 0
        self.banned_until_ns = 0
        self._away_until_ns = 0
        self.frozen = False  # the price stands still
        self.visited = True  # by people; what they do before an engine ever was there would be none of its business
        self.dead = ""  # a channel that will never work again
        self._nursery: trio.Nursery | None = None

    # ------------------------------------------------------------------------------------------------------ its clock

    @property
    def now_ns(self) -> int:
        """The venue's own wall clock."""
        return self.wall_ns() + round(self.nature.clock_offset * SECOND)

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Move the price and everything that hangs on it, for ever."""
        async with trio.open_nursery() as self._nursery:
            for name in (
                "stream_cut_mean",
                "stream_stall_mean",
                "keys_lost_mean",
                "human_cancel_mean",
                "human_rest_mean",
                "funding_mean",
                "ban_mean",
                "restart_mean",
                "liquidation_mean",
                "quote_stall_mean",
            ):
                self._nursery.start_soon(self._now_and_then, name, getattr(self, f"_{name.removesuffix('_mean')}"))
            self._quote()
            task_status.started()
            while True:
                await trio.sleep(STEP_SECONDS)
                for market in self.markets.values() if not self.frozen else ():
                    self._move(market)
                self._quote()
                for resting in [o for o in self.orders.values() if o.status == "open"]:
                    self._look_at(resting)

    def calm(self) -> None:
        """The end of all faults; what is broken is mended, or ended so that a client notices."""
        self.faults = Faults()
        self._quotes_stall_until = self.banned_until_ns = self._away_until_ns = 0
        for connection in tuple(self._connections):
            if connection.stalled:
                self._close(connection, "stalled")
        for resting in [o for o in self.orders.values() if o.foreign]:
            self._end(resting, "canceled", "canceled by hand")

    # ------------------------------------------------------------------------------------------------------ its public

    def quote(self, symbol: str) -> Quote | None:
        """Best bid and ask as a client last heard them."""
        market = self.markets.get(symbol)
        return market.quoted if market else None

    def position(self, symbol: str) -> Decimal:
        return self.markets[symbol].position

    def wire(self, life: Life, throttle: Throttle | None = None) -> "Wire":
        """A client's access, to be used by one incarnation of the engine; it closes `throttle` when it is banned."""
        return Wire(self, life, throttle)

    def human_trades(self, symbol: str, side: Side, qty: Decimal, price: Decimal | None = None) -> None:
        """A person places a market order, or at a price a limit order, by hand."""
        if not self.visited:
            return
        self._foreign(f"web_{self._next_id + 1}", symbol, side, qty, price)

    def _foreign(self, cid: str, symbol: str, side: Side, qty: Decimal, price: Decimal | None = None) -> None:
        self._next_id += 1
        order = Order(
            cid=cid,
            account="",
            symbol=symbol,
            signal_id="",
            leg=None,  # type: ignore[arg-type]  # not ours: it has no leg
            attempt=0,
            side=side,
            order_type=OrderType.MARKET if price is None else OrderType.LIMIT,
            qty=qty,
            price=price,
        )
        self.book(order, foreign=True)

    # ------------------------------------------------------------------------------------------------------- its book

    def arrive(self, order: Order, sent_ns: int, window_ns: int = 0) -> Rejection | None:
        """The gate: signature and window. `sent_ns` is the stamp, in the venue's time; `window_ns`: if its own."""
        self.truth.tell(Arrived(self.wall_ns(), cid=order.cid))
        if self.now_ns > sent_ns + (window_ns or self.traits.window_ns):
            self.truth.reach("request outside its window")
            return self.decline(order, "-1021", "invalid", "timestamp outside of the receive window")
        if self.banned:
            return self.decline(order, BANNED.code, BANNED.kind, BANNED.text)
        if self.fault(self.faults.rate_limited):
            return self.decline(order, "10006", "rate_limited", "too many visits")
        return None

    def book(self, order: Order, foreign: bool = False) -> Answer:
        """The book: take the order or say no, and do at once what it asks for."""
        if order.order_type.conditional and not foreign and self.fault(self.faults.overtaken):
            self._leap(order)
        if order.order_type.conditional and self.manners.directs_by_market and self.nature.spot:
            order = self._directed(order)
        refusal = None if foreign else self._refusal(order)
        if refusal is not None:
            return refusal
        self._next_id += 1
        now = self.wall_ns()
        resting = Resting(
            venue_order_id=f"{self.manners.number_prefix}{self._next_id}",
            cid=order.cid,
            symbol=order.symbol,
            side=order.side,
            order_type=order.order_type,
            tif=order.tif,
            qty=order.qty,
            price=order.price,
            trigger_price=order.trigger_price,
            reduce_only=order.reduce_only,
            taken_ns=now,
            visible_ns=now + self._lag_ns(),
            foreign=foreign,
        )
        self.orders[resting.venue_order_id] = resting
        self.truth.tell(
            Taken(
                now,
                venue_order_id=resting.venue_order_id,
                cid=resting.cid,
                symbol=resting.symbol,
                side=resting.side,
                order_type=resting.order_type,
                qty=resting.qty,
                price=resting.price,
                trigger_price=resting.trigger_price,
                reduce_only=resting.reduce_only,
                foreign=foreign,
            )
        )
        self._tell(self.report(resting))
        if not foreign and self.fault(self.faults.rejected_later):
            self.truth.reach("rejected after the acknowledgement")
            self.spawn(self._reject_later, resting)
        elif not resting.order_type.conditional:
            self._look_at(resting, fresh=True)
        return Acked(venue_order_id=resting.venue_order_id, venue_ns=self.now_ns)

    def cancel(self, cid: str, by: str = CLIENT, number: str = "") -> Answer:
        """By client id, or by the venue's number; only what is in the book can be canceled."""
        if self.banned and by == CLIENT:
            return BANNED
        meant = [o for o in self.orders.values() if (o.venue_order_id == number if number else o.cid == cid)]
        found = [o for o in meant if o.status == "open"]
        if not found:
            if any(o.filled for o in meant):
                self.truth.reach("cancel lost to a fill")
            return Rejection(code="110001", kind="not_found", text="order does not exist or is finished")
        for resting in found:
            self._end(resting, "canceled", by)
        return Acked(venue_order_id=found[0].venue_order_id, venue_ns=self.now_ns)

    def _leap(self, order: Order) -> None:
        """The price goes past what an order waits for, and a little further."""
        assert order.trigger_price is not None, "a conditional order without a trigger"
        market = self.markets[order.symbol]
        level = int(order.trigger_price / market.instrument.tick)
        further = int(level * self._chance.uniform(0.002, 0.01))
        market.ticks = level - further if market.bid > order.trigger_price else level + further
        self.truth.reach("the market overtook an order on its way to its trigger")

    def _directed(self, order: Order) -> Order:
        """By the market of the moment, whatever was meant."""
        assert order.trigger_price is not None, "a conditional order without a trigger"
        rises = order.trigger_price > self.markets[order.symbol].bid
        stop = rises is (order.side is Side.BUY)
        return replace(order, order_type=DIRECTED[order.order_type.value.endswith("market"), stop])

    def _refusal(self, order: Order) -> Rejection | None:
        market = self.markets.get(order.symbol)
        if market is None:
            return self.decline(order, "10001", "invalid", "symbol invalid")
        same = [o for o in self.orders.values() if o.cid == order.cid]
        if any(o.status == "open" or self.traits.id_unique_for_ever for o in same):
            self.truth.reach("duplicate id refused")
            return self.decline(order, "110072", "duplicate", "OrderLinkedID is duplicate")
        rules = market.instrument
        limits = (order.price, order.trigger_price)
        if order.qty % rules.lot or order.qty < rules.qty_min or any(p is not None and p % rules.tick for p in limits):
            return self.decline(order, "-1013", "invalid", "filter failure")
        if order.reduce_only and self._reducible(market, order.side) <= 0:
            return self.decline(order, "-2022", "invalid", "reduce-only order is rejected")
        if not order.reduce_only and self.fault(self.faults.declined):
            return self.decline(order, "110007", "insufficient", "balance is not enough")
        if self.fault(self.faults.declined / 3):
            return self.decline(order, "-1013", "invalid", "price filter")
        if rules.kind is InstrumentKind.SPOT and order.side is Side.SELL and order.qty > self.sellable(market):
            return self.decline(order, "-2010", "insufficient", "account has insufficient balance")
        if order.order_type.conditional and self._crossed(market, order.side, order.order_type, order.trigger_price):
            return self.decline(order, "-2021", "triggered", "order would immediately trigger")
        takes = order.tif is TimeInForce.POST_ONLY and self._marketable(market, order.side, order.price)
        if takes and not self.manners.post_only_is_taken:
            return self.decline(order, "-5022", "invalid", "post-only order would take")
        return None

    def sellable(self, market: Market) -> Decimal:
        """On spot, what no open sale has locked already."""
        locked = ZERO
        for resting in self.orders.values() if self.manners.sales_lock else ():
            if resting.status == "open" and resting.side is Side.SELL and resting.symbol == market.instrument.symbol:
                locked += resting.qty - resting.filled
        return market.position - locked

    def _look_at(self, resting: Resting, fresh: bool = False) -> None:
        """What the present price means for an open order."""
        market = self.markets[resting.symbol]
        if resting.status != "open" or resting.working:
            return
        if resting.order_type.conditional and not resting.triggered:
            if not self._crossed(market, resting.side, resting.order_type, resting.trigger_price):
                return
            resting.triggered = True
            if self.manners.tells_triggers:
                self._tell(replace(self.report(resting), reason=TRIGGERED))
            self.truth.tell(Triggered(self.wall_ns(), venue_order_id=resting.venue_order_id, cid=resting.cid))
        if not self._marketable(market, resting.side, resting.price):
            if resting.tif in (TimeInForce.IOC, TimeInForce.FOK):
                self._end(resting, "canceled", "immediate or cancel")
            return
        if fresh and resting.tif is TimeInForce.POST_ONLY:
            self._end(resting, "canceled", "post-only order would take")
            return
        if self.fault(self.nature.partial) and resting.tif is not TimeInForce.FOK:
            resting.working = True
            self.spawn(self._work, resting, not fresh)
        else:
            self._execute(
                resting, resting.qty - resting.filled, maker=not fresh and resting.order_type is OrderType.LIMIT
            )

    async def _work(self, resting: Resting, maker: bool) -> None:
        """Execute in pieces, as long as the price lets it."""
        market = self.markets[resting.symbol]
        lots = int((resting.qty - resting.filled) / market.instrument.lot)
        for _ in range(self._chance.randint(2, 4)):
            if resting.status != "open" or not self._marketable(market, resting.side, resting.price):
                break
            piece = min(self._chance.randint(1, max(1, lots)) * market.instrument.lot, resting.qty - resting.filled)
            self._execute(resting, piece, maker)
            await trio.sleep(self._chance.choice((0.0, 0.05, 0.5, 2.0)))
        resting.working = False
        if resting.status == "open" and resting.order_type is not OrderType.LIMIT:
            if self.fault(self.faults.dried_up):
                self.truth.reach("expired with a part filled")
                self._end(resting, "expired", "no liquidity for the rest")
            else:
                self._execute(resting, resting.qty - resting.filled, maker)
        elif resting.status == "open" and resting.tif is TimeInForce.IOC:
            self._end(resting, "canceled", "immediate or cancel")

    def _execute(self, resting: Resting, qty: Decimal, maker: bool) -> None:
        market = self.markets[resting.symbol]
        rules = market.instrument
        if resting.reduce_only:
            qty = min(qty, self._reducible(market, resting.side))
        if rules.kind is InstrumentKind.SPOT and resting.side is Side.SELL and not resting.foreign:
            qty = min(qty, market.position // rules.lot * rules.lot)
        if qty <= 0:
            self._end(resting, "canceled", "nothing left to reduce")
            return
        if resting.filled + qty == resting.qty and self._overfills(resting):
            qty += self._chance.randint(1, max(1, int(resting.qty / rules.lot) // 4)) * rules.lot
        touch = market.ask if resting.side is Side.BUY else market.bid
        price = resting.price if maker and resting.price is not None else touch
        fee, fee_asset = self._fee(rules, resting.side, qty, price, maker)
        self._settle(market, resting.side, qty, price, fee, fee_asset)
        market.executions += 1
        resting.filled += qty
        # Executions are numbered per symbol, as at Binance: one id can stand in two symbols.
        number = f"{market.executions}"
        report = FillReport(
            symbol=resting.symbol,
            exec_id=f"{number}-{resting.venue_order_id}" if self.manners.names_by_order else number,
            cid=resting.cid,
            venue_order_id=resting.venue_order_id,
            side=resting.side,
            qty=qty,
            price=price,
            fee=fee,
            fee_asset=fee_asset,
            maker=maker,
            venue_ns=self.now_ns,
        )
        self.history.append(Kept(report, self.wall_ns() + self._lag_ns()))
        self.truth.tell(
            Executed(
                self.wall_ns(),
                exec_id=report.exec_id,
                venue_order_id=resting.venue_order_id,
                cid=resting.cid,
                symbol=resting.symbol,
                side=resting.side,
                qty=qty,
                price=price,
                fee=fee,
                fee_asset=fee_asset,
                position=market.position,
                foreign=resting.foreign,
            )
        )
        whole = resting.filled >= resting.qty
        self._tell(report, replace(self.report(resting), status="filled") if whole else self.report(resting))
        if whole:
            self._end(resting, "filled", "")
        else:
            self._tell(self.report(resting))
        if self.nature.reduce_only_ends_when_flat:
            for other in [o for o in self.orders.values() if o.status == "open" and o.symbol == resting.symbol]:
                if other.reduce_only and self._reducible(market, other.side) <= 0:
                    self._end(other, "canceled", "nothing left to reduce")

    def _end(self, resting: Resting, status: str, reason: str) -> None:
        if resting.status != "open":
            return
        resting.status, resting.reason, resting.ended_ns = status, reason, self.wall_ns()
        self.truth.tell(
            Ended(
                self.wall_ns(),
                venue_order_id=resting.venue_order_id,
                cid=resting.cid,
                status=status,
                filled=resting.filled,
            )
        )
        self._tell(self.report(resting))
        if status == "canceled" and self._opens(resting) and self.fault(self.faults.filled_late):
            self.spawn(self._fill_late, resting)

    async def _fill_late(self, resting: Resting) -> None:
        """The cancel was told before an execution that had come first."""
        await trio.sleep(self._chance.uniform(0, 3))
        market = self.markets[resting.symbol]
        lots = int((resting.qty - resting.filled) / market.instrument.lot)
        if lots:
            self.truth.reach("filled after the cancel")
            self._execute(resting, self._chance.randint(1, lots) * market.instrument.lot, maker=True)

    def _opens(self, resting: Resting) -> bool:
        """Whether it is an order of ours whose surplus the venue's own rules would not catch."""
        selling_spot = self.nature.spot and resting.side is Side.SELL
        return not resting.foreign and not resting.reduce_only and not selling_spot

    def _overfills(self, resting: Resting) -> bool:
        if not self.faults.overfilled or not self._opens(resting) or not self.fault(self.faults.overfilled):
            return False
        self.truth.reach("overfill")
        return True

    async def _reject_later(self, resting: Resting) -> None:
        await trio.sleep(self._chance.choice((0.0, 0.01, 1.0)))
        self._end(resting, "rejected", "risk check failed")

    def _reducible(self, market: Market, side: Side) -> Decimal:
        """Base quantity by which an order of this side can reduce, on the lot."""
        against = market.position if side is Side.SELL else -market.position
        return against // market.instrument.lot * market.instrument.lot if against > 0 else ZERO

    def _crossed(self, market: Market, side: Side, order_type: OrderType, trigger: Decimal | None) -> bool:
        assert trigger is not None, "a conditional order without a trigger"
        stop = order_type in (OrderType.STOP_MARKET, OrderType.STOP_LIMIT)
        falling = stop is (side is Side.SELL)  # a sell stop and a buy target wait for a fall
        return market.bid <= trigger if falling else market.bid >= trigger

    def _marketable(self, market: Market, side: Side, price: Decimal | None) -> bool:
        return price is None or (price >= market.ask if side is Side.BUY else price <= market.bid)

    # -------------------------------------------------------------------------------------------------------- its money

    def _fee(self, rules: Instrument, side: Side, qty: Decimal, price: Decimal, maker: bool) -> tuple[Decimal, str]:
        rate = rules.maker_fee if maker else rules.taker_fee
        if self.nature.fee_asset == "base" and side is Side.BUY:
            return (qty * rate).quantize(FEE_PLACES), rules.base
        if self.nature.fee_asset == "third":
            return (qty * price * rate / 600).quantize(FEE_PLACES), THIRD_ASSET
        return (qty * price * rate).quantize(FEE_PLACES), rules.quote

    def _settle(self, market: Market, side: Side, qty: Decimal, price: Decimal, fee: Decimal, fee_asset: str) -> None:
        rules, before = market.instrument, market.position
        delta = qty if side is Side.BUY else -qty
        market.position += delta - (fee if fee_asset == rules.base else ZERO)
        if rules.kind is InstrumentKind.SPOT:
            self._add(rules.quote, -delta * price)
            self._add(rules.base, market.position - before)
        elif before * delta >= 0:
            market.cost += delta * price
        else:  # the closed part realises its result, what is beyond opens the other way
            closed = min(abs(delta), abs(before))
            share = market.cost * closed / abs(before)
            gain = (closed * price if before > 0 else -closed * price) - share
            market.cost += -share + (abs(delta) - closed) * price * (1 if delta > 0 else -1)
            self._add(rules.quote, gain)
        if fee_asset != rules.base:
            self._add(fee_asset, -fee)
        if before and market.position and (before > 0) != (market.position > 0):
            self.truth.reach("position flipped")
        if fee_asset == rules.base:
            self.truth.reach("fee in base")

    def _add(self, asset: str, amount: Decimal) -> None:
        self.balances[asset] = self.balances.get(asset, ZERO) + amount

    # ------------------------------------------------------------------------------------------------------ its answers

    def report(self, resting: Resting) -> OrderReport:
        """The venue's word on an order, as it is now."""
        return OrderReport(
            symbol=resting.symbol,
            cid=resting.cid,
            venue_order_id=resting.venue_order_id,
            status=resting.status,
            side=resting.side,
            order_type=resting.order_type,
            qty=resting.qty,
            filled_qty=resting.filled,
            price=resting.price,
            trigger_price=resting.trigger_price,
            reduce_only=resting.reduce_only,
            reason=resting.reason,
            venue_ns=self.now_ns,
        )

    def find(self, symbol: str, cid: str) -> OrderReport | NotFound:
        """By client id, as queries see it."""
        found = self.named(symbol, cid)
        return NotFound(cid=cid) if found is None else self.report(found)

    def named(self, symbol: str, cid: str, number: str = "") -> Resting | None:
        """By client id or the venue's number: the newest, nothing that is not visible yet, nothing forgotten."""
        now = self.wall_ns()
        meant = [
            o
            for o in reversed(self.orders.values())
            if o.symbol == symbol and (o.venue_order_id == number if number else o.cid == cid)
        ]
        for resting in meant:
            if resting.visible_ns > now:
                continue
            if self.forgets(resting):
                self.truth.reach("query for an order that the venue has forgotten")
                return None
            return resting
        if meant:
            self.truth.reach("accepted order not visible to a query")
        return None

    def forgets(self, resting: Resting) -> bool:
        ended = resting.ended_ns
        return resting.forgotten or bool(ended and self.wall_ns() - ended > self.traits.horizon_ns)

    def list_open(self) -> tuple[OrderReport, ...]:
        now = self.wall_ns()
        return tuple(
            self.report(o)
            for o in self.orders.values()
            if o.status == "open" and o.visible_ns <= now and not self.fault(self.faults.list_holes)
        )

    def executions(self, since_ns: int, cid: str | None) -> tuple[FillReport | FundingReport, ...]:
        now = self.wall_ns()
        return tuple(
            kept.report
            for kept in self.history
            if kept.report.venue_ns >= max(since_ns, self.now_ns - self.traits.horizon_ns)
            and kept.visible_ns <= now
            and (cid is None or (isinstance(kept.report, FillReport) and kept.report.cid == cid))
        )

    def list_positions(self) -> tuple[PositionReport, ...]:
        return tuple(
            PositionReport(
                symbol=symbol,
                qty=market.position,
                avg_price=abs(market.cost / market.position),
                venue_ns=self.now_ns,
            )
            for symbol, market in self.markets.items()
            if market.position
        )

    def list_balances(self) -> tuple[BalanceReport, ...]:
        return tuple(BalanceReport(asset=asset, total=total) for asset, total in sorted(self.balances.items()))

    # ------------------------------------------------------------------------------------------------------- its stream

    def connect(self, hear: Callable[[VenueReport, OrderReport | None], None], shut: Callable[[], None]) -> Connection:
        connection = Connection(hear=hear, shut=shut)
        self._connections.append(connection)
        return connection

    def die(self, channel: str) -> None:
        """For ever."""
        self.dead = channel
        if channel == "the private stream":
            self._stream_cut()

    def give_up_on_clients(self) -> None:
        """Whoever has not answered pings for long is cut off."""
        for connection in tuple(self._connections):
            self._close(connection, "ping timeout")
        for cut in self.cuts:
            cut()

    def disconnect(self, connection: Connection) -> None:
        if connection in self._connections:
            self._connections.remove(connection)

    def _tell(self, report: VenueReport, about: OrderReport | None = None) -> None:
        """To every stream: late, in any order, twice, or not at all."""
        for connection in self._connections:
            if self.dead == "what the stream says" or connection.stalled or self.fault(self.faults.event_dropped):
                continue
            for _ in range(2 if self.fault(self.faults.event_doubled) else 1):
                delay = self.latency() + self._chance.uniform(0, self.faults.event_delay_max)
                self.spawn(self._deliver, connection, report, about, delay)

    async def _deliver(
        self, connection: Connection, report: VenueReport, about: OrderReport | None, delay: float
    ) -> None:
        await trio.sleep(delay)
        try:
            connection.hear(report, about)
            if isinstance(report, FillReport):
                self.truth.heard.add((report.symbol, report.exec_id))
        except trio.WouldBlock:
            self._close(connection, "the client reads too slowly")
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client, or we, closed it meanwhile

    def _close(self, connection: Connection, why: str) -> None:
        connection.why = why
        connection.shut()
        self.disconnect(connection)

    # ---------------------------------------------------------------------------------------------- its market and fate

    def _move(self, market: Market) -> None:
        market.ticks = max(1000, market.ticks + round(self._path.gauss(0, market.ticks * self.nature.volatility)))

    def _quote(self) -> None:
        if self.wall_ns() < self._quotes_stall_until:
            return
        for symbol, market in self.markets.items():
            market.quoted = Quote(
                symbol=symbol,
                bid=market.bid,
                ask=market.ask,
                bid_qty=Decimal(50),
                ask_qty=Decimal(50),
                at_ns=self.wall_ns(),
            )

    async def _now_and_then(self, field: str, happen: Callable[[], None]) -> None:
        """Poisson moments with the mean that the faults of the moment say."""
        while True:
            mean = getattr(self.faults, field)
            if not mean:
                await trio.sleep(5)
                continue
            await trio.sleep(self._chance.expovariate(1 / mean))
            if getattr(self.faults, field):
                happen()

    def _stream_cut(self) -> None:
        for connection in tuple(self._connections):
            self._close(connection, "cut")
        for cut in self.cuts:
            cut()

    def _keys_lost(self) -> None:
        for lose in self.keys:
            lose()

    def _stream_stall(self) -> None:
        for connection in self._connections:
            connection.stalled = True

    def _human_cancel(self) -> None:
        mine = [o for o in self.orders.values() if o.status == "open" and not o.foreign and not o.working]
        if mine:
            self.truth.reach("a human canceled our order")
            self._end(self._chance.choice(mine), "canceled", "canceled by hand")

    def _human_rest(self) -> None:
        """A person's limit order, near the market: it may be executed at any later time."""
        symbol = self._chance.choice(tuple(self.markets))
        market = self.markets[symbol]
        side = Side.BUY if self.nature.spot else self._chance.choice((Side.BUY, Side.SELL))
        away = int(market.ticks * self.nature.volatility * self._chance.randint(1, 8)) + 1
        ticks = market.ticks - away if side is Side.BUY else market.ticks + 1 + away
        self.truth.reach("a human left an order in the book")
        qty = self._chance.randint(1, 100) * market.instrument.lot
        self.human_trades(symbol, side, qty, ticks * market.instrument.tick)

    def _ban(self) -> None:
        if self.banned:
            return
        self.banned_until_ns = self.wall_ns() + round(self._chance.uniform(0, self.faults.ban_max) * SECOND)
        self.truth.reach("ban")
        self.truth.tell(Banned(self.wall_ns(), until_ns=self.banned_until_ns))

    @property
    def banned(self) -> bool:
        return self.wall_ns() < self.banned_until_ns

    def _restart(self) -> None:
        """Away for moments; and then the memory of orders that have ended is empty."""
        self._away_until_ns = self.wall_ns() + round(self._chance.uniform(0, 5) * SECOND)
        self._stream_cut()
        for resting in self.orders.values():
            over = resting.status != "open" and (self.manners.forgets_filled or not resting.filled)
            resting.forgotten = resting.forgotten or over
        self.truth.reach("venue restarted")
        self.truth.tell(VenueRestarted(self.wall_ns()))

    @property
    def away(self) -> bool:
        return self.wall_ns() < self._away_until_ns

    def _liquidation(self) -> None:
        """All of a position (liquidation), or a part (deleveraging), by an order that nobody placed."""
        held = [m for m in self.markets.values() if m.position and m.instrument.kind is InstrumentKind.LINEAR]
        if not held:
            return
        market = self._chance.choice(held)
        lots = int(abs(market.position) / market.instrument.lot)
        if lots:
            lots = self._chance.choice((lots, self._chance.randint(1, lots)))
            self.truth.reach("liquidation")
            side = Side.SELL if market.position > 0 else Side.BUY
            cid = self._chance.choice(self.manners.liquidates_as)
            self._foreign(
                f"{cid}{self._next_id}" if cid else "", market.instrument.symbol, side, lots * market.instrument.lot
            )

    def _funding(self) -> None:
        for symbol, market in self.markets.items():
            if market.instrument.kind is InstrumentKind.LINEAR and market.position:
                amount = (-market.position * market.bid * Decimal("0.0001")).quantize(FEE_PLACES)
                self._next_id += 1
                report = FundingReport(
                    symbol=symbol,
                    funding_id=f"f{self._next_id}",
                    amount=amount,
                    asset=market.instrument.quote,
                    venue_ns=self.now_ns,
                )
                self._add(market.instrument.quote, amount)
                self.history.append(Kept(report, self.wall_ns() + self._lag_ns()))
                self.truth.tell(Funded(self.wall_ns(), funding_id=report.funding_id, symbol=symbol, amount=amount))
                self._tell(report)

    def _quote_stall(self) -> None:
        self._quotes_stall_until = self.wall_ns() + round(self._chance.uniform(1, 10) * SECOND)
        self.truth.tell(QuotesStalled(self.wall_ns(), until_ns=self._quotes_stall_until))

    def decline(self, order: Order, code: str, kind: str, text: str) -> Rejection:
        self.truth.tell(Declined(self.wall_ns(), cid=order.cid, code=code))
        return Rejection(code=code, kind=kind, text=text)

    def fault(self, chance: float) -> bool:
        return chance > 0 and self._chance.random() < chance

    def latency(self) -> float:
        return self._chance.uniform(self.nature.latency_min, self.nature.latency_max)

    def _lag_ns(self) -> int:
        return round(self._chance.uniform(0, self.faults.visible_max) * SECOND)

    def spawn(self, task: Callable[..., Awaitable[None]], *args: object) -> None:
        assert self._nursery is not None, "the venue is not running"
        self._nursery.start_soon(task, *args)

    # ------------------------------------------------------------------------------------------ the ways to it and back

    async def carry(self, life: Life, work: Callable[[], Awaitable[Answer]], reply: Reply) -> None:
        faults = self.faults
        if self.dead == "order entry":
            return
        delay = self._chance.uniform(0, faults.request_delay_max) if self.fault(faults.request_delayed) else 0.0
        await trio.sleep(self.latency() + delay)
        if self.fault(faults.request_lost):
            self.truth.reach("request lost")
            return
        if self.away:
            answer: Answer = Silence(why="503 the venue is being restarted")
        elif self.fault(faults.error_without_effect):
            self.truth.reach("server error without effect")
            answer = Silence(why="503 service unavailable")
        else:
            answer = await work()
            if self.fault(faults.error_with_effect):
                self.truth.reach("server error with effect")
                answer = Silence(why="502 bad gateway")
            elif self.fault(faults.garbled):
                self.truth.reach("an answer that cannot be read")
                answer = Silence(why="garbage")
        life.boundary("venue.reply")
        if self.fault(faults.reply_lost):
            self.truth.reach("reply lost")
            return
        late = self._chance.uniform(0, faults.reply_delay_max) if self.fault(faults.reply_delayed) else 0.0
        await trio.sleep(self.latency() + late)
        reply.answer = answer
        reply.event.set()

    async def submitted(self, life: Life, order: Order, sent_ns: int, window_ns: int = 0) -> Answer:
        """An order request at the venue, from its gate to its book."""
        refused = self.arrive(order, sent_ns, window_ns)
        if refused is not None:
            return refused
        await self.queue()
        if self.manners.looks_twice and self.now_ns > sent_ns + (window_ns or self.traits.window_ns):
            self.truth.reach("too old before the book")
            return self.decline(order, "-5028", "unavailable", "timestamp outside of the window at the engine")
        answer = self.book(order)
        life.boundary("venue.taken")
        if isinstance(answer, Acked) and self.traits.id_unique_for_ever and self.fault(self.faults.request_doubled):
            return self.book(order)  # where ids can be used again, a client must make sure that this cannot happen
        return answer

    async def canceled(self, life: Life, cid: str, number: str = "") -> Answer:
        answer = self.cancel(cid, number=number)
        life.boundary("venue.canceled")
        return self.cancel(cid, number=number) if self.fault(self.faults.request_doubled) else answer

    async def queue(self) -> None:
        if self.faults.queue_max and self._chance.random() < 0.5:
            await trio.sleep(self._chance.uniform(0, self.faults.queue_max))

    async def ask(self) -> Failed | None:
        """The way of a query there and back."""
        await trio.sleep(self.latency())
        if self.away or self.dead == "queries":
            return Failed(why="503")
        if self.fault(self.faults.query_failed):
            return Failed(why=self._chance.choice(("timed out", "500", "garbage")))
        return None


class Wire:
    """The engine's access to the venue (its `Venue`), for one incarnation. Dead, it neither sends nor hears."""

    def __init__(self, venue: SimVenue, life: Life, throttle: Throttle | None = None) -> None:
        self.traits = venue.traits
        self._venue, self._life, self._throttle = venue, life, throttle

    async def instruments(self) -> tuple[Instrument, ...] | Failed:
        return await self._ask() or tuple(m.instrument for m in self._venue.markets.values())

    async def server_time_ns(self) -> int | Failed:
        return await self._ask() or self._venue.now_ns

    async def balances(self) -> tuple[BalanceReport, ...] | Failed:
        return await self._ask() or self._venue.list_balances()

    async def positions(self) -> tuple[PositionReport, ...] | Failed:
        return await self._ask() or self._venue.list_positions()

    async def open_orders(self) -> tuple[OrderReport, ...] | Failed:
        return await self._ask() or self._venue.list_open()

    async def order(self, symbol: str, cid: str) -> OrderReport | NotFound | Failed:
        return await self._ask() or self._venue.find(symbol, cid)

    async def fills(self, since_ns: int, cid: str | None = None) -> tuple[FillReport | FundingReport, ...] | Failed:
        failed = await self._ask()
        return self._venue.executions(since_ns, cid) if failed is None else failed

    async def submit(self, order: Order, on_wire: Callable[[], None]) -> Answer:
        venue, life = self._venue, self._life
        sent_ns = venue.now_ns  # signed before anything can hold it up: the window counts from here
        signed_ns = venue.wall_ns()
        await self._boundary("submit.before")
        await trio.lowlevel.checkpoint()
        await self._living()
        if venue.fault(venue.faults.connect_refused):
            venue.truth.tell(Unreached(venue.wall_ns(), order=order))
            return Rejection(code="connect", kind="not_sent", text="connection refused")
        on_wire()
        venue.truth.tell(Wired(venue.wall_ns(), order=order, life=life.number, signed_ns=signed_ns))
        answer = await self._request(lambda: venue.submitted(life, order, sent_ns), "submit.wired")
        venue.truth.tell(Replied(venue.wall_ns(), cid=order.cid, kind=type(answer).__name__))
        if answer == BANNED:
            self._told_off()
        await self._boundary("submit.answered")
        return answer

    async def cancel(self, cancel: Cancel) -> Answer:
        venue = self._venue
        signed_ns = venue.wall_ns()
        await trio.lowlevel.checkpoint()
        await self._boundary("cancel.before")
        venue.truth.tell(CancelWired(venue.wall_ns(), cid=cancel.cid, life=self._life.number, signed_ns=signed_ns))
        answer = await self._request(lambda: venue.canceled(self._life, cancel.cid), "cancel.wired")
        if answer == BANNED:
            self._told_off()
        await self._boundary("cancel.answered")
        return answer

    def stream(self) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[VenueReport]]:
        return self._stream()

    @asynccontextmanager
    async def _stream(self) -> AsyncIterator[trio.MemoryReceiveChannel[VenueReport]]:
        venue = self._venue
        if (
            await self._ask() is not None
            or venue.dead == "the private stream"
            or venue.fault(venue.faults.stream_refused)
        ):
            raise StreamDown("connection refused")
        send, receive = trio.open_memory_channel[VenueReport](1000)
        connection = venue.connect(lambda report, _: send.send_nowait(report), send.close)
        try:
            yield receive
        finally:
            venue.disconnect(connection)
        if connection.why:
            raise StreamDown(connection.why)

    async def _request(self, work: Callable[[], Awaitable[Answer]], wired: str) -> Answer:
        """The request leaves at once, in the same step as its first byte; then comes the boundary."""
        venue, life = self._venue, self._life
        reply = Reply(event=trio.Event())
        venue.spawn(venue.carry, life, work, reply)
        await self._boundary(wired)
        with trio.move_on_after(venue.nature.timeout):
            await reply.event.wait()
        await self._living()
        if reply.answer is None:
            venue.truth.reach("timed out")
            return Silence(why="timed out")
        return reply.answer

    async def _ask(self) -> Failed | None:
        await self._boundary("query")
        if self._knows_of_ban():
            await trio.lowlevel.checkpoint()
            return Failed(why="not asked: the venue has banned us")
        failed = await self._venue.ask()
        await self._living()
        if failed is None and self._venue.banned:
            self._told_off()
            return Failed(why=BANNED.text)
        return failed

    def _told_off(self) -> None:
        """As the adapters do: whoever hears of a ban closes the account's door until its end."""
        venue = self._venue
        if self._throttle is not None and not self._knows_of_ban():
            until_ns = venue.banned_until_ns
            self._throttle.close_until(until_ns, BANNED.text)
            venue.truth.tell(BanHeard(venue.wall_ns(), life=self._life.number, until_ns=until_ns))

    def _knows_of_ban(self) -> bool:
        return self._throttle is not None and self._throttle.ban.until_ns > self._venue.wall_ns()

    async def _boundary(self, where: str) -> None:
        await self._living()
        self._life.boundary(where)
        await self._living()

    async def _living(self) -> None:
        if not self._life.alive:
            await trio.sleep_forever()
