"""The API's ports, filled from a running engine: small translations between what actors say and what the API shows."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

import trio
from msgspec import Struct

from actors.operator import StopReport as Cleared
from actors.real import notes
from actors.wiring import Engine
from engine.core.breakers import BY
from engine.core.messages import Check, Halt, HaltKind, Limits, Refusal
from engine.edges.base import Connected, Receipt, Sink, Source
from engine.edges.http import HttpSource, status_of
from engine.edges.stream import Broadcast
from engine.edges.webhook import Denied, HookSource, Spilled
from engine.edges.webhook import Request as HookRequest
from engine.runtime.clock import Clock
from engine.runtime.config import Config
from engine.runtime.journal.base import JournalFailed, Reader
from engine.web.ports import (
    Channel,
    Component,
    Health,
    JournalStats,
    Left,
    NotLetIn,
    Ports,
    Refused,
    ResumeReport,
    StopReport,
    Unknown,
    Unready,
    at_once,
)

Deliver: TypeAlias = Callable[[str, Mapping[str, str], bytes, str, str | None], Awaitable[Receipt]]


def in_a_thread() -> Callable[[Callable[[], Any]], Awaitable[Any]]:
    """One question at a time, over one connection; the loop does not wait for a server that may be away."""
    one = trio.CapacityLimiter(1)

    async def read(ask: Callable[[], Any]) -> Any:
        return await trio.to_thread.run_sync(ask, limiter=one, abandon_on_cancel=True)

    return read


def ports_for(
    engine: Engine, http: HttpSource | None, broadcast: Broadcast, config: Config, clock: Clock, reader: Reader
) -> Ports:
    """Everything the API may ask of this engine."""

    async def submit(raw: bytes, trace_id: str | None) -> Receipt:
        if http is None:
            raise Unready("no source of kind 'http' is configured")
        return await http.submit(raw, trace_id)

    async def turn_away(raw: bytes, why: str, trace_id: str | None) -> Receipt:
        if http is None:
            raise Unready("no source of kind 'http' is configured")
        return await http.submit(raw, trace_id, flaw=why)

    return Ports(
        submit=submit,
        turn_away=turn_away,
        deliver=delivery(engine.parts.sources),
        answer=status_of,
        reader=reader,
        read=in_a_thread() if config.journal.url else at_once,
        quote=engine.parts.quote,
        health=lambda: health(engine, config),
        stop=lambda by, reason, flatten: stop(engine, by, reason, flatten),
        resume=lambda scope, by, note, kind: resume(engine, scope, by, note, kind),
        flatten=lambda account, symbol, by, reason: flatten(engine, account, symbol, by, reason),
        close_position=lambda account, symbol, by: close(engine, account, symbol, by),
        set_limits=lambda account, changes, by: set_limits(engine, account, changes, by),
        subscribe=broadcast.subscribe,
        tally=engine.parts.tally.snapshot,
        usage=lambda: usage(engine),
        dump=lambda: dump(engine),
        now_ns=clock.now_ns,
    )


def usage(engine: Engine) -> dict[str, tuple[Check, ...]]:
    return engine.admission.usage(engine.parts.quote("BTCUSDT"), engine.world.clock.now_ns())


def delivery(sources: Iterable[Source]) -> Deliver:
    """Hands a webhook's body to the source of its name."""
    hooks = {source.name: source for source in sources if isinstance(source, HookSource)}

    async def deliver(name: str, headers: Mapping[str, str], raw: bytes, address: str, trace_id: str | None) -> Receipt:
        if name not in hooks:
            raise Unknown("there is no such hook")
        request = HookRequest(headers=headers, raw=raw, address=address, trace_id=trace_id)
        match await hooks[name].receive(request):
            case Denied() as no:
                raise NotLetIn(no.kind, no.why)
            case Spilled() as spilled:
                raise Refused(Refusal(field="", reason=spilled.why))
            case receipt:
                return receipt

    return deliver


