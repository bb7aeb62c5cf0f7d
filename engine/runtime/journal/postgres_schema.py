"""A PostgreSQL journal's version, and the way from an older one to ours: for whoever takes the lease (leases.py).

Only the holder alters the tables, in the transaction in which it becomes the holder: an engine of the version before
that still writes must not have them changed under its feet.
"""

from collections.abc import Sequence

import structlog

from engine.runtime.journal.base import JournalFailed, Newer
from engine.runtime.journal.libpq import Wire
from engine.runtime.journal.schema import BESIDE, MIGRATIONS, VERSIONS
from engine.runtime.journal.server import Address

STATEMENT_SECONDS = 3600.0  # a long history may be rewritten, or get an index
LOG = structlog.get_logger("journal")


async def begin(wire: Wire, at: Address, known: int = len(MIGRATIONS)) -> int:
    """A transaction in which nobody else can take or alter the journal; its version, 0 for one that is not there yet.

    Raises Newer for one that a newer program has brought forward.
    """
    await wire.run("BEGIN")
    await wire.run("SELECT pg_advisory_xact_lock(hashtext(?))", f"surefire/{at.schema}")
    if (await wire.run("SELECT to_regclass(?)", f"{at.schema}.schema_version"))[0][0] is None:
        return 0
    (found,) = (await wire.run("SELECT max(version) FROM schema_version"))[0]
    if found is None:
        raise JournalFailed(f"{at.where}: the table of schema versions is empty: the journal was damaged")
    if int(found) > known:
        raise Newer(
            f"{at.where}: the journal has schema version {int(found)}, this program knows {known}:"
            " it was written by a newer one"
        )
    return int(found)


async def bring_forward(
    wire: Wire, at: Address, version: int, now_ns: int, migrations: Sequence[Sequence[str]] = MIGRATIONS
) -> None:
    """The rest of the transaction that `begin` began is the caller's."""
    if not version and not (await wire.run("SELECT 1 FROM pg_namespace WHERE nspname = ?", at.schema)):
        await wire.run(f"CREATE SCHEMA {at.schema}")
    if 0 < version < len(migrations):
        LOG.info("bringing the journal forward", where=at.where, version=version, to=len(migrations))
    for number, statements in enumerate(migrations[version:], version + 1):
        for sql in (VERSIONS, *statements, *BESIDE.get(number, ())):
            await wire.run(sql, seconds=STATEMENT_SECONDS)
        await wire.run("INSERT INTO schema_version VALUES (?, ?)", number, now_ns)
