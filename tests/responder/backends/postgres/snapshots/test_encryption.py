"""Encrypted data is decrypted exactly, or not at all."""

from __future__ import annotations

import base64
import os
from pathlib import Path

import pytest

from responder.backends.postgres.snapshots.encryption import FRAME, Decryptor, Encryptor, Key
from responder.errors import StepFailed

KEY = Key(bytes(range(32)))


def sealed(text: bytes, *, block: int = 100_000, name: str = "a") -> bytes:
    encryptor = Encryptor(KEY, name)
    parts = [encryptor.add(text[at : at + block]) for at in range(0, len(text), block)]
    return b"".join([*parts, encryptor.end()])


def opened(text: bytes, *, block: int = 77_777, key: Key = KEY, name: str = "a") -> bytes:
    decryptor = Decryptor(key, name)
    parts = [decryptor.add(text[at : at + block]) for at in range(0, len(text), block)]
    return b"".join([*parts, decryptor.end()])


@pytest.mark.parametrize("size", [0, 1, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME + 5])
def test_decryption_restores_the_data(size: int) -> None:
    text = os.urandom(size)
    assert opened(sealed(text)) == text


def test_equal_data_is_encrypted_differently() -> None:
    assert sealed(b"x" * 100)[8:] != sealed(b"x" * 100)[8:]


WHOLE = sealed(b"y" * (2 * FRAME + 10))
AFTER_A_FRAME = 8 + 32 + FRAME + 16


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        WHOLE[:20],
        WHOLE[:40],
        WHOLE[:-1],
        WHOLE[:AFTER_A_FRAME],
        WHOLE[: AFTER_A_FRAME + FRAME + 16],
        WHOLE + b"z",
        WHOLE[:50] + bytes([WHOLE[50] ^ 1]) + WHOLE[51:],
        WHOLE[:40] + WHOLE[AFTER_A_FRAME : AFTER_A_FRAME + FRAME + 16] + WHOLE[40:AFTER_A_FRAME] + WHOLE[-26:],
        b"PGDMP" + WHOLE,
    ],
    ids=["empty", "head", "no frame", "a byte", "at a frame", "at the last", "longer", "a bit", "swapped", "not ours"],
)
def test_damage_is_detected(damaged: bytes) -> None:
    with pytest.raises(StepFailed):
        opened(damaged)


def test_another_key_or_name_cannot_decrypt() -> None:
    with pytest.raises(StepFailed):
        opened(WHOLE, key=Key(bytes(32)))
    with pytest.raises(StepFailed):
        opened(WHOLE, name="b")


def test_keys_are_read_as_raw_hex_or_base64(tmp_path: Path) -> None:
    raw, file = bytes(range(100, 132)), tmp_path / "key"
    for text in (raw, raw.hex().encode() + b"\n", base64.b64encode(raw)):
        file.write_bytes(text)
        assert Key.read(file).id == Key(raw).id
    for text in (b"", b"short", raw + b"x", b"ab" * 33):
        file.write_bytes(text)
        with pytest.raises(ValueError, match="32 bytes"):
            Key.read(file)
    with pytest.raises(ValueError, match="none cannot be read: No such file"):
        Key.read(tmp_path / "none")
