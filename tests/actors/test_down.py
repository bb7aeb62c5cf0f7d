"""Actors that stay down: nobody else is harmed, a stop closes past them, and a resume makes them anew."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal as D

import msgspec
import pytest
import trio

from actors.ports import Arrived
from actors.wiring import AccountParts, run_engine
from engine.core.audit import verify
from engine.core.messages import (
    Alerted,
    DeadLettered,
    Filled,
    Order,
    Outcome,
    PositionReport,
    Quote,
    SignalReceived,
    Submitted,
    Sweep,
)
from engine.core.times import SECOND
from engine.edges.base import Arrival
from engine.runtime.journal.base import JournalFailed
from engine.runtime.mail import post
from engine.venues.throttle import Limit, Throttle
from tests.actors.world import ACCOUNT, LIMITS, House, buy, close, house

SYMBOL = "symbol/main/BTCUSDT"
ORDER = "order/main/BTCUSDT"


def scopes(home: House) -> list[str]:
    return [h.scope for h in home.engine.world.switch.halts()]


@asynccontextmanager
async def fallen() -> AsyncIterator[House]:
    """A house that holds 0.1 BTC under a stop, and whose order actor for it is down with a second entry in doubt."""
    async with house() as home:
        await home.hand.send(buy("s1"))
        await home.at_rest()
        home.venue.raises["submit"] = [RuntimeError("again") for _ in range(9)]
        home.venue.raises["order"] = [RuntimeError("again") for _ in range(9)]
        await home.hand.send(buy("s2", qty="0.05"))
        await home.until(lambda: home.engine.down, seconds=200)
        assert home.engine.down == [ORDER] and scopes(home) == [SYMBOL]
        home.venue.raises.clear()
        yield home


async def test_a_resume_makes_a_fallen_actor_anew_and_what_it_missed_is_booked(autojump_clock: object) -> None:
    async with fallen() as home:
        home.move("49400")  # the stop does its work at the venue
        await trio.sleep(120)  # rounds of reconciliation pass while nobody books it
        assert home.held() == 0 and len(home.facts(Filled)) == 1
        assert scopes(home) == [SYMBOL] and not home.engine.closed(ACCOUNT)  # the account trades on
        eth = {"symbol": "ETHUSDT", "qty": "1", "stop_loss": "2480", "take_profit": None}
        assert (await home.hand.send(buy("e", **eth))).status == "accepted"
        done = await home.engine.operator.resume(SYMBOL, "ann", "mended")
        assert done.ended and not scopes(home) and not home.engine.down
        assert len(home.facts(Filled)) > 1  # compared with the venue before it opened
        await home.until(lambda: home.confirmed("s2"), seconds=200)
        assert [c.outcome for c in home.confirmed("s2")] == [Outcome.ABSENT]
        await home.until(lambda: not home.engine.standings[ACCOUNT, "BTCUSDT"].moving)
        again = buy("s3", stop_loss="49000", take_profit="50500")
        assert (await home.hand.send(again)).status == "accepted"
        await home.at_rest()
        assert home.held() == D("0.1") and home.covered() and home.books() == []


async def test_a_resume_leaves_the_halt_where_the_books_cannot_be_compared(autojump_clock: object) -> None:
    async with fallen() as home:
        home.venue.positions = trio.sleep_forever  # type: ignore[method-assign]
        done = await home.engine.operator.resume(SYMBOL, "ann")
        assert not done.ended and "could not be compared" in done.staying[0].why
        assert scopes(home) == [SYMBOL]
        del home.venue.positions
        assert (await home.engine.operator.resume(SYMBOL, "ann")).ended


async def test_a_stop_revives_a_fallen_actor_and_closes_through_it(autojump_clock: object) -> None:
    async with fallen() as home:
        report = await home.engine.operator.stop("ann", "an actor is down")
        assert home.held() == 0 and not report.left[0].positions
        assert not home.engine.down and SYMBOL in scopes(home)
        assert not [f for f in home.facts(Submitted) if f.order.signal_id.startswith("~direct")]
        await home.until(lambda: home.confirmed("s2"), seconds=200)
        await home.at_rest()
        assert home.books() == []


async def test_a_stop_closes_at_the_venue_itself_when_the_actor_falls_over_it(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(buy("s1"))
        await home.at_rest()

        def only_direct(order: Order) -> None:
            if not order.signal_id.startswith("~direct"):
                raise RuntimeError("a bug in how the actor closes")

        home.venue.when_sent = only_direct
        report = await home.engine.operator.stop("ann", "fire")
        assert report.flat and report.durable and home.held() == 0
        assert any("closing at the venue directly" in problem for problem in report.problems)
        assert [o for o in home.at_venue(status="open") if o.symbol == "BTCUSDT"] == []  # no stop of nothing is left
        (direct,) = [f.order for f in home.facts(Submitted) if f.order.signal_id.startswith("~direct")]
        assert direct.reduce_only and direct.qty == D("0.1")
        home.venue.when_sent = None
        assert (await home.engine.operator.resume(SYMBOL, "ann", "mended")).ended
        await home.until(home.engine.quiet, seconds=300)
        await home.at_rest()
        assert home.books() == []


async def test_a_direct_close_sells_of_a_wallet_no_more_than_was_traded_here(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(buy("s1"))
        await home.at_rest()
        positions = home.venue.positions

        async def wallet() -> object:
            """A spot venue's word: half a bitcoin more than ours was there before."""
            (held,) = await positions() or (PositionReport("BTCUSDT", D(0)),)  # type: ignore[misc]
            return (msgspec.structs.replace(held, qty=held.qty + D("0.5"), wallet=True),)

        def only_direct(order: Order) -> None:
            if not order.signal_id.startswith("~direct"):
                raise RuntimeError("a bug in how the actor closes")

        home.venue.positions = wallet  # type: ignore[method-assign, assignment]
        home.venue.when_sent = only_direct
        report = await home.engine.operator.stop("ann", "fire")
        assert report.flat and home.held() == 0
        again = await home.engine.operator.flatten("ann", "again", None, None)
        assert again.flat
        (direct,) = [f.order for f in home.facts(Submitted) if f.order.signal_id.startswith("~direct")]
        assert direct.qty == D("0.1")


