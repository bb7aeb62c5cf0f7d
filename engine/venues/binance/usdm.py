"""Binance USD-M Futures as a venue: requests out, rows in. What a row means is decided elsewhere.

Orders go over the WebSocket API while it is up, else by REST. Conditional orders are kept by a service of their own
(since 2025-12-09): another path, other numbers, not among the open orders; when triggered an order with the same client
id appears, and its fills may come first. Private events come by a listen key that has to be kept alive. One-way mode
only: in hedge mode a symbol has two positions, and the engine knows one.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from random import Random
from typing import Literal, TypeVar

import msgspec
import structlog
import trio
from msgspec import Raw, Struct

from engine.core.messages import (
    Acked,
    Answer,
    BalanceReport,
    Cancel,
    Failed,
    FillReport,
    FundingReport,
    Instrument,
    NotFound,
    Order,
    OrderReport,
    PositionReport,
    Side,
    Silence,
    TransferReport,
    VenueReport,
)
from engine.core.times import DAY, MILLISECOND, SECOND
from engine.venues.admission import Remark
from engine.venues.base import QuoteSource, StreamDown, Traits
from engine.venues.binance.api import WINDOW_MS, Api
from engine.venues.binance.decoding import Odd
from engine.venues.binance.errors import Class, Market, Verdict, judge, read_error
from engine.venues.binance.executions import Executions
from engine.venues.binance.hosts import Hosts
from engine.venues.binance.listening import Listening
from engine.venues.binance.names import Names
from engine.venues.binance.orders import (
    named,
    usdm_algo,
    usdm_batch,
    usdm_batch_cancel,
    usdm_modify,
    usdm_order,
)
from engine.venues.binance.paging import PAGE
from engine.venues.binance.session import Session
from engine.venues.binance.sign import Params
from engine.venues.binance.usdm_reports import (
    ALGO,
    UsdmAccount,
    UsdmAlgo,
    UsdmIncome,
    UsdmOrder,
    UsdmPosition,
    UsdmTrade,
    child_of,
    hear_usdm,
    usdm_algo_report,
    usdm_balances,
    usdm_fill,
    usdm_funding,
    usdm_order_report,
    usdm_positions,
    usdm_transfer,
)
from engine.venues.private_stream import Deliver, look_at_streams, private_stream

T = TypeVar("T")
LOG = structlog.get_logger("binance")
BUFFER = 10_000
KEY_SECONDS = 20 * 60.0  # between two signs of life of a listen key, which lives for an hour
KEY_AGAIN_SECONDS = 60.0  # after one that failed
KEY_FAILURES_MAX = 3
HISTORY_NS = 2 * DAY  # orders that ended without a fill are forgotten three days after they were made
# A question for incomes weighs as much as all others of a round together: while the stream is down and every two
# seconds somebody asks, the minute's weight would be used up, and an execution not be known for a minute (seed 219).
FUNDING_NS = 60 * SECOND
FUNDING_MORE_NS = FUNDING_NS + 30 * SECOND  # and so it asks for what earlier rounds did not: a round lasts no longer
WINDOW_NS = 7 * DAY  # of one question for executions or incomes
SYMBOLS_FEW = 20  # asked for one by one; more are cheaper all at once


class Terms(Struct, frozen=True, kw_only=True):
    """How one account trades here."""

    hosts: Hosts
    symbols: tuple[str, ...]  # that are traded; executions can only be asked for by symbol
    window_ms: int = WINDOW_MS
    order_socket: bool = True
    leverage: int = 0  # set at the start; 0: left as it is
    margin: Literal["", "ISOLATED", "CROSSED"] = ""  # likewise
    working_type: Literal["CONTRACT_PRICE", "MARK_PRICE"] = "CONTRACT_PRICE"  # whose price triggers a stop
    countdown_seconds: int = 0  # the venue cancels resting orders when it has not heard of us for so long; 0: never


class _Placed(Struct, frozen=True):
    orderId: int
    updateTime: int = 0


class _AlgoPlaced(Struct, frozen=True):
    algoId: int
    updateTime: int = 0


class _Key(Struct, frozen=True):
    listenKey: str


class UsdmVenue:
    """One account; implements `Venue`. `run` keeps its order socket up, beside everything else."""

    def __init__(self, terms: Terms, api: Api, rng: Random, quote: QuoteSource = lambda symbol: None) -> None:
        window_ns = terms.window_ms * MILLISECOND
        self.traits = Traits("binance-usdm", id_unique_for_ever=False, window_ns=window_ns, horizon_ns=HISTORY_NS)
        self.session = Session("binance-usdm", api, terms.hosts, terms.symbols, rng, terms.order_socket)
        self.api, self.socket, self.rules = api, self.session.socket, self.session.rules
        self._terms = terms
        self._names = Names()
        self._listening = Listening("binance-usdm", api.now_ns, hear_usdm, self._learn)
        self._executions = Executions(self._names, self._trades, usdm_fill, self._numbered, WINDOW_NS)
        self._quote = quote
        self._ready: set[str] = set()  # symbols whose leverage and margin are as configured
        self._algos: dict[str, str] = {}  # client id -> number of the algo order
        self._form = 0  # of the stream's path
        self._funding_asked_ns = self._transfers_asked_ns = 0

    async def run(self) -> None:
        """Keeps the order socket up and the venue's clock known, until cancelled; then closes every connection."""
        await self.session.keep(*((self._count_down,) if self._terms.countdown_seconds else ()))

    def close(self) -> None:
        """Nothing is held that `run` does not close."""

    async def look_over(self, allow_withdrawal: bool) -> tuple[Remark, ...] | Failed:
        """Clock, key and mode in words; Failed when the venue does not answer."""
        return await self.session.look_over(allow_withdrawal)

    async def look_at_streams(self) -> tuple[Remark, ...]:
        return await look_at_streams(self.stream, self.socket)

    async def set_leverage(self, symbol: str, leverage: int) -> Verdict | None:
        """None: done."""
        return await self._set("w1", "/fapi/v1/leverage", {"symbol": symbol, "leverage": leverage})

    async def set_margin(self, symbol: str, margin: str) -> Verdict | None:
        """None: done, or so already."""
        return await self._set("w1", "/fapi/v1/marginType", {"symbol": symbol, "marginType": margin})

    async def _set(self, cost: str, path: str, params: Params) -> Verdict | None:
        """A setting that is already as asked is no refusal."""
        done = await self.api.query(cost, "POST", path, params, _ANY)
        return done if isinstance(done, Verdict) and done.klass is not Class.DONE else None

    async def _set_up(self, symbol: str) -> Failed | None:
        """Leverage and margin type, where the config names them; the position mode is looked at, never changed."""
        refused = await self.set_margin(symbol, self._terms.margin) if self._terms.margin else None
        if refused is None and self._terms.leverage:
            refused = await self.set_leverage(symbol, self._terms.leverage)
        return None if refused is None else Failed(f"{symbol}: leverage or margin cannot be set: {refused.why}")

    # ------------------------------------------------------------------------------------------------------- queries

    async def instruments(self) -> tuple[Instrument, ...] | Failed:
        learnt = await self.session.learn_rules("w1", "/fapi/v1/exchangeInfo", {})
        for symbol in self.rules if not isinstance(learnt, Failed) else ():
            failed = await self._set_up(symbol) if symbol not in self._ready else None
            if failed is not None:
                return failed
            self._ready.add(symbol)  # what a person changes later is his
        return learnt

    async def server_time_ns(self) -> int | Failed:
        return await self.session.server_time_ns()

    async def balances(self) -> tuple[BalanceReport, ...] | Failed:
        account = await self.api.query("w5", "GET", "/fapi/v3/account", {}, _ACCOUNT)
        if isinstance(account, Verdict):
            return Failed(account.why)
        try:
            return usdm_balances(account)
        except Odd as error:
            return Failed(f"balances: {error}")

    async def positions(self) -> tuple[PositionReport, ...] | Failed:
        asked_ns = self.api.now_ns()
        rows = await self.api.query("w5", "GET", "/fapi/v3/positionRisk", {}, _POSITIONS)
        if isinstance(rows, Verdict):
            return Failed(rows.why)
        try:
            return usdm_positions(rows, asked_ns)
        except Odd as error:
            return Failed(f"positions: {error}")

    async def open_orders(self) -> tuple[OrderReport, ...] | Failed:
        """Plain and conditional. A conditional one that was just triggered may be in both lists: its order counts."""
        reports: dict[str, OrderReport] = {}
        for params in self._by_symbol():
            cost = "w1" if params else "w40"
            algos = await self.api.query(cost, "GET", "/fapi/v1/openAlgoOrders", params, _ALGOS)
            orders = await self.api.query(cost, "GET", "/fapi/v1/openOrders", params, _ORDERS)
            if isinstance(algos, Verdict) or isinstance(orders, Verdict):
                return Failed("; ".join(v.why for v in (algos, orders) if isinstance(v, Verdict)))
            try:
                for report in (*map(usdm_algo_report, algos), *map(usdm_order_report, orders)):
                    self._learn(report)
                    reports[f"{report.symbol}/{report.cid or report.venue_order_id}"] = report
            except Odd as error:
                return Failed(f"open orders: {error}")
        self.session.resting.read(reports.values())
        return tuple(reports.values())

    async def order(self, symbol: str, cid: str) -> OrderReport | NotFound | Failed:
        """Among the orders and among the conditional ones, where it was placed first."""
        self._names.asks(symbol, cid)
        ways = (self._plain_order, self._conditional_order)
        for look in reversed(ways) if cid in self._algos else ways:
            found = await look(symbol, cid)
            if not isinstance(found, NotFound):
                return found
        return NotFound(cid)

    async def fills(self, since_ns: int, cid: str | None = None) -> tuple[FillReport | FundingReport, ...] | Failed:
        now_ns = self.api.now_ns()
        # One without a memory has nothing before its beginning, where `reach_ns` puts it.
        funding_ns = self.session.reach_ns(since_ns - FUNDING_MORE_NS if since_ns else 0, now_ns)
        since_ns = self.session.reach_ns(since_ns, now_ns)
        found = await self._executions.found(self.session.traded(), since_ns, now_ns, cid)
        if cid is not None or isinstance(found, Failed):
            return found
        if why := self._listening.witness.missed(found, now_ns):
            self._form += 1
            self._listening.end(why)
        if now_ns - self._funding_asked_ns < FUNDING_NS:
            return found
        funding = await self._incomes("FUNDING_FEE", funding_ns, now_ns, usdm_funding)
        if isinstance(funding, Failed):
            return funding
        self._funding_asked_ns = now_ns
        return tuple(sorted((*found, *funding), key=lambda report: report.venue_ns))

    async def transfers(self, since_ns: int) -> tuple[TransferReport, ...] | Failed:
        """Asked for as seldom as funding is, and at once when the stream has told of one."""
        now_ns = self.api.now_ns()
        if now_ns - self._transfers_asked_ns < FUNDING_NS and not self._listening.transferred:
            return ()
        self._listening.transferred = False  # one that comes while this is asked is asked for again
        begin_ns = self.session.reach_ns(since_ns - FUNDING_MORE_NS if since_ns else 0, now_ns)
        found = await self._incomes("TRANSFER", begin_ns, now_ns, usdm_transfer)
        if isinstance(found, Failed):
            self._listening.transferred = True
            return found
        self._transfers_asked_ns = now_ns
        return tuple(found)

    # ------------------------------------------------------------------------------------------------------ requests

    async def submit(self, order: Order, on_wire: Callable[[], None]) -> Answer:
        if (unfit := self.session.unfit(order, self._quote(order.symbol))) is not None:
            return unfit
        if (refused := await self.api.synced()) is not None:
            return refused.answer()  # nor could it be told by its age later from one of an earlier life
        self._names.sends(order.symbol, order.cid, self.api.sure_ns())
        if order.order_type.conditional:
            return await self._submit_algo(order, on_wire)
        where = ("order.place", "POST", "/fapi/v1/order")
        params = {**usdm_order(order), **self.api.window(order)}
        done = await self.api.act(self.socket, *where, params, _PLACED, on_wire)
        if isinstance(done, Verdict):
            return done.answer()
        self._names.learn(order.symbol, str(done.orderId), order.cid)
        self.session.resting.takes(order)
        return _acked(done)

    async def cancel(self, cancel: Cancel) -> Answer:
        number = cancel.venue_order_id or self._names.number(cancel.cid)
        conditional = number.startswith(ALGO) or (not number and cancel.cid in self._algos)
        # One that was triggered is an order by now; one that we know nothing of may be either.
        first, second = self._cancel_order, self._cancel_algo
        if conditional:
            first, second = second, first
        done = await first(cancel, number)
        missed = isinstance(done, Verdict) and done.kind == "not_found"
        if missed and (conditional or not number):
            done = await second(cancel, "")
        return done.answer() if isinstance(done, Verdict) else done

    async def cancel_all(self, symbol: str) -> Answer:
        """Every open order of a symbol, conditional ones included, whosever it is."""
        for path in ("/fapi/v1/algoOpenOrders", "/fapi/v1/allOpenOrders"):
            done = await self.api.send("DELETE", path, {"symbol": symbol}, _ANY)
            if isinstance(done, Verdict):
                return done.answer()
        return Acked("")

    async def amend(self, symbol: str, cid: str, side: Side, qty: Decimal, price: Decimal) -> Answer:
        """Limit orders only; loses its place in the queue."""
        where = ("order.modify", "PUT", "/fapi/v1/order")
        done = await self.api.act(self.socket, *where, usdm_modify(symbol, cid, side, qty, price), _PLACED)
        if isinstance(done, Verdict):
            return Acked(self._names.number(cid)) if done.code == "-5027" else done.answer()  # it is so already
        return _acked(done)

    async def submit_batch(self, orders: Sequence[Order], on_wire: Callable[[], None]) -> tuple[Answer, ...]:
        """Up to five plain orders in one request, each with its own answer."""
        for order in orders:
            self._names.sends(order.symbol, order.cid, self.api.sure_ns())
        params = {**usdm_batch(orders), **self.api.window(*orders)}
        done = await self.api.send("POST", "/fapi/v1/batchOrders", params, _RAWS, on_wire)
        if isinstance(done, Verdict):
            return tuple(done.answer() for _ in orders)
        answers = [self._of_batch(order, raw) for order, raw in zip(orders, done, strict=False)]
        missing = len(orders) - len(answers)
        return (*answers, *(Silence("the answer to the batch leaves it out") for _ in range(missing)))

    async def cancel_batch(self, symbol: str, cids: Sequence[str]) -> tuple[Answer, ...]:
        """Up to ten plain orders of one symbol, each with its own answer."""
        params = usdm_batch_cancel(symbol, cids)
        done = await self.api.send("DELETE", "/fapi/v1/batchOrders", params, _RAWS)
        if isinstance(done, Verdict):
            return tuple(done.answer() for _ in cids)
        answers = [_element(raw) for raw in done[: len(cids)]]
        missing = len(cids) - len(answers)
        return (*answers, *(Silence("the answer to the batch leaves it out") for _ in range(missing)))

    async def count_down(self, symbol: str, seconds: int) -> Verdict | None:
        """The venue cancels the symbol's orders after so long, unless told again; 0: never. None: done.

        Conditional orders are not counted on to be among them.
        """
        params: Params = {"symbol": symbol, "countdownTime": seconds * 1000}
        return await self._set("w10", "/fapi/v1/countdownCancelAll", params)

    # -------------------------------------------------------------------------------------------------------- stream

    def stream(self) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[VenueReport]]:
        return private_stream(self._listen, BUFFER)

    async def _listen(self, deliver: Deliver, ready: Callable[[], None]) -> None:
        """Raises StreamDown, and whatever a connection raises."""
        key = await self.api.query("w1", "POST", "/fapi/v1/listenKey", {}, _KEY, sign=False)
        if isinstance(key, Verdict):
            raise StreamDown(f"no listen key: {key.why}")
        forms = self._terms.hosts.private
        url = self._terms.hosts.stream + forms[self._form % len(forms)].format(key=key.listenKey)
        await self._listening.run(url, deliver, ready, None, self._keep_key)

    async def _keep_key(self) -> None:
        """Raises StreamDown when the key is dead, or cannot be kept alive for long."""
        failures = 0
        while True:
            await trio.sleep(KEY_AGAIN_SECONDS if failures else KEY_SECONDS)
            kept = await self.api.query("w1", "PUT", "/fapi/v1/listenKey", {}, _ANY, sign=False)
            failures = failures + 1 if isinstance(kept, Verdict) else 0
            if isinstance(kept, Verdict) and (kept.code == "-1125" or failures >= KEY_FAILURES_MAX):
                raise StreamDown(f"the listen key could not be kept alive: {kept.why}")

    async def _count_down(self) -> None:
        """For ever, four times as often as it would run out."""
        while True:
            for symbol in self.session.traded():
                refused = await self.count_down(symbol, self._terms.countdown_seconds)
                if refused is not None:
                    LOG.warning("the dead-man's switch was not set", symbol=symbol, reason=refused.why)
            await trio.sleep(self._terms.countdown_seconds / 4)

    # -------------------------------------------------------------------------------------------------------- inside

    def _by_symbol(self) -> tuple[Params, ...]:
        traded = self.session.traded()
        return tuple({"symbol": symbol} for symbol in traded) if len(traded) <= SYMBOLS_FEW else ({},)

    async def _submit_algo(self, order: Order, on_wire: Callable[[], None]) -> Answer:
        self._algos.setdefault(order.cid, "")
        where = ("algoOrder.place", "POST", "/fapi/v1/algoOrder")
        params = {**usdm_algo(order, self._terms.working_type), **self.api.window(order)}
        done = await self.api.act(self.socket, *where, params, _ALGO_PLACED, on_wire)
        if isinstance(done, Verdict):
            return done.answer()
        self._algos[order.cid] = str(done.algoId)
        self.session.resting.takes(order)
        return Acked(f"{ALGO}{done.algoId}", done.updateTime * MILLISECOND)

    async def _cancel_order(self, cancel: Cancel, number: str) -> Acked | Verdict:
        params = named(cancel.symbol, cancel.cid, number if number.isdecimal() else "")
        done = await self.api.act(self.socket, "order.cancel", "DELETE", "/fapi/v1/order", params, _PLACED)
        return done if isinstance(done, Verdict) else _acked(done)

    async def _cancel_algo(self, cancel: Cancel, number: str) -> Acked | Verdict:
        known = number.removeprefix(ALGO) or self._algos.get(cancel.cid, "")
        params: Params = {"algoId": int(known)} if known else {"clientAlgoId": cancel.cid}
        done = await self.api.act(self.socket, "algoOrder.cancel", "DELETE", "/fapi/v1/algoOrder", params, _ALGO_PLACED)
        return done if isinstance(done, Verdict) else Acked(f"{ALGO}{done.algoId}")

    def _of_batch(self, order: Order, raw: Raw) -> Answer:
        answer = _element(raw)
        if isinstance(answer, Acked):
            self._names.learn(order.symbol, answer.venue_order_id, order.cid)
        return answer

    async def _plain_order(self, symbol: str, cid: str) -> OrderReport | NotFound | Failed:
        row = await self.api.query("w1", "GET", "/fapi/v1/order", {"symbol": symbol, "origClientOrderId": cid}, _ORDER)
        if isinstance(row, Verdict):
            return NotFound(cid) if row.kind == "not_found" else Failed(row.why)
        if self._names.is_older(cid, row.time * MILLISECOND):
            return NotFound(cid)  # of an earlier life, under the same id
        if (row.symbol, row.clientOrderId) != (symbol, cid):
            return Failed(f"asked for {cid} in {symbol}, told of {row.clientOrderId[:40]!r} in {row.symbol[:40]!r}")
        return self._known(row)

    async def _conditional_order(self, symbol: str, cid: str) -> OrderReport | NotFound | Failed:
        row = await self.api.query("w1", "GET", "/fapi/v1/algoOrder", {"clientAlgoId": cid}, _ALGO_ROW)
        if isinstance(row, Verdict):
            return NotFound(cid) if row.kind == "not_found" else Failed(row.why)
        if row.symbol != symbol or self._names.is_older(cid, row.createTime * MILLISECOND):
            return NotFound(cid)
        child = child_of(row)
        if child:
            found = await self.api.query("w1", "GET", "/fapi/v1/order", named(symbol, cid, child), _ORDER)
            if not isinstance(found, Verdict):
                return self._known(found)
            if found.kind != "not_found" or row.algoStatus == "FINISHED":
                return Failed(f"the order that it became: {found.why}")
        try:
            report = usdm_algo_report(row)
        except Odd as error:
            return Failed(f"algo order {row.algoId}: {error}")
        self._learn(report)
        return report

    async def _trades(self, params: Params) -> tuple[UsdmTrade, ...] | Verdict:
        return await self.api.query("w5", "GET", "/fapi/v1/userTrades", params, _TRADES)

    async def _numbered(self, symbol: str, number: int) -> OrderReport | NotFound | Failed:
        row = await self.api.query("w1", "GET", "/fapi/v1/order", {"symbol": symbol, "orderId": number}, _ORDER)
        if isinstance(row, Verdict):
            return NotFound("") if row.kind == "not_found" else Failed(row.why)
        return self._known(row)

    async def _incomes(
        self, kind: str, since_ns: int, now_ns: int, read: Callable[[UsdmIncome], T]
    ) -> list[T] | Failed:
        """Of one type, page by page; one that brings nothing new ends it."""
        found: dict[str, T] = {}
        start = since_ns
        while start <= now_ns:
            params: Params = {
                "incomeType": kind,
                "startTime": start // MILLISECOND,
                "endTime": (start + WINDOW_NS) // MILLISECOND - 1,
                "limit": PAGE,
            }
            rows = await self.api.query("w30", "GET", "/fapi/v1/income", params, _INCOMES)
            if isinstance(rows, Verdict):
                return Failed(f"{kind}: {rows.why}")
            before = len(found)
            try:
                for row in rows:
                    found[str(row.tranId)] = read(row)
            except Odd as error:
                return Failed(f"{kind}: {error}")
            full = len(rows) >= PAGE and len(found) > before
            start = max(row.time for row in rows) * MILLISECOND if full else start + WINDOW_NS
        return list(found.values())

    def _known(self, row: UsdmOrder) -> OrderReport | Failed:
        try:
            report = usdm_order_report(row)
        except Odd as error:
            return Failed(f"order {row.orderId}: {error}")
        self._learn(report)
        return report

    def _learn(self, report: VenueReport) -> None:
        if isinstance(report, FillReport):
            self._listening.witness.hears(report)
        elif isinstance(report, OrderReport):
            self._names.learn_from(report)
            self.session.resting.hears(report)
            if report.venue_order_id.startswith(ALGO):
                self._names.asks(report.symbol, report.cid)
                self._algos[report.cid] = report.venue_order_id.removeprefix(ALGO)
                if len(self._algos) > 10_000:
                    del self._algos[next(iter(self._algos))]


