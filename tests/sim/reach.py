"""Which rare situations a run came to: a proof that never met a situation has said nothing about it.

Each goal must come up at least once in 1,000 seeds, or the run says which did not. What came up is read from the truth
log and the durable journal, never from the plan of faults: a fault that was drawn and hit nothing is no situation.
The crash points have the numbers of RELIABILITY section 4.2.
"""

from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from decimal import Decimal

from engine.core.messages import (
    ZERO,
    Accepted,
    AnyFact,
    CancelAsked,
    Canceled,
    CancelFailed,
    Confirmed,
    Covered,
    DeadLettered,
    EngineStarted,
    Expired,
    Filled,
    FlattenAsked,
    FundingPaid,
    Halted,
    InstrumentKind,
    Judged,
    Leg,
    Missing,
    Order,
    Outcome,
    PlanSet,
    Rejected,
    Resumed,
    SignalConflicted,
    SignalReceived,
    Submitted,
    TradeClosed,
    Unclear,
    Unsent,
)
from tests.sim.checks import CONFIRMATION, ENDS, STOPS, TARGETS, Evidence, bare_stretches, opens
from tests.sim.faults import CHANNELS, FACES
from tests.sim.truth import (
    AnyEntry,
    Arrived,
    BanHeard,
    CancelWired,
    Copied,
    Crashed,
    Declined,
    DiskBroke,
    Ended,
    Executed,
    Frozen,
    HaltCalled,
    Leased,
    Ousted,
    Ready,
    Receipted,
    Replied,
    Sent,
    Started,
    StopReported,
    Taken,
    Thawed,
    Triggered,
    Truth,
    TurnedAway,
    Wired,
)

NEEDED_IN = 1000  # seeds: whoever ran so many must have come to each goal

