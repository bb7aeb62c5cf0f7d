"""Every rule once passing and once failing, with the numbers it compared; and the verdict over all of them."""

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from engine.core.exposure import Exposure, View
from engine.core.messages import (
    Action,
    BalanceShare,
    Check,
    Halt,
    HedgeShare,
    InstrumentKind,
    Limits,
    OrderType,
    Outcome,
    Plan,
    PositionShare,
    Quantity,
    Quote,
    RiskShare,
    Side,
    Signal,
    TargetPosition,
    TimeInForce,
    Trade,
)
from engine.core.rules import RULES, Verdict, judge
from engine.core.times import SECOND
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
BUY, SELL = Side.BUY, Side.SELL
MARKET_BUY: dict[str, Any] = {}
LIMIT: dict[str, Any] = {"order_type": OrderType.LIMIT, "limit_price": D("50000")}
NO_LEVELS: dict[str, Any] = {"stop_loss": None, "take_profit": None}


def check_of(verdict: Verdict, rule: str) -> Check:
    found = [check for check in verdict.checks if check.rule == rule]
    assert len(found) == 1, f"{rule} answered {len(found)} times: {[c.rule for c in verdict.checks]}"
    return found[0]


def failed(verdict: Verdict) -> list[str]:
    return [check.rule for check in verdict.checks if not check.passed]


def judged(asked: Signal | None = None, account: Exposure | None = None, **seen: Any) -> Verdict:
    return judge(view(account, asked, **seen))


def limited(**changes: Any) -> Exposure:
    return exposure(limits=replace(Limits(), **changes))


def test_a_plain_signal_passes_every_rule_and_gets_its_plan() -> None:
    verdict = judged()
    assert (verdict.outcome, failed(verdict)) == (Outcome.ACCEPTED, [])
    assert verdict.plan == Plan(
        action=Action.OPEN,
        side=BUY,
        qty=D("0.1"),
        stop_loss=D("49500"),
        take_profit=D("51000"),
        reference_price=D("50001"),
        reserve_price=D("50001"),
        valid_until_ns=NOW + 10 * SECOND,
    )
    assert all(not check.reason for check in verdict.checks)


def test_the_order_of_checks_is_the_order_of_the_rules() -> None:
    rules = [check.rule for check in judged().checks]
    assert rules[:2] == ["RSK1.symbol", "ING5.age"] and rules[-1] == "RSK7.margin"
    assert rules == [check.rule for check in judged().checks]
    assert len(RULES) == len(set(RULES))


def test_wait_and_bad_are_recorded_without_rules() -> None:
    asked = signal(action=Action.RECORD, note="wait", symbol="NOPE")
    assert judged(asked, quote=None) == Verdict(Outcome.RECORDED, ())


