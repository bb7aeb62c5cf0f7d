"""Stories of one symbol: what the blotter decides when the venue behaves, and when it does not."""

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from engine.core.blotter import Blotter, Step, Terms
from engine.core.messages import (
    Acked,
    Action,
    Alerted,
    Answer,
    Answered,
    Cancel,
    CancelEntries,
    Compared,
    Confirmed,
    Enact,
    Ending,
    Failed,
    FillReport,
    Flatten,
    FundingReport,
    Instrument,
    InstrumentKind,
    Leg,
    Look,
    Looked,
    NotFound,
    Order,
    OrderReport,
    OrderType,
    Outcome,
    Place,
    Plan,
    Position,
    PositionReport,
    Rejection,
    Relisted,
    Side,
    Signal,
    Silence,
    State,
    Sweep,
    TransferReport,
    Wake,
    Withdrawn,
)
from engine.core.protection import TRIGGER_NS
from engine.core.times import SECOND

D = Decimal
BTC = Instrument(
    symbol="BTCUSDT",
    venue="paper",
    kind=InstrumentKind.LINEAR,
    base="BTC",
    quote="USDT",
    tick=D("0.1"),
    lot=D("0.001"),
    qty_min=D("0.001"),
    qty_max=D("100"),
    notional_min=D("5"),
)
TERMS = Terms("test", 5 * SECOND, 30 * SECOND, 30 * SECOND, D("0.01"))


def signal(signal_id: str = "s1", action: Action = Action.OPEN, **more: Any) -> Signal:
    fields = {
        "signal_id": signal_id,
        "account": "a",
        "symbol": "BTCUSDT",
        "action": action,
        "source": "test",
        "dialect": "surefire",
        "body_hash": "h",
        "trace_id": f"t-{signal_id}",
        "received_ns": 1,
        "valid_until_ns": 0,
        "side": Side.BUY,
    }
    return Signal(**{**fields, **more})


def enact(signal_id: str = "s1", action: Action = Action.OPEN, **plan: Any) -> Enact:
    fields: dict[str, Any] = {
        "action": action,
        "side": Side.BUY,
        "qty": D("0.1"),
        "stop_loss": D("99"),
        "take_profit": D("110"),
        "reference_price": D("100"),
        "reserve_price": D("100"),
    }
    return Enact(signal(signal_id, action), Plan(**{**fields, **plan}))


class Desk:
    """A blotter with a clock and short words for what the venue does."""

    def __init__(self, blotter: Blotter | None = None) -> None:
        self.blotter = blotter or Blotter(TERMS, BTC, Position(account="a", symbol="BTCUSDT"))
        self.now = 10 * SECOND
        self.executions = 0
        self.step: Step

    def tell(self, *messages: Any, after: float = 1) -> Step:
        self.now += round(after * SECOND)
        self.step = self.blotter.handle(messages, self.now)
        self.blotter.check()
        return self.step

    def placed(self, leg: Leg | None = None) -> list[Order]:
        return [c.order for c in self.step.commands if isinstance(c, Place) and leg in (None, c.order.leg)]

    def answer(self, order: Order, answer: Answer | None = None, request: str = "place", after: float = 1) -> Step:
        return self.tell(Answered(order.cid, request, answer or Acked(f"v-{order.cid[-2:]}")), after=after)

    def fill_report(self, order: Order, qty: str, price: str = "100", exec_id: str = "") -> FillReport:
        self.executions += 1
        return FillReport(
            symbol="BTCUSDT",
            exec_id=exec_id or f"e{self.executions}",
            cid=order.cid,
            venue_order_id="v",
            side=order.side,
            qty=D(qty),
            price=D(price),
            fee=D("0.01"),
            fee_asset="USDT",
            venue_ns=self.now,
        )

    def fill(self, order: Order, qty: str, price: str = "100") -> Step:
        return self.tell(self.fill_report(order, qty, price))

    def report(self, order: Order, status: str, filled: str = "0") -> OrderReport:
        return OrderReport("BTCUSDT", order.cid, "v", status, order.side, order.order_type, order.qty, D(filled))

    def entered(self, qty: str = "0.1") -> tuple[Order, Order, Order]:
        """A filled entry whose stop and target stand."""
        self.tell(enact(qty=D(qty)))
        (entry,) = self.placed()
        self.answer(entry)
        self.fill(entry, qty)
        (stop,), (target,) = self.placed(Leg.STOP), self.placed(Leg.TARGET)
        self.tell(Answered(stop.cid, "place", Acked("v-stop")), Answered(target.cid, "place", Acked("v-target")))
        return entry, stop, target

    def compared(self, qty: str, orders: tuple[OrderReport, ...] = (), fills: tuple[FillReport, ...] = ()) -> Compared:
        return Compared(PositionReport("BTCUSDT", D(qty)), orders, fills, self.now, self.now)


def facts(step: Step) -> list[str]:
    return [type(f).__name__ for f in step.facts]


def confirmed(step: Step) -> list[tuple[str, Outcome]]:
    return [(f.signal_id, f.outcome) for f in step.facts if isinstance(f, Confirmed)]


def test_an_accepted_signal_becomes_one_intent_and_one_command() -> None:
    desk = Desk()
    step = desk.tell(enact())
    assert facts(step) == ["Submitted"]
    assert step.standing is not None
    assert (step.standing.buying, step.standing.reserved, step.standing.enacted) == (D("0.1"), D("10.0"), ("s1",))


def test_the_same_signal_twice_is_one_order() -> None:
    desk = Desk()
    desk.tell(enact())
    assert desk.tell(enact()).commands == ()


def test_too_late_a_signal_ends_without_an_order() -> None:
    desk = Desk()
    step = desk.tell(enact(valid_until_ns=desk.now))
    assert confirmed(step) == [("s1", Outcome.FAILED)] and step.commands == ()


def test_what_the_gate_accepted_before_it_heard_of_a_doubt_opens_nothing() -> None:
    desk = Desk()
    desk.tell(enact())
    (entry,) = desk.placed()
    desk.answer(entry, Silence("time-out"))
    step = desk.tell(enact("s2"))
    assert confirmed(step) == [("s2", Outcome.FAILED)] and desk.placed() == []
    desk.tell(Answered(entry.cid, "place", Acked("v-1")))
    desk.tell(enact("s3"))
    assert [order.signal_id for order in desk.placed()] == ["s3"]


def test_a_doubt_does_not_hold_up_what_closes() -> None:
    desk = Desk()
    desk.entered()
    desk.tell(enact("s2"))
    (second,) = desk.placed(Leg.ENTRY)
    desk.answer(second, Silence("time-out"))
    desk.tell(enact("s3", Action.CLOSE, side=None))
    assert [order.leg for order in desk.placed()] == [Leg.EXIT]


