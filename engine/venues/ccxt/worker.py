"""The process in which ccxt runs: one exchange object, one call at a time, until its standard input ends.

ccxt is foreign code that waits, sleeps and counts in floats. Here it can hold up nobody, and is made to

- send each request once: no retries, no redirects, no proxies, and to no host of another environment;
- ask before the first byte of an order, so that the engine's last door stands at the wire here, too;
- read and write numbers as text (`number = str`, JSON numbers as they are written), so that no float ever stands
  between the exchange's digits and our decimals.

What it raises is told by name, with keys and queries taken out of the text; what nobody foresaw ends the process, and
the engine then knows that nothing is known.

    python -m engine.venues.ccxt.worker      # speaks the lines of `lines.py`
"""

import json
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO
from urllib.parse import urlsplit

import msgspec

from engine.venues.ccxt.lines import Call, Hello, Ready, Told, decode_call, decode_go, decode_hello, line_of

PINNED = "4.5.90"  # the version that was looked through, and that the extra `ccxt` installs
TEXT_MAX = 300
# What a malformed answer makes foreign code raise. ccxt's own errors, and what `requests` lets through, come beside.
MALFORMED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)


class Shut(Exception):
    """The engine's last door has closed: nothing was sent."""


def main() -> None:
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever foreign code prints is not an answer
    hello = decode_hello(sys.stdin.buffer.readline())
    speak(out, Ready(problem=problem) if (problem := missing()) else (worker := Worker(hello, out)).ready)
    if not problem and not worker.ready.problem:
        for line in sys.stdin.buffer:
            speak(out, worker.answer(decode_call(line)))


def missing() -> str:
    """Why ccxt cannot be used; "" when it can."""
    try:
        import ccxt
    except ImportError:
        return "ccxt is not installed: pip install 'surefire[ccxt]'"
    if ccxt.__version__ != PINNED:
        return f"ccxt {ccxt.__version__} is installed, and {PINNED} is the tested one: pip install 'surefire[ccxt]'"
    return ""


def speak(out: BinaryIO, message: msgspec.Struct) -> None:
    out.write(line_of(message))
    out.flush()


class Worker:
    """One exchange."""

    def __init__(self, hello: Hello, out: BinaryIO) -> None:
        self._out = out
        self._secrets = sorted((s for s in hello.credentials.values() if len(s) >= 6), key=len, reverse=True)
        self._call = Call(0, "")
        self._asked = False
        self.sent = 0
        try:
            self.exchange = make(hello, self)
            self.ready = ready(self.exchange, hello)
        except Unusable as problem:
            self.ready = Ready(problem=str(problem))

    def answer(self, call: Call) -> Told:
        import ccxt

        self._call, self._asked, self.sent = call, not call.door, 0
        self.exchange.last_json_response = None
        self.exchange.session.status = self.exchange.session.retry_after = 0
        try:
            value = ANSWERS[call.method](self.exchange, *call.args)
            return Told(call.id, value=msgspec.Raw(msgspec.json.encode(value)), sent=self.sent)
        except Shut:
            return Told(call.id, error="Shut", sent=0)
        except ccxt.BaseError as error:
            return self._failed(type(error).__name__, str(error))
        except MALFORMED as error:
            return self._failed("Malformed", f"{type(error).__name__}: {error}")

    def before_sending(self) -> None:
        """Called where a request begins. Raises Shut."""
        if self._asked:
            return
        speak(self._out, Told(self._call.id, door=True))
        line = sys.stdin.buffer.readline()
        if not line:  # the engine is gone: so is its consent
            raise SystemExit(0)
        go = decode_go(line)
        if go.id != self._call.id or not go.go:
            raise Shut
        self._asked = True

    def _failed(self, error: str, text: str) -> Told:
        session = self.exchange.session
        return Told(
            self._call.id,
            error=error,
            code=code_in(self.exchange.last_json_response),
            text=self.clean(text),
            status=session.status,
            sent=self.sent,
            retry_after=session.retry_after,
        )

    def clean(self, text: str) -> str:
        """Without queries (they hold signatures and keys) and without anything that we were told to keep."""
        text = re.sub(r"\?\S*", "?...", text)
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text[:TEXT_MAX]


class Unusable(Exception):
    """The exchange cannot be worked with as it is configured."""


