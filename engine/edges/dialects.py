"""Foreign bodies to Signals: one table and one small function per dialect. PURE.

To add a dialect, write its table of keys (COMMON, LEVELS, SIZES and ORDER help) and a function that turns its words
into ours where a table cannot, and enter both in DIALECTS. Numbers may come as JSON numbers or as text; a symbol in
any usual spelling; a moment as ISO 8601 with its zone or as s, ms, µs or ns; null is as good as nothing. Whatever a
dialect does not know is refused by name, and all that is wrong with a body is told at once.
"""

from collections.abc import Callable

from msgspec import Struct

from engine.core.messages import Action, Control, Malformed, OrderType, Refusal, Side, Signal, TimeInForce
from engine.edges import fields, native
from engine.edges.controls import CONTROLS, STOPS, to_control
from engine.edges.envelope import TIMES, Opened, merge, settle_ids, unwrap
from engine.edges.fields import one_of
from engine.edges.form import Field, Form, Table, kept, kept_objects, known_as
from engine.edges.signals import DialectTerms, Origin, to_signal
from engine.edges.strict import FLAWS_MAX, REPEATED, Body, body_hash, read, salvage, shown

__all__ = ["DIALECTS", "STOPS", "Dialect", "DialectTerms", "decode", "malformed"]

CONTROL = "control"  # the dialect of a source that brings nothing but control events
RAW_CHARS_MAX = 2000
_NATIVE = (None, native.NAME)


class Dialect(Struct, frozen=True):
    """`events` are the envelope types it comes under; `marks` keys that only it uses, to tell it without a type."""

    table: Table
    shape: Callable[[Form], None]
    events: tuple[str, ...] = ()
    marks: frozenset[str] = frozenset()


def decode(
    raw: bytes,
    dialect: str | None,
    terms: DialectTerms,
    source: str,
    received_ns: int,
    trace_id: str | None = None,
    fallback_id: str | None = None,
) -> Signal | Control | Malformed:
    """What the bytes say. `dialect` None: told by the body's type or fields; given: nothing else is taken.

    `fallback_id` is where the transport found the body (file and offset); it serves when the body has no id.
    """
    if dialect in _NATIVE and (plain := native.entry(raw, terms, source, received_ns, trace_id)) is not None:
        return plain
    return decode_any(raw, dialect, terms, source, received_ns, trace_id, fallback_id)


def decode_any(
    raw: bytes,
    dialect: str | None,
    terms: DialectTerms,
    source: str,
    received_ns: int,
    trace_id: str | None = None,
    fallback_id: str | None = None,
) -> Signal | Control | Malformed:
    """The same, of every body, with every reason against it."""
    body = read(raw)
    flaws: tuple[Refusal, ...] = ()
    if isinstance(body, tuple):
        flaws, salvaged = body, salvage(raw, body)
        if salvaged is None:
            return malformed(raw, flaws, source, received_ns)
        body = salvaged
    outer, form = Form(), Form()
    opened = unwrap(body, lambda word: bool(_kind(word)), outer)
    spoken = _spoken(opened, dialect, outer)
    origin = Origin(
        source=source,
        dialect=spoken,
        received_ns=received_ns,
        body_hash=body_hash(body),
        trace_id=trace_id,
        fallback_id=fallback_id,
    )
    decoded: Signal | Control | None = None
    if spoken in CONTROLS:
        merge(form, outer)
        decoded = to_control(spoken, opened.data, form, terms, origin, opened.path)
    elif spoken:
        _given(form, flaws, DIALECTS[spoken].table)
        decoded = _signal(DIALECTS[spoken], opened, outer, form, terms, origin)
    else:
        merge(form, outer)
    if decoded is None or (flaws and getattr(decoded, "name", "") != STOPS):
        reasons = (*flaws, *form.problems)[:FLAWS_MAX]
        return malformed(raw, reasons, source, received_ns, form.got.get("signal_id"))
    return decoded


def _given(form: Form, flaws: tuple[Refusal, ...], table: Table) -> None:
    """What is flawed was given: its flaw is told, and not that it is missing, too."""
    for flaw in flaws:
        field = table.get(flaw.field.rpartition(".")[2])
        if field is not None and field.name and flaw.reason != REPEATED:
            form.spelled.setdefault(field.name, flaw.field)


