"""Bybit's signatures. What is signed is what is sent: query and body are made once, as text, and never made again.

Docs: "Integration Guidance", section "Authentication", and "Connect" of the WebSocket pages.
"""

from collections.abc import Mapping
from typing import TypeAlias

import orjson

from engine.venues.keys import Credentials
from engine.venues.rest import Request

Param: TypeAlias = str | int | bool | None
Body: TypeAlias = Mapping[str, object]


def query(params: Mapping[str, Param]) -> str:
    """Parameters that are not None, as they are: cursors arrive encoded, and to encode them again changes them."""
    return "&".join(f"{name}={_text(value)}" for name, value in params.items() if value is not None)


def get(path: str, params: Mapping[str, Param], credentials: Credentials, at_ms: int, window_ms: int) -> Request:
    text = query(params)
    headers = _headers(credentials, text.encode(), at_ms, window_ms)
    return Request("GET", f"{path}?{text}" if text else path, headers)


def post(path: str, body: Body, credentials: Credentials, at_ms: int, window_ms: int) -> Request:
    raw = orjson.dumps(body)
    headers = (*_headers(credentials, raw, at_ms, window_ms), ("Content-Type", "application/json"))
    return Request("POST", path, headers, raw)


def public(path: str, params: Mapping[str, Param]) -> Request:
    text = query(params)
    return Request("GET", f"{path}?{text}" if text else path)


def login(credentials: Credentials, expires_ms: int, number: str) -> str:
    """The first frame of a private or trade socket; `expires_ms` must be ahead of the venue's clock."""
    signature = credentials.sign(f"GET/realtime{expires_ms}".encode())
    frame = {"req_id": number, "op": "auth", "args": [credentials.key.reveal(), expires_ms, signature]}
    return orjson.dumps(frame).decode()


def _headers(credentials: Credentials, payload: bytes, at_ms: int, window_ms: int) -> tuple[tuple[str, str], ...]:
    key, stamp, window = credentials.key.reveal(), str(at_ms), str(window_ms)
    return (
        ("X-BAPI-API-KEY", key),
        ("X-BAPI-TIMESTAMP", stamp),
        ("X-BAPI-RECV-WINDOW", window),
        ("X-BAPI-SIGN", credentials.sign(f"{stamp}{key}{window}".encode() + payload)),
    )


def _text(value: Param) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)
