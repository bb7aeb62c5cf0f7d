"""The account's ledger: nothing on its way is in nobody's books, in any order of events."""

from collections import deque
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from msgspec.structs import replace

from engine.core.admission import AccountTerms, Admission
from engine.core.exposure import Exposure
from engine.core.messages import (
    AccountRow,
    Action,
    BalancesSeen,
    Confirmed,
    Enact,
    InstrumentKind,
    Leg,
    Limits,
    Order,
    OrderType,
    Outcome,
    Plan,
    Position,
    Quantity,
    Side,
    State,
    Trade,
    TransferReport,
)
from engine.core.position import apply_fill
from engine.core.times import DAY, SECOND
from tests.core.gate_world import (
    LINEAR,
    NOW,
    QUOTE,
    SPOT,
    balances,
    exposure,
    instrument,
    position,
    quote,
    signal,
    standing,
    view,
)

D = Decimal
ZERO = D(0)
BUY, SELL = Side.BUY, Side.SELL
PLAN = Plan(Action.OPEN, BUY, D("0.1"), reserve_price=D(50000))


def trade(serial: int, result: str, symbol: str = "BTCUSDT") -> Trade:
    return Trade(f"a/{symbol}/{serial}", "a", symbol, BUY, "closed", realised=D(result))


def test_a_reservation_counts_until_a_standing_names_the_signal() -> None:
    account = exposure()
    account.reserve(signal(), PLAN, NOW)
    assert (account.in_flight("BTCUSDT"), account.reserved, account.provisional) == ((D("0.1"), 0), 5000, ("s1",))
    account.stand(standing(), QUOTE)  # from before the order actor knew of it
    assert account.in_flight("BTCUSDT") == (D("0.1"), 0)
    account.stand(standing(buying=D("0.1"), reserved=D(5000), opening_orders=1, enacted=("s1",)), QUOTE)
    assert (account.in_flight("BTCUSDT"), account.reserved, account.provisional) == ((D("0.1"), 0), 5000, ())
    account.check()


def test_the_same_standing_twice_changes_nothing() -> None:
    account = exposure()
    account.reserve(signal(), PLAN, NOW)
    told = standing(buying=D("0.1"), reserved=D(5000), enacted=("s1",), closed_trade=trade(1, "-5"))
    account.stand(told, QUOTE)
    row = account.row
    account.stand(told, QUOTE)
    assert (account.in_flight("BTCUSDT"), account.row) == ((D("0.1"), 0), row)
    assert account.row.losses_in_row == 1


def test_an_end_before_the_enactment_frees_the_reservation() -> None:
    account = exposure()
    account.reserve(signal(), PLAN, NOW)
    account.release("s1")
    account.release("never heard of")
    assert (account.reserved, account.in_flight("BTCUSDT")) == (0, (0, 0))
    account.check()


def test_what_reduces_reserves_nothing_but_counts_as_an_order() -> None:
    account = exposure()
    account.reserve(signal(), replace(PLAN, action=Action.CLOSE, reduce_only=True), NOW)
    account.reserve(signal("s2"), Plan(Action.CANCEL), NOW)
    assert (account.reserved, account.row.orders_today, view(account).orders_second) == (0, 1, 1)


def test_buys_and_sells_in_flight_are_never_netted() -> None:
    account = exposure()
    account.reserve(signal(), PLAN, NOW)
    account.reserve(signal("s2"), replace(PLAN, side=SELL), NOW)
    assert (account.in_flight("BTCUSDT"), account.reserved) == ((D("0.1"), D("0.1")), 10000)


def test_reserving_a_signal_twice_is_a_broken_invariant() -> None:
    account = exposure()
    account.reserve(signal(), PLAN, NOW)
    with pytest.raises(AssertionError, match="reserved twice"):
        account.reserve(signal(), PLAN, NOW)


def test_ten_thousand_idle_symbols_cost_nothing() -> None:
    many = [instrument(f"C{number}USDT") for number in range(10_000)]
    account = exposure(*many)
    seen = view(account, signal(symbol="C77USDT"), quote=quote("C77USDT"))
    assert seen.instrument is not None and seen.positions_open == 0
    assert not account._holdings


