"""Average-cost accounting of one (account, symbol), and the trades (flat to flat) cut from it.

Cost is kept as an exact signed sum and the average price derived from it, so that at every moment and at any price

    realised + unrealised - fees + funding  =  cash + worth of what is held - fees paid in other assets (spot)
    realised - fees paid in quote + funding =  cash (linear)

without a rounding error. Only a partial close divides; its share of the cost is cut at 18 places and the remainder
stays in the cost, so nothing is lost. Knows no orders, limits or clocks.
"""

from decimal import Decimal

from msgspec import Struct
from msgspec.structs import replace

from engine.core.ids import trade_id
from engine.core.messages import ZERO, Instrument, InstrumentKind, Position, Side, Trade
from engine.core.money import step_down

_PLACES = Decimal(1).scaleb(-18)
_DIGITS_BEFORE = 20  # a number this long is left as the context rounded it: quantize would run out of digits


def apply_fill(
    position: Position,
    instrument: Instrument,
    side: Side,
    qty: Decimal,
    price: Decimal,
    fee: Decimal,
    fee_asset: str,
    fee_quote: Decimal | None,
    at_ns: int,
) -> tuple[Position, Decimal]:
    """The position after one execution, and what it realised (quote, before fees).

    `qty` is positive base, `price` quote per base, `fee` positive when paid, in `fee_asset`. A fee in base shrinks what
    a spot account holds, as if that part had been sold at the fill's price to pay it. `fee_quote` is the fee's worth
    for a third asset (None: not known; it then grows `fees_unpriced`); see `fee_worth`. The plan (stop, target) is the
    blotter's to set and is left alone.
    """
    assert qty > 0 and price > 0, f"a fill of {qty} at {price}"
    spot = instrument.kind is InstrumentKind.SPOT
    traded = qty if side is Side.BUY else -qty
    delta = traded - fee if spot and fee_asset == instrument.base else traded
    step = _step(position.qty, cost_of(position), delta, price)
    worth = fee_worth(instrument, fee, fee_asset, price, fee_quote)
    paid = fee if fee_asset == instrument.quote else ZERO
    opened = abs(step.qty) > abs(position.qty) or _flipped(position.qty, step.qty)
    after = replace(
        position,
        qty=step.qty,
        avg_price=step.avg_price or position.avg_price if step.qty else ZERO,
        cost=step.cost,
        realised=position.realised + step.realised,
        fees=position.fees + worth if worth is not None else position.fees,
        volume=position.volume + qty * price,
        fees_unpriced=position.fees_unpriced if worth is not None else _grown(position.fees_unpriced, fee_asset, fee),
        cash=position.cash + (-traded * price if spot else step.realised) - paid,
        serial=position.serial + (opened and (_flipped(position.qty, step.qty) or not closable(position, instrument))),
        updated_ns=at_ns,
    )
    return after, step.realised


def apply_funding(position: Position, instrument: Instrument, amount: Decimal, asset: str, at_ns: int) -> Position:
    """The position after a funding payment (negative: paid); in another asset than the quote it stays unpriced."""
    if asset != instrument.quote:
        unpriced = _grown(position.fees_unpriced, asset, -amount)
        return replace(position, fees_unpriced=unpriced, updated_ns=at_ns)
    return replace(position, funding=position.funding + amount, cash=position.cash + amount, updated_ns=at_ns)


def apply_withdrawal(position: Position, qty: Decimal, at_ns: int) -> Position:
    """The position after `qty` (positive base) of its coins went elsewhere, with their share of the cost: no result."""
    assert 0 < qty <= position.qty, f"{qty} withdrawn from {position.qty}"
    left = position.qty - qty
    cost = cost_of(position) - _cut(cost_of(position) * qty / position.qty) if left else ZERO
    return replace(
        position,
        qty=left,
        avg_price=position.avg_price if left else ZERO,
        cost=cost,
        withdrawn=position.withdrawn + qty,
        updated_ns=at_ns,
    )


def fee_worth(
    instrument: Instrument, fee: Decimal, fee_asset: str, price: Decimal, fee_quote: Decimal | None
) -> Decimal | None:
    """What a fee is worth in quote: itself, priced at the fill, or as the caller priced it. None: not known."""
    if not fee or fee_asset == instrument.quote:
        return fee
    return fee * price if fee_asset == instrument.base else fee_quote


def cost_of(position: Position) -> Decimal:
    """Signed quote cost of what is open. A position written without one is taken at its average price."""
    return position.cost or position.qty * position.avg_price


def unrealised(position: Position, price: Decimal) -> Decimal:
    """Quote gained if everything were closed at `price`, before fees."""
    return position.qty * price - cost_of(position)


def net(position: Position) -> Decimal:
    """Quote earned so far, after fees and funding, without what is open."""
    return position.realised - position.fees + position.funding


def closable(position: Position, instrument: Instrument) -> bool:
    """Whether the venue would take an order that closes it; less than that is dust, left by fees in base."""
    return step_down(abs(position.qty), instrument.lot) >= max(instrument.qty_min, instrument.lot)


