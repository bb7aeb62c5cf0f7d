"""API keys: read from the environment variables that the config names (or the vault), kept in Secrets, used to sign.

A secret is what a venue calls its API secret (HMAC-SHA256) or a private key in PEM (RSA or Ed25519; venues answer their
signatures in base64). It is taken out of its Secret in one function, `signer`, and nowhere else.
"""

import hmac
from base64 import b64encode
from collections.abc import Callable, Mapping
from hashlib import sha256
from typing import TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from engine.runtime.log import Secret as Secret

Sign: TypeAlias = Callable[[bytes], str]
"""From the bytes to be signed to the signature as the venue wants it: hex for HMAC, base64 for the others."""


class KeyProblem(Exception):
    """A key that is not there or cannot be used. The text names the variable, never its value."""


class Credentials:
    """One account's key and the function that signs with its secret."""

    __slots__ = ("key", "kind", "sign")

    def __init__(self, key: Secret, secret: Secret) -> None:
        """Raises KeyProblem."""
        self.key = key
        self.kind, self.sign = signer(secret)

    def __repr__(self) -> str:
        return f"Credentials({self.kind}, ***)"


def read_credentials(environ: Mapping[str, str], key_env: str, secret_env: str) -> Credentials:
    """Raises KeyProblem, naming what is missing or wrong."""
    key, secret = _read(environ, key_env), _read(environ, secret_env)
    if not usable(Secret(key)):
        raise KeyProblem(f"the environment variable {key_env} holds no API key: it has blanks or odd characters in it")
    try:
        return Credentials(Secret(key), Secret(secret))
    except KeyProblem as problem:
        raise KeyProblem(f"the environment variable {secret_env} {problem}") from None


def usable(key: Secret) -> bool:
    """Whether it can travel in a header as it is."""
    text = key.reveal()
    return text.isascii() and text.isprintable() and " " not in text


def read_secrets(environ: Mapping[str, str], names: Mapping[str, str]) -> dict[str, Secret]:
    """By our own word for each ("key", "password"), from the variables that are named. Raises KeyProblem."""
    return {word: Secret(_read(environ, name)) for word, name in names.items() if name}


def signer(secret: Secret) -> tuple[str, Sign]:
    """The kind of key ("hmac", "rsa", "ed25519") and its signing function. Raises KeyProblem."""
    text = secret.reveal()
    if "-----BEGIN" not in text:
        mac = hmac.new(text.encode(), digestmod=sha256)
        return "hmac", lambda message: _hmac(mac, message)
    try:
        # Environment files often hold a PEM on one line, with its line ends written out.
        private = load_pem_private_key(text.replace("\\n", "\n").encode(), password=None)
    except TypeError:
        raise KeyProblem("holds a private key that is locked with a passphrase; unlock it first") from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyProblem("holds a private key that cannot be read") from None
    if isinstance(private, RSAPrivateKey):
        return "rsa", lambda message: b64encode(private.sign(message, PKCS1v15(), SHA256())).decode()
    if isinstance(private, Ed25519PrivateKey):
        return "ed25519", lambda message: b64encode(private.sign(message)).decode()
    raise KeyProblem("holds a private key that is neither RSA nor Ed25519")


def _hmac(keyed: hmac.HMAC, message: bytes) -> str:
    mac = keyed.copy()  # saves hashing the key anew for every order
    mac.update(message)
    return mac.hexdigest()


def _read(environ: Mapping[str, str], name: str) -> str:
    text = environ.get(name, "").strip()
    if not text:
        raise KeyProblem(f"the environment variable {name} is not set, or is empty")
    return text
