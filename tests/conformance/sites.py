"""The venues that the kit knows, each at a place of our own where it can be made to fail. A new one is a line in SITES.

The local exchange speaks the venue's protocol; the paper venue is itself. Every case gets a place that nobody used.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import structlog
import trio
from msgspec import Struct
from msgspec.structs import replace

from engine.core.messages import Answer, BalanceReport, Failed, InstrumentKind, Order, Rejection, Side
from engine.core.times import SECOND
from engine.exchange.faults import Fault, Woe
from engine.exchange.opening import both_kinds, open_exchange
from engine.exchange.server import Exchange, Mangling
from engine.exchange.terms import ExchangeTerms, KeyTerms
from engine.market import synthetic
from engine.market.events import BookSnapshot, FundingRate, TradePrint
from engine.market.orders import OrderRequest
from engine.runtime.clock import live_clock
from engine.venues.keys import Credentials, Secret
from engine.venues.paper import Faults, PaperTerms, PaperVenue
from engine.venues.registry import REAL, THROTTLES, Setup
from tests.conformance.bench import Bench, Offers, Skip, Trouble

LOG = structlog.get_logger("conformance")
D = Decimal
SYMBOL = "BTCUSDT"
NOTIONAL_MIN = D(150)  # more than one lot is worth, so that an order can be too small
PER_SECOND = 10  # orders; the kit's bursts are longer
KEYS = (
    KeyTerms(key="local-key", secret="local-secret"),
    KeyTerms(key="reader", secret="local-secret", trade=False),
    KeyTerms(key="drawer", secret="local-secret", withdraw=True),
)
Site: TypeAlias = Callable[[bool], AbstractAsyncContextManager[Bench]]
"""From "orders go by the venue's order socket" to a bench."""


class Face(Struct, frozen=True):
    """What the local exchange calls one venue's operations, and its codes for each trouble: (code, text, status)."""

    name: str
    venue: str
    kind: InstrumentKind
    operations: dict[str, str]
    codes: dict[Trouble, tuple[int, str, int]]
    offers: Offers
    exchange: str = ""  # as ccxt calls it, where ccxt is the venue


async def _amend_bybit(venue: Any, order: Order, qty: Decimal) -> Answer:
    answer: Answer = await venue.amend(order.symbol, order.cid, qty=qty)
    return answer


async def _amend_spot(venue: Any, order: Order, qty: Decimal) -> Answer:
    answer: Answer = await venue.amend(order.symbol, order.cid, qty)
    return answer


async def _amend_usdm(venue: Any, order: Order, qty: Decimal) -> Answer:
    answer: Answer = await venue.amend(order.symbol, order.cid, order.side, qty, order.price)
    return answer


async def _cancel_all(venue: Any, symbol: str) -> Answer:
    answer: Answer = await venue.cancel_all(symbol)
    return answer


async def _batch(venue: Any, orders: tuple[Order, ...]) -> tuple[Answer, ...]:
    answers: tuple[Answer, ...] = await venue.submit_batch(orders, lambda: None)
    return answers


