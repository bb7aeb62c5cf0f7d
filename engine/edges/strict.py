"""Outside bytes to plain JSON values, strictly and in linear time. PURE: no clock, disk or channel may come in.

JSON as Python reads it is too kind for money: the last of two equal keys wins, NaN is a number, and 0.1 becomes a
binary fraction. Here every number is a Decimal of exactly the digits that were sent, and whatever is doubtful is
refused with the field it stands in. Bodies are read once, by a decoder that gives up at the first flaw; only then a
second reading marks all flaws, so that a sound body does not pay for the naming of faults.
"""

import json
import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from hashlib import blake2b
from typing import Any, TypeAlias

import orjson
from msgspec import Struct

from engine.core.messages import Refusal
from engine.core.money import CONTEXT

Json: TypeAlias = "Decimal | str | bool | list[Json] | dict[str, Json] | None"
Body: TypeAlias = dict[str, "Json"]

SIZE_MAX = 1 << 20  # bytes
DEPTH_MAX = 32
NUMBER_CHARS_MAX = 40  # as many digits as the engine's arithmetic holds, so that no two numbers look alike
EXPONENT_MAX = 40
REPEATED = "is given more than once"
FLAWS_MAX = 50  # reasons told of one body; a body with more is no better understood by more


def read(raw: bytes, size_max: int = SIZE_MAX) -> Body | tuple[Refusal, ...]:
    """The JSON object in `raw`, or every reason why it is none."""
    if len(raw) > size_max:
        return (Refusal("", f"is larger than {size_max} bytes"),)
    if raw.count(b"[") + raw.count(b"{") > DEPTH_MAX and _too_deep(raw):
        return (Refusal("", f"is nested more than {DEPTH_MAX} deep"),)
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        return (Refusal("", f"is not UTF-8: byte 0x{raw[error.start]:02x} at offset {error.start}"),)
    if not text.strip(" \t\r\n"):
        return (Refusal("", "is empty"),)
    try:
        body = _decoded(text)
    except json.JSONDecodeError as error:
        return (Refusal("", f"is not JSON: {error.msg} at character {error.pos + 1}"),)
    if isinstance(body, tuple):
        return body
    if not isinstance(body, dict):
        return (Refusal("", f"must be a JSON object, not {kind_of(body)}"),)
    # Escapes can hide what the text does not show: half characters, and controls.
    if ("\\" in text or not text.isascii() or "\x7f" in text) and (flaws := tuple(_flaws(body))):
        return flaws
    return body


def salvage(raw: bytes, flaws: tuple[Refusal, ...]) -> Body | None:
    """What `read` found flaws in, with null in the place of each, so that other reasons can be told as well.

    None when there is nothing to read: the flaws are not those of single fields.
    """
    if not flaws or not all(flaw.field for flaw in flaws):
        return None
    body = _cleaned(_MARKING.decode(raw.decode()))
    return body if isinstance(body, dict) else None


def _cleaned(value: Any) -> Any:
    match value:
        case _Flaw():
            return None
        case _Repeated():
            return _cleaned(value.body)
        case dict():
            return {key: _cleaned(item) for key, item in value.items() if not unsafe_text(key)}
        case list():
            return [_cleaned(item) for item in value]
        case str() if unsafe_text(value):
            return None
        case _:
            return value


def _decoded(text: str) -> Any:
    """The value, or a tuple of its flaws. Raises JSONDecodeError, even for what stands behind the first flaw."""
    try:
        return _FAST.decode(text)
    except _Flawed:
        return tuple(_flaws(_MARKING.decode(text)))


def canonical(body: Json) -> bytes:
    """One spelling of one content: keys sorted, no spaces, numbers without exponent and needless zeros."""
    return orjson.dumps(body, _number_out, orjson.OPT_SORT_KEYS)


def body_hash(body: Json) -> str:
    """32 hex digits; equal for equal contents, whatever the order of keys, spacing and spelling of numbers."""
    return blake2b(canonical(body), digest_size=16).hexdigest()


def kind_of(value: object) -> str:
    """What a JSON value is, for a sentence."""
    match value:
        case None:
            return "null"
        case bool():
            return "true or false"
        case str():
            return "a text"
        case list():
            return "a list"
        case dict():
            return "an object"
        case _:
            return "a number"


