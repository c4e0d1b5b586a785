"""Reads the state of this host. Tests replace it with a fake."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

WITHOUT_DEVICE = {"tmpfs", "overlay"}  # memory file systems, and the root of a container


@dataclass(frozen=True)
class Mount:
    """A mounted filesystem. Sizes are bytes; `available` is the free space for ordinary users."""

    device: str
    mountpoint: str
    fstype: str
    readonly: bool
    size: int
    free: int
    available: int
    inodes: int
    inodes_free: int


class Host:
    """The state of this host in seconds and bytes. Counters start at boot."""

    def read(self, path: str) -> str:
        """Returns the text of a kernel file. Raises FileNotFoundError if this kernel lacks it."""
        return Path(path).read_text(encoding="utf-8")

    def cpu_seconds(self) -> list[Mapping[str, float]]:
        """Returns the seconds spent in each mode, for every CPU."""
        return [cpu._asdict() for cpu in psutil.cpu_times(percpu=True)]

    def load(self) -> tuple[float, float, float]:
        """Returns the load averages over 1, 5 and 15 minutes."""
        return psutil.getloadavg()

    def memory(self) -> Mapping[str, float]:
        """Returns bytes of memory: total, available, free, buffers, cached, shared."""
        return dict(psutil.virtual_memory()._asdict())

    def swap(self) -> Mapping[str, float]:
        """Returns bytes of swap: total, free, and sin and sout, which were moved since boot."""
        return dict(psutil.swap_memory()._asdict())

    def mounts(self) -> list[Mount]:
        """Returns filesystems that can fill up, each once. Network filesystems are left out, because they can hang."""
        found: dict[int, Mount] = {}
        on_devices = {part.mountpoint for part in psutil.disk_partitions(all=False)}
        for part in psutil.disk_partitions(all=True):
            if part.mountpoint not in on_devices and part.fstype not in WITHOUT_DEVICE:
                continue
            # In a container single files of the host are mounted, such as /etc/hosts.
            if not Path(part.mountpoint).is_dir():
                continue
            try:
                stat, number = os.statvfs(part.mountpoint), Path(part.mountpoint).stat().st_dev
            except PermissionError:
                continue  # a mount of another user; an I/O error surfaces
            if number in found or not stat.f_blocks:
                continue
            unit = stat.f_frsize
            found[number] = Mount(
                part.device,
                part.mountpoint,
                part.fstype,
                "ro" in part.opts.split(","),
                size=stat.f_blocks * unit,
                free=stat.f_bfree * unit,
                available=stat.f_bavail * unit,
                inodes=stat.f_files,
                inodes_free=stat.f_ffree,
            )
        return list(found.values())

    def disk_counters(self) -> Mapping[str, Mapping[str, float]]:
        """Returns the I/O counters of psutil for every block device that was used. Times are milliseconds."""
        counters = psutil.disk_io_counters(perdisk=True) or {}
        every = {name: dict(disk._asdict()) for name, disk in counters.items()}
        return {name: disk for name, disk in every.items() if disk["read_count"] or disk["write_count"]}

    def network_counters(self) -> Mapping[str, Mapping[str, float]]:
        """Returns the counters of psutil for every interface."""
        return {name: dict(nic._asdict()) for name, nic in psutil.net_io_counters(pernic=True).items()}

    def interfaces_up(self) -> Mapping[str, bool]:
        """Returns whether each interface is up."""
        return {name: stats.isup for name, stats in psutil.net_if_stats().items()}

    def processes(self) -> int:
        """Returns the number of processes."""
        return len(psutil.pids())
