"""A finite run like the demo's, but by a real venue's protocol, at a local exchange in a process of its own.

Signatures and receive windows want real clocks, so the run takes its time; it is the exchange's tape that is played
faster. Everything between the signals and the exchange is what ships: adapter, streams, order socket, journal on disk.
At the end the exchange holds its market still, and its truth is compared with our books.
"""

from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from random import Random
from typing import TypeAlias, TypeVar

import msgspec
import structlog
import trio
from msgspec import Struct
from msgspec.structs import replace

from actors.assembly import Board, open_market, start_market
from actors.demo import ACCOUNT, DemoSource, Played, decide, demo_limits, differences, given, summary_of
from actors.real import admit, open_real, public_hosts
from actors.wiring import AccountParts, Engine, Parts, run_engine
from engine.core.messages import Failed, FillReport, Instrument, InstrumentKind, OrderReport, PositionReport
from engine.core.tally import Tally
from engine.edges.dialects import DialectTerms
from engine.exchange.admin import Truth as AdminTruth
from engine.exchange.terms import ExchangeTerms, KeyTerms
from engine.runtime.clock import Clock
from engine.runtime.config import AccountSection, Config, RehearsalSection
from engine.runtime.journal.base import Journal
from engine.runtime.terminal import DemoSummary
from engine.venues.binance.spot import SpotVenue
from engine.venues.paper import Truth

SPEED = 10.0  # of the exchange's market
SETTLE_SECONDS = 120.0  # for doubts to be settled and messages that were lost to be missed
SECRET = "local-secret"  # of a key that is good for nothing but the exchange beside us
LOG = structlog.get_logger("rehearsal")

R = TypeVar("R", OrderReport, FillReport, PositionReport)
Ask: TypeAlias = Callable[[str, str, dict[str, object] | None], Awaitable[bytes]]
"""A request to the exchange's admin: method, path, body."""


class Face(Struct, frozen=True):
    """What a face is as an account: the adapter's name, and the category ("": as the account's own)."""

    venue: str
    category: str
    create: str  # the operations as the exchange calls them, for faults
    cancel: str
    unclear: dict[str, object]  # an answer that leaves open whether it was done


_TIMEOUT: dict[str, object] = {"code": -1007, "status": 504, "text": "Timeout waiting for response"}
FACES = {
    "bybit": Face("bybit", "", "order.create", "order.cancel", {"code": 10016, "text": "Server error."}),
    "binance-spot": Face("binance", "spot", "order.place", "order.cancel", _TIMEOUT),
    "binance-usdm": Face("binance", "linear", "order.place", "order.cancel", _TIMEOUT),
}


class Rehearsal(Struct, frozen=True):
    """One run. `config` has one account, ACCOUNT, which trades at the exchange that `ask` leads to."""

    config: Config
    title: str
    seed: int
    seconds: float
    lines: tuple[bytes, ...] | None  # the user's own signals, None: the built-in decider's
    journal: Callable[[Clock], Journal]
    ask: Ask
    progress: Callable[[int, str], None]  # thousandths, words


def demo_config(venue: str, symbols: tuple[str, ...], faults: bool) -> Config:
    """The demo's account, to be put to an exchange by `at_exchange`."""
    account = AccountSection(limits=demo_limits())
    found = Config(rehearsal=RehearsalSection(venue=venue, faults=faults), accounts={ACCOUNT: account})  # type: ignore[arg-type]
    return replace(found, market=replace(found.market, symbols=symbols))


def exchange_terms(config: Config, demo: bool) -> ExchangeTerms:
    """An account of its own for each of ours; with the purse of the first, unless it is the demo's."""
    keys = tuple(KeyTerms(key=f"local-{name}", account=name, secret=SECRET) for name in config.accounts)
    if demo:
        return ExchangeTerms(keys=keys)
    paper = next(iter(config.accounts.values())).paper
    return ExchangeTerms(keys=keys, balances=dict(paper.balances), leverage=paper.leverage)


def at_exchange(config: Config, ports: Mapping[str, int], symbols: tuple[str, ...], folder: Path) -> Config:
    """The same configuration with every account at the rehearsal's face, and with a journal of its own."""
    face = FACES[config.rehearsal.venue]
    host = f"http://127.0.0.1:{ports[config.rehearsal.venue]}"
    accounts = {
        name: replace(
            section,
            venue=face.venue,
            host=host,
            category=face.category or section.paper.kind,
            key_vault="",
            key_env=key_variable(place),
            secret_env=SECRET_VARIABLE,
        )
        for place, (name, section) in enumerate(config.accounts.items())
    }
    return replace(
        config,
        engine=replace(config.engine, env="testnet", data_dir=str(folder)),
        journal=replace(config.journal, path=str(folder / "journal.sqlite"), url=""),
        market=replace(config.market, kind=face.venue, tape="", symbols=config.market.symbols or symbols),
        accounts=accounts,
        sinks=tuple(replace(sink, path=str(folder / Path(sink.path).name)) for sink in config.sinks),
    )