class Running(Struct, frozen=True):
    """What signals of the operating system ask of whatever runs: its inner state, and other limits."""

    dump: Callable[[], dict[str, object]]
    set_limits: Callable[[str, dict[str, object], str], Awaitable[Limits | str]]


def running_of(engine: Engine) -> Running:
    return Running(lambda: dump(engine), engine.operator.set_limits)


def health(engine: Engine, config: Config) -> Health:
    """Live: the loop runs and the journal takes facts. Ready for entries: also reconciled, streams up, not halted."""
    world, stats = engine.world, engine.parts.journal.stats()
    names = [a.name for a in engine.parts.accounts]
    closed = {name: engine.closed(name) for name in names}
    halts = world.switch.halts()
    components = [
        Component(name="journal", ok=not stats.failed, detail=stats.failed or config.journal.durability),
        Component(name="stalls", ok=not _stalled(halts), detail=_stalls(engine)),
        Component(name="actors", ok=not engine.down, detail=", ".join(engine.down)),
        *(
            Component(
                name=f"account/{name}",
                ok=not closed[name],
                detail="; ".join(h.reason for h in closed[name]) or "reconciled",
            )
            for name in names
        ),
    ]
    entry = all(c.ok for c in components) and not any(h.scope == "engine" for h in halts)
    components += _ess(engine)
    components += [edge(f"source/{e.name}", e) for e in engine.parts.sources if isinstance(e, Connected)]
    components += [_sink(e, engine.outlets[e.name].down, stats.sinks_waiting) for e in engine.parts.sinks]
    return Health(
        live=not stats.failed,
        protective_ready=all(engine.reconciled.values()),
        entry_ready=entry,
        components=tuple(components),
        halts=halts,
        streams=tuple(engine.streams.values()),
        journal=JournalStats(
            seq=stats.seq,
            durable_seq=stats.durable_seq,
            commits=stats.commits,
            commit_last_ns=stats.commit_last_ns,
            commit_max_ns=stats.commit_max_ns,
            size_bytes=stats.size_bytes,
            outbox_waiting=stats.outbox_waiting,
            failed=stats.failed,
        ),
        channels=tuple(
            Channel(
                name=name,
                used=channel.statistics().current_buffer_used,
                size=int(channel.statistics().max_buffer_size),
            )
            for name, channel in engine.channels.items()
        ),
        started_ns=engine.started_ns,
        uptime_ns=world.clock.now_ns() - engine.started_ns,
        build=engine.parts.build,
        durability=config.journal.durability,
        notes=(
            *(note for account in engine.parts.accounts for note in notes(account)),
            *hook_notes(engine.parts.sources),
            *_ess_notes(engine),
        ),
    )


def _ess(engine: Engine) -> list[Component]:
    """The risk service outside, if there is one: well when it answers, and has not tripped."""
    watch, now_ns = engine.watch, engine.world.clock.now_ns()
    if watch is None:
        return []
    well = not watch.silent(now_ns) and not watch.shut(now_ns)
    return [Component(name="ess", ok=well, detail=watch.detail(now_ns))]


def _ess_notes(engine: Engine) -> Iterator[str]:
    if engine.watch is not None:
        policy = engine.watch.terms.on_timeout
        word = "pass" if policy == "allow" else "are held back"
        yield f"ess: when the risk service does not answer, entries {word} (on_timeout = {policy})"


def hook_notes(sources: Iterable[Source]) -> Iterator[str]:
    hooks = (source for source in sources if isinstance(source, HookSource))
    yield from (f"hook {hook.name}: INSECURE, its bodies are not signed" for hook in hooks if hook.terms.field)


def edge(name: str, end: Connected) -> Component:
    """A far end that is away closes no entries."""
    return Component(name=name, ok=not end.down, detail=end.down or "connected", lag=getattr(end, "lag", None))


