"""Who talks to whom. Opens the channels, starts the actors in order, drains them in reverse, and alone knows all.

    source -> arrivals -> ingest -> gate -> order actor of (account, symbol) -> venue
                                     ^             |   ^
                                     +-- standing -+   +-- listener, reconciler, protector, operator
                                                   +-- journal -> publisher of (sink) -> sink

| channel          | room   | when it is full                                                            |
|------------------|--------|----------------------------------------------------------------------------|
| arrivals         | 256    | the source waits (HTTP: 503)                                               |
| gate             | 50,000 | broken invariant: halt. Signals take at most 256 places (`unjudged`)       |
| order actor      | 10,000 | its symbol halts, it is made anew; the mail is dropped, at nobody's cost   |
| protector        | 50,000 | broken invariant: halt                                                     |
| metrics          | 10,000 | the measurement is dropped and counted                                     |

Start-up and recovery are one path: load the open state, make doubtful what has no answer, compare with the venue,
protection first, then open the gate.
"""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from functools import partial
from random import Random

import structlog
import trio
from msgspec import Struct
from msgspec.structs import replace

from actors.desk import Desk, Holding, UnknownInstrument, empty, holdings
from actors.ess import EssPorts, ess
from actors.gate import GatePorts, gate, react, ticker, turn_away
from actors.ingest import Acknowledger, IngestPorts, ingest
from actors.listener import listener
from actors.metrics import IntervalLog, LagWatch, MetricsMail, metrics
from actors.operator import Operator, OperatorPorts
from actors.ports import Account, Arrived, GateMail, World
from actors.protector import protector
from actors.publisher import Outlet, publisher
from actors.reconciler import Reconciler, ReconcilerPorts
from actors.relister import RelisterPorts, relister
from actors.stalls import stalls
from engine.core.admission import AccountTerms, Admission
from engine.core.blotter import Seen
from engine.core.bounds import Bounds
from engine.core.breakers import Breakers, OwnTerms
from engine.core.cursors import begin
from engine.core.ess import EssTerms, Said, Unanswered, Watch
from engine.core.messages import (
    ZERO,
    Alerted,
    AnyFact,
    Enact,
    EngineStarted,
    EngineStopped,
    Failed,
    Halt,
    Instrument,
    KeyNoted,
    Limits,
    Malformed,
    Position,
    PositionReport,
    Quote,
    Reconciled,
    Standing,
    StreamState,
    Timed,
    VenueReport,
)
from engine.core.position import closable
from engine.core.tally import Tally
from engine.edges.base import Arrival, Sink, Source
from engine.edges.dialects import DialectTerms
from engine.runtime.clock import Clock
from engine.runtime.deliveries import Deliveries
from engine.runtime.journal.base import Fenced, Journal, JournalFailed, OpenState
from engine.runtime.mail import offer, post, waiting
from engine.runtime.supervise import Fallen, Run, Window, attempt, supervise
from engine.runtime.switch import Switch
from engine.venues.base import KeepsOrders, Swift, Venue
from engine.venues.throttle import Throttle

ARRIVALS = 256
UNJUDGED = 256
GATE = 50_000
METRICS = 10_000
LATE_SECONDS = 5.0  # for the other accounts' instruments, once those of one are known
START_SECONDS = 30.0  # for the first reconciliation, before sources are opened all the same
SETTLE_SECONDS = 30.0  # for the reconciliation after the gate was made anew; the reconciler goes on all the same
CALLS_SECONDS = 10.0  # for calls to end in a drain, and for a stop that could not be placed yet
OUTBOX_SECONDS = 10.0  # for the outbox to empty in a drain
LOG = structlog.get_logger("engine")


class AccountParts(Struct, frozen=True):
    """One account as configured."""

    name: str
    venue_name: str
    venue: Venue
    throttle: Throttle
    limits: Limits | None
    swift: Swift | None = None
    bounds: Bounds | None = None
    own_market: bool = True  # the quotes are of its own venue; else they say nothing of when its stops must trigger


