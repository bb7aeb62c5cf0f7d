"""The independent checker: whether the promises held, told from the venue's truth and the durable journal alone.

Nothing here knows the engine's memory, and no rule of the engine is called: what an order means, what a position is and
what counts as covered are worked out again from the messages. Each check is a function from `Evidence` to violations
and carries the number of its invariant (RELIABILITY section 2).
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cached_property

from msgspec import Struct

from engine.core.messages import (
    ZERO,
    Accepted,
    Action,
    AnyFact,
    Canceled,
    Confirmed,
    Corrected,
    DeadLettered,
    Expired,
    Filled,
    FundingPaid,
    Halt,
    Halted,
    Instrument,
    InstrumentKind,
    Judged,
    Leg,
    Mismatched,
    Missing,
    Order,
    OrderType,
    Outcome,
    Rejected,
    Resumed,
    Side,
    SignalConflicted,
    SignalReceived,
    Submitted,
    Unclear,
    Unsent,
)
from engine.core.times import SECOND
from engine.runtime.journal.base import Record
from tests.sim.truth import (
    AnyEntry,
    CancelWired,
    Copied,
    Crashed,
    Declined,
    DiskBroke,
    DiskMended,
    Ended,
    Executed,
    Fell,
    Funded,
    Held,
    Leased,
    Phase,
    Probed,
    Ready,
    Receipted,
    ResumeCalled,
    Sent,
    Started,
    StopReported,
    Synced,
    Taken,
    VenueRestarted,
    Wired,
)

MARK = "sf1"  # client ids of the engine begin with it
CONFIRMATION = "trade_confirmations"
STOPS = (OrderType.STOP_MARKET, OrderType.STOP_LIMIT)
TARGETS = (OrderType.TAKE_PROFIT_MARKET, OrderType.TAKE_PROFIT_LIMIT)
COVERS = (*STOPS, OrderType.MARKET)  # an exit at work flattens, which is as good
ENDS = (Rejected, Canceled, Expired, Missing, Unsent)
ON_THE_WAY_NS = 36 * SECOND  # W + Q + E and a little: after that a request that has not arrived will not
PRICE_ROOM = Decimal("1.05")  # the price may move between the verdict and the send
BARE_CALM_NS = 5 * SECOND
BARE_QUIET_NS = 2 * SECOND
MISTAKEN_NS = 12 * SECOND  # until a stop that the venue has taken for a target is found out, and its position closed
SETTLING_NS = 90 * SECOND  # of calm, before protection is held to its bound


class Violation(Struct, frozen=True):
    """A broken promise: which, when (ns, simulated wall time), and the facts."""

    invariant: str
    at_ns: int
    text: str


class Evidence:
    """What the checker may look at, with the indexes that most checks want."""

    def __init__(
        self,
        entries: Sequence[AnyEntry],
        records: Sequence[Record],
        instruments: Sequence[Instrument],
        positions: dict[str, Decimal],
        families: Sequence[str] = (),
        position_cap: Decimal | None = None,
        quiescent: bool = True,
        chain_error: str = "",
        sinks: Mapping[str, int] | None = None,
    ) -> None:
        self.entries, self.records = tuple(entries), tuple(records)
        self.instruments = {i.symbol: i for i in instruments}
        self.positions = positions  # the journal's position rows
        self.families = tuple(families)
        self.position_cap = position_cap  # quote, per symbol
        self.quiescent = quiescent  # the run came to its end: q-invariants hold too
        self.chain_error = chain_error
        self.sinks = dict(sinks or {})  # the journal's cursors

    @property
    def end_ns(self) -> int:
        return self.entries[-1].at_ns if self.entries else 0

    @cached_property
    def calm_ns(self) -> int:
        return next((e.at_ns for e in self.entries if isinstance(e, Phase) and e.name == "calm"), self.end_ns)

    @cached_property
    def _synced(self) -> tuple[list[int], list[int]]:
        """Places of Synced entries in the truth, and their record numbers: both only grow."""
        marks = [(i, e.seq) for i, e in enumerate(self.entries) if isinstance(e, Synced)]
        seqs, places, high = [], [], 0
        for place, seq in marks:
            if seq > high:
                high = seq
                seqs.append(seq)
                places.append(place)
        return seqs, places

    def durable_at(self, record: Record) -> int:
        """The place in the truth at which this record was on the disk; beyond the end if never."""
        seqs, places = self._synced
        found = bisect_left(seqs, record.seq)
        return places[found] if found < len(places) else len(self.entries)

    @cached_property
    def broken_disk(self) -> list[tuple[int, int]]:
        """Stretches of time (ns) in which nothing could be made durable."""
        found: list[tuple[int, int]] = []
        for entry in self.entries:
            if isinstance(entry, DiskBroke):
                found.append((entry.at_ns, self.end_ns))
            elif isinstance(entry, DiskMended):
                found[-1] = (found[-1][0], entry.at_ns)
        return found

    @cached_property
    def leased(self) -> bool:
        """Engines share the accounts, with leases."""
        return any(isinstance(entry, Leased) for entry in self.entries)

    @cached_property
    def unwritten(self) -> frozenset[str]:
        """Closers sent while the disk was broken: protection goes on then, without a record (DESIGN, journal)."""
        return frozenset(
            w.order.cid
            for w in self.entries
            if isinstance(w, Wired) and w.order.reduce_only and any(a <= w.at_ns <= b for a, b in self.broken_disk)
        )

    @cached_property
    def submitted(self) -> dict[str, tuple[Record, Order]]:
        """The first intent of each client id."""
        found: dict[str, tuple[Record, Order]] = {}
        for record in self.records:
            if isinstance(record.fact, Submitted):
                found.setdefault(record.fact.order.cid, (record, record.fact.order))
        return found

    def facts(self, kind: type) -> Iterator[tuple[Record, AnyFact]]:
        return ((r, r.fact) for r in self.records if isinstance(r.fact, kind))

    @cached_property
    def judged(self) -> dict[str, Judged]:
        return {f.signal_id: f for _, f in self.facts(Judged) if isinstance(f, Judged)}

    @cached_property
    def ended(self) -> dict[str, AnyFact]:
        """The fact that ended each order, by client id; filled up counts as an end."""
        ends: dict[str, AnyFact] = {}
        filled: dict[str, Decimal] = defaultdict(lambda: ZERO)
        for record in self.records:
            fact = record.fact
            if isinstance(fact, ENDS):
                ends.setdefault(fact.cid, fact)
            elif isinstance(fact, Filled):
                filled[fact.cid] += fact.qty
                if fact.cid in self.submitted and filled[fact.cid] >= self.submitted[fact.cid][1].qty:
                    ends.setdefault(fact.cid, fact)
        return ends

    @cached_property
    def executed(self) -> dict[str, Decimal]:
        """What the venue has executed of each client id."""
        sums: dict[str, Decimal] = defaultdict(lambda: ZERO)
        for entry in self.entries:
            if isinstance(entry, Executed):
                sums[entry.cid] += entry.qty
        return sums

    @cached_property
    def overfilled(self) -> dict[str, Decimal]:
        """By how much the venue has executed more of an order than it was asked for."""
        asked = {t.cid: t.qty for t in self.entries if isinstance(t, Taken) and not t.foreign}
        return {cid: self.executed[cid] - qty for cid, qty in asked.items() if self.executed[cid] > qty}

    @cached_property
    def filled_late(self) -> dict[str, Decimal]:
        """What the venue has executed of an order after it had said that the order was at its end."""
        over: set[str] = set()
        late: dict[str, Decimal] = defaultdict(lambda: ZERO)
        for entry in self.entries:
            if isinstance(entry, Ended):
                over.add(entry.venue_order_id)
            elif isinstance(entry, Executed) and entry.venue_order_id in over:
                late[entry.cid] += entry.qty
        return late

    @cached_property
    def corrected(self) -> frozenset[str]:
        """Client ids of which the engine has said that they did what they should not have."""
        return frozenset(f.cid for _, f in self.facts(Corrected) if isinstance(f, Corrected))

    def unasked(self, symbol: str) -> Iterator[tuple[str, Decimal]]:
        """Executions of our orders in a symbol that no gate could foresee, and how much of each."""
        mine = {t.cid for t in self.entries if isinstance(t, Taken) and t.symbol == symbol}
        return ((c, q) for c, q in (*self.overfilled.items(), *self.filled_late.items()) if c in mine)

    @cached_property
    def held(self) -> dict[str, int]:
        """Orders that waited in the adapter instead of at the venue: the last life in which they did."""
        return {entry.cid: entry.life for entry in self.entries if isinstance(entry, Held)}

    @property
    def by_hand(self) -> bool:
        """Whether somebody else trades in the account."""
        return bool({"a human", "a human's resting orders"} & set(self.families))

    @cached_property
    def open_at_venue(self) -> dict[str, Taken]:
        """Orders of ours that stand in the venue's book at the end, by client id."""
        book: dict[str, Taken] = {}
        for entry in self.entries:
            if isinstance(entry, Taken) and not entry.foreign:
                book[entry.venue_order_id] = entry
            elif isinstance(entry, Ended):
                book.pop(entry.venue_order_id, None)
        return {taken.cid: taken for taken in book.values()}


