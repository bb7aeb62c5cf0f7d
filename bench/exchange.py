"""What does the local exchange itself take for an order, and how many can it serve in a second?

The exchange runs as a user starts it, in a process of its own, without rate limits, on a market that stands. Orders to
buy and to sell at the market alternate, so that nothing piles up; each is signed, sent on a warm connection by a bare
socket, matched, told on no stream, and answered. One connection at a time gives the time per order, several give the
throughput. The floor is the same connection asking a face for the time.
"""

import argparse
import hashlib
import hmac
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path

import msgspec
import wsproto
from msgspec import Struct
from wsproto.events import AcceptConnection, Message, Request, TextMessage

from bench.figures import HEADING, Figures, figures, line
from engine.exchange.terms import ExchangeTerms, KeyTerms

ROOT = Path(__file__).resolve().parent.parent
KEY, SECRET = "local-key", "local-secret"
OWN_KEYS = ("local-key", "engine-socket", "engine-rest")  # each with an account of its own
_TERMS = ExchangeTerms(
    keys=tuple(KeyTerms(key=key, account=key, secret=SECRET) for key in OWN_KEYS),
    rate_limits="off",
    balances={"USDT": Decimal(1_000_000_000), "BTC": Decimal(100_000)},
)


class Report(Struct, frozen=True):
    ways: dict[str, Figures]
    floors: dict[str, Figures]
    per_second: dict[str, float]  # orders, with `connections` at work at once
    connections: int


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--orders", type=int, default=3000, help="on each way (default 3000)")
    parser.add_argument("--connections", type=int, default=4, help="at work at once for the throughput (default 4)")


def measure(arguments: argparse.Namespace) -> Report:
    ways: dict[str, Figures] = {}
    floors: dict[str, Figures] = {}
    rates: dict[str, float] = {}
    with exchange() as ports:
        for name, way in WAYS.items():
            ways[name] = figures(_one_by_one(way, ports, arguments.orders))
            rates[name] = _at_once(way, ports, arguments.orders, arguments.connections)
        for name, floor in FLOORS.items():
            floors[name] = figures(_one_by_one(floor, ports, arguments.orders))
    return Report(ways, floors, rates, arguments.connections)


def lines(report: Report) -> list[str]:
    told = [HEADING, *(line(name, of) for name, of in report.ways.items())]
    told += [line(f"floor: {name}", of) for name, of in report.floors.items()]
    told += [
        f"{name}: {rate:.0f} orders/s on {report.connections} connections" for name, rate in report.per_second.items()
    ]
    return told


@contextmanager
def exchange() -> Iterator[dict[str, int]]:
    """The ports of its faces."""
    with tempfile.NamedTemporaryFile(suffix=".json") as terms:
        terms.write(msgspec.json.encode(_TERMS))
        terms.flush()
        command = [
            sys.executable,
            "run.py",
            "exchange",
            "--port",
            "0",
            "--json",
            "--tape",
            "still",
            "--terms",
            terms.name,
        ]
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as process:
            try:
                assert process.stdout is not None
                yield json.loads(process.stdout.readline())["ports"]
            finally:
                process.terminate()


# --------------------------------------------------------------------------------------------------- ways to an order


class Http:
    """One warm connection; a request is its bytes, an answer the bytes of a body."""

    def __init__(self, port: int) -> None:
        self._socket = _connect(port)

    def close(self) -> None:
        self._socket.close()

    def send(self, request: bytes) -> None:
        self._socket.sendall(request)

    def receive(self) -> bytes:
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._socket.recv(65536)
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        while len(body) < length:
            body += self._socket.recv(65536)
        return body


class Ws:
    """A WebSocket; a request is a message."""

    def __init__(self, port: int, path: str, hello: Callable[[], bytes] | None = None) -> None:
        self._socket = _connect(port)
        self._protocol = wsproto.WSConnection(wsproto.ConnectionType.CLIENT)
        self._socket.sendall(self._protocol.send(Request(host="127.0.0.1", target=path)))
        self._texts: list[str] = []
        self._accepted = False
        while not self._accepted:
            self._read()
        if hello is not None:
            self.send(hello())
            self.receive()

    def close(self) -> None:
        self._socket.close()

    def send(self, request: bytes) -> None:
        self._socket.sendall(self._protocol.send(Message(data=request.decode())))

    def receive(self) -> bytes:
        while not self._texts:
            self._read()
        return self._texts.pop(0).encode()

    def _read(self) -> None:
        self._protocol.receive_data(self._socket.recv(65536))
        for event in self._protocol.events():
            if isinstance(event, TextMessage):
                self._texts.append(event.data)
            self._accepted = self._accepted or isinstance(event, AcceptConnection)


class Way(Struct, frozen=True):
    connect: Callable[[dict[str, int]], Http | Ws]
    order: Callable[[int], bytes]
    mark: bytes  # in every good answer


