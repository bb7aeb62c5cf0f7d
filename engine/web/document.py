"""The OpenAPI document and a page that shows it. The framework writes the document; here it is made to tell the truth.

The page is built from the same document, without scripts or anything from another host.
"""

from html import escape
from typing import Any, TypeAlias

import msgspec
from litestar import Litestar, Request, Response, get
from litestar.enums import MediaType
from litestar.handlers import HTTPRouteHandler
from litestar.openapi.plugins import JsonRenderPlugin

from engine.core.messages import Limits
from engine.web.commanding import CloseRequest, FlattenRequest, ResumeRequest, StopRequest
from engine.web.roles import ROLES, is_hook, needed
from engine.web.wire import twin

Json: TypeAlias = dict[str, Any]

DESCRIPTION = """Decisions in, orders out, exactly once.

Money, prices and quantities are decimal numbers in strings. Times are nanoseconds since 1970 (UTC) in fields that end
in `_ns`; beside each moment stands the same in ISO 8601, in a field that ends in `_at`. Errors are
`{"error": ..., "reasons": [{"field": ..., "reason": ...}]}`, with every reason at once.

Where the engine's config has tokens, every request carries one, as `Authorization: Bearer TOKEN` or as the password of
Basic credentials; each operation says which role it needs (one of those named is enough): read, trade, limits, stop.
Without tokens there is 401, without the role 403; above the limits 429 or 503, with Retry-After. A stop has a small
allowance of its own. Requests that change something, and the stream, are refused from pages of other origins (403)."""

_SIGNAL = {
    "type": "object",
    "description": "A signal in any dialect the engine knows; `signal_id` makes it unique.",
    "examples": [
        {
            "type": "signal.execute",
            "signal_id": "s-1",
            "account": "paper",
            "symbol": "BTCUSDT",
            "side": "buy",
            "confidence": "0.9",
            "stop_loss": "59000",
            "take_profit": "63000",
        }
    ],
}
# Read by ourselves, and described by msgspec, which knows what it refuses.
BODIES: dict[str, type[msgspec.Struct]] = {
    "/api/execution/stop": StopRequest,
    "/api/execution/resume": ResumeRequest,
    "/api/execution/flatten": FlattenRequest,
    "/api/execution/positions/{account}/{symbol}/close": CloseRequest,
    "/api/execution/limits/{account}": Limits,
}
_OUTCOMES = {
    "200": "A repeat: the first outcome of this signal.",
    "202": "Taken: the signal and its verdict are durable.",
    "409": "The same id came before with another body.",
    "413": "The body is larger than 1 MiB.",
    "415": "The content type is not application/json.",
    "422": "Refused, with every reason.",
    "503": "Not taken; try again later.",
}
_HOOK_OUTCOMES = {
    "401": "No signature that fits, or one that is too old; where the sender cannot sign, no secret in the body.",
    "403": "The sender's address may not send here.",
    "404": "There is no such hook.",
}
_HOOK_HEADERS = {
    "webhook-id": "The delivery's own name: a replay gets the first outcome, another body under it 409.",
    "webhook-timestamp": "Seconds since 1970, near this machine's clock.",
    "webhook-signature": "v1, and the base64 of HMAC-SHA256 over ID.TIMESTAMP.BODY; several apart by a space.",
}
_SCHEMES: Json = {
    "token": {"type": "http", "scheme": "bearer", "description": "A token of the engine's config; roles as scopes."},
    "basic": {"type": "http", "scheme": "basic", "description": "Any name, and the token as the password."},
}
_PROBLEM = {
    "type": "object",
    "required": ["error", "reasons"],
    "properties": {
        "error": {"type": "string"},
        "reasons": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "reason"],
                "properties": {"field": {"type": "string"}, "reason": {"type": "string"}},
            },
        },
    },
}


class TrueJson(JsonRenderPlugin):
    """Serves the corrected document where the framework would serve its own."""

    def render(self, request: Request[Any, Any, Any], openapi_schema: Json) -> bytes:
        return msgspec.json.encode(corrected(openapi_schema))


