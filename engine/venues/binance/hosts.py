"""Where Binance is: one set of hosts for each market and world, by one word, or by the URL of a local exchange. Pure.

They moved twice within a year. USD-M streams are split by path since 2026-04-23; on the old path a private stream
connects and stays silent for ever. Pages "General Info" of each market, "Demo Mode".
"""

from urllib.parse import urlsplit

from msgspec import Struct

from engine.venues.admission import Inadmissible, local
from engine.venues.binance.errors import Market


class Hosts(Struct, frozen=True):
    """URLs without a slash at the end. `private`: the forms of the user data's path, with {key} for the listen key."""

    environment: str  # live, testnet, demo, local
    rest: str
    orders: str  # the WebSocket API
    stream: str  # market streams; on USD-M private ones too
    private: tuple[str, ...] = ()
    restrictions: str = ""  # where a key's permissions are told; the test networks do not tell them


_EVENTS = "ORDER_TRADE_UPDATE/ACCOUNT_UPDATE/ALGO_UPDATE/MARGIN_CALL/ACCOUNT_CONFIG_UPDATE/listenKeyExpired"
# All three are documented somewhere; the last has delivered nothing since the split, as users report. A stream that
# proves to be dead is tried in the next form.
PRIVATE = (f"/private/ws?listenKey={{key}}&events={_EVENTS}", "/private/ws?listenKey={key}", "/private/ws/{key}")

_REAL = "https://api.binance.com"
_WORDS: dict[tuple[Market, str], Hosts] = {
    (Market.SPOT, "mainnet"): Hosts(
        environment="live",
        rest=_REAL,
        orders="wss://ws-api.binance.com:443/ws-api/v3",
        stream="wss://stream.binance.com:9443",
        restrictions=_REAL,
    ),
    (Market.SPOT, "testnet"): Hosts(
        environment="testnet",
        rest="https://testnet.binance.vision",
        orders="wss://ws-api.testnet.binance.vision/ws-api/v3",
        stream="wss://stream.testnet.binance.vision",
    ),
    (Market.SPOT, "demo"): Hosts(
        environment="demo",
        rest="https://demo-api.binance.com",
        orders="wss://demo-ws-api.binance.com/ws-api/v3",
        stream="wss://demo-stream.binance.com",
    ),
    (Market.USDM, "mainnet"): Hosts(
        environment="live",
        rest="https://fapi.binance.com",
        orders="wss://ws-fapi.binance.com/ws-fapi/v1",
        stream="wss://fstream.binance.com",
        private=PRIVATE,
        restrictions=_REAL,
    ),
    # What was the futures test network is the demo now; both words lead there.
    **{
        (Market.USDM, word): Hosts(
            environment=word,
            rest="https://demo-fapi.binance.com",
            orders="wss://testnet.binancefuture.com/ws-fapi/v1",
            stream="wss://fstream.binancefuture.com",
            private=PRIVATE,
        )
        for word in ("testnet", "demo")
    },
}
WORDS = ("mainnet", "testnet", "demo")


def hosts(market: Market, host: str) -> Hosts:
    """Raises Inadmissible for what is neither a known word nor a URL that an order may go to."""
    if (market, host) in _WORDS:
        return _WORDS[market, host]
    url = host.rstrip("/")
    parts = urlsplit(url)
    if local(url) and not parts.path:
        socket = f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}"
        spot = market is Market.SPOT
        path = "/ws-api/v3" if spot else "/ws-fapi/v1"
        return Hosts("local", url, socket + path, socket, () if spot else PRIVATE, url)
    for word in WORDS:
        if url == _WORDS[market, word].rest:
            return _WORDS[market, word]
    raise Inadmissible(
        f"host '{host}' is none of Binance's for {market.value}: mainnet, testnet, demo, "
        "or http://127.0.0.1:PORT for a local exchange"
    )