# ------------------------------------------------------------------------------------------------------- money and days


def test_linear_equity_is_the_wallet_and_what_positions_gained() -> None:
    account = exposure()
    account.stand(standing(position(qty="0.1", price="48000", cash=D(-30))), QUOTE)
    assert account.equity() == 100000 - 30 + 200
    account.see_balances(balances({"USDT": "99970"}))  # the venue's wallet now has the fees, too
    assert account.equity() == 99970 + 200


def test_spot_equity_is_the_wallet_and_the_worth_of_what_it_holds() -> None:
    account = exposure(SPOT, wallet={"USDT": "10000", "BTC": "1"})
    assert account.equity() is None  # no price of BTC yet
    account.mark_all({"BTCUSDT": QUOTE}.get)
    assert account.equity() == 60000
    account.stand(standing(position(qty="0.1", price="50000", cash=D(-5005))), QUOTE)
    assert account.equity() == 60000 - 5
    assert view(account).free_quote == 4995
    assert view(account).free_base == D("1.1")


def test_a_currency_that_is_not_listed_counts_nothing() -> None:
    assert exposure(wallet={"USDT": "10", "SCAM": "1000000"}).equity() == 10


def test_spot_buys_in_flight_take_from_the_free_quote_and_sales_from_the_base() -> None:
    account = exposure(SPOT, wallet={"USDT": "10000", "BTC": "1"})
    account.reserve(signal(), PLAN, NOW)
    assert (view(account).free_quote, view(account).free_base) == (5000, 1)
    account.stand(standing(buying=D("0.05"), reserved=D(2500), enacted=("s1",)), QUOTE)
    account.reserve(signal("s2"), replace(PLAN, side=SELL), NOW)
    assert (view(account).free_quote, view(account).free_base) == (7500, D("0.9"))


def test_a_senseless_quote_values_nothing() -> None:
    account = exposure()
    account.stand(standing(position(qty="0.1", price="48000")), QUOTE)
    account.mark("BTCUSDT", replace(QUOTE, bid=D(0), ask=D(0)))
    assert account.equity() == 100200


def test_the_peak_is_remembered_and_the_drawdown_told() -> None:
    account = exposure()
    account.stand(standing(position(qty="1", price="50000")), QUOTE)
    account.mark_all({"BTCUSDT": quote(mid="60000")}.get)
    account.mark_all({"BTCUSDT": quote(mid="55000")}.get)
    assert (account.row.start_equity, account.row.peak_equity) == (100000, 110000)
    assert account.drawdown() == D(5000) / 110000


def test_nothing_is_known_before_the_first_balance() -> None:
    account = Exposure("a", "paper", "USDT", {"BTCUSDT": LINEAR}.get)
    assert (account.equity(), account.drawdown(), view(account).free_quote) == (None, None, None)


def test_a_new_day_starts_from_where_the_last_one_ended() -> None:
    account = exposure()
    account.reserve(signal(), PLAN, NOW)
    account.stand(standing(position(realised=D(-300), fees=D(20), volume=D(9000)), enacted=("s1",)), QUOTE)
    assert (view(account).day_net, view(account).day_volume, account.day_result()) == (-320, 9000, -320)
    assert account.roll(NOW) is False
    assert account.roll(NOW + DAY) is True
    assert account.row.day == "2023-11-15"
    assert (account.row.baseline_net, account.row.baseline_volume, account.row.orders_today) == (-320, 9000, 0)
    assert (view(account).day_net, view(account).day_volume, account.day_result()) == (0, 0, 0)


def test_a_loss_streak_grows_with_losses_and_ends_with_a_gain() -> None:
    account = exposure()
    for serial, (result, streak) in enumerate([("-1", 1), ("-1", 2), ("0", 2), ("-1", 3), ("5", 0), ("5", 0)]):
        account.stand(standing(closed_trade=trade(serial, result)), QUOTE)
        assert account.row.losses_in_row == streak


def test_fees_make_a_trade_a_loss() -> None:
    account = exposure()
    account.stand(standing(closed_trade=replace(trade(1, "1"), fees=D(2))), QUOTE)
    assert account.row.losses_in_row == 1


