"""Where Binance is: one set of hosts for each market and network. Pure. Every one may be replaced by configuration.

They moved twice within a year. USD-M streams are split by path since 2026-04-23; on the old path a private stream
connects and stays silent for ever. Pages "General Info" of each market, "Demo Mode".
"""

from typing import Literal, TypeAlias

from msgspec import Struct
from msgspec.structs import replace

from engine.venues.binance.errors import Market

Network: TypeAlias = Literal["mainnet", "testnet", "demo", "local"]


class Hosts(Struct, frozen=True):
    """URLs without a slash at the end. `private`: path and query of the user data, with {key} for the listen key."""

    rest: str
    orders: str  # the WebSocket API
    stream: str = ""  # USD-M: private streams; spot has them on the WebSocket API
    private: str = ""
    restrictions: str = ""  # where a key's permissions are told; only mainnet has it


_EVENTS = "ORDER_TRADE_UPDATE/ACCOUNT_UPDATE/ALGO_UPDATE/MARGIN_CALL/ACCOUNT_CONFIG_UPDATE/listenKeyExpired"
# The form with the key in the path has delivered nothing since the split, as users report.
PRIVATE = f"/private/ws?listenKey={{key}}&events={_EVENTS}"

HOSTS: dict[tuple[Market, Network], Hosts] = {
    (Market.SPOT, "mainnet"): Hosts(
        "https://api.binance.com", "wss://ws-api.binance.com:443/ws-api/v3", restrictions="https://api.binance.com"
    ),
    (Market.SPOT, "testnet"): Hosts("https://testnet.binance.vision", "wss://ws-api.testnet.binance.vision/ws-api/v3"),
    (Market.SPOT, "demo"): Hosts("https://demo-api.binance.com", "wss://demo-ws-api.binance.com/ws-api/v3"),
    (Market.USDM, "mainnet"): Hosts(
        "https://fapi.binance.com",
        "wss://ws-fapi.binance.com/ws-fapi/v1",
        "wss://fstream.binance.com",
        PRIVATE,
        "https://api.binance.com",
    ),
    (Market.USDM, "testnet"): Hosts(
        "https://demo-fapi.binance.com",
        "wss://testnet.binancefuture.com/ws-fapi/v1",
        "wss://fstream.binancefuture.com",
        PRIVATE,
    ),
    (Market.USDM, "demo"): Hosts(
        "https://demo-fapi.binance.com",
        "wss://testnet.binancefuture.com/ws-fapi/v1",
        "wss://fstream.binancefuture.com",
        PRIVATE,
    ),
}


def hosts_of(market: Market, network: Network, base_url: str = "") -> Hosts:
    """`base_url` is that of an exchange of one's own ("http://127.0.0.1:9001"), for network "local" and no other."""
    assert (network == "local") == bool(base_url), "a URL belongs to network 'local', and it needs one"
    if network != "local":
        return HOSTS[market, network]
    rest = base_url.rstrip("/")
    socket = rest.replace("http", "ws", 1)
    path = "/ws-api/v3" if market is Market.SPOT else "/ws-fapi/v1"
    own = Hosts(rest, socket + path)
    return own if market is Market.SPOT else replace(own, stream=socket, private=PRIVATE)


def mix_up(env: str, network: Network) -> str:
    """Why an engine of this environment must not trade on this network; "" when it may."""
    if env == "live" and network != "mainnet":
        return f"engine.env is 'live', but the account trades on {network}"
    if env != "live" and network == "mainnet":
        return f"the account trades on mainnet, with real money, but engine.env is '{env}'"
    return ""
