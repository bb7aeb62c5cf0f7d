"""Binance over HTTP: gate, routes, envelope. Spot and futures differ by what is handed in."""

import hashlib
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import Struct

from engine.core.times import SECOND
from engine.exchange.binance.caller import Caller
from engine.exchange.binance.codes import Refused
from engine.exchange.binance.gate import Gate, Headers, Limits, Route
from engine.exchange.binance.sockets import MarketStream, UserStream, WsApi
from engine.exchange.faults import Fault
from engine.exchange.house import House, Member
from engine.exchange.http import Request, Response, form
from engine.exchange.params import Malformed, Params
from engine.exchange.screen import Screens
from engine.exchange.terms import ExchangeTerms, KeyTerms

_LISTEN_NS = 3600 * SECOND
_HTML = b"<html><head><title>%d</title></head><body><h1>%d</h1></body></html>"


class Layout(Struct, frozen=True):
    """What makes a face spot or futures."""

    name: str
    category: str
    ws_api: str  # path of the WebSocket API
    stream_roots: tuple[str, ...]  # before /ws and /stream
    limits: Limits
    routes: dict[tuple[str, str], Route]  # by method and path
    gone: tuple[str, ...] = ()  # paths that were removed: 410
    user_events: Callable[..., list[dict[str, Any]]] | None = None  # of a step, for a private stream
    listen_keys: bool = False


class ListenKey(Struct):
    account: str
    until_ns: int