SECRET_VARIABLE = "SUREFIRE_REHEARSAL_SECRET"


def key_variable(place: int) -> str:
    return f"SUREFIRE_REHEARSAL_KEY_{place}"


def keys_of(config: Config) -> dict[str, str]:
    """The environment in which the accounts find their keys."""
    keys = {key_variable(place): f"local-{name}" for place, name in enumerate(config.accounts)}
    return {**keys, SECRET_VARIABLE: SECRET}


async def run_rehearsal(rehearsal: Rehearsal, clock: Clock, rng: Random) -> DemoSummary:
    """Inside a trio run in real time. The journal is closed when this returns.

    Raises Inadmissible, KeyProblem, JournalFailed when it cannot start.
    """
    config, board = rehearsal.config, Board()
    section = config.accounts[ACCOUNT]
    summary: list[DemoSummary] = []
    stop, drained = trio.Event(), trio.Event()
    async with trio.open_nursery() as services:
        account = open_real(ACCOUNT, config, clock, rng, keys_of(config), board.quote)
        await admit(account, section, services, stop)
        market = open_market(config.market, InstrumentKind(section.category), clock, *public_hosts(config))
        start_market(services, market, [board], clock, rng)
        listed = await _instruments(account, config.market.symbols)
        lines = rehearsal.lines
        bodies = decide(listed, board.quote, rng, section.venue) if lines is None else given(lines)
        source = DemoSource(bodies, clock, SPEED)
        parts = _parts(rehearsal, account, board, source, clock, rng)

        async def engine_task(task_status: trio.TaskStatus[Engine]) -> None:
            await run_engine(parts, stop, task_status)
            drained.set()

        engine: Engine = await services.start(engine_task)
        began = clock.ticks_ns()
        await _trade(rehearsal, engine, source)
        played_ns = clock.ticks_ns() - began
        found = await _settle(rehearsal, engine, source)
        quote = listed[0].quote
        played = Played(rehearsal.title, rehearsal.seed, int(played_ns * SPEED), clock.ticks_ns() - began, quote)
        reader = parts.journal.reader()
        told = summary_of(played, engine, reader, source, found)
        reader.close()
        summary.append(replace(told, suffered=await _suffered(rehearsal)))
        stop.set()
        await drained.wait()
        services.cancel_scope.cancel()
    return summary[0]


def _parts(
    rehearsal: Rehearsal, account: AccountParts, board: Board, source: DemoSource, clock: Clock, rng: Random
) -> Parts:
    return Parts(
        env=rehearsal.config.engine.env,
        clock=clock,
        journal=rehearsal.journal(clock),
        rng=rng,
        accounts=(account,),
        quote=board.quote,
        sources=(source,),
        sinks=(),
        dialects=DialectTerms(account=ACCOUNT),
        dead_letter=lambda malformed: None,
        tally=Tally(),
        build="demo",
    )


async def _instruments(account: AccountParts, symbols: tuple[str, ...]) -> tuple[Instrument, ...]:
    """Of the symbols that the exchange plays."""
    while isinstance(listed := await account.venue.instruments(), Failed):
        LOG.warning("instruments not to be had", reason=listed.why)
        await trio.sleep(1.0)
    return tuple(instrument for instrument in listed if instrument.symbol in symbols)


async def _trade(rehearsal: Rehearsal, engine: Engine, source: DemoSource) -> None:
    """The signals run by themselves; the faults come evenly, and leave the last fifth of the time in peace."""
    while engine.closed(ACCOUNT):  # noqa: ASYNC110 (entries are closed for several reasons)
        await trio.sleep(0.01)
    woes = tuple(misfortunes(rehearsal.config.rehearsal.venue)) if rehearsal.config.rehearsal.faults else ()
    began, seconds = trio.current_time(), rehearsal.seconds
    due = [began + seconds * 0.8 * (place + 1) / (len(woes) + 1) for place in range(len(woes))]
    for at, (path, body) in zip(due, woes, strict=True):
        await _until(at, began, rehearsal, source)
        await rehearsal.ask("POST", path, body)
    await _until(began + seconds, began, rehearsal, source)
    source.stop()


