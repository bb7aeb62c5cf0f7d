"""Which journal a config means: SQLite's file, or PostgreSQL when `journal.url` is given.

PostgreSQL's client is imported only where it is asked for: nobody else should wait for it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from engine.runtime.clock import Clock
from engine.runtime.config import Config, JournalSection
from engine.runtime.journal import sqlite, sqlite_hold
from engine.runtime.journal.archive import Held
from engine.runtime.journal.base import Journal
from engine.runtime.journal.reading import SqlReader

if TYPE_CHECKING:
    from engine.runtime.journal.server import Address


def journal_of(config: Config, clock: Clock, environment: Mapping[str, str], first_event: int = 0) -> Journal:
    """`first_event`: where a new one on PostgreSQL begins to number its events.

    Raises JournalFailed when its address is none, or the environment lacks its password.
    """
    section = config.journal
    if not section.url:
        return sqlite.SqliteJournal(Path(section.path), section.durability, clock)
    from engine.runtime.journal.postgres import PostgresJournal, PostgresTerms

    terms = PostgresTerms(
        durability=section.durability,
        accounts=tuple(config.accounts),
        lease_seconds=section.lease_seconds,
        away_seconds=section.away_seconds,
        standby=section.standby,
        first_event=first_event,
    )
    return PostgresJournal(address_of(section, environment), terms, clock, _lock_of(config))


def reader_of(config: Config, environment: Mapping[str, str]) -> SqlReader:
    """What is committed, read beside a running engine or without one. Raises JournalFailed."""
    if not config.journal.url:
        return sqlite.open_reader(Path(config.journal.path))
    from engine.runtime.journal.postgres_reading import open_reader

    return open_reader(address_of(config.journal, environment))


def archives_of(config: Config) -> Path:
    """Where a journal's archives are made: a folder of its own, so that no other journal's are in it."""
    if config.journal.url:
        return Path(config.engine.data_dir) / f"{config.journal.schema}.archive"
    return sqlite_hold.archives_of(Path(config.journal.path))


def hold_of(config: Config, clock: Clock, environment: Mapping[str, str]) -> Held:
    """The journal for work on the whole of it, with no engine on it. Raises JournalFailed."""
    section = config.journal
    if not section.url:
        return sqlite_hold.hold_file(Path(section.path), clock.now_ns())
    from engine.runtime.journal.postgres_hold import hold_server

    at = address_of(section, environment)
    return hold_server(at, _lock_of(config), archives_of(config), section.durability, clock)


def bytes_of(config: Config, reader: SqlReader, environment: Mapping[str, str]) -> int:
    """Raises JournalFailed."""
    if not config.journal.url:
        return sqlite_hold.bytes_of(Path(config.journal.path))
    from engine.runtime.journal import postgres_hold

    return postgres_hold.bytes_of(reader, address_of(config.journal, environment))


def _lock_of(config: Config) -> Path:
    return Path(config.engine.data_dir) / f"{config.journal.schema}.lock"


def address_of(section: JournalSection, environment: Mapping[str, str]) -> "Address":
    """Raises JournalFailed."""
    from engine.runtime.journal.server import address

    return address(section.url, section.schema, environment, section.password_env)


def name_of(section: JournalSection) -> str:
    """For people; a url in a config has no password in it."""
    return f"{section.url}, schema {section.schema}" if section.url else section.path
