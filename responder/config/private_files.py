"""Files that may hold secrets: readable only by their owner, with names that stay in their directory."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

FILE, DIRECTORY = 0o600, 0o700
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


def make_directory(path: Path) -> None:
    """Creates a directory and its missing parents, all private. Existing ones keep their mode."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        directory.mkdir(mode=DIRECTORY, exist_ok=True)  # mkdir(parents=True) would create parents with the umask


def open_file(path: Path, flags: int) -> int:
    """Opens or creates a file and makes it private before anything is written. Returns its descriptor."""
    descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE)
    try:
        os.fchmod(descriptor, FILE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def plain(text: str) -> str:
    """A unique file name for any text: no separators, no leading dot, at most 200 characters."""
    if is_plain(text):
        return text
    shown = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:150]
    return f"{shown or 'x'}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"


def is_plain(text: str) -> bool:
    return _PLAIN.fullmatch(text) is not None