class EssParts(Struct, frozen=True):
    """A risk service outside: how it is asked, how often, and what its silence means."""

    terms: EssTerms
    ask: Callable[[], Awaitable[Said | Unanswered]]
    every_seconds: float


class Looked(Struct, frozen=True):
    """Looks at keys of the vault from before the journal was open; `recorded` is called when they are durable in it."""

    facts: tuple[KeyNoted, ...]
    recorded: Callable[[], None]


class Parts(Struct, frozen=True):
    """Everything that is chosen outside: by assembly.py for life, by tests for theirs."""

    env: str
    clock: Clock
    journal: Journal
    rng: Random
    accounts: tuple[AccountParts, ...]
    quote: Callable[[str], Quote | None]
    sources: tuple[Source, ...]
    sinks: tuple[Sink, ...]
    dialects: DialectTerms
    dead_letter: Callable[[Malformed], None]
    tally: Tally
    lag: LagWatch | None = None
    interval_log: IntervalLog | None = None
    breakers: OwnTerms = OwnTerms()
    ess: EssParts | None = None
    build: str = ""
    config_hash: str = ""
    looked: Looked | None = None
    relist_seconds: float = 3600.0  # between two readings of the venues' instruments


class Engine:
    """A running engine, as the API, the demo and tests see it."""

    def __init__(self, parts: Parts, world: World, state: OpenState, breakers: Breakers) -> None:
        self.parts = parts
        self.breakers = breakers
        self.world = world
        self.epoch = state.epoch
        self.started_ns = world.clock.now_ns()
        self.streams: dict[str, StreamState] = {}
        self.outlets = {sink.name: Outlet() for sink in parts.sinks}
        self.fallen = Fallen()
        self.reconciled: dict[str, bool] = {a.name: False for a in parts.accounts}
        self.watch = None if parts.ess is None else Watch(parts.ess.terms, self.started_ns)
        self.gate_open = False
        self.draining = False
        self.instruments: dict[str, dict[str, Instrument]] = {}
        self.standings: dict[tuple[str, str], Standing] = {}
        self.desk: Desk
        self.operator: Operator
        self.settle: Callable[[str], Awaitable[bool]]  # a round of reconciliation of an account
        self.admission: Admission
        self.arrivals: trio.MemorySendChannel[Arrival]
        self.channels: dict[str, trio.MemorySendChannel[object]] = {}
        self._throttles = {a.name: a.throttle for a in parts.accounts}

    @property
    def down(self) -> list[str]:
        """Actors that stay down."""
        return self.fallen.names()

    def instrument(self, account: str, symbol: str) -> Instrument | None:
        return self.instruments.get(account, {}).get(symbol)

    def active(self, account: str) -> tuple[str, ...]:
        """Symbols that hold a position or a live order."""
        return tuple(
            symbol
            for (owner, symbol), s in self.standings.items()
            if owner == account and (s.position.qty or s.live_orders)
        )

    def quiet(self) -> bool:
        """Nothing waits in a mailbox and no order is on its way: all that was asked for has come to rest."""
        busy = any(c.statistics().current_buffer_used for c in self.channels.values()) or self.desk.backlog()
        return not busy and not any(s.moving for s in self.standings.values())

    def covered(self) -> bool:
        """Every position has its stop at the venue, as far as it can have one."""
        return not any(s.uncovered for s in self.standings.values())

    def closed(self, account: str) -> tuple[Halt, ...]:
        """Why entries of an account are closed, beside the switch."""
        if not self.gate_open or not self.reconciled.get(account):
            return (self._halt(account, "start-up reconciliation has not passed"),)
        if not self.streams[account].up:
            return (self._halt(account, f"the private stream is down: {self.streams[account].why}"),)
        if why := self._throttles[account].shut():
            return (self._halt(account, why),)
        if self.watch is not None and (why := self.watch.held(self.world.clock.now_ns())):
            return (self._halt(account, why),)
        if down := self.fallen.names("engine", f"account/{account}"):
            return (self._halt(account, f"down: {', '.join(down)}"),)
        return ()

    def _halt(self, account: str, reason: str) -> Halt:
        return Halt(f"account/{account}", reason, self.world.clock.now_ns(), "engine", latched=False)


