"""Limits that change while a real engine runs, by every door: bounded, in order, audited, through a kill (RSK10)."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import trio

from engine.runtime.config import load
from engine.runtime.journal.choice import reader_of
from tests.patience import PATIENCE_SECONDS
from tests.process.test_hooks import ROOT, Running
from tests.redis import PASSWORD, RedisServer, running

BOUNDS = """
[accounts.main.bounds]
positions_max = 8
daily_loss_max = "600"
"""
Send: TypeAlias = Callable[[dict[str, Any]], int | None]  # an event; what its sender is told, if anything


def policy(name: str, positions: int, **more: Any) -> dict[str, Any]:
    limits = {"positions_max": positions, "daily_loss_max": "400", **more.pop("limits", {})}
    return {"type": "policy.updated", "id": name, "data": {"account": "main", "limits": limits, **more}}


def limits_of(engine: Running) -> Any:
    (row,) = engine.client.get("/api/execution/limits").json()["limits"]
    return row["limits"]


def until(holds: Callable[[], object], told: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < end, told()
        time.sleep(0.05)


def letters(engine: Running) -> list[dict[str, Any]]:
    path = engine.folder / "var" / "dead-letters.ndjson"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def sent(engine: Running, send: Send, event: dict[str, Any], positions: int) -> None:
    assert send(event) in (None, 200)
    until(lambda: limits_of(engine)["positions_max"] == positions, lambda: (limits_of(engine), letters(engine)))


def refused(engine: Running, send: Send, event: dict[str, Any], *fields: str) -> None:
    """It changes nothing, and lies among the dead letters with every reason."""
    before = limits_of(engine)
    assert send(event) in (None, 422)
    until(lambda: [x for x in letters(engine) if x["signal_id"] == event["id"]], lambda: letters(engine))
    letter = next(letter for letter in letters(engine) if letter["signal_id"] == event["id"])
    assert {reason["field"] for reason in letter["reasons"]} == set(fields), letter
    assert limits_of(engine) == before


def story(engine: Running, door: Callable[[], Send], name: str) -> None:
    """What holds for every door. The engine is killed in the middle; `door` is opened anew after that."""
    now = datetime.now(UTC)
    early = (now - timedelta(hours=1)).isoformat()
    with engine:
        send = door()
        sent(engine, send, policy(f"{name}-1", 4, version=7), 4)
        refused(
            engine, send, policy(f"{name}-2", 9, limits={"daily_loss_max": "700"}), "positions_max", "daily_loss_max"
        )
        refused(engine, send, policy(f"{name}-3", 5, version=7), "version")
        refused(engine, send, policy(f"{name}-4", 5, timestamp=early), "timestamp")
        refused(
            engine, send, policy(f"{name}-5", 9, version=6, timestamp=early), "positions_max", "timestamp", "version"
        )
        by_hand = engine.client.patch(
            "/api/execution/limits/main", json={"positions_max": 2}, headers={"x-operator": "ann"}
        )
        assert by_hand.status_code == 200, by_hand.text
        engine.kill()
    with engine:
        send = door()
        assert limits_of(engine)["positions_max"] == 2
        send(policy(f"{name}-1", 4, version=7))  # comes again, as a bus or a file may bring it: a repeat, no change
        refused(engine, send, policy(f"{name}-6", 5, version=7), "version")
        assert limits_of(engine)["positions_max"] == 2
        sent(engine, send, policy(f"{name}-7", 6, version=8), 6)
        too_far = engine.client.patch("/api/execution/limits/main", json={"positions_max": 9})
        assert too_far.status_code == 422 and "at most 8 (the config's bound)" in too_far.text
    reader = reader_of(load(engine.config), engine.environment)
    entries = [entry for entry in reader.audit_log(1000) if entry.what.startswith("set limits")]
    reader.close()
    assert [(entry.who, entry.what[-1]) for entry in reversed(entries)] == [
        ("config", "1"),
        (f"event/{name}", "2"),
        ("ann", "3"),
        (f"event/{name}", "4"),
    ]
    assert [entry.detail for entry in reversed(entries)][1:] == [
        "positions_max: 3 -> 4; daily_loss_max: 500 -> 400",
        "positions_max: 4 -> 2",
        "positions_max: 2 -> 6",
    ]


def test_by_http(tmp_path: Path) -> None:
    engine = Running(tmp_path, f'[[sources]]\nkind = "http"\ncontrols = true\n{BOUNDS}')

    def send(event: dict[str, Any]) -> int:
        return engine.taken("/api/execution/order", json.dumps(event).encode(), {}).status_code

    story(engine, lambda: send, "http")


def test_by_a_signed_webhook(tmp_path: Path) -> None:
    engine = Running(tmp_path, BOUNDS)
    story(engine, lambda: lambda event: engine.desk(event, f"h-{event['id']}").status_code, "desk")


def test_by_a_followed_file_that_is_read_again_at_each_start(tmp_path: Path) -> None:
    file = tmp_path / "policies.ndjson"
    file.touch()
    source = f'[[sources]]\nkind = "ndjson"\nname = "file"\npath = "{file}"\nfollow = true\ncontrols = true\n'
    engine = Running(tmp_path, source + BOUNDS)

    def send(event: dict[str, Any]) -> None:
        with file.open("a") as lines:
            lines.write(json.dumps(event) + "\n")

    story(engine, lambda: send, "file")


def test_by_the_command_line(tmp_path: Path) -> None:
    engine = Running(tmp_path, BOUNDS)

    def command(*words: str) -> "subprocess.CompletedProcess[str]":
        port = str(engine.client.base_url.port)
        return subprocess.run(
            [sys.executable, str(ROOT / "run.py"), "limits", *words, "--config", str(engine.config), "--port", port],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
        )

    with engine:
        changed = command("main", "positions_max=8", "daily_loss_max=400")
        assert (changed.returncode, changed.stdout) == (0, "main:\n  positions_max = 8\n  daily_loss_max = 400\n")
        too_far = command("main", "positions_max=9")
        assert too_far.returncode == 1 and "at most 8 (the config's bound)" in too_far.stderr
        assert "  positions_max = 8\n" in command().stdout
    reader = reader_of(load(engine.config), engine.environment)
    entry = next(entry for entry in reader.audit_log(1000) if entry.what == "set limits, version 2")
    reader.close()
    assert entry.who.endswith("(command line)")
    assert entry.detail == "positions_max: 3 -> 8; daily_loss_max: 500 -> 400"


@pytest.fixture
def server() -> Iterator[RedisServer]:
    yield from running()


def test_by_redis(tmp_path: Path, server: RedisServer) -> None:
    source = f"""
