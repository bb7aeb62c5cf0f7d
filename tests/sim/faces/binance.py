"""What Binance's two markets have in common in front of the simulated venue: signatures, windows, errors, bans, frames.

Written from the documents a second time, apart from the local exchange's faces and from the adapters. An id is unique
among open orders only; the request's age is looked at twice; executions are named by trade and order together.
"""

import json
import re
from collections.abc import Callable
from random import Random
from typing import Any
from urllib.parse import parse_qsl

from msgspec import Struct

from engine.core.messages import (
    Acked,
    Answer,
    FillReport,
    Order,
    OrderReport,
    OrderType,
    Rejection,
    Side,
    Silence,
    TimeInForce,
    VenueReport,
)
from engine.core.times import MILLISECOND, SECOND
from engine.exchange.http import Request, Response
from tests.sim.faces.serve import Act, Ask, Session, Told, Wires, protest
from tests.sim.faces.words import KEY, plain, signature
from tests.sim.truth import Declined
from tests.sim.venue import Life, Resting, SimVenue

Row = dict[str, Any]
SIDES = {"BUY": Side.BUY, "SELL": Side.SELL}
SIDE_WORDS = {side: word for word, side in SIDES.items()}
TIFS = {"GTC": TimeInForce.GTC, "IOC": TimeInForce.IOC, "FOK": TimeInForce.FOK, "GTX": TimeInForce.POST_ONLY}
FORM = "application/x-www-form-urlencoded"
_SIGNATURE = re.compile(r"&signature=[^&]*$")


