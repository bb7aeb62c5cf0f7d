"""What a bus brings as one JSON body: an entry's fields and headers as the wrapping of its payload. PURE."""

from collections.abc import Mapping, Sequence

import msgspec

from engine.edges.dialects import is_event

PAYLOADS = (b"data", b"payload", b"message", b"body", b"json")
TYPES = (b"type", b"event", b"event_type")
Fields = Mapping[bytes, bytes]


def entry_body(stream: str, entry: Fields) -> bytes:
    """An entry as one JSON body.

    One field of PAYLOADS holds JSON, and the other fields are its wrapping; without one, each field is a text of the
    body. Its type is said by the body, else by a field of TYPES, else by the stream's own name (`signal.execute`).
    """
    payload = next((key for key in PAYLOADS if key in entry), None)
    typed = next((key for key in TYPES if key in entry), None)
    said = {} if typed or not is_event(stream) else {"type": stream}
    if payload is None:
        return msgspec.json.encode({**said, **_texts(entry, ())})
    raw = entry[payload]
    if _has_type(raw) or not (typed or said or len(entry) > 1):
        return raw
    wrapping = msgspec.json.encode({**said, **_texts(entry, (payload,))})
    return b'%b,"data":%b}' % (wrapping[:-1], raw)


def _has_type(raw: bytes) -> bool:
    """Whether the payload is a wrapping itself. What cannot be read is handed on as it is, to be refused."""
    try:
        body = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return True
    return not isinstance(body, dict) or any(isinstance(body.get(key.decode()), str) for key in TYPES)


def _texts(entry: Fields, without: Sequence[bytes]) -> dict[str, str]:
    return {
        key.decode("utf-8", "backslashreplace"): value.decode("utf-8", "backslashreplace")
        for key, value in entry.items()
        if key not in without
    }
