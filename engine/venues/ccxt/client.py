"""One account at an exchange that ccxt knows; implements `Venue`. Sends, asks and translates; meaning is `errors.py`'s.

Two workers: one for what changes something, one for questions, so that a slow list never stands before a cancel.
There is no stream: private events are asked for at a stated interval, and told as reports like any other.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from functools import partial
from typing import Any, TypeVar

import msgspec
import structlog
import trio
from msgspec import Struct

from engine.core.ids import is_ours
from engine.core.messages import (
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
    PositionReport,
    Rejection,
    Side,
    Silence,
    VenueReport,
)
from engine.core.money import plain
from engine.runtime.clock import Clock
from engine.runtime.log import Secret
from engine.venues.admission import KeyFacts, Remark, clock_remark, key_remarks
from engine.venues.base import SECOND, StreamDown, Traits
from engine.venues.binance.orders import cancel_id, id_of_canceled
from engine.venues.binance.spot_cover import Sales
from engine.venues.ccxt import errors, orders, promises, rows
from engine.venues.ccxt.hosts import environment
from engine.venues.ccxt.lines import Hello, Told
from engine.venues.ccxt.process import Gone, Worker
from engine.venues.ccxt.promises import BYBIT, FREE_STOPS, SWAPS_IDS, Abilities
from engine.venues.offset import Known, Moment, learn, measure
from engine.venues.private_stream import Deliver, private_stream
from engine.venues.throttle import Costs, Limit, Throttle

R = TypeVar("R")
T = TypeVar("T")
LOG = structlog.get_logger("ccxt")

WINDOW_MS = 5_000
REQUEST_SECONDS = 10.0  # for an order or a cancel, its wait for others included; then its worker is killed
QUESTION_SECONDS = 20.0
SOCKET_MS = 8_000  # ccxt's own patience, shorter, so that an answer mostly comes from it
CLOCK_SECONDS = 30.0
READY_SECONDS = 30.0  # for a worker to be there: it imports much
LIMITED_NS = 5 * SECOND  # after a limiter's no that does not say how long
LIMITED_MAX_NS = 600 * SECOND
OVERLAP_NS = 60 * SECOND  # executions may become visible late
FUNDING_MS = 600_000
FAILURES_MAX = 3  # polls in a row, before the stream counts as down
STREAM_BUFFER = 10_000
IDS_MAX = 20_000
DEAD_NS = 70 * SECOND  # window, queue and visibility: after that, what is not found never came
PAGE = 200
DAY_MS = 24 * 3600 * 1000
COSTS: Costs = {"order": (("orders", 1),), "cancel": (("cancels", 1),)}  # questions are paced by ccxt itself
HEDGE_MODE = "the account is in hedge mode; the engine trades one-way mode only: switch the position mode to one-way"


def limits(orders_per_second: int) -> tuple[Limit, ...]:
    """Ours; ccxt's own, by what each request costs at its exchange, comes on top."""
    return Limit(orders_per_second, SECOND, "orders"), Limit(orders_per_second, SECOND, "cancels")


class CcxtTerms(Struct, frozen=True, kw_only=True):
    exchange: str
    kind: InstrumentKind
    host: str
    credentials: dict[str, Secret]  # key, secret, password, uid
    symbols: tuple[str, ...]
    poll_seconds: float = 2.0
    leverage: int = 0
    request_seconds: float = REQUEST_SECONDS