# rule, what the account is, what the signal is, what is seen, the value and limit compared
Row = tuple[str, dict[str, Any], dict[str, Any], dict[str, Any], str | None, str | None]
FAILING: list[Row] = [
    ("RSK1.symbol", {}, {"symbol": "NOPEUSDT"}, {}, None, None),
    ("RSK1.venue", {}, {"venue": "bybit"}, {}, None, None),
    ("ING5.age", {}, {"valid_until_ns": NOW - 1_500_000_000}, {}, "1.5", "0"),
    ("ING5.future", {}, {"created_ns": NOW + 6 * SECOND}, {}, "6", "5"),
    ("RSK11.halt", {}, {}, {"halts": (Halt("engine", "stopped", NOW, "me"),)}, None, None),
    ("RSK1.symbol_allowed", {"symbols": ("ETHUSDT",)}, {}, {}, None, None),
    ("RSK1.strength", {}, {"strength": D("0.4")}, {}, "0.4", "0.5"),
    ("RSK1.confluence", {}, {"confluence": D("2.9")}, {}, "2.9", "3.0"),
    ("RSK1.confidence", {}, {"confidence": D("0.49")}, {}, "0.49", "0.5"),
    ("RSK1.side", {}, {"side": None}, {}, None, None),
    ("RSK2.target", {}, {"size": TargetPosition(D(1))}, {}, None, None),
    ("RSK2.target", {}, {"action": Action.TARGET, "size": Quantity(D(1))}, {}, None, None),
    ("RSK1.order_type", {}, {"order_type": OrderType.STOP_MARKET}, {}, None, None),
    ("RSK1.limit_price", {}, {"limit_price": D(50000)}, {}, "50000", None),
    ("RSK1.limit_price", {}, {"order_type": OrderType.LIMIT}, {}, None, None),
    ("RSK1.tif", {}, {"tif": TimeInForce.POST_ONLY}, {}, None, None),
    ("RSK1.price_step", {}, LIMIT | {"limit_price": D("50000.05")}, {}, "50000.05", "0.1"),
    ("RSK1.price_step", {}, LIMIT | {"limit_price": D("-1")}, {}, "-1", "0"),
    ("RSK1.qty_min", {}, {"size": Quantity(D("0.0009"))}, {}, "0", "0.001"),
    ("RSK1.qty_max", {}, {"size": Quantity(D("101"))}, {}, "101", "100"),
    ("RSK1.stop_side", {}, {"stop_loss": D("50001")}, {}, "50001", "50001"),
    ("RSK1.stop_side", {}, {"side": SELL, "stop_loss": D("49000"), "take_profit": None}, {}, "49000", "49999"),
    ("RSK1.stop_distance_min", {}, {"stop_loss": D("49981")}, {}, "0.000399992000", "0.0005"),
    ("RSK3.stop_distance_max", {}, {"stop_loss": D("49000")}, {}, "0.020019599608", "0.02"),
    ("RSK1.target_side", {}, {"take_profit": D("50000")}, {}, "50000", "50001"),
    ("RSK1.target_side", {}, {"side": SELL, "take_profit": D("-5"), "stop_loss": None}, {}, "-5", "49999"),
    ("RSK1.target_distance_min", {}, {"take_profit": D("50011")}, {}, "0.000199996000", "0.0005"),
    ("RSK3.reward_risk", {}, {"take_profit": D("50500")}, {}, "0.996007984032", "1.5"),
    ("RSK4.order_max", {}, {"size": Quantity(D("1.001"))}, {}, "1.001", "1"),
    ("RSK4.order_min", {"order_notional_min": D(5001)}, {}, {}, "5000.1", "5001"),
    ("RSK4.position_max", {"position_notional_max": D(5000)}, {}, {}, "5000.1", "5000"),
    ("RSK4.positions_max", {"positions_max": 0}, {}, {}, "1", "0"),
    ("RSK4.exposure_max", {"exposure_max": D(5000)}, {}, {}, "5000.1", "5000"),
    ("RSK4.daily_volume", {"daily_volume_btc_max": D("0.05")}, {}, {"btc_price": D(50000)}, "0.100002", "0.05"),
    ("RSK4.orders_per_second", {"orders_per_second": 0}, {}, {}, "1", "0"),
    ("RSK4.orders_per_minute", {"orders_per_minute": 0}, {}, {}, "1", "0"),
    ("RSK4.orders_per_day", {"orders_per_day": 0}, {}, {}, "1", "0"),
    ("RSK6.quote", {}, {}, {"quote": None}, None, None),
    ("RSK6.quote", {}, {}, {"quote": replace(QUOTE, bid=D(50002))}, "50002", "50001"),
    ("RSK6.quote", {}, {}, {"quote": replace(QUOTE, bid=D(0), ask=D(0))}, "0", "0"),
    ("RSK6.quote_age", {}, {}, {"now_ns": NOW + 3_001_000_000}, "3.001", "3"),
    ("RSK6.deviation", {}, LIMIT | {"limit_price": D("49000"), **NO_LEVELS}, {}, "0.02", "0.01"),
    ("RSK6.deviation", {}, LIMIT | {"limit_price": D("51000"), **NO_LEVELS}, {}, "0.02", "0.01"),
    ("ING5.drift", {}, {"reference_price": D("49000")}, {}, "0.020408163265", "0.005"),
    ("ING5.drift", {}, {"reference_price": D("0")}, {}, "0", "0"),
    ("RSK6.slippage", {"slippage_max": D("0.00001")}, {}, {}, "0.00002", "0.00001"),
    ("RSK7.margin", {}, {"size": Quantity(D(1))}, {"wallet": {"USDT": "25000"}}, "25050.501", "25000"),
]


@pytest.mark.parametrize(
    ("rule", "limits", "asked", "seen", "value", "limit"),
    FAILING,
    ids=[f"{i}-{row[0]}" for i, row in enumerate(FAILING)],
)
def test_each_rule_refuses_with_its_numbers(
    rule: str, limits: dict[str, Any], asked: dict[str, Any], seen: dict[str, Any], value: str | None, limit: str | None
) -> None:
    seen = dict(seen)
    account = exposure(limits=replace(Limits(), **limits), wallet=seen.pop("wallet", None))
    verdict = judged(signal(**asked), account, **seen)
    assert (verdict.outcome, verdict.plan) == (Outcome.REFUSED, None)
    check = check_of(verdict, rule)
    assert not check.passed and check.reason
    assert check.value == (None if value is None else D(value))
    assert check.limit == (None if limit is None else D(limit))


