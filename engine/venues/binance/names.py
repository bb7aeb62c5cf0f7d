"""Which client id belongs to which order number. Executions tell only the number, and our own ids only name the order
while it is open; so what is learnt of either is kept for a while. Pure."""

from typing import TypeVar

from engine.core.messages import OrderReport, VenueReport

KEPT = 20_000
K = TypeVar("K")
V = TypeVar("V")


class Names:
    """Of one account. Numbers are unique per symbol only; algo orders' are none of these."""

    def __init__(self) -> None:
        self._cids: dict[tuple[str, str], str] = {}  # (symbol, number) -> client id
        self._numbers: dict[str, tuple[str, str]] = {}  # client id -> (symbol, number), the latest
        self._symbols: dict[str, str] = {}  # client id -> symbol
        self._sent: dict[str, int] = {}  # client id -> the venue's time of our sending it

    def sends(self, symbol: str, cid: str, at_ns: int) -> None:
        """An order is about to go out under this id. `at_ns` 0: the venue's time is not known.

        The first time counts: a later request may be told that the first one landed after all.
        """
        self.asks(symbol, cid)
        _keep(self._sent, cid, min(at_ns, self._sent.get(cid, at_ns)))

    def asks(self, symbol: str, cid: str) -> None:
        _keep(self._symbols, cid, symbol)

    def learn(self, symbol: str, number: str, cid: str) -> None:
        if not number.isdecimal():
            return
        _keep(self._cids, (symbol, number), cid)
        if cid:
            self.asks(symbol, cid)
            _keep(self._numbers, cid, (symbol, number))

    def learn_from(self, report: VenueReport) -> None:
        if isinstance(report, OrderReport):
            self.learn(report.symbol, report.venue_order_id, report.cid)

    def cid(self, symbol: str, number: str) -> str | None:
        """None: not known; "": known to have none."""
        return self._cids.get((symbol, number))

    def number(self, cid: str) -> str:
        return self._numbers.get(cid, ("", ""))[1]

    def symbol(self, cid: str) -> str:
        return self._symbols.get(cid, "")

    def is_older(self, cid: str, made_ns: int, error_ns: int = 1_000_000_000) -> bool:
        """An order that was made before we sent ours is another one, which had the same id in an earlier life."""
        sent_ns = self._sent.get(cid, 0)
        return bool(sent_ns) and bool(made_ns) and made_ns < sent_ns - error_ns


def _keep(memory: "dict[K, V]", key: K, value: V) -> None:
    memory.pop(key, None)
    memory[key] = value
    if len(memory) > KEPT:
        del memory[next(iter(memory))]
