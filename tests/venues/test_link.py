"""The link over real loopback sockets, in real time, and against peers that break it."""

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from engine.core.messages import (
    Acked,
    Answer,
    Cancel,
    Failed,
    FillReport,
    NotFound,
    OrderReport,
    OrderType,
    Quote,
    Rejection,
    Silence,
)
from engine.core.times import SECOND
from engine.runtime.clock import live_clock
from engine.venues.base import StreamDown
from engine.venues.link import LinkVenue
from engine.venues.link_server import serve
from engine.venues.paper import Faults, PaperTerms, PaperVenue, Truth, traits
from tests.patience import PATIENCE_SECONDS
from tests.venues.world import BTC, TERMS, D, buy, nothing, paper, show

QUICK = replace(TERMS, latency_ms=(0.0, 0.0), stream_latency_ms=(0.0, 0.0))
Peer = Callable[[trio.SocketStream], Awaitable[None]]


@asynccontextmanager
async def linked(terms: PaperTerms = QUICK) -> AsyncIterator[tuple[PaperVenue, LinkVenue]]:
    """A paper venue served here, and a client of it."""
    venue = paper(terms, clock=live_clock())
    show(venue)
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve, venue)
        with closing(LinkVenue("127.0.0.1", port, live_clock())) as link:
            with trio.fail_after(PATIENCE_SECONDS):
                yield venue, link
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def peer(behave: Peer, timeout_seconds: float = PATIENCE_SECONDS) -> AsyncIterator[LinkVenue]:
    """A client of a venue that behaves like `behave`. A time-out is given by who waits for it."""
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, behave, 0)
        port = listeners[0].socket.getsockname()[1]
        with closing(LinkVenue("127.0.0.1", port, live_clock(), timeout_seconds=timeout_seconds)) as link:
            with trio.fail_after(PATIENCE_SECONDS):
                yield link
        nursery.cancel_scope.cancel()


async def test_every_question_and_request_gets_the_venues_own_answer() -> None:
    async with linked() as (venue, link):
        wire: list[int] = []
        answer = await link.submit(buy(), lambda: wire.append(1))
        assert isinstance(answer, Acked) and wire == [1]
        resting = buy("rests", order_type=OrderType.LIMIT, price=D(90))
        assert isinstance(await link.submit(resting, nothing), Acked)
        assert isinstance(await link.submit(buy("rests"), nothing), Rejection)
        assert await link.instruments() == (BTC,)
        assert await link.balances() == await venue.balances()
        assert await link.positions() == await venue.positions()
        assert await link.open_orders() == await venue.open_orders()
        assert await link.order("BTCUSDT", "a") == await venue.order("BTCUSDT", "a")
        assert await link.order("BTCUSDT", "x") == NotFound("x")
        fills = await link.fills(0)
        assert isinstance(fills, tuple) and fills == await venue.fills(0) and len(fills) == 1
        assert await link.fills(0, "rests") == ()
        assert isinstance(await link.server_time_ns(), int)
        assert isinstance(await link.cancel(Cancel("rests", "BTCUSDT")), Acked)
        assert await link.open_orders() == ()
        truth = await link.truth()
        assert isinstance(truth, Truth) and replace(truth, now_ns=0) == replace(venue.truth(), now_ns=0)


async def test_the_client_learns_the_traits_of_its_venue() -> None:
    async with linked(replace(QUICK, id_rule="open", window_ms=1000.0)) as (venue, link):
        assert link.traits == traits(PaperTerms(balances={}))
        assert await link.learn_traits() == venue.traits
        assert link.traits.window_ns == SECOND and not link.traits.id_unique_for_ever


