"""The exchange's rules, one by one, and then all together against an independent reckoning from the executions."""

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.core.messages import (
    Acked,
    FillReport,
    FundingReport,
    Instrument,
    InstrumentKind,
    NotFound,
    OrderReport,
    OrderType,
    PositionReport,
    Rejection,
    Side,
    TimeInForce,
)
from engine.core.money import use_exact_context
from engine.market.account import AccountTerms
from engine.market.events import BookDelta, BookSnapshot, FundingRate, TopOfBook, TradePrint
from engine.market.matching import Changes, Image, Matching
from engine.market.orders import OrderRequest

D = Decimal
BUY, SELL = Side.BUY, Side.SELL
MARKET, LIMIT = OrderType.MARKET, OrderType.LIMIT
STOP, TARGET = OrderType.STOP_MARKET, OrderType.TAKE_PROFIT_MARKET
STOP_LIMIT, TARGET_LIMIT = OrderType.STOP_LIMIT, OrderType.TAKE_PROFIT_LIMIT
GTC, IOC, FOK, POST_ONLY = TimeInForce.GTC, TimeInForce.IOC, TimeInForce.FOK, TimeInForce.POST_ONLY


def instrument(kind: InstrumentKind, symbol: str = "BTCUSDT") -> Instrument:
    return Instrument(
        symbol=symbol,
        venue="paper",
        kind=kind,
        base="BTC",
        quote="USDT",
        tick=D("0.5"),
        lot=D("0.01"),
        qty_min=D("0.02"),
        qty_max=D(100),
        notional_min=D(5),
        maker_fee=D("0.0002"),
        taker_fee=D("0.001"),
        leverage_max=D(10),
    )


FUTURE, SPOT = instrument(InstrumentKind.LINEAR), instrument(InstrumentKind.SPOT)


class Bench:
    """A matching engine, a clock that ticks with each step, and the reports of the last one."""

    def __init__(self, on: Instrument = FUTURE, **terms: Any) -> None:
        use_exact_context()
        balances = terms.pop("balances", {"USDT": D(10_000), "BTC": D(3)} if on is SPOT else {"USDT": D(10_000)})
        self.matching = Matching(AccountTerms(balances=balances, **{"leverage": D(5), **terms}), [on])
        self.now = 1000
        self.reports: tuple[object, ...] = ()
        self.serial = 0
        self.book()

    def tick(self) -> int:
        self.now += 1
        return self.now

    def book(
        self,
        bids: str = "100x1 99x2 98x5",
        asks: str = "101x1 102x2 103x5",
    ) -> None:
        """A fresh snapshot: "price x quantity", best first."""
        at = self.tick()
        self.hear(BookSnapshot("BTCUSDT", at, at, _levels(bids), _levels(asks)))

    def delta(self, bids: str = "", asks: str = "") -> None:
        at = self.tick()
        self.hear(BookDelta("BTCUSDT", at, 1, at, None, _levels(bids), _levels(asks)))

    def trade(self, price: str, qty: str, aggressor: Side) -> None:
        self.hear(TradePrint("BTCUSDT", self.tick(), D(price), D(qty), aggressor))

    def hear(self, event: Any) -> None:
        self.matching.hear(event)
        self._took()

    def send(self, side: Side, order_type: OrderType, qty: str, **more: Any) -> Acked | Rejection:
        """`price`, `trigger`, `tif`, `reduce_only`, `cid` as wanted."""
        self.serial += 1
        price, trigger = more.pop("price", None), more.pop("trigger", None)
        request = OrderRequest(
            symbol=more.pop("symbol", "BTCUSDT"),
            cid=more.pop("cid", f"c{self.serial}"),
            side=side,
            order_type=order_type,
            qty=D(qty),
            price=D(price) if price else None,
            trigger_price=D(trigger) if trigger else None,
            **more,
        )
        answer = self.matching.submit(request, self.tick())
        self._took()
        return answer

    def amend(self, order_id: str, **to: str) -> Acked | Rejection:
        """`qty`, `price`, `trigger` as wanted."""
        new = {"trigger_price" if name == "trigger" else name: D(text) for name, text in to.items()}
        answer = self.matching.amend(order_id, self.tick(), **new)
        self._took()
        return answer

    def _took(self) -> None:
        self.reports = self.matching.take().reports
        self.matching.check()

    def fills(self) -> list[tuple[str, str]]:
        """(price, quantity) of the last step's executions."""
        return [(str(r.price), str(r.qty)) for r in self.reports if isinstance(r, FillReport)]

    def status(self, cid: str) -> tuple[str, str]:
        report = self.matching.order("BTCUSDT", cid)
        assert isinstance(report, OrderReport)
        return report.status, str(report.filled_qty)

    def position(self) -> str:
        return str(self.matching.account.qty("BTCUSDT"))

    def wallet(self, asset: str = "USDT") -> Decimal:
        return {b.asset: b.total for b in self.matching.balances()}[asset]

    def locked(self, asset: str = "USDT") -> Decimal:
        return {b.asset: b.locked for b in self.matching.balances()}[asset]


def _levels(text: str) -> tuple[tuple[Decimal, Decimal], ...]:
    return tuple((D(price), D(qty)) for price, qty in (level.split("x") for level in text.split()))


# -------------------------------------------------------------------------------------------------------------- takers


