"""A real Kafka broker for tests: a throw-away node, or the one that SUREFIRE_TEST_KAFKA=host:port names.

Where there is none the tests are skipped, or fail where SUREFIRE_NEED_SERVERS is set, as .ci/run does. Of a named
broker only what neither stops it nor needs its second listener is tested.
"""

import os
from collections.abc import Iterator

import pytest

from bench.broker import PASSWORD, USER, Broker, NoBroker, throwaway, topic
from engine.edges.kafka import Cluster

__all__ = ["PASSWORD", "USER", "Broker", "running", "topic"]


class Named(Broker):
    """Somebody else's: it is neither stopped nor started here."""

    def __init__(self, servers: str) -> None:
        self.cluster = Cluster(servers)

    def start(self) -> None:
        self.stop()

    def stop(self, how: object = None) -> None:
        pytest.skip("this stops the broker, and the one that SUREFIRE_TEST_KAFKA names is not ours")

    @property
    def secure_port(self) -> int:  # type: ignore[override]
        pytest.skip("this needs a listener with TLS, and a broker of our own")


def running(pem: str = "") -> Iterator[Broker]:
    """For a fixture. Skips, or fails where servers must be there."""
    if named := os.environ.get("SUREFIRE_TEST_KAFKA"):
        yield Named(named)
        return
    try:
        with throwaway(pem) as broker:
            yield broker
    except NoBroker as word:
        if os.environ.get("SUREFIRE_NEED_SERVERS"):
            pytest.fail(f"no Kafka broker for the tests: {word}")
        pytest.skip(f"no Kafka broker for the tests: {word}")
