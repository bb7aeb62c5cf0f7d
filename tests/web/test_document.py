"""The OpenAPI document tells the truth about the routes, and the page shows it."""

from html.parser import HTMLParser

import trio

from engine.web.app import build
from tests.web.world import Engine, api

UNDOCUMENTED = {"/openapi.json", "/docs", "/", "/page.js", "/page.css"}
METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}


def references(node: object) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if "$ref" in node else []
        return own + [ref for value in node.values() for ref in references(value)]
    return [ref for item in node for ref in references(item)] if isinstance(node, list) else []


async def test_the_document_is_of_openapi_3_1_and_whole_in_itself() -> None:
    async with api(Engine()) as client:
        answer = await client.get("/openapi.json")
        found = answer.json()
        assert answer.headers["content-type"] == "application/json"
        assert found["openapi"].startswith("3.1.")
        assert {"title", "version", "description"} <= set(found["info"])
        schemas = found["components"]["schemas"]
        for reference in references(found):
            assert reference.removeprefix("#/components/schemas/") in schemas
        ids = [op["operationId"] for ops in found["paths"].values() for op in ops.values()]
        assert len(ids) == len(set(ids))
        assert (await client.get("/schema/openapi.json")).json() == found


async def test_every_route_is_in_it_and_nothing_else() -> None:
    app = build(Engine().ports(), trio.Event())
    served = {
        (route.path_format, method)
        for route in app.routes
        for method in getattr(route, "methods", ())
        if method in METHODS and route.path_format not in UNDOCUMENTED and not route.path_format.startswith("/schema")
    }
    async with api(Engine()) as client:
        found = (await client.get("/openapi.json")).json()
    documented = {(path, method.upper()) for path, ops in found["paths"].items() for method in ops}
    assert documented == served
    assert ("/api/execution/signals/{signal_id}", "GET") in documented


async def test_every_path_parameter_is_described_and_every_operation_has_a_summary_and_an_error() -> None:
    async with api(Engine()) as client:
        found = (await client.get("/openapi.json")).json()
    for path, operations in found["paths"].items():
        for operation in operations.values():
            inside = {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"}
            assert inside == {part[1:-1] for part in path.split("/") if part.startswith("{")}
            assert operation["summary"]
            assert operation["responses"]["default"]["content"]["application/json"]["schema"] == {
                "$ref": "#/components/schemas/Problem"
            }


async def test_each_operation_says_which_role_it_needs() -> None:
    async with api(Engine()) as client:
        found = (await client.get("/openapi.json")).json()
    schemes = found["components"]["securitySchemes"]
    assert [scheme["scheme"] for scheme in schemes.values()] == ["bearer", "basic"]
    paths = found["paths"]
    assert paths["/api/execution/stop"]["post"]["security"] == [{}, {"token": ["stop"]}, {"basic": ["stop"]}]
    for path, operations in paths.items():
        for operation in operations.values():
            named = [name for entry in operation["security"] for name in entry]
            assert bool(named) == (not path.startswith("/hooks/")) and set(named) <= set(schemes)
    headers = [parameter["name"] for parameter in paths["/hooks/{name}"]["post"]["parameters"]]
    assert headers == ["name", "webhook-id", "webhook-timestamp", "webhook-signature"]


async def test_bodies_say_what_they_take() -> None:
    async with api(Engine()) as client:
        found = (await client.get("/openapi.json")).json()
    paths, schemas = found["paths"], found["components"]["schemas"]
    assert paths["/api/execution/stop"]["post"]["requestBody"]["required"] is False
    assert paths["/api/execution/order"]["post"]["requestBody"]["required"] is True
    assert schemas["StopRequest"]["additionalProperties"] is False
    limits = paths["/api/execution/limits/{account}"]["patch"]["requestBody"]
    assert limits["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Limits"}
    assert schemas["Limits"]["additionalProperties"] is False
    assert "daily_loss_max" in schemas["Limits"]["properties"]
    assert schemas["Order"]["properties"]["qty"]["type"] == "string"


async def test_answers_have_only_the_fields_that_are_described() -> None:
    async with api(Engine()) as client:
        schemas = (await client.get("/openapi.json")).json()["components"]["schemas"]
        order = (await client.get("/api/execution/orders")).json()["orders"][0]
        position = (await client.get("/api/execution/positions")).json()["positions"][0]
        health = (await client.get("/health")).json()
    assert set(order) == set(schemas["Order"]["properties"])
    assert set(position) == set(schemas["PositionView"]["properties"])
    assert set(health) == set(schemas["Health"]["properties"])


async def test_the_page_lists_every_operation_and_asks_nothing_of_another_host() -> None:
    class Addresses(HTMLParser):
        def __init__(self) -> None:
            super().__init__()
            self.found: list[str] = []

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.found += [value or "" for name, value in attrs if name in ("src", "href")]

    async with api(Engine()) as client:
        answer = await client.get("/docs")
        document = (await client.get("/openapi.json")).json()
    assert answer.headers["content-type"].startswith("text/html")
    assert "script" not in answer.text
    for path in document["paths"]:
        assert f"<code>{path}</code>" in answer.text
    page = Addresses()
    page.feed(answer.text)
    assert page.found == ["/openapi.json"]