POINTS = {
    "1": "read, nothing durable",
    "2": "signal durable, source not answered",
    "3": "source answered, order not sent",
    "5": "verdict durable, no intent",
    "6": "intent durable, nothing sent",
    "7, 8": "bytes left, not arrived",
    "9": "at the venue, no answer durable",
    "10": "answered, answer not durable",
    "11": "answer durable, order alive",
    "12": "order over at the venue, end not durable",
    "13": "executed, fill not durable",
    "14": "fill durable, event not published",
    "15": "filled, stop not there",
    "16": "confirmation durable, not published",
    "17": "published, not marked: published again",
    "18": "published and marked: not again",
    "19": "cancel intent durable, not sent",
    "20": "cancel sent, order's end not durable",
    "21": "during recovery",
    "24": "halt called, not durable",
    "25": "epoch taken, start not durable",
    "26": "stop placed, target not",
}
ELSEWHERE = {
    "4": "signal and verdict are one commit: there is nothing between them",
    "22, 23": "the worlds archive and migrate nothing: tests/runtime/test_archive.py, test_journal_disk.py",
}
_CODES = {
    "-1021": "a request came after its window",
    "10006": "the venue's rate limit was hit",
    "110072": "the venue knew the id already",
    "-2021": "a stop would have triggered at once",
    "-2022": "nothing was left to reduce",
}
_COUNTED = {  # by the venue, the disk and the sinks themselves, as it happens
    "accepted order not visible to a query": "a query did not show an order that the venue had",
    "query for an order that the venue has forgotten": "a query for an order that the venue had forgotten",
    "a human canceled our order": "a human canceled our order",
    "sink down": "a sink was down and had taken a part",
    "sink away": "one sink was away for long, and the other was told",
    "a torn commit was cut": "a torn commit was cut",
    "a torn commit was whole all the same": "a torn commit was whole all the same",
    "a commit whose sync had failed was there after the restart": "a commit whose sync had failed was there afterwards",
    "a listen key was lost": "the key of a private stream was lost",
    "too old before the book": "a request was too old before the book, after the gate",
    "a cancel-replace that only canceled": "a cancel-replace canceled, and did not place",
    "a cancel-replace that found nothing to replace": "a cancel-replace found nothing to replace",
    "the market overtook an order on its way to its trigger": "the market overtook a stop or target on its way",
    **{f"by {face}": f"{face}: a world by its protocol" for face in FACES},
    **{f"without {channel}": f"signals went on without {channel}" for channel in CHANNELS},
}
_BY_FACE = (
    "doubt ended: the order was found",
    "doubt ended: its absence was proven",
    "a life of the engine was told of a ban",
    "a fill was learned by asking",
    "an answer could not be read",
    "a status that nobody knows",
)
GOALS: tuple[str, ...] = (
    "a time-out whose order lived",
    "a time-out whose order did not",
    "doubt ended: the order was found",
    "doubt ended: the order was refused",
    "doubt ended: its absence was proven",
    "an order in doubt outlived a crash",
    "a fill came before the answer",
    "a cancel lost to a fill",
    "a cancel failed and the order lived",
    "a fill was booked after the cancel",
    "an order was filled beyond its quantity",
    "an order was filled after its end at the venue",
    "refused after the acknowledgement",
    "a part was filled, the rest was not",
    "an entry ran out of its time",
    "a closing order whose absence was proven went out again",
    *_CODES.values(),
    "a life of the engine was told of a ban",
    "halt with an opener on the wire",
    "halt with an opener at the venue",
    "a halt outlived a crash",
    "an order was stopped at the last door",
    "a stop was reported as flat",
    "a stop was reported as not flat",
    "fee in base",
    "fee in a third asset",
    "the position flipped through zero",
    "an order of somebody else",
    "somebody else's resting order was executed",
    "the venue liquidated a position",
    "somebody else's fill made a position that was then covered",
    "funding was booked",
    "a fill was learned by asking",
    "a stop was triggered",
    "a stop that somebody took away was replaced",
    "a stop was taken for a target",
    "a position without cover was covered",
    "a position was flattened",
    "entry, stop and target of one position",
    "a trade was closed",
    "the disk was full",
    "a sync failed",
    *_COUNTED.values(),
    *(f"{face}: {goal}" for face in FACES for goal in _BY_FACE),
    "the engine was killed",
    "two kills without a start between them",
    "the process was stopped, and woke up",
    "an order left a process that had been stopped before its first byte",
    "a second engine was turned away",
    "a second engine was started while the first was stopped",
    "another engine took the accounts over",
    "an engine found itself taken over",
    "the same signal came again",
    "the same id came with another body",
    "a message could not be read",
    "a signal was refused",
    "an entry met a stale price",
    "an event was published twice",
    *(f"crash point {number}: {what}" for number, what in POINTS.items()),
)
COMMON = (  # come up in any few dozen seeds; the fast suite demands them
    "a time-out whose order lived",
    "a time-out whose order did not",
    "doubt ended: the order was found",
    "doubt ended: its absence was proven",
    "a query did not show an order that the venue had",
    "a fill came before the answer",
    "an order was filled beyond its quantity",
    "a life of the engine was told of a ban",
    "the venue liquidated a position",
    "refused after the acknowledgement",
    "fee in base",
    "the position flipped through zero",
    "an order of somebody else",
    "a fill was learned by asking",
    "a stop that somebody took away was replaced",
    "the disk was full",
    "a sync failed",
    "the same id came with another body",
    "a message could not be read",
    "an event was published twice",
    *(f"{face}: a world by its protocol" for face in FACES),
    *(f"{face}: doubt ended: the order was found" for face in FACES),
    *(f"crash point {n}: {POINTS[n]}" for n in ("2", "6", "9", "11", "13", "15", "16", "21")),
)


def reached(e: Evidence, truth: Truth) -> Counter[str]:
    """How often each goal came up in one run."""
    found = Counter(goal for seen in SIGHTINGS for goal in seen(e))
    found.update({goal: truth.reached.get(name, 0) for name, goal in _COUNTED.items()})
    found["a fill was learned by asking"] = sum(
        isinstance(f, Filled) and (f.symbol, f.exec_id) not in truth.heard for _, f in e.facts(Filled)
    )
    found["an answer could not be read"] = truth.reached.get("an answer that cannot be read", 0)
    found["a status that nobody knows"] = truth.reached.get("a status that nobody knows", 0)
    face = next((face for face in FACES if f"by {face}" in truth.reached), "")
    found.update({f"{face}: {goal}": found[goal] for goal in _BY_FACE if face})
    for seen_by_faces in _BY_FACE[-2:]:
        del found[seen_by_faces]
    return +found


# ----------------------------------------------------------------------------------------------------- an order's fate


