"""Unmodified Binance clients trade on the local exchange, and see exactly what the exchange knows."""

from decimal import Decimal
from typing import Any

import pytest

from tests.exchange.site import Site, exchange
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


def test_python_binance_trades_on_both_and_its_books_are_the_exchanges() -> None:
    pytest.importorskip("binance.client")
    with exchange() as site:
        seen = site.client("python_binance")
        check_both(site, seen, mark="p")
    assert seen["spot"]["late"] == -2011
    canceled = next(e for e in seen["spot"]["events"] if e["e"] == "executionReport" and e["X"] == "CANCELED")
    assert (canceled["c"], canceled["C"]) == ("p-limit-cancel", "p-limit")  # the cancel has an id of its own
    assert "avgPrice" not in seen["usdm"]["market"]  # lost in July 2026
    assert seen["depth"]["U"] <= seen["depth"]["u"]


def test_binances_own_sdks_trade_on_both_and_their_books_are_the_exchanges() -> None:
    pytest.importorskip("binance_sdk_spot")
    pytest.importorskip("binance_sdk_derivatives_trading_usds_futures")
    with exchange() as site:
        seen = site.client("binance_sdk")
        check_both(site, seen, mark="o")
    assert "-2010" in seen["spot"]["refused"]
    assert seen["spot"]["by socket"]["clientOrderId"] == seen["usdm"]["by socket"]["clientOrderId"] == "o-ws"
    assert (seen["usdm"]["modified"]["origQty"], seen["usdm"]["modified"]["status"]) == ("0.02", "NEW")


def check_both(site: Site, seen: dict[str, Any], mark: str) -> None:
    """What the client read and what it heard against the exchange's truth, on spot and on futures."""
    spot, usdm = site.truth("binance-spot"), site.truth("binance-usdm")
    assert open_rows(seen["spot"]["open"]) == truth_orders(spot)
    assert fill_rows(seen["spot"]["trades"]) == sorted(fill[1:] for fill in truth_fills(spot))
    totals = {b["asset"]: number(b["free"]) + number(b["locked"]) for b in seen["spot"]["balances"]}
    assert {asset: total for asset, total in totals.items() if total} == truth_wallet(spot)
    heard = [e for e in seen["spot"]["events"] if e.get("x") == "TRADE"]
    assert heard_rows(heard) == fill_rows(seen["spot"]["trades"]) != []

    assert open_rows(seen["usdm"]["open"]) + algo_rows(seen["usdm"]["algos"]) == [
        (f"{mark}-ws", number("0.01"), number(0)),
        (f"{mark}-stop", number(0), number(0)),
    ]
    assert [name for name, *_ in truth_orders(usdm)] == [f"{mark}-stop", f"{mark}-ws"]
    assert fill_rows(seen["usdm"]["trades"]) == sorted(fill[1:] for fill in truth_fills(usdm))
    held = [(p["symbol"], number(p["positionAmt"])) for p in seen["usdm"]["positions"]]
    assert held == truth_positions(usdm) == [("BTCUSDT", number("0.02"))]
    wallets = {b["asset"]: number(b["balance"]) for b in seen["usdm"]["balances"]}
    assert {asset: total for asset, total in wallets.items() if total} == truth_wallet(usdm)
    orders = [e["o"] for e in seen["usdm"]["events"] if "o" in e and isinstance(e["o"], dict)]
    assert heard_rows([o for o in orders if o.get("x") == "TRADE"]) == fill_rows(seen["usdm"]["trades"])
    assert [o["x"] for o in orders if o.get("c") == f"{mark}-limit"] == ["NEW", "AMENDMENT", "CANCELED"]
    accounts = [e["a"] for e in seen["usdm"]["events"] if isinstance(e.get("a"), dict)]
    assert accounts[-1]["P"][0]["pa"] == "0.02"


def open_rows(rows: list[dict[str, Any]]) -> list[Any]:
    return sorted((r["clientOrderId"], number(r["origQty"]), number(r["executedQty"])) for r in rows)


def algo_rows(rows: list[dict[str, Any]]) -> list[Any]:
    return sorted((r["clientAlgoId"], number(r["quantity"]), number(0)) for r in rows)


def fill_rows(rows: list[dict[str, Any]]) -> list[Any]:
    return sorted((number(r["qty"]), number(r["price"]), number(r["commission"]), r["commissionAsset"]) for r in rows)


def heard_rows(events: list[dict[str, Any]]) -> list[Any]:
    return sorted((number(e["l"]), number(e["L"]), number(e["n"]), e["N"]) for e in events)


def wallet(total: dict[str, Any]) -> dict[str, float]:
    return {asset: amount for asset, amount in total.items() if amount}


def as_floats(totals: dict[str, Decimal]) -> dict[str, float]:
    return {asset: float(total) for asset, total in totals.items()}
