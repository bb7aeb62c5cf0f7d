"""The HTTP source: a body handed in by the API, and the answer once it is durable. Knows no web framework.

`status_of` is PURE. A repeat is answered with the first outcome, so that a client whose connection broke may ask again.
"""

from collections.abc import Callable
from functools import partial

import msgspec
import trio

from engine.edges.base import Arrival, Receipt, Status
from engine.edges.receipts import told
from engine.runtime.clock import Clock

ROOM_SECONDS = 0.25  # for the engine to take a body; after that the client is better off knowing
ANSWER_SECONDS = 10.0  # for its verdict to be durable
RETRY_AFTER_SECONDS = 1  # for the header of a 503

_STATUS: dict[Status, int] = {
    "accepted": 202,
    "recorded": 200,
    "repeated": 200,
    "refused": 422,
    "malformed": 422,
    "conflict": 409,
    "busy": 503,
}


def status_of(receipt: Receipt) -> tuple[int, bytes]:
    """(HTTP status, JSON body). 503 means: not taken for sure, ask again with the same signal_id."""
    answer = told(receipt)
    if receipt.status == "busy":
        answer["retry_after_seconds"] = RETRY_AFTER_SECONDS
    return _STATUS[receipt.status], msgspec.json.encode(answer)


class HttpSource:
    """Between a web request, which waits, and the engine, which answers when it is safe to."""

    def __init__(self, name: str, clock: Clock) -> None:
        self.name = name
        self._clock = clock
        self._arrivals: trio.MemorySendChannel[Arrival] | None = None

    async def run(self, arrivals: trio.MemorySendChannel[Arrival]) -> None:
        """Until cancelled: bodies are taken."""
        self._arrivals = arrivals
        try:
            await trio.sleep_forever()
        finally:
            self._arrivals = None

    async def submit(
        self,
        raw: bytes,
        trace_id: str | None,
        fallback_id: str | None = None,
        dialect: str | None = None,
        flaw: str = "",
        delivery: str | None = None,
    ) -> Receipt:
        """What became of it, durable but for `busy`. `fallback_id` is the request's idempotency key, if it has one;
        `delivery` is the name that its sender has signed; `flaw` says why `raw` is not all of it."""
        received_ns, received_tick = self._clock.now_ns(), self._clock.ticks_ns()
        if self._arrivals is None:
            return Receipt("busy", text="the engine is not taking signals")
        answered = trio.Event()
        receipts: list[Receipt] = []
        arrival = Arrival(
            raw=raw,
            source=self.name,
            dialect=dialect,
            received_ns=received_ns,
            received_tick=received_tick,
            answer=partial(_put, receipts, answered.set),
            trace_id=trace_id,
            fallback_id=fallback_id,
            delivery=delivery,
            flaw=flaw,
        )
        if not await self._hand_in(arrival):
            return Receipt("busy", text="the engine has no room; nothing of this was taken")
        with trio.move_on_after(ANSWER_SECONDS):
            await answered.wait()
        if receipts:
            return receipts[0]
        return Receipt("busy", text="not decided yet; ask again with the same signal_id")

    async def _hand_in(self, arrival: Arrival) -> bool:
        assert self._arrivals is not None
        with trio.move_on_after(ROOM_SECONDS):
            try:
                await self._arrivals.send(arrival)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return False
            return True
        return False


def _put(receipts: list[Receipt], done: Callable[[], None], receipt: Receipt) -> None:
    receipts.append(receipt)
    done()
