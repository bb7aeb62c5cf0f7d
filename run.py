"""The command line: reads arguments and the config, chooses the real clock, disk and venues; nothing else.

Whatever a sub-command needs is imported inside it, so that `--help` answers at once.
"""

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from engine.runtime.commandline import FAILED, INTERRUPTED, OK, REFUSED, UNREACHABLE, USAGE, parser

if TYPE_CHECKING:
    import trio

    from actors.assembly import Market
    from actors.demo import Demo
    from actors.wiring import Engine
    from engine.core.messages import Limits
    from engine.exchange.terms import ExchangeTerms
    from engine.runtime.clock import Clock
    from engine.runtime.config import Config
    from engine.runtime.journal.base import Journal
    from engine.runtime.journal.reading import SqlReader
    from engine.runtime.log import Secret
    from engine.runtime.terminal import DemoSummary
    from engine.venues.vault import Unlock

T = TypeVar("T")

NO_WORLDS = "simulate runs the worlds of tests/sim, which an installed package does not carry: use a checkout"
DAY_NS = 24 * 3600 * 1_000_000_000
DEMO_SECONDS = 600  # of market, on the synthetic tape
DEMO_BEGINS_NS = 1_767_225_600 * 1_000_000_000  # 2026-01-01, so that a seed always gives the same run


class Quit(Exception):
    """Ends a sub-command with a sentence for a person and an exit code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code. Wrong arguments leave by SystemExit(2), as argparse does it."""
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["simulate"]:
        return _simulate(given[1:])  # it has its own arguments, and its own --help
    arguments = parser().parse_args(given)
    try:
        return COMMANDS[arguments.command](arguments)
    except Quit as quit_:
        print(f"surefire: {quit_}", file=sys.stderr)
        return quit_.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _seen_enough()


def _seen_enough() -> int:
    """Whoever read our output (`| head`) has gone."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return OK


def _config(arguments: argparse.Namespace) -> "Config":
    from engine.runtime.config import ConfigError, default_config, load

    data_dir, port = arguments.data_dir, getattr(arguments, "port", None)
    try:
        return load(arguments.config, data_dir, port) if arguments.config else default_config(data_dir, port)
    except ConfigError as error:
        raise Quit(USAGE, "the config cannot be used:\n  " + "\n  ".join(error.problems)) from error


# ---------------------------------------------------------------------------------------------- asking a running engine


def _stop(arguments: argparse.Namespace) -> int:
    body = {"by": _me(), "reason": arguments.reason, "flatten": not arguments.keep_positions}
    return _tell_report(_ask(_config(arguments), "POST", "/stop", body), arguments.json)


def _flatten(arguments: argparse.Namespace) -> int:
    body = {"by": _me(), "reason": arguments.reason, "account": arguments.account, "symbol": arguments.symbol}
    return _tell_report(_ask(_config(arguments), "POST", "/flatten", body), arguments.json)


def _resume(arguments: argparse.Namespace) -> int:
    import msgspec

    from engine.web.asking import resumed_lines
    from engine.web.ports import ResumeReport

    body = {"by": _me(), "scope": arguments.scope, "note": arguments.note, "kind": arguments.kind}
    answer = _ask(_config(arguments), "POST", "/resume", body)
    done = msgspec.json.decode(answer, type=ResumeReport)
    print(answer.decode() if arguments.json else "\n".join(resumed_lines(arguments.scope, done)))
    return OK


def _explain(arguments: argparse.Namespace) -> int:
    from urllib.parse import quote

    config = _config(arguments)
    path = f"/signals/{quote(arguments.signal_id, safe='')}?format={'json' if arguments.json else 'text'}"
    try:
        print(_ask(config, "GET", path).decode().rstrip())
    except Quit as quit_:
        if quit_.code != UNREACHABLE:
            raise
        print(_explain_from_journal(config, arguments.signal_id, arguments.json))
    return OK


def _ask(config: "Config", method: str, path: str, body: dict[str, object] | None = None) -> bytes:
    """A request to the running engine's API. Raises Quit when there is none, or when it says no."""
    from engine.runtime.log import Secret
    from engine.web.asking import TOKEN_ENV, SaidNo, Unreachable, ask

    token = os.environ.get(TOKEN_ENV, "")
    try:
        return ask(config.api, method, path, body, Secret(token) if token else None)
    except Unreachable as error:
        raise Quit(UNREACHABLE, str(error)) from error
    except SaidNo as error:
        raise Quit(FAILED, str(error)) from error


def _tell_report(answer: bytes, as_json: bool) -> int:
    import msgspec

    from engine.web.asking import report_lines
    from engine.web.ports import StopReport

    done = msgspec.json.decode(answer, type=StopReport)
    print(answer.decode() if as_json else "\n".join(report_lines(done)))
    return OK if done.complete else FAILED


