"""The venue's process: the paper venue with no delay of its own behind the link's socket, an echo, and a memory.

It notes when it had each order in its hands (decoded, before it is executed), on the clock that all processes share.
The echo is a blocking socket in a thread: what a round trip to this process costs without anything of ours.
"""

import socket
import sys
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from random import Random

import msgspec
import trio

from bench.market import CASH, book, instruments
from engine.core.messages import Answer, Cancel
from engine.core.money import use_exact_context
from engine.market.orders import OrderRequest
from engine.runtime.clock import live_clock
from engine.venues.link_server import serve
from engine.venues.paper import PaperTerms, PaperVenue

BOOKS_EVERY_SECONDS = 0.5


class VenueTask(msgspec.Struct, frozen=True):
    symbols: int
    result: str  # file for `VenueResult`


class VenueResult(msgspec.Struct, frozen=True):
    arrived: dict[str, int]  # by client order id; monotonic ns
    fills: int
    open_orders: int


class WatchedVenue(PaperVenue):
    """A paper venue that notes when each order came."""

    def watch(self) -> None:
        self.arrived: dict[str, int] = {}

    async def request(self, request: OrderRequest | Cancel, sent_ns: int) -> Answer:
        if isinstance(request, OrderRequest):
            self.arrived[request.cid] = time.monotonic_ns()
        return await super().request(request, sent_ns)


def terms() -> PaperTerms:
    nothing = (0.0, 0.0)
    return PaperTerms(balances={"USDT": CASH}, leverage=Decimal(20), latency_ms=nothing, stream_latency_ms=nothing)


async def run(task: VenueTask) -> None:
    """Until standard input ends."""
    clock = live_clock()
    venue = WatchedVenue(instruments(task.symbols), terms(), clock, Random(1))
    venue.watch()
    async with trio.open_nursery() as nursery:
        await nursery.start(_books, venue, task.symbols, clock.now_ns)
        port: int = await nursery.start(serve, venue)
        print(port, echo(), flush=True)
        await trio.lowlevel.wait_readable(sys.stdin.fileno())
        nursery.cancel_scope.cancel()
    truth = venue.truth()
    live = sum(order.status == "open" for order in truth.orders)
    result = VenueResult(venue.arrived, len(truth.executions), live)
    await trio.Path(task.result).write_bytes(msgspec.json.encode(result))


async def _books(
    venue: PaperVenue,
    symbols: int,
    now_ns: Callable[[], int],
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Fresh quotes, a few symbols at a time, so that they do not come as a burst."""
    names = [instrument.symbol for instrument in instruments(symbols)]
    for name in names:
        venue.publish(book(name, now_ns(), 1))
    task_status.started()
    number = 1
    while True:
        number += 1
        for name in names:
            await trio.sleep(BOOKS_EVERY_SECONDS / symbols)
            venue.publish(book(name, now_ns(), number))


def echo() -> int:
    """Start the echo; its port."""
    listener = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=_echo, args=(listener,), daemon=True).start()
    port: int = listener.getsockname()[1]
    return port


def _echo(listener: socket.socket) -> None:
    while True:
        peer, _ = listener.accept()
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_answer, args=(peer,), daemon=True).start()


def _answer(peer: socket.socket) -> None:
    with peer:
        while piece := peer.recv(65_536):
            peer.sendall(piece)


if __name__ == "__main__":
    use_exact_context()
    trio.run(run, msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=VenueTask))