def test_the_first_fill_brings_stop_and_target_and_the_last_one_the_confirmation() -> None:
    desk = Desk()
    desk.tell(enact())
    (entry,) = desk.placed()
    desk.answer(entry)
    step = desk.fill(entry, "0.04")
    assert [(o.leg, o.qty, o.trigger_price, o.reduce_only) for o in desk.placed()] == [
        (Leg.STOP, D("0.04"), D("99.0"), True),
        (Leg.TARGET, D("0.04"), D("110.0"), True),
    ]
    assert "Uncovered" in facts(step)
    first_stop, first_target = desk.placed()
    step = desk.tell(Answered(first_stop.cid, "place", Acked("1")), Answered(first_target.cid, "place", Acked("2")))
    assert "Covered" in facts(step)
    step = desk.fill(entry, "0.06")
    assert confirmed(step) == [("s1", Outcome.EXECUTED)]
    assert [o.qty for o in desk.placed()] == [D("0.10"), D("0.10")]
    second_stop, second_target = desk.placed()
    step = desk.tell(Answered(second_stop.cid, "place", Acked("3")), Answered(second_target.cid, "place", Acked("4")))
    canceled = [c.cid for c in step.commands if isinstance(c, Cancel)]
    assert canceled == [first_stop.cid, first_target.cid], "the old cover goes only when the new one stands"


def test_several_fills_in_one_batch_bring_one_stop() -> None:
    desk = Desk()
    desk.tell(enact())
    (entry,) = desk.placed()
    desk.tell(desk.fill_report(entry, "0.03"), desk.fill_report(entry, "0.04"), desk.fill_report(entry, "0.03"))
    assert [o.qty for o in desk.placed(Leg.STOP)] == [D("0.10")]


def test_the_stop_takes_the_target_with_it() -> None:
    desk = Desk()
    _, stop, target = desk.entered()
    step = desk.fill(stop, "0.1", "98.9")
    assert [c.cid for c in step.commands if isinstance(c, Cancel)] == [target.cid]
    assert step.standing is not None and step.standing.closed_trade is not None
    trade = step.standing.closed_trade
    assert (trade.realised, trade.state) == (D("-0.11"), "closed")
    assert desk.blotter.position.stop_loss is None


def test_a_fill_that_comes_twice_counts_once() -> None:
    desk = Desk()
    desk.tell(enact())
    (entry,) = desk.placed()
    report = desk.fill_report(entry, "0.04")
    desk.tell(report)
    step = desk.tell(report)
    assert step.facts == () and desk.blotter.position.qty == D("0.04")


def test_a_fill_that_overtakes_the_answer_opens_the_order() -> None:
    desk = Desk()
    desk.tell(enact())
    (entry,) = desk.placed()
    desk.fill(entry, "0.04")
    assert desk.blotter.orders[entry.cid].state is State.OPEN
    desk.answer(entry)
    assert desk.blotter.orders[entry.cid].filled_qty == D("0.04")


def test_a_fill_after_the_cancel_still_moves_the_position() -> None:
    desk = Desk()
    desk.tell(enact())
    (entry,) = desk.placed()
    desk.answer(entry)
    desk.tell(desk.report(entry, "canceled"))
    step = desk.fill(entry, "0.04")
    assert desk.blotter.position.qty == D("0.04")
    assert "Corrected" in facts(step) and desk.placed(Leg.STOP)[0].qty == D("0.04")


def test_a_cancel_with_fills_still_on_their_way_is_not_the_end() -> None:
    desk = Desk()
    desk.tell(enact())
    (entry,) = desk.placed()
    desk.answer(entry)
    step = desk.tell(desk.report(entry, "canceled", filled="0.04"))
    assert confirmed(step) == [], "four hundredths are owed"
    assert step.standing is not None and step.standing.buying == D("0.04")
    assert any(isinstance(c, Look) for c in step.commands)
    step = desk.fill(entry, "0.04")
    assert confirmed(step) == [("s1", Outcome.PARTIAL)]


# ------------------------------------------------------------------------------------------------------------- doubt


def doubtful() -> tuple[Desk, Order]:
    desk = Desk()
    desk.tell(enact())
    (entry,) = desk.placed()
    desk.answer(entry, Silence("time-out"))
    return desk, entry


def test_silence_is_neither_yes_nor_no_and_holds_its_reservation() -> None:
    desk, entry = doubtful()
    assert desk.blotter.orders[entry.cid].state is State.UNCLEAR
    assert desk.step.standing is not None
    assert (desk.step.standing.unclear, desk.step.standing.buying) == (1, D("0.1"))
    assert [type(c) for c in desk.step.commands] == [Look]


def empty_look(desk: Desk, entry: Order, at_seconds: int) -> Step:
    asked = desk.blotter.orders[entry.cid].unclear_ns + at_seconds * SECOND
    desk.now = asked
    return desk.tell(Looked(entry.cid, NotFound(entry.cid), (), asked, asked), after=0)


def test_absence_before_the_dead_time_proves_nothing() -> None:
    desk, entry = doubtful()
    for seconds in (1, 10, 30, 35):
        assert "LookedUp" not in facts(empty_look(desk, entry, seconds))


def test_two_empty_rounds_a_visibility_bound_apart_after_the_dead_time_prove_absence() -> None:
    desk, entry = doubtful()
    assert "LookedUp" in facts(empty_look(desk, entry, 36))
    assert "Missing" not in facts(empty_look(desk, entry, 60)), "only 24 s after the first"
    step = empty_look(desk, entry, 66)
    assert facts(step)[:2] == ["LookedUp", "Missing"]
    assert confirmed(step) == [("s1", Outcome.ABSENT)]
    assert desk.placed() == [], "an opener is never sent again"
    assert step.standing is not None and step.standing.buying == 0


def test_a_failed_look_up_is_not_an_empty_one() -> None:
    desk, entry = doubtful()
    desk.now += 100 * SECOND
    for _ in range(5):
        step = desk.tell(Looked(entry.cid, Failed("503"), (), desk.now, desk.now), after=40)
        assert "LookedUp" not in facts(step)
        assert any(isinstance(c, Look) for c in step.commands), "it is asked again"


def test_absence_beyond_the_venues_memory_proves_nothing_and_calls_a_person() -> None:
    desk, entry = doubtful()
    halts = []
    for seconds in (36, 70, 110, 200):
        asked = desk.blotter.orders[entry.cid].unclear_ns + seconds * SECOND
        desk.now = asked
        step = desk.tell(Looked(entry.cid, NotFound(entry.cid), (), asked, asked, horizon_ok=False), after=0)
        halts += step.halts
    assert desk.blotter.orders[entry.cid].state is State.UNCLEAR
    assert [h.scope for h in halts] == ["symbol/a/BTCUSDT"]


def test_a_look_up_that_finds_the_order_adopts_it_with_its_fills() -> None:
    desk, entry = doubtful()
    fill = desk.fill_report(entry, "0.1")
    step = desk.tell(Looked(entry.cid, desk.report(entry, "filled", "0.1"), (fill,), desk.now, desk.now))
    assert confirmed(step) == [("s1", Outcome.EXECUTED)]
    assert desk.placed(Leg.STOP)[0].qty == D("0.1")


def test_a_duplicate_id_means_that_an_order_exists() -> None:
    desk = Desk()
    desk.tell(enact())
    (entry,) = desk.placed()
    step = desk.answer(entry, Rejection("110072", "duplicate", "OrderLinkedID is duplicate"))
    assert facts(step) == ["Unclear"] and confirmed(step) == []


def test_a_refused_cancel_says_nothing_about_the_order() -> None:
    desk = Desk()
    desk.tell(enact())
    (entry,) = desk.placed()
    desk.answer(entry)
    desk.tell(CancelEntries("me", "test"))
    step = desk.answer(entry, Rejection("110001", "not_found", "unknown order"), request="cancel")
    assert facts(step) == ["CancelFailed"]
    assert [c.at_ns for c in step.commands if isinstance(c, Look)] == [desk.now], "the venue is asked at once"


