"""What the faces share: keys and their signatures, decimals as text, orders read from parameters."""

import hmac
from collections.abc import Iterable
from decimal import Decimal
from hashlib import sha256

from engine.core.messages import Order, OrderType, Side, TimeInForce
from tests.sim.venue import Resting, SimVenue

KEY, SECRET = "simulated-key", "simulated-secret"


def signature(payload: bytes) -> str:
    return hmac.new(SECRET.encode(), payload, sha256).hexdigest()


def plain(value: Decimal | None) -> str:
    """Of so many digits as venues have; without zeros at the end."""
    return "0" if value is None else f"{round(value, 12).normalize():f}"


def wanted(
    cid: str,
    symbol: str,
    side: Side,
    order_type: OrderType,
    qty: str,
    price: str = "",
    trigger: str = "",
    tif: TimeInForce = TimeInForce.GTC,
    reduce_only: bool = False,
) -> Order:
    """What a request asks for; the rest of an order is the engine's own business."""
    return Order(
        cid=cid,
        account="",
        symbol=symbol,
        signal_id="",
        leg=None,  # type: ignore[arg-type]  # the venue knows of no legs
        attempt=0,
        side=side,
        order_type=order_type,
        qty=Decimal(qty),
        price=Decimal(price) if price else None,
        trigger_price=Decimal(trigger) if trigger else None,
        tif=tif,
        reduce_only=reduce_only,
    )


def shown(venue: SimVenue, orders: Iterable[Resting]) -> list[Resting]:
    """Those that queries see."""
    now = venue.wall_ns()
    return [o for o in orders if o.visible_ns <= now and not venue.forgets(o)]
