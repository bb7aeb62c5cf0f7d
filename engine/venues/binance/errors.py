"""What Binance's refusals mean for an order: one table of codes, one of texts, and the rules of HTTP status. Pure.

| class     | what it says                                      | what the engine is told                         |
|-----------|---------------------------------------------------|-------------------------------------------------|
| DONE      | it is already as asked                            | (success, where a setting was to be changed)    |
| RETRY     | surely not executed, may be tried again           | Rejection "rate_limited" or "unavailable"       |
| AMBIGUOUS | may have been executed                            | Silence; an id that exists already: "duplicate" |
| REJECT    | final for this request                            | Rejection "invalid", "insufficient", ...        |
| HALT      | nothing more can be done with this key or address | Rejection "auth"                                |

A code, a text or a body that is not known is AMBIGUOUS: that is the safe side. Several numbers mean different things
on Spot and on USD-M, so each market has its own table. Pages "Error codes for Binance" (spot), "Error Codes" (USD-M).
"""

from enum import Enum

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from engine.core.messages import Rejection, Silence

TEXT_KEPT = 300  # characters of a venue's text that are worth keeping


class Market(Enum):
    SPOT = "spot"
    USDM = "usdm"


class Class(Enum):
    DONE = "done"
    RETRY = "retry"
    AMBIGUOUS = "ambiguous"
    REJECT = "reject"
    HALT = "halt"


class Meaning(Struct, frozen=True):
    """`kind` is a Rejection's kind; Silence has none, but for "duplicate" and "not_found"."""

    klass: Class
    kind: str


class Verdict(Struct, frozen=True):
    """What one refusal means, with the venue's own code and text."""

    klass: Class
    kind: str
    code: str
    text: str = ""
    data: bytes = b""  # what came with it, for the few refusals that are half a success

    @property
    def why(self) -> str:
        return f"{self.code}: {self.text}" if self.text else self.code

    def answer(self) -> Rejection | Silence:
        """For an order or a cancel."""
        if self.klass is Class.AMBIGUOUS and self.kind not in ("duplicate", "not_found"):
            return Silence(self.why)
        return Rejection(self.code, self.kind, self.text)


class ErrorBody(Struct, frozen=True):
    code: int
    msg: str = ""


RATE = Meaning(Class.RETRY, "rate_limited")
AGAIN = Meaning(Class.RETRY, "unavailable")
UNSURE = Meaning(Class.AMBIGUOUS, "")
EXISTS = Meaning(Class.AMBIGUOUS, "duplicate")
ABSENT = Meaning(Class.AMBIGUOUS, "not_found")  # of a cancel or a query; proves nothing by itself
WRONG = Meaning(Class.REJECT, "invalid")
POOR = Meaning(Class.REJECT, "insufficient")
PASSED = Meaning(Class.REJECT, "triggered")
GONE = Meaning(Class.REJECT, "not_found")
LOCKED = Meaning(Class.HALT, "auth")
FINE = Meaning(Class.DONE, "")

BOTH, S, F = (Market.SPOT, Market.USDM), (Market.SPOT,), (Market.USDM,)


def _span(first: int, last: int) -> tuple[int, ...]:
    return tuple(range(first, last - 1, -1))


_ROWS: tuple[tuple[tuple[Market, ...], Meaning, tuple[int, ...]], ...] = (
    # --- general, 10xx and 11xx
    (BOTH, UNSURE, (-1000, -1006, -1007)),  # -1007 was seen with an acceptance that came later
    (S, UNSURE, (-1001,)),
    (F, AGAIN, (-1001,)),  # "503 D", a documented failure there
    (BOTH, LOCKED, (-1002, -1016, -1022)),  # -1016: shutting down for maintenance
    (F, LOCKED, (-1004, -1005, -1011, -1099, -1109)),
    (BOTH, RATE, (-1003, -1015)),
    (BOTH, AGAIN, (-1008, -1021)),  # -1008 with a status of 5xx is ambiguous on spot; -1021: the clock is set first
    (BOTH, WRONG, (-1010, -1013, -1014, -1020)),  # -1013 never reached the engine; -1010 goes by its text
    (F, WRONG, (-1023, -1110, -1126, -1136)),
    (BOTH, WRONG, (-1127, -1128, -1100, -1101, -1102, -1103, -1104, -1105, -1106, -1108, -1111, -1112)),
    (BOTH, WRONG, (*_span(-1114, -1122), -1130)),
    (S, AGAIN, (-1034,)),
    (BOTH, AGAIN, (-1125,)),
    (S, WRONG, (-1131, -1134, -1135, -1145, -1151, -1194, -1220)),
    (S, WRONG, (-1158, -1160, -1165, -1166, -1168, *_span(-1196, -1199))),
    (S, WRONG, (-1210, -1211, *_span(-1222, -1225))),
    # --- processing, 20xx
    (BOTH, LOCKED, (-2008, -2014, -2015)),
    (BOTH, UNSURE, (-2010,)),  # goes by its text; one that is not known stays unsure
    (BOTH, ABSENT, (-2011, -2013)),
    (F, UNSURE, (-2012,)),
    (F, LOCKED, (-2017, -2023)),
    (F, POOR, (-2018, -2019)),
    (F, WRONG, (-2016, -2020, -2022, -2024, -2025, -2026, -2027, -2028)),
    (F, PASSED, (-2021,)),
    (S, UNSURE, (-2021,)),  # cancel-replace half done: its data tells which half
    (S, WRONG, (-2022, -2035, -2036, -2038, -2039, -2043)),
    (S, GONE, (-2026,)),  # archived: an old order without a fill
    (S, AGAIN, (-2042,)),  # on a new socket
    # --- USD-M, 4xxx
    (F, WRONG, (-4000, -4031, -4044, -4060, -4084, -4104, -4144, -4165)),
    (F, WRONG, (*_span(-4001, -4007), -4013, -4014, -4015, -4016, -4023, -4024)),
    (F, WRONG, (-4028, -4161, -4202, -4203, -4205, -4206, -4208, -4209)),
    (F, WRONG, (-4045,)),  # too many conditional orders: the position stays unprotected, and the blotter sees to it
    (F, FINE, (-4046, -4059, -4171)),
    (F, WRONG, (-4047, -4048, -4067, -4068, -4531, *_span(-4167, -4170), -4172)),
    (F, WRONG, (*_span(-4049, -4055), -4114, -4115)),
    (F, LOCKED, (-4061,)),  # the position mode is not what we checked at the start: somebody changed it
    (F, WRONG, (-4062, -4032, -4082)),
    (F, UNSURE, (-4083, -4117)),  # -4117: the stop is firing, a cancel lost the race
    (F, LOCKED, (-4087, -4189, -4400, -4401, -4088, -4109, -4192, -4402, -4403)),
    (F, WRONG, (-4105, -4106, -4107)),
    (F, EXISTS, (-4116,)),
    (F, WRONG, (-4118, -4120, -4131, -4135, *_span(-4137, -4141))),
    (F, PASSED, (-4142,)),
    (F, WRONG, (-4164, -4183, -4184, -4210, -4211)),
    # --- USD-M, 5xxx
    (F, WRONG, (-5021, -5022)),  # fill-or-kill and post-only that failed: a normal end, of which no event follows
    (F, WRONG, (*_span(-5024, -5027), -5029, -5047)),
    (F, AGAIN, (-5028, -5043)),  # -5028: too late at the engine, surely not executed
    (F, WRONG, _span(-5037, -5041)),
)