async def test_many_requests_are_under_way_at_once_and_each_gets_its_own_answer() -> None:
    async with linked(replace(QUICK, latency_ms=(0.0, 20.0))) as (_, link):
        await link.fetch_quote("BTCUSDT")  # so that there is a connection
        answers: dict[str, Answer] = {}
        under_way: list[int] = [0]

        async def send(cid: str) -> None:
            def wired() -> None:
                under_way.append(under_way[-1] + 1)

            answers[cid] = await link.submit(buy(cid, order_type=OrderType.LIMIT, price=D(90)), wired)
            under_way.append(under_way[-1] - 1)

        async with trio.open_nursery() as nursery:
            for number in range(40):
                nursery.start_soon(send, f"c{number}")
        assert max(under_way) == 40
        for cid, answer in answers.items():
            found = await link.order("BTCUSDT", cid)
            assert isinstance(found, OrderReport) and isinstance(answer, Acked)
            assert found.venue_order_id == answer.venue_order_id


async def test_who_reads_for_all_may_be_cancelled_without_harm_to_the_others() -> None:
    cancelled = trio.Event()

    async def slow(stream: trio.SocketStream) -> None:
        heard = b""
        while heard.count(b"\n") < 3:
            heard += await stream.receive_some()
        await cancelled.wait()
        for number in (1, 2, 3):
            await stream.send_all(b'{"id":%d,"body":{"type":"Acked","venue_order_id":"%d"}}\n' % (number, number))
        await trio.sleep_forever()

    async with peer(slow) as link, trio.open_nursery() as nursery:
        answers: list[Answer] = []
        patience = [trio.CancelScope() for _ in range(3)]
        for number, scope in enumerate(patience):
            wired = trio.Event()

            async def send(cid: str, scope: trio.CancelScope, wired: trio.Event) -> None:
                with scope:
                    answers.append(await link.submit(buy(cid), wired.set))

            nursery.start_soon(send, f"c{number}", scope, wired)
            await wired.wait()  # it was sent in the same step, and now waits; the first one reads for all
        patience[0].cancel()
        await trio.testing.wait_all_tasks_blocked()
        cancelled.set()
    assert answers == [Acked("2"), Acked("3")]


async def test_the_stream_brings_reports_and_quotes() -> None:
    async with linked() as (venue, link), link.stream() as reports:
        await link.submit(buy(), nothing)
        heard = [await reports.receive() for _ in range(3)]
        assert [type(report) for report in heard] == [OrderReport, FillReport, OrderReport]
        await heard_of(link, "100")
        for bid in ("101", "102", "103"):
            show(venue, bid=bid, ask="110")
        await heard_of(link, "103")


async def heard_of(link: LinkVenue, bid: str) -> None:
    while (quote := link.quote("BTCUSDT")) is None or quote.bid != D(bid):  # noqa: ASYNC110 (no event for a quote)
        await trio.sleep(0.01)


async def test_a_quote_may_be_asked_for() -> None:
    async with linked() as (_, link):
        assert link.quote("BTCUSDT") is None
        quote = await link.fetch_quote("BTCUSDT")
        assert isinstance(quote, Quote) and link.quote("BTCUSDT") == quote
        assert await link.fetch_quote("NONE") is None


async def test_faults_are_set_while_it_runs() -> None:
    async with linked(replace(QUICK, timeout_ms=50.0)) as (_, link):
        assert await link.set_faults(Faults(lost_reply=1.0, query_fails=1.0)) is None
        assert isinstance(await link.submit(buy(), nothing), Silence)
        assert isinstance(await link.balances(), Failed)
        await link.set_faults(Faults())
        found = await link.order("BTCUSDT", "a")
        assert isinstance(found, OrderReport) and found.status == "filled"


async def test_a_dropped_stream_is_down_and_can_be_had_again() -> None:
    async with linked() as (_, link):
        with pytest.raises(StreamDown):
            async with link.stream() as reports:
                await link.drop_streams()
                await reports.receive()
        async with link.stream() as reports:
            await link.submit(buy(), nothing)
            assert await reports.receive()


