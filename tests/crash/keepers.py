"""Who keeps the truth while engines die: a venue process of its own, what an engine is told of it, and what it did.

Two kinds: the paper venue behind its link, and the local exchange behind one of its faces, to which the engine speaks
by the adapter that ships. Each writes down what it does before it tells anybody.
"""

import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Protocol

import msgspec
import trio
from msgspec.structs import replace

from engine.core.ids import is_ours
from engine.core.messages import ZERO, Failed, FillReport, FundingReport, Instrument, InstrumentKind, Side
from engine.exchange.asking import ask
from engine.exchange.opening import both_kinds
from engine.market.matching import Changes
from engine.market.orders import VenueOrder
from engine.runtime.clock import live_clock
from engine.venues.link import LinkVenue
from engine.venues.paper import Faults, Truth
from tests.crash.venue import instruments
from tests.engine_toml import WIDE, engine_toml, link, local
from tests.exchange_truth import CATEGORIES, exec_id, is_of, truth_of
from tests.patience import PATIENCE_SECONDS
from tests.sim.truth import AnyEntry, Ended, Executed, Funded, Taken

ROOT = Path(__file__).resolve().parent.parent.parent
LIMITS = WIDE | {"balance_share_max": 0.5}
SYMBOLS = tuple(instrument.symbol for instrument in instruments())
_changes = msgspec.json.Decoder(Changes).decode


class Keeper(Protocol):
    """`begin` starts its process, `end` kills it."""

    instruments: tuple[Instrument, ...]
    burst: int  # signals at a time that the venue's own limits let through

    def begin(self) -> None: ...

    def end(self) -> None: ...

    def config(self, data: Path, durability: str) -> str: ...

    def begin_world(self, rng: Random) -> None:
        """How it behaves from now on."""
        ...

    def disturb(self, rng: Random, point: str) -> None:
        """Once in each life, before it is fed; `point` is where that life is to end."""
        ...

    def calm(self) -> None:
        """From now on nothing goes wrong."""
        ...

    def still(self) -> None:
        """The market stops; from now on only the engine's requests change anything."""
        ...

    def truth(self) -> Truth:
        """Its own word, over its socket."""
        ...

    def entries(self) -> Iterator[AnyEntry]:
        """What it wrote down: orders taken, executed, ended, in the order of the effects."""
        ...


class PaperKeeper:
    burst = 18

    def __init__(self, folder: Path, seed: int) -> None:
        self.instruments = instruments()
        self._store = folder / "venue.store"
        self._process = Process(folder, "tests.crash.venue", str(self._store), str(seed))

    def begin(self) -> None:
        self._port = self._process.begin()

    def end(self) -> None:
        self._process.end()

    def config(self, data: Path, durability: str) -> str:
        return engine_toml(data, *link(self._port), LIMITS, durability)

    def begin_world(self, rng: Random) -> None:
        """Every third world's venue behaves; the others lose answers and repeat or drop reports now and then."""
        if rng.random() < 0.34:
            return self.set_faults(Faults())
        return self.set_faults(
            Faults(
                lost_reply=rng.choice((0.0, 0.02)),
                lost_request=rng.choice((0.0, 0.02)),
                unavailable=rng.choice((0.0, 0.02)),
                repeated_reports=rng.choice((0.0, 0.1)),
                dropped_reports=rng.choice((0.0, 0.05)),
            )
        )

    def disturb(self, rng: Random, point: str) -> None:
        pass

    def calm(self) -> None:
        self.set_faults(Faults())

    def set_faults(self, faults: Faults) -> None:
        async def tell() -> Failed | None:
            venue = self._link()
            try:
                return await venue.set_faults(faults)
            finally:
                venue.close()

        assert trio.run(tell) is None

    def still(self) -> None:
        self._process.still()

    def truth(self) -> Truth:
        async def tell() -> Truth | Failed:
            venue = self._link()
            try:
                return await venue.truth()
            finally:
                venue.close()

        found = trio.run(tell)
        assert isinstance(found, Truth), found
        return found

    def entries(self) -> Iterator[AnyEntry]:
        return told_by(steps(self._store))

    def _link(self) -> LinkVenue:
        return LinkVenue("127.0.0.1", self._port, live_clock(), timeout_seconds=PATIENCE_SECONDS)


