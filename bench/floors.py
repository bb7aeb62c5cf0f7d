"""What nothing of ours can go below: one durable commit of the same bytes, one round trip to the venue's process."""

import socket
import time
from pathlib import Path
from typing import Literal

import apsw

from bench.feed import pace


class Floors:
    """A bare SQLite file with the engine's own settings, beside the engine's journal; a bare socket to the echo."""

    def __init__(self, folder: Path, durability: Literal["power", "process"], echo_port: int) -> None:
        self._database = apsw.Connection(str(folder / "floor.sqlite"))
        self._database.execute("PRAGMA journal_mode = WAL")
        self._database.execute(f"PRAGMA synchronous = {'FULL' if durability == 'power' else 'NORMAL'}")
        self._database.execute("PRAGMA wal_autocheckpoint = 0")
        self._database.execute("CREATE TABLE IF NOT EXISTS floor (bytes BLOB NOT NULL) STRICT")
        self._socket = socket.create_connection(("127.0.0.1", echo_port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.commits: list[int] = []
        self.round_trips: list[int] = []

    def measure(self, rate: float, count: int, commit_bytes: int, line_bytes: int) -> None:
        """Each `count` times, paced as the signals are; the two never at once. Durations in ns are added."""
        blob, line = bytes(commit_bytes), bytes(line_bytes)

        def commit(number: int) -> None:
            began = time.monotonic_ns()
            self._database.execute("BEGIN IMMEDIATE")
            self._database.execute("INSERT INTO floor VALUES (?)", (blob,))
            self._database.execute("COMMIT")
            self.commits.append(time.monotonic_ns() - began)

        def round_trip(number: int) -> None:
            began = time.monotonic_ns()
            self._socket.sendall(line)
            left = line_bytes
            while left:
                left -= len(self._socket.recv(left))
            self.round_trips.append(time.monotonic_ns() - began)

        pace(rate, count, commit)
        pace(rate, count, round_trip)

    def close(self) -> None:
        self._database.close()
        self._socket.close()