async def test_a_stream_that_falls_silent_is_down(monkeypatch: pytest.MonkeyPatch) -> None:
    async def mute(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(b'{"id":1,"body":null}\n')
        await trio.sleep_forever()

    monkeypatch.setattr("engine.venues.link.SILENT_AFTER_SECONDS", 0.1)
    async with peer(mute) as link:
        with pytest.raises(StreamDown, match="nothing heard"):
            async with link.stream() as reports:
                await reports.receive()


# -------------------------------------------------------------------------------------------------- a link that breaks


async def test_without_a_connection_nothing_was_sent() -> None:
    link, wire = LinkVenue("127.0.0.1", 1, live_clock()), list[int]()
    answer = await link.submit(buy(), lambda: wire.append(1))
    assert isinstance(answer, Rejection) and answer.kind == "not_sent"
    assert wire == []
    answer = await link.cancel(Cancel("a", "BTCUSDT"))
    assert isinstance(answer, Rejection) and answer.kind == "not_sent"
    assert isinstance(await link.balances(), Failed)
    with pytest.raises(StreamDown):
        async with link.stream():
            pass


async def test_a_connection_cut_before_the_answer_leaves_doubt_and_the_next_request_makes_a_new_one() -> None:
    seen: list[bytes] = []

    async def cut(stream: trio.SocketStream) -> None:
        async with stream:
            seen.append(bytes(await stream.receive_some()))

    async with peer(cut) as link:
        for cid in ("a", "b"):
            answer = await link.submit(buy(cid), nothing)
            assert isinstance(answer, Silence)
        assert isinstance(await link.balances(), Failed)
        assert [b'"a"' in seen[0], b'"b"' in seen[1], b"balances" in seen[2]] == [True] * 3


async def test_all_requests_on_a_connection_that_is_cut_are_in_doubt() -> None:
    requests = [1, 3]  # that a connection gets before it is cut

    async def cut(stream: trio.SocketStream) -> None:
        async with stream:
            count, heard = requests.pop(0), b""
            while heard.count(b"\n") < count:
                heard += await stream.receive_some()

    async with peer(cut) as link:
        answers: list[Answer] = []

        async def send(cid: str) -> None:
            answers.append(await link.submit(buy(cid), nothing))

        assert isinstance(await link.balances(), Failed)
        async with trio.open_nursery() as nursery:
            for cid in "abc":
                nursery.start_soon(send, cid)
        assert [type(answer) for answer in answers] == [Silence] * 3


@pytest.mark.parametrize("answer", [b"", b"not json\n", b'{"id":1,"body":{"type":"Nonsense"}}\n', b'{"id":1,"bo'])
async def test_no_answer_and_garbage_are_silence(answer: bytes) -> None:
    async def mumble(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)
        await trio.sleep_forever()

    async with peer(mumble, timeout_seconds=0.2) as link:
        assert isinstance(await link.submit(buy(), nothing), Silence)


async def test_an_answer_after_its_time_out_is_not_taken_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = trio.Event()

    async def late(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await silent.wait()
        await stream.send_all(b'{"id":1,"body":{"type":"Acked","venue_order_id":"first"}}\n')
        await stream.receive_some()
        await stream.send_all(b'{"id":2,"body":{"type":"Acked","venue_order_id":"second"}}\n')
        await trio.sleep_forever()

    async with peer(late) as link:
        with monkeypatch.context() as impatient:
            impatient.setattr(link, "_timeout", 0.2)
            assert isinstance(await link.submit(buy("a"), nothing), Silence)
        silent.set()
        assert await link.submit(buy("b"), nothing) == Acked("second")


async def test_an_end_that_came_while_idle_is_noticed_before_the_next_request() -> None:
    async with linked() as (venue, link):
        assert isinstance(await link.balances(), tuple)
        pipeline = link._connection
        assert pipeline is not None
        pipeline._socket.shutdown(2)
        assert isinstance(await link.submit(buy(), nothing), Acked)
        assert link._connection is not pipeline
        assert [order.status for order in venue.truth().orders] == ["filled"]


async def test_a_peer_that_speaks_no_json_is_shown_the_door() -> None:
    venue = paper(QUICK, clock=live_clock())
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve, venue)
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        await stream.send_all(b"GET / HTTP/1.1\r\n\r\n")
        with trio.fail_after(PATIENCE_SECONDS):
            assert await stream.receive_some() == b""
        await stream.aclose()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "garbage",
    [
        b'{"verb":"query","id":1,"what":"\xff"}\n',
        b'{"verb":"query","id":1,"what":"x","y":' + b"[" * 20_000 + b"\n",
        b"x" * 1_000_000,
    ],
    ids=["no text", "nested", "a line without end"],
)
async def test_what_cannot_be_read_ends_its_own_connection_and_nothing_else(garbage: bytes) -> None:
    async with linked() as (_, link):
        assert isinstance(await link.balances(), tuple)
        async with await trio.open_tcp_stream(*link._address) as stranger:
            try:
                await stranger.send_all(garbage)
                assert await stranger.receive_some() == b""
            except trio.BrokenResourceError:
                pass  # the door was shut while we were talking
        assert isinstance(await link.balances(), tuple)


