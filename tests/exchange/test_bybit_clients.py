"""Unmodified Bybit clients trade on the local exchange, and see exactly what the exchange knows."""

from collections.abc import Iterator
from typing import Any

import pytest

from tests.exchange.site import Site, exchange
from tests.exchange.views import number, truth_fills, truth_orders, truth_positions, truth_wallet


@pytest.fixture
def site() -> Iterator[Site]:
    with exchange() as running:
        yield running


def test_pybit_trades_by_http_and_websocket_and_its_books_are_the_exchanges(site: Site) -> None:
    pytest.importorskip("pybit")
    # pybit notes what it has sent after it has sent it, and its reader ends in silence at an answer that it does not
    # know yet: each must take a network's time. What is subscribed to in public comes as soon as its answer.
    for operation, woe in (("order.", "delay_reply"), ("private", "delay_reply"), ("public", "delay")):
        site.fault(woe, on=operation, face="bybit", times=0, ms=500)
    seen = site.client("pybit_client")
    truth = site.truth("bybit")

    assert seen["amended"]["qty"] == "0.02" and seen["canceled"]["orderStatus"] == "Cancelled"
    assert (seen["late"], seen["duplicate"], seen["batch"]) == (110001, 110072, [0, 10001])
    assert sorted(seen["replies"]) == [
        ["order.cancel", 0, "ws-2"],
        ["order.create", 0, "ws-1"],
        ["order.create", 0, "ws-2"],
    ]
    assert seen["spot order"]["orderStatus"] == "PartiallyFilledCanceled"  # an amount of quote leaves dust
    assert seen["key"]["Wallet"] == []
    assert bybit_open(seen["open"]) == truth_orders(truth)
    assert bybit_fills(seen["executions"]) == truth_fills(truth)
    assert len(truth_fills(truth)) == 2
    assert bybit_positions(seen["positions"]) == truth_positions(truth) == [("BTCUSDT", number("0.01"))]
    assert bybit_wallet(seen["wallet"]) == truth_wallet(truth)

    streamed = seen["streamed"]
    assert bybit_fills(streamed["execution"]) == truth_fills(truth)
    assert last_statuses(streamed["order"]) == {
        "rest-1": "Cancelled",
        "taker-1": "Filled",
        "stop-1": "Untriggered",
        "": "New",
        "ws-1": "Cancelled",
        "ws-2": "Cancelled",
        "spot-1": "PartiallyFilledCanceled",
        "spot-2": "New",
    }
    post_only = next(o for o in streamed["order"] if o["orderLinkId"] == "ws-1" and o["orderStatus"] == "Cancelled")
    assert post_only["rejectReason"] == "EC_PostOnlyWillTakeLiquidity"
    assert streamed["position"][-1]["size"] == "0.01"
    assert bybit_wallet(streamed["wallet"][-1]) == truth_wallet(truth)
    assert streamed["book"][0]["a"][0][0] > streamed["book"][0]["b"][0][0]


def test_ccxt_trades_by_rest_and_websocket_and_its_books_are_the_exchanges(site: Site) -> None:
    pytest.importorskip("ccxt")
    seen = site.client("ccxt_bybit")
    truth = site.truth("bybit")

    assert (seen["edited"]["amount"], seen["refused"]) == (0.03, "InsufficientFunds")
    assert ccxt_open(seen["open"]) == truth_orders(truth)
    assert ccxt_fills(seen["trades"]) == ccxt_fills(seen["streamed"]["trades"])
    assert ccxt_fills(seen["trades"]) == [fill[1:] for fill in sorted(truth_fills(truth), key=lambda f: f[1:])]
    assert [(p["symbol"], p["contracts"], p["side"]) for p in seen["positions"]] == [("BTC/USDT:USDT", 0.02, "long")]
    assert truth_positions(truth) == [("BTCUSDT", number("0.02"))]
    assert {asset: number(total) for asset, total in seen["total"].items()} == {
        asset: number(float(total)) for asset, total in truth_wallet(truth).items()
    }
    streamed = seen["streamed"]
    assert streamed["position"]["contracts"] == 0.02
    assert streamed["orders"]["c-market"] == "closed" and streamed["orders"]["c-limit"] == "canceled"
    assert streamed["spread"][0][1] == streamed["spread"][1]


def ccxt_open(rows: list[dict[str, Any]]) -> list[Any]:
    return sorted((r["clientOrderId"] or "", number(r["amount"]), number(r["filled"])) for r in rows)


def ccxt_fills(rows: list[dict[str, Any]]) -> list[Any]:
    """ccxt's trades do not name the client's id."""
    assert len({r["id"] for r in rows}) == len(rows)
    return sorted(
        (number(r["amount"]), number(r["price"]), number(r["fee"]["cost"]), r["fee"]["currency"]) for r in rows
    )


def bybit_open(rows: list[dict[str, Any]]) -> list[Any]:
    return sorted((r["orderLinkId"], number(r["qty"]), number(r["cumExecQty"])) for r in rows)


def bybit_fills(rows: list[dict[str, Any]]) -> list[Any]:
    assert len({r["execId"] for r in rows}) == len(rows)
    return sorted(
        (r["orderLinkId"], number(r["execQty"]), number(r["execPrice"]), number(r["execFee"]), r["feeCurrency"])
        for r in rows
    )


def bybit_positions(rows: list[dict[str, Any]]) -> list[Any]:
    return sorted((r["symbol"], number(r["size"]) * (1 if r["side"] == "Buy" else -1)) for r in rows)


def bybit_wallet(row: dict[str, Any]) -> dict[str, Any]:
    return {coin["coin"]: number(coin["walletBalance"]) for coin in row["coin"]}


def last_statuses(rows: list[dict[str, Any]]) -> dict[str, str]:
    return {row["orderLinkId"]: row["orderStatus"] for row in rows}
