"""Webhooks in: who has sent a body, told by its signature; and signatures for those that go out.

Signed as the Standard Webhooks specification has it, so that any library of it will do: the headers `webhook-id`,
`webhook-timestamp` (seconds since 1970) and `webhook-signature`, which holds `v1,` and the base64 of an HMAC-SHA256
over "ID.TIMESTAMP.BODY" (several, apart by a space, while secrets are exchanged). A captured request is of no use after
the tolerance; before that its id tells that it is a repeat, in the journal, so also after a restart.

The weaker form is for senders that cannot sign, such as charting services: the secret stands in the body. It is taken
out before anything else sees the body. Knows no web framework; all but `HookSource` is PURE.
"""

import hmac
import re
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from hashlib import sha256
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TypeAlias

import trio
from msgspec import Struct

from engine.edges.base import Arrival, Receipt
from engine.edges.http import HttpSource
from engine.edges.strict import Body, Json, canonical, read, salvage
from engine.runtime.clock import Clock
from engine.runtime.log import Secret

ID, TIMESTAMP, SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"
PREFIX = "whsec_"  # what stands behind it is the key in base64; any other secret is the key as it is
TEXT_MIN, KEY_BYTES_MIN = 20, 16
SIGNATURES_MAX = 8  # looked at in one header
HOPS_MAX = 20  # looked at in X-Forwarded-For
_NAME = re.compile(r"[A-Za-z0-9_:/+=~-]{1,80}")  # no point: it parts what is signed
_SECONDS = re.compile(r"[0-9]{1,12}")

Network: TypeAlias = IPv4Network | IPv6Network


class HookTerms(Struct, frozen=True, kw_only=True):
    """One hook. `keys`: any of them will do, while they are exchanged. `field`: where the body of a sender that
    cannot sign has the secret; "" for those that sign. `proxies`: whose word on the sender's address is taken."""

    keys: tuple[Secret, ...]
    tolerance_seconds: int = 60
    field: str = ""
    addresses: tuple[Network, ...] = ()
    proxies: tuple[Network, ...] = ()
    dialect: str | None = None


class Request(Struct, frozen=True, kw_only=True):
    """What came: headers by their small names, and the address that the connection is from."""

    headers: Mapping[str, str]
    raw: bytes
    address: str
    trace_id: str | None = None


class Denied(Struct, frozen=True):
    """Not let in. `kind` is for the metrics; `why` is for the sender, and tells a stranger nothing."""

    kind: str  # address | signature | time | secret
    why: str


class Admitted(Struct, frozen=True):
    """A body from one who may send: without the secret, and with the name that its sender has signed, if he has.

    `flaw` says what was wrong with it; then it is for the dead letters."""

    raw: bytes
    name: str = ""
    flaw: str = ""


class Spilled(Struct, frozen=True):
    """The sender may, but his body holds the secret where it would be kept."""

    why: str


def admit(request: Request, terms: HookTerms, now_ns: int) -> Admitted | Denied | Spilled:
    """`now_ns` is wall time."""
    if terms.addresses and not _inside(_sender(request, terms.proxies), terms.addresses):
        return Denied("address", "this address may not send here")
    return _by_body(request.raw, terms) if terms.field else _by_signature(request, terms, now_ns)


# ------------------------------------------------------------------------------------------------------------- signing


def unfit(secret: Secret) -> str:
    """Why it is no secret to sign with; empty: it is one. The answer holds nothing of it."""
    text = secret.reveal()
    if len(text) < TEXT_MIN or not text.isascii() or not text.isprintable() or " " in text:
        return f"must hold {TEXT_MIN} ASCII characters or more, without blanks, as `openssl rand -hex 32` makes them"
    try:
        return "" if len(key_of(secret)) >= KEY_BYTES_MIN else f"stands for less than {KEY_BYTES_MIN} bytes"
    except ValueError:
        return f"begins with {PREFIX}, but what follows is not base64"


def key_of(secret: Secret) -> bytes:
    """Raises ValueError for one that is `unfit`."""
    text = secret.reveal()
    return b64decode(text.removeprefix(PREFIX), validate=True) if text.startswith(PREFIX) else text.encode()


def signature(key: bytes, name: str, timestamp: str, raw: bytes) -> str:
    """As it stands in the header."""
    digest = hmac.digest(key, f"{name}.{timestamp}.".encode() + raw, sha256)
    return f"v1,{b64encode(digest).decode()}"


def signed(keys: tuple[Secret, ...], name: str, seconds: int, raw: bytes) -> dict[str, str]:
    """The headers of a delivery, signed with every secret, so that a receiver may change his whenever he likes."""
    signatures = " ".join(signature(key_of(secret), name, str(seconds), raw) for secret in keys)
    return {ID: name, TIMESTAMP: str(seconds), SIGNATURE: signatures}


