"""What the private stream of USD-M futures tells of a step."""

from engine.core.messages import ZERO, FillReport, FundingReport, OrderReport, TransferReport
from engine.core.money import plain
from engine.exchange.binance.caller import Row
from engine.exchange.binance.rows import status, trade_id
from engine.exchange.binance.usdm_rows import (
    ALGO_BASE,
    TIFS,
    TYPES,
    algo_status,
    client_id,
    is_algo,
)
from engine.exchange.house import Member, News, Record, Told
from engine.exchange.screen import Screens


def user_events(member: Member, told: tuple[Told, ...], screens: Screens) -> list[Row]:
    """Orders and fills in their order, then the account as it is after all of them."""
    events: list[Row] = []
    symbols: dict[str, None] = {}
    for one in told:
        if one.news is News.FUNDED:
            events.append(_account(member, (), "FUNDING_FEE", screens, one))
            continue
        if isinstance(one.report, TransferReport):
            reason = "DEPOSIT" if one.report.amount > 0 else "WITHDRAW"
            events.append(_account(member, (), reason, screens, one))
            continue
        assert one.record is not None
        events += _of_order(one.record, one)
        if one.news is News.FILLED:
            assert isinstance(one.report, FillReport)
            symbols[one.report.symbol] = None
    if symbols:
        events.append(_account(member, tuple(symbols), "ORDER", screens, told[-1]))
    return events


def _of_order(record: Record, one: Told) -> list[Row]:
    if isinstance(one.report, FillReport):
        return [_lite(record, one.report), _filled(record, one, one.report)]
    assert isinstance(one.report, OrderReport)
    report, algo = one.report, is_algo(record)
    if algo and not record.triggered:
        return [_algo(record, report)]
    if one.news is News.TRIGGERED:
        return [_algo(record, report), _order(record, one, report, "NEW", "NEW")]
    ended = [_algo(record, report)] if algo and one.news is News.ENDED else []
    if one.news is News.ACCEPTED:
        return [_order(record, one, report, "NEW", "NEW")]
    if one.news is News.AMENDED:
        return [_order(record, one, report, "AMENDMENT", status(report))]
    if one.news is News.ENDED and report.status != "filled":
        now = status(report)
        return [_order(record, one, report, "CANCELED" if now == "CANCELED" else "EXPIRED", now), *ended]
    return ended


def _filled(record: Record, one: Told, fill: FillReport) -> Row:
    kind = "CALCULATED" if record.marks.get("liquidation") else "TRADE"
    now = "PARTIALLY_FILLED" if one.left else "FILLED"
    event = _order(record, one, fill, kind, now)
    event["o"] |= {
        "l": plain(fill.qty),
        "L": plain(fill.price),
        "z": plain(record.order.request.qty - one.left),
        "ap": plain(round(one.value / (record.order.request.qty - one.left), 8)),
        "N": fill.fee_asset,
        "n": plain(fill.fee),
        "t": trade_id(fill),
        "m": fill.maker,
        "rp": plain(one.realised),
    }
    return event


def _order(record: Record, one: Told, report: OrderReport | FillReport, happened: str, now: str) -> Row:
    request, marks = record.order.request, record.marks
    filled = report.filled_qty if isinstance(report, OrderReport) else ZERO
    at_ms = report.venue_ns // 1_000_000
    expired = "0"
    if isinstance(report, OrderReport) and now == "EXPIRED":
        expired = "4" if report.reason.startswith("reduce-only") else "2"
    order: Row = {
        "s": record.listing.symbol,
        "c": client_id(record),
        "S": request.side.name,
        "o": "LIMIT" if request.price is not None else "MARKET",
        "f": TIFS[request.tif],
        "q": plain(request.qty),
        "p": plain(request.price or ZERO),
        "ap": plain(round(one.value / filled, 8)) if filled else "0",
        "sp": plain(request.trigger_price or ZERO),
        "x": happened,
        "X": now,
        "i": record.serial,
        "l": "0",
        "z": plain(filled),
        "L": "0",
        "n": "0",
        "T": at_ms,
        "t": 0,
        "b": "0",
        "a": "0",
        "m": False,
        "R": request.reduce_only,
        "wt": marks.get("workingType", "CONTRACT_PRICE"),
        "ot": TYPES[request.order_type],
        "ps": "BOTH",
        "cp": bool(marks.get("closePosition")),
        "rp": "0",
        "pP": False,
        "si": 0,
        "ss": 0,
        "V": "EXPIRE_MAKER",
        "pm": "NONE",
        "gtd": 0,
        "er": expired,
        "st": 1,
    }
    return {"e": "ORDER_TRADE_UPDATE", "E": at_ms, "T": at_ms, "o": order}


