"""Several engines share the accounts: each runs a whole engine (wiring) for every shard whose lease it has.

    sources -> router -> the shard's own engine, where it is held here
                      -> the inbox on the server, where it is not; its holder's `Inlet` is a source like any other

A shard is a journal with its leases, and everything that hangs on one: that part is as without shards. Here it is only
decided which leases to ask for (engine/core/allotment.py), and how a signal finds the engine that holds its account.
"""

import math
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Literal

import structlog
import trio
from msgspec.structs import replace

from actors.wiring import Engine, Parts, run_engine
from engine.core.allotment import Member, Shard, allot
from engine.core.messages import Control, Signal
from engine.edges.base import Arrival, Receipt
from engine.edges.dialects import DialectTerms, decode
from engine.runtime.clock import Clock
from engine.runtime.journal.base import Fenced, Journal, JournalFailed, Newer
from engine.runtime.journal.common import Away, Inbox, Letter, Roster, Sight

BEAT_SECONDS = 0.5  # between two looks at who is alive
ALIVE_SECONDS = 2.0  # at least: an engine that has not been heard of for so long is taken for dead
AGAIN_SECONDS = 1.0  # until a shard that has ended here is asked for again
LOOK_SECONDS = 0.1  # between two looks into the inbox
READ_MAX = 100  # letters of one shard in hand
WRITE_MAX = 200  # ... in one commit
BARRED_SECONDS = 60.0  # until it is looked whether a shard that could not run here can; longer each time
BARRED_MAX_SECONDS = 900.0
LOOKED_OVER_SECONDS = 30.0  # for a venue to answer then
HAND_SECONDS = 0.5  # for an engine to make room: one that is stuck must not keep signals and stops from the others
UNWRITTEN_MAX = 1_000  # beyond it the sources wait
STOP_SECONDS = 60.0  # for all shards to drain
LOG = structlog.get_logger("shards")

State = Literal["elsewhere", "waiting", "held", "ending", "failed"]


class Unusable(Exception):
    """A shard cannot run in this process as things are: a key is missing, a venue refuses it."""


# ------------------------------------------------------------------------------------------------- one shard's signals


