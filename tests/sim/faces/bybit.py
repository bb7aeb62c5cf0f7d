"""Bybit V5 as its sheet has it, in front of the simulated venue: signatures, windows, codes, rows, topics.

Written from the documents a second time, apart from the local exchange's face and from the adapter, so that a mistake
would have to be made twice. An id is used up for ever; a post-only order that would take is taken and canceled; what is
unclear comes as HTTP 5xx, as a code of the system's own inside a 200, or as a page of HTML.
"""

import json
from collections.abc import Callable
from random import Random
from typing import Any
from urllib.parse import parse_qsl, quote, unquote

from msgspec import Struct

from engine.core.messages import (
    Acked,
    Answer,
    FillReport,
    FundingReport,
    Order,
    OrderReport,
    OrderType,
    Rejection,
    Side,
    Silence,
    TimeInForce,
    VenueReport,
)
from engine.core.times import MILLISECOND
from engine.exchange.http import Request, Response
from tests.sim.faces.serve import Act, Ask, Session, Told, Wires, protest
from tests.sim.faces.words import KEY, plain, shown, signature, wanted
from tests.sim.venue import Kept, Life, Manners, Resting, SimVenue

Row = dict[str, Any]

MANNERS = Manners(post_only_is_taken=True, liquidates_as=("",), directs_by_market=True)
WINDOW_MS = 5000
TIFS = {"GTC": TimeInForce.GTC, "IOC": TimeInForce.IOC, "FOK": TimeInForce.FOK, "PostOnly": TimeInForce.POST_ONLY}
SIDES = {"Buy": Side.BUY, "Sell": Side.SELL}
SIDE_WORDS = {side: word for word, side in SIDES.items()}
MARKET_TYPES = (OrderType.MARKET, OrderType.STOP_MARKET, OrderType.TAKE_PROFIT_MARKET)
# What the simulated venue says, in Bybit's numbers: on futures and on spot.
CODES = {
    "-1021": (10002, 10002, "invalid request, please check your server timestamp or recv_window param"),
    "10006": (10006, 10006, "Too many visits! Exceeded the API Rate Limit."),
    "10001": (10001, 170121, "params error: symbol invalid"),
    "110072": (110072, 170141, "OrderLinkedID is duplicate"),
    "-1013": (110094, 170140, "Order does not meet minimum order value"),
    "-2022": (110017, 170131, "current position is zero, cannot fix reduce-only order qty"),
    "110007": (110007, 170131, "ab not enough for new order"),
    "-2010": (170131, 170131, "Insufficient balance."),
    "-2021": (110092, 110092, "expect Rising, but trigger_price <= current"),
    "110001": (110001, 170213, "order not exists or too late to cancel"),
}
# Answers after which an order may or may not be there, and those that mean no more than that all is not well.
UNSURE = (10000, 10016, 10019, 170007, 170032, 40004)
CANCELED_BY = {
    "post-only order would take": ("UNKNOWN", "EC_PostOnlyWillTakeLiquidity"),
    "immediate or cancel": ("UNKNOWN", "EC_NoImmediateQtyToFill"),
    "no liquidity for the rest": ("UNKNOWN", "EC_NoEnoughQtyToFill"),
    "nothing left to reduce": ("CancelByReduceOnly", "EC_NoError"),
    "risk check failed": ("UNKNOWN", "EC_Others"),
}


class Stamp(Struct, frozen=True):
    """When a request was signed, and for how long it is good."""

    at_ms: int
    window_ms: int


