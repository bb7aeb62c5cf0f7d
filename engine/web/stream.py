"""The live stream: published events as server-sent events, resumable by their number.

A reader that comes back with `Last-Event-ID` misses nothing. One that stops reading is cut off by the server's send
limit, and comes back; nobody waits for it.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

import trio
from litestar.types import ASGIApp, Receive, Scope, Send

from engine.core.messages import OutboxRow
from engine.web.wire import encode

PING_SECONDS = 15.0
RETRY_MS = 1000
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]

Subscribe = Callable[[int | None], AbstractAsyncContextManager[trio.MemoryReceiveChannel[OutboxRow]]]


def event_stream(subscribe: Subscribe, last_event_id: int | None, closing: trio.Event) -> ASGIApp:
    """One reader's stream: until it leaves, the channel ends, or `closing` is set; then a last `end` event."""

    async def stream(scope: Scope, receive: Receive, send: Send) -> None:
        async with subscribe(last_event_id) as rows, trio.open_nursery() as nursery:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            await _send(send, f"retry: {RETRY_MS}\n\n".encode())
            nursery.start_soon(_until_gone, receive, nursery.cancel_scope)
            async with trio.open_nursery() as feed:
                feed.start_soon(_until_closing, closing, feed.cancel_scope)
                await _feed(rows, send)
                feed.cancel_scope.cancel()
            await _send(send, b"event: end\ndata: {}\n\n")
            await _send(send, b"", more=False)
            nursery.cancel_scope.cancel()

    return stream


def event_bytes(row: OutboxRow) -> bytes:
    """One event in the stream's form; its id is the event's stable number."""
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (row.event_id, row.event.name.encode(), encode(row))


async def _feed(rows: trio.MemoryReceiveChannel[OutboxRow], send: Send) -> None:
    while True:
        row: OutboxRow | None = None
        try:
            with trio.move_on_after(PING_SECONDS):
                row = await rows.receive()
        except trio.EndOfChannel:
            return
        await _send(send, b": ping\n\n" if row is None else event_bytes(row))


async def _until_gone(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _until_closing(closing: trio.Event, scope: trio.CancelScope) -> None:
    await closing.wait()
    scope.cancel()


async def _send(send: Send, body: bytes, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": body, "more_body": more})
