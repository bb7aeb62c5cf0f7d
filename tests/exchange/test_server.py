"""The exchange on real sockets: connections, faults on demand, the admin, and clients that misbehave."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from functools import partial
from typing import Any

import httpx
import pytest
import trio
from trio_websocket import ConnectionClosed, WebSocketConnection, open_websocket_url

from engine.core.money import use_exact_context
from engine.exchange.connection import BODY_MAX
from engine.exchange.opening import both_kinds, open_exchange, still
from engine.exchange.server import Exchange
from engine.exchange.terms import ExchangeTerms
from engine.market import synthetic
from engine.market.events import BookSnapshot
from engine.runtime.clock import live_clock
from tests.exchange.site import KEY, SECRET
from tests.exchange.world import hmac_hex

LINEAR = {"category": "linear", "symbol": "BTCUSDT"}
BUY = {**LINEAR, "side": "Buy", "orderType": "Market", "qty": "0.01"}
PATIENCE = 30.0  # seconds; nothing here takes as long, a loaded machine may


class Running:
    """An exchange on loopback, and a client of its Bybit face."""

    def __init__(self, exchange: Exchange, ports: dict[str, int], http: httpx.AsyncClient) -> None:
        self.exchange, self.ports, self.http = exchange, ports, http

    @property
    def member(self) -> Any:
        return self.exchange.faces["bybit"].house.members["main"]

    def address(self, face: str = "bybit") -> str:
        return f"http://127.0.0.1:{self.ports[face]}"

    async def order(self, **more: Any) -> httpx.Response:
        body = json.dumps(BUY | more).encode()
        stamp = str(self.exchange.clock.now_ns() // 1_000_000)
        headers = {"X-BAPI-API-KEY": KEY, "X-BAPI-TIMESTAMP": stamp, "X-BAPI-RECV-WINDOW": "20000"}
        headers["X-BAPI-SIGN"] = hmac_hex(f"{stamp}{KEY}20000".encode() + body, SECRET)
        return await self.http.post(f"{self.address()}/v5/order/create", content=body, headers=headers)

    async def admin(self, method: str, path: str, body: Any = None) -> httpx.Response:
        return await self.http.request(method, f"{self.address()}/admin{path}", json=body)

    async def fault(self, do: str, **more: Any) -> None:
        assert (await self.admin("POST", "/fault", {"do": do, **more})).status_code == 200

    @asynccontextmanager
    async def websocket(self, path: str, face: str = "bybit") -> AsyncIterator[WebSocketConnection]:
        url = f"ws://127.0.0.1:{self.ports[face]}{path}"
        async with open_websocket_url(url, message_queue_size=1000) as socket:
            try:
                yield socket
            finally:
                await trio.aclose_forcefully(socket._stream)  # the client leaves that to the server's end of file

    async def log_on(self, socket: WebSocketConnection) -> None:
        expires = self.exchange.clock.now_ns() // 1_000_000 + 60_000
        signature = hmac_hex(f"GET/realtime{expires}".encode(), SECRET)
        assert (await say(socket, {"op": "auth", "args": [KEY, expires, signature]}))["op"] == "auth"


async def say(socket: WebSocketConnection, message: dict[str, Any]) -> Any:
    await socket.send_message(json.dumps(message))
    return await heard(socket)


async def heard(socket: WebSocketConnection) -> Any:
    with trio.fail_after(PATIENCE):
        return json.loads(await socket.get_message())


async def closed(socket: WebSocketConnection) -> int:
    """The code with which the exchange closed it."""
    with trio.fail_after(PATIENCE), pytest.raises(ConnectionClosed) as ended:
        while True:
            await socket.get_message()
    return int(ended.value.reason.code)


@asynccontextmanager
async def running() -> AsyncIterator[Running]:
    use_exact_context()
    clock, instruments = live_clock(), both_kinds(synthetic.instruments())
    exchange = open_exchange(ExchangeTerms(rate_limits="off"), instruments, clock)
    for event in still(synthetic.instruments(), clock.now_ns()):
        exchange.publish(event)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exchange.beat)
        ports = {name: await nursery.start(partial(exchange.listen, name, "127.0.0.1", 0)) for name in exchange.faces}
        async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as http:
            yield Running(exchange, ports, http)
        nursery.cancel_scope.cancel()


# ---------------------------------------------------------------------------------------------------- faults, by HTTP


async def test_a_lost_request_does_nothing_and_a_lost_reply_hides_what_was_done() -> None:
    async with running() as site:
        await site.fault("lose_request", on="order.create")
        with pytest.raises(httpx.RemoteProtocolError):
            await site.order(orderLinkId="never")
        assert site.member.find("linear", None, "never") is None
        await site.fault("lose_reply", on="order.create")
        with pytest.raises(httpx.RemoteProtocolError):
            await site.order(orderLinkId="done")
        assert site.member.find("linear", None, "done").order.status == "filled"
        assert (await site.order(orderLinkId="next")).json()["retCode"] == 0


async def test_a_refusal_has_the_code_it_is_given_and_may_come_before_or_after_the_deed() -> None:
    async with running() as site:
        await site.fault("refuse", on="order.", code=10006, text="Too many visits!")
        await site.fault("refuse_done", on="order.", code=10000, text="Server Timeout", status=200)
        await site.fault("refuse_done", on="order.", code=10016, status=502)
        await site.fault("garbage", on="order.")
        answers = [await site.order(orderLinkId=name) for name in ("before", "after", "gateway", "garbage")]
        assert [a.status_code for a in answers] == [200, 200, 502, 200]
        assert [a.json()["retCode"] for a in answers[:3]] == [10006, 10000, 10016]
        assert answers[3].content == b'{"half": '
        done = [
            site.member.find("linear", None, name) is not None for name in ("before", "after", "gateway", "garbage")
        ]
        assert done == [False, True, True, True]


async def test_a_delayed_request_arrives_late_and_is_then_too_old() -> None:
    async with running() as site:
        await site.fault("delay", on="order.", ms=1500)
        stamp = str(site.exchange.clock.now_ns() // 1_000_000)
        body = json.dumps(BUY | {"orderLinkId": "late"}).encode()
        headers = {"X-BAPI-API-KEY": KEY, "X-BAPI-TIMESTAMP": stamp, "X-BAPI-RECV-WINDOW": "1000"}
        headers["X-BAPI-SIGN"] = hmac_hex(f"{stamp}{KEY}1000".encode() + body, SECRET)
        answer = await site.http.post(f"{site.address()}/v5/order/create", content=body, headers=headers)
        assert answer.json()["retCode"] == 10002
        assert site.member.find("linear", None, "late") is None


async def test_a_hanging_answer_was_done_all_the_same() -> None:
    async with running() as site:
        await site.fault("hang", on="order.", ms=60_000)
        with trio.move_on_after(0.5):
            await site.order(orderLinkId="hangs")
        assert site.member.find("linear", None, "hangs") is not None


async def test_faults_wait_for_their_turn_and_last_as_long_as_they_are_told_to() -> None:
    async with running() as site:
        await site.fault("refuse", on="order.", skip=1, times=2, code=1)
        codes = [(await site.order()).json()["retCode"] for _ in range(4)]
        assert codes == [0, 1, 1, 0]
        await site.fault("refuse", on="order.", times=0, code=2)
        assert [(await site.order()).json()["retCode"] for _ in range(3)] == [2, 2, 2]
        await site.fault("refuse", face="binance", times=0)
        assert (await site.admin("DELETE", "/faults")).json() == {"faults": []}
        assert (await site.order()).json()["retCode"] == 0


async def test_an_order_may_be_acknowledged_and_then_rejected_on_the_stream() -> None:
    async with running() as site, site.websocket("/v5/private") as private:
        await site.log_on(private)
        await say(private, {"op": "subscribe", "args": ["order"]})
        await site.fault("reject_later", on="order.create")
        assert (await site.order(orderLinkId="late")).json()["retCode"] == 0
        rows = [(await heard(private))["data"][0] for _ in range(2)]
        assert [row["orderStatus"] for row in rows] == ["New", "Rejected"]
        assert site.member.matching.positions() == ()


# -------------------------------------------------------------------------------------------------- faults of streams


async def test_orders_by_websocket_suffer_the_same_faults() -> None:
    async with running() as site, site.websocket("/v5/trade") as trade:
        await site.log_on(trade)
        await site.fault("lose_reply", on="order.create")
        await site.fault("refuse", on="order.create", code=10429, text="slow down")
        header = {"X-BAPI-TIMESTAMP": str(site.exchange.clock.now_ns() // 1_000_000), "X-BAPI-RECV-WINDOW": "20000"}
        for name in ("silent", "refused", "done"):
            asked = {"reqId": name, "header": header, "op": "order.create", "args": [BUY | {"orderLinkId": name}]}
            await trade.send_message(json.dumps(asked))
        answers = [await heard(trade) for _ in range(2)]
        assert sorted((a["reqId"], a["retCode"]) for a in answers) == [("done", 0), ("refused", 10429)]
        found = [site.member.find("linear", None, name) is not None for name in ("silent", "refused", "done")]
        assert found == [True, False, True]


async def test_streams_are_dropped_by_kind() -> None:
    async with running() as site, site.websocket("/v5/private") as private, site.websocket("/v5/trade") as trade:
        assert (await site.admin("POST", "/do", {"do": "drop", "scope": "private"})).json() == {"dropped": 1}
        assert await closed(private) == 1012
        assert (await say(trade, {"op": "ping"}))["op"] == "pong"
        assert (await site.admin("POST", "/do", {"do": "restart", "face": "bybit"})).json() == {"dropped": 1}
        assert await closed(trade) == 1012
        assert site.member.forgotten_ns > 0


async def test_a_stalled_stream_answers_pings_and_tells_nothing() -> None:
    async with running() as site, site.websocket("/v5/private") as private:
        await site.log_on(private)
        await say(private, {"op": "subscribe", "args": ["order"]})
        await site.admin("POST", "/do", {"do": "stall", "scope": "private", "ms": 3_600_000})
        await site.order(orderLinkId="unheard")
        assert (await say(private, {"op": "ping"}))["op"] == "pong"
        await site.admin("POST", "/do", {"do": "stall", "scope": "private", "ms": 0})
        await site.order(orderType="Limit", price="50000", orderLinkId="heard")
        assert (await heard(private))["data"][0]["orderLinkId"] == "heard"


@pytest.mark.parametrize(
    ("how", "names"),
    [("lose", ["b", "c"]), ("repeat", ["a", "a", "b", "c"]), ("swap", ["b", "a", "c"])],
)
async def test_messages_of_a_stream_are_lost_repeated_and_swapped(how: str, names: list[str]) -> None:
    async with running() as site, site.websocket("/v5/private") as private:
        await site.log_on(private)
        await say(private, {"op": "subscribe", "args": ["order"]})
        await site.admin("POST", "/do", {"do": "mangle", "how": how})
        for name in ("a", "b", "c"):
            await site.order(orderType="Limit", price="50000", orderLinkId=name)
        assert [(await heard(private))["data"][0]["orderLinkId"] for _ in names] == names


async def test_new_orders_show_late_when_they_are_told_to() -> None:
    async with running() as site:
        await site.admin("POST", "/do", {"do": "lag", "face": "bybit", "ms": 3_600_000})
        await site.order(orderLinkId="hidden")
        member = site.member
        assert not member.shows(member.find("linear", None, "hidden"), site.exchange.now_ns())
        await site.admin("POST", "/do", {"do": "lag", "ms": 0})
        assert member.shows(member.find("linear", None, "hidden"), site.exchange.now_ns())


async def test_a_stream_on_which_nothing_is_said_is_cut_as_its_client_asked() -> None:
    short_lived = "/v5/private?max_active_time=30s"
    async with running() as site, site.websocket(short_lived) as short, site.websocket("/v5/private") as usual:
        await site.admin("POST", "/do", {"do": "skew", "ms": 60_000})
        assert await closed(short) == 1000
        assert (await say(usual, {"op": "ping"}))["op"] == "pong"


async def test_the_market_the_clock_and_the_account_can_be_taken_in_hand() -> None:
    async with running() as site:
        await site.order(qty="0.5")
        book = {"do": "book", "symbol": "BTCUSDT", "bids": [["50000", "5"]], "asks": [["50001", "5"]]}
        assert (await site.admin("POST", "/do", book)).json() == {"done": True}
        ticker = await site.http.get(f"{site.address()}/v5/market/tickers", params=LINEAR)
        assert ticker.json()["result"]["list"][0]["bid1Price"] == "50000"
        liquidated = await site.admin("POST", "/do", {"do": "liquidate", "face": "bybit", "symbol": "BTCUSDT"})
        assert liquidated.json()["status"] == "filled" and site.member.matching.positions() == ()
        await site.admin("POST", "/do", {"do": "skew", "ms": 60_000})
        assert (await site.order()).json()["retCode"] == 10002
        await site.admin("POST", "/do", {"do": "skew", "ms": 0})
        await site.admin("POST", "/do", {"do": "ban", "face": "binance-usdm", "ms": 60_000})
        assert (await site.http.get(f"{site.address('binance-usdm')}/fapi/v1/ping")).status_code == 418
        assert (await site.http.get(f"{site.address('binance-spot')}/api/v3/ping")).status_code == 200
        truth = (await site.admin("GET", "/truth?face=bybit&account=main")).json()["bybit"]["main"]
        assert [order["status"] for order in truth["orders"]] == ["filled", "filled"]


async def test_a_market_that_is_held_hears_the_admin_and_not_its_tape_until_it_is_let_go() -> None:
    async def bid() -> str:
        ticker = await site.http.get(f"{site.address()}/v5/market/tickers", params=LINEAR)
        return str(ticker.json()["result"]["list"][0]["bid1Price"])

    def tape(price: str) -> None:
        at_ns, levels = site.exchange.now_ns(), ((Decimal(price), Decimal(5)),)
        site.exchange.publish(BookSnapshot("BTCUSDT", at_ns, at_ns, levels, ((Decimal("70000"), Decimal(5)),)))

    async with running() as site:
        assert (await site.admin("POST", "/do", {"do": "hold"})).json() == {"done": True}
        before = await bid()
        tape("40000")
        assert await bid() == before
        book = {"do": "book", "symbol": "BTCUSDT", "bids": [["50000", "5"]], "asks": [["50001", "5"]]}
        await site.admin("POST", "/do", book)
        assert await bid() == "50000"
        await site.admin("POST", "/do", {"do": "hold", "on": False})
        tape("41000")
        assert await bid() == "41000"


@pytest.mark.parametrize(
    "body",
    [
        {"do": "nonsense"},
        {"do": "stall"},
        {"do": "drop", "scope": "all"},
        {"do": "liquidate", "face": "nowhere", "symbol": "X"},
        {"do": "liquidate", "face": "bybit", "symbol": "NOSUCH"},
    ],
)
async def test_a_deed_that_makes_no_sense_is_refused(body: dict[str, Any]) -> None:
    async with running() as site:
        answer = await site.admin("POST", "/do", body)
        assert answer.status_code == 400 and answer.json()["error"]


# --------------------------------------------------------------------------------------------- clients that misbehave


@pytest.mark.parametrize(
    "sent",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\nx: " + b"y" * 70_000 + b"\r\n\r\n",
        b"POST /v5/order/create HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (BODY_MAX + 1) + b"z" * (BODY_MAX + 1),
    ],
    ids=["no request", "a head too large", "a body too large"],
)
async def test_what_is_no_request_ends_its_connection_and_nothing_else(sent: bytes) -> None:
    async with running() as site:
        stream = await trio.open_tcp_stream("127.0.0.1", site.ports["bybit"])
        answer = b""
        async with stream:
            try:
                await stream.send_all(sent)
                with trio.fail_after(PATIENCE):
                    async for piece in stream:
                        answer += bytes(piece)
            except trio.BrokenResourceError:
                pass  # it had closed while we were still sending
        assert answer.startswith(b"HTTP/1.1 400") or len(sent) > BODY_MAX
        assert (await site.http.get(f"{site.address()}/v5/market/time")).status_code == 200


async def test_requests_in_one_packet_are_answered_in_their_order() -> None:
    async with running() as site:
        stream = await trio.open_tcp_stream("127.0.0.1", site.ports["bybit"])
        one = b"GET /v5/market/time HTTP/1.1\r\nhost: x\r\n\r\n"
        last = b"GET /v5/nonsense HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        answer = b""
        async with stream:
            await stream.send_all(one + one + last)
            with trio.fail_after(PATIENCE):
                async for piece in stream:
                    answer += bytes(piece)
        assert [part[:3] for part in answer.split(b"HTTP/1.1 ")[1:]] == [b"200", b"200", b"401"]


async def test_a_websocket_nobody_offers_is_refused() -> None:
    async with running() as site:
        asked = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
        asked["sec-websocket-key"] = "dGhlIHNhbXBsZSBub25jZQ=="
        refused = await site.http.get(f"{site.address()}/v5/nonsense", headers=asked)
        assert refused.status_code == 404


async def test_messages_too_large_or_binary_close_the_socket_that_sent_them() -> None:
    async with running() as site:
        async with site.websocket("/v5/private") as socket:
            await socket.send_message(b"\x00\x01")
            assert await closed(socket) == 1003
        async with site.websocket("/v5/private") as socket:
            await socket.send_message("x" * 1_100_000)
            assert await closed(socket) == 1009
        with trio.fail_after(PATIENCE):
            while site.exchange.lines:  # noqa: ASYNC110 (nothing tells when a connection is gone)
                await trio.sleep(0.01)


async def test_a_reader_that_does_not_read_is_cut_off_and_holds_nobody_up() -> None:
    async with running() as site, site.websocket("/v5/public/linear") as socket:
        (line,) = site.exchange.lines
        with trio.fail_after(PATIENCE):
            while not line.socket._closing:
                line.socket.post(b'{"topic":"' + b"x" * 500_000 + b'"}')
                await trio.lowlevel.checkpoint()
        assert (await site.http.get(f"{site.address()}/v5/market/time")).status_code == 200
        del socket