def _bybit_body(number: int) -> bytes:
    side = "Buy" if number % 2 else "Sell"
    order = {"category": "linear", "symbol": "BTCUSDT", "side": side, "orderType": "Market", "qty": "0.001"}
    return json.dumps(order).encode()


def _bybit_http(number: int) -> bytes:
    body, stamp = _bybit_body(number), str(time.time_ns() // 1_000_000)
    sign = _hmac(f"{stamp}{KEY}5000".encode() + body)
    head = f"POST /v5/order/create HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\nX-BAPI-API-KEY: {KEY}\r\n"
    head += f"X-BAPI-TIMESTAMP: {stamp}\r\nX-BAPI-RECV-WINDOW: 5000\r\nX-BAPI-SIGN: {sign}\r\n\r\n"
    return head.encode() + body


def _bybit_hello() -> bytes:
    expires = time.time_ns() // 1_000_000 + 10_000
    return json.dumps({"op": "auth", "args": [KEY, expires, _hmac(f"GET/realtime{expires}".encode())]}).encode()


def _bybit_ws(number: int) -> bytes:
    header = {"X-BAPI-TIMESTAMP": str(time.time_ns() // 1_000_000)}
    asked = {"op": "order.create", "header": header, "args": [json.loads(_bybit_body(number))]}
    return json.dumps({"reqId": f"{number}-{time.time_ns()}", **asked}).encode()


def _binance_query(number: int) -> str:
    side = "BUY" if number % 2 else "SELL"
    query = f"symbol=BTCUSDT&side={side}&type=MARKET&quantity=0.001&timestamp={time.time_ns() // 1_000_000}"
    return f"{query}&signature={_hmac(query.encode())}"


def _binance_http(path: str) -> Callable[[int], bytes]:
    def order(number: int) -> bytes:
        head = f"POST {path}?{_binance_query(number)} HTTP/1.1\r\nhost: x\r\nX-MBX-APIKEY: {KEY}\r\n"
        return f"{head}content-length: 0\r\n\r\n".encode()

    return order


def _binance_ws(number: int) -> bytes:
    params: dict[str, object] = {"symbol": "BTCUSDT", "side": "BUY" if number % 2 else "SELL", "type": "MARKET"}
    params |= {"quantity": "0.001", "apiKey": KEY, "timestamp": time.time_ns() // 1_000_000}
    signed = "&".join(f"{name}={params[name]}" for name in sorted(params))
    params["signature"] = _hmac(signed.encode())
    return json.dumps({"id": number, "method": "order.place", "params": params}).encode()


def _get(path: str) -> Callable[[int], bytes]:
    return lambda number: f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode()


WAYS = {
    "Bybit, REST": Way(lambda ports: Http(ports["bybit"]), _bybit_http, b'"retCode":0'),
    "Bybit, WebSocket": Way(lambda ports: Ws(ports["bybit"], "/v5/trade", _bybit_hello), _bybit_ws, b'"retCode":0'),
    "Binance USD-M, REST": Way(
        lambda ports: Http(ports["binance-usdm"]), _binance_http("/fapi/v1/order"), b'"orderId"'
    ),
    "Binance USD-M, WebSocket": Way(
        lambda ports: Ws(ports["binance-usdm"], "/ws-fapi/v1"), _binance_ws, b'"status":200'
    ),
    "Binance Spot, WebSocket": Way(lambda ports: Ws(ports["binance-spot"], "/ws-api/v3"), _binance_ws, b'"status":200'),
}
FLOORS = {
    "time, HTTP": Way(lambda ports: Http(ports["bybit"]), _get("/v5/market/time"), b'"retCode":0'),
}


def _one_by_one(way: Way, ports: dict[str, int], orders: int) -> Iterator[int]:
    with closing(way.connect(ports)) as connection:
        for number in range(orders):
            request = way.order(number)
            began = time.perf_counter_ns()
            connection.send(request)
            answer = connection.receive()
            yield time.perf_counter_ns() - began
            assert way.mark in answer, answer


def _at_once(way: Way, ports: dict[str, int], orders: int, connections: int) -> float:
    """Each connection has its next order under way while the others are answered."""
    opened = [way.connect(ports) for _ in range(connections)]
    began = time.perf_counter()
    for number, connection in enumerate(opened):
        connection.send(way.order(number))
    for number in range(connections, orders + connections):
        connection = opened[number % connections]
        answer = connection.receive()
        assert way.mark in answer, answer
        if number < orders:
            connection.send(way.order(number))
    taken = time.perf_counter() - began
    for connection in opened:
        connection.close()
    return orders / taken


def _connect(port: int) -> socket.socket:
    connected = socket.create_connection(("127.0.0.1", port))
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connected


def _hmac(payload: bytes) -> str:
    return hmac.new(SECRET.encode(), payload, hashlib.sha256).hexdigest()
