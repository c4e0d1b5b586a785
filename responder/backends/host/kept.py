"""Whether a release that was kept is still whole: shared files that it links to, and who can read it."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

_LEVELS, _ENTRIES = 3, 10_000


def broken_links(directory: Path) -> dict[str, Path]:
    """Links in the first levels of a directory to something missing outside of it."""
    found: dict[str, Path] = {}
    pending, seen = [(directory, 1)], 0
    while pending:
        folder, level = pending.pop()
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                seen += 1
                path = Path(entry.path)
                if seen > _ENTRIES:
                    return found
                if entry.is_symlink():
                    target = Path(os.path.normpath(folder.resolve() / path.readlink()))
                    if not target.is_relative_to(directory.resolve()) and not path.exists():
                        found[str(path.relative_to(directory))] = target
                elif level < _LEVELS and entry.is_dir(follow_symlinks=False):
                    pending.append((path, level + 1))
    return found


def stricter(directory: Path, other: Path) -> tuple[str, ...]:
    """A note if a directory is not readable by everybody who can read the other one; empty if it is."""
    with contextlib.suppress(OSError):
        kept, live = directory.stat(), other.stat()
        modes = [stat.S_IMODE(found.st_mode) & 0o555 for found in (kept, live)]
        same_owner = (kept.st_uid, kept.st_gid) == (live.st_uid, live.st_gid)
        if modes[1] & ~modes[0] or (not same_owner and modes[0] & 0o005 != 0o005):
            how = [f"{stat.filemode(found.st_mode)} {found.st_uid}:{found.st_gid}" for found in (kept, live)]
            return (f"{directory} is {how[0]}, unlike {other.name} ({how[1]}): the service may be unable to read it",)
    return ()
