"""How the engine does: health, figures for Prometheus, the live stream of events, and the inner state."""

from decimal import Decimal
from typing import Annotated, Any, TypeAlias

import trio
from litestar import Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.params import HeaderParameter, QueryParameter
from litestar.types import ASGIApp

from engine.core.tally import TallySnapshot
from engine.web import prometheus
from engine.web.ports import Health, Ports
from engine.web.reading import reply
from engine.web.stream import event_stream
from engine.web.turned_away import TurnedAway
from engine.web.views import gain

LastEventId: TypeAlias = Annotated[
    int | None,
    HeaderParameter(name="Last-Event-ID", ge=0, description="Continue after this event; without it: from now."),
]
LastEventQuery: TypeAlias = Annotated[
    int | None,
    QueryParameter(name="last_event_id", ge=0, description="The same for clients that cannot set headers."),
]


def watching_routes(ports: Ports, base: str, closing: trio.Event, turned_away: TurnedAway) -> list[HTTPRouteHandler]:
    """GET routes at the root and under `base`."""

    @get("/health", summary="Live, protective-ready, entry-ready, and each component")
    async def health() -> Response[Health]:
        seen = ports.health()
        return reply(seen, 200 if seen.live else 503)

    @get("/metrics", summary="Figures for Prometheus")
    async def metrics() -> Response[bytes]:
        return Response(prometheus.render(await sight(ports, turned_away)), media_type=prometheus.CONTENT_TYPE)

    @get(f"{base}/latency", summary="Counters and the latency of each stage, in ns")
    async def latency() -> Response[TallySnapshot]:
        return reply(ports.tally())

    @get(f"{base}/stream", summary="Events as they are published (server-sent events)", media_type="text/event-stream")
    async def stream(last_event_id: LastEventId = None, resume_after: LastEventQuery = None) -> ASGIApp:
        after = last_event_id if last_event_id is not None else resume_after
        return event_stream(ports.subscribe, after, closing)

    @get(f"{base}/dump", summary="The inner state, for a person who looks for a fault")
    async def dump() -> Response[dict[str, Any]]:
        return reply(ports.dump())

    return [health, metrics, latency, stream, dump]


async def sight(ports: Ports, turned_away: TurnedAway) -> prometheus.Sight:
    positions = await ports.read(ports.reader.positions)
    gains: dict[tuple[str, str], Decimal] = {}
    for position in positions:
        gained = gain(position, ports.quote(position.symbol)) if position.qty else None
        if gained is not None:
            gains[position.account, position.symbol] = gained
    return prometheus.Sight(ports.tally(), ports.health(), positions, gains, dict(turned_away.counts))
