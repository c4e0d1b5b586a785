"""Encryption of a stream in frames: any change, swap or truncation of them is found when it is opened."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from pathlib import Path

from responder.errors import StepFailed

MAGIC = b"RBRSEAL1"
FRAME = 1 << 20
ALGORITHM = "AES-256-GCM in frames"
_TAG, _SALT = 16, 32


class Key:
    """32 bytes from a file. What it seals names it by its `id`, so that a wrong one is told apart from damage."""

    package, extra = "cryptography", "database"

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.id = hmac.digest(secret, b"rollback-responder key id", "sha256").hex()[:16]

    @classmethod
    def read(cls, file: Path) -> Key:
        """Raises ValueError where the file does not hold 32 bytes, raw, as hex or as base64."""
        import base64
        import binascii

        try:
            raw = file.read_bytes()
        except OSError as e:
            raise ValueError(f"{file} cannot be read: {e.strerror}") from None
        text = raw.strip()
        if len(raw) == 32:
            return cls(raw)
        if re.fullmatch(rb"[0-9a-fA-F]{64}", text):
            return cls(bytes.fromhex(text.decode()))
        try:
            found = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            found = b""
        if len(found) != 32:
            raise ValueError(f"{file} must hold 32 bytes, as hex or base64: openssl rand -hex 32 > {file}")
        return cls(found)

    def of_stream(self, salt: bytes) -> bytes:
        """A key for one stream only: its frames can be counted from 0 and no nonce ever comes twice."""
        return hmac.digest(self._secret, b"rollback-responder stream" + salt, "sha256")

    def seal_of(self, text: bytes) -> str:
        """What only a holder of the key can write beside a text."""
        return hmac.new(self._secret, b"rollback-responder text" + text, hashlib.sha256).hexdigest()


class Sealing:
    """Seals one stream. `name` is bound to it: it cannot be opened under another."""

    def __init__(self, key: Key, name: str) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._salt = os.urandom(_SALT)
        self._cipher, self._name = AESGCM(key.of_stream(self._salt)), name.encode()
        self._number, self._ahead = 0, bytearray()
        self._begun = False

    def add(self, block: bytes) -> bytes:
        out = bytearray() if self._begun else bytearray(MAGIC + self._salt)
        self._begun = True
        self._ahead += block
        while len(self._ahead) > FRAME:  # the last frame is held back until it is known to be the last
            out += self._frame(bytes(self._ahead[:FRAME]), last=False)
            del self._ahead[:FRAME]
        return bytes(out)

    def end(self) -> bytes:
        return self.add(b"") + self._frame(bytes(self._ahead), last=True)

    def _frame(self, text: bytes, *, last: bool) -> bytes:
        self._number += 1
        return self._cipher.encrypt(_nonce(self._number, last), text, self._name)


class Opening:
    """Opens what was sealed under that name. Raises Halt where anything in it is not as it was."""

    def __init__(self, key: Key, name: str) -> None:
        self._key, self._name, self._told = key, name, name.encode()
        self._number, self._ahead = 0, bytearray()
        self._cipher: object = None

    def add(self, block: bytes) -> bytes:
        self._ahead += block
        if self._cipher is None:
            if len(self._ahead) < len(MAGIC) + _SALT:
                return b""
            self._begin()
        out = bytearray()
        while len(self._ahead) > FRAME + _TAG:
            out += self._frame(bytes(self._ahead[: FRAME + _TAG]), last=False)
            del self._ahead[: FRAME + _TAG]
        return bytes(out)

    def end(self) -> bytes:
        if self._cipher is None:
            raise StepFailed(f"{self._name} is cut short")
        return self._frame(bytes(self._ahead), last=True)

    def _begin(self) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if not self._ahead.startswith(MAGIC):
            raise StepFailed(f"{self._name} was not encrypted by us")
        salt = bytes(self._ahead[len(MAGIC) : len(MAGIC) + _SALT])
        del self._ahead[: len(MAGIC) + _SALT]
        self._cipher = AESGCM(self._key.of_stream(salt))

    def _frame(self, text: bytes, *, last: bool) -> bytes:
        from cryptography.exceptions import InvalidTag

        self._number += 1
        try:
            opened: bytes = self._cipher.decrypt(_nonce(self._number, last), text, self._told)  # type: ignore[attr-defined]
        except (InvalidTag, ValueError):
            raise StepFailed(f"{self._name} is damaged or cut short at its frame {self._number}") from None
        return opened


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])
