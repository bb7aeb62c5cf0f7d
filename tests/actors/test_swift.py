"""Orders to a venue that sends without waiting: out in the turn in which their intents become durable."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest
import trio

from engine.core.messages import Answer, Halt, Leg, Missing, Order, Outcome, Rejection, Submitted, Unsent
from engine.runtime.journal.base import JournalFailed
from tests.actors.world import ACCOUNT, House, buy, house, rest


class Post:
    """Takes orders to the house's venue, and notes for each whether its intent was durable when its bytes went."""

    def __init__(self, home: House) -> None:
        self.home = home
        self.open = True
        self.fails: list[Exception] = []
        self.says: list[Answer] = []
        self.sent: list[tuple[str, bool]] = []

    def ready(self) -> bool:
        return self.open

    def submit_now(self, order: Order, on_wire: Callable[[], None]) -> Callable[[], Awaitable[Answer]]:
        if self.fails:
            raise self.fails.pop()
        on_wire()
        known = {fact.order.cid for fact in self.home.facts(Submitted)}
        self.sent.append((order.signal_id, order.cid in known))
        if self.says:
            return partial(_say, self.says.pop())
        return partial(self.home.venue.submit, order, lambda: None)


async def _say(answer: Answer) -> Answer:
    await trio.sleep(0.01)
    return answer


@asynccontextmanager
async def posted() -> AsyncIterator[tuple[House, Post]]:
    async with house(start=False) as home:
        home.swift = post = Post(home)
        await home.start()
        await home.hand.send({"signal_id": "c", "symbol": "BTCUSDT", "action": "cancel"})  # the symbol has an actor now
        await home.at_rest()
        yield home, post


async def test_an_uncontended_entry_goes_when_its_intent_is_durable_and_once(autojump_clock: object) -> None:
    async with posted() as (home, post):
        for number in range(3):
            await home.hand.send(rest(f"s{number}", price=f"{49800 + number}"))
            await home.at_rest()
        assert post.sent == [("s0", True), ("s1", True), ("s2", True)]
        assert len(home.at_venue(Leg.ENTRY, "open")) == 3
        stages = home.engine.parts.tally.snapshot().stages
        assert stages["arrival_wire"].count == stages["wire_answered"].count == 3
        assert home.books() == []


async def test_fills_and_protection_are_the_same_as_by_the_plain_way(autojump_clock: object) -> None:
    async with posted() as (home, post):
        await home.hand.send(buy())
        await home.at_rest()
        assert post.sent == [("s1", True)] and home.covered()
        assert home.books() == []


async def test_without_a_connection_the_plain_way_is_taken(autojump_clock: object) -> None:
    async with posted() as (home, post):
        post.open = False
        await home.hand.send(rest())
        await home.at_rest()
        assert post.sent == [] and len(home.at_venue(Leg.ENTRY, "open")) == 1
        assert home.books() == []


async def test_a_door_that_closes_while_the_disk_works_lets_nothing_out(autojump_clock: object) -> None:
    async with posted() as (home, post):
        home.disk.latency = lambda: 0.5
        await home.hand.post(rest(), lambda receipt: None)
        await trio.sleep(0.1)
        home.engine.world.switch.halt(Halt(f"account/{ACCOUNT}", "a test", home.clock.now_ns(), "test"))
        await trio.sleep(3)
        assert post.sent == [] and not home.at_venue(Leg.ENTRY)
        assert len(home.facts(Unsent)) == 1
        assert home.confirmed("s1")[0].outcome is Outcome.FAILED


async def test_a_disk_that_fails_lets_nothing_out(autojump_clock: object) -> None:
    async with posted() as (home, post):
        home.disk.latency = lambda: 0.5
        await home.hand.post(rest(), lambda receipt: None)
        await trio.sleep(0.1)
        home.disk.fail_sync = True
        await trio.sleep(3)
        assert post.sent == [] and not home.venue.truth().orders


async def test_nobody_sends_for_an_actor_that_has_gone(autojump_clock: object) -> None:
    async with posted() as (home, post):
        home.disk.latency = lambda: 0.5
        await home.hand.post(rest(), lambda receipt: None)
        await trio.sleep(0.1)
        home.engine.desk.give_up(ACCOUNT, "BTCUSDT")
        await trio.sleep(3)
        assert post.sent == [] and not home.venue.truth().orders


async def test_a_stop_that_did_not_wait_for_a_slow_commit_is_not_sent_again_by_it(autojump_clock: object) -> None:
    async with posted() as (home, post):
        await home.hand.send(buy())
        await home.at_rest()
        journal = home.engine.world.journal
        durable, tired = journal.durable, []

        async def impatient(seq: int, eager: bool = False, protective: bool = False) -> None:
            if not protective:
                return await durable(seq, eager)
            with trio.move_on_after(0.1):
                return await durable(seq, eager)
            tired.append(seq)
            raise JournalFailed("no commit in time")

        journal.durable = impatient  # type: ignore[method-assign]
        home.disk.latency = lambda: 0.5
        await home.hand.send({"signal_id": "m", "symbol": "BTCUSDT", "action": "move_stop", "stop_loss": "49600"})
        await trio.sleep(3)
        assert tired and home.covered()
        assert [name for name, _ in post.sent] == ["s1"]
        assert home.books() == []


@pytest.mark.parametrize("kind", ["not_sent", "unavailable"])
async def test_what_surely_did_not_arrive_is_tried_again_by_the_plain_way(autojump_clock: object, kind: str) -> None:
    async with posted() as (home, post):
        post.says.append(Rejection(kind, kind, "try again"))
        await home.hand.send(rest())
        await trio.sleep(3)
        await home.at_rest()
        assert len(post.sent) == 1 and len(home.at_venue(Leg.ENTRY, "open")) == 1
        assert home.books() == []


async def test_a_failure_in_the_sending_is_the_order_actors_and_leaves_doubt(autojump_clock: object) -> None:
    """Whether something left is not known to the engine: it is looked for, found missing, and never sent again."""
    async with posted() as (home, post):
        post.fails.append(RuntimeError("odd"))
        await home.hand.send(rest("odd"))
        await trio.sleep(120)
        assert len(home.facts(Missing)) == 1 and not home.at_venue(Leg.ENTRY)
        assert home.confirmed("odd")[0].outcome is Outcome.ABSENT
        await home.hand.send(rest("later"))
        await home.at_rest()
        assert post.sent == [("later", True)]
        assert home.books() == []