def test_a_rejection_ends_the_signal_and_frees_the_reservation() -> None:
    desk = Desk()
    desk.tell(enact())
    (entry,) = desk.placed()
    step = desk.answer(entry, Rejection("110007", "insufficient", "not enough"))
    assert confirmed(step) == [("s1", Outcome.REJECTED)]
    assert step.standing is not None and step.standing.reserved == 0


def test_a_restart_makes_doubtful_what_had_no_answer_and_sends_nothing_twice() -> None:
    desk = Desk()
    first = enact()
    desk.tell(first)
    (entry,) = desk.placed()
    again = Blotter(TERMS, BTC, desk.blotter.position, [entry], None, [first])
    step = again.recover(desk.now)
    assert facts(step) == ["Unclear"]
    assert [type(c) for c in step.commands] == [Look]


def test_a_restart_carries_out_what_was_accepted_and_never_became_an_order() -> None:
    again = Blotter(TERMS, BTC, Position(account="a", symbol="BTCUSDT"), [], None, [enact()])
    step = again.recover(SECOND)
    assert facts(step) == ["Submitted"]


def test_a_restart_with_a_naked_position_places_its_stop_first() -> None:
    held = Position(
        account="a", symbol="BTCUSDT", qty=D("0.1"), avg_price=D(100), cost=D(10), serial=1, stop_loss=D(99)
    )
    step = Blotter(TERMS, BTC, held).recover(SECOND)
    assert [c.order.leg for c in step.commands if isinstance(c, Place)] == [Leg.STOP]


# -------------------------------------------------------------------------------------------------------- protection


def test_a_stop_that_vanished_is_replaced() -> None:
    desk = Desk()
    _, stop, _ = desk.entered()
    step = desk.tell(desk.report(stop, "canceled"))
    assert "Uncovered" in facts(step)
    assert [o.qty for o in desk.placed(Leg.STOP)] == [D("0.1")]
    assert desk.placed(Leg.STOP)[0].cid != stop.cid


def test_a_stop_refused_three_times_closes_the_position() -> None:
    desk = Desk()
    desk.tell(enact(take_profit=None))
    (entry,) = desk.placed()
    desk.fill(entry, "0.1")
    tried = 0
    while not desk.placed(Leg.EXIT):
        (stop,) = desk.placed(Leg.STOP)
        tried += 1
        desk.answer(stop, Rejection("x", "invalid", "no"))
        if not desk.placed():
            desk.tell(Wake(desk.now), after=5)
    assert tried == 3
    (way_out,) = desk.placed(Leg.EXIT)
    assert (way_out.side, way_out.qty, way_out.reduce_only) == (Side.SELL, D("0.1"), True)


def test_a_stop_beyond_the_market_closes_the_position_at_once() -> None:
    desk = Desk()
    desk.tell(enact(take_profit=None))
    (entry,) = desk.placed()
    desk.fill(entry, "0.1")
    (stop,) = desk.placed(Leg.STOP)
    desk.answer(stop, Rejection("110093", "triggered", "would trigger immediately"))
    assert len(desk.placed(Leg.EXIT)) == 1


def test_a_target_beyond_the_market_closes_the_position_too() -> None:
    desk = Desk()
    desk.tell(enact())
    (entry,) = desk.placed()
    desk.fill(entry, "0.1")
    (target,) = desk.placed(Leg.TARGET)
    desk.answer(target, Rejection("110093", "triggered", "would trigger immediately"))
    assert [o.qty for o in desk.placed(Leg.EXIT)] == [D("0.1")]


def test_a_silent_stop_is_not_cover_and_another_is_placed() -> None:
    desk = Desk()
    desk.tell(enact(take_profit=None))
    (entry,) = desk.placed()
    desk.fill(entry, "0.1")
    (stop,) = desk.placed(Leg.STOP)
    desk.answer(stop, Silence("time-out"))
    desk.tell(Wake(desk.now), after=1)
    assert [o.cid != stop.cid for o in desk.placed(Leg.STOP)] == [True]


def test_a_stop_that_was_in_doubt_and_stands_does_not_make_the_next_one_wait() -> None:
    desk = Desk()
    desk.tell(enact(take_profit=None))
    (entry,) = desk.placed()
    desk.fill(entry, "0.06")
    (stop,) = desk.placed(Leg.STOP)
    desk.answer(stop, Silence("time-out"))
    desk.tell(desk.report(stop, "open"), after=0.01)
    desk.tell(desk.fill_report(entry, "0.04"), after=0.01)
    assert [o.qty for o in desk.placed(Leg.STOP)] == [D("0.1")]


def test_a_position_without_a_plan_gets_the_default_stop() -> None:
    desk = Desk()
    step = desk.tell(
        FillReport(
            "BTCUSDT", "x1", "someone-else", "v", Side.BUY, D("0.1"), D("100"), D("0"), "USDT", venue_ns=desk.now
        )
    )
    assert "PlanSet" in facts(step)
    assert desk.placed(Leg.STOP)[0].trigger_price == D("99.0")


def test_moving_the_stop_replaces_it() -> None:
    desk = Desk()
    _, stop, _ = desk.entered()
    step = desk.tell(enact("s2", Action.MOVE_STOP, stop_loss=D("99.5")))
    assert confirmed(step) == [("s2", Outcome.EXECUTED)]
    (moved,) = desk.placed(Leg.STOP)
    assert moved.trigger_price == D("99.5")
    assert [c.cid for c in desk.answer(moved).commands if isinstance(c, Cancel)] == [stop.cid]


def test_a_hedge_without_a_stop_is_left_without_one() -> None:
    desk = Desk()
    desk.tell(enact(stop_loss=None, take_profit=None))
    (entry,) = desk.placed()
    step = desk.fill(entry, "0.1")
    assert desk.placed() == [] and "Uncovered" not in facts(step)


def test_when_the_stop_has_closed_the_position_the_rest_of_the_entry_goes() -> None:
    desk = Desk()
    desk.tell(enact(order_type=OrderType.LIMIT, price=D("100")))
    (entry,) = desk.placed()
    desk.answer(entry)
    desk.fill(entry, "0.04")
    (stop,) = desk.placed(Leg.STOP)
    desk.answer(stop)
    step = desk.fill(stop, "0.04", "98.9")
    assert entry.cid in [c.cid for c in step.commands if isinstance(c, Cancel)]


# ------------------------------------------------------------------------------------------------- closing, operators


def test_close_sends_one_reduce_only_order_and_confirms_it() -> None:
    desk = Desk()
    desk.entered()
    desk.tell(enact("s2", Action.CLOSE, side=Side.SELL))
    (way_out,) = desk.placed(Leg.EXIT)
    assert (way_out.side, way_out.qty, way_out.reduce_only) == (Side.SELL, D("0.1"), True)
    step = desk.fill(way_out, "0.1", "101")
    assert confirmed(step) == [("s2", Outcome.EXECUTED)]


def test_closing_nothing_is_confirmed_as_unfilled() -> None:
    step = Desk().tell(enact("s2", Action.CLOSE))
    assert confirmed(step) == [("s2", Outcome.UNFILLED)]


