"""The checker's third part: how soon what is bare is known to be, and how steadily the engine then seeks to mend it.

How long a position lacks cover in a faulty world is a matter of luck: requests are lost, queries lag, the disk is slow.
What can be asked of the engine is that it looks often enough to learn of it, and that while its own journal says that
cover is missing it does not sit still. Time in which it was dead, banned, or without a disk is not counted.
"""

from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from itertools import pairwise

from msgspec import Struct

from engine.core.messages import (
    ZERO,
    Accepted,
    Filled,
    Instrument,
    InstrumentKind,
    Leg,
    Order,
    Side,
    Submitted,
)
from engine.core.times import SECOND
from tests.sim.checks import COVERS, ENDS, Evidence, Violation, waived
from tests.sim.truth import (
    BanHeard,
    Crashed,
    DiskBroke,
    DiskMended,
    Executed,
    Fell,
    Frozen,
    Phase,
    Ready,
    Thawed,
    Unreached,
    VenueRestarted,
    Wired,
)

STILL_NS = 12 * SECOND  # patience with one attempt, and the longest pause before the next
SPOT_NS = 4 * SECOND  # more: there an attempt is waited for until its request times out
SLOW_DISK_NS = 25 * SECOND  # more: one sync that is under way, and then our own
KNOWN_NS = 32 * SECOND  # the pause between two rounds when nothing is open, and a round
LAG_NS = 15 * SECOND  # more: what the venue's queries may lag
QUERIES_NS = 15 * SECOND  # more: rounds that fail


def check_cover(e: Evidence) -> list[Violation]:
    """Every violation, in the order of the functions below."""
    return [*protection_is_sought(e), *executions_are_known_in_time(e)]


class Awake(Struct, frozen=True):
    """A stretch of time in which an engine lived, had a disk, and was not banned."""

    since_ns: int
    until_ns: int


def protection_is_sought(e: Evidence) -> Iterator[Violation]:
    """I31: while the journal says that a position lacks cover, a stop or an exit is tried again and again."""
    awake = awake_stretches(e)
    for symbol, rules in e.instruments.items():
        if waived(e, symbol):
            continue
        patience = STILL_NS + (SPOT_NS if rules.kind is InstrumentKind.SPOT else 0)
        patience += SLOW_DISK_NS if "slow disk" in e.families else 0
        tried = [
            x.at_ns
            for x in e.entries
            if isinstance(x, Wired | Unreached) and x.order.symbol == symbol and x.order.leg in (Leg.STOP, Leg.EXIT)
        ]
        for since_ns, until_ns in believed_bare(e, rules):
            for stretch in awake:
                begin, end = max(since_ns, stretch.since_ns), min(until_ns, stretch.until_ns)
                moments = [begin, *(at for at in tried if begin <= at <= end), end]
                for before, after in pairwise(moments):
                    if after - before > patience:
                        text = f"{symbol} lacked cover, and for {(after - before) / SECOND:.1f} s nothing was tried"
                        yield Violation("I31", before, text)


def executions_are_known_in_time(e: Evidence) -> Iterator[Violation]:
    """S5: an execution stands in the journal within a round of reconciliation, whatever the stream lost."""
    awake = awake_stretches(e)
    families = set(e.families)
    bound = KNOWN_NS + (LAG_NS if "read lag" in families else 0) + (QUERIES_NS if "failing queries" in families else 0)
    known: dict[tuple[str, str], int] = {}
    for record, fact in e.facts(Filled):
        assert isinstance(fact, Filled)
        known.setdefault((fact.symbol, fact.exec_id), record.at_ns)
    for entry in e.entries:
        if isinstance(entry, Executed):
            until_ns = known.get((entry.symbol, entry.exec_id), e.end_ns)
            for stretch in awake:
                lag = min(until_ns, stretch.until_ns) - max(entry.at_ns, stretch.since_ns)
                if lag > bound:
                    text = f"execution {entry.exec_id} of {entry.symbol} was not known after {lag / SECOND:.1f} s"
                    yield Violation("I17", entry.at_ns, text)


def awake_stretches(e: Evidence) -> list[Awake]:
    found: list[Awake] = []
    since: int | None = None
    banned_ns = 0  # until then, as this life knows it
    broken = False  # the disk, whoever wakes up or comes up meanwhile (seeds 100065 and 100405)
    for entry in e.entries:
        match entry:
            case Ready():
                since, banned_ns = None if broken else entry.at_ns, 0
            case Thawed() if not broken:
                since = max(entry.at_ns, banned_ns)
            case DiskMended():
                broken = False
            case BanHeard(until_ns=until_ns) if since is not None:
                found.append(Awake(since, entry.at_ns))
                since = banned_ns = max(until_ns, entry.at_ns)
            case VenueRestarted() if since is not None:
                found.append(Awake(since, entry.at_ns))
                since = max(since, entry.at_ns + 5 * SECOND)
            case Crashed() | Fell() | Frozen() | DiskBroke() | Phase(name="end"):
                if since is not None:
                    found.append(Awake(since, entry.at_ns))
                since = None
                broken = broken or isinstance(entry, DiskBroke)
    if since is not None:
        found.append(Awake(since, e.end_ns))
    return [x for x in found if x.until_ns > x.since_ns]


def believed_bare(e: Evidence, rules: Instrument) -> Iterator[tuple[int, int]]:
    """Stretches in which, by the journal's facts alone, accepted stops and exits close less than is held."""
    position = ZERO
    sent: dict[str, Order] = {}
    standing: set[str] = set()
    filled: dict[str, Decimal] = defaultdict(lambda: ZERO)
    since: int | None = None
    for record in e.records:
        fact = record.fact
        if getattr(fact, "symbol", "") != rules.symbol:
            continue
        match fact:
            case Submitted(order=order) if order.reduce_only and order.order_type in COVERS:
                sent[order.cid] = order
            case Accepted(cid=cid) if cid in sent:
                standing.add(cid)
            case Filled():
                in_base = rules.kind is InstrumentKind.SPOT and fact.fee_asset == rules.base
                position += fact.qty * fact.side.sign - (fact.fee if in_base else ZERO)
                filled[fact.cid] += fact.qty
            case _ if isinstance(fact, ENDS):
                standing.discard(fact.cid)
                sent.pop(fact.cid, None)
            case _:
                continue
        closable = abs(position) // rules.lot * rules.lot
        side = Side.SELL if position > 0 else Side.BUY
        cover = sum((max(sent[c].qty - filled[c], ZERO) for c in sorted(standing) if sent[c].side is side), ZERO)
        bare = closable >= rules.qty_min and cover < closable
        if bare and since is None:
            since = record.at_ns
        elif not bare and since is not None:
            yield since, record.at_ns
            since = None
    if since is not None:
        yield since, e.end_ns
