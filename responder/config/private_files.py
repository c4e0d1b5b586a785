"""Files that may hold secrets are written so that only their owner can read them."""

from __future__ import annotations

import os
from pathlib import Path

FILE, DIRECTORY = 0o600, 0o700


def make_directory(path: Path) -> None:
    """Makes a directory and all that is missing above it, each of them private. Leaves those that are there alone."""
    missing = []
    while not path.is_dir():
        missing.append(path)
        path = path.parent
    for directory in reversed(missing):
        directory.mkdir(mode=DIRECTORY, exist_ok=True)  # Path.mkdir makes parents by the umask


def open_file(path: Path, flags: int) -> int:
    """A descriptor of a file that is private from its first byte on; one that is there becomes so."""
    descriptor = os.open(path, flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, FILE)
    try:
        os.fchmod(descriptor, FILE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor
