"""The short way of the native dialect against the long one: where it answers at all, it gives the same answer."""

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.core.messages import Signal
from engine.edges import native
from engine.edges.dialects import DialectTerms, decode, decode_any
from tests.fuzz.wrongs import ODD_LITERALS, ODD_TEXTS, changed, damaged

NOW = 1_767_323_045_000_000_000
TERMS = DialectTerms(
    account="main",
    ttls={"slow": Decimal(60)},
    aliases={"XBTUSDT": "BTCUSDT"},
    source_symbols={"narrow": ("BTCUSDT",)},
)
MARKET = {"signal_id": "s-1", "symbol": "BTCUSDT", "action": "open", "side": "buy", "qty": "0.05"}
LIMIT = {
    **MARKET,
    **{"account": "slow", "order_type": "limit", "limit_price": "60000.50", "tif": "gtc", "stop_loss": "59000"},
    **{"take_profit": 6200, "ttl_seconds": 5, "cancel_after_seconds": "0.5"},
}
PLAIN: tuple[dict[str, Any], ...] = (
    MARKET,
    LIMIT,
    {**MARKET, "symbol": "XBTUSDT", "side": "sell", "qty": 3},
    {**MARKET, "limit_price": "1", "time_in_force": "post_only"},
    {"signal_id": "first", "symbol": "BTCUSDT", "action": "open", "side": "buy", "quote_amount": "500"},
    {key: value for key, value in MARKET.items() if key != "action"},
)
ODD_VALUES = (
    *("+1", "1e3", "1E+5", ".5", "5.", "00.10", "0", "0.0", "-1", " 1", "1_0", "1" * 13, "0." + "1" * 13, "86401"),
    *("BUY", "Open", "close", "market", "limit", "post_only", "GTC", "btcusdt", "BTC/USDT", "XBTUSDT", "", " s"),
    *(0, 5, -1, 0.5, 5.0, 10_000, 10**30, True, None, [], {}, {"qty": "1"}, 'a"b', "a\\b", "ä"),
    *ODD_TEXTS,
)
KEYS = (
    *LIMIT,
    *(
        "time_in_force",
        "quote_amount",
        "price",
        "quantity",
        "target",
        "reduce_only",
        "type",
        "dialect",
        "note",
        "trace_id",
        "data",
    ),
    *("confidence", "ltv", "created_ns", "reference_price", "id", "risk_share", "hedge", "venue", "action "),
)


def both(raw: bytes, source: str = "test", terms: DialectTerms = TERMS, trace_id: str | None = None) -> Signal | None:
    """What the short way says; what it says is what the long one does."""
    short = native.entry(raw, terms, source, NOW, trace_id)
    if short is not None:
        long = decode_any(raw, None, terms, source, NOW, trace_id)
        assert long == decode_any(raw, native.NAME, terms, source, NOW, trace_id)
        assert isinstance(long, Signal), long
        assert msgspec.json.encode(short) == msgspec.json.encode(long)
        assert short == long
    return short


@pytest.mark.parametrize("body", PLAIN)
@pytest.mark.parametrize("indent", [None, 2])
def test_a_plain_entry_is_taken_by_the_short_way(body: dict[str, Any], indent: int | None) -> None:
    taken = both(json.dumps(body, indent=indent).encode(), trace_id="t" * 200)
    assert taken is not None
    assert taken == decode(json.dumps(body, indent=indent).encode(), None, TERMS, "test", NOW, "t" * 200)