async def run_engine(
    parts: Parts, stop: trio.Event, task_status: trio.TaskStatus[Engine] = trio.TASK_STATUS_IGNORED
) -> None:
    """From the journal's open state to a drained, closed journal.

    Raises JournalFailed when it must not start, and Fenced when another engine has taken its accounts over.
    """
    state = await parts.journal.open()
    parts.tally.adopt(state.orders)
    switch = Switch(parts.journal, parts.clock, state.halts)
    breakers = Breakers(parts.breakers)
    measured, measurements = trio.open_memory_channel[MetricsMail](METRICS)

    def observe(facts: tuple[AnyFact, ...]) -> None:
        if not offer(measured, facts):
            parts.tally.dropped += len(facts)
        for fact in facts:
            if isinstance(fact, Alerted):
                log = LOG.error if fact.severity == "critical" else LOG.warning
                log("alert", kind=fact.kind, text=fact.text, account=fact.account, symbol=fact.symbol)
            for halt in breakers.fact(fact):
                trip(halt)

    def trip(halt: Halt) -> None:
        """Entries stop in memory at once; the switch writes it down, and the alert is counted and logged."""
        kind = "reject_storm" if "/rejects/" in halt.by else "engine_stall"
        at_ns, text = parts.clock.now_ns(), f"{halt.scope}: {halt.reason}"
        parts.journal.append((alert := Alerted(at_ns=at_ns, severity="critical", kind=kind, text=text, cause=halt.by),))
        switch.halt(halt)
        observe((alert,))

    def timed(sample: Timed) -> None:
        if not offer(measured, sample):
            parts.tally.dropped += 1

    world = World(parts.env, parts.clock, parts.journal, switch, parts.rng, parts.quote, observe, timed)
    engine = Engine(parts, world, state, breakers)
    started = EngineStarted(
        at_ns=parts.clock.now_ns(), epoch=state.epoch, build=parts.build, config_hash=parts.config_hash
    )
    # What is executed from the first start on is ours to book, also by a life that comes after a crash in the midst of
    # the first comparison: such a one asks from here, and not from its own beginning.
    met = tuple(row.account for row in state.reconciled)
    firsts = (Reconciled(account=a.name, venue_ns=started.at_ns) for a in parts.accounts if a.name not in met)
    cursors = begin((sink.name for sink in parts.sinks), state.cursors, state.events)
    first = parts.journal.append((started, *(parts.looked.facts if parts.looked else ())), (*firsts, *cursors))
    async with trio.open_nursery() as nursery:
        if parts.looked is not None:
            nursery.start_soon(_record, parts.journal, first, parts.looked.recorded)
        nursery.start_soon(_leave_when_taken_over, parts.journal)
        nursery.start_soon(metrics, measurements, parts.tally, parts.lag, parts.interval_log)
        watch = partial(stalls, breakers, world, trip)
        nursery.start_soon(
            supervise, "stalls", "engine", watch, switch, parts.clock, engine.fallen, None, name="stalls"
        )
        await _run(engine, state, stop, nursery, task_status)
        nursery.cancel_scope.cancel()


async def _record(journal: Journal, seq: int, recorded: Callable[[], None]) -> None:
    try:
        await journal.durable(seq)
    except JournalFailed:
        return  # the next start writes them down
    recorded()


async def _leave_when_taken_over(journal: Journal) -> None:
    """Another engine owns the accounts: this one ends in the middle of whatever it does. Raises Fenced."""
    try:
        await journal.failure()
    except Fenced:
        await journal.close()
        raise
    except JournalFailed:
        pass  # the actor `journal` says so, and what protects goes on


