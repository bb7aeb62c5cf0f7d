"""Ports for servers that are told on which to listen, and that may be killed and started again on the same one."""

import random
import socket
from pathlib import Path

_RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")  # Linux


def free_port() -> int:
    """Of loopback. None of those that the system gives to whoever connects: another test's client could have it by the
    time the server listens, or while the server is down."""
    first = int(_RANGE.read_text(encoding="ascii").split()[0]) if _RANGE.exists() else 32_768
    while True:
        port = random.randrange(min(10_000, first // 2), first)
        with socket.socket() as tried:
            try:
                tried.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
