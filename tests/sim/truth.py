"""What really happened, in the order in which it happened: the venue's own records and every effect of the engine.

The checker reads this and the durable journal, never the engine's memory. Entries are written by the venue and the
world at the moment of the effect; their order is the order of effects, which is what most invariants speak about.
"""

from collections.abc import Iterator
from decimal import Decimal
from hashlib import blake2b
from typing import TypeAlias

import msgspec
from msgspec import Struct

from engine.core.messages import Order, OrderType, Side


class Entry(Struct, frozen=True, tag=True, omit_defaults=True):
    """One effect and its moment (wall time of the simulation, ns)."""

    at_ns: int


# ------------------------------------------------------------------------------------------------- the engine's effects


class Started(Entry, frozen=True):
    """An incarnation of the engine began."""

    life: int


class Ready(Entry, frozen=True):
    """Its start-up comparison is through: entries are allowed."""

    life: int


class Crashed(Entry, frozen=True):
    """`kill -9`: memory gone, the disk keeps what it really has."""

    life: int
    where: str
    kept: int  # journal records that survived


class Fell(Entry, frozen=True):
    """The engine ended by itself, by an exception that nobody expected."""

    life: int
    why: str


class Leased(Entry, frozen=True):
    """It has the lease, and a higher epoch than whoever had it before."""

    life: int


class Ousted(Entry, frozen=True):
    """It has found that another engine has taken the accounts over, and has ended."""

    life: int


class TurnedAway(Entry, frozen=True):
    """A second engine was started by mistake, on the journal of one that lives; it would not run."""

    life: int
    why: str


class Frozen(Entry, frozen=True):
    """The process is stopped (SIGSTOP, a paused machine): it does nothing, and time passes."""

    life: int


class Thawed(Entry, frozen=True):
    life: int


class Synced(Entry, frozen=True):
    """Journal records up to `seq` are on the disk for good; `digest` of the newest."""

    seq: int
    digest: str = ""


class DiskBroke(Entry, frozen=True):
    """From here on nothing can be made durable."""

    how: str


class DiskMended(Entry, frozen=True):
    """A person has freed or exchanged the disk and ends the engine, to start it again."""


class Wired(Entry, frozen=True):
    """The first byte of an order request left the process."""

    order: Order
    life: int = 0
    signed_ns: int = 0  # what its signature says, in our time


class Unreached(Entry, frozen=True):
    """An order request for which no connection could be made: no byte of it left."""

    order: Order


class Held(Entry, frozen=True):
    """An order that the venue has no way to take beside another waits in the adapter; its life's end is its own."""

    cid: str
    life: int


class CancelWired(Entry, frozen=True):
    cid: str
    life: int = 0
    signed_ns: int = 0  # what its signature says, in our time


class Replied(Entry, frozen=True):
    """The engine has the answer to an order request in its hands; `kind` "Silence" when the venue gave none."""

    cid: str
    kind: str


class Sent(Entry, frozen=True):
    """A source offered a body to the engine. `digest` tells bodies of one id apart; `good`: it can be read."""

    source: str
    signal_id: str
    digest: str
    good: bool = True


class Receipted(Entry, frozen=True):
    """The engine told a source what became of a body."""

    source: str
    signal_id: str
    digest: str
    status: str


class Copied(Entry, frozen=True):
    """A sink received one row of the outbox."""

    event_id: int
    name: str
    key: str
    digest: str
    sink: str = "sim"


class HaltCalled(Entry, frozen=True):
    scope: str


class StopReported(Entry, frozen=True):
    """What the engine told the operator at the end of a stop: nothing is left, and it is written down, or not."""

    scope: str
    flat: bool
    durable: bool
    flatten: bool


class ResumeCalled(Entry, frozen=True):
    scope: str


class Phase(Entry, frozen=True):
    """`faults`, `calm`, `probe`, `end`."""

    name: str


class Probed(Entry, frozen=True):
    """The fresh signal of the calm phase: it must be executed."""

    signal_id: str


# -------------------------------------------------------------------------------------------------- the venue's records


class Arrived(Entry, frozen=True):
    """An order request reached the venue's gate."""

    cid: str


class Declined(Entry, frozen=True):
    """The venue refused a request for certain."""

    cid: str
    code: str