async def _run(
    engine: Engine, state: OpenState, stop: trio.Event, nursery: trio.Nursery, task_status: trio.TaskStatus[Engine]
) -> None:
    parts, world = engine.parts, engine.world
    accounts = {a.name: Account(a.name, a.venue_name, a.venue, a.throttle, a.swift) for a in parts.accounts}
    engine.streams = {name: StreamState(name, False, engine.started_ns, "not connected yet") for name in accounts}
    _take_back(engine, state)
    late = await _instruments_of_all(engine, nursery)
    engine.admission = _admission(engine, state)

    to_gate, gate_mail = trio.open_memory_channel[GateMail](GATE)
    to_protector, protector_mail = trio.open_memory_channel[Standing](GATE)
    engine.arrivals, arrivals = trio.open_memory_channel[Arrival](ARRIVALS)
    engine.channels = {"gate": to_gate, "protector": to_protector, "arrivals": engine.arrivals}  # type: ignore[dict-item]

    def tell(standing: Standing) -> None:
        engine.standings[standing.position.account, standing.position.symbol] = standing
        post(to_gate, standing)
        post(to_protector, standing)

    desk = engine.desk = Desk(
        world=world,
        accounts=accounts,
        instrument=engine.instrument,
        stop_default=lambda account: engine.admission.stop_default(account),
        tell=tell,
        load=lambda account, symbol: _reload(parts.journal, account, symbol),
        worth=lambda asset: _worth(parts.quote, asset),
        fallen=engine.fallen,
        epoch=state.epoch,
        closed=engine.closed,
    )
    reconcilers = {
        name: Reconciler(owner, _reconciler_ports(engine, to_gate), _since(state, name))
        for name, owner in accounts.items()
    }
    engine.settle = lambda account: _settle(engine, account, reconcilers[account])
    engine.operator = Operator(
        OperatorPorts(
            world=world,
            accounts=accounts,
            desk=desk,
            gate=to_gate,
            dust=partial(_dust, engine),
            standing=lambda account, symbol: engine.standings.get((account, symbol)),
            instrument=engine.instrument,
            settle=engine.settle,
            fallen=engine.fallen,
            epoch=state.epoch,
        )
    )

    core = Group(nursery)

    def run(name: str, scope: str, actor: Run, group: Group = core, idle: Run | None = None) -> None:
        group.start_soon(supervise, name, scope, actor, world.switch, world.clock, engine.fallen, idle, name=name)

    await nursery.start(desk.run)
    for name in late.early:
        _open_holdings(engine, state, name)
    gate_ports = GatePorts(
        world=world,
        enact=lambda enact: desk.post(enact.signal.account, enact.signal.symbol, enact),
        enact_now=desk.hand,
        closed=engine.closed,
        venue_of=lambda account: accounts[account].venue_name if account in accounts else "",
        ess=engine.watch.check if engine.watch is not None else lambda now_ns: None,
    )
    # Whoever else would notice a failed journal may be busy with something that failed with it, as the publisher is
    # with a file on the same full disk.
    run("journal", "engine", parts.journal.failure)
    window = Window[Arrived](partial(waiting, gate_mail))
    run("gate", "engine", _gate(engine, gate_mail, gate_ports, window), idle=partial(turn_away, gate_mail))
    if parts.ess is not None and engine.watch is not None:
        run("ess", "engine", partial(ess, EssPorts(world, engine.watch, parts.ess.ask, parts.ess.every_seconds)))
    run("ticker", "engine", lambda: ticker(lambda tick: post(to_gate, tick)))
    known = engine.standings.values()
    elsewhere = {a.name for a in parts.accounts if not a.own_market}

    def market_of(account: str, symbol: str) -> Quote | None:
        return None if account in elsewhere else parts.quote(symbol)

    run(
        "protector",
        "engine",
        lambda: protector(protector_mail, known, desk.post, market_of, world),
        idle=partial(_unread, protector_mail),
    )
    publishing: Group = await nursery.start(_group)
    for sink in parts.sinks:
        publish = partial(publisher, sink, engine.outlets[sink.name], world)
        run(f"publisher/{sink.name}", "engine", publish, publishing)
    listening: Group = await nursery.start(_group)

    def listen_to(name: str) -> None:
        settle, owner = partial(engine.settle, name), accounts[name]
        listen = partial(listener, owner, _deliver(engine), settle, partial(_stream, engine), world)
        run(f"listener/{name}", f"account/{name}", listen, listening)
        run(f"reconciler/{name}", f"account/{name}", reconcilers[name].run, listening)
        relist = partial(relister, owner, _relister_ports(engine, name), parts.relist_seconds)
        run(f"relister/{name}", f"account/{name}", relist, listening)

    def come_late(name: str) -> None:
        _open_holdings(engine, state, name)
        listen_to(name)

    for name in late.early:
        listen_to(name)
    late.set(come_late)
    engine.gate_open = True

    acknowledger = Acknowledger(world)
    ingest_ports = IngestPorts(
        world,
        to_gate,
        window.hand,
        trio.Semaphore(UNJUDGED),
        parts.dialects,
        parts.dead_letter,
        Deliveries(parts.journal),
    )
    run("acknowledger", "engine", acknowledger.run)
    run("ingest", "engine", lambda: ingest(arrivals, acknowledger, ingest_ports))
    sourcing: Group = await nursery.start(_group)
    sourcing.start_soon(_open_sources, engine, sourcing, name="sources")
    task_status.started(engine)
    LOG.info("started", epoch=state.epoch, accounts=list(accounts), live_orders=len(state.orders))

    await stop.wait()
    await _drain(engine, sourcing, listening, publishing)


