"""Requests that were not let in: counted for the metrics, and told in the log now and then. Never with a token."""

from collections import Counter

import structlog

LOG_SECONDS = 10.0  # between two lines about one reason
LOG = structlog.get_logger("web")


class TurnedAway:
    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()  # by reason
        self._told: dict[str, tuple[float, int]] = {}  # when a reason was last told, and its count then

    def note(self, reason: str, client: str, now: float, role: str = "") -> None:
        """`now` in seconds of any steady clock; `role` is what was missing. The path is not told: a secret may be in
        it by mistake."""
        self.counts[reason] += 1
        then, before = self._told.get(reason, (now - LOG_SECONDS, 0))
        if now - then >= LOG_SECONDS:
            self._told[reason] = (now, self.counts[reason])
            LOG.warning(
                "request turned away",
                reason=reason,
                client=client,
                missing=role or None,
                since_last=self.counts[reason] - before,
            )
