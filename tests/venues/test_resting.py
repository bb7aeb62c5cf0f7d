"""Places for orders at a venue: an entry leaves one to the stop that it will need."""

from decimal import Decimal
from typing import Any

import pytest

from engine.core.messages import Leg, OrderReport, OrderType, Side, TimeInForce
from engine.venues.resting import Places, Resting
from tests.venues.world import buy

D = Decimal
STOP: dict[str, Any] = {"order_type": OrderType.STOP_MARKET, "trigger_price": D(90)}


def report(
    cid: str, status: str = "open", symbol: str = "BTCUSDT", stop: bool = False, number: str = ""
) -> OrderReport:
    kind = OrderType.STOP_MARKET if stop else OrderType.LIMIT
    return OrderReport(symbol, cid, number or f"n{cid}", status, Side.BUY, kind, D(1), D(0))


@pytest.mark.parametrize(
    ("entry", "orders", "stops", "goes"),
    [
        (buy(), 3, 2, True),  # a market order never rests: one place for its stop is enough
        (buy(), 4, 2, False),
        (buy(price=D(9), order_type=OrderType.LIMIT), 2, 2, True),
        (buy(price=D(9), order_type=OrderType.LIMIT), 3, 2, False),
        (buy(), 3, 3, False),  # no conditional order could follow
        (buy(**STOP), 1, 1, True),
        (buy(**STOP), 2, 2, False),
    ],
)
def test_an_entry_goes_only_while_its_stop_will_have_a_place(entry, orders: int, stops: int, goes: bool):
    resting = Resting()
    resting.read([report(f"o{n}", stop=n < stops) for n in range(orders)])
    assert (resting.no_room(entry, Places(orders=4, stops=3)) == "") is goes


def test_what_closes_or_protects_goes_always():
    resting = Resting()
    resting.read([report(f"o{n}", stop=True) for n in range(9)])
    full = Places(orders=1, stops=1, stops_of_all=1)
    for order in (buy(leg=Leg.STOP, reduce_only=True, **STOP), buy(leg=Leg.EXIT, reduce_only=True)):
        assert resting.no_room(order, full) == ""
    assert "9 of 1" in resting.no_room(buy(), full)


def test_where_conditional_orders_are_counted_over_all_symbols_others_count_too():
    resting = Resting()
    resting.read([report("a", symbol="ETHUSDT", stop=True), report("b", stop=True)])
    assert resting.no_room(buy(), Places(stops_of_all=3)) == ""
    assert resting.no_room(buy(), Places(stops_of_all=2)) != ""


def test_places_are_counted_by_what_is_heard_between_two_lists():
    resting, two = Resting(), Places(orders=2)
    resting.takes(buy("mine", price=D(9), order_type=OrderType.LIMIT))
    resting.takes(buy("market"))
    resting.hears(report("mine"))
    assert resting.no_room(buy(), two) == ""
    resting.hears(report("", number="foreign"))
    assert resting.no_room(buy(), two) != ""
    resting.hears(report("mine", status="filled"))
    assert resting.no_room(buy(), two) == ""
    resting.read([])
    assert resting.no_room(buy(price=D(9), order_type=OrderType.LIMIT), two) == ""


@pytest.mark.parametrize("tif", [TimeInForce.IOC, TimeInForce.FOK])
def test_an_order_that_goes_at_once_or_not_at_all_takes_no_place_though_its_end_is_told_before_its_acceptance(tif):
    resting, places = Resting(), Places(orders=2, stops=2)
    entry = buy(price=D(9), order_type=OrderType.LIMIT, tif=tif)
    for _ in range(5):
        assert resting.no_room(entry, places) == ""
        resting.hears(report(entry.cid, "canceled"))
        resting.takes(entry)