class Taken(Entry, frozen=True):
    """An order entered the venue's book."""

    venue_order_id: str
    cid: str
    symbol: str
    side: Side
    order_type: OrderType
    qty: Decimal
    price: Decimal | None = None
    trigger_price: Decimal | None = None
    reduce_only: bool = False
    foreign: bool = False


class Triggered(Entry, frozen=True):
    venue_order_id: str
    cid: str


class Executed(Entry, frozen=True):
    """One execution; `position` is the signed base quantity of the symbol after it."""

    exec_id: str
    venue_order_id: str
    cid: str
    symbol: str
    side: Side
    qty: Decimal
    price: Decimal
    fee: Decimal
    fee_asset: str
    position: Decimal
    foreign: bool = False


class Ended(Entry, frozen=True):
    """An order left the book: filled, canceled, expired, rejected."""

    venue_order_id: str
    cid: str
    status: str
    filled: Decimal


class QuotesStalled(Entry, frozen=True):
    """What clients hear of the market stands still until then."""

    until_ns: int


class Banned(Entry, frozen=True):
    """Until then every request and query is refused."""

    until_ns: int


class BanHeard(Entry, frozen=True):
    """An incarnation of the engine was told of the ban."""

    life: int
    until_ns: int


class VenueRestarted(Entry, frozen=True):
    """Nothing is known any more of orders that have ended by now; their executions are."""


class Funded(Entry, frozen=True):
    funding_id: str
    symbol: str
    amount: Decimal


AnyEntry: TypeAlias = (
    Started
    | Ready
    | Crashed
    | Fell
    | Leased
    | Ousted
    | TurnedAway
    | Frozen
    | Thawed
    | Synced
    | DiskBroke
    | DiskMended
    | Wired
    | Unreached
    | Held
    | CancelWired
    | Replied
    | Sent
    | Receipted
    | Copied
    | HaltCalled
    | StopReported
    | ResumeCalled
    | Phase
    | Probed
    | Arrived
    | Declined
    | Taken
    | Triggered
    | Executed
    | Ended
    | QuotesStalled
    | Banned
    | BanHeard
    | VenueRestarted
    | Funded
)


class Truth:
    """The log of effects, with a hash that two equal runs share. `tell` may be watched by reach goals."""

    def __init__(self) -> None:
        self.entries: list[AnyEntry] = []
        self.reached: dict[str, int] = {}  # rare situations, counted
        self.heard: set[tuple[str, str]] = set()  # executions (symbol, exec id) that a stream delivered
        self._hash = blake2b(digest_size=16)

    def tell(self, entry: AnyEntry) -> None:
        self.entries.append(entry)
        self._hash.update(_encode(entry))

    def reach(self, goal: str) -> None:
        """A situation that must come up in some seed did."""
        self.reached[goal] = self.reached.get(goal, 0) + 1

    def __iter__(self) -> Iterator[AnyEntry]:
        return iter(self.entries)

    @property
    def trace_hash(self) -> str:
        return self._hash.hexdigest()

    def tail(self, count: int, began_ns: int = 0) -> list[str]:
        """The last `count` entries as lines."""
        return [line(entry, began_ns) for entry in self.entries[-count:]]


def line(entry: AnyEntry, began_ns: int = 0) -> str:
    """`seconds  Kind  fields`, for a person."""
    body = msgspec.to_builtins(entry)
    fields = " ".join(
        f"{k}={_brief(v)}" for k, v in body.items() if k not in ("type", "at_ns") and v not in (None, "", False)
    )
    return f"{(entry.at_ns - began_ns) / 1e9:10.3f}  {type(entry).__name__:<12} {fields}"


def digest(raw: bytes) -> str:
    return blake2b(raw, digest_size=6).hexdigest()


_encode = msgspec.json.encode
_ORDER_FIELDS = ("cid", "signal_id", "leg", "side", "order_type", "qty", "price", "trigger_price", "reduce_only")


def _brief(value: object) -> object:
    if isinstance(value, dict) and "cid" in value:
        return "{" + " ".join(f"{k}={value[k]}" for k in _ORDER_FIELDS if value.get(k) not in (None, False)) + "}"
    return value
