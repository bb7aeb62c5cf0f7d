"""The journal on PostgreSQL: what happens when the server, the connection or another engine misbehaves."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
import trio
from msgspec.structs import replace

from engine.core.audit import verify
from engine.core.cursors import EVERYBODY, begin
from engine.core.messages import Alerted, Cursor, DeadLettered, Halt, OutboxRow, Outcome, Position
from engine.runtime.clock import live_clock
from engine.runtime.journal import leases, postgres_schema
from engine.runtime.journal import postgres as store
from engine.runtime.journal.base import Fenced, JournalFailed, OpenState
from engine.runtime.journal.identity import owner_of
from engine.runtime.journal.libpq import translate
from engine.runtime.journal.postgres import PostgresJournal, PostgresTerms
from engine.runtime.journal.postgres_hold import hold_server
from engine.runtime.journal.postgres_reading import open_reader
from engine.runtime.journal.schema import MIGRATIONS
from engine.runtime.journal.server import Address, address
from engine.runtime.journal.tables import encode
from tests.patience import PATIENCE_SECONDS
from tests.postgres import ENVIRONMENT, PASSWORD, Server
from tests.runtime.journal_world import ACCOUNT, NOW, event, filled, order, submitted, taken, whole

# So long that no machine is too slow for it; where time must pass, the server is told that it has.
TERMS = PostgresTerms(accounts=(ACCOUNT,), away_seconds=PATIENCE_SECONDS, lease_seconds=600)


@pytest.fixture
def at(postgres: Server) -> Address:
    return postgres.journal()


@asynccontextmanager
async def opened(
    at: Address, folder: Path, terms: PostgresTerms = TERMS, name: str = "engine", **options: Any
) -> AsyncIterator[tuple[PostgresJournal, OpenState]]:
    journal = PostgresJournal(at, terms, live_clock(), folder / f"{name}.lock", **options)
    state = await journal.open()
    try:
        yield journal, state
    finally:
        await journal.close()


async def written(journal: PostgresJournal, *steps: Any) -> int:
    seq = 0
    for facts, rows in steps:
        seq = journal.append(facts, rows)
    await journal.durable(seq)
    return seq


async def refusal(at: Address, folder: Path, terms: PostgresTerms = TERMS, name: str = "engine") -> str:
    with pytest.raises(JournalFailed) as refused:
        async with opened(at, folder, terms, name):
            pass
    return str(refused.value)


def sound(at: Address, facts: int) -> None:
    """The chain and the tables agree, and nothing is there twice or missing."""
    with closing(open_reader(at)) as reader, reader.snapshot():
        report = verify(reader.lines(), reader.tables())
    assert (report.findings, report.facts) == ((), facts)


def backends(postgres: Server, at: Address) -> list[int]:
    """The sessions of engines on this journal."""
    found = postgres.sql("SELECT pid FROM pg_stat_activity WHERE application_name LIKE %s", f"surefire/{at.schema}/%")
    return [int(str(pid)) for (pid,) in found]


# ------------------------------------------------------------------------------------------------ the connection breaks


async def test_a_backend_that_is_killed_between_commits_costs_nothing(
    postgres: Server, at: Address, tmp_path: Path
) -> None:
    async with opened(at, tmp_path) as (journal, _):
        await written(journal, taken(1))
        postgres.sql("SELECT pg_terminate_backend(%s)", backends(postgres, at)[0])
        await written(journal, submitted(1), filled(1))
        assert journal.stats().commits == 2
    sound(at, 6)


async def test_backends_killed_all_the_time_lose_and_double_nothing(
    postgres: Server, at: Address, tmp_path: Path
) -> None:
    async with opened(at, tmp_path) as (journal, _):
        killed = 0

        async def kill() -> None:
            nonlocal killed
            while True:
                for pid in await trio.to_thread.run_sync(backends, postgres, at):
                    await trio.to_thread.run_sync(postgres.sql, "SELECT pg_terminate_backend(%s)", pid)
                    killed += 1
                await trio.sleep(0.003)

        position = None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(kill)
            number = 0
            while killed < 30:
                steps, position = whole(number, position)
                await written(journal, *steps)
                row = await journal.signal(f"s-{number:06d}")
                assert row is not None and row.outcome is Outcome.EXECUTED
                number += 1
            nursery.cancel_scope.cancel()
        seq = journal.stats().seq
    sound(at, seq)


class Relay:
    """A way to the server that can be cut at a chosen moment."""

    def __init__(self, port: int) -> None:
        self._to = port
        self.port = 0
        self.swallow_replies = False  # from now on the server hears, and is not heard
        self.swallow_requests = False
        self.heard = 0  # bytes that went to the server
        self._scope = trio.CancelScope()

    async def run(self, task_status: trio.TaskStatus[None]) -> None:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        self.port = listeners[0].socket.getsockname()[1]
        await trio.serve_listeners(self._serve, listeners, task_status=task_status)  # type: ignore[arg-type]

    async def _serve(self, client: trio.SocketStream) -> None:
        server = await trio.open_tcp_stream("127.0.0.1", self._to)
        async with client, server, trio.open_nursery() as nursery:
            self._scope = nursery.cancel_scope
            nursery.start_soon(self._copy, client, server, "swallow_requests")
            await self._copy(server, client, "swallow_replies")
            nursery.cancel_scope.cancel()

    async def _copy(self, source: trio.SocketStream, target: trio.SocketStream, swallow: str) -> None:
        try:
            async for data in source:
                if swallow == "swallow_requests":
                    self.heard += len(data)
                if not getattr(self, swallow):
                    await target.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        self._scope.cancel()

    def cut(self) -> None:
        self.swallow_replies = self.swallow_requests = False
        self._scope.cancel()


@asynccontextmanager
async def relayed(postgres: Server, at: Address) -> AsyncIterator[tuple[Relay, Address]]:
    relay = Relay(postgres.port)
    async with trio.open_nursery() as nursery:
        await nursery.start(relay.run)
        url = postgres.url.replace(f":{postgres.port}/", f":{relay.port}/")
        yield relay, address(url, at.schema, ENVIRONMENT, "SUREFIRE_TEST_PASSWORD")
        nursery.cancel_scope.cancel()


async def until(condition: Any) -> None:
    with trio.fail_after(PATIENCE_SECONDS):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.002)


def facts_of(at: Address) -> int:
    with closing(open_reader(at)) as reader:
        return reader.place().seq


async def test_a_commit_whose_reply_was_lost_is_found_and_not_repeated(
    postgres: Server, at: Address, tmp_path: Path
) -> None:
    async with relayed(postgres, at) as (relay, through), opened(through, tmp_path) as (journal, _):
        await written(journal, taken(1))
        relay.swallow_replies = True
        seq = journal.append(*submitted(1))
        journal.hurry(seq)
        await until(lambda: facts_of(at) == seq)  # it has happened, and the engine cannot know
        assert journal.stats().durable_seq < seq
        relay.cut()
        await journal.durable(seq)
        await written(journal, filled(1))
        assert journal.stats().commits == 3
    sound(at, 6)


async def test_a_commit_that_never_arrived_is_sent_again(postgres: Server, at: Address, tmp_path: Path) -> None:
    async with relayed(postgres, at) as (relay, through), opened(through, tmp_path) as (journal, _):
        await written(journal, taken(1))
        relay.swallow_requests, heard = True, relay.heard
        seq = journal.append(*submitted(1))
        journal.hurry(seq)
        await until(lambda: relay.heard > heard)
        relay.cut()
        await journal.durable(seq)
        await written(journal, filled(1))
    sound(at, 6)


async def test_a_server_that_hears_and_does_not_answer_is_asked_on_a_new_connection(
    postgres: Server, at: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "ANSWER_SECONDS", 0.3)
    async with relayed(postgres, at) as (relay, through), opened(through, tmp_path) as (journal, _):
        await written(journal, taken(1))
        relay.swallow_replies = True
        seq = journal.append(*submitted(1))
        journal.hurry(seq)
        await until(lambda: facts_of(at) == seq)
        relay.swallow_replies = False  # what was swallowed never comes: only a new connection can tell
        await journal.durable(seq)
    sound(at, 3)


async def test_rows_without_facts_are_resolved_too(postgres: Server, at: Address, tmp_path: Path) -> None:
    async with relayed(postgres, at) as (relay, through), opened(through, tmp_path) as (journal, _):
        seq = await written(journal, taken(1))
        relay.swallow_replies = True
        journal.append((), (event("a"),))  # written twice, its number would be taken
        journal.hurry(seq)
        with closing(open_reader(at)) as reader:
            await until(lambda: reader.last_event() == 1)
        relay.cut()
        await journal.durable(seq)
        assert [row.event_id for row in await journal.outbox(0)] == [1]
    sound(at, 2)


async def test_a_server_that_starts_anew_is_waited_for(postgres: Server, at: Address, tmp_path: Path) -> None:
    async with opened(at, tmp_path) as (journal, _):
        await written(journal, taken(1))
        await trio.to_thread.run_sync(postgres.stop)
        seq = journal.append(*submitted(1))
        journal.hurry(seq)
        await trio.sleep(0.3)
        assert journal.stats().durable_seq < seq and not journal.failed
        await trio.to_thread.run_sync(postgres.start)
        await journal.durable(seq)
        row = await journal.signal("s-000001")
        assert row is not None
    sound(at, 3)


async def test_a_server_that_dies_keeps_every_commit_that_it_confirmed(
    postgres: Server, at: Address, tmp_path: Path
) -> None:
    async with opened(at, tmp_path) as (journal, _):
        await written(journal, taken(1))
        await trio.to_thread.run_sync(postgres.stop, signal.SIGKILL)
        await trio.to_thread.run_sync(postgres.start)
        await written(journal, submitted(1), filled(1))
    sound(at, 6)


async def test_a_server_that_lost_what_it_had_confirmed_is_not_written_to(
    postgres: Server, at: Address, tmp_path: Path
) -> None:
    async with opened(at, tmp_path) as (journal, _):
        await written(journal, taken(1))
        await written(journal, taken(2))
        postgres.sql(f"UPDATE {at.schema}.leases SET commits = commits - 1 WHERE account = ''")  # as a backup would
        postgres.sql("SELECT pg_terminate_backend(%s)", backends(postgres, at)[0])
        with pytest.raises(JournalFailed, match=r"1 commits of this run, and had confirmed 2: .*backup"):
            await journal.failure()


# ---------------------------------------------------------------------------------------------------- it takes too long


async def test_a_server_that_stays_away_is_a_failure_that_says_how_long(
    postgres: Server, at: Address, tmp_path: Path
) -> None:
    terms = replace(TERMS, away_seconds=2)
    async with opened(at, tmp_path, terms) as (journal, _):
        await written(journal, taken(1))
        await trio.to_thread.run_sync(postgres.stop)
        try:
            seq = journal.append(*submitted(1))
            with pytest.raises(JournalFailed, match=r"127\.0\.0\.1.*given up after 2 s: the server is out of reach"):
                await journal.durable(seq)
            assert PASSWORD not in str(journal.failed)
            with pytest.raises(JournalFailed):
                await journal.signal("s-000001")
            assert journal.append(*submitted(2)) == seq + 1  # takes no more, and does not stop anybody
        finally:
            await trio.to_thread.run_sync(postgres.start)
    async with opened(at, tmp_path) as (_, state):
        assert state.seq == 2


async def test_what_protects_does_not_wait_for_a_server_that_is_away(
    postgres: Server, at: Address, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PROTECTION_SECONDS", 0.1)
    async with opened(at, tmp_path) as (journal, _):
        await written(journal, taken(1))
        await trio.to_thread.run_sync(postgres.stop)
        try:
            seq = journal.append(*submitted(1))
            with pytest.raises(JournalFailed, match="no commit within"):
                await journal.durable(seq, eager=True, protective=True)
            assert not journal.failed
        finally:
            await trio.to_thread.run_sync(postgres.start)
        await journal.durable(seq)
    sound(at, 3)


# -------------------------------------------------------------------------------------------------- the server says no


async def test_a_server_made_read_only_is_waited_for_and_then_given_up(
    postgres: Server, at: Address, tmp_path: Path
) -> None:
    async with opened(at, tmp_path, replace(TERMS, away_seconds=3)) as (journal, _):
        await written(journal, taken(1))
        postgres.sql("ALTER ROLE surefire SET default_transaction_read_only = on")
        try:
            postgres.sql("SELECT pg_terminate_backend(%s)", backends(postgres, at)[0])
            with pytest.raises(JournalFailed, match=r"may not be written .*25006: the server is read-only"):
                await written(journal, submitted(1))
            assert "may not be written" in await refusal(at, tmp_path / "other")
        finally:
            with psycopg.connect(postgres.url, password=PASSWORD, autocommit=True) as connection:
                connection.execute("SET default_transaction_read_only = off")
                connection.execute("ALTER ROLE surefire RESET default_transaction_read_only")


async def test_a_refused_write_is_final_and_nothing_of_its_commit_stays(
    postgres: Server, at: Address, tmp_path: Path
) -> None:
    """A full disk is told by the same way: an error in the middle of the transaction."""
    async with opened(at, tmp_path) as (journal, _):
        await written(journal, taken(1))
        body = "$$ BEGIN RAISE EXCEPTION 'could not extend file' USING ERRCODE = 'disk_full'; END $$"
        postgres.sql(f"CREATE FUNCTION {at.schema}.full() RETURNS trigger LANGUAGE plpgsql AS {body}")
        trigger = f"CREATE TRIGGER full_disk BEFORE INSERT ON {at.schema}.orders"
        postgres.sql(f"{trigger} FOR EACH ROW EXECUTE FUNCTION {at.schema}.full()")
        with pytest.raises(JournalFailed, match=r"the server's disk is full \(53100: could not extend file\)"):
            await written(journal, submitted(1))
        with pytest.raises(JournalFailed, match="disk is full"):
            await journal.failure()
    assert facts_of(at) == 2


async def test_a_row_that_no_table_can_hold_is_a_failure_that_says_so(at: Address, tmp_path: Path) -> None:
    async with opened(at, tmp_path) as (journal, _):
        fact = Alerted(at_ns=2**63, severity="warning", kind="odd", text="")
        with pytest.raises(JournalFailed, match="a row cannot be written"):
            await written(journal, ((fact,), ()))


async def test_a_commit_that_a_person_cancels_is_made_again(postgres: Server, at: Address, tmp_path: Path) -> None:
    async with opened(at, tmp_path) as (journal, _):
        await written(journal, taken(1))
        with psycopg.connect(postgres.url, password=PASSWORD) as locking:
            locking.execute(f"SELECT 1 FROM {at.schema}.leases FOR UPDATE")
            seq = journal.append(*submitted(1))
            journal.hurry(seq)
            pid = backends(postgres, at)[0]
            waiting = "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'"
            await until(lambda: postgres.sql(waiting, pid))
            postgres.sql("SELECT pg_cancel_backend(%s)", pid)
        await journal.durable(seq)
    sound(at, 3)


async def test_a_text_with_the_character_zero_is_kept(at: Address, tmp_path: Path) -> None:
    fact = Alerted(at_ns=NOW, severity="warning", kind="odd", text="a\x00b", trace_id="t\x00")
    async with opened(at, tmp_path) as (journal, _):
        await written(journal, ((fact,), (Position(account=ACCOUNT, symbol="X\x00"),)))
    sound_facts: list[object] = []
    with closing(open_reader(at)) as reader:
        sound_facts = [record.fact for record in reader.records()]
        assert [record.fact for record in reader.story("t\x00")] == [fact]
        assert reader.audit_log(1)[0].detail == "a\N{SYMBOL FOR NULL}b"
    assert sound_facts == [fact]


async def test_a_live_order_with_the_character_zero_in_its_reason_is_loaded_with_its_executions(
    at: Address, tmp_path: Path
) -> None:
    odd = replace(order(1), reason="a\x00 \\u0000", filled_qty=Decimal("0.01"))
    async with opened(at, tmp_path) as (journal, _):
        await written(journal, taken(1), submitted(1), filled(1), ((), (odd,)))
    async with opened(at, tmp_path) as (_, state):
        assert state.orders == (odd,)
        assert [e.cid for e in state.executions] == [odd.cid]


async def test_dead_letters_are_found_by_any_id(at: Address, tmp_path: Path) -> None:
    ids = ('with "quotes" \\', "plain", "nul \x00", "plain2")
    facts = tuple(
        DeadLettered(at_ns=NOW, source="s", reasons=(), raw=f"raw {n}", signal_id=i) for n, i in enumerate(ids)
    )
    async with opened(at, tmp_path) as (journal, _):
        await written(journal, (facts, ()))
    with closing(open_reader(at)) as reader:
        assert [[letter.raw for letter in reader.dead_letters(i)] for i in ids] == [
            ["raw 0"],
            ["raw 1"],
            ["raw 2"],
            ["raw 3"],
        ]


# ----------------------------------------------------------------------------------------------------------- the start


async def test_a_server_that_is_not_there_is_refused_in_a_sentence(tmp_path: Path) -> None:
    nowhere = address("postgresql://somebody@127.0.0.1:1/nothing", "surefire", {"PW": "canary"}, "PW")
    told = await refusal(nowhere, tmp_path)
    assert told.startswith("postgresql://127.0.0.1:1/nothing, schema surefire: the server is out of reach")
    assert "canary" not in told


async def test_a_wrong_password_is_refused_without_showing_it(postgres: Server, tmp_path: Path) -> None:
    wrong = address(postgres.url, "journal_x", {"PW": "canary-wrong"}, "PW")
    told = await refusal(wrong, tmp_path)
    assert "password authentication failed" in told and "canary" not in told


def test_an_address_is_printed_without_its_password(at: Address) -> None:
    assert PASSWORD in at.conninfo
    assert PASSWORD not in f"{at!r} {at} {PostgresTerms()}"


def test_a_password_that_the_environment_does_not_have_is_named() -> None:
    with pytest.raises(JournalFailed, match="the environment has no SUREFIRE_PW"):
        address("postgresql://localhost/x", "surefire", {}, "SUREFIRE_PW")


async def test_a_newer_journal_is_refused_and_left_alone(postgres: Server, at: Address, tmp_path: Path) -> None:
    async with opened(at, tmp_path) as (journal, _):
        await written(journal, taken(1))
    postgres.sql(f"INSERT INTO {at.schema}.schema_version VALUES ({len(MIGRATIONS) + 1}, 0)")
    told = await refusal(at, tmp_path)
    assert f"schema version {len(MIGRATIONS) + 1}, this program knows {len(MIGRATIONS)}" in told
    with closing(open_reader(at)) as reader, pytest.raises(JournalFailed, match="schema version"):
        reader.place()


@pytest.mark.parametrize("version", range(1, len(MIGRATIONS)))
async def test_an_older_journal_is_brought_forward_with_what_is_in_it(
    postgres: Server, at: Address, tmp_path: Path, version: int
) -> None:
    halt = Halt(scope="engine", reason="drill", since_ns=NOW, by="ann", kind="stop")
    wire = await store.session(at, "nobody", "power", PATIENCE_SECONDS)
    await leases.take(wire, at, "nobody", (), 0, NOW, MIGRATIONS[:version])
    await wire.run("INSERT INTO halts (scope, since_ns, row) VALUES ('engine', ?, ?)", NOW, encode(halt))
    wire.close()
    async with opened(at, tmp_path) as (_, state):
        assert state.halts == (halt,)
        found = postgres.sql(f"SELECT kind, whose FROM {at.schema}.halts")
        assert found == ([("stop", "ann")] if version == 1 else [("", "")])
    versions = postgres.sql(f"SELECT version FROM {at.schema}.schema_version ORDER BY 1")
    assert versions == [(n,) for n in range(1, len(MIGRATIONS) + 1)]


async def test_the_mark_that_all_sinks_had_in_common_is_where_each_of_them_begins(
    postgres: Server, at: Address, tmp_path: Path
) -> None:
    wire = await store.session(at, "nobody", "power", PATIENCE_SECONDS)
    await leases.take(wire, at, "nobody", (), 0, NOW, MIGRATIONS[:5])
    for number in (1, 2, 3):
        values = (number, "main", "order.filled", encode(event(str(number))), int(number <= 2))
        await wire.run("INSERT INTO outbox VALUES (?, ?, ?, ?, ?)", *values)
    wire.close()
    async with opened(at, tmp_path) as (journal, state):
        assert state.cursors == (Cursor(EVERYBODY, 2),) and state.events == 3
        assert [row.event.key for row in await journal.outbox(2)] == ["3"]


async def test_a_sink_that_is_behind_waits_while_the_server_is_away(
    postgres: Server, at: Address, tmp_path: Path
) -> None:
    async with opened(at, tmp_path) as (journal, _):
        await journal.durable(journal.append((), (event("a"), event("b"))))
    rows: list[OutboxRow] = []
    async with opened(at, tmp_path) as (journal, _):
        await trio.to_thread.run_sync(postgres.stop)

        async def read() -> None:
            rows.extend(await journal.outbox(0))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(read)
            await trio.sleep(0.3)
            assert not rows
            await trio.to_thread.run_sync(postgres.start)
        assert [row.event.key for row in rows] == ["a", "b"]


async def test_where_events_are_numbered_from_elsewhere_no_sink_waits_for_those_before(
    at: Address, tmp_path: Path
) -> None:
    terms = replace(TERMS, first_event=5_000_000)
    for _ in range(2):  # the second life finds a journal without an event, too
        async with opened(at, tmp_path, terms) as (journal, state):
            await journal.durable(journal.append((), begin(("a",), state.cursors, state.events)))
            assert journal.stats().sinks_waiting == {"a": 0}
            with trio.fail_after(PATIENCE_SECONDS):
                await journal.published()
    async with opened(at, tmp_path, terms) as (journal, _):
        await journal.durable(journal.append((), (event("x"),)))
        assert [row.event_id for row in await journal.outbox(journal.cursor("a"))] == [5_000_001]
        assert journal.stats().sinks_waiting == {"a": 1}


async def test_two_first_starts_at_once_make_one_journal(at: Address, tmp_path: Path) -> None:
    told: list[str] = []

    async def start(name: str) -> None:
        try:
            async with opened(at, tmp_path, name=name) as (journal, _):
                await written(journal, taken(1))
                await until(lambda: told)
        except JournalFailed as error:
            told.append(str(error))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(start, "one")
        nursery.start_soon(start, "two")
    assert len(told) == 1 and "another engine is running on this journal" in told[0]


async def test_a_damaged_chain_is_refused_at_its_place(postgres: Server, at: Address, tmp_path: Path) -> None:
    async with opened(at, tmp_path) as (journal, _):
        await written(journal, taken(1), taken(2))
    postgres.sql(f"UPDATE {at.schema}.journal SET fact = set_byte(fact, 20, 65) WHERE seq = 3")
    assert "the chain of hashes breaks at fact 3" in await refusal(at, tmp_path)


async def test_a_fact_that_somebody_took_out_is_missed(postgres: Server, at: Address, tmp_path: Path) -> None:
    async with opened(at, tmp_path) as (journal, _):
        await written(journal, taken(1), taken(2))
    postgres.sql(f"DELETE FROM {at.schema}.journal WHERE seq = 2")
    assert "fact 2 is missing from the chain" in await refusal(at, tmp_path)


async def test_power_is_refused_where_the_server_does_not_sync(postgres: Server, at: Address, tmp_path: Path) -> None:
    await trio.to_thread.run_sync(postgres.stop)
    await trio.to_thread.run_sync(postgres.start, "fsync=off")
    try:
        assert "fsync = off" in await refusal(at, tmp_path)
        async with opened(at, tmp_path, replace(TERMS, durability="process")) as (_, state):
            assert state.seq == 0
    finally:
        await trio.to_thread.run_sync(postgres.stop)
        await trio.to_thread.run_sync(postgres.start)


async def test_durability_is_the_servers_synchronous_commit(postgres: Server, at: Address, tmp_path: Path) -> None:
    for durability, expected in (("power", b"on"), ("process", b"off")):
        wire = await store.session(at, "nobody", durability, PATIENCE_SECONDS)  # type: ignore[arg-type]
        assert await wire.run("SHOW synchronous_commit") == ((expected,),)
        wire.close()


# ---------------------------------------------------------------------------------------------------------- the leases


async def test_a_second_engine_is_refused_while_the_first_one_holds_its_lease(at: Address, tmp_path: Path) -> None:
    async with opened(at, tmp_path) as (journal, _):
        told = await refusal(at, tmp_path, name="other")
        assert re.search(r"another engine is running on this journal \(.*:[0-9a-f]{20}, epoch 1\).* ends in \d", told)
        await written(journal, taken(1))
    async with opened(at, tmp_path, name="other") as (_, state):  # given back: no need to wait
        assert (state.seq, state.epoch) == (2, 2)


async def test_the_same_engine_twice_is_refused_by_its_lock_file(at: Address, tmp_path: Path) -> None:
    async with opened(at, tmp_path):
        assert "another engine is running on this journal (process" in await refusal(at, tmp_path)


async def test_an_engine_that_was_killed_starts_again_at_once(postgres: Server, at: Address, tmp_path: Path) -> None:
    killed(at, tmp_path)
    rows = postgres.sql(f"SELECT until_ns > 0 FROM {at.schema}.leases")
    assert rows == [(True,), (True,)]
    async with opened(at, tmp_path) as (_, state):
        assert (state.seq, state.epoch) == (2, 2)


def killed(at: Address, folder: Path, lease_seconds: float = 600.0) -> None:
    """An engine that committed a signal and died by kill -9."""
    program = """
