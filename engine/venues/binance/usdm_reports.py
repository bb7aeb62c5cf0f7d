"""From USD-M's rows and events to the engine's reports. Pure. Pages "User Data Streams", "Account endpoints".

An execution is booked whatever its order's state is called. Conditional orders are kept apart by the venue: an algo
order has a number of its own, and when it is triggered an order with another number and the same client id appears.
"""

from decimal import Decimal

import msgspec
from msgspec import Struct

from engine.core.messages import (
    ZERO,
    BalanceReport,
    FillReport,
    FundingReport,
    OrderReport,
    OrderType,
    PositionReport,
    TransferReport,
)
from engine.core.times import MILLISECOND
from engine.venues.binance.decoding import (
    EVENT,
    NOTHING,
    SIDES,
    STATUS,
    Heard,
    Odd,
    amount_of,
    check,
    read,
    type_of,
    word_of,
)
from engine.venues.binance.rows import (
    OrderEvent,
    OrderRow,
    TradeRow,
    fill_heard,
    fill_of,
    heard_of,
    order_heard,
    order_of,
)

ALGO = "a"  # before an algo order's number: its numbers are not those of orders

_ALGO_STATUS = {
    "NEW": "open",
    "TRIGGERING": "open",
    "TRIGGERED": "open",
    "FINISHED": "open",  # its child order is at an end, and tells which by its own reports
    "CANCELED": "canceled",
    "REJECTED": "rejected",
    "EXPIRED": "expired",
}


class UsdmOrder(OrderRow, frozen=True):
    origType: str = ""
    reduceOnly: bool = False
    closePosition: bool = False


class UsdmAlgo(Struct, frozen=True):
    """A conditional order, before and after it was triggered. An amount that does not apply to it may be empty."""

    algoId: int
    clientAlgoId: str
    symbol: str
    side: str
    orderType: str
    algoStatus: str
    triggerPrice: str | None = ""
    quantity: str | None = ""
    price: str | None = ""
    reduceOnly: bool = False
    closePosition: bool = False
    actualOrderId: str | int | None = ""
    createTime: int = 0
    updateTime: int = 0


class UsdmTrade(TradeRow, frozen=True):
    side: str
    maker: bool = False


class UsdmIncome(Struct, frozen=True):
    symbol: str
    incomeType: str
    income: Decimal
    asset: str
    time: int
    tranId: int | str


class UsdmPosition(Struct, frozen=True):
    symbol: str
    positionAmt: Decimal
    entryPrice: Decimal = ZERO
    positionSide: str = "BOTH"
    updateTime: int = 0


class UsdmAsset(Struct, frozen=True):
    """A row of account's assets or of balance, which name the total differently."""

    asset: str
    availableBalance: Decimal
    walletBalance: Decimal | None = None
    balance: Decimal | None = None


class UsdmAccount(Struct, frozen=True):
    assets: tuple[UsdmAsset, ...]


class _OrderUpdate(OrderEvent, frozen=True):
    """ORDER_TRADE_UPDATE's `o`."""

    ot: str = ""
    sp: Decimal = ZERO
    R: bool = False
    er: str | int = ""


class _OrderEvent(Struct, frozen=True):
    o: _OrderUpdate
    E: int = 0


class _Algo(Struct, frozen=True):
    """ALGO_UPDATE's `o`."""

    caid: str
    aid: int
    s: str
    S: str
    o: str
    X: str
    q: str | None = ""
    tp: str | None = ""
    p: str | None = ""
    R: bool = False
    rm: str | None = ""


class _AlgoEvent(Struct, frozen=True):
    o: _Algo
    E: int = 0
    T: int = 0


class _Moved(Struct, frozen=True):
    """One position of an ACCOUNT_UPDATE."""

    s: str
    pa: Decimal
    ep: Decimal = ZERO
    ps: str = "BOTH"


class _Wallet(Struct, frozen=True):
    a: str
    wb: Decimal


class _Change(Struct, frozen=True):
    m: str = ""
    B: tuple[_Wallet, ...] = ()
    P: tuple[_Moved, ...] = ()


class _AccountEvent(Struct, frozen=True):
    a: _Change
    T: int = 0


_EXPIRY = {
    "1": "self-trade prevention",
    "2": "immediate-or-cancel: the rest",
    "3": "immediate-or-cancel: the rest, by self-trade prevention",
    "4": "pushed out by a reduce-only order, or would turn the position",
    "5": "liquidation",
    "6": "its position is gone",
    "7": "delisting",
    "8": "its parent expired",
    "9": "market order: the rest",
}


def usdm_order_report(row: UsdmOrder) -> OrderReport:
    """Raises Odd."""
    check(row)
    order_type = _usdm_type(row.origType or row.type, row.price)
    return order_of(row, row.clientOrderId, order_type, row.reduceOnly or row.closePosition)


def usdm_algo_report(row: UsdmAlgo) -> OrderReport:
    """A conditional order itself, under its own number; once triggered, its child tells what is filled. Raises Odd."""
    price = amount_of(row.price)
    return OrderReport(
        symbol=row.symbol,
        cid=row.clientAlgoId,
        venue_order_id=f"{ALGO}{row.algoId}",
        status=word_of(_ALGO_STATUS, row.algoStatus, "algo status"),
        side=word_of(SIDES, row.side, "side"),
        order_type=_usdm_type(row.orderType, price),
        qty=amount_of(row.quantity),
        filled_qty=ZERO,
        price=price or None,
        trigger_price=amount_of(row.triggerPrice) or None,
        reduce_only=row.reduceOnly or row.closePosition,
        venue_ns=(row.updateTime or row.createTime) * MILLISECOND,
    )