class Group:
    """A nursery for actors that are stopped together, by `end` or with everything else."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._ended = False

    def start_soon(self, actor: Callable[..., Awaitable[None]], *arguments: object, name: str) -> None:
        """Does nothing once the group has ended: an engine may be ended in the middle of its start."""
        if not self._ended:
            self._nursery.start_soon(actor, *arguments, name=name)

    def end(self) -> None:
        self._ended = True
        self._nursery.cancel_scope.cancel()


async def _group(task_status: trio.TaskStatus[Group]) -> None:
    async with trio.open_nursery() as nursery:
        group = Group(nursery)
        task_status.started(group)
        try:
            await trio.sleep_forever()
        finally:
            group.end()


async def _drain(engine: Engine, sourcing: Group, listening: Group, publishing: Group) -> None:
    """Sources stop, calls end and stops stand, the gate closes, the outbox empties, the journal closes."""
    LOG.info("draining")
    engine.draining = True
    world = engine.world
    sourcing.end()
    with trio.move_on_after(CALLS_SECONDS):
        while not (engine.quiet() and engine.covered()):  # noqa: ASYNC110 (many channels at once)
            await trio.sleep(0.01)
    engine.gate_open = False
    engine.desk.close()
    listening.end()
    left = _left(engine)
    stopped = EngineStopped(at_ns=world.clock.now_ns(), left=left)
    try:
        await world.journal.durable(world.journal.append((stopped,)))
        with trio.move_on_after(OUTBOX_SECONDS):
            await world.journal.published()
    except JournalFailed as error:
        LOG.error("the journal could not take the last words", reason=str(error))
    publishing.end()
    for sink, events in world.journal.stats().sinks_waiting.items():
        if events:
            LOG.warning("events are left for the next start", sink=sink, events=events)
    LOG.info("stopped", left=left or "nothing")
    with trio.CancelScope(shield=True, deadline=trio.current_time() + CALLS_SECONDS):
        await world.journal.close()


def _left(engine: Engine) -> str:
    """What stays at the venues, in words."""
    words = []
    for (account, symbol), standing in engine.standings.items():
        if standing.position.qty or standing.live_orders:
            bare = ", WITHOUT full stop cover" if standing.uncovered else ""
            words.append(
                f"{account}/{symbol}: position {standing.position.qty}, {standing.live_orders} live order(s){bare}"
            )
    return "; ".join(words)


async def _open_sources(engine: Engine, group: Group) -> None:
    """Not before entries are possible: what waits in a source is better off there than refused for our start."""
    with trio.move_on_after(START_SECONDS):
        while any(engine.closed(a.name) for a in engine.parts.accounts):  # noqa: ASYNC110 (several accounts at once)
            await trio.sleep(0.01)
    world = engine.world
    for source in engine.parts.sources:
        name, run = f"source/{source.name}", partial(source.run, engine.arrivals)
        group.start_soon(supervise, name, "engine", run, world.switch, world.clock, engine.fallen, None, name=name)


class _Late:
    """What is to be done for accounts whose instruments come after the engine is up, and those that wait for it."""

    def __init__(self) -> None:
        self.early: tuple[str, ...] = ()  # accounts that need not wait
        self._come: Callable[[str], None] | None = None
        self._waiting: list[str] = []

    def set(self, come: Callable[[str], None]) -> None:
        self._come = come
        for name in self._waiting:
            come(name)

    def add(self, name: str) -> None:
        if self._come is None:
            self._waiting.append(name)
        else:
            self._come(name)


async def _instruments_of_all(engine: Engine, nursery: trio.Nursery) -> _Late:
    """Waits for every account's list; but once one is there not for long: its positions must be looked after."""
    late = _Late()
    known = {a.name: trio.Event() for a in engine.parts.accounts}
    first = trio.Event()

    async def ask(account: AccountParts) -> None:
        listed = await _instruments(account)
        engine.instruments[account.name] = listed
        if late.early:
            late.add(account.name)
        first.set()
        known[account.name].set()

    for account in engine.parts.accounts:
        nursery.start_soon(ask, account, name=f"instruments/{account.name}")
    if known:
        await first.wait()
    with trio.move_on_after(LATE_SECONDS):
        for event in known.values():
            await event.wait()
    late.early = tuple(name for name in known if name in engine.instruments)
    return late


