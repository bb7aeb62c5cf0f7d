"""The routes of Spot with their weights, and the face that they make."""

from collections.abc import Callable
from typing import Any

from engine.core.times import DAY, SECOND
from engine.exchange.binance import market, spot
from engine.exchange.binance.caller import Caller
from engine.exchange.binance.face import Binance, Layout
from engine.exchange.binance.gate import Limits, OrderLimit, Route, public, trade
from engine.exchange.binance.spot_events import user_events
from engine.exchange.house import House
from engine.exchange.params import Params
from engine.exchange.terms import ExchangeTerms

Run = Callable[[Caller, Params], Any]

LIMITS = Limits(
    6000,
    (
        OrderLimit("SECOND", 10, 100, 10 * SECOND, "S"),
        OrderLimit("DAY", 1, 200_000, DAY, "D"),
    ),
)


def spot_face(house: House, terms: ExchangeTerms) -> Binance:
    return Binance(house, terms, LAYOUT)


_V3: dict[tuple[str, str], Route] = {
    ("GET", "ping"): public("ping", market.ping),
    ("GET", "time"): public("time", market.time),
    ("GET", "exchangeInfo"): public("exchangeInfo", spot.exchange_info, 20),
    ("GET", "depth"): public("depth", market.depth, 5),
    ("GET", "trades"): public("trades.recent", market.trades, 25),
    ("GET", "aggTrades"): public("trades.aggregate", market.agg_trades, 4),
    ("GET", "klines"): public("klines", market.klines, 2),
    ("GET", "uiKlines"): public("uiKlines", market.klines, 2),
    ("GET", "avgPrice"): public("avgPrice", market.avg_price, 2),
    ("GET", "ticker/24hr"): public("ticker.24hr", market.ticker_day, 2),
    ("GET", "ticker/price"): public("ticker.price", market.ticker_price, 2),
    ("GET", "ticker/bookTicker"): public("ticker.book", market.ticker_book, 2),
    ("POST", "order"): trade("order.place", spot.place, orders=1),
    ("POST", "order/test"): trade("order.test", spot.place_test),
    ("DELETE", "order"): trade("order.cancel", spot.cancel),
    ("DELETE", "openOrders"): trade("openOrders.cancelAll", spot.cancel_all),
    ("POST", "order/cancelReplace"): trade("order.cancelReplace", spot.cancel_replace, orders=1),
    ("PUT", "order/amend/keepPriority"): trade("order.amend.keepPriority", spot.amend, 4),
    ("GET", "order"): Route("order.status", spot.order, 4),
    ("GET", "openOrders"): Route("openOrders.status", spot.open_orders, 6),
    ("GET", "allOrders"): Route("allOrders", spot.all_orders, 20),
    ("GET", "myTrades"): Route("myTrades", spot.my_trades, 20),
    ("GET", "account"): Route("account.status", spot.account, 20),
    ("GET", "account/commission"): Route("account.commission", spot.commission, 20),
    ("GET", "rateLimit/order"): Route(
        "account.rateLimits.orders",
        lambda caller, params: caller.face.gate.order_counts(caller.member.name, caller.now_ns),
        40,
    ),
}

LAYOUT = Layout(
    name="binance-spot",
    category="spot",
    ws_api="/ws-api/v3",
    stream_roots=("",),
    limits=LIMITS,
    routes={(method, f"/api/v3/{path}"): route for (method, path), route in _V3.items()}
    | {("GET", "/sapi/v1/account/apiRestrictions"): Route("apiRestrictions", spot.restrictions)},
    gone=("/api/v3/userDataStream",),
    user_events=user_events,
)
