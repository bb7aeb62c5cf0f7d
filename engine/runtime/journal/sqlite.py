"""The journal on SQLite: one file, one process, write-ahead log. Knows the disk; what is written is decided elsewhere.

`power`: a thread ends each commit with an fsync, so that the loop never waits for the disk. `process`: commits are a
few microseconds of page cache and are made in the loop; they survive kill -9, not a power cut. The write-ahead log is
copied into the file at quiet moments through a connection of its own, never by a commit (that would be its tail).
"""

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from queue import SimpleQueue
from typing import Literal, TypeVar

import apsw
import trio
from msgspec.structs import replace

from engine.core.messages import AnyFact, Delivery, OutboxRow, Row, SignalRow
from engine.runtime.clock import Clock
from engine.runtime.journal.base import JournalFailed, OpenState, Stats
from engine.runtime.journal.group import LINGER_SECONDS, QUICK_SECONDS, Batch, Group
from engine.runtime.journal.lock import Lock
from engine.runtime.journal.reading import SqlReader
from engine.runtime.journal.walcheck import commits_behind
from engine.runtime.journal.writing import check_kind, land, migrate, prepare, raise_epoch, was_synced

T = TypeVar("T")
BUSY_SECONDS = 1.0  # how long another process may hold the write lock before it is a failure
HAND_OVER_SECONDS = 0.0005  # at most, until the thread has begun with a commit for which an order waits
QUIET_SECONDS = 0.2  # without a commit, before the write-ahead log is copied into the file
WAL_PAGES_MAX = 16384  # 32 MB: then it is copied without waiting for quiet
COPIES = 8  # each of what came during the one before, until one falls between two commits; then these must wait
CLOSE_SECONDS = 10.0
_PAGE_BYTES = 2048  # a commit touches a dozen scattered pages: half the size is a third less to write and to sync

Settle = Callable[[JournalFailed | None], None]


