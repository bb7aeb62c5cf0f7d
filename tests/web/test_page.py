"""The live page is served whole, asks nothing of another host, and calls only what the API has."""

import re

from tests.web.world import Engine, api


async def test_the_page_brings_its_own_files_and_may_load_no_others() -> None:
    async with api(Engine()) as client:
        page = await client.get("/")
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy and "unsafe" not in policy
        own = re.findall(r'(?:src|href)="(/[^"]*)"', page.text)
        assert {"/page.js", "/page.css", "/docs", "/metrics", "/health"} == set(own)
        for address in own:
            assert (await client.get(address)).status_code == 200
        for file in ("/", "/page.js", "/page.css"):
            assert not re.search(r"https?:|//\w+\.", (await client.get(file)).text)


async def test_every_address_the_page_reads_is_one_of_the_api() -> None:
    async with api(Engine()) as client:
        script = (await client.get("/page.js")).text
        paths = set((await client.get("/openapi.json")).json()["paths"])
    used = {f"/api/execution{path}" for path in re.findall(r'base \+ "([^"?]+)', script)}
    assert used == {
        f"/api/execution/{name}" for name in ("positions", "orders", "signals", "latency", "usage", "stop", "stream")
    }
    assert used <= paths


async def test_the_page_shows_text_from_outside_only_as_text() -> None:
    async with api(Engine()) as client:
        script = (await client.get("/page.js")).text
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(", script)
