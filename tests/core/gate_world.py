"""One account, one market and signals for the tests of the risk gate; round numbers, so that a test can be read."""

from decimal import Decimal
from typing import Any

from engine.core.exposure import Exposure, View
from engine.core.messages import (
    Action,
    BalanceReport,
    BalancesSeen,
    Instrument,
    InstrumentKind,
    Limits,
    Position,
    Quantity,
    Quote,
    Side,
    Signal,
    Standing,
)
from engine.core.times import SECOND

D = Decimal
ZERO = D(0)
NOW = 1_700_000_000 * SECOND  # 2023-11-14 22:13:20 UTC


def instrument(symbol: str = "BTCUSDT", kind: InstrumentKind = InstrumentKind.LINEAR, **changes: Any) -> Instrument:
    fields: dict[str, Any] = {
        "symbol": symbol,
        "venue": "paper",
        "kind": kind,
        "base": symbol.removesuffix("USDT"),
        "quote": "USDT",
        "tick": D("0.1"),
        "lot": D("0.001"),
        "qty_min": D("0.001"),
        "qty_max": D("100"),
        "notional_min": D("5"),
        "taker_fee": D("0.001"),
        "leverage_max": D(10),
    }
    return Instrument(**fields | changes)


LINEAR = instrument()
SPOT = instrument(kind=InstrumentKind.SPOT)
QUOTE = Quote("BTCUSDT", D("49999"), D("50001"), D(2), D(2), NOW)


def quote(symbol: str = "BTCUSDT", mid: str = "50000", at_ns: int = NOW) -> Quote:
    return Quote(symbol, D(mid) - 1, D(mid) + 1, D(2), D(2), at_ns)


def signal(signal_id: str = "s1", **changes: Any) -> Signal:
    """Buy 0.1 BTC at the market with a stop 1 % below and a target 2 % above; valid for ten seconds."""
    fields: dict[str, Any] = {
        "signal_id": signal_id,
        "account": "a",
        "symbol": "BTCUSDT",
        "action": Action.OPEN,
        "source": "test",
        "dialect": "native",
        "body_hash": "h1",
        "trace_id": "t1",
        "received_ns": NOW,
        "valid_until_ns": NOW + 10 * SECOND,
        "side": Side.BUY,
        "size": Quantity(D("0.1")),
        "stop_loss": D("49500"),
        "take_profit": D("51000"),
    }
    return Signal(**fields | changes)


def exposure(
    *instruments: Instrument, limits: Limits | None = None, wallet: dict[str, str] | None = None, name: str = "a"
) -> Exposure:
    """An account with the given wallet (100,000 USDT unless told), on the day of NOW."""
    listed = {i.symbol: i for i in instruments or (LINEAR,)}
    account = Exposure(name, "paper", "USDT", listed.get)
    account.limits = Limits() if limits is None else limits
    account.roll(NOW)
    account.see_balances(balances(wallet or {"USDT": "100000"}))
    return account


def balances(wallet: dict[str, str], at_ns: int = NOW) -> BalancesSeen:
    return BalancesSeen("a", tuple(BalanceReport(asset, D(total)) for asset, total in wallet.items()), at_ns)


def position(symbol: str = "BTCUSDT", qty: str = "0", price: str = "50000", **changes: Any) -> Position:
    cost = D(qty) * D(price)
    return Position(**{"account": "a", "symbol": symbol, "qty": D(qty), "avg_price": D(price), "cost": cost} | changes)


def standing(held: Position | None = None, **changes: Any) -> Standing:
    fields: dict[str, Any] = {
        "position": held or position(),
        "buying": ZERO,
        "selling": ZERO,
        "reserved": ZERO,
        "opening_orders": 0,
        "live_orders": 0,
        "unclear": 0,
    }
    return Standing(**fields | changes)


def view(account: Exposure | None = None, asked: Signal | None = None, **changes: Any) -> View:
    """What the rules see; `quote`, `btc_price`, `halts` and `now_ns` may be given."""
    fields: dict[str, Any] = {"quote": QUOTE, "btc_price": None, "halts": (), "now_ns": NOW}
    fields |= changes
    return (account or exposure()).view(
        asked or signal(), fields["quote"], fields["btc_price"], fields["halts"], fields["now_ns"]
    )
