"""The venue's process: the paper venue of the product over many symbols, with a memory on disk that is the truth.

It is told on standard input: "still" stops the market, so that books and truth can be compared; the end of the input
ends it. Orders that are in doubt close their symbol for some seconds, so there must be more symbols than kills take.
"""

import sys
from contextlib import closing
from decimal import Decimal
from functools import partial
from pathlib import Path
from random import Random

import trio
from msgspec.structs import replace

from engine.core.messages import Instrument, InstrumentKind
from engine.core.money import use_exact_context
from engine.market.synthetic import Pace, events
from engine.market.tape import play
from engine.runtime.clock import live_clock
from engine.venues.link_server import serve
from engine.venues.paper import PaperTerms, PaperVenue

SYMBOLS = 16
PACE = Pace(calm_rate=4.0, busy_rate=20.0, drift_bp=1.5)
TERMS = PaperTerms(
    balances={"USDT": Decimal(10_000_000)}, leverage=Decimal(20), latency_ms=(0.2, 2.0), stream_latency_ms=(0.2, 4.0)
)


def instruments() -> tuple[Instrument, ...]:
    return tuple(
        Instrument(
            symbol=f"{base}USDT",
            venue="paper",
            kind=InstrumentKind.LINEAR,
            base=base,
            quote="USDT",
            tick=Decimal("0.01"),
            lot=Decimal("0.001"),
            qty_min=Decimal("0.001"),
            qty_max=Decimal(100_000),
            notional_min=Decimal(5),
            leverage_max=Decimal(20),
        )
        for base in ("BTC", "ETH", "SOL", *(f"C{number:02d}" for number in range(SYMBOLS - 3)))
    )


async def main(store: Path, seed: int) -> None:
    clock, traded = live_clock(), instruments()
    # Both rules exist at real venues; where ids come free again, whoever sends twice executes twice.
    terms = replace(TERMS, id_rule="ever" if seed % 2 else "open")
    with closing(PaperVenue(traded, terms, clock, Random(seed), store)) as venue:
        async with trio.open_nursery() as nursery:
            market = trio.CancelScope()
            tape = events(Random(seed), traded, clock.now_ns(), pace=PACE)

            async def run_market() -> None:
                with market:
                    await play(tape, clock, venue.publish, offset_ns=None)

            nursery.start_soon(run_market)
            port = await nursery.start(partial(serve, venue, "127.0.0.1", 0))
            print(port, flush=True)
            async with trio.lowlevel.FdStream(sys.stdin.fileno()) as told:
                async for words in told:
                    if b"still" in words:
                        market.cancel()
                        print("still", flush=True)
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    use_exact_context()
    trio.run(main, Path(sys.argv[1]), int(sys.argv[2]))
