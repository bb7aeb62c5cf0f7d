"""What stands before every request: bans, weights, order counts, keys, the clock and signatures."""

import re
from collections.abc import Callable
from typing import Any

from msgspec import Struct

from engine.core.times import SECOND
from engine.exchange.binance.codes import Refused, missing
from engine.exchange.house import key_of
from engine.exchange.http import Request, form
from engine.exchange.keys import signed_by
from engine.exchange.params import Params, number, whole, word
from engine.exchange.quota import Fixed
from engine.exchange.terms import ExchangeTerms, KeyTerms

Headers = tuple[tuple[str, str], ...]

_SIGNATURE = re.compile(r"(^|&)signature=[^&]*")
_WINDOW_MAX_MS = 60_000
_MICROSECONDS = 10**14  # timestamps from here on are microseconds
_PATIENCE = 20  # requests over the limit until an address is banned
_BAN_NS = 120 * SECOND


class OrderLimit(Struct, frozen=True):
    interval: str  # as exchangeInfo says it
    times: int
    limit: int
    window_ns: int
    letter: str  # as the header says it


class Limits(Struct, frozen=True):
    """`weight` is per minute and address, the others per account."""

    weight: int
    orders: tuple[OrderLimit, ...]


class Route(Struct, frozen=True):
    """An operation, over REST or the WebSocket API. `security`: "none", "key" (no signature) or "signed"."""

    operation: str
    run: Callable[..., Any]
    weight: int = 1
    security: str = "signed"
    orders: int = 0  # what it counts as in the order limits
    trades: bool = False


def public(operation: str, run: Callable[..., Any], weight: int = 1) -> Route:
    """Asked for without a key."""
    return Route(operation, run, weight, "none")


def trade(operation: str, run: Callable[..., Any], weight: int = 1, orders: int = 0) -> Route:
    """For keys that may trade."""
    return Route(operation, run, weight, orders=orders, trades=True)


