"""The outermost layer: who may speak to the API at all. Knows HTTP headers, nothing of trading.

A page of a stranger, open in the operator's browser, can reach a loopback port. Two things stop it: a request must name
a host that we are (against DNS rebinding), and one that changes something, or holds a stream, must not come from
another origin. Then come the token, the client's allowance, and the roles of the token. A stop has an allowance of its
own, and room where others find none (P7).
"""

import re
from collections.abc import Awaitable, Callable, Iterable
from ipaddress import IPv6Address, ip_address
from typing import Any, TypeAlias
from urllib.parse import urlsplit

import trio

from engine.web.allowance import Allowance
from engine.web.connections import HERE
from engine.web.roles import BASE, READS, TOKEN_NAME, Token, bearer, is_hook, is_stop, missing
from engine.web.terms import Terms
from engine.web.turned_away import TurnedAway
from engine.web.views import Problem, Reason
from engine.web.wire import encode

LOOPBACK = ("localhost", "127.0.0.1", "::1")
STREAM = f"{BASE}/stream"
STOPS_PER_SECOND, STOPS_BURST = 1.0, 10.0  # of one client
# ASGI as its specification has it; the framework's own types leave out that a lifespan is a scope too.
App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]
_CHALLENGE = (b"www-authenticate", b'Basic realm="surefire", charset="UTF-8"')
_SOON = (b"retry-after", b"1")


class No(Exception):
    """A refusal: its status, where the fault lies, why, and what the answer's headers say."""

    def __init__(
        self, status: int, field: str, why: str, headers: tuple[tuple[bytes, bytes], ...] = (), role: str = ""
    ) -> None:
        super().__init__(why)
        self.status, self.field, self.why, self.headers, self.role = status, field, why, headers, role


def guarded(app: App, hosts: Iterable[str], terms: Terms | None = None, turned_away: TurnedAway | None = None) -> App:
    """`app`, for requests that name one of `hosts` or a loopback name, and may come in by `terms`.

    Others get 400 (host), 401 (no token), 403 (origin, role), 429 (too many) or 503 (too many connections).
    """
    terms, noted = terms or Terms(), turned_away or TurnedAway()
    allowed = frozenset(host.lower().strip("[]") for host in (*LOOPBACK, *hosts, *terms.hosts))
    requests = Allowance(terms.per_second, 2.0 * terms.per_second)
    stops = Allowance(STOPS_PER_SECOND if terms.per_second else 0, STOPS_BURST)

    def admit(scope: Any) -> None:
        """Raises No."""
        method, path = scope["method"], _plain(scope["path"])
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        _look_at_host(headers.get(b"host", ""), allowed, scope)
        if method not in READS or path == STREAM:
            _look_at_origin(headers)
        token = bearer(terms.tokens, headers.get(b"authorization", ""))
        # A stop without a token uses up its address's common allowance, not that of those who may stop.
        stop = is_stop(method, path) and (token is not None or not terms.tokens)
        client = f"token {token.name}" if token else _network(scope)
        if not (stops if stop else requests).take(client, trio.current_time()):
            raise No(429, "", "too many requests; try again in a second", (_SOON,))
        if terms.tokens and not is_hook(method, path):
            _look_at_token(token, method, path)
            scope[TOKEN_NAME] = token.name if token else ""
        _look_at_room(stop)

    async def door(scope: Any, receive: Any, send: Send) -> None:
        if scope["type"] == "websocket":  # there are none here
            return await send({"type": "websocket.close", "code": 1008})
        if scope["type"] == "http":
            try:
                admit(scope)
            except No as no:
                noted.note(_KINDS[no.status, no.field], _address(scope), trio.current_time(), no.role)
                return await _refuse(send, no)
        await app(scope, receive, send)

    return door


_KINDS = {  # what the metrics call a refusal
    (400, "Host"): "host",
    (403, "Origin"): "origin",
    (401, "Authorization"): "token",
    (403, "Authorization"): "role",
    (429, ""): "rate",
    (503, ""): "connections",
}


def _look_at_host(host: str, allowed: frozenset[str], scope: Any) -> None:
    """The address itself that was connected to is a name of ours too: no resolver was asked, so none can have lied."""
    name = _name(host)
    if name not in allowed and not (name and name == (scope.get("server") or ("",))[0]):
        raise No(400, "Host", f"{host[:200]!r} is not a name of this server")


def _look_at_origin(headers: dict[bytes, str]) -> None:
    origin, site = headers.get(b"origin"), headers.get(b"sec-fetch-site", "none")
    if origin is not None and not _same(origin, headers.get(b"host", "")):
        raise No(403, "Origin", f"{origin[:200]!r} may not change anything here, nor listen")
    if site not in ("none", "same-origin"):  # said by browsers, also where they send no Origin
        raise No(403, "Origin", "a page of another site may not change anything here, nor listen")


def _look_at_token(token: Token | None, method: str, path: str) -> None:
    if token is None:
        why = "a token is needed: 'Authorization: Bearer TOKEN', or Basic with the token as the password"
        raise No(401, "Authorization", why, (_CHALLENGE,))
    if lack := missing(token, method, path):
        raise No(403, "Authorization", f"this needs {lack}, which the token {token.name} has not", role=lack)


def _look_at_room(stop: bool) -> None:
    here = HERE.get()
    if here is None:
        return
    if stop:
        here.stops()
    elif here.spare:
        raise No(503, "", "too many connections are open; only a stop is answered now", (_SOON,))


def _plain(path: str) -> str:
    """As the framework will read it: "//stop/" is "/stop"."""
    return re.sub("/+", "/", path).rstrip("/")


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


def _address(scope: Any) -> str:
    return str((scope.get("client") or ("",))[0])


def _network(scope: Any) -> str:
    """One client: an address, or with IPv6 the /64 that one subscriber has."""
    address = _address(scope)
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return f"{int(parsed) >> 64:x}::/64" if isinstance(parsed, IPv6Address) else address


async def _refuse(send: Send, no: No) -> None:
    body = encode(Problem(error="not allowed", reasons=(Reason(no.field, no.why),)))
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *no.headers]
    if no.status == 503:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": no.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})
