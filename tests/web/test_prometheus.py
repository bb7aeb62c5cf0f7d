"""The Prometheus text: readable by its own parser, and with the right numbers in it."""

from decimal import Decimal

from prometheus_client.parser import text_string_to_metric_families

from engine.core.messages import Check, Halt, Judged, Leg, Outcome, Timed
from tests.web.world import NOON, Engine, a_story, api


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_the_text_parses_and_shows_stages_counters_health_and_positions() -> None:
    engine = Engine()
    for fact in a_story()[1]:
        engine.tally.fact(fact)
    engine.tally.fact(Judged(at_ns=1, signal_id="x", outcome=Outcome.REFUSED, checks=(Check("RSK1.symbol", False),)))
    for took_ms in range(1, 101):
        engine.tally.timed(Timed("paper", "ETHUSDT", Leg.ENTRY, received=1, wire=1 + took_ms * 1_000_000))
    engine.tally.lag(200_000_000, 100_000_000)
    engine.halts["engine"] = Halt("engine", 'a "quoted" reason', NOON, "ada")
    async with api(engine) as client:
        answer = await client.get("/metrics")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    found = samples(answer.text)

    def one(name: str, **labels: str) -> float:
        return found[name, tuple(sorted(labels.items()))]

    assert abs(one("surefire_stage_seconds", stage="arrival_wire", quantile="0.5") - 0.050) < 0.0001
    assert abs(one("surefire_stage_seconds", stage="arrival_wire", quantile="0.99") - 0.099) < 0.0001
    assert one("surefire_stage_seconds_count", stage="arrival_wire") == 100
    assert abs(one("surefire_stage_seconds_sum", stage="arrival_wire") - 5.05) < 0.0001
    assert one("surefire_facts_total", fact="Filled") == 1
    assert one("surefire_verdicts_total", outcome="refused") == 1
    assert one("surefire_refusals_total", rule="RSK1.symbol") == 1
    assert one("surefire_orders_ended_total", ending="filled") == 1
    assert one("surefire_fills_quote_total", account="paper", symbol="ETHUSDT") == float(Decimal("1225"))
    assert one("surefire_ready", kind="entry") == 0
    assert one("surefire_component_ok", component="venue") == 0
    assert one("surefire_halt", scope="engine", by="ada") == 1
    assert one("surefire_stream_up", account="paper") == 1
    assert one("surefire_channel_used", channel="gate") == 1
    assert one("surefire_journal_seq", state="durable") == 12
    assert one("surefire_loop_stalls_total") == 1
    assert one("surefire_build_info", version="0.1.0", durability="power") == 1
    assert one("surefire_position_unrealised_quote", account="paper", symbol="ETHUSDT") == 5.25
    assert abs(one("surefire_account_net_quote", account="paper") - 9.33) < 1e-9  # the flat symbol's too
    assert ("surefire_position_qty", (("account", "paper"), ("symbol", "BTCUSDT"))) not in found
    assert not any(name.endswith("_created") for name, _ in found)


async def test_stages_that_nothing_has_passed_have_a_count_of_zero_and_no_percentiles() -> None:
    async with api(Engine()) as client:
        found = samples((await client.get("/metrics")).text)
    assert found["surefire_stage_seconds_count", (("stage", "arrival_wire"),)] == 0
    assert not any("quantile" in dict(labels) for _, labels in found)