def _me() -> str:
    from getpass import getuser

    try:
        return f"{getuser()} (command line)"
    except (OSError, KeyError):  # a user without a name, as in a container
        return "command line"


# -------------------------------------------------------------------------------------------------------------- looking


def _check(arguments: argparse.Namespace) -> int:
    import trio

    from actors.checkup import look_over
    from actors.real import needs_vault
    from engine.core.money import use_exact_context
    from engine.runtime.clock import live_clock
    from engine.runtime.terminal import show_findings

    use_exact_context()
    config = _config(arguments)
    if needs_vault(config):
        _ask_passphrase(config)
    findings = trio.run(look_over, config, str(arguments.config or "defaults, no file"), live_clock())
    show_findings(findings, sys.stdout, arguments.json)
    return OK if all(finding.ok for finding in findings) else FAILED


def _audit(arguments: argparse.Namespace) -> int:
    from engine.core.audit import verify
    from engine.core.money import use_exact_context
    from engine.runtime.journal.archive import folder_of, whole
    from engine.runtime.journal.base import JournalFailed
    from engine.runtime.terminal import show_audit

    use_exact_context()
    config = _config(arguments)
    folder = arguments.archives or folder_of(Path(config.journal.path))
    try:
        with closing(_reader(config)) as reader, reader.snapshot():
            all_ = whole(reader, folder)
            report = verify(all_.lines, all_.tables, all_.base, all_.findings, all_.notes)
    except JournalFailed as error:
        raise Quit(REFUSED, str(error)) from error
    show_audit(report, sys.stdout, arguments.json)
    return OK if report.sound else FAILED


def _journal(arguments: argparse.Namespace) -> int:
    """Move what is old to archives, or delete archives."""
    from engine.core.money import use_exact_context
    from engine.runtime.clock import live_clock
    from engine.runtime.journal.archive import DAY_NS, Asked, archive, foresee, retain
    from engine.runtime.journal.base import JournalFailed
    from engine.runtime.terminal import progress, show_archived

    use_exact_context()
    config = _config(arguments)
    if config.journal.url:
        raise Quit(USAGE, "archives are made of a journal on SQLite; one on PostgreSQL keeps everything so far")
    path = Path(config.journal.path)
    if arguments.what == "retain" and arguments.keep_days is None:
        raise Quit(USAGE, "journal retain deletes for good: say --keep-days")
    asked = Asked((arguments.keep_days or 30) * DAY_NS, live_clock().now_ns(), _me())
    try:
        with progress("archiving", 1000) as show:
            if arguments.what == "retain":
                report = retain(path, asked, arguments.dry_run)
            elif arguments.dry_run:
                with closing(_reader(config)) as reader, reader.snapshot():
                    report = foresee(reader, path, asked, show)
            else:
                report = archive(path, asked, show)
    except JournalFailed as error:
        raise Quit(REFUSED, str(error)) from error
    show_archived(report, arguments.what, sys.stdout, arguments.json)
    return FAILED if report.left else OK


def _keys(arguments: argparse.Namespace) -> int:
    """Add, list, rotate, remove: what is in the vault, without ever showing a secret."""
    from engine.venues.keys import KeyProblem

    config = _config(arguments)
    _right_words(arguments, config)
    try:
        return {"add": _keys_add, "list": _keys_list, "rotate": _keys_rotate, "remove": _keys_remove}[arguments.what](
            arguments, config
        )
    except KeyProblem as problem:
        raise Quit(REFUSED, str(problem)) from problem


def _right_words(arguments: argparse.Namespace, config: "Config") -> None:
    from re import fullmatch

    from engine.runtime.config import KEY_NAME

    what, name, new = arguments.what, arguments.name, arguments.new_passphrase_env or arguments.new_key_env
    if what in ("add", "remove") and not name:
        raise Quit(USAGE, f"keys {what}: say the key's name")
    if what == "add" and not fullmatch(KEY_NAME, name):
        raise Quit(USAGE, f"'{name}' is no name for a key: up to 64 letters, digits, and _ . -")
    if what == "list" and name:
        raise Quit(USAGE, "keys list takes no name")
    if what == "add" and arguments.account not in config.accounts:
        raise Quit(USAGE, f"keys add: --account must be one of the config's: {', '.join(config.accounts)}")
    if what != "add" and arguments.account:
        raise Quit(USAGE, f"keys {what} takes no --account: a key stays its account's")
    if new and (what != "rotate" or name):
        raise Quit(USAGE, "a new passphrase or key is for all: keys rotate, without a name")
    if arguments.new_passphrase_env and arguments.new_key_env:
        raise Quit(USAGE, "keys rotate: a new passphrase or a new key, not both")


