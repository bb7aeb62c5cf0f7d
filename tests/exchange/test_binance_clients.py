"""Unmodified Binance clients trade on the local exchange, and see exactly what the exchange knows."""

from decimal import Decimal
from typing import Any

import pytest

from tests.exchange.site import exchange
from tests.exchange.test_bybit_clients import ccxt_fills, ccxt_open
from tests.exchange.views import number, truth_fills, truth_orders, truth_positions, truth_wallet


def test_ccxt_trades_on_usdm_and_its_books_are_the_exchanges() -> None:
    pytest.importorskip("ccxt")
    with exchange() as site:
        seen, truth = site.client("ccxt_binance", "usdm"), site.truth("binance-usdm")
    assert (seen["edited"]["amount"], seen["refused"]) == (0.03, "InvalidOrder")
    assert ccxt_open(seen["open"]) == truth_orders(truth)
    assert [o[0] for o in truth_orders(truth)] == ["c-stop", "c-ws-2"]
    assert ccxt_fills(seen["trades"]) == [fill[1:] for fill in truth_fills(truth)]
    assert ccxt_fills(seen["streamed"]["trades"]) == ccxt_fills(seen["trades"])
    assert [(p["contracts"], p["side"]) for p in seen["positions"]] == [(0.02, "long")]
    assert truth_positions(truth) == [("BTCUSDT", number("0.02"))]
    equity = truth_wallet(truth)["USDT"] + Decimal(str(seen["positions"][0]["unrealizedPnl"]))  # ccxt's total is that
    assert wallet(seen["total"]) == as_floats(truth_wallet(truth) | {"USDT": equity})
    assert seen["streamed"]["balances"][-1]["USDT"] == float(truth_wallet(truth)["USDT"])
    orders = seen["streamed"]["orders"]
    assert (orders["c-market"], orders["c-limit"], orders["c-ws"]) == ("closed", "canceled", "canceled")


def test_ccxt_trades_on_spot_and_its_books_are_the_exchanges() -> None:
    pytest.importorskip("ccxt")
    with exchange() as site:
        seen, truth = site.client("ccxt_binance", "spot"), site.truth("binance-spot")
    assert seen["refused"] == "InsufficientFunds"
    assert ccxt_open(seen["open"]) == truth_orders(truth)
    assert [o[0] for o in truth_orders(truth)] == ["c-stop", "c-ws-2"]
    assert ccxt_fills(seen["trades"]) == sorted(fill[1:] for fill in truth_fills(truth))
    assert {fill[3] for fill in ccxt_fills(seen["trades"])} == {"BTC"}  # a buyer pays in what he received
    assert ccxt_fills(seen["streamed"]["trades"]) == ccxt_fills(seen["trades"])
    assert wallet(seen["total"]) == as_floats(truth_wallet(truth))
    last = seen["streamed"]["balances"][-1]
    assert {asset: last[asset] for asset in ("BTC", "USDT")} == {
        asset: total for asset, total in as_floats(truth_wallet(truth)).items() if asset in ("BTC", "USDT")
    }
    orders = seen["streamed"]["orders"]
    assert (orders["c-market"], orders["c-limit"], orders["c-ws"]) == ("closed", "canceled", "canceled")


def wallet(total: dict[str, Any]) -> dict[str, float]:
    return {asset: amount for asset, amount in total.items() if amount}


def as_floats(totals: dict[str, Decimal]) -> dict[str, float]:
    return {asset: float(total) for asset, total in totals.items()}