def _signal(
    dialect: Dialect, opened: Opened, outer: Form, form: Form, terms: DialectTerms, origin: Origin
) -> Signal | None:
    form.read(opened.data, dialect.table, opened.path)
    merge(form, outer)
    settle_ids(form)
    form.take("dialect")
    dialect.shape(form)
    return to_signal(form, terms, origin)


def malformed(
    raw: bytes, reasons: tuple[Refusal, ...], source: str, received_ns: int, signal_id: str | None = None
) -> Malformed:
    """For the dead letters: the reasons, and so much of the body that a person knows it again."""
    start = raw[:RAW_CHARS_MAX].decode("utf-8", "backslashreplace")[:RAW_CHARS_MAX]
    return Malformed(source, reasons, start, received_ns, signal_id)


# -------------------------------------------------------------------------------------------------- whose body it is


def _spoken(opened: Opened, asked: str | None, form: Form) -> str:
    """The dialect or control event, or "" and a problem in the form."""
    kind = _kind(opened.word)
    if asked is not None and asked not in DIALECTS and asked != CONTROL:
        form.wrong("", f"comes by a source set to the unknown dialect '{shown(asked)}'")
        return ""
    if not kind and opened.word and (opened.path or (asked is None and opened.word not in _MOVES)):
        form.unread(opened.typed, opened.word, _all_kinds())
        return ""
    if asked and (kind or asked == CONTROL) and asked != (CONTROL if kind in CONTROLS else kind):
        form.wrong(opened.typed or "", f"is not '{asked}', and this source brings nothing else")
        return ""
    named = opened.data.get("dialect")
    if isinstance(named, str) and kind not in CONTROLS:
        if named not in DIALECTS:
            form.unread(f"{opened.path}dialect", named, DIALECTS)
            return ""
        if named != (kind or named) or named != (asked or named):
            form.wrong(f"{opened.path}dialect", f"is '{named}', but the body is to be read as '{kind or asked}'")
            return ""
        return named
    return kind or asked or _told_by_fields(opened.data)


def _kind(word: str) -> str:
    """The dialect that an event type belongs to, or the control event that it is; "" for neither."""
    if not word or word in DIALECTS or word in CONTROLS:
        return word
    return next((name for name, dialect in DIALECTS.items() if word in dialect.events), "")


def is_event(word: str) -> bool:
    """Whether a body may say so of its type."""
    return bool(word) and bool(_kind(word))


def _all_kinds() -> list[str]:
    return [*DIALECTS, *(event for dialect in DIALECTS.values() for event in dialect.events), *CONTROLS]


def _told_by_fields(body: Body) -> str:
    """Which dialect a body without a type is in."""
    if body.get("decision") in ("enter_trade", "wait", "bad"):
        return "strategy_signal"
    for name, dialect in DIALECTS.items():
        if not dialect.marks.isdisjoint(body):
            return name
    action = body.get("action")
    if action is None:
        if "target" in body:
            return "target_position"
        if "type" in body:
            return "management"
        return "ai_decision" if "confidence" in body or body.get("side") in _WAITING else "surefire"
    if not isinstance(action, str) or action.lower() in _ACTIONS:
        return "surefire"
    return "management" if action.lower() in _MOVES else "ai_decision" if action.lower() in _WORDS else "surefire"


# -------------------------------------------------------------------------------------------------------------- tables

SIDES = {"buy": Side.BUY, "long": Side.BUY, "sell": Side.SELL, "short": Side.SELL}
ORDER_TYPES = {"market": OrderType.MARKET, "limit": OrderType.LIMIT}
TIFS = fields.members(TimeInForce, postonly=TimeInForce.POST_ONLY, gtx=TimeInForce.POST_ONLY)

