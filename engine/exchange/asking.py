"""The admin of a running exchange from the other side, for the command line and for tests."""

import httpx

ASK_SECONDS = 30.0


class Unreachable(Exception):
    """No exchange answers there."""


class SaidNo(Exception):
    """It answered, with a refusal."""


def ask(host: str, port: int, method: str, path: str, body: dict[str, object] | None = None) -> bytes:
    """`path` without /admin. Raises Unreachable, SaidNo."""
    url = f"http://{host}:{port}/admin{path}"
    try:
        # No proxy of the environment may stand between us and our own loopback.
        answer = httpx.request(method, url, json=body, timeout=ASK_SECONDS, trust_env=False)
    except httpx.TransportError as error:
        raise Unreachable(f"no exchange answers on {host}:{port} ({error})") from error
    if answer.is_error:
        raise SaidNo(f"{answer.status_code}: {answer.text[:500]}")
    return answer.content
