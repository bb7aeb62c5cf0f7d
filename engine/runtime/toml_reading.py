"""TOML to frozen Structs: every mistake is named at once, by file, line, key and nearest known key.

Knows the forms that fields may have (tables, lists, words, exact numbers), and no field by its name.
"""

import tomllib
from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from re import fullmatch, search
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin

import msgspec
from msgspec import Struct
from msgspec.structs import FieldInfo, fields

from engine.core.money import BadNumber, plain, sane
from engine.runtime.toml_lines import KeyPath, Lines, find_lines

S = TypeVar("S", bound=Struct)
SIZE_MAX = 1 << 18  # characters; a config with a thousand sources has a fifth of it
KEY_PARTS_MAX = 16  # of a dotted key; ours have four, and the standard library's parser is slow with thousands
_KEY_PART = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+"""
_LONG_KEY = rf"(?m)(?:^[ \t]*+\[{{0,2}}+|[{{,])[ \t]*+(?:{_KEY_PART}){{{KEY_PARTS_MAX}}}"


class ConfigError(Exception):
    """The config cannot be used. `problems` are sentences for a person, each with file and line where there is one."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Between(Struct, frozen=True):
    """Bounds of a Decimal, both allowed; msgspec's own are for binary numbers only."""

    low: Decimal
    high: Decimal


def read(
    text: str,
    name: str,
    kind: type[S],
    conflicts: Callable[[S], Iterable[tuple[KeyPath, str]]],
    needed: Mapping[type, str],
) -> S:
    """`name` is the file's in messages; `conflicts` tells what no single field can; `needed`, why a table must be.

    Raises ConfigError.
    """
    raw = _parsed(text, name)
    reading = _Reading(name, find_lines(text), needed)
    found = reading.struct(raw, kind, ())
    if isinstance(found, kind):
        for key, why in conflicts(found):
            reading.problem(key, why)
    if reading.problems:
        raise ConfigError(tuple(sentence for _, sentence in sorted(reading.problems, key=lambda entry: entry[0])))
    assert isinstance(found, kind)
    return found


def _parsed(text: str, name: str) -> dict[str, object]:
    """Raises ConfigError, for the first mistake: where the text is no TOML, the rest cannot be read."""
    if len(text) > SIZE_MAX:
        raise ConfigError((f"{name}: is larger than {SIZE_MAX:,} characters",))
    if half := search("[\ud800-\udfff]", text):
        raise ConfigError((f"{name}: holds half of a character (U+{ord(half[0]):04X})",))
    if path := search(_LONG_KEY, text):
        line = text.count("\n", 0, path.start()) + 1
        raise ConfigError((f"{name}, line {line}: a key of more than {KEY_PARTS_MAX} parts",))
    try:
        return tomllib.loads(text, parse_float=_written_number)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError((_syntax_problem(name, str(error)),)) from error
    except RecursionError:
        raise ConfigError((f"{name}: is nested too deep",)) from None
    except (ValueError, InvalidOperation):  # Python's own limits: of integers, of exponents, of dates
        raise ConfigError((f"{name}: holds a number or date out of all bounds",)) from None


def _written_number(text: str) -> Decimal:
    """Exactly as written. One that no Decimal can hold is a problem of its key, which is told there as NaN."""
    try:
        return Decimal(text)
    except InvalidOperation:
        return Decimal("NaN")


def _syntax_problem(name: str, text: str) -> str:
    """tomllib's own words, with the place moved to where all our messages have it."""
    place = search(r" \(at line (\d+), column (\d+)\)$", text)
    if place is None:
        return f"{name}: is not TOML: {text}"
    return f"{name}, line {place[1]}: is not TOML: {text[: place.start()]} (column {place[2]})"


_SECRET = r"(?i)(.*_)?(api_?key|secret|password|passphrase|passwd|token|private_?key|mnemonic)"
_FAILED = object()


