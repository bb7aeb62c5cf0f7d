"""Which role a request needs, and whose token it carries. Pure.

A token with the role `stop` alone can only make the engine hold less; what lets it hold more again (limits, the end of
a halt) wants `limits`, and a signal wants `trade`. What no line of the table knows wants every role.
"""

import re
from base64 import b64decode
from collections.abc import Iterable
from hashlib import sha256
from hmac import compare_digest

from msgspec import Struct

from engine.runtime.config import ROLES as ROLES
from engine.runtime.log import Secret

BASE = "/api/execution"
HOOKS = "/hooks/"
TOKEN_NAME = "surefire.token"  # in the scope of a request: the name of the token that it showed
READS = ("GET", "HEAD", "OPTIONS")

# Method, path below BASE, and the roles of which each one alone is enough.
_CHANGES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("POST", "/order", ("trade",)),
    ("POST", "/stop", ("stop",)),
    ("POST", "/flatten", ("stop",)),
    ("POST", "/positions/[^/]+/[^/]+/close", ("trade", "stop")),
    ("POST", "/resume", ("limits",)),
    ("PATCH", "/limits/[^/]+", ("limits",)),
    ("PUT", "/limits/[^/]+", ("limits",)),
)
_STOPS = (f"{BASE}/stop", f"{BASE}/flatten")


class Token(Struct, frozen=True):
    """One who may ask."""

    name: str
    roles: tuple[str, ...]
    secret: Secret


def is_hook(method: str, path: str) -> bool:
    """A webhook: its sender has no token, but a secret that he shows in his own way."""
    return method == "POST" and path.startswith(HOOKS)


def needed(method: str, path: str) -> tuple[str, ...]:
    """Roles of which one is enough; none when every role is needed."""
    if method in READS:
        return ("read",)
    for verb, pattern, roles in _CHANGES:
        if method == verb and re.fullmatch(BASE + pattern, path):
            return roles
    return ()


def missing(token: Token, method: str, path: str) -> str:
    """What `token` lacks for this request, for a person; empty when it may."""
    roles = needed(method, path)
    if not roles:
        lacking = [role for role in ROLES if role not in token.roles]
        return f"every role ({', '.join(lacking)} missing)" if lacking else ""
    return "" if any(role in token.roles for role in roles) else f"the role {' or '.join(roles)}"


def is_stop(method: str, path: str) -> bool:
    """Whether the request takes risk away at once; such a one has an allowance and connections of its own (P7)."""
    return method == "POST" and path in _STOPS


def bearer(tokens: Iterable[Token], authorization: str) -> Token | None:
    """Whose token stands in an Authorization header: "Bearer TOKEN", or Basic, which browsers ask a person for.

    Every token is compared, whichever fits, as hashes of one length, so that the time taken tells nothing of them.
    """
    scheme, _, value = authorization.strip().partition(" ")
    given = value.strip() if scheme.lower() == "bearer" else _password(value) if scheme.lower() == "basic" else ""
    digest, found = _digest(given), None
    for token in tokens:
        if compare_digest(_digest(token.secret.reveal()), digest):
            found = token
    return found


def _password(value: str) -> str:
    """Of Basic credentials; the user's name is for the person who types it. Empty when they are none."""
    try:
        return b64decode(value.strip(), validate=True).decode().partition(":")[2]
    except ValueError:  # of the alphabet, of the length, of UTF-8
        return ""


def _digest(text: str) -> bytes:
    return sha256(text.encode("utf-8", "surrogateescape")).digest()
