"""The whole explanation of one signal (P8): what came, which rule said what with which numbers, and every step since.

Pure: from committed rows and records to one struct, and from that struct to text for a terminal.
"""

from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from msgspec import Struct

from engine.core.messages import (
    AnyFact,
    Check,
    Confirmed,
    Covered,
    DeadLettered,
    Filled,
    Judged,
    Order,
    Outcome,
    Plan,
    Signal,
    SignalConflicted,
    SignalReceived,
    SignalRow,
    Submitted,
    TradeClosed,
    TradeOpened,
    Uncovered,
)
from engine.core.money import cents, plain
from engine.runtime.journal.base import Record
from engine.web.wire import iso, twin, whole


def buried(signal_id: str, letters: Sequence[DeadLettered]) -> str:
    """There is no such signal; if a body had this id and was none, why not."""
    words = [f"there is no signal {signal_id!r}"]
    for letter in letters:
        place = f" ({letter.place})" if letter.place else ""
        reasons = "; ".join(f"{r.field}: {r.reason}" if r.field else r.reason for r in letter.reasons)
        words.append(
            f"a body with this id came at {iso(letter.at_ns)} from {letter.source}{place} and was none: {reasons}"
        )
    return "; ".join(words)


class Verdict(Struct, frozen=True, kw_only=True):
    """The risk gate's answer with everything it compared."""

    outcome: Outcome
    checks: tuple[Check, ...] = ()
    limits_version: int = 0
    took_ns: int = 0


class Step(Struct, frozen=True, kw_only=True):
    """One fact of the story. Durations are between the facts' own wall times."""

    seq: int
    at_ns: int
    since_arrival_ns: int
    since_previous_ns: int
    text: str
    fact: AnyFact


class Explanation(Struct, frozen=True, kw_only=True):
    """Everything there is to say about one signal."""

    signal_id: str
    outcome: Outcome
    summary: str
    signal: Signal
    verdict: Verdict
    plan: Plan | None
    orders: tuple[Order, ...]
    confirmation: Confirmed | None
    steps: tuple[Step, ...]


def explain(row: SignalRow, records: Sequence[Record], orders: Sequence[Order]) -> Explanation:
    """`records` are the story of the signal's trace id, oldest first; other signals' facts in it are left out."""
    own = _own(row.signal.signal_id, records)
    judged = next((r.fact for r in own if isinstance(r.fact, Judged)), None)
    return Explanation(
        signal_id=row.signal.signal_id,
        outcome=row.outcome,
        summary=_summary(row),
        signal=row.signal,
        verdict=Verdict(
            outcome=judged.outcome if judged else row.outcome,
            checks=judged.checks if judged else row.checks,
            limits_version=judged.limits_version if judged else 0,
            took_ns=judged.took_ns if judged else 0,
        ),
        plan=row.plan,
        orders=tuple(o for o in orders if o.signal_id in _owners(row.signal.signal_id, records)),
        confirmation=row.confirmed,
        steps=_steps(row.signal.received_ns, own),
    )


def order_ids(records: Iterable[Record]) -> tuple[str, ...]:
    """Client order ids of the orders a story sent, in order."""
    return tuple(dict.fromkeys(r.fact.order.cid for r in records if isinstance(r.fact, Submitted)))


def render_text(explanation: Explanation) -> str:
    """For a terminal: plain lines, no colours, nothing cut off."""
    e = explanation
    lines = [f"signal {e.signal_id}: {e.summary}", ""]
    lines += _section("What came", _signal_lines(e.signal))
    lines += _section(f"What the rules said: {e.verdict.outcome.value}", [_check_line(c) for c in e.verdict.checks])
    if e.plan is not None:
        lines += _section("What it became", _field_lines(e.plan))
    lines += _section("Orders", [_order_line(o) for o in e.orders])
    lines += _section("Step by step", [_step_line(s) for s in e.steps])
    if e.confirmation is not None:
        lines += _section("Confirmation", _field_lines(e.confirmation))
    return "\n".join(lines).rstrip() + "\n"


def _own(signal_id: str, records: Sequence[Record]) -> list[Record]:
    # Several signals may have come under one trace id (a batch): what names another signal or its order is not ours.
    owners = _owners(signal_id, records)
    foreign = {
        r.fact.order.cid for r in records if isinstance(r.fact, Submitted) and r.fact.order.signal_id not in owners
    }
    return [
        r
        for r in records
        if ((name := _names(r.fact)) is None or name in owners) and getattr(r.fact, "cid", None) not in foreign
    ]


def _owners(signal_id: str, records: Sequence[Record]) -> set[str]:
    """The signal, and the lifecycles it opened: their stops, targets and exits are a part of what became of it."""
    opened = {
        r.fact.trade.trade_id
        for r in records
        if isinstance(r.fact, TradeOpened) and r.fact.trade.signal_id == signal_id
    }
    protective = {
        r.fact.order.signal_id
        for r in records
        if isinstance(r.fact, Submitted) and r.fact.order.signal_id.removeprefix("~").rpartition("/")[0] in opened
    }
    return {signal_id, *protective}


def _names(fact: AnyFact) -> str | None:
    match fact:
        case SignalReceived(signal=signal):
            return signal.signal_id
        case Submitted(order=order):
            return order.signal_id
        case Judged(signal_id=signal_id) | Confirmed(signal_id=signal_id) | SignalConflicted(signal_id=signal_id):
            return signal_id
        case _:
            return None


def _steps(arrived_ns: int, records: Sequence[Record]) -> tuple[Step, ...]:
    steps = []
    previous_ns = arrived_ns
    for record in records:
        at_ns = record.fact.at_ns
        steps.append(
            Step(
                seq=record.seq,
                at_ns=at_ns,
                since_arrival_ns=at_ns - arrived_ns,
                since_previous_ns=at_ns - previous_ns,
                text=describe(record.fact),
                fact=record.fact,
            )
        )
        previous_ns = at_ns
    return tuple(steps)