def _keys_add(arguments: argparse.Namespace, config: "Config") -> int:
    from engine.runtime.clock import live_clock
    from engine.venues.vault import look_through, put, unlock_of

    path = Path(config.vault.path)
    _ask_passphrase(config, twice=not path.exists())
    typed, venue = _typed_secrets(), config.accounts[arguments.account].venue
    look_through(typed, signs=venue != "ccxt")
    entry = put(path, unlock_of(config.vault, os.environ), arguments.name, arguments.account, typed, live_clock())
    said = {"name": entry.name, "account": entry.account, "revision": entry.revision}
    told = f"{path} holds the key '{entry.name}'; [accounts.{entry.account}] takes it by key_vault = \"{entry.name}\""
    _print(said, told, arguments.json)
    return OK


def _keys_list(arguments: argparse.Namespace, config: "Config") -> int:
    from engine.venues.vault import open_vault, unlock_of

    _ask_passphrase(config)
    entries = open_vault(Path(config.vault.path), unlock_of(config.vault, os.environ), "keys list").entries
    rows = [{"name": e.name, "account": e.account, "revision": e.revision, "set_ns": e.set_ns} for e in entries]
    lines = (f"{e.name}: account {e.account}, revision {e.revision}, set {_day(e.set_ns)}" for e in entries)
    _print({"keys": rows}, "\n".join(lines) or "no keys", arguments.json)
    return OK


def _keys_rotate(arguments: argparse.Namespace, config: "Config") -> int:
    from engine.runtime.clock import live_clock
    from engine.venues.vault import look_through, open_vault, relock, renew, unlock_of

    path = Path(config.vault.path)
    _ask_passphrase(config)
    unlock = unlock_of(config.vault, os.environ)
    entries = open_vault(path, unlock, "keys rotate").entries  # before anything new is typed for nothing
    if not arguments.name:
        count = relock(path, unlock, _new_unlock(arguments), live_clock())
        _print({"rotated": count}, f"{count} key(s) are under the new one; the old one opens nothing", arguments.json)
        return OK
    entry = next((entry for entry in entries if entry.name == arguments.name), None)
    if entry is None:
        raise Quit(FAILED, f"{path} holds no key '{arguments.name}'")
    typed, section = _typed_secrets(), config.accounts.get(entry.account)
    look_through(typed, signs=section is None or section.venue != "ccxt")
    entry = renew(path, unlock, arguments.name, typed, live_clock())
    said = {"name": entry.name, "account": entry.account, "revision": entry.revision}
    _print(said, f"'{entry.name}' has a new secret, revision {entry.revision}, from the next start on", arguments.json)
    return OK


def _keys_remove(arguments: argparse.Namespace, config: "Config") -> int:
    from engine.runtime.clock import live_clock
    from engine.venues.vault import remove, unlock_of

    _ask_passphrase(config)
    entry = remove(Path(config.vault.path), unlock_of(config.vault, os.environ), arguments.name, live_clock())
    _print({"removed": entry.name}, f"the key '{entry.name}' is gone; take it back at the venue, too", arguments.json)
    return OK


