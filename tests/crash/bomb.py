"""What kills a process at the n-th passing of a place, and how functions of the product are given such places."""

import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any


def die(by: int = signal.SIGKILL) -> None:
    """By SIGSTOP it only seems so: it goes on when it is told to."""
    os.kill(os.getpid(), by)
    while by == signal.SIGKILL:
        signal.pause()


class Bomb:
    """Counts the passings of one place."""

    def __init__(self, name: str, nth: int, by: int = signal.SIGKILL) -> None:
        self.name, self._left, self._by = name, nth, by

    def is_at(self, *names: str) -> bool:
        return self.name in names

    def due(self, name: str) -> bool:
        if name != self.name:
            return False
        self._left -= 1
        return self._left == 0

    def at(self, name: str) -> None:
        if self.due(name):
            die(self._by)


Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


def around(owner: Any, name: str, wrap: Wrap) -> None:
    """Put `wrap(original)` in the place of a function. Raises AttributeError when the product has no such function."""
    setattr(owner, name, wrap(getattr(owner, name)))


def before_and_after(owner: Any, name: str, bomb: Bomb, before: str, after: str) -> None:
    def wrap(original: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            bomb.at(before)
            result = original(*given, **named)
            bomb.at(after)
            return result

        return call

    around(owner, name, wrap)


def before_and_after_async(owner: Any, name: str, bomb: Bomb, before: str, after: str) -> None:
    def wrap(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(*given: Any, **named: Any) -> Any:
            bomb.at(before)
            result = await original(*given, **named)
            bomb.at(after)
            return result

        return call

    around(owner, name, wrap)
