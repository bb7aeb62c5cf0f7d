"""How long from a signal to the first byte of its order at a real venue's door, and how long with other clients?

The exchange runs as a user starts it, without rate limits, on a market that stands; before it stands a tap that notes
when the first byte of each order arrived. Every client is a process of its own and gets its signals at even moments
(open loop) by a pipe; the turns of all clients alternate, so that a bad moment of the machine meets all. Own share is
from the submit call to that byte. For the engine it counts from the signal's bytes: judged and durable before the wire.
Targets: the adapters under 1 ms at p99 by WebSocket, under 2 ms by REST. Each client submits the same order.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import TypeVar

import msgspec
from msgspec import Struct

from bench import feed
from bench.bare_consumer_process import BareResult, BareTask
from bench.engine_process import EngineResult, EngineTask
from bench.exchange import exchange
from bench.figures import HEADING, Figures, Ratio, figures, line, ratio
from bench.peer_process import PeerResult, PeerTask
from bench.submitters import BARE, OURS, OURS_REST, PRICE, QTY, SYMBOL, WAYS
from bench.tap import TapResult, TapTask

ROOT = Path(__file__).resolve().parent.parent
FACES = tuple(WAYS)
ENGINE, ENGINE_REST = "engine, WebSocket", "engine, REST"
MINE = (OURS, OURS_REST, ENGINE, ENGINE_REST)
WANTED_US = {OURS: 1_000, OURS_REST: 2_000}
END_SECONDS = 60.0

R = TypeVar("R", PeerResult, EngineResult, TapResult, BareResult)


class Client(Struct, frozen=True):
    """One way to an order. Durations in microseconds; `own` from the call (the engine: the signal's bytes) to the wire.

    `typical` is the median of the rounds, percentile by percentile: a bad moment of the machine is not the client's.
    `outside` is from the moment at which the signal was meant to be sent, so that nothing can hide in a late call.
    `unanswered`: orders of which the client never said that they were accepted.
    """

    own: Figures
    typical: Figures
    outside: Figures
    answered: Figures  # from the call to the answer in the client's hands
    cpu_us: float  # per order
    unanswered: int
    adapter: Figures | None = None  # the engine's: from the durable intent to the wire


class Face(Struct, frozen=True):
    """One face. `ratios`: ours over each other client's, typical over typical, by what they speak.

    `lost`: orders that never came to the exchange. `complete`: each came, once, and ours were all answered with yes.
    """

    clients: dict[str, Client]
    ratios: dict[str, Ratio]
    lost: dict[str, int]
    complete: bool


class Report(Struct, frozen=True):
    rate: float
    orders: int
    durability: str
    faces: dict[str, Face]
    complete: bool


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--venue", choices=(*FACES, "all"), default="all", help="one face of the exchange")
    parser.add_argument("--rate", type=float, default=200.0, help="orders per second (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5.0, help="of orders by each client (%(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="turns in which they are sent (%(default)s)")
    parser.add_argument("--warm-up", type=int, default=50, help="orders before, not counted (%(default)s)")
    parser.add_argument("--durability", choices=("power", "process"), default="process", help="the engine's journal")
    parser.add_argument("--only", action="append", metavar="WORD", help="clients whose name has it; may be repeated")
    parser.add_argument("--folder", default="var", help="on the disk that is to be measured (%(default)s)")


def measure(arguments: argparse.Namespace) -> Report:
    chosen = FACES if arguments.venue == "all" else (arguments.venue,)
    Path(arguments.folder).mkdir(parents=True, exist_ok=True)
    faces = {face: _measure(face, arguments) for face in chosen}
    orders = round(arguments.rate * arguments.seconds)
    complete = all(face.complete for face in faces.values())
    return Report(arguments.rate, orders, arguments.durability, faces, complete)


class Process:
    """A client, an engine or the tap; it has said its first word when it is made."""

    def __init__(self, module: str, task: PeerTask | EngineTask | TapTask | BareTask, folder: Path, name: str) -> None:
        self._log = (folder / f"{name}.log").open("wb")
        self._result = Path(task.result)
        path = folder / f"{name}.task"
        path.write_bytes(msgspec.json.encode(task))
        command = [sys.executable, "-W", "ignore", "-m", module, str(path)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, bufsize=0
        )
        self.name = name

    def first_word(self) -> str:
        assert self.process.stdout is not None
        word = self.process.stdout.readline().decode().strip()
        if not word:
            said = Path(self._log.name).read_text(encoding="utf-8", errors="replace")
            raise RuntimeError(f"{self.name} did not start: {said[-2000:]}")
        return word

    def send(self, text: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(text)

    def end(self, kind: type[R]) -> R:
        self.process.communicate(timeout=END_SECONDS)
        return msgspec.json.decode(self._result.read_bytes(), type=kind)

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()
        self._log.close()


@contextmanager
def _stage(face: str, arguments: argparse.Namespace) -> Iterator[tuple[Process, dict[str, Process]]]:
    """The exchange, the tap before it, and every client, connected."""
    with (
        exchange() as ports,
        tempfile.TemporaryDirectory(dir=arguments.folder, prefix="bench-") as name,
    ):
        folder = Path(name).absolute()
        started: list[Process] = []
        try:
            tap = Process("bench.tap", TapTask(ports[face], str(folder / "tap.json")), folder, "tap")
            started.append(tap)
            port = int(tap.first_word())
            clients: dict[str, Process] = {}
            for way in (*WAYS[face], ENGINE, ENGINE_REST):
                if arguments.only and way != BARE and not any(word in way for word in arguments.only):
                    continue
                result = str(folder / f"{len(started)}.json")
                if way in WAYS[face]:
                    made = Process("bench.peer_process", PeerTask(face, way, port, result), folder, way)
                else:
                    (inside := folder / way).mkdir()
                    task = EngineTask(
                        str(inside), arguments.durability, port, result, face=face, order_socket=way == ENGINE
                    )
                    made = Process("bench.engine_process", task, folder, way)
                started.append(made)
                clients[way] = made
            for client in clients.values():
                client.first_word()
            yield tap, clients
        finally:
            for process in started:
                process.kill()


def _measure(face: str, arguments: argparse.Namespace) -> Face:
    count = max(1, round(arguments.rate * arguments.seconds / arguments.rounds))
    sent: dict[str, list[dict[str, int]]] = {}
    with _stage(face, arguments) as (tap, clients):
        first = 0
        for turn in range(arguments.rounds + 1):
            number = count if turn else arguments.warm_up
            for place, (way, client) in enumerate(clients.items()):
                meant = _turn(client, way, place, first, number, arguments.rate)
                if turn:
                    sent.setdefault(way, []).append(meant)
                time.sleep(0.1)
            first += number
        results = {
            way: client.end(EngineResult if way in (ENGINE, ENGINE_REST) else PeerResult)
            for way, client in clients.items()
        }
        tapped = tap.end(TapResult)
    return _face(sent, results, tapped, arguments.warm_up)


def _turn(client: Process, way: str, place: int, first: int, count: int, rate: float) -> dict[str, int]:
    """Monotonic ns at which each order was meant to be sent, by its client id."""
    run = f"p{place}"
    if way in (ENGINE, ENGINE_REST):
        lines = [_signal(run, first + number) for number in range(count)]
    else:
        lines = [feed.entry_cid(run, first + number).encode() + b"\n" for number in range(count)]
    done = feed.pace(rate, count, lambda number: client.send(lines[number]))
    return {feed.entry_cid(run, first + number): done.intended[number] for number in range(count)}


def _signal(run: str, number: int) -> bytes:
    """The same order as the clients', as a signal."""
    fields = {
        "signal_id": feed.signal_id(run, number),
        "symbol": SYMBOL,
        "action": "open",
        "side": "buy",
        "qty": QTY,
        "order_type": "limit",
        "limit_price": PRICE,
        "time_in_force": "ioc",
        "stop_loss": "58500",
    }
    return msgspec.json.encode(fields) + b"\n"


def _face(
    sent: dict[str, list[dict[str, int]]],
    results: dict[str, PeerResult | EngineResult],
    tapped: TapResult,
    warm_up: int,
) -> Face:
    clients = {way: _client(sent[way], result, tapped.arrived, warm_up) for way, result in results.items()}
    lost = {way: sum(cid not in tapped.arrived for turn in sent[way] for cid in turn) for way in clients}
    again = any(cid in turn for turns in sent.values() for turn in turns for cid in tapped.again)
    ratios = {
        f"{ours} / {other}": found
        for ours in (OURS, OURS_REST)
        for other, client in clients.items()
        if ours in clients and other not in (BARE, *MINE)
        if ("WebSocket" in ours) == ("WebSocket" in other) and (found := ratio(clients[ours].typical, client.typical))
    }
    silent = any(clients[way].unanswered for way in MINE if way in clients)
    return Face(clients, ratios, lost, not (again or silent or any(lost.values())))


def _client(
    turns: list[dict[str, int]], result: PeerResult | EngineResult, arrived: dict[str, int], warm_up: int
) -> Client:
    """`turns`: for each round, when its orders were meant to be sent."""
    orders = [cid for turn in turns for cid in turn]
    began, adapter, unanswered = _began(turns, result, arrived, warm_up)
    if isinstance(result, PeerResult):
        answered = figures(result.answered[cid] - began[cid] for cid in orders if cid in result.answered)
    else:
        first = min(turns[0].values())
        answered = figures(s.answered - s.received for s in result.stamps if s.answered and s.received >= first)
    own = [[arrived[cid] - began[cid] for cid in turn if cid in arrived and cid in began] for turn in turns]
    return Client(
        own=figures(took for of in own for took in of),
        typical=median_of([figures(of) for of in own if of]),
        outside=figures(arrived[cid] - meant for turn in turns for cid, meant in turn.items() if cid in arrived),
        answered=answered,
        cpu_us=round(result.cpu_ns / (len(orders) + warm_up) / 1000, 1),
        unanswered=unanswered,
        adapter=adapter,
    )


def _began(
    turns: list[dict[str, int]], result: PeerResult | EngineResult, arrived: dict[str, int], warm_up: int
) -> tuple[dict[str, int], Figures | None, int]:
    """From when an order's own share counts, what of it was the engine's adapter, and how many were not answered.

    The engine's stamps name no order: they are joined to the orders in the turn in which both went.
    """
    orders = [cid for turn in turns for cid in turn]
    if isinstance(result, PeerResult):
        refused = frozenset(result.refused)
        return result.called, None, sum(cid not in result.answered or cid in refused for cid in orders)
    unanswered = len(orders) + warm_up - result.verdicts.get("accepted", 0)
    first = min(turns[0].values())
    stamps = sorted((s for s in result.stamps if s.wire and s.received >= first), key=lambda s: s.wire)
    came = sorted((cid for cid in orders if cid in arrived), key=arrived.__getitem__)
    if len(stamps) != len(came):
        return {}, None, max(unanswered, 1)
    pairs = dict(zip(came, stamps, strict=True))
    adapter = figures(arrived[cid] - stamp.durable for cid, stamp in pairs.items())
    return {cid: stamp.received for cid, stamp in pairs.items()}, adapter, unanswered


def median_of(rounds: list[Figures]) -> Figures:
    if not rounds:
        return figures([])
    p50, p90, p99, p999, most = (
        median(getattr(of, name) for of in rounds) for name in ("p50", "p90", "p99", "p999", "max")
    )
    return Figures(sum(of.count for of in rounds), p50, p90, p99, p999, most)


def lines(report: Report) -> list[str]:
    told = [f"{report.rate:g} orders/s, {report.orders} by each client, the engine's journal: {report.durability}"]
    for name, face in report.faces.items():
        told += ["", name, HEADING]
        told += [line(way, client.own) for way, client in face.clients.items()]
        told += ["the same, the median of the rounds:"]
        told += [line(way, client.typical) for way, client in face.clients.items()]
        told += [
            line(f"  {way}: durable to wire", client.adapter)
            for way, client in face.clients.items()
            if client.adapter is not None
        ]
        told += ["from the moment the signal was meant to be sent:"]
        told += [line(way, client.outside) for way, client in face.clients.items()]
        told += ["from the call to the answer, and microseconds of CPU for an order:"]
        told += [f"{line(way, client.answered)}{client.cpu_us:10.0f}" for way, client in face.clients.items()]
        told += [f"{name:58}{of.p50:8.2f}x p50{of.p99:8.2f}x p99" for name, of in face.ratios.items()]
        told += [f"LOST: {way}: {count} orders" for way, count in face.lost.items() if count]
        told += [
            f"unanswered, or refused: {way}: {client.unanswered} orders"
            for way, client in face.clients.items()
            if client.unanswered
        ]
        for way, wanted in WANTED_US.items():
            if way in face.clients and face.clients[way].typical.p99 > wanted:
                found = face.clients[way].typical.p99
                told.append(f"over the target: {way}: p99 {found:.0f} us in the median round, wanted {wanted} us")
    return told
