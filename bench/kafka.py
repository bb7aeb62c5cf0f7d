"""How long from a message that Kafka's client hands over to the first byte of its order at the exchange's socket?

A broker on loopback, `hedge_trades` as a hedging service writes them, at even moments (open loop); the engine in a
process of its own, wired as in life, with its journal on disk and a sink for confirmations; the order goes by Bybit's
protocol to the local exchange, through a tap that notes its first byte. Own share is from the moment at which
confluent-kafka returned the message to that byte: hand-over to the loop, reading, judging, the durable commit, signing,
sending. The floor, in turns with it: a bare consumer with the same client and settings, which writes one request to the
same tap for each message, in its polling thread, and does nothing else. Target: with `process`, under 3 ms at p99.
"""

import argparse
import gc
import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Literal

from confluent_kafka import Producer
from msgspec import Struct

from bench import feed
from bench.bare_consumer_process import BareResult, BareTask
from bench.broker import NoBroker, throwaway, topic
from bench.engine_process import EngineResult, EngineTask, Stamp
from bench.exchange import exchange
from bench.figures import HEADING, Figures, Ratio, figures, line, ratio, ratio_line
from bench.market import ACCOUNT
from bench.peers import Process, median_of
from bench.processors import Processors, Use
from bench.processors import line as processors_line
from bench.submitters import PRICE, QTY, SYMBOL
from bench.tap import TapResult, TapTask
from engine.edges.kafka import Cluster

FACE = "bybit"
WANTED_US = 3_000
OWN, OUTSIDE = "handed over -> on the wire", "meant to be sent -> on the wire"
STAGES: dict[str, tuple[str, str]] = {
    "handed over -> judged": ("received", "judged"),
    "judged -> durable": ("judged", "durable"),
    "durable -> sending": ("durable", "wire"),
}
FLUSH_SECONDS = 30.0
NAMES = {
    "bench.engine_process": "engine",
    "kafka.Kafka": "broker",
    "exchange": "exchange",
    "bench.tap": "tap",
    "bench.bare_consumer_process": "bare consumer",
}


class Terms(Struct, frozen=True):
    rate: float = 200.0
    seconds: float = 10.0
    durability: Literal["power", "process"] = "process"
    rounds: int = 4
    warm_up: int = 100  # messages, not counted
    servers: str = ""  # of a broker that is there; "": one is started, and thrown away
    folder: str = "var"


class Report(Struct, frozen=True):
    """Durations in microseconds. `complete`: each signal was accepted, and each order came to the exchange once."""

    terms: Terms
    signals: int
    complete: bool
    own: Figures
    typical: Figures  # the median of the rounds, percentile by percentile, of `own`
    outside: Figures
    stages: dict[str, Figures]
    bare_own: Figures
    bare_outside: Figures
    over_bare: Ratio | None
    outside_over_bare: Ratio | None
    cpu_us: float  # of the engine's process, per signal
    processors: Use | None  # while messages went to the engine; None: the system does not tell