class Gate:
    """One face's. Windows are those of the clock, as Binance's are."""

    def __init__(self, terms: ExchangeTerms, limits: Limits) -> None:
        self.limits = limits
        self.banned: dict[str, int] = {}  # address ("" for all) -> until, ns
        self._terms = terms
        self._weights = Fixed(60 * SECOND)
        self._orders = [(limit, Fixed(limit.window_ns)) for limit in limits.orders]
        self._over: dict[str, int] = {}

    def admit(self, peer: str, weight: int, now_ns: int) -> None:
        """Raises Refused with 418 while the address is banned, with 429 when it asks too much."""
        until_ns = max(self.banned.get(peer, 0), self.banned.get("", 0))
        if now_ns < until_ns:
            text = f"Way too much request weight used; IP banned until {until_ns // 1_000_000}."
            raise _limited(418, text, until_ns, now_ns)
        if self._terms.rate_limits == "off":  # nor is it counted: clients slow down by what the headers tell
            return
        used = self._weights.add(peer, weight, now_ns)
        if used <= self.limits.weight:
            self._over.pop(peer, None)
            return
        self._over[peer] = self._over.get(peer, 0) + 1
        if self._over[peer] > _PATIENCE:
            self.banned[peer] = now_ns + _BAN_NS
        text = f"Too much request weight used; current limit is {self.limits.weight} request weight per 1 MINUTE."
        raise _limited(429, text, self._weights.resets_ns(now_ns), now_ns)

    def count(self, account: str, orders: int, now_ns: int) -> None:
        """Raises Refused with 429 when the account sends too many orders."""
        if self._terms.rate_limits == "off":
            return
        for limit, window in self._orders if orders else ():
            used = window.used(account, now_ns)
            if used + orders > limit.limit:
                text = f"Too many new orders; current limit is {limit.limit} orders per {limit.times} {limit.interval}."
                refusal = _limited(429, text, window.resets_ns(now_ns), now_ns)
                refusal.code = -1015
                raise refusal
        for _, window in self._orders if orders else ():
            window.add(account, orders, now_ns)

    def headers(self, peer: str, account: str, now_ns: int) -> Headers:
        used = str(self._weights.used(peer, now_ns))
        found = [("X-MBX-USED-WEIGHT", used), ("X-MBX-USED-WEIGHT-1M", used)]
        for limit, window in self._orders if account else ():
            name = f"X-MBX-ORDER-COUNT-{limit.times}{limit.letter}"
            found.append((name, str(window.used(account, now_ns))))
        return tuple(found)

    def standing(self, peer: str, account: str, now_ns: int) -> list[dict[str, Any]]:
        """`rateLimits` of the WebSocket API."""
        row = {"rateLimitType": "REQUEST_WEIGHT", "interval": "MINUTE", "intervalNum": 1, "limit": self.limits.weight}
        rows: list[dict[str, Any]] = [row | {"count": self._weights.used(peer, now_ns)}]
        return rows + (self.order_counts(account, now_ns) if account else [])

    def order_counts(self, account: str, now_ns: int) -> list[dict[str, Any]]:
        return [
            {
                "rateLimitType": "ORDERS",
                "interval": limit.interval,
                "intervalNum": limit.times,
                "limit": limit.limit,
                "count": window.used(account, now_ns),
            }
            for limit, window in self._orders
        ]

    def rest_key(self, request: Request, security: str, now_ns: int) -> KeyTerms | None:
        """Whose request it is; None for public ones. Raises Refused, Malformed."""
        if security == "none":
            return None
        key = self.known(request.header("x-mbx-apikey"))
        if security == "key":
            return key
        params = form(request.body.decode("utf-8", "replace")) | form(request.query)
        self.check_time(params, now_ns)
        if "signature" not in params:
            raise missing("signature")
        signed = _SIGNATURE.sub("", request.query).encode()
        signed += _SIGNATURE.sub("", request.body.decode("latin-1")).encode("latin-1")
        if not signed_by(key, signed.lstrip(b"&"), params["signature"]):
            raise Refused(-1022, "Signature for this request is not valid.")
        return key

    def message_key(self, params: Params, security: str, logged_on: KeyTerms | None, now_ns: int) -> KeyTerms | None:
        """The same for a message of the WebSocket API, where the values are signed as they are, sorted by name."""
        if security == "none":
            return None
        if logged_on is not None and "apiKey" not in params:
            if security == "signed":
                self.check_time(params, now_ns)
            return logged_on
        key = self.known(word(params, "apiKey"))
        if security == "key":
            return key
        self.check_time(params, now_ns)
        signed = "&".join(f"{name}={word(params, name)}" for name in sorted(params) if name != "signature")
        if not signed_by(key, signed.encode(), word(params, "signature")):
            raise Refused(-1022, "Signature for this request is not valid.")
        return key

    def known(self, name: str) -> KeyTerms:
        if not name:
            raise Refused(-2014, "API-key format invalid.", 401)
        key = key_of(self._terms, name)
        if key is None:
            raise Refused(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        return key

    def check_time(self, params: Params, now_ns: int) -> None:
        """timestamp < now + 1000 ms and now - timestamp <= recvWindow. Raises Refused, Malformed."""
        stamp, window = whole(params, "timestamp"), number(params, "recvWindow")
        if stamp is None:
            raise missing("timestamp")
        if window is not None and not 0 < window <= _WINDOW_MAX_MS:
            raise Refused(-1131, "recvWindow must be less than 60000.")
        now_ms = now_ns // 1_000_000
        stamp_ms = stamp // 1000 if stamp >= _MICROSECONDS else stamp
        if stamp_ms >= now_ms + 1000:
            raise Refused(-1021, "Timestamp for this request was 1000ms ahead of the server's time.")
        if now_ms - stamp_ms > (5000 if window is None else window):
            raise Refused(-1021, "Timestamp for this request is outside of the recvWindow.")


def _limited(status: int, text: str, until_ns: int, now_ns: int) -> Refused:
    data = {"serverTime": now_ns // 1_000_000, "retryAfter": until_ns // 1_000_000}
    refusal = Refused(-1003, text, status, data)
    refusal.headers = (("Retry-After", str(max(1, -(-(until_ns - now_ns) // SECOND)))),)
    return refusal
