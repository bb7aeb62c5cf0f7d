"""Average cost, flips, fees in any currency, funding; and the identities that tie them to the wallet."""

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.messages import Instrument, InstrumentKind, Position, Side, Trade
from engine.core.position import (
    apply_fill,
    apply_funding,
    closable,
    cost_of,
    fee_worth,
    fold_trade,
    fund_trade,
    net,
    unrealised,
)

D = Decimal
ZERO = D(0)
BUY, SELL = Side.BUY, Side.SELL


def instrument(kind: InstrumentKind = InstrumentKind.LINEAR) -> Instrument:
    return Instrument("BTCUSDT", "paper", kind, "BTC", "USDT", D("0.1"), D("0.001"), D("0.001"), D(100), D(5))


LINEAR, SPOT = instrument(), instrument(InstrumentKind.SPOT)
FLAT = Position("a", "BTCUSDT")


def fill(
    position: Position,
    side: Side,
    qty: str,
    price: str,
    fee: str = "0",
    asset: str = "USDT",
    fee_quote: str | None = None,
    rules: Instrument = LINEAR,
) -> tuple[Position, Decimal]:
    worth = None if fee_quote is None else D(fee_quote)
    return apply_fill(position, rules, side, D(qty), D(price), D(fee), asset, worth, 1)


def test_only_opening_changes_the_average_price() -> None:
    position, _ = fill(FLAT, BUY, "1", "100")
    position, _ = fill(position, BUY, "3", "120")
    assert (position.qty, position.avg_price, position.cost) == (4, 115, 460)
    position, realised = fill(position, SELL, "1", "135")
    assert (position.avg_price, realised, position.realised, position.cost) == (115, 20, 20, 345)


def test_a_short_earns_when_the_price_falls() -> None:
    position, _ = fill(FLAT, SELL, "2", "100")
    assert (position.qty, position.cost, unrealised(position, D(90))) == (-2, -200, 20)
    position, realised = fill(position, BUY, "0.5", "80")
    assert (realised, position.qty, position.avg_price) == (10, D("-1.5"), 100)


def test_a_flip_closes_all_and_opens_the_rest_at_the_fill_price() -> None:
    position, _ = fill(FLAT, BUY, "1", "100")
    position, realised = fill(position, SELL, "3", "90")
    assert realised == -10
    assert (position.qty, position.avg_price, position.cost, position.serial) == (-2, 90, -180, 2)


def test_flat_is_flat_and_the_next_opening_is_a_new_lifecycle() -> None:
    position, _ = fill(FLAT, BUY, "1", "100")
    position, _ = fill(position, SELL, "1", "101")
    assert (position.qty, position.avg_price, position.cost, position.serial) == (0, 0, 0, 1)
    position, _ = fill(position, BUY, "1", "100")
    assert position.serial == 2


def test_scaling_in_keeps_the_lifecycle() -> None:
    position, _ = fill(FLAT, BUY, "1", "100")
    position, _ = fill(position, BUY, "1", "100")
    position, _ = fill(position, SELL, "0.5", "100")
    assert position.serial == 1


def test_a_third_of_a_cost_that_does_not_divide_loses_nothing() -> None:
    position, _ = fill(FLAT, BUY, "0.003", "100.1")
    total = ZERO
    for _ in range(3):
        position, realised = fill(position, SELL, "0.001", "100.1")
        total += realised
    assert (position.qty, position.cost, total) == (0, 0, 0)


def test_a_fee_in_quote_leaves_the_wallet() -> None:
    position, _ = fill(FLAT, BUY, "1", "100", fee="0.1", rules=SPOT)
    assert (position.qty, position.fees, position.cash) == (1, D("0.1"), D("-100.1"))


def test_a_fee_in_base_shrinks_what_a_spot_account_holds() -> None:
    position, _ = fill(FLAT, BUY, "1", "100", fee="0.001", asset="BTC", rules=SPOT)
    assert (position.qty, position.fees, position.cash) == (D("0.999"), D("0.1"), -100)
    assert (position.avg_price, unrealised(position, D(100)), net(position)) == (100, 0, D("-0.1"))


def test_a_fee_in_base_on_futures_is_only_priced() -> None:
    position, _ = fill(FLAT, BUY, "1", "100", fee="0.001", asset="BTC")
    assert (position.qty, position.fees, position.cash) == (1, D("0.1"), 0)


