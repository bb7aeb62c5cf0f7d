"""One account at an exchange that ccxt knows; implements `Venue`. Ties together what the rooms beside it know.

There is no stream: private events are asked for at a stated interval, and told as reports like any other.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from decimal import Decimal

import msgspec
import trio

from engine.core.ids import is_ours
from engine.core.messages import (
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
    VenueReport,
)
from engine.core.times import SECOND
from engine.runtime.clock import Clock
from engine.venues.admission import Remark, clock_remark
from engine.venues.base import StreamDown, Traits
from engine.venues.ccxt import orders, promises, rows
from engine.venues.ccxt.coins import Coins
from engine.venues.ccxt.entry import Entry
from engine.venues.ccxt.executions import Executions
from engine.venues.ccxt.looking import ORDERS, Looking
from engine.venues.ccxt.looking_over import key_of, mode_of, symbols_of
from engine.venues.ccxt.promises import BYBIT, Abilities
from engine.venues.ccxt.site import Site, each
from engine.venues.ccxt.terms import HEDGE_MODE, READY_SECONDS, WINDOW_MS, CcxtTerms
from engine.venues.offset import Moment
from engine.venues.private_stream import Deliver, private_stream
from engine.venues.throttle import Throttle

OVERLAP_NS = 60 * SECOND  # executions may become visible late
FAILURES_MAX = 3  # polls in a row, before the stream counts as down
STREAM_BUFFER = 10_000
PAGE = 200


class CcxtVenue:
    """`run` it in a task: it keeps the workers up."""

    def __init__(self, terms: CcxtTerms, throttle: Throttle, clock: Clock) -> None:
        self.traits = Traits(name=terms.exchange, id_unique_for_ever=False, window_ns=WINDOW_MS * 1_000_000)
        self.terms = terms
        self._site = Site(terms, throttle, clock)
        self.orders, self.questions = self._site.orders, self._site.questions
        self._coins = Coins(self._site, self.order)
        self._looking = Looking(self._site, self._coins.hears)
        self._executions = Executions(self._site, self._looking)
        self._entry = Entry(self._site, self._looking, self.order, lambda: self._news.set())
        self._leverage_set = False
        self._news = trio.Event()  # an order was taken: the next poll need not wait
        self._began_ns = clock.now_ns()

    @property
    def able(self) -> Abilities:
        """As far as the questions' worker has said; before that nothing is possible."""
        return self._site.able

    async def run(self) -> None:
        """Keeps both workers up and the exchange's clock known, until cancelled; then nothing of them is left."""
        await self._site.keep()

    def close(self) -> None:
        """Nothing is held that `run` does not close."""

    async def look_over(self, allow_withdrawal: bool) -> tuple[Remark, ...] | Failed:
        """What cannot be promised, then clock, key and mode in words; Failed while the exchange does not answer."""
        if not await self.questions.until_ready(READY_SECONDS):
            problem = self.questions.problem
            return (Remark("ccxt", False, problem),) if problem else Failed(self.questions.why)
        able = self.able
        found = list(promises.promises(able, self.terms.poll_seconds))
        found += symbols_of(self._site)
        told = await self.server_time_ns()
        if isinstance(told, Failed):
            return told
        if able.clock:
            found.append(clock_remark(self._site.known, self._site.moment()))
        key = await key_of(self._site, allow_withdrawal)
        if isinstance(key, Failed):
            return key
        if not all(remark.ok for remark in key):
            return (*found, *key)
        mode = await mode_of(self._site, able, self.positions)
        return mode if isinstance(mode, Failed) else (*found, *key, *mode)

    async def look_at_streams(self) -> tuple[Remark, ...]:
        asked = await self.fills(self._site.clock.now_ns() - OVERLAP_NS)
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
        held = self._site.listings.get(order.symbol)
        if held is None:
            return Rejection("not_sent", "not_sent", f"{order.symbol} is not known yet")
        arguments = orders.create(order, held, self.able)
        if isinstance(arguments, Rejection):
            return arguments
        if self._coins.sold_by(order):
            return await self._coins.sell(self._entry, order, held, arguments, on_wire)
        return await self._entry.place(order, arguments, on_wire)

    async def cancel(self, cancel: Cancel) -> Answer:
        return await self._entry.cancel(cancel)

    async def amend(
        self,
        symbol: str,
        cid: str,
        qty: Decimal | None = None,
        price: Decimal | None = None,
        trigger_price: Decimal | None = None,
    ) -> Answer:
        """In place, where ccxt and the exchange do that; absolute values, `qty` with what is filled included."""
        return await self._entry.amend(symbol, cid, qty, price, trigger_price)

    # ------------------------------------------------------------------------------------------------------- queries

    async def server_time_ns(self) -> int | Failed:
        """The exchange's, or our own where it tells none."""
        return await self._site.server_time_ns()

    async def instruments(self) -> tuple[Instrument, ...] | Failed:
        """Those that are traded in our kind of market. At the start, the first time, the leverage is set, too."""
        if not await self.questions.until_ready(READY_SECONDS):
            return Failed(self.questions.problem or self.questions.why)
        if self._leverage_set and (stale := await self._site.read_again()):
            return stale
        if not self._site.listed:
            return Failed(f"{self.terms.exchange} lists no market that can be traded as {self.terms.kind.value}")
        if not self._leverage_set and (refused := await self._site.set_leverage()):
            return refused
        self._leverage_set = True  # what a person changes later is his
        return tuple(self._site.listings[symbol].instrument for symbol in self._site.listed)

    async def balances(self, began: list[Moment] | None = None) -> tuple[BalanceReport, ...] | Failed:
        found = await self._wallet(began)
        return found if isinstance(found, Failed) else each(found, rows.balance_report)

    async def _wallet(self, began: list[Moment] | None) -> list[rows.BalanceRow] | Failed:
        found = await self._site.ask("balance", ({},), _BALANCES, began)
        return found or Failed("the answer names no balance")

    async def positions(self) -> tuple[PositionReport, ...] | Failed:
        began: list[Moment] = []
        if self.terms.kind is InstrumentKind.SPOT:
            wallet = await self._wallet(began)
            if isinstance(wallet, Failed):
                return wallet
            bases = {held.instrument.base for held in self._site.traded()}  # the other rows may be whatever they are
            balances = each([row for row in wallet if row.asset in bases], rows.balance_report)
            if isinstance(balances, Failed):
                return balances
            return rows.holdings(balances, self._site.traded(), self._site.venue_ns(began))
        found = await self._all_positions(began)
        if isinstance(found, Failed):
            return found
        at_ns = self._site.venue_ns(began)
        if any(row.hedged for row in found):
            return Failed(HEDGE_MODE)

        def make(row: rows.PositionRow) -> PositionReport | None:
            held = self._site.by_unified.get(row.symbol)
            return None if held is None else rows.position_report(row, held, at_ns)

        return each(found, make)

    async def _all_positions(self, began: list[Moment]) -> list[rows.PositionRow] | Failed:
        """Whatever the account holds, in one answer; Bybit's are asked for by the coin they settle in, page by page."""
        if self.able.exchange not in BYBIT:
            return await self._site.ask("fetch_positions", (None,), _POSITIONS, began)
        found: list[rows.PositionRow] = []
        for coin in dict.fromkeys(held.instrument.quote for held in self._site.traded()):
            arguments = (None, {"settleCoin": coin, "limit": PAGE})
            part = await self._site.ask("fetch_positions", arguments, _POSITIONS, began)
            if isinstance(part, Failed) or len(part) >= PAGE:
                return part if isinstance(part, Failed) else Failed("more positions than one answer shows")
            found += part
        return found

    async def open_orders(self) -> tuple[OrderReport, ...] | Failed:
        """Of the configured symbols, with those that wait for a trigger."""
        found: dict[str, OrderReport] = {}
        able = self.able
        for held in self._site.traded():
            for trigger in (False, True) if able.trigger_lists else (False,):
                extra = {"trigger": True} if trigger else {}
                arguments = (held.unified, None, able.orders_limit or None, extra)
                part = await self._site.ask("fetch_open_orders", arguments, ORDERS)
                if isinstance(part, Failed):
                    return part
                if able.orders_limit and len(part) >= able.orders_limit:
                    return Failed(f"{held.unified}: more open orders than one answer shows")
                reports = self._looking.reports(part, held)
                if isinstance(reports, Failed):
                    return reports
                found |= {report.venue_order_id: report for report in reports}
        return tuple(report for report in found.values() if report.status == "open")

    async def order(self, symbol: str, cid: str) -> OrderReport | NotFound | Failed:
        """By client id. Absence is told only where the exchange's rules make it mean something."""
        held = self._site.listings.get(symbol)
        if held is None:
            return Failed(f"{symbol} is not known yet")
        found = await self._looking.find(held, cid)
        if found is not None:
            return found
        if promises.settles_absence(self.able):
            self._coins.absent(symbol, cid)
            return NotFound(cid)
        return Failed("it is not to be found, which proves nothing at this exchange")

    async def fills(self, since_ns: int, cid: str | None = None) -> tuple[FillReport | FundingReport, ...] | Failed:
        """Since 0 means since this adapter began. Of the configured symbols; of one order: those that name it."""
        since_ns = since_ns or self._began_ns
        executions = await self._executions.since(since_ns)
        if isinstance(executions, Failed):
            return executions
        found: list[FillReport | FundingReport] = [*executions]
        if cid is None and self.able.funding:
            funding = await self._executions.funding(since_ns // 1_000_000)
            if isinstance(funding, Failed):
                return funding
            found += funding
        if cid is not None:
            found = [report for report in found if isinstance(report, FillReport) and report.cid == cid]
        once = {_key(report): report for report in found}
        return tuple(sorted(once.values(), key=lambda report: (report.venue_ns, *_key(report))))

    # -------------------------------------------------------------------------------------------------------- stream

    def stream(self) -> AbstractAsyncContextManager[trio.MemoryReceiveChannel[VenueReport]]:
        return private_stream(self._listen, STREAM_BUFFER)

    async def _listen(self, deliver: Deliver, ready: Callable[[], None]) -> None:
        """Executions and open orders, again and again. Raises StreamDown when that has failed too often."""
        told: dict[str, OrderReport] = {}
        booked: dict[tuple[str, str], int] = {}
        since_ns, failures, up = self._site.venue_ns() - OVERLAP_NS, 0, False
        while True:
            asked_ns = self._site.venue_ns()
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
        fills = await self._executions.since(since_ns)
        if isinstance(fills, Failed):
            return fills.why
        for fill in fills:
            if _key(fill) not in booked:
                deliver(fill)
                self._coins.hears_fill(fill)
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


_POSITIONS = msgspec.json.Decoder(list[rows.PositionRow])
_BALANCES = msgspec.json.Decoder(list[rows.BalanceRow])


def _key(report: FillReport | FundingReport) -> tuple[str, str]:
    if isinstance(report, FundingReport):
        return report.symbol, f"funding/{report.funding_id}"
    return report.symbol, report.exec_id