def add_options(parser: argparse.ArgumentParser) -> None:
    plain = Terms()
    parser.add_argument("--rate", type=float, default=plain.rate, help="messages per second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=plain.seconds, help="of messages to each of the two")
    parser.add_argument("--durability", choices=("power", "process"), default=plain.durability)
    parser.add_argument("--rounds", type=int, default=plain.rounds, help="turns of floor and engine (%(default)s)")
    parser.add_argument("--warm-up", type=int, default=plain.warm_up, help="messages before, not counted")
    parser.add_argument("--servers", default="", help="host:port of a broker that is there already")
    parser.add_argument("--folder", default=plain.folder, help="on the disk that is to be measured (%(default)s)")


def measure(arguments: argparse.Namespace) -> Report:
    return run(Terms(**{field: getattr(arguments, field) for field in Terms.__struct_fields__}))


def run(terms: Terms) -> Report:
    with ExitStack() as stack:
        cluster = Cluster(terms.servers) if terms.servers else _broker(stack)
        return _measure(terms, cluster, stack)


def _broker(stack: ExitStack) -> Cluster:
    try:
        return stack.enter_context(throwaway()).cluster
    except NoBroker as word:
        raise SystemExit(f"{word}; or name a broker by --servers") from word


def _measure(terms: Terms, cluster: Cluster, stack: ExitStack) -> Report:
    named = f"bench{os.getpid()}"
    topics = {"engine": topic(cluster, f"{named}.engine"), "bare": topic(cluster, f"{named}.bare")}
    producer = Producer(cluster.settings() | {"linger.ms": 0})
    tap, engine, bare = stack.enter_context(_stage(terms, cluster, topics))
    rounds = max(1, terms.rounds)
    count = max(1, round(terms.rate * terms.seconds / rounds))
    sent: dict[str, list[dict[str, int]]] = {"engine": [], "bare": []}
    processors = Processors(NAMES, "sender")
    gc.collect()
    gc.freeze()
    first = 0
    for turn in range(rounds + 1):
        number = count if turn else terms.warm_up
        for name in ("bare", "engine"):
            with processors.counted() if turn and name == "engine" else nullcontext():
                meant = _turn(terms.rate, producer, topics[name], name[0], first, number)
            if turn:
                sent[name].append(meant)
            time.sleep(0.3)
        first += number
    told, floor, tapped = engine.end(EngineResult), bare.end(BareResult), tap.end(TapResult)
    return _report(terms, sent, told, floor, tapped, first, processors.use())


def _turn(rate: float, producer: Producer, name: str, run: str, first: int, count: int) -> dict[str, int]:
    """Monotonic ns at which each message was meant to be sent, by its order's client id."""
    bodies = [_hedge(run, first + number) for number in range(count)]

    def send(number: int) -> None:
        producer.produce(name, bodies[number], ACCOUNT)
        producer.poll(0)

    done = feed.pace(rate, count, send)
    assert producer.flush(FLUSH_SECONDS) == 0, "the broker took not all messages"
    return {feed.entry_cid(run, first + number): done.intended[number] for number in range(count)}


def _hedge(run: str, number: int) -> bytes:
    """An order far from the market, at once or not at all, so that nothing piles up. `cid` is the bare consumer's."""
    body = {"trade_id": feed.signal_id(run, number), "symbol": SYMBOL, "side": "buy", "size": QTY, "ltv": "0.62"}
    order = {"order_type": "limit", "limit_price": PRICE, "time_in_force": "ioc", "stop_loss": "58500"}
    return json.dumps({**body, **order, "metadata": {"cid": feed.entry_cid(run, number)}}).encode()


@contextmanager
def _stage(terms: Terms, cluster: Cluster, topics: dict[str, str]) -> Iterator[tuple[Process, Process, Process]]:
    """Tap, engine and bare consumer, connected to the exchange and to their topics."""
    Path(terms.folder).mkdir(parents=True, exist_ok=True)
    with exchange() as ports, tempfile.TemporaryDirectory(dir=terms.folder, prefix="bench-") as name:
        folder = Path(name).absolute()
        started: list[Process] = []
        try:
            started.append(tap := Process("bench.tap", TapTask(ports[FACE], str(folder / "tap.json")), folder, "tap"))
            port = int(tap.first_word())
            (inside := folder / "engine").mkdir()
            task = EngineTask(
                str(inside),
                terms.durability,
                port,
                str(folder / "engine.json"),
                face=FACE,
                kafka=cluster.servers,
                topic=topics["engine"],
            )
            started.append(engine := Process("bench.engine_process", task, folder, "engine"))
            least = BareTask(cluster.servers, topics["bare"], port, str(folder / "bare.json"))
            started.append(bare := Process("bench.bare_consumer_process", least, folder, "bare"))
            for process in (engine, bare):
                process.first_word()
            yield tap, engine, bare
        finally:
            for process in started:
                process.kill()


def _report(
    terms: Terms,
    sent: dict[str, list[dict[str, int]]],
    engine: EngineResult,
    bare: BareResult,
    tapped: TapResult,
    signals: int,
    processors: Use | None,
) -> Report:
    arrived = tapped.arrived
    pairs = _paired(sent["engine"], engine.stamps, arrived)
    own = [[arrived[cid] - pairs[cid].received for cid in turn if cid in pairs] for turn in sent["engine"]]
    bare_own = [arrived[cid] - at for cid, at in bare.handed_over.items() if cid in arrived and _counted(cid, sent)]
    entries = [cid for turns in sent.values() for turn in turns for cid in turn]
    complete = engine.verdicts == {"accepted": signals} and len(pairs) == sum(map(len, sent["engine"]))
    complete &= all(cid in arrived for cid in entries) and not set(tapped.again) & set(entries)
    whole, floor = figures(took for of in own for took in of), figures(bare_own)
    outside = {name: figures(_outside(turns, arrived)) for name, turns in sent.items()}
    return Report(
        terms=terms,
        signals=signals,
        complete=complete,
        own=whole,
        typical=median_of([figures(of) for of in own if of]),
        outside=outside["engine"],
        stages={
            name: figures(getattr(s, end) - getattr(s, begin) for s in pairs.values())
            for name, (begin, end) in STAGES.items()
        },
        bare_own=floor,
        bare_outside=outside["bare"],
        over_bare=ratio(whole, floor),
        outside_over_bare=ratio(outside["engine"], outside["bare"]),
        cpu_us=round(engine.cpu_ns / signals / 1000, 1),
        processors=processors,
    )


def _paired(turns: list[dict[str, int]], stamps: tuple[Stamp, ...], arrived: dict[str, int]) -> dict[str, Stamp]:
    """The engine's stamps name no order: they are joined to the orders in the turn in which both went."""
    began = min(turns[0].values())
    went = sorted((s for s in stamps if s.wire and s.received >= began), key=lambda stamp: stamp.wire)
    came = sorted((cid for turn in turns for cid in turn if cid in arrived), key=arrived.__getitem__)
    return dict(zip(came, went, strict=True)) if len(went) == len(came) else {}


def _counted(cid: str, sent: dict[str, list[dict[str, int]]]) -> bool:
    return any(cid in turn for turn in sent["bare"])


def _outside(turns: list[dict[str, int]], arrived: dict[str, int]) -> list[int]:
    return [arrived[cid] - meant for turn in turns for cid, meant in turn.items() if cid in arrived]


def lines(report: Report) -> list[str]:
    terms = report.terms
    told = [
        f"{terms.rate:g} messages/s, durability {terms.durability}: {report.signals} signals",
        HEADING,
        line(OWN, report.own),
        line("  the median of the rounds", report.typical),
        *(line(f"  {name}", of) for name, of in report.stages.items()),
        line("floor: bare consumer", report.bare_own),
        line(OUTSIDE, report.outside),
        line("floor: bare consumer", report.bare_outside),
        ratio_line(f"{OWN} / bare", report.over_bare),
        ratio_line("meant -> wire / bare", report.outside_over_bare),
        f"{report.cpu_us:g} us of CPU per signal",
    ]
    if report.processors is not None:
        told.append(processors_line(report.processors, "engine"))
    if not report.complete:
        told.append("INCOMPLETE: messages, accepted signals and orders at the exchange differ")
    if terms.durability == "process":
        kept = "kept" if report.own.p99 <= WANTED_US else "MISSED"
        told.append(f"target: own share p99 under {WANTED_US} us: {kept}")
    return told
