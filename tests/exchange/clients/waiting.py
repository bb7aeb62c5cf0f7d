"""What the asyncio clients share: streams watched beside the trading, and waiting for what must come."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from typing import Any

from engine.exchange.asking import ask

WAIT_SECONDS = 60.0


class Watching:
    """Each watch is asked again for ever; all that it told is kept, in order."""

    def __init__(self) -> None:
        self.heard: dict[str, list[Any]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def start(self, name: str, watch: Callable[[], Awaitable[Any]]) -> None:
        self.heard[name] = []
        self._tasks.append(asyncio.ensure_future(self._watch(name, watch)))

    async def _watch(self, name: str, watch: Callable[[], Awaitable[Any]]) -> None:
        while True:
            news = await watch()
            if name == "book":
                self.heard[name].append((news["bids"][0][0], news["asks"][0][0]))
            else:
                self.heard[name].extend(news if isinstance(news, list) else [dict(news)])

    async def until(self, met: Callable[[], Any], what: str) -> None:
        """Raises TimeoutError, or what a watch raised."""
        deadline = time.monotonic() + WAIT_SECONDS
        while not met():
            for task in self._tasks:
                if task.done():
                    task.result()
            if time.monotonic() > deadline:
                raise TimeoutError(what)
            await asyncio.sleep(0.01)

    async def subscribed(self, port: int, topics: tuple[str, ...]) -> None:
        """ccxt.pro tells nobody when a subscription is in force; the exchange knows."""

        def all_in() -> bool:
            streams = json.loads(ask("127.0.0.1", port, "GET", "/state"))["streams"]
            return set(topics) <= {topic for stream in streams for topic in stream["topics"]}

        await self.until(all_in, f"subscriptions to {topics}")

    def statuses(self) -> dict[str, str]:
        """The last one told of each order, by client id."""
        return {order["clientOrderId"]: order["status"] for order in self.heard["order"]}

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def at_port(urls: Any, port: int) -> Any:
    """The same addresses at a port of this machine, without TLS."""
    if isinstance(urls, dict):
        return {name: at_port(url, port) for name, url in urls.items()}
    scheme, _, rest = str(urls).partition("://")
    path = rest.partition("/")[2]
    return f"{scheme.removesuffix('s')}://127.0.0.1:{port}" + (f"/{path}" if path else "")
