"""How one account trades at an exchange that ccxt knows, and how long anything may take."""

from msgspec import Struct

from engine.core.messages import InstrumentKind
from engine.core.times import SECOND
from engine.runtime.log import Secret
from engine.venues.throttle import Costs, Limit

WINDOW_MS = 5_000
REQUEST_SECONDS = 10.0  # for an order or a cancel, its wait for others included; then its worker is killed
QUESTION_SECONDS = 20.0
READY_SECONDS = 30.0  # for a worker to be there: it imports much
COSTS: Costs = {"order": (("orders", 1),), "cancel": (("cancels", 1),)}  # questions are paced by ccxt itself
HEDGE_MODE = "the account is in hedge mode; the engine trades one-way mode only: switch the position mode to one-way"


def limits(orders_per_second: int) -> tuple[Limit, ...]:
    """Ours; ccxt's own, by what each request costs at its exchange, comes on top."""
    return Limit(orders_per_second, SECOND, "orders"), Limit(orders_per_second, SECOND, "cancels")


class CcxtTerms(Struct, frozen=True, kw_only=True):
    exchange: str
    kind: InstrumentKind
    host: str
    credentials: dict[str, Secret]  # key, secret, password, uid
    symbols: tuple[str, ...]
    poll_seconds: float = 2.0
    leverage: int = 0
    request_seconds: float = REQUEST_SECONDS
