"""A small run of each measurement, so that none rots: counts agree and ratios are sane, whatever the machine."""

import argparse
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench import __main__ as bench
from bench import core, durable, exchange, kafka, memory, path, peers, recovery, submitters, sustained, takeover, tap
from bench.figures import figures, ratio
from engine.runtime.websocket import text_frame
from tests.postgres import ENVIRONMENT, Server

if TYPE_CHECKING:
    from tests.kafka import Broker


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> "Broker":
    return request.getfixturevalue("kafka")  # whose name is the measurement's here


def options(module: object, *given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    module.add_options(parser)  # type: ignore[attr-defined]
    return parser.parse_args(given)


def ordered(of: path.Figures) -> bool:
    return 0 < of.p50 <= of.p90 <= of.p99 <= of.p999 <= of.max


@pytest.mark.parametrize(("orders", "durability"), [("resting", "power"), ("fills", "process")])
def test_no_signal_is_lost_on_the_path_and_every_figure_has_its_floor(tmp_path: Path, orders: str, durability: str):
    given = (
        "--rate",
        "100",
        "--seconds",
        "0.5",
        "--warm-up",
        "20",
        "--rounds",
        "1",
        "--orders",
        orders,
        "--durability",
        durability,
    )
    report = path.run(path.terms_of(options(path, *given, "--folder", str(tmp_path))))
    assert (report.signals, report.accepted, report.complete, report.rested) == (70, 70, True, True)
    assert report.stages.keys() >= {path.OWN, path.PUBLISHED, path.OUTSIDE}
    assert all(stage.count == 50 and ordered(stage) for stage in report.stages.values())
    assert report.stages[path.OUTSIDE].p50 > report.stages[path.OWN].p50 > report.stages["arrival -> judged"].p50
    assert all(floor.count == 50 and ordered(floor) for floor in report.floors.values())
    assert report.over_commit is not None and isfinite(report.over_commit.p50) and report.over_commit.p50 > 0
    assert report.over_round_trip is not None and report.outside_over_both is not None
    assert 1_000 < report.commit_bytes < 20_000
    assert (report.fills >= 70) == (orders == "fills")
    assert path.lines(report)[-1].startswith(f"{report.commit_bytes} bytes")


def test_a_rate_that_is_kept_up_with_counts_as_sustained(tmp_path: Path):
    given = ("--rate", "50", "--seconds", "0.4", "--warm-up", "10", "--folder", str(tmp_path))
    report = sustained.measure(options(sustained, *given))
    assert [step.report.complete for step in report.steps] == [True]
    assert report.sustained_rate == (50.0 if report.steps[0].sustained else 0.0)


def test_the_local_exchange_has_a_cost_for_every_way_to_an_order():
    report = exchange.measure(options(exchange, "--orders", "20", "--connections", "2"))
    assert report.ways.keys() == report.per_second.keys() == exchange.WAYS.keys()
    assert all(way.count == 20 and ordered(way) for way in (*report.ways.values(), *report.floors.values()))
    assert all(rate > 0 for rate in report.per_second.values())
    assert len(exchange.lines(report)) == 1 + 2 * len(exchange.WAYS) + len(exchange.FLOORS)


@pytest.mark.parametrize("face", peers.FACES)
def test_every_client_gets_every_order_to_the_exchange_once(tmp_path: Path, face: str):
    given = ("--venue", face, "--rate", "50", "--seconds", "0.4", "--rounds", "2", "--warm-up", "5")
    report = peers.measure(options(peers, *given, "--folder", str(tmp_path)))
    found = report.faces[face]
    assert found.complete and report.complete, found.lost
    assert list(found.clients) == [*submitters.WAYS[face], peers.ENGINE, peers.ENGINE_REST]
    for client in found.clients.values():
        assert (client.own.count, client.outside.count) == (20, 20) and ordered(client.own) and ordered(client.answered)
        assert client.typical.count == 20 and client.own.p50 > 0 and client.cpu_us > 0
    assert found.clients[peers.ENGINE].adapter is not None
    others = len(found.clients) - 5
    assert len(found.ratios) == others and all(of.p50 > 0 for of in found.ratios.values())
    assert len(peers.lines(report)) >= 3 * len(found.clients)


def test_a_tap_knows_each_order_by_its_first_byte_whatever_pieces_it_came_in():
    body = b'{"symbol":"BTCUSDT", "orderLinkId": "one"}'
    head = b"POST /v5/order/create HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    query = b"POST /api/v3/order?newClientOrderId=two&x=1 HTTP/1.1\r\ncontent-length: 0\r\n\r\n"
    upgrade = b"GET /ws HTTP/1.1\r\nUpgrade: websocket\r\n\r\n"
    frames = text_frame(b'{"newClientOrderId":"three"}', 0x01020304) + text_frame(b'{"orderLinkId":"four"}' * 9, 5)
    said = b"GET /v5/order?orderLinkId=asked HTTP/1.1\r\n\r\n" + head + body + query + upgrade + frames
    stream = tap.Stream()
    for at, byte in enumerate(said):
        stream.hear(bytes((byte,)), at)
    wanted = {b"one": said.index(head), b"two": said.index(query), b"three": len(said) - len(frames)}
    found = {}
    for offset, text in tap.messages(bytes(stream.said)):
        order = tap._ORDER_ID.search(text)
        assert order is not None
        found[order[1]] = stream.moment(offset)
    assert found.pop(b"four") == len(said) - len(text_frame(b'{"orderLinkId":"four"}' * 9, 5))
    assert found == wanted


def test_every_pure_part_has_a_cost(tmp_path: Path):
    report = core.measure(options(core, "--calls", "5", "--rounds", "1"))
    assert [cost.name for cost in report.costs] == list(core.PARTS)
    assert all(cost.ns > 0 for cost in report.costs)


def test_an_idle_symbol_costs_something_and_not_much(tmp_path: Path):
    report = memory.measure(options(memory, "--symbols", "300", "--traced", "--folder", str(tmp_path)))
    assert report.symbols == 300
    assert 1 < report.kib_each < 20


def test_a_start_with_a_past_becomes_ready_and_quiet(tmp_path: Path):
    report = recovery.measure(options(recovery, "--signals", "400", "--starts", "1", "--folder", str(tmp_path)))
    assert (report.signals, report.complete, len(report.ready_seconds)) == (400, True, 1)
    assert report.facts > 5 * report.signals
    assert 0 < report.ready_seconds[0] < report.process_seconds[0]


def test_the_figures_can_be_written_to_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert bench.main(["core", "--calls", "2", "--rounds", "1", "--json", str(tmp_path / "core.json")]) == 0
    assert "client order id" in capsys.readouterr().out
    assert '"ns":' in (tmp_path / "core.json").read_text()


def test_percentiles_and_ratios_are_those_of_the_durations():
    slow, fast = figures(range(2_000, 202_000, 2_000)), figures([1_000] * 10)
    assert (slow.count, round(slow.p50), round(slow.max)) == (100, 100, 200)
    found = ratio(slow, fast)
    assert found is not None and 95 < found.p50 < 105
    assert ratio(slow, figures([])) is None


def test_a_message_of_kafkas_comes_to_the_wire_once_and_its_way_has_its_floor(tmp_path: Path, broker: "Broker"):
    given = ("--rate", "50", "--seconds", "0.4", "--rounds", "2", "--warm-up", "5", "--folder", str(tmp_path))
    report = kafka.measure(options(kafka, *given, "--servers", broker.cluster.servers))
    assert report.complete and report.signals == 25
    for of in (report.own, report.outside, report.bare_own, report.bare_outside, *report.stages.values()):
        assert of.count == 20 and ordered(of)
    assert report.outside.p50 > report.own.p50 > report.stages["handed over -> judged"].p50
    assert report.over_bare is not None and report.over_bare.p50 > 1
    assert report.processors is not None and {"engine", "exchange", "tap", "sender"} <= report.processors.ours.keys()
    assert report.processors.ours["engine"] > 0 and report.processors.others >= 0
    assert kafka.lines(report)[-1].startswith("target: own share p99 under 3000 us")


def test_a_durable_intent_on_a_server_has_its_floor(postgres: Server, monkeypatch: pytest.MonkeyPatch):
    name, password = next(iter(ENVIRONMENT.items()))
    monkeypatch.setenv(name, password)
    given = ("--seconds", "0.2", "--rounds", "2", "--url", postgres.url, "--password-env", name)
    report = durable.measure(options(durable, *given))
    assert report.intent.count == report.bare.count == 40
    assert ordered(report.intent) and ordered(report.bare)
    assert 1_000 < report.commit_bytes < 20_000
    assert report.over_bare is not None and durable.lines(report)[-1].startswith("target: p99 within 2x")


def test_a_take_over_is_timed_from_the_kill(postgres: Server):
    report = takeover.measure(options(takeover, "--rounds", "1", "--lease-seconds", "1"))
    assert report.complete and len(report.kill_seconds) == 1
    assert report.hand_over_seconds > 0 and report.kill_seconds[0] > 0
    assert takeover.lines(report)[-1].startswith("target: within 6 s of a kill")