PASSING: list[Row] = [
    ("ING5.age", {}, {"valid_until_ns": NOW}, {}, "0", "0"),
    ("ING5.age", {}, {"created_ns": NOW + 5 * SECOND}, {}, "-10", "0"),
    ("RSK1.strength", {}, {"strength": D("0.5")}, {}, "0.5", "0.5"),
    ("RSK1.confluence", {}, {"confluence": D("3")}, {}, "3", "3.0"),
    ("RSK1.confidence", {}, {"confidence": D("0.5")}, {}, "0.5", "0.5"),
    ("RSK1.price_step", {}, LIMIT, {}, "50000", "0.1"),
    ("RSK1.qty_min", {}, {"size": Quantity(D("0.001"))}, {}, "0.001", "0.001"),
    ("RSK1.stop_distance_min", {}, {"stop_loss": D("49975.9"), "take_profit": None}, {}, "0.000501989960", "0.0005"),
    ("RSK3.stop_distance_max", {}, {"stop_loss": D("49001"), "take_profit": None}, {}, "0.019999600008", "0.02"),
    ("RSK3.reward_risk", {}, {"take_profit": D("50752.5")}, {}, "1.5", "1.5"),
    ("RSK4.order_max", {}, {"size": Quantity(D("1"))}, {}, "1", "1"),
    ("RSK4.order_min", {"order_notional_min": D("5000.1")}, {}, {}, "5000.1", "5000.1"),
    ("RSK4.position_max", {"position_notional_max": D("5000.1")}, {}, {}, "5000.1", "5000.1"),
    ("RSK4.positions_max", {"positions_max": 1}, {}, {}, "1", "1"),
    ("RSK4.exposure_max", {"exposure_max": D("5000.1")}, {}, {}, "5000.1", "5000.1"),
    ("RSK4.orders_per_second", {"orders_per_second": 1}, {}, {}, "1", "1"),
    ("RSK6.quote_age", {}, {}, {"now_ns": NOW + 3 * SECOND}, "3", "3"),
    ("RSK6.deviation", {}, LIMIT | {"limit_price": D("49500"), **NO_LEVELS}, {}, "0.01", "0.01"),
    ("ING5.drift", {}, {"reference_price": D("49800")}, {}, "0.004016064257", "0.005"),
    ("RSK6.slippage", {"slippage_max": D("0.00002")}, {}, {}, "0.00002", "0.00002"),
    ("RSK7.margin", {}, {"size": Quantity(D(1))}, {"wallet": {"USDT": "25050.501"}}, "25050.501", "25050.501"),
]


@pytest.mark.parametrize(
    ("rule", "limits", "asked", "seen", "value", "limit"),
    PASSING,
    ids=[f"{i}-{row[0]}" for i, row in enumerate(PASSING)],
)
def test_each_rule_passes_at_its_limit(
    rule: str, limits: dict[str, Any], asked: dict[str, Any], seen: dict[str, Any], value: str, limit: str
) -> None:
    seen = dict(seen)
    account = exposure(limits=replace(Limits(), **limits), wallet=seen.pop("wallet", None))
    verdict = judged(signal(**asked), account, **seen)
    check = check_of(verdict, rule)
    assert (verdict.outcome, failed(verdict)) == (Outcome.ACCEPTED, [])
    assert (check.value, check.limit, check.reason) == (D(value), D(limit), "")


def test_every_failing_rule_is_told_not_only_the_first() -> None:
    asked = signal(venue="bybit", strength=D("0.1"), size=Quantity(D(3)), stop_loss=D(48000))
    assert failed(judged(asked, limited(positions_max=0))) == [
        "RSK1.venue",
        "RSK1.strength",
        "RSK3.stop_distance_max",
        "RSK3.reward_risk",
        "RSK4.order_max",
        "RSK4.position_max",
        "RSK4.positions_max",
        "RSK4.exposure_max",
    ]


def test_without_a_price_the_rules_that_need_one_keep_quiet() -> None:
    assert failed(judged(quote=None)) == ["RSK6.quote"]
    assert failed(judged(signal(size=BalanceShare()), quote=None)) == ["RSK2.balance_share", "RSK6.quote"]


def test_an_account_without_limits_does_not_trade_but_may_close() -> None:
    account = exposure()
    account.limits = None
    account.stand(standing(position(qty="0.1")), QUOTE)
    assert failed(judged(account=account)) == ["RSK10.limits"]
    assert judged(signal(action=Action.CLOSE), account).outcome is Outcome.ACCEPTED


def test_the_reason_names_the_tick_and_the_nearest_prices() -> None:
    check = check_of(judged(signal(**LIMIT | {"limit_price": D("50000.05")})), "RSK1.price_step")
    assert check.reason == "limit_price 50000.05 is off the tick of 0.1; the nearest are 50000 and 50000.1"