import os, signal, sys, trio
from pathlib import Path
from engine.runtime.journal.server import Address
from tests.runtime.test_journal_postgres import TERMS, live_clock, opened, replace, taken, written
async def main():
    terms = replace(TERMS, lease_seconds=float(sys.argv[5]))
    async with opened(Address(*sys.argv[1:4]), Path(sys.argv[4]), terms) as (journal, _):
        await written(journal, taken(1))
        os.kill(os.getpid(), signal.SIGKILL)
trio.run(main)
"""
    arguments = [at.conninfo, at.schema, at.where, str(folder), str(lease_seconds)]
    done = subprocess.run([sys.executable, "-c", program, *arguments], capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()


async def test_another_engine_takes_over_when_the_lease_is_over_and_not_before(
    postgres: Server, at: Address, tmp_path: Path
) -> None:
    killed(at, tmp_path)
    assert "another engine is running on this journal" in await refusal(at, tmp_path, name="other")
    states: list[OpenState] = []

    async def stand_by() -> None:
        async with opened(at, tmp_path, replace(TERMS, standby=True), name="other") as (journal, state):
            states.append(state)
            await written(journal, submitted(1))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(stand_by)
        await trio.sleep(1.0)
        assert not states
        postgres.sql(f"UPDATE {at.schema}.leases SET until_ns = 1")  # time passes
    assert [(state.seq, state.epoch) for state in states] == [(2, 2)]
    sound(at, 3)


def version_of(postgres: Server, at: Address) -> int:
    ((version,),) = postgres.sql(f"SELECT max(version) FROM {at.schema}.schema_version")
    return int(str(version))


@asynccontextmanager
async def held_by_an_older_program(at: Address) -> AsyncIterator[Callable[[], Awaitable[None]]]:
    """A journal of version 5, and the lease of who writes it; gives what gives the lease back."""
    wire = await store.session(at, "older", "power", PATIENCE_SECONDS)
    found = await leases.take(wire, at, "older", (ACCOUNT,), 600_000_000_000, NOW, MIGRATIONS[:5])
    assert isinstance(found, leases.Tenure)
    try:
        yield partial(leases.release, wire, found)
    finally:
        wire.close()


async def test_a_newer_program_leaves_the_tables_alone_while_an_older_one_writes_them(
    postgres: Server, at: Address, tmp_path: Path
) -> None:
    async with held_by_an_older_program(at) as give_back, trio.open_nursery() as nursery:
        assert "another engine is running on this journal (older" in await refusal(at, tmp_path)
        with pytest.raises(JournalFailed, match="another engine is running"):
            await trio.to_thread.run_sync(_hold, at, tmp_path)  # for `journal archive`
        assert version_of(postgres, at) == 5
        states: list[OpenState] = []

        async def stand_by() -> None:
            async with opened(at, tmp_path, replace(TERMS, standby=True)) as (_, state):
                states.append(state)

        nursery.start_soon(stand_by)
        await until(lambda: len(backends(postgres, at)) == 2)
        assert (version_of(postgres, at), states) == (5, [])
        await give_back()
        await until(lambda: states)
        assert (version_of(postgres, at), states[0].epoch) == (len(MIGRATIONS), 2)


def _hold(at: Address, folder: Path) -> None:
    with hold_server(at, folder / "engine.lock", folder, "power", live_clock()):
        pass


async def test_a_stand_by_that_finds_a_newer_journal_when_its_turn_comes_refuses_it(
    postgres: Server, at: Address, tmp_path: Path
) -> None:
    told: list[str] = []

    async def stand_by() -> None:
        told.append(await refusal(at, tmp_path, replace(TERMS, standby=True), name="other"))

    async with trio.open_nursery() as nursery, opened(at, tmp_path):
        nursery.start_soon(stand_by)
        await until(lambda: len(backends(postgres, at)) == 2)
        assert not told
        postgres.sql(f"INSERT INTO {at.schema}.schema_version VALUES ({len(MIGRATIONS) + 1}, 0)")
    assert "it was written by a newer one" in told[0]
    assert postgres.sql(f"SELECT DISTINCT epoch FROM {at.schema}.leases") == [(1,)]


async def test_a_stand_by_waits_while_another_one_brings_the_journal_forward(
    postgres: Server, at: Address, tmp_path: Path
) -> None:
    """For longer than a lock is waited for."""
    states: list[OpenState] = []

    async def stand_by() -> None:
        async with opened(at, tmp_path, replace(TERMS, standby=True)) as (_, state):
            states.append(state)

    wire = await store.session(at, "forward", "power", PATIENCE_SECONDS)
    (theirs,) = backends(postgres, at)
    await postgres_schema.begin(wire, at)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stand_by)
        await until(lambda: len(backends(postgres, at)) == 2)
        (first,) = (pid for pid in backends(postgres, at) if pid != theirs)
        await until(lambda: set(backends(postgres, at)) - {first, theirs})  # it was refused, and came again
        assert not states
        await wire.run("ROLLBACK")
        wire.close()
    assert states[0].epoch == 1


async def test_a_lease_ends_by_itself(at: Address, tmp_path: Path) -> None:
    killed(at, tmp_path, lease_seconds=1.0)
    async with opened(at, tmp_path, replace(TERMS, standby=True), name="other") as (_, state):
        assert (state.seq, state.epoch) == (2, 2)


async def test_an_engine_that_was_taken_over_commits_nothing_and_sends_nothing(
    postgres: Server, at: Address, tmp_path: Path
) -> None:
    """As after a pause: it believes in its lease, and has an intent in hand."""
    async with opened(at, tmp_path) as (first, _):
        await written(first, taken(1))
        postgres.sql(f"UPDATE {at.schema}.leases SET until_ns = 0")  # the time that passes in a pause
        async with opened(at, tmp_path, name="other") as (second, state):
            assert state.epoch == 2
            with pytest.raises(JournalFailed, match=rf"taken over by {owner_of(tmp_path / 'other.lock')} \(epoch 2\)"):
                await written(first, submitted(1))
            with pytest.raises(Fenced, match="taken over"):
                await first.failure()
            for opening in (True, False):
                assert "this engine sends nothing any more" in first.barred(opening)
            await written(second, submitted(1))
    sound(at, 3)


async def test_one_account_that_was_taken_over_stops_commits_about_it(
    postgres: Server, at: Address, tmp_path: Path
) -> None:
    terms = replace(TERMS, accounts=(ACCOUNT, "second"))
    async with opened(at, tmp_path, terms) as (journal, _):
        await written(journal, taken(1))
        postgres.sql(f"UPDATE {at.schema}.leases SET owner = 'somebody', epoch = 7 WHERE account = %s", ACCOUNT)
        other = Alerted(at_ns=NOW, account="second", severity="warning", kind="x", text="")
        await written(journal, ((other,), ()))  # the other one is still ours
        with pytest.raises(JournalFailed):
            await written(journal, submitted(1))
    assert facts_of(at) == 3


async def test_a_lease_is_renewed_while_nothing_happens(postgres: Server, at: Address, tmp_path: Path) -> None:
    async with opened(at, tmp_path, replace(TERMS, lease_seconds=1.0)) as (journal, _):
        ends = f"SELECT min(until_ns) FROM {at.schema}.leases"
        ((first,),) = postgres.sql(ends)
        await until(lambda: postgres.sql(ends)[0][0] > first)  # type: ignore[operator]
        await until(lambda: not journal.barred(opening=True))


async def test_an_engine_that_learns_of_the_take_over_by_a_renewal_stops(
    postgres: Server, at: Address, tmp_path: Path
) -> None:
    async with opened(at, tmp_path, replace(TERMS, lease_seconds=0.5)) as (journal, _):
        postgres.sql(f"UPDATE {at.schema}.leases SET epoch = 7, owner = 'somebody'")
        with trio.fail_after(PATIENCE_SECONDS), pytest.raises(JournalFailed, match="taken over"):
            await journal.failure()
        assert journal.barred(opening=False)


async def test_a_loop_that_stood_still_until_a_renewal_was_due_loses_no_connection(at: Address, tmp_path: Path) -> None:
    """Its first step afterwards is a commit, in the very turn in which the connection's keeper wakes up."""
    async with opened(at, tmp_path, replace(TERMS, lease_seconds=0.6)) as (journal, _):
        for number in range(1, 4):
            wire = journal._wire
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_commit_after_a_stall, journal, number)
            assert journal._wire is wire  # the same connection


