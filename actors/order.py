"""One (account, symbol): a thin shell round a blotter.

Receive, step, act: the blotter decides, its facts go to the journal, its standing to the gate, and then its commands
start as child tasks, each of which first waits until the facts behind it are durable. There is no `await` between a
step's decision and its appending, so nothing can happen in the middle of one.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

import structlog
import trio
from msgspec import Struct, field

from actors.ports import Account, Ask, World, insist
from engine.core.blotter import Blotter, Message, Step
from engine.core.messages import (
    Alerted,
    Answer,
    Answered,
    Cancel,
    Enact,
    Failed,
    FillReport,
    FundingReport,
    Halt,
    Look,
    Looked,
    Order,
    Place,
    Rejection,
    Silence,
    Standing,
    Timed,
    Wake,
)
from engine.core.order import opens, protective
from engine.runtime.journal.base import JournalFailed
from engine.runtime.mail import post
from engine.runtime.supervise import Window, in_anothers_turn
from engine.venues.throttle import Lane

Mail: TypeAlias = Message | Ask
LOG = structlog.get_logger("order")
BATCH = 64  # messages folded in one step
RETRIES = 3  # of a request that surely had no effect (SPEC ORD4)
RETRY_SECONDS = (1.0, 2.0)  # doubled, +-25 %
SUPERSEDED = "a later attempt waited with it, and goes in its place"
RETRYABLE = ("not_sent", "rate_limited", "unavailable")


class Shut(Exception):
    """The last door has closed between the look at it and the first byte; nothing was written."""

    def __init__(self, answer: Rejection) -> None:
        super().__init__(answer.text)
        self.answer = answer


class OrderPorts(Struct, frozen=True):
    """What an order actor needs beside the world: its account, its own mailbox, and who wants its standing.

    `queued` are the orders that protect and wait for a rate limit just now.
    """

    world: World
    account: Account
    symbol: str
    mail: trio.MemorySendChannel[Mail]
    tell: Callable[[Standing], None]
    closed: Callable[[str], tuple[Halt, ...]]  # account -> why entries cannot be just now (start-up, a stream down)
    queued: dict[str, Order] = field(default_factory=dict)  # by client id


async def order_actor(
    mailbox: trio.MemoryReceiveChannel[Mail], blotter: Blotter, ports: OrderPorts, fresh: bool, window: Window[Enact]
) -> None:
    """Until the mailbox is closed; then waits for its calls to end. `fresh`: nothing is to be recovered."""
    async with trio.open_nursery() as calls:

        def enact_now(enact: Enact) -> None:
            step = blotter.handle((enact,), ports.world.clock.now_ns(), standing=False)
            moments = {enact.signal.signal_id: (enact.received_tick, enact.judged_tick)}
            act(step, blotter, ports, calls, moments, hurry=True)

        if not fresh:
            recovered = blotter.recover(ports.world.clock.now_ns())
            act(recovered, blotter, ports, calls, {})
            if recovered.standing is None:
                ports.tell(blotter.standing(ports.world.clock.now_ns()))
        window.attend(enact_now, calls)
        try:
            await _read(mailbox, blotter, ports, calls)
        finally:
            window.leave()


async def _read(
    mailbox: trio.MemoryReceiveChannel[Mail], blotter: Blotter, ports: OrderPorts, calls: trio.Nursery
) -> None:
    async for first in mailbox:
        batch, asks = drain(first, mailbox)
        ticks = {m.signal.signal_id: (m.received_tick, m.judged_tick) for m in batch if isinstance(m, Enact)}
        step = blotter.handle(batch, ports.world.clock.now_ns())
        act(step, blotter, ports, calls, ticks)
        for ask in asks:
            ask.reply(step.standing or blotter.standing(ports.world.clock.now_ns()))


def drain(first: Mail, mailbox: trio.MemoryReceiveChannel[Mail]) -> tuple[list[Message], list[Ask]]:
    """Everything that waits, up to a batch: a burst of fills is one step, and its stop is sized once."""
    batch: list[Message] = []
    asks: list[Ask] = []
    message = first
    while True:
        if isinstance(message, Ask):
            asks.append(message)
            batch.append(message.message)
        else:
            batch.append(message)
        if len(batch) >= BATCH:
            return batch, asks
        try:
            message = mailbox.receive_nowait()
        except (trio.WouldBlock, trio.EndOfChannel):
            return batch, asks


def act(
    step: Step,
    blotter: Blotter,
    ports: OrderPorts,
    calls: trio.Nursery,
    ticks: dict[str, tuple[int, int]],
    hurry: bool = False,
) -> None:
    """Journal, tell, and start what is to be done. Synchronous: a step is whole or not at all.

    `hurry`: nobody else is about to append what could share the commit of an order, which comes before all else.
    """
    world = ports.world
    seq = 0
    if step.facts or step.rows:
        seq = world.journal.append(step.facts, step.rows)
    for halt in step.halts:
        world.switch.halt(halt)
    begun: dict[str, Begun] = {}
    if hurry and ports.account.swift is not None:
        begun = {c.order.cid: Begun() for c in step.commands if isinstance(c, Place)}
    if hurry and step.commands:
        begin_all = partial(_begin_all, step, begun, blotter, ports, calls)
        world.journal.hurry(seq, begin_all if begun else None)
    world.observe(step.facts)
    standing = blotter.standing(world.clock.now_ns()) if hurry else step.standing
    if standing is not None:
        ports.tell(standing)
    for command in step.commands:
        match command:
            case Place(order=order):
                moments = ticks.get(order.signal_id, (0, 0))
                placed = partial(place, begun=begun[order.cid]) if begun else place
                calls.start_soon(placed, order, seq, blotter, ports, moments)
            case Cancel():
                calls.start_soon(cancel, command, seq, ports)
            case Look():
                calls.start_soon(look, command, ports)
            case Wake():
                calls.start_soon(wake, command, ports)


class Begun(Struct):
    """An order's first try, if it was made in the turn in which its intent became durable (`begin`).

    `place` is the task that waits for it; `left`: it no longer does.
    """

    left: bool = False
    durable: int = 0  # tick
    wire: tuple[int, int] = (0, 0)  # tick and wall time of the first byte
    sent_ns: int = 0
    ticket: int = 0
    answer: Callable[[], Awaitable[Answer]] | None = None  # None: it was not made


def _begin_all(step: Step, begun: dict[str, Begun], blotter: Blotter, ports: OrderPorts, calls: trio.Nursery) -> None:
    for command in step.commands:
        if isinstance(command, Place):
            begin_one = partial(begin, command.order, begun[command.order.cid], blotter, ports)
            in_anothers_turn(begin_one, calls)


def begin(order: Order, begun: Begun, blotter: Blotter, ports: OrderPorts) -> None:
    """Rate, switch, send, in the turn in which the intent has become durable, if nothing has to be waited for.

    To wake the task that waits for the commit, and all else that is ready with it, takes longer than to send. Where
    this does nothing, `place` does it all.
    """
    swift, throttle, clock = ports.account.swift, ports.account.throttle, ports.world.clock

    def on_wire() -> None:
        begun.ticket = throttle.tries() if opens(order) else 0
        begun.wire = clock.ticks_ns(), clock.now_ns()

    if begun.left:
        return
    begun.durable = clock.ticks_ns()
    if swift is None or not throttle.sound or not swift.ready() or _door(order, blotter, ports):
        return
    if throttle.take(_lane(order)):
        begun.sent_ns = clock.now_ns()
        begun.answer = swift.submit_now(order, on_wire)


async def place(
    order: Order, seq: int, blotter: Blotter, ports: OrderPorts, ticks: tuple[int, int], begun: Begun | None = None
) -> None:
    """Durable, rate, switch, send: in this order. The answer comes back as a message."""
    world = ports.world
    begun = begun or Begun()
    durable = 0
    wire = [0, 0]

    def on_wire() -> None:
        wire[0], wire[1] = world.clock.ticks_ns(), world.clock.now_ns()

    answer: Answer
    try:
        await world.journal.durable(seq, eager=True, protective=protective(order))
    except trio.Cancelled:
        begun.left = True
        raise
    except JournalFailed as error:
        # What a signal asked for needs a durable intent: without one its id may come again. Protection goes on: it can
        # open nothing, and its id has the epoch in it, so that no later run uses it again.
        if not protective(order):
            answer = Rejection("journal", "unsent", str(error))
            return _bring(ports, Answered(order.cid, "place", answer, 0, world.clock.now_ns()))
    durable = begun.durable or world.clock.ticks_ns()
    if begun.answer is None:
        begun.left = True  # what protects has not waited for a slow commit: when that lands, nobody sends it again
        answer = await send(order, blotter, ports, on_wire)
    else:
        wire[:] = begun.wire
        answer = await send(order, blotter, ports, on_wire, begun)
    answered = world.clock.ticks_ns()
    _bring(ports, Answered(order.cid, "place", answer, wire[1], world.clock.now_ns()))
    if wire[0]:
        world.timed(Timed(order.account, order.symbol, order.leg, ticks[0], ticks[1], durable, wire[0], answered))


async def send(
    order: Order, blotter: Blotter, ports: OrderPorts, on_wire: Callable[[], None], begun: Begun | None = None
) -> Answer:
    """One attempt; again only where the venue (or our own socket) says that nothing happened, and time is left.

    The one place where a request is repeated. Protective orders are not repeated here: the blotter, which knows the
    position as it is then, makes a new one. `begun`: the first attempt has been sent, and is waited for.
    """
    world, account = ports.world, ports.account
    answer: Answer = Rejection("halted", "unsent", "")
    ticket = 0

    def at_wire() -> None:
        # An adapter may have waited for a connection or for the venue's clock: an opener finds the door as it is now.
        nonlocal ticket
        if opens(order):
            if refused := _door(order, blotter, ports):
                raise Shut(refused)
            ticket = account.throttle.tries()
        elif why := world.journal.barred(opening=False):
            raise Shut(Rejection("fenced", "unsent", why))
        on_wire()

    for attempt in range(RETRIES):
        if begun is not None and not attempt:
            assert begun.answer is not None, "it was not sent"
            submitted, sent_ns, ticket = begun.answer(), begun.sent_ns, begun.ticket
        else:
            await _until_open(order, ports)
            await _until_ours(opens(order), ports)
            if superseded := await _until_there_is_room(order, ports):
                return superseded
            if refused := _door(order, blotter, ports):
                return refused
            submitted, sent_ns = account.venue.submit(order, at_wire), world.clock.now_ns()
        try:
            answer = await submitted
            hear(answer, sent_ns, order.account, ports)
        except Shut as shut:
            return shut.answer
        finally:
            account.throttle.tried(ticket)
            ticket = 0
        again = isinstance(answer, Rejection) and answer.kind in RETRYABLE
        if not again or attempt + 1 == RETRIES or protective(order):
            return answer
        await trio.sleep(RETRY_SECONDS[attempt] * world.rng.uniform(0.75, 1.25))
    return answer


async def _until_there_is_room(order: Order, ports: OrderPorts) -> Rejection | None:
    """Attempts of one leg that wait for a rate limit together must not leave together: the latest goes for all.

    It knows the position as it is; the others have not left, and so need not be asked about.
    """
    if not protective(order):
        await ports.account.throttle.wait(_lane(order))
        return None
    ports.queued[order.cid] = order
    try:
        await ports.account.throttle.wait(_lane(order))
    finally:
        del ports.queued[order.cid]
    if any(o.leg is order.leg and o.submitted_ns > order.submitted_ns for o in ports.queued.values()):
        return Rejection("superseded", "unsent", SUPERSEDED)
    return None


def _lane(order: Order) -> Lane:
    return Lane.OPEN if opens(order) else Lane.REDUCE


def hear(answer: Answer, sent_ns: int, account: str, ports: OrderPorts) -> None:
    """What an answer says of the venue itself: it fails (the breaker counts that), or it will not have this account.

    `sent_ns`: when the request went to the adapter.
    """
    world, now_ns = ports.world, ports.world.clock.now_ns()
    match answer:
        case Rejection(kind="auth"):
            reason = f"the venue refuses the account: {answer.code}: {answer.text}"
            world.switch.halt(Halt(f"account/{account}", reason, now_ns, "engine"))
        case Rejection(kind="rate_limited" | "unsent"):
            return  # the throttle knows; nothing was sent
    failure = ""
    if isinstance(answer, Silence):
        failure = answer.why
    elif isinstance(answer, Rejection) and answer.kind in ("unavailable", "not_sent"):
        failure = f"{answer.code}: {answer.text}"
    if ports.account.throttle.heard(failure, sent_ns):
        text = f"too many failures in a row ({failure}): entries stop, and are tried again one by one"
        fact = Alerted(at_ns=now_ns, account=account, severity="critical", kind="breaker_open", text=text)
        world.journal.append((fact,))
        world.observe((fact,))


async def _until_open(order: Order, ports: OrderPorts) -> None:
    """An opener of before a restart waits for the first reconciliation, as long as its own time allows."""
    world = ports.world
    while opens(order) and ports.closed(order.account) and world.clock.now_ns() < order.valid_until_ns:  # noqa: ASYNC110
        await trio.sleep(0.02)


async def _until_ours(opening: bool, ports: OrderPorts) -> None:
    """What protects waits while another engine may own the account, and goes when it is known that none does.

    When another does own it, this engine ends, and what waits here with it.
    """
    while not opening and ports.world.journal.barred(opening=False):  # noqa: ASYNC110 (time alone may bar it)
        await trio.sleep(0.02)


def _door(order: Order, blotter: Blotter, ports: OrderPorts) -> Rejection | None:
    """Looked at before an adapter is asked to send, and, for an opener, once more right before the first byte."""
    world = ports.world
    if order.valid_until_ns and world.clock.now_ns() > order.valid_until_ns:
        return Rejection("late", "unsent", "its time was over before it could be sent")
    if opens(order) and (
        halts := world.switch.closed_to_openers(ports.account.venue_name, order.account, order.symbol)
    ):
        return Rejection("halted", "unsent", f"{halts[0].scope}: {halts[0].reason}")
    if opens(order) and (closed := ports.closed(order.account)):
        return Rejection("closed", "unsent", closed[0].reason)
    if why := world.journal.barred(opens(order)):
        return Rejection("fenced", "unsent", why)
    held = blotter.orders.get(order.cid)
    if held is None or (held.cancel_asked and not protective(order)):
        return Rejection("canceled", "unsent", "it was canceled before it could be sent")
    return None


async def cancel(command: Cancel, seq: int, ports: OrderPorts) -> None:
    world = ports.world
    try:
        await world.journal.durable(seq, protective=True)
    except JournalFailed:
        pass  # a cancel is harmless, and wanted all the more
    await _until_ours(False, ports)
    await ports.account.throttle.wait(Lane.REDUCE, "cancel")
    await _until_ours(False, ports)  # a process that was stopped meanwhile may have lost the account
    sent_ns = world.clock.now_ns()
    answer = await ports.account.venue.cancel(command)
    hear(answer, sent_ns, ports.account.name, ports)
    _bring(ports, Answered(command.cid, "cancel", answer, 0, world.clock.now_ns()))


async def look(command: Look, ports: OrderPorts) -> None:
    """The order by its id, then its executions; if either query fails, nothing was learnt."""
    world, venue = ports.world, ports.account.venue
    await _until(command.at_ns, ports)
    asked = world.clock.now_ns()
    found = await insist(world.rng, partial(venue.order, command.symbol, command.cid))
    fills: tuple[FillReport | FundingReport, ...] | Failed = ()
    if not isinstance(found, Failed):
        fills = await insist(world.rng, partial(venue.fills, command.since_ns, command.cid))
    if isinstance(fills, Failed):
        found, fills = fills, ()
    now = world.clock.now_ns()
    horizon_ok = now - command.since_ns < venue.traits.horizon_ns
    mine = tuple(f for f in fills if getattr(f, "cid", None) == command.cid)
    _bring(ports, Looked(command.cid, found, mine, asked, now, horizon_ok))  # type: ignore[arg-type]


async def wake(command: Wake, ports: OrderPorts) -> None:
    await _until(command.at_ns, ports)
    _bring(ports, command)


def _bring(ports: OrderPorts, message: Answered | Looked | Wake) -> None:
    """To its own actor, if it still reads. An answer that comes after the engine has drained is one that never came:
    the journal has its order on its way, and the next start asks the venue what became of it (P4)."""
    try:
        post(ports.mail, message)
    except trio.ClosedResourceError:
        if isinstance(message, Answered):
            LOG.warning("an answer came too late to be written down", cid=message.cid, request=message.request)


async def _until(at_ns: int, ports: OrderPorts) -> None:
    wait_ns = at_ns - ports.world.clock.now_ns()
    if wait_ns > 0:
        await trio.sleep(wait_ns / 1_000_000_000)