def _take_back(engine: Engine, state: OpenState) -> None:
    for account in engine.parts.accounts:
        if isinstance(account.venue, KeepsOrders):
            account.venue.take_back(order for order in state.orders if order.account == account.name)


def _open_holdings(engine: Engine, state: OpenState, name: str) -> None:
    for (account, symbol), holding in _holdings(state).items():
        if account != name:
            continue
        if engine.instrument(account, symbol) is None:
            LOG.error("a symbol of the journal is no longer listed", account=account, symbol=symbol)
            continue
        engine.desk.open(account, symbol, holding)


async def _instruments(account: AccountParts) -> dict[str, Instrument]:
    """The venue's list; without it nothing can be checked, so the start waits for it."""
    while True:
        listed = await account.venue.instruments()
        if not isinstance(listed, Failed):
            return {i.symbol: i for i in listed}
        LOG.warning("instruments not to be had", account=account.name, reason=listed.why)
        await trio.sleep(1.0)


async def _unread(mailbox: trio.MemoryReceiveChannel[Standing]) -> None:
    """The mail of an actor that is down and finds what it missed elsewhere."""
    async for _ in mailbox:
        pass


def _gate(
    engine: Engine, mailbox: trio.MemoryReceiveChannel[GateMail], ports: GatePorts, window: Window[Arrived]
) -> Run:
    """The gate's first run has what the start loaded; a later one is rebuilt, for nothing is known of how the one
    that failed has left its figures."""
    first = [engine.admission]

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            if not first:
                # The balances last seen are older than what is held: entries wait until they are asked for anew.
                engine.reconciled.update(dict.fromkeys(engine.reconciled, False))
                await _rebuild(engine, ports)
                for account in engine.reconciled:
                    nursery.start_soon(attempt, partial(engine.settle, account), SETTLE_SECONDS)
            first.clear()
            await gate(mailbox, engine.admission, ports, window)

    return run


async def _rebuild(engine: Engine, ports: GatePorts) -> None:
    """As at the start: what the journal holds, and what stands now."""
    journal, clock = engine.parts.journal, engine.world.clock
    await journal.durable(journal.append(()))
    engine.admission = admission = _admission(engine, await journal.reload())
    for standing in tuple(engine.standings.values()):
        # Its closed trade and its ended signals have been counted: the journal has both.
        told = replace(standing, closed_trade=None, confirmed=())
        quote = engine.parts.quote(standing.position.symbol)
        react(admission.handle_standing(told, quote, clock.now_ns()), ports)


