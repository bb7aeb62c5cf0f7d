"""The hedging service's way: `hedge_trades` in, `trade_confirmations` out, while engine and broker are killed."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, Producer

from tests.kafka import Broker, running, topic
from tests.patience import PATIENCE_SECONDS
from tests.process.site import Site, held_back

EDGES = """
[[sources]]
kind = "kafka"
name = "hedges"
server = "{servers}"
topics = ["hedge_trades"]
session_seconds = 2
dead_letters = "hedge_trades.dead"
[[sinks]]
kind = "kafka"
name = "confirmations"
server = "{servers}"
events = ["trade_confirmations"]
[[sinks]]
kind = "ndjson"
"""


@pytest.fixture
def broker() -> Iterator[Broker]:
    yield from running()


class Desk:
    """The hedging service: sends hedges, and keeps the confirmations that it was sent."""

    def __init__(self, broker: Broker) -> None:
        settings = broker.cluster.settings()
        self._producer = Producer(settings)
        self._consumer = Consumer(settings | {"group.id": "hedging", "auto.offset.reset": "earliest"})
        self._consumer.subscribe(["trade_confirmations"])
        self.events: dict[bytes, dict[str, Any]] = {}
        self.headers: dict[str, dict[str, bytes]] = {}

    def hedge(self, first: int, count: int) -> None:
        for number in range(first, first + count):
            body = {"trade_id": f"h{number}", "symbol": "BTCUSDT", "side": "buy" if number % 2 == 0 else "sell"}
            value = json.dumps({**body, "size": "0.01", "ltv": "0.62"}).encode()
            self._producer.produce("hedge_trades", value, "main", headers={"trace_id": f"trace-{number}"})
        self._producer.produce("hedge_trades", None, "main")
        assert self._producer.flush(PATIENCE_SECONDS) == 0

    def confirmed(self, wanted: set[str], least: int | None = None) -> dict[str, dict[str, Any]]:
        """All, once so many of the wanted have theirs (default: each); repeats are dropped by the event's id."""
        until = time.monotonic() + 3 * PATIENCE_SECONDS
        enough = len(wanted) if least is None else least
        while len(wanted & {event["signal_id"] for event in self.events.values()}) < enough:
            assert time.monotonic() < until, sorted(event["signal_id"] for event in self.events.values())
            message = self._consumer.poll(1.0)
            if message is not None and message.error() is None:
                headers = dict(message.headers() or ())
                event = json.loads(message.value() or b"")
                self.events[headers["event_id"]] = event
                self.headers[event["signal_id"]] = headers
        ids = [event["signal_id"] for event in self.events.values()]
        assert len(ids) == len(set(ids)), "two confirmations of one signal"
        return {event["signal_id"]: event for event in self.events.values()}

    def close(self) -> None:
        self._consumer.close()


def ids(first: int, count: int) -> set[str]:
    return {f"h{number}" for number in range(first, first + count)}


def test_hedges_are_executed_once_and_confirmed_whatever_dies(tmp_path: Path, broker: Broker) -> None:
    for name in ("hedge_trades", "trade_confirmations", "hedge_trades.dead"):
        topic(broker.cluster, name)
    desk = Desk(broker)
    with Site(tmp_path, EDGES.format(servers=broker.cluster.servers)) as site:
        desk.hedge(0, 10)
        site.start()
        desk.confirmed(ids(0, 10))
        for round_ in range(1, 3):
            site.rested()
            desk.hedge(10 * round_, 10)
            desk.confirmed(ids(10 * round_, 10), least=4 * (round_ - 1))  # at once; in the middle of them
            site.kill()
            site.start()
            desk.confirmed(ids(10 * round_, 10))
        site.rested()
        broker.stop(signal.SIGKILL)
        posted = site.post({"signal_id": "x1", "symbol": "BTCUSDT", "action": "open", "side": "buy", "qty": "0.01"})
        assert posted.status_code == 202, posted.text  # the broker's absence closes nothing else
        until = time.monotonic() + PATIENCE_SECONDS
        while all(c["ok"] for c in site.health()["components"]):
            assert time.monotonic() < until
            time.sleep(0.1)
        assert site.health()["entry_ready"]
        broker.start()
        desk.hedge(30, 10)
        found = desk.confirmed(ids(0, 40) | {"x1"})
        assert found.keys() == ids(0, 40) | {"x1"}
        truth = site.rested()
        assert not site.differences(truth)
        words = sorted((s, e["outcome"], e["reason"]) for s, e in found.items())
        executed = {s for s, e in found.items() if e["outcome"] == "executed"}
        assert executed | {s for s, e in found.items() if held_back(e)} == found.keys(), words
        assert executed >= ids(0, 10) | ids(30, 10) | {"x1"}, words
        assert executed & ids(20, 10), words  # killed after their first confirmations
        assert all(e["trace_id"] == f"trace-{s[1:]}" for s, e in found.items() if s.startswith("h"))
        assert desk.headers["h7"]["trace_id"] == b"trace-7" and desk.headers["h7"]["causation_id"]
        until = time.monotonic() + PATIENCE_SECONDS
        while 'surefire_source_lag{source="hedges"} 0' not in httpx.get(f"{site.api}/metrics").text:
            assert time.monotonic() < until  # the client library counts once a second
            time.sleep(0.1)
        assert site.end() == 0
    desk.close()