Check = Callable[[Evidence], Iterator[Violation]]


def check(evidence: Evidence) -> list[Violation]:
    """Every violation, in the order of the invariants' numbers."""
    return [v for one in CHECKS for v in one(evidence)]


# --------------------------------------------------------------------------------------------- P1: exactly once


def one_entry_per_signal(e: Evidence) -> Iterator[Violation]:
    """I1: one order per signal, ever; and what an entry executed is at most what was planned."""
    entries: dict[str, list[str]] = defaultdict(list)
    for cid, (_, order) in e.submitted.items():
        if not order.signal_id.startswith("~"):  # an order of a signal, not one that protects a position
            entries[order.signal_id].append(cid)
    for signal_id, cids in entries.items():
        if len(cids) > 1:
            yield Violation("I1", e.submitted[cids[1]][0].at_ns, f"signal {signal_id} has orders {cids}")
    taken: dict[str, Taken] = {}
    for entry in e.entries:
        if isinstance(entry, Taken) and entry.cid.startswith(MARK):
            if entry.cid in taken:
                yield Violation("I1", entry.at_ns, f"the venue took {entry.cid} twice")
            taken[entry.cid] = entry
    executed: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for entry in e.entries:
        if isinstance(entry, Executed) and entry.cid in e.submitted:
            order = e.submitted[entry.cid][1]
            if order.leg is not Leg.ENTRY:
                continue
            executed[order.signal_id] += entry.qty
            verdict = e.judged.get(order.signal_id)
            planned = verdict.plan.qty if verdict and verdict.plan else ZERO
            if executed[order.signal_id] > planned + e.overfilled.get(entry.cid, ZERO):
                text = f"signal {order.signal_id}: executed {executed[order.signal_id]} of {planned} planned"
                yield Violation("I1", entry.at_ns, text)


