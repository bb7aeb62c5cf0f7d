"""The live page in a real browser, on a real engine: it follows what happens, fits a phone, stops when it is told."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import browser
from tests.browser import Screen
from tests.process.site import Site

HOSTILE = "<img src=x onerror=alert(1)>"


@pytest.fixture
def screen() -> Iterator[Screen]:
    yield from browser.opened()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Site(tmp_path) as running:
        running.start()
        yield running


def buy(site: Site, signal_id: str, amount: str = "500") -> None:
    body: dict[str, object] = {"signal_id": signal_id, "symbol": "BTCUSDT", "action": "open", "side": "buy"}
    answer = site.post({**body, "quote_amount": amount})
    assert answer.status_code in (202, 422), answer.text


def test_the_page_follows_the_engine_by_itself(site: Site, screen: Screen) -> None:
    screen.driver.get(site.api)
    screen.until(lambda: screen.text("#ready") == "live · protection · entries")
    assert screen.text("#positions") == "none"
    screen.driver.execute_script("window.untouched = true")

    buy(site, "first")
    screen.until(lambda: "BTCUSDT" in screen.text("#positions") and "stop_market" in screen.text("#orders"))
    assert "executed" in screen.text("#signals") and "positions max" in screen.text("#limits")
    assert "arrival → wire" in screen.text("#latency") and "reconciled" in screen.text("#components")
    before = screen.text("#positions")
    screen.until(lambda: screen.text("#positions") != before)  # its profit moves with the market

    buy(site, HOSTILE, "1")  # too small
    screen.until(lambda: HOSTILE in screen.text("#signals") and "RSK" in screen.text("#signals"))
    assert screen.driver.execute_script("return window.untouched")
    assert screen.complaints() == []

    screen.driver.find_element("link text", "first").click()
    screen.until(lambda: "What the rules said: accepted" in screen.text("body"))


def test_the_stop_button_asks_once_and_then_closes_everything(site: Site, screen: Screen) -> None:
    buy(site, "first")
    site.rested()
    screen.driver.get(site.api)
    screen.until(lambda: "BTCUSDT" in screen.text("#positions"))

    screen.click("#stop")
    screen.click("#ask button[value=no]")
    screen.until(lambda: not screen.driver.find_element("css selector", "#ask").is_displayed())
    assert site.health()["halts"] == [] and len(site.get("/positions")["positions"]) == 1

    screen.click("#stop")
    screen.click("#ask button[value=flatten]")
    screen.until(lambda: "the stop button" in screen.text("#halts") and screen.text("#positions") == "none")
    screen.until(lambda: screen.text("#ready") == "live · protection · no entries")
    assert not screen.driver.find_element("css selector", "#error").is_displayed()
    assert [halt["by"] for halt in site.health()["halts"]] == ["page"]
    assert not site.truth().positions
    assert screen.complaints() == []


def test_the_page_fits_a_phone(site: Site, screen: Screen) -> None:
    buy(site, "first")
    width = 360
    metrics = {"width": width, "height": 780, "deviceScaleFactor": 2, "mobile": True}
    screen.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    screen.driver.get(site.api)
    screen.until(lambda: "BTCUSDT" in screen.text("#positions"))
    script = """
        const width = arguments[0];  // a page that is wider makes the window wider, too
        const inside = (e) => { const b = e.getBoundingClientRect(); return b.left >= 0 && b.right <= width; };
        const shown = [...document.querySelectorAll("#positions th")].filter(inside).map((e) => e.textContent);
        const stop = document.getElementById("stop");
        return JSON.stringify([document.documentElement.scrollWidth <= width, inside(stop), shown]);
    """
    fits, stop_in_reach, columns = json.loads(screen.driver.execute_script(script, width))
    assert fits and stop_in_reach
    assert {"symbol", "quantity", "unrealised", "net so far"} <= set(columns)


def test_an_engine_that_is_gone_is_told(site: Site, screen: Screen) -> None:
    screen.driver.get(site.api)
    screen.until(lambda: screen.text("#ready").startswith("live"))
    site.kill()
    screen.until(lambda: "does not answer" in screen.text("#error"))
