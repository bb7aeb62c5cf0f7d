"""What comes from Bybit, before it is a report: the envelope of REST, pages of lists, frames of the two sockets. Pure.

Docs: "Integration Guidance" (envelope), "Connect" (login, ping, subscribe), "Websocket Trade Guideline". The two
sockets name the same things differently, and real answers mix both styles, so that both are read on both.
"""

from typing import TypeVar

import msgspec
import orjson
from msgspec import Raw, Struct, field

from engine.core.messages import Answer, FillReport, FundingReport, Instrument, OrderReport, Silence, VenueReport
from engine.core.times import MILLISECOND
from engine.venues.base import StreamDown
from engine.venues.bybit.errors import answer_to_change, answer_to_place
from engine.venues.bybit.reports import BadRow, ExecutionRow, OrderRow, execution, order_report
from engine.venues.order_socket import Heard
from engine.venues.rest import Garbled

T = TypeVar("T")


class Envelope(Struct):
    """Every answer of REST, and of the trade socket."""

    retCode: int
    retMsg: str = ""
    result: Raw = field(default_factory=lambda: Raw(b"{}"))
    retExtInfo: Raw = field(default_factory=lambda: Raw(b"{}"))
    time: int = 0  # milliseconds

    @property
    def venue_ns(self) -> int:
        return self.time * MILLISECOND


class Page(Struct):
    """A result that is a list, and where it goes on ("": nowhere). One without a list is no empty one."""

    list: Raw
    nextPageCursor: str = ""


class OrderIds(Struct):
    orderId: str = ""
    orderLinkId: str = ""


class ItemOutcome(Struct):
    code: int
    msg: str = ""


class Outcomes(Struct):
    """What became of each item of a batch; `Created` has their ids at the same places."""

    list: tuple[ItemOutcome, ...] = ()


class Created(Struct):
    list: tuple[OrderIds, ...] = ()


class ServerTime(Struct):
    timeNano: str = ""


class TradeFrame(Struct):
    """Docs: "Websocket Trade Guideline"."""

    reqId: str = ""
    req_id: str = ""
    op: str = ""
    retCode: int | None = None
    retMsg: str = ""
    success: bool | None = None
    ret_msg: str = ""
    data: Raw = field(default_factory=lambda: Raw(b"{}"))
    header: dict[str, str] = field(default_factory=dict)


class StreamFrame(Struct):
    """Docs: "Connect", and the private topics."""

    topic: str = ""
    op: str = ""
    req_id: str = ""
    reqId: str = ""
    success: bool | None = None
    ret_msg: str = ""
    retCode: int | None = None
    retMsg: str = ""
    data: Raw = field(default_factory=lambda: Raw(b"[]"))


class Ack(Struct, frozen=True):
    """The answer to a login, a subscription or a ping on the private stream; `wrong` says why it was refused."""

    op: str
    number: str
    wrong: str = ""


class Unreadable(StreamDown):
    """A frame of the private stream that makes no sense: what it told is lost, so the stream must begin anew."""


envelope_decoder = msgspec.json.Decoder(Envelope)
created_decoder = msgspec.json.Decoder(Created)
outcomes_decoder = msgspec.json.Decoder(Outcomes)
page_decoder = msgspec.json.Decoder(Page)
_order_ids = msgspec.json.Decoder(OrderIds)
_trade_frame = msgspec.json.Decoder(TradeFrame)
_stream_frame = msgspec.json.Decoder(StreamFrame)
_order_rows = msgspec.json.Decoder(list[OrderRow])
_execution_rows = msgspec.json.Decoder(list[ExecutionRow])
_UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_LOGGED_IN = (0, 20001)  # 20001: already so


def decode(raw: "bytes | Raw", decoder: "msgspec.json.Decoder[T]") -> T | Garbled:
    try:
        return decoder.decode(raw)
    except _UNREADABLE as error:
        return Garbled(f"cannot be read: {error}"[:300])


def order_id(result: Raw) -> str:
    found = decode(result, _order_ids)
    return "" if isinstance(found, Garbled) else found.orderId


# ------------------------------------------------------------------------------------------------------ trade socket


def trade_request(number: str, op: str, body: dict[str, object], at_ms: int, window_ms: int) -> bytes:
    """A frame of the trade socket; the session is signed, not the request."""
    header = {"X-BAPI-TIMESTAMP": str(at_ms), "X-BAPI-RECV-WINDOW": str(window_ms)}
    return orjson.dumps({"reqId": number, "header": header, "op": op, "args": [body]})


def ping() -> str:
    return '{"op":"ping"}'


def hear(raw: bytes) -> Heard:
    """Whose answer a frame of the trade socket is."""
    frame = decode(raw, _trade_frame)
    if isinstance(frame, Garbled) or frame.op in ("ping", "pong"):
        return Heard()
    wrong = _complaint(frame.success, frame.ret_msg, frame.retCode, frame.retMsg)
    if frame.op == "auth":
        return Heard(login=True, complaint=wrong)
    return Heard(number=frame.reqId or frame.req_id, op=frame.op, complaint=wrong)


def trade_answer(raw: bytes, change: bool) -> tuple[Answer, dict[str, str]]:
    """What the answer to a request over the trade socket says, and the venue's limits with it."""
    frame = decode(raw, _trade_frame)
    if isinstance(frame, Garbled):
        return Silence(frame.why), {}
    if frame.retCode is None:
        return Silence(f"no code: {frame.ret_msg or frame.retMsg}"), frame.header
    read = answer_to_change if change else answer_to_place
    return read(frame.retCode, frame.retMsg, order_id(frame.data), _time_of(frame.header)), frame.header


# ---------------------------------------------------------------------------------------------------- private stream


def stream_frame(raw: bytes, category: str, instruments: dict[str, Instrument]) -> tuple[VenueReport, ...] | Ack:
    """The reports in a frame, of our category only; or an Ack. Raises Unreadable."""
    try:
        frame = _stream_frame.decode(raw)
        if not frame.topic:
            wrong = _complaint(frame.success, frame.ret_msg, frame.retCode, frame.retMsg)
            return Ack(frame.op, frame.req_id or frame.reqId, wrong)
        kind = frame.topic.partition(".")[0]
        if kind == "order":
            orders = [row for row in _order_rows.decode(frame.data) if row.category in ("", category)]
            return tuple(map(order_report, orders))
        if kind == "execution":
            return _executions(_execution_rows.decode(frame.data), category, instruments)
    except (*_UNREADABLE, BadRow) as error:
        raise Unreadable(f"a frame cannot be read: {error}"[:300]) from None
    return ()


def _executions(
    rows: list[ExecutionRow], category: str, instruments: dict[str, Instrument]
) -> tuple[OrderReport | FillReport | FundingReport, ...]:
    found = (execution(row, instruments.get(row.symbol)) for row in rows if row.category in ("", category))
    return tuple(report for report in found if report is not None)


def _complaint(success: bool | None, ret_msg: str, code: int | None, text: str) -> str:
    if success is False:
        return ret_msg or "refused"
    if code is not None and code not in _LOGGED_IN:
        return f"{code}: {text or ret_msg}"
    return ""


def _time_of(header: dict[str, str]) -> int:
    told = header.get("Timenow", "")
    return int(told) * MILLISECOND if told.isdecimal() and len(told) <= 15 else 0