def ids_are_injective(e: Evidence) -> Iterator[Violation]:
    """I3: a client id stands for one (account, signal, leg, attempt) and never has two bodies."""
    seen: dict[str, Order] = {}
    owners: dict[tuple[str, str, str, Leg, int], str] = {}
    orders = [(r.at_ns, f.order) for r, f in e.facts(Submitted) if isinstance(f, Submitted)]
    orders += [(w.at_ns, w.order) for w in e.entries if isinstance(w, Wired)]
    for at_ns, order in orders:
        first = seen.setdefault(order.cid, order)
        if body(first) != body(order):
            yield Violation("I3", at_ns, f"{order.cid} has two bodies: {body(first)} and {body(order)}")
        owner = (order.account, order.symbol, order.signal_id, order.leg, order.attempt)
        if owners.setdefault(owner, order.cid) != order.cid:
            yield Violation("I3", at_ns, f"{owner} has two ids: {owners[owner]} and {order.cid}")


def openers_have_one_attempt(e: Evidence) -> Iterator[Violation]:
    """I4: nothing that opens is attempted again under a new id."""
    for cid, (record, order) in e.submitted.items():
        if order.leg is Leg.ENTRY and order.attempt:
            yield Violation("I4", record.at_ns, f"{cid} is attempt {order.attempt} of an entry")


# ----------------------------------------------------------------------------- P3: intent first, inside the limits


def intent_before_the_wire(e: Evidence) -> Iterator[Violation]:
    """I2: when an order's first byte leaves, its intent is on the disk, with the same body."""
    for place, entry in enumerate(e.entries):
        if not isinstance(entry, Wired):
            continue
        known = e.submitted.get(entry.order.cid)
        if entry.order.cid in e.unwritten:
            continue
        if known is None or e.durable_at(known[0]) > place:
            yield Violation("I2", entry.at_ns, f"{entry.order.cid} was sent before its intent was durable")
        elif body(known[1]) != body(entry.order):
            yield Violation("I2", entry.at_ns, f"{entry.order.cid} was sent with another body than intended")


def venue_orders_are_known(e: Evidence) -> Iterator[Violation]:
    """I5: an order with our mark has an intent; at the end both sides agree on what is open."""
    for entry in e.entries:
        if isinstance(entry, Taken) and entry.cid.startswith(MARK) and entry.cid not in e.submitted:
            if entry.cid in e.unwritten:
                continue
            yield Violation("I5", entry.at_ns, f"the venue has {entry.cid}, the journal does not")
    if not e.quiescent:
        return
    live = {cid for cid in e.submitted if cid not in e.ended}
    standing = e.open_at_venue
    last = next((s.life for s in reversed(e.entries) if isinstance(s, Ready)), 0)
    waiting = {cid for cid, life in e.held.items() if life == last}
    for cid in sorted(live - set(standing) - waiting):
        yield Violation("I5", e.end_ns, f"{cid} is not ended in the journal and not open at the venue")
    for cid in sorted(set(standing) - live):
        yield Violation("I5", e.end_ns, f"{cid} is open at the venue and ended (or unknown) in the journal")


def halts_hold(e: Evidence) -> Iterator[Violation]:
    """I7: once a halt is durable, no opening order inside its scope is written until it is released."""
    released = [(r.seq, f) for r, f in e.facts(Resumed) if isinstance(f, Resumed)]
    closed: list[tuple[int, int, str]] = []  # from this place, until this time, scope
    for record, fact in e.facts(Halted):
        assert isinstance(fact, Halted)
        ends = [f.at_ns for seq, f in released if seq > record.seq and _ends(f, fact.halt)]
        if fact.halt.until_ns is not None:
            ends.append(fact.halt.until_ns)
        closed.append((e.durable_at(record), min(ends, default=e.end_ns + 1), fact.halt.scope))
    if not closed:
        return
    for place, entry in enumerate(e.entries):
        if isinstance(entry, Wired) and opens(entry.order):
            for since, until_ns, scope in closed:
                if place > since and entry.at_ns < until_ns and _inside(entry.order, scope):
                    yield Violation("I7", entry.at_ns, f"{entry.order.cid} opens while {scope} is halted")


def _ends(resumed: Resumed, halt: Halt) -> bool:
    """Whether it is this very halt that was ended, and not another one of its scope."""
    return (resumed.scope, resumed.kind, resumed.whose) == (halt.scope, halt.kind, halt.by)


def stopped_means_stopped(e: Evidence) -> Iterator[Violation]:
    """P7: after a stop was reported as done, nothing opens in its scope before it is resumed.

    Where the venue's own lists lag or have holes, where it tells an end too early, or a person trades, the engine
    cannot know better.
    """
    if e.by_hand or {"read lag", "holes in lists", "fills after the cancel"} & set(e.families):
        return
    done: dict[str, int] = {}
    for entry in e.entries:
        match entry:
            case StopReported(flat=True, durable=True):
                done[entry.scope] = entry.at_ns
            case ResumeCalled():
                done.pop(entry.scope, None)
            case Phase(name="calm"):
                done.clear()
            case Executed() if entry.cid in e.submitted and opens(e.submitted[entry.cid][1]):
                for scope, at_ns in done.items():
                    if _inside(e.submitted[entry.cid][1], scope):
                        late = (entry.at_ns - at_ns) / SECOND
                        text = f"{entry.cid} opened {entry.qty} {late:.1f} s after the stop of {scope} was called done"
                        yield Violation("P7", entry.at_ns, text)


