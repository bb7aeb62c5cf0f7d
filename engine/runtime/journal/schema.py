"""The schema as numbered migrations. The next version is one more entry in MIGRATIONS; entries are never edited.

Written for SQLite; PostgreSQL runs the same statements in its own words (libpq.py), and those of BESIDE after them.

`live`, `open` and `ended_ns` carry partial indexes, so that a start finds what has not ended without reading history;
those of orders and signals, and the facts of a trace, are a little behind, so that no order waits for them (tail.py).
A signal's body and checks are not written twice: its row points at the facts, and has its own only when they differ.
"""

APPLICATION_ID = 0x53465231  # "SFR1": tells our files from other SQLite databases

_FIRST = (
    """CREATE TABLE journal (
        seq INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, kind TEXT NOT NULL, account TEXT NOT NULL,
        symbol TEXT NOT NULL, trace_id TEXT NOT NULL, fact BLOB NOT NULL, hash BLOB NOT NULL
    ) STRICT""",
    "CREATE INDEX journal_story ON journal (trace_id) WHERE trace_id <> ''",
    """CREATE TABLE signals (
        signal_id TEXT NOT NULL UNIQUE, account TEXT NOT NULL, symbol TEXT NOT NULL, body_hash TEXT NOT NULL,
        outcome TEXT NOT NULL, received_ns INTEGER NOT NULL, received_seq INTEGER, judged_seq INTEGER, row BLOB,
        confirmed BLOB
    ) STRICT""",
    "CREATE INDEX signals_received ON signals (received_ns)",
    "CREATE INDEX signals_open ON signals (account, symbol) WHERE outcome = 'accepted'",
    """CREATE TABLE orders (
        cid TEXT NOT NULL UNIQUE, account TEXT NOT NULL, symbol TEXT NOT NULL, signal_id TEXT NOT NULL,
        state TEXT NOT NULL, live INTEGER NOT NULL, submitted_ns INTEGER NOT NULL, row BLOB NOT NULL
    ) STRICT""",
    "CREATE INDEX orders_live ON orders (account, symbol) WHERE live = 1",
    """CREATE TABLE fills (
        account TEXT NOT NULL, symbol TEXT NOT NULL, exec_id TEXT NOT NULL, cid TEXT NOT NULL, at_ns INTEGER NOT NULL,
        venue_ns INTEGER NOT NULL, moment_ns INTEGER NOT NULL, side TEXT NOT NULL, qty TEXT NOT NULL,
        price TEXT NOT NULL, fee TEXT NOT NULL, fee_asset TEXT NOT NULL, fee_quote TEXT, maker INTEGER NOT NULL,
        foreign_order INTEGER NOT NULL, realised TEXT NOT NULL, delta TEXT NOT NULL, seq INTEGER NOT NULL,
        PRIMARY KEY (account, symbol, exec_id)
    ) STRICT, WITHOUT ROWID""",
    "CREATE INDEX fills_moment ON fills (account, moment_ns)",
    """CREATE TABLE positions (
        account TEXT NOT NULL, symbol TEXT NOT NULL, row BLOB NOT NULL, PRIMARY KEY (account, symbol)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE trades (
        trade_id TEXT NOT NULL UNIQUE, account TEXT NOT NULL, symbol TEXT NOT NULL, open INTEGER NOT NULL,
        opened_ns INTEGER NOT NULL, closed_ns INTEGER NOT NULL, row BLOB NOT NULL
    ) STRICT""",
    "CREATE INDEX trades_opened ON trades (opened_ns)",
    "CREATE INDEX trades_open ON trades (account, symbol) WHERE open = 1",
    "CREATE TABLE accounts (account TEXT PRIMARY KEY, row BLOB NOT NULL) STRICT, WITHOUT ROWID",
    "CREATE TABLE reconciled (account TEXT PRIMARY KEY, venue_ns INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    """CREATE TABLE risk_limits (
        account TEXT NOT NULL, version INTEGER NOT NULL, at_ns INTEGER NOT NULL, row BLOB NOT NULL,
        PRIMARY KEY (account, version)
    ) STRICT, WITHOUT ROWID""",
    """CREATE TABLE halts (
        id INTEGER PRIMARY KEY, scope TEXT NOT NULL, since_ns INTEGER NOT NULL, row BLOB NOT NULL,
        ended_ns INTEGER, ended_by TEXT
    ) STRICT""",
    "CREATE UNIQUE INDEX halts_in_force ON halts (scope) WHERE ended_ns IS NULL",
    """CREATE TABLE outbox (
        event_id INTEGER PRIMARY KEY, account TEXT NOT NULL, name TEXT NOT NULL, row BLOB NOT NULL,
        published INTEGER NOT NULL DEFAULT 0
    ) STRICT""",
    "CREATE INDEX outbox_waiting ON outbox (event_id) WHERE published = 0",
    """CREATE TABLE audit_log (
        seq INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL,
        account TEXT NOT NULL, detail TEXT NOT NULL
    ) STRICT""",
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID",
    "INSERT INTO meta VALUES ('epoch', 0)",
)

# A scope may be closed by several halts, one for each kind and maker (engine/core/halts.py).
_HALTS_SIDE_BY_SIDE = (
    "ALTER TABLE halts ADD COLUMN kind TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE halts ADD COLUMN whose TEXT NOT NULL DEFAULT ''",
    "UPDATE halts SET whose = json_extract(CAST(row AS TEXT), '$.by')",
    "UPDATE halts SET kind = CASE WHEN whose LIKE 'risk/%' THEN 'loss' WHEN whose LIKE 'event/%' THEN 'ess'"
    " WHEN whose IN ('supervisor', 'engine') THEN 'fault' ELSE 'stop' END",
    "DROP INDEX halts_in_force",
    "CREATE UNIQUE INDEX halts_in_force ON halts (scope, kind, whose) WHERE ended_ns IS NULL",
)

# A dead letter is looked for by the id it may have had; there are few.
_DEAD_LETTERS = ("CREATE INDEX journal_dead ON journal (seq) WHERE kind = 'DeadLettered'",)

# What has gone to archives (engine/runtime/journal/archive.py): which facts went where, what they come to, and every
# signal that ended among them, for its id must never be executed again.
_ARCHIVES = (
    """CREATE TABLE archives (
        last_seq INTEGER PRIMARY KEY, first_seq INTEGER NOT NULL, name TEXT NOT NULL, digest BLOB NOT NULL,
        newest_ns INTEGER NOT NULL, base BLOB NOT NULL, discarded_ns INTEGER
    ) STRICT""",
    """CREATE TABLE past_signals (
        signal_id TEXT NOT NULL UNIQUE, outcome TEXT NOT NULL, archive INTEGER NOT NULL, row BLOB NOT NULL
    ) STRICT""",
)

# Names that senders and transports gave to bodies, each bound to one body for good (engine/runtime/deliveries.py).
_DELIVERIES = (
    """CREATE TABLE deliveries (
        place TEXT PRIMARY KEY, body_hash TEXT NOT NULL, at_ns INTEGER NOT NULL, answer TEXT NOT NULL
    ) STRICT, WITHOUT ROWID""",
)

# Each sink has a cursor of its own; where the sinks of before begin is the mark that they had in common (sink '').
_CURSORS = (
    """CREATE TABLE cursors (
        sink TEXT PRIMARY KEY, event_id INTEGER NOT NULL, wanted INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID""",
    "INSERT INTO cursors SELECT '', coalesce((SELECT min(event_id) - 1 FROM outbox WHERE published = 0),"
    " (SELECT max(event_id) FROM outbox), 0), 1",
    "DROP INDEX outbox_waiting",
    "ALTER TABLE outbox DROP COLUMN published",
)

# Four indexes that every intent's commit had to write, and are now written later (tail.py).
_TAIL = (
    """CREATE TABLE story (
        trace_id TEXT NOT NULL, seq INTEGER NOT NULL, PRIMARY KEY (trace_id, seq)
    ) STRICT, WITHOUT ROWID""",
    "INSERT INTO story SELECT trace_id, seq FROM journal WHERE trace_id <> '' ORDER BY trace_id, seq",
    "DROP INDEX journal_story",
    "ALTER TABLE signals ADD COLUMN open INTEGER NOT NULL DEFAULT 0",
    "UPDATE signals INDEXED BY signals_open SET open = 2 WHERE outcome = 'accepted'",
    "DROP INDEX signals_open",
    "CREATE INDEX signals_open ON signals (account, symbol) WHERE open = 2",
    "DROP INDEX signals_received",
    "CREATE INDEX signals_received ON signals (received_ns) WHERE open <> 1",
    "UPDATE orders INDEXED BY orders_live SET live = 2 WHERE live = 1",
    "DROP INDEX orders_live",
    "CREATE INDEX orders_live ON orders (account, symbol) WHERE live = 2",
    "INSERT INTO meta SELECT 'facts_mark', coalesce(max(seq), 0) FROM journal",
    "INSERT INTO meta SELECT 'signals_mark', coalesce(max(rowid), 0) FROM signals",
    "INSERT INTO meta SELECT 'orders_mark', coalesce(max(rowid), 0) FROM orders",
)

# Entry n brings a journal of version n to version n + 1; version 0 is an empty file.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    *(_FIRST, _HALTS_SIDE_BY_SIDE, _DEAD_LETTERS),
    *(_ARCHIVES, _DELIVERIES, _CURSORS),
    _TAIL,
)

VERSIONS = "CREATE TABLE IF NOT EXISTS schema_version (version INTEGER PRIMARY KEY, at_ns INTEGER NOT NULL) STRICT"

# What a version needs in PostgreSQL beside its statements: SQLite's tables have a rowid of their own, and one lock file
# does there what the leases do here.
BESIDE: dict[int, tuple[str, ...]] = {
    1: (
        "ALTER TABLE signals ADD COLUMN rowid BIGINT GENERATED BY DEFAULT AS IDENTITY",
        "ALTER TABLE trades ADD COLUMN rowid BIGINT GENERATED BY DEFAULT AS IDENTITY",
        "ALTER TABLE orders ADD COLUMN rowid BIGINT GENERATED BY DEFAULT AS IDENTITY UNIQUE",
        """CREATE TABLE leases (
            account TEXT PRIMARY KEY, owner TEXT NOT NULL, epoch INTEGER NOT NULL, until_ns INTEGER NOT NULL,
            commits INTEGER NOT NULL DEFAULT 0
        )""",
    ),
    7: ("CREATE UNIQUE INDEX signals_place ON signals (rowid)",),
}