def _admission(engine: Engine, state: OpenState) -> Admission:
    parts = engine.parts
    admission = Admission(
        parts.env,
        {a.name: AccountTerms(name=a.name, venue=a.venue_name, bounds=a.bounds) for a in parts.accounts},
        engine.instrument,
    )
    admission.recover(state)
    newest = {row.account: row for row in state.limits}
    for account in parts.accounts:
        row = newest.get(account.name)
        if account.limits is None or (row is not None and row.by != "config"):
            # Changed while running: that stands until it is changed again, inside the bounds that there are now.
            tightened = admission.tighten(account.name, account.limits or Limits(), parts.clock.now_ns())
            if tightened is not None:
                parts.journal.append(tightened.facts, tightened.rows)
            continue
        if row is None or row.limits != account.limits:
            facts, rows = admission.set_limits(account.name, account.limits, "config", parts.clock.now_ns())
            parts.journal.append(facts, rows)
    return admission


def _holdings(state: OpenState) -> dict[tuple[str, str], Holding]:
    return holdings(
        state.orders,
        state.positions,
        state.trades,
        (Enact(row.signal, row.plan) for row in state.signals if row.plan is not None),
        ((e.account, e.symbol, e.exec_id, Seen(e.venue_ns, e.delta, e.cid)) for e in state.executions),
    )


async def _reload(journal: Journal, account: str, symbol: str) -> Holding:
    """One symbol's holding, for an actor that is made anew."""
    found = _holdings(await journal.reload(account, symbol))
    return found.get((account, symbol)) or empty(account, symbol)


def _since(state: OpenState, account: str) -> int:
    return next((r.venue_ns for r in state.reconciled if r.account == account), 0)


def _worth(quote: Callable[[str], Quote | None], asset: str) -> Decimal | None:
    """Quote currency per unit of an asset, by its USDT market."""
    if asset in ("USDT", "USDC"):
        return Decimal(1)
    found = quote(f"{asset}USDT")
    return found.mid if found else None


def _dust(engine: Engine, account: str, report: PositionReport) -> bool:
    instrument = engine.instrument(account, report.symbol)
    qty = report.qty
    if report.wallet:  # of what is in it, only what our books say was traded is ours to close
        standing = engine.standings.get((account, report.symbol))
        qty = min(qty, standing.position.qty) if standing else ZERO
    held = Position(account=account, symbol=report.symbol, qty=qty)
    return instrument is not None and not closable(held, instrument)


def _deliver(engine: Engine) -> Callable[[str, str, VenueReport], None]:
    def deliver(account: str, symbol: str, report: VenueReport) -> None:
        try:
            engine.desk.post(account, symbol, report)
        except UnknownInstrument as error:
            LOG.error("a report for an unlisted symbol", account=account, symbol=symbol, reason=str(error))

    return deliver


def _stream(engine: Engine, state: StreamState) -> None:
    engine.streams[state.account] = state
    if not state.up and not engine.draining:
        LOG.warning("stream down", account=state.account, reason=state.why)


async def _settle(engine: Engine, account: str, reconciler: Reconciler) -> bool:
    passed = await reconciler.settle()
    engine.reconciled[account] = engine.reconciled[account] or passed
    return passed


def _relister_ports(engine: Engine, account: str) -> RelisterPorts:
    def take(instrument: Instrument) -> None:
        engine.instruments[account][instrument.symbol] = instrument
        engine.desk.relist(account, instrument)

    return RelisterPorts(
        world=engine.world,
        known=lambda: engine.instruments[account],
        take=take,
        used=lambda symbol: (account, symbol) in engine.standings,
    )


def _reconciler_ports(engine: Engine, to_gate: trio.MemorySendChannel[GateMail]) -> ReconcilerPorts:
    return ReconcilerPorts(
        world=engine.world,
        ask=engine.desk.ask,
        deliver=_deliver(engine),
        active=engine.active,
        instrument=engine.instrument,
        tell=lambda seen: post(to_gate, seen),
        stream_up=lambda account: engine.streams[account].up,
    )
