"""From a config with shards to an engine that shares the accounts with others: what `assembly` is without shards.

Of the process are the market, the sources, the API and the figures; of each shard that is held everything else. Keys
come out of the vault when a shard is first asked for, so the vault stays open as long as the process lives.
"""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import Random

import structlog
import trio
from msgspec import Struct

from actors.assembly import (
    Board,
    Market,
    bury,
    dialect_terms,
    open_account,
    open_market,
    open_sinks,
    open_sources,
    own_terms,
    quotes_of,
    start_market,
)
from actors.hooks import open_ess
from actors.metrics import IntervalLog, LagWatch, MetricsMail, metrics
from actors.real import admit, is_real, looked_at, open_real, owners, public_hosts, traded_kind, vault_of
from actors.shards import Holding, Inlet, Router, Shards, Unusable
from actors.shards_commands import Errands
from actors.shards_web import Process, Readers, change_limits, dump_all, obey, ports_for_shards
from actors.web import Running
from actors.wiring import AccountParts, Parts
from engine.core.allotment import Member, Shard
from engine.core.messages import Halt
from engine.core.tally import Tally
from engine.edges.base import Arrival, LivingSink, Sink, Source
from engine.edges.http import HttpSource
from engine.edges.ndjson import NdjsonFile
from engine.edges.stream import Broadcast
from engine.runtime.clock import Clock, live_clock
from engine.runtime.config import Config, config_hash, first_event, of_shard
from engine.runtime.journal.base import JournalFailed
from engine.runtime.journal.choice import address_of, journal_of, reader_of
from engine.runtime.journal.common import Away, Inbox, Line, Roster, found, settle
from engine.runtime.journal.identity import owner_of
from engine.runtime.journal.lock import Lock
from engine.runtime.supervise import Fallen, supervise
from engine.venues.admission import Inadmissible
from engine.venues.keys import KeyProblem
from engine.venues.vault import Vault
from engine.web.serve import serve
from engine.web.terms import terms_of, warn_of_insecurity

ARRIVALS = 256
READY_SECONDS = 0.05  # between two looks at whether the sources may be opened
START_SECONDS = 30.0  # for the shards that are asked for at the start; then the sources are opened all the same
LOG = structlog.get_logger("shards")


class Common(Struct, frozen=True):
    """What all shards of a process use."""

    config: Config
    build: str
    clock: Clock
    rng: Random
    market: Market
    board: Board
    vault: Vault | None
    broadcast: Broadcast
    tally: Tally
    folder: Path


async def run_shards(
    config: Config, build: str, stop: trio.Event, task_status: trio.TaskStatus[tuple[Running, int]]
) -> None:
    """The long-lived engine; reports what is running and the API's port (0: no API). Returns when drained.

    Raises JournalFailed, BadTape, Inadmissible, KeyProblem, TermsProblem, OSError when it must not or cannot start.
    """
    with ExitStack() as held:
        await _live(config, build, stop, held, task_status)


