"""Which journal a config means: SQLite's file, or PostgreSQL when `journal.url` is given.

PostgreSQL's client is imported only where it is asked for: nobody else should wait for it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from engine.runtime.clock import Clock
from engine.runtime.config import Config, JournalSection
from engine.runtime.journal import sqlite
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
    lock = Path(config.engine.data_dir) / f"{section.schema}.lock"
    return PostgresJournal(address_of(section, environment), terms, clock, lock)


def reader_of(config: Config, environment: Mapping[str, str]) -> SqlReader:
    """What is committed, read beside a running engine or without one. Raises JournalFailed."""
    if not config.journal.url:
        return sqlite.open_reader(Path(config.journal.path))
    from engine.runtime.journal.postgres_reading import open_reader

    return open_reader(address_of(config.journal, environment))


def address_of(section: JournalSection, environment: Mapping[str, str]) -> "Address":
    """Raises JournalFailed."""
    from engine.runtime.journal.server import address

    return address(section.url, section.schema, environment, section.password_env)


def name_of(section: JournalSection) -> str:
    """For people; a url in a config has no password in it."""
    return f"{section.url}, schema {section.schema}" if section.url else section.path
