"""`python -m tests.crash --kills 300 [--seed N]`: kill -9 at every named place and at random times, then the checker.

Exit code 0 when every promise held, 1 when one did not; then the folder of the world is kept, with the journal, the
venue's memory, the witness and the logs.
"""

import argparse
import sys
from contextlib import ExitStack
from pathlib import Path

from bench.postgres import binaries, throwaway
from engine.core.money import use_exact_context
from tests.crash.matrix import RANDOM, Total, run_matrix
from tests.crash.points import points_of
from tests.crash.wires import VENUES


def main(given: list[str]) -> int:
    use_exact_context()
    parser = argparse.ArgumentParser(prog="python -m tests.crash", description=__doc__)
    parser.add_argument("--kills", type=int, default=60, help="how many (default 60)")
    parser.add_argument("--seed", type=int, default=1, help="of the first world (default 1)")
    parser.add_argument("--each", type=int, default=30, help="kills in one world, on one journal (default 30)")
    parser.add_argument("--parallel", type=int, default=2, help="worlds at a time (default 2)")
    parser.add_argument("--mutant", default="", help="with a seeded bug, by its name in tests.sim.mutants")
    parser.add_argument("--only", type=int, metavar="SEED", help="of these worlds, the one of this seed")
    parser.add_argument(
        "--journal", choices=("sqlite", "postgresql"), default="sqlite", help="where it is (%(default)s)"
    )
    parser.add_argument("--venue", choices=tuple(VENUES), default="paper", help="who keeps the truth (default paper)")
    parser.add_argument(
        "--engines", type=int, choices=(1, 2), default=1, help="2: one stands by, and takes every killed one's accounts"
    )
    arguments = parser.parse_args(given)
    if arguments.engines > 1 and arguments.journal != "postgresql":
        parser.error("two engines share a journal on a server: --journal postgresql")
    with ExitStack() as stack:
        server = stack.enter_context(throwaway(_binaries())) if arguments.journal == "postgresql" else None
        total = run_matrix(
            arguments.kills,
            arguments.seed,
            arguments.each,
            arguments.parallel,
            mutant=arguments.mutant,
            only=arguments.only,
            venue=arguments.venue,
            server=server,
            engines=arguments.engines,
        )
    print("\n".join(lines(total, arguments.venue)))
    for seed, violation in total.violations:
        print(f"seed {seed}: {violation.invariant} at {violation.at_ns}: {violation.text}", file=sys.stderr)
    for told in total.worlds:
        if told.violations:
            again = " ".join(["python -m tests.crash", *given]) + f" --only {told.seed}"
            print(f"seed {told.seed}: kept in {told.kept}; again: {again}", file=sys.stderr)
    return 1 if total.violations else 0


def _binaries() -> Path:
    found = binaries()
    if found is None:
        raise SystemExit("no PostgreSQL server is installed here (Debian: apt-get install postgresql)")
    return found


def lines(total: Total, venue: str = "paper") -> list[str]:
    """The report."""
    kills = sum(total.kills.values())
    killing = sum(told.seconds for told in total.worlds)
    found = [f"{'place':20}{'4.2':>6}{'kills':>8}{'not reached':>14}"]
    for name, point in points_of(venue).items():
        found.append(f"{name:20}{point.number:>6}{total.kills[name]:8d}{total.missed[name]:14d}")
    found.append(f"{RANDOM:20}{'':6}{total.kills[RANDOM]:8d}")
    signals, orders = (sum(getattr(told, name) for told in total.worlds) for name in ("signals", "orders"))
    found.append(
        f"{kills} kills in {len(total.worlds)} worlds, {total.seconds:.0f} s: {kills / total.seconds:.2f} kills/s "
        f"({killing / max(kills, 1):.2f} s each in its world), {signals} signals, {orders} orders at the venues, "
        f"{len(total.violations)} violations"
    )
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
