"""What a case is given: an adapter, what it offers, a hand on its venue where there is one, and words for orders."""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from decimal import Decimal
from enum import Enum
from typing import Any, Protocol

import trio
from msgspec import Struct
from msgspec.structs import replace

from engine.core.ids import client_order_id
from engine.core.messages import (
    Acked,
    Answer,
    BalanceReport,
    Cancel,
    Failed,
    FillReport,
    Instrument,
    Leg,
    NotFound,
    Order,
    OrderReport,
    OrderType,
    PositionReport,
    Rejection,
    Side,
    VenueReport,
)
from engine.core.money import step_ceiling, step_floor
from engine.core.times import SECOND
from engine.venues.base import StreamDown
from engine.venues.throttle import Lane, Throttle

NO_FAULTS = "needs faults or a market of our own, which only the local exchange has"
PATIENCE_SECONDS = 30.0  # for what must come
LOOK_SECONDS = 0.05


class Skip(Exception):
    """This case cannot be tried here, and the text says why."""


class NotOffered(Exception):
    """The adapter declares that it does not do this; no pass, and no failure."""


class Broken(AssertionError):
    """What the venue's adapter promised did not hold."""


class Trouble(Enum):
    """What befalls the next request of an operation. The first five leave its outcome open, or seem to."""

    LOST_REPLY = "the order lives, its answer is lost"
    LOST_REQUEST = "it never arrives, and nobody says so"
    CUT_OFF = "it is done, and answered with half a JSON text"
    PAGE = "it is done, and answered with a page of HTML and status 200"
    UNSURE = "it is done, and answered with a code that says nothing of the outcome"
    UNKNOWN_CODE = "it is done, and answered with a code that no table has"
    RETRY = "surely not done: a code that allows another try"
    REJECT = "surely not done: a code that is final"
    HALT = "surely not done: a code of the key or the account"
    LIMITED = "surely not done, says the venue: too many requests"
    REJECT_LATER = "acknowledged, and rejected afterwards"
    DELAYED = "arrives a second late, as it was signed"


class Hand(Protocol):
    """On the venue itself: its truth, its market and its faults. Only a venue of our own has one."""

    def trouble(self, what: Trouble, operation: str, times: int) -> None:
        """Raises Skip for what cannot be done to this venue."""
        ...

    def calm(self) -> None: ...

    def show(self, bid: Decimal, ask: Decimal, qty: Decimal, levels: int = 1) -> None: ...

    def trade(self, price: Decimal) -> None: ...

    def orders(self, cid: str) -> int:
        """How many orders this id has ever had."""
        ...

    def balances(self) -> tuple[BalanceReport, ...]: ...

    def position(self) -> Decimal: ...

    def drop_streams(self) -> None: ...

    def silence_streams(self) -> None: ...

    def repeat_reports(self) -> None: ...

    def skew(self, seconds: float) -> None: ...

    def hide(self, seconds: float) -> None:
        """New orders show so much later in queries."""
        ...

    async def act_as_another(self, order: Order) -> str:
        """A person, or another program, places it in this account. Returns the id that it was given."""
        ...

    def liquidate(self) -> None: ...

    def fund(self, rate: Decimal) -> None:
        """Longs pay it, on what they hold."""
        ...

    def transfer(self, asset: str, amount: Decimal) -> None:
        """The owner puts it in, or (negative) takes it out."""
        ...


class Offers(Struct, frozen=True, kw_only=True):
    """What an adapter declares beside the protocol itself. None: not offered."""

    amend: Callable[[Any, Order, Decimal], Awaitable[Answer]] | None = None
    cancel_all: Callable[[Any, str], Awaitable[Answer]] | None = None
    batch: Callable[[Any, tuple[Order, ...]], Awaitable[tuple[Answer, ...]]] | None = None
    look_up: bool = True  # an order by its client id, whatever became of it
    stops: bool = True  # kept at the venue
    stream: bool = True
    post_only: bool = True
    fill_or_kill: bool = True
    keys: bool = True  # the venue knows who asks, and what he may
    clock: bool = True  # requests are stamped by the venue's clock, wherever it goes, and die with their signal
    pushed: bool = True  # the stream is the venue's own; else it is asked for what is new
    exact: bool = True  # an order goes as it is; else it is rounded on its way
    rights: bool = True  # what a key may do is known before it is used
    lists: bool = True  # long lists are read page by page; else they are a failure
    liquidations: bool = True  # are among the executions
    transfers: bool = True  # are told by the venue's own record
    rules: bool = True  # the instruments are asked for each time
    page: int = 0  # executions that one answer holds; 0: all


class Ear:
    """What the private stream has told so far."""

    def __init__(self) -> None:
        self.reports: list[VenueReport] = []
        self.down = ""

    def fills(self, cid: str = "") -> list[FillReport]:
        return [r for r in self.reports if isinstance(r, FillReport) and cid in ("", r.cid)]

    def statuses(self, cid: str) -> list[str]:
        return [r.status for r in self.reports if isinstance(r, OrderReport) and r.cid == cid]


