"""What Spot and USD-M say of orders and executions in the same words: the fields, and the reports made of them. Pure.

Where the two differ (an order's type, whose side, what closes) the reader of each hands it in.
"""

from decimal import Decimal

from msgspec import Struct

from engine.core.messages import ZERO, FillReport, OrderReport, OrderType, Side
from engine.core.times import MILLISECOND
from engine.venues.binance.decoding import SIDES, STATUS, Heard, execution_id, not_below_zero, word_of


class OrderRow(Struct, frozen=True):
    """What a row of order, openOrders, allOrders has in both markets."""

    symbol: str
    orderId: int
    clientOrderId: str
    price: Decimal
    origQty: Decimal
    executedQty: Decimal
    status: str
    type: str
    side: str
    stopPrice: Decimal = ZERO
    time: int = 0
    updateTime: int = 0


class TradeRow(Struct, frozen=True):
    """What an execution has in both markets' lists; no client id."""

    symbol: str
    id: int
    orderId: int
    price: Decimal
    qty: Decimal
    commission: Decimal
    commissionAsset: str
    time: int


class OrderEvent(Struct, frozen=True):
    """What a private stream says of an order in both markets, in its own letters."""

    s: str
    c: str
    S: str
    o: str
    q: Decimal
    p: Decimal
    x: str
    X: str
    i: int
    l: Decimal = ZERO  # noqa: E741 (the venue's letter)
    z: Decimal = ZERO
    L: Decimal = ZERO
    n: Decimal | None = None
    N: str | None = None
    T: int = 0
    t: int = -1
    m: bool = False


def order_of(row: OrderRow, cid: str, order_type: OrderType, reduce_only: bool, reason: str = "") -> OrderReport:
    """Raises Odd."""
    not_below_zero(f"order {row.orderId}", row.origQty, row.executedQty, row.price, row.stopPrice)
    return OrderReport(
        symbol=row.symbol,
        cid=cid,
        venue_order_id=str(row.orderId),
        status=word_of(STATUS, row.status, "status"),
        side=word_of(SIDES, row.side, "side"),
        order_type=order_type,
        qty=row.origQty,
        filled_qty=row.executedQty,
        price=row.price or None,
        trigger_price=row.stopPrice or None,
        reduce_only=reduce_only,
        reason=reason,
        venue_ns=(row.updateTime or row.time) * MILLISECOND,
    )


def fill_of(row: TradeRow, cid: str, side: Side, maker: bool) -> FillReport:
    """Raises Odd."""
    not_below_zero(f"execution {row.id}", row.qty, row.price)
    return FillReport(
        symbol=row.symbol,
        exec_id=execution_id(row.id, row.orderId),
        cid=cid,
        venue_order_id=str(row.orderId),
        side=side,
        qty=row.qty,
        price=row.price,
        fee=row.commission,
        fee_asset=row.commissionAsset,
        maker=maker,
        venue_ns=row.time * MILLISECOND,
    )


def fill_heard(e: OrderEvent, cid: str, event_ms: int) -> FillReport:
    """Raises Odd."""
    not_below_zero(f"execution {e.t}", e.l, e.L)
    return FillReport(
        symbol=e.s,
        exec_id=execution_id(e.t, e.i),
        cid=cid,
        venue_order_id=str(e.i),
        side=word_of(SIDES, e.S, "side"),
        qty=e.l,
        price=e.L,
        fee=e.n or ZERO,
        fee_asset=e.N or "",
        maker=e.m,
        venue_ns=(e.T or event_ms) * MILLISECOND,
    )


def order_heard(
    e: OrderEvent,
    cid: str,
    event_ms: int,
    order_type: OrderType,
    trigger: Decimal,
    reduce_only: bool,
    reason: str,
) -> OrderReport | str:
    """Raises Odd; a status that is not known is told in words, as its execution counts all the same."""
    status = STATUS.get(e.X)
    if status is None:
        return f"order {e.i} has the unknown status {e.X!r}"
    not_below_zero(f"order {e.i}", e.q, e.z, e.p, trigger)
    return OrderReport(
        symbol=e.s,
        cid=cid,
        venue_order_id=str(e.i),
        status=status,
        side=word_of(SIDES, e.S, "side"),
        order_type=order_type,
        qty=e.q,
        filled_qty=e.z,
        price=e.p or None,
        trigger_price=trigger or None,
        reduce_only=reduce_only,
        reason=reason,
        venue_ns=(e.T or event_ms) * MILLISECOND,
    )


def heard_of(fill: FillReport | None, order: OrderReport | str) -> Heard:
    fills = () if fill is None else (fill,)
    return Heard(fills, odd=order) if isinstance(order, str) else Heard((*fills, order))
