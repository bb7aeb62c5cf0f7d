"""Orders, executions, positions and wallets as Bybit's REST answers and private streams show them."""

from decimal import Decimal
from typing import Any

from engine.core.messages import ZERO, FillReport, FundingReport, InstrumentKind, OrderReport, OrderType, Side
from engine.core.money import plain
from engine.exchange.house import Listing, Member, Record
from engine.exchange.screen import Screens
from engine.market.orders import OrderRequest

Row = dict[str, Any]

SIDES = {Side.BUY: "Buy", Side.SELL: "Sell"}
TIFS = {"gtc": "GTC", "ioc": "IOC", "fok": "FOK", "post_only": "PostOnly"}

_MARKET = (OrderType.MARKET, OrderType.STOP_MARKET, OrderType.TAKE_PROFIT_MARKET)
# Reasons of the matching engine, as cancelType and rejectReason.
_ENDINGS = {
    "by request": ("CancelByUser", "EC_PerCancelRequest"),
    "post-only order would take": ("UNKNOWN", "EC_PostOnlyWillTakeLiquidity"),
    "fill-or-kill could not fill": ("UNKNOWN", "EC_CancelForNoFullFill"),
    "the rest could not fill at once": ("UNKNOWN", "EC_NoImmediateQtyToFill"),
    "reduce-only, and the position is closed": ("CancelByReduceOnly", "EC_NoError"),
}


def order_id(listing: Listing, serial: int) -> str:
    """A UUID on futures, a number on spot."""
    return _uuid(serial, 0xA) if listing.category == "linear" else str(1_700_000_000_000_000_000 + serial)


def serial_of(text: str) -> int | None:
    """The number in one of our order ids; None for what cannot be one."""
    if text.isdecimal() and len(text) == 19:
        return max(0, int(text) - 1_700_000_000_000_000_000)
    parts = text.split("-")
    try:
        return int(parts[4], 16) if len(parts) == 5 else None
    except ValueError:
        return None


def order_row(record: Record, report: OrderReport, value: Decimal) -> Row:
    """As it stood at `report`, with fills worth `value`."""
    listing, order, marks = record.listing, record.order, record.marks
    request, linear = order.request, record.listing.category == "linear"
    filled, status = report.filled_qty, status_of(record, report)
    left = request.qty - filled if report.status == "open" else ZERO
    cancel_type, reject_reason = _ending(record, report)
    row = {
        "orderId": order_id(listing, record.serial),
        "orderLinkId": record.given,
        "parentOrderLinkId": "",
        "blockTradeId": "",
        "symbol": listing.symbol,
        "price": plain(request.price or _bound(listing, request, value, filled)),
        "qty": plain(marks.get("qty", request.qty)),
        "side": SIDES[request.side],
        "isLeverage": "" if linear else "0",
        "positionIdx": 0,
        "orderStatus": status,
        "cancelType": cancel_type,
        "rejectReason": reject_reason,
        "avgPrice": plain(value / filled) if filled else "",
        "leavesQty": plain(left),
        "leavesValue": plain(left * (request.price or ZERO)),
        "cumExecQty": plain(filled),
        "cumExecValue": plain(value),
        "cumExecFee": plain(sum(record.fees.values(), ZERO)),
        "cumFeeDetail": {asset: plain(fee) for asset, fee in record.fees.items()},
        "feeCurrency": next(iter(record.fees), ""),
        "timeInForce": "IOC" if request.price is None else TIFS[request.tif.value],
        "orderType": "Market" if request.order_type in _MARKET else "Limit",
        "stopOrderType": "Stop" if request.order_type.conditional else "",
        "orderIv": "",
        "marketUnit": marks.get("marketUnit", ""),
        "slippageToleranceType": "UNKNOWN",
        "slippageTolerance": "",
        "triggerPrice": plain(request.trigger_price) if request.trigger_price is not None else "",
        "triggerDirection": (1 if request.rising else 2) if linear and request.order_type.conditional else 0,
        "triggerBy": marks.get("triggerBy", ""),
        "takeProfit": "",
        "stopLoss": "",
        "tpTriggerBy": "",
        "slTriggerBy": "",
        "tpLimitPrice": "",
        "slLimitPrice": "",
        "reduceOnly": request.reduce_only,
        "closeOnTrigger": bool(marks.get("closeOnTrigger", False)),
        "placeType": "",
        "smpType": "None",
        "smpGroup": 0,
        "smpOrderId": "",
        "createdTime": _ms(order.accepted_ns),
        "updatedTime": _ms(report.venue_ns),
    }
    if linear:
        row["createType"] = "CreateByLiq" if marks.get("liquidation") else "CreateByUser"
        row["tpslMode"] = ""
        row["lastPriceOnCreated"] = marks.get("last", "")
    else:
        row["basePrice"] = marks.get("last", "")
    return row