class SqliteJournal:
    """See `Journal`. `linger_seconds` is how long an append that nobody waits for may stay in memory."""

    def __init__(
        self,
        path: Path,
        durability: Literal["power", "process"],
        clock: Clock,
        linger_seconds: float = LINGER_SECONDS,
    ) -> None:
        self.path = Path(path)
        self.durability = durability
        self._clock = clock
        self._linger_seconds = linger_seconds
        self._where, self._where_log = str(self.path), str(wal_of(self.path))
        self._lock = Lock(self.path.with_name(self.path.name + ".lock"))
        self._commit_last_ns = self._commit_max_ns = self._began = 0
        self._wal_pages = 0
        self._dirty = trio.Event()  # the write-ahead log has something to copy
        self._hold: trio.Event | None = None  # commits wait while it is there
        self._thread: _CommitThread | None = None
        self._closed = False

    @property
    def failed(self) -> str | None:
        return self._group.failed

    async def open(self) -> OpenState:
        self._lock.take()
        try:
            return self._open()
        except BaseException:  # raised again: a journal that did not open must not keep the next one out
            self._lock.release()
            raise

    def append(self, facts: Sequence[AnyFact], rows: Sequence[Row] = ()) -> int:
        return self._group.append(facts, rows)

    async def durable(self, seq: int, eager: bool = False, protective: bool = False) -> None:
        await self._group.durable(seq, eager)

    def hurry(self, seq: int, then: Callable[[], None] | None = None) -> None:
        self._group.hurry(seq, then)

    async def outbox(self, after: int) -> tuple[OutboxRow, ...]:
        return await self._group.outbox(after)

    def cursor(self, sink: str) -> int:
        return self._group.cursor(sink)

    async def published(self) -> None:
        await self._group.published()

    async def failure(self) -> None:
        await self._group.failure()

    async def signal(self, signal_id: str) -> SignalRow | None:
        """Through the writer's connection while it is free: it has the pages at hand that it wrote itself.

        The reader's has to read them from the log again after each commit.
        """
        return self._at_hand(lambda reader: reader.signal(signal_id))

    async def delivery(self, place: str) -> Delivery | None:
        return self._at_hand(lambda reader: reader.delivery(place))

    def _at_hand(self, look: Callable[[SqlReader], T]) -> T:
        if not self._group.flying and not self._connection.in_transaction:
            try:
                return look(self._own_reader)
            except JournalFailed:
                pass  # the writer waits for no lock, the reader does
        return look(self._reader)

    async def reload(self, account: str | None = None, symbol: str | None = None) -> OpenState:
        return self._reader.state(account, symbol)

    async def _outbox(self, after: int, limit: int) -> tuple[OutboxRow, ...]:
        return self._reader.outbox(after, limit)

    def barred(self, opening: bool) -> str:
        return ""  # the lock file is held for life: nobody else can have taken over

    def reader(self) -> SqlReader:
        return open_reader(self.path)

    def stats(self) -> Stats:
        wal = self._wal_pages * _PAGE_BYTES
        return replace(
            self._group.stats(),
            commit_last_ns=self._commit_last_ns,
            commit_max_ns=self._commit_max_ns,
            size_bytes=size_of(self.path) + size_of(wal_of(self.path)),
            wal_bytes=wal,
        )

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        with trio.move_on_after(CLOSE_SECONDS, shield=True):
            if self._group.failed is None:
                try:
                    await self._group.flush()
                except JournalFailed:
                    pass  # whoever waited for it has been told
        self._group.stop()
        self._wal_scope.cancel()
        if self._thread is not None:
            self._thread.stop()
        if self._group.failed is None:
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                await trio.to_thread.run_sync(self._empty_log, abandon_on_cancel=True)
        for connection in (self._reader_connection, self._copier, self._connection):
            try:
                connection.close()
            except apsw.Error:
                pass  # a broken disk was reported when it broke
        self._lock.release()

    def _empty_log(self) -> None:
        """All of the write-ahead log into the file: a journal at rest is one file, to be copied as such."""
        try:
            self._connection.wal_checkpoint("main", apsw.SQLITE_CHECKPOINT_TRUNCATE)
        except apsw.Error:
            pass  # somebody reads just now; the log is whole, and the next start goes on with it

    # --------------------------------------------------------------------------------------------------------- opening

    def _open(self) -> OpenState:
        where = str(self.path)
        try:
            _create(self.path)
            self._connection = connect(self.path, self.durability)
            refuse_a_damaged_log(self._connection, self.path)
            migrate(self._connection, where, self._clock.now_ns())
            self._reader_connection = _connect_to_read(self.path)
            self._reader = SqlReader(self._reader_connection, where)
            self._own_reader = SqlReader(self._connection, where, owned=False)
            self._reader.verify_tail()
            raise_epoch(self._connection, synced=self.durability == "power")
            state = self._reader.state()
            place = self._reader.place()
            self._copier = apsw.Connection(where)
            self._copier.execute("PRAGMA schema_version")  # before its first look it does not know that there is a log
        except apsw.Error as error:
            raise JournalFailed(f"{where}: {sentence_of(error)}{damage_of(self.path, error)}") from error
        except OSError as error:
            raise JournalFailed(f"{where}: {error.strerror}") from error
        self._files = _inode(self.path), _inode(wal_of(self.path))
        self._connection.set_wal_hook(self._grown)
        self._connection.set_busy_timeout(0)
        if self.durability == "power":
            self._thread = _CommitThread(self._land)
        quick = QUICK_SECONDS if self._linger_seconds == LINGER_SECONDS else None
        self._group = Group(place, self._write, self._linger_seconds, self._start, self._outbox, quick)
        self._wal_scope = trio.CancelScope()
        trio.lowlevel.spawn_system_task(self._group.run, name="journal.commit")
        trio.lowlevel.spawn_system_task(self._keep_log_short, name="journal.log")
        return state

    # --------------------------------------------------------------------------------------------------------- commits

    async def _write(self, batch: Batch, settle: Settle) -> None:
        """The rows go into the page cache here; the end of it, which waits for the disk, in the thread if there is one.

        A commit that was the thread's from its beginning would fight the loop for the interpreter at every statement.
        """
        if self._hold is not None:
            await self._hold.wait()
        self._began = self._clock.ticks_ns()
        error = await self._prepare(batch)
        if error is None and self._thread is not None:
            landed = trio.Event()

            def tell(error: JournalFailed | None) -> None:
                settle(error)
                landed.set()

            self._thread.take(tell)
            await landed.wait()
        else:
            settle(error or self._land())
        self._dirty.set()

    def _start(self, batch: Batch, settle: Settle) -> bool:
        """The same without waiting. In `process` durability all of it is a few writes into the page cache."""
        if self._hold is not None:
            return False
        self._began = self._clock.ticks_ns()
        try:
            prepare(self._connection, batch.statements())
        except apsw.BusyError:
            return False
        except (apsw.Error, OverflowError, TypeError, ValueError) as error:
            settle(self._unwritten(error))
            return True
        if self._thread is None:
            settle(self._land())
        else:
            self._thread.take_at_once(settle)
        self._dirty.set()
        return True

    async def _prepare(self, batch: Batch) -> JournalFailed | None:
        """A failure is final and is returned. Another process that holds the write lock is waited for, for a while."""
        deadline = trio.current_time() + BUSY_SECONDS
        while True:
            try:
                prepare(self._connection, batch.statements())
                return None
            except apsw.BusyError as error:
                if trio.current_time() >= deadline:
                    return self._unwritten(error)
            except (apsw.Error, OverflowError, TypeError, ValueError) as error:
                return self._unwritten(error)
            await trio.sleep(0.005)  # waiting in SQLite would stop the loop

    def _unwritten(self, error: Exception) -> JournalFailed:
        if isinstance(error, apsw.Error):
            return JournalFailed(f"{self.path}: {sentence_of(error)}")
        return JournalFailed(f"{self.path}: a row cannot be written: {error}")  # a number of more than 64 bits

    def _land(self) -> JournalFailed | None:
        """The end of one commit; a failure is final and is returned."""
        try:
            land(self._connection)
            if (_inode(self._where), _inode(self._where_log)) != self._files:
                return JournalFailed(f"{self.path}: the file was moved or deleted while the engine was running")
        except apsw.Error as error:
            return JournalFailed(f"{self.path}: {sentence_of(error)}")
        took = self._clock.ticks_ns() - self._began
        self._commit_last_ns = took
        self._commit_max_ns = max(self._commit_max_ns, took)
        return None

    # ------------------------------------------------------------------------------------------- the write-ahead log

    def _grown(self, connection: apsw.Connection, database: str, pages: int) -> int:
        self._wal_pages = pages
        return apsw.SQLITE_OK

    async def _keep_log_short(self) -> None:
        with self._wal_scope:
            while self.failed is None:
                await self._until_quiet()
                if not await self._shorten():
                    # Somebody reads what was there before, for as long as he likes: no pause helps until he is through.
                    await trio.sleep(QUIET_SECONDS)

    async def _shorten(self) -> bool:
        """Whether the log will begin anew, or is short enough for now."""
        for _ in range(COPIES):
            if await self._copy() or self._wal_pages <= WAL_PAGES_MAX:
                return True
        return await self._copy_in_a_pause()

    async def _copy_in_a_pause(self) -> bool:
        """Busy all the time, and the log would grow for ever: nothing is committed until all of it is copied."""
        copied, self._hold = False, trio.Event()
        for _ in range(3):
            if copied := await self._copy():
                break
        self._hold.set()
        self._hold = None
        return copied

    async def _until_quiet(self) -> None:
        await self._dirty.wait()
        commits = -1
        while commits != self._group.commits and self._wal_pages <= WAL_PAGES_MAX:
            commits = self._group.commits
            await trio.sleep(QUIET_SECONDS)
        self._dirty = trio.Event()

    async def _copy(self) -> bool:
        """Whether all of the log is in the file, and nothing came meanwhile: the next commit then begins it anew."""
        try:
            pages, copied = await trio.to_thread.run_sync(
                self._copier.wal_checkpoint, "main", apsw.SQLITE_CHECKPOINT_PASSIVE
            )
        except apsw.BusyError:
            return False  # somebody else is at it
        except apsw.Error as error:
            self._group.fail(JournalFailed(f"{self.path}: {sentence_of(error)}"))
            return False
        return bool(pages == copied == self._wal_pages)


