"""Each sink gets every event at its own pace: what one cannot take holds up no other, and is never lost."""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random

import pytest
import trio
from msgspec.structs import replace

from actors.publisher import ALERT_NS
from actors.web import health
from engine.core.cursors import EVERYBODY, begin
from engine.core.messages import Alerted, Cursor, EngineStopped, OutboxRow
from engine.edges.base import LetGo
from engine.runtime.config import default_config
from tests.actors.world import House, Shelf, buy, house


class Second(Shelf):
    name = "second"


@asynccontextmanager
async def two_sinks() -> AsyncIterator[tuple[House, Shelf]]:
    """A house whose engine tells two shelves."""
    second = Second()
    async with house(start=False) as home:
        parts = home.parts
        home.parts = lambda: replace(parts(), sinks=(home.shelf, second))  # type: ignore[method-assign]
        await home.start()
        yield home, second


def ends(shelf: Shelf) -> list[str]:
    return [event.key for event in shelf.events("trade_confirmations")]


def ids(shelf: Shelf) -> list[int]:
    return [row.event_id for row in shelf.rows]


async def test_a_sink_that_is_gone_for_a_day_holds_up_no_other_and_gets_everything_in_order(
    autojump_clock: object,
) -> None:
    async with two_sinks() as (home, second):
        second.down = True
        for number in range(3):
            await home.hand.send(buy(f"s{number}", qty="0.01"))
        await home.at_rest()
        assert ends(home.shelf) == ["s0", "s1", "s2"] and not second.rows
        waiting = home.engine.parts.journal.stats().sinks_waiting
        assert waiting == {"shelf": 0, "second": len(home.shelf.rows)}
        second.down = False
        await home.until(lambda: ends(second) == ["s0", "s1", "s2"])
        assert ids(second) == ids(home.shelf) == list(range(1, len(home.shelf.rows) + 1))


async def test_a_restart_gives_each_sink_what_it_has_not_had(autojump_clock: object) -> None:
    async with two_sinks() as (home, second):
        second.down = True
        await home.hand.send(buy("s1"))
        await home.at_rest()
        told = list(ids(home.shelf))
        await home.stop()
        second.down = False
        await home.start()
        await home.until(lambda: ends(second) == ["s1"])
        assert ids(home.shelf)[: len(told)] == told and len(set(ids(home.shelf))) == len(ids(home.shelf))
        assert ids(second)[: len(told)] == told


async def test_a_kill_repeats_at_most_what_was_not_marked_and_loses_nothing(autojump_clock: object) -> None:
    async with two_sinks() as (home, second):
        second.down = True
        await home.hand.send(buy("s1"))
        await home.until(lambda: ends(home.shelf) == ["s1"])
        await home.kill(Random(1))
        second.down = False
        await home.start()
        await home.until(lambda: ends(second) == ["s1"])
        firsts = list(dict.fromkeys(ids(home.shelf)))
        assert firsts == sorted(firsts) == list(range(1, len(firsts) + 1))


async def test_a_sink_that_is_new_begins_at_the_present_and_one_taken_out_holds_nothing_back(
    autojump_clock: object,
) -> None:
    async with house() as home:
        await home.hand.send(buy("s1"))
        await home.stop()
        parts, second = home.parts, Second()
        home.parts = lambda: replace(parts(), sinks=(second,))  # type: ignore[method-assign]
        await home.start()
        await home.hand.send(buy("s2", qty="0.01"))
        await home.at_rest()
        assert ends(second) == ["s2"] and ends(home.shelf) == ["s1"]
        assert home.engine.parts.journal.stats().sinks_waiting == {"second": 0}
        await home.stop()
        home.parts = parts  # type: ignore[method-assign]
        await home.start()  # it is put in again, and goes on where it was
        await home.until(lambda: ends(home.shelf) == ["s1", "s2"])