class Inlet:
    """The source of a shard's engine: what the router hands in, and what other engines have left in the inbox."""

    def __init__(self, shard: str, inbox: Inbox, clock: Clock) -> None:
        self.name = "inbox"
        self.down = ""
        self.shard = shard
        self.unwritten = 0  # letters that this process is writing
        self._inbox, self._clock = inbox, clock
        self._to: trio.MemorySendChannel[Arrival] | None = None
        self._clear = False  # at the last look nothing was waiting
        self.leave: Callable[[], None] = lambda: None  # the router's: into the inbox with what is `unanswered`
        self._direct: dict[int, Arrival] = {}  # handed in, and not answered
        self._left: set[int] = set()  # ... those that go by the inbox, too
        self._put_off: set[int] = set()  # ... those whose senders can be put off
        self._count = 0
        self._handing = trio.CancelScope()
        self._in_hand: set[int] = set()  # letters
        self._struck: list[int] = []
        self._news = trio.Event()

    @property
    def open(self) -> bool:
        """Its engine takes signals."""
        return self._to is not None

    @property
    def straight(self) -> bool:
        """... and none of them waits that came before."""
        return self.open and self._clear and not self.unwritten

    async def run(self, arrivals: trio.MemorySendChannel[Arrival]) -> None:
        """For ever, from when on the engine takes signals."""
        self._to, self._clear = arrivals, False
        self._in_hand.clear()  # of an engine before; those letters come again
        self._struck.clear()
        try:
            while True:
                if not await self._look(arrivals):
                    self._news = trio.Event()
                    with trio.move_on_after(LOOK_SECONDS):
                        await self._news.wait()
        finally:
            self._to, self._clear = None, False
            self._handing.cancel()

    async def hand(self, arrival: Arrival, waits: bool) -> bool:
        """False: there is no engine, or no room in it (`waits`: for a while), and this is the caller's again."""
        if self._to is None:
            return False
        self._count += 1
        number = self._count
        handed = replace(arrival, answer=partial(self._answered, number))
        self._direct[number] = arrival
        if waits:
            self._put_off.add(number)
        sent = False
        try:
            if waits:
                with trio.move_on_after(HAND_SECONDS) as self._handing:
                    await self._to.send(handed)
                    sent = True
            else:
                self._to.send_nowait(handed)
                sent = True
        except trio.WouldBlock:
            pass  # told by the answer
        finally:
            if not sent:
                self._forget(number)
        return sent

    def unanswered(self) -> list[Arrival]:
        """What was handed in, has no answer yet, and must be in the inbox before anything that came later.

        The engine may take it all the same, before or after: its journal knows the id. The first word is the answer.
        """
        numbers = [number for number in self._direct if number in self._put_off and number not in self._left]
        self._left.update(numbers)
        return [replace(self._direct[number], answer=partial(self._answered, number)) for number in numbers]

    def send_away(self, receipt: Receipt) -> None:
        """Those whose senders wait, and whose engine has ended."""
        for number in [number for number in self._direct if number not in self._put_off]:
            self._answered(number, receipt)

    def written(self, count: int) -> None:
        self.unwritten -= count
        self._clear = False  # they wait in the inbox from now on: nothing goes past them until they were read
        self._news.set()

    def _answered(self, number: int, receipt: Receipt) -> None:
        if receipt.status == "busy" and number in self._put_off:  # its source would bring it behind newer ones
            self._handing.cancel()
            self.leave()
        elif (arrival := self._forget(number)) is not None:
            arrival.answer(receipt)

    def _forget(self, number: int) -> Arrival | None:
        self._left.discard(number)
        self._put_off.discard(number)
        return self._direct.pop(number, None)

    async def _look(self, arrivals: trio.MemorySendChannel[Arrival]) -> bool:
        """Whether there may be more at once."""
        unwritten, struck = self.unwritten, tuple(self._struck)
        try:
            letters = await self._inbox.read(self.shard, struck, READ_MAX)
        except (Away, JournalFailed) as error:
            self.down = str(error)
            self._clear = False
            return False
        self.down = ""
        del self._struck[: len(struck)]
        self._in_hand.difference_update(struck)
        self._clear = not (letters or unwritten)
        new = [letter for letter in letters if letter.id not in self._in_hand]
        for letter in new:
            self._in_hand.add(letter.id)
            await arrivals.send(self._arrival(letter))
        return bool(struck)

    def _arrival(self, letter: Letter) -> Arrival:
        return Arrival(
            raw=letter.raw,
            source=letter.source,
            dialect=letter.dialect or None,
            received_ns=letter.received_ns,
            received_tick=self._clock.ticks_ns(),
            answer=partial(self._settled, letter.id),
            trace_id=letter.trace_id or None,
            fallback_id=letter.fallback_id or None,
            delivery=letter.delivery or None,
            flaw=letter.flaw,
        )

    def _settled(self, number: int, receipt: Receipt) -> None:
        if receipt.status == "busy":  # it is offered again at the next look
            self._in_hand.discard(number)
        else:
            self._struck.append(number)
            self._news.set()


