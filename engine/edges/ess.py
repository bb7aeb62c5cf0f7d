"""A risk service's word on the emergency, asked for over HTTP: `GET /api/risk/ess/status`.

    {"level": "CRITICAL", "reason": "venue insolvent"}      {"data": {"status": "NORMAL"}}      {"tripped": false}

`understood` is PURE. A word that is in neither list of the config is no answer: it is not guessed what it means.
"""

import ssl
from collections.abc import Iterator

import httpx
import trio
from msgspec import Struct

from engine.core.ess import Said, Unanswered
from engine.edges.base import words
from engine.edges.strict import Body, Json, read, shown
from engine.runtime.log import Secret

BODY_MAX = 1 << 16
# Where the word may stand; of several the first one counts, but one that blocks counts wherever it stands.
WORDS = ("level", "ess_level", "severity", "ess_status", "state", "status")
FLAGS = ("tripped", "triggered", "halted", "blocked", "emergency")
WRAPPINGS = ("data", "ess", "result", "payload")
REASONS = ("reason", "message", "detail")


class AskTerms(Struct, frozen=True, kw_only=True):
    """Where, and how to read what comes. Words in capitals. `field`: the word's path ("data.level"); "" the usual."""

    url: str
    timeout_seconds: float
    blocks: tuple[str, ...]
    passes: tuple[str, ...]
    field: str = ""
    token: Secret | None = None
    ca_file: str = ""


class RiskService:
    """One service, over a connection that is kept."""

    def __init__(self, terms: AskTerms) -> None:
        """Raises OSError for a `ca_file` that cannot be read."""
        self._terms = terms
        headers = {"accept": "application/json", "accept-encoding": "identity", "user-agent": "surefire"}
        if terms.token is not None:
            headers["authorization"] = f"Bearer {terms.token.reveal()}"
        self._client = httpx.AsyncClient(
            verify=ssl.create_default_context(cafile=terms.ca_file or None),
            trust_env=False,
            follow_redirects=False,
            headers=headers,
            timeout=httpx.Timeout(terms.timeout_seconds),
        )

    async def ask(self) -> Said | Unanswered:
        """Never raises, and never takes longer than the terms say."""
        seconds = self._terms.timeout_seconds
        with trio.move_on_after(seconds):
            try:
                status, raw = await self._get()
            except (httpx.HTTPError, OSError, trio.BrokenResourceError) as error:
                return Unanswered(words(error))
            if status != 200:
                return Unanswered(f"it answered {status}")
            return understood(raw, self._terms)
        return Unanswered(f"no answer in {seconds:g} s")

    async def live(self) -> None:
        """Until cancelled; then the connection is closed."""
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await self._client.aclose()

    async def _get(self) -> tuple[int, bytes]:
        response = await self._client.send(self._client.build_request("GET", self._terms.url), stream=True)
        raw = bytearray()
        try:
            with trio.CancelScope() as reading:  # leaving the loop would leave httpx's nested generators unfinished
                async for piece in response.aiter_raw():
                    raw += piece
                    if len(raw) > BODY_MAX:
                        reading.cancel()
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await response.aclose()
        return response.status_code, bytes(raw)


def understood(raw: bytes, terms: AskTerms) -> Said | Unanswered:
    """What an answer of 200 says."""
    body = read(raw, BODY_MAX)
    if isinstance(body, tuple):
        return Unanswered(f"its answer {body[0].reason}")
    words = tuple(_words(body, terms.field))
    reason = next((shown(text, 120) for text in _reasons(body)), "")
    for word in words:
        if word in terms.blocks or word is True:
            return Said(True, _told(word), reason)
    if not words:
        return Unanswered(f"its answer has no {terms.field or 'level, status or tripped'}")
    if words[0] in terms.passes or words[0] is False:
        return Said(False, _told(words[0]), reason)
    return Unanswered(f"it says {shown(str(words[0]))}, which is neither in ess.blocks nor in ess.passes")


def _words(body: Body, field: str) -> Iterator[str | bool]:
    """Texts in capitals, and flags; the one that counts first."""
    if field:
        found: Json = body
        for key in field.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        if isinstance(found, str | bool):
            yield _spelled(found)
        return
    inner = [value for key in WRAPPINGS if isinstance(value := body.get(key), dict)]
    for place in (*inner, body):
        yield from (_spelled(word) for key in WORDS if isinstance(word := place.get(key), str))
        yield from (flag for key in FLAGS if isinstance(flag := place.get(key), bool))


def _reasons(body: Body) -> Iterator[str]:
    for place in (body, *(value for key in WRAPPINGS if isinstance(value := body.get(key), dict))):
        yield from (text for key in REASONS if isinstance(text := place.get(key), str) and text)


def _spelled(word: str | bool) -> str | bool:
    return word.strip().upper() if isinstance(word, str) else word


def _told(word: str | bool) -> str:
    return ("TRIPPED" if word else "CLEAR") if isinstance(word, bool) else shown(word)
