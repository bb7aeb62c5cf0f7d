"""A finite run: a tape replayed faster than real time through the same engine, ending with the books compared.

The clock is virtual and the scheduler seeded, so that one seed gives one result; every other part is the one that
trades. The decider here only exists to give the engine something to do. It knows nothing about markets: it draws
signals, good and bad, in several dialects, so that every gate is seen to open and to close.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random

import msgspec
import trio
from msgspec import Struct
from msgspec.structs import replace

from actors.wiring import AccountParts, Engine, Parts, run_engine
from engine.core.ids import is_ours
from engine.core.instrument import round_limit, round_qty, round_stop
from engine.core.messages import (
    ZERO,
    Filled,
    FillReport,
    Instrument,
    InstrumentKind,
    Limits,
    Malformed,
    Position,
    Quote,
    Side,
)
from engine.core.money import plain
from engine.core.position import unrealised
from engine.core.tally import JUDGING, STAGES, UNCOVERED, Tally
from engine.core.times import DAY, SECOND
from engine.edges.base import Arrival, Receipt, Sink
from engine.edges.dialects import DialectTerms
from engine.market import synthetic
from engine.market.events import MarketEvent
from engine.market.recorded import Recording, survey
from engine.market.tape import play
from engine.runtime.clock import Clock, virtual_clock
from engine.runtime.journal.base import Journal, Reader, Record
from engine.runtime.journal.memory import MemoryDisk, MemoryJournal
from engine.runtime.terminal import DemoSummary, PositionLeft
from engine.venues.paper import PaperTerms, PaperVenue, Truth
from engine.venues.throttle import Limit, Throttle

ACCOUNT = "demo"
CASH = Decimal(100_000)
MARKET_SECONDS = 600  # on the synthetic tape
BEGINS_NS = 1_767_225_600 * 1_000_000_000  # 2026-01-01, so that a seed always gives the same run
PAUSE_SECONDS = (1.0, 5.0)  # between two signals of the built-in decider
SETTLE_SECONDS = 120.0  # for everything to come to rest after the tape


class Demo(Struct, frozen=True):
    """What to replay. `lines` are the user's own signals (NDJSON), None: the built-in decider's."""

    tape: str
    seed: int
    instruments: tuple[Instrument, ...]
    events: Iterable[MarketEvent]
    start_ns: int
    market_ns: int  # about how long the tape is, for the progress bar
    lines: tuple[bytes, ...] | None
    journal: Callable[[Clock], Journal]
    sinks: tuple[Sink, ...]
    dead_letter: Callable[[Malformed], None]
    progress: Callable[[int, str], None]


def replay_of(seed: int, tape: Path | None, lines: tuple[bytes, ...] | None) -> tuple[Demo, Callable[[int], int]]:
    """The tape, or without one a synthetic market; and what tells how far a replay is, in thousandths.

    Raises BadTape.
    """
    length_ns = MARKET_SECONDS * 1_000_000_000
    demo = Demo(
        tape="synthetic",
        seed=seed,
        instruments=synthetic.instruments(),
        events=synthetic.events(Random(seed), synthetic.instruments(), BEGINS_NS, seconds=MARKET_SECONDS),
        start_ns=BEGINS_NS,
        market_ns=length_ns,
        lines=lines,
        journal=lambda clock: MemoryJournal(MemoryDisk(), clock),
        sinks=(),
        dead_letter=lambda malformed: None,
        progress=lambda done_ns, words: None,
    )
    if tape is None:
        return demo, lambda done_ns: done_ns * 1000 // length_ns
    found, recording = survey(tape), Recording(tape)
    demo = replace(
        demo,
        tape=tape.name,
        instruments=found.instruments,
        events=recording.events(),
        start_ns=found.start_ns,
        market_ns=DAY,  # not known before the end
    )
    return demo, lambda done_ns: int(recording.fraction * 1000)


async def run_demo(demo: Demo) -> tuple[DemoSummary, Callable[[], None]]:
    """Inside a trio run on a virtual clock. The journal is closed when this returns."""
    clock = virtual_clock(demo.start_ns)
    began = clock.ticks_ns()
    spot = demo.instruments[0].kind is InstrumentKind.SPOT
    terms = PaperTerms(balances=_balances(demo, spot), leverage=Decimal(1 if spot else 10), prefix="D")
    venue = PaperVenue(demo.instruments, terms, clock, Random(demo.seed))
    tally, stop, rng = Tally(), trio.Event(), Random(demo.seed + 1)
    lines = demo.lines
    source = DemoSource(decide(demo.instruments, venue.quote, rng) if lines is None else given(lines), clock)
    journal = demo.journal(clock)
    parts = Parts(
        env="demo",
        clock=clock,
        journal=journal,
        rng=rng,
        accounts=(AccountParts(ACCOUNT, "paper", venue, Throttle((Limit(50, SECOND),), clock), demo_limits()),),
        quote=venue.quote,
        sources=(source,),
        sinks=demo.sinks,
        dialects=DialectTerms(account=ACCOUNT),
        dead_letter=demo.dead_letter,
        tally=tally,
        build="demo",
    )
    last = [demo.start_ns]

    def publish(event: MarketEvent) -> None:
        venue.publish(event)
        last[0] = event.at_ns

    summary: list[DemoSummary] = []
    async with trio.open_nursery() as nursery:
        ended = trio.Event()
        nursery.start_soon(_play, demo, clock, publish, ended)
        engine: Engine = await nursery.start(run_engine, parts, stop)
        nursery.start_soon(_show, demo, source, last, ended)
        await ended.wait()
        source.stop()
        with trio.move_on_after(SETTLE_SECONDS):
            while not (source.answered() and engine.quiet()):  # noqa: ASYNC110 (many channels at once)
                await trio.sleep(0.05)
        await trio.sleep(1.0)  # of virtual time: the stream's last reports
        await journal.durable(journal.append(()))
        reader = journal.reader()
        quote = demo.instruments[0].quote
        played = Played(demo.tape, demo.seed, last[0] - demo.start_ns, clock.ticks_ns() - began, quote)
        summary.append(summary_of(played, engine, reader, source, differences(venue.truth(), reader, quote)))
        reader.close()
        stop.set()
    return summary[0], venue.close


def demo_limits() -> Limits:
    """Wide enough to see trades, narrow enough to see refusals."""
    return Limits(
        order_notional_min=Decimal(10),
        position_notional_max=Decimal(20_000),
        exposure_max=Decimal(40_000),
        daily_loss_max=Decimal(5_000),
        losses_in_row_max=50,
        duplicate_window_seconds=Decimal(1),
        stop_distance_min=Decimal("0.0003"),
        leverage_max=Decimal(10),
    )


def _balances(demo: Demo, spot: bool) -> dict[str, Decimal]:
    first = demo.instruments[0]
    return {first.quote: CASH, first.base: Decimal(10)} if spot else {first.quote: CASH}


async def _play(demo: Demo, clock: Clock, publish: Callable[[MarketEvent], None], ended: trio.Event) -> None:
    await play(demo.events, clock, publish)
    ended.set()


async def _show(demo: Demo, source: "DemoSource", last: list[int], ended: trio.Event) -> None:
    """Every two virtual seconds; the bar itself knows how often to draw."""
    while not ended.is_set():
        demo.progress(min(last[0] - demo.start_ns, demo.market_ns), f"{source.sent} signals")
        await trio.sleep(2.0)


class DemoSource:
    """Sends bodies at their moments. `bodies` yields (seconds to wait, body); a body is made when its moment comes."""

    name = "demo"

    def __init__(self, bodies: Iterator[tuple[float, Callable[[], bytes]]], clock: Clock, speed: float = 1.0) -> None:
        self._bodies = bodies
        self._clock = clock
        self._speed = speed
        self._scope = trio.CancelScope()
        self.sent = 0
        self.receipts: list[Receipt] = []

    async def run(self, arrivals: trio.MemorySendChannel[Arrival]) -> None:
        with self._scope:
            for wait, body in self._bodies:
                await trio.sleep(wait / self._speed)
                await arrivals.send(
                    Arrival(
                        raw=body(),
                        source=self.name,
                        dialect=None,
                        received_ns=self._clock.now_ns(),
                        received_tick=self._clock.ticks_ns(),
                        answer=self.receipts.append,
                        fallback_id=f"demo:{self.sent + 1}",
                    )
                )
                self.sent += 1

    def stop(self) -> None:
        self._scope.cancel()

    def answered(self) -> bool:
        return len(self.receipts) == self.sent


# --------------------------------------------------------------------------------------------- signals to work with


def given(lines: tuple[bytes, ...]) -> Iterator[tuple[float, Callable[[], bytes]]]:
    """The user's lines, one a second."""
    for line in lines:
        yield 1.0, partial(bytes, line)


