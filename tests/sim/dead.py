"""The third phase: everything is well, and one channel dies and never comes back. The promises that can hold still do.

Nothing but the channel is broken then, so the checker knows what to ask: whether books and venue agree in the end,
whether a fresh signal is executed, how soon a fill is covered, and whether a person who stops the engine gets what he
asked for, or is told that he does not.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal

from msgspec import Struct

from engine.core.messages import ZERO
from engine.core.times import SECOND
from tests.sim.checks import Evidence, Violation, bare_stretches, opens, waived
from tests.sim.truth import Executed, Phase, StopReported, Wired


class Channel(Struct, frozen=True):
    """What still holds without it."""

    bare_seconds: float  # a position may be without cover for so long
    settles: bool  # books and venue agree in the end, and what was accepted is at its end
    executes: bool  # a fresh signal is executed
    flattens: bool  # a stop leaves no position


CHANNELS: dict[str, Channel] = {
    # Polled every two seconds; nothing opens, and nobody is told "executed" on hearsay.
    "the private stream": Channel(bare_seconds=8, settles=True, executes=False, flattens=True),
    # Connected, answering pings, and silent: an entry's end is asked for, the rest found out by the rounds, ten seconds
    # apart while something is open.
    "what the stream says": Channel(bare_seconds=12, settles=True, executes=True, flattens=True),
    "queries": Channel(bare_seconds=3, settles=True, executes=True, flattens=True),
    # What stands at the venue is all there is; orders and cancels go out and nothing comes of them.
    "order entry": Channel(bare_seconds=1, settles=False, executes=False, flattens=False),
    "the source": Channel(bare_seconds=3, settles=True, executes=False, flattens=True),
    "the sink": Channel(bare_seconds=3, settles=True, executes=True, flattens=True),
    # Nothing opens; closers go out without a record.
    "the disk": Channel(bare_seconds=6, settles=False, executes=False, flattens=True),
}
RESTARTED = ("the private stream", "the source", "the sink")  # an engine can be started without these


def check_dead(e: Evidence, name: str, found: Sequence[Violation]) -> list[Violation]:
    """`found` is what the other checks say of the whole run."""
    channel = CHANNELS[name]
    kept = [v for v in found if not _excused(v, name)]
    return [
        *kept,
        *_cover_is_kept_up(e, channel),
        *_nothing_opens_without_a_record(e, name),
        *_a_stop_is_told_as_it_was(e, channel),
    ]


def _excused(v: Violation, name: str) -> bool:
    """What did not reach the dead sink waits for it, or its cursor would stand too far; the other one has it all."""
    return name == "the sink" and v.invariant == "I25" and v.text.endswith("did not reach sim")


def died_ns(e: Evidence) -> int:
    return next(x.at_ns for x in e.entries if isinstance(x, Phase) and x.name == "dead")


def _cover_is_kept_up(e: Evidence, channel: Channel) -> Iterator[Violation]:
    """P5, as far as the channel allows."""
    began = died_ns(e)
    for bare in bare_stretches(e):
        length = bare.until_ns - max(bare.since_ns, began)
        if length > channel.bare_seconds * SECOND and not waived(e, bare.symbol):
            text = f"{bare.symbol} was without cover for {length / SECOND:.1f} s, with a channel dead"
            yield Violation("I31", max(bare.since_ns, began), text)


def _nothing_opens_without_a_record(e: Evidence, name: str) -> Iterator[Violation]:
    """STO2: entries stop with the disk."""
    for entry in e.entries:
        if isinstance(entry, Wired) and name == "the disk" and entry.at_ns > died_ns(e) and opens(entry.order):
            yield Violation("I2", entry.at_ns, f"{entry.order.cid} opens, and nothing can be written down")


def _a_stop_is_told_as_it_was(e: Evidence, channel: Channel) -> Iterator[Violation]:
    """P7: the stop at the end leaves nothing, or says that it does."""
    positions: dict[str, Decimal] = {}
    told: StopReported | None = None
    for entry in e.entries:
        if isinstance(entry, Executed):
            positions[entry.symbol] = entry.position
        elif isinstance(entry, StopReported) and entry.at_ns > died_ns(e):
            told = entry
            if entry.flat and any(_closable(e, s, q) for s, q in positions.items()):
                yield Violation("P7", entry.at_ns, f"a stop was called done, and {positions} were held")
    if told is None:
        yield Violation("P7", e.end_ns, "the stop at the end was never answered")
    left = {s: q for s, q in positions.items() if _closable(e, s, q)}
    if channel.flattens and left:
        yield Violation("P7", e.end_ns, f"{left} are held after a stop that could have flattened")


def _closable(e: Evidence, symbol: str, qty: Decimal) -> bool:
    rules = e.instruments[symbol]
    return abs(qty) // rules.lot * rules.lot >= max(rules.qty_min, ZERO)
