"""Indexes that no order waits for. What is newer than a mark is the tail: it stands in none of them, and is read.

The commit before the wire writes tables and ids, and nothing else: what finds live orders, open signals and the facts
of one trace is written later, by commits that nobody waits for. Such a one takes up what lies between the mark and a
place so many rows before the end; by then most orders have ended, and never enter. So a row is `live` (or `open`) as 1
while it is in the tail, and as 2 once its index has it; none that is 1 is at its mark or before it.
"""

from engine.runtime.journal.tables import Values

KEPT = 1000  # rows and facts that stay in the tail
STEP = 100  # so many facts are worth a commit's while
PIECE = 400  # facts at once: a fraction of a millisecond
LONG = 4000  # facts that wait: then orders, too, wait while a piece is taken up

ORDERS, SIGNALS, FACTS = "orders_mark", "signals_mark", "facts_mark"  # keys of the table meta
FLAGGED = (("orders", "live", ORDERS), ("signals", "open", SIGNALS))


def due(seq: int, mark: int, facts: int, idle: bool, kept: int) -> int:
    """Up to which fact the next commit, of so many facts, takes up; 0: nothing. `idle`: nobody waits for it."""
    waiting = seq - kept - mark
    if waiting < (STEP if idle else LONG):
        return 0
    return mark + min(waiting, max(PIECE, 2 * facts))


def taking_up(until: int, kept: int) -> list[tuple[str, list[Values]]]:
    """The statements, facts up to `until`. To be run in the transaction that has the rows, or after it."""
    statements: list[tuple[str, list[Values]]] = [(_STORY, [(until,)]), (_MARKED, [(until, FACTS)])]
    for promoted, moved, key in _BEHIND:
        statements += [(promoted, [(kept,)]), (moved, [(kept, key, kept)])]
    return statements


# For SQLite, before its rows may be numbered anew: marks are set at the next start (writing.py).
NUMBERED_ANEW = f"UPDATE meta SET value = 0 WHERE key IN ('{ORDERS}', '{SIGNALS}')"


def _mark(key: str) -> str:
    return f"(SELECT value FROM meta WHERE key = '{key}')"


def _end(table: str) -> str:
    return f"(SELECT coalesce(max(rowid), 0) FROM {table})"


_STORY = (
    f"INSERT INTO story SELECT trace_id, seq FROM journal WHERE seq > {_mark(FACTS)} AND seq <= ? AND trace_id <> ''"
    " ON CONFLICT DO NOTHING"
)
_MARKED = "UPDATE meta SET value = ? WHERE key = ?"
_BEHIND = tuple(
    (
        f"UPDATE {table} SET {flag} = 2 WHERE {flag} = 1 AND rowid > {_mark(key)} AND rowid <= {_end(table)} - ?",
        f"UPDATE meta SET value = {_end(table)} - ? WHERE key = ? AND value < {_end(table)} - ?",
        key,
    )
    for table, flag, key in FLAGGED
)