_BYBIT = {
    Trouble.UNSURE: (10016, "Server error.", 200),
    Trouble.UNKNOWN_CODE: (987654, "Nobody knows.", 200),
    Trouble.RETRY: (10002, "invalid request, please check your timestamp", 200),
    Trouble.REJECT: (110007, "ab not enough for new order", 200),
    Trouble.HALT: (10003, "API key is invalid.", 200),
    Trouble.LIMITED: (10006, "Too many visits!", 200),
}
_BINANCE = {
    Trouble.UNSURE: (-1007, "Timeout waiting for response from backend server.", 503),
    Trouble.UNKNOWN_CODE: (-987654, "Nobody knows.", 400),
    Trouble.RETRY: (-1021, "Timestamp for this request is outside of the recvWindow.", 400),
    Trouble.REJECT: (-1013, "Filter failure: PRICE_FILTER", 400),
    Trouble.HALT: (-2015, "Invalid API-key, IP, or permissions for action.", 401),
    Trouble.LIMITED: (-1003, "Too many requests.", 429),
}
_BYBIT_WORDS = {
    "submit": "order.create",
    "cancel": "order.cancel",
    "amend": "order.amend",
    "batch": "order.create-batch",
}
_SPOT_WORDS = {"submit": "order.place", "cancel": "order.cancel", "amend": "order.amend"}
_USDM_WORDS = _SPOT_WORDS | {"amend": "order.modify", "batch": "batchOrders.place"}
_BYBIT_OFFERS = Offers(amend=_amend_bybit, cancel_all=_cancel_all, batch=_batch, page=100)
_SPOT_OFFERS = Offers(amend=_amend_spot, cancel_all=_cancel_all, page=1000)
_USDM_OFFERS = Offers(amend=_amend_usdm, cancel_all=_cancel_all, batch=_batch, page=1000)
_CCXT_SPOT_OFFERS = Offers(
    page=100, transfers=False, clock=False, pushed=False, exact=False, rights=False, lists=False, rules=False
)
_CCXT_OFFERS = replace(_CCXT_SPOT_OFFERS, amend=_amend_bybit)
_CCXT_BYBIT_OFFERS = replace(_CCXT_OFFERS, liquidations=False)
BYBIT_LINEAR = Face("bybit", "bybit", InstrumentKind.LINEAR, _BYBIT_WORDS, _BYBIT, _BYBIT_OFFERS)
BYBIT_SPOT = Face("bybit", "bybit", InstrumentKind.SPOT, _BYBIT_WORDS, _BYBIT, _BYBIT_OFFERS)
BINANCE_SPOT = Face("binance-spot", "binance", InstrumentKind.SPOT, _SPOT_WORDS, _BINANCE, _SPOT_OFFERS)
BYBIT_CCXT = Face("bybit", "ccxt", InstrumentKind.LINEAR, _BYBIT_WORDS, _BYBIT, _CCXT_BYBIT_OFFERS, "bybit")
SPOT_CCXT = Face("binance-spot", "ccxt", InstrumentKind.SPOT, _SPOT_WORDS, _BINANCE, _CCXT_SPOT_OFFERS, "binance")
USDM_CCXT = Face("binance-usdm", "ccxt", InstrumentKind.LINEAR, _USDM_WORDS, _BINANCE, _CCXT_OFFERS, "binanceusdm")
BINANCE_USDM = Face("binance-usdm", "binance", InstrumentKind.LINEAR, _USDM_WORDS, _BINANCE, _USDM_OFFERS)

_WOES = {
    Trouble.LOST_REPLY: Woe.LOSE_REPLY,
    Trouble.LOST_REQUEST: Woe.LOSE_REQUEST,
    Trouble.CUT_OFF: Woe.GARBAGE,
    Trouble.PAGE: Woe.PAGE,
    Trouble.UNSURE: Woe.REFUSE_DONE,
    Trouble.UNKNOWN_CODE: Woe.REFUSE_DONE,
    Trouble.REJECT_LATER: Woe.REJECT_LATER,
    Trouble.DELAYED: Woe.DELAY,
}


class ExchangeHand:
    """On the local exchange."""

    def __init__(self, exchange: Exchange, face: Face) -> None:
        self._exchange = exchange
        self._face = face
        self._others = 0
        self.quote = (D(0), D(0))

    @property
    def member(self) -> Any:
        return self._exchange.faces[self._face.name].house.members["main"]

    @property
    def inner(self) -> str:
        return f"{self._face.kind.value}:{SYMBOL}"

    def trouble(self, what: Trouble, operation: str, times: int) -> None:
        if operation and operation not in self._face.operations:
            raise Skip(f"the local exchange has no {operation} there")
        code, text, status = self._face.codes.get(what, (0, "", 200))
        on = self._face.operations[operation] if operation else ""
        woe = _WOES.get(what, Woe.REFUSE)
        fault = Fault(do=woe, on=on, face=self._face.name, times=times, code=code, text=text, status=status, ms=1000)
        self._exchange.plan.faults.append(fault)

    def calm(self) -> None:
        self._exchange.plan.faults.clear()

    def show(self, bid: Decimal, ask: Decimal, qty: Decimal, levels: int = 1) -> None:
        self.quote = (bid, ask)
        at_ns, tick = self._exchange.now_ns(), D("0.1")
        bids = tuple((bid - n * tick, qty) for n in range(levels))
        asks = tuple((ask + n * tick, qty) for n in range(levels))
        self._exchange.publish(BookSnapshot(SYMBOL, at_ns, at_ns, bids, asks))

    def trade(self, price: Decimal) -> None:
        self._exchange.publish(TradePrint(SYMBOL, self._exchange.now_ns(), price, D("0.001"), Side.SELL))

    def orders(self, cid: str) -> int:
        return sum(record.given == cid for record in self.member.records.values())

    def balances(self) -> tuple[BalanceReport, ...]:
        found: tuple[BalanceReport, ...] = self.member.matching.balances()
        return found

    def position(self) -> Decimal:
        if self._face.kind is InstrumentKind.LINEAR:
            return D(self.member.matching.account.qty(self.inner))
        return next((b.total for b in self.balances() if b.asset == "BTC"), D(0))

    def listened(self) -> bool:
        """Whether somebody has subscribed to what happens to the account."""
        return bool(self.member.listeners)

    def drop_streams(self) -> None:
        self._exchange.drop(self._face.name, "")

    def silence_streams(self) -> None:
        self._exchange.stalled[""] = self._exchange.now_ns() + 600 * SECOND

    def repeat_reports(self) -> None:
        for line in self._exchange.lines:
            if line.session.scope != "public":
                line.mangling = Mangling("repeat", 50, 0)

    def skew(self, seconds: float) -> None:
        self._exchange.skew_ns = int(seconds * SECOND)

    def hide(self, seconds: float) -> None:
        self.member.memory = replace(self.member.memory, visible_ns=int(seconds * SECOND))

    async def act_as_another(self, order: Order) -> str:
        self._others += 1
        given = f"somebody-{self._others}"
        request = replace(OrderRequest.of(order), symbol=self.inner, cid="")
        self.member.place(request, self._exchange.now_ns(), given)
        return given

    def liquidate(self) -> None:
        self.member.liquidate(self.inner, self._exchange.now_ns())

    def fund(self, rate: Decimal) -> None:
        self._exchange.publish(FundingRate(SYMBOL, self._exchange.now_ns(), rate, D(60_000)))

    def transfer(self, asset: str, amount: Decimal) -> None:
        assert not isinstance(self.member.transfer(asset, amount, self._exchange.now_ns()), Rejection)


