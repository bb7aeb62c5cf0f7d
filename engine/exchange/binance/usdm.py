"""Trading and asking on USD-M futures: what /fapi and the WebSocket API do."""

import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from engine.core.messages import (
    ZERO,
    FillReport,
    FundingReport,
    OrderType,
    Rejection,
    Side,
    TimeInForce,
    TransferReport,
)
from engine.core.money import plain
from engine.exchange.binance.caller import (
    SIDES,
    Caller,
    Row,
    check_known,
    choice,
    count_open,
    limit_of,
    of_symbol,
    trades,
    within,
)
from engine.exchange.binance.codes import Refused, check_filters, missing, refused
from engine.exchange.binance.rows import trade_id
from engine.exchange.binance.usdm_rows import (
    ALGO_BASE,
    algo_row,
    asset_rows,
    is_algo,
    order_row,
    position_row,
    symbol_row,
    trade_row,
)
from engine.exchange.house import Listing, Record
from engine.exchange.params import Malformed, Params, flag, json_list, number, whole, word
from engine.market.orders import OrderRequest

_ID = re.compile(r"[.A-Z:/a-z0-9_-]{1,36}")
_TYPES = {"LIMIT": OrderType.LIMIT, "MARKET": OrderType.MARKET}
_ALGO_TYPES = {
    "STOP": OrderType.STOP_LIMIT,
    "STOP_MARKET": OrderType.STOP_MARKET,
    "TAKE_PROFIT": OrderType.TAKE_PROFIT_LIMIT,
    "TAKE_PROFIT_MARKET": OrderType.TAKE_PROFIT_MARKET,
}
_TIFS = {
    "GTC": TimeInForce.GTC,
    "IOC": TimeInForce.IOC,
    "FOK": TimeInForce.FOK,
    "GTX": TimeInForce.POST_ONLY,
    "GTE_GTC": TimeInForce.GTC,
}
_BATCH_MAX = 5
_ALGOS_MAX = 200
_ORDERS_MAX = 200  # open, per symbol
_BAND_UP, _BAND_DOWN = Decimal("1.05"), Decimal("0.95")
_KNOWN = frozenset(
    (
        *("symbol", "side", "positionSide", "type", "timeInForce", "quantity", "reduceOnly", "price"),
        *("newClientOrderId", "newOrderRespType", "priceMatch", "selfTradePreventionMode", "goodTillDate"),
        *("stopPrice", "closePosition", "activationPrice", "callbackRate", "workingType", "priceProtect"),
    )
)


# ------------------------------------------------------------------------------------------------------------ orders


def place(caller: Caller, params: Params) -> Row:
    record = _placed(caller, params)
    return order_row(record, with_average=False) | _acknowledged(params)


def place_test(caller: Caller, params: Params) -> Row:
    _request(caller, params)
    return {}


def place_many(caller: Caller, params: Params) -> list[Row]:
    items = json_list(params, "batchOrders")
    if not items or len(items) > _BATCH_MAX or not all(isinstance(item, dict) for item in items):
        raise Refused(-4082, f"Invalid batch place order size. Max {_BATCH_MAX}.")
    return [_item(place, caller, item) for item in items]


def modify(caller: Caller, params: Params) -> Row:
    record = _order(caller, params, UNFINDABLE_ORDER)
    price, qty = number(params, "price"), number(params, "quantity")
    if price is None or qty is None:
        raise missing("price" if price is None else "quantity")
    request = record.order.request
    if request.order_type is not OrderType.LIMIT:
        raise Refused(-5025, "Only limit order is supported.")
    if price == request.price and qty == request.qty:
        raise Refused(-5027, "No need to modify the order.")
    if not record.open:
        raise Refused(-2011, "Unknown order sent.")
    if qty <= record.order.filled_qty:
        caller.member.cancel(record, caller.now_ns)
        return order_row(record, with_average=False)
    check_filters("linear", record.listing.instrument, msgspec.structs.replace(request, price=price, qty=qty))
    refusal = caller.member.amend(record, caller.now_ns, qty, price)
    if refusal is not None:
        raise refused("linear", refusal)
    return order_row(record, with_average=False)


