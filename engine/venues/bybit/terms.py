"""What one account at Bybit is configured with."""

from msgspec import Struct

from engine.core.messages import InstrumentKind
from engine.venues.bybit.hosts import Hosts

ANSWER_SECONDS = 5.0  # a request is valid for as long

HEDGE_MODE = (
    "the account is in hedge mode, where a position has two sides; the engine trades one-way mode only: "
    "close the positions and switch the position mode to one-way"
)


class BybitTerms(Struct, frozen=True, kw_only=True):
    kind: InstrumentKind
    hosts: Hosts
    symbols: tuple[str, ...] = ()  # spot: those whose base coins count as positions
    disconnect_cancel_seconds: int = 0  # 0: off
    leverage: int = 0  # linear: set for `symbols` when the instruments are read; 0: left as it is
    order_socket: bool = True
    timeout_seconds: float = ANSWER_SECONDS
    ping_seconds: float = 20.0
    silent_seconds: float = 10.0
