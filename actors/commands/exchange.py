"""`exchange`: serves the local exchange until TERM or INT, or speaks to the admin of one that runs."""

import argparse
import gc
import signal
import sys
from functools import partial
from random import Random

import msgspec
import trio
from msgspec.structs import replace

from actors.assembly import Market, open_market, start_market
from actors.commands.frame import config_of, say
from actors.commands.starting import logging_to, started
from engine.core.messages import InstrumentKind
from engine.exchange.asking import SaidNo, Unreachable, ask
from engine.exchange.opening import both_kinds, open_exchange, still
from engine.exchange.terms import ExchangeTerms
from engine.runtime.clock import live_clock
from engine.runtime.commandline import FAILED, OK, UNREACHABLE, USAGE, Quit
from engine.runtime.config import Config

_REQUESTS = {
    "fault": ("POST", "/fault"),
    "do": ("POST", "/do"),
    "truth": ("GET", "/truth"),
    "state": ("GET", "/state"),
    "clear": ("DELETE", "/faults"),
}


def exchange(arguments: argparse.Namespace) -> int:
    if arguments.what != "serve":
        return _tell(arguments)
    config = config_of(arguments)
    with logging_to(config):
        return started(lambda: trio.run(_serve, config, arguments))


async def _serve(config: Config, arguments: argparse.Namespace) -> int:
    """The faces on their ports."""
    terms, clock = _terms(arguments), live_clock()
    market = _market(config, arguments)
    site = open_exchange(terms, market.instruments, clock)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        async with trio.open_nursery() as nursery:
            start_market(nursery, market, [site], clock, Random())
            nursery.start_soon(site.beat)
            ports = {}
            for at, name in enumerate(site.faces):
                port = arguments.port + at if arguments.port else 0
                ports[name] = await nursery.start(partial(site.listen, name, arguments.host, port))
            gc.collect()
            gc.freeze()
            keys = [key.key for key in terms.keys]
            where = ", ".join(f"{name} on {arguments.host}:{port}" for name, port in ports.items())
            said = {"host": arguments.host, "ports": ports, "keys": keys}
            say(said, f"{where}; keys: {', '.join(keys)}", arguments.json)
            if arguments.until_eof:
                nursery.start_soon(_end_with_input, nursery.cancel_scope)
            await anext(received)
            nursery.cancel_scope.cancel()
    return OK


async def _end_with_input(scope: trio.CancelScope) -> None:
    """Whoever started us has gone when standard input ends; nothing is ever written to it."""
    await trio.lowlevel.wait_readable(sys.stdin.fileno())
    scope.cancel()


def _terms(arguments: argparse.Namespace) -> ExchangeTerms:
    if arguments.terms is None:
        return ExchangeTerms()
    try:
        return msgspec.json.decode(arguments.terms.read_bytes(), type=ExchangeTerms)
    except (OSError, msgspec.MsgspecError) as error:
        raise Quit(USAGE, f"the terms cannot be used: {error}") from error


def _market(config: Config, arguments: argparse.Namespace) -> Market:
    """The config's market, or the tape that the arguments name, as spot and as futures."""
    section, clock = config.market, live_clock()
    if arguments.tape == "still":
        market = open_market(replace(section, kind="synthetic"), InstrumentKind.LINEAR, clock)
        market = replace(market, tape=still(market.instruments, clock.now_ns()))
    elif arguments.tape:
        market = open_market(replace(section, kind="recorded", tape=arguments.tape), InstrumentKind.LINEAR, clock)
    else:
        market = open_market(section, InstrumentKind.LINEAR, clock)
    return replace(market, instruments=both_kinds(market.instruments))


def _tell(arguments: argparse.Namespace) -> int:
    name, *pairs = arguments.words or [""]
    body: dict[str, object] = {}
    for pair in pairs:
        key, given, value = pair.partition("=")
        if not given:
            raise Quit(USAGE, f"'{pair}' is not key=value")
        body[key] = _value(value)
    method, path = _REQUESTS[arguments.what]
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
    if text.removeprefix("-").isdecimal():
        return int(text)
    return msgspec.json.decode(text) if text[:1] in ("[", "{") else text
