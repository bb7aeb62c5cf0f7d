"""`run`: the engine until it is told to stop, and the signals of the operating system beside it."""

import argparse
import resource
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import structlog
import trio
from msgspec.structs import asdict

from actors.assembly import run_live
from actors.commands.beside import at_local_exchange
from actors.commands.frame import config_of, say
from actors.commands.keys import ask_passphrase, forget_passphrase
from actors.commands.starting import logging_to, started
from actors.real import needs_vault
from actors.web import Running, running_of
from actors.wiring import Engine
from engine.core.messages import Limits
from engine.runtime.commandline import INTERRUPTED, OK, Quit
from engine.runtime.config import Config
from engine.runtime.interpreter import settle_down
from engine.runtime.turns import take_short_turns

LOG = structlog.get_logger("run")


def run(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    _leave_no_core()
    with logging_to(config), ExitStack() as beside:
        if config.rehearsal.venue:
            folder = Path(config.engine.data_dir) / f"rehearsal-{time.strftime('%Y%m%d-%H%M%S')}"
            folder.mkdir(parents=True)
            config, _ = at_local_exchange(beside, config, arguments.config, folder)
        if needs_vault(config):
            ask_passphrase(config)
        take_short_turns()
        return started(lambda: trio.run(_live, config, arguments))


def _leave_no_core() -> None:
    """A core dump holds every key. A limit of 1 byte makes no file, and keeps Linux from piping one (core(5))."""
    hard = resource.getrlimit(resource.RLIMIT_CORE)[1]
    soft = 1 if hard == resource.RLIM_INFINITY else min(1, hard)
    resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))


async def _live(config: Config, arguments: argparse.Namespace) -> int:
    stop, engines = trio.Event(), list[Running]()
    async with trio.open_nursery() as nursery:
        obeying = trio.CancelScope()
        code = [OK]

        async def engine(task_status: trio.TaskStatus[tuple[Engine | Running, int]]) -> None:
            await _runner(config)(config, _version(), stop, task_status)
            obeying.cancel()

        async def obey() -> None:
            with obeying:
                if await _obey(stop, engines, config, arguments):
                    code[0] = INTERRUPTED
                    nursery.cancel_scope.cancel()

        nursery.start_soon(obey)
        running, port = await nursery.start(engine)
        engines.append(running if isinstance(running, Running) else running_of(running))
        forget_passphrase(config)
        settle_down()
        _say_where(config, port, arguments.json)
    return code[0]


def _runner(config: Config) -> Callable[..., Awaitable[None]]:
    """Of one engine, or of one among several."""
    if not config.shards:
        return run_live
    from actors.sharing import run_shards  # with it comes PostgreSQL's client, for which nobody else should wait

    return run_shards


def _say_where(config: Config, port: int, as_json: bool) -> None:
    where = f"{'https' if config.api.tls_cert else 'http'}://{config.api.host}:{port}" if config.api.enabled else ""
    said, text = {"state": "running", "api": where}, f"surefire runs, API {where or 'off'}"
    if config.rehearsal.venue:
        exchange = next(iter(config.accounts.values())).host
        said |= {"exchange": exchange, "data_dir": config.engine.data_dir}
        text += f", at a local exchange, {exchange}, with its journal in {config.engine.data_dir}"
    say(said, text, as_json)


async def _obey(stop: trio.Event, engines: list[Running], config: Config, arguments: argparse.Namespace) -> bool:
    """Signals of the operating system, for ever. Returns True when the process is to end at once."""
    limits = _limits_of(config)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1) as received:
        async for number in received:
            LOG.info("signal", name=signal.Signals(number).name)
            if number in (signal.SIGTERM, signal.SIGINT):
                if stop.is_set() or not engines:
                    return True
                stop.set()
            elif number == signal.SIGUSR1 and engines:
                LOG.info("state", state=engines[0].dump())
            elif number == signal.SIGHUP and engines:
                limits = await _reload_limits(engines[0], limits, arguments)
    return False


async def _reload_limits(
    engine: Running, before: dict[str, Limits], arguments: argparse.Namespace
) -> dict[str, Limits]:
    """Put the file's limits in force where the file has changed; what was changed over the API meanwhile stays."""
    try:
        now = _limits_of(config_of(arguments))
    except Quit as quit_:
        LOG.error("limits not reloaded", reason=str(quit_))
        return before
    for name, limits in now.items():
        if name not in before:
            LOG.error("limits not reloaded", account=name, reason="a new account needs a restart")
        elif limits != before[name]:
            outcome = await engine.set_limits(name, asdict(limits), "config")
            if isinstance(outcome, str):
                LOG.error("limits not reloaded", account=name, reason=outcome)
            else:
                LOG.info("limits reloaded", account=name)
    return now


def _limits_of(config: Config) -> dict[str, Limits]:
    return {name: account.limits for name, account in config.accounts.items()}


def _version() -> str:
    try:
        return version("surefire")
    except PackageNotFoundError:
        return "checkout"
