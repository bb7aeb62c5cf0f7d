"""A server on loopback that answers as a test tells it to, checks every signature over the raw bytes, and remembers.

HTTP by path, WebSocket API by method, user data by pushing frames. It knows no trading; what it says is the test's.
"""

import hmac
import json
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from hashlib import sha256
from random import Random
from typing import Any
from urllib.parse import parse_qsl

import trio
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from engine.core.messages import Quote
from engine.runtime.clock import Clock, live_clock
from engine.venues.binance import spot, usdm
from engine.venues.binance.api import COSTS, Api, limits
from engine.venues.binance.errors import Market
from engine.venues.binance.hosts import PRIVATE, Hosts
from engine.venues.keys import Credentials, Secret
from engine.venues.rest import Rest
from engine.venues.throttle import Throttle

KEY, SECRET = "the-key", "the-secret"
Said = dict[str, str]
Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]]
HANG = (0, None)  # an answer that never comes
CUT = (-1, None)  # the connection ends instead


class Fake:
    """`rest` and `calls` answer by "METHOD path" and by method; a list is used up from its front, its last stays."""

    def __init__(self) -> None:
        self.rest: dict[str, Any] = {}
        self.calls: dict[str, Any] = {}
        self.heard: list[tuple[str, Said]] = []
        self.bad: list[str] = []  # signatures that were wrong
        self.ahead_ms = 0  # of our clock
        self.sockets: list[Any] = []  # private streams
        self.private_paths: list[str] = []
        self.clock = live_clock()

    def said(self, what: str) -> list[Said]:
        return [params for name, params in self.heard if name == what]

    def now_ms(self) -> int:
        return self.clock.now_ns() // 1_000_000 + self.ahead_ms

    async def push(self, frame: bytes | dict[str, Any]) -> None:
        text = frame if isinstance(frame, bytes) else json.dumps(frame).encode()
        for socket in self.sockets:
            with suppress(ConnectionClosed):
                await socket.send_message(text.decode("utf-8", "surrogateescape") if isinstance(text, bytes) else text)

    def _answer(self, table: dict[str, Any], what: str, params: Said) -> Answer:
        if what.endswith("/time"):
            return 200, {"serverTime": self.now_ms()}
        found = table.get(what, (404, b"<html>nothing here</html>"))
        if isinstance(found, list):
            found = found.pop(0) if len(found) > 1 else found[0]
        answer: Answer = found(params) if callable(found) else found
        return answer

    # ---------------------------------------------------------------------------------------------------------- HTTP

    async def serve_http(self, stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            async with stream:
                while request := await _read_request(stream):
                    if not await self._reply(stream, *request):
                        return

    async def _reply(self, stream: trio.SocketStream, method: str, target: str, head: bytes, body: bytes) -> bool:
        path, _, query = target.partition("?")
        text = query + body.decode()
        params = dict(parse_qsl(text, keep_blank_values=True))
        what = f"{method} {path}"
        self._check(what, text, head, params)
        self.heard.append((what, params))
        status, content, *more = self._answer(self.rest, what, params)
        if status == 0:
            await trio.sleep_forever()
        if status == -1:
            return False
        raw = content if isinstance(content, bytes) else json.dumps(content).encode()
        headers = "".join(f"{k}: {v}\r\n" for k, v in (more[0] if more else {}).items())
        await stream.send_all(f"HTTP/1.1 {status} X\r\n{headers}content-length: {len(raw)}\r\n\r\n".encode() + raw)
        return True

    def _check(self, what: str, text: str, head: bytes, params: Said) -> None:
        signed = "signature" in params
        if signed:
            payload, _, given = text.rpartition("&signature=")
            expected = hmac.new(SECRET.encode(), payload.encode(), sha256).hexdigest()
            if given != expected or f"x-mbx-apikey: {KEY}".encode() not in head.lower().replace(
                KEY.encode().lower(), KEY.encode()
            ):
                self.bad.append(what)

    # ----------------------------------------------------------------------------------------------------- WebSocket

    async def serve_socket(self, request: WebSocketRequest) -> None:
        socket = await request.accept()
        with suppress(ConnectionClosed):
            if request.path.startswith("/private"):
                self.private_paths.append(request.path)
                self.sockets.append(socket)
            while True:
                await self._call(socket, await socket.get_message())

    async def _call(self, socket: Any, raw: str) -> None:
        said = json.loads(raw)
        method, params = said["method"], said["params"]
        if "signature" in params:
            text = "&".join(f"{k}={params[k]}" for k in sorted(params) if k != "signature")
            if params["signature"] != hmac.new(SECRET.encode(), text.encode(), sha256).hexdigest():
                self.bad.append(method)
        self.heard.append((method, params))
        if method == "userDataStream.subscribe.signature" and method not in self.calls:
            self.sockets.append(socket)
            status, content = 200, {"subscriptionId": 0}
        else:
            status, content = self._answer(self.calls, method, params)[:2]
        if status == 0:
            return
        if status == -1:
            await socket.aclose()
            return
        if isinstance(content, bytes):
            await socket.send_message(content.decode())
            return
        key = "result" if status == 200 else "error"
        await socket.send_message(json.dumps({"id": said["id"], "status": status, key: content, "rateLimits": []}))


async def _read_request(stream: trio.SocketStream) -> tuple[str, str, bytes, bytes] | None:
    raw = b""
    while b"\r\n\r\n" not in raw:
        piece = await stream.receive_some()
        if not piece:
            return None
        raw += piece
    head, _, body = raw.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    while len(body) < int(length[1] if length else 0):
        body += await stream.receive_some()
    method, target, _ = head.split(b"\r\n")[0].decode().split(" ", 2)
    return method, target, head, body


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[Fake, str, str]]:
    """The fake, its HTTP address, and its WebSocket address."""
    fake = Fake()
    async with trio.open_nursery() as nursery:
        http = await nursery.start(partial(trio.serve_tcp, fake.serve_http, 0, host="127.0.0.1"))
        sockets = await nursery.start(serve_websocket, fake.serve_socket, "127.0.0.1", 0, None)
        yield fake, f"http://127.0.0.1:{http[0].socket.getsockname()[1]}", f"ws://127.0.0.1:{sockets.port}"
        nursery.cancel_scope.cancel()


