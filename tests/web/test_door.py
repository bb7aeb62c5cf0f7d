"""Who may speak to the API: tokens and their roles, origins, allowances, connections, TLS."""

import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import httpx
import msgspec
import pytest
import structlog
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

import run
from engine.runtime.commandline import FAILED, OK
from engine.runtime.config import ApiSection, ApiTokenSection
from engine.runtime.log import Secret
from engine.web import connections
from engine.web.allowance import KEYS_MAX, Allowance
from engine.web.app import build
from engine.web.asking import SaidNo, Unreachable, ask
from engine.web.connections import SPARE_MAX, SPARE_SECONDS, STOP_SECONDS, Connections
from engine.web.doorman import STOPS_BURST
from engine.web.roles import ROLES, Token, bearer, is_hook, missing, needed
from engine.web.serve import serve
from engine.web.terms import Terms, TermsProblem, terms_of, warn_of_insecurity
from engine.web.turned_away import LOG_SECONDS, TurnedAway
from tests.patience import PATIENCE_SECONDS
from tests.web.world import Engine, api

BASE = "/api/execution"
TOKENS = tuple(Token(role, (role,), Secret(f"{role}-{'0123456789abcdef' * 2}")) for role in ROLES)
ALL = Token("all", ROLES, Secret("all-0123456789abcdef0123456789"))
GUARDED = Terms(tokens=(*TOKENS, ALL))
ASKED = (  # a request, and the roles of which each one alone lets it in
    ("GET", "/health", None, ("read",)),
    ("GET", "/metrics", None, ("read",)),
    ("GET", "/", None, ("read",)),
    ("GET", f"{BASE}/orders", None, ("read",)),
    ("GET", f"{BASE}/dump", None, ("read",)),
    ("POST", f"{BASE}/order", {"signal_id": "s-9"}, ("trade",)),
    ("POST", f"{BASE}/stop", {}, ("stop",)),
    ("POST", f"{BASE}/flatten", {}, ("stop",)),
    ("POST", f"{BASE}/positions/paper/ETHUSDT/close", {}, ("trade", "stop")),
    ("POST", f"{BASE}/resume", {}, ("limits",)),
    ("PATCH", f"{BASE}/limits/paper", {"positions_max": 2}, ("limits",)),
    ("PUT", f"{BASE}/limits/paper", {}, ("limits",)),
    ("POST", f"{BASE}/nothing", {}, ()),
)


def shown(token: Token) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.secret.reveal()}"}


def reasons(answer: httpx.Response) -> str:
    return str(answer.json()["reasons"][0]["reason"])


async def test_each_request_needs_its_role_and_says_which_is_missing() -> None:
    engine = Engine()
    async with api(engine, GUARDED) as client:
        for method, path, body, roles in ASKED:
            for token in TOKENS:
                answer = await client.request(method, path, json=body, headers=shown(token))
                if token.name in roles:
                    assert answer.status_code not in (401, 403), (method, path, token.name)
                else:
                    assert answer.status_code == 403
                    assert (" or ".join(roles) or "every role") in reasons(answer)
                    assert token.secret.reveal() not in answer.text
            assert (await client.request(method, path, json=body, headers=shown(ALL))).status_code not in (401, 403)
    assert len(engine.submitted) == 2  # by trade, and by all


async def test_a_request_without_a_sound_token_changes_nothing() -> None:
    engine = Engine()
    stop = TOKENS[ROLES.index("stop")].secret.reveal()
    wrongs = (None, "", stop, "Bearer", f"Bearer {stop[:-1]}", f"Bearer {stop} x", f"Token {stop}")
    wrongs += ("Basic", "Basic !", "Basic " + base64.b64encode(b"\xff:\xff").decode(), "Bearer \xe9")
    async with api(engine, GUARDED) as client:
        for wrong in wrongs:
            headers = [] if wrong is None else [(b"Authorization", wrong.encode("latin-1"))]
            answer = await client.post(f"{BASE}/stop", headers=headers)
            assert answer.status_code == 401, wrong
            assert answer.headers["www-authenticate"].startswith("Basic realm=")
            assert stop not in answer.text
        assert (await client.get("/health")).status_code == 401
        assert engine.asked == []
        basic = base64.b64encode(f"anybody:{stop}".encode()).decode()
        assert (await client.post(f"{BASE}/stop", headers={"Authorization": f"Basic {basic}"})).status_code == 200
    assert engine.asked[0][1] == "api [token stop]"


