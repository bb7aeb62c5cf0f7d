"""Bybit's error codes: what each means for a request that changes something. What is not in the table is unclear.

Codes from the pages "Error Codes" of V5 (docs `error.mdx`); the classes are ours. The same code can mean different
things for a new order and for a cancel: a cancel that finds nothing says that the order is gone, not how.
"""

from enum import Enum

from msgspec import Struct

from engine.core.messages import Acked, Answer, Rejection, Silence


class Class(Enum):
    """What follows from a code."""

    RETRY = "retry"  # surely not executed
    ASK = "ask"  # a limiter's no, which is not documented as certain: ask; what is not found is in doubt
    UNCLEAR = "unclear"  # may be executed
    REJECT = "reject"  # final for this request
    HALT = "halt"  # final, and a human must look: key, ban, region, liquidation
    DONE = "done"  # already as wished
    GONE = "gone"  # to cancel or amend: it is no longer there, or cannot be had now; its state must be read


class Meaning(Struct, frozen=True):
    kind: Class
    word: str = ""  # of our vocabulary of rejections (engine.core.messages.Rejection)


def _rows(kind: Class, word: str, codes: str) -> dict[str, Meaning]:
    return {code: Meaning(kind, word) for code in codes.split()}


CODES: dict[str, Meaning] = {
    **_rows(Class.RETRY, "unavailable", "10002 100016 34022035"),
    **_rows(Class.ASK, "rate_limited", "10006 10403 10429 20003 170005 170222"),
    **_rows(
        Class.UNCLEAR,
        "",
        "-1 429 10000 10016 10019 20006 40004 500000 110079 110035 170001 170234 170007 170032 170035 170146 170147 "
        "170310 170149 170150 170311 148019 148021 148026 148034 148035 148036 148041 3777043 34022038 131214",
    ),
    # The first request with this id most likely landed.
    **_rows(Class.UNCLEAR, "duplicate", "10014 110072 170141"),
    # Parameters, states, rules of the instrument.
    **_rows(
        Class.REJECT,
        "invalid",
        "10001 10404 30208 30209 30228 181017 110003 110005 110009 110011 110013 110015 110017 110018 110019 110020 "
        "110021 110022 110023 110024 110028 110029 110032 110036 110038 110039 110040 110042 110046 110057 110058 "
        "110059 110060 110061 110063 110064 110074 110085 110086 110087 110089 110090 110094 110095 110098 110099 "
        "110103 110108 110109 110118 110119 110120 110121 110131 110135 110136 110137 170036 170037 170344 170346 "
        "170105 170115 170116 170117 170121 170130 170124 170136 170137 170140 170148 170341 170381 170382 170132 "
        "170133 170134 170192 170193 170194 170371 170372 170151 170157 170159 170206 170217 170195 170196 170197 "
        "170198 170199 170200 170228 170229 170201 170202 170203 170204 170218 170227 170312 170313 170210 170810 "
        "182101 182102 182103 182107 182108 182110 182111 182112 148009 148037",
    ),
    **_rows(
        Class.REJECT,
        "insufficient",
        "110004 110045 110006 110007 110012 110014 110044 170033 170131 170034 170207 148012 148029",
    ),
    # A stop whose trigger the market has passed.
    **_rows(Class.REJECT, "triggered", "110092 110093"),
    **_rows(
        Class.HALT,
        "auth",
        "10003 10004 10005 10007 10008 10009 10010 10017 10018 10024 10027 10028 100028 10029 -2015 33004 3100197 "
        "110066 110069 110080 110123 110124 110125 110132 170031 170209 170219 170348 170215 170216 170220 170223 "
        "170230 170226 182100 148031 34022048 34022052",
    ),
    **_rows(Class.DONE, "", "20001 34040 110025 110026 110027 110043"),
    **_rows(
        Class.GONE,
        "not_found",
        "110001 110008 110010 170139 170142 170190 170143 170213 170144 170145 170191 170212",
    ),
}

_UNKNOWN = Meaning(Class.UNCLEAR)


def meaning(code: int) -> Meaning:
    """A code that is not in the table is unclear."""
    return CODES.get(str(code), _UNKNOWN)


def answer_to_place(code: int, text: str, order_id: str, venue_ns: int) -> Answer:
    """What Bybit's code says of a new order."""
    if code == 0:
        return Acked(order_id, venue_ns) if order_id else Silence("accepted, but without an order id")
    found = meaning(code)
    match found.kind:
        case Class.RETRY | Class.REJECT | Class.HALT | Class.ASK:
            return Rejection(str(code), found.word, text)
        case _ if found.word == "duplicate":
            return Rejection(str(code), found.word, text)
        case _:  # also "gone" and "done", which are no answers to a new order
            return Silence(f"{code}: {text}")


def answer_to_change(code: int, text: str, order_id: str, venue_ns: int) -> Answer:
    """What Bybit's code says of a cancel or an amendment; nothing but a 0 is a yes, since the end must be read."""
    if code == 0:
        return Acked(order_id, venue_ns)
    found = meaning(code)
    if found.kind is Class.UNCLEAR:
        return Silence(f"{code}: {text}")
    return Rejection(str(code), found.word or "invalid", text)


def answer_to_status(status: int) -> Answer | None:
    """What an HTTP status says by itself; None: read the body."""
    match status:
        case 200:
            return None
        case 400:
            return Rejection("400", "invalid", "HTTP 400: malformed request")
        case 401:
            return Rejection("401", "auth", "HTTP 401: the key is missing or wrong")
        case 403:  # the address is banned, or from a blocked region: refused before anything was looked at
            return Rejection("403", "unavailable", "HTTP 403: too many requests from this address, or a blocked region")
        case 404:
            return Rejection("404", "auth", "HTTP 404: wrong path, or a product that this account does not have")
        case 429:
            return Rejection("429", "rate_limited", "HTTP 429: the venue asks for a pause")
        case _:  # a gateway may have passed the request on
            return Silence(f"HTTP {status}")
