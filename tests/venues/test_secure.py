"""Both ways of an order through TLS, as to a real venue: one certificate that is trusted, and one that is not."""

import datetime
import ipaddress
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from trio_websocket import ConnectionClosed, WebSocketRequest, serve_websocket

from engine.core.messages import Rejection, Silence
from engine.runtime.clock import live_clock
from engine.runtime.websocket import open_websocket, send_text
from engine.venues.rest import Reply, Request, Rest
from tests.venues.test_rest import OK, Server

POST = Request("POST", "/v5/order", (("content-type", "application/json"),), b'{"a":"1"}')


@pytest.fixture
def paper(tmp_path: Path) -> Path:
    """A self-signed certificate for 127.0.0.1, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "a venue")])
    began = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(began)
        .not_valid_after(began + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "venue.pem"
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(certificate.public_bytes(Encoding.PEM) + secret)
    return path


def server_side(paper: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(paper)
    return context


@asynccontextmanager
async def serving(paper: Path, serve: Callable[..., object]) -> AsyncIterator[str]:
    async with trio.open_nursery() as nursery:
        listen = partial(trio.serve_ssl_over_tcp, serve, 0, server_side(paper), host="127.0.0.1", https_compatible=True)
        listeners = await nursery.start(listen)
        yield f"https://127.0.0.1:{listeners[0].transport_listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def test_orders_go_one_after_the_other_on_one_connection_that_trusts_the_venue(paper: Path) -> None:
    server = Server([OK, OK, OK], close=False)
    connections: list[object] = []

    async def serve(stream: trio.SSLStream) -> None:
        connections.append(stream)
        await server.serve(stream)  # type: ignore[arg-type]

    async with serving(paper, serve) as url:
        client = Rest(url, live_clock())
        client._warm._tls = ssl.create_default_context(cafile=str(paper))
        for _ in range(3):
            reply = await client.send(POST)
            assert isinstance(reply, Reply) and reply.body == b"{}"
        await client.close()
    assert len(connections) == 1 and len(server.heard) == 3


class Corked(trio.abc.Stream):
    """What is sent while it is corked goes out as one piece."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream, self.kept = stream, b""
        self.corked = False

    async def send_all(self, data: bytes) -> None:  # type: ignore[override]
        self.kept += data
        if not self.corked:
            kept, self.kept = self.kept, b""
            await self.stream.send_all(kept)

    async def wait_send_all_might_not_block(self) -> None:
        await self.stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        return bytes(await self.stream.receive_some(max_bytes))

    async def aclose(self) -> None:
        await self.stream.aclose()


async def test_what_comes_with_an_answer_is_not_taken_for_the_answer_to_the_next_order(paper: Path) -> None:
    """A second answer in the same piece is in the TLS layer's hands by then: the socket itself is quiet."""
    connections = 0

    async def serve(plain: trio.SocketStream) -> None:
        nonlocal connections
        connections += 1
        first = connections == 1
        cork = Corked(plain)
        async with trio.SSLStream(cork, server_side(paper), server_side=True, https_compatible=True) as stream:
            while await stream.receive_some():
                cork.corked = first
                await stream.send_all(OK)
                cork.corked = False
                if first:
                    await stream.send_all(OK.replace(b"{}", b"[]"))

    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        client = Rest(f"https://127.0.0.1:{listener.socket.getsockname()[1]}", live_clock())
        client._warm._tls = ssl.create_default_context(cafile=str(paper))
        for _ in range(2):
            reply = await client.send(POST)
            assert isinstance(reply, Reply) and reply.body == b"{}"
        await client.close()
        nursery.cancel_scope.cancel()
    assert connections == 2


async def test_what_ends_in_the_middle_is_in_doubt_there_as_well(paper: Path) -> None:
    server = Server([b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"], close=True)
    async with serving(paper, server.serve) as url:
        client = Rest(url, live_clock())
        client._warm._tls = ssl.create_default_context(cafile=str(paper))
        assert isinstance(await client.send(POST), Silence)
        await client.close()
    assert len(server.heard) == 1


async def test_a_venue_that_is_not_trusted_is_sent_nothing(paper: Path) -> None:
    server = Server([OK], close=True)

    async def serve(stream: trio.SSLStream) -> None:
        try:
            await server.serve(stream)  # type: ignore[arg-type]
        except trio.BrokenResourceError:
            pass  # the client has hung up in the handshake

    async with serving(paper, serve) as url:
        client = Rest(url, live_clock())
        answer = await client.send(POST)
        await client.close()
    assert isinstance(answer, Rejection) and answer.kind == "not_sent"
    assert server.heard == []


async def test_a_frame_of_our_own_goes_through_tls(paper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(paper))
    heard: list[str] = []

    async def serve(request: WebSocketRequest) -> None:
        socket = await request.accept()
        try:
            while True:
                heard.append(await socket.get_message())
                await socket.send_message("yes")
        except ConnectionClosed:
            pass

    async with trio.open_nursery() as nursery:
        server = await nursery.start(serve_websocket, serve, "127.0.0.1", 0, server_side(paper))
        async with open_websocket(f"wss://127.0.0.1:{server.port}/") as socket:
            for size in (10, 1_000, 100_000):
                await send_text(socket, b"x" * size, size)
                assert await socket.get_message() == "yes"
        nursery.cancel_scope.cancel()
    assert [len(text) for text in heard] == [10, 1_000, 100_000]
