"""From a form to a Signal: what belongs to which action, what excludes what, and when the signal expires. PURE.

Only what the body itself can prove wrong is refused here. Whether the engine may and wants to do it (steps, limits,
the market, the account) is the risk gate's question.
"""

import re
from decimal import Decimal
from hashlib import blake2b
from typing import Any

from msgspec import Struct

from engine.core.messages import (
    ZERO,
    Action,
    BalanceShare,
    HedgeShare,
    OrderType,
    PositionShare,
    Quantity,
    QuoteAmount,
    RiskShare,
    Signal,
    Size,
    TargetPosition,
    TimeInForce,
)
from engine.core.money import plain
from engine.core.times import SECOND
from engine.edges.fields import CONTEXT_TOTAL_MAX, ID_CHARS_MAX, Wrong, identifier
from engine.edges.form import Form
from engine.edges.strict import shown

AGREEMENT = Decimal("0.01")  # two figures that say the same may differ by so much (rounding); RELIABILITY control 27


class DialectTerms(Struct, frozen=True, kw_only=True):
    """What a body may leave out, and how foreign names are read. Durations are seconds.

    `aliases` maps a sender's spelling of a symbol, as sent or without its separators, to the engine's; `venue_aliases`
    a sender's word for a venue (a strategy says "bybit", the account's venue is "paper"). `quote` completes a body that
    names only an asset. `control_sources` are those whose control events are obeyed (`ess.tripped`: of all); None: all.
    `source_symbols`: what a source may trade, where that is not all; in the engine's spelling.
    """

    account: str | None = None
    venue: str | None = None
    ttl_seconds: Decimal = Decimal(10)
    ttls: dict[str, Decimal] = {}
    aliases: dict[str, str] = {}
    venue_aliases: dict[str, str] = {}
    quote: str = "USDT"
    control_sources: tuple[str, ...] | None = None
    source_symbols: dict[str, tuple[str, ...]] = {}


class Origin(Struct, frozen=True, kw_only=True):
    """Where a body came from, and what the transport knows of it."""

    source: str
    dialect: str
    received_ns: int
    body_hash: str
    trace_id: str | None = None
    fallback_id: str | None = None


_TIMES = ("created_ns", "ttl_seconds", "valid_until_ns")
_FIGURES = ("reference_price", "strength", "confluence", "confidence")
_ALWAYS = ("action", "signal_id", "account", "venue", "symbol", "asset", "trace_id", "note", *_TIMES)
_ENTRY_SIZES = ("qty", "quote_amount", "balance_share", "risk_share", "hedge_ratio")
_ORDER = ("order_type", "tif", "limit_price", "reduce_only", "cancel_after_seconds")
_ENTRY = (*_ORDER, "stop_loss", "take_profit", "hedge", "notional")
# What each action has a use for. The rest would be dropped silently, so it is refused.
_USES: dict[Action, tuple[str, ...]] = {
    Action.OPEN: ("side", "exposure", *_ENTRY_SIZES, *_ENTRY),
    Action.TARGET: ("target", *_ENTRY),
    Action.CLOSE: _ORDER,
    Action.REDUCE: ("qty", "quote_amount", "position_share", "notional", *_ORDER),
    Action.MOVE_STOP: ("stop_loss",),
    Action.MOVE_TARGET: ("take_profit",),
    Action.CANCEL: ("refers_to",),
}
_NEEDS: dict[Action, tuple[str, ...]] = {
    Action.OPEN: ("side",),
    Action.TARGET: ("target",),
    Action.MOVE_STOP: ("stop_loss",),
    Action.MOVE_TARGET: ("take_profit",),
}
_SIZES = ("qty", "quote_amount", "balance_share", "risk_share", "hedge_ratio", "position_share", "target")


