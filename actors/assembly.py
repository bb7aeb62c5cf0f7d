"""From a config to a running engine: chooses the real clock, journal, market, venues, sources and sinks, and the API.

The market comes first, so that there is a price when the first signal arrives; the API comes last, when there is an
engine behind it.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Protocol

import structlog
import trio
from msgspec import Struct
from msgspec.structs import replace

from actors.hooks import open_ess, open_hook, open_post
from actors.metrics import IntervalLog, LagWatch
from actors.real import admit, is_real, looked_at, open_real, owners, public_hosts, traded_kind, vault_of
from actors.web import ports_for
from actors.wiring import AccountParts, Engine, Parts, run_engine
from engine.core.breakers import OwnTerms, StallTerms, StormTerms
from engine.core.messages import Instrument, InstrumentKind, Malformed, Quote
from engine.core.tally import Tally
from engine.core.times import SECOND
from engine.edges.base import LivingSink, Sink, Source
from engine.edges.dialects import DialectTerms
from engine.edges.http import HttpSource
from engine.edges.ndjson import NdjsonFile, NdjsonSink, NdjsonSource, dead_letter_line
from engine.edges.stream import Broadcast
from engine.market import synthetic
from engine.market.events import MarketEvent
from engine.market.live import Feed, FeedState, binance_feeds, bybit_feeds, listen
from engine.market.recorded import Recording, survey
from engine.market.tape import Market as HeardMarket
from engine.market.tape import play
from engine.runtime.clock import Clock, live_clock
from engine.runtime.config import (
    AccountSection,
    BreakersSection,
    Config,
    MarketSection,
    PaperSection,
    SinkSection,
    SourceSection,
    config_hash,
)
from engine.runtime.journal.choice import journal_of
from engine.venues.keys import KeyProblem
from engine.venues.link import LinkVenue
from engine.venues.paper import Faults, PaperTerms, PaperVenue
from engine.venues.throttle import Limit, Throttle
from engine.venues.vault import Vault
from engine.web.serve import serve
from engine.web.terms import terms_of, warn_of_insecurity

if TYPE_CHECKING:
    from engine.edges import kafka, redis

FEED_ROOM = 10_000  # events; a full channel makes the feed wait
LOG = structlog.get_logger("assembly")


class Market(Struct, frozen=True):
    """What is traded, and where its events come from: a tape to play, or public feeds to listen to."""

    instruments: tuple[Instrument, ...]
    tape: Iterator[MarketEvent] | None = None
    feeds: tuple[Feed, ...] = ()


class Hears(Protocol):
    def publish(self, event: MarketEvent) -> None: ...


class Board:
    """The market as a public stream tells it, for accounts whose venue is asked for no price."""

    def __init__(self) -> None:
        self._market = HeardMarket()
        self.quote = self._market.quote

    def publish(self, event: MarketEvent) -> None:
        self._market.apply(event)


async def run_live(
    config: Config, build: str, stop: trio.Event, task_status: trio.TaskStatus[tuple[Engine, int]]
) -> None:
    """The long-lived engine; reports the engine and the API's port (0: no API). Returns when drained.

    Raises JournalFailed, StoreDamaged, BadTape, Inadmissible, KeyProblem, TermsProblem, OSError when it must not or
    cannot start.
    """
    with ExitStack() as held:  # closed when every task has ended
        await _live(config, build, stop, held, task_status)


async def _live(
    config: Config, build: str, stop: trio.Event, held: ExitStack, task_status: trio.TaskStatus[tuple[Engine, int]]
) -> None:
    clock, folder = live_clock(), Path(config.engine.data_dir)
    folder.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 (once, before anything runs)
    rng = Random()
    terms = terms_of(config.api, os.environ) if config.api.enabled else None
    async with trio.open_nursery() as services:
        market = open_market(config.market, traded_kind(config), clock, *public_hosts(config))
        board = Board()
        venues = []
        vault = vault_of(config, os.environ, "run")
        for name, section in config.accounts.items():
            if is_real(section):
                account = open_real(name, config, clock, rng, os.environ, board.quote, vault)
                if section.key_vault:
                    LOG.info("key decrypted", name=section.key_vault, account=name)
                await admit(account, section, services, stop)
            else:
                account = open_account(name, section, market, clock, rng, folder)
            held.callback(account.venue.close)  # type: ignore[attr-defined]
            venues.append(account)
        broadcast = Broadcast("stream")
        sinks = open_sinks(config, broadcast, clock, os.environ, vault)
        http = next((HttpSource(s.name, clock) for s in config.sources if s.kind == "http"), None)
        sources = open_sources(config, http, clock, os.environ, vault)
        looked = looked_at(vault, owners(config), clock)
        del vault  # the signers are made: nothing of this process opens it again
        hearers: list[Hears] = [*(v.venue for v in venues if isinstance(v.venue, PaperVenue)), board]
        start_market(services, market, hearers, clock, rng)
        for sink in sinks:
            if isinstance(sink, LivingSink):
                await services.start(sink.live)
        ess, service = open_ess(config.ess, os.environ) if config.ess.url else (None, None)
        if service is not None:
            services.start_soon(service.live, name="ess")
        dead = NdjsonFile(folder / "dead-letters.ndjson")
        parts = Parts(
            env=config.engine.env,
            clock=clock,
            journal=journal_of(config, clock, os.environ),
            rng=rng,
            accounts=tuple(venues),
            quote=quotes_of(venues, board),
            sources=sources,
            sinks=sinks,
            dialects=dialect_terms(config),
            dead_letter=lambda m: bury(dead, m),
            tally=Tally(),
            lag=LagWatch(),
            breakers=own_terms(config.breakers),
            ess=ess,
            interval_log=IntervalLog(folder / "latency.hlog", clock),
            build=build,
            config_hash=config_hash(config),
            looked=looked,
        )
        drained = trio.Event()

        async def engine_task(task_status: trio.TaskStatus[Engine]) -> None:
            try:
                await run_engine(parts, stop, task_status=task_status)
            finally:
                drained.set()

        engine = await services.start(engine_task)
        port = 0
        if terms is not None:
            warn_of_insecurity(config.api)
            reader = held.enter_context(closing(parts.journal.reader()))
            ports = ports_for(engine, http, broadcast, config, clock, reader)
            port = await services.start(partial(serve, ports, config.api.host, config.api.port, terms))
        task_status.started((engine, port))
        await drained.wait()
        services.cancel_scope.cancel()


def own_terms(section: BreakersSection) -> OwnTerms:
    storms = StormTerms(
        symbol_max=section.rejects_symbol_max,
        account_max=section.rejects_account_max,
        window_ns=section.rejects_window_seconds * SECOND,
        pause_ns=section.rejects_pause_seconds * SECOND,
    )
    stalls = StallTerms(
        loop_ns=section.loop_stall_ms * SECOND // 1000,
        commit_ns=section.commit_stall_ms * SECOND // 1000,
        pause_ns=section.stall_pause_seconds * SECOND,
    )
    return OwnTerms(storms, stalls)


def start_market(nursery: trio.Nursery, market: Market, papers: Sequence[Hears], clock: Clock, rng: Random) -> None:
    """Every paper venue (or the local exchange) hears the same market."""

    def publish(event: MarketEvent) -> None:
        for venue in papers:
            venue.publish(event)

    if market.tape is not None:
        nursery.start_soon(partial(play, market.tape, clock, publish, offset_ns=None), name="tape")
    if market.feeds:
        events, heard = trio.open_memory_channel[MarketEvent](FEED_ROOM)
        nursery.start_soon(
            partial(listen, market.feeds, events, now_ns=clock.now_ns, rng=rng, tell=_feed), name="feeds"
        )
        nursery.start_soon(_hear, heard, publish, name="market")


async def _hear(events: trio.MemoryReceiveChannel[MarketEvent], publish: Callable[[MarketEvent], None]) -> None:
    async for event in events:
        publish(event)


def _feed(state: FeedState) -> None:
    """A feed that is down shows in the age of its quotes, which the gate refuses by."""
    if state.up:
        LOG.info("market feed up", feed=state.name)
    else:
        LOG.warning("market feed down", feed=state.name, reason=state.why)


def open_market(
    section: MarketSection, kind: InstrumentKind, clock: Clock, stream_host: str = "", rest_host: str = ""
) -> Market:
    """The hosts are where a public market is listened to, if not at its usual place. Raises BadTape."""
    match section.kind:
        case "synthetic":
            traded = chosen(synthetic.instruments(kind), section.symbols)
            endless = synthetic.events(Random(section.seed), traded, clock.now_ns())
            return Market(traded, faster(endless, section.speed))
        case "recorded":
            found = survey(section.tape)
            events = faster(Recording(section.tape).events(), section.speed)
            return Market(chosen(found.instruments, section.symbols), events)
        case "binance":
            traded = chosen(synthetic.instruments(kind, "binance"), section.symbols)
            return Market(traded, feeds=binance_feeds(kind, section.symbols, stream_host, rest_host))
        case "bybit":
            traded = chosen(synthetic.instruments(kind, "bybit"), section.symbols)
            return Market(traded, feeds=bybit_feeds(kind, section.symbols, stream_host))
        case "link":
            return Market(())


def chosen(instruments: tuple[Instrument, ...], symbols: tuple[str, ...]) -> tuple[Instrument, ...]:
    return tuple(i for i in instruments if not symbols or i.symbol in symbols)


def faster(events: Iterator[MarketEvent], speed: Decimal) -> Iterator[MarketEvent]:
    """The same tape with its pauses divided by `speed`."""
    first = None
    for event in events:
        first = first or event.at_ns
        at_ns = first + int((event.at_ns - first) / speed) if speed else first
        yield replace(event, at_ns=at_ns)


def open_account(
    name: str, section: AccountSection, market: Market, clock: Clock, rng: Random, folder: Path
) -> AccountParts:
    """Raises StoreDamaged when the paper venue's own file is broken."""
    venue: PaperVenue | LinkVenue
    if section.venue == "link":
        venue = LinkVenue(section.host, section.port, clock)
    else:
        chance = Random(section.paper.seed)
        venue = PaperVenue(
            market.instruments, paper_terms(section.paper), clock, chance, folder / f"paper-{name}.store"
        )
    throttle = Throttle((Limit(section.orders_per_second, SECOND),), clock)
    swift = venue if isinstance(venue, LinkVenue) else None
    return AccountParts(name, section.venue, venue, throttle, section.limits, swift, section.bounds)


