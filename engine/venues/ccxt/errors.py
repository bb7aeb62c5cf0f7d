"""What ccxt's unified errors mean for a request that changes something. What is not in the table is unclear.

ccxt turns the codes of a hundred exchanges into forty classes, and some of its assignments are bold: Bybit's "order
creation timeout" comes as InvalidOrder. So where we have a table of an exchange's own codes, that decides; elsewhere a
"no" is believed only if the words of the answer do not speak of doubt. An error before any request left is a "no"
whatever it is called. Source: `ccxt/base/errors.py` of the pinned version.
"""

from collections.abc import Callable
from enum import Enum
from functools import partial
from typing import TypeAlias

from msgspec import Struct

from engine.core.messages import Acked, Answer, Failed, Rejection, Silence
from engine.venues.binance.errors import Class as BinanceClass
from engine.venues.binance.errors import ErrorBody, Market, judge
from engine.venues.bybit import errors as bybit
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


Native: TypeAlias = Callable[[Told, bool], Answer | None]
"""What an exchange's own code means to an order, or (True) to a change of one; None: it does not say."""


def native_of(exchange: str, linear: bool) -> Native | None:
    """Of the exchanges whose codes we have tables of ourselves: those are finer than ccxt's classes, and sourced."""
    if exchange.startswith("bybit"):
        return _bybit
    if exchange in ("binance", "binanceusdm", "binanceus"):
        return partial(_binance, Market.USDM if linear else Market.SPOT)
    return None


def _bybit(told: Told, change: bool) -> Answer | None:
    if told.status != 200 or not _whole(told.code) or told.code == "0":
        return bybit.answer_to_status(told.status) if told.status not in (0, 200) else None
    read = bybit.answer_to_change if change else bybit.answer_to_place
    return read(int(told.code), told.text, "", 0)


def _binance(market: Market, told: Told, change: bool) -> Answer | None:
    if told.status in (0, 200):
        return None
    error = ErrorBody(int(told.code), told.text) if _whole(told.code) else None
    verdict = judge(market, told.status, error, told.text)
    if verdict.klass is BinanceClass.DONE:
        return Acked("") if change else Silence(verdict.why)
    return Silence(verdict.why) if verdict.kind == "not_found" and not change else verdict.answer()


def answer_to_place(told: Told | Gone, native: Native | None) -> Answer | None:
    """What an unhappy end says of a new order; None: it was a happy one, and its value is to be read."""
    if isinstance(told, Gone):
        return Silence(told.why) if told.sent else Rejection("not_sent", "not_sent", told.why)
    if not told.error:
        return None
    text = _text(told)
    found = known(told.error)
    if not told.sent:
        return _unsent(told, found, text)
    if native is not None and (answer := native(told, False)) is not None:
        return answer
    doubted = _doubted(told)
    if doubted == "duplicate":
        return Rejection(told.code or told.error, "duplicate", text)
    if doubted or found.kind not in (Class.RETRY, Class.REJECT, Class.HALT, Class.ASK):
        return Silence(text)
    word = "triggered" if any(words in told.text.lower() for words in _TRIGGERED) else found.word
    return Rejection(told.code or told.error, word, text)


def answer_to_change(told: Told | Gone, native: Native | None) -> Answer | None:
    """What an unhappy end says of a cancel or an amendment."""
    if isinstance(told, Gone):
        return Silence(told.why) if told.sent else Rejection("not_sent", "not_sent", told.why)
    if not told.error:
        return None
    text = _text(told)
    found = known(told.error)
    if not told.sent:
        return _unsent(told, found, text)
    if native is not None and (answer := native(told, True)) is not None:
        return answer
    if found.kind is Class.GONE:
        return Rejection(told.code or told.error, "not_found", text)
    if found.kind is Class.DONE:
        return Acked("")
    if found.kind is Class.UNCLEAR or _doubted(told):
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


def _doubted(told: Told) -> str:
    """Whether the words of the answer say less than ccxt's class: "unclear", "duplicate", or "" for neither."""
    text = told.text.lower()
    if known(told.error).word == "duplicate" or "duplicate" in text:
        return "duplicate"  # the first request with this id most likely landed
    return "unclear" if any(word in text for word in _DOUBTS) else ""


def _whole(code: str) -> bool:
    return code.removeprefix("-").isdecimal() and len(code) < 15


def _text(told: Told) -> str:
    return f"{told.error}: {told.text}" if told.text else told.error