async def test_without_tokens_whoever_is_here_may_ask_for_everything() -> None:
    engine = Engine()
    async with api(engine) as client:
        for method, path, body, _ in ASKED:
            for _ in range(int(STOPS_BURST) + 2):
                assert (await client.request(method, path, json=body)).status_code not in (401, 403, 429, 503)
        assert (await client.post(f"{BASE}/stop", headers={"Authorization": "Bearer x"})).status_code == 200


def test_every_route_that_changes_something_has_a_role() -> None:
    app = build(Engine().ports(), trio.Event())
    known = 0
    for path, operations in app.openapi_schema.to_schema()["paths"].items():
        for method in operations:
            if is_hook(method.upper(), path):
                continue  # its sender has no token
            roles = needed(method.upper(), path)
            assert roles, (method, path)
            assert (roles == ("read",)) == (method == "get")
            known += method != "get"
    assert known == 7


def test_a_way_of_writing_a_path_gives_no_other_role() -> None:
    trade = TOKENS[ROLES.index("trade")]
    for path in ("/limits/a/b", "/stop/x", "/order/../stop", "/positions/a/close", "/positions/a/b/c/close", "/ORDER"):
        assert missing(trade, "POST", BASE + path), path
    assert missing(trade, "DELETE", f"{BASE}/order") and missing(trade, "PUT", f"{BASE}/order")
    assert missing(ALL, "DELETE", f"{BASE}/anything") == ""


def test_a_token_is_found_by_its_whole_text_and_prints_as_stars() -> None:
    assert bearer(GUARDED.tokens, f"bearer  {ALL.secret.reveal()} ") is ALL
    assert bearer(GUARDED.tokens, f"Bearer {ALL.secret.reveal()}0") is None
    assert bearer((), "Bearer ") is None
    assert bearer(GUARDED.tokens, "Bearer \udcff") is None
    assert "0123456789" not in repr(GUARDED)


async def test_slashes_do_not_lead_round_the_door() -> None:
    engine = Engine()
    async with api(engine, GUARDED) as client:
        port = client.base_url.port
        for path in (f"/{BASE}/stop", f"{BASE}//stop/", f"{BASE}/stop/"):
            url = f"http://127.0.0.1:{port}{path}"
            assert (await client.post(url, headers=shown(TOKENS[0]))).status_code == 403
        assert engine.asked == []


