"""The journal of a simulated engine: the same tables and queries, on a disk that is an object and fails on demand.

No threads and no files, and deterministic. What is committed but not yet synced may be lost by a crash, whole
transactions at a time; what was only appended is lost always. The `MemoryDisk` outlives the journals that use it.
"""

from collections.abc import Callable, Sequence
from random import Random

import apsw
import msgspec
import trio

from engine.core.messages import AnyFact, Delivery, OutboxRow, Row, SignalRow
from engine.runtime.clock import Clock
from engine.runtime.journal.base import JournalFailed, OpenState, Stats
from engine.runtime.journal.group import LINGER_SECONDS, Batch, Group, Statements
from engine.runtime.journal.reading import SqlReader
from engine.runtime.journal.tables import encode
from engine.runtime.journal.writing import commit, migrate, raise_epoch

Settle = Callable[[JournalFailed | None], None]
WHERE = "the memory disk"
KEPT = 20  # rows and facts out of the indexes: few, so that short lives meet both sides of the mark
_decode = msgspec.json.Decoder(OutboxRow).decode


class MemoryDisk:
    """What survives a crash. `latency` gives the duration of a sync in (virtual) seconds. `locks`: whoever mounts it
    keeps everybody else out until `release` or a crash, as the lock file of a real journal does."""

    def __init__(self, latency: Callable[[], float] = lambda: 0.0, locks: bool = False) -> None:
        self.latency = latency
        self._locks = locks
        self._holder: object = None
        self.full = False
        self.fail_sync = False
        self.life = 0  # raised by a crash: whoever wrote before it is dead
        self._unsynced: list[Statements] = []
        self._synced = apsw.Connection(":memory:")

    def write(self, statements: Statements) -> None:
        """Not safe yet. Raises JournalFailed when there is no room."""
        if self.full:
            raise JournalFailed(f"{WHERE}: the disk is full")
        self._unsynced.append(statements)

    def sync(self) -> None:
        """Everything written is safe. Raises JournalFailed; then nobody knows what was written."""
        if self.fail_sync:
            self._unsynced.clear()
            raise JournalFailed(f"{WHERE}: the disk failed (sync)")
        self._keep(len(self._unsynced))

    def crash(self, rng: Random | None = None) -> int:
        """Whoever writes here dies. Of the commits not synced, a random number of the first survives (without `rng`
        none). Returns the number of the last fact that is left."""
        self._keep(rng.randint(0, len(self._unsynced)) if rng is not None else 0)
        self._unsynced.clear()
        self.life += 1
        self._holder = None
        return self.reader().place().seq if self._formatted() else 0

    def reader(self) -> SqlReader:
        """What is synced."""
        return SqlReader(self._synced, WHERE, owned=False)

    def mount(self, at_ns: int, holder: object = None) -> SqlReader:
        """The disk as a new engine finds it. An engine before it that has neither closed nor crashed is dead now, or,
        where the disk locks, in its way: JournalFailed."""
        if self._locks and self._holder is not None:
            raise JournalFailed(f"{WHERE}: another engine is running on this journal; stop that one first")
        self._holder = holder
        self._keep(len(self._unsynced))
        self.life += 1
        migrate(self._synced, WHERE, at_ns)
        raise_epoch(self._synced)
        reader = self.reader()
        reader.verify_tail()
        return reader

    def held_by(self, holder: object) -> bool:
        return self._holder is holder

    def release(self, holder: object) -> None:
        """The end of a holder's process, whatever its cause."""
        if self._holder is holder:
            self._holder = None

    def _keep(self, commits: int) -> None:
        for statements in self._unsynced[:commits]:
            commit(self._synced, statements)
        del self._unsynced[:commits]

    def _formatted(self) -> bool:
        return bool(list(self._synced.execute("SELECT 1 FROM sqlite_schema LIMIT 1")))


