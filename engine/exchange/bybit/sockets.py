"""Bybit's three WebSockets: public market data, the private stream, and order entry."""

from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import msgspec

from engine.core.messages import FillReport, FundingReport, OrderReport, TransferReport
from engine.core.times import SECOND
from engine.exchange.bybit.codes import Refused
from engine.exchange.bybit.face import OPERATIONS, WINDOW_MS, BybitFace, RateLimited, check_time
from engine.exchange.bybit.market import level_rows, sides, ticker_row, trade_row
from engine.exchange.bybit.rows import execution_row, funding_row, order_row, position_row, wallet_row
from engine.exchange.faults import Fault
from engine.exchange.house import Listing, Member, Told, key_of
from engine.exchange.http import form
from engine.exchange.keys import signed_by
from engine.exchange.params import Malformed, Params, json_object, word
from engine.exchange.screen import Levels, Screen
from engine.exchange.terms import KeyTerms
from engine.market.events import MarketEvent, TradePrint

Push = Callable[[bytes], None]

_IDLE_NS = 600 * SECOND
_DEPTHS = (1, 50, 200, 1000)
_TOPICS = ("order", "execution", "execution.fast", "position", "wallet")
_CATEGORIES = ("spot", "linear")
_ARGS_MAX = 21_000


class Bybit(BybitFace):
    """The whole face: HTTP, and a socket behind each path that has one."""

    def connect(self, path: str, query: str, push: Push, number: int) -> "Public | Private | Trade | None":
        category = path.removeprefix("/v5/public/")
        if category in _CATEGORIES:
            return Public(self, category, push, number)
        if path == "/v5/private":
            return Private(self, query, push, number)
        return Trade(self, query, push, number) if path == "/v5/trade" else None

    def refuse_message(self, session: object, text: bytes, fault: Fault, now_ns: int) -> bytes:
        """What a session says in place of its answer."""
        if isinstance(session, Trade):
            return session.refuse(text, fault, now_ns)
        message = _message(text)
        named = {"op": word(message, "op"), "req_id": word(message, "req_id")}
        return _encode({"success": False, "ret_msg": fault.text, **named})


class Public:
    """Books as snapshot and differences, tickers, trades. `beat` tells what changed since the last beat."""

    scope = "public"
    idle_ns = _IDLE_NS

    def __init__(self, face: BybitFace, category: str, push: Push, number: int) -> None:
        self._face, self._category, self._push = face, category, push
        self._conn = f"local-{number}"
        self._topics: dict[str, _Topic] = {}
        face.house.watchers.append(self._watch)

    def operation(self, text: bytes) -> str:
        return "public"

    def hear(self, text: bytes, now_ns: int) -> list[bytes]:
        message = _message(text)
        op, req_id = word(message, "op"), word(message, "req_id")
        answer = {"success": True, "ret_msg": "", "conn_id": self._conn, "req_id": req_id, "op": op}
        if op == "ping":
            return [_encode(answer | {"ret_msg": "pong"})]
        args = message.get("args")
        if op not in ("subscribe", "unsubscribe") or not isinstance(args, list):
            return [_encode(answer | {"success": False, "ret_msg": "error:params error"})]
        wrong = self._take(op, [str(arg) for arg in args])
        return [_encode(answer | ({"success": False, "ret_msg": wrong} if wrong else {}))]

    def beat(self, now_ns: int) -> None:
        for topic in self._topics.values():
            for message in topic.news(self._face, now_ns):
                self._push(_encode(message))

    def subscribed(self) -> list[str]:
        return list(self._topics)

    def close(self) -> None:
        self._face.house.watchers.remove(self._watch)

    def _take(self, op: str, topics: list[str]) -> str:
        """Why not; empty where it was done. One bad topic spoils the whole request."""
        found: dict[str, _Topic] = {}
        for topic in topics:
            if op == "unsubscribe":
                self._topics.pop(topic, None)
            elif topic in self._topics:
                return f"error:already subscribed,topic:{topic}"
            else:
                parsed = _topic(self._face, self._category, topic)
                if parsed is None:
                    return f"error:handler not found,topic:{topic}"
                found[topic] = parsed
        if sum(map(len, (*self._topics, *found))) > _ARGS_MAX:
            return "error:too many args"
        self._topics |= found
        return ""

    def _watch(self, listing: Listing, event: MarketEvent) -> None:
        if isinstance(event, TradePrint) and listing.category == self._category:
            name = f"publicTrade.{listing.symbol}"
            if name in self._topics:
                screen = self._face.screens.by_inner[listing.instrument.symbol]
                row = trade_row(screen, screen.trades[-1])
                at_ms = event.at_ns // 1_000_000
                self._push(_encode({"topic": name, "type": "snapshot", "ts": at_ms, "data": [row]}))