async def test_the_health_report_and_one_alert_say_which_sink_lags_and_why(autojump_clock: object) -> None:
    async with two_sinks() as (home, second):
        second.down = True
        await home.hand.send(buy("s1"))
        await home.at_rest()
        found = {c.name: c for c in health(home.engine, default_config()).components}
        assert (found["sink/shelf"].ok, found["sink/shelf"].lag) == (True, 0)
        assert (found["sink/second"].ok, found["sink/second"].lag) == (False, len(home.shelf.rows))
        assert "fallen off the wall" in found["sink/second"].detail
        await trio.sleep(3 * ALERT_NS / 1e9)
        (alert,) = [a for a in home.facts(Alerted) if a.kind == "sink_down"]
        assert "second has taken nothing for 60 s" in alert.text and alert.severity == "warning"
        second.down = False
        await home.until(lambda: not home.engine.outlets["second"].down)
        assert all(c.ok for c in health(home.engine, default_config()).components if c.name.startswith("sink/"))


async def test_an_end_waits_for_a_sink_only_so_long_and_not_at_all_when_all_have_everything(
    autojump_clock: object,
) -> None:
    async with two_sinks() as (home, second):
        await home.hand.send(buy("s1"))
        await home.at_rest()
        began = trio.current_time()
        await home.stop()
        assert trio.current_time() - began < 1
        second.down = True
        await home.start()
        began = trio.current_time()
        await home.hand.send(buy("s2", qty="0.01"))
        await home.stop()
        assert 10 <= trio.current_time() - began < 15
        assert len(home.facts(EngineStopped)) == 2 and ends(home.shelf) == ["s1", "s2"]


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ((Cursor(EVERYBODY, 0),), {"": (0, False), "a": (0, True), "b": (0, True)}),  # the first start of all
        ((Cursor(EVERYBODY, 7),), {"": (7, False), "a": (7, True), "b": (7, True)}),  # the mark of an old journal
        ((Cursor(EVERYBODY, 7, False), Cursor("a", 8)), {"b": (9, True)}),  # b is new
        ((Cursor(EVERYBODY, 7, False), Cursor("a", 8), Cursor("b", 3, False)), {"b": (3, True)}),  # b is back
        ((Cursor(EVERYBODY, 7, False), Cursor("a", 8), Cursor("b", 3), Cursor("c", 5)), {"c": (5, False)}),
    ],
)
def test_where_sinks_begin(known: tuple[Cursor, ...], expected: dict[str, tuple[int, bool]]) -> None:
    assert {c.sink: (c.event_id, c.wanted) for c in begin(("a", "b"), known, 9)} == expected


class Picky(Shelf):
    """Whose receiver refuses what comes of one name, and which goes on without."""

    name = "picky"

    def __init__(self) -> None:
        super().__init__()
        self.let_go: deque[LetGo] = deque()

    async def send(self, rows: tuple[OutboxRow, ...]) -> None:
        refused = [row for row in rows if row.event.name == "order.placed"]
        self.let_go.extend((row, "answered 413") for row in refused)
        await super().send(tuple(row for row in rows if row not in refused))


async def test_what_a_receiver_will_never_have_is_on_record(autojump_clock: object) -> None:
    picky = Picky()
    async with house(start=False) as home:
        parts = home.parts
        home.parts = lambda: replace(parts(), sinks=(home.shelf, picky))  # type: ignore[method-assign]
        await home.start()
        await home.hand.send(buy("s1"))
        await home.at_rest()
        missing = [row for row in home.shelf.rows if row not in picky.rows]
        assert missing and {row.event.name for row in missing} == {"order.placed"}
        told = [fact for fact in home.facts(Alerted) if fact.kind == "event_refused"]
        assert [fact.cause for fact in told] == ["sink/picky"] * len(missing)
        for row, fact in zip(missing, told, strict=True):
            assert f"event {row.event_id}, order.placed of {row.event.key}" in fact.text and "413" in fact.text
            assert fact.account == row.event.account
