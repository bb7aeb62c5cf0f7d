"""The counting actor: what it drains, what it samples beside, and the log it leaves."""

import time
from pathlib import Path

import trio
from hdrh.histogram import HdrHistogram
from hdrh.log import HistogramLogReader

from actors.metrics import IntervalLog, LagWatch, MetricsMail, metrics
from engine.core.messages import Accepted, Canceled, Leg, Timed
from engine.core.tally import HIGHEST_NS, LOOP_LAG, LOWEST_NS, Tally
from engine.runtime.clock import virtual_clock
from tests.actors.world import ACCOUNT, house, rest


def an_order_timed(took_ns: int) -> Timed:
    return Timed("main", "BTCUSDT", Leg.ENTRY, received=1, judged=2, durable=3, wire=1 + took_ns)


async def test_facts_come_alone_or_in_a_row_and_it_ends_with_its_mailbox(autojump_clock: object) -> None:
    tally = Tally()
    send, receive = trio.open_memory_channel[MetricsMail](10)
    send.send_nowait(Accepted(at_ns=1, cid="a", venue_order_id="v"))
    send.send_nowait((Accepted(at_ns=2, cid="b", venue_order_id="w"), Canceled(at_ns=3, cid="b")))
    send.send_nowait(an_order_timed(5_000))
    send.close()
    await metrics(receive, tally)
    snapshot = tally.snapshot()
    assert snapshot.facts == {"Accepted": 2, "Canceled": 1}
    assert snapshot.stages["arrival_wire"].max_ns == 5_000


async def test_a_blocked_loop_is_seen_as_lag_and_as_a_stall() -> None:
    tally = Tally()
    send, receive = trio.open_memory_channel[MetricsMail](0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(metrics, receive, tally, LagWatch(every_seconds=0.005, stall_seconds=0.05))
        await trio.sleep(0.02)
        time.sleep(0.08)  # noqa: ASYNC251 - the very thing to be noticed
        await trio.sleep(0.02)
        send.close()
    snapshot = tally.snapshot()
    assert snapshot.stalls == 1
    assert snapshot.stages[LOOP_LAG].max_ns > 50_000_000


async def test_the_interval_log_holds_every_value_once_and_reads_back(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "surefire.hlog"
    tally = Tally()
    send, receive = trio.open_memory_channel[MetricsMail](10)
    log = IntervalLog(path, virtual_clock(1_700_000_000_000_000_000), every_seconds=0.1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(metrics, receive, tally, None, log)
        await trio.sleep(0.02)
        send.send_nowait(an_order_timed(5_000))
        await trio.sleep(0.15)
        send.send_nowait(an_order_timed(700_000))
        await trio.lowlevel.checkpoint()
        send.close()
    tagged = [line for line in path.read_text().splitlines() if line.startswith("Tag=arrival_wire,")]
    assert len(tagged) == 2
    assert tagged[0].startswith("Tag=arrival_wire,1700000000.0")
    both = HdrHistogram(LOWEST_NS, HIGHEST_NS, 3)
    reader = HistogramLogReader(str(path), both)
    counts = []
    while (interval := reader.get_next_interval_histogram()) is not None:
        if interval.tag == "arrival_wire":
            counts.append((interval.total_count, interval.get_max_value()))
    reader.close()
    assert [count for count, _ in counts] == [1, 1]
    assert counts[1][1] // 1000 == 700


async def test_a_cancelled_actor_still_writes_its_last_interval(tmp_path: Path) -> None:
    path = tmp_path / "surefire.hlog"
    tally = Tally()
    send, receive = trio.open_memory_channel[MetricsMail](10)
    async with trio.open_nursery() as nursery:
        log = IntervalLog(path, virtual_clock(1_000_000_000), every_seconds=60)
        nursery.start_soon(metrics, receive, tally, None, log)
        await trio.sleep(0.02)
        send.send_nowait(an_order_timed(5_000))
        await trio.sleep(0.02)
        nursery.cancel_scope.cancel()
    assert "Tag=arrival_wire," in path.read_text()


async def test_the_end_of_an_order_from_before_a_restart_is_counted(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(rest("s1"))
        await home.at_rest()
        await home.kill()
        engine = await home.start()
        await engine.operator.flatten("ann", "enough", ACCOUNT, None)
        await home.until(lambda: engine.parts.tally.snapshot().endings == {"canceled": 1})
