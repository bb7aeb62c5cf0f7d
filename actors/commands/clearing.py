"""`clear`: needs no engine, so that it works when that is broken."""

import argparse
import os
import sys
from random import Random

import trio
from msgspec.structs import replace

from actors import clearing
from actors.clearing import Cleared
from actors.commands.frame import config_of, say
from actors.commands.keys import ask_passphrase
from actors.real import is_real, needs_vault, open_real, vault_of
from engine.core.money import plain, use_exact_context
from engine.runtime.clock import live_clock
from engine.runtime.commandline import FAILED, OK, REFUSED, USAGE, Quit
from engine.runtime.log import configure
from engine.venues.admission import Inadmissible
from engine.venues.keys import KeyProblem
from engine.venues.vault import VaultProblem


def clear(arguments: argparse.Namespace) -> int:
    use_exact_context()
    config = replace(config_of(arguments), sources=(), sinks=())  # no secret of theirs is needed
    configure(live_clock(), sys.stderr.buffer, "warning", console=True)
    name = arguments.account or (next(iter(config.accounts)) if len(config.accounts) == 1 else "")
    section = config.accounts.get(name)
    if section is None or not is_real(section):
        raise Quit(
            USAGE, f"--account names one of the accounts at a real venue; configured: {', '.join(config.accounts)}"
        )
    _ask(name, section.host, arguments)
    try:
        if needs_vault(config):
            ask_passphrase(config)
        vault = vault_of(config, os.environ, "clear")
        account = open_real(name, config, live_clock(), Random(1), os.environ, vault=vault)
    except (Inadmissible, KeyProblem, VaultProblem) as problem:
        raise Quit(REFUSED, str(problem)) from problem
    cleared = trio.run(clearing.clear, account, arguments.symbol or "")
    say(cleared, _in_words(cleared), arguments.json)
    return FAILED if cleared.why else OK


def _ask(name: str, host: str, arguments: argparse.Namespace) -> None:
    what = f"everything that stands in {arguments.symbol or 'all symbols'} of account {name} ({host})"
    if arguments.yes:
        return
    if not sys.stdin.isatty():
        raise Quit(USAGE, f"this cancels {what}, stops and the orders of others included: say --yes")
    if input(f"Cancel {what}, stops and the orders of others included? [yes/no] ").strip().lower() != "yes":
        raise Quit(FAILED, "nothing was done")


def _in_words(cleared: Cleared) -> str:
    lines = [f"cancelled: {', '.join(cleared.cancelled) or 'nothing stood'}"]
    lines += [f"still open: {order.symbol} {order.cid or order.venue_order_id}" for order in cleared.left]
    lines += [f"held, and without a stop: {plain(p.qty)} {p.symbol}" for p in cleared.bare if not p.wallet]
    lines += [f"NOT DONE: {cleared.why}"] if cleared.why else []
    return "\n".join(lines)
