"""Keys: what signs, what is refused, and that nothing prints them."""

import pickle
from base64 import b64decode

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key as generate_rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from engine.venues.keys import Credentials, KeyProblem, Secret, read_credentials, signer

HUSH = "kq7-never-shown-93x"


def pem(key, lock=NoEncryption()) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, lock).decode()


def test_a_secret_shows_as_stars_wherever_it_is_printed():
    secret = Secret(HUSH)
    credentials = Credentials(Secret(HUSH), Secret(HUSH))
    shown = [repr(secret), str(secret), f"{secret}", f"{secret:>9}", f"{[secret]}", repr(credentials), str(credentials)]
    assert [text for text in shown if HUSH in text] == []
    assert secret.reveal() == HUSH
    with pytest.raises(TypeError):
        pickle.dumps(secret)


def test_an_hmac_secret_signs_in_hex_and_again_the_same():
    kind, sign = signer(Secret("key"))
    # RFC-style vector, widely published.
    wanted = "f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8"
    text = b"The quick brown fox jumps over the lazy dog"
    assert (kind, sign(text), sign(text)) == ("hmac", wanted, wanted)


def test_an_rsa_key_signs_in_base64_what_its_public_half_verifies():
    key = generate_rsa(65537, 2048)
    kind, sign = signer(Secret(pem(key)))
    key.public_key().verify(b64decode(sign(b"order")), b"order", PKCS1v15(), SHA256())
    assert kind == "rsa"


@pytest.mark.parametrize("written", [lambda text: text, lambda text: text.strip().replace("\n", "\\n")])
def test_an_ed25519_key_signs_also_when_its_lines_are_written_as_one(written):
    key = Ed25519PrivateKey.generate()
    kind, sign = signer(Secret(written(pem(key))))
    key.public_key().verify(b64decode(sign(b"order")), b"order")
    assert kind == "ed25519"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (pem(generate_private_key(SECP256R1())), "neither RSA nor Ed25519"),
        (pem(Ed25519PrivateKey.generate(), BestAvailableEncryption(b"x")), "locked with a passphrase"),
        ("-----BEGIN PRIVATE KEY-----\nbm90IGEga2V5\n-----END PRIVATE KEY-----", "cannot be read"),
    ],
)
def test_a_private_key_that_cannot_sign_is_refused_without_being_shown(text, said):
    with pytest.raises(KeyProblem, match=said) as caught:
        read_credentials({"K": "key", "S": text}, "K", "S")
    assert "environment variable S" in str(caught.value)
    assert "BEGIN" not in str(caught.value)


@pytest.mark.parametrize("environ", [{}, {"K": "key"}, {"K": "key", "S": "  "}, {"K": "a b", "S": "s"}])
def test_a_missing_or_odd_variable_is_named(environ):
    with pytest.raises(KeyProblem, match=r"environment variable [KS]"):
        read_credentials(environ, "K", "S")
