"""What can be read: committed state from the journal's reader; of the engine's memory only the quotes.

Reads are small (a page at most). From a file they run in the loop: a thread with work for the processor would cost it
more. Those that go over a network wait in a thread (`Ports.read`).
"""

from functools import partial
from typing import Annotated, Any, TypeAlias
from urllib.parse import quote, urlencode

import trio
from litestar import Response, get
from litestar.enums import MediaType
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, QueryParameter

from engine.core.messages import Confirmed, Order, Trade
from engine.core.performance import Breakdown, breakdown
from engine.runtime.journal.base import Shelf
from engine.web.explain import Explanation, buried, explain, order_ids, render_text
from engine.web.ports import Ports, Unknown
from engine.web.views import (
    AccountsPage,
    HaltsPage,
    LimitsPage,
    OrdersPage,
    PositionsPage,
    SignalsPage,
    TradesPage,
    UsagePage,
    position_view,
    signal_summary,
)
from engine.web.wire import encode

PAGE_MAX = 500
_HISTORY_MAX = 20_000  # closed trades and signals behind the performance figures, newest first

Limit: TypeAlias = Annotated[int, QueryParameter(ge=1, le=PAGE_MAX, description="How many at most.")]
Before: TypeAlias = Annotated[
    int, QueryParameter(ge=0, description="Only what is older than this moment (ns); 0: newest.")
]
Account: TypeAlias = Annotated[str | None, QueryParameter(description="Only this account.")]
Symbol: TypeAlias = Annotated[str | None, QueryParameter(description="Only this symbol.")]


def reading_routes(ports: Ports, base: str) -> list[HTTPRouteHandler]:
    """GET routes under `base`. Each answers 404 for an id that is not in the journal."""
    reader, read = ports.reader, ports.read

    @get(f"{base}/positions", summary="Positions with mark and unrealised PnL")
    async def positions(
        account: Account = None,
        every: Annotated[bool, QueryParameter(name="all", description="Flat ones too.")] = False,
    ) -> Response[PositionsPage]:
        rows = [p for p in await read(lambda: reader.positions(account)) if p.qty or every]
        return reply(PositionsPage(positions=tuple(position_view(p, ports.quote(p.symbol)) for p in rows)))

    @get(f"{base}/orders", summary="Orders, newest first")
    async def orders(
        account: Account = None,
        symbol: Symbol = None,
        live: Annotated[bool, QueryParameter(description="Only those that have not ended.")] = False,
        limit: Limit = 100,
    ) -> Response[OrdersPage]:
        return reply(OrdersPage(orders=await read(lambda: reader.orders(account, symbol, live, limit))))

    @get(f"{base}/trades", summary="Trades (a position from flat to flat), newest first")
    async def trades(account: Account = None, limit: Limit = 100, before: Before = 0) -> Response[TradesPage]:
        rows = await read(lambda: reader.trades(account, limit, before))
        following = _next(f"{base}/trades", limit, rows[-1].opened_ns, account) if len(rows) >= limit else None
        return reply(TradesPage(trades=rows, next=following))

    @get(f"{base}/trades/{{trade_id:path}}", summary="One trade; its id is account/symbol/serial")
    async def trade(trade_id: FromPath[str]) -> Response[Trade]:
        found = await read(lambda: reader.trade(trade_id.removeprefix("/")))
        if found is None:
            raise Unknown(f"there is no trade {trade_id.removeprefix('/')!r}")
        return reply(found)

    @get(f"{base}/signals", summary="Signals with what became of them, newest first")
    async def signals(limit: Limit = 100, before: Before = 0) -> Response[SignalsPage]:
        rows = await read(lambda: reader.signals(limit, before))
        following = _next(f"{base}/signals", limit, rows[-1].signal.received_ns) if len(rows) >= limit else None
        lines = tuple(signal_summary(r, f"{base}/signals/{quote(r.signal.signal_id)}") for r in rows)
        return reply(SignalsPage(signals=lines, next=following))

    @get(f"{base}/signals/{{signal_id:path}}", summary="The whole explanation of one signal")
    async def signal(
        signal_id: FromPath[str],
        form: Annotated[
            str, QueryParameter(name="format", pattern="^(json|text)$", description="json or text")
        ] = "json",
    ) -> Response[Explanation]:
        explanation = await read(lambda: explained(ports.reader, signal_id.removeprefix("/")))
        if form == "text":
            return Response(render_text(explanation), media_type=MediaType.TEXT)  # type: ignore[arg-type]
        return reply(explanation)

    @get(f"{base}/accounts", summary="Accounts with the baselines of their daily limits")
    async def accounts() -> Response[AccountsPage]:
        return reply(AccountsPage(accounts=await read(reader.accounts)))

    @get(f"{base}/limits", summary="The limits in force, for each account")
    async def limits() -> Response[LimitsPage]:
        return reply(LimitsPage(limits=await read(reader.limits)))

    @get(f"{base}/usage", summary="How much of each limit is used now, for each account that is held here")
    async def usage() -> Response[UsagePage]:
        return reply(UsagePage(accounts=ports.usage()))

    @get(f"{base}/halts", summary="Halts in force")
    async def halts() -> Response[HaltsPage]:
        return reply(HaltsPage(halts=ports.health().halts))

    @get(f"{base}/metrics", summary="Performance: win rate, PnL, drawdown, holding time, slippage, fees")
    async def performance(account: Account = None) -> Response[Breakdown]:
        return reply(breakdown(await _trades(ports, account), await _confirmations(ports, account)))

    return [positions, orders, trades, trade, signals, signal, accounts, limits, usage, halts, performance]


def reply(value: Any, status_code: int = 200) -> Response[Any]:
    """`value` as JSON with every field. A page that is refreshed must never show an older state from a cache."""
    headers = {"Cache-Control": "no-store"}
    return Response(encode(value), status_code=status_code, media_type=MediaType.JSON, headers=headers)


def explained(reader: Shelf, signal_id: str) -> Explanation:
    """Raises Unknown."""
    row = reader.signal(signal_id)
    if row is None:
        raise Unknown(buried(signal_id, reader.dead_letters(signal_id)))
    records = reader.story(row.signal.trace_id)
    orders = (reader.order(cid) for cid in order_ids(records))
    return explain(row, records, [order for order in orders if isinstance(order, Order)])


def _next(path: str, limit: int, before: int, account: str | None = None) -> str:
    query = {"limit": limit, "before": before} | ({"account": account} if account is not None else {})
    return f"{path}?{urlencode(query)}"


async def _trades(ports: Ports, account: str | None) -> list[Trade]:
    found: list[Trade] = []
    before = 0
    while len(found) < _HISTORY_MAX:
        page = await ports.read(partial(ports.reader.trades, account, PAGE_MAX, before))
        found += page
        if len(page) < PAGE_MAX:
            break
        before = page[-1].opened_ns
        await trio.lowlevel.checkpoint()  # orders go first
    return found


async def _confirmations(ports: Ports, account: str | None) -> list[Confirmed]:
    found: list[Confirmed] = []
    before = seen = 0
    while seen < _HISTORY_MAX:
        page = await ports.read(partial(ports.reader.signals, PAGE_MAX, before))
        found += [r.confirmed for r in page if r.confirmed and account in (None, r.signal.account)]
        seen += len(page)
        if len(page) < PAGE_MAX:
            break
        before = page[-1].signal.received_ns
        await trio.lowlevel.checkpoint()
    return found