def make(hello: Hello, worker: Worker) -> Any:
    """ccxt's exchange object. Raises Unusable."""
    import ccxt

    if hello.exchange not in ccxt.exchanges:
        raise Unusable(f"ccxt {ccxt.__version__} knows no exchange '{hello.exchange}'")
    foreign = getattr(ccxt, hello.exchange)
    # As class attributes, so that ccxt's own tables are made with them, too.
    exact = type(
        hello.exchange,
        (foreign,),
        {
            "number": str,
            "on_json_response": staticmethod(loads),
            "parse_json": parse_json,
            "filter_by_value_since_limit": all_of_a_symbol,
        },
    )
    exchange = exact({"enableRateLimit": True, "timeout": hello.timeout_ms, "enableLastJsonResponse": True})
    exchange.rateLimit = exchange.rateLimit * hello.pace
    exchange.init_rest_rate_limiter()
    exchange.has["fetchCurrencies"] = False  # asks for more rights than a trading key needs to have
    exchange.options |= {
        "maxRetriesOnFailure": 0,
        "defaultType": hello.kind,
        **({} if hello.kind == "spot" else {"defaultSubType": "linear"}),
        "fetchMargins": False,
        "warnOnFetchOpenOrdersWithoutSymbol": False,
        "adjustForTimeDifference": False,  # we do it, and again and again
    }
    _narrow_markets(exchange, hello.kind)
    if "recvWindow" in exchange.options:
        exchange.options["recvWindow"] = hello.window_ms
    _give_keys(exchange, hello.credentials)
    _choose_host(exchange, hello.host, worker)
    return exchange


def _narrow_markets(exchange: Any, kind: str) -> None:
    """Only the lists of our kind of market are asked for, where ccxt leaves that choice."""
    listed = exchange.options.get("fetchMarkets")
    types = listed.get("types") if isinstance(listed, dict) else None
    if not isinstance(types, list | dict):
        return
    wanted = next((word for word in (("spot",) if kind == "spot" else ("linear", "swap")) if word in types), "")
    if wanted:
        chosen = [wanted] if isinstance(types, list) else {wanted: types[wanted]}
        exchange.options["fetchMarkets"] = {**listed, "types": chosen}


# What ccxt calls a credential, and what our config calls it. A wallet's address and key are a key and a secret, too.
_CREDENTIALS = {
    "apiKey": "key",
    "walletAddress": "key",
    "secret": "secret",
    "privateKey": "secret",
    "password": "password",
    "uid": "uid",
}


def _give_keys(exchange: Any, credentials: dict[str, str]) -> None:
    """Raises Unusable."""
    for name, needed in exchange.requiredCredentials.items():
        value = credentials.get(_CREDENTIALS.get(name, ""), "")
        if needed and not value:
            which = f"'{_CREDENTIALS[name]}_env'" if name in _CREDENTIALS else "what cannot be configured here"
            raise Unusable(f"{exchange.id} needs ccxt's '{name}': {which}")
        if needed:
            setattr(exchange, name, value)


def _choose_host(exchange: Any, host: str, worker: Worker) -> None:
    """Raises Unusable."""
    import ccxt

    live = frozenset(hosts_of(exchange, exchange.urls["api"]))
    allowed: Callable[[str, str], bool]
    if host == "mainnet":
        allowed = lambda scheme, name: scheme == "https" and not _here(name)  # noqa: E731
    elif host in ("testnet", "demo"):
        try:
            exchange.set_sandbox_mode(True) if host == "testnet" else exchange.enable_demo_trading(True)
        except (ccxt.BaseError, *MALFORMED) as error:
            raise Unusable(f"{exchange.id} has no {host} in ccxt") from error
        test = frozenset(hosts_of(exchange, exchange.urls["api"]))
        allowed = lambda scheme, name: scheme == "https" and (name in test or name not in live)  # noqa: E731
        if not test - live and host == "testnet":
            raise Unusable(f"{exchange.id}'s testnet has the same hosts as its mainnet: they cannot be told apart")
    else:
        there = urlsplit(host)
        exchange.urls["api"] = at(exchange.urls["api"], host)
        allowed = lambda scheme, name: name == there.netloc  # noqa: E731
    from engine.venues.ccxt.session import OneShot

    exchange.session = OneShot(worker, allowed)


def _here(name: str) -> bool:
    return name.rpartition(":")[0] in ("127.0.0.1", "localhost", "[::1]") or name in ("127.0.0.1", "localhost", "[::1]")


def hosts_of(exchange: Any, urls: Any) -> Iterator[str]:
    """Every host that is named, however deep."""
    if isinstance(urls, dict):
        for url in urls.values():
            yield from hosts_of(exchange, url)
    elif isinstance(urls, str):
        name = urlsplit(exchange.implode_hostname(urls)).netloc
        if name:
            yield name


