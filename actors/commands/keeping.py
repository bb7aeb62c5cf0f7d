"""`journal archive`, `journal retain`: keeps the journal small, with no engine on it."""

import argparse
import os
import sys
from contextlib import closing

from actors.commands.frame import config_of, me
from engine.core.money import use_exact_context
from engine.core.times import DAY
from engine.runtime.clock import live_clock
from engine.runtime.commandline import FAILED, OK, REFUSED, USAGE, Quit
from engine.runtime.config import Config, of_shard
from engine.runtime.journal.archive import Asked, Report, archive, foresee, retain
from engine.runtime.journal.base import JournalFailed
from engine.runtime.journal.choice import archives_of, bytes_of, hold_of, reader_of
from engine.runtime.terminal import progress, show_archived
from engine.web.wire import encode

KEEP_DAYS = 30  # what an archiving leaves where nothing else is said


def keep(arguments: argparse.Namespace) -> int:
    """Move what is old to archives, or delete archives; of shards one after the other."""
    use_exact_context()
    config = config_of(arguments)
    if arguments.what == "retain" and arguments.keep_days is None:
        raise Quit(USAGE, "journal retain deletes for good: say --keep-days")
    if not config.shards:
        report = _kept(config, arguments)
        show_archived(report, arguments.what, sys.stdout, arguments.json)
        return FAILED if report.left else OK
    reports = {shard.name: _kept(of_shard(config, shard), arguments) for shard in config.shards}
    if arguments.json:
        print(encode({"shards": reports}).decode())
    for name, report in reports.items() if not arguments.json else ():
        print(f"shard {name}: ", end="", flush=True)
        show_archived(report, arguments.what, sys.stdout)
    return FAILED if any(report.left for report in reports.values()) else OK


def _kept(config: Config, arguments: argparse.Namespace) -> Report:
    """Raises Quit."""
    clock = live_clock()
    asked = Asked((arguments.keep_days or KEEP_DAYS) * DAY, clock.now_ns(), me())
    try:
        with progress("archiving", 1000) as show:
            if arguments.what == "retain":
                return retain(hold_of(config, clock, os.environ), asked, arguments.dry_run)
            if not arguments.dry_run:
                return archive(hold_of(config, clock, os.environ), asked, show)
            with closing(reader_of(config, os.environ)) as reader:
                size = bytes_of(config, reader, os.environ)
                with reader.snapshot():
                    return foresee(reader, archives_of(config), size, asked, show)
    except JournalFailed as error:
        raise Quit(REFUSED, str(error)) from error
