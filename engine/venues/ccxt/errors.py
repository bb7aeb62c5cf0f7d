"""What ccxt's unified errors mean for a request that changes something. What is not in the table is unclear.

ccxt turns the codes of a hundred exchanges into forty classes, and some of its assignments are bold: Bybit's "order
creation timeout" comes as InvalidOrder. So a "no" is believed only if neither the exchange's own code, where we have a
table of it, nor the words of its answer speak of doubt. An error before any request left is a "no" whatever it is
called. Source: `ccxt/base/errors.py` of the pinned version.
"""

from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import TypeAlias

from msgspec import Struct

from engine.core.messages import Acked, Answer, Failed, Rejection, Silence
from engine.venues.binance.errors import Class as BinanceClass
from engine.venues.binance.errors import Market, meaning_of
from engine.venues.bybit.errors import Class as BybitClass
from engine.venues.bybit.errors import meaning
from engine.venues.ccxt.lines import Told
from engine.venues.ccxt.process import Gone


class Class(Enum):
    """What follows from an error."""

    RETRY = "retry"  # surely not executed
    ASK = "ask"  # a limiter's no, which nobody documents as certain: look for the order first
    UNCLEAR = "unclear"  # may be executed
    REJECT = "reject"  # final for this request
    HALT = "halt"  # final, and a human must look
    GONE = "gone"  # to a cancel: it is no longer there; its state must be read
    DONE = "done"  # already as wished


class Meaning(Struct, frozen=True):
    kind: Class
    word: str = ""  # of our vocabulary of rejections


def _rows(kind: Class, word: str, names: str) -> dict[str, Meaning]:
    return {name: Meaning(kind, word) for name in names.split()}


ERRORS: dict[str, Meaning] = {
    **_rows(Class.RETRY, "unavailable", "InvalidNonce"),  # older than its window, or its number was used
    **_rows(Class.ASK, "rate_limited", "RateLimitExceeded DDoSProtection"),
    **_rows(
        Class.UNCLEAR,
        "",
        "BaseError ExchangeError OperationFailed NetworkError RequestTimeout ExchangeNotAvailable OnMaintenance "
        "BadResponse NullResponse CancelPending ChecksumError OrderNotCached UnsubscribeError ExchangeClosedByUser "
        "Malformed",
    ),
    **_rows(Class.UNCLEAR, "duplicate", "DuplicateOrderId"),
    **_rows(
        Class.REJECT,
        "invalid",
        "InvalidOrder OrderNotFillable OrderImmediatelyFillable ContractUnavailable BadRequest BadSymbol "
        "ArgumentsRequired NotSupported OperationRejected MarketClosed InvalidAddress AddressPending "
        "InvalidProxySettings",
    ),
    **_rows(Class.REJECT, "insufficient", "InsufficientFunds"),
    **_rows(
        Class.HALT,
        "auth",
        "AuthenticationError PermissionDenied AccountNotEnabled AccountSuspended RestrictedLocation "
        "ManualInteractionNeeded",
    ),
    **_rows(Class.GONE, "not_found", "OrderNotFound"),
    **_rows(Class.DONE, "", "NoChange MarginModeAlreadySet"),
}
_UNKNOWN = Meaning(Class.UNCLEAR)
_DOUBTS = ("timeout", "timed out", "time out", "unknown", "internal", "system error", "try again", "busy", "overload")
_TRIGGERED = ("immediately trigger", "would trigger")


def known(error: str) -> Meaning:
    """A class that is not in the table is unclear."""
    return ERRORS.get(error, _UNKNOWN)


Doubt: TypeAlias = Callable[[int, str], str]
"""What we ourselves know of an exchange's code and text: "unclear", "duplicate", or "" for neither."""


def doubt_of(exchange: str, linear: bool) -> Doubt | None:
    """None: we have no table of this exchange's codes."""
    if exchange.startswith("bybit"):
        return _bybit
    if exchange in ("binance", "binanceusdm", "binanceus"):
        return partial(_binance, Market.USDM if linear else Market.SPOT)
    return None


def _bybit(code: int, text: str) -> str:
    found = meaning(code)
    if found.word == "duplicate":
        return "duplicate"
    return "unclear" if found.kind is BybitClass.UNCLEAR else ""


def _binance(market: Market, code: int, text: str) -> str:
    found = meaning_of(market, code, text)
    if found.kind == "duplicate":
        return "duplicate"
    return "unclear" if found.klass is BinanceClass.AMBIGUOUS and found.kind != "not_found" else ""


def answer_to_place(told: Told | Gone, doubt: Doubt | None) -> Answer | None:
    """What an unhappy end says of a new order; None: it was a happy one, and its value is to be read."""
    if isinstance(told, Gone):
        return Silence(told.why) if told.sent else Rejection("not_sent", "not_sent", told.why)
    if not told.error:
        return None
    text = _text(told)
    found = known(told.error)
    if not told.sent:
        return _unsent(told, found, text)
    doubted = _doubted(told, doubt)
    if doubted == "duplicate":
        return Rejection(told.code or told.error, "duplicate", text)
    if doubted or found.kind not in (Class.RETRY, Class.REJECT, Class.HALT, Class.ASK):
        return Silence(text)
    word = "triggered" if any(words in told.text.lower() for words in _TRIGGERED) else found.word
    return Rejection(told.code or told.error, word, text)


def answer_to_change(told: Told | Gone, doubt: Doubt | None) -> Answer | None:
    """What an unhappy end says of a cancel or an amendment."""
    if isinstance(told, Gone):
        return Silence(told.why) if told.sent else Rejection("not_sent", "not_sent", told.why)
    if not told.error:
        return None
    text = _text(told)
    found = known(told.error)
    if not told.sent:
        return _unsent(told, found, text)
    if found.kind is Class.GONE:
        return Rejection(told.code or told.error, "not_found", text)
    if found.kind is Class.DONE:
        return Acked("")
    if found.kind is Class.UNCLEAR or _doubted(told, doubt):
        return Silence(text)
    return Rejection(told.code or told.error, found.word or "invalid", text)


def failed(told: Told | Gone) -> Failed:
    """A query that was not answered."""
    return Failed(told.why if isinstance(told, Gone) else _text(told))


def _unsent(told: Told, found: Meaning, text: str) -> Rejection:
    """ccxt itself refused, or there was no way to the exchange: no byte of a request has left."""
    if found.kind is Class.HALT:
        return Rejection(told.error, "auth", text)
    network = found.kind is Class.UNCLEAR and told.error not in ("Malformed", "ExchangeError", "BaseError")
    return Rejection(told.error, "not_sent" if network else "invalid", text)


def _doubted(told: Told, doubt: Doubt | None) -> str:
    """Whether the exchange's code or words say less than ccxt's class: "unclear", "duplicate", or "" for neither."""
    if known(told.error).word == "duplicate":
        return "duplicate"  # the first request with this id most likely landed
    if doubt is not None and _whole(told.code):
        return doubt(int(told.code), told.text)
    text = told.text.lower()
    if "duplicate" in text:
        return "duplicate"
    return "unclear" if any(word in text for word in _DOUBTS) else ""


def _whole(code: str) -> bool:
    return code.removeprefix("-").isdecimal() and len(code) < 15


def _text(told: Told) -> str:
    return f"{told.error}: {told.text}" if told.text else told.error
