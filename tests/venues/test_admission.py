"""Who may be traded with: hosts, worlds, keys, clocks, each judged in a sentence."""

import pytest

from engine.venues.admission import (
    Inadmissible,
    KeyFacts,
    clock_remark,
    environment_remark,
    key_remarks,
    refuse,
)
from engine.venues.bybit.hosts import hosts
from engine.venues.offset import Known, Moment, Offset

NOW = Moment(1_700_000_000_000_000_000, 5_000_000_000)


@pytest.mark.parametrize(
    ("env", "environment", "fits"),
    [
        ("live", "live", True),
        ("live", "testnet", False),
        ("live", "demo", False),
        ("live", "local", False),
        ("testnet", "testnet", True),
        ("testnet", "demo", True),
        ("testnet", "local", True),
        ("testnet", "live", False),
        ("paper", "local", True),
        ("paper", "live", False),
        ("paper", "testnet", False),
    ],
)
def test_an_engine_trades_only_in_its_own_world(env: str, environment: str, fits: bool):
    assert environment_remark(env, environment, "somewhere").ok is fits


@pytest.mark.parametrize(
    ("host", "environment", "rest", "private", "trade"),
    [
        ("mainnet", "live", "https://api.bybit.com", "wss://stream.bybit.com/v5/private", True),
        ("https://api.bybit.com", "live", "https://api.bybit.com", "wss://stream.bybit.com/v5/private", True),
        ("https://api.bytick.com/", "live", "https://api.bytick.com", "wss://stream.bybit.com/v5/private", True),
        ("https://api.bybit.tr", "live", "https://api.bybit.tr", "wss://stream.bybit.tr/v5/private", True),
        ("testnet", "testnet", "https://api-testnet.bybit.com", "wss://stream-testnet.bybit.com/v5/private", True),
        ("demo", "demo", "https://api-demo.bybit.com", "wss://stream-demo.bybit.com/v5/private", False),
        ("http://127.0.0.1:9200", "local", "http://127.0.0.1:9200", "ws://127.0.0.1:9200/v5/private", True),
    ],
)
def test_where_bybit_is(host: str, environment: str, rest: str, private: str, trade: bool):
    found = hosts(host)
    assert (found.environment, found.rest, found.private) == (environment, rest, private)
    assert found.trade == (private.replace("private", "trade") if trade else ""), "demo has no trade socket"


def test_demo_listens_to_the_mainnets_market():
    assert hosts("demo").public == "wss://stream.bybit.com"


@pytest.mark.parametrize(
    "host",
    [
        "",
        "main",
        "127.0.0.1",
        "http://api.bybit.com",  # without TLS
        "https://api.bybit.com.evil.example",
        "https://evil.example/api.bybit.com",
        "https://api.bybit.com/v5",
        "http://10.0.0.7:9200",
        "ftp://127.0.0.1",
    ],
)
def test_an_order_goes_nowhere_else(host: str):
    with pytest.raises(Inadmissible, match="none of Bybit's"):
        hosts(host)


@pytest.mark.parametrize(
    ("facts", "environment", "allowed", "fits"),
    [
        (KeyFacts(may_trade=True, may_withdraw=False), "live", False, True),
        (KeyFacts(may_trade=False, may_withdraw=False), "live", False, False),
        (KeyFacts(may_trade=True, may_withdraw=True), "testnet", False, False),
        (KeyFacts(may_trade=True, may_withdraw=True), "live", True, True),
        (KeyFacts(), "live", False, False),  # it does not say, and the money is real
        (KeyFacts(), "demo", False, True),
        (KeyFacts(may_trade=True, may_withdraw=False, bound_to_address=False), "live", False, True),
    ],
)
def test_what_a_key_may_do_decides(facts: KeyFacts, environment: str, allowed: bool, fits: bool):
    assert all(remark.ok for remark in key_remarks(facts, environment, allowed)) is fits


@pytest.mark.parametrize(
    ("known", "fits"),
    [
        (Known(), False),
        (Known(Offset(3_600_000_000_000, 10_000_000, NOW)), True),  # an hour away, and known well
        (Known(Offset(0, 600_000_000, NOW)), False),
    ],
)
def test_a_clock_may_be_away_but_must_be_known(known: Known, fits: bool):
    assert clock_remark(known, NOW).ok is fits


def test_everything_that_is_wrong_is_said_at_once():
    remarks = (*key_remarks(KeyFacts(False, True), "live", False), clock_remark(Known(), NOW))
    with pytest.raises(Inadmissible) as caught:
        refuse(remarks, "desk")
    assert [line.split(": ")[:2] for line in str(caught.value).splitlines()] == [
        ["account desk", "key"],
        ["account desk", "withdrawals"],
        ["account desk", "clock"],
    ]
