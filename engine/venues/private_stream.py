"""A private stream over a connection that one task makes, reads and closes; StreamDown where its context ends."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TypeAlias

import trio
from trio_websocket import ConnectionClosed, HandshakeError, WebSocketConnection

from engine.core.messages import VenueReport
from engine.venues.admission import Remark
from engine.venues.base import StreamDown
from engine.venues.order_socket import OrderSocket

Deliver: TypeAlias = Callable[[VenueReport], None]
Run: TypeAlias = Callable[[Deliver, Callable[[], None]], Awaitable[None]]
"""`run(deliver, ready)`: connects, calls `ready` when the venue delivers, and then delivers until it raises."""

PING_SECONDS = 20.0
PONG_SECONDS = 10.0
LOOK_SECONDS = 5.0
SOCKET_SECONDS = 3.0  # for an order socket to come up while somebody looks
_LOST = (ConnectionClosed, HandshakeError, OSError, trio.TooSlowError, trio.BrokenResourceError)


@asynccontextmanager
async def private_stream(run: Run, buffer: int) -> AsyncIterator[trio.MemoryReceiveChannel[VenueReport]]:
    """Entered when the venue delivers. Raises StreamDown then, or on leaving; what was delivered before can be read."""
    send, receive = trio.open_memory_channel[VenueReport](buffer)
    ready, downs = trio.Event(), list[StreamDown]()

    def deliver(report: VenueReport) -> None:
        try:
            send.send_nowait(report)
        except trio.WouldBlock:
            raise StreamDown(f"the reader is {buffer} reports behind") from None
        except trio.BrokenResourceError:
            raise StreamDown("nobody reads any more") from None

    async def connection() -> None:
        with send:
            try:
                await run(deliver, ready.set)
            except* StreamDown as group:
                downs.append(StreamDown(str(leaf_of(group))))
            except* _LOST as group:
                error = leaf_of(group)
                downs.append(StreamDown(f"{type(error).__name__}: {error}"[:300]))
            finally:
                ready.set()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection)
        await ready.wait()
        if not downs:
            try:
                yield receive
            finally:
                nursery.cancel_scope.cancel()
                receive.close()
    if downs:
        raise downs[0]


async def look_at_streams(
    stream: Callable[[], AbstractAsyncContextManager[object]], socket: OrderSocket | None
) -> tuple[Remark, ...]:
    """Enters the private stream and leaves it again; the order socket's own task must be running."""
    try:
        with trio.fail_after(LOOK_SECONDS):
            async with stream():
                private = Remark("private stream", True, "connected, and it delivers")
    except* StreamDown as group:
        private = Remark("private stream", False, str(leaf_of(group)))
    except* trio.TooSlowError:
        private = Remark("private stream", False, f"no answer in {LOOK_SECONDS:g} seconds")
    if socket is None:
        return private, Remark("order entry", True, "orders go by REST")
    by_socket = "orders go by the WebSocket API"
    ready = await socket.until_ready(SOCKET_SECONDS)
    return private, Remark("order entry", True, by_socket if ready else f"orders go by REST: {socket.why}")


async def keep_awake(socket: WebSocketConnection) -> None:
    """Ping until a pong does not come. Raises StreamDown."""
    while True:
        await trio.sleep(PING_SECONDS)
        with trio.move_on_after(PONG_SECONDS) as patience:
            await socket.ping()
        if patience.cancelled_caught:
            raise StreamDown(f"no pong within {PONG_SECONDS:g} seconds")


async def receive_bytes(socket: WebSocketConnection) -> bytes:
    message: str | bytes = await socket.get_message()
    return message.encode() if isinstance(message, str) else message


def leaf_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    first = group.exceptions[0]
    return leaf_of(first) if isinstance(first, BaseExceptionGroup) else first
