"""The engine's process, wired as in life: signals on standard input, the journal on disk, the venue over the link.

When the input ends and all has come to rest it writes down every stamp that the engine itself took.
"""

import cProfile
import resource
import sys
import time
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import trio
from msgspec.structs import replace

from actors.assembly import Board, bury, open_market, start_market
from actors.wiring import AccountParts, Engine, Parts, run_engine
from bench.exchange import OWN_KEYS
from bench.market import ACCOUNT, ENV, limits
from bench.submitters import CATEGORY, SYMBOL, adapter, boundless
from bench.terms import dialect_terms
from engine.core.breakers import OwnTerms, StallTerms
from engine.core.messages import AnyFact, InstrumentKind, Leg, OutboxRow, SignalReceived, Timed
from engine.core.money import use_exact_context
from engine.core.tally import Tally
from engine.core.times import SECOND
from engine.edges.base import Arrival, Source
from engine.edges.ndjson import NdjsonFile, NdjsonSink, NdjsonSource
from engine.runtime.clock import Clock, live_clock
from engine.runtime.config import MarketSection
from engine.runtime.interpreter import settle_down
from engine.runtime.journal.sqlite import SqliteJournal
from engine.runtime.log import configure
from engine.runtime.turns import take_short_turns
from engine.venues.link import LinkVenue
from engine.venues.registry import WORLDS

if TYPE_CHECKING:
    from engine.edges.kafka import KafkaSink, KafkaSource  # takes long

REST_SECONDS = 30.0  # at most, for everything to come to rest after the last signal


class EngineTask(msgspec.Struct, frozen=True):
    folder: str
    durability: Literal["power", "process"]
    port: int
    result: str  # file for `EngineResult`
    profile: str = ""  # file for cProfile's figures
    face: str = ""  # of the local exchange; "": the paper venue over the link
    order_socket: bool = True
    kafka: str = ""  # servers that bring signals, too, and take the confirmations
    topic: str = ""  # of these signals


class Stamp(msgspec.Struct, frozen=True, array_like=True):
    """One entry order, monotonic ns."""

    received: int
    judged: int
    durable: int
    wire: int
    answered: int


class EngineResult(msgspec.Struct, frozen=True):
    stamps: tuple[Stamp, ...]
    received: dict[str, int]  # signal id -> wall ns at which its bytes were read
    placed: dict[str, int]  # client order id -> wall ns at which every sink had its `order.placed`
    verdicts: dict[str, int]
    endings: dict[str, int]
    alerts: dict[str, int]
    commits: int
    signals_dropped: int
    ready_ns: int  # from the engine's start until it let entries through
    cpu_ns: int  # user and system, from ready to rest
    rss_bytes: int  # at most
    rested: bool


class StampedTally(Tally):
    """A tally that also keeps each entry's moments."""

    def __init__(self) -> None:
        super().__init__()
        self.stamps: list[Stamp] = []
        self.received: dict[str, int] = {}

    def fact(self, fact: AnyFact) -> None:
        super().fact(fact)
        if isinstance(fact, SignalReceived):
            self.received[fact.signal.signal_id] = fact.signal.received_ns

    def timed(self, timed: Timed) -> None:
        super().timed(timed)
        if timed.leg is Leg.ENTRY and timed.received:
            self.stamps.append(Stamp(timed.received, timed.judged, timed.durable, timed.wire, timed.answered))


class EndingSource:
    """Says when the source within has ended."""

    def __init__(self, within: Source) -> None:
        self.name = within.name
        self.ended = trio.Event()
        self._within = within

    async def run(self, arrivals: trio.MemorySendChannel[Arrival]) -> None:
        await self._within.run(arrivals)
        self.ended.set()


class LastSink:
    """Stands behind the other sinks: what it is given, all have."""

    name = "last"

    def __init__(self) -> None:
        self.placed: dict[str, int] = {}

    async def send(self, rows: tuple[OutboxRow, ...]) -> None:
        now = time.time_ns()
        for row in rows:
            if row.event.name == "order.placed":
                self.placed[row.event.key] = now


