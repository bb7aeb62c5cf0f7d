"""Where Bybit is: four addresses by one word, or by a URL (a regional site, or a local exchange)."""

from urllib.parse import urlsplit

from msgspec import Struct

from engine.venues.admission import Inadmissible, local


class Hosts(Struct, frozen=True):
    """Docs: "Integration Guidance", "Connect", "Demo Trading Service"."""

    environment: str  # live, testnet, demo, local
    rest: str
    public: str  # without its path
    private: str
    trade: str  # "": this environment has no order entry by WebSocket


def _hosts(environment: str, rest: str, stream: str, public: str = "", trades: bool = True) -> Hosts:
    trade = f"{stream}/v5/trade" if trades else ""
    return Hosts(environment, rest, public or stream, f"{stream}/v5/private", trade)


_MAINNET_STREAM = "wss://stream.bybit.com"
_WORDS = {
    "mainnet": _hosts("live", "https://api.bybit.com", _MAINNET_STREAM),
    "testnet": _hosts("testnet", "https://api-testnet.bybit.com", "wss://stream-testnet.bybit.com"),
    # Demo has the mainnet's market, and no trade socket.
    "demo": _hosts("demo", "https://api-demo.bybit.com", "wss://stream-demo.bybit.com", _MAINNET_STREAM, False),
}
_REGIONAL_STREAMS = ("bybit.tr", "bybit.kz", "bybit.id", "bybitgeorgia.ge", "manepa.jp")
_SITES = ("bybit.com", "bytick.com", "bybit.nl", "bybit.ae", "bybit.eu", *_REGIONAL_STREAMS)


def hosts(host: str) -> Hosts:
    """Raises Inadmissible for what is neither a known word nor a URL that an order may go to."""
    if host in _WORDS:
        return _WORDS[host]
    url = host.rstrip("/")
    parts = urlsplit(url)
    if local(url) and not parts.path:
        stream = f"{'wss' if parts.scheme == 'https' else 'ws'}://{parts.netloc}"
        return _hosts("local", url, stream)
    for word in _WORDS.values():
        if url == word.rest:
            return word
    site = (parts.hostname or "").removeprefix("api.")
    if parts.scheme == "https" and not parts.path and parts.hostname == f"api.{site}" and site in _SITES:
        return _hosts("live", url, f"wss://stream.{site}" if site in _REGIONAL_STREAMS else _MAINNET_STREAM)
    raise Inadmissible(
        f"host '{host}' is none of Bybit's: mainnet, testnet, demo, https://api.<a site of Bybit>, "
        "or http://127.0.0.1:PORT for a local exchange"
    )
