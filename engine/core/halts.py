"""Halts side by side: which kind one is, what ends which, and what a person's resume may end.

| kind  | who closes                    | its way back                                                          |
|-------|-------------------------------|-----------------------------------------------------------------------|
| stop  | a person                      | a resume                                                              |
| fault | the supervisor, a quarantine  | a resume                                                              |
| loss  | the gate (RSK5)               | a resume, which acknowledges the loss; until midnight UTC where so set |
| ess   | an emergency event (RSK8)     | `ess.cleared`, or a resume that names it                              |

A resume ends one kind at a time, so that nobody lifts with his own stop a halt he has not seen.
"""

from collections.abc import Iterable

from msgspec import Struct

from engine.core.messages import Halt, HaltKind, Resumed

_IN_TURN: tuple[HaltKind, ...] = ("stop", "fault", "loss")  # what a resume that names no kind ends, the first found

Key = tuple[str, HaltKind, str]


class Staying(Struct, frozen=True):
    """A halt that a resume has not ended, and why."""

    halt: Halt
    why: str


class Release(Struct, frozen=True):
    """What a resume of one scope ends, and what keeps the scope closed."""

    ended: tuple[Halt, ...]
    staying: tuple[Staying, ...]


def kind_of(halt: Halt) -> HaltKind:
    """Its kind; of a halt from before there were kinds, by who made it."""
    if halt.kind is not None:
        return halt.kind
    if halt.by.startswith("risk/"):
        return "loss"
    if halt.by.startswith("event/"):
        return "ess"
    return "fault" if halt.by in ("supervisor", "engine") else "stop"


def key_of(halt: Halt) -> Key:
    """At most one halt is in force for each key; another one takes its place."""
    return halt.scope, kind_of(halt), halt.by


def ends(resumed: Resumed, halt: Halt) -> bool:
    """Whether this halt is ended; before there were kinds, a resume ended whatever closed its scope."""
    if resumed.kind is None:
        return resumed.scope == halt.scope
    return (resumed.scope, resumed.kind, resumed.whose) == key_of(halt)


def release(halts: Iterable[Halt], kind: HaltKind | None) -> Release:
    """A person's resume of one scope, closed by `halts`. `kind` None: the first kind that stands, never "ess"."""
    standing = tuple(halts)
    kinds = {kind_of(h) for h in standing}
    chosen = kind or next((k for k in _IN_TURN if k in kinds), None)
    ended = tuple(h for h in standing if kind_of(h) == chosen and not _timed_loss(h))
    return Release(ended, tuple(Staying(h, _why(h)) for h in standing if h not in ended))


def _timed_loss(halt: Halt) -> bool:
    return kind_of(halt) == "loss" and not halt.latched


def _why(halt: Halt) -> str:
    if _timed_loss(halt):
        return 'a loss closes until midnight UTC, as loss_latch = "day" says'
    match kind_of(halt):
        case "loss":
            return 'a resume of kind "loss" acknowledges it'
        case "ess":
            return 'ess.cleared ends it, or a resume of kind "ess"'
        case kind:
            return f'a resume of kind "{kind}" ends it'