@asynccontextmanager
async def at_exchange(face: Face, socket: bool) -> AsyncIterator[Bench]:
    """The adapter of `face.venue`, as the registry makes it, on a local exchange in this process."""
    clock = live_clock()
    listed = both_kinds(synthetic.instruments(InstrumentKind.LINEAR, face.venue))
    listed = tuple(replace(i, notional_min=NOTIONAL_MIN) for i in listed)
    exchange = open_exchange(ExchangeTerms(keys=KEYS), listed, clock)
    hand = ExchangeHand(exchange, face)
    async with trio.open_nursery() as nursery:
        port = await nursery.start(partial(exchange.listen, face.name, "127.0.0.1", 0))
        nursery.start_soon(exchange.beat)
        throttle = THROTTLES[face.venue](PER_SECOND, face.kind, clock)
        living: list[trio.CancelScope] = []

        async def start(key: str = "") -> Any:
            for scope in living:
                scope.cancel()
            setup = Setup(
                clock=clock,
                rng=Random(1),
                host=f"http://127.0.0.1:{port}",
                kind=face.kind,
                credentials=Credentials(Secret(key or "local-key"), Secret("local-secret")),
                throttle=throttle,
                symbols=(SYMBOL,),
                order_socket=socket,
                exchange=face.exchange,
                foreign={"key": Secret(key or "local-key"), "secret": Secret("local-secret")},
                poll_seconds=0.1,
            )
            venue = REAL[face.venue](setup)
            scope = trio.CancelScope()
            living.append(scope)

            async def run() -> None:
                with scope:
                    await venue.run()

            nursery.start_soon(run)
            await _ready(venue, socket)
            return venue

        hand.show(D(60000), D("60000.1"), D(50))
        venue = await start()
        instrument = next(i for i in await venue.instruments() if i.symbol == SYMBOL)
        yield Bench(
            venue,
            instrument,
            face.offers,
            throttle,
            lambda: hand.quote,
            clock.now_ns,
            "local",
            hand,
            start,
        )
        nursery.cancel_scope.cancel()


async def _ready(venue: Any, socket: bool) -> None:
    """As the engine is before it trades: the list is read, the venue's clock known, and the order socket up."""
    while isinstance(told := await venue.instruments(), Failed):  # an adapter may have workers that come up first
        LOG.info("not ready", why=told.why)
        await trio.sleep(0.1)
    await venue.server_time_ns()
    if socket and not await venue.socket.until_ready(10):
        raise AssertionError(f"the order socket did not come up: {venue.socket.why}")