def test_a_market_order_walks_the_book_level_by_level() -> None:
    bench = Bench()
    assert isinstance(bench.send(BUY, MARKET, "2.5"), Acked)
    assert bench.fills() == [("101", "1"), ("102", "1.5")]
    assert bench.status("c1") == ("filled", "2.5")
    assert bench.matching.positions()[0].avg_price == (D(101) + D(102) * D("1.5")) / D("2.5")


def test_what_was_taken_is_gone_until_the_level_is_told_anew() -> None:
    bench = Bench()
    bench.send(BUY, MARKET, "1")
    bench.send(BUY, MARKET, "0.5")
    assert bench.fills() == [("102", "0.5")]
    bench.delta(asks="101x0.3")
    bench.send(BUY, MARKET, "0.5")
    assert bench.fills() == [("101", "0.3"), ("102", "0.2")]
    bench.book()
    bench.send(BUY, MARKET, "0.5")
    assert bench.fills() == [("101", "0.5")]


def test_a_ticker_tells_its_two_levels_anew() -> None:
    bench = Bench()
    bench.send(BUY, MARKET, "1.5")
    at = bench.tick()
    bench.hear(TopOfBook("BTCUSDT", at, at, D(100), D(1), D(101), D("0.4")))
    bench.send(BUY, MARKET, "1")
    assert bench.fills() == [("101", "0.4"), ("102", "0.6")]


def test_a_market_order_for_more_than_is_displayed_is_cancelled_for_the_rest() -> None:
    bench = Bench()
    bench.book(asks="101x1")
    bench.send(BUY, MARKET, "2")
    assert bench.fills() == [("101", "1")]
    assert bench.status("c1") == ("canceled", "1")


def test_without_a_market_a_market_order_is_rejected() -> None:
    bench = Bench()
    bench.book(asks="")
    assert bench.send(BUY, MARKET, "1") == Rejection("110118", "invalid", "no liquidity for a market order")


def test_a_limit_order_takes_up_to_its_price_and_rests_with_the_remainder() -> None:
    bench = Bench()
    bench.send(BUY, LIMIT, "2", price="101.5")
    assert bench.fills() == [("101", "1")]
    assert bench.status("c1") == ("open", "1")
    assert [r.venue_order_id for r in bench.matching.open_orders()] == ["P0000000001"]


@pytest.mark.parametrize(
    ("tif", "qty", "fills", "status"),
    [
        (IOC, "2", [("101", "1")], ("canceled", "1")),
        (IOC, "1", [("101", "1")], ("filled", "1")),
        (FOK, "2", [], ("canceled", "0")),
        (FOK, "1", [("101", "1")], ("filled", "1")),
    ],
)
def test_immediate_orders_leave_nothing_behind(
    tif: TimeInForce, qty: str, fills: list[tuple[str, str]], status: tuple[str, str]
) -> None:
    bench = Bench()
    bench.send(BUY, LIMIT, qty, price="101.5", tif=tif)
    assert bench.fills() == fills
    assert bench.status("c1") == status
    assert bench.matching.open_orders() == ()


def test_post_only_is_rejected_if_it_would_take_and_rests_if_not() -> None:
    bench = Bench()
    answer = bench.send(BUY, LIMIT, "1", price="101", tif=POST_ONLY)
    assert isinstance(answer, Rejection) and answer.kind == "invalid"
    assert isinstance(bench.send(BUY, LIMIT, "1", price="100.5", tif=POST_ONLY), Acked)
    assert bench.status("c2") == ("open", "0")


def test_only_our_share_of_what_is_displayed_is_ours() -> None:
    bench = Bench(liquidity_share=D("0.25"))
    bench.send(BUY, MARKET, "1")
    assert bench.fills() == [("101", "0.25"), ("102", "0.50"), ("103", "0.25")]


def test_where_only_a_ticker_is_known_the_rest_slips() -> None:
    bench = Bench(touch_slippage=D("0.01"))
    bench.matching = Matching(bench.matching.terms, [FUTURE])
    bench.hear(TopOfBook("BTCUSDT", bench.tick(), 1, D(100), D(1), D(101), D(1)))
    bench.send(BUY, MARKET, "3")
    assert bench.fills() == [("101", "1"), ("102.5", "2")]
    bench.send(SELL, MARKET, "1.5")
    assert bench.fills() == [("100", "1"), ("99.0", "0.5")]


def test_a_broken_book_is_no_market() -> None:
    bench = Bench()
    bench.hear(BookDelta("BTCUSDT", bench.tick(), 10**9, 10**9, None, (), ()))
    answer = bench.send(BUY, MARKET, "1")
    assert isinstance(answer, Rejection) and answer.code == "110118"


# -------------------------------------------------------------------------------------------------------------- makers


def test_a_trade_through_the_price_fills_a_resting_order_at_its_own_price() -> None:
    bench = Bench()
    bench.send(BUY, LIMIT, "2", price="100")
    bench.trade("99.5", "0.7", SELL)
    assert bench.fills() == [("100", "0.7")]
    fill = next(r for r in bench.reports if isinstance(r, FillReport))
    assert fill.maker and fill.fee == D("0.7") * 100 * D("0.0002")
    bench.trade("99.5", "9", SELL)
    assert bench.status("c1") == ("filled", "2.0")


