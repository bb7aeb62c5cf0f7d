"""What an account may ask about itself: orders, executions, positions, wallet, key."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from typing import Any
from urllib.parse import quote, unquote

from engine.core.messages import FillReport, FundingReport
from engine.core.money import plain
from engine.exchange.bybit.codes import Refused
from engine.exchange.bybit.orders import Caller, category_of, listing_of
from engine.exchange.bybit.rows import (
    Row,
    execution_row,
    funding_row,
    order_row,
    position_row,
    serial_of,
    wallet_row,
)
from engine.exchange.house import Record
from engine.exchange.params import Params, number, whole, word

Result = dict[str, Any]

_WEEK_MS = 7 * 86_400_000


def realtime(caller: Caller, params: Params) -> Result:
    """Open orders; by id, or with openOnly=1, the recently closed ones too."""
    member = caller.member
    by_id = word(params, "orderId") or word(params, "orderLinkId")
    narrowed = by_id or word(params, "symbol") or word(params, "baseCoin") or word(params, "settleCoin")
    if category_of(params) == "linear" and not narrowed:
        raise Refused(10001, "params error: symbol, baseCoin or settleCoin is required")
    if by_id:
        return _orders(caller, params, (r for r in _named(caller, params) if member.at_hand(r)), 50)
    closed = member.recent() if whole(params, "openOnly") == 1 else ()
    return _orders(caller, params, chain(reversed(list(member.open_records())), closed), 50)


def history(caller: Caller, params: Params) -> Result:
    """Closed orders that are not yet forgotten."""
    _window(params)
    member, now_ns = caller.member, caller.now_ns
    if word(params, "orderId") or word(params, "orderLinkId"):
        found = (r for r in _named(caller, params) if not r.open and member.remembers(r, now_ns))
        return _orders(caller, params, found, 50)
    return _orders(caller, params, member.history(now_ns), 50)


def executions(caller: Caller, params: Params) -> Result:
    """Newest first; funding is among them."""
    category, (start, end) = category_of(params), _window(params)
    member = caller.member
    symbol, kind = word(params, "symbol"), word(params, "execType")
    by_id = word(params, "orderId") or word(params, "orderLinkId")
    reports: Iterable[FillReport | FundingReport] = reversed(member.matching.executions)
    if by_id:  # ids override all else
        reports = (fill for record in _named(caller, params) for fill in reversed(record.fills))

    def rows() -> Iterator[Row]:
        for report in reports:
            at_ms = report.venue_ns // 1_000_000
            listing = member.listings[report.symbol]
            if listing.category != category or (symbol and listing.symbol != symbol):
                continue
            if not by_id and ((start is not None and at_ms < start) or (end is not None and at_ms > end)):
                continue
            row = _execution(caller, report)
            if row is not None and kind in ("", row["execType"]):
                yield row

    return _page(params, rows(), lambda row: row["execId"], 100, default=50)


def positions(caller: Caller, params: Params) -> Result:
    """One symbol's row even if it is flat, else those that are not."""
    if category_of(params) != "linear":
        raise Refused(10001, "params error: category invalid")
    member, screens = caller.member, caller.screens
    if word(params, "symbol"):
        rows = [position_row(member, listing_of(caller, params), screens)]
    else:
        coin = word(params, "settleCoin")
        if not coin:
            raise Refused(10001, "params error: symbol or settleCoin is required")
        listings = [screen.listing for screen in screens.in_category("linear")]
        held = [one for one in listings if member.matching.account.qty(one.instrument.symbol)]
        rows = [position_row(member, one, screens) for one in held if one.instrument.quote == coin]
    return {"category": "linear", "list": rows, "nextPageCursor": ""}


def set_leverage(caller: Caller, params: Params) -> Result:
    listing = listing_of(caller, params)
    account, inner = caller.member.matching.account, listing.instrument
    buy, sell = number(params, "buyLeverage"), number(params, "sellLeverage")
    if listing.category != "linear" or buy is None or buy != sell or not 1 <= buy <= inner.leverage_max:
        raise Refused(10001, f"params error: leverage must be 1 to {inner.leverage_max}, the same on both sides")
    if account.leverage(inner) == buy:
        raise Refused(110043, "leverage not modified")
    account.set_leverage(inner.symbol, buy)
    return {}


def switch_mode(caller: Caller, params: Params) -> Result:
    """Only the one-way mode is offered."""
    category_of(params)
    if whole(params, "mode") == 0:
        raise Refused(110025, "Position mode is not modified")
    raise Refused(110029, "The exchange does not offer the hedge mode")


def wallet_balance(caller: Caller, params: Params) -> Result:
    if word(params, "accountType", "UNIFIED") != "UNIFIED":
        raise Refused(10001, "accountType only support UNIFIED.")
    coins = tuple(coin for coin in word(params, "coin").split(",") if coin)
    return {"list": [wallet_row(caller.member, caller.screens, coins)]}


