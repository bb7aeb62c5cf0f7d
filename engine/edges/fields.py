"""Readers of one value each: from what JSON holds to what a Signal holds. PURE.

A reader takes the value as strict.py left it (numbers are Decimal) and raises `Wrong` with the rest of a sentence that
begins with the field's name. Numbers may come as JSON numbers or as text; either way exactly as written.
"""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, TypeAlias, TypeVar

from engine.core.messages import ZERO
from engine.core.money import CONTEXT, BadNumber, plain, sane
from engine.core.times import SECOND
from engine.edges.strict import Json, canonical, kind_of, shown

Reader: TypeAlias = Callable[[Json], Any]
Pairs: TypeAlias = tuple[tuple[str, str], ...]
E = TypeVar("E", bound=Enum)

ONE = Decimal(1)
ID_CHARS_MAX = 128
WORD_CHARS_MAX = 256
NOTE_CHARS_MAX = 4000
CONTEXT_PAIRS_MAX = 64
CONTEXT_CHARS_MAX = 1000
CONTEXT_TOTAL_MAX = 65_536  # characters; in any alphabet what tells of the signal fits a broker's usual message of 1 MB
SECONDS_MAX = Decimal(86_400)

_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_ID = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_ACCOUNT = re.compile(r"[A-Za-z0-9_.:@-]{1,64}")
_VENUE = re.compile(r"[a-z0-9_.-]{1,32}")
_TARGET = re.compile(rf"(?:be\s+)?({_DECIMAL.pattern})\s*([A-Za-z0-9]{{2,15}})?", re.ASCII | re.IGNORECASE)
_MOMENT = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}(?::[0-9]{2})?)(?:[.,]([0-9]{1,9}))?"
    r"([Zz]|[+-][0-9]{2}:?[0-9]{2})?"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# A moment from 2000 to 2100 falls into exactly one of these ranges, so the unit need not be said.
_UNITS = ((10**9, 1), (10**6, 10**3), (10**3, 10**6), (1, 10**9))  # nanoseconds in one, ones in a second
_EARLIEST, _LATEST = 946_684_800, 4_102_444_800  # seconds


class Wrong(ValueError):
    """The value cannot be taken; the text goes behind the field's name."""


# ------------------------------------------------------------------------------------------------------------- numbers


def number(value: Json) -> Decimal:
    """Any finite number of at most 18 + 18 digits."""
    if isinstance(value, str):
        if len(value) > WORD_CHARS_MAX or not _DECIMAL.fullmatch(value):
            raise Wrong(f"must be a number, but is the text '{shown(value)}'")
        value = Decimal(value)
    elif not isinstance(value, Decimal):
        raise Wrong(f"must be a number, not {kind_of(value)}")
    try:
        return sane(value)
    except BadNumber as bad:
        raise Wrong(str(bad)) from None


def positive(value: Json) -> Decimal:
    got = number(value)
    if got <= ZERO:
        raise Wrong(f"must be more than 0, but is {plain(got)}")
    return got


def not_negative(value: Json) -> Decimal:
    got = number(value)
    if got < ZERO:
        raise Wrong(f"must not be negative, but is {plain(got)}")
    return got


def fraction(value: Json) -> Decimal:
    """A part of something: more than 0, at most 1."""
    got = number(value)
    if not ZERO < got <= ONE:
        raise Wrong(f"must be more than 0 and at most 1 (0.02 is 2 %), but is {plain(got)}")
    return got


def chance(value: Json) -> Decimal:
    """From 0 to 1, both included."""
    got = number(value)
    if not ZERO <= got <= ONE:
        raise Wrong(f"must be from 0 to 1, but is {plain(got)}")
    return got


def percent(value: Json) -> Decimal:
    """A part in hundredths; given back as a fraction."""
    got = number(value)
    if not ZERO < got <= 100:
        raise Wrong(f"must be more than 0 and at most 100, but is {plain(got)}")
    return CONTEXT.divide(got, Decimal(100))


def seconds(value: Json) -> Decimal:
    """A duration: more than 0, at most a day."""
    got = number(value)
    if not ZERO < got <= SECONDS_MAX:
        raise Wrong(f"must be more than 0 and at most {plain(SECONDS_MAX)} seconds, but is {plain(got)}")
    return got


def milliseconds(value: Json) -> Decimal:
    """A duration in milliseconds; given back in seconds."""
    return seconds(CONTEXT.divide(number(value), Decimal(1000)))


def whole(value: Json) -> int:
    got = number(value)
    if got != got.to_integral_value():
        raise Wrong(f"must be a whole number, but is {plain(got)}")
    return int(got)


def target(value: Json) -> tuple[Decimal, str]:
    """A signed quantity and its asset ("" when not said): 0.2, "+0.2 BTC", "be -1", {"qty": 1, "asset": "BTC"}."""
    if isinstance(value, dict):
        unknown = [key for key in value if key not in ("qty", "asset")]
        if unknown or "qty" not in value:
            raise Wrong("must hold 'qty' and may hold 'asset', nothing else")
        asset = value.get("asset")
        if asset is not None and not isinstance(asset, str):
            raise Wrong(f"names its asset by {kind_of(asset)}")
        return number(value["qty"]), (asset or "").upper()
    if isinstance(value, str):
        found = _TARGET.fullmatch(value) if len(value) <= WORD_CHARS_MAX else None
        if found is None:
            raise Wrong(f"must be a quantity, such as '+0.2 BTC', but is '{shown(value)}'")
        return number(found[1]), (found[2] or "").upper()
    return number(value), ""


