"""The four systems it was made for, each with its shipped example: message in, order, fill, confirmation out.

Real processes, real servers, the local exchange: a signal that is executed, one that comes twice, one that is refused
with its reason, and the books of the engine equal to the exchange's truth in the end.
"""

import json
import time
import uuid
from collections.abc import Callable, Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

import pytest
from confluent_kafka import Consumer, Producer

from tests.kafka import Broker, topic
from tests.patience import PATIENCE_SECONDS
from tests.postgres import PASSWORD as JOURNAL_PASSWORD
from tests.postgres import Server
from tests.process.example_site import ENVIRONMENT, ExampleSite
from tests.process.test_ccxt import as_ccxt_tells
from tests.process.test_redis import ask, confirmations
from tests.redis import PASSWORD as REDIS_PASSWORD
from tests.redis import RedisServer
from tests.redis import running as redis_running

Confirmation = dict[str, Any]


@pytest.fixture(autouse=True)
def _keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def until(true: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> Any:
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, found
        time.sleep(0.05)
    return found


def ended_whole(site: ExampleSite) -> None:
    """At rest, ended in good order, with the exchange's truth in its books and an unbroken chain."""
    truth = site.rested()
    assert site.end() == 0
    assert site.differences(truth) == []
    assert site.run("audit", "verify").returncode == 0


# --------------------------------------------------------------------------------- (a) hedges over Kafka, Bybit futures


class Hedger:
    """The hedging service. Its topics have a name of their own, so that a broker may have others' messages, too."""

    def __init__(self, broker: Broker) -> None:
        mark = uuid.uuid4().hex[:8]
        self._trades, self._told, dead = (f"{name}.{mark}" for name in ("hedge_trades", "trade_confirmations", "dead"))
        for name in (self._trades, self._told, dead):
            topic(broker.cluster, name)
        self.there = {
            "127.0.0.1:9092": broker.cluster.servers,
            '["hedge_trades"]': f'["{self._trades}"]\ngroup = "{mark}"',
            '["trade_confirmations"]': f'["trade_confirmations"]\ntopic = "{self._told}"',
            '"hedge_trades.dead"': f'"{dead}"',
        }
        settings = broker.cluster.settings()
        self._producer = Producer(settings)
        self._consumer = Consumer(settings | {"group.id": f"hedging-{mark}", "auto.offset.reset": "earliest"})
        self._consumer.subscribe([self._told])
        self._heard: dict[str, Confirmation] = {}
        self.headers: dict[str, dict[str, bytes]] = {}

    def send(self, name: str, size: str, **more: object) -> None:
        body = {"trade_id": name, "symbol": "BTCUSDT", "size": size, **more}
        headers = {"trace_id": f"trace-{name}"}
        self._producer.produce(self._trades, json.dumps(body).encode(), "main", headers=headers)
        assert self._producer.flush(PATIENCE_SECONDS) == 0

    def confirmed(self, name: str) -> Confirmation:
        def there() -> Confirmation | None:
            message = self._consumer.poll(0.2)
            if message is not None and message.error() is None:
                event = json.loads(message.value() or b"")
                again = self._heard.setdefault(event["signal_id"], event)
                assert again == event, "two confirmations of one signal"
                self.headers[event["signal_id"]] = dict(message.headers() or ())
            return self._heard.get(name)

        found: Confirmation = until(there)
        return found

    def close(self) -> None:
        self._consumer.close()


@pytest.fixture
def hedger(kafka: Broker) -> Iterator[Hedger]:
    made = Hedger(kafka)
    yield made
    made.close()


def test_a_hedge_comes_by_kafka_is_filled_at_bybit_and_confirmed(tmp_path: Path, hedger: Hedger) -> None:
    with ExampleSite(tmp_path, "hedging", "bybit", hedger.there) as site:
        site.start()
        hedger.send("one", "0.02", side="sell", ltv="0.71", loan_id="L-12")
        told = hedger.confirmed("one")
        assert (told["outcome"], told["filled_qty"], told["side"]) == ("executed", "0.02", "sell")
        assert told["avg_price"] and told["context.ltv"] == "0.71" and hedger.headers["one"]["trace_id"] == b"trace-one"
        hedger.send("one", "0.02", side="sell", ltv="0.71", loan_id="L-12")  # the service was not sure
        hedger.send("huge", "3", side="sell")
        refused = hedger.confirmed("huge")
        assert refused["outcome"] == "refused" and "RSK4.order_max" in refused["checks_failed"]
        assert "3" in refused["reason"] and refused["filled_qty"] == "0"
        hedger.send("half", "0.01", action="unwind", side="buy")
        assert hedger.confirmed("half")["outcome"] == "executed"
        assert site.held() == Decimal("-0.01") and site.entries_at_exchange() == 2
        truth = site.rested()
        assert {p.symbol: p.qty for p in truth.positions if p.qty} == {"BTCUSDT": Decimal("-0.01")}
        hedger.send("rest", "0.01", action="unwind")
        assert hedger.confirmed("rest")["outcome"] == "executed"
        ended_whole(site)


# ---------------------------------------------------------------------- (b) decisions over Redis, Binance USD-M futures


@pytest.fixture
def redis(monkeypatch: pytest.MonkeyPatch) -> Iterator[RedisServer]:
    monkeypatch.setenv("REDIS_PASSWORD", REDIS_PASSWORD)
    yield from redis_running()


# A loaded machine may be late with an answer: that is no silence here.
PATIENT_ESS = {"timeout_seconds = 0.5": "timeout_seconds = 20\nstale_seconds = 60"}


def redis_words(server: RedisServer) -> dict[str, str]:
    return {"127.0.0.1:6379": f"127.0.0.1:{server.port}", "# password_env": "password_env"}


class RiskService(BaseHTTPRequestHandler):
    """Says how bad it is at `/api/risk/ess/status`."""

    level = "NORMAL"
    paths: ClassVar[set[str]] = set()

    def do_GET(self) -> None:
        self.paths.add(self.path)
        body = json.dumps({"level": self.level, "reason": "drawdown of the fund"}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def risk() -> Iterator[type[RiskService]]:
    class Mine(RiskService):
        paths: ClassVar[set[str]] = set()

    with ThreadingHTTPServer(("127.0.0.1", 0), Mine) as server:
        Mine.port = server.server_port  # type: ignore[attr-defined]
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield Mine
        server.shutdown()
        thread.join()


class Model:
    """The model service: writes into the streams, and reads what became of it."""

    def __init__(self, server: RedisServer) -> None:
        self._server = server

    def decide(self, name: str, price: Decimal, confidence: float = 0.82, **more: object) -> None:
        """With its stop and target, as a wrapped event."""
        levels = {"entry": float(price), "sl": float(price - price / 100), "tp": float(price + price / 40)}
        data = {"symbol": "BTC/USDT", "side": "long", "confidence": confidence, **levels, **more}
        self.say("ai.decision.made", {"type": "ai.decision.made", "id": name, "data": data})

    def close(self, name: str) -> None:
        self.say("signal.execute", {"id": name, "symbol": "BTC/USDT", "action": "close"})

    def say(self, stream: str, body: dict[str, object]) -> None:
        ask(self._server, ("xadd", stream, {"data": json.dumps(body)}))

    def confirmed(self, name: str) -> Confirmation:
        found: Confirmation = until(lambda: confirmations(self._server).get(name))
        return found

    def entries(self, stream: str) -> int:
        (found,) = ask(self._server, ("xlen", stream))
        return int(found)


def test_a_decision_comes_by_redis_and_an_emergency_stops_openers_and_lets_a_reducer_through(
    tmp_path: Path, redis: RedisServer, risk: Any
) -> None:
    model = Model(redis)
    there = redis_words(redis) | {"127.0.0.1:8010": f"127.0.0.1:{risk.port}", **PATIENT_ESS}
    with ExampleSite(tmp_path, "decisions", "binance-usdm", there) as site:
        site.start()
        assert risk.paths == {"/api/risk/ess/status"}
        model.decide("d1", site.price())
        told = model.confirmed("d1")
        assert told["outcome"] == "executed" and Decimal(told["filled_qty"]) > 0
        assert model.entries("order.placed") and model.entries("order.filled") and model.entries("trade.opened")
        model.decide("d2", site.price(), confidence=0.4)
        refused = model.confirmed("d2")
        assert refused["outcome"] == "refused" and "RSK1.confidence" in refused["checks_failed"]
        model.say("signal.execute", {"id": "d3", "symbol": "BTC/USDT", "side": "hold", "confidence": 0.9})
        assert model.confirmed("d3")["outcome"] == "recorded"

        model.say("ess.tripped", {"reason": "the risk service says CRITICAL"})
        until(lambda: not site.health()["entry_ready"])
        model.decide("d4", site.price())
        stopped = model.confirmed("d4")
        assert stopped["outcome"] == "refused" and "RSK11.halt" in stopped["checks_failed"]
        assert "ess.tripped" in stopped["reason"]
        assert site.held() == Decimal(told["filled_qty"]), "what is held stays, with its stop"
        model.close("d5")
        closed = model.confirmed("d5")
        assert (closed["outcome"], closed["filled_qty"]) == ("executed", told["filled_qty"]) and site.held() == 0
        model.say("ess.cleared", {"reason": "over"})
        site.ready()
        model.decide("d6", site.price(), quantity="0.003")
        turned = model.confirmed("d6")
        assert turned["outcome"] == "executed", turned["reason"]

        risk.level = "CRITICAL"
        until(lambda: not site.health()["entry_ready"])
        model.decide("d7", site.price(), quantity="0.002")
        blocked = model.confirmed("d7")
        assert blocked["outcome"] == "refused" and "drawdown of the fund" in blocked["reason"], blocked["reason"]
        model.close("d8")
        closed = model.confirmed("d8")
        assert (closed["outcome"], closed["filled_qty"]) == ("executed", "0.003") and site.held() == 0
        risk.level = "NORMAL"
        site.ready()
        ended_whole(site)


# ------------------------------------------- (c) enter, wait and bad over HTTP: on paper, then by ccxt with PostgreSQL


def strategy(name: str, decision: str, price: Decimal | None, **more: object) -> dict[str, object]:
    """As the strategy service posts it; with levels round a price."""
    body: dict[str, object] = {"signal_id": name, "strategy": "breakout", "symbol": "BTCUSDT", "decision": decision}
    if price is not None:
        body |= {"entry": str(price), "stop_loss": str(price - price / 100), "take_profit": str(price + price / 40)}
    return {**body, "side": "buy", "strength": 0.8, "confluence_score": 4.2, **more}


def follow_a_strategy(site: ExampleSite, price: Callable[[], Decimal | None], **more: object) -> None:
    """The same way on paper and with money."""
    enter = strategy("s1", "enter_trade", price(), **more)
    assert site.post(enter).status_code == 202
    told = site.confirmed("s1")
    assert told["outcome"] == "executed" and Decimal(told["filled_qty"]) > 0 and site.held() > 0
    again = site.post(enter)
    assert again.status_code == 200 and again.json()["outcome"] == "executed"
    assert site.post({**enter, "quote_amount": "77"}).status_code == 409  # the id of another
    for name, decision in (("s2", "wait"), ("s3", "bad")):
        assert site.post(strategy(name, decision, price(), **more)).status_code in (200, 202)
        assert site.confirmed(name)["outcome"] == "recorded"
    weak = site.post(strategy("s4", "enter_trade", price(), **more, confluence_score=2.1))
    assert weak.status_code == 422 and "RSK1.confluence" in site.confirmed("s4")["checks_failed"]
    assert site.post({"id": "m1", "symbol": "BTCUSDT", "action": "close"}).status_code == 202
    assert site.confirmed("m1")["outcome"] == "executed"


def test_enter_wait_and_bad_are_taken_on_paper(tmp_path: Path) -> None:
    with ExampleSite(tmp_path, "strategies-paper", "", {}) as site:
        site.start()
        follow_a_strategy(site, lambda: None, exchange="paper")
        assert site.end() == 0
        assert site.run("audit", "verify").returncode == 0


def test_enter_wait_and_bad_are_taken_at_an_exchange_by_ccxt_with_the_journal_on_postgres(
    tmp_path: Path, postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ccxt")
    monkeypatch.setenv("JOURNAL_PASSWORD", JOURNAL_PASSWORD)
    schema = f"surefire_{uuid.uuid4().hex[:8]}"
    there = {"postgresql://surefire@127.0.0.1:5432/surefire": postgres.url, '"surefire"': f'"{schema}"'}
    with ExampleSite(tmp_path, "strategies-spot", "binance-spot", there) as site:
        site.tell = as_ccxt_tells
        site.start()
        follow_a_strategy(site, site.price, exchange="binance")
        ended_whole(site)
    (kept,) = postgres.sql(f"SELECT count(*) FROM {schema}.signals")
    assert kept == (5,)


# ------------------------------------------------------- (d) scored signals from a file, the whole chain, Binance Spot


def test_scored_signals_go_through_the_whole_chain_and_each_refusal_has_its_numbers(tmp_path: Path) -> None:
    with ExampleSite(tmp_path, "scored", "binance-spot", {}) as site:
        site.start()

        def write(*bodies: dict[str, object]) -> None:
            with (site.folder / "signals.ndjson").open("a", encoding="utf-8") as file:
                file.write("".join(json.dumps(body) + "\n" for body in bodies))

        price = site.price()
        good = strategy("g1", "enter_trade", price, risk_share="0.001", exchange="binance")
        write(
            good,
            good,
            strategy("w1", "enter_trade", price, strength=0.3, risk_share="0.001"),
            strategy("w2", "enter_trade", price, confluence_score=2.9, risk_share="0.001"),
            strategy("w3", "enter_trade", price, take_profit=str(price + price / 200), risk_share="0.001"),
            strategy("w4", "enter_trade", price, stop_loss=str(price - price / 20), risk_share="0.001"),
            strategy("w5", "enter_trade", price, risk_share="0.5"),
            strategy("w6", "enter_trade", price, risk_share="0.001", exchange="bybit"),
            strategy("w7", "enter_trade", price, risk_share="0.001", unheard_of=1),
        )
        told = site.confirmed("g1")
        assert told["outcome"] == "executed" and told["checks_failed"] == ""
        chain = {check["rule"]: check for check in site.explained("g1")["verdict"]["checks"]}
        assert all(check["passed"] for check in chain.values()) and len(chain) >= 15, sorted(chain)
        assert chain["RSK1.confluence"]["value"] == "4.2" and Decimal(chain["RSK1.confluence"]["limit"]) == 3
        wanted = {
            "w1": "RSK1.strength",
            "w2": "RSK1.confluence",
            "w3": "RSK3.reward_risk",
            "w4": "RSK3.stop_distance_max",
            "w5": "RSK2.risk_share",
            "w6": "RSK1.venue",
        }
        for name, rule in wanted.items():
            refused = site.confirmed(name)
            assert refused["outcome"] == "refused" and rule in refused["checks_failed"], refused
        dead = until(lambda: (site.folder / "var" / "dead-letters.ndjson").read_text(encoding="utf-8"))
        assert "unheard_of" in dead and "w7" in dead  # an attribute that nobody understands is a refusal (ING6)
        assert site.entries_at_exchange() == 1
        write({"id": "m1", "symbol": "BTCUSDT", "action": "close"})
        assert site.confirmed("m1")["outcome"] == "executed"
        ended_whole(site)
