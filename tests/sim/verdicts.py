"""The checker's second half: what was judged, confirmed and kept in rows, held against what was.

As in `checks`, nothing here calls the engine: figures are worked out again from the facts and from the venue's truth.
"""

from collections import defaultdict, deque
from collections.abc import Iterator
from decimal import Decimal

from msgspec import Struct

from actors.order import SUPERSEDED
from engine.core.messages import (
    ZERO,
    Accepted,
    Canceled,
    Confirmed,
    Expired,
    Filled,
    FundingPaid,
    Halted,
    Judged,
    Leg,
    Limits,
    Missing,
    Order,
    OrderType,
    Outcome,
    Plan,
    Rejected,
    Resumed,
    Submitted,
    Unclear,
    Unsent,
)
from engine.core.times import SECOND
from tests.sim.checks import Evidence, Violation, opens
from tests.sim.truth import BanHeard, CancelWired, Ended, Executed, Phase, QuotesStalled, Taken, Wired

SENDS_PER_SECOND = 10  # the account's rate limit in every world
COLLAR_ROOM = Decimal("0.06")  # the collar, and what a price may move while an order is under way
LOSS_SEEN_NS = SECOND  # RELIABILITY I14
SALE_HELD_BACK = ("the sale ", "decided before the last sale")
PATIENCE_NS = 60 * SECOND  # of calm, in which a time limit must have had its effect


class Kept(Struct, frozen=True):
    """What the world knows beside the evidence: the account's limits, and the journal's rows of live orders."""

    limits: Limits
    live: frozenset[str]  # client ids


def check_verdicts(e: Evidence, kept: Kept) -> list[Violation]:
    """Every violation, in the order of the functions below."""
    return [
        *judged_on_fresh_prices(e, kept),
        *doubt_blocks_entries(e),
        *losses_close_the_gate(e, kept),
        *inside_the_collar(e),
        *sends_keep_the_rate(e),
        *bans_are_obeyed(e),
        *protection_passes_halts(e),
        *time_limits_hold(e),
        *confirmations_are_true(e),
        *rows_follow_facts(e, kept),
        *nothing_is_left_over(e),
    ]


def judged_on_fresh_prices(e: Evidence, kept: Kept) -> Iterator[Violation]:
    """I9: nothing that opens is accepted on a price that is older than the limit allows."""
    oldest_ns = int(kept.limits.quote_age_max_seconds * SECOND)
    stalls: list[tuple[int, int]] = []
    for entry in e.entries:
        if isinstance(entry, QuotesStalled):
            if stalls and entry.at_ns < stalls[-1][1]:
                stalls[-1] = (stalls[-1][0], entry.until_ns)
            else:
                stalls.append((entry.at_ns, entry.until_ns))
    if not stalls:
        return
    for record, plan in _accepted_openers(e):
        for since, until_ns in stalls:
            if since + oldest_ns < record.at_ns < min(until_ns, e.calm_ns) and plan.side is not None:
                age = (record.at_ns - since) / SECOND
                yield Violation("I9", record.at_ns, f"{record.signal_id} was accepted on a price {age:.1f} s old")


def doubt_blocks_entries(e: Evidence, heard_ns: int = 0) -> Iterator[Violation]:
    """P4: while an order of a symbol is in doubt, nothing that opens is sent there, nor accepted.

    Who accepts hears of the doubt by mail, within `heard_ns`; who sends knows.
    """
    pending: set[str] = set()
    doubtful: dict[str, tuple[str, int]] = {}
    for record in e.records:
        match record.fact:
            case Submitted(order=order):
                pending.add(order.cid)
                for cid, (symbol, since_ns) in doubtful.items() if opens(order) else ():
                    if symbol == order.symbol and since_ns < record.at_ns:
                        yield Violation("P4", record.at_ns, f"{order.cid} was sent while {cid} was in doubt")
            case Unclear(cid=cid, symbol=symbol) if cid in pending:
                doubtful.setdefault(cid, (symbol, record.at_ns))
            case Accepted() | Rejected() | Canceled() | Expired() | Missing() | Unsent() | Filled() as settled:
                pending.discard(settled.cid)
                doubtful.pop(settled.cid, None)
            case Judged() as judged if _opening(judged):
                for cid, (symbol, since_ns) in doubtful.items():
                    if symbol == judged.symbol and since_ns + heard_ns < record.at_ns:
                        text = f"{judged.signal_id} was accepted while {cid} was in doubt"
                        yield Violation("P4", record.at_ns, text)


