"""The demo's comparison of the books with the venue's truth can fail, and says in what."""

from decimal import Decimal
from pathlib import Path

import trio

from actors.demo import ACCOUNT, CASH, differences
from actors.rehearsal import at_exchange
from engine.core.ids import client_order_id
from engine.core.messages import (
    BalanceReport,
    Filled,
    FillReport,
    Leg,
    OrderReport,
    OrderType,
    PositionReport,
    Side,
)
from engine.runtime.clock import live_clock
from engine.runtime.config import parse
from engine.runtime.journal.memory import MemoryDisk, MemoryJournal
from engine.venues.paper import Truth

CID = client_order_id("demo", ACCOUNT, "s", Leg.ENTRY, 0)
REPORT = FillReport("BTCUSDT", "e1", CID, "v1", Side.BUY, Decimal(1), Decimal(100), Decimal("0.05"), "USDT")


def found(*booked: Filled, truth: Truth) -> tuple[str, ...]:
    async def compare() -> tuple[str, ...]:
        journal = MemoryJournal(MemoryDisk(), live_clock())
        await journal.open()
        await journal.durable(journal.append(booked))
        return differences(truth, journal.reader(), "USDT")

    return trio.run(compare)


def truth(*executions: FillReport, cash: Decimal = CASH, more: bool = False) -> Truth:
    order = OrderReport(
        symbol="BTCUSDT", cid=CID, venue_order_id="v1", status="open", side=Side.BUY, order_type=OrderType.LIMIT,
        qty=Decimal(1), filled_qty=Decimal(0),
    )  # fmt: skip
    held = PositionReport("BTCUSDT", Decimal(1), Decimal(100), 1)
    balances = (BalanceReport("USDT", cash, cash),)
    return Truth((order,) if more else (), executions, balances, (held,) if more else (), 1)


def filled(exec_id: str = "e1", price: str = "100") -> Filled:
    return Filled(
        at_ns=1, account=ACCOUNT, symbol="BTCUSDT", cid=CID, exec_id=exec_id, venue_order_id="v1", side=Side.BUY,
        qty=Decimal(1), price=Decimal(price), fee=Decimal(0), fee_asset="USDT", fee_quote=Decimal(0),
    )  # fmt: skip


def test_books_that_are_the_same_have_no_differences() -> None:
    assert found(truth=truth()) == ()
    assert found(filled(), truth=truth(REPORT)) == ()


def test_an_execution_that_is_missing_doubled_or_another_is_told() -> None:
    assert found(truth=truth(REPORT)) == ("executions: 0 of ours unknown there, 1 not booked",)
    assert found(filled(price="101"), truth=truth(REPORT)) == ("executions: 1 of ours unknown there, 1 not booked",)
    twice = found(filled(), filled("e2"), truth=truth(REPORT))
    assert twice == ("executions: 1 of ours unknown there, 0 not booked",)


def test_positions_orders_and_cash_that_only_the_venue_knows_are_told() -> None:
    assert found(truth=truth(cash=CASH - 5, more=True)) == (
        "positions: ours none, the venue's BTCUSDT 1",
        "live orders: 0 only ours, 1 only the venue's",
        "cash: ours moved by 0 USDT, the venue's wallet by -5",
    )


def test_a_rehearsal_writes_no_journal_but_its_own(tmp_path: Path) -> None:
    """A configured PostgreSQL journal is the real trading's: its books must not hold what was rehearsed."""
    text = '[journal]\nurl = "postgresql://h/db"\n[rehearsal]\nvenue = "bybit"\n'
    config = parse(text, "surefire.toml")
    rehearsed = at_exchange(config, {"bybit": 1}, ("BTCUSDT",), tmp_path)
    assert (rehearsed.journal.url, rehearsed.journal.path) == ("", str(tmp_path / "journal.sqlite"))
