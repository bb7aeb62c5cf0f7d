"""What do the decisions themselves cost, without a task, a disk or a socket: nanoseconds per call of the pure parts?

Each part does in the engine's words what it does once for a signal; the best of several rounds, since all else that
runs on the machine only adds. `journal append` is the making of bytes and hashes, without the commit.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial

import msgspec
import trio
from msgspec import Struct
from msgspec.structs import replace

from bench import feed
from bench.market import ACCOUNT, CASH, ENV, PRICE, TICK, instruments, limits
from bench.terms import dialect_terms
from engine.core.admission import AccountTerms, Admission, Admitted
from engine.core.blotter import Blotter, Step, Terms
from engine.core.ids import client_order_id
from engine.core.messages import (
    Acked,
    Answered,
    AnyFact,
    BalanceReport,
    BalancesSeen,
    Enact,
    FillReport,
    Leg,
    Order,
    OrderReport,
    Place,
    Position,
    Quote,
    Row,
    Side,
    Signal,
    State,
)
from engine.core.position import apply_fill
from engine.core.rules import judge
from engine.core.times import SECOND
from engine.edges.dialects import decode
from engine.runtime.journal.base import JournalFailed
from engine.runtime.journal.group import Batch, Group
from engine.runtime.journal.group import Place as Start

NOW = 1_767_225_600 * SECOND
(_BTC,) = instruments(1)
_QUOTE = Quote(_BTC.symbol, PRICE - TICK, PRICE + TICK, PRICE, PRICE, NOW)


class Cost(Struct, frozen=True):
    name: str
    ns: int  # per call
    calls: int


class Report(Struct, frozen=True):
    costs: tuple[Cost, ...]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calls", type=int, default=2000, help="of each part in one round (%(default)s)")
    parser.add_argument("--rounds", type=int, default=7, help="of which the best counts (%(default)s)")


def measure(arguments: argparse.Namespace) -> Report:
    return Report(trio.run(_measure, arguments.calls, arguments.rounds))


async def _measure(calls: int, rounds: int) -> tuple[Cost, ...]:
    """In a trio run, because a journal's queue asks for trio's time."""
    costs = []
    for name, make in PARTS.items():
        best = min(_timed(make(calls)) for _ in range(rounds))
        costs.append(Cost(name, round(best / calls), calls))
        await trio.lowlevel.checkpoint()
    return tuple(costs)


def _timed(calls: Iterator[Callable[[], object]]) -> int:
    """Everything that is to be called is made before the clock starts."""
    ready = list(calls)
    began = time.perf_counter_ns()
    for call in ready:
        call()
    return time.perf_counter_ns() - began


def lines(report: Report) -> list[str]:
    return [f"{'nanoseconds per call':46}", *(f"{cost.name:46}{cost.ns:10,d}" for cost in report.costs)]


# ------------------------------------------------------------------------------------------------------------ the parts


def _signal(number: int, kind: str = "fills") -> Signal:
    decoded = decode(
        feed.body(kind, "c", number, 1, 2.0),
        None,
        dialect_terms(),
        source="core",
        received_ns=NOW,
        trace_id=f"t{number}",
    )
    assert isinstance(decoded, Signal), decoded
    return decoded


def _admission() -> Admission:
    admission = Admission(ENV, {ACCOUNT: AccountTerms(ACCOUNT, "paper")}, lambda account, symbol: _BTC)
    admission.set_limits(ACCOUNT, limits(), "bench", NOW)
    admission.handle_balances(BalancesSeen(ACCOUNT, (BalanceReport("USDT", CASH),), NOW), lambda symbol: _QUOTE, NOW)
    return admission


def _admit(admission: Admission, signal: Signal) -> Admitted:
    return admission.handle_signal(signal, None, _QUOTE, None, (), NOW)


def _blotter(orders: tuple[Order, ...] = ()) -> Blotter:
    terms = Terms(ENV, 5 * SECOND, 30 * SECOND, 30 * SECOND, Decimal("0.01"))
    return Blotter(terms, _BTC, Position(account=ACCOUNT, symbol=_BTC.symbol), orders)


def _enacts(count: int, kind: str) -> list[Enact]:
    enacts = [_admit(_admission(), _signal(number, kind)).enact for number in range(count)]
    assert all(enacts)
    return [enact for enact in enacts if enact is not None]


def _intent(enact: Enact) -> tuple[Blotter, Step, Order]:
    blotter = _blotter()
    step = blotter.handle((enact,), NOW)
    (command,) = (c for c in step.commands if isinstance(c, Place))
    return blotter, step, command.order


def _filled(order: Order, number: int) -> tuple[FillReport, OrderReport]:
    return (
        FillReport(
            order.symbol,
            f"x{number}",
            order.cid,
            "1",
            order.side,
            order.qty,
            PRICE,
            Decimal("0.05"),
            "USDT",
            False,
            NOW,
        ),
        OrderReport(
            order.symbol, order.cid, "1", "filled", order.side, order.order_type, order.qty, order.qty, venue_ns=NOW
        ),
    )


def _decodings(calls: int) -> Iterator[Callable[[], object]]:
    terms = dialect_terms()
    for number in range(calls):
        body = feed.body("fills", "c", number, 20, 2.0)
        yield partial(decode, body, None, terms, source="core", received_ns=NOW, trace_id="t")


def _judgings(calls: int) -> Iterator[Callable[[], object]]:
    exposure = _admission().exposure(ACCOUNT)
    for number in range(calls):
        view = exposure.view(_signal(number), _QUOTE, None, (), NOW)
        yield partial(judge, view)


def _admittings(calls: int) -> Iterator[Callable[[], object]]:
    for number in range(calls):
        yield partial(_admit, _admission(), _signal(number))


def _ids(calls: int) -> Iterator[Callable[[], object]]:
    for number in range(calls):
        yield partial(client_order_id, ENV, ACCOUNT, f"signal-{number}", Leg.ENTRY, 0)


def _steps_enact(calls: int) -> Iterator[Callable[[], object]]:
    for enact in _enacts(calls, "resting"):
        yield partial(_blotter().handle, (enact,), NOW)


def _steps_enact_among(calls: int) -> Iterator[Callable[[], object]]:
    enacts = _enacts(calls + 50, "resting")
    resting = tuple(replace(_intent(enact)[2], state=State.OPEN, venue_order_id="1") for enact in enacts[:50])
    for enact in enacts[50:]:
        yield partial(_blotter(resting).handle, (enact,), NOW)


def _steps_answer(calls: int) -> Iterator[Callable[[], object]]:
    for enact in _enacts(calls, "resting"):
        blotter, _, order = _intent(enact)
        answered = Answered(order.cid, "place", Acked("1", NOW), NOW, NOW)
        yield partial(blotter.handle, (answered,), NOW)


def _steps_fill(calls: int) -> Iterator[Callable[[], object]]:
    for number, enact in enumerate(_enacts(calls, "fills")):
        blotter, _, order = _intent(enact)
        blotter.handle((Answered(order.cid, "place", Acked("1", NOW), NOW, NOW),), NOW)
        yield partial(blotter.handle, _filled(order, number), NOW)


def _standings(calls: int) -> Iterator[Callable[[], object]]:
    for number in range(calls):
        admission = _admission()
        enact = _admit(admission, _signal(number)).enact
        assert enact is not None
        standing = _intent(enact)[1].standing
        assert standing is not None
        yield partial(admission.handle_standing, standing, _QUOTE, NOW)


def _folds(calls: int) -> Iterator[Callable[[], object]]:
    held = Position(account=ACCOUNT, symbol=_BTC.symbol)
    fee = Decimal("0.05")
    for _ in range(calls):
        yield partial(apply_fill, held, _BTC, Side.BUY, Decimal("0.5"), PRICE, fee, "USDT", fee, NOW)


def _appends(calls: int) -> Iterator[Callable[[], object]]:
    """What a signal brings before the wire: received, judged, submitted, and their rows."""
    group = Group(Start(0, bytes(32), 0), _nowhere)
    for number in range(calls):
        admitted = _admit(_admission(), _signal(number, "resting"))
        assert admitted.enact is not None
        step = _intent(admitted.enact)[1]
        facts: tuple[AnyFact, ...] = (*admitted.facts, *step.facts)
        rows: tuple[Row, ...] = (*admitted.rows, *step.rows)
        yield partial(group.append, facts, rows)


def _statements(calls: int) -> Iterator[Callable[[], object]]:
    """The rows' bytes, made when the batch is written: one signal to a batch."""
    for number in range(calls):
        group = Group(Start(0, bytes(32), 0), _nowhere)
        admitted = _admit(_admission(), _signal(number, "resting"))
        assert admitted.enact is not None
        step = _intent(admitted.enact)[1]
        group.append((*admitted.facts, *step.facts), (*admitted.rows, *step.rows))
        yield group._open.statements


async def _nowhere(batch: Batch, settle: Callable[[JournalFailed | None], None]) -> None:
    settle(None)


def _encodings(calls: int) -> Iterator[Callable[[], object]]:
    facts = _admit(_admission(), _signal(0)).facts
    encode = msgspec.json.Encoder().encode
    for _ in range(calls):
        yield lambda: [encode(fact) for fact in facts]


PARTS: dict[str, Callable[[int], Iterator[Callable[[], object]]]] = {
    "decode a signal": _decodings,
    "judge (the rules alone)": _judgings,
    "admit (judge, reserve, facts and rows)": _admittings,
    "client order id": _ids,
    "blotter step: an intent": _steps_enact,
    "blotter step: an intent among 50 orders": _steps_enact_among,
    "blotter step: an acknowledgement": _steps_answer,
    "blotter step: a fill, stop and target": _steps_fill,
    "gate takes a standing": _standings,
    "position folds a fill": _folds,
    "encode received and judged": _encodings,
    "journal append of a signal, verdict, intent": _appends,
    "rows of these to SQL values": _statements,
}