def losses_close_the_gate(e: Evidence, kept: Kept) -> Iterator[Violation]:
    """I14: a second after the day's booked loss has reached its limit nothing opens, until a person resumes.

    A halt may come earlier, for a loss that is not booked yet; who resumes then has forgiven what we count.
    """
    loss, breached_ns, halted = ZERO, 0, False
    for record in e.records:
        match record.fact:
            case Filled(realised=realised, fee_quote=fee):
                loss -= realised - (fee or ZERO)
            case FundingPaid(amount=amount):
                loss -= amount
            case Halted(halt=halt) if halt.by.startswith("risk/"):
                halted = True
            case Resumed(kind="loss") if breached_ns or halted:
                return
            case Judged() as judged if _opening(judged) and breached_ns:
                if record.at_ns > breached_ns + LOSS_SEEN_NS:
                    text = f"{judged.signal_id} was accepted after the day had lost {loss}"
                    yield Violation("I14", record.at_ns, text)
        if loss >= kept.limits.daily_loss_max:
            breached_ns = breached_ns or record.at_ns
        elif breached_ns:
            return  # won back, or halted for a loss that was: who may open then is not for us to say


def inside_the_collar(e: Evidence) -> Iterator[Violation]:
    """RSK6: no entry goes out with a limit far beyond the market: it would be executed at almost any price."""
    limits = {c: o for c, (_, o) in e.submitted.items() if o.order_type is OrderType.LIMIT and o.leg is Leg.ENTRY}
    told: set[str] = set()
    for entry in e.entries:
        if isinstance(entry, Executed) and entry.cid in limits and entry.cid not in told:
            order = limits[entry.cid]
            assert order.price is not None
            beyond = (order.price - entry.price) * order.side.sign / entry.price
            if beyond > COLLAR_ROOM:
                told.add(entry.cid)
                yield Violation("I9", entry.at_ns, f"{entry.cid} had its limit {beyond:.3f} beyond the market")


def _turn_ns(wired: Wired | CancelWired) -> int:
    return wired.signed_ns or wired.at_ns


def sends_keep_the_rate(e: Evidence) -> Iterator[Violation]:
    """I13: orders sent by one life in any second are at most what the venue allows.

    A process that is stopped between the signature and the first byte sends late what it had its turn for: what counts
    is when it had its turn (seed 100193).
    """
    wired = [entry for entry in e.entries if isinstance(entry, Wired)]
    sent: deque[Wired] = deque()
    for entry in sorted(wired, key=lambda each: (each.life, _turn_ns(each))):
        sent.append(entry)
        while _turn_ns(sent[0]) <= _turn_ns(entry) - SECOND or sent[0].life != entry.life:
            sent.popleft()
        if len(sent) > SENDS_PER_SECOND:
            yield Violation("I13", entry.at_ns, f"{len(sent)} orders were sent within a second")


def bans_are_obeyed(e: Evidence) -> Iterator[Violation]:
    """ORD5, R10: a life that was told of a ban sends nothing until its end (requests draw it out).

    What had its turn before, and was held up by a process that stood still, is not a breach (seeds 3000, 4370); nor
    what had it in the very instant in which a process that woke up heard of the ban (seed 2981).
    """
    heard: dict[int, BanHeard] = {}
    for entry in e.entries:
        if isinstance(entry, BanHeard):
            heard[entry.life] = entry
        elif not isinstance(entry, Wired | CancelWired) or entry.life not in heard:
            continue
        elif _turn_ns(entry) > heard[entry.life].at_ns and entry.at_ns < heard[entry.life].until_ns:
            cid = entry.order.cid if isinstance(entry, Wired) else entry.cid
            yield Violation("I13", entry.at_ns, f"{cid} was sent during a ban that the engine had been told of")


LEASE_OVER = "the lease has not been renewed for"


