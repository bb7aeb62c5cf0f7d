"""`explain` and `audit`: what the journal knows, with or without an engine that runs on it."""

import argparse
import os
import sys
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from msgspec import to_builtins

from actors.commands.frame import config_of
from actors.commands.steering import asked
from engine.core.audit import Report, verify
from engine.core.money import use_exact_context
from engine.runtime.commandline import FAILED, OK, REFUSED, UNREACHABLE, Quit
from engine.runtime.config import Config, of_shard
from engine.runtime.journal.archive import whole
from engine.runtime.journal.base import AuditEntry, JournalFailed, NoJournal
from engine.runtime.journal.choice import archives_of, name_of, reader_of
from engine.runtime.terminal import show_audit, show_audit_log
from engine.web.explain import buried, order_ids, render_text
from engine.web.explain import explain as explained
from engine.web.wire import encode


def explain(arguments: argparse.Namespace) -> int:
    """The running engine's answer; where none runs, the journal's."""
    config = config_of(arguments)
    path = f"/signals/{quote(arguments.signal_id, safe='')}?format={'json' if arguments.json else 'text'}"
    try:
        print(asked(config, "GET", path).decode().rstrip())
    except Quit as quit_:
        if quit_.code != UNREACHABLE:
            raise
        print(_explain_from_journal(config, arguments.signal_id, arguments.json))
    return OK


def audit(arguments: argparse.Namespace) -> int:
    use_exact_context()
    config = config_of(arguments)
    if arguments.what == "log":
        return _log(config, arguments.last, arguments.json)
    if config.shards:
        return _audit_shards(config, arguments.json)
    report = _verified(config, arguments.archives or archives_of(config))
    show_audit(report, sys.stdout, arguments.json)
    return OK if report.sound else FAILED


def _log(config: Config, last: int, as_json: bool) -> int:
    """The last lines of the audit log, oldest first; of all shards, where there are some."""
    entries: list[AuditEntry] = []
    try:
        for one in [of_shard(config, section) for section in config.shards] or [config]:
            with closing(reader_of(one, os.environ)) as reader:
                entries += reader.audit_log(last)
    except JournalFailed as error:
        raise Quit(REFUSED, str(error)) from error
    entries.sort(key=lambda entry: (entry.at_ns, entry.seq))
    show_audit_log(entries[-last:], sys.stdout, as_json)
    return OK


def _verified(config: Config, folder: Path) -> Report:
    """Raises Quit."""
    try:
        with closing(reader_of(config, os.environ)) as reader, reader.snapshot():
            all_ = whole(reader, folder)
            return verify(all_.lines, all_.tables, all_.base, all_.findings, all_.notes)
    except JournalFailed as error:
        raise Quit(REFUSED, str(error)) from error


def _audit_shards(config: Config, as_json: bool) -> int:
    """One chain after the other; as JSON one object for all."""
    shards = {s.name: of_shard(config, s) for s in config.shards}
    reports = {name: _verified(shard, archives_of(shard)) for name, shard in shards.items()}
    sound = all(report.sound for report in reports.values())
    if as_json:
        told = {name: {"sound": report.sound, **to_builtins(report)} for name, report in reports.items()}
        print(encode({"sound": sound, "shards": told}).decode())
    for name, report in reports.items() if not as_json else ():
        print(f"shard {name}: ", end="", flush=True)
        show_audit(report, sys.stdout)
    return OK if sound else FAILED


def _explain_from_journal(config: Config, signal_id: str, as_json: bool) -> str:
    use_exact_context()
    config = _shard_with(config, signal_id)
    try:
        with closing(reader_of(config, os.environ)) as reader:
            row = reader.signal(signal_id)
            if row is None:
                told = buried(signal_id, reader.dead_letters(signal_id))
                raise Quit(FAILED, f"no engine answers; in the journal {name_of(config.journal)} {told}")
            story = reader.story(row.signal.trace_id)
            orders = [order for order in map(reader.order, order_ids(story)) if order is not None]
    except JournalFailed as error:
        raise Quit(UNREACHABLE, f"no engine answers, and the journal cannot be read: {error}") from error
    explanation = explained(row, story, orders)
    return encode(explanation).decode() if as_json else render_text(explanation).rstrip()


def _shard_with(config: Config, signal_id: str) -> Config:
    """The config itself; where there are shards, that of the one that knows the signal, else of the first."""
    shards = [of_shard(config, section) for section in config.shards]
    for shard in shards:
        try:
            with closing(reader_of(shard, os.environ)) as reader:
                if reader.signal(signal_id) is not None:
                    return shard
        except NoJournal:
            continue
        except JournalFailed as error:
            raise Quit(UNREACHABLE, f"no engine answers, and the journal cannot be read: {error}") from error
    return shards[0] if shards else config
