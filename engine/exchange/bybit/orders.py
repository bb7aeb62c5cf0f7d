"""Creating, amending and cancelling orders, singly and in batches: /v5/order/* and the trade WebSocket share these."""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from msgspec import Struct

from engine.core.messages import OrderType, Rejection, Side, TimeInForce
from engine.core.money import plain, step_ceiling, step_floor
from engine.exchange.bybit.codes import Refused, refused
from engine.exchange.bybit.rows import order_id, serial_of
from engine.exchange.house import UNFINDABLE, Listing, Member, Record
from engine.exchange.params import Params, flag, number, whole, word
from engine.exchange.screen import Screens
from engine.market.orders import OrderRequest

Result = dict[str, Any]

BATCH_MAX = {"linear": 20, "spot": 10}
BAND_UP, BAND_DOWN = Decimal("1.1"), Decimal("0.9")  # of the mark
_OPEN_MAX = 500
_CONDITIONAL_MAX = {"linear": 10, "spot": 30}
_LINK_ID = re.compile(r"[A-Za-z0-9_-]{0,36}")
_TIFS = {"": TimeInForce.GTC, "GTC": TimeInForce.GTC, "IOC": TimeInForce.IOC, "FOK": TimeInForce.FOK}
_TIFS |= {"PostOnly": TimeInForce.POST_ONLY}
# What would change an order and is not offered here is refused rather than passed over.
_UNOFFERED = ("takeProfit", "stopLoss", "orderIv", "mmp", "bboSideType", "bboLevel", "slippageTolerance")


class Caller(Struct, frozen=True):
    """Who asks, and what he may look at."""

    member: Member
    screens: Screens
    now_ns: int


def create(caller: Caller, params: Params) -> Result:
    listing = listing_of(caller, params)
    _check_room(caller, params, listing)
    request, marks = _request(caller, params, listing)
    given = _given(params, listing, caller)
    member = caller.member
    placed = member.place(request, caller.now_ns, given, marks)
    if isinstance(placed, Rejection) and placed.code == "170218":
        # Bybit takes a post-only order and cancels it when it would take (5.2 of the sheet).
        placed = member.place(request, caller.now_ns, given, marks, turn_down="post-only order would take")
    if isinstance(placed, Rejection):
        raise refused(listing.category, placed)
    return ids(placed)


def amend(caller: Caller, params: Params) -> Result:
    record = _open_one(caller, params)
    price, trigger = number(params, "price"), number(params, "triggerPrice")
    changed = caller.member.amend(record, caller.now_ns, number(params, "qty"), price, trigger)
    if changed is not None:
        raise refused(record.listing.category, changed)
    return ids(record)


def cancel(caller: Caller, params: Params) -> Result:
    record = _open_one(caller, params)
    refusal = caller.member.cancel(record, caller.now_ns)
    if refusal is not None:
        raise refused(record.listing.category, refusal)
    return ids(record)


def cancel_all(caller: Caller, params: Params) -> Result:
    category, symbol = category_of(params), word(params, "symbol")
    coin = word(params, "settleCoin") or word(params, "baseCoin")
    if category == "linear" and not symbol and not coin:
        raise Refused(10001, "params error: symbol, baseCoin or settleCoin is required")
    chosen = _kinds(category, word(params, "orderFilter"), word(params, "stopOrderType"))
    done = []
    for record in list(caller.member.open_records()):
        instrument = record.listing.instrument
        fits = record.listing.symbol == symbol if symbol else (not coin or coin in (instrument.base, instrument.quote))
        if record.listing.category == category and fits and chosen(record):
            caller.member.cancel(record, caller.now_ns)
            done.append(ids(record))
    return {"list": done, "success": "1"}