def sent_in_time(e: Evidence) -> Iterator[Violation]:
    """I9: nothing is signed after its time; what a stopped process sends late is refused for its signature's age."""
    for entry in e.entries:
        if not isinstance(entry, Wired) or not entry.order.valid_until_ns:
            continue
        signed_ns = entry.signed_ns or entry.at_ns
        if signed_ns > entry.order.valid_until_ns:
            late = (signed_ns - entry.order.valid_until_ns) / SECOND
            yield Violation("I9", entry.at_ns, f"{entry.order.cid} was sent {late:.3f} s after its time")


def on_steps(e: Evidence) -> Iterator[Violation]:
    """I10: quantities and prices are exact multiples of the instrument's steps."""
    for entry in e.entries:
        if not isinstance(entry, Wired):
            continue
        order, rules = entry.order, e.instruments[entry.order.symbol]
        prices = [p for p in (order.price, order.trigger_price) if p is not None]
        if order.qty <= 0 or order.qty % rules.lot or any(p <= 0 or p % rules.tick for p in prices):
            yield Violation("I10", entry.at_ns, f"{order.cid}: {order.qty} at {prices} is off the steps")


def exposure_is_capped(e: Evidence) -> Iterator[Violation]:
    """I11: position and every order that might be live, each side for itself, stay under the cap at each send."""
    if e.position_cap is None or e.by_hand:  # a person's trades are outside the gate's foresight
        return
    positions: dict[str, Decimal] = defaultdict(lambda: ZERO)
    live: dict[str, tuple[Order, Decimal, int]] = {}  # cid -> order, what may still be executed, when it was sent
    arrived: set[str] = set()
    over: set[str] = set()
    unasked = {s: sum((q for _, q in e.unasked(s)), ZERO) for s in e.instruments}
    for entry in e.entries:
        match entry:
            case Executed():
                positions[entry.symbol] = entry.position
                if entry.cid in live:
                    order, rest, at_ns = live[entry.cid]
                    live[entry.cid] = (order, rest - entry.qty, at_ns)
            case Taken():
                arrived.add(entry.cid)
            case Ended():
                live.pop(entry.cid, None)
                over.add(entry.cid)
            case Declined() if entry.cid not in arrived:  # else it is a repeat that was declined
                live.pop(entry.cid, None)
            case Wired() if opens(entry.order):
                order = entry.order
                if order.cid not in live and order.cid not in over:  # what is sent again under its id is one order
                    live[order.cid] = (order, order.qty, entry.at_ns)
                same = [
                    rest
                    for cid, (o, rest, at_ns) in live.items()
                    if (o.symbol, o.side) == (order.symbol, order.side)
                    and (cid in arrived or entry.at_ns - at_ns < ON_THE_WAY_NS)
                ]
                might = sum(same, ZERO) + positions[order.symbol] * order.side.sign - unasked[order.symbol]
                if might * order.reserve_price > e.position_cap * PRICE_ROOM:
                    text = f"{order.cid}: {order.symbol} may come to {might} {order.side.value}, cap {e.position_cap}"
                    yield Violation("I11", entry.at_ns, text)


def closers_only_reduce(e: Evidence) -> Iterator[Violation]:
    """I15: whatever is not an entry goes out reduce-only, and no reduce-only order enlarges or turns a position."""
    for entry in e.entries:
        if isinstance(entry, Wired) and entry.order.leg is not Leg.ENTRY and not entry.order.reduce_only:
            yield Violation("I15", entry.at_ns, f"{entry.order.cid} closes without being reduce-only")
    orders: dict[str, Taken] = {}
    positions: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for entry in e.entries:
        if isinstance(entry, Taken):
            orders[entry.venue_order_id] = entry
        elif isinstance(entry, Executed):
            before, positions[entry.symbol] = positions[entry.symbol], entry.position
            order = orders.get(entry.venue_order_id)
            if order is not None and order.reduce_only:
                turned = before * entry.position < 0
                if turned or abs(entry.position) > abs(before):
                    yield Violation("I15", entry.at_ns, f"{entry.cid} moved {before} to {entry.position}")


# ------------------------------------------------------------------------------------------- P2: nothing lost


def fills_are_booked_once(e: Evidence) -> Iterator[Violation]:
    """I17: no execution twice in the ledger; at the end each of the venue's stands there, equal."""
    executed = {(x.symbol, x.exec_id): x for x in e.entries if isinstance(x, Executed)}
    booked: dict[tuple[str, str], Filled] = {}
    for record, fact in e.facts(Filled):
        assert isinstance(fact, Filled)
        key = (fact.symbol, fact.exec_id)
        if key in booked:
            yield Violation("I17", record.at_ns, f"execution {key} is booked twice")
        booked[key] = fact
        truth = executed.get(key)
        if truth is None:
            yield Violation("I17", record.at_ns, f"execution {key} is booked and never happened")
        elif _amounts(truth) != _amounts(fact) and not (truth.foreign and not fact.cid and _same_but_id(truth, fact)):
            yield Violation(
                "I17", record.at_ns, f"execution {key} is booked as {_amounts(fact)}, was {_amounts(truth)}"
            )
    if e.quiescent:
        for key, truth in executed.items():
            if key not in booked:
                yield Violation("I17", truth.at_ns, f"execution {key} of {truth.cid} ({truth.qty}) is not booked")