def _day(at_ns: int) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(at_ns // 1_000_000_000))


def _new_unlock(arguments: argparse.Namespace) -> "Unlock":
    from engine.runtime.config import VaultSection
    from engine.runtime.log import Secret
    from engine.venues.vault import Unlock, unlock_of

    if arguments.new_key_env or arguments.new_passphrase_env:
        names = {"key_env": arguments.new_key_env or "", "passphrase_env": arguments.new_passphrase_env or ""}
        return unlock_of(VaultSection(**names), os.environ)
    if not sys.stdin.isatty():
        raise Quit(USAGE, "keys rotate: there is no terminal to ask at; say --new-passphrase-env or --new-key-env")
    return Unlock("argon2id", Secret(_typed("the vault's new passphrase", twice=True)), "the new passphrase")


def _ask_passphrase(config: "Config", twice: bool = False) -> None:
    """Into our own environment, where it is looked for; whoever has set it there, or a key, is not asked."""
    name = config.vault.passphrase_env
    if not config.vault.key_env and name and not os.environ.get(name) and sys.stdin.isatty():
        os.environ[name] = _typed("the vault's passphrase", twice)


def _forget_passphrase(config: "Config") -> None:
    """The accounts are open: no process that we start from now on has any use for it."""
    for name in (config.vault.passphrase_env, config.vault.key_env):
        os.environ.pop(name, None)


def _typed_secrets() -> "dict[str, Secret]":
    """From standard input as JSON, or asked for at a terminal; never an argument, which every user of a machine sees.

    Raises Quit.
    """
    import msgspec

    from engine.runtime.log import Secret
    from engine.venues.vault import WORDS

    if sys.stdin.isatty():
        typed = {word: _typed(f"the API {word}") for word in WORDS[:2]}
        typed |= {word: text for word in WORDS[2:] if (text := _typed(f"the API {word} (ccxt; else leave it empty)"))}
    else:
        try:
            typed = msgspec.json.decode(sys.stdin.buffer.read(1 << 16), type=dict[str, str])
        except msgspec.MsgspecError:
            raise Quit(USAGE, 'standard input is not of the form {"key": "...", "secret": "..."}') from None
    if any(word not in WORDS for word in typed):
        raise Quit(USAGE, f"standard input holds another word than {', '.join(WORDS)}")
    return {word: Secret(text.strip()) for word, text in typed.items()}


def _typed(what: str, twice: bool = False) -> str:
    from getpass import getpass

    text = getpass(f"{what}: ")
    if twice and getpass(f"{what}, again: ") != text:
        raise Quit(USAGE, "the two are not the same; nothing was changed")
    return text


def _explain_from_journal(config: "Config", signal_id: str, as_json: bool) -> str:
    from engine.core.money import use_exact_context
    from engine.runtime.journal.base import JournalFailed
    from engine.runtime.journal.choice import name_of
    from engine.web.explain import buried, explain, order_ids, render_text
    from engine.web.wire import encode

    use_exact_context()
    try:
        with closing(_reader(config)) as reader:
            row = reader.signal(signal_id)
            if row is None:
                told = buried(signal_id, reader.dead_letters(signal_id))
                raise Quit(FAILED, f"no engine answers; in the journal {name_of(config.journal)} {told}")
            story = reader.story(row.signal.trace_id)
            orders = [order for order in map(reader.order, order_ids(story)) if order is not None]
    except JournalFailed as error:
        raise Quit(UNREACHABLE, f"no engine answers, and the journal cannot be read: {error}") from error
    explanation = explain(row, story, orders)
    return encode(explanation).decode() if as_json else render_text(explanation).rstrip()


def _reader(config: "Config") -> "SqlReader":
    """What is committed, read beside a running engine or without one. Raises JournalFailed."""
    from engine.runtime.journal.choice import reader_of

    return reader_of(config, os.environ)


# ------------------------------------------------------------------------------------------------------- running things


def _leave_no_core() -> None:
    """A core dump holds every key. A limit of 1 byte makes no file, and keeps Linux from piping one (core(5))."""
    import resource

    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    soft = 1 if hard == resource.RLIM_INFINITY else min(1, hard)
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


def _run(arguments: argparse.Namespace) -> int:
    import trio

    from actors.real import needs_vault
    from engine.runtime.clock import LOOP_CLOCK

    config = _config(arguments)
    _leave_no_core()
    with _logging(config), ExitStack() as beside:
        if config.rehearsal.venue:
            folder = Path(config.engine.data_dir) / f"rehearsal-{time.strftime('%Y%m%d-%H%M%S')}"
            folder.mkdir(parents=True)
            config, _ = _at_exchange(beside, config, arguments.config, folder)
        if needs_vault(config):
            _ask_passphrase(config)
        return _started(lambda: trio.run(_live, config, arguments, clock=LOOP_CLOCK))


async def _live(config: "Config", arguments: argparse.Namespace) -> int:
    """The engine, and the signals of the operating system beside it."""
    import gc

    import trio

    from actors.assembly import run_live

    stop, engines = trio.Event(), list["Engine"]()
    async with trio.open_nursery() as nursery:
        obeying = trio.CancelScope()
        code = [OK]

        async def engine(task_status: trio.TaskStatus[tuple["Engine", int]]) -> None:
            await run_live(config, _version(), stop, task_status)
            obeying.cancel()

        async def obey() -> None:
            with obeying:
                if await _obey(stop, engines, config, arguments):
                    code[0] = INTERRUPTED
                    nursery.cancel_scope.cancel()

        nursery.start_soon(obey)
        started, port = await nursery.start(engine)
        engines.append(started)
        _forget_passphrase(config)
        # Threads take turns of 50 us, so that a commit's end does not wait for the loop, and what start-up made is not
        # looked through again (PERFORMANCE).
        sys.setswitchinterval(0.00005)
        gc.collect()
        gc.freeze()
        where = f"{'https' if config.api.tls_cert else 'http'}://{config.api.host}:{port}" if config.api.enabled else ""
        said, text = {"state": "running", "api": where}, f"surefire runs, API {where or 'off'}"
        if config.rehearsal.venue:
            exchange = next(iter(config.accounts.values())).host
            said |= {"exchange": exchange, "data_dir": config.engine.data_dir}
            text += f", at a local exchange, {exchange}, with its journal in {config.engine.data_dir}"
        _print(said, text, arguments.json)
    return code[0]


async def _obey(stop: "trio.Event", engines: list["Engine"], config: "Config", arguments: argparse.Namespace) -> bool:
    """Signals of the operating system, for ever. Returns True when the process is to end at once."""
    import signal

    import structlog
    import trio

    from actors.web import dump

    log = structlog.get_logger("run")
    limits = {name: account.limits for name, account in config.accounts.items()}
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1) as received:
        async for number in received:
            log.info("signal", name=signal.Signals(number).name)
            if number in (signal.SIGTERM, signal.SIGINT):
                if stop.is_set() or not engines:
                    return True
                stop.set()
            elif number == signal.SIGUSR1 and engines:
                log.info("state", state=dump(engines[0]))
            elif number == signal.SIGHUP and engines:
                limits = await _reload_limits(engines[0], limits, arguments)
    return False