def child_of(row: UsdmAlgo) -> str:
    """The number of the order that a triggered algo order became; "" before that."""
    number = str(row.actualOrderId or "")
    return number if number.isdecimal() and number != "0" else ""


def usdm_fill(row: UsdmTrade, cid: str) -> FillReport:
    """Raises Odd."""
    check(row)
    return fill_of(row, cid, word_of(SIDES, row.side, "side"), row.maker)


def usdm_funding(row: UsdmIncome) -> FundingReport:
    """Raises Odd."""
    check(row)
    return FundingReport(row.symbol, str(row.tranId), row.income, row.asset, row.time * MILLISECOND)


def usdm_transfer(row: UsdmIncome) -> TransferReport:
    """Raises Odd."""
    check(row)
    return TransferReport(str(row.tranId), row.asset, row.income, row.incomeType, row.time * MILLISECOND)


def usdm_positions(rows: tuple[UsdmPosition, ...], at_ns: int) -> tuple[PositionReport, ...]:
    """All that are not flat. Raises Odd for one of hedge mode, where one symbol has two."""
    for row in rows:
        check(row)
        if row.positionSide != "BOTH" and row.positionAmt:
            raise Odd(f"{row.symbol} has a {row.positionSide} position: the account is in hedge mode")
    return tuple(PositionReport(r.symbol, r.positionAmt, r.entryPrice, at_ns) for r in rows if r.positionAmt)


def usdm_balances(account: UsdmAccount) -> tuple[BalanceReport, ...]:
    """What is not zero; locked is what neither orders nor positions leave free. Raises Odd."""
    reports = []
    for row in account.assets:
        check(row)
        total = row.walletBalance if row.walletBalance is not None else row.balance
        if total is None:
            raise Odd(f"{row.asset} has no balance")
        if total or row.availableBalance:
            reports.append(BalanceReport(row.asset, total, max(total - row.availableBalance, ZERO)))
    return tuple(reports)


def hear_usdm(raw: bytes) -> Heard:
    """A frame of the user data stream. Raises Odd.

    TRADE_LITE is passed over: the same execution comes again, with its commission. Funding too: its number is only in
    the list of incomes.
    """
    match read(EVENT, raw).e:
        case "ORDER_TRADE_UPDATE":
            event = read(_ORDER_EVENT, raw)
            return _usdm_order(event.o, event.E)
        case "ALGO_UPDATE":
            algo = read(_ALGO_EVENT, raw)
            return _usdm_algo(algo.o, algo.T or algo.E)
        case "ACCOUNT_UPDATE":
            return _usdm_account(read(_ACCOUNT_EVENT, raw))
        case "listenKeyExpired":
            return Heard(ends="the listen key has expired")
        case "MARGIN_CALL" | "CONDITIONAL_ORDER_TRIGGER_REJECT" as kind:
            return Heard(odd=f"the venue says {kind}: {raw[:300].decode('utf-8', 'replace')}")
    return NOTHING


def _usdm_order(o: _OrderUpdate, event_ms: int) -> Heard:
    check(o)
    fill = None
    # A liquidation (CALCULATED) is an execution like any other, of an order that nobody sent.
    if o.x in ("TRADE", "CALCULATED") and o.l:
        if o.t <= 0:
            return Heard(odd=f"an execution of order {o.i} without its number; it is asked for")
        fill = fill_heard(o, o.c, event_ms)
    reason = _EXPIRY.get(str(o.er), "") if STATUS.get(o.X) == "expired" else ""
    return heard_of(fill, order_heard(o, o.c, event_ms, _usdm_type(o.ot or o.o, o.p), o.sp, o.R, reason))


def _usdm_algo(o: _Algo, at_ms: int) -> Heard:
    status = _ALGO_STATUS.get(o.X)
    if status is None:
        return Heard(odd=f"algo order {o.aid} has the unknown status {o.X!r}")
    if o.X == "FINISHED":
        return NOTHING
    report = OrderReport(
        symbol=o.s,
        cid=o.caid,
        venue_order_id=f"{ALGO}{o.aid}",
        status=status,
        side=word_of(SIDES, o.S, "side"),
        order_type=_usdm_type(o.o, amount_of(o.p)),
        qty=amount_of(o.q),
        filled_qty=ZERO,
        price=amount_of(o.p) or None,
        trigger_price=amount_of(o.tp) or None,
        reduce_only=o.R,
        reason=o.rm or "",
        venue_ns=at_ms * MILLISECOND,
    )
    return Heard((report,))


def _usdm_account(event: _AccountEvent) -> Heard:
    for row in (*event.a.B, *event.a.P):
        check(row)
    hedged = [p for p in event.a.P if p.ps != "BOTH" and p.pa]
    return Heard(
        odd=f"{hedged[0].s} has a {hedged[0].ps} position: the account is in hedge mode" if hedged else "",
        positions=tuple(PositionReport(p.s, p.pa, p.ep, event.T * MILLISECOND) for p in event.a.P),
        balances=tuple(BalanceReport(b.a, b.wb) for b in event.a.B),
        transferred=any(word in event.a.m for word in ("DEPOSIT", "WITHDRAW", "TRANSFER")),
    )


def _usdm_type(word: str, price: Decimal) -> OrderType:
    return OrderType.TAKE_PROFIT_LIMIT if word == "TAKE_PROFIT" else type_of(word, price)


_ORDER_EVENT = msgspec.json.Decoder(_OrderEvent)
_ALGO_EVENT = msgspec.json.Decoder(_AlgoEvent)
_ACCOUNT_EVENT = msgspec.json.Decoder(_AccountEvent)