def cumulative_quantities_agree(e: Evidence) -> Iterator[Violation]:
    """I18: at the end, an order's booked fills add up to the venue's cumulative quantity."""
    if not e.quiescent:
        return
    booked: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for _, fact in e.facts(Filled):
        assert isinstance(fact, Filled)
        booked[fact.cid] += fact.qty
    for cid in dict.fromkeys(t.cid for t in e.entries if isinstance(t, Ended) and t.cid in e.submitted):
        if booked[cid] != e.executed[cid]:
            yield Violation("I18", e.end_ns, f"{cid}: {booked[cid]} booked, {e.executed[cid]} filled at the venue")
    for cid in e.overfilled:
        if cid in e.submitted and cid not in e.corrected:
            yield Violation("R22", e.end_ns, f"{cid} was overfilled, and nobody was told")


def positions_agree(e: Evidence) -> Iterator[Violation]:
    """I19: at the end, ledger and position row are the venue's position to the last digit."""
    if not e.quiescent:
        return
    venue: dict[str, Decimal] = dict.fromkeys(e.instruments, ZERO)
    venue |= {x.symbol: x.position for x in e.entries if isinstance(x, Executed)}
    ledger: dict[str, Decimal] = dict.fromkeys(e.instruments, ZERO)
    for _, fact in e.facts(Filled):
        assert isinstance(fact, Filled)
        rules = e.instruments[fact.symbol]
        in_base = rules.kind is InstrumentKind.SPOT and fact.fee_asset == rules.base
        ledger[fact.symbol] += (fact.qty if fact.side is Side.BUY else -fact.qty) - (fact.fee if in_base else ZERO)
    for symbol, qty in venue.items():
        if ledger[symbol] != qty:
            yield Violation("I19", e.end_ns, f"{symbol}: the ledger says {ledger[symbol]}, the venue {qty}")
        if e.positions.get(symbol, ZERO) != qty:
            yield Violation("I19", e.end_ns, f"{symbol}: the row says {e.positions.get(symbol)}, the venue {qty}")


def funding_is_booked_once(e: Evidence) -> Iterator[Violation]:
    """I19 for money that moves without a trade: each funding payment once."""
    paid = {f.funding_id: f for f in e.entries if isinstance(f, Funded)}
    booked = Counter(f.funding_id for _, f in e.facts(FundingPaid) if isinstance(f, FundingPaid))
    for funding_id, times in booked.items():
        if times > 1 or funding_id not in paid:
            yield Violation("I19", e.end_ns, f"funding {funding_id} is booked {times} times")
    if e.quiescent:
        for funding_id in paid:
            if funding_id not in booked:
                yield Violation("I19", paid[funding_id].at_ns, f"funding {funding_id} is not booked")


def acknowledged_is_durable(e: Evidence) -> Iterator[Violation]:
    """I23: what a source was told is on the disk at that moment."""
    received = {f.signal.signal_id: r for r, f in e.facts(SignalReceived) if isinstance(f, SignalReceived)}
    judged = {f.signal_id: r for r, f in e.facts(Judged) if isinstance(f, Judged)}
    conflicts = {
        f.signal_id: r for r, f in reversed(list(e.facts(SignalConflicted))) if isinstance(f, SignalConflicted)
    }
    letters = sorted(e.durable_at(r) for r, _ in e.facts(DeadLettered))
    malformed = 0
    for place, entry in enumerate(e.entries):
        if not isinstance(entry, Receipted):
            continue
        match entry.status:
            case "accepted" | "refused" | "recorded" | "repeated":
                needed: tuple[Record | None, ...] = (received.get(entry.signal_id), judged.get(entry.signal_id))
            case "conflict":
                needed = (conflicts.get(entry.signal_id),)
            case "malformed":
                malformed += 1
                if bisect_left(letters, place) < malformed:
                    yield Violation("I23", entry.at_ns, "a source was told of a dead letter that is not durable")
                continue
            case _:
                continue
        if any(record is None or e.durable_at(record) > place for record in needed):
            text = f"{entry.source} was told {entry.status} of {entry.signal_id}, and that is not durable"
            yield Violation("I23", entry.at_ns, text)


def contradictions_are_refused(e: Evidence) -> Iterator[Violation]:
    """I24: an id has one body; another body with it is never accepted, and the same body never refused as another."""
    times = Counter(f.signal.signal_id for _, f in e.facts(SignalReceived) if isinstance(f, SignalReceived))
    for signal_id, count in times.items():
        if count > 1:
            yield Violation("I24", e.end_ns, f"signal {signal_id} was received {count} times")
    first: dict[str, str] = {}
    for entry in e.entries:
        if not isinstance(entry, Receipted) or entry.status in ("busy", "malformed"):
            continue
        if entry.status == "conflict":
            if first.get(entry.signal_id) == entry.digest:
                yield Violation("I24", entry.at_ns, f"the same body of {entry.signal_id} was called another")
        elif first.setdefault(entry.signal_id, entry.digest) != entry.digest:
            yield Violation("I24", entry.at_ns, f"{entry.signal_id} was {entry.status} with two bodies")


