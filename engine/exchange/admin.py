"""The back door of the exchange: its truth, faults on demand, deeds of the venue, and a hand on the market.

Every face serves it under /admin/. It asks for no key, which is why the exchange listens on loopback unless told
otherwise.
"""

from collections.abc import Callable
from decimal import Decimal
from typing import Literal, TypeAlias

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from engine.core.messages import BalanceReport, FillReport, FundingReport, OrderReport, PositionReport, Rejection, Side
from engine.exchange.faults import Fault
from engine.exchange.house import Member
from engine.exchange.http import Request, Response, form
from engine.exchange.server import Exchange, Mangling
from engine.market.events import BookSnapshot, FundingRate, Level, TradePrint


class Drop(Struct, frozen=True, tag_field="do", tag="drop", forbid_unknown_fields=True):
    """Streams are closed: "public", "private", "trade" (order entry), "" for all."""

    scope: Literal["", "public", "private", "trade"] = ""
    face: str = ""


class Stall(Struct, frozen=True, tag_field="do", tag="stall", forbid_unknown_fields=True):
    """Streams stay open and tell nothing; what happens meanwhile is never told. Answers still come."""

    ms: int
    scope: Literal["", "public", "private", "trade"] = ""


class Mangle(Struct, frozen=True, tag_field="do", tag="mangle", forbid_unknown_fields=True):
    """The next messages of each stream of a kind: lost, or told twice, or in the place of the one after it."""

    how: Literal["lose", "repeat", "swap"]
    times: int = 1
    skip: int = 0  # so many go by before it begins
    scope: Literal["public", "private", "trade"] = "private"


class Lag(Struct, frozen=True, tag_field="do", tag="lag", forbid_unknown_fields=True):
    """New orders show so much later in queries."""

    ms: int
    face: str = ""


class Ban(Struct, frozen=True, tag_field="do", tag="ban", forbid_unknown_fields=True):
    """Every HTTP request of a face is refused as if the address were banned."""

    ms: int
    face: str = ""


class Liquidate(Struct, frozen=True, tag_field="do", tag="liquidate", forbid_unknown_fields=True):
    """The position of an account is closed by the venue."""

    face: str
    symbol: str
    account: str = "main"


class Transfer(Struct, frozen=True, tag_field="do", tag="transfer", forbid_unknown_fields=True):
    """The owner moves money into the account, or (a negative amount) out of it."""

    face: str
    asset: str
    amount: Decimal
    account: str = "main"


class Restart(Struct, frozen=True, tag_field="do", tag="restart", forbid_unknown_fields=True):
    """All streams are closed and recently closed orders are no longer at hand."""

    face: str = ""


class Skew(Struct, frozen=True, tag_field="do", tag="skew", forbid_unknown_fields=True):
    """The exchange's clock runs so far ahead of the machine's (or behind it)."""

    ms: int


class Hold(Struct, frozen=True, tag_field="do", tag="hold", forbid_unknown_fields=True):
    """The market stands where it is, and moves by the admin's hand only; or goes on with what its tape tells then."""

    on: bool = True


class Funding(Struct, frozen=True, tag_field="do", tag="funding", forbid_unknown_fields=True):
    symbol: str
    rate: Decimal
    mark: Decimal


class Print(Struct, frozen=True, tag_field="do", tag="trade", forbid_unknown_fields=True):
    """A public trade."""

    symbol: str
    price: Decimal
    qty: Decimal
    side: Side


class Show(Struct, frozen=True, tag_field="do", tag="book", forbid_unknown_fields=True):
    """The whole book of a symbol, best levels first."""

    symbol: str
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]


Deed: TypeAlias = (
    Drop | Stall | Mangle | Lag | Ban | Liquidate | Transfer | Restart | Skew | Hold | Funding | Print | Show
)

_deed = msgspec.json.Decoder(Deed)
_fault = msgspec.json.Decoder(Fault)


class Truth(Struct, frozen=True):
    """Everything a house knows of an account. Symbols are inner names: category:SYMBOL."""

    orders: tuple[OrderReport, ...]
    executions: tuple[FillReport | FundingReport, ...]
    balances: tuple[BalanceReport, ...]
    positions: tuple[PositionReport, ...]


