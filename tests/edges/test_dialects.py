"""Each dialect's wire form to its Signal; every way to be wrong to its reasons."""

import json
import random
from decimal import Decimal
from functools import partial
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core.announce import confirmation_event
from engine.core.messages import (
    Action,
    BalanceShare,
    Confirmed,
    Control,
    HedgeShare,
    Malformed,
    OrderType,
    OutboxRow,
    Outcome,
    PositionShare,
    Quantity,
    QuoteAmount,
    RiskShare,
    Side,
    Signal,
    TargetPosition,
    TimeInForce,
)
from engine.core.times import SECOND
from engine.edges.dialects import DIALECTS, DialectTerms, decode
from engine.edges.ndjson import row_line
from tests.patience import quickest

NOW = 1_767_323_045_000_000_000  # 2026-01-02T03:04:05Z
TERMS = DialectTerms(
    account="main",
    ttls={"slow": Decimal(60)},
    aliases={"XBTUSDT": "BTCUSDT"},
    venue_aliases={"bybit": "paper"},
)


def said(
    body: Any, dialect: str | None = None, terms: DialectTerms = TERMS, **more: Any
) -> Signal | Control | Malformed:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return decode(raw, dialect, terms, source="test", received_ns=NOW, **more)


def signal(body: Any, dialect: str | None = None, **more: Any) -> Signal:
    found = said(body, dialect, **more)
    assert isinstance(found, Signal), found
    return found


def reasons(body: Any, dialect: str | None = None, **more: Any) -> dict[str, str]:
    found = said(body, dialect, **more)
    assert isinstance(found, Malformed), found
    return {reason.field: reason.reason for reason in found.reasons}


OPEN = {"signal_id": "s-1", "symbol": "BTCUSDT", "side": "buy", "qty": "0.05"}

