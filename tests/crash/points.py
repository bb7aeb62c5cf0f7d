"""The places at which an engine process is killed, wrapped round functions of the product from outside.

Each name stands for a numbered crash point of RELIABILITY 4.2, or for one that this engine has beside them. Nothing in
the product knows of this: `install` replaces functions in the process that is going to die. Passing a place the n-th
time is a SIGKILL to oneself, in whatever thread passes it.
"""

import os
import signal
import threading
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import apsw
from msgspec import Struct

import actors.ingest
import actors.publisher
import actors.wiring
import engine.runtime.journal.sqlite as sqlite
from actors.desk import Desk
from actors.reconciler import Reconciler
from engine.core.blotter import Blotter
from engine.core.messages import Accepted, Filled, Halted, Leg, Rejected, Submitted, Unclear
from engine.core.order import opens
from engine.edges.ndjson import NdjsonFile
from engine.runtime.journal import leases
from engine.runtime.journal.group import Group
from engine.runtime.journal.libpq import Wire
from engine.runtime.journal.postgres import PostgresJournal
from engine.runtime.journal.sqlite import SqliteJournal
from engine.runtime.switch import Switch
from tests.crash.bomb import Bomb, around, before_and_after, before_and_after_async, die
from tests.crash.wires import VENUES, arm_wires

LATER_SECONDS = 0.005  # for an answer to leave by the socket


class Point(Struct, frozen=True):
    """`when` says what leads there; `most` is up to which passing it is worth to die."""

    when: str  # "first start", "start", "flow", "doubt", "quiet", "stop", "end"
    most: int
    number: str  # of RELIABILITY 4.2; "-": this engine's own


POINTS: dict[str, Point] = {
    "migrate.write": Point("first start", 20, "23"),
    "epoch.before": Point("start", 1, "25"),
    "epoch.after": Point("start", 1, "25"),
    "recover.before": Point("start", 1, "21"),
    "recover.blotter": Point("start", 3, "21"),
    "recover.asked": Point("start", 1, "21"),
    "recover.compared": Point("start", 4, "21"),
    "recover.after": Point("start", 1, "21"),
    "append.before": Point("flow", 60, "2"),
    "append.after": Point("flow", 60, "4"),
    "intent.appended": Point("flow", 20, "5"),
    "intent.committed": Point("flow", 20, "6"),
    "entry.appended": Point("flow", 10, "5"),
    "entry.committed": Point("flow", 10, "6"),
    "commit.prepare": Point("flow", 40, "4"),
    "commit.before": Point("flow", 40, "5"),
    "commit.write": Point("flow", 120, "13"),
    "commit.torn": Point("flow", 120, "13"),
    "commit.sync": Point("flow", 30, "13"),
    "commit.synced": Point("flow", 30, "6"),
    "commit.after": Point("flow", 40, "6"),
    "submit.before": Point("flow", 25, "6"),
    "submit.partial": Point("flow", 25, "7"),
    "submit.wired": Point("flow", 25, "8"),
    "submit.replied": Point("flow", 25, "9"),
    "submit.answered": Point("flow", 25, "10"),
    "answer.appended": Point("flow", 20, "10"),
    "answer.committed": Point("flow", 20, "11"),
    "fill.appended": Point("flow", 12, "12"),
    "fill.committed": Point("flow", 12, "14"),
    "stop.before": Point("flow", 8, "15"),
    "stop.answered": Point("flow", 8, "15"),
    "cancel.before": Point("flow", 4, "19"),
    "cancel.wired": Point("flow", 4, "20"),
    "cancel.answered": Point("flow", 4, "20"),
    "publish.before": Point("flow", 15, "17"),
    "publish.half": Point("flow", 15, "17"),
    "publish.after": Point("flow", 15, "18"),
    "ack.before": Point("flow", 20, "2"),
    "ack.after": Point("flow", 20, "3"),
    "ack.later": Point("flow", 20, "3"),
    "copy.before": Point("quiet", 1, "22"),
    "copy.write": Point("quiet", 12, "22"),
    "copy.after": Point("quiet", 1, "22"),
    "halt.before": Point("stop", 1, "24"),
    "halt.appended": Point("stop", 1, "24"),
    "halt.committed": Point("stop", 1, "24"),
    "drain.before": Point("end", 1, "-"),
    "drain.after": Point("end", 1, "-"),
}
# What only an adapter of a real venue has: its last door, its looks for orders, its stream and what it reads beside it.
OF_FACES: dict[str, Point] = {
    "submit.door": Point("flow", 25, "7"),
    "look.before": Point("doubt", 2, "10"),
    "look.wired": Point("doubt", 2, "10"),
    "look.replied": Point("doubt", 2, "10"),
    "look.answered": Point("doubt", 2, "10"),
    "stream.before": Point("start", 1, "21"),
    "stream.open": Point("start", 1, "21"),
    "snapshot.orders": Point("start", 1, "21"),
    "snapshot.fills": Point("start", 1, "21"),
}