class _Reading:
    """One pass over a parsed file against the Structs; collects problems instead of stopping at the first."""

    def __init__(self, name: str, lines: Lines, needed: Mapping[type, str]) -> None:
        self.name = name
        self.lines = lines
        self.needed = needed
        self.problems: list[tuple[int, str]] = []

    def struct(self, raw: object, kind: type[Struct], path: KeyPath) -> object:
        if not isinstance(raw, dict):
            return self.problem(path, f"{dotted(path)} must be a table, but is {shown(raw)}")
        known = {field.name: field for field in fields(kind)}
        for key in raw:
            if key not in known:
                self._unknown(path, key, tuple(known))
        values = {
            field.name: self.value(raw[field.name], field.type, (*path, field.name))
            for field in known.values()
            if field.name in raw
        }
        missing = [field for field in known.values() if field.required and field.name not in raw]
        for field in missing:
            self._missing(path, field)
        if missing or any(value is _FAILED for value in values.values()):
            return _FAILED
        return kind(**values)

    def value(self, raw: object, kind: Any, path: KeyPath) -> object:
        """`raw` as `kind`, one of the forms that a config uses."""
        inner = _bare(kind)
        if isinstance(inner, type) and issubclass(inner, Struct):
            return self.struct(raw, inner, path)
        if get_origin(inner) is dict:
            return self._table(raw, get_args(inner)[1], path)
        if get_origin(inner) is tuple and _is_struct(get_args(inner)[0]):
            return self._tables(raw, get_args(inner)[0], path)
        if get_origin(inner) is tuple and isinstance(raw, list):
            return self._some(raw, get_args(inner), path)
        if get_origin(inner) is Literal:
            return self._word(raw, get_args(inner), path)
        if inner is Decimal:
            return self._number(raw, kind, path)
        return self._leaf(float(raw) if inner is float and isinstance(raw, Decimal) else raw, kind, path)

    def _table(self, raw: object, kind: Any, path: KeyPath) -> object:
        if not isinstance(raw, dict):
            return self.problem(path, f"{dotted(path)} must be a table, but is {shown(raw)}")
        values = {key: self.value(value, kind, (*path, key)) for key, value in raw.items()}
        return _FAILED if any(value is _FAILED for value in values.values()) else values

    def _tables(self, raw: object, kind: Any, path: KeyPath) -> object:
        if not isinstance(raw, list):
            return self.problem(path, f"{dotted(path)} must be written as [[{dotted(path)}]], but is {shown(raw)}")
        return self._items(raw, kind, path)

    def _some(self, raw: list[object], kinds: tuple[Any, ...], path: KeyPath) -> object:
        """A list of any length, or of exactly so many."""
        if kinds[-1] is not Ellipsis and len(raw) != len(kinds):
            return self.problem(path, f"{dotted(path)} must be a list of {len(kinds)}, but has {len(raw)}")
        return self._items(raw, kinds[0], path)

    def _items(self, raw: list[object], kind: Any, path: KeyPath) -> object:
        values = tuple(self.value(value, kind, (*path, place)) for place, value in enumerate(raw))
        return _FAILED if any(value is _FAILED for value in values) else values

    def _word(self, raw: object, known: tuple[str, ...], path: KeyPath) -> object:
        if raw in known:
            return raw
        hint = did_you_mean(nearest(raw, known))
        return self.problem(path, f"{dotted(path)} must be one of {listed(known)}, but is {shown(raw)}{hint}")

    def _number(self, raw: object, kind: Any, path: KeyPath) -> object:
        """An exact Decimal, from a TOML number (read as Decimal) or from text."""
        try:
            return _decimal(raw, _bounds(kind))
        except BadNumber as error:
            return self.problem(path, f"{dotted(path)} {error}: {shown(raw)}")

    def _leaf(self, raw: object, kind: Any, path: KeyPath) -> object:
        try:
            return msgspec.convert(raw, kind)
        except msgspec.ValidationError as error:
            return self.problem(path, f"{dotted(path)} {_in_words(str(error))}, but is {shown(raw)}")

    def _unknown(self, path: KeyPath, key: str, known: tuple[str, ...]) -> None:
        if fullmatch(_SECRET, key):
            self.problem(
                (*path, key),
                f"'{key}' in {table_name(path)} looks like a secret; secrets are never read from a file. Take it out, "
                "and change it if others could read the file. They come from environment variables, which the file "
                "only names, in keys that end in '_env'",
            )
            return
        what = "section" if not path else "key"
        place = "" if not path else f" in {table_name(path)}"
        self.problem((*path, key), f"unknown {what} '{key}'{place}{did_you_mean(nearest(key, known))}")

    def _missing(self, path: KeyPath, field: FieldInfo) -> None:
        text = f"needs '{field.name}'"
        if field.type in self.needed:
            text = f"needs [{dotted((*path, field.name))}]: {self.needed[field.type]}"
        self.problem(path, f"{table_name(path)} {text}")

    def problem(self, path: KeyPath, text: str) -> object:
        line = self.lines.of(path)
        self.problems.append((line, f"{self.name}, line {line}: {text}" if line else f"{self.name}: {text}"))
        return _FAILED


