"""Limits and usage of the container or systemd unit of this process: cgroup v2 and v1."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from exporters.resources.host import Host

ROOT = "/sys/fs/cgroup"
NO_LIMIT = 1 << 60  # cgroup v1 writes a number near 2^63 for no limit


def cgroup(host: Host) -> Iterator[Metric]:
    """Yields the limits that are set and the usage that is counted. Yields nothing without cgroups."""
    paths = {}
    for line in host.read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path.rstrip("/")
    if "memory" in paths or "cpu" in paths:
        yield from _version_1(Files(host), paths)
    elif "" in paths:
        yield from _version_2(Files(host), paths[""])


class Files:
    """Reads files of a cgroup. In a container its path may be mounted as the root."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def text(self, *candidates: str) -> str | None:
        """Returns the text of the first file that exists, or None."""
        for path in candidates:
            with suppress(FileNotFoundError, NotADirectoryError):
                return self._host.read(path).strip()
        return None

    def number(self, *candidates: str) -> int | None:
        """Returns the number in the file, or None for a missing file and for `max`."""
        text = self.text(*candidates)
        return None if text is None or text == "max" or int(text) >= NO_LIMIT else int(text)

    def table(self, *candidates: str) -> dict[str, int]:
        """Returns the values of a file with lines `key value`."""
        return {
            key: int(value) for key, value in (line.split() for line in (self.text(*candidates) or "").splitlines())
        }


def _version_2(files: Files, path: str) -> Iterator[Metric]:
    def at(name: str) -> tuple[str, str]:
        return f"{ROOT}{path}/{name}", f"{ROOT}/{name}"

    quota, period = ([*(files.text(*at("cpu.max")) or "max").split(), "100000"])[:2]
    cpu = files.table(*at("cpu.stat"))
    throttled = cpu.get("throttled_usec")
    yield from _gauges(
        cpus=None if quota == "max" else int(quota) / int(period),
        memory=files.number(*at("memory.max")),
        used=files.number(*at("memory.current")),
        inactive=files.table(*at("memory.stat")).get("inactive_file"),
        pids=files.number(*at("pids.current")),
        most_pids=files.number(*at("pids.max")),
    )
    yield from _counters(
        cpu=cpu["usage_usec"] / 1e6 if "usage_usec" in cpu else None,
        throttled=None if throttled is None else throttled / 1e6,
        oom_kills=files.table(*at("memory.events")).get("oom_kill"),
    )


def _version_1(files: Files, paths: dict[str, str]) -> Iterator[Metric]:
    def at(controller: str, name: str) -> tuple[str, str]:
        return f"{ROOT}/{controller}{paths.get(controller, '')}/{name}", f"{ROOT}/{controller}/{name}"

    quota = files.number(*at("cpu", "cpu.cfs_quota_us"))
    period = files.number(*at("cpu", "cpu.cfs_period_us"))
    usage = files.number(*at("cpuacct", "cpuacct.usage"))
    throttled = files.table(*at("cpu", "cpu.stat")).get("throttled_time")
    yield from _gauges(
        cpus=quota / period if quota and quota > 0 and period else None,
        memory=files.number(*at("memory", "memory.limit_in_bytes")),
        used=files.number(*at("memory", "memory.usage_in_bytes")),
        inactive=files.table(*at("memory", "memory.stat")).get("total_inactive_file"),
        pids=files.number(*at("pids", "pids.current")),
        most_pids=files.number(*at("pids", "pids.max")),
    )
    yield from _counters(
        cpu=None if usage is None else usage / 1e9,
        throttled=None if throttled is None else throttled / 1e9,
        oom_kills=files.table(*at("memory", "memory.oom_control")).get("oom_kill"),
    )


def _gauges(
    *,
    cpus: float | None,
    memory: int | None,
    used: int | None,
    inactive: int | None,
    pids: int | None,
    most_pids: int | None,
) -> Iterator[Metric]:
    # The page cache counts as used, but the kernel drops it before it kills a process.
    working = None if used is None or inactive is None else max(0, used - inactive)
    for name, meaning, value in (
        ("resource_cgroup_cpu_limit_cpus", "CPUs that the cgroup may use; absent without a limit.", cpus),
        ("resource_cgroup_memory_limit_bytes", "Memory that the cgroup may use; absent without a limit.", memory),
        ("resource_cgroup_memory_used_bytes", "Memory that the cgroup uses, including its page cache.", used),
        ("resource_cgroup_memory_working_set_bytes", "Memory in use without inactive page cache.", working),
        ("resource_cgroup_processes", "Processes and threads in the cgroup.", pids),
        (
            "resource_cgroup_processes_limit",
            "Processes and threads that the cgroup may have; absent without a limit.",
            most_pids,
        ),
    ):
        if value is not None:
            yield GaugeMetricFamily(name, meaning, value=value)


def _counters(*, cpu: float | None, throttled: float | None, oom_kills: int | None) -> Iterator[Metric]:
    for name, meaning, value in (
        ("resource_cgroup_cpu_seconds", "CPU time that the cgroup has used.", cpu),
        ("resource_cgroup_cpu_throttled_seconds", "Time in which the cgroup was throttled.", throttled),
        ("resource_cgroup_memory_oom_kills", "Processes of the cgroup killed because it was out of memory.", oom_kills),
    ):
        if value is not None:
            yield CounterMetricFamily(name, meaning, value=value)