@pytest.mark.parametrize("by_signal", [True, False])
def test_an_entry_that_fills_after_all_is_closed_when_closing_was_asked_for_meanwhile(by_signal: bool) -> None:
    desk = Desk()
    desk.tell(enact())
    (entry,) = desk.placed()
    desk.tell(enact("s2", Action.CLOSE) if by_signal else Flatten("me", "test"))
    desk.fill(entry, "0.1")
    assert [o.qty for o in desk.placed(Leg.EXIT)] == [D("0.1")]
    (way_out,) = desk.placed(Leg.EXIT)
    desk.fill(way_out, "0.1")
    assert not desk.blotter.position.closing and desk.blotter.position.qty == 0


def test_closing_ends_when_the_entry_ends_unfilled() -> None:
    desk = Desk()
    desk.tell(enact())
    (entry,) = desk.placed()
    desk.tell(Flatten("me", "test"))
    desk.answer(entry, Rejection("1", "invalid", "no"))
    assert not desk.blotter.position.closing


def test_reduce_is_never_more_than_is_held() -> None:
    desk = Desk()
    desk.entered()
    desk.tell(enact("s2", Action.REDUCE, qty=D("5")))
    assert desk.placed(Leg.EXIT)[0].qty == D("0.1")


def test_flatten_cancels_entries_and_keeps_at_it_until_flat() -> None:
    desk = Desk()
    desk.entered()
    desk.tell(enact("s2", order_type=OrderType.LIMIT, price=D("90")))
    (resting,) = desk.placed()
    desk.answer(resting)
    step = desk.tell(Flatten("me", "test"))
    assert [c.cid for c in step.commands if isinstance(c, Cancel)] == [resting.cid]
    (first,) = desk.placed(Leg.EXIT)
    desk.tell(Answered(first.cid, "place", Rejection("10006", "rate_limited", "slow down")), after=0.1)
    assert desk.placed() == [], "not at once again"
    desk.tell(Wake(desk.now), after=3)
    (second,) = desk.placed(Leg.EXIT)
    assert second.cid != first.cid
    desk.fill(second, "0.1")
    assert desk.blotter.position.qty == 0
    assert desk.blotter.position.closing, "the entry's cancel may yet lose to a fill"
    desk.tell(desk.report(resting, "canceled"))
    assert not desk.blotter.position.closing


def test_a_flatten_survives_a_restart() -> None:
    desk = Desk()
    desk.entered()
    desk.tell(Flatten("me", "test"))
    (first,) = desk.placed(Leg.EXIT)
    desk.tell(Answered(first.cid, "place", Rejection("x", "invalid", "no")), after=0.1)
    again = Blotter(TERMS, BTC, desk.blotter.position, desk.blotter.orders.values(), desk.blotter.trade)
    step = again.recover(desk.now + 5 * SECOND)
    assert [c.order.leg for c in step.commands if isinstance(c, Place)] == [Leg.EXIT]


def test_cancel_names_one_signals_order_or_all() -> None:
    desk = Desk()
    for signal_id in ("s1", "s2"):
        desk.tell(enact(signal_id, order_type=OrderType.LIMIT, price=D("90")))
        desk.answer(desk.placed()[0])
    step = desk.tell(enact("s3", Action.CANCEL, refers_to="s1"))
    assert len([c for c in step.commands if isinstance(c, Cancel)]) == 1
    assert confirmed(step) == [("s3", Outcome.EXECUTED)]
    step = desk.tell(enact("s4", Action.CANCEL))
    assert len([c for c in step.commands if isinstance(c, Cancel)]) == 1, "the other one"


def test_an_entry_is_canceled_at_its_time_limit() -> None:
    desk = Desk()
    step = desk.tell(enact(order_type=OrderType.LIMIT, price=D("90"), cancel_after_ns=10 * SECOND))
    due = desk.now + 10 * SECOND
    assert Wake(at_ns=due) in step.commands
    desk.answer(desk.placed()[0])
    step = desk.tell(Wake(due), after=10)
    assert "CancelAsked" in facts(step) and any(isinstance(c, Cancel) for c in step.commands)


def test_a_cancel_asked_for_before_the_answer_is_sent_after_it() -> None:
    desk = Desk()
    desk.tell(enact())
    (entry,) = desk.placed()
    step = desk.tell(CancelEntries("me", "test"))
    assert not any(isinstance(c, Cancel) for c in step.commands)
    step = desk.answer(entry)
    assert any(isinstance(c, Cancel) for c in step.commands)


def test_a_cancel_without_effect_is_sent_again() -> None:
    desk = Desk()
    desk.tell(enact(order_type=OrderType.LIMIT, price=D("90")))
    desk.answer(desk.placed()[0])
    desk.tell(CancelEntries("me", "test"))
    step = desk.tell(Wake(desk.now), after=6)
    assert any(isinstance(c, Cancel) for c in step.commands)


def test_a_wake_that_was_overtaken_by_an_earlier_one_breeds_no_other() -> None:
    desk = Desk()
    asleep: list[int] = []
    for signal_id, seconds in (("s1", 40), ("s2", 20), ("s3", 10)):
        desk.tell(enact(signal_id, order_type=OrderType.LIMIT, price=D("90"), cancel_after_ns=seconds * SECOND))
        asleep += [c.at_ns for c in desk.step.commands if isinstance(c, Wake)]
        desk.answer(desk.placed()[0])
    woken = 0
    while woken < 200:  # no cancel ever has an effect, so there is always a next one to send
        asleep.sort()
        desk.now = asleep.pop(0)
        step = desk.tell(Wake(desk.now), after=0)
        asleep += [c.at_ns for c in step.commands if isinstance(c, Wake)]
        woken += 1
    assert len(set(asleep)) == len(asleep) <= 3, "at most one for each order"


def test_a_flip_through_zero_ends_one_trade_and_opens_another_with_its_own_stop() -> None:
    desk = Desk()
    desk.entered()
    desk.tell(enact("s2", side=Side.SELL, qty=D("0.3"), stop_loss=D("101"), take_profit=D("90")))
    (entry,) = desk.placed(Leg.ENTRY)
    step = desk.fill(entry, "0.3")
    assert {"TradeClosed", "TradeOpened"} <= set(facts(step))
    (stop,) = desk.placed(Leg.STOP)
    assert (stop.side, stop.qty, stop.trigger_price) == (Side.BUY, D("0.2"), D("101.0"))
    assert desk.blotter.position.serial == 2


def test_stops_refused_for_the_position_before_a_flip_do_not_count_against_the_one_after() -> None:
    """An overloaded engine learns late that a position has turned: its stops met nothing to reduce at the venue."""
    desk = Desk()
    desk.tell(enact())
    (entry,) = desk.placed()
    desk.answer(entry)
    desk.fill(entry, "0.1")
    (stop,) = desk.placed(Leg.STOP)
    nothing = Rejection("110017", "invalid", "reduce-only, and there is no position to reduce")
    desk.answer(stop, nothing)
    desk.now += SECOND
    desk.tell(Wake(at_ns=desk.now))
    (stop,) = desk.placed(Leg.STOP)
    desk.answer(stop, nothing)
    desk.tell(enact("s2", side=Side.SELL, qty=D("0.3"), stop_loss=D("101"), take_profit=D("90")))
    (entry,) = desk.placed(Leg.ENTRY)
    step = desk.fill(entry, "0.3")
    (stop,) = desk.placed(Leg.STOP)  # at once, not after the pause of the stops before
    assert (stop.side, stop.qty) == (Side.BUY, D("0.2"))
    assert step.standing is not None and step.standing.stop_failures == 0
    desk.answer(stop, nothing)
    assert not desk.blotter.position.closing and "FlattenAsked" not in facts(desk.step)


