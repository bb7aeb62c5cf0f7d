"""Orders, trades and balances as Binance Spot shows them. Money is text with eight digits."""

from decimal import Decimal

from engine.core.messages import ZERO, FillReport, OrderReport, OrderType, TimeInForce
from engine.exchange.binance.caller import Row
from engine.exchange.binance.rows import status, trade_id
from engine.exchange.house import Listing, Member, Record

TYPES = {
    OrderType.MARKET: "MARKET",
    OrderType.LIMIT: "LIMIT",
    OrderType.STOP_MARKET: "STOP_LOSS",
    OrderType.STOP_LIMIT: "STOP_LOSS_LIMIT",
    OrderType.TAKE_PROFIT_MARKET: "TAKE_PROFIT",
    OrderType.TAKE_PROFIT_LIMIT: "TAKE_PROFIT_LIMIT",
}
_EXPIRIES = {
    "the rest could not fill at once": "UNFILLED_IOC_QUANTITY_EXPIRED",
    "fill-or-kill could not fill": "UNFILLED_FOK_ORDER_EXPIRED",
}


def eight(number: Decimal) -> str:
    return f"{number:.8f}"


def kind(record: Record) -> str:
    request = record.order.request
    return "LIMIT_MAKER" if request.tif is TimeInForce.POST_ONLY else TYPES[request.order_type]


def tif(record: Record) -> str:
    request = record.order.request
    return "GTC" if request.tif is TimeInForce.POST_ONLY else request.tif.name


def expiry_reason(report: OrderReport) -> str:
    if status(report) != "EXPIRED":
        return ""
    return _EXPIRIES.get(report.reason, "INSUFFICIENT_LIQUIDITY")


def client_id(record: Record) -> str:
    """The id of the cancel takes the place of the order's own."""
    cancel: str = record.marks.get("cancel", "")
    return cancel or record.given


def placed_row(record: Record, detail: str) -> Row:
    """`detail`: ACK, RESULT or FULL."""
    order = record.order
    row: Row = {
        "symbol": record.listing.symbol,
        "orderId": record.serial,
        "orderListId": -1,
        "clientOrderId": record.given,
        "transactTime": order.accepted_ns // 1_000_000,
    }
    if detail == "ACK":
        return row
    row |= _figures(record) | {"workingTime": order.accepted_ns // 1_000_000, "selfTradePreventionMode": "EXPIRE_MAKER"}
    reason = expiry_reason(order.report())
    if reason:
        row["expiryReason"] = reason
    if detail == "RESULT":
        return row
    return row | {
        "fills": [
            {
                "price": eight(fill.price),
                "qty": eight(fill.qty),
                "commission": eight(fill.fee),
                "commissionAsset": fill.fee_asset,
                "tradeId": trade_id(fill),
            }
            for fill in record.fills
        ]
    }


def order_row(record: Record) -> Row:
    order = record.order
    return {
        "symbol": record.listing.symbol,
        "orderId": record.serial,
        "orderListId": -1,
        "clientOrderId": client_id(record),
        **_figures(record),
        "stopPrice": eight(order.request.trigger_price or ZERO),
        "icebergQty": "0.00000000",
        "time": order.accepted_ns // 1_000_000,
        "updateTime": order.updated_ns // 1_000_000,
        "isWorking": order.resting or order.status != "open",
        "workingTime": order.accepted_ns // 1_000_000,
        "selfTradePreventionMode": "EXPIRE_MAKER",
    }


def canceled_row(record: Record) -> Row:
    return {
        "symbol": record.listing.symbol,
        "origClientOrderId": record.given,
        "orderId": record.serial,
        "orderListId": -1,
        "clientOrderId": client_id(record),
        "transactTime": record.order.updated_ns // 1_000_000,
        **_figures(record),
        "selfTradePreventionMode": "EXPIRE_MAKER",
    }


def trade_row(record: Record, fill: FillReport) -> Row:
    return {
        "symbol": record.listing.symbol,
        "id": trade_id(fill),
        "orderId": record.serial,
        "orderListId": -1,
        "price": eight(fill.price),
        "qty": eight(fill.qty),
        "quoteQty": eight(fill.price * fill.qty),
        "commission": eight(fill.fee),
        "commissionAsset": fill.fee_asset,
        "time": fill.venue_ns // 1_000_000,
        "isBuyer": fill.side.name == "BUY",
        "isMaker": fill.maker,
        "isBestMatch": True,
    }


def balance_rows(member: Member, without_zero: bool = False) -> list[Row]:
    return [
        {"asset": b.asset, "free": eight(b.total - b.locked), "locked": eight(b.locked)}
        for b in member.matching.balances()
        if b.total or not without_zero
    ]


def symbol_row(listing: Listing) -> Row:
    i = listing.instrument
    return {
        "symbol": listing.symbol,
        "status": "TRADING",
        "baseAsset": i.base,
        "baseAssetPrecision": 8,
        "quoteAsset": i.quote,
        "quotePrecision": 8,
        "quoteAssetPrecision": 8,
        "baseCommissionPrecision": 8,
        "quoteCommissionPrecision": 8,
        "orderTypes": [*TYPES.values(), "LIMIT_MAKER"],
        "icebergAllowed": False,
        "ocoAllowed": False,
        "otoAllowed": False,
        "opoAllowed": False,
        "quoteOrderQtyMarketAllowed": True,
        "allowTrailingStop": False,
        "cancelReplaceAllowed": True,
        "amendAllowed": True,
        "pegInstructionsAllowed": False,
        "isSpotTradingAllowed": True,
        "isMarginTradingAllowed": False,
        "filters": [
            {
                "filterType": "PRICE_FILTER",
                "minPrice": eight(i.tick),
                "maxPrice": "1000000.00000000",
                "tickSize": eight(i.tick),
            },
            {
                "filterType": "LOT_SIZE",
                "minQty": eight(i.qty_min),
                "maxQty": eight(i.qty_max),
                "stepSize": eight(i.lot),
            },
            {
                "filterType": "NOTIONAL",
                "minNotional": eight(i.notional_min),
                "applyMinToMarket": True,
                "maxNotional": "9000000.00000000",
                "applyMaxToMarket": False,
                "avgPriceMins": 5,
            },
            {"filterType": "MAX_NUM_ORDERS", "maxNumOrders": 200},
        ],
        "permissions": [],
        "permissionSets": [["SPOT"]],
        "defaultSelfTradePreventionMode": "EXPIRE_MAKER",
        "allowedSelfTradePreventionModes": ["EXPIRE_MAKER"],
    }


def _figures(record: Record) -> Row:
    order, request = record.order, record.order.request
    return {
        "price": eight(request.price or ZERO),
        "origQty": eight(request.qty),
        "executedQty": eight(order.filled_qty),
        "origQuoteOrderQty": eight(record.marks.get("quote", ZERO)),
        "cummulativeQuoteQty": eight(record.value),
        "status": status(order.report()),
        "timeInForce": tif(record),
        "type": kind(record),
        "side": request.side.name,
    }