class PaperHand:
    """On the paper venue itself."""

    def __init__(self) -> None:
        self.venue: PaperVenue
        self.quote = (D(0), D(0))
        self._others = 0

    def trouble(self, what: Trouble, operation: str, times: int) -> None:
        if not operation:
            self.venue.faults = Faults(query_fails=1.0)
            return
        woes = {
            Trouble.LOST_REPLY: Faults(lost_reply=1.0),
            Trouble.LOST_REQUEST: Faults(lost_request=1.0),
            Trouble.RETRY: Faults(unavailable=1.0),
            Trouble.REJECT: Faults(reject=1.0),
            Trouble.LIMITED: Faults(rate_limited=1.0),
        }
        if what not in woes:
            raise Skip("the paper venue has no such fault: it answers in words of its own, without a wire")
        self.venue.faults = woes[what]

    def calm(self) -> None:
        self.venue.faults = Faults()

    def show(self, bid: Decimal, ask: Decimal, qty: Decimal, levels: int = 1) -> None:
        self.quote = (bid, ask)
        at_ns = live_clock().now_ns()
        self.venue.publish(BookSnapshot(SYMBOL, at_ns, at_ns, ((bid, qty),), ((ask, qty),)))

    def trade(self, price: Decimal) -> None:
        self.venue.publish(TradePrint(SYMBOL, live_clock().now_ns(), price, D("0.001"), Side.SELL))

    def orders(self, cid: str) -> int:
        return sum(order.cid == cid for order in self.venue.truth().orders)

    def balances(self) -> tuple[BalanceReport, ...]:
        return self.venue.truth().balances

    def position(self) -> Decimal:
        return next((p.qty for p in self.venue.truth().positions if p.symbol == SYMBOL), D(0))

    def drop_streams(self) -> None:
        self.venue.drop_streams()

    def silence_streams(self) -> None:
        self.venue.faults = Faults(dropped_reports=1.0)

    def repeat_reports(self) -> None:
        self.venue.faults = Faults(repeated_reports=1.0)

    def skew(self, seconds: float) -> None:
        raise Skip("the paper venue's clock is ours")

    def hide(self, seconds: float) -> None:
        raise Skip("what the paper venue hides is in its terms; see tests/venues/test_paper.py")

    async def act_as_another(self, order: Order) -> str:
        self._others += 1
        given = f"somebody-{self._others}"
        await self.venue.request(replace(OrderRequest.of(order), cid=given), live_clock().now_ns())
        return given

    def liquidate(self) -> None:
        raise Skip("the paper venue liquidates by its market; see tests/market/test_matching.py")

    def fund(self, rate: Decimal) -> None:
        self.venue.publish(FundingRate(SYMBOL, self.venue.matching.now_ns, rate, D(60_000)))

    def transfer(self, asset: str, amount: Decimal) -> None:
        raise Skip("nobody owns the paper venue's money")


@asynccontextmanager
async def at_paper(socket: bool) -> AsyncIterator[Bench]:
    """With a file that outlives the adapter."""
    clock, hand = live_clock(), PaperHand()
    listed = tuple(replace(i, notional_min=NOTIONAL_MIN) for i in synthetic.instruments(InstrumentKind.LINEAR))
    terms = PaperTerms(balances={"USDT": D(100_000)}, leverage=D(10), timeout_ms=300.0)
    with TemporaryDirectory(prefix="conformance-") as folder:

        async def start(key: str = "") -> PaperVenue:
            if hasattr(hand, "venue"):
                hand.venue.close()
            hand.venue = PaperVenue(listed, terms, clock, Random(1), Path(folder) / "venue.store")
            hand.show(D(60000), D("60000.1"), D(50))
            return hand.venue

        venue = await start()
        instrument = next(i for i in listed if i.symbol == SYMBOL)
        yield Bench(
            venue,
            instrument,
            Offers(keys=False, clock=False, transfers=False),
            None,
            lambda: hand.quote,
            clock.now_ns,
            "paper",
            hand,
            start,
        )
        hand.venue.close()


SITES: dict[str, Site] = {
    "bybit-linear": partial(at_exchange, BYBIT_LINEAR),
    "bybit-spot": partial(at_exchange, BYBIT_SPOT),
    "binance-spot": partial(at_exchange, BINANCE_SPOT),
    "binance-usdm": partial(at_exchange, BINANCE_USDM),
    "paper": at_paper,
    "ccxt-bybit": partial(at_exchange, BYBIT_CCXT),
    "ccxt-binance": partial(at_exchange, SPOT_CCXT),
    "ccxt-binanceusdm": partial(at_exchange, USDM_CCXT),
}
OFFERS = {
    "bybit-linear": _BYBIT_OFFERS,
    "bybit-spot": _BYBIT_OFFERS,
    "binance-spot": _SPOT_OFFERS,
    "binance-usdm": _USDM_OFFERS,
    "ccxt-bybit": _CCXT_BYBIT_OFFERS,
    "ccxt-binance": _CCXT_SPOT_OFFERS,
    "ccxt-binanceusdm": _CCXT_OFFERS,
}
