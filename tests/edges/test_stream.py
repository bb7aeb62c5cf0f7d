"""The live stream of published events: order, resumption, and readers that do not keep up."""

import pytest
import trio
from msgspec.structs import replace

from engine.core.messages import Event, OutboxRow
from engine.edges.stream import BEHIND, CHAIN_BITS, MISSED, Broadcast


def rows(first: int, last: int) -> tuple[OutboxRow, ...]:
    return tuple(
        OutboxRow(n, Event(name="order.filled", account="a", key="k", at_ns=n, trace_id="t", cause="c", body={}))
        for n in range(first, last + 1)
    )


def read(channel: trio.MemoryReceiveChannel[OutboxRow]) -> list[tuple[str, int]]:
    """What waits there: (name, id), "end" when the channel has ended."""
    found: list[tuple[str, int]] = []
    while True:
        try:
            row = channel.receive_nowait()
        except trio.WouldBlock:
            return found
        except trio.EndOfChannel:
            return [*found, ("end", 0)]
        found.append((row.event.name, row.event_id))


def fills(first: int, last: int) -> list[tuple[str, int]]:
    return [("order.filled", n) for n in range(first, last + 1)]


async def test_every_reader_gets_every_event_from_its_coming() -> None:
    broadcast = Broadcast("stream")
    await broadcast.send(rows(1, 2))
    async with broadcast.subscribe(None) as one:
        await broadcast.send(rows(3, 4))
        async with broadcast.subscribe(None) as other:
            await broadcast.send(rows(5, 5))
            assert read(one) == fills(3, 5)
            assert read(other) == fills(5, 5)
    await broadcast.send(rows(6, 6))


async def test_who_comes_back_goes_on_where_it_was() -> None:
    broadcast = Broadcast("stream")
    await broadcast.send(rows(1, 10))
    async with broadcast.subscribe(7) as channel:
        await broadcast.send(rows(11, 12))
        assert read(channel) == fills(8, 12)
    async with broadcast.subscribe(12) as channel:
        assert read(channel) == []
    async with broadcast.subscribe(0) as channel:
        assert read(channel) == fills(1, 12)


async def test_who_was_away_too_long_is_told_so() -> None:
    broadcast = Broadcast("stream", ring=5)
    await broadcast.send(rows(1, 20))
    async with broadcast.subscribe(14) as channel:
        assert read(channel) == [(MISSED, 14), *fills(16, 20)]
    async with broadcast.subscribe(15) as channel:
        assert read(channel) == fills(16, 20)
    async with Broadcast("after a restart").subscribe(20) as channel:
        assert read(channel) == [(MISSED, 20)]


async def test_who_does_not_keep_up_is_dropped_with_a_last_word_and_holds_up_nobody() -> None:
    broadcast = Broadcast("stream", room=3)
    async with broadcast.subscribe(None) as slow, broadcast.subscribe(None) as quick:
        for n in range(1, 8):
            await broadcast.send(rows(n, n))
            assert read(quick) == fills(n, n)
        assert read(slow) == [*fills(1, 3), (BEHIND, 3), ("end", 0)]
    async with broadcast.subscribe(3) as again:
        assert read(again) == fills(4, 7)


async def test_a_past_longer_than_the_room_is_no_reason_to_be_dropped() -> None:
    broadcast = Broadcast("stream", room=2)
    await broadcast.send(rows(1, 50))
    async with broadcast.subscribe(0) as channel:
        await broadcast.send(rows(51, 52))
        assert read(channel) == fills(1, 52)


async def test_rows_sent_again_are_not_shown_again() -> None:
    broadcast = Broadcast("stream")
    async with broadcast.subscribe(None) as channel:
        await broadcast.send(rows(1, 3))
        await broadcast.send(rows(2, 5))
        assert read(channel) == fills(1, 5)


async def test_a_reader_that_leaves_is_forgotten() -> None:
    broadcast = Broadcast("stream")
    with pytest.raises(KeyError):
        async with broadcast.subscribe(None):
            raise KeyError
    await broadcast.send(rows(1, 1))
    assert broadcast._readers == []


async def test_closing_ends_every_channel_after_what_was_sent() -> None:
    broadcast = Broadcast("stream")
    async with broadcast.subscribe(None) as channel:
        await broadcast.send(rows(1, 1))
        broadcast.close()
        await broadcast.send(rows(2, 2))
        assert read(channel) == [*fills(1, 1), ("end", 0)]


def of_chain(chain: int, *numbers: int) -> tuple[OutboxRow, ...]:
    """Events of one shard's journal, whose ids begin far apart from another's."""
    return tuple(replace(row, event_id=(chain << CHAIN_BITS) + row.event_id) for n in numbers for row in rows(n, n))


async def test_events_of_several_journals_go_out_side_by_side_and_each_only_once() -> None:
    broadcast = Broadcast("stream")
    async with broadcast.subscribe(None) as channel:
        await broadcast.send(of_chain(7, 1, 2))
        await broadcast.send(of_chain(3, 1))
        await broadcast.send(of_chain(7, 2, 3))  # its publisher begins again
        ids = [row.event_id for row in of_chain(7, 1, 2) + of_chain(3, 1) + of_chain(7, 3)]
        assert [number for _, number in read(channel)] == ids
    async with broadcast.subscribe(ids[1]) as again:
        assert [number for _, number in read(again)] == ids[2:]
    async with broadcast.subscribe(ids[0] - 1) as lost:
        assert read(lost)[0][0] == MISSED
