"""Whether a key may be used here at all: one that may withdraw is refused, unless the owner allows it."""

import msgspec
from msgspec import Struct

from engine.core.messages import Failed
from engine.venues.binance.api import Api
from engine.venues.binance.errors import Market, Verdict
from engine.venues.binance.hosts import Network


class Restrictions(Struct, frozen=True):
    """The answer of account/apiRestrictions."""

    enableWithdrawals: bool
    enableReading: bool = True
    enableFutures: bool = False
    enableSpotAndMarginTrading: bool = False
    ipRestrict: bool = False


async def unfit_key(api: Api, market: Market, network: Network, may_withdraw: bool) -> str | Failed:
    """Why the key must not be used; "" when it may. `api` is at the host where permissions are told, if any.

    The test networks do not tell permissions, and nothing can be withdrawn there; mainnet must.
    """
    found = await api.query("w1", "GET", "/sapi/v1/account/apiRestrictions", {}, _RESTRICTIONS)
    if isinstance(found, Verdict):
        return "" if network == "local" and found.code == "HTTP 404" else Failed(f"the key's permissions: {found.why}")
    if found.enableWithdrawals and not may_withdraw:
        return "the API key may withdraw; make one that may not, or set 'allow_withdrawing_key'"
    if not found.enableReading:
        return "the API key may not read"
    trades = found.enableSpotAndMarginTrading if market is Market.SPOT else found.enableFutures
    return "" if trades else f"the API key may not trade on {market.value}"


_RESTRICTIONS = msgspec.json.Decoder(Restrictions)
