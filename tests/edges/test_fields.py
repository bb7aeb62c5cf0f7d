"""Single values: moments, targets, identifiers, symbols."""

from decimal import Decimal

import pytest

from engine.edges import fields
from engine.edges.fields import Wrong
from engine.edges.signals import plain_symbol

AT = 1_767_323_045  # 2026-01-02T03:04:05Z


@pytest.mark.parametrize(
    ("value", "ns"),
    [
        (Decimal(AT), AT * 10**9),
        (Decimal(f"{AT}.123456789"), AT * 10**9 + 123_456_789),
        (Decimal(AT * 1000 + 7), AT * 10**9 + 7_000_000),
        (Decimal(AT * 10**6 + 7), AT * 10**9 + 7_000),
        (Decimal(AT * 10**9 + 7), AT * 10**9 + 7),
        (str(AT * 10**9 + 7), AT * 10**9 + 7),
        ("2026-01-02T03:04:05Z", AT * 10**9),
        ("2026-01-02t03:04:05z", AT * 10**9),
        ("2026-01-02 03:04:05+00:00", AT * 10**9),
        ("2026-01-02T05:04:05+02:00", AT * 10**9),
        ("2026-01-01T21:34:05-0530", AT * 10**9),
        ("2026-01-02T03:04:05.1Z", AT * 10**9 + 100_000_000),
        ("2026-01-02T03:04:05.123456789Z", AT * 10**9 + 123_456_789),
        ("2026-01-02T03:04Z", (AT - 5) * 10**9),
    ],
)
def test_moments_in_any_unit_are_exact_nanoseconds(value: fields.Json, ns: int) -> None:
    assert fields.moment(value) == ns


@pytest.mark.parametrize(
    "value",
    [
        Decimal(0),
        Decimal(-AT),
        Decimal(12345),
        Decimal("1e30"),
        "",
        "yesterday",
        "2026-13-01T00:00:00Z",
        "2026-02-30T00:00:00Z",
        "1999-01-01T00:00:00Z",
        "2026-01-02T03:04:05",  # whose clock?
        "2026-01-02",
        "NaN",
        "٢",
        True,
        None,
        [],
    ],
)
def test_what_is_no_moment_is_refused(value: fields.Json) -> None:
    with pytest.raises(Wrong):
        fields.moment(value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (Decimal("0.2"), (Decimal("0.2"), "")),
        ("+0.2", (Decimal("0.2"), "")),
        ("+0.2 BTC", (Decimal("0.2"), "BTC")),
        ("be -1.5eth", (Decimal("-1.5"), "ETH")),
        ("0", (Decimal(0), "")),
        ({"qty": "0.3", "asset": "btc"}, (Decimal("0.3"), "BTC")),
        ({"qty": Decimal(1)}, (Decimal(1), "")),
    ],
)
def test_targets_are_signed_quantities_with_or_without_an_asset(
    value: fields.Json, expected: tuple[Decimal, str]
) -> None:
    assert fields.target(value) == expected


@pytest.mark.parametrize("value", ["", "be", "lots", "0.2 BTC now", {"asset": "BTC"}, {"qty": "1", "side": "x"}, True])
def test_what_is_no_target_is_refused(value: fields.Json) -> None:
    with pytest.raises(Wrong):
        fields.target(value)


@pytest.mark.parametrize(
    "value", ["1_000", "١٢", " 1", "1 ", "0x10", "inf", "nan", "", "1e9999", "--1", True, None, []]
)
def test_texts_that_python_would_take_for_numbers_are_not(value: fields.Json) -> None:
    with pytest.raises(Wrong):
        fields.number(value)


@pytest.mark.parametrize(("value", "words"), [("1" * 19, "18 digits before"), ("0." + "1" * 19, "18 digits after")])
def test_money_has_at_most_18_digits_on_either_side(value: str, words: str) -> None:
    with pytest.raises(Wrong, match=words):
        fields.number(value)


@pytest.mark.parametrize("value", ["a", "x" * 128, "sig 1", "a/b:c#d", Decimal(12345)])
def test_identifiers_are_printable_ascii(value: fields.Json) -> None:
    assert fields.identifier(value) == str(value)


@pytest.mark.parametrize(
    "value", ["", " ", " a", "a ", "x" * 129, "é", "a\tb", "a\x00", Decimal("1.5"), Decimal(-1), True]
)
def test_identifiers_that_could_be_mistaken_for_each_other_are_refused(value: fields.Json) -> None:
    with pytest.raises(Wrong):
        fields.identifier(value)


@pytest.mark.parametrize(
    "spelled", ["BTCUSDT", "btcusdt", "BTC/USDT", "btc-usdt", "BTC_USDT", "BTC/USDT:USDT", "XBT/USDT", "xbtusdt"]
)
def test_every_usual_spelling_of_a_symbol_is_the_same_symbol(spelled: str) -> None:
    assert plain_symbol(spelled, {"XBTUSDT": "BTCUSDT"}) == "BTCUSDT"


@pytest.mark.parametrize(
    "spelled", ["BTC/USD:BTC", "BTC/USDT:USDT-240628", "B", "BTC USDT", "BTC\u0415USDT", "/", "BTC.P"]
)
def test_other_contracts_and_look_alikes_are_no_symbols(spelled: str) -> None:
    assert plain_symbol(spelled, {}) is None
