"""The least that the promises ask for, in this language: read a signal, look up its id, commit its rows, send it on.

One trio task with msgspec and apsw and nothing else: no rules, no books, no events, and nobody else in the loop, so the
disk is waited for in it. The rows are an engine's own of one signal, with other ids, in its schema and chained.
What an engine takes longer is what it decides and what it does beside; what this takes is out of its reach.
"""

import socket
import sys
import time
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from typing import Literal

import apsw
import msgspec
import trio

from engine.core.audit import GENESIS, chain
from engine.runtime.journal.sqlite import connect
from engine.runtime.journal.tables import JOURNAL, SIGNALS
from engine.runtime.journal.writing import migrate
from engine.runtime.turns import take_short_turns

CHUNK = 65_536
_ORDER = "INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_ACCOUNT = "INSERT INTO accounts VALUES (?, ?) ON CONFLICT DO UPDATE SET row = excluded.row"


class Sample(msgspec.Struct, frozen=True):
    """What an engine commits for one signal before its order may go."""

    facts: tuple[tuple[str, bytes], ...]  # kind, JSON
    body_hash: str
    order_row: bytes
    account_row: bytes
    line: bytes  # as long as the order is on the wire


class LeastTask(msgspec.Struct, frozen=True):
    folder: str
    durability: Literal["power", "process"]
    port: int  # of the echo
    sample: Sample
    result: str  # file for `LeastResult`


class LeastResult(msgspec.Struct, frozen=True):
    took: dict[str, int]  # signal id -> ns from its bytes to the order's on the socket


class Asked(msgspec.Struct):
    """The native dialect, as far as it is sent here."""

    signal_id: str
    symbol: str
    action: str
    side: str
    qty: Decimal
    stop_loss: Decimal | None = None
    limit_price: Decimal | None = None


class Books:
    """One SQLite file, with the engine's settings and schema."""

    def __init__(self, task: LeastTask) -> None:
        self._database = connect(Path(task.folder) / "least.sqlite", task.durability)
        migrate(self._database, "least", 0)
        self._sample = task.sample
        self._seq, self._hash = 0, GENESIS

    def known(self, signal_id: str) -> bool:
        return bool(list(self._database.execute("SELECT 1 FROM signals WHERE signal_id = ?", (signal_id,))))

    def commit(self, asked: Asked, now_ns: int) -> None:
        sample, database = self._sample, self._database
        trace_id = blake2b(asked.signal_id.encode(), digest_size=16).hexdigest()
        rows = []
        for kind, fact in sample.facts:
            self._seq += 1
            self._hash = chain(self._hash, self._seq, fact)
            rows.append((self._seq, now_ns, kind, "bench", asked.symbol, trace_id, fact, self._hash))
        signal = (asked.signal_id, "bench", asked.symbol, sample.body_hash, "accepted", 1, now_ns, self._seq - 2)
        order = (trace_id, "bench", asked.symbol, asked.signal_id, "PENDING", 1, now_ns, sample.order_row)
        database.execute("BEGIN IMMEDIATE")
        database.executemany(JOURNAL, rows)
        database.execute(SIGNALS, (*signal, self._seq - 1, None, None))
        database.execute(_ORDER, order)
        database.execute(_ACCOUNT, ("bench", sample.account_row))
        database.execute("COMMIT")


async def run(task: LeastTask) -> None:
    """Until standard input ends."""
    take_short_turns()
    books, took, decode = Books(task), dict[str, int](), msgspec.json.Decoder(Asked).decode
    wire = socket.create_connection(("127.0.0.1", task.port))
    wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    print("ready", flush=True)
    async with trio.lowlevel.FdStream(sys.stdin.fileno()) as stream:
        while chunk := await stream.receive_some(CHUNK):
            received = time.perf_counter_ns()
            for line in chunk.splitlines():
                asked = decode(line)
                if not books.known(asked.signal_id):
                    books.commit(asked, time.time_ns())
                    took[asked.signal_id] = time.perf_counter_ns() - received
                    wire.sendall(task.sample.line)
                    wire.recv(CHUNK)
    await trio.Path(task.result).write_bytes(msgspec.json.encode(LeastResult(took)))


def sample_of(journal: Path, signal_id: str, line_bytes: int) -> Sample | None:
    """What the engine committed for this signal; None when it has not got so far."""
    with apsw.Connection(str(journal), flags=apsw.SQLITE_OPEN_READONLY) as database:
        order = database.execute("SELECT row FROM orders WHERE signal_id = ?", (signal_id,)).get
        found = dict(
            database.execute(
                # The first of each kind: stops and targets of the same signal come later.
                "SELECT kind, fact FROM journal WHERE kind IN ('SignalReceived', 'Judged', 'Submitted') AND trace_id ="
                " (SELECT trace_id FROM journal WHERE kind = 'SignalReceived' AND instr(CAST(fact AS TEXT), ?))"
                " ORDER BY seq DESC",
                (f'"{signal_id}"',),
            )
        )
        body_hash = database.execute("SELECT body_hash FROM signals WHERE signal_id = ?", (signal_id,)).get
        account = database.execute("SELECT row FROM accounts").get
    if not order or len(found) != 3:
        return None
    return Sample(tuple(reversed(found.items())), body_hash, order, account, bytes(line_bytes))


if __name__ == "__main__":
    trio.run(run, msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=LeastTask))
