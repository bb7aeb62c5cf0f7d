"""What must not happen, happens: actors that raise, a disk that fails, a venue that errs. Protection goes on."""

from decimal import Decimal

import msgspec
import pytest
import trio

from actors.ingest import Acknowledger, IngestPorts, ingest
from actors.operator import STOP_SECONDS
from actors.order import Mail, OrderPorts, wake
from actors.ports import Account, Arrived, GateMail
from actors.web import dump, health
from engine.core.admission import Admitted
from engine.core.messages import (
    Alerted,
    CancelAsked,
    Confirmed,
    Covered,
    Halted,
    Leg,
    Mismatched,
    Outcome,
    SignalRow,
    Uncovered,
    Wake,
)
from engine.edges.base import Arrival, Receipt
from engine.edges.dialects import DialectTerms
from engine.runtime.config import default_config
from engine.runtime.deliveries import Deliveries
from engine.venues.paper import Faults
from engine.venues.throttle import Throttle
from tests.actors.world import ACCOUNT, HEALTHY, House, buy, close, house, rest, somebody

D = Decimal
SYMBOL = "symbol/main/BTCUSDT"


def scopes(home: House) -> list[str]:
    return [h.scope for h in home.engine.world.switch.halts()]


async def test_an_order_actor_that_raises_is_made_anew_from_the_journal_and_carries_on(autojump_clock: object) -> None:
    async with house() as home:
        home.venue.raises["submit"] = [RuntimeError("a bug in the adapter")]
        await home.hand.send(buy("s1"))
        await home.until(lambda: home.confirmed("s1"), seconds=200)
        assert [c.outcome for c in home.confirmed("s1")] == [Outcome.ABSENT]  # nobody can know whether it was sent
        assert not home.engine.down and not scopes(home)
        assert (await home.hand.send(buy("s2"))).status == "accepted"
        await home.at_rest()
        assert home.held() == D("0.1") and home.covered() and home.books() == []