class Router:
    """From the sources to whoever holds the account."""

    def __init__(
        self,
        inlets: dict[str, Inlet],
        homes: dict[str, str],
        terms: DialectTerms,
        inbox: Inbox,
        live: Sequence[str],
        whose: Callable[[str], str],
    ) -> None:
        """`homes`: shards by account. `live`: sources whose senders wait for the verdict, and so are sent away rather
        than put off; `whose` tells them where to."""
        self._inlets, self._homes, self._terms = inlets, homes, terms
        self._inbox, self._live, self._whose = inbox, live, whose
        self._due: list[tuple[Letter, Callable[[Receipt], None]]] = []
        self._some = trio.Event()
        self._room = trio.Event()  # set when `_due` has got shorter
        for shard, inlet in inlets.items():
            inlet.leave = partial(self._leave_unanswered, shard)

    async def run(self, arrivals: trio.MemoryReceiveChannel[Arrival]) -> None:
        """For ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            async for arrival in arrivals:
                await self.route(arrival)

    async def route(self, arrival: Arrival) -> None:
        """What concerns every account goes to every shard, and is answered when all have it."""
        shards = self._shards_of(arrival)
        if len(shards) > 1:
            arrival = replace(arrival, answer=_Joined(arrival.answer, len(shards)))
        for shard in shards:
            await self._send(shard, arrival)

    def again(self, shard: str) -> None:
        """Its engine has ended: what that has not answered goes by the inbox, before what came meanwhile."""
        self._inlets[shard].send_away(Receipt("busy", text=self._why_not(shard)))
        self._leave_unanswered(shard)

    async def _send(self, shard: str, arrival: Arrival) -> None:
        inlet, live = self._inlets[shard], arrival.source in self._live
        if (inlet.straight or (live and inlet.open)) and await inlet.hand(arrival, waits=not live):
            return
        if live:
            return arrival.answer(Receipt("busy", text=self._why_not(shard)))
        while len(self._due) >= UNWRITTEN_MAX:
            self._room = trio.Event()
            await self._room.wait()
        self._leave_unanswered(shard)
        self._leave(shard, arrival)

    def _why_not(self, shard: str) -> str:
        inlet = self._inlets[shard]
        why = "whose engine has no room; ask again" if inlet.open else f"which {self._whose(shard)}; ask again there"
        return f"the account is of shard '{shard}', {why}, with the same id"

    def _leave_unanswered(self, shard: str) -> None:
        """An engine that ends now must leave the order of an account's signals behind, and not only the signals."""
        for arrival in self._inlets[shard].unanswered():
            self._leave(shard, arrival)

    def _leave(self, shard: str, arrival: Arrival) -> None:
        self._inlets[shard].unwritten += 1
        self._due.append((_letter(shard, arrival), arrival.answer))
        self._some.set()

    async def _write(self) -> None:
        """For ever: letters in the order in which they came; a server that is away comes back."""
        while True:
            await self._some.wait()
            batch = self._due[:WRITE_MAX]
            try:
                await self._inbox.put([letter for letter, _ in batch])
            except (Away, JournalFailed) as error:
                LOG.warning("inbox out of reach", reason=str(error), letters=len(self._due))
                await trio.sleep(AGAIN_SECONDS)
                continue
            del self._due[: len(batch)]
            if not self._due:
                self._some = trio.Event()
            self._room.set()
            for letter, answer in batch:
                self._inlets[letter.shard].written(1)
                answer(Receipt("recorded", text=f"left for whoever holds shard '{letter.shard}'"))

    def _shards_of(self, arrival: Arrival) -> tuple[str, ...]:
        """What cannot be read, or names no account of ours, may be judged by any: one that is open here."""
        every = tuple(self._inlets)
        anyone = (next((shard for shard in every if self._inlets[shard].open), every[0]),)
        if arrival.flaw:
            return anyone
        found = decode(
            arrival.raw,
            arrival.dialect,
            self._terms,
            source=arrival.source,
            received_ns=arrival.received_ns,
            trace_id=arrival.trace_id,
            fallback_id=arrival.fallback_id,
        )
        match found:
            case Signal():
                return (self._homes[found.account],) if found.account in self._homes else anyone
            case Control(name="policy.updated"):
                return (self._homes[found.account],) if found.account in self._homes else every
            case Control():  # of the whole engine, also where it names an account
                return every
            case _:
                return anyone


class _Joined:
    """One answer of several: that none could be had is told first of all, for then the whole comes again."""

    def __init__(self, answer: Callable[[Receipt], None], count: int) -> None:
        self._answer, self._left = answer, count
        self._busy: Receipt | None = None

    def __call__(self, receipt: Receipt) -> None:
        self._left -= 1
        self._busy = receipt if receipt.status == "busy" else self._busy
        if not self._left:
            self._answer(self._busy or receipt)


def _letter(shard: str, arrival: Arrival) -> Letter:
    return Letter(
        shard=shard,
        source=arrival.source,
        raw=arrival.raw,
        received_ns=arrival.received_ns,
        dialect=arrival.dialect or "",
        trace_id=arrival.trace_id or "",
        fallback_id=arrival.fallback_id or "",
        delivery=arrival.delivery or "",
        flaw=arrival.flaw,
    )


# -------------------------------------------------------------------------------------------------- which are held here


class Holding:
    """A shard as this process sees it."""

    def __init__(self, shard: Shard, inlet: Inlet) -> None:
        self.shard, self.inlet = shard, inlet
        self.state: State = "elsewhere"
        self.why = ""  # it failed here, the last time
        self.again_at = math.inf  # trio's time at which it is looked whether it could run here after all
        self.barred_seconds = BARRED_SECONDS
        self.wanted = False
        self.engine: Engine | None = None
        self.journal: Journal | None = None
        self.stop = trio.Event()
        self.scope = trio.CancelScope()


