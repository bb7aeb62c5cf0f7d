"""Requests to a venue by HTTP. Decides one thing: whether a request surely was not sent, or may have had its effect.

Queries go by httpx. What changes something goes by connections of our own, which cost a fifth of it.

Nothing is repeated, redirected or proxied here, and what is sent is what was signed, byte for byte. The line between
"not sent" and "perhaps" is the transport's own word that it begins to write the request: everything before that
(name, connection, TLS, a place in the pool) left no byte; whatever goes wrong after it is Silence.
"""

import ssl
from collections.abc import Awaitable, Callable, Mapping
from functools import cache
from typing import Any, TypeVar

import httpx
import msgspec
import trio
from msgspec import Struct

from engine.core.messages import Failed, Rejection, Silence
from engine.runtime.clock import Clock
from engine.runtime.log import STARS
from engine.venues.offset import Moment
from engine.venues.warm import BadAnswer, TooLarge, Warm

T = TypeVar("T")
BODY_MAX = 32 * 1024 * 1024  # bytes; the largest honest answer is a list of all instruments, some ten millions
KEEP_SECONDS = 300.0  # idle connections; with httpx's five the next order pays for TLS again
CONNECT_SECONDS = 3.0


class Request(Struct, frozen=True):
    """One request as it goes on the wire. `target` is path and query; with them, headers and body it was signed.

    Key and signature stand in headers, query or body, by venue: of them nothing is shown wherever this is printed.
    """

    method: str
    target: str
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    def __repr__(self) -> str:
        path, asked, _ = self.target.partition("?")
        return f"Request({self.method} {path}{asked}{STARS if asked else ''})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("shown", repr(self))]


class Reply(Struct, frozen=True):
    """A whole answer, whatever it says, and when it was asked for (first byte) and heard (last byte)."""

    status: int
    headers: Mapping[str, str]  # names in any case
    body: bytes
    asked: Moment
    heard: Moment


class Garbled(Struct, frozen=True):
    """A body that is not what the venue promises: no JSON, cut off, other types, another page altogether."""

    why: str


class Rest:
    """One account's connections to one host, kept warm."""

    def __init__(self, base_url: str, clock: Clock, timeout_seconds: float = 5.0, body_max: int = BODY_MAX) -> None:
        """`base_url` has scheme and host, no path. `timeout_seconds` is for a whole request, its answer included."""
        self._base = base_url.rstrip("/")
        self._clock = clock
        self._timeout = timeout_seconds
        self._body_max = body_max
        connect_seconds = min(CONNECT_SECONDS, timeout_seconds * 0.6)
        self._warm = Warm(self._base, connect_seconds, KEEP_SECONDS, body_max)
        self._http = httpx.AsyncClient(
            verify=_tls(),
            trust_env=False,  # no proxy, no .netrc: an order goes to the venue or nowhere
            headers={"accept-encoding": "identity", "user-agent": "surefire"},
            timeout=httpx.Timeout(timeout_seconds, connect=connect_seconds),
            limits=httpx.Limits(max_connections=16, max_keepalive_connections=8, keepalive_expiry=KEEP_SECONDS),
        )

    async def send(
        self, request: Request, on_wire: Callable[[], None] = lambda: None, timeout_seconds: float | None = None
    ) -> Reply | Rejection | Silence:
        """The venue's answer; a Rejection of kind "not_sent" when no byte left; else Silence. Raises nothing."""
        wire: list[Moment] = []

        def begins() -> None:
            on_wire()
            wire.append(self.moment())

        why = "no answer in time"
        with trio.move_on_after(timeout_seconds or self._timeout):
            try:
                if request.method == "GET":
                    return await self._ask(request, begins, wire)
                return await self._change(request, begins, wire)
            except (httpx.HTTPError, httpx.InvalidURL, OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
                why = f"{type(error).__name__}: {error}"[:300]
            except (BadAnswer, TooLarge) as error:
                why = str(error)
        return Silence(why) if wire else Rejection("not_sent", "not_sent", why)

    def moment(self) -> Moment:
        return Moment(self._clock.now_ns(), self._clock.ticks_ns())

    async def keep(self, *tasks: Callable[[], Awaitable[None]]) -> None:
        """Runs what needs the connections, until cancelled; then closes every one."""
        try:
            async with trio.open_nursery() as nursery:
                for task in tasks:
                    nursery.start_soon(task)
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await self.close()

    async def close(self) -> None:
        await self._warm.aclose()
        await self._http.aclose()

    async def _change(self, request: Request, begins: Callable[[], None], wire: list[Moment]) -> Reply:
        said = (request.method, request.target, request.headers, request.body)
        answer = await self._warm.exchange(*said, begins)
        return Reply(answer.status, httpx.Headers(answer.headers), answer.body, wire[0], self.moment())

    async def _ask(self, request: Request, begins: Callable[[], None], wire: list[Moment]) -> Reply:
        async def trace(event: str, _: Mapping[str, Any]) -> None:
            if event.endswith("send_request_headers.started") and not wire:
                begins()

        built = self._http.build_request(
            request.method,
            httpx.URL(self._base + request.target),
            headers=list(request.headers),
            content=request.body or None,
            extensions={"trace": trace},
        )
        response = await self._http.send(built, stream=True)
        try:
            body = bytearray()
            with trio.CancelScope() as reading:  # leaving the loop would leave httpx's nested generators unfinished
                async for piece in response.aiter_raw():
                    body += piece
                    if len(body) > self._body_max:
                        reading.cancel()
            if len(body) > self._body_max:
                raise TooLarge(f"an answer of more than {self._body_max} bytes")
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await response.aclose()
        return Reply(response.status_code, response.headers, bytes(body), wire[0], self.moment())


@cache
def _tls() -> ssl.SSLContext:
    """One for all connections: to read the authorities' certificates takes tens of milliseconds."""
    return httpx.create_ssl_context(trust_env=False)


def read_json(body: bytes, decoder: "msgspec.json.Decoder[T]") -> T | Garbled:
    """The body as the decoder wants it; never raises."""
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Garbled(f"cannot be read: {error}: {_beginning(body)}"[:300])


def failed(outcome: Rejection | Silence | Garbled) -> Failed:
    """What became of a query that was not answered; for a query it makes no difference whether it was sent."""
    return Failed(outcome.text if isinstance(outcome, Rejection) else outcome.why)


def _beginning(body: bytes) -> str:
    """Enough of an unreadable answer to see that it is, say, a page of HTML."""
    return body[:80].decode("ascii", "replace") if body else "empty"