def cancel(caller: Caller, params: Params) -> Row:
    record = _order(caller, params, UNKNOWN_ORDER)
    if not record.open or caller.member.cancel(record, caller.now_ns) is not None:
        raise Refused(-2011, "Unknown order sent.")
    return order_row(record, with_average=False)


def cancel_many(caller: Caller, params: Params) -> list[Row]:
    named, numbered = json_list(params, "origClientOrderIdList"), json_list(params, "orderIdList")
    asked = [{"orderId": one} for one in numbered] + [{"origClientOrderId": one} for one in named]
    if not 0 < len(asked) <= 10:
        raise Refused(-4032, "Exceed the maximum number of orders to cancel.")
    return [_item(cancel, caller, {"symbol": word(params, "symbol"), **one}) for one in asked]


def cancel_all(caller: Caller, params: Params) -> Row:
    listing = caller.listing(params)
    for record in list(caller.member.open_records()):
        if record.listing is listing and not _hidden(record):
            caller.member.cancel(record, caller.now_ns)
    return {"code": 200, "msg": "The operation of cancel all open order is done."}


def order(caller: Caller, params: Params) -> Row:
    return order_row(_order(caller, params, UNFINDABLE_ORDER), with_average=True)


def open_order(caller: Caller, params: Params) -> Row:
    record = _order(caller, params, UNFINDABLE_ORDER)
    if not record.open:
        raise Refused(-2013, "Order does not exist.")
    return order_row(record, with_average=True)


def open_orders(caller: Caller, params: Params) -> list[Row]:
    found = of_symbol(caller, params, caller.member.open_records())
    return [order_row(record, with_average=True) for record in found if not _hidden(record)]


def all_orders(caller: Caller, params: Params) -> list[Row]:
    least = whole(params, "orderId") or 0
    found = [
        record
        for record in of_symbol(caller, params, caller.member.records.values())
        if not _hidden(record) and record.serial >= least and within(params, record) and _kept(caller, record)
    ]
    limit = limit_of(params, 500, 1000)
    return [order_row(record, with_average=True) for record in (found[:limit] if least else found[-limit:])]


def user_trades(caller: Caller, params: Params) -> list[Row]:
    listing = caller.listing(params) if word(params, "symbol") else None
    timed = whole(params, "fromId") is None  # else the times mean nothing
    start, end = (whole(params, "startTime"), whole(params, "endTime")) if timed else (None, None)
    return [trade_row(record, fill) for record, fill in trades(caller, params, listing, start, end)]


# -------------------------------------------------------------------------------------------------------- algo orders


def algo_place(caller: Caller, params: Params) -> Row:
    if word(params, "algoType") != "CONDITIONAL":
        raise Refused(-1102, "Mandatory parameter 'algoType' was not sent, was empty/null, or malformed.")
    listing, kind = caller.listing(params), choice(params, "type", _ALGO_TYPES, -1116)
    side, trigger = choice(params, "side", SIDES, -1117), number(params, "triggerPrice")
    if trigger is None:
        raise missing("triggerPrice")
    if sum(map(_hidden, caller.member.open_records())) >= _ALGOS_MAX:
        raise Refused(-4045, "Reach max stop order limit.")
    whole_position = flag(params, "closePosition")
    price, qty = number(params, "price"), number(params, "quantity")
    if whole_position and (qty is not None or flag(params, "reduceOnly")):
        raise Refused(-1106, "Parameter 'quantity' or 'reduceOnly' sent when not required.")
    if qty is None and not whole_position:
        raise missing("quantity")
    _one_way(params)
    tif = choice(params, "timeInForce", _TIFS, -1115, "GTC")
    market = kind in (OrderType.STOP_MARKET, OrderType.TAKE_PROFIT_MARKET)
    request = OrderRequest(
        symbol=listing.instrument.symbol,
        cid="",
        side=side,
        order_type=kind,
        qty=listing.instrument.qty_max if qty is None else qty,
        price=None if market else price,
        trigger_price=trigger,
        tif=TimeInForce.GTC if market else tif,
        reduce_only=whole_position or flag(params, "reduceOnly"),
    )
    if not market and price is None:
        raise missing("price")
    check_filters("linear", listing.instrument, request)
    marks = {
        "closePosition": whole_position,
        "workingType": word(params, "workingType", "CONTRACT_PRICE"),
        "priceProtect": flag(params, "priceProtect"),
        "tif": word(params, "timeInForce", "GTC"),
    }
    placed = caller.member.place(request, caller.now_ns, _given(caller, params, "clientAlgoId"), marks)
    if isinstance(placed, Rejection):
        raise refused("linear", placed)
    return algo_row(placed)


