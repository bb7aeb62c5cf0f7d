"""What an instrument's rules say about a price or a quantity. Rounding always has a direction, chosen by the caller."""

from decimal import Decimal

from engine.core.messages import Instrument, Side
from engine.core.money import on_step, step_ceiling, step_down, step_floor


def round_qty(instrument: Instrument, qty: Decimal) -> Decimal:
    """Down to the lot: never more than was asked for."""
    return step_down(qty, instrument.lot)


def round_limit(instrument: Instrument, side: Side, price: Decimal) -> Decimal:
    """To the tick on the passive side: a buyer never pays more, a seller never gets less than asked."""
    return step_floor(price, instrument.tick) if side is Side.BUY else step_ceiling(price, instrument.tick)


def round_stop(instrument: Instrument, position_sign: int, price: Decimal) -> Decimal:
    """A stop's trigger to the tick nearer the market, so that rounding never makes the loss larger."""
    return step_ceiling(price, instrument.tick) if position_sign > 0 else step_floor(price, instrument.tick)


def price_fits(instrument: Instrument, price: Decimal) -> bool:
    return price > 0 and on_step(price, instrument.tick)


def qty_fits(instrument: Instrument, qty: Decimal) -> bool:
    return instrument.qty_min <= qty <= instrument.qty_max and on_step(qty, instrument.lot)
