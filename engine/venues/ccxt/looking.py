"""Orders by client id, and whose an order is: by look-up where the exchange has one, else through its lists."""

from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from engine.core.messages import Failed, InstrumentKind, OrderReport
from engine.venues.binance.orders import cancel_id, id_of_canceled
from engine.venues.ccxt import errors, rows
from engine.venues.ccxt.lines import Told
from engine.venues.ccxt.process import Gone
from engine.venues.ccxt.promises import BYBIT, SWAPS_IDS, Abilities
from engine.venues.ccxt.site import Site, each, read
from engine.venues.ccxt.terms import QUESTION_SECONDS

IDS_MAX = 20_000


class Looking:
    """`learn` hears of every order that was read."""

    def __init__(self, site: Site, learn: Callable[[OrderReport], None]) -> None:
        self._site = site
        self._learn = learn
        self._cids: dict[str, str] = {}  # by the exchange's order id; "": not ours
        self._numbers: dict[str, str] = {}  # and the other way round

    async def find(self, held: rows.Listing, cid: str) -> OrderReport | Failed | None:
        """None: it is not there, which may prove nothing."""
        able = self._site.able
        return await (self._look(held, cid, able) if able.looks else self._search(held, cid, able))

    def number(self, cid: str) -> str:
        """The exchange's id of an order of ours; "" where it is not known."""
        return self._numbers.get(cid, "")

    def owner(self, venue_order_id: str) -> str | None:
        """The client id of an order; "" for one that is not ours, None for one never met."""
        return self._cids.get(venue_order_id)

    def remember(self, venue_order_id: str, cid: str) -> None:
        self._cids[venue_order_id] = cid
        if cid:
            self._numbers[cid] = venue_order_id
        for memory in (self._cids, self._numbers):
            if len(memory) > IDS_MAX:
                del memory[next(iter(memory))]

    def cid_of(self, row: rows.OrderRow) -> str:
        """On Binance Spot the id of its cancel takes the place of an order's own; ours leads back to it."""
        return id_of_canceled(row.clientOrderId or "") or self._cids.get(row.id or "", "")

    def reports(
        self, found: Iterable[rows.OrderRow], held: rows.Listing, cid: str = ""
    ) -> tuple[OrderReport, ...] | Failed:
        """`cid`: of the one order that was asked for."""

        def make(row: rows.OrderRow) -> OrderReport:
            report = rows.order_report(row, held, cid or self.cid_of(row))
            if report.cid:
                self.remember(report.venue_order_id, report.cid)
            self._learn(report)
            return report

        return each(found, make)

    async def one(self, venue_id: str, held: rows.Listing, params: dict[str, Any]) -> rows.OrderRow | Failed | None:
        """None: the exchange says that there is none."""
        more = {**params, "acknowledged": True} if self._site.able.exchange in BYBIT else params
        told = await self._site.questions.call("fetch_order", (venue_id, held.unified, more), QUESTION_SECONDS)
        if isinstance(told, Told) and told.sent and errors.known(told.error).kind is errors.Class.GONE:
            return None
        if isinstance(told, Gone) or told.error:
            return errors.failed(told)
        return read(told, ORDER)

    async def _look(self, held: rows.Listing, cid: str, able: Abilities) -> OrderReport | Failed | None:
        """By its client id, in every place; None: in none. Where that id changes with a cancel, also by its number."""
        own = self.number(cid)
        if able.exchange in SWAPS_IDS and able.kind is InstrumentKind.SPOT:
            for venue_id, params in ((own, {}), ("", {"clientOrderId": cid}), ("", {"clientOrderId": cancel_id(cid)})):
                found = await self._look_at_one(venue_id, held, cid, params) if venue_id or params else None
                if found is not None:
                    return found
            return None
        for trigger in (False, True) if able.trigger_asks else (False,):
            extra = {"trigger": True} if trigger else {}
            if able.exchange in BYBIT:
                found = await self._look_in_lists(held, cid, {"orderLinkId": cid, **extra}, able)
            else:
                found = await self._look_at_one("", held, cid, {"clientOrderId": cid, **extra})
            if found is not None:
                return found
        return None

    async def _look_in_lists(
        self, held: rows.Listing, cid: str, params: dict[str, Any], able: Abilities
    ) -> OrderReport | Failed | None:
        for method in ("fetch_open_orders", able.closed_orders):
            if not method:
                continue
            part = await self._site.ask(method, (held.unified, None, None, params), ORDERS)
            if isinstance(part, Failed):
                return part
            reports = self.reports([row for row in part if self.cid_of(row) == cid], held)
            if isinstance(reports, Failed):
                return reports
            if reports:
                return reports[0]
        return None

    async def _look_at_one(
        self, venue_id: str, held: rows.Listing, cid: str, params: dict[str, Any]
    ) -> OrderReport | Failed | None:
        row = await self.one(venue_id, held, params)
        if row is None or isinstance(row, Failed):
            return row
        if not venue_id and self.cid_of(row) != cid:
            return Failed("asked for one order, and told of another")
        reports = self.reports([row], held, cid)
        return reports if isinstance(reports, Failed) else reports[0]

    async def _search(self, held: rows.Listing, cid: str, able: Abilities) -> OrderReport | Failed | None:
        """Where no look-up is: by the exchange's id, if we were told it, else through the lists of orders."""
        own = self.number(cid)
        if own and able.one_order:
            return await self._look_at_one(own, held, cid, {})
        return await self._look_in_lists(held, cid, {}, able)


ORDER = msgspec.json.Decoder(rows.OrderRow)
ORDERS = msgspec.json.Decoder(list[rows.OrderRow])
