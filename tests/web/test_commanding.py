"""What changes something over the API: signals in, and a person steering."""

from decimal import Decimal

import httpx
import pytest
import trio

from engine.runtime.journal.base import JournalFailed
from tests.web.world import Engine, api, exchange

BASE = "/api/execution"
JSON = {"Content-Type": "application/json"}


async def test_a_signal_goes_in_as_the_bytes_that_came() -> None:
    engine = Engine()
    raw = b'{"signal_id": "new-1",  "price": 1.10}'
    async with api(engine) as client:
        answer = await client.post(f"{BASE}/order", content=raw, headers=JSON | {"X-Trace-Id": "trace-7"})
        assert answer.status_code == 202
        assert answer.json() == {"status": "accepted", "signal_id": "new-1"}
        assert answer.headers["x-trace-id"] == "trace-7"
        assert answer.headers["content-type"] == "application/json"
    assert engine.submitted == [(raw, "trace-7")]


async def test_a_repeat_gets_the_first_outcome_and_its_trace() -> None:
    async with api(Engine()) as client:
        answer = await client.post(f"{BASE}/order", json={"signal_id": "s-1"})
        assert (answer.status_code, answer.headers["x-trace-id"]) == (200, "t-1")


async def test_the_trace_of_a_traceparent_is_carried() -> None:
    engine = Engine()
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    async with api(engine) as client:
        await client.post(f"{BASE}/order", content=b"{}", headers=JSON | {"traceparent": parent, "X-Trace-Id": "own"})
        await client.post(f"{BASE}/order", json={"signal_id": "a"}, headers={"traceparent": parent})
        await client.post(f"{BASE}/order", json={"signal_id": "a"}, headers={"traceparent": "00-nonsense"})
    assert [trace for _, trace in engine.submitted] == ["own", "4bf92f3577b34da6a3ce929d0e0e4736", None]


async def test_a_body_that_is_no_json_goes_to_the_edge_which_says_why() -> None:
    engine = Engine()
    async with api(engine) as client:
        answer = await client.post(f"{BASE}/order", content=b'{"signal_id": ', headers=JSON)
        assert (answer.status_code, answer.json()["status"]) == (422, "malformed")
    assert engine.submitted == [(b'{"signal_id": ', None)]


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"])
async def test_another_content_type_is_not_taken(content_type: str) -> None:
    engine = Engine()
    async with api(engine) as client:
        answer = await client.post(f"{BASE}/order", content=b"{}", headers={"Content-Type": content_type})
        assert answer.status_code == 415
        assert "application/json" in answer.json()["reasons"][0]["reason"]
    assert engine.submitted == []


async def test_json_with_a_charset_or_a_suffix_is_taken() -> None:
    async with api(Engine()) as client:
        for content_type in ("application/json; charset=utf-8", "application/cloudevents+json"):
            answer = await client.post(
                f"{BASE}/order", content=b'{"signal_id": "n"}', headers={"Content-Type": content_type}
            )
            assert answer.status_code == 202


@pytest.mark.parametrize("told", [True, False])
async def test_a_body_over_a_mebibyte_is_not_taken_whether_its_length_is_told_or_not(told: bool) -> None:
    engine = Engine()
    head = b"POST /api/execution/order HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    if told:
        request = head + b"Content-Length: 1048577\r\n\r\n"
    else:
        request = head + b"Transfer-Encoding: chunked\r\n\r\n" + 11 * (b"186a0\r\n" + b"x" * 100_000 + b"\r\n")
    async with api(engine) as client:
        answer = await exchange(client, request, b"}]}")
        assert answer.startswith(b"HTTP/1.1 413")
        assert b"larger than 1048576 bytes" in answer and b"\r\nconnection: close\r\n" in answer.lower()
        assert [why for _, why in engine.turned_away] == ["is larger than 1048576 bytes"]  # kept as a dead letter
        fits = await client.post(f"{BASE}/order", json={"signal_id": "n", "pad": "x" * 1_000_000})
        assert fits.status_code == 202
    assert len(engine.submitted) == 1


