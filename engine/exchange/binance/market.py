"""Public data of spot and futures: REST, the WebSocket API and the rows of the market streams."""

from decimal import Decimal
from itertools import islice
from typing import Any

from engine.core.messages import ZERO, Side
from engine.core.money import plain
from engine.exchange.binance.caller import Caller, limit_of
from engine.exchange.binance.codes import Refused
from engine.exchange.params import Params, json_list, whole, word
from engine.exchange.screen import Candle, Screen, Screens, Trade
from engine.market.events import Level

Row = dict[str, Any]

INTERVALS = {"1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30, "1h": 60, "2h": 120, "4h": 240, "6h": 360, "8h": 480}
INTERVALS |= {"12h": 720, "1d": 1440, "1w": 7 * 1440}
_FUNDING_MS = 8 * 3600 * 1000


def ping(caller: Caller, params: Params) -> Row:
    return {}


def time(caller: Caller, params: Params) -> Row:
    return {"serverTime": caller.now_ms}


def depth(caller: Caller, params: Params) -> Row:
    screen = caller.screen(params)
    bids, asks = sides(caller.screens, screen, limit_of(params, 500 if caller.category == "linear" else 100, 5000))
    row: Row = {"lastUpdateId": screen.changes, "bids": levels(bids), "asks": levels(asks)}
    return row if caller.category == "spot" else row | {"E": caller.now_ms, "T": caller.now_ms}


def trades(caller: Caller, params: Params) -> list[Row]:
    screen = caller.screen(params)
    newest = list(islice(reversed(screen.trades), limit_of(params, 500, 1000)))
    return [
        {
            "id": trade.number,
            "price": plain(trade.event.price),
            "qty": plain(trade.event.qty),
            "quoteQty": plain(trade.event.price * trade.event.qty),
            "time": trade.event.at_ns // 1_000_000,
            "isBuyerMaker": trade.event.aggressor is Side.SELL,
            "isBestMatch": True,
        }
        for trade in reversed(newest)
    ]


def agg_trades(caller: Caller, params: Params) -> list[Row]:
    screen = caller.screen(params)
    newest = list(islice(reversed(screen.trades), limit_of(params, 500, 1000)))
    return [
        {
            "a": trade.number,
            "p": plain(trade.event.price),
            "q": plain(trade.event.qty),
            "f": trade.number,
            "l": trade.number,
            "T": trade.event.at_ns // 1_000_000,
            "m": trade.event.aggressor is Side.SELL,
            "M": True,
        }
        for trade in reversed(newest)
    ]


def klines(caller: Caller, params: Params) -> list[list[Any]]:
    screen, minutes = caller.screen(params), INTERVALS.get(word(params, "interval"))
    if minutes is None:
        raise Refused(-1120, "Invalid interval.")
    start, end = whole(params, "startTime"), whole(params, "endTime")
    rows = [kline_row(candle, minutes) for candle in screen.candles(minutes)]
    rows = [row for row in rows if (start is None or row[0] >= start) and (end is None or row[0] <= end)]
    limit = limit_of(params, 500, 1500)
    return rows[:limit] if start is not None else rows[-limit:]


def ticker_price(caller: Caller, params: Params) -> Any:
    def row(screen: Screen) -> Row:
        found = {"symbol": screen.listing.symbol, "price": plain(caller.screens.last(screen.listing))}
        return found if caller.category == "spot" else found | {"time": caller.now_ms}

    return _each(caller, params, row)


def ticker_book(caller: Caller, params: Params) -> Any:
    def row(screen: Screen) -> Row:
        quote = caller.screens.quote(screen.listing)
        figures = (quote.bid, quote.bid_qty, quote.ask, quote.ask_qty) if quote else (ZERO,) * 4
        names = ("bidPrice", "bidQty", "askPrice", "askQty")
        found: Row = {"symbol": screen.listing.symbol, **dict(zip(names, map(plain, figures), strict=True))}
        return found if caller.category == "spot" else found | {"time": caller.now_ms, "lastUpdateId": screen.changes}

    return _each(caller, params, row)


def ticker_day(caller: Caller, params: Params) -> Any:
    return _each(caller, params, lambda screen: _day(caller, screen))


def avg_price(caller: Caller, params: Params) -> Row:
    screen = caller.screen(params)
    return {"mins": 5, "price": plain(caller.screens.last(screen.listing)), "closeTime": caller.now_ms}


def premium_index(caller: Caller, params: Params) -> Any:
    def row(screen: Screen) -> Row:
        mark = plain(caller.screens.mark(screen.listing))
        return {
            "symbol": screen.listing.symbol,
            "markPrice": mark,
            "indexPrice": mark,
            "estimatedSettlePrice": mark,
            "lastFundingRate": plain(screen.funding),
            "interestRate": "0.0001",
            "nextFundingTime": next_funding(caller.now_ms),
            "time": caller.now_ms,
        }

    return _each(caller, params, row)


def funding_info(caller: Caller, params: Params) -> list[Row]:
    """Only adjusted symbols are listed, and none is."""
    return []


# ------------------------------------------------------------------------------------------- shared with the streams


def sides(screens: Screens, screen: Screen, deep: int) -> tuple[list[Level], list[Level]]:
    book, quote = screens.book(screen.listing), screens.quote(screen.listing)
    if book is not None and not book.broken:
        return list(book.levels(Side.BUY, deep)), list(book.levels(Side.SELL, deep))
    return ([(quote.bid, quote.bid_qty)], [(quote.ask, quote.ask_qty)]) if quote else ([], [])


def levels(side: list[Level]) -> list[list[str]]:
    return [[plain(price), plain(qty)] for price, qty in side]


def kline_row(candle: Candle, minutes: int) -> list[Any]:
    start_ms = candle.start_ns // 1_000_000
    figures = [plain(x) for x in (candle.open, candle.high, candle.low, candle.close, candle.volume)]
    row: list[Any] = [start_ms, *figures, start_ms + minutes * 60_000 - 1]
    return [*row, plain(candle.turnover), candle.trades, plain(candle.volume), plain(candle.turnover), "0"]


def trade_event(screen: Screen, trade: Trade, kind: str, now_ms: int) -> Row:
    """`kind` is "trade" or "aggTrade"."""
    event = trade.event
    at_ms, taker_sells = event.at_ns // 1_000_000, event.aggressor is Side.SELL
    row: Row = {"e": kind, "E": now_ms, "s": screen.listing.symbol, "p": plain(event.price), "q": plain(event.qty)}
    row |= {"T": at_ms, "m": taker_sells, "M": True}
    if kind == "trade":
        return row | {"t": trade.number} | ({"X": "MARKET"} if screen.listing.category == "linear" else {})
    return row | {"a": trade.number, "f": trade.number, "l": trade.number}


def next_funding(now_ms: int) -> int:
    return now_ms - now_ms % _FUNDING_MS + _FUNDING_MS


# ------------------------------------------------------------------------------------------------------------- inside


def _each(caller: Caller, params: Params, row: Any) -> Any:
    """Of one symbol the row, of several or all a list."""
    if word(params, "symbol"):
        return row(caller.screen(params))
    chosen = caller.screens.in_category(caller.category)
    wanted = json_list(params, "symbols")
    if wanted:
        chosen = [screen for screen in chosen if screen.listing.symbol in wanted]
        if len(chosen) != len(wanted):
            raise Refused(-1121, "Invalid symbol.")
    return [row(screen) for screen in chosen]


def _day(caller: Caller, screen: Screen) -> Row:
    listing, day = screen.listing, screen.day
    last, quote = caller.screens.last(listing), caller.screens.quote(listing)
    opened = day.open if day else last
    volume, turnover = (day.volume, day.turnover) if day else (ZERO, ZERO)
    row: Row = {
        "symbol": listing.symbol,
        "priceChange": plain(last - opened),
        "priceChangePercent": plain(round((last - opened) / opened * 100, 3)) if opened else "0",
        "weightedAvgPrice": plain(round(turnover / volume, 8)) if volume else "0",
        "lastPrice": plain(last),
        "lastQty": plain(screen.trades[-1].event.qty) if screen.trades else "0",
        "openPrice": plain(opened),
        "highPrice": plain(day.high if day else last),
        "lowPrice": plain(day.low if day else last),
        "volume": plain(volume),
        "quoteVolume": plain(turnover),
        "openTime": day.start_ns // 1_000_000 if day else caller.now_ms,
        "closeTime": caller.now_ms,
        "firstId": 1,
        "lastId": screen.trades[-1].number if screen.trades else 0,
        "count": day.trades if day else 0,
    }
    if caller.category == "spot":
        figures = (quote.bid, quote.bid_qty, quote.ask, quote.ask_qty) if quote else (Decimal(0),) * 4
        row |= dict(zip(("bidPrice", "bidQty", "askPrice", "askQty"), map(plain, figures), strict=True))
        row["prevClosePrice"] = plain(opened)
    return row
