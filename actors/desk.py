"""Order actors by (account, symbol): made when first needed, each supervised, each with its own mailbox.

An order actor that failed is made anew from what the journal holds; whoever writes to it meanwhile writes to the same
mailbox. Of one that stays down, or does not read for so long that its mailbox is full, the mail is dropped: whatever it
was told is in the journal or at the venue, and is found there when the actor is made anew.
"""

from collections.abc import Awaitable, Callable, Iterable
from decimal import Decimal
from functools import partial

import structlog
import trio
from msgspec import Struct

from actors.order import Mail, OrderPorts, order_actor
from actors.ports import Account, Ask, World
from engine.core.blotter import Blotter, Message, Seen, Terms
from engine.core.messages import Enact, Halt, Instrument, Order, Position, Relisted, Standing, Trade
from engine.runtime.journal.base import JournalFailed
from engine.runtime.mail import MailboxFull, offer, waiting
from engine.runtime.supervise import Fallen, GivenUp, Window, supervise

LOG = structlog.get_logger("desk")
MAILBOX = (
    10_000  # a stuck symbol's backlog; full means that it has not read for minutes: it is made anew, its scope halts
)

ANSWER_SECONDS = 10.0  # an order actor folds a message in well under a millisecond


class Seat(Struct):
    """Where one order actor sits: its mailbox, both ends, and what ends it from outside."""

    send: trio.MemorySendChannel[Mail]
    mailbox: trio.MemoryReceiveChannel[Mail]
    window: Window[Enact]
    scope: trio.CancelScope | None = None
    overflowed: bool = False
    loading: bool = False  # made anew just now: what it is made from waits for the disk


class Holding(Struct):
    """What the journal knows of one symbol."""

    position: Position
    orders: list[Order]
    trade: Trade | None
    signals: list[Enact]
    seen: list[tuple[str, Seen]]


def empty(account: str, symbol: str) -> Holding:
    return Holding(Position(account=account, symbol=symbol), [], None, [], [])


class UnknownInstrument(LookupError):
    """A symbol that the account's venue does not list."""