class Bench:
    """One venue account under test."""

    def __init__(
        self,
        venue: Any,
        instrument: Instrument,
        offers: Offers,
        throttle: Throttle | None,
        quote: Callable[[], tuple[Decimal, Decimal]],
        now_ns: Callable[[], int],
        run_id: str,
        hand: Hand | None = None,
        again: Callable[..., Awaitable[Any]] | None = None,
    ) -> None:
        """`again` starts another adapter for the same account, as a restart does; `key` names another of its keys."""
        self.venue = venue
        self.instrument = instrument
        self.offers = offers
        self.throttle = throttle
        self.quote = quote
        self.now_ns = now_ns
        self.sent: dict[str, Order] = {}
        self.began_ns = now_ns()
        self.wired = 0
        self._again = again
        self._hand = hand
        self._run_id = run_id

    # ------------------------------------------------------------------------------------------------- the surroundings

    @property
    def hand(self) -> Hand:
        if self._hand is None:
            raise Skip(NO_FAULTS)
        return self._hand

    def needs_faults(self) -> None:
        """Said by a case before it sends anything that it could not make use of here. Raises Skip."""
        assert self.hand is not None

    @contextmanager
    def trouble(self, what: Trouble, operation: str, times: int = 1) -> Iterator[None]:
        """`times` 0: every such request, until the block ends. An operation of "" is any."""
        self.hand.trouble(what, operation, times)
        try:
            yield
        finally:
            self.hand.calm()

    async def restart(self, key: str = "") -> Any:
        if self._again is None:
            raise Skip("no second adapter can be started here")
        self.venue = await self._again(key)
        return self.venue

    @asynccontextmanager
    async def listening(self) -> AsyncIterator[Ear]:
        """The stream from here to the end of the block; when it goes down the ear knows why."""
        if not self.offers.stream:
            raise NotOffered("no private stream")
        ear, up = Ear(), trio.Event()

        async def listen() -> None:
            try:
                async with self.venue.stream() as reports:
                    up.set()
                    async for report in reports:
                        ear.reports.append(report)
                ear.down = "ended"
            except StreamDown as error:
                ear.down = str(error) or "down"
            finally:
                up.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(listen)
            await up.wait()
            if self._hand is not None and self.offers.pushed and not ear.down:
                await self.until(self._heard_by_venue, "the venue never saw the stream")
            yield ear
            nursery.cancel_scope.cancel()

    def _heard_by_venue(self) -> bool:
        return bool(getattr(self._hand, "listened", lambda: True)())

    # ----------------------------------------------------------------------------------------------------------- orders

    @property
    def unit(self) -> Decimal:
        """The smallest quantity that is allowed well below the market, too."""
        least = step_ceiling(self.instrument.notional_min * Decimal("1.1") / self.away(), self.instrument.lot)
        return max(least, self.instrument.qty_min, self.instrument.lot)

    def away(self) -> Decimal:
        """A price at which a buyer rests."""
        return step_floor(self.quote()[0] * Decimal("0.97"), self.instrument.tick)

    def across(self) -> Decimal:
        """A price at which a buyer takes what there is, and pays no more than a little above."""
        return step_ceiling(self.quote()[1] * Decimal("1.005"), self.instrument.tick)

    def market(self, name: str, **fields: Any) -> Order:
        leg = fields.pop("leg", Leg.ENTRY)
        made = Order(
            cid=client_order_id("conformance", self._run_id, name, leg, 0),
            account="main",
            symbol=self.instrument.symbol,
            signal_id=name,
            leg=leg,
            attempt=0,
            side=Side.BUY,
            order_type=OrderType.MARKET,
            qty=2 * self.unit,
            submitted_ns=self.now_ns(),
        )
        return replace(made, **fields)

    def limit(self, name: str, price: Decimal | None = None, **fields: Any) -> Order:
        return self.market(name, **{"order_type": OrderType.LIMIT, "price": price or self.away(), **fields})

    def stop(self, name: str) -> Order:
        """Below what a market order of `unit` times two has bought."""
        if not self.offers.stops:
            raise NotOffered("stops are not kept at the venue")
        trigger = step_floor(self.quote()[0] * Decimal("0.95"), self.instrument.tick)
        kind = {"order_type": OrderType.STOP_MARKET, "trigger_price": trigger}
        qty = 2 * self.unit - self._fee_in_base()
        return self.market(name, leg=Leg.STOP, side=Side.SELL, reduce_only=True, **{**kind, "qty": qty})

    def exit(self, name: str, qty: Decimal) -> Order:
        return self.market(name, leg=Leg.EXIT, side=Side.SELL, reduce_only=True, qty=qty)

    def _fee_in_base(self) -> Decimal:
        """On spot a buyer receives less than he bought: a lot more than the fee, so that what is sold is there."""
        spot = self.instrument.kind.value == "spot"
        return step_ceiling(2 * self.unit * Decimal("0.002"), self.instrument.lot) if spot else Decimal(0)

    async def submit(self, order: Order) -> Answer:
        """As the order actor does it: rate first, then once."""
        self.sent[order.cid] = order
        if self.throttle is not None:
            await self.throttle.wait(Lane.REDUCE if order.reduce_only else Lane.OPEN)
        answer: Answer = await self.venue.submit(order, self._wire)
        return answer

    async def accepted(self, order: Order) -> Acked:
        answer = await self.submit(order)
        if not isinstance(answer, Acked):
            raise Broken(f"{_words(order)} was not accepted: {answer}")
        return answer

    async def cancel(self, order: Order, venue_order_id: str = "") -> Answer:
        if self.throttle is not None:
            await self.throttle.wait(Lane.REDUCE, "cancel")
        answer: Answer = await self.venue.cancel(Cancel(order.cid, order.symbol, venue_order_id))
        return answer

    def _wire(self) -> None:
        self.wired += 1

    # ---------------------------------------------------------------------------------------------------------- looking

    async def find(self, order: Order) -> OrderReport:
        """By its id; within patience, for an accepted order may show late."""
        found = await self.settled(order, lambda report: True)
        return found

    async def settled(self, order: Order, enough: Callable[[OrderReport], bool]) -> OrderReport:
        last: object = None
        with trio.move_on_after(PATIENCE_SECONDS):
            while True:
                last = await self.look(order)
                if isinstance(last, OrderReport) and enough(last):
                    return last
                await trio.sleep(LOOK_SECONDS)
        raise Broken(f"{_words(order)} did not come to what was waited for; last seen: {last}")

    async def ended(self, order: Order, *statuses: str) -> OrderReport:
        report = await self.settled(order, lambda r: r.status != "open")
        same(report.status in statuses, True, f"{_words(order)} ended as {report.status}, not {' or '.join(statuses)}")
        return report

    async def look(self, order: Order) -> OrderReport | NotFound | Failed:
        if not self.offers.look_up:
            raise NotOffered("no look-up by client id")
        found: OrderReport | NotFound | Failed = await self.venue.order(order.symbol, order.cid)
        return found

    async def open_cids(self) -> list[str]:
        """All; in an account that others may trade in, too, those of this case."""
        cids = [report.cid for report in await self.answered(self.venue.open_orders())]
        return cids if self._hand is not None else [cid for cid in cids if cid in self.sent]

    async def fills(self, order: Order | None = None) -> list[FillReport]:
        since_ns = self.began_ns - 60 * SECOND
        asked = self.venue.fills(since_ns, order.cid) if order is not None else self.venue.fills(since_ns)
        found = [report for report in await self.answered(asked) if isinstance(report, FillReport)]
        return found if self._hand is not None else [fill for fill in found if fill.cid in self.sent]

    async def position(self) -> Decimal:
        """The venue's; on spot what the wallet holds of the base currency."""
        reports: tuple[PositionReport, ...] = await self.answered(self.venue.positions())
        return next((r.qty for r in reports if r.symbol == self.instrument.symbol), Decimal(0))

    async def answered(self, asked: Awaitable[Any]) -> Any:
        found = await asked
        if isinstance(found, Failed):
            raise Broken(f"a question was not answered: {found.why}")
        return found

    async def until(self, condition: Callable[[], object], otherwise: str) -> None:
        with trio.move_on_after(PATIENCE_SECONDS):
            while not condition():  # noqa: ASYNC110
                await trio.sleep(LOOK_SECONDS / 5)
            return
        raise Broken(otherwise)

    # ---------------------------------------------------------------------------------------------------------- tidying

    async def tidy(self) -> None:
        """What a case has left at a venue that is not thrown away after it: its orders, and what it bought."""
        for order in self.sent.values():
            report = await self.venue.order(order.symbol, order.cid) if self.offers.look_up else None
            if isinstance(report, OrderReport) and report.status == "open":
                await self.cancel(order, report.venue_order_id)
        mine = [fill for fill in await self.fills() if fill.cid in self.sent]
        fees = sum((f.fee for f in mine if f.fee_asset == self.instrument.base), Decimal(0))
        held = sum((f.qty * f.side.sign for f in mine), Decimal(0)) - fees
        left = step_floor(held, self.instrument.lot)
        if left > 0:
            await self.accepted(self.exit(f"tidy-{len(self.sent)}", left))


def same(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise Broken(what if isinstance(wanted, bool) else f"{what}: {found!r} instead of {wanted!r}")


def refused(answer: Answer, *kinds: str) -> Rejection:
    if not isinstance(answer, Rejection) or answer.kind not in kinds:
        raise Broken(f"expected a refusal ({' or '.join(kinds)}), got {answer}")
    return answer


def _words(order: Order) -> str:
    price = f" at {order.price}" if order.price is not None else ""
    return f"{order.side.value} {order.order_type.value} {order.qty}{price} ({order.signal_id})"
