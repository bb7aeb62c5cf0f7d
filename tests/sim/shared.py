"""A journal that two engines share, on a server that is an object: leases by its own clock, epochs in each commit.

The rules are those of `engine.runtime.journal.leases`: who has the lease may write, who finds it ended takes it with a
higher epoch, and whoever had it before commits nothing from then on. The server outlives every engine; a kill leaves
the lease as it is, and only the same host, whose lock file is free then, need not wait for its end.
"""

from collections.abc import Callable
from random import Random

import apsw
import trio

from engine.runtime.clock import Clock
from engine.runtime.journal.base import Fenced, JournalFailed, OpenState
from engine.runtime.journal.group import Statements
from engine.runtime.journal.memory import MemoryJournal
from engine.runtime.journal.reading import SqlReader
from tests.sim.disk import Reach, WorldDisk

LOOK_SECONDS = 0.5  # between two looks at another's lease
ROUND_TRIP_SECONDS = 0.001


class InTheWay(Exception):
    """Another host has the lease."""


class SharedDisk(WorldDisk):
    """The server's side. `lease_seconds` by the world's clock."""

    def __init__(self, latency: Callable[[], float], reach: Reach, lease_seconds: float) -> None:
        super().__init__(latency, reach)
        self._locks = False
        self.lease_seconds = lease_seconds
        self._owner = -1  # host
        self._until = 0.0

    def left(self, host: int) -> float:
        """Seconds until the lease of another host ends."""
        return max(self._until - trio.current_time(), 0.0) if self._owner not in (host, -1) else 0.0

    def take(self, journal: "LeasedJournal", at_ns: int) -> SqlReader:
        """A higher epoch; a commit that was written by the one before has happened. Raises InTheWay."""
        if self.left(journal.host) > 0:
            raise InTheWay
        self._owner = journal.host
        reader = self.mount(at_ns, journal)
        self.renew(journal)
        return reader

    def holds(self, journal: "LeasedJournal") -> bool:
        return self._holder is journal

    def renew(self, journal: "LeasedJournal") -> bool:
        if self.holds(journal):
            self._until = trio.current_time() + self.lease_seconds
        return self.holds(journal)

    def give_back(self, journal: "LeasedJournal") -> None:
        if self.holds(journal):
            self._holder, self._owner = None, -1

    def _keep(self, commits: int) -> None:
        """Raises JournalFailed where two have written the same number: the server's own constraints say so."""
        try:
            super()._keep(commits)
        except apsw.ConstraintError as error:
            self._unsynced.clear()
            raise JournalFailed(f"somebody else has written into the journal: {error}") from error

    def kill(self, journal: "LeasedJournal", rng: Random) -> int:
        """Its process dies: of its commits on the way some happen. The lease is left as it is."""
        if not self.holds(journal):
            return self.reader().place().seq if self._formatted() else 0
        kept = self.crash(rng)
        self._holder = journal  # which has no effects any more
        return kept


class _View:
    """What a `MemoryJournal` uses of its disk: here each write asks for the lease, in its own transaction."""

    def __init__(self, disk: SharedDisk, journal: "LeasedJournal") -> None:
        self._disk, self._journal = disk, journal
        self.latency = disk.latency
        self.reader = disk.reader

    @property
    def life(self) -> int:
        return int(self._journal.killed)

    def mount(self, at_ns: int, holder: object) -> SqlReader:
        reader = self._disk.take(self._journal, at_ns)
        self._journal._leased()
        return reader

    def write(self, statements: Statements) -> None:
        self._check()
        self._disk.write(statements)
        self._disk.renew(self._journal)

    def sync(self) -> None:
        self._check()
        self._disk.sync()

    def release(self, holder: object) -> None:
        self._disk.give_back(self._journal)

    def _check(self) -> None:
        if not self._disk.holds(self._journal):
            raise self._journal.fence()


class LeasedJournal(MemoryJournal):
    """`standby` as in `PostgresTerms`: it waits for the lease, and sends nothing when it could not renew it in time."""

    def __init__(
        self,
        disk: SharedDisk,
        clock: Clock,
        boundary: Callable[[str], None],
        host: int,
        leased: Callable[[], None] = lambda: None,
    ) -> None:
        """`leased` is called in the moment in which it has the lease."""
        super().__init__(_View(disk, self), clock, boundary)  # type: ignore[arg-type]
        self.host = host
        self.killed = False
        self.fenced = ""
        self._server, self._leased = disk, leased
        self._renewed_at = 0.0

    async def open(self) -> OpenState:
        while True:
            if (left := self._server.left(self.host)) > 0:
                await trio.sleep(min(LOOK_SECONDS, max(left, ROUND_TRIP_SECONDS)))
                continue
            self._renewed_at = trio.current_time()
            try:
                state = await super().open()
            except InTheWay:
                continue  # the other host was quicker
            break
        trio.lowlevel.spawn_system_task(self._keep, name="journal.lease")
        return state

    async def failure(self) -> None:
        try:
            await super().failure()
        except JournalFailed:
            if self.fenced:
                raise Fenced(self.fenced) from None
            raise

    def barred(self, opening: bool) -> str:
        if self.fenced:
            return self.fenced
        passed = trio.current_time() - self._renewed_at
        return "" if passed < self._server.lease_seconds else f"the lease has not been renewed for {passed:.1f} s"

    def fence(self) -> Fenced:
        self.fenced = "the accounts were taken over; this engine sends nothing any more"
        return Fenced(self.fenced)

    async def _keep(self) -> None:
        """Until the end: renewals."""
        while not self.killed:
            await trio.sleep_until(self._renewed_at + self._server.lease_seconds / 3)
            asked_at = trio.current_time()
            await trio.sleep(ROUND_TRIP_SECONDS)
            if self.killed or self.failed is not None:
                return
            if not self._server.renew(self):
                return self._group.fail(self.fence())
            self._renewed_at = asked_at
