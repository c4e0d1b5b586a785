"""Encrypts streams in frames. Decryption detects any changed, swapped or missing frame."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from pathlib import Path

from foundation.secrets import read_secret_bytes
from responder.errors import StepFailed

MAGIC = b"RBRSEAL1"
FRAME = 1 << 20
_TAG, _SALT = 16, 32


class Key:
    """A key of 32 bytes. Manifests contain its `id`, which distinguishes a wrong key from damaged data."""

    package, extra = "cryptography", "database"

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self.id = hmac.digest(secret, b"rollback-responder key id", "sha256").hex()[:16]

    @classmethod
    def read(cls, file: Path) -> Key:
        """Reads a key file. Raises ValueError unless it contains 32 bytes, raw, as hex or as base64."""
        import base64
        import binascii

        raw = read_secret_bytes(file, "key file")
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
            raise ValueError(
                f"key file {file}: expected 32 bytes as hex or base64; create one with: openssl rand -hex 32 > {file}"
            )
        return cls(found)

    def stream_key(self, salt: bytes) -> bytes:
        """The key of one stream. Each stream numbers its frames from 1, so no nonce is used twice."""
        return hmac.digest(self._secret, b"rollback-responder stream" + salt, "sha256")

    def sign(self, text: bytes) -> str:
        """The HMAC-SHA256 of the text as hex."""
        return hmac.new(self._secret, b"rollback-responder text" + text, hashlib.sha256).hexdigest()


class Encryptor:
    """Encrypts one stream. Decryption needs the same `name`."""

    def __init__(self, key: Key, name: str) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        self._salt = os.urandom(_SALT)
        self._cipher, self._name = AESGCM(key.stream_key(self._salt)), name.encode()
        self._number, self._buffer = 0, bytearray()
        self._started = False

    def add(self, block: bytes) -> bytes:
        """Takes a block and returns the frames that are complete."""
        out = bytearray() if self._started else bytearray(MAGIC + self._salt)
        self._started = True
        self._buffer += block
        while len(self._buffer) > FRAME:  # hold the last frame back: it is marked as the last
            out += self._frame(bytes(self._buffer[:FRAME]), last=False)
            del self._buffer[:FRAME]
        return bytes(out)

    def end(self) -> bytes:
        """Returns the last frames."""
        return self.add(b"") + self._frame(bytes(self._buffer), last=True)

    def _frame(self, text: bytes, *, last: bool) -> bytes:
        self._number += 1
        return self._cipher.encrypt(_nonce(self._number, last), text, self._name)


class Decryptor:
    """Decrypts a stream that was encrypted under that name. Raises StepFailed if it was modified."""

    def __init__(self, key: Key, name: str) -> None:
        self._key, self._name, self._bound = key, name, name.encode()
        self._number, self._buffer = 0, bytearray()
        self._cipher: object = None

    def add(self, block: bytes) -> bytes:
        """Takes a block and returns what is decrypted so far."""
        self._buffer += block
        if self._cipher is None:
            if len(self._buffer) < len(MAGIC) + _SALT:
                return b""
            self._begin()
        out = bytearray()
        while len(self._buffer) > FRAME + _TAG:
            out += self._frame(bytes(self._buffer[: FRAME + _TAG]), last=False)
            del self._buffer[: FRAME + _TAG]
        return bytes(out)

    def end(self) -> bytes:
        """Returns the rest. Raises StepFailed if the stream is incomplete."""
        if self._cipher is None:
            raise StepFailed(f"{self._name} is truncated")
        return self._frame(bytes(self._buffer), last=True)

    def _begin(self) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM

        if not self._buffer.startswith(MAGIC):
            raise StepFailed(f"{self._name} is not encrypted in the format of the responder")
        salt = bytes(self._buffer[len(MAGIC) : len(MAGIC) + _SALT])
        del self._buffer[: len(MAGIC) + _SALT]
        self._cipher = AESGCM(self._key.stream_key(salt))

    def _frame(self, frame: bytes, *, last: bool) -> bytes:
        from cryptography.exceptions import InvalidTag

        self._number += 1
        try:
            text: bytes = self._cipher.decrypt(_nonce(self._number, last), frame, self._bound)  # type: ignore[attr-defined]
        except (InvalidTag, ValueError):
            raise StepFailed(f"{self._name} is damaged or truncated at frame {self._number}") from None
        return text


def _nonce(number: int, last: bool) -> bytes:
    return number.to_bytes(11, "big") + bytes([last])
