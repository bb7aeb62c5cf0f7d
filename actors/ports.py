"""What actors are given: small bundles of functions, filled by `wiring`. An actor knows these, not its colleagues."""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from random import Random
from typing import TypeVar

import trio
from msgspec import Struct

from engine.core.admission import Admitted
from engine.core.blotter import Message
from engine.core.messages import (
    AnyFact,
    BalancesSeen,
    Confirmed,
    Delivery,
    Failed,
    Limits,
    Quote,
    Refusal,
    Signal,
    SignalRow,
    Stamp,
    Standing,
    Timed,
)
from engine.runtime.clock import Clock
from engine.runtime.journal.base import Journal
from engine.runtime.switch import Switch
from engine.venues.base import Swift, Venue
from engine.venues.throttle import Throttle


class Account(Struct, frozen=True):
    """One trader's keys and wallet at one venue."""

    name: str
    venue_name: str
    venue: Venue
    throttle: Throttle
    swift: Swift | None = None  # the venue again, where it can send without waiting


class World(Struct, frozen=True):
    """What every actor may use."""

    env: str
    clock: Clock
    journal: Journal
    switch: Switch
    rng: Random
    quote: Callable[[str], Quote | None]
    observe: Callable[[tuple[AnyFact, ...]], None]  # facts just appended, for metrics and the log
    timed: Callable[[Timed], None]


class Arrived(Struct, frozen=True):
    """ingest -> gate: a signal, what the journal knows of its id, and where the verdict goes.

    `lost` is called instead of `reply` when there will be no verdict: True, the gate failed on this very signal; False,
    it has not looked at it, because it is down or `prior` is too old.
    """

    signal: Signal
    prior: SignalRow | None
    looked_at: float  # trio's time at which `prior` was looked up
    received_tick: int
    reply: Callable[[Admitted, int], None]
    lost: Callable[[bool], None]


class Lost(Struct, frozen=True):
    """Nobody has looked at it: it may be asked for again."""

    why: str


class Steered(Struct, frozen=True):
    """operator or a control event -> gate: new limits for an account (as fields to change).

    `facts` and `rows` are written with the change, and only with it.
    """

    account: str
    changes: dict[str, object]
    by: str
    reply: Callable[[Limits | tuple[Refusal, ...] | Lost, int], None]
    facts: tuple[AnyFact, ...] = ()
    rows: tuple[Delivery, ...] = ()
    stamp: Stamp | None = None  # of a policy


class Tick(Struct, frozen=True):
    """ticker -> gate: look at the time and the market."""


class Ask(Struct, frozen=True):
    """A message to an order actor whose sender wants to know when it was folded, and what stands then."""

    message: Message
    reply: Callable[[Standing], None]


T = TypeVar("T")
TRIES = 3  # a round of five queries would hardly ever pass at a venue that fails every third
TRY_SECONDS = 0.5


async def insist(rng: Random, query: Callable[[], Awaitable[T | Failed]]) -> T | Failed:
    """Ask a venue, and again where the question failed: much may hang on the answer, such as cover."""
    answer = await query()
    for _ in range(TRIES - 1):
        if not (isinstance(answer, Failed) and answer.soon):
            break
        await trio.sleep(TRY_SECONDS * rng.uniform(0.75, 1.25))
        answer = await query()
    return answer


GateMail = Arrived | Standing | BalancesSeen | Steered | Tick
Worth = Callable[[str], Decimal | None]
Ended = Callable[[Confirmed], None]