def _lite(record: Record, fill: FillReport) -> Row:
    at_ms, request = fill.venue_ns // 1_000_000, record.order.request
    row: Row = {"e": "TRADE_LITE", "E": at_ms, "T": at_ms, "s": record.listing.symbol, "q": plain(request.qty)}
    row |= {"p": plain(request.price or ZERO), "m": fill.maker, "c": client_id(record), "S": request.side.name}
    return row | {"L": plain(fill.price), "l": plain(fill.qty), "t": trade_id(fill), "i": record.serial}


def _algo(record: Record, report: OrderReport) -> Row:
    request, marks, at_ms = record.order.request, record.marks, report.venue_ns // 1_000_000
    whole, filled = bool(marks.get("closePosition")), report.filled_qty
    order: Row = {
        "caid": record.given,
        "aid": ALGO_BASE + record.serial,
        "at": "CONDITIONAL",
        "o": TYPES[request.order_type],
        "s": record.listing.symbol,
        "S": request.side.name,
        "ps": "BOTH",
        "f": marks.get("tif", TIFS[request.tif]),
        "q": "0" if whole else plain(request.qty),
        "X": algo_status(record, report),
        "ai": str(record.serial) if record.triggered else "",
        "ap": plain(round(record.value / filled, 8)) if filled else "0",
        "aq": plain(filled),
        "act": "LIMIT" if request.price is not None else "MARKET",
        "tp": plain(request.trigger_price or ZERO),
        "p": plain(request.price or ZERO),
        "V": "EXPIRE_MAKER",
        "wt": marks.get("workingType", "CONTRACT_PRICE"),
        "pm": "NONE",
        "cp": whole,
        "pP": bool(marks.get("priceProtect")),
        "R": request.reduce_only,
        "tt": at_ms if record.triggered else 0,
        "gtd": 0,
        "rm": report.reason if report.reason.startswith("110") else "",
    }
    return {"e": "ALGO_UPDATE", "E": at_ms, "T": at_ms, "o": order}


def _account(member: Member, symbols: tuple[str, ...], reason: str, screens: Screens, one: Told) -> Row:
    """Absolute balances of the margin assets; positions of the symbols that were traded."""
    account, at_ms = member.matching.account, one.report.venue_ns // 1_000_000
    funding = one.report if isinstance(one.report, FundingReport) else None
    moved = one.report if isinstance(one.report, FundingReport | TransferReport) else None
    balances = [
        {
            "a": balance.asset,
            "wb": plain(balance.total),
            "cw": plain(balance.total),
            "bc": plain(moved.amount) if moved and moved.asset == balance.asset else "0",
        }
        for balance in member.matching.balances()
        if any(listing.instrument.quote == balance.asset for listing in member.listings.values())
    ]
    positions = []
    for symbol in symbols:
        holding, listing = account.wallets.holdings[symbol], member.listings[symbol]
        entry = plain(round(abs(holding.cost / holding.qty), 8)) if holding.qty else "0"
        gain = holding.qty * screens.mark(listing) - holding.cost
        row: Row = {"s": listing.symbol, "pa": plain(holding.qty), "ep": entry, "bep": entry}
        row |= {"cr": plain(holding.realised), "up": plain(gain), "mt": "cross", "iw": "0", "ps": "BOTH"}
        positions.append(row)
    body: Row = {"m": reason, "B": balances, "P": positions}
    if funding:
        body["S"] = member.listings[funding.symbol].symbol
    return {"e": "ACCOUNT_UPDATE", "E": at_ms, "T": at_ms, "a": body}
