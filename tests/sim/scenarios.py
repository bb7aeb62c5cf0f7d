"""Worlds told by hand: what a seed once found, or what a numbered crash point of RELIABILITY 4.3 asks for, by name.

A script takes the place of the feed; everything else (venue, disk, restarts, calm, checker) is as in a seed.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import trio

from tests.sim.faults import Faults, Nature, Options
from tests.sim.feed import ACCOUNT
from tests.sim.world import Report, World, run_seed

# Where an engine can be killed, in the words of `Incarnation.boundary`.
BOUNDARIES = (
    "journal.append.before",
    "journal.append.after",
    "journal.sync.before",
    "journal.sync.after",
    "submit.before",
    "submit.wired",
    "submit.answered",
    "venue.taken",
    "venue.reply",
    "venue.canceled",
    "cancel.before",
    "cancel.wired",
    "cancel.answered",
    "query",
    "source.answer",
    "source.answered",
    "sink.before",
    "sink.after",
    "second.after",
)
Script = Callable[[World], Awaitable[None]]


def play(
    script: Script,
    nature: Nature = Nature(),
    faults: Faults = Faults(),
    crash_at: tuple[str, int] | None = None,
    seed: int = 1,
    dead: str = "",
    face: str = "memory",
) -> Report:
    """Run a script in a world that is quiet but for what is asked."""
    named = ("named",) if crash_at or faults != Faults() else ()
    options = Options(seed=seed, nature=nature, faults=faults, families=named, dead=dead, face=face)
    return run_seed(seed, options, crash_at, script)


def entry(world: World, signal_id: str, symbol: str = "BTCUSDT", side: str = "buy", **more: Any) -> dict[str, Any]:
    """A body for a market entry of 0.0100 with stop and target at the usual distances."""
    quote = world.venue.quote(symbol)
    assert quote is not None
    sign = 1 if side == "buy" else -1
    distance = quote.mid // 100
    return {
        "signal_id": signal_id,
        "account": ACCOUNT,
        "symbol": symbol,
        "side": side,
        "qty": "0.0100",
        "stop_loss": str(quote.bid - sign * distance),
        "take_profit": str(quote.bid + sign * 3 * distance),
        **more,
    }


async def a_day(world: World) -> None:
    """A position with its protection, a resting entry that runs out of time, a close: every kind of effect happens."""
    await trio.sleep(1)
    world.feed.offer("enter", entry(world, "enter"))
    await trio.sleep(2)
    far = world.venue.markets["ETHUSDT"].bid // 1 - 20
    limit = {"order_type": "limit", "limit_price": str(far), "cancel_after_seconds": "3", "qty": "0.100"}
    resting = entry(world, "rest", "ETHUSDT", **limit)
    world.feed.offer("rest", resting | {"stop_loss": str(far - 20), "take_profit": str(far + 60)})
    await trio.sleep(6)
    world.feed.again(world.feed.offers[0])
    await trio.sleep(2)
    world.feed.offer("leave", {"signal_id": "leave", "account": ACCOUNT, "symbol": "BTCUSDT", "action": "close"})
    await trio.sleep(9)


async def a_dead_actor(world: World) -> None:
    """An order actor that cannot be made anew while it holds a position; the stop closes past it."""
    await trio.sleep(1)
    world.feed.offer("enter", entry(world, "enter"))
    await trio.sleep(2)
    assert world.engine is not None
    desk = world.engine.desk
    load = desk._load
    desk._load = unreadable
    desk.give_up(ACCOUNT, "BTCUSDT")
    await trio.sleep(30)
    world.feed.offer("other", entry(world, "other", "ETHUSDT", qty="0.100"))  # the rest goes on
    await trio.sleep(2)
    await world._stop(world.engine, True, "engine")
    await trio.sleep(5)
    desk._load = load  # a person mends it; what was executed meanwhile is booked before the scope opens
    await world._resume(f"symbol/{ACCOUNT}/BTCUSDT", "fault")


def unreadable(account: str, symbol: str) -> Any:
    raise ValueError(f"the rows of {account}/{symbol} cannot be read")


async def a_loss_under_a_drill(world: World) -> None:
    """A loss closes the account while a person has it closed; the person's resume is not the loss's way back."""
    await trio.sleep(1)
    world.feed.offer("enter", entry(world, "enter"))
    await trio.sleep(2)
    assert world.engine is not None
    await world.engine.operator.stop("op", "drill", flatten=False, scope=f"account/{ACCOUNT}")
    await world.engine.operator.set_limits(ACCOUNT, {"daily_loss_max": "0.0001"}, "op")  # what the entry cost is more
    await trio.sleep(2)
    await world.engine.operator.resume(f"account/{ACCOUNT}", "op", "drill is over")
    await trio.sleep(2)
    world.feed.offer("late", entry(world, "late", "ETHUSDT", qty="0.100"))
    await trio.sleep(2)
    await world.engine.operator.set_limits(ACCOUNT, {"daily_loss_max": "50000"}, "op")


async def one_entry(world: World) -> None:
    await trio.sleep(1)
    world.feed.offer("enter", entry(world, "enter"))
    await trio.sleep(100)