def doubts(e: Evidence) -> Iterator[str]:
    """From silence to an end."""
    taken = {x.cid for x in e.entries if isinstance(x, Taken)}
    open_doubt: set[str] = set()
    starts = Counter[str]()
    for record in e.records:
        match record.fact:
            case Unclear(cid=cid):
                if not starts[cid]:
                    yield f"a time-out whose order {'lived' if cid in taken else 'did not'}"
                starts[cid] += 1
                open_doubt.add(cid)
            case Missing(cid=cid):
                open_doubt.discard(cid)
                yield "doubt ended: its absence was proven"
            case Rejected(cid=cid) if cid in open_doubt:
                open_doubt.discard(cid)
                yield "doubt ended: the order was refused"
            case Accepted(cid=cid) | Filled(cid=cid) | Canceled(cid=cid) | Expired(cid=cid) if cid in open_doubt:
                open_doubt.discard(cid)
                yield "doubt ended: the order was found"


def races(e: Evidence) -> Iterator[str]:
    """What overtakes what."""
    known: set[str] = set()
    over: set[str] = set()
    absent: set[tuple[str, Leg]] = set()
    for record in e.records:
        match record.fact:
            case Accepted(cid=cid):
                known.add(cid)
            case Filled(cid=cid, foreign=False):
                if cid not in known and cid in e.submitted:
                    known.add(cid)
                    yield "a fill came before the answer"
                if cid in over:
                    yield "a fill was booked after the cancel"
            case Canceled(cid=cid) | Expired(cid=cid):
                over.add(cid)
            case Missing(cid=cid) if cid in e.submitted and e.submitted[cid][1].reduce_only:
                absent.add((e.submitted[cid][1].signal_id, e.submitted[cid][1].leg))
            case Submitted(order=order) if (order.signal_id, order.leg) in absent:
                yield "a closing order whose absence was proven went out again"


def ends_at_the_venue(e: Evidence) -> Iterator[str]:
    """What became of orders in the venue's book, and of the cancels sent to them."""
    book: dict[str, Taken] = {}
    canceling: set[str] = set()
    for entry in e.entries:
        match entry:
            case Taken():
                book[entry.venue_order_id] = entry
            case CancelWired(cid=cid) if any(t.cid == cid for t in book.values()):
                canceling.add(cid)
            case BanHeard():
                yield "a life of the engine was told of a ban"
            case Declined(code=code) if code in _CODES:
                yield _CODES[code]
            case Triggered(cid=cid) if cid in e.submitted and e.submitted[cid][1].leg is Leg.STOP:
                yield "a stop was triggered"
            case Ended(cid=cid, status=status):
                taken = book.pop(entry.venue_order_id)
                if status == "filled" and cid in canceling:
                    yield "a cancel lost to a fill"
                if status == "rejected":
                    yield "refused after the acknowledgement"
                elif status != "filled" and entry.filled:
                    yield "a part was filled, the rest was not"
                limit_ns = e.submitted[cid][1].cancel_after_ns if cid in e.submitted else None
                if status == "canceled" and limit_ns is not None and entry.at_ns >= taken.at_ns + limit_ns:
                    yield "an entry ran out of its time"
    yield from ("an order was filled beyond its quantity" for _ in e.overfilled)
    yield from ("an order was filled after its end at the venue" for _ in e.filled_late)
    alive = {t.cid for t in book.values()}
    failed = {f.cid: r.at_ns for r, f in e.facts(CancelFailed) if isinstance(f, CancelFailed)}
    ended_ns = {x.cid: x.at_ns for x in e.entries if isinstance(x, Ended)}
    taken_ns = {x.cid: x.at_ns for x in e.entries if isinstance(x, Taken)}
    for cid, at_ns in failed.items():
        if cid in alive or taken_ns.get(cid, at_ns) < at_ns < ended_ns.get(cid, 0):
            yield "a cancel failed and the order lived"


# --------------------------------------------------------------------------------------------------------------- halts


def halts(e: Evidence) -> Iterator[str]:
    wired: dict[str, Order] = {}
    standing: set[str] = set()
    for entry in e.entries:
        match entry:
            case Wired(order=order) if opens(order):
                wired[order.cid] = order
            case Declined(cid=cid):
                wired.pop(cid, None)
            case Taken(cid=cid) if wired.pop(cid, None) is not None:
                standing.add(cid)
            case Ended(cid=cid):
                standing.discard(cid)
            case HaltCalled():
                if wired:
                    yield "halt with an opener on the wire"
                if standing:
                    yield "halt with an opener at the venue"
            case StopReported(flat=flat):
                yield f"a stop was reported as {'flat' if flat else 'not flat'}"
    crashes = [place for place, entry in enumerate(e.entries) if isinstance(entry, Crashed)]
    resumed = [(e.durable_at(r), f.scope) for r, f in e.facts(Resumed) if isinstance(f, Resumed)]
    for record, fact in e.facts(Halted):
        assert isinstance(fact, Halted)
        since = e.durable_at(record)
        until = min((p for p, scope in resumed if p > since and scope == fact.halt.scope), default=len(e.entries))
        if any(since < place < until for place in crashes):
            yield "a halt outlived a crash"
    yield from ("an order was stopped at the last door" for _ in e.facts(Unsent))


