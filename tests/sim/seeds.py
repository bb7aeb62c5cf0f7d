"""Many worlds: run seeds, say how many and how long and what came up, and on a broken promise everything that replays
it."""

import argparse
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from functools import partial
from hashlib import blake2b
from typing import TypeVar

import msgspec
import trio
from msgspec import Struct

from engine.runtime.commandline import INTERRUPTED
from engine.runtime.terminal import progress
from tests.sim import shrink
from tests.sim.checks import Violation
from tests.sim.faults import Options, describe, draw
from tests.sim.reach import ELSEWHERE, GOALS, NEEDED_IN, reached
from tests.sim.shrink import Cut, first_broken
from tests.sim.truth import line
from tests.sim.world import BEGAN_NS, Report, run_seed

T = TypeVar("T")
R = TypeVar("R")

STUCK_SECONDS = 120  # on a processor, for one seed: a loop that lets no time pass
TAIL = 200
TELL_SECONDS = 30.0  # how often a long run tells where it is, when nobody sees a bar

EXAMPLES = """\
examples:
  run.py simulate --seeds 200                 the worlds of the seeds 1 to 200, on all cores
  run.py simulate --seeds 1000                the full proof: each rare situation must come up, too
  run.py simulate --seed 41                   one world again, to the byte; its trace hash shows that it is the same
  run.py simulate --seed 41 --verbose         with its options and the whole trace
  run.py simulate --seed 41 --shrink          the smallest world that breaks the same promise first
  run.py simulate --seeds 20 --twice          each of them twice, compared
  run.py simulate --seeds 40 --face bybit     all of them by a real venue's protocol, through the shipped adapter
  run.py simulate --seeds 5000 --json         figures for a script

exit codes:
  0    every promise was kept, and every situation came up if there were 1,000 seeds or more
  1    a promise was broken, two runs of a seed differed, or a situation never came up in 1,000 seeds or more
  2    wrong arguments
  4    tests/sim is not there: this is an installed package, and the worlds are part of a checkout
  130  interrupted
"""


class Stuck(BaseException):
    """A seed took so long that something must be spinning."""


class Task(Struct, frozen=True):
    """How each seed is run, and what is wanted of it."""

    cut: Cut = Cut()
    twice: bool = False
    log: bool = False
    whole_trace: bool = False


class Ran(Struct):
    """What one seed came to, small enough to be handed from one process to another."""

    seed: int
    trace_hash: str = ""
    same: bool = True  # it was, when run twice
    violations: list[Violation] = []
    text: str = ""  # for a person: options, trace, violations
    crashes: int = 0
    effects: int = 0
    seconds: float = 0.0  # simulated
    bare_max: float = 0.0
    facts: dict[str, int] = {}
    reached: dict[str, int] = {}  # goals
    seen: dict[str, int] = {}  # what the world itself counted


def main(argv: Sequence[str] | None = None) -> int:
    """See the exit codes above."""
    arguments = _arguments(argv)
    codes = [INTERRUPTED]
    try:
        codes.append(_main(arguments))
    except* KeyboardInterrupt:  # out of a nursery it comes in a group
        pass
    return codes[-1]


def _main(arguments: argparse.Namespace) -> int:
    task = Task(shrink.of_arguments(arguments), arguments.twice, arguments.log, arguments.verbose)
    seeds = range(arguments.seed, arguments.seed + arguments.seeds)
    result, began = Result(), time.perf_counter()
    with _progress(len(seeds)) as show, closing(runs(seeds, task, arguments.jobs)) as running:
        for ran in running:
            result.add(ran)
            show(result.seeds, f"{result.seeds / (time.perf_counter() - began):.1f} seeds/s, {result.hours:.1f} h")
            if ran.text:
                print(ran.text, file=sys.stderr)
            if not ran.same:
                print(f"seed {ran.seed}: two runs, two traces", file=sys.stderr)
            if ran.violations and not arguments.keep_going:
                break
    result.tell(time.perf_counter() - began, arguments.json)
    if arguments.shrink and result.violations:
        shrink_seed(arguments.seed, task, arguments.shrink_seconds)
    return 1 if result.broken or result.missing else 0


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="run.py simulate",
        description="Run the whole engine in worlds drawn from seeds, and check the promises P1 to P5 after each.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="how many worlds (default 1)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="the first of them (default 1)")
    parser.add_argument(
        "--jobs",
        type=int,
        default=cores(),
        metavar="J",
        help="processes at once (default: the cores there are); changes nothing in the result",
    )
    parser.add_argument("--verbose", action="store_true", help="print each seed's options and the whole trace")
    parser.add_argument("--log", action="store_true", help="let the engine's own log through")
    parser.add_argument("--twice", action="store_true", help="run each seed twice and compare the traces")
    parser.add_argument("--keep-going", action="store_true", help="do not end at the first violation")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    shrink.add_arguments(parser)
    arguments = parser.parse_args(argv)
    if arguments.seeds < 1:
        parser.error("--seeds: at least 1; a run of no worlds would prove nothing")
    if arguments.jobs < 1:
        parser.error("--jobs: at least 1")
    if arguments.seeds > 1 and (arguments.shrink or shrink.of_arguments(arguments) != Cut(face=arguments.face)):
        parser.error("what shrinks, or was shrunk, is a single seed: --seed S")
    return arguments


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