async def test_a_page_of_another_site_may_not_listen_nor_change_anything() -> None:
    engine = Engine()
    async with api(engine) as client:
        own = str(client.base_url).rstrip("/")
        strange: tuple[dict[str, str], ...] = (
            {"Origin": "http://evil.example"},
            {"Origin": "null"},
            {"Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "same-site"},
        )
        for headers in strange:
            for method, path in (("GET", f"{BASE}/stream"), ("POST", f"{BASE}/stop"), ("GET", f"/{BASE}//stream/")):
                answer = await client.request(method, f"{own}{path}", headers=headers)
                assert (answer.status_code, answer.json()["reasons"][0]["field"]) == (403, "Origin")
        assert engine.asked == [] and engine.readers == []
        ours = {"Origin": own, "Sec-Fetch-Site": "same-origin"}
        async with client.stream("GET", f"{BASE}/stream", headers=ours) as answer:
            assert answer.status_code == 200
        assert (await client.post(f"{BASE}/stop", headers=ours)).status_code == 200


async def test_names_of_the_config_are_ours() -> None:
    async with api(Engine(), Terms(hosts=("desk.example",))) as client:
        assert (await client.get("/health", headers={"Host": "desk.example:8002"})).status_code == 200
        assert (await client.get("/health", headers={"Host": "x.desk.example"})).status_code == 400


async def test_on_every_address_the_one_that_was_connected_to_is_ours() -> None:
    async with trio.open_nursery() as nursery:
        port = await nursery.start(serve, Engine().ports(), "0.0.0.0", 0)
        async with httpx.AsyncClient(timeout=PATIENCE_SECONDS) as client:
            assert (await client.get(f"http://127.0.0.2:{port}/health")).status_code == 200
            other = await client.get(f"http://127.0.0.2:{port}/health", headers={"Host": "127.0.0.3"})
            assert other.status_code == 400
        nursery.cancel_scope.cancel()


def test_an_allowance_fills_up_again_and_is_each_clients_own() -> None:
    allowance = Allowance(2, 4)
    assert [allowance.take("a", 10) for _ in range(5)] == [True] * 4 + [False]
    assert allowance.take("b", 10)
    assert [allowance.take("a", 10.5), allowance.take("a", 10.5), allowance.take("a", 1e6)] == [True, False, True]
    assert [allowance.take("a", 1e6) for _ in range(4)] == [True] * 3 + [False]
    assert all(Allowance(0, 0).take("a", 1) for _ in range(1000))


def test_allowances_are_forgotten_rather_than_kept_for_ever() -> None:
    allowance = Allowance(1, 1)
    for number in range(KEYS_MAX + 10):
        assert allowance.take(str(number), 0)
    assert len(allowance._left) == KEYS_MAX
    assert not allowance.take(str(KEYS_MAX), 0)


async def test_above_the_rate_a_client_is_told_to_wait_and_may_still_stop() -> None:
    engine = Engine()
    limited = Terms(tokens=(*TOKENS, ALL), per_second=1)
    async with api(engine, limited) as client:
        answers = [await client.get("/health", headers=shown(ALL)) for _ in range(20)]
        late = next(answer for answer in answers if answer.status_code == 429)
        assert late.headers["retry-after"] == "1" and "too many" in reasons(late)
        statuses = [(await client.post(f"{BASE}/stop")).status_code for _ in range(20)]
        assert set(statuses) == {401, 429}  # nobody's stop uses up nobody's allowance
        assert (await client.post(f"{BASE}/stop", headers=shown(ALL))).status_code == 200
        assert (await client.get("/health", headers=shown(TOKENS[0]))).status_code == 200
    assert engine.asked[0][0] == "stop"


def test_stops_have_an_end_too() -> None:
    """Each waits for the venue; ten at once are no haste any more."""
    from engine.web.doorman import STOPS_PER_SECOND

    stops = Allowance(STOPS_PER_SECOND, STOPS_BURST)
    assert sum(stops.take("a", 0) for _ in range(100)) == STOPS_BURST


@asynccontextmanager
async def held(port: int, count: int) -> AsyncIterator[list[trio.SocketStream]]:
    """So many connections that say nothing."""
    streams = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(count)]
    try:
        yield streams
    finally:
        for stream in streams:
            await trio.aclose_forcefully(stream)


async def test_in_a_full_house_a_stop_is_answered_and_nothing_else() -> None:
    engine = Engine()
    async with api(engine, Terms(connections_max=4)) as client:
        port = client.base_url.port or 0
        async with held(port, 4), httpx.AsyncClient(base_url=client.base_url, timeout=PATIENCE_SECONDS) as late:
            answer = await late.get("/health")
            assert (answer.status_code, answer.headers["connection"]) == (503, "close")
            assert "only a stop" in reasons(answer)
            assert (await late.post(f"{BASE}/stop")).status_code == 200
            assert engine.asked[0][0] == "stop"
        with trio.fail_after(PATIENCE_SECONDS):
            while (await client.get("/health")).status_code != 200:  # noqa: ASYNC110 (the server tells nobody)
                await trio.sleep(0.02)
        metrics = (await client.get("/metrics")).text
    assert 'surefire_api_turned_away_total{reason="connections"}' in metrics


