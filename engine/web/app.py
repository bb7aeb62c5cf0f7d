"""The API as one application: routes, errors, and the document that describes them. Opens no socket."""

from http import HTTPStatus
from typing import Any

import structlog
import trio
from litestar import Litestar, Request, Response
from litestar.enums import MediaType
from litestar.exceptions import HTTPException
from litestar.openapi import OpenAPIConfig

from engine.runtime.journal.base import JournalFailed
from engine.web.commanding import commanding_routes
from engine.web.document import TrueJson, document_routes
from engine.web.hooks import hook_routes
from engine.web.page import page_routes
from engine.web.ports import BadBody, NotLetIn, Ports, Refused, Unknown, Unready
from engine.web.reading import reading_routes
from engine.web.roles import BASE
from engine.web.turned_away import TurnedAway
from engine.web.views import Problem, Reason
from engine.web.watching import watching_routes
from engine.web.wire import encode

BODY_MAX = 1 << 20  # bytes
LOG = structlog.get_logger("web")

AnyRequest = Request[Any, Any, Any]


def build(ports: Ports, closing: trio.Event, version: str = "", turned_away: TurnedAway | None = None) -> Litestar:
    """The application. `closing` ends its event streams, so that a shutdown waits for nobody.

    `turned_away` is what the metrics tell of requests that never came here."""
    turned_away = turned_away or TurnedAway()
    return Litestar(
        [
            *watching_routes(ports, BASE, closing, turned_away),
            *reading_routes(ports, BASE),
            *commanding_routes(ports, BASE, BODY_MAX),
            *hook_routes(ports, BODY_MAX, turned_away),
            *document_routes(),
            *page_routes(),
        ],
        exception_handlers={
            HTTPException: _http_problem,
            BadBody: lambda _, error: problem(400, "bad request", *_reasons(error)),
            Refused: lambda _, error: problem(422, "refused", *_reasons(error)),
            NotLetIn: lambda _, error: problem(_HOOK[error.kind], "not allowed", Reason("", str(error))),
            Unknown: lambda _, error: problem(404, "not found", Reason("", str(error))),
            Unready: lambda _, error: problem(503, "not now", Reason("", str(error))),
            JournalFailed: lambda _, error: problem(503, "journal failed", Reason("", str(error))),
            Exception: _fault,
        },
        openapi_config=OpenAPIConfig(
            title="Surefire", version=version or "0", path="/schema", render_plugins=[TrueJson()]
        ),
        request_max_body_size=BODY_MAX,
        after_request=_no_foreign_page,
        logging_config=None,  # the default would take over the root logger
    )


_HOOK = {"address": 403, "signature": 401, "time": 401, "secret": 401}


def problem(status: int, error: str, *reasons: Reason) -> Response[Any]:
    return Response(encode(Problem(error=error, reasons=reasons)), status_code=status, media_type=MediaType.JSON)


def _reasons(error: Refused) -> list[Reason]:
    return [Reason(r.field, r.reason) for r in error.reasons]


def _http_problem(_: AnyRequest, error: HTTPException) -> Response[Any]:
    """What the framework itself refuses: no route, a wrong method, a body or parameter of the wrong form."""
    extra = error.extra if isinstance(error.extra, list) else []
    reasons = [
        Reason(str(item.get("key", "")), str(item.get("message", ""))) for item in extra if isinstance(item, dict)
    ]
    detail = error.detail.split("\n")[0]
    if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
        detail = f"the body is larger than {BODY_MAX} bytes"
    response = problem(error.status_code, _phrase(error), *(reasons or [Reason("", detail)]))
    for name, value in (error.headers or {}).items():
        response.set_header(name, value)
    return response


async def _no_foreign_page(response: Any) -> Any:
    """The framework answers an unknown path under its document's with a page of its own; here errors are JSON."""
    # A stream is handed on as it is: a bare ASGI function, not a Response.
    if isinstance(response, Response) and response.status_code == 404 and response.media_type == MediaType.HTML:
        return problem(404, "not found", Reason("", "Not Found"))
    return response


def _phrase(error: HTTPException) -> str:
    return HTTPStatus(error.status_code).phrase.lower()


def _fault(request: AnyRequest, error: Exception) -> Response[Any]:
    """Our own fault: the log gets all of it, the caller no stack trace."""
    LOG.error("request failed", path=request.url.path, method=request.method, exc_info=error)
    return problem(500, "internal error", Reason("", "the fault is ours; it stands in the engine's log"))
