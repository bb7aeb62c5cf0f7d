"""Asks an account's venue what is true, and brings every symbol the answer that concerns it (SPEC REC1, REC2).

One round reads positions, open orders, executions and balances. Positions come first, so that every execution behind
them is in the list that follows. A failed query is never an empty answer: it is asked again, then it ends the round,
and the next round comes soon. What it does not concern goes on: executions are booked also where nothing can be
compared, and a wallet that cannot be read is an alert and an account that opens nothing, while its books are kept.
"""

from collections.abc import Awaitable, Callable
from functools import partial

import structlog
import trio
from msgspec import Struct

from actors.ports import Account, World, insist
from engine.core.announce import alert_event
from engine.core.messages import (
    ZERO,
    Alerted,
    BalanceReport,
    BalancesSeen,
    Compared,
    Failed,
    FillReport,
    FundingReport,
    Instrument,
    InstrumentKind,
    OrderReport,
    PositionReport,
    Reconciled,
    Standing,
    TransferReport,
)
from engine.core.times import SECOND
from engine.venues.base import TellsTransfers

OVERLAP_NS = 60 * SECOND  # executions may become visible late
TRANSFERS_KEPT = 500  # told with each wallet; whoever books them knows which are new
BUSY_SECONDS = 10.0
STALE_SECONDS = 2.0  # while the private stream is down, and after a round that failed
QUIET_SECONDS = 30.0
UNREAD_ROUNDS = 2  # in a row without the balances, and nothing is opened any more
LOG = structlog.get_logger("reconciler")


class ReconcilerPorts(Struct, frozen=True):
    """`ask` folds a Compared in the symbol's actor; `deliver` passes on what needs none; `active`: what to compare."""

    world: World
    ask: Callable[[str, str, Compared], Awaitable[Standing | None]]
    deliver: Callable[[str, str, FillReport | FundingReport], None]
    active: Callable[[str], tuple[str, ...]]
    instrument: Callable[[str, str], Instrument | None]
    tell: Callable[[BalancesSeen], None]
    stream_up: Callable[[str], bool]


class Round(Struct, frozen=True):
    """How one round ended. `disagreed` are the symbols whose position was not the venue's."""

    passed: bool
    why: str = ""
    disagreed: tuple[str, ...] = ()