# -------------------------------------------------------------------------------------------------- money and positions


def money(e: Evidence) -> Iterator[str]:
    """What executions do to positions."""
    positions: dict[str, Decimal] = defaultdict(lambda: ZERO)
    resting = {x.venue_order_id for x in e.entries if isinstance(x, Taken) and x.foreign and x.price is not None}
    for entry in e.entries:
        if not isinstance(entry, Executed):
            continue
        rules = e.instruments[entry.symbol]
        if rules.kind is InstrumentKind.SPOT and entry.fee_asset == rules.base:
            yield "fee in base"
        elif entry.fee_asset != rules.quote:
            yield "fee in a third asset"
        before, positions[entry.symbol] = positions[entry.symbol], entry.position
        if before * entry.position < 0:
            yield "the position flipped through zero"
        if entry.foreign:
            yield "an order of somebody else"
            if entry.venue_order_id in resting:
                yield "somebody else's resting order was executed"
            if not entry.cid or entry.cid.startswith("autoclose"):
                yield "the venue liquidated a position"
    yield from ("funding was booked" for _ in e.facts(FundingPaid))
    made_by_others = False
    for record in e.records:
        match record.fact:
            case Filled(foreign=True):
                made_by_others = True
            case Covered() if made_by_others:
                made_by_others = False
                yield "somebody else's fill made a position that was then covered"


def cover(e: Evidence) -> Iterator[str]:
    """Stops that go and come."""
    stops: dict[str, Taken] = {}
    canceling: set[str] = set()
    positions: dict[str, Decimal] = defaultdict(lambda: ZERO)
    missing: set[str] = set()
    for entry in e.entries:
        match entry:
            case Executed():
                positions[entry.symbol] = entry.position
                if not entry.position:
                    missing.discard(entry.symbol)
            case CancelWired(cid=cid):
                canceling.add(cid)
            case Taken(order_type=order_type, foreign=False) if order_type in STOPS:
                stops[entry.venue_order_id] = entry
                if entry.symbol in missing:
                    missing.discard(entry.symbol)
                    yield "a stop that somebody took away was replaced"
            case Taken(order_type=order_type, cid=cid) if order_type in TARGETS and cid in e.submitted:
                if e.submitted[cid][1].leg is Leg.STOP:
                    yield "a stop was taken for a target"
            case Ended(status="canceled", cid=cid) if entry.venue_order_id in stops and cid not in canceling:
                symbol = stops[entry.venue_order_id].symbol
                if positions[symbol]:
                    missing.add(symbol)
    yield from ("a position without cover was covered" for _ in e.facts(Covered))
    yield from ("a position was flattened" for _ in e.facts(FlattenAsked))
    yield from ("a trade was closed" for _ in e.facts(TradeClosed))
    legs: dict[str, set[Leg]] = defaultdict(set)
    for entry in e.entries:
        if isinstance(entry, Executed) and not entry.position:
            legs.pop(entry.symbol, None)
        elif isinstance(entry, Wired):
            of = legs[entry.order.symbol]
            before = len(of)
            of.add(entry.order.leg)
            if before < len(of) and {Leg.ENTRY, Leg.STOP, Leg.TARGET} <= of:
                yield "entry, stop and target of one position"


# ------------------------------------------------------------------------------------------- the world round the engine


