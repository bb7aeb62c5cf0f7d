"""The wrapping that buses put round a body: its type, its own id and time, and the data inside. PURE.

    {"type": "signal.execute", "id": "e-9", "time": "2026-01-31T12:00:00Z", "data": {"symbol": "BTCUSDT", ...}}

The type may also stand flat among the fields, as `type`, `event` or `event_type`.
"""

from collections.abc import Callable

from msgspec import Struct

from engine.edges import fields
from engine.edges.form import Form, Table, kept, kept_objects, known_as
from engine.edges.strict import Body, shown

TIMES: Table = {
    **known_as("created_ns", fields.moment, "created", "created_at", "timestamp", "time", "ts"),
    **known_as("ttl_seconds", fields.seconds, "ttl"),
    **known_as("ttl_ms", fields.milliseconds),
    **known_as("valid_until_ns", fields.moment, "valid_until", "expires_at"),
}
WRAPPING: Table = {
    **known_as("event_id", fields.identifier, "id", "message_id"),
    **known_as("signal_id", fields.identifier),
    **known_as("account", fields.account, "account_id"),
    **known_as("trace_id", fields.identifier, "correlation_id"),
    **TIMES,
    **kept("source", "producer", "subject", "version", "schema_version", "specversion", "datacontenttype"),
    **kept_objects("context", "metadata", "meta"),
}
_TYPES = ("type", "event", "event_type")
_PAYLOADS = ("data", "payload")


class Opened(Struct, frozen=True):
    """`word` is the type as given, at key `typed`; `path` is where the data lay ("" when there was no wrapping)."""

    data: Body
    typed: str = ""
    word: str = ""
    path: str = ""


def unwrap(body: Body, is_type: Callable[[str], bool], form: Form) -> Opened:
    """What the wrapping says goes into the form, its problems too. A flat type is taken out only if it `is_type`."""
    typed = next((key for key in _TYPES if isinstance(body.get(key), str)), "")
    word = str(body[typed]).lower() if typed else ""
    payload = next((key for key in _PAYLOADS if isinstance(body.get(key), dict)), None)
    if payload:
        form.read({key: value for key, value in body.items() if key not in (typed, payload)}, WRAPPING)
        data = body[payload]
        assert isinstance(data, dict)
        return Opened(data, typed, word, f"{payload}.")
    if typed and is_type(word):
        return Opened({key: value for key, value in body.items() if key != typed}, typed, word)
    return Opened(body, typed, word)


def settle_ids(form: Form) -> None:
    """The event's own id is the signal's where the data names none; else it is context."""
    if form.has("event_id"):
        if form.has("signal_id"):
            form.keep("event_id")
        else:
            form.rename("event_id", "signal_id")
    if form.has("ttl_ms"):
        form.rename("ttl_ms", "ttl_seconds")


def merge(form: Form, outer: Form) -> None:
    """Where the data and its wrapping both speak, the data counts, and the other word is kept as context."""
    form.problems[:0] = outer.problems
    form.context[:0] = outer.context
    for name, path in outer.spelled.items():
        if not form.has(name):
            form.spelled[name] = path
            if name in outer.got:
                form.got[name] = outer.got[name]
        elif name in outer.got and outer.got[name] != form.got.get(name):
            form.context.append((f"envelope.{shown(path)}", str(outer.got[name])))
