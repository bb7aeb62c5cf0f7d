"""A real browser for tests of the page: Chromium, headless, with its driver.

Where it is not installed they are skipped, or fail where SUREFIRE_NEED_SERVERS is set, as .ci/run does.
"""

import os
import shutil
from collections.abc import Callable, Iterator

import pytest
from selenium import webdriver
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.wait import WebDriverWait

from tests.patience import PATIENCE_SECONDS


class Screen:
    """One window, and what a person sees in it."""

    def __init__(self, driver: WebDriver) -> None:
        self.driver = driver

    def text(self, css: str) -> str:
        return str(self.driver.find_element("css selector", css).text)

    def click(self, css: str) -> None:
        self.driver.find_element("css selector", css).click()

    def until(self, seen: Callable[[], bool]) -> None:
        """Returns when it is so; what the page shows then is told where it never is."""
        WebDriverWait(self.driver, PATIENCE_SECONDS).until(lambda _: seen(), self.text("body"))

    def complaints(self) -> list[str]:
        """What the browser's console has to say: errors of scripts, refused loads, what the policy forbids."""
        return [str(line["message"]) for line in self.driver.get_log("browser")]


def opened() -> Iterator[Screen]:
    """For a fixture. Skips, or fails where a browser must be there."""
    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        word = "no Chromium with its driver is installed here (Debian: apt-get install chromium chromium-driver)"
        if os.environ.get("SUREFIRE_NEED_SERVERS"):
            pytest.fail(word)
        pytest.skip(word)
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    # Its own sandbox and shared memory are not to be had for root, or in a container; it opens one page of ours.
    for word in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"):
        options.add_argument(word)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    window = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield Screen(window)
    finally:
        window.quit()
