"""What is counted, and that the percentiles are those of the values."""

import gc
from decimal import Decimal

from hdrh.histogram import HdrHistogram
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.messages import (
    Accepted,
    Alerted,
    Canceled,
    Check,
    Covered,
    Filled,
    Judged,
    Leg,
    Order,
    OrderType,
    Outcome,
    Rejected,
    Side,
    State,
    Submitted,
    Timed,
)
from engine.core.tally import HIGHEST_NS, LOOP_LAG, STAGES, UNCOVERED, Stage, StageFigures, Tally


def an_order(cid: str, qty: str = "1", **changes: object) -> Order:
    return Order(
        cid=cid,
        account="main",
        symbol="BTCUSDT",
        signal_id="s1",
        leg=Leg.ENTRY,
        attempt=0,
        side=Side.BUY,
        order_type=OrderType.MARKET,
        qty=Decimal(qty),
        **changes,  # type: ignore[arg-type]
    )


def a_fill(cid: str, qty: str, price: str = "100") -> Filled:
    return Filled(
        at_ns=1,
        account="main",
        symbol="BTCUSDT",
        cid=cid,
        exec_id=f"{cid}-{qty}",
        venue_order_id="v",
        side=Side.BUY,
        qty=Decimal(qty),
        price=Decimal(price),
        fee=Decimal(0),
        fee_asset="USDT",
        fee_quote=Decimal(0),
    )


def exact(values: list[int], per_mille: int) -> int:
    rank = max(1, -(-len(values) * per_mille // 1000))
    return sorted(values)[rank - 1]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, HIGHEST_NS), min_size=1, max_size=600), st.integers(0, 600))