def status_of(record: Record, report: OrderReport) -> str:
    spot, filled = record.listing.category == "spot", bool(report.filled_qty)
    untriggered = report.order_type.conditional and not record.order.triggered
    if report.status == "open":
        return "Untriggered" if untriggered else ("PartiallyFilled" if filled else "New")
    if report.status == "filled":
        # An amount of quote is never met to the last digit: the rest of it is dust that is given back.
        dust = record.marks.get("marketUnit") == "quoteCoin" and record.value < record.marks["qty"]
        return "PartiallyFilledCanceled" if dust else "Filled"
    if report.status == "rejected":
        return "Rejected"
    if spot:
        return "PartiallyFilledCanceled" if filled else ("Deactivated" if untriggered else "Cancelled")
    return "Cancelled"


def execution_row(record: Record, fill: FillReport, left: Decimal, mark: Decimal, seq: int) -> Row:
    request, listing = record.order.request, record.listing
    kind = "BustTrade" if record.marks.get("liquidation") else "Trade"
    rate = fill.fee / (fill.qty * fill.price) if fill.fee_asset == listing.instrument.quote else fill.fee / fill.qty
    return {
        "symbol": listing.symbol,
        "orderId": order_id(listing, record.serial),
        "orderLinkId": record.given,
        "side": SIDES[fill.side],
        "orderPrice": plain(request.price or fill.price),
        "orderQty": plain(record.marks.get("qty", request.qty)),
        "leavesQty": plain(left),
        "createType": "CreateByLiq" if kind == "BustTrade" else "CreateByUser",
        "orderType": "Market" if request.order_type in _MARKET else "Limit",
        "stopOrderType": "Stop" if request.order_type.conditional else "UNKNOWN",
        "execFee": plain(fill.fee),
        "feeCurrency": fill.fee_asset,
        "execId": _exec_id(listing, fill.exec_id),
        "execPrice": plain(fill.price),
        "execQty": plain(fill.qty),
        "execPnl": plain(record.realised.get(fill.exec_id, ZERO)),
        "execType": kind,
        "execValue": plain(fill.qty * fill.price),
        "execTime": _ms(fill.venue_ns),
        "isLeverage": "" if listing.category == "linear" else "0",
        "isMaker": fill.maker,
        "feeRate": plain(round(rate, 8)),
        "tradeIv": "",
        "markIv": "",
        "markPrice": plain(mark),
        "indexPrice": plain(mark),
        "underlyingPrice": "",
        "blockTradeId": "",
        "closedSize": "0",
        "extraFees": "",
        "seq": seq,
    }


def funding_row(listing: Listing, report: FundingReport, qty: Decimal, mark: Decimal, seq: int) -> Row:
    """Paid is positive here, as `execFee` is."""
    notional = abs(qty) * mark
    return {
        "symbol": listing.symbol,
        "orderId": "",
        "orderLinkId": "",
        "side": "Sell" if qty > 0 else "Buy",
        "orderPrice": "0",
        "orderQty": "0",
        "leavesQty": "0",
        "createType": "",
        "orderType": "UNKNOWN",
        "stopOrderType": "UNKNOWN",
        "execFee": plain(-report.amount),
        "feeCurrency": report.asset,
        "execId": _exec_id(listing, report.funding_id),
        "execPrice": plain(mark),
        "execQty": plain(abs(qty)),
        "execPnl": "0",
        "execType": "Funding",
        "execValue": plain(notional),
        "execTime": _ms(report.venue_ns),
        "isMaker": False,
        "feeRate": plain(round(-report.amount / notional, 8)) if notional else "0",
        "markPrice": plain(mark),
        "indexPrice": plain(mark),
        "closedSize": "0",
        "extraFees": "",
        "seq": seq,
    }


def position_row(member: Member, listing: Listing, screens: Screens) -> Row:
    """Flat ones have side "" and size "0"."""
    account, inner = member.matching.account, listing.instrument
    holding = account.wallets.holdings.get(inner.symbol)
    qty, cost = (holding.qty, holding.cost) if holding else (ZERO, ZERO)
    mark = screens.mark(listing)
    margin = account.margin(inner, cost) if qty else ZERO
    return {
        "positionIdx": 0,
        "riskId": 1,
        "riskLimitValue": "2000000",
        "symbol": listing.symbol,
        "side": "" if not qty else ("Buy" if qty > 0 else "Sell"),
        "size": plain(abs(qty)),
        "avgPrice": plain(round(abs(cost / qty), 10)) if qty else "0",
        "entryPrice": plain(round(abs(cost / qty), 10)) if qty else "0",
        "positionValue": plain(abs(cost)),
        "tradeMode": 0,
        "autoAddMargin": 0,
        "positionStatus": "Normal",
        "leverage": plain(account.leverage(inner)),
        "breakEvenPrice": plain(round(abs(cost / qty), 10)) if qty else "0",
        "markPrice": plain(mark),
        "liqPrice": "",
        "bustPrice": "",
        "positionIM": plain(margin),
        "positionMM": plain(margin / 2),
        "positionBalance": plain(margin),
        "takeProfit": "",
        "stopLoss": "",
        "trailingStop": "0",
        "sessionAvgPrice": "",
        "tpslMode": "Full",
        "unrealisedPnl": plain(qty * mark - cost),
        "curRealisedPnl": plain(holding.realised) if holding else "0",
        "cumRealisedPnl": plain(holding.realised) if holding else "0",
        "adlRankIndicator": 0,
        "createdTime": _ms(member.matching.now_ns),
        "updatedTime": _ms(member.matching.now_ns),
        "openTime": 0,
        "seq": member.steps if holding else -1,
        "isReduceOnly": False,
        "mmrSysUpdatedTime": "",
        "leverageSysUpdatedTime": "",
    }


