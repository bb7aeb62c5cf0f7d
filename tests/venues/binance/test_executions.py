"""Executions of one order, asked for by its number: however many there are."""

from collections.abc import Mapping
from decimal import Decimal

from msgspec import Struct

from engine.core.messages import Failed, FillReport, NotFound, OrderReport, Side
from engine.venues.binance.errors import Verdict
from engine.venues.binance.executions import Executions
from engine.venues.binance.names import Names
from engine.venues.binance.paging import PAGE

NOW_NS = 1_700_000_100_000_000_000
CID = "sf1abc"


class Row(Struct):
    symbol: str
    id: int
    orderId: int
    time: int


async def test_an_order_with_more_executions_than_a_page_holds_is_read_whole() -> None:
    """By its number there is one page only, which was taken for all: the books would have been short of the rest."""
    rows = [Row("BTCUSDT", n, 7 if n % 2 else 8, 1_700_000_000_000 + n) for n in range(1, 2 * PAGE + 200)]
    asked: list[Mapping[str, object]] = []

    async def fetch(parameters: Mapping[str, object]) -> tuple[Row, ...] | Verdict:
        asked.append(parameters)
        found = [row for row in rows if row.orderId == parameters.get("orderId", row.orderId)]
        found = [row for row in found if row.id >= int(str(parameters.get("fromId", 0)))]
        found = [row for row in found if row.time >= int(str(parameters.get("startTime", 0)))]
        return tuple(found[:PAGE])

    def fill(row: Row, owner: str) -> FillReport:
        return FillReport(
            exec_id=str(row.id),
            venue_order_id=str(row.orderId),
            cid=owner,
            symbol=row.symbol,
            side=Side.BUY,
            qty=Decimal(1),
            price=Decimal(1),
            fee=Decimal(0),
            fee_asset="USDT",
            venue_ns=row.time * 1_000_000,
        )

    async def order_of(symbol: str, number: int) -> OrderReport | NotFound | Failed:
        return NotFound(cid=str(number))

    names = Names()
    names.learn("BTCUSDT", "7", CID)
    executions = Executions(names, fetch, fill, order_of, 86_400_000_000_000)
    found = await executions.found(("BTCUSDT",), 1_700_000_000_000_000_000, NOW_NS, CID)
    assert not isinstance(found, Failed)
    assert [f.exec_id for f in found] == [str(row.id) for row in rows if row.orderId == 7]
    assert asked[0]["orderId"] == 7
