"""Binance's WebSockets: market streams, the futures' private stream, and the WebSocket API."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from engine.core.messages import ZERO
from engine.core.money import plain
from engine.core.times import DAY, SECOND
from engine.exchange.binance.codes import Refused
from engine.exchange.binance.gate import Route
from engine.exchange.binance.market import INTERVALS, kline_row, levels, next_funding, sides, trade_event
from engine.exchange.house import Listing, Member, Told
from engine.exchange.http import form
from engine.exchange.keys import is_ed25519
from engine.exchange.params import Malformed, Params, json_object, word
from engine.exchange.screen import Levels, Screen
from engine.exchange.terms import KeyTerms
from engine.market.events import MarketEvent, TradePrint

if TYPE_CHECKING:
    from engine.exchange.binance.face import Binance

Push = Callable[[bytes], None]
Row = dict[str, Any]

_STREAMS_MAX = 1024
_DEPTH_MAX = 1000


class MarketStream:
    """Market data by stream name, raw or combined."""

    scope = "public"
    idle_ns = DAY  # of the whole connection; none is idle, the server pings

    def __init__(self, face: "Binance", names: list[str], push: Push, combined: bool) -> None:
        self._face, self._push, self._combined = face, push, combined
        self._topics: dict[str, _Topic] = {}
        self._take(names)
        face.house.watchers.append(self._watch)

    def operation(self, text: bytes) -> str:
        return "public"

    def subscribed(self) -> list[str]:
        return list(self._topics)

    def close(self) -> None:
        self._face.house.watchers.remove(self._watch)

    def hear(self, text: bytes, now_ns: int) -> list[bytes]:
        try:
            message = json_object(text)
        except Malformed as error:
            return [_encode({"error": {"code": 3, "msg": f"Invalid JSON: {error}"}})]
        names, number = message.get("params", []), message.get("id")
        method, named = word(message, "method"), [str(name) for name in names] if isinstance(names, list) else []
        if method == "SUBSCRIBE":
            self._take(named)
        elif method == "UNSUBSCRIBE":
            for name in named:
                self._topics.pop(name, None)
        elif method == "LIST_SUBSCRIPTIONS":
            return [_encode({"result": self.subscribed(), "id": number})]
        else:
            return [_encode({"error": {"code": 2, "msg": f"Invalid request: unknown method {method}"}, "id": number})]
        return [_encode({"result": None, "id": number})]

    def beat(self, now_ns: int) -> None:
        for name, topic in self._topics.items():
            for row in topic.news(self._face, now_ns):
                self._tell(name, row)

    def _take(self, names: list[str]) -> None:
        """Names that mean nothing here are taken like others, and stay silent, as at the venue."""
        for name in names[: _STREAMS_MAX - len(self._topics)]:
            self._topics.setdefault(name, _Topic(self._face, name))

    def _watch(self, listing: Listing, event: MarketEvent) -> None:
        if not isinstance(event, TradePrint) or not self._topics:
            return
        screen = self._face.screens.by_inner[listing.instrument.symbol]
        for kind in ("trade", "aggTrade"):
            name = f"{listing.symbol.lower()}@{kind}"
            if name in self._topics:
                self._tell(name, trade_event(screen, screen.trades[-1], kind, event.at_ns // 1_000_000))

    def _tell(self, name: str, row: Row) -> None:
        self._push(_encode({"stream": name, "data": row} if self._combined else row))


class _Topic:
    """One stream: what it is of, and what of it was told last."""

    def __init__(self, face: "Binance", name: str) -> None:
        symbol, _, kind = name.partition("@")
        self._kind, _, self._more = kind.partition("@")
        self._screen = face.screens.of(face.layout.category, symbol.upper())
        self._seen = 0
        self._next_ns = 0
        self._levels = Levels()

    def news(self, face: "Binance", now_ns: int) -> list[Row]:
        screen = self._screen
        if screen is None or self._kind in ("trade", "aggTrade") or now_ns < self._next_ns:
            return []
        slow = self._kind.startswith(("markPrice", "ticker", "miniTicker", "kline"))
        if screen.changes == self._seen and not self._kind.startswith("markPrice"):
            return []
        self._next_ns = now_ns + (SECOND if slow else 0)
        before, self._seen = self._seen, screen.changes
        row = self._row(face, screen, before, now_ns // 1_000_000)
        return [row] if row is not None else []

    def _row(self, face: "Binance", screen: Screen, before: int, now_ms: int) -> Row | None:
        futures, symbol = face.layout.category == "linear", screen.listing.symbol
        kind = self._kind
        if kind == "bookTicker":
            return _book_ticker(face, screen, futures, now_ms)
        if kind == "depth":
            return self._depth(face, screen, futures, before, now_ms)
        if kind.startswith("depth"):
            bids, asks = sides(face.screens, screen, int(kind[5:]) if kind[5:].isdecimal() else 20)
            if futures:
                row: Row = {"e": "depthUpdate", "E": now_ms, "T": now_ms, "s": symbol}
                row |= {"U": before + 1, "u": screen.changes, "pu": before}
                return row | {"b": levels(bids), "a": levels(asks)}
            return {"lastUpdateId": screen.changes, "bids": levels(bids), "asks": levels(asks)}
        if kind == "markPrice":
            mark = plain(face.screens.mark(screen.listing))
            row = {"e": "markPriceUpdate", "E": now_ms, "s": symbol, "p": mark, "i": mark, "P": mark}
            return row | {"r": plain(screen.funding), "T": next_funding(now_ms)}
        if kind in ("ticker", "miniTicker"):
            return _ticker(face, screen, "24hrTicker" if kind == "ticker" else "24hrMiniTicker", now_ms)
        interval = kind.removeprefix("kline_")
        return _kline(screen, interval, now_ms) if interval in INTERVALS else None

    def _depth(self, face: "Binance", screen: Screen, futures: bool, before: int, now_ms: int) -> Row | None:
        bids, asks = self._levels.difference(sides(face.screens, screen, _DEPTH_MAX))
        row: Row = {"e": "depthUpdate", "E": now_ms, "s": screen.listing.symbol, "U": before + 1, "u": screen.changes}
        if futures:
            row |= {"T": now_ms, "pu": before}
        return row | {"b": levels(bids), "a": levels(asks)}


class UserStream:
    """The futures' private streams of listen keys. A dead key connects all the same, and stays silent."""

    scope = "private"
    idle_ns = DAY

    def __init__(
        self, face: "Binance", keys: list[str], events: tuple[str, ...], push: Push, silent: bool, combined: bool
    ) -> None:
        """`silent`: nothing is ever told, however alive the key."""
        self._face, self._events, self._push, self._combined = face, events, push, combined
        self._silent = silent
        self._keys: dict[str, Member] = {}
        for key in keys:
            self._take(key)

    def operation(self, text: bytes) -> str:
        return "private"

    def subscribed(self) -> list[str]:
        return ["user data"] if self._keys else []

    def hear(self, text: bytes, now_ns: int) -> list[bytes]:
        try:
            message = json_object(text)
        except Malformed as error:
            return [_encode({"error": {"code": 3, "msg": f"Invalid JSON: {error}"}})]
        names, method = message.get("params", []), word(message, "method")
        named = [str(name) for name in names] if isinstance(names, list) else []
        if method == "SUBSCRIBE":
            for name in named:
                self._take(name)
        elif method == "UNSUBSCRIBE":
            for name in named:
                self._leave(name)
        result = list(self._keys) if method == "LIST_SUBSCRIPTIONS" else None
        return [_encode({"result": result, "id": message.get("id")})]

    def beat(self, now_ns: int) -> None:
        for key in list(self._keys):
            listen = self._face.listen.get(key)
            if listen is None or listen.until_ns <= now_ns:
                self._tell(key, {"e": "listenKeyExpired", "E": now_ns // 1_000_000, "listenKey": key})
                self._leave(key)

    def close(self) -> None:
        for key in list(self._keys):
            self._leave(key)

    def _take(self, key: str) -> None:
        listen = self._face.listen.get(key)
        if listen is not None and not self._silent and key not in self._keys:
            member = self._keys[key] = self._face.house.members[listen.account]
            member.listeners[id(self)] = self._listen

    def _leave(self, key: str) -> None:
        member = self._keys.pop(key, None)
        if member is not None:
            member.listeners.pop(id(self), None)

    def _listen(self, member: Member, told: tuple[Told, ...]) -> None:
        assert self._face.layout.user_events is not None
        key = next(key for key, owner in self._keys.items() if owner is member)
        for event in self._face.layout.user_events(member, told, self._face.screens):
            if not self._events or event["e"] in self._events:
                self._tell(key, event)

    def _tell(self, key: str, event: Row) -> None:
        self._push(_encode({"stream": key, "data": event} if self._combined else event))


class WsApi:
    """Requests by WebSocket, and on spot the user data stream on the same connection."""

    scope = "trade"
    idle_ns = DAY

    def __init__(self, face: "Binance", push: Push, query: str) -> None:
        self._face, self._push = face, push
        self._limits = form(query).get("returnRateLimits", "true") != "false"
        self._key: KeyTerms | None = None
        self._subscribed: dict[str, int] = {}  # account -> subscription
        self._subscriptions = 0
        self._session: dict[str, Callable[[Params, int], Any]] = {
            "session.logon": self._log_on,
            "session.status": self._status,
            "session.logout": self._log_out,
            "session.subscriptions": self._list,
            "userDataStream.subscribe": self._subscribe,
            "userDataStream.subscribe.signature": self._subscribe,
            "userDataStream.unsubscribe": self._unsubscribe,
        }

    def operation(self, text: bytes) -> str:
        try:
            return word(json_object(text), "method")
        except Malformed:
            return ""

    def subscribed(self) -> list[str]:
        return ["user data"] if self._subscribed else []

    def beat(self, now_ns: int) -> None:
        """Speaks when it is spoken to, or when something happens."""

    def close(self) -> None:
        for member in self._face.house.members.values():
            member.listeners.pop(id(self), None)

    def hear(self, text: bytes, now_ns: int) -> list[bytes]:
        number, account, with_limits = None, "", self._limits
        try:
            message = json_object(text)
            number, params = message.get("id"), message.get("params") or {}
            if not isinstance(params, dict):
                raise Refused(-1135, "Invalid JSON Request")
            with_limits = with_limits and word(params, "returnRateLimits") != "false"
            result, account = self._run(word(message, "method"), params, now_ns)
            answer: Row = {"id": number, "status": 200, "result": result}
        except Refused as refusal:
            error: Row = {"code": refusal.code, "msg": refusal.text}
            if refusal.data is not None:
                error["data"] = refusal.data
            answer = {"id": number, "status": refusal.status, "error": error}
        except Malformed as wrong:
            code = -1135 if wrong.name == "body" else -1102
            answer = {"id": number, "status": 400, "error": {"code": code, "msg": str(wrong)}}
        if with_limits:
            answer["rateLimits"] = self._face.gate.standing("ws", account, now_ns)
        return [_encode(answer)]

    def _run(self, method: str, params: Params, now_ns: int) -> tuple[Any, str]:
        face = self._face
        session = self._session.get(method)
        if session is not None:
            face.gate.admit("ws", 2, now_ns)
            return session(params, now_ns), self._key.account if self._key else ""
        route: Route | None = face.methods.get(method)
        if route is None:
            raise Refused(-1000, f"Unknown method: {method}")
        face.gate.admit("ws", route.weight, now_ns)
        key = face.gate.message_key(params, route.security, self._key, now_ns)
        return face.run(route, key, params, now_ns), key.account if key else ""

    # ------------------------------------------------------------------------------------------------- the session

    def _log_on(self, params: Params, now_ns: int) -> Row:
        key = self._face.gate.message_key(params, "signed", None, now_ns)
        if key is None or not is_ed25519(key):
            raise Refused(-4056, "HMAC_SHA256 API key is not supported.")
        self._key = key
        return self._status(params, now_ns)

    def _status(self, params: Params, now_ns: int) -> Row:
        return {
            "apiKey": self._key.key if self._key else None,
            "authorizedSince": now_ns // 1_000_000 if self._key else None,
            "connectedSince": now_ns // 1_000_000,
            "returnRateLimits": self._limits,
            "serverTime": now_ns // 1_000_000,
            "userDataStream": bool(self._subscribed),
        }

    def _log_out(self, params: Params, now_ns: int) -> Row:
        self._key = None
        return self._status(params, now_ns)

    def _list(self, params: Params, now_ns: int) -> list[Row]:
        return [
            {"subscriptionId": number, "subscriptionType": "userDataStream"} for number in self._subscribed.values()
        ]

    def _subscribe(self, params: Params, now_ns: int) -> Row:
        if self._face.layout.user_events is None or self._face.layout.listen_keys:
            raise Refused(-1000, "Unknown method: userDataStream.subscribe")
        key = self._key if "apiKey" not in params else None
        key = key or self._face.gate.message_key(params, "signed", None, now_ns)
        assert key is not None
        if key.account in self._subscribed:
            raise Refused(-2035, "User Data Stream subscription already active.")
        number, self._subscriptions = self._subscriptions, self._subscriptions + 1
        self._subscribed[key.account] = number
        self._face.member_of(key).listeners[id(self)] = self._listen
        return {"subscriptionId": number}

    def _unsubscribe(self, params: Params, now_ns: int) -> Row:
        wanted = params.get("subscriptionId")
        accounts = [a for a, number in self._subscribed.items() if wanted in (None, number)]
        if not accounts:
            raise Refused(-2036, "User Data Stream subscription not active.")
        for account in accounts:
            number = self._subscribed.pop(account)
            self._face.house.members[account].listeners.pop(id(self), None)
            event = {"e": "eventStreamTerminated", "E": now_ns // 1_000_000}
            self._push(_encode({"subscriptionId": number, "event": event}))
        return {}

    def _listen(self, member: Member, told: tuple[Told, ...]) -> None:
        assert self._face.layout.user_events is not None
        for event in self._face.layout.user_events(member, told, self._face.screens):
            self._push(_encode({"subscriptionId": self._subscribed[member.name], "event": event}))


def _book_ticker(face: "Binance", screen: Screen, futures: bool, now_ms: int) -> Row | None:
    quote = face.screens.quote(screen.listing)
    if quote is None:
        return None
    row: Row = {"u": screen.changes, "s": screen.listing.symbol}
    row |= {"b": plain(quote.bid), "B": plain(quote.bid_qty), "a": plain(quote.ask), "A": plain(quote.ask_qty)}
    return {"e": "bookTicker", **row, "T": now_ms, "E": now_ms} if futures else row


def _ticker(face: "Binance", screen: Screen, kind: str, now_ms: int) -> Row:
    day, last = screen.day, face.screens.last(screen.listing)
    quote = face.screens.quote(screen.listing)
    opened = day.open if day else last
    row: Row = {"e": kind, "E": now_ms, "s": screen.listing.symbol, "c": plain(last), "o": plain(opened)}
    row |= {"h": plain(day.high if day else last), "l": plain(day.low if day else last)}
    row |= {"v": plain(day.volume if day else ZERO), "q": plain(day.turnover if day else ZERO)}
    if kind == "24hrMiniTicker":
        return row
    row |= {"p": plain(last - opened), "P": plain(round((last - opened) / opened * 100, 3)) if opened else "0"}
    row |= {"w": plain(round(day.turnover / day.volume, 8)) if day and day.volume else "0", "x": plain(opened)}
    row |= {"Q": plain(screen.trades[-1].event.qty) if screen.trades else "0"}
    row |= {"b": plain(quote.bid) if quote else "0", "B": plain(quote.bid_qty) if quote else "0"}
    row |= {"a": plain(quote.ask) if quote else "0", "A": plain(quote.ask_qty) if quote else "0"}
    row |= {"O": day.start_ns // 1_000_000 if day else now_ms, "C": now_ms, "F": 1}
    return row | {"L": screen.trades[-1].number if screen.trades else 0, "n": day.trades if day else 0}


def _kline(screen: Screen, interval: str, now_ms: int) -> Row | None:
    candles = screen.candles(INTERVALS[interval])
    if not candles:
        return None
    row = kline_row(candles[-1], INTERVALS[interval])
    last = screen.trades[-1].number if screen.trades else 0
    k: Row = {"t": row[0], "T": row[6], "s": screen.listing.symbol, "i": interval, "f": last, "L": last}
    k |= {"o": row[1], "c": row[4], "h": row[2], "l": row[3], "v": row[5], "n": row[8], "x": now_ms > row[6]}
    k |= {"q": row[7], "V": row[9], "Q": row[10], "B": "0"}
    return {"e": "kline", "E": now_ms, "s": screen.listing.symbol, "k": k}


def _encode(message: Row) -> bytes:
    return msgspec.json.encode(message)
