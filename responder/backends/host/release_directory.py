"""A directory with one directory per release, and a link to the live one. Every function blocks: see `Local.look`."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import NamedTuple

from responder.backends.problems import Problem
from responder.errors import StepFailed

_LEVELS, _ENTRIES = 3, 10_000


def link_target(link: Path) -> Path | None:
    """The absolute target of a symbolic link; None if it does not exist. Raises StepFailed for a plain file.

    Only the last part of the target may still be a link.
    """
    try:
        target = link.parent / link.readlink()
        if ".." not in target.parts:
            return Path(os.path.normpath(target))
        return target.resolve() if target.name == ".." else target.parent.resolve() / target.name
    except FileNotFoundError:
        return None
    except OSError as e:
        raise StepFailed(f"{link} is not a symbolic link: {e.strerror}") from e


class ReleaseDirectory(NamedTuple):
    """The link, the directory with the releases, and the directory that contains both."""

    link: Path
    home: Path
    root: Path

    def live(self) -> str | None:
        """The live release; the whole target of a link to anything else, and None without a link."""
        target = link_target(self.link)
        if target is not None and _same(target.parent, self.home):
            return target.name
        return None if target is None else str(target)

    def target_problems(self, title: str, value: str) -> list[Problem]:
        """Why the link cannot be set to this release."""
        release = self.home / value
        if not release.is_dir():
            found = f"release {value} does not exist in {self.home}"
            return [Problem(title, found, "keep every release until a newer one is known good")]
        live = link_target(self.link)
        if live is not None and live.name != value:
            keep = f"deploy {value} again into a directory of its own"
            if _same(release, live):
                return [Problem(f"release {value}", f"is the same directory as {live.name}, {release.resolve()}", keep)]
            if _is_empty(release) and _is_empty(live) is False:
                return [Problem(f"release {value}", f"is empty, unlike {live.name}", keep)]
        fix = "restore the shared file or directory"
        return [
            Problem(str(release / name), f"links to {target}, which is missing", fix)
            for name, target in _newly_broken(release, live).items()
            if target.is_relative_to(self.root.resolve())
        ]

    def notes(self, value: str) -> tuple[str, ...]:
        """What people should know about this release: missing links, and fewer readers than the live one has."""
        release, live = self.home / value, link_target(self.link)
        if live is None or live.name == value:
            return ()
        broken = _newly_broken(release, live)
        return (
            *(f"{release / name} links to {target}, which is missing" for name, target in broken.items()),
            *_stricter(release, live),
        )

    def problems(self) -> list[Problem]:
        """The problems of the current link."""
        home, link, fix = self.home, f"link {self.link}", "deploy a release there, and link to it"
        if not home.is_dir():
            return [Problem(f"directory {home}", "does not exist", "create it, or correct root and releases")]
        try:
            releases = [entry for entry in home.iterdir() if entry.is_dir()]
        except OSError as e:
            raise StepFailed(f"directory {home} cannot be listed: {e.strerror}") from e
        if not releases:
            return [Problem(f"directory {home}", "contains no release", fix)]
        target = link_target(self.link)
        if target is None:
            return [Problem(link, "does not exist", fix)]
        if not _same(target.parent, home):
            return [Problem(link, f"points to {target}, which is not in {home}", fix)]
        if not target.is_dir():
            return [Problem(link, f"points to {target}, which does not exist", fix)]
        release = link_target(target) if target.is_symlink() else None
        if release is not None and _same(release.parent, home):
            found = f"points to {target.name}, which is a link to the release {release.name}"
            return [Problem(link, found, f"link to {release} itself, whose name is the version")]
        return []


def _same(path: Path, other: Path) -> bool:
    """Whether both paths lead to the same directory, also through symbolic links."""
    return path == other or path.resolve() == other.resolve()


def _is_empty(directory: Path) -> bool | None:
    """Whether it contains nothing; None if it does not exist, or if this user cannot list it."""
    try:
        return not any(directory.iterdir())
    except OSError:
        return None


def _newly_broken(release: Path, live: Path | None) -> dict[str, Path]:
    """Links of a release to something missing outside of it, except those that the live release has as well."""
    broken = _broken_links(release)
    also = _broken_links(live) if broken and live is not None else {}
    return {name: target for name, target in broken.items() if also.get(name) != target}


def _broken_links(directory: Path) -> dict[str, Path]:
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


def _stricter(directory: Path, other: Path) -> tuple[str, ...]:
    """A note if a directory is not readable by everybody who can read the other one; empty if it is."""
    with contextlib.suppress(OSError):
        kept, live = directory.stat(), other.stat()
        modes = [stat.S_IMODE(found.st_mode) & 0o555 for found in (kept, live)]
        same_owner = (kept.st_uid, kept.st_gid) == (live.st_uid, live.st_gid)
        if modes[1] & ~modes[0] or (not same_owner and modes[0] & 0o005 != 0o005):
            how = [f"{stat.filemode(found.st_mode)} {found.st_uid}:{found.st_gid}" for found in (kept, live)]
            return (f"{directory} is {how[0]}, unlike {other.name} ({how[1]}): the service may be unable to read it",)
    return ()