async def test_a_direct_close_goes_out_though_the_disk_is_full(autojump_clock: object) -> None:
    async with fallen() as home:
        home.disk.full = True
        report = await home.engine.operator.stop("ann", "everything at once")
        assert home.held() == 0 and not report.durable
        assert any("not durable" in problem for problem in report.problems)


def direct(home: House) -> list[str]:
    return [f.order.cid for f in home.facts(Submitted) if f.order.signal_id.startswith("~direct")]


def queue_something(home: House) -> None:
    """What an actor is made from is read when everything before it is durable."""
    home.engine.world.journal.append((Alerted(at_ns=home.clock.now_ns(), severity="info", kind="test", text=""),))


async def test_a_flatten_waits_for_an_actor_that_is_made_anew_from_a_slow_disk(autojump_clock: object) -> None:
    """Given up it would have been closed past, and its symbol halted: a flatten is no halt."""
    async with fallen() as home:
        home.disk.latency = lambda: 4.0
        queue_something(home)
        report = await home.engine.operator.flatten("ann", "the disk is slow", ACCOUNT, "BTCUSDT")
        home.disk.latency = lambda: 0.001
        assert home.held() == 0 and not report.left[0].positions
        assert direct(home) == [] and home.engine.down == []
        assert not any("directly" in problem for problem in report.problems)
        await home.until(lambda: home.confirmed("s2"), seconds=200)
        await home.at_rest()
        assert home.books() == []


async def test_a_flatten_does_not_wait_for_a_disk_that_hangs(autojump_clock: object) -> None:
    async with fallen() as home:
        home.disk.latency = lambda: 3_600.0
        queue_something(home)
        began = trio.current_time()
        await home.engine.operator.flatten("ann", "the disk hangs", ACCOUNT, "BTCUSDT")
        assert home.held() == 0 and trio.current_time() - began < 17
        assert home.engine.down == [ORDER]


