"""The live page: three static files, no build, nothing from another host."""

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

_FOLDER = Path(__file__).parent / "static"
_FILES = {
    "/": ("index.html", "text/html"),
    "/page.js": ("page.js", "text/javascript"),
    "/page.css": ("page.css", "text/css"),
}
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; form-action 'none'; base-uri 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-cache",
}


def page_routes() -> list[HTTPRouteHandler]:
    """One route for each file, read once."""
    return [
        get(path, include_in_schema=False)(_giving((_FOLDER / name).read_bytes(), media_type))
        for path, (name, media_type) in _FILES.items()
    ]


def _giving(content: bytes, media_type: str) -> Callable[[], Coroutine[Any, Any, Response[bytes]]]:
    async def give() -> Response[bytes]:
        return Response(content, media_type=media_type, headers=HEADERS)

    return give
