"""What is held against what: the venue's own file, the witness, what the feed heard, the published events, the journal.

They become the evidence of the simulation's checker, so that real processes and simulated worlds are held to the same
promises. The venue's entries come from its memory on disk, whose lines stand in the order of their effects.
"""

import heapq
import json
from collections.abc import Iterator, Sequence
from operator import attrgetter
from pathlib import Path

import msgspec

from engine.core.audit import verify
from engine.core.messages import FillReport, Limits
from engine.core.times import SECOND
from engine.runtime.journal.base import Record
from engine.venues.paper import Truth
from tests.crash.site import Site
from tests.sim.checks import CHECKS, Evidence, Violation, bare_stretches
from tests.sim.truth import AnyEntry, Copied, Executed, digest
from tests.sim.verdicts import (
    Kept,
    confirmations_are_true,
    doubt_blocks_entries,
    nothing_is_left_over,
    protection_passes_halts,
    rows_follow_facts,
)

_entry = msgspec.json.Decoder(AnyEntry).decode


def gather(site: Site, quiescent: bool = True) -> tuple[Evidence, Kept, list[str]]:
    """Evidence, rows, and what the engine's own audit says (which must be nothing)."""
    reader = site.reader()
    records: list[Record] = []
    while page := reader.records(records[-1].seq if records else 0, 10_000):
        records += page
    positions = {p.symbol: p.qty for p in reader.positions() if p.qty}
    live = frozenset(o.cid for o in reader.orders(None, None, True, 1_000_000))
    report = verify(reader.lines(), reader.tables())
    reader.close()
    chain = "; ".join(f.text for f in report.findings if f.rule == "chain")
    streams = [
        list(rising(site.keeper.entries())),
        list(rising(witness_entries(site.folder / "witness.ndjson"))),
        sorted(site.told, key=attrgetter("at_ns")),
    ]
    merged = list(heapq.merge(*streams, key=attrgetter("at_ns")))
    published: list[AnyEntry] = list(copied(site.data / "events.ndjson", merged[-1].at_ns if merged else 0))
    entries, traded = [*merged, *published], site.keeper.instruments
    evidence = Evidence(entries, records, traded, positions, site.families, None, quiescent, chain)
    return evidence, Kept(Limits(), live), [f"{f.rule}: {f.text}" for f in report.findings]


def broken(site: Site, truth: Truth, quiescent: bool = True) -> list[Violation]:
    """Every promise that was not kept; `quiescent`: of an engine that has come to rest and was ended."""
    evidence, kept, audited = gather(site, quiescent)
    found = [violation for check in CHECKS for violation in check(evidence)]
    found += doubt_blocks_entries(evidence, heard_ns=SECOND)  # of a busy machine
    found += confirmations_are_true(evidence)
    found += rows_follow_facts(evidence, kept)
    found += protection_passes_halts(evidence)
    found += nothing_is_left_over(evidence)
    found += [Violation("AUDIT", evidence.end_ns, text) for text in audited]
    if quiescent:
        found += uncovered(evidence)
        found += told_otherwise(evidence, truth)
    return found


def uncovered(e: Evidence) -> Iterator[Violation]:
    """P5: when all is quiet, every position has its stop at the venue."""
    for bare in bare_stretches(e):
        if bare.until_ns == e.end_ns:
            yield Violation("P5", bare.since_ns, f"{bare.symbol} ends without cover")


def told_otherwise(e: Evidence, truth: Truth) -> Iterator[Violation]:
    """The venue's file and its word over the socket are one truth; else nothing here proves anything."""
    file = {x.exec_id for x in e.entries if isinstance(x, Executed)}
    word = {x.exec_id for x in truth.executions if isinstance(x, FillReport)}
    if file != word:
        yield Violation("TRUTH", e.end_ns, f"executions differ: {sorted(file ^ word)[:5]}")
    last = {x.symbol: x.position for x in e.entries if isinstance(x, Executed)}
    held = {p.symbol: p.qty for p in truth.positions if p.qty}
    if {s: q for s, q in last.items() if q} != held:
        yield Violation("TRUTH", e.end_ns, f"positions differ: {last}, {held}")


def rising(entries: Sequence[AnyEntry] | Iterator[AnyEntry]) -> Iterator[AnyEntry]:
    """In their own order, which is that of the effects, with times that never fall."""
    last = 0
    for entry in entries:
        last = max(last, entry.at_ns)
        yield entry if entry.at_ns == last else msgspec.structs.replace(entry, at_ns=last)


def witness_entries(path: Path) -> Iterator[AnyEntry]:
    yield from map(_entry, path.read_bytes().splitlines())


def copied(path: Path, at_ns: int) -> Iterator[Copied]:
    """What consumers of the events saw. A line that a kill has torn is one that they cannot read, and skip."""
    for line in path.read_bytes().splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        yield Copied(at_ns, event["event_id"], event["name"], event["key"], digest(line))
