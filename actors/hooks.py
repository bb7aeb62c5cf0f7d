"""Webhooks from the config: their secrets from environment or vault, and what is said of those that are not safe."""

import re
from collections.abc import Mapping
from ipaddress import ip_network
from urllib.parse import urlsplit

import structlog

from actors.wiring import EssParts
from engine.core.ess import EssTerms
from engine.core.times import SECOND
from engine.edges.ess import AskTerms, RiskService
from engine.edges.webhook import HookSource, HookTerms, unfit
from engine.edges.webhook_sink import HookSink, PostTerms
from engine.runtime.clock import Clock
from engine.runtime.config import EssSection, SinkSection, SourceSection, is_loopback, unfit_url
from engine.runtime.log import Secret
from engine.venues.keys import KeyProblem
from engine.venues.vault import HOOK, Vault

LOG = structlog.get_logger("hooks")


def open_hook(section: SourceSection, clock: Clock, environ: Mapping[str, str], vault: Vault | None) -> HookSource:
    """Raises KeyProblem for a secret that is not there, or is too short."""
    if section.unsigned:
        LOG.error(
            "INSECURE: what this hook brings is not signed: whoever reads one body, and comes from these addresses, may"
            " trade these symbols; unsigned = true",
            hook=section.name,
            addresses=section.addresses,
            symbols=section.symbols,
        )
    terms = HookTerms(
        keys=hook_secrets(section, clock, environ, vault),
        tolerance_seconds=section.tolerance_seconds,
        field=section.secret_field if section.unsigned else "",
        addresses=tuple(map(ip_network, section.addresses)),
        proxies=tuple(map(ip_network, section.proxies)),
        dialect=section.dialect or None,
    )
    return HookSource(section.name, terms, clock)


def open_post(
    section: SinkSection, engine: str, clock: Clock, environ: Mapping[str, str], vault: Vault | None
) -> HookSink:
    """Raises KeyProblem for a secret or an address that is not there or of no use, OSError for the `ca_file`."""
    url = environ.get(section.url_env, "").strip() if section.url_env else section.url
    if not url:
        raise KeyProblem(f"the webhook '{section.name}' needs the environment variable {section.url_env}, not set")
    if why := unfit_url(url):
        raise KeyProblem(f"the address of the webhook '{section.name}' {why}")
    terms = PostTerms(
        url=Secret(url),
        place=urlsplit(url).netloc,
        keys=hook_secrets(section, clock, environ, vault),
        sender=re.sub("[^A-Za-z0-9_-]", "_", engine)[:40] or "surefire",
        events=section.events,
        timeout_seconds=section.timeout_seconds,
        drop=section.refused == "drop",
        ca_file=section.ca_file,
    )
    return HookSink(section.name, terms, clock)


def open_ess(section: EssSection, environ: Mapping[str, str]) -> tuple[EssParts, RiskService]:
    """Raises KeyProblem for a token that is not there, OSError for the `ca_file`."""
    token = environ.get(section.token_env, "").strip() if section.token_env else ""
    if section.token_env and not token:
        raise KeyProblem(f"[ess] needs the environment variable {section.token_env}, which is not set")
    place = urlsplit(section.url)
    if place.scheme == "http" and not is_loopback(place.hostname or ""):
        LOG.error(
            "INSECURE: the risk service is asked without TLS, its word can be changed on the way", host=place.netloc
        )
    asked = AskTerms(
        url=section.url,
        timeout_seconds=section.timeout_seconds,
        blocks=tuple(word.upper() for word in section.blocks),
        passes=tuple(word.upper() for word in section.passes),
        field=section.field,
        token=Secret(token) if token else None,
        ca_file=section.ca_file,
    )
    assert section.on_timeout, "a config that nobody checked"
    terms = EssTerms(stale_ns=round(section.stale_seconds * SECOND), on_timeout=section.on_timeout)
    service = RiskService(asked)
    return EssParts(terms, service.ask, section.every_seconds), service


def hook_secrets(
    section: SourceSection | SinkSection, clock: Clock, environ: Mapping[str, str], vault: Vault | None
) -> tuple[Secret, ...]:
    """Raises KeyProblem, without what is in the variable or the vault."""
    found: list[tuple[str, Secret]] = []
    for name in section.secret_env:
        if not environ.get(name):
            raise KeyProblem(f"the webhook '{section.name}' needs the environment variable {name}, which is not set")
        found.append((f"the environment variable {name}", Secret(environ[name].strip())))
    for name in section.key_vault:
        if vault is None:
            raise KeyProblem(f"the webhook '{section.name}' has a secret in the vault, which is not open here")
        found.append((f"the vault's '{name}'", vault.secrets(name, HOOK + section.name, clock)["secret"]))
    for whence, secret in found:
        if why := unfit(secret):
            raise KeyProblem(f"{whence}, a secret of the webhook '{section.name}', {why}")
    return tuple(secret for _, secret in found)
