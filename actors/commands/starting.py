"""Around every command that runs things of ours: the log, and a sentence when one cannot start, not a traceback."""

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from engine.core.money import use_exact_context
from engine.market.recorded import BadTape
from engine.runtime.clock import live_clock
from engine.runtime.commandline import REFUSED, USAGE, Quit
from engine.runtime.config import Config
from engine.runtime.journal.base import Fenced, JournalFailed
from engine.runtime.log import configure
from engine.venues.admission import Inadmissible
from engine.venues.keys import KeyProblem
from engine.venues.store import StoreDamaged
from engine.web.terms import TermsProblem

T = TypeVar("T")


@contextmanager
def logging_to(config: Config) -> Iterator[None]:
    """The log as configured: into a file, or on standard error, there in a person's form when it is a terminal."""
    with ExitStack() as stack:
        try:
            file = stack.enter_context(Path(config.log.file).open("ab")) if config.log.file else sys.stderr.buffer
        except OSError as error:
            raise Quit(USAGE, f"the log file cannot be opened: {error}") from error
        configure(live_clock(), file, config.log.level, console=not config.log.file and sys.stderr.isatty())
        yield


def started(go: Callable[[], T]) -> T:
    """Run something of ours; what keeps it from starting is a sentence and an exit code, not a traceback."""
    use_exact_context()
    reasons: list[str] = []
    taken: list[str] = []
    result: list[T] = []
    try:
        result.append(go())
    except* Fenced as group:
        taken += [str(error) for error in _leaves(group)]
    except* (JournalFailed, StoreDamaged, BadTape, Inadmissible, KeyProblem, TermsProblem, OSError) as group:
        reasons += [_words(error) for error in _leaves(group)]
    if taken:
        raise Quit(REFUSED, "; ".join(taken))
    if reasons:
        raise Quit(REFUSED, "refused to start: " + "; ".join(reasons))
    return result[0]


def _words(error: BaseException) -> str:
    """Without the system's number, which tells a person nothing."""
    if not isinstance(error, OSError) or not error.strerror:
        return str(error)
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def _leaves(group: BaseExceptionGroup[Any]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
