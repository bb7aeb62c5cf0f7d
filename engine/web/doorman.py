"""The outermost layer: who may speak to the API at all. Knows HTTP headers, nothing of trading.

A page of a stranger, open in the operator's browser, can reach a loopback port. Two things stop it: a request must name
a host that we are (against DNS rebinding), and one that changes something must not come from another origin.
"""

from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from engine.web.views import Problem, Reason
from engine.web.wire import encode

LOOPBACK = ("localhost", "127.0.0.1", "::1")
# ASGI as its specification has it; the framework's own types leave out that a lifespan is a scope too.
App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
_READS = ("GET", "HEAD", "OPTIONS")


def guarded(app: App, hosts: Iterable[str]) -> App:
    """`app`, for requests that name one of `hosts` or a loopback name; others get 400 or 403."""
    allowed = frozenset(host.lower().strip("[]") for host in (*LOOPBACK, *hosts))

    async def door(scope: Any, receive: Any, send: Send) -> None:
        if scope["type"] != "http":
            return await app(scope, receive, send)
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get(b"host", ""), headers.get(b"origin")
        if _name(host) not in allowed:
            return await _refuse(send, 400, "Host", f"{host[:200]!r} is not a name of this server")
        if scope["method"] not in _READS and origin is not None and not _same(origin, host):
            return await _refuse(send, 403, "Origin", f"{origin[:200]!r} may not change anything here")
        return await app(scope, receive, send)

    return door


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _same(origin: str, host: str) -> bool:
    try:
        return urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:
        return False


async def _refuse(send: Send, status: int, field: str, reason: str) -> None:
    body = encode(Problem(error="not allowed", reasons=(Reason(field, reason),)))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
