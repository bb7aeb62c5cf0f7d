"""Spot without reduce-only: which way each order goes when a stop holds the coins."""

from decimal import Decimal
from typing import Any

import pytest

from engine.core.messages import FillReport, Leg, Order, OrderType, Quote, Rejection, Side, TimeInForce
from engine.venues.binance.spot_cover import (
    Hold,
    Replace,
    Sales,
    Send,
    fired,
    held_report,
    holds_coins,
    reached,
    way,
)
from engine.venues.binance.witness import LATE_NS, Witness

D = Decimal
NONE: dict[str, Decimal] = {}
ONE = {"stop": D("0.1")}
TWO = {"old": D("0.1"), "new": D("0.2")}


def order(leg: Leg, order_type: OrderType = OrderType.MARKET, **fields: Any) -> Order:
    defaults: dict[str, Any] = {
        "cid": "x",
        "account": "main",
        "symbol": "BTCUSDT",
        "signal_id": "~",
        "leg": leg,
        "attempt": 0,
        "side": Side.SELL,
        "order_type": order_type,
        "qty": D("0.1"),
        "reduce_only": True,
    }
    return Order(**{**defaults, **fields})


STOP = order(Leg.STOP, OrderType.STOP_MARKET, trigger_price=D(90))
TARGET = order(Leg.TARGET, OrderType.TAKE_PROFIT_MARKET, trigger_price=D(110))
RESTING = order(Leg.EXIT, OrderType.LIMIT, price=D(120))


def test_an_entry_goes_as_it_is() -> None:
    assert way(order(Leg.ENTRY, side=Side.BUY, reduce_only=False), ONE) == Send()


def test_what_would_go_short_is_refused() -> None:
    refused = way(order(Leg.ENTRY, reduce_only=False), NONE)
    assert isinstance(refused, Rejection) and refused.kind == "invalid"


@pytest.mark.parametrize("closer", [STOP, order(Leg.EXIT), order(Leg.EXIT, OrderType.LIMIT, tif=TimeInForce.IOC)])
def test_a_closer_takes_the_place_of_the_stop_that_holds_the_coins(closer: Order) -> None:
    assert way(closer, NONE) == Send()
    assert way(closer, ONE) == Replace("stop")
    assert way(closer, TWO) == Replace("new")


def test_a_target_waits_with_us() -> None:
    assert way(TARGET, ONE) == Hold() and way(TARGET, NONE) == Hold()


def test_an_exit_that_rests_and_a_stop_cannot_hold_the_same_coins() -> None:
    assert isinstance(way(RESTING, ONE), Rejection)
    assert way(RESTING, NONE) == Send()


def test_a_target_is_reached_by_the_bid_of_a_fresh_quote() -> None:
    now = 10**18
    assert reached(TARGET, Quote("BTCUSDT", D(110), D(111), at_ns=now), now)
    assert not reached(TARGET, Quote("BTCUSDT", D("109.9"), D(111), at_ns=now), now)
    assert not reached(TARGET, Quote("BTCUSDT", D(110), D(111), at_ns=now - 4_000_000_000), now)
    assert not reached(TARGET, None, now)


def test_a_fired_target_executes_at_once() -> None:
    assert (fired(TARGET).order_type, fired(TARGET).trigger_price) == (OrderType.MARKET, None)
    limited = fired(order(Leg.TARGET, OrderType.TAKE_PROFIT_LIMIT, trigger_price=D(110), price=D(109)))
    assert (limited.order_type, limited.tif, limited.price) == (OrderType.LIMIT, TimeInForce.IOC, 109)
    assert way(fired(TARGET), ONE) == Replace("stop") and way(fired(TARGET), NONE) == Send()


def test_a_held_target_is_told_as_an_open_order_that_holds_no_coins_at_the_venue() -> None:
    report = held_report(TARGET)
    assert (report.status, report.reduce_only, report.trigger_price) == ("open", True, 110)
    assert not report.venue_order_id.isdecimal()
    assert holds_coins(held_report(STOP)), "a stop of ours does"


EXIT = order(Leg.EXIT, cid="exit-2", submitted_ns=100)


def test_a_sale_waits_while_another_is_in_doubt_and_no_stop_proves_it_undone() -> None:
    sales = Sales()
    assert sales.holds_back(EXIT, standing=False) == ""
    sales.doubt("exit-1", 50)
    assert "exit-1" in sales.holds_back(EXIT, standing=False)
    assert sales.holds_back(EXIT, standing=True) == "", "the stop in whose place it would have gone still stands"
    assert sales.holds_back(STOP, standing=False) == "", "a stop sells nothing yet"
    sales.hears("exit-1", 60, executed=False)
    assert sales.holds_back(EXIT, standing=False) == ""


def test_a_sale_in_doubt_is_none_when_it_can_no_longer_have_come() -> None:
    sales = Sales()
    sales.doubt("exit-1", 50)
    sales.absent("exit-1", 50 + 36, dead_ns=36)
    assert sales.holds_back(EXIT, standing=False)
    sales.absent("another", 10**6, dead_ns=36)
    sales.absent("exit-1", 50 + 37, dead_ns=36)
    assert sales.holds_back(EXIT, standing=False) == ""


def test_a_sale_that_was_decided_before_the_last_one_was_heard_of_is_held_back() -> None:
    sales = Sales()
    sales.hears("stop", 101, executed=True)
    assert "before" in sales.holds_back(EXIT, standing=False)
    assert sales.holds_back(order(Leg.EXIT, submitted_ns=102), standing=False) == ""


def fill(at_ns: int, exec_id: str = "1-1") -> FillReport:
    return FillReport("BTCUSDT", exec_id, "x", "1", Side.BUY, D(1), D(1), D(0), "USDT", venue_ns=at_ns)


def test_a_stream_that_never_told_of_an_execution_is_dead() -> None:
    witness, up = Witness(), 10**18
    late = up + 2 * LATE_NS
    assert witness.missed((fill(late),), late * 2) == "", "it was not up"
    witness.up(up)
    assert witness.missed((fill(late),), late + LATE_NS) == "", "it may still come"
    assert "1-1" in witness.missed((fill(late),), late + LATE_NS + 1)
    assert witness.missed((fill(up),), late * 2) == "", "from before it was up, or just about"
    witness.hears(fill(late))
    assert witness.missed((fill(late),), late * 2) == ""
