"""`venue`: the paper venue on a socket, until TERM or INT."""

import argparse
import signal
from contextlib import closing
from functools import partial
from random import Random

import trio

from actors.assembly import open_market, paper_terms, start_market
from actors.commands.frame import config_of, say
from actors.commands.starting import logging_to, started
from engine.core.messages import InstrumentKind
from engine.runtime.clock import live_clock
from engine.runtime.commandline import OK, USAGE, Quit
from engine.runtime.config import Config
from engine.venues.link_server import serve
from engine.venues.paper import PaperVenue


def venue(arguments: argparse.Namespace) -> int:
    config = config_of(arguments)
    if arguments.account not in config.accounts:
        raise Quit(USAGE, f"there is no account '{arguments.account}' in the config")
    with logging_to(config):
        return started(lambda: trio.run(_serve, config, arguments))


async def _serve(config: Config, arguments: argparse.Namespace) -> int:
    clock, terms = live_clock(), config.accounts[arguments.account].paper
    market = open_market(config.market, InstrumentKind(terms.kind), clock)
    paper = PaperVenue(market.instruments, paper_terms(terms), clock, Random(terms.seed), arguments.store)
    with closing(paper), trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as received:
        async with trio.open_nursery() as nursery:
            start_market(nursery, market, [paper], clock, Random())
            port = await nursery.start(partial(serve, paper, "127.0.0.1", arguments.port))
            say({"host": "127.0.0.1", "port": port}, f"listening on 127.0.0.1:{port}", arguments.json)
            await anext(received)
            nursery.cancel_scope.cancel()
    return OK
