"""The paper venue on the virtual clock: what a sender sees, and what is true at the venue."""

from contextlib import closing
from pathlib import Path
from random import Random

import pytest
import trio
from msgspec.structs import replace
from trio.testing import MockClock

from engine.core.messages import (
    Acked,
    Cancel,
    Failed,
    FillReport,
    FundingReport,
    NotFound,
    OrderReport,
    OrderType,
    Rejection,
    Side,
    Silence,
    VenueReport,
)
from engine.core.times import SECOND
from engine.market.events import BookDelta, BookSnapshot
from engine.runtime.clock import virtual_clock
from engine.venues.base import StreamDown
from engine.venues.paper import Faults, PaperTerms, PaperVenue, Truth
from engine.venues.store import StoreDamaged
from tests.venues.world import BTC, START_NS, TERMS, D, buy, nothing, paper, show


def faulty(**faults: float) -> PaperTerms:
    return replace(TERMS, faults=Faults(**faults))


async def test_an_order_is_answered_after_the_way_there_and_back(autojump_clock: MockClock) -> None:
    venue, wire = paper(), []
    show(venue)
    began = trio.current_time()
    answer = await venue.submit(buy(), lambda: wire.append(trio.current_time()))
    assert isinstance(answer, Acked)
    assert wire == [began]
    assert trio.current_time() - began == pytest.approx(0.020)
    assert venue.matching.positions()[0].qty == 1


async def test_an_order_sees_the_book_as_it_is_when_it_arrives_and_no_later_one(
    autojump_clock: MockClock,
) -> None:
    venue = paper()
    show(venue)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(venue.submit, buy(), nothing)  # arrives after 10 ms
        await trio.sleep(0.009)
        asks = ((D("101"), D(0)), (D("103"), D(5)))
        venue.publish(BookDelta("BTCUSDT", venue._clock.now_ns(), START_NS + 1, START_NS + 1, None, (), asks))
        await trio.sleep(0.002)
        asks = ((D("102"), D(5)),)
        venue.publish(BookDelta("BTCUSDT", venue._clock.now_ns(), START_NS + 2, START_NS + 2, None, (), asks))
    fills = await venue.fills(0)
    assert [(fill.price, fill.qty) for fill in fills if isinstance(fill, FillReport)] == [(D("103"), D(1))]


async def test_an_event_from_the_future_is_not_let_in(autojump_clock: MockClock) -> None:
    venue = paper()
    with pytest.raises(AssertionError, match="published at"):
        venue.publish(BookSnapshot("BTCUSDT", START_NS + 10_000_000, 1, (), ()))


# ---------------------------------------------------------------------------------------------------- doubt and faults


async def test_an_order_whose_answer_is_lost_lives(autojump_clock: MockClock) -> None:
    venue = paper(faulty(lost_reply=1.0))
    show(venue)
    began = trio.current_time()
    answer = await venue.submit(buy(), nothing)
    assert isinstance(answer, Silence)
    assert trio.current_time() - began == pytest.approx(3.0)
    found = await venue.order("BTCUSDT", "a")
    assert isinstance(found, OrderReport) and found.status == "filled"


async def test_a_request_that_is_lost_never_arrives(autojump_clock: MockClock) -> None:
    venue = paper(faulty(lost_request=1.0))
    show(venue)
    assert isinstance(await venue.submit(buy(), nothing), Silence)
    await trio.sleep(60)
    assert await venue.order("BTCUSDT", "a") == NotFound("a")
    assert venue.truth().orders == ()


async def test_a_request_that_arrives_after_the_window_is_refused(autojump_clock: MockClock) -> None:
    venue = paper(replace(faulty(slow=1.0, slow_ms=5_100.0), timeout_ms=10_000.0))
    show(venue)
    answer = await venue.submit(buy(), nothing)
    assert isinstance(answer, Rejection)
    assert (answer.code, answer.kind) == ("10002", "invalid")
    assert venue.truth().orders == ()


async def test_a_slow_request_takes_effect_after_its_sender_has_given_up(autojump_clock: MockClock) -> None:
    venue = paper(faulty(slow=1.0, slow_ms=4_000.0))
    show(venue)
    assert isinstance(await venue.submit(buy(), nothing), Silence)  # after 3 s
    assert await venue.order("BTCUSDT", "a") == NotFound("a")
    await trio.sleep(1.5)
    found = await venue.order("BTCUSDT", "a")
    assert isinstance(found, OrderReport) and found.status == "filled"


