"""SIGSTOP in a trio run: the tasks of one part of it are not stepped, while the rest goes on and time passes.

Whatever wakes a frozen task (an event, its deadline) still happens to it; it only is not run before the thaw. So it
wakes up like a stopped process: every timer is over, every answer has long been there.
"""

from collections import deque
from collections.abc import Callable
from typing import Any

import trio

Belongs = Callable[[trio.lowlevel.Task], bool]


class Freezer:
    """For one run; to be made inside it. One part can be frozen at a time."""

    def __init__(self) -> None:
        runner: Any = trio._core._run.GLOBAL_RUN_CONTEXT.runner  # private, which is why the version is pinned
        runner.runq = self._queue = _Queue(runner.runq)

    @property
    def frozen(self) -> bool:
        return self._queue.belongs is not None

    def freeze(self, belongs: Belongs) -> None:
        """From the next turn of the loop on."""
        assert not self.frozen, "one part at a time"
        self._queue.belongs = belongs
        runnable = list(self._queue)
        self._queue.clear()
        for task in runnable:
            self._queue.append(task)

    def thaw(self) -> None:
        self._queue.belongs = None
        self._queue.extend(self._queue.held)
        self._queue.held.clear()


class _Queue(deque[trio.lowlevel.Task]):
    """The runner's queue of tasks to be stepped in its next turn."""

    def __init__(self, tasks: deque[trio.lowlevel.Task]) -> None:
        super().__init__(tasks)
        self.belongs: Belongs | None = None
        self.held: list[trio.lowlevel.Task] = []

    def append(self, task: trio.lowlevel.Task) -> None:
        if self.belongs is not None and self.belongs(task):
            self.held.append(task)
        else:
            super().append(task)


def below(task: trio.lowlevel.Task, root: trio.lowlevel.Task) -> bool:
    """Whether a task is, or was started below, the root."""
    while task is not root:
        if task.parent_nursery is None:
            return False
        task = task.parent_nursery.parent_task
    return True
