"""The explanation of a signal (P8): everything that is its own, nothing that is another's, and readable."""

from msgspec.structs import replace

from engine.core.messages import CancelAsked, Outcome, SignalReceived, SignalRow, Submitted, TradeOpened
from engine.runtime.journal.base import Record
from engine.web.explain import explain, order_ids, render_text
from tests.web.world import CHECKS, FAILED, MS, NOON, a_refused_row, a_signal, a_story, a_trade, an_order


def records(facts: list) -> list[Record]:
    return [Record(seq=n, at_ns=fact.at_ns, fact=fact, hash=b"") for n, fact in enumerate(facts, 1)]


def test_a_taken_signal_is_explained_with_numbers_orders_and_durations() -> None:
    row, facts, order = a_story()
    told = explain(row, records(facts), [order])
    assert told.summary == "executed, 0.5 of 0.5 filled at 2450"
    assert told.verdict.checks == CHECKS
    assert (told.verdict.limits_version, told.verdict.took_ns) == (3, 41_000)
    assert told.orders == (order,)
    assert [(s.seq, s.since_arrival_ns // MS, s.since_previous_ns // MS) for s in told.steps] == [
        (1, 0, 0),
        (2, 1, 1),
        (3, 1, 0),
        (4, 5, 4),
        (5, 6, 1),
        (6, 6, 0),
        (7, 9, 3),
    ]
    assert told.steps[4].text == "filled buy 0.5 at 2450, fee 0.67 USDT (sf1entry)"


def test_a_refused_signal_says_which_rule_with_which_numbers() -> None:
    row = a_refused_row()
    told = explain(row, [], [])
    assert told.outcome is Outcome.REFUSED
    assert told.summary == "refused: RSK6.price_deviation_max too far from the market"
    assert told.verdict.checks[-1] == FAILED
    text = render_text(told)
    assert "FAIL RSK6.price_deviation_max 0.02 against 0.01 fraction: too far from the market" in text
    assert "ok   RSK4.order_notional_max 1225 against 60000 USDT" in text


def test_facts_of_other_signals_under_the_same_trace_are_left_out() -> None:
    row, facts, order = a_story()
    other = an_order(signal_id="s-other", cid="sf1other")
    strange = [
        SignalReceived(at_ns=NOON, signal=a_signal("s-other"), trace_id="t-1"),
        Submitted(at_ns=NOON, order=other, trace_id="t-1"),
        CancelAsked(at_ns=NOON, cid="sf1other", reason="time limit", trace_id="t-1"),
    ]
    mixed = records([*facts[:1], *strange, *facts[1:]])
    told = explain(row, mixed, [order, other])
    assert [s.fact for s in told.steps] == facts
    assert told.orders == (order,)
    assert order_ids(mixed) == ("sf1other", "sf1entry")


def test_the_text_tells_the_story_in_order_and_cuts_nothing_off() -> None:
    row, facts, order = a_story()
    text = render_text(explain(row, records(facts), [order]))
    places = [
        text.index(part)
        for part in (
            "signal s-1: executed",
            "What came",
            "received 2024-08-08T12:00:00.000000000Z from http",
            "What the rules said: accepted",
            "What it became",
            "Orders",
            "entry sf1entry market buy 0.5: closed, filled 0.5 at 2450",
            "Step by step",
            "12:00:00.001000     1.000 ms    +1.000 ms  judged accepted: 2 checks",
            "12:00:00.005000     5.000 ms    +4.000 ms  accepted: cid sf1entry, venue_order_id v-9",
            "without full stop cover: 0.5 is missing",
            "Confirmation",
            "avg_price: 2450",
        )
    ]
    assert places == sorted(places)
    assert "None" not in text and "_ns" not in text


def test_a_signal_whose_story_is_only_in_its_row_is_explained_from_that() -> None:
    row = SignalRow(signal=a_signal(), outcome=Outcome.RECORDED)
    told = explain(row, [], [])
    assert (told.summary, told.steps, told.verdict.outcome) == ("recorded", (), Outcome.RECORDED)
    assert "nothing" in render_text(told)


def test_the_stop_of_the_position_that_a_signal_opened_belongs_to_its_story() -> None:
    row, facts, order = a_story()
    trade = replace(a_trade(1, "0"), signal_id="s-1", state="open")
    own = an_order(f"~{trade.trade_id}/0", "sf1stop")
    other = an_order("~main/ETHUSDT/9/0", "sf1other")
    more = [
        TradeOpened(at_ns=NOON, trade=trade, trace_id="t-1"),
        Submitted(at_ns=NOON, order=own, trace_id="t-1"),
        Submitted(at_ns=NOON, order=other, trace_id="t-1"),
    ]
    told = explain(row, records([*facts, *more]), [order, own, other])
    assert told.orders == (order, own)
    assert "sf1stop" in render_text(told) and "sf1other" not in render_text(told)
