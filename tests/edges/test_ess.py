"""What a risk service may answer: words, flags, nonsense; and a service that is slow, broken, wrong or gone."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from engine.core.ess import Said, Unanswered
from engine.edges.ess import BODY_MAX, AskTerms, RiskService, understood
from engine.runtime.config import EssSection
from engine.runtime.log import Secret
from tests.patience import PATIENCE_SECONDS

SECTION = EssSection()
TOKEN = Secret("canary-risk-token-0123456789")


def terms(port: int = 1, **more: Any) -> AskTerms:
    given: dict[str, Any] = {
        "url": f"http://127.0.0.1:{port}/api/risk/ess/status",
        "timeout_seconds": PATIENCE_SECONDS,
        "blocks": SECTION.blocks,
        "passes": SECTION.passes,
        "token": TOKEN,
    }
    return AskTerms(**given | more)


def told(body: Any, **more: Any) -> Said | Unanswered:
    return understood(body if isinstance(body, bytes) else json.dumps(body).encode(), terms(**more))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"level": "CRITICAL"}, Said(True, "CRITICAL")),
        ({"level": "critical ", "reason": "insolvent"}, Said(True, "CRITICAL", "insolvent")),
        ({"level": "NORMAL"}, Said(False, "NORMAL")),
        ({"status": "ok"}, Said(False, "OK")),
        ({"status": "success", "level": "NORMAL"}, Said(False, "NORMAL")),
        ({"status": "OK", "level": "CRITICAL"}, Said(True, "CRITICAL")),
        ({"level": "NORMAL", "status": "CRITICAL"}, Said(True, "CRITICAL")),
        ({"level": "NORMAL", "tripped": True}, Said(True, "TRIPPED")),
        ({"tripped": False}, Said(False, "CLEAR")),
        ({"status": "ok", "data": {"status": "EMERGENCY", "message": "m"}}, Said(True, "EMERGENCY", "m")),
        ({"status": "ok", "data": {"level": "WARNING"}}, Said(False, "WARNING")),
        ({"ess": {"tripped": False, "since": None}, "version": 3}, Said(False, "CLEAR")),
    ],
)
def test_a_word_in_its_usual_places_is_understood(body: Any, said: Said) -> None:
    assert told(body) == said


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({}, "has no level, status or tripped"),
        ({"level": None}, "has no level"),
        ({"level": 3}, "has no level"),
        ({"level": "PURPLE"}, "says PURPLE, which is neither in ess.blocks nor in ess.passes"),
        ({"status": "ok", "level": "PURPLE"}, "says PURPLE"),
        ({"status": "ok", "data": {"level": "PURPLE"}}, "says PURPLE"),
        ([], "must be a JSON object"),
        (b"", "is empty"),
        (b"<html><body>Login</body></html>", "is not JSON"),
        (b'{"level": "NOR', "is not JSON"),
        (b'{"level": "NORMAL", "level": "CRITICAL"}', "is given more than once"),
        (b"\xff", "is not UTF-8"),
        (b"[" * 5000, "nested"),
        (b'{"level": "NORMAL", "pad": "' + b"x" * BODY_MAX + b'"}', "larger than"),
    ],
)
def test_what_is_not_understood_is_no_answer(body: Any, why: str) -> None:
    found = told(body)
    assert isinstance(found, Unanswered) and why in found.why


def test_the_config_may_name_the_field_and_the_words() -> None:
    body = {"level": "NORMAL", "risk": {"ess": {"mode": "Red"}}}
    assert told(body, field="risk.ess.mode", blocks=("RED",), passes=("BLUE",)) == Said(True, "RED")
    assert told(body, field="risk.ess.mode", blocks=("BLACK",), passes=("RED",)) == Said(False, "RED")
    assert isinstance(told(body, field="risk.ess"), Unanswered)
    assert isinstance(told(body, field="risk.none.mode"), Unanswered)
    assert told({"on": True}, field="on") == Said(True, "TRIPPED")


# -------------------------------------------------------------------------------------------------------- a real server


@asynccontextmanager
async def service(answer: bytes | None) -> AsyncIterator[tuple[int, list[bytes]]]:
    """Says `answer` to whoever asks, and closes; None: nothing, and holds the line."""
    asked: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            asked.append(await stream.receive_some(65536))
            if answer is None:
                await trio.sleep_forever()
            await stream.send_all(answer)

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        with trio.fail_after(PATIENCE_SECONDS):
            yield listeners[0].socket.getsockname()[1], asked
        nursery.cancel_scope.cancel()


def http(body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length or len(body)}\r\n\r\n"
    return head.encode() + body


async def asked_once(answer: bytes | None, **more: Any) -> tuple[Said | Unanswered, list[bytes]]:
    async with service(answer) as (port, asked), trio.open_nursery() as nursery:
        there = RiskService(terms(port, **more))
        nursery.start_soon(there.live)
        found = await there.ask()
        nursery.cancel_scope.cancel()
    return found, asked


async def test_a_service_is_asked_with_its_token_and_believed() -> None:
    found, asked = await asked_once(http(b'{"level": "CRITICAL"}'))
    assert found == Said(True, "CRITICAL")
    assert asked[0].startswith(b"GET /api/risk/ess/status HTTP/1.1\r\n")
    assert b"authorization: bearer canary-risk-token-0123456789" in asked[0].lower()


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (http(b"<html>maintenance</html>"), "is not JSON"),
        (http(b'{"level": "NORMAL"}', length=500), ""),  # cut off
        (http(b'{"level": "NORMAL"}', "500 Oops"), "answered 500"),
        (http(b'{"level": "NORMAL"}', "401 Who"), "answered 401"),
        (http(b"", "302 Found"), "answered 302"),
        (http(b'{"level": "NORMAL"}', "204 No Content"), "answered 204"),
        (http(b"x" * (BODY_MAX * 2)), "larger than"),
        (b"\x00\x01\x02", ""),
        (b"", ""),
    ],
)
async def test_a_service_that_answers_wrongly_has_not_answered(answer: bytes, why: str) -> None:
    found, _ = await asked_once(answer)
    assert isinstance(found, Unanswered) and why in found.why and found.why
    assert "canary" not in found.why


async def test_a_service_that_is_slow_or_gone_costs_its_time_limit_and_no_more() -> None:
    slow, asked = await asked_once(None, timeout_seconds=0.2)
    assert slow == Unanswered("no answer in 0.2 s") and len(asked) == 1
    async with service(b"") as (port, _):
        pass
    there = RiskService(terms(port))
    assert isinstance(await there.ask(), Unanswered)
