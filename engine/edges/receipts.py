"""What a source tells the sender of a body: one form for HTTP answers and echoed lines. PURE."""

from decimal import Decimal

import msgspec

from engine.core.messages import Check, Confirmed, Plan, SignalRow
from engine.core.money import plain
from engine.edges.base import Receipt

Told = dict[str, object]


def told(receipt: Receipt) -> Told:
    """The state of the signal and every reason against it, with the numbers compared. Decimals are texts, exact."""
    answer: Told = {"status": receipt.status}
    if receipt.row is not None:
        answer |= _row(receipt.row)
    if receipt.malformed is not None:
        answer["signal_id"] = receipt.malformed.signal_id
        answer["reasons"] = [{"field": r.field, "reason": r.reason} for r in receipt.malformed.reasons]
    if receipt.status == "conflict":
        first = {
            "field": "signal_id",
            "reason": "came before with another body; the first one counts, this is not executed",
        }
        answer["reasons"] = [first]
    if receipt.text:
        answer["text"] = receipt.text
    return answer


def receipt_line(receipt: Receipt, line_id: str | None = None) -> bytes:
    """One line of NDJSON. `line_id` is where the body stood, for bodies that have no id of their own."""
    answer = told(receipt)
    if line_id is not None:
        answer["line"] = line_id
    return msgspec.json.encode(answer) + b"\n"


def _row(row: SignalRow) -> Told:
    signal = row.signal
    answer: Told = {
        "signal_id": signal.signal_id,
        "account": signal.account,
        "symbol": signal.symbol,
        "action": signal.action.value,
        "trace_id": signal.trace_id,
        "outcome": row.outcome.value,
        "reasons": [_check(check) for check in row.checks if not check.passed],
    }
    if row.plan is not None:
        answer["plan"] = _plan(row.plan)
    if row.confirmed is not None:
        answer["confirmation"] = _confirmation(row.confirmed)
    return answer


def _check(check: Check) -> Told:
    return {
        "rule": check.rule,
        "reason": check.reason,
        "value": _figure(check.value),
        "limit": _figure(check.limit),
        "unit": check.unit,
    }


def _plan(plan: Plan) -> Told:
    return {
        "side": None if plan.side is None else plan.side.value,
        "qty": plain(plan.qty),
        "order_type": plan.order_type.value,
        "tif": plan.tif.value,
        "price": _figure(plan.price),
        "stop_loss": _figure(plan.stop_loss),
        "take_profit": _figure(plan.take_profit),
        "reduce_only": plan.reduce_only,
    }


def _confirmation(confirmed: Confirmed) -> Told:
    return {
        "outcome": confirmed.outcome.value,
        "filled_qty": plain(confirmed.filled_qty),
        "avg_price": _figure(confirmed.avg_price),
        "fees": plain(confirmed.fees),
        "reason": confirmed.reason,
        "orders": list(confirmed.orders),
    }


def _figure(number: Decimal | None) -> str | None:
    return None if number is None else plain(number)
