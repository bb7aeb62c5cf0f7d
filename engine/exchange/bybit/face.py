"""Bybit V5 over HTTP: routes, the order of the gate's checks, signatures, limits and the envelope.

A request is checked as Bybit does it: the way, the address's ban, the key, the clock, the signature, the rights of the
key, the rate, and only then what it asks for.
"""

from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from engine.core.times import SECOND
from engine.exchange.bybit import market, orders, queries
from engine.exchange.bybit.codes import Refused
from engine.exchange.faults import Fault
from engine.exchange.house import House, Member, key_of
from engine.exchange.http import Request, Response, form
from engine.exchange.keys import signed_by
from engine.exchange.params import Malformed, Params, json_object, word
from engine.exchange.quota import Rolling, Standing
from engine.exchange.screen import Screens
from engine.exchange.terms import ExchangeTerms, KeyTerms

Result = dict[str, Any]
Headers = tuple[tuple[str, str], ...]

WINDOW_MS = 5000
_IP_LIMIT, _IP_WINDOW_NS, _IP_BAN_NS = 600, 5 * SECOND, 600 * SECOND


class Route(Struct, frozen=True):
    """A private operation; `limits` are requests per second on futures and on spot."""

    operation: str
    run: Callable[[orders.Caller, Params], Result]
    limits: tuple[int, int] = (50, 50)
    trades: bool = False


def _order(name: str, run: Callable[[orders.Caller, Params], Result], spot: int = 20) -> Route:
    return Route(f"order.{name}", run, (10, spot), trades=True)


TRADES = (
    _order("create", orders.create),
    _order("amend", orders.amend, spot=10),
    _order("cancel", orders.cancel),
    _order("cancel-all", orders.cancel_all),
    _order("create-batch", orders.batch(orders.create)),
    _order("amend-batch", orders.batch(orders.amend)),
    _order("cancel-batch", orders.batch(orders.cancel)),
    Route("position.set-leverage", queries.set_leverage, (10, 10), trades=True),
    Route("position.switch-mode", queries.switch_mode, (10, 10), trades=True),
)
READS = (
    Route("order.realtime", queries.realtime),
    Route("order.history", queries.history),
    Route("execution.list", queries.executions),
    Route("position.list", queries.positions),
    Route("account.wallet-balance", queries.wallet_balance),
    Route("account.info", queries.account_info),
    Route("account.transaction-log", queries.transaction_log, (25, 25)),
    Route("account.fee-rate", queries.fee_rate, (5, 5)),
    Route("asset.coin.query-info", queries.coins),
)
PUBLIC: dict[str, Callable[[Screens, Params, int], Result]] = {
    "market.time": market.time,
    "market.instruments-info": market.instruments,
    "market.tickers": market.tickers,
    "market.orderbook": market.orderbook,
    "market.recent-trade": market.recent_trade,
    "market.kline": market.kline,
    "market.price-limit": market.price_limit,
}
OPERATIONS = {("POST", r.operation): r for r in TRADES} | {("GET", r.operation): r for r in READS}


