"""Directories: type, owner, permissions, attributes, content, links and times of everything in them."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Any


def tree(*roots: Path) -> dict[str, Any]:
    """Every file, link and directory below these paths, by path relative to the first one.

    Directories have no time: a replaced file changes that of its directory, and so does a test of the right to do it.
    """
    found = {}
    for root in roots:
        for path in (root, *sorted(root.rglob("*"))):
            found[os.path.relpath(path, roots[0])] = _entry(path)
    return found


def _entry(path: Path) -> dict[str, Any]:
    about = path.lstat()
    entry = {
        "mode": stat.filemode(about.st_mode),
        "owner": f"{about.st_uid}:{about.st_gid}",
        "links": about.st_nlink if stat.S_ISREG(about.st_mode) else 1,
        "attributes": _attributes(path),
    }
    if path.is_symlink():
        return {**entry, "target": str(path.readlink()), "changed": about.st_mtime_ns}
    if stat.S_ISREG(about.st_mode):
        return {**entry, "content": path.read_bytes(), "changed": about.st_mtime_ns}
    return entry


def _attributes(path: Path) -> dict[str, bytes]:
    with contextlib.suppress(OSError):  # a file system without them
        return {
            name: os.getxattr(path, name, follow_symlinks=False) for name in os.listxattr(path, follow_symlinks=False)
        }
    return {}
