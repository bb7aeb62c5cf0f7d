"""Whether an account may be traded with: what a real venue told of key, clock and mode, judged before the start.

The same remarks are what `check` shows; at a start one that is not ok refuses the account, in its own words.
"""

from urllib.parse import urlsplit

from msgspec import Struct

from engine.venues.offset import Known, Moment, error_ns

OFFSET_ERROR_MAX_NS = 500_000_000  # E of RELIABILITY 4.1: beyond it, absence at the venue proves nothing
ENVIRONMENTS = {"live": ("live",), "testnet": ("testnet", "demo", "local"), "paper": ("local",)}


class Inadmissible(Exception):
    """The account must not be traded with as it is configured; the text says what to change."""


class Remark(Struct, frozen=True):
    """One thing that was looked at."""

    what: str
    ok: bool
    text: str


class KeyFacts(Struct, frozen=True):
    """What the venue says of a key; None where it does not say."""

    may_trade: bool | None = None
    may_withdraw: bool | None = None
    bound_to_address: bool | None = None
    expires: str = ""


def environment_remark(env: str, environment: str, host: str) -> Remark:
    """`environment` is the host's: live, testnet, demo, or local for an exchange on this machine."""
    fits = environment in ENVIRONMENTS[env]
    wanted = " or ".join(ENVIRONMENTS[env])
    text = f"engine.env is '{env}', host '{host}' is {environment}"
    return Remark("environment", fits, text if fits else f"{text}; it must be {wanted}")


def key_remarks(facts: KeyFacts, environment: str, allow_withdrawal: bool) -> tuple[Remark, ...]:
    found = [_trading_remark(facts)]
    if facts.may_withdraw is None:
        text = "the venue does not say whether this key may withdraw"
        found.append(Remark("withdrawals", environment != "live" or allow_withdrawal, text))
    elif facts.may_withdraw:
        text = "this key may withdraw funds, which the engine never does: take the right away"
        allowed = "this key may withdraw funds; allow_withdrawal_keys is true"
        found.append(Remark("withdrawals", allow_withdrawal, allowed if allow_withdrawal else text))
    if facts.bound_to_address is False and environment == "live":
        found.append(Remark("key", True, "the key is bound to no address; a stolen one works from anywhere"))
    if facts.expires:
        found.append(Remark("key", True, f"the key expires {facts.expires}"))
    return tuple(found)


def _trading_remark(facts: KeyFacts) -> Remark:
    if facts.may_trade is False:
        return Remark("key", False, "the key may not trade: give it the right to place orders")
    return Remark("key", True, "the key may trade" if facts.may_trade else "the venue accepts the key")


def clock_remark(known: Known, now: Moment) -> Remark:
    if known.best is None:
        return Remark("clock", False, "the venue's clock is not known: it did not answer, or our own jumped")
    error = error_ns(known.best, now)
    text = f"the venue's clock is {known.best.offset_ns / 1e6:+.1f} ms from ours, give or take {error / 1e6:.1f} ms"
    return Remark("clock", error <= OFFSET_ERROR_MAX_NS, text)


def refuse(remarks: tuple[Remark, ...], account: str) -> None:
    """Raises Inadmissible with everything that is wrong."""
    wrong = [f"account {account}: {remark.what}: {remark.text}" for remark in remarks if not remark.ok]
    if wrong:
        raise Inadmissible("\n".join(wrong))


def local(url: str) -> bool:
    """Whether a host is a URL of this machine, where a local exchange may speak without TLS."""
    parts = urlsplit(url)
    return parts.scheme in ("http", "https") and parts.hostname in ("127.0.0.1", "localhost", "::1")
