"""From Spot's rows and events to the engine's reports. Pure. Pages "User Data Stream", "Account endpoints".

An execution is booked whatever its order's state is called: a status that is not known is told apart from the fill.
"""

from decimal import Decimal

import msgspec
from msgspec import Raw, Struct, field

from engine.core.ids import is_ours
from engine.core.messages import ZERO, BalanceReport, FillReport, OrderReport, OrderType, Side, VenueReport
from engine.venues.binance.decoding import (
    EVENT,
    MILLISECOND,
    NOTHING,
    SIDES,
    STATUS,
    Heard,
    Odd,
    beginning,
    check,
    execution_id,
    read,
    type_of,
    word_of,
)
from engine.venues.binance.orders import id_of_canceled


class SpotOrder(Struct, frozen=True):
    """A row of order, openOrders, allOrders."""

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
    expiryReason: str = ""


class SpotTrade(Struct, frozen=True):
    """A row of myTrades; it has no client id."""

    symbol: str
    id: int
    orderId: int
    price: Decimal
    qty: Decimal
    commission: Decimal
    commissionAsset: str
    time: int
    isBuyer: bool
    isMaker: bool = False


class SpotBalance(Struct, frozen=True):
    asset: str
    free: Decimal
    locked: Decimal


class SpotAccount(Struct, frozen=True):
    balances: tuple[SpotBalance, ...]
    canTrade: bool = True
    canWithdraw: bool = False  # of the account, not of the key
    accountType: str = ""


class _Execution(Struct, frozen=True):
    """executionReport, in its own letters."""

    s: str
    c: str
    S: str
    o: str
    q: Decimal
    p: Decimal
    x: str
    X: str
    i: int
    E: int = 0
    C: str = ""
    P: Decimal = ZERO
    r: str = "NONE"
    l: Decimal = ZERO  # noqa: E741 (the venue's letter)
    z: Decimal = ZERO
    L: Decimal = ZERO
    n: Decimal | None = None
    N: str | None = None
    T: int = 0
    t: int = -1
    m: bool = False
    eR: str = ""


class _Wrapped(Struct, frozen=True):
    """A frame of the WebSocket API's user data: an event, or the answer to a request."""

    event: Raw = field(default_factory=Raw)
    status: int | None = None
    error: Raw = field(default_factory=Raw)


def spot_order_report(row: SpotOrder) -> OrderReport:
    """Raises Odd."""
    check(row)
    cid = id_of_canceled(row.clientOrderId)
    return OrderReport(
        symbol=row.symbol,
        cid=cid,
        venue_order_id=str(row.orderId),
        status=word_of(STATUS, row.status, "status"),
        side=word_of(SIDES, row.side, "side"),
        order_type=_spot_type(row.type, row.price),
        qty=row.origQty,
        filled_qty=row.executedQty,
        price=row.price or None,
        trigger_price=row.stopPrice or None,
        reduce_only=_closes(cid, row.side),
        reason=row.expiryReason,
        venue_ns=(row.updateTime or row.time) * MILLISECOND,
    )


def spot_fill(row: SpotTrade, cid: str) -> FillReport:
    """Raises Odd."""
    check(row)
    return FillReport(
        symbol=row.symbol,
        exec_id=execution_id(row.id, row.orderId),
        cid=cid,
        venue_order_id=str(row.orderId),
        side=Side.BUY if row.isBuyer else Side.SELL,
        qty=row.qty,
        price=row.price,
        fee=row.commission,
        fee_asset=row.commissionAsset,
        maker=row.isMaker,
        venue_ns=row.time * MILLISECOND,
    )


def spot_balances(account: SpotAccount) -> tuple[BalanceReport, ...]:
    """What is not zero. Raises Odd."""
    for row in account.balances:
        check(row)
    return tuple(BalanceReport(b.asset, b.free + b.locked, b.locked) for b in account.balances if b.free or b.locked)


def hear_spot(raw: bytes) -> Heard:
    """A frame of the user data subscription. Raises Odd."""
    frame = read(_WRAPPED, raw)
    if not bytes(frame.event):
        if frame.status is not None and frame.status != 200:
            return Heard(ends=f"the venue refused with status {frame.status}: {beginning(frame.error)}")
        return NOTHING
    match read(EVENT, frame.event).e:
        case "executionReport":
            return _spot_execution(read(_EXECUTION, frame.event))
        case "eventStreamTerminated" | "serverShutdown" as event:
            return Heard(ends=f"the venue said {event}")
    return NOTHING  # balances are asked for; lists and locks are not ours


def _spot_execution(e: _Execution) -> Heard:
    check(e)
    # On a cancel the order's own id moves to `C`, and `c` is that of the cancel.
    cid = id_of_canceled(e.C or e.c)
    reports: list[VenueReport] = []
    if e.x == "TRADE":
        if e.t < 0 or not e.l:
            raise Odd(f"an execution of order {e.i} without its number or quantity")
        reports.append(
            FillReport(
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
                venue_ns=(e.T or e.E) * MILLISECOND,
            )
        )
    status = STATUS.get(e.X)
    if status is None:
        return Heard(tuple(reports), odd=f"order {e.i} has the unknown status {e.X!r}")
    reports.append(
        OrderReport(
            symbol=e.s,
            cid=cid,
            venue_order_id=str(e.i),
            status=status,
            side=word_of(SIDES, e.S, "side"),
            order_type=_spot_type(e.o, e.p),
            qty=e.q,
            filled_qty=e.z,
            price=e.p or None,
            trigger_price=e.P or None,
            reduce_only=_closes(cid, e.S),
            reason=e.eR or ("" if e.r == "NONE" else e.r),
            venue_ns=(e.T or e.E) * MILLISECOND,
        )
    )
    return Heard(tuple(reports))


def _closes(cid: str, side: str) -> bool:
    """Spot cannot be short: whatever of ours sells can only close."""
    return side == "SELL" and is_ours(cid)


def _spot_type(word: str, price: Decimal) -> OrderType:
    if word == "TAKE_PROFIT":  # a market order once triggered; on USD-M the same word means a limit order
        return OrderType.TAKE_PROFIT_MARKET
    return type_of(word, price)


_WRAPPED = msgspec.json.Decoder(_Wrapped)
_EXECUTION = msgspec.json.Decoder(_Execution)