def signals_end_once(e: Evidence) -> Iterator[Violation]:
    """I25: an accepted signal has one end; it reaches every sink, at least once, always as the same event."""
    ends = Counter(f.signal_id for _, f in e.facts(Confirmed) if isinstance(f, Confirmed))
    for signal_id, count in ends.items():
        if count > 1:
            yield Violation("I25", e.end_ns, f"signal {signal_id} ended {count} times")
    copies: dict[int, Copied] = {}
    confirmations: dict[str, int] = {}
    had: dict[str, dict[int, None]] = {sink: {} for sink in e.sinks}
    newest: dict[str, int] = {}
    for entry in e.entries:
        if not isinstance(entry, Copied):
            continue
        same = copies.setdefault(entry.event_id, entry)
        if (same.name, same.key, same.digest) != (entry.name, entry.key, entry.digest):
            yield Violation("I25", entry.at_ns, f"event {entry.event_id} was published with two bodies")
        if entry.event_id not in had.setdefault(entry.sink, {}):
            had[entry.sink][entry.event_id] = None
            if entry.event_id < (last := newest.get(entry.sink, 0)):
                yield Violation("I25", entry.at_ns, f"event {entry.event_id} came after event {last} to {entry.sink}")
            newest[entry.sink] = entry.event_id
        if entry.name == CONFIRMATION and confirmations.setdefault(entry.key, entry.event_id) != entry.event_id:
            text = f"signal {entry.key} has confirmations {confirmations[entry.key]} and {entry.event_id}"
            yield Violation("I25", entry.at_ns, text)
    for sink, cursor in e.sinks.items():
        if gone := [event_id for event_id in range(1, cursor + 1) if event_id not in had[sink]]:
            text = f"the cursor of {sink} stands at {cursor}, and event {gone[0]} has not been there"
            yield Violation("I25", e.end_ns, text)
    if not e.quiescent:
        return
    for sink, events in had.items():
        for event_id in copies:
            if event_id not in events:
                yield Violation("I25", e.end_ns, f"event {event_id} did not reach {sink}")
    # A feed that is late has limits resting at the end: those signals are on their way still.
    resting = {order.signal_id for cid, (_, order) in e.submitted.items() if cid in e.open_at_venue}
    for signal_id, verdict in e.judged.items():
        if verdict.outcome is Outcome.ACCEPTED:
            if not ends[signal_id]:
                if signal_id not in resting:
                    yield Violation("I25", e.end_ns, f"accepted signal {signal_id} has no end")
            elif signal_id not in confirmations:
                yield Violation("I25", e.end_ns, f"the end of signal {signal_id} was not published")


# ------------------------------------------------------------------------------------------- P4: doubt is a state


def doubt_ends_on_evidence(e: Evidence) -> Iterator[Violation]:
    """P4, I26: "missing" and "rejected" are only said of orders that the venue does not have; no doubt is left."""
    taken = {t.cid for t in e.entries if isinstance(t, Taken)}
    forgotten = dict(_forgotten(e))
    rejected = {t.cid for t in e.entries if isinstance(t, Ended) and t.status == "rejected"}
    wired = {w.order.cid for w in e.entries if isinstance(w, Wired)}
    for record in e.records:
        fact = record.fact
        if isinstance(fact, Missing) and fact.cid in taken and record.at_ns < forgotten.get(fact.cid, e.end_ns + 1):
            yield Violation("I26", record.at_ns, f"{fact.cid} was declared missing and the venue had taken it")
        if isinstance(fact, Rejected) and fact.cid in taken and fact.cid not in rejected:
            yield Violation("I26", record.at_ns, f"{fact.cid} was declared rejected and the venue had taken it")
        if isinstance(fact, Unsent) and fact.cid in taken:
            yield Violation("I26", record.at_ns, f"{fact.cid} was declared unsent and the venue had taken it")
        if isinstance(fact, Accepted) and fact.cid not in taken and fact.cid not in e.held:
            yield Violation("I26", record.at_ns, f"{fact.cid} was declared accepted and the venue never took it")
        if isinstance(fact, Unsent) and fact.cid in wired and fact.cid not in {d.cid for d in _declined(e)}:
            yield Violation("I26", record.at_ns, f"{fact.cid} was declared unsent and its bytes had left")
    if not e.quiescent:
        return
    for record, fact in e.facts(Unclear):
        assert isinstance(fact, Unclear)
        if fact.cid not in e.ended and fact.cid not in e.open_at_venue:
            yield Violation("I26", record.at_ns, f"{fact.cid} is still in doubt: {fact.why}")


def alarms_are_true(e: Evidence) -> Iterator[Violation]:
    """I19's other half: whoever says that the books disagree has waited until the venue could show what it knows.

    In this world every change of a position is an execution, so no difference lasts longer than queries may lag.
    """
    for record, fact in e.facts(Mismatched):
        assert isinstance(fact, Mismatched)
        yield Violation("I19", record.at_ns, f"{fact.symbol}: a false alarm, ours {fact.ours}, theirs {fact.theirs}")


def chain_is_whole(e: Evidence) -> Iterator[Violation]:
    """I28: record numbers have no gap, and the hash chain verifies."""
    if e.chain_error:
        yield Violation("I28", e.end_ns, e.chain_error)
    for before, after in zip(e.records, e.records[1:], strict=False):
        if after.seq != before.seq + 1:
            yield Violation("I28", after.at_ns, f"record {before.seq} is followed by {after.seq}")
    seqs, _ = e._synced
    if seqs and (not e.records or e.records[-1].seq < seqs[-1]):
        kept = e.records[-1].seq if e.records else 0
        yield Violation("I28", e.end_ns, f"records up to {seqs[-1]} were durable, {kept} are left")


