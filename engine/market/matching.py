"""One account's orders against the market, as an exchange would match them. Pure: the caller brings time and events.

How it fills, in full:
* A taker walks the displayed book level by level as it stands when the order arrives. What it took is not there again
  until a later event tells that level anew. Where only a ticker is known: the best price for its quantity, all beyond
  it at the best price worsened by `touch_slippage`.
* A resting order fills at its own price, (a) by a trade strictly through its price, (b) by a trade at its price with
  the other side as aggressor, once the quantity displayed at that price when it came to rest has traded there (those
  ahead who cancel do not help it), (c) by a book that crosses it. No more than the trade's or the level's quantity,
  shared by price, then age.
* A conditional order is triggered by the last trade at or past its trigger, or by the far side of the book at or past
  it (best ask for a falling trigger, best bid for a rising one); then it is a market or limit order. One that would
  trigger at once is rejected. It locks nothing before that.
* Reduce-only never increases or turns a position: its quantity is cut to the position when it executes, it is
  cancelled when nothing is left to reduce, and it locks nothing. On spot the position is the net of the executions.
* Our own orders do not trade with each other. Codes in rejections are Bybit's.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from decimal import Decimal
from itertools import takewhile

from msgspec import Struct
from msgspec.structs import replace

from engine.core.instrument import price_fits, qty_fits
from engine.core.messages import (
    ZERO,
    Acked,
    BalanceReport,
    FillReport,
    FundingReport,
    Instrument,
    InstrumentKind,
    NotFound,
    OrderReport,
    OrderType,
    PositionReport,
    Rejection,
    Side,
    TimeInForce,
    VenueReport,
)
from engine.core.money import BadNumber, sane, step_ceiling, step_down, step_floor
from engine.market.account import UNIT, Account, AccountTerms, Wallets
from engine.market.events import BookDelta, BookSnapshot, FundingRate, Level, MarketEvent, TopOfBook, TradePrint
from engine.market.orders import OrderRequest, Pit, VenueOrder
from engine.market.tape import Market

_ID_DIGITS = 10
_MARKET_TYPES = (OrderType.MARKET, OrderType.STOP_MARKET, OrderType.TAKE_PROFIT_MARKET)


class Changes(Struct, frozen=True, array_like=True):
    """What one step did: `reports` in the order of their happening, and the orders as they now stand."""

    reports: tuple[VenueReport, ...] = ()
    orders: tuple[VenueOrder, ...] = ()


class Image(Struct, frozen=True):
    """Everything that Matching must be given to go on where it was, but for the market."""

    wallets: Wallets
    orders: tuple[VenueOrder, ...]
    executions: tuple[FillReport | FundingReport, ...]
    last_id: int
    last_exec: int
    now_ns: int


_NOTHING = Changes()


class Matching:
    """`submit`, `turn_down`, `amend`, `cancel` and `hear` change it and leave what happened for `take`.

    `take` must follow each of them.
    """

    def __init__(self, terms: AccountTerms, instruments: Iterable[Instrument], image: Image | None = None) -> None:
        self.terms = terms
        self.instruments = {instrument.symbol: instrument for instrument in instruments}
        self.market = Market()
        self.now_ns = 0
        self.account = Account(terms, self.instruments, image.wallets if image else None)
        self.open: dict[str, VenueOrder] = {}  # by order id, oldest first
        self.closed: dict[str, VenueOrder] = {}
        self.executions: deque[FillReport | FundingReport] = deque(maxlen=terms.history)
        self._by_cid: dict[str, VenueOrder] = {}  # the latest of each client id
        self._pits: dict[str, Pit] = {}
        self._last_id = 0
        self._last_exec = 0
        self._reports: list[VenueReport] = []
        self._changed: dict[str, VenueOrder] = {}
        if image:
            self._restore(image)

    # ---------------------------------------------------------------------------------------------------- requests

    def submit(self, request: OrderRequest, now_ns: int) -> Acked | Rejection:
        """Accept (and execute what can be executed now) or reject; kinds as in `Rejection`."""
        self.now_ns = max(self.now_ns, now_ns)
        refusal = self._refusal(request)
        if refusal is not None:
            return refusal
        order, pit = self._admit(request), self._pit(request.symbol)
        if request.order_type.conditional:
            pit.wait(order)
        else:
            self._lock(order)
            self._work(order)
            self._sweep(pit)
        return Acked(order.order_id, self.now_ns)

    def turn_down(self, request: OrderRequest, now_ns: int, status: str, reason: str) -> Acked | Rejection:
        """Accept it and end it at once, whatever the market says: a venue that acknowledges first and checks later."""
        self.now_ns = max(self.now_ns, now_ns)
        if request.symbol not in self.instruments:
            return Rejection("10001", "invalid", f"symbol {request.symbol} is not known")
        refusal = self._repeated(request) or _misshapen(request)
        if refusal is not None:
            return refusal
        order = self._admit(request)
        if request.order_type.conditional:
            self._pit(request.symbol).wait(order)
        self._end(order, status, reason)
        return Acked(order.order_id, self.now_ns)

    def amend(
        self,
        order_id: str,
        now_ns: int,
        qty: Decimal | None = None,
        price: Decimal | None = None,
        trigger_price: Decimal | None = None,
    ) -> Acked | Rejection:
        """New total quantity, price or trigger. Its place in the queue is kept only by one that just gets smaller."""
        self.now_ns = max(self.now_ns, now_ns)
        order = self.open.get(order_id)
        if order is None:
            return Rejection("110001", "not_found", "order does not exist or is no longer open")
        before = order.request
        after = replace(
            before,
            qty=qty if qty is not None else before.qty,
            price=price if price is not None else before.price,
            trigger_price=trigger_price if trigger_price is not None else before.trigger_price,
        )
        refusal = self._unamendable(order, after)
        if refusal is not None:
            return refusal
        pit = self._pit(before.symbol)
        pit.remove(order)
        order.request = after
        pit.add(order)
        self._note(order)
        if not order.resting:
            pit.wait(order)
            return Acked(order_id, self.now_ns)
        self.account.lock(self._locks_asset(after), order.locked, ZERO)
        order.locked = ZERO
        self._lock(order)
        if after.price == before.price and after.qty <= before.qty:
            pit.rest(order)
        else:
            self._work(order)
        self._sweep(pit)
        return Acked(order_id, self.now_ns)

    def cancel(self, symbol: str, cid: str, now_ns: int, order_id: str = "") -> Acked | Rejection:
        """By client id, or by order id where there is none. Not found: never known, or no longer open."""
        self.now_ns = max(self.now_ns, now_ns)
        order = self.open.get(order_id) if order_id else self._by_cid.get(cid)
        if order is None or order.status != "open" or order.request.symbol != symbol:
            return Rejection("110001", "not_found", "order does not exist or is no longer open")
        self._end(order, "canceled", "by request")
        return Acked(order.order_id, self.now_ns)

    def hear(self, event: MarketEvent) -> None:
        """One market event, at its own time."""
        self.now_ns = max(self.now_ns, event.at_ns)
        if isinstance(event, TradePrint):
            pit = self._pit(event.symbol)
            pit.last = event.price
            if pit.orders:
                self._fill_by_print(pit, event)
                self._trigger(pit, event.symbol)
        elif isinstance(event, FundingRate):
            self._fund(event)
        else:
            pit = self._pit(event.symbol)
            self._refresh(pit, event)
            self.market.apply(event)
            if pit.orders:
                self._fill_by_crossing(pit, event.symbol)
                self._trigger(pit, event.symbol)

    def take(self) -> Changes:
        """What happened since the last take."""
        if not self._changed and not self._reports:
            return _NOTHING
        changes = Changes(tuple(self._reports), tuple(self._changed.values()))
        self._reports, self._changed = [], {}
        return changes

    # ----------------------------------------------------------------------------------------------------- queries

    def affordable(self, symbol: str, side: Side, amount: Decimal) -> Decimal:
        """The base quantity, whole lots, that a taker would get (BUY) or give (SELL) for `amount` of quote now."""
        qty, left = ZERO, amount
        for price, free in self._liquidity(symbol, side):
            part = min(free, left / price)
            qty, left = qty + part, left - part * price
            if left <= 0:
                break
        return step_down(qty, self.instruments[symbol].lot)

    def fillable(self, request: OrderRequest) -> Decimal:
        """How much of it would execute now."""
        return sum((part for _, part in self._walk(request, request.qty)), ZERO)

    def order(self, symbol: str, cid: str) -> OrderReport | NotFound:
        """The latest order with this client id, open or closed."""
        order = self._by_cid.get(cid)
        return order.report() if order is not None and order.request.symbol == symbol else NotFound(cid)

    def open_orders(self) -> tuple[OrderReport, ...]:
        return tuple(order.report() for order in self.open.values())

    def fills(self, since_ns: int, cid: str | None = None) -> tuple[FillReport | FundingReport, ...]:
        """Executions (of one order) and, without `cid`, funding, from `since_ns` on, oldest first."""
        recent = takewhile(lambda report: report.venue_ns >= since_ns, reversed(self.executions))
        found = [r for r in recent if cid is None or (isinstance(r, FillReport) and r.cid == cid)]
        return tuple(reversed(found))

    def balances(self) -> tuple[BalanceReport, ...]:
        return self.account.balances()

    def positions(self) -> tuple[PositionReport, ...]:
        return self.account.positions(self.now_ns)

    def check(self) -> None:
        """Assert what must always hold."""
        self.account.check()
        locked: dict[str, Decimal] = {}
        for order in self.open.values():
            assert order.status == "open" and order.remaining > 0, order
            assert self._pits[order.request.symbol].orders[order.order_id] is order
            assert not (order.request.reduce_only and order.locked), order
            asset = self._locks_asset(order.request)
            locked[asset] = locked.get(asset, ZERO) + order.locked
        for order in self.closed.values():
            assert order.status != "open" and not order.locked and 0 <= order.filled_qty <= order.request.qty, order
            assert (order.status == "filled") == (order.remaining == 0), order
        for asset, amount in locked.items():
            assert self.account.locked_by_orders(asset) == amount, asset
        for pit in self._pits.values():
            pit.check()
        assert sum(len(pit.orders) for pit in self._pits.values()) == len(self.open)

    def image(self) -> Image:
        """All that outlives the process."""
        return Image(
            self.account.wallets,
            (*self.closed.values(), *self.open.values()),
            tuple(self.executions),
            self._last_id,
            self._last_exec,
            self.now_ns,
        )

    def replay(self, changes: Changes) -> None:
        """Fold what an earlier life did and wrote down."""
        for report in changes.reports:
            if isinstance(report, FillReport):
                self.account.book(report)
                self._last_exec = max(self._last_exec, _serial(report.exec_id))
            elif isinstance(report, FundingReport):
                self.account.fund(report)
                self._last_exec = max(self._last_exec, _serial(report.funding_id))
            if not isinstance(report, OrderReport):
                self.executions.append(report)
            self.now_ns = max(self.now_ns, report.venue_ns)
        for order in changes.orders:
            self._last_id = max(self._last_id, _serial(order.order_id))
            self._put(order)

    def _restore(self, image: Image) -> None:
        self.executions.extend(image.executions)
        self._last_id, self._last_exec, self.now_ns = image.last_id, image.last_exec, image.now_ns
        for order in image.orders:
            self._put(order)

    def _put(self, order: VenueOrder) -> None:
        known = self.open.get(order.order_id)
        self.account.lock(self._locks_asset(order.request), known.locked if known else ZERO, order.locked)
        self._by_cid[order.request.cid] = order
        pit = self._pit(order.request.symbol)
        if known:
            pit.remove(known)
        if order.status != "open":
            self.open.pop(order.order_id, None)
            self._remember(order)
            return
        self.open[order.order_id] = order
        pit.add(order)
        if order.resting:
            pit.rest(order)
        else:
            pit.wait(order)

    def _pit(self, symbol: str) -> Pit:
        pit = self._pits.get(symbol)
        if pit is None:
            pit = self._pits[symbol] = Pit()
        return pit

    # ---------------------------------------------------------------------------------------- acceptance, by the rules

    def _refusal(self, r: OrderRequest) -> Rejection | None:
        instrument = self.instruments.get(r.symbol)
        if instrument is None:
            return Rejection("10001", "invalid", f"symbol {r.symbol} is not known")
        return (
            self._repeated(r)
            or _misshapen(r)
            or _off_step(r, instrument)
            or self._misplaced(r)
            or self._too_small(r, instrument)
            or (None if r.order_type.conditional or r.reduce_only else self._unaffordable(r, instrument))
        )

    def _repeated(self, r: OrderRequest) -> Rejection | None:
        known = self._by_cid.get(r.cid)
        if known is not None and (self.terms.id_rule == "ever" or known.status == "open"):
            return Rejection("110072", "duplicate", "client order id is duplicate")
        return None

    def _unamendable(self, order: VenueOrder, after: OrderRequest) -> Rejection | None:
        instrument = self.instruments[after.symbol]
        refusal = _misshapen(after) or _off_step(after, instrument)
        if refusal is not None:
            return refusal
        if after.qty <= order.filled_qty:
            return Rejection("110064", "invalid", f"{order.filled_qty} of it are filled already")
        if not order.resting:
            return Rejection("110092", "triggered", "would trigger immediately") if self._passed(after) else None
        meets = next(self._liquidity(after.symbol, after.side), None)
        if after.tif is TimeInForce.POST_ONLY and meets is not None and after.marketable(meets[0]):
            return Rejection("170218", "invalid", "post-only order would take")
        if after.reduce_only:
            return None
        left = after.qty - order.filled_qty
        asset, need = self._locks_asset(after), self._need(after, instrument, left, self._reduces(after, left))
        available = self.account.available(asset) + order.locked
        if need > available:
            return Rejection("110007", "insufficient", f"needs {need} {asset}, available {available}")
        return self._too_small(after, instrument)

    def _misplaced(self, r: OrderRequest) -> Rejection | None:
        if r.reduce_only and not self.account.closable(r.symbol, r.side):
            return Rejection("110017", "invalid", "reduce-only, and there is no position to reduce")
        if r.order_type.conditional:
            assert r.trigger_price is not None
            if self._passed(r):
                code = "110092" if r.rising else "110093"
                return Rejection(code, "triggered", f"would trigger immediately at {r.trigger_price}")
            return None
        meets = next(self._liquidity(r.symbol, r.side), None)
        if r.order_type is OrderType.MARKET and meets is None:
            return Rejection("110118", "invalid", "no liquidity for a market order")
        if r.tif is TimeInForce.POST_ONLY and meets is not None and r.marketable(meets[0]):
            return Rejection("170218", "invalid", "post-only order would take")
        return None

    def _too_small(self, r: OrderRequest, instrument: Instrument) -> Rejection | None:
        if r.reduce_only:
            return None
        price = r.price or r.trigger_price
        if price is None:
            meets = next(self._liquidity(r.symbol, r.side), None)
            assert meets is not None, "a market order was let through without a market"
            price = meets[0]
        if r.qty * price < instrument.notional_min:
            code = "170140" if instrument.kind is InstrumentKind.SPOT else "110094"
            return Rejection(code, "invalid", f"worth {r.qty * price} is under the minimum {instrument.notional_min}")
        return None

    def _unaffordable(self, r: OrderRequest, instrument: Instrument) -> Rejection | None:
        asset, need = self._locks_asset(r), self._need(r, instrument, r.qty, self._reduces(r, r.qty))
        if need <= self.account.available(asset):
            return None
        code = "170131" if instrument.kind is InstrumentKind.SPOT else "110007"
        return Rejection(code, "insufficient", f"needs {need} {asset}, available {self.account.available(asset)}")

    def _reduces(self, r: OrderRequest, qty: Decimal) -> Decimal:
        """The part of `qty` of an order on a future that closes what is open, and so needs no margin."""
        if self.instruments[r.symbol].kind is InstrumentKind.SPOT:
            return ZERO
        return max(ZERO, min(qty, -self.account.qty(r.symbol) * r.side.sign))

    def _need(self, r: OrderRequest, instrument: Instrument, qty: Decimal, reduces: Decimal) -> Decimal:
        """What an order for `qty`, of which `reduces` only closes, claims of its wallet, fees included."""
        spot = instrument.kind is InstrumentKind.SPOT
        if spot and r.side is Side.SELL:
            return qty
        notional, opening = self._worth(r, qty), qty - min(qty, reduces)
        fee = self.account.quote_fee(instrument, r.side, notional)
        if spot:
            return notional + fee
        return self.account.margin(instrument, notional * opening / qty) + fee if opening else ZERO

    def _worth(self, r: OrderRequest, qty: Decimal) -> Decimal:
        """The most that a buy can cost; for a sale on a future, what its margin is reckoned on."""
        if r.price is None:
            return sum((price * part for price, part in self._walk(r, qty)), ZERO)
        if r.side is Side.BUY:
            return r.price * qty
        meets = next(self._liquidity(r.symbol, r.side), None)
        return max(r.price, meets[0] if meets is not None else ZERO) * qty

    def _locks_asset(self, r: OrderRequest) -> str:
        instrument = self.instruments[r.symbol]
        spot_sale = instrument.kind is InstrumentKind.SPOT and r.side is Side.SELL
        return instrument.base if spot_sale else instrument.quote

    def _lock(self, order: VenueOrder) -> None:
        """Claim what the order may need from its arrival (or trigger) on; a market order never rests."""
        r = order.request
        if r.reduce_only or r.price is None:
            return
        reduces = self._reduces(r, order.remaining)
        order.reduces = reduces + order.filled_qty  # of the whole order: see `_relock`
        need = self._need(r, self.instruments[r.symbol], order.remaining, reduces)
        self.account.lock(self._locks_asset(r), ZERO, need)
        order.locked = need

    def _relock(self, order: VenueOrder) -> None:
        """The claim of an order that has filled in part: for what is left."""
        if order.locked:
            r, instrument = order.request, self.instruments[order.request.symbol]
            reduces = max(ZERO, order.reduces - order.filled_qty)
            after = self._need(r, instrument, order.remaining, reduces) if order.remaining else ZERO
            self.account.lock(self._locks_asset(r), order.locked, after)
            order.locked = after

    # ------------------------------------------------------------------------------------------------- takers, at once

    def _liquidity(self, symbol: str, side: Side) -> Iterator[Level]:
        """What a taker of `side` meets now, best first."""
        far, lot = side.opposite, self.instruments[symbol].lot
        taken = self._pit(symbol).taken
        for price, qty in self._displayed(symbol, far):
            free = step_down(qty * self.terms.liquidity_share, lot) - taken.get((far, price), ZERO)
            if free > 0:
                yield price, free

    def _displayed(self, symbol: str, side: Side) -> Iterator[Level]:
        book = self.market.book(symbol)
        if book is not None and not book.broken:
            yield from book.levels(side)
            return
        quote = self.market.quote(symbol)
        if quote is None:
            return
        instrument, slip = self.instruments[symbol], self.terms.touch_slippage
        if side is Side.BUY:
            yield quote.bid, quote.bid_qty
            yield step_floor(quote.bid * (1 - slip), instrument.tick), instrument.qty_max
        else:
            yield quote.ask, quote.ask_qty
            yield step_ceiling(quote.ask * (1 + slip), instrument.tick), instrument.qty_max

    def _walk(self, r: OrderRequest, qty: Decimal) -> list[Level]:
        """Prices and quantities at which `qty` would execute now; less than `qty` where the market ends."""
        parts = []
        for price, free in self._liquidity(r.symbol, r.side):
            if qty <= 0 or not r.marketable(price):
                break
            parts.append((price, min(qty, free)))
            qty -= parts[-1][1]
        return parts

    def _work(self, order: VenueOrder) -> None:
        """Execute what can be executed now, then rest or cancel the remainder."""
        r = order.request
        wanted = self._executable(order)
        parts = self._walk(r, wanted)
        if r.tif is TimeInForce.FOK and sum(part for _, part in parts) < wanted:
            return self._end(order, "canceled", "fill-or-kill could not fill")
        if r.tif is TimeInForce.POST_ONLY and parts:
            return self._end(order, "canceled", "post-only order would take")
        for price, part in parts:
            self._execute(order, part, price, maker=False)
        if order.status != "open":
            return None
        if r.price is None or r.tif in (TimeInForce.IOC, TimeInForce.FOK):
            return self._end(order, "canceled", "the rest could not fill at once")
        order.queue = self._ahead(r)
        self._pit(r.symbol).rest(order)
        return None

    def _executable(self, order: VenueOrder) -> Decimal:
        """What may execute now: a reduce-only order no more than the position and, on spot, what its wallet can pay."""
        r = order.request
        if not r.reduce_only:
            return order.remaining
        instrument = self.instruments[r.symbol]
        qty = min(order.remaining, self.account.closable(r.symbol, r.side))
        if instrument.kind is InstrumentKind.LINEAR or not qty:
            return qty
        free = max(ZERO, self.account.available(self._locks_asset(r)))
        if r.side is Side.SELL:
            return min(qty, step_down(free, instrument.lot))
        return qty if self._need(r, instrument, qty, ZERO) <= free else ZERO

    def _ahead(self, r: OrderRequest) -> Decimal:
        for price, qty in self._displayed(r.symbol, r.side):
            if price == r.price:
                return qty
            if (price < r.price) if r.side is Side.BUY else (price > r.price):  # type: ignore[operator]
                break
        return ZERO

    def _refresh(self, pit: Pit, event: BookSnapshot | BookDelta | TopOfBook) -> None:
        """Levels that an event tells anew are whole again."""
        taken = pit.taken
        if not taken:
            return
        book = self.market.book(event.symbol)
        if isinstance(event, BookSnapshot) or book is None or book.broken:
            taken.clear()
        elif isinstance(event, TopOfBook):
            taken.pop((Side.BUY, event.bid), None)
            taken.pop((Side.SELL, event.ask), None)
        else:
            for price, _ in event.bids:
                taken.pop((Side.BUY, price), None)
            for price, _ in event.asks:
                taken.pop((Side.SELL, price), None)

    # ------------------------------------------------------------------------------------------- makers and triggers

    def _fill_by_print(self, pit: Pit, event: TradePrint) -> None:
        left = step_down(event.qty * self.terms.liquidity_share, self.instruments[event.symbol].lot)
        for side in Side:
            for order in pit.resting[side].reached(event.price):
                left -= self._fill_from(order, event, left)
        self._sweep(pit)

    def _fill_from(self, order: VenueOrder, event: TradePrint, left: Decimal) -> Decimal:
        """Fill one order from what is left of a trade that reached it; returns how much that was."""
        r = order.request
        assert r.price is not None
        if event.price == r.price:
            if event.aggressor is r.side:
                return ZERO
            ahead = min(order.queue, left)
            if ahead:
                order.queue -= ahead
                self._changed[order.order_id] = order
            left -= ahead
        qty = min(left, self._executable(order))
        if qty > 0:
            self._execute(order, qty, r.price, maker=True)
        return max(qty, ZERO)

    def _fill_by_crossing(self, pit: Pit, symbol: str) -> None:
        for side in Side:
            meets = next(self._liquidity(symbol, side), None) if pit.resting[side] else None
            for order in pit.resting[side].reached(meets[0] if meets else None):
                assert order.request.price is not None
                for price, part in self._walk(order.request, self._executable(order)):
                    self._execute(order, part, order.request.price, maker=True, displayed=price)
        self._sweep(pit)

    def _trigger(self, pit: Pit, symbol: str) -> None:
        reached = [
            *(pit.rising.reached(self._reach(symbol, rising=True)) if pit.rising else ()),
            *(pit.falling.reached(self._reach(symbol, rising=False)) if pit.falling else ()),
        ]
        for order in reached:
            # One whose price passes while the book is broken or empty waits for the market to come back.
            tradable = next(self._liquidity(symbol, order.request.side), None) is not None
            if order.status == "open" and tradable:
                self._set_off(pit, order)
                self._sweep(pit)

    def _set_off(self, pit: Pit, order: VenueOrder) -> None:
        r = order.request
        pit.set_off(order)
        order.triggered = True
        self._changed[order.order_id] = order
        lacking = None if r.reduce_only else self._unaffordable(r, self.instruments[r.symbol])
        if lacking is not None:
            return self._end(order, "canceled", f"{lacking.code} {lacking.text}")
        self._lock(order)
        return self._work(order)

    def _passed(self, r: OrderRequest) -> bool:
        assert r.trigger_price is not None
        price = self._reach(r.symbol, r.rising)
        return price is not None and (price >= r.trigger_price if r.rising else price <= r.trigger_price)

    def _reach(self, symbol: str, rising: bool) -> Decimal | None:
        """The furthest price that sets conditional orders off: the last trade's, or the far side's best."""
        last = self._pit(symbol).last
        far = next(self._displayed(symbol, Side.BUY if rising else Side.SELL), None)
        if last is None or far is None:
            return last if far is None else far[0]
        return max(last, far[0]) if rising else min(last, far[0])

    def _sweep(self, pit: Pit) -> None:
        """Cancel reduce-only orders that have nothing left to reduce."""
        for order in list(pit.reducers.values()):
            if not self.account.closable(order.request.symbol, order.request.side):
                self._end(order, "canceled", "reduce-only, and the position is closed")

    # ---------------------------------------------------------------------------------------------- what all end in

    def _admit(self, request: OrderRequest) -> VenueOrder:
        """From now on it is an order of this venue."""
        self._last_id += 1
        order = VenueOrder(request, f"{self.terms.prefix}{self._last_id:0{_ID_DIGITS}d}", self.now_ns, self.now_ns)
        self.open[order.order_id] = self._by_cid[request.cid] = order
        self._pit(request.symbol).add(order)
        self._note(order)
        return order

    def _execute(
        self, order: VenueOrder, qty: Decimal, price: Decimal, maker: bool, displayed: Decimal | None = None
    ) -> None:
        r = order.request
        if not maker or displayed is not None:
            level = (r.side.opposite, displayed or price)
            taken = self._pit(r.symbol).taken
            taken[level] = taken.get(level, ZERO) + qty
        instrument = self.instruments[r.symbol]
        fee, fee_asset = self.account.fee(instrument, r.side, qty, price, maker)
        self._last_exec += 1
        fill = FillReport(
            symbol=r.symbol,
            exec_id=f"{self.terms.prefix}E{self._last_exec:0{_ID_DIGITS}d}",
            cid=r.cid,
            venue_order_id=order.order_id,
            side=r.side,
            qty=qty,
            price=price,
            fee=fee,
            fee_asset=fee_asset,
            maker=maker,
            venue_ns=self.now_ns,
        )
        order.filled_qty += qty
        self._relock(order)
        self.account.book(fill)
        self.executions.append(fill)
        self._reports.append(fill)
        if order.remaining:
            self._note(order)
        else:
            self._end(order, "filled")

    def _end(self, order: VenueOrder, status: str, reason: str = "") -> None:
        order.status, order.reason = status, reason
        self.account.lock(self._locks_asset(order.request), order.locked, ZERO)
        order.locked = ZERO
        del self.open[order.order_id]
        self._pits[order.request.symbol].remove(order)
        self._remember(order)
        self._note(order)

    def _remember(self, order: VenueOrder) -> None:
        self.closed[order.order_id] = order
        if len(self.closed) > self.terms.history:
            oldest = self.closed.pop(next(iter(self.closed)))
            if self._by_cid.get(oldest.request.cid) is oldest:
                del self._by_cid[oldest.request.cid]

    def _note(self, order: VenueOrder) -> None:
        order.updated_ns = self.now_ns
        self._changed.pop(order.order_id, None)  # so that the last to change is the last told
        self._changed[order.order_id] = order
        self._reports.append(order.report())

    def _fund(self, event: FundingRate) -> None:
        instrument = self.instruments.get(event.symbol)
        qty = self.account.qty(event.symbol)
        if instrument is None or instrument.kind is not InstrumentKind.LINEAR or not qty:
            return
        self._last_exec += 1
        report = FundingReport(
            symbol=event.symbol,
            funding_id=f"{self.terms.prefix}F{self._last_exec:0{_ID_DIGITS}d}",
            amount=(-qty * event.mark * event.rate).quantize(UNIT),
            asset=instrument.quote,
            venue_ns=self.now_ns,
        )
        self.account.fund(report)
        self.executions.append(report)
        self._reports.append(report)


def _misshapen(r: OrderRequest) -> Rejection | None:
    for number in (r.qty, r.price, r.trigger_price):
        try:
            sane(number or ZERO)
        except BadNumber as error:
            return Rejection("10001", "invalid", f"a number {error}")
    if r.order_type.conditional != (r.trigger_price is not None):
        return Rejection("10001", "invalid", "a trigger price belongs to conditional orders, and to all of them")
    if (r.order_type in _MARKET_TYPES) != (r.price is None):
        return Rejection("10001", "invalid", "a price belongs to limit orders, and to all of them")
    if not r.cid:
        return Rejection("10001", "invalid", "client order id is missing")
    return None


def _off_step(r: OrderRequest, instrument: Instrument) -> Rejection | None:
    if not qty_fits(instrument, r.qty):
        limits = f"{instrument.qty_min} to {instrument.qty_max} by {instrument.lot}"
        return Rejection("10001", "invalid", f"quantity {r.qty} is not within {limits}")
    for price in (r.price, r.trigger_price):
        if price is not None and not price_fits(instrument, price):
            return Rejection("10001", "invalid", f"price {price} is not a multiple of {instrument.tick}")
    return None


def _serial(name: str) -> int:
    """The number in an id, whatever the prefix was when it was given."""
    return int(name[-_ID_DIGITS:])