def test_a_stop_without_an_answer_is_followed_by_another_in_time_for_two_seconds_but_not_by_a_flood() -> None:
    desk = Desk()
    desk.tell(enact())
    (entry,) = desk.placed()
    desk.answer(entry)
    desk.fill(entry, "0.1")
    began, sent = desk.now, [0.0]
    for _ in range(400):
        desk.tell(Wake(at_ns=desk.now), after=0.1)
        sent += [(desk.now - began) / SECOND for _ in desk.placed(Leg.STOP)]
    assert sent == [0.0, 1.5, 4.5, 10.5, 22.5]


# -------------------------------------------------------------------------------------------------- the venue's view


def test_agreement_with_the_venue_is_noted() -> None:
    desk = Desk()
    _, stop, target = desk.entered()
    orders = (desk.report(stop, "open"), desk.report(target, "open"))
    desk.tell(desk.compared("0.1", orders))
    assert desk.blotter.agreed_ns == desk.now


def test_a_difference_is_doubt_at_once_and_a_quarantine_only_when_executions_had_time_to_show() -> None:
    desk = Desk()
    _, stop, target = desk.entered()
    orders = (desk.report(stop, "open"), desk.report(target, "open"))
    step = desk.tell(desk.compared("0.3", orders))
    assert step.halts == () and step.standing is not None and step.standing.unclear == 1
    assert desk.tell(desk.compared("0.3", orders), after=29).halts == ()
    step = desk.tell(desk.compared("0.3", orders))
    assert "Mismatched" in facts(step)
    assert [h.scope for h in step.halts] == ["symbol/a/BTCUSDT"]


def test_a_difference_that_its_execution_explains_later_was_none() -> None:
    desk = Desk()
    entry, stop, target = desk.entered()
    orders = (desk.report(stop, "open"), desk.report(target, "open"))
    desk.tell(desk.compared("0.2", orders))
    late = desk.fill_report(entry, "0.1")
    step = desk.tell(desk.compared("0.2", orders, (late,)))
    assert "Mismatched" not in facts(step)
    assert step.standing is not None and step.standing.unclear == 0
    assert desk.blotter.agreed_ns == desk.now


def test_a_wallet_may_hold_more_than_was_traded_here_and_not_less() -> None:
    desk = Desk()
    _, stop, target = desk.entered()
    orders = (desk.report(stop, "open"), desk.report(target, "open"))

    def wallet(qty: str) -> Compared:
        return replace(desk.compared(qty, orders), position=PositionReport("BTCUSDT", D(qty), wallet=True))

    desk.tell(wallet("7"))
    assert desk.blotter.agreed_ns == desk.now
    assert desk.tell(wallet("0.09")).halts == ()
    step = desk.tell(wallet("0.09"), after=31)
    assert "Mismatched" in facts(step) and [h.scope for h in step.halts] == ["symbol/a/BTCUSDT"]


def test_coins_that_were_withdrawn_make_the_position_smaller_once_and_only_by_what_the_wallet_lacks() -> None:
    desk = Desk()
    _, stop, target = desk.entered()
    orders = (desk.report(stop, "open"), desk.report(target, "open"))
    out = TransferReport("t1", "BTC", D("-0.5"), "TRANSFER_OUT", desk.now)

    def wallet(qty: str) -> Compared:
        told = replace(desk.compared(qty, orders), position=PositionReport("BTCUSDT", D(qty), wallet=True))
        return replace(told, transfers=(out,))

    desk.tell(wallet("0.3"))
    assert desk.blotter.position.qty == D("0.1"), "there was more in the wallet than ours"
    step = desk.tell(wallet("0.04"))
    (withdrawn,) = [fact for fact in step.facts if isinstance(fact, Withdrawn)]
    assert (withdrawn.qty, withdrawn.transfer_id) == (D("0.06"), "t1")
    position = desk.blotter.position
    assert (position.qty, position.cost, position.avg_price, position.realised) == (D("0.04"), 4, 100, 0)
    assert position.withdrawn == D("0.06")
    assert [o.qty for o in desk.placed(Leg.STOP)] == [] and step.halts == ()
    desk.tell(Sweep(desk.now))
    assert {o.qty for o in desk.placed()} == {D("0.04")}, "what protects it is as large as what is left"
    assert "Withdrawn" not in facts(desk.tell(wallet("0.01"))), "one transfer counts once"
    step = desk.tell(wallet("0.01"), after=31)
    assert "Mismatched" in facts(step), "what else is missing is still a riddle"


def test_a_transfer_of_long_ago_does_not_explain_what_is_missing_now() -> None:
    """Else a sale by somebody else, or a fill that has not been heard yet, would be booked as coins moved away."""
    desk = Desk()
    _, stop, target = desk.entered()
    orders = (desk.report(stop, "open"), desk.report(target, "open"))
    out = TransferReport("t1", "BTC", D("-0.5"), "TRANSFER_OUT", desk.now)

    def wallet(qty: str) -> Compared:
        told = replace(desk.compared(qty, orders), position=PositionReport("BTCUSDT", D(qty), wallet=True))
        return replace(told, transfers=(out,))

    desk.tell(wallet("0.3"))  # what went was no part of the position
    desk.tell(wallet("0.3"), after=600)
    step = desk.tell(wallet("0.04"))
    assert "Withdrawn" not in facts(step) and desk.blotter.position.qty == D("0.1")
    step = desk.tell(wallet("0.04"), after=31)
    assert "Mismatched" in facts(step) and [h.scope for h in step.halts] == ["symbol/a/BTCUSDT"]


def test_a_position_whose_coins_are_all_withdrawn_is_over() -> None:
    desk = Desk()
    _, stop, target = desk.entered()
    told = desk.compared("0", (desk.report(stop, "open"), desk.report(target, "open")))
    gone = TransferReport("t1", "BTC", D("-0.1"), "TRANSFER_OUT", desk.now)
    empty = replace(told, position=PositionReport("BTCUSDT", D(0), wallet=True), transfers=(gone,))
    step = desk.tell(empty)
    assert "TradeClosed" in facts(step) and not desk.blotter.position.qty
    assert step.standing is not None and step.standing.closed_trade is None, "it is no loss, nor a gain"
    assert {c.cid for c in step.commands if isinstance(c, Cancel)} == {stop.cid, target.cid}


def test_a_stop_that_is_taken_away_again_and_again_ends_in_a_flatten() -> None:
    desk = Desk()
    _, stop, _ = desk.entered()
    for _ in range(2):
        step = desk.tell(desk.report(stop, "canceled"))
        while not (again := desk.placed(Leg.STOP)):
            step = desk.tell(Wake(desk.now))
        assert "FlattenAsked" not in facts(step)
        (stop,) = again
        desk.answer(stop)
    step = desk.tell(desk.report(stop, "canceled"))
    assert "FlattenAsked" in facts(step), "nobody lets us protect it: it is closed"


