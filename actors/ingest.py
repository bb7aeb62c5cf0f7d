"""Signals in: bytes to a Signal, what the journal knows of its id, on to the gate, and the answer once it is durable.

A full gate makes this actor wait, its own channel fills, and the source waits in turn: that is the back-pressure.
"""

from collections import deque
from collections.abc import Callable
from typing import Literal

import trio
from msgspec import Struct
from msgspec.structs import replace

from actors.ports import Arrived, GateMail, Lost, Steered, World
from engine.core.admission import Admitted, turned_down
from engine.core.announce import alert_event
from engine.core.halts import kind_of
from engine.core.messages import (
    Alerted,
    AnyFact,
    Check,
    Control,
    ControlReceived,
    DeadLettered,
    Delivery,
    Halt,
    Limits,
    Malformed,
    Refusal,
    Signal,
    SignalConflicted,
)
from engine.edges.base import Arrival, Receipt
from engine.edges.dialects import STOPS, DialectTerms, decode, malformed
from engine.runtime.deliveries import Deliveries
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
    deliveries: Deliveries


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
                if await bind(decoded, arrival, acknowledger, ports):
                    alone = not arrivals.statistics().current_buffer_used
                    await admit(decoded, arrival, acknowledger, ports, alone)
            case Malformed():
                bury(decoded, arrival, acknowledger, ports)
            case Control():
                await obey(decoded, arrival, acknowledger, ports)


async def bind(signal: Signal, arrival: Arrival, acknowledger: Acknowledger, ports: IngestPorts) -> bool:
    """Whether the signal is what its delivery's name stands for; from now on it is, in the commit of its verdict.

    What became of it the signal's own id tells: a replay is a repeat.
    """
    if arrival.delivery is None:
        return True
    found = await ports.deliveries.find(arrival.delivery)
    if found is None:
        keep(Delivery(arrival.delivery, signal.body_hash, signal.received_ns), ports)
    elif found.delivery.body_hash != signal.body_hash:
        dispute(arrival.delivery, found.delivery, signal, arrival, acknowledger, ports)
        return False
    return True


def keep(delivery: Delivery, ports: IngestPorts) -> int:
    ports.deliveries.bound(delivery)
    return ports.world.journal.append((), (delivery,))


def dispute(
    name: str,
    first: Delivery,
    other: Signal | Control,
    arrival: Arrival,
    acknowledger: Acknowledger,
    ports: IngestPorts,
) -> None:
    """Another body under a name that is taken: not carried out, and alerted (SPEC ING4)."""
    text = f"{name} came again with another body, from {other.source}; it is not carried out"
    conflicted = SignalConflicted(
        at_ns=other.received_ns,
        account=other.account,
        trace_id=other.trace_id,
        cause=name,
        signal_id=name,
        first_hash=first.body_hash,
        other_hash=other.body_hash,
        source=other.source,
    )
    alert = Alerted(
        at_ns=other.received_ns,
        account=other.account,
        trace_id=other.trace_id,
        cause=name,
        severity="warning",
        kind="delivery.conflict",
        text=text,
    )
    seq = ports.world.journal.append((conflicted, alert), (alert_event(alert),))
    ports.world.observe((conflicted, alert))
    acknowledger.put(seq, arrival.answer, Receipt("conflict", text=text))


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
    status: Literal["malformed", "refused"] = "malformed",
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
    acknowledger.put(seq, arrival.answer, Receipt(status, row=row, malformed=letter))