def _api(market: Market, url: str, clock: Clock, timeout: float) -> Api:
    throttle = Throttle(limits(market, 1000), clock, costs=COSTS)
    return Api(market, Rest(url, clock, timeout), Credentials(Secret(KEY), Secret(SECRET)), throttle, clock)


def _nothing(symbol: str) -> Quote | None:
    return None


@asynccontextmanager
async def spot_venue(
    quote: Callable[[str], Quote | None] = _nothing, timeout: float = 5.0, **terms: Any
) -> AsyncIterator[tuple[Fake, spot.SpotVenue]]:
    async with serving() as (fake, http, ws):
        fake.rest["GET /api/v3/exchangeInfo"] = (200, {"symbols": [SPOT_SYMBOL], "rateLimits": []})
        fake.rest["GET /api/v3/openOrders"] = (200, [])
        hosts = Hosts("local", http, f"{ws}/ws-api/v3", ws, restrictions=http)
        given = {"hosts": hosts, "symbols": ("BTCUSDT",), "order_socket": False, **terms}
        api = _api(Market.SPOT, http, fake.clock, timeout)
        venue = spot.SpotVenue(spot.Terms(**given), api, Random(1), quote)
        await venue.instruments()
        yield fake, venue
        await venue.api.rest.close()
        assert fake.bad == [], f"wrong signatures: {fake.bad}"


@asynccontextmanager
async def usdm_venue(timeout: float = 5.0, **terms: Any) -> AsyncIterator[tuple[Fake, usdm.UsdmVenue]]:
    async with serving() as (fake, http, ws):
        fake.rest["GET /fapi/v1/exchangeInfo"] = (200, {"symbols": [USDM_SYMBOL], "rateLimits": []})
        fake.rest["POST /fapi/v1/listenKey"] = (200, {"listenKey": "k1"})
        hosts = Hosts("local", http, f"{ws}/ws-fapi/v1", ws, PRIVATE, http)
        given = {"hosts": hosts, "symbols": ("BTCUSDT",), "order_socket": False, **terms}
        api = _api(Market.USDM, http, fake.clock, timeout)
        venue = usdm.UsdmVenue(usdm.Terms(**given), api, Random(1))
        await venue.instruments()
        yield fake, venue
        await venue.api.rest.close()
        assert fake.bad == [], f"wrong signatures: {fake.bad}"


_LOTS = [
    {"filterType": "PRICE_FILTER", "minPrice": "0.1", "maxPrice": "1000000", "tickSize": "0.1"},
    {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "1000", "stepSize": "0.001"},
]
SPOT_SYMBOL = {
    "symbol": "BTCUSDT",
    "status": "TRADING",
    "baseAsset": "BTC",
    "quoteAsset": "USDT",
    "orderTypes": ["LIMIT", "MARKET", "STOP_LOSS", "TAKE_PROFIT"],
    "filters": _LOTS,
}
USDM_SYMBOL = {
    "symbol": "BTCUSDT",
    "status": "TRADING",
    "contractType": "PERPETUAL",
    "baseAsset": "BTC",
    "quoteAsset": "USDT",
    "marginAsset": "USDT",
    "filters": _LOTS,
}
