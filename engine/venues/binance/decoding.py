"""What the readers of Spot's and USD-M's private messages share: words, checks, and what a frame can tell. Pure.

What is known and broken raises Odd; fields and events that are not known are passed over. Order and trade numbers are
unique per symbol only, and one trade number may stand on two orders of an account (it traded with itself), so that an
execution is named by both.
"""

from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from engine.core.messages import ZERO, BalanceReport, OrderType, PositionReport, Side, TransferReport, VenueReport
from engine.core.money import BadNumber, sane

T = TypeVar("T")


class Odd(ValueError):
    """A message that does not hold what it should; says what."""


class Heard(Struct, frozen=True):
    """What one frame of a private stream tells."""

    reports: tuple[VenueReport, ...] = ()
    ends: str = ""  # the stream delivers no more, and why
    odd: str = ""  # something that we do not know, for the log
    positions: tuple[PositionReport, ...] = ()
    balances: tuple[BalanceReport, ...] = ()
    transfers: tuple[TransferReport, ...] = ()
    transferred: bool = False  # something was; by which number the venue tells elsewhere


NOTHING = Heard()

STATUS = {
    "NEW": "open",
    "PENDING_NEW": "open",
    "PARTIALLY_FILLED": "open",
    "PENDING_CANCEL": "open",
    "FILLED": "filled",
    "CANCELED": "canceled",
    "REJECTED": "rejected",
    "EXPIRED": "expired",
    "EXPIRED_IN_MATCH": "expired",  # self-trade prevention
}
SIDES = {"BUY": Side.BUY, "SELL": Side.SELL}
TYPES = {
    "LIMIT": OrderType.LIMIT,
    "LIMIT_MAKER": OrderType.LIMIT,
    "MARKET": OrderType.MARKET,
    "STOP_LOSS": OrderType.STOP_MARKET,
    "STOP_LOSS_LIMIT": OrderType.STOP_LIMIT,
    "TAKE_PROFIT_LIMIT": OrderType.TAKE_PROFIT_LIMIT,
    "STOP": OrderType.STOP_LIMIT,
    "STOP_MARKET": OrderType.STOP_MARKET,
    "TRAILING_STOP_MARKET": OrderType.STOP_MARKET,
    "TAKE_PROFIT_MARKET": OrderType.TAKE_PROFIT_MARKET,
}


class Event(Struct, frozen=True):
    """Which kind of event a text is."""

    e: str = ""


def type_of(word: str, price: Decimal) -> OrderType:
    """Of a foreign order it may be one that we do not have; then its price says which it is most like."""
    return TYPES.get(word) or (OrderType.LIMIT if price else OrderType.MARKET)


def execution_id(trade: int, order: int) -> str:
    return f"{trade}-{order}"


def word_of(words: dict[str, T], word: str, what: str) -> T:
    found = words.get(word)
    if found is None:
        raise Odd(f"the unknown {what} {word[:40]!r}")
    return found


def check(row: Struct) -> None:
    """Numbers must be finite and of a sane size before they meet any arithmetic."""
    for name in row.__struct_fields__:
        value: Any = getattr(row, name)
        if isinstance(value, Decimal):
            try:
                sane(value)
            except BadNumber as error:
                raise Odd(f"{name} {error}") from None


def not_below_zero(what: str, *amounts: Decimal) -> None:
    """Quantities have no sign here; one that has is none. Raises Odd."""
    if any(amount < 0 for amount in amounts):
        raise Odd(f"{what} of less than nothing")


def amount_of(text: str | None) -> Decimal:
    """An amount that may be empty where it does not apply. Raises Odd."""
    if not text:
        return ZERO
    try:
        return sane(Decimal(text))
    except (InvalidOperation, BadNumber):
        raise Odd(f"the amount {text[:40]!r}") from None


def read(decoder: "msgspec.json.Decoder[T]", raw: bytes | Raw) -> T:
    try:
        return decoder.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Odd(str(error)) from None


def beginning(raw: Raw) -> str:
    return bytes(raw)[:300].decode("utf-8", "replace")


EVENT = msgspec.json.Decoder(Event)