async def obey(control: Control, arrival: Arrival, acknowledger: Acknowledger, ports: IngestPorts) -> None:
    """Once for each name it is known by. What stops is not held up by a name that stood for another body."""
    names = control.names if arrival.delivery is None else (*control.names, arrival.delivery)
    for name in names:
        found = await ports.deliveries.find(name)
        if found is None:
            continue
        if found.delivery.body_hash != control.body_hash:
            if control.name == STOPS:
                continue
            return dispute(name, found.delivery, control, arrival, acknowledger, ports)
        if found.pending:
            text = "is being carried out; ask again"
            return acknowledger.put(0, arrival.answer, Receipt("busy", text=text))
        why = found.delivery.answer
        receipt = Receipt("refused", text=why) if why else Receipt("repeated", text="came before, and was carried out")
        return acknowledger.put(ports.world.journal.append(()), arrival.answer, receipt)
    steer(
        control, tuple(Delivery(n, control.body_hash, control.received_ns) for n in names), arrival, acknowledger, ports
    )


def steer(
    control: Control,
    names: tuple[Delivery, ...],
    arrival: Arrival,
    acknowledger: Acknowledger,
    ports: IngestPorts,
) -> None:
    """Events that steer the engine (SPEC ING3): recorded, and carried out at once."""
    fact = ControlReceived(
        at_ns=control.received_ns,
        account=control.account,
        trace_id=control.trace_id,
        cause=control.control_id,
        name=control.name,
        body=control.body,
        source=control.source,
    )
    if control.name == "policy.updated":
        return change(control, fact, names, arrival, acknowledger, ports)
    world = ports.world
    seq = world.journal.append((fact,))
    world.observe((fact,))
    match control.name:
        case "ess.tripped":
            seq = trip(control, world)
        case "ess.cleared":
            seq = clear(control, world) or seq
    for each in names:
        seq = keep(each, ports)
    acknowledger.put(seq, arrival.answer, Receipt("recorded"))


def change(
    control: Control,
    fact: ControlReceived,
    names: tuple[Delivery, ...],
    arrival: Arrival,
    acknowledger: Acknowledger,
    ports: IngestPorts,
) -> None:
    """New limits, by the gate. What it has not looked at leaves no trace, and may be asked for again."""

    def told(outcome: Limits | tuple[Refusal, ...] | Lost, seq: int) -> None:
        for each in names:
            ports.deliveries.end(each, isinstance(outcome, Limits))
        if isinstance(outcome, Lost):
            acknowledger.put(0, arrival.answer, Receipt("busy", text=outcome.why))
        elif isinstance(outcome, tuple):
            turn_down(control, fact, outcome, names, arrival, acknowledger, ports)
        else:
            acknowledger.put(seq, arrival.answer, Receipt("recorded"))

    for each in names:
        ports.deliveries.begin(each)
    by = f"event/{control.source}"
    post(ports.gate, Steered(control.account, dict(control.changes), by, told, (fact,), names, control.stamp))


def turn_down(
    control: Control,
    fact: ControlReceived,
    reasons: tuple[Refusal, ...],
    names: tuple[Delivery, ...],
    arrival: Arrival,
    acknowledger: Acknowledger,
    ports: IngestPorts,
) -> None:
    """New limits that may not be: a dead letter with every reason, and the same answer to a repeat."""
    text = "; ".join(f"{refusal.field} {refusal.reason}" for refusal in reasons)
    for each in names:
        keep(replace(each, answer=text), ports)
    ports.world.journal.append((fact,))
    ports.world.observe((fact,))
    letter = malformed(arrival.raw, reasons, control.source, control.received_ns, control.control_id)
    bury(letter, arrival, acknowledger, ports, status="refused")


def trip(control: Control, world: World) -> int:
    """The emergency closes the engine."""
    by = f"event/{control.source}"
    return world.switch.halt(Halt("engine", "ess.tripped", control.received_ns, by, kind="ess"))


def clear(control: Control, world: World) -> int:
    """Ends what an emergency closed, and nothing that a person or the engine itself has. 0: nothing was closed so."""
    closed = (h for h in world.switch.halts() if h.scope == "engine" and kind_of(h) == "ess")
    return max([world.switch.end(halt, f"event/{control.source}", "ess.cleared") for halt in closed], default=0)
