"""What ccxt sends by, in place of its own: each request once, to where it belongs, and counted."""

import ssl
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
from requests.exceptions import ConnectionError as Unconnected
from requests.exceptions import InvalidURL, TooManyRedirects
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError, SSLError


class Sender(Protocol):
    """Who is asked before a request leaves, and counts those that may have."""

    sent: int

    def before_sending(self) -> None: ...


class OneShot(requests.Session):
    """`allowed` judges (scheme, host with port)."""

    def __init__(self, sender: Sender, allowed: Callable[[str, str], bool]) -> None:
        super().__init__()
        self.trust_env = False  # no proxy, no .netrc: an order goes to the venue or nowhere
        self.retry_after = 0
        self.status = 0
        self._sender = sender
        self._allowed = allowed

    def request(self, method: str, url: str, *args: Any, **more: Any) -> requests.Response:  # type: ignore[override]
        parts = urlsplit(url)
        if not self._allowed(parts.scheme, parts.netloc):
            raise InvalidURL(f"{parts.scheme}://{parts.netloc} is not where this account trades")
        self._sender.before_sending()
        self._sender.sent += 1
        try:
            response = super().request(method, url, *args, **{**more, "allow_redirects": False})
        except Unconnected as error:
            if never_connected(error):
                self._sender.sent -= 1
            raise
        self.status = response.status_code
        after = response.headers.get("Retry-After", "")
        self.retry_after = int(after) if after.isascii() and after.isdecimal() and len(after) < 8 else 0
        if 300 <= response.status_code < 400:
            raise TooManyRedirects(f"HTTP {response.status_code}: redirects are not followed")
        return response


def never_connected(error: BaseException) -> bool:
    """Whether the connection itself failed (name, port, certificate), so that no byte of a request can have left."""
    reason = next(iter(error.args), None)
    if isinstance(reason, MaxRetryError):
        reason = reason.reason
    if isinstance(reason, SSLError):
        return isinstance(next(iter(reason.args), None), ssl.SSLCertVerificationError)
    return isinstance(reason, NewConnectionError | ConnectTimeoutError)