class _Topic:
    """One subscription: what it is of, and what of it was told last."""

    def __init__(self, name: str, kind: str, screen: Screen, depth: int = 0) -> None:
        self._name, self._kind, self._screen, self._depth = name, kind, screen, depth
        self._seen = -1
        self._number = 0
        self._levels = Levels()

    def news(self, face: BybitFace, now_ns: int) -> list[dict[str, Any]]:
        screen = self._screen
        if self._kind == "publicTrade" or self._seen == screen.changes:
            return []
        first, self._seen = self._seen < 0, screen.changes
        if self._kind == "tickers":
            return [self._envelope(ticker_row(face.screens, screen, now_ns), first or self._depth == 0, now_ns)]
        before = self._levels.difference(sides(face.screens, screen, self._depth))
        if not any(before):
            return []
        self._number += 1
        if self._depth == 1:  # of the best level only snapshots are sent
            bids, asks = sides(face.screens, screen, 1)
        else:
            bids, asks = before
        data: dict[str, Any] = {"s": screen.listing.symbol, "b": level_rows(bids), "a": level_rows(asks)}
        data |= {"u": self._number + 1, "seq": screen.changes}
        return [self._envelope(data, first or self._depth == 1, now_ns)]

    def _envelope(self, data: dict[str, Any], snapshot: bool, now_ns: int) -> dict[str, Any]:
        at_ms = now_ns // 1_000_000
        kind = "snapshot" if snapshot else "delta"
        return {"topic": self._name, "type": kind, "ts": at_ms, "cts": at_ms, "data": data}


def _topic(face: BybitFace, category: str, name: str) -> _Topic | None:
    kind, _, rest = name.partition(".")
    depth, _, symbol = rest.rpartition(".")
    screen = face.screens.of(category, symbol)
    if screen is None:
        return None
    if kind == "orderbook" and depth.isdecimal() and int(depth) in _DEPTHS:
        return _Topic(name, kind, screen, int(depth))
    if kind in ("tickers", "publicTrade") and not depth:
        return _Topic(name, kind, screen, 1 if category == "linear" else 0)  # spot's ticker is always whole
    return None


class _Known:
    """A socket that asks for a key first; what the private stream and order entry share."""

    def __init__(self, face: BybitFace, query: str, push: Push, number: int) -> None:
        self.face, self.push = face, push
        self.conn = f"local-{number}"
        self.key: KeyTerms | None = None
        self.idle_ns = _idle(form(query).get("max_active_time", ""))

    def log_on(self, message: Params, now_ns: int) -> str:
        """Why not; empty where the key is now known. `expires` may be a number or a text."""
        args = message.get("args")
        if not isinstance(args, list) or len(args) != 3:
            return "Params Error"
        key, expires = key_of(self.face.terms, str(args[0])), str(args[1]).split(".")[0]
        if key is None:
            return "API key is invalid."
        if not expires.isdecimal() or int(expires) <= now_ns // 1_000_000:
            return "expires is not in the future"
        if not signed_by(key, f"GET/realtime{args[1]}".encode(), unquote(str(args[2]))):
            return "error sign!"
        self.key = key
        return ""