# Places in SQLite's files. On PostgreSQL the server has them, and dies in tests/runtime/test_journal_postgres.py; there
# "migrate.write" is between two statements of a start.
OF_FILES = ("commit.write", "commit.torn", "commit.sync", "commit.synced", "copy.before", "copy.write", "copy.after")


def points_of(venue: str, on_a_server: bool = False) -> dict[str, Point]:
    found = POINTS if venue == "paper" else POINTS | OF_FACES
    return {name: point for name, point in found.items() if not (on_a_server and name in OF_FILES)}


def install(name: str, nth: int, by: int = signal.SIGKILL, venue: str = "paper") -> None:
    """Arm one place. Every place is wrapped, whichever is armed, so that a name that is gone is found at once."""
    bomb = Bomb(name, nth, by)
    assert name in points_of(venue), name
    _starting(bomb, venue)
    _writing(bomb)
    _on_a_server(bomb)
    _sending(bomb, venue)
    _telling(bomb)
    if bomb.is_at("migrate.write", "commit.write", "commit.torn", "commit.sync", "commit.synced", "copy.write"):
        Disk(bomb)


def _on_a_server(bomb: Bomb) -> None:
    """The same places on PostgreSQL. From "commit.before" to "commit.after" the server has it, and we do not know."""
    before_and_after_async(leases, "take", bomb, "epoch.before", "epoch.after")
    before_and_after_async(Wire, "run", bomb, "", "migrate.write")
    before_and_after(PostgresJournal, "append", bomb, "append.before", "append.after")
    before_and_after(PostgresJournal, "_send", bomb, "commit.prepare", "commit.before")
    before_and_after(PostgresJournal, "_landed", bomb, "commit.after", "")


def _starting(bomb: Bomb, venue: str) -> None:
    before_and_after(sqlite, "raise_epoch", bomb, "epoch.before", "epoch.after")
    before_and_after(Blotter, "recover", bomb, "", "recover.blotter")
    before_and_after_async(Reconciler, "settle", bomb, "recover.before", "recover.after")
    before_and_after_async(VENUES[venue], "positions", bomb, "", "recover.asked")
    before_and_after_async(Desk, "ask", bomb, "", "recover.compared")


def _writing(bomb: Bomb) -> None:
    before_and_after(SqliteJournal, "append", bomb, "append.before", "append.after")
    before_and_after(sqlite, "prepare", bomb, "commit.prepare", "commit.before")
    before_and_after(sqlite, "land", bomb, "", "commit.after")
    before_and_after_async(SqliteJournal, "_copy", bomb, "copy.before", "copy.after")
    before_and_after(Switch, "halt", bomb, "halt.before", "halt.appended")
    before_and_after_async(actors.wiring, "_drain", bomb, "drain.before", "drain.after")
    kinds: dict[str, Callable[[Any], bool]] = {
        "intent": lambda fact: isinstance(fact, Submitted),
        "entry": lambda fact: isinstance(fact, Submitted) and opens(fact.order),
        "answer": lambda fact: isinstance(fact, Accepted | Rejected | Unclear),
        "fill": lambda fact: isinstance(fact, Filled),
        "halt": lambda fact: isinstance(fact, Halted),
    }
    waiting: list[tuple[int, str]] = []

    def noted(original: Callable[..., int]) -> Callable[..., int]:
        def append(group: Group, facts: Sequence[Any], rows: Sequence[Any] = ()) -> int:
            seq = original(group, facts, rows)
            for what, of in kinds.items():
                for _ in filter(of, facts):
                    waiting.append((seq, f"{what}.committed"))
                    if what != "halt":
                        bomb.at(f"{what}.appended")
            return seq

        return append

    def settled(original: Callable[..., None]) -> Callable[..., None]:
        def settle(group: Group, error: Any) -> None:
            """Here the commit is on the disk and nobody knows."""
            if error is None and group._flying is not None:
                while waiting and waiting[0][0] <= group._flying.last:
                    bomb.at(waiting.pop(0)[1])
            original(group, error)

        return settle

    around(Group, "append", noted)
    around(Group, "_settle", settled)