async def test_mail_that_comes_while_an_actor_is_made_anew_is_not_lost(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(rest("s1"))
        await home.at_rest()
        home.venue.raises["cancel"] = [RuntimeError("a bug in the adapter")]
        await home.hand.send({"signal_id": "c", "symbol": "BTCUSDT", "action": "cancel"})
        await home.until(lambda: home.facts(CancelAsked))
        home.move("49700")  # the fill comes while nobody reads the mail
        await trio.sleep(20)
        assert home.books() == [] and home.covered()
        assert len(home.confirmed("s1")) == 1


async def test_a_broken_invariant_halts_its_symbol_at_once_and_protection_goes_on(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(buy("s1"))
        await home.at_rest()
        home.venue.raises["submit"] = [AssertionError("two and two are five")]
        await home.hand.send(buy("s2", qty="0.05"))
        await home.until(lambda: SYMBOL in scopes(home))
        assert "two and two are five" in home.engine.world.switch.halts()[0].reason
        assert (await home.hand.send(buy("s3"))).status == "refused"
        eth = {"symbol": "ETHUSDT", "qty": "1", "stop_loss": "2480", "take_profit": None}
        assert (await home.hand.send(buy("e", **eth))).status == "accepted"
        await home.at_rest()
        home.move("49400")
        await trio.sleep(1)
        assert home.held() == 0
        await home.until(lambda: home.confirmed("s2"), seconds=200)
        assert home.books() == []


async def test_an_actor_that_fails_again_and_again_halts_its_scope_and_stays_down(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(rest("s1"))
        await home.at_rest()
        home.venue.raises["submit"] = [RuntimeError("again") for _ in range(9)]
        home.venue.raises["order"] = [RuntimeError("again") for _ in range(9)]
        await home.hand.send(buy("s2"))
        await home.until(lambda: home.engine.down, seconds=200)
        assert home.engine.down == ["order/main/BTCUSDT"]
        assert SYMBOL in scopes(home) and "times in a minute" in home.engine.world.switch.halts()[0].reason
        assert not health(home.engine, default_config(None, None)).entry_ready
        eth = {"symbol": "ETHUSDT", "qty": "1", "stop_loss": "2480", "take_profit": None}
        assert (await home.hand.send(buy("e", **eth))).status == "accepted"
        home.venue.raises.clear()
        report = await home.engine.operator.stop("ann", "an actor is down")
        assert not home.at_venue(Leg.ENTRY, "open")  # canceled past the actor that is down
        assert report.halted and report.durable
        await home.kill()  # a restart recovers what the actor could not
        await home.start(ready=False)
        await home.until(lambda: not home.engine.closed(ACCOUNT))
        await trio.sleep(150)
        assert home.books() == []


# --------------------------------------------------------------------------------------------------------- the disk


async def test_when_the_disk_is_full_entries_stop_and_stops_and_exits_go_on(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(buy("s1"))
        await home.hand.send(rest("s2"))
        await home.at_rest()
        home.disk.full = True
        answer = await home.hand.send(buy("s3"))
        assert answer.status == "busy" and "full" in answer.text
        await trio.sleep(1)
        assert home.held() == D("0.1")
        found = health(home.engine, default_config(None, None))
        assert not found.live and not found.entry_ready and "full" in found.journal.failed
        assert "engine" in scopes(home)
        assert next(c.detail for c in found.components if c.name == "journal").endswith("the disk is full")
        late = await home.hand.send(buy("s4"))
        assert late.status == "busy"
        await home.hand.send(close("c"))  # not accepted, for it could not be kept; carried out all the same
        report = await home.engine.operator.stop("ann", "disk full")
        assert report.flat and not report.durable
        assert any("not durable" in problem for problem in report.problems)
        assert home.held() == 0 and not home.at_venue(Leg.ENTRY, "open")


async def test_a_failed_journal_closes_the_engine_though_the_publisher_is_stuck_with_its_sink(
    autojump_clock: object,
) -> None:
    async with house() as home:
        home.shelf.down = True  # as a file of events on the same full disk
        await home.hand.send(buy("s1"))
        await home.until(lambda: home.shelf.refused)
        home.disk.full = True
        assert (await home.hand.send(buy("s2"))).status == "busy"
        await trio.sleep(0.01)
        (halt,) = home.engine.world.switch.halts()
        assert halt.scope == "engine" and "the disk is full" in halt.reason
        assert home.engine.down == ["journal"]


async def test_a_stop_can_be_replaced_while_the_journal_has_failed(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(buy("s1"))
        await home.at_rest()
        home.disk.fail_sync = True
        await home.hand.send(buy("s2"))
        (stop,) = home.at_venue(Leg.STOP, "open")
        home.venue.matching.cancel("BTCUSDT", stop.cid, home.clock.now_ns())
        home.venue._settle()
        assert not home.covered()
        await trio.sleep(3)
        assert home.covered() and home.held() == D("0.1")
        home.disk.fail_sync = False
        await home.kill()
        await home.start()
        await trio.sleep(40)
        assert home.covered()
        truth = home.venue.truth()
        assert len([o for o in truth.orders if o.cid.startswith("sf1") and not o.reduce_only]) == 1


async def test_an_engine_whose_journal_failed_still_ends(autojump_clock: object) -> None:
    async with house() as home:
        home.disk.full = True
        await home.hand.send(buy("s1"))
        with trio.fail_after(60):
            await home.stop()


# ------------------------------------------------------------------------------------------------------- the operator


async def test_stop_cancels_entries_closes_positions_and_asks_the_venue(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(buy("s1"))
        await home.hand.send(rest("s2"))
        await home.at_rest()
        report = await home.engine.operator.stop("ann", "news")
        assert report.halted and report.durable and report.flat and not report.problems
        assert [(x.account, x.entries, x.positions) for x in report.left] == [(ACCOUNT, (), ())]
        assert home.held() == 0
        await home.at_rest()
        assert not home.at_venue(status="open") and home.books() == []
        assert [f.halt.reason for f in home.facts(Halted)] == ["stopped: news"]
        assert (await home.hand.send(buy("s3"))).status == "refused"
        assert (await home.engine.operator.resume("engine", "ann", "it was nothing")).ended
        assert not (await home.engine.operator.resume("engine", "ann")).ended
        assert (await home.hand.send(buy("s4"))).status == "accepted"


async def test_stop_without_flatten_leaves_the_position_with_its_stop(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(buy("s1"))
        await home.hand.send(rest("s2"))
        await home.at_rest()
        report = await home.engine.operator.stop("ann", "news", flatten=False)
        assert report.flat
        await home.at_rest()
        assert home.held() == D("0.1") and home.covered() and not home.at_venue(Leg.ENTRY, "open")


async def test_flatten_of_one_symbol_leaves_the_others_and_new_entries_alone(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(buy("s1"))
        await home.hand.send(buy("e", symbol="ETHUSDT", qty="1", stop_loss="2480", take_profit=None))
        await home.at_rest()
        report = await home.engine.operator.flatten("ann", "enough", ACCOUNT, "BTCUSDT")
        assert report.flat and not report.halted
        assert home.held() == 0 and home.held("ETHUSDT") == D(1) and home.covered("ETHUSDT")
        report = await home.engine.operator.flatten("ann", "enough", ACCOUNT, None)
        assert report.flat and home.held("ETHUSDT") == 0
        assert (await home.hand.send(buy("s2"))).status == "accepted"


async def test_stop_says_what_it_could_not_learn_when_queries_fail(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(buy("s1"))
        await home.at_rest()
        home.venue.faults = Faults(query_fails=1.0)
        began = trio.current_time()
        report = await home.engine.operator.stop("ann", "news")
        assert trio.current_time() - began < STOP_SECONDS + 2
        assert not report.flat and report.left[0].unknown
        assert report.problems and report.problems[0].startswith("main: ")
        assert home.held() == 0  # told all the same


async def test_stop_of_an_account_closes_that_scope_only(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(buy("s1"))
        await home.at_rest()
        report = await home.engine.operator.stop("ann", "news", scope="account/main")
        assert report.flat and scopes(home) == ["account/main"]
        report = await home.engine.operator.stop("ann", "news", scope="venue/paper")
        assert report.flat and scopes(home) == ["account/main", "venue/paper"]
        assert (await home.hand.send(buy("s2"))).status == "refused"


async def test_limits_that_make_no_sense_are_refused_in_words(autojump_clock: object) -> None:
    async with house() as home:
        outcome = await home.engine.operator.set_limits(ACCOUNT, {"positions_max": "many"}, "ann")
        assert isinstance(outcome, str) and "positions_max" in outcome
        outcome = await home.engine.operator.set_limits(ACCOUNT, {"positions_max": 1}, "ann")
        assert not isinstance(outcome, str) and outcome.positions_max == 1


async def test_a_dump_shows_what_the_engine_holds(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(buy("s1"))
        await home.at_rest()
        seen = dump(home.engine)
        assert seen["gate_open"] is True and seen["backlog"] == 0
        assert list(seen["standings"]) == ["main/BTCUSDT"]  # type: ignore[call-overload]


# ----------------------------------------------------------------------------------------------------------- cover


async def test_a_position_without_a_stop_is_called_out_and_closed_when_none_can_be_placed(
    autojump_clock: object,
) -> None:
    async with house() as home:
        sent: list[Leg] = []
        home.venue.when_sent = lambda order: sent.append(order.leg)
        await home.hand.send(buy("s1", qty="0.05"))
        await home.at_rest()
        (stop,) = home.at_venue(Leg.STOP, "open")
        home.venue.faults = Faults(reject=1.0)
        home.venue.matching.cancel("BTCUSDT", stop.cid, home.clock.now_ns())
        home.venue._settle()
        await trio.sleep(5)
        kinds = [a.kind for a in home.facts(Alerted)]
        assert "unprotected" in kinds
        assert sent.count(Leg.STOP) >= 4 and Leg.EXIT in sent
        home.venue.faults = HEALTHY
        await home.until(lambda: home.held() == 0)
        await home.at_rest()
        (_, gap) = home.facts(Uncovered)
        assert gap.missing_qty == D("0.05")
        # The gap ends with the position, or with a stop that stood for the moment before the exit.
        assert len(home.facts(Covered)) in (1, 2)
        assert home.books() == []


async def test_a_stop_that_goes_silent_is_called_out_after_two_seconds_and_placed_again(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(buy("s1"))
        await home.until(lambda: home.held() != 0)
        home.venue.faults = Faults(lost_request=1.0)
        await trio.sleep(4)
        alerts = [a for a in home.facts(Alerted) if a.kind == "unprotected"]
        assert len(alerts) == 1 and alerts[0].severity == "critical"
        home.venue.faults = HEALTHY
        await trio.sleep(5)
        assert home.covered() or home.held() == 0
        await trio.sleep(150)
        assert home.books() == []


async def test_a_position_that_the_venue_has_and_no_execution_explains_is_quarantined(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(buy("s1"))
        await home.at_rest()
        # An execution that falls out of the venue's list, as behind a horizon: only the position tells of it.
        home.venue.faults = Faults(dropped_reports=1.0)
        somebody(home, "theirs")
        home.venue.matching.executions.pop()
        home.venue.faults = HEALTHY
        await trio.sleep(40)
        (mismatch,) = home.facts(Mismatched)
        assert (mismatch.ours, mismatch.theirs) == ("0.1", "0.12")
        assert scopes(home) == [SYMBOL]
        assert [e.body["kind"] for e in home.shelf.events("system.error")].count("quarantine") == 1


async def test_losses_beyond_the_daily_limit_halt_the_account_until_a_person_has_seen_them(
    autojump_clock: object,
) -> None:
    async with house() as home:
        await home.engine.operator.set_limits(ACCOUNT, {"daily_loss_max": 40}, "ann")
        await home.hand.send(buy("s1"))
        await home.at_rest()
        home.move("49400")
        await trio.sleep(2)
        assert scopes(home) == ["account/main"]
        assert (await home.hand.send(buy("s2", stop_loss="49000", take_profit="50500"))).status == "refused"
        assert (await home.engine.operator.resume("account/main", "ann", "seen")).ended
        taken = await home.hand.send(buy("s3", stop_loss="49000", take_profit="50500"))
        assert taken.status == "accepted"


@pytest.mark.parametrize("latch", ["acknowledge", "day"])
async def test_a_loss_under_a_persons_halt_stays_when_that_is_ended(autojump_clock: object, latch: str) -> None:
    async with house() as home:
        await home.engine.operator.set_limits(ACCOUNT, {"daily_loss_max": 40, "loss_latch": latch}, "ann")
        await home.hand.send(buy("s1"))
        await home.at_rest()
        await home.engine.operator.stop("ann", "news", flatten=False, scope="account/main")
        home.move("49400")
        await trio.sleep(2)
        assert [h.kind for h in home.engine.world.switch.halts()] == ["stop", "loss"]
        done = await home.engine.operator.resume("account/main", "ann")
        assert [h.kind for h in done.ended] == ["stop"] and [s.halt.kind for s in done.staying] == ["loss"]
        await trio.sleep(2)
        again = buy("s2", stop_loss="49000", take_profit="50500")
        assert (await home.hand.send(again)).status == "refused"
        await home.kill()
        await home.start()
        assert [h.kind for h in home.engine.world.switch.halts()] == ["loss"]
        seen = await home.engine.operator.resume("account/main", "ann", "seen", "loss")
        assert bool(seen.ended) is (latch == "acknowledge")


async def test_quotes_that_are_too_old_refuse_entries(autojump_clock: object) -> None:
    async with house() as home:
        home.quoting = False
        await trio.sleep(10)
        receipt = await home.hand.send(buy("s1"))
        assert receipt.status == "refused" and receipt.row is not None
        assert any(c.rule.startswith("RSK6") for c in receipt.row.checks if not c.passed)


# --------------------------------------------------------------------------------------------------- back-pressure


async def test_a_gate_that_is_busy_makes_ingest_wait_and_then_the_source(autojump_clock: object) -> None:
    """256 signals wait in the gate's mailbox, then ingest stops reading, the channel fills, and the source waits."""
    async with house() as home:
        to_gate, gate_mail = trio.open_memory_channel[GateMail](10_000)
        arrivals, arriving = trio.open_memory_channel[Arrival](16)
        receipts: list[Receipt] = []
        acknowledger = Acknowledger(home.engine.world)
        ports = IngestPorts(
            world=home.engine.world,
            gate=to_gate,
            judge_now=lambda arrived: False,
            unjudged=trio.Semaphore(8),
            terms=DialectTerms(account=ACCOUNT),
            dead_letter=home.dead.append,
            deliveries=Deliveries(home.engine.world.journal),
        )
        home.nursery.start_soon(acknowledger.run)
        home.nursery.start_soon(ingest, arriving, acknowledger, ports)

        def arrival(number: int) -> Arrival:
            body = msgspec.json.encode(buy(f"s{number}"))
            return Arrival(body, "busy", None, home.clock.now_ns(), 0, receipts.append)

        sent = 0
        with trio.move_on_after(1):
            while True:
                await arrivals.send(arrival(sent))
                sent += 1
        assert sent == 8 + 1 + 16  # with the gate, in ingest's hands, in the channel
        assert gate_mail.statistics().current_buffer_used == 8
        for _ in range(8):
            mail = await gate_mail.receive()
            assert isinstance(mail, Arrived)
            row = SignalRow(signal=mail.signal, outcome=Outcome.REFUSED)
            mail.reply(Admitted("refused", row), 0)
        with trio.fail_after(1):
            for more in range(8):
                await arrivals.send(arrival(sent + more))
        await trio.sleep(0.1)
        assert [r.row.signal.signal_id for r in receipts if r.row] == [f"s{n}" for n in range(8)]


async def test_a_burst_of_signals_is_judged_in_order_and_each_is_answered_once(autojump_clock: object) -> None:
    async with house() as home:
        receipts: list[Receipt] = []
        for number in range(400):
            await home.hand.post(buy(f"s{number}", qty="0.001"), receipts.append)
        await home.until(lambda: len(receipts) == 400)
        await home.at_rest()
        await trio.sleep(10)
        assert [r.row.signal.signal_id for r in receipts if r.row] == [f"s{n}" for n in range(400)]
        accepted = [r for r in receipts if r.status == "accepted"]
        assert 0 < len(accepted) < 400  # so many orders in a second, no more
        assert len(home.at_venue(Leg.ENTRY)) == len(accepted)
        told = [c.signal_id for c in home.facts(Confirmed)]
        assert sorted(told) == sorted(f"s{n}" for n in range(400))
        assert home.books() == []


async def test_a_wake_that_is_due_after_the_mailbox_was_closed_fails_nobody(autojump_clock: object) -> None:
    async with house() as home:
        world, account = home.engine.world, Account(ACCOUNT, "paper", home.venue, Throttle((), home.clock))
        send, mailbox = trio.open_memory_channel[Mail](1)
        ports = OrderPorts(world, account, "BTCUSDT", send, lambda standing: None, lambda account: ())
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wake, Wake(at_ns=home.clock.now_ns() + 10**9), ports)
            await trio.sleep(0.5)
            send.close()
        assert mailbox.statistics().current_buffer_used == 0