# ------------------------------------------------------------------------------------------------------- running them


def runs(seeds: Sequence[int], task: Task = Task(), jobs: int = 1) -> Iterator[Ran]:
    """Each seed's end, in the order of the seeds, whatever the number of processes."""
    yield from spread(partial(run_one, task=task), seeds, jobs)


def spread(one: Callable[[T], R], items: Sequence[T], jobs: int) -> Iterator[R]:
    """`map` over so many processes, in order; in this one when there is no need for another."""
    if min(jobs, len(items)) == 1:
        yield from map(one, items)
        return
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn"
    with multiprocessing.get_context(method).Pool(min(jobs, len(items)), _quiet_worker) as pool:
        yield from pool.imap(one, items)


def _quiet_worker() -> None:
    """Ctrl-C is the parent's business."""
    from engine.core.money import use_exact_context

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    use_exact_context()


def run_one(seed: int, task: Task) -> Ran:
    options = task.cut.apply(draw(seed))
    report = limited(options, task.log)
    if report is None:
        text = f"seed {seed} worked for {STUCK_SECONDS} s: a loop that lets no time pass"
        stuck = Violation("STUCK", BEGAN_NS, text)
        return Ran(seed, violations=[stuck], text=f"{describe(options)}\n{text}\n{replay(seed, task.cut)}")
    ran = Ran(
        seed=seed,
        trace_hash=report.trace_hash,
        violations=report.violations,
        crashes=report.crashes,
        effects=len(report.truth.entries),
        seconds=report.seconds,
        bare_max=report.bare_max,
        facts=Counter(type(r.fact).__name__ for r in report.evidence.records),
        reached=reached(report.evidence, report.truth),
        seen=report.truth.reached,
    )
    if report.violations:
        ran.text = story(report, len(report.truth.entries) if task.whole_trace else TAIL, replay(seed, task.cut))
    elif task.whole_trace:
        ran.text = "\n".join([describe(report.options), *trace(report, len(report.truth.entries))])
    if task.twice:
        second = limited(options)
        ran.same = second is not None and second.trace_hash == report.trace_hash
    return ran