def test_at_its_price_a_resting_order_waits_for_the_queue_that_was_ahead() -> None:
    bench = Bench()
    bench.send(BUY, LIMIT, "2", price="99")  # behind the 2 displayed
    bench.trade("99", "1.5", SELL)
    assert bench.fills() == []
    bench.trade("99", "1.5", SELL)
    assert bench.fills() == [("99", "1.0")]


def test_trades_by_our_own_side_at_our_price_fill_nothing() -> None:
    bench = Bench()
    bench.send(BUY, LIMIT, "1", price="100.5")
    bench.trade("100.5", "5", BUY)
    assert bench.fills() == []
    bench.trade("100.5", "5", SELL)
    assert bench.fills() == [("100.5", "1")]


def test_one_trade_is_shared_by_price_then_age() -> None:
    bench = Bench()
    bench.book(bids="90x1", asks="110x1")
    for price in ("100", "101", "100"):
        bench.send(BUY, LIMIT, "1", price=price)
    bench.trade("99", "2.5", SELL)
    filled = [(r.cid, str(r.qty)) for r in bench.reports if isinstance(r, FillReport)]
    assert filled == [("c2", "1"), ("c1", "1"), ("c3", "0.5")]


def test_a_book_that_crosses_a_resting_order_fills_it_for_what_is_displayed() -> None:
    bench = Bench()
    bench.send(SELL, LIMIT, "2", price="104")
    bench.book(bids="105x0.5 104x1 103x9", asks="106x1")
    assert bench.fills() == [("104", "0.5"), ("104", "1")]
    bench.delta(asks="107x1")
    assert bench.fills() == []  # the crossing levels are used up until they are told anew
    bench.delta(bids="104x1")
    assert bench.fills() == [("104", "0.5")]


# -------------------------------------------------------------------------------------------------- conditional orders


@pytest.mark.parametrize(
    ("side", "order_type", "trigger", "not_yet", "reached"),
    [
        (SELL, STOP, "95", "95.5", "95"),
        (BUY, STOP, "105", "104.5", "105"),
        (SELL, TARGET, "105", "104.5", "105.5"),
        (BUY, TARGET, "95", "95.5", "94"),
    ],
)
def test_a_conditional_order_is_set_off_by_a_trade_at_or_past_its_trigger(
    side: Side, order_type: OrderType, trigger: str, not_yet: str, reached: str
) -> None:
    bench = Bench()
    assert isinstance(bench.send(side, order_type, "1", trigger=trigger), Acked)
    bench.trade(not_yet, "1", side)
    assert bench.fills() == []
    bench.trade(reached, "1", side)
    assert bench.fills() == [("100" if side is SELL else "101", "1")]


def test_the_far_side_of_the_book_sets_off_as_well() -> None:
    bench = Bench()
    bench.trade("100", "1", SELL)
    bench.send(SELL, STOP, "1", trigger="95")
    bench.book(bids="94x5", asks="96x5")  # the bid alone does not
    assert bench.status("c1") == ("open", "0")
    bench.book(bids="93x5", asks="95x5")
    assert bench.fills() == [("93", "1")]


@pytest.mark.parametrize(
    ("side", "order_type", "trigger", "code"),
    [
        (SELL, STOP, "101", "110093"),
        (BUY, STOP, "100", "110092"),
        (SELL, TARGET, "99", "110092"),
        (BUY, TARGET, "102", "110093"),
    ],
)
def test_what_would_trigger_at_once_is_rejected(side: Side, order_type: OrderType, trigger: str, code: str) -> None:
    answer = Bench().send(side, order_type, "1", trigger=trigger)
    assert isinstance(answer, Rejection)
    assert (answer.code, answer.kind) == (code, "triggered")
    assert "would trigger immediately" in answer.text


def test_a_triggered_stop_limit_becomes_a_limit_order() -> None:
    bench = Bench()
    bench.send(SELL, STOP_LIMIT, "2", trigger="99.5", price="100")
    assert bench.locked() == 0
    bench.trade("99.5", "0.01", SELL)
    assert bench.fills() == [("100", "1")]
    assert bench.status("c1") == ("open", "1")
    bench.trade("101", "1", BUY)
    assert bench.fills() == [("100", "1")]


def test_a_triggered_order_that_cannot_be_paid_is_cancelled() -> None:
    bench = Bench(balances={"USDT": D(30)})
    bench.send(BUY, STOP, "10", trigger="105")
    bench.trade("105", "1", BUY)
    assert bench.status("c1") == ("canceled", "0")
    assert any(isinstance(r, OrderReport) and r.reason.startswith("110007") for r in bench.reports)


def test_a_stop_passed_while_the_book_is_broken_waits_for_the_market_to_come_back() -> None:
    bench = Bench()
    bench.send(BUY, MARKET, "1")
    bench.send(SELL, STOP, "1", trigger="95", reduce_only=True)
    bench.hear(BookDelta("BTCUSDT", bench.tick(), 10**6, 10**6, None, (), ()))
    bench.trade("94", "1", SELL)
    assert bench.status("c2") == ("open", "0")
    bench.matching.market.books.clear()
    bench.book(bids="94x5", asks="94.5x5")
    assert bench.fills() == [("94", "1")]


# --------------------------------------------------------------------------------------------------------- reduce-only


