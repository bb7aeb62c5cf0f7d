"""What the engine and a ccxt worker say to each other: one JSON line each, over the worker's standard streams.

    engine -> worker   Hello, then a Call at a time; a Go when the worker stands at the door
    worker -> engine   Ready, then for each Call: perhaps one Told with `door`, and one Told with what came of it

Keys travel in the Hello, and nowhere else: not in arguments, not in the environment.
"""

from typing import Any

import msgspec
from msgspec import Struct

LINE_MAX = 1 << 27  # bytes; the markets of the largest exchanges have a few millions


class Hello(Struct, frozen=True):
    """Which exchange, how, and with what. Prints nothing of it."""

    exchange: str  # ccxt's name of it
    kind: str  # "spot" | "swap"
    host: str  # mainnet, testnet, demo, or a URL of this machine
    credentials: dict[str, str]  # key, secret, password, uid: as configured
    timeout_ms: int
    pace: int  # how many workers share the exchange's rate limit
    window_ms: int  # for how long a request is valid, where the exchange lets us say so

    def __repr__(self) -> str:
        return "Hello(***)"


class Ready(Struct, frozen=True):
    """What ccxt says the exchange can do; or, in `problem`, why there is no working with it. No request was made."""

    problem: str = ""
    version: str = ""
    exchange: str = ""
    has: dict[str, Any] = {}  # ccxt's `has`: True, False, None, "emulated"
    features: dict[str, Any] = {}  # ccxt's `features` of the kind of market
    precision_mode: int = 0  # ccxt's: 2 decimal places, 3 significant digits, 4 tick size
    window: bool = False  # requests carry their time, and are refused when they are old


class Call(Struct, frozen=True):
    """One method of ccxt. `door`: before its first byte leaves, the worker asks, and waits for the Go."""

    id: int
    method: str
    args: tuple[Any, ...] = ()
    door: bool = False


class Go(Struct, frozen=True):
    id: int
    go: bool


class Told(Struct, frozen=True):
    """An answer. `error` is the name of ccxt's exception; `sent`: how many requests may have left before it."""

    id: int
    door: bool = False
    value: msgspec.Raw = msgspec.Raw(b"null")
    error: str = ""
    code: str = ""  # the exchange's own, where its answer has one
    text: str = ""
    status: int = 0  # of HTTP, of the last answer within this call; 0: there was none
    sent: int = 0
    retry_after: int = 0  # seconds that the exchange asks us to wait


encode = msgspec.json.Encoder().encode
decode_told = msgspec.json.Decoder(Told).decode
decode_ready = msgspec.json.Decoder(Ready).decode
decode_hello = msgspec.json.Decoder(Hello).decode
decode_call = msgspec.json.Decoder(Call).decode
decode_go = msgspec.json.Decoder(Go).decode


def line_of(message: Struct) -> bytes:
    return encode(message) + b"\n"
