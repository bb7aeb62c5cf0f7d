"""What is told to the world, as flat dicts: the events of SPEC PUB1, made from facts and rows.

Figures are plain decimal text, times are nanoseconds. A consumer tells repeats apart by the outbox number, which the
journal gives; nothing here numbers anything.
"""

from decimal import Decimal
from typing import TypeAlias

from engine.core.messages import Alerted, Check, Confirmed, Event, Order, Position, Trade
from engine.core.money import plain
from engine.core.position import cost_of, net

Body: TypeAlias = dict[str, str | int | bool | None]


def confirmation_event(confirmed: Confirmed, checks: tuple[Check, ...] = ()) -> Event:
    """`trade_confirmations`: one per signal. `checks` are the verdict's; those that failed are named."""
    body: Body = {
        "signal_id": confirmed.signal_id,
        "outcome": confirmed.outcome.value,
        "account": confirmed.account,
        "symbol": confirmed.symbol,
        "side": confirmed.side.value if confirmed.side else None,
        "asked_qty": plain(confirmed.asked_qty),
        "filled_qty": plain(confirmed.filled_qty),
        "avg_price": _text(confirmed.avg_price),
        "fees": plain(confirmed.fees),
        "slippage": _text(confirmed.slippage),
        "reason": confirmed.reason,
        "orders": ",".join(confirmed.orders),
        "checks_failed": ",".join(check.rule for check in checks if not check.passed),
    }
    body.update({f"context.{name}": value for name, value in confirmed.context})
    return Event(
        name="trade_confirmations",
        account=confirmed.account,
        key=confirmed.signal_id,
        at_ns=confirmed.at_ns,
        trace_id=confirmed.trace_id,
        cause=confirmed.cause or confirmed.signal_id,
        body=body,
    )


def order_event(name: str, order: Order, at_ns: int, cause: str = "") -> Event:
    """`order.placed`, `order.filled`, `order.failed` or `order.cancelled`: the order as it stands now."""
    body: Body = {
        "cid": order.cid,
        "venue_order_id": order.venue_order_id,
        "signal_id": order.signal_id,
        "account": order.account,
        "symbol": order.symbol,
        "leg": order.leg.value,
        "side": order.side.value,
        "order_type": order.order_type.value,
        "tif": order.tif.value,
        "qty": plain(order.qty),
        "price": _text(order.price),
        "trigger_price": _text(order.trigger_price),
        "reduce_only": order.reduce_only,
        "state": order.state.value,
        "ending": order.ending.value if order.ending else None,
        "filled_qty": plain(order.filled_qty),
        "avg_price": plain(order.filled_quote / order.filled_qty) if order.filled_qty else None,
        "reason": order.reason,
        "submitted_ns": order.submitted_ns,
    }
    return Event(
        name=name,
        account=order.account,
        key=order.cid,
        at_ns=at_ns,
        trace_id=order.trace_id,
        cause=cause or order.signal_id,
        body=body,
    )


def position_event(position: Position, at_ns: int, trace_id: str = "", cause: str = "") -> Event:
    """`position.updated`."""
    body: Body = {
        "account": position.account,
        "symbol": position.symbol,
        "qty": plain(position.qty),
        "avg_price": plain(position.avg_price),
        "cost": plain(cost_of(position)),
        "realised": plain(position.realised),
        "fees": plain(position.fees),
        "funding": plain(position.funding),
        "net": plain(net(position)),
        "stop_loss": _text(position.stop_loss),
        "take_profit": _text(position.take_profit),
        "serial": position.serial,
    }
    return Event(
        name="position.updated",
        account=position.account,
        key=f"{position.account}/{position.symbol}",
        at_ns=at_ns,
        trace_id=trace_id,
        cause=cause,
        body=body,
    )


def trade_event(name: str, trade: Trade, at_ns: int, cause: str = "") -> Event:
    """`trade.opened` or `trade.closed`."""
    body: Body = {
        "trade_id": trade.trade_id,
        "account": trade.account,
        "symbol": trade.symbol,
        "side": trade.side.value,
        "state": trade.state,
        "signal_id": trade.signal_id,
        "source": trade.source,
        "entry_qty": plain(trade.entry_qty),
        "entry_price": plain(trade.entry_price),
        "exit_qty": plain(trade.exit_qty),
        "exit_price": plain(trade.exit_price),
        "realised": plain(trade.realised),
        "fees": plain(trade.fees),
        "funding": plain(trade.funding),
        "net": plain(trade.realised - trade.fees + trade.funding),
        "opened_ns": trade.opened_ns,
        "closed_ns": trade.closed_ns,
        "exposed_ns": trade.exposed_ns,
    }
    return Event(
        name=name,
        account=trade.account,
        key=trade.trade_id,
        at_ns=at_ns,
        trace_id=trade.trace_id,
        cause=cause or trade.signal_id,
        body=body,
    )


def alert_event(alert: Alerted) -> Event:
    """`system.error`: an alert for whoever listens."""
    return Event(
        name="system.error",
        account=alert.account,
        key=alert.kind,
        at_ns=alert.at_ns,
        trace_id=alert.trace_id,
        cause=alert.cause,
        body={"severity": alert.severity, "kind": alert.kind, "text": alert.text, "symbol": alert.symbol},
    )


def _text(number: Decimal | None) -> str | None:
    return None if number is None else plain(number)
