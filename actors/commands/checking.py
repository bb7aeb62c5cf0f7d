"""`check`: what stands in the way of a start, and nothing is traded."""

import argparse
import sys

import trio

from actors.checkup import look_over
from actors.commands.frame import config_of
from actors.commands.keys import ask_passphrase
from actors.real import needs_vault
from engine.core.money import use_exact_context
from engine.runtime.clock import live_clock
from engine.runtime.commandline import FAILED, OK
from engine.runtime.log import configure
from engine.runtime.terminal import show_findings


def check(arguments: argparse.Namespace) -> int:
    use_exact_context()
    config = config_of(arguments)
    # What the adapters log meanwhile is a finding anyway, and standard output is for those alone.
    configure(live_clock(), sys.stderr.buffer, config.log.level, console=sys.stderr.isatty())
    if needs_vault(config):
        ask_passphrase(config)
    findings = trio.run(look_over, config, str(arguments.config or "defaults, no file"), live_clock())
    show_findings(findings, sys.stdout, arguments.json)
    return OK if all(finding.ok for finding in findings) else FAILED