def shown(text: str, chars_max: int = 40) -> str:
    """Foreign text, made safe and short for a sentence in a log or a page."""
    short = text if len(text) <= chars_max else text[: chars_max - 3] + "..."
    return short if short.isascii() and short.isprintable() else ascii(short)[1:-1]


def unsafe_text(text: str) -> str | None:
    """What makes a text unfit to be stored and shown, or None."""
    found = _UNSAFE.search(text)
    if found is None:
        return None
    code = ord(found[0])
    if 0xD800 <= code <= 0xDFFF:
        return f"holds half of a character (U+{code:04X})"
    return f"holds the control character U+{code:04X}"


# Controls but tab and line ends; marks that turn the reading direction, by which a text can look like another; halves.
_UNSAFE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


class _Flawed(Exception):
    """Something is wrong that a second, marking reading will name."""


class _Flaw(Struct, frozen=True):
    """Stands in the tree for a value that cannot be taken."""

    reason: str


class _Repeated(Struct, frozen=True):
    """Stands in the tree for an object with a key given twice."""

    keys: tuple[str, ...]
    body: dict[str, Any]


def _number(text: str) -> Decimal:
    value = _marked_number(text)
    if isinstance(value, _Flaw):
        raise _Flawed
    return value


def _marked_number(text: str) -> Decimal | _Flaw:
    if len(text) > NUMBER_CHARS_MAX:
        return _Flaw(f"is a number of more than {NUMBER_CHARS_MAX} characters")
    try:
        number = Decimal(text)
    except InvalidOperation:
        return _Flaw(f"is a number out of all bounds: {text}")
    if number and abs(number.adjusted()) >= EXPONENT_MAX:
        return _Flaw(f"is a number out of all bounds: {text}")
    return number


def _constant(text: str) -> Decimal:
    raise _Flawed


def _marked_constant(text: str) -> _Flaw:
    return _Flaw(f"is not a finite number: {text}")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) != len(pairs):
        raise _Flawed
    return body


def _marked_object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Repeated:
    body: dict[str, Any] = {}
    repeated: dict[str, None] = {}
    for key, value in pairs:
        if key in body:
            repeated[key] = None
        body[key] = value
    return _Repeated(tuple(repeated), body) if repeated else body


_FAST = json.JSONDecoder(parse_float=_number, parse_int=_number, parse_constant=_constant, object_pairs_hook=_object)
_MARKING = json.JSONDecoder(
    parse_float=_marked_number,
    parse_int=_marked_number,
    parse_constant=_marked_constant,
    object_pairs_hook=_marked_object,
)


def _flaws(tree: Any) -> Iterator[Refusal]:
    """The first FLAWS_MAX flaws of a tree, each with its path."""
    found = _walk(tree, "")
    for _, flaw in zip(range(FLAWS_MAX), found, strict=False):
        yield flaw


def _walk(value: Any, path: str) -> Iterator[Refusal]:
    match value:
        case _Flaw():
            yield Refusal(path, value.reason)
        case _Repeated():
            for key in value.keys:
                yield Refusal(_below(path, key), REPEATED)
            yield from _walk(value.body, path)
        case dict():
            for key, item in value.items():
                if reason := unsafe_text(key):
                    yield Refusal(_below(path, key), f"is a name that {reason}")
                yield from _walk(item, _below(path, key))
        case list():
            for place, item in enumerate(value):
                yield from _walk(item, f"{path}[{place}]")
        case str():
            if reason := unsafe_text(value):
                yield Refusal(path, reason)


def _below(path: str, key: str) -> str:
    return f"{path}.{shown(key)}" if path else shown(key)


# A string (to its end, or to the end of the text when it is never closed, so that no character is looked at twice), or
# a bracket. Possessive, so that nothing is ever tried a second way.
_TOKEN = re.compile(rb'"(?:[^"\\]++|\\.)*+"?+|[\[{]|[\]}]', re.DOTALL)


def _too_deep(raw: bytes) -> bool:
    depth = 0
    for token in _TOKEN.finditer(raw):
        first = raw[token.start()]
        if first in b"[{":
            depth += 1
            if depth > DEPTH_MAX:
                return True
        elif first in b"]}":
            depth -= 1
    return False


def _number_out(value: object) -> orjson.Fragment:
    assert isinstance(value, Decimal)
    return orjson.Fragment(format(value.normalize(CONTEXT), "f") if value else "0")