def _by_signature(request: Request, terms: HookTerms, now_ns: int) -> Admitted | Denied | Spilled:
    """Of the time nothing is said to one who cannot sign."""
    name, timestamp, given = (request.headers.get(header, "") for header in (ID, TIMESTAMP, SIGNATURE))
    if not (
        _NAME.fullmatch(name) and _SECONDS.fullmatch(timestamp) and _fits(request.raw, name, timestamp, given, terms)
    ):
        return Denied("signature", f"a signature that fits is needed: {ID}, {TIMESTAMP} and {SIGNATURE}")
    apart = abs(now_ns // 1_000_000_000 - int(timestamp))
    if apart > terms.tolerance_seconds:
        why = f"{TIMESTAMP} is {apart} s from this machine's clock; {terms.tolerance_seconds} s are allowed"
        return Denied("time", why)
    if any(secret.reveal().encode() in request.raw for secret in terms.keys):
        return Spilled("holds the secret; nothing of it was kept")
    return Admitted(request.raw, name)


def _fits(raw: bytes, name: str, timestamp: str, given: str, terms: HookTerms) -> bool:
    """All that is given is compared with all that would fit, however the first comparison ends."""
    offered = [word.encode() for word in given.split(" ")[:SIGNATURES_MAX] if word.startswith("v1,")]
    wanted = [signature(key_of(secret), name, timestamp, raw).encode() for secret in terms.keys]
    return any([hmac.compare_digest(one, other) for one in offered for other in wanted])


# ------------------------------------------------------------------------------------- a secret in the body, an address


def _by_body(raw: bytes, terms: HookTerms) -> Admitted | Denied | Spilled:
    """The body without its secret. Of one that cannot be read nothing is kept: nobody knows what is in it."""
    found, flaws = read(raw), ""
    if isinstance(found, tuple):
        flaws = "; ".join(f"'{flaw.field}' {flaw.reason}" for flaw in found)
        body = salvage(raw, found)
    else:
        body = found
    given = body.get(terms.field) if isinstance(body, dict) else None
    digest = sha256(given.encode() if isinstance(given, str) else b"").digest()
    known = [hmac.compare_digest(digest, sha256(secret.reveal().encode()).digest()) for secret in terms.keys]
    if not isinstance(body, dict) or not any(known):
        return Denied("secret", f"needs a JSON object with the secret in '{terms.field}'")
    rest: Body = {key: value for key, value in body.items() if key != terms.field}
    texts = (flaws, *_texts(rest))
    if any(secret.reveal() in text for secret in terms.keys for text in texts):
        return Spilled(f"holds the secret in another place than '{terms.field}'; nothing of it was kept")
    return Admitted(canonical(rest), flaw=flaws)


def _texts(value: Json) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for key, item in value.items():
                yield key
                yield from _texts(item)
        case list():
            for item in value:
                yield from _texts(item)
        case _:
            pass  # a number, true, false, null


def _sender(request: Request, proxies: tuple[Network, ...]) -> str:
    """Whose request it is: the last hop that is no proxy of ours. What stands before that, anybody can have written."""
    hops = [hop.strip() for hop in request.headers.get("x-forwarded-for", "").split(",") if hop.strip()][-HOPS_MAX:]
    sender = request.address
    while hops and _inside(sender, proxies):
        sender = hops.pop()
    return sender


def _inside(address: str, networks: tuple[Network, ...]) -> bool:
    found = _address(address)
    return found is not None and any(found in network for network in networks)


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return (found.ipv4_mapped or found) if isinstance(found, IPv6Address) else found


# -------------------------------------------------------------------------------------------------------------- source


class HookSource:
    """One hook, `POST /hooks/NAME`."""

    def __init__(self, name: str, terms: HookTerms, clock: Clock) -> None:
        assert terms.keys and not any(map(unfit, terms.keys)), "a hook with secrets that nobody looked at"
        self.name = name
        self.terms = terms
        self._clock = clock
        self._http = HttpSource(name, clock)

    async def run(self, arrivals: trio.MemorySendChannel[Arrival]) -> None:
        """Until cancelled: bodies are taken."""
        await self._http.run(arrivals)

    async def receive(self, request: Request) -> Receipt | Denied | Spilled:
        """A receipt only when it is durable (but for `busy`)."""
        found = admit(request, self.terms, self._clock.now_ns())
        if not isinstance(found, Admitted):
            return found
        return await self._http.submit(
            found.raw,
            request.trace_id,
            fallback_id=f"{self.name}:{found.name}" if found.name else None,
            dialect=self.terms.dialect,
            flaw=found.flaw,
            delivery=f"{self.name}/{found.name}" if found.name else None,
        )
