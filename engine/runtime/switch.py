"""The last door before the wire: halts by scope, in memory at once, durable with the next commit.

A halt stops orders that open; cancels and reduce-only orders pass. Its record is written between two sends, so no
opener starts after it; what was on the wire already is bounded by the venue's receive window (RELIABILITY 4.8).
Several halts may close one scope; it opens when the last of them has ended in its own way (engine/core/halts.py).
"""

from collections.abc import Iterable

from msgspec import Struct
from msgspec.structs import replace

from engine.core.halts import Key, Release, Staying, key_of, kind_of, release
from engine.core.messages import Alerted, Event, Halt, Halted, HaltEnded, HaltKind, Resumed
from engine.runtime.clock import Clock
from engine.runtime.journal.base import Journal


class Resumption(Struct, frozen=True):
    """What a resume ended, and what keeps the scope closed. `seq` is the journal's number, 0 when nothing ended."""

    seq: int
    ended: tuple[Halt, ...]
    staying: tuple[Staying, ...]


class Switch:
    """All halts in force. Scopes are "engine", "venue/V", "account/A", "symbol/A/S"."""

    def __init__(self, journal: Journal, clock: Clock, halts: Iterable[Halt] = ()) -> None:
        self._journal = journal
        self._clock = clock
        self._halts: dict[Key, Halt] = {key_of(h): replace(h, kind=kind_of(h)) for h in halts}

    def halt(self, halt: Halt) -> int:
        """Close a scope, beside what closes it already. Returns the journal's number of the fact.

        Of one kind and maker the last one counts, but a latched halt is not weakened by a timed one.
        """
        halt = replace(halt, kind=kind_of(halt))
        standing = self._halts.get(key_of(halt))
        if standing is not None and standing.latched and not halt.latched:
            return 0
        self._halts[key_of(halt)] = halt
        at = self._clock.now_ns()
        facts = (
            Halted(at_ns=at, halt=halt, cause=halt.by),
            Alerted(at_ns=at, severity="critical", kind="halt", text=f"{halt.scope}: {halt.reason}", cause=halt.by),
        )
        body: dict[str, str | int | bool | None] = {
            "severity": "critical",
            "kind": "halt",
            "scope": halt.scope,
            "text": halt.reason,
        }
        account = halt.scope.split("/")[1] if halt.scope.startswith(("account/", "symbol/")) else ""
        event = Event("system.error", account, halt.scope, at, "", halt.by, body)
        return self._journal.append(facts, (halt, event))

    def would_end(self, scope: str, kind: HaltKind | None) -> Release:
        """What a resume would end now, and what it would leave."""
        return release((h for h in self.halts() if h.scope == scope), kind)

    def resume(self, scope: str, by: str, note: str = "", kind: HaltKind | None = None) -> Resumption:
        """A person opens a scope again, as far as a person may."""
        found = self.would_end(scope, kind)
        seq = 0
        for halt in found.ended:
            seq = self.end(halt, by, note)
        return Resumption(seq, found.ended, found.staying)

    def end(self, halt: Halt, by: str, note: str = "") -> int:
        """This halt is over. Returns the journal's number of the fact."""
        of = key_of(self._halts.pop(key_of(halt)))
        at, kind, whose = self._clock.now_ns(), of[1], of[2]
        fact = Resumed(at_ns=at, scope=halt.scope, by=by, note=note, cause=by, kind=kind, whose=whose)
        return self._journal.append((fact,), (HaltEnded(scope=halt.scope, by=by, at_ns=at, kind=kind, whose=whose),))

    def halts(self) -> tuple[Halt, ...]:
        """In force now; timed ones that are over are ended on the way."""
        now = self._clock.now_ns()
        for halt in tuple(self._halts.values()):
            if halt.until_ns is not None and now >= halt.until_ns:
                self.end(halt, "clock", "its time was over")
        return tuple(self._halts.values())

    def closed_to_openers(self, venue: str, account: str, symbol: str) -> tuple[Halt, ...]:
        """The halts that stop an opening order of this symbol."""
        if not self._halts:
            return ()
        scopes = ("engine", f"venue/{venue}", f"account/{account}", f"symbol/{account}/{symbol}")
        return tuple(h for h in self.halts() if h.scope in scopes)
