"""Orders as an exchange keeps them, and what is open in one symbol, found by the price that concerns it."""

from bisect import bisect_left, bisect_right, insort
from decimal import Decimal

from msgspec import Struct

from engine.core.messages import ZERO, Order, OrderReport, OrderType, Side, TimeInForce

_STOPS = (OrderType.STOP_MARKET, OrderType.STOP_LIMIT)


class OrderRequest(Struct, frozen=True, omit_defaults=True):
    """What an account asks for. Quantity in base, prices in quote per base."""

    symbol: str
    cid: str
    side: Side
    order_type: OrderType
    qty: Decimal
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    tif: TimeInForce = TimeInForce.GTC
    reduce_only: bool = False

    @property
    def rising(self) -> bool:
        """A stop to buy and a target to sell wait above the market."""
        return (self.order_type in _STOPS) == (self.side is Side.BUY)

    def marketable(self, price: Decimal) -> bool:
        """Whether it may trade at `price`."""
        return self.price is None or (self.price - price) * self.side.sign >= 0

    @classmethod
    def of(cls, order: Order) -> "OrderRequest":
        return cls(
            order.symbol,
            order.cid,
            order.side,
            order.order_type,
            order.qty,
            order.price,
            order.trigger_price,
            order.tif,
            order.reduce_only,
        )


class VenueOrder(Struct, omit_defaults=True):
    """An order as the venue keeps it. `queue` is what was displayed ahead of it, `reduces` what it could close."""

    request: OrderRequest
    order_id: str
    accepted_ns: int
    updated_ns: int
    status: str = "open"  # as in OrderReport
    filled_qty: Decimal = ZERO
    reason: str = ""
    triggered: bool = False
    queue: Decimal = ZERO
    reduces: Decimal = ZERO
    locked: Decimal = ZERO

    @property
    def remaining(self) -> Decimal:
        return self.request.qty - self.filled_qty

    @property
    def resting(self) -> bool:
        """Stands in the book (a conditional order does so only once triggered)."""
        return self.status == "open" and (self.triggered or not self.request.order_type.conditional)

    def report(self) -> OrderReport:
        r = self.request
        return OrderReport(
            symbol=r.symbol,
            cid=r.cid,
            venue_order_id=self.order_id,
            status=self.status,
            side=r.side,
            order_type=r.order_type,
            qty=r.qty,
            filled_qty=self.filled_qty,
            price=r.price,
            trigger_price=r.trigger_price,
            reduce_only=r.reduce_only,
            reason=self.reason,
            venue_ns=self.updated_ns,
        )


class Ladder:
    """Orders by the price at which they are reached, those reached first in front; then by age.

    `sign` is 1 where a higher market price reaches more of them (asks, rising triggers), -1 where a lower one does.
    """

    def __init__(self, sign: int) -> None:
        self._sign = sign
        self._keys: list[tuple[Decimal, str]] = []
        self._orders: dict[str, VenueOrder] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, order: VenueOrder) -> bool:
        return order.order_id in self._orders

    def add(self, price: Decimal, order: VenueOrder) -> None:
        insort(self._keys, (price * self._sign, order.order_id))
        self._orders[order.order_id] = order

    def discard(self, price: Decimal, order: VenueOrder) -> None:
        if self._orders.pop(order.order_id, None) is not None:
            del self._keys[bisect_left(self._keys, (price * self._sign, order.order_id))]

    def reached(self, price: Decimal | None) -> list[VenueOrder]:
        """Those that a market at `price` reaches, as they stand now; none without a market."""
        if price is None or not self._keys or self._keys[0][0] > price * self._sign:
            return []
        end = bisect_right(self._keys, price * self._sign, key=lambda key: key[0])
        return [self._orders[order_id] for _, order_id in self._keys[:end]]


class Pit:
    """One symbol: its open orders, and what the market last did to them."""

    def __init__(self) -> None:
        self.orders: dict[str, VenueOrder] = {}  # all that are open, by order id, oldest first
        self.reducers: dict[str, VenueOrder] = {}  # those of them that are reduce-only
        self.resting = {Side.BUY: Ladder(-1), Side.SELL: Ladder(1)}
        self.rising = Ladder(1)  # untriggered, waiting for a higher price
        self.falling = Ladder(-1)
        self.last: Decimal | None = None  # price of the last trade
        self.taken: dict[tuple[Side, Decimal], Decimal] = {}  # by us, from displayed levels

    def add(self, order: VenueOrder) -> None:
        self.orders[order.order_id] = order
        if order.request.reduce_only:
            self.reducers[order.order_id] = order

    def rest(self, order: VenueOrder) -> None:
        """It stands in the book from now on."""
        assert order.request.price is not None
        self.resting[order.request.side].add(order.request.price, order)

    def wait(self, order: VenueOrder) -> None:
        """It waits for its trigger."""
        assert order.request.trigger_price is not None
        self._waiting(order).add(order.request.trigger_price, order)

    def set_off(self, order: VenueOrder) -> None:
        assert order.request.trigger_price is not None
        self._waiting(order).discard(order.request.trigger_price, order)

    def remove(self, order: VenueOrder) -> None:
        del self.orders[order.order_id]
        self.reducers.pop(order.order_id, None)
        if order.request.price is not None:
            self.resting[order.request.side].discard(order.request.price, order)
        if order.request.trigger_price is not None:
            self.set_off(order)

    def check(self) -> None:
        """Assert that each open order is found at one place, and none elsewhere."""
        for order in self.orders.values():
            place = self.resting[order.request.side] if order.resting else self._waiting(order)
            assert order in place, order
        ladders = (self.resting[Side.BUY], self.resting[Side.SELL], self.rising, self.falling)
        assert sum(map(len, ladders)) == len(self.orders)

    def _waiting(self, order: VenueOrder) -> Ladder:
        return self.rising if order.request.rising else self.falling
