"""Bodies of every dialect and control event: always a Signal, a Control or a Malformed with reasons."""

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.core.messages import Control, Malformed, Refusal, Signal
from engine.edges.controls import CONTROLS
from engine.edges.dialects import DIALECTS, DialectTerms, decode
from engine.edges.ndjson import dead_letter_line
from engine.edges.strict import FLAWS_MAX, body_hash, canonical, read
from tests.fuzz import fuzzed
from tests.fuzz.wrongs import bodies, changed, damaged

NOW = 1_767_323_045_000_000_000
TERMS = DialectTerms(account="main", aliases={"XBTUSDT": "BTCUSDT"}, venue_aliases={"bybit": "paper"})
NO_TERMS = DialectTerms(control_sources=("else",))

SOUND: dict[str, tuple[dict[str, Any], ...]] = {
    "surefire": (
        {"signal_id": "s-1", "symbol": "BTCUSDT", "side": "buy", "qty": "0.05", "stop_loss": "59000"},
        {"signal_id": "s-2", "symbol": "BTC/USDT", "side": "sell", "order_type": "limit", "limit_price": 60000.5},
        {"signal_id": "s-3", "symbol": "BTCUSDT", "action": "reduce", "position_share": "0.5", "ttl_seconds": 5},
    ),
    "hedge_trades": (
        {"trade_id": "h-7", "symbol": "BTCUSDT", "side": "sell", "exposure": "2.5", "hedge_ratio": "0.3", "ltv": "0.7"},
        {"hedge_id": "h", "id": "9", "asset": "btc", "side": "buy", "size": 1, "time": "2026-01-02T03:04:05Z"},
    ),
    "ai_decision": (
        {"id": "e-9", "symbol": "ETH/USDT", "side": "long", "confidence": 0.82, "entry": 3000, "tp": 3120, "sl": 2960},
        {"decision_id": "e-1", "symbol": "ETHUSDT", "decision": "hold", "confidence": "0.1"},
    ),
    "strategy_signal": (
        {
            **{"signal_id": "x-3", "strategy": "breakout", "exchange": "bybit", "symbol": "BTCUSDT", "side": "buy"},
            **{"strength": 0.8, "confluence_score": 4.2, "entry": 60000, "stop_loss": 59300, "take_profit": 61500},
            "decision": "enter_trade",
        },
    ),
    "management": (
        {"id": "m-1", "symbol": "BTCUSDT", "action": "reduce", "part": 0.5},
        {"id": "m-2", "symbol": "BTCUSDT", "action": "move_sl", "price": 60100},
        {"id": "m-3", "symbol": "BTCUSDT", "action": "cancel", "refers_to": "s-1"},
    ),
    "target_position": (
        {"id": "t-1", "symbol": "BTCUSDT", "target": "+0.2"},
        {"id": "t-2", "be": "-1.5 ETH", "stop_loss": "3300"},
        {"id": "t-3", "target": {"qty": "1", "asset": "BTC"}},
    ),
}
STEERING: tuple[dict[str, Any], ...] = (
    {"type": "ess.tripped", "id": "e-1", "level": "CRITICAL", "reason": "venue insolvent"},
    {"type": "ess.cleared", "id": "e-2", "reason": "false alarm"},
    {"type": "policy.updated", "id": "p-1", "data": {"account": "main", "limits": {"positions_max": 2}}},
    {"type": "policy.updated", "account": "main", "limits": {"daily_loss_max": "250", "loss_latch": "day"}},
    {
        "type": "policy.updated",
        "data": {"version": 7, "timestamp": "2026-01-02T03:04:05Z", "limits": {"symbols": ["X"]}},
    },
    {"type": "model.promoted", "id": "m-1", "data": {"model": "lstm", "version": "12"}},
)
ENVELOPE = ("type", "event", "event_type", "data", "payload", "dialect", "time", "metadata", "limits", "account")


def plausible(samples: tuple[dict[str, Any], ...]) -> dict[str, tuple[Any, ...]]:
    keys = {key: None for sample in samples for key in sample}
    return {key: tuple(sample[key] for sample in samples if key in sample) for key in keys}


EVERY = tuple(sample for samples in SOUND.values() for sample in samples) + STEERING
WORDS = tuple(dict.fromkeys((*(key for dialect in DIALECTS.values() for key in dialect.table), *ENVELOPE)))