def _element(raw: Raw) -> Answer:
    """One element of a batch's answer: an order, or why there is none."""
    error = read_error(bytes(raw))
    if error is not None:
        return judge(Market.USDM, 400, error).answer()
    try:
        return _acked(_PLACED.decode(bytes(raw)))
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return Silence("an answer in the batch that cannot be read")


def _acked(placed: _Placed) -> Acked:
    return Acked(str(placed.orderId), placed.updateTime * MILLISECOND)


_ACCOUNT = msgspec.json.Decoder(UsdmAccount)
_POSITIONS = msgspec.json.Decoder(tuple[UsdmPosition, ...])
_ORDER = msgspec.json.Decoder(UsdmOrder)
_ORDERS = msgspec.json.Decoder(tuple[UsdmOrder, ...])
_ALGO_ROW = msgspec.json.Decoder(UsdmAlgo)
_ALGOS = msgspec.json.Decoder(tuple[UsdmAlgo, ...])
_TRADES = msgspec.json.Decoder(tuple[UsdmTrade, ...])
_INCOMES = msgspec.json.Decoder(tuple[UsdmIncome, ...])
_PLACED = msgspec.json.Decoder(_Placed)
_ALGO_PLACED = msgspec.json.Decoder(_AlgoPlaced)
_KEY = msgspec.json.Decoder(_Key)
_ANY = msgspec.json.Decoder(Raw)
_RAWS = msgspec.json.Decoder(tuple[Raw, ...])