def paper_terms(section: PaperSection) -> PaperTerms:
    return PaperTerms(
        balances=dict(section.balances),
        leverage=section.leverage,
        maker_fee=section.maker_fee,
        taker_fee=section.taker_fee,
        fee_in=section.fee_in,
        fee_asset_price=section.fee_asset_price,
        latency_ms=section.latency_ms,
        stream_latency_ms=section.stream_latency_ms,
        visible_ms=section.visible_ms,
        timeout_ms=section.timeout_ms,
        faults=Faults(**{f: getattr(section.faults, f) for f in section.faults.__struct_fields__}),
    )


def open_source(
    section: SourceSection, clock: Clock, engine: str, environ: Mapping[str, str], vault: Vault | None
) -> Source:
    """Raises KeyProblem for a password that is not there."""
    dialect = section.dialect or None
    match section.kind:
        case "stdin":
            return NdjsonSource.stdin(section.name, clock, dialect=dialect)
        case "redis":
            from engine.edges import redis  # takes long, and few have it

            terms = redis.Streams(
                section.streams,
                section.group,
                section.consumer or engine,
                dialect,
                float(section.reclaim_seconds),
                section.dead_letters,
            )
            return redis.RedisSource(section.name, _redis(section, environ), terms, clock)
        case "webhook":
            return open_hook(section, clock, environ, vault)
        case "kafka":
            from engine.edges import kafka  # the same

            seconds = float(section.session_seconds)
            topics = kafka.Topics(section.topics, section.group, dialect, section.dead_letters, seconds)
            return kafka.KafkaSource(section.name, _kafka(section, environ), topics, clock)
        case _:
            return NdjsonSource(section.name, Path(section.path), clock, follow=section.follow, dialect=dialect)


