"""The journal's chain of hashes, and what must hold over a whole journal, checked offline from what it wrote.

Pure: takes lines and rows, returns findings. Opening the file is the reader's business, printing a command's. The facts
are folded once more by the same small functions that the engine uses, and the tables must say what the fold says.
"""

from collections.abc import Callable, Container, Iterable
from decimal import Decimal
from hashlib import blake2b
from typing import TypeVar

import msgspec
from msgspec import Struct

from engine.core.halts import Key, ends, key_of
from engine.core.ids import is_ours
from engine.core.messages import (
    ZERO,
    Accepted,
    AnyFact,
    CancelAsked,
    Canceled,
    CancelFailed,
    Confirmed,
    Corrected,
    Expired,
    Filled,
    FundingPaid,
    Halt,
    Halted,
    Judged,
    KeyNoted,
    Leg,
    LookedUp,
    Missing,
    Order,
    Outcome,
    Position,
    Rejected,
    Reported,
    Resumed,
    Submitted,
    Unclear,
    Unsent,
    Withdrawn,
)
from engine.core.order import IllegalTransition, OrderFact, advance, settled

K = TypeVar("K")
V = TypeVar("V")
W = TypeVar("W")

GENESIS = bytes(32)  # stands before the first fact


class Line(Struct, frozen=True):
    """One fact of the chain as it is stored."""

    seq: int
    fact: bytes  # JSON
    hash: bytes


class Total(Struct, frozen=True):
    """What the fills of one (account, symbol) add up to."""

    account: str
    symbol: str
    qty: Decimal
    realised: Decimal
    fees: Decimal
    volume: Decimal


class Base(Struct, frozen=True):
    """What the facts up to `seq` come to, as far as later facts and rows follow from it; it stands in for them."""

    seq: int = 0
    hash: bytes = GENESIS
    orders: tuple[Order, ...] = ()  # not settled
    corrected: tuple[str, ...] = ()  # those of them that a correction concerns
    open_signals: tuple[str, ...] = ()  # accepted, and not confirmed
    totals: tuple[Total, ...] = ()
    halts: tuple[Halt, ...] = ()  # in force


class Tables(Struct, frozen=True):
    """The rows that must follow from the facts. Each is read once, in any order."""

    orders: Iterable[Order] = ()
    positions: Iterable[Position] = ()
    signals: Iterable[tuple[str, Outcome]] = ()
    executions: Iterable[tuple[str, str, str]] = ()  # account, symbol, exec id
    halts: Iterable[tuple[str, str, str]] = ()  # in force: scope, kind, maker
    past: Iterable[str] = ()  # signals that ended among the facts for which the base stands


class Finding(Struct, frozen=True):
    """Something that must not be. `seq` is the fact's number, 0 when it is about a table."""

    rule: str
    seq: int
    text: str


class KeyUse(Struct, frozen=True):
    """How often a key of the vault was decrypted, and when and for what it was last."""

    name: str
    account: str
    times: int
    last_ns: int
    last_by: str


class Report(Struct, frozen=True):
    """What was looked at and what was found; nothing found is good."""

    facts: int
    signals: int
    orders: int
    executions: int
    open_signals: int  # accepted and not yet confirmed
    last_hash: str  # hexadecimal; to be kept elsewhere by whoever wants to prove that the end was not cut off
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()  # what could not be looked at, and rightly so
    keys: tuple[KeyUse, ...] = ()

    @property
    def sound(self) -> bool:
        return not self.findings


def chain(before: bytes, seq: int, fact: bytes) -> bytes:
    """The hash of fact number `seq`: blake2b-256 over the hash before it, its number and its bytes."""
    return blake2b(b"%b%d:%b" % (before, seq, fact), digest_size=32).digest()