# Every dialect knows these.
COMMON: Table = {
    **known_as("signal_id", fields.identifier, "id"),
    **known_as("account", fields.account, "account_id"),
    **known_as("venue", fields.venue, "exchange"),
    **known_as("symbol", fields.text, "pair", "instrument", "ticker"),
    **known_as("event_id", fields.identifier),
    **known_as("trace_id", fields.identifier, "correlation_id"),
    "dialect": Field("dialect", fields.word),
    **TIMES,
    **known_as("note", fields.note),
    **kept("reason", "reasoning", "comment", "strategy", "strategy_id", "timeframe", "model", "model_version"),
    **kept("version", "schema_version", "source", "user_id"),
    **kept_objects("context", "metadata", "meta"),
}
LEVELS: Table = {
    **known_as("stop_loss", fields.positive, "sl", "stop_loss_price"),
    **known_as("take_profit", fields.positive, "tp", "take_profit_price"),
}
SIZES: Table = {
    **known_as("qty", fields.positive, "quantity", "size"),
    **known_as("quote_amount", fields.positive, "amount_quote"),
    **known_as("balance_share", fields.fraction),
    **known_as("risk_share", fields.fraction),
    **known_as("notional", fields.positive),
}
ORDER: Table = {
    **known_as("order_type", one_of(ORDER_TYPES)),
    **known_as("tif", one_of(TIFS), "time_in_force"),
    **known_as("limit_price", fields.positive),
    **known_as("cancel_after_seconds", fields.seconds, "cancel_after"),
    **known_as("reduce_only", fields.flag),
}
FIGURES: Table = {
    **known_as("strength", fields.not_negative, "signal_strength"),
    **known_as("confluence", fields.not_negative, "confluence_score"),
    **known_as("confidence", fields.chance),
}
SIDE: Table = known_as("side", one_of(SIDES), "direction")


# ------------------------------------------------------------------------------------------------------------ dialects


def surefire(form: Form) -> None:
    """The native dialect: every field of a Signal by its own name.

        {"signal_id": "s-1", "account": "main", "symbol": "BTCUSDT", "action": "open", "side": "buy", "qty": "0.05",
         "order_type": "limit", "limit_price": "60000", "tif": "gtc", "stop_loss": "59000", "take_profit": "62000",
         "ttl_seconds": 5, "cancel_after_seconds": 30}

    `action` is open (the default), target, close, reduce, move_stop, move_target, cancel or record. The size is one of
    qty (base), quote_amount, balance_share, risk_share, exposure with hedge_ratio; `target` for target;
    position_share or qty for reduce; none at all takes the account's default share. `notional` beside qty must agree.
    `price` is the limit's.
    """
    if form.has("target") and not form.has("action"):
        form.put("action", Action.TARGET)


def hedge_trades(form: Form) -> None:
    """(a) A hedge decision: a size in base, or an exposure and the ratio of it to hedge, with its loan's figures.

        {"trade_id": "h-7", "symbol": "BTCUSDT", "side": "sell", "exposure": "2.5", "hedge_ratio": "0.3",
         "ltv": "0.71", "loan_id": "L-12", "trace_id": "4bf9..."}

    Size and exposure x ratio, both given, must agree within 1 %. `action` may be open (the default) or
    unwind: all of the position, or the given size of it. The side of an unwinding one is context, and beside a size so
    are exposure and ratio: what is open says on which side to close it, and no more than that is closed.
    """
    if form.got.get("action") is not Action.CLOSE:
        form.put("hedge", True)
        if not form.has("qty") and not form.has("hedge_ratio"):
            form.missing("size", "is missing; a hedge needs it, or 'exposure' and 'hedge_ratio'")
        return
    _keep_side(form)
    if form.has("qty"):
        form.put("action", Action.REDUCE)
        form.keep("exposure")
        form.keep("hedge_ratio")


def ai_decision(form: Form) -> None:
    """(b) `ai.decision.made` and `signal.execute`: a model's word with its confidence.

        {"type": "ai.decision.made", "id": "e-9", "timestamp": "2026-01-31T12:00:00Z",
         "data": {"symbol": "ETH/USDT", "side": "long", "confidence": 0.82, "entry": 3000, "tp": 3120, "sl": 2960}}

    `entry` is the price the model saw, or the limit when `order_type` is limit. The word (`action` or `decision`) may
    be buy, sell, long, short, open, close, or hold and the like, which are recorded only.
    """
    _word_to_action(form)
    _entry_to_price(form)


def strategy_signal(form: Form) -> None:
    """(c) A strategy's signal, scored; `decision` says whether it is meant: enter_trade, wait or bad.

    {"signal_id": "x-3", "strategy": "breakout", "exchange": "bybit", "symbol": "BTCUSDT", "side": "buy",
     "strength": 0.8, "confluence_score": 4.2, "entry": 60000, "stop_loss": 59300, "take_profit": 61500,
     "decision": "enter_trade"}
    """
    form.missing("decision")
    _word_to_action(form)
    _entry_to_price(form)


