"""Facts and rows as the engine writes them, for the journal's tests."""

from decimal import Decimal
from typing import Any

from engine.core.ids import client_order_id
from engine.core.messages import (
    Accepted,
    Action,
    AnyFact,
    Check,
    Confirmed,
    Event,
    Filled,
    Judged,
    Leg,
    Order,
    OrderType,
    Outcome,
    Plan,
    Position,
    Quantity,
    Row,
    Side,
    Signal,
    SignalEnded,
    SignalReceived,
    SignalRow,
    Submitted,
)
from engine.core.order import advance
from engine.runtime.clock import Clock

NOW = 1_763_700_000_000_000_000
ACCOUNT, SYMBOL = "main", "BTCUSDT"
CLOCK = Clock(now_ns=lambda: NOW, ticks_ns=lambda: 0)
CHECKS = tuple(
    Check(
        rule=f"RSK4.order_notional_max_{n}",
        passed=True,
        value=Decimal("1234.56") + n,
        limit=Decimal(60_000),
        unit="quote",
    )
    for n in range(25)
)


def signal(number: int, symbol: str = SYMBOL) -> Signal:
    return Signal(
        signal_id=f"s-{number:06d}",
        account=ACCOUNT,
        symbol=symbol,
        action=Action.OPEN,
        source="stdin",
        dialect="strategy",
        body_hash=f"{number:032x}",
        trace_id=f"t-{number * 7919 % 1_000_003:06d}",
        received_ns=NOW + number,
        valid_until_ns=NOW + 10**10,
        side=Side.BUY,
        size=Quantity(qty=Decimal("0.01")),
        stop_loss=Decimal("59400.5"),
        take_profit=Decimal("61500.5"),
        reference_price=Decimal("60000.1"),
        strength=Decimal("0.8"),
    )


def order(number: int, symbol: str = SYMBOL) -> Order:
    of = signal(number, symbol)
    return Order(
        cid=client_order_id("test", ACCOUNT, of.signal_id, Leg.ENTRY, 0),
        account=ACCOUNT,
        symbol=symbol,
        signal_id=of.signal_id,
        leg=Leg.ENTRY,
        attempt=0,
        side=Side.BUY,
        order_type=OrderType.MARKET,
        qty=Decimal("0.01"),
        reserve_price=Decimal("60100.25"),
        reference_price=Decimal("60000.1"),
        valid_until_ns=NOW + 10**10,
        trace_id=of.trace_id,
        submitted_ns=NOW + number,
    )


Step = tuple[tuple[AnyFact, ...], tuple[Row, ...]]


def taken(number: int, outcome: Outcome = Outcome.ACCEPTED, symbol: str = SYMBOL) -> Step:
    """The gate's step: received and judged."""
    of = signal(number, symbol)
    here: dict[str, Any] = {"at_ns": NOW + number, "account": ACCOUNT, "symbol": symbol, "trace_id": of.trace_id}
    plan = Plan(action=Action.OPEN, side=Side.BUY, qty=Decimal("0.01"), reserve_price=Decimal("60100.25"))
    facts = (
        SignalReceived(**here, signal=of),
        Judged(**here, signal_id=of.signal_id, outcome=outcome, checks=CHECKS, plan=plan, took_ns=1000),
    )
    return facts, (SignalRow(signal=of, outcome=outcome, checks=CHECKS, plan=plan),)


def submitted(number: int, symbol: str = SYMBOL) -> Step:
    """The order actor's step: the intent."""
    sent = order(number, symbol)
    here: dict[str, Any] = {"at_ns": NOW + number, "account": ACCOUNT, "symbol": symbol, "trace_id": sent.trace_id}
    return (Submitted(**here, order=sent),), (sent,)


def filled(number: int, before: Position | None = None, symbol: str = SYMBOL) -> Step:
    """The order actor's steps from the answer to the end: accepted, filled, confirmed, told."""
    sent = order(number, symbol)
    here: dict[str, Any] = {"at_ns": NOW + number + 1, "account": ACCOUNT, "symbol": symbol, "trace_id": sent.trace_id}
    accepted = Accepted(**here, cid=sent.cid, venue_order_id=f"v{number}")
    fill = Filled(
        **here,
        cid=sent.cid,
        exec_id=f"e{number}",
        venue_order_id=f"v{number}",
        side=Side.BUY,
        qty=sent.qty,
        price=Decimal("60000.1"),
        fee=Decimal("0.33"),
        fee_asset="USDT",
        fee_quote=Decimal("0.33"),
        venue_ns=NOW + number + 1,
        delta=sent.qty,
        leg=Leg.ENTRY,
    )
    end = Confirmed(**here, signal_id=sent.signal_id, outcome=Outcome.EXECUTED, filled_qty=sent.qty, orders=(sent.cid,))
    done = advance(advance(sent, accepted), fill)
    was = before or Position(account=ACCOUNT, symbol=symbol)
    now = Position(
        account=ACCOUNT,
        symbol=symbol,
        qty=was.qty + sent.qty,
        fees=was.fees + Decimal("0.33"),
        volume=was.volume + sent.qty * fill.price,
    )
    return (accepted, fill, end), (done, SignalEnded(confirmed=end), now, event(sent.cid))


def event(key: str) -> Event:
    return Event("order.filled", ACCOUNT, key, NOW, "t", "c", {"qty": "0.01", "ok": True, "note": None})


def whole(number: int, before: Position | None = None) -> tuple[list[Step], Position]:
    """A signal from receipt to confirmation, and the position after it."""
    last = filled(number, before)
    position = next(row for row in last[1] if isinstance(row, Position))
    return [taken(number), submitted(number), last], position