# Dialect, body, and what of the Signal it must come to.
TABLE: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    (
        "surefire",
        OPEN,
        {"action": Action.OPEN, "side": Side.BUY, "size": Quantity(Decimal("0.05")), "order_type": OrderType.MARKET},
    ),
    (
        "surefire",
        {
            "signal_id": "s-1",
            "account": "slow",
            "venue": "Bybit",
            "symbol": "BTC/USDT",
            "action": "open",
            "side": "SELL",
            "quote_amount": 500,
            "order_type": "limit",
            "limit_price": 60123.50,
            "tif": "post_only",
            "stop_loss": "61000",
            "take_profit": "58000",
            "reference_price": "60100",
            "strength": 0.7,
            "confluence": 3.5,
            "confidence": 1,
            "reduce_only": False,
            "hedge": True,
            "cancel_after_seconds": 30,
            "note": "why not",
            "context": {"model": "m1", "score": 4.50, "live": True, "none": None},
        },
        {
            "account": "slow",
            "venue": "paper",
            "symbol": "BTCUSDT",
            "side": Side.SELL,
            "size": QuoteAmount(Decimal(500)),
            "order_type": OrderType.LIMIT,
            "limit_price": Decimal("60123.5"),
            "tif": TimeInForce.POST_ONLY,
            "stop_loss": Decimal(61000),
            "take_profit": Decimal(58000),
            "reference_price": Decimal(60100),
            "strength": Decimal("0.7"),
            "confluence": Decimal("3.5"),
            "confidence": Decimal(1),
            "hedge": True,
            "cancel_after_seconds": Decimal(30),
            "note": "why not",
            "context": (("model", "m1"), ("score", "4.5"), ("live", "true")),
            "valid_until_ns": NOW + 60 * SECOND,
        },
    ),
    ("surefire", OPEN | {"qty": None, "risk_share": 0.01}, {"size": RiskShare(Decimal("0.01"))}),
    ("surefire", OPEN | {"qty": None, "balance_share": "0.02"}, {"size": BalanceShare(Decimal("0.02"))}),
    ("surefire", OPEN | {"qty": None}, {"size": BalanceShare()}),
    (
        "surefire",
        OPEN | {"qty": None, "exposure": 2, "hedge_ratio": 0.3},
        {"size": HedgeShare(Decimal(2), Decimal("0.3")), "hedge": False},
    ),
    ("surefire", OPEN | {"limit_price": 60000}, {"order_type": OrderType.LIMIT, "limit_price": Decimal(60000)}),
    ("surefire", OPEN | {"limit_price": 60000, "notional": 2990}, {"size": Quantity(Decimal("0.05"))}),
    ("surefire", OPEN | {"qty": None, "notional": 2990}, {"size": QuoteAmount(Decimal(2990))}),
    (
        "surefire",
        {"signal_id": "s", "symbol": "BTCUSDT", "action": "target", "target": "-0.2"},
        {"action": Action.TARGET, "size": TargetPosition(Decimal("-0.2"))},
    ),
    ("surefire", {"signal_id": "s", "symbol": "BTCUSDT", "action": "close"}, {"action": Action.CLOSE, "size": None}),
    (
        "surefire",
        {"signal_id": "s", "symbol": "BTCUSDT", "action": "reduce", "position_share": 0.25},
        {"action": Action.REDUCE, "size": PositionShare(Decimal("0.25"))},
    ),
    (
        "surefire",
        {"signal_id": "s", "symbol": "BTCUSDT", "action": "cancel", "refers_to": "s-0"},
        {"action": Action.CANCEL, "refers_to": "s-0"},
    ),
    (
        "surefire",
        {"signal_id": "s", "symbol": "BTCUSDT", "action": "record", "side": "buy", "qty": 1, "quote_amount": 5},
        {"action": Action.RECORD, "size": Quantity(Decimal(1)), "context": (("quote_amount", "5"),)},
    ),
    (
        "hedge_trades",
        {
            "trade_id": "h-7",
            "symbol": "BTCUSDT",
            "side": "sell",
            "exposure": "2.5",
            "hedge_ratio": "0.3",
            "ltv": "0.71",
            "loan_id": "L-12",
            "trace_id": "t-1",
        },
        {
            "signal_id": "h-7",
            "action": Action.OPEN,
            "side": Side.SELL,
            "size": HedgeShare(Decimal("2.5"), Decimal("0.3")),
            "hedge": True,
            "trace_id": "t-1",
            "context": (("ltv", "0.71"), ("loan_id", "L-12")),
        },
    ),
    (
        "hedge_trades",
        {"trade_id": 77, "asset": "BTC", "side": "short", "size": 0.75, "exposure": 2.5, "hedge_ratio": 0.3},
        {
            "signal_id": "77",
            "symbol": "BTCUSDT",
            "size": Quantity(Decimal("0.75")),
            "hedge": True,
            "context": (("exposure", "2.5"), ("hedge_ratio", "0.3")),
        },
    ),
    (
        "hedge_trades",
        {"type": "hedge_trades", "data": {"trade_id": "h", "symbol": "BTCUSDT", "side": "sell", "size": "0.3"}},
        {"signal_id": "h", "size": Quantity(Decimal("0.3"))},
    ),
    (
        "hedge_trades",
        {"trade_id": "h-8", "symbol": "BTCUSDT", "action": "unwind"},
        {"action": Action.CLOSE, "hedge": False},
    ),
    (
        "hedge_trades",
        {"trade_id": "h-8", "symbol": "BTCUSDT", "action": "unwind", "size": 1},
        {"action": Action.REDUCE, "size": Quantity(Decimal(1))},
    ),
    (
        "hedge_trades",
        {"trade_id": "h-8", "symbol": "BTCUSDT", "action": "unwind", "side": "buy", "ltv": "0.55"},
        {"action": Action.CLOSE, "side": None, "hedge": False, "context": (("ltv", "0.55"), ("side", "buy"))},
    ),
    (
        "hedge_trades",
        {"trade_id": "h-8", "symbol": "BTCUSDT", "action": "unwind", "side": "short", "size": 1, "ratio": "0.3"},
        {
            "action": Action.REDUCE,
            "side": None,
            "size": Quantity(Decimal(1)),
            "context": (("side", "sell"), ("ratio", "0.3")),
        },
    ),
    (
        "ai_decision",
        {
            "type": "ai.decision.made",
            "id": "e-9",
            "timestamp": "2026-01-02T03:04:04Z",
            "source": "brain",
            "data": {
                "symbol": "ETH/USDT",
                "side": "long",
                "confidence": 0.82,
                "entry": 3000,
                "tp": 3120,
                "sl": 2960,
                "model": "m-7",
            },
        },
        {
            "signal_id": "e-9",
            "symbol": "ETHUSDT",
            "side": Side.BUY,
            "size": BalanceShare(),
            "confidence": Decimal("0.82"),
            "reference_price": Decimal(3000),
            "limit_price": None,
            "stop_loss": Decimal(2960),
            "take_profit": Decimal(3120),
            "created_ns": NOW - SECOND,
            "valid_until_ns": NOW + 9 * SECOND,
            "context": (("source", "brain"), ("model", "m-7")),
        },
    ),
    (
        "ai_decision",
        {
            "event": "signal.execute",
            "id": "e-9",
            "symbol": "ETHUSDT",
            "decision": "sell",
            "confidence": 0.6,
            "order_type": "limit",
            "entry": 3000,
        },
        {"side": Side.SELL, "order_type": OrderType.LIMIT, "limit_price": Decimal(3000), "reference_price": None},
    ),
    (
        "ai_decision",
        {"decision_id": "d-1", "symbol": "ETHUSDT", "action": "hold", "confidence": 0.4, "note": "flat"},
        {"signal_id": "d-1", "action": Action.RECORD, "note": "hold", "context": (("note", "flat"),), "size": None},
    ),
    (
        "ai_decision",
        {"decision_id": "d-2", "symbol": "ETHUSDT", "action": "close", "side": "long", "confidence": 0.4},
        {"action": Action.CLOSE, "side": None, "context": (("side", "buy"),)},
    ),
    (
        "ai_decision",
        {
            "type": "signal.execute",
            "event_id": "e-1",
            "trace_id": "t-9",
            "payload": {"signal_id": "s-9", "symbol": "ETHUSDT", "side": "buy"},
        },
        {"signal_id": "s-9", "trace_id": "t-9", "context": (("event_id", "e-1"),)},
    ),
    (
        "strategy_signal",
        {
            "signal_id": "x-3",
            "strategy": "breakout",
            "exchange": "bybit",
            "symbol": "BTCUSDT",
            "side": "buy",
            "strength": 0.8,
            "confluence_score": 4.2,
            "entry": 60000,
            "stop_loss": 59300,
            "take_profit": 61500,
            "decision": "enter_trade",
        },
        {
            "action": Action.OPEN,
            "venue": "paper",
            "strength": Decimal("0.8"),
            "confluence": Decimal("4.2"),
            "reference_price": Decimal(60000),
            "stop_loss": Decimal(59300),
            "take_profit": Decimal(61500),
            "context": (("strategy", "breakout"),),
        },
    ),
    (
        "strategy_signal",
        {"signal_id": "x-4", "symbol": "BTCUSDT", "strength": 0.1, "confluence": 1, "decision": "wait"},
        {"action": Action.RECORD, "note": "wait", "confluence": Decimal(1), "side": None},
    ),
    (
        "strategy_signal",
        {"signal_id": "x-5", "symbol": "BTCUSDT", "side": "sell", "decision": "bad"},
        {"action": Action.RECORD, "note": "bad", "side": Side.SELL},
    ),
    (
        "management",
        {"id": "m-1", "symbol": "BTCUSDT", "action": "reduce", "part": 0.5},
        {"action": Action.REDUCE, "size": PositionShare(Decimal("0.5"))},
    ),
    (
        "management",
        {"id": "m-1", "symbol": "BTCUSDT", "action": "partial_close", "percent": 25},
        {"action": Action.REDUCE, "size": PositionShare(Decimal("0.25"))},
    ),
    (
        "management",
        {"id": "m-2", "symbol": "BTCUSDT", "action": "move_sl", "price": 60100},
        {"action": Action.MOVE_STOP, "stop_loss": Decimal(60100), "take_profit": None},
    ),
    (
        "management",
        {"id": "m-2", "symbol": "BTCUSDT", "command": "move_tp", "new_tp": "62000"},
        {"action": Action.MOVE_TARGET, "take_profit": Decimal(62000)},
    ),
    ("management", {"id": "m-3", "symbol": "BTCUSDT", "type": "close"}, {"action": Action.CLOSE}),
    (
        "management",
        {"id": "m-3", "symbol": "BTCUSDT", "command": "cancel", "original_signal_id": "s-1"},
        {"action": Action.CANCEL, "refers_to": "s-1"},
    ),
    (
        "target_position",
        {"id": "t-1", "symbol": "BTCUSDT", "target": "+0.2"},
        {"action": Action.TARGET, "size": TargetPosition(Decimal("0.2"))},
    ),
    (
        "target_position",
        {"id": "t-2", "be": "-1.5 ETH", "stop_loss": "3300"},
        {"symbol": "ETHUSDT", "size": TargetPosition(Decimal("-1.5")), "stop_loss": Decimal(3300)},
    ),
    (
        "target_position",
        {"id": "t-3", "symbol": "BTC-USDT", "target_position": {"qty": 0, "asset": "BTC"}},
        {"symbol": "BTCUSDT", "size": TargetPosition(Decimal(0))},
    ),
]