def test_a_stop_that_the_venue_replaced_by_the_next_one_was_not_taken_away() -> None:
    desk = Desk()
    _, stop, _ = desk.entered()
    for number in range(1, 5):
        desk.tell(enact(f"m{number}", Action.MOVE_STOP, stop_loss=D("98") - number))
        (moved,) = desk.placed(Leg.STOP)
        # Spot: one request cancels the old one and places the new one, and the cancel is heard of first.
        step = desk.tell(desk.report(stop, "canceled"))
        assert desk.placed(Leg.STOP) == [], "the new one is on its way"
        assert "FlattenAsked" not in facts(step)
        desk.answer(moved)
        stop = moved


def test_a_fill_found_by_comparison_is_booked() -> None:
    desk = Desk()
    desk.tell(enact(order_type=OrderType.LIMIT, price=D("100")))
    (entry,) = desk.placed()
    desk.answer(entry)
    fill = desk.fill_report(entry, "0.1")
    step = desk.tell(desk.compared("0.1", (), (fill,)))
    assert confirmed(step) == [("s1", Outcome.EXECUTED)]


def test_an_order_missing_from_the_list_is_looked_up_not_given_up() -> None:
    desk = Desk()
    desk.tell(enact(order_type=OrderType.LIMIT, price=D("90")))
    (entry,) = desk.placed()
    desk.answer(entry)
    desk.now += SECOND
    step = desk.tell(desk.compared("0"))
    assert any(isinstance(c, Look) for c in step.commands)
    assert desk.blotter.orders[entry.cid].state is State.OPEN


def test_a_foreign_order_is_recorded_once() -> None:
    desk = Desk()
    foreign = OrderReport("BTCUSDT", "web_123", "v9", "open", Side.BUY, OrderType.LIMIT, D("1"), D("0"))
    assert "ForeignSeen" in facts(desk.tell(foreign))
    assert desk.tell(foreign).facts == ()


def test_a_foreign_order_that_is_gone_is_forgotten_and_one_that_is_listed_is_not() -> None:
    desk = Desk()
    first = OrderReport("BTCUSDT", "web_1", "v1", "open", Side.BUY, OrderType.LIMIT, D("1"), D("0"))
    second = replace(first, cid="web_2", venue_order_id="v2")
    desk.tell(first, second)
    for _ in range(4):
        desk.now += 20 * SECOND
        assert desk.tell(desk.compared("0", (second,))).facts == ()
    assert list(desk.blotter._sheet.foreign) == ["v2"]


def test_an_order_with_our_mark_that_is_not_in_the_journal_quarantines() -> None:
    desk = Desk()
    stray = "sf1" + "a" * 26
    step = desk.tell(OrderReport("BTCUSDT", stray, "v9", "open", Side.BUY, OrderType.LIMIT, D("1"), D("0")))
    assert [h.scope for h in step.halts] == ["symbol/a/BTCUSDT"]


def test_a_stray_closer_is_canceled_and_quarantines_nothing() -> None:
    desk = Desk()
    stray = "sf1" + "a" * 26
    report = OrderReport(
        "BTCUSDT", stray, "v9", "open", Side.SELL, OrderType.STOP_MARKET, D("1"), D("0"), reduce_only=True
    )
    step = desk.tell(report)
    assert step.halts == () and [c.cid for c in step.commands if isinstance(c, Cancel)] == [stray]
    again = desk.tell(report)  # seed 117: the first cancel was lost
    assert again.facts == () and [c.cid for c in again.commands if isinstance(c, Cancel)] == [stray]


def test_no_closers_id_comes_again_after_a_restart_that_lost_its_intent() -> None:
    desk = Desk()
    desk.tell(enact(take_profit=None))
    (entry,) = desk.placed()
    before = desk.blotter.position
    report = desk.fill_report(entry, "0.1")
    desk.tell(report)
    (first,) = desk.placed(Leg.STOP)
    lost = Blotter(replace(TERMS, epoch=1), BTC, before, [entry], None, [enact(take_profit=None)])
    again = Desk(lost)
    again.tell(report)
    (second,) = again.placed(Leg.STOP)
    assert second.cid != first.cid


def test_an_overfill_is_booked_and_quarantines() -> None:
    desk = Desk()
    desk.tell(enact())
    (entry,) = desk.placed()
    step = desk.fill(entry, "0.2")
    assert desk.blotter.position.qty == D("0.2")
    assert "Corrected" in facts(step) and len(step.halts) == 1


def test_an_asynchronous_rejection_ends_an_acknowledged_order() -> None:
    desk = Desk()
    desk.tell(enact())
    (entry,) = desk.placed()
    desk.answer(entry)
    step = desk.tell(replace(desk.report(entry, "rejected"), reason="EC_PostOnlyWillTakeLiquidity"))
    assert confirmed(step) == [("s1", Outcome.REJECTED)]
    assert desk.blotter.ended[entry.cid].ending is Ending.REJECTED


def test_funding_is_booked_once() -> None:
    desk = Desk()
    desk.entered()
    paid = FundingReport("BTCUSDT", "f1", D("-0.5"), "USDT", desk.now)
    desk.tell(paid)
    desk.tell(paid)
    assert desk.blotter.position.funding == D("-0.5")


def test_a_sweep_trims_too_much_cover() -> None:
    desk = Desk()
    desk.entered()
    desk.tell(enact("s2", Action.REDUCE, qty=D("0.05")))
    (way_out,) = desk.placed(Leg.EXIT)
    desk.fill(way_out, "0.05")
    assert desk.placed(Leg.STOP) == [], "reduce-only cover that is too large can wait"
    desk.tell(Sweep(desk.now))
    assert [o.qty for o in desk.placed()] == [D("0.05"), D("0.05")]


@pytest.mark.parametrize("order_type", [OrderType.MARKET, OrderType.LIMIT])
def test_ids_are_functions_of_the_signal(order_type: OrderType) -> None:
    cids = set()
    for _ in range(2):
        desk = Desk()
        desk.tell(enact(order_type=order_type, price=D("100")))
        cids.add(desk.placed()[0].cid)
    assert len(cids) == 1


def resting_and_partly_filled() -> tuple[Desk, Order, FillReport, tuple[Order, ...]]:
    """An entry of 1 at a limit, of which 0.1 is filled and covered; its execution, and what covers it."""
    desk = Desk()
    desk.tell(enact(qty=D("1"), order_type=OrderType.LIMIT, price=D("99.5")))
    (entry,) = desk.placed()
    desk.answer(entry)
    own = desk.fill_report(entry, "0.1")
    desk.tell(own)
    cover = tuple(desk.placed())
    desk.tell(*(Answered(order.cid, "place", Acked(f"v-{order.leg.value}")) for order in cover))
    return desk, entry, own, cover


def trade_by_hand(desk: Desk, entry: Order) -> None:
    """Somebody buys and sells in the account."""
    bought = desk.fill_report(replace(entry, cid="theirs"), "0.001")
    desk.tell(bought, replace(bought, exec_id=f"{bought.exec_id}-back", side=Side.SELL), after=2 * 3600)


