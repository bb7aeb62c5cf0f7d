"""Whatever comes from outside is read, or is odd; nothing else happens, whoever wrote it."""

import json
from contextlib import suppress
from decimal import Decimal
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from engine.core.messages import FillReport, OrderReport
from engine.venues.binance.api import hear_answer
from engine.venues.binance.decoding import Heard, Odd
from engine.venues.binance.errors import Market, judge_body
from engine.venues.binance.spot_reports import hear_spot
from engine.venues.binance.usdm_reports import hear_usdm
from tests.fuzz import fuzzed
from tests.venues.binance.test_reports import ALGO, EXECUTION, UPDATE

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["NaN", "-1", "1e400", "0", "", "Infinity", "1" * 400, "0." + "0" * 400 + "1", "FILLED", "TRADE"]),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


@st.composite
def changed(draw: st.DrawFn, row: dict[str, Any]) -> dict[str, Any]:
    """The row with a few fields replaced, and a few taken out."""
    names = sorted(row)
    other = {name: draw(VALUES) for name in draw(st.lists(st.sampled_from(names), max_size=4))}
    gone = draw(st.lists(st.sampled_from(names), max_size=2))
    return {k: v for k, v in {**row, **other}.items() if k not in gone}


def sound(heard: Heard) -> None:
    """What came through can be calculated with."""
    for report in heard.reports:
        assert isinstance(report, OrderReport | FillReport)
        for name in report.__struct_fields__:
            value = getattr(report, name)
            assert not isinstance(value, Decimal) or (value.is_finite() and abs(value) < Decimal(10) ** 18)


@fuzzed(200)
@given(changed(EXECUTION))
def test_any_execution_of_spot(row: dict[str, Any]) -> None:
    with suppress(Odd):
        sound(hear_spot(json.dumps({"event": row}).encode()))


@fuzzed(200)
@given(changed(UPDATE))
def test_any_order_update_of_usdm(row: dict[str, Any]) -> None:
    with suppress(Odd):
        sound(hear_usdm(json.dumps({"e": "ORDER_TRADE_UPDATE", "E": 1, "o": row}).encode()))


@fuzzed(200)
@given(changed(ALGO))
def test_any_conditional_order_of_usdm(row: dict[str, Any]) -> None:
    with suppress(Odd):
        sound(hear_usdm(json.dumps({"e": "ALGO_UPDATE", "E": 1, "o": row}).encode()))


@fuzzed(200)
@given(st.binary(max_size=200), st.sampled_from([200, 400, 403, 409, 418, 429, 500, 503]))
@example(b'{"code":' + b"9" * 5000 + b"}", 400)
@example(b"[" * 50_000, 200)
@example(b'{"id":{"a":1}}', 200)
def test_any_bytes(raw: bytes, status: int) -> None:
    for hear in (hear_spot, hear_usdm):
        with suppress(Odd):
            sound(hear(raw))
    hear_answer(raw)
    for market in Market:
        judge_body(market, status, raw).answer()


@fuzzed(200)
@given(st.integers(0, 1000))
def test_any_beginning_of_a_frame(length: int) -> None:
    for hear, row in ((hear_spot, {"event": EXECUTION}), (hear_usdm, {"e": "ORDER_TRADE_UPDATE", "o": UPDATE})):
        with suppress(Odd):
            sound(hear(json.dumps(row).encode()[:length]))
