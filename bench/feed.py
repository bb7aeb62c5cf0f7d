"""Signals at their moments, whatever becomes of them: an open loop, in which a late engine is late for all that follow.

A signal's latency counts from the moment it was meant to be sent, so a pause shows in every signal that it delayed.
"""

import time
from collections.abc import Callable

import msgspec

from bench.market import ACCOUNT, ENV
from engine.core.ids import client_order_id
from engine.core.messages import Leg

KINDS = ("resting", "ioc", "fills")


def signal_id(run: str, number: int) -> str:
    return f"{run}-{number:07d}"


def entry_cid(run: str, number: int) -> str:
    """The client order id that the engine must give to the entry of this signal: the join of both ends."""
    return client_order_id(ENV, ACCOUNT, signal_id(run, number), Leg.ENTRY, 0)


def body(kind: str, run: str, number: int, symbols: int, rest_seconds: float) -> bytes:
    """One line of the native dialect.

    resting: a limit order far from the market, cancelled after `rest_seconds` and up to 5 ms more, so that the cancels
    fall at every phase between two signals and not always at the same. ioc: the same, gone at once. fills: a
    market order that turns the symbol's position round, so that each has a fill, a new stop and a new target.
    """
    turn, symbol = divmod(number, symbols)
    fields: dict[str, object] = {
        "signal_id": signal_id(run, number),
        "symbol": f"S{symbol:05d}USDT",
        "action": "open",
    }
    if kind == "fills":
        buy = turn % 2 == 0
        fields |= {
            "side": "buy" if buy else "sell",
            "qty": "1" if turn == 0 else "2",
            "stop_loss": "99" if buy else "101",
            "take_profit": "102" if buy else "98",
        }
    else:
        fields |= {"side": "buy", "qty": "1", "order_type": "limit", "limit_price": "60", "stop_loss": "59.4"}
        fields |= (
            {"time_in_force": "ioc"}
            if kind == "ioc"
            else {"cancel_after_seconds": f"{rest_seconds + number * 37 % 50 / 10_000:.4f}"}
        )
    return msgspec.json.encode(fields) + b"\n"


class Sent(msgspec.Struct):
    """When each signal was meant to go, and when it went; monotonic ns."""

    intended: list[int]
    actual: list[int]


def pace(rate: float, count: int, act: Callable[[int], object]) -> Sent:
    """Call `act(number)` at even moments, and at once when one has been missed."""
    sent = Sent([], [])
    began = time.monotonic_ns() + 5_000_000
    for number in range(count):
        due = began + round(number * 1_000_000_000 / rate)
        wait = due - time.monotonic_ns()
        if wait > 0:
            time.sleep(wait / 1_000_000_000)
        sent.intended.append(due)
        sent.actual.append(time.monotonic_ns())
        act(number)
    return sent
