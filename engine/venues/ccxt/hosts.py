"""Where an account trades by ccxt: one of ccxt's own worlds by a word, or an exchange of this machine by its URL."""

from engine.venues.admission import Inadmissible, local

_WORDS = {"mainnet": "live", "testnet": "testnet", "demo": "demo"}


def environment(host: str) -> str:
    """live, testnet, demo or local. Raises Inadmissible."""
    if host in _WORDS:
        return _WORDS[host]
    if local(host):
        return "local"
    raise Inadmissible(
        f"host '{host}' is none of ccxt's: mainnet, testnet (its sandbox), demo, or http://127.0.0.1:PORT for a local "
        "exchange"
    )
