"""One exchange as two workers tell of it: what it lists, what it can do, its time. Sends what others have written.

One worker is for what changes something, one for questions, so that a slow list never stands before a cancel.
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec
import structlog
import trio

from engine.core.messages import Acked, Failed, InstrumentKind
from engine.core.times import SECOND
from engine.runtime.clock import Clock
from engine.venues.ccxt import errors, promises, rows
from engine.venues.ccxt.lines import Hello, Told
from engine.venues.ccxt.process import Gone, Worker
from engine.venues.ccxt.promises import Abilities
from engine.venues.ccxt.terms import QUESTION_SECONDS, READY_SECONDS, WINDOW_MS, CcxtTerms
from engine.venues.offset import Known, Moment, learn, measure
from engine.venues.throttle import Throttle

R = TypeVar("R")
T = TypeVar("T")
LOG = structlog.get_logger("ccxt")

SOCKET_MS = 8_000  # ccxt's own patience, shorter, so that an answer mostly comes from it
CLOCK_SECONDS = 30.0
LIMITED_NS = 5 * SECOND  # after a limiter's no that does not say how long
LIMITED_MAX_NS = 600 * SECOND


class Site:
    """`keep` it in a task."""

    def __init__(self, terms: CcxtTerms, throttle: Throttle, clock: Clock) -> None:
        self.terms, self.clock = terms, clock
        self.native = errors.native_of(terms.exchange, terms.kind is InstrumentKind.LINEAR)
        self.known = Known()
        self.listings: dict[str, rows.Listing] = {}  # all that were ever listed: what is held must not vanish with them
        self.listed: tuple[str, ...] = ()  # by now
        self.by_unified: dict[str, rows.Listing] = {}
        self._throttle = throttle
        self._kind = "spot" if terms.kind is InstrumentKind.SPOT else "swap"
        self.orders = self._worker("orders", lambda: ("load", ()), lambda told: None)
        self.questions = self._worker("questions", lambda: ("markets", (self._kind, False)), self._learn_markets)

    @property
    def able(self) -> Abilities:
        """As far as the questions' worker has said; before that nothing is possible."""
        return promises.abilities(self.questions.ready, self.terms.kind)

    async def keep(self) -> None:
        """Keeps both workers up and the exchange's clock known, until cancelled; then nothing of them is left."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.orders.keep)
            nursery.start_soon(self.questions.keep)
            while True:
                await trio.sleep(CLOCK_SECONDS)
                if self.able.clock:
                    await self.server_time_ns()
                    await self.orders.call("time", (), self.terms.request_seconds)  # it stamps by it

    async def server_time_ns(self) -> int | Failed:
        """The exchange's, or our own where it tells none."""
        if not await self.questions.until_ready(READY_SECONDS):
            return Failed(self.questions.problem or self.questions.why)
        if not self.able.clock:
            return self.clock.now_ns()
        began: list[Moment] = []
        told = await self.ask("time", (), WHOLE, began)
        if isinstance(told, Failed):
            return told
        measured = measure(began[0], told * 1_000_000, self.moment()) if began else None
        if measured is not None:
            self.known = learn(self.known, measured)
        return told * 1_000_000

    async def ask(
        self,
        method: str,
        arguments: tuple[Any, ...],
        decoder: "msgspec.json.Decoder[T]",
        began: list[Moment] | None = None,
    ) -> T | Failed:
        """`began` gets the moment when the request leaves: ccxt may have held it back for seconds."""
        on_door = None if began is None else lambda: began.append(self.moment())
        told = await self.questions.call(method, arguments, QUESTION_SECONDS, on_door)
        if isinstance(told, Gone) or told.error:
            limited = isinstance(told, Told) and errors.known(told.error).kind is errors.Class.ASK
            self.heard(told, limited)
            return errors.failed(told)
        return read(told, decoder)

    def heard(self, told: Told | Gone, limited: bool) -> None:
        if limited and isinstance(told, Told):
            wait_ns = min(told.retry_after * SECOND, LIMITED_MAX_NS) if told.retry_after else LIMITED_NS
            self._throttle.close_until(self.clock.now_ns() + wait_ns, f"{self.terms.exchange}: {told.error}")

    def traded(self) -> list[rows.Listing]:
        return [held for symbol in self.terms.symbols if (held := self.listings.get(symbol)) is not None]

    def moment(self) -> Moment:
        return Moment(self.clock.now_ns(), self.clock.ticks_ns())

    def venue_ns(self, began: list[Moment] | None = None) -> int:
        """The exchange's time as well as it is known: now, or when the first of these moments was."""
        ours_ns = began[0].wall_ns if began else self.clock.now_ns()
        return ours_ns + (self.known.best.offset_ns if self.known.best else 0)

    async def read_again(self) -> Failed | None:
        """The rules of now. ccxt rounds by those that its worker has read: where they changed, it reads again."""
        before = self.traded()
        told = await self.questions.call("markets", (self._kind, True), QUESTION_SECONDS)
        if isinstance(told, Gone) or told.error:
            return errors.failed(told)
        self._learn_markets(told)
        if self.traded() != before:
            again = await self.orders.call("load", (True,), QUESTION_SECONDS)
            if isinstance(again, Gone) or again.error:
                return errors.failed(again)
        return None

    async def set_leverage(self) -> Failed | None:
        if not self.terms.leverage:
            return None
        if not self.able.leverage:
            return Failed(f"ccxt cannot set a leverage at {self.terms.exchange}; set it there, and leave it out here")
        for held in self.traded():
            told = await self.orders.call("set_leverage", (self.terms.leverage, held.unified), QUESTION_SECONDS)
            answer = errors.answer_to_change(told, self.native)
            if not (answer is None or isinstance(answer, Acked)):
                return Failed(f"{held.unified}: leverage {self.terms.leverage} could not be set: {answer}")
        return None

    def _learn_markets(self, told: Told) -> None:
        found = read(told, MARKETS)
        if isinstance(found, Failed):
            LOG.error("the list of markets cannot be read", exchange=self.terms.exchange, reason=found.why)
            return
        listings: dict[str, rows.Listing] = {}
        doubled: list[str] = []
        mode = self.questions.ready.precision_mode
        for raw in found:
            try:
                held = rows.listing(MARKET(raw), self.terms.exchange, self.terms.kind, mode)
            except (msgspec.MsgspecError, rows.BadRow) as error:  # that one cannot be traded
                LOG.debug("a market cannot be read", exchange=self.terms.exchange, reason=str(error))
                continue
            if held is not None:
                doubled += [held.instrument.symbol] if held.instrument.symbol in listings else []
                listings[held.instrument.symbol] = held
        for symbol in doubled:  # two markets of one name cannot be told apart
            listings.pop(symbol, None)
        self.listed = tuple(listings)
        self.listings |= listings
        self.by_unified = {held.unified: held for held in self.listings.values()}

    def _worker(
        self, name: str, first: Callable[[], tuple[str, tuple[Any, ...]]], hear: Callable[[Told], None]
    ) -> Worker:
        def tell(why: str) -> None:
            if why:
                LOG.warning("ccxt worker down", exchange=self.terms.exchange, worker=name, reason=why)
            else:
                LOG.info("ccxt worker up", exchange=self.terms.exchange, worker=name)

        return Worker(name, self.hello, first, hear, tell)

    def hello(self) -> Hello:
        return Hello(
            exchange=self.terms.exchange,
            kind=self._kind,
            host=self.terms.host,
            credentials={name: secret.reveal() for name, secret in self.terms.credentials.items()},
            timeout_ms=SOCKET_MS,
            pace=2,
            window_ms=WINDOW_MS,
        )


WHOLE = msgspec.json.Decoder(int)
MARKETS = msgspec.json.Decoder(list[msgspec.Raw])
MARKET = msgspec.json.Decoder(rows.MarketRow).decode


def read(told: Told, decoder: "msgspec.json.Decoder[T]") -> T | Failed:
    try:
        return decoder.decode(told.value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        return Failed(f"an answer cannot be read: {error}")


def each(raws: Iterable[T], make: Callable[[T], R | None]) -> tuple[R, ...] | Failed:
    try:
        return tuple(made for raw in raws if (made := make(raw)) is not None)
    except rows.BadRow as error:
        return Failed(f"a row cannot be read: {error}")