def test_reduce_only_without_a_position_is_rejected() -> None:
    answer = Bench().send(SELL, MARKET, "1", reduce_only=True)
    assert isinstance(answer, Rejection)
    assert (answer.code, answer.kind) == ("110017", "invalid")


def test_reduce_only_on_the_positions_own_side_is_rejected() -> None:
    bench = Bench()
    bench.send(BUY, MARKET, "1")
    answer = bench.send(BUY, LIMIT, "1", price="90", reduce_only=True)
    assert isinstance(answer, Rejection) and answer.code == "110017"


@pytest.mark.parametrize("on", [FUTURE, SPOT])
def test_reduce_only_is_cut_to_the_position_and_never_turns_it(on: Instrument) -> None:
    bench = Bench(on, fee_in="quote")
    bench.send(BUY, MARKET, "1")
    bench.send(SELL, MARKET, "3", reduce_only=True)
    assert bench.fills() == [("100", "1")]
    assert D(bench.position()) == 0
    assert bench.status("c2") == ("canceled", "1")


@pytest.mark.parametrize("on", [FUTURE, SPOT])
def test_stop_and_target_over_the_same_position_end_together(on: Instrument) -> None:
    bench = Bench(on, fee_in="quote")
    bench.send(BUY, MARKET, "2")
    before = bench.locked("USDT"), bench.locked("BTC") if on is SPOT else None
    bench.send(SELL, STOP, "2", trigger="95", reduce_only=True)
    bench.send(SELL, TARGET, "2", trigger="110", reduce_only=True)
    assert (bench.locked("USDT"), bench.locked("BTC") if on is SPOT else None) == before
    bench.book(bids="110x5", asks="111x5")
    assert bench.fills() == [("110", "2")]
    assert bench.status("c3") == ("filled", "2")
    assert bench.status("c2") == ("canceled", "0")


def test_a_spot_sale_can_be_bought_back_as_far_as_the_wallet_pays() -> None:
    bench = Bench(SPOT, balances={"BTC": D(3), "USDT": D(0)}, fee_in="quote")
    bench.send(SELL, MARKET, "1")  # brings 100 less the fee; the way back costs 101
    bench.send(BUY, MARKET, "1", reduce_only=True)
    assert bench.fills() == []
    assert bench.status("c2") == ("canceled", "0")
    bench.send(BUY, MARKET, "0.5", reduce_only=True)
    assert bench.fills() == [("101", "0.5")]


def test_a_triggered_order_keeps_its_time_in_force() -> None:
    bench = Bench()
    bench.send(BUY, STOP_LIMIT, "1", trigger="105", price="106", tif=POST_ONLY)
    bench.send(BUY, STOP_LIMIT, "2", trigger="105", price="101", tif=FOK)
    bench.trade("105", "0.01", BUY)
    assert bench.status("c1") == bench.status("c2") == ("canceled", "0")


def test_a_position_closed_by_hand_takes_its_reduce_only_orders_with_it() -> None:
    bench = Bench()
    bench.send(BUY, MARKET, "1")
    bench.send(SELL, LIMIT, "1", price="120", reduce_only=True)
    bench.send(SELL, MARKET, "0.5")
    assert bench.status("c2") == ("open", "0")
    bench.send(SELL, MARKET, "0.5")
    assert bench.status("c2") == ("canceled", "0")


def test_spot_dust_left_by_a_fee_in_base_can_not_be_reduced() -> None:
    bench = Bench(SPOT)
    bench.send(BUY, MARKET, "1")
    assert bench.position() == "0.99900000"
    bench.send(SELL, STOP, "1", trigger="95", reduce_only=True)
    bench.send(SELL, MARKET, "1", reduce_only=True)
    assert bench.fills() == [("100", "0.99")]
    assert bench.status("c2") == ("canceled", "0")
    answer = bench.send(SELL, MARKET, "1", reduce_only=True)
    assert isinstance(answer, Rejection) and answer.code == "110017"


# ------------------------------------------------------------------------------------------ what is refused at the door


@pytest.mark.parametrize(
    ("asked", "kind", "words"),
    [
        ({"symbol": "DOGEUSDT"}, "invalid", "DOGEUSDT is not known"),
        ({"qty": "0.015"}, "invalid", "quantity 0.015"),
        ({"qty": "0.01"}, "invalid", "quantity 0.01"),
        ({"qty": "101"}, "invalid", "quantity 101"),
        ({"price": "99.3"}, "invalid", "price 99.3"),
        ({"order_type": STOP_LIMIT, "trigger": "110.2"}, "invalid", "price 110.2"),
        ({"qty": "0.04"}, "invalid", "under the minimum 5"),
        ({"price": None}, "invalid", "a price belongs to limit orders"),
        ({"trigger": "90"}, "invalid", "a trigger price belongs to conditional orders"),
        ({"cid": ""}, "invalid", "client order id is missing"),
        ({"cid": "taken"}, "duplicate", "duplicate"),
    ],
)
def test_a_bad_order_is_rejected_with_what_is_wrong(asked: dict[str, Any], kind: str, words: str) -> None:
    bench = Bench()
    bench.send(BUY, LIMIT, "1", price="90", cid="taken")
    order = {"side": BUY, "order_type": LIMIT, "qty": "1", "price": "99", **asked}
    answer = bench.send(order.pop("side"), order.pop("order_type"), order.pop("qty"), **order)
    assert isinstance(answer, Rejection)
    assert answer.kind == kind
    assert words in answer.text
    assert len(bench.matching.open_orders()) == 1