def test_a_quantity_off_the_lot_is_rounded_down_and_said_so() -> None:
    verdict = judged(signal(size=Quantity(D("0.1009"))))
    assert verdict.plan is not None and verdict.plan.qty == D("0.1")
    assert check_of(verdict, "RSK1.qty_step").reason == "0.1009 is rounded down to the lot of 0.001"


def test_without_a_size_the_accounts_share_is_taken() -> None:
    verdict = judged(signal(size=None))
    assert verdict.plan is not None and verdict.plan.qty == D("0.039")  # 2 % of 100,000 at 50,001


def test_risk_is_sized_by_the_default_stop_when_there_is_none() -> None:
    verdict = judged(signal(size=RiskShare(D("0.0005")), **NO_LEVELS))
    assert verdict.plan is not None
    assert verdict.plan.stop_loss == D("49501.0")  # 1 % below 50,001, on the tick nearer the market
    assert verdict.plan.qty == D("0.1")  # 50 / 500


def test_a_hedge_is_sized_by_its_ratio() -> None:
    verdict = judged(signal(size=HedgeShare(D("1.5"), D("0.3")), side=SELL, **NO_LEVELS))
    assert verdict.plan is not None and (verdict.plan.qty, verdict.plan.side) == (D("0.45"), SELL)


# ---------------------------------------------------------------------------------------------------- stops and targets


def test_a_short_gets_its_default_stop_above() -> None:
    verdict = judged(signal(side=SELL, **NO_LEVELS))
    assert verdict.plan is not None and verdict.plan.stop_loss == D("50498.9")
    assert verdict.plan.take_profit is None


def test_a_hedge_goes_without_a_stop_only_where_the_account_says_so() -> None:
    asked = signal(hedge=True, **NO_LEVELS)
    kept, waived = judged(asked), judged(asked, limited(stop_waived_for_hedges=True))
    assert kept.plan is not None and kept.plan.stop_loss is not None
    assert waived.plan is not None and waived.plan.stop_loss is None
    assert check_of(waived, "RSK3.stop").reason == "waived for a hedge"


def test_an_account_may_not_require_stops() -> None:
    verdict = judged(signal(**NO_LEVELS), limited(stop_required=False))
    assert verdict.plan is not None and verdict.plan.stop_loss is None


def test_scaling_in_keeps_the_positions_own_stop_and_target() -> None:
    account = exposure()
    held = position(qty="0.1", stop_loss=D(49700), take_profit=D(51500))
    account.stand(standing(held), QUOTE)
    verdict = judged(signal(**NO_LEVELS), account)
    assert verdict.plan is not None
    assert (verdict.plan.stop_loss, verdict.plan.take_profit) == (49700, 51500)


def test_a_kept_stop_that_is_too_far_gives_way_to_the_default() -> None:
    account = exposure()
    account.stand(standing(position(qty="0.1", stop_loss=D(45000))), QUOTE)
    verdict = judged(signal(**NO_LEVELS), account)
    assert verdict.plan is not None and verdict.plan.stop_loss == D("49501.0")


@pytest.mark.parametrize(
    ("asked", "stop", "target"),
    [
        ({"stop_loss": D(49999), "take_profit": None}, "49975.9", None),
        ({"stop_loss": D(40000), "take_profit": None}, "49001.0", None),
        ({"stop_loss": None, "take_profit": D("50002")}, "49501.0", "50026.1"),
        ({"side": SELL, "stop_loss": D(50000), "take_profit": D(49998)}, "50024.0", "49974.0"),
    ],
)
def test_a_stop_or_target_at_a_wrong_distance_is_moved_where_wished(
    asked: dict[str, Any], stop: str, target: str | None
) -> None:
    verdict = judged(signal(**asked), limited(adjust_stops=True, reward_risk_min=D(0)))
    assert verdict.outcome is Outcome.ACCEPTED, verdict.checks
    assert verdict.plan is not None
    assert verdict.plan.stop_loss == D(stop)
    assert verdict.plan.take_profit == (None if target is None else D(target))
    assert any("moved" in check.reason for check in verdict.checks)


def test_a_stop_on_the_wrong_side_is_refused_even_where_stops_are_moved() -> None:
    assert failed(judged(signal(stop_loss=D(50100)), limited(adjust_stops=True))) == ["RSK1.stop_side"]


def test_a_stop_off_the_tick_is_put_on_it_nearer_the_market() -> None:
    verdict = judged(signal(stop_loss=D("49500.01"), take_profit=D("51000.09")))
    assert verdict.plan is not None
    assert (verdict.plan.stop_loss, verdict.plan.take_profit) == (D("49500.1"), D("51000.0"))


