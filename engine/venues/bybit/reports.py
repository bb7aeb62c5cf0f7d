"""Bybit's orders, executions, positions, wallets and instruments as our reports. Pure; raises BadRow, nothing else.

All enums may grow: a word that is not known falls back on the quantities, which are always true. Amounts are texts, and
"nothing set" comes as "", "0", "0.00" or "UNKNOWN", depending on the route.
"""

from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from typing import TypeVar

from msgspec import Struct, field

from engine.core.messages import (
    ZERO,
    BalanceReport,
    FillReport,
    FundingReport,
    Instrument,
    InstrumentKind,
    OrderReport,
    OrderType,
    PositionReport,
    Side,
    TransferReport,
)
from engine.core.money import BadNumber, sane
from engine.core.times import MILLISECOND

T = TypeVar("T")
R = TypeVar("R")


class BadRow(Exception):
    """A row without what it must have."""


class OrderRow(Struct):
    """Docs: "Get Open & Closed Orders", and the private topic "Order"."""

    symbol: str
    orderId: str
    side: str
    qty: str
    orderStatus: str
    category: str = ""  # on the stream only
    orderLinkId: str = ""
    orderType: str = ""
    price: str = ""
    triggerPrice: str = ""
    triggerDirection: int | str = 0
    stopOrderType: str = ""
    reduceOnly: bool = False
    cumExecQty: str = ""
    rejectReason: str = ""
    cancelType: str = ""
    updatedTime: str = ""


class ExtraFee(Struct):
    fee: str = ""
    feeCoin: str = ""


class ExecutionRow(Struct):
    """Docs: "Get Trade History", and the private topic "Execution"."""

    symbol: str
    execId: str
    side: str
    execPrice: str
    execQty: str
    execTime: str
    category: str = ""
    orderId: str = ""
    orderLinkId: str = ""
    execType: str = "Trade"
    execFee: str = ""
    feeCurrency: str = ""
    feeCoin: str = ""  # the name seen live where feeCurrency is not
    isMaker: bool = False
    extraFees: str | list[ExtraFee] = ""


class PositionRow(Struct):
    """Docs: "Get Position Info"."""

    symbol: str
    side: str
    size: str
    positionIdx: int = 0
    avgPrice: str = ""
    leverage: str = ""
    seq: int | str = -1


class CoinRow(Struct):
    coin: str
    walletBalance: str
    locked: str = ""
    totalOrderIM: str = ""
    totalPositionIM: str = ""


class AccountRow(Struct):
    """Docs: "Get Wallet Balance"."""

    coin: tuple[CoinRow, ...]


class LogRow(Struct):
    """Docs: "Get Transaction Log"."""

    id: str
    currency: str
    type: str
    change: str  # signed
    transactionTime: str


class LotSize(Struct):
    qtyStep: str = ""
    basePrecision: str = ""
    minOrderQty: str = ""
    maxOrderQty: str = ""
    maxMktOrderQty: str = ""
    maxLimitOrderQty: str = ""
    maxMarketOrderQty: str = ""
    postOnlyMaxLimitOrderSize: str = ""
    minNotionalValue: str = ""
    minOrderAmt: str = ""


class PriceSize(Struct):
    tickSize: str = ""


class Leverage(Struct):
    maxLeverage: str = ""


class InstrumentRow(Struct):
    """Docs: "Get Instruments Info"."""

    symbol: str
    baseCoin: str
    quoteCoin: str
    status: str = ""
    contractType: str = ""
    settleCoin: str = ""
    lotSizeFilter: LotSize = field(default_factory=LotSize)
    priceFilter: PriceSize = field(default_factory=PriceSize)
    leverageFilter: Leverage = field(default_factory=Leverage)


class FeeRow(Struct):
    symbol: str = ""
    takerFeeRate: str = ""
    makerFeeRate: str = ""


class Fees(Struct, frozen=True):
    maker: Decimal
    taker: Decimal


# What is charged when the account's own rates cannot be had (demo has none).
FEES = {
    InstrumentKind.LINEAR: Fees(Decimal("0.0002"), Decimal("0.00055")),
    InstrumentKind.SPOT: Fees(Decimal("0.001"), Decimal("0.001")),
}