@pytest.mark.parametrize(
    "raw",
    [
        b'{"signal_id":"s-1","symbol":"BTCUSDT","side":"buy","qty":"1","qty":"1"}',
        b'{"signal_id":"s-1","symbol":"BTCUSDT","side":"buy","qty":"1","qty":2}',
        b'{"signal_id":"s-1","symbol":"BTCUSDT","side":"buy","qty":2,"qty":3}',
        b'{"signal_id":"s-1","symbol":"BTCUSDT","side":"buy","side":"buy","qty":"1"}',
        b'{"signal_id":"s-1","symbol":"BTCUSDT","side":"buy","qty":"1","q\\u0074y":"1"}',
        b'{"signal_id":"s-1","symbol":"BTCUSDT","side":"buy","qty":0.1}',
        b'{"signal_id":"s-1","symbol":"BTCUSDT","side":"buy","qty":NaN}',
        b'{"signal_id":"s-1","symbol":"BTCUSDT","side":"buy","qty":1e400}',
        b'{"signal_id":"s-1","symbol":"BTCUSDT","side":"buy","qty":"1"}}',
        b'\xef\xbb\xbf{"signal_id":"s-1","symbol":"BTCUSDT","side":"buy","qty":"1"}',
        b'{"signal_id":"s-1","symbol":"BTCUSDT","side":"buy","qty":"1"}' + b" " * native.BYTES_MAX,
        b'{"signal_id":"s-1","symbol":"BTCUSDT","side":"buy","qty":"1","order_type":"limit"}',
        b'{"signal_id":"s-1","symbol":"BTCUSDT","side":"buy","qty":"1","order_type":"market","limit_price":"1"}',
        b'{"signal_id":"s-1","symbol":"BTCUSDT","side":"buy","qty":"1","tif":"post_only"}',
        b'{"signal_id":"s-1","symbol":"BTCUSDT","side":"buy","qty":"1","tif":"gtc","time_in_force":"gtc"}',
        b'{"signal_id":"s-1","symbol":"BTCUSDT","side":"buy","qty":"1","quote_amount":"1"}',
        b'[{"signal_id":"s-1"}]',
        b"[" * 1999,
        b"",
    ],
)
def test_what_is_doubtful_goes_the_long_way(raw: bytes) -> None:
    assert native.entry(raw, TERMS, "test", NOW, None) is None


def test_what_the_terms_do_not_allow_goes_the_long_way() -> None:
    raw = json.dumps({**MARKET, "symbol": "ETHUSDT"}).encode()
    assert both(raw) is not None
    assert both(raw, source="narrow") is None
    assert both(json.dumps({**MARKET, "symbol": "XBTUSDT"}).encode(), source="narrow") is not None
    assert both(raw, terms=DialectTerms()) is None


bodies = st.builds(
    lambda base, changes, gone: {k: v for k, v in {**base, **changes}.items() if k not in gone},
    st.sampled_from(PLAIN),
    st.dictionaries(st.sampled_from(KEYS), st.sampled_from(ODD_VALUES) | st.text(max_size=6), max_size=2),
    st.sets(st.sampled_from(KEYS), max_size=1),
)


@given(bodies, st.sampled_from(["test", "narrow"]), st.none() | st.text(max_size=5))
def test_every_body_has_one_answer(body: dict[str, Any], source: str, trace_id: str | None) -> None:
    both(json.dumps(body).encode(), source, trace_id=trace_id)
    both(json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass"), source, trace_id=trace_id)


@given(changed(PLAIN, KEYS), st.sampled_from(["test", "narrow"]))
def test_every_changed_body_has_one_answer(raw: bytes, source: str) -> None:
    both(raw, source)


@given(st.sampled_from([json.dumps(body).encode() for body in PLAIN]).flatmap(damaged))
@example(b'{"signal_id":"s-1","symbol":"BTCUSDT","side":"buy","qty":"1"\x0b}')
def test_damaged_bytes_have_one_answer(raw: bytes) -> None:
    both(raw)


@given(st.sampled_from(ODD_LITERALS), st.sampled_from(tuple(LIMIT)), st.sampled_from(PLAIN))
def test_odd_literals_have_one_answer(literal: bytes, key: str, base: dict[str, Any]) -> None:
    whole = json.dumps({**base, key: "MARK"}).encode()
    both(whole.replace(b'"MARK"', literal))
    both(whole[:-1] + b',"' + key.encode() + b'":' + literal + b"}")
