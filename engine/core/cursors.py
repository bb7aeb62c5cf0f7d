"""How far each sink is in the outbox: where it begins at a start, what waits for it, and what nobody waits for."""

from collections.abc import Iterable

from engine.core.messages import Cursor

EVERYBODY = ""  # one mark for all sinks: of a journal that was written before each of them had its own


def begin(sinks: Iterable[str], known: Iterable[Cursor], last_event: int) -> tuple[Cursor, ...]:
    """The rows that change with a start on which the config names these sinks.

    One that is new begins behind `last_event`, one that had been taken out goes on where it was. Nothing is kept any
    more for those that are not named.
    """
    before = {cursor.sink: cursor for cursor in known}
    common = before.get(EVERYBODY)
    start = common.event_id if common is not None and common.wanted else last_event
    named = tuple(sinks)
    after = [Cursor(sink, before[sink].event_id if sink in before else start) for sink in named]
    after += (Cursor(c.sink, c.event_id, False) for c in before.values() if c.sink not in named)
    return tuple(cursor for cursor in after if cursor != before.get(cursor.sink))


def waiting(cursors: Iterable[Cursor], last_event: int) -> dict[str, int]:
    """Events that each sink has still to get. Archived ones are counted, for a sink that was away so long."""
    return {cursor.sink: max(last_event - cursor.event_id, 0) for cursor in cursors if cursor.wanted}


def told(cursors: Iterable[Cursor], last_event: int) -> int:
    """The last event that every sink has."""
    return min((cursor.event_id for cursor in cursors if cursor.wanted), default=last_event)
