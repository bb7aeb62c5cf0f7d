"""Decisions in and confirmations out by Redis Streams, while the engine and the server are killed."""

import json
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.patience import PATIENCE_SECONDS
from tests.process.site import Site, held_back
from tests.redis import PASSWORD, RedisServer, running

EDGES = """
[[sources]]
kind = "redis"
name = "bus"
server = "redis://127.0.0.1:{port}/0"
password_env = "BUS_PASSWORD"
streams = ["signal.execute", "ess.tripped"]
dead_letters = "signals.dead"
reclaim_seconds = 1
[[sinks]]
kind = "ndjson"
[[sinks]]
kind = "redis"
server = "redis://127.0.0.1:{port}/0"
password_env = "BUS_PASSWORD"
mirror = "open"
"""


@pytest.fixture
def server() -> Iterator[RedisServer]:
    yield from running()


def ask(server: RedisServer, *command: tuple[str, ...]) -> list[Any]:
    """Each a method of the client and its arguments."""

    async def run() -> list[Any]:
        async with server.address.client() as client:
            return [await getattr(client, name)(*arguments) for name, *arguments in command]

    return trio.run(run)


def signals(first: int, count: int) -> list[tuple[Any, ...]]:
    """Longs that are opened, turned round and closed, so that there is room for the next."""
    found: list[tuple[Any, ...]] = []
    for number in range(first, first + count):
        body = {"signal_id": f"r{number}", "symbol": "BTCUSDT", "side": "buy" if number % 2 == 0 else "sell"}
        data = json.dumps({**body, "confidence": 0.9, "quantity": "0.01"})
        found.append(("xadd", "signal.execute", {"type": "signal.execute", "data": data}))
    return found


def confirmations(server: RedisServer) -> dict[str, dict[str, Any]]:
    """By signal, repeats dropped by their event ids."""
    (entries,) = ask(server, ("xrange", "trade_confirmations"))
    events = {e.field_values[b"event_id"]: json.loads(e.field_values[b"data"]) for e in entries}
    found = {}
    for event in events.values():
        assert event["signal_id"] not in found, "two confirmations of one signal"
        found[event["signal_id"]] = event
    return found


def confirmed(server: RedisServer, wanted: set[str], least: int | None = None) -> dict[str, dict[str, Any]]:
    """All confirmations, once so many of the wanted signals have one; by default all of them."""
    until = time.monotonic() + 3 * PATIENCE_SECONDS
    while len(wanted & (found := confirmations(server)).keys()) < (len(wanted) if least is None else least):
        assert time.monotonic() < until, sorted(found)
        time.sleep(0.01)
    return found


def ids(first: int, count: int) -> set[str]:
    return {f"r{number}" for number in range(first, first + count)}


def test_what_redis_brings_is_executed_once_and_told_back_whatever_dies(
    tmp_path: Path, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BUS_PASSWORD", PASSWORD)
    with Site(tmp_path, EDGES.format(port=server.port)) as site:
        ask(server, *signals(0, 10))  # before the engine is there
        site.start()
        confirmed(server, ids(0, 10))
        for round_ in range(1, 4):
            site.rested()
            ask(server, *signals(10 * round_, 10))
            # At once; in the middle of them; when the last ones are on their way.
            confirmed(server, ids(10 * round_, 10), least=3 * (round_ - 1))
            site.kill()
            site.start()
            confirmed(server, ids(10 * round_, 10))
        site.rested()
        server.stop(signal.SIGKILL)
        down = [c for c in site.health()["components"] if c["name"] in ("source/bus", "sink/redis")]
        assert len(down) == 2 and site.health()["entry_ready"]
        posted = site.post({"signal_id": "h1", "symbol": "BTCUSDT", "action": "open", "side": "buy", "qty": "0.01"})
        assert posted.status_code == 202, posted.text
        server.start()
        ask(server, *signals(40, 10), ("xadd", "signal.execute", {"data": "{broken"}))
        found = confirmed(server, ids(0, 50) | {"h1"})  # which waited in the outbox
        assert found.keys() == ids(0, 50) | {"h1"}
        truth = site.rested()
        assert not site.differences(truth)
        pending, dead = ask(server, ("xpending", "signal.execute", "surefire"), ("xrange", "signals.dead"))
        assert pending.pending == 0
        assert json.loads(dead[0].field_values[b"data"])["raw"] == "{broken" and len(dead) == 1
        words = sorted((s, c["outcome"], c["reason"]) for s, c in found.items())
        filled = {s for s, c in found.items() if c["outcome"] == "executed" and c["filled_qty"] == "0.01"}
        assert filled | {s for s, c in found.items() if held_back(c)} == found.keys(), words
        assert filled >= ids(0, 10) | ids(40, 10) | {"h1"}, words
        assert filled & ids(20, 10) and filled & ids(30, 10), words  # killed after their first confirmations
        ask(server, ("xadd", "ess.tripped", {"reason": "a person said so"}))
        until = time.monotonic() + PATIENCE_SECONDS
        while not (halts := site.health()["halts"]):
            assert time.monotonic() < until
            time.sleep(0.05)
        assert halts[0]["kind"] == "ess"
        assert site.end() == 0
        assert PASSWORD not in site.logs() + site.config.read_text()


def test_a_password_that_is_not_there_ends_the_start_with_its_name(tmp_path: Path, server: RedisServer) -> None:
    with Site(tmp_path, EDGES.format(port=server.port).replace("BUS_PASSWORD", "NO_SUCH_VARIABLE")) as site:
        process = site.spawn("run", "--config", str(site.config), "--json")
        assert process.wait(PATIENCE_SECONDS) == 4
        assert "NO_SUCH_VARIABLE" in site.logs()
