"""One venue of the local exchange: what it lists, its members, and their orders with all that a face must tell of them.

Pure and synchronous: a step (a request, a market event, a fault) changes the matching of a member, and everybody who
listens to that member is told what happened, in the order of its happening, before the step returns.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from enum import Enum
from itertools import takewhile
from typing import Any, Literal

from msgspec import Struct, field
from msgspec.structs import replace

from engine.core.messages import (
    ZERO,
    FillReport,
    FundingReport,
    Instrument,
    OrderReport,
    OrderType,
    Rejection,
    Side,
    TransferReport,
)
from engine.exchange.terms import ExchangeTerms, KeyTerms, Memory
from engine.market.account import AccountTerms, Holding, move
from engine.market.events import MarketEvent
from engine.market.matching import Changes, Matching
from engine.market.orders import OrderRequest, VenueOrder

UNFINDABLE = Rejection("110001", "not_found", "order does not exist or is no longer open")


class Listing(Struct, frozen=True):
    """An instrument as clients know it. The instrument's own symbol is the inner name, unique over all categories."""

    category: str  # "spot" or "linear"
    symbol: str
    instrument: Instrument


class Record(Struct):
    """An order with what a face must tell of it. `given` is the client's own id for it, "" where it gave none."""

    serial: int
    order: VenueOrder
    listing: Listing
    given: str
    marks: dict[str, Any] = field(default_factory=dict)  # what the client asked for and only the face understands
    filled: Decimal = ZERO  # as told so far, execution by execution
    reported: Decimal = ZERO  # as its last report said
    told: bool = False  # that it was accepted
    triggered: bool = False  # and that was told
    closed_as: int = 0  # the how many-th of its account to end
    value: Decimal = ZERO  # quote, of all fills
    realised: dict[str, Decimal] = field(default_factory=dict)  # by execution id, futures only
    fees: dict[str, Decimal] = field(default_factory=dict)
    fills: list[FillReport] = field(default_factory=list)

    @property
    def open(self) -> bool:
        return self.order.status == "open"

    @property
    def average(self) -> Decimal:
        return self.value / self.order.filled_qty if self.order.filled_qty else ZERO


class News(Enum):
    ACCEPTED = "accepted"
    TRIGGERED = "triggered"
    FILLED = "filled"  # one execution
    PROGRESSED = "progressed"  # the order after an execution that left something of it
    AMENDED = "amended"
    ENDED = "ended"
    FUNDED = "funded"
    TRANSFERRED = "transferred"


class Told(Struct, frozen=True):
    """One thing that happened. `report` is how the order stood at that moment; the record is as it stands now."""

    news: News
    record: Record | None  # None: funding, or a transfer
    report: OrderReport | FillReport | FundingReport | TransferReport
    value: Decimal = ZERO  # of the order's fills up to this moment
    realised: Decimal = ZERO  # by this fill of a future, before fees
    position: Decimal = ZERO  # signed, after this fill
    left: Decimal = ZERO  # of the order, after this fill


Listener = Callable[["Member", tuple[Told, ...]], None]


