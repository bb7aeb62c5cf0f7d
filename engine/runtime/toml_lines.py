"""In which line of a TOML text each table and key stands; the standard library's parser does not tell.

Only for texts that the parser has taken: it looks for headers and keys and steps over values, whatever is in them.
"""

import re
from typing import TypeAlias

from msgspec import Struct

KeyPath: TypeAlias = tuple[str | int, ...]  # an int is the place in an array of tables

_TOKEN = re.compile(
    r'"""(?:[^\\]|\\[\s\S])*?"""'
    r"|'''[\s\S]*?'''"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'"
    r"|\#[^\n]*"
    r"|[A-Za-z0-9_-]+"
    r"|[^\S\n]+"
    r"|[\s\S]"
)


class Lines(Struct, frozen=True):
    known: dict[KeyPath, int]

    def of(self, path: KeyPath) -> int:
        """The line of this key, or of the nearest table round it; 0 when not even that is in the text."""
        while path and path not in self.known:
            path = path[:-1]
        return self.known.get(path, 0)


def find_lines(text: str) -> Lines:
    """Lines count from 1. A key inside an inline table or list has the line of that table's key."""
    known: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for line, tokens in _statements(text):
        brackets = len(tokens) > 1 and tokens[0] == "[" and (2 if tokens[1] == "[" else 1)
        if brackets:
            parts = _key(tokens[brackets : tokens.index("]")])
            table = _resolve(parts, counts)
            if brackets == 2:
                bare = (*_resolve(parts[:-1], counts), parts[-1])
                counts[bare] = counts.get(bare, -1) + 1
                known.setdefault(bare, line)
                table = (*bare, counts[bare])
            known[table] = line
            _note(table, line, known)
        elif "=" in tokens:
            _note((*table, *_key(tokens[: tokens.index("=")])), line, known)
    return Lines(known)


def _note(path: KeyPath, line: int, known: dict[KeyPath, int]) -> None:
    """Tables that are only ever named on the way to others have the line where that happened first."""
    for length in range(1, len(path) + 1):
        known.setdefault(path[:length], line)


def _statements(text: str) -> list[tuple[int, list[str]]]:
    """Each header or assignment as its line and its tokens, spaces and comments left out."""
    statements: list[tuple[int, list[str]]] = []
    tokens: list[str] = []
    line = began = 1
    depth = 0  # of brackets inside a value, where a newline ends nothing
    in_value = False
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token == "\n" and depth == 0:
            if tokens:
                statements.append((began, tokens))
            tokens, in_value = [], False
        elif token.strip() and token[0] != "#":
            began = began if tokens else line
            tokens.append(token)
            in_value = in_value or token == "="
            if in_value:
                depth += (token in "[{") - (token in "]}")
        line += token.count("\n")
    return [*statements, (began, tokens)] if tokens else statements


def _key(tokens: list[str]) -> tuple[str, ...]:
    return tuple(token.strip("\"'") for token in tokens if token != ".")


def _resolve(parts: tuple[str, ...], counts: dict[KeyPath, int]) -> KeyPath:
    """A header below an array of tables means the array's last one."""
    path: KeyPath = ()
    for part in parts:
        path = (*path, part)
        if path in counts:
            path = (*path, counts[path])
    return path
