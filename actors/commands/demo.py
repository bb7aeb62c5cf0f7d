"""`demo`: a finite run on the paper venue and a virtual clock, or by a venue's protocol at a local exchange."""

import argparse
import io
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import msgspec
import trio
from msgspec.structs import replace

from actors.commands.beside import at_local_exchange
from actors.commands.frame import usable_config
from actors.commands.starting import started
from actors.demo import replay_of, run_demo
from actors.rehearsal import SPEED, Rehearsal, demo_config, run_rehearsal
from engine.core.money import use_exact_context
from engine.exchange.asking import ask
from engine.market import synthetic
from engine.market.recorded import survey
from engine.runtime.clock import Clock, live_clock
from engine.runtime.commandline import FAILED, OK, USAGE, Quit
from engine.runtime.config import Config, JournalSection, LogSection, RehearsalSection, load
from engine.runtime.journal.base import Journal
from engine.runtime.journal.choice import address_of, journal_of
from engine.runtime.log import configure
from engine.runtime.schedule import JumpClock, seeded_schedule
from engine.runtime.terminal import DemoSummary, progress, show_summary


def demo(arguments: argparse.Namespace) -> int:
    use_exact_context()
    # Refusals and alerts are the point of a demo; they are in its summary, and would tear the progress bar.
    configure(live_clock(), io.BytesIO(), LogSection().level)
    with usable_config():
        said = load(arguments.config) if arguments.config else None
    at = _venue(arguments, said.rehearsal if said else RehearsalSection())
    if at.venue in ("", "paper"):
        summary = started(lambda: _replay(arguments))
    else:
        summary = started(lambda: _rehearse(arguments, at, said.journal if said else JournalSection()))
    show_summary(summary, sys.stdout, arguments.json)
    return OK if summary.books_balance else FAILED


def _venue(arguments: argparse.Namespace, said: RehearsalSection) -> RehearsalSection:
    """Where the demo trades, and whether that misbehaves: as the command line says, else the config."""
    venue = said.venue if arguments.venue is None else arguments.venue
    faults = said.faults if arguments.faults is None else arguments.faults
    if faults and venue in ("", "paper"):
        raise Quit(USAGE, "faults are the local exchange's: name one of its faces with --venue")
    return RehearsalSection(venue=venue, faults=faults)


def _replay(arguments: argparse.Namespace) -> DemoSummary:
    replay, per_mille = replay_of(arguments.seed, arguments.tape, _lines(arguments))
    with progress(f"replaying {replay.tape}", 1000) as show, seeded_schedule(arguments.seed):
        replay = replace(replay, progress=lambda done_ns, words: show(per_mille(done_ns), words))
        summary, close = trio.run(run_demo, replay, clock=JumpClock())
        close()
    return summary


def _rehearse(arguments: argparse.Namespace, at: RehearsalSection, journal: JournalSection) -> DemoSummary:
    """At a local exchange in a process of its own; the journal is on disk, and gone afterwards."""
    played = survey(arguments.tape).instruments if arguments.tape else synthetic.instruments()
    symbols = tuple(dict.fromkeys(instrument.symbol for instrument in played))
    tape = f'kind = "recorded"\ntape = {_toml(str(arguments.tape))}' if arguments.tape else f"seed = {arguments.seed}"
    with TemporaryDirectory(prefix="surefire-demo-") as name, ExitStack() as beside:
        folder = Path(name)
        (folder / "exchange.toml").write_text(f"[market]\n{tape}\nspeed = {SPEED}\n", encoding="utf-8")
        config = demo_config(at.venue, symbols, at.faults)
        config, port = at_local_exchange(beside, config, folder / "exchange.toml", folder, demo=True)

        async def tell(method: str, path: str, body: dict[str, object] | None) -> bytes:
            return await trio.to_thread.run_sync(partial(ask, "127.0.0.1", port, method, path, body))

        rehearsal = Rehearsal(
            config=config,
            title=f"{arguments.tape.name if arguments.tape else 'synthetic'} at {at.venue}, a local exchange",
            seed=arguments.seed,
            seconds=arguments.seconds,
            lines=_lines(arguments),
            journal=_journal(beside, config, folder, journal),
            ask=tell,
            progress=beside.enter_context(progress(f"trading at {at.venue}", 1000)),
        )
        return trio.run(run_rehearsal, rehearsal, live_clock(), Random(arguments.seed + 1))


def _journal(beside: ExitStack, config: Config, folder: Path, said: JournalSection) -> Callable[[Clock], Journal]:
    """A file in the folder; where the config's journal is on a server, one of its own there. Gone with `beside`."""
    own = replace(said, path=str(folder / "journal.sqlite"), durability="power")
    if said.url:
        from engine.runtime.journal.server import drop  # loads the client of PostgreSQL

        own = replace(own, schema=f"{said.schema[:16]}_demo_{os.getpid()}")
        beside.callback(drop, address_of(own, os.environ))
    of_demo = replace(config, journal=own, engine=replace(config.engine, data_dir=str(folder)))
    return lambda clock: journal_of(of_demo, clock, os.environ)


def _lines(arguments: argparse.Namespace) -> tuple[bytes, ...] | None:
    return tuple(arguments.signals.read_bytes().splitlines()) if arguments.signals else None


def _toml(text: str) -> str:
    return msgspec.json.encode(text).decode()  # a basic string of TOML is written as JSON's
