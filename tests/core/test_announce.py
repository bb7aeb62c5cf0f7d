"""What is told to the world: figures as plain text, names that consumers rely on."""

from decimal import Decimal

from engine.core.announce import alert_event, confirmation_event, order_event, position_event, trade_event
from engine.core.messages import (
    Alerted,
    Check,
    Confirmed,
    Ending,
    Leg,
    Order,
    OrderType,
    Outcome,
    Position,
    Side,
    State,
    Trade,
)

D = Decimal


def test_a_confirmation_carries_outcome_figures_and_the_senders_context() -> None:
    confirmed = Confirmed(
        at_ns=5,
        account="a",
        symbol="BTCUSDT",
        trace_id="t",
        signal_id="s1",
        outcome=Outcome.EXECUTED,
        side=Side.BUY,
        asked_qty=D("0.10"),
        filled_qty=D("1E-1"),
        avg_price=D("50000.50"),
        fees=D("2.5"),
        slippage=D("0.0001"),
        orders=("c1", "c2"),
        context=(("loan", "7"), ("ltv", "0.6")),
    )
    event = confirmation_event(confirmed, (Check("R1", False), Check("R2", True)))
    assert (event.name, event.account, event.key, event.cause, event.at_ns) == (
        "trade_confirmations",
        "a",
        "s1",
        "s1",
        5,
    )
    assert event.body == {
        "signal_id": "s1",
        "outcome": "executed",
        "account": "a",
        "symbol": "BTCUSDT",
        "side": "buy",
        "asked_qty": "0.1",
        "filled_qty": "0.1",
        "avg_price": "50000.5",
        "fees": "2.5",
        "slippage": "0.0001",
        "reason": "",
        "orders": "c1,c2",
        "checks_failed": "R1",
        "context.loan": "7",
        "context.ltv": "0.6",
    }


def test_an_order_is_told_as_it_stands() -> None:
    order = Order(
        cid="c1",
        account="a",
        symbol="BTCUSDT",
        signal_id="s1",
        leg=Leg.ENTRY,
        attempt=0,
        side=Side.SELL,
        order_type=OrderType.LIMIT,
        qty=D("2"),
        price=D("100"),
        filled_qty=D("2"),
        filled_quote=D("201"),
        state=State.CLOSED,
        ending=Ending.FILLED,
        trace_id="t",
    )
    event = order_event("order.filled", order, 9)
    assert (event.name, event.key, event.cause, event.trace_id, event.at_ns) == ("order.filled", "c1", "s1", "t", 9)
    assert (event.body["avg_price"], event.body["ending"], event.body["trigger_price"]) == ("100.5", "filled", None)
    assert order_event("order.placed", order, 9, "r7").cause == "r7"


def test_a_position_and_a_trade_are_told_with_their_results() -> None:
    held = Position(
        "a", "BTCUSDT", qty=D("-2"), cost=D(-200), avg_price=D(100), realised=D(5), fees=D(1), funding=D("0.5")
    )
    event = position_event(held, 3, "t", "s1")
    assert (event.name, event.key, event.body["net"], event.body["cost"]) == (
        "position.updated",
        "a/BTCUSDT",
        "4.5",
        "-200",
    )
    trade = Trade("a/BTCUSDT/1", "a", "BTCUSDT", Side.BUY, "closed", "s1", realised=D(5), fees=D(1), funding=D("-0.5"))
    event = trade_event("trade.closed", trade, 4)
    assert (event.name, event.key, event.cause, event.body["net"]) == ("trade.closed", "a/BTCUSDT/1", "s1", "3.5")


def test_an_alert_is_a_system_error() -> None:
    event = alert_event(Alerted(at_ns=1, account="a", severity="critical", kind="halt", text="stopped"))
    assert (event.name, event.key, event.body["severity"], event.body["text"]) == (
        "system.error",
        "halt",
        "critical",
        "stopped",
    )
