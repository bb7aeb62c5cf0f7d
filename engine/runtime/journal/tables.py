"""Facts and rows to SQL parameters: one table of statements, used by every store. Decides nothing.

A row is a whole snapshot, so of several with one key in one commit only the last is written.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from engine.core.halts import kind_of
from engine.core.messages import (
    AccountRow,
    Alerted,
    AnyFact,
    Archived,
    ControlReceived,
    Cursor,
    Delivery,
    Discarded,
    EngineStarted,
    EngineStopped,
    Event,
    Filled,
    FundingPaid,
    Halt,
    Halted,
    HaltEnded,
    KeyNoted,
    LimitsRow,
    LimitsSet,
    Mismatched,
    Order,
    Outcome,
    Position,
    Reconciled,
    Resumed,
    Row,
    SignalEnded,
    SignalRow,
    Trade,
    Transferred,
    Withdrawn,
)
from engine.core.money import plain
from engine.core.order import settled

Values: TypeAlias = tuple[Any, ...]  # what a statement's parameters may be: text, number, bytes, None
encode = msgspec.json.Encoder().encode
decode_fact: Callable[[bytes], AnyFact] = msgspec.json.Decoder(AnyFact).decode

JOURNAL = "INSERT INTO journal VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
OUTBOX = "INSERT INTO outbox (event_id, account, name, row) VALUES (?, ?, ?, ?)"
FILLS = (
    "INSERT INTO fills VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
    # A second booking of one execution is a broken invariant. It must not stop the journal, through which the position
    # is protected: the fact stays in the chain, and the audit tells.
    " ON CONFLICT DO NOTHING"
)
AUDIT = "INSERT INTO audit_log VALUES (?, ?, ?, ?, ?, ?)"


class Table(Struct, frozen=True):
    """How one type of row is written. `key` None: rows are written one by one, in the order they came."""

    sql: str
    values: Callable[[Any], Values]
    key: Callable[[Any], object] | None


class Told(Struct, frozen=True):
    """A SignalRow that says what two facts of the chain say; it is written as their numbers."""

    row: SignalRow
    received_seq: int
    judged_seq: int


def _signal(row: SignalRow) -> Values:
    return (*_about(row), None, None, encode(row), None if row.confirmed is None else encode(row.confirmed))


def _told(told: Told) -> Values:
    end = told.row.confirmed
    return (*_about(told.row), told.received_seq, told.judged_seq, None, None if end is None else encode(end))


def _about(row: SignalRow) -> Values:
    signal = row.signal
    outcome = row.outcome if row.confirmed is None else row.confirmed.outcome
    open_now = 1 if outcome is Outcome.ACCEPTED else 0
    about = (signal.signal_id, signal.account, signal.symbol, signal.body_hash, outcome.value, open_now)
    return *about, signal.received_ns


def _order(row: Order) -> Values:
    return (
        row.cid,
        row.account,
        row.symbol,
        row.signal_id,
        row.state.value,
        0 if settled(row) else 1,
        row.submitted_ns,
        encode(row),
    )


def _trade(row: Trade) -> Values:
    open_now = 0 if row.state in ("closed", "failed") else 1
    return row.trade_id, row.account, row.symbol, open_now, row.opened_ns, row.closed_ns, encode(row)


SIGNALS = (
    "INSERT INTO signals (signal_id, account, symbol, body_hash, outcome, open, received_ns, received_seq, judged_seq,"
    " row, confirmed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
# What is written as 1 may be 2 already, or behind the mark: then its index has to have it (tail.py).
_STILL = "CASE WHEN excluded.{1} = 0 THEN 0 WHEN {0}.{1} = 1 THEN 1 ELSE 2 END"
_SIGNAL = (
    f"{SIGNALS} ON CONFLICT (signal_id) DO UPDATE SET outcome = excluded.outcome,"
    f" open = {_STILL.format('signals', 'open')}, received_seq = excluded.received_seq,"
    " judged_seq = excluded.judged_seq, row = excluded.row, confirmed = excluded.confirmed"
)

TABLES: dict[type, Table] = {
    Told: Table(_SIGNAL, _told, lambda told: told.row.signal.signal_id),
    SignalRow: Table(_SIGNAL, _signal, lambda row: row.signal.signal_id),
    SignalEnded: Table(
        "UPDATE signals SET outcome = ?, confirmed = ?, open = 0 WHERE signal_id = ?",
        lambda row: (row.confirmed.outcome.value, encode(row.confirmed), row.confirmed.signal_id),
        lambda row: row.confirmed.signal_id,
    ),
    Order: Table(
        "INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (cid) DO UPDATE"
        f" SET state = excluded.state, live = {_STILL.format('orders', 'live')}, row = excluded.row",
        _order,
        lambda row: row.cid,
    ),
    Position: Table(
        "INSERT INTO positions VALUES (?, ?, ?) ON CONFLICT (account, symbol) DO UPDATE SET row = excluded.row",
        lambda row: (row.account, row.symbol, encode(row)),
        lambda row: (row.account, row.symbol),
    ),
    Trade: Table(
        "INSERT INTO trades VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (trade_id) DO UPDATE"
        " SET open = excluded.open, opened_ns = excluded.opened_ns, closed_ns = excluded.closed_ns, row = excluded.row",
        _trade,
        lambda row: row.trade_id,
    ),
    AccountRow: Table(
        "INSERT INTO accounts VALUES (?, ?) ON CONFLICT (account) DO UPDATE SET row = excluded.row",
        lambda row: (row.account, encode(row)),
        lambda row: row.account,
    ),
    Reconciled: Table(
        "INSERT INTO reconciled VALUES (?, ?) ON CONFLICT (account) DO UPDATE SET venue_ns = excluded.venue_ns",
        lambda row: (row.account, row.venue_ns),
        lambda row: row.account,
    ),
    LimitsRow: Table(
        "INSERT INTO risk_limits VALUES (?, ?, ?, ?) ON CONFLICT (account, version) DO UPDATE"
        " SET at_ns = excluded.at_ns, row = excluded.row",
        lambda row: (row.account, row.version, row.at_ns, encode(row)),
        lambda row: (row.account, row.version),
    ),
    # One halt is in force per scope, kind and maker; another one takes its place.
    Halt: Table(
        "INSERT INTO halts (scope, since_ns, row, kind, whose) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (scope, kind, whose) WHERE ended_ns IS NULL"
        " DO UPDATE SET since_ns = excluded.since_ns, row = excluded.row",
        lambda row: (row.scope, row.since_ns, encode(row), kind_of(row), row.by),
        None,
    ),
    HaltEnded: Table(
        "UPDATE halts SET ended_ns = ?, ended_by = ? WHERE ended_ns IS NULL AND scope = ? AND kind = ? AND whose = ?",
        lambda row: (row.at_ns, row.by, row.scope, row.kind, row.whose),
        None,
    ),
    # Of two bodies under one name the first one counts.
    Delivery: Table(
        "INSERT INTO deliveries VALUES (?, ?, ?, ?) ON CONFLICT (place) DO NOTHING",
        lambda row: (row.place, row.body_hash, row.at_ns, row.answer),
        None,
    ),
    Cursor: Table(
        "INSERT INTO cursors VALUES (?, ?, ?) ON CONFLICT (sink) DO UPDATE"
        " SET event_id = excluded.event_id, wanted = excluded.wanted",
        lambda row: (row.sink, row.event_id, int(row.wanted)),
        lambda row: row.sink,
    ),
}


def journal_values(seq: int, fact: AnyFact, body: bytes, digest: bytes) -> Values:
    return seq, fact.at_ns, type(fact).__name__, fact.account, fact.symbol, fact.trace_id, body, digest


def outbox_values(event_id: int, event: Event) -> Values:
    return event_id, event.account, event.name, encode(event)


def _fill(seq: int, fact: Filled) -> Values:
    return (
        fact.account,
        fact.symbol,
        fact.exec_id,
        fact.cid,
        fact.at_ns,
        fact.venue_ns,
        fact.venue_ns or fact.at_ns,
        fact.side.value,
        str(fact.qty),
        str(fact.price),
        str(fact.fee),
        fact.fee_asset,
        None if fact.fee_quote is None else str(fact.fee_quote),
        int(fact.maker),
        int(fact.foreign),
        str(fact.realised),
        str(fact.delta),
        seq,
    )


def _funding(seq: int, fact: FundingPaid) -> Values:
    """Funding stands among the fills, as an execution of nothing, so that it is booked once too."""
    paid = str(-fact.amount)
    return (
        *(fact.account, fact.symbol, f"funding/{fact.funding_id}", "", fact.at_ns, fact.venue_ns),
        *(fact.venue_ns or fact.at_ns, "", "0", "0", paid, fact.asset, None, 0, 0, "0", "0", seq),
    )


def _withdrawn(seq: int, fact: Withdrawn) -> Values:
    """Coins that went elsewhere stand among the fills, too: once, and as an execution of nothing."""
    return (
        *(fact.account, fact.symbol, f"transfer/{fact.transfer_id}", "", fact.at_ns, fact.venue_ns),
        *(fact.venue_ns or fact.at_ns, "", "0", "0", "0", "", None, 0, 0, "0", str(-fact.qty), seq),
    )


def _who(by: Callable[[Any], str], what: Callable[[Any], str], detail: Callable[[Any], str]) -> Callable[..., Values]:
    def values(seq: int, fact: Any) -> Values:
        return seq, fact.at_ns, by(fact), what(fact), fact.account, detail(fact)

    return values


def _resumed(fact: Resumed) -> str:
    return f"resumed {fact.scope}" + (f": {fact.kind} by {fact.whose}" if fact.kind else "")


def _changes(fact: LimitsSet) -> str:
    """What was, and what is; of an account's first limits, and of facts from before that was told, all that is."""
    if not any(old for _, old, _ in fact.changed):
        return encode(fact.limits).decode()
    return "; ".join(f"{name}: {old} -> {new}" for name, old, new in fact.changed)


