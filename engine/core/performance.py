"""How trading went (POS2): figures over closed trades and confirmed signals, as a pure fold.

Money is in quote currency and after fees and funding unless it says otherwise; trades in different quote currencies
must not be put into one call. Fractions are of one. Durations are ns.
"""

from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal

from msgspec import Struct

from engine.core.messages import ZERO, Confirmed, Trade
from engine.core.money import cents


class Performance(Struct, frozen=True, kw_only=True):
    """Figures of one set of closed trades. None: there was nothing to divide by."""

    trades: int = 0
    wins: int = 0  # net above zero
    losses: int = 0  # net below zero
    win_rate: Decimal | None = None  # wins over all closed trades
    net_total: Decimal = ZERO
    net_average: Decimal | None = None
    net_best: Decimal | None = None
    net_worst: Decimal | None = None
    profit_factor: Decimal | None = None  # sum of winners over sum of losers; None without losers
    drawdown_max: Decimal = ZERO  # deepest fall of the running net from its peak (or from the start), as a positive sum
    losses_in_row_max: int = 0
    realised: Decimal = ZERO  # before fees and funding
    fees: Decimal = ZERO
    funding: Decimal = ZERO
    holding_average_ns: int | None = None
    holding_max_ns: int = 0
    exposed_ns: int = 0  # without full stop cover, all trades together
    slippage_average: Decimal | None = None  # of confirmed signals, positive = worse than the reference
    slippage_worst: Decimal | None = None


class Breakdown(Struct, frozen=True, kw_only=True):
    """The same figures for everything and for each part."""

    total: Performance
    by_account: dict[str, Performance]
    by_symbol: dict[str, Performance]
    by_source: dict[str, Performance]


def performance(trades: Iterable[Trade], confirmations: Iterable[Confirmed] = ()) -> Performance:
    """Open trades are left out."""
    closed = sorted((t for t in trades if t.closed_ns), key=lambda t: (t.closed_ns, t.trade_id))
    slips = [c.slippage for c in confirmations if c.slippage is not None]
    nets = [t.net for t in closed]
    gains, losses = [n for n in nets if n > 0], [n for n in nets if n < 0]
    held = [t.closed_ns - t.opened_ns for t in closed]
    return Performance(
        trades=len(closed),
        wins=len(gains),
        losses=len(losses),
        win_rate=_ratio(Decimal(len(gains)), Decimal(len(closed))),
        net_total=sum(nets, ZERO),
        net_average=_ratio(sum(nets, ZERO), Decimal(len(nets))),
        net_best=max(nets, default=None),
        net_worst=min(nets, default=None),
        profit_factor=_ratio(sum(gains, ZERO), -sum(losses, ZERO)),
        drawdown_max=_drawdown(nets),
        losses_in_row_max=_losing_streak(nets),
        realised=sum((t.realised for t in closed), ZERO),
        fees=sum((t.fees for t in closed), ZERO),
        funding=sum((t.funding for t in closed), ZERO),
        holding_average_ns=sum(held) // len(held) if held else None,
        holding_max_ns=max(held, default=0),
        exposed_ns=sum(t.exposed_ns for t in closed),
        slippage_average=_ratio(sum(slips, ZERO), Decimal(len(slips))),
        slippage_worst=max(slips, default=None),
    )


def breakdown(trades: Sequence[Trade], confirmations: Sequence[Confirmed] = ()) -> Breakdown:
    """Slippage is told by account and symbol; a confirmation does not name its source."""
    return Breakdown(
        total=performance(trades, confirmations),
        by_account=_by(lambda t: t.account, trades, lambda c: c.account, confirmations),
        by_symbol=_by(lambda t: t.symbol, trades, lambda c: c.symbol, confirmations),
        by_source=_by(lambda t: t.source, trades, lambda c: "", ()),
    )


def _by(
    trade_key: Callable[[Trade], str],
    trades: Sequence[Trade],
    confirmation_key: Callable[[Confirmed], str],
    confirmations: Sequence[Confirmed],
) -> dict[str, Performance]:
    keys = sorted({trade_key(t) for t in trades})
    return {
        key: performance(
            (t for t in trades if trade_key(t) == key), (c for c in confirmations if confirmation_key(c) == key)
        )
        for key in keys
    }


def _ratio(part: Decimal, of: Decimal) -> Decimal | None:
    return cents(part / of) if of else None


def _drawdown(nets: Sequence[Decimal]) -> Decimal:
    running = peak = deepest = ZERO
    for net in nets:
        running += net
        peak = max(peak, running)
        deepest = max(deepest, peak - running)
    return deepest


def _losing_streak(nets: Sequence[Decimal]) -> int:
    longest = current = 0
    for net in nets:
        current = current + 1 if net < 0 else 0
        longest = max(longest, current)
    return longest