_SIDES = {"Buy": Side.BUY, "Sell": Side.SELL}
_STATUSES = {
    "Created": "open",
    "New": "open",
    "PartiallyFilled": "open",
    "Untriggered": "open",
    "Triggered": "open",
    "Filled": "filled",
    "Cancelled": "canceled",
    "PartiallyFilledCanceled": "canceled",
    "Deactivated": "canceled",
    "Rejected": "rejected",
}
# An order that was to fill at once and could not has come to its end as it was told to.
_EXPIRED = ("EC_NoImmediateQtyToFill", "EC_CancelForNoFullFill", "EC_NoEnoughQtyToFill")
_FUNDING = "Funding"
_OWN_EXECUTIONS = (
    "Trade",
    "UNKNOWN",
    "",
)  # of any other kind (liquidation, ADL, settlement) no order of ours is behind


def rows(raws: Iterable[T], make: Callable[[T], R | None]) -> tuple[R, ...]:
    """Each row as `make` has it, without those that it makes nothing of. Raises BadRow: one bad row spoils the page."""
    return tuple(made for made in map(make, raws) if made is not None)


def order_report(row: OrderRow) -> OrderReport:
    qty, filled = _amount(row.qty, "qty"), _amount(row.cumExecQty or "0", "cumExecQty")
    return OrderReport(
        symbol=row.symbol,
        cid=row.orderLinkId,
        venue_order_id=row.orderId,
        status=_status(row, qty, filled),
        side=_side(row.side),
        order_type=_order_type(row),
        qty=qty,
        filled_qty=filled,
        price=_set(row.price),
        trigger_price=_set(row.triggerPrice),
        reduce_only=row.reduceOnly,
        reason=_reason(row),
        venue_ns=_ns(row.updatedTime),
    )


def execution(row: ExecutionRow, instrument: Instrument | None) -> FillReport | FundingReport | None:
    """None for what changes neither position nor money. `instrument`: for the fee's coin where the row names none."""
    fee, paid_in = _fee(row, instrument)
    if row.execType == _FUNDING:  # positive is paid here, and negative with us
        return FundingReport(row.symbol, row.execId, -fee, paid_in, _ns(row.execTime))
    qty, price = _amount(row.execQty, "execQty"), _amount(row.execPrice, "execPrice")
    if not qty or not price:
        return None
    ours = row.execType in _OWN_EXECUTIONS
    return FillReport(
        symbol=row.symbol,
        exec_id=row.execId,
        cid=row.orderLinkId if ours else "",
        venue_order_id=row.orderId,
        side=_side(row.side),
        qty=qty,
        price=price,
        fee=fee,
        fee_asset=paid_in,
        maker=row.isMaker,
        venue_ns=_ns(row.execTime),
    )


def transfer(row: LogRow) -> TransferReport:
    amount = _amount(row.change, "change", signed=True)
    return TransferReport(row.id, row.currency, amount, row.type, _ns(row.transactionTime))


def position_report(row: PositionRow, at_ns: int) -> PositionReport | None:
    """None when flat. `at_ns` is when the venue answered: executions after it are not in it."""
    size = _amount(row.size or "0", "size")
    if not size:
        return None
    return PositionReport(row.symbol, size * _side(row.side).sign, _number(row.avgPrice) or ZERO, at_ns)


def holdings(
    balances: Iterable[BalanceReport], instruments: Iterable[Instrument], at_ns: int
) -> tuple[PositionReport, ...]:
    """Spot keeps no positions: what the wallet holds of a base coin, of which a position is a part."""
    totals = {balance.asset: balance.total for balance in balances}
    held = ((i.symbol, totals.get(i.base, ZERO)) for i in instruments)
    return tuple(PositionReport(symbol, qty, venue_ns=at_ns, wallet=True) for symbol, qty in held if qty)


def balance_report(row: CoinRow) -> BalanceReport:
    """`locked` is what orders and positions claim; in portfolio margin the venue does not say how much that is."""
    claims = (row.locked, row.totalOrderIM, row.totalPositionIM)
    return BalanceReport(
        row.coin,
        _amount(row.walletBalance or "0", "walletBalance", signed=True),
        sum((_number(c) or ZERO for c in claims), ZERO),
    )


