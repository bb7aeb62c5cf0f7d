"""Texts that are signed, and what is sent with their signatures. Pure.

By REST the values are percent-encoded first, and the encoded text is both signed and sent, byte for byte (otherwise
-1022). Over the WebSocket API the parameters are sorted by name and signed raw, as UTF-8, the API key among them. Pages
"Request Security" of the REST API and of the WebSocket API.
"""

from collections.abc import Callable, Mapping
from typing import TypeAlias
from urllib.parse import quote

import orjson

Params: TypeAlias = Mapping[str, str | int]
"""Money as text, times and ids of the venue as integers: the same characters are sent and signed."""

Sign: TypeAlias = Callable[[bytes], str]  # as in engine.venues.keys


def encoded(params: Params) -> str:
    """As it stands in a URL or a form body. Signatures of RSA and Ed25519 are base64, and are encoded likewise."""
    return "&".join(f"{name}={quote(str(value), safe='')}" for name, value in params.items())


def signed_query(params: Params, sign: Sign) -> str:
    """For REST: USD-M wants the signature last."""
    text = encoded(params)
    return f"{text}&signature={quote(sign(text.encode()), safe='')}"


def signed_params(params: Params, sign: Sign) -> dict[str, str | int]:
    """For the WebSocket API; `params` has `apiKey` and `timestamp` in it."""
    text = "&".join(f"{name}={params[name]}" for name in sorted(params))
    return {**params, "signature": sign(text.encode())}


def frame(number: str, method: str, params: Params) -> bytes:
    """One request of the WebSocket API. The venue never looks at `number`: it guards against nothing."""
    return orjson.dumps({"id": number, "method": method, "params": params})