def to_signal(form: Form, terms: DialectTerms, origin: Origin) -> Signal | None:
    """The signal, or None when the form has a problem (then or by now)."""
    got = form.got
    action: Action = got.get("action", Action.OPEN)
    if "notional" in form.spelled and "qty" not in form.spelled:
        form.rename("notional", "quote_amount")  # alone, it is the size
    if action is not Action.RECORD:
        _check_uses(form, action)
        _check_order(form)
        _check_sizes(form, action)
    else:
        # Written down, not carried out: nothing has to fit together, and no figure is lost.
        for name in ("exposure", "hedge_ratio", "notional"):
            form.keep(name)
        for name in [name for name in _SIZES if name in got][1:]:
            form.keep(name)
    symbol = symbol_of(form, terms, origin.source)
    size = _size(form, action)
    signal_id = _signal_id(form, origin)
    account = got.get("account", terms.account)
    if account is None:
        form.missing("account")
    valid_until_ns = _valid_until_ns(form, terms, origin)
    _check_context(form)
    if form.problems or account is None:
        return None
    own_trace = got.get("trace_id")
    header_trace = shown(origin.trace_id, ID_CHARS_MAX) if origin.trace_id else None
    if header_trace and own_trace and own_trace != header_trace:
        form.keep("trace_id")
    venue = got.get("venue")
    return Signal(
        signal_id=signal_id,
        account=account,
        symbol=symbol,
        action=action,
        source=origin.source,
        dialect=origin.dialect,
        body_hash=origin.body_hash,
        trace_id=header_trace or own_trace or trace_of(signal_id),
        received_ns=origin.received_ns,
        valid_until_ns=valid_until_ns,
        created_ns=got.get("created_ns"),
        venue=terms.venue if venue is None else terms.venue_aliases.get(venue, venue),
        side=got.get("side"),
        size=size,
        order_type=got.get("order_type", OrderType.MARKET),
        tif=got.get("tif", TimeInForce.GTC),
        limit_price=got.get("limit_price"),
        reference_price=got.get("reference_price"),
        stop_loss=got.get("stop_loss"),
        take_profit=got.get("take_profit"),
        strength=got.get("strength"),
        confluence=got.get("confluence"),
        confidence=got.get("confidence"),
        reduce_only=got.get("reduce_only", False),
        hedge=got.get("hedge", False),
        refers_to=got.get("refers_to"),
        cancel_after_seconds=got.get("cancel_after_seconds"),
        note=got.get("note", ""),
        context=tuple(form.context),
    )


def _check_context(form: Form) -> None:
    """It goes into the confirmation, and one that no broker took would hold up everybody's."""
    chars = sum(len(name) + len(value) for name, value in form.context)
    if chars > CONTEXT_TOTAL_MAX:
        form.wrong("context", f"has {chars} characters with all that is kept; at most {CONTEXT_TOTAL_MAX} are")


def trace_of(signal_id: str) -> str:
    """A trace id for a body that came without one: a function of the signal's, so that a repeat has the same."""
    return blake2b(signal_id.encode(), digest_size=16, person=b"trace").hexdigest()


# --------------------------------------------------------------------------------------------------- what goes together


def _check_uses(form: Form, action: Action) -> None:
    uses = _USES[action]
    for name in form.spelled:
        if name not in uses and name not in _ALWAYS and name not in _FIGURES:
            form.wrong(name, f"has no meaning for the action '{action.value}'")
    for name in _NEEDS.get(action, ()):
        form.missing(name, f"is missing; the action '{action.value}' needs it")


def _check_order(form: Form) -> None:
    got = form.got
    if "limit_price" in got and not form.has("order_type"):
        got["order_type"] = OrderType.LIMIT  # who names the worst price he takes wants no worse one
    order_type = got.get("order_type", OrderType.MARKET)
    if order_type is OrderType.LIMIT:
        form.missing("limit_price", "is missing; an order of type 'limit' needs it")
    elif "limit_price" in got and "order_type" in got:
        form.wrong("limit_price", "has no meaning for an order of type 'market'")
    if order_type is OrderType.MARKET and got.get("tif") is TimeInForce.POST_ONLY and not form.has("limit_price"):
        form.wrong("tif", "'post_only' needs an order of type 'limit'")


def _check_sizes(form: Form, action: Action) -> None:
    got = form.got
    given = [name for name in _SIZES if form.has(name) and name in _USES[action]]
    if action is Action.OPEN and (form.has("hedge_ratio") or form.has("exposure")) and form.has("qty"):
        _check_hedge(form)
        given = [name for name in given if form.has(name)]
    if len(given) > 1:
        first, *others = given
        for name in others:
            form.wrong(name, f"is a second size besides '{form.spelled[first]}'; give one")
    if action is Action.REDUCE and not given:
        form.missing("position_share", "is missing; the action 'reduce' needs a size (this, or 'qty')")
    if form.has("hedge_ratio") and action is Action.OPEN:
        form.missing("exposure", "is missing; a hedge ratio is a ratio of it")
    elif form.has("exposure"):
        form.missing("hedge_ratio", "is missing; without it an exposure is no size")
    if "notional" in got:
        _check_notional(form)


def _check_hedge(form: Form) -> None:
    """Size and exposure x ratio, both given, must agree; the size stands, the rest is context."""
    got = form.got
    if "exposure" in got and "hedge_ratio" in got and "qty" in got:
        implied = got["exposure"] * got["hedge_ratio"]
        if not agree(got["qty"], implied):
            form.wrong("qty", f"is {plain(got['qty'])}, but exposure x hedge ratio is {plain(implied)}")
            return
    form.keep("exposure")
    form.keep("hedge_ratio")


