"""The table of transitions, whole: every pair that may happen, and that every other is refused."""

from decimal import Decimal
from itertools import product

import pytest

from engine.core.messages import (
    Accepted,
    CancelAsked,
    Canceled,
    Ending,
    Expired,
    Filled,
    Leg,
    LookedUp,
    Missing,
    Order,
    OrderType,
    Outcome,
    Rejected,
    Reported,
    Side,
    State,
    Submitted,
    Unclear,
    Unsent,
)
from engine.core.order import (
    TRANSITIONS,
    IllegalTransition,
    advance,
    fold,
    outcome,
    owed,
    remaining,
    settled,
    slippage,
    status,
)

D = Decimal
ORDER = Order(
    cid="c",
    account="a",
    symbol="BTCUSDT",
    signal_id="s",
    leg=Leg.ENTRY,
    attempt=0,
    side=Side.BUY,
    order_type=OrderType.LIMIT,
    qty=D("1"),
    reference_price=D("100"),
    submitted_ns=1,
)


def filled(qty: str, price: str = "100", at_ns: int = 5) -> Filled:
    return Filled(
        at_ns=at_ns,
        cid="c",
        exec_id=f"e{qty}{price}{at_ns}",
        venue_order_id="v",
        side=Side.BUY,
        qty=D(qty),
        price=D(price),
        fee=D("0.1"),
        fee_asset="USDT",
        fee_quote=D("0.1"),
    )


FACTS = {
    Accepted: Accepted(at_ns=2, cid="c", venue_order_id="v"),
    Rejected: Rejected(at_ns=2, cid="c", code="110007", kind="insufficient", text="not enough"),
    Unclear: Unclear(at_ns=2, cid="c", why="time-out"),
    Filled: filled("0.4"),
    Canceled: Canceled(at_ns=2, cid="c", reason="by user"),
    Expired: Expired(at_ns=2, cid="c", reason="ioc"),
    Missing: Missing(at_ns=2, cid="c"),
    Unsent: Unsent(at_ns=2, cid="c", reason="halted"),
}


def in_state(state: State) -> Order:
    """An order brought to a state by facts, as it happens."""
    match state:
        case State.PENDING:
            return ORDER
        case State.UNCLEAR:
            return advance(ORDER, FACTS[Unclear])
        case State.OPEN:
            return advance(ORDER, FACTS[Accepted])
        case State.CLOSED:
            return advance(ORDER, FACTS[Canceled])


@pytest.mark.parametrize(("state", "kind"), list(product(State, FACTS)))
def test_every_pair_is_in_the_table_or_refused(state: State, kind: type) -> None:
    order = in_state(state)
    if (state, kind) in TRANSITIONS:
        after = advance(order, FACTS[kind])
        assert after.state is TRANSITIONS[state, kind]
    else:
        with pytest.raises(IllegalTransition, match=state.value):
            advance(order, FACTS[kind])


def test_only_missing_needs_doubt_and_only_unsent_needs_that_nothing_was_heard() -> None:
    assert {s for s, k in TRANSITIONS if k is Missing} == {State.UNCLEAR}
    assert {s for s, k in TRANSITIONS if k is Unsent} == {State.PENDING}


def test_a_closed_order_never_opens_again() -> None:
    assert all(to is State.CLOSED for (state, _), to in TRANSITIONS.items() if state is State.CLOSED)


def test_a_partial_fill_is_a_quantity() -> None:
    order = advance(in_state(State.OPEN), filled("0.4"))
    assert (order.state, order.filled_qty, remaining(order), status(order)) == (
        State.OPEN,
        D("0.4"),
        D("0.6"),
        "PARTIALLY_FILLED",
    )


def test_the_last_fill_closes_the_order() -> None:
    order = advance(advance(ORDER, filled("0.4")), filled("0.6", "110"))
    assert order.state is State.CLOSED and order.ending is Ending.FILLED and settled(order)
    assert order.filled_quote == D("106.0") and order.fees == D("0.2")
    assert slippage(order) == D("0.06")
    assert outcome(order) is Outcome.EXECUTED


def test_a_fill_after_the_cancel_is_added_and_the_first_ending_stands() -> None:
    order = advance(in_state(State.CLOSED), filled("0.4"))
    assert order.ending is Ending.CANCELED and order.filled_qty == D("0.4")
    assert outcome(order) is Outcome.PARTIAL


def test_all_filled_beats_an_earlier_cancel() -> None:
    order = advance(in_state(State.CLOSED), filled("1"))
    assert order.ending is Ending.FILLED and status(order) == "FILLED"


def test_a_canceled_order_is_not_settled_while_fills_are_owed() -> None:
    order = advance(in_state(State.OPEN), Reported(at_ns=3, cid="c", venue_qty=D("0.7")))
    order = advance(order, FACTS[Canceled])
    assert not settled(order) and owed(order) == D("0.7") and remaining(order) == D("0.7")
    order = advance(order, filled("0.7"))
    assert settled(order) and remaining(order) == 0


def test_a_cancel_asked_for_before_the_answer_is_remembered() -> None:
    order = advance(ORDER, CancelAsked(at_ns=2, cid="c", reason="stop"))
    assert order.state is State.PENDING and order.cancel_asked
    assert status(advance(order, FACTS[Accepted])) == "CANCELING"


def test_doubt_keeps_its_first_moment() -> None:
    order = advance(in_state(State.UNCLEAR), Unclear(at_ns=99, cid="c", why="again"))
    assert order.unclear_ns == 2


def test_a_lost_answer_does_not_make_a_known_order_doubtful() -> None:
    assert advance(in_state(State.OPEN), FACTS[Unclear]).state is State.OPEN


@pytest.mark.parametrize(
    ("facts", "word", "result"),
    [
        ((), "SUBMITTING", None),
        ((FACTS[Unclear],), "UNKNOWN", None),
        ((FACTS[Accepted],), "ACTIVE", None),
        ((FACTS[Rejected],), "REJECTED", Outcome.REJECTED),
        ((FACTS[Unclear], FACTS[Missing]), "FAILED", Outcome.ABSENT),
        ((FACTS[Unsent],), "FAILED", Outcome.FAILED),
        ((FACTS[Accepted], FACTS[Canceled]), "CANCELED", Outcome.UNFILLED),
        ((FACTS[Accepted], FACTS[Expired]), "EXPIRED", Outcome.UNFILLED),
    ],
)
def test_the_usual_words(facts: tuple, word: str, result: Outcome | None) -> None:
    order = fold(Submitted(at_ns=1, order=ORDER), facts)
    assert status(order) == word
    if result is not None:
        assert outcome(order) is result


def test_a_rejection_keeps_the_venues_words() -> None:
    assert advance(ORDER, FACTS[Rejected]).reason == "110007: not enough"


def test_an_order_that_was_found_has_no_empty_look_ups_behind_it() -> None:
    looked = advance(in_state(State.UNCLEAR), LookedUp(at_ns=9, cid="c", round=1))
    assert looked.rounds == 1
    assert advance(looked, FACTS[Accepted]).rounds == 0
    assert advance(looked, FACTS[Filled]).rounds == 0