class Private(_Known):
    """Orders, executions, positions and the wallet of one account, from the moment of the subscription."""

    scope = "private"

    def __init__(self, face: BybitFace, query: str, push: Push, number: int) -> None:
        super().__init__(face, query, push, number)
        self._topics: dict[str, None] = {}
        self._told = 0

    def operation(self, text: bytes) -> str:
        return "private"

    def beat(self, now_ns: int) -> None:
        """What happens is told at once."""

    def hear(self, text: bytes, now_ns: int) -> list[bytes]:
        message = _message(text)
        op, req_id = word(message, "op"), word(message, "req_id")
        if op == "ping":
            args = [str(now_ns // 1_000_000)]
            return [_encode({"req_id": req_id, "op": "pong", "args": args, "conn_id": self.conn})]
        if op == "auth":
            wrong = self.log_on(message, now_ns)
            if not wrong and self.key is not None:
                self.face.member(self.key).listeners[id(self)] = self._listen
        elif op in ("subscribe", "unsubscribe"):
            wrong = self._take(op, message.get("args"))
        else:
            wrong = "error:params error"
        answer = {"success": not wrong, "ret_msg": wrong, "op": op, "conn_id": self.conn, "req_id": req_id}
        return [_encode(answer)]

    def subscribed(self) -> list[str]:
        return list(self._topics)

    def close(self) -> None:
        if self.key is not None:
            self.face.member(self.key).listeners.pop(id(self), None)

    def _take(self, op: str, args: Any) -> str:
        if self.key is None:
            return "Request not authorized"
        topics = [str(arg) for arg in args] if isinstance(args, list) else []
        for topic in topics:
            base, _, category = topic.rpartition(".")
            if topic not in _TOPICS and not (base in _TOPICS[:4] and category in _CATEGORIES):
                return f"error:handler not found,topic:{topic}"
            if op == "subscribe" and topic in self._topics:
                return f"error:already subscribed,topic:{topic}"
        for topic in topics:
            if op == "subscribe":
                self._topics[topic] = None
            else:
                self._topics.pop(topic, None)
        return ""

    def _listen(self, member: Member, told: tuple[Told, ...]) -> None:
        moved: dict[str, Listing] = {}
        for one in told:
            if isinstance(one.report, TransferReport):
                continue  # the wallet shows it
            listing = member.listings[one.report.symbol]
            moved[one.report.symbol] = listing
            if isinstance(one.report, OrderReport):
                assert one.record is not None
                self._tell(member, "order", listing, order_row(one.record, one.report, one.value))
            else:
                self._tell_execution(member, listing, one)
        for listing in moved.values():
            if listing.category == "linear":
                row = position_row(member, listing, self.face.screens)
                self._tell(member, "position", listing, row | {"category": "linear"})
        if "wallet" in self._topics:
            self._send(member, "wallet", wallet_row(member, self.face.screens))

    def _tell_execution(self, member: Member, listing: Listing, one: Told) -> None:
        mark = self.face.screens.mark(listing)
        if isinstance(one.report, FundingReport):
            qty = member.matching.account.qty(one.report.symbol)
            return self._tell(member, "execution", listing, funding_row(listing, one.report, qty, mark, member.steps))
        assert one.record is not None and isinstance(one.report, FillReport)
        row = execution_row(one.record, one.report, one.left, mark, member.steps)
        self._tell(member, "execution", listing, row)
        names = ("symbol", "orderId", "isMaker", "orderLinkId", "execId", "execPrice", "execQty", "side", "execTime")
        fast = {name: row[name] for name in names} | {"seq": row["seq"]}
        if one.report.maker:
            fast["orderLinkId"] = ""  # as the fast stream does it (8.4 of the sheet)
        return self._tell(member, "execution.fast", listing, fast)

    def _tell(self, member: Member, kind: str, listing: Listing, row: dict[str, Any]) -> None:
        for topic in (kind, f"{kind}.{listing.category}"):
            if topic in self._topics:
                self._send(member, topic, {"category": listing.category, **row})

    def _send(self, member: Member, topic: str, row: dict[str, Any]) -> None:
        self._told += 1
        at_ms = member.matching.now_ns // 1_000_000
        message = {"id": f"{self.conn}-{self._told}", "topic": topic, "creationTime": at_ms, "data": [row]}
        self.push(_encode(message))


class Trade(_Known):
    """Orders by WebSocket; answered like REST, in another envelope."""

    scope = "trade"

    def __init__(self, face: BybitFace, query: str, push: Push, number: int) -> None:
        super().__init__(face, query, push, number)
        self._asked: dict[str, None] = {}  # request ids, which must not repeat

    def operation(self, text: bytes) -> str:
        try:
            return word(json_object(text), "op")
        except Malformed:
            return ""

    def beat(self, now_ns: int) -> None:
        """Speaks only when it is spoken to."""

    def subscribed(self) -> list[str]:
        return []

    def close(self) -> None:
        """Leaves nothing behind."""

    def hear(self, text: bytes, now_ns: int) -> list[bytes]:
        message = _message(text)
        op, req_id = word(message, "op"), word(message, "reqId")
        answer: dict[str, Any] = {"reqId": req_id, "retCode": 0, "retMsg": "OK", "op": op}
        if op == "ping":
            pong = {"retCode": 0, "retMsg": "OK", "op": "pong", "data": [str(now_ns // 1_000_000)]}
            return [_encode(pong | {"connId": self.conn})]
        if op == "auth":
            repeated = self.key is not None
            wrong = "" if repeated else self.log_on(message, now_ns)
            code = 20001 if repeated else (_auth_code(wrong) if wrong else 0)
            return [_encode(answer | {"retCode": code, "retMsg": wrong or "OK", "connId": self.conn})]
        try:
            return [_encode(answer | self._run(op, req_id, message, now_ns) | {"connId": self.conn})]
        except Refused as refusal:
            headers = refusal.headers if isinstance(refusal, RateLimited) else ()
            return [_encode(answer | self._failed(refusal.code, refusal.text, dict(headers), now_ns))]
        except Malformed as error:
            return [_encode(answer | self._failed(10001, f"params error: {error}", {}, now_ns))]

    def refuse(self, text: bytes, fault: Fault, now_ns: int) -> bytes:
        message = _message(text)
        answer: dict[str, Any] = {"reqId": word(message, "reqId"), "op": word(message, "op")}
        return _encode(answer | self._failed(fault.code, fault.text, {}, now_ns))

    def _run(self, op: str, req_id: str, message: Params, now_ns: int) -> dict[str, Any]:
        if self.key is None:
            raise Refused(10004, "Request not authorized")
        route = OPERATIONS.get(("POST", op))
        if route is None or not op.startswith("order.") or op == "order.cancel-all":
            raise Refused(10404, f"op type not found: {op}")
        if req_id:
            if len(req_id) > 36 or req_id in self._asked:
                raise Refused(20006, "Duplicate reqId")
            self._asked[req_id] = None
            if len(self._asked) > 10_000:
                del self._asked[next(iter(self._asked))]
        header, args = message.get("header"), message.get("args")
        asked = args[0] if isinstance(args, list) and len(args) == 1 else None
        if not isinstance(header, dict) or not isinstance(asked, dict):
            raise Refused(10001, "params error: one argument and a header are required")
        window = word(header, "X-BAPI-RECV-WINDOW", str(WINDOW_MS))
        check_time(word(header, "X-BAPI-TIMESTAMP"), window, now_ns)
        result, headers = self.face.run(route, self.key, asked, now_ns)
        return {
            "retExtInfo": result.pop("_ext", {}),
            "data": result,
            "header": dict(headers) | {"Timenow": str(now_ns // 1_000_000)},
        }

    def _failed(self, code: int, text: str, headers: dict[str, str], now_ns: int) -> dict[str, Any]:
        stamped = headers | {"Timenow": str(now_ns // 1_000_000)}
        failed = {"retCode": code, "retMsg": text, "data": {}, "retExtInfo": {}, "header": stamped}
        return failed | {"connId": self.conn}


def _auth_code(why: str) -> int:
    return {"API key is invalid.": 10003, "error sign!": 10004}.get(why, 10001)


def _idle(text: str) -> int:
    """`30s` to `600s`, or minutes."""
    number, unit = text[:-1], text[-1:]
    if not number.isdecimal() or unit not in ("s", "m"):
        return _IDLE_NS
    seconds = int(number) * (60 if unit == "m" else 1)
    return seconds * SECOND if 30 <= seconds <= 600 else _IDLE_NS


def _message(text: bytes) -> Params:
    """What is no JSON object counts as an empty one, and gets the answer of an unknown operation."""
    try:
        return json_object(text)
    except Malformed:
        return {}


def _encode(message: dict[str, Any]) -> bytes:
    return msgspec.json.encode(message)
