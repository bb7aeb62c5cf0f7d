"""One for one: made anew after a failure, halted when an invariant broke, down when it fails too often."""

from functools import partial

import pytest
import trio
import trio.testing

from engine.runtime.clock import virtual_clock
from engine.runtime.journal.base import JournalFailed
from engine.runtime.journal.memory import MemoryDisk, MemoryJournal
from engine.runtime.mail import MailboxFull, waiting
from engine.runtime.supervise import RESTARTS_MAX, Fallen, Window, supervise
from engine.runtime.switch import Switch

SCOPE = "symbol/main/BTCUSDT"


class Actor:
    """Fails as it is told, one failure each time it is made, then runs to its end after so many seconds."""

    def __init__(self, *failures: BaseException, pause: float = 0.0) -> None:
        self.failures, self.pause = list(failures), pause
        self.made: list[float] = []

    async def run(self) -> None:
        self.made.append(trio.current_time())
        await trio.sleep(self.pause)
        if self.failures:
            raise self.failures.pop(0)

    async def supervised(self) -> Switch:
        clock = virtual_clock(1_700_000_000_000_000_000)
        journal = MemoryJournal(MemoryDisk(), clock)
        await journal.open()
        switch = Switch(journal, clock)
        self.fallen = Fallen()
        with trio.move_on_after(600):
            await supervise("actor", SCOPE, self.run, switch, clock, self.fallen)
        return switch


async def test_an_actor_that_ends_is_left_in_peace(autojump_clock: object) -> None:
    actor = Actor()
    switch = await actor.supervised()
    assert len(actor.made) == 1 and not actor.fallen.names() and not switch.halts()


async def test_an_actor_that_fails_is_made_anew_after_a_pause_that_doubles(autojump_clock: object) -> None:
    actor = Actor(ValueError("a"), ValueError("b"), ValueError("c"))
    switch = await actor.supervised()
    gaps = [round(b - a, 3) for a, b in zip(actor.made, actor.made[1:], strict=False)]
    assert gaps == [0.1, 0.2, 0.4]
    assert not actor.fallen.names() and not switch.halts()


async def test_too_many_failures_in_a_minute_halt_the_scope_and_leave_it_down(autojump_clock: object) -> None:
    actor = Actor(*(ValueError(f"number {n}") for n in range(9)))
    switch = await actor.supervised()
    assert len(actor.made) == RESTARTS_MAX + 1
    assert actor.fallen.names() == ["actor"]
    (halt,) = switch.halts()
    assert halt.scope == SCOPE and "4 times in a minute" in halt.reason and "number 3" in halt.reason


async def test_failures_that_are_far_apart_do_not_add_up(autojump_clock: object) -> None:
    actor = Actor(*(ValueError(str(n)) for n in range(9)), pause=25.0)
    switch = await actor.supervised()
    assert len(actor.made) == 10 and not actor.fallen.names() and not switch.halts()


async def test_a_broken_invariant_halts_its_scope_at_once_however_deep_it_lies(autojump_clock: object) -> None:
    for broken in (
        AssertionError("two and two"),
        MailboxFull("10 of 10 in use"),
        ExceptionGroup("of a nursery", [ValueError("beside"), ExceptionGroup("inner", [AssertionError("deep")])]),
    ):
        actor = Actor(broken)
        switch = await actor.supervised()
        assert [h.scope for h in switch.halts()] == [SCOPE]
        assert "broken invariant" in switch.halts()[0].reason
        assert len(actor.made) == 2 and not actor.fallen.names()  # it comes back, for protection needs it


async def test_a_failed_journal_closes_the_engine_and_is_not_tried_again(autojump_clock: object) -> None:
    for failed in (
        JournalFailed("the disk is full"),
        ExceptionGroup("of a nursery", [JournalFailed("the disk is full")]),
    ):
        actor = Actor(failed)
        switch = await actor.supervised()
        assert [h.scope for h in switch.halts()] == ["engine"]
        assert "the disk is full" in switch.halts()[0].reason
        assert len(actor.made) == 1 and actor.fallen.names() == ["actor"]


# ----------------------------------------------------------------------------------------- a step in the sender's turn


async def test_mail_is_taken_at_once_by_an_owner_that_waits_and_by_no_other() -> None:
    send, mailbox = trio.open_memory_channel[str](10)
    window, taken = Window[str](partial(waiting, mailbox)), list[str]()

    async def owner() -> None:
        async with trio.open_nursery() as nursery:
            window.attend(taken.append, nursery)
            async for mail in mailbox:
                taken.append(f"read {mail}")

    assert not window.hand("nobody attends")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(owner)
        await trio.testing.wait_all_tasks_blocked()
        assert window.hand("a") and taken == ["a"]
        send.send_nowait("b")
        assert not window.hand("c")  # it has mail, and is about to read it
        await trio.testing.wait_all_tasks_blocked()
        assert taken == ["a", "read b"]
        window.leave()
        assert not window.hand("d")
        send.close()


async def test_what_a_step_raises_in_the_senders_turn_fails_its_owner_before_it_reads_more() -> None:
    send, mailbox = trio.open_memory_channel[str](10)
    window, read = Window[str](partial(waiting, mailbox)), list[str]()

    def step(mail: str) -> None:
        raise AssertionError(mail)

    async def owner() -> None:
        async with trio.open_nursery() as nursery:
            window.attend(step, nursery)
            async for mail in mailbox:
                read.append(mail)

    with pytest.RaisesGroup(pytest.RaisesGroup(pytest.RaisesExc(AssertionError, match="broken"))):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(owner)
            await trio.testing.wait_all_tasks_blocked()
            assert window.hand("broken")  # and the sender goes on
            assert not window.hand("again")
            send.send_nowait("more")
            await trio.sleep_forever()
    assert read == []