def comes_to_rest(e: Evidence) -> Iterator[Violation]:
    """I30: in the calm every offer is answered and a fresh signal is executed."""
    if not e.quiescent:
        return
    answered = {(r.signal_id, r.digest) for r in e.entries if isinstance(r, Receipted) and r.status != "busy"}
    for sent in {(s.signal_id, s.digest): s for s in e.entries if isinstance(s, Sent)}.values():
        if (sent.signal_id, sent.digest) not in answered:
            yield Violation("I30", sent.at_ns, f"{sent.signal_id} was offered and never answered")
    ends = {f.signal_id: f for _, f in e.facts(Confirmed) if isinstance(f, Confirmed)}
    for entry in e.entries:
        if isinstance(entry, Probed):
            end = ends.get(entry.signal_id)
            taken_back = end is not None and end.outcome is Outcome.PARTIAL and _closed_meanwhile(e, entry)
            if end is None or not (end.outcome is Outcome.EXECUTED or taken_back):
                verdict = e.judged.get(entry.signal_id)
                failed = [f"{c.rule}: {c.reason}" for c in verdict.checks if not c.passed] if verdict else []
                why = end.outcome.value + " " + end.reason if end else "; ".join(failed) or "not judged"
                yield Violation("I30", entry.at_ns, f"the fresh signal {entry.signal_id} was not executed: {why}")


# --------------------------------------------------------------------------- P5: a filled position is protected


class Bare(Struct, frozen=True):
    """A stretch of time in which a position lacked cover at the venue."""

    symbol: str
    since_ns: int
    until_ns: int


def bare_stretches(e: Evidence) -> list[Bare]:
    """When the live stops in the venue's book, and exits at work there, covered less of a position than they could."""
    positions: dict[str, Decimal] = defaultdict(lambda: ZERO)
    stops: dict[str, Taken] = {}
    rest: dict[str, Decimal] = {}
    since: dict[str, int] = {}
    found: list[Bare] = []
    for entry in e.entries:
        match entry:
            case Taken(order_type=order_type, reduce_only=True) if order_type in COVERS:
                stops[entry.venue_order_id], rest[entry.venue_order_id] = entry, entry.qty
            case Executed():
                positions[entry.symbol] = entry.position
                if entry.venue_order_id in rest:
                    rest[entry.venue_order_id] -= entry.qty
            case Ended():
                stops.pop(entry.venue_order_id, None)
            case _:
                continue
        symbol = entry.symbol if isinstance(entry, Taken | Executed) else ""
        for name in (symbol,) if symbol else tuple(positions):
            if _lacks_cover(positions[name], e.instruments[name], stops, rest):
                since.setdefault(name, entry.at_ns)
            elif name in since:
                found.append(Bare(name, since.pop(name), entry.at_ns))
    return found + [Bare(name, at_ns, e.end_ns) for name, at_ns in since.items()]


def positions_are_protected(e: Evidence) -> Iterator[Violation]:
    """I31: without faults, cover comes within 2 s of the fill; in a calm after faults, within 5 s."""
    spared = {s for s in e.instruments if waived(e, s)}
    began = next((x.at_ns for x in e.entries if isinstance(x, Started)), 0)
    bound, from_ns = (BARE_CALM_NS, e.calm_ns + SETTLING_NS) if e.families else (BARE_QUIET_NS, began)
    dead_ns = next((x.at_ns for x in e.entries if isinstance(x, Phase) and x.name == "dead"), e.end_ns)
    for bare in bare_stretches(e):
        length = min(bare.until_ns, dead_ns) - max(bare.since_ns, from_ns)
        if length > (max(bound, MISTAKEN_NS) if _mistaken(e, bare) else bound) and bare.symbol not in spared:
            text = f"{bare.symbol} was without cover for {(bare.until_ns - bare.since_ns) / SECOND:.1f} s"
            yield Violation("I31", bare.since_ns, text)


def _mistaken(e: Evidence, bare: Bare) -> bool:
    """Whether a stop of ours stood there as a target: the market overtook it on its way, where no direction is said."""
    ended = {x.venue_order_id: x.at_ns for x in e.entries if isinstance(x, Ended)}
    return any(
        x.symbol == bare.symbol
        and x.at_ns <= bare.until_ns
        and ended.get(x.venue_order_id, e.end_ns) >= bare.since_ns
        and x.order_type in TARGETS
        and x.cid in e.submitted
        and e.submitted[x.cid][1].leg is Leg.STOP
        for x in e.entries
        if isinstance(x, Taken)
    )


# ----------------------------------------------------------------------------------------------- nobody fell over


def one_engine_at_a_time(e: Evidence) -> Iterator[Violation]:
    """P1, J4: while one engine has the journal, another that is started on it by mistake does not come up."""
    living: set[int] = set()
    for entry in e.entries if not e.leased else ():
        match entry:
            case Ready(life=life):
                if living:
                    yield Violation("J4", entry.at_ns, f"life {life} came up while {sorted(living)} had the journal")
                living.add(life)
            case Crashed(life=life) | Fell(life=life):
                living.discard(life)


def one_holder_at_a_time(e: Evidence) -> Iterator[Violation]:
    """I6: once another engine has the lease, nothing is signed by the one before, and no order of it that arrives late
    is unknown to the journal that the other goes by.

    What was signed before may still arrive, for as long as its signature is good: the books know of it (I2).
    """
    holder, since_ns = 0, 0
    stale: dict[str, int] = {}  # orders of those who had lost the lease when they arrived
    sent: dict[str, int] = {}
    for entry in e.entries if e.leased else ():
        match entry:
            case Leased(life=life):
                holder, since_ns = life, entry.at_ns
            case Wired() | CancelWired():
                cid = entry.order.cid if isinstance(entry, Wired) else entry.cid
                signed_ns = entry.signed_ns or entry.at_ns
                if isinstance(entry, Wired):
                    sent[cid] = entry.life
                if entry.life != holder and signed_ns > since_ns:
                    what = "an order" if isinstance(entry, Wired) else "a cancel"
                    late = (signed_ns - since_ns) / SECOND
                    text = f"life {entry.life} signed {what}, {cid}, {late:.3f} s after life {holder} had the lease"
                    yield Violation("I6", entry.at_ns, text)
            case Taken(cid=cid) if cid in sent and sent[cid] != holder:
                stale[cid] = entry.at_ns
            case _:
                pass
    for cid, at_ns in stale.items():
        if cid not in e.submitted and cid not in e.unwritten:
            yield Violation("I6", at_ns, f"{cid} arrived after a take-over, and the journal has no intent of it")


