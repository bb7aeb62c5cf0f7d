"""What engines keep on the server that they share, beside their journals: who is alive, and signals for a holder.

A schema of its own, with no chain and no leases: nothing in it says who may send an order. `engines` has a row for each
engine that is alive, by the server's clock. `homes` says of which shard an account is, by the first engine that named
it: leases are of one journal, so an account in two shards would have two owners. `inbox` has what reached an engine
that does not hold the account: the source was told "yes" when its row was committed, and the row goes when the holder's
journal has what became of it. Commands for a shard, and their answers, lie there under names that no shard can have.
"""

from collections.abc import Mapping, Sequence

import structlog
import trio
from msgspec import Struct

from engine.core.allotment import Member
from engine.runtime.journal.base import JournalFailed
from engine.runtime.journal.leases import NOW
from engine.runtime.journal.libpq import Answer, ConnectionLost, Refused, Wire
from engine.runtime.journal.server import PASSING, Address, Durability, sentence, session
from engine.runtime.journal.tables import Values

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 5.0
LOG = structlog.get_logger("shards")

_TABLES = (
    """CREATE TABLE IF NOT EXISTS engines (
        id TEXT PRIMARY KEY, name TEXT NOT NULL, api TEXT NOT NULL, holding TEXT NOT NULL, cannot TEXT NOT NULL,
        until_ns INTEGER NOT NULL
    )""",
    """CREATE TABLE IF NOT EXISTS inbox (
        id INTEGER PRIMARY KEY, shard TEXT NOT NULL, source TEXT NOT NULL, dialect TEXT NOT NULL, raw BLOB NOT NULL,
        received_ns INTEGER NOT NULL, trace_id TEXT NOT NULL, fallback_id TEXT NOT NULL, delivery TEXT NOT NULL,
        flaw TEXT NOT NULL
    )""",
    "CREATE TABLE IF NOT EXISTS homes (account TEXT PRIMARY KEY, shard TEXT NOT NULL)",
    "CREATE INDEX IF NOT EXISTS inbox_of_shard ON inbox (shard, id)",
)
_BEAT = (
    f"INSERT INTO engines (id, name, api, holding, cannot, until_ns) VALUES (?, ?, ?, ?, ?, {NOW} + ?)"
    " ON CONFLICT (id) DO UPDATE SET name = excluded.name, api = excluded.api, holding = excluded.holding,"
    " cannot = excluded.cannot, until_ns = excluded.until_ns"
)
_FORGET = f"DELETE FROM engines WHERE until_ns < {NOW} - 60000000000"
_ALIVE = f"SELECT id, name, holding, cannot, api FROM engines WHERE until_ns > {NOW} ORDER BY name, id"
_WAITING = "SELECT shard, count(*) FROM inbox GROUP BY shard"
_HOMES = "SELECT account, shard FROM homes ORDER BY account"
_SETTLE = "INSERT INTO homes (account, shard) VALUES (?, ?) ON CONFLICT (account) DO NOTHING"
_SWEEP = f"DELETE FROM inbox WHERE shard LIKE '/answers/%' AND received_ns < {NOW} - 3600000000000"  # nobody waits
_LEAVE_WORD = "DELETE FROM engines WHERE id = ?"
_PUT = (
    "INSERT INTO inbox (shard, source, dialect, raw, received_ns, trace_id, fallback_id, delivery, flaw)"
    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_STRIKE = "DELETE FROM inbox WHERE id = ?"
_READ = (
    "SELECT id, source, dialect, raw, received_ns, trace_id, fallback_id, delivery, flaw FROM inbox WHERE shard = ?"
    " ORDER BY id LIMIT ?"
)


class Away(Exception):
    """The server does not answer. What was asked for may have been done, or not."""


class Letter(Struct, frozen=True):
    """A signal, or what may be one, for the holder of a shard. `id`: 0 until it is in the inbox."""

    shard: str
    source: str
    raw: bytes
    received_ns: int
    dialect: str = ""
    trace_id: str = ""
    fallback_id: str = ""
    delivery: str = ""
    flaw: str = ""
    id: int = 0


def commands_of(shard: str) -> str:
    """Where commands for its holder lie. An engine of a version that knows none leaves them alone."""
    return f"{shard}/commands"


def answers_to(number: str) -> str:
    """Where the answer to a command lies."""
    return f"/answers/{number}"


class Sight(Struct, frozen=True):
    """Who is alive, where each is asked, and how many letters wait for each shard."""

    members: tuple[Member, ...]
    apis: dict[str, str]  # by name
    letters: dict[str, int]


class Line:
    """One connection, made when it is first needed and anew after it was lost; one question at a time."""

    def __init__(self, at: Address, owner: str, durability: Durability) -> None:
        self.at = at
        self._owner, self._durability = owner, durability
        self._wire: Wire | None = None
        self._turn = trio.Lock()

    async def ask(self, statements: Sequence[tuple[str, Sequence[Values]]]) -> tuple[Answer, ...]:
        """In one transaction. Raises Away, and JournalFailed for what will not pass by itself."""
        async with self._turn:
            try:
                if self._wire is None:
                    self._wire = await session(self.at, self._owner, self._durability, CONNECT_SECONDS)
                return await self._wire.run_all(statements, ANSWER_SECONDS)
            except ConnectionLost as error:
                raise Away(f"{self.at.where}: {sentence(error)}") from error
            except Refused as error:
                if error.sqlstate in PASSING:
                    raise Away(f"{self.at.where}: {sentence(error)}") from error
                raise JournalFailed(f"{self.at.where}: {sentence(error)}") from error
            finally:
                if self._wire is not None and self._wire.broken:
                    self.close()

    def close(self) -> None:
        if self._wire is not None:
            self._wire.close()
            self._wire = None


async def found(line: Line) -> None:
    """Make the tables. Raises Away, JournalFailed: also for a schema that has a journal of its own in it."""
    schema = line.at.schema
    await line.ask(
        [
            ("SELECT pg_advisory_xact_lock(hashtext(?))", [(f"surefire/{schema}",)]),  # two first starts at once
            (f"CREATE SCHEMA IF NOT EXISTS {schema}", [()]),
        ]
    )
    answers = await line.ask([("SELECT to_regclass(?)", [(f"{schema}.journal",)])])
    if answers[-1].rows[0][0] is not None:
        raise JournalFailed(
            f"{line.at.where}: it holds a journal of its own, with all accounts in it; shards begin with new ones:"
            " name another journal.schema, once that one is flat"
        )
    lock = ("SELECT pg_advisory_xact_lock(hashtext(?))", [(f"surefire/{schema}",)])
    await line.ask([lock, *((sql, [()]) for sql in _TABLES)])


async def settle(line: Line, homes: Mapping[str, str]) -> None:
    """Accounts to shards, for good. Raises Away, and JournalFailed where another config has it otherwise."""
    await _compare(line, homes)  # before ours is written: one that is refused must leave nothing
    await line.ask([(_SETTLE, list(homes.items()))])
    await _compare(line, homes)
    for row in (await line.ask([(_WAITING, [()])]))[-1].rows:
        shard = _text(row[0])
        if shard.removesuffix("/commands") not in homes.values() and not shard.startswith("/"):
            LOG.error("signals wait for a shard that this config has not", shard=shard, letters=_text(row[1]))


async def _compare(line: Line, homes: Mapping[str, str]) -> None:
    for row in (await line.ask([(_HOMES, [()])]))[-1].rows:
        account, shard = map(_text, row)
        if homes.get(account, shard) != shard:
            raise JournalFailed(
                f"{line.at.where}: account '{account}' is of shard '{shard}', and this config has it in"
                f" '{homes[account]}': two engines could trade it, and the journal there does not know its signals."
                " To move it: when it is flat and every engine has ended,"
                f" DELETE FROM {line.at.schema}.homes WHERE account = '{account}'"
            )


async def alive(line: Line) -> tuple[Member, ...]:
    """As `Roster.beat` sees them, without being one. Raises Away, JournalFailed."""
    (there,) = (await line.ask([("SELECT to_regclass(?)", [(f"{line.at.schema}.engines",)])]))[-1].rows[0]
    if there is None:
        return ()
    return _members((await line.ask([(_ALIVE, [()])]))[-1])


class Roster:
    """The engines that are alive."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def beat(self, me: Member, api: str, alive_ns: int) -> Sight:
        """We are alive for so long. Raises Away, JournalFailed."""
        row: Values = (me.id, me.name, api, ",".join(me.holding), ",".join(me.cannot), alive_ns)
        answers = await self._line.ask(
            [(_BEAT, [row]), (_FORGET, [()]), (_SWEEP, [()]), (_ALIVE, [()]), (_WAITING, [()])]
        )
        apis = {_text(row[1]): _text(row[4]) for row in answers[-2].rows}
        letters = {_text(shard): int(count or 0) for shard, count in answers[-1].rows}
        return Sight(_members(answers[-2]), apis, letters)

    async def leave(self, me: Member) -> None:
        """Others need not wait until we are missed. Raises Away, JournalFailed."""
        await self._line.ask([(_LEAVE_WORD, [(me.id,)])])


class Inbox:
    """Letters for shards, in the order in which they were put."""

    def __init__(self, line: Line) -> None:
        self._line = line

    async def put(self, letters: Sequence[Letter]) -> None:
        """Durable when this returns. Raises Away: then they may be there all the same. Raises JournalFailed."""
        await self._line.ask([(_PUT, [_row(letter) for letter in letters])])

    async def read(self, shard: str, struck: Sequence[int], limit: int) -> tuple[Letter, ...]:
        """The first ones, once those that were struck are gone. Raises Away, JournalFailed."""
        asked: list[tuple[str, Sequence[Values]]] = [(_READ, [(shard, limit)])]
        if struck:
            asked.insert(0, (_STRIKE, [(number,) for number in struck]))
        return tuple(_letter(shard, row) for row in (await self._line.ask(asked))[-1].rows)

    async def answer(self, struck: int, letter: Letter) -> None:
        """In place of the one that is struck. Raises Away, JournalFailed."""
        await self._line.ask([(_STRIKE, [(struck,)]), (_PUT, [_row(letter)])])


def _members(answer: Answer) -> tuple[Member, ...]:
    rows = (tuple(map(_text, row)) for row in answer.rows)
    return tuple(Member(id_, name, _names(holding), _names(cannot)) for id_, name, holding, cannot, _ in rows)


def _row(letter: Letter) -> Values:
    of = letter
    return of.shard, of.source, of.dialect, of.raw, of.received_ns, of.trace_id, of.fallback_id, of.delivery, of.flaw


def _letter(shard: str, row: Sequence[bytes | None]) -> Letter:
    number, source, dialect, raw, received_ns, trace_id, fallback_id, delivery, flaw = row
    return Letter(
        shard=shard,
        source=_text(source),
        raw=raw or b"",
        received_ns=int(received_ns or 0),
        dialect=_text(dialect),
        trace_id=_text(trace_id),
        fallback_id=_text(fallback_id),
        delivery=_text(delivery),
        flaw=_text(flaw),
        id=int(number or 0),
    )


def _text(value: bytes | None) -> str:
    return (value or b"").decode()


def _names(joined: str) -> tuple[str, ...]:
    return tuple(name for name in joined.split(",") if name)