def test_losses_are_forgiven_by_a_person_and_by_midnight_where_so_configured() -> None:
    account = exposure(limits=replace(Limits(), loss_latch="day"))
    account.stand(standing(position(realised=D(-600), cash=D(-600)), closed_trade=trade(1, "-600")), QUOTE)
    account.acknowledge()
    assert (account.row.losses_in_row, account.row.peak_equity, account.day_result()) == (0, 99400, 0)
    account.stand(standing(position(realised=D(-900), cash=D(-900)), closed_trade=trade(2, "-300")), QUOTE)
    assert (account.row.losses_in_row, account.day_result()) == (1, -300)
    account.roll(NOW + DAY)
    assert (account.row.losses_in_row, account.row.peak_equity, account.day_result()) == (0, 99100, 0)


def test_the_row_is_written_when_it_changed_but_not_for_every_new_peak() -> None:
    account = exposure()
    assert account.changed_row() is not None
    assert account.changed_row() is None
    account.stand(standing(position(realised=D(50), cash=D(50))), QUOTE)
    assert account.changed_row() is None
    account.stand(standing(position(realised=D(200), cash=D(200))), QUOTE)
    row = account.changed_row()
    assert row is not None and row.peak_equity == 100200


# ------------------------------------------------------------------------------------------------------------ transfers


def seen(usdt: str, *transfers: TransferReport, seconds: int = 0, venue_ns: int = NOW) -> BalancesSeen:
    told = balances({"USDT": usdt}, NOW + seconds * SECOND)
    return replace(told, transfers=transfers, venue_ns=venue_ns)


def part(account: Exposure) -> Decimal:
    """The drawdown; a peak that a transfer has moved is rounded to a hundred-millionth."""
    gone = account.drawdown()
    assert gone is not None
    return round(gone, 9)


OUT = TransferReport("t1", "USDT", D(-40000), "WITHDRAW", NOW)


@pytest.mark.parametrize("wallet_first", [True, False])
def test_a_withdrawal_is_no_loss_whichever_is_told_first(wallet_first: bool) -> None:
    account = exposure()
    account.stand(standing(position(realised=D(-5000), cash=D(-5000))), QUOTE)
    account.see_balances(seen("95000"))
    told = (seen("55000", seconds=10), seen("55000", OUT, seconds=20))
    if not wallet_first:
        told = (seen("95000", OUT, seconds=10), seen("55000", OUT, seconds=20))
    booked = []
    for one in told:
        booked += account.see_balances(one)[0]
        assert part(account) == D("0.05")
    assert booked == [OUT], "once, though it is told with every wallet"
    assert account.equity() == 55000 and round(account.row.peak_equity * D("0.95"), 6) == 55000
    assert account.see_balances(seen("55000", OUT, seconds=400)) == ((), ())
    assert part(account) == D("0.05")


def test_a_deposit_hides_no_loss() -> None:
    account = exposure()
    account.stand(standing(position(realised=D(-5000), cash=D(-5000))), QUOTE)
    account.see_balances(seen("95000"))
    account.see_balances(seen("295000", TransferReport("t2", "USDT", D(200000), "DEPOSIT", NOW), seconds=10))
    assert account.equity() == 295000 and part(account) == D("0.05")


def test_what_was_transferred_before_a_start_is_in_the_first_wallet() -> None:
    account = exposure()
    row = account.row
    again = Exposure("a", "paper", "USDT", {"BTCUSDT": LINEAR}.get)
    again.limits = Limits()
    again.recover(row, (), (), ())
    later = replace(OUT, transfer_id="t3", venue_ns=NOW + 1)
    booked, _ = again.see_balances(seen("60000", OUT))
    assert booked == (OUT,) and again.drawdown() == 0 and again.row.peak_equity == 60000
    booked, _ = again.see_balances(seen("20000", OUT, later, seconds=10))
    assert booked == (later,) and again.drawdown() == 0
    third = Exposure("a", "paper", "USDT", {"BTCUSDT": LINEAR}.get)
    third.limits = Limits()
    third.recover(again.row, (), (), ())
    assert third.see_balances(seen("20000", OUT, later)) == ((), ()) and third.drawdown() == 0