def nothing_broke(e: Evidence) -> Iterator[Violation]:
    """The engine's own assertions: none failed, no actor died, the engine did not end by itself."""
    for entry in e.entries:
        if isinstance(entry, Fell):
            yield Violation("FELL", entry.at_ns, f"the engine ended: {entry.why}")
    for record, fact in e.facts(Halted):
        assert isinstance(fact, Halted)
        if fact.halt.by == "supervisor" and "failing disk" not in e.families:
            yield Violation("FELL", record.at_ns, f"{fact.halt.scope}: {fact.halt.reason}")
    if not e.by_hand:
        marked = {t.cid for t in e.entries if isinstance(t, Taken)}
        for record, fact in e.facts(Corrected):
            assert isinstance(fact, Corrected)
            if fact.cid not in marked:
                yield Violation("FELL", record.at_ns, f"{fact.cid} was corrected and the venue never had it")


CHECKS: tuple[Check, ...] = (
    one_entry_per_signal,
    intent_before_the_wire,
    ids_are_injective,
    openers_have_one_attempt,
    venue_orders_are_known,
    halts_hold,
    stopped_means_stopped,
    sent_in_time,
    on_steps,
    exposure_is_capped,
    closers_only_reduce,
    fills_are_booked_once,
    cumulative_quantities_agree,
    positions_agree,
    funding_is_booked_once,
    acknowledged_is_durable,
    contradictions_are_refused,
    signals_end_once,
    alarms_are_true,
    doubt_ends_on_evidence,
    chain_is_whole,
    comes_to_rest,
    positions_are_protected,
    one_engine_at_a_time,
    one_holder_at_a_time,
    nothing_broke,
)


# ------------------------------------------------------------------------------------------------------ small parts


def body(order: Order) -> tuple[object, ...]:
    """What the venue is asked for: the part of an order that must not change between intent and wire."""
    return (
        order.symbol,
        order.side,
        order.order_type,
        order.qty,
        order.tif,
        order.price,
        order.trigger_price,
        order.reduce_only,
    )


def opens(order: Order) -> bool:
    return order.leg is Leg.ENTRY and not order.reduce_only


def crashes(e: Evidence) -> int:
    return sum(isinstance(x, Crashed) for x in e.entries)


def _inside(order: Order, scope: str) -> bool:
    kind, _, name = scope.partition("/")
    match kind:
        case "engine" | "venue":  # the world has one venue
            return True
        case "account":
            return name == order.account
        case _:
            return name == f"{order.account}/{order.symbol}"


def _amounts(fill: Executed | Filled) -> tuple[object, ...]:
    return (fill.cid, fill.side, fill.qty, fill.price, fill.fee, fill.fee_asset)


def _same_but_id(fill: Executed, booked: Filled) -> bool:
    """Somebody else's, under an id that a venue need not tell with an execution."""
    return _amounts(fill)[1:] == _amounts(booked)[1:]


def _closed_meanwhile(e: Evidence, probe: Probed) -> bool:
    """Whether a late close of the probe's symbol was accepted before the probe had an end: it cancels what is left of
    it (seed 811)."""
    received = {f.signal.signal_id: (r, f.signal) for r, f in e.facts(SignalReceived) if isinstance(f, SignalReceived)}
    begun, probed = received[probe.signal_id]
    (ended, *_) = (r for r, f in e.facts(Confirmed) if isinstance(f, Confirmed) and f.signal_id == probe.signal_id)
    return any(
        begun.seq < record.seq < ended.seq
        and (signal.action, signal.symbol) == (Action.CLOSE, probed.symbol)
        and e.judged[signal.signal_id].outcome is Outcome.ACCEPTED
        for record, signal in received.values()
        if signal.signal_id in e.judged
    )


def _declined(e: Evidence) -> Iterator[Declined]:
    return (d for d in e.entries if isinstance(d, Declined))


def _forgotten(e: Evidence) -> Iterator[tuple[str, int]]:
    """Orders that had ended without an execution when the venue lost its memory of them, and when that was: to call
    one of them missing is wrong, and the same for everybody's money."""
    ended: set[str] = set()
    for entry in e.entries:
        if isinstance(entry, Ended) and not e.executed[entry.cid]:
            ended.add(entry.cid)
        elif isinstance(entry, VenueRestarted):
            yield from ((cid, entry.at_ns) for cid in sorted(ended))
            ended.clear()


def _lacks_cover(qty: Decimal, rules: Instrument, stops: dict[str, Taken], rest: dict[str, Decimal]) -> bool:
    closable = abs(qty) // rules.lot * rules.lot
    if closable < rules.qty_min:
        return False
    side = Side.SELL if qty > 0 else Side.BUY
    cover = sum((rest[i] for i, s in stops.items() if s.symbol == rules.symbol and s.side is side), ZERO)
    return cover < closable


def waived(e: Evidence, symbol: str) -> bool:
    """Whether any accepted signal of the symbol was allowed to go without a stop."""
    return any(
        v.outcome is Outcome.ACCEPTED
        and v.symbol == symbol
        and v.plan is not None
        and v.plan.side is not None
        and not v.plan.reduce_only
        and v.plan.stop_loss is None
        for v in e.judged.values()
    )
