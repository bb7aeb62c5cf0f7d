"""How long does a signal take from its bytes to the venue, stage by stage, and how does that compare with the floors?

Three processes on one machine: this one sends signals at even moments (open loop, so nothing waits for the engine), the
engine runs as in life with its journal on disk, the paper venue answers at once behind a loopback socket. Between the
engine's turns, in the same run and at the same pace, this process measures the floors: one bare durable commit of as
many bytes, one bare round trip to the venue's process; and a fourth process does the least that the promises ask for in
this language (`least_process.py`: read, look up, commit the same rows, send). Targets: with `power`, arrival to wire at
most 2.5x (p50) and 4x (p99) the commit; with `process`, under 1 ms at p99.
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Literal

from msgspec import Struct

from bench import feed
from bench.engine_process import EngineResult, Stamp
from bench.figures import HEADING, Figures, Ratio, figures, line, ratio, ratio_line
from bench.floors import Floors
from bench.least_process import LeastResult, sample_of
from bench.stage import Stage, StageFailed, durable_bytes, stage
from bench.venue_process import VenueResult

LINE_BYTES = 400  # about what an order is on the wire
STAGES: dict[str, tuple[str, str]] = {
    "arrival -> judged": ("received", "judged"),
    "judged -> durable": ("judged", "durable"),
    "durable -> on the wire": ("durable", "wire"),
    "arrival -> on the wire": ("received", "wire"),
    "on the wire -> acknowledged": ("wire", "answered"),
    "arrival -> acknowledged": ("received", "answered"),
}
OWN = "arrival -> on the wire"
PUBLISHED = "arrival -> published"
OUTSIDE = "meant to be sent -> at the venue"
LEAST = "the least program"


class Terms(Struct, frozen=True):
    rate: float = 200.0
    seconds: float = 10.0
    durability: Literal["power", "process"] = "power"
    orders: str = "resting"  # one of feed.KINDS
    symbols: int = 20
    rest_seconds: float = 2.0
    rounds: int = 4
    warm_up: int = 100  # signals, not counted
    floors: bool = True
    folder: str = "var"
    profile: str = ""


class Report(Struct, frozen=True):
    """All durations in microseconds. `complete`: every signal was accepted, and its order reached the venue once."""

    terms: Terms
    signals: int
    accepted: int
    orders_at_venue: int
    fills: int
    complete: bool
    rested: bool
    stages: dict[str, Figures]
    floors: dict[str, Figures]
    over_commit: Ratio | None
    over_least: Ratio | None
    over_round_trip: Ratio | None
    outside_over_both: Ratio | None
    commit_bytes: int
    commits: int
    cpu_us_per_signal: float
    engine_rss_mib: float
    backlog_at_end: int  # signals meant to be sent by then whose order had not reached the venue
    p50_first_quarter: float  # of OUTSIDE
    p50_last_quarter: float
    alerts: dict[str, int]


def add_options(parser: argparse.ArgumentParser) -> None:
    plain = Terms()
    parser.add_argument("--rate", type=float, default=plain.rate, help="signals per second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=plain.seconds, help="of signals (%(default)s)")
    parser.add_argument("--durability", choices=("power", "process"), default=plain.durability)
    parser.add_argument("--orders", choices=feed.KINDS, default=plain.orders, help="what the signals ask for")
    parser.add_argument("--with-fills", dest="orders", action="store_const", const="fills")
    parser.add_argument("--symbols", type=int, default=plain.symbols)
    parser.add_argument("--rest-seconds", type=float, default=plain.rest_seconds, help="until a resting order goes")
    parser.add_argument("--rounds", type=int, default=plain.rounds, help="turns of floors and engine")
    parser.add_argument("--warm-up", type=int, default=plain.warm_up, help="signals before, not counted")
    parser.add_argument("--no-floors", dest="floors", action="store_false")
    parser.add_argument("--folder", default=plain.folder, help="on the disk that is to be measured (%(default)s)")
    parser.add_argument("--profile", default="", help="write the engine's cProfile figures into this file")


def measure(arguments: argparse.Namespace) -> Report:
    return run(terms_of(arguments))


def terms_of(arguments: argparse.Namespace) -> Terms:
    return Terms(**{field: getattr(arguments, field) for field in Terms.__struct_fields__})


def run(terms: Terms) -> Report:
    Path(terms.folder).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=terms.folder, prefix="bench-") as name:
        folder = Path(name).absolute()
        with stage(folder, terms.durability, terms.symbols, terms.profile) as running:
            return _measure(terms, running)


def _measure(terms: Terms, running: Stage) -> Report:
    first = terms.warm_up
    _feed(terms, running, 0, first)
    size = _settled_bytes(running, feed.signal_id("b", first - 1))
    floors = Floors(running.folder, terms.durability, running.echo_port)
    rounds = max(1, terms.rounds) if terms.floors else 1
    count = max(1, round(terms.rate * terms.seconds / rounds))
    if terms.floors:
        sample = sample_of(running.folder / "journal.sqlite", feed.signal_id("b", first - 1), LINE_BYTES)
        assert sample is not None, "its bytes were found"
        running.begin_least(sample)
        _feed_least(terms, running, "w", 0, 20)
        floors.measure(terms.rate, 20, size, LINE_BYTES)
        floors.commits.clear()
        floors.round_trips.clear()
    turns: list[tuple[int, feed.Sent, int]] = []
    for _ in range(rounds):
        if terms.floors:
            floors.measure(terms.rate, count, size, LINE_BYTES)
            _feed_least(terms, running, "b", first, count)
        sent = _feed(terms, running, first, count)
        turns.append((first, sent, time.monotonic_ns()))
        first += count
        time.sleep(0.3)
    floors.close()
    least = running.end_least() if terms.floors else LeastResult({})
    engine, venue = running.end()
    return _report(terms, turns, floors, least, size, first, engine, venue)


def _settled_bytes(running: Stage, signal_id: str) -> int:
    """Once the last signal of the warm-up is in the journal. Raises StageFailed when it does not get there."""
    for _ in range(100):
        time.sleep(0.1)
        if size := durable_bytes(running.folder / "journal.sqlite", signal_id):
            return size
    raise StageFailed("the warm-up came to nothing")


def _feed(terms: Terms, running: Stage, first: int, count: int) -> feed.Sent:
    bodies = [
        feed.body(terms.orders, "b", first + number, terms.symbols, terms.rest_seconds) for number in range(count)
    ]
    return feed.pace(terms.rate, count, lambda number: running.send(bodies[number]))


def _feed_least(terms: Terms, running: Stage, run: str, first: int, count: int) -> None:
    bodies = [feed.body("resting", run, first + number, terms.symbols, terms.rest_seconds) for number in range(count)]
    feed.pace(terms.rate, count, lambda number: running.send_least(bodies[number]))
    time.sleep(0.1)


def _report(
    terms: Terms,
    turns: list[tuple[int, feed.Sent, int]],
    floors: Floors,
    least: LeastResult,
    size: int,
    signals: int,
    engine: EngineResult,
    venue: VenueResult,
) -> Report:
    outside: list[int] = []
    last_backlog = 0
    for first, sent, ended in turns:
        there = [venue.arrived.get(feed.entry_cid("b", first + n)) for n in range(len(sent.intended))]
        outside += [at - meant for at, meant in zip(there, sent.intended, strict=True) if at is not None]
        last_backlog = sum(at is None or at > ended for at in there)
    began = turns[0][1].actual[0]
    stamps = [stamp for stamp in engine.stamps if stamp.received >= began]
    stages = {name: figures(_between(stamps, begin, end)) for name, (begin, end) in STAGES.items()}
    stages[PUBLISHED] = figures(_published(turns, engine))
    stages[OUTSIDE] = figures(outside)
    bare = {"bare commit": figures(floors.commits), "bare round trip": figures(floors.round_trips)}
    counted = {feed.signal_id("b", first + n) for first, sent, _ in turns for n in range(len(sent.intended))}
    bare[LEAST] = figures(took for signal_id, took in least.took.items() if signal_id in counted)
    both = figures(a + b for a, b in zip(floors.commits, floors.round_trips, strict=True))
    entries = sum(feed.entry_cid("b", number) in venue.arrived for number in range(signals))
    accepted = engine.verdicts.get("accepted", 0)
    quarter = max(1, len(outside) // 4)
    return Report(
        terms=terms,
        signals=signals,
        accepted=accepted,
        orders_at_venue=entries,
        fills=venue.fills,
        complete=signals == accepted == entries,
        rested=engine.rested,
        stages=stages,
        floors=bare if terms.floors else {},
        over_commit=ratio(stages[OWN], bare["bare commit"]),
        over_least=ratio(stages[OWN], bare[LEAST]),
        over_round_trip=ratio(stages["on the wire -> acknowledged"], bare["bare round trip"]),
        outside_over_both=ratio(stages[OUTSIDE], both),
        commit_bytes=size,
        commits=engine.commits,
        cpu_us_per_signal=round(engine.cpu_ns / signals / 1000, 1),
        engine_rss_mib=round(engine.rss_bytes / 2**20, 1),
        backlog_at_end=last_backlog,
        p50_first_quarter=figures(outside[:quarter]).p50,
        p50_last_quarter=figures(outside[-quarter:]).p50,
        alerts=engine.alerts,
    )


def _between(stamps: list[Stamp], begin: str, end: str) -> list[int]:
    return [getattr(s, end) - getattr(s, begin) for s in stamps if getattr(s, begin) and getattr(s, end)]


def _published(turns: list[tuple[int, feed.Sent, int]], engine: EngineResult) -> list[int]:
    """From the wall moment at which the engine read a signal to that at which every sink had its order's event."""
    return [
        engine.placed[cid] - received
        for first, sent, _ in turns
        for number in range(len(sent.intended))
        if (cid := feed.entry_cid("b", first + number)) in engine.placed
        and (received := engine.received.get(feed.signal_id("b", first + number)))
    ]


