"""Outbox to sinks: at least once, in order, each row marked only when every sink has it."""

from collections.abc import Sequence

import structlog
import trio

from actors.ports import World
from engine.core.messages import OutboxRow, Published
from engine.edges.base import Sink, SinkDown

BATCH = 500
AGAIN_SECONDS = (0.1, 0.5, 2.0, 5.0)
LOG = structlog.get_logger("publisher")


async def publisher(left: Sequence[OutboxRow], sinks: Sequence[Sink], world: World) -> None:
    """For ever; `left` is what an earlier run had not published."""
    for start in range(0, len(left), BATCH):
        await publish(tuple(left[start : start + BATCH]), sinks, world)
    while True:
        rows = await world.journal.outbox()
        for start in range(0, len(rows), BATCH):
            await publish(rows[start : start + BATCH], sinks, world)


async def publish(rows: tuple[OutboxRow, ...], sinks: Sequence[Sink], world: World) -> None:
    for sink in sinks:
        await deliver(rows, sink)
    world.journal.append((), (Published(event_id=rows[-1].event_id),))


async def deliver(rows: tuple[OutboxRow, ...], sink: Sink) -> None:
    """Until the sink has taken them; what waits behind is held in the outbox."""
    attempt = 0
    while True:
        try:
            return await sink.send(rows)
        except SinkDown as error:
            wait = AGAIN_SECONDS[min(attempt, len(AGAIN_SECONDS) - 1)]
            attempt += 1
            LOG.warning("sink down", sink=sink.name, reason=str(error), rows=len(rows), again_seconds=wait)
            await trio.sleep(wait)