Make = Callable[[Holding, trio.Nursery, ExitStack], Awaitable[Parts]]
"""The parts of a shard's engine, with the tasks of its venues; raises Unusable, JournalFailed."""
Beside = Callable[["Shards", str, Engine], Awaitable[None]]
"""What goes on beside a shard's engine, by its name, until that ends."""


class Shards:
    """All of them, and the engines of those that are held here."""

    def __init__(
        self,
        me: Member,
        holdings: Sequence[Holding],
        roster: Roster,
        router: Router,
        make: Make,
        beside: Beside,
        alive_seconds: float,
    ) -> None:
        self.me = me
        self.holdings = tuple(holdings)
        self.sight = Sight((), {}, {})
        self.away = "the server has not been asked yet"  # why it is not known who is alive; "" when it is
        self.api = ""  # where this engine is asked; told to the others
        self.taking = False  # its sources are open
        self._roster, self._router, self._make, self._beside = roster, router, make, beside
        self._alive_ns = round(max(alive_seconds, ALIVE_SECONDS) * 1_000_000_000)
        self._leaving = trio.Event()

    def held(self) -> list[Engine]:
        """The engines that run here."""
        return [holding.engine for holding in self.holdings if holding.engine is not None]

    def settled(self) -> bool:
        """Every shard that is asked for here is held, and takes signals."""
        return all(h.engine is not None and h.inlet.open for h in self.holdings if h.wanted)

    def of(self, account: str) -> Holding | None:
        return next((holding for holding in self.holdings if account in holding.shard.accounts), None)

    def holder(self, shard: str) -> str:
        """The other engine that holds it, or has asked for it; "": none that is alive."""
        return next((m.name for m in self.sight.members if shard in m.holding and m.id != self.me.id), "")

    def whose(self, shard: str) -> str:
        """The same in words that end a sentence."""
        if other := self.holder(shard):
            at = self.sight.apis.get(other, "")
            return f"engine '{other}' holds{f' ({at})' if at else ''}"
        mine = any(h.wanted and h.shard.name == shard for h in self.holdings)
        return "is being taken over here" if mine else "no engine holds just now"

    async def run(self, stop: trio.Event) -> None:
        """Until `stop`; then every shard is drained and given up. Raises what must not happen in one of them."""
        async with trio.open_nursery() as nursery:
            beating: trio.CancelScope = await nursery.start(self._beat_for_ever, nursery)
            await stop.wait()
            beating.cancel()
            self._leaving.set()
            await self._say_goodbye()
            for holding in self.holdings:
                self._let_go(holding)
            nursery.cancel_scope.deadline = trio.current_time() + STOP_SECONDS

    async def _beat_for_ever(
        self, nursery: trio.Nursery, task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED
    ) -> None:
        with trio.CancelScope() as scope:
            task_status.started(scope)
            while True:
                await self._beat()
                self._act(nursery)
                await trio.sleep(BEAT_SECONDS)

    async def _beat(self) -> None:
        holding = tuple(h.shard.name for h in self.holdings if h.wanted)
        cannot = tuple(h.shard.name for h in self.holdings if h.state == "failed")
        self.me = replace(self.me, holding=holding, cannot=cannot)
        try:
            self.sight = await self._roster.beat(self.me, self.api, self._alive_ns)
        except (Away, JournalFailed) as error:
            if not self.away:
                LOG.warning("who is alive is not known", reason=str(error))
            self.away = str(error)
            return
        self.away = ""
        for other in self.sight.members:
            if other.name == self.me.name and other.id != self.me.id:
                LOG.warning("another engine has the same name", name=self.me.name)

    def _act(self, nursery: trio.Nursery) -> None:
        """Ask for what should be here, let go of what should not. What is known too little changes nothing."""
        if self.away:
            return
        plan = allot([holding.shard for holding in self.holdings], self.sight.members)
        for holding in self.holdings:
            mine = plan.get(holding.shard.name) == self.me.id
            if mine and not holding.wanted and holding.state == "elsewhere":
                holding.wanted, holding.state = True, "waiting"
                nursery.start_soon(self._serve, holding, name=f"shard/{holding.shard.name}")
            elif holding.wanted and not mine:
                LOG.info("shard given up", shard=holding.shard.name)
                self._let_go(holding)
            elif trio.current_time() >= holding.again_at:
                holding.again_at = math.inf
                nursery.start_soon(self._look_again, holding, name=f"shard/{holding.shard.name}/again")

    def _let_go(self, holding: Holding) -> None:
        """Drained if its engine runs; else nobody waits for its lease any more."""
        holding.wanted = False
        if holding.engine is not None:
            holding.state = "ending"
            holding.stop.set()
        else:
            holding.scope.cancel()

    async def _say_goodbye(self) -> None:
        with trio.move_on_after(AGAIN_SECONDS):
            try:
                await self._roster.leave(self.me)
            except (Away, JournalFailed):
                pass  # they miss us soon enough

    async def _serve(self, holding: Holding) -> None:
        """Engines of one shard after each other, while it is wanted here."""
        name = holding.shard.name
        while holding.wanted:
            holding.state, holding.stop = "waiting", trio.Event()
            try:
                with trio.CancelScope() as holding.scope:
                    await self._live(holding)
            except* Unusable as errors:
                self._bar(holding, _first(errors))
            except* Newer as errors:  # only another program can hold it, and that may be alive
                self._bar(holding, _first(errors), for_good=True)
            except* Fenced as errors:
                holding.why = _first(errors)
                LOG.error("shard lost", shard=name, reason=holding.why)
            except* JournalFailed as errors:
                holding.why = _first(errors)
                LOG.error("shard ended", shard=name, reason=holding.why)
            finally:
                holding.engine = holding.journal = None
            self._router.again(name)
            if holding.wanted:
                with trio.move_on_after(AGAIN_SECONDS):
                    await self._leaving.wait()
        if holding.state != "failed":
            holding.state = "elsewhere"

    def _bar(self, holding: Holding, why: str, for_good: bool = False) -> None:
        if why != holding.why or holding.wanted:
            LOG.error("shard cannot run here", shard=holding.shard.name, reason=why)
        holding.why, holding.wanted, holding.state = why, False, "failed"
        if not for_good:
            holding.again_at = trio.current_time() + holding.barred_seconds
            holding.barred_seconds = min(holding.barred_seconds * 2, BARRED_MAX_SECONDS)

    async def _look_again(self, holding: Holding) -> None:
        """Whether it could run here by now: its parts alone, without its lease. Else whoever holds it would give it up
        every few minutes for an engine that still lacks the key."""
        why = f"a venue did not answer within {LOOKED_OVER_SECONDS:g} s"
        try:
            with trio.move_on_after(LOOKED_OVER_SECONDS) as holding.scope, ExitStack() as held:
                async with trio.open_nursery() as services:
                    await self._make(holding, services, held)
                    services.cancel_scope.cancel()
                why = ""
        except* (Unusable, JournalFailed) as errors:
            why = _first(errors)
        if why:
            return self._bar(holding, why)
        LOG.info("shard could run here again", shard=holding.shard.name)
        holding.state = "elsewhere"

    async def _live(self, holding: Holding) -> None:
        """One engine, from its lease to its end."""
        with ExitStack() as held:
            async with trio.open_nursery() as services:
                parts = await self._make(holding, services, held)
                holding.journal = parts.journal
                try:
                    async with trio.open_nursery() as life:
                        await self._run(holding, parts, life)
                finally:
                    with trio.CancelScope(shield=True):
                        await parts.journal.close()  # what has ended before its time keeps no lease
                services.cancel_scope.cancel()

    async def _run(self, holding: Holding, parts: Parts, life: trio.Nursery) -> None:
        async def engine(task_status: trio.TaskStatus[Engine]) -> None:
            await run_engine(parts, holding.stop, task_status)
            life.cancel_scope.cancel()

        holding.engine = await life.start(engine)
        holding.state, holding.why, holding.barred_seconds = "held", "", BARRED_SECONDS
        life.start_soon(self._beside, self, holding.shard.name, holding.engine)
        LOG.info("shard held", shard=holding.shard.name, epoch=holding.engine.epoch)
        if not holding.wanted:  # let go in the very moment
            holding.stop.set()
        # Where a lease can no longer be renewed nothing may be sent: the engine is of no use, and a new one may be.
        await parts.journal.failure()


def _first(errors: BaseExceptionGroup[BaseException]) -> str:
    error: BaseException = errors
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)
