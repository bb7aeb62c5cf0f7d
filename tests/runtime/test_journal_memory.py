"""The disk of a simulated engine: what it keeps, what it loses, and when it may be killed."""

from random import Random

import pytest
import trio
from trio.testing import MockClock

from engine.core.audit import verify
from engine.runtime.journal.base import JournalFailed
from engine.runtime.journal.memory import MemoryDisk, MemoryJournal
from tests.runtime.journal_world import CLOCK, event, submitted, taken


async def test_what_was_only_appended_is_lost_by_a_crash() -> None:
    disk = MemoryDisk()
    journal = MemoryJournal(disk, CLOCK, linger_seconds=10)
    await journal.open()
    await journal.durable(journal.append(*taken(1)))
    journal.append(*submitted(1))
    assert disk.crash() == 2
    state = await MemoryJournal(disk, CLOCK).open()
    assert (state.seq, state.epoch) == (2, 2)
    assert [s.signal.signal_id for s in state.signals] == ["s-000001"]


async def test_a_sync_takes_virtual_time(autojump_clock: MockClock) -> None:
    journal = MemoryJournal(MemoryDisk(latency=lambda: 2.5), CLOCK)
    await journal.open()
    began = trio.current_time()
    await journal.durable(journal.append(*taken(1)))
    assert trio.current_time() - began == pytest.approx(2.5)


async def test_a_commit_under_way_survives_a_crash_whole_or_not_at_all(autojump_clock: MockClock) -> None:
    kept = []
    for seed in range(20):
        disk = MemoryDisk(latency=lambda: 1.0)
        journal = MemoryJournal(disk, CLOCK)
        await journal.open()
        journal.append(*taken(1))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(journal.durable, journal.append(*submitted(1)))
            await trio.sleep(0.5)
            kept.append(disk.crash(Random(seed)))
            nursery.cancel_scope.cancel()
        await trio.sleep(5)  # the dead journal has no effect any more
        reader = disk.reader()
        assert len(reader.records()) == kept[-1]
        assert verify(reader.lines(), reader.tables()).findings == ()
    assert sorted(set(kept)) == [0, 3]


async def test_a_dead_journal_answers_nobody(autojump_clock: MockClock) -> None:
    disk = MemoryDisk(latency=lambda: 1.0)
    journal = MemoryJournal(disk, CLOCK)
    await journal.open()
    seq = journal.append(*taken(1))
    with trio.move_on_after(0.5):
        await journal.durable(seq)
    disk.crash()
    with trio.move_on_after(100) as waited:
        await journal.durable(seq)
    assert waited.cancelled_caught
    await journal.close()


async def test_a_start_on_the_same_disk_ends_the_journal_before(autojump_clock: MockClock) -> None:
    disk = MemoryDisk()
    first, second = MemoryJournal(disk, CLOCK), MemoryJournal(disk, CLOCK)
    await first.open()
    await second.open()
    seq = first.append(*taken(1))
    with trio.move_on_after(100) as waited:
        await first.durable(seq)
    assert waited.cancelled_caught and disk.reader().records() == ()


@pytest.mark.parametrize("where", ["append.before", "append.after", "sync.before", "sync.after"])
async def test_it_can_be_killed_at_each_boundary(where: str, autojump_clock: MockClock) -> None:
    disk = MemoryDisk()
    passed: list[str] = []
    scope = trio.CancelScope()

    def boundary(name: str) -> None:
        passed.append(name)
        if name == where and disk.life == 1:
            disk.crash()
            scope.cancel()

    journal = MemoryJournal(disk, CLOCK, boundary)
    await journal.open()
    with scope:
        await journal.durable(journal.append(*taken(1)))
        await trio.sleep(1)
    await trio.sleep(1)
    assert scope.cancelled_caught
    state = await MemoryJournal(disk, CLOCK).open()
    assert state.seq == (2 if where == "sync.after" else 0)  # on the disk, though nobody heard of it
    order = ["append.before", "append.after", "sync.before", "sync.after"]
    assert passed == order[: order.index(where) + 1] or (where == "append.before" and passed == order[:2])


@pytest.mark.parametrize("fault", ["full", "fail_sync"])
async def test_a_disk_that_fails_is_told_once_and_for_all(fault: str) -> None:
    disk = MemoryDisk()
    journal = MemoryJournal(disk, CLOCK)
    await journal.open()
    safe = journal.append(*taken(1))
    await journal.durable(safe)
    setattr(disk, fault, True)
    lost = journal.append(*taken(2))
    with pytest.raises(JournalFailed, match="the disk"):
        await journal.durable(lost)
    setattr(disk, fault, False)
    with pytest.raises(JournalFailed):  # a failed sync is never tried again
        await journal.durable(journal.append(*taken(3)))
    await journal.durable(safe)
    await journal.close()
    assert (await MemoryJournal(disk, CLOCK).open()).seq == 2


async def test_what_cannot_be_written_as_bytes_does_not_slip_through() -> None:
    journal = MemoryJournal(MemoryDisk(), CLOCK)
    await journal.open()
    broken = event("a")
    broken.body["oops"] = object()  # type: ignore[assignment]
    with pytest.raises(TypeError):
        journal.append((), (broken,))


def test_one_seed_gives_one_run() -> None:
    async def run() -> bytes:
        disk = MemoryDisk(latency=Random(1).random)
        journal = MemoryJournal(disk, CLOCK)
        await journal.open()
        for n in range(20):
            await journal.durable(journal.append(*taken(n)))
        await journal.close()
        return disk.reader().records(after=39)[0].hash

    first, second = (trio.run(run, clock=MockClock(autojump_threshold=0)) for _ in range(2))
    assert first == second
