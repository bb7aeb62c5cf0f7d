"""What a person commands: stop, flatten, resume, close, limits. Works when half of the system does not.

A stop closes the switch first, in memory, before anything that could fail; then every symbol is told, then the venue
itself is asked what is left. Entries that are still there after a while are canceled straight at the venue, past any
actor that may be stuck: a cancel can do no harm.
"""

from collections.abc import Callable

import structlog
import trio
from msgspec import Struct

from actors.desk import Desk
from actors.ports import Account, GateMail, Steered, World
from engine.core.ids import is_ours
from engine.core.messages import (
    Cancel,
    CancelEntries,
    Failed,
    Flatten,
    Halt,
    HaltKind,
    Limits,
    OrderReport,
    PositionReport,
)
from engine.runtime.journal.base import JournalFailed
from engine.runtime.mail import MailboxFull, post
from engine.runtime.switch import Resumption

STOP_SECONDS = 15.0  # for the venue to show that nothing is left
STEP_SECONDS = 0.25
DIRECT_SECONDS = 3.0  # after that, cancels go straight to the venue
LOG = structlog.get_logger("operator")


class Left(Struct, frozen=True):
    """What one account still has at the venue. `unknown` says what could not be known: a question that failed, or an
    opening order whose outcome is in doubt and which may still be filled."""

    account: str
    entries: tuple[OrderReport, ...] = ()
    positions: tuple[PositionReport, ...] = ()
    unknown: str = ""


class StopReport(Struct, frozen=True):
    """`flat`: the venue itself showed no opening order and, where asked for, no position; and none is in doubt."""

    halted: bool
    durable: bool
    flat: bool
    left: tuple[Left, ...]
    took_ms: int
    problems: tuple[str, ...] = ()