[[sources]]
kind = "redis"
name = "bus"
server = "redis://127.0.0.1:{server.port}/0"
password_env = "BUS_PASSWORD"
streams = ["policy.updated"]
dead_letters = "dead"
controls = true
"""
    engine = Running(tmp_path, source + BOUNDS)
    engine.environment |= {"BUS_PASSWORD": PASSWORD}

    def send(event: dict[str, Any]) -> None:
        async def add() -> None:
            async with server.address.client() as client:
                await client.xadd("policy.updated", {"data": json.dumps(event)})

        trio.run(add)

    story(engine, lambda: send, "bus")

    async def buried() -> int:
        async with server.address.client() as client:
            return int(await client.xlen("dead"))

    assert trio.run(buried) == 5


def test_by_kafka(tmp_path: Path, kafka: Any) -> None:
    from confluent_kafka import Producer

    from tests.kafka import topic

    name = f"policies.{time.time_ns()}"
    topic(kafka.cluster, name)
    source = f"""
[[sources]]
kind = "kafka"
name = "topic"
server = "{kafka.cluster.servers}"
topics = ["{name}"]
group = "{name}"
session_seconds = 2
controls = true
"""
    engine = Running(tmp_path, source + BOUNDS)
    producer = Producer(kafka.cluster.settings())

    def send(event: dict[str, Any]) -> None:
        producer.produce(name, json.dumps(event).encode(), "main")
        assert producer.flush(PATIENCE_SECONDS) == 0

    story(engine, lambda: send, "topic")