async def test_a_spare_connection_that_says_nothing_is_closed_and_one_with_a_stop_is_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "SPARE_SECONDS", 0.2)
    engine = Engine()
    engine.may_stop = trio.Event()
    async with api(engine, Terms(connections_max=4)) as client, held(client.base_url.port or 0, 4) as streams:
        statuses: list[int] = []

        async def stop() -> None:
            statuses.append((await client.post(f"{BASE}/stop")).status_code)

        # The four are in before the stop comes, and so are its connection and, after it, the silent one.
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop)
            with trio.fail_after(PATIENCE_SECONDS):
                while not engine.asked:  # noqa: ASYNC110 (the engine of this test tells nobody)
                    await trio.sleep(0.02)
                async with held(client.base_url.port or 0, 1) as silent:
                    assert await silent[0].receive_some(1) == b""
            await trio.sleep(0.3)  # beyond what a silent one gets
            assert not statuses
            engine.may_stop.set()
        assert statuses == [200]
        for stream in streams:  # those that came in time stay
            with trio.move_on_after(0.05) as open_still:
                await stream.receive_some(1)
            assert open_still.cancelled_caught


async def test_whoever_holds_the_spare_connections_too_does_not_keep_a_stop_out() -> None:
    engine = Engine()
    async with api(engine, Terms(connections_max=4)) as client, held(client.base_url.port or 0, 4 + SPARE_MAX + 5):
        assert (await client.post(f"{BASE}/stop")).status_code == 200


async def test_a_house_full_of_stops_takes_no_more_and_one_address_gets_a_quarter() -> None:
    house = Connections(8)
    assert [house.enter("10.0.0.1").spare for _ in range(3)] == [False, False, True]  # type: ignore[union-attr]
    here = [house.enter("127.0.0.1") for _ in range(6)]
    assert not any(connection.spare for connection in here if connection)
    before = trio.current_time()
    late = house.enter("10.0.0.2")
    assert late is not None and late.spare
    assert before + SPARE_SECONDS <= late.scope.deadline <= trio.current_time() + SPARE_SECONDS
    late.stops()
    assert before + STOP_SECONDS <= late.scope.deadline <= trio.current_time() + STOP_SECONDS
    for _ in range(SPARE_MAX - 1):  # the last of them in place of the one that said nothing
        spare = house.enter("10.0.0.2")
        assert spare is not None
        spare.stops()
    assert house.enter("10.0.0.2") is None
    assert not late.scope.cancel_called
    house.leave(late)
    for connection in here:
        assert connection is not None
        house.leave(connection)
    for address in ("10.0.0.3", "10.0.0.4", "10.0.0.5"):
        room = house.enter(address)
        assert room is not None and not room.spare


async def test_what_was_turned_away_is_counted_and_told_without_the_token() -> None:
    with structlog.testing.capture_logs() as lines:
        async with api(Engine(), GUARDED) as client:
            for _ in range(5):
                await client.post(f"{BASE}/stop?token=canary-in-a-query", headers={"Authorization": "Bearer canary"})
            await client.post(f"{BASE}/stop", headers=shown(TOKENS[0]))
            await client.get("/health", headers={"Host": "evil.example"})
            metrics = (await client.get("/metrics", headers=shown(ALL))).text
    for reason, count in (("token", 5), ("role", 1), ("host", 1)):
        assert f'surefire_api_turned_away_total{{reason="{reason}"}} {count}.0' in metrics
    told = [line for line in lines if line["event"] == "request turned away"]
    assert [(line["reason"], line["missing"]) for line in told] == [
        ("token", None),
        ("role", "the role stop"),
        ("host", None),
    ]
    assert "canary" not in str(lines) and TOKENS[0].secret.reveal() not in str(lines)


def test_the_log_is_told_again_after_a_while_how_many_there_were() -> None:
    noted = TurnedAway()
    with structlog.testing.capture_logs() as lines:
        for moment in (0, 1, 2, LOG_SECONDS, LOG_SECONDS + 1):
            noted.note("rate", "10.0.0.1", moment)
    assert [line["since_last"] for line in lines] == [1, 3]
    assert noted.counts["rate"] == 5


