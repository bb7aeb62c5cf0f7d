"""What Binance says of a key, its account and its mode, as remarks: for `check`, and for whoever is about to start.

Nothing is changed. Pages "Get API Key Permission" (wallet), "Account information" (spot), "Get Current Position Mode",
"Symbol Configuration" (USD-M).
"""

import msgspec
from msgspec import Struct

from engine.core.messages import Failed
from engine.venues.admission import KeyFacts, Remark, clock_remark, key_remarks
from engine.venues.binance.api import Api
from engine.venues.binance.errors import Class, Market, Verdict
from engine.venues.binance.hosts import Hosts
from engine.venues.binance.spot_reports import SpotAccount
from engine.venues.rest import Rest

HEDGE_MODE = (
    "the account is in hedge mode, where a position has two sides; the engine trades one-way mode only: "
    "close the positions and switch the position mode to one-way"
)


class Restrictions(Struct, frozen=True):
    """The answer of account/apiRestrictions."""

    enableWithdrawals: bool
    enableReading: bool = True
    enableFutures: bool = False
    enableSpotAndMarginTrading: bool = False
    ipRestrict: bool = False


class _Mode(Struct, frozen=True):
    dualSidePosition: bool


class _SymbolConfig(Struct, frozen=True):
    symbol: str
    marginType: str = ""
    leverage: int = 0


async def look_over(
    api: Api, hosts: Hosts, symbols: tuple[str, ...], allow_withdrawal: bool
) -> tuple[Remark, ...] | Failed:
    """Failed when the venue does not answer; what it refuses to answer is a remark."""
    unsure = await api.synced()
    if unsure is not None:
        return Failed(unsure.why)
    found = [clock_remark(api.known, api.rest.moment())]
    key = await _key(api, hosts, allow_withdrawal)
    modes = Failed("") if isinstance(key, Failed) else await _modes(api, symbols)
    for part in (key, modes):
        if isinstance(part, Failed):
            return part
        found += part
    return tuple(found)


async def _key(api: Api, hosts: Hosts, allow_withdrawal: bool) -> tuple[Remark, ...] | Failed:
    environment = hosts.environment
    if not hosts.restrictions:
        return key_remarks(KeyFacts(), environment, allow_withdrawal)
    rest = Rest(hosts.restrictions, api.clock)
    try:
        told = await api.at(rest).query("w1", "GET", "/sapi/v1/account/apiRestrictions", {}, _RESTRICTIONS)
    finally:
        await rest.close()
    if isinstance(told, Restrictions):
        spot = api.market is Market.SPOT
        trades = told.enableReading and (told.enableSpotAndMarginTrading if spot else told.enableFutures)
        facts = KeyFacts(trades, told.enableWithdrawals, told.ipRestrict)
        return key_remarks(facts, environment, allow_withdrawal)
    if environment == "local" and told.code == "HTTP 404":
        return key_remarks(KeyFacts(), environment, allow_withdrawal)
    return _refusal("key", "the venue does not accept the key", told)


async def _modes(api: Api, symbols: tuple[str, ...]) -> tuple[Remark, ...] | Failed:
    if api.market is Market.SPOT:
        account = await api.query("w20", "GET", "/api/v3/account", {"omitZeroBalances": "true"}, _ACCOUNT)
        if isinstance(account, Verdict):
            return _refusal("account", "the account does not show itself", account)
        text = "spot, without borrowing" if account.canTrade else "the account may not trade on spot"
        return (Remark("account", account.canTrade, text),)
    mode = await api.query("w30", "GET", "/fapi/v1/positionSide/dual", {}, _MODE)
    if isinstance(mode, Verdict):
        return _refusal("mode", "the position mode is not told", mode)
    if mode.dualSidePosition:
        return (Remark("mode", False, HEDGE_MODE),)
    remarks = [Remark("mode", True, "one-way mode")]
    for symbol in symbols:
        rows = await api.query("w5", "GET", "/fapi/v1/symbolConfig", {"symbol": symbol}, _CONFIGS)
        if isinstance(rows, Verdict):
            refused = _refusal("mode", symbol, rows)
            if isinstance(refused, Failed):
                return refused
            remarks += refused
            continue
        remarks += [
            Remark("mode", True, f"{row.symbol}: {row.marginType.lower() or 'margin'}, leverage {row.leverage}")
            for row in rows
            if row.symbol == symbol
        ]
    return tuple(remarks)


def _refusal(what: str, text: str, verdict: Verdict) -> tuple[Remark, ...] | Failed:
    """A no is a remark; no answer, or one that may be another in a moment, is a failure."""
    if verdict.klass in (Class.HALT, Class.REJECT):
        return (Remark(what, False, f"{text}: {verdict.why}"),)
    return Failed(f"{text}: {verdict.why}")


_RESTRICTIONS = msgspec.json.Decoder(Restrictions)
_ACCOUNT = msgspec.json.Decoder(SpotAccount)
_MODE = msgspec.json.Decoder(_Mode)
_CONFIGS = msgspec.json.Decoder(tuple[_SymbolConfig, ...])
