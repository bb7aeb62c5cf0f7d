"""Two engines of one consumer group on a real broker: partitions move while signals flow, and each is executed once.

Who holds which account is the leases' affair (tests/process/test_shards.py); here it is what the group does: a
partition that moves is drained, what was in hand at a kill comes again, and no offset ever goes back.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from threading import Event, Thread

from confluent_kafka import Consumer, Producer, TopicPartition

from bench.fleet import Fleet, until
from tests.kafka import Broker, topic
from tests.patience import PATIENCE_SECONDS
from tests.postgres import Server
from tests.process.test_shards import SHARDS, at_rest, books, confirmed

PARTITIONS = 6
KAFKA = """
[[sources]]
kind = "kafka"
name = "hedges"
server = "{servers}"
topics = ["{topic}"]
group = "{topic}"
dialect = "hedge_trades"
session_seconds = 6
"""


class Desk:
    """Sends hedges for all accounts in turn, keyed by account, every fourth without an id of its own."""

    def __init__(self, broker: Broker, fleet: Fleet, name: str) -> None:
        self._producer = Producer(broker.cluster.settings())
        self._fleet, self._topic = fleet, name
        self.sent = 0
        self.named: set[str] = set()

    def send(self, count: int) -> None:
        for number in range(self.sent, self.sent + count):
            account = self._fleet.accounts[number % 3]
            side = "buy" if number // 3 % 2 == 0 else "sell"
            body = {"symbol": "BTCUSDT", "account": account, "side": side, "size": "0.01", "ltv": "0.62"}
            if number % 4:
                body["trade_id"] = f"h{number}"
                self.named.add(f"h{number}")
            self._producer.produce(self._topic, json.dumps(body).encode(), account)
        assert self._producer.flush(PATIENCE_SECONDS) == 0
        self.sent += count

    @contextmanager
    def flowing(self, seconds: float) -> Iterator[None]:
        """One every so many seconds, meanwhile."""
        enough = Event()

        def flow() -> None:
            while not enough.wait(seconds):
                self.send(1)

        thread = Thread(target=flow)
        thread.start()
        try:
            yield
        finally:
            enough.set()
            thread.join()


class Offsets:
    """What the group has committed, looked at again and again from outside of it."""

    def __init__(self, broker: Broker, name: str) -> None:
        self._consumer = Consumer(broker.cluster.settings() | {"group.id": name})
        self._places = [TopicPartition(name, number) for number in range(PARTITIONS)]
        self.seen: list[list[int]] = []

    def look(self) -> int:
        """How many messages lie behind them."""
        found = self._consumer.committed(self._places, timeout=PATIENCE_SECONDS)
        self.seen.append([max(place.offset, 0) for place in found])
        return sum(self.seen[-1])

    def went_back(self) -> bool:
        return any(
            now < before for earlier, later in pairwise(self.seen) for before, now in zip(earlier, later, strict=True)
        )

    def close(self) -> None:
        self._consumer.close()


def times_given_up(fleet: Fleet) -> int:
    logs = (path.read_text(encoding="utf-8") for path in fleet.folder.glob("run-*.log"))
    return sum(log.count("kafka partitions given up") for log in logs)


def test_partitions_move_between_two_engines_while_signals_flow_and_each_is_executed_once(
    postgres: Server, kafka: Broker, tmp_path: Path
) -> None:
    name = topic(kafka.cluster, partitions=PARTITIONS)
    more = KAFKA.format(servers=kafka.cluster.servers, topic=name)
    with Fleet(tmp_path, postgres, SHARDS, lease_seconds=2, more=more) as fleet:
        desk, offsets = Desk(kafka, fleet, name), Offsets(kafka, name)

        def all_done() -> bool:
            return offsets.look() == desk.sent and len(confirmed(fleet)) == desk.sent and at_rest(fleet)

        one = fleet.start("one")
        fleet.settled(one)
        with desk.flowing(0.1):
            until(lambda: offsets.look() > 5, why=fleet.logs)
            two = fleet.start("two")  # some partitions are drained, and go to it
            fleet.settled(one, two)
            until(lambda: times_given_up(fleet), why=fleet.logs)
            before = offsets.look()
            until(lambda: offsets.look() > before + 10, why=fleet.logs)
            assert one.end() == 0  # all of them, in good order
            fleet.settled(two)
        until(all_done, why=fleet.logs)
        moved = times_given_up(fleet)
        one = fleet.start("one")
        fleet.settled(one, two)
        until(lambda: times_given_up(fleet) > moved, why=fleet.logs)
        until(all_done, why=fleet.logs)  # nothing is on its way: a doubt would take its minute
        two.kill()
        desk.send(12)  # some of it to partitions that nobody reads until the dead one's session is over
        fleet.settled(one)
        until(all_done, why=fleet.logs)
        found = confirmed(fleet)
        assert len(set(found)) == len(found) == desk.sent and desk.named <= set(found)
        assert not offsets.went_back(), offsets.seen
        assert books(fleet) == []
        assert one.end() == 0
        offsets.close()