async def test_a_sender_that_is_cancelled_does_not_call_its_request_back(autojump_clock: MockClock) -> None:
    venue = paper()
    show(venue)
    with trio.move_on_after(0.005):
        await venue.submit(buy(), nothing)
    await trio.sleep(1)
    assert [order.status for order in venue.truth().orders] == ["filled"]


@pytest.mark.parametrize(
    ("fault", "kind"), [("unavailable", "unavailable"), ("rate_limited", "rate_limited"), ("reject", "invalid")]
)
async def test_a_refusal_is_a_no_and_leaves_nothing(fault: str, kind: str, autojump_clock: MockClock) -> None:
    venue = paper(faulty(**{fault: 1.0}))
    show(venue)
    answer = await venue.submit(buy(), nothing)
    assert isinstance(answer, Rejection) and answer.kind == kind
    assert venue.truth().orders == ()


async def test_a_query_that_fails_is_never_an_empty_answer(autojump_clock: MockClock) -> None:
    venue = paper(faulty(query_fails=1.0))
    answers = [
        await venue.instruments(),
        await venue.server_time_ns(),
        await venue.balances(),
        await venue.positions(),
        await venue.open_orders(),
        await venue.order("BTCUSDT", "a"),
        await venue.fills(0),
    ]
    assert all(isinstance(answer, Failed) for answer in answers)


async def test_an_accepted_order_shows_in_queries_only_after_a_while(autojump_clock: MockClock) -> None:
    venue = paper(replace(TERMS, visible_ms=(1000.0, 1000.0)))
    show(venue)
    await venue.submit(buy("rests", order_type=OrderType.LIMIT, price=D(90)), nothing)
    await venue.submit(buy("fills"), nothing)
    assert await venue.open_orders() == ()
    assert await venue.order("BTCUSDT", "rests") == NotFound("rests")
    assert await venue.fills(0) == ()
    await trio.sleep(1)
    assert [order.cid for order in venue.truth().orders] == ["fills", "rests"]
    open_orders, fills = await venue.open_orders(), await venue.fills(0)
    assert isinstance(open_orders, tuple) and [order.cid for order in open_orders] == ["rests"]
    assert isinstance(fills, tuple) and len(fills) == 1


async def test_a_cancel_and_a_repeat_are_answered_as_a_venue_would(autojump_clock: MockClock) -> None:
    venue = paper()
    show(venue)
    resting = buy(order_type=OrderType.LIMIT, price=D(90))
    assert isinstance(await venue.submit(resting, nothing), Acked)
    again = await venue.submit(resting, nothing)
    assert isinstance(again, Rejection) and again.kind == "duplicate"
    assert isinstance(await venue.cancel(Cancel("a", "BTCUSDT")), Acked)
    too_late = await venue.cancel(Cancel("a", "BTCUSDT"))
    assert isinstance(too_late, Rejection) and too_late.kind == "not_found"


async def test_queries_tell_the_account(autojump_clock: MockClock) -> None:
    venue = paper()
    show(venue)
    await venue.submit(buy(), nothing)
    balances, positions, now = await venue.balances(), await venue.positions(), await venue.server_time_ns()
    assert isinstance(balances, tuple) and isinstance(positions, tuple) and isinstance(now, int)
    assert [(b.asset, b.total, b.locked) for b in balances] == [("USDT", D(10_000) - D("0.05555"), D("20.2"))]
    assert [(p.symbol, p.qty, p.avg_price) for p in positions] == [("BTCUSDT", D(1), D(101))]
    assert now == START_NS + round(trio.current_time() * SECOND)
    quote = venue.quote("BTCUSDT")
    assert quote is not None and (quote.bid, quote.ask) == (D(100), D(101))


async def test_the_same_seed_gives_the_same_world(autojump_clock: MockClock) -> None:
    async def run() -> list[object]:
        venue = paper(replace(faulty(lost_reply=0.3, rate_limited=0.3), latency_ms=(1.0, 50.0)))
        show(venue)
        began = trio.current_time()
        return [
            (await venue.submit(buy(f"c{n}", "0.1"), nothing), round(trio.current_time() - began, 9)) for n in range(20)
        ]

    def untimed(answers: list[object]) -> list[str]:
        return [str(a).split("venue_ns")[0] for a in answers]

    first, second = await run(), await run()
    assert untimed(first) == untimed(second)
    assert len({type(answer[0]) for answer in first}) == 3  # type: ignore[index]


