"""The API of an engine that shares the accounts: reads are of all shards, commands of those that are held here.

Committed state is on the server, so any engine can show all of it. A command for an account that is held elsewhere is
refused with the name of its holder; one for everything is left for the other holders (shards_commands.py).
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TypeVar

import trio
from msgspec.structs import replace

from actors.shards import Holding, Shards
from actors.shards_commands import Command, Errands, Unreached
from actors.web import (
    close,
    delivery,
    dump,
    edge,
    flatten,
    health,
    hook_notes,
    in_a_thread,
    resume,
    set_limits,
    stop,
    usage,
)
from actors.wiring import Engine
from engine.core.messages import (
    AccountRow,
    DeadLettered,
    Delivery,
    Halt,
    HaltKind,
    Limits,
    LimitsRow,
    Order,
    Position,
    Quote,
    Refusal,
    SignalRow,
    Trade,
)
from engine.core.tally import Tally
from engine.edges.base import Connected, Receipt, Source
from engine.edges.http import HttpSource, status_of
from engine.edges.stream import Broadcast
from engine.runtime.clock import Clock
from engine.runtime.config import Config, of_shard
from engine.runtime.journal.base import NoJournal, Record
from engine.runtime.journal.common import commands_of
from engine.runtime.journal.postgres import PostgresJournal
from engine.runtime.journal.reading import SqlReader
from engine.runtime.supervise import Fallen
from engine.web.ports import (
    Component,
    Health,
    JournalStats,
    Ports,
    Refused,
    ResumeReport,
    ShardHealth,
    ShardStop,
    StopReport,
    Unknown,
    Unready,
)

T = TypeVar("T")
OF_EACH = ("journal", "stalls", "actors", "ess")  # components that every shard has


class Readers:
    """See `Shelf`: the journals of all shards. One that has none yet has nothing to show."""

    def __init__(self, by_shard: Mapping[str, SqlReader]) -> None:
        self._readers = tuple(by_shard.values())

    def close(self) -> None:
        for reader in self._readers:
            reader.close()

    def signal(self, signal_id: str) -> SignalRow | None:
        return self._first(lambda reader: reader.signal(signal_id))

    def delivery(self, place: str) -> Delivery | None:
        return self._first(lambda reader: reader.delivery(place))

    def signals(self, limit: int, before: int = 0) -> tuple[SignalRow, ...]:
        rows = self._all(lambda reader: reader.signals(limit, before))
        return _page(rows, lambda row: row.signal.received_ns, limit)

    def order(self, cid: str) -> Order | None:
        return self._first(lambda reader: reader.order(cid))

    def orders(self, account: str | None, symbol: str | None, live_only: bool, limit: int) -> tuple[Order, ...]:
        rows = self._all(lambda reader: reader.orders(account, symbol, live_only, limit))
        return tuple(sorted(rows, key=lambda order: order.submitted_ns, reverse=True)[:limit])

    def positions(self, account: str | None = None) -> tuple[Position, ...]:
        return tuple(self._all(lambda reader: reader.positions(account)))

    def trades(self, account: str | None, limit: int, before_ns: int = 0) -> tuple[Trade, ...]:
        rows = self._all(lambda reader: reader.trades(account, limit, before_ns))
        return _page(rows, lambda trade: trade.opened_ns, limit)

    def trade(self, trade_id: str) -> Trade | None:
        return self._first(lambda reader: reader.trade(trade_id))

    def limits(self) -> tuple[LimitsRow, ...]:
        return tuple(self._all(lambda reader: reader.limits()))

    def accounts(self) -> tuple[AccountRow, ...]:
        return tuple(self._all(lambda reader: reader.accounts()))

    def story(self, trace_id: str) -> tuple[Record, ...]:
        return tuple(sorted(self._all(lambda reader: reader.story(trace_id)), key=lambda record: record.at_ns))

    def dead_letters(self, signal_id: str) -> tuple[DeadLettered, ...]:
        return tuple(self._all(lambda reader: reader.dead_letters(signal_id)))

    def _all(self, ask: Callable[[SqlReader], Iterable[T]]) -> list[T]:
        found: list[T] = []
        for reader in self._readers:
            try:
                found += ask(reader)
            except NoJournal:
                continue
        return found

    def _first(self, ask: Callable[[SqlReader], T | None]) -> T | None:
        return next(iter(self._all(lambda reader: [] if (found := ask(reader)) is None else [found])), None)


def _page(rows: Iterable[T], key: Callable[[T], int], limit: int) -> tuple[T, ...]:
    """Newest first; rows of one nanosecond are never parted, so a page may be a little longer."""
    found = sorted(rows, key=key, reverse=True)
    if len(found) <= limit:
        return tuple(found)
    last = key(found[limit - 1])
    return tuple(row for row in found if key(row) >= last)


class Process:
    """What the API shows of this process beside its shards' engines."""

    def __init__(self, config: Config, build: str, clock: Clock, sources: Sequence[Source], fallen: Fallen) -> None:
        self.config, self.build, self.clock = config, build, clock
        self.sources, self.fallen = sources, fallen
        self.began_ns = clock.now_ns()


