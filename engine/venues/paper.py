"""The paper venue: the matching engine behind delays, doubts and refusals, as a venue across a network would answer.

What a request does at the venue does not depend on whether its sender still waits: it is on its way from the moment it
is sent and arrives when it is due, also when the sender has been cancelled or has timed out. All chance comes from the
generator handed in, all time from the clock; only waiting is trio's. The venue's own truth may be kept in a file, so
that it outlives the process the way a real venue outlives ours.
"""

from collections import deque
from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from pathlib import Path
from random import Random

import trio
from msgspec import Struct

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
    Quote,
    Rejection,
    Silence,
    VenueReport,
)
from engine.core.times import MILLISECOND, SECOND
from engine.market.account import AccountTerms
from engine.market.events import MarketEvent
from engine.market.matching import Matching
from engine.market.orders import OrderRequest
from engine.runtime.clock import Clock
from engine.venues.base import StreamDown, Traits
from engine.venues.store import Store
from engine.venues.subscription import Pump, Subscription

_CODE_OUTSIDE_WINDOW = "10002"


class Faults(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How often what goes wrong: the share of requests, queries or reports to which it happens, each drawn apart."""

    lost_request: float = 0.0  # never arrives; Silence after the time-out
    lost_reply: float = 0.0  # has its effect, but Silence after the time-out
    unavailable: float = 0.0  # refused at the gate, surely without effect
    rate_limited: float = 0.0
    reject: float = 0.0  # refused as invalid, for no reason of the sender's
    slow: float = 0.0  # held up on its way for `slow_ms` more
    slow_ms: float = 6_000.0
    query_fails: float = 0.0
    repeated_reports: float = 0.0  # comes twice on the stream
    dropped_reports: float = 0.0  # never comes on the stream; queries have it


class PaperTerms(AccountTerms, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The account's terms and the network's. Latencies are one way, drawn evenly between the two, in milliseconds."""

    latency_ms: tuple[float, float] = (1.0, 3.0)
    stream_latency_ms: tuple[float, float] = (1.0, 3.0)
    visible_ms: tuple[float, float] = (0.0, 0.0)  # until an accepted order shows in queries
    timeout_ms: float = 3_000.0  # how long a caller waits for an answer
    window_ms: float = 5_000.0  # a request that took longer to arrive is refused
    stream_buffer: int = 10_000  # reports that a reader may be behind before it is cut off
    faults: Faults = Faults()


class _Arrival(Struct, order=True):
    """A request under way."""

    due_ns: int
    serial: int
    sent_ns: int
    request: OrderRequest | Cancel
    fate: Rejection | None
    answer: Acked | Rejection | None = None


class Truth(Struct, frozen=True):
    """Everything the venue knows, for checkers; neither latency nor visibility hide anything of it."""

    orders: tuple[OrderReport, ...]
    executions: tuple[FillReport | FundingReport, ...]
    balances: tuple[BalanceReport, ...]
    positions: tuple[PositionReport, ...]
    now_ns: int


class PaperVenue:
    """One account at the paper venue; implements `Venue`. `faults` may be replaced while it runs."""

    def __init__(
        self,
        instruments: Iterable[Instrument],
        terms: PaperTerms,
        clock: Clock,
        rng: Random,
        store: Path | None = None,
    ) -> None:
        """Raises StoreDamaged when `store` is broken before its end."""
        self.terms = terms
        self.faults = terms.faults
        self.traits = traits(terms)
        self.watchers: list[dict[str, None]] = []  # each is given the symbols that moved, and empties itself
        self._clock = clock
        self._rng = rng
        self._store = Store(store, terms, instruments) if store else None
        self.matching = self._store.matching if self._store else Matching(terms, instruments)
        self._arrivals: list[_Arrival] = []
        self._sent = 0
        self._hidden: dict[str, int] = {}  # order id -> from when queries show it
        self._readers: list[_Reader] = []

    # ---------------------------------------------------------------------------------------------------- the market

    def publish(self, event: MarketEvent) -> None:
        """Feed the market in, in its order and never early: orders would see the future (AssertionError)."""
        now_ns = self._clock.now_ns()
        assert event.at_ns <= now_ns + MILLISECOND, f"event of {event.at_ns} published at {now_ns}"
        self._arrive(event.at_ns - 1)  # what arrived before it has not seen it
        self.matching.hear(event)
        for moved in self.watchers:
            moved[event.symbol] = None
        self._settle()

    def quote(self, symbol: str) -> Quote | None:
        """As last published; a QuoteSource."""
        return self.matching.market.quote(symbol)

    # ------------------------------------------------------------------------------------------------------ requests

    async def submit(self, order: Order, on_wire: Callable[[], None]) -> Answer:
        on_wire()
        return await self.request(OrderRequest.of(order), self._clock.now_ns())

    async def cancel(self, cancel: Cancel) -> Answer:
        return await self.request(cancel, self._clock.now_ns())

    async def request(self, request: OrderRequest | Cancel, sent_ns: int) -> Answer:
        """A request signed at `sent_ns`: refused when it arrives later than the window allows."""
        faults, chance = self.faults, self._rng.random
        # Always the same number of draws, so that one fault's rate does not change the others' luck.
        lost_request, lost_reply = chance() < faults.lost_request, chance() < faults.lost_reply
        fate = _fate(chance() < faults.rate_limited, chance() < faults.unavailable, chance() < faults.reject)
        slow = faults.slow_ms if chance() < faults.slow else 0.0
        there_ns, back_ns = self._latency(self.terms.latency_ms, slow), self._latency(self.terms.latency_ms)
        began_ns, timeout_ns = self._clock.now_ns(), round(self.terms.timeout_ms * MILLISECOND)
        if lost_request:
            await _sleep_until(began_ns + timeout_ns, self._clock)
            return Silence("no answer in time")
        self._sent += 1
        arrival = _Arrival(began_ns + there_ns, self._sent, sent_ns, request, fate)
        heappush(self._arrivals, arrival)
        if lost_reply or there_ns + back_ns > timeout_ns:
            await _sleep_until(min(arrival.due_ns, began_ns + timeout_ns), self._clock)
            self._arrive(self._clock.now_ns())
            await _sleep_until(began_ns + timeout_ns, self._clock)
            self._arrive(self._clock.now_ns())
            return Silence("no answer in time")
        await _sleep_until(arrival.due_ns, self._clock)
        self._arrive(max(arrival.due_ns, self._clock.now_ns()))
        assert arrival.answer is not None, "a request that was due has not arrived"
        if back_ns:
            await _sleep_until(arrival.due_ns + back_ns, self._clock)
        return arrival.answer

    # ------------------------------------------------------------------------------------------------------- queries

    async def instruments(self) -> tuple[Instrument, ...] | Failed:
        return await self._ask() or tuple(self.matching.instruments.values())

    async def server_time_ns(self) -> int | Failed:
        return await self._ask() or self._clock.now_ns()

    async def balances(self) -> tuple[BalanceReport, ...] | Failed:
        return await self._ask() or self.matching.balances()

    async def positions(self) -> tuple[PositionReport, ...] | Failed:
        return await self._ask() or self.matching.positions()

    async def open_orders(self) -> tuple[OrderReport, ...] | Failed:
        failed = await self._ask()
        return failed or tuple(r for r in self.matching.open_orders() if self._shows(r.venue_order_id))

    async def order(self, symbol: str, cid: str) -> OrderReport | NotFound | Failed:
        failed = await self._ask()
        if failed:
            return failed
        found = self.matching.order(symbol, cid)
        hidden = isinstance(found, OrderReport) and not self._shows(found.venue_order_id)
        return NotFound(cid) if hidden else found

    async def fills(self, since_ns: int, cid: str | None = None) -> tuple[FillReport | FundingReport, ...] | Failed:
        failed = await self._ask()
        if failed:
            return failed
        found = self.matching.fills(since_ns, cid)
        return tuple(r for r in found if isinstance(r, FundingReport) or self._shows(r.venue_order_id))

    def stream(self) -> Subscription:
        return Subscription(self._join, self.terms.stream_buffer)

    async def _join(self) -> Pump:
        await trio.lowlevel.checkpoint()
        reader = _Reader(self._clock)
        self._readers.append(reader)

        async def pump(send: trio.MemorySendChannel[VenueReport]) -> None:
            try:
                await reader.deliver(send)
            finally:
                self._readers.remove(reader)

        return pump

    # ------------------------------------------------------------------------------------ for tests, tools, checkers

    def truth(self) -> Truth:
        self._arrive(self._clock.now_ns())
        matching = self.matching
        orders = (*matching.closed.values(), *matching.open.values())
        return Truth(
            tuple(order.report() for order in orders),
            tuple(matching.executions),
            matching.balances(),
            matching.positions(),
            self._clock.now_ns(),
        )

    def drop_streams(self, why: str = "dropped by the venue") -> None:
        """Every reader finds its stream down."""
        for reader in self._readers:
            reader.break_off(why)

    def close(self) -> None:
        """Close the store; the venue answers nothing after that."""
        if self._store:
            self._store.close()

    # -------------------------------------------------------------------------------------------------------- inside

    def _arrive(self, now_ns: int) -> None:
        """Requests that are due by now meet the market as it stands, in the order of their arrival."""
        while self._arrivals and self._arrivals[0].due_ns <= now_ns:
            arrival = heappop(self._arrivals)
            arrival.answer = arrival.fate or self._execute(arrival)
            self._settle()

    def _execute(self, arrival: _Arrival) -> Acked | Rejection:
        late_ns = arrival.due_ns - arrival.sent_ns
        if late_ns > self.traits.window_ns:
            return Rejection(_CODE_OUTSIDE_WINDOW, "invalid", f"{late_ns} ns old, outside the receive window")
        request = arrival.request
        if isinstance(request, Cancel):
            return self.matching.cancel(request.symbol, request.cid, arrival.due_ns, request.venue_order_id)
        answer = self.matching.submit(request, arrival.due_ns)
        if isinstance(answer, Acked) and self.terms.visible_ms[1]:
            self._hidden[answer.venue_order_id] = arrival.due_ns + self._latency(self.terms.visible_ms)
        return answer

    def _settle(self) -> None:
        """Write down what happened before anybody is told."""
        changes = self.matching.take()
        if not changes.reports and not changes.orders:
            return
        if self._store:
            self._store.append(changes)
        now_ns = self._clock.now_ns()
        for reader in self._readers:
            reader.add(self._survivors(changes.reports), now_ns + self._latency(self.terms.stream_latency_ms))

    def _survivors(self, reports: tuple[VenueReport, ...]) -> list[VenueReport]:
        """What of `reports` comes out of the stream, some of it twice."""
        dropped, repeated = self.faults.dropped_reports, self.faults.repeated_reports
        if not dropped and not repeated:
            return list(reports)
        left = [report for report in reports if self._rng.random() >= dropped]
        return [report for report in left for _ in range(2 if self._rng.random() < repeated else 1)]

    async def _ask(self) -> Failed | None:
        """A query's round trip; it sees the venue as it stands when it arrives."""
        fails = self._rng.random() < self.faults.query_fails
        began_ns = self._clock.now_ns()
        there_ns, back_ns = self._latency(self.terms.latency_ms), self._latency(self.terms.latency_ms)
        await _sleep_until(began_ns + there_ns + back_ns, self._clock)
        self._arrive(self._clock.now_ns())
        return Failed("the venue did not answer the query") if fails else None

    def _shows(self, order_id: str) -> bool:
        from_ns = self._hidden.get(order_id)
        if from_ns is None:
            return True
        if from_ns > self._clock.now_ns():
            return False
        del self._hidden[order_id]
        return True

    def _latency(self, between_ms: tuple[float, float], more_ms: float = 0.0) -> int:
        low, high = between_ms
        return round((self._rng.uniform(low, high) + more_ms) * MILLISECOND)


class _Reader:
    """Reports on their way to one reader of the stream, delayed, never reordered."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._waiting: deque[tuple[int, VenueReport]] = deque()
        self._news = trio.Event()
        self._broken = ""

    def add(self, reports: list[VenueReport], due_ns: int) -> None:
        if self._waiting:
            due_ns = max(due_ns, self._waiting[-1][0])
        self._waiting.extend((due_ns, report) for report in reports)
        self._news.set()

    def break_off(self, why: str) -> None:
        self._broken = why
        self._news.set()

    async def deliver(self, send: trio.MemorySendChannel[VenueReport]) -> None:
        """Raises StreamDown when broken off, and when the reader does not keep up."""
        while not self._broken:
            if not self._waiting:
                self._news = trio.Event()
                await self._news.wait()
                continue
            await _sleep_until(self._waiting[0][0], self._clock)
            self._deliver_due(send)
        raise StreamDown(self._broken)

    def _deliver_due(self, send: trio.MemorySendChannel[VenueReport]) -> None:
        now_ns = self._clock.now_ns()
        try:
            while self._waiting and self._waiting[0][0] <= now_ns:
                send.send_nowait(self._waiting[0][1])
                self._waiting.popleft()
        except trio.WouldBlock:
            raise StreamDown(f"the reader is {send.statistics().max_buffer_size} reports behind") from None


async def _sleep_until(at_ns: int, clock: Clock) -> None:
    await trio.sleep(max(0, at_ns - clock.now_ns()) / SECOND)


def _fate(rate_limited: bool, unavailable: bool, reject: bool) -> Rejection | None:
    if rate_limited:
        return Rejection("10006", "rate_limited", "too many visits")
    if unavailable:
        return Rejection("10019", "unavailable", "service is restarting")
    return Rejection("110003", "invalid", "rejected by the fault plan") if reject else None


def traits(terms: PaperTerms) -> Traits:
    """What may be relied on. There is no queue behind the gate; a second stands for the machine's own delays."""
    return Traits(
        name="paper",
        id_unique_for_ever=terms.id_rule == "ever",
        window_ns=round(terms.window_ms * MILLISECOND),
        queue_ns=SECOND,
        visible_ns=SECOND + round(terms.visible_ms[1] * MILLISECOND),
    )
