"""What a look over an account at such an exchange can see before anything trades: its key, its mode, its symbols."""

from collections.abc import Awaitable, Callable

import msgspec

from engine.core.messages import Failed, InstrumentKind, PositionReport
from engine.core.money import plain
from engine.venues.admission import KeyFacts, Remark, key_remarks
from engine.venues.ccxt import errors
from engine.venues.ccxt.hosts import environment
from engine.venues.ccxt.process import Gone
from engine.venues.ccxt.promises import Abilities
from engine.venues.ccxt.site import Site
from engine.venues.ccxt.terms import HEDGE_MODE, QUESTION_SECONDS

Positions = Callable[[], Awaitable[tuple[PositionReport, ...] | Failed]]


async def key_of(site: Site, allow_withdrawal: bool) -> tuple[Remark, ...] | Failed:
    """ccxt has no unified question about a key: that it is let in is all that can be seen."""
    told = await site.questions.call("balance", ({},), QUESTION_SECONDS)
    if isinstance(told, Gone):
        return Failed(told.why)
    if errors.known(told.error).kind is errors.Class.HALT:
        return (Remark("key", False, f"the exchange does not accept the key: {told.error}: {told.text}"),)
    if told.error:
        return errors.failed(told)
    return key_remarks(KeyFacts(), environment(site.terms.host), allow_withdrawal)


async def mode_of(site: Site, able: Abilities, positions: Positions) -> tuple[Remark, ...] | Failed:
    if site.terms.kind is InstrumentKind.SPOT:
        return (Remark("mode", True, "spot, without borrowing"),)
    found = await positions()
    if isinstance(found, Failed):
        return (Remark("mode", False, found.why),) if found.why == HEDGE_MODE else found
    hedged: bool | Failed = False
    if able.position_mode and (traded := site.traded()):
        hedged = await site.ask("fetch_position_mode", (traded[0].unified,), _FLAG)
    if isinstance(hedged, Failed):
        return hedged
    holds = ", ".join(f"{report.symbol} {plain(report.qty)}" for report in found)
    text = HEDGE_MODE if hedged else f"one-way mode{', holds ' + holds if holds else ''}"
    return (Remark("mode", not hedged, text),)


def symbols_of(site: Site) -> list[Remark]:
    unknown = [symbol for symbol in site.terms.symbols if symbol not in site.listings]
    if not unknown:
        return []
    return [Remark("symbols", False, f"{site.terms.exchange} does not list {', '.join(unknown)} (base and quote)")]


_FLAG = msgspec.json.Decoder(bool)