@pytest.mark.parametrize("number", ["NaN", "sNaN", "Infinity", "1e30", "1e-30"])
@pytest.mark.parametrize("field", ["qty", "price"])
async def test_a_number_that_is_none_is_an_invalid_order(field: str, number: str) -> None:
    async with linked() as (_, link):
        order = replace(buy(order_type=OrderType.LIMIT, price=D(90)), **{field: D(number)})
        answer = await link.submit(order, nothing)
        assert isinstance(answer, Rejection) and answer.kind == "invalid"
        assert isinstance(await link.balances(), tuple)


async def test_a_fault_plan_out_of_all_bounds_is_refused() -> None:
    async with linked() as (venue, link):
        assert isinstance(await link.set_faults(Faults(slow=1.0, slow_ms=1e300)), Failed)
        assert venue.faults == QUICK.faults


@pytest.mark.parametrize("answer", [b'{"id":1,"body":"\xff"}\n', b'{"id":1,"body":' + b"[" * 20_000 + b"\n"])
async def test_an_answer_that_cannot_be_read_is_silence_and_no_query_succeeds_by_it(answer: bytes) -> None:
    async def babble(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(answer)

    async with peer(babble) as link:
        assert isinstance(await link.submit(buy(), nothing), Silence)
    async with peer(babble) as link:
        assert isinstance(await link.balances(), Failed)
    async with peer(babble) as link:
        with pytest.raises(StreamDown):
            async with link.stream() as reports:
                await reports.receive()


# ------------------------------------------------------------------------------------------------ a venue of its own


def start(store: Path) -> tuple["subprocess.Popen[str]", int]:
    terms = '{"balances":{"USDT":"10000"},"latency_ms":[0,0]}'
    command = [sys.executable, "-m", "engine.venues.link", "--seed", "7", "--store", str(store), "--terms", terms]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": "."})
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("listening on 127.0.0.1:"), line
    return process, int(line.rsplit(":", 1)[1])


def finish(process: "subprocess.Popen[str]", number: int) -> int:
    process.send_signal(number)
    process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode


async def test_a_venue_process_that_is_killed_comes_back_with_the_same_books(tmp_path: Path) -> None:
    store = tmp_path / "venue.ndjson"
    process, port = start(store)
    with closing(LinkVenue("127.0.0.1", port, live_clock())) as link:
        assert isinstance(await link.submit(buy("a", "0.01"), nothing), Acked)
        resting = buy("rests", "0.01", order_type=OrderType.LIMIT, price=D(30_000))
        assert isinstance(await link.submit(resting, nothing), Acked)
        before = await link.truth()
        assert isinstance(before, Truth) and len(before.executions) == 1
        assert finish(process, signal.SIGKILL) == -signal.SIGKILL
        answer = await link.submit(buy("b", "0.01"), nothing)
        assert isinstance(answer, Rejection) and answer.kind == "not_sent"
    process, port = start(store)
    with closing(LinkVenue("127.0.0.1", port, live_clock())) as link:
        after = await link.truth()
        assert isinstance(after, Truth)
        assert (after.orders, after.executions, after.balances) == (before.orders, before.executions, before.balances)
        async with link.stream():
            with trio.fail_after(PATIENCE_SECONDS):
                while link.quote("BTCUSDT") is None:  # noqa: ASYNC110
                    await trio.sleep(0.02)
    assert finish(process, signal.SIGTERM) == 0
