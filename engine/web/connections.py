"""How many connections the API holds, and what happens to the next one.

When the house is full, some more are taken in as spare: a stop is answered there, everything else is told 503 and that
the house is full. Connections from one address fill a quarter of the house at most, unless they come from this machine.
"""

from collections import Counter
from contextvars import ContextVar
from ipaddress import ip_address

import trio

SPARE_MAX = 32
SPARE_SECONDS = 10.0  # for a spare connection to say what it wants
STOP_SECONDS = 120.0  # for a stop on a spare connection; it waits for the venue


class Connection:
    """One of them. `scope` ends it."""

    def __init__(self, address: str, spare: bool) -> None:
        self.address = address
        self.spare = spare
        self.stopping = False
        self.scope = trio.CancelScope()
        if spare:
            self.scope.deadline = trio.current_time() + SPARE_SECONDS

    def stops(self) -> None:
        """A stop came in on it, which gets the time that it needs."""
        self.stopping = True
        if self.spare:
            self.scope.deadline = trio.current_time() + STOP_SECONDS


class Connections:
    """Those that are open."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._each = max(most // 4, 1)
        self._addresses: Counter[str] = Counter()
        self._spare: list[Connection] = []

    def enter(self, address: str) -> Connection | None:
        """Room for one from there; None when even the spare room is full of stops.

        When it is full of others, the eldest of them goes.
        """
        full = self._addresses.total() >= self._most
        if not full and (self._addresses[address] < self._each or _is_local(address)):
            self._addresses[address] += 1
            return Connection(address, spare=False)
        if len(self._spare) >= SPARE_MAX:
            eldest = next((connection for connection in self._spare if not connection.stopping), None)
            if eldest is None:
                return None
            self._spare.remove(eldest)
            eldest.scope.cancel()
        self._spare.append(connection := Connection(address, spare=True))
        return connection

    def leave(self, connection: Connection) -> None:
        if connection.spare:
            if connection in self._spare:
                self._spare.remove(connection)
            return
        self._addresses[connection.address] -= 1
        if not self._addresses[connection.address]:
            del self._addresses[connection.address]


# The connection that a request came on, for those who answer it: the server starts their tasks from the connection's.
HERE: ContextVar[Connection | None] = ContextVar("connection", default=None)


def _is_local(address: str) -> bool:
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return False