def test_the_minimum_worth_does_not_bind_who_reduces() -> None:
    bench = Bench()
    bench.send(BUY, MARKET, "1")
    assert isinstance(bench.send(SELL, MARKET, "0.04", reduce_only=True), Acked)


@pytest.mark.parametrize(("id_rule", "again"), [("ever", Rejection), ("open", Acked)])
def test_whether_a_closed_orders_id_may_come_again_is_the_venues_rule(id_rule: str, again: type) -> None:
    bench = Bench(id_rule=id_rule)
    bench.send(BUY, MARKET, "1", cid="same")
    assert isinstance(bench.send(BUY, MARKET, "1", cid="same"), again)
    bench.send(BUY, LIMIT, "1", price="90", cid="rests")
    answer = bench.send(BUY, LIMIT, "1", price="90", cid="rests")
    assert isinstance(answer, Rejection) and answer.kind == "duplicate"


# --------------------------------------------------------------------------------------------------- money and margin


def test_spot_orders_lock_what_they_may_need_and_give_it_back() -> None:
    bench = Bench(SPOT, balances={"USDT": D(250), "BTC": D(1)})
    bench.send(BUY, LIMIT, "2", price="99", cid="buy")
    assert bench.locked("USDT") == 198
    answer = bench.send(BUY, LIMIT, "1", price="99")
    assert isinstance(answer, Rejection) and answer.kind == "insufficient"
    bench.send(SELL, LIMIT, "1", price="120", cid="sell")
    answer = bench.send(SELL, LIMIT, "0.1", price="120")
    assert isinstance(answer, Rejection) and answer.kind == "insufficient"
    bench.trade("98", "0.5", SELL)
    assert bench.locked("USDT") == D("148.5")
    bench.matching.cancel("BTCUSDT", "buy", bench.tick())
    bench.matching.cancel("BTCUSDT", "sell", bench.tick())
    assert (bench.locked("USDT"), bench.locked("BTC")) == (0, 0)
    assert bench.wallet("USDT") == D("200.5")


def test_a_spot_market_order_must_afford_what_the_book_asks() -> None:
    bench = Bench(SPOT, balances={"USDT": D("304.9"), "BTC": D(0)}, fee_in="quote")
    answer = bench.send(BUY, MARKET, "3")  # 101 + 2 x 102 and the fee
    assert isinstance(answer, Rejection) and answer.kind == "insufficient"
    assert isinstance(bench.send(BUY, MARKET, "2.9"), Acked)


@pytest.mark.parametrize(
    ("fee_in", "side", "fee", "asset"),
    [
        ("received", BUY, "0.001", "BTC"),
        ("received", SELL, "0.1", "USDT"),
        ("quote", BUY, "0.101", "USDT"),
        ("BNB", BUY, "0.000202", "BNB"),
        ("BNB", SELL, "0.0002", "BNB"),
    ],
)
def test_a_spot_fee_is_taken_where_the_terms_say(fee_in: str, side: Side, fee: str, asset: str) -> None:
    balances = {"USDT": D(1000), "BTC": D(3), "BNB": D(1)}
    bench = Bench(SPOT, balances=balances, fee_in=fee_in, fee_asset_price=D(500))
    bench.send(side, MARKET, "1")
    fill = next(r for r in bench.reports if isinstance(r, FillReport))
    assert (fill.fee, fill.fee_asset) == (D(fee), asset)
    assert {b.asset: b.total for b in bench.matching.balances()}[asset] == balances[asset] - D(fee) + (
        (D(1) if side is BUY else 0) if asset == "BTC" else ((D(100) if side is SELL else D(-101)) * (asset == "USDT"))
    )


def test_when_the_fee_asset_runs_out_the_fee_is_taken_from_what_was_received() -> None:
    bench = Bench(SPOT, balances={"USDT": D(1000), "BNB": D("0.0001")}, fee_in="BNB", fee_asset_price=D(500))
    bench.send(BUY, MARKET, "1")
    fill = next(r for r in bench.reports if isinstance(r, FillReport))
    assert (fill.fee, fill.fee_asset) == (D("0.001"), "BTC")


def test_a_future_moves_the_wallet_by_what_it_realises_and_by_fees() -> None:
    bench = Bench()
    bench.send(BUY, MARKET, "3")  # 101 + 2 x 102 = 305
    assert bench.wallet() == 10_000 - D("0.305")
    assert bench.locked() == 61
    bench.book(bids="110x9", asks="111x9")
    bench.send(SELL, MARKET, "1")
    released = (D(305) / 3).quantize(D("1e-18"))
    assert bench.wallet() == 10_000 - D("0.305") + 110 - released - D("0.11")
    bench.send(SELL, MARKET, "5")  # closes 2, opens 3 short
    assert bench.wallet() == 10_000 - D("0.305") + 330 - 305 - D("0.11") - D("0.55")
    assert bench.matching.positions() == (PositionReport("BTCUSDT", D(-3), D(110), bench.now),)
    assert bench.locked() == 66


