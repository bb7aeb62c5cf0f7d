"""The API on a socket, in the engine's own loop. Knows Hypercorn and its habits; nothing of what is served.

Hypercorn sends inside a shield without a time limit: one client that stops reading would make the whole engine
impossible to stop. `_Impatient` gives each send two seconds and then drops that client. Hypercorn also waits for the
next request of a client that left while it was answered, until the keep-alive time is over; `_Impatient` does not.
"""

import socket

import hypercorn.trio
import hypercorn.trio.run
import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.tcp_server import TCPServer

from engine.runtime.listening import told_by_place
from engine.web.app import build
from engine.web.connections import HERE, Connections
from engine.web.doorman import App, guarded
from engine.web.ports import Ports
from engine.web.terms import Terms
from engine.web.turned_away import TurnedAway

SEND_SECONDS = 2.0
GRACE_SECONDS = 1.0  # for requests under way when the server closes
HANDSHAKE_SECONDS = 5.0
CLOSE_SECONDS = 5.0  # after that they are cut off, whatever they do


class _House(Config):
    """Hypercorn's settings, which its server class is given, and with them who is in."""

    connections: Connections


class _Impatient(TCPServer):
    config: _House
    _client_left = False

    async def run(self) -> None:
        here = self.config.connections.enter(_peer(self.stream))
        try:
            if here is not None:
                HERE.set(here)
                with here.scope:
                    await super().run()
        finally:
            if here is not None:
                self.config.connections.leave(here)
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(self.stream)  # else a deadline in its closing would leave it open

    async def _read_data(self) -> None:
        await super()._read_data()
        self._client_left = True
        await self.idle_task.stop()

    async def protocol_send(self, event: Event) -> None:
        if self._client_left and isinstance(event, Updated):
            return  # nobody to keep the connection alive for
        if not isinstance(event, RawData):
            return await super().protocol_send(event)
        async with self.send_lock:
            try:
                with trio.move_on_after(SEND_SECONDS, shield=True) as patience:
                    await self.stream.send_all(event.data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return await self.protocol.handle(Closed())
        if patience.cancelled_caught:
            await trio.aclose_forcefully(self.stream)
            await self.protocol.handle(Closed())


def _peer(stream: trio.SSLStream[trio.SocketStream] | trio.SocketStream) -> str:
    inner = stream.transport_stream if isinstance(stream, trio.SSLStream) else stream
    try:
        return str(inner.socket.getpeername()[0])
    except OSError:  # has gone already
        return ""


# The server class is not a parameter of Hypercorn's `serve`; its module's name for it is the only seam.
hypercorn.trio.run.TCPServer = _Impatient  # type: ignore[attr-defined]


async def serve(
    ports: Ports,
    host: str = "127.0.0.1",
    port: int = 8002,
    terms: Terms | None = None,
    version: str = "",
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Until cancelled; then streams end, requests get a second, and it returns. Starts with the bound port (0: any).

    `terms` say who may come in. Raises OSError when the port is taken, TermsProblem for a certificate of no use.
    """
    closing, terms, turned_away = trio.Event(), terms or Terms(), TurnedAway()
    app = guarded(build(ports, closing, version, turned_away), (host,), terms, turned_away)
    with told_by_place("the API", host, port):
        listener = socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound: int = listener.getsockname()[1]
    # Behind a shield, so that the cancellation of this task opens the door for a goodbye, which has a deadline.
    last_words = trio.CancelScope(shield=True)
    async with trio.open_nursery() as nursery:
        try:
            await nursery.start(_run, app, _config(listener.detach(), terms), closing, last_words)
            task_status.started(bound)
            await trio.sleep_forever()
        finally:
            closing.set()
            last_words.deadline = trio.current_time() + CLOSE_SECONDS


async def _run(
    app: App,
    config: Config,
    closing: trio.Event,
    last_words: trio.CancelScope,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    with last_words:
        await hypercorn.trio.serve(app, config, shutdown_trigger=closing.wait, task_status=task_status)


def _config(fileno: int, terms: Terms) -> Config:
    config = _House()
    config.connections = Connections(terms.connections_max)
    if terms.tls_cert:
        config.certfile, config.keyfile, config.keyfile_password = terms.tls_cert, terms.tls_key, ""
        config.alpn_protocols = ["http/1.1"]
        config.ssl_handshake_timeout = HANDSHAKE_SECONDS
    config.bind = [f"fd://{fileno}"]
    config.accesslog = None
    config.errorlog = None
    config.keep_alive_timeout = 75.0
    config.keep_alive_max_requests = 1_000_000_000
    config.graceful_timeout = GRACE_SECONDS
    config.include_server_header = False
    return config