# --------------------------------------------------------------------------------------------- in flight counts as held


def test_position_limit_counts_what_might_still_be_bought_and_never_nets_sides() -> None:
    account = limited(position_notional_max=D(50000))
    account.stand(standing(position(qty="0.5"), buying=D("0.4"), selling=D("0.9"), reserved=D(65000)), QUOTE)
    verdict = judged(signal(size=Quantity(D("0.2"))), account)
    check = check_of(verdict, "RSK4.position_max")
    assert (check.passed, check.value) == (False, D("1.1") * 50001)
    selling = judged(signal(side=SELL, size=Quantity(D("0.2")), **NO_LEVELS), account)
    assert check_of(selling, "RSK4.position_max").value == D("0.6") * 49999


def test_a_symbol_already_held_or_entered_takes_no_further_place() -> None:
    eth = instrument("ETHUSDT")
    account = exposure(LINEAR, eth, limits=replace(Limits(), positions_max=1))
    account.reserve(signal("other", symbol="ETHUSDT"), Plan(Action.OPEN, BUY, D(1), reserve_price=D(3000)), NOW)
    verdict = judged(account=account)
    assert (check_of(verdict, "RSK4.positions_max").value, failed(verdict)) == (2, ["RSK4.positions_max"])
    again = judged(
        signal(symbol="ETHUSDT", size=Quantity(D("0.5")), **NO_LEVELS), account, quote=quote("ETHUSDT", "3000")
    )
    assert check_of(again, "RSK4.positions_max").value == 1


def test_exposure_and_volume_and_margin_count_all_in_flight() -> None:
    account = limited(exposure_max=D(30000), daily_volume_btc_max=D("0.5"))
    account.stand(standing(position(qty="0.3", volume=D(15000)), buying=D("0.3"), reserved=D(15000)), QUOTE)
    verdict = judged(account=account, btc_price=D(50000))
    assert check_of(verdict, "RSK4.exposure_max").value == D("35000.1")
    assert check_of(verdict, "RSK4.daily_volume").value == D("0.700002")
    assert check_of(verdict, "RSK7.margin").limit == 100000 - 15000  # leverage 2


def test_worth_in_bitcoin_is_taken_at_its_quote_or_at_the_limits_price() -> None:
    eth = instrument("ETHUSDT")
    account = exposure(eth)
    asked = signal(symbol="ETHUSDT", size=Quantity(D(10)), **NO_LEVELS)
    with_quote = judged(asked, account, quote=quote("ETHUSDT", "2999"), btc_price=D(50000))
    without = judged(asked, account, quote=quote("ETHUSDT", "2999"))
    assert check_of(with_quote, "RSK4.order_max").value == D("0.6")
    assert check_of(without, "RSK4.order_max").value == D("0.5")


def test_a_doubtful_order_blocks_new_exposure_on_its_symbol_only() -> None:
    eth = instrument("ETHUSDT")
    account = exposure(LINEAR, eth)
    account.stand(standing(unclear=1), QUOTE)
    assert failed(judged(account=account)) == ["P4.unclear"]
    other = judged(signal(symbol="ETHUSDT", size=Quantity(D(1)), **NO_LEVELS), account, quote=quote("ETHUSDT", "3000"))
    assert failed(other) == []


