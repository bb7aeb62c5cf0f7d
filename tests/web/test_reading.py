"""What can be read over the API, on a real loopback socket."""

import pytest

from engine.core.messages import DeadLettered, Refusal
from engine.runtime.journal.base import Record
from tests.web.world import NOON, Engine, api

BASE = "/api/execution"


async def test_health_says_what_is_well_and_what_is_not() -> None:
    engine = Engine()
    async with api(engine) as client:
        answer = await client.get("/health")
        assert answer.status_code == 200
        body = answer.json()
        assert (body["live"], body["protective_ready"], body["entry_ready"]) == (True, True, True)
        assert body["components"][1] == {"name": "venue", "ok": False, "detail": "no answer", "lag": None}
        assert body["started_at"] == "2024-08-08T12:00:00.000000000Z"
        engine.live = False
        assert (await client.get("/health")).status_code == 503


async def test_positions_stand_at_the_market_and_flat_ones_only_on_request() -> None:
    async with api(Engine()) as client:
        (position,) = (await client.get(f"{BASE}/positions")).json()["positions"]
        assert position["mark"] == "2460.5"
        assert position["unrealised"] == "5.25"  # 0.5 * 2460.5 - 1225
        assert (position["side"], position["qty"], position["net"]) == ("buy", "0.5", "-0.67")
        both = (await client.get(f"{BASE}/positions", params={"all": "true"})).json()["positions"]
        assert [(p["symbol"], p["mark"], p["unrealised"]) for p in both] == [
            ("ETHUSDT", "2460.5", "5.25"),
            ("BTCUSDT", None, "0"),
        ]
        assert (await client.get(f"{BASE}/positions", params={"account": "other"})).json() == {"positions": []}


async def test_orders_show_every_field_and_can_be_narrowed() -> None:
    async with api(Engine()) as client:
        orders = (await client.get(f"{BASE}/orders")).json()["orders"]
        assert [o["cid"] for o in orders] == ["sf1entry", "sf1stop"]
        assert orders[1]["filled_qty"] == "0"  # a default, which the journal leaves out
        assert orders[1]["submitted_at"] == "2024-08-08T12:00:00.001000000Z"
        assert orders[1]["closed_at"] is None
        live = (await client.get(f"{BASE}/orders", params={"live": "true"})).json()["orders"]
        assert [o["cid"] for o in live] == ["sf1stop"]
        for query in ({"account": "nobody"}, {"symbol": "BTCUSDT"}):
            assert (await client.get(f"{BASE}/orders", params=query)).json() == {"orders": []}


async def test_trades_come_in_pages_that_lead_through_all_of_them_once() -> None:
    async with api(Engine()) as client:
        seen: list[str] = []
        address: str | None = f"{BASE}/trades?limit=3&account=paper"
        while address:
            page = (await client.get(address)).json()
            seen += [t["trade_id"] for t in page["trades"]]
            address = page["next"]
        assert seen == [f"paper/ETHUSDT/{n}" for n in range(7, 0, -1)]


async def test_a_trade_is_found_by_its_id_with_slashes() -> None:
    async with api(Engine()) as client:
        assert (await client.get(f"{BASE}/trades/paper/ETHUSDT/3")).json()["realised"] == "10"
        assert (await client.get(f"{BASE}/trades/paper%2FETHUSDT%2F3")).json()["realised"] == "10"
        missing = await client.get(f"{BASE}/trades/paper/ETHUSDT/99")
        assert missing.status_code == 404
        reasons = [{"field": "", "reason": "there is no trade 'paper/ETHUSDT/99'"}]
        assert missing.json() == {"error": "not found", "reasons": reasons}


async def test_every_line_of_the_signals_leads_to_its_explanation() -> None:
    async with api(Engine()) as client:
        signals = (await client.get(f"{BASE}/signals")).json()["signals"]
        assert [(s["signal_id"], s["outcome"]) for s in signals] == [("s/2:17", "refused"), ("s-1", "executed")]
        assert signals[0]["reasons"] == ["RSK6.price_deviation_max"]
        for line in signals:
            assert (await client.get(line["href"])).json()["signal_id"] == line["signal_id"]
        assert (await client.get(f"{BASE}/signals/never-seen")).status_code == 404


