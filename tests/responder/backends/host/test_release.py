"""Links and pointer files keep the laws of resources, and a crash between switch and restart is never forgotten."""

from __future__ import annotations

import contextlib
import os
import struct
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from responder.backends.host.client import Local
from responder.backends.host.release import CurrentRelease, PointerFile
from responder.backends.resource import Resource
from responder.errors import Drift, StepFailed, Unavailable
from tests.contents.files import tree
from tests.responder.backends.host.test_client import gone
from tests.responder.backends.resource_law import keeps_the_laws

FOLLOW = ("/bin/sh", "-c", "basename $(readlink current) >> followed")


def releases(root: Path, **more: Any) -> CurrentRelease:
    for version in ("1", "2", "3"):
        (root / "releases" / version).mkdir(parents=True)
    (root / "current").symlink_to("releases/2")
    return CurrentRelease(root=root, **more)


def pointer(root: Path, **more: Any) -> PointerFile:
    (root / "live").write_text("2\n")
    return PointerFile(file=root / "live", **more)


def linked(root: Path, **more: Any) -> PointerFile:
    """A pointer that is a link to the file in another directory, as many files below /etc are."""
    (root / "etc").mkdir()
    (root / "live").symlink_to("etc/live")
    (root / "etc" / "live").write_text("2\n")
    return PointerFile(file=root / "live", **more)


LAWS = [(releases, "/current/target"), (pointer, "/live/content"), (linked, "/etc~1live/content")]


@pytest.mark.parametrize(("make", "version"), LAWS)
@pytest.mark.parametrize("restart", [None, ("/bin/true",)])
async def test_the_laws(make: Any, version: str, restart: Any, tmp_path: Path) -> None:
    resource = make(tmp_path, restart=restart)
    crowd(tmp_path)
    may_differ = {f"{version.rpartition('/')[0]}/changed": "it is written anew"}
    more: dict[str, Any] = {"state": lambda: tree(tmp_path), "version": [version], "may_differ": may_differ}
    await keeps_the_laws(resource, Local(), expected="2", to="1", stranger="3", **more)


_ENTRIES = [(0x01, 6, -1), (0x02, 4, 4711), (0x04, 0, -1), (0x10, 4, -1), (0x20, 0, -1)]
ATTRIBUTES = {
    "user.note": b"of others",
    "system.posix_acl_access": struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in _ENTRIES),
}
"""A note, and an access control list by which the user 4711 reads the file."""


def crowd(root: Path) -> None:
    """Files of others beside the pointer, of another user and with rights of their own."""
    for name, mode in (("shared", 0o2775), ("logs", 0o1777)):
        (root / name).mkdir()
        (root / name).chmod(mode)
    (root / "shared" / "env").write_text("SECRET=1")
    (root / "shared" / "env").chmod(0o640)
    (root / "releases").mkdir(exist_ok=True)
    (root / "releases" / "log").symlink_to("../logs")
    (root / ".current.old").symlink_to("releases/0")
    for name, value in ATTRIBUTES.items():
        with contextlib.suppress(OSError):  # not every file system has them
            for path in (root / "shared" / "env", *root.rglob("live")):
                os.setxattr(path, name, value)
    for path in (root / "live", root / "shared" / "env", root / "current"):
        if os.geteuid() == 0 and os.path.lexists(path):
            os.lchown(path, 4711, 4712)


async def test_each_switch_restarts_the_service(tmp_path: Path) -> None:
    resource = releases(tmp_path, restart=FOLLOW)
    await resource.write(Local(), "1", expected="2")
    await resource.write(Local(), "2", expected="1")
    assert (tmp_path / "followed").read_text().split() == ["1", "2"]


async def test_a_switch_without_its_restart_has_not_converged(tmp_path: Path) -> None:
    """As after a crash between the switch and the restart: it is at `to`, and must be written again."""
    resource = releases(tmp_path, restart=("/bin/false",))
    with pytest.raises(StepFailed, match="exited with 1"):
        await resource.write(Local(), "1", expected="2")
    assert await resource.read(Local()) == "1"
    assert not await resource.converged(Local(), "1")
    assert not await resource.converged(Local(), "2")
    mended = releases_again(resource, restart=FOLLOW)
    await mended.write(Local(), "1", expected="2")
    assert await mended.converged(Local(), "1")
    assert (tmp_path / "followed").read_text().split() == ["1"]


def releases_again(resource: CurrentRelease, **more: Any) -> CurrentRelease:
    return resource.model_copy(update=more)


async def test_a_missing_release_fails_without_changes(tmp_path: Path) -> None:
    resource = releases(tmp_path)
    with pytest.raises(StepFailed, match="release 9 does not exist"):
        await resource.write(Local(), "9", expected="2")
    assert await resource.read(Local()) == "2"


async def test_a_link_outside_the_releases_is_drift(tmp_path: Path) -> None:
    resource = releases(tmp_path)
    (tmp_path / "current").unlink()
    (tmp_path / "hotfix" / "2").mkdir(parents=True)
    (tmp_path / "current").symlink_to("hotfix/2")
    assert await resource.read(Local()) == str(tmp_path / "hotfix" / "2")
    with pytest.raises(Drift):
        await resource.write(Local(), "1", expected="2")


async def test_an_absolute_link_equals_a_relative_one(tmp_path: Path) -> None:
    resource = releases(tmp_path)
    (tmp_path / "current").unlink()
    (tmp_path / "current").symlink_to(tmp_path / "releases" / "3")
    assert await resource.read(Local()) == "3"


async def test_a_directory_instead_of_the_link_fails(tmp_path: Path) -> None:
    resource = releases(tmp_path)
    (tmp_path / "current").unlink()
    (tmp_path / "current").mkdir()
    with pytest.raises(StepFailed, match="not a symbolic link"):
        await resource.read(Local())


async def test_a_missing_pointer_reads_as_none(tmp_path: Path) -> None:
    resources: list[Resource] = [CurrentRelease(root=tmp_path / "none"), PointerFile(file=tmp_path / "none")]
    for resource in resources:
        assert await resource.read(Local()) is None


@pytest.mark.parametrize("version", ["..", "", "a/b", "."])
async def test_a_version_cannot_leave_the_releases_directory(version: str, tmp_path: Path) -> None:
    resource = releases(tmp_path)
    with pytest.raises((StepFailed, ValueError)):
        await resource.write(Local(), version, expected="2")
    assert await resource.read(Local()) == "2"


@pytest.mark.parametrize(
    "fields",
    [{"root": "relative"}, {"root": "/x", "link": "a/b"}, {"root": "/x", "restart": []}, {"root": "/x", "n": 1}],
)
def test_invalid_settings_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CurrentRelease.model_validate(fields)


async def test_a_restart_that_hangs_or_forks_ends_at_its_deadline_and_is_repeated(tmp_path: Path) -> None:
    """The link is switched, so the restart stays due until it succeeds; nothing of a hung one keeps running."""
    script = "echo $$ >> pids; (sleep 60 & echo $! >> pids; wait)"
    resource = releases(tmp_path, restart=("/bin/sh", "-c", script), restart_within="300ms")
    with pytest.raises(Unavailable, match="did not end within"):
        await resource.write(Local(), "1", expected="2")
    assert await resource.read(Local()) == "1"
    assert not await resource.converged(Local(), "1")
    for pid in map(int, (tmp_path / "pids").read_text().split()):
        assert await gone(pid)
    mended = releases_again(resource, restart=FOLLOW)
    await mended.write(Local(), "2", expected="1")
    assert await mended.converged(Local(), "2")
    assert (tmp_path / "followed").read_text().split() == ["2"]