async def test_a_trace_id_that_no_log_could_carry_is_refused() -> None:
    engine = Engine()
    async with api(engine) as client:
        for bad in ("two words", "x" * 129, 'quote"'):
            answer = await client.post(f"{BASE}/order", json={}, headers={"X-Trace-Id": bad})
            assert answer.status_code == 400
            assert "X-Trace-Id" in answer.json()["reasons"][0]["reason"]
    assert engine.submitted == []


async def test_a_stop_needs_no_body_and_flattens() -> None:
    engine = Engine()
    async with api(engine) as client:
        answer = await client.post(f"{BASE}/stop")
        assert answer.status_code == 200
        body = answer.json()
        assert (body["complete"], body["halts"][0]["scope"]) == (True, "engine")
    assert engine.asked == [("stop", "api", "asked for over the API", True)]


async def test_a_stop_that_left_something_says_so_in_its_status() -> None:
    engine = Engine()
    engine.left = True
    async with api(engine) as client:
        answer = await client.post(f"{BASE}/stop", json={"by": "ada", "reason": "fire", "flatten": False})
        assert answer.status_code == 202
        assert answer.json()["left"][0]["positions"][0]["qty"] == "0.5"
    assert engine.asked == [("stop", "ada", "fire", False)]


async def test_a_stop_works_while_every_other_part_is_broken() -> None:
    engine = Engine()
    engine.reader = None  # type: ignore[assignment]
    engine.health = None  # type: ignore[assignment, method-assign]
    async with api(engine) as client:
        assert (await client.get(f"{BASE}/orders")).status_code == 500
        assert (await client.post(f"{BASE}/stop")).status_code == 200


