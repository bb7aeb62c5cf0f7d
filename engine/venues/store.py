"""The paper venue's own memory on disk: an image, then what changed since, one JSON line per step.

It stands in for a real venue's database, which survives our crash. So it is written without fsync (a killed process
loses nothing that was written), and before anybody is told. A last line without its end was torn by the kill: whatever
it said had been told to nobody, and it is cut.
"""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

from engine.core.messages import Instrument, OrderReport
from engine.market.account import AccountTerms
from engine.market.matching import Changes, Image, Matching

T = TypeVar("T")


class StoreDamaged(Exception):
    """The file is broken before its end, or another market's: the venue's truth cannot be told from it."""


class Store:
    """`matching` is as the file left it; `append` writes each step's changes behind it."""

    def __init__(self, path: Path, terms: AccountTerms, instruments: Iterable[Instrument]) -> None:
        """Loads, cuts a torn end, and rewrites the file as one image. Raises StoreDamaged, OSError."""
        self.matching = _load(path, terms, tuple(instruments))
        self._encoder = msgspec.json.Encoder()
        fresh = path.with_name(path.name + ".new")
        fresh.write_bytes(self._encoder.encode(self.matching.image()) + b"\n")
        os.replace(fresh, path)
        self._file = open(path, "ab", buffering=0)  # noqa: SIM115 (held for as long as the venue lives)

    def append(self, changes: Changes) -> None:
        lasting = tuple(report for report in changes.reports if not isinstance(report, OrderReport))
        self._file.write(self._encoder.encode(Changes(lasting, changes.orders)) + b"\n")

    def close(self) -> None:
        self._file.close()


def _load(path: Path, terms: AccountTerms, instruments: tuple[Instrument, ...]) -> Matching:
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    if not lines:
        return Matching(terms, instruments)
    traded = {instrument.symbol for instrument in instruments}
    number = 1
    try:
        image = _decode(path, 1, lines[0], _IMAGE)
        _refuse_unknown(path, 1, traded, [*image.wallets.holdings, *(order.request.symbol for order in image.orders)])
        matching = Matching(terms, instruments, image)
        for number, line in enumerate(lines[1:], start=2):
            changes = _decode(path, number, line, _CHANGES)
            _refuse_unknown(path, number, traded, [order.request.symbol for order in changes.orders])
            matching.replay(changes)
        matching.check()
    except _CONTRADICTIONS as error:
        raise StoreDamaged(f"{path}, line {number}: contradicts what stands before it or itself ({error!r})") from error
    return matching


# What folding raises over lines that are JSON of the right form and yet untrue: an id without its number, a fill of a
# symbol that is not there, sums that do not come out, a limit order without its price.
_CONTRADICTIONS = (AssertionError, LookupError, ValueError, ArithmeticError)


_IMAGE = msgspec.json.Decoder(Image)
_CHANGES = msgspec.json.Decoder(Changes)


def _decode(path: Path, number: int, line: bytes, decoder: "msgspec.json.Decoder[T]") -> T:
    try:
        return decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StoreDamaged(f"{path}, line {number}: {error}") from error


def _refuse_unknown(path: Path, number: int, traded: set[str], symbols: list[str]) -> None:
    for symbol in symbols:
        if symbol not in traded:
            raise StoreDamaged(f"{path}, line {number}: holds {symbol}, which is not traded here; take another file")