def algo_cancel(caller: Caller, params: Params) -> Row:
    record = _algo(caller, params)
    if record is None or not record.open or record.triggered:
        raise Refused(-2011, "Unknown order sent.")
    caller.member.cancel(record, caller.now_ns)
    row = {"algoId": ALGO_BASE + record.serial, "clientAlgoId": record.given}
    return row | {"code": "200", "msg": "success"}


def algo_cancel_all(caller: Caller, params: Params) -> Row:
    listing = caller.listing(params)
    for record in list(caller.member.open_records()):
        if record.listing is listing and _hidden(record):
            caller.member.cancel(record, caller.now_ns)
    return {"code": 200, "msg": "The operation of cancel all open order is done."}


def algo_order(caller: Caller, params: Params) -> Row:
    record = _algo(caller, params)
    if record is None or not _found(caller, record):
        raise Refused(-2013, "Order does not exist.")
    return algo_row(record)


def open_algo_orders(caller: Caller, params: Params) -> list[Row]:
    found = of_symbol(caller, params, caller.member.open_records())
    return [algo_row(record) for record in found if _hidden(record)]


def all_algo_orders(caller: Caller, params: Params) -> list[Row]:
    found = of_symbol(caller, params, caller.member.records.values())
    rows = [algo_row(record) for record in found if is_algo(record) and within(params, record)]
    return rows[-limit_of(params, 500, 1000) :]


# ------------------------------------------------------------------------------------------------------------ account


def account(caller: Caller, params: Params) -> Row:
    assets = asset_rows(caller.member, caller.screens)
    total: Callable[[str], str] = lambda name: plain(  # noqa: E731
        sum((Decimal(row[name]) for row in assets if row["asset"] == "USDT"), ZERO)
    )
    held = [
        listing for listing in caller.member.listings.values() if caller.member.matching.account.qty(_inner(listing))
    ]
    names = ("symbol", "positionSide", "positionAmt", "isolatedMargin", "notional", "isolatedWallet", "initialMargin")
    positions = []
    for listing in held:
        row = position_row(caller.member, listing, caller.screens, legacy=True)
        kept = {name: row[name] for name in (*names, "maintMargin", "updateTime", "entryPrice", "leverage")}
        positions.append(kept | {"unrealizedProfit": row["unRealizedProfit"], "isolated": False})
    return {
        "feeTier": 0,
        "canTrade": True,
        "canDeposit": False,
        "canWithdraw": False,
        "multiAssetsMargin": False,
        "updateTime": 0,
        "totalInitialMargin": total("initialMargin"),
        "totalMaintMargin": total("maintMargin"),
        "totalWalletBalance": total("walletBalance"),
        "totalUnrealizedProfit": total("unrealizedProfit"),
        "totalMarginBalance": total("marginBalance"),
        "totalPositionInitialMargin": total("positionInitialMargin"),
        "totalOpenOrderInitialMargin": total("openOrderInitialMargin"),
        "totalCrossWalletBalance": total("crossWalletBalance"),
        "totalCrossUnPnl": total("crossUnPnl"),
        "availableBalance": total("availableBalance"),
        "maxWithdrawAmount": total("maxWithdrawAmount"),
        "assets": assets,
        "positions": positions,
    }


def balance(caller: Caller, params: Params) -> list[Row]:
    names = ("asset", "crossWalletBalance", "crossUnPnl", "availableBalance", "maxWithdrawAmount", "marginAvailable")
    return [
        {"accountAlias": "local", "balance": row["walletBalance"], "updateTime": row["updateTime"]}
        | {name: row[name] for name in names}
        for row in asset_rows(caller.member, caller.screens)
    ]


def position_risk(caller: Caller, params: Params) -> list[Row]:
    """Version 3: only symbols with a position or open orders."""
    return _positions(caller, params, legacy=False)


def position_risk_2(caller: Caller, params: Params) -> list[Row]:
    return _positions(caller, params, legacy=True)


