"""What Bybit says of a key, its account and its mode, as remarks: for `check`, and for whoever is about to start.

Docs: "Get API Key Information", "Get Account Info", "Get Position Info".
"""

import msgspec
from msgspec import Struct, field

from engine.core.messages import Failed, InstrumentKind
from engine.venues.admission import KeyFacts, Remark, clock_remark, key_remarks
from engine.venues.bybit import reports
from engine.venues.bybit.caller import TIME_PATH, Caller, Denied, page_of, rows_of
from engine.venues.bybit.errors import Class, meaning
from engine.venues.bybit.orders import CATEGORY
from engine.venues.bybit.terms import HEDGE_MODE, BybitTerms
from engine.venues.rest import read_json

UNIFIED = (3, 4, 5, 6)
MODES = {"ISOLATED_MARGIN": "isolated margin", "REGULAR_MARGIN": "cross margin", "PORTFOLIO_MARGIN": "portfolio margin"}


class Permissions(Struct):
    ContractTrade: tuple[str, ...] = ()
    Spot: tuple[str, ...] = ()
    Wallet: tuple[str, ...] = ()


class KeyRow(Struct):
    readOnly: int = 0
    permissions: Permissions = field(default_factory=Permissions)
    ips: tuple[str, ...] = ()
    expiredAt: str = ""


class AccountInfo(Struct):
    unifiedMarginStatus: int = 0
    marginMode: str = ""


async def look_over(caller: Caller, terms: BybitTerms, allow_withdrawal: bool) -> tuple[Remark, ...] | Failed:
    """Failed when the venue does not answer, or not now, so that it is to be asked again; a refusal is a remark."""
    told = await caller.get(TIME_PATH, {}, signed=False)
    if isinstance(told, Failed):
        return told
    clock = clock_remark(caller.known, caller.rest.moment())
    if not clock.ok:
        return Failed(clock.text)
    found = [clock]
    for part in (await _key(caller, terms, allow_withdrawal), await _account(caller), await _modes(caller, terms)):
        if isinstance(part, Failed):
            return part
        found += part
    return tuple(found)


async def _key(caller: Caller, terms: BybitTerms, allow_withdrawal: bool) -> tuple[Remark, ...] | Failed:
    environment = terms.hosts.environment
    envelope = await caller.get("/v5/user/query-api", {}, "rare")
    if isinstance(envelope, Denied) and _final(envelope):
        if environment != "live" and envelope.code in (10001, 10017, 10005):  # demo tells nothing of its keys
            return key_remarks(KeyFacts(), environment, allow_withdrawal)
        return (Remark("key", False, f"the venue does not accept the key: {envelope.why}"),)
    if isinstance(envelope, Failed):
        return envelope
    row = read_json(bytes(envelope.result), _key_row)
    if not isinstance(row, KeyRow):
        return Failed(row.why)
    linear = terms.kind is InstrumentKind.LINEAR
    trades = bool(row.permissions.ContractTrade if linear else row.permissions.Spot) and not row.readOnly
    facts = KeyFacts(
        may_trade=trades,
        may_withdraw="Withdraw" in row.permissions.Wallet,
        bound_to_address=bool(row.ips) and "*" not in row.ips,
        expires=row.expiredAt,
    )
    return key_remarks(facts, environment, allow_withdrawal)


async def _account(caller: Caller) -> tuple[Remark, ...] | Failed:
    envelope = await caller.get("/v5/account/info", {})
    if isinstance(envelope, Denied) and _final(envelope):
        return (Remark("account", False, f"the account does not show itself: {envelope.why}"),)
    if isinstance(envelope, Failed):
        return envelope
    found = page_of(envelope, _account_info)
    if isinstance(found, Failed):
        return found
    if found.unifiedMarginStatus not in UNIFIED:
        return (Remark("account", False, "the account is not a unified trading account; upgrade it at the venue"),)
    return (Remark("account", True, f"unified trading account, {MODES.get(found.marginMode, found.marginMode)}"),)


async def _modes(caller: Caller, terms: BybitTerms) -> tuple[Remark, ...] | Failed:
    """Position mode and leverage of the symbols that are configured; by symbol, a flat position shows them too."""
    if terms.kind is InstrumentKind.SPOT:
        return (Remark("mode", True, "spot, without borrowing"),)
    found = []
    for symbol in terms.symbols:
        envelope = await caller.get("/v5/position/list", {"category": CATEGORY[terms.kind], "symbol": symbol})
        if isinstance(envelope, Denied) and _final(envelope):
            found.append(Remark("mode", False, f"{symbol}: {envelope.why}"))
            continue
        rows = envelope if isinstance(envelope, Failed) else rows_of(envelope, _positions)
        if isinstance(rows, Failed):
            return rows
        found.append(_mode(symbol, rows))
    return tuple(found)


def _final(denied: Denied) -> bool:
    """Whether asking again can bring no other answer."""
    return meaning(denied.code).kind in (Class.REJECT, Class.HALT)


def _mode(symbol: str, rows: list[reports.PositionRow]) -> Remark:
    if any(row.positionIdx for row in rows):
        return Remark("mode", False, f"{symbol}: {HEDGE_MODE}")
    leverage = next((row.leverage for row in rows if row.leverage), "")
    held = ", ".join(f"{row.side} {row.size}" for row in rows if row.side)
    words = ["one-way mode", f"leverage {leverage}" if leverage else "", held and f"holds {held}"]
    return Remark("mode", True, f"{symbol}: {', '.join(word for word in words if word)}")


_key_row = msgspec.json.Decoder(KeyRow)
_account_info = msgspec.json.Decoder(AccountInfo)
_positions = msgspec.json.Decoder(list[reports.PositionRow])
