"""The way of a signal through the whole engine: in, judged, sent, filled, protected, published, answered."""

from decimal import Decimal

import msgspec
import trio

from engine.core.messages import (
    ControlReceived,
    Covered,
    DeadLettered,
    Judged,
    Leg,
    LimitsSet,
    OrderType,
    Outcome,
    Side,
    SignalConflicted,
    Submitted,
    TradeClosed,
)
from engine.edges.http import status_of
from tests.actors.world import ACCOUNT, buy, close, house, rest

D = Decimal


async def test_a_signal_becomes_fills_with_a_stop_and_a_target_at_the_venue(autojump_clock: object) -> None:
    async with house() as home:
        receipt = await home.hand.send(buy())
        assert receipt.status == "accepted" and receipt.row is not None
        assert receipt.row.outcome is Outcome.ACCEPTED
        await home.at_rest()
        assert home.held() == D("0.1")
        (entry,) = home.at_venue(Leg.ENTRY)
        (stop,) = home.at_venue(Leg.STOP)
        (target,) = home.at_venue(Leg.TARGET)
        assert (entry.status, entry.filled_qty) == ("filled", D("0.1"))
        assert (stop.status, stop.side, stop.order_type) == ("open", Side.SELL, OrderType.STOP_MARKET)
        assert (stop.qty, stop.trigger_price, stop.reduce_only) == (D("0.1"), D(49_500), True)
        assert (target.status, target.order_type) == ("open", OrderType.TAKE_PROFIT_MARKET)
        assert (target.qty, target.trigger_price, target.reduce_only) == (D("0.1"), D(51_000), True)
        (confirmed,) = home.confirmed("s1")
        assert (confirmed.outcome, confirmed.filled_qty) == (Outcome.EXECUTED, D("0.1"))
        assert confirmed.avg_price == D("50000.1")
        assert home.books() == []
        names = [row.event.name for row in home.shelf.rows]
        assert names.index("order.placed") < names.index("trade_confirmations")
        (told,) = home.shelf.events("trade_confirmations")
        assert (told.key, told.body["outcome"], told.body["filled_qty"]) == ("s1", "executed", "0.1")
        assert [row.event_id for row in home.shelf.rows] == sorted(row.event_id for row in home.shelf.rows)


