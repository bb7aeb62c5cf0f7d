"""Outbox to one sink: at least once, in order, its cursor moved only when it has the events. Each sink has its own.

A sink that is away is asked again, with longer and longer pauses, for ever: its events wait in the journal, and it
holds up no other sink.
"""

import structlog
import trio
from msgspec import Struct

from actors.ports import World
from engine.core.messages import Alerted, Cursor, OutboxRow
from engine.edges.base import Choosing, Sink, SinkDown

AGAIN_SECONDS = (0.1, 0.5, 2.0, 5.0)
ALERT_NS = 60_000_000_000
LOG = structlog.get_logger("publisher")


class Outlet(Struct):
    """How the events get through to a sink; for the health report."""

    down: str = ""  # why it took nothing when it was last asked
    since_ns: int = 0
    alerted: bool = False


async def publisher(sink: Sink, outlet: Outlet, world: World) -> None:
    """For ever, from behind the last event that the sink is known to have."""
    after = world.journal.cursor(sink.name)
    choosing = sink if isinstance(sink, Choosing) else None
    while True:
        rows = await world.journal.outbox(after)
        await deliver(rows, sink, outlet, world)
        if choosing is not None:
            _record(choosing, world)
        after = rows[-1].event_id
        world.journal.append((), (Cursor(sink.name, after),))


async def deliver(rows: tuple[OutboxRow, ...], sink: Sink, outlet: Outlet, world: World) -> None:
    """Until the sink has taken them."""
    attempt = 0
    while True:
        try:
            await sink.send(rows)
        except SinkDown as error:
            _note(sink.name, outlet, str(error), world)
        else:
            if outlet.down:
                LOG.info("sink takes events again", sink=sink.name, waiting=_waiting(sink.name, world))
                outlet.down, outlet.alerted = "", False
            return
        await trio.sleep(AGAIN_SECONDS[min(attempt, len(AGAIN_SECONDS) - 1)])
        attempt += 1


def _note(name: str, outlet: Outlet, reason: str, world: World) -> None:
    """One line of the log for each reason, and one alert when it lasts."""
    now_ns = world.clock.now_ns()
    if not outlet.down:
        outlet.since_ns = now_ns
    if reason != outlet.down:
        LOG.warning("sink down", sink=name, reason=reason, waiting=_waiting(name, world))
    outlet.down = reason
    if not outlet.alerted and now_ns - outlet.since_ns >= ALERT_NS:
        outlet.alerted = True
        text = f"{name} has taken nothing for {ALERT_NS // 1_000_000_000} s: {reason}; "
        text += f"{_waiting(name, world)} event(s) wait for it"
        alert = Alerted(at_ns=now_ns, severity="warning", kind="sink_down", text=text, cause=f"sink/{name}")
        world.journal.append((alert,))
        world.observe((alert,))


def _record(sink: Choosing, world: World) -> None:
    """What a receiver will never have is on record, each event for itself; the journal still has the event."""
    while sink.let_go:
        row, why = sink.let_go.popleft()
        event = row.event
        text = f"{sink.name} has refused event {row.event_id}, {event.name} of {event.key}, and goes on without: {why}"
        LOG.error("event refused and let go", sink=sink.name, event_id=row.event_id, reason=why)
        alert = Alerted(
            at_ns=world.clock.now_ns(),
            account=event.account,
            trace_id=event.trace_id,
            cause=f"sink/{sink.name}",
            severity="warning",
            kind="event_refused",
            text=text,
        )
        world.journal.append((alert,))
        world.observe((alert,))


def _waiting(name: str, world: World) -> int:
    return world.journal.stats().sinks_waiting.get(name, 0)