def at(urls: Any, host: str) -> Any:
    """The same paths at an exchange of this machine."""
    if isinstance(urls, dict):
        return {name: at(url, host) for name, url in urls.items()}
    path = str(urls).partition("://")[2].partition("/")[2]
    return host.rstrip("/") + (f"/{path}" if path else "")


def ready(exchange: Any, hello: Hello) -> Ready:
    import ccxt

    features = (exchange.features or {}).get(hello.kind) or {}
    if hello.kind != "spot":
        features = features.get("linear") or {}
    return Ready(
        version=ccxt.__version__,
        exchange=exchange.id,
        has=dict(exchange.has),
        features=features,
        precision_mode=exchange.precisionMode,
        window="recvWindow" in exchange.options,
    )


def loads(text: str) -> Any:
    """JSON whose numbers with a point or an exponent stay as they are written. Raises ValueError, RecursionError."""
    return json.loads(text, parse_float=str, parse_constant=str)


def parse_json(exchange: Any, body: str) -> Any:
    """In the place of ccxt's, which takes a page of HTML for an answer with nothing in it. Raises BadResponse."""
    import ccxt

    try:
        found = loads(body) if body[:1] in ("{", "[") else None
    except ValueError:
        found = None
    if found is None and 200 <= exchange.session.status < 300 and exchange.session.status != NO_CONTENT:
        raise ccxt.BadResponse(f"{exchange.id}: no JSON, but {body[:80]!r}")
    return found


def all_of_a_symbol(exchange: Any, rows: Any, field: str, value: Any = None, *_: object, **__: object) -> Any:
    """In the place of ccxt's, which also drops rows without a time, and cuts a list to the length that was asked for:
    whether an answer was full, and whether a row can be read, is for the engine to see."""
    listed = exchange.to_array(rows)
    return listed if value is None else [row for row in listed if row.get(field) == value]