# --------------------------------------------------------------------------------------------------------------- texts


def text(value: Json, chars_max: int = WORD_CHARS_MAX) -> str:
    if not isinstance(value, str):
        raise Wrong(f"must be a text, not {kind_of(value)}")
    if not value or value.isspace():
        raise Wrong("must not be empty")
    if len(value) > chars_max:
        raise Wrong(f"has {len(value)} characters; at most {chars_max} are taken")
    return value


def word(value: Json) -> str:
    """A word whose case does not matter."""
    return text(value).lower()


def note(value: Json) -> str:
    return text(value, NOTE_CHARS_MAX)


def identifier(value: Json) -> str:
    """1 to 128 printable ASCII characters, no space at the ends; a whole number is taken as its digits."""
    if isinstance(value, Decimal):
        if value.as_tuple().exponent != 0 or value < ZERO:
            raise Wrong("must be a text (or a whole number) of printable ASCII characters")
        return str(value)
    got = text(value, ID_CHARS_MAX)
    if not _ID.fullmatch(got):
        raise Wrong("must be printable ASCII characters without spaces at the ends")
    return got


def account(value: Json) -> str:
    got = text(value)
    if not _ACCOUNT.fullmatch(got):
        raise Wrong(f"must be 1 to 64 letters, digits or any of _ . : @ -, but is '{shown(got)}'")
    return got


def venue(value: Json) -> str:
    got = word(value)
    if not _VENUE.fullmatch(got):
        raise Wrong(f"must be a venue's name, but is '{shown(got)}'")
    return got


def flag(value: Json) -> bool:
    if not isinstance(value, bool):
        raise Wrong(f"must be true or false, not {kind_of(value)}")
    return value


def words(value: Json) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise Wrong(f"must be a list of texts, not {kind_of(value)}")
    return tuple(text(item) for item in value)


def one_of(choices: Mapping[str, Any]) -> Reader:
    """A reader of one of these words, in any case."""
    listed = ", ".join(choices)

    def choice(value: Json) -> Any:
        got = word(value)
        if got not in choices:
            raise Wrong(f"must be one of {listed}, but is '{shown(got)}'")
        return choices[got]

    return choice


def members(kind: type[E], **more: E) -> dict[str, E]:
    """The words of an Enum, and other spellings of them."""
    return {member.value: member for member in kind} | more


# -------------------------------------------------------------------------------------------------------------- moments


def moment(value: Json) -> int:
    """Nanoseconds since the epoch, exactly, of an ISO 8601 text with its zone, or a number of s, ms, µs or ns."""
    if isinstance(value, str) and not _DECIMAL.fullmatch(value[:WORD_CHARS_MAX]):
        return _iso(value)
    return _counted(_plain_number(value))


def _plain_number(value: Json) -> Decimal:
    # Nanoseconds have 19 digits, one more than money may have.
    if isinstance(value, str):
        if len(value) > 40:
            raise Wrong("must be a moment, as ISO 8601 or a number")
        value = Decimal(value)
    if not isinstance(value, Decimal):
        raise Wrong(f"must be a moment, as ISO 8601 or a number, not {kind_of(value)}")
    return value


def _counted(count: Decimal) -> int:
    for unit_ns, per_second in _UNITS:
        if _EARLIEST * per_second <= count < _LATEST * per_second:
            ns = CONTEXT.multiply(count, Decimal(unit_ns))
            return int(ns)  # what is finer than a nanosecond is cut
    raise Wrong("must be a moment between 2000 and 2100 in seconds, milliseconds, microseconds or nanoseconds")


def _iso(value: str) -> int:
    found = _MOMENT.fullmatch(value) if len(value) <= 64 else None
    if found is None:
        raise Wrong(f"must be a moment such as 2026-01-31T12:00:00Z, but is '{shown(value)}'")
    day, time, part, zone = found.groups()
    if zone is None:
        raise Wrong("has no time zone; end it with Z or an offset such as +00:00")
    try:
        at = datetime.fromisoformat(f"{day}T{time}{zone.upper()}")
        since = at - _EPOCH
    except (ValueError, OverflowError):
        raise Wrong(f"is no moment of the calendar: '{shown(value)}'") from None
    whole_seconds = since.days * 86_400 + since.seconds
    if not _EARLIEST <= whole_seconds < _LATEST:
        raise Wrong("must be a moment between 2000 and 2100")
    return whole_seconds * SECOND + int((part or "0").ljust(9, "0"))


# -------------------------------------------------------------------------------------------------------------- context


def remark(value: Json) -> str:
    """A figure or text of the sender's, kept as text and not acted upon."""
    match value:
        case str():
            got = value
        case bool():
            got = "true" if value else "false"
        case Decimal():
            got = format(value, "f")
        case _:
            got = canonical(value).decode()
    if len(got) > CONTEXT_CHARS_MAX:
        raise Wrong(f"has {len(got)} characters; at most {CONTEXT_CHARS_MAX} are kept")
    return got


def remarks(value: Json) -> Pairs:
    """An object of such figures."""
    if not isinstance(value, dict):
        raise Wrong(f"must be an object, not {kind_of(value)}")
    if len(value) > CONTEXT_PAIRS_MAX:
        raise Wrong(f"has {len(value)} entries; at most {CONTEXT_PAIRS_MAX} are kept")
    for key in value:
        if len(key) > ID_CHARS_MAX:
            raise Wrong(f"has the name '{shown(key)}' of more than {ID_CHARS_MAX} characters")
    return tuple((key, remark(item)) for key, item in value.items() if item is not None)