async def _reload_limits(
    engine: "Engine", before: dict[str, "Limits"], arguments: argparse.Namespace
) -> dict[str, "Limits"]:
    """Put the file's limits in force where the file has changed; what was changed over the API meanwhile stays."""
    import structlog
    from msgspec.structs import asdict

    log = structlog.get_logger("run")
    try:
        now = {name: account.limits for name, account in _config(arguments).accounts.items()}
    except Quit as quit_:
        log.error("limits not reloaded", reason=str(quit_))
        return before
    for name, limits in now.items():
        if name not in before:
            log.error("limits not reloaded", account=name, reason="a new account needs a restart")
        elif limits != before[name]:
            outcome = await engine.operator.set_limits(name, asdict(limits), "config")
            if isinstance(outcome, str):
                log.error("limits not reloaded", account=name, reason=outcome)
            else:
                log.info("limits reloaded", account=name)
    return now


def _demo(arguments: argparse.Namespace) -> int:
    import io

    from engine.core.money import use_exact_context
    from engine.runtime.clock import live_clock
    from engine.runtime.config import LogSection
    from engine.runtime.log import configure
    from engine.runtime.terminal import show_summary

    use_exact_context()
    # Refusals and alerts are the point of a demo; they are in its summary, and would tear the progress bar.
    configure(live_clock(), io.BytesIO(), LogSection().level)
    venue, faults = _demo_venue(arguments)
    if venue in ("", "paper"):
        summary = _started(lambda: _play_demo(arguments))
    else:
        summary = _started(lambda: _rehearse(arguments, venue, faults))
    show_summary(summary, sys.stdout, arguments.json)
    return OK if summary.books_balance else FAILED


def _demo_venue(arguments: argparse.Namespace) -> tuple[str, bool]:
    """Where the demo trades, and whether that misbehaves: as the command line says, else the config."""
    from engine.runtime.config import ConfigError, RehearsalSection, load

    try:
        said = load(arguments.config).rehearsal if arguments.config else RehearsalSection()
    except ConfigError as error:
        raise Quit(USAGE, "the config cannot be used:\n  " + "\n  ".join(error.problems)) from error
    venue = said.venue if arguments.venue is None else arguments.venue
    faults = said.faults if arguments.faults is None else arguments.faults
    if faults and venue in ("", "paper"):
        raise Quit(USAGE, "faults are the local exchange's: name one of its faces with --venue")
    return venue, faults


def _rehearse(arguments: argparse.Namespace, venue: str, faults: bool) -> "DemoSummary":
    """The demo at a local exchange in a process of its own; its journal is on disk, and gone afterwards."""
    from functools import partial
    from random import Random
    from tempfile import TemporaryDirectory

    import trio

    from actors.rehearsal import SPEED, Rehearsal, demo_config, run_rehearsal
    from engine.exchange.asking import ask
    from engine.market import synthetic
    from engine.market.recorded import survey
    from engine.runtime.clock import LOOP_CLOCK, live_clock
    from engine.runtime.terminal import progress

    played = survey(arguments.tape).instruments if arguments.tape else synthetic.instruments()
    symbols = tuple(dict.fromkeys(instrument.symbol for instrument in played))
    tape = f'kind = "recorded"\ntape = {_toml(str(arguments.tape))}' if arguments.tape else f"seed = {arguments.seed}"
    with TemporaryDirectory(prefix="surefire-demo-") as name, ExitStack() as beside:
        folder = Path(name)
        (folder / "exchange.toml").write_text(f"[market]\n{tape}\nspeed = {SPEED}\n", encoding="utf-8")
        config = demo_config(venue, symbols, faults)
        config, port = _at_exchange(beside, config, folder / "exchange.toml", folder, demo=True)

        async def tell(method: str, path: str, body: dict[str, object] | None) -> bytes:
            return await trio.to_thread.run_sync(partial(ask, "127.0.0.1", port, method, path, body))

        rehearsal = Rehearsal(
            config=config,
            title=f"{arguments.tape.name if arguments.tape else 'synthetic'} at {venue}, a local exchange",
            seed=arguments.seed,
            seconds=arguments.seconds,
            lines=tuple(arguments.signals.read_bytes().splitlines()) if arguments.signals else None,
            journal=_journal_of_demo(beside, config, folder, arguments),
            ask=tell,
            progress=beside.enter_context(progress(f"trading at {venue}", 1000)),
        )
        return trio.run(run_rehearsal, rehearsal, live_clock(), Random(arguments.seed + 1), clock=LOOP_CLOCK)


