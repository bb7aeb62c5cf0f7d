"""What a person may want to read: one JSON line per event, a fixed phrase plus fields. Never what the journal holds.

Actors write with `structlog.get_logger("their name")`; `configure`, called once by a command, says where. Secrets
are known by value, because keys, headers and exception texts can hold one anywhere: every `Secret` made is starred out
of every line from then on.
"""

import logging
from collections.abc import Iterator, Mapping, MutableMapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, BinaryIO

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from engine.runtime.clock import Clock

STARS = "***"
# Shorter values would star out ordinary words. Such a Secret still never prints itself.
_REDACTABLE = 6
_DEPTH_MAX = 8
_NOISY = ("httpx", "httpcore", "hypercorn", "hypercorn.error", "hypercorn.access", "litestar", "trio-websocket")
_secrets: list[str] = []


class Secret:
    """A value that prints as stars. Only `reveal` gives it, to the one function that signs or sends."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        if len(value) >= _REDACTABLE and value not in _secrets:
            _secrets.append(value)
            _secrets.sort(key=len, reverse=True)  # the longest first: one may be a part of another

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return STARS

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return STARS

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not to be written anywhere")


def configure(clock: Clock, stream: BinaryIO, level: str = "info", console: bool = False) -> None:
    """Send all logs, ours and other libraries', to `stream`, which the caller owns; `console` is for human eyes."""
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            _add_name,
            _Stamp(clock),
            structlog.processors.format_exc_info,
            redact,
            *_renderers(console),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=_Factory(stream),
        cache_logger_on_first_use=False,  # so that a module's logger follows when run.py or a test configures anew
    )
    root = logging.getLogger()
    root.handlers[:] = [_Bridge()]
    root.setLevel(number)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


def redact(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Turn every value into plain JSON types, with the secrets starred out, however deep they sit."""
    return {_starred(str(key)): _plain(value, 0) for key, value in event.items()}


class _Out(structlog.BytesLogger):
    """A destination that also knows who writes."""

    def __init__(self, file: BinaryIO, name: str) -> None:
        super().__init__(file)
        self.name = name


class _Factory:
    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def __call__(self, *names: str) -> _Out:
        return _Out(self._file, names[0] if names else "")


class _Stamp:
    """The wall time handed in, to the microsecond."""

    def __init__(self, clock: Clock) -> None:
        self._now_ns = clock.now_ns

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        seconds, ns = divmod(self._now_ns(), 1_000_000_000)
        stamp = datetime.fromtimestamp(seconds, UTC)
        return {"at": f"{stamp:%Y-%m-%dT%H:%M:%S}.{ns // 1000:06d}Z", **event}


class _Bridge(logging.Handler):
    """Other libraries' log records, as lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        exc_info = record.exc_info if record.exc_info and record.exc_info[0] else None
        structlog.get_logger(record.name).log(record.levelno, record.getMessage(), exc_info=exc_info)


def _add_name(logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    name = getattr(logger, "name", "")
    return {"logger": name, **event} if name else event


def _renderers(console: bool) -> Iterator[Processor]:
    if console:
        yield structlog.dev.ConsoleRenderer(timestamp_key="at", pad_event_to=32)
        yield _encode
    else:
        yield _json


def _json(_logger: WrappedLogger, _method: str, event: EventDict) -> bytes:
    return orjson.dumps(event)


def _encode(_logger: WrappedLogger, _method: str, line: Any) -> bytes:
    return str(line).encode("utf-8", "backslashreplace")


def _plain(value: object, depth: int) -> object:
    """A log line never fails for what is in it: what JSON has no word for is written as text."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return value if -(2**63) <= value < 2**64 else str(value)
    if isinstance(value, str):
        return _starred(value)
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, Mapping | MutableMapping) and depth < _DEPTH_MAX:
        return {_starred(str(key)): _plain(inner, depth + 1) for key, inner in value.items()}
    if isinstance(value, list | tuple) and depth < _DEPTH_MAX:
        return [_plain(inner, depth + 1) for inner in value]
    if isinstance(value, bytes):
        return _starred(value.decode("utf-8", "backslashreplace"))
    return _starred(str(value) if isinstance(value, BaseException) else repr(value))


def _starred(text: str) -> str:
    for secret in _secrets:
        if secret in text:
            text = text.replace(secret, STARS)
    return text.encode("utf-8", "backslashreplace").decode() if not text.isascii() else text
