"""Where an engine's requests leave it, for each kind of venue: there the witness stands, and the places to die.

An adapter's bytes leave by trio's own sockets, by HTTP or by WebSocket. Which of them belong to an order is told by the
task that writes them: it has just been through `submit`'s last door, or is in `cancel` or `order`.
"""

import sys
import time
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import trio
from msgspec.structs import replace

from engine.venues.binance.spot import SpotVenue
from engine.venues.binance.usdm import UsdmVenue
from engine.venues.bybit.client import BybitVenue
from engine.venues.link import LinkVenue
from engine.venues.pipeline import Pipeline
from tests.crash.bomb import Bomb, around, before_and_after_async, die

VENUES: dict[str, Any] = {
    "paper": LinkVenue,
    "bybit": BybitVenue,
    "binance-spot": SpotVenue,
    "binance-usdm": UsdmVenue,
}
REPLY_SECONDS = 0.03  # for the venue to carry out what it was sent, while we do not listen
QUICK_NS = 1_000_000_000  # the local exchange has no queue, and shows at once what it has taken

_writing: ContextVar[str] = ContextVar("what this task is about to write", default="")


def hasten(venue: str) -> None:
    """A real venue's queue and lag are bounded by half a minute each; the local exchange's are not worth a wait."""
    if venue == "paper":
        return  # it says so itself

    def making(original: Callable[..., None]) -> Callable[..., None]:
        def make(self: Any, *given: Any, **named: Any) -> None:
            original(self, *given, **named)
            self.traits = replace(self.traits, queue_ns=QUICK_NS, visible_ns=QUICK_NS)

        return make

    around(VENUES[venue], "__init__", making)


def arm_wires(bomb: Bomb, venue: str) -> None:
    if venue == "paper":
        around(Pipeline, "_send", _by_link(bomb))
        return
    kind = VENUES[venue]
    around(kind, "submit", _through_the_door(bomb))
    around(kind, "cancel", _meaning("cancel"))
    around(kind, "order", _meaning("look"))
    around(trio.SocketStream, "send_all", _by_socket(bomb))
    before_and_after_async(kind, "order", bomb, "look.before", "look.answered")
    before_and_after_async(kind, "_listen", bomb, "stream.before", "")
    around(sys.modules[kind.__module__], "private_stream", _ready(bomb))
    before_and_after_async(kind, "open_orders", bomb, "", "snapshot.orders")
    before_and_after_async(kind, "fills", bomb, "", "snapshot.fills")


def _by_link(bomb: Bomb) -> Callable[[Callable[..., None]], Callable[..., None]]:
    def sending(original: Callable[..., None]) -> Callable[..., None]:
        def send(pipeline: Pipeline, line: bytes) -> None:
            submit, cancel = b'"verb":"submit"' in line, b'"verb":"cancel"' in line
            if submit and bomb.due("submit.partial"):
                pipeline._socket.send(line[: len(line) // 2])
                die()
            original(pipeline, line)
            if submit:
                _sent(bomb, "submit")
            if cancel:
                bomb.at("cancel.wired")

        return send

    return sending


def _sent(bomb: Bomb, what: str) -> None:
    bomb.at(f"{what}.wired")
    if bomb.due(f"{what}.replied"):
        time.sleep(REPLY_SECONDS)
        die()


def _through_the_door(bomb: Bomb) -> Callable[..., Any]:
    def submitting(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def submit(venue: Any, order: Any, on_wire: Callable[[], None]) -> Any:
            def wired() -> None:
                on_wire()
                bomb.at("submit.door")
                _writing.set("submit")

            return await original(venue, order, wired)

        return submit

    return submitting


def _meaning(what: str) -> Callable[..., Any]:
    def wrap(original: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def call(*given: Any, **named: Any) -> Any:
            _writing.set(what)
            try:
                return await original(*given, **named)
            finally:
                _writing.set("")

        return call

    return wrap


def _by_socket(bomb: Bomb) -> Callable[..., Any]:
    def sending(original: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        async def send_all(stream: trio.SocketStream, data: Any) -> None:
            what = _writing.get()
            _writing.set("")
            if what == "submit" and bomb.due("submit.partial"):
                await original(stream, bytes(data)[: len(data) // 2])
                die()
            await original(stream, data)
            if what:
                _sent(bomb, what)

        return send_all

    return sending


def _ready(bomb: Bomb) -> Callable[..., Any]:
    def opening(original: Callable[..., Any]) -> Callable[..., Any]:
        def stream(run: Callable[..., Awaitable[None]], buffer: int) -> Any:
            async def watched(deliver: Any, ready: Callable[[], None]) -> None:
                def up() -> None:
                    bomb.at("stream.open")
                    ready()

                await run(deliver, up)

            return original(watched, buffer)

        return stream

    return opening
