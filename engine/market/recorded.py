"""Recordings of Binance's combined streams: each line a local stamp in nanoseconds, a space, the message as it came.

The time of an event is the local stamp, the only moment at which it could have been known here; the venue's own event
time is not looked at (its clock may run ahead of the recorder's). Nothing is read before it is asked for, and nothing
that stands in a file makes anything but market events or BadTape.
"""

import gzip
import zlib
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO

from msgspec import Struct

from engine.core.messages import Instrument, InstrumentKind
from engine.market.binance import BadMessage, Parser
from engine.market.events import BookDelta, BookSnapshot, MarketEvent, TopOfBook, TradePrint

LINE_MAX = 4 * 1024 * 1024  # bytes; a snapshot of 5,000 levels a side is under half a million

# A recorder's clock may be set back a little while it runs: then time stands still. More is another recording.
_STEP_BACK_MAX_NS = 60_000_000_000
_STAMP_MIN, _STAMP_MAX = 10**17, 2**63 - 1  # 1973 to 2262: rules out seconds, milliseconds and microseconds


class BadTape(Exception):
    """A recording that cannot be read: the file, the line (from 1; 0: none was read) and what is wrong."""

    def __init__(self, path: Path, line: int, what: str) -> None:
        super().__init__(f"{path.name}, line {line}: {what}" if line else f"{path.name}: {what}")
        self.path, self.line, self.what = path, line, what


class Recording:
    """One file, plain or gzip. `line` is the one read last, `fraction` how much of the file's bytes were taken in."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.line = 0
        self.fraction = 0.0

    def events(self) -> Iterator[MarketEvent]:
        """In the order of the file, `at_ns` never going back. Raises BadTape at the line that is broken."""
        parser = Parser()
        at_ns = 0
        for raw in self._lines():
            if not raw.strip():
                continue
            stamp, _, text = raw.partition(b" ")
            at_ns = max(at_ns, self._stamp(stamp, at_ns))
            try:
                yield from parser.events(text, at_ns)
            except BadMessage as bad:
                raise BadTape(self.path, self.line, str(bad)) from None
        if parser.unclaimed:
            raise BadTape(self.path, self.line, "the snapshot belongs to no symbol: no other message names one")

    def _stamp(self, stamp: bytes, last_ns: int) -> int:
        if not (stamp.isdigit() and len(stamp) <= 19 and _STAMP_MIN <= int(stamp) <= _STAMP_MAX):
            raise BadTape(self.path, self.line, "does not begin with a time in nanoseconds and a space")
        at_ns = int(stamp)
        if at_ns < last_ns - _STEP_BACK_MAX_NS:
            raise BadTape(self.path, self.line, f"time goes back by {(last_ns - at_ns) // 1_000_000_000} seconds")
        return at_ns

    def _lines(self) -> Iterator[bytes]:
        self.line, self.fraction = 0, 0.0
        try:
            with self.path.open("rb") as raw:
                size = max(1, self.path.stat().st_size)
                packed = raw.peek(2)[:2] == b"\x1f\x8b"
                with gzip.open(raw) if packed else raw as file:
                    while line := _line(file):
                        self.line += 1
                        self.fraction = min(1.0, raw.tell() / size)
                        if len(line) > LINE_MAX:
                            raise BadTape(self.path, self.line, f"is longer than {LINE_MAX:,} bytes")
                        yield line
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise BadTape(self.path, self.line + 1, f"the compressed data is damaged ({error})") from None
        except OSError as error:
            raise BadTape(self.path, self.line, f"cannot be read ({error.strerror or error})") from None


def _line(file: BinaryIO | gzip.GzipFile) -> bytes:
    return file.readline(LINE_MAX + 1)


class Survey(Struct, frozen=True):
    """What a recording seems to hold, from its beginning: its instruments, and the time of its first event."""

    instruments: tuple[Instrument, ...]
    start_ns: int


def survey(path: Path | str, venue: str = "paper", events_max: int = 2000) -> Survey:
    """Infer the instruments from the first `events_max` events. Raises BadTape, also when there is none to be had."""
    recording = Recording(path)
    seen: dict[str, _Seen] = {}
    start_ns = 0
    for count, event in enumerate(recording.events()):
        start_ns = start_ns or event.at_ns
        seen.setdefault(event.symbol, _Seen()).note(event)
        if count + 1 >= events_max:
            break
    if not seen:
        raise BadTape(recording.path, recording.line, "holds no market event")
    return Survey(tuple(_instrument(symbol, venue, what) for symbol, what in seen.items()), start_ns)


class _Seen:
    """Digits after the point, and whether deltas are numbered the way futures are."""

    def __init__(self) -> None:
        self.price_digits = 0
        self.qty_digits = 0
        self.futures = False

    def note(self, event: MarketEvent) -> None:
        if isinstance(event, BookSnapshot | BookDelta):
            for price, qty in event.bids + event.asks:
                self._level(price, qty)
            self.futures = self.futures or (isinstance(event, BookDelta) and event.prev_id is not None)
        elif isinstance(event, TopOfBook):
            self._level(event.bid, event.bid_qty)
            self._level(event.ask, event.ask_qty)
        elif isinstance(event, TradePrint):
            self._level(event.price, event.qty)
        else:
            self.futures = True  # only they have funding

    def _level(self, price: Decimal, qty: Decimal) -> None:
        self.price_digits = max(self.price_digits, _digits(price))
        self.qty_digits = max(self.qty_digits, _digits(qty))


def _digits(number: Decimal) -> int:
    """After the point, trailing zeros not counted."""
    exponent = number.normalize().as_tuple().exponent
    assert isinstance(exponent, int)
    return max(0, -exponent)


# Longest first where one ends with another.
_QUOTES = ("FDUSD", "USDT", "USDC", "BUSD", "TUSD", "BTC", "ETH", "BNB", "EUR", "GBP", "TRY", "BRL", "JPY", "USD")


def split_symbol(symbol: str) -> tuple[str, str]:
    """Base and quote currency of a symbol in the form BASEQUOTE; quote "" when it ends in none that is known."""
    for quote in _QUOTES:
        if symbol.endswith(quote) and symbol != quote:
            return symbol.removesuffix(quote), quote
    return symbol, ""


def _instrument(symbol: str, venue: str, seen: _Seen) -> Instrument:
    """Fees are those of Binance's lowest tier; a recording does not tell them."""
    base, quote = split_symbol(symbol)
    lot = Decimal(1).scaleb(-seen.qty_digits)
    return Instrument(
        symbol=symbol,
        venue=venue,
        kind=InstrumentKind.LINEAR if seen.futures else InstrumentKind.SPOT,
        base=base,
        quote=quote,
        tick=Decimal(1).scaleb(-seen.price_digits),
        lot=lot,
        qty_min=lot,
        qty_max=lot * 10**8,
        notional_min=Decimal(5),
        maker_fee=Decimal("0.0002") if seen.futures else Decimal("0.001"),
        taker_fee=Decimal("0.0005") if seen.futures else Decimal("0.001"),
        leverage_max=Decimal(20) if seen.futures else Decimal(1),
    )
