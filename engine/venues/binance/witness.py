"""Whether a private stream still delivers: a healthy one and a dead one are both silent. Pure.

What the venue lists as executed while the stream was up must have come by the stream as well; one that did not, for
longer than it can take, proves that the stream is dead although its connection lives (USD-M's old path; a lost key).
"""

from collections import OrderedDict

from engine.core.messages import FillReport

LATE_NS = 5_000_000_000  # a stream may be this much behind the list
KEPT = 20_000


class Witness:
    """Times are the venue's, in nanoseconds."""

    def __init__(self) -> None:
        self._heard: OrderedDict[tuple[str, str], None] = OrderedDict()
        self._up_ns = 0

    def up(self, at_ns: int) -> None:
        """The stream delivers from now on; 0: it is down."""
        self._up_ns = at_ns

    def hears(self, fill: FillReport) -> None:
        self._heard[fill.symbol, fill.exec_id] = None
        if len(self._heard) > KEPT:
            self._heard.popitem(last=False)

    def missed(self, listed: tuple[FillReport, ...], now_ns: int) -> str:
        """Names an execution that the stream should have told; "" when there is none."""
        if not self._up_ns:
            return ""
        for fill in listed:
            due = self._up_ns + LATE_NS < fill.venue_ns < now_ns - LATE_NS
            if due and (fill.symbol, fill.exec_id) not in self._heard:
                return f"the stream never told of execution {fill.exec_id} of {fill.symbol}"
        return ""
