"""Who had the processors while something was measured? Whatever others compute meanwhile is in every figure, unseen.

Our processes are this one and all that it has started. Linux counts for each thread how long it ran, and how long it
was ready to run and had to wait for a processor; and for each processor how long it had nothing to do.
"""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from msgspec import Struct

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
_IDLE = (3, 4)  # of the columns of /proc/stat, proc(5): idle, and idle while a disk works
_COLUMNS = 8  # further ones are counted in the first two already


class Use(Struct, frozen=True):
    """In percent of one processor."""

    ours: dict[str, float]  # by name of the process
    others: float  # what else ran on the machine; and what its host took
    waited: dict[str, float]  # by name: ready, without a processor, all threads together


class Processors:
    """Counts spans of time. `names`: a word of a process's command line -> what it is called; the rest is `own`."""

    def __init__(self, names: Mapping[str, str], own: str) -> None:
        self._names, self._own = names, own
        self._ran: Counter[str] = Counter()  # ns
        self._waited: Counter[str] = Counter()
        self._busy = self._span = 0.0  # seconds of processors, seconds

    @contextmanager
    def counted(self) -> Iterator[None]:
        """A system that does not tell counts nothing."""
        if not (_PROC / "stat").exists():
            yield
            return
        before, since = self._threads(), _times()
        yield
        after, until = self._threads(), _times()
        for thread, (name, ran, waited) in after.items():
            _, ran_before, waited_before = before.get(thread, (name, 0, 0))
            self._ran[name] += ran - ran_before
            self._waited[name] += waited - waited_before
        passed = [(now - then) / _TICKS for then, now in zip(since, until, strict=True)]
        self._span += sum(passed) / (os.cpu_count() or 1)
        self._busy += sum(passed) - sum(passed[column] for column in _IDLE)

    def use(self) -> Use | None:
        if not self._span:
            return None
        ours = {name: ran / 1e7 / self._span for name, ran in self._ran.most_common()}
        others = max(100 * self._busy / self._span - sum(ours.values()), 0.0)
        return Use(ours, others, {name: waited / 1e7 / self._span for name, waited in self._waited.items()})

    def _threads(self) -> dict[tuple[int, str], tuple[str, int, int]]:
        """By process and thread: its name, and for how many ns it ran and waited."""
        found = {}
        for process in _family(os.getpid()):
            name = self._name(process)
            for thread in _listed(process):
                try:
                    ran, waited, _ = (_PROC / str(process) / "task" / thread / "schedstat").read_text().split()
                except OSError:  # it has ended
                    continue
                found[process, thread] = name, int(ran), int(waited)
        return found

    def _name(self, process: int) -> str:
        try:
            words = (_PROC / str(process) / "cmdline").read_text().split("\0")
        except OSError:
            words = []
        return next((self._names[word] for word in words if word in self._names), self._own)


def line(use: Use, whose: str) -> str:
    """`whose` waiting is told."""
    ours = ", ".join(f"{name} {share:.0f}" for name, share in use.ours.items() if share >= 0.5)
    waited = use.waited.get(whose, 0.0)
    return f"percent of one processor: {ours}; others {use.others:.0f}; the {whose} waited {waited:.0f} for one"


def _family(process: int) -> Iterator[int]:
    """It and its descendants."""
    yield process
    for thread in _listed(process):
        try:
            children = (_PROC / str(process) / "task" / thread / "children").read_text().split()
        except OSError:
            continue
        for child in children:
            yield from _family(int(child))


def _listed(process: int) -> list[str]:
    try:
        return os.listdir(_PROC / str(process) / "task")
    except OSError:
        return []


def _times() -> list[int]:
    """Of all processors together, in ticks."""
    first = (_PROC / "stat").read_text().split("\n", 1)[0]
    return [int(word) for word in first.split()[1 : 1 + _COLUMNS]]
