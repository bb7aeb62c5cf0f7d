"""What changes something: a signal comes in, or a person steers. Each handler reads its body and calls one port.

Nothing here looks at the journal or the actors first: a stop has to work when they do not (P7).
"""

import re
from contextlib import aclosing
from typing import Any, TypeAlias, TypeVar

import msgspec
from litestar import Request, Response, patch, post, put
from litestar.enums import MediaType
from litestar.exceptions import ClientException, HTTPException
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath
from msgspec import Struct

from engine.core.messages import HaltKind, Refusal
from engine.web.limits import limits_changes, whole_limits
from engine.web.ports import BadBody, Ports, Receipt, ResumeReport, StopReport
from engine.web.reading import reply
from engine.web.roles import TOKEN_NAME
from engine.web.views import LimitsInForce

T = TypeVar("T", bound=Struct)
AnyRequest: TypeAlias = Request[Any, Any, Any]

RETRY_AFTER_SECONDS = "1"  # of a body that was not taken because the engine is busy or not ready
JSON = re.compile(r"application/([\w.-]+\+)?json\s*(;.*)?", re.IGNORECASE)
# With an answer that does not wait for the rest of a body: the server closes, and a client must ask on another line.
LAST = {"Connection": "close"}
_TRACE = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}")
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}.*")  # W3C Trace Context


class StopRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Stop everything. Without a body: stop and flatten."""

    by: str = "api"
    reason: str = "asked for over the API"
    flatten: bool = True


class ResumeRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """End halts of one scope: "engine", "venue/V", "account/A" or "symbol/A/S".

    One kind at a time: the one that is named, or else the first that stands there of stop, fault and loss.
    """

    scope: str = "engine"
    by: str = "api"
    note: str = ""
    kind: HaltKind | None = None


class FlattenRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Close positions: all of them, or those of one account, one symbol, or both."""

    account: str | None = None
    symbol: str | None = None
    by: str = "api"
    reason: str = "asked for over the API"


class CloseRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    by: str = "api"


def commanding_routes(ports: Ports, base: str, body_max: int) -> list[HTTPRouteHandler]:
    """POST, PUT and PATCH routes under `base`."""

    @post(
        f"{base}/order",
        summary="Hand in a signal; answered when its verdict is durable",
        status_code=202,
        request_max_body_size=None,  # what is larger is a dead letter, so it is counted here
    )
    async def order(request: AnyRequest) -> Response[Any]:
        if not JSON.fullmatch(request.headers.get("content-type", "")):
            raise HTTPException(status_code=415, detail="the content type must be application/json")
        raw, whole = await beginning(request, body_max)
        if not whole:
            why = f"is larger than {body_max} bytes"
            _, told = ports.answer(await ports.turn_away(raw, why, trace_id(request)))
            return Response(told, status_code=413, media_type=MediaType.JSON, headers=LAST)
        return answered(ports, await ports.submit(raw, trace_id(request)))

    @post(f"{base}/stop", summary="Stop: no more entries, cancel, flatten, verify, report", status_code=200)
    async def stop(request: AnyRequest) -> Response[StopReport]:
        asked = await read(request, StopRequest)
        return report(await ports.stop(named(request, asked.by), asked.reason, asked.flatten))

    @post(f"{base}/resume", summary="End a halt", status_code=200)
    async def resume(request: AnyRequest) -> Response[ResumeReport]:
        asked = await read(request, ResumeRequest)
        return reply(await ports.resume(asked.scope, named(request, asked.by), asked.note, asked.kind))

    @post(f"{base}/flatten", summary="Cancel entries and close positions", status_code=200)
    async def flatten(request: AnyRequest) -> Response[StopReport]:
        asked = await read(request, FlattenRequest)
        by = named(request, asked.by)
        return report(await ports.flatten(asked.account, asked.symbol, by, asked.reason))

    @post(f"{base}/positions/{{account:str}}/{{symbol:str}}/close", summary="Close one position", status_code=200)
    async def close(account: FromPath[str], symbol: FromPath[str], request: AnyRequest) -> Response[StopReport]:
        asked = await read(request, CloseRequest)
        return report(await ports.close_position(account, symbol, named(request, asked.by)))

    @patch(f"{base}/limits/{{account:str}}", summary="Change some limits of an account; in force at once, audited")
    async def change_limits(account: FromPath[str], request: AnyRequest) -> Response[LimitsInForce]:
        return await limit(account, limits_changes(await request.body()), request)

    @put(f"{base}/limits/{{account:str}}", summary="Set all limits of an account; what is left out is the default")
    async def set_limits(account: FromPath[str], request: AnyRequest) -> Response[LimitsInForce]:
        return await limit(account, whole_limits(await request.body()), request)

    async def limit(account: str, changes: dict[str, object], request: AnyRequest) -> Response[LimitsInForce]:
        return reply(LimitsInForce(account=account, limits=await ports.set_limits(account, changes, operator(request))))

    return [order, stop, resume, flatten, close, change_limits, set_limits]


def answered(ports: Ports, receipt: Receipt) -> Response[Any]:
    """What the sender of a body is told."""
    status, body = ports.answer(receipt)
    headers = {"X-Trace-Id": receipt.row.signal.trace_id} if receipt.row is not None else {}
    if status == 503:
        headers["Retry-After"] = RETRY_AFTER_SECONDS
    return Response(body, status_code=status, media_type=MediaType.JSON, headers=headers)


async def beginning(request: AnyRequest, size_max: int) -> tuple[bytes, bool]:
    """The body, and whether that is all of it; of one that is too large, what had come by then."""
    told = request.headers.get("content-length", "")
    if told.isdecimal() and int(told) > size_max:
        return b"", False
    raw = bytearray()
    async with aclosing(request.stream()) as chunks:
        async for chunk in chunks:
            raw += chunk
            if len(raw) > size_max:
                return bytes(raw), False
    return bytes(raw), True


async def read(request: AnyRequest, kind: type[T]) -> T:
    """The body as `kind`, or its defaults where there is none. Raises BadBody.

    Strict, unlike the framework's own reading, which takes a 0 or "off" for false: too easy for `flatten`.
    """
    raw = await request.body()
    try:
        return msgspec.json.decode(raw, type=kind) if raw else kind()
    except RecursionError:
        raise BadBody(Refusal(field="", reason="the body is nested too deep")) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        text, _, path = str(error).partition(" - at `$")
        raise BadBody(Refusal(field=path.strip("`."), reason=text)) from None


def report(done: StopReport) -> Response[StopReport]:
    """200 when everything is done and verified, 202 when something is left (it stands in the report)."""
    return reply(done, 200 if done.complete else 202)


def operator(request: AnyRequest) -> str:
    """Who asks, for the audit log, as he says himself: the header `X-Operator`."""
    return named(request, request.headers.get("x-operator", "api")[:100])


def named(request: AnyRequest, by: str) -> str:
    """Who asks, as he says himself, and the token that he showed, if tokens are used."""
    token: str = request.scope.get(TOKEN_NAME, "")  # type: ignore[assignment]
    return f"{by} [token {token}]" if token else by


def trace_id(request: AnyRequest) -> str | None:
    """From `X-Trace-Id`, else from a W3C `traceparent`. Raises 400 for one that no log could carry."""
    given = request.headers.get("x-trace-id")
    if given is None:
        parent = _TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
        return parent[1] if parent else None
    if not _TRACE.fullmatch(given):
        raise ClientException("X-Trace-Id: 1 to 128 letters, digits and ._:/+=- only")
    return given
