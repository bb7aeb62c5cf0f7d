"""ccxt's unified rows as our reports. Pure; numbers are text or whole, and a float in a row makes it unreadable."""

from collections.abc import Iterable
from decimal import Decimal, InvalidOperation
from typing import TypeAlias

from msgspec import Struct

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
)
from engine.core.money import BadNumber, sane
from engine.core.times import MILLISECOND

Number: TypeAlias = str | int | None
TICK_SIZE, DECIMAL_PLACES = 4, 2  # of ccxt's precision modes


class BadRow(Exception):
    """The row does not say what it must."""


class MarketRow(Struct, frozen=True):
    symbol: str
    base: str
    quote: str
    settle: str | None = None
    linear: bool | None = None
    active: bool | None = None
    contract_size: Number = None
    amount_step: Number = None
    price_step: Number = None
    amount_min: Number = None
    amount_max: Number = None
    cost_min: Number = None
    maker: Number = None
    taker: Number = None
    leverage_max: Number = None


class OrderRow(Struct, frozen=True):
    id: str | None = None
    clientOrderId: str | None = None
    symbol: str | None = None
    type: str | None = None
    side: str | None = None
    status: str | None = None
    amount: Number = None
    filled: Number = None
    price: Number = None
    reduceOnly: bool | None = None
    triggerPrice: Number = None
    stopLossPrice: Number = None
    takeProfitPrice: Number = None
    timestamp: int | None = None
    lastUpdateTimestamp: int | None = None


class FeeRow(Struct, frozen=True):
    cost: Number = None
    currency: str | None = None


class TradeRow(Struct, frozen=True):
    id: str | None = None
    order: str | None = None
    symbol: str | None = None
    side: str | None = None
    amount: Number = None
    price: Number = None
    takerOrMaker: str | None = None
    timestamp: int | None = None
    clientOrderId: str | None = None
    fees: tuple[FeeRow, ...] = ()


class PositionRow(Struct, frozen=True):
    symbol: str
    contracts: Number = None
    side: str | None = None
    entryPrice: Number = None
    hedged: bool | None = None
    timestamp: int | None = None


class BalanceRow(Struct, frozen=True):
    asset: str
    total: Number = None
    used: Number = None


class FundingRow(Struct, frozen=True):
    id: str | None = None
    symbol: str | None = None
    amount: Number = None
    code: str | None = None
    timestamp: int | None = None


class Listing(Struct, frozen=True):
    """One symbol of ours: what ccxt calls it, and how much one of its contracts is."""

    instrument: Instrument
    unified: str
    contract: Decimal


def listing(row: MarketRow, exchange: str, kind: InstrumentKind, precision_mode: int) -> Listing | None:
    """None: of another kind than we trade. Raises BadRow."""
    linear = kind is InstrumentKind.LINEAR
    if linear and not (row.linear and row.settle == row.quote):
        return None
    if row.active is False:
        return None
    contract = _positive(row.contract_size, "contract size") if linear else Decimal(1)
    lot = _step(row.amount_step, "amount", precision_mode) * contract
    largest = _number(row.amount_max)
    instrument = Instrument(
        symbol=f"{row.base}{row.quote}",
        venue=exchange,
        kind=kind,
        base=row.base,
        quote=row.quote,
        tick=_step(row.price_step, "price", precision_mode),
        lot=lot,
        qty_min=(_number(row.amount_min) or ZERO) * contract or lot,
        qty_max=largest * contract if largest else Decimal(10**15),
        notional_min=_number(row.cost_min) or ZERO,
        maker_fee=_or(_number(row.maker), Decimal("0.001")),
        taker_fee=_or(_number(row.taker), Decimal("0.001")),
        leverage_max=_number(row.leverage_max) or Decimal(1 if not linear else 125),
    )
    return Listing(instrument, row.symbol, contract)


def order_report(row: OrderRow, held: Listing, cid: str) -> OrderReport:
    """`cid`: whose order it is, as the caller knows it. Raises BadRow."""
    if not row.id:
        raise BadRow("an order without an id")
    trigger = _number(row.stopLossPrice) or _number(row.takeProfitPrice) or _number(row.triggerPrice)
    amount, filled = _number(row.amount), _number(row.filled)
    status = _status(row, amount, filled)
    if amount is None or (filled is None and status not in ("open", "rejected")):
        raise BadRow(f"order {row.id} does not say how much of it is filled")
    order_type = _order_type(row, trigger is not None)
    return OrderReport(
        symbol=held.instrument.symbol,
        cid=cid,
        venue_order_id=row.id,
        status=status,
        side=_side(row.side),
        order_type=order_type,
        qty=amount * held.contract,
        filled_qty=(filled or ZERO) * held.contract,
        price=_number(row.price) if order_type in _PRICED else None,  # of a market order it is what it was filled at
        trigger_price=trigger,
        reduce_only=bool(row.reduceOnly),
        venue_ns=(row.lastUpdateTimestamp or row.timestamp or 0) * MILLISECOND,
    )