def protection_passes_halts(e: Evidence) -> Iterator[Violation]:
    """I7's other half: what closes or protects is not held back at the door."""
    for record, fact in e.facts(Unsent):
        assert isinstance(fact, Unsent)
        order = e.submitted[fact.cid][1]
        if fact.reason.startswith(SALE_HELD_BACK):
            continue  # Spot has no reduce-only: a sale waits until it cannot sell what an earlier one has sold
        if fact.reason == SUPERSEDED and any(_same_leg_later(order, o) for _, o in e.submitted.values()):
            continue  # both waited for a rate limit, and one of them goes
        if e.leased and fact.reason.startswith(LEASE_OVER):
            continue  # another engine may own the account by then: it protects
        if order.reduce_only and not order.valid_until_ns:
            yield Violation("I7", record.at_ns, f"{fact.cid} closes, and was held back: {fact.reason}")


def _same_leg_later(order: Order, other: Order) -> bool:
    same = (other.account, other.symbol, other.leg) == (order.account, order.symbol, order.leg)
    return same and other.submitted_ns > order.submitted_ns


def time_limits_hold(e: Evidence) -> Iterator[Violation]:
    """ORD6: an entry does not outlive its time limit; with faults about it may take until the calm."""
    flat_ns = next((x.at_ns for x in e.entries if isinstance(x, Phase) and x.name == "flat"), e.end_ns)
    ended = {x.venue_order_id: x.at_ns for x in e.entries if isinstance(x, Ended)}
    for entry in e.entries:
        if isinstance(entry, Taken) and entry.cid in e.submitted:
            order = e.submitted[entry.cid][1]
            if order.cancel_after_ns is None:
                continue
            bound = max(order.submitted_ns + order.cancel_after_ns, e.calm_ns) + PATIENCE_NS
            until_ns = ended.get(entry.venue_order_id, e.end_ns)
            if bound < min(until_ns, flat_ns):
                late = (until_ns - order.submitted_ns - order.cancel_after_ns) / SECOND
                yield Violation("I30", until_ns, f"{entry.cid} outlived its time limit by {late:.0f} s")


def confirmations_are_true(e: Evidence) -> Iterator[Violation]:
    """I18, I25: what a confirmation says was filled is what the venue has executed for that signal."""
    if not e.quiescent:
        return
    for record, fact in e.facts(Confirmed):
        assert isinstance(fact, Confirmed)
        own = [c for c in fact.orders if c in e.submitted and e.submitted[c][1].signal_id == fact.signal_id]
        filled = sum((e.executed[cid] for cid in own), ZERO)
        # What came when all seemed to be there already is said apart.
        corrected = any((cid in e.filled_late or cid in e.overfilled) and cid in e.corrected for cid in own)
        if own and filled != fact.filled_qty and not corrected:
            text = f"signal {fact.signal_id} was confirmed with {fact.filled_qty} filled, it was {filled}"
            yield Violation("I18", record.at_ns, text)


def rows_follow_facts(e: Evidence, kept: Kept) -> Iterator[Violation]:
    """I21: the orders that the journal's rows call live are those that no fact has ended."""
    if not e.quiescent:
        return
    live = {cid for cid in e.submitted if cid not in e.ended}
    for cid in sorted(kept.live - live):
        yield Violation("I21", e.end_ns, f"the row of {cid} is live, its facts have ended it")
    for cid in sorted(live - kept.live):
        yield Violation("I21", e.end_ns, f"the row of {cid} has ended, its facts have not")


def nothing_is_left_over(e: Evidence) -> Iterator[Violation]:
    """I12: at the end no order of ours stands where nothing is held: it would meet the next position."""
    if not e.quiescent:
        return
    positions: dict[str, Decimal] = defaultdict(lambda: ZERO)
    positions |= {x.symbol: x.position for x in e.entries if isinstance(x, Executed)}
    for cid, taken in sorted(e.open_at_venue.items()):
        rules = e.instruments[taken.symbol]
        if abs(positions[taken.symbol]) // rules.lot * rules.lot < rules.qty_min:
            yield Violation("I12", e.end_ns, f"{cid} still stands at the venue, and {taken.symbol} is flat")


class _Opener(Struct, frozen=True):
    signal_id: str
    at_ns: int


def _accepted_openers(e: Evidence) -> Iterator[tuple[_Opener, Plan]]:
    for record, fact in e.facts(Judged):
        assert isinstance(fact, Judged)
        if _opening(fact) and fact.plan is not None:
            yield _Opener(fact.signal_id, record.at_ns), fact.plan


def _opening(judged: Judged) -> bool:
    plan = judged.plan
    return judged.outcome is Outcome.ACCEPTED and plan is not None and plan.side is not None and not plan.reduce_only
