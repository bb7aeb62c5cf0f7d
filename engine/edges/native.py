"""The native dialect's plain entry, read in one piece: an order to open, flat, figures as text or whole numbers. PURE.

So a decider writes that has read our examples, and his order finds a decoder that has been idle for a while: each
function that is then called anew costs more than what it does. Here one expression says all that such a body may be.
Whatever is anything else, or less than right, comes to None, and `dialects.decode_any` reads it, which knows all that
may be said and every reason to refuse. Of a plain entry it says the same, to the letter.
"""

import re
from decimal import Decimal
from hashlib import blake2b

import orjson

from engine.core.messages import Action, OrderType, Quantity, QuoteAmount, Side, Signal, TimeInForce
from engine.edges.fields import ID_CHARS_MAX, members
from engine.edges.signals import DialectTerms, expiry, trace_of
from engine.edges.strict import shown

NAME = "surefire"
BYTES_MAX = 2000  # more than a plain entry can have, but for spaces


def entry(raw: bytes, terms: DialectTerms, source: str, received_ns: int, trace_id: str | None) -> Signal | None:
    """The signal, if the body is a plain entry and nothing is wrong with it."""
    if len(raw) > BYTES_MAX or b"\\" in raw:
        return None
    try:
        canonical = orjson.dumps(orjson.loads(raw), option=orjson.OPT_SORT_KEYS)
    except (orjson.JSONDecodeError, orjson.JSONEncodeError):
        return None
    found = _ENTRY.fullmatch(canonical.decode())
    if found is None or canonical.count(b'"') != raw.count(b'"'):
        return None  # with fewer quotes than were sent: a key was given twice, of which one has won
    given, cancel_after, limit, kind, qty, worth, side, signal_id, stop, symbol, target, tif, tif_long, ttl = (
        found.groups()
    )
    if (kind and kind != ("limit" if limit else "market")) or (tif and tif_long):
        return None
    tif = tif or tif_long or "gtc"
    if tif == "post_only" and not limit:
        return None
    account = given or terms.account
    symbol = terms.aliases.get(symbol, symbol)
    if account is None or symbol not in terms.source_symbols.get(source, (symbol,)):
        return None
    return Signal(
        signal_id=signal_id,
        account=account,
        symbol=symbol,
        action=Action.OPEN,
        source=source,
        dialect=NAME,
        body_hash=blake2b(canonical, digest_size=16).hexdigest(),
        trace_id=shown(trace_id, ID_CHARS_MAX) if trace_id else trace_of(signal_id),
        received_ns=received_ns,
        valid_until_ns=expiry(None, received_ns, _decimal(ttl) or terms.ttls.get(account, terms.ttl_seconds)),
        venue=terms.venue,
        side=_SIDES[side],
        size=Quantity(Decimal(qty.strip('"'))) if qty else QuoteAmount(Decimal(worth.strip('"'))),
        order_type=OrderType.LIMIT if limit else OrderType.MARKET,
        tif=_TIFS[tif],
        limit_price=_decimal(limit),
        stop_loss=_decimal(stop),
        take_profit=_decimal(target),
        cancel_after_seconds=_decimal(cancel_after),
    )


def _decimal(figure: str | None) -> Decimal | None:
    return None if figure is None else Decimal(figure.strip('"'))


_SIDES = members(Side)
_TIFS = members(TimeInForce)

# More than zero, and in narrower bounds than the long way has, so that nothing is left to check.
_FIGURE = r'("(?=[0-9.]*[1-9])[0-9]{1,12}(?:\.[0-9]{1,12})?"|[1-9][0-9]{0,3})'
_SECONDS = r'("(?=[0-9.]*[1-9])[0-9]{1,4}(?:\.[0-9]{1,9})?"|[1-9][0-9]{0,3})'
_TIF = '"(gtc|ioc|fok|post_only)"'

# The body in its canonical spelling: keys in alphabetical order, no spaces, no escapes.
_ENTRY = re.compile(
    r'\{(?:"account":"([A-Za-z0-9_.:@-]{1,64})",)?'
    r'(?:"action":"open",)?'
    rf'(?:"cancel_after_seconds":{_SECONDS},)?'
    rf'(?:"limit_price":{_FIGURE},)?'
    r'(?:"order_type":"(limit|market)",)?'
    rf'(?:"qty":{_FIGURE}|"quote_amount":{_FIGURE}),'
    r'"side":"(buy|sell)",'
    r'"signal_id":"([!#-~]{1,128})",'
    rf'(?:"stop_loss":{_FIGURE},)?'
    r'"symbol":"([A-Z0-9]{2,32})"'
    rf'(?:,"take_profit":{_FIGURE})?'
    rf'(?:,"tif":{_TIF})?(?:,"time_in_force":{_TIF})?'
    rf'(?:,"ttl_seconds":{_SECONDS})?\}}'
)