def ports_for_shards(
    shards: Shards,
    errands: Errands,
    readers: Readers,
    http: HttpSource | None,
    broadcast: Broadcast,
    tally: Tally,
    process: Process,
) -> Ports:
    """Everything the API may ask."""

    async def submit(raw: bytes, trace_id: str | None, flaw: str = "") -> Receipt:
        if http is None:
            raise Unready("no source of kind 'http' is configured")
        return await http.submit(raw, trace_id, flaw=flaw)

    return Ports(
        submit=submit,
        turn_away=lambda raw, why, trace_id: submit(raw, trace_id, why),
        deliver=delivery(process.sources),
        answer=status_of,
        reader=readers,
        read=in_a_thread(),
        quote=partial(_quote, shards),
        health=lambda: whole_health(shards, process),
        stop=lambda by, reason, flatten: everywhere(shards, errands, Command("stop", by, reason, flatten)),
        resume=partial(_resume, shards, process.fallen),
        flatten=partial(_flatten, shards, errands),
        close_position=lambda account, symbol, by: close(_engine(shards, account), account, symbol, by),
        set_limits=lambda account, changes, by: set_limits(_engine(shards, account), account, changes, by),
        subscribe=broadcast.subscribe,
        tally=tally.snapshot,
        usage=lambda: {name: used for engine in shards.held() for name, used in usage(engine).items()},
        dump=lambda: dump_all(shards),
        now_ns=process.clock.now_ns,
    )


def dump_all(shards: Shards) -> dict[str, object]:
    """Inner state for whoever looks for a fault."""
    return {
        "engine": shards.me,
        "alive": shards.sight.members,
        "letters": shards.sight.letters,
        "shards": {h.shard.name: dump(h.engine) if h.engine is not None else h.state for h in shards.holdings},
    }


async def change_limits(shards: Shards, account: str, changes: dict[str, object], by: str) -> Limits | str:
    """For who reloads the config: an account that is held elsewhere is its holder's to change."""
    holding = shards.of(account)
    if holding is None or holding.engine is None:
        return "it is not held here"
    return await holding.engine.operator.set_limits(account, changes, by)


# --------------------------------------------------------------------------------------------------------------- health


def whole_health(shards: Shards, process: Process) -> Health:
    """Of all that runs here. Ready for entries when every shard that is held here is, and none is being taken over."""
    config, now_ns = process.config, process.clock.now_ns()
    told = [(holding, found) for holding, found in ((h, _health_of(h, config)) for h in shards.holdings) if found]
    healths = [found for _, found in told]
    down = process.fallen.names()
    components = [
        Component(name="engines", ok=not shards.away, detail=shards.away or _alive(shards)),
        Component(name="sources", ok=not down, detail=", ".join(down)),
        *(part for holding, found in told for part in _parts(holding, found)),
        *(
            Component(name=f"shard/{h.shard.name}", ok=h.state in ("held", "elsewhere"), detail=_words(shards, h))
            for h in shards.holdings
        ),
    ]
    entry = shards.settled() and shards.taking and all(found.entry_ready for found in healths)
    components += [edge(f"source/{e.name}", e) for e in process.sources if isinstance(e, Connected)]
    return Health(
        live=True,
        protective_ready=all(h.engine is not None for h in shards.holdings if h.wanted)
        and all(found.protective_ready for found in healths),
        entry_ready=entry and not shards.away and not down,
        components=tuple(components),
        halts=_once(halt for found in healths for halt in found.halts),
        streams=tuple(stream for found in healths for stream in found.streams),
        journal=_journals(found.journal for found in healths),
        channels=tuple(
            replace(channel, name=f"{channel.name}/{holding.shard.name}")
            for holding, found in told
            for channel in found.channels
        ),
        started_ns=process.began_ns,
        uptime_ns=now_ns - process.began_ns,
        build=process.build,
        durability=config.journal.durability,
        notes=tuple(
            dict.fromkeys((*(note for found in healths for note in found.notes), *hook_notes(process.sources)))
        ),
        shards=tuple(_shard(shards, holding) for holding in shards.holdings),
    )