def open_sources(
    config: Config, http: HttpSource | None, clock: Clock, environ: Mapping[str, str], vault: Vault | None
) -> tuple[Source, ...]:
    """Raises KeyProblem for a password that is not there."""
    name, sections = config.engine.name, (s for s in config.sources if s.kind != "http")
    others = tuple(open_source(section, clock, name, environ, vault) for section in sections)
    return others if http is None else (*others, http)


def open_sinks(
    config: Config,
    broadcast: Broadcast,
    clock: Clock,
    environ: Mapping[str, str],
    vault: Vault | None,
    sender: str = "",
) -> tuple[Sink, ...]:
    """`sender` tells a receiver whose events they are; "": the engine's. Raises KeyProblem for a missing password."""
    named = sender or config.engine.name
    return (*(_open_sink(section, config, clock, environ, vault, named) for section in config.sinks), broadcast)


def _open_sink(
    section: SinkSection,
    config: Config,
    clock: Clock,
    environ: Mapping[str, str],
    vault: Vault | None,
    sender: str,
) -> Sink:
    if section.kind == "redis":
        from engine.edges import redis

        server = _redis(section, environ)
        return redis.RedisSink(section.name, server, section.stream, section.keep, section.mirror, section.events)
    if section.kind == "kafka":
        from engine.edges import kafka

        cluster, drop = _kafka(section, environ), section.refused == "drop"
        return kafka.KafkaSink(section.name, cluster, section.topic, section.events, drop)
    if section.kind == "webhook":
        return open_post(section, sender, clock, environ, vault)
    # What is marked as published must not be lost with the power either.
    return NdjsonSink(section.name, Path(section.path), config.journal.durability == "power")


