"""Two engines share the accounts, on real servers: one is killed, stopped, told to end; nothing is lost or doubled."""

import json
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.fleet import Engine, Fleet, until
from engine.core.cursors import told
from engine.core.messages import Confirmed, Leg, State
from engine.venues.paper import Truth
from tests.exchange_truth import truth_of
from tests.patience import PATIENCE_SECONDS
from tests.postgres import Server
from tests.process.site import differences
from tests.process.test_redis import ask
from tests.redis import PASSWORD, RedisServer, running

SHARDS = {"a": ("alice",), "b": ("bob", "ben")}
REDIS = """
[[sources]]
kind = "redis"
name = "bus"
server = "redis://127.0.0.1:{port}/0"
password_env = "BUS_PASSWORD"
streams = ["signal.execute", "ess.tripped"]
dead_letters = "signals.dead"
reclaim_seconds = 1
[[sinks]]
kind = "redis"
server = "redis://127.0.0.1:{port}/0"
password_env = "BUS_PASSWORD"
"""


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    monkeypatch.setenv("BUS_PASSWORD", PASSWORD)
    yield from running()


def send(redis: RedisServer, fleet: Fleet, first: int, count: int) -> list[str]:
    """Entries for all accounts in turn, now this way and now that."""
    commands: list[tuple[Any, ...]] = []
    for number in range(first, first + count):
        body = {"signal_id": f"r{number}", "account": fleet.accounts[number % 3], "symbol": "BTCUSDT"}
        side = "buy" if number // 3 % 2 == 0 else "sell"
        data = json.dumps({**body, "side": side, "confidence": 0.9, "quantity": "0.01"})
        commands.append(("xadd", "signal.execute", {"type": "signal.execute", "data": data}))
    ask(redis, *commands)
    return [f"r{number}" for number in range(first, first + count)]


def truth(fleet: Fleet, account: str) -> Truth:
    return truth_of("bybit", "linear", fleet.exchange, account)


def at_rest(fleet: Fleet) -> bool:
    """By what is committed: every signal has its end, all is published, and what lives are stops that stand."""
    for shard in fleet.shards:
        with closing(fleet.reader(shard)) as reader:
            state = reader.state()
        unpublished = told(state.cursors, state.events) < state.events
        if state.signals or unpublished or any(o.state is not State.OPEN or o.leg is Leg.ENTRY for o in state.orders):
            return False
    return True


def books(fleet: Fleet) -> list[str]:
    """Where they differ from the exchange's truth, once nothing moves any more."""
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        until(lambda: at_rest(fleet), why=fleet.logs)
        found = []
        for shard, accounts in fleet.shards.items():
            with closing(fleet.reader(shard)) as reader:
                for account in accounts:
                    found += differences(reader, truth(fleet, account), account=account)
        if not found or time.monotonic() > end:
            return found
        time.sleep(0.2)


def confirmed(fleet: Fleet) -> list[str]:
    """The signals that have their end, each as often as it has one."""
    found = []
    for shard in fleet.shards:
        with closing(fleet.reader(shard)) as reader:
            found += [r.fact.signal_id for r in reader.records(0, 1_000_000) if isinstance(r.fact, Confirmed)]
    return sorted(found)


def all_confirmed(fleet: Fleet, sent: list[str]) -> None:
    """Each has its end, once."""
    until(
        lambda: not set(sent) - set(confirmed(fleet)),
        why=lambda: f"no end: {sorted(set(sent) - set(confirmed(fleet)))}; {fleet.logs()}",
    )
    assert confirmed(fleet) == sorted(sent)


def left_for(postgres: Server, fleet: Fleet) -> list[tuple[object, ...]]:
    """Shards, and how many signals wait for the holder of each."""
    return postgres.sql(f"SELECT shard, count(*) FROM {fleet.schema}.inbox GROUP BY shard")


def of(fleet: Fleet, account: str) -> list[str]:
    return [order.cid for order in truth(fleet, account).orders]