def test_a_change_that_nothing_explains_is_a_loss_once_it_has_waited() -> None:
    account = exposure()
    account.see_balances(seen("80000"))
    assert account.drawdown() == 0 and account.see_balances(seen("80000", seconds=149)) == ((), ())
    _, (strange,) = account.see_balances(seen("80000", seconds=150))
    assert (strange.asset, strange.least) == ("USDT", -20000)
    assert account.drawdown() == D("0.2")
    assert account.see_balances(seen("80000", seconds=400)) == ((), ()), "and is told once"


def test_what_comes_and_goes_does_not_make_a_change_that_stays_look_like_news() -> None:
    """A wallet shows executions before they are heard of; beside them the same 1,000 are missing all the time."""
    account = exposure()
    for seconds, usdt in ((0, "99000"), (60, "97000"), (120, "99000"), (140, "98500")):
        assert account.see_balances(seen(usdt, seconds=seconds))[1] == ()
    _, (strange,) = account.see_balances(seen("96000", seconds=160))
    assert strange.least == -1000
    assert account.drawdown() == D("0.01"), "the rest of it may still be explained"


def test_a_withdrawal_of_a_coin_counts_what_it_is_worth() -> None:
    account = exposure(SPOT, wallet={"USDT": "50000", "BTC": "1"})
    account.mark_all({"BTCUSDT": QUOTE}.get)
    assert account.row.peak_equity == 100000
    gone = TransferReport("t4", "BTC", D(-1), "WITHDRAW", NOW)
    told = replace(balances({"USDT": "50000"}, NOW + SECOND), transfers=(gone,), venue_ns=NOW)
    assert account.see_balances(told) == ((gone,), ())
    assert (account.drawdown(), account.row.peak_equity) == (0, 50000)


def test_a_wallet_that_could_not_be_read_for_a_while_is_compared_with_the_one_before() -> None:
    account = exposure()
    account.see_balances(replace(seen("0"), balances=None))
    assert account.equity() is None and account.drawdown() is None
    account.see_balances(seen("60000", seconds=10))
    assert account.equity() == 60000 and account.drawdown() == 0
    account.see_balances(seen("60000", OUT, seconds=20))
    assert account.drawdown() == 0 and account.row.peak_equity == 60000


# -------------------------------------------------------------------------------------------------------------- restart


def test_a_restart_finds_positions_orders_and_signals_that_no_order_stands_for_yet() -> None:
    order = Order(
        cid="c1",
        account="a",
        symbol="BTCUSDT",
        signal_id="s1",
        leg=Leg.ENTRY,
        attempt=0,
        side=BUY,
        order_type=OrderType.LIMIT,
        qty=D("0.3"),
        filled_qty=D("0.1"),
        reserve_price=D(50000),
        state=State.UNCLEAR,
    )
    stop = replace(order, cid="c2", leg=Leg.STOP, side=SELL, reduce_only=True)
    selling = replace(order, cid="c3", signal_id="s3", side=SELL, filled_qty=ZERO, state=State.OPEN)
    row = AccountRow("a", "2023-11-14", baseline_net=D(-50), baseline_volume=D(100), peak_equity=D(90), orders_today=7)
    account = Exposure("a", "paper", "USDT", {"BTCUSDT": LINEAR}.get)
    account.limits = Limits()
    account.recover(
        row,
        [position(qty="0.1", realised=D(-70), volume=D(5000))],
        [order, stop, selling],
        [(signal("s1"), PLAN), (signal("s2"), PLAN)],
    )
    account.check()
    assert account.roll(NOW) is False
    seen = view(account, now_ns=NOW)
    assert (seen.buying, seen.selling, seen.reserved, seen.unclear) == (D("0.3"), D("0.3"), 30000, 1)
    assert (seen.day_net, seen.day_volume, seen.orders_day, seen.orders_minute) == (-20, 4900, 7, 2)
    assert (account.provisional, seen.positions_open) == (("s2",), 1)
    assert seen.recent == {("BTCUSDT", BUY, D("0.1")): NOW}
    account.stand(standing(position(qty="0.1"), buying=D("0.3"), reserved=D(15000), enacted=("s2",)), QUOTE)
    assert (account.in_flight("BTCUSDT"), account.reserved) == ((D("0.3"), 0), 15000)