def test_a_fee_in_a_third_currency_counts_by_its_worth_or_is_kept_apart() -> None:
    position, _ = fill(FLAT, BUY, "1", "100", fee="0.01", asset="BNB", fee_quote="6", rules=SPOT)
    assert (position.fees, position.fees_unpriced, position.cash) == (6, (), -100)
    position, _ = fill(position, BUY, "1", "100", fee="0.02", asset="BNB", rules=SPOT)
    position, _ = fill(position, BUY, "1", "100", fee="0.03", asset="BNB", rules=SPOT)
    assert (position.fees, position.fees_unpriced) == (6, (("BNB", D("0.05")),))


def test_a_rebate_is_a_negative_fee() -> None:
    position, _ = fill(FLAT, BUY, "1", "100", fee="-0.02")
    assert (position.fees, position.cash, net(position)) == (D("-0.02"), D("0.02"), D("0.02"))


def test_funding_moves_cash_and_the_result() -> None:
    position, _ = fill(FLAT, BUY, "1", "100")
    position = apply_funding(position, LINEAR, D("-0.3"), "USDT", 2)
    assert (position.funding, position.cash, net(position), position.updated_ns) == (D("-0.3"), D("-0.3"), D("-0.3"), 2)
    other = apply_funding(position, LINEAR, D("-0.3"), "BNB", 3)
    assert (other.funding, other.fees_unpriced) == (D("-0.3"), (("BNB", D("0.3")),))


def test_the_fields_of_others_are_left_alone() -> None:
    before = Position("a", "BTCUSDT", stop_loss=D(90), take_profit=D(120), stop_waived=True, attempts=3)
    after, _ = fill(before, BUY, "1", "100")
    assert (after.stop_loss, after.take_profit, after.stop_waived, after.attempts) == (90, 120, True, 3)


@pytest.mark.parametrize(
    ("asset", "given_worth", "expected"),
    [("USDT", None, "2"), ("BTC", None, "200"), ("BNB", "7", "7"), ("BNB", None, None)],
)
def test_what_a_fee_is_worth(asset: str, given_worth: str | None, expected: str | None) -> None:
    worth = fee_worth(LINEAR, D(2), asset, D(100), None if given_worth is None else D(given_worth))
    assert worth == (None if expected is None else D(expected))


def test_no_fee_is_worth_nothing_in_any_currency() -> None:
    assert fee_worth(LINEAR, ZERO, "BNB", D(100), None) == 0


@pytest.mark.parametrize(("qty", "can"), [("0", False), ("0.0009", False), ("0.001", True), ("-0.0019", True)])
def test_less_than_a_lot_cannot_be_closed(qty: str, can: bool) -> None:
    assert closable(Position("a", "BTCUSDT", qty=D(qty)), LINEAR) is can


def test_a_position_written_without_cost_is_taken_at_its_average() -> None:
    assert cost_of(Position("a", "BTCUSDT", qty=D(-2), avg_price=D(50))) == -100


# ------------------------------------------------------------------------------------------------------------- trades


def trade_after(*fills: tuple[Side, str, str, str], rules: Instrument = LINEAR) -> tuple[list[Trade], Trade | None]:
    """Closed trades and the open one after fills of (side, qty, price, fee in quote)."""
    position, trade, closed_ones = FLAT, None, []
    for number, (side, qty, price, fee) in enumerate(fills, 1):
        after, realised = fill(position, side, qty, price, fee=fee, rules=rules)
        closed, trade = fold_trade(
            trade, position, after, rules, D(price), realised, D(fee), number, f"s{number}", "src", "t"
        )
        closed_ones += [closed] if closed else []
        position = after
    return closed_ones, trade


def test_a_trade_runs_from_flat_to_flat() -> None:
    closed, trade = trade_after((BUY, "1", "100", "1"), (BUY, "1", "110", "1"), (SELL, "0.5", "120", "1"))
    assert closed == [] and trade is not None
    assert (trade.trade_id, trade.side, trade.state, trade.signal_id) == ("a/BTCUSDT/1", BUY, "closing", "s1")
    assert (trade.entry_qty, trade.entry_price, trade.exit_qty, trade.exit_price) == (2, 105, D("0.5"), 120)
    closed, trade = trade_after((BUY, "1", "100", "1"), (SELL, "1", "90", "2"))
    assert trade is None
    assert [(t.state, t.realised, t.fees, t.opened_ns, t.closed_ns) for t in closed] == [("closed", -10, 3, 1, 2)]


