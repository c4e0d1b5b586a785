"""Rights, links, shared directories and disk space of release directories: found before they are needed."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from responder.backends.host.client import Local
from responder.backends.host.release import CurrentRelease, PointerFile
from responder.errors import StepFailed

OTHER, GROUP = 65534, 4242
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to act as another user")


def releases(root: Path, link: str = "releases/2", **more: Any) -> CurrentRelease:
    for version in ("1", "2"):
        (root / "releases" / version).mkdir(parents=True)
    (root / "current").symlink_to(link)
    return CurrentRelease(root=root, **more)


@pytest.mark.parametrize("link", ["releases/2", "{root}/releases/2", "{real}/releases/2", "{real}/all/2"])
async def test_a_link_keeps_its_spelling(tmp_path: Path, link: str) -> None:
    """The root or the directory of the releases may be a link itself."""
    real, root = tmp_path / "data", tmp_path / "app"
    real.mkdir()
    root.symlink_to(real)
    link = link.format(root=root, real=real)
    resource = releases(root, link)
    (real / "releases").rename(real / "all")
    (real / "releases").symlink_to("all")
    assert await resource.read(Local()) == "2"
    assert await resource.check_access(Local()) == []
    await resource.write(Local(), "1", expected="2")
    assert await resource.read(Local()) == "1"
    assert (root / "current").readlink() == Path(link).with_name("1")
    assert (root / "current").samefile(real / "all" / "1")
    await resource.write(Local(), "2", expected="1")
    assert (root / "current").readlink() == Path(link)


async def test_a_link_to_a_link_to_a_release_is_reported(tmp_path: Path) -> None:
    resource = releases(tmp_path, "releases/latest")
    (tmp_path / "releases" / "latest").symlink_to("2")
    (problem,) = await resource.check_access(Local())
    assert "is a link to the release 2" in problem.found


async def test_a_release_may_be_a_link_itself(tmp_path: Path) -> None:
    resource = releases(tmp_path, "releases/3")
    (tmp_path / "store").mkdir()
    (tmp_path / "releases" / "3").symlink_to(tmp_path / "store")
    assert await resource.check_access(Local()) == []
    assert await resource.read(Local()) == "3"


async def test_a_missing_shared_file_is_found_at_planning(tmp_path: Path) -> None:
    resource = releases(tmp_path)
    (tmp_path / "shared" / "log").mkdir(parents=True)
    for version in ("1", "2"):
        release = tmp_path / "releases" / version
        (release / "config").mkdir()
        (release / "log").symlink_to("../../shared/log")
        (release / "tmp").symlink_to("../../shared/tmp")  # missing for both: the live version runs without it
        (release / "own").symlink_to("of-a-build")
    (tmp_path / "releases/1/config/keys.yml").symlink_to("../../../shared/keys.yml")
    with pytest.raises(StepFailed, match=r"config/keys\.yml: links to .*/shared/keys\.yml, which is missing"):
        await resource.preflight(Local(), "1")
    (tmp_path / "shared" / "keys.yml").touch()
    assert await resource.preflight(Local(), "1") == ()


@contextlib.contextmanager
def full_disk(directory: Path) -> Iterator[None]:
    directory.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=100", "tmpfs", str(directory)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


@as_root
@pytest.mark.parametrize("kind", ["pointer", "link with a restart"])
async def test_a_full_disk_is_found_at_planning_and_changes_nothing(tmp_path: Path, kind: str) -> None:
    with full_disk(tmp_path / "disk"):
        root = tmp_path / "disk"
        resource: Any = releases(root, restart=("/bin/true",))
        if kind == "pointer":
            (root / "live").write_text("2\n")
            resource = PointerFile(file=root / "live")
        assert await resource.check_access(Local()) == []
        with contextlib.suppress(OSError), (root / "filler").open("wb") as filler:
            while True:
                filler.write(b"x" * 4096)
                filler.flush()
        before = sorted(root.rglob("*"))
        (problem,) = await resource.check_access(Local())
        assert "No space left on device" in problem.found
        assert problem.fix == "free space or inodes there"
        with pytest.raises(StepFailed, match="No space left"):
            await resource.preflight(Local(), "1")
        assert sorted(root.rglob("*")) == before
        assert await resource.read(Local()) == "2"


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory that every user can write to."""
    directory = Path(tempfile.mkdtemp(prefix="rights-"))
    directory.chmod(0o777)
    yield directory
    shutil.rmtree(directory)


@contextlib.contextmanager
def acting_as(user: int) -> Iterator[None]:
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(0)


@as_root
@pytest.mark.parametrize(
    ("owner", "mode", "found"),
    [
        (0, 0o600, "could not read it"),
        (OTHER, 0o640, "not a member of"),
        (0, 0o644, ""),
        (OTHER, 0o600, ""),
    ],
)
async def test_readers_that_a_replacement_would_lose_are_found(shared: Path, owner: int, mode: int, found: str) -> None:
    file = shared / "live"
    file.write_text("2\n")
    os.chown(file, owner, GROUP)
    file.chmod(mode)
    with acting_as(OTHER):
        problems = await Local().replacement_problems(file)
    assert [found in problem.found for problem in problems] == ([True] if found else [])


@as_root
async def test_a_replacement_keeps_owner_and_group(shared: Path) -> None:
    file, resource = shared / "live", releases(shared)
    file.write_text("2\n")
    file.chmod(0o640)
    os.chown(file, OTHER, GROUP)
    os.lchown(shared / "current", OTHER, GROUP)
    await PointerFile(file=file).write(Local(), "1", expected="2")
    await resource.write(Local(), "1", expected="2")
    for path in (file, shared / "current"):
        assert (path.lstat().st_uid, path.lstat().st_gid) == (OTHER, GROUP)
    assert file.stat().st_mode & 0o777 == 0o640


@as_root
async def test_a_directory_of_another_user_is_reported_with_the_user_who_acts(shared: Path) -> None:
    resource = releases(shared)
    shared.chmod(0o755)
    with acting_as(OTHER):
        (problem,) = await resource.check_access(Local())
    assert f"(uid {OTHER}) cannot create and rename symbolic links in it" in problem.found