def decide(
    instruments: tuple[Instrument, ...], quote: Callable[[str], Quote | None], rng: Random, venue: str = "paper"
) -> Iterator[tuple[float, Callable[[], bytes]]]:
    """Endless signals at random moments; each body is drawn from the quote of its moment."""
    number = 0
    last = [b"{}"]
    kinds = tuple(name for name, weight in _MIX for _ in range(weight))
    while True:
        number += 1
        kind, instrument, seed = rng.choice(kinds), rng.choice(instruments), rng.getrandbits(32)

        yield (
            rng.uniform(*PAUSE_SECONDS),
            partial(_drawn, kind, f"demo-{number:05d}", instrument, quote, seed, last, venue),
        )


def _drawn(
    kind: str,
    signal_id: str,
    instrument: Instrument,
    quote: Callable[[str], Quote | None],
    seed: int,
    last: list[bytes],
    venue: str,
) -> bytes:
    if kind != "again":
        last[0] = _body(kind, signal_id, instrument, quote(instrument.symbol), Random(seed), venue)
    return last[0]


_MIX = (
    ("market", 34),
    ("limit", 12),
    ("strategy", 10),
    ("ai", 8),
    ("hedge", 4),
    ("close", 10),
    ("reduce", 5),
    ("move_stop", 4),
    ("target", 4),
    ("wait", 3),
    ("again", 3),  # the same bytes once more
    ("too_large", 2),
    ("wrong_stop", 2),
    ("off_tick", 2),
    ("unknown_symbol", 2),
    ("broken", 2),
    ("typo", 2),
    ("nan", 1),
)


