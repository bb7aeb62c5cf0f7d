"""The emergency stop of a risk service outside (SPEC RSK8): what its last answer means for an order that opens.

| last answer                      | on_timeout = "allow"    | "block" |
|----------------------------------|-------------------------|---------|
| clear, younger than `stale`      | pass                    | pass    |
| clear but older, or none so far  | pass, and the verdict says so | block |
| tripped, however old             | block                   | block   |

A service that has tripped and then falls silent has taken nothing back. What reduces or protects is never asked here.
"""

from decimal import Decimal
from typing import Literal

from msgspec import Struct

from engine.core.messages import Check, Halt
from engine.core.money import plain

BY = "ess/poll"  # who makes the halt
RULE = "RSK8.ess"
OnTimeout = Literal["allow", "block"]


class Said(Struct, frozen=True):
    """The service's answer: its word for how things stand, and why."""

    tripped: bool
    word: str
    reason: str = ""


class Unanswered(Struct, frozen=True):
    """No answer in time, or one that nobody understands."""

    why: str


class EssTerms(Struct, frozen=True):
    """`stale_ns`: for so long an answer is good."""

    stale_ns: int
    on_timeout: OnTimeout


class Watch:
    """What is known of the service. Asked for every opening order, so it only looks at what was noted before."""

    def __init__(self, terms: EssTerms, began_ns: int) -> None:
        self.terms = terms
        self.said: Said | None = None
        self.silence = "it has not been asked yet"  # why the last question was not answered; "" when it was
        self._at_ns = began_ns  # of the last answer; before the first one, of the start

    def take(self, answer: Said | Unanswered, now_ns: int) -> None:
        if isinstance(answer, Unanswered):
            self.silence = answer.why
        else:
            self.said, self.silence, self._at_ns = answer, "", now_ns

    def silent(self, now_ns: int) -> bool:
        """Nobody knows how things stand."""
        return self.said is None or now_ns - self._at_ns > self.terms.stale_ns

    def shut(self, now_ns: int) -> str:
        """Why opening orders are held back beside what the switch says; "": they are not."""
        if self.said is not None and self.said.tripped:
            return tripped(self.said)
        if self.silent(now_ns) and self.terms.on_timeout == "block":
            return self._silence(now_ns)
        return ""

    def held(self, now_ns: int) -> str:
        """`shut` for another reason than a trip, for which there is a halt."""
        return "" if self.said is not None and self.said.tripped else self.shut(now_ns)

    def check(self, now_ns: int) -> Check:
        """For the verdict, with the age of the answer and how old it may be."""
        why = self.shut(now_ns)
        note = self._silence(now_ns) if not why and self.silent(now_ns) else ""
        age, limit = _seconds(now_ns - self._at_ns), _seconds(self.terms.stale_ns)
        return Check(RULE, not why, age, limit, "s since the risk service answered", why or note)

    def detail(self, now_ns: int) -> str:
        """For the health report."""
        if self.said is None or self.silent(now_ns):
            return self._silence(now_ns)
        return tripped(self.said)

    def _silence(self, now_ns: int) -> str:
        last = f"the last word was {self.said.word}, " if self.said is not None else ""
        since = plain(_seconds(now_ns - self._at_ns))
        text = f"the risk service has not answered for {since} s ({last}{self.silence or 'late'})"
        return f"{text}; on_timeout = {self.terms.on_timeout}"


def tripped(said: Said) -> str:
    return f"the risk service says {said.word}" + (f": {said.reason}" if said.reason else "")


def halt_of(said: Said, now_ns: int) -> Halt:
    """Latched: it ends when the service says otherwise, by `ess.cleared`, or by a resume that names its kind."""
    return Halt("engine", tripped(said), now_ns, BY, kind="ess")


def _seconds(ns: int) -> Decimal:
    return Decimal(ns // 1_000_000).scaleb(-3)
