"""An engine that is stopped (SIGSTOP) and wakes up late: nobody takes its place meanwhile, and it does no harm."""

import os
import signal
import time
from pathlib import Path
from random import Random

import pytest

from engine.core.messages import Confirmed, Outcome, Submitted
from engine.core.order import opens
from tests.crash.evidence import broken, gather
from tests.crash.feed import Feed, Offer
from tests.crash.keepers import SYMBOLS
from tests.crash.matrix import CALM_SECONDS, at_rest, probe, until_answered
from tests.crash.site import Died, Site
from tests.patience import PATIENCE_SECONDS

TTL_SECONDS = 2


def short_lived(count: int) -> list[Offer]:
    rng = Random(3)
    return [
        Offer(
            f"t{number}",
            b'{"signal_id": "t%d", "symbol": "%s", "action": "open", "side": "%s", "quote_amount": "200", '
            b'"ttl_seconds": "%d"}'
            % (number, SYMBOLS[number % len(SYMBOLS)].encode(), rng.choice((b"buy", b"sell")), TTL_SECONDS),
        )
        for number in range(count)
    ]


def is_stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


@pytest.mark.parametrize(
    ("point", "nth", "seconds"), [("entry.appended", 5, 2.5), ("entry.committed", 5, 2.5), ("submit.wired", 6, 6.5)]
)
def test_a_stopped_engine_that_wakes_up_sends_nothing_whose_time_is_over(
    tmp_path: Path, point: str, nth: int, seconds: float
) -> None:
    with Site(tmp_path) as site:
        site.start(point=point, nth=nth, by=signal.SIGSTOP)
        feed = Feed(Random(1), site.told)
        feed.offers += short_lived(40)
        sleeper = site.engine
        assert sleeper.pid is not None
        threads = feed.send(site.api, feed.offers)
        pid = sleeper.pid
        site.until(lambda: is_stopped(pid))
        began = time.monotonic()
        site.spawn()
        with pytest.raises(Died) as second:
            site.until(lambda: False)
        assert second.value.code == 4
        assert "another engine is running on this journal" in site.log()
        time.sleep(max(0.0, began + seconds - time.monotonic()))
        site.engine = sleeper
        os.kill(pid, signal.SIGCONT)
        for thread in threads:
            thread.join(PATIENCE_SECONDS)
        until_answered(site, feed)
        site.until(lambda: site.health()["entry_ready"])
        site.until(lambda: at_rest(site), CALM_SECONDS)
        probe(site)
        site.until(lambda: at_rest(site), CALM_SECONDS)
        site.keeper.still()
        time.sleep(0.1)
        site.until(lambda: at_rest(site), CALM_SECONDS)
        assert site.end() == 0
        assert broken(site, site.keeper.truth()) == []
        evidence, _, _ = gather(site)
        ends = [fact for _, fact in evidence.facts(Confirmed) if isinstance(fact, Confirmed)]
        assert any(fact.outcome is Outcome.EXECUTED for fact in ends)
        if point.startswith("entry."):
            # What the stop overtook between intent and wire was let go, and says so.
            intents = [fact.order for _, fact in evidence.facts(Submitted) if opens(fact.order)]
            overtaken = intents[nth - 1].signal_id
            (end,) = [fact for fact in ends if fact.signal_id == overtaken]
            assert end.outcome is Outcome.FAILED and "time was over" in end.reason
