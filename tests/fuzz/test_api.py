"""The API as shipped, in process: whatever is asked, the answer is no fault of ours and says in JSON what is wrong."""

import json
from base64 import b64encode
from typing import Any

import httpx
import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from engine.core.messages import Limits
from engine.runtime.log import Secret
from engine.web.app import build
from engine.web.doorman import guarded
from engine.web.roles import ROLES, Token
from engine.web.terms import Terms
from tests.fuzz import fuzzed
from tests.fuzz.wrongs import changed, damaged, texts
from tests.patience import PATIENCE_SECONDS
from tests.web.world import Engine

BASE = "/api/execution"
PLACES = (
    *("positions", "orders", "trades", "signals", "accounts", "limits", "halts", "metrics", "order", "stop", "resume"),
    *("flatten", "limits/paper", "limits/nobody", "trades/paper/ETHUSDT/1", "signals/s-1", "signals/s%2F2:17"),
    *("positions/paper/ETHUSDT/close", "positions/paper/X/close", "debug", "nothing"),
)
SOUND: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("POST", "stop", {"by": "me", "reason": "x", "flatten": False}),
    ("POST", "resume", {"scope": "engine", "by": "me", "note": "ok"}),
    ("POST", "flatten", {"account": "paper", "symbol": "ETHUSDT", "by": "me", "reason": "x"}),
    ("POST", "positions/paper/ETHUSDT/close", {"by": "me"}),
    ("PATCH", "limits/paper", {"positions_max": 2, "daily_loss_max": "250", "loss_latch": "day"}),
    ("PUT", "limits/paper", {"stop_distance_max": 0.02, "btc_price": 60000}),
    ("POST", "order", {"signal_id": "s-9"}),
)
NAMES = (*Limits.__struct_fields__, "by", "scope", "flatten", "account", "note", "reason")
QUERIES = ("limit", "before", "account", "symbol", "live", "all", "format", "x")


@pytest.fixture(scope="module")
def app() -> Any:
    return guarded(build(Engine().ports(), trio.Event()), ("127.0.0.1",))


@pytest.fixture(scope="module")
def guarded_app() -> Any:
    """It has tokens. An engine that is reached fails the test by its answer."""
    terms = Terms(tokens=(Token("all", ROLES, Secret("0123456789abcdef0123456789")),))
    return guarded(build(Engine().ports(), trio.Event()), ("127.0.0.1",), terms)


def status_of(app: Any, method: str, url: str, body: bytes, headers: dict[str, bytes]) -> int:
    async def exchange() -> int:
        transport = httpx.ASGITransport(app=app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            return (await client.request(method, url, content=body, headers=headers)).status_code

    return trio.run(exchange)


def ask(app: Any, method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> None:
    """The rule of every answer."""

    async def exchange() -> httpx.Response:
        transport = httpx.ASGITransport(app=app)  # an exception of the application would come out here
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            with trio.fail_after(PATIENCE_SECONDS):
                return await client.request(method, url, content=body, headers=headers)

    answer = trio.run(exchange)
    assert answer.status_code < 500, (method, url, body, answer.text)
    assert "Traceback" not in answer.text and 'File "' not in answer.text
    if answer.status_code >= 400 and method != "HEAD" and not url.endswith("/order"):
        told = json.loads(answer.content)
        assert (
            told["error"] and told["reasons"] and all(set(reason) == {"field", "reason"} for reason in told["reasons"])
        )


@given(st.sampled_from(SOUND), st.data())
@fuzzed(120)
def test_bodies_with_something_wrong(app: Any, sound: tuple[str, str, dict[str, Any]], data: st.DataObject) -> None:
    method, place, body = sound
    raw = data.draw(changed((body,), NAMES) | damaged(json.dumps(body).encode()) | st.binary(max_size=100))
    kind = data.draw(
        st.sampled_from(("application/json", "application/json; charset=x", "text/plain", "", "a/b;c=\xff"))
    )
    ask(app, method, f"{BASE}/{place}", raw, {"content-type": kind.encode("latin-1")} if kind else {})  # type: ignore[dict-item]


@given(st.sampled_from(PLACES), st.dictionaries(st.sampled_from(QUERIES), texts, max_size=3))
@fuzzed(80)
def test_questions_with_odd_parameters(app: Any, place: str, query: dict[str, str]) -> None:
    safe = {key: value.encode("utf-8", "replace").decode()[:200] for key, value in query.items()}
    ask(app, "GET", str(httpx.URL(f"{BASE}/{place}", params=safe)))


@given(
    st.sampled_from(("GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "X")),
    st.binary(max_size=30),
    st.sampled_from(("", f"{BASE}/", f"{BASE}/signals/", f"{BASE}/limits/", f"{BASE}/trades/", "/schema/")),
)
@fuzzed(80)
def test_paths_of_any_bytes(app: Any, method: str, tail: bytes, head: str) -> None:
    ask(app, method, head + "/" * (not head) + "".join(f"%{byte:02X}" for byte in tail), b"{}")


HEADERS = ("host", "origin", "x-trace-id", "traceparent", "x-operator", "content-type", "accept", "last-event-id")
LATIN = st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=40)


@given(st.sampled_from(SOUND), st.dictionaries(st.sampled_from(HEADERS), LATIN, max_size=3))
@fuzzed(80)
def test_headers_of_any_bytes(app: Any, sound: tuple[str, str, dict[str, Any]], headers: dict[str, str]) -> None:
    method, place, body = sound
    raw = {key: value.encode("latin-1") for key, value in headers.items()}
    ask(app, method, f"{BASE}/{place}", json.dumps(body).encode(), raw)  # type: ignore[arg-type]


@fuzzed(60)
@given(
    st.sampled_from(SOUND),
    st.sampled_from(("Bearer ", "Basic ", "bearer", "Digest ", "")),
    st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=200),
)
def test_no_made_up_token_is_let_in(guarded_app: Any, sound: tuple[str, str, Any], scheme: str, made_up: str) -> None:
    method, place, body = sound
    headers = {"Authorization": (scheme + made_up).encode("latin-1")}
    for value in (headers, {"Authorization": b"Basic " + b64encode(made_up.encode())}):
        assert status_of(guarded_app, method, f"{BASE}/{place}", json.dumps(body).encode(), value) == 401