async def test_a_hook_needs_no_token_but_what_its_sender_has_to_show() -> None:
    engine = Engine()
    with structlog.testing.capture_logs() as lines:
        async with api(engine, GUARDED) as client:
            url, body = "/hooks/signed", {"signal_id": "n-1"}
            shown_ = {"webhook-signature": "v1,x", "traceparent": "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"}
            taken = await client.post(url, json=body, headers=shown_)
            assert taken.status_code == 202 and taken.headers["x-trace-id"] == "ab" * 16
            for headers in ({}, shown(ALL)):
                no = await client.post(url, json=body, headers=headers)
                assert (no.status_code, no.json()["error"]) == (401, "not allowed")
                assert "signature" in reasons(no)
            assert (await client.post("/hooks/other", json=body, headers=shown_)).status_code == 404
            text = {"content-type": "text/plain"}
            assert (await client.post(url, content=b"{}", headers=shown_ | text)).status_code == 415
            foreign = shown_ | {"Origin": "https://evil.example"}
            assert (await client.post(url, json=body, headers=foreign)).status_code == 403
            assert (await client.get(url, headers=shown_)).status_code == 401
            assert (await client.post("/hooks/signed/../../health", headers=shown_)).status_code != 200
            large = b'{"signal_id": "' + b"x" * (1 << 20) + b'"}'
            headers = shown_ | {"content-type": "application/json"}
            assert (await client.post(url, content=large, headers=headers)).status_code == 413
            metrics = (await client.get("/metrics", headers=shown(ALL))).text
    assert len(engine.submitted) == 1 and engine.turned_away == [], "a stranger writes no dead letter"
    assert 'surefire_api_turned_away_total{reason="hook signature"} 2.0' in metrics
    assert next(line["reason"] for line in lines if line["event"] == "request turned away") == "hook signature"


async def test_hooks_have_the_allowance_of_their_senders_address() -> None:
    terms = Terms(tokens=GUARDED.tokens, per_second=2)
    async with api(Engine(), terms) as client:
        codes = [(await client.post("/hooks/signed", json={"signal_id": "n"})).status_code for _ in range(12)]
        assert codes[:4] == [401] * 4 and 429 in codes
        assert (await client.get("/health", headers=shown(ALL))).status_code == 200


async def test_no_websocket_is_opened() -> None:
    engine = Engine()
    upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
    upgrade["Sec-WebSocket-Key"] = base64.b64encode(b"0" * 16).decode()
    async with api(engine, GUARDED) as client:
        assert (await client.get(f"{BASE}/stream", headers=upgrade)).status_code == 403


