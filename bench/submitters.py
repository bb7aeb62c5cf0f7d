"""The same order by different clients: this engine's adapters alone, and the libraries that people use otherwise.

Each way opens connections to one face of the local exchange and gives a function that submits a limit order under a
given client order id: to buy 0.001 BTC far under the market, at once or not at all, so that nothing piles up. The
libraries are unmodified but for their addresses; their own limiters are off, as ours is.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, closing, contextmanager
from decimal import Decimal
from random import Random
from typing import Any

import trio
from msgspec import Struct
from msgspec.structs import replace

from bench import exchange as bare
from engine.core.messages import Acked, InstrumentKind, Leg, Order, OrderType, Side, TimeInForce
from engine.core.times import SECOND
from engine.runtime.clock import Clock, live_clock
from engine.venues.keys import Credentials, Secret
from engine.venues.registry import REAL, Setup
from engine.venues.throttle import Limit, Throttle

KEY, SECRET = bare.KEY, bare.SECRET
SYMBOL, QTY, PRICE = "BTCUSDT", "0.001", "59000"
CATEGORY = {"bybit": "linear", "binance-spot": "spot", "binance-usdm": "linear"}

Submit = Callable[[str], Awaitable[bool]]
"""Whether the exchange said yes."""


class Way(Struct, frozen=True):
    """One of the three: by trio, by asyncio, or blocking (one order at a time; its answers need not be waited for)."""

    trio: Callable[[str, int], AbstractAsyncContextManager[Submit]] | None = None
    asyncio: Callable[[str, int], AbstractAsyncContextManager[Submit]] | None = None
    blocking: (
        Callable[[str, int, Callable[[str, bool], None]], AbstractContextManager[Callable[[str], None]]] | None
    ) = None


# --------------------------------------------------------------------------------------------------------------- ours


def _ours(order_socket: bool) -> Callable[[str, int], AbstractAsyncContextManager[Submit]]:
    @asynccontextmanager
    async def opened(face: str, port: int) -> AsyncIterator[Submit]:
        clock = live_clock()
        venue = adapter(face, port, order_socket, boundless(clock), clock)
        plain = Order(
            cid="",
            account="bench",
            symbol=SYMBOL,
            signal_id="",
            leg=Leg.ENTRY,
            attempt=0,
            side=Side.BUY,
            order_type=OrderType.LIMIT,
            qty=Decimal(QTY),
            price=Decimal(PRICE),
            tif=TimeInForce.IOC,
        )

        async def submit(cid: str) -> bool:
            return isinstance(await venue.submit(replace(plain, cid=cid), lambda: None), Acked)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(venue.run)
            await venue.server_time_ns()
            assert not order_socket or await venue.socket.until_ready(10)
            yield submit
            nursery.cancel_scope.cancel()

    return opened


def adapter(face: str, port: int, order_socket: bool, throttle: Throttle, clock: Clock, key: str = KEY) -> Any:
    """As it ships."""
    return REAL[face.partition("-")[0]](
        Setup(
            clock=clock,
            rng=Random(1),
            host=f"http://127.0.0.1:{port}",
            kind=InstrumentKind(CATEGORY[face]),
            credentials=Credentials(Secret(key), Secret(SECRET)),
            throttle=throttle,
            symbols=(SYMBOL,),
            order_socket=order_socket,
        )
    )


def boundless(clock: Clock) -> Throttle:
    """Limits that hold nothing up."""
    return Throttle((Limit(1_000_000, SECOND),), clock)


# -------------------------------------------------------------------------------------------------------------- pybit


@contextmanager
def _pybit_http(face: str, port: int, tell: Callable[[str, bool], None]) -> Iterator[Callable[[str], None]]:
    import pybit._http_manager as http_manager
    from pybit.unified_trading import HTTP

    http_manager.HTTP_URL = f"http://127.0.0.1:{port}"
    session = HTTP(api_key=KEY, api_secret=SECRET)
    session.get_server_time()
    yield lambda cid: tell(cid, session.place_order(**_bybit(cid))["retCode"] == 0)


@contextmanager
def _pybit_websocket(face: str, port: int, tell: Callable[[str, bool], None]) -> Iterator[Callable[[str], None]]:
    import pybit._websocket_trading as trading
    from pybit.unified_trading import WebSocketTrading

    trading.TRADE_WSS = f"ws://127.0.0.1:{port}/v5/trade"
    trade = WebSocketTrading(testnet=False, api_key=KEY, api_secret=SECRET, private_auth_expire=30)
    while not trade.auth:
        time.sleep(0.01)

    def submit(cid: str) -> None:
        trade.place_order(lambda answer: tell(cid, answer["retCode"] == 0), **_bybit(cid))

    yield submit


def _bybit(cid: str) -> dict[str, Any]:
    return {
        "category": "linear",
        "symbol": SYMBOL,
        "side": "Buy",
        "orderType": "Limit",
        "qty": QTY,
        "price": PRICE,
        "timeInForce": "IOC",
        "orderLinkId": cid,
    }


# --------------------------------------------------------------------------------------------------------------- ccxt


def _ccxt(by_socket: bool) -> Callable[[str, int], AbstractAsyncContextManager[Submit]]:
    @asynccontextmanager
    async def opened(face: str, port: int) -> AsyncIterator[Submit]:
        import ccxt.pro

        name = {"bybit": "bybit", "binance-spot": "binance", "binance-usdm": "binanceusdm"}[face]
        options: dict[str, Any] = {"fetchMargins": False}
        if face != "bybit":
            options["fetchMarkets"] = {"types": [CATEGORY[face]]}
        client = getattr(ccxt.pro, name)(
            {"apiKey": KEY, "secret": SECRET, "enableRateLimit": False, "options": options}
        )
        client.urls["api"] = _at_port(client.urls["api"], port)
        client.has["fetchCurrencies"] = False
        symbol = "BTC/USDT" if CATEGORY[face] == "spot" else "BTC/USDT:USDT"
        place = client.create_order_ws if by_socket else client.create_order
        named = "clientOrderId" if face == "bybit" else "newClientOrderId"
        try:
            await client.load_markets()

            async def submit(cid: str) -> bool:
                more = {"timeInForce": "IOC", named: cid}
                return bool(await place(symbol, "limit", "buy", float(QTY), float(PRICE), more))

            yield submit
        finally:
            await client.close()

    return opened


def _at_port(urls: Any, port: int) -> Any:
    """The same addresses at a port of this machine, without TLS."""
    if isinstance(urls, dict):
        return {name: _at_port(url, port) for name, url in urls.items()}
    scheme, _, rest = str(urls).partition("://")
    path = rest.partition("/")[2]
    return f"{scheme.removesuffix('s')}://127.0.0.1:{port}" + (f"/{path}" if path else "")


# ----------------------------------------------------------------------------------------------------- python-binance


def _python_binance(by_socket: bool) -> Callable[[str, int], AbstractAsyncContextManager[Submit]]:
    @asynccontextmanager
    async def opened(face: str, port: int) -> AsyncIterator[Submit]:
        from binance import AsyncClient
        from binance.base_client import BaseClient

        BaseClient.API_URL = f"http://127.0.0.1:{port}/api"
        BaseClient.WS_API_URL = f"ws://127.0.0.1:{port}/ws-api/v3"
        BaseClient.FUTURES_URL = f"http://127.0.0.1:{port}/fapi"
        BaseClient.WS_FUTURES_URL = f"ws://127.0.0.1:{port}/ws-fapi/v1"
        client = AsyncClient(KEY, SECRET)
        spot = face == "binance-spot"
        if by_socket:
            place = client.ws_create_order if spot else client.ws_futures_create_order
        else:
            place = client.create_order if spot else client.futures_create_order
        asked = {
            "symbol": SYMBOL,
            "side": "BUY",
            "type": "LIMIT",
            "timeInForce": "IOC",
            "quantity": QTY,
            "price": PRICE,
        }
        try:

            async def submit(cid: str) -> bool:
                return "orderId" in await place(**asked, newClientOrderId=cid)

            yield submit
        finally:
            await client.close_connection()

    return opened


# --------------------------------------------------------------------------------------------------------------- bare


@contextmanager
def _bare(face: str, port: int, tell: Callable[[str, bool], None]) -> Iterator[Callable[[str], None]]:
    """A blocking socket, and the order's bytes made beforehand where they can be: the floor of the wire and the tap.

    Its call returns with the answer, so that call to answer is what the exchange takes, with the way there and back.
    """
    path, hello = {
        "bybit": ("/v5/trade", bare._bybit_hello),
        "binance-spot": ("/ws-api/v3", None),
        "binance-usdm": ("/ws-fapi/v1", None),
    }[face]
    with closing(bare.Ws(port, path, hello)) as socket:

        def submit(cid: str) -> None:
            socket.send(_bare_order(face, cid))
            answer = socket.receive()
            tell(cid, b'"retCode":0' in answer or b'"status":200' in answer)

        yield submit


def _bare_order(face: str, cid: str) -> bytes:
    stamp = time.time_ns() // 1_000_000
    if face == "bybit":
        order = ",".join(f'"{name}":"{value}"' for name, value in _bybit(cid).items())
        head = f'{{"X-BAPI-TIMESTAMP":"{stamp}"}}'
        return f'{{"reqId":"{cid}","header":{head},"op":"order.create","args":[{{{order}}}]}}'.encode()
    params = {
        "apiKey": KEY,
        "newClientOrderId": cid,
        "price": PRICE,
        "quantity": QTY,
        "side": "BUY",
        "symbol": SYMBOL,
        "timeInForce": "IOC",
        "timestamp": stamp,
        "type": "LIMIT",
    }
    signature = bare._hmac("&".join(f"{name}={value}" for name, value in params.items()).encode())
    fields = ",".join(f'"{name}":"{value}"' for name, value in params.items() if name != "timestamp")
    said = f'{{{fields},"timestamp":{stamp},"signature":"{signature}"}}'
    return f'{{"id":"{cid}","method":"order.place","params":{said}}}'.encode()


BARE, OURS, OURS_REST = "bare socket", "adapter, WebSocket", "adapter, REST"
_OURS = {OURS: Way(trio=_ours(True)), OURS_REST: Way(trio=_ours(False))}
_CCXT = {"ccxt async, REST": Way(asyncio=_ccxt(False)), "ccxt pro, WebSocket": Way(asyncio=_ccxt(True))}
_PYBIT = {"pybit, HTTP": Way(blocking=_pybit_http), "pybit, WebSocket": Way(blocking=_pybit_websocket)}
_BINANCE = {
    "python-binance, REST": Way(asyncio=_python_binance(False)),
    "python-binance, WebSocket": Way(asyncio=_python_binance(True)),
}
_FLOOR = {BARE: Way(blocking=_bare)}
WAYS: dict[str, dict[str, Way]] = {
    "bybit": {**_FLOOR, **_OURS, **_PYBIT, **_CCXT},
    "binance-spot": {**_FLOOR, **_OURS, **_BINANCE, **_CCXT},
    "binance-usdm": {**_FLOOR, **_OURS, **_BINANCE, **_CCXT},
}