def test_orders_are_counted_in_sliding_windows() -> None:
    account = limited(orders_per_second=2, orders_per_minute=3, orders_per_day=3, duplicate_window_seconds=D(0))
    plan = judged().plan
    assert plan is not None
    for number, at_ns in enumerate((NOW, NOW + SECOND // 2, NOW + 2 * SECOND)):
        account.reserve(signal(f"old{number}"), plan, at_ns)
    verdict = judged(account=account, now_ns=NOW + 2 * SECOND)
    assert check_of(verdict, "RSK4.orders_per_second").value == 2
    assert check_of(verdict, "RSK4.orders_per_minute").value == 4
    assert failed(verdict) == ["RSK4.orders_per_minute", "RSK4.orders_per_day"]
    later = signal(valid_until_ns=NOW + 100 * SECOND)
    fresh = replace(QUOTE, at_ns=NOW + 61 * SECOND)
    assert failed(judged(later, account, now_ns=NOW + 61 * SECOND, quote=fresh)) == ["RSK4.orders_per_day"]


@pytest.mark.parametrize(
    ("limits", "rule", "after", "passes"),
    [
        ({"symbol_pause_seconds": D(2), "duplicate_window_seconds": D(0)}, "RSK4.symbol_pause", D("1.999"), False),
        ({"symbol_pause_seconds": D(2), "duplicate_window_seconds": D(0)}, "RSK4.symbol_pause", D("2"), True),
        ({}, "RSK4.duplicate", D("4.999"), False),
        ({}, "RSK4.duplicate", D("5"), True),
    ],
)
def test_a_pause_between_orders_and_the_guard_against_doubles(
    limits: dict[str, Any], rule: str, after: Decimal, passes: bool
) -> None:
    account = limited(**limits)
    plan = judged().plan
    assert plan is not None
    account.reserve(signal("first"), plan, NOW)
    now_ns = NOW + int(after * SECOND)
    verdict = judged(account=account, now_ns=now_ns, quote=replace(QUOTE, at_ns=now_ns))
    check = check_of(verdict, rule)
    assert (check.passed, check.value) == (passes, after)
    assert failed(verdict) == ([] if passes else [rule])


def test_another_quantity_or_side_is_no_double() -> None:
    account = exposure()
    plan = judged().plan
    assert plan is not None
    account.reserve(signal("first"), plan, NOW)
    assert failed(judged(signal(size=Quantity(D("0.2"))), account)) == []
    assert failed(judged(signal(side=SELL, **NO_LEVELS), account)) == []


# ----------------------------------------------------------------------------------------------------------- the losses


def test_todays_loss_counts_fees_funding_and_open_losses() -> None:
    account = limited(daily_loss_max=D(500))
    lost = position(qty="0.1", price="52000", realised=D(-100), fees=D(80), funding=D("-20"))
    account.stand(standing(lost), QUOTE)
    check = check_of(judged(account=account), "RSK5.daily_loss")
    assert (check.passed, check.value) == (True, 400)
    account.stand(standing(replace(lost, fees=D(180))), QUOTE)
    check = check_of(judged(account=account), "RSK5.daily_loss")
    assert (check.passed, check.value, check.limit) == (False, 500, 500)


def test_open_gains_do_not_make_up_for_losses() -> None:
    account = exposure()
    account.stand(standing(position(qty="0.1", price="40000", realised=D(-600))), QUOTE)
    assert check_of(judged(account=account), "RSK5.daily_loss").value == 600


def test_a_drawdown_stops_entries() -> None:
    account = exposure()
    account.see_balances(balances({"USDT": "90000"}))
    check = check_of(judged(account=account), "RSK5.drawdown")
    assert (check.passed, check.value, check.limit) == (False, D("0.1"), D("0.10"))


def test_losses_in_a_row_stop_entries() -> None:
    account = limited(losses_in_row_max=2)
    for serial in (1, 2):
        lost = Trade(f"a/BTCUSDT/{serial}", "a", "BTCUSDT", BUY, "closed", realised=D(-1))
        account.stand(standing(closed_trade=lost), QUOTE)
    check = check_of(judged(account=account), "RSK5.losses_in_row")
    assert (check.passed, check.value, check.limit) == (False, 2, 2)


def test_an_account_whose_equity_is_not_known_does_not_open() -> None:
    account = Exposure("a", "paper", "USDT", {"BTCUSDT": LINEAR}.get)
    account.limits = Limits()
    assert failed(judged(account=account)) == ["RSK5.drawdown", "RSK7.balance"]


# ------------------------------------------------------------------------------------------------------ spot and market


def test_a_spot_buy_needs_the_quote_and_its_fee() -> None:
    account = exposure(SPOT, wallet={"USDT": "5005.1"})
    check = check_of(judged(account=account), "RSK7.balance")
    assert (check.passed, check.value, check.limit, check.unit) == (False, D("5005.1001"), D("5005.1"), "USDT")


def test_a_spot_sale_needs_the_base_that_is_not_being_sold_already() -> None:
    account = exposure(SPOT, wallet={"USDT": "0", "BTC": "1"})
    account.stand(standing(selling=D("0.95"), reserved=D(47500)), QUOTE)
    check = check_of(judged(signal(side=SELL, **NO_LEVELS), account), "RSK7.balance")
    assert (check.passed, check.value, check.limit, check.unit) == (False, D("0.1"), D("0.05"), "BTC")


def test_an_instrument_quoted_in_another_currency_cannot_be_limited() -> None:
    account = exposure(instrument(quote="EUR"))
    assert "RSK1.quote_currency" in failed(judged(account=account))


def test_more_than_is_displayed_is_expected_to_cost_more() -> None:
    thin = replace(QUOTE, ask_qty=D("0.1"))
    verdict = judged(signal(size=Quantity(D("0.5"))), quote=thin)
    assert check_of(verdict, "RSK6.slippage").value == D("0.0001")  # (1 + 4 spreads of 2 / 2) / 50,000


def test_slippage_is_measured_from_what_the_decider_saw() -> None:
    better = check_of(judged(signal(reference_price=D(50100))), "RSK6.slippage")
    worse = check_of(judged(signal(reference_price=D(49900))), "RSK6.slippage")
    assert (better.value, worse.value) == (0, D("0.002024048096"))


def test_a_sellers_limit_below_the_bid_counts_at_the_bid() -> None:
    asked = signal(side=SELL, **LIMIT | {"limit_price": D(49900), **NO_LEVELS})
    verdict = judged(asked)
    assert verdict.plan is not None
    assert (verdict.plan.price, verdict.plan.reserve_price) == (49900, 49999)


def test_the_time_limit_of_an_entry_is_in_its_plan() -> None:
    verdict = judged(signal(cancel_after_seconds=D("2.5")))
    assert verdict.plan is not None and verdict.plan.cancel_after_ns == 2_500_000_000


# --------------------------------------------------------------------------------------------- what reduces or protects


def long_account(**changes: Any) -> Exposure:
    """Long 0.4, hit by everything that stops openers."""
    account = limited(orders_per_second=0, exposure_max=D(0), daily_loss_max=D(1), positions_max=0, **changes)
    account.stand(standing(position(qty="0.4", realised=D(-900), stop_loss=D(49000)), unclear=1), QUOTE)
    return account


HALTED: dict[str, Any] = {"halts": (Halt("engine", "stopped", NOW, "me"),), "quote": None}


@pytest.mark.parametrize(
    ("asked", "side", "qty", "reduce_only"),
    [
        ({"action": Action.CLOSE}, SELL, "0.4", True),
        ({"action": Action.REDUCE, "size": PositionShare(D("0.5"))}, SELL, "0.2", True),
        ({"action": Action.REDUCE, "size": Quantity(D("9"))}, SELL, "0.4", True),
        ({"action": Action.OPEN, "side": SELL, "reduce_only": True, "size": Quantity(D("0.1"))}, SELL, "0.1", True),
        ({"action": Action.TARGET, "size": TargetPosition(D("0.3"))}, SELL, "0.1", True),
        ({"action": Action.TARGET, "size": TargetPosition(D("0"))}, SELL, "0.4", True),
        ({"action": Action.CANCEL}, None, "0", False),
        ({"action": Action.MOVE_STOP, "stop_loss": D(49800)}, None, "0", False),
        ({"action": Action.MOVE_TARGET, "take_profit": D(50800)}, None, "0", False),
    ],
)
def test_what_reduces_or_protects_passes_where_opening_is_stopped(
    asked: dict[str, Any], side: Side | None, qty: str, reduce_only: bool
) -> None:
    verdict = judged(signal(**asked), long_account(), **HALTED)
    assert verdict.outcome is Outcome.ACCEPTED, failed(verdict)
    assert verdict.plan is not None
    assert (verdict.plan.side, verdict.plan.qty, verdict.plan.reduce_only) == (side, D(qty), reduce_only)
    opened = judged(signal(), long_account(), **HALTED)
    assert {"RSK11.halt", "P4.unclear", "RSK5.daily_loss", "RSK6.quote"} <= set(failed(opened))


@pytest.mark.parametrize(
    ("asked", "rule"),
    [
        ({"action": Action.REDUCE, "size": None}, "RSK2.size"),
        ({"action": Action.REDUCE, "size": PositionShare(D(2))}, "RSK2.position_share"),
        ({"action": Action.REDUCE, "size": Quantity(D("0.0001"))}, "RSK1.qty_min"),
        ({"side": BUY, "reduce_only": True}, "RSK1.reduce_only"),
        ({"action": Action.MOVE_STOP, "stop_loss": None}, "RSK1.stop_loss"),
        ({"action": Action.MOVE_STOP, "stop_loss": D(49999)}, "RSK1.stop_side"),
        ({"action": Action.MOVE_STOP, "stop_loss": D(-1)}, "RSK1.stop_side"),
        ({"action": Action.MOVE_TARGET, "take_profit": D(49000)}, "RSK1.target_side"),
        ({"action": Action.MOVE_TARGET, "take_profit": None}, "RSK1.take_profit"),
        ({"action": Action.CLOSE, "valid_until_ns": NOW - 1}, "ING5.age"),
        ({"action": Action.CLOSE, "symbol": "NOPE"}, "RSK1.symbol"),
        (LIMIT | {"action": Action.CLOSE, "limit_price": D("49000")}, "RSK6.collar"),
        (LIMIT | {"action": Action.CLOSE, "limit_price": D("50000.01")}, "RSK1.price_step"),
    ],
)
def test_what_reduces_must_still_make_sense(asked: dict[str, Any], rule: str) -> None:
    verdict = judged(signal(**asked), long_account())
    assert rule in failed(verdict) and verdict.outcome is Outcome.REFUSED


@pytest.mark.parametrize(
    "asked",
    [
        {"action": Action.CLOSE},
        {"action": Action.REDUCE, "size": PositionShare(D(1))},
        {"action": Action.MOVE_STOP},
        {"reduce_only": True},
    ],
)
def test_nothing_can_be_closed_where_nothing_is(asked: dict[str, Any]) -> None:
    assert failed(judged(signal(**asked))) == ["RSK2.position"]


def test_dust_cannot_be_closed() -> None:
    account = exposure()
    account.stand(standing(position(qty="0.0004")), QUOTE)
    assert "less than a lot" in check_of(judged(signal(action=Action.CLOSE), account), "RSK2.position").reason


def test_closing_takes_what_is_still_coming_along() -> None:
    account = exposure()
    account.stand(standing(position(qty="0.1"), buying=D("0.3"), reserved=D(15000)), QUOTE)
    verdict = judged(signal(action=Action.CLOSE), account)
    assert verdict.plan is not None and (verdict.plan.side, verdict.plan.qty) == (SELL, D("0.4"))
    account.stand(standing(selling=D("0.3"), reserved=D(15000)), QUOTE)
    verdict = judged(signal(action=Action.CLOSE), account)
    assert verdict.plan is not None and (verdict.plan.side, verdict.plan.qty) == (BUY, D("0.3"))


def test_a_short_moves_its_stop_above_the_market() -> None:
    account = exposure()
    account.stand(standing(position(qty="-0.1")), QUOTE)
    above = judged(signal(action=Action.MOVE_STOP, stop_loss=D("50100.05")), account)
    assert above.plan is not None and above.plan.stop_loss == D("50100.0")
    assert failed(judged(signal(action=Action.MOVE_STOP, stop_loss=D(49000)), account)) == ["RSK1.stop_side"]
    below = judged(signal(action=Action.MOVE_TARGET, take_profit=D("49000.05")), account)
    assert below.plan is not None and below.plan.take_profit == D("49000.1")


# -------------------------------------------------------------------------------------------------------------- targets


def target(qty: str, account: Exposure, **changes: Any) -> Verdict:
    return judged(signal(action=Action.TARGET, size=TargetPosition(D(qty)), **NO_LEVELS | changes), account)


def test_a_target_opens_the_difference_in_flight_included() -> None:
    account = exposure()
    account.stand(standing(position(qty="0.1"), buying=D("0.05"), reserved=D(2500)), QUOTE)
    verdict = target("0.2", account, side=None)
    assert verdict.plan is not None
    assert (verdict.plan.side, verdict.plan.qty, verdict.plan.reduce_only) == (BUY, D("0.05"), False)


def test_a_target_across_zero_is_an_opening() -> None:
    account = exposure()
    account.stand(standing(position(qty="0.1")), QUOTE)
    verdict = target("-0.2", account)
    assert verdict.plan is not None
    assert (verdict.plan.side, verdict.plan.qty, verdict.plan.reduce_only) == (SELL, D("0.3"), False)
    assert verdict.plan.stop_loss == D("50498.9")
    assert check_of(verdict, "RSK4.position_max").value == D("0.2") * 49999


def test_a_target_that_is_reached_is_recorded() -> None:
    account = exposure()
    account.stand(standing(position(qty="0.2")), QUOTE)
    for qty in ("0.2", "0.2004", "0.1996"):
        verdict = target(qty, account)
        assert (verdict.outcome, failed(verdict), verdict.plan) == (Outcome.RECORDED, [], None), qty
        assert check_of(verdict, "RSK2.target").reason == "already there"


def test_a_reduce_only_target_never_opens() -> None:
    account = exposure()
    account.stand(standing(position(qty="0.1")), QUOTE)
    assert target("0.5", account, reduce_only=True).outcome is Outcome.RECORDED
    verdict = target("-0.5", account, reduce_only=True, side=None)
    assert verdict.plan is not None and (verdict.plan.qty, verdict.plan.reduce_only) == (D("0.1"), True)


def test_judging_is_pure() -> None:
    seen: View = view()
    assert judge(seen) == judge(seen)


def test_a_quote_without_displayed_quantity_is_taken_at_the_touch() -> None:
    bare = Quote("BTCUSDT", D(49999), D(50001), at_ns=NOW)
    assert check_of(judged(quote=bare), "RSK6.slippage").value == D("0.00002")


def test_spot_has_no_leverage() -> None:
    account = exposure(instrument(kind=InstrumentKind.SPOT), wallet={"USDT": "6000"})
    assert check_of(judged(account=account), "RSK7.balance").limit == 6000