def _sink(sink: Sink, down: str, waiting: dict[str, int]) -> Component:
    """The same of a sink; its events wait for it."""
    down = down or (sink.down if isinstance(sink, Connected) else "")
    return Component(name=f"sink/{sink.name}", ok=not down, detail=down or "takes events", lag=waiting.get(sink.name))


def _stalled(halts: tuple[Halt, ...]) -> bool:
    return any(h.scope == "engine" and h.by.startswith(BY) for h in halts)


def _stalls(engine: Engine) -> str:
    """How often the engine itself stood still since its start, and what was the last time."""
    found = engine.breakers
    return f"{found.stalls}; the last: {found.last_stall}" if found.stalls else "none"


async def stop(engine: Engine, by: str, reason: str, flatten: bool) -> StopReport:
    return _report(engine, by, reason, await engine.operator.stop(by, reason, flatten))


async def resume(engine: Engine, scope: str, by: str, note: str, kind: HaltKind | None) -> ResumeReport:
    try:
        done = await engine.operator.resume(scope, by, note, kind)
    except JournalFailed as error:
        raise Unready(str(error)) from error
    if not done.ended and not done.staying:
        raise Unknown(f"{scope} is not halted")
    if not done.ended:
        raise Refused(*(Refusal(field="kind", reason=f"{s.halt.reason}: {s.why}") for s in done.staying))
    remains = tuple(f"{s.halt.reason} (by {s.halt.by}): {s.why}" for s in done.staying)
    return ResumeReport(halts=engine.world.switch.halts(), ended=done.ended, remains=remains)


async def close(engine: Engine, account: str, symbol: str, by: str) -> StopReport:
    standing = engine.standings.get((account, symbol))
    if standing is None or not standing.position.qty:
        raise Unknown(f"nothing is held in {account}/{symbol}")
    return await flatten(engine, account, symbol, by, "position closed by hand")


async def set_limits(engine: Engine, account: str, changes: dict[str, object], by: str) -> Limits:
    if account not in {a.name for a in engine.parts.accounts}:
        raise Unknown(f"there is no account {account}")
    try:
        outcome = await engine.operator.set_limits(account, changes, by)
    except JournalFailed as error:
        raise Unready(str(error)) from error
    if isinstance(outcome, str):
        raise Refused(Refusal(field="", reason=outcome))
    return outcome


async def flatten(engine: Engine, account: str | None, symbol: str | None, by: str, reason: str) -> StopReport:
    if account is not None and account not in {a.name for a in engine.parts.accounts}:
        raise Unknown(f"there is no account {account}")
    if account is None and symbol is not None:
        raise Refused(Refusal(field="account", reason="a symbol needs its account"))
    return _report(engine, by, reason, await engine.operator.flatten(by, reason, account, symbol))


def _report(engine: Engine, by: str, reason: str, cleared: Cleared) -> StopReport:
    return StopReport(
        by=by,
        reason=reason,
        complete=cleared.flat and cleared.durable,
        halted=cleared.halted,
        durable=cleared.durable,
        left=tuple(
            Left(account=x.account, entries=x.entries, positions=x.positions, unknown=x.unknown) for x in cleared.left
        ),
        problems=cleared.problems,
        halts=engine.world.switch.halts(),
        took_ns=cleared.took_ms * 1_000_000,
    )


def dump(engine: Engine) -> dict[str, object]:
    """Inner state for whoever looks for a fault."""
    return {
        "epoch": engine.epoch,
        "down": list(engine.down),
        "gate_open": engine.gate_open,
        "reconciled": dict(engine.reconciled),
        "standings": {"/".join(key): standing for key, standing in engine.standings.items()},
        "channels": {n: c.statistics().current_buffer_used for n, c in engine.channels.items()},
        "backlog": engine.desk.backlog(),
        "halts": engine.world.switch.halts(),
        "tasks": trio.lowlevel.current_statistics().tasks_living,
    }
