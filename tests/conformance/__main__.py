"""`python -m tests.conformance VENUE`: the kit from the command line."""

import argparse
import os
import sys
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path

import msgspec
import structlog
import trio

from engine.core.money import cents, use_exact_context
from engine.runtime.commandline import FAILED, OK, REFUSED, UNREACHABLE, USAGE
from engine.runtime.config import Config, ConfigError, load
from engine.venues.admission import Inadmissible
from engine.venues.keys import KeyProblem
from tests.conformance.bench import Bench
from tests.conformance.cases import CASES, Case
from tests.conformance.running import Result, Unreachable, run_all
from tests.conformance.sites import OFFERS, SITES
from tests.conformance.testnet import Unfit, account_of, at_testnet, environment_of, worth

ABOUT = """\
examples:
  python -m tests.conformance bybit-linear               against the local exchange, with faults
  python -m tests.conformance binance-spot --socket      the same, orders by the venue's order socket
  python -m tests.conformance all --json                 every venue
  python -m tests.conformance bybit-linear --config my.toml
                                                         at the host of my.toml's account, with its keys: small
                                                         orders, no faults; asks before it sends (--yes: does not)

exit codes:
  0  every case passed, was skipped or is not offered
  1  a case failed
  2  wrong arguments or config
  3  the venue cannot be reached
  4  refused: real money without --mainnet, a key or an account that must not be traded with, or a no to the question
"""


def main(words: list[str]) -> int:
    use_exact_context()
    asked = _parser().parse_args(words)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))  # what a case provokes is expected
    cases = tuple(case for case in CASES if not asked.only or case.number in asked.only)
    try:
        if asked.config:
            return _at_testnet(asked, cases)
        names = tuple(SITES) if asked.venue == "all" else (asked.venue,)
        codes = [_show(name, partial(SITES[name], asked.socket), cases, asked.json) for name in names]
        return max(codes)
    except (Unfit, ConfigError) as problem:
        return _say(USAGE, problem)
    except (Inadmissible, KeyProblem) as problem:
        return _say(REFUSED, problem)
    except Unreachable as problem:
        return _say(UNREACHABLE, problem)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.conformance",
        description="Does a venue's adapter keep what the engine relies on? One numbered list of cases.",
        epilog=ABOUT,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("venue", choices=("all", *SITES))
    parser.add_argument("--config", type=Path, help="a config file: run at its account's venue, with its keys")
    parser.add_argument("--only", type=int, nargs="+", metavar="N", help="these cases")
    parser.add_argument("--socket", action="store_true", help="orders by the order socket (local exchange only)")
    parser.add_argument("--yes", action="store_true", help="do not ask before orders are sent")
    parser.add_argument("--mainnet", action="store_true", help="with --config: yes, with real money")
    parser.add_argument("--json", action="store_true")
    return parser


def _at_testnet(asked: argparse.Namespace, cases: tuple[Case, ...]) -> int:
    if asked.venue not in OFFERS:
        raise Unfit(f"{asked.venue} is no venue across a network")
    config = load(asked.config)
    name, section = account_of(config, asked.venue)
    environment = environment_of(section)
    if environment == "live" and not asked.mainnet:
        return _say(REFUSED, f"{section.host} trades real money; if that is meant, say --mainnet")
    if not _agreed(asked, config, name, f"{section.host} ({environment})"):
        return REFUSED
    run_id = f"{asked.venue}/{time.time_ns()}"  # ids must differ from those of every earlier run
    numbers = iter(range(1, 10_000))

    def place() -> AbstractAsyncContextManager[Bench]:
        return at_testnet(config, name, asked.venue, os.environ, f"{run_id}/{next(numbers)}")

    return _show(asked.venue, place, cases, asked.json, faults=False)


def _agreed(asked: argparse.Namespace, config: Config, name: str, where: str) -> bool:
    if asked.yes:
        return True
    instrument, value = trio.run(worth, config, name, asked.venue, os.environ)
    print(
        f"account {name} at {where}: up to {len(CASES)} cases with a few orders in {instrument.symbol} each, "
        f"of about {cents(value)} {instrument.quote}; what they buy is sold again, fees are lost."
    )
    try:
        return input("Send them? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        return False


def _show(
    venue: str,
    place: Callable[[], AbstractAsyncContextManager[Bench]],
    cases: tuple[Case, ...],
    as_json: bool,
    faults: bool = True,
) -> int:
    results: list[Result] = []

    async def each() -> None:
        async for result in run_all(cases, place, faults):
            results.append(result)
            if not as_json:
                print(_line(result), flush=True)

    if not as_json:
        print(f"{venue}")
    trio.run(each)
    counts = {how: sum(r.how == how for r in results) for how in ("passed", "failed", "skipped", "not offered")}
    if as_json:
        body = {"venue": venue, "counts": counts, "cases": msgspec.to_builtins(results)}
        print(msgspec.json.encode(body).decode())
    else:
        print(", ".join(f"{count} {how}" for how, count in counts.items()))
    return FAILED if counts["failed"] else OK


def _line(result: Result) -> str:
    why = f": {result.why}" if result.why else ""
    return f"{result.number:3}  {result.how:11}  {result.name}{why}"


def _say(code: int, problem: object) -> int:
    print(problem, file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