def check(raw: bytes, dialect: str | None, terms: DialectTerms, fallback_id: str | None) -> None:
    """One of the three, with everything in it that is needed further on; the same again for the same bytes."""
    found = decode(raw, dialect, terms, "fuzz", NOW, None, fallback_id)
    assert found == decode(raw, dialect, terms, "fuzz", NOW, None, fallback_id)
    written = msgspec.json.encode(found)  # no half of a character, which the journal could not take
    match found:
        case Signal():
            assert found.signal_id and found.account and found.symbol and found.trace_id and found.body_hash
            assert found.valid_until_ns > 0
            assert msgspec.json.decode(written, type=Signal) == found
        case Control():
            assert found.name in CONTROLS and found.control_id
        case Malformed():
            assert msgspec.json.decode(written, type=Malformed) == found
            assert 0 < len(found.reasons) <= 10 * FLAWS_MAX
            assert all(isinstance(reason, Refusal) and reason.reason for reason in found.reasons)
            assert msgspec.json.decode(dead_letter_line(found))["reasons"]


WHOSE = st.sampled_from((None, None, *DIALECTS, "control", "no such dialect"))
PLACES = st.sampled_from((None, "file:17", "\u202e", ""))


@given(st.binary(max_size=400), WHOSE, PLACES)
@fuzzed(150)
def test_any_bytes_are_a_signal_a_control_or_have_reasons(raw: bytes, whose: str | None, place: str | None) -> None:
    check(raw, whose, TERMS, place)


@pytest.mark.parametrize("dialect", [*DIALECTS])
@given(st.data())
@fuzzed(60)
def test_bodies_of_a_dialects_own_words(dialect: str, data: st.DataObject) -> None:
    keys = (*DIALECTS[dialect].table, *ENVELOPE)
    raw = data.draw(bodies(keys, plausible(SOUND[dialect])))
    check(raw, data.draw(st.sampled_from((None, dialect))), data.draw(st.sampled_from((TERMS, NO_TERMS))), "f:1")


@pytest.mark.parametrize("dialect", [*DIALECTS])
@given(st.data())
@fuzzed(60)
def test_sound_bodies_with_something_wrong(dialect: str, data: st.DataObject) -> None:
    raw = data.draw(changed(SOUND[dialect], (*DIALECTS[dialect].table, *ENVELOPE)))
    check(raw, data.draw(st.sampled_from((None, dialect))), TERMS, None)


@given(changed(STEERING, WORDS), st.sampled_from((None, "control")), st.sampled_from((TERMS, NO_TERMS)))
@fuzzed(150)
def test_control_events_with_something_wrong(raw: bytes, whose: str | None, terms: DialectTerms) -> None:
    check(raw, whose, terms, None)


@given(st.sampled_from(EVERY).flatmap(lambda body: damaged(json.dumps(body).encode())), WHOSE)
@fuzzed(150)
def test_sound_bodies_with_damaged_bytes(raw: bytes, whose: str | None) -> None:
    check(raw, whose, TERMS, "f:2")


@given(changed(EVERY, WORDS), st.sampled_from(("signal.execute", "ess.tripped", "hedge_trades", "x")))
@fuzzed(100)
def test_bodies_in_an_envelope(raw: bytes, kind: str) -> None:
    check(b'{"type":"%b","id":"e-1","data":%b}' % (kind.encode(), raw), None, TERMS, None)


# ------------------------------------------------------------------------------------------------------------- hashes


@given(changed(EVERY, WORDS), st.randoms(use_true_random=False))
@fuzzed(150)
def test_the_hash_of_a_body_is_of_its_content_alone(raw: bytes, rng: random.Random) -> None:
    body = read(raw)
    if isinstance(body, dict):
        items = list(body.items())
        rng.shuffle(items)
        respelled = b"{ " + b" ,\n".join(canonical(key) + b"\t: " + canonical(value) for key, value in items) + b"\r\n}"
        for same in (respelled, canonical(body)):
            again = read(same)
            if isinstance(again, dict):
                assert again == body and body_hash(again) == body_hash(body)
            else:  # 1e-38 is taken; written without its exponent it is longer than a number may be
                assert all("40 characters" in flaw.reason for flaw in again)


@given(st.sampled_from(EVERY), st.data())
@fuzzed(150)
def test_any_change_of_a_value_changes_the_hash(sample: dict[str, Any], data: st.DataObject) -> None:
    raw = json.dumps(sample).encode()
    body, key = read(raw), data.draw(st.sampled_from([*sample]))
    assert isinstance(body, dict)
    other = read(data.draw(changed(({key: sample[key]},))))
    if isinstance(other, dict) and key in other:
        after = {**body, key: other[key]}
        assert (body_hash(after) == body_hash(body)) == (canonical(after) == canonical(body))
        # Two JSON values are equal when they are of one kind and one value; Python's 1 == True is not JSON's.
        same = other[key] == body[key] and type(other[key]) is type(body[key])
        if not isinstance(body[key], dict):
            assert (body_hash(after) == body_hash(body)) == same
