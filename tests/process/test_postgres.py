"""An engine on a PostgreSQL server: the server goes away and comes back, and another engine takes the accounts over."""

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import httpx

from engine.venues.paper import Truth
from tests.patience import PATIENCE_SECONDS
from tests.postgres import ENVIRONMENT, PASSWORD, Server
from tests.process.site import BASE, Site
from tests.process.test_running import held, order


def words(server: Server, **more: object) -> dict[str, object]:
    at = server.journal()
    return {"url": server.url, "schema": at.schema, "password_env": next(iter(ENVIRONMENT)), **more}


def second_config(site: Site) -> Path:
    """An engine with a folder of its own on the same journal and the same venue, as on another machine."""
    other = site.folder / "other.toml"
    text = site.config.read_text(encoding="utf-8").replace(str(site.folder / "var"), str(site.folder / "other"))
    other.write_text(text, encoding="utf-8")
    return other


def of_journal(site: Site) -> str:
    """What the health report says of the journal."""
    return str(next(part for part in site.health()["components"] if part["name"] == "journal")["detail"])


def live(truth: Truth) -> list[str]:
    return [order.cid for order in truth.orders if order.status == "open"]


def until_over(call: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not call():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_server_that_starts_anew_costs_a_running_engine_nothing(postgres: Server, tmp_path: Path) -> None:
    with Site(tmp_path, journal=words(postgres)) as site:
        site.start()
        assert site.post(order("s1")).status_code == 202
        site.rested()
        for how in (signal.SIGINT, signal.SIGKILL):
            postgres.stop(how)
            time.sleep(0.5)
            assert site.engine.poll() is None
            postgres.start()
            site.ready()
            assert site.post(order(f"after {how.name}", symbol="ETHUSDT")).status_code == 202
            assert site.post(order("s1")).status_code == 200
        truth = site.rested()
        assert site.end() == 0, site.logs()
        assert site.differences(truth) == []
        assert site.run("audit", "verify").returncode == 0


def test_a_server_that_stays_away_stops_entries_and_what_is_held_stays_covered(
    postgres: Server, tmp_path: Path
) -> None:
    with Site(tmp_path, journal=words(postgres, away_seconds=3)) as site:
        site.start()
        assert site.post(order("s1")).status_code == 202
        before = site.rested()
        postgres.stop()
        try:
            until_over(lambda: "given up after 3 s" in of_journal(site))
            assert "out of reach" in of_journal(site)
            until_over(lambda: not site.health()["entry_ready"])
            assert site.health()["protective_ready"] is True
            truth = site.truth()
            assert live(truth) == live(before) and len(live(before)) == 1  # its stop stands
            assert site.post(order("s2", symbol="ETHUSDT")).status_code not in (200, 202)
            assert httpx.get(f"{site.api}{BASE}/positions", timeout=PATIENCE_SECONDS).status_code == 503
            assert site.run("flatten").returncode == 0, site.logs()
            assert [p.qty for p in site.truth().positions if p.qty] == []
        finally:
            postgres.start()
        site.kill()
        site.start()
        (told,) = site.differences(site.rested())  # the close could not wait for the server; it opens nothing
        assert told.startswith("orders without a durable intent: ['sf") and told.count("sf") == 1


def test_check_explain_and_audit_look_at_the_server_and_show_no_password(postgres: Server, tmp_path: Path) -> None:
    with Site(tmp_path, journal=words(postgres)) as site:
        assert "none yet, the first start makes it" in site.run("check").stdout
        site.start()
        assert site.post(order("s1")).status_code == 202
        site.rested()
        assert site.end() == 0
        told = [site.run("check"), site.run("explain", "s1"), site.run("audit", "verify", "--json")]
        assert [done.returncode for done in told] == [0, 0, 0], [done.stdout + done.stderr for done in told]
        assert "last signal s1, 1 live order(s)" in told[0].stdout and postgres.url in told[0].stdout
        assert "RSK" in told[1].stdout
        archiving = site.run("journal", "archive")
        assert archiving.returncode == 0 and "nothing is old enough" in archiving.stdout, archiving.stderr
        postgres.stop()
        try:
            asked = (("check",), ("explain", "s1"), ("audit", "verify"), ("journal", "archive"), ("run",))
            gone = [site.run(*words) for words in asked]
            assert all(done.returncode != 0 for done in gone)
            assert all("refused" in done.stdout + done.stderr for done in gone), [d.stdout + d.stderr for d in gone]
        finally:
            postgres.start()
        everything = "".join(done.stdout + done.stderr for done in told + gone) + site.logs()
        assert PASSWORD not in everything


def test_a_paused_engine_is_taken_over_and_when_it_wakes_up_it_sends_nothing(postgres: Server, tmp_path: Path) -> None:
    journal = words(postgres, lease_seconds=600, standby=True)
    with Site(tmp_path, journal=journal) as site:
        site.start()
        first, first_api = site.engine, site.api
        assert site.post(order("s1")).status_code == 202
        site.rested()
        second = site.spawn("run", "--config", str(second_config(site)), "--json")
        time.sleep(1)
        assert second.poll() is None and site.health()["entry_ready"]  # it stands by
        first.send_signal(signal.SIGSTOP)
        postgres.sql(f"UPDATE {journal['schema']}.leases SET until_ns = 1")  # the ten minutes are over
        site.engine, site.api = second, site.first_line(second)["api"]
        site.ready()
        assert site.post(order("s1")).status_code == 200  # what the first one did is known
        assert site.post(order("s2", symbol="ETHUSDT")).status_code == 202
        before = site.rested()
        first.send_signal(signal.SIGCONT)
        try:
            httpx.post(f"{first_api}{BASE}/order", json=order("s3"), timeout=PATIENCE_SECONDS)
        except httpx.HTTPError:
            pass  # it has ended already
        assert first.wait(PATIENCE_SECONDS) == 4, site.logs()
        assert "taken over" in site.logs()
        after = site.rested()
        assert [o.cid for o in after.orders] == [o.cid for o in before.orders]
        assert set(held(site)) == {"BTCUSDT", "ETHUSDT"}
        assert site.end() == 0
        assert site.differences(after) == []
        assert site.run("audit", "verify").returncode == 0


def test_a_demo_at_a_venue_keeps_its_journal_on_the_server_and_leaves_nothing(postgres: Server, tmp_path: Path) -> None:
    with Site(tmp_path, journal=words(postgres)) as site:
        done = site.run("demo", "--venue", "bybit", "--seconds", "3", "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        assert json.loads(done.stdout)["books_balance"] is True
    assert postgres.sql("SELECT nspname FROM pg_namespace WHERE nspname LIKE %s", "%\\_demo\\_%") == []
    log = (postgres.folder / "server.log").read_text()
    assert PASSWORD not in log
