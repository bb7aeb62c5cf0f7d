"""Orders, algo orders, trades, positions and balances as USD-M futures show them."""

from decimal import Decimal

from engine.core.messages import ZERO, FillReport, OrderReport, OrderType, TimeInForce
from engine.core.money import plain
from engine.exchange.binance.caller import Row
from engine.exchange.binance.rows import status, trade_id
from engine.exchange.house import Listing, Member, Record
from engine.exchange.screen import Screens

ALGO_BASE = 4_000_000_000  # algo ids are another space than order ids
TIFS = {
    TimeInForce.GTC: "GTC",
    TimeInForce.IOC: "IOC",
    TimeInForce.FOK: "FOK",
    TimeInForce.POST_ONLY: "GTX",
}
TYPES = {
    OrderType.MARKET: "MARKET",
    OrderType.LIMIT: "LIMIT",
    OrderType.STOP_MARKET: "STOP_MARKET",
    OrderType.STOP_LIMIT: "STOP",
    OrderType.TAKE_PROFIT_MARKET: "TAKE_PROFIT_MARKET",
    OrderType.TAKE_PROFIT_LIMIT: "TAKE_PROFIT",
}


def is_algo(record: Record) -> bool:
    """A conditional order; until its trigger it is not among the orders."""
    return record.order.request.order_type.conditional


def client_id(record: Record) -> str:
    return f"autoclose-{record.serial}" if record.marks.get("liquidation") else record.given


