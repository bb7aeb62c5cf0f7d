"""`python -m bench NAME [options] [--json FILE]`: which measurements there are, and what each of them asks."""

import argparse
import sys
from importlib import import_module
from pathlib import Path

import msgspec

from engine.core.money import use_exact_context

NAMES = ("path", "sustained", "core", "memory", "recovery", "exchange", "peers", "soak", "durable", "kafka", "takeover")


def main(given: list[str]) -> int:
    """Exit code 0 when the measurement could be made, 1 when something was lost on the way."""
    use_exact_context()
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    names = parser.add_subparsers(dest="name", required=True)
    modules = {name: import_module(f"bench.{name}") for name in NAMES}
    for name, module in modules.items():
        question = (module.__doc__ or "").strip().splitlines()[0]
        options = names.add_parser(name, help=question, description=module.__doc__)
        module.add_options(options)
        options.add_argument("--json", type=Path, help="write the figures into this file")
    arguments = parser.parse_args(given)
    module = modules[arguments.name]
    report = module.measure(arguments)
    print("\n".join(module.lines(report)))
    if arguments.json:
        arguments.json.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    return 0 if getattr(report, "complete", True) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