def _body(kind: str, signal_id: str, instrument: Instrument, quote: Quote | None, rng: Random, venue: str) -> bytes:
    price = quote.mid if quote else Decimal(100)
    spot = instrument.kind is InstrumentKind.SPOT
    side = Side.BUY if spot or rng.random() < 0.5 else Side.SELL
    sign = side.sign
    stop = round_stop(instrument, sign, price * (1 - sign * Decimal(rng.randint(4, 15)) / 10_000))
    target = round_stop(instrument, -sign, price + (price - stop) * Decimal(rng.randint(16, 30)) / 10)
    qty = round_qty(instrument, Decimal(rng.randint(200, 4000)) / price)
    base: dict[str, object] = {"signal_id": signal_id, "symbol": instrument.symbol}
    entry = {**base, "action": "open", "side": side.value, "qty": plain(qty)}
    ends = {"stop_loss": plain(stop), "take_profit": plain(target)}
    beyond = round_stop(instrument, sign, price * (1 + sign * Decimal("0.005")))
    bodies: dict[str, object] = {
        "market": {**entry, **ends},
        "limit": {
            **entry,
            **ends,
            "order_type": "limit",
            "limit_price": plain(round_limit(instrument, side, price * (1 - sign * Decimal("0.0001")))),
            "cancel_after_seconds": 10,
        },
        "strategy": {
            "id": signal_id,
            "decision": "enter_trade",
            "symbol": instrument.symbol,
            "exchange": venue,
            "side": side.value,
            "strength": "0.8",
            "confluence_score": plain(Decimal(rng.randint(20, 60)) / 10),
            **ends,
        },
        "ai": {
            "type": "ai.decision.made",
            "id": signal_id,
            "data": {
                "symbol": instrument.symbol,
                "side": side.value,
                "confidence": plain(Decimal(rng.randint(40, 99)) / 100),
                "sl": plain(stop),
                "tp": plain(target),
            },
        },
        "hedge": {
            "trade_id": signal_id,
            "symbol": instrument.symbol,
            "side": side.value,
            "size": plain(qty),
            "ltv": "0.62",
            "stop_loss": plain(stop),
        },
        "close": {**base, "action": "close"},
        "reduce": {**base, "action": "reduce", "position_share": "0.5"},
        "move_stop": {**base, "action": "move_stop", "stop_loss": plain(stop)},
        "target": {
            **base,
            "action": "target",
            "target": plain(round_qty(instrument, qty * (1 if spot else sign))),
            **ends,
        },
        "wait": {"id": signal_id, "decision": "wait", "symbol": instrument.symbol, "strength": "0.2"},
        "too_large": {**entry, **ends, "qty": plain(qty * 1000)},
        "wrong_stop": {**entry, "stop_loss": plain(beyond)},
        "off_tick": {**entry, **ends, "order_type": "limit", "limit_price": plain(price) + "0001234"},
        "unknown_symbol": {**entry, "symbol": "NOPEUSDT"},
        "typo": {**entry, **ends, "stop_lost": plain(stop)},
        "nan": {**entry, "qty": "NaN"},
    }
    if kind == "broken":
        return f'{{"signal_id": "{signal_id}", "symbol": '.encode()
    return msgspec.json.encode(bodies[kind])


