"""What was found in a body: values by the engine's names, and everything that is wrong, by the sender's. PURE.

A table says which keys a dialect knows, what each is called here, and who reads it. Nothing in a body is passed over:
a key is read, kept as context, or refused.
"""

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

from msgspec import Struct

from engine.core.messages import Refusal
from engine.edges.fields import Reader, Wrong, remark, remarks
from engine.edges.strict import Body, Json, shown


class Field(Struct, frozen=True):
    """`name` is the engine's. "" keeps what `read` gives (a text, or pairs of texts) as context under the key."""

    name: str
    read: Reader


Table: TypeAlias = Mapping[str, Field]

PROBLEMS_MAX = 50  # looked up and told of one body; more do not make it clearer


class Form:
    """Values and problems of one body."""

    __slots__ = ("context", "got", "problems", "spelled")

    def __init__(self) -> None:
        self.got: dict[str, Any] = {}
        self.spelled: dict[str, str] = {}  # the sender's path of each value, of the unreadable ones too
        self.context: list[tuple[str, str]] = []
        self.problems: list[Refusal] = []

    def read(self, body: Body, table: Table, path: str = "") -> None:
        """Every key of `body`, whose paths begin with `path`. null is as good as not given."""
        for key, value in body.items():
            field = table.get(key)
            if len(self.problems) >= PROBLEMS_MAX:
                return
            if field is None:
                self.unknown(path, key, table)
            elif value is not None:
                self._take(field, f"{path}{key}", key, value)

    def _take(self, field: Field, path: str, key: str, value: Json) -> None:
        name = field.name
        if name in self.spelled:
            self.problems.append(Refusal(path, f"says the same as '{self.spelled[name]}'; give one of them"))
            return
        if name:
            self.spelled[name] = path
        try:
            read = field.read(value)
        except Wrong as wrong:
            self.problems.append(Refusal(path, str(wrong)))
            return
        if name:
            self.got[name] = read
        elif isinstance(read, tuple):
            self.context.extend(read)
        else:
            self.context.append((key, read))

    def unknown(self, path: str, key: str, known: Iterable[str]) -> None:
        self.problems.append(Refusal(f"{path}{shown(key)}", f"is not known{_nearest(key, known)}"))

    def unread(self, path: str, word: str, known: Iterable[str]) -> None:
        """A value that should be one of the known words and is not."""
        self.problems.append(Refusal(path, f"is '{shown(word)}', which is not known{_nearest(word, known)}"))

    def wrong(self, name: str, reason: str) -> None:
        """A problem with a value that could be read."""
        self.problems.append(Refusal(self.spelled.get(name, name), reason))

    def missing(self, name: str, reason: str = "is missing") -> None:
        """Told once: not again when the value was there and could not be read."""
        if name not in self.spelled:
            self.problems.append(Refusal(name, reason))

    def has(self, name: str) -> bool:
        """Whether the sender gave it, readable or not."""
        return name in self.spelled

    def take(self, name: str) -> Any:
        """The value, or None; it is then no longer in the form."""
        self.spelled.pop(name, None)
        return self.got.pop(name, None)

    def put(self, name: str, value: Any) -> None:
        """A value that follows from others."""
        self.got[name] = value
        self.spelled.setdefault(name, name)

    def keep(self, name: str) -> None:
        """What was read as a value is no part of the instruction here; it goes into the context, under its path."""
        path = self.spelled.get(name, name)
        if (value := self.take(name)) is not None:
            self.context.append((path, remark(value)))

    def rename(self, name: str, other: str) -> None:
        """The value under another name, still spelled as the sender did."""
        if name in self.spelled:
            if other in self.spelled:
                self.wrong(name, f"says the same as '{self.spelled[other]}'; give one of them")
                self.take(name)
                return
            self.spelled[other] = self.spelled.pop(name)
            if name in self.got:
                self.got[other] = self.got.pop(name)


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word[:64], known, 1, 0.6)
    return f"; did you mean '{near[0]}'?" if near else ""


def known_as(name: str, read: Reader, *keys: str) -> dict[str, Field]:
    """One value and all its spellings (its own name first)."""
    field = Field(name, read)
    return {key: field for key in (name, *keys)}


def kept(*keys: str) -> dict[str, Field]:
    """Figures and texts that are carried into the confirmation."""
    return dict.fromkeys(keys, Field("", remark))


def kept_objects(*keys: str) -> dict[str, Field]:
    return dict.fromkeys(keys, Field("", remarks))