def fill_report(row: TradeRow, held: Listing, cid: str) -> FillReport:
    """An execution is named by its trade's id and its order's: one trade with oneself is two executions.

    Raises BadRow.
    """
    if not row.id or not row.order:
        raise BadRow("an execution without its id or its order's")
    if row.timestamp is None:
        raise BadRow(f"execution {row.id} without a time")
    fee, asset = _fee(row, held.instrument)
    return FillReport(
        symbol=held.instrument.symbol,
        exec_id=f"{row.id}/{row.order}",
        cid=cid,
        venue_order_id=row.order,
        side=_side(row.side),
        qty=_positive(row.amount, "amount") * held.contract,
        price=_positive(row.price, "price"),
        fee=fee,
        fee_asset=asset,
        maker=row.takerOrMaker == "maker",
        venue_ns=row.timestamp * MILLISECOND,
    )


def funding_report(row: FundingRow, held: Listing, charges: bool = False) -> FundingReport:
    """`charges`: this exchange tells it as a fee, where what was paid is positive. Raises BadRow."""
    amount = _number(row.amount)
    if amount is None or row.timestamp is None:
        raise BadRow("funding without an amount or a time")
    return FundingReport(
        symbol=held.instrument.symbol,
        funding_id=row.id or f"{row.timestamp}",
        amount=-amount if charges else amount,
        asset=row.code or held.instrument.quote,
        venue_ns=row.timestamp * MILLISECOND,
    )


def position_report(row: PositionRow, held: Listing, at_ns: int) -> PositionReport | None:
    """None: flat. Raises BadRow."""
    contracts = _number(row.contracts)
    if contracts is None:
        raise BadRow("a position that does not say how large it is")
    if not contracts:
        return None
    sign = {"long": 1, "short": -1}.get(row.side or "")
    if sign is None:
        raise BadRow(f"a position of side {row.side!r}")
    return PositionReport(
        held.instrument.symbol,
        qty=sign * abs(contracts) * held.contract,
        avg_price=_number(row.entryPrice) or ZERO,
        venue_ns=at_ns,
    )


def balance_report(row: BalanceRow) -> BalanceReport:
    """Raises BadRow."""
    total = _number(row.total)
    if total is None:
        raise BadRow(f"no total of {row.asset}")
    return BalanceReport(row.asset, total, _number(row.used) or ZERO)


def holdings(balances: Iterable[BalanceReport], listings: Iterable[Listing], at_ns: int) -> tuple[PositionReport, ...]:
    """Spot keeps no positions: what the wallet holds of a base coin, of which a position is a part."""
    totals = {balance.asset: balance.total for balance in balances}
    held = ((one.instrument.symbol, totals.get(one.instrument.base, ZERO)) for one in listings)
    return tuple(PositionReport(symbol, qty, venue_ns=at_ns, wallet=True) for symbol, qty in held if qty)


_PRICED = (OrderType.LIMIT, OrderType.STOP_LIMIT, OrderType.TAKE_PROFIT_LIMIT)
_STATUSES = {"open": "open", "canceling": "open", "canceled": "canceled", "expired": "expired", "rejected": "rejected"}


def _status(row: OrderRow, amount: Decimal | None, filled: Decimal | None) -> str:
    if row.status == "closed":  # ccxt's word for "not open any more, and not canceled"
        return "filled" if amount is None or (filled or ZERO) >= amount else "canceled"
    found = _STATUSES.get(row.status or "")
    if found is None:
        raise BadRow(f"order {row.id} is in a state {row.status!r} that nobody knows")
    return found


def _order_type(row: OrderRow, triggered: bool) -> OrderType:
    market = "limit" not in (row.type or "market").lower()
    if not triggered:
        return OrderType.MARKET if market else OrderType.LIMIT
    if _number(row.takeProfitPrice):
        return OrderType.TAKE_PROFIT_MARKET if market else OrderType.TAKE_PROFIT_LIMIT
    return OrderType.STOP_MARKET if market else OrderType.STOP_LIMIT


def _side(text: str | None) -> Side:
    if text not in ("buy", "sell"):
        raise BadRow(f"side {text!r}")
    return Side(text)


def _fee(row: TradeRow, instrument: Instrument) -> tuple[Decimal, str]:
    """Of several fees in one coin the sum; in several coins it cannot be told in one report."""
    told = [(fee.currency or "", _number(fee.cost)) for fee in row.fees]
    paid = [(asset, cost) for asset, cost in told if cost]
    if not paid:
        return ZERO, instrument.quote
    assets = list(dict.fromkeys(asset for asset, _ in paid))
    if len(assets) > 1 or not assets[0]:
        raise BadRow(f"execution {row.id} pays fees in {assets}")
    return sum((cost for _, cost in paid), ZERO), assets[0]


def _step(value: Number, name: str, precision_mode: int) -> Decimal:
    if precision_mode == TICK_SIZE:
        return _positive(value, f"{name} step")
    if precision_mode == DECIMAL_PLACES and isinstance(value, int):
        return Decimal(1).scaleb(-value)
    raise BadRow(f"its {name} has no fixed step")


def _positive(value: Number, name: str) -> Decimal:
    number = _number(value)
    if number is None or number <= 0:
        raise BadRow(f"{name} is {value!r}")
    return number


def _number(value: Number) -> Decimal | None:
    if value is None or value == "":
        return None
    try:
        return sane(Decimal(value))
    except (InvalidOperation, BadNumber) as error:
        raise BadRow(f"{str(value)[:40]!r} is no number: {error}") from None


def _or(number: Decimal | None, other: Decimal) -> Decimal:
    return other if number is None else number