def _redis(section: SourceSection | SinkSection, environ: Mapping[str, str]) -> "redis.Server":
    from engine.edges import redis

    return redis.Server.at(section.server, _password(section, environ), section.ca_file)


def _kafka(section: SourceSection | SinkSection, environ: Mapping[str, str]) -> "kafka.Cluster":
    """Raises KeyProblem for what is not there, or what the client library does not take."""
    from engine.edges import kafka

    password = _password(section, environ)
    cluster = kafka.Cluster(section.server, section.tls, section.ca_file, section.sasl, section.username, password)
    if flaw := cluster.flaw():
        raise KeyProblem(f"'{section.name}': {flaw}")
    return cluster


def _password(section: SourceSection | SinkSection, environ: Mapping[str, str]) -> str:
    """Raises KeyProblem."""
    name = section.password_env
    if name and not environ.get(name):
        raise KeyProblem(f"'{section.name}' needs the environment variable {name}, which is not set")
    return environ.get(name, "") if name else ""


def dialect_terms(config: Config) -> DialectTerms:
    """Signals that name no account go to the only one there is, or are refused where there are several."""
    names = tuple(config.accounts)
    return DialectTerms(
        account=names[0] if len(names) == 1 else None,
        ttls={n: a.limits.signal_ttl_seconds for n, a in config.accounts.items()},
        control_sources=tuple(s.name for s in config.sources if s.controls),
        source_symbols={s.name: s.symbols for s in config.sources if s.symbols},
    )


def bury(dead: NdjsonFile, malformed: Malformed) -> None:
    """The journal has the record; the file is for a person. A file that cannot be written is logged."""
    try:
        dead.append(dead_letter_line(malformed))
    except OSError as error:
        LOG.error("dead letter file", reason=str(error))


def quotes_of(accounts: Sequence[AccountParts], board: "Board") -> Callable[[str], Quote | None]:
    """The first account's venue tells the price; a real one leaves that to its public stream."""
    first = accounts[0].venue
    return first.quote if isinstance(first, PaperVenue | LinkVenue) else board.quote