class Member:
    """One account at one house."""

    def __init__(self, name: str, terms: AccountTerms, listings: Iterable[Listing], memory: Memory) -> None:
        self.name = name
        self.memory = memory
        self.listings = {listing.instrument.symbol: listing for listing in listings}
        self.matching = Matching(terms, [listing.instrument for listing in self.listings.values()])
        self.records: dict[str, Record] = {}  # by inner order id, oldest first
        self.closed: deque[Record] = deque(maxlen=memory.history)  # newest last
        self.listeners: dict[int, Listener] = {}
        self.rejecting: list[str] = []  # reasons by which the next orders will be refused after they were accepted
        self.forgotten_ns = 0  # at a restart: what had closed before is no longer recent
        self.steps = 0
        self.ended = 0  # orders, ever
        self._positions: dict[str, Holding] = {}  # folded fill by fill, so that each can say what it realised
        self._named: dict[tuple[str, str], Record] = {}  # the latest by category and client id
        self.transfers: list[TransferReport] = []  # oldest first
        self.asked = 0

    # ---------------------------------------------------------------------------------------------------- requests

    def place(
        self,
        request: OrderRequest,
        now_ns: int,
        given: str = "",
        marks: dict[str, Any] | None = None,
        turn_down: str = "",
    ) -> Record | Rejection:
        """`request.cid` may be empty. `turn_down`: accept it, and end it as cancelled for that reason."""
        self.asked += 1
        request = replace(request, cid=given or f"~{self.asked}")
        if self.rejecting:
            answer = self.matching.turn_down(request, now_ns, "rejected", self.rejecting.pop(0))
        elif turn_down:
            answer = self.matching.turn_down(request, now_ns, "canceled", turn_down)
        else:
            answer = self.matching.submit(request, now_ns)
        if isinstance(answer, Rejection):
            self.settle()
            return answer
        changes = self.matching.take()
        order = next(order for order in changes.orders if order.order_id == answer.venue_order_id)
        record = Record(_serial(order.order_id), order, self.listings[request.symbol], given, marks or {})
        self.records[order.order_id] = record
        if given:
            self._named[(record.listing.category, given)] = record
        self._tell(changes)
        return record

    def amend(
        self,
        record: Record,
        now_ns: int,
        qty: Decimal | None = None,
        price: Decimal | None = None,
        trigger_price: Decimal | None = None,
    ) -> Rejection | None:
        answer = self.matching.amend(record.order.order_id, now_ns, qty, price, trigger_price)
        self.settle()
        return answer if isinstance(answer, Rejection) else None

    def cancel(self, record: Record, now_ns: int) -> Rejection | None:
        request = record.order.request
        answer = self.matching.cancel(request.symbol, request.cid, now_ns, record.order.order_id)
        self.settle()
        return answer if isinstance(answer, Rejection) else None

    def liquidate(self, symbol: str, now_ns: int) -> Record | Rejection:
        """Close the position as the venue does it, with an order that nobody sent."""
        qty = self.matching.account.qty(symbol)
        if not qty:
            return Rejection("liquidate", "invalid", f"there is no position in {symbol.partition(':')[2]} to liquidate")
        side = Side.SELL if qty > 0 else Side.BUY
        request = OrderRequest(symbol, "", side, OrderType.MARKET, abs(qty), reduce_only=True)
        return self.place(request, now_ns, marks={"liquidation": True})

    def transfer(self, asset: str, amount: Decimal, now_ns: int) -> TransferReport | Rejection:
        """Into the account, or (negative) out of what is free in it."""
        if self.matching.account.available(asset) < -amount:
            return Rejection("transfer", "insufficient", f"{-amount} {asset} are not free")
        self.matching.account.transfer(asset, amount)
        self.matching.now_ns = max(self.matching.now_ns, now_ns)
        kind = "TRANSFER_IN" if amount > 0 else "TRANSFER_OUT"
        report = TransferReport(f"{len(self.transfers) + 1:010d}", asset, amount, kind, now_ns)
        self.transfers.append(report)
        for listener in list(self.listeners.values()):
            listener(self, (Told(News.TRANSFERRED, None, report),))
        return report

    # ----------------------------------------------------------------------------------------------------- queries

    def find(self, category: str, serial: int | None, given: str) -> Record | None:
        """By order number, else by client id (the latest that had it)."""
        if serial is not None:
            record = self.records.get(f"{self.matching.terms.prefix}{serial:010d}")
            return record if record is not None and record.listing.category == category else None
        return self._named.get((category, given)) if given else None

    def open_records(self) -> Iterator[Record]:
        """Oldest first."""
        return (self.records[order_id] for order_id in self.matching.open)

    def recent(self) -> Iterator[Record]:
        """Closed since the last restart, newest first, no more than are kept at hand."""
        return takewhile(self.at_hand, reversed(self.closed))

    def at_hand(self, record: Record) -> bool:
        """Open, or among those that ended last."""
        late = record.closed_as > self.ended - self.memory.recent
        return record.open or (late and record.order.updated_ns > self.forgotten_ns)

    def history(self, now_ns: int) -> Iterator[Record]:
        """Closed and not yet forgotten, newest first."""
        return (record for record in reversed(self.closed) if self.remembers(record, now_ns))

    def remembers(self, record: Record, now_ns: int) -> bool:
        kept_ns = self.memory.filled_ns if record.order.filled_qty else self.memory.unfilled_ns
        return record.open or now_ns - record.order.updated_ns <= kept_ns

    def shows(self, record: Record, now_ns: int) -> bool:
        """Whether queries find it yet."""
        return now_ns >= record.order.accepted_ns + self.memory.visible_ns

    def record_of(self, fill: FillReport) -> Record | None:
        return self.records.get(fill.venue_order_id)

    # -------------------------------------------------------------------------------------------------- what follows

    def hear(self, event: MarketEvent) -> None:
        self.matching.hear(event)
        self.settle()

    def settle(self) -> None:
        changes = self.matching.take()
        if changes.reports or changes.orders:
            self._tell(changes)

    def _tell(self, changes: Changes) -> None:
        self.steps += 1
        told: list[Told] = []
        for report in changes.reports:
            if isinstance(report, FundingReport):
                told.append(Told(News.FUNDED, None, report))
                continue
            record = self.records[report.venue_order_id]
            self._tell_trigger(record, told)
            told.append(self._count(record, report) if isinstance(report, FillReport) else _progress(record, report))
        for order in changes.orders:
            record = self.records[order.order_id]
            self._tell_trigger(record, told)
            if order.status != "open":
                self._close(record)
        if told:
            for listener in list(self.listeners.values()):
                listener(self, tuple(told))

    def _tell_trigger(self, record: Record, told: list[Told]) -> None:
        """Its trigger was reached: told once, before what follows from it."""
        if record.order.triggered and not record.triggered:
            record.triggered = True
            then = replace(record.order.report(), status="open", filled_qty=record.filled, reason="")
            told.append(Told(News.TRIGGERED, record, then, record.value))

    def _count(self, record: Record, fill: FillReport) -> Told:
        record.filled += fill.qty
        record.value += fill.qty * fill.price
        record.fees[fill.fee_asset] = record.fees.get(fill.fee_asset, ZERO) + fill.fee
        record.fills.append(fill)
        left = record.order.request.qty - record.filled
        if record.listing.category == "spot":
            return Told(News.FILLED, record, fill, record.value, left=left)
        holding = self._positions.setdefault(fill.symbol, Holding())
        realised = record.realised[fill.exec_id] = move(holding, fill.qty * fill.side.sign, fill.price)
        return Told(News.FILLED, record, fill, record.value, realised, holding.qty, left)

    def _close(self, record: Record) -> None:
        if len(self.closed) == self.closed.maxlen:
            oldest = self.closed.popleft()
            self.records.pop(oldest.order.order_id, None)
            name = (oldest.listing.category, oldest.given)
            if self._named.get(name) is oldest:
                del self._named[name]
        self.ended += 1
        record.closed_as = self.ended
        self.closed.append(record)


