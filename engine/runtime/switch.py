"""The last door before the wire: halts by scope, in memory at once, durable with the next commit.

A halt stops orders that open; cancels and reduce-only orders pass. Its record is written between two sends, so no
opener starts after it; what was on the wire already is bounded by the venue's receive window (RELIABILITY 4.8).
"""

from collections.abc import Iterable

from engine.core.messages import Alerted, Event, Halt, Halted, HaltEnded, Resumed
from engine.runtime.clock import Clock
from engine.runtime.journal.base import Journal


class Switch:
    """All halts in force. Scopes are "engine", "venue/V", "account/A", "symbol/A/S"."""

    def __init__(self, journal: Journal, clock: Clock, halts: Iterable[Halt] = ()) -> None:
        self._journal = journal
        self._clock = clock
        self._halts: dict[str, Halt] = {h.scope: h for h in halts}

    def halt(self, halt: Halt) -> int:
        """Close a scope. A latched halt is not weakened by a timed one. Returns the journal's number of the fact."""
        standing = self._halts.get(halt.scope)
        if standing is not None and standing.latched and not halt.latched:
            return 0
        self._halts[halt.scope] = halt
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

    def resume(self, scope: str, by: str, note: str = "") -> int | None:
        """Open a scope again; None when it was not closed."""
        if self._halts.pop(scope, None) is None:
            return None
        at = self._clock.now_ns()
        return self._journal.append(
            (Resumed(at_ns=at, scope=scope, by=by, note=note, cause=by),), (HaltEnded(scope=scope, by=by, at_ns=at),)
        )

    def standing(self, scope: str) -> Halt | None:
        """The halt of exactly this scope."""
        return next((h for h in self.halts() if h.scope == scope), None)

    def halts(self) -> tuple[Halt, ...]:
        """In force now; timed ones that are over are ended on the way."""
        now = self._clock.now_ns()
        over = [h.scope for h in self._halts.values() if h.until_ns is not None and now >= h.until_ns]
        for scope in over:
            self.resume(scope, "clock", "its time was over")
        return tuple(self._halts.values())

    def closed_to_openers(self, venue: str, account: str, symbol: str) -> tuple[Halt, ...]:
        """The halts that stop an opening order of this symbol."""
        if not self._halts:
            return ()
        scopes = ("engine", f"venue/{venue}", f"account/{account}", f"symbol/{account}/{symbol}")
        return tuple(h for h in self.halts() if h.scope in scopes)
