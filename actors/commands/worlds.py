"""`simulate`: the seeds' own command line. Their worlds are in the tests, which an installed package does not carry."""

import sys
from importlib import import_module
from pathlib import Path

import actors
from engine.core.money import use_exact_context
from engine.runtime.commandline import REFUSED, Quit

ROOT = Path(actors.__file__).resolve().parent.parent


def simulate(given: list[str]) -> int:
    """It has arguments of its own, and its own --help."""
    if not (ROOT / "tests" / "sim" / "seeds.py").exists():
        why = "simulate runs the worlds of tests/sim, which an installed package does not carry: use a checkout"
        raise Quit(REFUSED, why)
    sys.path.insert(0, str(ROOT))
    use_exact_context()
    code: int = import_module("tests.sim.seeds").main(given)
    return code
