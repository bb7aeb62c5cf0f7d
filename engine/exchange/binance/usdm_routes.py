"""The routes of USD-M futures with their weights, and the face that they make."""

from collections.abc import Callable
from typing import Any

from engine.core.times import SECOND
from engine.exchange.binance import market, spot, usdm
from engine.exchange.binance.caller import Caller
from engine.exchange.binance.face import Binance, Layout
from engine.exchange.binance.gate import Limits, OrderLimit, Route, public, trade
from engine.exchange.binance.usdm_events import user_events
from engine.exchange.house import House
from engine.exchange.params import Params
from engine.exchange.terms import ExchangeTerms

Run = Callable[[Caller, Params], Any]

LIMITS = Limits(
    2400,
    (
        OrderLimit("SECOND", 10, 300, 10 * SECOND, "S"),
        OrderLimit("MINUTE", 1, 1200, 60 * SECOND, "M"),
    ),
)


def usdm_face(house: House, terms: ExchangeTerms) -> Binance:
    return Binance(house, terms, LAYOUT)


def _listen(operation: str, run: Callable[[Binance], Run]) -> Route:
    return Route(operation, lambda caller, params: run(caller.face)(caller, params), security="key")


_V1: dict[tuple[str, str], Route] = {
    ("GET", "ping"): public("ping", market.ping),
    ("GET", "time"): public("time", market.time),
    ("GET", "exchangeInfo"): public("exchangeInfo", usdm.exchange_info),
    ("GET", "depth"): public("depth", market.depth, 5),
    ("GET", "trades"): public("trades", market.trades, 5),
    ("GET", "aggTrades"): public("aggTrades", market.agg_trades, 20),
    ("GET", "klines"): public("klines", market.klines, 2),
    ("GET", "premiumIndex"): public("premiumIndex", market.premium_index),
    ("GET", "fundingInfo"): public("fundingInfo", market.funding_info, 0),
    ("GET", "ticker/price"): public("ticker.price.v1", market.ticker_price),
    ("GET", "ticker/bookTicker"): public("ticker.book", market.ticker_book, 2),
    ("GET", "ticker/24hr"): public("ticker.24hr", market.ticker_day),
    ("POST", "order"): trade("order.place", usdm.place, 0, orders=1),
    ("POST", "order/test"): trade("order.test", usdm.place_test),
    ("PUT", "order"): trade("order.modify", usdm.modify, 0, orders=1),
    ("DELETE", "order"): trade("order.cancel", usdm.cancel),
    ("POST", "batchOrders"): trade("batchOrders.place", usdm.place_many, 5, orders=5),
    ("DELETE", "batchOrders"): trade("batchOrders.cancel", usdm.cancel_many),
    ("DELETE", "allOpenOrders"): trade("allOpenOrders.cancel", usdm.cancel_all),
    ("POST", "countdownCancelAll"): trade("countdownCancelAll", usdm.countdown, 10),
    ("GET", "order"): Route("order.status", usdm.order),
    ("GET", "openOrder"): Route("openOrder", usdm.open_order),
    ("GET", "openOrders"): Route("openOrders", usdm.open_orders),
    ("GET", "allOrders"): Route("allOrders", usdm.all_orders, 5),
    ("GET", "userTrades"): Route("userTrades", usdm.user_trades, 5),
    ("POST", "algoOrder"): trade("algoOrder.place", usdm.algo_place, 0, orders=1),
    ("DELETE", "algoOrder"): trade("algoOrder.cancel", usdm.algo_cancel),
    ("DELETE", "algoOpenOrders"): trade("algoOpenOrders.cancel", usdm.algo_cancel_all),
    ("GET", "algoOrder"): Route("algoOrder.status", usdm.algo_order),
    ("GET", "openAlgoOrders"): Route("openAlgoOrders", usdm.open_algo_orders),
    ("GET", "allAlgoOrders"): Route("allAlgoOrders", usdm.all_algo_orders, 5),
    ("GET", "accountConfig"): Route("accountConfig", usdm.account_config, 5),
    ("GET", "symbolConfig"): Route("symbolConfig", usdm.symbol_config, 5),
    ("GET", "leverageBracket"): Route("leverageBracket", usdm.leverage_bracket),
    ("GET", "commissionRate"): Route("commissionRate", usdm.commission_rate, 20),
    ("GET", "income"): Route("income", usdm.income, 30),
    ("POST", "leverage"): trade("leverage", usdm.set_leverage),
    ("POST", "marginType"): trade("marginType", usdm.margin_type),
    ("GET", "positionSide/dual"): Route("positionSide", usdm.position_mode, 30),
    ("POST", "positionSide/dual"): trade("positionSide.set", usdm.set_position_mode),
    ("GET", "multiAssetsMargin"): Route("multiAssetsMargin", usdm.assets_mode, 30),
    ("POST", "multiAssetsMargin"): trade("multiAssetsMargin.set", usdm.set_assets_mode),
    ("GET", "rateLimit/order"): Route(
        "rateLimit.order", lambda caller, params: caller.face.gate.order_counts(caller.member.name, caller.now_ns)
    ),
    ("POST", "listenKey"): _listen("userDataStream.start", lambda face: face.open_listen_key),
    ("PUT", "listenKey"): _listen("userDataStream.ping", lambda face: face.keep_listen_key),
    ("DELETE", "listenKey"): _listen("userDataStream.stop", lambda face: face.close_listen_key),
}
_LATER: dict[tuple[str, str], Route] = {
    ("GET", "/sapi/v1/account/apiRestrictions"): Route("apiRestrictions", spot.restrictions),
    ("GET", "/fapi/v2/ticker/price"): public("ticker.price", market.ticker_price),
    ("GET", "/fapi/v3/positionRisk"): Route("v2/account.position", usdm.position_risk, 5),
    ("GET", "/fapi/v2/positionRisk"): Route("account.position", usdm.position_risk_2, 5),
    ("GET", "/fapi/v3/account"): Route("v2/account.status", usdm.account, 5),
    ("GET", "/fapi/v2/account"): Route("account.status", usdm.account, 5),
    ("GET", "/fapi/v3/balance"): Route("v2/account.balance", usdm.balance, 5),
    ("GET", "/fapi/v2/balance"): Route("account.balance", usdm.balance, 5),
}

LAYOUT = Layout(
    name="binance-usdm",
    category="linear",
    ws_api="/ws-fapi/v1",
    stream_roots=("/public", "/market", "/private", ""),
    limits=LIMITS,
    routes={(method, f"/fapi/v1/{path}"): route for (method, path), route in _V1.items()} | _LATER,
    user_events=user_events,
    listen_keys=True,
)