def set_leverage(caller: Caller, params: Params) -> Row:
    listing, leverage = caller.listing(params), number(params, "leverage")
    if leverage is None or not 1 <= leverage <= listing.instrument.leverage_max or leverage % 1:
        raise Refused(-4028, f"Leverage {leverage} is not valid")
    caller.member.matching.account.set_leverage(_inner(listing), leverage)
    return {"leverage": int(leverage), "maxNotionalValue": "100000000", "symbol": listing.symbol}


def margin_type(caller: Caller, params: Params) -> Row:
    caller.listing(params)
    if word(params, "marginType") in ("CROSSED", "CROSS"):
        raise Refused(-4046, "No need to change margin type.")
    raise Refused(-4047, "Margin type cannot be changed: only cross margin is offered by this exchange.")


def position_mode(caller: Caller, params: Params) -> Row:
    return {"dualSidePosition": False}


def set_position_mode(caller: Caller, params: Params) -> Row:
    if not flag(params, "dualSidePosition"):
        raise Refused(-4059, "No need to change position side.")
    raise Refused(-4067, "Position side cannot be changed: only the one-way mode is offered by this exchange.")


def assets_mode(caller: Caller, params: Params) -> Row:
    return {"multiAssetsMargin": False}


def set_assets_mode(caller: Caller, params: Params) -> Row:
    if not flag(params, "multiAssetsMargin"):
        raise Refused(-4171, "No need to change asset mode.")
    raise Refused(-4167, "Asset mode cannot be changed: only the single-asset mode is offered by this exchange.")


def account_config(caller: Caller, params: Params) -> Row:
    return {
        "feeTier": 0,
        "canTrade": bool(caller.key and caller.key.trade),
        "canDeposit": False,
        "canWithdraw": bool(caller.key and caller.key.withdraw),
        "dualSidePosition": False,
        "updateTime": 0,
        "multiAssetsMargin": False,
        "tradeGroupId": -1,
    }


def symbol_config(caller: Caller, params: Params) -> list[Row]:
    return [
        {
            "symbol": listing.symbol,
            "marginType": "CROSSED",
            "isAutoAddMargin": False,
            "leverage": int(caller.member.matching.account.leverage(listing.instrument)),
            "maxNotionalValue": "100000000",
        }
        for listing in caller.member.listings.values()
        if word(params, "symbol") in ("", listing.symbol)
    ]


def leverage_bracket(caller: Caller, params: Params) -> list[Row]:
    return [
        {
            "symbol": listing.symbol,
            "notionalCoef": "1.0",
            "brackets": [
                {
                    "bracket": 1,
                    "initialLeverage": int(listing.instrument.leverage_max),
                    "notionalCap": 100_000_000,
                    "notionalFloor": 0,
                    "maintMarginRatio": 0.005,
                    "cum": 0.0,
                }
            ],
        }
        for listing in caller.member.listings.values()
        if word(params, "symbol") in ("", listing.symbol)
    ]


def commission_rate(caller: Caller, params: Params) -> Row:
    listing, fees = caller.listing(params), caller.member.matching.account
    return {
        "symbol": listing.symbol,
        "makerCommissionRate": plain(fees.fee_rate(listing.instrument, maker=True)),
        "takerCommissionRate": plain(fees.fee_rate(listing.instrument, maker=False)),
        "rpiCommissionRate": "0",
    }


def income(caller: Caller, params: Params) -> list[Row]:
    """Realised profit, commissions, funding and transfers, oldest first."""
    rows = [row for report in caller.member.matching.executions for row in _incomes(caller, report)]
    rows += map(_transfer, caller.member.transfers)
    rows.sort(key=lambda row: row["time"])
    kind, symbol = word(params, "incomeType"), word(params, "symbol")
    start, end = whole(params, "startTime"), whole(params, "endTime")
    chosen = [
        row
        for row in rows
        if kind in ("", row["incomeType"])
        and symbol in ("", row["symbol"])
        and (start is None or row["time"] >= start)
        and (end is None or row["time"] <= end)
    ]
    return chosen[-limit_of(params, 100, 1000) :]