# ------------------------------------------------------------------------------------------ any interleaving (I11, I12)

SYMBOLS = ("BTCUSDT", "ETHUSDT", "SOLUSDT")
CAP, EXPOSURE, PRICE = D(30000), D(50000), D(50000)
LIMITS = replace(
    Limits(),
    position_notional_max=CAP,
    exposure_max=EXPOSURE,
    positions_max=2,
    duplicate_window_seconds=ZERO,
    orders_per_second=100_000,
    orders_per_minute=100_000,
    orders_per_day=100_000,
    daily_volume_btc_max=D(100_000),
    daily_loss_max=D(1_000_000),
)


class Gate(RuleBasedStateMachine):
    """The gate between a sender and order actors whose mail comes late; prices stand still, so that caps are exact."""

    def __init__(self) -> None:
        super().__init__()
        self.rules_of = {symbol: instrument(symbol) for symbol in SYMBOLS}
        self.admission = Admission("test", {"a": AccountTerms("a", "paper")}, lambda _, s: self.rules_of.get(s))
        self.admission.set_limits("a", LIMITS, "test", NOW)
        self.admission.handle_balances(balances({"USDT": "1000000"}), lambda _: None, NOW)
        self.number = 0
        self.enacts: dict[str, deque[Enact]] = {symbol: deque() for symbol in SYMBOLS}  # mail to the order actors
        self.live: dict[str, dict[str, tuple[Side, Decimal]]] = {symbol: {} for symbol in SYMBOLS}
        self.positions = {symbol: Position("a", symbol) for symbol in SYMBOLS}
        self.mail: deque[Any] = deque()  # Standings on their way to the gate
        self.last: Any = None

    def market(self, symbol: str) -> Any:
        return replace(QUOTE, symbol=symbol, bid=PRICE, ask=PRICE)

    def tell(self, symbol: str, enacted: tuple[str, ...] = (), confirmed: tuple[Confirmed, ...] = ()) -> None:
        live = self.live[symbol].values()
        buying = sum((qty for side, qty in live if side is BUY), ZERO)
        selling = sum((qty for side, qty in live if side is SELL), ZERO)
        self.mail.append(
            standing(
                self.positions[symbol],
                buying=buying,
                selling=selling,
                reserved=(buying + selling) * PRICE,
                opening_orders=len(live),
                enacted=enacted,
                confirmed=confirmed,
            )
        )

    @rule(symbol=st.sampled_from(SYMBOLS), side=st.sampled_from([BUY, SELL]), lots=st.integers(1, 500))
    def ask(self, symbol: str, side: Side, lots: int) -> None:
        self.number += 1
        size = Quantity(D(lots).scaleb(-3))
        asked = signal(f"s{self.number}", symbol=symbol, side=side, size=size, stop_loss=None, take_profit=None)
        admitted = self.admission.handle_signal(asked, None, self.market(symbol), None, (), NOW)
        if admitted.enact is not None:
            self.enacts[symbol].append(admitted.enact)

    @rule(symbol=st.sampled_from(SYMBOLS), too_late=st.booleans())
    def enact(self, symbol: str, too_late: bool) -> None:
        if not self.enacts[symbol]:
            return
        enact = self.enacts[symbol].popleft()
        signal_id, plan = enact.signal.signal_id, enact.plan
        if too_late:
            ended = Confirmed(at_ns=NOW, account="a", symbol=symbol, signal_id=signal_id, outcome=Outcome.FAILED)
            return self.tell(symbol, (signal_id,), (ended,))
        assert plan.side is not None
        self.live[symbol][signal_id] = (plan.side, plan.qty)
        self.tell(symbol, (signal_id,))

    @rule(symbol=st.sampled_from(SYMBOLS), part=st.integers(1, 4))
    def fill(self, symbol: str, part: int) -> None:
        if not self.live[symbol]:
            return
        signal_id, (side, qty) = next(iter(self.live[symbol].items()))
        filled = max((qty * part / 4).quantize(D("0.001")), D("0.001"))
        self.positions[symbol], _ = apply_fill(
            self.positions[symbol], self.rules_of[symbol], side, filled, PRICE, ZERO, "USDT", None, NOW
        )
        self.end(symbol, signal_id, qty - filled, side)

    @rule(symbol=st.sampled_from(SYMBOLS))
    def cancel(self, symbol: str) -> None:
        if self.live[symbol]:
            signal_id, (side, _) = next(reversed(self.live[symbol].items()))
            self.end(symbol, signal_id, ZERO, side)

    @rule(symbol=st.sampled_from(SYMBOLS))
    def flatten(self, symbol: str) -> None:
        held = self.positions[symbol].qty
        if held:
            side = SELL if held > 0 else BUY
            self.positions[symbol], _ = apply_fill(
                self.positions[symbol], self.rules_of[symbol], side, abs(held), PRICE, ZERO, "USDT", None, NOW
            )
            self.tell(symbol)

    @precondition(lambda self: self.mail)
    @rule()
    def deliver(self) -> None:
        self.last = self.mail.popleft()
        self.repeat()

    @precondition(lambda self: self.last is not None)
    @rule()
    def repeat(self) -> None:
        """Standings are absolute: the newest one told again does no harm."""
        for confirmed in self.last.confirmed:
            self.admission.handle_confirmed(confirmed.signal_id, confirmed)
        symbol = self.last.position.symbol
        assert self.admission.handle_standing(self.last, self.market(symbol), NOW).halts == ()
        self.last = None

    @rule()
    def settle(self) -> None:
        while self.mail:
            self.deliver()
        account = self.admission.exposure("a")
        live = sum((qty * PRICE for orders in self.live.values() for _, qty in orders.values()), ZERO)
        coming = sum((e.plan.qty * PRICE for enacts in self.enacts.values() for e in enacts), ZERO)
        assert account.reserved == live + coming
        assert len(account.provisional) == sum(len(enacts) for enacts in self.enacts.values())

    @invariant()
    def sums_are_right(self) -> None:
        self.admission.check()

    @invariant()
    def no_side_can_break_its_cap_whatever_fills(self) -> None:
        total, busy = ZERO, 0
        for symbol in SYMBOLS:
            held = self.positions[symbol].qty
            possible = [(e.plan.side, e.plan.qty) for e in self.enacts[symbol]] + list(self.live[symbol].values())
            buys = sum((qty for side, qty in possible if side is BUY), ZERO)
            sells = sum((qty for side, qty in possible if side is SELL), ZERO)
            assert (held + buys) * PRICE <= CAP
            assert (sells - held) * PRICE <= CAP
            total += (abs(held) + buys + sells) * PRICE
            busy += bool(held or possible)
        assert total <= EXPOSURE
        assert busy <= 2

    def end(self, symbol: str, signal_id: str, left: Decimal, side: Side) -> None:
        confirmed: tuple[Confirmed, ...] = ()
        if left:
            self.live[symbol][signal_id] = (side, left)
        else:
            del self.live[symbol][signal_id]
            ended = Confirmed(at_ns=NOW, account="a", symbol=symbol, signal_id=signal_id, outcome=Outcome.EXECUTED)
            confirmed = (ended,)
        self.tell(symbol, confirmed=confirmed)


Gate.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestAnyInterleaving = Gate.TestCase


def test_new_steps_of_an_instrument_are_seen_at_once() -> None:
    listed = {"BTCUSDT": LINEAR}
    account = Exposure("a", "paper", "USDT", listed.get)
    account.stand(standing(position(qty="0.1")), QUOTE)
    listed["BTCUSDT"] = instrument(tick=D("0.5"))
    assert view(account).instrument == listed["BTCUSDT"]


def test_marks_without_a_holding_only_price_the_currency() -> None:
    account = exposure(SPOT, instrument("ETHUSDT", InstrumentKind.SPOT), wallet={"USDT": "0", "ETH": "2"})
    assert account.marked_symbols() == ("ETHUSDT",)
    account.mark("ETHUSDT", quote("ETHUSDT", "3000", NOW + SECOND))
    assert account.equity() == 6000
