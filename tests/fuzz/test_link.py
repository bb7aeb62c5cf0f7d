"""Garbage on the link's sockets: the venue goes on serving others, the client has Silence, Failed or StreamDown."""

import json
from contextlib import closing
from typing import Any

import trio
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from engine.core.messages import Acked, Failed, OrderType, Rejection, Silence
from engine.core.money import use_exact_context
from engine.runtime.clock import live_clock
from engine.venues.base import StreamDown
from engine.venues.link import LinkVenue
from engine.venues.link_server import serve
from tests.fuzz import fuzzed
from tests.fuzz.wrongs import changed, damaged
from tests.patience import PATIENCE_SECONDS
from tests.venues.world import TERMS, D, buy, nothing, paper, show

QUICK = replace(TERMS, latency_ms=(0.0, 0.0), stream_latency_ms=(0.0, 0.0), timeout_ms=50.0)
ORDER = {"symbol": "BTCUSDT", "cid": "c", "side": "buy", "order_type": "limit", "qty": "1", "price": "90"}
STOP = {"symbol": "BTCUSDT", "cid": "d", "side": "sell", "order_type": "stop_market", "qty": "1", "trigger_price": "9"}
CALLS: tuple[dict[str, Any], ...] = (
    {"verb": "query", "id": 1, "what": "order", "symbol": "BTCUSDT", "cid": "a"},
    {"verb": "query", "id": 2, "what": "fills", "since_ns": 0},
    {"verb": "query", "id": 3, "what": "quote", "symbol": "NONE"},
    {"verb": "cancel", "id": 4, "request": {"cid": "a", "symbol": "BTCUSDT"}, "sent_ns": 0},
    {"verb": "submit", "id": 5, "request": ORDER, "sent_ns": 0},
    {"verb": "stream", "id": 6},
    {"verb": "drop", "id": 7},
    {"verb": "faults", "id": 8, "faults": {"slow": 0.0, "slow_ms": 1e300}},
)
REPORT = {"type": "OrderReport", "symbol": "BTCUSDT", "cid": "c", "venue_order_id": "v", "status": "open", "qty": "1"}
REPLIES: tuple[dict[str, Any], ...] = (
    {"id": 1, "body": {"type": "Acked", "venue_order_id": "v-1", "venue_ns": 1}},
    {"id": 1, "body": {"type": "Rejection", "code": "1", "kind": "invalid", "text": "x"}},
    {"id": 1, "body": None},
    {"id": 1, "body": [REPORT]},
    {"type": "Beat"},
    {"type": "Quote", "symbol": "BTCUSDT", "bid": "1", "ask": "2"},
    REPORT,
)
ODD_NUMBERS = ("NaN", "sNaN", "-Infinity", "1e30", "1e-30", "-1", "0", "1E+999999", 5, 1e308)


@st.composite
def calls(draw: st.DrawFn) -> bytes:
    """Requests of the right form whose numbers are not what they should be."""
    order: dict[str, Any] = dict(draw(st.sampled_from((ORDER, STOP))))
    for _ in range(draw(st.integers(0, 2))):
        key = draw(st.sampled_from(("qty", "price", "trigger_price", "order_type", "side", "tif", "cid", "symbol")))
        order[key] = draw(st.sampled_from(ODD_NUMBERS) | st.sampled_from(("", "market", "limit", "gtc", None)))
    sent_ns = draw(st.sampled_from((0, -(10**30), 10**30, live_clock().now_ns())))
    return json.dumps({"verb": "submit", "id": 1, "request": order, "sent_ns": sent_ns}).encode()


LINES = st.lists(calls() | changed(CALLS) | st.sampled_from(CALLS).flatmap(lambda c: damaged(json.dumps(c).encode())))


@given(LINES | st.binary(max_size=100).map(lambda raw: [raw]))
@fuzzed(80)
def test_a_venue_that_hears_garbage_goes_on_serving(lines: list[bytes]) -> None:
    async def story() -> None:
        use_exact_context()
        venue = paper(QUICK, clock=live_clock())
        show(venue)
        async with trio.open_nursery() as nursery:
            port = await nursery.start(serve, venue)
            stream = await trio.open_tcp_stream("127.0.0.1", port)
            try:
                await stream.send_all(b"\n".join(lines) + b"\n")
                with trio.move_on_after(0.01):
                    while await stream.receive_some():
                        pass
            except trio.BrokenResourceError:
                pass  # shown the door before the end
            venue.faults = QUICK.faults
            with trio.fail_after(PATIENCE_SECONDS), closing(LinkVenue("127.0.0.1", port, live_clock())) as link:
                order = buy("honest", "0.1", order_type=OrderType.LIMIT, price=D(80))
                assert isinstance(await link.submit(order, nothing), Acked | Rejection)
                assert isinstance(await link.balances(), tuple)
            venue.matching.check()
            await stream.aclose()
            nursery.cancel_scope.cancel()

    trio.run(story)


@given(changed(REPLIES) | st.sampled_from(REPLIES).flatmap(lambda r: damaged(json.dumps(r).encode())) | st.binary())
@fuzzed(80)
def test_a_client_that_hears_garbage_is_in_doubt_or_knows_that_it_failed(line: bytes) -> None:
    async def story() -> None:
        use_exact_context()

        async def venue(stream: trio.SocketStream) -> None:
            async with stream:
                try:
                    await stream.receive_some()
                    await stream.send_all(line + b"\n" + line + b"\n")
                    await stream.receive_some()
                except trio.BrokenResourceError:
                    pass

        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(trio.serve_tcp, venue, 0)
            port = listeners[0].socket.getsockname()[1]
            with trio.fail_after(PATIENCE_SECONDS):
                with closing(LinkVenue("127.0.0.1", port, live_clock(), timeout_seconds=0.02)) as link:
                    assert isinstance(await link.submit(buy(), nothing), Acked | Rejection | Silence)
                with closing(LinkVenue("127.0.0.1", port, live_clock(), timeout_seconds=0.02)) as link:
                    assert isinstance(await link.open_orders(), tuple | Failed)
                with closing(LinkVenue("127.0.0.1", port, live_clock(), timeout_seconds=0.02)) as link:
                    try:
                        with trio.move_on_after(0.02):
                            async with link.stream() as reports:
                                async for _ in reports:
                                    pass
                    except StreamDown as down:
                        assert str(down)
            nursery.cancel_scope.cancel()

    trio.run(story)