def _health_of(holding: Holding, config: Config) -> Health | None:
    if holding.engine is None:
        return None
    section = next(s for s in config.shards if s.name == holding.shard.name)
    return health(holding.engine, of_shard(config, section))


def _parts(holding: Holding, found: Health) -> Iterable[Component]:
    for part in found.components:
        shared = part.name in OF_EACH or part.name.startswith(("source/", "sink/"))
        yield replace(part, name=f"{part.name}/{holding.shard.name}") if shared else part


def _once(halts: Iterable[Halt]) -> tuple[Halt, ...]:
    return tuple(dict.fromkeys(halts))


def _journals(stats: Iterable[JournalStats]) -> JournalStats:
    """Of all journals together; the longest of the commits."""
    found = tuple(stats)
    return JournalStats(
        seq=sum(s.seq for s in found),
        durable_seq=sum(s.durable_seq for s in found),
        commits=sum(s.commits for s in found),
        commit_last_ns=max((s.commit_last_ns for s in found), default=0),
        commit_max_ns=max((s.commit_max_ns for s in found), default=0),
        size_bytes=sum(s.size_bytes for s in found),
        outbox_waiting=sum(s.outbox_waiting for s in found),
        failed="; ".join(s.failed for s in found if s.failed),
    )


def _alive(shards: Shards) -> str:
    return ", ".join(member.name for member in shards.sight.members)


def _words(shards: Shards, holding: Holding) -> str:
    match holding.state:
        case "held":
            return "held here"
        case "waiting":
            return f"waits for its lease{f' (before: {holding.why})' if holding.why else ''}"
        case "ending":
            return "is drained, and given up"
        case "failed":
            return f"cannot run here: {holding.why}"
        case _:
            return shards.whose(holding.shard.name)


def _shard(shards: Shards, holding: Holding) -> ShardHealth:
    name, engine, journal = holding.shard.name, holding.engine, holding.journal
    holders = [m.name for m in shards.sight.members if name in m.holding and m.id != shards.me.id]
    here = holding.state in ("held", "ending")
    return ShardHealth(
        name=name,
        accounts=holding.shard.accounts,
        state=holding.state,
        holder=shards.me.name if here else next(iter(holders), ""),
        detail=_words(shards, holding),
        epoch=engine.epoch if engine is not None else 0,
        lease_seconds=journal.lease_left() if here and isinstance(journal, PostgresJournal) else 0.0,
        letters=shards.sight.letters.get(name, 0),
    )


# ------------------------------------------------------------------------------------------------------------- commands


def _quote(shards: Shards, symbol: str) -> Quote | None:
    return next((found for engine in shards.held() if (found := engine.parts.quote(symbol)) is not None), None)


def _engine(shards: Shards, account: str) -> Engine:
    """The one that holds the account here. Raises Unknown, Unready."""
    holding = shards.of(account)
    if holding is None:
        raise Unknown(f"there is no account {account}")
    if holding.engine is None:
        name = holding.shard.name
        raise Unready(f"account {account} is of shard '{name}', which {shards.whose(name)}; ask there")
    return holding.engine


async def obey(errands: Errands, shards: Shards, shard: str, engine: Engine) -> None:
    """For ever: what other engines were asked for, of a shard that is held here."""
    await errands.carry_out(
        shard, lambda: shards.sight.letters.get(commands_of(shard), 0), lambda command: _do(engine, command)
    )