def certificate(folder: Path) -> tuple[str, str]:
    """Files with a certificate for 127.0.0.1, and with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "engine of a test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(private)
    return str(folder / "cert.pem"), str(folder / "key.pem")


async def test_over_tls_the_command_line_asks_with_its_token(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    (tmp_path / "other").mkdir()
    other, _ = certificate(tmp_path / "other")
    engine = Engine()
    async with trio.open_nursery() as nursery:
        terms = Terms(tokens=(*TOKENS, ALL), tls_cert=cert, tls_key=key)
        port = await nursery.start(serve, engine.ports(), "0.0.0.0", 0, terms)
        section = ApiSection(host="0.0.0.0", port=port, tls_cert=cert, tls_key=key)

        async def asked(section: ApiSection, token: Token | None) -> bytes:
            secret = token.secret if token else None
            return await trio.to_thread.run_sync(lambda: ask(section, "POST", "/stop", {"by": "ada"}, secret))

        assert b'"complete":true' in await asked(section, ALL)
        assert engine.asked == [("stop", "ada [token all]", "asked for over the API", True)]
        with pytest.raises(SaidNo, match="a token is needed"):
            await asked(section, None)
        with pytest.raises(SaidNo, match="the role stop"):
            await asked(section, TOKENS[0])
        with pytest.raises(Unreachable):  # another's certificate is not taken for the engine's
            await asked(msgspec.structs.replace(section, tls_cert=other), ALL)
        with pytest.raises(Unreachable):  # nor is the token sent in clear
            await asked(msgspec.structs.replace(section, tls_cert="", tls_key=""), ALL)
        context = ssl.create_default_context(cafile=cert)
        async with httpx.AsyncClient(verify=context, timeout=PATIENCE_SECONDS) as client:
            url = f"https://127.0.0.1:{port}"
            assert (await client.get(f"{url}/health", headers=shown(ALL))).status_code == 200
            async with client.stream("GET", f"{url}{BASE}/stream", headers=shown(ALL)) as answer:
                assert answer.status_code == 200
        nursery.cancel_scope.cancel()


async def test_the_stop_command_takes_its_token_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cert, key = certificate(tmp_path)
    engine = Engine()
    async with trio.open_nursery() as nursery:
        port = await nursery.start(
            serve, engine.ports(), "127.0.0.1", 0, Terms(tokens=TOKENS, tls_cert=cert, tls_key=key)
        )
        config = tmp_path / "surefire.toml"
        config.write_text(f'[api]\nport = {port}\ntls_cert = "{cert}"\ntls_key = "{key}"\n')
        for token, code in ((TOKENS[0], FAILED), (TOKENS[ROLES.index("stop")], OK)):
            monkeypatch.setenv("SUREFIRE_TOKEN", token.secret.reveal())
            assert await trio.to_thread.run_sync(run.main, ["stop", "--config", str(config)]) == code
            told = capsys.readouterr()
            assert token.secret.reveal() not in told.out + told.err
            assert ("the role stop" in told.err) == (code == FAILED)
        monkeypatch.delenv("SUREFIRE_TOKEN")
        assert await trio.to_thread.run_sync(run.main, ["stop", "--config", str(config)]) == FAILED
        nursery.cancel_scope.cancel()
    assert len(engine.asked) == 1


def section_with(*envs: str, **more: object) -> ApiSection:
    tokens = tuple(ApiTokenSection(name=env.lower(), roles=("read",), env=env) for env in envs)
    return ApiSection(tokens=tokens, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "A_TOKEN, for the token a_token of the API, is not set"),
        ("canary-short", "A_TOKEN must hold 20 to 512"),
        ("canary " * 5, "A_TOKEN must hold 20 to 512"),
        ("canary-\xe9" + "x" * 20, "A_TOKEN must hold 20 to 512"),
        ("canary" * 100, "A_TOKEN must hold 20 to 512"),
    ],
)
def test_a_token_that_is_missing_or_weak_keeps_the_engine_from_starting(value: str, words: str) -> None:
    with pytest.raises(TermsProblem, match=words) as caught:
        terms_of(section_with("A_TOKEN"), {"A_TOKEN": value})
    assert "canary" not in str(caught.value)


def test_one_token_under_two_names_is_refused_and_two_are_taken() -> None:
    one, two = "x" * 30, "y" * 30
    with pytest.raises(TermsProblem, match="are the same"):
        terms_of(section_with("A", "B"), {"A": one, "B": one})
    terms = terms_of(section_with("A", "B"), {"A": one, "B": two})
    assert [token.name for token in terms.tokens] == ["a", "b"]
    assert terms.per_second == 500
    assert terms_of(ApiSection(), {}).per_second == 0
    assert terms_of(ApiSection(host="0.0.0.0", insecure=True), {}).per_second == 500
    assert terms_of(ApiSection(requests_per_second=7), {}).per_second == 7


@pytest.mark.parametrize(
    ("section", "told"),
    [
        (ApiSection(host="0.0.0.0", insecure=True), ["whoever reaches the API may trade", "without TLS"]),
        (section_with("A", host="0.0.0.0", insecure=True), ["without TLS"]),
        (section_with("A", host="0.0.0.0", tls_cert="c", tls_key="k"), []),
        (ApiSection(), []),
        (ApiSection(host="::1", insecure=True), []),
    ],
)
def test_what_is_insecure_is_said_loudly(section: ApiSection, told: list[str]) -> None:
    with structlog.testing.capture_logs() as lines:
        warn_of_insecurity(section)
    assert len(lines) == len(told)
    for line, words in zip(lines, told, strict=True):
        assert line["log_level"] == "error" and line["event"].startswith("INSECURE") and words in line["event"]


def test_a_certificate_of_no_use_keeps_the_engine_from_starting(tmp_path: Path) -> None:
    cert, key = certificate(tmp_path)
    assert terms_of(ApiSection(tls_cert=cert, tls_key=key), {}).tls_cert == cert
    for wrong in ((cert, cert), (key, key), (cert, str(tmp_path / "none")), (str(tmp_path / "none"), key)):
        with pytest.raises(TermsProblem, match="cannot be used"):
            terms_of(ApiSection(tls_cert=wrong[0], tls_key=wrong[1]), {})
