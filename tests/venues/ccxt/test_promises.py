"""What is read off an exchange's `has` and `features`, and what is said of it before anybody trades."""

import inspect
from typing import Any

import pytest
from msgspec.structs import replace

from engine.core.messages import InstrumentKind, Leg, OrderType, Rejection, Side, TimeInForce
from engine.venues.ccxt import promises
from engine.venues.ccxt.hosts import environment
from engine.venues.ccxt.lines import Hello, Ready
from engine.venues.ccxt.orders import create
from engine.venues.ccxt.promises import Abilities, abilities, settles_absence
from engine.venues.ccxt.rows import MarketRow, listing
from engine.venues.ccxt.worker import make, ready
from tests.venues.ccxt.local import D, order

SPOT, LINEAR = InstrumentKind.SPOT, InstrumentKind.LINEAR


def able(exchange: str, kind: InstrumentKind = LINEAR) -> Abilities:
    """As ccxt itself tells it; no request is made for it."""
    pytest.importorskip("ccxt")
    words = ("key", "secret", "password", "uid")
    hello = Hello(exchange, "spot" if kind is SPOT else "swap", "mainnet", dict.fromkeys(words, "x"), 1000, 2, 5000)
    return abilities(ready(make(hello, None), hello), kind)  # type: ignore[arg-type]


def said(of: Abilities) -> str:
    return " / ".join(remark.text for remark in promises.promises(of, 2.0))


def test_the_three_that_the_local_exchange_speaks_can_do_what_it_takes() -> None:
    for exchange, kind in (("bybit", LINEAR), ("bybit", SPOT), ("binance", SPOT), ("binanceusdm", LINEAR)):
        found = able(exchange, kind)
        assert found.missing == () and found.marks and found.looks and found.cancels and found.stops
        assert settles_absence(found) and not found.buys_by_quote and found.clock
        assert "stays in doubt" not in said(found)


def test_what_an_exchange_lacks_is_said() -> None:
    kraken = able("kraken", SPOT)
    assert not kraken.marks and not kraken.looks and not settles_absence(kraken) and kraken.trades_days == 0
    for words in ("carry no client id", "no look-up by client id", "never sent again", "more than 50 executions"):
        assert words in said(kraken)
    okx = able("okx")
    assert okx.marks and okx.looks and not settles_absence(okx)
    assert "an order that is not found may still come" in said(okx)
    assert "asked for every 2 s" in said(okx) and "in processes of its own" in said(okx)
    gate = able("gate", SPOT)
    assert gate.buys_by_quote and "market buys are by amount of quote" in said(gate)


def test_what_ccxt_cannot_do_at_all_prevents_a_start() -> None:
    bare = abilities(Ready(version="4.5.90", exchange="tiny", has={"createOrder": True}), LINEAR)
    refused = [remark for remark in promises.promises(bare, 2.0) if not remark.ok]
    assert len(refused) == 1 and "fetchMyTrades" in refused[0].text and "fetchPositions" in refused[0].text
    assert "no stop orders" in said(bare) and "tells no time" in said(bare) and "no IOC, FOK, PO" in said(bare)
    assert "funding is not told" in said(bare)


@pytest.mark.parametrize("name", ["MARKS", "LOOKS", "CANCELS"])
def test_the_tables_are_what_the_pinned_sources_do(name: str) -> None:
    ccxt = pytest.importorskip("ccxt")
    methods = {"MARKS": "create_", "LOOKS": "fetch_order", "CANCELS": "cancel_order"}
    for exchange in getattr(promises, name):
        source = _source(getattr(ccxt, exchange), methods[name])
        assert "'clientOrderId'" in source, exchange
    assert promises.LOOKS <= promises.MARKS and promises.EDITS <= promises.MARKS
    assert promises.PROVES <= promises.LOOKS | promises.BYBIT


def _source(kind: type, beginning: str) -> str:
    text = ""
    for owner in kind.__mro__:
        if owner.__module__.startswith("ccxt.base") or owner is object:
            continue
        for name, method in vars(owner).items():
            if (name.startswith(beginning) or name == "order_request") and callable(method):
                text += inspect.getsource(method)
    return text


