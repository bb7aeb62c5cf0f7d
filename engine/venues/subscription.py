"""A private stream as an async context: a pump fills a channel, and StreamDown is raised where the context ends."""

from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TypeAlias

import trio

from engine.core.messages import VenueReport
from engine.venues.base import StreamDown

Pump: TypeAlias = Callable[[trio.MemorySendChannel[VenueReport]], Awaitable[None]]
"""Delivers reports until it raises StreamDown; must clean up behind itself."""


class Subscription:
    """`async with` it gives the receiving end, from the moment when the venue delivers.

    A reader whose stream breaks still gets what was delivered before that, then the end of its channel, and then,
    leaving the context, StreamDown. One that leaves a stream in good health, or with an exception of its own, is not
    disturbed.
    """

    def __init__(self, connect: Callable[[], Awaitable[Pump]], buffer: int) -> None:
        """`connect` raises StreamDown when it cannot; `buffer` is how many reports the reader may be behind."""
        self._connect = connect
        self._buffer = buffer
        self._manager = trio.open_nursery()
        self._nursery: trio.Nursery | None = None
        self._receive: trio.MemoryReceiveChannel[VenueReport] | None = None
        self._down: StreamDown | None = None

    async def __aenter__(self) -> trio.MemoryReceiveChannel[VenueReport]:
        pump = await self._connect()
        send, self._receive = trio.open_memory_channel[VenueReport](self._buffer)
        self._nursery = await self._manager.__aenter__()
        self._nursery.start_soon(self._run, pump, send)
        return self._receive

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._nursery is not None and self._receive is not None, "left before it was entered"
        self._nursery.cancel_scope.cancel()
        self._receive.close()
        # The nursery is not shown the reader's exception, so that it does not wrap it into a group.
        await self._manager.__aexit__(None, None, None)
        if self._down is not None and (error is None or isinstance(error, trio.EndOfChannel)):
            raise self._down

    async def _run(self, pump: Pump, send: trio.MemorySendChannel[VenueReport]) -> None:
        with send:
            try:
                await pump(send)
            except StreamDown as down:
                self._down = down