def test_percentiles_are_within_a_thousandth_of_the_exact_ones_whenever_the_log_is_rolled(
    values: list[int], rolled_after: int
) -> None:
    stage = Stage()
    for number, value in enumerate(values):
        stage.record(value)
        if number == rolled_after:
            stage.roll()
    figures = stage.figures()
    assert figures.count == len(values)
    assert figures.sum_ns == sum(values)
    assert figures.max_ns == max(values)
    for per_mille, seen in (
        (500, figures.p50_ns),
        (900, figures.p90_ns),
        (990, figures.p99_ns),
        (999, figures.p999_ns),
    ):
        true = exact(values, per_mille)
        assert true <= seen <= true + max(64, true // 1000)


def test_a_value_out_of_range_counts_at_the_border_and_is_said() -> None:
    stage = Stage()
    for value in (-5, HIGHEST_NS + 1, 1000):
        stage.record(value)
    figures = stage.figures()
    assert (figures.count, figures.clamped, figures.max_ns) == (3, 2, HIGHEST_NS)


def test_nothing_recorded_gives_zeros() -> None:
    assert Stage().figures() == StageFigures()


def test_what_nobody_records_takes_no_room() -> None:
    """A tally of nothing was 5 MB, in cycles for the collector: the lives of many engines in one process were 1 GB."""
    gc.collect()
    gc.disable()
    try:
        before = histograms()
        tally = Tally()
        tally.lag(5, 10)
        assert tally.roll() and tally.snapshot().stages[LOOP_LAG].count == 1
        assert histograms() == before + 2
    finally:
        gc.enable()


def test_each_roll_hands_out_only_what_came_since_the_last() -> None:
    stage = Stage()
    found = []
    for values in ([1000], [2000, 3000], [], [7000]):
        for value in values:
            stage.record(value)
        rolled = stage.roll()
        if rolled is None:
            found.append(None)
            continue
        found.append((rolled.total_count, round(rolled.get_max_value(), -3), rolled.get_count_at_value(1000)))
    assert found == [(1, 1000, 1), (2, 3000, 0), None, (1, 7000, 0)]
    assert stage.figures().count == 4


def test_a_roll_leaves_nothing_to_the_collector() -> None:
    """Found by the soak: nine histograms of 200 kB every ten seconds, in cycles that were collected minutes later."""
    stage = Stage()
    gc.collect()
    gc.disable()
    try:
        began = histograms()
        for number in range(10):
            stage.record(1000)
            stage.roll().encode()
            if number == 1:
                before = histograms()
        assert histograms() == before == began + 3
    finally:
        gc.enable()


def histograms() -> int:
    return sum(isinstance(thing, HdrHistogram) for thing in gc.get_objects())


def test_an_order_is_timed_stage_by_stage() -> None:
    tally = Tally()
    tally.timed(
        Timed("main", "BTCUSDT", Leg.ENTRY, received=1_000, judged=3_000, durable=10_000, wire=11_000, answered=50_000)
    )
    maxima = {name: tally.snapshot().stages[name].max_ns for name in STAGES}
    assert maxima == {
        "arrival_judged": 2_000,
        "judged_durable": 7_000,
        "durable_wire": 1_000,
        "wire_answered": 39_000,
        "arrival_wire": 10_000,
        "arrival_answered": 49_000,
    }


def test_a_stage_that_was_not_passed_is_left_out() -> None:
    tally = Tally()
    tally.timed(Timed("main", "BTCUSDT", Leg.STOP, durable=10, wire=20, answered=30))
    stages = tally.snapshot().stages
    assert {name for name in STAGES if stages[name].count} == {"durable_wire", "wire_answered"}


def test_verdicts_are_counted_by_outcome_and_by_every_rule_that_failed() -> None:
    tally = Tally()
    passed, dust, halted = Check("RSK1.symbol", True), Check("RSK1.dust", False), Check("RSK8.halt", False)
    tally.fact(Judged(at_ns=1, signal_id="a", outcome=Outcome.ACCEPTED, checks=(passed,), took_ns=900))
    tally.fact(Judged(at_ns=2, signal_id="b", outcome=Outcome.REFUSED, checks=(passed, dust, halted)))
    tally.fact(Judged(at_ns=3, signal_id="c", outcome=Outcome.REFUSED, checks=(dust,)))
    snapshot = tally.snapshot()
    assert snapshot.verdicts == {"accepted": 1, "refused": 2}
    assert snapshot.refusals == {"RSK1.dust": 2, "RSK8.halt": 1}
    assert snapshot.stages["judging"].count == 1
    assert snapshot.facts == {"Judged": 3}


def test_an_order_ends_once_however_many_endings_are_reported() -> None:
    tally = Tally()
    for cid in ("filled", "canceled", "refused"):
        tally.fact(Submitted(at_ns=1, order=an_order(cid)))
    tally.fact(a_fill("filled", "0.4"))
    assert tally.snapshot().endings == {}
    tally.fact(a_fill("filled", "0.6"))
    tally.fact(Canceled(at_ns=2, cid="filled"))  # the cancel that came too late
    tally.fact(a_fill("canceled", "0.5"))
    tally.fact(Canceled(at_ns=3, cid="canceled"))
    tally.fact(a_fill("canceled", "0.5"))  # a fill after the end moves the books, not the ending
    tally.fact(Rejected(at_ns=4, cid="refused", code="110007", kind="insufficient"))
    assert tally.snapshot().endings == {"canceled": 1, "filled": 1, "rejected": 1}


def test_orders_from_before_the_start_end_too() -> None:
    tally = Tally()
    done = an_order("done", state=State.CLOSED)
    tally.adopt([an_order("half", filled_qty=Decimal("0.5"), state=State.OPEN), done])
    tally.fact(a_fill("half", "0.5"))
    tally.fact(Canceled(at_ns=1, cid="done"))
    assert tally.snapshot().endings == {"filled": 1}


def test_fills_are_counted_by_account_and_symbol() -> None:
    tally = Tally()
    tally.fact(a_fill("x", "2", "100"))
    tally.fact(a_fill("x", "1", "110.5"))
    (fills,) = tally.snapshot().fills
    assert (fills.account, fills.symbol, fills.count, fills.quote) == ("main", "BTCUSDT", 2, Decimal("310.5"))


def test_alerts_cover_gaps_and_plain_facts_are_counted() -> None:
    tally = Tally()
    tally.fact(Alerted(at_ns=1, severity="critical", kind="unprotected", text="no stop"))
    tally.fact(Covered(at_ns=2, exposed_ns=1_500_000_000))
    tally.fact(Accepted(at_ns=3, cid="c", venue_order_id="v"))
    snapshot = tally.snapshot()
    assert snapshot.alerts == {"critical/unprotected": 1}
    assert snapshot.stages[UNCOVERED].max_ns == 1_500_000_000
    assert snapshot.facts == {"Accepted": 1, "Alerted": 1, "Covered": 1}


def test_a_late_loop_is_a_stall_from_the_threshold_on() -> None:
    tally = Tally()
    assert [tally.lag(late, 100) for late in (99, 100, 101)] == [False, True, True]
    snapshot = tally.snapshot()
    assert (snapshot.stalls, snapshot.stages[LOOP_LAG].count) == (2, 3)
