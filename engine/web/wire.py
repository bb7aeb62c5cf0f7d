"""How our structs look as JSON for a reader outside: every field present, money as plain text, times readable.

The journal's own form leaves defaults out to be small; a reader of the API should not have to know the defaults. Beside
each wall time `x_ns` stands `x_at` (for `at_ns`: `at`) in ISO 8601, UTC.
"""

from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from functools import cache
from typing import Any

from msgspec import Struct, json
from msgspec.structs import fields

from engine.core.money import plain

_DURATIONS = frozenset(
    {"took_ns", "exposed_ns", "uptime_ns", "commit_last_ns", "commit_max_ns", "since_previous_ns", "since_arrival_ns"}
)
_ENDINGS = ("p50_ns", "p90_ns", "p99_ns", "p999_ns", "max_ns", "sum_ns", "average_ns")


def encode(value: object) -> bytes:
    """JSON of a struct or of a tuple or dict of them."""
    return json.encode(whole(value))


def whole(value: Any) -> Any:
    """`value` as builtins, with every field of every struct."""
    if isinstance(value, Struct):
        shape = _shape(type(value))
        result: dict[str, Any] = {} if shape.tag is None else {"type": shape.tag}
        for name, moment in shape.names:
            field = getattr(value, name)
            result[name] = whole(field)
            if moment is not None:
                result[moment] = iso(field) if field else None
        return result
    if isinstance(value, Decimal):
        return plain(value)
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, tuple | list):
        return [whole(item) for item in value]
    if isinstance(value, dict):
        return {str(key): whole(item) for key, item in value.items()}
    if isinstance(value, bytes):
        return value.hex()
    return value


def iso(at_ns: int) -> str:
    """2024-08-08T12:00:00.123456789Z. All nine digits, since orders follow each other within a microsecond."""
    seconds, ns = divmod(at_ns, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ns:09d}Z"


class _Shape(Struct, frozen=True):
    tag: str | None
    names: tuple[tuple[str, str | None], ...]  # field, and the name of its readable twin if it is a wall time


@cache
def _shape(kind: type[Struct]) -> _Shape:
    tag = kind.__struct_config__.tag
    return _Shape(None if tag is None else str(tag), tuple((f.name, twin(f.name)) for f in fields(kind)))


def twin(name: str) -> str | None:
    """The name of the readable form beside a wall time; None for every other field."""
    if not name.endswith("_ns") or name in _DURATIONS or name.endswith(_ENDINGS):
        return None
    return "at" if name == "at_ns" else name.removesuffix("_ns") + "_at"