@pytest.mark.parametrize(("dialect", "body", "expected"), TABLE, ids=[f"{n}-{row[0]}" for n, row in enumerate(TABLE)])
def test_a_body_comes_to_its_signal_with_the_dialect_named_or_told_by_its_fields(
    dialect: str, body: dict[str, Any], expected: dict[str, Any]
) -> None:
    named = signal(body, dialect)
    assert {name: getattr(named, name) for name in expected} == expected
    told = signal(body)
    assert told == named
    assert told.dialect == dialect
    assert told.source == "test"
    assert told.received_ns == NOW


FLAT = [row for row in TABLE if not {"type", "event"} & row[1].keys()]


@pytest.mark.parametrize(("dialect", "body", "expected"), FLAT, ids=range(len(FLAT)))
def test_any_dialect_may_come_in_an_envelope(dialect: str, body: dict[str, Any], expected: dict[str, Any]) -> None:
    wrapped = {"type": dialect, "id": "env-1", "time": NOW // SECOND, "data": body}
    found = signal(wrapped)
    assert {name: getattr(found, name) for name in expected if name != "context"} == {
        name: value for name, value in expected.items() if name != "context"
    }
    assert ("id", "env-1") in found.context or found.signal_id == "env-1"


# ------------------------------------------------------------------------------------------------------ what is refused

REFUSED: list[tuple[dict[str, Any], dict[str, str]]] = [
    ({}, {"signal_id": "is missing", "symbol": "is missing", "side": "is missing"}),
    (OPEN | {"signal_id": ""}, {"signal_id": "must not be empty"}),
    (OPEN | {"signal_id": "a\u00e9"}, {"signal_id": "printable ASCII"}),
    (OPEN | {"symbol": ""}, {"symbol": "must not be empty"}),
    (OPEN | {"symbol": "BTC/USD:BTC"}, {"symbol": "no symbol that can be traded"}),
    (OPEN | {"symbol": 7}, {"symbol": "must be a text, not a number"}),
    (OPEN | {"account": "a/b"}, {"account": "letters, digits"}),
    (OPEN | {"side": "up"}, {"side": "must be one of buy"}),
    (OPEN | {"qty": -1}, {"qty": "must be more than 0, but is -1"}),
    (OPEN | {"qty": 0}, {"qty": "must be more than 0"}),
    (OPEN | {"qty": "NaN"}, {"qty": "must be a number"}),
    (OPEN | {"qty": True}, {"qty": "must be a number, not true or false"}),
    (OPEN | {"qty": [1]}, {"qty": "must be a number, not a list"}),
    (OPEN | {"qty": "1e30"}, {"qty": "more than 18 digits before the point"}),
    (OPEN | {"quantity": 1}, {"quantity": "says the same as 'qty'"}),
    (OPEN | {"quote_amount": 5}, {"quote_amount": "is a second size besides 'qty'"}),
    (OPEN | {"hedge_ratio": 0.5, "qty": None}, {"exposure": "is missing"}),
    (OPEN | {"exposure": 5, "qty": None}, {"hedge_ratio": "is missing"}),
    (OPEN | {"balance_share": 2, "qty": None}, {"balance_share": "must be more than 0 and at most 1"}),
    (OPEN | {"confidence": 82}, {"confidence": "must be from 0 to 1"}),
    (OPEN | {"hedge": "yes"}, {"hedge": "must be true or false"}),
    (OPEN | {"order_type": "limit"}, {"limit_price": "is missing"}),
    (OPEN | {"order_type": "market", "limit_price": 5}, {"limit_price": "no meaning for an order of type 'market'"}),
    (OPEN | {"order_type": "stop_market"}, {"order_type": "must be one of market, limit"}),
    (OPEN | {"tif": "post_only"}, {"tif": "needs an order of type 'limit'"}),
    (OPEN | {"tif": "day"}, {"tif": "must be one of gtc, ioc, fok, post_only"}),
    (OPEN | {"notional": 3000}, {"notional": "cannot be compared"}),
    (OPEN | {"notional": 3100, "reference_price": 60000}, {"notional": "the quantity is worth 3000 at 60000"}),
    (OPEN | {"target": "0.2", "action": "open"}, {"target": "no meaning for the action 'open'"}),
    (OPEN | {"action": "close"}, {"side": "no meaning for the action 'close'", "qty": "no meaning"}),
    (OPEN | {"action": "sell_it"}, {"action": "must be one of open"}),
    (OPEN | {"refers_to": "s-0"}, {"refers_to": "no meaning for the action 'open'"}),
    ({"signal_id": "s", "symbol": "BTCUSDT", "action": "reduce"}, {"position_share": "needs a size"}),
    ({"signal_id": "s", "symbol": "BTCUSDT", "action": "move_stop"}, {"stop_loss": "is missing"}),
    ({"signal_id": "s", "symbol": "BTCUSDT", "action": "target"}, {"target": "is missing"}),
    (OPEN | {"stopp_loss": 5}, {"stopp_loss": "is not known; did you mean 'stop_loss'?"}),
    (OPEN | {"leverage": 5}, {"leverage": "is not known"}),
    (OPEN | {"ttl_seconds": 0}, {"ttl_seconds": "must be more than 0"}),
    (OPEN | {"ttl_seconds": 100_000}, {"ttl_seconds": "at most 86400"}),
    (OPEN | {"ttl_seconds": 5, "valid_until": NOW}, {"ttl_seconds": "says the same as 'valid_until'"}),
    (OPEN | {"created": "2026-01-02T03:04:05"}, {"created": "has no time zone"}),
    (OPEN | {"context": "x"}, {"context": "must be an object"}),
    (OPEN | {"context": {"a": "x" * 1001}}, {"context": "has 1001 characters"}),
    (OPEN | {"type": "signal.exec"}, {"type": "did you mean 'signal.execute'?"}),
    ({"type": "nonsense", "data": OPEN}, {"type": "is 'nonsense', which is not known"}),
    ({"type": "surefire", "data": OPEN | {"qty": "x"}, "colour": 1}, {"colour": "is not known", "data.qty": "number"}),
    (OPEN | {"dialect": "surefir"}, {"dialect": "did you mean 'surefire'?"}),
    (
        {"trade_id": "h", "symbol": "BTCUSDT", "side": "sell", "size": 1, "exposure": 2.5, "hedge_ratio": 0.3},
        {"size": "exposure x hedge ratio is 0.75"},
    ),
    ({"trade_id": "h", "symbol": "BTCUSDT", "side": "sell"}, {"size": "a hedge needs it"}),
    (
        {"trade_id": "h", "asset": "ETH", "symbol": "BTCUSDT", "side": "sell", "size": 1},
        {"asset": "the symbol is BTCUSDT"},
    ),
    (
        {"decision_id": "d", "symbol": "BTCUSDT", "decision": "buy", "side": "sell"},
        {"side": "is 'sell', but the decision is 'buy'"},
    ),
    (
        {"signal_id": "x", "symbol": "BTCUSDT", "confluence_score": 4, "side": "buy"},
        {"decision": "is missing"},
    ),
    ({"id": "m", "symbol": "BTCUSDT", "action": "move_sl"}, {"stop_loss": "is missing"}),
    (
        {"id": "m", "symbol": "BTCUSDT", "action": "reduce", "part": 0.5, "qty": 1},
        {"part": "second size besides 'qty'"},
    ),
    ({"id": "m", "symbol": "BTCUSDT", "command": "close", "part": 0.5}, {"part": "no meaning for the action 'close'"}),
    ({"id": "t", "symbol": "BTCUSDT", "be": "+1 ETH"}, {"be": "is of ETH, but the symbol is BTCUSDT"}),
    ({"id": "t", "symbol": "BTCUSDT", "be": "much"}, {"be": "must be a quantity"}),
]


@pytest.mark.parametrize(("body", "expected"), REFUSED, ids=range(len(REFUSED)))
def test_what_is_wrong_is_named_by_its_field(body: dict[str, Any], expected: dict[str, str]) -> None:
    found = reasons(body)
    for field, words in expected.items():
        assert words in found[field]


def test_every_reason_is_told_at_once_and_none_twice() -> None:
    body = {"symbol": "", "side": "up", "qty": -1, "quote_amount": 5, "frob": 1, "stopp_loss": 3, "limit_price": "NaN"}
    found = said(body)
    assert isinstance(found, Malformed)
    assert sorted(reason.field for reason in found.reasons) == sorted([*body, "signal_id"])


def test_context_is_kept_whole_or_refused_and_never_more_than_a_broker_takes_in_a_confirmation() -> None:
    full = {f"k{number}": "\U0001f512" * 1000 for number in range(64)}  # four bytes each
    found = signal(OPEN | {"context": full})
    assert dict(found.context) == full
    confirmed = Confirmed(at_ns=1, signal_id="s-1", outcome=Outcome.REJECTED, context=found.context)
    assert len(row_line(OutboxRow(1, confirmation_event(confirmed)))) < 1_000_000
    more = {f"m{number}": "x" * 1000 for number in range(64)}
    assert "at most 65536" in reasons(OPEN | {"context": full, "metadata": more})["context"]
    assert (
        "at most 65536" in reasons({"type": "surefire", "data": OPEN | {"context": full}, "metadata": more})["context"]
    )


def test_the_signal_id_of_a_refused_body_is_kept_for_who_looks_for_it() -> None:
    found = said(OPEN | {"qty": "x"})
    assert isinstance(found, Malformed)
    assert found.signal_id == "s-1"
    assert json.loads(found.raw) == OPEN | {"qty": "x"}


def test_a_number_stays_as_it_was_written() -> None:
    assert str(signal(b'{"signal_id":"s","symbol":"BTCUSDT","side":"buy","qty":1.10}').size.qty) == "1.10"
    assert str(signal(b'{"signal_id":"s","symbol":"BTCUSDT","side":"buy","qty":"1.10"}').size.qty) == "1.10"


def test_a_source_set_to_one_dialect_takes_nothing_else() -> None:
    assert "is not 'ai_decision'" in reasons({"type": "surefire", "data": OPEN}, "ai_decision")["type"]
    assert "is not 'surefire'" in reasons({"type": "ess.cleared"}, "surefire")["type"]
    assert "is not 'control'" in reasons(OPEN, "control")[""]
    assert "unknown dialect" in reasons(OPEN, "klingon")[""]
    assert "entry" in reasons(OPEN | {"entry": 5}, "surefire")


# -------------------------------------------------------------------------------------------- ids, time, account, terms


def test_without_an_account_of_its_own_a_body_gets_that_of_the_terms_or_is_refused() -> None:
    assert signal(OPEN).account == "main"
    assert signal(OPEN | {"account": "other"}).account == "other"
    assert reasons(OPEN, terms=DialectTerms()) == {"account": "is missing"}


def test_a_missing_id_is_taken_from_where_the_transport_found_the_body() -> None:
    nameless = {key: value for key, value in OPEN.items() if key != "signal_id"}
    assert signal(nameless, fallback_id="file:120").signal_id == "file:120"
    assert signal(OPEN, fallback_id="file:120").signal_id == "s-1"
    assert "repeat" in reasons(nameless)["signal_id"]
    assert "transport" in reasons(nameless, fallback_id="a\nb")["signal_id"]


def test_the_trace_id_is_the_transports_else_the_bodys_else_follows_from_the_signal() -> None:
    assert signal(OPEN, trace_id="header").trace_id == "header"
    both = signal(OPEN | {"trace_id": "body"}, trace_id="header")
    assert (both.trace_id, both.context) == ("header", (("trace_id", "body"),))
    assert signal(OPEN | {"trace_id": "body"}).trace_id == "body"
    assert signal(OPEN).trace_id == signal(OPEN | {"qty": 7}).trace_id != signal(OPEN | {"signal_id": "s-2"}).trace_id


def test_a_signal_lives_from_its_making_or_else_its_arrival() -> None:
    assert signal(OPEN).valid_until_ns == NOW + 10 * SECOND
    assert signal(OPEN | {"ttl_seconds": "2.5"}).valid_until_ns == NOW + 2_500_000_000
    assert signal(OPEN | {"ttl_ms": 250}).valid_until_ns == NOW + 250_000_000
    assert signal(OPEN | {"account": "slow"}).valid_until_ns == NOW + 60 * SECOND
    late = signal(OPEN | {"created": NOW // SECOND - 30})
    assert (late.created_ns, late.valid_until_ns) == (NOW - 30 * SECOND, NOW - 20 * SECOND)
    assert signal(OPEN | {"valid_until": "2026-01-02T03:05:05Z"}).valid_until_ns == NOW + 60 * SECOND


def test_a_clock_that_runs_ahead_does_not_lengthen_a_signals_life() -> None:
    ahead = signal(OPEN | {"created": NOW // SECOND + 3600})
    assert ahead.created_ns == NOW + 3600 * SECOND
    assert ahead.valid_until_ns == NOW + 10 * SECOND


def test_the_same_content_has_the_same_hash_and_any_other_value_another() -> None:
    first = signal(OPEN)
    assert signal(dict(reversed(OPEN.items()))).body_hash == first.body_hash
    assert signal(json.dumps(OPEN, indent=8).encode()).body_hash == first.body_hash
    for key, value in (("qty", "0.06"), ("side", "sell"), ("symbol", "ETHUSDT"), ("note", "x"), ("stop_loss", 1)):
        assert signal(OPEN | {key: value}).body_hash != first.body_hash


def test_a_dialect_of_ones_own_is_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    native = DIALECTS["surefire"]
    mine = msgspec.structs.replace(
        native,
        table={**native.table, "richtung": native.table["side"]},
        marks=frozenset({"richtung"}),
        events=("mine",),
    )
    monkeypatch.setitem(DIALECTS, "mine", mine)
    body = {"signal_id": "s", "symbol": "BTCUSDT", "richtung": "sell", "qty": 1}
    assert signal(body).dialect == "mine"
    assert signal(body, "mine").side is Side.SELL
    assert signal({"type": "mine", "data": body}).side is Side.SELL


# ------------------------------------------------------------------------------------------------------ control events


def control(body: Any, **more: Any) -> Control:
    found = said(body, **more)
    assert isinstance(found, Control), found
    return found


def test_an_emergency_stop_is_heard_whatever_else_it_says() -> None:
    tripped = control({"type": "ess.tripped", "id": "e-1", "level": "CRITICAL", "extra": {"a": [1]}})
    assert (tripped.name, tripped.control_id, tripped.account) == ("ess.tripped", "e-1", "")
    assert json.loads(tripped.body) == {"id": "e-1", "level": "CRITICAL", "extra": {"a": [1]}}
    assert control({"event": "ess.tripped", "id": ["?"]}).control_id
    assert control({"event": "ess.tripped", "odd": 1, "data": {"id": "e-3"}}).control_id == "e-3"


def test_its_end_is_read_strictly() -> None:
    assert control({"type": "ess.cleared", "id": "e-2", "reason": "false alarm"}).name == "ess.cleared"
    assert "is not known" in reasons({"type": "ess.cleared", "id": "e-2", "scope": "venue"})["scope"]
    assert "whole engine" in reasons({"type": "ess.cleared", "account": "main", "data": {"id": "e"}})["account"]


def test_new_limits_come_typed_and_exact() -> None:
    limits = {
        "positions_max": 2,
        "drawdown_max": "0.10",
        "symbols": ["BTCUSDT"],
        "adjust_stops": True,
        "loss_latch": "day",
    }
    updated = control({"type": "policy.updated", "id": "p-1", "data": {"account": "main", "limits": limits}})
    assert (updated.name, updated.account, updated.control_id) == ("policy.updated", "main", "p-1")
    assert dict(updated.changes) == {
        "positions_max": 2,
        "drawdown_max": Decimal("0.10"),
        "symbols": ("BTCUSDT",),
        "adjust_stops": True,
        "loss_latch": "day",
    }


@pytest.mark.parametrize(
    ("data", "field", "words"),
    [
        ({"limits": {"position_max": 1}}, "data.limits", "did you mean 'positions_max'"),
        ({"limits": {"positions_max": 1.5}}, "data.limits", "whole number"),
        ({"limits": {"drawdown_max": -1}}, "data.limits", "negative"),
        ({"limits": {}}, "data.limits", "at least one"),
        ({"limits": 5}, "data.limits", "object"),
        ({}, "limits", "missing"),
    ],
)
def test_limits_that_are_wrong_are_refused_by_name(data: dict[str, Any], field: str, words: str) -> None:
    assert words in reasons({"type": "policy.updated", "id": "p", "data": data})[field]


def test_a_promoted_model_is_recorded_whole() -> None:
    promoted = control({"type": "model.promoted", "id": "m-1", "data": {"model": "lstm", "version": "12"}})
    assert json.loads(promoted.body) == {"model": "lstm", "version": "12"}


def test_only_the_sources_that_may_steer_do() -> None:
    terms = DialectTerms(account="main", control_sources=("bus",))
    for event in ("ess.cleared", "policy.updated", "model.promoted"):
        assert "may not send" in reasons({"type": event, "id": "e", "data": {}}, terms=terms)[""]


def test_an_emergency_is_believed_of_every_source() -> None:
    terms = DialectTerms(account="main", control_sources=("bus",))
    assert control({"type": "ess.tripped", "id": "e"}, terms=terms).name == "ess.tripped"


# ------------------------------------------------------------------------------------------------- every reason at once


def test_flaws_of_the_json_are_told_together_with_what_else_is_wrong() -> None:
    raw = (
        b'{"signal_id": "s", "symbol": "BTCUSDT", "qty": 1e400, "stop_loss": NaN, "colour": 1, "tif": "x", "tif": "y"}'
    )
    found = decode(raw, None, DialectTerms(account="main"), source="test", received_ns=1)
    assert isinstance(found, Malformed) and found.signal_id == "s"
    told = {r.field: r.reason for r in found.reasons}
    assert "out of all bounds" in told["qty"] and "not a finite number" in told["stop_loss"]
    assert "not known" in told["colour"] and "is missing" in told["side"]
    assert [r.field for r in found.reasons].count("qty") == 1  # given, though flawed: not missing as well
    of_tif = [r.reason for r in found.reasons if r.field == "tif"]
    assert any("given more than once" in r for r in of_tif) and any("must be one of gtc, ioc" in r for r in of_tif)


def test_an_emergency_is_heard_through_flaws() -> None:
    raw = b'{"type": "ess.tripped", "id": "e-1", "loss": 1e999, "loss": NaN}'
    found = decode(raw, None, DialectTerms(account="main"), source="test", received_ns=1)
    assert isinstance(found, Control) and found.control_id == "e-1"


def test_a_price_is_the_limits() -> None:
    assert signal({**OPEN, "order_type": "limit", "price": "60000"}).limit_price == Decimal("60000")
    assert "says the same" in reasons({**OPEN, "order_type": "limit", "price": "1", "limit_price": "1"})["limit_price"]


# ------------------------------------------------------------------------------------------------------------- fuzzing

VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["buy", "sell", "open", "close", "1", "-1", "NaN", "BTCUSDT", "enter_trade", "\ud800", "\u202e"]),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=5), st.text(max_size=5), max_size=3),
)
KEYS = sorted(
    {key for dialect in DIALECTS.values() for key in dialect.table} | {"type", "data", "event", "dialect", "x"}
)
SEEDS = [body for _, body, _ in TABLE] + [body for body, _ in REFUSED]
CONTROL_SEEDS: list[dict[str, Any]] = [
    {"type": "policy.updated", "data": {"limits": {"positions_max": 2}}},
    {"type": "ess.tripped", "id": "x"},
    {"type": "ess.cleared", "id": "x"},
]


@given(st.sampled_from(SEEDS + CONTROL_SEEDS), st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5))
@settings(max_examples=400, deadline=None)
def test_a_mutated_body_is_a_signal_a_control_or_malformed(body: dict[str, Any], changes: dict[str, Any]) -> None:
    found = said(body | changes)
    check(found)


