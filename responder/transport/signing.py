"""Ed25519 signatures of the documents for apps. They are deterministic, so they can be cached."""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import Any


class Signer:
    """A private key, and the ID and JWK of its public key. Raises ValueError for an unusable key."""

    def __init__(self, pem: bytes) -> None:
        try:
            from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
            from cryptography.hazmat.primitives.serialization import load_pem_private_key
            from jwt.algorithms import OKPAlgorithm
        except ImportError:
            raise ValueError("needs a package: pip install 'rollback-responder[clients]'") from None
        try:
            self._key: Any = load_pem_private_key(pem, password=None)
        except (TypeError, ValueError):
            raise ValueError("must hold a PEM private key without a passphrase") from None
        if not isinstance(self._key, Ed25519PrivateKey):
            raise ValueError("must hold an Ed25519 key (openssl genpkey -algorithm ed25519)")
        public: dict[str, str] = json.loads(OKPAlgorithm.to_jwk(self._key.public_key()))
        needed = json.dumps({name: public[name] for name in ("crv", "kty", "x")}, separators=(",", ":"))
        self.kid = hashlib.sha256(needed.encode()).hexdigest()[:16]
        self.jwk = {**public, "kid": self.kid, "use": "sig", "alg": "EdDSA"}
        self.sign = lru_cache(maxsize=4096)(self._sign)

    def _sign(self, payload: bytes) -> str:
        from jwt.api_jws import PyJWS

        return PyJWS().encode(payload, self._key, algorithm="EdDSA", headers={"kid": self.kid})
