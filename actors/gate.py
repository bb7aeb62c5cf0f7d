"""The risk gate: one task, all accounts. Judges signals against what the order actors say stands."""

from collections import deque
from collections.abc import Callable

import trio
from msgspec import Struct

from actors.ports import Arrived, GateMail, Lost, Steered, Tick, World
from engine.core.admission import KEEP_NS, Admission, Reaction
from engine.core.messages import BalancesSeen, Check, Enact, Halt, Standing
from engine.core.times import SECOND
from engine.runtime.supervise import Window

TICK_SECONDS = 0.5


class GatePorts(Struct, frozen=True):
    """Beside the world: where accepted signals go, and what else closes the door (start-up, a stream that is down).

    `enact` puts a signal into a mailbox; `enact_now` hands it over, where nothing else waits to share its commit.
    """

    world: World
    enact: Callable[[Enact], None]
    enact_now: Callable[[Enact], None]
    closed: Callable[[str], tuple[Halt, ...]]  # account -> reasons that are not halts of the switch
    venue_of: Callable[[str], str]
    ess: Callable[[int], Check | None]  # wall time -> what the risk service says, if there is one


async def gate(
    mailbox: trio.MemoryReceiveChannel[GateMail], admission: Admission, ports: GatePorts, window: Window[Arrived]
) -> None:
    """Until the mailbox is closed."""
    unwritten: deque[tuple[int, str]] = deque()
    began_at = trio.current_time()

    def take(message: Arrived, enact_by: Callable[[Enact], None]) -> None:
        if _knows(message.looked_at, began_at, trio.current_time()):
            unwritten.append((judge(message, admission, ports, enact_by), message.signal.signal_id))
        else:
            message.lost(False)

    async with trio.open_nursery() as nursery:
        window.attend(lambda message: take(message, ports.enact_now), nursery)
        try:
            await _read(mailbox, admission, ports, unwritten, lambda message: take(message, ports.enact))
        finally:
            window.leave()


async def _read(
    mailbox: trio.MemoryReceiveChannel[GateMail],
    admission: Admission,
    ports: GatePorts,
    unwritten: deque[tuple[int, str]],
    take: Callable[[Arrived], None],
) -> None:
    async for message in mailbox:
        match message:
            case Arrived():
                take(message)
            case Tick():
                now = ports.world.clock.now_ns()
                react(admission.tick(now, ports.world.quote, ports.world.switch.halts()), ports)
                durable = ports.world.journal.stats().durable_seq
                while unwritten and unwritten[0][0] <= durable:
                    admission.forget(unwritten.popleft()[1], now)
            case Standing():
                await trio.lowlevel.checkpoint()  # its order is about to be sent, and should not wait for us
                symbol = message.position.symbol
                for confirmed in message.confirmed:
                    admission.handle_confirmed(confirmed.signal_id, confirmed)
                react(admission.handle_standing(message, ports.world.quote(symbol), ports.world.clock.now_ns()), ports)
            case BalancesSeen():
                react(admission.handle_balances(message, ports.world.quote, ports.world.clock.now_ns()), ports)
            case Steered():
                steer(message, admission, ports)


def _knows(looked_at: float, began_at: float, now: float) -> bool:
    """Whether the look-up and this gate's memory together know every earlier signal with the same id (P1).

    A gate made anew remembers what is open only, and what has ended is forgotten after a while.
    """
    return looked_at >= began_at and now - looked_at < KEEP_NS / SECOND


def judge(message: Arrived, admission: Admission, ports: GatePorts, enact_by: Callable[[Enact], None]) -> int:
    """One signal: verdict, journal, order actor, reply; nothing in between. The journal's number of the last fact."""
    world, signal = ports.world, message.signal
    try:
        now_ns = world.clock.now_ns()
        halts = world.switch.closed_to_openers(ports.venue_of(signal.account), signal.account, signal.symbol)
        admitted = admission.handle_signal(
            signal,
            message.prior,
            world.quote(signal.symbol),
            world.quote("BTCUSDT"),
            halts + ports.closed(signal.account),
            now_ns,
            ports.ess(now_ns),
        )
        seq = world.journal.append(admitted.facts, admitted.rows)
    except BaseException:  # raised again: the caller gets its answer, and the supervisor its failure
        message.lost(True)
        raise
    try:
        if (enact := admitted.enact) is not None:
            enact_by(Enact(enact.signal, enact.plan, message.received_tick, world.clock.ticks_ns()))
    finally:
        message.reply(admitted, seq)
        world.observe(admitted.facts)
    return seq


async def turn_away(mailbox: trio.MemoryReceiveChannel[GateMail]) -> None:
    """While the gate is down: nobody who writes to it shall wait. What else it is told, its next life finds."""
    async for message in mailbox:
        if isinstance(message, Arrived):
            message.lost(False)
        elif isinstance(message, Steered):
            message.reply(Lost("the risk gate is down; a resume of the engine revives it"), 0)


async def ticker(tick: Callable[[Tick], None]) -> None:
    """For ever: days end and losses grow without any signal (RELIABILITY I14: within a second)."""
    while True:
        await trio.sleep(TICK_SECONDS)
        tick(Tick())


def react(reaction: Reaction, ports: GatePorts) -> None:
    if reaction.facts or reaction.rows:
        ports.world.journal.append(reaction.facts, reaction.rows)
        ports.world.observe(reaction.facts)
    for halt in reaction.halts:
        ports.world.switch.halt(halt)


def steer(message: Steered, admission: Admission, ports: GatePorts) -> None:
    """New limits take effect with the next signal; the change is in the audit log with who made it."""
    try:
        now_ns = ports.world.clock.now_ns()
        outcome = admission.change_limits(message.account, message.changes, message.by, now_ns, message.stamp)
        if isinstance(outcome, tuple):
            return message.reply(outcome, 0)
        facts = (*message.facts, *outcome.facts)
        seq = ports.world.journal.append(facts, (*outcome.rows, *message.rows))
    except BaseException:  # raised again: whoever waits gets an answer, and the supervisor the failure
        message.reply(Lost("the risk gate failed on this change; look at the limits before asking again"), 0)
        raise
    ports.world.observe(facts)
    message.reply(outcome.limits, seq)
