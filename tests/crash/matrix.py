"""The crash matrix: an engine is fed, killed and started again, many times on one journal; then calm, then the checker.

A world is one venue, one journal and a list of kills drawn from its seed. Each kill is at a named place, or at a random
moment from outside. What is not reached in its time dies from outside as well, and is counted as that; at the end of a
world, what it has never reached is gone for once more, with as many bursts as it takes.
"""

import contextlib
import http.client
import os
import shutil
import signal
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from random import Random
from threading import Thread
from typing import Any

from msgspec import Struct

from engine.core.cursors import waiting
from engine.core.messages import ZERO, Leg, State
from engine.core.money import use_exact_context
from engine.core.order import remaining
from engine.runtime.journal.base import JournalFailed
from tests.crash.evidence import broken
from tests.crash.feed import Feed
from tests.crash.keepers import SYMBOLS
from tests.crash.points import Point, points_of
from tests.crash.site import BASE, Died, Site, Stuck
from tests.engine_toml import Words
from tests.patience import PATIENCE_SECONDS
from tests.postgres import ENVIRONMENT, Server
from tests.sim.checks import Violation
from tests.sim.truth import Probed

RANDOM = "at a random time"
# For a place to be reached after a burst; an order that is missed is not looked for at once, a drain waits for calls.
REACH_SECONDS = {"start": 0.0, "doubt": 4.0, "end": 30.0}
REACH_SECONDS_ELSE = 0.9
CALM_SECONDS = 3 * PATIENCE_SECONDS


class Kill(Struct, frozen=True):
    """`seconds` is for the random ones: after the start of the process."""

    point: str
    nth: int = 1
    seconds: float = 0.0


class Told(Struct):
    """What became of one world."""

    seed: int
    kills: Counter[str]
    missed: Counter[str]  # places that were not reached in time
    violations: list[Violation]
    signals: int = 0
    orders: int = 0
    seconds: float = 0.0  # of the killing, without the calm
    calm_seconds: float = 0.0
    kept: str = ""  # the folder, when something was broken


def plan(rng: Random, count: int, named: Sequence[str], points: dict[str, Point]) -> list[Kill]:
    """`count` kills: every name in `named` once, the rest drawn; the journal's very first start comes first."""
    first = [name for name in named if points[name].when == "first start"]
    usual = [name for name in points if points[name].when != "first start"]
    others = [_drawn(rng, name, points[name].most, early=True) for name in named if name not in first]
    while len(others) + len(first) < count:
        name = "" if rng.random() < 0.4 else rng.choice(usual)
        others.append(_drawn(rng, name, points[name].most) if name else _random(rng))
    rng.shuffle(others)
    return [_drawn(rng, name, points[name].most) for name in first] + others


