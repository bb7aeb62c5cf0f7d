"""Signed requests to Bybit: the stamp by the venue's clock, the right bucket, and what every answer teaches.

Each answer tells the venue's time (and so our offset), how much of a limit is left, and sometimes that we are to stop.
Docs: "Integration Guidance", "Rate Limit Rules".
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import msgspec
from msgspec import Struct

from engine.core.messages import Failed, Order, Rejection, Silence
from engine.core.times import MILLISECOND, SECOND
from engine.runtime.clock import Clock
from engine.runtime.log import STARS
from engine.venues.admission import OFFSET_ERROR_MAX_NS
from engine.venues.base import window_ms
from engine.venues.bybit import sign
from engine.venues.bybit.errors import answer_to_status
from engine.venues.bybit.frames import Envelope, Page, decode, envelope_decoder, page_decoder
from engine.venues.keys import Credentials
from engine.venues.offset import Known, Moment, check, error_ns, learn, measure
from engine.venues.rest import Garbled, Reply, Rest, failed, read_json
from engine.venues.throttle import Lane, Limit, Throttle

R = TypeVar("R")
T = TypeVar("T")
WINDOW_MS = 5_000
ADDRESS_BAN_NS = 600 * SECOND  # HTTP 403: "wait at least ten minutes"
PAUSE_NS = SECOND  # after a limiter's no, where the venue does not say how long
PAUSE_MAX_NS = 10 * SECOND
TEXT_MAX = 300
TIME_PATH = "/v5/market/time"

# Bybit counts each operation by itself; requests of one address are counted together.
COSTS = {
    "order": (("create", 1), ("address", 1)),
    "cancel": (("cancel", 1), ("address", 1)),
    "amend": (("amend", 1), ("address", 1)),
    "query": (("query", 1), ("address", 1)),
    "rare": (("rare", 1), ("address", 1)),
}
_LIMITED = (429, 10006, 10018, 10403, 10429, 20003, 170005, 170222)
_OUTSIDE_WINDOW = 10002


def limits(orders_per_second: int) -> tuple[Limit, ...]:
    """Docs: "Rate Limit Rules": 10 orders a second (20 on spot; more for VIPs), 50 queries, 600 requests in five."""
    return (
        Limit(orders_per_second, SECOND, "create"),
        Limit(orders_per_second, SECOND, "cancel"),
        Limit(orders_per_second, SECOND, "amend"),
        Limit(50, SECOND, "query"),
        Limit(5, SECOND, "rare"),
        Limit(600, 5 * SECOND, "address"),
    )


class Denied(Failed, frozen=True):
    """The venue did answer a query: with this code."""

    code: int = 0


class Call(Struct, frozen=True):
    """One state-changing operation, by either way."""

    op: str  # the trade socket's word
    path: str
    bucket: str


class Caller:
    """One account's way to Bybit by HTTP."""

    def __init__(self, rest: Rest, credentials: Credentials, throttle: Throttle, clock: Clock) -> None:
        self.known = Known()
        self.banned_until_ns = 0  # by HTTP; the sockets are not meant
        self.rest = rest
        self._credentials = credentials
        self._throttle = throttle
        self._clock = clock

    async def stamp_ms(self, needed: bool) -> int | None:
        """The venue's time now, measured if need be. None: it cannot be had, and is `needed`; else our own must do."""
        offset_ns = self._offset_ns()
        if offset_ns is None:
            await self.get(TIME_PATH, {}, "query", Lane.REDUCE, signed=False)
            offset_ns = self._offset_ns()
        if offset_ns is None and needed:
            return None
        return (self._clock.now_ns() + (offset_ns or 0)) // MILLISECOND

    def window_ms(self, orders: Iterable[Order]) -> int:
        """How old the request that brings these orders may be when it arrives."""
        return window_ms(orders, self._clock.now_ns(), WINDOW_MS)

    def venue_ns(self) -> int:
        """The venue's time as well as it is known."""
        return self._clock.now_ns() + (self.known.best.offset_ns if self.known.best else 0)

    async def get(
        self,
        path: str,
        params: Mapping[str, sign.Param],
        kind: str = "query",
        lane: Lane = Lane.OPEN,
        signed: bool = True,
    ) -> Envelope | Failed:
        """A query. Anything but a whole answer with code 0 is Failed."""
        if banned := self._banned():
            return Failed(banned)
        if signed:
            await self.stamp_ms(needed=False)
        await self._throttle.wait(lane, kind)
        if signed:  # stamped after the wait, which may last longer than a stamp
            stamp_ms = self.venue_ns() // MILLISECOND
            request = sign.get(path, params, self._credentials, stamp_ms, WINDOW_MS)
        else:
            request = sign.public(path, params)
        found = self._read(await self.rest.send(request))
        if isinstance(found, Rejection | Silence | Garbled):
            return failed(found)
        return found if found.retCode == 0 else Denied(f"{path}: {found.retCode}: {found.retMsg}", code=found.retCode)

    async def post(
        self, call: Call, body: sign.Body, stamp_ms: int, on_wire: Callable[[], None], window_ms: int = WINDOW_MS
    ) -> Envelope | Rejection | Silence:
        """A request that changes something; its tokens are taken by whoever decided to send it."""
        if banned := self._banned():
            return Rejection("403", "unavailable", banned)
        request = sign.post(call.path, body, self._credentials, stamp_ms, window_ms)
        outcome = await self.rest.send(request, on_wire)
        if isinstance(outcome, Reply):
            self.heard_limits(outcome.headers, call.bucket)
        found = self._read(outcome)
        return Silence(found.why) if isinstance(found, Garbled) else found

    def clean(self, text: str) -> str:
        """A text of the venue's that may be journaled: it quotes the signed string at times, our key in it."""
        return text.replace(self._credentials.key.reveal(), STARS)[:TEXT_MAX]

    def heard_limits(self, headers: Mapping[str, str], bucket: str) -> None:
        """The venue's own count of a bucket; the trade socket has it in its answers, too."""
        size, left = headers.get("X-Bapi-Limit", ""), headers.get("X-Bapi-Limit-Status", "")
        if _whole(size) and _whole(left):
            self._throttle.correct(bucket, max(int(size) - int(left), 0), int(size))

    def heard_code(self, code: int, headers: Mapping[str, str]) -> None:
        """What a code says beyond its own request."""
        if code == _OUTSIDE_WINDOW:
            self.known = Known(None, self.known.jumps + 1)  # measured anew before the next request
        elif code in _LIMITED:
            self._pause(f"code {code}", headers)

    def _read(self, outcome: Reply | Rejection | Silence) -> Envelope | Rejection | Silence | Garbled:
        if not isinstance(outcome, Reply):
            return outcome
        if outcome.status == 403:
            # Only HTTP is meant: what reduces still goes by the trade socket, and nothing more is sent by HTTP.
            self.banned_until_ns = self._clock.now_ns() + ADDRESS_BAN_NS
            self._throttle.close_until(self.banned_until_ns, "HTTP 403 (address banned, or region)", entries_only=True)
        elif outcome.status == 429:
            self._pause("HTTP 429", outcome.headers)
        by_status = answer_to_status(outcome.status)
        if isinstance(by_status, Rejection | Silence):
            return by_status
        found = read_json(outcome.body, envelope_decoder)
        if isinstance(found, Garbled):
            return found
        if found.time:
            self._learn(outcome.asked, found.venue_ns, outcome.heard)
        self.heard_code(found.retCode, outcome.headers)
        found.retMsg = self.clean(found.retMsg)
        return found

    def _banned(self) -> str:
        left_ns = self.banned_until_ns - self._clock.now_ns()
        return f"HTTP is banned by the venue for {left_ns // SECOND} s more" if left_ns > 0 else ""

    def _learn(self, asked: Moment, told_ns: int, heard: Moment) -> None:
        measured = measure(asked, told_ns, heard)
        if measured is not None:
            self.known = learn(self.known, measured)

    def _offset_ns(self) -> int | None:
        now = self.rest.moment()
        self.known = check(self.known, now)
        best = self.known.best
        return best.offset_ns if best is not None and error_ns(best, now) <= OFFSET_ERROR_MAX_NS else None

    def _pause(self, why: str, headers: Mapping[str, str]) -> None:
        now_ns = self._clock.now_ns()
        reset, after = headers.get("X-Bapi-Limit-Reset-Timestamp", ""), headers.get("Retry-After", "")
        wait_ns = PAUSE_NS
        if _whole(after):
            wait_ns = min(int(after) * SECOND, ADDRESS_BAN_NS)  # a stop must not wait for ever for an odd figure
        elif _whole(reset):
            ahead_ns = int(reset) * MILLISECOND - self.venue_ns()
            best = self.known.best
            unsure_ns = error_ns(best, self.rest.moment()) if best is not None else 0  # of the venue's clock
            wait_ns = min(ahead_ns + unsure_ns, PAUSE_MAX_NS) if ahead_ns > 0 else PAUSE_NS
        self._throttle.close_until(now_ns + wait_ns, why)


def _whole(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 15


def page_of(envelope: Envelope, decoder: "msgspec.json.Decoder[T]") -> T | Failed:
    found = read_json(bytes(envelope.result), decoder)
    return failed(found) if isinstance(found, Garbled) else found


def rows_in(page: Page, decoder: "msgspec.json.Decoder[list[R]]") -> list[R] | Failed:
    found = decode(page.list, decoder)
    return found if isinstance(found, list) else Failed(found.why)


def rows_of(envelope: Envelope, decoder: "msgspec.json.Decoder[list[R]]") -> list[R] | Failed:
    """A list that is one page."""
    page: Page | Failed = page_of(envelope, page_decoder)
    return page if isinstance(page, Failed) else rows_in(page, decoder)