def document_routes() -> list[HTTPRouteHandler]:
    @get("/openapi.json", include_in_schema=False)
    async def openapi(request: Request[Any, Any, Any]) -> Response[bytes]:
        return Response(msgspec.json.encode(document(request.app)), media_type=MediaType.JSON)

    @get("/docs", include_in_schema=False)
    async def docs(request: Request[Any, Any, Any]) -> Response[bytes]:
        headers = {"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
        return Response(page(document(request.app)), media_type=MediaType.HTML, headers=headers)

    return [openapi, docs]


def document(app: Litestar) -> Json:
    """The OpenAPI 3.1 document of `app` as plain JSON values."""
    return corrected(app.openapi_schema.to_schema())


def corrected(written: Json) -> Json:
    """The framework's document with our bodies, errors and readable times, in plain JSON values."""
    # Its defaults may be Decimals and enums; the round trip makes them JSON, and a copy.
    found: Json = msgspec.json.decode(msgspec.json.encode(written))
    found["info"]["description"] = DESCRIPTION
    schemas: Json = found.setdefault("components", {}).setdefault("schemas", {})
    for schema in schemas.values():
        _add_readable_times(schema)
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            _correct_errors(operation)
            if is_hook(method.upper(), path):
                _describe_hook(operation)
                continue
            roles = needed(method.upper(), path) or ROLES
            # `{}`: an engine without tokens asks for none. Several entries: one of them is enough.
            operation["security"] = [{}, *({scheme: [role]} for role in roles for scheme in _SCHEMES)]
    found["components"]["securitySchemes"] = _SCHEMES
    schemas["Problem"] = _PROBLEM
    _, bodies = msgspec.json.schema_components(BODIES.values(), ref_template="#/components/schemas/{name}")
    schemas.update(bodies)
    for path, kind in BODIES.items():
        for operation in found["paths"][path].values():
            operation["requestBody"] = _body({"$ref": f"#/components/schemas/{kind.__name__}"}, kind is Limits)
    _describe_order(found["paths"]["/api/execution/order"]["post"])
    for path in ("/metrics", "/api/execution/signals/{signal_id}"):
        found["paths"][path]["get"]["responses"]["200"]["content"]["text/plain"] = {"schema": {"type": "string"}}
    return found


def _add_readable_times(schema: Json) -> None:
    properties: Json = schema.get("properties", {})
    for field in list(properties):
        if readable := twin(field):
            properties[readable] = {"type": ["string", "null"], "format": "date-time"}


def _correct_errors(operation: Json) -> None:
    responses: Json = {code: told for code, told in operation["responses"].items() if code < "400"}
    responses["default"] = _response("An error, with its reasons.", {"$ref": "#/components/schemas/Problem"})
    operation["responses"] = responses


def _describe_order(operation: Json) -> None:
    operation["requestBody"] = _body(_SIGNAL)
    default = operation["responses"]["default"]
    told = {code: _response(text, {"type": "object"}) for code, text in _OUTCOMES.items()}
    operation["responses"] = told | {"default": default}
    operation["parameters"] = [
        {
            "name": "X-Trace-Id",
            "in": "header",
            "required": False,
            "description": "Carried through every fact, event and log line; a W3C traceparent is taken too.",
            "schema": {"type": "string", "pattern": "^[A-Za-z0-9._:/+=-]{1,128}$"},
        }
    ]


def _describe_hook(operation: Json) -> None:
    """As an order's, but that who may send is told by the signature (or the secret in the body), not by a token."""
    operation["security"] = []
    operation["requestBody"] = _body(_SIGNAL)
    default = operation["responses"]["default"]
    told = {code: _response(text, {"type": "object"}) for code, text in (_OUTCOMES | _HOOK_OUTCOMES).items()}
    operation["responses"] = told | {"default": default}
    operation["parameters"] += [
        {"name": name, "in": "header", "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in _HOOK_HEADERS.items()
    ]


def _body(schema: Json, required: bool = True) -> Json:
    return {"required": required, "content": {"application/json": {"schema": schema}}}


def _response(text: str, schema: Json) -> Json:
    return {"description": text, "content": {"application/json": {"schema": schema}}}


_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#222}
code{font:14px ui-monospace,monospace}h2{margin:2rem 0 .2rem;font-size:1rem}b{display:inline-block;min-width:3.5rem}
td{padding:.1rem 1rem .1rem 0;vertical-align:top}pre{background:#f4f4f4;padding:.6rem;overflow:auto}
@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}pre{background:#222}a{color:#8bf}}"""


def page(found: Json) -> bytes:
    """One plain page: every operation with its parameters and its answers."""
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>",
        f"<title>Surefire API</title><style>{_STYLE}</style><h1>Surefire API</h1>",
        f"<p>{escape(DESCRIPTION).replace(chr(10) * 2, '<p>')}</p>",
        "<p>The whole document: <a href=/openapi.json>/openapi.json</a></p>",
    ]
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            parts.append(_operation(path, method, operation))
    return "\n".join(parts).encode()


def _operation(path: str, method: str, operation: Json) -> str:
    rows = [
        f"<tr><td><code>{escape(p['name'])}</code><td>{p['in']}<td>{escape(p.get('description', ''))}"
        for p in operation.get("parameters", [])
    ]
    rows += [
        f"<tr><td><code>{code}</code><td>answer<td>{escape(told['description'])}"
        for code, told in operation["responses"].items()
    ]
    title = f"<h2><b>{method.upper()}</b> <code>{escape(path)}</code></h2>"
    return f"{title}<div>{escape(operation.get('summary', ''))}</div><table>{''.join(rows)}</table>"