def instrument(row: InstrumentRow, kind: InstrumentKind, fees: Fees) -> Instrument | None:
    """None for what cannot be traded, or whose steps are missing: the venue lists such ones at times."""
    lots, spot = row.lotSizeFilter, kind is InstrumentKind.SPOT
    tick, lot = _set(row.priceFilter.tickSize), _set(lots.basePrecision if spot else lots.qtyStep)
    linear = row.contractType in ("LinearPerpetual", "LinearFutures", "")
    if row.status not in ("Trading", "") or tick is None or lot is None or not (spot or linear):
        return None
    # One largest quantity for all kinds of orders: the smallest of the venue's, since a stop goes as a market order.
    of_spot = (lots.maxLimitOrderQty, lots.maxMarketOrderQty, lots.postOnlyMaxLimitOrderSize)
    largest = of_spot if spot else (lots.maxOrderQty, lots.maxMktOrderQty)
    bounds = [bound for bound in map(_set, largest) if bound is not None]
    return Instrument(
        symbol=row.symbol,
        venue="bybit",
        kind=kind,
        base=row.baseCoin,
        quote=row.quoteCoin if spot else row.settleCoin or row.quoteCoin,
        tick=tick,
        lot=lot,
        qty_min=lot if spot else _set(lots.minOrderQty) or lot,  # spot's own is deprecated and not checked
        qty_max=min(bounds, default=Decimal(10**9)),
        notional_min=_set(lots.minOrderAmt if spot else lots.minNotionalValue) or ZERO,
        maker_fee=fees.maker,
        taker_fee=fees.taker,
        leverage_max=Decimal(1) if spot else _set(row.leverageFilter.maxLeverage) or Decimal(1),
    )


def fees_of(row: FeeRow, kind: InstrumentKind) -> Fees:
    maker, taker = _number(row.makerFeeRate), _number(row.takerFeeRate)
    default = FEES[kind]
    return Fees(default.maker if maker is None else maker, default.taker if taker is None else taker)


def _status(row: OrderRow, qty: Decimal, filled: Decimal) -> str:
    status = _STATUSES.get(row.orderStatus)
    if status is None:
        return "filled" if qty and filled >= qty else "open"
    if status == "canceled" and row.rejectReason in _EXPIRED:
        return "expired"
    return status


def _reason(row: OrderRow) -> str:
    words = (row.rejectReason, row.cancelType)
    return " ".join(word for word in words if word not in ("", "UNKNOWN", "EC_NoError"))


def _order_type(row: OrderRow) -> OrderType:
    market = row.orderType != "Limit"
    if _set(row.triggerPrice) is None:
        return OrderType.MARKET if market else OrderType.LIMIT
    if row.triggerDirection in (1, 2):
        stops = (row.triggerDirection == 1) == (row.side == "Buy")
    else:  # spot does not say
        stops = "TakeProfit" not in row.stopOrderType
    if stops:
        return OrderType.STOP_MARKET if market else OrderType.STOP_LIMIT
    return OrderType.TAKE_PROFIT_MARKET if market else OrderType.TAKE_PROFIT_LIMIT


def _fee(row: ExecutionRow, instrument: Instrument | None) -> tuple[Decimal, str]:
    coin = row.feeCurrency or row.feeCoin
    if not coin and instrument is not None:
        received_base = instrument.kind is InstrumentKind.SPOT and row.side == "Buy"
        coin = instrument.base if received_base else instrument.quote
    fee = _amount(row.execFee or "0", "execFee", signed=True)
    return fee + _extra_fees(row.extraFees, coin), coin


def _extra_fees(extras: str | list[ExtraFee], coin: str) -> Decimal:
    """Taxes beside the fee, in the same coin; "" where there are none."""
    if isinstance(extras, str):
        return _number(extras) or ZERO
    return sum((_number(e.fee) or ZERO for e in extras if e.feeCoin in ("", coin)), ZERO)


def _side(text: str) -> Side:
    side = _SIDES.get(text)
    if side is None:
        raise BadRow(f"side {text[:20]!r}")
    return side


def _amount(text: str, name: str, signed: bool = False) -> Decimal:
    number = _number(text)
    if number is None or (number < 0 and not signed):
        raise BadRow(f"{name} {text[:40]!r}")
    return number


def _set(text: str) -> Decimal | None:
    """A positive number; None for every way of saying that nothing is set."""
    number = _number(text)
    return number if number else None


def _number(text: str) -> Decimal | None:
    if text in ("", "UNKNOWN"):
        return None
    try:
        return sane(Decimal(text))
    except (InvalidOperation, BadNumber):
        raise BadRow(f"number {text[:40]!r}") from None


def _ns(ms: str) -> int:
    if not ms:
        return 0
    if not ms.isdecimal() or len(ms) > 15:
        raise BadRow(f"time {ms[:40]!r}")
    return int(ms) * MILLISECOND
