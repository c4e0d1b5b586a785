from __future__ import annotations

from exporters.resources.cgroups import cgroup
from exporters.resources.host import Host


class Tree(Host):
    def __init__(self, **files: str) -> None:
        self._files = {"/" + path.replace("__", "/"): text for path, text in files.items()}

    def read(self, path: str) -> str:
        try:
            return self._files[path]
        except KeyError:
            raise FileNotFoundError(2, "No such file", path) from None


def series(files: dict[str, str]) -> dict[str, float]:
    host = Tree()
    host._files = files
    return {sample.name: sample.value for family in cgroup(host) for sample in family.samples}


def test_version_2_of_a_unit_is_read() -> None:
    unit = "/sys/fs/cgroup/system.slice/shop.service"
    found = series(
        {
            "/proc/self/cgroup": "0::/system.slice/shop.service\n",
            f"{unit}/cpu.max": "max 100000\n",
            f"{unit}/memory.max": "1000\n",
            f"{unit}/memory.current": "500\n",
            f"{unit}/memory.stat": "inactive_file 100\n",
            f"{unit}/pids.max": "64\n",
        }
    )
    assert found == {
        "resource_cgroup_memory_limit_bytes": 1000,
        "resource_cgroup_memory_used_bytes": 500,
        "resource_cgroup_memory_working_set_bytes": 400,
        "resource_cgroup_processes_limit": 64,
    }


def test_version_1_without_limits_is_read() -> None:
    found = series(
        {
            "/proc/self/cgroup": "3:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n1:name=systemd:/docker/abc\n",
            "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "50000\n",
            "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            "/sys/fs/cgroup/cpu/cpu.stat": "nr_periods 5\nnr_throttled 1\nthrottled_time 2000000000\n",
            "/sys/fs/cgroup/cpuacct/docker/abc/cpuacct.usage": "1500000000\n",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes": "500\n",
        }
    )
    assert found == {
        "resource_cgroup_cpu_limit_cpus": 0.5,
        "resource_cgroup_memory_used_bytes": 500,
        "resource_cgroup_cpu_seconds_total": 1.5,
        "resource_cgroup_cpu_throttled_seconds_total": 2,
    }


def test_without_cgroups_nothing_is_published() -> None:
    assert series({"/proc/self/cgroup": ""}) == {}
