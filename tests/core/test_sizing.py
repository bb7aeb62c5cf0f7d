"""Each way of sizing: what it gives, and what it says when it gives nothing."""

from decimal import Decimal
from typing import Any

import pytest

from engine.core.messages import (
    BalanceShare,
    Check,
    HedgeShare,
    Limits,
    PositionShare,
    Quantity,
    QuoteAmount,
    RiskShare,
    TargetPosition,
)
from engine.core.sizing import Basis, Unsigned, sized, target_delta, to_lot
from tests.core.gate_world import LINEAR

D = Decimal


def basis(**changes: Any) -> Basis:
    fields: dict[str, Any] = {
        "limits": Limits(),
        "price": D(50000),
        "equity": D(100000),
        "stop": D(49000),
        "position": D("-0.4"),
    }
    return Basis(**fields | changes)


@pytest.mark.parametrize(
    ("size", "qty"),
    [
        (Quantity(D("0.12")), "0.12"),
        (QuoteAmount(D(2500)), "0.05"),
        (BalanceShare(), "0.04"),
        (BalanceShare(D("0.05")), "0.1"),
        (RiskShare(D("0.01")), "1"),
        (HedgeShare(D("3"), D("0.3")), "0.9"),
        (HedgeShare(D("-3"), D("1")), "3"),
        (PositionShare(D("0.25")), "0.1"),
    ],
)
def test_each_way_gives_its_quantity(size: Unsigned, qty: str) -> None:
    assert sized(size, basis()) == D(qty)


@pytest.mark.parametrize(
    ("size", "changes", "rule", "words"),
    [
        (Quantity(D(0)), {}, "RSK2.quantity", "more than zero"),
        (Quantity(D(-1)), {}, "RSK2.quantity", "more than zero"),
        (QuoteAmount(D(0)), {}, "RSK2.quote_amount", "more than zero"),
        (QuoteAmount(D(5)), {"price": None}, "RSK2.quote_amount", "a price is needed"),
        (BalanceShare(D("0.051")), {}, "RSK2.balance_share", "is 0.051; it must be more than 0 and at most 0.05"),
        (BalanceShare(D(0)), {}, "RSK2.balance_share", "more than 0"),
        (BalanceShare(), {"equity": None}, "RSK2.balance_share", "equity is needed"),
        (BalanceShare(), {"price": None}, "RSK2.balance_share", "a price is needed"),
        (RiskShare(D("0.03")), {}, "RSK2.risk_share", "at most 0.02"),
        (RiskShare(D("0.01")), {"equity": None}, "RSK2.risk_share", "equity is needed"),
        (RiskShare(D("0.01")), {"price": None}, "RSK2.risk_share", "a price is needed"),
        (RiskShare(D("0.01")), {"stop": None}, "RSK2.risk_share", "stop-loss"),
        (RiskShare(D("0.01")), {"stop": D(50000)}, "RSK2.risk_share", "stop-loss"),
        (HedgeShare(D(1), D(30)), {}, "RSK2.hedge_ratio", "is 30; it must be more than 0 and at most 1"),
        (HedgeShare(D(0), D("0.3")), {}, "RSK2.hedge_exposure", "no exposure"),
        (PositionShare(D("1.1")), {}, "RSK2.position_share", "at most 1"),
        (PositionShare(D(0)), {}, "RSK2.position_share", "more than 0"),
    ],
)
def test_each_way_says_why_there_is_no_quantity(size: Unsigned, changes: dict[str, Any], rule: str, words: str) -> None:
    answer = sized(size, basis(**changes))
    assert isinstance(answer, Check)
    assert (answer.rule, answer.passed) == (rule, False)
    assert words in answer.reason


def test_equity_below_zero_sizes_nothing() -> None:
    assert sized(BalanceShare(), basis(equity=D(-5))) == 0
    assert sized(RiskShare(D("0.01")), basis(equity=D(-5))) == 0


@pytest.mark.parametrize(
    ("target", "held", "in_flight", "delta"),
    [("0.2", "0", "0", "0.2"), ("0.2", "0.1", "0.05", "0.05"), ("-0.2", "0.1", "0", "-0.3"), ("0", "0.1", "0", "-0.1")],
)
def test_a_target_counts_what_is_on_its_way(target: str, held: str, in_flight: str, delta: str) -> None:
    assert target_delta(TargetPosition(D(target)), D(held), D(in_flight)) == D(delta)


@pytest.mark.parametrize(("qty", "lots"), [("0.0129", "0.012"), ("0.0009", "0"), ("0.5", "0.5")])
def test_rounding_is_down_to_the_lot(qty: str, lots: str) -> None:
    assert to_lot(D(qty), LINEAR) == D(lots)