async def _do(engine: Engine, command: Command) -> StopReport:
    if command.what == "stop":
        return await stop(engine, command.by, command.reason, command.flatten)
    return await flatten(engine, None, None, command.by, command.reason)


async def _flatten(
    shards: Shards, errands: Errands, account: str | None, symbol: str | None, by: str, reason: str
) -> StopReport:
    if account is not None:
        return await flatten(_engine(shards, account), account, symbol, by, reason)
    if symbol is not None:
        raise Refused(Refusal(field="account", reason="a symbol needs its account"))
    return await everywhere(shards, errands, Command("flatten", by, reason))


async def everywhere(shards: Shards, errands: Errands, command: Command) -> StopReport:
    """One report of all shards, all at once. What its holder has not answered keeps it from being complete."""
    told: dict[str, tuple[StopReport, ShardStop]] = {}

    async def one(holding: Holding) -> None:
        name = holding.shard.name
        if holding.engine is None:
            told[name] = await _elsewhere(shards, errands, name, command)
        else:
            here = ShardStop(name=name, state="here", holder=shards.me.name, detail="done here")
            told[name] = await _do(holding.engine, command), here

    async with trio.open_nursery() as nursery:
        for holding in shards.holdings:
            nursery.start_soon(one, holding)
    done = [told[holding.shard.name] for holding in shards.holdings]
    reports = [report for report, _ in done]
    return StopReport(
        by=command.by,
        reason=command.reason,
        complete=all(report.complete for report in reports),
        halted=any(report.halted for report in reports),
        durable=all(report.durable for report in reports),
        left=tuple(left for report in reports for left in report.left),
        problems=tuple(problem for report in reports for problem in report.problems),
        halts=_once(halt for report in reports for halt in report.halts),
        took_ns=max((report.took_ns for report in reports), default=0),
        shards=tuple(shard for _, shard in done),
    )


async def _elsewhere(shards: Shards, errands: Errands, name: str, command: Command) -> tuple[StopReport, ShardStop]:
    try:
        number = await errands.leave(name, command)
    except Unreached as error:
        why = f"could not be left on the server for the shard, which {shards.whose(name)}: {error}"
        return _not_done(command, name, why), ShardStop(name=name, state="unreached", detail=why)
    holder = shards.holder(name)
    at_work = holder or any(h.wanted and h.shard.name == name for h in shards.holdings)
    if at_work and (report := await errands.answer(number)) is not None:
        holder = shards.holder(name) or shards.me.name
        there = ShardStop(name=name, state="there", holder=holder, detail=f"done by engine '{holder}'")
        problems = tuple(f"shard '{name}': {problem}" for problem in report.problems)
        return replace(report, problems=problems), there
    why = f"left on the server; no answer yet for the shard, which {shards.whose(name)}"
    return _not_done(command, name, why), ShardStop(name=name, state="left", holder=holder, detail=why)


def _not_done(command: Command, name: str, why: str) -> StopReport:
    return StopReport(by=command.by, reason=command.reason, complete=False, problems=(f"shard '{name}': {why}",))


async def _resume(
    shards: Shards, fallen: Fallen, scope: str, by: str, note: str, kind: HaltKind | None
) -> ResumeReport:
    """Of an account or a symbol: by its holder. Of the engine or a venue: in every shard that is held here."""
    what, _, rest = scope.partition("/")
    if what in ("account", "symbol"):
        return await resume(_engine(shards, rest.partition("/")[0]), scope, by, note, kind)
    if what == "engine":
        await fallen.revive("engine")
    told: list[ResumeReport] = []
    refused: list[Exception] = []
    for engine in shards.held():
        try:
            told.append(await resume(engine, scope, by, note, kind))
        except (Unknown, Refused) as error:
            refused.append(error)
    if not told:
        raise next((e for e in refused if isinstance(e, Refused)), Unknown(f"{scope} is not halted here"))
    remains = [text for report in told for text in report.remains]
    remains += [str(error) for error in refused if isinstance(error, Refused)]
    return ResumeReport(
        halts=_once(halt for engine in shards.held() for halt in engine.world.switch.halts()),
        ended=_once(halt for report in told for halt in report.ended),
        remains=tuple(dict.fromkeys(remains)),
    )