def _tables() -> dict[Market, dict[int, Meaning]]:
    tables: dict[Market, dict[int, Meaning]] = {Market.SPOT: {}, Market.USDM: {}}
    for markets, meaning, codes in _ROWS:
        for market in markets:
            for code in codes:
                assert code not in tables[market], f"{code} stands twice for {market.value}"
                tables[market][code] = meaning
    return tables


CODES = _tables()

# Of -2010, -2011, -2038 and -1010 on spot, whose texts come from the matching engine. Looked for in lower case.
TEXTS: tuple[tuple[str, Meaning], ...] = (
    ("duplicate order sent", EXISTS),
    ("unknown order sent", ABSENT),
    ("order was not canceled due to cancel restrictions", ABSENT),
    ("insufficient balance", POOR),
    ("order would trigger immediately", PASSED),
    ("market is closed", WRONG),
    ("order would immediately match and take", WRONG),
    ("price * qty is zero or less", WRONG),
    ("icebergqty exceeds qty", WRONG),
    ("unsupported order combination", WRONG),
    ("orders are not supported for this symbol", WRONG),
    ("the relationship of the prices for the orders is not correct", WRONG),
    ("order book liquidity is less than lot_size", WRONG),
    ("would change no state", WRONG),
    ("this action is disabled on this account", LOCKED),
    ("this account may not place or cancel orders", LOCKED),
    ("symbol is restricted for this account", LOCKED),
    ("symbol is not permitted for this account", LOCKED),
    ("trading is not enabled", LOCKED),
)
_BY_TEXT = (-2010, -1010)

_STATUS: dict[int, Meaning] = {
    403: LOCKED,  # firewall or region
    404: WRONG,
    408: UNSURE,
    409: UNSURE,  # cancel-replace half done
    410: LOCKED,  # an endpoint that was taken away
    418: RATE,  # banned; the throttle stays closed until its end
    429: RATE,
}


def meaning_of(market: Market, code: int, text: str = "") -> Meaning:
    """Of a code alone, whatever the status it came with."""
    if market is Market.SPOT and code in _BY_TEXT:
        lower = text.lower()
        by_text = next((meaning for part, meaning in TEXTS if part in lower), None)
        return by_text or CODES[market][code]
    return CODES[market].get(code, UNSURE)


def judge(market: Market, status: int, error: ErrorBody | None, body: str = "") -> Verdict:
    """A refusal by its status and, where there was one that could be read, its error. `body` is for people."""
    code = str(error.code) if error is not None else f"HTTP {status}"
    text = (error.msg if error is not None else body)[:TEXT_KEPT]
    meaning = _meaning(market, status, error)
    return Verdict(meaning.klass, meaning.kind, code, text)


def _meaning(market: Market, status: int, error: ErrorBody | None) -> Meaning:
    if status >= 500:
        # On spot nothing of this kind is a surely failed request; on USD-M three forms of 503 are documented failures.
        failed = market is Market.USDM and status == 503 and error is not None and _surely_failed(error)
        return AGAIN if failed else UNSURE
    if status in (403, 410, 418, 429):
        return _STATUS[status]
    if error is not None:
        return meaning_of(market, error.code, error.msg)
    return _STATUS.get(status, UNSURE)


def _surely_failed(error: ErrorBody) -> bool:
    return error.code == -1008 or error.msg.startswith(("Service Unavailable", "Internal error; unable to process"))


_ERROR = msgspec.json.Decoder(ErrorBody)


def read_error(body: bytes) -> ErrorBody | None:
    """The error in a body, if that is what it is (it may be HTML, empty, cut, or something else in JSON)."""
    try:
        return _ERROR.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def judge_body(market: Market, status: int, body: bytes) -> Verdict:
    """A refusal as it came over HTTP."""
    verdict = judge(market, status, read_error(body), body[:TEXT_KEPT].decode("utf-8", "replace"))
    return replace(verdict, data=body)
