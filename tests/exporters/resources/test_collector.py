"""A fake host, and its complete /metrics output, compared with one text file.

To accept a change: UPDATE_GOLDEN=1 pytest tests/exporters/test_resources.py
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from exporters.resources.collector import READERS, Resources
from exporters.resources.host import Host, Mount

GOLDEN = Path(__file__).with_name("metrics.golden")
FILES = {
    "/proc/pressure/cpu": "some avg10=0.00 avg60=0.00 avg300=0.00 total=1500000\nfull avg10=0.00 total=0\n",
    "/proc/pressure/io": "some avg10=0.00 total=2500000\nfull avg10=0.00 total=500000\n",
    "/proc/pressure/memory": "some avg10=0.00 total=3\nfull avg10=0.00 total=2\n",
    "/proc/sys/kernel/pid_max": "4194304\n",
    "/proc/stat": "cpu  1 2 3\nprocs_running 3\nprocs_blocked 1\n",
    "/proc/sys/fs/file-nr": "1504\t0\t9223372\n",
    "/proc/self/cgroup": "0::/\n",
    "/sys/fs/cgroup/cpu.max": "150000 100000\n",
    "/sys/fs/cgroup/cpu.stat": "usage_usec 12500000\nuser_usec 1\nthrottled_usec 250000\n",
    "/sys/fs/cgroup/memory.max": "536870912\n",
    "/sys/fs/cgroup/memory.current": "300000000\n",
    "/sys/fs/cgroup/memory.stat": "anon 1\ninactive_file 100000000\n",
    "/sys/fs/cgroup/memory.events": "oom 1\noom_kill 2\n",
    "/sys/fs/cgroup/pids.current": "12\n",
    "/sys/fs/cgroup/pids.max": "max\n",
}


class FakeHost(Host):
    """A machine with two CPUs, two disks and one container limit."""

    def __init__(self, files: Mapping[str, str] = FILES) -> None:
        self._files = files

    def read(self, path: str) -> str:
        if path not in self._files:
            raise FileNotFoundError(2, "No such file or directory", path)
        return self._files[path]

    def cpu_seconds(self) -> list[Mapping[str, float]]:
        return [
            {"user": 10.5, "system": 4, "idle": 985.5, "guest": 3},
            {"user": 20, "system": 5, "idle": 975, "guest": 0},
        ]

    def load(self) -> tuple[float, float, float]:
        return (0.5, 0.25, 0.125)

    def memory(self) -> Mapping[str, float]:
        return {"total": 8e9, "available": 5e9, "free": 1e9, "buffers": 1e8, "cached": 3e9}

    def swap(self) -> Mapping[str, float]:
        return {"total": 2e9, "free": 1.5e9, "sin": 4096, "sout": 8192}

    def mounts(self) -> list[Mount]:
        return [
            Mount(
                "/dev/sda1",
                "/",
                "ext4",
                False,
                size=10**11,
                free=5 * 10**10,
                available=4 * 10**10,
                inodes=100,
                inodes_free=9,
            ),
            Mount("/dev/sdb1", '/mnt/a "b"', "xfs", True, size=10, free=5, available=5, inodes=0, inodes_free=0),
        ]

    def disk_counters(self) -> Mapping[str, Mapping[str, float]]:
        return {"sda": {"read_bytes": 512, "write_bytes": 1024, "read_count": 1, "write_count": 2, "busy_time": 1500}}

    def network_counters(self) -> Mapping[str, Mapping[str, float]]:
        fields = ("bytes_recv", "bytes_sent", "packets_recv", "packets_sent", "errin", "errout", "dropin", "dropout")
        return {"eth0": dict(zip(fields, range(10, 18), strict=True))}

    def interfaces_up(self) -> Mapping[str, bool]:
        return {"eth0": True, "wlan0": False}

    def processes(self) -> int:
        return 123


def published(host: Host, selected: tuple[str, ...] = tuple(READERS)) -> str:
    registry = CollectorRegistry()
    registry.register(Resources(selected, host))
    text = generate_latest(registry).decode()
    lines = [line for line in text.splitlines(keepends=True) if "_created" not in line]
    return re.sub(r"(duration_seconds\{.*\}) .*", r"\1 0.001", "".join(lines))


def test_all_series_of_a_host_match_the_golden_file() -> None:
    text = published(FakeHost())
    if os.environ.get("UPDATE_GOLDEN"):
        GOLDEN.write_text(text)
    assert text == GOLDEN.read_text()


def test_promtool_reports_no_problems() -> None:
    subprocess.run(["/usr/bin/promtool", "check", "metrics"], input=published(FakeHost()), text=True, check=True)


def test_an_unreadable_resource_does_not_hide_others(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeHost):
        def memory(self) -> Mapping[str, float]:
            raise PermissionError(13, "Permission denied")

    text = published(Broken())
    assert 'resource_scrape_success{resource="memory"} 0.0' in text
    assert 'resource_scrape_success{resource="swap"} 1.0' in text
    assert "resource_memory_size_bytes" not in text
    assert "resource could not be read" in caplog.text


def test_a_missing_kernel_feature_is_no_failure() -> None:
    text = published(FakeHost({}), ("pressure", "cgroup"))
    assert "resource_pressure" not in text
    assert 'resource_scrape_success{resource="pressure"} 1.0' in text


def test_only_selected_resources_are_published() -> None:
    text = published(FakeHost(), ("load",))
    assert "resource_load1 0.5" in text
    assert "resource_cpu" not in text


def test_this_host_can_be_read() -> None:
    text = published(Host())
    assert re.findall(r'resource_scrape_success\{resource="(\w+)"\} 0', text) == []
    assert "resource_memory_size_bytes" in text
