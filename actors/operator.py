"""What a person commands: stop, flatten, resume, close, limits. Works when half of the system does not.

A stop closes the switch first, in memory, before anything that could fail; then every symbol is told, then the venue
itself is asked what is left, each account by itself, so that a stuck venue holds up no other. Entries that are still
there after a while are canceled straight at the venue, past any actor that may be stuck: a cancel can do no harm. A
position whose actor does not answer, or is down and falls again, is closed straight at the venue too, reduce-only.
Every call has a deadline, and none that fails takes the others with it.
"""

from collections.abc import Awaitable, Callable
from decimal import Decimal
from functools import partial

import structlog
import trio
from msgspec import Struct
from msgspec.structs import replace

from actors.desk import Desk
from actors.ports import Account, Ask, GateMail, Lost, Steered, World
from engine.core.direct import answered, closer, intent
from engine.core.halts import Staying, kind_of
from engine.core.ids import is_ours
from engine.core.messages import (
    ZERO,
    Cancel,
    CancelEntries,
    Failed,
    Flatten,
    Halt,
    HaltKind,
    Instrument,
    InstrumentKind,
    Limits,
    Order,
    OrderReport,
    PositionReport,
    Refusal,
    Rejection,
    Standing,
    Sweep,
)
from engine.runtime.journal.base import JournalFailed
from engine.runtime.mail import post
from engine.runtime.supervise import Failure, Fallen, attempt
from engine.runtime.switch import Resumption

STOP_SECONDS = 15.0  # for the venue to show that nothing is left
STEP_SECONDS = 0.25
DIRECT_SECONDS = 3.0  # after that, cancels (and closes, where an actor does not answer) go straight to the venue
LOADING_SECONDS = 8.0  # for an actor that is just being made anew and waits for the disk: giving it up costs a halt
LAST_CALL_SECONDS = 0.05  # for an actor to read its mail after the loop stood still, before it is taken for deaf
AGAIN_SECONDS = 3.0  # between two direct closes of one symbol
CALL_SECONDS = 5.0  # for one answer of a venue, a commit of the journal, or the gate
SETTLE_SECONDS = 20.0  # for a reconciliation before a fault's scope is opened again
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


class OperatorPorts(Struct, frozen=True):
    """`dust` tells whether a position is too small to close; `standing` what an (account, symbol) holds and might hold
    by our own books; `settle` is a round of reconciliation of one account."""

    world: World
    accounts: dict[str, Account]
    desk: Desk
    gate: trio.MemorySendChannel[GateMail]
    dust: Callable[[str, PositionReport], bool]
    standing: Callable[[str, str], Standing | None]
    instrument: Callable[[str, str], Instrument | None]
    settle: Callable[[str], Awaitable[bool]]
    fallen: Fallen
    epoch: int


class Clearing(Struct, frozen=True):
    """What is to go, and who wants it."""

    by: str
    reason: str
    flatten: bool
    scope: str