class _CommitThread:
    """One thread that ends commits, and tells the trio thread, one wake-up for each."""

    def __init__(self, land: Callable[[], JournalFailed | None]) -> None:
        self._land = land
        self._work: SimpleQueue[tuple[Settle, threading.Lock | None] | None] = SimpleQueue()
        self._token = trio.lowlevel.current_trio_token()
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    def take(self, tell: Settle) -> None:
        self._work.put((tell, None))

    def take_at_once(self, tell: Settle) -> None:
        """The same, and give way until the thread has begun, which is not to wait for the disk.

        What the loop does next would else keep the interpreter, and on a machine that has no other core to spare the
        processor, from the thread for as long as it lasts: often longer than the commit.
        """
        begun = threading.Lock()
        begun.acquire()
        self._work.put((tell, begun))
        begun.acquire(timeout=HAND_OVER_SECONDS)

    def stop(self) -> None:
        self._work.put(None)
        self._thread.join(CLOSE_SECONDS)  # it is a daemon: a disk that hangs does not hold up the exit for ever

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            tell, begun = work
            error: JournalFailed | None = JournalFailed("the commit thread failed in a way that must not happen")
            if begun is not None:
                begun.release()
            try:
                error = self._land()
            except BaseException:  # raised again: whoever waits must not wait for ever, whatever it was
                self._tell(tell, error)
                raise
            if not self._tell(tell, error):
                return

    def _tell(self, tell: Settle, error: JournalFailed | None) -> bool:
        """Whether there still is an engine to tell."""
        try:
            self._token.run_sync_soon(tell, error)
        except trio.RunFinishedError:
            return False
        return True