class FaceKeeper:
    burst = 10

    def __init__(self, face: str, folder: Path, seed: int) -> None:
        self._face, self._category = face, CATEGORIES[face]
        self.instruments = tuple(i for i in both_kinds(instruments()) if i.kind.value == self._category)
        self._store = folder / "venue.store"
        self._process = Process(folder, "tests.crash.exchange", str(self._store), str(seed), face)

    def begin(self) -> None:
        self._port = self._process.begin()

    def end(self) -> None:
        self._process.end()

    def config(self, data: Path, durability: str) -> str:
        market, account = local(self._face.partition("-")[0], self._category, self._port, SYMBOLS)
        return engine_toml(data, market, account | {"orders_per_second": 50}, LIMITS, durability, env="testnet")

    def begin_world(self, rng: Random) -> None:
        pass

    def disturb(self, rng: Random, point: str) -> None:
        """Two lives in three lose an answer, hear nonsense, or have a stream cut, stalled or muddled."""
        if point.startswith("look."):
            return self._fault("lose_reply", on="order.", skip=rng.randint(0, 3))
        for _ in range(rng.randint(0, 2)):
            if rng.random() < 0.6:
                self._fault(rng.choice(WOES), on="order.", skip=rng.randint(0, 20), ms=rng.choice((200, 1500)))
            else:
                deed = rng.choice(DEEDS)
                self._do(deed | ({"face": self._face} if deed["do"] == "drop" else {}))
        return None

    def calm(self) -> None:
        ask("127.0.0.1", self._port, "DELETE", "/faults")

    def still(self) -> None:
        self._process.still()

    def truth(self) -> Truth:
        return truth_of(self._face, self._category, self._port)

    def entries(self) -> Iterator[AnyEntry]:
        return told_by(map(self._outer, steps(self._store)), self._face == "binance-spot")

    def _outer(self, changes: Changes) -> Changes:
        """In the names that the engine knows."""
        orders = [self._named(order) for order in changes.orders if is_of(self._category, order.request.symbol)]
        reports = []
        for report in changes.reports:
            assert isinstance(report, FillReport | FundingReport)
            symbol = report.symbol.partition(":")[2]
            if isinstance(report, FillReport):
                told = exec_id(self._face, self._category, report.exec_id, report.venue_order_id)
                report = replace(report, exec_id=told)
            reports.append(replace(report, symbol=symbol))
        return Changes(tuple(reports), tuple(orders))

    def _named(self, order: VenueOrder) -> VenueOrder:
        return replace(order, request=replace(order.request, symbol=order.request.symbol.partition(":")[2]))

    def _fault(self, woe: str, **more: object) -> None:
        code = {"code": 10016} if self._face == "bybit" else {"code": -1007, "status": 504, "text": "Timeout"}
        ask("127.0.0.1", self._port, "POST", "/fault", {"do": woe, **code, **more})

    def _do(self, deed: dict[str, object]) -> None:
        ask("127.0.0.1", self._port, "POST", "/do", deed)


# What may befall a request on its way, and the streams; none of it is more than a venue may do in good health.
WOES = ("lose_request", "lose_reply", "delay", "delay_reply", "refuse", "refuse_done", "garbage", "reject_later")
DEEDS: tuple[dict[str, object], ...] = (
    {"do": "drop", "scope": "private"},
    {"do": "drop", "scope": "trade"},
    {"do": "stall", "scope": "private", "ms": 700},
    {"do": "mangle", "how": "lose", "times": 2, "skip": 1},
    {"do": "mangle", "how": "repeat", "times": 3},
    {"do": "mangle", "how": "swap", "times": 3},
)


def keeper_of(venue: str, folder: Path, seed: int) -> Keeper:
    return PaperKeeper(folder, seed) if venue == "paper" else FaceKeeper(venue, folder, seed)


class Process:
    """A module that prints its port, stops its market when it is told to be still, and is killed at the end."""

    def __init__(self, folder: Path, *command: str) -> None:
        self._log = folder / "venue.log"
        self._command = command

    def begin(self) -> int:
        """Its port."""
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", *self._command],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, self._log.read_text()
        return int(line)

    def still(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("still\n")
        self._process.stdin.flush()
        self._process.stdout.readline()

    def end(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def steps(store: Path) -> Iterator[Changes]:
    """What is behind the file's first line, which is an image of what was before."""
    return map(_changes, store.read_bytes().splitlines()[1:])


def told_by(changed: Iterator[Changes], spot: bool = False) -> Iterator[AnyEntry]:
    """The venue's steps as entries. `spot`: it has no word for it, but what sells of ours can only reduce, and fees
    may be taken out of what is held."""
    positions: dict[str, Decimal] = defaultdict(lambda: ZERO)
    seen: dict[str, None] = {}  # order ids
    open_: dict[str, None] = {}
    for changes in changed:
        for order in changes.orders:
            if order.order_id not in seen:
                seen[order.order_id] = None
                open_[order.order_id] = None
                yield _taken(order, spot)
        for report in changes.reports:
            if isinstance(report, FillReport):
                in_base = spot and report.fee_asset == report.symbol.removesuffix("USDT")
                positions[report.symbol] += report.qty * report.side.sign - (report.fee if in_base else ZERO)
                yield Executed(
                    report.venue_ns,
                    report.exec_id,
                    report.venue_order_id,
                    report.cid,
                    report.symbol,
                    report.side,
                    report.qty,
                    report.price,
                    report.fee,
                    report.fee_asset,
                    positions[report.symbol],
                )
            elif isinstance(report, FundingReport):
                yield Funded(report.venue_ns, report.funding_id, report.symbol, report.amount)
        for order in changes.orders:
            if order.status != "open" and order.order_id in open_:
                del open_[order.order_id]
                yield Ended(order.updated_ns, order.order_id, order.request.cid, order.status, order.filled_qty)


def _taken(order: VenueOrder, spot: bool) -> Taken:
    r = order.request
    return Taken(
        order.accepted_ns,
        order.order_id,
        r.cid,
        r.symbol,
        r.side,
        r.order_type,
        r.qty,
        r.price,
        r.trigger_price,
        r.reduce_only or (spot and r.side is Side.SELL and is_ours(r.cid)),
    )


def kind_of(keeper: Keeper) -> InstrumentKind:
    return keeper.instruments[0].kind