def countdown(caller: Caller, params: Params) -> Row:
    """Cancel the symbol's orders (not its algo orders) unless called again in time; 0 switches it off."""
    symbol, wait_ms = caller.listing(params).symbol, whole(params, "countdownTime")
    if wait_ms is None or wait_ms < 0:
        raise missing("countdownTime")
    name = (caller.member.name, symbol)
    caller.face.countdowns.pop(name, None)
    if wait_ms:
        caller.face.countdowns[name] = caller.now_ns + wait_ms * 1_000_000
    return {"symbol": symbol, "countdownTime": str(wait_ms)}


def exchange_info(caller: Caller, params: Params) -> Row:
    screens = caller.screens.in_category("linear")
    assets = dict.fromkeys(screen.listing.instrument.quote for screen in screens)
    return {
        "timezone": "UTC",
        "serverTime": caller.now_ms,
        "futuresType": "U_MARGINED",
        "rateLimits": caller.face.rate_limits(),
        "exchangeFilters": [],
        "assets": [{"asset": asset, "marginAvailable": True, "autoAssetExchange": "0"} for asset in assets],
        "symbols": [symbol_row(screen.listing) for screen in screens],
    }


# ------------------------------------------------------------------------------------------------------------- inside

UNKNOWN_ORDER = Refused(-2011, "Unknown order sent.")
UNFINDABLE_ORDER = Refused(-2013, "Order does not exist.")


def _request(caller: Caller, params: Params) -> tuple[OrderRequest, dict[str, Any]]:
    check_known(params, _KNOWN)
    listing = caller.listing(params)
    text = word(params, "type")
    if text in _ALGO_TYPES or text == "TRAILING_STOP_MARKET":
        raise Refused(-4120, "Order type not supported for this endpoint. Please use the Algo Order API endpoints.")
    kind, side = choice(params, "type", _TYPES, -1116), choice(params, "side", SIDES, -1117)
    _one_way(params)
    price, qty = number(params, "price"), number(params, "quantity")
    if qty is None:
        raise missing("quantity")
    if kind is OrderType.LIMIT and price is None:
        raise missing("price")
    if kind is OrderType.MARKET and (price is not None or word(params, "timeInForce")):
        raise Refused(-1106, "Parameter 'price' or 'timeInForce' sent when not required.")
    if word(params, "priceMatch") not in ("", "NONE"):
        raise Refused(-5038, "priceMatch is not offered by this exchange.")
    tif = choice(params, "timeInForce", _TIFS, -1115) if kind is OrderType.LIMIT else TimeInForce.GTC
    request = OrderRequest(
        symbol=_inner(listing),
        cid="",
        side=side,
        order_type=kind,
        qty=qty,
        price=price,
        tif=tif,
        reduce_only=flag(params, "reduceOnly"),
    )
    check_filters("linear", listing.instrument, request)
    _check_band(caller, listing, request)
    if tif is TimeInForce.FOK and caller.member.matching.fillable(request) < qty:
        raise Refused(-5021, "Due to the order could not be filled immediately, the FOK order has been rejected.")
    return request, {}


def _check_band(caller: Caller, listing: Listing, r: OrderRequest) -> None:
    """PERCENT_PRICE is one-sided: nobody may pay far more, or take far less, than the mark."""
    mark = caller.screens.mark(listing)
    if r.price is None or not mark:
        return
    if r.side is Side.BUY and r.price > mark * _BAND_UP:
        raise Refused(-4016, f"Limit price can't be higher than {plain(mark * _BAND_UP)}.")
    if r.side is Side.SELL and r.price < mark * _BAND_DOWN:
        raise Refused(-4024, f"Limit price can't be lower than {plain(mark * _BAND_DOWN)}.")


def _placed(caller: Caller, params: Params) -> Record:
    request, marks = _request(caller, params)
    if count_open(caller, request.symbol) >= _ORDERS_MAX:
        raise Refused(-2025, "Reach max open order limit.")
    placed = caller.member.place(request, caller.now_ns, _given(caller, params, "newClientOrderId"), marks)
    if isinstance(placed, Rejection):
        raise refused("linear", placed)
    return placed


def _acknowledged(params: Params) -> Row:
    """An ACK says only that the order is there."""
    kind = word(params, "newOrderRespType", "ACK")
    if kind not in ("ACK", "RESULT"):
        raise Refused(-1136, "Invalid newOrderRespType.")
    return {} if kind == "RESULT" else {"status": "NEW", "executedQty": "0", "cumQty": "0"}