def verify(
    lines: Iterable[Line],
    tables: Tables,
    base: Base | None = None,
    findings: Iterable[Finding] = (),
    notes: Iterable[str] = (),
) -> Report:
    """Hold the chain and the rows against each other. `lines` come oldest first, from the one after `base` on.

    `findings` and `notes` are what was said before, of files that could not be read.
    """
    books = fold(lines, base)
    books.hold_against(tables)
    return books.report(tuple(findings), tuple(notes))


def fold(lines: Iterable[Line], base: Base | None = None) -> "Books":
    """The books after these facts, with what was found on the way."""
    books = Books(base or Base())
    for line in lines:
        books.take_line(line)
    return books


class Books:
    """Everything folded from the facts so far."""

    def __init__(self, base: Base) -> None:
        self.seq, self.hash = base.seq, base.hash
        self.findings: list[Finding] = []
        self.orders: dict[str, Order] = {order.cid: order for order in base.orders}
        self.corrected = set(base.corrected)
        self.verdicts: dict[str, Outcome] = dict.fromkeys(base.open_signals, Outcome.ACCEPTED)
        self.confirmed: dict[str, Outcome] = {}
        self.executions: dict[tuple[str, str, str], str] = {}
        self.sums: dict[tuple[str, str], _Sum] = {(t.account, t.symbol): _sum(t) for t in base.totals}
        self.halts: dict[Key, Halt] = {key_of(halt): halt for halt in base.halts}
        self.keys: dict[tuple[str, str], KeyUse] = {}
        self._since = base.seq

    def take_line(self, line: Line) -> None:
        if line.seq != self.seq + 1:
            self.find("chain", line.seq, f"facts {self.seq + 1} to {line.seq - 1} are missing")
        if chain(self.hash, line.seq, line.fact) != line.hash:
            self.find("chain", line.seq, "the hash does not follow from the one before and the fact")
        self.hash, self.seq = line.hash, line.seq
        try:
            self.take(line.seq, _decode(line.fact))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ArithmeticError) as error:
            self.find("chain", line.seq, f"the fact cannot be read: {error}")

    def carry(self, live: Container[str] = ()) -> Base:
        """Where a later fold can begin. `live`: orders whose rows stay, whatever the facts say of them."""
        orders = tuple(order for cid, order in self.orders.items() if not settled(order) or cid in live)
        return Base(
            seq=self.seq,
            hash=self.hash,
            orders=orders,
            corrected=tuple(order.cid for order in orders if order.cid in self.corrected),
            open_signals=tuple(
                s for s, o in self.verdicts.items() if o is Outcome.ACCEPTED and s not in self.confirmed
            ),
            totals=tuple(Total(*key, s.qty, s.realised, s.fees, s.volume) for key, s in self.sums.items()),
            halts=tuple(self.halts.values()),
        )

    def find(self, rule: str, seq: int, text: str) -> None:
        self.findings.append(Finding(rule, seq, text))

    def take(self, seq: int, fact: AnyFact) -> None:
        match fact:
            case Judged():
                self._judged(seq, fact)
            case Submitted():
                self._submitted(seq, fact.order)
            case Filled():
                self._filled(seq, fact)
            case (
                Accepted()
                | Rejected()
                | Unclear()
                | Canceled()
                | Expired()
                | Missing()
                | Unsent()
                | CancelAsked()
                | CancelFailed()
                | LookedUp()
                | Reported()
            ):
                self._advance(seq, fact)
            case Corrected():
                self.corrected.add(fact.cid)
            case Confirmed():
                self._confirmed(seq, fact)
            case FundingPaid():
                self._execution(seq, fact, f"funding/{fact.funding_id}")
            case Withdrawn():
                if self._execution(seq, fact, f"transfer/{fact.transfer_id}"):
                    self.sums.setdefault((fact.account, fact.symbol), _Sum()).qty -= fact.qty
            case Halted():
                self._halted(fact.halt)
            case Resumed():
                self.halts = {k: h for k, h in self.halts.items() if not ends(fact, h)}
            case KeyNoted(what="decrypted"):
                before = self.keys.get((fact.name, fact.account))
                times = before.times + 1 if before else 1
                self.keys[fact.name, fact.account] = KeyUse(fact.name, fact.account, times, fact.at_ns, fact.by)

    def _halted(self, halt: Halt) -> None:
        if halt.kind is None:  # from before there were kinds: one for each scope, the last one counted
            self.halts = {k: h for k, h in self.halts.items() if h.scope != halt.scope}
        self.halts[key_of(halt)] = halt

    def _judged(self, seq: int, fact: Judged) -> None:
        if fact.signal_id in self.verdicts:
            self.find("one verdict", seq, f"signal {fact.signal_id} was judged before")
        self.verdicts[fact.signal_id] = fact.outcome

    def _submitted(self, seq: int, order: Order) -> None:
        if order.cid in self.orders:
            self.find("one intent per id", seq, f"{order.cid} was submitted before")
            return
        self.orders[order.cid] = order
        verdict = self.verdicts.get(order.signal_id)
        if verdict not in (None, Outcome.ACCEPTED) or (verdict is None and order.leg is Leg.ENTRY):
            said = "was not judged" if verdict is None else f"was {verdict.value}"
            self.find("verdict before intent", seq, f"{order.cid} is of signal {order.signal_id}, which {said}")
        if order.leg is Leg.ENTRY and order.attempt > 0:
            self.find("openers have one attempt", seq, f"{order.cid} is attempt {order.attempt}")
        if order.leg is Leg.ENTRY and order.signal_id in self.confirmed:
            self.find("nothing after the end", seq, f"{order.cid} opens for {order.signal_id}, which had ended")

    def _advance(self, seq: int, fact: OrderFact) -> None:
        order = self.orders.get(fact.cid)
        if order is None:
            if is_ours(fact.cid) and not self._since:  # else its intent may stand before the base
                self.find("intent before its fate", seq, f"{type(fact).__name__} of {fact.cid}, never submitted")
            return
        try:
            self.orders[fact.cid] = advance(order, fact)
        except IllegalTransition as error:
            self.find("order table", seq, str(error))

    def _filled(self, seq: int, fact: Filled) -> None:
        if not self._execution(seq, fact, fact.exec_id):
            return
        book = self.sums.setdefault((fact.account, fact.symbol), _Sum())
        # What closes goes out without an intent while the journal has failed; nothing that opens ever does.
        unwritten = fact.cid not in self.orders and fact.delta * book.qty < 0 and abs(fact.delta) <= abs(book.qty)
        if not unwritten:
            self._advance(seq, fact)
        traded = fact.qty * fact.side.sign
        in_base = fact.symbol.startswith(fact.fee_asset) and fact.delta == traded - fact.fee
        if fact.delta != traded and not in_base:
            self.find("position", seq, f"{fact.exec_id} traded {traded} and moved the position by {fact.delta}")
        book.qty += fact.delta
        book.realised += fact.realised
        book.fees += fact.fee_quote or ZERO
        book.volume += fact.qty * fact.price

    def _execution(self, seq: int, fact: Filled | FundingPaid | Withdrawn, exec_id: str) -> bool:
        key = (fact.account, fact.symbol, exec_id)
        if key in self.executions:
            self.find("once in the ledger", seq, f"{exec_id} of {fact.account} {fact.symbol} was booked before")
            return False
        self.executions[key] = ""
        return True

    def _confirmed(self, seq: int, fact: Confirmed) -> None:
        if fact.signal_id in self.confirmed:
            self.find("one confirmation", seq, f"signal {fact.signal_id} was confirmed before")
        if fact.signal_id not in self.verdicts:
            self.find("verdict before the end", seq, f"signal {fact.signal_id} was confirmed and never judged")
        self.confirmed[fact.signal_id] = fact.outcome

    # ------------------------------------------------------------------------------------------------------ the tables

    def hold_against(self, tables: Tables) -> None:
        self._overfills()
        self._same("orders", self.orders, ((o.cid, o) for o in tables.orders), self._orders_differ)
        for position in tables.positions:  # a row may come before the first fill
            total = self.sums.pop((position.account, position.symbol), None) or _Sum()
            self._row("positions", (position.account, position.symbol), _positions_differ(total, position))
        for key in self.sums:
            self.find("table positions", 0, f"{_name(key)} is missing")
        outcomes = {s: self.confirmed.get(s, outcome) for s, outcome in self.verdicts.items()}
        self._same("signals", outcomes, tables.signals, _values_differ)
        for signal_id in tables.past:
            if signal_id in self.verdicts:
                self.find("one verdict", 0, f"signal {signal_id} was judged before, among the archived facts")
        self._same("fills", self.executions, ((key, "") for key in tables.executions), _values_differ)
        halts: dict[tuple[str, str, str], str] = dict.fromkeys(self.halts, "")
        self._same("halts", halts, ((key, "") for key in tables.halts), _values_differ)

    def _overfills(self) -> None:
        for cid, order in self.orders.items():
            if order.filled_qty > order.qty and cid not in self.corrected:
                self.find("no overfill", 0, f"{cid} is filled {order.filled_qty} of {order.qty}, and nothing says so")

    def _same(self, table: str, folded: dict[K, V], rows: Iterable[tuple[K, W]], differ: Callable[[V, W], str]) -> None:
        """Each row follows from the facts, and no row is missing."""
        left = dict(folded)
        for key, row in rows:
            if key not in left:
                self.find(f"table {table}", 0, f"{_name(key)} follows from no fact")
                continue
            self._row(table, key, differ(left.pop(key), row))
        for key in left:
            self.find(f"table {table}", 0, f"{_name(key)} is missing")

    def _row(self, table: str, key: object, difference: str) -> None:
        if difference:
            self.find(f"table {table}", 0, f"{_name(key)}: {difference}")

    def _orders_differ(self, folded: Order, row: Order) -> str:
        # A fill that came long after its order was let go moves the position; the row of the order stays.
        if row == folded or row.cid in self.corrected:
            return ""
        return _fields(folded, row, Order.__struct_fields__)

    def report(self, findings: tuple[Finding, ...], notes: tuple[str, ...]) -> Report:
        return Report(
            facts=self.seq - self._since,
            signals=len(self.verdicts),
            orders=len(self.orders),
            executions=len(self.executions),
            open_signals=sum(o is Outcome.ACCEPTED and s not in self.confirmed for s, o in self.verdicts.items()),
            last_hash=self.hash.hex(),
            findings=(*findings, *self.findings),
            notes=notes,
            keys=tuple(self.keys.values()),
        )


class _Sum:
    """What the fills of one (account, symbol) add up to."""

    def __init__(self) -> None:
        self.qty = self.realised = self.fees = self.volume = ZERO


def _sum(total: Total) -> _Sum:
    found = _Sum()
    found.qty, found.realised, found.fees, found.volume = total.qty, total.realised, total.fees, total.volume
    return found


def _positions_differ(folded: _Sum, row: Position) -> str:
    return _fields(folded, row, ("qty", "realised", "fees", "volume"))


def _values_differ(folded: object, row: object) -> str:
    return "" if folded == row else f"the table says {row}, the facts say {folded}"


def _fields(folded: object, row: object, names: Iterable[str]) -> str:
    pairs = ((name, getattr(row, name), getattr(folded, name)) for name in names)
    return "; ".join(f"{name} is {ours} and should be {right}" for name, ours, right in pairs if ours != right)


def _name(key: object) -> str:
    return "/".join(str(part) for part in key) if isinstance(key, tuple) else str(key)


_decode: Callable[[bytes], AnyFact] = msgspec.json.Decoder(AnyFact).decode