class Operator:
    """Commands over all accounts; each command is safe to repeat."""

    def __init__(
        self,
        world: World,
        accounts: dict[str, Account],
        desk: Desk,
        gate: trio.MemorySendChannel[GateMail],
        dust: Callable[[str, PositionReport], bool],
        openers: Callable[[str, str], int],
    ) -> None:
        """`dust` tells whether a position is too small to close; `openers` how many opening orders of an (account,
        symbol) have not ended by our own books."""
        self._world = world
        self._accounts = accounts
        self._desk = desk
        self._gate = gate
        self._dust = dust
        self._openers = openers

    async def stop(self, by: str, reason: str, flatten: bool = True, scope: str = "engine") -> StopReport:
        """No more entries in `scope`; cancel what is resting; flatten if asked; ask the venue; say what is left."""
        halt = Halt(scope, f"stopped: {reason}", self._world.clock.now_ns(), by, kind="stop")
        seq = self._world.switch.halt(halt)
        problems: list[str] = []
        report = await self._clear(by, reason, flatten, scope, problems)
        durable = await self._durable(seq, problems)
        return StopReport(True, durable, report.flat, report.left, report.took_ms, tuple(problems))

    async def flatten(self, by: str, reason: str, account: str | None, symbol: str | None) -> StopReport:
        """Cancel and close without halting: a new signal may open again."""
        scope = (
            "engine" if account is None else f"account/{account}" if symbol is None else f"symbol/{account}/{symbol}"
        )
        problems: list[str] = []
        report = await self._clear(by, reason, True, scope, problems)
        return StopReport(False, True, report.flat, report.left, report.took_ms, tuple(problems))

    async def resume(self, scope: str, by: str, note: str = "", kind: HaltKind | None = None) -> Resumption:
        """Ends what a person may of one scope, one kind at a time. What was ended is durable when this returns."""
        resumption = self._world.switch.resume(scope, by, note, kind)
        if resumption.ended:
            await self._world.journal.durable(resumption.seq)
        return resumption

    async def set_limits(self, account: str, changes: dict[str, object], by: str) -> Limits | str:
        """The new limits, or why they were refused. Durable when this returns."""
        answered = trio.Event()
        answers: list[tuple[Limits | str, int]] = []

        def reply(outcome: Limits | str, seq: int) -> None:
            answers.append((outcome, seq))
            answered.set()

        post(self._gate, Steered(account, changes, by, reply))
        await answered.wait()
        outcome, seq = answers[0]
        await self._world.journal.durable(seq)
        return outcome

    async def _clear(self, by: str, reason: str, flatten: bool, scope: str, problems: list[str]) -> StopReport:
        began = trio.current_time()
        accounts = [a for a in self._accounts.values() if _inside(scope, a, None)]
        left: tuple[Left, ...] = ()
        self._tell_all(accounts, by, reason, flatten, scope, problems)
        while True:
            left = tuple([await self._left(a, flatten, scope) for a in accounts])
            waited = trio.current_time() - began
            flat = not any(x.entries or x.positions or x.unknown for x in left)
            if flat or waited > STOP_SECONDS:
                break
            if waited > DIRECT_SECONDS:
                await self._cancel_directly(left)
                self._tell_all(accounts, by, reason, flatten, scope, problems)
            await trio.sleep(STEP_SECONDS)
        problems += [f"{x.account}: {x.unknown}" for x in left if x.unknown]
        return StopReport(True, True, flat, left, round((trio.current_time() - began) * 1000))

    def _tell_all(
        self, accounts: list[Account], by: str, reason: str, flatten: bool, scope: str, problems: list[str]
    ) -> None:
        for account in accounts:
            for symbol in self._desk.symbols(account.name):
                if not _inside(scope, account, symbol):
                    continue
                message = Flatten(by, reason) if flatten else CancelEntries(by, reason)
                try:
                    self._desk.post(account.name, symbol, message)
                except (MailboxFull, trio.BrokenResourceError, trio.ClosedResourceError) as error:
                    text = f"{account.name}/{symbol} could not be told: {error}"
                    if text not in problems:
                        problems.append(text)

    async def _left(self, account: Account, flatten: bool, scope: str) -> Left:
        orders = await account.venue.open_orders()
        if isinstance(orders, Failed):
            return Left(account.name, unknown=orders.why)
        entries = tuple(o for o in orders if is_ours(o.cid) and not o.reduce_only and _inside(scope, account, o.symbol))
        doubt = self._doubt(account, scope)
        if not flatten:
            return Left(account.name, entries, unknown=doubt)
        positions = await account.venue.positions()
        if isinstance(positions, Failed):
            return Left(account.name, entries, unknown=positions.why)
        open_ = tuple(
            p for p in positions if p.qty and _inside(scope, account, p.symbol) and not self._dust(account.name, p)
        )
        return Left(account.name, entries, open_, doubt)

    def _doubt(self, account: Account, scope: str) -> str:
        """What the venue's lists cannot show: an order on its way, in the venue's queue, or without an answer."""
        counts = {s: self._openers(account.name, s) for s in self._desk.symbols(account.name)}
        return "; ".join(
            f"{count} opening order(s) of {symbol} have no end yet and may still be filled"
            for symbol, count in counts.items()
            if count and _inside(scope, account, symbol)
        )

    async def _cancel_directly(self, left: tuple[Left, ...]) -> None:
        for account in left:
            for order in account.entries:
                LOG.warning("cancelling at the venue directly", account=account.account, cid=order.cid)
                venue = self._accounts[account.account].venue
                await venue.cancel(Cancel(order.cid, order.symbol, order.venue_order_id))

    async def _durable(self, seq: int, problems: list[str]) -> bool:
        try:
            await self._world.journal.durable(seq)
        except JournalFailed as error:
            problems.append(f"the halt is in force but not durable: {error}")
            return False
        return True


def _inside(scope: str, account: Account, symbol: str | None) -> bool:
    """Whether an account (or one of its symbols) is inside a scope."""
    kind, _, rest = scope.partition("/")
    match kind:
        case "engine":
            return True
        case "venue":
            return account.venue_name == rest
        case "account":
            return account.name == rest
        case _:
            owner, _, only = rest.partition("/")
            return account.name == owner and (symbol is None or symbol == only)
