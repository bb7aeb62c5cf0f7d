"""Who owns the accounts of a journal: rows with an owner, an epoch and an end, checked inside every commit.

A row for the journal itself (account '') and one for each account. Every commit holds the journal's row and those of
the accounts that it has facts of, in its own transaction: when another engine has taken over meanwhile, nothing of it
is written. So a paused engine that wakes up commits no intent, whatever it believes. Ends are on the server's clock.

The journal's row counts the commits of an epoch: after a lost reply it says whether the last one happened.
"""

from collections.abc import Collection, Sequence

from msgspec import Struct

from engine.runtime.journal.base import Fenced, JournalFailed
from engine.runtime.journal.libpq import Wire
from engine.runtime.journal.postgres_schema import begin, bring_forward
from engine.runtime.journal.schema import MIGRATIONS
from engine.runtime.journal.server import Address, tag
from engine.runtime.journal.tables import Values

JOURNAL_ROW = ""
NOW = "(extract(epoch FROM clock_timestamp()) * 1000000000)::bigint"  # by the server's clock
_HELD = " RETURNING 1) SELECT 1 / count(*) FROM held"  # no row, no owner any more: the division ends the transaction

HOLD_JOURNAL = (
    f"WITH held AS (UPDATE leases SET commits = commits + 1, until_ns = {NOW} + ?"
    f" WHERE account = '' AND owner = ? AND epoch = ? AND commits = ?{_HELD}"
)
HOLD_ACCOUNT = (
    f"WITH held AS (UPDATE leases SET until_ns = {NOW} + ? WHERE account = ? AND owner = ? AND epoch = ?{_HELD}"
)
NOT_HELD = "22012"  # division by zero, of the two above

_RENEW = (
    f"WITH held AS (UPDATE leases SET until_ns = {NOW} + ? WHERE owner = ? AND epoch = ? RETURNING 1)"
    " SELECT count(*) FROM held"
)
_RELEASE = "UPDATE leases SET until_ns = 0 WHERE owner = ? AND epoch = ?"
_ROWS = f"SELECT account, owner, epoch, commits, until_ns - {NOW} FROM leases ORDER BY account"
_TAKE = (
    f"INSERT INTO leases (account, owner, epoch, until_ns, commits) VALUES (?, ?, ?, {NOW} + ?, 0)"
    " ON CONFLICT (account) DO UPDATE SET owner = excluded.owner, epoch = excluded.epoch,"
    " until_ns = excluded.until_ns, commits = 0"
)
_END_SESSIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = ?"
    " AND usename = current_user AND datname = current_database() AND pid <> pg_backend_pid()"
)


class Tenure(Struct, frozen=True):
    """What one life of an engine owns."""

    owner: str
    epoch: int
    accounts: tuple[str, ...]  # without the journal's row
    lease_ns: int

    def holding(self, accounts: Collection[str], commits: int) -> list[tuple[str, list[Values]]]:
        """The first statements of the commit number `commits` + 1."""
        found: list[tuple[str, list[Values]]] = [
            (HOLD_JOURNAL, [(self.lease_ns, self.owner, self.epoch, commits)]),
        ]
        mine = [account for account in self.accounts if account in accounts]  # in one order: no deadlock
        if mine:
            found.append((HOLD_ACCOUNT, [(self.lease_ns, account, self.owner, self.epoch) for account in mine]))
        return found

    def renewing(self) -> list[tuple[str, list[Values]]]:
        return [(_RENEW, [(self.lease_ns, self.owner, self.epoch)])]

    def renewed(self, count: bytes | None) -> bool:
        """Whether the answer to `renewing` says that every lease is still held."""
        return count is not None and int(count) == len(self.accounts) + 1


class Lease(Struct, frozen=True):
    """A row, with how long it has still to run by the server's clock."""

    account: str
    owner: str
    epoch: int
    commits: int
    left_ns: int