def _journal_of_demo(
    beside: ExitStack, config: "Config", folder: Path, arguments: argparse.Namespace
) -> "Callable[[Clock], Journal]":
    """A file in the folder; where the config's journal is on a server, one of its own there. Gone with `beside`."""
    from msgspec.structs import replace

    from engine.runtime.config import load
    from engine.runtime.journal.choice import address_of, journal_of

    said = load(arguments.config).journal if arguments.config else config.journal
    own = replace(said, path=str(folder / "journal.sqlite"), durability="power")
    if said.url:
        from engine.runtime.journal.server import drop

        own = replace(own, schema=f"{said.schema[:16]}_demo_{os.getpid()}")
        beside.callback(drop, address_of(own, os.environ))
    of_demo = replace(config, journal=own, engine=replace(config.engine, data_dir=str(folder)))
    return lambda clock: journal_of(of_demo, clock, os.environ)


def _toml(text: str) -> str:
    import msgspec

    return msgspec.json.encode(text).decode()  # a basic string of TOML is written as JSON's


def _at_exchange(
    beside: ExitStack, config: "Config", market: Path | None, folder: Path, demo: bool = False
) -> tuple["Config", int]:
    """The config with its accounts at a local exchange, and that one's port; it runs until `beside` is closed.

    `market` is the config whose market it plays.
    """
    import msgspec

    from actors.assembly import open_market
    from actors.rehearsal import at_exchange, exchange_terms, keys_of
    from engine.core.messages import InstrumentKind
    from engine.runtime.clock import live_clock

    (folder / "terms.json").write_bytes(msgspec.json.encode(exchange_terms(config, demo)))
    ports = beside.enter_context(_exchange_beside(market, folder))
    symbols = tuple(i.symbol for i in open_market(config.market, InstrumentKind.LINEAR, live_clock()).instruments)
    os.environ.update(keys_of(config))
    return at_exchange(config, ports, symbols, folder.absolute()), ports[config.rehearsal.venue]


@contextmanager
def _exchange_beside(market: Path | None, folder: Path) -> Iterator[dict[str, int]]:
    """A local exchange as a process of its own, with the terms that are in the folder; its ports."""
    import json
    import subprocess

    command = [sys.executable, str(Path(__file__).resolve()), "exchange", "--port", "0", "--json", "--until-eof"]
    command += ["--terms", str(folder / "terms.json"), *(("--config", str(market)) if market else ())]
    with (folder / "exchange.log").open("wb") as log:
        # In a session of its own: an interrupt at the terminal ends us, and it only when we have come to rest.
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        )
    with process:
        assert process.stdin is not None and process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                said = (folder / "exchange.log").read_text(encoding="utf-8", errors="replace")
                raise Quit(REFUSED, f"the local exchange did not start: {said[-500:].strip()}")
            yield json.loads(line)["ports"]
        finally:
            process.terminate()


def _play_demo(arguments: argparse.Namespace) -> "DemoSummary":
    import trio
    from msgspec.structs import replace

    from actors.demo import run_demo
    from engine.runtime.schedule import JumpClock, seeded_schedule
    from engine.runtime.terminal import progress

    demo, per_mille = _demo_of(arguments)
    with progress(f"replaying {demo.tape}", 1000) as show, seeded_schedule(arguments.seed):
        demo = replace(demo, progress=lambda done_ns, words: show(per_mille(done_ns), words))
        summary, close = trio.run(run_demo, demo, clock=JumpClock())
        close()
    return summary


def _demo_of(arguments: argparse.Namespace) -> tuple["Demo", Callable[[int], int]]:
    """The tape and the signals that the arguments name, and what tells how far a replay is, in thousandths."""
    from random import Random

    from msgspec.structs import replace

    from actors.demo import Demo
    from engine.market import synthetic
    from engine.market.recorded import Recording, survey
    from engine.runtime.journal.memory import MemoryDisk, MemoryJournal

    length_ns = DEMO_SECONDS * 1_000_000_000
    demo = Demo(
        tape="synthetic",
        seed=arguments.seed,
        instruments=synthetic.instruments(),
        events=synthetic.events(Random(arguments.seed), synthetic.instruments(), DEMO_BEGINS_NS, seconds=DEMO_SECONDS),
        start_ns=DEMO_BEGINS_NS,
        market_ns=length_ns,
        lines=tuple(arguments.signals.read_bytes().splitlines()) if arguments.signals else None,
        journal=lambda clock: MemoryJournal(MemoryDisk(), clock),
        sinks=(),
        dead_letter=lambda malformed: None,
        progress=lambda done_ns, words: None,
    )
    if arguments.tape is None:
        return demo, lambda done_ns: done_ns * 1000 // length_ns
    found, recording = survey(arguments.tape), Recording(arguments.tape)
    demo = replace(
        demo,
        tape=arguments.tape.name,
        instruments=found.instruments,
        events=recording.events(),
        start_ns=found.start_ns,
        market_ns=DAY_NS,  # not known before the end
    )
    return demo, lambda done_ns: int(recording.fraction * 1000)