def management(form: Form) -> None:
    """(d) A decision about an open position or a resting entry.

        {"id": "m-1", "symbol": "BTCUSDT", "action": "reduce", "part": 0.5}
        {"id": "m-2", "symbol": "BTCUSDT", "action": "move_sl", "price": 60100}
        {"id": "m-3", "symbol": "BTCUSDT", "action": "cancel", "refers_to": "s-1"}

    `action` is close, reduce (by part, percent or qty), move_sl, move_tp (to price, stop_loss or take_profit) or
    cancel (all resting entries of the symbol, or those of one signal).
    """
    form.missing("action")
    match form.got.get("action"):
        case Action.MOVE_STOP:
            form.rename("level", "stop_loss")
        case Action.MOVE_TARGET:
            form.rename("level", "take_profit")


def target_position(form: Form) -> None:
    """(e) What to hold in the end, signed.

        {"id": "t-1", "symbol": "BTCUSDT", "target": "+0.2"}
        {"id": "t-2", "be": "-1.5 ETH", "stop_loss": "3300"}

    An asset without a symbol is completed by the quote currency of the terms.
    """
    form.missing("target")
    form.put("action", Action.TARGET)


_WAITING = ("wait", "bad", "hold", "none", "skip", "neutral", "no_trade")
_WORDS: dict[str, tuple[Action, Side | None]] = {
    **{word: (Action.OPEN, None) for word in ("open", "enter", "enter_trade", "execute", "entry")},
    **{word: (Action.OPEN, side) for word, side in SIDES.items()},
    **{word: (Action.CLOSE, None) for word in ("close", "exit")},
    **dict.fromkeys(_WAITING, (Action.RECORD, None)),
}


def _word_to_action(form: Form) -> None:
    """Two words, for what to do and for the side; either may say both, and they must not contradict each other."""
    got = form.got
    side_word: str | None = got.pop("side", None)
    word: str = got.pop("decision", None) or (side_word if side_word in _WAITING else "open")
    side = SIDES.get(side_word or "")
    action, implied = _WORDS[word]
    if action is Action.OPEN and (side_word in _WAITING or (implied and side and implied is not side)):
        form.wrong("side", f"is '{side_word}', but the decision is '{word}'")
    form.take("decision")
    form.put("action", action)
    if action is Action.CLOSE and side:
        form.put("side", side)
        _keep_side(form)
    elif side or implied:
        form.put("side", side or implied)
    elif side_word:
        form.take("side")
    if action is Action.RECORD:
        form.keep("note")
        form.put("note", word)


def _keep_side(form: Form) -> None:
    """Of the position that is closed, or of the closing order: nobody says, and it is not needed."""
    side: Side | None = form.take("side")
    if side is not None:
        form.context.append(("side", side.value))


def _entry_to_price(form: Form) -> None:
    """The entry is the limit where the order is one, and else the price that the decider saw."""
    is_limit = form.got.get("order_type") is OrderType.LIMIT and not form.has("limit_price")
    form.rename("entry", "limit_price" if is_limit else "reference_price")


_ACTIONS = fields.members(Action)
_MOVES = {
    **dict.fromkeys(("close", "close_position", "exit"), Action.CLOSE),
    **dict.fromkeys(("reduce", "reduce_position", "partial_close", "scale_out"), Action.REDUCE),
    **dict.fromkeys(("move_sl", "move_stop", "move_stop_loss", "update_sl", "update_stop_loss"), Action.MOVE_STOP),
    **dict.fromkeys(
        ("move_tp", "move_target", "move_take_profit", "update_tp", "update_take_profit"), Action.MOVE_TARGET
    ),
    **dict.fromkeys(("cancel", "cancel_order", "cancel_entry", "cancel_entries"), Action.CANCEL),
    **dict.fromkeys(("hold", "none"), Action.RECORD),
}
_HEDGES = {"open": Action.OPEN, "hedge": Action.OPEN, "close": Action.CLOSE, "unwind": Action.CLOSE}
_ENTRY_PRICE: Table = known_as("entry", fields.positive, "entry_price", "price")
_DECISION = one_of({word: word for word in _WORDS})
_WORD_SIDE: Table = known_as("side", one_of({word: word for word in (*SIDES, *_WAITING)}), "direction")