@given(st.sampled_from([json.dumps(seed).encode() for seed in SEEDS]), st.randoms(use_true_random=False))
@settings(max_examples=300, deadline=None)
def test_mutated_bytes_too(raw: bytes, rng: random.Random) -> None:
    mutated = bytearray(raw)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(mutated))
        match rng.randrange(3):
            case 0:
                mutated[place] = rng.randrange(256)
            case 1:
                del mutated[place : place + rng.randint(1, 9)]
            case 2:
                mutated[place:place] = rng.choice([b'"', b"{", b"]", b"\\", b"1e400", b"NaN", b'"a":1,', b"\xff", b"0"])
        if not mutated:
            return
    check(said(bytes(mutated)))


# Words that may say once more what follows from the others, or what is the default.
REDUNDANT = {
    *("action", "decision", "signal", "side", "direction", "symbol", "pair", "instrument", "ticker"),
    *("order_type", "tif", "time_in_force", "reduce_only", "hedge"),
}


@pytest.mark.parametrize(("dialect", "body", "expected"), TABLE, ids=range(len(TABLE)))
def test_nothing_is_dropped_silently(dialect: str, body: dict[str, Any], expected: dict[str, Any]) -> None:
    """One more key with a value: refused, or to be seen in the signal."""
    before = msgspec.structs.replace(signal(body), body_hash="")
    for key in KEYS:
        for value in (0.37, "2026-01-02T03:04:01Z", "sell", True, {"k": "v"}, "+7 BTC"):
            if body.get(key) is None and key not in REDUNDANT:
                after = said(body | {key: value})
                assert not isinstance(after, Signal) or msgspec.structs.replace(after, body_hash="") != before, key


