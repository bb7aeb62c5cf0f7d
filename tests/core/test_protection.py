"""What protection a position should have, and what is done about the difference."""

from decimal import Decimal

from msgspec.structs import replace

from engine.core.messages import Instrument, InstrumentKind, Leg, Order, OrderType, Position, Quote, Side, State
from engine.core.protection import FRESH_NS, Passed, need, passed, uncovered, wanted
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
LONG = Position(account="a", symbol="BTCUSDT", qty=D("0.5"), stop_loss=D("99.04"), take_profit=D("110.07"))
SHORT = replace(LONG, qty=D("-0.5"), stop_loss=D("110.07"), take_profit=D("99.04"))


def stop(qty: str, state: State = State.OPEN, trigger: str = "99.1", side: Side = Side.SELL, **more: object) -> Order:
    return Order(
        cid=f"c{qty}{trigger}{state}",
        account="a",
        symbol="BTCUSDT",
        signal_id="~a/BTCUSDT/1/0",
        leg=Leg.STOP,
        attempt=0,
        side=side,
        order_type=OrderType.STOP_MARKET,
        qty=D(qty),
        trigger_price=D(trigger),
        reduce_only=True,
        state=state,
        **more,
    )


def test_a_long_wants_a_stop_that_sells_and_rounding_never_enlarges_the_loss() -> None:
    a_stop, a_target = wanted(LONG, BTC)
    assert (a_stop.side, a_stop.qty, a_stop.trigger_price) == (Side.SELL, D("0.5"), D("99.1"))
    assert (a_target.side, a_target.trigger_price) == (Side.SELL, D("110.0"))


def test_a_short_wants_the_mirror() -> None:
    a_stop, a_target = wanted(SHORT, BTC)
    assert (a_stop.side, a_stop.trigger_price) == (Side.BUY, D("110.0"))
    assert (a_target.side, a_target.trigger_price) == (Side.BUY, D("99.1"))


def test_flat_and_dust_want_nothing() -> None:
    assert wanted(replace(LONG, qty=D(0)), BTC) == ()
    assert wanted(replace(LONG, qty=D("0.0004")), BTC) == ()


def test_no_plan_wants_nothing() -> None:
    assert wanted(replace(LONG, stop_loss=None, take_profit=None), BTC) == ()


WANT = wanted(LONG, BTC)[0]


def test_a_missing_stop_is_placed() -> None:
    assert need(WANT, [], tidy=False).place == WANT


def test_a_stop_that_fits_is_left_alone() -> None:
    assert need(WANT, [stop("0.5")], tidy=True) == need(WANT, [stop("0.5")], tidy=False)
    todo = need(WANT, [stop("0.5")], tidy=False)
    assert todo.place is None and todo.cancel == ()


def test_too_small_a_stop_is_replaced_and_stays_until_the_new_one_stands() -> None:
    small = stop("0.3")
    todo = need(WANT, [small], tidy=False)
    assert todo.place == WANT and todo.cancel == ()
    assert need(WANT, [small, stop("0.5", State.PENDING)], tidy=False).cancel == ()
    assert need(WANT, [small, stop("0.5")], tidy=False).cancel == (small,)


def test_while_one_is_on_its_way_no_other_is_placed() -> None:
    assert need(WANT, [stop("0.3", State.PENDING)], tidy=True).place is None


def test_a_doubtful_stop_is_no_cover_and_does_not_hold_up_the_next() -> None:
    assert need(WANT, [stop("0.5", State.UNCLEAR)], tidy=False).place == WANT


def test_too_much_cover_is_left_until_a_quiet_moment() -> None:
    big = stop("0.8")
    assert need(WANT, [big], tidy=False).place is None
    assert need(WANT, [big], tidy=True).place == WANT
    assert need(WANT, [big, stop("0.5")], tidy=True).cancel == (big,)


def test_a_moved_stop_is_a_new_order() -> None:
    moved = replace(WANT, trigger_price=D("99.5"))
    assert need(moved, [stop("0.5")], tidy=False).place == moved


def test_when_nothing_is_wanted_all_go() -> None:
    live = stop("0.5")
    assert need(None, [live, stop("0.3", State.CLOSED)], tidy=False).cancel == (live,)
    assert need(None, [stop("0.5", cancel_asked=True)], tidy=False).cancel == ()


def test_only_live_stops_on_the_right_side_cover() -> None:
    assert uncovered(LONG, BTC, [stop("0.5")]) == 0
    assert uncovered(LONG, BTC, [stop("0.3"), stop("0.1")]) == D("0.1")
    assert uncovered(LONG, BTC, [stop("0.5", State.PENDING)]) == D("0.5")
    assert uncovered(LONG, BTC, [stop("0.5", State.UNCLEAR)]) == D("0.5")
    assert uncovered(LONG, BTC, [stop("0.5", side=Side.BUY)]) == D("0.5")
    assert uncovered(replace(LONG, stop_waived=True), BTC, []) == 0


def test_a_stop_that_is_being_filled_covers_what_is_left() -> None:
    half_done = stop("0.5", filled_qty=D("0.2"))
    assert uncovered(replace(LONG, qty=D("0.3")), BTC, [half_done]) == 0


def quote(bid: str, ask: str, at_ns: int) -> Quote:
    return Quote("BTCUSDT", D(bid), D(ask), at_ns=at_ns)


def test_a_stop_is_passed_when_all_that_can_be_traded_is_beyond_it() -> None:
    """A wide spread in which nobody trades triggers nothing: the far side of the book has to be beyond."""
    now = 100 * SECOND
    beyond = [
        (LONG, "98.9", "99.0", True),
        (LONG, "98.0", "99.5", False),
        (LONG, "99.5", "99.6", False),
        (SHORT, "110.1", "110.2", True),
        (SHORT, "109.0", "110.2", False),
        (SHORT, "109.0", "109.1", False),
    ]
    for position, bid, ask, expected in beyond:
        assert bool(passed(Passed(), position, quote(bid, ask, now), now).since_ns) is expected, (position, bid, ask)
    flat, bare = replace(LONG, qty=D(0)), replace(LONG, stop_loss=None)
    for position in (flat, bare, replace(flat, stop_loss=D(1))):
        assert not passed(Passed(), position, quote("98.9", "99.0", now), now).since_ns


def test_only_fresh_quotes_and_no_gap_between_two_looks_make_a_stop_passed_for_long() -> None:
    seen = Passed()
    for second in range(100, 105):
        seen = passed(seen, LONG, quote("98", "98.1", second * SECOND), second * SECOND)
    assert seen == Passed(100 * SECOND, 104 * SECOND)
    late = 104 * SECOND + FRESH_NS
    assert passed(seen, LONG, quote("98", "98.1", 104 * SECOND), late).since_ns == 100 * SECOND
    assert not passed(seen, LONG, quote("98", "98.1", 104 * SECOND), late + 1).since_ns, "a stale quote says nothing"
    assert not passed(seen, LONG, None, late).since_ns
    assert not passed(seen, LONG, quote("98", "0", late), late).since_ns, "that is no market"
    assert not passed(seen, LONG, quote("99.1", "99.2", late), late).since_ns, "it has come back"
    gap = late + 1  # of which nobody knows what was in it, as when the process was stopped
    assert passed(seen, LONG, quote("98", "98.1", gap), gap).since_ns == gap
