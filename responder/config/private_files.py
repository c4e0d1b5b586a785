"""Writes files that may hold secrets, readable only by their owner."""

from __future__ import annotations

import os
from pathlib import Path

FILE, DIRECTORY = 0o600, 0o700


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