class MemoryJournal:
    """See `Journal`. `boundary` is called with append.before, append.after, sync.before and sync.after; a crash may
    come out of it, after which this journal has no effect any more and nobody who waits on it is answered."""

    def __init__(
        self,
        disk: MemoryDisk,
        clock: Clock,
        boundary: Callable[[str], None] = lambda where: None,
        linger_seconds: float = LINGER_SECONDS,
    ) -> None:
        self._disk = disk
        self._clock = clock
        self._boundary = boundary
        self._linger_seconds = linger_seconds

    @property
    def failed(self) -> str | None:
        return self._group.failed

    async def open(self) -> OpenState:
        await trio.lowlevel.checkpoint()
        self._reader = self._disk.mount(self._clock.now_ns(), self)
        self._life = self._disk.life
        state, place = self._reader.state(), self._reader.place()
        self._group = Group(place, self._write, self._linger_seconds, self._start, self._outbox, kept=KEPT)
        trio.lowlevel.spawn_system_task(self._group.run, name="journal.commit")
        return state

    def append(self, facts: Sequence[AnyFact], rows: Sequence[Row] = ()) -> int:
        self._boundary("append.before")
        seq = self._group.append(facts, rows)
        self._boundary("append.after")
        return seq

    async def durable(self, seq: int, eager: bool = False, protective: bool = False) -> None:
        await self._group.durable(seq, eager)

    def hurry(self, seq: int, then: Callable[[], None] | None = None) -> None:
        self._group.hurry(seq, then)

    async def outbox(self, after: int) -> tuple[OutboxRow, ...]:
        # Through bytes, as a row that an earlier life has left behind would come.
        return tuple(_decode(encode(row)) for row in await self._group.outbox(after))

    def cursor(self, sink: str) -> int:
        return self._group.cursor(sink)

    async def published(self) -> None:
        await self._group.published()

    async def failure(self) -> None:
        await self._group.failure()

    async def signal(self, signal_id: str) -> SignalRow | None:
        return self._reader.signal(signal_id)

    async def delivery(self, place: str) -> Delivery | None:
        return self._reader.delivery(place)

    async def reload(self, account: str | None = None, symbol: str | None = None) -> OpenState:
        return self._reader.state(account, symbol)

    async def _outbox(self, after: int, limit: int) -> tuple[OutboxRow, ...]:
        return self._reader.outbox(after, limit)

    def barred(self, opening: bool) -> str:
        return ""

    def reader(self) -> SqlReader:
        return self._disk.reader()

    def stats(self) -> Stats:
        return self._group.stats()

    def runs(self, owner: object) -> bool:
        """Whether a task in the background whose `self` is `owner` is this journal's. Before `open` it has none."""
        return owner is self or (hasattr(self, "_group") and owner is self._group)

    async def close(self) -> None:
        if self._dead:
            return
        try:
            await self._group.flush()
        except JournalFailed:
            pass  # whoever waited for it has been told
        self._group.stop()
        self._disk.release(self)

    @property
    def _dead(self) -> bool:
        return self._life != self._disk.life

    def _start(self, batch: Batch, settle: Settle) -> bool:
        """As a thread that ends commits would do it: written in this turn, its sync waited for elsewhere."""
        if self._dead:
            return False
        self._boundary("sync.before")
        if self._dead:
            return False
        try:
            self._disk.write(batch.statements())
        except JournalFailed as error:
            settle(error)
        else:
            trio.lowlevel.spawn_system_task(self._sync, settle, name="journal.sync")
        return True

    async def _write(self, batch: Batch, settle: Settle) -> None:
        await self._only_if_alive()
        try:
            self._boundary("sync.before")
            await self._only_if_alive()
            self._disk.write(batch.statements())
        except JournalFailed as error:
            settle(error)
            return
        await self._sync(settle)

    async def _sync(self, settle: Settle) -> None:
        try:
            seconds = self._disk.latency()
            if seconds:
                await trio.sleep(seconds)
            await self._only_if_alive()
            self._disk.sync()
        except JournalFailed as error:
            settle(error)
            return
        self._boundary("sync.after")
        await self._only_if_alive()
        settle(None)

    async def _only_if_alive(self) -> None:
        if self._dead:
            self._group.stop()
            await trio.sleep_forever()
