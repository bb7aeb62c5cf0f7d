"""Webhooks: `POST /hooks/NAME`. Their senders have no token; each body says itself who has sent it.

What is not let in leaves no trace but a count: else a stranger could fill the disk.
"""

from typing import Any

import trio
from litestar import Request, Response, post
from litestar.exceptions import HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from engine.web.commanding import JSON, LAST, answered, beginning, trace_id
from engine.web.ports import NotLetIn, Ports
from engine.web.turned_away import TurnedAway


def hook_routes(ports: Ports, body_max: int, turned_away: TurnedAway) -> list[HTTPRouteHandler]:
    @post(
        "/hooks/{name:str}",
        summary="A signed webhook; answered when its verdict is durable",
        status_code=202,
        request_max_body_size=None,  # the framework would count, and cut, in another way than for signals
    )
    async def hook(name: FromPath[str], request: Request[Any, Any, Any]) -> Response[Any]:
        if not JSON.fullmatch(request.headers.get("content-type", "")):
            raise HTTPException(status_code=415, detail="the content type must be application/json")
        raw, whole = await beginning(request, body_max)
        if not whole:
            raise HTTPException(status_code=413, headers=LAST)
        address = request.client.host if request.client else ""
        headers = {key.lower(): value for key, value in request.headers.items()}
        try:
            return answered(ports, await ports.deliver(name, headers, raw, address, trace_id(request)))
        except NotLetIn as no:
            turned_away.note(f"hook {no.kind}", address, trio.current_time())
            raise

    return [hook]