def test_under_an_order_that_rests_for_months_executions_are_forgotten_and_its_own_not_counted_twice() -> None:
    desk, entry, own, cover = resting_and_partly_filled()
    for _ in range(800):  # four hours apart
        trade_by_hand(desk, entry)
        reports = (desk.report(entry, "open", "0.1"), *(desk.report(order, "open") for order in cover))
        desk.tell(desk.compared("0.1", reports), after=2 * 3600)
        assert len(desk.blotter.seen) <= 1002
        assert len(desk.blotter.orders) == 3
    before = desk.blotter.position
    desk.tell(Looked(entry.cid, desk.report(entry, "open", "0.1"), (own,), desk.now, desk.now))
    assert desk.blotter.position == before and before.qty == D("0.1")
    assert desk.blotter.orders[entry.cid].filled_qty == D("0.1")


def test_an_old_execution_of_an_order_that_ended_while_it_was_looked_for_is_not_counted_twice() -> None:
    desk, entry, own, cover = resting_and_partly_filled()
    desk.tell(desk.report(entry, "canceled", "0.1"), after=30 * 24 * 3600)
    assert entry.cid not in desk.blotter.orders
    for _ in range(600):
        trade_by_hand(desk, entry)
    desk.tell(desk.compared("0.1", tuple(desk.report(order, "open") for order in cover)), after=3600)
    assert len(desk.blotter.seen) < 10
    before = desk.blotter.position
    desk.tell(Looked(entry.cid, desk.report(entry, "canceled", "0.1"), (own,), desk.now, desk.now))
    assert desk.blotter.position == before


def test_when_the_venue_changes_its_steps_the_next_stop_has_the_new_ones():
    desk = Desk()
    desk.tell(enact(stop_loss=D("99.3"), take_profit=None))
    desk.tell(Relisted(replace(BTC, tick=D("0.5"), lot=D("0.01"))))
    entry = next(iter(desk.blotter.orders.values()))
    desk.fill(entry, "0.05")
    (stop,) = desk.placed(Leg.STOP)
    assert (stop.trigger_price, stop.qty) == (D("99.5"), D("0.05")), "the old tick would be refused"


# ---------------------------------------------------------------------------------------------- a position that turns


def turned(times: int) -> tuple[Desk, list[Order]]:
    """A position of 0.1 that signals turn round, faster than the stops' answers come; the stops of each time."""
    desk, stops = Desk(), []
    for n in range(times + 1):
        buy = n % 2 == 0
        plan = {"stop_loss": D("99"), "take_profit": None} if buy else {"stop_loss": D("101"), "take_profit": None}
        side = Side.BUY if buy else Side.SELL
        desk.tell(enact(f"s{n}", qty=D("0.1") if n == 0 else D("0.2"), side=side, **plan), after=0.01)
        (entry,) = desk.placed(Leg.ENTRY)
        desk.tell(Answered(entry.cid, "place", Acked(f"v{n}")), after=0.01)
        desk.tell(desk.fill_report(entry, str(entry.qty)), after=0.01)
        stops += desk.placed(Leg.STOP)
    return desk, stops


def no(order: Order, kind: str = "invalid") -> Answered:
    return Answered(order.cid, "place", Rejection("110017", kind, "nothing to reduce"))


def test_a_stop_of_the_position_before_is_refused_at_no_cost_to_the_present_one() -> None:
    """`bench sustained` at 600/s: each turn's refusal made the next stop wait, and the third closed the position."""
    desk, (first, second) = turned(2)
    step = desk.tell(no(first), after=0.01)  # for the third position nothing was sent while this one was on its way
    (third,) = desk.placed(Leg.STOP)
    assert (third.side, third.qty) == (Side.SELL, D("0.1"))
    step = desk.tell(no(second), after=0.01)
    assert "FlattenAsked" not in facts(step) and desk.placed() == []
    step = desk.tell(no(third), after=0.01)
    assert desk.placed() == [], "this one is its own: the next attempt waits a little"
    step = desk.tell(Sweep(at_ns=desk.now), after=0.41)
    assert len(desk.placed(Leg.STOP)) == 1 and "FlattenAsked" not in facts(step)


def test_a_refused_stop_of_a_position_that_may_have_turned_asks_for_what_turned_it() -> None:
    """`bench sustained` overloaded: the stream told of the turn two seconds late. The third refusal of a stop for what
    was no longer there closed, when it was known, the position that had taken its place."""
    desk, (stop,) = turned(0)
    desk.tell(enact("turn", qty=D("0.2"), side=Side.SELL, stop_loss=D("101"), take_profit=None), after=0.01)
    (entry,) = desk.placed(Leg.ENTRY)
    desk.tell(Answered(entry.cid, "place", Acked("v")), after=0.01)
    looked_for = []
    for _ in range(5):
        step = desk.tell(no(stop), after=0.01)
        looked_for += [c.cid for c in step.commands if isinstance(c, Look) and c.at_ns <= desk.now]
        assert "FlattenAsked" not in facts(step)
        desk.tell(Sweep(at_ns=desk.now), after=0.21)
        (stop,) = desk.placed(Leg.STOP)
    assert looked_for == [entry.cid]
    found = (desk.report(entry, "filled", "0.2"), (desk.fill_report(entry, "0.2"),))
    step = desk.tell(Looked(entry.cid, *found, desk.now, desk.now), after=0.01)
    assert [(o.side, o.qty) for o in desk.placed()] == [(Side.BUY, D("0.1"))]
    assert desk.blotter.position.qty == D("-0.1") and not desk.blotter.position.closing


def test_a_stop_that_is_refused_while_nothing_turns_the_position_still_closes_it() -> None:
    desk, (stop,) = turned(0)
    resting = enact("rest", side=Side.SELL, order_type=OrderType.LIMIT, price=D("103"), stop_loss=D("105"))
    desk.tell(resting, after=0.01)
    (entry,) = desk.placed(Leg.ENTRY)
    desk.tell(Answered(entry.cid, "place", Acked("v")), after=0.01)
    for wait in (0.41, 0.81, 0):
        step = desk.tell(no(stop), after=0.01)
        if wait:
            desk.tell(Sweep(at_ns=desk.now), after=wait)
            (stop,) = desk.placed(Leg.STOP)
    assert "FlattenAsked" in facts(step)


def test_a_wait_for_the_next_stop_ends_when_the_position_turns() -> None:
    desk, (first,) = turned(0)
    desk.tell(no(first), after=0.01)
    desk.tell(enact("turn", qty=D("0.2"), side=Side.SELL, stop_loss=D("101"), take_profit=None), after=0.01)
    (entry,) = desk.placed(Leg.ENTRY)
    desk.tell(desk.fill_report(entry, "0.2"), after=0.01)
    assert [(o.side, o.qty) for o in desk.placed(Leg.STOP)] == [(Side.BUY, D("0.1"))], "at once"


def test_what_the_venue_does_to_the_stop_of_a_position_that_has_turned_closes_nothing() -> None:
    desk, (first, second) = turned(1)
    step = desk.tell(no(first, "triggered"), after=0.01)
    assert "FlattenAsked" not in facts(step) and not desk.blotter.position.closing
    desk, (first, second) = turned(1)
    desk.tell(Answered(first.cid, "place", Acked("v")), Answered(second.cid, "place", Acked("w")), after=0.01)
    for _ in range(4):
        step = desk.tell(replace(desk.report(first, "canceled"), reason="no position"), after=0.01)
        assert "FlattenAsked" not in facts(step) and not desk.blotter.position.closing


