"""`journal archive`, `journal retain`: keeps the journal small, with no engine on it."""

import argparse
import os
import sys
from contextlib import closing
from pathlib import Path

from actors.commands.frame import config_of, me
from engine.core.money import use_exact_context
from engine.runtime.clock import live_clock
from engine.runtime.commandline import FAILED, OK, REFUSED, USAGE, Quit
from engine.runtime.journal.archive import DAY_NS, Asked, archive, foresee, retain
from engine.runtime.journal.base import JournalFailed
from engine.runtime.journal.choice import reader_of
from engine.runtime.terminal import progress, show_archived

KEEP_DAYS = 30  # what an archiving leaves where nothing else is said


def keep(arguments: argparse.Namespace) -> int:
    """Move what is old to archives, or delete archives."""
    use_exact_context()
    config = config_of(arguments)
    if config.journal.url:
        raise Quit(USAGE, "archives are made of a journal on SQLite; one on PostgreSQL keeps everything so far")
    path = Path(config.journal.path)
    if arguments.what == "retain" and arguments.keep_days is None:
        raise Quit(USAGE, "journal retain deletes for good: say --keep-days")
    asked = Asked((arguments.keep_days or KEEP_DAYS) * DAY_NS, live_clock().now_ns(), me())
    try:
        with progress("archiving", 1000) as show:
            if arguments.what == "retain":
                report = retain(path, asked, arguments.dry_run)
            elif arguments.dry_run:
                with closing(reader_of(config, os.environ)) as reader, reader.snapshot():
                    report = foresee(reader, path, asked, show)
            else:
                report = archive(path, asked, show)
    except JournalFailed as error:
        raise Quit(REFUSED, str(error)) from error
    show_archived(report, arguments.what, sys.stdout, arguments.json)
    return FAILED if report.left else OK