async def run(task: EngineTask) -> None:
    clock, folder = live_clock(), Path(task.folder)
    configure(clock, (folder / "engine.log").open("ab"), "info")
    board = Board()
    account = _at_face(task, clock) if task.face else await _at_link(task, clock)
    tally, last, dead = StampedTally(), LastSink(), NdjsonFile(folder / "dead-letters.ndjson")
    source = EndingSource(NdjsonSource.stdin("stdin", clock))
    bus, confirming = _by_kafka(task, clock) if task.kafka else ((), ())
    parts = Parts(
        env=ENV,
        clock=clock,
        journal=SqliteJournal(folder / "journal.sqlite", task.durability, clock),
        rng=Random(1),
        accounts=(account,),
        quote=board.quote if task.face else account.venue.quote,  # type: ignore[attr-defined]
        sources=(source, *bus),
        sinks=(NdjsonSink("events", folder / "events.ndjson"), *confirming, last),
        dialects=dialect_terms(),
        dead_letter=lambda malformed: bury(dead, malformed),
        tally=tally,
        breakers=OwnTerms(stalls=StallTerms(loop_ns=60 * SECOND, commit_ns=60 * SECOND)),  # too much is to be measured
        build="bench",
    )
    stop, began = trio.Event(), clock.ticks_ns()
    drained = trio.Event()

    async def run_and_drain(task_status: trio.TaskStatus[Engine]) -> None:
        await run_engine(parts, stop, task_status)
        drained.set()

    async with trio.open_nursery() as nursery:
        if task.face:
            await _connect(task, nursery, account, board, clock)
        engine: Engine = await nursery.start(run_and_drain)
        await ready(engine)
        while any(each.down for each in bus):  # noqa: ASYNC110 (likewise)
            await trio.sleep(0.01)
        ready_ns = clock.ticks_ns() - began
        settle_down()
        cpu_ns = time.process_time_ns()
        print("ready", flush=True)
        await source.ended.wait()
        rested = await rest(engine)
        result = EngineResult(
            stamps=tuple(tally.stamps),
            received=tally.received,
            placed=last.placed,
            verdicts=tally.snapshot().verdicts,
            endings=tally.snapshot().endings,
            alerts=tally.snapshot().alerts,
            commits=parts.journal.stats().commits,
            signals_dropped=tally.dropped,
            ready_ns=ready_ns,
            cpu_ns=time.process_time_ns() - cpu_ns,
            rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            rested=rested,
        )
        stop.set()
        await drained.wait()
        nursery.cancel_scope.cancel()
    await trio.Path(task.result).write_bytes(msgspec.json.encode(result))


def _by_kafka(task: EngineTask, clock: Clock) -> "tuple[tuple[KafkaSource], tuple[KafkaSink]]":
    from engine.edges.kafka import Cluster, KafkaSink, KafkaSource, Topics

    cluster, terms = Cluster(task.kafka), Topics((task.topic,), group=task.topic, dialect="hedge_trades")
    sink = KafkaSink("confirmations", cluster, f"{task.topic}.told", ("trade_confirmations",))
    return (KafkaSource("hedges", cluster, terms, clock),), (sink,)


async def _at_link(task: EngineTask, clock: Clock) -> AccountParts:
    venue = LinkVenue("127.0.0.1", task.port, clock)
    await venue.learn_traits()
    return AccountParts(ACCOUNT, "paper", venue, boundless(clock), limits(), swift=venue)


def _at_face(task: EngineTask, clock: Clock) -> AccountParts:
    """The exchange's market stands, so that its quote may be of any age."""
    throttle = boundless(clock)
    key = OWN_KEYS[1 if task.order_socket else 2]
    venue = adapter(task.face, task.port, task.order_socket, throttle, clock, key)
    patient = replace(limits(), quote_age_max_seconds=Decimal(1_000_000), signal_ttl_seconds=Decimal(60))
    return AccountParts(ACCOUNT, task.face.partition("-")[0], venue, throttle, patient)


async def _connect(task: EngineTask, nursery: trio.Nursery, account: AccountParts, board: Board, clock: Clock) -> None:
    """The public stream, the venue's clock and its order socket: everything that is there before the first signal."""
    venue: Any = account.venue
    kind, host = InstrumentKind(CATEGORY[task.face]), f"http://127.0.0.1:{task.port}"
    world = WORLDS[account.venue_name](host, kind)
    section = MarketSection(kind=account.venue_name, symbols=(SYMBOL,))  # type: ignore[arg-type]
    market = open_market(section, kind, clock, world.public_stream, world.public_rest)
    start_market(nursery, market, [board], clock, Random(1))
    nursery.start_soon(venue.run)
    await venue.server_time_ns()
    assert not task.order_socket or await venue.socket.until_ready(10)
    while board.quote(SYMBOL) is None:  # noqa: ASYNC110 (the board tells nobody)
        await trio.sleep(0.01)


async def ready(engine: Engine) -> None:
    """Entries are let through."""
    while engine.closed(ACCOUNT):  # noqa: ASYNC110 (there is no event for it)
        await trio.sleep(0.005)


async def rest(engine: Engine) -> bool:
    """Whether all mailboxes were empty, no order on its way and nothing unpublished, before the time was over."""
    with trio.move_on_after(REST_SECONDS):
        quiet = 0
        while quiet < 3:
            await trio.sleep(0.05)
            at_rest = engine.quiet() and not engine.parts.journal.stats().outbox_waiting
            quiet = quiet + 1 if at_rest else 0
        return True
    return False


def main(task: EngineTask) -> None:
    use_exact_context()
    take_short_turns()
    if not task.profile:
        return trio.run(run, task)
    profile = cProfile.Profile()
    profile.runcall(trio.run, run, task)
    profile.dump_stats(task.profile)
    return None


if __name__ == "__main__":
    main(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=EngineTask))
