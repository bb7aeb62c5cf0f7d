"""What every journal promises, held for all stores."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing
from msgspec.structs import replace

from engine.core.audit import GENESIS, chain, verify
from engine.core.cursors import EVERYBODY
from engine.core.messages import (
    AccountRow,
    Alerted,
    Cursor,
    Delivery,
    Halt,
    Halted,
    HaltEnded,
    Limits,
    LimitsRow,
    LimitsSet,
    OutboxRow,
    Outcome,
    Position,
    Reconciled,
    Resumed,
    Side,
    State,
    Trade,
)
from engine.core.times import SECOND
from engine.runtime.journal.base import Journal, JournalFailed, OpenState
from engine.runtime.journal.group import Batch, Group, Place
from engine.runtime.journal.memory import MemoryDisk, MemoryJournal
from engine.runtime.journal.outgoing import FETCHED, RECENT
from engine.runtime.journal.postgres import PostgresJournal, PostgresTerms
from engine.runtime.journal.sqlite import SqliteJournal
from engine.runtime.journal.tables import encode
from tests.patience import PATIENCE_SECONDS
from tests.runtime.journal_world import (
    ACCOUNT,
    CLOCK,
    NOW,
    SYMBOL,
    event,
    filled,
    order,
    signal,
    submitted,
    taken,
    whole,
)

Make = Callable[..., Any]


@pytest.fixture(params=["power", "process", "memory", "postgres-power", "postgres-process"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Make:
    """Journals on one disk, one life after the other."""
    if request.param == "memory":
        disk = MemoryDisk()
        return lambda **options: MemoryJournal(disk, CLOCK, **options)
    if request.param.startswith("postgres-"):
        at = request.getfixturevalue("postgres").journal()
        terms = PostgresTerms(durability=request.param.removeprefix("postgres-"), accounts=(ACCOUNT,))
        return lambda **options: PostgresJournal(at, terms, CLOCK, tmp_path / "engine.lock", **options)
    path = tmp_path / "journal.sqlite"
    return lambda **options: SqliteJournal(path, request.param, CLOCK, **options)


@asynccontextmanager
async def opened(make: Make, **options: Any) -> AsyncIterator[tuple[Any, OpenState]]:
    journal = make(**options)
    state = await journal.open()
    try:
        yield journal, state
    finally:
        await journal.close()


async def write(journal: Journal, *steps: Any) -> int:
    seq = 0
    for facts, rows in steps:
        seq = journal.append(facts, rows)
    await journal.durable(seq)
    return seq


async def test_an_empty_journal_opens_with_nothing_in_it(make: Make) -> None:
    async with opened(make) as (_, state):
        nothing: dict[str, Any] = dict.fromkeys(
            ("orders", "positions", "trades", "signals", "accounts", "limits", "halts"), ()
        )
        assert state == OpenState(seq=0, epoch=1, events=0, cursors=(Cursor(EVERYBODY, 0),), **nothing)


async def test_each_life_has_its_epoch(make: Make) -> None:
    epochs = []
    for _ in range(3):
        async with opened(make) as (_, state):
            epochs.append(state.epoch)
    assert epochs == [1, 2, 3]


async def test_facts_are_numbered_and_chained_over_restarts(make: Make) -> None:
    async with opened(make) as (journal, _):
        assert await write(journal, taken(1), submitted(1)) == 3
    async with opened(make) as (journal, state):
        assert state.seq == 3
        assert await write(journal, filled(1)) == 6
        reader = journal.reader()
        digest = GENESIS
        for number, record in enumerate(reader.records(), 1):
            digest = chain(digest, number, encode(record.fact))
            assert (record.seq, record.hash, record.at_ns) == (number, digest, record.fact.at_ns)
        assert [r.fact for r in reader.records()] == [*taken(1)[0], *submitted(1)[0], *filled(1)[0]]
        assert [r.seq for r in reader.records(after=2, limit=2)] == [3, 4]
        reader.close()


async def test_what_is_open_is_loaded_and_what_ended_is_not(make: Make) -> None:
    async with opened(make) as (journal, _):
        steps, position = whole(1)
        await write(journal, *steps, taken(2), submitted(2), taken(3, Outcome.REFUSED))
    async with opened(make) as (journal, state):
        assert state.orders == (order(2),)
        assert [s.signal.signal_id for s in state.signals] == ["s-000002"]
        assert state.signals == (taken(2)[1][0],)
        assert state.positions == (position,)
        assert [(e.exec_id, e.delta, e.venue_ns) for e in state.executions] == [("e1", Decimal("0.01"), NOW + 2)]
        assert state.events == 1


async def test_a_closed_order_with_executions_still_owed_is_open_state(make: Make) -> None:
    owing = replace(order(1), state=State.CLOSED, venue_qty=Decimal("0.01"))
    async with opened(make) as (journal, _):
        await write(journal, taken(1), (submitted(1)[0], (owing,)))
    async with opened(make) as (journal, state):
        assert state.orders == (owing,)
        await write(journal, ((), (replace(owing, filled_qty=Decimal("0.01")),)))
    async with opened(make) as (_, state):
        assert state.orders == ()


async def test_one_symbol_can_be_reloaded(make: Make) -> None:
    async with opened(make) as (journal, _):
        await write(journal, taken(1), submitted(1), taken(2, symbol="ETHUSDT"), submitted(2, "ETHUSDT"), filled(1))
        state = await journal.reload(ACCOUNT, "ETHUSDT")
        assert state.orders == (order(2, "ETHUSDT"),)
        assert [s.signal.signal_id for s in state.signals] == ["s-000002"]
        assert state.positions == () and state.executions == ()
        assert [e.exec_id for e in (await journal.reload(ACCOUNT, SYMBOL)).executions] == ["e1"]


async def test_executions_are_loaded_from_ten_minutes_before_the_reconciled_moment(make: Make) -> None:
    async with opened(make) as (journal, _):
        steps, position = whole(1)
        await write(journal, *steps)
        later = filled(2, position)
        late = tuple(replace(f, venue_ns=NOW + 2000 * SECOND) if hasattr(f, "exec_id") else f for f in later[0])
        await write(journal, taken(2), submitted(2), (late, later[1]))
        await write(journal, ((), (Reconciled(account=ACCOUNT, venue_ns=NOW + 2100 * SECOND),)))
    async with opened(make) as (_, state):
        assert state.reconciled == (Reconciled(account=ACCOUNT, venue_ns=NOW + 2100 * SECOND),)
        assert [e.exec_id for e in state.executions] == ["e2"]


async def test_of_an_old_order_that_lives_its_own_executions_are_loaded_and_not_all_since(make: Make) -> None:
    """However long it rests: a look for it asks for its own, from its beginning on."""
    async with opened(make) as (journal, _):
        steps, position = whole(1)
        await write(journal, *steps)
        await write(journal, taken(2), submitted(2), filled(2, position))
        await write(journal, ((), (replace(order(1), filled_qty=Decimal("0.004"), qty=Decimal("0.01")),)))  # it lives
        await write(journal, ((), (order(3),)))  # so does this one, of which nothing is filled
        await write(journal, ((), (Reconciled(account=ACCOUNT, venue_ns=NOW + 3600 * SECOND),)))
    async with opened(make) as (journal, state):
        assert [o.cid for o in state.orders] == [order(1).cid, order(3).cid]
        assert [(e.exec_id, e.cid) for e in state.executions] == [("e1", order(1).cid)]
        assert (await journal.reload(ACCOUNT, SYMBOL)).executions == state.executions
        assert (await journal.reload(ACCOUNT, "ETHUSDT")).executions == ()


async def test_an_execution_booked_twice_stands_once_in_the_table(make: Make) -> None:
    async with opened(make) as (journal, _):
        await write(journal, taken(1), submitted(1), filled(1), (filled(1)[0][1:2], ()))
    async with opened(make) as (_, state):
        assert [e.exec_id for e in state.executions] == ["e1"]


async def test_a_past_signal_is_found_with_its_end(make: Make) -> None:
    async with opened(make) as (journal, _):
        await write(journal, taken(1), submitted(1))
        row = await journal.signal("s-000001")
        assert row is not None and (row.outcome, row.confirmed) == (Outcome.ACCEPTED, None)
        await write(journal, filled(1))
        row = await journal.signal("s-000001")
        assert row is not None and row.outcome is Outcome.EXECUTED
        assert row.confirmed == filled(1)[0][2]
        assert row.signal == signal(1)
        assert await journal.signal("unknown") is None


async def test_a_signal_row_that_says_more_than_its_facts_is_kept_as_it_is(make: Make) -> None:
    facts, (row,) = taken(1)
    more = replace(row, checks=(), plan=None)
    async with opened(make) as (journal, _):
        await write(journal, (facts, (more,)))
        assert await journal.signal("s-000001") == more
        await write(journal, ((), (row,)))  # without any facts
        assert await journal.signal("s-000001") == row
        journal.append((), (more,))
        await write(journal, taken(1))  # the last word in one commit counts
        assert await journal.signal("s-000001") == row
        journal.append(*taken(1))
        await write(journal, ((), (more,)))
        assert await journal.signal("s-000001") == more


async def test_a_signal_received_and_ended_in_one_commit_is_ended(make: Make) -> None:
    async with opened(make) as (journal, _):
        await write(journal, taken(1), submitted(1), filled(1))
        assert journal.stats().commits == 1
        row = await journal.signal("s-000001")
        assert row is not None and row.outcome is Outcome.EXECUTED


async def test_three_actors_one_hop_apart_share_one_commit(make: Make) -> None:
    async with opened(make, linger_seconds=10) as (journal, _):
        to_second, second = trio.open_memory_channel[int](1)
        to_third, third = trio.open_memory_channel[int](1)

        async def first_actor() -> None:
            seq = journal.append(*taken(1))
            to_second.send_nowait(seq)
            await journal.durable(seq)

        async def second_actor() -> None:
            await second.receive()
            seq = journal.append(*submitted(1))
            to_third.send_nowait(seq)
            await journal.durable(seq)

        async def third_actor() -> None:
            await third.receive()
            await journal.durable(journal.append(*filled(1)))

        for _ in range(20):  # the scheduler's order within a pass is random
            commits = journal.stats().commits
            async with trio.open_nursery() as nursery:
                nursery.start_soon(third_actor)
                nursery.start_soon(second_actor)
                nursery.start_soon(first_actor)
            assert journal.stats().commits == commits + 1


async def test_nothing_is_durable_before_somebody_waits_or_the_linger_is_over(
    make: Make, mock_clock: trio.testing.MockClock
) -> None:
    async with opened(make, linger_seconds=0.03) as (journal, _):
        journal.append(*taken(1))
        for _ in range(10):
            await trio.lowlevel.checkpoint()
        assert journal.stats().commits == 0
        mock_clock.jump(0.03)
        until = time.monotonic() + PATIENCE_SECONDS
        while not journal.stats().commits:
            assert time.monotonic() < until
            await trio.lowlevel.checkpoint()
        assert journal.stats().durable_seq == 2


async def test_durable_waits_for_rows_that_came_without_facts(make: Make) -> None:
    async with opened(make, linger_seconds=10) as (journal, _):
        seq = await write(journal, taken(1))
        assert journal.append((), (AccountRow(account=ACCOUNT, orders_today=7),)) == seq
        assert journal.append(()) == seq
        await journal.durable(seq)
        reader = journal.reader()
        assert reader.accounts() == (AccountRow(account=ACCOUNT, orders_today=7),)
        reader.close()


async def test_a_cancelled_waiter_leaves_the_others_their_commit(make: Make) -> None:
    async with opened(make, linger_seconds=10) as (journal, _):
        seq = journal.append(*taken(1))
        with trio.CancelScope() as gone:
            gone.cancel()
            await journal.durable(seq)
        assert gone.cancelled_caught
        with trio.fail_after(PATIENCE_SECONDS):
            await journal.durable(seq)


async def test_of_several_snapshots_in_one_commit_the_last_is_written(make: Make) -> None:
    async with opened(make) as (journal, _):
        for n in range(50):
            journal.append((), (Position(account=ACCOUNT, symbol=SYMBOL, serial=n),))
        await write(journal, ((), (Position(account=ACCOUNT, symbol="ETHUSDT", serial=1),)))
        assert journal.stats().commits == 1
        reader = journal.reader()
        assert [(p.symbol, p.serial) for p in reader.positions()] == [(SYMBOL, 49), ("ETHUSDT", 1)]
        reader.close()


async def test_a_reader_sees_only_what_is_committed(make: Make) -> None:
    async with opened(make, linger_seconds=10) as (journal, _):
        reader = journal.reader()
        seq = journal.append(*taken(1))
        assert reader.records() == () and reader.signal("s-000001") is None
        await journal.durable(seq)
        assert len(reader.records()) == 2 and reader.signal("s-000001") is not None
        reader.close()


async def test_events_are_handed_out_in_order_when_durable(make: Make) -> None:
    async with opened(make, linger_seconds=10) as (journal, _):
        seq = journal.append((), (event("a"), event("b")))
        with trio.move_on_after(0.02) as early:
            await journal.outbox(0)
        assert early.cancelled_caught
        await journal.durable(seq)
        rows = await journal.outbox(0)
        assert [(r.event_id, r.event) for r in rows] == [(1, event("a")), (2, event("b"))]
        await write(journal, ((), (event("c"),)))
        assert [r.event_id for r in await journal.outbox(2)] == [3]
        assert [r.event_id for r in await journal.outbox(0)] == [1, 2, 3]  # to another sink


async def test_each_sink_has_a_cursor_of_its_own_and_numbers_go_on(make: Make) -> None:
    async with opened(make) as (journal, _):
        await write(journal, ((), (event("a"), event("b"), event("c"), Cursor("", 0, False))))
        await write(journal, ((), (Cursor("quick", 1), Cursor("slow", 1), Cursor("gone", 0, False))))
        await write(journal, ((), (Cursor("quick", 3),)))
        assert (journal.cursor("quick"), journal.cursor("slow")) == (3, 1)
        assert journal.stats().sinks_waiting == {"quick": 0, "slow": 2} and journal.stats().outbox_waiting == 2
    async with opened(make) as (journal, state):
        found = {c.sink: (c.event_id, c.wanted) for c in state.cursors}
        assert found == {"": (0, False), "quick": (3, True), "slow": (1, True), "gone": (0, False)}
        assert state.events == 3
        assert journal.stats().sinks_waiting == {"quick": 0, "slow": 2}
        with closing(journal.reader()) as reader:
            assert reader.waiting() == {"quick": 0, "slow": 2}
        await write(journal, ((), (event("d"),)))
        assert [(r.event_id, r.event.key) for r in await journal.outbox(journal.cursor("slow"))][-1] == (4, "d")
        assert [(r.event_id, r.event.key) for r in await journal.outbox(journal.cursor("quick"))] == [(4, "d")]


async def test_published_waits_until_every_sink_that_is_wanted_has_every_event(make: Make) -> None:
    async with opened(make) as (journal, _):
        rows = (Cursor("", 0, False), Cursor("quick", 0), Cursor("slow", 0), Cursor("gone", 0, False))
        await write(journal, ((), (event("a"), event("b"), *rows)))
        journal.append((), (Cursor("quick", 2),))
        with trio.move_on_after(0.02) as early:
            await journal.published()
        assert early.cancelled_caught
        async with trio.open_nursery() as nursery:
            nursery.start_soon(journal.published)
            await trio.sleep(0.01)
            journal.append((), (Cursor("slow", 2),))
    async with opened(make) as (_, state):
        assert {c.sink: c.event_id for c in state.cursors if c.wanted} == {"quick": 2, "slow": 2}


async def test_a_sink_that_is_far_behind_is_read_for_from_the_disk_and_costs_no_memory(make: Make) -> None:
    async def read(until: int) -> list[str]:
        keys: list[str] = []
        while len(keys) < until:
            rows = await journal.outbox(len(keys))
            assert len(rows) <= FETCHED
            keys.extend(row.event.key for row in rows)
        return keys

    async with opened(make) as (journal, _):
        for start in range(0, 10_000, 2_500):
            await write(journal, ((), [event(str(n)) for n in range(start, start + 2_500)]))
        assert len(journal._group._outgoing._recent) == RECENT
        assert [r.event.key for r in await journal.outbox(9_999)] == ["9999"]  # another one is not behind
        assert await read(10_000) == [str(n) for n in range(10_000)]
        await write(journal, ((), [event("10000")]))
        assert [r.event.key for r in await journal.outbox(10_000)] == ["10000"]
    async with opened(make) as (journal, _):
        await write(journal, ((), [event("10001")]))
        assert await read(10_002) == [str(n) for n in range(10_002)]


async def test_an_event_that_lands_while_the_disk_is_read_is_not_slept_through() -> None:
    asked, answer = trio.Event(), trio.Event()

    async def fetch(after: int, limit: int) -> tuple[OutboxRow, ...]:
        if asked.is_set():
            return (OutboxRow(6, event("six")),)
        asked.set()
        await answer.wait()
        return ()

    async def write(batch: Batch, settle: Callable[[JournalFailed | None], None]) -> None:
        await trio.lowlevel.checkpoint()
        settle(None)

    async def land() -> None:
        await asked.wait()
        await group.durable(group.append((), (event("six"),)))
        answer.set()

    group = Group(Place(0, b"", 5), write, fetch=fetch)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(group.run)
        nursery.start_soon(land)
        with trio.fail_after(PATIENCE_SECONDS):
            assert [row.event_id for row in await group.outbox(4)] == [6]
        nursery.cancel_scope.cancel()


async def test_a_halt_stands_over_restarts_until_it_is_lifted(make: Make) -> None:
    engine = Halt(scope="engine", reason="drill", since_ns=NOW, by="op")
    symbol = Halt(scope="symbol/main/BTCUSDT", reason="mismatch", since_ns=NOW, by="engine")
    async with opened(make) as (journal, _):
        ended = HaltEnded(scope="engine", by="op", at_ns=NOW + 1, kind="stop", whose="op")
        await write(journal, ((), (engine, symbol, ended)))
    again = replace(engine, reason="again", since_ns=NOW)
    async with opened(make) as (journal, state):
        assert state.halts == (symbol,)
        ended = HaltEnded(scope=symbol.scope, by="op", at_ns=NOW + 2, kind="fault", whose="engine")
        await write(journal, ((), (ended, engine, again)))
    async with opened(make) as (_, state):
        assert state.halts == (again,)


async def test_the_newest_limits_of_each_account_are_loaded(make: Make) -> None:
    def row(account: str, version: int) -> LimitsRow:
        return LimitsRow(account=account, version=version, limits=Limits(positions_max=version), by="op", at_ns=NOW)

    async with opened(make) as (journal, _):
        await write(journal, ((), (row("a", 1), row("a", 2), row("b", 1), row("a", 10))))
    async with opened(make) as (_, state):
        assert state.limits == (row("a", 10), row("b", 1))


async def test_open_trades_are_loaded_and_all_are_paged_newest_first(make: Make) -> None:
    def trade(n: int, state: str, opened_ns: int) -> Trade:
        of = Trade(trade_id=f"main/BTCUSDT/{n}", account=ACCOUNT, symbol=SYMBOL, side=Side.BUY, state=state)
        return replace(of, opened_ns=opened_ns, closed_ns=NOW if state == "closed" else 0)

    rows = [trade(n, "closed" if n < 6 else "closing", NOW + n // 2) for n in range(1, 7)]
    async with opened(make) as (journal, _):
        await write(journal, ((), (replace(rows[0], state="open", closed_ns=0),)))
        await write(journal, ((), rows))
        reader = journal.reader()
        first = reader.trades(None, 2)
        assert [t.trade_id[-1] for t in first] == ["6", "5", "4"]  # 5 and 4 are of one nanosecond
        assert [t.trade_id[-1] for t in reader.trades(ACCOUNT, 10, first[-1].opened_ns)] == ["3", "2", "1"]
        assert reader.trades("other", 10) == ()
        assert reader.trade("main/BTCUSDT/1") == rows[0]
        reader.close()
    async with opened(make) as (_, state):
        assert state.trades == (rows[5],)


async def test_a_name_stands_for_its_first_body_before_and_after_a_restart(make: Make) -> None:
    first = Delivery("desk/msg_1", "a" * 32, NOW, "limits \u2265 bounds; version is 7")
    async with opened(make) as (journal, _):
        assert await journal.delivery("desk/msg_1") is None
        await write(journal, ((), (first, Delivery("control/p-1", "b" * 32, NOW + 1))))
        await write(journal, ((), (Delivery("desk/msg_1", "c" * 32, NOW + 2),)))
        assert await journal.delivery("desk/msg_1") == first
        reader = journal.reader()
        assert reader.delivery("desk/msg_1") == first
        reader.close()
    async with opened(make) as (journal, _):
        assert await journal.delivery("desk/msg_1") == first
        assert await journal.delivery("control/p-1") == Delivery("control/p-1", "b" * 32, NOW + 1)
        assert await journal.delivery("desk/msg_2") is None


async def test_the_audit_log_says_what_a_change_of_limits_changed(make: Make) -> None:
    def set_(version: int, *changed: tuple[str, str, str]) -> LimitsSet:
        return LimitsSet(
            at_ns=NOW, account=ACCOUNT, cause="me", version=version, limits=Limits(), by="me", changed=changed
        )

    async with opened(make) as (journal, _):
        facts = (
            set_(1, ("positions_max", "", "3")),
            set_(2, ("positions_max", "3", "2"), ("symbols", "all", "BTCUSDT")),
        )
        await write(journal, ((*facts, set_(3)), ()))
        reader = journal.reader()
        details = [entry.detail for entry in reversed(reader.audit_log(10))]
        reader.close()
    assert details[1] == "positions_max: 3 -> 2; symbols: all -> BTCUSDT"
    assert all(detail.startswith("{") for detail in (details[0], details[2])), "the first, and one of an older program"


async def test_signals_are_paged_newest_first(make: Make) -> None:
    async with opened(make) as (journal, _):
        await write(journal, *(taken(n) for n in (2, 1, 3)))
        reader = journal.reader()
        first = reader.signals(2)
        assert [s.signal.signal_id for s in first] == ["s-000003", "s-000002"]
        assert [s.signal.signal_id for s in reader.signals(2, first[-1].signal.received_ns)] == ["s-000001"]
        assert reader.signals(2, signal(1).received_ns) == ()
        reader.close()


async def test_orders_are_found_by_account_symbol_and_liveness(make: Make) -> None:
    async with opened(make) as (journal, _):
        await write(journal, taken(1), submitted(1), filled(1), taken(2), submitted(2), submitted(3, "ETHUSDT"))
        reader = journal.reader()
        assert [o.signal_id for o in reader.orders(None, None, False, 10)] == ["s-000003", "s-000002", "s-000001"]
        assert [o.signal_id for o in reader.orders(ACCOUNT, SYMBOL, True, 10)] == ["s-000002"]
        assert [o.signal_id for o in reader.orders(None, None, True, 1)] == ["s-000003"]
        assert reader.orders("other", None, False, 10) == ()
        assert reader.order(order(2).cid) == order(2)
        assert reader.order("unknown") is None
        reader.close()


async def test_a_story_is_every_fact_of_one_trace(make: Make) -> None:
    async with opened(make) as (journal, _):
        await write(journal, taken(1), taken(2), submitted(1), submitted(2), filled(1))
        reader = journal.reader()
        story = [type(r.fact).__name__ for r in reader.story(signal(1).trace_id)]
        assert story == ["SignalReceived", "Judged", "Submitted", "Accepted", "Filled", "Confirmed"]
        assert reader.story("unknown") == () == reader.story("")
        reader.close()


async def test_the_audit_log_tells_who_did_what(make: Make) -> None:
    halt = Halt(scope="engine", reason="drill", since_ns=NOW, by="ann")
    facts = (
        Halted(at_ns=NOW, halt=halt),
        Resumed(at_ns=NOW + 1, scope="engine", by="ben", note="over", kind="stop", whose="ann"),
        LimitsSet(at_ns=NOW + 2, account=ACCOUNT, version=2, limits=Limits(), by="policy"),
        Alerted(at_ns=NOW + 3, severity="warning", kind="slippage", text="1.2 %"),
    )
    async with opened(make) as (journal, _):
        await write(journal, (facts, ()))
        reader = journal.reader()
        told = [(e.who, e.what, e.account) for e in reader.audit_log(10)]
        assert told == [
            ("engine", "warning: slippage", ""),
            ("policy", "set limits, version 2", ACCOUNT),
            ("ben", "resumed engine: stop by ann", ""),
            ("ann", "halted engine", ""),
        ]
        assert [e.seq for e in reader.audit_log(2, before=3)] == [2, 1]
        reader.close()


async def test_the_audit_finds_a_journal_sound_that_was_just_written(make: Make) -> None:
    position = None
    async with opened(make) as (journal, _):
        for n in range(20):
            steps, position = whole(n, position)
            await write(journal, *steps)
        await write(journal, taken(50), submitted(50), taken(51, Outcome.REFUSED))
        reader = journal.reader()
        report = verify(reader.lines(), reader.tables())
        assert report.findings == ()
        assert (report.signals, report.orders, report.executions, report.open_signals) == (22, 21, 20, 1)
        reader.close()


async def test_stats_count(make: Make) -> None:
    async with opened(make, linger_seconds=10) as (journal, _):
        await write(journal, taken(1))
        journal.append(*submitted(1))
        stats = journal.stats()
        assert (stats.seq, stats.durable_seq, stats.facts_queued, stats.commits, stats.failed) == (3, 2, 1, 1, "")


async def test_closing_makes_durable_what_nobody_waited_for_and_may_be_repeated(make: Make) -> None:
    async with opened(make, linger_seconds=10) as (journal, _):
        journal.append(*taken(1))
        await journal.close()
        await journal.close()
    async with opened(make) as (_, state):
        assert state.seq == 2


async def test_many_tasks_at_once_are_all_answered(make: Make) -> None:
    async with opened(make) as (journal, _):
        done: list[int] = []

        async def actor(first: int) -> None:
            for n in range(first, first + 20):
                await journal.durable(journal.append(*taken(n)))
                done.append(n)

        async with trio.open_nursery() as nursery:
            for first in range(0, 320, 20):
                nursery.start_soon(actor, first)
        assert sorted(done) == list(range(320))
        assert journal.stats().commits < 320
    async with opened(make) as (_, state):
        assert state.seq == 640


async def test_what_is_hurried_is_committed_whether_or_not_anybody_waits(make: Make) -> None:
    async with opened(make, linger_seconds=1000) as (journal, _):
        seq = journal.append(*taken(1))
        journal.hurry(seq)
        with trio.fail_after(PATIENCE_SECONDS):
            while journal.stats().durable_seq < seq:  # noqa: ASYNC110 (a thread may end it)
                await trio.sleep(0.001)
        with closing(journal.reader()) as reader:
            assert reader.signal("s-000001") is not None and journal.stats().commits == 1
        journal.hurry(seq)  # nothing is left to be done
        await journal.durable(seq, eager=True)
        assert journal.stats().commits == 1


async def test_a_hurried_commit_that_fails_in_a_way_that_must_not_happen_leaves_nobody_waiting() -> None:
    def start(batch: Batch, settle: object) -> bool:
        raise RuntimeError("odd")

    async def write(batch: Batch, settle: object) -> None:
        raise AssertionError("not asked for")

    group = Group(Place(0, b"", 0), write, start=start)
    told: list[str] = []

    async def wait(seq: int) -> None:
        with pytest.raises(JournalFailed, match="odd"):
            await group.durable(seq)
        told.append("failed")

    with trio.fail_after(PATIENCE_SECONDS):
        async with trio.open_nursery() as nursery:
            seq = group.append(*taken(1))
            nursery.start_soon(wait, seq)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(RuntimeError):
                group.hurry(seq)
    assert told == ["failed"]
    with pytest.raises(JournalFailed):
        await group.durable(group.append(*taken(2)), eager=True)


async def test_what_is_appended_while_a_hurried_commit_flies_waits_for_the_next(make: Make) -> None:
    async with opened(make, linger_seconds=1000) as (journal, _):
        first = journal.append(*taken(1))
        journal.hurry(first)
        second = journal.append(*taken(2))
        journal.hurry(second)
        with trio.fail_after(PATIENCE_SECONDS):
            await journal.durable(second)
        with closing(journal.reader()) as reader:
            assert reader.signal("s-000001") is not None and reader.signal("s-000002") is not None
        assert journal.stats().durable_seq == second


async def test_a_look_up_is_answered_while_a_commit_is_under_way_and_after_it(make: Make) -> None:
    async with opened(make, linger_seconds=1000) as (journal, _):
        await journal.durable(journal.append(*taken(1)))
        seq = journal.append(*taken(2))
        assert await journal.signal("s-000002") is None
        journal.hurry(seq)
        with trio.fail_after(PATIENCE_SECONDS):
            assert await journal.signal("s-000001") is not None
            await journal.durable(seq)
            assert await journal.signal("s-000002") is not None


async def orders_apart(seconds: float, mock_clock: trio.testing.MockClock, nursery: trio.Nursery) -> Group:
    """A group on whose commits orders waited so far apart; its store takes no time."""

    def start(batch: Batch, settle: Callable[[JournalFailed | None], None]) -> bool:
        settle(None)
        return True

    async def write(batch: Batch, settle: Callable[[JournalFailed | None], None]) -> None:
        await trio.lowlevel.checkpoint()
        settle(None)

    group = Group(Place(0, b"", 0), write, linger_seconds=1.0, start=start, quick_seconds=0.001)
    nursery.start_soon(group.run)
    for number in range(20):
        mock_clock.jump(seconds)
        seq = group.append(*taken(number))
        group.hurry(seq)
        await group.durable(seq, eager=True)
    await trio.testing.wait_all_tasks_blocked()
    return group


async def test_facts_are_committed_soon_between_orders_that_come_one_by_one(mock_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        group = await orders_apart(0.005, mock_clock, nursery)
        group.append((), (Cursor("sink", 1),))  # is missed by nobody
        mock_clock.jump(0.9)
        await trio.testing.wait_all_tasks_blocked()
        assert group.commits == 20
        group.append(*taken(20))
        await trio.testing.wait_all_tasks_blocked()
        assert group.commits == 20
        mock_clock.jump(0.0011)
        await trio.testing.wait_all_tasks_blocked()
        assert group.commits == 21 and group.durable_seq == group.seq
        group.append((), (Cursor("sink", 2),))
        mock_clock.jump(1.1)
        await trio.testing.wait_all_tasks_blocked()
        assert group.commits == 22
        nursery.cancel_scope.cancel()


async def test_facts_share_the_commits_of_orders_that_come_fast(mock_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        group = await orders_apart(0.001, mock_clock, nursery)
        group.append(*taken(20))
        mock_clock.jump(0.0011)
        await trio.testing.wait_all_tasks_blocked()
        assert group.commits == 20
        group.hurry(group.append(*taken(21)))
        assert group.commits == 21 and group.durable_seq == group.seq
        nursery.cancel_scope.cancel()


async def test_what_was_asked_for_happens_in_the_turn_in_which_the_hurried_commit_is_durable(make: Make) -> None:
    async with opened(make, linger_seconds=1000) as (journal, _):
        at: list[int] = []
        seq = journal.append(*taken(1))
        journal.hurry(seq, lambda: at.append(journal.stats().durable_seq))
        with trio.fail_after(PATIENCE_SECONDS):
            await journal.durable(seq)
        assert at == [seq]
        journal.hurry(seq, lambda: at.append(0))  # nothing is left to be done
        later = journal.append(*taken(2))
        with trio.fail_after(PATIENCE_SECONDS):
            await journal.durable(later)
        assert at == [seq]


async def test_what_was_asked_for_does_not_happen_when_the_hurried_commit_fails() -> None:
    def start(batch: Batch, settle: Callable[[JournalFailed | None], None]) -> bool:
        settle(JournalFailed("no room"))
        return True

    async def write(batch: Batch, settle: object) -> None:
        raise AssertionError("not asked for")

    group = Group(Place(0, b"", 0), write, start=start)
    at: list[int] = []
    seq = group.append(*taken(1))
    group.hurry(seq, lambda: at.append(1))
    with pytest.raises(JournalFailed, match="no room"):
        await group.durable(seq, eager=True)
    assert at == []