def limited(options: Options, log: bool = False) -> Report | None:
    """One seed; None when it made no headway."""
    reports: list[Report] = []
    try:
        with time_limit(STUCK_SECONDS):
            reports.append(run_seed(options.seed, options, log=log))
    except* Stuck:
        pass
    return reports[0] if reports else None


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raises Stuck in whatever task is at work by then, never in the midst of trio's own bookkeeping.

    Seconds on a processor: a world that was kept waiting by the machine, or stopped, has not stood still itself.
    """

    def stuck(signum: int, frame: object) -> None:
        if not trio.lowlevel.currently_ki_protected():
            signal.setitimer(signal.ITIMER_PROF, 0)
            raise Stuck

    before = signal.signal(signal.SIGPROF, stuck)
    signal.setitimer(signal.ITIMER_PROF, seconds, 0.001)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


def shrink_seed(seed: int, task: Task, seconds: float) -> None:
    """Make a broken world smaller, and tell what remains."""
    options = draw(seed)
    whole = limited(task.cut.apply(options))
    if whole is None:
        print("a world that makes no headway cannot be shrunk in time", file=sys.stderr)
        return

    shrunk = shrink.shrink(lambda cut: limited(cut.apply(options)), whole, seconds, task.cut)
    print(story(shrunk.report, TAIL, replay(seed, shrunk.cut)), file=sys.stderr)
    print(shrunk_from(whole, shrunk), file=sys.stderr)


def shrunk_from(whole: Report, shrunk: shrink.Shrunk) -> str:
    """How much smaller it is."""
    report = shrunk.report
    return (
        f"shrunk in {shrunk.runs} runs, {shrunk.seconds:.0f} s{' (time ran out)' if shrunk.cut_short else ''}: "
        f"families {len(whole.options.families)} -> {len(report.options.families)}, "
        f"signals {_offered(whole)} -> {_offered(report)}, kills {whole.crashes} -> {report.crashes}, "
        f"effects {len(whole.truth.entries)} -> {len(report.truth.entries)}; "
        f"still {first_broken(report).invariant} first"
    )


def _offered(report: Report) -> int:
    load = report.options.load
    return load.signals - len(load.skipped)


# --------------------------------------------------------------------------------------------------------- telling it


def replay(seed: int, cut: Cut) -> str:
    return f"replay: python run.py simulate --seed {seed} {cut.arguments()}".rstrip()


def story(report: Report, tail: int, command: str) -> str:
    """Everything a person needs to understand a broken promise, and the command that shows it again."""
    first = first_broken(report)
    lines = ["-" * 120, describe(report.options), *trace(report, tail)]
    lines.append(f"{len(report.violations)} violation(s); the first: {told(first)}")
    lines += [f"  {told(violation)}" for violation in report.violations[:20] if violation is not first]
    return "\n".join([*lines, f"trace {report.trace_hash}", command])


def told(violation: Violation) -> str:
    return f"{violation.invariant:5} at {(violation.at_ns - BEGAN_NS) / 1e9:.3f} s: {violation.text}"


def trace(report: Report, count: int) -> list[str]:
    return [line(entry, BEGAN_NS) for entry in report.truth.entries[-count:]]


class Result:
    """What a number of seeds came to."""

    def __init__(self) -> None:
        self.seeds = self.crashes = self.effects = 0
        self.facts: Counter[str] = Counter()
        self.simulated = 0.0
        self.bare_max = 0.0
        self.broken: list[int] = []
        self.violations: Counter[str] = Counter()
        self.goals: Counter[str] = Counter()
        self.goal_seeds: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.hashes: dict[int, str] = {}

    def add(self, ran: Ran) -> None:
        self.seeds += 1
        self.crashes += ran.crashes
        self.effects += ran.effects
        self.simulated += ran.seconds
        self.bare_max = max(self.bare_max, ran.bare_max)
        self.facts.update(ran.facts)
        self.goals.update(ran.reached)
        self.goal_seeds.update(ran.reached.keys())
        self.seen.update(ran.seen)
        self.violations.update(v.invariant for v in ran.violations)
        self.hashes[ran.seed] = ran.trace_hash
        if ran.violations or not ran.same:
            self.broken.append(ran.seed)

    @property
    def hours(self) -> float:
        """Simulated."""
        return self.simulated / 3600

    @property
    def never(self) -> list[str]:
        """Situations that did not come up."""
        return [goal for goal in GOALS if not self.goals[goal]]

    @property
    def missing(self) -> list[str]:
        """Situations that should have come up in so many seeds."""
        return self.never if self.seeds >= NEEDED_IN else []

    @property
    def trace_hash(self) -> str:
        """Of all runs together."""
        return blake2b("".join(self.hashes.values()).encode(), digest_size=16).hexdigest()

    def tell(self, seconds: float, as_json: bool) -> None:
        rate = self.seeds / seconds
        if as_json:
            print(msgspec.json.encode(self._summary(rate)).decode())
            return
        print(
            f"{self.seeds} seeds, {len(self.broken)} with violations; {self.hours:.2f} simulated hours, "
            f"{self.crashes} crashes, {self.effects} effects; {rate:.2f} seeds/s"
        )
        print(f"longest time without cover: {self.bare_max:.1f} s (faults included)")
        print("facts: " + ", ".join(f"{count} {name}" for name, count in self.facts.most_common()))
        self._tell_goals()
        for invariant, count in self.violations.most_common():
            print(f"  {count:8}  violations of {invariant}")
        if self.broken:
            print(f"violating seeds: {self.broken[:50]}")
        print(f"trace {self.hashes.popitem()[1] if self.seeds == 1 else self.trace_hash}")

    def _tell_goals(self) -> None:
        print(f"{'times':>10} {'seeds':>7}  situation")
        for goal in GOALS:
            if self.goals[goal]:
                print(f"{self.goals[goal]:10} {self.goal_seeds[goal]:7}  {goal}")
        if self.seeds == 1:
            return
        print(f"{len(GOALS) - len(self.never)} of {len(GOALS)} situations came up in {self.seeds} seeds")
        for goal in self.never:
            print(f"     NEVER          {goal}")
        for number, why in ELSEWHERE.items():
            print(f"  not here          crash point {number}: {why}")

    def _summary(self, rate: float) -> dict[str, object]:
        return {
            "seeds": self.seeds,
            "violating_seeds": self.broken,
            "violations": dict(self.violations.most_common()),
            "crashes": self.crashes,
            "effects": self.effects,
            "simulated_hours": round(self.hours, 2),
            "seeds_per_second": round(rate, 2),
            "uncovered_seconds_max": round(self.bare_max, 1),
            "facts": dict(self.facts.most_common()),
            "reach": {goal: {"times": self.goals[goal], "seeds": self.goal_seeds[goal]} for goal in GOALS},
            "never_reached": self.never,
            "also_seen": dict(sorted(self.seen.items())),
            "trace_hash": self.trace_hash,
            "trace_hashes": {str(k): v for k, v in self.hashes.items()} if self.seeds <= 1000 else {},
        }


@contextmanager
def _progress(total: int) -> Iterator[Callable[[int, str], None]]:
    """A bar in a terminal; elsewhere a line now and then, of runs that take long."""
    if sys.stderr.isatty():
        with progress("worlds", total) as show:
            yield show
        return
    told_at = time.monotonic()

    def tell(done: int, words: str) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= TELL_SECONDS:
            told_at = time.monotonic()
            print(f"{done} of {total} worlds, {words}", file=sys.stderr, flush=True)

    yield tell


if __name__ == "__main__":
    with suppress(BrokenPipeError):
        sys.exit(main())
