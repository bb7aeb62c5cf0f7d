"""The journal on PostgreSQL: the same facts, tables and chain as on SQLite; several machines may read it, one writes.

A commit is one pipeline, sent and read in the loop: one round trip and the server's own sync. `power` and `process` are
the server's synchronous_commit: on, or off (then the engine may be killed, but the server must not crash).

When the connection is lost the journal is not: it connects anew, asks whether the commit under way has happened, and
goes on. Only after `away_seconds` without success has it failed. Who may write is said by leases (leases.py).
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog
import trio
from msgspec import Struct
from msgspec.structs import replace

from engine.core.messages import AnyFact, Delivery, OutboxRow, Row, SignalRow
from engine.runtime.clock import Clock
from engine.runtime.journal import leases
from engine.runtime.journal.base import Fenced, JournalFailed, OpenState, Stats
from engine.runtime.journal.group import LINGER_SECONDS, Batch, Group, Statements
from engine.runtime.journal.identity import owner_of
from engine.runtime.journal.leases import Lease, Tenure
from engine.runtime.journal.libpq import Answer, ConnectionLost, Refused, Wire
from engine.runtime.journal.lock import Lock
from engine.runtime.journal.postgres_reading import Away, open_reader
from engine.runtime.journal.reading import DELIVERY, PAST_SIGNAL, SIGNAL, SqlReader
from engine.runtime.journal.server import PASSING, Address, Durability, sentence, session
from engine.runtime.journal.tables import Values

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 5.0  # for a commit; a server that is slower is treated as gone, and asked again
AGAIN_SECONDS = 0.1  # between two attempts to connect
PROTECTION_SECONDS = 1.0  # how long what protects waits for a commit
STANDBY_SECONDS = 0.5  # between two looks at somebody else's lease
CLOSE_SECONDS = 10.0
LOG = structlog.get_logger("journal")

Settle = Callable[[JournalFailed | None], None]


class PostgresTerms(Struct, frozen=True):
    """`lease_seconds`: how long an engine that is heard of no more keeps its accounts from another.

    `standby`: another engine may take over. Then a start waits for the lease instead of refusing, and when the lease
    could not be renewed in time nothing is sent at all. Without it, what protects goes on while the server is away.
    """

    durability: Durability = "power"
    accounts: tuple[str, ...] = ()
    lease_seconds: float = 10.0
    away_seconds: float = 30.0
    standby: bool = False
    first_event: int = 0  # event ids of a new journal begin behind it


class _Commit(Struct):
    """The commit under way."""

    statements: Statements
    accounts: frozenset[str]
    settle: Settle
    sent: bool = False  # once at least: from then on it may have happened, even when the server does not say so yet
    began_ticks: int = 0


class PostgresJournal:
    """See `Journal`. `lock` is a file of this engine's own: whoever has it knows that its earlier lives are dead."""

    def __init__(
        self, at: Address, terms: PostgresTerms, clock: Clock, lock: Path, linger_seconds: float = LINGER_SECONDS
    ) -> None:
        self.at = at
        self.terms = terms
        self._clock = clock
        self._linger_seconds = linger_seconds
        self._lock = Lock(lock)
        self._lock_path = lock
        self._wire: Wire | None = None
        self._ask: Wire | None = None  # for look-ups, beside the commits
        self._asking = trio.Lock()
        self._fetching = trio.CapacityLimiter(1)  # of events, for a sink that is behind
        self._commit: _Commit | None = None
        self._commits = 0  # confirmed in this epoch
        self._due = trio.CancelScope()
        self._sent_at = 0.0
        self._renewing_at: float | None = None  # a renewal is under way since then
        self._renewed_at = -math.inf  # trio's time at which the last renewal was asked for that was confirmed
        self._renewed_ns = 0  # wall time of the same: a machine that was asleep may not have counted it
        self._trouble_since: float | None = None
        self._fenced = ""
        self._scope = trio.CancelScope()
        self._kept = trio.Event()
        self._commit_last_ns = self._commit_max_ns = 0
        self._closed = False

    @property
    def failed(self) -> str | None:
        return self._group.failed

    async def open(self) -> OpenState:
        self._lock.take()
        try:
            self._owner = owner_of(self._lock_path)  # a life of the same name is dead: it had this lock file
            return await self._open()
        except (ConnectionLost, Refused) as error:
            self._give_up()
            raise JournalFailed(f"{self.at.where}: {sentence(error)}") from error
        except BaseException:  # raised again: a journal that did not open must not keep the lock and the connection
            self._give_up()
            raise

    def append(self, facts: Sequence[AnyFact], rows: Sequence[Row] = ()) -> int:
        return self._group.append(facts, rows)

    async def durable(self, seq: int, eager: bool = False, protective: bool = False) -> None:
        if not protective:
            return await self._group.durable(seq, eager)
        with trio.move_on_after(PROTECTION_SECONDS):
            return await self._group.durable(seq, eager)
        raise JournalFailed(f"{self.at.where}: no commit within {PROTECTION_SECONDS:g} s")

    def hurry(self, seq: int, then: Callable[[], None] | None = None) -> None:
        self._group.hurry(seq, then)

    async def outbox(self, after: int) -> tuple[OutboxRow, ...]:
        return await self._group.outbox(after)

    def cursor(self, sink: str) -> int:
        return self._group.cursor(sink)

    async def published(self) -> None:
        await self._group.published()

    async def failure(self) -> None:
        try:
            await self._group.failure()
        except JournalFailed as error:
            raise Fenced(self._fenced) if self._fenced else error from None

    def barred(self, opening: bool) -> str:
        if self._fenced:
            return self._fenced
        passed = trio.current_time() - self._renewed_at
        passed = max(passed, (self._clock.now_ns() - self._renewed_ns) / 1_000_000_000)
        if passed < self.terms.lease_seconds or not (opening or self.terms.standby):
            return ""
        return f"{self.at.where}: the lease has not been renewed for {passed:.1f} s: another engine may have it"

    def lease_left(self) -> float:
        """Seconds until the lease ends, by our own clock, unless it is renewed."""
        return max(self._renewed_at + self.terms.lease_seconds - trio.current_time(), 0.0)

    async def signal(self, signal_id: str) -> SignalRow | None:
        """Waits while the server is away. Raises JournalFailed once the journal has."""
        now, past = await self._look([(SIGNAL, [(signal_id,)]), (PAST_SIGNAL, [(signal_id,)])])
        rows = self._reader.signal_rows(now.rows) or self._reader.past_signal_rows(past.rows)
        return next(iter(rows), None)

    async def delivery(self, place: str) -> Delivery | None:
        """As `signal`."""
        (found,) = await self._look([(DELIVERY, [(place,)])])
        texts = (tuple((value or b"").decode() for value in row) for row in found.rows)
        return next((Delivery(where, digest, int(at_ns), answer) for where, digest, at_ns, answer in texts), None)

    async def _look(self, statements: Sequence[tuple[str, Sequence[Values]]]) -> tuple[Answer, ...]:
        async with self._asking:
            while True:
                if self.failed is not None:
                    raise JournalFailed(self.failed)
                try:
                    if self._ask is None:
                        self._ask = await self._session()
                    return await self._ask.run_all(statements)
                except Refused as error:
                    if error.sqlstate not in PASSING:
                        raise JournalFailed(f"{self.at.where}: {sentence(error)}") from error
                    await trio.sleep(AGAIN_SECONDS)
                except ConnectionLost:
                    await trio.sleep(AGAIN_SECONDS)  # the commits' connection has the deadline
                finally:
                    if self._ask is not None and self._ask.broken:
                        self._ask.close()
                        self._ask = None

    async def reload(self, account: str | None = None, symbol: str | None = None) -> OpenState:
        return await trio.to_thread.run_sync(self._reader.state, account, symbol)

    def reader(self) -> SqlReader:
        return open_reader(self.at)

    def stats(self) -> Stats:
        return replace(self._group.stats(), commit_last_ns=self._commit_last_ns, commit_max_ns=self._commit_max_ns)

    async def close(self) -> None:
        """Commit what is queued, and give the leases back. Nothing to do for one that never opened."""
        if self._closed or not hasattr(self, "_group"):
            return
        self._closed = True
        with trio.move_on_after(CLOSE_SECONDS, shield=True):
            if self._group.failed is None:
                try:
                    await self._group.flush()
                except JournalFailed:
                    pass  # whoever waited for it has been told
        self._group.stop()
        self._scope.cancel()
        with trio.move_on_after(CLOSE_SECONDS, shield=True):
            await self._kept.wait()
            if self._group.failed is None and self._wire is not None and not self._wire.busy:
                try:
                    await leases.release(self._wire, self._tenure)
                except (ConnectionLost, Refused):
                    pass  # they run out by themselves
        self._give_up()

    def _give_up(self) -> None:
        for wire in (self._wire, self._ask):
            if wire is not None:
                wire.close()
        self._wire = self._ask = None
        if hasattr(self, "_reader"):
            self._reader.close()
        self._lock.release()

    # --------------------------------------------------------------------------------------------------------- opening

    async def _open(self) -> OpenState:
        asked_at, asked_ns = trio.current_time(), self._clock.now_ns()
        self._tenure = await self._take()
        self._renewed_at, self._renewed_ns = asked_at, asked_ns
        assert self._wire is not None, "taken over it"
        self._reader = open_reader(self.at)
        await trio.to_thread.run_sync(self._reader.verify_tail)
        state = await trio.to_thread.run_sync(self._reader.state)
        place = await trio.to_thread.run_sync(self._reader.place)
        if not place.event_id:  # so nothing waits for anybody
            first = self.terms.first_event
            cursors = tuple(replace(cursor, event_id=first) for cursor in place.cursors)
            place = replace(place, event_id=first, cursors=cursors)
            state = replace(state, events=first, cursors=cursors)
        self._group = Group(place, self._write, self._linger_seconds, self._start, self._outbox)
        trio.lowlevel.spawn_system_task(self._group.run, name="journal.commit")
        trio.lowlevel.spawn_system_task(self._keep, self._wire, name="journal.connection")
        return state

    async def _take(self) -> Tenure:
        """Every lease, and the journal in our form; where another engine has one, a stand-by waits for its end."""
        lease_ns = round(self.terms.lease_seconds * 1_000_000_000)
        told = False
        while True:
            self._wire = self._wire or await self._session()
            seconds = STANDBY_SECONDS
            try:
                now_ns = self._clock.now_ns()
                found = await leases.take(self._wire, self.at, self._owner, self.terms.accounts, lease_ns, now_ns)
                if isinstance(found, Tenure):
                    return found
                why = another(self.at, found)
                seconds = min(seconds, max(found.left_ns, 1_000_000) / 1_000_000_000)
            except Refused as error:
                if error.sqlstate not in PASSING:
                    raise
                why = f"{self.at.where}: {sentence(error)}"  # who is taking it may be bringing it forward, for minutes
                self._wire.close()
                self._wire = None
            if not self.terms.standby:
                raise JournalFailed(why)
            if not told:
                LOG.warning("standing by", reason=why)
            told = True
            await trio.sleep(seconds)

    async def _session(self) -> Wire:
        return await session(self.at, self._owner, self.terms.durability, CONNECT_SECONDS)

    async def _outbox(self, after: int, limit: int) -> tuple[OutboxRow, ...]:
        """Waits while the server is away. Raises JournalFailed once the journal has."""
        while True:
            try:
                return await trio.to_thread.run_sync(
                    self._reader.outbox, after, limit, limiter=self._fetching, abandon_on_cancel=True
                )
            except Away:
                if self.failed is not None:
                    raise
            await trio.sleep(AGAIN_SECONDS)

    # --------------------------------------------------------------------------------------------------------- commits

    def _start(self, batch: Batch, settle: Settle) -> bool:
        if self._wire is None or self._wire.busy:
            return False
        self._take_on(batch, settle)
        return True

    async def _write(self, batch: Batch, settle: Settle) -> None:
        landed = trio.Event()

        def tell(error: JournalFailed | None) -> None:
            settle(error)
            landed.set()

        self._take_on(batch, tell)
        await landed.wait()

    def _take_on(self, batch: Batch, settle: Settle) -> None:
        assert self._commit is None, "one commit at a time"
        accounts = frozenset(values[3] for values in batch.facts)
        self._commit = _Commit(batch.statements(), accounts, settle, began_ticks=self._clock.ticks_ns())
        if self._wire is not None and not self._wire.busy:
            self._send(self._wire, self._commit)

    def _send(self, wire: Wire, commit: _Commit) -> None:
        held = self._tenure.holding(commit.accounts, self._commits)
        commit.sent = True
        self._dispatch(wire, [("BEGIN", [()]), *held, *commit.statements, ("COMMIT", [()])])

    def _dispatch(self, wire: Wire, statements: Sequence[tuple[str, Sequence[tuple[object, ...]]]]) -> None:
        self._sent_at = trio.current_time()
        self._due.deadline = self._sent_at + ANSWER_SECONDS
        try:
            if not wire.send(statements):
                trio.lowlevel.spawn_system_task(_flush, wire, name="journal.flush")
        except (ConnectionLost, ValueError) as error:
            wire.broken = True
            self._due.cancel()  # the keeper connects anew, or ends
            if isinstance(error, ValueError):
                self._landed(JournalFailed(f"{self.at.where}: a row cannot be written: {error}"))

    def _landed(self, error: JournalFailed | None) -> None:
        commit, self._commit = self._commit, None
        if error is None:
            self._commits += 1
            self._trouble_since = None
        if commit is not None:
            took = self._clock.ticks_ns() - commit.began_ticks
            self._commit_last_ns = took
            self._commit_max_ns = max(self._commit_max_ns, took)
            commit.settle(error)
        elif error is not None:
            self._group.fail(error)

    # -------------------------------------------------------------------------------------------------- the connection

    async def _keep(self, wire: Wire) -> None:
        """For ever: answers, renewals, and a new connection for one that was lost. Ends when the journal has failed."""
        try:
            with self._scope:
                while True:
                    try:
                        await self._attend(wire)
                    except (ConnectionLost, Refused, trio.ClosedResourceError) as error:
                        wire.close()
                        self._wire = None
                        wire = await self._connect_anew(error)
        except JournalFailed as error:
            if isinstance(error, Fenced):
                self._fenced = str(error)
            if self._wire is not None:
                self._wire.close()  # with whatever it has locked
                self._wire = None
            self._landed(error)
        except BaseException as error:
            # Whoever waits must not wait for ever, whatever it was: nothing would be durable again, and no stop sent.
            self._landed(JournalFailed(f"the journal failed in a way that must not happen: {error!r}"))
            raise
        finally:
            self._kept.set()

    async def _attend(self, wire: Wire) -> None:
        """Raises ConnectionLost and, for what may pass or needs a look, Refused; JournalFailed for what is final."""
        while True:
            if not wire.busy:
                self._next(wire)
            self._due.deadline = self._deadline(wire)
            with self._due:
                await trio.lowlevel.wait_readable(wire.fd)
            late, self._due = self._due.cancelled_caught, trio.CancelScope()
            if self.failed is not None:
                raise JournalFailed(self.failed)
            if wire.broken:
                raise ConnectionLost("the connection broke in the middle of a commit")
            if late:
                # A loop that stood still may have begun a commit after the time for the next renewal was over.
                if wire.busy and trio.current_time() >= self._sent_at + ANSWER_SECONDS:
                    raise ConnectionLost(f"no answer in {ANSWER_SECONDS:g} s")
                continue
            try:
                answers = wire.pump()
            except Refused as error:
                if error.sqlstate in PASSING or error.sqlstate == leases.NOT_HELD:
                    raise  # undone; on a new connection it is seen what stands
                raise JournalFailed(f"{self.at.where}: {sentence(error)}") from error
            if answers is not None:
                self._answered(answers)

    def _next(self, wire: Wire) -> None:
        """What the idle connection is to do: a commit that waits, else a renewal that is due."""
        if self._commit is not None:
            self._send(wire, self._commit)
        elif trio.current_time() >= self._renewed_at + self.terms.lease_seconds / 3:
            self._renewing_at = trio.current_time()
            self._dispatch(wire, self._tenure.renewing())

    def _deadline(self, wire: Wire) -> float:
        if wire.busy:
            return self._sent_at + ANSWER_SECONDS
        return self._renewed_at + self.terms.lease_seconds / 3

    def _answered(self, answers: tuple[Answer, ...]) -> None:
        if self._renewing_at is not None:
            asked_at, self._renewing_at = self._renewing_at, None
            if not self._tenure.renewed(answers[-1].rows[0][0]):
                raise Fenced(leases.taken_over(self.at))
            self._renewed(asked_at)
        elif answers[-1].tag != "COMMIT":
            raise JournalFailed(f"{self.at.where}: the server answered a commit with {answers[-1].tag}")
        else:
            self._landed(None)

    def _renewed(self, asked_at: float) -> None:
        self._trouble_since = None
        self._renewed_at = asked_at
        self._renewed_ns = self._clock.now_ns() - round((trio.current_time() - asked_at) * 1_000_000_000)

    async def _connect_anew(self, error: ConnectionLost | Refused | trio.ClosedResourceError) -> Wire:
        """The one place where connecting is repeated. Raises JournalFailed when it takes too long, or cannot be."""
        self._renewing_at = None
        if self._trouble_since is None:
            self._trouble_since = trio.current_time()
            LOG.warning("the journal's connection is lost", reason=str(error))
        why: ConnectionLost | Refused = (
            ConnectionLost("closed") if isinstance(error, trio.ClosedResourceError) else error
        )
        with trio.move_on_at(self._trouble_since + self.terms.away_seconds):
            while True:
                wire = None
                try:
                    wire = await self._session()
                    await self._resolve(wire)
                    LOG.info("the journal is reached again")
                    return wire
                except (ConnectionLost, Refused) as again:
                    why = again
                    if wire is not None:
                        wire.close()
                except BaseException:  # raised again: nobody else has the connection to close it
                    if wire is not None:
                        wire.close()
                    raise
                await trio.sleep(AGAIN_SECONDS)
        raise JournalFailed(f"{self.at.where}: given up after {self.terms.away_seconds:g} s: {sentence(why)}")

    async def _resolve(self, wire: Wire) -> None:
        """On a new connection: the commit under way has happened or has not, and the server says which."""
        commit = self._commit
        happened = await leases.still_ours(
            wire, self.at, self._tenure, self._commits, sent=commit is not None and commit.sent
        )
        if happened:
            self._landed(None)
        asked_at = trio.current_time()
        (answer,) = await wire.run_all(self._tenure.renewing())
        if not self._tenure.renewed(answer.rows[0][0]):
            raise Fenced(leases.taken_over(self.at))
        trouble = self._trouble_since
        self._renewed(asked_at)
        if self._commit is not None:
            self._trouble_since = trouble  # it is over when the commit that waits has landed
        self._wire = wire


async def _flush(wire: Wire) -> None:
    """The rest of a commit that is larger than the socket's buffer."""
    try:
        await wire.flush()
    except ConnectionLost:
        pass  # whoever reads the answers notices


def another(at: Address, held: Lease) -> str:
    return (
        f"{at.where}: another engine is running on this journal ({held.owner}, epoch {held.epoch}),"
        f" or was until it was cut off: its lease ends in {held.left_ns / 1_000_000_000:.1f} s; stop that one first"
    )