async def _live(
    config: Config, build: str, stop: trio.Event, held: ExitStack, task_status: trio.TaskStatus[tuple[Running, int]]
) -> None:
    folder = Path(config.engine.data_dir)
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 (once, before anything runs)
    lock = folder / f"{config.journal.schema}.lock"
    held.callback(_taken(lock).release)
    owner = owner_of(lock)
    lines = [Line(address_of(config.journal, os.environ), owner, config.journal.durability) for _ in range(3)]
    for line in lines:
        held.callback(line.close)
    beats, letters, commands = lines
    await _first_contact(beats, config)
    common = _common(config, build, folder)
    web_terms = terms_of(config.api, os.environ) if config.api.enabled else None
    http = next((HttpSource(s.name, common.clock) for s in config.sources if s.kind == "http"), None)
    errands = Errands(Inbox(commands), common.clock, owner)
    shards, router = _shards(common, owner, Roster(beats), Inbox(letters), errands, http)
    sources = open_sources(config, http, common.clock, os.environ, common.vault)
    fallen = Fallen()
    async with trio.open_nursery() as services:
        start_market(services, common.market, [common.board], common.clock, common.rng)
        await services.start(_figures, common)
        sourcing: trio.CancelScope = await services.start(_sourcing, sources, router, shards, fallen, common.clock)
        port = 0
        if web_terms is not None:
            warn_of_insecurity(config.api)
            readers = Readers({s.name: reader_of(of_shard(config, s), os.environ) for s in config.shards})
            held.callback(readers.close)
            process = Process(config, build, common.clock, sources, fallen)
            ports = ports_for_shards(shards, errands, readers, http, common.broadcast, common.tally, process)
            port = await services.start(partial(serve, ports, config.api.host, config.api.port, web_terms))
            shards.api = f"{'https' if config.api.tls_cert else 'http'}://{config.api.host}:{port}"
        task_status.started((Running(partial(dump_all, shards), partial(change_limits, shards)), port))
        async with trio.open_nursery() as running:
            running.start_soon(_close_sources, stop, sourcing)
            await shards.run(stop)
            running.cancel_scope.cancel()
        services.cancel_scope.cancel()


def _taken(path: Path) -> Lock:
    """One process for one folder. Raises JournalFailed."""
    lock = Lock(path)
    lock.take()
    return lock


def _homes(config: Config) -> dict[str, str]:
    """Shards by account."""
    return {account: section.name for section in config.shards for account in section.accounts}


async def _first_contact(line: Line, config: Config) -> None:
    """A server that is not there at the start is a mistake sooner than a failure. Raises JournalFailed."""
    try:
        await found(line)
        await settle(line, _homes(config))
    except Away as error:
        raise JournalFailed(str(error)) from error


def _common(config: Config, build: str, folder: Path) -> Common:
    clock = live_clock()
    return Common(
        config=config,
        build=build,
        clock=clock,
        rng=Random(),
        market=open_market(config.market, traded_kind(config), clock, *public_hosts(config)),
        board=Board(),
        vault=vault_of(config, os.environ, "run"),
        broadcast=Broadcast("stream"),
        tally=Tally(),
        folder=folder,
    )


def _shards(
    common: Common, owner: str, roster: Roster, inbox: Inbox, errands: Errands, http: HttpSource | None
) -> tuple[Shards, Router]:
    config = common.config
    inlets = {section.name: Inlet(section.name, inbox, common.clock) for section in config.shards}
    holdings = [Holding(Shard(s.name, s.accounts, s.prefer), inlets[s.name]) for s in config.shards]
    live = (http.name,) if http is not None else ()
    router = Router(inlets, _homes(config), dialect_terms(config), inbox, live, lambda shard: shards.whose(shard))
    me = Member(owner, config.engine.name)
    alive_seconds = config.journal.lease_seconds / 2
    shards = Shards(me, holdings, roster, router, partial(_make, common), partial(obey, errands), alive_seconds)
    return shards, router


