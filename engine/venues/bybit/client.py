"""One account at Bybit V5, spot or linear; implements `Venue`. Sends, asks and translates; meaning is the codec's.

Orders go by the trade socket while it stands, and by REST when it does not; never by both: a frame that may have been
written is waited for, and then asked about. Docs: the pages named in the codec.
"""

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from decimal import Decimal
from functools import partial
from random import Random
from typing import TypeGuard, TypeVar

import msgspec
import structlog
import trio

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
    Silence,
    TransferReport,
    VenueReport,
)
from engine.core.times import SECOND
from engine.runtime.clock import Clock
from engine.venues.admission import Remark
from engine.venues.base import QuoteSource, StreamDown, Traits
from engine.venues.bybit import frames, orders, reports, sign
from engine.venues.bybit.caller import TIME_PATH, WINDOW_MS, Call, Caller, page_of, rows_in, rows_of
from engine.venues.bybit.errors import Class, answer_to_change, answer_to_place, meaning
from engine.venues.bybit.looking import look_over
from engine.venues.bybit.private import Private, PrivateTerms
from engine.venues.bybit.terms import HEDGE_MODE, BybitTerms
from engine.venues.keys import Credentials
from engine.venues.order_socket import Manners, OrderSocket
from engine.venues.private_stream import Deliver, look_at_streams, private_stream
from engine.venues.rest import Garbled, Rest
from engine.venues.resting import Places, Resting
from engine.venues.throttle import Lane, Throttle

R = TypeVar("R")
T = TypeVar("T")
LOG = structlog.get_logger("bybit")

LOGIN_MS = 10_000  # how far ahead a login expires; one second is a known cause of failures
STREAM_BUFFER = 10_000
WEEK_NS = 7 * 24 * 3600 * SECOND
PAGES_MAX = 200
TRANSFERS = ("TRANSFER_IN", "TRANSFER_OUT")  # as the transaction log calls them
CLOCK_SECONDS = 30.0  # between measurements of the venue's clock when nothing else asks

# Open orders that the venue allows, by symbol. Docs: "Place Order".
PLACES = {InstrumentKind.LINEAR: Places(orders=500, stops=10), InstrumentKind.SPOT: Places(orders=500, stops=30)}

CREATE = Call("order.create", "/v5/order/create", "create")
AMEND = Call("order.amend", "/v5/order/amend", "amend")
CANCEL = Call("order.cancel", "/v5/order/cancel", "cancel")
CANCEL_ALL = Call("", "/v5/order/cancel-all", "cancel")
CREATE_BATCH = Call("", "/v5/order/create-batch", "create")
CANCEL_BATCH = Call("", "/v5/order/cancel-batch", "cancel")
LEVERAGE = Call("", "/v5/position/set-leverage", "rare")
DISCONNECT = Call("", "/v5/order/disconnected-cancel-all", "rare")