def transaction_log(caller: Caller, params: Params) -> Result:
    """Transfers, newest first, for whoever names them; what else the ledger has is not kept here."""
    (start, end), kind = _window(params), word(params, "type")
    if kind not in ("TRANSFER_IN", "TRANSFER_OUT") or word(params, "category"):
        return {"list": [], "nextPageCursor": ""}
    found = (
        {
            "id": report.transfer_id,
            "symbol": "",
            "category": "",
            "side": "None",
            "type": report.kind,
            "transSubType": "",
            "currency": report.asset,
            "qty": "0",
            "size": "0",
            "funding": "",
            "fee": "0",
            "cashFlow": plain(report.amount),
            "change": plain(report.amount),
            "cashBalance": "",
            "transactionTime": str(report.venue_ns // 1_000_000),
        }
        for report in reversed(caller.member.transfers)
        if report.kind == kind and word(params, "currency") in ("", report.asset)
    )

    def within(row: Row) -> bool:
        at_ms = int(row["transactionTime"])
        return (start is None or at_ms >= start) and (end is None or at_ms <= end)

    return _page(params, filter(within, found), lambda row: row["id"], 50, default=20)


def account_info(caller: Caller, params: Params) -> Result:
    return {
        "unifiedMarginStatus": 5,
        "marginMode": "REGULAR_MARGIN",
        "dcpStatus": "OFF",
        "timeWindow": 0,
        "smpGroup": 0,
        "isMasterTrader": False,
        "spotHedgingStatus": "OFF",
        "updatedTime": str(caller.now_ns // 1_000_000),
    }


def coins(caller: Caller, params: Params) -> Result:
    """/v5/asset/coin/query-info: nothing can be deposited or withdrawn here."""
    found = dict.fromkeys(
        coin
        for listing in caller.member.listings.values()
        for coin in (listing.instrument.base, listing.instrument.quote)
    )
    wanted = word(params, "coin")
    rows = [{"name": coin, "coin": coin, "remainAmount": "0", "chains": []} for coin in found if wanted in ("", coin)]
    return {"rows": rows}


def fee_rate(caller: Caller, params: Params) -> Result:
    category, symbol = category_of(params), word(params, "symbol")
    account = caller.member.matching.account
    rows = [
        {
            "symbol": screen.listing.symbol,
            "baseCoin": "",
            "takerFeeRate": plain(account.fee_rate(screen.listing.instrument, maker=False)),
            "makerFeeRate": plain(account.fee_rate(screen.listing.instrument, maker=True)),
        }
        for screen in caller.screens.in_category(category)
        if symbol in ("", screen.listing.symbol)
    ]
    return {"category": category, "list": rows}


# ------------------------------------------------------------------------------------------------------------- inside


def _orders(caller: Caller, params: Params, records: Iterable[Record], most: int) -> Result:
    category, symbol, status = category_of(params), word(params, "symbol"), word(params, "orderStatus")
    coins = (word(params, "baseCoin"), word(params, "settleCoin"))
    stops = word(params, "orderFilter")

    def rows() -> Iterator[Row]:
        for record in records:
            listing = record.listing
            if listing.category != category or not caller.member.shows(record, caller.now_ns):
                continue
            if (symbol and listing.symbol != symbol) or not _of_coins(record, coins):
                continue
            if stops and (stops != "Order") != record.order.request.order_type.conditional:
                continue
            row = order_row(record, record.order.report(), record.value)
            if status in ("", row["orderStatus"]):
                yield row

    return _page(params, rows(), lambda row: row["orderId"], most, default=20)


def _named(caller: Caller, params: Params) -> list[Record]:
    """The one by order id, which wins, or by link id."""
    named = word(params, "orderId")
    serial = serial_of(named) if named else None
    if named and serial is None:
        return []
    record = caller.member.find(category_of(params), serial, word(params, "orderLinkId"))
    return [] if record is None else [record]


def _of_coins(record: Record, coins: tuple[str, str]) -> bool:
    base, settle = coins
    instrument = record.listing.instrument
    return base in ("", instrument.base) and settle in ("", instrument.quote)


def _execution(caller: Caller, report: FillReport | FundingReport) -> Row | None:
    member = caller.member
    listing = member.listings[report.symbol]
    mark = caller.screens.mark(listing)
    if isinstance(report, FundingReport):
        qty = member.matching.account.qty(report.symbol)
        return funding_row(listing, report, qty, mark, member.steps)
    record = member.record_of(report)
    if record is None:
        return None
    return execution_row(record, report, record.order.remaining, mark, member.steps)


def _page(params: Params, rows: Iterator[Row], name: Callable[[Row], str], most: int, default: int) -> Result:
    """The cursor is the last row's name, percent-encoded as Bybit sends it, and comes back so or decoded."""
    limit = whole(params, "limit") or default
    if not 1 <= limit <= most:
        limit = most if limit > most else default
    after = unquote(word(params, "cursor"))
    if after:
        for row in rows:
            if _cursor(name(row)) == after:
                break
    page: list[Row] = []
    for row in rows:
        if len(page) == limit:
            cursor = quote(_cursor(name(page[-1])), safe="")
            return {"category": word(params, "category"), "list": page, "nextPageCursor": cursor}
        page.append(row)
    return {"category": word(params, "category"), "list": page, "nextPageCursor": ""}


def _cursor(name: str) -> str:
    return f"{name}:0,{name}:0"


def _window(params: Params) -> tuple[int | None, int | None]:
    """Milliseconds. Raises Refused when it is longer than seven days."""
    start, end = whole(params, "startTime"), whole(params, "endTime")
    if start is not None and end is not None and not 0 <= end - start <= _WEEK_MS:
        raise Refused(10001, "params error: the time range must be within 7 days")
    return start, end
