"""The exchange's truth and a client's view of it, brought into one form so that they can be compared."""

from decimal import Decimal
from typing import Any

Row = tuple[Any, ...]


def truth_orders(truth: dict[str, Any], category: str = "", open_only: bool = True) -> list[Row]:
    """(client id, quantity, filled) of orders, sorted; "" for those that the client gave no id."""
    orders = [o for o in truth["orders"] if o["symbol"].startswith(category)]
    return sorted(
        (_given(o["cid"]), number(o["qty"]), number(o.get("filled_qty", "0")))
        for o in orders
        if not open_only or o["status"] == "open"
    )


def truth_fills(truth: dict[str, Any], category: str = "") -> list[Row]:
    """(client id, quantity, price, fee, asset), sorted."""
    fills = [e for e in truth["executions"] if e["type"] == "FillReport" and e["symbol"].startswith(category)]
    return sorted(
        (_given(f["cid"]), number(f["qty"]), number(f["price"]), number(f["fee"]), f["fee_asset"]) for f in fills
    )


def truth_positions(truth: dict[str, Any]) -> list[Row]:
    """(symbol, signed quantity) of futures."""
    held = [p for p in truth["positions"] if p["symbol"].startswith("linear:")]
    return sorted((p["symbol"].removeprefix("linear:"), number(p["qty"])) for p in held)


def truth_wallet(truth: dict[str, Any]) -> dict[str, Decimal]:
    return {b["asset"]: number(b["total"]) for b in truth["balances"] if number(b["total"])}


def number(value: object) -> Decimal:
    return Decimal(str(value)).normalize() + 0


def _given(cid: str) -> str:
    return "" if cid.startswith("~") else cid
