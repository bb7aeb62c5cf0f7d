"""Published events to whoever listens live: the API's event stream. Bounded, so that no reader holds up another.

A reader that falls behind gets a last row named `stream.behind` and the end of its channel. It comes back with the id
of the last event it had, and goes on from there while the ring still holds it; if it does not, the first row is named
`stream.missed` and the reader should read the state anew.
"""

from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio
from msgspec import Struct

from engine.core.messages import Event, OutboxRow

CHAIN_BITS = 41  # of an event's id are its number; those before them say of which chain of events it is
RING = 1000  # rows kept for those who come back
ROOM = 1000  # rows a reader may be behind

BEHIND, MISSED = "stream.behind", "stream.missed"


class _Reader(Struct, eq=False):
    channel: trio.MemorySendChannel[OutboxRow]
    room: int
    last_id: int


class Broadcast:
    """A sink that never waits and is never down."""

    def __init__(self, name: str, ring: int = RING, room: int = ROOM) -> None:
        self.name = name
        self._room = room
        self._ring: deque[OutboxRow] = deque(maxlen=ring)
        self._newest: dict[int, int] = {}  # event ids, by chain
        self._readers: list[_Reader] = []

    async def send(self, rows: tuple[OutboxRow, ...]) -> None:
        """To the ring and to every reader. Rows that were sent before (a publisher that starts again) are skipped."""
        await trio.lowlevel.checkpoint()
        for row in rows:
            chain = row.event_id >> CHAIN_BITS
            if row.event_id > self._newest.get(chain, -1):
                self._newest[chain] = row.event_id
                self._ring.append(row)
                for reader in tuple(self._readers):
                    self._tell(reader, row)

    @asynccontextmanager
    async def subscribe(self, last_event_id: int | None) -> AsyncIterator[trio.MemoryReceiveChannel[OutboxRow]]:
        """Events after this id, as far as the ring holds them, then live ones; None: from now on."""
        past = () if last_event_id is None else self._past(last_event_id)
        room = self._room + len(past)
        send, receive = trio.open_memory_channel[OutboxRow](room + 1)  # one more, for the last word
        for row in past:
            send.send_nowait(row)
        newest = self._ring[-1].event_id if self._ring else (last_event_id or 0)
        reader = _Reader(send, room, newest)
        self._readers.append(reader)
        try:
            with send, receive:
                yield receive
        finally:
            if reader in self._readers:
                self._readers.remove(reader)

    def close(self) -> None:
        """No more events: every reader's channel ends."""
        for reader in self._readers:
            reader.channel.close()
        self._readers.clear()

    def _past(self, last_event_id: int) -> tuple[OutboxRow, ...]:
        chain = last_event_id >> CHAIN_BITS
        if any(row.event_id >> CHAIN_BITS != chain for row in self._ring):  # of several, only the order here counts
            rows = tuple(self._ring)
            place = next((at for at, row in enumerate(rows) if row.event_id == last_event_id), None)
            return (_note(MISSED, last_event_id), *rows) if place is None else rows[place + 1 :]
        held = tuple(row for row in self._ring if row.event_id > last_event_id)
        whole = bool(self._ring) and self._ring[0].event_id <= last_event_id + 1
        return held if whole else (_note(MISSED, last_event_id), *held)

    def _tell(self, reader: _Reader, row: OutboxRow) -> None:
        if reader.channel.statistics().current_buffer_used >= reader.room:
            reader.channel.send_nowait(_note(BEHIND, reader.last_id))
            reader.channel.close()
            self._readers.remove(reader)
        else:
            reader.channel.send_nowait(row)
            reader.last_id = row.event_id


def _note(name: str, event_id: int) -> OutboxRow:
    """A word about the stream itself. It has the id of the event before it, so that resuming goes on from there."""
    return OutboxRow(event_id, Event(name=name, account="", key="", at_ns=0, trace_id="", cause="", body={}))