async def test_when_the_stop_is_hit_the_target_goes_and_the_trade_is_closed(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(buy())
        await home.at_rest()
        home.move("49499")
        await home.at_rest()
        assert home.held() == 0
        assert [o.status for o in home.at_venue(Leg.STOP)] == ["filled"]
        assert [o.status for o in home.at_venue(Leg.TARGET)] == ["canceled"]
        (closed,) = home.facts(TradeClosed)
        assert closed.trade.realised == D("0.1") * (D(49_499) - D("50000.1"))
        assert closed.trade.signal_id == "s1"
        assert home.books() == []


async def test_a_resting_order_is_filled_in_parts_and_its_stop_grows_with_it(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(rest("s1", qty="0.5"))
        await home.at_rest()
        assert home.held() == 0 and not home.at_venue(Leg.STOP)
        home.prices["BTCUSDT"] = D("49799.9")
        for part in ("0.2", "0.2", "5"):
            home.show(qty=part)
            await home.at_rest()
            assert home.covered()
            assert home.books() == []
        assert home.held() == D("0.5")
        assert [o.qty for o in home.at_venue(Leg.STOP, "open")] == [D("0.5")]
        assert [o.qty for o in home.at_venue(Leg.TARGET, "open")] == [D("0.5")]
        (confirmed,) = home.confirmed("s1")
        assert (confirmed.outcome, confirmed.avg_price) == (Outcome.EXECUTED, D(49_800))


async def test_the_same_signal_again_gets_the_first_ones_outcome_and_no_second_order(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(buy())
        await home.at_rest()
        for seconds in (0.0, 30.0):  # from the gate's memory, then from the journal
            await trio.sleep(seconds)
            again = await home.hand.send(buy())
            assert again.status == "repeated"
            assert again.row is not None and again.row.confirmed is not None
            assert again.row.confirmed.outcome is Outcome.EXECUTED
        await home.at_rest()
        assert len(home.at_venue(Leg.ENTRY)) == 1
        assert len(home.shelf.events("trade_confirmations")) == 1


async def test_the_same_id_with_another_body_is_a_conflict_and_alerted(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(buy())
        receipt = await home.hand.send(buy(qty="0.2"))
        assert receipt.status == "conflict"
        status, body = status_of(receipt)
        assert status == 409 and "another body" in msgspec.json.decode(body)["reasons"][0]["reason"]
        await home.at_rest()
        (conflicted,) = home.facts(SignalConflicted)
        assert conflicted.signal_id == "s1" and conflicted.first_hash != conflicted.other_hash
        assert home.held() == D("0.1")
        assert [e.body["kind"] for e in home.shelf.events("system.error")] == ["signal.conflict"]


async def test_a_refused_signal_is_confirmed_with_its_rule_and_reaches_no_venue(autojump_clock: object) -> None:
    async with house() as home:
        receipt = await home.hand.send(buy(qty="3", signal_id="big"))
        assert receipt.status == "refused" and receipt.row is not None
        failed = {check.rule for check in receipt.row.checks if not check.passed}
        assert any(rule.startswith("RSK4") for rule in failed)
        await home.at_rest()
        assert not home.at_venue() and not home.facts(Submitted)
        (told,) = home.shelf.events("trade_confirmations")
        assert told.body["outcome"] == "refused" and str(told.body["checks_failed"]).split(",") == sorted(
            failed, key=str(told.body["checks_failed"]).index
        )
        (judged,) = home.facts(Judged)
        assert judged.outcome is Outcome.REFUSED


async def test_a_body_that_cannot_be_read_is_kept_with_its_reasons_and_stops_nothing(autojump_clock: object) -> None:
    async with house() as home:
        broken = await home.hand.send(b'{"signal_id": "x", "symbol": ')
        typo = await home.hand.send(buy("y", stop_lost="1"))
        taken = await home.hand.send(buy("z"))
        assert (broken.status, typo.status, taken.status) == ("malformed", "malformed", "accepted")
        await home.at_rest()
        assert typo.malformed is not None and [r.field for r in typo.malformed.reasons] == ["stop_lost"]
        assert [m.signal_id for m in home.dead] == [None, "y"]
        assert [f.raw for f in home.facts(DeadLettered)] == [m.raw for m in home.dead]
        assert home.held() == D("0.1")


async def test_an_emergency_stop_event_stops_entries_until_it_is_cleared(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(buy("a"))
        assert (await home.hand.send({"event": "ess.tripped", "id": "e1", "data": {}})).status == "recorded"
        refused = await home.hand.send(buy("b"))
        assert refused.status == "refused"
        await home.at_rest()
        assert home.covered() and home.held() == D("0.1")
        assert (await home.hand.send(close("c"))).status == "accepted"  # what reduces passes
        await home.at_rest()
        assert home.held() == 0
        await home.hand.send({"event": "ess.cleared", "id": "e2", "data": {}})
        assert (await home.hand.send(buy("d"))).status == "accepted"
        await home.at_rest()
        assert [f.name for f in home.facts(ControlReceived)] == ["ess.tripped", "ess.cleared"]
        assert home.books() == []


async def test_the_end_of_an_emergency_does_not_release_a_stop_by_a_person(autojump_clock: object) -> None:
    async with house() as home:
        await home.engine.operator.stop("ann", "news", flatten=False)
        await home.hand.send({"event": "ess.tripped", "id": "e1", "data": {}})
        await home.hand.send({"event": "ess.cleared", "id": "e2", "data": {}})
        assert [h.by for h in home.engine.world.switch.halts()] == ["ann"]
        assert (await home.hand.send(buy())).status == "refused"


async def test_a_policy_event_changes_limits_at_once_or_says_why_not(autojump_clock: object) -> None:
    async with house() as home:
        changes = {"account": ACCOUNT, "limits": {"order_btc_max": "0.05"}}
        event = {"type": "policy.updated", "id": "p1", "data": changes}
        assert (await home.hand.send(event)).status == "recorded"
        assert (await home.hand.send(buy("a"))).status == "refused"
        assert (await home.hand.send(buy("b", qty="0.05"))).status == "accepted"
        wrong = {"type": "policy.updated", "id": "p2", "data": {"account": "nobody", "limits": {"positions_max": 1}}}
        answer = await home.hand.send(wrong)
        assert answer.status == "refused" and answer.malformed is not None
        assert "nobody" in answer.malformed.reasons[0].reason and home.dead == [answer.malformed]
        await home.at_rest()
        assert home.facts(LimitsSet)[-1].limits.order_btc_max == D("0.05")
        assert home.disk.reader().limits()[0].by == "event/hand"


async def test_a_model_event_and_a_decision_to_wait_are_written_down_only(autojump_clock: object) -> None:
    async with house() as home:
        promoted = await home.hand.send({"event": "model.promoted", "id": "m1", "data": {"model": "v7"}})
        waiting = await home.hand.send({"id": "w1", "decision": "wait", "symbol": "BTCUSDT", "strength": "0.2"})
        assert (promoted.status, waiting.status) == ("recorded", "recorded")
        await home.at_rest()
        assert [f.name for f in home.facts(ControlReceived)] == ["model.promoted"]
        assert [c.outcome for c in home.confirmed("w1")] == [Outcome.RECORDED]
        assert not home.at_venue()


async def test_a_symbol_that_the_venue_does_not_list_is_refused(autojump_clock: object) -> None:
    async with house() as home:
        receipt = await home.hand.send(buy(symbol="NOPEUSDT"))
        assert receipt.status == "refused"
        assert home.engine.desk.symbols(ACCOUNT) == ()


async def test_an_account_without_limits_does_not_trade(autojump_clock: object) -> None:
    async with house(limits=None) as home:
        receipt = await home.hand.send(buy())
        assert receipt.status == "refused" and receipt.row is not None
        assert any(c.rule.startswith("RSK10") for c in receipt.row.checks if not c.passed)


async def test_an_entry_is_canceled_at_its_time_limit_and_by_signal(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(rest("a", cancel_after_seconds="5"))
        await home.hand.send(rest("b", price="49700"))
        await home.at_rest()
        assert len(home.at_venue(Leg.ENTRY, "open")) == 2
        await trio.sleep(6)
        assert [c.outcome for c in home.confirmed("a")] == [Outcome.UNFILLED]
        cancel = {"signal_id": "c", "symbol": "BTCUSDT", "action": "cancel", "refers_to": "b"}
        assert (await home.hand.send(cancel)).status == "accepted"
        await home.at_rest()
        assert not home.at_venue(Leg.ENTRY, "open")
        assert [c.outcome for c in home.confirmed("b")] == [Outcome.UNFILLED]
        assert home.books() == []


async def test_a_moved_stop_stands_before_the_old_one_goes(autojump_clock: object) -> None:
    async with house() as home:
        await home.hand.send(buy())
        await home.at_rest()
        move = {"signal_id": "m", "symbol": "BTCUSDT", "action": "move_stop", "stop_loss": "49800"}
        assert (await home.hand.send(move)).status == "accepted"
        await home.at_rest()
        assert [(o.trigger_price, o.status) for o in home.at_venue(Leg.STOP)] == [
            (D(49_500), "canceled"),
            (D(49_800), "open"),
        ]
        assert len(home.facts(Covered)) == 1  # after the entry; the move left no gap
        assert home.books() == []