def lines(report: Report) -> list[str]:
    terms = report.terms
    told = [
        f"{terms.rate:g} signals/s, {terms.orders}, durability {terms.durability}, {terms.symbols} symbols:"
        f" {report.signals} signals, {report.accepted} accepted, {report.orders_at_venue} orders at the venue,"
        f" {report.fills} fills",
        HEADING,
        *(line(name, of) for name, of in report.stages.items()),
    ]
    if report.floors:
        told += [
            *(line(f"floor: {name}", of) for name, of in report.floors.items()),
            ratio_line(f"{OWN} / commit", report.over_commit),
            ratio_line(f"{OWN} / least", report.over_least),
            ratio_line("acknowledgement / round trip", report.over_round_trip),
            ratio_line("meant -> venue / both floors", report.outside_over_both),
        ]
    told.append(
        f"{report.commit_bytes} bytes per commit, {report.commits} commits, {report.cpu_us_per_signal:g} us of CPU"
        f" per signal, {report.engine_rss_mib:g} MiB; backlog at the end {report.backlog_at_end},"
        f" p50 outside {report.p50_first_quarter:.0f} -> {report.p50_last_quarter:.0f} us"
    )
    if not report.complete:
        told.append("INCOMPLETE: signals, accepted signals and orders at the venue differ")
    if report.alerts:
        told.append(f"alerts: {report.alerts}")
    return told