def filled(exchange: Any, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows. ccxt makes an empty list of an answer in which the list is missing: that is no answer.

    Raises NullResponse.
    """
    import ccxt

    if not rows and not holds_rows(exchange.last_json_response):
        raise ccxt.NullResponse(f"{exchange.id}: the answer holds no list")
    return rows


def holds_rows(raw: Any) -> bool:
    """Whether there is a place for rows in it: a list of objects, or an object of them, perhaps without any."""
    if isinstance(raw, list):
        return all(isinstance(item, dict | list) for item in raw)
    if not isinstance(raw, dict):
        return False
    inner = [value for name, value in raw.items() if name not in BESIDE]
    return not raw or any(holds_rows(value) for value in inner)


BESIDE = ("retExtInfo", "ext_info", "error", "errors")  # containers in which no rows are
NO_CONTENT = 204  # some exchanges cancel without a word
_CODES = ("retCode", "ret_code", "code", "sCode", "error_code", "errorCode", "err_code", "err-code", "label")


def code_in(response: Any) -> str:
    """The exchange's own code for what went wrong, by the names that exchanges have for it."""
    if not isinstance(response, dict):
        return ""
    found = next((response[name] for name in _CODES if isinstance(response.get(name), str | int)), "")
    return str(found)[:40]


# ---------------------------------------------------------------------------------------------------------- the methods


def _markets(exchange: Any, kind: str, reload: bool) -> list[dict[str, Any]]:
    rows = []
    for market in exchange.load_markets(reload).values():
        if (kind == "spot") != bool(market.get("spot")) or (kind == "swap" and not market.get("swap")):
            continue
        precision, limits = market.get("precision") or {}, market.get("limits") or {}
        amount, cost = limits.get("amount") or {}, limits.get("cost") or {}
        row = {name: market.get(name) for name in ("symbol", "base", "quote", "settle", "linear", "active")}
        row |= {"contract_size": market.get("contractSize"), "maker": market.get("maker"), "taker": market.get("taker")}
        row |= {"amount_step": precision.get("amount"), "price_step": precision.get("price")}
        row |= {"amount_min": amount.get("min"), "amount_max": amount.get("max"), "cost_min": cost.get("min")}
        row["leverage_max"] = (limits.get("leverage") or {}).get("max")
        rows.append(row)
    return rows


def _load(exchange: Any, reload: bool = False) -> int:
    """For a worker whose markets nobody asks for; with what ccxt wants to know of an account before its first order."""
    count = len(exchange.load_markets(reload))
    if hasattr(exchange, "is_unified_enabled"):
        exchange.is_unified_enabled()
    return count


_ORDER = (
    *("id", "clientOrderId", "symbol", "type", "side", "status", "amount", "filled", "price", "reduceOnly"),
    *("triggerPrice", "stopLossPrice", "takeProfitPrice", "timestamp", "lastUpdateTimestamp"),
)
_TRADE = ("id", "order", "symbol", "side", "amount", "price", "takerOrMaker", "timestamp")
_POSITION = ("symbol", "contracts", "side", "entryPrice", "hedged", "timestamp")
_FUNDING = ("id", "symbol", "amount", "code", "timestamp")
_OWN_ID = ("orderLinkId", "clientOrderId", "clientOid", "clOrdId", "client_oid", "client_order_id", "cl_ord_id")


def _order(row: Any) -> dict[str, Any]:
    return {name: row.get(name) for name in _ORDER}


def _orders(exchange: Any, rows: Any) -> list[dict[str, Any]]:
    return filled(exchange, [_order(row) for row in rows])


def _trade(row: Any) -> dict[str, Any]:
    info = row.get("info")
    info = info if isinstance(info, dict) else {}
    own = next((info[name] for name in _OWN_ID if isinstance(info.get(name), str)), None)
    fees = row.get("fees") or [row.get("fee") or {}]
    told = [{"cost": fee.get("cost"), "currency": fee.get("currency")} for fee in fees if fee]
    return {**{name: row.get(name) for name in _TRADE}, "clientOrderId": own, "fees": told}


def _balance(exchange: Any, params: dict[str, Any]) -> list[dict[str, Any]]:
    found = exchange.fetch_balance(params)
    total, used = found.get("total") or {}, found.get("used") or {}
    total = {**total, **wallets(found.get("info"))}
    return filled(exchange, [{"asset": asset, "total": total[asset], "used": used.get(asset)} for asset in total])


def wallets(info: Any) -> dict[str, Any]:
    """Binance's futures: ccxt's total has the unrealised profit in it, which the engine counts by itself."""
    assets = info.get("assets") if isinstance(info, dict) else None
    rows = [row for row in assets if isinstance(row, dict)] if isinstance(assets, list) else []
    return {row["asset"]: row["walletBalance"] for row in rows if "walletBalance" in row and "asset" in row}


def _time(exchange: Any) -> int:
    """The exchange's clock; from now on this worker stamps by it, too."""
    told = int(exchange.fetch_time())
    if "timeDifference" in exchange.options:
        exchange.options["timeDifference"] = exchange.milliseconds() - told
    return told


ANSWERS: dict[str, Callable[..., Any]] = {
    "load": _load,
    "markets": _markets,
    "time": _time,
    "balance": _balance,
    "create_order": lambda exchange, *args: _order(exchange.create_order(*args)),
    "edit_order": lambda exchange, *args: _order(exchange.edit_order(*args)),
    "cancel_order": lambda exchange, *args: _order(exchange.cancel_order(*args)),
    "fetch_order": lambda exchange, *args: _order(exchange.fetch_order(*args)),
    "fetch_open_orders": lambda exchange, *args: _orders(exchange, exchange.fetch_open_orders(*args)),
    "fetch_closed_orders": lambda exchange, *args: _orders(exchange, exchange.fetch_closed_orders(*args)),
    "fetch_canceled_and_closed_orders": lambda exchange, *args: _orders(
        exchange, exchange.fetch_canceled_and_closed_orders(*args)
    ),
    "fetch_orders": lambda exchange, *args: _orders(exchange, exchange.fetch_orders(*args)),
    "fetch_my_trades": lambda exchange, *args: filled(
        exchange, [_trade(row) for row in exchange.fetch_my_trades(*args)]
    ),
    "fetch_positions": lambda exchange, *args: filled(
        exchange, [{name: row.get(name) for name in _POSITION} for row in exchange.fetch_positions(*args)]
    ),
    "fetch_funding_history": lambda exchange, *args: filled(
        exchange, [{name: row.get(name) for name in _FUNDING} for row in exchange.fetch_funding_history(*args)]
    ),
    "fetch_position_mode": lambda exchange, *args: bool(exchange.fetch_position_mode(*args).get("hedged")),
    "set_leverage": lambda exchange, *args: bool(exchange.set_leverage(*args)),
}


if __name__ == "__main__":
    main()