def open_trade(
    position: Position,
    qty: Decimal,
    price: Decimal,
    fees: Decimal,
    at_ns: int,
    signal_id: str,
    source: str,
    trace_id: str,
) -> Trade:
    """The lifecycle that begins with `position`, entered with `qty` (positive base) at `price`."""
    return Trade(
        trade_id=trade_id(position.account, position.symbol, position.serial),
        account=position.account,
        symbol=position.symbol,
        side=Side.BUY if position.qty > 0 else Side.SELL,
        state="open",
        signal_id=signal_id,
        source=source,
        entry_qty=qty,
        entry_price=price,
        fees=fees,
        opened_ns=at_ns,
        trace_id=trace_id,
    )


def extend_trade(trade: Trade, qty: Decimal, price: Decimal, fees: Decimal) -> Trade:
    """Scaled in by `qty` (positive base)."""
    return replace(
        trade,
        entry_qty=trade.entry_qty + qty,
        entry_price=_average(trade.entry_qty, trade.entry_price, qty, price),
        fees=trade.fees + fees,
    )


def shrink_trade(trade: Trade, qty: Decimal, price: Decimal, realised: Decimal, fees: Decimal) -> Trade:
    """Scaled out by `qty` (positive base), still open."""
    return replace(
        trade,
        state="closing",
        exit_qty=trade.exit_qty + qty,
        exit_price=_average(trade.exit_qty, trade.exit_price, qty, price),
        realised=trade.realised + realised,
        fees=trade.fees + fees,
    )


def fund_trade(trade: Trade, amount: Decimal) -> Trade:
    """Funding in quote, negative when paid."""
    return replace(trade, funding=trade.funding + amount)


def close_trade(trade: Trade, at_ns: int) -> Trade:
    return replace(trade, state="closed", closed_ns=at_ns)


def fold_trade(
    trade: Trade | None,
    before: Position,
    after: Position,
    instrument: Instrument,
    price: Decimal,
    realised: Decimal,
    fee_quote: Decimal | None,
    at_ns: int,
    signal_id: str = "",
    source: str = "",
    trace_id: str = "",
) -> tuple[Trade | None, Trade | None]:
    """(closed, open) after the fill that turned `before` into `after`; a flip gives both, a scale-in only the second.

    A trade ends when what is left cannot be closed (zero or dust). The fee of a flip is split by quantity.
    `fee_quote` None (not priced) counts nothing.
    """
    fees = ZERO if fee_quote is None else fee_quote
    if _flipped(before.qty, after.qty):
        closing = abs(before.qty)
        fees_closing = _cut(fees * closing / (closing + abs(after.qty)))
        closed = close_trade(shrink_trade(trade, closing, price, realised, fees_closing), at_ns) if trade else None
        fees_opening = fees - fees_closing if trade else fees
        return closed, open_trade(after, abs(after.qty), price, fees_opening, at_ns, signal_id, source, trace_id)
    grown = abs(after.qty) - abs(before.qty)
    if trade is None:
        if grown <= 0:
            return None, None
        return None, open_trade(after, grown, price, fees, at_ns, signal_id, source, trace_id)
    if grown > 0:
        return None, extend_trade(trade, grown, price, fees)
    shrunk = shrink_trade(trade, -grown, price, realised, fees)
    return (None, shrunk) if closable(after, instrument) else (close_trade(shrunk, at_ns), None)


class _Step(Struct, frozen=True):
    """What one signed trade does to quantity and cost."""

    qty: Decimal
    cost: Decimal
    avg_price: Decimal  # 0: unchanged
    realised: Decimal


def _step(qty: Decimal, cost: Decimal, delta: Decimal, price: Decimal) -> _Step:
    after = qty + delta
    if not qty or (qty > 0) == (delta > 0):  # opens or adds
        cost += delta * price
        return _Step(after, cost, cost / after if after else ZERO, ZERO)
    if not after:
        return _Step(after, ZERO, ZERO, qty * price - cost)
    if (after > 0) == (qty > 0):  # closes a part; the average stays
        released = _cut(cost * delta / -qty)
        return _Step(after, cost - released, ZERO, -delta * price - released)
    return _Step(after, after * price, price, qty * price - cost)  # closes all, opens the rest here


def _flipped(before: Decimal, after: Decimal) -> bool:
    return before > 0 > after or before < 0 < after


def _cut(number: Decimal) -> Decimal:
    if number.adjusted() >= _DIGITS_BEFORE:
        return number
    cut = number.quantize(_PLACES)
    return number if number == cut else cut  # no trailing zeros where nothing had to be cut


def _average(qty_a: Decimal, price_a: Decimal, qty_b: Decimal, price_b: Decimal) -> Decimal:
    return (qty_a * price_a + qty_b * price_b) / (qty_a + qty_b)


def _grown(amounts: tuple[tuple[str, Decimal], ...], asset: str, amount: Decimal) -> tuple[tuple[str, Decimal], ...]:
    by_asset = dict(amounts)
    by_asset[asset] = by_asset.get(asset, ZERO) + amount
    return tuple(sorted(by_asset.items()))
