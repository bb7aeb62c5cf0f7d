"""The least that can be done with a message: Kafka's client hands it over, one write to a socket sends an order.

No engine, no journal, no loop: what the same client, broker and tap take by themselves.
"""

import os
import re
import select
import socket
import sys
import time
from pathlib import Path

import msgspec
from confluent_kafka import Consumer

from engine.edges.kafka import Cluster, reading_settings
from engine.runtime.turns import take_short_turns

POLL_SECONDS = 0.05
_ORDER_ID = re.compile(rb'"cid": "([A-Za-z0-9]+)"')
_REQUEST = b"POST /v5/order/create HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
_ORDER = b'{"category":"linear","symbol":"BTCUSDT","side":"Buy","orderType":"Limit","qty":"0.001","orderLinkId":"%b"}'


class BareTask(msgspec.Struct, frozen=True):
    servers: str
    topic: str
    port: int  # of the tap
    result: str  # file for `BareResult`


class BareResult(msgspec.Struct, frozen=True):
    handed_over: dict[str, int]  # by client order id: monotonic ns


def run(task: BareTask) -> None:
    """Until standard input ends."""
    take_short_turns()
    to_exchange = socket.create_connection(("127.0.0.1", task.port))
    to_exchange.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    to_exchange.setblocking(False)
    handed_over: dict[str, int] = {}
    settings = reading_settings(Cluster(task.servers), f"bare{os.getpid()}")
    consumer = Consumer(settings)
    consumer.subscribe([task.topic], on_assign=lambda *_: print("ready", flush=True))
    waiting = select.poll()
    waiting.register(sys.stdin, select.POLLIN)
    while not waiting.poll(0):
        message = consumer.poll(POLL_SECONDS)
        if message is None or message.error() is not None:
            continue
        at_ns = time.perf_counter_ns()
        found = _ORDER_ID.search(message.value() or b"")
        assert found is not None, message.value()
        body = _ORDER % found[1]
        to_exchange.sendall(_REQUEST % (len(body), body))
        handed_over[found[1].decode()] = at_ns
        try:
            to_exchange.recv(262_144)  # what it says to an order that nobody signed
        except BlockingIOError:
            pass
    consumer.close()
    Path(task.result).write_bytes(msgspec.json.encode(BareResult(handed_over)))


if __name__ == "__main__":
    run(msgspec.json.decode(Path(sys.argv[1]).read_bytes(), type=BareTask))
