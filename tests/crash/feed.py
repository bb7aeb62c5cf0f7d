"""Whoever decides, outside of the engine: offers signals over HTTP until each is answered, some of them otherwise."""

import http.client
import json
import time
from collections.abc import Sequence
from random import Random
from threading import Thread
from typing import Any

from msgspec import Struct

from engine.core.messages import Instrument, InstrumentKind
from tests.crash.keepers import SYMBOLS
from tests.crash.site import BASE
from tests.sim.truth import AnyEntry, Receipted, Sent, digest

CONNECTIONS = 3


class Offer(Struct):
    """One body, given again until somebody has said what became of it."""

    signal_id: str
    raw: bytes
    answered: str = ""

    @property
    def digest(self) -> str:
        return digest(self.raw)


class Feed:
    """All that was ever offered, and the entries of what was sent and heard."""

    def __init__(self, rng: Random, told: list[AnyEntry], traded: Sequence[Instrument] = ()) -> None:
        """`traded`: on spot nothing is sold that is not held."""
        self.rng, self.told = rng, told
        self._sides = ("buy",) if any(i.kind is InstrumentKind.SPOT for i in traded) else ("buy", "sell")
        self.offers: list[Offer] = []
        self._count = 0

    def burst(self, count: int) -> list[Offer]:
        """What is to be sent now: all that is unanswered, new signals, some repeats, some contradictions."""
        rng = self.rng
        again = [offer for offer in self.offers if not offer.answered]
        known = list(self.offers)
        repeats = rng.sample(known, min(len(known), count // 8))
        others = [
            Offer(offer.signal_id, json.dumps(json.loads(offer.raw) | {"note": "no, otherwise"}).encode())
            for offer in rng.sample(known, min(len(known), count // 12))
        ]
        new = [self.draw() for _ in range(count)]
        self.offers += others + new
        return again + [offer for pair in _mixed(rng, new, repeats + others) for offer in pair]

    def draw(self) -> Offer:
        self._count += 1
        signal_id = f"k{self._count:05d}"
        return Offer(signal_id, json.dumps({"signal_id": signal_id, **draw_body(self.rng, self._sides)}).encode())

    def send(self, api: tuple[str, int], offers: list[Offer], connections: int = CONNECTIONS) -> list[Thread]:
        """Threads that send, each over one connection, until all is said or nobody answers."""
        threads = [Thread(target=self._send, args=(api, offers[n::connections])) for n in range(connections)]
        for thread in threads:
            thread.start()
        return threads

    def _send(self, api: tuple[str, int], offers: list[Offer]) -> None:
        connection = http.client.HTTPConnection(*api, timeout=15)
        try:
            for offer in offers:
                self.told.append(Sent(time.time_ns(), "feed", offer.signal_id, offer.digest))
                connection.request("POST", f"{BASE}/order", offer.raw, {"content-type": "application/json"})
                status = json.loads(connection.getresponse().read()).get("status", "busy")
                self.told.append(Receipted(time.time_ns(), "feed", offer.signal_id, offer.digest, status))
                if status != "busy":
                    offer.answered = status
        except (OSError, http.client.HTTPException, ValueError):
            return  # it died; what was not answered is offered again
        finally:
            connection.close()


def draw_body(rng: Random, sides: tuple[str, ...] = ("buy", "sell")) -> dict[str, Any]:
    symbol, kind = rng.choice(SYMBOLS), rng.random()
    body: dict[str, Any] = {"symbol": symbol, "ttl_seconds": rng.choice(("1", "3", "10"))}
    side = rng.choice(sides)
    if kind < 0.10:
        return body | {"action": "close"}
    if kind < 0.15:
        return body | {"action": "reduce", "position_share": rng.choice(("0.3", "0.5", "1"))}
    if kind < 0.20:
        return (
            body | {"action": "target", "target": str(rng.randint(-9 if "sell" in sides else 0, 9) * 3)}
            if symbol > "C"
            else body | {"action": "cancel"}
        )
    if kind < 0.30 and symbol[0] == "C":
        far = {"buy": rng.choice(("99.4", "99.8")), "sell": rng.choice(("100.2", "100.6"))}[side]
        more = {"order_type": "limit", "limit_price": far, "cancel_after_seconds": rng.choice(("1", "3"))}
        return body | {"action": "open", "side": side, "quote_amount": "300", **more}
    return body | {"action": "open", "side": side, "quote_amount": str(rng.randint(50, 900))}


def _mixed(rng: Random, new: list[Offer], more: list[Offer]) -> list[list[Offer]]:
    """Each new one, some with another behind it."""
    rng.shuffle(more)
    return [[offer, *([more.pop()] if more and rng.random() < 0.5 else [])] for offer in new]
