"""What the user data stream of Spot tells of a step."""

from engine.core.messages import ZERO, FillReport, OrderReport, TransferReport
from engine.exchange.binance.caller import Row
from engine.exchange.binance.rows import status, trade_id
from engine.exchange.binance.spot_rows import client_id, eight, expiry_reason, kind, tif
from engine.exchange.house import Member, News, Record, Told
from engine.exchange.screen import Screens


def user_events(member: Member, told: tuple[Told, ...], screens: Screens) -> list[Row]:
    """Reports in their order; then the assets that may have moved, as they are after all of them."""
    events: list[Row] = []
    assets: dict[str, None] = {}
    for one in told:
        if isinstance(one.report, TransferReport):
            at_ms = one.report.venue_ns // 1_000_000
            event = {"e": "balanceUpdate", "E": at_ms, "a": one.report.asset, "d": eight(one.report.amount)}
            events.append(event | {"T": at_ms})
            assets[one.report.asset] = None
        if one.record is None:
            continue
        events += _report(member, one.record, one)
        instrument = one.record.listing.instrument
        assets |= dict.fromkeys((instrument.base, instrument.quote, *one.record.fees))
    if assets:
        events.append(_balances(member, assets))
    return events


def _report(member: Member, record: Record, one: Told) -> list[Row]:
    if isinstance(one.report, FillReport):
        return [_filled(member, record, one, one.report)]
    assert isinstance(one.report, OrderReport)
    report = one.report
    match one.news:
        case News.ACCEPTED | News.TRIGGERED:
            return [_execution(member, record, one, "NEW", "NEW")]
        case News.AMENDED:
            return [_execution(member, record, one, "REPLACED", status(report))]
        case News.ENDED if report.status != "filled":
            now = status(report)
            event = _execution(member, record, one, now, now)
            if now == "EXPIRED":
                event["eR"] = expiry_reason(report)
            return [event]
    return []


def _filled(member: Member, record: Record, one: Told, fill: FillReport) -> Row:
    event = _execution(member, record, one, "TRADE", "PARTIALLY_FILLED" if one.left else "FILLED")
    return event | {
        "l": eight(fill.qty),
        "z": eight(record.order.request.qty - one.left),
        "L": eight(fill.price),
        "n": eight(fill.fee),
        "N": fill.fee_asset,
        "t": trade_id(fill),
        "m": fill.maker,
        "Y": eight(fill.qty * fill.price),
        "w": False,
    }


def _execution(member: Member, record: Record, one: Told, happened: str, now: str) -> Row:
    """On a cancel `c` is the cancel's id and `C` the order's own."""
    request, canceled = record.order.request, happened == "CANCELED"
    at_ms = one.report.venue_ns // 1_000_000
    filled = one.report.filled_qty if isinstance(one.report, OrderReport) else ZERO
    return {
        "e": "executionReport",
        "E": at_ms,
        "s": record.listing.symbol,
        "c": client_id(record) if canceled else record.given,
        "S": request.side.name,
        "o": kind(record),
        "f": tif(record),
        "q": eight(request.qty),
        "p": eight(request.price or ZERO),
        "P": eight(request.trigger_price or ZERO),
        "F": "0.00000000",
        "g": -1,
        "C": record.given if canceled else "",
        "x": happened,
        "X": now,
        "r": "NONE",
        "i": record.serial,
        "l": "0.00000000",
        "z": eight(filled),
        "L": "0.00000000",
        "n": "0",
        "N": None,
        "T": at_ms,
        "t": -1,
        "v": 0,
        "I": member.steps,
        "w": now in ("NEW", "PARTIALLY_FILLED"),
        "m": False,
        "M": False,
        "O": record.order.accepted_ns // 1_000_000,
        "Z": eight(one.value),
        "Y": "0.00000000",
        "Q": eight(record.marks.get("quote", ZERO)),
        "W": record.order.accepted_ns // 1_000_000,
        "V": "EXPIRE_MAKER",
    }


def _balances(member: Member, assets: dict[str, None]) -> Row:
    at_ms = member.matching.now_ns // 1_000_000
    rows = [
        {"a": b.asset, "f": eight(b.total - b.locked), "l": eight(b.locked)}
        for b in member.matching.balances()
        if b.asset in assets
    ]
    return {"e": "outboundAccountPosition", "E": at_ms, "u": at_ms, "B": rows}
