"""A process between clients and the exchange that passes bytes on, and notes when each came from a client.

It understands nothing while it runs. When its input ends it reads what passed as HTTP and WebSocket, and writes down
for each order the moment when the first byte of its request was here, on the clock that all processes share. A request
costs the tap one wake-up, as it would cost any server: the floor of a measurement is a bare socket through the same.
"""

import re
import select
import socket
import sys
import time
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

import msgspec

from engine.runtime.turns import take_short_turns

_ORDER_ID = re.compile(rb'(?:orderLinkId|newClientOrderId)"?\s*[:=]\s*"?([A-Za-z0-9]+)')
_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_UPGRADE = re.compile(rb"\r\nupgrade:\s*websocket", re.IGNORECASE)


class TapTask(msgspec.Struct, frozen=True):
    port: int  # of the exchange
    result: str  # file for `TapResult`


class TapResult(msgspec.Struct, frozen=True):
    arrived: dict[str, int]  # by client order id: monotonic ns
    again: tuple[str, ...]  # ids that came more than once
    cpu_ns: int


class Stream:
    """What one client said: its bytes, and where each piece of them ended and when it came."""

    def __init__(self) -> None:
        self.said = bytearray()
        self.ends: list[int] = []
        self.moments: list[int] = []

    def hear(self, piece: bytes, at_ns: int) -> None:
        self.said += piece
        self.ends.append(len(self.said))
        self.moments.append(at_ns)

    def moment(self, offset: int) -> int:
        """When the byte there came."""
        return self.moments[bisect_right(self.ends, offset)]


def run(task: TapTask) -> None:
    """Until standard input ends. Blocking sockets in one loop: whatever it takes is the same for every client."""
    take_short_turns()
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    peers: dict[int, tuple[socket.socket, socket.socket, Stream | None]] = {}  # by number: from, to, what is kept
    streams: list[Stream] = []
    waiting = select.epoll()
    waiting.register(listener, select.EPOLLIN)
    waiting.register(sys.stdin, select.EPOLLIN)
    while True:
        for number, _ in waiting.poll():
            if number == sys.stdin.fileno():
                return write(task, streams)
            if number == listener.fileno():
                client, server = listener.accept()[0], socket.create_connection(("127.0.0.1", task.port))
                streams.append(Stream())
                for near, far, kept in ((client, server, streams[-1]), (server, client, None)):
                    near.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    peers[near.fileno()] = near, far, kept
                    waiting.register(near, select.EPOLLIN)
            elif number in peers and not _pass_on(*peers[number]):
                near, far, _ = peers.pop(number)
                peers.pop(far.fileno(), None)
                for end in (near, far):
                    waiting.unregister(end)
                    end.close()


def _pass_on(near: socket.socket, far: socket.socket, kept: Stream | None) -> bool:
    """False when one of the ends is gone."""
    try:
        piece = near.recv(262_144)
        at_ns = time.monotonic_ns()
        far.sendall(piece)
    except OSError:
        return False
    if kept is not None and piece:
        kept.hear(piece, at_ns)
    return bool(piece)


# ------------------------------------------------------------------------------------------------------ what it was


def write(task: TapTask, streams: list[Stream]) -> None:
    cpu_ns = time.process_time_ns()
    arrived: dict[str, int] = {}
    again: list[str] = []
    for stream in streams:
        for offset, text in messages(bytes(stream.said)):
            if found := _ORDER_ID.search(text):
                cid = found[1].decode()
                if cid in arrived:
                    again.append(cid)
                else:
                    arrived[cid] = stream.moment(offset)
    Path(task.result).write_bytes(msgspec.json.encode(TapResult(arrived, tuple(again), cpu_ns)))


def messages(said: bytes) -> Iterator[tuple[int, bytes]]:
    """Each request that changes something, and each frame of a WebSocket: where it begins, and its bytes in clear."""
    at = 0
    while (end := said.find(b"\r\n\r\n", at)) >= 0:
        head, body = said[at:end], end + 4
        if _UPGRADE.search(head):
            yield from _frames(said, body)
            return
        found = _LENGTH.search(head)
        after = body + (int(found[1]) if found else 0)
        if not head.startswith(b"GET "):
            yield at, said[at:after]
        at = after


def _frames(said: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """RFC 6455, section 5.2; what clients send is masked."""
    while at + 6 <= len(said):
        size, body = said[at + 1] & 0x7F, at + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, body = int.from_bytes(said[body : body + width]), body + width
        mask, text = said[body : body + 4], said[body + 4 : body + 4 + size]
        key = int.from_bytes((mask * (size // 4 + 1))[:size])
        yield at, (int.from_bytes(text) ^ key).to_bytes(size) if len(text) == size else b""
        at = body + 4 + size


if __name__ == "__main__":
    run(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=TapTask))
