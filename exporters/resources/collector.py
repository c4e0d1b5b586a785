"""Resources of the host as series in base units. One that cannot be read does not hide the others."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import perf_counter

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from exporters.resources.cgroups import cgroup
from exporters.resources.host import Host
from foundation.logging import say

log = logging.getLogger(__name__)

Family = Iterator[Metric]


class Resources(Collector):
    """The selected resources of a host. A file that this kernel lacks is not a failure: it publishes nothing."""

    def __init__(self, selected: Iterable[str], host: Host | None = None) -> None:
        self._host = host or Host()
        self._selected = tuple(selected)

    def describe(self) -> Iterable[Metric]:
        """Returns nothing: otherwise registration would collect."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yields all series. Blocks for some milliseconds: call it in a thread."""
        success = GaugeMetricFamily("resource_scrape_success", "1 if the resource could be read.", labels=["resource"])
        duration = GaugeMetricFamily(
            "resource_scrape_duration_seconds", "Duration of reading the resource.", labels=["resource"]
        )
        for name in self._selected:
            began, ok = perf_counter(), True
            try:
                yield from list(READERS[name](self._host))
            except FileNotFoundError:
                say(log, "resource not supported by this host", level=logging.DEBUG, resource=name)
            except Exception:
                # The failure shows in its own series, and the other resources are still published.
                say(log, "resource could not be read", level=logging.ERROR, error=True, resource=name)
                ok = False
            success.add_metric([name], float(ok))
            duration.add_metric([name], perf_counter() - began)
        yield success
        yield duration


def gauge(name: str, meaning: str, value: float) -> GaugeMetricFamily:
    """Returns a gauge without labels."""
    return GaugeMetricFamily(name, meaning, value=value)


def counter(name: str, meaning: str, value: float) -> CounterMetricFamily:
    """Returns a counter without labels. The name has no `_total`."""
    return CounterMetricFamily(name, meaning, value=value)


def cpu(host: Host) -> Family:
    """Yields seconds per CPU and mode."""
    seconds = CounterMetricFamily(
        "resource_cpu_seconds", "Time that each CPU spent in each mode.", labels=["cpu", "mode"]
    )
    cpus = host.cpu_seconds()
    for index, modes in enumerate(cpus):
        for mode, value in modes.items():
            # The kernel also counts guest time in user and nice, so a sum over modes would count it twice.
            if mode not in ("guest", "guest_nice"):
                seconds.add_metric([str(index), mode], value)
    yield seconds
    yield gauge("resource_cpus", "CPUs of the host.", len(cpus))


def memory(host: Host) -> Family:
    """Yields bytes of memory."""
    found = host.memory()
    yield gauge("resource_memory_size_bytes", "Memory of the host.", found["total"])
    yield gauge("resource_memory_available_bytes", "Memory available without swapping.", found["available"])
    yield gauge("resource_memory_free_bytes", "Unused memory.", found["free"])
    yield gauge("resource_memory_buffers_bytes", "Memory used for buffers.", found["buffers"])
    yield gauge("resource_memory_cached_bytes", "Memory used for the page cache.", found["cached"])


def swap(host: Host) -> Family:
    """Yields bytes of swap, and swap traffic."""
    found = host.swap()
    yield gauge("resource_swap_size_bytes", "Swap of the host.", found["total"])
    yield gauge("resource_swap_free_bytes", "Unused swap.", found["free"])
    yield counter("resource_swap_in_bytes", "Bytes read back from swap.", found["sin"])
    yield counter("resource_swap_out_bytes", "Bytes written out to swap.", found["sout"])


def disk(host: Host) -> Family:
    """Yields space and inodes per mount, and traffic per device."""
    mounts = host.mounts()
    for name, meaning, read in MOUNT_GAUGES:
        family = GaugeMetricFamily(name, meaning, labels=["device", "mountpoint", "fstype"])
        for mount in mounts:
            family.add_metric([mount.device, mount.mountpoint, mount.fstype], read(mount))
        yield family
    yield from counters(host.disk_counters(), "device", DISK_COUNTERS)


def network(host: Host) -> Family:
    """Yields traffic, errors and state per interface."""
    yield from counters(host.network_counters(), "interface", NETWORK_COUNTERS)
    up = GaugeMetricFamily("resource_network_up", "1 if the interface is up.", labels=["interface"])
    for name, is_up in host.interfaces_up().items():
        up.add_metric([name], float(is_up))
    yield up


def load(host: Host) -> Family:
    """Yields load averages."""
    for minutes, value in zip((1, 5, 15), host.load(), strict=True):
        yield gauge(f"resource_load{minutes}", f"Load average over {minutes} minutes.", value)