class Passing(Desk):
    """A long under a stop at 99; the market has been beyond it since `since`."""

    def __init__(self) -> None:
        super().__init__()
        _, self.stop, self.target = self.entered()
        self.since = self.now

    def sweep(self, after: float) -> Step:
        """The protector's, so many seconds after the market has passed."""
        return self.tell(Sweep(self.since + round(after * SECOND), self.since), after=after - self.beyond)

    @property
    def beyond(self) -> float:
        return (self.now - self.since) / SECOND

    def asked(self, kind: type) -> list[str]:
        return [c.cid for c in self.step.commands if isinstance(c, kind)]

    def looked(self, status: str = "open", filled: str = "0", fills: tuple[FillReport, ...] = ()) -> Step:
        """The answer to a look at the stop that was asked just now."""
        return self.tell(Looked(self.stop.cid, self.report(self.stop, status, filled), fills, self.now), after=0.05)

    def distrusted(self) -> None:
        """Looked at, found untouched, and being canceled."""
        self.sweep(AT_WORK + 0.1)
        assert self.asked(Look) == [self.stop.cid]
        self.looked()
        assert not self.step.commands, "the next sweep says whether the market is still beyond"
        self.sweep(AT_WORK + 1.1)
        assert self.asked(Cancel) == [self.stop.cid] and not self.placed() and not self.alarms()

    def alarms(self) -> list[str]:
        return [f.text for f in self.step.facts if isinstance(f, Alerted) and f.severity == "critical"]


AT_WORK = TRIGGER_NS / SECOND  # from then on a stop that was passed should have been executed


def test_a_stop_that_stands_untouched_though_the_market_has_passed_it_is_no_cover_and_the_position_is_closed() -> None:
    """Bybit's spot takes a stop that the market overtook on its way for a target; elsewhere a trigger may be dead."""
    desk = Passing()
    desk.distrusted()
    assert desk.blotter.position.uncovered_ns == desk.now, "it is cover no more"
    desk.answer(desk.stop, request="cancel")
    assert not desk.placed(), "a yes to a cancel is no end"
    step = desk.tell(desk.report(desk.stop, "canceled"))
    (close,) = desk.placed()
    assert (close.leg, close.side, close.qty, close.reduce_only) == (Leg.EXIT, Side.SELL, D("0.1"), True)
    assert close.order_type is OrderType.MARKET
    assert desk.blotter.position.closing and "FlattenAsked" in facts(step)
    assert "did nothing" in desk.alarms()[0] and "99" in desk.alarms()[0]
    desk.answer(close, after=0.1)
    for after in range(3, 6):
        desk.sweep(AT_WORK + after)
        assert not desk.placed(Leg.EXIT) and not desk.alarms() and not desk.asked(Look), "one close is enough"
        for stop in desk.placed(Leg.STOP):
            desk.answer(stop, Rejection("110092", "triggered"))
    desk.fill(close, "0.1", "95")
    assert not desk.blotter.position.qty and desk.asked(Cancel) == [desk.target.cid]


def test_a_stop_that_was_executed_and_is_told_late_cannot_be_canceled_and_nothing_is_closed_for_it() -> None:
    """The venue's queries lagged; its book does not. On spot a close would sell coins of somebody else's."""
    desk = Passing()
    desk.distrusted()
    desk.answer(desk.stop, Rejection("110001", "not_found"), request="cancel")
    for after in (3, 4, 5):  # until the look shows it
        desk.sweep(AT_WORK + after)
        assert not desk.placed(), "nor is another stop placed, which would be refused and closed for"
    fill = replace(desk.fill_report(desk.stop, "0.1", "98.9"), cid=desk.stop.cid)
    desk.looked("filled", "0.1", (fill,))
    assert not desk.blotter.position.qty and not desk.placed()
    assert not desk.alarms() and "FlattenAsked" not in facts(desk.step)


def test_a_stop_that_comes_to_work_while_it_is_canceled_leaves_only_the_rest_to_close() -> None:
    desk = Passing()
    desk.distrusted()
    desk.tell(desk.report(desk.stop, "canceled", "0.04"))
    assert not desk.placed() and not desk.blotter.position.closing, "what is owed is not booked yet"
    desk.fill(desk.stop, "0.04", "98.9")
    (rest,) = desk.placed(Leg.STOP)
    assert rest.qty == D("0.06")
    desk.answer(rest, Rejection("110092", "triggered"))
    assert [(o.leg, o.qty) for o in desk.placed()] == [(Leg.EXIT, D("0.06"))]


def test_a_stop_that_is_executed_in_pieces_is_at_work() -> None:
    desk = Passing()
    desk.sweep(AT_WORK + 0.1)
    desk.looked(filled="0.04")
    for after in (1, 5, 60):
        desk.sweep(AT_WORK + after)
        assert not desk.asked(Cancel) and not desk.placed(Leg.EXIT) and not desk.alarms()


def test_a_look_that_fails_or_was_asked_too_early_proves_nothing() -> None:
    desk = Passing()
    early = desk.now
    desk.sweep(AT_WORK + 0.1)
    desk.tell(Looked(desk.stop.cid, desk.report(desk.stop, "open"), (), early))
    for after in (2, 4, 8, 30):
        desk.sweep(AT_WORK + after)
        assert not desk.asked(Cancel)
        desk.tell(Looked(desk.stop.cid, Failed("timed out"), (), desk.now), after=0.1)


def test_a_stop_has_its_time_from_when_it_stood_and_one_that_is_being_moved_is_left_alone() -> None:
    """The market had passed before the new one came: that it is untouched yet proves nothing."""
    desk = Passing()
    desk.tell(enact("m", Action.MOVE_STOP, stop_loss=D("99.5"), side=None), after=30)
    (moved,) = desk.placed(Leg.STOP)
    desk.sweep(31)
    assert not desk.asked(Look), "the one that goes is not asked for"
    desk.answer(moved)
    desk.stop, first = moved, desk.beyond
    desk.sweep(first + AT_WORK - 1)
    assert not desk.asked(Look)
    desk.since += round(first * SECOND)
    desk.distrusted()


def test_a_stop_that_is_moved_while_it_is_distrusted_is_nothing_to_close_for() -> None:
    desk = Passing()
    desk.distrusted()
    desk.tell(enact("m", Action.MOVE_STOP, stop_loss=D("90"), side=None))
    (moved,) = desk.placed(Leg.STOP)
    desk.answer(moved)
    desk.tell(desk.report(desk.stop, "canceled"))
    assert not desk.blotter.position.closing and not desk.placed() and not desk.alarms()


def test_a_cancel_that_gets_lost_is_sent_again_until_it_is_known_what_the_stop_is() -> None:
    desk = Passing()
    desk.distrusted()
    desk.answer(desk.stop, Silence("timed out"), request="cancel")
    desk.tell(Wake(desk.now + 6 * SECOND), after=6)
    assert desk.asked(Cancel) == [desk.stop.cid] and not desk.placed()
    desk.tell(desk.report(desk.stop, "canceled"))
    assert [o.leg for o in desk.placed()] == [Leg.EXIT]


def test_a_sweep_of_a_market_that_has_passed_nothing_asks_for_nothing() -> None:
    desk = Passing()
    for after in range(1, 60):
        assert desk.tell(Sweep(desk.now + after)).commands == ()
