"""Binance Spot as a venue: requests out, rows in. What a row means and which way an order goes is decided elsewhere.

Orders go over the WebSocket API while it is up, else by REST. Private events come by a signed subscription on a
connection of their own (listen keys are gone since 2026-02-20). A client id only guards while its order is open, and a
cancel takes it over: cancels bear an id that leads back, and orders are asked for by their number where it is known.
"""

import json
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from random import Random

import msgspec
import structlog
import trio
from msgspec import Raw, Struct, field
from trio_websocket import WebSocketConnection

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
    NotFound,
    Order,
    OrderReport,
    PositionReport,
    Rejection,
    Side,
    Silence,
    State,
    TransferReport,
    VenueReport,
)
from engine.core.times import DAY, MILLISECOND, SECOND
from engine.venues.admission import Remark
from engine.venues.base import QuoteSource, StreamDown, Traits
from engine.venues.binance.api import WINDOW_MS, Api, hear_answer
from engine.venues.binance.decoding import Odd
from engine.venues.binance.errors import ErrorBody, Market, Verdict, judge, read_error
from engine.venues.binance.executions import Executions
from engine.venues.binance.hosts import Hosts
from engine.venues.binance.listening import Listening
from engine.venues.binance.most_held import MostHeld
from engine.venues.binance.names import Names
from engine.venues.binance.orders import (
    cancel_id,
    named,
    spot_amend,
    spot_cancel,
    spot_cancel_replace,
    spot_order,
)
from engine.venues.binance.session import Session
from engine.venues.binance.sign import Params, frame
from engine.venues.binance.spot_cover import (
    HELD,
    Hold,
    Replace,
    Sales,
    fired,
    held_report,
    holds_coins,
    reached,
    way,
)
from engine.venues.binance.spot_reports import (
    SpotAccount,
    SpotBalance,
    SpotOrder,
    SpotTrade,
    hear_spot,
    spot_balances,
    spot_fill,
    spot_order_report,
)
from engine.venues.private_stream import Deliver, look_at_streams, private_stream, receive_bytes
from engine.venues.throttle import Lane

LOG = structlog.get_logger("binance")
BUFFER = 10_000
SUBSCRIBE_SECONDS = 10.0
WATCH_SECONDS = 0.1  # between looks at the quotes that held targets wait for
FIRE_AGAIN_NS = 2 * SECOND  # after a target that surely did nothing, as an exit of the engine's own waits
SYMBOLS_FEW = 13  # asked for one by one; more are cheaper all at once
HISTORY_NS = 30 * DAY  # unfilled orders are forgotten after 90


class Terms(Struct, frozen=True, kw_only=True):
    """How one account trades here."""

    hosts: Hosts
    symbols: tuple[str, ...]  # that are traded; executions can only be asked for by symbol
    window_ms: int = WINDOW_MS
    order_socket: bool = True


class _Placed(Struct, frozen=True):
    orderId: int
    transactTime: int = 0


class _Replaced(Struct, frozen=True):
    newOrderResponse: _Placed


class _Halves(Struct, frozen=True):
    """What became of the two halves of a cancel-replace; by REST inside `data`, over the socket alone."""

    cancelResult: str = ""
    newOrderResult: str = ""
    newOrderResponse: Raw = field(default_factory=Raw)
    data: Raw = field(default_factory=Raw)


