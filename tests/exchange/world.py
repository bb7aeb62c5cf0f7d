"""A local exchange in this process, at a time that the test sets, and hands that sign what they send to it."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from engine.core.messages import Side
from engine.core.money import use_exact_context
from engine.core.times import SECOND
from engine.exchange.http import Request, Response
from engine.exchange.opening import both_kinds, open_exchange
from engine.exchange.terms import ExchangeTerms, KeyTerms
from engine.market import synthetic
from engine.market.events import BookSnapshot, FundingRate, TradePrint
from engine.runtime.clock import Clock

START_NS = 1_700_000_000 * SECOND
SECRET = "local-secret"
ED_SEED = bytes(range(32))  # of the sheet's vectors V13 and V14
ED_PRIVATE = Ed25519PrivateKey.from_private_bytes(ED_SEED)
ED_PUBLIC = ED_PRIVATE.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
KEYS = (
    KeyTerms(key="local-key", secret=SECRET),
    KeyTerms(key="reader", secret=SECRET, trade=False),
    KeyTerms(key="edward", public_key=ED_PUBLIC),
    KeyTerms(key="other", secret=SECRET, account="second"),
)

Sign = Callable[[bytes], str]


def hmac_hex(payload: bytes, secret: str = SECRET) -> str:
    return hmac.new(secret.encode(), payload, hashlib.sha256).hexdigest()


def ed25519(payload: bytes) -> str:
    return base64.b64encode(ED_PRIVATE.sign(payload)).decode()


class World:
    """Books stand at 60,000 / 60,000.1 with plenty on both sides until a test moves them."""

    def __init__(self, **terms: Any) -> None:
        use_exact_context()
        self.now_ns = START_NS
        clock = Clock(now_ns=lambda: self.now_ns, ticks_ns=lambda: self.now_ns)
        given: dict[str, Any] = {"keys": KEYS, "rate_limits": "off", **terms}
        instruments = both_kinds(synthetic.instruments())
        self.exchange = open_exchange(ExchangeTerms(**given), instruments, clock)
        self.updates = 0
        self.book()

    # -------------------------------------------------------------------------------------------------- the market

    def pass_(self, seconds: float) -> None:
        self.now_ns += round(seconds * SECOND)

    def book(self, bid: str = "60000", ask: str = "60000.1", qty: str = "50") -> None:
        self.updates += 1
        bids = tuple((Decimal(bid) - step, Decimal(qty)) for step in range(5))
        asks = tuple((Decimal(ask) + step, Decimal(qty)) for step in range(5))
        self.exchange.publish(BookSnapshot("BTCUSDT", self.now_ns, self.updates, bids, asks))

    def trade(self, price: str, qty: str = "1", side: Side = Side.SELL) -> None:
        self.exchange.publish(TradePrint("BTCUSDT", self.now_ns, Decimal(price), Decimal(qty), side))

    def fund(self, rate: str, mark: str = "60000") -> None:
        self.exchange.publish(FundingRate("BTCUSDT", self.now_ns, Decimal(rate), Decimal(mark)))

    # ---------------------------------------------------------------------------------------------------- the faces

    def request(
        self,
        face: str,
        method: str,
        path: str,
        query: str = "",
        body: bytes = b"",
        headers: dict[str, str] | None = None,
    ) -> Response:
        sent = Request(method, path, query, headers or {}, body, "127.0.0.1")
        return self.exchange.faces[face].answer(sent, self.now_ns)

    def bybit(
        self,
        method: str,
        path: str,
        params: dict[str, Any] | None = None,
        key: str = "local-key",
        sign: Sign = hmac_hex,
    ) -> Any:
        """The decoded body of a signed request; POST bodies have spaces in them, as pybit sends them."""
        return json.loads(self.bybit_response(method, path, params, key, sign).body)

    def bybit_response(
        self,
        method: str,
        path: str,
        params: dict[str, Any] | None = None,
        key: str = "local-key",
        sign: Sign = hmac_hex,
    ) -> Response:
        query = urlencode(params or {}) if method == "GET" else ""
        body = json.dumps(params or {}).encode() if method == "POST" else b""
        stamp = str(self.now_ns // 1_000_000)
        signed = f"{stamp}{key}5000".encode() + (query.encode() or body)
        headers = {"x-bapi-api-key": key, "x-bapi-timestamp": stamp, "x-bapi-recv-window": "5000"}
        headers["x-bapi-sign"] = sign(signed)
        return self.request("bybit", method, f"/v5/{path}", query, body, headers)

    def order(self, category: str = "linear", **more: Any) -> Any:
        """A Bybit order; a market buy of 0.01 unless told otherwise."""
        asked = {"category": category, "symbol": "BTCUSDT", "side": "Buy", "orderType": "Market", "qty": "0.01"}
        return self.bybit("POST", "order/create", asked | more)

    def binance(
        self, face: str, method: str, path: str, key: str = "local-key", sign: Sign = hmac_hex, **params: Any
    ) -> tuple[int, Any]:
        """Status and decoded body of a signed request of spot or usdm."""
        answer = self.binance_response(face, method, path, key, sign, **params)
        return answer.status, json.loads(answer.body)

    def binance_response(
        self, face: str, method: str, path: str, key: str = "local-key", sign: Sign = hmac_hex, **params: Any
    ) -> Response:
        root = "/api/v3/" if face == "spot" else "/fapi/v1/"
        params = {"timestamp": self.now_ns // 1_000_000, **params}
        query = urlencode(params)
        query += "&" + urlencode({"signature": sign(query.encode())})
        full = path if path.startswith("/") else root + path
        return self.request(f"binance-{face}", method, full, query, headers={"x-mbx-apikey": key})

    def spot_order(self, **more: Any) -> tuple[int, Any]:
        asked = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}
        return self.binance("spot", "POST", "order", **(asked | more))

    def usdm_order(self, **more: Any) -> tuple[int, Any]:
        asked = {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.01"}
        return self.binance("usdm", "POST", "order", **(asked | more))

    # -------------------------------------------------------------------------------------------------- the sockets

    def connect(self, face: str, path: str, query: str = "") -> "Wire":
        return Wire(self, face, path, query)


class Wire:
    """A WebSocket without a socket: what is said to it, and what it told."""

    def __init__(self, world: World, face: str, path: str, query: str) -> None:
        self.world = world
        self.told: list[Any] = []
        session = world.exchange.faces[face].connect(path, query, lambda text: self.told.append(json.loads(text)), 1)
        assert session is not None, f"there is no {path}"
        self.session = session

    def say(self, message: dict[str, Any]) -> Any:
        """The answer to it."""
        answers = self.session.hear(json.dumps(message).encode(), self.world.now_ns)
        assert len(answers) == 1
        return json.loads(answers[0])

    def beat(self) -> None:
        self.session.beat(self.world.now_ns)

    def log_on(self, expires: Any = None) -> Any:
        """Bybit's."""
        expires = self.world.now_ns // 1_000_000 + 10_000 if expires is None else expires
        return self.say({"op": "auth", "args": ["local-key", expires, hmac_hex(f"GET/realtime{expires}".encode())]})

    def trade(self, op: str, req_id: str, asked: dict[str, Any]) -> Any:
        """Bybit's order entry."""
        header = {"X-BAPI-TIMESTAMP": str(self.world.now_ns // 1_000_000)}
        return self.say({"reqId": req_id, "header": header, "op": op, "args": [asked]})

    def ask(self, method: str, sign: Sign = hmac_hex, **params: Any) -> Any:
        """Binance's WebSocket API, signed."""
        params = {"apiKey": "local-key", "timestamp": self.world.now_ns // 1_000_000, **params}
        signed = "&".join(f"{name}={params[name]}" for name in sorted(params))
        return self.say({"id": "r1", "method": method, "params": params | {"signature": sign(signed.encode())}})

    def of(self, **fields: Any) -> list[Any]:
        """Those told whose top level has these values."""
        return [m for m in self.told if all(m.get(name) == value for name, value in fields.items())]
