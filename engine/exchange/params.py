"""Reading what clients send: ids as numbers or text, decimals as text or numbers, flags as words or booleans."""

from decimal import Decimal, InvalidOperation
from typing import Any

import msgspec

from engine.core.money import BadNumber, sane

Params = dict[str, Any]

_json = msgspec.json.Decoder(float_hook=Decimal)


class Malformed(ValueError):
    """`name` is the parameter."""

    def __init__(self, name: str, why: str) -> None:
        super().__init__(f"{name} {why}")
        self.name = name


def json_object(body: bytes) -> Params:
    """Empty for an empty body. Raises Malformed."""
    if not body.strip():
        return {}
    try:
        found = _json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InvalidOperation) as error:
        raise Malformed("body", f"is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise Malformed("body", "is no JSON object")
    return found


def word(params: Params, name: str, default: str = "") -> str:
    value = params.get(name)
    if value is None:
        return default
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str | int | Decimal):
        return str(value)
    raise Malformed(name, "is no text")


def number(params: Params, name: str) -> Decimal | None:
    """None where it is absent or empty."""
    text = word(params, name)
    if not text:
        return None
    try:
        return sane(Decimal(text))
    except (InvalidOperation, BadNumber) as error:
        raise Malformed(name, f"is no usable number: {text[:40]}") from error


def whole(params: Params, name: str) -> int | None:
    text = word(params, name)
    if not text:
        return None
    if not (text.isdecimal() or (text[:1] == "-" and text[1:].isdecimal())) or len(text) > 20:
        raise Malformed(name, f"is no whole number: {text[:40]}")
    return int(text)


def flag(params: Params, name: str) -> bool:
    text = word(params, name).lower()
    if text not in ("", "0", "1", "true", "false"):
        raise Malformed(name, f"is neither true nor false: {text[:40]}")
    return text in ("1", "true")


def json_list(params: Params, name: str) -> list[Any]:
    """A list, as JSON text or already read; empty where it is absent."""
    found = params.get(name) or []
    if isinstance(found, str):
        try:
            found = _json.decode(found)
        except (msgspec.DecodeError, RecursionError, InvalidOperation) as error:
            raise Malformed(name, "is no JSON list") from error
    if not isinstance(found, list):
        raise Malformed(name, "is no JSON list")
    return found