async def test_a_stop_is_carried_out_even_if_who_asked_hangs_up() -> None:
    engine = Engine()
    engine.may_stop = trio.Event()
    async with api(engine) as client:
        async with await trio.open_tcp_stream("127.0.0.1", client.base_url.port or 0) as stream:
            await stream.send_all(b"POST /api/execution/stop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
            while not engine.asked:  # noqa: ASYNC110
                await trio.sleep(0.01)
        await trio.sleep(0.03)
        assert engine.stopped.is_set() is False
        engine.may_stop.set()
        await engine.stopped.wait()


@pytest.mark.parametrize(
    ("body", "field", "reason"),
    [
        (b'{"flatten": "false"}', "flatten", "Expected `bool`, got `str`"),
        (b'{"flatten": 0}', "flatten", "Expected `bool`, got `int`"),
        (b'{"flaten": false}', "", "Object contains unknown field `flaten`"),
        (b'{"flatten": fal', "", "Input data was truncated"),
        (b'{"by": "\xff"}', "", "codec can't decode byte 0xff"),
        (b"null", "", "Expected `object`, got `null`"),
    ],
)
async def test_a_stop_with_a_body_that_makes_no_sense_is_not_guessed(body: bytes, field: str, reason: str) -> None:
    engine = Engine()
    async with api(engine) as client:
        answer = await client.post(f"{BASE}/stop", content=body, headers=JSON)
        assert answer.status_code == 400
        (told,) = answer.json()["reasons"]
        assert told["field"] == field
        assert reason in told["reason"]
    assert engine.asked == []


async def test_resume_ends_a_halt_and_tells_those_that_stand() -> None:
    engine = Engine()
    async with api(engine) as client:
        await client.post(f"{BASE}/stop")
        answer = await client.post(f"{BASE}/resume", json={"by": "ada", "note": "checked", "kind": "stop"})
        body = answer.json()
        assert (answer.status_code, body["halts"], body["remains"]) == (200, [], ["a loss: ..."])
        assert [(h["scope"], h["by"]) for h in body["ended"]] == [("engine", "api")]
        again = await client.post(f"{BASE}/resume", json={"scope": "account/paper"})
        assert again.status_code == 404
        assert again.json()["reasons"][0]["reason"] == "no halt of 'account/paper' is in force"
    assert engine.asked[1:] == [
        ("resume", "engine", "ada", "checked", "stop"),
        ("resume", "account/paper", "api", "", None),
    ]


async def test_flatten_and_close_name_what_they_are_about() -> None:
    engine = Engine()
    async with api(engine) as client:
        assert (await client.post(f"{BASE}/flatten", json={"symbol": "ETHUSDT", "reason": "x"})).status_code == 200
        assert (await client.post(f"{BASE}/positions/paper/ETHUSDT/close", json={"by": "ada"})).status_code == 200
        assert (await client.post(f"{BASE}/positions/paper/BTCUSDT/close")).status_code == 404
    assert engine.asked == [
        ("flatten", None, "ETHUSDT", "api", "x"),
        ("close", "paper", "ETHUSDT", "ada"),
        ("close", "paper", "BTCUSDT", "api"),
    ]


async def test_limits_change_one_by_one_exactly_and_under_a_name() -> None:
    engine = Engine()
    async with api(engine) as client:
        answer = await client.patch(
            f"{BASE}/limits/paper",
            content=b'{"daily_loss_max": 0.1, "positions_max": 2, "symbols": ["ETHUSDT"]}',
            headers={"X-Operator": "ada"},
        )
        assert answer.status_code == 200
        limits = answer.json()["limits"]
        assert (limits["daily_loss_max"], limits["positions_max"], limits["symbols"]) == ("0.1", 2, ["ETHUSDT"])
        assert limits["drawdown_max"] == "0.1"
    changes = {"daily_loss_max": Decimal("0.1"), "positions_max": 2, "symbols": ("ETHUSDT",)}
    assert engine.asked == [("limits", "paper", changes, "ada")]


async def test_putting_limits_sets_the_rest_to_the_defaults() -> None:
    engine = Engine()
    async with api(engine) as client:
        await client.patch(f"{BASE}/limits/paper", json={"positions_max": 9})
        answer = await client.put(f"{BASE}/limits/paper", json={"daily_loss_max": "250"})
        limits = answer.json()["limits"]
        assert (limits["positions_max"], limits["daily_loss_max"]) == (3, "250")


async def test_every_limit_that_is_wrong_is_named_at_once() -> None:
    engine = Engine()
    body = (
        b'{"daily_loss": "5", "positions_max": "3", "exposure_max": -1, "leverage_max": "NaN", '
        b'"loss_latch": "never", "drawdown_max": 1e400, "orders_per_day": 7}'
    )
    async with api(engine) as client:
        answer = await client.patch(f"{BASE}/limits/paper", content=body)
        assert answer.status_code == 422
        reasons = {r["field"]: r["reason"] for r in answer.json()["reasons"]}
    assert list(reasons) == [
        "daily_loss",
        "positions_max",
        "exposure_max",
        "leverage_max",
        "loss_latch",
        "drawdown_max",
    ]
    assert "daily_loss_max" in reasons["daily_loss"]
    assert engine.asked == []


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"null", b'{"\xff": 1}'])
async def test_a_change_of_limits_is_an_object(body: bytes) -> None:
    async with api(Engine()) as client:
        assert (await client.patch(f"{BASE}/limits/paper", content=body)).status_code == 400
        assert (await client.put(f"{BASE}/limits/paper", content=body)).status_code == 400


async def test_a_limit_given_twice_is_refused_for_nobody_knows_which_was_meant() -> None:
    engine = Engine()
    async with api(engine) as client:
        answer = await client.patch(f"{BASE}/limits/paper", content=b'{"positions_max": 1, "positions_max": 100}')
        assert answer.status_code == 422
        assert answer.json()["reasons"] == [{"field": "positions_max", "reason": "is given more than once"}]
    assert engine.asked == []


@pytest.mark.parametrize("place", ["limits/paper", "stop"])
async def test_a_body_nested_too_deep_is_a_bad_request(place: str) -> None:
    body = b'{"positions_max":' + b"[" * 20_000 + b"]" * 20_000 + b"}"
    async with api(Engine()) as client:
        answer = await client.request("PATCH" if "limits" in place else "POST", f"{BASE}/{place}", content=body)
        assert answer.status_code == 400 and answer.json()["reasons"]