def surroundings(e: Evidence) -> Iterator[str]:
    """Sources, sinks, disks."""
    copies = Counter[tuple[str, int]]()
    started, frozen, holder = True, False, 0
    for entry in e.entries:
        match entry:
            case DiskBroke(how=how):
                yield "the disk was full" if how == "full" else "a sync failed"
            case Crashed():
                yield "the engine was killed"
                if not started:
                    yield "two kills without a start between them"
                started = frozen = False
            case Ready():
                started = True
            case Frozen():
                frozen = True
            case Thawed():
                frozen = False
                yield "the process was stopped, and woke up"
            case Started() if frozen:
                yield "a second engine was started while the first was stopped"
            case TurnedAway():
                yield "a second engine was turned away"
            case Leased(life=life):
                if holder not in (0, life):
                    yield "another engine took the accounts over"
                holder = life
            case Ousted():
                yield "an engine found itself taken over"
            case Wired(signed_ns=signed_ns) if signed_ns and entry.at_ns > signed_ns:
                yield "an order left a process that had been stopped before its first byte"
            case Receipted(status="repeated"):
                yield "the same signal came again"
            case Receipted(status="refused"):
                yield "a signal was refused"
            case Copied(event_id=event_id, sink=sink):
                copies[sink, event_id] += 1
                if copies[sink, event_id] == 2:
                    yield "an event was published twice"
    yield from ("the same id came with another body" for _ in e.facts(SignalConflicted))
    yield from ("a message could not be read" for _ in e.facts(DeadLettered))
    for _, fact in e.facts(Judged):
        assert isinstance(fact, Judged)
        if any(not check.passed and check.rule == "RSK6.quote_age" for check in fact.checks):
            yield "an entry met a stale price"


# -------------------------------------------------------------------------------------------------------- where it died


class Dying:
    """What holds at the moment of each crash: folded from the truth, and from the records that had become durable."""

    def __init__(self, e: Evidence) -> None:
        self.e = e
        self.durable: dict[str, set[str]] = defaultdict(set)  # kind of fact -> ids
        self.plans: dict[str, PlanSet] = {}
        self.halted = 0
        self.offered: dict[str, bool] = {}  # signals of this life without an answer
        self.answered: set[str] = set()
        self.wired: set[str] = set()
        self.arrived: set[str] = set()
        self.taken: dict[str, str] = {}  # venue id -> cid, in the venue's book
        self.seen_at_venue: set[str] = set()
        self.over: set[str] = set()
        self.executed: set[tuple[str, str]] = set()
        self.booked: set[tuple[str, str]] = set()
        self.replied: set[str] = set()
        self.canceled: set[str] = set()
        self.copied: set[tuple[str, str]] = set()
        self.newest_copy = 0
        self.awaiting_copy = False
        self.ready: set[int] = set()  # lives that came through their start
        self.begun = 0  # starts that are durable
        self.starts = 0
        self.halting = False
        self.legs: dict[str, set[Leg]] = defaultdict(set)

    def book(self, fact: AnyFact) -> None:
        """One more record is on the disk."""
        match fact:
            case EngineStarted():
                self.begun = self.starts
            case SignalReceived(signal=signal):
                self.durable["signal"].add(signal.signal_id)
            case Judged(signal_id=signal_id, outcome=Outcome.ACCEPTED, plan=plan) if plan and plan.side:
                self.durable["verdict"].add(signal_id)
            case Submitted(order=order):
                self.durable["intent"].add(order.cid)
                self.durable["sent signal"].add(order.signal_id)
            case Accepted(cid=cid) | Unclear(cid=cid):
                self.durable["answer"].add(cid)
            case Filled(cid=cid):
                self.durable["answer"].add(cid)
                self.durable["fill"].add(cid)
                self.booked.add((fact.symbol, fact.exec_id))
            case CancelAsked(cid=cid):
                self.durable["cancel"].add(cid)
            case Confirmed(signal_id=signal_id):
                self.durable["end"].add(signal_id)
            case PlanSet():
                self.plans[fact.symbol] = fact
            case Halted():
                self.halting = False
            case _ if isinstance(fact, ENDS):
                self.durable["answer"].add(fact.cid)
                self.durable["over"].add(fact.cid)

    def see(self, entry: AnyEntry) -> Iterator[str]:
        """One more effect; a crash yields the numbers of the points at which it struck."""
        match entry:
            case Sent(good=True, signal_id=signal_id):
                self.offered.setdefault(signal_id, True)
            case Receipted(signal_id=signal_id):
                self.offered.pop(signal_id, None)
                self.answered.add(signal_id)
            case Wired(order=order):
                self.wired.add(order.cid)
                self.legs[order.symbol].add(order.leg)
            case Arrived(cid=cid):
                self.arrived.add(cid)
            case Replied(cid=cid):
                self.replied.add(cid)
            case Taken(cid=cid):
                self.taken[entry.venue_order_id] = cid
                self.seen_at_venue.add(cid)
            case Declined(cid=cid) if cid not in self.seen_at_venue:
                self.over.add(cid)
            case Executed():
                self.executed.add((entry.symbol, entry.exec_id))
                if not entry.position:
                    self.legs[entry.symbol].clear()
            case Ended(cid=cid):
                self.taken.pop(entry.venue_order_id, None)
                self.over.add(cid)
            case CancelWired(cid=cid):
                self.canceled.add(cid)
            case Copied(event_id=event_id, sink="sim"):
                self.copied.add((entry.name, entry.key))
                if self.awaiting_copy:
                    self.awaiting_copy = False
                    yield "17" if event_id <= self.newest_copy else "18"
                self.newest_copy = max(self.newest_copy, event_id)
            case HaltCalled():
                self.halting = True
            case StopReported():
                self.halting = False
            case Started():
                self.starts += 1
            case TurnedAway():
                self.starts -= 1
            case Ready(life=life):
                self.ready.add(life)
            case Crashed(life=life):
                yield from self.points()
                if life not in self.ready:
                    yield "21"
                if self.begun < self.starts:
                    yield "25"
                self.awaiting_copy = bool(self.newest_copy)
                self.halting = False
                self.offered.clear()

    def points(self) -> Iterator[str]:
        durable = self.durable
        for signal_id in self.offered:
            yield "2" if signal_id in durable["signal"] else "1"
        unsent = durable["verdict"] - durable["end"]
        if unsent - durable["sent signal"]:
            yield "5"
        if any(s in self.answered and not self._sent(s) for s in unsent):
            yield "3"
        if durable["intent"] - self.wired - durable["over"]:
            yield "6"
        if self.wired - self.arrived - durable["answer"]:
            yield "7, 8"
        if (self.seen_at_venue & self.wired) - durable["answer"]:
            yield "9"
        if self.replied - durable["answer"]:
            yield "10"
        if durable["answer"] & set(self.taken.values()):
            yield "11"
        if (self.over & durable["answer"]) - durable["over"] - durable["fill"]:
            yield "12"
        if self.executed - self.booked:
            yield "13"
        filled = (durable["fill"] & self.over) - {key for _, key in self.copied}
        if filled & self.e.submitted.keys():
            yield "14"
        if any((CONFIRMATION, signal_id) not in self.copied for signal_id in durable["end"]):
            yield "16"
        if (durable["cancel"] - self.canceled - durable["over"]) & set(self.taken.values()):
            yield "19"
        if (durable["cancel"] & self.canceled) - durable["over"] - durable["fill"]:
            yield "20"
        if self.halting:
            yield "24"
        for symbol, legs in self.legs.items():
            plan = self.plans.get(symbol)
            if plan is not None and plan.take_profit and Leg.STOP in legs and Leg.TARGET not in legs:
                yield "26"

    def _sent(self, signal_id: str) -> bool:
        return any(self.e.submitted[cid][1].signal_id == signal_id for cid in self.wired & self.e.submitted.keys())


