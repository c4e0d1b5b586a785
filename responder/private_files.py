"""Files that hold secrets: written so that only their owner can read them, and refused where everybody can."""

from __future__ import annotations

import os
from pathlib import Path

FILE, DIRECTORY = 0o600, 0o700
_OTHERS_READ, _OTHERS_ENTER = 0o004, 0o001


def refuse_public(secret: Path) -> None:
    """Raises ValueError if every user of this host can read the file: it and all directories above it are open.

    Not for what the platform mounts, whose modes are not ours: files under /run/secrets (Compose) and on read-only
    file systems (Kubernetes, Swarm, systemd). Raises OSError if the file cannot be looked at.
    """
    file = secret.resolve()
    is_open = file.stat().st_mode & _OTHERS_READ and all(up.stat().st_mode & _OTHERS_ENTER for up in file.parents)
    is_mounted = file.is_relative_to("/run/secrets") or os.statvfs(file).f_flag & os.ST_RDONLY
    if is_open and not is_mounted:
        raise ValueError(f"{secret} can be read by every user of this host: chmod o= {secret}")


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
