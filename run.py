"""The command line: reads the arguments and calls the one function of actors/commands that does what they say.

Each is imported when it is called, so that `--help` answers at once, and a `stop` loads no more than it needs.
"""

import os
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence

from engine.runtime.commandline import INTERRUPTED, OK, Quit, parser


def main(argv: Sequence[str] | None = None) -> int:
    """Returns the exit code. Wrong arguments leave by SystemExit(2), as argparse does it."""
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        if given[:1] == ["simulate"]:
            return _simulate(given[1:])
        arguments = parser().parse_args(given)
        return COMMANDS[arguments.command](arguments)
    except Quit as quit_:
        print(f"surefire: {quit_}", file=sys.stderr)
        return quit_.code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read our output (`| head`) has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return OK


def _run(arguments: Namespace) -> int:
    from actors.commands.live import run

    return run(arguments)


def _demo(arguments: Namespace) -> int:
    from actors.commands.demo import demo

    return demo(arguments)


def _venue(arguments: Namespace) -> int:
    from actors.commands.venue import venue

    return venue(arguments)


def _exchange(arguments: Namespace) -> int:
    from actors.commands.exchange import exchange

    return exchange(arguments)


def _check(arguments: Namespace) -> int:
    from actors.commands.checking import check

    return check(arguments)


def _explain(arguments: Namespace) -> int:
    from actors.commands.looking import explain

    return explain(arguments)


def _audit(arguments: Namespace) -> int:
    from actors.commands.looking import audit

    return audit(arguments)


def _journal(arguments: Namespace) -> int:
    from actors.commands.keeping import keep

    return keep(arguments)


def _keys(arguments: Namespace) -> int:
    from actors.commands.keys import keys

    return keys(arguments)


def _stop(arguments: Namespace) -> int:
    from actors.commands.steering import stop

    return stop(arguments)


def _resume(arguments: Namespace) -> int:
    from actors.commands.steering import resume

    return resume(arguments)


def _flatten(arguments: Namespace) -> int:
    from actors.commands.steering import flatten

    return flatten(arguments)


def _limits(arguments: Namespace) -> int:
    from actors.commands.steering import limits

    return limits(arguments)


def _clear(arguments: Namespace) -> int:
    from actors.commands.clearing import clear

    return clear(arguments)


def _simulate(given: list[str]) -> int:
    from actors.commands.worlds import simulate

    return simulate(given)


COMMANDS: dict[str, Callable[[Namespace], int]] = {
    "run": _run,
    "demo": _demo,
    "venue": _venue,
    "exchange": _exchange,
    "check": _check,
    "explain": _explain,
    "audit": _audit,
    "journal": _journal,
    "keys": _keys,
    "stop": _stop,
    "resume": _resume,
    "flatten": _flatten,
    "limits": _limits,
    "clear": _clear,
}

if __name__ == "__main__":
    sys.exit(main())
