"""What goes over the link: lines of JSON, requests and answers numbered, and a stream's reports, quotes and beats."""

from typing import Any, TypeAlias

import msgspec
from msgspec import Struct

from engine.core.messages import Cancel, FillReport, FundingReport, OrderReport, Quote
from engine.market.orders import OrderRequest
from engine.venues.paper import Faults

RECEIVE_BYTES = 65_536
REQUEST_MAX = 1 << 16  # bytes of one request; ours have a few hundred
REPLY_MAX = 1 << 28  # of one answer or report; a venue that has traded for days tells all of it in one


class LineTooLong(ValueError):
    """More bytes without an end than any line of ours has."""


GARBAGE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, LineTooLong)  # what reading foreign lines raises


class Call(Struct, frozen=True, gc=False, omit_defaults=True, tag_field="verb"):
    """A request. `id` numbers it on its connection."""

    id: int


class SubmitCall(Call, frozen=True, gc=False, omit_defaults=True, tag="submit"):
    request: OrderRequest
    sent_ns: int


class CancelCall(Call, frozen=True, gc=False, omit_defaults=True, tag="cancel"):
    request: Cancel
    sent_ns: int


class QueryCall(Call, frozen=True, gc=False, omit_defaults=True, tag="query"):
    """`what` is the name of the Venue's query, or "quote", "traits", "truth"."""

    what: str
    symbol: str = ""
    cid: str | None = None
    since_ns: int = 0


class StreamCall(Call, frozen=True, gc=False, omit_defaults=True, tag="stream"):
    """From now on this connection is a stream; the answer is its first line."""


class FaultsCall(Call, frozen=True, gc=False, omit_defaults=True, tag="faults"):
    """Replace the fault plan while the venue runs."""

    faults: Faults


class DropCall(Call, frozen=True, gc=False, omit_defaults=True, tag="drop"):
    """Break every stream off."""


AnyCall: TypeAlias = SubmitCall | CancelCall | QueryCall | StreamCall | FaultsCall | DropCall


class Reply(Struct, frozen=True, gc=False):
    id: int
    body: Any


class RawReply(Struct, frozen=True, gc=False):
    id: int
    body: msgspec.Raw


class Beat(Struct, frozen=True, gc=False, tag=True):
    """The venue lives, and has nothing to report."""


StreamLine: TypeAlias = OrderReport | FillReport | FundingReport | Quote | Beat

encode = msgspec.json.Encoder().encode
decode_call = msgspec.json.Decoder(AnyCall).decode
decode_reply = msgspec.json.Decoder(RawReply).decode
decode_line = msgspec.json.Decoder(StreamLine).decode


def line_of(message: object) -> bytes:
    return encode(message) + b"\n"


class Lines:
    """Complete lines out of whatever pieces arrive."""

    def __init__(self, line_max: int = REPLY_MAX) -> None:
        self._line_max = line_max
        self._rest = bytearray()

    def feed(self, piece: bytes) -> list[bytes]:
        """Raises LineTooLong."""
        *ends, rest = piece.split(b"\n")
        lines = []
        for end in ends:
            lines.append(bytes(self._rest) + end if self._rest else end)
            self._rest.clear()
        self._rest += rest
        if len(self._rest) > self._line_max:
            raise LineTooLong(f"a line of more than {self._line_max:,} bytes")
        return lines