def _venue(arguments: argparse.Namespace) -> int:
    import trio

    config = _config(arguments)
    if arguments.account not in config.accounts:
        raise Quit(USAGE, f"there is no account '{arguments.account}' in the config")
    with _logging(config):
        return _started(lambda: trio.run(_serve_venue, config, arguments))


async def _serve_venue(config: "Config", arguments: argparse.Namespace) -> int:
    """The paper venue on a socket until TERM or INT."""
    import signal
    from contextlib import closing
    from functools import partial
    from random import Random

    import trio

    from actors.assembly import open_market, paper_terms, start_market
    from engine.core.messages import InstrumentKind
    from engine.runtime.clock import live_clock
    from engine.venues.link_server import serve
    from engine.venues.paper import PaperVenue

    clock, terms = live_clock(), config.accounts[arguments.account].paper
    rng = Random(terms.seed)
    market = open_market(config.market, InstrumentKind(terms.kind), clock)
    venue = PaperVenue(market.instruments, paper_terms(terms), clock, rng, arguments.store)
    with closing(venue), trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        async with trio.open_nursery() as nursery:
            start_market(nursery, market, [venue], clock, Random())
            port = await nursery.start(partial(serve, venue, "127.0.0.1", arguments.port))
            _print({"host": "127.0.0.1", "port": port}, f"listening on 127.0.0.1:{port}", arguments.json)
            await anext(received)
            nursery.cancel_scope.cancel()
    return OK


def _exchange(arguments: argparse.Namespace) -> int:
    """Serve the local exchange, or speak to the admin of one that runs."""
    import trio

    if arguments.what != "serve":
        return _tell_exchange(arguments)
    config = _config(arguments)
    with _logging(config):
        return _started(lambda: trio.run(_serve_exchange, config, arguments))


async def _serve_exchange(config: "Config", arguments: argparse.Namespace) -> int:
    """The faces on their ports until TERM or INT."""
    import gc
    import signal
    from functools import partial
    from random import Random

    import trio

    from actors.assembly import start_market
    from engine.exchange.opening import open_exchange
    from engine.runtime.clock import live_clock

    terms, clock = _exchange_terms(arguments), live_clock()
    market = _exchange_market(config, arguments)
    exchange = open_exchange(terms, market.instruments, clock)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        async with trio.open_nursery() as nursery:
            start_market(nursery, market, [exchange], clock, Random())
            nursery.start_soon(exchange.beat)
            ports = {}
            for at, name in enumerate(exchange.faces):
                port = arguments.port + at if arguments.port else 0
                ports[name] = await nursery.start(partial(exchange.listen, name, arguments.host, port))
            gc.collect()
            gc.freeze()
            said = {"host": arguments.host, "ports": ports, "keys": [key.key for key in terms.keys]}
            where = ", ".join(f"{name} on {arguments.host}:{port}" for name, port in ports.items())
            _print(said, f"{where}; keys: {', '.join(key.key for key in terms.keys)}", arguments.json)
            if arguments.until_eof:
                nursery.start_soon(_end_with_input, nursery.cancel_scope)
            await anext(received)
            nursery.cancel_scope.cancel()
    return OK


async def _end_with_input(scope: "trio.CancelScope") -> None:
    """Whoever started us has gone when standard input ends; nothing is ever written to it."""
    import trio

    await trio.lowlevel.wait_readable(sys.stdin.fileno())
    scope.cancel()


def _exchange_terms(arguments: argparse.Namespace) -> "ExchangeTerms":
    import msgspec

    from engine.exchange.terms import ExchangeTerms

    if arguments.terms is None:
        return ExchangeTerms()
    try:
        return msgspec.json.decode(arguments.terms.read_bytes(), type=ExchangeTerms)
    except (OSError, msgspec.MsgspecError) as error:
        raise Quit(USAGE, f"the terms cannot be used: {error}") from error


