"""Trading and asking on Spot: what /api/v3 and the WebSocket API do."""

import re
from decimal import Decimal
from typing import Any

from engine.core.messages import OrderType, Rejection, TimeInForce
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
from engine.exchange.binance.rows import status
from engine.exchange.binance.spot_rows import (
    balance_rows,
    canceled_row,
    eight,
    order_row,
    placed_row,
    symbol_row,
    trade_row,
)
from engine.exchange.house import Record
from engine.exchange.params import Params, flag, json_list, number, whole, word
from engine.market.orders import OrderRequest

_ID = re.compile(r"[a-zA-Z0-9_-]{1,36}")
_TYPES = {
    "MARKET": OrderType.MARKET,
    "LIMIT": OrderType.LIMIT,
    "LIMIT_MAKER": OrderType.LIMIT,
    "STOP_LOSS": OrderType.STOP_MARKET,
    "STOP_LOSS_LIMIT": OrderType.STOP_LIMIT,
    "TAKE_PROFIT": OrderType.TAKE_PROFIT_MARKET,
    "TAKE_PROFIT_LIMIT": OrderType.TAKE_PROFIT_LIMIT,
}
_TIFS = {"GTC": TimeInForce.GTC, "IOC": TimeInForce.IOC, "FOK": TimeInForce.FOK}
_ORDERS_MAX = 200  # open, per symbol
_KNOWN = frozenset(
    (
        *("symbol", "side", "type", "timeInForce", "quantity", "quoteOrderQty", "price", "newClientOrderId"),
        *("strategyId", "strategyType", "stopPrice", "trailingDelta", "icebergQty", "newOrderRespType"),
        *("selfTradePreventionMode", "pegPriceType", "pegOffsetType", "pegOffsetValue", "computeCommissionRates"),
        *("cancelReplaceMode", "cancelNewClientOrderId", "cancelOrigClientOrderId", "cancelOrderId"),
        *("cancelRestrictions", "orderRateLimitExceededMode"),
    )
)
_UNOFFERED = ("icebergQty", "trailingDelta", "pegPriceType", "pegOffsetType")


# ------------------------------------------------------------------------------------------------------------ orders


def place(caller: Caller, params: Params) -> Row:
    record = _placed(caller, params)
    plain_kind = word(params, "type") in ("MARKET", "LIMIT")
    detail = word(params, "newOrderRespType") or ("FULL" if plain_kind else "ACK")
    if detail not in ("ACK", "RESULT", "FULL"):
        raise Refused(-1102, "Mandatory parameter 'newOrderRespType' was not sent, was empty/null, or malformed.")
    return placed_row(record, detail)


def place_test(caller: Caller, params: Params) -> Row:
    _request(caller, params)
    return {}


def cancel(caller: Caller, params: Params) -> Row:
    return canceled_row(_canceled(caller, params, word(params, "origClientOrderId"), whole(params, "orderId")))


def cancel_all(caller: Caller, params: Params) -> list[Row]:
    listing = caller.listing(params)
    rows = []
    for record in list(caller.member.open_records()):
        if record.listing is listing:
            record.marks["cancel"] = _made_up(caller)
            caller.member.cancel(record, caller.now_ns)
            rows.append(canceled_row(record))
    if not rows:
        raise Refused(-2011, "Unknown order sent.")
    return rows


def cancel_replace(caller: Caller, params: Params) -> Row:
    """First the cancel, then the new order; what happened to each is told even when one fails."""
    mode = choice(params, "cancelReplaceMode", {"STOP_ON_FAILURE": True, "ALLOW_FAILURE": False}, -1102)
    _request(caller, params)
    answer: Row = {}
    try:
        named = word(params, "cancelOrigClientOrderId")
        record = _canceled(caller, params, named, whole(params, "cancelOrderId"), "cancelNewClientOrderId")
        answer |= {"cancelResult": "SUCCESS", "cancelResponse": canceled_row(record)}
    except Refused as refusal:
        answer |= {"cancelResult": "FAILURE", "cancelResponse": {"code": refusal.code, "msg": refusal.text}}
        if mode:
            answer |= {"newOrderResult": "NOT_ATTEMPTED", "newOrderResponse": None}
            raise Refused(-2022, "Order cancel-replace failed.", 400, answer) from refusal
    try:
        answer |= {"newOrderResult": "SUCCESS", "newOrderResponse": place(caller, params)}
    except Refused as refusal:
        answer |= {"newOrderResult": "FAILURE", "newOrderResponse": {"code": refusal.code, "msg": refusal.text}}
        done = answer["cancelResult"] == "SUCCESS"
        text = "Order cancel-replace partially failed." if done else "Order cancel-replace failed."
        raise Refused(-2021 if done else -2022, text, 409 if done else 400, answer) from refusal
    if answer["cancelResult"] == "FAILURE":
        raise Refused(-2021, "Order cancel-replace partially failed.", 409, answer)
    return answer


