"""Whether a signature over some bytes was made with the key it names: HMAC-SHA256, RSA (PKCS#1 v1.5) or Ed25519."""

import base64
import binascii
import hashlib
import hmac
from functools import cache

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from engine.exchange.terms import KeyTerms


def signed_by(key: KeyTerms, payload: bytes, signature: str) -> bool:
    """HMAC in hex of either case, the others in base64."""
    if not key.public_key:
        expected = hmac.new(key.secret.encode(), payload, hashlib.sha256).hexdigest()
        return hmac.compare_digest(expected.encode(), signature.lower().encode())
    try:
        raw = base64.b64decode(signature, validate=True)
        public = _public(key.public_key)
        if isinstance(public, RSAPublicKey):
            public.verify(raw, payload, PKCS1v15(), SHA256())
        else:
            public.verify(raw, payload)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True


def is_ed25519(key: KeyTerms) -> bool:
    return bool(key.public_key) and isinstance(_public(key.public_key), Ed25519PublicKey)


@cache
def _public(pem: str) -> RSAPublicKey | Ed25519PublicKey:
    """Raises ValueError for a key of another kind, or for no key at all."""
    public = load_pem_public_key(pem.encode())
    if not isinstance(public, RSAPublicKey | Ed25519PublicKey):
        raise ValueError("only RSA and Ed25519 keys sign here")
    return public