def test_margin_by_leverage_bounds_what_can_be_opened_but_not_what_is_closed() -> None:
    bench = Bench(balances={"USDT": D("41")})
    assert isinstance(bench.send(BUY, LIMIT, "2", price="100"), Acked)
    assert bench.locked() == D("40.2")
    answer = bench.send(BUY, LIMIT, "1", price="90")
    assert isinstance(answer, Rejection) and answer.code == "110007"
    bench.trade("99", "2", SELL)
    assert bench.locked() == 40
    assert isinstance(bench.send(SELL, LIMIT, "2", price="120"), Acked)
    assert bench.locked() == 40
    answer = bench.send(SELL, LIMIT, "4", price="120")
    assert isinstance(answer, Rejection) and answer.kind == "insufficient"


def test_leverage_is_capped_by_the_instrument() -> None:
    bench = Bench(leverage=D(50))
    bench.send(BUY, LIMIT, "1", price="100")
    assert bench.locked() == D("10.1")


@pytest.mark.parametrize(("side", "amount"), [(BUY, "-0.02"), (SELL, "0.02")])
def test_longs_pay_positive_funding_to_shorts(side: Side, amount: str) -> None:
    bench = Bench()
    bench.send(side, MARKET, "1")
    before = bench.wallet()
    bench.hear(FundingRate("BTCUSDT", bench.tick(), D("0.0002"), D(100)))
    assert [(r.amount, r.asset) for r in bench.reports if isinstance(r, FundingReport)] == [(D(amount), "USDT")]
    assert bench.wallet() == before + D(amount)
    bench.send(side.opposite, MARKET, "1")
    bench.hear(FundingRate("BTCUSDT", bench.tick(), D("0.0002"), D(100)))
    assert bench.reports == ()


# ------------------------------------------------------------------------------------------- queries, cancels, memory


def test_a_cancel_ends_an_open_order_once() -> None:
    bench = Bench()
    bench.send(BUY, LIMIT, "1", price="90", cid="a")
    assert isinstance(bench.matching.cancel("BTCUSDT", "a", bench.tick()), Acked)
    assert bench.status("a") == ("canceled", "0")
    for cid in ("a", "never"):
        answer = bench.matching.cancel("BTCUSDT", cid, bench.tick())
        assert isinstance(answer, Rejection) and answer.kind == "not_found"


def test_a_cancel_by_order_id_needs_no_client_id() -> None:
    bench = Bench()
    answer = bench.send(BUY, LIMIT, "1", price="90", cid="a")
    assert isinstance(answer, Acked)
    assert isinstance(bench.matching.cancel("BTCUSDT", "", bench.tick(), answer.venue_order_id), Acked)
    assert bench.status("a") == ("canceled", "0")


def test_queries_tell_what_is_known_and_nothing_else() -> None:
    bench = Bench()
    bench.send(BUY, MARKET, "1", cid="a")
    middle = bench.now + 1
    bench.send(SELL, MARKET, "1", cid="b")
    found = bench.matching.fills(middle)
    assert [fill.cid for fill in found if isinstance(fill, FillReport)] == ["b"]
    assert [fill.cid for fill in bench.matching.fills(0, "a") if isinstance(fill, FillReport)] == ["a"]
    assert bench.matching.order("BTCUSDT", "x") == NotFound("x")
    assert bench.matching.order("ETHUSDT", "a") == NotFound("a")


def test_only_so_much_history_is_kept() -> None:
    bench = Bench(history=2)
    for cid in ("a", "b", "c"):
        bench.send(BUY, MARKET, "0.1", cid=cid)
    assert bench.matching.order("BTCUSDT", "a") == NotFound("a")
    assert [order.request.cid for order in bench.matching.closed.values()] == ["b", "c"]
    assert len(bench.matching.fills(0)) == 2


def test_an_order_before_the_last_event_cannot_turn_back_time() -> None:
    bench = Bench()
    answer = bench.matching.submit(OrderRequest("BTCUSDT", "late", BUY, MARKET, D(1)), now_ns=5)
    assert isinstance(answer, Acked) and answer.venue_ns == bench.now


# ------------------------------------------------------------------------------------------------------ amendments


def test_an_amended_price_takes_what_it_reaches_and_rests_with_the_remainder() -> None:
    bench = Bench()
    bench.send(BUY, LIMIT, "2", price="99")
    assert isinstance(bench.amend("P0000000001", price="101"), Acked)
    assert bench.fills() == [("101", "1")]
    assert bench.status("c1") == ("open", "1")
    assert bench.matching.open_orders()[0].price == D(101)


def test_an_amended_order_claims_what_it_now_needs() -> None:
    bench = Bench(SPOT)
    bench.send(BUY, LIMIT, "2", price="99")
    bench.amend("P0000000001", qty="3", price="98")
    assert bench.locked() == D(3) * 98
    refused = bench.amend("P0000000001", qty="100", price="102")
    assert isinstance(refused, Rejection) and refused.kind == "insufficient"
    assert bench.locked() == D(3) * 98


