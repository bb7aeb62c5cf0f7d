"""Public data: /v5/market/*, and the rows that the public streams share with it."""

from collections.abc import Callable
from itertools import islice
from typing import Any

from engine.core.messages import ZERO, Side
from engine.core.money import plain, step_ceiling, step_floor
from engine.exchange.bybit.codes import Refused
from engine.exchange.bybit.orders import BAND_DOWN, BAND_UP, category_of
from engine.exchange.params import Params, whole, word
from engine.exchange.screen import Screen, Screens, Trade
from engine.market.events import Level

Result = dict[str, Any]

_INTERVALS = {"1": 1, "3": 3, "5": 5, "15": 15, "30": 30, "60": 60, "120": 120, "240": 240, "360": 360, "720": 720}
_INTERVALS |= {"D": 1440, "W": 7 * 1440}
_EIGHT_HOURS_MS = 8 * 3600 * 1000


def time(screens: Screens, params: Params, now_ns: int) -> Result:
    return {"timeSecond": str(now_ns // 1_000_000_000), "timeNano": str(now_ns)}


def instruments(screens: Screens, params: Params, now_ns: int) -> Result:
    """Categories that are not traded here have no instruments, which is no error."""
    if word(params, "category") in ("inverse", "option"):
        return {"category": word(params, "category"), "list": [], "nextPageCursor": ""}
    rows = [(_linear if _category(params) == "linear" else _spot)(screen) for screen in _chosen(screens, params)]
    return {"category": _category(params), "list": rows, "nextPageCursor": ""}


def tickers(screens: Screens, params: Params, now_ns: int) -> Result:
    rows = [ticker_row(screens, screen, now_ns) for screen in _chosen(screens, params)]
    return {"category": _category(params), "list": rows}


def orderbook(screens: Screens, params: Params, now_ns: int) -> Result:
    screen = _one(screens, params)
    limit = whole(params, "limit") or (1 if screen.listing.category == "spot" else 25)
    bids, asks = sides(screens, screen, max(1, min(limit, 1000)))
    book = screens.book(screen.listing)
    number, at_ms = (book.last_id, book.at_ns // 1_000_000) if book else (0, now_ns // 1_000_000)
    found = {"s": screen.listing.symbol, "b": level_rows(bids), "a": level_rows(asks)}
    return {**found, "ts": now_ns // 1_000_000, "u": number, "seq": number, "cts": at_ms}


def recent_trade(screens: Screens, params: Params, now_ns: int) -> Result:
    screen = _one(screens, params)
    newest = islice(reversed(screen.trades), max(1, min(whole(params, "limit") or 60, 1000)))
    rows = [
        {
            "execId": str(trade.number),
            "symbol": screen.listing.symbol,
            "price": plain(trade.event.price),
            "size": plain(trade.event.qty),
            "side": "Buy" if trade.event.aggressor is Side.BUY else "Sell",
            "time": str(trade.event.at_ns // 1_000_000),
            "isBlockTrade": False,
            "isRPITrade": False,
            "seq": str(trade.number),
        }
        for trade in newest
    ]
    return {"category": _category(params), "list": rows}


def kline(screens: Screens, params: Params, now_ns: int) -> Result:
    screen, interval = _one(screens, params), _INTERVALS.get(word(params, "interval"))
    if interval is None:
        raise Refused(10001, "params error: interval invalid")
    start, end = whole(params, "start") or 0, whole(params, "end") or now_ns
    rows = []
    for candle in reversed(screen.candles(interval)):
        at_ms = candle.start_ns // 1_000_000
        if start <= at_ms <= end:
            figures = (candle.open, candle.high, candle.low, candle.close, candle.volume, candle.turnover)
            rows.append([str(at_ms), *map(plain, figures)])
    limit = max(1, min(whole(params, "limit") or 200, 1000))
    return {"category": _category(params), "symbol": screen.listing.symbol, "list": rows[:limit]}


def price_limit(screens: Screens, params: Params, now_ns: int) -> Result:
    screen = _one(screens, params)
    mark, tick = screens.mark(screen.listing), screen.listing.instrument.tick
    bounds = {"buyLmt": plain(step_floor(mark * BAND_UP, tick)), "sellLmt": plain(step_ceiling(mark * BAND_DOWN, tick))}
    return {"symbol": screen.listing.symbol, **bounds, "ts": str(now_ns // 1_000_000)}


# ------------------------------------------------------------------------------------------- shared with the streams


def ticker_row(screens: Screens, screen: Screen, now_ns: int) -> Result:
    quote, day = screens.quote(screen.listing), screen.day
    last, mark = screens.last(screen.listing), screens.mark(screen.listing)
    opened = day.open if day else last
    row = {
        "symbol": screen.listing.symbol,
        "lastPrice": plain(last),
        "prevPrice24h": plain(opened),
        "price24hPcnt": plain(round((last - opened) / opened, 6)) if opened else "0",
        "highPrice24h": plain(day.high if day else last),
        "lowPrice24h": plain(day.low if day else last),
        "volume24h": plain(day.volume if day else ZERO),
        "turnover24h": plain(day.turnover if day else ZERO),
        "bid1Price": plain(quote.bid) if quote else "",
        "bid1Size": plain(quote.bid_qty) if quote else "",
        "ask1Price": plain(quote.ask) if quote else "",
        "ask1Size": plain(quote.ask_qty) if quote else "",
    }
    if screen.listing.category == "spot":
        return row | {"usdIndexPrice": plain(mark)}
    now_ms = now_ns // 1_000_000
    return row | {
        "indexPrice": plain(mark),
        "markPrice": plain(mark),
        "prevPrice1h": plain(opened),
        "openInterest": "0",
        "openInterestValue": "0",
        "fundingRate": plain(screen.funding),
        "nextFundingTime": str(now_ms - now_ms % _EIGHT_HOURS_MS + _EIGHT_HOURS_MS),
        "fundingIntervalHour": "8",
        "predictedDeliveryPrice": "",
        "basisRate": "",
        "deliveryFeeRate": "",
        "deliveryTime": "0",
    }


def sides(screens: Screens, screen: Screen, depth: int) -> tuple[list[Level], list[Level]]:
    """The best `depth` bids and asks; of a symbol that has only a ticker, its one level each."""
    book, quote = screens.book(screen.listing), screens.quote(screen.listing)
    if book is not None and not book.broken:
        return list(book.levels(Side.BUY, depth)), list(book.levels(Side.SELL, depth))
    return ([(quote.bid, quote.bid_qty)], [(quote.ask, quote.ask_qty)]) if quote else ([], [])


def level_rows(levels: list[Level]) -> list[list[str]]:
    return [[plain(price), plain(qty)] for price, qty in levels]


def trade_row(screen: Screen, trade: Trade) -> Result:
    event = trade.event
    return {
        "T": event.at_ns // 1_000_000,
        "s": screen.listing.symbol,
        "S": "Buy" if event.aggressor is Side.BUY else "Sell",
        "v": plain(event.qty),
        "p": plain(event.price),
        "L": "ZeroPlusTick",
        "i": str(trade.number),
        "BT": False,
        "seq": trade.number,
    }


# ------------------------------------------------------------------------------------------------------------- inside


def _category(params: Params) -> str:
    return category_of(params)


def _chosen(screens: Screens, params: Params) -> list[Screen]:
    symbol, base = word(params, "symbol"), word(params, "baseCoin")
    found = screens.in_category(_category(params))
    fits: Callable[[Screen], bool] = lambda screen: (  # noqa: E731
        symbol in ("", screen.listing.symbol) and base in ("", screen.listing.instrument.base)
    )
    chosen = [screen for screen in found if fits(screen)]
    if symbol and not chosen:
        raise Refused(10001, f"Not supported symbols: {symbol}")
    return chosen


def _one(screens: Screens, params: Params) -> Screen:
    screen = screens.of(_category(params), word(params, "symbol"))
    if screen is None:
        raise Refused(10001, f"Not supported symbols: {word(params, 'symbol')}")
    return screen


def _linear(screen: Screen) -> Result:
    i = screen.listing.instrument
    return {
        "symbol": screen.listing.symbol,
        "contractType": "LinearPerpetual",
        "status": "Trading",
        "baseCoin": i.base,
        "quoteCoin": i.quote,
        "settleCoin": i.quote,
        "launchTime": "1577836800000",
        "deliveryTime": "0",
        "deliveryFeeRate": "",
        "priceScale": str(max(0, -int(i.tick.as_tuple().exponent))),
        "leverageFilter": {"minLeverage": "1", "maxLeverage": plain(i.leverage_max), "leverageStep": "0.01"},
        "priceFilter": {"minPrice": plain(i.tick), "maxPrice": "1999999.8", "tickSize": plain(i.tick)},
        "lotSizeFilter": {
            "maxOrderQty": plain(i.qty_max),
            "minOrderQty": plain(i.qty_min),
            "qtyStep": plain(i.lot),
            "postOnlyMaxOrderQty": plain(i.qty_max),
            "maxMktOrderQty": plain(i.qty_max),
            "minNotionalValue": plain(i.notional_min),
        },
        "unifiedMarginTrade": True,
        "fundingInterval": 480,
        "copyTrading": "none",
        "upperFundingRate": "0.005",
        "lowerFundingRate": "-0.005",
        "isPreListing": False,
        "preListingInfo": None,
        "riskParameters": {"priceLimitRatioX": "0.1", "priceLimitRatioY": "0.1"},
        "displayName": "",
        "symbolType": "",
    }


def _spot(screen: Screen) -> Result:
    i = screen.listing.instrument
    return {
        "symbol": screen.listing.symbol,
        "baseCoin": i.base,
        "quoteCoin": i.quote,
        "innovation": "0",
        "status": "Trading",
        "marginTrading": "none",
        "stTag": "0",
        "lotSizeFilter": {
            "basePrecision": plain(i.lot),
            "quotePrecision": "0.00000001",
            "minOrderQty": plain(i.qty_min),
            "maxOrderQty": plain(i.qty_max),
            "minOrderAmt": plain(i.notional_min),
            "maxOrderAmt": "4000000",
            "maxLimitOrderQty": plain(i.qty_max),
            "maxMarketOrderQty": plain(i.qty_max),
            "postOnlyMaxLimitOrderSize": plain(i.qty_max),
        },
        "priceFilter": {"tickSize": plain(i.tick)},
        "riskParameters": {"priceLimitRatioX": "0.1", "priceLimitRatioY": "0.1"},
        "symbolType": "",
    }
