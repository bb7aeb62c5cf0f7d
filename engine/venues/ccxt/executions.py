"""An account's executions and funding: every one of a symbol since a moment, with the client id of its order."""

from collections.abc import Iterable
from functools import partial

import msgspec

from engine.core.messages import Failed, FillReport, FundingReport
from engine.venues.binance.orders import id_of_canceled
from engine.venues.ccxt import rows
from engine.venues.ccxt.looking import Looking
from engine.venues.ccxt.site import Site, each

FUNDING_MS = 600_000
DAY_MS = 24 * 3600 * 1000


class Executions:
    def __init__(self, site: Site, looking: Looking) -> None:
        self._site, self._looking = site, looking
        self._funded_ms = 0  # up to when funding was told

    async def since(self, since_ns: int) -> list[FillReport] | Failed:
        found: list[FillReport] = []
        for held in self._site.traded():
            part = await self._of(held, since_ns // 1_000_000)
            if isinstance(part, Failed):
                return part
            found += part
        return found

    async def funding(self, since_ms: int) -> list[FundingReport] | Failed:
        """Since it was last told; asked for seldom: it comes a few times a day, and is dear where requests weigh."""
        asked_ms = self._site.venue_ns() // 1_000_000
        if asked_ms - self._funded_ms < FUNDING_MS:
            return []
        since_ms = min(since_ms, self._funded_ms or since_ms)
        charges = self._site.able.charges
        found: list[FundingReport] = []
        for held in self._site.traded():
            part = await self._site.ask("fetch_funding_history", (held.unified, since_ms), _FUNDINGS)
            told = partial(rows.funding_report, held=held, charges=charges)
            made = part if isinstance(part, Failed) else each(part, told)
            if isinstance(made, Failed):
                return made
            found += made
        self._funded_ms = asked_ms
        return found

    async def _of(self, held: rows.Listing, since_ms: int) -> list[FillReport] | Failed:
        """Every execution of a symbol: the time is cut until each part fits into one answer, so that none is missed
        in whatever order the exchange tells them, and nothing can go on for ever."""
        able = self._site.able
        until_ms = max(self._site.venue_ns() // 1_000_000, since_ms) + 1_000
        span_ms = able.trades_days * DAY_MS - 60_000 if able.trades_days else until_ms - since_ms
        spans = [(start, min(start + span_ms, until_ms)) for start in range(since_ms, until_ms, span_ms)]
        found: dict[str, rows.TradeRow] = {}
        while spans:
            start_ms, end_ms = spans.pop()
            params = {"until": end_ms} if able.trades_days else {}
            arguments = (held.unified, start_ms, able.trades_limit, params)
            part = await self._site.ask("fetch_my_trades", arguments, _TRADES)
            if isinstance(part, Failed):
                return part
            if len(part) >= able.trades_limit:
                if not able.trades_days or end_ms - start_ms <= 1:
                    return Failed(f"{held.unified}: more executions than one answer shows")
                middle_ms = (start_ms + end_ms) // 2
                spans += [(start_ms, middle_ms), (middle_ms, end_ms)]
                continue
            found |= {f"{row.id}/{row.order}": row for row in part}
        asked_for = [row for row in found.values() if row.timestamp is None or row.timestamp >= since_ms]
        return await self._named(asked_for, held)

    async def _named(self, trades: Iterable[rows.TradeRow], held: rows.Listing) -> list[FillReport] | Failed:
        """With the client id of each one's order, which most exchanges do not tell with the execution."""
        reports: list[FillReport] = []
        for row in trades:
            cid = await self._whose(row, held)
            if isinstance(cid, Failed):
                return cid
            made = each((row,), partial(rows.fill_report, held=held, cid=cid))
            if isinstance(made, Failed):
                return made
            reports += made
        return reports

    async def _whose(self, trade: rows.TradeRow, held: rows.Listing) -> str | Failed:
        venue_id = trade.order or ""
        if (known := self._looking.owner(venue_id)) is not None:
            return known
        if trade.clientOrderId:
            self._looking.remember(venue_id, id_of_canceled(trade.clientOrderId))
            return id_of_canceled(trade.clientOrderId)
        if not (venue_id and self._site.able.one_order and self._site.able.marks):
            return ""
        row = await self._looking.one(venue_id, held, {})
        if row is None:
            return Failed(f"an execution of order {venue_id}, of which nothing can be read yet")
        if isinstance(row, Failed):
            return row
        self._looking.remember(venue_id, self._looking.cid_of(row))
        return self._looking.cid_of(row)


_TRADES = msgspec.json.Decoder(list[rows.TradeRow])
_FUNDINGS = msgspec.json.Decoder(list[rows.FundingRow])
