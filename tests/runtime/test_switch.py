"""Halts by scope: closed in memory at once, durable with the next commit, the same after a restart."""

import pytest
import trio

from engine.core.messages import Alerted, Halt, Halted, Resumed
from engine.core.times import SECOND
from engine.runtime.clock import Clock, virtual_clock
from engine.runtime.journal.base import OpenState
from engine.runtime.journal.memory import MemoryDisk, MemoryJournal
from engine.runtime.switch import Resumption, Switch

START_NS = 1_700_000_000_000_000_000


class Box:
    """A switch on a journal in memory, which may be opened again."""

    def __init__(self) -> None:
        self.disk, self.clock = MemoryDisk(), virtual_clock(START_NS)

    async def open(self) -> Switch:
        self.journal = MemoryJournal(self.disk, self.clock)
        state: OpenState = await self.journal.open()
        return Switch(self.journal, self.clock, state.halts)

    def facts(self) -> list[str]:
        return [type(r.fact).__name__ for r in self.disk.reader().records()]


def halt(clock: Clock, scope: str = "engine", **more: object) -> Halt:
    fields = {"scope": scope, "reason": "because", "since_ns": clock.now_ns(), "by": "ann"}
    return Halt(**{**fields, **more})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("scope", "closed"),
    [
        ("engine", True),
        ("venue/paper", True),
        ("venue/other", False),
        ("account/main", True),
        ("account/mai", False),
        ("symbol/main/BTCUSDT", True),
        ("symbol/main/ETHUSDT", False),
        ("symbol/other/BTCUSDT", False),
    ],
)
async def test_a_halt_closes_what_is_inside_its_scope(autojump_clock: object, scope: str, closed: bool) -> None:
    box = Box()
    switch = await box.open()
    assert switch.closed_to_openers("paper", "main", "BTCUSDT") == ()
    switch.halt(halt(box.clock, scope))
    assert bool(switch.closed_to_openers("paper", "main", "BTCUSDT")) is closed


async def test_a_halt_is_in_force_before_it_is_durable_and_survives_a_restart_after(autojump_clock: object) -> None:
    box = Box()
    switch = await box.open()
    seq = switch.halt(halt(box.clock))
    assert [h.scope for h in switch.halts()] == ["engine"] and box.facts() == []
    await box.journal.durable(seq)
    assert box.facts() == [Halted.__name__, Alerted.__name__]
    again = await box.open()
    assert again.halts() == switch.halts()


async def test_a_resume_ends_one_scope_for_good_and_says_whether_it_was_closed(autojump_clock: object) -> None:
    box = Box()
    switch = await box.open()
    switch.halt(halt(box.clock))
    switch.halt(halt(box.clock, "account/main"))
    seq = switch.resume("engine", "bob", "all clear").seq
    assert seq
    assert switch.resume("engine", "bob") == Resumption(0, (), ())
    assert [h.scope for h in switch.closed_to_openers("paper", "main", "BTCUSDT")] == ["account/main"]
    await box.journal.durable(seq)
    assert box.facts()[-1] == Resumed.__name__
    assert [h.scope for h in (await box.open()).halts()] == ["account/main"]


async def test_a_timed_halt_ends_by_itself_and_does_not_weaken_a_latched_one(autojump_clock: object) -> None:
    box = Box()
    switch = await box.open()
    until = box.clock.now_ns() + 10 * SECOND
    switch.halt(halt(box.clock, latched=False, until_ns=until, reason="for a while"))
    assert [h.reason for h in switch.halts()] == ["for a while"]
    switch.halt(halt(box.clock, reason="for good"))
    assert switch.halt(halt(box.clock, latched=False, until_ns=until, reason="for a while")) == 0
    await trio.sleep(11)
    assert [h.reason for h in switch.halts()] == ["for good"]
    switch.resume("engine", "bob")
    switch.halt(halt(box.clock, latched=False, until_ns=box.clock.now_ns() + SECOND))
    await trio.sleep(1)
    assert switch.closed_to_openers("paper", "main", "BTCUSDT") == ()
    await box.journal.durable(box.journal.append(()))
    assert box.facts()[-1] == Resumed.__name__


async def test_halts_of_one_scope_stand_side_by_side_and_each_ends_in_its_own_way(autojump_clock: object) -> None:
    box = Box()
    switch = await box.open()
    switch.halt(halt(box.clock, "account/main", by="risk/RSK5.daily_loss", kind="loss", reason="lost"))
    switch.halt(halt(box.clock, "account/main", by="ann", kind="stop", reason="news"))
    switch.halt(halt(box.clock, "account/main", by="supervisor", kind="fault", reason="fell"))
    for ended, staying in (("news", ["lost", "fell"]), ("fell", ["lost"]), ("lost", [])):
        assert switch.closed_to_openers("paper", "main", "BTCUSDT")
        done = switch.resume("account/main", "ann")
        assert [h.reason for h in done.ended] == [ended] and [s.halt.reason for s in done.staying] == staying
        await box.journal.durable(done.seq)
        assert [h.reason for h in (await box.open()).halts()] == staying
        switch = Switch(box.journal, box.clock, (s.halt for s in done.staying))
    assert switch.closed_to_openers("paper", "main", "BTCUSDT") == ()


async def test_two_peoples_stops_are_both_seen_and_one_resume_ends_them(autojump_clock: object) -> None:
    box = Box()
    switch = await box.open()
    switch.halt(halt(box.clock, by="ann"))
    switch.halt(halt(box.clock, by="bob"))
    assert [h.by for h in switch.halts()] == ["ann", "bob"]
    assert len(switch.resume("engine", "cyd").ended) == 2
    assert switch.halts() == ()


async def test_a_loss_that_closes_until_midnight_and_an_emergency_are_not_ended_by_a_plain_resume(
    autojump_clock: object,
) -> None:
    box = Box()
    switch = await box.open()
    until = box.clock.now_ns() + 10 * SECOND
    switch.halt(halt(box.clock, by="risk/RSK5.daily_loss", kind="loss", latched=False, until_ns=until))
    switch.halt(halt(box.clock, by="event/kafka", kind="ess"))
    assert switch.resume("engine", "ann").ended == ()
    assert switch.resume("engine", "ann", kind="loss").ended == ()
    (emergency,) = switch.resume("engine", "ann", "the service is gone", "ess").ended
    assert emergency.by == "event/kafka"
    assert [h.kind for h in switch.halts()] == ["loss"]
    await trio.sleep(10)
    assert switch.halts() == ()