class Binance:
    """One face. `numbered` counts the ids that it makes up where a client gave none."""

    def __init__(self, house: House, terms: ExchangeTerms, layout: Layout) -> None:
        self.name = layout.name
        self.house = house
        self.terms = terms
        self.layout = layout
        self.screens = Screens(house)
        self.gate = Gate(terms, layout.limits)
        self.banned = self.gate.banned
        self.ping_seconds = 20.0 if layout.category == "spot" else 180.0
        self.listen: dict[str, ListenKey] = {}
        self.methods = {route.operation: route for route in layout.routes.values()}
        self.countdowns: dict[tuple[str, str], int] = {}  # account, symbol -> when its orders are cancelled
        self._numbered = 0

    def number(self) -> int:
        self._numbered += 1
        return self._numbered

    def rate_limits(self) -> list[dict[str, Any]]:
        """As exchangeInfo lists them."""
        limits = self.layout.limits
        weight = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": limits.weight}
        return [
            weight,
            *(
                {"rateLimitType": "ORDERS", "interval": o.interval, "intervalNum": o.times, "limit": o.limit}
                for o in limits.orders
            ),
        ]

    # --------------------------------------------------------------------------------------------------------- HTTP

    def operation(self, request: Request) -> str:
        route = self.layout.routes.get((request.method, request.path))
        return route.operation if route else request.path

    def answer(self, request: Request, now_ns: int) -> Response:
        account, peer = "", request.peer
        try:
            route = self._route(request)
            self.gate.admit(peer, route.weight, now_ns)
            key = self.gate.rest_key(request, route.security, now_ns)
            account = key.account if key else ""
            params: Params = dict(form(request.body.decode("utf-8", "replace")) | form(request.query))
            body = msgspec.json.encode(self.run(route, key, params, now_ns))
            return Response(200, body, self.gate.headers(peer, account, now_ns))
        except Refused as refusal:
            return self._refusal(refusal, self.gate.headers(peer, account, now_ns))
        except Malformed as error:
            return self._refusal(malformed(error), self.gate.headers(peer, account, now_ns))

    def refusal(self, fault: Fault, now_ns: int) -> Response:
        return self._refusal(Refused(fault.code, fault.text, fault.status), ())

    def tick(self, now_ns: int) -> None:
        """The dead-man's switches that nobody has put off."""
        for (account, symbol), due_ns in list(self.countdowns.items()):
            if due_ns <= now_ns:
                del self.countdowns[account, symbol]
                member = self.house.members[account]
                for record in list(member.open_records()):
                    if record.listing.symbol == symbol and not record.order.request.order_type.conditional:
                        member.cancel(record, now_ns)

    def run(self, route: Route, key: KeyTerms | None, params: Params, now_ns: int) -> Any:
        """Raises Refused, Malformed."""
        if route.trades and not (key and key.trade):
            raise Refused(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        if key is not None:
            self.gate.count(key.account, route.orders, now_ns)
        member = self.house.members[key.account] if key else None
        return route.run(Caller(self.screens, self.layout.category, now_ns, key, member, self), params)

    # ------------------------------------------------------------------------------------------------------ sockets

    def connect(self, path: str, query: str, push: Callable[[bytes], None], number: int) -> Any:
        layout = self.layout
        if path.rstrip("/") == layout.ws_api:
            return WsApi(self, push, query)
        for root in layout.stream_roots:
            rest = path.removeprefix(root)
            if path.startswith(root) and (rest.startswith("/ws") or rest.startswith("/stream")):
                return self._stream(root, rest, form(query), push)
        return None

    def refuse_message(self, session: object, text: bytes, fault: Fault, now_ns: int) -> bytes:
        message = json_or_empty(text)
        error = {"code": fault.code, "msg": fault.text}
        status = fault.status if fault.status != 200 else 400
        return msgspec.json.encode({"id": message.get("id"), "status": status, "error": error, "rateLimits": []})

    def member_of(self, key: KeyTerms) -> Member:
        return self.house.members[key.account]

    # -------------------------------------------------------------------------------------------------- listen keys

    def open_listen_key(self, caller: Caller, params: Params) -> dict[str, Any]:
        """The same key again while it lives, for another hour."""
        assert caller.key is not None
        for name, listen in self.listen.items():
            if listen.account == caller.key.account and listen.until_ns > caller.now_ns:
                listen.until_ns = caller.now_ns + _LISTEN_NS
                return {"listenKey": name}
        name = hashlib.sha256(f"{caller.key.account}/{self.number()}/{caller.now_ns}".encode()).hexdigest()
        self.listen[name] = ListenKey(caller.key.account, caller.now_ns + _LISTEN_NS)
        return {"listenKey": name}

    def keep_listen_key(self, caller: Caller, params: Params) -> dict[str, Any]:
        name = self._live_key(caller, params)
        self.listen[name].until_ns = caller.now_ns + _LISTEN_NS
        return {"listenKey": name}

    def close_listen_key(self, caller: Caller, params: Params) -> dict[str, Any]:
        self.listen.pop(self._live_key(caller, params), None)
        return {}

    def _live_key(self, caller: Caller, params: Params) -> str:
        assert caller.key is not None
        for name, listen in self.listen.items():
            if listen.account == caller.key.account and listen.until_ns > caller.now_ns:
                return name
        raise Refused(-1125, "This listenKey does not exist.")

    # ------------------------------------------------------------------------------------------------------- inside

    def _route(self, request: Request) -> Route:
        if request.path in self.layout.gone:
            raise Refused(0, "", 410)
        route = self.layout.routes.get((request.method, request.path))
        if route is None:
            raise Refused(0, "", 404)
        return route

    def _refusal(self, refusal: Refused, headers: Headers) -> Response:
        if not refusal.code:  # answered by what stands in front of the API, which speaks HTML
            return Response(refusal.status, _HTML % (refusal.status, refusal.status), (), "text/html")
        body: dict[str, Any] = {"code": refusal.code, "msg": refusal.text}
        if refusal.data is not None and refusal.status not in (418, 429):
            body["data"] = refusal.data
        return Response(refusal.status, msgspec.json.encode(body), (*headers, *refusal.headers))

    def _stream(self, root: str, rest: str, query: dict[str, str], push: Callable[[bytes], None]) -> Any:
        """Market streams, or the private one of a listen key. Without its root the private one stays silent."""
        combined = rest.startswith("/stream")
        named = rest.removeprefix("/stream").removeprefix("/ws").strip("/")
        names = [name for name in (query.get("streams", "") if combined else named).split("/") if name]
        keys = [query["listenKey"]] if "listenKey" in query else names
        if self.layout.listen_keys and (root == "/private" or any(key in self.listen for key in keys)):
            events = tuple(name for name in query.get("events", "").split("/") if name)
            silent = root != "/private"  # since April 2026: it connects, and delivers nothing
            return UserStream(self, keys, events, push, silent, combined)
        return MarketStream(self, names, push, combined)


def malformed(error: Malformed) -> Refused:
    return Refused(-1102, f"Mandatory parameter '{error.name}' was not sent, was empty/null, or malformed.")


def json_or_empty(text: bytes) -> dict[str, Any]:
    try:
        found = msgspec.json.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