async def _until(at: float, began: float, rehearsal: Rehearsal, source: DemoSource) -> None:
    while (now := trio.current_time()) < at:
        rehearsal.progress(int((now - began) / rehearsal.seconds * 1000), f"{source.sent} signals")
        await trio.sleep(min(0.25, at - now))


def misfortunes(name: str) -> Iterator[tuple[str, dict[str, object]]]:
    """Path and body of each at the exchange's admin.

    Not among them is a request that never arrives: only time can prove that, more of it than a demo has.
    """
    face = FACES[name]
    here: dict[str, object] = {"face": name}
    yield "/fault", {"do": "lose_reply", "on": face.create, **here}
    yield "/do", {"do": "drop", "scope": "trade", **here}
    yield "/fault", {"do": "refuse_done", "on": face.create, **face.unclear, **here}
    yield "/do", {"do": "mangle", "how": "lose", "times": 1}
    yield "/fault", {"do": "lose_reply", "on": face.cancel, **here}
    yield "/do", {"do": "drop", "scope": "private", **here}
    yield "/fault", {"do": "garbage", "on": face.create, **here}
    yield "/do", {"do": "lag", "ms": 300, **here}
    yield "/do", {"do": "mangle", "how": "swap", "times": 2}
    yield "/fault", {"do": "delay_reply", "on": face.create, "ms": 700, **here}
    yield "/do", {"do": "mangle", "how": "repeat", "times": 3}
    yield "/do", {"do": "drop", "scope": "public", **here}
    yield "/fault", {"do": "reject_later", "on": face.create, **here}
    yield "/do", {"do": "restart", **here}


async def _settle(rehearsal: Rehearsal, engine: Engine, source: DemoSource) -> tuple[str, ...]:
    """Where the books differ when all has come to rest, or is as it is for too long. The exchange's market stands."""
    await rehearsal.ask("DELETE", "/faults", None)
    await rehearsal.ask("POST", "/do", {"do": "hold"})
    found: tuple[str, ...] = ("nothing came to rest in time",)
    alike = 0
    with trio.move_on_after(SETTLE_SECONDS):
        while alike < 2:  # a message may be on its way when all looks alike for the first time
            await trio.sleep(0.5)
            if source.answered() and engine.quiet():
                found = await _compare(rehearsal, engine)
                alike = 0 if found else alike + 1
            else:
                alike = 0
    return found if alike < 2 else ()


async def _compare(rehearsal: Rehearsal, engine: Engine) -> tuple[str, ...]:
    journal, section = engine.parts.journal, rehearsal.config.accounts[ACCOUNT]
    told = await _truth(rehearsal, section.category)
    await journal.durable(journal.append(()))
    reader = journal.reader()
    quote = next(iter(engine.instruments[ACCOUNT].values())).quote
    venue = engine.parts.accounts[0].venue
    found = differences(told, reader, quote, venue.held() if isinstance(venue, SpotVenue) else ())
    reader.close()
    return found


async def _truth(rehearsal: Rehearsal, category: str) -> Truth:
    """All that the exchange knows of our account, in the symbols that its clients see."""
    face = rehearsal.config.rehearsal.venue
    raw = await rehearsal.ask("GET", f"/truth?face={face}&account={ACCOUNT}", None)
    inner = msgspec.json.decode(raw, type=dict[str, dict[str, AdminTruth]])[face][ACCOUNT]
    return Truth(
        tuple(_outer(row) for row in inner.orders if _is_of(row, category)),
        tuple(_outer(row) for row in inner.executions if isinstance(row, FillReport) and _is_of(row, category)),
        inner.balances,
        tuple(_outer(row) for row in inner.positions if _is_of(row, category)),
        0,
    )


def _is_of(row: OrderReport | FillReport | PositionReport, category: str) -> bool:
    return row.symbol.startswith(f"{category}:")


def _outer(row: R) -> R:
    return replace(row, symbol=row.symbol.partition(":")[2])


async def _suffered(rehearsal: Rehearsal) -> dict[str, int]:
    """The faults that befell requests, and what was done to streams and queries."""
    if not rehearsal.config.rehearsal.faults:
        return {}
    state = msgspec.json.decode(await rehearsal.ask("GET", "/state", None))
    deeds = [str(body["do"]) for path, body in misfortunes(rehearsal.config.rehearsal.venue) if path == "/do"]
    return {"to requests": int(state["suffered"]), "to streams and queries": len(deeds)}
