"""All executions of one symbol since a moment, page by page, by a loop that always ends.

By time until the first is found, in windows as wide as the venue allows; from then on by trade number, which can
neither miss one nor repeat one however many fall into the same millisecond. A page without a higher number ends it.
"""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from engine.venues.binance.errors import Verdict
from engine.venues.binance.sign import Params

PAGE = 1000
PAGES_MAX = 1000  # a million executions


class Numbered(Protocol):
    @property
    def id(self) -> int: ...


R = TypeVar("R", bound=Numbered)
Fetch = Callable[[Params], Awaitable[tuple[R, ...] | Verdict]]


async def trades_since(
    fetch: "Fetch[R]", symbol: str, since_ms: int, now_ms: int, window_ms: int
) -> tuple[R, ...] | Verdict:
    """Oldest first. `now_ms` is the venue's time, at which the question was asked."""
    page: tuple[R, ...] = ()
    start = since_ms
    while not page and start <= now_ms:
        end = start + window_ms - 1
        found = await fetch({"symbol": symbol, "startTime": start, "endTime": end, "limit": PAGE})
        if isinstance(found, Verdict):
            return found
        page, start = found, end + 1
    # Whoever asks for the last window alone has all of it in a page that is not full.
    whole = start > now_ms and len(page) < PAGE
    rows = sorted(page, key=_number)
    return tuple(rows) if whole or not rows else await _from(fetch, symbol, rows)


async def _from(fetch: "Fetch[R]", symbol: str, rows: list[R]) -> tuple[R, ...] | Verdict:
    for _ in range(PAGES_MAX):
        last = rows[-1].id
        page = await fetch({"symbol": symbol, "fromId": last + 1, "limit": PAGE})
        if isinstance(page, Verdict):
            return page
        fresh = sorted((row for row in page if row.id > last), key=_number)
        rows += fresh
        if len(page) < PAGE or not fresh:
            break
    return tuple(rows)


def _number(row: Numbered) -> int:
    return row.id
