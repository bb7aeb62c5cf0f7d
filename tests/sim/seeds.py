"""Many worlds: run seeds, say how many and how long, and on the first broken promise everything that replays it."""

import argparse
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence

import msgspec

from tests.sim.faults import describe
from tests.sim.truth import line
from tests.sim.world import BEGAN_NS, Report, run_seed

STUCK_SECONDS = 120  # of real time, for one seed: a loop that lets no time pass
TAIL = 200


class Stuck(Exception):
    """A seed took so long that something must be spinning."""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 0 when every seed kept every promise, 1 when one did not."""
    parser = argparse.ArgumentParser(
        prog="run.py simulate",
        description="Run the whole engine in worlds drawn from seeds, and check the promises P1 to P5 after each.",
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="how many worlds (default 1)")
    parser.add_argument("--seed", type=int, default=1, metavar="S", help="the first of them (default 1)")
    parser.add_argument("--verbose", action="store_true", help="print each seed's options and the whole trace")
    parser.add_argument("--log", action="store_true", help="let the engine's own log through")
    parser.add_argument("--twice", action="store_true", help="run each seed twice and compare the traces")
    parser.add_argument("--keep-going", action="store_true", help="do not end at the first violation")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    arguments = parser.parse_args(argv)
    result = Result()
    began = time.perf_counter()
    for seed in range(arguments.seed, arguments.seed + arguments.seeds):
        report = limited(seed, arguments.log)
        result.add(report)
        if arguments.twice and limited(seed).trace_hash != report.trace_hash:
            result.broken.append(seed)
            print(f"seed {seed}: two runs, two traces", file=sys.stderr)
        if arguments.verbose:
            print(describe(report.options), file=sys.stderr)
            tell_trace(report, len(report.truth.entries))
        if report.violations:
            tell(report)
            if not arguments.keep_going:
                break
    result.tell(time.perf_counter() - began, arguments.json)
    return 1 if result.broken else 0


class Result:
    """What a number of seeds came to."""

    def __init__(self) -> None:
        self.seeds = self.crashes = self.entries = 0
        self.facts: Counter[str] = Counter()
        self.simulated = 0.0
        self.bare_max = 0.0
        self.broken: list[int] = []
        self.violations: Counter[str] = Counter()
        self.reached: Counter[str] = Counter()
        self.hashes: dict[int, str] = {}

    def add(self, report: Report) -> None:
        self.seeds += 1
        self.crashes += report.crashes
        self.entries += len(report.truth.entries)
        self.simulated += report.seconds
        self.facts.update(type(r.fact).__name__ for r in report.evidence.records)
        self.bare_max = max(self.bare_max, report.bare_max)
        self.reached.update(report.truth.reached)
        self.violations.update(v.invariant for v in report.violations)
        self.hashes[report.seed] = report.trace_hash
        if report.violations:
            self.broken.append(report.seed)

    def tell(self, seconds: float, as_json: bool) -> None:
        summary = {
            "seeds": self.seeds,
            "violating_seeds": self.broken,
            "violations": dict(self.violations.most_common()),
            "crashes": self.crashes,
            "effects": self.entries,
            "simulated_hours": round(self.simulated / 3600, 2),
            "seeds_per_second": round(self.seeds / seconds, 2),
            "uncovered_seconds_max": round(self.bare_max, 1),
            "facts": dict(self.facts.most_common()),
            "reached": dict(sorted(self.reached.items())),
            "trace_hashes": {str(k): v for k, v in self.hashes.items()} if self.seeds <= 100 else {},
        }
        if as_json:
            print(msgspec.json.encode(summary).decode())
            return
        print(
            f"{self.seeds} seeds, {len(self.broken)} with violations; {summary['simulated_hours']} simulated hours, "
            f"{self.crashes} crashes, {self.entries} effects; {summary['seeds_per_second']} seeds/s"
        )
        print(f"longest time without cover: {self.bare_max:.1f} s (faults included)")
        print("facts: " + ", ".join(f"{count} {name}" for name, count in self.facts.most_common()))
        for goal, count in sorted(self.reached.items()):
            print(f"  {count:8}  {goal}")
        for invariant, count in self.violations.most_common():
            print(f"  {count:8}  violations of {invariant}")
        if self.broken:
            print(f"violating seeds: {self.broken[:50]}")


def limited(seed: int, log: bool = False) -> Report:
    """One seed, ended when it makes no headway."""

    def stuck(signum: int, frame: object) -> None:
        raise Stuck(f"seed {seed} ran for {STUCK_SECONDS} s")

    before = signal.signal(signal.SIGALRM, stuck)
    signal.alarm(STUCK_SECONDS)
    try:
        return run_seed(seed, log=log)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def tell(report: Report) -> None:
    """Everything a person needs to see it again."""
    print("-" * 120, file=sys.stderr)
    print(describe(report.options), file=sys.stderr)
    tell_trace(report, TAIL)
    print(f"{len(report.violations)} violation(s):", file=sys.stderr)
    for violation in report.violations[:20]:
        seconds = (violation.at_ns - BEGAN_NS) / 1e9
        print(f"  {violation.invariant:5} at {seconds:.3f} s: {violation.text}", file=sys.stderr)
    print(f"replay: python run.py simulate --seed {report.seed}", file=sys.stderr)


def tell_trace(report: Report, count: int) -> None:
    for entry in report.truth.entries[-count:]:
        print(line(entry, BEGAN_NS), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
