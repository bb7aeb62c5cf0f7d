"""A Kafka broker for measurements and tests: one node on loopback, from Apache's own artefacts, thrown away at the end.

Needs Java 17 and Maven, which fetches the artefacts once and keeps them (in ~/.cache/surefire).
"""

import base64
import os
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from bench.ports import free_port
from engine.edges.kafka import Cluster

START_SECONDS = 120.0
VERSION = "4.1.1"
USER, PASSWORD = "surefire", "canary-of-kafka"
POM = f"""<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>
<groupId>surefire</groupId><artifactId>broker</artifactId><version>1</version><packaging>pom</packaging><dependencies>
<dependency><groupId>org.apache.kafka</groupId><artifactId>kafka_2.13</artifactId><version>{VERSION}</version></dependency>
<dependency><groupId>org.slf4j</groupId><artifactId>slf4j-nop</artifactId><version>1.7.36</version></dependency>
</dependencies></project>
"""
SETTINGS = """
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners={listeners},CONTROLLER://127.0.0.1:{controller}
advertised.listeners={listeners}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL
controller.listener.names=CONTROLLER
log.dirs={folder}/data
num.partitions=3
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
message.max.bytes=10000000
"""
SASL = """
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_ssl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
user_{user}="{password}";
ssl.keystore.type=PEM
ssl.keystore.location={folder}/broker.pem
ssl.client.auth=none
"""


class NoBroker(Exception):
    """It cannot be had on this machine; says what is missing."""


class Broker:
    def __init__(self, folder: Path, libraries: Path, pem: str = "") -> None:
        """`pem`: key and certificate of a second listener, with TLS and a password."""
        self._folder, self._libraries, self._pem = folder, libraries, pem
        self._process: subprocess.Popen[bytes] | None = None
        self.authority = ""  # the certificate of the second listener, for those who made it
        self.port, self.secure_port, controller = (free_port() for _ in range(3))
        listeners = f"PLAINTEXT://127.0.0.1:{self.port}"
        more = ""
        if pem:
            (folder / "broker.pem").write_text(pem)
            listeners += f",SASL_SSL://127.0.0.1:{self.secure_port}"
            more = SASL.format(folder=folder, user=USER, password=PASSWORD)
        text = SETTINGS.format(controller=controller, listeners=listeners, folder=folder) + more
        (folder / "broker.properties").write_text(text)
        self.cluster = Cluster(f"127.0.0.1:{self.port}")
        self._java("kafka.tools.StorageTool", "format", "-t", _cluster_id(), "-c", str(folder / "broker.properties"))

    def start(self) -> None:
        """With what it had on its disk; returns when it answers."""
        command = [
            "java",
            "-Xmx384m",
            "-XX:TieredStopAtLevel=1",  # the second compiler would work beside whatever is measured, for half a minute
            "-cp",
            f"{self._libraries}/*",
            "kafka.Kafka",
            str(self._folder / "broker.properties"),
        ]
        with (self._folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder)
        until = time.monotonic() + START_SECONDS
        while not answers(self.cluster):
            assert self._process.poll() is None, (self._folder / "broker.log").read_text()[-3000:]
            assert time.monotonic() < until

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """SIGKILL: as a machine dies."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None

    def _java(self, *arguments: str) -> None:
        command = ["java", "-cp", f"{self._libraries}/*", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self._folder, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def answers(cluster: Cluster) -> bool:
    admin = AdminClient(cluster.settings())
    try:
        return bool(admin.list_topics(timeout=1).brokers)
    except KafkaException:
        return False


def topic(cluster: Cluster, name: str = "", partitions: int = 3) -> str:
    """A topic of its own, made."""
    name = name or f"t{uuid.uuid4().hex[:12]}"
    admin = AdminClient(cluster.settings())  # has to live until the result is there
    (made,) = admin.create_topics([NewTopic(name, partitions, 1)]).values()
    made.result(START_SECONDS)
    return name


@contextmanager
def throwaway(pem: str = "") -> Iterator[Broker]:
    """A broker that is running, in a folder that goes with it. Raises NoBroker."""
    found = libraries()
    folder = Path(tempfile.mkdtemp(prefix="surefire-kafka-"))
    try:
        broker = Broker(folder, found, pem)
        broker.start()
        try:
            yield broker
        finally:
            broker.stop(signal.SIGKILL)
    finally:
        shutil.rmtree(folder)


def libraries() -> Path:
    """The broker's jars; fetched if they are not there yet. Raises NoBroker."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "surefire" / f"kafka-{VERSION}"
    cache.parent.mkdir(parents=True, exist_ok=True)
    with (cache.parent / "kafka.lock").open("w") as lock:
        flock(lock, LOCK_EX)  # several processes run tests, and Maven's own store is for one at a time
        if not cache.is_dir():
            _fetch(cache)
    return cache


def _fetch(cache: Path) -> None:
    missing = [tool for tool in ("java", "mvn") if shutil.which(tool) is None]
    if missing:
        raise NoBroker(f"{' and '.join(missing)} not found (Debian: apt-get install default-jre-headless maven)")
    with tempfile.TemporaryDirectory(dir=cache.parent) as made:
        folder = Path(made)
        (folder / "pom.xml").write_text(POM)
        command = ["mvn", "-q", "-B", "dependency:copy-dependencies", "-DoutputDirectory=jars"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=600)
        if done.returncode:
            raise NoBroker(f"Kafka's artefacts cannot be fetched: {done.stdout[-500:]}")
        (folder / "jars").rename(cache)


def _cluster_id() -> str:
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