def batch(one: Callable[[Caller, Params], Result]) -> Callable[[Caller, Params], Result]:
    """The same for a list; each item has its own code, and the whole succeeds (4.2 of the sheet)."""

    def many(caller: Caller, params: Params) -> Result:
        category, items = category_of(params), params.get("request")
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items) or not items:
            raise Refused(10001, "params error: request is no list of orders")
        if len(items) > BATCH_MAX[category]:
            raise Refused(10001, f"params error: more than {BATCH_MAX[category]} orders")
        results, outcomes = [], []
        for item in items:
            row: Result = {"category": category, "symbol": word(item, "symbol"), "orderId": "", "createAt": ""}
            row["orderLinkId"] = word(item, "orderLinkId")
            try:
                row |= one(caller, {**item, "category": category})
                row["createAt"] = str(caller.now_ns // 1_000_000)
                outcomes.append({"code": 0, "msg": "OK"})
            except Refused as error:
                outcomes.append({"code": error.code, "msg": error.text})
            results.append(row)
        return {"list": results, "_ext": {"list": outcomes}}

    return many


def ids(record: Record) -> Result:
    return {"orderId": order_id(record.listing, record.serial), "orderLinkId": record.given}


def category_of(params: Params) -> str:
    category = word(params, "category")
    if category not in ("linear", "spot"):
        raise Refused(10001, f"params error: category {category or 'missing'}: linear and spot are traded here")
    return category


def listing_of(caller: Caller, params: Params) -> Listing:
    category, symbol = category_of(params), word(params, "symbol")
    screen = caller.screens.of(category, symbol)
    if screen is None:
        raise Refused(10001 if category == "linear" else 170121, f"params error: symbol invalid {symbol}")
    return screen.listing


def _request(caller: Caller, params: Params, listing: Listing) -> tuple[OrderRequest, dict[str, Any]]:
    side = _choice(params, "side", {"Buy": Side.BUY, "Sell": Side.SELL})
    market = _choice(params, "orderType", {"Market": True, "Limit": False})
    tif = _choice(params, "timeInForce", _TIFS)
    for name in _UNOFFERED:
        if word(params, name) not in ("", "0", "false"):
            raise Refused(10001, f"params error: {name} is not offered by this exchange")
    if whole(params, "positionIdx") not in (None, 0):
        raise Refused(10001, "position idx not match position mode")
    if whole(params, "isLeverage") not in (None, 0):
        raise Refused(170037, "margin trading is not offered by this exchange")
    trigger, price = number(params, "triggerPrice"), number(params, "price")
    marks = {"triggerBy": word(params, "triggerBy"), "last": plain(caller.screens.last(listing))}
    reduce_only = flag(params, "reduceOnly") or flag(params, "closeOnTrigger")
    if listing.category == "spot" and reduce_only:
        raise Refused(10001, "params error: reduceOnly is of futures")
    qty = _quantity(caller, params, listing, side, market, marks, reduce_only)
    if not market and price is None:
        raise Refused(10001, "params error: price is required for a limit order")
    kind = _kind(caller, params, listing, side, market, trigger)
    if price is not None and not market:
        price = _within_band(caller, listing, side, price)
    request = OrderRequest(
        symbol=listing.instrument.symbol,
        cid="",
        side=side,
        order_type=kind,
        qty=qty,
        price=None if market else price,
        trigger_price=trigger or None,
        tif=TimeInForce.GTC if market else tif,
        reduce_only=reduce_only,
    )
    return request, marks


def _within_band(caller: Caller, listing: Listing, side: Side, price: Decimal) -> Decimal:
    """Outside its band a price is moved to the edge on futures, and refused on spot (5.5 of the sheet)."""
    mark, tick = caller.screens.mark(listing), listing.instrument.tick
    high, low = step_floor(mark * BAND_UP, tick), step_ceiling(mark * BAND_DOWN, tick)
    if not mark or not (price > high if side is Side.BUY else price < low):
        return price
    if listing.category == "spot":
        text = "Order price has exceeded the upper limit." if side is Side.BUY else "Order price is below the limit."
        raise Refused(170132 if side is Side.BUY else 170133, text)
    return high if side is Side.BUY else low


def _check_room(caller: Caller, params: Params, listing: Listing) -> None:
    """No more than 500 open orders; of conditional ones 10 a symbol on futures, 30 on spot (4.1 of the sheet)."""
    spot = listing.category == "spot"
    if len(caller.member.matching.open) < _CONDITIONAL_MAX["linear"]:
        return
    mine = [record for record in caller.member.open_records() if record.listing.category == listing.category]
    if len(mine) >= _OPEN_MAX:
        raise Refused(170810 if spot else 110020, "Cannot have more than 500 active orders")
    waiting = sum(r.listing is listing and r.order.request.order_type.conditional for r in mine)
    if word(params, "triggerPrice") and waiting >= _CONDITIONAL_MAX[listing.category]:
        raise Refused(170810 if spot else 110009, "The number of stop orders exceeds the maximum allowable limit")


def _quantity(
    caller: Caller,
    params: Params,
    listing: Listing,
    side: Side,
    market: bool,
    marks: dict[str, Any],
    reduce_only: bool,
) -> Decimal:
    qty = number(params, "qty")
    if qty is None or qty < 0:
        raise Refused(10001, "params error: qty invalid")
    if not qty and reduce_only:
        return abs(caller.member.matching.account.qty(listing.instrument.symbol))  # "0" closes the position
    if listing.category == "linear" or not market:
        return qty
    unit = word(params, "marketUnit", "quoteCoin" if side is Side.BUY else "baseCoin")
    marks["marketUnit"] = unit
    if unit == "baseCoin":
        return qty
    marks["qty"] = qty
    lots = caller.member.matching.affordable(listing.instrument.symbol, side, qty)
    if qty < listing.instrument.notional_min:
        raise Refused(170140, "Order value exceeded lower limit.")
    return lots


def _kind(
    caller: Caller, params: Params, listing: Listing, side: Side, market: bool, trigger: Decimal | None
) -> OrderType:
    if not trigger:
        return OrderType.MARKET if market else OrderType.LIMIT
    direction = whole(params, "triggerDirection")
    if listing.category == "spot":
        direction = 1 if trigger > caller.screens.last(listing) else 2  # spot tells it by the price of the day
    if direction not in (1, 2):
        raise Refused(10001, "params error: triggerDirection is required for a conditional order")
    stops = (direction == 1) == (side is Side.BUY)
    if market:
        return OrderType.STOP_MARKET if stops else OrderType.TAKE_PROFIT_MARKET
    return OrderType.STOP_LIMIT if stops else OrderType.TAKE_PROFIT_LIMIT


def _given(params: Params, listing: Listing, caller: Caller) -> str:
    given = word(params, "orderLinkId")
    if not _LINK_ID.fullmatch(given):
        raise Refused(10001, "params error: OrderLinkId must be up to 36 of A-Z a-z 0-9 - _")
    if not given and listing.category == "spot":
        # Spot invents a number where the client gave nothing.
        return f"{caller.now_ns // 1_000_000}{caller.member.asked:06d}"
    return given


def _open_one(caller: Caller, params: Params) -> Record:
    listing = listing_of(caller, params)
    named, link = word(params, "orderId"), word(params, "orderLinkId")
    if not named and not link:
        raise Refused(10001, "params error: orderId or orderLinkId is required")
    serial = serial_of(named) if named else None
    record = None if named and serial is None else caller.member.find(listing.category, serial, link)
    if record is None or not record.open or record.listing is not listing:
        raise refused(listing.category, UNFINDABLE)
    return record


def _kinds(category: str, order_filter: str, stop_type: str) -> Callable[[Record], bool]:
    """Spot cancels plain orders unless told otherwise, futures all kinds."""
    wanted = order_filter or ("Order" if category == "spot" else "")
    if wanted == "Order":
        return lambda record: not record.order.request.order_type.conditional
    if wanted == "StopOrder" or stop_type == "Stop":
        return lambda record: record.order.request.order_type.conditional
    return lambda record: True


def _choice(params: Params, name: str, choices: dict[str, Any]) -> Any:
    text = word(params, name)
    if text not in choices:
        raise Refused(10001, f"params error: {name} invalid: {text or 'missing'}")
    return choices[text]