def test_what_two_engines_read_is_executed_once_by_the_holder_through_a_kill_and_a_take_over(
    postgres: Server, redis: RedisServer, tmp_path: Path
) -> None:
    with Fleet(tmp_path, postgres, SHARDS, lease_seconds=2, more=REDIS.format(port=redis.port)) as fleet:
        one, two = fleet.start("one"), fleet.start("two")
        held = fleet.settled(one, two)
        assert [len(names) for names in held.values()] == [1, 1]
        sent = send(redis, fleet, 0, 12)  # each engine reads of both shards
        all_confirmed(fleet, sent)
        until(lambda: at_rest(fleet), why=fleet.logs)  # no order is on its way: a doubt takes its minute
        one.send_signal(signal.SIGSTOP)
        sent += send(redis, fleet, 12, 12)  # some of it Redis gives to the one that is stopped
        one.kill()
        sent += send(redis, fleet, 24, 6)
        assert fleet.settled(two) == {"two": {"a", "b"}}
        all_confirmed(fleet, sent)
        one = fleet.start("one")
        fleet.settled(one, two)
        sent += send(redis, fleet, 30, 6)
        all_confirmed(fleet, sent)
        assert confirmed(fleet) == sorted(sent)
        assert books(fleet) == []
        until(lambda: ask(redis, ("xpending", "signal.execute", "surefire"))[0].pending == 0)
        assert left_for(postgres, fleet) == []
        assert postgres.sql(f"SELECT is_called FROM {fleet.schema}.inbox_id_seq") == [(True,)]  # some had been left
        assert one.end() == two.end() == 0
        audit = fleet.run("audit", "verify")
        assert audit.returncode == 0, audit.stdout + audit.stderr
        events = [e.field_values for e in ask(redis, ("xrange", "trade_confirmations"))[0]]
        by_id = {fields[b"event_id"]: fields[b"data"] for fields in events}
        published = sorted(json.loads(data)["signal_id"] for data in by_id.values())
        assert published == sorted(sent), "an event id stands for one event, whichever shard it is of"


def test_an_engine_that_was_stopped_and_wakes_up_after_a_take_over_sends_nothing(
    postgres: Server, tmp_path: Path
) -> None:
    """What it holds has been closed meanwhile, stop and all: it would place another stop."""
    with Fleet(tmp_path, postgres, SHARDS, lease_seconds=2, prefer={"a": ("one",), "b": ("two",)}) as fleet:
        one, two = fleet.start("one"), fleet.start("two")
        assert fleet.settled(one, two) == {"one": {"a"}, "two": {"b"}}
        assert one.order("alice", "s1").status_code == 202
        assert books(fleet) == []
        one.send_signal(signal.SIGSTOP)
        try:
            assert fleet.settled(two) == {"two": {"a", "b"}}
            assert two.order("alice", "s1").status_code == 200  # what the first one did is known
            assert two.order("alice", "s2", symbol="ETHUSDT").status_code == 202
            assert two.close("alice", "s3").status_code == 202
            assert books(fleet) == []
            before = of(fleet, "alice")
        finally:
            one.send_signal(signal.SIGCONT)
        until(lambda: "shard lost" in fleet.logs(), why=fleet.logs)
        assert of(fleet, "alice") == before
        assert fleet.settled(one, two) == {"one": {"a"}, "two": {"b"}}  # preferred, it gets it back in good order
        assert books(fleet) == []
        assert one.order("alice", "s2", symbol="ETHUSDT").status_code == 200
        assert sorted(set(of(fleet, "alice")) - set(before)) == []
        assert one.end() == two.end() == 0


def test_an_engine_that_is_told_to_end_hands_over_at_once(postgres: Server, tmp_path: Path) -> None:
    with Fleet(tmp_path, postgres, SHARDS, lease_seconds=600) as fleet:
        one = fleet.start("one")
        fleet.settled(one)
        assert one.order("alice", "s1").status_code == 202
        assert one.order("ben", "s2").status_code == 202
        assert books(fleet) == []
        two = fleet.start("two")
        held = fleet.settled(one, two)
        assert [len(names) for names in held.values()] == [1, 1]
        theirs = {account for name in held["two"] for account in SHARDS[name]}
        other = next(iter(theirs))
        until(lambda: f"engine 'two' holds ({two.api})" in one.order(other, "s3").text)  # it hears that twice a second
        assert one.order(other, "s3").status_code == 503
        _stop_means_every_shard(one, two)
        assert {p["account"] for p in one.get("/positions")["positions"]} == {"alice", "ben"}
        metrics = _metrics(one)
        for name in SHARDS:
            assert f'surefire_shard_held{{shard="{name}"}} {float(name in held["one"])}' in metrics
        seen = fleet.run("check")
        assert seen.returncode == 0, seen.stdout
        assert "shard a (alice): held by engine 'one'" in seen.stdout.replace("engine 'two'", "engine 'one'")
        assert one.end() == 0
        assert fleet.settled(two) == {"two": {"a", "b"}}  # long before the lease is over
        assert two.close("alice", "s4").status_code == 202
        assert books(fleet) == []
        assert two.end() == 0


def _stop_means_every_shard(one: Engine, two: Engine) -> None:
    """Asked of one; a resume is of what each holds."""
    stopped = one.post("/stop", {"by": "test", "reason": "a drill", "flatten": False}).json()
    assert stopped["complete"], stopped
    assert sorted((s["state"], s["holder"]) for s in stopped["shards"]) == [("here", "one"), ("there", "two")]
    for engine in (one, two):
        assert [halt["reason"] for halt in engine.health()["halts"]] == ["stopped: a drill"]
        assert engine.post("/resume", {"by": "test", "scope": "engine", "note": ""}).status_code == 200
        assert engine.health()["halts"] == []


def _metrics(engine: Engine) -> str:
    return httpx.get(f"{engine.api}/metrics", timeout=PATIENCE_SECONDS).text
