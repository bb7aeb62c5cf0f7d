"""Signals in: bytes to a Signal, what the journal knows of its id, on to the gate, and the answer once it is durable.

A full gate makes this actor wait, its own channel fills, and the source waits in turn: that is the back-pressure.
"""

from collections import deque
from collections.abc import Callable

import trio
from msgspec import Struct
from msgspec.structs import replace

from actors.ports import Arrived, GateMail, Steered, World
from engine.core.admission import Admitted, turned_down
from engine.core.halts import kind_of
from engine.core.messages import (
    AnyFact,
    Check,
    Control,
    ControlReceived,
    DeadLettered,
    Halt,
    Limits,
    Malformed,
    Refusal,
    Signal,
)
from engine.edges.base import Arrival, Receipt
from engine.edges.dialects import DialectTerms, decode, malformed
from engine.runtime.journal.base import JournalFailed
from engine.runtime.mail import post

POISON = "the risk gate failed on this signal; it was not executed"


class IngestPorts(Struct, frozen=True):
    """`dead_letter` keeps what could not be read where a person looks for it.

    `unjudged` bounds how many signals wait in the gate's mailbox; the gate's own room is for its other mail.
    `judge_now` hands a signal to the gate itself, or says that it cannot.
    """

    world: World
    gate: trio.MemorySendChannel[GateMail]
    judge_now: Callable[[Arrived], bool]
    unjudged: trio.Semaphore
    terms: DialectTerms
    dead_letter: Callable[[Malformed], None]


class Acknowledger:
    """Answers arrivals in order, each when its facts are durable. One waiting task for all, not one for each."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._due: deque[tuple[int, Callable[[Receipt], None], Receipt]] = deque()
        self._more = trio.Event()

    def put(self, seq: int, answer: Callable[[Receipt], None], receipt: Receipt) -> None:
        self._due.append((seq, answer, receipt))
        self._more.set()

    async def run(self) -> None:
        """For ever."""
        while True:
            await self._more.wait()
            self._more = trio.Event()
            while self._due:
                seq, answer, receipt = self._due.popleft()
                try:
                    await self._world.journal.durable(seq)
                except JournalFailed as error:
                    receipt = Receipt("busy", text=f"not accepted: {error}")
                answer(receipt)


async def ingest(arrivals: trio.MemoryReceiveChannel[Arrival], acknowledger: Acknowledger, ports: IngestPorts) -> None:
    """Until the sources have ended."""
    async for arrival in arrivals:
        if arrival.flaw:
            refusal = (Refusal("", arrival.flaw),)
            bury(malformed(arrival.raw, refusal, arrival.source, arrival.received_ns), arrival, acknowledger, ports)
            continue
        decoded = decode(
            arrival.raw,
            arrival.dialect,
            ports.terms,
            source=arrival.source,
            received_ns=arrival.received_ns,
            trace_id=arrival.trace_id,
            fallback_id=arrival.fallback_id,
        )
        match decoded:
            case Signal():
                alone = not arrivals.statistics().current_buffer_used
                await admit(decoded, arrival, acknowledger, ports, alone)
            case Malformed():
                bury(decoded, arrival, acknowledger, ports)
            case Control():
                steer(decoded, arrival, acknowledger, ports)


async def admit(signal: Signal, arrival: Arrival, acknowledger: Acknowledger, ports: IngestPorts, alone: bool) -> None:
    """`alone`: nothing waits behind it, with which it could share a commit."""
    try:
        ports.unjudged.acquire_nowait()  # waiting where there is room would cost a turn of the scheduler
    except trio.WouldBlock:
        await ports.unjudged.acquire()
    looked_at = trio.current_time()
    prior = await ports.world.journal.signal(signal.signal_id)

    def reply(admitted: Admitted, seq: int) -> None:
        ports.unjudged.release()
        acknowledger.put(seq, arrival.answer, Receipt(admitted.status, admitted.row))

    def lost(failed: bool) -> None:
        ports.unjudged.release()
        if failed:
            # Judged once more it might be taken, long after its sender was told no: it is on record by its id.
            now_ns = ports.world.clock.now_ns()
            verdict = turned_down(signal, Check("gate.failed", False, reason=POISON), now_ns) if prior is None else None
            bury(_poison(signal, arrival, Refusal("", POISON)), arrival, acknowledger, ports, verdict)
        else:
            acknowledger.put(
                0, arrival.answer, Receipt("busy", text="the risk gate is down or late; nothing of this was taken")
            )

    arrived = Arrived(signal, prior, looked_at, arrival.received_tick, reply, lost)
    if not (alone and ports.judge_now(arrived)):
        post(ports.gate, arrived)


def _poison(signal: Signal, arrival: Arrival, reason: Refusal) -> Malformed:
    """Kept as a dead letter, so that a source which brings everything again does not bring this for ever."""
    return malformed(arrival.raw, (reason,), signal.source, arrival.received_ns, signal.signal_id)


def bury(
    letter: Malformed,
    arrival: Arrival,
    acknowledger: Acknowledger,
    ports: IngestPorts,
    verdict: Admitted | None = None,
) -> None:
    """What cannot be read is kept with its reasons, and stops nothing (SPEC ING6). `verdict`: of what was a signal."""
    letter = replace(letter, place=arrival.fallback_id or "")
    fact = DeadLettered(
        at_ns=letter.received_ns,
        source=letter.source,
        reasons=letter.reasons,
        raw=letter.raw,
        signal_id=letter.signal_id,
        place=letter.place,
        trace_id=arrival.trace_id or "",
    )
    facts: tuple[AnyFact, ...] = (fact,) if verdict is None else (*verdict.facts, fact)
    seq = ports.world.journal.append(facts, () if verdict is None else verdict.rows)
    ports.world.observe(facts)
    ports.dead_letter(letter)
    row = None if verdict is None else verdict.row
    acknowledger.put(seq, arrival.answer, Receipt("malformed", row=row, malformed=letter))


def steer(control: Control, arrival: Arrival, acknowledger: Acknowledger, ports: IngestPorts) -> None:
    """Events that steer the engine (SPEC ING3): recorded, and carried out at once."""
    world = ports.world
    fact = ControlReceived(
        at_ns=control.received_ns,
        account=control.account,
        trace_id=control.trace_id,
        cause=control.control_id,
        name=control.name,
        body=control.body,
        source=control.source,
    )
    seq = world.journal.append((fact,))
    world.observe((fact,))
    match control.name:
        case "ess.tripped":
            seq = trip(control, world)
        case "ess.cleared":
            seq = clear(control, world) or seq
        case "policy.updated":

            def told(outcome: Limits | str, limits_seq: int) -> None:
                if isinstance(outcome, str):
                    acknowledger.put(seq, arrival.answer, Receipt("refused", text=outcome))
                else:
                    acknowledger.put(limits_seq, arrival.answer, Receipt("recorded"))

            changes = dict(control.changes)
            return post(ports.gate, Steered(control.account, changes, f"event/{control.source}", told))
    acknowledger.put(seq, arrival.answer, Receipt("recorded"))


def trip(control: Control, world: World) -> int:
    """The emergency closes the engine."""
    by = f"event/{control.source}"
    return world.switch.halt(Halt("engine", "ess.tripped", control.received_ns, by, kind="ess"))


def clear(control: Control, world: World) -> int:
    """Ends what an emergency closed, and nothing that a person or the engine itself has. 0: nothing was closed so."""
    closed = (h for h in world.switch.halts() if h.scope == "engine" and kind_of(h) == "ess")
    return max([world.switch.end(halt, f"event/{control.source}", "ess.cleared") for halt in closed], default=0)