class Operator:
    """Commands over all accounts; each command is safe to repeat."""

    def __init__(self, ports: OperatorPorts) -> None:
        self._ports = ports
        self._world = ports.world
        self._direct: list[Order] = []  # closes of this run past their actors, but for those refused
        self._sold: dict[tuple[str, str], int] = {}  # by (account, symbol): the lifecycle that was closed so last
        self._closes = 0

    async def stop(self, by: str, reason: str, flatten: bool = True, scope: str = "engine") -> StopReport:
        """No more entries in `scope`; cancel what is resting; flatten if asked; ask the venue; say what is left."""
        halt = Halt(scope, f"stopped: {reason}", self._world.clock.now_ns(), by, kind="stop")
        seq = self._world.switch.halt(halt)
        problems: list[str] = []
        report = await self._clear(Clearing(by, reason, flatten, scope), problems)
        unwritten = await self._durable(seq)
        if unwritten:
            problems.append(f"the halt is in force but not durable: {unwritten}")
        return StopReport(True, not unwritten, report.flat, report.left, report.took_ms, tuple(problems))

    async def flatten(self, by: str, reason: str, account: str | None, symbol: str | None) -> StopReport:
        """Cancel and close without halting: a new signal may open again."""
        scope = (
            "engine" if account is None else f"account/{account}" if symbol is None else f"symbol/{account}/{symbol}"
        )
        problems: list[str] = []
        report = await self._clear(Clearing(by, reason, True, scope), problems)
        return StopReport(False, True, report.flat, report.left, report.took_ms, tuple(problems))

    async def resume(self, scope: str, by: str, note: str = "", kind: HaltKind | None = None) -> Resumption:
        """Ends what a person may of one scope, one kind at a time. What was ended is durable when this returns.

        Before a fault's scope opens, its actors that are down are made anew, and the books are compared with the
        venue's; where that does not pass, the halt stays. Raises JournalFailed when the end is not durable in time.
        """
        found = self._world.switch.would_end(scope, kind)
        if any(kind_of(halt) == "fault" for halt in found.ended) and (why := await self._mend(scope)):
            return Resumption(0, (), (*(Staying(halt, why) for halt in found.ended), *found.staying))
        resumption = self._world.switch.resume(scope, by, note, kind)
        if resumption.ended and (unwritten := await self._durable(resumption.seq)):
            raise JournalFailed(f"{scope} is open again, but that is not durable: {unwritten}")
        return resumption

    async def set_limits(self, account: str, changes: dict[str, object], by: str) -> Limits | str:
        """The new limits, or why they were refused. Durable when this returns. Raises JournalFailed otherwise."""
        answered = trio.Event()
        answers: list[tuple[Limits | tuple[Refusal, ...] | Lost, int]] = []

        def reply(outcome: Limits | tuple[Refusal, ...] | Lost, seq: int) -> None:
            answers.append((outcome, seq))
            answered.set()

        post(self._ports.gate, Steered(account, changes, by, reply))
        with trio.move_on_after(CALL_SECONDS):
            await answered.wait()
        if not answers:
            return f"the gate did not answer within {CALL_SECONDS:g} s; look at the limits before asking again"
        outcome, seq = answers[0]
        if isinstance(outcome, Lost):
            return outcome.why
        if isinstance(outcome, tuple):
            return "; ".join(f"{refusal.field} {refusal.reason}" for refusal in outcome)
        if unwritten := await self._durable(seq):
            raise JournalFailed(f"the change is in force, but not durable: {unwritten}")
        return outcome

    # -------------------------------------------------------------------------------------------------------- mending

    async def _mend(self, scope: str) -> str:
        """Why the scope cannot be opened yet; empty: its actors are up and its books agree with the venue."""
        ports = self._ports
        await ports.fallen.revive(scope)
        kind, _, rest = scope.partition("/")
        account, _, symbol = rest.partition("/")
        if kind not in ("account", "symbol") or account not in ports.accounts:
            return ""
        if symbol in ports.desk.symbols(account):
            sweep = Sweep(at_ns=self._world.clock.now_ns())
            if await ports.desk.ask(account, symbol, sweep) is None:
                return "its order actor does not answer; stop or flatten closes what it holds"
        settled = await attempt(lambda: ports.settle(account), SETTLE_SECONDS)
        if settled is True:
            return ""
        return f"the books could not be compared with the venue's{f': {settled.why}' if settled else ''}"

    # ------------------------------------------------------------------------------------------------------- clearing

    async def _clear(self, asked: Clearing, problems: list[str]) -> StopReport:
        """All accounts at once."""
        began = trio.current_time()
        accounts = [a for a in self._ports.accounts.values() if _inside(asked.scope, a, None)]
        found: dict[str, Left] = {}

        async def one(account: Account) -> None:
            found[account.name] = await self._clear_account(account, asked, problems)

        async with trio.open_nursery() as nursery:
            for account in accounts:
                nursery.start_soon(one, account)
        left = tuple(found[account.name] for account in accounts)
        problems += [f"{x.account}: {x.unknown}" for x in left if x.unknown]
        flat = not any(_anything(x) for x in left)
        return StopReport(True, True, flat, left, round((trio.current_time() - began) * 1000))

    async def _clear_account(self, account: Account, asked: Clearing, problems: list[str]) -> Left:
        began = trio.current_time()
        again: dict[str, float] = {}  # when a symbol may be closed directly once more
        for symbol in self._symbols(account, asked.scope):
            await self._ports.fallen.revive(f"symbol/{account.name}/{symbol}")
        unread = dict.fromkeys(self._symbols(account, asked.scope))  # until its actor has read what it was told
        self._tell_all(account, asked, unread)
        while True:
            waited = trio.current_time() - began
            deaf: tuple[str, ...] = ()
            if waited > DIRECT_SECONDS and self._deaf(account, asked.scope, unread, waited):
                await trio.sleep(LAST_CALL_SECONDS)
                deaf = self._deaf(account, asked.scope, unread, waited)
            left = await self._left(account, asked, deaf)
            if not _anything(left) or waited > STOP_SECONDS:
                return left
            if waited > DIRECT_SECONDS:
                for symbol in deaf:
                    self._ports.desk.give_up(account.name, symbol)
                await self._cancel_directly(account, left, problems)
                if asked.flatten:
                    await self._close_directly(account, left, deaf, again, asked.by, problems)
                self._tell_all(account, asked, unread)
            await trio.sleep(STEP_SECONDS)

    def _deaf(self, account: Account, scope: str, unread: dict[str, None], waited: float) -> tuple[str, ...]:
        """Symbols whose actor has not read what it was told, or has fallen over it.

        A slow disk alone makes none deaf: an actor reads on while its orders wait for their intents. Only one that is
        just being made anew waits for the disk itself, and gets longer, though not for ever: a disk may hang.
        """
        desk, name = self._ports.desk, account.name

        def deaf(symbol: str) -> bool:
            if desk.is_down(name, symbol):
                return True
            return symbol in unread and not (waited <= LOADING_SECONDS and desk.is_loading(name, symbol))

        return tuple(symbol for symbol in self._symbols(account, scope) if deaf(symbol))

    def _symbols(self, account: Account, scope: str) -> list[str]:
        return [s for s in self._ports.desk.symbols(account.name) if _inside(scope, account, s)]

    def _tell_all(self, account: Account, asked: Clearing, unread: dict[str, None]) -> None:
        message = (Flatten if asked.flatten else CancelEntries)(asked.by, asked.reason)
        for symbol in self._symbols(account, asked.scope):
            self._ports.desk.post(account.name, symbol, Ask(message, partial(_strike, unread, symbol)))

    async def _left(self, account: Account, asked: Clearing, deaf: tuple[str, ...]) -> Left:
        """By the venue's own word. Of a deaf symbol its protective orders count too, once they protect nothing, or
        hold what is to be sold."""
        doubt = self._doubt(account, asked.scope)
        orders = await attempt(account.venue.open_orders, CALL_SECONDS)
        if isinstance(orders, Failed | Failure):
            return Left(account.name, unknown=orders.why)
        ours = [o for o in orders if is_ours(o.cid) and _inside(asked.scope, account, o.symbol)]
        entries = tuple(o for o in ours if not o.reduce_only)
        if not asked.flatten:
            return Left(account.name, entries, unknown=doubt)
        told = await attempt(account.venue.positions, CALL_SECONDS)
        if isinstance(told, Failed | Failure):
            return Left(account.name, entries, unknown=told.why)
        positions = (self._ours(account, p) for p in told)
        open_ = tuple(
            p
            for p in positions
            if p.qty and _inside(asked.scope, account, p.symbol) and not self._ports.dust(account.name, p)
        )
        held = {p.symbol for p in open_}
        idle = tuple(
            o
            for o in ours
            if o.reduce_only and o.symbol in deaf and (o.symbol not in held or self._is_spot(account, o.symbol))
        )
        return Left(account.name, (*entries, *idle), open_, doubt)

    def _ours(self, account: Account, report: PositionReport) -> PositionReport:
        """Of a wallet, what was traded here and not closed past its actor since that last spoke: no more is ours."""
        if not report.wallet:
            return report
        standing = self._ports.standing(account.name, report.symbol)
        if standing is None:
            return replace(report, qty=ZERO)
        sent = self._sent(account, report.symbol, standing.at_ns)
        return replace(report, qty=max(min(report.qty, standing.position.qty - sent), ZERO))

    def _sent(self, account: Account, symbol: str, since_ns: int) -> Decimal:
        """Base quantity of the direct closes since then."""
        sent = (o for o in self._direct if (o.account, o.symbol) == (account.name, symbol))
        return sum((o.qty for o in sent if o.submitted_ns >= since_ns), ZERO)

    def _is_spot(self, account: Account, symbol: str) -> bool:
        instrument = self._ports.instrument(account.name, symbol)
        return instrument is not None and instrument.kind is InstrumentKind.SPOT

    def _doubt(self, account: Account, scope: str) -> str:
        """What the venue's lists cannot show: an order on its way, in the venue's queue, or without an answer."""
        standings = ((s, self._ports.standing(account.name, s)) for s in self._symbols(account, scope))
        return "; ".join(
            f"{standing.opening_orders} opening order(s) of {symbol} have no end yet and may still be filled"
            for symbol, standing in standings
            if standing is not None and standing.opening_orders
        )

    async def _cancel_directly(self, account: Account, left: Left, problems: list[str]) -> None:
        for order in left.entries:
            if why := self._world.journal.barred(opening=False):
                return _note(problems, f"{account.name}: {why}")
            LOG.warning("cancelling at the venue directly", account=account.name, cid=order.cid)
            cancel = Cancel(order.cid, order.symbol, order.venue_order_id)
            answer = await attempt(partial(account.venue.cancel, cancel), CALL_SECONDS)
            if isinstance(answer, Failure):
                _note(problems, f"{account.name}/{order.symbol}: the cancel of {order.cid} failed: {answer.why}")

    async def _close_directly(
        self,
        account: Account,
        left: Left,
        deaf: tuple[str, ...],
        again: dict[str, float],
        by: str,
        problems: list[str],
    ) -> None:
        for held in left.positions:
            instrument = self._ports.instrument(account.name, held.symbol)
            if held.symbol in deaf and instrument is not None and trio.current_time() >= again.get(held.symbol, 0.0):
                again[held.symbol] = trio.current_time() + AGAIN_SECONDS
                _note(
                    problems, f"{account.name}/{held.symbol}: its actor does not answer; closing at the venue directly"
                )
                await self._close(account, held, instrument, by, problems)

    async def _close(
        self, account: Account, held: PositionReport, instrument: Instrument, by: str, problems: list[str]
    ) -> None:
        world, epoch = self._world, self._ports.epoch
        standing = self._ports.standing(account.name, held.symbol)
        serial = standing.position.serial if standing is not None else 0
        if held.wallet and self._sold.get((account.name, held.symbol)) == serial:
            return _note(problems, f"{account.name}/{held.symbol}: sold directly once; more may not be ours to sell")
        self._sold[account.name, held.symbol] = serial
        order = closer(world.env, account.name, held, instrument, epoch, self._closes, world.clock.now_ns())
        self._closes += 1
        fact = intent(order, by)
        seq = world.journal.append((fact,), (order,))
        world.observe((fact,))
        unwritten = await self._durable(seq)
        if why := world.journal.barred(opening=False):  # another engine may own the account
            del self._sold[account.name, held.symbol]
            return _note(problems, f"{account.name}/{held.symbol}: {why}")
        if unwritten:  # as with any protective order: it can open nothing, so it goes
            _note(problems, f"{order.cid} is sent though its intent is not durable: {unwritten}")
        answer = await attempt(lambda: account.venue.submit(order, lambda: None), CALL_SECONDS)
        if isinstance(answer, Failure):
            self._direct.append(order)
            return _note(problems, f"{account.name}/{held.symbol}: the close {order.cid} failed: {answer.why}")
        if not isinstance(answer, Rejection):
            self._direct.append(order)
        facts, row = answered(order, answer, world.clock.now_ns())
        if facts:
            world.journal.append(facts, (row,))
            world.observe(facts)
        if row.reason:
            _note(problems, f"{account.name}/{held.symbol}: the close {order.cid} was refused: {row.reason}")

    async def _durable(self, seq: int) -> str:
        """Why it is not; empty: it is."""
        outcome = await attempt(lambda: self._world.journal.durable(seq, protective=True), CALL_SECONDS)
        return outcome.why if isinstance(outcome, Failure) else ""


def _strike(unread: dict[str, None], symbol: str, standing: Standing) -> None:
    unread.pop(symbol, None)


def _anything(left: Left) -> bool:
    return bool(left.entries or left.positions or left.unknown)


def _note(problems: list[str], text: str) -> None:
    if text not in problems:
        problems.append(text)


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