def describe(fact: AnyFact) -> str:
    """One fact in one line: in words where there are better ones than its fields, else its fields."""
    match fact:
        case SignalReceived(signal=signal):
            return f"signal received from {signal.source} ({signal.dialect})"
        case Judged(outcome=outcome, checks=checks):
            failed = [c for c in checks if not c.passed]
            return f"judged {outcome.value}: {len(checks)} checks" + "".join(f"; {c.rule}: {c.reason}" for c in failed)
        case Submitted(order=order):
            return f"intent written: {_order_words(order)}"
        case Filled():
            whose = "a foreign order" if fact.foreign else fact.cid
            fee = f"fee {plain(fact.fee)} {fact.fee_asset}"
            return f"filled {fact.side.value} {plain(fact.qty)} at {plain(fact.price)}, {fee} ({whose})"
        case Confirmed(outcome=outcome, filled_qty=filled, asked_qty=asked):
            return f"confirmed {outcome.value}: {plain(filled)} of {plain(asked)} filled"
        case TradeOpened(trade=trade):
            opened = f"{trade.side.value} {plain(trade.entry_qty)} at {plain(cents(trade.entry_price))}"
            return f"trade opened: {trade.trade_id}, {opened}"
        case TradeClosed(trade=trade):
            came_to = f"realised {plain(trade.realised)}, fees {plain(trade.fees)}, funding {plain(trade.funding)}"
            left = f"{plain(trade.exit_qty)} out at {plain(cents(trade.exit_price))}"
            return f"trade closed: {trade.trade_id}, {left}, {came_to}"
        case Uncovered(missing_qty=missing):
            return f"without full stop cover: {plain(missing)} is missing"
        case Covered(exposed_ns=exposed):
            return f"stop cover is complete, after {_ms(exposed)} without"
        case _:
            words = _words(type(fact).__name__)
            told = {k: v for k, v in _told(fact).items() if k not in _ENVELOPE}
            return f"{words}: {_pairs(told)}" if told else words


_ENVELOPE = frozenset({"type", "at_ns", "at", "account", "symbol", "trace_id", "cause"})


def _summary(row: SignalRow) -> str:
    failed = [c for c in row.checks if not c.passed]
    if row.confirmed is not None:
        c = row.confirmed
        told = f"{c.outcome.value}, {plain(c.filled_qty)} of {plain(c.asked_qty)} filled"
        price = f" at {plain(c.avg_price)}" if c.avg_price is not None else ""
        return told + price + (f" ({c.reason})" if c.reason else "")
    if failed and row.outcome is Outcome.REFUSED:
        return "refused: " + "; ".join(f"{c.rule} {c.reason}".strip() for c in failed)
    return row.outcome.value


def _section(title: str, lines: Sequence[str]) -> list[str]:
    return [title, *(f"  {line}" for line in lines), ""] if lines else [title, "  nothing", ""]


def _signal_lines(signal: Signal) -> list[str]:
    return [f"received {iso(signal.received_ns)} from {signal.source}", *_field_lines(signal, skip={"received_at"})]


def _check_line(check: Check) -> str:
    mark = "ok  " if check.passed else "FAIL"
    numbers = ""
    if check.value is not None:
        numbers = f" {plain(check.value)}"
        if check.limit is not None:
            numbers += f" against {plain(check.limit)}"
        numbers += f" {check.unit}".rstrip()
    return f"{mark} {check.rule}{numbers}" + (f": {check.reason}" if check.reason else "")


def _order_line(order: Order) -> str:
    end = order.ending.value if order.ending else order.state.value
    filled = f"filled {plain(order.filled_qty)}"
    price = f" at {plain(order.filled_quote / order.filled_qty)}" if order.filled_qty else ""
    return f"{_order_words(order)}: {end}, {filled}{price}" + (f" ({order.reason})" if order.reason else "")


def _order_words(order: Order) -> str:
    price = f" at {plain(order.price)}" if order.price is not None else ""
    trigger = f" when {plain(order.trigger_price)}" if order.trigger_price is not None else ""
    only = ", reduce-only" if order.reduce_only else ""
    kind = order.order_type.value.replace("_", " ")
    return f"{order.leg.value} {order.cid} {kind} {order.side.value} {plain(order.qty)}{price}{trigger}{only}"


def _step_line(step: Step) -> str:
    time, since, after = iso(step.at_ns)[11:-4], _ms(step.since_arrival_ns), "+" + _ms(step.since_previous_ns)
    return f"{time} {since:>12} {after:>12}  {step.text}"


def _ms(ns: int) -> str:
    return f"{Decimal(ns) / 1_000_000:.3f} ms"


def _field_lines(struct: Struct, skip: frozenset[str] | set[str] = frozenset()) -> list[str]:
    return [f"{name}: {_text(value)}" for name, value in _told(struct).items() if name not in skip and name != "type"]


def _told(struct: Struct) -> dict[str, Any]:
    """Fields that say something; a wall time only in its readable form."""
    fields = whole(struct)
    moments = {name for name in fields if twin(name) in fields}
    empty: tuple[object, ...] = (None, "", [], {}, 0, False)
    return {name: value for name, value in fields.items() if value not in empty and name not in moments}


def _pairs(fields: dict[str, Any]) -> str:
    return ", ".join(f"{name} {_text(value)}" for name, value in fields.items())


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return f"({_pairs({k: v for k, v in value.items() if v not in (None, '', [])})})"
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return str(value)


def _words(name: str) -> str:
    return "".join(f" {c.lower()}" if c.isupper() else c for c in name).strip()