class BybitVenue:
    """`run` it in a task for the order socket and the clock; without that, all goes by REST."""

    def __init__(
        self,
        terms: BybitTerms,
        credentials: Credentials,
        throttle: Throttle,
        clock: Clock,
        rng: Random,
        quote: QuoteSource = lambda symbol: None,
    ) -> None:
        """`quote` is the market, by which spot takes a stop for a target."""
        self._clock, self._quote = clock, quote
        self.traits = Traits(name="bybit", id_unique_for_ever=True, window_ns=WINDOW_MS * 1_000_000)
        self.terms = terms
        self.category = orders.CATEGORY[terms.kind]
        self.caller = Caller(Rest(terms.hosts.rest, clock, terms.timeout_seconds), credentials, throttle, clock)
        self._credentials = credentials
        self._instruments: dict[str, Instrument] = {}
        self._resting = Resting()
        self._leverage_set = False
        self._known_fees: dict[str, reports.Fees] = {}
        self._began_ns = clock.now_ns()
        self.socket = OrderSocket(self._manners(), rng) if self._has_socket() else None
        # A request's number must never come again, not even after a restart.
        self._numbered, self._number = f"{self._began_ns // 1_000_000:x}", 0

    async def run(self) -> None:
        """Keeps the order socket up and the venue's clock known, until cancelled; then closes every connection."""
        socket = (self.socket.keep,) if self.socket is not None else ()
        await self.caller.rest.keep(*socket, self._keep_time)

    def close(self) -> None:
        """Nothing is held that `run` does not close."""

    async def look_over(self, allow_withdrawal: bool) -> tuple[Remark, ...] | Failed:
        """Clock, key, account and mode in words; Failed when the venue does not answer."""
        return await look_over(self.caller, self.terms, allow_withdrawal)

    async def look_at_streams(self) -> tuple[Remark, ...]:
        """`run` must have been started, for the order socket."""
        return await look_at_streams(self.stream, self.socket)

    # ------------------------------------------------------------------------------------------------------ requests

    async def submit(self, order: Order, on_wire: Callable[[], None]) -> Answer:
        if why := self._resting.no_room(order, PLACES[self.terms.kind]):
            return Rejection("places", "unsent", why)
        if why := orders.passed(order, self.terms.kind, self._quote(order.symbol), self._clock.now_ns()):
            return Rejection("passed", "triggered", why)
        body = orders.create(order, self.terms.kind)
        answer = await self._request(CREATE, body, False, on_wire, needs_clock=not order.reduce_only, of=(order,))
        if isinstance(answer, Acked):
            self._resting.takes(order)
        return await self._ask_first(order, answer) if _limited(answer) else answer

    async def cancel(self, cancel: Cancel) -> Answer:
        answer = await self._request(CANCEL, orders.cancel(cancel, self.terms.kind), True)
        gone = isinstance(answer, Rejection) and answer.kind == "not_found"
        if gone and self.terms.kind is InstrumentKind.SPOT:  # there an untriggered stop is kept elsewhere
            body = orders.cancel(cancel, self.terms.kind, conditional=True)
            return await self._request(CANCEL, body, True)
        return answer

    async def amend(
        self,
        symbol: str,
        cid: str,
        qty: Decimal | None = None,
        price: Decimal | None = None,
        trigger_price: Decimal | None = None,
    ) -> Answer:
        """Absolute values, `qty` with what is filled included; so a repeat does no harm."""
        return await self._request(AMEND, orders.amend(symbol, cid, self.terms.kind, qty, price, trigger_price), True)

    async def cancel_all(self, symbol: str | None = None) -> Answer:
        """Of one symbol, or of the whole category (linear: of each coin it settles in); the first that is not a yes."""
        coins = self._settle_coins() if symbol is None and self.terms.kind is InstrumentKind.LINEAR else ("",)
        for coin in coins:
            envelope = await self._post(CANCEL_ALL, orders.cancel_all(self.terms.kind, symbol, coin))
            if not isinstance(envelope, frames.Envelope):
                return envelope
            if envelope.retCode != 0:
                return answer_to_change(envelope.retCode, envelope.retMsg, "", envelope.venue_ns)
        return Acked("")

    async def submit_batch(self, batch: tuple[Order, ...], on_wire: Callable[[], None]) -> tuple[Answer, ...]:
        """One answer per order; the venue may take some and refuse others."""
        bodies = tuple(orders.create(order, self.terms.kind) for order in batch)
        answers = await self._batch(CREATE_BATCH, bodies, answer_to_place, on_wire, batch)
        pairs = zip(batch, answers, strict=True)
        return tuple([await self._ask_first(order, answer) if _limited(answer) else answer for order, answer in pairs])

    async def cancel_batch(self, batch: tuple[Cancel, ...]) -> tuple[Answer, ...]:
        bodies = tuple(orders.cancel(cancel, self.terms.kind) for cancel in batch)
        return await self._batch(CANCEL_BATCH, bodies, answer_to_change, lambda: None)

    # ------------------------------------------------------------------------------------------------------- queries

    async def server_time_ns(self) -> int | Failed:
        envelope = await self.caller.get(TIME_PATH, {}, lane=Lane.REDUCE, signed=False)
        if isinstance(envelope, Failed):
            return envelope
        found = page_of(envelope, _server_time)
        if isinstance(found, Failed):
            return found
        told = found.timeNano
        return int(told) if told.isdecimal() and len(told) == 19 else envelope.venue_ns or Failed("no time in it")

    async def instruments(self) -> tuple[Instrument, ...] | Failed:
        """All that can be traded, with this account's own fees where the venue tells them.

        The first time, at the start, the configured leverage is set, too; what a person changes later is his.
        """
        kind = self.terms.kind
        if not self._leverage_set and (refused := await self._set_leverage()):
            return refused
        self._leverage_set = True
        fees = self._known_fees = await self._fees() or self._known_fees
        found = await self._pages("/v5/market/instruments-info", {"limit": 1000}, _instruments, signed=False)
        if isinstance(found, Failed):
            return found

        def make(row: reports.InstrumentRow) -> Instrument | None:
            try:
                return reports.instrument(row, kind, fees.get(row.symbol) or fees.get("") or reports.FEES[kind])
            except reports.BadRow as error:  # the venue lists odd ones at times: that one cannot be traded
                LOG.warning("an instrument cannot be read", symbol=row.symbol, reason=str(error))
                return None

        listed = _rows(found, make)
        if not isinstance(listed, Failed):
            self._instruments.update({i.symbol: i for i in listed})
        return listed

    async def balances(self) -> tuple[BalanceReport, ...] | Failed:
        coins = await self._coins()
        return coins if isinstance(coins, Failed) else _rows(coins, reports.balance_report)

    async def positions(self) -> tuple[PositionReport, ...] | Failed:
        if self.terms.kind is InstrumentKind.SPOT:
            return await self._spot_positions()
        found: dict[str, PositionReport] = {}
        for coin in self._settle_coins():
            asked_ns = self.caller.venue_ns()
            rows = await self._pages("/v5/position/list", {"settleCoin": coin, "limit": 200}, _positions)
            if isinstance(rows, Failed):
                return rows
            if any(row.positionIdx for row in rows):
                return Failed(HEDGE_MODE)
            held = _rows(rows, partial(reports.position_report, at_ns=asked_ns))
            if isinstance(held, Failed):
                return held
            found |= {report.symbol: report for report in held}
        return tuple(found.values())

    async def open_orders(self) -> tuple[OrderReport, ...] | Failed:
        """Conditional orders are asked for by themselves: they have been seen to be missing from the common list."""
        linear = self.terms.kind is InstrumentKind.LINEAR
        coins = self._settle_coins() if linear else (None,)
        filters = (None, "StopOrder") if linear else ("Order", "StopOrder", "tpslOrder")
        found: dict[str, OrderReport] = {}
        for coin in coins:
            for kind in filters:
                params: dict[str, sign.Param] = {"settleCoin": coin, "openOnly": 0, "orderFilter": kind, "limit": 50}
                rows = await self._pages("/v5/order/realtime", params, _orders)
                if isinstance(rows, Failed):
                    return rows
                made = _rows(rows, reports.order_report)
                if isinstance(made, Failed):
                    return made
                found |= {report.venue_order_id: report for report in made}
        standing = tuple(report for report in found.values() if report.status == "open")
        self._resting.read(standing)
        return standing

    async def order(self, symbol: str, cid: str) -> OrderReport | NotFound | Failed:
        """Where open and lately closed orders are, then the history; each also where conditional orders are kept."""
        for path in ("/v5/order/realtime", "/v5/order/history"):
            for kind in (None, "StopOrder"):
                params: dict[str, sign.Param] = {"symbol": symbol, "orderLinkId": cid, "orderFilter": kind}
                envelope = await self.caller.get(path, {"category": self.category, **params}, lane=Lane.REDUCE)
                rows = envelope if isinstance(envelope, Failed) else rows_of(envelope, _orders)
                if isinstance(rows, Failed):
                    return rows
                made = _rows([row for row in rows if row.orderLinkId == cid], reports.order_report)
                if isinstance(made, Failed):
                    return made
                if made and made[0].symbol != symbol:
                    return Failed(f"asked for {cid} in {symbol}, told of one in {made[0].symbol[:40]!r}")
                if made:
                    return made[0]
        return NotFound(cid)

    async def fills(self, since_ns: int, cid: str | None = None) -> tuple[FillReport | FundingReport, ...] | Failed:
        """Since 0 means since this adapter began: what was in the account before is not the engine's to fold."""
        if cid is not None:
            return await self._executions({"orderLinkId": cid, "limit": 100}, Lane.REDUCE)
        since_ns = since_ns or self._began_ns
        until_ns = max(self.caller.venue_ns(), since_ns) + SECOND
        found: list[FillReport | FundingReport] = []
        while since_ns < until_ns:
            end_ns = min(since_ns + WEEK_NS - SECOND, until_ns)
            times = {"startTime": since_ns // 1_000_000, "endTime": end_ns // 1_000_000}
            part = await self._executions({**times, "limit": 100}, Lane.OPEN)
            if isinstance(part, Failed):
                return part
            found += part
            since_ns = end_ns
        return _oldest_first(found)

    async def transfers(self, since_ns: int) -> tuple[TransferReport, ...] | Failed:
        """Into and out of the trading account. The log holds them for all categories, and only where they are named."""
        until_ns = self.caller.venue_ns() + SECOND
        # Longer ago than a week, one shows in the balances alone: the first wallet after such an absence.
        begin_ns = max(since_ns or self._began_ns, until_ns - WEEK_NS + SECOND)
        times = {"startTime": begin_ns // 1_000_000, "endTime": until_ns // 1_000_000}
        found: list[TransferReport] = []
        for kind in TRANSFERS:
            params: dict[str, sign.Param] = {"category": None, "accountType": "UNIFIED", "type": kind, "limit": 50}
            rows = await self._pages("/v5/account/transaction-log", {**params, **times}, _log_rows)
            made = rows if isinstance(rows, Failed) else _rows(rows, reports.transfer)
            if isinstance(made, Failed):
                return made
            found += made
        return tuple(found)

    def stream(self) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[VenueReport]]:
        return private_stream(self._listen, STREAM_BUFFER)

    # -------------------------------------------------------------------------------------------------------- inside

    async def _keep_time(self) -> None:
        """For ever."""
        while True:
            await self.server_time_ns()
            await trio.sleep(CLOCK_SECONDS)

    async def _request(
        self,
        call: Call,
        body: dict[str, object],
        change: bool,
        on_wire: Callable[[], None] = lambda: None,
        needs_clock: bool = False,
        of: tuple[Order, ...] = (),
    ) -> Answer:
        """By the socket, or, only if surely nothing was written there, by REST."""
        stamp_ms = await self.caller.stamp_ms(needs_clock)
        if stamp_ms is None:
            return Rejection("clock", "unavailable", "the venue's clock is not known well enough to open a position")
        window_ms = self.caller.window_ms(of)
        if self.socket is not None and self.socket.ready:
            answer = await self._by_socket(self.socket, call, body, change, stamp_ms, on_wire, window_ms)
            if not (isinstance(answer, Rejection) and answer.kind == "not_sent"):
                return answer
        envelope = await self.caller.post(call, body, stamp_ms, on_wire, window_ms)
        if not isinstance(envelope, frames.Envelope):
            return envelope
        read = answer_to_change if change else answer_to_place
        return read(envelope.retCode, envelope.retMsg, frames.order_id(envelope.result), envelope.venue_ns)

    async def _by_socket(
        self,
        socket: OrderSocket,
        call: Call,
        body: dict[str, object],
        change: bool,
        stamp_ms: int,
        on_wire: Callable[[], None],
        window_ms: int,
    ) -> Answer:
        number = self._next()
        frame = frames.trade_request(number, call.op, body, stamp_ms, window_ms)
        raw = await socket.call(number, call.op, frame, on_wire, self.terms.timeout_seconds)
        if not isinstance(raw, bytes):
            return raw
        answer, headers = frames.trade_answer(raw, change)
        if isinstance(answer, Rejection):
            answer = Rejection(answer.code, answer.kind, self.caller.clean(answer.text))
        elif isinstance(answer, Silence):
            answer = Silence(self.caller.clean(answer.why))
        self.caller.heard_limits(headers, call.bucket)
        if isinstance(answer, Rejection) and answer.code.isdecimal():
            self.caller.heard_code(int(answer.code), headers)
        return answer

    async def _post(self, call: Call, body: sign.Body) -> frames.Envelope | Rejection | Silence:
        stamp_ms = await self.caller.stamp_ms(needed=False)
        assert stamp_ms is not None
        return await self.caller.post(call, body, stamp_ms, lambda: None)

    async def _ask_first(self, order: Order, refused: Rejection) -> Answer:
        """A limiter's no is not documented as certain, and a look so soon proves no absence: the order may show later.

        What is not found at once is in doubt like any other, until two looks behind the venue's time bound are empty.
        """
        found = await self.order(order.symbol, order.cid)
        match found:
            case OrderReport(venue_order_id=venue_order_id, venue_ns=venue_ns):
                return Acked(venue_order_id, venue_ns)
            case NotFound():
                return Silence(f"refused by a limiter, which is not certain, and not found yet: {refused.text}"[:300])
            case Failed(why=why):
                return Silence(f"refused by a limiter, and then not to be asked about: {why}"[:300])

    async def _batch(
        self,
        call: Call,
        bodies: tuple[dict[str, object], ...],
        read: Callable[[int, str, str, int], Answer],
        on_wire: Callable[[], None],
        of: tuple[Order, ...] = (),
    ) -> tuple[Answer, ...]:
        stamp_ms = await self.caller.stamp_ms(needed=True)
        if stamp_ms is None:
            return (Rejection("clock", "unavailable", "the venue's clock is not known"),) * len(bodies)
        body = orders.batch(self.terms.kind, bodies)
        envelope = await self.caller.post(call, body, stamp_ms, on_wire, self.caller.window_ms(of))
        if not isinstance(envelope, frames.Envelope):
            return (envelope,) * len(bodies)
        if envelope.retCode != 0:
            return (read(envelope.retCode, envelope.retMsg, "", envelope.venue_ns),) * len(bodies)
        return _items(envelope, len(bodies), read)

    async def _pages(
        self, path: str, params: Mapping[str, sign.Param], decoder: "msgspec.json.Decoder[list[R]]", signed: bool = True
    ) -> list[R] | Failed:
        """Every page. A cursor that repeats is the end only behind a page that was not full; else nothing is known."""
        rows: list[R] = []
        seen = {""}
        cursor: str | None = None
        limit = params.get("limit")
        assert isinstance(limit, int)
        for _ in range(PAGES_MAX):
            asked = {"category": self.category, **params, "cursor": cursor}
            envelope = await self.caller.get(path, asked, signed=signed)
            if isinstance(envelope, Failed):
                return envelope
            page = page_of(envelope, frames.page_decoder)
            part = page if isinstance(page, Failed) else rows_in(page, decoder)
            if isinstance(page, Failed) or isinstance(part, Failed):
                return part if isinstance(part, Failed) else Failed("no page")
            rows += part
            cursor = page.nextPageCursor
            if not part or not cursor or (cursor in seen and len(part) < limit):
                return rows
            if cursor in seen:
                return Failed(f"{path}: the cursor repeats behind a full page")
            seen.add(cursor)
        return Failed(f"{path}: more than {PAGES_MAX} pages")

    async def _executions(
        self, params: Mapping[str, sign.Param], lane: Lane
    ) -> tuple[FillReport | FundingReport, ...] | Failed:
        rows = await self._pages("/v5/execution/list", params, _executions)
        if isinstance(rows, Failed):
            return rows

        def make(row: reports.ExecutionRow) -> FillReport | FundingReport | None:
            return reports.execution(row, self._instruments.get(row.symbol))

        found: tuple[FillReport | FundingReport, ...] | Failed = _rows(rows, make)
        return _oldest_first(found) if not isinstance(found, Failed) else found

    async def _spot_positions(self) -> tuple[PositionReport, ...] | Failed:
        """Of the wallet only what is traded is read: the other rows may be whatever they are."""
        at_ns = self.caller.venue_ns()
        coins = await self._coins()
        if isinstance(coins, Failed):
            return coins
        traded = [i for symbol in self.terms.symbols if (i := self._instruments.get(symbol)) is not None]
        bases = {i.base for i in traded}
        balances = _rows([row for row in coins if row.coin in bases], reports.balance_report)
        return balances if isinstance(balances, Failed) else reports.holdings(balances, traded, at_ns)

    async def _coins(self) -> list[reports.CoinRow] | Failed:
        envelope = await self.caller.get("/v5/account/wallet-balance", {"accountType": "UNIFIED"})
        if isinstance(envelope, Failed):
            return envelope
        accounts = rows_of(envelope, _accounts)
        if isinstance(accounts, Failed):
            return accounts
        if not accounts:
            return Failed("no account in the answer about balances")
        return [coin for account in accounts for coin in account.coin]

    async def _fees(self) -> dict[str, reports.Fees]:
        """By symbol ("" for all). Demo has none to tell, and then the ordinary ones are assumed."""
        envelope = await self.caller.get("/v5/account/fee-rate", {"category": self.category}, "rare")
        rows = envelope if isinstance(envelope, Failed) else rows_of(envelope, _fee_rows)
        if isinstance(rows, Failed):
            LOG.warning("the account's fees are not to be had; the ordinary ones are assumed", reason=rows.why)
            return {}
        try:
            return {row.symbol: reports.fees_of(row, self.terms.kind) for row in rows}
        except reports.BadRow as error:
            LOG.warning("the account's fees cannot be read; the ordinary ones are assumed", reason=str(error))
            return {}

    async def _set_leverage(self) -> Failed | None:
        """The same for both sides, as one-way mode wants it; already so counts as done."""
        leverage = str(self.terms.leverage)
        for symbol in self.terms.symbols if self.terms.leverage else ():
            body = {"category": self.category, "symbol": symbol, "buyLeverage": leverage, "sellLeverage": leverage}
            envelope = await self._post(LEVERAGE, body)
            if not isinstance(envelope, frames.Envelope):
                return Failed(f"{symbol}: leverage {leverage} could not be set: {envelope}")
            if envelope.retCode != 0 and meaning(envelope.retCode).kind is not Class.DONE:
                return Failed(f"{symbol}: leverage {leverage} is refused: {envelope.retCode}: {envelope.retMsg}")
        return None

    async def _listen(self, deliver: Deliver, ready: Callable[[], None]) -> None:
        if self.terms.disconnect_cancel_seconds:
            await self._arm_disconnect()
        await self.caller.stamp_ms(needed=False)  # a login expires by the venue's clock

        def hear(report: VenueReport) -> None:
            self._resting.hears(report)
            deliver(report)

        await Private(self._private_terms()).run(hear, ready)

    async def _arm_disconnect(self) -> None:
        """Raises StreamDown: who asked for this protection must not trade without it."""
        product = "SPOT" if self.terms.kind is InstrumentKind.SPOT else "DERIVATIVES"
        body = {"product": product, "timeWindow": self.terms.disconnect_cancel_seconds}
        envelope = await self._post(DISCONNECT, body)
        if not isinstance(envelope, frames.Envelope):
            raise StreamDown(f"disconnect-cancel could not be armed: {envelope}")
        if envelope.retCode != 0:
            raise StreamDown(f"disconnect-cancel was refused: {envelope.retCode}: {envelope.retMsg}")

    def _private_terms(self) -> PrivateTerms:
        terms, armed = self.terms, bool(self.terms.disconnect_cancel_seconds)
        watched = ("dcp.spot" if terms.kind is InstrumentKind.SPOT else "dcp.future",) if armed else ()
        return PrivateTerms(
            url=terms.hosts.private,
            category=self.category,
            topics=(f"order.{self.category}", f"execution.{self.category}", *watched),
            login=self._login,
            instruments=self._instruments,
            ping_seconds=terms.ping_seconds,
            silent_seconds=terms.silent_seconds,
        )

    def _manners(self) -> Manners:
        terms = self.terms
        return Manners(
            "bybit",
            terms.hosts.trade,
            frames.hear,
            self._login,
            frames.ping,
            terms.ping_seconds,
            terms.silent_seconds,
        )

    def _has_socket(self) -> bool:
        return bool(self.terms.order_socket and self.terms.hosts.trade)

    def _login(self) -> str:
        return sign.login(self._credentials, self.caller.venue_ns() // 1_000_000 + LOGIN_MS, self._next())

    def _next(self) -> str:
        self._number += 1
        return f"{self._numbered}-{self._number}"

    def _settle_coins(self) -> tuple[str, ...]:
        """Linear contracts settle in the coin we call their quote; a list is asked for by each of them."""
        return tuple(dict.fromkeys(("USDT", *(i.quote for i in self._instruments.values()))))


_server_time = msgspec.json.Decoder(frames.ServerTime)
_instruments = msgspec.json.Decoder(list[reports.InstrumentRow])
_accounts = msgspec.json.Decoder(list[reports.AccountRow])
_positions = msgspec.json.Decoder(list[reports.PositionRow])
_orders = msgspec.json.Decoder(list[reports.OrderRow])
_executions = msgspec.json.Decoder(list[reports.ExecutionRow])
_log_rows = msgspec.json.Decoder(list[reports.LogRow])
_fee_rows = msgspec.json.Decoder(list[reports.FeeRow])


def _limited(answer: Answer) -> TypeGuard[Rejection]:
    return isinstance(answer, Rejection) and answer.kind == "rate_limited"


def _rows(raws: Iterable[T], make: Callable[[T], R | None]) -> tuple[R, ...] | Failed:
    try:
        return reports.rows(raws, make)
    except reports.BadRow as error:
        return Failed(f"a row cannot be read: {error}")


def _items(envelope: frames.Envelope, count: int, read: Callable[[int, str, str, int], Answer]) -> tuple[Answer, ...]:
    """One answer per item; one of which the venue says nothing is in doubt."""
    outcomes = frames.decode(envelope.retExtInfo, frames.outcomes_decoder)
    created = frames.decode(envelope.result, frames.created_decoder)
    if isinstance(outcomes, Garbled) or isinstance(created, Garbled):
        return (Silence("the answer to the batch cannot be read"),) * count
    told = [
        read(outcome.code, outcome.msg, ids.orderId, envelope.venue_ns)
        for outcome, ids in zip(outcomes.list[:count], created.list, strict=False)
    ]
    silent: Answer = Silence("the answer to the batch says nothing of this order")
    return (*told, *(silent,) * (count - len(told)))


def _oldest_first(found: Iterable[FillReport | FundingReport]) -> tuple[FillReport | FundingReport, ...]:
    """The venue tells the newest first, in no sure order at equal times; each once."""
    once = {_key(report): report for report in found}
    return tuple(sorted(once.values(), key=lambda report: (report.venue_ns, *_key(report))))


def _key(report: FillReport | FundingReport) -> tuple[str, str]:
    if isinstance(report, FundingReport):
        return report.symbol, f"funding/{report.funding_id}"
    return report.symbol, report.exec_id