DIALECTS: dict[str, Dialect] = {
    "hedge_trades": Dialect(
        table={
            **COMMON,
            **SIDE,
            **SIZES,
            **LEVELS,
            **ORDER,
            "trade_id": COMMON["signal_id"],
            **known_as("asset", fields.word, "base", "base_asset"),
            **known_as("action", one_of(_HEDGES)),
            "size_base": SIZES["qty"],
            **known_as("exposure", fields.positive, "exposure_qty", "collateral_qty"),
            **known_as("hedge_ratio", fields.fraction, "ratio"),
            **known_as("reference_price", fields.positive, "price", "mark_price"),
            **kept("ltv", "ltv_before", "ltv_after", "ltv_target", "loan_id", "loan_value", "collateral_value"),
            **kept("collateral_asset", "liquidation_price", "health_factor", "hedge_id", "urgency"),
        },
        shape=hedge_trades,
        events=("hedge_trades", "hedge.trade", "hedge.trade.requested"),
        marks=frozenset({"trade_id", "hedge_id", "ltv", "loan_id", "size_base", "collateral_qty"}),
    ),
    "target_position": Dialect(
        table={
            **COMMON,
            **LEVELS,
            **ORDER,
            **FIGURES,
            **known_as("target", fields.target, "be", "target_position", "target_qty", "position"),
            **known_as("asset", fields.word, "base"),
            **known_as("reference_price", fields.positive, "price"),
            **known_as("hedge", fields.flag),
        },
        shape=target_position,
        events=("target_position", "position.target", "target.position"),
        marks=frozenset({"be", "target_position", "target_qty"}),
    ),
    "management": Dialect(
        table={
            **COMMON,
            **ORDER,
            **known_as("action", one_of(_MOVES), "command", "decision", "type"),
            **known_as("position_share", fields.fraction, "part", "fraction"),
            "percent": Field("position_share", fields.percent),
            "reduce_percent": Field("position_share", fields.percent),
            **known_as("qty", fields.positive, "quantity", "size"),
            **LEVELS,
            "new_stop_loss": LEVELS["stop_loss"],
            "new_sl": LEVELS["stop_loss"],
            "new_take_profit": LEVELS["take_profit"],
            "new_tp": LEVELS["take_profit"],
            **known_as("level", fields.positive, "price", "new_price", "to"),
            **known_as("refers_to", fields.identifier, "entry_signal_id", "original_signal_id"),
        },
        shape=management,
        events=("management", "position.manage", "trade.management", "management.decision"),
        marks=frozenset(
            {"part", "percent", "reduce_percent", "command", "new_stop_loss", "new_sl", "new_take_profit", "new_tp"}
        ),
    ),
    "strategy_signal": Dialect(
        table={
            **COMMON,
            **LEVELS,
            **SIZES,
            **ORDER,
            **FIGURES,
            **_ENTRY_PRICE,
            **_WORD_SIDE,
            **known_as("decision", _DECISION),
            **kept("regime", "indicators", "score"),
        },
        shape=strategy_signal,
        events=("strategy_signal", "strategy.signal", "signal.generated"),
        marks=frozenset({"confluence_score", "signal_strength"}),
    ),
    "ai_decision": Dialect(
        table={
            **COMMON,
            **LEVELS,
            **SIZES,
            **ORDER,
            **FIGURES,
            **_ENTRY_PRICE,
            **_WORD_SIDE,
            **known_as("decision", _DECISION, "action", "signal"),
            "decision_id": COMMON["signal_id"],
            **kept("features", "horizon", "provider"),
        },
        shape=ai_decision,
        events=("ai_decision", "ai.decision.made", "signal.execute"),
        marks=frozenset({"decision_id", "decision", "entry", "entry_price"}),
    ),
    "surefire": Dialect(
        table={
            **COMMON,
            **SIDE,
            **SIZES,
            **LEVELS,
            **ORDER,
            "strength": FIGURES["strength"],
            "confluence": FIGURES["confluence"],
            "confidence": FIGURES["confidence"],
            **known_as("action", one_of(_ACTIONS)),
            **known_as("target", fields.target),
            **known_as("exposure", fields.positive),
            **known_as("hedge_ratio", fields.fraction),
            **known_as("position_share", fields.fraction),
            **known_as("limit_price", fields.positive, "price"),
            **known_as("reference_price", fields.positive),
            **known_as("hedge", fields.flag),
            **known_as("refers_to", fields.identifier),
        },
        shape=surefire,
        events=("surefire", "surefire.signal"),
    ),
}
