"""What is shown as used of a limit is what the rule would compare, and looking changes nothing."""

from decimal import Decimal

from engine.core.messages import Check, Limits
from tests.core.gate_world import NOW, QUOTE, signal
from tests.core.test_admission import bare, gate


def used(limits: Limits | None = None, taken: int = 0) -> dict[str, Check]:
    admission = gate(limits)
    for number in range(taken):
        admitted = admission.handle_signal(signal(f"s{number}"), None, QUOTE, QUOTE, (), NOW)
        assert admitted.status == "accepted"
    first = admission.usage(QUOTE, NOW)
    assert admission.usage(QUOTE, NOW) == first
    return {check.rule: check for check in first["a"]}


def test_an_account_that_rests_has_used_nothing() -> None:
    assert {check.value for check in used().values()} == {Decimal(0)}
    assert all(check.passed for check in used().values())


def test_what_is_in_flight_counts_as_used() -> None:
    found = used(taken=1)
    assert found["RSK4.positions_max"].value == 1
    assert found["RSK4.orders_per_day"].value == 1
    exposure, volume = found["RSK4.exposure_max"].value, found["RSK4.daily_volume"].value
    assert exposure is not None and volume is not None
    assert exposure > 0 and volume * QUOTE.mid == exposure


def test_each_limit_that_is_shown_is_one_that_a_verdict_names() -> None:
    admitted = gate().handle_signal(signal("s1"), None, QUOTE, QUOTE, (), NOW)
    judged = {check.rule: check.limit for check in admitted.row.checks}
    for rule, check in used().items():
        assert judged[rule] == check.limit


def test_an_account_without_limits_has_none_to_show() -> None:
    assert bare().usage(QUOTE, NOW) == {"a": ()}
