"""The market of the measurements: many symbols, deep and still, so that what is measured is the engine."""

from decimal import Decimal

from engine.core.messages import Instrument, InstrumentKind, Limits
from engine.market.events import BookSnapshot

ACCOUNT = "bench"
ENV = "bench"
PRICE = Decimal(100)
TICK = Decimal("0.01")
CASH = Decimal(1_000_000_000)
_DEEP = Decimal(10_000_000)


def instruments(count: int) -> tuple[Instrument, ...]:
    return tuple(
        Instrument(
            symbol=f"S{number:05d}USDT",
            venue="paper",
            kind=InstrumentKind.LINEAR,
            base=f"S{number:05d}",
            quote="USDT",
            tick=TICK,
            lot=Decimal("0.001"),
            qty_min=Decimal("0.001"),
            qty_max=Decimal(1_000_000),
            notional_min=Decimal(5),
            leverage_max=Decimal(20),
        )
        for number in range(count)
    )


def book(symbol: str, at_ns: int, number: int) -> BookSnapshot:
    """One tick wide round PRICE; so deep that nothing here moves it."""
    bids = tuple((PRICE - TICK * (level + 1), _DEEP) for level in range(3))
    asks = tuple((PRICE + TICK * (level + 1), _DEEP) for level in range(3))
    return BookSnapshot(symbol=symbol, at_ns=at_ns, last_id=number, bids=bids, asks=asks)


def limits() -> Limits:
    """Every rule is looked at, none of them refuses."""
    wide = Decimal(1_000_000_000)
    return Limits(
        order_btc_max=wide,
        position_notional_max=wide,
        exposure_max=wide,
        positions_max=1_000_000,
        daily_volume_btc_max=wide,
        orders_per_second=1_000_000,
        orders_per_minute=60_000_000,
        orders_per_day=1_000_000_000,
        duplicate_window_seconds=Decimal(0),
        daily_loss_max=wide,
        drawdown_max=Decimal("0.99"),
        losses_in_row_max=1_000_000_000,
        price_deviation_max=Decimal("0.9"),
        leverage_max=Decimal(1000),
    )