class Wrong(Exception):
    """A refusal: HTTP status, and the error's body."""

    def __init__(self, status: int, code: int, text: str, data: Row | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.body: Row = {"code": code, "msg": text} | ({"data": data} if data else {})


class Route(Struct):
    """One operation. `run` answers a question; `act` makes what changes something."""

    run: Callable[[Row], Any] | None = None
    act: Callable[[Life, Row], "Deed"] | None = None
    weight: int = 1
    signed: bool = True


# Status, code and text of failures after which an order may live (code 0: a page of HTML), and of those after which it
# does not.
DOUBTFUL = (
    (504, -1007, "Timeout waiting for response from backend server. Send status unknown;"),
    (500, -1006, "An unexpected response was received from the message bus."),
    (502, 0, ""),
    (503, -1000, "Unknown error, please check your request or try again later."),
)
SURELY_FAILED = (
    (503, -1001, "Internal error; unable to process your request. Please try again."),
    (503, -1008, "Request throttled by system-level protection."),
)


class Deed(Struct):
    """What a request does, and its answer where it succeeds."""

    what: str
    cid: str
    work: Callable[[], Any]
    done: Callable[[Acked], Row]


class BinanceFace:
    """One market. Subclasses have its routes, its rows and its events."""

    codes: dict[str, tuple[int, str]]
    routes: dict[tuple[str, str], Route]
    calls: dict[str, Route]
    api_path: str

    def __init__(self, venue: SimVenue, seed: str) -> None:
        self.venue = venue
        self.chance = Random(f"{seed}/binance")
        self._weights: dict[int, int] = {}
        self._orders: list[int] = []

    @property
    def now_ms(self) -> int:
        return self.venue.now_ns // MILLISECOND

    # ------------------------------------------------------------------------------------------------------------ REST

    def hear(self, life: Life, request: Request) -> Act | Ask | Response:
        route = self.routes.get((request.method, request.path))
        if route is None:
            protest(self.venue, life, f"no such path: {request.method} {request.path}")
            return Response(404, b"")
        in_body = request.method in ("POST", "PUT")
        text = request.body.decode() if in_body else request.query
        if in_body and request.query:
            protest(self.venue, life, "parameters in the query of a POST")
        self._count(route.weight)
        params = dict(parse_qsl(text, keep_blank_values=True))
        if route.signed:
            self._check(life, text, params.pop("signature", ""), request.header("x-mbx-apikey"))
        if route.act is not None:
            deed = route.act(life, params)
            return Act(deed.what, self._gated(deed, params), lambda answer: self._write(deed, answer), deed.cid)
        return Ask(lambda: self._answer(route, params))

    def _check(self, life: Life, text: str, given: str, key: str) -> None:
        if given != signature(_SIGNATURE.sub("", text).encode()) or key != KEY:
            protest(self.venue, life, f"not signed: {text[:80]}")

    def _answer(self, route: Route, params: Row) -> Response:
        assert route.run is not None
        try:
            if route.signed:
                self._in_time(params)
            body = route.run(params)
        except Wrong as wrong:
            return self._error(wrong)
        return Response(200, json.dumps(body).encode(), self._headers())

    def _in_time(self, params: Row) -> None:
        """Raises Wrong: -1021 for one too old, and for one from the future."""
        if self._stamp_ns(params) == 0:
            raise Wrong(400, -1021, "Timestamp for this request is outside of the recvWindow.")

    def _stamp_ns(self, params: Row) -> int:
        """0: not to be taken."""
        stamp, window = int(params["timestamp"]), int(params["recvWindow"])
        fits = stamp < self.now_ms + 1000 and self.now_ms - stamp <= window
        return stamp * MILLISECOND if fits else 0

    def _gated(self, deed: Deed, params: Row) -> Callable[[], Any]:
        async def work() -> Answer:
            if deed.what == "cancel" and not self._stamp_ns(params):
                return Rejection("-1021", "unavailable", "")
            answer: Answer = await deed.work()
            return answer

        return work

    def _error(self, wrong: Wrong) -> Response:
        return Response(wrong.status, json.dumps(wrong.body).encode(), self._headers())

    def _count(self, weight: int) -> None:
        minute = self.venue.now_ns // (60 * SECOND)
        self._weights = {minute: self._weights.get(minute, 0) + weight}

    def _headers(self) -> tuple[tuple[str, str], ...]:
        used = str(self._weights.get(self.venue.now_ns // (60 * SECOND), 0))
        return (("X-MBX-USED-WEIGHT", used), ("X-MBX-USED-WEIGHT-1M", used))

    def banned(self) -> Response:
        left_ns = self.venue.banned_until_ns - self.venue.wall_ns()
        until_ms = (self.venue.now_ns + left_ns) // MILLISECOND + 1
        retry = (("Retry-After", str(max(1, -(-left_ns // SECOND)))),)
        if self.chance.random() < 0.5:
            text = f"Way too much request weight used; IP banned until {until_ms}. Please use WebSocket Streams."
            return Response(418, json.dumps({"code": -1003, "msg": text}).encode(), retry)
        text = "Too much request weight used; current limit is 6000 request weight per 1 MINUTE."
        return Response(429, json.dumps({"code": -1003, "msg": text}).encode(), retry)

    def refusal(self, answer: Rejection) -> Wrong:
        code, text = self.codes.get(answer.code, (-1102, f"parameter: {answer.code}"))
        return Wrong(429 if code == -1015 else 400, code, text)

    def unsure(self, deed: Deed, answer: Silence) -> tuple[int, bytes]:
        """Of doubtful ends; where surely nothing was done, the venue may say so, too."""
        sure = SURELY_FAILED if answer.why.startswith("503") else ()
        status, code, text = failure = self.chance.choice((*DOUBTFUL, *sure))
        if failure in sure and deed.what == "submit":
            self.venue.truth.tell(Declined(self.venue.wall_ns(), cid=deed.cid, code=str(code)))
        return status, json.dumps({"code": code, "msg": text}).encode() if code else b"<html>502 Bad Gateway</html>"

    def _write(self, deed: Deed, answer: Answer) -> Response:
        match answer:
            case Acked():
                return Response(200, json.dumps(deed.done(answer)).encode(), self._headers())
            case Rejection(code="418"):
                return self.banned()
            case Rejection():
                return self._error(self.refusal(answer))
            case Silence():
                return Response(*self.unsure(deed, answer))

    # ------------------------------------------------------------------------------------------------------ WebSockets

    def open(self, path: str, query: str, wires: Wires) -> Session | None:
        return ApiSession(self, wires) if path == self.api_path else None

    def limits(self) -> list[Row]:
        used = self._weights.get(self.venue.now_ns // (60 * SECOND), 0)
        row = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": 6000}
        return [row | {"count": used}]

    def events(self, report: VenueReport, about: OrderReport | None) -> list[Row]:
        raise NotImplementedError

    # ----------------------------------------------------------------------------------------------------- small parts

    def number_of(self, params: Row, *names: str) -> str:
        return next((str(params[name]) for name in names if name in params), "")

    def placed(self, order: Order, life: Life, params: Row, done: Callable[[Acked], Row]) -> Deed:
        window_ns = int(params["recvWindow"]) * MILLISECOND
        return Deed(
            "submit", order.cid, lambda: self.venue.submitted(life, order, self._stamp_ns(params), window_ns), done
        )

    def status(self, report: OrderReport) -> str:
        venue = self.venue
        if venue.fault(venue.faults.odd_words):
            venue.truth.reach("a status that nobody knows")
            return "PENDING_REVIEW"
        match report.status:
            case "open":
                return "PARTIALLY_FILLED" if report.filled_qty else "NEW"
            case "filled":
                return "FILLED"
            case "rejected":
                return self.rejected
            case "expired":
                return "EXPIRED"
        by_itself = report.reason in ("immediate or cancel", "nothing left to reduce")
        return "EXPIRED" if by_itself else "CANCELED"

    rejected = "REJECTED"

    def visible(self) -> list[Resting]:
        """Open, and seen by queries."""
        venue, now = self.venue, self.venue.wall_ns()
        return [o for o in venue.orders.values() if o.status == "open" and o.visible_ns <= now]

    def trades(self, params: Row) -> list[FillReport]:
        """Ascending; by order, from a number on, or within a span of time."""
        venue, now = self.venue, self.venue.wall_ns()
        symbol, limit = params["symbol"], int(params.get("limit", 500))
        kept = [k.report for k in venue.history if k.visible_ns <= now and isinstance(k.report, FillReport)]
        mine = [report for report in kept if report.symbol == symbol]
        if "orderId" in params:
            mine = [report for report in mine if report.venue_order_id == str(params["orderId"])]
        elif "fromId" in params:
            mine = [report for report in mine if trade_number(report) >= int(params["fromId"])]
        else:
            since, until = int(params["startTime"]), int(params["endTime"])
            mine = [report for report in mine if since <= report.venue_ns // MILLISECOND <= until]
        return mine[:limit]


class ApiSession:
    """The WebSocket API; on Spot the private events, too."""

    private = False

    def __init__(self, face: BinanceFace, wires: Wires) -> None:
        self._face, self._wires = face, wires
        self._told = Told(face.venue, self._tell, wires)

    def opened(self) -> None:
        """Each request bears its own signature."""

    def hear(self, text: bytes) -> list[bytes] | Act:
        face, message = self._face, json.loads(text)
        number, method, params = message["id"], message["method"], message["params"]
        given, key = params.pop("signature", ""), params.get("apiKey", "")
        signed = "&".join(f"{name}={params[name]}" for name in sorted(params))
        if given != signature(signed.encode()) or key != KEY:
            protest(face.venue, self._wires.life, f"not signed: {method}")
        if method == "userDataStream.subscribe.signature":
            return [self._subscribe(number, params)]
        route = face.calls.get(method)
        if route is None or route.act is None:
            protest(face.venue, self._wires.life, f"no such method: {method}")
            return []
        face._count(route.weight)
        deed = route.act(self._wires.life, params)
        return Act(deed.what, face._gated(deed, params), lambda answer: self._write(number, deed, answer), deed.cid)

    def _subscribe(self, number: str, params: Row) -> bytes:
        face, venue = self._face, self._face.venue
        if not face._stamp_ns(params):
            return _frame(number, 400, {"code": -1021, "msg": "Timestamp for this request is outside of the window."})
        if venue.dead == "the private stream" or venue.fault(venue.faults.stream_refused):
            return _frame(number, 503, {"code": -1008, "msg": "Request throttled by system-level protection."})
        self._told.begin()
        return json.dumps({"id": number, "status": 200, "result": {"subscriptionId": 0}}).encode()

    def _write(self, number: str, deed: Deed, answer: Answer) -> Response:
        face = self._face
        match answer:
            case Acked():
                body = {"id": number, "status": 200, "result": deed.done(answer), "rateLimits": face.limits()}
                frame = json.dumps(body).encode()
            case Rejection(code="418"):
                venue = face.venue
                until_ms = (venue.banned_until_ns + venue.now_ns - venue.wall_ns()) // MILLISECOND + 1
                error = {"code": -1003, "msg": f"Way too much request weight used; IP banned until {until_ms}."}
                data = {"serverTime": face.now_ms, "retryAfter": until_ms}
                frame = _frame(number, 418, error | {"data": data})
            case Rejection():
                wrong = face.refusal(answer)
                frame = _frame(number, wrong.status, wrong.body)
            case Silence():
                status, raw = face.unsure(deed, answer)
                body = json.loads(raw) if raw.startswith(b"{") else {"code": -1000, "msg": "An unknown error occurred."}
                frame = _frame(number, status, body)
        return Response(200, frame)

    def _tell(self, report: VenueReport, about: OrderReport | None) -> None:
        for event in self._face.events(report, about):
            self._wires.post(json.dumps({"subscriptionId": 0, "event": event}).encode())

    def close(self) -> None:
        self._told.end()


def _frame(number: str, status: int, error: Row) -> bytes:
    return json.dumps({"id": number, "status": status, "error": error, "rateLimits": []}).encode()


def trade_number(report: FillReport) -> int:
    return int(report.exec_id.partition("-")[0])


def filters(i: Any, spot: bool) -> list[Row]:
    lots = {"minQty": plain(i.qty_min), "maxQty": plain(i.qty_max), "stepSize": plain(i.lot)}
    price = {"filterType": "PRICE_FILTER", "minPrice": plain(i.tick), "maxPrice": "10000000"}
    worth = {"filterType": "NOTIONAL", "minNotional": plain(i.notional_min)}
    if not spot:
        worth = {"filterType": "MIN_NOTIONAL", "notional": plain(i.notional_min)}
    return [
        price | {"tickSize": plain(i.tick)},
        {"filterType": "LOT_SIZE", **lots},
        {"filterType": "MARKET_LOT_SIZE", **lots},
        worth,
        {"filterType": "SOMETHING_NEW", "limit": 5},
    ]


SPOT_TYPES = {
    "MARKET": OrderType.MARKET,
    "LIMIT": OrderType.LIMIT,
    "LIMIT_MAKER": OrderType.LIMIT,
    "STOP_LOSS": OrderType.STOP_MARKET,
    "STOP_LOSS_LIMIT": OrderType.STOP_LIMIT,
    "TAKE_PROFIT": OrderType.TAKE_PROFIT_MARKET,
    "TAKE_PROFIT_LIMIT": OrderType.TAKE_PROFIT_LIMIT,
}
USDM_TYPES = {
    "MARKET": OrderType.MARKET,
    "LIMIT": OrderType.LIMIT,
    "STOP_MARKET": OrderType.STOP_MARKET,
    "STOP": OrderType.STOP_LIMIT,
    "TAKE_PROFIT_MARKET": OrderType.TAKE_PROFIT_MARKET,
    "TAKE_PROFIT": OrderType.TAKE_PROFIT_LIMIT,
}
