"""Rate limits: windows that roll (Bybit) and windows that begin with the clock's own seconds and minutes (Binance)."""

from collections import deque

from msgspec import Struct

_NAMES_MAX = 10_000  # callers remembered at a time


class Standing(Struct, frozen=True):
    """What the headers say. `reset_ns` is when the window frees again."""

    allowed: bool
    limit: int
    left: int
    reset_ns: int


class Rolling:
    """So many in any `window_ns`, for each name apart. Those over it do not count."""

    def __init__(self, window_ns: int) -> None:
        self._window_ns = window_ns
        self._taken: dict[str, deque[int]] = {}

    def take(self, name: str, limit: int, now_ns: int, count: int = 1) -> Standing:
        taken = self._taken.get(name)
        if taken is None:
            if len(self._taken) >= _NAMES_MAX:
                del self._taken[next(iter(self._taken))]
            taken = self._taken[name] = deque()
        while taken and taken[0] <= now_ns - self._window_ns:
            taken.popleft()
        if len(taken) + count > limit:
            return Standing(False, limit, 0, (taken[0] if taken else now_ns) + self._window_ns)
        taken.extend([now_ns] * count)
        return Standing(True, limit, limit - len(taken), now_ns)


class Fixed:
    """So much in each window of `window_ns` since the epoch; what is over it counts too."""

    def __init__(self, window_ns: int) -> None:
        self.window_ns = window_ns
        self._window = 0
        self._used: dict[str, int] = {}

    def used(self, name: str, now_ns: int) -> int:
        self._turn(now_ns)
        return self._used.get(name, 0)

    def add(self, name: str, count: int, now_ns: int) -> int:
        """What is used with it."""
        self._turn(now_ns)
        self._used[name] = self._used.get(name, 0) + count
        return self._used[name]

    def resets_ns(self, now_ns: int) -> int:
        return now_ns - now_ns % self.window_ns + self.window_ns

    def _turn(self, now_ns: int) -> None:
        window = now_ns // self.window_ns
        if window != self._window:
            self._window, self._used = window, {}