class SpotVenue:
    """One account; implements `Venue`. `run` keeps its order socket up, beside everything else."""

    def __init__(self, terms: Terms, api: Api, rng: Random, quote: QuoteSource) -> None:
        window_ns = terms.window_ms * MILLISECOND
        self.traits = Traits("binance-spot", id_unique_for_ever=False, window_ns=window_ns, horizon_ns=HISTORY_NS)
        self.session = Session("binance-spot", api, terms.hosts, terms.symbols, rng, terms.order_socket)
        self.api, self.socket, self.rules = api, self.session.socket, self.session.rules
        self._terms = terms
        self._quote = quote
        self._names = Names()
        self._listening = Listening("binance-spot", api.now_ns, hear_spot, self._learn)
        self._executions = Executions(self._names, self._trades, spot_fill, self._numbered, DAY)
        self._most_held = MostHeld()
        self._standing: dict[str, dict[str, Decimal]] = {}  # symbol -> our stops that hold coins, oldest first
        self._held: dict[str, Order] = {}  # targets that wait with us
        self._unsure: dict[str, int] = {}  # those that an earlier process may have sent, since when
        self._fire_ns: dict[str, int] = {}  # of those that were refused: not again before
        self._let_go: dict[str, OrderReport] = {}  # and those that do no more
        self._closing: dict[str, trio.Lock] = {}
        self._sales: dict[str, Sales] = {}

    async def run(self) -> None:
        """Keeps the order socket up and the venue's clock known, until cancelled; then closes every connection."""
        await self.session.keep()

    def held(self) -> tuple[str, ...]:
        """Client ids of the targets that wait with us, of which the venue knows nothing."""
        return tuple(self._held)

    def close(self) -> None:
        """Nothing is held that `run` does not close."""

    async def look_over(self, allow_withdrawal: bool) -> tuple[Remark, ...] | Failed:
        """Clock, key and account in words; Failed when the venue does not answer."""
        return await self.session.look_over(allow_withdrawal)

    async def look_at_streams(self) -> tuple[Remark, ...]:
        return await look_at_streams(self.stream, self.socket)

    def take_back(self, orders: Iterable[Order]) -> None:
        """Targets that waited with the process before this one; whether one has gone out is asked before it goes."""
        for order in orders:
            if order.state is State.OPEN and order.venue_order_id.startswith(HELD):
                self._held[order.cid] = order
                self._unsure[order.cid] = self.api.clock.now_ns()

    # ------------------------------------------------------------------------------------------------------- queries

    async def instruments(self) -> tuple[Instrument, ...] | Failed:
        params = {"symbols": json.dumps(list(self._terms.symbols), separators=(",", ":"))}
        return await self.session.learn_rules("w20", "/api/v3/exchangeInfo", params)

    async def server_time_ns(self) -> int | Failed:
        return await self.session.server_time_ns()

    async def balances(self) -> tuple[BalanceReport, ...] | Failed:
        account = await self._account()
        return Failed(account.why) if isinstance(account, Verdict) else _balances(account.balances)

    async def positions(self) -> tuple[PositionReport, ...] | Failed:
        """What the wallet holds of each base currency: the venue itself keeps no positions, and the other rows may
        be whatever they are."""
        asked_ns = self.api.now_ns()
        account = await self._account()
        if isinstance(account, Verdict):
            return Failed(account.why)
        bases = {rules.instrument.base for rules in self.rules.values()}
        balances = _balances(row for row in account.balances if row.asset in bases)
        if isinstance(balances, Failed):
            return balances
        totals = {b.asset: b.total for b in balances}
        for symbol, rules in self.rules.items():
            self._most_held.reads(symbol, totals.get(rules.instrument.base, ZERO))
        return tuple(
            PositionReport(symbol, totals[rules.instrument.base], ZERO, asked_ns, wallet=True)
            for symbol, rules in self.rules.items()
            if totals.get(rules.instrument.base)
        )

    async def open_orders(self) -> tuple[OrderReport, ...] | Failed:
        reports: list[OrderReport] = []
        traded = self.session.traded()
        for symbol in traded if len(traded) <= SYMBOLS_FEW else ("",):
            found = await self._open_orders_of(symbol)
            if isinstance(found, Failed):
                return found
            reports += (report for report in found if report.symbol in traded)
        self.session.resting.read(reports)
        return (*reports, *(held_report(order) for order in self._held.values()))

    async def order(self, symbol: str, cid: str) -> OrderReport | NotFound | Failed:
        if (held := self._held.get(cid)) is not None and cid not in self._unsure:
            return held_report(held)
        if (let_go := self._let_go.get(cid)) is not None:
            return let_go
        self._names.asks(symbol, cid)
        number = self._names.number(cid)
        by_number = (named(symbol, cid, number),) if number else ()
        # After a cancel the order goes by the cancel's id; ours leads back to it.
        for how in (*by_number, named(symbol, cid), named(symbol, cancel_id(cid))):
            row = await self.api.query("w4", "GET", "/api/v3/order", how, _ORDER)
            if isinstance(row, Verdict):
                if row.kind == "not_found":
                    continue
                return Failed(row.why)
            if self._names.is_older(cid, row.time * MILLISECOND):
                continue  # of an earlier life, under the same id
            if row.symbol != symbol:
                return Failed(f"asked for {cid} in {symbol}, told of one in {row.symbol[:40]!r}")
            return self._known(row, cid)
        if symbol in self._sales:
            dead_ns = self.traits.window_ns + self.traits.queue_ns + SECOND
            self._sales[symbol].absent(cid, self.api.clock.now_ns(), dead_ns)
        held = self._held.get(cid)
        return held_report(held) if held is not None else NotFound(cid)

    async def fills(self, since_ns: int, cid: str | None = None) -> tuple[FillReport | FundingReport, ...] | Failed:
        now_ns = self.api.now_ns()
        since_ns = self.session.reach_ns(since_ns, now_ns)
        listed = await self._executions.found(self.session.traded(), since_ns, now_ns, cid)
        if cid is None and not isinstance(listed, Failed) and (why := self._listening.witness.missed(listed, now_ns)):
            self._listening.end(why)
        return listed

    async def transfers(self, since_ns: int) -> tuple[TransferReport, ...] | Failed:
        """What the stream has told. A trading key cannot ask for more: what was moved while the stream was down shows
        in the balances alone, and is told as a change that nothing explains."""
        await trio.lowlevel.checkpoint()
        return tuple(t for t in self._listening.transfers.values() if t.venue_ns >= since_ns)

    # ------------------------------------------------------------------------------------------------------ requests

    async def submit(self, order: Order, on_wire: Callable[[], None]) -> Answer:
        if (unfit := self.session.unfit(order, self._quote(order.symbol))) is not None:
            return unfit
        rules = self.rules.get(order.symbol)
        if rules is not None and (why := self._most_held.too_much(order, rules.position_max)):
            return Rejection("filter", "unsent", why)
        if (refused := await self.api.synced()) is not None:
            return refused.answer()  # nor could it be told by its age later from one of an earlier life
        self._names.sends(order.symbol, order.cid, self.api.sure_ns())
        if order.side.sign > 0:
            return await self._place(order, on_wire)
        lock = self._closing.setdefault(order.symbol, trio.Lock())
        async with lock:
            return await self._close(order, on_wire)

    async def cancel(self, cancel: Cancel) -> Answer:
        if cancel.cid in self._unsure and isinstance(found := await self.order(cancel.symbol, cancel.cid), Failed):
            return Rejection("not_sent", "not_sent", found.why)
        if (held := self._held.pop(cancel.cid, None)) is not None:
            return self._let(held, "canceled", "by request")
        number = cancel.venue_order_id if cancel.venue_order_id.isdecimal() else self._names.number(cancel.cid)
        params = spot_cancel(cancel.symbol, cancel.cid, number)
        done = await self.api.act(self.socket, "order.cancel", "DELETE", "/api/v3/order", params, _PLACED)
        if isinstance(done, Verdict):
            return done.answer()
        self._standing.get(cancel.symbol, {}).pop(cancel.cid, None)
        return _acked(done)

    async def cancel_all(self, symbol: str) -> Answer:
        """Every open order of a symbol, whosever it is."""
        for cid in [cid for cid, order in self._held.items() if order.symbol == symbol]:
            self._let(self._held.pop(cid), "canceled", "with all others")
        where = ("openOrders.cancelAll", "DELETE", "/api/v3/openOrders")
        done = await self.api.act(self.socket, *where, {"symbol": symbol}, _ANY)
        if isinstance(done, Verdict):
            return done.answer()
        self._standing.pop(symbol, None)
        return Acked("")

    async def amend(self, symbol: str, cid: str, qty: Decimal) -> Answer:
        """To a smaller quantity, keeping its place in the queue. For anything else a new order must be made."""
        where = ("order.amend.keepPriority", "PUT", "/api/v3/order/amend/keepPriority")
        done = await self.api.act(self.socket, *where, spot_amend(symbol, cid, qty), _ANY)
        return done.answer() if isinstance(done, Verdict) else Acked(self._names.number(cid))

    async def replace(self, standing_cid: str, order: Order, on_wire: Callable[[], None] = lambda: None) -> Answer:
        """The new order in the place of a standing one, which must still be there: never both."""
        where = ("order.cancelReplace", "POST", "/api/v3/order/cancelReplace")
        params = {**spot_cancel_replace(standing_cid, order), **self.api.window(order)}
        done = await self.api.act(self.socket, *where, params, _REPLACED, on_wire)
        standing = self._standing.setdefault(order.symbol, {})
        if isinstance(done, Verdict):
            return self._half_replaced(standing_cid, standing, done)
        standing.pop(standing_cid, None)
        self._names.learn(order.symbol, str(done.newOrderResponse.orderId), order.cid)
        return _acked(done.newOrderResponse)

    # -------------------------------------------------------------------------------------------------------- stream

    def stream(self) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[VenueReport]]:
        return private_stream(self._listen, BUFFER)

    async def _listen(self, deliver: Deliver, ready: Callable[[], None]) -> None:
        """Raises StreamDown, and whatever a connection raises."""
        why = await self.api.synced()
        if why is not None:
            raise StreamDown(f"not signed: {why.why}")

        async def subscribe(socket: WebSocketConnection) -> None:
            with trio.fail_after(SUBSCRIBE_SECONDS):
                await self._subscribe(socket, deliver)

        await self._listening.run(self._terms.hosts.orders, deliver, ready, subscribe, self._watch_targets)

    async def _subscribe(self, socket: WebSocketConnection, deliver: Deliver) -> None:
        asked = frame("subscribe", "userDataStream.subscribe.signature", self.api.signed({}))
        await socket.send_message(asked.decode())
        while True:
            raw = await receive_bytes(socket)
            self._listening.hear(raw, deliver)
            if hear_answer(raw).number == "subscribe":
                return

    # -------------------------------------------------------------------------------------------------------- inside

    async def _account(self) -> SpotAccount | Verdict:
        return await self.api.query("w20", "GET", "/api/v3/account", {"omitZeroBalances": "true"}, _ACCOUNT)

    async def _open_orders_of(self, symbol: str) -> list[OrderReport] | Failed:
        """ "" for all symbols."""
        params: Params = {"symbol": symbol} if symbol else {}
        rows = await self.api.query("w6" if symbol else "w80", "GET", "/api/v3/openOrders", params, _ORDERS)
        if isinstance(rows, Verdict):
            return Failed(rows.why)
        try:
            reports = [spot_order_report(row) for row in rows]
        except Odd as error:
            return Failed(f"open orders: {error}")
        for known in (symbol,) if symbol else self.session.traded():
            self._standing.setdefault(known, {})
            self._most_held.lists(known)
        for report in reports:
            self._learn(report)
        return reports

    async def _trades(self, params: Params) -> tuple[SpotTrade, ...] | Verdict:
        cost = "w5" if "orderId" in params else "w20"
        return await self.api.query(cost, "GET", "/api/v3/myTrades", params, _TRADES)

    async def _numbered(self, symbol: str, number: int) -> OrderReport | NotFound | Failed:
        row = await self.api.query("w4", "GET", "/api/v3/order", {"symbol": symbol, "orderId": number}, _ORDER)
        if isinstance(row, Verdict):
            return NotFound("") if row.kind == "not_found" else Failed(row.why)
        return self._known(row, None)

    def _known(self, row: SpotOrder, cid: str | None) -> OrderReport | Failed:
        """A row as a report, under the id that it was asked for by: since then its cancel may have taken its place."""
        try:
            report = spot_order_report(row)
        except Odd as error:
            return Failed(f"order {row.orderId}: {error}")
        report = msgspec.structs.replace(report, cid=cid) if cid is not None else report
        self._learn(report)
        return report

    def _learn(self, report: VenueReport) -> None:
        if isinstance(report, OrderReport | FillReport) and self._unsure.pop(report.cid, None) is not None:
            self._held.pop(report.cid, None)  # the venue has it: the earlier process had sent it
        if isinstance(report, FillReport):
            self._hear_sale(report.symbol, report.cid, report.side, True)
            self._most_held.hears(report)
            return self._listening.witness.hears(report)
        if not isinstance(report, OrderReport):
            return None
        self._names.learn_from(report)
        self.session.resting.hears(report)
        self._most_held.hears(report)
        self._hear_sale(report.symbol, report.cid, report.side, False)
        standing = self._standing.setdefault(report.symbol, {})
        if report.status != "open":
            standing.pop(report.cid, None)
        elif holds_coins(report):
            standing.setdefault(report.cid, report.qty - report.filled_qty)
        return None

    def _hear_sale(self, symbol: str, cid: str, side: Side, executed: bool) -> None:
        if side is Side.SELL:
            self._sales.setdefault(symbol, Sales()).hears(cid, self.api.clock.now_ns(), executed)

    async def _place(self, order: Order, on_wire: Callable[[], None]) -> Answer:
        where = ("order.place", "POST", "/api/v3/order")
        params = {**spot_order(order), **self.api.window(order)}
        done = await self.api.act(self.socket, *where, params, _PLACED, on_wire)
        if isinstance(done, Verdict):
            return done.answer()
        self._names.learn(order.symbol, str(done.orderId), order.cid)
        self.session.resting.takes(order)
        return _acked(done)

    async def _close(self, order: Order, on_wire: Callable[[], None]) -> Answer:
        """A sale; under the symbol's lock, so that two of them cannot both count on the same coins."""
        if order.symbol not in self._standing:  # after a restart nothing is known of what stands
            found = await self._open_orders_of(order.symbol)
            if isinstance(found, Failed):
                return Rejection("not_sent", "not_sent", found.why)
        standing, sales = self._standing[order.symbol], self._sales.setdefault(order.symbol, Sales())
        chosen = way(order, standing)
        if not isinstance(chosen, Hold) and (why := sales.holds_back(order, bool(standing))):
            return Rejection("spot", "unsent", why)
        match chosen:
            case Rejection():
                return chosen
            case Hold():
                on_wire()
                self._held[order.cid] = order
                return Acked(f"{HELD}{order.cid}", self.api.now_ns())
        answer: Answer = Silence("cut off")  # what stands when we are stopped in the middle
        try:
            if isinstance(chosen, Replace):
                answer = await self._take_place(chosen.cid, order, on_wire)
            else:
                answer = await self._place(order, on_wire)
        finally:
            if order.order_type.conditional and not isinstance(answer, Rejection):
                standing[order.cid] = order.qty  # or may: one in doubt is found out by the next that replaces it
            elif isinstance(answer, Silence) or (isinstance(answer, Rejection) and answer.kind == "duplicate"):
                sales.doubt(order.cid, self.api.clock.now_ns())
        return answer

    async def _take_place(self, standing_cid: str, order: Order, on_wire: Callable[[], None]) -> Answer:
        if self.rules[order.symbol].cancel_replace:
            return await self.replace(standing_cid, order, on_wire)
        gone = await self.cancel(Cancel(standing_cid, order.symbol))
        if isinstance(gone, Acked):
            return await self._place(order, on_wire)
        self._standing[order.symbol].pop(standing_cid, None)
        return Rejection("spot", "unavailable", "the stop that holds the coins could not be canceled first")

    def _half_replaced(self, standing_cid: str, standing: dict[str, Decimal], verdict: Verdict) -> Answer:
        """Which half of a cancel-replace was done, by what the refusal says of each."""
        halves = _halves(verdict.data)
        if halves.cancelResult == "SUCCESS":
            standing.pop(standing_cid, None)
            error = read_error(bytes(halves.newOrderResponse)) or ErrorBody(0)
            refused = judge(Market.SPOT, 400, error) if halves.newOrderResult == "FAILURE" else verdict
            return refused.answer()
        if halves.cancelResult == "FAILURE":
            # It is gone: filled, canceled, or never there. The next attempt finds the coins free, or none.
            standing.pop(standing_cid, None)
            return Rejection(verdict.code, "unavailable", f"the order to be replaced is not there: {verdict.text}")
        return verdict.answer()

    # ------------------------------------------------------------------------------------------------- held targets

    async def _watch_targets(self) -> None:
        """While the stream is up. A target that the market reaches takes the stop's place."""
        while True:
            for order in list(self._held.values()):
                now_ns = self.api.clock.now_ns()
                if now_ns >= self._fire_ns.get(order.cid, 0) and reached(order, self._quote(order.symbol), now_ns):
                    await self._fire(order)
            await trio.sleep(WATCH_SECONDS)

    async def _fire(self, order: Order) -> None:
        await self.api.throttle.wait(Lane.REDUCE)
        async with self._closing.setdefault(order.symbol, trio.Lock()):
            if not await self._may_fire(order) or self._held.pop(order.cid, None) is None:
                return  # canceled meanwhile
            self._names.sends(order.symbol, order.cid, self.api.sure_ns())
            answer = await self._close(fired(order), lambda: None)
        match answer:
            case Rejection(kind="not_sent" | "unsent" | "rate_limited" | "unavailable"):
                self._held[order.cid] = order  # surely nothing happened; a later look tries again
                self._fire_ns = {cid: at_ns for cid, at_ns in self._fire_ns.items() if cid in self._held}
                self._fire_ns[order.cid] = self.api.clock.now_ns() + FIRE_AGAIN_NS
            case Rejection(code=code, text=text):
                self._let(order, "rejected", f"{code}: {text}")
            case Silence():
                pass  # the engine misses it among the open orders and asks for it by its id

    async def _may_fire(self, order: Order) -> bool:
        """One that an earlier process may have sent goes while the stop stands in whose place it would have gone.

        Without one it waits until nothing of that process can arrive any more, and shows nowhere.
        """
        since_ns = self._unsure.get(order.cid)
        if since_ns is None:
            return True
        self._fire_ns[order.cid] = self.api.clock.now_ns() + FIRE_AGAIN_NS
        found = await self.order(order.symbol, order.cid)
        if isinstance(found, Failed) or order.cid not in self._held:
            return False
        standing = await self._open_orders_of(order.symbol)
        if isinstance(standing, Failed):
            return False
        bound_ns = self.traits.window_ns + self.traits.queue_ns + self.traits.visible_ns + SECOND
        if self.api.clock.now_ns() - since_ns > bound_ns:
            self._unsure.pop(order.cid, None)
            return True
        return any(holds_coins(report) for report in standing)

    def _let(self, order: Order, status: str, reason: str) -> Answer:
        """A held target ends without having gone to the venue."""
        report = held_report(order, status, reason)
        self._let_go[order.cid] = report
        if len(self._let_go) > 1000:
            del self._let_go[next(iter(self._let_go))]
        self._listening.tell(report)
        return Acked(report.venue_order_id, self.api.now_ns())


def _balances(rows: Iterable[SpotBalance]) -> tuple[BalanceReport, ...] | Failed:
    try:
        return spot_balances(rows)
    except Odd as error:
        return Failed(f"balances: {error}")


def _acked(placed: _Placed) -> Acked:
    return Acked(str(placed.orderId), placed.transactTime * MILLISECOND)


def _halves(data: bytes) -> _Halves:
    try:
        halves = _HALVES.decode(data)
        return _HALVES.decode(bytes(halves.data)) if bytes(halves.data) else halves
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _Halves()


_ACCOUNT = msgspec.json.Decoder(SpotAccount)
_ORDER = msgspec.json.Decoder(SpotOrder)
_ORDERS = msgspec.json.Decoder(tuple[SpotOrder, ...])
_TRADES = msgspec.json.Decoder(tuple[SpotTrade, ...])
_PLACED = msgspec.json.Decoder(_Placed)
_REPLACED = msgspec.json.Decoder(_Replaced)
_HALVES = msgspec.json.Decoder(_Halves)
_ANY = msgspec.json.Decoder(Raw)
