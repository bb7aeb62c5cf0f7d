"""What changes something at the exchange: an order placed, cancelled, amended; and what its answer means."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any, TypeAlias

from engine.core.ids import is_ours
from engine.core.messages import (
    Acked,
    Answer,
    Cancel,
    Failed,
    InstrumentKind,
    NotFound,
    Order,
    OrderReport,
    Rejection,
    Silence,
)
from engine.core.money import plain
from engine.venues.binance.orders import cancel_id
from engine.venues.ccxt import errors, orders, promises, rows
from engine.venues.ccxt.lines import Told
from engine.venues.ccxt.looking import ORDER, Looking
from engine.venues.ccxt.process import Gone
from engine.venues.ccxt.promises import BYBIT, SWAPS_IDS
from engine.venues.ccxt.site import Site, read

OrderOf: TypeAlias = Callable[[str, str], Awaitable[OrderReport | NotFound | Failed]]  # by symbol and client id


class Entry:
    """`order_of` asks for an order; `took` hears that one was accepted."""

    def __init__(self, site: Site, looking: Looking, order_of: OrderOf, took: Callable[[], None]) -> None:
        self._site, self._looking = site, looking
        self._order, self._took = order_of, took

    async def place(self, order: Order, arguments: orders.Arguments, on_wire: Callable[[], None]) -> Answer:
        told = await self._site.orders.call("create_order", arguments, self._site.terms.request_seconds, on_wire)
        answer = errors.answer_to_place(told, self._site.native)
        if answer is None:
            return self._placed(told, order)
        limited = answer if isinstance(answer, Rejection) and answer.kind == "rate_limited" else None
        self._site.heard(told, limited is not None)
        return await self._ask_first(order, limited) if limited is not None else answer

    async def cancel(self, cancel: Cancel) -> Answer:
        held = self._site.listings.get(cancel.symbol)
        if held is None:
            return Rejection("not_sent", "not_sent", f"{cancel.symbol} is not known yet")
        answer: Answer = Silence("not asked")
        for trigger in (False, True) if self._site.able.trigger_lists else (False,):
            answer = await self.cancel_one(cancel, held, trigger)
            if not (isinstance(answer, Rejection) and answer.kind == "not_found"):
                return answer
        return answer

    async def cancel_one(self, cancel: Cancel, held: rows.Listing, trigger: bool) -> Answer:
        able = self._site.able
        extra: dict[str, Any] = {"trigger": True} if trigger else {}
        own = cancel.venue_order_id or self._looking.number(cancel.cid)
        which: str | None
        if is_ours(cancel.cid) and able.exchange in BYBIT:  # by our id where that is possible: it names one order only
            which, extra = None, {"orderLinkId": cancel.cid, **extra}
        elif is_ours(cancel.cid) and able.cancels:
            which, extra = "", {"clientOrderId": cancel.cid, **extra}
            if able.exchange in SWAPS_IDS and able.kind is InstrumentKind.SPOT:
                extra["newClientOrderId"] = cancel_id(cancel.cid)
        elif own:
            which = own
        else:
            return Silence("the exchange's id of this order is not known, and it cancels by no other")
        arguments = (which, held.unified, extra)
        told = await self._site.orders.call("cancel_order", arguments, self._site.terms.request_seconds)
        answer = errors.answer_to_change(told, self._site.native)
        if answer is None:
            return Acked(own)
        self._site.heard(told, isinstance(answer, Rejection) and answer.kind == "rate_limited")
        return answer

    async def amend(
        self,
        symbol: str,
        cid: str,
        qty: Decimal | None = None,
        price: Decimal | None = None,
        trigger_price: Decimal | None = None,
    ) -> Answer:
        """In place, where ccxt and the exchange do that; absolute values, `qty` with what is filled included."""
        held = self._site.listings.get(symbol)
        if held is None or not self._site.able.edits or trigger_price is not None:
            return Rejection("unsupported", "invalid", "orders cannot be changed in place here; cancel, and place anew")
        found = await self._order(symbol, cid)
        if not isinstance(found, OrderReport):
            return Rejection("not_sent", "not_sent", f"the order is not to be had: {found}")
        amount = orders.contracts(found.qty if qty is None else qty, held)
        new_price = found.price if price is None else price
        if amount is None or new_price is None or found.status != "open":
            return Rejection("unsupported", "invalid", "only an open limit order can be changed")
        arguments: tuple[Any, ...] = (
            found.venue_order_id,
            held.unified,
            "limit",
            found.side.value,
            plain(amount),
            plain(new_price),
            {},
        )
        told = await self._site.orders.call("edit_order", arguments, self._site.terms.request_seconds)
        answer = errors.answer_to_change(told, self._site.native)
        return Acked(found.venue_order_id) if answer is None else answer

    def _placed(self, told: Told | Gone, order: Order) -> Answer:
        assert isinstance(told, Told)
        row = read(told, ORDER)
        if isinstance(row, Failed):
            return Silence(row.why)
        if not row.id:
            return Silence("accepted, but without an order id")
        self._looking.remember(row.id, order.cid)
        self._took()
        return Acked(row.id, (row.timestamp or 0) * 1_000_000)

    async def _ask_first(self, order: Order, refused: Rejection) -> Answer:
        """A limiter's no is documented as certain nowhere: the order is looked for before anybody sends it again."""
        if not promises.settles_absence(self._site.able):
            return Silence("refused by a limiter, which is not known to be certain here")
        match await self._order(order.symbol, order.cid):
            case OrderReport(venue_order_id=venue_order_id, venue_ns=venue_ns):
                return Acked(venue_order_id, venue_ns)
            case NotFound():  # an empty look so soon proves no absence: the order may show later
                return Silence(f"refused by a limiter, which is not certain, and not found yet: {refused.text}"[:300])
            case Failed(why=why):
                return Silence(f"refused by a limiter, and then not to be asked about: {why}")