async def test_so_many_unknown_limits_that_looking_up_their_neighbours_would_hold_up_the_engine() -> None:
    many = b"{" + b",".join(b'"x%d":1' % n for n in range(5_000)) + b"}"
    async with api(Engine()) as client:
        answer = await client.patch(f"{BASE}/limits/paper", content=many)
        assert answer.status_code == 422 and len(answer.json()["reasons"]) == 50
        longer = await client.patch(f"{BASE}/limits/paper", content=many * 2)
        assert longer.status_code == 400 and "larger than" in longer.json()["reasons"][0]["reason"]


async def test_an_unknown_path_beside_the_document_is_told_in_json_too() -> None:
    async with api(Engine()) as client:
        answer = await client.get("/schema/nothing")
        assert answer.status_code == 404 and answer.json()["reasons"]


async def test_a_change_of_nothing_is_refused_and_all_defaults_are_not() -> None:
    async with api(Engine()) as client:
        assert (await client.patch(f"{BASE}/limits/paper", json={})).status_code == 422
        assert (await client.put(f"{BASE}/limits/paper", json={})).status_code == 200


async def test_limits_of_no_account_and_limits_against_each_other_are_refused() -> None:
    async with api(Engine()) as client:
        assert (await client.patch(f"{BASE}/limits/nobody", json={"positions_max": 1})).status_code == 404
        crossed = await client.patch(f"{BASE}/limits/paper", json={"stop_distance_min": "0.5"})
        assert crossed.status_code == 422
        assert crossed.json()["reasons"][0]["field"] == "stop_distance_min"


async def test_a_journal_that_failed_is_said_and_a_fault_of_ours_shows_no_trace() -> None:
    engine = Engine()
    async with api(engine) as client:
        engine.broken = JournalFailed("the disk is full: var/journal.db")
        full = await client.post(f"{BASE}/order", json={"signal_id": "n"})
        assert (full.status_code, full.json()["reasons"][0]["reason"]) == (503, "the disk is full: var/journal.db")
        engine.broken = KeyError("secret thing")
        fault = await client.post(f"{BASE}/order", json={"signal_id": "n"})
        assert fault.status_code == 500
        assert "secret" not in fault.text and "Traceback" not in fault.text


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "[::1", "10.0.0.1:8002"])
async def test_a_host_that_we_are_not_is_refused(host: str) -> None:
    async with api(Engine()) as client:
        answer = await client.get("/health", headers={"Host": host})
        assert answer.status_code == 400
        assert answer.json()["reasons"][0]["field"] == "Host"


async def test_loopback_names_are_ours() -> None:
    async with api(Engine()) as client:
        for host in ("localhost:8002", "LOCALHOST", "127.0.0.1:1", "[::1]:8002"):
            assert (await client.get("/health", headers={"Host": host})).status_code == 200


async def test_a_strange_origin_may_read_nothing_into_our_state_but_its_own_may_change_it() -> None:
    engine = Engine()
    async with api(engine) as client:
        own = str(client.base_url).rstrip("/")
        for origin in ("http://evil.example", "null", "http://127.0.0.1:3000", "http://[::1"):
            answer = await client.post(f"{BASE}/stop", headers={"Origin": origin})
            assert (answer.status_code, answer.json()["reasons"][0]["field"]) == (403, "Origin")
        assert engine.asked == []
        assert (await client.post(f"{BASE}/stop", headers={"Origin": own})).status_code == 200


async def test_reads_are_never_kept_by_a_cache_nor_shared_with_other_origins() -> None:
    async with api(Engine()) as client:
        answer: httpx.Response = await client.get(f"{BASE}/orders", headers={"Origin": "http://evil.example"})
        assert answer.headers["cache-control"] == "no-store"
        assert "access-control-allow-origin" not in answer.headers
