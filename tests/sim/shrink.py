"""From a failing world to the smallest that fails in the same way: what a run leaves out of what its seed draws.

First whole families of faults go, then signals, then kills, greedily, each step kept only when the first broken
invariant is the same one. What is left out changes no draw of the rest, so the shrunk run is one command, too.
"""

import argparse
import time
from collections.abc import Callable, Iterator

from msgspec import Struct
from msgspec.structs import replace

from tests.sim.checks import Violation
from tests.sim.faults import FACES, FAMILIES, Faults, Options, owned
from tests.sim.world import Report


class Cut(Struct, frozen=True):
    """What is left of a seed's draws: these families (None: all), so many signals (None: all), without the skipped
    ones, and without the kills that are spared. Signals and kills are numbered from 1, as they come."""

    families: tuple[str, ...] | None = None
    signals: int | None = None
    skipped: tuple[int, ...] = ()
    spared: tuple[int, ...] = ()
    whole: bool = False  # without the third phase, in which one channel dies for ever
    face: str = ""  # whose protocol, in place of what the seed draws

    def apply(self, options: Options) -> Options:
        load = replace(options.load, skipped=self.skipped)
        if self.signals is not None:
            load = replace(load, signals=min(self.signals, load.signals))
        dead, face = "" if self.whole else options.dead, self.face or options.face
        options = replace(options, load=load, spared=self.spared, dead=dead, face=face)
        return options if self.families is None else only(options, self.families)

    def arguments(self) -> str:
        """As a command line has it."""
        parts = []
        if self.families is not None:
            parts.append(f'--families "{", ".join(self.families)}"')
        if self.signals is not None:
            parts.append(f"--signals {self.signals}")
        for name, numbers in (("skip", self.skipped), ("spare", self.spared)):
            if numbers:
                parts.append(f"--{name} {','.join(map(str, numbers))}")
        if self.whole:
            parts.append("--no-third-phase")
        if self.face:
            parts.append(f"--face {self.face}")
        return " ".join(parts)


class Shrunk(Struct, frozen=True):
    """The smallest world found, in how many runs, and whether time ran out before all was tried."""

    cut: Cut
    report: Report
    runs: int
    seconds: float
    cut_short: bool


Run = Callable[[Cut], Report | None]  # None: it made no headway
Edit = Callable[[Cut], Cut]


def first_broken(report: Report) -> Violation:
    """The violation that came first in time."""
    return min(report.violations, key=lambda violation: violation.at_ns)


def only(options: Options, families: tuple[str, ...]) -> Options:
    """The same options without the faults of other families; whatever else was set by hand stays."""
    kept = {field for name in families for field in owned(name)}
    gone = {field for name in options.families if name not in families for field in owned(name)} - kept
    usual = Faults()
    faults = replace(options.faults, **{field: getattr(usual, field) for field in gone})
    return replace(options, faults=faults, families=tuple(f for f in options.families if f in families))


def shrink(run: Run, whole: Report, seconds: float, cut: Cut = Cut()) -> Shrunk:
    """Leave out what can be left out, for at most so many seconds of real time. `whole` must have violations."""
    began = time.monotonic()
    invariant = first_broken(whole).invariant
    best, report, runs = cut, whole, 0
    before = None
    while before != (before := _size(report)):  # until a whole round has made nothing smaller
        for edit in (edit for kind in (_third_phase, _families, _signals, _kills) for edit in kind(report)):
            smaller = edit(best)
            if smaller == best:
                continue
            if time.monotonic() - began > seconds:
                return Shrunk(best, report, runs, time.monotonic() - began, cut_short=True)
            tried = run(smaller)
            runs += 1
            if tried is None or not tried.violations or first_broken(tried).invariant != invariant:
                continue
            if _size(tried) < _size(report):  # without one kill there may be more of others
                best, report = smaller, tried
    return Shrunk(best, report, runs, time.monotonic() - began, cut_short=False)


def _size(report: Report) -> tuple[bool, int, int, int]:
    options, load = report.options, report.options.load
    return bool(options.dead), len(options.families), load.signals - len(load.skipped), report.crashes


def _third_phase(report: Report) -> Iterator[Edit]:
    yield lambda cut: replace(cut, whole=bool(report.options.dead) or cut.whole)


def _families(report: Report) -> Iterator[Edit]:
    """Without any, without one half, without the other, without each."""
    on = report.options.families
    middle = len(on) // 2

    def without(gone: tuple[str, ...]) -> Edit:
        def edit(cut: Cut) -> Cut:
            present = on if cut.families is None else cut.families
            return replace(cut, families=tuple(f for f in present if f not in gone))

        return edit

    return map(without, (on, on[:middle], on[middle:], *((name,) for name in on)))


def _signals(report: Report) -> Iterator[Edit]:
    """The shortest beginning that does, of those of doubling length; then without each signal."""
    count = report.options.load.signals

    def beginning(length: int) -> Edit:
        def edit(cut: Cut) -> Cut:
            if cut.signals is not None and cut.signals <= length:
                return cut
            return replace(cut, signals=length, skipped=tuple(n for n in cut.skipped if n <= length))

        return edit

    def without(number: int) -> Edit:
        def edit(cut: Cut) -> Cut:
            if number in cut.skipped or number > (count if cut.signals is None else cut.signals):
                return cut
            return replace(cut, skipped=tuple(sorted((*cut.skipped, number))))

        return edit

    lengths = [0] + [2**n for n in range(20)]
    yield from (beginning(length) for length in lengths if length < count)
    yield from map(without, range(1, count + 1))


def _kills(report: Report) -> Iterator[Edit]:
    """Without any, then without each. A kill that is spared may bring others, which are numbered after it."""

    def without(gone: range) -> Edit:
        return lambda cut: replace(cut, spared=tuple(sorted({*cut.spared, *gone})))

    numbers = range(1, report.kills + 1)
    return map(without, (numbers, *(range(n, n + 1) for n in numbers)))


# --------------------------------------------------------------------------------------------------- on a command line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments that `Cut.arguments` writes, and those that ask for shrinking."""
    parser.add_argument(
        "--shrink", action="store_true", help="after a violation leave out what can be left out, and show what remains"
    )
    parser.add_argument(
        "--shrink-seconds", type=float, default=60.0, metavar="T", help="at most so long (real time; default 60)"
    )
    parser.add_argument(
        "--families", type=_names, metavar="A,B", help='only these families of faults of the seed ("" for none)'
    )
    parser.add_argument("--signals", type=int, metavar="N", help="only the first N signals of the seed")
    parser.add_argument("--skip", type=_numbers, default=(), metavar="I,J", help="without these signals")
    parser.add_argument("--spare", type=_numbers, default=(), metavar="I,J", help="without these kills")
    parser.add_argument("--no-third-phase", action="store_true", help="without the channel that dies for ever")
    parser.add_argument(
        "--face", choices=("memory", *FACES), default="", help="the venue's protocol, in place of what each seed draws"
    )


def of_arguments(arguments: argparse.Namespace) -> Cut:
    dropped = (arguments.families, arguments.signals, arguments.skip, arguments.spare, arguments.no_third_phase)
    return Cut(*dropped, arguments.face)


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    unknown = [name for name in names if name not in FAMILIES]
    if unknown:
        raise argparse.ArgumentTypeError(f"there is no family {unknown}; there are {', '.join(FAMILIES)}")
    return names


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(sorted(int(number) for number in text.split(",") if number))
    except ValueError:
        raise argparse.ArgumentTypeError(f"numbers with commas between them, not '{text}'") from None