class Admin:
    """Answers at once; nothing that it does waits."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._routes: dict[tuple[str, str], Callable[[Request], object]] = {
            ("GET", "/admin/truth"): self._truth,
            ("GET", "/admin/state"): self._state,
            ("POST", "/admin/fault"): self._plan,
            ("DELETE", "/admin/faults"): self._clear,
            ("POST", "/admin/do"): self._do,
        }

    def __call__(self, request: Request) -> Response:
        route = self._routes.get((request.method, request.path))
        if route is None:
            return _json(404, {"error": f"there is no {request.method} {request.path}"})
        try:
            return _json(200, route(request))
        except (msgspec.MsgspecError, UnicodeDecodeError, LookupError) as error:
            return _json(400, {"error": str(error)})

    def _truth(self, request: Request) -> object:
        asked = form(request.query)
        return {
            name: {
                member.name: truth(member)
                for member in face.house.members.values()
                if asked.get("account", member.name) == member.name
            }
            for name, face in self._exchange.faces.items()
            if asked.get("face", name) == name
        }

    def _state(self, request: Request) -> object:
        exchange = self._exchange
        lines = [
            {"face": line.face, "scope": line.session.scope, "topics": line.session.subscribed()}
            for line in exchange.lines
        ]
        return {
            "now_ns": exchange.now_ns(),
            "served": exchange.served,
            "streams": lines,
            "faults": exchange.plan.faults,
            "suffered": exchange.plan.suffered,
        }

    def _plan(self, request: Request) -> object:
        self._exchange.plan.faults.append(_fault.decode(request.body))
        return {"faults": self._exchange.plan.faults}

    def _clear(self, request: Request) -> object:
        self._exchange.plan.faults.clear()
        return {"faults": []}

    def _do(self, request: Request) -> object:
        exchange, deed, now_ns = self._exchange, _deed.decode(request.body), self._exchange.now_ns()
        match deed:
            case Drop():
                return {"dropped": exchange.drop(deed.face, deed.scope)}
            case Stall():
                exchange.stalled[deed.scope] = now_ns + deed.ms * 1_000_000
            case Mangle():
                chosen = [line for line in exchange.lines if line.session.scope == deed.scope]
                for line in chosen:
                    line.mangling = Mangling(deed.how, deed.times, deed.skip)
                return {"streams": len(chosen)}
            case Lag():
                for face in exchange.faces.values():
                    if deed.face in ("", face.name):
                        for member in face.house.members.values():
                            member.memory = replace(member.memory, visible_ns=deed.ms * 1_000_000)
            case Ban():
                for face in exchange.faces.values():
                    if deed.face in ("", face.name):
                        face.banned[""] = now_ns + deed.ms * 1_000_000
            case Liquidate():
                member = exchange.faces[deed.face].house.members[deed.account]
                outcome = member.liquidate(member.listings[f"linear:{deed.symbol}"].instrument.symbol, now_ns)
                return {"refused": outcome.text} if isinstance(outcome, Rejection) else outcome.order.report()
            case Transfer():
                member = exchange.faces[deed.face].house.members[deed.account]
                moved = member.transfer(deed.asset, deed.amount, now_ns)
                return {"refused": moved.text} if isinstance(moved, Rejection) else moved
            case Restart():
                return {"dropped": self._restart(deed.face, now_ns)}
            case Skew():
                exchange.skew_ns = deed.ms * 1_000_000
            case Hold():
                exchange.held = deed.on
            case Funding():
                exchange.tell(FundingRate(deed.symbol, now_ns, deed.rate, deed.mark))
            case Print():
                exchange.tell(TradePrint(deed.symbol, now_ns, deed.price, deed.qty, deed.side))
            case Show():
                exchange.tell(BookSnapshot(deed.symbol, now_ns, now_ns, deed.bids, deed.asks))
        return {"done": True}

    def _restart(self, name: str, now_ns: int) -> int:
        for face in self._exchange.faces.values():
            if name in ("", face.name):
                for member in face.house.members.values():
                    member.forgotten_ns = now_ns
        return self._exchange.drop(name, "")


def truth(member: Member) -> Truth:
    matching = member.matching
    return Truth(
        tuple(record.order.report() for record in member.records.values()),
        tuple(matching.executions),
        matching.balances(),
        matching.positions(),
    )


def _json(status: int, body: object) -> Response:
    return Response(status, msgspec.json.encode(body))
