"""The engine's own breakers (SPEC RSK11): a storm of rejections, and stalls of its own loop or journal.

A breaker halts entries for a while, with its numbers as the reason; protection and cancels pass, as with every halt.
The way back is the end of that time, or a person's resume. What happens again soon after closes for twice as long.

| what                                                        | halts   | for   | by                       |
|-------------------------------------------------------------|---------|-------|--------------------------|
| entries of one symbol rejected for one class of reason      | symbol  | 60 s  | breaker/rejects/CLASS    |
| entries of one account rejected for one class of reason     | account | 60 s  | breaker/rejects/CLASS    |
| the event loop did not run for too long                     | engine  | 10 s  | breaker/loop             |
| a commit of the journal takes too long                      | engine  | 10 s  | breaker/journal          |

Rejections that have a breaker of their own are left out: a venue that fails (engine/venues/breaker.py), a refused key.
"""

from collections import deque

from msgspec import Struct

from engine.core.messages import AnyFact, Canceled, Expired, Filled, Halt, Missing, Rejected, Submitted, Unsent
from engine.core.order import opens
from engine.core.times import SECOND

BY = "breaker/"
_COUNTED = ("invalid", "insufficient", "not_found")


class StormTerms(Struct, frozen=True):
    """From how many rejections of one class within `window_ns` on, and for how long entries are halted first."""

    symbol_max: int = 5
    account_max: int = 15
    window_ns: int = 60 * SECOND
    pause_ns: int = 60 * SECOND


class StallTerms(Struct, frozen=True):
    """From when on a loop that does not run, or a commit that does not end, is a stall; and how long it halts first."""

    loop_ns: int = 1 * SECOND
    commit_ns: int = 2 * SECOND
    pause_ns: int = 10 * SECOND


class OwnTerms(Struct, frozen=True):
    storms: StormTerms = StormTerms()
    stalls: StallTerms = StallTerms()
    pause_max_ns: int = 900 * SECOND


class _Trip(Struct, frozen=True):
    """The last time a breaker closed a scope."""

    until_ns: int
    pause_ns: int
    of: int  # which stall it was


class Breakers:
    """One engine's. Gets facts and measurements, returns halts for the switch."""

    def __init__(self, terms: OwnTerms = OwnTerms()) -> None:
        self.terms = terms
        self._entries: dict[str, None] = {}  # client order ids on their way or live
        self._rejected: dict[tuple[str, str], deque[int]] = {}  # (scope, class) -> when
        self._trips: dict[tuple[str, str], _Trip] = {}  # (scope, by)
        self._serial = 0
        self.stalls = 0
        self.last_stall = ""

    # -------------------------------------------------------------------------------------------------------- storms

    def fact(self, fact: AnyFact) -> tuple[Halt, ...]:
        """Of an entry's way only its rejection counts, at once or long after the venue had taken it."""
        match fact:
            case Submitted(order=order) if opens(order):
                self._entries[order.cid] = None
            case Rejected(cid=cid):
                if cid in self._entries:
                    del self._entries[cid]
                    return self._rejection(fact)
            case Filled(cid=cid) | Canceled(cid=cid) | Expired(cid=cid) | Missing(cid=cid) | Unsent(cid=cid):
                self._entries.pop(cid, None)
        return ()

    def _rejection(self, fact: Rejected) -> tuple[Halt, ...]:
        if fact.kind not in _COUNTED:
            return ()
        storms = self.terms.storms
        scopes = (
            (f"symbol/{fact.account}/{fact.symbol}", storms.symbol_max),
            (f"account/{fact.account}", storms.account_max),
        )
        return tuple(halt for scope, most in scopes if (halt := self._storm(scope, most, fact)) is not None)

    def _storm(self, scope: str, most: int, fact: Rejected) -> Halt | None:
        window_ns = self.terms.storms.window_ns
        times = self._rejected.setdefault((scope, fact.kind), deque())
        times.append(fact.at_ns)
        while times[0] <= fact.at_ns - window_ns:
            times.popleft()
        if len(times) < most:
            return None
        said = f"{len(times)} entries rejected as {fact.kind!r} within {window_ns // SECOND} s"
        times.clear()  # the next storm is made of rejections of its own
        self._serial += 1
        reason = f"{said}, the limit is {most}; the last one: {fact.code}: {fact.text}"
        return self._trip(scope, f"rejects/{fact.kind}", reason, self.terms.storms.pause_ns, self._serial, fact.at_ns)

    # -------------------------------------------------------------------------------------------------------- stalls

    def loop(self, late_ns: int, now_ns: int) -> Halt | None:
        """The loop has come back to somebody who slept, so much later than asked."""
        if late_ns < self.terms.stalls.loop_ns:
            return None
        self._serial += 1
        what = f"the event loop stood still for {_ms(late_ns)}"
        return self._stall("loop", what, self.terms.stalls.loop_ns, self._serial, now_ns)

    def journal(self, durable_seq: int, waited_ns: int, now_ns: int) -> Halt | None:
        """Nothing behind `durable_seq` has become durable for so long, though something waits to."""
        if waited_ns < self.terms.stalls.commit_ns:
            return None
        what = f"the journal has made nothing durable for {_ms(waited_ns)} (fact {durable_seq} was the last)"
        return self._stall("journal", what, self.terms.stalls.commit_ns, durable_seq, now_ns)

    def _stall(self, which: str, what: str, limit_ns: int, of: int, now_ns: int) -> Halt | None:
        reason = f"{what}, the limit is {_ms(limit_ns)}"
        before = self._trips.get(("engine", BY + which))
        halt = self._trip("engine", which, reason, self.terms.stalls.pause_ns, of, now_ns)
        self.stalls += halt is not None and (before is None or before.of != of)
        self.last_stall = reason if halt is not None else self.last_stall
        return halt

    def _trip(self, scope: str, which: str, reason: str, pause_ns: int, of: int, now_ns: int) -> Halt | None:
        """One stall halts once, and again when half of that is over and it still goes on."""
        key = (scope, BY + which)
        last = self._trips.get(key)
        if last is not None and last.of == of:
            if last.until_ns - now_ns > last.pause_ns // 2:
                return None
            pause_ns = last.pause_ns
        elif last is not None and now_ns < last.until_ns + last.pause_ns:
            pause_ns = min(last.pause_ns * 2, self.terms.pause_max_ns)
        self._trips[key] = _Trip(now_ns + pause_ns, pause_ns, of)
        return Halt(scope, reason, now_ns, key[1], False, now_ns + pause_ns, kind="fault")


def _ms(ns: int) -> str:
    return f"{ns // 1_000_000:,} ms"
