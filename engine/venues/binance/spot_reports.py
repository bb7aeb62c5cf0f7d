"""From Spot's rows and events to the engine's reports. Pure. Pages "User Data Stream", "Account endpoints".

An execution is booked whatever its order's state is called: a status that is not known is told apart from the fill.
"""

from collections.abc import Iterable
from decimal import Decimal

import msgspec
from msgspec import Raw, Struct, field

from engine.core.ids import is_ours
from engine.core.messages import ZERO, BalanceReport, FillReport, OrderReport, OrderType, Side, TransferReport
from engine.core.money import plain
from engine.core.times import MILLISECOND
from engine.venues.binance.decoding import EVENT, NOTHING, Heard, Odd, amount_of, beginning, check, read, type_of
from engine.venues.binance.orders import id_of_canceled
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


class SpotOrder(OrderRow, frozen=True):
    expiryReason: str = ""


class SpotTrade(TradeRow, frozen=True):
    """A row of myTrades."""

    isBuyer: bool
    isMaker: bool = False


class SpotBalance(Struct, frozen=True):
    """Amounts as texts: one that is none spoils its own row, and not the account's answer."""

    asset: str
    free: str
    locked: str


class SpotAccount(Struct, frozen=True):
    balances: tuple[SpotBalance, ...]
    canTrade: bool = True


class _Execution(OrderEvent, frozen=True):
    """executionReport."""

    E: int = 0
    C: str = ""
    P: Decimal = ZERO
    r: str = "NONE"
    eR: str = ""


class _BalanceUpdate(Struct, frozen=True):
    """balanceUpdate: a deposit, a withdrawal or a transfer, and nothing else."""

    a: str
    d: Decimal
    T: int


class _Wrapped(Struct, frozen=True):
    """A frame of the WebSocket API's user data: an event, or the answer to a request."""

    event: Raw = field(default_factory=Raw)
    status: int | None = None
    error: Raw = field(default_factory=Raw)


def spot_order_report(row: SpotOrder) -> OrderReport:
    """Raises Odd."""
    check(row)
    cid = id_of_canceled(row.clientOrderId)
    return order_of(row, cid, _spot_type(row.type, row.price), _closes(cid, row.side), row.expiryReason)


def spot_fill(row: SpotTrade, cid: str) -> FillReport:
    """Raises Odd."""
    check(row)
    return fill_of(row, cid, Side.BUY if row.isBuyer else Side.SELL, row.isMaker)


def spot_balances(rows: Iterable[SpotBalance]) -> tuple[BalanceReport, ...]:
    """What is not zero. Raises Odd."""
    amounts = ((row.asset, amount_of(row.free), amount_of(row.locked)) for row in rows)
    return tuple(BalanceReport(asset, free + locked, locked) for asset, free, locked in amounts if free or locked)


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
        case "balanceUpdate":
            return Heard(transfers=(_transfer(read(_BALANCE_UPDATE, frame.event)),))
        case "eventStreamTerminated" | "serverShutdown" as event:
            return Heard(ends=f"the venue said {event}")
    return NOTHING  # balances are asked for; lists and locks are not ours


def _transfer(e: _BalanceUpdate) -> TransferReport:
    """The venue gives it no number; its moment, to the millisecond, and its amount are what it is known by."""
    check(e)
    return TransferReport(f"{e.a}/{e.T}/{plain(e.d)}", e.a, e.d, "balanceUpdate", e.T * MILLISECOND)


def _spot_execution(e: _Execution) -> Heard:
    check(e)
    # On a cancel the order's own id moves to `C`, and `c` is that of the cancel.
    cid = id_of_canceled(e.C or e.c)
    fill = None
    if e.x == "TRADE":
        if e.t < 0 or not e.l:
            raise Odd(f"an execution of order {e.i} without its number or quantity")
        fill = fill_heard(e, cid, e.E)
    reason = e.eR or ("" if e.r == "NONE" else e.r)
    return heard_of(fill, order_heard(e, cid, e.E, _spot_type(e.o, e.p), e.P, _closes(cid, e.S), reason))


def _closes(cid: str, side: str) -> bool:
    """Spot cannot be short: whatever of ours sells can only close."""
    return side == "SELL" and is_ours(cid)


def _spot_type(word: str, price: Decimal) -> OrderType:
    if word == "TAKE_PROFIT":  # a market order once triggered; on USD-M the same word means a limit order
        return OrderType.TAKE_PROFIT_MARKET
    return type_of(word, price)


_WRAPPED = msgspec.json.Decoder(_Wrapped)
_BALANCE_UPDATE = msgspec.json.Decoder(_BalanceUpdate)
_EXECUTION = msgspec.json.Decoder(_Execution)
