"""Reads an account's instruments again, for ever: a venue changes a tick or a lot while we run.

Orders by the old steps would be refused, stops among them. Whoever uses an instrument is given the new one. What is no
longer listed is kept as it was: a position in it must still be closed.
"""

from collections.abc import Callable, Mapping

import structlog
import trio
from msgspec import Struct

from actors.ports import Account, World
from engine.core.messages import Alerted, Failed, Instrument

AGAIN_SECONDS = 60.0  # after a question that failed
LOG = structlog.get_logger("relister")


class RelisterPorts(Struct, frozen=True):
    """`known` is what is traded by now; `take` puts a new instrument in its place; `used` says whether it matters."""

    world: World
    known: Callable[[], Mapping[str, Instrument]]
    take: Callable[[Instrument], None]
    used: Callable[[str], bool]


async def relister(account: Account, ports: RelisterPorts, pause_seconds: float) -> None:
    """The first list was read at the start."""
    pause = pause_seconds
    while True:
        await trio.sleep(pause)
        listed = await account.venue.instruments()
        if isinstance(listed, Failed):
            LOG.warning("the instruments could not be read again", account=account.name, reason=listed.why)
            pause = min(AGAIN_SECONDS, pause_seconds)
            continue
        pause = pause_seconds
        known = ports.known()
        for instrument in listed:
            _compare(account.name, known.get(instrument.symbol), instrument, ports)
        names = dict.fromkeys(instrument.symbol for instrument in listed)
        for symbol in known:
            if symbol not in names and ports.used(symbol):
                _alert(account.name, symbol, "critical", "the venue no longer lists it", ports)


def _compare(account: str, before: Instrument | None, now: Instrument, ports: RelisterPorts) -> None:
    if before == now:
        return
    if before is not None and (before.kind, before.base, before.quote) != (now.kind, now.base, now.quote):
        # The books of a position are in its currencies: this is another thing under an old name.
        return _alert(account, now.symbol, "critical", f"it is another instrument now: {now}; the old is kept", ports)
    ports.take(now)
    if before is not None and ports.used(now.symbol):
        names = ("tick", "lot", "qty_min", "qty_max", "notional_min", "maker_fee", "taker_fee", "leverage_max")
        pairs = ((name, getattr(before, name), getattr(now, name)) for name in names)
        text = ", ".join(f"{name} {old} -> {new}" for name, old, new in pairs if old != new)
        _alert(account, now.symbol, "info", f"the venue has changed its rules: {text}", ports)


def _alert(account: str, symbol: str, severity: str, text: str, ports: RelisterPorts) -> None:
    world = ports.world
    fact = Alerted(
        at_ns=world.clock.now_ns(),
        account=account,
        symbol=symbol,
        severity=severity,
        kind="instrument_changed",
        text=f"{symbol}: {text}",
    )
    world.journal.append((fact,))
    world.observe((fact,))
