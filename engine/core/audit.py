"""The journal's chain of hashes, and what must hold over a whole journal, checked offline from what it wrote.

Pure: takes lines and rows, returns findings. Opening the file is the reader's business, printing run.py's. The facts
are folded once more by the same small functions that the engine uses, and the tables must say what the fold says.
"""

from collections.abc import Callable, Iterable
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
)
from engine.core.order import IllegalTransition, OrderFact, advance

K = TypeVar("K")
V = TypeVar("V")
W = TypeVar("W")

GENESIS = bytes(32)  # stands before the first fact


class Line(Struct, frozen=True):
    """One fact of the chain as it is stored."""

    seq: int
    fact: bytes  # JSON
    hash: bytes


class Tables(Struct, frozen=True):
    """The rows that must follow from the facts. Each is read once, in any order."""

    orders: Iterable[Order] = ()
    positions: Iterable[Position] = ()
    signals: Iterable[tuple[str, Outcome]] = ()
    executions: Iterable[tuple[str, str, str]] = ()  # account, symbol, exec id
    halts: Iterable[tuple[str, str, str]] = ()  # in force: scope, kind, maker


class Finding(Struct, frozen=True):
    """Something that must not be. `seq` is the fact's number, 0 when it is about a table."""

    rule: str
    seq: int
    text: str


class Report(Struct, frozen=True):
    """What was looked at and what was found; nothing found is good."""

    facts: int
    signals: int
    orders: int
    executions: int
    open_signals: int  # accepted and not yet confirmed
    last_hash: str  # hexadecimal; to be kept elsewhere by whoever wants to prove that the end was not cut off
    findings: tuple[Finding, ...]

    @property
    def sound(self) -> bool:
        return not self.findings


def chain(before: bytes, seq: int, fact: bytes) -> bytes:
    """The hash of fact number `seq`: blake2b-256 over the hash before it, its number and its bytes."""
    return blake2b(b"%b%d:%b" % (before, seq, fact), digest_size=32).digest()


def verify(lines: Iterable[Line], tables: Tables) -> Report:
    """Hold the chain and the rows against each other. `lines` come oldest first."""
    books = _Books()
    digest, seq = GENESIS, 0
    for line in lines:
        if line.seq != seq + 1:
            books.find("chain", line.seq, f"facts {seq + 1} to {line.seq - 1} are missing")
        if chain(digest, line.seq, line.fact) != line.hash:
            books.find("chain", line.seq, "the hash does not follow from the one before and the fact")
        digest, seq = line.hash, line.seq
        try:
            books.take(line.seq, _decode(line.fact))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ArithmeticError) as error:
            books.find("chain", line.seq, f"the fact cannot be read: {error}")
    books.hold_against(tables)
    return books.report(seq, digest)


class _Books:
    """Everything folded from the facts so far."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self.orders: dict[str, Order] = {}
        self.corrected: set[str] = set()
        self.verdicts: dict[str, Outcome] = {}
        self.confirmed: dict[str, Outcome] = {}
        self.executions: dict[tuple[str, str, str], str] = {}
        self.sums: dict[tuple[str, str], _Sum] = {}
        self.halts: dict[Key, Halt] = {}

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
            case Halted():
                self._halted(fact.halt)
            case Resumed():
                self.halts = {k: h for k, h in self.halts.items() if not ends(fact, h)}

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
            if is_ours(fact.cid):
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

    def _execution(self, seq: int, fact: Filled | FundingPaid, exec_id: str) -> bool:
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

    def report(self, seq: int, digest: bytes) -> Report:
        return Report(
            facts=seq,
            signals=len(self.verdicts),
            orders=len(self.orders),
            executions=len(self.executions),
            open_signals=sum(o is Outcome.ACCEPTED and s not in self.confirmed for s, o in self.verdicts.items()),
            last_hash=digest.hex(),
            findings=tuple(self.findings),
        )


class _Sum:
    """What the fills of one (account, symbol) add up to."""

    def __init__(self) -> None:
        self.qty = self.realised = self.fees = self.volume = ZERO


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