def _one_way(params: Params) -> None:
    if word(params, "positionSide", "BOTH") != "BOTH":
        raise Refused(-4061, "Order's position side does not match user's setting.")


def _given(caller: Caller, params: Params, name: str) -> str:
    given = word(params, name)
    if not given:
        return f"auto-{caller.face.number()}"
    if len(given) > 36:
        raise Refused(-4015, "Client order id length should not be more than 36 chars")
    if not _ID.fullmatch(given):
        raise Refused(-1100, f"Illegal characters found in parameter '{name}'.")
    return given


def _order(caller: Caller, params: Params, otherwise: Refused) -> Record:
    """A normal order, or the child of an algo that was triggered. Raises `otherwise`."""
    listing, serial = caller.listing(params), whole(params, "orderId")
    given = word(params, "origClientOrderId")
    if serial is None and not given:
        raise Refused(-1102, "Either 'origClientOrderId' or 'orderId' must be sent.")
    record = caller.member.find("linear", serial, given)
    if record is None or record.listing is not listing or _hidden(record) or not _found(caller, record):
        raise Refused(otherwise.code, otherwise.text)
    return record


def _algo(caller: Caller, params: Params) -> Record | None:
    number_, given = whole(params, "algoId"), word(params, "clientAlgoId")
    if number_ is None and not given:
        raise Refused(-1102, "Either 'algoId' or 'clientAlgoId' must be sent.")
    record = caller.member.find("linear", None if number_ is None else number_ - ALGO_BASE, given)
    return record if record is not None and is_algo(record) else None


def _hidden(record: Record) -> bool:
    """An algo that was not triggered is no order."""
    return is_algo(record) and not record.order.triggered


def _found(caller: Caller, record: Record) -> bool:
    return caller.member.shows(record, caller.now_ns) and _kept(caller, record)


def _kept(caller: Caller, record: Record) -> bool:
    return caller.member.remembers(record, caller.now_ns)


def _item(one: Callable[[Caller, Params], Row], caller: Caller, params: Params) -> Row:
    try:
        return one(caller, params)
    except Refused as refusal:
        return {"code": refusal.code, "msg": refusal.text}
    except Malformed as error:
        return {"code": -1102, "msg": str(error)}


def _positions(caller: Caller, params: Params, legacy: bool) -> list[Row]:
    symbol, rows = word(params, "symbol"), []
    busy = {record.listing.symbol for record in caller.member.open_records()}
    for listing in caller.member.listings.values():
        held = caller.member.matching.account.qty(_inner(listing))
        if symbol in ("", listing.symbol) and (legacy or held or listing.symbol in busy):
            rows.append(position_row(caller.member, listing, caller.screens, legacy))
    return rows


def _incomes(caller: Caller, report: FillReport | FundingReport) -> list[Row]:
    listing = caller.member.listings[report.symbol]
    row: Row = {"symbol": listing.symbol, "time": report.venue_ns // 1_000_000, "info": ""}
    if isinstance(report, FundingReport):
        serial = int(report.funding_id[-10:])
        paid = {"incomeType": "FUNDING_FEE", "income": plain(report.amount), "asset": report.asset}
        return [row | paid | {"tranId": serial, "tradeId": ""}]
    record = caller.member.record_of(report)
    ids = {"tranId": trade_id(report), "tradeId": str(trade_id(report))}
    fee = {"incomeType": "COMMISSION", "income": plain(-report.fee), "asset": report.fee_asset}
    realised = record.realised.get(report.exec_id, ZERO) if record else ZERO
    rows = [row | fee | ids]
    if realised:
        gain = {"incomeType": "REALIZED_PNL", "income": plain(realised), "asset": listing.instrument.quote}
        rows.append(row | gain | ids)
    return rows


def _transfer(report: TransferReport) -> Row:
    row: Row = {"symbol": "", "incomeType": "TRANSFER", "income": plain(report.amount), "asset": report.asset}
    return row | {
        "info": "TRANSFER",
        "time": report.venue_ns // 1_000_000,
        "tranId": int(report.transfer_id),
        "tradeId": "",
    }


def _inner(listing: Listing) -> str:
    return listing.instrument.symbol