def _sending(bomb: Bomb, venue: str) -> None:
    def submitting(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def submit(venue: Any, order: Any, on_wire: Callable[[], None]) -> Any:
            bomb.at("submit.before")
            if order.leg is Leg.STOP:
                bomb.at("stop.before")
            answer = await original(venue, order, on_wire)
            bomb.at("submit.answered")
            if order.leg is Leg.STOP:
                bomb.at("stop.answered")
            return answer

        return submit

    around(VENUES[venue], "submit", submitting)
    before_and_after_async(VENUES[venue], "cancel", bomb, "cancel.before", "cancel.answered")
    arm_wires(bomb, venue)


def _telling(bomb: Bomb) -> None:
    before_and_after_async(actors.publisher, "deliver", bomb, "publish.before", "publish.after")

    def writing(name: str) -> None:
        def half(original: Callable[..., Any]) -> Callable[..., Any]:
            def append(file: NdjsonFile, lines: bytes) -> Any:
                if bomb.due("publish.half"):
                    os.write(os.open(file.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT), lines[: len(lines) // 2])
                    die()
                return original(file, lines)

            return append

        around(NdjsonFile, name, half)

    writing("append")
    writing("append_in_thread")

    def putting(original: Callable[..., None]) -> Callable[..., None]:
        def put(acknowledger: Any, seq: int, answer: Callable[[Any], None], receipt: Any) -> None:
            def tell(told: Any) -> None:
                bomb.at("ack.before")
                answer(told)
                bomb.at("ack.after")
                if bomb.due("ack.later"):
                    threading.Timer(LATER_SECONDS, die).start()

            original(acknowledger, seq, tell, receipt)

        return put

    around(actors.ingest.Acknowledger, "put", putting)


class Disk(apsw.VFS):
    """SQLite's own way to the files, with us in between. `trouble(what, name)` may kill, or raise apsw's errors."""

    def __init__(self, bomb: Bomb | None = None, trouble: Callable[[str, str], None] = lambda what, name: None) -> None:
        super().__init__("crash", "unix", makedefault=True)
        self.bomb, self.trouble = bomb or Bomb("", 0), trouble
        _KEPT.append(self)

    def xOpen(self, name: Any, flags: list[int]) -> "File":
        return File(self, name, flags)


_KEPT: list[Disk] = []  # a VFS must outlive its connections


class File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk
        self._name = str(name.filename() if isinstance(name, apsw.URIFilename) else name)

    def xWrite(self, data: bytes, offset: int) -> None:
        bomb, wal = self._disk.bomb, self._name.endswith("-wal")
        self._disk.trouble("write", self._name)
        bomb.at("migrate.write")
        if wal and bomb.due("commit.torn"):
            super().xWrite(bytes(data[: len(data) // 2]), offset)
            die()
        super().xWrite(data, offset)
        if wal:
            bomb.at("commit.write")
        elif self._name.endswith(".sqlite"):
            bomb.at("copy.write")

    def xSync(self, flags: int) -> None:
        wal = self._name.endswith("-wal")
        self._disk.trouble("sync", self._name)
        if wal:
            self._disk.bomb.at("commit.sync")
        super().xSync(flags)
        if wal:
            self._disk.bomb.at("commit.synced")