_WORDS = (
    ("Expected", "must be"),
    ("`int`", "a whole number"),
    ("`bool`", "true or false"),
    ("`float`", "a number"),
    ("`str`", "text in quotes"),
)


def _in_words(complaint: str) -> str:
    """msgspec's "Expected `int`, got `str` - at `$`" as a person would say it."""
    text = complaint.split(", got")[0].split(" - at")[0]
    for word, plainly in _WORDS:
        text = text.replace(word, plainly)
    return text


def _decimal(raw: object, bounds: Between | None) -> Decimal:
    """Raises BadNumber."""
    if isinstance(raw, bool) or not isinstance(raw, str | int | Decimal):
        raise BadNumber("must be a number")
    if isinstance(raw, int) and raw.bit_length() > 200:  # to make a Decimal of it would take long
        raise BadNumber("has more than 18 digits before the point")
    try:
        number = sane(Decimal(raw))
    except InvalidOperation:
        raise BadNumber("must be a number") from None
    if bounds and not bounds.low <= number <= bounds.high:
        raise BadNumber(f"must be from {plain(bounds.low)} to {plain(bounds.high)}")
    return number


def _bounds(kind: Any) -> Between | None:
    """The Between in a type's Annotated, also under `| None`."""
    if get_origin(kind) is Annotated:
        return next((extra for extra in get_args(kind)[1:] if isinstance(extra, Between)), None)
    return next((bounds for bounds in map(_bounds, get_args(kind)) if bounds), None)


def _bare(kind: Any) -> Any:
    """Without Annotated's extras and without `| None`, which TOML cannot say anyway."""
    if get_origin(kind) is Annotated:
        return _bare(get_args(kind)[0])
    members = [member for member in get_args(kind) if member is not type(None)]
    if type(None) in get_args(kind) and len(members) == 1:
        return _bare(members[0])
    return kind


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Struct)


def nearest(word: object, known: tuple[str, ...]) -> str | None:
    return next(iter(get_close_matches(str(word), known, n=1)), None)


def did_you_mean(word: str | None) -> str:
    return f"; did you mean '{word}'?" if word else ""


def listed(words: tuple[str, ...]) -> str:
    return ", ".join(f"'{word}'" for word in words)


def dotted(path: KeyPath) -> str:
    return ".".join(str(part + 1) if isinstance(part, int) else part for part in path)


def table_name(path: KeyPath) -> str:
    if path and isinstance(path[-1], int):
        return f"[[{dotted(path[:-1])}]] number {path[-1] + 1}"
    return f"[{dotted(path)}]"


def shown(raw: object) -> str:
    """A value for a message: text in quotes, cut; containers by their kind only."""
    if isinstance(raw, dict):
        return "a table"
    if isinstance(raw, list):
        return "a list"
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, int) and raw.bit_length() > 200:
        return "a number of more than 60 digits"  # Python itself refuses to write out the very long ones
    text = repr(raw) if isinstance(raw, str) else str(raw)
    return text if len(text) <= 40 else text[:40] + "..."
