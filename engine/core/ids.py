"""Client order ids: functions of what the order is, so that a restart derives the same id for the same order.

    tag(2) + version(1) + base32(blake2b(env | account | signal | leg))[:24] + attempt(base32, 2)  =  29 characters

of the alphabet every venue takes (letters and digits), under every venue's 36. The tag is the engine's mark: an order
in our account whose id does not start with it is somebody else's. No clock, chance or process id goes in.
"""

from hashlib import blake2b

from engine.core.messages import Leg

TAG = "sf"
VERSION = "1"
_DIGITS = "abcdefghijklmnopqrstuvwxyz234567"
_PAIRS = tuple(first + second for first in _DIGITS for second in _DIGITS)  # ten bits each


def client_order_id(env: str, account: str, signal_id: str, leg: Leg, attempt: int) -> str:
    """The id of one attempt at one leg of one signal. `attempt` is 0 to 1023; raises ValueError beyond."""
    if not 0 <= attempt < 1024:
        raise ValueError(f"attempt {attempt} is outside 0 to 1023")
    # Lengths go in, so that no two different tuples can run together into the same bytes.
    parts = env.encode(), account.encode(), signal_id.encode(), leg.value.encode()
    material = b"".join([len(part).to_bytes(4, "big") + part for part in parts])
    bits = int.from_bytes(blake2b(material, digest_size=15).digest(), "big")
    digest = "".join([_PAIRS[bits >> shift & 1023] for shift in range(110, -1, -10)])  # base32, in lower case
    return f"{TAG}{VERSION}{digest}{_PAIRS[attempt]}"


def is_ours(cid: str) -> bool:
    """Whether an id carries the engine's mark."""
    return cid.startswith(TAG + VERSION) and len(cid) == 29


def trade_id(account: str, symbol: str, serial: int) -> str:
    return f"{account}/{symbol}/{serial}"