def test_only_an_order_that_just_gets_smaller_keeps_its_place_in_the_queue() -> None:
    bench = Bench()
    for cid in ("smaller", "larger"):
        bench.send(BUY, LIMIT, "1", price="100", cid=cid)
    bench.trade("100", "0.9", SELL)  # a tenth is still ahead of both
    bench.amend("P0000000001", qty="0.5")
    bench.amend("P0000000002", qty="1.5")
    bench.trade("100", "0.6", SELL)
    assert bench.status("smaller") == ("filled", "0.5")
    assert bench.status("larger") == ("open", "0")


def test_an_order_is_not_amended_to_less_than_has_filled_nor_after_its_end() -> None:
    bench = Bench()
    bench.send(BUY, LIMIT, "2", price="101")
    assert bench.amend("P0000000001", qty="1").code == "110064"  # type: ignore[union-attr]
    bench.matching.cancel("BTCUSDT", "c1", bench.tick())
    assert bench.amend("P0000000001", qty="3").kind == "not_found"  # type: ignore[union-attr]


def test_an_amended_trigger_is_waited_for_and_one_already_passed_is_refused() -> None:
    bench = Bench()
    bench.send(BUY, MARKET, "1")
    bench.send(SELL, STOP, "1", trigger="95", reduce_only=True)
    assert bench.amend("P0000000002", trigger="101").kind == "triggered"  # type: ignore[union-attr]
    bench.amend("P0000000002", trigger="97")
    bench.trade("96.5", "1", SELL)
    assert bench.position() == "0"


def test_an_order_can_be_accepted_and_refused_all_the_same() -> None:
    bench = Bench()
    request = OrderRequest("BTCUSDT", "late", BUY, LIMIT, D(1), D(101))
    assert isinstance(bench.matching.turn_down(request, bench.tick(), "rejected", "on second thoughts"), Acked)
    assert [r.status for r in bench.matching.take().reports] == ["open", "rejected"]
    assert bench.status("late") == ("rejected", "0")
    again = bench.matching.turn_down(request, bench.tick(), "rejected", "")
    assert isinstance(again, Rejection) and again.kind == "duplicate"


def test_an_amount_of_quote_buys_whole_lots_for_no_more_than_it() -> None:
    bench = Bench(SPOT)
    assert bench.matching.affordable("BTCUSDT", BUY, D("152.1")) == D("1.5")
    assert bench.matching.affordable("BTCUSDT", SELL, D(100_000)) == D(8)  # all that is displayed


def test_leverage_set_for_a_symbol_frees_margin_of_what_is_open() -> None:
    bench = Bench(leverage=D(1))
    bench.send(BUY, MARKET, "1")
    assert bench.locked() == D(101)
    bench.matching.account.set_leverage("BTCUSDT", D(10))
    assert bench.locked() == D("10.1")


# --------------------------------------------------------------------------------------------- everything, at random


