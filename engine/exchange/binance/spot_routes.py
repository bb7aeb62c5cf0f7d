"""The routes of Spot with their weights, and the face that they make."""

from collections.abc import Callable
from typing import Any

from engine.exchange.binance import market, spot
from engine.exchange.binance.caller import Caller
from engine.exchange.binance.face import Binance, Layout
from engine.exchange.binance.gate import Limits, OrderLimit, Route
from engine.exchange.binance.spot_events import user_events
from engine.exchange.house import House
from engine.exchange.params import Params
from engine.exchange.terms import DAY, SECOND, ExchangeTerms

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


def _public(operation: str, run: Run, weight: int = 1) -> Route:
    return Route(operation, run, weight, "none")


def _trade(operation: str, run: Run, weight: int = 1, orders: int = 0) -> Route:
    return Route(operation, run, weight, orders=orders, trades=True)


_V3: dict[tuple[str, str], Route] = {
    ("GET", "ping"): _public("ping", market.ping),
    ("GET", "time"): _public("time", market.time),
    ("GET", "exchangeInfo"): _public("exchangeInfo", spot.exchange_info, 20),
    ("GET", "depth"): _public("depth", market.depth, 5),
    ("GET", "trades"): _public("trades.recent", market.trades, 25),
    ("GET", "aggTrades"): _public("trades.aggregate", market.agg_trades, 4),
    ("GET", "klines"): _public("klines", market.klines, 2),
    ("GET", "uiKlines"): _public("uiKlines", market.klines, 2),
    ("GET", "avgPrice"): _public("avgPrice", market.avg_price, 2),
    ("GET", "ticker/24hr"): _public("ticker.24hr", market.ticker_day, 2),
    ("GET", "ticker/price"): _public("ticker.price", market.ticker_price, 2),
    ("GET", "ticker/bookTicker"): _public("ticker.book", market.ticker_book, 2),
    ("POST", "order"): _trade("order.place", spot.place, orders=1),
    ("POST", "order/test"): _trade("order.test", spot.place_test),
    ("DELETE", "order"): _trade("order.cancel", spot.cancel),
    ("DELETE", "openOrders"): _trade("openOrders.cancelAll", spot.cancel_all),
    ("POST", "order/cancelReplace"): _trade("order.cancelReplace", spot.cancel_replace, orders=1),
    ("PUT", "order/amend/keepPriority"): _trade("order.amend.keepPriority", spot.amend, 4),
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
