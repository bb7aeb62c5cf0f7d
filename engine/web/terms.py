"""Who may speak to the API and how, from the config and the environment. Read before anything starts."""

import ssl
from collections.abc import Mapping

import structlog
from msgspec import Struct

from engine.runtime.config import ApiSection, ApiTokenSection, is_loopback
from engine.runtime.log import Secret
from engine.web.roles import Token

TOKEN_MIN, TOKEN_MAX = 20, 512  # characters
LOG = structlog.get_logger("web")


class TermsProblem(Exception):
    """The API cannot be offered so; the text names the variable or the file, never what is in it."""


class Terms(Struct, frozen=True):
    """As the doorman wants it; the defaults are those of a loopback address without tokens."""

    hosts: tuple[str, ...] = ()  # further names of ours
    tokens: tuple[Token, ...] = ()  # none: whoever reaches us may ask for everything
    per_second: int = 0  # requests of one client; 0: no limit
    connections_max: int = 512
    tls_cert: str = ""
    tls_key: str = ""


def terms_of(api: ApiSection, environ: Mapping[str, str]) -> Terms:
    """Raises TermsProblem."""
    if api.tls_cert:
        tls_context(api.tls_cert, api.tls_key)
    tokens = tuple(_token(token, environ) for token in api.tokens)
    for place, token in enumerate(tokens):
        for other in tokens[:place]:
            if token.secret.reveal() == other.secret.reveal():
                raise TermsProblem(f"the tokens {other.name} and {token.name} of the API are the same")
    closed = is_loopback(api.host) and not tokens
    return Terms(
        hosts=api.hosts,
        tokens=tokens,
        per_second=api.requests_per_second if api.requests_per_second is not None else 0 if closed else 500,
        connections_max=api.connections_max,
        tls_cert=api.tls_cert,
        tls_key=api.tls_key,
    )


def warn_of_insecurity(api: ApiSection) -> None:
    """Loudly: the config has been told to."""
    if is_loopback(api.host):
        return
    if not api.tokens:
        LOG.error("INSECURE: whoever reaches the API may trade, change limits and stop; insecure = true", host=api.host)
    if not api.tls_cert:
        LOG.error("INSECURE: the API is served without TLS, tokens can be read on the way", host=api.host)


def tls_context(cert: str, key: str) -> ssl.SSLContext:
    """Raises TermsProblem, also for a key with a passphrase (nobody is asked for it)."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key, password="")
    except (OSError, ValueError) as error:
        raise TermsProblem(f"api.tls_cert {cert} with tls_key {key} cannot be used: {error}") from error
    return context


def _token(section: ApiTokenSection, environ: Mapping[str, str]) -> Token:
    value = environ.get(section.env, "")
    if not value:
        raise TermsProblem(
            f"the environment variable {section.env}, for the token {section.name} of the API, is not set"
        )
    if not value.isascii() or not value.isprintable() or " " in value or not TOKEN_MIN <= len(value) <= TOKEN_MAX:
        raise TermsProblem(
            f"the environment variable {section.env} must hold {TOKEN_MIN} to {TOKEN_MAX} ASCII characters without "
            "blanks, as `openssl rand -hex 32` makes them"
        )
    return Token(section.name, section.roles, Secret(value))
