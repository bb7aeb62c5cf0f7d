"""The kit at a real venue, with the account of a config file: small orders, no faults, and a tidy end of each case."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from decimal import Decimal
from random import Random
from typing import Any

import trio

from actors.assembly import Board, open_market, start_market
from actors.real import is_real, open_real, public_hosts, vault_of
from engine.core.messages import Failed, Instrument, InstrumentKind
from engine.runtime.clock import live_clock
from engine.runtime.config import AccountSection, Config
from engine.venues.admission import refuse
from engine.venues.registry import WORLDS
from tests.conformance.bench import Bench, Broken, Offers, Skip
from tests.conformance.running import Unreachable
from tests.conformance.sites import OFFERS

TIDY_SECONDS = 150.0
START_SECONDS = 90.0  # for the answers and the first quote; more than a window of the limits that a case may use up
SYMBOL_FIRST = 0


class Unfit(Exception):
    """This config is not one that the kit can be run with; the text says why."""


def account_of(config: Config, venue: str) -> tuple[str, AccountSection]:
    """The first account of this name in the kit (bybit-linear, binance-spot, ...). Raises Unfit."""
    for name, section in config.accounts.items():
        if is_real(section) and kit_name(section) == venue:
            return name, section
    others = ", ".join(kit_name(s) for s in config.accounts.values() if is_real(s)) or "none"
    raise Unfit(f"the config has no account at {venue}; at real venues it has: {others}")


def kit_name(section: AccountSection) -> str:
    if section.venue == "binance":
        return "binance-spot" if section.category == "spot" else "binance-usdm"
    return f"{section.venue}-{section.category}"


def environment_of(section: AccountSection) -> str:
    """live, testnet, demo or local. Raises Inadmissible."""
    return WORLDS[section.venue](section.host, InstrumentKind(section.category)).environment


@asynccontextmanager
async def at_testnet(
    config: Config, name: str, venue_name: str, environ: Mapping[str, str], run_id: str
) -> AsyncIterator[Bench]:
    """Raises Inadmissible, KeyProblem, Unreachable."""
    clock, section, board = live_clock(), config.accounts[name], Board()
    offers: Offers = OFFERS[venue_name]
    symbols = section.limits.symbols if section.limits is not None else ()
    symbol = (symbols or config.market.symbols)[SYMBOL_FIRST]
    async with trio.open_nursery() as nursery:
        market = open_market(config.market, InstrumentKind(section.category), clock, *public_hosts(config))
        start_market(nursery, market, [board], clock, Random())
        vault = vault_of(config, environ, "conformance")
        opened = open_real(name, config, clock, Random(), environ, board.quote, vault)
        running: list[trio.CancelScope] = []

        async def start(key: str = "") -> Any:
            if key:
                raise Skip("needs other keys of the account")
            for scope in running:
                scope.cancel()
            parts = open_real(name, config, clock, Random(), environ, board.quote, vault) if running else opened
            venue, scope = parts.venue, trio.CancelScope()
            running.append(scope)

            async def run() -> None:
                with scope:
                    await venue.run()  # type: ignore[attr-defined]

            nursery.start_soon(run)
            await _answered(venue.server_time_ns)
            await _answered(venue.instruments)
            return venue

        venue: Any = await start()
        refuse(await _answered(lambda: venue.look_over(section.allow_withdrawal_keys)), name)
        instrument = next((i for i in await _answered(venue.instruments) if i.symbol == symbol), None)
        if instrument is None:
            raise Unfit(f"{symbol} is not listed there")
        await _first_quote(board, symbol)

        def quote() -> tuple[Decimal, Decimal]:
            seen = board.quote(symbol)
            assert seen is not None
            return seen.bid, seen.ask

        bench = Bench(venue, instrument, offers, opened.throttle, quote, clock.now_ns, run_id, None, start)
        try:
            yield bench
        finally:
            # Longer than a window of the venue's limits, which the case may have used up.
            with trio.move_on_after(TIDY_SECONDS) as tidying:
                tidying.shield = True
                await bench.tidy()
            if tidying.cancelled_caught:
                raise Broken(
                    f"not tidied up in {TIDY_SECONDS:g} s: look at the account's orders and position in {symbol}"
                )
        nursery.cancel_scope.cancel()


async def worth(config: Config, name: str, venue_name: str, environ: Mapping[str, str]) -> tuple[Instrument, Decimal]:
    """The instrument, and about what one order of the kit is worth, in quote."""
    async with at_testnet(config, name, venue_name, environ, "look") as bench:
        return bench.instrument, 2 * bench.unit * bench.quote()[1]
    raise AssertionError("unreachable")


async def _first_quote(board: Board, symbol: str) -> None:
    with trio.move_on_after(START_SECONDS):
        while board.quote(symbol) is None:  # noqa: ASYNC110
            await trio.sleep(0.05)
        return
    raise Unreachable(f"no quote of {symbol} in {START_SECONDS:g} s")


async def _answered(ask: Any) -> Any:
    """Asked again for a while: a testnet is slow at times."""
    found: Any = None
    with trio.move_on_after(START_SECONDS):
        while isinstance(found := await ask(), Failed):  # noqa: ASYNC110
            await trio.sleep(1.0)
        return found
    raise Unreachable(found.why if isinstance(found, Failed) else "no answer")