def wallet_row(member: Member, screens: Screens, coins: tuple[str, ...] = ()) -> Row:
    """Without `coins` those that are zero are left out. Totals are in USD, for which USDT stands."""
    matching = member.matching
    unrealised: dict[str, Decimal] = {}
    for symbol, holding in matching.account.wallets.holdings.items():
        instrument = matching.instruments[symbol]
        if instrument.kind is InstrumentKind.LINEAR and holding.qty:
            gain = holding.qty * screens.mark(member.listings[symbol]) - holding.cost
            unrealised[instrument.quote] = unrealised.get(instrument.quote, ZERO) + gain
    spot_locked, order_margin = _locked(member)
    rows, equity, wallet, upl, margin = [], ZERO, ZERO, ZERO, ZERO
    for balance in matching.balances():
        asset = balance.asset
        price = _usd(asset, screens)
        gain, orders = unrealised.get(asset, ZERO), order_margin.get(asset, ZERO)
        positions = balance.locked - matching.account.locked_by_orders(asset)
        equity += (balance.total + gain) * price
        wallet += balance.total * price
        upl += gain * price
        margin += (orders + positions) * price
        if not (asset in coins if coins else balance.total or balance.locked):
            continue
        rows.append(
            {
                "coin": asset,
                "equity": plain(balance.total + gain),
                "usdValue": plain((balance.total + gain) * price),
                "walletBalance": plain(balance.total),
                "locked": plain(spot_locked.get(asset, ZERO)),
                "free": "",
                "spotHedgingQty": "0",
                "borrowAmount": "0",
                "accruedInterest": "0",
                "totalOrderIM": plain(orders),
                "totalPositionIM": plain(positions),
                "totalPositionMM": plain(positions / 2),
                "unrealisedPnl": plain(gain),
                "cumRealisedPnl": "0",
                "bonus": "0",
                "collateralSwitch": True,
                "marginCollateral": True,
                "availableToWithdraw": "",
                "availableToBorrow": "",
                "spotBorrow": "0",
            }
        )
    return {
        "accountType": "UNIFIED",
        "accountLTV": "",
        "accountIMRate": plain(round(margin / equity, 8)) if equity else "0",
        "accountMMRate": plain(round(margin / 2 / equity, 8)) if equity else "0",
        "totalEquity": plain(equity),
        "totalWalletBalance": plain(wallet),
        "totalMarginBalance": plain(wallet + upl),
        "totalAvailableBalance": plain(wallet + upl - margin),
        "totalPerpUPL": plain(upl),
        "totalInitialMargin": plain(margin),
        "totalMaintenanceMargin": plain(margin / 2),
        "coin": rows,
    }


def _locked(member: Member) -> tuple[dict[str, Decimal], dict[str, Decimal]]:
    """What open orders claim of each wallet: those on spot, those on futures."""
    spot: dict[str, Decimal] = {}
    linear: dict[str, Decimal] = {}
    for record in member.open_records():
        instrument, claims = record.listing.instrument, spot if record.listing.category == "spot" else linear
        sells = record.listing.category == "spot" and record.order.request.side is Side.SELL
        asset = instrument.base if sells else instrument.quote
        claims[asset] = claims.get(asset, ZERO) + record.order.locked
    return spot, linear


def _usd(asset: str, screens: Screens) -> Decimal:
    if asset in ("USDT", "USDC", "USD"):
        return Decimal(1)
    screen = screens.of("spot", f"{asset}USDT") or screens.of("linear", f"{asset}USDT")
    return screens.mark(screen.listing) if screen else ZERO


def _bound(listing: Listing, request: OrderRequest, value: Decimal, filled: Decimal) -> Decimal:
    """The `price` of a market order is the bound within which it may slip; spot shows none."""
    if listing.category == "spot" or not filled:
        return ZERO
    edge = value / filled * (Decimal("1.05") if request.side is Side.BUY else Decimal("0.95"))
    return edge - edge % listing.instrument.tick


def _ending(record: Record, report: OrderReport) -> tuple[str, str]:
    if report.status == "rejected":
        return "UNKNOWN", report.reason if report.reason.startswith("EC_") else "EC_Others"
    if report.status != "canceled":
        return "UNKNOWN", "EC_NoError"
    return _ENDINGS.get(report.reason, ("UNKNOWN", "EC_Others"))


def _exec_id(listing: Listing, exec_id: str) -> str:
    serial = int(exec_id[-10:])
    return _uuid(serial, 0xE) if listing.category == "linear" else str(2_100_000_000_000_000_000 + serial)


def _uuid(serial: int, family: int) -> str:
    return f"{family:x}{serial % 0xFFFFFFF:07x}-5f1e-4a00-8000-{serial:012x}"


def _ms(at_ns: int) -> str:
    return str(at_ns // 1_000_000)
