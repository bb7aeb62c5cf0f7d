"""kill -9 in the middle of a burst, again and again: the same books, no second order, every accepted signal ends."""

import time
from collections.abc import Iterable
from pathlib import Path
from random import Random
from threading import Thread

import httpx

from tests.engine_toml import Words
from tests.patience import PATIENCE_SECONDS
from tests.process.site import BASE, Site

KILLS = 4
BURST = 40


def bodies(first: int, rng: Random) -> list[dict[str, object]]:
    return [
        {
            "signal_id": f"k{number:04d}",
            "symbol": rng.choice(("BTCUSDT", "ETHUSDT")),
            "action": "open",
            "side": rng.choice(("buy", "sell")),
            "quote_amount": str(rng.randint(100, 400)),
        }
        for number in range(first, first + BURST)
    ]


def feed(api: str, burst: Iterable[dict[str, object]], accepted: set[str]) -> None:
    """One after the other over one connection, until nobody answers."""
    with httpx.Client(timeout=PATIENCE_SECONDS) as client:
        for body in burst:
            try:
                answer = client.post(f"{api}{BASE}/order", json=body)
            except httpx.HTTPError:
                return
            if answer.status_code in (200, 202):
                accepted.add(str(body["signal_id"]))


def test_killed_in_the_middle_of_bursts_the_engine_comes_back_with_the_same_books(
    tmp_path: Path, journal: Words
) -> None:
    rng = Random(11)
    with Site(tmp_path, journal=journal) as site:
        sent: list[dict[str, object]] = []
        accepted: set[str] = set()
        for _ in range(KILLS):
            site.start()
            burst = bodies(len(sent), rng)
            sent += burst
            threads = [Thread(target=feed, args=(site.api, burst[n::3], accepted)) for n in range(3)]
            for thread in threads:
                thread.start()
            enough = len(accepted) + rng.randint(1, BURST // 2)
            while len(accepted) < enough and any(thread.is_alive() for thread in threads):
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.01))
            site.kill()
            for thread in threads:
                thread.join()
        site.start()
        assert accepted
        again: set[str] = set()
        answers: dict[str, int] = {}
        with httpx.Client(timeout=PATIENCE_SECONDS) as client:
            for body in sent:
                answer = client.post(f"{site.api}{BASE}/order", json=body)
                answers[str(body["signal_id"])] = answer.status_code
        assert all(answers[signal_id] == 200 for signal_id in accepted), answers  # known, and not executed again
        again |= {signal_id for signal_id, status in answers.items() if status in (200, 202)}
        truth = site.rested()
        assert site.end() == 0
        assert site.differences(truth) == []
        confirmed = [e["key"] for e in site.events() if e["name"] == "trade_confirmations"]
        assert len(confirmed) == len(set(confirmed))
        assert accepted | again <= set(confirmed)
        audited = site.run("audit", "verify")
        assert audited.returncode == 0, audited.stdout + audited.stderr
