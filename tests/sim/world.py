"""A world from a seed: the whole engine as shipped, a venue, a source, a sink, a disk, an operator, and their fate.

Everything runs in one thread on a virtual clock with a seeded scheduler, so a seed is a run, to the byte. One life of
the engine (`Incarnation`) may end at any boundary of an effect; what is left then is the disk. A run has phases:
faults, calm, a fresh signal, the end; then the checker is asked.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from decimal import Decimal
from functools import partial
from hashlib import blake2b
from random import Random
from typing import Any

import msgspec
import structlog
import trio
from msgspec import Struct
from msgspec.structs import replace

from actors.real import admit
from actors.wiring import AccountParts, Engine, Parts, run_engine
from engine.core.messages import Halt, HaltKind, Limits, OutboxRow, Side
from engine.core.money import use_exact_context
from engine.core.tally import Tally
from engine.core.times import SECOND
from engine.edges.base import SinkDown
from engine.edges.signals import DialectTerms
from engine.runtime.clock import Clock
from engine.runtime.journal.base import Fenced, JournalFailed, Record
from engine.runtime.journal.memory import MemoryJournal
from engine.runtime.schedule import JumpClock, seeded_schedule
from engine.venues.throttle import Limit, Throttle
from tests.sim.checks import Evidence, Violation, bare_stretches, check
from tests.sim.cover import check_cover
from tests.sim.dead import CHANNELS, RESTARTED, check_dead
from tests.sim.disk import WorldDisk
from tests.sim.faces.wire import account, manners, office, section
from tests.sim.faults import Faults, Options, draw, suited
from tests.sim.feed import ACCOUNT, Feed, probe_body
from tests.sim.freezer import Freezer, below
from tests.sim.shared import LeasedJournal, SharedDisk
from tests.sim.truth import (
    Copied,
    Crashed,
    DiskBroke,
    DiskMended,
    Fell,
    Frozen,
    HaltCalled,
    Leased,
    Ousted,
    Phase,
    Probed,
    Ready,
    ResumeCalled,
    Started,
    StopReported,
    Synced,
    Thawed,
    Truth,
    TurnedAway,
    digest,
)
from tests.sim.venue import VENUE, SimVenue
from tests.sim.verdicts import Kept, check_verdicts

SINKS = ("sim", "second")
BEGAN_NS = 1_763_683_200 * SECOND  # wall time at the start of every run
POSITION_CAP = Decimal(4_000)  # so low that a burst of orders runs into it
CRASHES_MAX = 12
CALM_SECONDS = 130.0  # everything must have come to rest by then
FLAT_SECONDS = 30.0
PROBE_SECONDS = 20.0
STILL_SECONDS = 15.0
END_SECONDS = 45.0  # calls, the outbox and the disk are each waited for a while
RIVAL_SECONDS = 10.0
SIGNED_SECONDS = 20.0
PING_TIMEOUT_NS = 20 * SECOND
LIMITS = Limits(
    position_notional_max=POSITION_CAP,
    exposure_max=Decimal(7_000),
    losses_in_row_max=1000,
    drawdown_max=Decimal("0.5"),
    daily_loss_max=Decimal(50_000),
    balance_share_max=Decimal("0.5"),
)


class Report(Struct):
    """What a seed came to."""

    options: Options
    violations: list[Violation]
    trace_hash: str
    truth: Truth
    evidence: Evidence
    seconds: float  # simulated
    crashes: int
    kills: int  # drawn; those that were not spared are crashes
    bare_max: float  # seconds that a position lacked cover, at worst

    @property
    def seed(self) -> int:
        return self.options.seed


Script = Callable[["World"], Any]


def run_seed(
    seed: int,
    options: Options | None = None,
    crash_at: tuple[str, int] | None = None,
    script: Script | None = None,
    log: bool = False,
) -> Report:
    """Run the world of a seed to its end and ask the checker.

    `options` replace what the seed would draw; `crash_at` kills the engine at the n-th passing of one boundary;
    `script` is an async function that takes the place of the feed (a scenario); `log` lets the engine's log through.
    """
    use_exact_context()
    world = World(options or draw(seed), crash_at, script)
    with seeded_schedule(seed), nullcontext() if log else silence():
        trio.run(world.run, clock=JumpClock())
    return world.report()


class Incarnation:
    """One life of the engine, from its start to its crash. Dead, it has no effects any more."""

    def __init__(self, world: "World", number: int, disk: WorldDisk | None = None, host: int = 0) -> None:
        self.number, self.alive = number, True
        self.world, self.host = world, host
        self.disk = disk or world.disk
        self.scope = trio.CancelScope()
        self.over = trio.Event()
        self.stop = trio.Event()
        self.engine: Engine | None = None
        self.journal: MemoryJournal
        self.nursery: trio.Nursery | None = None
        self.root: trio.lowlevel.Task

    def boundary(self, where: str) -> None:
        """Just before or after an effect: here it may end."""
        if self.alive:
            self.world.passed(self, where)

    async def run(self) -> None:
        world = self.world
        self.root = trio.lowlevel.current_task()
        world.truth.tell(Started(world.wall_ns(), life=self.number))
        with self.scope:
            try:
                async with trio.open_nursery() as self.nursery:
                    self.engine = await self.nursery.start(self._live, world.parts(self))
                    if self.alive:  # else it was killed in the moment in which it came up
                        world.truth.tell(Ready(world.wall_ns(), life=self.number))
            except* Exception as errors:
                if self.alive:  # what a dying engine stumbles over is nobody's business
                    self._fell(errors)
        self.alive, self.nursery = False, None
        if not world.shared:
            self.disk.release(self.journal)
        self.over.set()

    async def _live(self, parts: Parts, task_status: trio.TaskStatus[Engine] = trio.TASK_STATUS_IGNORED) -> None:
        """As `actors.assembly` has it: a real venue is looked over first, and its task ends with the engine."""
        async with trio.open_nursery() as services:
            if self.world.office is not None:
                terms = section(self.world.options.face, self.world.venue.nature, LIMITS)
                await admit(parts.accounts[0], terms, services, self.stop)
            await run_engine(parts, self.stop, task_status=task_status)
            services.cancel_scope.cancel()

    def _fell(self, errors: BaseExceptionGroup[Exception]) -> None:
        world, why = self.world, summary(errors)
        if world.shared and errors.split(Fenced)[1] is None:
            world.truth.tell(Ousted(world.wall_ns(), life=self.number))
        elif errors.split(JournalFailed)[1] is None and "another engine is running" in why:
            world.truth.reach("a second engine was turned away")
            world.truth.tell(TurnedAway(world.wall_ns(), life=self.number, why=why))
        else:
            world.truth.tell(Fell(world.wall_ns(), life=self.number, why=why))

    def owns(self, task: trio.lowlevel.Task) -> bool:
        """Whether a task belongs to this process."""
        if task.name in ("journal.commit", "journal.lease"):  # of trio's own nursery
            frame = getattr(task.coro, "cr_frame", None)
            return frame is not None and self.journal.runs(frame.f_locals.get("self"))
        return below(task, self.root)


class World:
    """See the module."""

    def __init__(self, options: Options, crash_at: tuple[str, int] | None = None, script: Script | None = None) -> None:
        self.options, self.crash_at, self.script = options, crash_at, script
        self.faults = options.faults
        self.truth = Truth()
        seed = str(options.seed)
        self.fate = Random(f"{seed}/fate")
        nature, ways = suited(options.nature, options.face), manners(options.face)
        self.venue = SimVenue(nature, options.faults, seed, self.wall_ns, self.truth, ways)
        self.office = office(options.face, self.venue, seed)
        self.venue.visited = self.office is None
        self.truth.reach(f"by {options.face}")
        self.feed = Feed(options.load, seed, self.truth, self.wall_ns, self.venue.quote)
        self.feed.faults = options.faults
        self.shared: SharedDisk | None = None  # where two engines share the accounts
        if options.faults.lease_seconds:
            self.shared = SharedDisk(self._sync_seconds, self.truth.reach, options.faults.lease_seconds)
        self.disk = self.shared or WorldDisk(self._sync_seconds, self.truth.reach)
        self.disk.torn = options.faults.torn
        self.newest: list[Incarnation | None] = [None] * (2 if self.shared else 1)  # of each host
        self.rivals: list[Incarnation] = []  # engines that a person has started by mistake
        self.stopped: Incarnation | None = None  # by `freeze`
        self.grounded: set[int] = set()  # hosts whose engines are not started again
        self.lives = 0
        self.kills = 0  # drawn
        self.crashes = 0  # carried out
        self.signed: trio.Event | None = None  # who waits for the next order to be signed
        self.passings: dict[str, int] = {}
        self.ending = False
        self.quiescent = False
        self.sink_fates = {name: Random(f"{seed}/{name}") for name in SINKS}
        self.sink_dead = False  # the first of them
        self.rested: list[Violation] = []  # what was broken before the third phase

    def wall_ns(self) -> int:
        return BEGAN_NS + round(trio.current_time() * SECOND)

    # ---------------------------------------------------------------------------------------------------- the phases

    async def run(self) -> None:
        if self.office is not None:
            trio.socket.set_custom_socket_factory(self.office.net)
        async with trio.open_nursery() as nursery:
            self.freezer = Freezer()
            await nursery.start(self.venue.run)
            self._phase("faults")
            for host in range(len(self.newest)):
                nursery.start_soon(self._live_and_die, host)
            for task in (
                self._crash_now_and_then,
                self._break_disk,
                self._operate,
                self._human,
                self._freeze_now_and_then,
                self._start_rivals,
            ):
                nursery.start_soon(task)
            if self.script is not None:
                await self.script(self)
            else:
                nursery.start_soon(self.feed.run)
                await trio.sleep(self.options.load.faulty_seconds)
            await self._come_to_rest()
            nursery.cancel_scope.cancel()

    async def _come_to_rest(self) -> None:
        self._phase("calm")
        self.faults = self.feed.faults = Faults()
        self.venue.calm()
        self.thaw()
        self._mend_disk()
        await trio.sleep(30)  # whoever was dead lives again by then
        await self._resume_all()
        await trio.sleep(CALM_SECONDS)
        self._phase("flat")
        await self._resume_all()
        if (engine := self.engine) is not None:
            await engine.operator.flatten("operator", "end of the day", None, None)
        await trio.sleep(FLAT_SECONDS)
        self._phase("probe")
        await self._resume_all()
        self._probe("probe", "BTCUSDT")
        await trio.sleep(PROBE_SECONDS)
        self.venue.frozen = True  # nothing happens any more, so that what did can be held against the books
        await trio.sleep(STILL_SECONDS)
        if self.options.dead:
            self.rested = self._judge(self._evidence(quiescent=True))
            await self._live_on_without(self.options.dead)
        self.ending = True
        for waiting_life in self.newest:
            if waiting_life is not None and waiting_life is not self.life:
                waiting_life.alive = False  # it waits for a lease that it is not to get any more
                waiting_life.scope.cancel()
        if self.life is not None:
            self.life.stop.set()
            with trio.move_on_after(END_SECONDS) as waiting:
                await self.life.over.wait()
            if waiting.cancelled_caught:
                self.truth.tell(Fell(self.wall_ns(), life=self.life.number, why="did not end when told to stop"))
        self._phase("end")
        self.quiescent = not self.options.dead or CHANNELS[self.options.dead].settles

    async def _live_on_without(self, channel: str) -> None:
        """The third phase: one channel dies for ever, signals go on, and in the end a person stops the engine."""
        fate = Random(f"{self.options.seed}/without")
        self._phase("dead")
        self.truth.reach(f"without {channel}")
        self.venue.frozen = False
        self.venue.die(channel)
        self.feed.dead = channel == "the source"
        self.sink_dead = channel == "the sink"
        if channel == "the disk":
            self.disk.full = True
            self.truth.tell(DiskBroke(self.wall_ns(), how="full"))
        await trio.sleep(5)
        if CHANNELS[channel].executes:
            self._probe("probe2", "ETHUSDT")
        for _ in range(6):
            await trio.sleep(fate.expovariate(1 / 6))
            self.feed.offer_signal()
            if fate.random() < 0.1 and channel in RESTARTED and self.life is not None:
                self.kill(self.life, "without a channel")
        await trio.sleep(40)
        await self._resume_all()
        if (engine := self.engine) is not None and self.life is not None:
            await self._of_life(self.life, partial(self._stop, engine, True, "engine"))
        await trio.sleep(FLAT_SECONDS)
        self.venue.frozen = True
        await trio.sleep(STILL_SECONDS)

    def _probe(self, signal_id: str, symbol: str) -> None:
        """A fresh signal, which must be executed."""
        quote = self.venue.quote(symbol)
        assert quote is not None
        self.truth.tell(Probed(self.wall_ns(), signal_id=signal_id))
        self.feed.offer(signal_id, probe_body(signal_id, quote))

    def _phase(self, name: str) -> None:
        self.truth.tell(Phase(self.wall_ns(), name=name))

    @property
    def life(self) -> Incarnation | None:
        """The one that trades: where two engines share the accounts, the one that has the lease, as far as it lives."""
        if self.shared is None:
            return self.newest[0]
        living = [life for life in self.newest if life is not None and life.alive]
        return next((life for life in living if self.shared.holds(life.journal)), living[0] if living else None)  # type: ignore[arg-type]

    @property
    def engine(self) -> Engine | None:
        return self.life.engine if self.life is not None and self.life.alive else None

    # ------------------------------------------------------------------------------------------------- life and death

    async def _live_and_die(self, host: int = 0) -> None:
        async with trio.open_nursery() as nursery:
            while not self.ending:
                self.lives += 1
                self.newest[host] = life = Incarnation(self, self.lives, host=host)
                nursery.start_soon(life.run)
                await life.over.wait()
                if self.ending or host in self.grounded:
                    return
                await trio.sleep(self.fate.choice((0.05, 0.5, 3.0, 20.0)) if self.faults.crash_mean else 0.5)

    def passed(self, life: Incarnation, where: str) -> None:
        """A boundary was passed: the k-th of its kind may be the one, or the dice say so."""
        self.passings[where] = count = self.passings.get(where, 0) + 1
        signed = "submit.before" if self.office is None else "submit.signed"
        if where == signed and self.signed is not None and self.faults.freeze_mean and life is self.life:
            self.freeze(life)
            self.signed.set()
        if self.crash_at == (where, count):
            return self.kill(life, where)
        chance = self.faults.crash_at_boundary
        if chance and self.crashes < CRASHES_MAX and self.fate.random() < chance:
            self.kill(life, where)

    def kill(self, life: Incarnation, where: str) -> None:
        """`kill -9`: nothing of this incarnation has any effect from here on; the disk keeps what it has."""
        if not life.alive:
            return
        self.kills += 1
        if self.kills in self.options.spared:
            return
        life.alive = False
        self.crashes += 1
        self.truth.reach(f"crash at {where}")
        if isinstance(life.journal, LeasedJournal):
            life.journal.killed = True
        kept = self.shared.kill(life.journal, self.fate) if self.shared else self.disk.crash(self.fate)  # type: ignore[arg-type]
        self.truth.tell(Synced(self.wall_ns(), seq=kept))
        self.truth.tell(Crashed(self.wall_ns(), life=life.number, where=where, kept=kept))
        if self.stopped is life or not self.shared:
            self.thaw()
        life.scope.cancel()
        life.over.set()
        if self.office is not None:
            self.office.net.hang_up(life)

    def freeze(self, life: Incarnation) -> None:
        """SIGSTOP: it keeps what it has, locks too, and does nothing until `thaw`."""
        if life.alive and not self.freezer.frozen:
            self.freezer.freeze(life.owns)
            self.stopped = life
            self.frozen_ns = self.wall_ns()
            self.truth.tell(Frozen(self.wall_ns(), life=life.number))

    def thaw(self) -> None:
        if not self.freezer.frozen:
            return
        if self.wall_ns() - self.frozen_ns > PING_TIMEOUT_NS:
            self.venue.give_up_on_clients()
        self.freezer.thaw()
        assert self.stopped is not None
        if self.stopped.alive:
            self.truth.tell(Thawed(self.wall_ns(), life=self.stopped.number))
        self.stopped = None

    async def _freeze_now_and_then(self) -> None:
        fate = Random(f"{self.options.seed}/freezes")
        while self.faults.freeze_mean:
            await trio.sleep(fate.expovariate(1 / self.faults.freeze_mean))
            if fate.random() < 0.5:
                await self._signed()
            if self.life is None or not self.faults.freeze_mean:
                continue
            self.freeze(self.life)
            await trio.sleep(fate.uniform(0, self.faults.freeze_max))
            self.thaw()

    async def _signed(self) -> None:
        """Until the process is stopped between an order's signature and its first byte, or no order comes."""
        self.signed = trio.Event()
        with trio.move_on_after(SIGNED_SECONDS):
            await self.signed.wait()
        self.signed = None

    async def _start_rivals(self) -> None:
        """A person starts a second engine by mistake, now and then while the first one is stopped."""
        fate = Random(f"{self.options.seed}/rivals")
        while self.faults.rival_mean and not self.shared:  # there it stands by, and does so anyway
            await trio.sleep(fate.expovariate(1 / self.faults.rival_mean))
            if self.engine is not None and self.faults.rival_mean:
                if self.freezer.frozen:
                    self.truth.reach("a second engine was started while the first was stopped")
                await self.rival()

    async def rival(self, disk: WorldDisk | None = None, seconds: float = RIVAL_SECONDS) -> None:
        """Until it has been turned away; one that comes up (on a disk of its own) is ended again after a while."""
        self.lives += 1
        rival = Incarnation(self, self.lives, disk)
        self.rivals.append(rival)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rival.run)
            with trio.move_on_after(seconds):
                await rival.over.wait()
            if self._found_it_free(rival):
                self.kill(rival, "a second engine that found the journal free")
            rival.alive = False
            nursery.cancel_scope.cancel()
        self.rivals.remove(rival)

    def _found_it_free(self, rival: Incarnation) -> bool:
        begun = rival.alive and rival.disk is self.disk and hasattr(rival, "journal")
        return begun and self.disk.held_by(rival.journal)

    async def _crash_now_and_then(self) -> None:
        while self.faults.crash_mean:
            await trio.sleep(self.fate.expovariate(1 / self.faults.crash_mean))
            life = self._one_of_two() if self.shared else self.life
            if life is not None and self.faults.crash_mean and self.crashes < CRASHES_MAX:
                self.kill(life, "any time")

    def _one_of_two(self) -> Incarnation | None:
        """Mostly the one that has the lease."""
        return self.fate.choice((self.life, self.life, *self.newest))

    async def _break_disk(self) -> None:
        """The disk is full, or lies; after a while a person mends it and starts the engine again, whichever runs on it:
        one whose journal has failed protects without a record until then (seed 1286: it was one started by mistake)."""
        while self.faults.disk_breaks_mean:
            await trio.sleep(self.fate.expovariate(1 / self.faults.disk_breaks_mean))
            if not self.faults.disk_breaks_mean:
                return
            full = self.fate.random() < 0.5
            self.disk.full, self.disk.fail_sync = full, not full
            self.truth.reach("disk full" if full else "sync failed")
            self.truth.tell(DiskBroke(self.wall_ns(), how="full" if full else "sync"))
            await trio.sleep(self.fate.choice((0.5, 3.0, 15.0)))
            self._mend_disk()

    def _mend_disk(self) -> None:
        if self.disk.full or self.disk.fail_sync:
            self.disk.full = self.disk.fail_sync = False
            self.truth.tell(DiskMended(self.wall_ns()))
            for life in (*self.newest, *filter(self._found_it_free, self.rivals)):
                if life is not None:
                    self.kill(life, "restart after the disk failed")

    # --------------------------------------------------------------------------------------------------------- people

    async def _operate(self) -> None:
        """An operator who halts this or that, with or without flattening, and resumes."""
        while self.faults.halt_mean:
            await trio.sleep(self.fate.expovariate(1 / self.faults.halt_mean))
            engine = self.engine
            if engine is None or not self.faults.halt_mean:
                continue
            scope = self.fate.choice(("engine", f"account/{ACCOUNT}", f"symbol/{ACCOUNT}/BTCUSDT"))
            flatten = self.fate.random() < 0.5
            self.truth.tell(HaltCalled(self.wall_ns(), scope=scope))
            if any(not o.reduce_only for o in self.venue.orders.values() if o.status == "open"):
                self.truth.reach("halt with an opener at the venue")
            assert self.life is not None
            await self._of_life(self.life, partial(self._stop, engine, flatten, scope))
            await trio.sleep(self.fate.expovariate(1 / 5))
            await self._resume(scope)

    async def _stop(self, engine: Engine, flatten: bool, scope: str) -> None:
        told = await engine.operator.stop("op", "drill", flatten, scope)
        self.truth.tell(
            StopReported(self.wall_ns(), scope=scope, flat=told.flat, durable=told.durable, flatten=flatten)
        )

    async def _resume_all(self) -> None:
        engine = self.engine
        halts: tuple[Halt, ...] = engine.world.switch.halts() if engine is not None else ()
        for halt in halts:
            await self._resume(halt.scope, halt.kind)

    async def _resume(self, scope: str, kind: HaltKind | None = None) -> None:
        life, engine = self.life, self.engine
        if life is not None and engine is not None:
            self.truth.tell(ResumeCalled(self.wall_ns(), scope=scope))
            await self._of_life(life, partial(engine.operator.resume, scope, "op", "drill is over", kind))

    async def _of_life(self, life: Incarnation, command: Callable[[], Any]) -> None:
        """A command to one incarnation, carried out by it, given up when that dies."""
        if life.nursery is None:
            return
        done = trio.Event()

        async def carry_out() -> None:
            try:
                await command()
            except JournalFailed:
                self.truth.reach("an operator was told that the journal has failed")
            done.set()

        async def watch() -> None:
            await life.over.wait()
            done.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch)
            life.nursery.start_soon(carry_out)
            await done.wait()
            nursery.cancel_scope.cancel()

    async def _human(self) -> None:
        """Somebody who trades by hand in the same account."""
        while self.faults.human_mean:
            await trio.sleep(self.fate.expovariate(1 / self.faults.human_mean))
            if not self.faults.human_mean:
                return
            symbol = self.fate.choice(tuple(self.venue.markets))
            market = self.venue.markets[symbol]
            qty = self.fate.randint(1, 100) * market.instrument.lot
            side = self.fate.choice((Side.BUY, Side.SELL))
            if self.venue.nature.spot and side is Side.SELL:
                qty = min(qty, self.venue.sellable(market) // market.instrument.lot * market.instrument.lot)
            if qty > 0:
                self.venue.human_trades(symbol, side, qty)

    # ----------------------------------------------------------------------------------------------- the engine's parts

    def parts(self, life: Incarnation) -> Parts:
        clock = Clock(now_ns=self.wall_ns, ticks_ns=self.wall_ns)
        rng = Random(f"{self.options.seed}/engine/{life.number}")
        life.journal = self._journal(life, clock)
        return Parts(
            env="sim",
            clock=clock,
            journal=life.journal,
            rng=rng,
            accounts=(self._account(life, clock, rng),),
            quote=self.venue.quote,
            sources=(self.feed.source(life),),
            sinks=tuple(SimSink(self, life, name) for name in SINKS),
            dialects=DialectTerms(account=ACCOUNT),
            dead_letter=lambda malformed: None,
            tally=Tally(),
        )

    def _journal(self, life: Incarnation, clock: Clock) -> MemoryJournal:
        def passed(where: str) -> None:
            self._journaled(life, where)

        if self.shared is None or life.disk is not self.shared:
            return MemoryJournal(life.disk, clock, passed)
        return LeasedJournal(self.shared, clock, passed, life.host, lambda: self._leased(life))

    def _leased(self, life: Incarnation) -> None:
        self.truth.tell(Leased(self.wall_ns(), life=life.number))

    def _account(self, life: Incarnation, clock: Clock, rng: Random) -> AccountParts:
        if self.office is None:
            throttle = Throttle((Limit(10, SECOND),), clock)
            return AccountParts(ACCOUNT, VENUE, self.venue.wire(life, throttle), throttle, LIMITS)
        parts = account(ACCOUNT, VENUE, self.options.face, self.office, self.venue, life, clock, rng)
        return replace(parts, limits=LIMITS)

    def _journaled(self, life: Incarnation, where: str) -> None:
        """A boundary of the journal; what a sync has made safe is told before anything can happen after it."""
        if where == "sync.after" and life.alive and life.disk is self.disk:
            place = self.disk.reader().place()
            if not self.venue.visited and self.disk.reader().state(ACCOUNT).reconciled:
                self.venue.visited = True
            self.truth.tell(Synced(self.wall_ns(), seq=place.seq, digest=place.hash.hex()[:16]))
        life.boundary(f"journal.{where}")

    def _sync_seconds(self) -> float:
        if self.fate.random() < self.faults.disk_slow:
            return self.fate.uniform(0, self.faults.disk_slow_max)
        return self.fate.choice((0.0, 0.0002, 0.002))

    # ------------------------------------------------------------------------------------------------------ the verdict

    def report(self) -> Report:
        """After the run: what the disk holds, held against the truth."""
        evidence = self._evidence(self.quiescent)
        violations = self._judge(evidence)
        if self.options.dead:
            violations = check_dead(evidence, self.options.dead, violations)
        bare = [(b.until_ns - b.since_ns) / SECOND for b in bare_stretches(evidence)]
        return Report(
            options=self.options,
            violations=list(dict.fromkeys(self.rested + violations)),
            trace_hash=self.truth.trace_hash,
            truth=self.truth,
            evidence=evidence,
            seconds=(evidence.end_ns - BEGAN_NS) / SECOND,
            crashes=self.crashes,
            kills=self.kills,
            bare_max=max(bare, default=0.0),
        )

    def _evidence(self, quiescent: bool) -> Evidence:
        reader = self.disk.reader()
        records: list[Record] = []
        while page := reader.records(after=records[-1].seq if records else 0):
            records += page
        return Evidence(
            entries=self.truth.entries,
            records=records,
            instruments=[m.instrument for m in self.venue.markets.values()],
            positions={p.symbol: p.qty for p in reader.positions(ACCOUNT)},
            families=self.options.families,
            position_cap=POSITION_CAP,
            quiescent=quiescent,
            chain_error=chain_error(reader),
            sinks={cursor.sink: cursor.event_id for cursor in reader.cursors() if cursor.wanted},
        )

    def _judge(self, evidence: Evidence) -> list[Violation]:
        kept = Kept(limits=LIMITS, live=frozenset(o.cid for o in self.disk.reader().state(ACCOUNT).orders))
        return check(evidence) + check_verdicts(evidence, kept) + check_cover(evidence)


def chain_error(reader: Any) -> str:
    """The journal's chain of hashes, worked out again from its bytes; "" when it is whole."""
    before = bytes(32)
    for line in reader.lines():
        before = blake2b(b"%b%d:%b" % (before, line.seq, line.fact), digest_size=32).digest()
        if before != line.hash:
            return f"record {line.seq} does not match its hash"
    return ""


class SimSink:
    """Where confirmations and events go; it may be down, and may have taken part of what it says it has not."""

    def __init__(self, world: World, life: Incarnation, name: str) -> None:
        self.name = name
        self._world, self._life, self._fate = world, life, world.sink_fates[name]
        self._boundary = "sink" if name == SINKS[0] else "second"

    async def send(self, rows: tuple[OutboxRow, ...]) -> None:
        world, life, fate = self._world, self._life, self._fate
        await trio.sleep(fate.choice((0.0, 0.001, 0.05)))
        life.boundary(f"{self._boundary}.before")
        if not life.alive:
            await trio.sleep_forever()
        if world.sink_dead if self.name == SINKS[0] else world.faults.sink_away:
            world.truth.reach("sink away")
            raise SinkDown("connection refused")
        down = fate.random() < world.faults.sink_down
        for row in rows[: fate.randint(0, len(rows))] if down else rows:
            copied = digest(msgspec.json.encode(row.event))
            told: dict[str, Any] = {"name": row.event.name, "key": row.event.key, "digest": copied, "sink": self.name}
            world.truth.tell(Copied(world.wall_ns(), event_id=row.event_id, **told))
        life.boundary(f"{self._boundary}.after")
        if not life.alive:
            await trio.sleep_forever()
        if down:
            world.truth.reach("sink down")
            raise SinkDown("connection reset")


@contextmanager
def silence() -> Iterator[None]:
    """No log lines: a world's faults would fill the screen."""

    def drop(logger: object, name: str, event: object) -> dict[str, object]:
        raise structlog.DropEvent

    before = structlog.get_config()
    structlog.configure(processors=[drop], cache_logger_on_first_use=False)
    try:
        yield
    finally:
        structlog.configure(**before)


def summary(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}"[:500]