def _exchange_market(config: "Config", arguments: argparse.Namespace) -> "Market":
    """The config's market, or the tape that the arguments name, as spot and as futures."""
    from msgspec.structs import replace

    from actors.assembly import open_market
    from engine.core.messages import InstrumentKind
    from engine.exchange.opening import both_kinds, still
    from engine.runtime.clock import live_clock

    section, clock = config.market, live_clock()
    if arguments.tape == "still":
        market = open_market(replace(section, kind="synthetic"), InstrumentKind.LINEAR, clock)
        market = replace(market, tape=still(market.instruments, clock.now_ns()))
    elif arguments.tape:
        market = open_market(replace(section, kind="recorded", tape=arguments.tape), InstrumentKind.LINEAR, clock)
    else:
        market = open_market(section, InstrumentKind.LINEAR, clock)
    return replace(market, instruments=both_kinds(market.instruments))


def _tell_exchange(arguments: argparse.Namespace) -> int:
    from engine.exchange.asking import SaidNo, Unreachable, ask

    name, *pairs = arguments.words or [""]
    body: dict[str, object] = {}
    for pair in pairs:
        key, given, value = pair.partition("=")
        if not given:
            raise Quit(USAGE, f"'{pair}' is not key=value")
        body[key] = _value(value)
    method, path = {
        "fault": ("POST", "/fault"),
        "do": ("POST", "/do"),
        "truth": ("GET", "/truth"),
        "state": ("GET", "/state"),
        "clear": ("DELETE", "/faults"),
    }[arguments.what]
    if method == "POST":
        body["do"] = name
    try:
        print(ask(arguments.host, arguments.port, method, path, body if method == "POST" else None).decode())
    except Unreachable as error:
        raise Quit(UNREACHABLE, str(error)) from error
    except SaidNo as error:
        raise Quit(FAILED, str(error)) from error
    return OK


def _value(text: str) -> object:
    """A whole number, JSON where it looks like it, else the text itself."""
    import msgspec

    if text.removeprefix("-").isdecimal():
        return int(text)
    return msgspec.json.decode(text) if text[:1] in ("[", "{") else text


def _simulate(given: list[str]) -> int:
    """The seeds' own command line; the worlds are part of the tests, which an installed package does not carry."""
    from importlib import import_module

    from engine.core.money import use_exact_context

    root = Path(__file__).resolve().parent
    if not (root / "tests" / "sim" / "seeds.py").exists():
        print(f"surefire: {NO_WORLDS}", file=sys.stderr)
        return REFUSED
    sys.path.insert(0, str(root))
    use_exact_context()
    try:
        code: int = import_module("tests.sim.seeds").main(given)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        return _seen_enough()
    return code


def _started(go: Callable[[], T]) -> T:
    """Run something of ours; what keeps it from starting is a sentence and an exit code, not a traceback."""
    from engine.core.money import use_exact_context
    from engine.market.recorded import BadTape
    from engine.runtime.journal.base import Fenced, JournalFailed
    from engine.venues.admission import Inadmissible
    from engine.venues.keys import KeyProblem
    from engine.venues.store import StoreDamaged
    from engine.web.terms import TermsProblem

    use_exact_context()
    reasons: list[str] = []
    taken: list[str] = []
    result: list[T] = []
    try:
        result.append(go())
    except* Fenced as group:
        taken += [str(error) for error in _leaves(group)]
    except* (JournalFailed, StoreDamaged, BadTape, Inadmissible, KeyProblem, TermsProblem, OSError) as group:
        reasons += [str(error) for error in _leaves(group)]
    if taken:
        raise Quit(REFUSED, "; ".join(taken))
    if reasons:
        raise Quit(REFUSED, "refused to start: " + "; ".join(reasons))
    return result[0]


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found


@contextmanager
def _logging(config: "Config") -> Iterator[None]:
    """The log as configured: into a file, or on standard error, there in a person's form when it is a terminal."""
    from engine.runtime.clock import live_clock
    from engine.runtime.log import configure

    with ExitStack() as stack:
        try:
            file = stack.enter_context(Path(config.log.file).open("ab")) if config.log.file else sys.stderr.buffer
        except OSError as error:
            raise Quit(USAGE, f"the log file cannot be opened: {error}") from error
        configure(live_clock(), file, config.log.level, console=not config.log.file and sys.stderr.isatty())
        yield


def _print(as_json: object, text: str, json_wanted: bool) -> None:
    import msgspec

    print(msgspec.json.encode(as_json).decode() if json_wanted else text, flush=True)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("surefire")
    except PackageNotFoundError:
        return "checkout"


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "run": _run,
    "demo": _demo,
    "venue": _venue,
    "exchange": _exchange,
    "check": _check,
    "explain": _explain,
    "audit": _audit,
    "journal": _journal,
    "keys": _keys,
    "stop": _stop,
    "resume": _resume,
    "flatten": _flatten,
}

if __name__ == "__main__":
    sys.exit(main())
