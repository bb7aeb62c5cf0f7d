"""Who asks, and the little that spot and futures read of a request in the same way."""

from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from engine.core.messages import FillReport, FundingReport, Side
from engine.exchange.binance.codes import Refused, missing
from engine.exchange.binance.rows import trade_id
from engine.exchange.house import Listing, Member, Record
from engine.exchange.params import Params, whole, word
from engine.exchange.screen import Screen, Screens
from engine.exchange.terms import KeyTerms

Row = dict[str, Any]

_ALWAYS = ("timestamp", "recvWindow", "signature", "apiKey", "returnRateLimits")
_FEW = 100

SIDES = {"BUY": Side.BUY, "SELL": Side.SELL}


class Caller(Struct, frozen=True):
    """`key` and `member` only where the operation asks for a key."""

    screens: Screens
    category: str
    now_ns: int
    key: KeyTerms | None = None
    found: Member | None = None
    face: Any = None  # for the few operations that are about the face itself (rate limits, listen keys)

    @property
    def member(self) -> Member:
        assert self.found is not None, "a public operation asked for an account"
        return self.found

    @property
    def now_ms(self) -> int:
        return self.now_ns // 1_000_000

    def screen(self, params: Params) -> Screen:
        symbol = word(params, "symbol")
        if not symbol:
            raise missing("symbol")
        screen = self.screens.of(self.category, symbol)
        if screen is None:
            raise Refused(-1121, "Invalid symbol.")
        return screen

    def listing(self, params: Params) -> Listing:
        return self.screen(params).listing


def choice(params: Params, name: str, choices: dict[str, Any], code: int, default: str = "") -> Any:
    text = word(params, name) or default
    if not text:
        raise missing(name)
    if text not in choices:
        raise Refused(code, f"Invalid {name}.")
    return choices[text]


def within(params: Params, record: Record) -> bool:
    """startTime and endTime, milliseconds, of an order's beginning."""
    start, end = whole(params, "startTime"), whole(params, "endTime")
    at_ms = record.order.accepted_ns // 1_000_000
    return (start is None or at_ms >= start) and (end is None or at_ms <= end)


def check_known(params: Params, known: frozenset[str]) -> None:
    """A parameter that is not known is an error here, never passed over."""
    read = sum(name in known or name in _ALWAYS for name in params)
    if read != len(params):
        text = f"Not all sent parameters were read; read '{read}' parameter(s) but was sent '{len(params)}'."
        raise Refused(-1104, text)


def count_open(caller: Caller, symbol: str) -> int:
    """Open orders of an (inner) symbol; the rest is not counted while all together are few."""
    if len(caller.member.matching.open) < _FEW:
        return 0
    return sum(record.order.request.symbol == symbol for record in caller.member.open_records())


def trades(
    caller: Caller, params: Params, listing: Listing | None, start: int | None, end: int | None
) -> list[tuple[Record, FillReport]]:
    """Executions and their orders, oldest first: of a listing (None: of all), between two moments in milliseconds.

    `orderId`, `fromId` and `limit` are read here: the first ones where something says where to begin, else the last.
    """
    order_id, least = whole(params, "orderId"), whole(params, "fromId")
    found = []
    for fill in _executions(caller, order_id):
        record = caller.member.record_of(fill) if isinstance(fill, FillReport) else None
        if record is None or not isinstance(fill, FillReport) or (listing and record.listing is not listing):
            continue
        at_ms = fill.venue_ns // 1_000_000
        if (start is not None and at_ms < start) or (end is not None and at_ms > end):
            continue
        if (order_id is None or record.serial == order_id) and (least is None or trade_id(fill) >= least):
            found.append((record, fill))
    limit = limit_of(params, 500, 1000)
    return found[:limit] if least is not None or start is not None else found[-limit:]


def _executions(caller: Caller, order_id: int | None) -> Iterable[FillReport | FundingReport]:
    """Of one order, or all, oldest first."""
    if order_id is None:
        return caller.member.matching.executions
    record = caller.member.find(caller.category, order_id, "")
    return [] if record is None else record.fills


def of_symbol(caller: Caller, params: Params, records: Iterable[Record]) -> list[Record]:
    """Those that queries show yet; of all symbols where none is asked for."""
    listing = caller.listing(params) if word(params, "symbol") else None
    return [r for r in records if (listing is None or r.listing is listing) and caller.member.shows(r, caller.now_ns)]


def limit_of(params: Params, default: int, most: int) -> int:
    limit = whole(params, "limit")
    if limit is not None and limit <= 0:
        raise Refused(-1130, "Data sent for parameter 'limit' is not valid.")
    return min(limit or default, most)