async def test_an_id_of_a_dead_letter_is_told_with_what_was_wrong() -> None:
    engine = Engine()
    letter = DeadLettered(
        at_ns=NOON,
        source="file",
        reasons=(Refusal("colour", "is not known"),),
        raw="{}",
        signal_id="s-9",
        place="file:120",
    )
    engine.reader.chain.append(Record(seq=999, at_ns=NOON, fact=letter, hash=b""))
    async with api(engine) as client:
        answer = await client.get(f"{BASE}/signals/s-9")
        assert answer.status_code == 404
        told = answer.json()["reasons"][0]["reason"]
        assert "2024-08-08" in told and "file (file:120)" in told and "colour: is not known" in told


async def test_an_explanation_is_whole_and_comes_as_text_too() -> None:
    async with api(Engine()) as client:
        told = (await client.get(f"{BASE}/signals/s-1")).json()
        assert [c["rule"] for c in told["verdict"]["checks"]] == ["RSK1.symbol", "RSK4.order_notional_max"]
        assert told["verdict"]["checks"][1]["limit"] == "60000"
        assert [s["fact"]["type"] for s in told["steps"]][:3] == ["SignalReceived", "Judged", "Submitted"]
        assert [s["since_previous_ns"] for s in told["steps"]] == [0, 1e6, 0, 4e6, 1e6, 0, 3e6]
        assert told["confirmation"]["avg_price"] == "2450"
        assert [o["cid"] for o in told["orders"]] == ["sf1entry"]
        text = await client.get(f"{BASE}/signals/s-1", params={"format": "text"})
        assert text.headers["content-type"].startswith("text/plain")
        assert text.text.startswith("signal s-1: executed, 0.5 of 0.5 filled at 2450")
        assert (await client.get(f"{BASE}/signals/s-1", params={"format": "xml"})).status_code == 400


async def test_accounts_limits_and_halts_are_listed() -> None:
    engine = Engine()
    async with api(engine) as client:
        assert (await client.get(f"{BASE}/accounts")).json()["accounts"][0]["day"] == "2024-08-08"
        (row,) = (await client.get(f"{BASE}/limits")).json()["limits"]
        assert (row["version"], row["limits"]["daily_loss_max"]) == (1, "500")
        (used,) = (await client.get(f"{BASE}/usage")).json()["accounts"]["paper"]
        assert (used["rule"], used["value"], used["limit"]) == ("RSK4.positions_max", "1", "3")
        assert (await client.get(f"{BASE}/halts")).json() == {"halts": []}
        await client.post(f"{BASE}/stop", json={"reason": "lunch"})
        (halt,) = (await client.get(f"{BASE}/halts")).json()["halts"]
        assert (halt["scope"], halt["reason"], halt["since_at"]) == (
            "engine",
            "lunch",
            "2024-08-08T12:00:00.000000000Z",
        )


async def test_performance_is_told_in_all_and_by_part() -> None:
    async with api(Engine()) as client:
        body = (await client.get(f"{BASE}/metrics")).json()
        assert (body["total"]["trades"], body["total"]["wins"], body["total"]["net_total"]) == (7, 4, "28")
        assert body["by_symbol"]["ETHUSDT"]["slippage_average"] == "0.0004"
        assert list(body["by_source"]) == ["http"]


async def test_latency_and_dump_are_json() -> None:
    engine = Engine()
    engine.tally.lag(5_000_000, 1)
    async with api(engine) as client:
        body = (await client.get(f"{BASE}/latency")).json()
        assert body["stages"]["loop_lag"]["max_ns"] == 5_000_000
        assert body["stalls"] == 1
        assert (await client.get(f"{BASE}/dump")).json()["orders"][0]["cid"] == "sf1stop"


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=ten", "before=-1"])
async def test_a_parameter_out_of_range_is_named(query: str) -> None:
    async with api(Engine()) as client:
        answer = await client.get(f"{BASE}/trades?{query}")
        assert answer.status_code == 400
        assert answer.json()["reasons"][0]["field"] == query.split("=")[0]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nowhere", 404),
        ("DELETE", f"{BASE}/orders", 405),
        ("GET", f"{BASE}/stop", 405),
        ("POST", "/health", 405),
    ],
)
async def test_a_wrong_address_or_method_is_an_error_in_our_form(method: str, path: str, status: int) -> None:
    async with api(Engine()) as client:
        answer = await client.request(method, path)
        assert answer.status_code == status
        assert set(answer.json()) == {"error", "reasons"}
