"""A journal with a past: signals that were judged, sent, filled or not, and ended, written by the real journal code.

The same core as in life makes the facts; a venue of a few lines answers at once. Most signals come to nothing, one pair
in ten opens a position with stop and target and closes it again, so that the last word of every symbol is flat.
"""

from collections import deque
from decimal import Decimal
from pathlib import Path

import msgspec
from msgspec import Struct

from bench import feed
from bench.market import ACCOUNT, CASH, ENV, PRICE, TICK, instruments, limits
from bench.terms import dialect_terms
from engine.core.admission import AccountTerms, Admission
from engine.core.blotter import Blotter, Terms
from engine.core.cursors import EVERYBODY
from engine.core.messages import (
    ZERO,
    Acked,
    Answered,
    BalanceReport,
    BalancesSeen,
    Cancel,
    Cursor,
    Enact,
    EngineStarted,
    FillReport,
    Order,
    OrderReport,
    OrderType,
    Place,
    Position,
    Quote,
    Signal,
    TimeInForce,
)
from engine.core.times import SECOND
from engine.edges.dialects import decode
from engine.runtime.clock import live_clock
from engine.runtime.journal.sqlite import SqliteJournal

STEP_NS = SECOND // 2  # between two signals of the past
COMMIT_EVERY = 500
FILLED_EVERY = 10
FEE = Decimal("0.05")


class Past(Struct, frozen=True):
    signals: int
    facts: int


async def write(path: Path, signals: int, symbols: int) -> Past:
    """`signals` past signals, the last of them a minute ago."""
    clock = live_clock()
    journal = SqliteJournal(path, "process", clock)
    await journal.open()
    now = clock.now_ns() - 60 * SECOND - signals * STEP_NS
    journal.append((EngineStarted(at_ns=now, epoch=1, build="bench", config_hash=""),))
    listed = {instrument.symbol: instrument for instrument in instruments(symbols)}
    admission = Admission(ENV, {ACCOUNT: AccountTerms(ACCOUNT, "paper")}, lambda account, symbol: listed[symbol])
    journal.append(*admission.set_limits(ACCOUNT, limits(), "config", now))
    admission.handle_balances(BalancesSeen(ACCOUNT, (BalanceReport("USDT", CASH),), now), lambda symbol: None, now)
    terms = Terms(ENV, 5 * SECOND, 30 * SECOND, 30 * SECOND, Decimal("0.01"))
    desks = {s: _Desk(Blotter(terms, i, Position(account=ACCOUNT, symbol=s)), admission) for s, i in listed.items()}
    seq = 0
    for number in range(signals):
        now += STEP_NS
        pair, second = divmod(number, 2)
        turn, column = divmod(pair, symbols)
        symbol = f"S{column:05d}USDT"
        filled = turn % FILLED_EVERY == 0 and number - second + 1 < signals
        seq = desks[symbol].take(_signal(number, symbol, filled, bool(second), now), journal, now)
        if number % COMMIT_EVERY == 0:
            await _publish(journal, seq)
    await _publish(journal, seq)
    facts = journal.stats().seq
    await journal.close()
    return Past(signals, facts)


async def _publish(journal: SqliteJournal, seq: int) -> None:
    await journal.durable(seq)
    journal.append((), (Cursor(EVERYBODY, journal.stats().events),))


def _signal(number: int, symbol: str, filled: bool, second: bool, now: int) -> Signal:
    body: dict[str, object] = {"signal_id": feed.signal_id("past", number), "symbol": symbol, "action": "open"}
    if filled and second:
        body["action"] = "close"
    elif filled:
        body |= {"side": "buy", "qty": "1", "stop_loss": "99", "take_profit": "102"}
    else:
        body |= {"side": "buy", "qty": "1", "order_type": "limit", "limit_price": "60", "time_in_force": "ioc"}
    raw = msgspec.json.encode(body)
    decoded = decode(raw, None, dialect_terms(), source="past", received_ns=now, trace_id=f"past-{number}")
    assert isinstance(decoded, Signal), decoded
    return decoded


def plain_signal(number: int, symbol: str, now: int) -> Signal:
    """One that asks for a resting order."""
    return _signal(number, symbol, False, False, now)


class _Desk:
    """One symbol, and a venue that answers it at once: market orders are filled, all others wait for their cancel."""

    def __init__(self, blotter: Blotter, admission: Admission) -> None:
        self._blotter = blotter
        self._admission = admission
        self._executions = 0

    def take(self, signal: Signal, journal: SqliteJournal, now: int) -> int:
        """From the verdict to the end of all that follows from it; the number of the last fact."""
        quote = Quote(signal.symbol, PRICE - TICK, PRICE + TICK, PRICE, PRICE, now)
        admitted = self._admission.handle_signal(signal, None, quote, None, (), now)
        assert admitted.enact is not None, admitted.row.checks
        seq = journal.append(admitted.facts, admitted.rows)
        mail: deque[Enact | Answered | OrderReport | FillReport] = deque([admitted.enact])
        while mail:
            step = self._blotter.handle((mail.popleft(),), now)
            seq = journal.append(step.facts, step.rows)
            if step.standing is not None:
                for confirmed in step.standing.confirmed:
                    self._admission.handle_confirmed(confirmed.signal_id, confirmed)
                reaction = self._admission.handle_standing(step.standing, quote, now)
                seq = journal.append(reaction.facts, reaction.rows)
            for command in step.commands:
                mail.extend(self._answers(command, now))
        return seq

    def _answers(self, command: object, now: int) -> list[Answered | OrderReport | FillReport]:
        match command:
            case Place(order=order):
                answered = Answered(order.cid, "place", Acked(f"v{order.cid[-8:]}", now), now, now)
                if order.order_type is OrderType.MARKET:
                    return [answered, self._fill(order, now), _report(order, "filled", order.qty, now)]
                if order.tif is TimeInForce.IOC:
                    return [answered, _report(order, "expired", ZERO, now)]
                return [answered]
            case Cancel(cid=cid):
                order = self._blotter.orders[cid]
                return [Answered(cid, "cancel", Acked("", now), now, now), _report(order, "canceled", ZERO, now)]
        return []  # look-ups and wake-ups: there is no doubt here, and nothing takes time

    def _fill(self, order: Order, now: int) -> FillReport:
        self._executions += 1
        return FillReport(
            symbol=order.symbol,
            exec_id=f"e{self._executions}",
            cid=order.cid,
            venue_order_id=f"v{order.cid[-8:]}",
            side=order.side,
            qty=order.qty,
            price=PRICE,
            fee=FEE,
            fee_asset="USDT",
            venue_ns=now,
        )


def _report(order: Order, status: str, filled: Decimal, now: int) -> OrderReport:
    return OrderReport(
        symbol=order.symbol,
        cid=order.cid,
        venue_order_id=f"v{order.cid[-8:]}",
        status=status,
        side=order.side,
        order_type=order.order_type,
        qty=order.qty,
        filled_qty=filled,
        venue_ns=now,
    )