async def leases(wire: Wire, lock: bool) -> tuple[Lease, ...]:
    """The rows; with `lock` those that hold them are waited for, and they are locked until the transaction ends."""
    found = await wire.run(_ROWS + (" FOR UPDATE" if lock else ""))
    return tuple(
        Lease(str(account, "utf-8"), str(owner, "utf-8"), int(epoch), int(commits), int(left))
        for account, owner, epoch, commits, left in (tuple(value or b"" for value in row) for row in found)
    )


def in_the_way(rows: Sequence[Lease], owner: str, accounts: Sequence[str]) -> Lease | None:
    """Another engine's lease that has not ended. One of our own is of a life that is dead: its lock file was free."""
    wanted = (JOURNAL_ROW, *accounts)
    return next((row for row in rows if row.account in wanted and row.owner != owner and row.left_ns > 0), None)


async def take(
    wire: Wire,
    at: Address,
    owner: str,
    accounts: tuple[str, ...],
    lease_ns: int,
    now_ns: int,
    migrations: Sequence[Sequence[str]] = MIGRATIONS,
) -> Tenure | Lease:
    """Raise the epoch and own everything, with the journal in this code's form; or the lease that is in the way.

    Sessions of owners before are ended. Raises Newer for a journal of a newer program, which a stand-by may
    find after long: whoever took over meanwhile has brought it forward. After any exception the connection is no good.
    """
    version = await begin(wire, at, len(migrations))
    if version and (held := await _clear_the_way(wire, at, owner, accounts)) is not None:
        await wire.run("ROLLBACK")
        return held
    await bring_forward(wire, at, version, now_ns, migrations)
    (value,) = (await wire.run("UPDATE meta SET value = value + 1 WHERE key = 'epoch' RETURNING value"))[0]
    epoch = int(value or b"0")
    for account in (JOURNAL_ROW, *accounts):
        await wire.run(_TAKE, account, owner, epoch, lease_ns)
    await wire.run("COMMIT")
    return Tenure(owner, epoch, accounts, lease_ns)


async def _clear_the_way(wire: Wire, at: Address, owner: str, accounts: Sequence[str]) -> Lease | None:
    """Whose lease is in the way, if any; then nothing was locked, for its holder writes. Else the rows are locked."""
    rows = await leases(wire, lock=False)
    if (held := in_the_way(rows, owner, accounts)) is not None:
        return held
    # Whoever is paused in the middle of a commit would keep the rows locked.
    for old in dict.fromkeys(row.owner for row in rows if row.left_ns <= 0 or row.owner == owner):
        await wire.run(_END_SESSIONS, tag(at.schema, old))
    # A program of before the lock that `begin` takes is kept out by this row; what it took first is seen behind it.
    await wire.run("UPDATE meta SET value = value WHERE key = 'epoch'")
    return in_the_way(await leases(wire, lock=True), owner, accounts)


async def still_ours(wire: Wire, at: Address, tenure: Tenure, commits: int, sent: bool) -> bool:
    """On a new connection: whether the commit that was `sent` when the old one was lost has happened.

    `commits` is the number of those before it. Raises Fenced when another engine has taken over, JournalFailed when the
    server no longer has what it had confirmed.
    """
    await wire.run(_END_SESSIONS, tag(at.schema, tenure.owner))  # what the old connection has still in hand ends now
    row = next((row for row in await leases(wire, lock=True) if row.account == JOURNAL_ROW), None)
    if row is None or (row.owner, row.epoch) != (tenure.owner, tenure.epoch):
        raise Fenced(taken_over(at, row))
    happened = row.commits - commits
    if happened not in ((0, 1) if sent else (0,)):
        raise JournalFailed(
            f"{at.where}: the server has {row.commits} commits of this run, and had confirmed {commits}:"
            " it was restored from a backup, or a stand-by took over that had not got everything"
        )
    return happened == 1


async def release(wire: Wire, tenure: Tenure) -> None:
    """A journal that was closed in good order is free at once."""
    await wire.run(_RELEASE, tenure.owner, tenure.epoch)


def taken_over(at: Address, row: Lease | None = None) -> str:
    by = f" by {row.owner} (epoch {row.epoch})" if row is not None else ""
    return f"{at.where}: the accounts were taken over{by}; this engine sends nothing any more"
