"""What the local exchange knows, in the names and ids that the clients of one of its faces see."""

import json
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from engine.core.messages import FillReport, FundingReport, OrderReport, PositionReport
from engine.exchange.admin import Truth as AdminTruth
from engine.exchange.asking import ask
from engine.venues.paper import Truth

CATEGORIES = {"bybit": "linear", "binance-spot": "spot", "binance-usdm": "linear"}  # Bybit's face has both
R = TypeVar("R", OrderReport, FillReport, PositionReport)


def truth_of(face: str, category: str, port: int, account: str = "main") -> Truth:
    """Asked of the admin on any face's port."""
    told = json.loads(ask("127.0.0.1", port, "GET", f"/truth?face={face}&account={account}"))[face][account]
    inner = msgspec.convert(told, AdminTruth)
    return Truth(
        tuple(outer(face, row) for row in inner.orders if is_of(category, row.symbol)),
        tuple(
            outer(face, row) if isinstance(row, FillReport) else _plain(row)
            for row in inner.executions
            if is_of(category, row.symbol)
        ),
        inner.balances,
        tuple(outer(face, row) for row in inner.positions if is_of(category, row.symbol)),
        0,
    )


def is_of(category: str, symbol: str) -> bool:
    return symbol.startswith(f"{category}:")


def outer(face: str, row: R) -> R:
    """One report of the exchange's own, as its client has it."""
    category, _, symbol = row.symbol.partition(":")
    if isinstance(row, FillReport):
        return replace(row, symbol=symbol, exec_id=exec_id(face, category, row.exec_id, row.venue_order_id))
    return replace(row, symbol=symbol)


def exec_id(face: str, category: str, inner: str, order_id: str) -> str:
    """Bybit's are UUIDs on futures and numbers on spot; Binance's, by our codec, the trade's number and the order's."""
    serial = int(inner[-10:])
    if face != "bybit":
        return f"{serial}-{int(order_id[-10:])}"
    if category == "linear":
        return f"e{serial % 0xFFFFFFF:07x}-5f1e-4a00-8000-{serial:012x}"
    return str(2_100_000_000_000_000_000 + serial)


def _plain(row: FundingReport) -> FundingReport:
    return replace(row, symbol=row.symbol.partition(":")[2])
