"""Our orders as arguments of ccxt's unified methods. Pure; amounts and prices are written out by our own rules."""

from decimal import Decimal
from typing import Any, TypeAlias

from engine.core.messages import InstrumentKind, Order, OrderType, Rejection, Side, TimeInForce
from engine.core.money import on_step, plain
from engine.venues.ccxt.promises import FREE_STOPS, Abilities
from engine.venues.ccxt.rows import Listing

Arguments: TypeAlias = tuple[Any, ...]
_MARKET = (OrderType.MARKET, OrderType.STOP_MARKET, OrderType.TAKE_PROFIT_MARKET)
_STOPS = (OrderType.STOP_MARKET, OrderType.STOP_LIMIT)
_TIFS = {TimeInForce.IOC: "IOC", TimeInForce.FOK: "FOK", TimeInForce.POST_ONLY: "PO"}


def create(order: Order, held: Listing, able: Abilities) -> Arguments | Rejection:
    """Of `create_order`; a Rejection where the exchange lacks what the order needs, and nobody can stand in."""
    amount = contracts(order.qty, held)
    if amount is None:
        return _no(f"{plain(order.qty)} is no multiple of {plain(held.instrument.lot)}, the smallest step")
    market, spot = order.order_type in _MARKET, able.kind is InstrumentKind.SPOT
    params: dict[str, Any] = {"clientOrderId": order.cid} if able.marks else {}
    if order.order_type.conditional:
        trigger = _trigger(order, able)
        if isinstance(trigger, Rejection):
            return trigger
        params |= trigger
    elif market and spot and able.buys_by_quote and order.side is Side.BUY:
        return _no("market buys are by amount of quote here; use a limit order")
    if not market and order.tif is not TimeInForce.GTC:
        if _TIFS[order.tif] not in able.tifs:
            return _no(f"no {order.tif.value} orders here")
        params |= {"postOnly": True} if order.tif is TimeInForce.POST_ONLY else {"timeInForce": _TIFS[order.tif]}
    if order.reduce_only and not spot:
        params["reduceOnly"] = True
    if not market and order.price is None:
        return _no("a limit order without a price")
    price = None if market or order.price is None else plain(order.price)
    return held.unified, "market" if market else "limit", order.side.value, plain(amount), price, params


def contracts(qty: Decimal, held: Listing) -> Decimal | None:
    """As the exchange counts; None where that would not be exact."""
    amount = qty / held.contract
    return amount if amount * held.contract == qty and on_step(qty, held.instrument.lot) else None


def _trigger(order: Order, able: Abilities) -> dict[str, Any] | Rejection:
    if not able.stops or order.trigger_price is None:
        return _no("no stop orders here")
    price, stop = plain(order.trigger_price), order.order_type in _STOPS
    if able.kind is InstrumentKind.SPOT and able.exchange in FREE_STOPS:
        return {"triggerPrice": price}  # its direction is told from the market, and it locks nothing until then
    if able.kind is InstrumentKind.SPOT and not stop:
        return _no("a resting target and a stop cannot hold the same coins here")
    if able.stops == "stopLossPrice":
        return {"stopLossPrice": price} if stop else {"takeProfitPrice": price}
    rises = stop == (order.side is Side.BUY)
    return {"triggerPrice": price, "triggerDirection": "ascending" if rises else "descending"}


def _no(text: str) -> Rejection:
    return Rejection("unsupported", "invalid", text)