def order_row(record: Record, with_average: bool) -> Row:
    """A normal order. Answers to its placing have lost the average price (since July 2026), queries have it."""
    order, request, marks = record.order, record.order.request, record.marks
    kind = TYPES[request.order_type]
    executed = "LIMIT" if request.price is not None else "MARKET"
    row: Row = {
        "orderId": record.serial,
        "symbol": record.listing.symbol,
        "status": status(order.report()),
        "clientOrderId": client_id(record),
        "price": plain(request.price or ZERO),
        "origQty": plain(request.qty),
        "executedQty": plain(order.filled_qty),
        "cumQty": plain(order.filled_qty),
        "timeInForce": TIFS[request.tif],
        "type": executed,
        "reduceOnly": request.reduce_only,
        "closePosition": bool(marks.get("closePosition")),
        "side": request.side.name,
        "positionSide": "BOTH",
        "stopPrice": plain(request.trigger_price or ZERO),
        "workingType": marks.get("workingType", "CONTRACT_PRICE"),
        "priceProtect": False,
        "origType": kind,
        "priceMatch": "NONE",
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "goodTillDate": 0,
        "updateTime": order.updated_ns // 1_000_000,
    }
    if not with_average:
        return row
    average = {"avgPrice": plain(round(record.average, 8)), "cumQuote": plain(record.value)}
    return row | average | {"time": order.accepted_ns // 1_000_000}


def algo_status(record: Record, report: OrderReport) -> str:
    if report.reason.startswith("110"):
        return "REJECTED"  # the margin was gone when it was triggered
    if record.triggered:
        return "TRIGGERED" if report.status == "open" else "FINISHED"
    if report.status == "open":
        return "NEW"
    return {"CANCELED": "CANCELED", "EXPIRED": "EXPIRED"}.get(status(report), "REJECTED")


def algo_row(record: Record) -> Row:
    order, request, marks = record.order, record.order.request, record.marks
    whole = bool(marks.get("closePosition"))
    triggered_ms = order.updated_ns // 1_000_000 if order.triggered else 0
    return {
        "algoId": ALGO_BASE + record.serial,
        "clientAlgoId": record.given,
        "algoType": "CONDITIONAL",
        "orderType": TYPES[request.order_type],
        "symbol": record.listing.symbol,
        "side": request.side.name,
        "positionSide": "BOTH",
        "timeInForce": marks.get("tif", TIFS[request.tif]),
        "quantity": "0" if whole else plain(request.qty),
        "algoStatus": algo_status(record, order.report()),
        "actualOrderId": str(record.serial) if order.triggered else "",
        "actualPrice": plain(round(record.average, 8)),
        "triggerPrice": plain(request.trigger_price or ZERO),
        "price": plain(request.price or ZERO),
        "icebergQuantity": None,
        "tpTriggerPrice": "0",
        "tpPrice": "0",
        "slTriggerPrice": "0",
        "slPrice": "0",
        "tpOrderType": "",
        "selfTradePreventionMode": "EXPIRE_MAKER",
        "workingType": marks.get("workingType", "CONTRACT_PRICE"),
        "priceMatch": "NONE",
        "closePosition": whole,
        "priceProtect": bool(marks.get("priceProtect")),
        "reduceOnly": request.reduce_only,
        "createTime": order.accepted_ns // 1_000_000,
        "updateTime": order.updated_ns // 1_000_000,
        "triggerTime": triggered_ms,
        "goodTillDate": 0,
    }


def trade_row(record: Record, fill: FillReport) -> Row:
    buyer = record.order.request.side.name == "BUY"
    return {
        "symbol": record.listing.symbol,
        "id": trade_id(fill),
        "orderId": record.serial,
        "side": fill.side.name,
        "price": plain(fill.price),
        "qty": plain(fill.qty),
        "realizedPnl": plain(record.realised.get(fill.exec_id, ZERO)),
        "quoteQty": plain(fill.qty * fill.price),
        "commission": plain(fill.fee),
        "commissionAsset": fill.fee_asset,
        "time": fill.venue_ns // 1_000_000,
        "positionSide": "BOTH",
        "buyer": buyer,
        "maker": fill.maker,
    }


def position_row(member: Member, listing: Listing, screens: Screens, legacy: bool) -> Row:
    """`legacy` is version 2, which tells leverage and margin type too."""
    account, inner = member.matching.account, listing.instrument
    holding = account.wallets.holdings.get(inner.symbol)
    qty, cost = (holding.qty, holding.cost) if holding else (ZERO, ZERO)
    mark = screens.mark(listing)
    entry = plain(round(abs(cost / qty), 8)) if qty else "0.0"
    margin = account.margin(inner, cost) if qty else ZERO
    row: Row = {
        "symbol": listing.symbol,
        "positionSide": "BOTH",
        "positionAmt": plain(qty),
        "entryPrice": entry,
        "breakEvenPrice": entry,
        "markPrice": plain(mark),
        "unRealizedProfit": plain(qty * mark - cost),
        "liquidationPrice": "0",
        "isolatedMargin": "0",
        "notional": plain(qty * mark),
        "marginAsset": inner.quote,
        "isolatedWallet": "0",
        "initialMargin": plain(margin),
        "maintMargin": plain(margin / 2),
        "positionInitialMargin": plain(margin),
        "openOrderInitialMargin": "0",
        "adl": 1,
        "bidNotional": "0",
        "askNotional": "0",
        "updateTime": member.matching.now_ns // 1_000_000 if holding else 0,
    }
    if not legacy:
        return row
    config = {"leverage": plain(account.leverage(inner)), "marginType": "cross", "isAutoAddMargin": "false"}
    return row | config | {"maxNotionalValue": "100000000", "isolated": False}


def unrealised(member: Member, screens: Screens) -> dict[str, Decimal]:
    """By margin asset."""
    found: dict[str, Decimal] = {}
    for symbol, holding in member.matching.account.wallets.holdings.items():
        listing = member.listings[symbol]
        gain = holding.qty * screens.mark(listing) - holding.cost if holding.qty else ZERO
        found[listing.instrument.quote] = found.get(listing.instrument.quote, ZERO) + gain
    return found


def asset_rows(member: Member, screens: Screens) -> list[Row]:
    gains, rows = unrealised(member, screens), []
    account = member.matching.account
    for balance in member.matching.balances():
        gain = gains.get(balance.asset, ZERO)
        orders = account.locked_by_orders(balance.asset)
        positions = balance.locked - orders
        available = plain(max(ZERO, balance.total + gain - balance.locked))
        rows.append(
            {
                "asset": balance.asset,
                "walletBalance": plain(balance.total),
                "unrealizedProfit": plain(gain),
                "marginBalance": plain(balance.total + gain),
                "maintMargin": plain(positions / 2),
                "initialMargin": plain(balance.locked),
                "positionInitialMargin": plain(positions),
                "openOrderInitialMargin": plain(orders),
                "crossWalletBalance": plain(balance.total),
                "crossUnPnl": plain(gain),
                "availableBalance": available,
                "maxWithdrawAmount": available,
                "marginAvailable": True,
                "updateTime": member.matching.now_ns // 1_000_000,
            }
        )
    return rows


def symbol_row(listing: Listing) -> Row:
    i = listing.instrument
    places = max(0, -int(i.tick.as_tuple().exponent))
    qty_places = max(0, -int(i.lot.as_tuple().exponent))
    size = {"minQty": plain(i.qty_min), "maxQty": plain(i.qty_max), "stepSize": plain(i.lot)}
    return {
        "symbol": listing.symbol,
        "pair": listing.symbol,
        "contractType": "PERPETUAL",
        "deliveryDate": 4133404800000,
        "onboardDate": 1569398400000,
        "status": "TRADING",
        "maintMarginPercent": "2.5000",
        "requiredMarginPercent": "5.0000",
        "baseAsset": i.base,
        "quoteAsset": i.quote,
        "marginAsset": i.quote,
        "pricePrecision": places,
        "quantityPrecision": qty_places,
        "baseAssetPrecision": 8,
        "quotePrecision": 8,
        "underlyingType": "COIN",
        "underlyingSubType": [],
        "triggerProtect": "0.0500",
        "liquidationFee": "0.012500",
        "marketTakeBound": "0.05",
        "filters": [
            {"filterType": "PRICE_FILTER", "minPrice": plain(i.tick), "maxPrice": "4529764", "tickSize": plain(i.tick)},
            {"filterType": "LOT_SIZE", **size},
            {"filterType": "MARKET_LOT_SIZE", **size},
            {"filterType": "MAX_NUM_ORDERS", "limit": 200},
            {"filterType": "MIN_NOTIONAL", "notional": plain(i.notional_min)},
            {
                "filterType": "PERCENT_PRICE",
                "multiplierUp": "1.0500",
                "multiplierDown": "0.9500",
                "multiplierDecimal": "4",
            },
        ],
        "orderTypes": [
            *("LIMIT", "MARKET", "STOP", "STOP_MARKET"),
            *("TAKE_PROFIT", "TAKE_PROFIT_MARKET", "TRAILING_STOP_MARKET"),
        ],
        "timeInForce": ["GTC", "IOC", "FOK", "GTX", "GTD"],
    }
