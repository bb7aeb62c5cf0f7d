"""What a local exchange is set up with: who may log in, what they own, and how long it remembers."""

from decimal import Decimal
from typing import Literal

from msgspec import Struct, field

from engine.core.times import DAY

_PURSE = {"USDT": Decimal(100_000), "BTC": Decimal(2), "ETH": Decimal(20)}


class KeyTerms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One API key. `public_key` (PEM) in place of `secret` makes it an RSA or Ed25519 key."""

    key: str
    account: str = "main"
    secret: str = ""
    public_key: str = ""
    trade: bool = True
    withdraw: bool = False  # only told, nothing can be withdrawn here


class Memory(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long closed orders are found, and how soon new ones. Bybit's and Binance's own figures differ by venue."""

    recent: int = 500  # closed orders that a query for open orders by id still finds
    unfilled_ns: int = DAY  # how long orders that ended without a fill are in the history
    filled_ns: int = 7 * DAY
    visible_ns: int = 0  # until a new order shows in queries
    history: int = 20_000  # orders and executions kept at all, per account


class ExchangeTerms(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole exchange. Every account has the same purse at each face; leverage is of futures, until it is set."""

    keys: tuple[KeyTerms, ...] = (KeyTerms(key="local-key", secret="local-secret"),)
    balances: dict[str, Decimal] = field(default_factory=lambda: dict(_PURSE))
    leverage: Decimal = Decimal(10)
    memory: Memory = Memory()
    rate_limits: Literal["real", "off"] = "real"
    fee_in: str = "received"
