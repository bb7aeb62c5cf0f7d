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
    # pybit registers the callback of a WebSocket order after it has sent it: an answer must take a network's time.
    site.fault("delay_reply", on="order.", face="bybit", times=0, ms=30)
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