class House:
    """All members of one venue, and its market."""

    def __init__(self, name: str, listings: Iterable[Listing], members: Iterable[Member]) -> None:
        self.name = name
        self.listings = {(listing.category, listing.symbol): listing for listing in listings}
        self.members = {member.name: member for member in members}
        self.watchers: list[Callable[[Listing, MarketEvent], None]] = []
        self._by_symbol: dict[str, list[Listing]] = {}
        for listing in self.listings.values():
            self._by_symbol.setdefault(listing.symbol, []).append(listing)

    @property
    def first(self) -> Member:
        """Whose market the public sees; all members hear the same."""
        return next(iter(self.members.values()))

    def hear(self, event: MarketEvent) -> None:
        """An event of a tape, by the symbol that clients know; every category that lists it hears it."""
        for listing in self._by_symbol.get(event.symbol, ()):
            inner = replace(event, symbol=listing.instrument.symbol)
            for member in self.members.values():
                member.hear(inner)
            for watch in self.watchers:
                watch(listing, inner)


def open_house(
    name: str, listings: Iterable[Listing], terms: ExchangeTerms, prefix: str, id_rule: Literal["ever", "open"]
) -> House:
    """A house with a member for each account that a key names."""
    listed = tuple(listings)
    account = AccountTerms(
        balances=dict(terms.balances),
        leverage=terms.leverage,
        id_rule=id_rule,
        prefix=prefix,
        history=terms.memory.history,
        fee_in=terms.fee_in,
    )
    names = dict.fromkeys(key.account for key in terms.keys)
    return House(name, listed, [Member(member, account, listed, terms.memory) for member in names])


def listings_of(instruments: Iterable[Instrument]) -> tuple[Listing, ...]:
    """Spot and linear instruments under inner names that do not collide."""
    return tuple(Listing(i.kind.value, i.symbol, replace(i, symbol=f"{i.kind.value}:{i.symbol}")) for i in instruments)


def key_of(terms: ExchangeTerms, key: str) -> KeyTerms | None:
    return next((known for known in terms.keys if known.key == key), None)


def _progress(record: Record, report: OrderReport) -> Told:
    """What an order's report means to somebody who has heard the earlier ones."""
    if report.status != "open":
        news = News.ENDED
    elif not record.told:
        news = News.ACCEPTED
    else:
        news = News.PROGRESSED if report.filled_qty > record.reported else News.AMENDED
    record.told, record.reported = True, report.filled_qty
    return Told(news, record, report, record.value)


def _serial(order_id: str) -> int:
    return int(order_id[-10:])
