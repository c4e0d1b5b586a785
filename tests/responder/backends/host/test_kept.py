"""Releases that were kept, but cannot be what they were: found at planning, before anything is switched."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from responder.backends.host.client import Local
from responder.backends.host.release import CurrentRelease, PointerFile
from responder.backends.problems import joined
from responder.errors import StepFailed
from tests.responder.backends.host.test_restarts import stocked
from tests.responder.backends.host.test_rights import as_root


def link_to_the_bad(release: Path) -> None:
    shutil.rmtree(release)
    release.symlink_to("2")


def link_to_current(release: Path) -> None:
    """After the switch it would be a loop."""
    shutil.rmtree(release)
    release.symlink_to("../current")


def emptied(release: Path) -> None:
    (release / "app").unlink()


def dangling(release: Path) -> None:
    shutil.rmtree(release)
    release.symlink_to("/nowhere")


def loop(release: Path) -> None:
    shutil.rmtree(release)
    release.symlink_to(release.name)


def a_file(release: Path) -> None:
    shutil.rmtree(release)
    release.touch()


@pytest.mark.parametrize(
    ("spoil", "found"),
    [
        (link_to_the_bad, "is the same directory as 2"),
        (link_to_current, "is the same directory as 2"),
        (emptied, "is empty, unlike 2"),
        (dangling, "does not exist"),
        (loop, "does not exist"),
        (a_file, "does not exist"),
    ],
)
async def test_a_release_that_cannot_be_served_is_refused(
    spoil: Callable[[Path], None], found: str, tmp_path: Path
) -> None:
    spoil(stocked(tmp_path) / "releases" / "1")
    resource, local = CurrentRelease(root=tmp_path, restart=("/bin/true",)), Local()
    with pytest.raises(StepFailed, match=found):
        await resource.preflight(local, "1")
    with pytest.raises(StepFailed, match=found):
        await resource.write(local, "1", expected="2")
    assert await resource.read(local) == "2"
    assert await resource.converged(local, "2")


async def test_missing_shared_directories_elsewhere_are_noted(tmp_path: Path) -> None:
    """Such as /var/lib/shop: it may not matter, unlike one that belongs to the releases."""
    root, shared = stocked(tmp_path / "app"), tmp_path / "shared"
    (root / "releases" / "1" / "uploads").symlink_to(shared)
    (note,) = await CurrentRelease(root=root).preflight(Local(), "1")
    assert note.endswith(f"releases/1/uploads links to {shared}, which is missing")
    (root / "releases" / "2" / "uploads").symlink_to(shared)
    assert await CurrentRelease(root=root).preflight(Local(), "1") == ()


@pytest.mark.parametrize("mode", [0o700, 0o750, 0])
async def test_a_release_that_fewer_users_can_read_is_noted(mode: int, tmp_path: Path) -> None:
    release = stocked(tmp_path) / "releases" / "1"
    release.chmod(mode)
    (note,) = await CurrentRelease(root=tmp_path).preflight(Local(), "1")
    assert note.endswith("the service may be unable to read it")
    (tmp_path / "releases" / "2").chmod(mode)
    assert await CurrentRelease(root=tmp_path).preflight(Local(), "1") == ()
    release.chmod(0o755)


@as_root
async def test_a_release_of_another_owner_that_others_cannot_read_is_noted(tmp_path: Path) -> None:
    root = stocked(tmp_path)
    os.chown(root / "releases" / "1", 1234, 1234)
    assert await CurrentRelease(root=root).preflight(Local(), "1") == ()
    for version in "12":
        (root / "releases" / version).chmod(0o750)
    (note,) = await CurrentRelease(root=root).preflight(Local(), "1")
    assert "drwxr-x--- 1234:1234, unlike 2 (drwxr-x--- 0:0)" in note


@contextlib.contextmanager
def mounted(directory: Path, options: str) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(directory)], check=True)
    try:
        stocked(directory)
        (directory / "restart").write_text("#!/bin/sh\n")
        (directory / "restart").chmod(0o755)
        subprocess.run(["mount", "-o", f"remount,{options}", str(directory)], check=True)
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


@as_root
@pytest.mark.parametrize(
    ("options", "found"),
    [("ro", "Read-only file system; mount it read-write"), ("noexec", "mounted with noexec; install it elsewhere")],
)
async def test_mounts_that_forbid_the_rollback_are_found(options: str, found: str, tmp_path: Path) -> None:
    with mounted(tmp_path, options):
        resource = CurrentRelease(root=tmp_path, restart=("./restart",))
        assert found in joined(await resource.check_access(Local()))
        with pytest.raises(StepFailed, match=found):
            await resource.preflight(Local(), "1")


@contextlib.contextmanager
def attribute(path: Path, flag: str) -> Iterator[None]:
    if subprocess.run(["chattr", f"+{flag}", str(path)], check=False, capture_output=True).returncode:
        pytest.skip("this file system has no such attributes")
    try:
        yield
    finally:
        subprocess.run(["chattr", f"-{flag}", str(path)], check=True)


@as_root
@pytest.mark.parametrize("flag", ["i", "a"])
@pytest.mark.skipif(shutil.which("chattr") is None, reason="needs chattr")
async def test_files_that_not_even_root_can_replace_are_found(flag: str, tmp_path: Path) -> None:
    file = tmp_path / "live"
    file.write_text("2\n")
    for path, found in ((file, "is immutable or append-only"), (tmp_path, "Operation not permitted")):
        with attribute(path, flag):
            assert found in joined(await PointerFile(file=file).check_access(Local()))
            with pytest.raises(StepFailed, match="chattr -i -a"):
                await PointerFile(file=file).preflight(Local(), "1")
    assert await PointerFile(file=file).check_access(Local()) == []
    assert file.read_text() == "2\n"