class Reconciler:
    """One account. `since_ns` is the venue time up to which executions are booked."""

    def __init__(self, account: Account, ports: ReconcilerPorts, since_ns: int) -> None:
        self._account = account
        self._ports = ports
        self._since_ns = since_ns
        self._lock = trio.Lock()
        self._failed = False  # the last round
        self._heard = True  # by every symbol that the last round concerned
        self._unread = 0  # rounds, one after the other, in which the wallet could not be read
        self._seen = False  # a wallet, in this life
        self._transfers: dict[str, TransferReport] = {}  # of late, by id
        self._transfers_ns = since_ns  # the venue time up to which they were asked for

    async def run(self) -> None:
        """For ever: often while something is open or the stream is down, seldom when nothing is."""
        while True:
            began = trio.current_time()
            # The pause is shorter once something is open, or the stream is down.
            while (left := began + self._pause() - trio.current_time()) > 0:  # noqa: ASYNC110
                await trio.sleep(min(left, STALE_SECONDS))
            await self.settle()

    async def settle(self) -> bool:
        """Rounds until our books and the venue's agree, or have disagreed often enough to be quarantined."""
        for again in range(4):
            async with self._lock:
                result = await self._round()
            self._failed = not result.passed
            if not result.passed:
                LOG.warning("reconciliation failed", account=self._account.name, reason=result.why)
                return False
            if not result.disagreed:
                return True
            if again < 3:
                await trio.sleep(0.5)
        LOG.error("books disagree", account=self._account.name, symbols=result.disagreed)
        return True

    def _pause(self) -> float:
        if self._failed or self._unread or not self._ports.stream_up(self._account.name):
            return STALE_SECONDS
        return BUSY_SECONDS if self._ports.active(self._account.name) else QUIET_SECONDS

    async def _round(self) -> Round:
        venue, name, world = self._account.venue, self._account.name, self._ports.world
        asked = world.clock.now_ns()
        venue_now = await insist(world.rng, venue.server_time_ns)
        if isinstance(venue_now, Failed):
            return Round(False, venue_now.why)
        positions = await insist(world.rng, venue.positions)
        orders = positions if isinstance(positions, Failed) else await insist(world.rng, venue.open_orders)
        fills = await insist(world.rng, partial(venue.fills, max(self._since_ns - OVERLAP_NS, 0)))
        if isinstance(fills, Failed):
            return Round(False, fills.why)
        if isinstance(positions, Failed) or isinstance(orders, Failed):
            self._book(fills)
            return Round(False, orders.why if isinstance(orders, Failed) else "")
        await self._hear_transfers(venue_now)
        disagreed = await self._compare(asked, venue_now, positions, orders, fills)
        seen_ns = venue_now + world.clock.now_ns() - asked
        balances = await insist(world.rng, venue.balances)
        if not self._seen:
            # What is listed until now is taken to be in the first wallet (`Exposure.see_balances`): one that came after
            # the list and before the wallet would be in the wallet alone, and then count for a second one.
            await self._hear_transfers(venue_now)
        self._see(balances, seen_ns)
        # Else the executions of now are asked for again, when there is somebody to book them, or whoever is made anew
        # from a journal that has failed needs what came since.
        if self._heard and not world.journal.stats().failed:
            self._since_ns = venue_now
            world.journal.append((), (Reconciled(account=name, venue_ns=venue_now),))
        return Round(True, disagreed=disagreed)

    def _book(self, fills: tuple[FillReport | FundingReport, ...]) -> None:
        """As the stream would have told them: they count once, and need no comparison."""
        for report in fills:
            if self._ports.instrument(self._account.name, report.symbol) is not None:
                self._ports.deliver(self._account.name, report.symbol, report)

    async def _hear_transfers(self, venue_ns: int) -> None:
        """What cannot be asked now is asked again: until then the wallet has changed for a reason not known."""
        venue = self._account.venue
        if not isinstance(venue, TellsTransfers):
            return
        found = await venue.transfers(max(self._transfers_ns - OVERLAP_NS, 0))
        if isinstance(found, Failed):
            LOG.warning("transfers not to be had", account=self._account.name, reason=found.why)
            return
        self._transfers_ns = venue_ns
        self._transfers |= {transfer.transfer_id: transfer for transfer in found}
        while len(self._transfers) > TRANSFERS_KEPT:
            del self._transfers[next(iter(self._transfers))]

    def _see(self, balances: tuple[BalanceReport, ...] | Failed, venue_ns: int) -> None:
        """To the gate; where nothing can be read, that nothing is known, and to a person once.

        That is so from the second round on. One question without an answer is no news of the wallet: what was known of
        it stays in force, as it does where a round ends before (simulated: queries that died in the midst of one).
        """
        name, world = self._account.name, self._ports.world
        self._unread = self._unread + 1 if isinstance(balances, Failed) else 0
        if isinstance(balances, Failed):
            if self._unread < UNREAD_ROUNDS:
                LOG.warning("balances not to be had", account=name, reason=balances.why)
                return
            if self._unread == UNREAD_ROUNDS:
                text = f"the balances cannot be read, so nothing is opened: {balances.why}"
                fact = Alerted(at_ns=world.clock.now_ns(), account=name, severity="critical", kind="balance", text=text)
                world.journal.append((fact,), (alert_event(fact),))
                world.observe((fact,))
        self._seen = self._seen or not self._unread
        seen = None if isinstance(balances, Failed) else balances
        told = tuple(self._transfers.values())
        self._ports.tell(BalancesSeen(name, seen, world.clock.now_ns(), told, venue_ns))

    def _of_base(self, symbol: str) -> tuple[TransferReport, ...]:
        """Where a position is a part of the wallet, what left the wallet may have been a part of it."""
        instrument = self._ports.instrument(self._account.name, symbol)
        if instrument is None or instrument.kind is not InstrumentKind.SPOT:
            return ()
        return tuple(t for t in self._transfers.values() if t.asset == instrument.base)

    async def _compare(
        self,
        asked_ns: int,
        venue_ns: int,
        positions: tuple[PositionReport, ...],
        orders: tuple[OrderReport, ...],
        fills: tuple[FillReport | FundingReport, ...],
    ) -> tuple[str, ...]:
        name = self._account.name
        symbols = dict.fromkeys(self._ports.active(name))
        symbols |= dict.fromkeys(r.symbol for r in (*positions, *orders, *fills))
        held = {p.symbol: p for p in positions}
        disagreed = []
        self._heard = True
        for symbol in symbols:
            if self._ports.instrument(name, symbol) is None:
                LOG.error("unlisted symbol at the venue", account=name, symbol=symbol)
                continue
            for report in fills:
                if isinstance(report, FundingReport) and report.symbol == symbol:
                    self._ports.deliver(name, symbol, report)
            compared = Compared(
                position=held.get(symbol) or PositionReport(symbol, qty=ZERO, venue_ns=venue_ns),
                orders=tuple(o for o in orders if o.symbol == symbol),
                fills=tuple(f for f in fills if isinstance(f, FillReport) and f.symbol == symbol),
                asked_ns=asked_ns,
                at_ns=self._ports.world.clock.now_ns(),
                transfers=self._of_base(symbol),
            )
            standing = await self._ports.ask(name, symbol, compared)
            self._heard = self._heard and standing is not None
            if standing is None or standing.agreed_ns < asked_ns:
                disagreed.append(symbol)
        return tuple(disagreed)
