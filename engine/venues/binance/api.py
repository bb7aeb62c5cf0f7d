"""Requests to one market of Binance for one account: stamped, signed, sent once, and read.

By REST, or over the WebSocket API where one is given; a request goes one way or the other, and the other way only when
no byte has left. Every answer is either what was asked for or a Verdict; nothing is raised, and nothing is repeated.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec
import structlog
import trio
from msgspec import Raw, Struct, field

from engine.core.messages import Failed, Order, Rejection, Silence
from engine.core.times import MILLISECOND, SECOND
from engine.runtime.clock import Clock
from engine.venues import offset
from engine.venues.base import window_ms
from engine.venues.binance.errors import Class, ErrorBody, Market, Verdict, judge, judge_body
from engine.venues.binance.filters import RateLimit, header_limits, limit_name
from engine.venues.binance.sign import Params, encoded, frame, signed_params, signed_query
from engine.venues.keys import Credentials
from engine.venues.offset import Known, Moment
from engine.venues.order_socket import Heard, OrderSocket
from engine.venues.rest import Garbled, Reply, Request, Rest, read_json
from engine.venues.throttle import Costs, Lane, Limit, Throttle

T = TypeVar("T")
LOG = structlog.get_logger("binance")
ERROR_MAX_NS = 400 * MILLISECOND  # of the clocks' difference; beyond it nothing is signed
AGE_MAX_NS = 300 * SECOND
PAUSE_NS = {429: 10 * SECOND, 418: 120 * SECOND}  # where the venue does not say how long
WINDOW_MS = 5_000  # how old a request may be when it arrives
CLOCK_SECONDS = 60.0  # between measurements of the venue's clock when nothing else asks
ORDER_SECONDS = 5.0  # for the answer of the order socket; then the order is in doubt
FORM = ("content-type", "application/x-www-form-urlencoded")

WEIGHTS = (1, 2, 4, 5, 6, 10, 20, 30, 40, 80)
_MINUTE, _DAY = 60 * SECOND, 86_400 * SECOND


def limits(market: Market, orders_per_second: int) -> tuple[Limit, ...]:
    """The venue's own figures, which exchangeInfo may lower, and ours. Its windows begin with whole ones of UTC.

    Documented for Spot; for USD-M assumed, where a window that slides would be told by the next answer's count.
    """
    ours = Limit(orders_per_second, SECOND, "ours-1S")
    spot = ((6000, _MINUTE, "weight-1M"), (100, 10 * SECOND, "orders-10S"), (200_000, _DAY, "orders-1D"))
    usdm = ((2400, _MINUTE, "weight-1M"), (300, 10 * SECOND, "orders-10S"), (1200, _MINUTE, "orders-1M"))
    return (ours, *(Limit(*one, aligned=True) for one in (spot if market is Market.SPOT else usdm)))


# An order takes one of each limit, and so stands in no table.
COSTS: Costs = {"cancel": (("ours-1S", 1), ("weight-1M", 1))} | {f"w{w}": (("weight-1M", w),) for w in WEIGHTS}


class Answer(Struct, frozen=True):
    """One answer of the WebSocket API."""

    id: str | int | None = None
    status: int = 0
    result: Raw = field(default_factory=Raw)
    error: Raw = field(default_factory=Raw)
    rateLimits: tuple[RateLimit, ...] = ()


class _Waits(Struct, frozen=True):
    retryAfter: int = 0


class _Error(Struct, frozen=True):
    """An error of the WebSocket API; until when to wait may stand in its data."""

    code: int
    msg: str = ""
    data: Raw = field(default_factory=Raw)


class ServerTime(Struct, frozen=True):
    serverTime: int


class Api:
    """`throttle` is the account's; `window_ms` is how old a request may be when it arrives."""

    def __init__(
        self,
        market: Market,
        rest: Rest,
        credentials: Credentials,
        throttle: Throttle,
        clock: Clock,
        window_ms: int = WINDOW_MS,
    ) -> None:
        self.market = market
        self.rest = rest
        self.throttle = throttle
        self.clock = clock
        self.known = Known()
        self._credentials = credentials
        self._key = (("X-MBX-APIKEY", credentials.key.reveal()),)
        self._window_ms = window_ms
        self._measuring = trio.Lock()
        self._number = 0

    def at(self, rest: Rest) -> "Api":
        """The same account at another of the venue's hosts, whose clock is the same."""
        other = Api(self.market, rest, self._credentials, self.throttle, self.clock, self._window_ms)
        other.known = self.known
        return other

    # --------------------------------------------------------------------------------------------------- requests

    async def query(
        self, cost: str, method: str, path: str, params: Params, decoder: "msgspec.json.Decoder[T]", sign: bool = True
    ) -> T | Verdict:
        """A question, when the limits have room for it. It may be asked again at any time."""
        await self.throttle.wait(Lane.OPEN, cost)
        return await self.send(method, path, params, decoder, sign=sign)

    async def send(
        self,
        method: str,
        path: str,
        params: Params,
        decoder: "msgspec.json.Decoder[T]",
        on_wire: Callable[[], None] = lambda: None,
        sign: bool = True,
    ) -> T | Verdict:
        """By REST, once, now."""
        text = encoded(params)
        if sign:
            refused = await self.synced()
            if refused is not None:
                return refused
            text = signed_query(self._stamped(params), self._credentials.sign)
        in_body = method in ("POST", "PUT")
        target = f"{path}?{text}" if text and not in_body else path
        headers = (*self._key, FORM) if in_body else self._key
        request = Request(method, target, headers, text.encode() if in_body else b"")
        reply = await self.rest.send(request, on_wire)
        if not isinstance(reply, Reply):
            return _unanswered(reply)
        return self._read(reply, decoder)

    async def call(
        self,
        socket: OrderSocket,
        method: str,
        params: Params,
        decoder: "msgspec.json.Decoder[T]",
        on_wire: Callable[[], None],
        timeout_seconds: float,
    ) -> T | Verdict:
        """Over the WebSocket API, once, now. A verdict of kind "not_sent" leaves REST free to be tried."""
        refused = await self.synced()
        if refused is not None:
            return refused
        self._number += 1
        number = f"r{self._number}"
        said = frame(number, method, self.signed(params))
        asked_ns = self.clock.now_ns()
        raw = await socket.call(number, method, said, on_wire, timeout_seconds)
        if not isinstance(raw, bytes):
            return _unanswered(raw)
        return self._read_answer(raw, decoder, asked_ns)

    async def act(
        self,
        socket: OrderSocket | None,
        call: str,
        method: str,
        path: str,
        params: Params,
        decoder: "msgspec.json.Decoder[T]",
        on_wire: Callable[[], None] = lambda: None,
    ) -> T | Verdict:
        """A request that changes something: over the socket while that is up, else by REST; never both."""
        if socket is not None and socket.ready:
            outcome = await self.call(socket, call, params, decoder, on_wire, ORDER_SECONDS)
            if not (isinstance(outcome, Verdict) and outcome.kind == "not_sent"):
                return outcome
        return await self.send(method, path, params, decoder, on_wire)

    def window(self, *orders: Order) -> dict[str, str | int]:
        """The parameter that says how old the request with these orders may be when it arrives."""
        return {"recvWindow": window_ms(orders, self.clock.now_ns(), self._window_ms)}

    def signed(self, params: Params) -> Params:
        """Of the WebSocket API; `synced` comes first."""
        stamped = {**self._stamped(params), "apiKey": self._credentials.key.reveal()}
        return signed_params(stamped, self._credentials.sign)

    # ------------------------------------------------------------------------------------------------------- time

    async def synced(self) -> Verdict | None:
        """Makes sure that the venue's clock is known well enough to sign; else why not."""
        now = self.rest.moment()
        self.known = offset.check(self.known, now)
        if self._is_sure(now):
            return None
        async with self._measuring:
            if self._is_sure(self.rest.moment()):
                return None  # another request saw to it
            why = await self.measure()
        if not isinstance(why, Failed) and self._is_sure(self.rest.moment()):
            return None
        text = why.why if isinstance(why, Failed) else "the venue's clock cannot be told well enough"
        return Verdict(Class.RETRY, "not_sent", "clock", text)

    async def measure(self) -> int | Failed:
        """Asks for the venue's time (ns), and learns how far it is from ours."""
        path = "/api/v3/time" if self.market is Market.SPOT else "/fapi/v1/time"
        reply = await self.rest.send(Request("GET", path))
        if not isinstance(reply, Reply):
            return Failed(_unanswered(reply).why)
        told = self._read(reply, _TIME)
        if isinstance(told, Verdict):
            return Failed(told.why)
        told_ns = told.serverTime * MILLISECOND
        measured = offset.measure(reply.asked, told_ns, reply.heard)
        if measured is None:
            return Failed("our clock jumped while the venue's was asked for")
        jumps = self.known.jumps
        self.known = offset.learn(self.known, measured)
        if self.known.jumps > jumps:
            LOG.warning("a clock has jumped", market=self.market.value, offset_ms=measured.offset_ns // MILLISECOND)
        return told_ns

    async def keep_time(self) -> None:
        """For ever."""
        while True:
            await self.throttle.wait(Lane.OPEN, "w1")
            await self.measure()
            await trio.sleep(CLOCK_SECONDS)

    def now_ns(self) -> int:
        """The venue's time by our reckoning; our own while nothing is known."""
        return self.clock.now_ns() + self._ahead_ns

    @property
    def _ahead_ns(self) -> int:
        return self.known.best.offset_ns if self.known.best is not None else 0

    def sure_ns(self) -> int:
        """The venue's time; 0 while it is not known well enough to sign by."""
        now = self.rest.moment()
        self.known = offset.check(self.known, now)
        return now.wall_ns + self.known.best.offset_ns if self._is_sure(now) and self.known.best else 0

    def _is_sure(self, now: Moment) -> bool:
        best = self.known.best
        if best is None:
            return False
        return now.ticks_ns - best.at.ticks_ns < AGE_MAX_NS and offset.error_ns(best, now) < ERROR_MAX_NS

    def _stamped(self, params: Params) -> dict[str, str | int]:
        window = {} if "recvWindow" in params else {"recvWindow": self._window_ms}
        return {**params, **window, "timestamp": self.now_ns() // MILLISECOND}

    # ---------------------------------------------------------------------------------------------------- answers

    def _read(self, reply: Reply, decoder: "msgspec.json.Decoder[T]") -> T | Verdict:
        for name, used in header_limits(tuple(reply.headers.items())):
            self.throttle.correct(name, used, asked_ns=reply.asked.wall_ns, ahead_ns=self._ahead_ns)
        if reply.status in PAUSE_NS:
            self._pause(reply.status, _seconds(reply.headers), reply.body)
        if reply.status != 200:
            return self._noted(judge_body(self.market, reply.status, reply.body))
        found = read_json(reply.body, decoder)
        if isinstance(found, Garbled):
            # Some refusals come with 200; whatever else it is, it is not what was promised.
            return self._noted(judge_body(self.market, 200, reply.body))
        return found

    def _read_answer(self, raw: bytes, decoder: "msgspec.json.Decoder[T]", asked_ns: int) -> T | Verdict:
        answer = read_json(raw, _ANSWER)
        if isinstance(answer, Garbled):
            return Verdict(Class.AMBIGUOUS, "", "garbled", answer.why)
        for limit in answer.rateLimits:
            if name := limit_name(limit):
                self.throttle.correct(name, limit.count, limit.limit, asked_ns, self._ahead_ns)
        if answer.status != 200:
            error = read_json(bytes(answer.error), _ERROR)
            if isinstance(error, Garbled):
                return self._noted(judge(self.market, answer.status, None, error.why))
            if answer.status in PAUSE_NS:
                waits = read_json(bytes(error.data) or b"{}", _WAITS)
                until_ms = 0 if isinstance(waits, Garbled) else waits.retryAfter
                left = self._left_ns(until_ms) if until_ms else None
                self._pause(answer.status, left, error.msg.encode())
            verdict = judge(self.market, answer.status, ErrorBody(error.code, error.msg))
            return self._noted(msgspec.structs.replace(verdict, data=bytes(error.data)))
        found = read_json(bytes(answer.result), decoder)
        return Verdict(Class.AMBIGUOUS, "", "garbled", found.why) if isinstance(found, Garbled) else found

    def _noted(self, verdict: Verdict) -> Verdict:
        if verdict.code == "-1021":  # outside of the window: whatever we knew of the clocks is wrong
            self.known = Known(None, self.known.jumps + 1)
        if verdict.klass is Class.HALT:
            LOG.error("the venue locks us out", market=self.market.value, reason=verdict.why)
        return verdict

    def _left_ns(self, until_ms: int) -> int:
        """Of a pause that ends at a moment of the venue's clock: surely all of it, however wrong we know that clock."""
        best = self.known.best
        error_ns = offset.error_ns(best, self.rest.moment()) if best is not None else SECOND
        return max(until_ms * MILLISECOND - self.now_ns() + error_ns, 0)

    def _pause(self, status: int, left_ns: int | None, body: bytes) -> None:
        """Nothing goes before the venue's own deadline. To go on after a 429 makes it a ban (418)."""
        until_ms = _banned_until(body)
        wait_ns = self._left_ns(until_ms) if until_ms else left_ns
        wait_ns = PAUSE_NS[status] if wait_ns is None else wait_ns
        why = "the venue has banned us (418)" if status == 418 else "too many requests (429)"
        self.throttle.close_until(self.rest.moment().wall_ns + min(wait_ns, 3 * _DAY), why)


def hear_answer(raw: bytes) -> Heard:
    """What a frame on the order socket is; for its Manners."""
    answer = read_json(raw, _ANSWER)
    if isinstance(answer, Garbled):
        return Heard(complaint=answer.why)
    if answer.id is not None:
        return Heard(number=str(answer.id))
    if answer.status not in (0, 200):
        # A revoked key, or a request that could not be read: which request it was is not said.
        return Heard(complaint=f"status {answer.status}: {bytes(answer.error)[:200].decode('utf-8', 'replace')}")
    return Heard()


def _unanswered(outcome: Rejection | Silence) -> Verdict:
    if isinstance(outcome, Rejection):
        return Verdict(Class.RETRY, outcome.kind, outcome.code, outcome.text)
    return Verdict(Class.AMBIGUOUS, "", "silence", outcome.why)


def _seconds(headers: Mapping[str, str]) -> int | None:
    """Retry-After, in ns."""
    told = next((v for k, v in headers.items() if k.lower() == "retry-after"), "")
    return int(told) * SECOND if told.isdecimal() and len(told) < 8 else None


def _banned_until(body: bytes) -> int:
    """ "... IP banned until 1700000000000. ..." """
    _, found, rest = body.partition(b"banned until ")
    digits = rest[:13]
    return int(digits) if found and digits.isdigit() and len(digits) == 13 else 0


_ANSWER = msgspec.json.Decoder(Answer)
_ERROR = msgspec.json.Decoder(_Error)
_WAITS = msgspec.json.Decoder(_Waits)
_TIME = msgspec.json.Decoder(ServerTime)