def _check_notional(form: Form) -> None:
    """Quantity and worth, both given, must agree at the price that the body names."""
    got = form.got
    price = got.get("limit_price") or got.get("reference_price")
    if price is None:
        form.wrong("notional", "cannot be compared with the quantity without 'limit_price' or 'reference_price'")
    elif "qty" in got and not agree(got["notional"], got["qty"] * price):
        implied = plain(got["qty"] * price)
        form.wrong("notional", f"is {plain(got['notional'])}, but the quantity is worth {implied} at {plain(price)}")


def agree(one: Decimal, other: Decimal) -> bool:
    """Within AGREEMENT of the larger."""
    return abs(one - other) <= AGREEMENT * max(abs(one), abs(other))


def _size(form: Form, action: Action) -> Size | None:
    got: dict[str, Any] = form.got
    if "target" in got:
        return TargetPosition(got["target"][0])
    if "qty" in got:
        return Quantity(got["qty"])
    if "quote_amount" in got:
        return QuoteAmount(got["quote_amount"])
    if "risk_share" in got:
        return RiskShare(got["risk_share"])
    if "balance_share" in got:
        return BalanceShare(got["balance_share"])
    if "position_share" in got:
        return PositionShare(got["position_share"])
    if "hedge_ratio" in got and "exposure" in got:
        return HedgeShare(got["exposure"], got["hedge_ratio"])
    return BalanceShare() if action is Action.OPEN else None


# --------------------------------------------------------------------------------------------------- symbol, id, expiry

_CCXT_SETTLE = re.compile(r"([^:]+)/([^:]+):([^:]+)")
_SYMBOL = re.compile(r"[A-Z0-9]{2,32}")


def symbol_of(form: Form, terms: DialectTerms, source: str = "") -> str:
    """BTC/USDT, btcusdt, BTC-USDT, BTC_USDT and BTC/USDT:USDT are all BTCUSDT. "" and a problem when there is none."""
    got = form.got
    asset = got.get("asset") or (got["target"][1] if "target" in got else "")
    spelled = got.get("symbol") or (asset.upper() + terms.quote if asset and not form.has("symbol") else None)
    if spelled is None:
        form.missing("symbol")
        return ""
    symbol = plain_symbol(spelled, terms.aliases)
    if symbol is None:
        form.wrong("symbol", f"is no symbol that can be traded here: '{shown(spelled)}'")
        return ""
    allowed = terms.source_symbols.get(source)
    if allowed is not None and symbol not in allowed:
        form.wrong("symbol", f"is {symbol}, which the source '{shown(source)}' may not trade")
    if asset and not symbol.startswith(asset.upper()):
        name = "asset" if got.get("asset") else "target"
        form.wrong(name, f"is of {shown(asset)}, but the symbol is {symbol}")
    return symbol


def plain_symbol(spelled: str, aliases: dict[str, str]) -> str | None:
    """None for what is no symbol, or one of a kind that is not traded here (settled in its base, dated)."""
    if spelled in aliases:
        return aliases[spelled]
    settled = _CCXT_SETTLE.fullmatch(spelled)
    if settled and settled[2].upper() != settled[3].upper():
        return None
    pair = f"{settled[1]}/{settled[2]}" if settled else spelled
    joined = pair.upper().replace("/", "").replace("-", "").replace("_", "")
    if joined in aliases:
        return aliases[joined]
    return joined if _SYMBOL.fullmatch(joined) else None


def _signal_id(form: Form, origin: Origin) -> str:
    signal_id = form.got.get("signal_id")
    if signal_id is None and not form.has("signal_id"):
        signal_id = _fallback_id(form, origin)
    if not signal_id:
        form.missing("signal_id", "is missing; without it a repeat cannot be told from a second order")
        return ""
    return str(signal_id)


def _fallback_id(form: Form, origin: Origin) -> str | None:
    try:
        return None if origin.fallback_id is None else identifier(origin.fallback_id)
    except Wrong as wrong:
        form.wrong("signal_id", f"was given by the transport and {wrong}")
        form.spelled["signal_id"] = "signal_id"
        return None


def _valid_until_ns(form: Form, terms: DialectTerms, origin: Origin) -> int:
    got = form.got
    if "valid_until_ns" in got:
        if form.has("ttl_seconds"):
            form.wrong("ttl_seconds", f"says the same as '{form.spelled['valid_until_ns']}'; give one of them")
        return int(got["valid_until_ns"])
    account = got.get("account", terms.account)
    ttl: Decimal = got.get("ttl_seconds") or terms.ttls.get(account or "", terms.ttl_seconds)
    return expiry(got.get("created_ns"), origin.received_ns, ttl)


def expiry(created_ns: int | None, received_ns: int, ttl_seconds: Decimal) -> int:
    """A sender's clock that runs ahead does not lengthen a signal's life: it counts from its arrival at the latest."""
    assert ttl_seconds > ZERO
    born_ns = received_ns if created_ns is None else min(created_ns, received_ns)
    return born_ns + int(ttl_seconds * SECOND)