async def _figures(common: Common, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
    """The loop's lag and the interval log are the process's; facts are counted by each shard's own actor."""
    mailbox: tuple[trio.MemorySendChannel[MetricsMail], trio.MemoryReceiveChannel[MetricsMail]]
    mailbox = trio.open_memory_channel[MetricsMail](1)
    task_status.started()
    await metrics(mailbox[1], common.tally, LagWatch(), IntervalLog(common.folder / "latency.hlog", common.clock))


# ---------------------------------------------------------------------------------------------------------- the sources


class _Everywhere:
    """The switches of all shards that are held here."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    def halt(self, halt: Halt) -> int:
        return max((engine.world.switch.halt(halt) for engine in self._shards.held()), default=0)


async def _sourcing(
    sources: tuple[Source, ...],
    router: Router,
    shards: Shards,
    fallen: Fallen,
    clock: Clock,
    task_status: trio.TaskStatus[trio.CancelScope] = trio.TASK_STATUS_IGNORED,
) -> None:
    """The router for ever; the sources until the scope that is reported ends, and not before signals can be taken."""
    send, receive = trio.open_memory_channel[Arrival](ARRIVALS)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(router.run, receive)
        with trio.CancelScope() as scope:
            task_status.started(scope)
            await _until_ready(shards)
            async with trio.open_nursery() as running:
                for source in sources:
                    name, run = f"source/{source.name}", partial(source.run, send)
                    running.start_soon(
                        supervise, name, "engine", run, _Everywhere(shards), clock, fallen, None, name=name
                    )
                await trio.lowlevel.checkpoint()
                shards.taking = True


async def _until_ready(shards: Shards) -> None:
    """What is asked for at the start is up, or takes too long: better left where it is than refused for our start."""
    with trio.move_on_after(START_SECONDS):
        while shards.away or not all(_ready(holding) for holding in shards.holdings if holding.wanted):  # noqa: ASYNC110
            await trio.sleep(READY_SECONDS)


def _ready(holding: Holding) -> bool:
    engine = holding.engine
    return engine is not None and not any(engine.closed(account) for account in holding.shard.accounts)


async def _close_sources(stop: trio.Event, sourcing: trio.CancelScope) -> None:
    await stop.wait()
    sourcing.cancel()


# ------------------------------------------------------------------------------------------------------ a shard's parts


async def _make(common: Common, holding: Holding, services: trio.Nursery, held: ExitStack) -> Parts:
    """Raises Unusable, JournalFailed."""
    section = next(s for s in common.config.shards if s.name == holding.shard.name)
    config = of_shard(common.config, section)
    try:
        venues = await _open_accounts(common, config, holding, services, held)
        sinks = sinks_of(config, common.broadcast, common.clock, os.environ, common.vault)
        looked = looked_at(common.vault, owners(config), common.clock)
        ess, service = open_ess(config.ess, os.environ) if config.ess.url else (None, None)
    except (Inadmissible, KeyProblem, OSError) as error:
        raise Unusable(str(error)) from error
    for sink in sinks:
        if isinstance(sink, LivingSink):
            await services.start(sink.live)
    if service is not None:
        services.start_soon(service.live, name="ess")
    dead = NdjsonFile(common.folder / "dead-letters.ndjson")
    return Parts(
        env=config.engine.env,
        clock=common.clock,
        journal=journal_of(config, common.clock, os.environ, first_event(section.name)),
        rng=common.rng,
        accounts=venues,
        quote=quotes_of(venues, common.board),
        sources=(holding.inlet,),
        sinks=sinks,
        dialects=dialect_terms(common.config),
        dead_letter=lambda malformed: bury(dead, malformed),
        tally=common.tally,
        breakers=own_terms(config.breakers),
        ess=ess,
        build=common.build,
        config_hash=config_hash(config),
        looked=looked,
    )


def sinks_of(
    config: Config, broadcast: Broadcast, clock: Clock, environ: Mapping[str, str], vault: Vault | None
) -> tuple[Sink, ...]:
    """Of a shard's config. An event keeps its id when another engine, of another name, tells it once more."""
    return open_sinks(config, broadcast, clock, environ, vault, config.journal.schema)


async def _open_accounts(
    common: Common, config: Config, holding: Holding, services: trio.Nursery, held: ExitStack
) -> tuple[AccountParts, ...]:
    """Raises Inadmissible, KeyProblem."""
    found = []
    for name, section in config.accounts.items():
        if is_real(section):
            account = open_real(
                name, config, common.clock, common.rng, os.environ, common.board.quote, common.vault, common.config
            )
            if section.key_vault:
                LOG.info("key decrypted", name=section.key_vault, account=name)
            held.callback(account.venue.close)  # type: ignore[attr-defined]
            await admit(account, section, services, holding.stop)
        else:
            account = open_account(name, section, common.market, common.clock, common.rng, common.folder)
            held.callback(account.venue.close)  # type: ignore[attr-defined]
        found.append(account)
    return tuple(found)