class CcxtVenue:
    """`run` it in a task: it keeps the workers up."""

    def __init__(self, terms: CcxtTerms, throttle: Throttle, clock: Clock) -> None:
        self.traits = Traits(name=terms.exchange, id_unique_for_ever=False, window_ns=WINDOW_MS * 1_000_000)
        self.terms = terms
        self._throttle, self._clock = throttle, clock
        self._native = errors.native_of(terms.exchange, terms.kind is InstrumentKind.LINEAR)
        self._kind = "spot" if terms.kind is InstrumentKind.SPOT else "swap"
        self._leverage_set = False
        self._listings: dict[
            str, rows.Listing
        ] = {}  # all that were ever listed: what is held must not vanish with them
        self._listed: tuple[str, ...] = ()  # by now
        self._by_unified: dict[str, rows.Listing] = {}
        self._cids: dict[str, str] = {}  # by the exchange's order id; "": not ours
        self._numbers: dict[str, str] = {}  # and the other way round
        self._known = Known()
        self._funded_ms = 0  # up to when funding was told
        self._stops: dict[str, dict[str, None]] = {}  # spot, by symbol: our stops that have locked coins, oldest first
        self._sales: dict[str, Sales] = {}  # spot, by symbol
        self._news = trio.Event()  # an order was taken: the next poll need not wait
        self._began_ns = clock.now_ns()
        self.orders = self._worker("orders", lambda: ("load", ()), lambda told: None)
        self.questions = self._worker("questions", lambda: ("markets", (self._kind, False)), self._learn_markets)

    @property
    def able(self) -> Abilities:
        """As far as the questions' worker has said; before that nothing is possible."""
        return promises.abilities(self.questions.ready, self.terms.kind)

    async def run(self) -> None:
        """Keeps both workers up and the exchange's clock known, until cancelled; then nothing of them is left."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.orders.keep)
            nursery.start_soon(self.questions.keep)
            while True:
                await trio.sleep(CLOCK_SECONDS)
                if self.able.clock:
                    await self.server_time_ns()
                    await self.orders.call("time", (), self.terms.request_seconds)  # it stamps by it

    def close(self) -> None:
        """Nothing is held that `run` does not close."""

    async def look_over(self, allow_withdrawal: bool) -> tuple[Remark, ...] | Failed:
        """What cannot be promised, then clock, key and mode in words; Failed while the exchange does not answer."""
        if not await self.questions.until_ready(READY_SECONDS):
            problem = self.questions.problem
            return (Remark("ccxt", False, problem),) if problem else Failed(self.questions.why)
        able = self.able
        found = list(promises.promises(able, self.terms.poll_seconds))
        found += self._symbols_remarks()
        told = await self.server_time_ns()
        if isinstance(told, Failed):
            return told
        if able.clock:
            found.append(clock_remark(self._known, self._moment()))
        key = await self._key(allow_withdrawal)
        if isinstance(key, Failed):
            return key
        if not all(remark.ok for remark in key):
            return (*found, *key)
        mode = await self._mode(able)
        return mode if isinstance(mode, Failed) else (*found, *key, *mode)

    async def look_at_streams(self) -> tuple[Remark, ...]:
        asked = await self.fills(self._clock.now_ns() - OVERLAP_NS)
        if isinstance(asked, Failed):
            return (Remark("private events", False, asked.why),)
        up = await self.orders.until_ready(READY_SECONDS)
        entry = f"orders go by a worker of their own ({self.orders.starts} start(s))" if up else self.orders.why
        every = f"asked for every {self.terms.poll_seconds:g} s"
        return Remark("private events", True, every), Remark("order entry", up, entry)

    @property
    def notes(self) -> tuple[str, ...]:
        """For whoever looks at the engine's health: what is not promised here, and a worker that is not there."""
        if not self.questions.ready.version:
            return (f"ccxt: {self.questions.why}",)
        said = promises.promises(self.able, self.terms.poll_seconds)
        down = [f"ccxt worker {w.name}: {w.problem or w.why}" for w in (self.orders, self.questions) if not w.is_ready]
        return (*down, *(remark.text for remark in said))

    # ------------------------------------------------------------------------------------------------------ requests

    async def submit(self, order: Order, on_wire: Callable[[], None]) -> Answer:
        held = self._listings.get(order.symbol)
        if held is None:
            return Rejection("not_sent", "not_sent", f"{order.symbol} is not known yet")
        arguments = orders.create(order, held, self.able)
        if isinstance(arguments, Rejection):
            return arguments
        if self._sells_coins(order):
            return await self._sell(order, held, arguments, on_wire)
        return await self._place(order, arguments, on_wire)

    async def _place(self, order: Order, arguments: orders.Arguments, on_wire: Callable[[], None]) -> Answer:
        told = await self.orders.call("create_order", arguments, self.terms.request_seconds, on_wire)
        answer = errors.answer_to_place(told, self._native)
        if answer is None:
            return self._placed(told, order)
        limited = answer if isinstance(answer, Rejection) and answer.kind == "rate_limited" else None
        self._heard(told, limited is not None)
        return await self._ask_first(order, limited) if limited is not None else answer

    async def cancel(self, cancel: Cancel) -> Answer:
        held = self._listings.get(cancel.symbol)
        if held is None:
            return Rejection("not_sent", "not_sent", f"{cancel.symbol} is not known yet")
        answer: Answer = Silence("not asked")
        for trigger in (False, True) if self.able.trigger_lists else (False,):
            answer = await self._cancel(cancel, held, trigger)
            if not (isinstance(answer, Rejection) and answer.kind == "not_found"):
                return answer
        return answer

    async def amend(
        self,
        symbol: str,
        cid: str,
        qty: Decimal | None = None,
        price: Decimal | None = None,
        trigger_price: Decimal | None = None,
    ) -> Answer:
        """In place, where ccxt and the exchange do that; absolute values, `qty` with what is filled included."""
        held = self._listings.get(symbol)
        if held is None or not self.able.edits or trigger_price is not None:
            return Rejection("unsupported", "invalid", "orders cannot be changed in place here; cancel, and place anew")
        found = await self.order(symbol, cid)
        if not isinstance(found, OrderReport):
            return Rejection("not_sent", "not_sent", f"the order is not to be had: {found}")
        amount = orders.contracts(found.qty if qty is None else qty, held)
        new_price = found.price if price is None else price
        if amount is None or new_price is None or found.status != "open":
            return Rejection("unsupported", "invalid", "only an open limit order can be changed")
        arguments: tuple[Any, ...] = (
            found.venue_order_id,
            held.unified,
            "limit",
            found.side.value,
            plain(amount),
            plain(new_price),
            {},
        )
        told = await self.orders.call("edit_order", arguments, self.terms.request_seconds)
        answer = errors.answer_to_change(told, self._native)
        return Acked(found.venue_order_id) if answer is None else answer

    # ------------------------------------------------------------------------------------------------------- queries

    async def server_time_ns(self) -> int | Failed:
        """The exchange's, or our own where it tells none."""
        if not await self.questions.until_ready(READY_SECONDS):
            return Failed(self.questions.problem or self.questions.why)
        if not self.able.clock:
            return self._clock.now_ns()
        began: list[Moment] = []
        told = await self._ask("time", (), _whole, began)
        if isinstance(told, Failed):
            return told
        measured = measure(began[0], told * 1_000_000, self._moment()) if began else None
        if measured is not None:
            self._known = learn(self._known, measured)
        return told * 1_000_000

    async def instruments(self) -> tuple[Instrument, ...] | Failed:
        """Those that are traded in our kind of market. At the start, the first time, the leverage is set, too."""
        if not await self.questions.until_ready(READY_SECONDS):
            return Failed(self.questions.problem or self.questions.why)
        if self._leverage_set and (stale := await self._read_again()):
            return stale
        if not self._listed:
            return Failed(f"{self.terms.exchange} lists no market that can be traded as {self.terms.kind.value}")
        if not self._leverage_set and (refused := await self._set_leverage()):
            return refused
        self._leverage_set = True  # what a person changes later is his
        return tuple(self._listings[symbol].instrument for symbol in self._listed)

    async def balances(self, began: list[Moment] | None = None) -> tuple[BalanceReport, ...] | Failed:
        found = await self._wallet(began)
        return found if isinstance(found, Failed) else _each(found, rows.balance_report)

    async def _wallet(self, began: list[Moment] | None) -> list[rows.BalanceRow] | Failed:
        found = await self._ask("balance", ({},), _balances, began)
        return found or Failed("the answer names no balance")

    async def positions(self) -> tuple[PositionReport, ...] | Failed:
        began: list[Moment] = []
        if self.terms.kind is InstrumentKind.SPOT:
            wallet = await self._wallet(began)
            if isinstance(wallet, Failed):
                return wallet
            bases = {held.instrument.base for held in self._traded()}  # the other rows may be whatever they are
            balances = _each([row for row in wallet if row.asset in bases], rows.balance_report)
            if isinstance(balances, Failed):
                return balances
            return rows.holdings(balances, self._traded(), self._venue_ns(began))
        found = await self._all_positions(began)
        if isinstance(found, Failed):
            return found
        at_ns = self._venue_ns(began)
        if any(row.hedged for row in found):
            return Failed(HEDGE_MODE)

        def make(row: rows.PositionRow) -> PositionReport | None:
            held = self._by_unified.get(row.symbol)
            return None if held is None else rows.position_report(row, held, at_ns)

        return _each(found, make)

    async def _all_positions(self, began: list[Moment]) -> list[rows.PositionRow] | Failed:
        """Whatever the account holds, in one answer; Bybit's are asked for by the coin they settle in, page by page."""
        if self.able.exchange not in BYBIT:
            return await self._ask("fetch_positions", (None,), _positions, began)
        found: list[rows.PositionRow] = []
        for coin in dict.fromkeys(held.instrument.quote for held in self._traded()):
            arguments = (None, {"settleCoin": coin, "limit": PAGE})
            part = await self._ask("fetch_positions", arguments, _positions, began)
            if isinstance(part, Failed) or len(part) >= PAGE:
                return part if isinstance(part, Failed) else Failed("more positions than one answer shows")
            found += part
        return found

    async def open_orders(self) -> tuple[OrderReport, ...] | Failed:
        """Of the configured symbols, with those that wait for a trigger."""
        found: dict[str, OrderReport] = {}
        able = self.able
        for held in self._traded():
            for trigger in (False, True) if able.trigger_lists else (False,):
                extra = {"trigger": True} if trigger else {}
                arguments = (held.unified, None, able.orders_limit or None, extra)
                part = await self._ask("fetch_open_orders", arguments, _orders)
                if isinstance(part, Failed):
                    return part
                if able.orders_limit and len(part) >= able.orders_limit:
                    return Failed(f"{held.unified}: more open orders than one answer shows")
                reports = self._reports(part, held)
                if isinstance(reports, Failed):
                    return reports
                found |= {report.venue_order_id: report for report in reports}
        return tuple(report for report in found.values() if report.status == "open")

    async def order(self, symbol: str, cid: str) -> OrderReport | NotFound | Failed:
        """By client id. Absence is told only where the exchange's rules make it mean something."""
        held = self._listings.get(symbol)
        if held is None:
            return Failed(f"{symbol} is not known yet")
        able = self.able
        found = await (self._look(held, cid, able) if able.looks else self._search(held, cid, able))
        if found is not None:
            return found
        if promises.settles_absence(able):
            if symbol in self._sales:
                self._sales[symbol].absent(cid, self._clock.now_ns(), DEAD_NS)
            return NotFound(cid)
        return Failed("it is not to be found, which proves nothing at this exchange")

    async def fills(self, since_ns: int, cid: str | None = None) -> tuple[FillReport | FundingReport, ...] | Failed:
        """Since 0 means since this adapter began. Of the configured symbols; of one order: those that name it."""
        since_ns = since_ns or self._began_ns
        executions = await self._executions(since_ns)
        if isinstance(executions, Failed):
            return executions
        found: list[FillReport | FundingReport] = [*executions]
        if cid is None and self.able.funding:
            funding = await self._funding(since_ns // 1_000_000)
            if isinstance(funding, Failed):
                return funding
            found += funding
        if cid is not None:
            found = [report for report in found if isinstance(report, FillReport) and report.cid == cid]
        once = {_key(report): report for report in found}
        return tuple(sorted(once.values(), key=lambda report: (report.venue_ns, *_key(report))))

    def stream(self) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[VenueReport]]:
        return private_stream(self._listen, STREAM_BUFFER)

    # ---------------------------------------------------------------------------------------------------------- spot

    def _sells_coins(self, order: Order) -> bool:
        return self.terms.kind is InstrumentKind.SPOT and order.side is Side.SELL

    async def _sell(
        self, order: Order, held: rows.Listing, arguments: orders.Arguments, on_wire: Callable[[], None]
    ) -> Answer:
        """On spot nothing but the wallet's bottom keeps a sale from selling more than was bought here: one at a time,
        and where a resting stop has locked the coins it goes first. Nothing is sold before it has surely gone."""
        if not order.reduce_only:
            return Rejection("spot", "invalid", "spot cannot be short: only what was bought here can be sold")
        sales = self._sales.setdefault(order.symbol, Sales())
        standing = [] if self.able.exchange in FREE_STOPS else list(self._stops.get(order.symbol, ()))
        if why := sales.holds_back(order, bool(standing)):
            return Rejection("spot", "not_sent", why)
        for cid in standing:
            if refused := await self._take_away(cid, order.symbol, held):
                return refused
        answer = await self._place(order, arguments, on_wire)
        if isinstance(answer, Silence):
            sales.doubt(order.cid, self._clock.now_ns())
        if order.order_type.conditional and not isinstance(answer, Rejection):
            self._stops.setdefault(order.symbol, {})[order.cid] = None
        return answer

    async def _take_away(self, cid: str, symbol: str, held: rows.Listing) -> Rejection | None:
        """A stop that stands in the way is cancelled; None when it surely has gone, and has sold nothing."""
        await self._cancel(Cancel(cid, symbol), held, False)
        match await self.order(symbol, cid):
            case OrderReport(status="canceled" | "expired" | "rejected", filled_qty=filled) if not filled:
                return None
            case OrderReport(status="open"):
                why = "the stop that holds the coins still stands"
            case OrderReport():
                why = "the stop that held the coins has sold some"
            case other:
                why = f"the stop that holds the coins is in doubt: {other}"
        return Rejection("spot", "not_sent", why)

    def _watch_sales(self, report: OrderReport) -> None:
        """What every report of an order teaches about stops that lock coins, and about sales in doubt."""
        if self.terms.kind is not InstrumentKind.SPOT or report.side is not Side.SELL or not is_ours(report.cid):
            return
        stops = self._stops.setdefault(report.symbol, {})
        if report.status == "open" and report.order_type.conditional:
            stops[report.cid] = None
        else:
            stops.pop(report.cid, None)
        sales = self._sales.setdefault(report.symbol, Sales())
        sales.hears(report.cid, self._clock.now_ns(), report.status != "open" and report.filled_qty > 0)

    # -------------------------------------------------------------------------------------------------------- orders

    def _placed(self, told: Told | Gone, order: Order) -> Answer:
        assert isinstance(told, Told)
        row = _read(told, _order)
        if isinstance(row, Failed):
            return Silence(row.why)
        if not row.id:
            return Silence("accepted, but without an order id")
        self._remember(row.id, order.cid)
        self._news.set()
        return Acked(row.id, (row.timestamp or 0) * 1_000_000)

    async def _ask_first(self, order: Order, refused: Rejection) -> Answer:
        """A limiter's no is documented as certain nowhere: the order is looked for before anybody sends it again."""
        if not promises.settles_absence(self.able):
            return Silence("refused by a limiter, which is not known to be certain here")
        match await self.order(order.symbol, order.cid):
            case OrderReport(venue_order_id=venue_order_id, venue_ns=venue_ns):
                return Acked(venue_order_id, venue_ns)
            case NotFound():  # an empty look so soon proves no absence: the order may show later
                return Silence(f"refused by a limiter, which is not certain, and not found yet: {refused.text}"[:300])
            case Failed(why=why):
                return Silence(f"refused by a limiter, and then not to be asked about: {why}")

    async def _cancel(self, cancel: Cancel, held: rows.Listing, trigger: bool) -> Answer:
        able = self.able
        extra: dict[str, Any] = {"trigger": True} if trigger else {}
        own = cancel.venue_order_id or self._numbers.get(cancel.cid, "")
        which: str | None
        if is_ours(cancel.cid) and able.exchange in BYBIT:  # by our id where that is possible: it names one order only
            which, extra = None, {"orderLinkId": cancel.cid, **extra}
        elif is_ours(cancel.cid) and able.cancels:
            which, extra = "", {"clientOrderId": cancel.cid, **extra}
            if able.exchange in SWAPS_IDS and able.kind is InstrumentKind.SPOT:
                extra["newClientOrderId"] = cancel_id(cancel.cid)
        elif own:
            which = own
        else:
            return Silence("the exchange's id of this order is not known, and it cancels by no other")
        arguments = (which, held.unified, extra)
        told = await self.orders.call("cancel_order", arguments, self.terms.request_seconds)
        answer = errors.answer_to_change(told, self._native)
        if answer is None:
            return Acked(own)
        self._heard(told, isinstance(answer, Rejection) and answer.kind == "rate_limited")
        return answer

    def _heard(self, told: Told | Gone, limited: bool) -> None:
        if limited and isinstance(told, Told):
            wait_ns = min(told.retry_after * SECOND, LIMITED_MAX_NS) if told.retry_after else LIMITED_NS
            self._throttle.close_until(self._clock.now_ns() + wait_ns, f"{self.terms.exchange}: {told.error}")

    def _remember(self, venue_order_id: str, cid: str) -> None:
        self._cids[venue_order_id] = cid
        if cid:
            self._numbers[cid] = venue_order_id
        for memory in (self._cids, self._numbers):
            if len(memory) > IDS_MAX:
                del memory[next(iter(memory))]

    # ------------------------------------------------------------------------------------------------------- looking

    async def _look(self, held: rows.Listing, cid: str, able: Abilities) -> OrderReport | Failed | None:
        """By its client id, in every place; None: in none. Where that id changes with a cancel, also by its number."""
        own = self._numbers.get(cid, "")
        if able.exchange in SWAPS_IDS and able.kind is InstrumentKind.SPOT:
            for venue_id, params in ((own, {}), ("", {"clientOrderId": cid}), ("", {"clientOrderId": cancel_id(cid)})):
                found = await self._look_at_one(venue_id, held, cid, params) if venue_id or params else None
                if found is not None:
                    return found
            return None
        for trigger in (False, True) if able.trigger_asks else (False,):
            extra = {"trigger": True} if trigger else {}
            if able.exchange in BYBIT:
                found = await self._look_in_lists(held, cid, {"orderLinkId": cid, **extra}, able)
            else:
                found = await self._look_at_one("", held, cid, {"clientOrderId": cid, **extra})
            if found is not None:
                return found
        return None

    async def _look_in_lists(
        self, held: rows.Listing, cid: str, params: dict[str, Any], able: Abilities
    ) -> OrderReport | Failed | None:
        for method in ("fetch_open_orders", able.closed_orders):
            if not method:
                continue
            part = await self._ask(method, (held.unified, None, None, params), _orders)
            if isinstance(part, Failed):
                return part
            reports = self._reports([row for row in part if self._cid_of(row) == cid], held)
            if isinstance(reports, Failed):
                return reports
            if reports:
                return reports[0]
        return None

    async def _look_at_one(
        self, venue_id: str, held: rows.Listing, cid: str, params: dict[str, Any]
    ) -> OrderReport | Failed | None:
        row = await self._one(venue_id, held, params)
        if row is None or isinstance(row, Failed):
            return row
        if not venue_id and self._cid_of(row) != cid:
            return Failed("asked for one order, and told of another")
        reports = self._reports([row], held, cid)
        return reports if isinstance(reports, Failed) else reports[0]

    async def _search(self, held: rows.Listing, cid: str, able: Abilities) -> OrderReport | Failed | None:
        """Where no look-up is: by the exchange's id, if we were told it, else through the lists of orders."""
        own = self._numbers.get(cid, "")
        if own and able.one_order:
            return await self._look_at_one(own, held, cid, {})
        return await self._look_in_lists(held, cid, {}, able)

    async def _one(self, venue_id: str, held: rows.Listing, params: dict[str, Any]) -> rows.OrderRow | Failed | None:
        """None: the exchange says that there is none."""
        more = {**params, "acknowledged": True} if self.able.exchange in BYBIT else params
        told = await self.questions.call("fetch_order", (venue_id, held.unified, more), QUESTION_SECONDS)
        if isinstance(told, Told) and told.sent and errors.known(told.error).kind is errors.Class.GONE:
            return None
        if isinstance(told, Gone) or told.error:
            return errors.failed(told)
        return _read(told, _order)

    def _cid_of(self, row: rows.OrderRow) -> str:
        """On Binance Spot the id of its cancel takes the place of an order's own; ours leads back to it."""
        return id_of_canceled(row.clientOrderId or "") or self._cids.get(row.id or "", "")

    def _reports(
        self, found: Iterable[rows.OrderRow], held: rows.Listing, cid: str = ""
    ) -> tuple[OrderReport, ...] | Failed:
        """`cid`: of the one order that was asked for."""

        def make(row: rows.OrderRow) -> OrderReport:
            report = rows.order_report(row, held, cid or self._cid_of(row))
            if report.cid:
                self._remember(report.venue_order_id, report.cid)
            self._watch_sales(report)
            return report

        return _each(found, make)

    # ----------------------------------------------------------------------------------------------------- executions

    async def _executions(self, since_ns: int) -> list[FillReport] | Failed:
        found: list[FillReport] = []
        for held in self._traded():
            part = await self._fills(held, since_ns // 1_000_000)
            if isinstance(part, Failed):
                return part
            found += part
        return found

    async def _fills(self, held: rows.Listing, since_ms: int) -> list[FillReport] | Failed:
        """Every execution of a symbol: the time is cut until each part fits into one answer, so that none is missed
        in whatever order the exchange tells them, and nothing can go on for ever."""
        able = self.able
        until_ms = max(self._venue_ns() // 1_000_000, since_ms) + 1_000
        span_ms = able.trades_days * DAY_MS - 60_000 if able.trades_days else until_ms - since_ms
        spans = [(start, min(start + span_ms, until_ms)) for start in range(since_ms, until_ms, span_ms)]
        found: dict[str, rows.TradeRow] = {}
        while spans:
            start_ms, end_ms = spans.pop()
            params = {"until": end_ms} if able.trades_days else {}
            arguments = (held.unified, start_ms, able.trades_limit, params)
            part = await self._ask("fetch_my_trades", arguments, _trades)
            if isinstance(part, Failed):
                return part
            if len(part) >= able.trades_limit:
                if not able.trades_days or end_ms - start_ms <= 1:
                    return Failed(f"{held.unified}: more executions than one answer shows")
                middle_ms = (start_ms + end_ms) // 2
                spans += [(start_ms, middle_ms), (middle_ms, end_ms)]
                continue
            found |= {f"{row.id}/{row.order}": row for row in part}
        asked_for = [row for row in found.values() if row.timestamp is None or row.timestamp >= since_ms]
        return await self._named(asked_for, held)

    async def _named(self, trades: Iterable[rows.TradeRow], held: rows.Listing) -> list[FillReport] | Failed:
        """With the client id of each one's order, which most exchanges do not tell with the execution."""
        reports: list[FillReport] = []
        for row in trades:
            cid = await self._whose(row, held)
            if isinstance(cid, Failed):
                return cid
            made = _each((row,), partial(rows.fill_report, held=held, cid=cid))
            if isinstance(made, Failed):
                return made
            reports += made
        return reports

    async def _whose(self, trade: rows.TradeRow, held: rows.Listing) -> str | Failed:
        venue_id = trade.order or ""
        if venue_id in self._cids:
            return self._cids[venue_id]
        if trade.clientOrderId:
            self._remember(venue_id, id_of_canceled(trade.clientOrderId))
            return id_of_canceled(trade.clientOrderId)
        if not (venue_id and self.able.one_order and self.able.marks):
            return ""
        row = await self._one(venue_id, held, {})
        if row is None:
            return Failed(f"an execution of order {venue_id}, of which nothing can be read yet")
        if isinstance(row, Failed):
            return row
        self._remember(venue_id, self._cid_of(row))
        return self._cid_of(row)

    async def _funding(self, since_ms: int) -> list[FundingReport] | Failed:
        """Since it was last told; asked for seldom: it comes a few times a day, and is dear where requests weigh."""
        asked_ms = self._venue_ns() // 1_000_000
        if asked_ms - self._funded_ms < FUNDING_MS:
            return []
        since_ms = min(since_ms, self._funded_ms or since_ms)
        found: list[FundingReport] = []
        for held in self._traded():
            part = await self._ask("fetch_funding_history", (held.unified, since_ms), _fundings)
            made = part if isinstance(part, Failed) else _each(part, partial(rows.funding_report, held=held))
            if isinstance(made, Failed):
                return made
            found += made
        self._funded_ms = asked_ms
        return found

    # --------------------------------------------------------------------------------------------------------- stream

    async def _listen(self, deliver: Deliver, ready: Callable[[], None]) -> None:
        """Executions and open orders, again and again. Raises StreamDown when that has failed too often."""
        told: dict[str, OrderReport] = {}
        booked: dict[tuple[str, str], int] = {}
        since_ns, failures, up = self._venue_ns() - OVERLAP_NS, 0, False
        while True:
            asked_ns = self._venue_ns()
            why = await self._poll(deliver, told, booked, since_ns)
            if why:
                failures += 1
                if failures >= FAILURES_MAX or not up:
                    raise StreamDown(why)
            else:
                failures, up, since_ns = 0, True, asked_ns - OVERLAP_NS
                booked = {key: at_ns for key, at_ns in booked.items() if at_ns >= since_ns}
                ready()
            with trio.move_on_after(self.terms.poll_seconds):
                await self._news.wait()
            self._news = trio.Event()

    async def _poll(
        self,
        deliver: Deliver,
        told: dict[str, OrderReport],
        booked: dict[tuple[str, str], int],
        since_ns: int,
    ) -> str:
        """What is new, delivered; "" or why it could not be asked for. Executions before the orders they ended."""
        opened = await self.open_orders()
        if isinstance(opened, Failed):
            return opened.why
        fills = await self._executions(since_ns)
        if isinstance(fills, Failed):
            return fills.why
        for fill in fills:
            if _key(fill) not in booked:
                deliver(fill)
                if fill.side is Side.SELL and fill.symbol in self._sales:
                    self._sales[fill.symbol].hears(fill.cid, self._clock.now_ns(), True)
            booked[_key(fill)] = fill.venue_ns
        now = {report.venue_order_id: report for report in opened}
        for venue_id, report in now.items():
            if told.get(venue_id) != report:
                deliver(report)
        for venue_id, report in told.items():
            if venue_id not in now and is_ours(report.cid):
                # What cannot be found here and now, the order's own look-ups and the reconciler go on asking for.
                ended = await self.order(report.symbol, report.cid)
                if isinstance(ended, OrderReport):
                    deliver(ended)
        told.clear()
        told.update(now)
        return ""

    # --------------------------------------------------------------------------------------------------------- inside

    async def _ask(
        self,
        method: str,
        arguments: tuple[Any, ...],
        decoder: "msgspec.json.Decoder[T]",
        began: list[Moment] | None = None,
    ) -> T | Failed:
        """`began` gets the moment when the request leaves: ccxt may have held it back for seconds."""
        on_door = None if began is None else lambda: began.append(self._moment())
        told = await self.questions.call(method, arguments, QUESTION_SECONDS, on_door)
        if isinstance(told, Gone) or told.error:
            limited = isinstance(told, Told) and errors.known(told.error).kind is errors.Class.ASK
            self._heard(told, limited)
            return errors.failed(told)
        return _read(told, decoder)

    async def _key(self, allow_withdrawal: bool) -> tuple[Remark, ...] | Failed:
        """ccxt has no unified question about a key: that it is let in is all that can be seen."""
        told = await self.questions.call("balance", ({},), QUESTION_SECONDS)
        if isinstance(told, Gone):
            return Failed(told.why)
        if errors.known(told.error).kind is errors.Class.HALT:
            return (Remark("key", False, f"the exchange does not accept the key: {told.error}: {told.text}"),)
        if told.error:
            return errors.failed(told)
        return key_remarks(KeyFacts(), environment(self.terms.host), allow_withdrawal)

    async def _mode(self, able: Abilities) -> tuple[Remark, ...] | Failed:
        if self.terms.kind is InstrumentKind.SPOT:
            return (Remark("mode", True, "spot, without borrowing"),)
        found = await self.positions()
        if isinstance(found, Failed):
            return (Remark("mode", False, found.why),) if found.why == HEDGE_MODE else found
        hedged: bool | Failed = False
        if able.position_mode and (traded := self._traded()):
            hedged = await self._ask("fetch_position_mode", (traded[0].unified,), _flag)
        if isinstance(hedged, Failed):
            return hedged
        holds = ", ".join(f"{report.symbol} {plain(report.qty)}" for report in found)
        text = HEDGE_MODE if hedged else f"one-way mode{', holds ' + holds if holds else ''}"
        return (Remark("mode", not hedged, text),)

    async def _read_again(self) -> Failed | None:
        """The rules of now. ccxt rounds by those that its worker has read: where they changed, it reads again."""
        before = self._traded()
        told = await self.questions.call("markets", (self._kind, True), QUESTION_SECONDS)
        if isinstance(told, Gone) or told.error:
            return errors.failed(told)
        self._learn_markets(told)
        if self._traded() != before:
            again = await self.orders.call("load", (True,), QUESTION_SECONDS)
            if isinstance(again, Gone) or again.error:
                return errors.failed(again)
        return None

    async def _set_leverage(self) -> Failed | None:
        if not self.terms.leverage:
            return None
        if not self.able.leverage:
            return Failed(f"ccxt cannot set a leverage at {self.terms.exchange}; set it there, and leave it out here")
        for held in self._traded():
            told = await self.orders.call("set_leverage", (self.terms.leverage, held.unified), QUESTION_SECONDS)
            answer = errors.answer_to_change(told, self._native)
            if not (answer is None or isinstance(answer, Acked)):
                return Failed(f"{held.unified}: leverage {self.terms.leverage} could not be set: {answer}")
        return None

    def _learn_markets(self, told: Told) -> None:
        found = _read(told, _markets)
        if isinstance(found, Failed):
            LOG.error("the list of markets cannot be read", exchange=self.terms.exchange, reason=found.why)
            return
        listings: dict[str, rows.Listing] = {}
        doubled: list[str] = []
        mode = self.questions.ready.precision_mode
        for raw in found:
            try:
                held = rows.listing(_market(raw), self.terms.exchange, self.terms.kind, mode)
            except (msgspec.MsgspecError, rows.BadRow) as error:  # that one cannot be traded
                LOG.debug("a market cannot be read", exchange=self.terms.exchange, reason=str(error))
                continue
            if held is not None:
                doubled += [held.instrument.symbol] if held.instrument.symbol in listings else []
                listings[held.instrument.symbol] = held
        for symbol in doubled:  # two markets of one name cannot be told apart
            listings.pop(symbol, None)
        self._listed = tuple(listings)
        self._listings |= listings
        self._by_unified = {held.unified: held for held in self._listings.values()}

    def _symbols_remarks(self) -> list[Remark]:
        unknown = [symbol for symbol in self.terms.symbols if symbol not in self._listings]
        if not unknown:
            return []
        return [Remark("symbols", False, f"{self.terms.exchange} does not list {', '.join(unknown)} (base and quote)")]

    def _traded(self) -> list[rows.Listing]:
        return [held for symbol in self.terms.symbols if (held := self._listings.get(symbol)) is not None]

    def _moment(self) -> Moment:
        return Moment(self._clock.now_ns(), self._clock.ticks_ns())

    def _venue_ns(self, began: list[Moment] | None = None) -> int:
        """The exchange's time as well as it is known: now, or when the first of these moments was."""
        ours_ns = began[0].wall_ns if began else self._clock.now_ns()
        return ours_ns + (self._known.best.offset_ns if self._known.best else 0)

    def _worker(
        self, name: str, first: Callable[[], tuple[str, tuple[Any, ...]]], hear: Callable[[Told], None]
    ) -> Worker:
        def tell(why: str) -> None:
            if why:
                LOG.warning("ccxt worker down", exchange=self.terms.exchange, worker=name, reason=why)
            else:
                LOG.info("ccxt worker up", exchange=self.terms.exchange, worker=name)

        return Worker(name, self._hello, first, hear, tell)

    def _hello(self) -> Hello:
        return Hello(
            exchange=self.terms.exchange,
            kind=self._kind,
            host=self.terms.host,
            credentials={name: secret.reveal() for name, secret in self.terms.credentials.items()},
            timeout_ms=SOCKET_MS,
            pace=2,
            window_ms=WINDOW_MS,
        )


_whole = msgspec.json.Decoder(int)
_flag = msgspec.json.Decoder(bool)
_order = msgspec.json.Decoder(rows.OrderRow)
_orders = msgspec.json.Decoder(list[rows.OrderRow])
_trades = msgspec.json.Decoder(list[rows.TradeRow])
_positions = msgspec.json.Decoder(list[rows.PositionRow])
_balances = msgspec.json.Decoder(list[rows.BalanceRow])
_fundings = msgspec.json.Decoder(list[rows.FundingRow])
_markets = msgspec.json.Decoder(list[msgspec.Raw])
_market = msgspec.json.Decoder(rows.MarketRow).decode


def _read(told: Told, decoder: "msgspec.json.Decoder[T]") -> T | Failed:
    try:
        return decoder.decode(told.value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Failed(f"an answer cannot be read: {error}")


def _each(raws: Iterable[T], make: Callable[[T], R | None]) -> tuple[R, ...] | Failed:
    try:
        return tuple(made for raw in raws if (made := make(raw)) is not None)
    except rows.BadRow as error:
        return Failed(f"a row cannot be read: {error}")


def _key(report: FillReport | FundingReport) -> tuple[str, str]:
    if isinstance(report, FundingReport):
        return report.symbol, f"funding/{report.funding_id}"
    return report.symbol, report.exec_id