class BybitFace:
    def __init__(self, venue: SimVenue, seed: str) -> None:
        self.venue = venue
        self.spot = venue.nature.spot
        self.category = "spot" if self.spot else "linear"
        self.chance = Random(f"{seed}/bybit")
        self._sent: dict[str, list[int]] = {}  # when, by operation
        self._told = 0

    @property
    def now_ms(self) -> int:
        return self.venue.now_ns // MILLISECOND

    # ------------------------------------------------------------------------------------------------------------ HTTP

    def hear(self, life: Life, request: Request) -> Act | Ask | Response:
        operation = (request.method, request.path.removeprefix("/v5/"))
        if operation == ("GET", "market/time"):
            return Ask(lambda: self.wrap({"timeSecond": str(self.now_ms // 1000), "timeNano": str(self.venue.now_ns)}))
        if operation == ("GET", "market/instruments-info"):
            return Ask(lambda: self.wrap({"category": self.category, "list": self.instruments(), "nextPageCursor": ""}))
        if request.method == "GET" and request.body:
            protest(self.venue, life, "a GET with a body")
        stamp = self._signed(life, request)
        if request.method == "POST":
            assert request.body
            return self.change(life, operation[1].replace("/", "."), json.loads(request.body), stamp, self.write)
        params = dict(parse_qsl(request.query, keep_blank_values=True))
        query = QUERIES.get(operation[1])
        if query is None:
            protest(self.venue, life, f"no such path: {request.path}")
            return Response(404, b"")

        def answer() -> Response:
            refused = self._late(stamp)
            return self.refuse(*refused) if refused else self.wrap(query(self, params))

        return Ask(answer)

    def _signed(self, life: Life, request: Request) -> "Stamp":
        """The stamp. An adapter that signs other bytes than it sends would trade nowhere."""
        head = [request.header(f"x-bapi-{name}") for name in ("timestamp", "api-key", "recv-window")]
        payload = "".join(head).encode() + (request.query.encode() if request.method == "GET" else request.body)
        if request.header("x-bapi-sign") != signature(payload) or head[1] != KEY:
            protest(self.venue, life, f"not signed: {request.method} {request.path}")
        return self.stamped(life, head[0], head[2])

    def stamped(self, life: Life, at_ms: str, window_ms: str) -> "Stamp":
        """A request may be good for less than is usual, and for no more."""
        if not 0 < int(window_ms) <= WINDOW_MS:
            protest(self.venue, life, f"a window of {window_ms} ms")
        return Stamp(int(at_ms), int(window_ms))

    def _late(self, stamp: "Stamp") -> tuple[int, str] | None:
        if self.now_ms - stamp.window_ms <= stamp.at_ms < self.now_ms + 1000:
            return None
        return 10002, f"{CODES['-1021'][2]}. req_timestamp[{stamp.at_ms}],server_timestamp[{self.now_ms}]"

    def transfers(self, params: Row) -> Row:
        """Nobody moves money in these worlds."""
        assert params["type"] in ("TRANSFER_IN", "TRANSFER_OUT") and "category" not in params
        return {"list": [], "nextPageCursor": ""}

    def wrap(self, result: Any, headers: tuple[tuple[str, str], ...] = ()) -> Response:
        body = {"retCode": 0, "retMsg": "OK", "result": result, "retExtInfo": {}, "time": self.now_ms}
        return Response(200, json.dumps(body).encode(), headers)

    def refuse(self, code: int, text: str, headers: tuple[tuple[str, str], ...] = ()) -> Response:
        body = {"retCode": code, "retMsg": text, "result": {}, "retExtInfo": {}, "time": self.now_ms}
        return Response(200, json.dumps(body).encode(), headers)

    def banned(self) -> Response:
        """Told off by HTTP: with a status of its own, or by a code inside a 200; both say until when."""
        left_ns = self.venue.banned_until_ns - self.venue.wall_ns()
        if self.chance.random() < 0.5:
            return Response(429, b"", (("Retry-After", str(max(1, -(-left_ns // 1_000_000_000)))),))
        return self.refuse(10006, CODES["10006"][2], self._ban_headers())

    def _ban_headers(self) -> tuple[tuple[str, str], ...]:
        until_ms = (self.venue.banned_until_ns + self.venue.now_ns - self.venue.wall_ns()) // MILLISECOND + 1
        return (("X-Bapi-Limit-Reset-Timestamp", str(until_ms)),)

    # --------------------------------------------------------------------------------------------------------- changes

    def change(
        self, life: Life, op: str, body: Row, stamp: "Stamp", write: Callable[[str, Row, Answer], Response]
    ) -> Act | Response:
        """Of the trade socket or of REST, which differ in their envelopes alone."""
        if body.get("category") != self.category:
            protest(self.venue, life, f"{op} in category {body.get('category')}")
        if op == "order.create":
            order = self.read(body)
            return Act("submit", lambda: self._place(life, op, order, stamp), lambda answer: write(op, body, answer))
        if op == "order.cancel":
            number = body.get("orderId", "")
            known = self.venue.orders.get(number)
            cid = known.cid if known else body.get("orderLinkId", "")
            return Act(
                "cancel", lambda: self._cancel(life, op, body, stamp), lambda answer: write(op, body, answer), cid
            )
        protest(self.venue, life, f"no such operation: {op}")
        return Response(404, b"")

    async def _place(self, life: Life, op: str, order: Order, stamp: "Stamp") -> Answer:
        self._count(op)
        ahead = stamp.at_ms >= self.now_ms + 1000  # one from the future is as bad as one from long ago
        sent_ns = 0 if ahead else stamp.at_ms * MILLISECOND
        return await self.venue.submitted(life, order, sent_ns, stamp.window_ms * MILLISECOND)

    async def _cancel(self, life: Life, op: str, body: Row, stamp: "Stamp") -> Answer:
        self._count(op)
        if self._late(stamp):
            return Rejection("-1021", "unavailable", "")
        return await self.venue.canceled(life, body.get("orderLinkId", ""), body.get("orderId", ""))

    def _count(self, op: str) -> None:
        now = self.venue.wall_ns()
        self._sent[op] = [at for at in self._sent.get(op, []) if at > now - 1_000_000_000] + [now]

    def read(self, body: Row) -> Order:
        """A wrong type or a missing field is the adapter's mistake, and fails the world."""
        assert isinstance(body["qty"], str) and isinstance(body.get("price", ""), str)
        side, market = SIDES[body["side"]], body["orderType"] == "Market"
        trigger = body.get("triggerPrice", "")
        if self.spot:
            assert "reduceOnly" not in body and body.get("marketUnit", "baseCoin") == "baseCoin"
            assert (not trigger) or body["orderFilter"] == "StopOrder"
        else:
            assert body["positionIdx"] == 0 and isinstance(body["reduceOnly"], bool)
        return wanted(
            body["orderLinkId"],
            body["symbol"],
            side,
            self._kind(body, side, market, trigger),
            body["qty"],
            "" if market else body["price"],
            trigger,
            TIFS[body["timeInForce"]] if not market else TimeInForce.GTC,
            bool(body.get("reduceOnly", False)) or (self.spot and side is Side.SELL),
        )

    def _kind(self, body: Row, side: Side, market: bool, trigger: str) -> OrderType:
        if not trigger:
            return OrderType.MARKET if market else OrderType.LIMIT
        rises = not self.spot and body["triggerDirection"] == 1  # spot takes none: the book tells it by the market
        if rises == (side is Side.BUY):
            return OrderType.STOP_MARKET if market else OrderType.STOP_LIMIT
        return OrderType.TAKE_PROFIT_MARKET if market else OrderType.TAKE_PROFIT_LIMIT

    def outcome(self, answer: Answer) -> tuple[int, str, str]:
        """Code, text, order id."""
        match answer:
            case Acked(venue_order_id=number):
                return 0, "OK", number
            case Rejection(code=code):
                linear, spot, text = CODES.get(code, (10001, 10001, f"params error: {code}"))
                return (spot if self.spot else linear), text, ""
            case Silence(why=why):
                return self.chance.choice(UNSURE), why, ""

    def limit_headers(self, op: str) -> tuple[tuple[str, str], ...]:
        used = min(len(self._sent.get(op, [])), 10)
        return (("X-Bapi-Limit", "10"), ("X-Bapi-Limit-Status", str(10 - used)), ("X-Bapi-Limit-Reset-Timestamp", "0"))

    def write(self, op: str, body: Row, answer: Answer) -> Response:
        """By REST."""
        if isinstance(answer, Rejection) and answer.code == "418":
            return self.banned()
        if isinstance(answer, Silence) and self.chance.random() < 0.5:
            status = self.chance.choice((500, 502, 503, 504))
            return Response(status, b"<html><body>bad gateway</body></html>", (), "text/html")
        code, text, number = self.outcome(answer)
        if code:
            return self.refuse(code, text, self.limit_headers(op))
        return self.wrap({"orderId": number, "orderLinkId": body.get("orderLinkId", "")}, self.limit_headers(op))

    # --------------------------------------------------------------------------------------------------------- queries

    def instruments(self) -> list[Row]:
        return [self._instrument(market.instrument) for market in self.venue.markets.values()]

    def _instrument(self, i: Any) -> Row:
        common = {"symbol": i.symbol, "baseCoin": i.base, "quoteCoin": i.quote, "status": "Trading"}
        if self.spot:
            lots = {
                "basePrecision": plain(i.lot),
                "minOrderAmt": plain(i.notional_min),
                "maxOrderQty": plain(i.qty_max),
            }
            bounds = {"maxLimitOrderQty": plain(i.qty_max), "maxMarketOrderQty": plain(i.qty_max)}
            return common | {"lotSizeFilter": lots | bounds, "priceFilter": {"tickSize": plain(i.tick)}}
        return common | {
            "contractType": "LinearPerpetual",
            "settleCoin": i.quote,
            "leverageFilter": {"maxLeverage": plain(i.leverage_max)},
            "priceFilter": {"tickSize": plain(i.tick)},
            "lotSizeFilter": {
                "maxOrderQty": plain(i.qty_max),
                "maxMktOrderQty": plain(i.qty_max),
                "minOrderQty": plain(i.qty_min),
                "qtyStep": plain(i.lot),
                "minNotionalValue": plain(i.notional_min),
            },
        }

    def fee_rate(self, params: Row) -> Row:
        rules = [market.instrument for market in self.venue.markets.values()]
        rates = [
            {"symbol": i.symbol, "takerFeeRate": plain(i.taker_fee), "makerFeeRate": plain(i.maker_fee)} for i in rules
        ]
        return {"category": self.category, "list": rates}

    def key_info(self, params: Row) -> Row:
        permissions = {"ContractTrade": ["Order", "Position"], "Spot": ["SpotTrade"], "Wallet": []}
        return {"readOnly": 0, "permissions": permissions, "ips": ["10.0.0.1"], "expiredAt": "", "uta": 1}

    def account_info(self, params: Row) -> Row:
        return {"unifiedMarginStatus": 5, "marginMode": "REGULAR_MARGIN"}

    def wallet(self, params: Row) -> Row:
        coins = [{"coin": asset, "walletBalance": plain(total)} for asset, total in sorted(self.venue.balances.items())]
        return {"list": [{"accountType": "UNIFIED", "coin": coins}]}

    def positions(self, params: Row) -> Row:
        rows = []
        held = {report.symbol: report for report in self.venue.list_positions()}
        for symbol in self.venue.markets:
            report = held.get(symbol)
            if params.get("symbol", symbol) != symbol or (report is None and "symbol" not in params):
                continue
            rows.append(
                {
                    "symbol": symbol,
                    "positionIdx": 0,
                    "side": "" if report is None else ("Buy" if report.qty > 0 else "Sell"),
                    "size": "0" if report is None else plain(abs(report.qty)),
                    "avgPrice": "0" if report is None else plain(report.avg_price),
                    "leverage": "10",
                    "positionStatus": "Normal",
                }
            )
        return {"category": self.category, "list": rows, "nextPageCursor": ""}

    def realtime(self, params: Row) -> Row:
        """Open orders, and by id what ended since the last restart, too."""
        venue = self.venue
        if "orderLinkId" in params or "orderId" in params:
            found = self._named(params)
        else:
            found = [o for o in shown(venue, venue.orders.values()) if o.status == "open"]
            found = [o for o in found if not venue.fault(venue.faults.list_holes)]
        return self._page(params, [self.order_row(venue.report(o)) for o in found if self._filtered(o, params)])

    def history(self, params: Row) -> Row:
        found = [o for o in self._named(params) if o.status != "open"]
        return self._page(params, [self.order_row(self.venue.report(o)) for o in found if self._filtered(o, params)])

    def _named(self, params: Row) -> list[Resting]:
        """By id; newest first."""
        found = self.venue.named(params.get("symbol", ""), params.get("orderLinkId", ""), params.get("orderId", ""))
        return [] if found is None else [found]

    def _filtered(self, order: Resting, params: Row) -> bool:
        """Conditional orders are told apart; without a filter futures show all, spot the plain ones."""
        wants = params.get("orderFilter", "Order" if self.spot else "")
        fits = {"": True, "Order": not order.order_type.conditional, "StopOrder": order.order_type.conditional}
        return fits.get(wants, False)

    def executions(self, params: Row) -> Row:
        """Newest first; funding is among them."""
        by_id = params.get("orderLinkId", "")
        since, until = int(params.get("startTime", 0)), int(params.get("endTime", 10**15))
        assert by_id or until - since <= 7 * 86_400_000
        rows = []
        for kept in self._kept():
            report = kept.report
            if by_id:
                if isinstance(report, FillReport) and report.cid == by_id:
                    rows.append(self.execution_row(report))
            elif since <= report.venue_ns // MILLISECOND <= until:
                rows.append(self.execution_row(report))
        return self._page(params, rows)

    def _kept(self) -> list[Kept]:
        now = self.venue.wall_ns()
        return [kept for kept in reversed(self.venue.history) if kept.visible_ns <= now]

    def _page(self, params: Row, rows: list[Row]) -> Row:
        limit = int(params.get("limit", 20))
        begin = int(unquote(params.get("cursor", "")).partition(":")[0] or 0)
        cursor = quote(f"{begin + limit}:0", safe="") if begin + limit < len(rows) else ""
        return {"category": self.category, "list": rows[begin : begin + limit], "nextPageCursor": cursor}

    # ------------------------------------------------------------------------------------------------------------ rows

    def order_row(self, report: OrderReport) -> Row:
        conditional = report.order_type.conditional
        cancel_type, reason = CANCELED_BY.get(report.reason, ("CancelByUser", "EC_PerCancelRequest"))
        if report.status in ("open", "filled"):
            cancel_type, reason = "UNKNOWN", "EC_NoError"
        row = {
            "symbol": report.symbol,
            "orderId": report.venue_order_id,
            "orderLinkId": report.cid,
            "side": SIDE_WORDS[report.side],
            "orderType": "Market" if report.order_type in MARKET_TYPES else "Limit",
            "qty": plain(report.qty),
            "price": plain(report.price),
            "triggerPrice": plain(report.trigger_price) if conditional else "",
            "triggerDirection": self._direction(report) if conditional else 0,
            "stopOrderType": "Stop" if conditional else "",
            "reduceOnly": False if self.spot else report.reduce_only,
            "cumExecQty": plain(report.filled_qty),
            "orderStatus": self._status(report),
            "cancelType": cancel_type,
            "rejectReason": reason,
            "timeInForce": "GTC",
            "createdTime": str(self.now_ms),
            "updatedTime": str(report.venue_ns // MILLISECOND),
        }
        return row

    def _direction(self, report: OrderReport) -> int:
        if self.spot:
            return 0
        stop = report.order_type in (OrderType.STOP_MARKET, OrderType.STOP_LIMIT)
        return 1 if stop is (report.side is Side.BUY) else 2

    def _status(self, report: OrderReport) -> str:
        venue = self.venue
        if venue.fault(venue.faults.odd_words):
            venue.truth.reach("a status that nobody knows")
            return "Suspended"
        part = bool(report.filled_qty)
        match report.status:
            case "open":
                return "PartiallyFilled" if part else ("Untriggered" if report.order_type.conditional else "New")
            case "filled":
                return "Filled"
            case "rejected":
                return "Rejected"
        return "PartiallyFilledCanceled" if self.spot and part else "Cancelled"

    def execution_row(self, report: FillReport | FundingReport) -> Row:
        if isinstance(report, FundingReport):
            return {
                "symbol": report.symbol,
                "execId": report.funding_id,
                "execType": "Funding",
                "side": "Buy",
                "execPrice": "1",
                "execQty": "1",
                "execFee": plain(-report.amount),
                "feeCurrency": report.asset,
                "execTime": str(report.venue_ns // MILLISECOND),
            }
        nobody = not report.cid
        return {
            "symbol": report.symbol,
            "orderId": report.venue_order_id,
            "orderLinkId": report.cid,
            "side": SIDE_WORDS[report.side],
            "execId": report.exec_id,
            "execType": "BustTrade" if nobody else "Trade",
            "execPrice": plain(report.price),
            "execQty": plain(report.qty),
            "execFee": plain(report.fee),
            "feeCurrency": report.fee_asset,
            "isMaker": report.maker,
            "execTime": str(report.venue_ns // MILLISECOND),
            "extraFees": "",
        }

    # ------------------------------------------------------------------------------------------------------ WebSockets

    def open(self, path: str, query: str, wires: Wires) -> Session | None:
        if path == "/v5/private":
            return PrivateSession(self, wires)
        return TradeSession(self, wires) if path == "/v5/trade" else None

    def log_on(self, life: Life, args: list[Any]) -> str:
        key, expires, signed = args
        if key != KEY or signed != signature(f"GET/realtime{expires}".encode()):
            protest(self.venue, life, "a login that is not signed")
        return "" if int(expires) > self.now_ms else "expires is not in the future"

    def frame(self, topic: str, row: Row) -> bytes:
        self._told += 1
        body = {"id": str(self._told), "topic": topic, "creationTime": self.now_ms}
        return json.dumps(body | {"data": [{"category": self.category, **row}]}).encode()


class PrivateSession:
    private = True

    def __init__(self, face: BybitFace, wires: Wires) -> None:
        self._face, self._wires = face, wires
        self._known = False
        self._topics: set[str] = set()
        self._told = Told(face.venue, self._tell, wires)

    def opened(self) -> None:
        """It must log in first."""

    def hear(self, text: bytes) -> list[bytes] | Act:
        face, message = self._face, json.loads(text)
        op, req_id = message["op"], message.get("req_id", "")
        if op == "ping":
            return [json.dumps({"req_id": req_id, "op": "pong", "args": [str(face.now_ms)], "conn_id": "c"}).encode()]
        wrong = ""
        if op == "auth":
            wrong = face.log_on(self._wires.life, message["args"])
            self._known = not wrong
        elif op == "subscribe":
            wrong = "" if self._known else "Request not authorized"
            self._topics |= set(message["args"]) if self._known else set()
            if {f"order.{face.category}", f"execution.{face.category}"} <= self._topics:
                self._told.begin()
        return [json.dumps({"success": not wrong, "ret_msg": wrong, "op": op, "req_id": req_id}).encode()]

    def _tell(self, report: VenueReport, about: OrderReport | None) -> None:
        face = self._face
        if isinstance(report, OrderReport):
            return self._wires.post(face.frame(f"order.{face.category}", face.order_row(report)))
        if isinstance(report, FillReport | FundingReport):
            self._wires.post(face.frame(f"execution.{face.category}", face.execution_row(report)))
        return None

    def close(self) -> None:
        self._told.end()


class TradeSession:
    private = False

    def __init__(self, face: BybitFace, wires: Wires) -> None:
        self._face, self._wires = face, wires
        self._known = False
        self._numbers: set[str] = set()

    def opened(self) -> None:
        """It must log in first."""

    def hear(self, text: bytes) -> list[bytes] | Act:
        face, message = self._face, json.loads(text)
        op, number = message["op"], message.get("reqId", "")
        if op == "ping":
            pong = {"retCode": 0, "retMsg": "OK", "op": "pong", "data": [str(face.now_ms)], "connId": "c"}
            return [json.dumps(pong).encode()]
        if op == "auth":
            wrong = face.log_on(self._wires.life, message["args"])
            self._known = not wrong
            code = 10004 if wrong else 0
            answer = {"reqId": number, "retCode": code, "retMsg": wrong or "OK", "op": "auth", "connId": "c"}
            return [json.dumps(answer).encode()]
        if not self._known or number in self._numbers or not number:
            protest(face.venue, self._wires.life, f"{op} before the login, or under a number that was used: {number}")
        self._numbers.add(number)
        (body,) = message["args"]
        header = message["header"]
        stamp = face.stamped(self._wires.life, header["X-BAPI-TIMESTAMP"], header["X-BAPI-RECV-WINDOW"])

        def write(what: str, asked: Row, answer: Answer) -> Response:
            return Response(200, self._write(number, what, asked, answer))

        heard = face.change(self._wires.life, op, body, stamp, write)
        return heard if isinstance(heard, Act) else []

    def _write(self, number: str, op: str, body: Row, answer: Answer) -> bytes:
        face = self._face
        headers: Row = dict(face.limit_headers(op))
        if isinstance(answer, Rejection) and answer.code == "418":
            answer = Rejection("10006", "rate_limited", "")
            headers |= dict(face._ban_headers())
        if isinstance(answer, Silence) and face.chance.random() < 0.2:
            # Some failures come without the number of their request.
            lost = {"success": False, "ret_msg": "Params Error", "op": op, "conn_id": "c"}
            return json.dumps(lost).encode()
        code, text, order_id = face.outcome(answer)
        data = {"orderId": order_id, "orderLinkId": body.get("orderLinkId", "")} if not code else {}
        frame = {"reqId": number, "retCode": code, "retMsg": text, "op": op, "data": data, "connId": "c"}
        header = headers | {"Timenow": str(face.now_ms)}
        return json.dumps(frame | {"retExtInfo": {}, "header": header}).encode()

    def close(self) -> None:
        pass


QUERIES: dict[str, Callable[[BybitFace, Row], Row]] = {
    "account/fee-rate": BybitFace.fee_rate,
    "account/info": BybitFace.account_info,
    "account/transaction-log": BybitFace.transfers,
    "account/wallet-balance": BybitFace.wallet,
    "user/query-api": BybitFace.key_info,
    "position/list": BybitFace.positions,
    "order/realtime": BybitFace.realtime,
    "order/history": BybitFace.history,
    "execution/list": BybitFace.executions,
}
