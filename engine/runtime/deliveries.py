"""Which body a name belongs to, as long as it can come again: a replay is told from a new one, after a restart too.

A name is a sender's own (the id of a signed delivery, of a control event) or a transport's place (a line of a file, an
entry of a stream). Signals have their own identity in the journal; a name is bound beside it, so that it never brings
another signal. A control event has none but this: its name is bound in the commit of what it did, for good. A signed
delivery's name may be forgotten when its timestamp refuses it anyway (engine/runtime/journal/archive.py).
"""

from msgspec import Struct

from engine.core.messages import Delivery
from engine.runtime.journal.base import Journal

RECENT_MAX = 10_000  # kept in memory, where they stand before they are on the disk


class Found(Struct, frozen=True):
    """A name that came before. `pending`: what came under it is still being carried out."""

    delivery: Delivery
    pending: bool = False


class Deliveries:
    """All names of one journal. Outlives the actor that asks it."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._recent: dict[str, Delivery] = {}
        self._pending: dict[str, Delivery] = {}

    async def find(self, place: str) -> Found | None:
        """Raises JournalFailed."""
        if place in self._pending:
            return Found(self._pending[place], pending=True)
        known = self._recent.get(place) or await self._journal.delivery(place)
        return None if known is None else Found(known)

    def begin(self, delivery: Delivery) -> None:
        """It is being carried out by somebody else, who appends its row; `end` says that he has, or has not."""
        self._pending[delivery.place] = delivery

    def end(self, delivery: Delivery, appended: bool) -> None:
        self._pending.pop(delivery.place, None)
        if appended:
            self.bound(delivery)

    def bound(self, delivery: Delivery) -> None:
        """Its row has been appended."""
        self._recent[delivery.place] = delivery
        if len(self._recent) > RECENT_MAX:
            del self._recent[next(iter(self._recent))]
