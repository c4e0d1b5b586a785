"""Whether the current user has the permissions that a rollback needs on this host. The tests change nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import secrets
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from responder.backends.problems import Problem

_MOUNTS = Path("/proc/self/mountinfo")
_FIXES = {
    errno.ENOSPC: "free space or inodes there",
    errno.EDQUOT: "free space or inodes there",
    errno.EROFS: "mount it read-write",
    errno.EPERM: "chattr -i -a it, or let the security module allow it",
}


def user() -> str:
    """The user of this process, as `responder (uid 998)`."""
    uid = os.geteuid()
    try:
        return f"{pwd.getpwuid(uid).pw_name} (uid {uid})"
    except KeyError:
        return f"uid {uid}"


def replacement_problems(path: Path, *, link: bool = False) -> list[Problem]:
    """Why `path` cannot be replaced by a rename. Creates, renames and removes an entry beside it.

    `link`: `path` is a symbolic link; some file systems do not support them. Of any other link, the file that it points
    to is replaced.
    """
    path = path if link else Path(os.path.realpath(path))
    directory = path.parent
    if not directory.is_dir():
        found = "is not a directory" if os.path.lexists(directory) else "does not exist"
        return [Problem(f"directory {directory}", found, f"create it, or correct the path of {path.name}")]
    if _is_mounted(path):
        fix = f"mount the directory {directory} instead of the file"
        return [Problem(str(path), "is a mount point, which cannot be replaced by a rename", fix)]
    here = f"directory {directory}"
    new, moved = (directory / f".{path.name}.{secrets.token_hex(4)}.check{n}" for n in (1, 2))
    try:
        if link:
            new.symlink_to("nowhere")
        else:
            _write_new(new)
        new.rename(moved)
    except OSError as e:
        what = "create and rename symbolic links" if link else "create and rename files"
        fix = _FIXES.get(e.errno or 0, "give this user write permission there")
        return [Problem(here, f"{user()} cannot {what} in it: {e.strerror}", fix)]
    finally:
        for file in (new, moved):
            with contextlib.suppress(OSError):
                file.unlink(missing_ok=True)
    return [*_foreign_in_sticky(path), *_immutable(path), *_lost_readers(path)]


def _write_new(file: Path) -> None:
    """Writes as much as a pointer needs: on a full disk an empty file could still be created."""
    with os.fdopen(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as opened:
        opened.write(b"x" * 4096)
        opened.flush()
        os.fsync(opened.fileno())


def _immutable(path: Path) -> Iterator[Problem]:
    """A file with `chattr +i` or `+a` cannot be replaced, not even by root."""
    if path.is_symlink() or not path.is_file():
        return
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CLOEXEC))
    except OSError as e:
        if e.errno == errno.EPERM:  # without write permission it would be EACCES
            yield Problem(str(path), "is immutable or append-only", f"chattr -i -a {path}")


def _lost_readers(path: Path) -> Iterator[Problem]:
    """A replaced file belongs to this user, and to its old group only if this user is a member of it."""
    uid = os.geteuid()
    if uid == 0 or path.is_symlink() or not path.is_file():
        return
    present = path.stat()
    groups = {os.getegid(), *os.getgroups()}
    lost_owner = present.st_uid != uid and present.st_mode & stat.S_IRUSR and not present.st_mode & stat.S_IROTH
    if lost_owner and not (present.st_mode & stat.S_IRGRP and present.st_gid in groups):
        found = f"belongs to uid {present.st_uid}, which could not read it after {user()} replaced it"
        yield Problem(
            str(path), found, "make it readable by all, or give it to this user and to the group of its readers"
        )
    elif present.st_mode & stat.S_IRGRP and not present.st_mode & stat.S_IROTH and present.st_gid not in groups:
        found = f"has the group {present.st_gid}, which {user()} is not a member of: a replacement would lose it"
        yield Problem(str(path), found, "add this user to the group, or make the file readable by all")


def _foreign_in_sticky(path: Path) -> Iterator[Problem]:
    """In a sticky directory such as /tmp, only the owner of the entry or the directory may replace it."""
    with contextlib.suppress(OSError):
        directory, entry, uid = path.parent.stat(), path.lstat(), os.geteuid()
        if directory.st_mode & stat.S_ISVTX and uid not in (0, entry.st_uid, directory.st_uid):
            found = f"belongs to uid {entry.st_uid}, and its directory is sticky: {user()} cannot replace it"
            yield Problem(str(path), found, "change its owner, or remove the sticky bit of the directory")


def _is_mounted(path: Path) -> bool:
    try:
        points = {line.split()[4] for line in _MOUNTS.read_text().splitlines()}
    except (OSError, IndexError):
        return False
    return str(path).replace(" ", "\\040") in points


def program_problems(argv: tuple[str, ...], cwd: Path | None = None) -> list[Problem]:
    """Why the program of a command cannot be started from `cwd`. Starts nothing."""
    name = argv[0]
    here = f"program {name}"
    path = (cwd or Path.cwd()) / name if "/" in name else Path(shutil.which(name) or "")
    if "/" not in name and path == Path():
        return [Problem(here, f"is not in the PATH of {user()}", "install it, or give its full path")]
    if not path.exists():
        return [Problem(here, "does not exist", f"install it, or correct the path{_from(name, cwd)}")]
    if not path.is_file() or not os.access(path, os.X_OK):
        if path.is_file() and os.statvfs(path).f_flag & os.ST_NOEXEC:
            return [Problem(here, "is on a file system mounted with noexec", "install it elsewhere")]
        return [Problem(here, f"is not executable for {user()}", f"chmod +x {path}, or correct the path")]
    return list(_interpreter_problems(path))


def _from(name: str, cwd: Path | None) -> str:
    return f" (it is relative to {cwd})" if cwd and not name.startswith("/") else ""


def _interpreter_problems(script: Path) -> Iterator[Problem]:
    """The first line of a script may name a missing program."""
    with contextlib.suppress(OSError), script.open("rb") as file:
        line = file.readline(256)
        if line.startswith(b"#!") and (words := line[2:].decode(errors="replace").split()):
            fix = "install it, or correct the first line of the script"
            if not os.access(words[0], os.X_OK):
                yield Problem(f"program {script}", f"is a script of {words[0]}, which cannot be run", fix)
            elif Path(words[0]).name == "env" and len(words) == 2 and shutil.which(words[1]) is None:
                yield Problem(f"program {script}", f"is a script of {words[1]}, which is not in the PATH", fix)