async def _commit_after_a_stall(journal: PostgresJournal, number: int) -> None:
    seq = journal.append(*taken(number))
    time.sleep(0.5)  # noqa: ASYNC251 (that is what the test is about)
    await trio.lowlevel.checkpoint()
    await journal.durable(seq, eager=True)


async def test_a_lease_that_could_not_be_renewed_bars_openers_and_with_a_stand_by_everything(
    postgres: Server, at: Address, tmp_path: Path
) -> None:
    for standby in (False, True):
        terms = replace(TERMS, lease_seconds=0.4, standby=standby)
        async with opened(at, tmp_path, terms) as (journal, _):
            await until(lambda: not journal.barred(opening=True))
            await trio.to_thread.run_sync(postgres.stop)
            try:
                await until(lambda: journal.barred(opening=True))
                assert bool(journal.barred(opening=False)) == standby
            finally:
                await trio.to_thread.run_sync(postgres.start)
            await until(lambda: not journal.barred(opening=True))  # nobody has taken it meanwhile


async def test_a_paused_engine_in_the_middle_of_a_commit_does_not_hold_up_the_next(
    postgres: Server, at: Address, tmp_path: Path
) -> None:
    """Half of its transaction has arrived, and keeps the rows locked."""
    async with opened(at, tmp_path) as (_, _):
        pass
    with closing(psycopg.connect(postgres.url, password=PASSWORD)) as half:
        tag = leases.tag(at.schema, owner_of(tmp_path / "engine.lock"))
        half.execute("SELECT set_config('application_name', %s, false)", (tag,))
        half.execute(f"UPDATE {at.schema}.leases SET commits = commits + 1")
        async with opened(at, tmp_path, name="other") as (journal, state):
            assert state.epoch == 2
            await written(journal, taken(1))