def crash_points(e: Evidence) -> Iterator[str]:
    """Where kills struck, by the numbers of the safe way of an order."""
    if not any(isinstance(entry, Crashed) for entry in e.entries):
        return
    dying, booked = Dying(e), 0
    places = [e.durable_at(record) for record in e.records]
    bare = bare_stretches(e)
    for place, entry in enumerate(e.entries):
        for record in e.records[booked : (until := bisect_right(places, place, lo=booked))]:
            dying.book(record.fact)
        booked = until
        numbers = set(dying.see(entry))
        if isinstance(entry, Crashed) and any(b.since_ns <= entry.at_ns < b.until_ns for b in bare):
            numbers.add("15")
        yield from (f"crash point {number}: {POINTS[number]}" for number in sorted(numbers))


def doubts_through_crashes(e: Evidence) -> Iterator[str]:
    """An order that nobody had an answer about when the engine died."""
    crashes = [place for place, entry in enumerate(e.entries) if isinstance(entry, Crashed)]
    if not crashes:
        return
    since: dict[str, int] = {}
    for record in e.records:
        fact, place = record.fact, e.durable_at(record)
        if isinstance(fact, Unclear):
            since.setdefault(fact.cid, place)
        elif isinstance(fact, (Accepted, Filled, *ENDS)):
            began = since.pop(fact.cid, place)
            if any(began < crash < place for crash in crashes):
                yield "an order in doubt outlived a crash"


SIGHTINGS: tuple[Callable[[Evidence], Iterator[str]], ...] = (
    doubts,
    races,
    ends_at_the_venue,
    doubts_through_crashes,
    halts,
    money,
    cover,
    surroundings,
    crash_points,
)
