"""Reads this machine itself, without fakes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from exporters.resources.host import Host


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of 4 MiB."""
    if os.geteuid() != 0:
        pytest.skip("only root may mount")
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("this machine does not let root mount")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_a_small_filesystem_fills(small: Path) -> None:
    (small / "data").write_bytes(b"x" * (3 << 20))
    [mount] = [mount for mount in Host().mounts() if mount.mountpoint == str(small)]
    assert (mount.fstype, mount.size, mount.available) == ("tmpfs", 4 << 20, 1 << 20)


def test_each_filesystem_that_can_fill_up_is_listed_once() -> None:
    mounts = Host().mounts()
    assert "/" in {mount.mountpoint for mount in mounts}
    assert len({mount.mountpoint for mount in mounts}) == len(mounts)
    assert all(mount.size > 0 for mount in mounts)
    assert not {"proc", "sysfs", "cgroup2", "devpts"} & {mount.fstype for mount in mounts}
