"""The front of a journal on a store that keeps nothing: the same work as a real commit's, without its effect."""

import apsw

from engine.core.audit import GENESIS
from engine.runtime.journal.base import JournalFailed
from engine.runtime.journal.group import Batch, Group, Place
from engine.runtime.journal.sqlite import Settle
from engine.runtime.journal.writing import migrate, prepare


def forgetful() -> Group:
    """What is hurried is written into tables in memory, and taken back. It belongs in a trio run; no task serves it."""
    connection = apsw.Connection(":memory:")
    migrate(connection, "memory", 0)

    def start(batch: Batch, settle: Settle) -> bool:
        prepare(connection, batch.statements())
        connection.execute("ROLLBACK")
        settle(None)
        return True

    async def write(batch: Batch, settle: Settle) -> None:
        settle(JournalFailed("nothing here is waited for"))

    return Group(Place(seq=0, hash=GENESIS, event_id=0, published=0), write, start=start)
