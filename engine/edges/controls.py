"""Events that steer the engine instead of trading (SPEC ING3). PURE.

    {"type": "ess.tripped", "id": "e-1", "level": "CRITICAL", "reason": "venue insolvent"}
    {"type": "ess.cleared", "id": "e-2", "reason": "false alarm"}
    {"type": "policy.updated", "id": "p-1", "data": {"account": "main", "version": 7, "limits": {"positions_max": 2}}}
    {"type": "model.promoted", "id": "m-1", "data": {"model": "lstm", "version": "12"}}

What stops is read kindly, and from every source: a stop must not be lost over a field too many. What loosens (a
clearing, new limits) is read as strictly as a signal, and only from sources that may steer (`controls` in the config).
The data of each is kept whole.
"""

from typing import get_type_hints

from engine.core.messages import Control, Limits, Stamp
from engine.edges import fields
from engine.edges.envelope import TIMES, settle_ids
from engine.edges.fields import Wrong, identifier
from engine.edges.form import Field, Form, Table, kept, kept_objects, known_as
from engine.edges.signals import DialectTerms, Origin, trace_of
from engine.edges.strict import Body, Json, canonical, kind_of, shown

_COMMON: Table = {
    **known_as("signal_id", fields.identifier, "id"),
    **known_as("event_id", fields.identifier),
    **known_as("trace_id", fields.identifier, "correlation_id"),
    **TIMES,
    **kept("reason", "by", "source", "version", "level", "severity", "state", "note"),
    **kept_objects("context", "metadata", "meta", "details"),
}


def _limits(value: Json) -> tuple[tuple[str, object], ...]:
    if not isinstance(value, dict):
        raise Wrong(f"must be an object, not {kind_of(value)}")
    if not value:
        raise Wrong("must name at least one limit")
    form = Form()
    form.read(value, _LIMITS)
    if form.problems:
        raise Wrong("; ".join(f"'{problem.field}' {problem.reason}" for problem in form.problems))
    return tuple(form.got.items())


def _limits_table() -> Table:
    """The fields of Limits, each read by its type."""
    readers = {"Decimal": fields.not_negative, "int": fields.whole, "str": fields.text, "bool": fields.flag}
    hints = get_type_hints(Limits)
    names = {name: hints[name] for name in Limits.__struct_fields__}
    return {name: Field(name, readers.get(hint.__name__, fields.words)) for name, hint in names.items()}


_LIMITS = _limits_table()
_TABLES: dict[str, Table | None] = {
    "ess.tripped": None,  # anything is taken
    "ess.cleared": _COMMON,
    "policy.updated": {
        **{key: field for key, field in _COMMON.items() if key != "version"},
        **known_as("policy_version", fields.whole, "version", "revision"),
        **known_as("account", fields.account, "account_id"),
        **known_as("limits", _limits, "policy"),
    },
    "model.promoted": None,
}
CONTROLS = tuple(_TABLES)
STOPS = "ess.tripped"


def to_control(name: str, data: Body, form: Form, terms: DialectTerms, origin: Origin, path: str) -> Control | None:
    """The event, or None when the form has a problem. `form` holds what the envelope said."""
    if terms.control_sources is not None and origin.source not in terms.control_sources and name != STOPS:
        form.wrong("", f"is '{name}', which the source '{shown(origin.source)}' may not send; `controls` lets it")
        return None
    table = _TABLES[name]
    if table is None:
        form.problems.clear()
        form.got |= _readable(data)
    else:
        form.read(data, table, path)
    settle_ids(form)
    if name == "policy.updated":
        form.missing("limits")
        if terms.account is None:
            form.missing("account")
    elif table is not None and form.has("account"):
        form.wrong("account", f"has no meaning: '{name}' is for the whole engine")
    if form.problems:
        return None
    got = form.got
    control_id = got.get("signal_id") or origin.fallback_id or origin.body_hash
    header_trace = shown(origin.trace_id, fields.ID_CHARS_MAX) if origin.trace_id else None
    return Control(
        name=name,
        account=got.get("account") or (terms.account or "" if name == "policy.updated" else ""),
        body=canonical(data).decode(),
        source=origin.source,
        trace_id=header_trace or got.get("trace_id") or trace_of(control_id),
        received_ns=origin.received_ns,
        control_id=control_id,
        changes=got.get("limits", ()),
        stamp=Stamp(got.get("created_ns"), got.get("policy_version")) if name == "policy.updated" else Stamp(),
        body_hash=origin.body_hash,
        names=names_of(name, got.get("signal_id"), origin),
    )


def names_of(name: str, own_id: str | None, origin: Origin) -> tuple[str, ...]:
    """What a repeat of it is known by.

    Its own id, or else its place, where it has one. A stop needs both, because a sender that uses an id twice may mean
    it twice: only what a transport itself brings again (a file read from its beginning, an entry not acknowledged) is
    a repeat of a stop.
    """
    place = f"{origin.source}:{origin.fallback_id}" if origin.fallback_id else ""
    if name == STOPS:
        return (f"stop/{place}/{own_id or ''}",) if place else ()
    if own_id:
        return (f"control/{own_id}",)
    return (f"control/{place}",) if place else ()


def _readable(data: Body) -> dict[str, str]:
    """Ids that can be read; the others do without."""
    found: dict[str, str] = {}
    for key, name in (("id", "signal_id"), ("signal_id", "signal_id"), ("trace_id", "trace_id")):
        try:
            found[name] = identifier(data.get(key))
        except Wrong:
            continue
    return found
