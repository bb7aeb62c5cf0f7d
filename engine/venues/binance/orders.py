"""From the engine's orders to Binance's parameters. Pure.

Money is written plainly (`1e-05` is refused), ids are ours and need no encoding. Spot has no reduce-only; what stands
in for it is in `spot_cover`. On USD-M conditional orders live in a service of their own, with its own ids and words.
Pages "New order" (spot), "New Order", "New Algo Order", "Modify Order" (USD-M).
"""

import json
from collections.abc import Sequence
from decimal import Decimal

from engine.core.messages import Order, OrderType, Side, TimeInForce
from engine.core.money import plain
from engine.venues.binance.sign import Params

CANCELED_MARK = "-c"  # behind an order's id it is the id of its cancel, which takes the order's place on spot

_SPOT_TYPES = {
    OrderType.MARKET: "MARKET",
    OrderType.LIMIT: "LIMIT",
    OrderType.STOP_MARKET: "STOP_LOSS",
    OrderType.STOP_LIMIT: "STOP_LOSS_LIMIT",
    OrderType.TAKE_PROFIT_MARKET: "TAKE_PROFIT",
    OrderType.TAKE_PROFIT_LIMIT: "TAKE_PROFIT_LIMIT",
}
_USDM_TYPES = {
    OrderType.MARKET: "MARKET",
    OrderType.LIMIT: "LIMIT",
    OrderType.STOP_MARKET: "STOP_MARKET",
    OrderType.STOP_LIMIT: "STOP",
    OrderType.TAKE_PROFIT_MARKET: "TAKE_PROFIT_MARKET",
    OrderType.TAKE_PROFIT_LIMIT: "TAKE_PROFIT",
}
_SIDES = {Side.BUY: "BUY", Side.SELL: "SELL"}
_TIFS = {TimeInForce.GTC: "GTC", TimeInForce.IOC: "IOC", TimeInForce.FOK: "FOK", TimeInForce.POST_ONLY: "GTX"}
BATCH_MAX = 5  # orders in one request (USD-M)
CANCELS_MAX = 10


def spot_order(order: Order) -> dict[str, str | int]:
    """Answers to it are short (ACK): what became of the order comes by report."""
    params: dict[str, str | int] = {
        "symbol": order.symbol,
        "side": _SIDES[order.side],
        "type": _SPOT_TYPES[order.order_type],
    }
    if order.price is not None:
        if order.tif is TimeInForce.POST_ONLY:
            assert order.order_type is OrderType.LIMIT, "only a plain limit order can be post-only on spot"
            params["type"] = "LIMIT_MAKER"
        else:
            params["timeInForce"] = _TIFS[order.tif]
        params["price"] = plain(order.price)
    params["quantity"] = plain(order.qty)
    if order.trigger_price is not None:
        params["stopPrice"] = plain(order.trigger_price)
    params["newClientOrderId"] = order.cid
    params["newOrderRespType"] = "ACK"
    return params


def usdm_order(order: Order) -> dict[str, str | int]:
    """A market or limit order. ACK of a market order says nothing of its fills."""
    assert not order.order_type.conditional, "conditional orders go to the algo service"
    params = _usdm_common(order)
    params["newClientOrderId"] = order.cid
    params["newOrderRespType"] = "ACK"
    return params


def usdm_algo(order: Order, working_type: str = "CONTRACT_PRICE") -> dict[str, str | int]:
    """A conditional order. `working_type`: triggered by the last price, or by MARK_PRICE."""
    assert order.order_type.conditional and order.trigger_price is not None
    params = {"algoType": "CONDITIONAL", **_usdm_common(order)}
    params["triggerPrice"] = plain(order.trigger_price)
    params["workingType"] = working_type
    params["clientAlgoId"] = order.cid
    return params


def _usdm_common(order: Order) -> dict[str, str | int]:
    params: dict[str, str | int] = {
        "symbol": order.symbol,
        "side": _SIDES[order.side],
        "type": _USDM_TYPES[order.order_type],
    }
    if order.price is not None:
        params["timeInForce"] = _TIFS[order.tif]
        params["price"] = plain(order.price)
    params["quantity"] = plain(order.qty)
    if order.reduce_only:
        params["reduceOnly"] = "true"
    return params


def cancel_id(cid: str) -> str:
    """The id of an order's cancel: on spot it takes the order's place, and so must lead back to it."""
    return f"{cid}{CANCELED_MARK}"


def id_of_canceled(cid: str) -> str:
    """The order's own id again."""
    return cid.removesuffix(CANCELED_MARK)


def spot_cancel(symbol: str, cid: str, order_id: str = "") -> dict[str, str | int]:
    params = _named(symbol, cid, order_id)
    return {**params, "newClientOrderId": cancel_id(cid)} if cid else params


def spot_cancel_replace(standing_cid: str, order: Order) -> dict[str, str | int]:
    """The new order only if the old one was still there to be cancelled: never both."""
    return {
        **spot_order(order),
        "cancelReplaceMode": "STOP_ON_FAILURE",
        "cancelOrigClientOrderId": standing_cid,
        "cancelNewClientOrderId": cancel_id(standing_cid),
        "orderRateLimitExceededMode": "DO_NOTHING",
    }


def spot_amend(symbol: str, cid: str, qty: Decimal) -> dict[str, str | int]:
    """To a smaller quantity, in its place in the queue. Without the id said again it would get another."""
    return {"symbol": symbol, "origClientOrderId": cid, "newQty": plain(qty), "newClientOrderId": cid}


def usdm_modify(symbol: str, cid: str, side: Side, qty: Decimal, price: Decimal) -> dict[str, str | int]:
    """Limit orders only; quantity and price are both absolute, so that saying it twice does no harm."""
    return {
        "symbol": symbol,
        "side": _SIDES[side],
        "origClientOrderId": cid,
        "quantity": plain(qty),
        "price": plain(price),
    }


def usdm_batch(orders: Sequence[Order]) -> dict[str, str | int]:
    assert 0 < len(orders) <= BATCH_MAX, f"{len(orders)} orders in one batch"
    return {"batchOrders": json.dumps([usdm_order(order) for order in orders], separators=(",", ":"))}


def usdm_batch_cancel(symbol: str, cids: Sequence[str]) -> dict[str, str | int]:
    assert 0 < len(cids) <= CANCELS_MAX, f"{len(cids)} cancels in one batch"
    return {"symbol": symbol, "origClientOrderIdList": json.dumps(list(cids), separators=(",", ":"))}


def named(symbol: str, cid: str, order_id: str = "") -> Params:
    """One order, by the venue's number where it is known (spot lets a client id pass to the order's cancel)."""
    return _named(symbol, cid, order_id)


def _named(symbol: str, cid: str, order_id: str) -> dict[str, str | int]:
    if order_id:
        return {"symbol": symbol, "orderId": int(order_id)}
    return {"symbol": symbol, "origClientOrderId": cid}
