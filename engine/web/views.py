"""The shapes of the API's answers where they are more than a row of the journal. Pure."""

from decimal import Decimal

from msgspec import Struct

from engine.core.messages import (
    ZERO,
    AccountRow,
    Check,
    Halt,
    Limits,
    LimitsRow,
    Order,
    Outcome,
    Position,
    Quote,
    Side,
    SignalRow,
    Trade,
)
from engine.core.position import net, unrealised


class Reason(Struct, frozen=True):
    """One reason: the field it is about (dotted path, "" for the whole) and a sentence."""

    field: str
    reason: str


class Problem(Struct, frozen=True, kw_only=True):
    """Every error of the API: what went wrong in a few words, and each reason with the field it is about."""

    error: str
    reasons: tuple[Reason, ...] = ()


class PositionView(Struct, frozen=True, kw_only=True):
    """A position at the market: quantities in base, prices and sums in quote."""

    account: str
    symbol: str
    side: Side | None  # None: flat
    qty: Decimal  # signed
    avg_price: Decimal
    mark: Decimal | None  # middle of bid and ask as last heard; None: no quote
    mark_ns: int
    worth: Decimal | None  # of what is held at the mark, signed
    unrealised: Decimal | None  # at the mark, before the fees of closing
    realised: Decimal
    fees: Decimal
    funding: Decimal
    net: Decimal  # realised - fees + funding, without what is open
    volume: Decimal
    stop_loss: Decimal | None
    take_profit: Decimal | None
    stop_waived: bool
    uncovered_ns: int  # since when a stop that is due is missing; 0: covered
    serial: int
    updated_ns: int


class SignalSummary(Struct, frozen=True, kw_only=True):
    """One line of the list of signals; the whole story is at its own address."""

    signal_id: str
    account: str
    symbol: str
    action: str
    side: Side | None
    source: str
    outcome: Outcome
    reasons: tuple[str, ...]  # rules that failed
    filled_qty: Decimal | None
    avg_price: Decimal | None
    trace_id: str
    received_ns: int
    href: str


class PositionsPage(Struct, frozen=True, kw_only=True):
    positions: tuple[PositionView, ...]


class OrdersPage(Struct, frozen=True, kw_only=True):
    orders: tuple[Order, ...]


class TradesPage(Struct, frozen=True, kw_only=True):
    """Newest first. `next` is the address of the following page; null on the last."""

    trades: tuple[Trade, ...]
    next: str | None = None


class SignalsPage(Struct, frozen=True, kw_only=True):
    """Newest first. `next` is the address of the following page; null on the last."""

    signals: tuple[SignalSummary, ...]
    next: str | None = None


class AccountsPage(Struct, frozen=True, kw_only=True):
    accounts: tuple[AccountRow, ...]


class LimitsInForce(Struct, frozen=True, kw_only=True):
    account: str
    limits: Limits


class LimitsPage(Struct, frozen=True, kw_only=True):
    limits: tuple[LimitsRow, ...]


class UsagePage(Struct, frozen=True, kw_only=True):
    """By account: each limit that fills up, by the rule that holds to it, its value now and how far it may go."""

    accounts: dict[str, tuple[Check, ...]]


class HaltsPage(Struct, frozen=True, kw_only=True):
    halts: tuple[Halt, ...]


def position_view(position: Position, quote: Quote | None) -> PositionView:
    mark = quote.mid if quote else None
    return PositionView(
        account=position.account,
        symbol=position.symbol,
        side=None if not position.qty else Side.BUY if position.qty > 0 else Side.SELL,
        qty=position.qty,
        avg_price=position.avg_price,
        mark=mark,
        mark_ns=quote.at_ns if quote else 0,
        worth=None if mark is None else position.qty * mark,
        unrealised=gain(position, quote),
        realised=position.realised,
        fees=position.fees,
        funding=position.funding,
        net=net(position),
        volume=position.volume,
        stop_loss=position.stop_loss,
        take_profit=position.take_profit,
        stop_waived=position.stop_waived,
        uncovered_ns=position.uncovered_ns,
        serial=position.serial,
        updated_ns=position.updated_ns,
    )


def gain(position: Position, quote: Quote | None) -> Decimal | None:
    """What is open, at the mark; nothing open is nothing gained, quote or not."""
    if not position.qty:
        return ZERO
    return None if quote is None else unrealised(position, quote.mid)


def signal_summary(row: SignalRow, href: str) -> SignalSummary:
    confirmed = row.confirmed
    return SignalSummary(
        signal_id=row.signal.signal_id,
        account=row.signal.account,
        symbol=row.signal.symbol,
        action=row.signal.action.value,
        side=row.signal.side,
        source=row.signal.source,
        outcome=row.outcome,
        reasons=tuple(check.rule for check in row.checks if not check.passed),
        filled_qty=confirmed.filled_qty if confirmed else None,
        avg_price=confirmed.avg_price if confirmed else None,
        trace_id=row.signal.trace_id,
        received_ns=row.signal.received_ns,
        href=href,
    )
