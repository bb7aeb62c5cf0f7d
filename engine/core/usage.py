"""How much of an account's limits is used at this moment, before any order that would come: for whoever looks on.

In the rules' own names and numbers, so that what is shown and what refuses are the same. Pure.
"""

from decimal import Decimal

from engine.core.checks import at_most, under
from engine.core.exposure import View
from engine.core.messages import ZERO, Check


def usage(view: View) -> tuple[Check, ...]:
    """`view` is of no symbol. None for an account without limits: it does not trade."""
    limits, quote = view.limits, view.account_quote
    if limits is None:
        return ()
    volume = (view.day_volume + view.reserved) / (view.btc_price or limits.btc_price)
    loss = max(-(view.day_net + min(view.gain, ZERO)), ZERO)
    counts = (
        ("RSK4.positions_max", view.positions_open, limits.positions_max, "positions"),
        ("RSK4.orders_per_minute", view.orders_minute, limits.orders_per_minute, "orders"),
        ("RSK4.orders_per_day", view.orders_day, limits.orders_per_day, "orders"),
    )
    return (
        *(at_most(rule, Decimal(value), Decimal(limit), unit, unit) for rule, value, limit, unit in counts),
        at_most("RSK4.exposure_max", view.exposure, limits.exposure_max, quote, "the exposure"),
        at_most("RSK4.daily_volume", volume, limits.daily_volume_btc_max, "BTC", "today's volume"),
        under("RSK5.daily_loss", loss, limits.daily_loss_max, quote, "today's loss"),
        *_drawdown(view, limits.drawdown_max),
        under(
            "RSK5.losses_in_row", Decimal(view.losses_in_row), Decimal(limits.losses_in_row_max), "trades", "the losses"
        ),
    )


def _drawdown(view: View, limit: Decimal) -> tuple[Check, ...]:
    """Nothing while the account's equity is not known."""
    if view.settled_equity is None or view.peak_equity <= 0:
        return ()
    gone = max((view.peak_equity - view.settled_equity) / view.peak_equity, ZERO)
    return (under("RSK5.drawdown", gone, limit, "fraction", "the loss from the peak"),)