def amend(caller: Caller, params: Params) -> Row:
    """Less quantity, the same place in the queue. The client's id changes unless it is sent again."""
    record = _open_one(caller, params, word(params, "origClientOrderId"), whole(params, "orderId"))
    qty = number(params, "newQty")
    if qty is None:
        raise missing("newQty")
    if not record.order.filled_qty < qty < record.order.request.qty:
        raise Refused(-2038, "The requested action would change no state; rejecting.")
    refusal = caller.member.amend(record, caller.now_ns, qty)
    if refusal is not None:
        raise refused("spot", refusal)
    row = order_row(record)
    names = ("symbol", "orderId", "orderListId", "clientOrderId", "price", "executedQty", "status", "timeInForce")
    amended = {name: row[name] for name in (*names, "type", "side", "workingTime", "selfTradePreventionMode")}
    amended |= {"qty": row["origQty"], "origClientOrderId": record.given, "preventedQty": "0.00000000"}
    amended |= {"quoteOrderQty": row["origQuoteOrderQty"], "cumulativeQuoteQty": row["cummulativeQuoteQty"]}
    return {"transactTime": caller.now_ms, "executionId": caller.member.steps, "amendedOrder": amended}


def order(caller: Caller, params: Params) -> Row:
    listing, serial = caller.listing(params), whole(params, "orderId")
    given = word(params, "origClientOrderId")
    if serial is None and not given:
        raise Refused(-1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")
    record = caller.member.find("spot", serial, given)
    if record is None or record.listing is not listing or not caller.member.shows(record, caller.now_ns):
        raise Refused(-2013, "Order does not exist.")
    if not caller.member.remembers(record, caller.now_ns):
        raise Refused(-2026, "Order was canceled or expired with no executed qty over 90 days ago and archived.")
    return order_row(record)


def open_orders(caller: Caller, params: Params) -> list[Row]:
    return [order_row(record) for record in of_symbol(caller, params, caller.member.open_records())]


def all_orders(caller: Caller, params: Params) -> list[Row]:
    caller.listing(params)
    least = whole(params, "orderId") or 0
    found = [
        record
        for record in of_symbol(caller, params, caller.member.records.values())
        if record.serial >= least and within(params, record) and caller.member.remembers(record, caller.now_ns)
    ]
    limit = limit_of(params, 500, 1000)
    return [order_row(record) for record in (found[:limit] if least else found[-limit:])]


def my_trades(caller: Caller, params: Params) -> list[Row]:
    listing, start, end = caller.listing(params), whole(params, "startTime"), whole(params, "endTime")
    return [trade_row(record, fill) for record, fill in trades(caller, params, listing, start, end)]


# ----------------------------------------------------------------------------------------------------------- account


def account(caller: Caller, params: Params) -> Row:
    fees, listing = caller.member.matching.account, next(iter(caller.member.listings.values()))
    maker, taker = (fees.fee_rate(listing.instrument, maker) for maker in (True, False))
    return {
        "makerCommission": int(maker * 10_000),
        "takerCommission": int(taker * 10_000),
        "buyerCommission": 0,
        "sellerCommission": 0,
        "commissionRates": {"maker": eight(maker), "taker": eight(taker), "buyer": eight(_NO), "seller": eight(_NO)},
        "canTrade": bool(caller.key and caller.key.trade),
        "canWithdraw": bool(caller.key and caller.key.withdraw),
        "canDeposit": False,
        "brokered": False,
        "requireSelfTradePrevention": False,
        "preventSor": False,
        "updateTime": caller.member.matching.now_ns // 1_000_000,
        "accountType": "SPOT",
        "balances": balance_rows(caller.member, flag(params, "omitZeroBalances")),
        "permissions": ["SPOT"],
        "uid": 1,
    }


def commission(caller: Caller, params: Params) -> Row:
    listing, fees = caller.listing(params), caller.member.matching.account
    maker, taker = (eight(fees.fee_rate(listing.instrument, maker)) for maker in (True, False))
    nothing = {"maker": eight(_NO), "taker": eight(_NO), "buyer": eight(_NO), "seller": eight(_NO)}
    return {
        "symbol": listing.symbol,
        "standardCommission": nothing | {"maker": maker, "taker": taker},
        "specialCommission": nothing,
        "taxCommission": nothing,
        "discount": {"enabledForAccount": False, "enabledForSymbol": False, "discountAsset": "BNB", "discount": "0"},
    }


def restrictions(caller: Caller, params: Params) -> Row:
    """/sapi/v1/account/apiRestrictions: what the key may do."""
    assert caller.key is not None
    return {
        "ipRestrict": False,
        "createTime": 1_600_000_000_000,
        "enableReading": True,
        "enableWithdrawals": caller.key.withdraw,
        "enableInternalTransfer": caller.key.withdraw,
        "enableMargin": False,
        "enableFutures": caller.key.trade,
        "permitsUniversalTransfer": False,
        "enableVanillaOptions": False,
        "enableFixApiTrade": False,
        "enableFixReadOnly": False,
        "enableSpotAndMarginTrading": caller.key.trade,
        "enablePortfolioMarginTrading": False,
    }


def exchange_info(caller: Caller, params: Params) -> Row:
    screens = caller.screens.in_category("spot")
    wanted = [word(params, "symbol")] if word(params, "symbol") else json_list(params, "symbols")
    rows = [symbol_row(s.listing) for s in screens if not wanted or s.listing.symbol in wanted]
    if wanted and len(rows) != len(wanted):
        raise Refused(-1121, "Invalid symbol.")
    return {
        "timezone": "UTC",
        "serverTime": caller.now_ms,
        "rateLimits": caller.face.rate_limits(),
        "exchangeFilters": [],
        "symbols": rows,
        "sors": [],
    }


# ------------------------------------------------------------------------------------------------------------ inside

_NO = Decimal(0)


def _request(caller: Caller, params: Params) -> tuple[OrderRequest, dict[str, Any]]:
    check_known(params, _KNOWN)
    listing, kind = caller.listing(params), choice(params, "type", _TYPES, -1116)
    side, named = choice(params, "side", SIDES, -1117), word(params, "type")
    for name in _UNOFFERED:
        if word(params, name):
            raise Refused(-1106, f"Parameter '{name}' sent when not required.")
    price, qty, quote = (number(params, name) for name in ("price", "quantity", "quoteOrderQty"))
    trigger, limit = number(params, "stopPrice"), named.endswith(("LIMIT", "LIMIT_MAKER"))
    if limit and price is None:
        raise missing("price")
    if not limit and price is not None:
        raise Refused(-1106, "Parameter 'price' sent when not required.")
    if kind.conditional and trigger is None:
        raise missing("stopPrice")
    if trigger is not None and not kind.conditional:
        raise Refused(-1106, "Parameter 'stopPrice' sent when not required.")
    marks: dict[str, Any] = {}
    if qty is None and quote is not None and named == "MARKET":
        marks["quote"] = quote
        qty = caller.member.matching.affordable(listing.instrument.symbol, side, quote)
    if qty is None:
        raise missing("quantity")
    given_tif = word(params, "timeInForce")
    if named == "LIMIT_MAKER" or not limit:
        if given_tif:
            raise Refused(-1106, "Parameter 'timeInForce' sent when not required.")
        tif = TimeInForce.POST_ONLY if limit else TimeInForce.GTC
    else:
        tif = choice(params, "timeInForce", _TIFS, -1115)
    request = OrderRequest(
        symbol=listing.instrument.symbol,
        cid="",
        side=side,
        order_type=kind,
        qty=qty,
        price=price,
        trigger_price=trigger,
        tif=tif,
    )
    check_filters("spot", listing.instrument, request)
    return request, marks


def _placed(caller: Caller, params: Params) -> Record:
    request, marks = _request(caller, params)
    if count_open(caller, request.symbol) >= _ORDERS_MAX:
        raise Refused(-1013, "Filter failure: MAX_NUM_ORDERS")
    placed = caller.member.place(request, caller.now_ns, _given(caller, params, "newClientOrderId"), marks)
    if isinstance(placed, Rejection):
        raise refused("spot", placed)
    return placed


def _open_one(caller: Caller, params: Params, named: str, serial: int | None) -> Record:
    listing = caller.listing(params)
    if serial is None and not named:
        raise Refused(-1102, "Param 'origClientOrderId' or 'orderId' must be sent, but both were empty/null!")
    record = caller.member.find("spot", serial, named)
    if record is None or record.listing is not listing or not record.open:
        raise Refused(-2011, "Unknown order sent.")
    if serial is not None and named and record.given != named:
        raise Refused(-2039, "Client order ID is not correct for this order ID.")
    return record


def _canceled(
    caller: Caller, params: Params, named: str, serial: int | None, own_name: str = "newClientOrderId"
) -> Record:
    own = word(params, own_name) if own_name != "newClientOrderId" or "cancelReplaceMode" not in params else ""
    record = _open_one(caller, params, named, serial)
    only = word(params, "cancelRestrictions")
    if only not in ("", "ONLY_NEW", "ONLY_PARTIALLY_FILLED"):
        raise Refused(-1145, "Invalid cancelRestrictions")
    if only and (only == "ONLY_NEW") != (status(record.order.report()) == "NEW"):
        raise Refused(-2011, "Order was not canceled due to cancel restrictions.")
    record.marks["cancel"] = own or _made_up(caller)
    caller.member.cancel(record, caller.now_ns)
    return record


def _given(caller: Caller, params: Params, name: str) -> str:
    given = word(params, name)
    if not given:
        return _made_up(caller)
    if not _ID.fullmatch(given):
        raise Refused(
            -1100, f"Illegal characters found in parameter '{name}'; legal range is '^[a-zA-Z0-9-_]{{1,36}}$'."
        )
    return given


def _made_up(caller: Caller) -> str:
    return f"auto-{caller.face.number()}"
