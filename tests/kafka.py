"""A real Kafka broker for tests: a throw-away node, or the one that SUREFIRE_TEST_KAFKA=host:port names.

Where there is none the tests are skipped, or fail where SUREFIRE_NEED_SERVERS is set, as .ci/run does. Of a named
broker only what neither stops it nor needs its second listener is tested.
"""

import os
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from bench.broker import PASSWORD, USER, Broker, NoBroker, throwaway, topic
from engine.edges.kafka import Cluster

__all__ = ["PASSWORD", "USER", "Broker", "running", "topic"]


class Named(Broker):
    """Somebody else's: it is neither stopped nor started here."""

    def __init__(self, servers: str) -> None:
        self.cluster = Cluster(servers)
        self.authority = ""

    def start(self) -> None:
        self.stop()

    def stop(self, how: object = None) -> None:
        pytest.skip("this stops the broker, and the one that SUREFIRE_TEST_KAFKA names is not ours")

    @property
    def secure_port(self) -> int:  # type: ignore[override]
        pytest.skip("this needs a listener with TLS, and a broker of our own")


def running(secure: bool = False) -> Iterator[Broker]:
    """For a fixture. Skips, or fails where servers must be there.

    `secure`: with a second listener, of TLS and a password, whose certificate is the broker's `authority`.
    """
    if named := os.environ.get("SUREFIRE_TEST_KAFKA"):
        yield Named(named)
        return
    pem, authority = _certificate() if secure else ("", "")
    try:
        with throwaway(pem) as broker:
            broker.authority = authority
            yield broker
    except NoBroker as word:
        if os.environ.get("SUREFIRE_NEED_SERVERS"):
            pytest.fail(f"no Kafka broker for the tests: {word}")
        pytest.skip(f"no Kafka broker for the tests: {word}")


def _certificate() -> tuple[str, str]:
    """(key and certificate, certificate) for 127.0.0.1."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "broker of a test")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = (
        builder.not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public = made.public_bytes(serialization.Encoding.PEM).decode()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return private.decode() + public, public
