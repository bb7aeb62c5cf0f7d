"""Asks the risk service outside how things stand, again and again, and closes the engine when it says so (SPEC RSK8).

Off the order path: an order looks at what was noted last. What a restart finds is the halt, which is durable; it stands
until the service says otherwise.
"""

from collections.abc import Awaitable, Callable

import structlog
import trio
from msgspec import Struct

from actors.ports import World
from engine.core.announce import alert_event
from engine.core.ess import BY, Said, Unanswered, Watch, halt_of
from engine.core.messages import Alerted

LOG = structlog.get_logger("ess")


class EssPorts(Struct, frozen=True):
    """`ask` answers within its own time limit and raises nothing."""

    world: World
    watch: Watch
    ask: Callable[[], Awaitable[Said | Unanswered]]
    every_seconds: float


async def ess(ports: EssPorts) -> None:
    """For ever, at a steady pace."""
    world, watch = ports.world, ports.watch
    alerted = False
    while True:
        due = trio.current_time() + ports.every_seconds
        answer = await ports.ask()
        now_ns = world.clock.now_ns()
        watch.take(answer, now_ns)
        if isinstance(answer, Said):
            follow(answer, world)
        if watch.silent(now_ns) and not alerted:
            alert(watch, world)
        elif alerted and not watch.silent(now_ns):
            LOG.info("the risk service answers again", says=watch.detail(now_ns))
        alerted = watch.silent(now_ns)
        await trio.sleep_until(due)


def follow(said: Said, world: World) -> None:
    """The switch says what the service says; also after somebody has ended its halt too early."""
    standing = next((halt for halt in world.switch.halts() if halt.by == BY), None)
    if said.tripped and standing is None:
        world.switch.halt(halt_of(said, world.clock.now_ns()))
    elif not said.tripped and standing is not None:
        world.switch.end(standing, BY, f"the risk service says {said.word}")


def alert(watch: Watch, world: World) -> None:
    """Once for each silence; how bad it is depends on what the config wants of it."""
    at_ns = world.clock.now_ns()
    severity = "critical" if watch.terms.on_timeout == "block" else "warning"
    told = Alerted(at_ns=at_ns, severity=severity, kind="ess_silent", text=watch.detail(at_ns), cause=BY)
    world.journal.append((told,), (alert_event(told),))
    world.observe((told,))