class BybitFace:
    """`screens` hear the house's market. Nothing here waits; the shell brings requests, the time, and the faults."""

    name = "bybit"
    ping_seconds = 0.0  # clients ping, with a message of their own

    def __init__(self, house: House, terms: ExchangeTerms) -> None:
        self.house = house
        self.terms = terms
        self.screens = Screens(house)
        self.banned: dict[str, int] = {}  # address ("" for all) -> until, ns
        self._users, self._addresses = Rolling(SECOND), Rolling(_IP_WINDOW_NS)
        self._traced = 0

    # --------------------------------------------------------------------------------------------------------- HTTP

    def operation(self, request: Request) -> str:
        return request.path.removeprefix("/v5/").strip("/").replace("/", ".")

    def answer(self, request: Request, now_ns: int) -> Response:
        headers: Headers = ()
        try:
            self._admit(request.peer, now_ns)
            if request.method == "GET" and request.body:
                raise Refused(10001, "a GET request must not have a body", status=403)
            operation = self.operation(request)
            if request.method == "GET" and operation in PUBLIC:
                return self.wrap(PUBLIC[operation](self.screens, form(request.query), now_ns), now_ns)
            key = self._authenticate(request, now_ns)
            params = form(request.query) if request.method == "GET" else json_object(request.body)
            if operation == "user.query-api" and request.method == "GET":
                return self.wrap(_key_row(key, now_ns), now_ns)
            route = OPERATIONS.get((request.method, operation))
            if route is None:
                raise Refused(10017, f"route not found: {request.path}", status=404)
            result, headers = self.run(route, key, params, now_ns)
            return self.wrap(result, now_ns, headers)
        except Refused as refusal:
            return self._refusal(refusal, now_ns, headers)
        except Malformed as error:
            return self._refusal(Refused(10001, f"params error: {error}"), now_ns, headers)

    def refusal(self, fault: Fault, now_ns: int) -> Response:
        return self._refusal(Refused(fault.code, fault.text, fault.status), now_ns, ())

    def tick(self, now_ns: int) -> None:
        """Nothing here falls due by itself."""

    def run(self, route: Route, key: KeyTerms, params: Params, now_ns: int) -> tuple[Result, Headers]:
        """An operation of a caller who is known; the trade WebSocket comes in here. Raises Refused, Malformed."""
        if route.trades and not key.trade:
            raise Refused(10005, "Permission denied, please check your API key permissions.")
        items = params.get("request")
        units = len(items) if isinstance(items, list) and route.operation.endswith("-batch") else 1
        standing, passed = self._take(route, key, params, units, now_ns)
        headers = _limit_headers(standing, now_ns)
        if not passed:
            raise RateLimited(headers)
        if not route.trades and word(params, "category") in ("inverse", "option"):
            # Not traded here, so there is nothing of them; clients that look everywhere must not fail on it.
            return {"category": word(params, "category"), "list": [], "nextPageCursor": ""}, headers
        caller = orders.Caller(self.member(key), self.screens, now_ns)
        if passed == units:
            return route.run(caller, params), headers
        assert isinstance(items, list)
        return _with_overflow(route.run(caller, {**params, "request": items[:passed]}), items[passed:]), headers

    def member(self, key: KeyTerms) -> Member:
        return self.house.members[key.account]

    def wrap(self, result: Result, now_ns: int, headers: Headers = ()) -> Response:
        extra = result.pop("_ext", {})
        body = {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": extra, "time": now_ns // 1_000_000}
        return Response(200, msgspec.json.encode(body), (*headers, *self._trace(now_ns, 0)))

    # ------------------------------------------------------------------------------------------------------- inside

    def _refusal(self, refusal: Refused, now_ns: int, headers: Headers) -> Response:
        if isinstance(refusal, RateLimited):
            headers = refusal.headers
        if refusal.status == 403:
            return Response(403, b"<html><body>403 Forbidden: access too frequent.</body></html>", (), "text/html")
        body: Result = {"retCode": refusal.code, "retMsg": refusal.text, "result": {}, "retExtInfo": {}}
        body["time"] = now_ns // 1_000_000
        return Response(refusal.status, msgspec.json.encode(body), (*headers, *self._trace(now_ns, refusal.code)))

    def _trace(self, now_ns: int, code: int) -> Headers:
        self._traced += 1
        trace = ("Traceid", f"{self._traced:032x}")
        return (trace, ("Timenow", str(now_ns // 1_000_000)), ("Ret_code", str(code)))

    def _admit(self, peer: str, now_ns: int) -> None:
        until_ns = max(self.banned.get(peer, 0), self.banned.get("", 0))
        if now_ns < until_ns:
            raise Refused(10018, "access too frequent", status=403)
        if self.terms.rate_limits == "real" and not self._addresses.take(peer, _IP_LIMIT, now_ns).allowed:
            self.banned[peer] = now_ns + _IP_BAN_NS
            raise Refused(10018, "access too frequent", status=403)

    def _authenticate(self, request: Request, now_ns: int) -> KeyTerms:
        name, stamp = request.header("x-bapi-api-key"), request.header("x-bapi-timestamp")
        window = request.header("x-bapi-recv-window") or str(WINDOW_MS)
        if not name:
            raise Refused(10003, "API key is invalid.", status=401)
        key = key_of(self.terms, name)
        if key is None:
            raise Refused(10003, "API key is invalid.")
        check_time(stamp, window, now_ns)
        tail = request.query.encode() if request.method == "GET" else request.body
        sent_window = request.header("x-bapi-recv-window")
        payload = f"{stamp}{name}{sent_window}".encode() + tail
        if not signed_by(key, payload, request.header("x-bapi-sign")):
            text = payload.decode("utf-8", "replace")
            raise Refused(10004, f"error sign! origin_string[{text}]")
        return key

    def _take(self, route: Route, key: KeyTerms, params: Params, units: int, now_ns: int) -> tuple[Standing, int]:
        """How the caller stands, and how many of his `units` pass."""
        category = word(params, "category", "linear")
        limit = route.limits[1 if category == "spot" else 0]
        if self.terms.rate_limits == "off":
            return Standing(True, limit, limit, now_ns), units
        name = f"{key.account}/{route.operation}/{category}"
        standing = self._users.take(name, limit, now_ns, units)
        if standing.allowed or units == 1:
            return standing, units if standing.allowed else 0
        passed = 0
        while passed < units and self._users.take(name, limit, now_ns).allowed:
            passed += 1
        return standing, passed


class RateLimited(Refused):
    def __init__(self, headers: Headers) -> None:
        super().__init__(10006, "Too many visits! Exceeded the API Rate Limit.")
        self.headers = headers


def check_time(stamp: str, window: str, now_ns: int) -> None:
    """server_time - recv_window <= timestamp < server_time + 1000. Raises Refused."""
    now_ms = now_ns // 1_000_000
    if not (stamp.isdecimal() and window.isdecimal() and len(stamp) < 20 and len(window) < 10):
        raise Refused(10001, "params error: timestamp or recv_window is no number")
    if not now_ms - int(window) <= int(stamp) < now_ms + 1000:
        raise Refused(
            10002,
            "invalid request, please check your server timestamp or recv_window param. "
            f"req_timestamp[{stamp}],server_timestamp[{now_ms}],recv_window[{window}]",
        )


def _limit_headers(standing: Standing, now_ns: int) -> Headers:
    return (
        ("X-Bapi-Limit", str(standing.limit)),
        ("X-Bapi-Limit-Status", str(standing.left)),
        ("X-Bapi-Limit-Reset-Timestamp", str(standing.reset_ns // 1_000_000)),
    )


def _with_overflow(result: Result, overflow: list[Any]) -> Result:
    for item in overflow:
        link = word(item, "orderLinkId") if isinstance(item, dict) else ""
        result["list"].append({"orderId": "", "orderLinkId": link, "createAt": ""})
        result["_ext"]["list"].append({"code": 10006, "msg": "Too many visits!"})
    return result


def _key_row(key: KeyTerms, now_ns: int) -> Result:
    trade = ["SpotTrade"] if key.trade else []
    contract = ["Order", "Position"] if key.trade else []
    return {
        "id": "1",
        "note": key.account,
        "apiKey": key.key,
        "readOnly": 0 if key.trade else 1,
        "secret": "",
        "permissions": {
            "ContractTrade": contract,
            "Spot": trade,
            "Wallet": ["Withdraw", "AccountTransfer"] if key.withdraw else [],
            "Options": [],
            "Derivatives": [],
            "CopyTrading": [],
            "BlockTrade": [],
            "Exchange": [],
            "NFT": [],
            "Affiliate": [],
            "Earn": [],
        },
        "ips": ["*"],
        "type": 1,
        "deadlineDay": 90,
        "expiredAt": "",
        "createdAt": "2026-01-01T00:00:00Z",
        "unified": 0,
        "uta": 1,
        "userID": 1,
        "inviterID": 0,
        "vipLevel": "No VIP",
        "mktMakerLevel": "0",
        "affiliateID": 0,
        "rsaPublicKey": "",
        "isMaster": True,
        "parentUid": "0",
        "kycLevel": "LEVEL_DEFAULT",
        "kycRegion": "",
    }