class Desk:
    """Posts to order actors. `load` reads one symbol's holding from the journal, after everything queued is durable."""

    def __init__(
        self,
        world: World,
        accounts: dict[str, Account],
        instrument: Callable[[str, str], Instrument | None],
        stop_default: Callable[[str], Decimal | None],
        tell: Callable[[Standing], None],
        load: Callable[[str, str], Awaitable[Holding]],
        worth: Callable[[str], Decimal | None],
        fallen: Fallen,
        epoch: int,
        closed: Callable[[str], tuple[Halt, ...]],
    ) -> None:
        self._world = world
        self._accounts = accounts
        self._instrument = instrument
        self._stop_default = stop_default
        self._tell = tell
        self._load = load
        self._worth = worth
        self._fallen = fallen
        self._epoch = epoch
        self._started_ns = world.clock.now_ns()
        self._closed_to_entries = closed
        self._seats: dict[tuple[str, str], Seat] = {}
        self._nursery: trio.Nursery | None = None
        self._closed = trio.Event()

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Until `close`; order actors live in here."""
        async with trio.open_nursery() as nursery:
            self._nursery = nursery
            task_status.started()
            try:
                await self._closed.wait()
            finally:
                self._closed.set()  # nobody can be seated any more, though this end was not asked for

    def post(self, account: str, symbol: str, message: Mail) -> None:
        """Never at the sender's cost: of an actor that does not read, mail is dropped. Raises UnknownInstrument."""
        seat = self._seats.get((account, symbol)) or self.open(account, symbol)
        if self._closed.is_set() or offer(seat.send, message) or seat.overflowed:
            return
        seat.overflowed = True
        if seat.scope is not None:
            seat.scope.cancel()

    def hand(self, enact: Enact) -> None:
        """The same, to the actor itself where it waits for mail."""
        account, symbol = enact.signal.account, enact.signal.symbol
        seat = self._seats.get((account, symbol))
        if seat is None or not seat.window.hand(enact):
            self.post(account, symbol, enact)

    def relist(self, account: str, instrument: Instrument) -> None:
        """The venue has other rules for a symbol; one without an actor finds them when it gets one."""
        if (account, instrument.symbol) in self._seats:
            self.post(account, instrument.symbol, Relisted(instrument))

    async def ask(self, account: str, symbol: str, message: Message) -> Standing | None:
        """Post, and wait until it has been folded. None: no answer in time (the actor failed, is stuck, or is down)."""
        if self.is_down(account, symbol):
            await trio.lowlevel.checkpoint()
            return None
        answered = trio.Event()
        answers: list[Standing] = []

        def reply(standing: Standing) -> None:
            answers.append(standing)
            answered.set()

        self.post(account, symbol, Ask(message, reply))
        with trio.move_on_after(ANSWER_SECONDS):
            await answered.wait()
        return answers[0] if answers else None

    def symbols(self, account: str) -> tuple[str, ...]:
        """Symbols of an account that have an actor."""
        return tuple(symbol for owner, symbol in self._seats if owner == account)

    def is_down(self, account: str, symbol: str) -> bool:
        return _name(account, symbol) in self._fallen

    def is_loading(self, account: str, symbol: str) -> bool:
        """It is being made anew and reads its mail as soon as the disk has answered."""
        return self._seats[account, symbol].loading and not self.is_down(account, symbol)

    def give_up(self, account: str, symbol: str) -> None:
        """Ends an actor that does not answer; it stays down until a resume of its scope."""
        seat = self._seats[account, symbol]
        if not self.is_down(account, symbol) and seat.scope is not None:
            seat.scope.cancel()

    def backlog(self) -> int:
        return sum(seat.send.statistics().current_buffer_used for seat in self._seats.values())

    def open(self, account: str, symbol: str, holding: Holding | None = None) -> Seat:
        """Start an order actor; `holding` is what the journal had at the start of the engine, if it had anything."""
        instrument = self._instrument(account, symbol)
        if instrument is None:
            raise UnknownInstrument(f"{symbol} is not an instrument of account {account}'s venue")
        assert self._nursery is not None, "the desk is not running"
        if self._closed.is_set():  # what is told now, the next start finds
            unread, nobody = trio.open_memory_channel[Mail](0)
            return Seat(unread, nobody, Window(partial(waiting, nobody)))
        send, receive = trio.open_memory_channel[Mail](MAILBOX)
        seat = self._seats[account, symbol] = Seat(send, receive, Window(partial(waiting, receive)))
        of = self._accounts[account]
        ports = OrderPorts(self._world, of, symbol, seat.send, self._tell, self._closed_to_entries)
        first = [holding]  # used once; a restart reads the journal

        async def run() -> None:
            if seat.overflowed:
                _empty(seat.mailbox)
                seat.overflowed = False
            with trio.CancelScope() as seat.scope:
                seat.loading = not first
                known = first.pop() if first else await self._reload(account, symbol)
                seat.loading = False
                # By the rules of now: an actor that comes back late must not round by those of its start.
                blotter = self._blotter(of, symbol, self._instrument(account, symbol) or instrument, known)
                return await order_actor(seat.mailbox, blotter, ports, known is None, seat.window)
            if seat.overflowed:
                raise MailboxFull(f"{MAILBOX} of {MAILBOX} in use")
            raise GivenUp("it did not answer")

        name = _name(account, symbol)
        scope, world = f"symbol/{account}/{symbol}", self._world
        idle = partial(_drop, seat.mailbox)
        self._nursery.start_soon(supervise, name, scope, run, world.switch, world.clock, self._fallen, idle, name=name)
        return seat

    async def _reload(self, account: str, symbol: str) -> Holding:
        try:
            await self._world.journal.durable(self._world.journal.append(()))
        except JournalFailed as error:
            # What it has is old, and the venue tells the rest: without an actor nobody would look after the position.
            LOG.error("an actor is made from an old journal", account=account, symbol=symbol, reason=str(error))
        return await self._load(account, symbol)

    def _blotter(self, account: Account, symbol: str, instrument: Instrument, known: Holding | None) -> Blotter:
        traits = account.venue.traits
        terms = Terms(
            env=self._world.env,
            window_ns=traits.window_ns,
            queue_ns=traits.queue_ns,
            visible_ns=traits.visible_ns,
            stop_distance_default=self._stop_default(account.name),
            started_ns=self._started_ns,
            epoch=self._epoch,
        )
        if known is None:
            return Blotter(terms, instrument, Position(account=account.name, symbol=symbol), worth=self._worth)
        return Blotter(
            terms, instrument, known.position, known.orders, known.trade, known.signals, known.seen, self._worth
        )

    def close(self) -> None:
        """No more mail; the actors end when they have read what is there and their calls are done."""
        for seat in self._seats.values():
            seat.send.close()
        self._closed.set()


def _name(account: str, symbol: str) -> str:
    return f"order/{account}/{symbol}"


async def _drop(mailbox: trio.MemoryReceiveChannel[Mail]) -> None:
    """Until the mailbox is closed: nobody who writes to an actor that is down shall be held up."""
    async for _ in mailbox:
        pass


def _empty(mailbox: trio.MemoryReceiveChannel[Mail]) -> None:
    try:
        while True:
            mailbox.receive_nowait()
    except (trio.WouldBlock, trio.EndOfChannel):
        return


def holdings(
    orders: Iterable[Order],
    positions: Iterable[Position],
    trades: Iterable[Trade],
    signals: Iterable[Enact],
    seen: Iterable[tuple[str, str, str, Seen]],
) -> dict[tuple[str, str], Holding]:
    """The journal's open state by (account, symbol); flat symbols without orders or signals are left out."""
    found: dict[tuple[str, str], Holding] = {}

    def of(account: str, symbol: str) -> Holding:
        key = (account, symbol)
        if key not in found:
            found[key] = empty(account, symbol)
        return found[key]

    for position in positions:
        of(position.account, position.symbol).position = position
    for order in orders:
        of(order.account, order.symbol).orders.append(order)
    for trade in trades:
        of(trade.account, trade.symbol).trade = trade
    for enact in signals:
        of(enact.signal.account, enact.signal.symbol).signals.append(enact)
    for account, symbol, exec_id, execution in seen:
        of(account, symbol).seen.append((exec_id, execution))
    return found