def pressure(host: Host) -> Family:
    """Yields the pressure stall information of the kernel."""
    waiting = CounterMetricFamily(
        "resource_pressure_waiting_seconds", "Time in which some task waited for the resource.", labels=["resource"]
    )
    stalled = CounterMetricFamily(
        "resource_pressure_stalled_seconds", "Time in which all tasks waited for the resource.", labels=["resource"]
    )
    for name in ("cpu", "io", "memory"):
        for line in host.read(f"/proc/pressure/{name}").splitlines():
            kind, *pairs = line.split()
            total = int(dict(pair.split("=") for pair in pairs)["total"]) / 1e6
            # For a whole system the kernel always reports 0 as the time in which all tasks waited for a CPU.
            if kind == "some":
                waiting.add_metric([name], total)
            elif name != "cpu":
                stalled.add_metric([name], total)
    yield waiting
    yield stalled


def processes(host: Host) -> Family:
    """Yields the number of processes and its limit."""
    yield gauge("resource_processes", "Processes on the host.", host.processes())
    yield gauge(
        "resource_processes_limit",
        "Processes and threads that the kernel allows.",
        number(host, "/proc/sys/kernel/pid_max"),
    )
    counted = dict(line.split()[:2] for line in host.read("/proc/stat").splitlines() if line.startswith("procs_"))
    yield gauge("resource_processes_running", "Runnable tasks.", int(counted["procs_running"]))
    yield gauge("resource_processes_blocked", "Tasks waiting for I/O.", int(counted["procs_blocked"]))


def files(host: Host) -> Family:
    """Yields open file handles and their limit."""
    used, _, limit = host.read("/proc/sys/fs/file-nr").split()
    yield gauge("resource_file_handles", "Open file handles.", int(used))
    yield gauge("resource_file_handles_limit", "File handles that the kernel allows.", int(limit))


def number(host: Host, path: str) -> int:
    """Returns the number in a file."""
    return int(host.read(path))


def counters(
    found: Mapping[str, Mapping[str, float]], label: str, table: tuple[tuple[str, str, str, float], ...]
) -> Family:
    """Yields one counter per row of the table, with one series per device."""
    for name, meaning, field, unit in table:
        family = CounterMetricFamily(name, meaning, labels=[label])
        for thing, values in found.items():
            if field in values:
                family.add_metric([thing], values[field] * unit)
        yield family


MOUNT_GAUGES = (
    ("resource_disk_size_bytes", "Size of the filesystem.", lambda mount: mount.size),
    ("resource_disk_free_bytes", "Free space, including the part reserved for root.", lambda mount: mount.free),
    ("resource_disk_available_bytes", "Free space for ordinary users.", lambda mount: mount.available),
    ("resource_disk_inodes", "Inodes of the filesystem.", lambda mount: mount.inodes),
    ("resource_disk_inodes_free", "Free inodes.", lambda mount: mount.inodes_free),
    ("resource_disk_readonly", "1 if mounted read-only.", lambda mount: float(mount.readonly)),
)
DISK_COUNTERS = (
    ("resource_disk_read_bytes", "Bytes read from the device.", "read_bytes", 1),
    ("resource_disk_written_bytes", "Bytes written to the device.", "write_bytes", 1),
    ("resource_disk_reads", "Reads completed by the device.", "read_count", 1),
    ("resource_disk_writes", "Writes completed by the device.", "write_count", 1),
    ("resource_disk_busy_seconds", "Time in which the device was busy.", "busy_time", 1e-3),
)
NETWORK_COUNTERS = (
    ("resource_network_receive_bytes", "Bytes received.", "bytes_recv", 1),
    ("resource_network_transmit_bytes", "Bytes sent.", "bytes_sent", 1),
    ("resource_network_receive_packets", "Packets received.", "packets_recv", 1),
    ("resource_network_transmit_packets", "Packets sent.", "packets_sent", 1),
    ("resource_network_receive_errors", "Errors when receiving.", "errin", 1),
    ("resource_network_transmit_errors", "Errors when sending.", "errout", 1),
    ("resource_network_receive_drops", "Packets dropped when receiving.", "dropin", 1),
    ("resource_network_transmit_drops", "Packets dropped when sending.", "dropout", 1),
)
READERS: dict[str, Callable[[Host], Family]] = {
    "cpu": cpu,
    "memory": memory,
    "swap": swap,
    "disk": disk,
    "network": network,
    "load": load,
    "pressure": pressure,
    "processes": processes,
    "files": files,
    "cgroup": cgroup,
}
