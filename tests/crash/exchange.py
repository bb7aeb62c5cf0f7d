"""The other venue process: the product's local exchange, with as many symbols as `venue` has and a memory on disk.

What `run.py exchange` serves, over a market of its own: real signatures, real protocols, the admin for its faults. What
happens in the account is written down step by step, before anybody is told, as the paper venue does it. It is told on
standard input: "still" stops the market; the end of the input ends it.
"""

import sys
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random

import msgspec
import trio

from engine.core.messages import OrderReport
from engine.core.money import use_exact_context
from engine.exchange.house import Member
from engine.exchange.opening import both_kinds, open_exchange
from engine.exchange.terms import ExchangeTerms
from engine.market.matching import Changes
from engine.market.synthetic import events
from engine.market.tape import play
from engine.runtime.clock import live_clock
from tests.crash.venue import PACE, instruments

# Its limiters are off: what a burst may send is then the engine's own throttle's to decide.
TERMS = ExchangeTerms(balances={"USDT": Decimal(10_000_000)}, leverage=Decimal(20), rate_limits="off")


def keep(member: Member, store: Path) -> None:
    """From now on `store` has a line per step: after the first, which is empty, what it changed."""
    file, encode, tell = open(store, "wb", buffering=0), msgspec.json.Encoder().encode, member._tell  # noqa: SIM115
    file.write(b"\n")

    def kept(changes: Changes) -> None:
        lasting = tuple(report for report in changes.reports if not isinstance(report, OrderReport))
        file.write(encode(Changes(lasting, changes.orders)) + b"\n")
        tell(changes)

    member._tell = kept  # type: ignore[method-assign]


async def main(store: Path, seed: int, face: str) -> None:
    clock, traded = live_clock(), instruments()
    exchange = open_exchange(TERMS, both_kinds(traded), clock)
    exchange.faces = {face: exchange.faces[face]}  # nobody calls at the others
    keep(exchange.faces[face].house.members["main"], store)
    async with trio.open_nursery() as nursery:
        market = trio.CancelScope()
        tape = events(Random(seed), traded, clock.now_ns(), pace=PACE)
        nursery.start_soon(_run, market, partial(play, tape, clock, exchange.publish, offset_ns=None))
        nursery.start_soon(exchange.beat)
        print(await nursery.start(partial(exchange.listen, face, "127.0.0.1", 0)), flush=True)
        async with trio.lowlevel.FdStream(sys.stdin.fileno()) as told:
            async for words in told:
                if b"still" in words:
                    market.cancel()
                    print("still", flush=True)
        nursery.cancel_scope.cancel()


async def _run(scope: trio.CancelScope, market: Callable[[], object]) -> None:
    with scope:
        await market()  # type: ignore[misc]


if __name__ == "__main__":
    use_exact_context()
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