# ---------------------------------------------------------------------------------------------------------- the stream


async def collect(venue: PaperVenue, count: int) -> list[VenueReport]:
    async with venue.stream() as reports:
        return [await reports.receive() for _ in range(count)]


async def test_the_stream_tells_every_reader_what_happens_a_little_later(autojump_clock: MockClock) -> None:
    venue = paper()
    show(venue)
    async with venue.stream() as one, venue.stream() as other:
        began = trio.current_time()
        with trio.move_on_after(0.012):
            await venue.submit(buy(), nothing)  # arrives at 10 ms
        with trio.fail_after(1):
            first = [await one.receive() for _ in range(3)]
        assert trio.current_time() - began == pytest.approx(0.015)
        assert [type(report) for report in first] == [OrderReport, FillReport, OrderReport]
        assert [await other.receive() for _ in range(3)] == first


async def test_a_stream_begins_when_it_is_entered(autojump_clock: MockClock) -> None:
    venue = paper()
    show(venue)
    await venue.submit(buy("before"), nothing)
    async with venue.stream() as reports:
        await venue.submit(buy("after"), nothing)
        report = await reports.receive()
    assert isinstance(report, OrderReport) and report.cid == "after"


async def test_a_stream_that_is_dropped_ends_in_stream_down_after_what_was_delivered(
    autojump_clock: MockClock,
) -> None:
    venue = paper()
    show(venue)
    heard: list[VenueReport] = []
    with pytest.raises(StreamDown, match="dropped"):
        async with venue.stream() as reports:
            await venue.submit(buy(), nothing)
            await trio.sleep(1)
            venue.drop_streams()
            heard.extend([report async for report in reports])
    assert len(heard) == 3
    with pytest.raises(StreamDown):
        async with venue.stream() as reports:
            venue.drop_streams()
            await reports.receive()
    show(venue)
    async with venue.stream() as reports:  # and can be had again
        await venue.submit(buy("b"), nothing)
        assert await reports.receive()


async def test_a_reader_that_does_not_keep_up_is_cut_off(autojump_clock: MockClock) -> None:
    venue = paper(replace(TERMS, stream_buffer=4))
    show(venue)
    with pytest.raises(StreamDown, match="4 reports behind"):
        async with venue.stream() as reports:
            for n in range(3):
                await venue.submit(buy(f"c{n}", "0.1"), nothing)
            await trio.sleep(1)
            async for _ in reports:
                pass


async def test_a_readers_own_exception_comes_through_as_it_is(autojump_clock: MockClock) -> None:
    venue = paper()
    with pytest.raises(KeyError, match="mine"):
        async with venue.stream():
            raise KeyError("mine")
    with trio.move_on_after(1) as scope:
        async with venue.stream() as reports:
            await reports.receive()
    assert scope.cancelled_caught


async def test_reports_may_be_dropped_or_repeated_and_queries_still_know(autojump_clock: MockClock) -> None:
    venue = paper()
    show(venue)
    async with venue.stream() as reports:
        venue.faults = Faults(dropped_reports=1.0)
        await venue.submit(buy("unheard", "0.1"), nothing)
        await trio.sleep(1)
        venue.faults = Faults(repeated_reports=1.0)
        await venue.submit(buy("twice", "0.1"), nothing)
        heard = [await reports.receive() for _ in range(6)]
    assert {report.cid for report in heard if not isinstance(report, FundingReport)} == {"twice"}
    assert heard[0::2] == heard[1::2]
    fills = await venue.fills(0)
    assert isinstance(fills, tuple) and len(fills) == 2


# ------------------------------------------------------------------------------------------ the venue outlives us


async def trade(store: Path) -> Truth:
    """A life of the venue that is killed: never closed in good order."""
    venue = paper(store=store)
    show(venue)
    await venue.submit(buy("filled", "2"), nothing)
    await venue.submit(buy("rests", order_type=OrderType.LIMIT, price=D(90)), nothing)
    stop = buy("stop", "2", side=Side.SELL, order_type=OrderType.STOP_MARKET, trigger_price=D(95), reduce_only=True)
    await venue.submit(stop, nothing)
    await venue.submit(buy("gone", order_type=OrderType.LIMIT, price=D(91)), nothing)
    await venue.cancel(Cancel("gone", "BTCUSDT"))
    with closing(venue):
        return venue.truth()


def timeless(truth: Truth) -> Truth:
    return replace(truth, now_ns=0, positions=tuple(replace(p, venue_ns=0) for p in truth.positions))


