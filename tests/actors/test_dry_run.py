"""The dry run: made-up signals on books of their own, in pieces, and only while nobody else has anything to do."""

import trio
from trio.testing import MockClock

from actors.dry_run import PIECES, DryRun, keep_warm
from engine.runtime.clock import Clock


async def test_every_made_up_signal_is_accepted_and_its_order_has_an_end() -> None:
    dry_run = DryRun()
    for number in range(1, 4501):  # a made-up day and more: no limit is reached, no order is left
        for _ in range(PIECES):
            dry_run.play()
        assert dry_run.played == number
        if number % 500 == 0:
            dry_run.check()


async def test_nothing_piles_up_in_the_books_of_a_dry_run() -> None:
    dry_run = DryRun()

    def sizes() -> list[int]:
        journal, admission = dry_run._journal.stats(), dry_run._admission
        return [journal.facts_queued, journal.outbox_waiting, len(admission._signals), len(dry_run._blotter.ended)]

    for _ in range(1000 * PIECES):
        dry_run.play()
    before = sizes()
    for _ in range(1000 * PIECES):
        dry_run.play()
    assert sizes() == before


async def test_a_loop_that_is_kept_awake_for_an_order_runs_nothing_dry(mock_clock: MockClock) -> None:
    dry_run, awake = DryRun(), [True]
    clock = Clock(now_ns=lambda: 0, ticks_ns=lambda: 0, awake=lambda: awake[0])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_warm, dry_run, 0.001, clock)
        for expected, still_awake in ((0, False), (1, True), (1, False), (2, False)):
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(0.0011)
            await trio.testing.wait_all_tasks_blocked()
            assert dry_run.played == expected
            awake[0] = still_awake
        nursery.cancel_scope.cancel()


async def test_a_dry_run_gives_way_to_whoever_is_ready_and_goes_on_later(mock_clock: MockClock) -> None:
    dry_run = DryRun()
    clock = Clock(now_ns=lambda: 0, ticks_ns=lambda: 0)
    busy = trio.CancelScope()

    async def work() -> None:
        with busy:
            while True:
                await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(keep_warm, dry_run, 0.001, clock)
        nursery.start_soon(work)
        for _ in range(50):
            mock_clock.jump(0.0011)
            for _ in range(20):
                await trio.lowlevel.checkpoint()
        assert dry_run.played < 50
        busy.cancel()
        for _ in range(60):
            await trio.testing.wait_all_tasks_blocked()
            mock_clock.jump(0.0011)
        await trio.testing.wait_all_tasks_blocked()
        played = dry_run.played
        assert played >= 50
        while dry_run.played == played:  # to the end of the signal that is under way
            dry_run.play()
        dry_run.check()
        nursery.cancel_scope.cancel()