# Tables that follow from facts rather than from rows.
FROM_FACTS: dict[type, tuple[str, Callable[..., Values]]] = {
    Filled: (FILLS, _fill),
    FundingPaid: (FILLS, _funding),
    Withdrawn: (FILLS, _withdrawn),
    Transferred: (
        AUDIT,
        _who(
            lambda f: "owner",
            lambda f: f"transferred {plain(f.amount)} {f.asset}",
            lambda f: f"{f.kind} {f.transfer_id}",
        ),
    ),
    EngineStarted: (
        AUDIT,
        _who(lambda f: "engine", lambda f: "started", lambda f: f"epoch {f.epoch}, build {f.build}, {f.config_hash}"),
    ),
    EngineStopped: (AUDIT, _who(lambda f: "engine", lambda f: "stopped", lambda f: f.left)),
    Halted: (AUDIT, _who(lambda f: f.halt.by, lambda f: f"halted {f.halt.scope}", lambda f: f.halt.reason)),
    Resumed: (AUDIT, _who(lambda f: f.by, _resumed, lambda f: f.note)),
    LimitsSet: (
        AUDIT,
        _who(lambda f: f.by, lambda f: f"set limits, version {f.version}", lambda f: _changes(f)),
    ),
    ControlReceived: (AUDIT, _who(lambda f: f.source, lambda f: f"sent {f.name}", lambda f: f.body)),
    Mismatched: (
        AUDIT,
        _who(lambda f: "engine", lambda f: f"mismatch on {f.symbol}: {f.what}", lambda f: f"{f.ours} / {f.theirs}"),
    ),
    Archived: (
        AUDIT,
        _who(
            lambda f: f.by, lambda f: f"archived facts {f.first_seq} to {f.last_seq}", lambda f: f"{f.name} {f.digest}"
        ),
    ),
    Discarded: (
        AUDIT,
        _who(lambda f: f.by, lambda f: f"deleted archived facts {f.first_seq} to {f.last_seq}", lambda f: f.name),
    ),
    KeyNoted: (AUDIT, _who(lambda f: f.by, lambda f: f"{f.what} the key {f.name}", lambda f: "")),
    Alerted: (AUDIT, _who(lambda f: "engine", lambda f: f"{f.severity}: {f.kind}", lambda f: f.text)),
}

assert {*TABLES, Event} == {*Row.__args__, Told}, "a row has no table"