def test_a_flip_closes_one_trade_and_opens_the_next_and_splits_the_fee() -> None:
    closed, trade = trade_after((BUY, "1", "100", "0"), (SELL, "3", "90", "0.9"))
    assert [(t.trade_id, t.realised, t.fees, t.exit_qty) for t in closed] == [("a/BTCUSDT/1", -10, D("0.3"), 1)]
    assert trade is not None
    assert (trade.trade_id, trade.side, trade.entry_qty, trade.entry_price) == ("a/BTCUSDT/2", SELL, 2, 90)
    assert (trade.fees, trade.signal_id) == (D("0.6"), "s2")


def test_dust_left_by_fees_in_base_ends_the_trade() -> None:
    before, _ = fill(FLAT, BUY, "0.01", "100", fee="0.0005", asset="BTC", rules=SPOT)
    _, trade = fold_trade(None, FLAT, before, SPOT, D(100), ZERO, D("0.05"), 1)
    after, realised = fill(before, SELL, "0.009", "110", rules=SPOT)
    closed, trade = fold_trade(trade, before, after, SPOT, D(110), realised, ZERO, 2)
    assert (after.qty, trade) == (D("0.0005"), None)
    assert closed is not None and (closed.realised, closed.exit_qty) == (D("0.09"), D("0.009"))
    reopened, _ = fill(after, BUY, "0.01", "100", rules=SPOT)
    assert reopened.serial == 2


def test_what_reduces_without_a_trade_makes_none() -> None:
    before = Position("a", "BTCUSDT", qty=D("0.0005"), cost=D("0.05"))
    after, realised = fill(before, SELL, "0.0002", "100", rules=SPOT)
    assert fold_trade(None, before, after, SPOT, D(100), realised, ZERO, 1) == (None, None)


def test_a_fee_that_could_not_be_priced_and_funding_in_a_trade() -> None:
    after, _ = fill(FLAT, BUY, "1", "100")
    _, trade = fold_trade(None, FLAT, after, LINEAR, D(100), ZERO, None, 1)
    assert trade is not None and trade.fees == 0
    assert fund_trade(fund_trade(trade, D("-1")), D("0.25")).funding == D("-0.75")


# ---------------------------------------------------------------------------------------------------------- identities

QTY = st.integers(1, 5000).map(lambda n: D(n).scaleb(-3))
PRICE = st.integers(1, 2_000_000).map(lambda n: D(n).scaleb(-1))
FEE = st.tuples(st.integers(-20, 50).map(lambda n: D(n).scaleb(-6)), st.sampled_from(["USDT", "BTC", "BNB"]))
FILLS = st.lists(st.tuples(st.sampled_from([BUY, SELL]), QTY, PRICE, FEE), min_size=1, max_size=25)


@settings(max_examples=150, deadline=None)
@given(FILLS, PRICE, st.sampled_from([InstrumentKind.SPOT, InstrumentKind.LINEAR]))
def test_the_books_agree_with_the_wallet_whatever_the_order_of_fills(
    fills: list[tuple[Side, Decimal, Decimal, tuple[Decimal, str]]], mark: Decimal, kind: InstrumentKind
) -> None:
    rules = instrument(kind)
    position, trade = FLAT, None
    held = wallet = flow = elsewhere = realised_sum = ZERO
    trades: list[Trade] = []
    for number, (side, qty, price, (rate, asset)) in enumerate(fills, 1):
        fee = rate * qty * (1 if asset != "USDT" else price)
        worth = fee_worth(rules, fee, asset, price, fee * 300)
        assert worth is not None
        after, realised = apply_fill(position, rules, side, qty, price, fee, asset, worth, number)
        closed, trade = fold_trade(trade, position, after, rules, price, realised, worth, number)
        trades += [closed] if closed else []
        position = after
        realised_sum += realised
        held += side.sign * qty
        flow -= side.sign * qty * price
        if kind is InstrumentKind.SPOT and asset == "BTC":
            held -= fee
        elif asset == "USDT":
            wallet -= fee
        else:
            elsewhere += worth
        assert position.qty == held
        assert position.realised == realised_sum
        assert (position.cost == 0) if not position.qty else (position.cost > 0) == (position.qty > 0)
    if kind is InstrumentKind.SPOT:
        assert position.cash == flow + wallet
        assert net(position) + unrealised(position, mark) == position.cash + position.qty * mark - elsewhere
    else:
        assert position.cash == position.realised + wallet
        assert position.realised + unrealised(position, mark) == flow + position.qty * mark
        # On spot, what dust realises when it goes belongs to no trade.
        assert sum((t.realised for t in trades), ZERO) + (trade.realised if trade else ZERO) == position.realised
    assert [t.trade_id for t in trades] == list(dict.fromkeys(t.trade_id for t in trades))
