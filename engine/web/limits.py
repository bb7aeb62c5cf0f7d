"""Reading a change of limits from a request body. Pure; every field that is wrong is named, all of them at once."""

import json
from collections import Counter
from decimal import Decimal
from difflib import get_close_matches

import msgspec

from engine.core.messages import Limits, Refusal
from engine.core.money import BadNumber, sane
from engine.web.ports import BadBody, Refused

_FIELDS = {field.name: field for field in msgspec.structs.fields(Limits)}
SIZE_MAX = 1 << 16  # bytes; every limit at its longest is a tenth of it
REASONS_MAX = 50  # told of one body
_CHOICES = {"loss_latch": ("acknowledge", "day")}


def limits_changes(raw: bytes) -> dict[str, object]:
    """The fields to change, with their types: `{"daily_loss_max": "250"}`. Raises Refused, or BadBody."""
    changes = _read(raw)
    if not changes:
        raise Refused(Refusal(field="", reason="no limit is named"))
    return changes


def whole_limits(raw: bytes) -> dict[str, object]:
    """Every field: those of the body, and the default of each that the body leaves out. Raises as above."""
    defaults: dict[str, object] = {name: field.default for name, field in _FIELDS.items()}
    return defaults | _read(raw)


def _read(raw: bytes) -> dict[str, object]:
    if len(raw) > SIZE_MAX:
        raise BadBody(Refusal(field="", reason=f"the body is larger than {SIZE_MAX} bytes"))
    try:
        body = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        pairs = json.loads(raw, object_pairs_hook=list)
    except RecursionError:
        raise BadBody(Refusal(field="", reason="the body is nested too deep")) from None
    except ValueError as error:  # of either reader, of bytes that are no text, of integers beyond Python's own limit
        raise BadBody(Refusal(field="", reason=f"the body is not a JSON object: {error}")) from None
    changes: dict[str, object] = {}
    given = Counter(name for name, _ in pairs)
    reasons = [Refusal(field=name, reason="is given more than once") for name, count in given.items() if count > 1]
    for name, value in body.items():
        if len(reasons) >= REASONS_MAX:
            break
        try:
            changes[name] = _converted(name, value)
        except (ValueError, msgspec.ValidationError) as error:
            reasons.append(Refusal(field=name, reason=str(error)))
    if reasons:
        raise Refused(*reasons)
    return changes


def _converted(name: str, value: msgspec.Raw) -> object:
    if name not in _FIELDS:
        near = get_close_matches(name[:64], _FIELDS, n=1)
        raise ValueError("there is no such limit" + (f"; the nearest is {near[0]}" if near else ""))
    typed: object = msgspec.json.decode(value, type=_FIELDS[name].type)
    if isinstance(typed, Decimal):
        try:
            sane(typed)
        except BadNumber as error:
            raise ValueError(str(error)) from None
    if isinstance(typed, Decimal | int) and typed < 0:
        raise ValueError("is below zero")
    if name in _CHOICES and typed not in _CHOICES[name]:
        raise ValueError(f"is none of {', '.join(_CHOICES[name])}")
    return typed
