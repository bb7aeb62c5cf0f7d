"""The engine's side of a source: takes arrivals and answers them as it is told."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import trio

from engine.edges.base import Arrival, Receipt, Source
from tests.patience import PATIENCE_SECONDS

TAKEN = Receipt("recorded")
Of = TypeVar("Of", bound=Source)


class House(Generic[Of]):
    """`room`: how many arrivals fit before the source must wait."""

    def __init__(self, source: Of, room: int = 1_000) -> None:
        self.send, self._receive = trio.open_memory_channel[Arrival](room)
        self.source = source

    async def take(self, count: int, answer: Receipt | None = TAKEN) -> list[Arrival]:
        got = []
        with trio.fail_after(PATIENCE_SECONDS):
            while len(got) < count:
                got.append(await self._receive.receive())
                if answer is not None:
                    got[-1].answer(answer)
        return got

    def nothing(self) -> bool:
        return self._receive.statistics().current_buffer_used == 0

    async def quiet(self, seconds: float = 1.0) -> bool:
        await trio.sleep(seconds)
        return self.nothing()


@asynccontextmanager
async def house_of(source: Of, room: int = 1_000) -> AsyncIterator[House[Of]]:
    """While the source runs."""
    home = House(source, room)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(source.run, home.send)
        yield home
        nursery.cancel_scope.cancel()