async def test_after_a_restart_everything_is_as_it_was(autojump_clock: MockClock, tmp_path: Path) -> None:
    store = tmp_path / "venue.ndjson"
    truth = await trade(store)
    assert [(p.symbol, p.qty, p.avg_price) for p in truth.positions] == [("BTCUSDT", D(2), D(101))]
    for _ in range(2):  # from the changes, then from the image that the first opening made of them
        with closing(paper(store=store)) as again:
            assert timeless(again.truth()) == timeless(truth)


async def test_after_a_restart_the_venue_goes_on(autojump_clock: MockClock, tmp_path: Path) -> None:
    store = tmp_path / "venue.ndjson"
    truth = await trade(store)
    with closing(paper(store=store)) as again:
        show(again, bid="94", ask="94.5")  # past the stop, while nobody listened
        assert {r.cid: r.status for r in again.truth().orders}["stop"] == "filled"
        duplicate = await again.submit(buy("filled"), nothing)
        assert isinstance(duplicate, Rejection) and duplicate.kind == "duplicate"
        fresh = await again.submit(buy("fresh"), nothing)
        assert isinstance(fresh, Acked)
        assert fresh.venue_order_id not in {r.venue_order_id for r in truth.orders}
        executions = [r.exec_id for r in again.truth().executions if isinstance(r, FillReport)]
        assert len(set(executions)) == len(executions) == 3


async def test_a_torn_tail_is_cut_and_what_was_whole_is_kept(autojump_clock: MockClock, tmp_path: Path) -> None:
    store = tmp_path / "venue.ndjson"
    await trade(store)
    *whole, last = store.read_bytes().splitlines(keepends=True)
    for kept in (0, 1, len(last) // 2, len(last) - 1):
        store.write_bytes(b"".join(whole) + last[:kept])
        with closing(paper(store=store)) as again:
            statuses = {r.cid: r.status for r in again.truth().orders}
            assert statuses == {"filled": "filled", "rests": "open", "stop": "open", "gone": "open"}
        with closing(paper(store=store)) as later:
            assert later.truth().orders == again.truth().orders


async def test_damage_before_the_end_is_no_torn_tail(autojump_clock: MockClock, tmp_path: Path) -> None:
    store = tmp_path / "venue.ndjson"
    await trade(store)
    lines = store.read_bytes().splitlines(keepends=True)
    lines[2] = lines[2][:20] + b"\n"
    store.write_bytes(b"".join(lines))
    with pytest.raises(StoreDamaged, match="line 3"):
        paper(store=store)


async def test_the_memory_of_another_market_is_refused_by_name(autojump_clock: MockClock, tmp_path: Path) -> None:
    store = tmp_path / "venue.ndjson"
    await trade(store)
    other = (replace(BTC, symbol="ETHUSDT", base="ETH"),)
    for _ in range(2):  # as changes, and as an image
        with pytest.raises(StoreDamaged, match="holds BTCUSDT"):
            PaperVenue(other, TERMS, virtual_clock(START_NS), Random(1), store)
        paper(store=store).close()


async def test_a_new_prefix_does_not_disturb_the_numbers(autojump_clock: MockClock, tmp_path: Path) -> None:
    store = tmp_path / "venue.ndjson"
    truth = await trade(store)
    with closing(paper(replace(TERMS, prefix="second"), store=store)) as again:
        show(again)
        answer = await again.submit(buy("fresh"), nothing)
        assert isinstance(answer, Acked)
        assert answer.venue_order_id == f"second{len(truth.orders) + 1:010d}"


@pytest.mark.parametrize(
    ("was", "becomes"),
    [
        (b'"order_id":"P0000000001"', b'"order_id":"P"'),  # no number in it
        (b'"qty":"2"', b'"qty":"NaN"'),
        (b'"cid":"filled"', b'"cid":"\xff"'),
        (b'"symbol":"BTCUSDT"', b'"symbol":"ETHUSDT"'),
    ],
)
async def test_lines_that_are_json_and_yet_untrue_are_damage(
    autojump_clock: MockClock, tmp_path: Path, was: bytes, becomes: bytes
) -> None:
    store = tmp_path / "venue.ndjson"
    await trade(store)
    text = store.read_bytes()
    assert was in text
    store.write_bytes(text.replace(was, becomes, 1))
    with pytest.raises(StoreDamaged, match=r"venue.ndjson, line \d"):
        paper(store=store)