# ------------------------------------------------------------------------------------------------------------- readers


async def test_a_reader_reads_on_after_the_server_was_away(postgres: Server, at: Address, tmp_path: Path) -> None:
    async with opened(at, tmp_path) as (journal, _):
        await written(journal, taken(1), submitted(1))
    with closing(open_reader(at)) as reader:
        assert reader.order(order(1).cid) == order(1)
        await trio.to_thread.run_sync(postgres.stop)
        with pytest.raises(JournalFailed, match=r"127\.0\.0\.1"):
            reader.order(order(1).cid)
        await trio.to_thread.run_sync(postgres.start)
        assert reader.order(order(1).cid) == order(1)


async def test_a_reader_of_nothing_says_that_there_is_no_journal(at: Address) -> None:
    with closing(open_reader(at)) as reader, pytest.raises(JournalFailed, match="there is no journal here"):
        reader.place()


async def test_a_start_uses_the_indexes_of_what_is_open(postgres: Server, at: Address, tmp_path: Path) -> None:
    """With a history of closed orders, what is live is found by its own index."""
    async with opened(at, tmp_path) as (journal, _):
        await written(journal, submitted(1))
    copies = (
        f"INSERT INTO {at.schema}.orders SELECT cid || n, account, symbol || n, signal_id, 'closed', 0, submitted_ns,"
        f" row FROM {at.schema}.orders, generate_series(1, 20000) AS n"
    )
    postgres.sql(copies)
    postgres.sql(f"ANALYZE {at.schema}.orders")
    plan = postgres.sql(f"EXPLAIN SELECT row FROM {at.schema}.orders WHERE live = 2 ORDER BY rowid")
    assert any("orders_live" in str(line) for line in plan), plan
    async with opened(at, tmp_path) as (_, state):
        assert state.orders == (order(1),)


def test_the_statements_of_sqlite_are_put_into_the_servers_words() -> None:
    assert translate("SELECT row FROM orders INDEXED BY orders_live WHERE cid = ? AND live = ?") == (
        "SELECT row FROM orders WHERE cid = $1 AND live = $2"
    )