# ------------------------------------------------------------------------------------------------------- the end


class Played(Struct, frozen=True):
    """What was played, for the summary: durations are nanoseconds."""

    tape: str
    seed: int
    market_ns: int
    took_ns: int
    quote: str


def summary_of(
    played: Played, engine: Engine, reader: Reader, source: DemoSource, found: tuple[str, ...]
) -> DemoSummary:
    """`found` is where our books and the venue's differ."""
    counted = engine.parts.tally.snapshot()
    positions = reader.positions(ACCOUNT)
    gaps = counted.stages[UNCOVERED]
    return DemoSummary(
        tape=played.tape,
        seed=played.seed,
        market_ns=played.market_ns,
        took_ns=played.took_ns,
        signals=source.sent,
        verdicts=_verdicts(source.receipts),
        refusals=counted.refusals,
        orders=counted.endings,
        fills=counted.facts.get("Filled", 0),
        quote=played.quote,
        realised=sum((p.realised for p in positions), ZERO),
        fees=sum((p.fees for p in positions), ZERO),
        funding=sum((p.funding for p in positions), ZERO),
        positions=tuple(_left(p, engine.parts.quote(p.symbol)) for p in positions if p.qty),
        gaps=gaps.count,
        gap_max_ns=gaps.max_ns,
        gap_total_ns=gaps.sum_ns,
        latency={name: counted.stages[name] for name in (*STAGES, JUDGING) if counted.stages[name].count},
        books_balance=not found,
        differences=found,
    )


def _verdicts(receipts: list[Receipt]) -> dict[str, int]:
    found: dict[str, int] = {}
    for receipt in receipts:
        found[receipt.status] = found.get(receipt.status, 0) + 1
    return dict(sorted(found.items()))


def _left(position: Position, quote: Quote | None) -> PositionLeft:
    return PositionLeft(
        account=position.account,
        symbol=position.symbol,
        qty=position.qty,
        avg_price=position.avg_price,
        unrealised=unrealised(position, quote.mid) if quote else ZERO,
    )


def differences(truth: Truth, reader: Reader, quote: str, held: tuple[str, ...] = ()) -> tuple[str, ...]:
    """Ours, as committed, against the venue's truth: executions, positions, live orders, and the wallet's change.

    Executions are compared by what they did, each as often as it happened; venues name them in ways of their own.
    `held`: orders that wait with an adapter, and are not the venue's.
    """
    found = []
    filled = [r.fact for r in all_records(reader) if isinstance(r.fact, Filled)]
    booked = Counter(map(_deed, filled))
    executed = Counter(_deed(e) for e in truth.executions if isinstance(e, FillReport))
    if booked != executed:
        extra, missing = (booked - executed).total(), (executed - booked).total()
        found.append(f"executions: {extra} of ours unknown there, {missing} not booked")
    if len({(fact.symbol, fact.exec_id) for fact in filled}) != len(filled):
        found.append("executions: one is booked twice")
    theirs = {p.symbol: p.qty for p in truth.positions if p.qty}
    ours = {p.symbol: p.qty for p in reader.positions(ACCOUNT) if p.qty}
    if ours != theirs:
        found.append(f"positions: ours {_pairs(ours)}, the venue's {_pairs(theirs)}")
    live = {o.cid for o in reader.orders(ACCOUNT, None, True, 100_000)} - set(held)
    open_there = {o.cid for o in truth.orders if o.status == "open" and is_ours(o.cid)}
    if live != open_there:
        found.append(f"live orders: {len(live - open_there)} only ours, {len(open_there - live)} only the venue's")
    cash = sum((p.cash for p in reader.positions(ACCOUNT)), ZERO)
    wallet = next((b.total for b in truth.balances if b.asset == quote), ZERO) - CASH
    if cash != wallet:
        found.append(f"cash: ours moved by {plain(cash)} {quote}, the venue's wallet by {plain(wallet)}")
    return tuple(found)


def _deed(execution: Filled | FillReport) -> tuple[str, str, Side, Decimal, Decimal]:
    return execution.symbol, execution.cid, execution.side, execution.qty, execution.price


def all_records(reader: Reader) -> Iterator[Record]:
    after = 0
    while records := reader.records(after, 10_000):
        yield from records
        after = records[-1].seq


def _pairs(amounts: dict[str, Decimal]) -> str:
    return ", ".join(f"{symbol} {plain(qty)}" for symbol, qty in sorted(amounts.items())) or "none"
