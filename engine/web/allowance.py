"""How many requests a client may make: a token bucket for each. Pure; seconds come in as an argument."""

from math import inf

KEYS_MAX = 4096  # buckets kept; the least lately used are forgotten first, and would be nearly full anyway


class Allowance:
    """`per_second` for each key, and `burst` at once after a pause. 0 per second: no limit."""

    def __init__(self, per_second: float, burst: float) -> None:
        self._per_second = per_second or inf
        self._burst = burst
        self._left: dict[str, tuple[float, float]] = {}  # key -> left, and when

    def take(self, key: str, now: float) -> bool:
        """Whether one more is allowed now; if so, it is used up."""
        if self._per_second == inf:
            return True
        left, then = self._left.pop(key, (self._burst, now))
        left = min(self._burst, left + (now - then) * self._per_second)
        allowed = left >= 1
        self._left[key] = (left - 1 if allowed else left, now)
        if len(self._left) > KEYS_MAX:
            del self._left[next(iter(self._left))]
        return allowed