class AnyTrading(RuleBasedStateMachine):
    """Random orders in a random market. After each step the executions alone must explain wallets and position."""

    on = FUTURE
    terms = AccountTerms(balances={"USDT": D(5_000)}, leverage=D(3))

    def __init__(self) -> None:
        super().__init__()
        use_exact_context()
        self.matching = Matching(self.terms, [self.on])
        self.now = 0
        self.orders = 0
        self.executions: list[FillReport | FundingReport] = []
        self.reported: dict[str, OrderReport] = {}
        self.journal: list[bytes] = []
        self.start = msgspec.json.encode(self.matching.image())
        self.show(100, [1], [1])

    def tick(self) -> int:
        self.now += 1
        return self.now

    def took(self) -> None:
        changes = self.matching.take()
        for report in changes.reports:
            if isinstance(report, OrderReport):
                before = self.reported.get(report.venue_order_id)
                assert before is None or before.status == "open", "a report after the end"
                assert before is None or before.filled_qty <= report.filled_qty
                self.reported[report.venue_order_id] = report
            else:
                self.executions.append(report)
        self.journal.append(msgspec.json.encode(changes))

    @rule(
        bid=st.integers(90, 110),
        bids=st.lists(st.integers(1, 300), max_size=4),
        asks=st.lists(st.integers(1, 300), max_size=4),
    )
    def show(self, bid: int, bids: list[int], asks: list[int]) -> None:
        at = self.tick()
        below = tuple((D(bid - step), D(qty) / 100) for step, qty in enumerate(bids))
        above = tuple((D(bid + 1 + step), D(qty) / 100) for step, qty in enumerate(asks))
        self.matching.hear(BookSnapshot("BTCUSDT", at, at, below, above))
        self.took()

    @rule(price=st.integers(180, 220), qty=st.integers(1, 200), aggressor=st.sampled_from(Side))
    def trade(self, price: int, qty: int, aggressor: Side) -> None:
        self.matching.hear(TradePrint("BTCUSDT", self.tick(), D(price) / 2, D(qty) / 100, aggressor))
        self.took()

    @rule(rate=st.integers(-20, 20))
    def fund(self, rate: int) -> None:
        self.matching.hear(FundingRate("BTCUSDT", self.tick(), D(rate) / 10_000, D(100)))
        self.took()

    @rule(
        side=st.sampled_from(Side),
        order_type=st.sampled_from(OrderType),
        qty=st.integers(2, 400),
        price=st.integers(180, 220),
        trigger=st.integers(180, 220),
        tif=st.sampled_from(TimeInForce),
        reduce_only=st.booleans(),
    )
    def submit(
        self,
        side: Side,
        order_type: OrderType,
        qty: int,
        price: int,
        trigger: int,
        tif: TimeInForce,
        reduce_only: bool,
    ) -> None:
        self.orders += 1
        market = order_type in (MARKET, STOP, TARGET)
        request = OrderRequest(
            "BTCUSDT",
            f"c{self.orders}",
            side,
            order_type,
            D(qty) / 100,
            None if market else D(price) / 2,
            D(trigger) / 2 if order_type.conditional else None,
            GTC if market else tif,
            reduce_only,
        )
        before, asked_at = self.matching.account.qty("BTCUSDT"), len(self.executions)
        answer = self.matching.submit(request, self.tick())
        self.took()
        if isinstance(answer, Rejection):
            assert len(self.executions) == asked_at
        elif reduce_only:
            after = self.matching.account.qty("BTCUSDT")
            assert abs(after) <= abs(before) and after * before >= 0

    @precondition(lambda self: self.orders)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        cid = f"c{data.draw(st.integers(1, self.orders))}"
        self.matching.cancel("BTCUSDT", cid, self.tick())
        self.took()

    @precondition(lambda self: self.orders)
    @rule(data=st.data(), qty=st.integers(2, 400), price=st.integers(180, 220), trigger=st.integers(180, 220))
    def amend(self, data: st.DataObject, qty: int, price: int, trigger: int) -> None:
        order = self.matching.order("BTCUSDT", f"c{data.draw(st.integers(1, self.orders))}")
        if isinstance(order, OrderReport):
            new_price = D(price) / 2 if order.price is not None else None
            new_trigger = D(trigger) / 2 if order.trigger_price is not None else None
            self.matching.amend(order.venue_order_id, self.tick(), D(qty) / 100, new_price, new_trigger)
            self.took()

    @rule(side=st.sampled_from(Side), status=st.sampled_from(["rejected", "canceled"]))
    def turn_down(self, side: Side, status: str) -> None:
        self.orders += 1
        request = OrderRequest("BTCUSDT", f"c{self.orders}", side, MARKET, D(1))
        assert isinstance(self.matching.turn_down(request, self.tick(), status, "why"), Acked)
        self.took()

    @rule()
    def restart(self) -> None:
        image = msgspec.json.encode(self.matching.image())
        again = Matching(self.terms, [self.on], msgspec.json.decode(self.start, type=Image))
        for line in self.journal:
            again.replay(msgspec.json.decode(line, type=Changes))
        again.now_ns = self.matching.now_ns  # what the market told needs no memory
        assert msgspec.json.encode(again.image()) == image
        market, pit = self.matching.market, self.matching._pits["BTCUSDT"]
        self.matching = Matching(self.terms, [self.on], msgspec.json.decode(image, type=Image))
        self.matching.market = market
        self.matching._pit("BTCUSDT").last = pit.last
        self.start, self.journal = image, []

    @invariant()
    def books_balance(self) -> None:
        self.matching.check()
        wallets, qty = self.reckon()
        totals = {b.asset: b.total for b in self.matching.balances()}
        assert qty == self.matching.account.qty("BTCUSDT")
        for asset, expected in wallets.items():
            assert abs(totals.get(asset, D(0)) - expected) <= D("1e-17") * (1 + len(self.executions)), asset
        for report in self.reported.values():
            filled = sum(
                (e.qty for e in self.executions if getattr(e, "venue_order_id", "") == report.venue_order_id), D(0)
            )
            assert filled == report.filled_qty <= report.qty
            assert (report.status == "filled") == (filled == report.qty)

    def reckon(self) -> tuple[dict[str, Decimal], Decimal]:
        """Wallets and position from the executions, by averages instead of costs."""
        wallets, qty, average = dict(self.terms.balances), D(0), D(0)
        for e in self.executions:
            if isinstance(e, FundingReport):
                wallets[e.asset] += e.amount
                continue
            wallets[e.fee_asset] = wallets.get(e.fee_asset, D(0)) - e.fee
            signed = e.qty * e.side.sign
            if self.on.kind is InstrumentKind.SPOT:
                wallets["BTC"] = wallets.get("BTC", D(0)) + signed
                wallets["USDT"] -= signed * e.price
                qty += signed - (e.fee if e.fee_asset == "BTC" else 0)
            elif qty * signed >= 0:
                average = (abs(qty) * average + e.qty * e.price) / (abs(qty) + e.qty)
                qty += signed
            else:
                closed = min(abs(qty), e.qty)
                wallets["USDT"] += closed * (e.price - average) * (1 if qty > 0 else -1)
                qty += signed
                average = e.price if qty * signed > 0 else average
        return wallets, qty


class AnySpotTrading(AnyTrading):
    on = SPOT
    terms = AccountTerms(
        balances={"USDT": D(500), "BTC": D(2), "BNB": D("0.002")}, fee_in="BNB", fee_asset_price=D(500), id_rule="open"
    )

    @invariant()
    def no_wallet_is_overdrawn(self) -> None:
        for balance in self.matching.balances():
            assert balance.total >= balance.locked >= 0, balance


AnyTrading.TestCase.settings = AnySpotTrading.TestCase.settings = settings(
    max_examples=40, stateful_step_count=30, deadline=None
)
TestAnyTrading = AnyTrading.TestCase
TestAnySpotTrading = AnySpotTrading.TestCase