BTC = listing(
    MarketRow("BTC/USDT:USDT", "BTC", "USDT", "USDT", True, True, "0.01", "1", "0.1"),
    "x",
    LINEAR,
    4,
)
BARE = Abilities(
    exchange="x",
    kind=LINEAR,
    version="",
    clock=True,
    window=True,
    marks=True,
    looks=True,
    cancels=True,
    edits=False,
    one_order=True,
    closed_orders="",
    stops="stopLossPrice",
    trigger_lists=False,
    trigger_asks=False,
    tifs=("IOC", "PO"),
    buys_by_quote=False,
    trades_limit=50,
    trades_days=7,
    orders_limit=0,
    funding=False,
    charges=False,
    leverage=False,
    position_mode=False,
    missing=(),
)


def arguments(able: Abilities = BARE, **fields: Any) -> Any:
    assert BTC is not None
    return create(order("e", **fields), BTC, able)


def test_an_order_is_written_by_our_own_rules_as_text() -> None:
    cid = order("e").cid
    assert arguments(qty=D("0.03")) == ("BTC/USDT:USDT", "market", "buy", "3", None, {"clientOrderId": cid})
    limit = arguments(order_type=OrderType.LIMIT, price=D("60000.10"), tif=TimeInForce.IOC, qty=D("1E+1"))
    assert limit[3:] == ("1000", "60000.1", {"clientOrderId": cid, "timeInForce": "IOC"})
    post = arguments(order_type=OrderType.LIMIT, price=D(1), tif=TimeInForce.POST_ONLY)
    assert post[5]["postOnly"] is True
    stop = arguments(leg=Leg.STOP, order_type=OrderType.STOP_MARKET, trigger_price=D(59000))
    assert stop[5]["stopLossPrice"] == "59000" and stop[5]["reduceOnly"] is True
    triggers = replace(BARE, stops="triggerPrice", marks=False)
    up = arguments(triggers, leg=Leg.STOP, side=Side.BUY, order_type=OrderType.STOP_MARKET, trigger_price=D(61000))
    assert up[5] == {"triggerPrice": "61000", "triggerDirection": "ascending", "reduceOnly": True}
    target = arguments(triggers, leg=Leg.TARGET, order_type=OrderType.TAKE_PROFIT_MARKET, trigger_price=D(62000))
    assert target[5]["triggerDirection"] == "ascending"


@pytest.mark.parametrize(
    ("able", "fields"),
    [
        (BARE, {"qty": D("0.015")}),  # one contract and a half
        (BARE, {"order_type": OrderType.LIMIT, "price": D(1), "tif": TimeInForce.FOK}),
        (BARE, {"order_type": OrderType.LIMIT}),
        (replace(BARE, stops=""), {"leg": Leg.STOP, "order_type": OrderType.STOP_MARKET, "trigger_price": D(1)}),
        (replace(BARE, kind=SPOT, buys_by_quote=True), {"qty": D("0.01")}),
    ],
)
def test_what_is_lacking_is_refused_and_nothing_is_sent(able: Abilities, fields: dict[str, Any]) -> None:
    answer = arguments(able, **fields)
    assert isinstance(answer, Rejection) and answer.kind == "invalid"


def test_hosts_are_words_of_ccxts_or_this_machine() -> None:
    from engine.venues.admission import Inadmissible

    assert [environment(host) for host in ("mainnet", "testnet", "demo", "http://127.0.0.1:9")] == [
        "live",
        "testnet",
        "demo",
        "local",
    ]
    with pytest.raises(Inadmissible):
        environment("https://api.example.com")


def test_funding_that_ccxt_passes_on_as_a_fee_is_known_to_be_one() -> None:
    """An exchange's own `execFee` is positive when it was paid; of the rest ccxt tells an income."""
    ccxt = pytest.importorskip("ccxt")
    row = {"symbol": "BTCUSDT", "execType": "Funding", "execFee": "0.036", "execTime": "1710950400000", "execId": "x"}
    assert ccxt.bybit().parse_income(row)["amount"] == 0.036, "the pinned version turns it by itself now"
    assert [able(name).charges for name in ("bybit", "phemex", "binanceusdm", "okx")] == [True, True, False, False]