def open_reader(path: Path) -> SqlReader:
    """A reader of a journal's file, whether an engine runs on it or not. Raises JournalFailed."""
    if not Path(path).is_file():
        raise JournalFailed(f"{path}: there is no journal here")
    try:
        connection = _connect_to_read(Path(path))
        check_kind(connection, str(path))
    except apsw.Error as error:
        raise JournalFailed(f"{path}: {sentence_of(error)}{damage_of(Path(path), error)}") from error
    return SqlReader(connection, str(path))


def refuse_a_damaged_log(connection: apsw.Connection, path: Path) -> None:
    frames, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
    lost = commits_behind(wal_of(path), max(frames, 0))
    if lost > 1 and was_synced(connection):
        raise JournalFailed(
            f"{wal_of(path)}: the write-ahead log is damaged at frame {frames + 1}, and {lost} whole commits"
            " stand behind that place"
        )


def connect(path: Path, durability: str) -> apsw.Connection:
    connection = apsw.Connection(str(path))
    connection.set_busy_timeout(int(BUSY_SECONDS * 1000))
    connection.execute(f"PRAGMA page_size = {_PAGE_BYTES}")  # takes effect in a new file only
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {'FULL' if durability == 'power' else 'NORMAL'}")
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("PRAGMA cache_size = -16000")
    return connection


def _connect_to_read(path: Path) -> apsw.Connection:
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(int(BUSY_SECONDS * 1000))
        connection.execute("PRAGMA schema_version")
    except (apsw.CantOpenError, apsw.ReadOnlyError):
        # In a folder that may not be written, there is no shared memory to be had; nobody can be writing either.
        if wal_of(path).exists():
            raise
        flags = apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI
        connection = apsw.Connection(f"{path.absolute().as_uri()}?immutable=1", flags=flags)
    return connection


def _create(path: Path) -> None:
    """For the owner's eyes only."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))


def wal_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _inode(path: "Path | str") -> int:
    try:
        return os.stat(path).st_ino
    except FileNotFoundError:
        return -1


def size_of(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def sentence_of(error: apsw.Error) -> str:
    """SQLite's words, with ours before them where theirs do not say what to do."""
    match error:
        case apsw.FullError():
            meaning = "the disk is full"
        case apsw.BusyError() | apsw.LockedError():
            meaning = f"another process has locked the journal for more than {BUSY_SECONDS:g} s"
        case apsw.ReadOnlyError():
            meaning = "the journal may not be written"
        case apsw.NotADBError():
            meaning = "this is not a journal, or its first page is damaged"
        case apsw.CorruptError():
            meaning = "the file is damaged"
        case apsw.CantOpenError():
            meaning = "the journal cannot be opened"
        case apsw.IOError():
            meaning = "the disk failed"
        case _:
            meaning = "SQLite refused"
    return f"{meaning} ({type(error).__name__}: {error})"


def damage_of(path: Path, error: apsw.Error) -> str:
    """Where the file is damaged, as far as SQLite can tell; only asked when it is."""
    if not isinstance(error, apsw.CorruptError):
        return ""
    try:
        found = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY).execute("PRAGMA quick_check(3)")
        return "; " + "; ".join(str(line) for (line,) in found).replace("\n", " ")
    except apsw.Error:
        return ""