def _drawn(rng: Random, name: str, most: int, early: bool = False) -> Kill:
    return Kill(name, rng.randint(1, max(1, most // 4) if early else most))


def _random(rng: Random) -> Kill:
    return Kill(RANDOM, 1, rng.uniform(0.05, 1.5))


def run_world(
    seed: int,
    kills: Sequence[Kill],
    folder: Path,
    mutant: str = "",
    sync_seconds: float = 0.0,
    venue: str = "paper",
    journal: Words | None = None,
    engines: int = 1,
) -> Told:
    """Raises nothing for what the engine does: that is a violation. The folder is left as it is."""
    told = Told(seed, Counter(), Counter(), [])
    rng = Random(f"{seed}/world")
    began = time.monotonic()
    synced = sync_seconds or any(kill.point in ("commit.sync", "commit.synced") for kill in kills)
    durability = "power" if synced else rng.choice(("power", "process"))
    with Site(folder, seed, durability, venue=venue, journal=journal, engines=engines) as site:
        site.mutant, site.sync_seconds = mutant, sync_seconds
        site.keeper.begin_world(rng)
        feed = Feed(rng, site.told, site.keeper.instruments)
        try:
            for kill, following in zip(kills, (*kills[1:], None), strict=True):
                _one(site, feed, kill, told, following=following)
            for name in sorted(told.missed):
                if not told.kills[name]:
                    _one(site, feed, Kill(name), told, PATIENCE_SECONDS)
            told.seconds = time.monotonic() - began
            _calm(site, feed)
            truth = site.keeper.truth()
            told.violations += broken(site, truth)
            told.orders = len(truth.orders)
        except (Died, Stuck) as error:
            told.violations.append(Violation("ALIVE", time.time_ns(), f"{error}\n{site.log()}"))
            site.engine.kill()
            told.violations += broken(site, site.keeper.truth(), quiescent=False)
        told.signals = len({offer.signal_id for offer in feed.offers})
    told.calm_seconds = time.monotonic() - began - told.seconds
    return told


def _one(site: Site, feed: Feed, kill: Kill, told: Told, patience: float = 0.0, following: Kill | None = None) -> None:
    """One life, from its start to its kill; with `patience`, bursts go on so many seconds until its place is reached.

    Where there are two hosts, the `following` one stands by meanwhile, and takes over.

    Raises Died for an end that was not ours, Stuck."""
    named = kill.point != RANDOM
    threads: list[Thread] = []
    began = time.monotonic()
    try:
        site.spawn(**_how(kill))
        until = began + kill.seconds
        with _early(site, until if not named else None):
            site.wait_ready()
            site.stand_by(**_how(following))
            when = points_of(site.venue)[kill.point].when if named else "flow"
            site.keeper.disturb(feed.rng, kill.point)
            threads = feed.send(site.api, feed.burst(site.keeper.burst))
            if when == "stop":
                time.sleep(0.05)
                threads.append(_aside(lambda: site.stop(feed.rng.random() < 0.5)))
            if when == "end":
                _join(threads)
                site.engine.terminate()
            _wait_for_death(site, threads, REACH_SECONDS.get(when, REACH_SECONDS_ELSE), until)
            while when in ("flow", "doubt", "quiet") and time.monotonic() < began + patience:
                site.keeper.disturb(feed.rng, kill.point)
                threads = feed.send(site.api, feed.burst(site.keeper.burst))
                _wait_for_death(site, threads, REACH_SECONDS_ELSE, until)
        site.kill()
        told.kills[RANDOM] += 1
        if named:
            told.missed[kill.point] += 1
    except Died as died:
        if died.code != -9:
            raise
        told.kills[kill.point] += 1
    finally:
        _join(threads)
        site.engine.join(PATIENCE_SECONDS)


def _how(kill: Kill | None) -> dict[str, Any]:
    return {"point": kill.point, "nth": kill.nth} if kill is not None and kill.point != RANDOM else {}


class _early:
    """A random kill may come before the engine is ready."""

    def __init__(self, site: Site, until: float | None) -> None:
        self._site, self._until = site, until

    def __enter__(self) -> None:
        if self._until is not None:
            assert self._site.engine.pid is not None
            self._descriptor = os.pidfd_open(self._site.engine.pid)
            self._thread = Thread(target=self._kill)
            self._thread.start()

    def __exit__(self, *error: object) -> None:
        if self._until is not None:
            self._thread.join()
            os.close(self._descriptor)

    def _kill(self) -> None:
        assert self._until is not None
        time.sleep(max(0.0, self._until - time.monotonic()))
        # Not by `kill`, which waits for the end: two threads that wait take each other's news of it.
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._descriptor, signal.SIGKILL)


def _wait_for_death(site: Site, threads: list[Thread], seconds: float, until: float) -> None:
    """Raises Died. Returns when it lives on after all was said and the time to reach the place is over."""
    _join(threads)
    end = max(time.monotonic() + seconds, until + 1)
    while time.monotonic() < end:
        if (code := site.engine.exitcode) is not None:
            raise Died(code)
        time.sleep(0.005)


def _aside(what: object) -> Thread:
    def run() -> None:
        with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
            what()  # type: ignore[operator]

    thread = Thread(target=run)
    thread.start()
    return thread


def _join(threads: list[Thread]) -> None:
    for thread in threads:
        thread.join(5 * PATIENCE_SECONDS)
        assert not thread.is_alive(), "a sender hangs"


def _calm(site: Site, feed: Feed) -> None:
    """Everything is offered until it is answered, comes to rest, and a fresh signal executes. Raises Died, Stuck."""
    site.keeper.calm()
    site.phase("calm")
    site.start()
    until_answered(site, feed)
    site.until(lambda: at_rest(site), CALM_SECONDS)
    probe(site)
    site.until(lambda: at_rest(site), CALM_SECONDS)
    site.keeper.still()
    time.sleep(0.1)
    site.until(lambda: at_rest(site), CALM_SECONDS)
    if (code := site.end()) != 0:
        raise Died(code)


def until_answered(site: Site, feed: Feed) -> None:
    """Raises Stuck."""
    end = time.monotonic() + CALM_SECONDS
    while waiting := [offer for offer in feed.offers if not offer.answered]:
        if time.monotonic() > end:
            raise Stuck(f"{len(waiting)} signals find no answer; life {site.life}: {site.log()}")
        _join(feed.send(site.api, waiting))


def probe(site: Site) -> None:
    """A fresh signal must be executed: on a symbol that holds nothing, so that no rule can mind."""
    held = {p["symbol"] for p in site.get("/positions")["positions"] if float(p["qty"])}
    symbol = next((s for s in SYMBOLS if s not in held), SYMBOLS[-1])
    site.told.append(Probed(time.time_ns(), signal_id=f"probe-{site.life}"))
    body = {"signal_id": f"probe-{site.life}", "symbol": symbol, "action": "open", "side": "buy"}
    site.until(lambda: site.ask("POST", f"{BASE}/order", body | {"quote_amount": "300"})[0] != 503)


def at_rest(site: Site) -> bool:
    """By what is committed: every signal has its end, all is published, stops and targets live, and all is covered."""
    try:
        with contextlib.closing(site.reader()) as reader:
            state = reader.state()
    except JournalFailed:
        return False  # it is busy
    moving = [o for o in state.orders if o.state is not State.OPEN or o.leg not in (Leg.STOP, Leg.TARGET)]
    if moving or state.signals or any(waiting(state.cursors, state.events).values()):
        return False

    def cover(symbol: str) -> Decimal:
        return sum((remaining(o) for o in state.orders if o.symbol == symbol and o.leg is Leg.STOP), ZERO)

    lots = {i.symbol: i.lot for i in site.keeper.instruments}  # a fee taken in base leaves less than one
    return all(cover(p.symbol) >= abs(p.qty) // lots[p.symbol] * lots[p.symbol] for p in state.positions if p.qty)


class Total(Struct):
    """All worlds together."""

    kills: Counter[str]
    missed: Counter[str]
    worlds: list[Told]
    seconds: float = 0.0

    @property
    def violations(self) -> list[tuple[int, Violation]]:
        return [(world.seed, violation) for world in self.worlds for violation in world.violations]


def run_matrix(
    kills: int,
    seed: int,
    each: int,
    parallel: int,
    folder: Path | None = None,
    mutant: str = "",
    only: int | None = None,
    sync_seconds: float = 0.0,
    venue: str = "paper",
    named: Sequence[str] = (),
    server: Server | None = None,
    engines: int = 1,
) -> Total:
    """Worlds of at most `each` kills, `parallel` at a time, until there were `kills`; or `only` the one of that seed.

    Every name (or of `named` only those) is planned at least once where there are kills enough. With
    a `server` the journals are on it; with two `engines` on it each kill is followed by a take-over.
    """
    total, began = Total(Counter(), Counter(), []), time.monotonic()
    base = folder or Path(tempfile.mkdtemp(prefix="crash-"))
    points = points_of(venue, on_a_server=server is not None)
    plans = [(number, its) for number, its in _plans(kills, seed, each, points, named) if only in (None, number)]

    def work() -> None:
        use_exact_context()
        while plans:
            number, its = plans.pop(0)
            try:
                place, journal = base / f"world-{number}", _on(server, number, engines)
                told = run_world(number, its, place, mutant, sync_seconds, venue, journal, engines)
            except Exception:  # of ours, not the engine's: the other worlds go on, and this one counts as broken
                text = f"the instrument failed: {traceback.format_exc()}"
                told = Told(number, Counter(), Counter(), [Violation("INSTRUMENT", time.time_ns(), text)])
            if told.violations:
                told.kept = str(base / f"world-{number}")
            else:
                shutil.rmtree(base / f"world-{number}")
            total.worlds.append(told)

    threads = [Thread(target=work) for _ in range(parallel)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for told in total.worlds:
        total.kills += told.kills
        total.missed += told.missed
    total.seconds = time.monotonic() - began
    if folder is None and not total.violations:
        shutil.rmtree(base)
    return total


def _on(server: Server | None, number: int, engines: int) -> Words | None:
    if server is None:
        return None
    found: Words = {"url": server.url, "schema": f"world_{number}", "password_env": next(iter(ENVIRONMENT))}
    return found | ({"standby": True, "lease_seconds": 1} if engines > 1 else {})


def _plans(
    kills: int, seed: int, each: int, points: dict[str, Point], named: Sequence[str]
) -> list[tuple[int, list[Kill]]]:
    """The names are dealt out to the worlds; the rest of a world's kills is drawn from its own seed."""
    worlds = max(1, -(-kills // each))
    sizes = [kills // worlds + (number < kills % worlds) for number in range(worlds)]
    found = []
    for place, size in enumerate(sizes):
        rng, names = Random(f"{seed + place}/plan"), (list(named) or list(points))[place::worlds]
        found.append((seed + place, plan(rng, size, rng.sample(names, min(size, len(names))), points)))
    return found