@given(st.binary(max_size=200), st.sampled_from([None, "control", "nope", *DIALECTS]))
@settings(max_examples=200, deadline=None)
def test_arbitrary_bytes_too(raw: bytes, dialect: str | None) -> None:
    check(said(raw, dialect))


def check(found: Signal | Control | Malformed) -> None:
    """What every answer must hold. All of it can be written to the journal."""
    msgspec.json.encode(found)
    match found:
        case Signal():
            assert found.symbol
            assert found.account
            assert 1 <= len(found.signal_id) <= 128 and found.signal_id.isascii() and found.signal_id.isprintable()
            assert found.action is not Action.OPEN or (found.side is not None and found.size is not None)
            assert (
                found.order_type is OrderType.MARKET or found.limit_price is not None or found.action is Action.RECORD
            )
            assert msgspec.json.decode(msgspec.json.encode(found), type=Signal) == found
        case Control():
            json.loads(found.body)
            assert found.control_id
        case Malformed():
            assert found.reasons
            assert len(found.raw) <= 2000
            assert all(reason.reason for reason in found.reasons)


@pytest.mark.parametrize("kilobytes", [64, 900])
def test_a_large_hostile_body_costs_time_in_proportion(kilobytes: int) -> None:
    count = kilobytes * 1024 // 14
    for raw in (
        b"{" + b",".join(b'"key%07d":1' % n for n in range(count)) + b"}",
        b'{"context":{' + b",".join(b'"key%07d":1' % n for n in range(count)) + b"}}",
        b'{"be":"' + b"1" * (kilobytes * 1000) + b'"}',
        b'{"created":"' + b"2" * (kilobytes * 1000) + b'"}',
        b'{"qty":"' + b"." * (kilobytes * 1000) + b'"}',
        b'{"symbol":"' + b"/" * (kilobytes * 1000) + b'"}',
        b'{"' + b"x" * (kilobytes * 1000) + b'":1}',
    ):
        assert isinstance(said(raw), Malformed)
        assert quickest(partial(said, raw)) < 0.002 * kilobytes + 0.05