async def test_a_slow_disk_makes_no_actor_deaf_that_has_read_its_mail(autojump_clock: object) -> None:
    """Its exit waits for its own intent, for longer than a deaf actor is waited for; nobody else closes meanwhile."""
    async with house() as home:
        await home.hand.send(buy("s1"))
        await home.at_rest()
        home.disk.latency = lambda: 4.0
        report = await home.engine.operator.flatten("ann", "", ACCOUNT, "BTCUSDT")
        home.disk.latency = lambda: 0.001
        assert home.held() == 0 and report.flat
        await home.at_rest()
        assert direct(home) == [] and home.engine.down == [] and SYMBOL not in scopes(home)
        assert home.books() == []


async def test_a_mailbox_that_is_full_is_its_own_symbols_matter(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(buy("s1"))
        await home.at_rest()
        home.disk.latency = lambda: 30.0  # to be made anew, the actor waits for the disk
        home.venue.raises["cancel"] = [RuntimeError("a bug in the adapter")]
        await home.hand.post(
            {"signal_id": "m", "symbol": "BTCUSDT", "action": "move_stop", "stop_loss": "49600"}, print
        )
        await home.until(lambda: not home.venue.raises["cancel"])
        await trio.sleep(1)
        for _ in range(10_100):
            home.engine.desk.post(ACCOUNT, "BTCUSDT", Sweep(at_ns=home.clock.now_ns()))
        home.move("49400")  # the stop's fill comes to a mailbox that is full
        home.disk.latency = lambda: 0.001
        await trio.sleep(120)
        assert scopes(home) == [SYMBOL] and "MailboxFull" in home.engine.world.switch.halts()[0].reason
        assert not home.engine.down and home.held() == 0
        await home.at_rest()
        assert home.books() == []


# ------------------------------------------------------------------------------------------------------------ the gate


def broken(symbol: str) -> Quote | None:
    raise RuntimeError("a bug in a rule")


async def test_a_signal_that_the_gate_falls_over_is_a_dead_letter_and_stops_nothing(
    autojump_clock: object,
) -> None:
    async with house() as home:
        answers = []
        for n in range(2):
            home.quote = broken
            answers.append(await home.hand.send(buy(f"p{n}")))
            home.quote = home.venue.quote
            await trio.sleep(5)  # it is made anew
        assert [a.status for a in answers] == ["malformed", "malformed"]
        assert "failed on this signal" in msgspec.json.encode(answers[0].malformed).decode()
        await home.until(lambda: not home.engine.closed(ACCOUNT))
        assert (await home.hand.send(buy("s1"))).status == "accepted"
        await home.at_rest()
        assert [f.signal_id for f in home.facts(DeadLettered)] == ["p0", "p1"] and len(home.dead) == 2
        assert not scopes(home) and home.held() == D("0.1") and home.books() == []


async def test_a_signal_that_the_gate_fell_over_gets_the_same_answer_again_and_is_not_executed(
    autojump_clock: object,
) -> None:
    """Its sender was told that it was not executed; hours later, over a source that brings everything again, it must
    not be. Not even by an engine that was killed in between."""
    async with house() as home:
        home.quote = broken
        first = await home.hand.send(buy("p"))
        home.quote = home.venue.quote
        assert first.status == "malformed" and first.row is not None and first.row.outcome is Outcome.REFUSED
        for _ in range(2):
            await trio.sleep(5)  # the gate is made anew
            again = await home.hand.send(buy("p"))
            assert again.status == "repeated" and again.row is not None and again.row.outcome is Outcome.REFUSED
            assert [c.rule for c in again.row.checks] == ["gate.failed"]
            assert (await home.hand.send(buy("p", qty="0.2"))).status == "conflict"
            await home.at_rest()
            await home.kill()
            await home.start()
        assert [c.outcome for c in home.confirmed("p")] == [Outcome.REFUSED]
        assert [c.key for c in home.shelf.events("trade_confirmations")] == ["p"]
        assert len(home.facts(DeadLettered)) == 1 and home.held() == 0 and home.books() == []
        reader = home.disk.reader()
        assert verify(reader.lines(), reader.tables()).sound


async def test_a_repeat_that_was_looked_up_before_the_gate_was_made_anew_is_not_judged_again(
    autojump_clock: object,
) -> None:
    """The journal did not know its first copy yet, and the new gate does not know it any more, since it has ended.

    The same of a look-up so old that the gate has forgotten what ended since.
    """
    async with house() as home:
        await home.hand.send(buy("s1"))
        await home.at_rest()
        (received,) = home.facts(SignalReceived)
        for looked_at in (trio.current_time() - 11, trio.current_time() - 1_000):
            lost: list[bool] = []
            post(
                home.engine.channels["gate"], Arrived(received.signal, None, looked_at, 0, lambda *_: None, lost.append)
            )
            await home.until(lambda lost=lost: lost)
            assert lost == [False]
        assert len(home.facts(SignalReceived)) == 1 and home.held() == D("0.1")


async def test_a_gate_made_anew_counts_what_is_held_reserved_lost_and_limited(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(buy("s1"))
        await home.hand.send(buy("r1", order_type="limit", limit_price="49800", qty="0.04"))
        await home.at_rest()
        await home.engine.operator.set_limits(ACCOUNT, {"position_notional_max": "8000", "orders_per_day": 77}, "ann")
        before, old = home.engine.admission.exposure(ACCOUNT), home.engine.admission
        home.quote = broken
        await home.hand.send(buy("p"))
        home.quote = home.venue.quote
        await home.until(lambda: home.engine.admission is not old and not home.engine.closed(ACCOUNT))
        await trio.sleep(1)
        refused = await home.hand.send(buy("s2", qty="0.03"))
        assert refused.status == "refused" and refused.row is not None
        assert "RSK4.position_max" in {c.rule for c in refused.row.checks if not c.passed}
        after = home.engine.admission.exposure(ACCOUNT)
        assert after.row == before.row and after.limits == before.limits and after.limits.orders_per_day == 77
        assert (after.equity(), after.day_result()) == (before.equity(), before.day_result())
        home.engine.admission.check()


async def test_a_gate_that_is_down_turns_everybody_away_at_once_until_a_resume(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(buy("s1"))
        await home.at_rest()
        home.quote = broken
        for number in range(4):
            await home.hand.send(buy(f"p{number}"))
        await home.until(lambda: home.engine.down)
        assert home.engine.down == ["gate"] and scopes(home) == ["engine"] and home.engine.closed(ACCOUNT)
        with trio.fail_after(1):
            answers = [await home.hand.send(buy(f"q{n}")) for n in range(300)]  # more than may wait unjudged
            told = await home.engine.operator.set_limits(ACCOUNT, {"positions_max": 1}, "ann")
        assert {a.status for a in answers} == {"busy"} and isinstance(told, str) and "down" in told
        home.quote = home.venue.quote
        assert (await home.engine.operator.resume("engine", "ann", "mended")).ended
        assert not home.engine.down
        await home.until(lambda: not home.engine.closed(ACCOUNT))
        assert (await home.hand.send(close("c"))).status == "accepted"
        eth = {"symbol": "ETHUSDT", "qty": "1", "stop_loss": "2480", "take_profit": None}
        answer = await home.hand.send(buy("q0", **eth))
        assert answer.status == "accepted", [c for c in answer.row.checks if not c.passed]
        await home.at_rest()
        assert home.held() == 0 and home.books() == []


# --------------------------------------------------------------------------------------------------------- deadlines


async def test_a_venue_that_does_not_answer_holds_up_the_stop_of_no_other(autojump_clock: object) -> None:
    async with house(start=False) as home:
        parts = home.parts
        stuck = House(home.nursery, home.venue.terms, LIMITS, None).venue
        other = AccountParts("other", "paper", stuck, Throttle((Limit(100, SECOND),), home.clock), LIMITS)
        home.parts = lambda: msgspec.structs.replace(parts(), accounts=(other, *parts().accounts))  # type: ignore[method-assign]
        await home.start()
        await home.hand.send(buy("s1", account=ACCOUNT))
        await home.at_rest()
        stuck.open_orders = trio.sleep_forever  # type: ignore[method-assign]
        began = trio.current_time()
        reports = []

        async def stop() -> None:
            reports.append(await home.engine.operator.stop("ann", "news"))

        home.nursery.start_soon(stop)
        await home.until(lambda: home.held() == 0)
        assert trio.current_time() - began < 1
        await home.until(lambda: reports)
        (report,) = reports
        assert not report.flat and [x.unknown for x in report.left] == ["no answer within 5 s", ""]
        assert trio.current_time() - began < 25


async def test_an_adapter_that_raises_does_not_end_a_stop(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(buy("s1"))
        await home.at_rest()

        async def raises() -> None:
            raise RuntimeError("a bug in the adapter")

        home.venue.open_orders = raises  # type: ignore[method-assign, assignment]
        report = await home.engine.operator.stop("ann", "news")
        assert report.halted and home.held() == 0
        assert not report.flat and "a bug in the adapter" in report.left[0].unknown


@pytest.mark.parametrize("command", ["limits", "resume", "stop"])
async def test_a_disk_that_hangs_holds_up_no_command(autojump_clock: object, command: str) -> None:
    async with house() as home:
        operator = home.engine.operator
        if command == "resume":
            await operator.stop("ann", "news")
        home.disk.latency = lambda: 100_000.0
        home.engine.world.journal.append((), ())
        with trio.fail_after(12):
            match command:
                case "limits":
                    with pytest.raises(JournalFailed, match="no answer within 5 s"):
                        await operator.set_limits(ACCOUNT, {"positions_max": 1}, "ann")
                case "resume":
                    with pytest.raises(JournalFailed, match="open again"):
                        await operator.resume("engine", "ann")
                case _:
                    report = await operator.stop("ann", "news")
                    assert report.halted and not report.durable and "not durable" in report.problems[0]


async def test_a_publisher_made_anew_publishes_what_the_one_before_had_taken(autojump_clock: object) -> None:
    async with house() as home:
        send, home.shelf.send = home.shelf.send, broken_shelf  # type: ignore[method-assign, assignment]
        await home.hand.send(buy("s1"))
        await home.until(lambda: home.held())
        home.shelf.send = send  # type: ignore[method-assign]
        await home.at_rest()
        await trio.sleep(5)
        assert not home.engine.down and len(home.shelf.events("trade_confirmations")) == 1
        assert [r.event_id for r in home.shelf.rows] == sorted({r.event_id for r in home.shelf.rows})
        assert home.engine.parts.journal.stats().outbox_waiting == 0


async def broken_shelf(rows: object) -> None:
    raise RuntimeError("a bug in the sink")


# --------------------------------------------------------------------------------------------------- the first turns


async def test_an_engine_that_is_ended_at_any_turn_of_its_start_ends_without_a_word(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(buy("s1"))
        await home.at_rest()
        await home.kill()
        for turns in range(70):
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(run_engine, home.parts(), trio.Event())
                    for _ in range(turns):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
            home.disk.crash()
        await home.start()
        await home.at_rest()
        assert home.covered() and home.books() == []


async def test_a_source_that_fails_is_started_again_and_takes_nobody_with_it(autojump_clock: object) -> None:
    async with house(start=False) as home:
        failures, run = [RuntimeError("what nobody promised"), RuntimeError("again")], home.hand.run

        async def fail_first(arrivals: trio.MemorySendChannel[Arrival]) -> None:
            if failures:
                raise failures.pop()
            await run(arrivals)

        home.hand.run = fail_first  # type: ignore[method-assign]
        await home.start()
        await home.hand.send(buy("s1"))
        await home.at_rest()
        assert not failures and home.held() == D("0.1") and home.covered()
        assert home.books() == []
